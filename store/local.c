/*
 * store/local.c - changing local rows while the store runs.
 *
 * Whoever comes here announces itself in `controls`, as for a change of role,
 * waits until the writer has put its group down, and is then `busy` itself: the
 * lock is free while it works, so that sessions can queue, and others who want
 * the writer to stand still wait for it as they would for a group.
 */
#include "store/local.h"

#include "store/kv_private.h"
#include "store/places.h"
#include "store/store_private.h"

/* ------------------------------------------------------------------ keys */

static struct span
append(struct key *k, const void *p, size_t n)
{
    ENSURE(n <= KEY_MAX - k->n);
    memcpy(k->b + k->n, p, n);
    k->n += n;
    return key_span(k);
}

static struct span
append_be(struct key *k, uint64_t v, size_t n)
{
    uint8_t b[8];

    for (size_t i = 0; i < n; i++)
        b[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    return append(k, b, n);
}

struct span
key_local_dir(struct key *k, uint8_t kind, const char *name)
{
    (void)key_local(k, LOCAL_DIR);
    (void)append_be(k, kind, 1);
    return append(k, name, strlen(name));
}

struct span
key_local_pack(struct key *k, uint32_t dir, uint64_t pack)
{
    (void)key_local(k, LOCAL_PACK);
    (void)append_be(k, dir, 4);
    return append_be(k, pack, 8);
}

struct span
key_local_dead(struct key *k, const struct guid *guid)
{
    (void)key_local(k, LOCAL_DEAD);
    return append(k, guid->b, GUID_BYTES);
}

struct span
key_local_parts(struct key *k, const struct guid *guid)
{
    (void)key_local(k, LOCAL_PARTS);
    return append(k, guid->b, GUID_BYTES);
}

static struct span
append_at(struct key *k, const struct history_at *at)
{
    (void)append_be(k, at->epoch, 4);
    (void)append_be(k, at->lsn, 8);
    (void)append_be(k, at->mbid, 8);
    return append_be(k, at->uid, 4);
}

struct span
key_local_history(struct key *k, const struct history_at *at)
{
    (void)key_local(k, LOCAL_HISTORY);
    return append_at(k, at);
}

struct span
key_local_history_of(struct key *k, const struct guid *guid)
{
    (void)key_local(k, LOCAL_HISTORY_BODY);
    return append(k, guid->b, GUID_BYTES);
}

struct span
key_local_history_body(struct key *k, const struct guid *guid,
                       const struct history_at *at)
{
    (void)key_local_history_of(k, guid);
    return append_at(k, at);
}

struct span
key_local_history_old(struct key *k, mbid_t id, uint32_t uid)
{
    (void)key_local(k, LOCAL_HISTORY_OLD);
    (void)append_be(k, id, 8);
    return append_be(k, uid, 4);
}

/* ----------------------------------------------------------------- bodies */

enum errcode
local_get_body(struct state *st, const struct guid *guid, uint32_t part,
               struct body_loc *ret, struct error *err)
{
    struct span value;
    struct key k;
    enum errcode rc =
        state_get(st, key_body(&k, guid, part), &st->scratch, &value, err);

    return rc == ERR_OK ? body_loc_decode(value, ret, err) : rc;
}

/* What the row names goes out of its pack's account. */
static enum errcode
leave(struct state *st, struct kv_batch *b, const struct guid *guid,
      uint32_t part, struct error *err)
{
    struct body_loc old;
    enum errcode rc = local_get_body(st, guid, part, &old, err);

    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    return rc == ERR_OK ? pack_account_move(st->kv, b, &old, true, err) : rc;
}

enum errcode
local_put_body(struct state *st, struct kv_batch *b, const struct guid *guid,
               const struct body_loc *to, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;

    enum errcode rc = leave(st, b, guid, to->part, err);
    if (rc == ERR_OK)
        rc = pack_account_move(st->kv, b, to, false, err);
    if (rc != ERR_OK)
        return rc;
    body_loc_encode(to, &value);
    kv_batch_put(b, KV_STATE, key_body(&k, guid, to->part), buf_span(&value));
    return ERR_OK;
}

enum errcode
local_drop_body(struct state *st, struct kv_batch *b, const struct guid *guid,
                uint32_t part, struct error *err)
{
    struct key k;
    enum errcode rc = leave(st, b, guid, part, err);

    if (rc == ERR_OK)
        kv_batch_delete(b, KV_STATE, key_body(&k, guid, part));
    return rc;
}

/* ------------------------------------------------------------- the writer */

static void
check_rows(const struct kv_batch *b)
{
    size_t n;
    const struct kv_op *ops = kv_batch_ops(b, &n);

    for (size_t i = 0; i < n; i++) {
        const struct span key = kv_op_key(b, &ops[i]);
        ENSURE(ops[i].family == KV_STATE && key.n > 1 &&
               (key.p[0] == TAB_BODY || key.p[0] == TAB_LOCAL));
    }
}

/* While `busy` is ours. */
static enum errcode
run(struct store *store,
    enum errcode (*call)(void *ctx, struct state *st, struct kv_batch *b,
                         struct error *err),
    void *ctx, struct error *err)
{
    if (store->dead)
        return error_set(err, store->dead_err.code, "%s", store->dead_err.text);
    if (store->unfinished)
        return error_set(err, ERR_NOSPACE, "the state's disk is full");

    struct kv_batch *b = kv_batch_new();
    enum errcode rc = call(ctx, &store->st, b, err);
    arena_reset(&store->st.scratch);
    if (rc == ERR_OK && kv_batch_bytes(b) > 0) {
        struct error own = {0};
        check_rows(b);
        rc = kv_write(store->kv, b, &own);
        if (rc != ERR_OK && rc != ERR_NOSPACE)
            store_die(store, &own);
        if (rc != ERR_OK)
            (void)error_set(err, rc, "%s", own.text);
    }
    kv_batch_free(&b);
    return rc;
}

enum errcode
store_local(struct store *store,
            enum errcode (*call)(void *ctx, struct state *st,
                                 struct kv_batch *b, struct error *err),
            void *ctx, struct error *err)
{
    pthread_mutex_lock(&store->lock);
    store->controls++;
    while (store->busy)
        pthread_cond_wait(&store->idle, &store->lock);
    store->busy = true;
    pthread_mutex_unlock(&store->lock);

    enum errcode rc = run(store, call, ctx, err);

    pthread_mutex_lock(&store->lock);
    ENSURE(store->busy); /* nobody else was at work meanwhile */
    store->busy = false;
    store->controls--;
    pthread_cond_broadcast(&store->idle);
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
    return rc;
}
