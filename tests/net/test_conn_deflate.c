/*
 * tests/net/test_conn_deflate.c - DEFLATE on a connection: both ways, its
 * bombs, and its end, after which the rest is in clear.
 */
#include <unistd.h>

#include "line_service.h"
#include "squeeze.h"

/* A client whose next byte is compressed, both ways. */
static struct bclient *
dial_deflate(const struct served *s)
{
    struct bclient *c = dial(s);

    hear(c, "* OK");
    say(c, "DEFLATE\r\n");
    hear(c, "OK deflate");
    return c;
}

static void
test_deflate_both_ways_with_pipelined_input(void **state)
{
    struct bclient *c = dial_deflate(*state);
    struct error err = {0};
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
    struct bclient *c = dial_deflate(*state);
    struct error err = {0};
    static uint8_t zeros[1 << 20];
    ASSERT_OK(bclient_start_deflate(c, &err));
    enum errcode rc = ERR_OK;
    for (int i = 0; i < 64 && rc == ERR_OK; i++)
        rc = bclient_write(c, span_of(zeros, sizeof(zeros)), PATIENCE_MS, &err);
    WAIT_FOR(atomic_load(&seen.closed) == 1);
    assert_int_equal(atomic_load(&seen.close_code), ERR_LIMIT);
    bclient_close(&c);
}

static void
test_not_deflate_is_a_protocol_error(void **state)
{
    struct bclient *c = dial_deflate(*state);
    say(c, "ECHO this is not compressed\r\n\xff\xff\xff\xff");
    WAIT_FOR(atomic_load(&seen.closed) == 1);
    assert_int_equal(atomic_load(&seen.close_code), ERR_PROTO);
    bclient_close(&c);
}

/* ---- the end of DEFLATE ---- */

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
    struct bclient *c = dial_deflate(*state);
    struct zpipe *z = zpipe_new();
    struct buf out = BUF_INIT;
    squeeze(z, "PAUSE\r\n", BY_FLUSH, &out);
    squeeze(z, "ECHO rested\r\nPLAIN\r\n", BY_FLUSH, &out);
    buf_add_str(&out, "ECHO plain again\r\n");
    say_bytes(c, buf_span(&out), out.n);
    WAIT_FOR(atomic_load(&seen.paused) == 1);
    resume_paused();
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
        struct bclient *c = dial_deflate(*state);
        struct zpipe *z = zpipe_new();
        struct buf out = BUF_INIT;
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(test_deflate_both_ways_with_pipelined_input),
        WITH_SERVICE(test_deflate_bomb_meets_the_limit),
        WITH_SERVICE(test_not_deflate_is_a_protocol_error),
        WITH_SERVICE(test_deflate_ends_with_a_line_and_begins_again),
        WITH_SERVICE(test_deflate_ends_after_a_rest),
        WITH_SERVICE(test_more_in_deflate_behind_its_end_is_a_protocol_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
