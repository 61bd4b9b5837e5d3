/*
 * store/history.c - what was purged and is kept: rows, how they come and go.
 *
 *   L h epoch lsn mbid uid   the message as it was, its mailbox, when it went
 *   L H guid (the same)      what the garbage collector asks, as it asks the
 *                            references (table r) for messages that live
 *   L T                      how many, and their bytes
 *
 * All three change together: with the record that purges, in the batch of its
 * group, or while the writer stands still.  So after a crash the replay of the
 * log makes again just what the state has lost.  Keys begin with the record, so
 * rows lie in the order in which they are to go.
 *
 * What goes leaves its GUID with the garbage (LOCAL_DEAD), and the collector
 * decides as for any other.
 */
#include "store/history_private.h"

#include "base/log.h"
#include "store/compact_private.h"

#define HISTORY_VERSION 1U
/* Looked at in one walk. */
#define WALK_ROWS 2000U
#define LOOK_NS (UINT64_C(60) * 1000000000)
/* An instance that was started without the option by mistake keeps what is
 * there so long. */
#define OFF_NS (UINT64_C(3600) * 1000000000)

/* -------------------------------------------------------------------- rows */

void
history_encode(const struct history *h, struct buf *out)
{
    buf_add_byte(out, HISTORY_VERSION);
    buf_add_byte(out, (uint8_t)h->way);
    buf_add_varint(out, h->purged_us);
    buf_add_varint(out, h->uidvalidity);
    buf_add_blob(out, span_str(h->name));
    buf_add_blob(out, span_str(h->partition));
    buf_add_blob(out, span_str(h->uniqueid.s));
    message_encode(&h->msg, out);
}

enum errcode
history_decode(struct span in, struct arena *a, struct history *ret,
               struct error *err)
{
    struct rd r = rd_init(in);
    struct history h = {.at = ret->at, .msg.uid = ret->msg.uid};
    const uint8_t version = rd_u8(&r);

    if (!r.bad && version != HISTORY_VERSION)
        return error_set(err, ERR_VERSION,
                         "a row of history has version %u, not %u", version,
                         HISTORY_VERSION);
    const uint8_t way = rd_u8(&r);
    h.purged_us = rd_varint(&r);
    h.uidvalidity = rd_varint32(&r);
    h.name = rd_text(&r, MAILBOX_NAME_MAX, a);
    h.partition = rd_text(&r, USER_MAX, a);
    const struct span id = rd_blob(&r, UNIQUEID_MAX);
    if (!r.bad && id.n > 0)
        memcpy(h.uniqueid.s, id.p, id.n);
    message_read(&r, a, &h.msg);
    if (!rd_done(&r) || (way != HISTORY_PURGED && way != HISTORY_SEEDED))
        return error_set(err, ERR_CORRUPT, "malformed row of history");
    h.way = (enum history_way)way;
    *ret = h;
    return ERR_OK;
}

void
history_sum_encode(const struct history_sum *sum, struct buf *out)
{
    buf_add_varint(out, sum->rows);
    buf_add_varint(out, sum->bytes);
}

static enum errcode
sum_decode(struct span in, struct history_sum *ret, struct error *err)
{
    struct rd r = rd_init(in);

    ret->rows = rd_varint(&r);
    ret->bytes = rd_varint(&r);
    return rd_done(&r) ? ERR_OK
                       : error_set(err, ERR_CORRUPT,
                                   "malformed row of what history counts");
}

enum errcode
history_sum_read(struct kv *kv, struct history_sum *ret, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;
    enum errcode rc = kv_get(kv, NULL, KV_STATE,
                             key_local(&k, LOCAL_HISTORY_SUM), &value, err);

    *ret = (struct history_sum){0};
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    return rc == ERR_OK ? sum_decode(buf_span(&value), ret, err) : rc;
}

/* The end of a key of either kind, of which the first SKIP bytes are known. */
static bool
read_at(struct span key, size_t skip, struct history_at *ret)
{
    struct rd r = rd_init(key.n < skip ? SPAN_EMPTY : span_skip(key, skip));

    ret->epoch = rd_u32be(&r);
    ret->lsn = rd_u64be(&r);
    ret->mbid = rd_u64be(&r);
    ret->uid = rd_u32be(&r);
    return rd_done(&r);
}

/* KEY and VALUE, a row of LOCAL_HISTORY. */
static enum errcode
read_row(struct span key, struct span value, struct arena *a,
         struct history *ret, struct error *err)
{
    *ret = (struct history){0};
    if (!read_at(key, 2, &ret->at))
        return error_set(err, ERR_CORRUPT, "malformed key of history");
    ret->msg.uid = ret->at.uid;
    return history_decode(value, a, ret, err);
}

void
history_put(struct kv_batch *b, const struct history *h)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;

    history_encode(h, &value);
    kv_batch_put(b, KV_STATE, key_local_history(&k, &h->at), buf_span(&value));
    kv_batch_put(b, KV_STATE, key_local_history_body(&k, &h->msg.guid, &h->at),
                 SPAN_EMPTY);
}

/* ---------------------------------------------------------------- they come */

void
history_note(struct state *st, const struct head *head,
             const struct message *old, const struct logpos *record,
             uint64_t time_us, struct history_sum *sum)
{
    const struct history h = {
        .at = {.epoch = record->epoch,
               .lsn = record->lsn,
               .mbid = head->mb.id,
               .uid = old->uid},
        .way = HISTORY_PURGED,
        .purged_us = time_us,
        .name = head->mb.name,
        .partition = head->mb.partition,
        .uniqueid = head->mb.uniqueid,
        .uidvalidity = head->mb.uidvalidity,
        .msg = *old,
    };

    if ((old->flags & FLAG_UNEXPUNGED) != 0)
        return;
    history_put(st->batch, &h);
    sum->rows++;
    sum->bytes += old->size;
}

enum errcode
history_note_sum(struct state *st, const struct history_sum *sum,
                 struct error *err)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct history_sum all = {0};
    struct span value;
    struct key k;
    struct span key = key_local(&k, LOCAL_HISTORY_SUM);

    if (sum->rows == 0)
        return ERR_OK;
    enum errcode rc = state_get(st, key, &st->scratch, &value, err);
    if (rc == ERR_OK)
        rc = sum_decode(value, &all, err);
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    all.rows += sum->rows;
    all.bytes += sum->bytes;
    history_sum_encode(&all, &out);
    state_put(st, key, buf_span(&out));
    return ERR_OK;
}

/* ------------------------------------------------------------ who asks */

enum errcode
history_is_kept(struct kv *kv, bool *ret, struct error *err)
{
    struct history_sum sum;
    enum errcode rc = history_sum_read(kv, &sum, err);

    *ret = rc == ERR_OK && sum.rows > 0;
    return rc;
}

enum errcode
history_has(struct kv *kv, const struct kv_snap *snap, const struct guid *guid,
            bool *ret, struct error *err)
{
    struct key k;
    struct span key, value;
    struct kv_iter *it = kv_iter_open(
        kv, snap, KV_STATE, key_local_history_of(&k, guid), SPAN_EMPTY);

    *ret = kv_iter_next(it, &key, &value);
    return kv_iter_close(&it, err);
}

static enum errcode
each_of(struct kv *kv, const struct kv_snap *snap, const struct guid *guid,
        struct arena *a, bool (*call)(void *ctx, const struct history *h),
        void *ctx, struct error *err)
{
    AUTO(buf_free) struct buf row = BUF_INIT;
    struct key k, prefix;
    struct span key, value;
    bool goes_on = true;
    enum errcode rc = ERR_OK;
    struct kv_iter *it = kv_iter_open(
        kv, snap, KV_STATE, key_local_history_of(&prefix, guid), SPAN_EMPTY);

    while (rc == ERR_OK && goes_on && kv_iter_next(it, &key, &value)) {
        struct history h = {0};
        if (!read_at(key, prefix.n, &h.at)) {
            rc = error_set(err, ERR_CORRUPT, "malformed key of history");
            break;
        }
        h.msg.uid = h.at.uid;
        buf_clear(&row);
        rc =
            kv_get(kv, snap, KV_STATE, key_local_history(&k, &h.at), &row, err);
        if (rc == ERR_NOTFOUND) { /* it goes just now */
            rc = ERR_OK;
            continue;
        }
        if (rc == ERR_OK)
            rc = history_decode(buf_span(&row), a, &h, err);
        if (rc == ERR_OK)
            goes_on = call(ctx, &h);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? closed : rc;
}

static bool
take_first(void *ctx, const struct history *h)
{
    *(struct history *)ctx = *h;
    return false;
}

enum errcode
history_first_of(struct kv *kv, const struct kv_snap *snap,
                 const struct guid *guid, struct arena *a, struct history *ret,
                 bool *ret_found, struct error *err)
{
    struct history h = {0};
    enum errcode rc = each_of(kv, snap, guid, a, take_first, &h, err);

    *ret_found = rc == ERR_OK && h.name != NULL;
    if (*ret_found)
        *ret = h;
    return rc;
}

enum errcode
store_history_of(struct store *store, const struct guid *guid,
                 bool (*call)(void *ctx, const struct history *h), void *ctx,
                 struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;

    return each_of(store->kv, NULL, guid, &a, call, ctx, err);
}

enum errcode
store_history_walk(struct store *store, struct history_at *after,
                   bool (*call)(void *ctx, const struct history *h), void *ctx,
                   bool *ret_more, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct key k, from = {0};
    struct span key, value;
    unsigned n = 0;
    bool goes_on = true;
    enum errcode rc = ERR_OK;

    *ret_more = false;
    if (after->lsn != LSN_NONE || after->epoch != 0) {
        (void)key_local_history(&from, after);
        from.b[from.n++] = 0; /* behind it */
    }
    struct kv_iter *it =
        kv_iter_open(store->kv, NULL, KV_STATE, key_local(&k, LOCAL_HISTORY),
                     key_span(&from));
    while (rc == ERR_OK && goes_on && kv_iter_next(it, &key, &value)) {
        struct history h;
        if (n++ == WALK_ROWS) {
            *ret_more = true;
            break;
        }
        rc = read_row(key, value, &a, &h, err);
        if (rc != ERR_OK)
            break;
        *after = h.at;
        goes_on = call(ctx, &h);
        arena_reset(&a);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? closed : rc;
}

enum errcode
store_history_view(struct store *store, struct history_view *ret,
                   struct error *err)
{
    struct history_sum sum;
    enum errcode rc = history_sum_read(store->kv, &sum, err);

    if (rc == ERR_OK)
        *ret = (struct history_view){.rows = sum.rows,
                                     .bytes = sum.bytes,
                                     .keep_s = store->cfg.keep_history_s};
    return rc;
}

/* ------------------------------------------------------------------ they go */

struct going {
    uint64_t until_us; /* what was purged then or earlier */
    struct history_at at[LOCAL_ROWS];
    size_t n;
    uint64_t dropped;
};

static bool
gather_old(void *ctx, const struct history *h)
{
    struct going *g = ctx;

    if (h->purged_us > g->until_us || g->n == LOCAL_ROWS)
        return false;
    g->at[g->n++] = h->at;
    return true;
}

/* One row into B; *SUM counts what is left. */
static enum errcode
drop_row(struct state *st, struct kv_batch *b, const struct history_at *at,
         struct history_sum *sum, struct going *g, struct error *err)
{
    struct history h = {0};
    struct span value;
    struct key k;
    enum errcode rc =
        state_get(st, key_local_history(&k, at), &st->scratch, &value, err);

    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc == ERR_OK)
        rc = history_decode(value, &st->scratch, &h, err);
    if (rc != ERR_OK)
        return rc;
    kv_batch_delete(b, KV_STATE, key_local_history(&k, at));
    kv_batch_delete(b, KV_STATE, key_local_history_body(&k, &h.msg.guid, at));
    kv_batch_put(b, KV_STATE, key_local_dead(&k, &h.msg.guid), SPAN_EMPTY);
    sum->rows -= MIN(sum->rows, 1);
    sum->bytes -= MIN(sum->bytes, h.msg.size);
    g->dropped++;
    return ERR_OK;
}

/* While the writer stands still. */
static enum errcode
drop_rows(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    struct going *g = ctx;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct history_sum sum;
    struct key k;
    enum errcode rc = history_sum_read(st->kv, &sum, err);

    g->dropped = 0;
    for (size_t i = 0; i < g->n && rc == ERR_OK; i++)
        rc = drop_row(st, b, &g->at[i], &sum, g, err);
    if (rc == ERR_OK) {
        history_sum_encode(&sum, &out);
        kv_batch_put(b, KV_STATE, key_local(&k, LOCAL_HISTORY_SUM),
                     buf_span(&out));
    }
    return rc;
}

enum errcode
store_history_drop(struct store *store, const struct history_at *v, size_t n,
                   uint64_t *ret_dropped, struct error *err)
{
    struct going g = {0};
    enum errcode rc = ERR_OK;

    *ret_dropped = 0;
    for (size_t at = 0; at < n && rc == ERR_OK; at += g.n) {
        g.n = MIN(n - at, LOCAL_ROWS);
        memcpy(g.at, v + at, g.n * sizeof(*v));
        rc = store_local(store, drop_rows, &g, err);
        if (rc == ERR_OK)
            *ret_dropped += g.dropped;
    }
    return rc;
}

/* Up to which time may go what was purged?  False: nothing. */
static bool
find_until(struct store *store, struct history_age *age, uint64_t rows,
           uint64_t *ret)
{
    const uint64_t keep_s = store->cfg.keep_history_s;
    const uint64_t now_ns = env_mono_ns(store->env);

    if (keep_s == HISTORY_FOREVER || rows == 0)
        return false;
    if (keep_s == 0) {
        if (age->off_since_ns == 0) {
            age->off_since_ns = MAX(now_ns, 1);
            log_warn(NULL, "store.history_off",
                     "rows=%" PRIu64
                     " why=\"sync_keep_history is not set any more\" "
                     "effect=\"all of it goes from an hour from now on\"",
                     rows);
        }
        *ret = UINT64_MAX;
        return now_ns - age->off_since_ns >= OFF_NS;
    }
    /* By both clocks, so that one which jumps takes nothing away. */
    const uint64_t now_us =
        MIN(env_wall_us(store->env), store_pos(store).time_us);
    if (now_us / 1000000 < keep_s)
        return false;
    *ret = now_us - keep_s * 1000000;
    return true;
}

enum errcode
history_expire(struct store *store, struct history_age *age,
               unsigned *ret_looked, bool *ret_more, struct error *err)
{
    const uint64_t now_ns = env_mono_ns(store->env);
    struct history_at after = {0};
    struct history_sum sum;
    struct going g = {0};
    bool more;

    *ret_more = false;
    if (!age->has_more && age->looked_ns != 0 &&
        now_ns - age->looked_ns < LOOK_NS)
        return ERR_OK;
    age->looked_ns = MAX(now_ns, 1);
    age->has_more = false;
    enum errcode rc = history_sum_read(store->kv, &sum, err);
    if (rc != ERR_OK || !find_until(store, age, sum.rows, &g.until_us))
        return rc;
    rc = store_history_walk(store, &after, gather_old, &g, &more, err);
    if (rc == ERR_OK && g.n > 0)
        rc = store_local(store, drop_rows, &g, err);
    *ret_looked += (unsigned)g.n;
    age->has_more = *ret_more = rc == ERR_OK && g.n > 0;
    return rc;
}

/* --------------------------------------------------------- out of the log */

/* Parts that are in the log, a slice of them, from *FROM on. */
static enum errcode
gather_logged(struct store *store, struct placer *placer, struct key *from,
              struct items *items, bool *ret_end, struct error *err)
{
    struct key table;
    struct span key, value;
    uint64_t bytes = 0;
    bool has_more = false;
    enum errcode rc = ERR_OK;
    struct kv_iter *it = kv_iter_open(
        store->kv, NULL, KV_STATE, key_table(&table, TAB_BODY), key_span(from));

    while (rc == ERR_OK && (has_more = kv_iter_next(it, &key, &value))) {
        struct item item = {0};
        if (key.n < 1 + GUID_BYTES || key.n > KEY_MAX) {
            rc = error_set(err, ERR_CORRUPT, "malformed row of a body");
            break;
        }
        memcpy(from->b, key.p, key.n);
        from->n = key.n;
        if (items->n == SLICE_PARTS || bytes >= SLICE_BYTES)
            break;
        memcpy(item.guid.b, key.p + 1, GUID_BYTES);
        rc = body_loc_decode(value, &item.from, err);
        if (rc != ERR_OK || item.from.home != BODY_IN_LOG)
            continue;
        rc = placer_place(placer, &item, err);
        items_add(items, &item);
        bytes += item.from.stored_bytes;
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    *ret_end = !has_more;
    return rc == ERR_OK ? closed : rc;
}

enum errcode
store_history_pack(struct store *store, struct error *err)
{
    const struct archive_rule rule = {0};
    struct key from = {0};
    bool is_end = store->cfg.keep_history_s == 0;
    enum errcode rc = ERR_OK;

    pthread_mutex_lock(&store->checkpoint_lock);
    struct placer *placer = placer_new(store, &rule, 0);
    while (rc == ERR_OK && !is_end) {
        struct items items = {0};
        struct moved moved = {0};
        rc = gather_logged(store, placer, &from, &items, &is_end, err);
        if (rc == ERR_OK) {
            items_sort(&items);
            rc = items_move(store, items.v, items.n, &moved, err);
        }
        compact_count(store, &moved);
        items_free(&items);
    }
    placer_free(&placer);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return rc == ERR_OK ? rc : error_prefix(err, "history");
}
