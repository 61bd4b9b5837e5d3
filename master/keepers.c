/*
 * master/keepers.c - see master/keepers.h.
 *
 * The control socket answers before the index is open, and the index is closed
 * and opened again when the store is exchanged; so tools that want it wait for
 * the main thread here.
 */
#include "master/keepers.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "csync/repair.h"
#include "search/indexer.h"
#include "store/scrub.h"

#define AWAIT_S 10

enum index_state {
    INDEX_AWAITED, /* it is going to be opened, or being opened */
    INDEX_NONE,    /* search_engine */
    INDEX_OPEN,
    INDEX_FAILED,
    INDEX_OVER, /* the instance ends */
};

struct keepers {
    struct env *env;
    const struct config *cfg;
    struct repairer *repairer;
    struct scrub *scrub;
    /* Written under the lock, by the main thread. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum index_state state;
    struct error why; /* INDEX_FAILED */
    uint64_t failed_us;
    struct search_index *index;
    struct indexer *indexer;
};

struct keepers *
keepers_new(struct env *env, const struct config *cfg)
{
    struct keepers *k = xcalloc(1, sizeof(*k));

    k->env = env;
    k->cfg = cfg;
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->changed, NULL);
    return k;
}

void
keepers_free(struct keepers **kp)
{
    struct keepers *k = *kp;

    if (k == NULL)
        return;
    ENSURE(k->index == NULL && k->repairer == NULL);
    pthread_cond_destroy(&k->changed);
    pthread_mutex_destroy(&k->lock);
    xfree(kp);
}

static void
set_state(struct keepers *k, enum index_state state)
{
    pthread_mutex_lock(&k->lock);
    k->state = state;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->lock);
}

/* An index that cannot be opened is missed by nobody but those who wait. */
static void
start_index(struct keepers *k, struct store *store)
{
    struct indexer_options o;
    struct search_index *index = NULL;
    struct error err = {0};
    AUTO(xfree) char *dir = indexer_dir(store);

    if (!indexer_options_from_config(k->cfg, &o)) {
        set_state(k, INDEX_NONE);
        return;
    }
    enum errcode rc = search_index_open(k->env, dir, store, &index, &err);
    if (rc != ERR_OK)
        log_error(NULL, "search.not_opened",
                  "why=\"%s\" then=\"searches read the messages\"", err.text);
    pthread_mutex_lock(&k->lock);
    k->index = index;
    k->why = err;
    k->failed_us = rc == ERR_OK ? 0 : env_wall_us(k->env);
    if (rc == ERR_OK)
        k->indexer = indexer_start(index, store, &o);
    pthread_mutex_unlock(&k->lock);
    set_state(k, rc == ERR_OK ? INDEX_OPEN : INDEX_FAILED);
}

void
keepers_start(struct keepers *k, struct store *store)
{
    const struct scrub_options o = {
        .rate = config_bytes(k->cfg, "scrub_rate"),
        .interval_us = config_duration_s(k->cfg, "scrub_interval") * 1000000,
    };

    k->repairer = repairer_start(k->env, k->cfg, store);
    k->scrub = scrub_start(store, &o);
    start_index(k, store);
}

void
keepers_stop(struct keepers *k)
{
    pthread_mutex_lock(&k->lock);
    struct indexer *indexer = k->indexer;
    struct search_index *index = k->index;
    k->indexer = NULL;
    k->index = NULL;
    if (k->state != INDEX_OVER)
        k->state = INDEX_AWAITED;
    pthread_mutex_unlock(&k->lock);
    indexer_stop(&indexer);
    search_index_close(&index);
    scrub_stop(&k->scrub);
    repairer_stop(&k->repairer);
}

void
keepers_last(struct keepers *k)
{
    set_state(k, INDEX_OVER);
}

struct search_index *const *
keepers_index(struct keepers *k)
{
    return &k->index;
}

/* With the lock. */
static void
await_opening(struct keepers *k)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += AWAIT_S;
    while (k->state == INDEX_AWAITED &&
           pthread_cond_clockwait(&k->changed, &k->lock, CLOCK_MONOTONIC,
                                  &until) == 0)
        ;
}

static enum errcode
opened(const struct keepers *k, struct error *err)
{
    switch (k->state) {
    case INDEX_OPEN:
        return ERR_OK;
    case INDEX_AWAITED:
        return error_set(err, ERR_AGAIN,
                         "the instance is still opening its index, after %d s: "
                         "try again in a while",
                         AWAIT_S);
    case INDEX_NONE:
        return error_set(err, ERR_UNSUPPORTED,
                         "search_engine is none in imapd.conf: there is no "
                         "index");
    case INDEX_FAILED:
        return error_set(err, ERR_IO,
                         "the instance could not open its index (%s): mend "
                         "that, or remove the index, and restart the instance",
                         k->why.text);
    case INDEX_OVER:
        break;
    }
    return error_set(err, ERR_AGAIN, "the instance is stopping");
}

enum errcode
keepers_await_index(void *ctx, struct search_index **ret, struct error *err)
{
    struct keepers *k = ctx;

    pthread_mutex_lock(&k->lock);
    await_opening(k);
    enum errcode rc = opened(k, err);
    if (rc == ERR_OK)
        *ret = k->index;
    pthread_mutex_unlock(&k->lock);
    return rc;
}

/* With the lock. */
static void
look_at_open_index(struct keepers *k, struct metrics_index *ret)
{
    const struct indexer_look look = indexer_look(k->indexer);

    ret->is_open = true;
    ret->is_level = look.level;
    ret->is_failing = look.is_failing;
    if (look.failures > 0)
        snprintf(ret->why, sizeof(ret->why), "%s",
                 errcode_name(look.failed_code));
    ret->waiting = look.waiting;
    ret->left = look.left;
    ret->messages = look.messages;
    ret->skipped = look.skipped;
    ret->read_bytes = look.bytes;
    ret->failures = look.failures;
    ret->failed_us = look.failed_us;
    ret->bytes = search_index_bytes(k->index);
}

void
keepers_look_at_index(struct keepers *k, struct metrics_index *ret)
{
    *ret = (struct metrics_index){0};
    pthread_mutex_lock(&k->lock);
    ret->is_wanted = k->state != INDEX_NONE;
    if (k->state == INDEX_OPEN && k->indexer != NULL) {
        look_at_open_index(k, ret);
    } else if (k->state == INDEX_FAILED) {
        ret->is_failing = true;
        ret->failures = 1;
        ret->failed_us = k->failed_us;
        snprintf(ret->why, sizeof(ret->why), "%s", errcode_name(k->why.code));
    }
    pthread_mutex_unlock(&k->lock);
}
