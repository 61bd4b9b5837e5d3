/*
 * store/seed.c - giving the state of a store to an empty one, and taking it.
 *
 * A crash at any step leaves the taker either empty and seeding or done:
 *
 *   seed_open        LOCAL_SEEDING is written and flushed before anything else
 *   seed_put_part    bytes go to a pack; rows of the guid table wait in memory
 *   seed_sync        the pack is synced, then these rows are written, flushed;
 *                    it comes by itself now and then, and at seed_close
 *   seed_begin_rows  what an attempt before has left of rows is deleted; rows
 *                    of the guid table stay, so no body travels twice
 *   seed_put_row     rows as they come; the applied position is still 0:0, so
 *                    nobody takes them for a state
 *   seed_finish      derived rows are built, counters and digest compared, all
 *                    is flushed; then store_adopt() writes the position, takes
 *                    LOCAL_SEEDING away and begins the log, in one batch
 *
 * A body whose last part does not give its GUID is forgotten: its rows are
 * never written, and its bytes in the pack belong to nobody.
 *
 * Rows are written past the writer thread, which has nothing to do in a store
 * without history that is not a master: it takes no frames while the mark says
 * `seeding`, which is set while it stands still.
 *
 * Two givers may come at a time: a master that was deposed and has not heard of
 * it, or one whose connection broke without a word.  The one that came last is
 * the one that counts (`seed_turn`); from then on the other one's calls change
 * nothing, and `seed_lock` keeps one that is under way apart from it.
 */
#include "store/seed.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "store/body_private.h"
#include "store/damage_private.h"
#include "store/history_private.h"
#include "store/local.h"
#include "store/snap_private.h"
#include "store/store_private.h"

/* Written at once, so that memory does not grow with the state. */
#define BATCH_BYTES ((size_t)1 << 20)
/* Bodies that wait for a sync, and how long; then it comes by itself: so much a
 * crash of this side costs.  On most machines it is the time that decides. */
#define PENDING_BYTES ((uint64_t)256 << 20)
#define PENDING_NS UINT64_C(1000000000)
/* Rows of bodies that are looked at in turn before they are jumped over. */
#define STEPS_MAX 16U
#define ROW_VALUE_MAX ((size_t)1 << 20)

struct seed {
    struct store *store;
    uint64_t turn; /* the store's seed_turn when this one came */
    struct kv *kv;
    struct packs *packs;
    struct kv_batch *rows;    /* of the snapshot */
    struct kv_batch *pending; /* of the guid table; their bytes not synced */
    uint64_t pending_bytes;   /* of these bodies */
    uint64_t synced_ns;       /* when it was last done */

    /* The body whose parts are coming. */
    bool is_coming;
    struct guid guid;
    uint64_t size;
    uint32_t next_part;
    EVP_MD_CTX *sha;
    struct kv_batch *coming; /* rows of its parts so far */
    uint8_t *raw;            /* BODY_PART_BYTES */
};

/* ------------------------------------------------------------------------ */
/* Giving. */

/* GUID and place out of a row of the guid table. */
static enum errcode
read_body_row(struct span key, struct span value, struct guid *ret_guid,
              struct body_loc *ret, struct error *err)
{
    struct rd r = rd_init(span_skip(key, 1));
    struct span guid = rd_span(&r, GUID_BYTES);
    uint64_t part = rd_be(&r, 2);
    enum errcode rc = body_loc_decode(value, ret, err);

    if (rc != ERR_OK)
        return rc;
    if (!rd_done(&r) || part != ret->part)
        return error_set(err, ERR_CORRUPT, "malformed row of a body");
    memcpy(ret_guid->b, guid.p, GUID_BYTES);
    return ERR_OK;
}

/* Bodies that history has, in step with the GUIDs that are asked for. */
struct history_bodies {
    struct store_snap *snap;
    struct kv_iter *it; /* NULL: nothing is kept */
    struct key prefix;
    struct guid at;
    bool is_at, is_over;
};

static enum errcode
history_bodies_open(struct store_snap *snap, struct history_bodies *ret,
                    struct error *err)
{
    bool is_kept = false;
    enum errcode rc = history_is_kept(snap->kv, &is_kept, err);

    *ret = (struct history_bodies){.snap = snap};
    if (rc == ERR_OK && is_kept)
        ret->it = kv_iter_open(snap->kv, snap->view, KV_STATE,
                               key_local(&ret->prefix, LOCAL_HISTORY_BODY),
                               SPAN_EMPTY);
    return rc;
}

/* GUIDs ascend. */
static bool
history_bodies_have(struct history_bodies *h, const struct guid *guid)
{
    struct key k;
    struct span key, value;

    for (unsigned i = 0; !h->is_over; i++) {
        if (h->is_at && memcmp(h->at.b, guid->b, GUID_BYTES) >= 0)
            return guid_eq(&h->at, guid);
        if (i == STEPS_MAX)
            kv_iter_seek(h->it, key_local_history_of(&k, guid));
        h->is_at = kv_iter_next(h->it, &key, &value) && key.n > 2 + GUID_BYTES;
        h->is_over = !h->is_at;
        if (h->is_at)
            memcpy(h->at.b, key.p + 2, GUID_BYTES);
    }
    return false;
}

/* Is GUID here for nothing but history?  That is nobody else's. */
static enum errcode
is_history_alone(struct history_bodies *h, const struct guid *guid, bool *ret,
                 struct error *err)
{
    struct store_snap *snap = h->snap;
    AUTO(buf_free) struct buf parts = BUF_INIT;
    struct key k;
    struct span key, value;

    *ret = false;
    if (h->it == NULL || !history_bodies_have(h, guid))
        return ERR_OK;
    (void)key_guidref(&k, guid, 0, 0);
    k.n = 1 + GUID_BYTES;
    struct kv_iter *refs =
        kv_iter_open(snap->kv, snap->view, KV_STATE, key_span(&k), SPAN_EMPTY);
    const bool has_ref = kv_iter_next(refs, &key, &value);
    enum errcode rc = kv_iter_close(&refs, err);
    if (rc != ERR_OK || has_ref)
        return rc;
    rc = kv_get(snap->kv, snap->view, KV_STATE, key_local_parts(&k, guid),
                &parts, err);
    *ret = rc == ERR_NOTFOUND;
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

enum errcode
seed_each_guid(struct store_snap *snap, const struct guid *after,
               bool (*call)(void *ctx, const struct guid *guid, uint64_t size),
               void *ctx, struct error *err)
{
    struct key table;
    struct key from = {0};
    struct guid guid = {{0}};
    struct guid last = {{0}};
    struct body_loc loc;
    struct span key;
    struct span value;
    struct history_bodies history;
    uint32_t parts = 0; /* of `last`, so far */
    bool skip = false;
    enum errcode rc = history_bodies_open(snap, &history, err);

    if (rc != ERR_OK)
        return rc;
    if (after != NULL)
        (void)key_body(&from, after, UINT16_MAX);
    struct kv_iter *it =
        kv_iter_open(snap->kv, snap->view, KV_STATE,
                     key_table(&table, TAB_BODY), key_span(&from));
    /* Only a body with all its parts is one. */
    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        rc = read_body_row(key, value, &guid, &loc, err);
        if (rc != ERR_OK)
            break;
        parts = parts > 0 && guid_eq(&guid, &last) ? parts + 1 : 1;
        last = guid;
        if (parts != loc.parts)
            continue;
        rc = is_history_alone(&history, &guid, &skip, err);
        if (rc == ERR_OK && !skip && !call(ctx, &guid, loc.size))
            break;
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    closed = history.it == NULL
                 ? ERR_OK
                 : kv_iter_close(&history.it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? closed : rc;
}

enum errcode
seed_read_part(struct store *store, struct store_snap *snap,
               const struct guid *guid, uint32_t part, struct body_loc *ret_loc,
               struct buf *ret, struct error *err)
{
    return bodies_read_stored(store_bodies(store), store_log(store), snap->view,
                              guid, part, ret_loc, ret, err);
}

enum errcode
seed_check_rows(struct kv *kv, uint64_t *ret_digest, struct error *err)
{
    return store_build_derived(kv, ret_digest, err);
}

bool
seed_unpack_part(const struct body_loc *loc, struct span stored, uint8_t *to)
{
    return body_unpack(loc, stored, to);
}

/* ------------------------------------------------------------------------ */
/* Taking bodies. */

static void
forget_coming(struct seed *s)
{
    kv_batch_clear(s->coming);
    EVP_MD_CTX_free(s->sha);
    s->sha = NULL;
    s->is_coming = false;
}

/* Write B and clear it. */
static enum errcode
write_out(struct seed *s, struct kv_batch *b, struct error *err)
{
    enum errcode rc = kv_write(s->kv, b, err);

    kv_batch_clear(b);
    return rc;
}

static enum errcode
check_turn(const struct seed *s, struct error *err)
{
    if (atomic_load(&s->store->seed_turn) == s->turn)
        return ERR_OK;
    return error_set(err, ERR_CONFLICT,
                     "seeding: another seed has begun since, or is done");
}

/* Does S still count?  Then with the lock, until leave().  One that does not
 * never waits for the one that does. */
static enum errcode
enter(struct seed *s, struct error *err)
{
    enum errcode rc = check_turn(s, err);

    if (rc != ERR_OK)
        return rc;
    pthread_mutex_lock(&s->store->seed_lock);
    rc = check_turn(s, err);
    if (rc != ERR_OK)
        pthread_mutex_unlock(&s->store->seed_lock);
    return rc;
}

static void
leave(struct seed *s)
{
    pthread_mutex_unlock(&s->store->seed_lock);
}

/* LOCAL_SEEDING, durable; the log begins only when the seed is done. */
static enum errcode
open_locked(struct seed *s, struct error *err)
{
    struct key k;

    if (!store_begin_seeding(s->store))
        return error_set(err, ERR_CONFLICT,
                         "there is history here already: not seeded over");
    /* What an attempt before has lost (a full disk) is asked for again. */
    struct error lost;
    (void)!packs_sync(s->packs, &lost);
    kv_batch_put(s->rows, KV_STATE, key_local(&k, LOCAL_SEEDING), SPAN_EMPTY);
    enum errcode rc = write_out(s, s->rows, err);
    return rc == ERR_OK ? kv_flush(s->kv, err) : rc;
}

enum errcode
seed_open(struct store *store, struct seed **ret, struct error *err)
{
    if (!store_is_empty(store))
        return error_set(err, ERR_CONFLICT,
                         "there is history here already: not seeded over");
    struct seed *s = xcalloc(1, sizeof(*s));
    s->store = store;
    s->kv = store_kv(store);
    s->packs = bodies_packs(store_bodies(store));
    s->rows = kv_batch_new();
    s->pending = kv_batch_new();
    s->coming = kv_batch_new();
    s->raw = xmalloc(BODY_PART_BYTES);

    s->turn = atomic_fetch_add(&store->seed_turn, 1) + 1;
    enum errcode rc = enter(s, err);
    if (rc == ERR_OK) {
        rc = open_locked(s, err);
        leave(s);
    }
    if (rc != ERR_OK) {
        seed_close(&s);
        return error_prefix(err, "seeding");
    }
    s->synced_ns = env_mono_ns(store_env(store));
    *ret = s;
    return ERR_OK;
}

void
seed_close(struct seed **ps)
{
    struct seed *s = *ps;

    *ps = NULL;
    if (s == NULL)
        return;
    /* The link broke, most likely: what came need not come again.  A failure
     * here only means that it does. */
    if (s->pending_bytes > 0)
        (void)!seed_sync(s, NULL);
    forget_coming(s);
    kv_batch_free(&s->rows);
    kv_batch_free(&s->pending);
    kv_batch_free(&s->coming);
    free(s->raw);
    free(s);
}

bool
seed_has(struct seed *s, const struct guid *guid)
{
    struct key k;
    struct span value;
    uint64_t size;

    /* All parts of a body become pending at once. */
    if (kv_batch_get(s->pending, KV_STATE, key_body(&k, guid, 0), &value) == 1)
        return true;
    return bodies_stat(store_bodies(s->store), NULL, guid, &size, NULL) ==
           ERR_OK;
}

/* Bytes that are durable get their rows.  A body whose first parts are in a
 * synced pack needs no more than that: its rows come with a later sync. */
static enum errcode
settle_locked(struct seed *s, struct error *err)
{
    enum errcode rc = packs_sync(s->packs, err);

    s->pending_bytes = 0;
    s->synced_ns = env_mono_ns(store_env(s->store));
    if (rc != ERR_OK) {
        kv_batch_clear(s->pending);
        forget_coming(s);
        return error_prefix(err, "seeding");
    }
    rc = write_out(s, s->pending, err);
    return rc == ERR_OK ? rc : error_prefix(err, "seeding");
}

static enum errcode
sync_locked(struct seed *s, struct error *err)
{
    enum errcode rc = settle_locked(s, err);

    if (rc != ERR_OK)
        return rc;
    rc = kv_flush(s->kv, err);
    return rc == ERR_OK ? rc : error_prefix(err, "seeding");
}

/* The part is the one that has to come; the first one begins a body. */
static enum errcode
begin_part(struct seed *s, const struct guid *guid, const struct body_loc *loc,
           struct error *err)
{
    if (loc->part == 0) {
        forget_coming(s);
        s->is_coming = true;
        s->guid = *guid;
        s->size = loc->size;
        s->next_part = 0;
        s->sha = EVP_MD_CTX_new();
        ENSURE(s->sha != NULL &&
               EVP_DigestInit_ex2(s->sha, EVP_sha1(), NULL) == 1);
    }
    if (!s->is_coming || !guid_eq(&s->guid, guid) || s->size != loc->size ||
        s->next_part != loc->part)
        return error_set(err, ERR_PROTO,
                         "part %" PRIu32 " is not the one that follows",
                         loc->part);
    return ERR_OK;
}

static enum errcode
take_part(struct seed *s, const struct guid *guid, struct body_loc *loc,
          struct span stored, struct error *err)
{
    struct buf value = BUF_INIT;
    struct key k;
    enum errcode rc = begin_part(s, guid, loc, err);

    if (rc != ERR_OK)
        return rc;
    if (!body_unpack(loc, stored, s->raw))
        return error_set(err, ERR_CORRUPT, "its bytes are damaged");
    ENSURE(EVP_DigestUpdate(s->sha, s->raw, loc->raw_bytes) == 1);
    rc = packs_append(s->packs, guid, loc, stored, err);
    if (rc != ERR_OK) {
        kv_batch_clear(s->pending); /* they went the same way */
        s->pending_bytes = 0;
        return rc;
    }
    body_loc_encode(loc, &value);
    kv_batch_put(s->coming, KV_STATE, key_body(&k, guid, loc->part),
                 buf_span(&value));
    buf_free(&value);
    s->next_part++;
    return ERR_OK;
}

/* The rows of the body, which is whole, wait for a sync. */
static enum errcode
end_body(struct seed *s, uint32_t parts, struct error *err)
{
    struct guid got;
    struct key k;
    struct span value;

    ENSURE(EVP_DigestFinal_ex(s->sha, got.b, NULL) == 1);
    if (!guid_eq(&got, &s->guid))
        return error_set(err, ERR_CORRUPT, "its bytes are of another GUID");
    for (uint32_t i = 0; i < parts; i++) {
        struct span key = key_body(&k, &s->guid, i);
        struct body_loc loc;
        ENSURE(kv_batch_get(s->coming, KV_STATE, key, &value) == 1);
        kv_batch_put(s->pending, KV_STATE, key, value);
        enum errcode rc = body_loc_decode(value, &loc, err);
        if (rc == ERR_OK)
            rc = pack_account_move(s->kv, s->pending, &loc, false, err);
        if (rc != ERR_OK)
            return rc;
    }
    forget_coming(s);
    s->pending_bytes += s->size;
    if (s->pending_bytes > PENDING_BYTES ||
        env_mono_ns(store_env(s->store)) - s->synced_ns > PENDING_NS)
        return sync_locked(s, err);
    return ERR_OK;
}

enum errcode
seed_put_part(struct seed *s, const struct guid *guid,
              const struct body_loc *loc, struct span stored, struct error *err)
{
    struct body_loc own = *loc;
    char text[GUID_TEXT_BYTES];
    enum errcode rc = enter(s, err);

    if (rc != ERR_OK)
        return rc;
    if (!body_loc_fits(loc) || stored.n != loc->stored_bytes)
        rc = error_set(err, ERR_CORRUPT, "its sizes do not fit");
    if (rc == ERR_OK)
        rc = take_part(s, guid, &own, stored, err);
    if (rc == ERR_OK && own.part + 1 == own.parts)
        rc = end_body(s, own.parts, err);
    leave(s);
    if (rc == ERR_OK)
        return ERR_OK;
    forget_coming(s);
    return error_prefix(err, "seeding body %s", guid_text(guid, text));
}

enum errcode
seed_sync(struct seed *s, struct error *err)
{
    enum errcode rc = enter(s, err);

    if (rc != ERR_OK)
        return rc;
    rc = sync_locked(s, err);
    leave(s);
    return rc;
}

/* ------------------------------------------------------------------------ */
/* Taking rows. */

static enum errcode
delete_all(struct seed *s, enum kv_family f, bool (*is_kept)(uint8_t table),
           struct error *err)
{
    struct kv_iter *it = kv_iter_open(s->kv, NULL, f, SPAN_EMPTY, SPAN_EMPTY);
    struct span key;
    struct span value;
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        if (is_kept != NULL && key.n > 0 && is_kept(key.p[0]))
            continue;
        kv_batch_delete(s->rows, f, key);
        if (kv_batch_bytes(s->rows) > BATCH_BYTES)
            rc = write_out(s, s->rows, err);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    return rc == ERR_OK ? write_out(s, s->rows, err) : rc;
}

static bool
is_local_table(uint8_t table)
{
    return table == TAB_BODY || table == TAB_LOCAL;
}

enum errcode
seed_begin_rows(struct seed *s, struct error *err)
{
    enum errcode rc = enter(s, err);

    if (rc != ERR_OK)
        return rc;
    kv_batch_clear(s->rows);
    if (s->store->cfg.keep_history_s > 0)
        rc = history_seed_begins(s->kv, err);
    if (rc == ERR_OK)
        rc = delete_all(s, KV_STATE, is_local_table, err);
    if (rc == ERR_OK)
        rc = delete_all(s, KV_CACHE, NULL, err);
    leave(s);
    return rc == ERR_OK ? rc : error_prefix(err, "seeding");
}

enum errcode
seed_put_row(struct seed *s, struct span key, struct span value,
             struct error *err)
{
    if (key.n == 0 || !table_is_replicated(key.p[0]))
        return error_set(err, ERR_CORRUPT,
                         "seeding: a row of no replicated table");
    if (key.n > KEY_MAX || value.n > ROW_VALUE_MAX)
        return error_set(err, ERR_LIMIT,
                         "seeding: row with %zu bytes of key, %zu of value",
                         key.n, value.n);
    kv_batch_put(s->rows, KV_STATE, key, value);
    if (kv_batch_bytes(s->rows) < BATCH_BYTES)
        return check_turn(s, err);
    enum errcode rc = enter(s, err);
    if (rc != ERR_OK)
        return rc;
    rc = write_out(s, s->rows, err);
    leave(s);
    return rc == ERR_OK ? rc : error_prefix(err, "seeding");
}

/* Rows of the body table, in step with the GUIDs that are asked for. */
struct body_rows {
    struct kv_iter *it;
    struct span key, value;
    bool is_at; /* key and value are of a row that was not used yet */
    bool is_over;
};

static bool
body_rows_next(struct body_rows *r)
{
    r->is_at = !r->is_over && kv_iter_next(r->it, &r->key, &r->value);
    r->is_over = !r->is_at;
    return r->is_at;
}

/* Go to the first row at or behind GUID, which is larger than the one before;
 * false: there is none. */
static bool
body_rows_reach(struct body_rows *r, const struct guid *guid)
{
    struct key k;
    const struct span from = key_body(&k, guid, 0);

    for (unsigned i = 0; i < STEPS_MAX; i++) {
        if (!r->is_at && !body_rows_next(r))
            return false;
        if (span_cmp(r->key, from) >= 0)
            return true;
        r->is_at = false;
    }
    kv_iter_seek(r->it, from);
    return body_rows_next(r);
}

/* Is the body of GUID here whole? */
static enum errcode
body_rows_has(struct body_rows *r, const struct guid *guid, bool *ret,
              struct error *err)
{
    struct body_loc loc = {0};
    uint32_t parts = 0;

    *ret = false;
    for (bool is = body_rows_reach(r, guid); is; is = body_rows_next(r)) {
        struct guid of;
        enum errcode rc = read_body_row(r->key, r->value, &of, &loc, err);
        if (rc != ERR_OK || !guid_eq(&of, guid))
            return rc;
        if (++parts == loc.parts) {
            r->is_at = false;
            *ret = true;
            return ERR_OK;
        }
    }
    return ERR_OK;
}

/*
 * Call for every body that a message has and that is not here whole.  Both
 * tables are sorted by GUID, so this is one walk over each.  Tombstones count:
 * a rejoining twin may ask for them.
 */
static enum errcode
each_missing(struct kv *kv, const struct kv_snap *view,
             enum errcode (*call)(void *ctx, const struct guid *guid,
                                  struct error *err),
             void *ctx, struct error *err)
{
    struct key k;
    struct span key;
    struct span value;
    struct guid guid;
    struct guid before = {{0}};
    struct body_rows bodies = {0};
    bool is_first = true;
    enum errcode rc = ERR_OK;
    struct kv_iter *refs = kv_iter_open(kv, view, KV_STATE,
                                        key_table(&k, TAB_GUIDREF), SPAN_EMPTY);

    bodies.it =
        kv_iter_open(kv, view, KV_STATE, key_table(&k, TAB_BODY), SPAN_EMPTY);
    while (rc == ERR_OK && kv_iter_next(refs, &key, &value)) {
        bool is_whole = false;
        if (key.n < 1 + GUID_BYTES) {
            rc = error_set(err, ERR_CORRUPT, "malformed row of a message");
            break;
        }
        memcpy(guid.b, key.p + 1, GUID_BYTES);
        if (!is_first && guid_eq(&guid, &before))
            continue;
        is_first = false;
        before = guid;
        rc = body_rows_has(&bodies, &guid, &is_whole, err);
        if (rc == ERR_OK && !is_whole)
            rc = call(ctx, &guid, err);
    }
    enum errcode closed = kv_iter_close(&refs, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    closed = kv_iter_close(&bodies.it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? closed : rc;
}

/* One that the giver did not announce as lost is the giver's mistake. */
static enum errcode
check_missing(void *ctx, const struct guid *guid, struct error *err)
{
    struct seed *s = ctx;
    char text[GUID_TEXT_BYTES];

    if (store_damage_has(s->store, guid))
        return ERR_OK;
    return error_set(err, ERR_CORRUPT, "body %s did not come",
                     guid_text(guid, text));
}

enum errcode
seed_each_missing(struct store_snap *snap,
                  enum errcode (*call)(void *ctx, const struct guid *guid,
                                       struct error *err),
                  void *ctx, struct error *err)
{
    return each_missing(snap->kv, snap->view, call, ctx, err);
}

static enum errcode
finish(struct seed *s, const struct store_pos *pos, struct error *err)
{
    uint64_t root = 0;
    enum errcode rc = write_out(s, s->rows, err);

    if (rc == ERR_OK)
        rc = settle_locked(s, err);
    if (rc == ERR_OK)
        rc = store_build_derived(s->kv, &root, err);
    if (rc == ERR_OK && root != pos->digest)
        rc = error_set(err, ERR_CORRUPT,
                       "digest is %016" PRIx64 ", not %016" PRIx64
                       " as at %" PRI_EPOCH ":%" PRI_LSN,
                       root, pos->digest, pos->applied.epoch, pos->applied.lsn);
    if (rc == ERR_OK)
        rc = each_missing(s->kv, NULL, check_missing, s, err);
    if (rc == ERR_OK)
        rc = history_seed_ends(s->kv, pos, s->store->cfg.keep_history_s > 0,
                               err);
    if (rc == ERR_OK)
        rc = kv_flush(s->kv, err);
    if (rc == ERR_OK)
        rc = store_adopt(s->store, pos, err);
    return rc;
}

enum errcode
seed_finish(struct seed *s, const struct store_pos *pos, struct error *err)
{
    enum errcode rc = enter(s, err);

    if (rc != ERR_OK)
        return rc;
    if (pos->applied.lsn == LSN_NONE || pos->applied.epoch == 0)
        rc = error_set(err, ERR_CORRUPT, "a snapshot without history");
    if (rc == ERR_OK && !store_is_empty(s->store))
        rc = error_set(err, ERR_CONFLICT, "there is history here already");
    if (rc == ERR_OK)
        rc = finish(s, pos, err);
    if (rc == ERR_OK) {
        store_end_seeding(s->store);
        atomic_fetch_add(&s->store->seed_turn, 1); /* nor does this one count */
    }
    leave(s);
    return rc == ERR_OK ? rc : error_prefix(err, "seeding");
}
