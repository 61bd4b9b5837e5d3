/*
 * store/store.c - opening and closing, roles, and the queue's outer side.
 *
 * Opening brings state and log together: the state says up to which record it
 * has come, and what the log has behind that is applied again.  A state that is
 * ahead of its log, or of another chain, is never served: it means that the log
 * was lost or exchanged.
 *
 * Whoever wants something of the writer between two groups (a role, a look at
 * the fence) announces itself in `controls` and waits until it is not `busy`;
 * the writer begins no group while somebody does.
 */
#include "store/store_private.h"

#include <stdlib.h>

#include "base/log.h"
#include "store/body_private.h"
#include "store/damage_private.h"
#include "store/seed.h"

#define SEGMENT_BYTES_DEFAULT (UINT64_C(64) << 20)

/* -------------------------------------------------------------- controls */

void
store_control_begin(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    store->controls++;
    while (store->busy)
        pthread_cond_wait(&store->idle, &store->lock);
}

void
store_control_end(struct store *store)
{
    store->controls--;
    pthread_cond_broadcast(&store->idle);
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
}

void
store_set_role(struct store *store, enum role role, epoch_t epoch)
{
    struct synclog_mark *mark = synclog_mark(store->log);

    store_control_begin(store);
    struct held *held = role != store->role || epoch != store->epoch
                            ? acks_reset(store, role)
                            : NULL;
    if (role == ROLE_MASTER)
        while (!store->dead && delay_step(store, true))
            ;
    store->role = role;
    store->epoch = epoch;
    atomic_store(&mark->role, (uint32_t)role);
    atomic_store(&mark->epoch, epoch);
    mark_wake(mark);
    store_control_end(store);
    acks_refuse_held(store, held);
}

enum role
store_role(const struct store *store)
{
    struct store *s = (struct store *)store; /* for the lock only */

    pthread_mutex_lock(&s->lock);
    enum role role = s->role;
    pthread_mutex_unlock(&s->lock);
    return role;
}

epoch_t
store_epoch(const struct store *store)
{
    struct store *s = (struct store *)store; /* for the lock only */

    pthread_mutex_lock(&s->lock);
    epoch_t epoch = s->epoch;
    pthread_mutex_unlock(&s->lock);
    return epoch;
}

bool
store_check_fence(struct store *store)
{
    struct synclog_mark *mark = synclog_mark(store->log);

    store_control_begin(store);
    const bool up = store->cfg.fence_path != NULL &&
                    env_may_exist(store->env, store->cfg.fence_path);
    store->fence = up;
    atomic_store(&mark->fence, up && acks_are_none(store) ? 1 : 0);
    mark_wake(mark);
    store_control_end(store);
    if (!up || acks_are_none(store))
        return up;
    acks_wait(store); /* nothing is added to them behind the fence */
    return store_check_fence(store);
}

void
store_hold(struct store *store, uint64_t hold_ms)
{
    store_control_begin(store);
    store->hold_until_ns =
        hold_ms == 0 ? 0 : env_mono_ns(store->env) + hold_ms * 1000000;
    store_control_end(store);
}

/* ----------------------------------------------------------------- queue */

static void
enqueue(struct store *store, struct job *job)
{
    struct error err;

    atomic_fetch_add(&store->queue_bytes, job->bytes);
    pthread_mutex_lock(&store->lock);
    const bool closing = store->closing;
    if (!closing)
        jobs_add(&store->queue, job);
    pthread_mutex_unlock(&store->lock);
    if (!closing) {
        /* Who is woken within the lock only waits for it. */
        pthread_cond_signal(&store->work);
        return;
    }
    (void)error_set(&err, ERR_CLOSED, "the store is being closed");
    atomic_fetch_sub(&store->queue_bytes, job->bytes);
    if (job->is_frames) {
        struct frames_job *f = (struct frames_job *)job;
        f->done(f->done_ctx, ERR_CLOSED, &err, store_pos(store));
        buf_free(&f->frames);
        free(f);
    } else {
        struct store_txn *txn = (struct store_txn *)job;
        txn->code = ERR_CLOSED;
        txn->err = err;
        txn->done(txn->done_ctx, txn);
    }
}

void
store_submit(struct store *store, struct store_txn *txn, txn_done *done,
             void *ctx)
{
    txn->done = done;
    txn->done_ctx = ctx;
    txn_prepare(txn);
    enqueue(store, &txn->job);
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void
on_committed(void *ctx, struct store_txn *txn)
{
    struct waiter *w = ctx;

    (void)txn;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

enum errcode
store_commit(struct store *store, struct store_txn *txn, struct error *err)
{
    struct waiter w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER,
                       false};

    store_submit(store, txn, on_committed, &w);
    pthread_mutex_lock(&w.lock);
    while (!w.done) {
        if (!store->cfg.no_threads) {
            pthread_cond_wait(&w.cond, &w.lock);
            continue;
        }
        pthread_mutex_unlock(&w.lock);
        (void)store_step(store);
        pthread_mutex_lock(&w.lock);
    }
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.cond);
    pthread_mutex_destroy(&w.lock);
    if (txn->code != ERR_OK && err != NULL)
        *err = txn->err;
    return txn->code;
}

void
store_append_frames(struct store *store, struct span frames,
                    store_frames_done *done, void *ctx)
{
    struct frames_job *f = xcalloc(1, sizeof(*f));

    f->job.is_frames = true;
    f->job.bytes = sizeof(*f) + frames.n;
    f->done = done;
    f->done_ctx = ctx;
    buf_add(&f->frames, frames);
    f->code = frames_check_bodies(&store->part_hashes, frames, &f->err);
    enqueue(store, &f->job);
}

size_t
store_queue_bytes(const struct store *store)
{
    return atomic_load(&store->queue_bytes);
}

bool
store_step(struct store *store)
{
    bool did = false;

    ENSURE(store->cfg.no_threads);
    while (writer_turn(store))
        did = true;
    return did;
}

/* -------------------------------------------------------------- position */

struct store_pos
store_pos(const struct store *store)
{
    struct store *s = (struct store *)store; /* for the lock only */

    pthread_mutex_lock(&s->pos_lock);
    struct store_pos pos = s->pos;
    pthread_mutex_unlock(&s->pos_lock);
    return pos;
}

bool
store_digest_at(const struct store *store, lsn_t lsn, uint64_t *ret_digest)
{
    struct store *s = (struct store *)store; /* for the lock only */
    bool found = false;

    pthread_mutex_lock(&s->pos_lock);
    if (s->pos.applied.lsn == lsn) {
        *ret_digest = s->pos.digest;
        found = true;
    }
    for (size_t i = 0; i < DIGEST_RING && !found && lsn != LSN_NONE; i++)
        if (s->ring[i].lsn == lsn) {
            *ret_digest = s->ring[i].digest;
            found = true;
        }
    pthread_mutex_unlock(&s->pos_lock);
    return found;
}

struct synclog *
store_log(struct store *store)
{
    return store->log;
}

struct kv *
store_kv(struct store *store)
{
    return store->kv;
}

struct bodies *
store_bodies(struct store *store)
{
    return store->bodies;
}

struct damages *
store_damages(struct store *store)
{
    return store->damages;
}

struct env *
store_env(const struct store *store)
{
    return store->env;
}

const char *
store_dir(const struct store *store)
{
    return store->cfg.dir;
}

const char *
store_tmpdir(const struct store *store)
{
    return store->tmp_dir;
}

const char *
store_pack_dir(const struct store *store)
{
    return store->cfg.pack_dir;
}

bool
store_is_empty(const struct store *store)
{
    struct store_log_view log;

    /* What is held back counts. */
    store_log_view((struct store *)store, &log);
    return store_pos(store).applied.lsn == LSN_NONE &&
           log.durable.lsn == LSN_NONE;
}

/* --------------------------------------------------------------- opening */

static enum errcode
read_local(struct store *store, enum local_row row, struct buf *ret,
           bool *ret_there, struct error *err)
{
    struct key k;

    buf_clear(ret);
    enum errcode rc =
        kv_get(store->kv, NULL, KV_STATE, key_local(&k, row), ret, err);
    *ret_there = rc == ERR_OK;
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

static enum errcode
read_pos(struct store *store, enum local_row row, struct store_pos *ret,
         struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    bool there;

    *ret = (struct store_pos){0};
    enum errcode rc = read_local(store, row, &value, &there, err);
    return rc == ERR_OK && there ? pos_decode(buf_span(&value), ret, err) : rc;
}

enum errcode
store_peek_pos(const char *dir, struct store_pos *ret, struct error *err)
{
    AUTO(xfree) char *path = xasprintf("%s/state", dir);
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct kv *kv = NULL;
    struct key k;

    *ret = (struct store_pos){0};
    if (!env_exists(env_system(), path))
        return ERR_OK;
    enum errcode rc = kv_open_rocks(dir, UINT64_C(1) << 20, &kv, err);
    if (rc == ERR_OK)
        rc = kv_get(kv, NULL, KV_STATE, key_local(&k, LOCAL_APPLIED), &value,
                    err);
    if (rc == ERR_OK)
        rc = pos_decode(buf_span(&value), ret, err);
    kv_close(&kv);
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

static enum errcode
check_schema(struct store *store, bool *ret_new, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    bool there;

    enum errcode rc = read_local(store, LOCAL_SCHEMA, &value, &there, err);
    *ret_new = !there;
    if (rc != ERR_OK || !there)
        return rc;
    struct rd r = rd_init(buf_span(&value));
    uint32_t version = rd_u32le(&r);
    if (!rd_done(&r))
        return error_set(err, ERR_CORRUPT,
                         "the schema version does not decode");
    if (version != SCHEMA_VERSION)
        return error_set(err, ERR_VERSION,
                         "the state is of version %" PRIu32
                         ", this program knows %u",
                         version, SCHEMA_VERSION);
    return ERR_OK;
}

static enum errcode
check_cluster(struct store *store, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    bool there;
    struct instid have;

    enum errcode rc = read_local(store, LOCAL_CLUSTER, &value, &there, err);
    if (rc != ERR_OK || !there || instid_none(&store->cfg.cluster))
        return rc;
    if (value.n != INSTANCE_ID_BYTES)
        return error_set(err, ERR_CORRUPT, "the cluster id does not decode");
    memcpy(have.b, value.p, INSTANCE_ID_BYTES);
    if (!instid_eq(&have, &store->cfg.cluster))
        return error_set(err, ERR_HISTORY,
                         "the state in %s is of another cluster",
                         store->cfg.dir);
    return ERR_OK;
}

static enum errcode
write_local(struct store *store, struct error *err)
{
    static const uint8_t schema[4] = {SCHEMA_VERSION};
    struct key k;
    struct kv_batch *b = kv_batch_new();

    kv_batch_put(b, KV_STATE, key_local(&k, LOCAL_SCHEMA),
                 span_of(schema, sizeof(schema)));
    if (!instid_none(&store->cfg.cluster))
        kv_batch_put(b, KV_STATE, key_local(&k, LOCAL_CLUSTER),
                     span_of(store->cfg.cluster.b, INSTANCE_ID_BYTES));
    enum errcode rc = kv_write(store->kv, b, err);
    kv_batch_free(&b);
    return rc;
}

static enum errcode
open_log(struct store *store, const struct store_pos *start, lsn_t proven,
         struct synclog_recovery *ret, struct error *err)
{
    const struct synclog_config cfg = {
        .dir = store->log_dir,
        .segment_bytes = store->cfg.segment_bytes,
        .cluster = store->cfg.cluster,
        .instance = store->cfg.instance,
        .start = start->applied,
        .start_chain = start->chain,
        .proven = proven,
        .no_helper = store->cfg.no_threads,
        .mutants = store->cfg.mutants,
    };
    enum errcode rc = synclog_open(store->env, &cfg, &store->log, ret, err);
    return rc == ERR_OK ? ERR_OK : error_prefix(err, "sync log");
}

/* Bring state and log together. */
static enum errcode
recover(struct store *store, struct store_opened *ret, struct error *err)
{
    struct store_pos at, start;

    enum errcode rc = read_pos(store, LOCAL_APPLIED, &at, err);
    if (rc == ERR_OK)
        rc = read_pos(store, LOCAL_START, &start, err);
    if (rc == ERR_OK)
        rc = open_log(store, &start, at.applied.lsn, &ret->log, err);
    if (rc == ERR_OK)
        rc = state_init(&store->st, store->kv, at.digest, err);
    if (rc != ERR_OK)
        return rc;
    store->st.mutants = store->cfg.mutants;
    store->st.keeps_history = store->cfg.keep_history_s > 0;
    store->pos = store->reached = at;
    store->flushed_lsn = at.applied.lsn;
    if (at.applied.lsn > ret->log.last.lsn)
        return error_set(err, ERR_CORRUPT,
                         "the state is at %" PRI_EPOCH ":%" PRI_LSN
                         " and the log in %s ends with %" PRI_EPOCH ":%" PRI_LSN
                         ": the log was lost or exchanged",
                         at.applied.epoch, at.applied.lsn, store->log_dir,
                         ret->log.last.epoch, ret->log.last.lsn);
    /* What is held back stays so over a restart; a master applies it first. */
    if (store->cfg.apply_delay_us > 0)
        return ERR_OK;
    return writer_replay(store, &ret->replayed, err);
}

static void
set_mark(struct store *store)
{
    struct synclog_mark *mark = synclog_mark(store->log);
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;

    const bool seeding =
        kv_get(store->kv, NULL, KV_STATE, key_local(&k, LOCAL_SEEDING), &value,
               NULL) == ERR_OK;
    store->fence = store->cfg.fence_path != NULL &&
                   env_may_exist(store->env, store->cfg.fence_path);
    atomic_store(&mark->role, (uint32_t)store->role);
    atomic_store(&mark->epoch, store->epoch);
    atomic_store(&mark->fence, store->fence ? 1 : 0);
    atomic_store(&mark->seeding, seeding ? 1 : 0);
    atomic_store(&mark->applied_lsn, store->pos.applied.lsn);
    mark_wake(mark);
}

static void
init_threads(struct store *store)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&store->work, &attr);
    pthread_cond_init(&store->idle, &attr);
    pthread_cond_init(&store->checkpoint_wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->pos_lock, NULL);
    pthread_mutex_init(&store->checkpoint_lock, NULL);
    pthread_mutex_init(&store->seed_lock, NULL);
    pthread_mutex_init(&store->watches.lock, NULL);
    pthread_mutex_init(&store->part_hashes.lock, NULL);
    full_init(&store->full, store->env);
    body_budget_init(&store->body_budget, store->cfg.compress);
}

static char *
dup_or_null(const char *s)
{
    return s == NULL ? NULL : xstrdup(s);
}

static void
init_group(struct store *store)
{
    struct group *g = &store->group;

    /* A segment holds two of the largest groups (synclog.h). */
    g->payload_max =
        (size_t)MIN((uint64_t)FRAME_PAYLOAD_MAX,
                    store->cfg.segment_bytes / 2 - SEGMENT_HEADER_BYTES);
    g->st = &store->st;
    g->env = store->env;
    g->instance = store->cfg.instance;
    g->mutants = store->cfg.mutants;
}

static struct store *
new_store(struct env *env, const struct store_config *cfg,
          const struct store_hooks *hooks)
{
    struct store *store = xcalloc(1, sizeof(*store));

    store->env = env;
    store->cfg = *cfg;
    store->cfg.dir = xstrdup(cfg->dir);
    store->cfg.pack_dir = cfg->pack_dir != NULL
                              ? xstrdup(cfg->pack_dir)
                              : xasprintf("%s/packs", cfg->dir);
    store->cfg.fence_path = dup_or_null(cfg->fence_path);
    if (store->cfg.segment_bytes == 0)
        store->cfg.segment_bytes = SEGMENT_BYTES_DEFAULT;
    if (hooks != NULL)
        store->hooks = *hooks;
    store->kv = cfg->kv;
    store->log_dir = xasprintf("%s/synclog", cfg->dir);
    store->tmp_dir = xasprintf("%s/tmp", cfg->dir);
    store->role = ROLE_REPLICA;
    jobs_init(&store->queue);
    jobs_init(&store->acks);
    store->beat = true;
    init_threads(store);
    init_group(store);
    store->compactor = compactor_new(store);
    return store;
}

static void
free_store(struct store *store)
{
    compactor_free(&store->compactor);
    delay_close(store);
    state_free(&store->st);
    bodies_close(&store->bodies);
    damages_close(&store->damages);
    synclog_close(&store->log);
    kv_close(&store->kv);
    part_hashes_free(&store->part_hashes);
    arena_free(&store->group.arena);
    buf_free(&store->group.payload);
    buf_free(&store->group.body);
    buf_free(&store->frames);
    pthread_cond_destroy(&store->work);
    pthread_cond_destroy(&store->idle);
    pthread_cond_destroy(&store->checkpoint_wake);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->pos_lock);
    pthread_mutex_destroy(&store->checkpoint_lock);
    pthread_mutex_destroy(&store->seed_lock);
    pthread_mutex_destroy(&store->watches.lock);
    pthread_mutex_destroy(&store->part_hashes.lock);
    full_done(&store->full);
    xfree(&store->log_dir);
    xfree(&store->tmp_dir);
    xfree(&store->cfg.dir);
    xfree(&store->cfg.pack_dir);
    xfree(&store->cfg.fence_path);
    free(store);
}

static enum errcode
open_parts(struct store *store, struct store_opened *ret, struct error *err)
{
    enum errcode rc = env_mkdirs(store->env, store->cfg.dir, err);
    if (rc == ERR_OK)
        rc = env_mkdirs(store->env, store->tmp_dir, err);
    if (rc == ERR_OK && store->cfg.open_kv != NULL)
        store->kv = store->cfg.open_kv(store->cfg.open_kv_ctx, store->cfg.dir);
    if (rc == ERR_OK && store->kv == NULL) {
        rc = state_check_mark(store->env, store->cfg.dir, err);
        if (rc == ERR_OK)
            rc = kv_open_rocks(store->cfg.dir, store->cfg.cache_bytes,
                               &store->kv, err);
        /* A file that is not there any more is as bad as one that is wrong. */
        if (rc == ERR_IO || rc == ERR_NOTFOUND)
            rc = err->code = ERR_CORRUPT;
        store->state_damaged = rc == ERR_CORRUPT;
    }
    if (rc == ERR_OK)
        kv_on_corrupt(store->kv, state_is_damaged, store);
    if (rc == ERR_OK)
        rc = bodies_open(store->env, store->kv, &store->cfg,
                         &store->cfg.cluster, &store->bodies, err);
    if (rc == ERR_OK)
        rc = check_schema(store, &ret->is_new, err);
    if (rc == ERR_OK)
        rc = check_cluster(store, err);
    if (rc == ERR_OK)
        rc = damages_open(store->env, store->kv, &store->damages, err);
    if (rc == ERR_OK)
        rc = recover(store, ret, err);
    /* Only now is it ours, and known to be whole. */
    if (rc == ERR_OK)
        rc = write_local(store, err);
    unsigned removed = 0;
    if (rc == ERR_OK)
        rc = places_clean(bodies_places(store->bodies), &removed, err);
    if (removed > 0)
        log_notice(NULL, "store.packs_removed",
                   "packs=%u why=\"a crash left them without a body\"",
                   removed);
    return rc;
}

enum errcode
store_open(struct env *env, const struct store_config *cfg,
           const struct store_hooks *hooks, struct store **ret,
           struct store_opened *ret_found, struct error *err)
{
    struct store *store = new_store(env, cfg, hooks);
    struct store_opened found = {0};

    enum errcode rc = open_parts(store, &found, err);
    if (rc == ERR_CORRUPT && store->state_damaged && cfg->kv == NULL &&
        state_can_be_rebuilt(env, store->log_dir)) {
        struct error why = *err;
        free_store(store);
        rc = state_set_aside(env, cfg, &why, err);
        store = new_store(env, cfg, hooks);
        found = (struct store_opened){0};
        if (rc == ERR_OK)
            rc = open_parts(store, &found, err);
    }
    if (rc != ERR_OK) {
        if (rc == ERR_CORRUPT)
            damage_advise(store->state_damaged, err);
        free_store(store);
        return rc;
    }
    rc = acks_start(store, err);
    if (rc != ERR_OK) {
        free_store(store);
        return rc;
    }
    store->is_open = true;
    found.is_new = found.is_new && found.log.last.lsn == LSN_NONE;
    set_mark(store);
    if (!cfg->no_threads) {
        ENSURE(pthread_create(&store->writer, NULL, writer_main, store) == 0);
        ENSURE(pthread_create(&store->checkpointer, NULL, checkpoint_main,
                              store) == 0);
        ENSURE(pthread_create(&store->compact_thread, NULL, compact_main,
                              store) == 0);
    }
    *ret = store;
    if (ret_found != NULL)
        *ret_found = found;
    return ERR_OK;
}

void
store_close(struct store **storep)
{
    struct store *store = *storep;

    if (store == NULL)
        return;
    pthread_mutex_lock(&store->lock);
    store->closing = true;
    pthread_cond_broadcast(&store->work);
    pthread_cond_broadcast(&store->idle);
    pthread_cond_broadcast(&store->checkpoint_wake);
    pthread_mutex_unlock(&store->lock);
    damages_stop(store->damages);
    if (!store->cfg.no_threads) {
        pthread_join(store->writer, NULL);
        pthread_join(store->checkpointer, NULL);
        pthread_join(store->compact_thread, NULL);
    }
    acks_stop(store);
    writer_refuse_all(store, ERR_CLOSED, "the store is being closed");
    /* What cannot be flushed is replayed when it is opened again. */
    struct error err;
    if (!store->dead && kv_flush(store->kv, &err) != ERR_OK)
        log_warn(NULL, "store.flush_failed",
                 "why=\"%s\" effect=\"replayed at the next start\"", err.text);
    free_store(store);
    *storep = NULL;
}

/* ---------------------------------------------------------------- seeding */

static enum errcode
write_start(struct store *store, const struct store_pos *pos, struct error *err)
{
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct kv_batch *b = kv_batch_new();

    pos_encode(pos, &value);
    kv_batch_put(b, KV_STATE, key_local(&k, LOCAL_APPLIED), buf_span(&value));
    kv_batch_put(b, KV_STATE, key_local(&k, LOCAL_START), buf_span(&value));
    kv_batch_delete(b, KV_STATE, key_local(&k, LOCAL_SEEDING));
    /* Bodies may have come that no message has in the end. */
    kv_batch_delete(b, KV_STATE, key_local(&k, LOCAL_SWEEP));
    enum errcode rc = kv_write(store->kv, b, err);
    kv_batch_free(&b);
    return rc == ERR_OK ? kv_flush(store->kv, err) : rc;
}

/* With pos_lock, which keeps store_log_view() out. */
static enum errcode
begin_log_again(struct store *store, const struct store_pos *start,
                struct error *err)
{
    struct synclog_recovery found;

    synclog_close(&store->log);
    return open_log(store, start, LSN_NONE, &found, err);
}

static enum errcode
adopt(struct store *store, const struct store_pos *pos, struct error *err)
{
    struct state st;

    if (store->pos.applied.lsn != LSN_NONE)
        return error_set(err, ERR_CONFLICT, "there is history here already");
    enum errcode rc = state_init(&st, store->kv, pos->digest, err);
    if (rc != ERR_OK)
        return rc;
    rc = write_start(store, pos, err);
    if (rc != ERR_OK) {
        state_free(&st);
        return rc;
    }
    delay_close(store);
    state_free(&store->st);
    store->st = st;
    store->st.mutants = store->cfg.mutants;
    store->st.keeps_history = store->cfg.keep_history_s > 0;
    pthread_mutex_lock(&store->pos_lock);
    rc = begin_log_again(store, pos, err);
    if (rc == ERR_OK) {
        store->pos = store->reached = *pos;
        store->flushed_lsn = pos->applied.lsn;
        set_mark(store);
    }
    pthread_mutex_unlock(&store->pos_lock);
    return rc;
}

enum errcode
store_adopt(struct store *store, const struct store_pos *pos, struct error *err)
{
    pthread_mutex_lock(&store->checkpoint_lock);
    store_control_begin(store);
    enum errcode rc = adopt(store, pos, err);
    const bool lost = store->log == NULL;
    store_control_end(store);
    pthread_mutex_unlock(&store->checkpoint_lock);
    if (lost)
        store_die(store, err);
    return rc;
}

bool
store_begin_seeding(struct store *store)
{
    struct synclog_mark *mark = synclog_mark(store->log);

    store_control_begin(store); /* no frames are under way */
    const bool is_empty = store->pos.applied.lsn == LSN_NONE;
    if (is_empty) {
        atomic_store(&mark->seeding, 1);
        mark_wake(mark);
    }
    store_control_end(store);
    return is_empty;
}

void
store_end_seeding(struct store *store)
{
    struct synclog_mark *mark = synclog_mark(store->log);

    atomic_store(&mark->seeding, 0);
    mark_wake(mark);
}

/* ---------------------------------------------------------------- cluster */

static enum errcode
join_cluster(struct store *store, const struct instid *cluster,
             struct error *err)
{
    const struct store_pos nothing = {0};
    struct bodies *bodies = NULL;

    if (store->pos.applied.lsn != LSN_NONE)
        return error_set(err, ERR_CONFLICT, "there is history here already");
    enum errcode rc =
        bodies_open(store->env, store->kv, &store->cfg, cluster, &bodies, err);
    if (rc != ERR_OK)
        return rc;
    bodies_close(&store->bodies);
    store->bodies = bodies;
    store->cfg.cluster = *cluster;
    /* A crash on the way leaves a log without history, which opening takes for
     * one of any cluster. */
    rc = write_local(store, err);
    if (rc == ERR_OK)
        rc = kv_flush(store->kv, err);
    if (rc != ERR_OK)
        return rc;
    pthread_mutex_lock(&store->pos_lock);
    rc = begin_log_again(store, &nothing, err);
    if (rc == ERR_OK)
        set_mark(store);
    pthread_mutex_unlock(&store->pos_lock);
    return rc;
}

enum errcode
store_join_cluster(struct store *store, const struct instid *cluster,
                   struct error *err)
{
    if (instid_eq(&store->cfg.cluster, cluster))
        return ERR_OK;
    pthread_mutex_lock(&store->checkpoint_lock);
    store_control_begin(store);
    enum errcode rc = join_cluster(store, cluster, err);
    const bool lost = store->log == NULL;
    store_control_end(store);
    pthread_mutex_unlock(&store->checkpoint_lock);
    if (lost)
        store_die(store, err);
    return rc;
}

void
store_log_view(struct store *store, struct store_log_view *ret)
{
    *ret = (struct store_log_view){0};
    pthread_mutex_lock(&store->pos_lock);
    if (store->log == NULL) { /* it could not be made anew: all stops */
        pthread_mutex_unlock(&store->pos_lock);
        return;
    }
    const struct synclog_mark *mark = synclog_mark(store->log);
    *ret = (struct store_log_view){
        .first_lsn = synclog_first(store->log),
        .start_lsn = atomic_load(&mark->start_lsn),
        .seeding = atomic_load(&mark->seeding) != 0,
    };
    memcpy(ret->cluster.b, mark->cluster, INSTANCE_ID_BYTES);
    memcpy(ret->instance.b, mark->instance, INSTANCE_ID_BYTES);
    ret->durable = synclog_durable(store->log, &ret->chain);
    pthread_mutex_unlock(&store->pos_lock);
}
