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
#include "store/store_private.h"

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
    store->busy = false;
    store->controls--;
    pthread_cond_broadcast(&store->idle);
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
    return rc;
}
