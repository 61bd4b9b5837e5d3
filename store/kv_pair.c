/*
 * store/kv_pair.c - KV_STATE and KV_CACHE, a database each: DIR/state and
 * DIR/cache.
 *
 * RocksDB stops a database as a whole when a background merge meets a file that
 * is damaged.  For the state that is right.  Derived records are not worth it,
 * so they have a database of their own, which nobody depends on:
 *
 *             opened                     fails: read, load, background
 *   none  ------------> in use  -------------------------------+
 *    ^                                                         v
 *    |   last user gone: closed, cache-condemned removed    condemned:
 *    +----------------------------------------------------- no longer used,
 *                                                 DIR/cache is cache-condemned
 *
 * While there is none every look misses and what is to be kept is dropped.  The
 * rename comes first and is durable before the state goes on: rows that were to
 * be deleted with what failed cannot come back after a crash.  A new one is
 * made only when the old one is closed, by a thread, the keeper, which also
 * asks each second whether the cache is well.
 *
 * The cache belongs to its state: where that begins anew (a rejoin, a rebuilt
 * state) so does the cache, as the same keys may then mean other messages.
 *
 * RocksDB may also end the process over bytes that it does not expect (Debian
 * builds it with its assertions).  So DIR/cache-trial lies there while a cache
 * is opened and for TRIAL_S after; who finds it at the start begins with a new
 * cache.
 */
#include "store/kv_pair.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/env.h"
#include "base/log.h"
#include "store/kv_private.h"
#include "store/kv_table.h"
#include "store/rows.h"

/* A table may take so much memory before it goes to a file. */
#define STATE_TABLE_BYTES ((size_t)64 << 20)
#define CACHE_TABLE_BYTES ((size_t)32 << 20)
#define KEEPER_S 1
#define RETRY_S 10U
#define TRIAL_S 5U

/* One cache: in use, or condemned and waiting for its last user. */
struct derived {
    struct kv *kv;
    unsigned users;
};

struct pair {
    struct kv kv;
    struct kv *state;
    rocksdb_cache_t *blocks;
    char *dir;
    char *path;      /* of the cache */
    char *condemned; /* what it is called then */
    char *trial;

    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    struct derived *cache;   /* NULL: none is in use */
    struct derived *leaving; /* condemned and not closed yet, or NULL */
    bool closing;
    bool is_told;   /* that there is none */
    bool is_behind; /* what is in DIR/cache must not be used */
    bool is_opening;
    pthread_t keeper;
    unsigned age_s; /* keeper's: since it was opened, or tried to be */
};

struct cache_iter {
    struct kv_iter it;
    struct pair *pair;
    struct derived *of;
    struct kv_iter *in; /* NULL: there is no cache */
};

/* ----------------------------------------------------------------- files */

static enum errcode
remove_dir(const char *path, struct error *err)
{
    struct env *env = env_system();
    AUTO(buf_free) struct buf names = BUF_INIT;

    if (!env_exists(env, path))
        return ERR_OK;
    enum errcode rc = env_list(env, path, &names, err);
    for (size_t at = 0; rc == ERR_OK && at < names.n;) {
        const char *name = (const char *)names.p + at;
        AUTO(xfree) char *file = xasprintf("%s/%s", path, name);
        rc = env_unlink(env, file, err);
        at += strlen(name) + 1;
    }
    if (rc == ERR_OK && rmdir(path) != 0)
        rc = error_set_errno(err, errno, "remove %s", path);
    return rc;
}

/* From here on what is in DIR/cache is nobody's, also after a crash. */
static enum errcode
move_away(const struct pair *p, struct error *err)
{
    struct env *env = env_system();

    if (!env_exists(env, p->path))
        return ERR_OK;
    enum errcode rc = remove_dir(p->condemned, err);
    if (rc == ERR_OK)
        rc = env_rename(env, p->path, p->condemned, err);
    if (rc != ERR_OK)
        rc = remove_dir(p->path, err);
    return rc == ERR_OK ? env_syncdir(env, p->dir, err) : rc;
}

/* ------------------------------------------------------------- one cache */

static struct derived *
cache_use(struct pair *p)
{
    pthread_mutex_lock(&p->lock);
    struct derived *d = p->cache;
    if (d != NULL)
        d->users++;
    pthread_mutex_unlock(&p->lock);
    return d;
}

static void
cache_leave(struct pair *p, struct derived *d)
{
    pthread_mutex_lock(&p->lock);
    if (--d->users == 0 && d == p->leaving)
        pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

/* D, which the caller uses, is of no use any more. */
static void
condemn(struct pair *p, struct derived *d, const struct error *why)
{
    struct error err = {0};

    pthread_mutex_lock(&p->lock);
    if (p->cache == d) {
        p->cache = NULL;
        p->leaving = d;
        log_warn(NULL, "store.cache_lost", "why=\"%s\" effect=\"made anew\"",
                 why->text);
        p->is_behind = move_away(p, &err) != ERR_OK;
        if (p->is_behind)
            log_warn(NULL, "store.cache_stays", "why=\"%s\"", err.text);
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
}

static bool
ended_in_trial(const struct pair *p)
{
    if (!env_exists(env_system(), p->trial))
        return false;
    log_notice(NULL, "store.cache_lost",
               "why=\"the instance had ended just after it was opened\" "
               "effect=\"made anew\"");
    return true;
}

/* Rows went nowhere while KV was opened: it is good only if it IS_NEW. */
static enum errcode
cache_take(struct pair *p, struct kv *kv, bool is_new, struct error *err)
{
    struct derived *d = NULL;

    pthread_mutex_lock(&p->lock);
    p->is_opening = false;
    if (kv != NULL && (is_new || !p->is_behind)) {
        d = xcalloc(1, sizeof(*d));
        d->kv = kv;
        p->cache = d;
        p->is_told = p->is_behind = false;
    }
    pthread_mutex_unlock(&p->lock);
    if (kv == NULL)
        return err->code;
    if (d != NULL)
        return ERR_OK;
    kv_close(&kv);
    return error_set(err, ERR_AGAIN, "it fell behind");
}

/* Nobody else opens it: at the start, or in the keeper. */
static enum errcode
cache_open(struct pair *p, struct error *err)
{
    struct env *env = env_system();
    struct kv *kv = NULL;
    enum errcode rc = ERR_OK;

    p->age_s = 0;
    pthread_mutex_lock(&p->lock);
    if (p->is_behind || ended_in_trial(p))
        rc = move_away(p, err);
    p->is_opening = rc == ERR_OK;
    if (rc == ERR_OK)
        p->is_behind = false;
    pthread_mutex_unlock(&p->lock);
    if (rc != ERR_OK)
        return rc;
    /* If that fails it is tried again before the name is needed. */
    (void)!remove_dir(p->condemned, NULL);
    const bool is_new = !env_exists(env, p->path);
    rc = env_write_file_atomic(env, p->trial, SPAN_EMPTY, err);
    if (rc == ERR_OK)
        rc = kv_rocks_one(p->path, "cache database", p->blocks, &kv, err);
    rc = cache_take(p, rc == ERR_OK ? kv : NULL, is_new, err);
    if (rc != ERR_OK)
        (void)!env_unlink(env, p->trial, NULL);
    return rc;
}

/* Open what is there, or else a new one.  If that fails too there is none. */
static void
cache_find(struct pair *p)
{
    struct error why = {0};
    struct error err = {0};

    enum errcode rc = cache_open(p, &why);
    if (rc == ERR_OK)
        return;
    if (rc != ERR_BUSY && rc != ERR_NOSPACE) {
        pthread_mutex_lock(&p->lock);
        rc = move_away(p, &err);
        pthread_mutex_unlock(&p->lock);
        if (rc == ERR_OK)
            rc = cache_open(p, &err);
    }
    if (!p->is_told)
        log_warn(NULL, "store.cache_lost", "why=\"%s\" effect=\"%s\"", why.text,
                 rc == ERR_OK ? "made anew"
                              : "there is none until one can be made");
    p->is_told = rc != ERR_OK;
}

/* ---------------------------------------------------------------- keeper */

/* The lock is held, but not meanwhile. */
static void
ask_cache(struct pair *p)
{
    struct derived *d = p->cache;
    struct error err = {0};

    d->users++;
    pthread_mutex_unlock(&p->lock);
    enum errcode rc = kv_health(d->kv, &err);
    /* A full disk heals. */
    if (rc != ERR_OK && rc != ERR_NOSPACE)
        condemn(p, d, &err);
    if (p->age_s == TRIAL_S)
        (void)!env_unlink(env_system(), p->trial, NULL);
    cache_leave(p, d);
    pthread_mutex_lock(&p->lock);
}

static void
bury(struct pair *p)
{
    struct derived *d = p->leaving;

    p->leaving = NULL;
    pthread_mutex_unlock(&p->lock);
    kv_close(&d->kv);
    free(d);
    (void)!env_unlink(env_system(), p->trial, NULL);
    cache_find(p);
    pthread_mutex_lock(&p->lock);
}

static void
wait_a_second(struct pair *p)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += KEEPER_S;
    if (pthread_cond_timedwait(&p->changed, &p->lock, &at) == ETIMEDOUT)
        p->age_s++;
}

static void *
keeper_main(void *arg)
{
    struct pair *p = arg;

    pthread_mutex_lock(&p->lock);
    while (!p->closing) {
        if (p->leaving != NULL && p->leaving->users == 0) {
            bury(p);
            continue;
        }
        wait_a_second(p);
        if (p->closing || p->leaving != NULL)
            continue;
        if (p->cache != NULL) {
            ask_cache(p);
        } else if (p->age_s >= RETRY_S) {
            pthread_mutex_unlock(&p->lock);
            cache_find(p);
            pthread_mutex_lock(&p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ------------------------------------------------- what kv_front.c asks for */

static enum errcode
cache_get(struct pair *p, struct span key, struct buf *ret, struct error *err)
{
    struct derived *d = cache_use(p);
    struct error own = {0};

    if (d == NULL)
        return error_set(err, ERR_NOTFOUND, "no cache");
    enum errcode rc = d->kv->ops->get(d->kv, NULL, KV_CACHE, key, ret, &own);
    if (rc != ERR_OK && rc != ERR_NOTFOUND) {
        condemn(p, d, &own);
        rc = ERR_NOTFOUND;
    }
    cache_leave(p, d);
    return rc == ERR_OK ? ERR_OK : error_set(err, rc, "%s", own.text);
}

static enum errcode
pair_get(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
         struct span key, struct buf *ret, struct error *err)
{
    struct pair *p = (struct pair *)kv;

    return f == KV_CACHE ? cache_get(p, key, ret, err)
                         : kv_get(p->state, snap, f, key, ret, err);
}

static struct kv_snap *
pair_snapshot(struct kv *kv)
{
    return kv_snapshot(((struct pair *)kv)->state);
}

static void
pair_release(struct kv *kv, struct kv_snap *snap)
{
    kv_release(((struct pair *)kv)->state, &snap);
}

/* Only rows that are gone need to be: those that are put may be lost. */
static bool
has_deletions(const struct kv_table *table)
{
    struct kv_place at = {.seq = UINT64_MAX};
    bool more = kv_table_seek(table, SPAN_EMPTY, &at);

    while (more && at.is_put)
        more = kv_table_next(&at);
    return more;
}

/* There is none now, and what would go there goes nowhere: so what may still
 * lie in DIR/cache is not to be opened later. */
static void
cache_falls_behind(struct pair *p)
{
    struct error err = {0};

    pthread_mutex_lock(&p->lock);
    if (p->cache == NULL && p->leaving == NULL && !p->is_behind) {
        p->is_behind = true;
        if (!p->is_opening && move_away(p, &err) != ERR_OK)
            log_warn(NULL, "store.cache_stays", "why=\"%s\"", err.text);
    }
    pthread_mutex_unlock(&p->lock);
}

static enum errcode
cache_load(struct pair *p, const struct kv_table *table, struct error *err)
{
    struct derived *d = cache_use(p);
    struct error own = {0};

    if (d == NULL) {
        cache_falls_behind(p);
        return ERR_OK;
    }
    enum errcode rc = d->kv->ops->load(d->kv, KV_CACHE, table, &own);
    /* Waiting for merges is right only while there are merges. */
    if (rc == ERR_AGAIN) {
        struct error sick = {0};
        rc = kv_health(d->kv, &sick);
        if (rc == ERR_OK)
            rc = error_set(err, ERR_AGAIN, "%s", own.text);
        else
            own = sick;
    }
    if (rc != ERR_OK && rc != ERR_AGAIN) {
        if (rc != ERR_NOSPACE || has_deletions(table))
            condemn(p, d, &own);
        rc = ERR_OK;
    }
    cache_leave(p, d);
    return rc;
}

static enum errcode
pair_load(struct kv *kv, enum kv_family f, const struct kv_table *table,
          struct error *err)
{
    struct pair *p = (struct pair *)kv;

    return f == KV_CACHE ? cache_load(p, table, err)
                         : p->state->ops->load(p->state, f, table, err);
}

static bool
cache_iter_next(struct kv_iter *kvit, struct span *ret_key,
                struct span *ret_value)
{
    struct cache_iter *it = (struct cache_iter *)kvit;

    return it->in != NULL && kv_iter_next(it->in, ret_key, ret_value);
}

static void
cache_iter_seek(struct kv_iter *kvit, struct span key)
{
    struct cache_iter *it = (struct cache_iter *)kvit;

    if (it->in != NULL)
        kv_iter_seek(it->in, key);
}

/* What it did not come to is as good as gone: all of it goes. */
static enum errcode
cache_iter_close(struct kv_iter *kvit, struct error *err)
{
    struct cache_iter *it = (struct cache_iter *)kvit;
    struct error own = {0};

    (void)err;
    if (it->in != NULL) {
        if (kv_iter_close(&it->in, &own) != ERR_OK)
            condemn(it->pair, it->of, &own);
        cache_leave(it->pair, it->of);
    }
    free(it);
    return ERR_OK;
}

static const struct kv_ops cache_iter_ops = {
    .iter_next = cache_iter_next,
    .iter_seek = cache_iter_seek,
    .iter_close = cache_iter_close,
};

static struct kv_iter *
pair_iter_open(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
               struct span prefix, struct span from)
{
    struct pair *p = (struct pair *)kv;

    if (f == KV_STATE)
        return kv_iter_open(p->state, snap, f, prefix, from);
    struct cache_iter *it = xcalloc(1, sizeof(*it));
    it->it.ops = &cache_iter_ops;
    it->pair = p;
    it->of = cache_use(p);
    if (it->of != NULL)
        it->in = kv_iter_open(it->of->kv, NULL, f, prefix, from);
    return &it->it;
}

static enum errcode
pair_disk_iter(struct kv *kv, struct span from, struct kv_iter **ret,
               struct error *err)
{
    return kv_disk_iter(((struct pair *)kv)->state, from, ret, err);
}

static enum errcode
pair_health(struct kv *kv, struct error *err)
{
    return kv_health(((struct pair *)kv)->state, err);
}

static uint64_t
pair_property(struct kv *kv, const char *name)
{
    return kv_property(((struct pair *)kv)->state, name);
}

static void
pair_free(struct pair *p)
{
    if (p->cache != NULL)
        kv_close(&p->cache->kv);
    if (p->leaving != NULL)
        kv_close(&p->leaving->kv);
    free(p->cache);
    free(p->leaving);
    kv_close(&p->state);
    rocksdb_cache_destroy(p->blocks);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p->dir);
    free(p->path);
    free(p->condemned);
    free(p->trial);
    free(p);
}

static void
pair_close(struct kv *kv)
{
    struct pair *p = (struct pair *)kv;

    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->keeper, NULL);
    ENSURE(p->cache == NULL || p->cache->users == 0);
    if (p->cache != NULL)
        (void)!env_unlink(env_system(), p->trial, NULL);
    pair_free(p);
}

static const struct kv_ops pair_ops = {
    .close = pair_close,
    .get = pair_get,
    .snapshot = pair_snapshot,
    .release = pair_release,
    .iter_open = pair_iter_open,
    .health = pair_health,
    .property = pair_property,
    .load = pair_load,
    .disk_iter = pair_disk_iter,
};

static struct pair *
pair_new(const char *dir, uint64_t cache_bytes)
{
    struct pair *p = xcalloc(1, sizeof(*p));
    pthread_condattr_t attr;

    p->kv.ops = &pair_ops;
    p->dir = xstrdup(dir);
    p->path = xasprintf("%s/cache", dir);
    p->condemned = xasprintf("%s/cache-condemned", dir);
    p->trial = xasprintf("%s/cache-trial", dir);
    p->blocks = rocksdb_cache_create_lru(cache_bytes);
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attr);
    pthread_condattr_destroy(&attr);
    return p;
}

enum errcode
kv_rocks_below(const char *dir, uint64_t cache_bytes, struct kv **ret,
               struct error *err)
{
    struct env *env = env_system();
    AUTO(xfree) char *state = xasprintf("%s/state", dir);
    AUTO(xfree) char *current = xasprintf("%s/state/CURRENT", dir);

    enum errcode rc = env_mkdirs(env, state, err);
    if (rc != ERR_OK)
        return error_prefix(err, "state database");
    struct pair *p = pair_new(dir, cache_bytes);
    if (!env_exists(env, current))
        rc = move_away(p, err);
    if (rc == ERR_OK)
        rc = kv_rocks_one(state, "state database", p->blocks, &p->state, err);
    if (rc != ERR_OK) {
        pair_free(p);
        return rc;
    }
    cache_find(p);
    ENSURE(pthread_create(&p->keeper, NULL, keeper_main, p) == 0);
    *ret = &p->kv;
    return ERR_OK;
}

enum errcode
kv_open_rocks(const char *dir, uint64_t cache_bytes, struct kv **ret,
              struct error *err)
{
    static const struct kv_front_limits limits = {
        .bytes =
            {[KV_STATE] = STATE_TABLE_BYTES, [KV_CACHE] = CACHE_TABLE_BYTES},
        .kept_table = TAB_NAME};
    struct kv *below = NULL;

    enum errcode rc = kv_rocks_below(dir, cache_bytes, &below, err);
    if (rc == ERR_OK)
        *ret = kv_front_open(below, &limits);
    return rc;
}
