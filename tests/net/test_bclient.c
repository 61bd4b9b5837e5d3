/*
 * tests/net/test_bclient.c - waiting ends: at the deadline, though something
 * comes now and then, and when it is told to stop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/env.h"
#include "net/bclient.h"

struct pair {
    struct bclient *conn;
    int peer;
    pthread_t thread;
    _Atomic bool over;
};

/* A byte each 10 ms, and never a line. */
static void *
dribble(void *ctx)
{
    struct pair *p = ctx;

    while (!atomic_load(&p->over) && send(p->peer, "x", 1, MSG_NOSIGNAL) == 1)
        usleep(10000);
    return NULL;
}

static void
pair_make(struct pair *p)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    p->conn = bclient_from_fd(fds[0]);
    p->peer = fds[1];
}

static void
pair_end(struct pair *p)
{
    bclient_close(&p->conn);
    close(p->peer);
}

static uint64_t
now_ms(void)
{
    return env_mono_ns(env_system()) / 1000000;
}

static void
test_dribble_ends_at_the_deadline(void **state)
{
    struct pair p = {0};
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct error err = {0};

    (void)state;
    pair_make(&p);
    assert_int_equal(pthread_create(&p.thread, NULL, dribble, &p), 0);
    const uint64_t began = now_ms();
    bclient_set_deadline(p.conn, 100);
    assert_int_equal(bclient_read_line(p.conn, 1 << 20, 60000, &line, &err),
                     ERR_TIMEOUT);
    assert_true(now_ms() - began >= 100);
    assert_true(now_ms() - began < 30000);
    atomic_store(&p.over, true);
    pthread_join(p.thread, NULL);
    pair_end(&p);
}

static void
test_silence_within_the_deadline_and_none_after_it_went(void **state)
{
    struct pair p = {0};
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct error err = {0};

    (void)state;
    pair_make(&p);
    bclient_set_deadline(p.conn, 60000);
    assert_int_equal(bclient_read_line(p.conn, 100, 20, &line, &err),
                     ERR_TIMEOUT);
    bclient_set_deadline(p.conn, 1);
    bclient_set_deadline(p.conn, 0);
    assert_int_equal(send(p.peer, "here\r\n", 6, 0), 6);
    assert_int_equal(bclient_read_line(p.conn, 100, 60000, &line, &err),
                     ERR_OK);
    assert_string_equal(buf_cstr(&line), "here");
    pair_end(&p);
}

static bool
after_some(void *ctx)
{
    unsigned *asked = ctx;

    return ++*asked > 2;
}

static void
test_told_to_stop_while_it_waits(void **state)
{
    struct pair p = {0};
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct error err = {0};
    unsigned asked = 0;

    (void)state;
    pair_make(&p);
    bclient_set_stop(p.conn, after_some, &asked);
    assert_int_equal(
        bclient_read_line(p.conn, 100, BCLIENT_FOREVER, &line, &err),
        ERR_CLOSED);
    assert_string_equal(err.text, "told to stop");
    assert_int_equal(asked, 3);
    /* Asked, and no reason to stop: the limit is as it was. */
    asked = 0;
    assert_int_equal(bclient_read_line(p.conn, 100, 20, &line, &err),
                     ERR_TIMEOUT);
    pair_end(&p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dribble_ends_at_the_deadline),
        cmocka_unit_test(
            test_silence_within_the_deadline_and_none_after_it_went),
        cmocka_unit_test(test_told_to_stop_while_it_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
