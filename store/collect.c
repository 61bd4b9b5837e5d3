/*
 * store/collect.c - bodies that nothing has any more.
 *
 * A message that goes for good leaves its GUID in a row (LOCAL_DEAD); whether
 * another one has the body is asked here, while the writer stands still, and is
 * what the writer asks too before it leaves a body out of a record (S6).  So a
 * body goes only when the next message with it will bring it along again.
 *
 * Except for parts that come ahead of their message (REC_BODY): nothing has
 * them yet.  A row (LOCAL_PARTS) keeps them for a day, counted in the time of
 * the log, which a replica that catches up has too; and for an hour on our own
 * clock, since the log's may jump.
 *
 * What was purged and is kept (history.c) needs its body as a message does; it
 * goes by its age, and then the body is garbage like any other.
 *
 * Once a week the sweep walks the whole table of bodies.  It finds what has no
 * message and no row here (a seed that broke off leaves such), gives it the day
 * that fresh parts have, and counts what is alive in each pack that is not
 * appended to any more.  There bodies only go, so what was counted on the way
 * is never too little at the end.
 */
#include "store/compact_private.h"

#include <stdlib.h>

#include "store/mutants.h"

#define RIPE_US (UINT64_C(24) * 3600 * 1000000)
#define RIPE_NS (UINT64_C(3600) * 1000000000)
#define PARTS_EVERY_NS (UINT64_C(60) * 1000000000)
#define SWEEP_EVERY_US (UINT64_C(7) * 24 * 3600 * 1000000)
#define SWEEP_LOOK_NS (UINT64_C(60) * 1000000000)
#define SWEEP_ROWS 2000U
/* What looking at a row is taken for, against the rate. */
#define ROW_COST 1024U

/* ---------------------------------------------------------------- ripening */

struct parts_row {
    uint64_t time_us;
    lsn_t lsn;
};

static enum errcode
parts_decode(struct span in, struct parts_row *ret, struct error *err)
{
    struct rd r = rd_init(in);

    ret->time_us = rd_varint(&r);
    ret->lsn = rd_varint(&r);
    return rd_done(&r) ? ERR_OK
                       : error_set(err, ERR_CORRUPT,
                                   "malformed row of parts that came ahead");
}

static void
grow_ripe(struct store *store, struct collector *c)
{
    const uint64_t now = env_mono_ns(store->env);

    if (c->young_ns != 0 && now - c->young_ns < RIPE_NS)
        return;
    if (c->young_ns != 0)
        c->ripe_lsn = c->young_lsn;
    c->young_lsn = store_pos(store).applied.lsn;
    c->young_ns = now;
}

/* ---------------------------------------------------------------- dropping */

struct dropping {
    struct store *store;
    const struct collector *c;
    struct guid v[LOCAL_ROWS];
    size_t n;
    uint64_t now_us; /* the state's */
    bool has_history;
    uint64_t dropped;
};

static bool
is_ripe(const struct dropping *d, const struct parts_row *row)
{
    return row->lsn <= d->c->ripe_lsn && d->now_us > row->time_us &&
           d->now_us - row->time_us >= RIPE_US;
}

/* Are there parts that a message may still come for? */
static enum errcode
has_fresh_parts(struct dropping *d, struct state *st, const struct guid *guid,
                bool *ret, struct error *err)
{
    struct parts_row row;
    struct span value;
    struct key k;
    enum errcode rc =
        state_get(st, key_local_parts(&k, guid), &st->scratch, &value, err);

    *ret = false;
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc == ERR_OK)
        rc = parts_decode(value, &row, err);
    if (rc == ERR_OK)
        *ret = !is_ripe(d, &row);
    return rc;
}

static enum errcode
drop_body(struct dropping *d, struct state *st, struct kv_batch *b,
          const struct guid *guid, struct error *err)
{
    struct span *keys;
    struct key k;
    size_t n;

    (void)key_body(&k, guid, 0);
    k.n = 1 + GUID_BYTES;
    enum errcode rc =
        state_keys(st, key_span(&k), &st->scratch, &keys, &n, err);
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        struct rd r = rd_init(span_skip(keys[i], 1 + GUID_BYTES));
        const uint32_t part = (uint32_t)rd_be(&r, 2);
        rc = local_drop_body(st, b, guid, part, err);
    }
    if (rc == ERR_OK && n > 0)
        d->dropped++;
    return rc;
}

/* Does a message have it, or one that was purged and is kept? */
static enum errcode
is_needed(const struct dropping *d, struct state *st, const struct guid *guid,
          bool *ret, struct error *err)
{
    enum errcode rc = state_has_ref(st, guid, ret, err);

    return rc == ERR_OK && !*ret && d->has_history
               ? history_has(st->kv, NULL, guid, ret, err)
               : rc;
}

static enum errcode
decide(struct dropping *d, struct state *st, struct kv_batch *b,
       const struct guid *guid, struct error *err)
{
    bool needed = false;
    bool has_fresh = false;
    struct key k;

    enum errcode rc = is_needed(d, st, guid, &needed, err);
    if (rc == ERR_OK)
        rc = has_fresh_parts(d, st, guid, &has_fresh, err);
    if (rc == ERR_OK && !needed && !has_fresh)
        rc = drop_body(d, st, b, guid, err);
    if (rc != ERR_OK)
        return rc;
    kv_batch_delete(b, KV_STATE, key_local_dead(&k, guid));
    if (!has_fresh)
        kv_batch_delete(b, KV_STATE, key_local_parts(&k, guid));
    return ERR_OK;
}

/* While the writer stands still. */
static enum errcode
drop_some(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    struct dropping *d = ctx;
    enum errcode rc = history_is_kept(st->kv, &d->has_history, err);

    if ((st->mutants & MUTANT_DROP_HISTORY) != 0)
        d->has_history = false;
    d->dropped = 0;
    for (size_t i = 0; i < d->n && rc == ERR_OK; i++)
        rc = decide(d, st, b, &d->v[i], err);
    return rc;
}

/* --------------------------------------------------------------- gathering */

static enum errcode
read_guid(struct span key, struct guid *ret, struct error *err)
{
    struct rd r = rd_init(span_skip(key, 2));
    const struct span guid = rd_span(&r, GUID_BYTES);

    if (!rd_done(&r))
        return error_set(err, ERR_CORRUPT, "malformed row of garbage");
    memcpy(ret->b, guid.p, GUID_BYTES);
    return ERR_OK;
}

static enum errcode
gather_dead(struct dropping *d, struct error *err)
{
    struct key k;
    struct span key;
    struct span value;
    enum errcode rc = ERR_OK;
    struct kv_iter *it = kv_iter_open(d->store->kv, NULL, KV_STATE,
                                      key_local(&k, LOCAL_DEAD), SPAN_EMPTY);

    while (rc == ERR_OK && d->n < LOCAL_ROWS &&
           kv_iter_next(it, &key, &value)) {
        rc = read_guid(key, &d->v[d->n], err);
        if (rc == ERR_OK)
            d->n++;
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? closed : rc;
}

/* Those that are ripe, from the cursor on.  *RET_LOOKED rows; the cursor goes
 * at the end. */
static enum errcode
gather_parts(struct dropping *d, struct collector *c, unsigned *ret_looked,
             struct error *err)
{
    struct key k;
    struct key from = {0};
    struct span key;
    struct span value;
    unsigned looked = 0;
    enum errcode rc = ERR_OK;

    if (c->has_cursor)
        (void)key_local_parts(&from, &c->cursor);
    struct kv_iter *it =
        kv_iter_open(d->store->kv, NULL, KV_STATE, key_local(&k, LOCAL_PARTS),
                     key_span(&from));
    bool has_more = false;
    while (rc == ERR_OK && (has_more = kv_iter_next(it, &key, &value))) {
        struct parts_row row;
        rc = read_guid(key, &c->cursor, err);
        if (d->n == LOCAL_ROWS || looked == SWEEP_ROWS)
            break;
        looked++;
        if (rc == ERR_OK)
            rc = parts_decode(value, &row, err);
        if (rc == ERR_OK && is_ripe(d, &row))
            d->v[d->n++] = c->cursor;
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    c->has_cursor = rc == ERR_OK && has_more;
    *ret_looked = looked;
    return rc;
}

enum errcode
collect_step(struct store *store, struct collector *c, bool *ret_more,
             uint64_t *ret_bytes, struct error *err)
{
    const uint64_t now_ns = env_mono_ns(store->env);
    struct dropping d = {
        .store = store, .c = c, .now_us = store_pos(store).time_us};
    unsigned looked = 0;

    *ret_more = false;
    if (compact_keeps_garbage(store))
        return ERR_OK;
    grow_ripe(store, c);
    enum errcode rc = gather_dead(&d, err);
    if (rc == ERR_OK && d.n == 0)
        rc = history_expire(store, &c->history, &looked, ret_more, err);
    if (rc == ERR_OK && d.n == 0 && !*ret_more &&
        (c->has_cursor || c->parts_ns == 0 ||
         now_ns - c->parts_ns >= PARTS_EVERY_NS)) {
        rc = gather_parts(&d, c, &looked, err);
        c->parts_ns = now_ns;
    }
    if (rc == ERR_OK && d.n > 0)
        rc = store_local(store, drop_some, &d, err);
    if (rc != ERR_OK)
        return error_prefix(err, "dropping garbage");
    c->dropped += d.dropped;
    *ret_more |= d.n > 0 || c->has_cursor;
    *ret_bytes += (uint64_t)(d.n + looked) * ROW_COST;
    return ERR_OK;
}

/* ------------------------------------------------------------------- sweep */

/* A pack that is not appended to any more, and what is alive in it. */
struct counted {
    uint32_t dir;
    uint64_t pack;
    uint64_t total; /* as its account said then */
    uint64_t live;
};

struct beginning {
    struct store *store;
    struct collector *c;
    size_t cap;
};

static bool
add_counted(void *ctx, uint32_t dir, uint64_t pack,
            const struct pack_account *a)
{
    struct beginning *b = ctx;
    struct packs *packs = places_packs(bodies_places(b->store->bodies), dir);

    if (packs == NULL || packs_current(packs) == pack)
        return true;
    if (b->c->ncounted == b->cap) {
        b->cap = b->cap * 2 + 64;
        b->c->counted =
            xrealloc(b->c->counted, b->cap * sizeof(*b->c->counted));
    }
    b->c->counted[b->c->ncounted++] =
        (struct counted){.dir = dir, .pack = pack, .total = a->total};
    return true;
}

/* Rows of accounts come in order of directory and pack. */
static int
compare_counted(const void *pa, const void *pb)
{
    const struct counted *a = pa;
    const struct counted *b = pb;

    if (a->dir != b->dir)
        return a->dir < b->dir ? -1 : 1;
    return a->pack < b->pack ? -1 : a->pack > b->pack;
}

static void
count_live(struct collector *c, const struct body_loc *loc)
{
    const struct counted key = {.dir = loc->dir, .pack = loc->file};

    if (loc->home != BODY_IN_PACK || c->ncounted == 0)
        return;
    struct counted *found = bsearch(&key, c->counted, c->ncounted,
                                    sizeof(*c->counted), compare_counted);
    if (found != NULL)
        found->live += pack_frame_bytes(loc->stored_bytes);
}

static enum errcode
sweep_is_due(struct store *store, bool *ret, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    const uint64_t now = env_wall_us(store->env);
    struct key k;
    enum errcode rc = kv_get(store->kv, NULL, KV_STATE,
                             key_local(&k, LOCAL_SWEEP), &value, err);

    *ret = true;
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    struct rd r = rd_init(buf_span(&value));
    const uint64_t last = rd_varint(&r);
    *ret = !rd_done(&r) || now < last || now - last >= SWEEP_EVERY_US;
    return rc;
}

struct orphans {
    struct guid v[LOCAL_ROWS];
    size_t n;
    struct store_pos pos;
};

/* They are given the time that fresh parts have. */
static enum errcode
note_orphans(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    const struct orphans *o = ctx;
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;

    (void)st;
    (void)err;
    buf_add_varint(&value, o->pos.time_us);
    buf_add_varint(&value, o->pos.applied.lsn);
    for (size_t i = 0; i < o->n; i++)
        kv_batch_put(b, KV_STATE, key_local_parts(&k, &o->v[i]),
                     buf_span(&value));
    return ERR_OK;
}

static enum errcode
has_row(struct store *store, struct span key, bool *ret, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    enum errcode rc = kv_get(store->kv, NULL, KV_STATE, key, &value, err);

    *ret = rc == ERR_OK;
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

/* Has no message GUID, nor history, and is that not known? */
static enum errcode
look_for_orphan(struct store *store, struct kv_iter *refs,
                const struct guid *guid, struct orphans *o, struct error *err)
{
    struct key k;
    struct span key;
    struct span value;
    bool known = false;

    (void)key_guidref(&k, guid, 0, 0);
    kv_iter_seek(refs, key_span(&k));
    if (kv_iter_next(refs, &key, &value) && key.n >= 1 + GUID_BYTES &&
        memcmp(key.p + 1, guid->b, GUID_BYTES) == 0)
        return ERR_OK;
    enum errcode rc = history_has(store->kv, NULL, guid, &known, err);
    if (rc == ERR_OK && !known)
        rc = has_row(store, key_local_parts(&k, guid), &known, err);
    if (rc == ERR_OK && !known)
        rc = has_row(store, key_local_dead(&k, guid), &known, err);
    if (rc == ERR_OK && !known)
        o->v[o->n++] = *guid;
    return rc;
}

/* One stretch of the table, whole bodies. */
static enum errcode
sweep_stretch(struct store *store, struct collector *c, struct orphans *o,
              bool *ret_end, unsigned *ret_rows, struct error *err)
{
    struct key table;
    struct key refs_table;
    struct key from = {0};
    struct span key;
    struct span value;
    struct guid last = c->sweep_after;
    bool has_last = c->sweep_begun;
    bool has_more = false;
    unsigned rows = 0;
    enum errcode rc = ERR_OK;

    if (has_last)
        (void)key_body(&from, &last, UINT16_MAX);
    struct kv_iter *it =
        kv_iter_open(store->kv, NULL, KV_STATE, key_table(&table, TAB_BODY),
                     key_span(&from));
    struct kv_iter *refs =
        kv_iter_open(store->kv, NULL, KV_STATE,
                     key_table(&refs_table, TAB_GUIDREF), SPAN_EMPTY);
    while (rc == ERR_OK && (has_more = kv_iter_next(it, &key, &value))) {
        struct body_loc loc;
        struct guid guid;
        if (key.n < 1 + GUID_BYTES) {
            rc = error_set(err, ERR_CORRUPT, "malformed row of a body");
            break;
        }
        memcpy(guid.b, key.p + 1, GUID_BYTES);
        const bool is_next = !has_last || !guid_eq(&guid, &last);
        if (is_next && (rows >= SWEEP_ROWS || o->n == LOCAL_ROWS))
            break;
        rows++;
        rc = body_loc_decode(value, &loc, err);
        if (rc == ERR_OK)
            count_live(c, &loc);
        if (rc == ERR_OK && is_next)
            rc = look_for_orphan(store, refs, &guid, o, err);
        last = guid;
        has_last = true;
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    closed = kv_iter_close(&refs, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    c->sweep_after = last;
    c->sweep_begun = has_last;
    *ret_end = !has_more;
    *ret_rows = rows;
    return rc;
}

struct settling {
    struct store *store;
    const struct counted *v;
    size_t n;
    bool is_last;
};

/* While the writer stands still: no account says more than was counted. */
static enum errcode
settle_counts(void *ctx, struct state *st, struct kv_batch *b,
              struct error *err)
{
    const struct settling *s = ctx;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct pack_account a;
    struct span value;
    struct key k;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < s->n && rc == ERR_OK; i++) {
        struct span key = key_local_pack(&k, s->v[i].dir, s->v[i].pack);
        rc = state_get(st, key, &st->scratch, &value, err);
        if (rc == ERR_NOTFOUND) {
            rc = ERR_OK;
            continue;
        }
        if (rc == ERR_OK)
            rc = pack_account_decode(value, &a, err);
        /* A repair may have come to a pack that was full by then. */
        if (rc != ERR_OK || a.live <= s->v[i].live || a.total != s->v[i].total)
            continue;
        a.live = s->v[i].live;
        buf_clear(&out);
        pack_account_encode(&a, &out);
        kv_batch_put(b, KV_STATE, key, buf_span(&out));
    }
    if (rc == ERR_OK && s->is_last) {
        buf_clear(&out);
        buf_add_varint(&out, env_wall_us(s->store->env));
        kv_batch_put(b, KV_STATE, key_local(&k, LOCAL_SWEEP), buf_span(&out));
    }
    return rc;
}

static enum errcode
finish_sweep(struct store *store, struct collector *c, struct error *err)
{
    enum errcode rc = ERR_OK;
    size_t at = 0;

    do {
        struct settling s = {.store = store,
                             .v = c->counted + at,
                             .n = MIN(c->ncounted - at, LOCAL_ROWS)};
        at += s.n;
        s.is_last = at == c->ncounted;
        rc = store_local(store, settle_counts, &s, err);
    } while (rc == ERR_OK && at < c->ncounted);
    collector_done(c);
    return rc;
}

void
collector_done(struct collector *c)
{
    free(c->counted);
    c->counted = NULL;
    c->ncounted = 0;
    c->is_sweeping = false;
    c->sweep_begun = false;
}

static enum errcode
begin_sweep(struct store *store, struct collector *c, struct error *err)
{
    struct beginning b = {.store = store, .c = c};
    bool is_due = false;

    enum errcode rc = sweep_is_due(store, &is_due, err);
    if (rc == ERR_OK && is_due) {
        rc = pack_account_each(store->kv, NULL, add_counted, &b, err);
        c->is_sweeping = rc == ERR_OK;
    }
    return rc;
}

enum errcode
sweep_step(struct store *store, struct collector *c, bool *ret_more,
           uint64_t *ret_bytes, struct error *err)
{
    const uint64_t now = env_mono_ns(store->env);
    struct orphans o = {.pos = store_pos(store)};
    unsigned rows = 0;
    bool is_end = false;
    enum errcode rc = ERR_OK;

    *ret_more = false;
    if (!c->is_sweeping &&
        (c->looked_ns == 0 || now - c->looked_ns >= SWEEP_LOOK_NS)) {
        c->looked_ns = now;
        rc = begin_sweep(store, c, err);
    }
    if (rc == ERR_OK && c->is_sweeping) {
        rc = sweep_stretch(store, c, &o, &is_end, &rows, err);
        if (rc == ERR_OK && o.n > 0)
            rc = store_local(store, note_orphans, &o, err);
        *ret_bytes += (uint64_t)rows * ROW_COST / 16;
        *ret_more = true;
        if (rc == ERR_OK && is_end)
            rc = finish_sweep(store, c, err);
    }
    if (rc == ERR_OK)
        return ERR_OK;
    collector_done(c);
    return error_prefix(err, "walking the bodies");
}
