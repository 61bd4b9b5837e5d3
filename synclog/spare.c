/*
 * synclog/spare.c - the next segment's file, made before it is needed.
 *
 * A helper thread creates DIR/tmp-next and allocates its space, so that neither
 * the time that takes nor a full disk meets a commit.  Where the disk is full
 * the helper tries again every second; a writer that needs the file meanwhile
 * tries at once, by itself, and so does a log without helper (simulations).
 *
 *   WANTED --> MAKING --> READY --> TAKEN --> WANTED
 *     ^           |         |        ^
 *     +-- FAILED <+---------+--------+ (the writer makes it itself)
 *
 * Space that is only allocated makes every sync dearer that first writes to it:
 * the file system has to note that it holds something now, and its pages are
 * not in memory.  So when the segment before is a quarter full the helper
 * writes zeros over the file that is READY, a piece at a time with rests, so
 * that no commit waits long behind them.  They are what reads there anyway, so
 * nothing depends on how far it got; but not one may be written after the file
 * was given out, which is what `filling` and the lock are for.
 */
#include "synclog/synclog_private.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define RETRY_SECONDS 1
#define NS_PER_MS 1000000L
#define NS_PER_S 1000000000L
/* Of zeros, at a time and synced; then a rest of ten times what that takes on
 * a good disk: some 80 MiB a second, twice what the log takes in a rush. */
#define FILL_BYTES ((size_t)1 << 20)
#define FILL_REST_MS 10

enum spare_state {
    SPARE_WANTED,
    SPARE_MAKING,
    SPARE_READY,
    SPARE_TAKEN,
    SPARE_FAILED,
};

struct spare {
    struct env *env;
    char *path;
    uint64_t bytes;
    bool helper;
    pthread_t thread;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    enum spare_state state;
    bool stop;
    struct envfile *file; /* while READY */
    bool fill;            /* zeros are wanted in it */
    bool filling;         /* the helper is writing some, without the lock */
    uint64_t filled;      /* so far */
};

static enum errcode
make_file(struct spare *s, uint64_t bytes, struct envfile **ret,
          struct error *err)
{
    AUTO(env_close) struct envfile *f = NULL;

    enum errcode rc = env_unlink(s->env, s->path, err);
    if (rc == ERR_OK)
        rc = env_open(s->env, s->path, ENV_NEW, &f, err);
    if (rc != ERR_OK)
        return rc;
    rc = env_fallocate(f, 0, bytes, err);
    if (rc != ERR_OK) {
        struct error ignored = {0};
        if (env_unlink(s->env, s->path, &ignored) != ERR_OK)
            return rc; /* the name stays; the next try begins with it */
        return rc;
    }
    *ret = f;
    f = NULL;
    return ERR_OK;
}

static void
wait_for_retry(struct spare *s)
{
    struct timespec until;

    ENSURE(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_sec += RETRY_SECONDS;
    while (!s->stop && s->state == SPARE_FAILED)
        if (pthread_cond_timedwait(&s->changed, &s->lock, &until) == ETIMEDOUT)
            break;
    if (s->state == SPARE_FAILED)
        s->state = SPARE_WANTED;
}

static void
rest(struct spare *s, long ms)
{
    struct timespec until;

    ENSURE(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_nsec += ms * NS_PER_MS;
    until.tv_sec += until.tv_nsec / NS_PER_S;
    until.tv_nsec %= NS_PER_S;
    while (!s->stop && s->state == SPARE_READY)
        if (pthread_cond_timedwait(&s->changed, &s->lock, &until) == ETIMEDOUT)
            break;
}

/* The next zeros into the file that is READY.  The lock is held, but not
 * meanwhile. */
static void
fill_some(struct spare *s, const uint8_t *zeros)
{
    struct error err = {0};
    struct envfile *f = s->file;
    const uint64_t at = s->filled;
    const size_t n = (size_t)MIN(s->bytes - at, (uint64_t)FILL_BYTES);

    s->filling = true;
    pthread_mutex_unlock(&s->lock);
    enum errcode rc = env_pwrite(f, zeros, n, at, &err);
    if (rc == ERR_OK)
        rc = env_fdatasync(f, &err);
    pthread_mutex_lock(&s->lock);
    s->filling = false;
    s->filled = at + n;
    if (rc != ERR_OK) {
        /* Of a file whose sync has failed nothing is known: another one. */
        env_close(&s->file);
        s->state = SPARE_FAILED;
    }
    pthread_cond_broadcast(&s->changed);
    if (rc == ERR_OK)
        rest(s, FILL_REST_MS);
}

static void *
helper_main(void *arg)
{
    struct spare *s = arg;
    uint8_t *zeros = xcalloc(1, FILL_BYTES);

    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (s->state == SPARE_FAILED) {
            wait_for_retry(s);
        } else if (s->state == SPARE_READY && s->fill && s->filled < s->bytes) {
            fill_some(s, zeros);
        } else if (s->state == SPARE_WANTED) {
            struct error err = {0};
            struct envfile *f = NULL;
            s->state = SPARE_MAKING;
            pthread_mutex_unlock(&s->lock);
            enum errcode rc = make_file(s, s->bytes, &f, &err);
            pthread_mutex_lock(&s->lock);
            s->file = f;
            s->filled = 0;
            s->state = rc == ERR_OK ? SPARE_READY : SPARE_FAILED;
            pthread_cond_broadcast(&s->changed);
        } else {
            pthread_cond_wait(&s->changed, &s->lock);
        }
    }
    pthread_mutex_unlock(&s->lock);
    free(zeros);
    return NULL;
}

struct spare *
spare_new(struct env *env, const char *dir, uint64_t bytes, bool helper)
{
    struct spare *s = xcalloc(1, sizeof(*s));
    pthread_condattr_t attr;

    s->env = env;
    s->path = xasprintf("%s/tmp-next", dir);
    s->bytes = bytes;
    ENSURE(pthread_mutex_init(&s->lock, NULL) == 0);
    ENSURE(pthread_condattr_init(&attr) == 0);
    ENSURE(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ENSURE(pthread_cond_init(&s->changed, &attr) == 0);
    pthread_condattr_destroy(&attr);
    /* Without a thread to be had the writer makes its files itself. */
    s->helper = helper && pthread_create(&s->thread, NULL, helper_main, s) == 0;
    return s;
}

void
spare_free(struct spare **sp)
{
    struct spare *s = *sp;

    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->helper)
        pthread_join(s->thread, NULL);
    if (s->file != NULL) {
        struct error ignored = {0};
        env_close(&s->file);
        if (env_unlink(s->env, s->path, &ignored) != ERR_OK)
            ignored.code = ERR_OK; /* the next opening removes it */
    }
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    xfree(&s->path);
    xfree(sp);
}

enum errcode
spare_take(struct spare *s, uint64_t bytes, struct envfile **ret,
           const char **ret_path, struct error *err)
{
    struct envfile *f = NULL;
    enum errcode rc = ERR_OK;

    pthread_mutex_lock(&s->lock);
    ENSURE(s->state != SPARE_TAKEN);
    while (s->state == SPARE_MAKING || s->filling)
        pthread_cond_wait(&s->changed, &s->lock);
    f = s->file;
    s->file = NULL;
    s->fill = false;
    s->state = SPARE_TAKEN;
    pthread_mutex_unlock(&s->lock);

    if (f == NULL)
        rc = make_file(s, MAX(bytes, s->bytes), &f, err);
    else if (bytes > s->bytes)
        rc = env_fallocate(f, 0, bytes, err);
    if (rc != ERR_OK) {
        env_close(&f);
        pthread_mutex_lock(&s->lock);
        s->state = SPARE_FAILED;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
        error_prefix(err, "make the next segment");
        return rc;
    }
    *ret = f;
    *ret_path = s->path;
    return ERR_OK;
}

void
spare_fill(struct spare *s)
{
    pthread_mutex_lock(&s->lock);
    if (!s->fill) {
        s->fill = true;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
}

uint64_t
spare_filled(struct spare *s)
{
    pthread_mutex_lock(&s->lock);
    const uint64_t filled = s->state == SPARE_READY ? s->filled : 0;
    pthread_mutex_unlock(&s->lock);
    return filled;
}

void
spare_taken(struct spare *s)
{
    pthread_mutex_lock(&s->lock);
    ENSURE(s->state == SPARE_TAKEN);
    s->state = SPARE_WANTED;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}
