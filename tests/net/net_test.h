/* tests/net/net_test.h - what the tests of net/ have in common. */
#ifndef POLLUX_TESTS_NET_TEST_H
#define POLLUX_TESTS_NET_TEST_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "base/buf.h"
#include "net/bclient.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/reactor.h"

/* Longer than any machine is slow; a test that is right never waits for it. */
#define PATIENCE_MS 20000

/* Look again until COND holds. */
#define WAIT_FOR(cond)                                                         \
    do {                                                                       \
        int ms_left = PATIENCE_MS;                                             \
        while (!(cond) && ms_left-- > 0)                                       \
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);           \
        assert_true(cond);                                                     \
    } while (0)

#define ASSERT_OK(call) assert_int_equal((call), ERR_OK)

static inline unsigned
open_fds(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static inline struct reactor_pool *
start_pool(unsigned threads)
{
    struct reactor_pool *pool = NULL;
    struct error err = {0};
    ASSERT_OK(reactor_pool_start(
        &(struct reactor_pool_options){.threads = threads, .workers = 2}, &pool,
        &err));
    return pool;
}

/* A service on a loopback port of the kernel's choice. */
struct served {
    struct reactor_pool *pool;
    struct listener *listener;
    struct conn_limits *limits;
    char port[8];
};

static inline void
serve(struct served *s, unsigned threads,
      const struct listener_service *service)
{
    struct listen_spec spec;
    struct error err = {0};
    s->pool = start_pool(threads);
    ASSERT_OK(listen_spec_parse("127.0.0.1:0", "tcp", &spec, &err));
    ASSERT_OK(listener_bind(&spec, 0, &s->listener, &err));
    snprintf(s->port, sizeof(s->port), "%u", listener_port(s->listener));
    listener_start(s->listener, s->pool, service, s->limits);
}

static inline void
serve_end(struct served *s)
{
    listener_close(&s->listener);
    reactor_pool_stop(&s->pool, 0);
    conn_limits_free(&s->limits);
}

static inline struct bclient *
dial(const struct served *s)
{
    struct bclient *c = NULL;
    struct error err = {0};
    ASSERT_OK(bclient_connect("127.0.0.1", s->port, PATIENCE_MS, &c, &err));
    return c;
}

static inline void
say(struct bclient *c, const char *text)
{
    struct error err = {0};
    ASSERT_OK(bclient_write(c, span_str(text), PATIENCE_MS, &err));
}

/* The next line is LINE. */
static inline void
hear(struct bclient *c, const char *line)
{
    struct buf b = BUF_INIT;
    struct error err = {0};
    enum errcode rc = bclient_read_line(c, 4096, PATIENCE_MS, &b, &err);
    if (rc != ERR_OK)
        fail_msg("expected \"%s\", got %s", line, err.text);
    assert_string_equal(buf_cstr(&b), line);
    buf_free(&b);
}

static inline void
hear_end(struct bclient *c)
{
    struct buf b = BUF_INIT;
    struct error err = {0};
    assert_int_equal(bclient_read_line(c, 4096, PATIENCE_MS, &b, &err),
                     ERR_CLOSED);
    buf_free(&b);
}

#endif
