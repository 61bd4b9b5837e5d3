/*
 * tests/net/line_service.h - a service that speaks lines, to which the tests of
 * connections talk: "ECHO x", "BLOB n" (n KiB as fast as the peer takes them),
 * "PAUSE" (rests until resume_paused()), "DEFLATE", "PLAIN", "HALF", "QUIT",
 * "RESET", "TIMEOUT ms", "DEADLINE ms".  It greets with "* OK".
 */
#ifndef POLLUX_TESTS_LINE_SERVICE_H
#define POLLUX_TESTS_LINE_SERVICE_H

#include <stdlib.h>

#include "net_test.h"
#include "net/lineread.h"

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

static uint8_t blob[BLOB_KIB]; /* begin() fills it */

static inline void
on_released(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&seen.released, 1);
}

static inline void
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

static inline uint32_t
number_after(struct span line, size_t n)
{
    uint32_t v = 0;
    assert_true(parse_u32(span_skip(line, n), &v));
    return v;
}

static inline void
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

static inline size_t
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

static inline void
on_drain(struct conn *c, void *ctx)
{
    (void)c;
    atomic_fetch_add(&seen.drained, 1);
    send_blob(ctx);
}

static inline void
on_timeout(struct conn *c, void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&seen.timeouts, 1);
    conn_write_str(c, "* BYE idle\r\n");
    conn_close_after_flush(c);
}

static inline void
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

static inline void
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

static inline int
begin(void **state)
{
    static struct served s;
    for (size_t i = 0; i < sizeof(blob); i++)
        blob[i] = (uint8_t)(i * 31 + i / 256);
    fds_before = open_fds();
    memset(&seen, 0, sizeof(seen));
    memset(&s, 0, sizeof(s));
    serve(&s, 2, &service);
    *state = &s;
    return 0;
}

static inline int
end(void **state)
{
    serve_end(*state);
    assert_int_equal(open_fds(), fds_before);
    assert_int_equal(atomic_load(&seen.opened), atomic_load(&seen.closed));
    assert_int_equal(atomic_load(&seen.owned), atomic_load(&seen.released));
    return 0;
}

/* The session that rests since "PAUSE" goes on. */
static inline void
resume_paused(void)
{
    struct conn *c = atomic_load(&seen.paused_conn);

    reactor_post(conn_reactor(c), (void (*)(void *))conn_resume_input, c);
}

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, begin, end)

#endif
