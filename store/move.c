/*
 * store/move.c - bodies from one place to another.
 *
 * A slice at a time: read (and checked), appended to packs, the packs synced,
 * then the rows of a few dozen parts at a time are switched while the writer
 * stands still.  A row that says something else by now is left alone: its body
 * came anew, or was garbage.  A crash before the switch leaves bytes in a pack
 * that nothing names; after it, and before a flush, the same: what a part is
 * moved away from goes only when the rows that were switched are on disk.
 */
#include "store/compact_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "store/damage.h"
#include "store/snap_private.h"

/* Messages of one body that are looked at for where it belongs. */
#define REFS_MAX 64U

/* ------------------------------------------------------------------- items */

void
items_add(struct items *list, const struct item *item)
{
    if (list->n == list->cap) {
        list->cap = list->cap * 2 + 256;
        list->v = xrealloc(list->v, list->cap * sizeof(*list->v));
    }
    list->v[list->n++] = *item;
}

void
items_free(struct items *list)
{
    free(list->v);
    *list = (struct items){0};
}

#define COMPARE(a, b)                                                          \
    if ((a) != (b))                                                            \
    return (a) < (b) ? -1 : 1

static int
compare_items(const void *pa, const void *pb)
{
    const struct item *a = pa;
    const struct item *b = pb;

    COMPARE(a->to_dir, b->to_dir);
    COMPARE(a->owner, b->owner);
    COMPARE(a->mbid, b->mbid);
    COMPARE(a->uid, b->uid);
    int guid = memcmp(a->guid.b, b->guid.b, GUID_BYTES);
    if (guid != 0)
        return guid;
    COMPARE(a->from.part, b->from.part);
    return 0;
}

void
items_sort(struct items *list)
{
    size_t kept = 0;

    if (list->n > 1)
        qsort(list->v, list->n, sizeof(*list->v), compare_items);
    for (size_t i = 0; i < list->n; i++) {
        /* Two messages with one body, which goes once. */
        if (kept > 0 && guid_eq(&list->v[kept - 1].guid, &list->v[i].guid) &&
            list->v[kept - 1].from.part == list->v[i].from.part)
            continue;
        list->v[kept++] = list->v[i];
    }
    list->n = kept;
}

size_t
items_slice(const struct item *v, size_t n)
{
    uint64_t bytes = 0;
    size_t i = 0;

    while (i < n && i < SLICE_PARTS && (i == 0 || bytes < SLICE_BYTES))
        bytes += v[i++].from.stored_bytes;
    return i;
}

/* --------------------------------------------------------------- switching */

struct switching {
    const struct item *v;
    const struct body_loc *to; /* home 0: it stays */
    size_t n;
    uint64_t parts, bytes;
};

/* While the writer stands still. */
static enum errcode
switch_rows(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    struct switching *s = ctx;
    enum errcode rc = ERR_OK;

    s->parts = s->bytes = 0;
    for (size_t i = 0; i < s->n && rc == ERR_OK; i++) {
        const struct item *item = &s->v[i];
        struct body_loc now;
        if (s->to[i].home != BODY_IN_PACK)
            continue;
        rc = local_get_body(st, &item->guid, item->from.part, &now, err);
        if (rc == ERR_NOTFOUND ||
            (rc == ERR_OK && !body_loc_same(&now, &item->from))) {
            rc = ERR_OK;
            continue;
        }
        if (rc == ERR_OK)
            rc = local_put_body(st, b, &item->guid, &s->to[i], err);
        s->parts++;
        s->bytes += item->from.stored_bytes;
    }
    return rc;
}

static enum errcode
switch_all(struct store *store, const struct item *v, const struct body_loc *to,
           size_t n, struct moved *ret, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t at = 0; at < n && rc == ERR_OK; at += LOCAL_ROWS) {
        struct switching s = {
            .v = v + at, .to = to + at, .n = MIN(n - at, LOCAL_ROWS)};
        rc = store_local(store, switch_rows, &s, err);
        if (rc == ERR_OK) {
            ret->parts += s.parts;
            ret->bytes += s.bytes;
        }
    }
    return rc;
}

/* ------------------------------------------------------------------ moving */

static void
note_damage(struct store *store, const struct item *item,
            const struct error *why)
{
    struct damage d = {.kind = DAMAGE_BODY,
                       .guid = item->guid,
                       .part = item->from.part,
                       .home = (uint8_t)item->from.home,
                       .file = item->from.file,
                       .offset = item->from.offset};

    (void)snprintf(d.why, sizeof(d.why), "%.*s", (int)sizeof(d.why) - 1,
                   why->text);
    store_damage_note(store, &d);
}

/*
 * What came in a rush is compressed now.  Once: what is raw in a pack is so
 * because nothing was to be won.
 */
static void
compress_late(struct body_loc *loc, struct buf *stored)
{
    if (loc->home != BODY_IN_LOG || loc->encoding != BODY_RAW)
        return;
    AUTO(xfree) uint8_t *to = xmalloc(stored->n + 1);
    const size_t n = body_compress_part(buf_span(stored), to);
    if (n == 0)
        return;
    buf_clear(stored);
    buf_add(stored, span_of(to, n));
    loc->encoding = BODY_ZSTD;
    loc->stored_bytes = (uint32_t)n;
    loc->hash = XXH3_64bits(to, n);
}

/* Copy a part; TO stays empty where there is nothing (more) to copy. */
static enum errcode
copy_part(struct store *store, const struct item *item, struct buf *stored,
          struct body_loc *to, struct moved *ret, struct error *err)
{
    struct bodies *bodies = store->bodies;
    struct packs *packs = places_packs(bodies_places(bodies), item->to_dir);
    struct error own = {0};

    buf_clear(stored);
    enum errcode rc =
        bodies_read_place(bodies, store->log, &item->from, stored, &own);
    if (rc == ERR_GAP)
        return ERR_OK; /* it has moved or gone meanwhile */
    if (rc == ERR_CORRUPT || rc == ERR_IO) {
        note_damage(store, item, &own);
        ret->damaged++;
        return ERR_OK;
    }
    if (rc != ERR_OK) {
        if (err != NULL)
            *err = own;
        return rc;
    }
    struct body_loc loc = item->from;
    compress_late(&loc, stored);
    rc = packs_append(packs, &item->guid, &loc, buf_span(stored), err);
    if (rc == ERR_OK)
        *to = loc;
    return rc;
}

enum errcode
items_move(struct store *store, const struct item *v, size_t n,
           struct moved *ret, struct error *err)
{
    AUTO(buf_free) struct buf stored = BUF_INIT;
    struct places *places = bodies_places(store->bodies);
    struct body_loc *to = xcalloc(n + 1, sizeof(*to));
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < n && rc == ERR_OK; i++)
        rc = copy_part(store, &v[i], &stored, &to[i], ret, err);
    /* Also after a failure: a loss wants to be told before all goes on. */
    enum errcode synced = places_sync(places, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = synced;
    for (size_t i = 0; i < n && rc == ERR_OK; i++)
        if (to[i].home == BODY_IN_PACK &&
            !packs_holds(places_packs(places, to[i].dir), &to[i]))
            rc = error_set(err, ERR_IO, "a pack could not be written");
    if (rc == ERR_OK)
        rc = switch_all(store, v, to, n, ret, err);
    free(to);
    return rc == ERR_OK ? rc : error_prefix(err, "moving bodies");
}

enum errcode
body_is_at(struct store *store, const struct guid *guid,
           const struct body_loc *loc, bool *ret, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct body_loc now;
    struct key k;
    enum errcode rc = kv_get(store->kv, NULL, KV_STATE,
                             key_body(&k, guid, loc->part), &value, err);

    if (rc == ERR_NOTFOUND) {
        *ret = false;
        return ERR_OK;
    }
    if (rc == ERR_OK)
        rc = body_loc_decode(buf_span(&value), &now, err);
    if (rc == ERR_OK)
        *ret = body_loc_same(&now, loc);
    return rc;
}

/* ----------------------------------------------------------------- placing */

#define MAILBOX_BUCKETS 256U

struct where {
    mbid_t id;
    uint32_t dir, archive; /* 0: none */
    uint64_t owner;
    struct where *next;
};

struct placer {
    struct store *store;
    struct store_snap *snap;
    struct archive_rule rule;
    int64_t now_s;
    struct arena arena; /* of the buckets */
    struct arena row;
    struct where *v[MAILBOX_BUCKETS];
};

struct placer *
placer_new(struct store *store, const struct archive_rule *rule, int64_t now_s)
{
    struct placer *p = xcalloc(1, sizeof(*p));

    p->store = store;
    p->snap = store_snapshot(store);
    p->rule = *rule;
    p->now_s = now_s;
    return p;
}

void
placer_free(struct placer **pp)
{
    struct placer *p = *pp;

    *pp = NULL;
    if (p == NULL)
        return;
    store_release(&p->snap);
    arena_free(&p->arena);
    arena_free(&p->row);
    free(p);
}

/* *RET NULL: the mailbox is gone. */
static enum errcode
find_mailbox(struct placer *p, mbid_t id, const struct where **ret,
             struct error *err)
{
    struct where **bucket = &p->v[id % MAILBOX_BUCKETS];
    struct places *places = bodies_places(p->store->bodies);
    struct mailbox mb;

    for (struct where *w = *bucket; w != NULL; w = w->next)
        if (w->id == id) {
            *ret = w;
            return ERR_OK;
        }
    enum errcode rc = snap_mailbox(p->snap, id, &p->row, &mb, err);
    if (rc == ERR_NOTFOUND) {
        *ret = NULL;
        return ERR_OK;
    }
    if (rc != ERR_OK)
        return rc;
    const char *owner = row_owner_of_name(mb.name, &p->row);
    struct where *w = arena_alloc(&p->arena, sizeof(*w));
    *w = (struct where){
        .id = id,
        .dir = places_dir(places, mb.partition, PLACE_SPOOL),
        .archive = places_dir(places, mb.partition, PLACE_ARCHIVE),
        .owner = XXH3_64bits(owner, strlen(owner)),
        .next = *bucket,
    };
    *bucket = w;
    *ret = w;
    return ERR_OK;
}

/* Does the rule want this message in an archive? */
static enum errcode
wants_archive(struct placer *p, mbid_t id, uint32_t uid, uint64_t size,
              bool *ret, struct error *err)
{
    const struct archive_rule *r = &p->rule;
    const bool large = r->larger_bytes > 0 && size > r->larger_bytes;
    struct message m;

    *ret = false;
    if (!large && r->older_s == 0)
        return ERR_OK;
    enum errcode rc = snap_message(p->snap, id, uid, &p->row, &m, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    const bool old =
        r->older_s > 0 && m.internal_s < p->now_s - (int64_t)r->older_s;
    *ret =
        (large || old) && !(r->keep_flagged && (m.flags & FLAG_FLAGGED) != 0);
    return ERR_OK;
}

/* A message that has the body; the first one that keeps it out of the archive
 * decides, else the first of all. */
static enum errcode
consider(struct placer *p, mbid_t id, uint32_t uid, struct item *item,
         bool *ret_decided, struct error *err)
{
    const struct where *w;
    bool archived = false;

    arena_reset(&p->row);
    enum errcode rc = find_mailbox(p, id, &w, err);
    if (rc == ERR_OK && w == NULL)
        return ERR_OK;
    if (rc == ERR_OK && w->archive != 0)
        rc = wants_archive(p, id, uid, item->from.size, &archived, err);
    if (rc != ERR_OK || (archived && item->mbid != 0))
        return rc;
    item->to_dir = archived ? w->archive : w->dir;
    item->owner = w->owner;
    item->mbid = id;
    item->uid = uid;
    *ret_decided = !archived;
    return ERR_OK;
}

/* No message has it: does one that was purged and is kept? */
static enum errcode
place_history(struct placer *p, struct item *item, struct error *err)
{
    struct places *places = bodies_places(p->store->bodies);
    struct history h;
    bool is_found = false;

    arena_reset(&p->row);
    enum errcode rc = history_first_of(p->snap->kv, p->snap->view, &item->guid,
                                       &p->row, &h, &is_found, err);
    if (rc != ERR_OK || !is_found)
        return rc;
    const char *owner = row_owner_of_name(h.name, &p->row);
    item->to_dir = places_dir(places, h.partition, PLACE_SPOOL);
    item->owner = XXH3_64bits(owner, strlen(owner));
    item->mbid = h.at.mbid;
    item->uid = h.at.uid;
    return ERR_OK;
}

enum errcode
placer_place(struct placer *p, struct item *item, struct error *err)
{
    struct key k;
    struct span key;
    struct span value;
    bool decided = false;
    enum errcode rc = ERR_OK;

    /* Without a message: parts that came ahead, garbage, or history. */
    item->to_dir = places_default(bodies_places(p->store->bodies));
    item->owner = 0;
    item->mbid = 0;
    item->uid = 0;
    (void)key_guidref(&k, &item->guid, 0, 0);
    k.n = 1 + GUID_BYTES;
    struct kv_iter *it = kv_iter_open(p->snap->kv, p->snap->view, KV_STATE,
                                      key_span(&k), SPAN_EMPTY);
    for (unsigned i = 0; rc == ERR_OK && !decided && i < REFS_MAX &&
                         kv_iter_next(it, &key, &value);
         i++) {
        struct rd r = rd_init(span_skip(key, 1 + GUID_BYTES));
        const mbid_t id = rd_u64be(&r);
        const uint32_t uid = rd_u32be(&r);
        if (!rd_done(&r))
            rc = error_set(err, ERR_CORRUPT, "malformed row of a message");
        else
            rc = consider(p, id, uid, item, &decided, err);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    return rc == ERR_OK && item->mbid == 0 ? place_history(p, item, err) : rc;
}
