/* tests/net/test_reactor.c - posts, timers, workers, and ends that lose
 * nothing. */
#include <pthread.h>
#include <stdlib.h>

#include "net_test.h"

#define POSTERS 8
#define POSTS 20000

struct poster {
    struct reactor *r;
    unsigned id;
    unsigned *next; /* of the reactor's thread: what comes next of each */
    atomic_uint *arrived;
    atomic_bool *disorder;
};

struct post {
    struct poster *from;
    unsigned n;
};

static void
arrive(void *ctx)
{
    struct post *p = ctx;
    if (p->from->next[p->from->id] != p->n || reactor_current() != p->from->r)
        atomic_store(p->from->disorder, true);
    p->from->next[p->from->id] = p->n + 1;
    atomic_fetch_add(p->from->arrived, 1);
    free(p);
}

static void *
post_many(void *arg)
{
    struct poster *me = arg;
    for (unsigned i = 0; i < POSTS; i++) {
        struct post *p = xmalloc(sizeof(*p));
        *p = (struct post){me, i};
        reactor_post(me->r, arrive, p);
    }
    return NULL;
}

static void
test_posts_of_many_threads_arrive_once_and_in_order(void **state)
{
    (void)state;
    struct reactor_pool *pool = start_pool(1);
    pthread_t threads[POSTERS];
    struct poster posters[POSTERS];
    unsigned next[POSTERS] = {0};
    atomic_uint arrived = 0;
    atomic_bool disorder = false;

    for (unsigned i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){reactor_pool_get(pool, 0), i, next,
                                     &arrived, &disorder};
        pthread_create(&threads[i], NULL, post_many, &posters[i]);
    }
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    /* Stopping runs what was posted before. */
    reactor_pool_stop(&pool, 0);
    assert_int_equal(atomic_load(&arrived), POSTERS * POSTS);
    assert_false(atomic_load(&disorder));
    assert_null(reactor_current());
}

struct many {
    struct reactor_call calls[3];
    char order[4];
    unsigned n;
    atomic_bool done;
};

static struct many many;

static void
many_a(void *ctx)
{
    (void)ctx;
    many.order[many.n++] = 'a';
}

static void
many_b(void *ctx)
{
    (void)ctx;
    many.order[many.n++] = 'b';
    atomic_store(&many.done, true);
}

static void
test_post_many_keeps_the_order(void **state)
{
    (void)state;
    struct reactor_pool *pool = start_pool(1);
    struct reactor_call calls[] = {
        {many_a, NULL}, {many_a, NULL}, {many_b, NULL}};
    reactor_post_many(reactor_pool_get(pool, 0), calls, 3);
    WAIT_FOR(atomic_load(&many.done));
    reactor_pool_stop(&pool, 0);
    assert_string_equal(many.order, "aab");
}

struct gathering {
    struct reactor *gathered, *other;
    atomic_uint ran;
    atomic_uint others;
};

static void
count_one(void *ctx)
{
    atomic_fetch_add((atomic_uint *)ctx, 1);
}

static void *
post_beside(void *arg)
{
    struct gathering *g = arg;

    /* Of another thread: at once where nothing waits, else behind what does. */
    reactor_post(g->gathered, count_one, &g->ran);
    for (unsigned i = 0; i < 50; i++) {
        const unsigned before = atomic_load(&g->others);
        reactor_post(g->other, count_one, &g->others);
        WAIT_FOR(atomic_load(&g->others) > before);
    }
    return NULL;
}

static void
test_gathered_posts_run_when_the_gathering_ends(void **state)
{
    (void)state;
    struct reactor_pool *pool = start_pool(2);
    struct gathering g = {.gathered = reactor_pool_get(pool, 0),
                          .other = reactor_pool_get(pool, 1)};
    pthread_t beside;

    for (unsigned round = 1; round <= 3; round++) {
        reactor_gather_begin();
        for (unsigned i = 0; i < 10; i++)
            reactor_post(g.gathered, count_one, &g.ran);
        pthread_create(&beside, NULL, post_beside, &g);
        pthread_join(beside, NULL);
        assert_int_equal(atomic_load(&g.ran), (round - 1) * 11);
        reactor_gather_end();
        WAIT_FOR(atomic_load(&g.ran) == round * 11);
    }
    reactor_post(g.gathered, count_one, &g.ran); /* as ever */
    WAIT_FOR(atomic_load(&g.ran) == 34);
    reactor_pool_stop(&pool, 0);
}

#define TIMERS 200

struct timers {
    struct reactor *r;
    struct reactor_timer t[TIMERS];
    struct reactor_timer moved, cancelled, last;
    struct reactor_deferred deferred, second;
    struct reactor_deferred *third; /* freed before its turn */
    unsigned fired;
    uint64_t latest_ms;
    uint64_t began_ms;
    bool disorder, early, wrong;
    unsigned deferred_runs;
    atomic_bool done;
};

static void
timer_fired(void *ctx)
{
    struct timers *s = ctx;
    s->fired++;
}

static void
timer_wrong(void *ctx)
{
    ((struct timers *)ctx)->wrong = true;
}

static void
timer_last(void *ctx)
{
    struct timers *s = ctx;
    s->early = reactor_now_ms(s->r) < s->began_ms + 60;
    atomic_store(&s->done, true);
}

static void
deferred_run(void *ctx)
{
    struct timers *s = ctx;
    if (++s->deferred_runs == 1) /* again, from inside: next turn */
        reactor_defer(s->r, &s->deferred, deferred_run, s);
}

/* The call of one takes back another of the same turn. */
static void
second_run(void *ctx)
{
    struct timers *s = ctx;
    reactor_defer_cancel(s->r, s->third);
    reactor_defer_cancel(s->r, s->third); /* twice is fine */
    free(s->third);
    s->third = NULL;
}

static void
timers_begin(void *ctx)
{
    struct timers *s = ctx;
    s->began_ms = reactor_now_ms(s->r);
    for (unsigned i = 0; i < TIMERS; i++)
        reactor_timer_set(s->r, &s->t[i], (i * 7919) % 40, timer_fired, s);
    for (unsigned i = 0; i < TIMERS; i += 2)
        reactor_timer_cancel(s->r, &s->t[i]);
    reactor_timer_cancel(s->r, &s->t[0]); /* twice is fine */
    reactor_timer_set(s->r, &s->cancelled, 1, timer_wrong, s);
    reactor_timer_cancel(s->r, &s->cancelled);
    reactor_timer_set(s->r, &s->moved, 3600000, timer_wrong, s);
    reactor_timer_set(s->r, &s->moved, 5, timer_fired, s);
    reactor_timer_set(s->r, &s->last, 60, timer_last, s);
    for (int i = 0; i < 3; i++)
        reactor_defer(s->r, &s->deferred, deferred_run, s);
    reactor_defer(s->r, &s->second, second_run, s);
    reactor_defer(s->r, s->third, timer_wrong, s);
}

static void
test_timers_fire_once_not_early_and_not_when_cancelled(void **state)
{
    (void)state;
    struct reactor_pool *pool = start_pool(1);
    struct timers s = {.r = reactor_pool_get(pool, 0)};
    s.third = calloc(1, sizeof(*s.third));
    assert_non_null(s.third);
    reactor_post(s.r, timers_begin, &s);
    WAIT_FOR(atomic_load(&s.done));
    reactor_pool_stop(&pool, 0);
    assert_int_equal(s.fired, TIMERS / 2 + 1);
    assert_false(s.wrong);
    assert_false(s.early);
    assert_int_equal(s.deferred_runs, 2);
    assert_null(s.third);
}

struct task {
    struct reactor *r;
    atomic_uint *worked, *done;
    pthread_t worker;
    bool done_elsewhere;
};

static void
task_work(void *ctx)
{
    struct task *t = ctx;
    t->worker = pthread_self();
    atomic_fetch_add(t->worked, 1);
}

static void
task_done(void *ctx)
{
    struct task *t = ctx;
    t->done_elsewhere =
        reactor_current() != t->r || pthread_equal(t->worker, pthread_self());
    atomic_fetch_add(t->done, 1);
}

static void
test_work_is_done_elsewhere_and_comes_back_even_while_stopping(void **state)
{
    (void)state;
    enum { TASKS = 500 };
    static struct task tasks[TASKS];
    struct reactor_pool *pool = start_pool(3);
    atomic_uint worked = 0, done = 0;
    for (unsigned i = 0; i < TASKS; i++) {
        tasks[i] = (struct task){.r = reactor_pool_get(pool, i % 3),
                                 .worked = &worked,
                                 .done = &done};
        reactor_work(tasks[i].r, task_work, task_done, &tasks[i]);
    }
    reactor_pool_stop(&pool, 0);
    assert_int_equal(atomic_load(&worked), TASKS);
    assert_int_equal(atomic_load(&done), TASKS);
    for (unsigned i = 0; i < TASKS; i++)
        assert_false(tasks[i].done_elsewhere);
}

struct held {
    struct reactor *r;
    atomic_bool stopping_seen, completed;
};

static void
held_complete(void *ctx)
{
    struct held *h = ctx;
    atomic_store(&h->completed, true);
    reactor_release(h->r);
}

/* A writer that answers only after the stop has begun. */
static void *
held_writer(void *arg)
{
    struct held *h = arg;
    while (!reactor_stopping(h->r))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    reactor_post(h->r, held_complete, h);
    return NULL;
}

static void
test_held_reactor_waits_for_the_post(void **state)
{
    (void)state;
    struct reactor_pool *pool = start_pool(2);
    struct held h = {.r = reactor_pool_get(pool, 1)};
    pthread_t writer;
    reactor_hold(h.r);
    pthread_create(&writer, NULL, held_writer, &h);
    reactor_pool_stop(&pool, 0);
    assert_true(atomic_load(&h.completed));
    pthread_join(writer, NULL);
}

static void
test_options_out_of_range_are_refused(void **state)
{
    (void)state;
    struct reactor_pool *pool = NULL;
    struct error err = {0};
    assert_int_equal(
        reactor_pool_start(&(struct reactor_pool_options){0, 1}, &pool, &err),
        ERR_LIMIT);
    assert_int_equal(
        reactor_pool_start(
            &(struct reactor_pool_options){1, REACTOR_WORKERS_MAX + 1}, &pool,
            &err),
        ERR_LIMIT);
    assert_null(pool);
    reactor_pool_stop(&pool, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_posts_of_many_threads_arrive_once_and_in_order),
        cmocka_unit_test(test_post_many_keeps_the_order),
        cmocka_unit_test(test_gathered_posts_run_when_the_gathering_ends),
        cmocka_unit_test(
            test_timers_fire_once_not_early_and_not_when_cancelled),
        cmocka_unit_test(
            test_work_is_done_elsewhere_and_comes_back_even_while_stopping),
        cmocka_unit_test(test_held_reactor_waits_for_the_post),
        cmocka_unit_test(test_options_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
