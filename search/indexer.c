/*
 * search/indexer.c - which mailboxes to look at, and when.
 *
 * The store's writer says which mailboxes change (store_follow()); they gather
 * in a small set, and a little later each is brought level.  When the set is
 * full, at the start, and when the state was replaced (a seed), all mailboxes
 * are looked at instead.  That costs one row of the state and one of the index
 * for each that is level, so no position in the log has to be kept, and no
 * segment of it waits for us.
 *
 * A few new messages are not worth a segment: they are read by who searches,
 * until there are `batch` of them.
 */
#include "search/indexer.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/env.h"
#include "base/log.h"
#include "search/behind.h"

#define DIRTY_MAX 4096U /* a power of two */
#define GATHER_MS 200
#define LOOK_MS 10000  /* has the state been replaced? */
#define AGAIN_MS 60000 /* after a full disk */
#define NICE 10

struct ids {
    mbid_t *id;
    size_t n, cap;
};

struct indexer {
    struct search_index *index;
    struct store *store;
    struct indexer_options o;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Atomic bool stop;
    /* Under the lock. */
    mbid_t slots[DIRTY_MAX]; /* by hash; 0: free */
    size_t ndirty;
    bool all;
    bool busy;
    struct indexer_look done;
    /* The thread's. */
    lsn_t start_lsn; /* where the log began */
    struct behind left;
    /* Of what is under way. */
    _Atomic size_t under_way;
};

static void
add_id(struct ids *ids, mbid_t id)
{
    if (ids->n == ids->cap) {
        ids->cap = ids->cap == 0 ? 64 : ids->cap * 2;
        ids->id = xrealloc(ids->id, ids->cap * sizeof(ids->id[0]));
    }
    ids->id[ids->n++] = id;
}

/* In the writer's thread. */
static void
on_change(void *ctx, mbid_t id)
{
    struct indexer *ix = ctx;

    if (id == 0)
        return;
    pthread_mutex_lock(&ix->lock);
    size_t i = (size_t)(id * UINT64_C(0x9E3779B97F4A7C15) >> 40) % DIRTY_MAX;
    while (ix->slots[i] != 0 && ix->slots[i] != id)
        i = (i + 1) % DIRTY_MAX;
    if (ix->slots[i] == 0 && !ix->all) {
        ix->slots[i] = id;
        if (++ix->ndirty == 1)
            pthread_cond_signal(&ix->wake);
        ix->all = ix->ndirty >= DIRTY_MAX / 2;
    }
    pthread_mutex_unlock(&ix->lock);
}

/* With the lock. */
static void
rest(struct indexer *ix, int ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    (void)pthread_cond_clockwait(&ix->wake, &ix->lock, CLOCK_MONOTONIC, &until);
}

/* ---- what to look at --------------------------------------------------- */

static bool
take_mailbox(void *ctx, const struct mailbox *mb)
{
    add_id(ctx, mb->id);
    return true;
}

static void
take_known(void *ctx, mbid_t id)
{
    add_id(ctx, id);
}

static enum errcode
gather_all(struct indexer *ix, struct ids *ids, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(ix->store);
    enum errcode rc = snap_each_mailbox(snap, "", take_mailbox, ids, err);

    /* Those that are gone are to be forgotten. */
    return rc == ERR_OK ? search_each_mailbox(ix->index, take_known, ids, err)
                        : rc;
}

static void
look_for_new_state(struct indexer *ix)
{
    struct store_log_view log;

    store_log_view(ix->store, &log);
    if (log.start_lsn != ix->start_lsn)
        ix->all = true;
    ix->start_lsn = log.start_lsn;
}

/* What has gathered, emptied; false: stop.  *RET_ALL: all mailboxes. */
static bool
await(struct indexer *ix, struct ids *ids, bool *ret_all)
{
    pthread_mutex_lock(&ix->lock);
    ix->busy = false;
    while (!atomic_load(&ix->stop) && !ix->all && ix->ndirty == 0) {
        rest(ix, LOOK_MS);
        look_for_new_state(ix);
    }
    /* Let some more gather. */
    if (!atomic_load(&ix->stop) && !ix->all)
        rest(ix, GATHER_MS);
    *ret_all = ix->all;
    for (size_t i = 0; i < DIRTY_MAX; i++)
        if (ix->slots[i] != 0 && !ix->all)
            add_id(ids, ix->slots[i]);
    memset(ix->slots, 0, sizeof(ix->slots));
    ix->ndirty = 0;
    ix->all = false;
    ix->busy = true;
    pthread_mutex_unlock(&ix->lock);
    return !atomic_load(&ix->stop);
}

/* ---- the thread -------------------------------------------------------- */

static bool
is_stopped(void *ctx)
{
    const struct indexer *ix = ctx;

    return atomic_load(&ix->stop);
}

static void
trouble(struct indexer *ix, const struct error *why)
{
    struct error err = {0};

    if (why->code == ERR_CLOSED)
        return;
    log_warn(NULL, "search.index_failed",
             "code=%s why=\"%s\" then=\"messages are read; all is looked at "
             "again\"",
             errcode_name(why->code), why->text);
    if ((why->code == ERR_CORRUPT || search_index_is_broken(ix->index)) &&
        search_index_is_broken(ix->index) &&
        search_index_reset(ix->index, &err) != ERR_OK)
        log_error(NULL, "search.index_lost", "why=\"%s\"", err.text);
    pthread_mutex_lock(&ix->lock);
    ix->done.failures++;
    ix->done.is_failing = true;
    ix->done.failed_code = why->code;
    ix->done.failed_us = env_wall_us(env_system());
    ix->busy = false;
    if (why->code != ERR_CORRUPT && !atomic_load(&ix->stop))
        rest(ix, AGAIN_MS);
    ix->all = true;
    pthread_mutex_unlock(&ix->lock);
}

/* Each of IDS is brought level; LEFT is told what it lacks then. */
static enum errcode
update_each(struct indexer *ix, const struct ids *ids, struct behind *left,
            struct search_done *done, struct error *err)
{
    const struct search_wish wish = {
        .least = ix->o.batch, .stop = is_stopped, .stop_ctx = ix};
    enum errcode rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < ids->n; i++) {
        atomic_store(&ix->under_way, ids->n - i);
        uint64_t before = done->left;
        rc = search_update(ix->index, ids->id[i], &wish, done, err);
        if (rc == ERR_OK)
            behind_set(left, ids->id[i], done->left - before);
    }
    atomic_store(&ix->under_way, 0);
    return rc;
}

static void
work(struct indexer *ix, struct ids *ids, bool all)
{
    struct search_done done = {0};
    struct behind fresh = {0};
    struct error err = {0};
    enum errcode rc = all ? gather_all(ix, ids, &err) : ERR_OK;

    if (rc == ERR_OK)
        rc = update_each(ix, ids, all ? &fresh : &ix->left, &done, &err);
    if (all && rc == ERR_OK) {
        behind_free(&ix->left);
        ix->left = fresh;
    } else {
        behind_free(&fresh);
    }
    pthread_mutex_lock(&ix->lock);
    if (rc == ERR_OK)
        ix->done.is_failing = false;
    ix->done.left = ix->left.total;
    ix->done.messages += done.messages;
    ix->done.skipped += done.skipped;
    ix->done.bytes += done.bytes;
    ix->done.passes += all && rc == ERR_OK;
    pthread_mutex_unlock(&ix->lock);
    if (all && done.messages > 0)
        log_info(NULL, "search.level",
                 "mailboxes=%zu messages=%" PRIu64 " skipped=%" PRIu64
                 " bytes=%" PRIu64,
                 ids->n, done.messages, done.skipped, done.bytes);
    if (rc != ERR_OK)
        trouble(ix, &err);
}

static void *
run(void *arg)
{
    struct indexer *ix = arg;
    struct ids ids = {0};
    bool all = false;

    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    while (await(ix, &ids, &all)) {
        work(ix, &ids, all);
        ids.n = 0;
    }
    free(ids.id);
    behind_free(&ix->left);
    return NULL;
}

/* ---- from outside ------------------------------------------------------ */

bool
indexer_options_from_config(const struct config *cfg,
                            struct indexer_options *ret)
{
    enum { NONE }; /* of search_engine */
    const int64_t batch = config_int(cfg, "search_batchsize");

    ret->batch = (uint32_t)MAX((int64_t)1, MIN(batch, (int64_t)100000));
    return config_enum(cfg, "search_engine") != NONE;
}

char *
indexer_dir(const struct store *store)
{
    return xasprintf("%s/search", store_dir(store));
}

struct indexer *
indexer_start(struct search_index *index, struct store *store,
              const struct indexer_options *o)
{
    struct indexer *ix = xcalloc(1, sizeof(*ix));
    struct store_log_view log;

    store_log_view(store, &log);
    ix->index = index;
    ix->store = store;
    ix->o = *o;
    ix->all = true;
    ix->busy = true;
    ix->start_lsn = log.start_lsn;
    pthread_mutex_init(&ix->lock, NULL);
    pthread_cond_init(&ix->wake, NULL);
    store_follow(store, on_change, ix);
    ENSURE(pthread_create(&ix->thread, NULL, run, ix) == 0);
    return ix;
}

void
indexer_stop(struct indexer **ixp)
{
    struct indexer *ix = *ixp;

    if (ix == NULL)
        return;
    store_follow(ix->store, NULL, NULL);
    pthread_mutex_lock(&ix->lock);
    atomic_store(&ix->stop, true);
    pthread_cond_signal(&ix->wake);
    pthread_mutex_unlock(&ix->lock);
    pthread_join(ix->thread, NULL);
    pthread_mutex_destroy(&ix->lock);
    pthread_cond_destroy(&ix->wake);
    xfree(ixp);
}

struct indexer_look
indexer_look(struct indexer *ix)
{
    pthread_mutex_lock(&ix->lock);
    struct indexer_look look = ix->done;
    look.waiting = ix->ndirty + atomic_load(&ix->under_way);
    look.level = !ix->busy && !ix->all && ix->ndirty == 0;
    pthread_mutex_unlock(&ix->lock);
    return look;
}

void
indexer_wake(struct indexer *ix)
{
    pthread_mutex_lock(&ix->lock);
    ix->all = true;
    pthread_cond_signal(&ix->wake);
    pthread_mutex_unlock(&ix->lock);
}
