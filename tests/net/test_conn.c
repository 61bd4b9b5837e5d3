/*
 * tests/net/test_conn.c - connections over real sockets: the server's side is a
 * struct conn on a reactor, the client's a bclient in the test's thread.
 */
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "line_service.h"

static void
test_lines_come_back_in_order(void **state)
{
    struct bclient *c = dial(*state);
    struct error err = {0};
    hear(c, "* OK");
    for (int i = 0; i < 1000; i++)
        ASSERT_OK(bclient_writef(c, PATIENCE_MS, &err, "ECHO %d\r\n", i));
    for (int i = 0; i < 1000; i++) {
        char want[16];
        snprintf(want, sizeof(want), "%d", i);
        hear(c, want);
    }
    say(c, "QUIT\r\n");
    hear(c, "BYE");
    hear_end(c);
    bclient_close(&c);
    WAIT_FOR(atomic_load(&seen.closed) == 1);
    assert_int_equal(atomic_load(&seen.close_code), ERR_OK);
}

static void
test_line_cut_at_every_byte_is_one_line(void **state)
{
    struct bclient *c = dial(*state);
    hear(c, "* OK");
    for (const char *p = "ECHO slow\r\n"; *p != '\0'; p++)
        say(c, (char[]){*p, '\0'});
    hear(c, "slow");
    bclient_close(&c);
    WAIT_FOR(atomic_load(&seen.closed) == 1);
    assert_int_equal(atomic_load(&seen.close_code), ERR_CLOSED);
}

static void
test_slow_reader_costs_a_bounded_buffer(void **state)
{
    struct bclient *c = dial(*state);
    struct error err = {0};
    enum { KIB = 20000 };
    static uint8_t got[BLOB_KIB];
    hear(c, "* OK");
    say(c, "BLOB 20000\r\n");
    /* Not a byte is read until the server is stuck; another client is served
     * meanwhile. */
    WAIT_FOR(atomic_load(&seen.output_most) >= 65536);
    struct bclient *other = dial(*state);
    hear(other, "* OK");
    say(other, "ECHO here\r\n");
    hear(other, "here");
    bclient_close(&other);
    assert_true(atomic_load(&seen.drained) < KIB);
    for (int i = 0; i < KIB; i++) {
        memset(got, 1, sizeof(got));
        ASSERT_OK(bclient_read_exact(c, got, sizeof(got), PATIENCE_MS, &err));
        assert_memory_equal(got, blob, sizeof(got));
    }
    hear(c, "DONE");
    assert_true(atomic_load(&seen.output_most) <= 65536 + sizeof(blob));
    assert_true(atomic_load(&seen.drained) > 0);
    bclient_close(&c);
}

/* Flood a resting session: the kernels fill up, and at most input_max is
 * taken. */
static void
test_paused_input_bounds_pipelining(void **state)
{
    struct bclient *c = dial(*state);
    struct error err = {0};
    hear(c, "* OK");
    say(c, "PAUSE\r\n");
    WAIT_FOR(atomic_load(&seen.paused) == 1);
    size_t sent = 0, most = 64U << 20;
    static const char line[] = "ECHO x\r\n";
    bool stuck = false;
    while (!stuck && sent < most) {
        size_t n = 0;
        ASSERT_OK(bclient_write_some(c, SPAN_LIT("ECHO x\r\n"), &n, &err));
        sent += n;
        struct pollfd p = {.fd = bclient_fd(c), .events = POLLOUT};
        stuck = n == 0 && poll(&p, 1, 200) == 0;
    }
    assert_true(stuck);
    assert_int_equal(atomic_load(&seen.lines), 1);

    resume_paused();
    size_t lines = sent / (sizeof(line) - 1), heard = 0;
    while (heard < lines) {
        struct buf b = BUF_INIT;
        if (bclient_read_line(c, 10, 0, &b, &err) == ERR_OK) {
            assert_string_equal(buf_cstr(&b), "x");
            heard++;
        } else {
            assert_int_equal(err.code, ERR_TIMEOUT);
            enum errcode rc = bclient_flush_some(c, &err);
            assert_true(rc == ERR_OK || rc == ERR_AGAIN);
            struct pollfd p = {.fd = bclient_fd(c),
                               .events = bclient_poll_events(c)};
            assert_true(poll(&p, 1, PATIENCE_MS) > 0);
        }
        buf_free(&b);
    }
    bclient_close(&c);
}

static void
test_input_without_end_is_a_limit(void **state)
{
    struct bclient *c = dial(*state);
    struct error err = {0};
    static uint8_t flood[65536];
    memset(flood, 'x', sizeof(flood));
    hear(c, "* OK");
    enum errcode rc = ERR_OK;
    for (int i = 0; i < 1000 && rc == ERR_OK; i++)
        rc = bclient_write(c, span_of(flood, sizeof(flood)), PATIENCE_MS, &err);
    assert_int_equal(rc, ERR_CLOSED);
    WAIT_FOR(atomic_load(&seen.closed) == 1);
    assert_int_equal(atomic_load(&seen.close_code), ERR_LIMIT);
    bclient_close(&c);
}

static void
test_half_open_peer_still_gets_its_answers(void **state)
{
    struct bclient *c = dial(*state);
    hear(c, "* OK");
    say(c, "BLOB 300\r\nECHO after\r\n");
    shutdown(bclient_fd(c), SHUT_WR);
    static uint8_t got[BLOB_KIB * 300];
    struct error err = {0};
    ASSERT_OK(bclient_read_exact(c, got, sizeof(got), PATIENCE_MS, &err));
    hear(c, "DONE");
    hear(c, "after");
    hear_end(c);
    bclient_close(&c);
    WAIT_FOR(atomic_load(&seen.closed) == 1);
    assert_int_equal(atomic_load(&seen.close_code), ERR_CLOSED);
}

static void
test_half_close_goes_on_reading(void **state)
{
    struct bclient *c = dial(*state);
    hear(c, "* OK");
    say(c, "HALF\r\n");
    hear(c, "half");
    hear_end(c);
    say(c, "ECHO dropped\r\n");
    WAIT_FOR(atomic_load(&seen.lines) == 2);
    assert_int_equal(atomic_load(&seen.closed), 0);
    bclient_close(&c);
}

static void
test_last_words_arrive_although_input_is_unread(void **state)
{
    struct bclient *c = dial(*state);
    struct error err = {0};
    struct buf pipelined = BUF_INIT;
    hear(c, "* OK");
    buf_add_str(&pipelined, "QUIT\r\n");
    for (int i = 0; i < 500; i++)
        buf_add_str(&pipelined, "ECHO too late\r\n");
    ASSERT_OK(bclient_write(c, buf_span(&pipelined), PATIENCE_MS, &err));
    hear(c, "BYE");
    hear_end(c);
    buf_free(&pipelined);
    bclient_close(&c);
    assert_int_equal(atomic_load(&seen.lines), 1);
}

/* Who goes on sending after our last words is not listened to for long. */
static void
test_flood_after_the_last_words_is_cut(void **state)
{
    struct bclient *c = dial(*state);
    struct error err = {0};
    static uint8_t flood[65536];
    size_t sent = 0;
    memset(flood, 'x', sizeof(flood));
    hear(c, "* OK");
    say(c, "QUIT\r\n");
    for (enum errcode rc = ERR_OK; rc == ERR_OK && sent < (256U << 20);
         sent += sizeof(flood))
        rc = bclient_write(c, span_of(flood, sizeof(flood)), PATIENCE_MS, &err);
    /* The kernel's buffers of both sides come on top. */
    assert_in_range(sent, LINGER_BYTES, (64U << 20));
    WAIT_FOR(atomic_load(&seen.closed) == 1);
    bclient_close(&c);
}

static void
test_reset_resets(void **state)
{
    struct bclient *c = dial(*state);
    uint8_t byte;
    hear(c, "* OK");
    say(c, "RESET\r\n");
    struct pollfd p = {.fd = bclient_fd(c), .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_int_equal(recv(bclient_fd(c), &byte, 1, 0), -1);
    bclient_close(&c);
}

static void
test_idle_session_is_timed_out_and_told(void **state)
{
    struct bclient *c = dial(*state);
    hear(c, "* OK");
    say(c, "TIMEOUT 50\r\n");
    hear(c, "* BYE idle");
    hear_end(c);
    bclient_close(&c);
    assert_int_equal(atomic_load(&seen.timeouts), 1);
}

static void
test_deadline_comes_although_the_peer_is_busy(void **state)
{
    struct bclient *c = dial(*state);
    struct error err = {0};
    struct buf b = BUF_INIT;
    hear(c, "* OK");
    say(c, "DEADLINE 50\r\n");
    bool bye = false;
    while (!bye) {
        if (bclient_write(c, SPAN_LIT("ECHO busy\r\n"), PATIENCE_MS, &err) !=
            ERR_OK)
            break;
        ASSERT_OK(bclient_read_line(c, 100, PATIENCE_MS, &b, &err));
        bye = span_eq_str(buf_span(&b), "* BYE idle");
    }
    assert_int_equal(atomic_load(&seen.timeouts), 1);
    buf_free(&b);
    bclient_close(&c);
}

static void
test_timeout_rests_while_the_handler_is_at_work(void **state)
{
    struct bclient *c = dial(*state);
    hear(c, "* OK");
    say(c, "TIMEOUT 20\r\nPAUSE\r\n");
    WAIT_FOR(atomic_load(&seen.paused) == 1);
    /* Others time out meanwhile. */
    for (int i = 0; i < 3; i++) {
        struct bclient *other = dial(*state);
        hear(other, "* OK");
        say(other, "TIMEOUT 40\r\n");
        hear(other, "* BYE idle");
        bclient_close(&other);
    }
    assert_int_equal(atomic_load(&seen.timeouts), 3);
    resume_paused();
    hear(c, "* BYE idle");
    bclient_close(&c);
}

static void
test_stop_ends_all_connections(void **state)
{
    struct served *s = *state;
    struct bclient *c[20];
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        c[i] = dial(s);
        hear(c[i], "* OK");
    }
    listener_close(&s->listener);
    reactor_pool_stop(&s->pool, 0);
    assert_int_equal(atomic_load(&seen.closed), ARRAY_LEN(c));
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        hear_end(c[i]);
        bclient_close(&c[i]);
    }
}

static void
test_bclient_limits(void **state)
{
    struct bclient *c = dial(*state);
    struct error err = {0};
    struct buf b = BUF_INIT;
    struct span in;
    hear(c, "* OK");
    assert_int_equal(bclient_read_line(c, 10, 20, &b, &err), ERR_TIMEOUT);
    say(c, "ECHO 0123456789abcdef\r\n");
    assert_int_equal(bclient_read_line(c, 10, PATIENCE_MS, &b, &err),
                     ERR_LIMIT);
    hear(c, "0123456789abcdef"); /* nothing was used */
    assert_int_equal(bclient_fill(c, 100, &in, &err), ERR_AGAIN);
    assert_int_equal(in.n, 0);
    say(c, "ECHO ab\r\n");
    enum errcode rc;
    do {
        struct pollfd p = {.fd = bclient_fd(c),
                           .events = bclient_poll_events(c)};
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        rc = bclient_fill(c, 100, &in, &err);
        assert_true(rc == ERR_OK || rc == ERR_AGAIN);
    } while (in.n < 4);
    assert_int_equal(bclient_buffered(c), 4);
    bclient_used(c, 1);
    size_t n;
    char byte;
    ASSERT_OK(bclient_read_some(c, &byte, 1, &n, &err));
    assert_int_equal(byte, 'b');
    hear(c, "");
    assert_int_equal(bclient_read_some(c, &byte, 1, &n, &err), ERR_AGAIN);
    buf_free(&b);
    bclient_close(&c);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(test_lines_come_back_in_order),
        WITH_SERVICE(test_line_cut_at_every_byte_is_one_line),
        WITH_SERVICE(test_slow_reader_costs_a_bounded_buffer),
        WITH_SERVICE(test_paused_input_bounds_pipelining),
        WITH_SERVICE(test_input_without_end_is_a_limit),
        WITH_SERVICE(test_half_open_peer_still_gets_its_answers),
        WITH_SERVICE(test_half_close_goes_on_reading),
        WITH_SERVICE(test_last_words_arrive_although_input_is_unread),
        WITH_SERVICE(test_flood_after_the_last_words_is_cut),
        WITH_SERVICE(test_reset_resets),
        WITH_SERVICE(test_idle_session_is_timed_out_and_told),
        WITH_SERVICE(test_deadline_comes_although_the_peer_is_busy),
        WITH_SERVICE(test_timeout_rests_while_the_handler_is_at_work),
        WITH_SERVICE(test_stop_ends_all_connections),
        WITH_SERVICE(test_bclient_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
