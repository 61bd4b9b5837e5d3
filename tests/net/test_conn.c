/*
 * tests/net/test_conn.c - connections over real sockets: the server's side is a
 * struct conn on a reactor, the client's mostly a bclient in the test's thread.
 *
 * The service speaks lines: "ECHO x", "BLOB n" (n KiB as fast as the peer takes
 * them), "PAUSE" (rests until the test resumes it), "DEFLATE", "PLAIN", "HALF",
 * "QUIT", "RESET", "TIMEOUT ms", "DEADLINE ms".
 */
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_test.h"
#include "net/lineread.h"
#include "net/zpipe.h"

#define BLOB_KIB 1024

struct session {
    struct conn *c;
    size_t blob_left;
};

/* What happened to the sessions of a test. */
static struct {
    atomic_uint opened, closed, paused, drained, released, owned, timeouts;
    atomic_uint lines, eofs;
    atomic_size_t output_most;
    atomic_int close_code;
    _Atomic(struct conn *) paused_conn;
} seen;

static uint8_t blob[BLOB_KIB];

static void
on_released(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&seen.released, 1);
}

static void
send_blob(struct session *s)
{
    while (s->blob_left > 0 && !conn_output_is_full(s->c)) {
        s->blob_left--;
        atomic_fetch_add(&seen.owned, 1);
        conn_write_owned(s->c, span_of(blob, sizeof(blob)), on_released, NULL);
    }
    size_t n = conn_output_bytes(s->c);
    if (n > atomic_load(&seen.output_most))
        atomic_store(&seen.output_most, n);
    if (s->blob_left > 0) {
        conn_pause_input(s->c); /* one command at a time */
        return;
    }
    conn_write_str(s->c, "DONE\r\n");
    conn_resume_input(s->c);
}

static uint32_t
number_after(struct span line, size_t n)
{
    uint32_t v = 0;
    assert_true(parse_u32(span_skip(line, n), &v));
    return v;
}

static void
command(struct session *s, struct span line)
{
    struct conn *c = s->c;
    atomic_fetch_add(&seen.lines, 1);
    if (span_starts(line, SPAN_LIT("ECHO "))) {
        conn_writef(c, "%.*s\r\n", SPAN_FMT(span_skip(line, 5)));
    } else if (span_starts(line, SPAN_LIT("BLOB "))) {
        s->blob_left = number_after(line, 5);
        send_blob(s);
    } else if (span_eq_str(line, "PAUSE")) {
        conn_pause_input(c);
        atomic_store(&seen.paused_conn, c);
        atomic_fetch_add(&seen.paused, 1);
    } else if (span_eq_str(line, "DEFLATE")) {
        conn_write_str(c, "OK deflate\r\n");
        conn_start_deflate(c);
    } else if (span_eq_str(line, "PLAIN")) {
        conn_write_str(c, "OK plain\r\n");
        conn_end_deflate(c);
    } else if (span_eq_str(line, "HALF")) {
        conn_write_str(c, "half\r\n");
        conn_half_close(c);
    } else if (span_eq_str(line, "QUIT")) {
        conn_write_str(c, "BYE\r\n");
        conn_close_after_flush(c);
    } else if (span_eq_str(line, "RESET")) {
        conn_reset(c);
    } else if (span_starts(line, SPAN_LIT("TIMEOUT "))) {
        conn_set_timeout_ms(c, number_after(line, 8));
    } else if (span_starts(line, SPAN_LIT("DEADLINE "))) {
        conn_set_deadline_ms(c, number_after(line, 9));
    } else {
        conn_write_str(c, "BAD\r\n");
    }
}

static size_t
on_input(struct conn *c, struct span in, void *ctx)
{
    struct span line;
    size_t used;
    (void)c;
    if (line_take(in, 200000, &line, &used) != PARSE_DONE)
        return 0;
    command(ctx, line);
    return used;
}

static void
on_drain(struct conn *c, void *ctx)
{
    (void)c;
    atomic_fetch_add(&seen.drained, 1);
    send_blob(ctx);
}

static void
on_timeout(struct conn *c, void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&seen.timeouts, 1);
    conn_write_str(c, "* BYE idle\r\n");
    conn_close_after_flush(c);
}

static void
on_close(struct conn *c, const struct error *why, void *ctx)
{
    conn_close(c); /* harmless */
    conn_write_str(c, "nobody hears this");
    free(ctx);
    atomic_store(&seen.close_code, (int)why->code);
    atomic_fetch_add(&seen.closed, 1);
}

static const struct conn_handler handler = {
    .on_input = on_input,
    .on_drain = on_drain,
    .on_timeout = on_timeout,
    .on_close = on_close,
};

static void
on_conn(struct conn *c, void *ctx)
{
    (void)ctx;
    struct session *s = xcalloc(1, sizeof(*s));
    s->c = c;
    conn_set_handler(c, &handler, s);
    atomic_fetch_add(&seen.opened, 1);
    conn_write_str(c, "* OK\r\n");
}

static const struct listener_service service = {
    .name = "test",
    .on_conn = on_conn,
    .conn = {.input_max = 8192, .output_high = 65536, .linger_ms = 3000},
};

static unsigned fds_before;

static int
begin(void **state)
{
    static struct served s;
    fds_before = open_fds();
    memset(&seen, 0, sizeof(seen));
    memset(&s, 0, sizeof(s));
    serve(&s, 2, &service);
    *state = &s;
    return 0;
}

static int
end(void **state)
{
    serve_end(*state);
    assert_int_equal(open_fds(), fds_before);
    assert_int_equal(atomic_load(&seen.opened), atomic_load(&seen.closed));
    assert_int_equal(atomic_load(&seen.owned), atomic_load(&seen.released));
    return 0;
}

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

    struct conn *paused = atomic_load(&seen.paused_conn);
    reactor_post(conn_reactor(paused), (void (*)(void *))conn_resume_input,
                 paused);
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
    struct conn *paused = atomic_load(&seen.paused_conn);
    reactor_post(conn_reactor(paused), (void (*)(void *))conn_resume_input,
                 paused);
    hear(c, "* BYE idle");
    bclient_close(&c);
}

static void
test_deflate_both_ways_with_pipelined_input(void **state)
{
    struct bclient *c = dial(*state);
    struct error err = {0};
    hear(c, "* OK");
    say(c, "DEFLATE\r\n");
    hear(c, "OK deflate");
    ASSERT_OK(bclient_start_deflate(c, &err));
    assert_int_not_equal(bclient_start_deflate(c, &err), ERR_OK);
    for (int i = 0; i < 2000; i++)
        ASSERT_OK(
            bclient_writef(c, PATIENCE_MS, &err, "ECHO number %d\r\n", i));
    for (int i = 0; i < 2000; i++) {
        char want[32];
        snprintf(want, sizeof(want), "number %d", i);
        hear(c, want);
    }
    say(c, "BLOB 3000\r\n");
    static uint8_t got[BLOB_KIB];
    for (int i = 0; i < 3000; i++) {
        ASSERT_OK(bclient_read_exact(c, got, sizeof(got), PATIENCE_MS, &err));
        assert_memory_equal(got, blob, sizeof(got));
    }
    hear(c, "DONE");
    say(c, "QUIT\r\n");
    hear(c, "BYE");
    hear_end(c);
    bclient_close(&c);
}

/* 64 MiB of zeros in 64 KiB: a line without end, found at input_max. */
static void
test_deflate_bomb_meets_the_limit(void **state)
{
    struct bclient *c = dial(*state);
    struct error err = {0};
    static uint8_t zeros[1 << 20];
    hear(c, "* OK");
    say(c, "DEFLATE\r\n");
    hear(c, "OK deflate");
    ASSERT_OK(bclient_start_deflate(c, &err));
    enum errcode rc = ERR_OK;
    for (int i = 0; i < 64 && rc == ERR_OK; i++)
        rc = bclient_write(c, span_of(zeros, sizeof(zeros)), PATIENCE_MS, &err);
    WAIT_FOR(atomic_load(&seen.closed) == 1);
    assert_int_equal(atomic_load(&seen.close_code), ERR_LIMIT);
    bclient_close(&c);
}

/* ---- the end of DEFLATE ---- */

static void
add_to(void *ctx, struct span out)
{
    buf_add(ctx, out);
}

enum ending {
    BY_FLUSH,
    BY_FINAL_BLOCK,
    BY_BOTH,
};

/* TEXT compressed, with an end. */
static void
squeeze(struct zpipe *z, const char *text, enum ending how, struct buf *out)
{
    zpipe_deflate(z, span_str(text), add_to, out);
    if (how != BY_FINAL_BLOCK)
        zpipe_flush(z, add_to, out);
    if (how != BY_FLUSH)
        zpipe_end_output(z, add_to, out);
}

/* A compressed line, byte for byte. */
static void
hear_squeezed(struct bclient *c, struct zpipe *z, const char *want)
{
    struct error err = {0};
    struct buf got = BUF_INIT;
    bool end = false;

    while (got.n < 2 || got.p[got.n - 1] != '\n') {
        uint8_t byte, plain[16];
        size_t n = 0;
        ASSERT_OK(bclient_read_exact(c, &byte, 1, PATIENCE_MS, &err));
        zpipe_feed(z, span_of(&byte, 1));
        do {
            ASSERT_OK(zpipe_inflate(z, plain, sizeof(plain), &n, &end, &err));
            buf_add(&got, span_of(plain, n));
        } while (n > 0);
    }
    buf_add_byte(&got, 0);
    assert_string_equal((const char *)got.p, want);
    buf_free(&got);
}

/* Up to the final block. */
static void
hear_stream_end(struct bclient *c, struct zpipe *z)
{
    struct error err = {0};
    bool end = false;

    while (!end) {
        uint8_t byte, plain;
        size_t n = 0;
        ASSERT_OK(zpipe_inflate(z, &plain, 1, &n, &end, &err));
        assert_int_equal(n, 0);
        if (end)
            break;
        ASSERT_OK(bclient_read_exact(c, &byte, 1, PATIENCE_MS, &err));
        zpipe_feed(z, span_of(&byte, 1));
    }
    assert_int_equal(zpipe_unused(z).n, 0);
}

/* In pieces of STEP bytes, so that each is likely to be read alone. */
static void
say_bytes(struct bclient *c, struct span bytes, size_t step)
{
    struct error err = {0};

    for (; bytes.n > 0; bytes = span_skip(bytes, step))
        ASSERT_OK(
            bclient_write(c, span_sub(bytes, 0, step), PATIENCE_MS, &err));
}

static void
test_deflate_ends_with_a_line_and_begins_again(void **state)
{
    static const enum ending ways[] = {BY_FLUSH, BY_FINAL_BLOCK, BY_BOTH};
    static const size_t steps[] = {1, 3, 10000};
    struct bclient *c = dial(*state);
    hear(c, "* OK");
    for (size_t i = 0; i < ARRAY_LEN(ways) * ARRAY_LEN(steps); i++) {
        struct zpipe *z = zpipe_new();
        struct buf out = BUF_INIT;
        say(c, "DEFLATE\r\n");
        hear(c, "OK deflate");
        /* What is in clear is pipelined behind the end. */
        squeeze(z, "ECHO small\r\n", BY_FLUSH, &out);
        squeeze(z, "ECHO and\r\nPLAIN\r\n", ways[i / ARRAY_LEN(steps)], &out);
        buf_add_str(&out, "ECHO plain again\r\n");
        say_bytes(c, buf_span(&out), steps[i % ARRAY_LEN(steps)]);
        hear_squeezed(c, z, "small\r\n");
        hear_squeezed(c, z, "and\r\n");
        hear_squeezed(c, z, "OK plain\r\n");
        hear_stream_end(c, z);
        hear(c, "plain again");
        zpipe_free(&z);
        buf_free(&out);
    }
    bclient_close(&c);
}

/* The line that ends it waits for another one, and with it all behind it. */
static void
test_deflate_ends_after_a_rest(void **state)
{
    struct bclient *c = dial(*state);
    struct zpipe *z = zpipe_new();
    struct buf out = BUF_INIT;
    hear(c, "* OK");
    say(c, "DEFLATE\r\n");
    hear(c, "OK deflate");
    squeeze(z, "PAUSE\r\n", BY_FLUSH, &out);
    squeeze(z, "ECHO rested\r\nPLAIN\r\n", BY_FLUSH, &out);
    buf_add_str(&out, "ECHO plain again\r\n");
    say_bytes(c, buf_span(&out), out.n);
    WAIT_FOR(atomic_load(&seen.paused) == 1);
    struct conn *paused = atomic_load(&seen.paused_conn);
    reactor_post(conn_reactor(paused), (void (*)(void *))conn_resume_input,
                 paused);
    hear_squeezed(c, z, "rested\r\n");
    hear_squeezed(c, z, "OK plain\r\n");
    hear_stream_end(c, z);
    hear(c, "plain again");
    zpipe_free(&z);
    buf_free(&out);
    bclient_close(&c);
}

static void
test_more_in_deflate_behind_its_end_is_a_protocol_error(void **state)
{
    static const char *const texts[] = {"PLAIN\r\nECHO x\r\n", "PLAIN\r\n "};
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
        struct bclient *c = dial(*state);
        struct zpipe *z = zpipe_new();
        struct buf out = BUF_INIT;
        hear(c, "* OK");
        say(c, "DEFLATE\r\n");
        hear(c, "OK deflate");
        squeeze(z, texts[i], BY_FLUSH, &out);
        /* It may hang up before the last of them. */
        size_t step = i == 0 ? out.n : 1;
        struct error err = {0};
        enum errcode rc = ERR_OK;
        for (size_t at = 0; at < out.n && rc == ERR_OK; at += step)
            rc = bclient_write(c, span_sub(buf_span(&out), at, step),
                               PATIENCE_MS, &err);
        assert_true(rc == ERR_OK || rc == ERR_CLOSED);
        WAIT_FOR(atomic_load(&seen.closed) == i + 1);
        assert_int_equal(atomic_load(&seen.close_code), ERR_PROTO);
        zpipe_free(&z);
        buf_free(&out);
        bclient_close(&c);
    }
}

static void
test_not_deflate_is_a_protocol_error(void **state)
{
    struct bclient *c = dial(*state);
    hear(c, "* OK");
    say(c, "DEFLATE\r\n");
    hear(c, "OK deflate");
    say(c, "ECHO this is not compressed\r\n\xff\xff\xff\xff");
    WAIT_FOR(atomic_load(&seen.closed) == 1);
    assert_int_equal(atomic_load(&seen.close_code), ERR_PROTO);
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

/* ---- connections that we make ---- */

static struct {
    struct reactor *r;
    struct conn_target target;
    const char *say_first;
    atomic_bool connected, closed;
    atomic_int code;
    struct buf heard;
} out;

static void
out_connected(struct conn *c, void *ctx)
{
    (void)ctx;
    char name[CONN_NAME_BYTES], address[CONN_NAME_BYTES];
    conn_peer_name(c, name);
    conn_peer_address(c, address);
    assert_true(out.target.path != NULL ||
                span_starts(span_str(name), SPAN_LIT("127.0.0.1:")));
    assert_string_equal(address, out.target.path != NULL ? "" : "127.0.0.1");
    atomic_store(&out.connected, true);
    conn_write_str(c, "QUIT\r\n");
}

static size_t
out_input(struct conn *c, struct span in, void *ctx)
{
    (void)c;
    (void)ctx;
    buf_add(&out.heard, in);
    return in.n;
}

static void
out_closed(struct conn *c, const struct error *why, void *ctx)
{
    (void)c;
    (void)ctx;
    atomic_store(&out.code, (int)why->code);
    atomic_store(&out.closed, true);
}

static const struct conn_handler out_handler = {
    .on_connect = out_connected,
    .on_input = out_input,
    .on_close = out_closed,
};

static void
out_begin(void *ctx)
{
    (void)ctx;
    struct conn *c = conn_connect(out.r, &out.target, NULL, &out_handler, NULL);
    if (out.say_first != NULL)
        conn_write_str(c, out.say_first);
}

static void
connect_out(struct served *s, const struct conn_target *target,
            const char *say_first)
{
    buf_free(&out.heard);
    memset(&out, 0, sizeof(out));
    out.r = reactor_pool_get(s->pool, 0);
    out.target = *target;
    out.say_first = say_first;
    reactor_post(out.r, out_begin, NULL);
    WAIT_FOR(atomic_load(&out.closed));
}

static void
test_outgoing_connection_talks(void **state)
{
    struct served *s = *state;
    connect_out(s,
                &(struct conn_target){.host = "127.0.0.1", .service = s->port},
                "ECHO early\r\n");
    assert_true(atomic_load(&out.connected));
    assert_string_equal(buf_cstr(&out.heard), "* OK\r\nearly\r\nBYE\r\n");
    assert_int_equal(atomic_load(&out.code), ERR_CLOSED);
    buf_free(&out.heard);
}

static void
test_outgoing_connection_says_why_not(void **state)
{
    struct served *s = *state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(a);
    char port[8];
    /* Bound, but nobody listens. */
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    getsockname(fd, (struct sockaddr *)&a, &n);
    snprintf(port, sizeof(port), "%u", ntohs(a.sin_port));
    connect_out(s, &(struct conn_target){.host = "127.0.0.1", .service = port},
                NULL);
    assert_int_equal(atomic_load(&out.code), ERR_CLOSED);
    assert_false(atomic_load(&out.connected));
    connect_out(s, &(struct conn_target){.path = "/nonexistent/socket"}, NULL);
    assert_int_equal(atomic_load(&out.code), ERR_NOTFOUND);
    connect_out(s,
                &(struct conn_target){.host = "127.0.0.1",
                                      .service = "no-such-service"},
                NULL);
    assert_int_equal(atomic_load(&out.code), ERR_NOTFOUND);

    /* Its backlog is full: nobody answers. */
    struct error err = {0};
    struct bclient *c = NULL;
    assert_int_equal(bclient_connect("127.0.0.1", port, 100, &c, &err),
                     ERR_CLOSED);
    assert_int_equal(bclient_connect_unix("/nonexistent", 100, &c, &err),
                     ERR_NOTFOUND);
    close(fd);
}

static void
test_connect_without_an_answer_times_out(void **state)
{
    struct served *s = *state;
    int fd = socket(AF_INET, SOCK_STREAM, 0), clients[8];
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(a);
    char port[8];
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(fd, 0), 0);
    getsockname(fd, (struct sockaddr *)&a, &n);
    snprintf(port, sizeof(port), "%u", ntohs(a.sin_port));
    /* Fill the backlog: the kernel then drops what asks to connect. */
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(clients[i], (struct sockaddr *)&a, n);
    }
    connect_out(s,
                &(struct conn_target){
                    .host = "127.0.0.1", .service = port, .timeout_ms = 100},
                NULL);
    assert_int_equal(atomic_load(&out.code), ERR_TIMEOUT);
    struct bclient *c = NULL;
    struct error err = {0};
    assert_int_equal(bclient_connect("127.0.0.1", port, 100, &c, &err),
                     ERR_TIMEOUT);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        close(clients[i]);
    close(fd);
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

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, begin, end)

int
main(void)
{
    for (size_t i = 0; i < sizeof(blob); i++)
        blob[i] = (uint8_t)(i * 31 + i / 256);
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
        WITH_SERVICE(test_deflate_both_ways_with_pipelined_input),
        WITH_SERVICE(test_deflate_bomb_meets_the_limit),
        WITH_SERVICE(test_not_deflate_is_a_protocol_error),
        WITH_SERVICE(test_deflate_ends_with_a_line_and_begins_again),
        WITH_SERVICE(test_deflate_ends_after_a_rest),
        WITH_SERVICE(test_more_in_deflate_behind_its_end_is_a_protocol_error),
        WITH_SERVICE(test_stop_ends_all_connections),
        WITH_SERVICE(test_outgoing_connection_talks),
        WITH_SERVICE(test_outgoing_connection_says_why_not),
        WITH_SERVICE(test_connect_without_an_answer_times_out),
        WITH_SERVICE(test_bclient_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
