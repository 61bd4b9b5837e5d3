/*
 * net/reactor.h - threads with an event loop each, and what they can be asked.
 *
 * A reactor is one thread.  What belongs to it (connections, timers, sessions)
 * is touched on that thread only; everybody else sends it a function with
 * reactor_post().  A handler never blocks: what may block goes to a worker by
 * reactor_work() and comes back as an event.
 *
 * A turn of the loop: events and timers, what was posted, and then, once, what
 * was deferred (reactor_defer()): so all that one turn wrote to a connection
 * leaves as one batch before the loop sleeps.
 */
#ifndef POLLUX_NET_REACTOR_H
#define POLLUX_NET_REACTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct event_base;
struct reactor;      /* one thread with its loop */
struct reactor_pool; /* some of them, and the workers that they share */

#define REACTOR_THREADS_MAX 256
#define REACTOR_WORKERS_MAX 256

struct reactor_pool_options {
    unsigned threads; /* reactors: 1 to REACTOR_THREADS_MAX */
    unsigned workers; /* threads for reactor_work(): 1 to REACTOR_WORKERS_MAX */
};

/*
 * Start the threads; each blocks all signals, so that main() gets them.
 * Errors: ERR_LIMIT (options out of range), ERR_IO (no thread, no descriptor).
 */
MUST_CHECK enum errcode
reactor_pool_start(const struct reactor_pool_options *options,
                   struct reactor_pool **ret, struct error *err);

/*
 * Drain and stop: every connection is asked to end (on_shutdown of its
 * handler), what is left after GRACE_MS is closed, and each thread is joined
 * when nothing posted, held or being worked on is left for it.  Frees *POOL and
 * sets it to NULL; NULL is fine.  Not to be called on a reactor.  Afterwards
 * nobody may post: whoever will post later says so with reactor_hold().
 */
void
reactor_pool_stop(struct reactor_pool **pool, unsigned grace_ms);

/* Ask all connections to end as reactor_pool_stop() does, and return at once.
 * Any thread; the second call does nothing. */
void
reactor_pool_shutdown(struct reactor_pool *pool);

unsigned
reactor_pool_size(const struct reactor_pool *pool);
/* I < reactor_pool_size(). */
struct reactor *
reactor_pool_get(struct reactor_pool *pool, unsigned i);
/* The reactor with the fewest guests (connections) now.  Any thread. */
struct reactor *
reactor_pool_least(struct reactor_pool *pool);

/* The reactor whose thread this is, or NULL. */
struct reactor *
reactor_current(void);
unsigned
reactor_index(const struct reactor *r);
struct reactor_pool *
reactor_pool_of(struct reactor *r);
/* For events of one's own; to be used on R's thread only. */
struct event_base *
reactor_base(struct reactor *r);
/* Milliseconds of the monotonic clock as of this turn; R's thread only. */
uint64_t
reactor_now_ms(const struct reactor *r);
/* reactor_pool_stop() or _shutdown() was called.  Any thread. */
bool
reactor_stopping(const struct reactor *r);

/*
 * Run FN(CTX) on R soon: in the order of the posts of one thread.  Any thread,
 * R's own too (it then runs later in this turn or in the next).  Costs a lock
 * and 16 bytes; only the first post into an empty queue wakes the loop, so a
 * burst of completions costs one wake-up.  Never fails, never blocks.
 */
void
reactor_post(struct reactor *r, void (*fn)(void *ctx), void *ctx);

/* One entry of reactor_post_many(). */
struct reactor_call {
    void (*fn)(void *ctx);
    void *ctx;
};

/* The same for N calls under one lock. */
void
reactor_post_many(struct reactor *r, const struct reactor_call *calls,
                  size_t n);

/*
 * What the calling thread posts between the two wakes each reactor once, at the
 * end: who answers many at a time does not want each of
 * them to be taken before the next one is there.  Nothing in between may wait
 * for what was posted.
 */
void
reactor_gather_begin(void);
void
reactor_gather_end(void);

/*
 * R does not end between reactor_hold() and reactor_release(): for who waits
 * for a post that comes from outside (a commit by the store's writer).  Counts.
 * Any thread.
 */
void
reactor_hold(struct reactor *r);
void
reactor_release(struct reactor *r);

/*
 * Run WORK(CTX) on a worker thread, then DONE(CTX) on R.  Each is called
 * exactly once, even while the pool stops; CTX must live until DONE.
 */
void
reactor_work(struct reactor *r, void (*work)(void *ctx),
             void (*done)(void *ctx), void *ctx);

/* A one-shot timer, to be embedded; starts as {0}.  R's thread only. */
struct reactor_timer {
    uint64_t at_ms; /* private, as the rest */
    size_t slot;    /* place in the heap + 1; 0: not set */
    void (*fn)(void *ctx);
    void *ctx;
};

/* Run FN(CTX) once, not before AFTER_MS from now.  Setting it again moves it.
 */
void
reactor_timer_set(struct reactor *r, struct reactor_timer *t, uint64_t after_ms,
                  void (*fn)(void *ctx), void *ctx);
/* One that is not set is fine.  Afterwards FN will not run. */
void
reactor_timer_cancel(struct reactor *r, struct reactor_timer *t);
static inline bool
reactor_timer_is_set(const struct reactor_timer *t)
{
    return t->slot != 0;
}

/* A call at the end of the turn, to be embedded; starts as {0}. */
struct reactor_deferred {
    struct reactor_deferred *prev, *next; /* private, as the rest */
    void (*fn)(void *ctx);
    void *ctx;
    bool queued;
};

/*
 * Run FN(CTX) at the end of this turn; once, however often it is asked for
 * until it runs.  Asked for from a deferred call, it runs at the end of the
 * next turn, which then comes without sleeping.  R's thread only; *D must live
 * until it has run or was cancelled.
 */
void
reactor_defer(struct reactor *r, struct reactor_deferred *d,
              void (*fn)(void *ctx), void *ctx);

/* Take back what was asked for, if it was and has not run.  R's thread only. */
void
reactor_defer_cancel(struct reactor *r, struct reactor_deferred *d);

/*
 * Something that lives on R and must end before R does (a connection), to be
 * embedded.  STOP is called once on R's thread when the pool is shut down, with
 * now = false, and again with now = true after the grace time; it is to lead to
 * reactor_guest_leave() soon, or before it returns if NOW.
 */
struct reactor_guest {
    struct reactor_guest *prev, *next; /* private */
    void (*stop)(struct reactor_guest *g, bool now);
};

/* R's thread only, as leaving.  If R is stopping, G is told at once. */
void
reactor_guest_enter(struct reactor *r, struct reactor_guest *g);
void
reactor_guest_leave(struct reactor *r, struct reactor_guest *g);
/* How many there are now; any thread, for status. */
size_t
reactor_guests(const struct reactor *r);

#endif
