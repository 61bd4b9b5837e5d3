/*
 * net/reactor.c - how a turn goes, and how everything ends.
 *
 * Each reactor runs libevent one round at a time (EVLOOP_ONCE) and then the
 * deferred calls.  Posts go into an array under a lock; the loop swaps it for
 * an empty one, so a post allocates nothing once the arrays have grown.  The
 * eventfd is written only for the first post into an empty array, and outside
 * the lock: who is woken by it would only wait for the lock.  Posts are taken
 * out only when it was written for them, so the descriptor can be closed after
 * the last post was run.
 *
 * Timers are a binary heap of embedded structs with one libevent timer for its
 * head; a connection's timeout thus costs 32 bytes and moving it a few
 * comparisons.
 *
 * A reactor ends when it was told to and has no guests, holds, posts or
 * deferred calls left.  Holds are given back on its own thread (through a post
 * from elsewhere), so that test needs no lock but that of the posts.
 */
#include "net/reactor.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/env.h"

struct posts {
    struct reactor_call *calls;
    size_t n;
    size_t cap;
};

/* An array that a burst has made larger than this is not kept. */
#define POSTS_KEEP 4096

struct reactor {
    struct reactor_pool *pool;
    unsigned index;
    pthread_t thread;
    bool started;
    struct event_base *base;
    int wake_fd;
    struct event *wake_ev;
    pthread_mutex_t lock;
    struct posts posts;               /* under lock */
    struct posts spare;               /* the loop's */
    struct reactor_deferred deferred; /* head of a ring */
    struct reactor_timer **heap;
    size_t heap_n;
    size_t heap_cap;
    struct event *timer_ev;
    uint64_t timer_ev_at_ms;     /* 0: not set */
    struct reactor_guest guests; /* head of a ring */
    atomic_size_t nguests;
    atomic_size_t holds;
    struct reactor_timer grace;
    bool told; /* guests were asked to end */
    bool end;  /* end when nothing is left */
};

struct job {
    struct job *next;
    struct reactor *r;
    void (*work)(void *ctx);
    void (*done)(void *ctx);
    void *ctx;
};

struct reactor_pool {
    struct reactor *reactors;
    unsigned nreactors;
    atomic_uint turn; /* where reactor_pool_least() looks first */
    atomic_bool stopping;
    unsigned grace_ms;
    pthread_t *workers;
    unsigned nworkers;
    pthread_mutex_t jobs_lock;
    pthread_cond_t jobs_cond;
    struct job *jobs;
    struct job **jobs_end;
    bool workers_quit;
};

static _Thread_local struct reactor *current;

/* Between reactor_gather_begin() and _end(): whom this thread has to wake.
 * Nobody takes out what waits for that, so each is in it once at most, and none
 * of them ends. */
#define GATHER_MAX 64U
static _Thread_local struct {
    bool on;
    size_t n;
    int wake_fds[GATHER_MAX];
} gathered;

struct reactor *
reactor_current(void)
{
    return current;
}

uint64_t
reactor_now_ms(const struct reactor *r)
{
    (void)r;
    return env_mono_ns(env_system()) / 1000000;
}

/* ---- posts ---- */

static void
posts_add(struct posts *p, const struct reactor_call *calls, size_t n)
{
    if (p->n + n > p->cap) {
        p->cap = MAX(p->cap * 2, MAX(p->n + n, (size_t)64));
        p->calls = xrealloc(p->calls, p->cap * sizeof(p->calls[0]));
    }
    memcpy(p->calls + p->n, calls, n * sizeof(calls[0]));
    p->n += n;
}

static void
write_wake(int wake_fd)
{
    const uint64_t one = 1;
    ssize_t written;

    do {
        written = write(wake_fd, &one, sizeof(one));
    } while (written < 0 && errno == EINTR);
    ENSURE(written == sizeof(one));
}

void
reactor_post_many(struct reactor *r, const struct reactor_call *calls, size_t n)
{
    if (n == 0)
        return;
    pthread_mutex_lock(&r->lock);
    bool wake = r->posts.n == 0;
    posts_add(&r->posts, calls, n);
    const int wake_fd = r->wake_fd;
    pthread_mutex_unlock(&r->lock);
    if (!wake)
        return; /* R may be gone */
    if (gathered.on && gathered.n < GATHER_MAX)
        gathered.wake_fds[gathered.n++] = wake_fd;
    else
        write_wake(wake_fd);
}

void
reactor_gather_begin(void)
{
    ENSURE(!gathered.on);
    gathered.on = true;
}

void
reactor_gather_end(void)
{
    ENSURE(gathered.on);
    gathered.on = false;
    for (size_t i = 0; i < gathered.n; i++)
        write_wake(gathered.wake_fds[i]);
    gathered.n = 0;
}

void
reactor_post(struct reactor *r, void (*fn)(void *ctx), void *ctx)
{
    reactor_post_many(r, &(struct reactor_call){fn, ctx}, 1);
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct reactor *r = arg;
    uint64_t count;

    (void)what;
    pthread_mutex_lock(&r->lock);
    /* Emptied under the lock: the next post into the empty array wakes anew. */
    ssize_t got = read(fd, &count, sizeof(count));
    (void)got; /* EAGAIN is as good */
    struct posts taken = r->posts;
    r->posts = r->spare;
    pthread_mutex_unlock(&r->lock);

    r->spare = (struct posts){0};
    for (size_t i = 0; i < taken.n; i++)
        taken.calls[i].fn(taken.calls[i].ctx);
    taken.n = 0;
    if (taken.cap > POSTS_KEEP) {
        free(taken.calls);
        taken = (struct posts){0};
    }
    r->spare = taken;
}

static bool
posts_empty(struct reactor *r)
{
    pthread_mutex_lock(&r->lock);
    bool empty = r->posts.n == 0;
    pthread_mutex_unlock(&r->lock);
    return empty;
}

/* ---- holds and work ---- */

void
reactor_hold(struct reactor *r)
{
    atomic_fetch_add(&r->holds, 1);
}

static void
release_here(void *ctx)
{
    struct reactor *r = ctx;
    size_t before = atomic_fetch_sub(&r->holds, 1);
    ENSURE(before > 0);
}

void
reactor_release(struct reactor *r)
{
    if (current == r)
        release_here(r);
    else
        reactor_post(r, release_here, r);
}

static void
job_done(void *ctx)
{
    struct job *job = ctx;

    job->done(job->ctx);
    release_here(job->r);
    free(job);
}

void
reactor_work(struct reactor *r, void (*work)(void *ctx),
             void (*done)(void *ctx), void *ctx)
{
    struct reactor_pool *pool = r->pool;
    struct job *job = xmalloc(sizeof(*job));

    *job = (struct job){.r = r, .work = work, .done = done, .ctx = ctx};
    reactor_hold(r);
    pthread_mutex_lock(&pool->jobs_lock);
    *pool->jobs_end = job;
    pool->jobs_end = &job->next;
    pthread_cond_signal(&pool->jobs_cond);
    pthread_mutex_unlock(&pool->jobs_lock);
}

static void *
worker_main(void *arg)
{
    struct reactor_pool *pool = arg;

    pthread_mutex_lock(&pool->jobs_lock);
    for (;;) {
        struct job *job = pool->jobs;
        if (job == NULL) {
            if (pool->workers_quit)
                break;
            pthread_cond_wait(&pool->jobs_cond, &pool->jobs_lock);
            continue;
        }
        pool->jobs = job->next;
        if (pool->jobs == NULL)
            pool->jobs_end = &pool->jobs;
        pthread_mutex_unlock(&pool->jobs_lock);
        job->work(job->ctx);
        reactor_post(job->r, job_done, job);
        pthread_mutex_lock(&pool->jobs_lock);
    }
    pthread_mutex_unlock(&pool->jobs_lock);
    return NULL;
}

/* ---- timers ---- */

static void
heap_put(struct reactor *r, size_t i, struct reactor_timer *t)
{
    r->heap[i] = t;
    t->slot = i + 1;
}

static void
heap_up(struct reactor *r, size_t i)
{
    struct reactor_timer *t = r->heap[i];

    while (i > 0 && r->heap[(i - 1) / 2]->at_ms > t->at_ms) {
        heap_put(r, i, r->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(r, i, t);
}

static void
heap_down(struct reactor *r, size_t i)
{
    struct reactor_timer *t = r->heap[i];

    for (size_t child; (child = 2 * i + 1) < r->heap_n; i = child) {
        if (child + 1 < r->heap_n &&
            r->heap[child + 1]->at_ms < r->heap[child]->at_ms)
            child++;
        if (r->heap[child]->at_ms >= t->at_ms)
            break;
        heap_put(r, i, r->heap[child]);
    }
    heap_put(r, i, t);
}

/* See that the loop wakes for the head.  An event that comes too early is
 * harmless, so it is moved only when the head is earlier. */
static void
timer_arm(struct reactor *r)
{
    if (r->heap_n == 0)
        return;
    uint64_t at = r->heap[0]->at_ms;
    if (r->timer_ev_at_ms != 0 && r->timer_ev_at_ms <= at)
        return;
    uint64_t now = reactor_now_ms(r);
    uint64_t wait = at > now ? at - now : 0;
    struct timeval tv = {.tv_sec = (time_t)(wait / 1000),
                         .tv_usec = (suseconds_t)(wait % 1000 * 1000)};
    r->timer_ev_at_ms = at;
    evtimer_add(r->timer_ev, &tv);
}

void
reactor_timer_set(struct reactor *r, struct reactor_timer *t, uint64_t after_ms,
                  void (*fn)(void *ctx), void *ctx)
{
    ENSURE(current == r);
    uint64_t now = reactor_now_ms(r);
    /* A year is for ever, and keeps the sum in range. */
    uint64_t year_ms = (uint64_t)365 * 86400 * 1000;

    t->at_ms = now + MIN(after_ms, year_ms);
    t->fn = fn;
    t->ctx = ctx;
    if (t->slot == 0) {
        if (r->heap_n == r->heap_cap) {
            r->heap_cap = MAX(r->heap_cap * 2, (size_t)64);
            r->heap = xrealloc(r->heap, r->heap_cap * sizeof(r->heap[0]));
        }
        heap_put(r, r->heap_n++, t);
        heap_up(r, r->heap_n - 1);
    } else {
        heap_up(r, t->slot - 1);
        heap_down(r, t->slot - 1);
    }
    timer_arm(r);
}

void
reactor_timer_cancel(struct reactor *r, struct reactor_timer *t)
{
    ENSURE(current == r);
    if (t->slot == 0)
        return;
    size_t i = t->slot - 1;
    struct reactor_timer *last = r->heap[--r->heap_n];
    t->slot = 0;
    if (last == t)
        return;
    heap_put(r, i, last);
    heap_up(r, i);
    heap_down(r, last->slot - 1);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct reactor *r = arg;
    uint64_t now = reactor_now_ms(r);

    (void)fd;
    (void)what;
    r->timer_ev_at_ms = 0;
    /* One set to "now" by a timer's own call waits for the next turn. */
    for (size_t left = r->heap_n; left > 0 && r->heap_n > 0; left--) {
        struct reactor_timer *t = r->heap[0];
        if (t->at_ms > now)
            break;
        reactor_timer_cancel(r, t);
        t->fn(t->ctx);
    }
    timer_arm(r);
}

/* ---- deferred calls ---- */

void
reactor_defer(struct reactor *r, struct reactor_deferred *d,
              void (*fn)(void *ctx), void *ctx)
{
    ENSURE(current == r);
    d->fn = fn;
    d->ctx = ctx;
    if (d->queued)
        return;
    d->queued = true;
    d->prev = r->deferred.prev;
    d->next = &r->deferred;
    d->prev->next = d->next->prev = d;
}

void
reactor_defer_cancel(struct reactor *r, struct reactor_deferred *d)
{
    ENSURE(current == r);
    if (!d->queued)
        return;
    d->queued = false;
    d->prev->next = d->next;
    d->next->prev = d->prev;
}

static bool
has_deferred(const struct reactor *r)
{
    return r->deferred.next != &r->deferred;
}

static void
run_deferred(struct reactor *r)
{
    struct reactor_deferred todo;

    if (!has_deferred(r))
        return;
    /* What is deferred from here on belongs to the next turn; any of TODO may
     * be cancelled by the call of another. */
    todo = r->deferred;
    todo.next->prev = todo.prev->next = &todo;
    r->deferred.prev = r->deferred.next = &r->deferred;
    while (todo.next != &todo) {
        struct reactor_deferred *d = todo.next;
        reactor_defer_cancel(r, d);
        d->fn(d->ctx); /* may free D */
    }
}

/* ---- guests and the end ---- */

static void
ring_init(struct reactor_guest *head)
{
    head->prev = head->next = head;
}

static void
ring_add(struct reactor_guest *head, struct reactor_guest *g)
{
    g->prev = head->prev;
    g->next = head;
    head->prev->next = g;
    head->prev = g;
}

static void
ring_remove(struct reactor_guest *g)
{
    g->prev->next = g->next;
    g->next->prev = g->prev;
    g->prev = g->next = NULL;
}

/* Any of them may leave, itself or others, while it is told. */
static void
tell_guests(struct reactor *r, bool now)
{
    struct reactor_guest todo;

    if (r->guests.next == &r->guests)
        return;
    todo = r->guests;
    todo.next->prev = todo.prev->next = &todo;
    ring_init(&r->guests);
    while (todo.next != &todo) {
        struct reactor_guest *g = todo.next;
        ring_remove(g);
        ring_add(&r->guests, g);
        g->stop(g, now);
    }
}

static void
on_grace_over(void *ctx)
{
    tell_guests(ctx, true);
}

static void
begin_shutdown(void *ctx)
{
    struct reactor *r = ctx;

    if (r->told)
        return;
    r->told = true;
    tell_guests(r, false);
}

static void
begin_end(void *ctx)
{
    struct reactor *r = ctx;

    begin_shutdown(r);
    r->end = true;
    reactor_timer_set(r, &r->grace, r->pool->grace_ms, on_grace_over, r);
}

void
reactor_guest_enter(struct reactor *r, struct reactor_guest *g)
{
    ENSURE(current == r);
    ring_add(&r->guests, g);
    atomic_fetch_add(&r->nguests, 1);
    if (!r->told)
        return;
    /* Late: the others were told already, and hear it twice only if they do
     * not leave.  A guest that came after the grace time goes at once. */
    bool now = r->end && !reactor_timer_is_set(&r->grace);
    g->stop(g, now);
}

void
reactor_guest_leave(struct reactor *r, struct reactor_guest *g)
{
    ENSURE(current == r);
    ring_remove(g);
    atomic_fetch_sub(&r->nguests, 1);
}

size_t
reactor_guests(const struct reactor *r)
{
    return atomic_load(&r->nguests);
}

static bool
may_end(struct reactor *r)
{
    return r->end && r->guests.next == &r->guests && !has_deferred(r) &&
           atomic_load(&r->holds) == 0 && posts_empty(r);
}

static void *
reactor_main(void *arg)
{
    struct reactor *r = arg;

    current = r;
    while (!may_end(r)) {
        /* Without ONCE, NONBLOCK goes on until nothing is ready. */
        int flags = EVLOOP_ONCE | (has_deferred(r) ? EVLOOP_NONBLOCK : 0);
        int rc = event_base_loop(r->base, flags);
        ENSURE(rc >= 0);
        run_deferred(r);
    }
    reactor_timer_cancel(r, &r->grace);
    current = NULL;
    return NULL;
}

/* ---- the pool ---- */

static void
reactor_free(struct reactor *r)
{
    if (r->wake_ev != NULL)
        event_free(r->wake_ev);
    if (r->timer_ev != NULL)
        event_free(r->timer_ev);
    if (r->base != NULL)
        event_base_free(r->base);
    if (r->wake_fd >= 0)
        close(r->wake_fd);
    pthread_mutex_destroy(&r->lock);
    free(r->posts.calls);
    free(r->spare.calls);
    free(r->heap);
}

static enum errcode
reactor_init(struct reactor *r, struct error *err)
{
    r->deferred.prev = r->deferred.next = &r->deferred;
    ring_init(&r->guests);
    pthread_mutex_init(&r->lock, NULL);
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->wake_fd < 0)
        return error_set_errno(err, errno, "eventfd");

    /* A base is used by one thread: no locks. */
    struct event_config *config = event_config_new();
    ENSURE(config != NULL);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    r->base = event_base_new_with_config(config);
    event_config_free(config);
    if (r->base == NULL)
        return error_set(err, ERR_IO, "event loop: no descriptor left?");
    r->wake_ev =
        event_new(r->base, r->wake_fd, EV_READ | EV_PERSIST, on_wake, r);
    r->timer_ev = evtimer_new(r->base, on_timer, r);
    ENSURE(r->wake_ev != NULL && r->timer_ev != NULL);
    if (event_add(r->wake_ev, NULL) != 0)
        return error_set(err, ERR_IO, "event loop: cannot watch a descriptor");
    return ERR_OK;
}

/* Threads take no signals: those are for main(). */
static int
thread_start(pthread_t *ret, void *(*fn)(void *), void *arg, const char *name)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(ret, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0)
        pthread_setname_np(*ret, name);
    return rc;
}

static enum errcode
start_threads(struct reactor_pool *pool, const struct reactor_pool_options *o,
              struct error *err)
{
    for (unsigned i = 0; i < o->threads; i++) {
        struct reactor *r = &pool->reactors[i];
        r->pool = pool;
        r->index = i;
        pool->nreactors++;
        enum errcode rc = reactor_init(r, err);
        if (rc != ERR_OK)
            return rc;
    }
    for (unsigned i = 0; i < o->threads; i++) {
        struct reactor *r = &pool->reactors[i];
        int rc = thread_start(&r->thread, reactor_main, r, "reactor");
        if (rc != 0)
            return error_set_errno(err, rc, "thread %u of %u", i, o->threads);
        r->started = true;
    }
    for (unsigned i = 0; i < o->workers; i++) {
        int rc = thread_start(&pool->workers[i], worker_main, pool, "worker");
        if (rc != 0)
            return error_set_errno(err, rc, "worker %u of %u", i, o->workers);
        pool->nworkers++;
    }
    return ERR_OK;
}

enum errcode
reactor_pool_start(const struct reactor_pool_options *options,
                   struct reactor_pool **ret, struct error *err)
{
    if (options->threads < 1 || options->threads > REACTOR_THREADS_MAX ||
        options->workers < 1 || options->workers > REACTOR_WORKERS_MAX)
        return error_set(err, ERR_LIMIT, "%u threads, %u workers",
                         options->threads, options->workers);

    struct reactor_pool *pool = xcalloc(1, sizeof(*pool));
    pool->reactors = xcalloc(options->threads, sizeof(pool->reactors[0]));
    pool->workers = xcalloc(options->workers, sizeof(pool->workers[0]));
    pthread_mutex_init(&pool->jobs_lock, NULL);
    pthread_cond_init(&pool->jobs_cond, NULL);
    pool->jobs_end = &pool->jobs;

    enum errcode rc = start_threads(pool, options, err);
    if (rc != ERR_OK) {
        reactor_pool_stop(&pool, 0);
        error_prefix(err, "reactors");
        return rc;
    }
    *ret = pool;
    return ERR_OK;
}

void
reactor_pool_shutdown(struct reactor_pool *pool)
{
    if (atomic_exchange(&pool->stopping, true))
        return;
    for (unsigned i = 0; i < pool->nreactors; i++)
        reactor_post(&pool->reactors[i], begin_shutdown, &pool->reactors[i]);
}

void
reactor_pool_stop(struct reactor_pool **pp, unsigned grace_ms)
{
    struct reactor_pool *pool = *pp;

    if (pool == NULL)
        return;
    ENSURE(current == NULL);
    atomic_store(&pool->stopping, true);
    pool->grace_ms = grace_ms;
    for (unsigned i = 0; i < pool->nreactors; i++) {
        if (pool->reactors[i].started)
            reactor_post(&pool->reactors[i], begin_end, &pool->reactors[i]);
    }
    for (unsigned i = 0; i < pool->nreactors; i++) {
        if (pool->reactors[i].started)
            pthread_join(pool->reactors[i].thread, NULL);
    }

    pthread_mutex_lock(&pool->jobs_lock);
    pool->workers_quit = true;
    pthread_cond_broadcast(&pool->jobs_cond);
    pthread_mutex_unlock(&pool->jobs_lock);
    for (unsigned i = 0; i < pool->nworkers; i++)
        pthread_join(pool->workers[i], NULL);

    for (unsigned i = 0; i < pool->nreactors; i++)
        reactor_free(&pool->reactors[i]);
    pthread_cond_destroy(&pool->jobs_cond);
    pthread_mutex_destroy(&pool->jobs_lock);
    free(pool->reactors);
    free(pool->workers);
    free(pool);
    *pp = NULL;
}

unsigned
reactor_pool_size(const struct reactor_pool *pool)
{
    return pool->nreactors;
}

struct reactor *
reactor_pool_get(struct reactor_pool *pool, unsigned i)
{
    ENSURE(i < pool->nreactors);
    return &pool->reactors[i];
}

struct reactor *
reactor_pool_least(struct reactor_pool *pool)
{
    /* Start elsewhere each time: a burst of calls finds the same counts. */
    unsigned start = atomic_fetch_add(&pool->turn, 1);
    struct reactor *best = NULL;

    for (unsigned i = 0; i < pool->nreactors; i++) {
        struct reactor *r = &pool->reactors[(start + i) % pool->nreactors];
        if (best == NULL || reactor_guests(r) < reactor_guests(best))
            best = r;
    }
    return best;
}

unsigned
reactor_index(const struct reactor *r)
{
    return r->index;
}

struct reactor_pool *
reactor_pool_of(struct reactor *r)
{
    return r->pool;
}

struct event_base *
reactor_base(struct reactor *r)
{
    return r->base;
}

bool
reactor_stopping(const struct reactor *r)
{
    return atomic_load(&r->pool->stopping);
}
