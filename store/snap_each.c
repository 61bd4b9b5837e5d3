/*
 * store/snap_each.c - walks over mailboxes: by name, and over what a user may
 * see.
 *
 * The indexes give ids, and the heads lie by id.  To look up one is five times
 * as dear as a step of an iterator, and mailboxes that belong together were
 * mostly made together: so the heads of some ids at a time are read in the
 * order of their keys, each run of neighbours by one iterator, and then told
 * in the order of the index.  The first portions are small, for many a caller
 * stops at the first mailbox.
 *
 * An index that leads to no head is damage (ERR_CORRUPT), not a mailbox that is
 * not there: nobody asked for it by name.
 */
#include "store/store_private.h"

#include <stdlib.h>

#include "store/names.h"
#include "store/snap_private.h"

#define PORTION_MIN 4U
#define PORTION_MAX 256U
/* Neighbours are at most so many ids apart, and a run is so many of them. */
#define RUN_GAP 4U
#define RUN_MIN 8U

/* The mailboxes of one portion. */
struct heads {
    struct store_snap *snap;
    struct arena arena;
    struct mailbox mb[PORTION_MAX]; /* only the id, before heads_read() */
    size_t n;
    size_t wanted; /* of this portion */
    bool (*call)(void *ctx, const struct mailbox *mb);
    void *ctx;
    bool more;
};

static struct heads *
heads_new(struct store_snap *snap,
          bool (*call)(void *ctx, const struct mailbox *mb), void *ctx)
{
    struct heads *h = xmalloc(sizeof(*h));

    h->snap = snap;
    h->arena = ARENA_INIT;
    h->n = 0;
    h->wanted = PORTION_MIN;
    h->call = call;
    h->ctx = ctx;
    h->more = true;
    return h;
}

static void
heads_free(struct heads **h)
{
    if (*h == NULL)
        return;
    arena_free(&(*h)->arena);
    xfree(h);
}

static int
by_id(const void *a, const void *b)
{
    const struct mailbox *const *x = a, *const *y = b;

    return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

static enum errcode
no_head(mbid_t id, struct error *err)
{
    return error_set(err, ERR_CORRUPT,
                     "mailbox %" PRIu64 " is in an index and has no row", id);
}

/* The N mailboxes of a run. */
static enum errcode
read_run(struct heads *h, struct mailbox *const *run, size_t n,
         struct error *err)
{
    struct key all, first;
    struct span key, value;
    size_t at = 0;
    enum errcode rc = ERR_OK;
    struct kv_iter *it = kv_iter_open(h->snap->kv, h->snap->view, KV_STATE,
                                      key_table(&all, TAB_MAILBOX),
                                      key_mailbox(&first, run[0]->id));

    while (rc == ERR_OK && at < n && kv_iter_next(it, &key, &value)) {
        const mbid_t id = key_get_mbid(key);
        if (id < run[at]->id)
            continue;
        if (id > run[at]->id)
            break;
        rc = snap_head_decode(h->snap, id, value, &h->arena, run[at++], err);
    }
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = end;
    if (rc == ERR_OK && at < n)
        rc = no_head(run[at]->id, err);
    return rc;
}

static enum errcode
read_one(struct heads *h, struct mailbox *mb, struct error *err)
{
    const mbid_t id = mb->id;
    const enum errcode rc = snap_mailbox(h->snap, id, &h->arena, mb, err);

    return rc == ERR_NOTFOUND ? no_head(id, err) : rc;
}

static enum errcode
heads_read(struct heads *h, struct error *err)
{
    struct mailbox *order[PORTION_MAX];
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < h->n; i++)
        order[i] = &h->mb[i];
    qsort(order, h->n, sizeof(order[0]), by_id);
    for (size_t from = 0, to; rc == ERR_OK && from < h->n; from = to) {
        for (to = from + 1; to < h->n; to++)
            if (order[to]->id - order[to - 1]->id > RUN_GAP)
                break;
        if (to - from >= RUN_MIN)
            rc = read_run(h, order + from, to - from, err);
        else
            for (size_t i = from; rc == ERR_OK && i < to; i++)
                rc = read_one(h, order[i], err);
    }
    return rc;
}

/* Reads and tells of what was added. */
static enum errcode
heads_tell(struct heads *h, struct error *err)
{
    enum errcode rc = heads_read(h, err);

    for (size_t i = 0; rc == ERR_OK && h->more && i < h->n; i++)
        h->more = h->call(h->ctx, &h->mb[i]);
    arena_reset(&h->arena);
    h->n = 0;
    h->wanted = MIN(h->wanted * 4, (size_t)PORTION_MAX);
    return rc;
}

/* Tells of all in the portion where ID makes it whole. */
static enum errcode
heads_add(struct heads *h, mbid_t id, struct error *err)
{
    h->mb[h->n++].id = id;
    return h->n == h->wanted ? heads_tell(h, err) : ERR_OK;
}

/* ---- by name ----------------------------------------------------------- */

enum errcode
snap_each_mailbox(struct store_snap *snap, const char *prefix,
                  bool (*call)(void *ctx, const struct mailbox *mb), void *ctx,
                  struct error *err)
{
    struct key k;
    struct span key, value;
    const bool want_deleted = name_is_deleted(prefix);
    enum errcode rc = ERR_OK;

    if (strlen(prefix) > MAILBOX_NAME_MAX)
        return ERR_OK;
    AUTO(heads_free) struct heads *h = heads_new(snap, call, ctx);
    struct kv_iter *it =
        kv_iter_open(snap->kv, snap->view, KV_STATE,
                     key_text(&k, TAB_NAME, span_str(prefix)), SPAN_EMPTY);
    while (rc == ERR_OK && h->more && kv_iter_next(it, &key, &value)) {
        struct rd r = rd_init(value);
        if (!want_deleted &&
            span_starts(span_skip(key, 1), SPAN_LIT("DELETED.")))
            continue;
        rc = heads_add(h, rd_u64le(&r), err);
    }
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = end;
    return rc == ERR_OK && h->more ? heads_tell(h, err) : rc;
}

/* ---- what one user may see --------------------------------------------- */

struct visible {
    struct store_snap *snap;
    const char *inbox; /* of the user, or NULL */
    bool (*call)(void *ctx, const struct mailbox *mb);
    void *ctx;
    bool more;
    struct mbids {
        mbid_t *id; /* told already */
        size_t n, cap;
        size_t sorted; /* so many, and only these are looked at */
    } told;
};

static int
compare_ids(const void *a, const void *b)
{
    const mbid_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void
note_told(struct mbids *told, mbid_t id)
{
    if (told->n == told->cap) {
        told->cap = told->cap == 0 ? 64 : told->cap * 2;
        told->id = xrealloc(told->id, told->cap * sizeof(told->id[0]));
    }
    told->id[told->n++] = id;
}

static void
sort_told(struct mbids *told)
{
    if (told->n > 1)
        qsort(told->id, told->n, sizeof(told->id[0]), compare_ids);
    told->sorted = told->n;
}

static bool
was_told(const struct mbids *told, mbid_t id)
{
    return told->sorted > 0 && bsearch(&id, told->id, told->sorted, sizeof(id),
                                       compare_ids) != NULL;
}

static bool
tell_own(void *ctx, const struct mailbox *mb)
{
    struct visible *v = ctx;
    const size_t n = strlen(v->inbox);

    if (mb->name[n] != '\0' && mb->name[n] != '.') /* "user.ann", "user.anna" */
        return true;
    note_told(&v->told, mb->id);
    v->more = v->call(v->ctx, mb);
    return v->more;
}

static bool
tell_named(void *ctx, const struct mailbox *mb)
{
    struct visible *v = ctx;

    if (!mb->is_deleted)
        v->more = v->call(v->ctx, mb);
    return v->more;
}

/* Mailboxes whose ACL has IDENT, but for those told already. */
static enum errcode
each_named(struct visible *v, const char *ident, struct error *err)
{
    struct key k;
    struct span key, value;
    enum errcode rc = ERR_OK;

    if (!v->more)
        return ERR_OK;
    sort_told(&v->told);
    AUTO(heads_free) struct heads *h = heads_new(v->snap, tell_named, v);
    struct kv_iter *it =
        kv_iter_open(v->snap->kv, v->snap->view, KV_STATE,
                     key_rights_of(&k, span_str(ident)), SPAN_EMPTY);
    while (rc == ERR_OK && h->more && kv_iter_next(it, &key, &value)) {
        struct rd r = rd_init(span_skip(key, key.n - 8));
        const mbid_t id = rd_u64be(&r);
        if (was_told(&v->told, id))
            continue;
        note_told(&v->told, id);
        rc = heads_add(h, id, err);
    }
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = end;
    return rc == ERR_OK && h->more ? heads_tell(h, err) : rc;
}

enum errcode
snap_each_visible(struct store_snap *snap, const char *user,
                  bool (*call)(void *ctx, const struct mailbox *mb), void *ctx,
                  struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error ignored = {0};
    struct visible v = {.snap = snap, .call = call, .ctx = ctx, .more = true};
    enum errcode rc = ERR_OK;

    if (name_inbox(user, &a, &v.inbox, &ignored) == ERR_OK)
        rc = snap_each_mailbox(snap, v.inbox, tell_own, &v, err);
    if (rc == ERR_OK && strlen(user) <= USER_MAX)
        rc = each_named(&v, user, err);
    if (rc == ERR_OK && strcmp(user, "anyone") != 0)
        rc = each_named(&v, "anyone", err);
    free(v.told.id);
    return rc;
}
