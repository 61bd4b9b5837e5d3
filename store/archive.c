/*
 * store/archive.c - every body to where its messages want it: spool or archive,
 * and of the right partition.
 *
 * Mailbox by mailbox, so what is moved lies side by side.  The view is a
 * snapshot of each stretch of messages; a body that moved meanwhile is left
 * alone (items_move).  Between stretches others have the lock.
 */
#include "store/compact_private.h"

#include <stdlib.h>

#define STRETCH 1000U /* messages */

struct boxes {
    mbid_t *v;
    size_t n, cap;
};

static bool
add_box(void *ctx, const struct mailbox *mb)
{
    struct boxes *b = ctx;

    if (b->n == b->cap) {
        b->cap = b->cap * 2 + 64;
        b->v = xrealloc(b->v, b->cap * sizeof(*b->v));
    }
    b->v[b->n++] = mb->id;
    return true;
}

struct walk {
    struct store *store;
    const struct archive_rule *rule;
    int64_t now_s;
    struct archive_result *result;
    struct items items;
    uint64_t cost;
};

/* The parts of one message's body that lie in the wrong place. */
static enum errcode
look_at_body(struct walk *w, struct placer *placer, const struct guid *guid,
             struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct item item = {.guid = *guid};
    struct key k;
    uint32_t parts = 1;
    enum errcode rc = ERR_OK;

    for (uint32_t i = 0; i < parts && rc == ERR_OK; i++) {
        buf_clear(&value);
        rc = kv_get(w->store->kv, NULL, KV_STATE, key_body(&k, guid, i), &value,
                    err);
        if (rc == ERR_NOTFOUND)
            return ERR_OK; /* purged meanwhile, or damage: not ours to tell */
        if (rc == ERR_OK)
            rc = body_loc_decode(buf_span(&value), &item.from, err);
        if (rc == ERR_OK && i == 0)
            rc = placer_place(placer, &item, err);
        if (rc != ERR_OK)
            break;
        parts = item.from.parts;
        if (item.from.home != BODY_IN_PACK || item.from.dir != item.to_dir)
            items_add(&w->items, &item);
    }
    return rc;
}

/* Messages of mailbox ID from *UID on, which becomes 0 at the end. */
static enum errcode
plan_stretch(struct walk *w, mbid_t id, uint32_t *uid, struct error *err)
{
    struct store_snap *snap = store_snapshot(w->store);
    struct placer *placer = placer_new(w->store, w->rule, w->now_s);
    struct msg_iter *it = snap_messages(snap, id, *uid, false);
    struct message m;
    enum errcode rc = ERR_OK;
    unsigned n = 0;

    *uid = 0;
    while (rc == ERR_OK && msg_iter_next(it, &m)) {
        if (n++ == STRETCH) {
            *uid = m.uid;
            break;
        }
        w->result->messages++;
        rc = look_at_body(w, placer, &m.guid, err);
    }
    enum errcode closed = msg_iter_close(&it, rc == ERR_OK ? err : NULL);
    placer_free(&placer);
    store_release(&snap);
    w->cost += (uint64_t)n * 1024;
    if (rc == ERR_OK && closed == ERR_NOTFOUND)
        return ERR_OK;
    return rc == ERR_OK ? closed : rc;
}

/* One slice at a time, so that the log can be trimmed between. */
static enum errcode
move_planned(struct walk *w,
             bool (*progress)(void *ctx, const struct archive_result *r),
             void *ctx, struct error *err)
{
    enum errcode rc = ERR_OK;

    items_sort(&w->items);
    for (size_t at = 0; at < w->items.n && rc == ERR_OK;) {
        struct moved moved = {0};
        const size_t n = items_slice(w->items.v + at, w->items.n - at);
        pthread_mutex_lock(&w->store->checkpoint_lock);
        rc = items_move(w->store, w->items.v + at, n, &moved, err);
        pthread_mutex_unlock(&w->store->checkpoint_lock);
        compact_count(w->store, &moved);
        w->result->moved += moved.parts;
        w->result->bytes += moved.bytes;
        w->cost += moved.bytes;
        at += n;
        if (rc == ERR_OK && progress != NULL && !progress(ctx, w->result))
            rc = error_set(err, ERR_CLOSED, "stopped");
        if (rc == ERR_OK && !compact_pace(w->store, w->cost))
            rc = error_set(err, ERR_CLOSED, "the store is being closed");
        w->cost = 0;
    }
    w->items.n = 0;
    return rc;
}

enum errcode
store_archive(struct store *store, const struct archive_rule *rule,
              int64_t now_s, const char *prefix,
              bool (*progress)(void *ctx, const struct archive_result *so_far),
              void *ctx, struct archive_result *ret, struct error *err)
{
    struct archive_result result = {0};
    struct walk w = {
        .store = store, .rule = rule, .now_s = now_s, .result = &result};
    struct boxes boxes = {0};
    struct store_snap *snap = store_snapshot(store);
    enum errcode rc = snap_each_mailbox(snap, prefix, add_box, &boxes, err);

    store_release(&snap);
    for (size_t i = 0; i < boxes.n && rc == ERR_OK; i++) {
        uint32_t uid = 1;
        while (uid != 0 && rc == ERR_OK) {
            /* The directories may not be exchanged meanwhile. */
            pthread_mutex_lock(&store->checkpoint_lock);
            rc = plan_stretch(&w, boxes.v[i], &uid, err);
            pthread_mutex_unlock(&store->checkpoint_lock);
            if (rc == ERR_OK)
                rc = move_planned(&w, progress, ctx, err);
        }
    }
    items_free(&w.items);
    free(boxes.v);
    *ret = result;
    return rc == ERR_OK ? rc : error_prefix(err, "archive");
}
