/*
 * store/history_seed.c - history across a seed.
 *
 * A replica that its master's log has left behind is seeded anew, and what was
 * purged meanwhile no record tells it.  So before the rows of its state go,
 * each message in them leaves a row (LOCAL_HISTORY_OLD); and when the state of
 * the seed is there, those that it has too (the same UNIQUEID, UID and GUID)
 * are forgotten, and the others are history.  An attempt that breaks
 * off leaves such rows, and the next one adds its own: a message that was in
 * the state of any of them and is not in the last is history.
 *
 * The key of a row that becomes history is the seed's position, its mailbox and
 * UID, and row and sum change in one batch, so each step may be done twice.
 */
#include "store/history_private.h"
#include "store/local.h"

#define BATCH_BYTES ((size_t)1 << 20)

struct work {
    struct kv *kv;
    struct kv_batch *b;
    struct history_sum sum;
    bool sum_changed;
    struct arena a; /* of a row */
};

static enum errcode
write_batch(struct work *w, size_t from, struct error *err)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct key k;

    if (kv_batch_bytes(w->b) < from || kv_batch_bytes(w->b) == 0)
        return ERR_OK;
    if (w->sum_changed) {
        history_sum_encode(&w->sum, &out);
        kv_batch_put(w->b, KV_STATE, key_local(&k, LOCAL_HISTORY_SUM),
                     buf_span(&out));
    }
    w->sum_changed = false;
    enum errcode rc = kv_write(w->kv, w->b, err);
    kv_batch_clear(w->b);
    return rc;
}

/* ------------------------------------------------------------ before a seed */

/* The mailbox that rows are looked at of. */
struct old_mailbox {
    mbid_t id; /* 0: none yet */
    bool exists;
    struct mailbox mb;
    struct arena a;
};

static enum errcode
find_mailbox(struct kv *kv, mbid_t id, struct old_mailbox *old,
             struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;

    if (old->id == id)
        return ERR_OK;
    arena_reset(&old->a);
    enum errcode rc =
        kv_get(kv, NULL, KV_STATE, key_mailbox(&k, id), &value, err);
    old->exists = rc == ERR_OK;
    if (rc == ERR_OK)
        rc = mailbox_decode(buf_span(&value), &old->a, &old->mb, err);
    old->mb.id = id;
    if (rc == ERR_NOTFOUND) /* of a seed that broke off */
        rc = ERR_OK;
    old->id = id;
    return rc;
}

static enum errcode
note_old(struct work *w, const struct mailbox *mb, const struct message *m,
         struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    const struct history h = {
        .way = HISTORY_SEEDED,
        .name = mb->name,
        .partition = mb->partition,
        .uniqueid = mb->uniqueid,
        .uidvalidity = mb->uidvalidity,
        .msg = *m,
    };
    struct key k;

    if ((m->flags & FLAG_UNEXPUNGED) != 0)
        return ERR_OK;
    history_encode(&h, &value);
    kv_batch_put(w->b, KV_STATE, key_local_history_old(&k, mb->id, m->uid),
                 buf_span(&value));
    return write_batch(w, BATCH_BYTES, err);
}

enum errcode
history_seed_begins(struct kv *kv, struct error *err)
{
    struct work w = {.kv = kv, .b = kv_batch_new()};
    struct old_mailbox old = {0};
    struct key k;
    struct span key, value;
    enum errcode rc = ERR_OK;
    struct kv_iter *it = kv_iter_open(kv, NULL, KV_STATE,
                                      key_table(&k, TAB_MESSAGE), SPAN_EMPTY);

    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        struct message m = {.uid = key_get_uid(key)};
        arena_reset(&w.a);
        rc = find_mailbox(kv, key_get_mbid(key), &old, err);
        if (rc == ERR_OK && old.exists)
            rc = message_decode(value, &w.a, &m, err);
        if (rc == ERR_OK && old.exists)
            rc = note_old(&w, &old.mb, &m, err);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    if (rc == ERR_OK)
        rc = write_batch(&w, 0, err);
    kv_batch_free(&w.b);
    arena_free(&w.a);
    arena_free(&old.a);
    return rc == ERR_OK ? rc : error_prefix(err, "history");
}

/* ------------------------------------------------------------- behind a seed
 */

/* Has the state, which is whole, the message of H? */
static enum errcode
has_message(struct work *w, const struct history *h, bool *ret,
            struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct message m = {.uid = h->msg.uid};
    struct key k;

    *ret = false;
    enum errcode rc = kv_get(
        w->kv, NULL, KV_STATE,
        key_text(&k, TAB_UNIQUEID, span_str(h->uniqueid.s)), &value, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    struct rd r = rd_init(buf_span(&value));
    const mbid_t id = rd_u64le(&r);
    buf_clear(&value);
    rc = kv_get(w->kv, NULL, KV_STATE, key_message(&k, id, m.uid), &value, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc == ERR_OK)
        rc = message_decode(buf_span(&value), &w->a, &m, err);
    *ret = rc == ERR_OK && guid_eq(&m.guid, &h->msg.guid);
    return rc;
}

static enum errcode
settle_old(struct work *w, struct span key, struct span value,
           const struct store_pos *pos, struct error *err)
{
    struct history h = {0};
    struct rd r = rd_init(span_skip(key, 2));
    bool has = false;

    arena_reset(&w->a);
    h.at.mbid = rd_u64be(&r);
    h.msg.uid = h.at.uid = rd_u32be(&r);
    if (!rd_done(&r))
        return error_set(err, ERR_CORRUPT, "malformed key of history");
    enum errcode rc = history_decode(value, &w->a, &h, err);
    if (rc == ERR_OK)
        rc = has_message(w, &h, &has, err);
    if (rc != ERR_OK)
        return rc;
    kv_batch_delete(w->b, KV_STATE, key);
    if (!has) {
        h.at.epoch = pos->applied.epoch;
        h.at.lsn = pos->applied.lsn;
        h.purged_us = pos->time_us;
        history_put(w->b, &h);
        w->sum.rows++;
        w->sum.bytes += h.msg.size;
        w->sum_changed = true;
    }
    return write_batch(w, BATCH_BYTES, err);
}

enum errcode
history_seed_ends(struct kv *kv, const struct store_pos *pos, bool keeps,
                  struct error *err)
{
    struct work w = {.kv = kv, .b = kv_batch_new()};
    struct key k;
    struct span key, value;
    enum errcode rc = history_sum_read(kv, &w.sum, err);
    struct kv_iter *it = kv_iter_open(
        kv, NULL, KV_STATE, key_local(&k, LOCAL_HISTORY_OLD), SPAN_EMPTY);

    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        if (keeps) {
            rc = settle_old(&w, key, value, pos, err);
            continue;
        }
        kv_batch_delete(w.b, KV_STATE, key);
        rc = write_batch(&w, BATCH_BYTES, err);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    if (rc == ERR_OK)
        rc = write_batch(&w, 0, err);
    kv_batch_free(&w.b);
    arena_free(&w.a);
    return rc == ERR_OK ? rc : error_prefix(err, "history");
}
