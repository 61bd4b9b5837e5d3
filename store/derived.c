/*
 * store/derived.c - derived records, as those who make them read and put them.
 *
 * There are two kinds.  A message has one of its own (UID 0: the mailbox, see
 * store/uids.c), put with it by who delivered it.  And what is small and asked
 * for of many messages at once may be gathered into blocks of a mailbox, which
 * only who uses them knows the inside of: one look instead of hundreds.
 *
 * A look at one key costs two or three times a step of an iterator, and an
 * iterator as much as several looks.  So a walk begins with looks, and opens
 * its iterator when two messages close to each other were asked for.
 */
#include "store/rows.h"
#include "store/snap_private.h"

#include <stdlib.h>

/* UIDs no further apart are close to each other. */
#define NEAR 16U

struct cache_walk {
    struct store_snap *snap;
    mbid_t id;
    uint32_t asked; /* for last; 0: not yet */
    struct kv_iter *it;
    bool is_lost; /* it stands elsewhere: somebody was asked for far away */
    bool has_ended;
    uint32_t at; /* UID that it stands on */
    struct span value;
};

static void
put(struct store *store, struct span key, struct span record)
{
    struct kv_batch *b = kv_batch_new();
    struct error err;

    kv_batch_put(b, KV_CACHE, key, record);
    /* Lost is as good as never made. */
    if (kv_write(store->kv, b, &err) != ERR_OK)
        err.code = ERR_OK;
    kv_batch_free(&b);
}

enum errcode
snap_cache(struct store_snap *snap, mbid_t id, uint32_t uid, struct buf *ret,
           struct error *err)
{
    struct key k;
    return kv_get(snap->kv, snap->view, KV_CACHE, key_message(&k, id, uid), ret,
                  err);
}

void
store_cache_put(struct store *store, mbid_t id, uint32_t uid,
                struct span record)
{
    struct key k;
    put(store, key_message(&k, id, uid), record);
}

enum errcode
snap_cache_block(struct store_snap *snap, mbid_t id, uint32_t block,
                 struct buf *ret, struct error *err)
{
    struct key k;
    return kv_get(snap->kv, snap->view, KV_CACHE, key_block(&k, id, block), ret,
                  err);
}

void
store_cache_put_block(struct store *store, mbid_t id, uint32_t block,
                      struct span record)
{
    struct key k;
    put(store, key_block(&k, id, block), record);
}

/* ------------------------------------------------------------------- walk */

struct cache_walk *
snap_cache_walk(struct store_snap *snap, mbid_t id)
{
    struct cache_walk *w = xcalloc(1, sizeof(*w));

    w->snap = snap;
    w->id = id;
    return w;
}

static void
step(struct cache_walk *w)
{
    struct span key;

    w->has_ended = !kv_iter_next(w->it, &key, &w->value);
    if (!w->has_ended)
        w->at = key_get_uid(key);
}

/* To the first record at or behind UID. */
static void
go_to(struct cache_walk *w, uint32_t uid)
{
    struct key prefix, from;

    if (w->it == NULL) {
        w->it = kv_iter_open(w->snap->kv, w->snap->view, KV_CACHE,
                             key_of_mailbox(&prefix, TAB_MESSAGE, w->id),
                             key_message(&from, w->id, uid));
        step(w);
    } else if (w->is_lost) {
        kv_iter_seek(w->it, key_message(&from, w->id, uid));
        step(w);
    }
    w->is_lost = false;
    while (!w->has_ended && w->at < uid)
        step(w);
}

enum errcode
cache_walk_get(struct cache_walk *w, uint32_t uid, struct buf *ret,
               struct error *err)
{
    const bool is_near =
        w->asked != 0 && uid > w->asked && uid - w->asked <= NEAR;

    w->asked = uid;
    if (!is_near) {
        w->is_lost = true;
        return snap_cache(w->snap, w->id, uid, ret, err);
    }
    go_to(w, uid);
    if (w->has_ended || w->at != uid)
        return error_set(err, ERR_NOTFOUND, "no such record");
    buf_add(ret, w->value);
    return ERR_OK;
}

void
cache_walk_close(struct cache_walk **pw)
{
    struct cache_walk *w = *pw;
    struct error ignored = {0};

    *pw = NULL;
    if (w == NULL)
        return;
    /* What could not be read is made again by who misses it. */
    if (w->it != NULL)
        (void)!kv_iter_close(&w->it, &ignored);
    free(w);
}
