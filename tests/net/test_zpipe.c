/*
 * tests/net/test_zpipe.c - net/zpipe.c without a connection: both ways, cut at
 * each byte, the ends of a stream, what is no DEFLATE, and what is many small
 * blocks.
 */
#include <stdlib.h>

#include "squeeze.h"

/* What Z gives of what was fed, added to TO, until that has WANTED bytes: who
 * has got the last line must not inflate on. */
static enum errcode
inflate_to(struct zpipe *z, size_t room, size_t wanted, struct buf *to,
           bool *ret_end, struct error *err)
{
    uint8_t plain[4096];

    assert_in_range(room, 1, sizeof(plain));
    for (size_t n = 1; n > 0 && to->n < wanted;) {
        enum errcode rc = zpipe_inflate(z, plain, room, &n, ret_end, err);
        if (rc != ERR_OK)
            return rc;
        buf_add(to, span_of(plain, n));
    }
    return ERR_OK;
}

static void
test_what_was_flushed_comes_out_however_it_is_cut(void **state)
{
    static const size_t steps[] = {1, 2, 7, 100000};
    static const size_t rooms[] = {1, 3, 4096};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(steps) * ARRAY_LEN(rooms); i++) {
        struct zpipe *z = zpipe_new();
        AUTO(buf_free) struct buf wire = BUF_INIT, text = BUF_INIT;
        AUTO(buf_free) struct buf got = BUF_INIT;
        struct error err = {0};
        bool end = true;
        for (int k = 0; k < 300; k++) {
            AUTO(xfree) char *line = xasprintf("line %d\r\n", k * k);
            buf_add_str(&text, line);
            squeeze(z, line, BY_FLUSH, &wire);
        }
        for (struct span left = buf_span(&wire); left.n > 0;
             left = span_skip(left, steps[i / ARRAY_LEN(rooms)])) {
            zpipe_feed(z, span_sub(left, 0, steps[i / ARRAY_LEN(rooms)]));
            ASSERT_OK(inflate_to(z, rooms[i % ARRAY_LEN(rooms)], SIZE_MAX, &got,
                                 &end, &err));
        }
        assert_false(end);
        assert_false(zpipe_has_input(z));
        assert_true(span_eq(buf_span(&got), buf_span(&text)));
        zpipe_free(&z);
        assert_null(z);
        zpipe_free(&z);
    }
}

static void
test_nothing_is_flushed_where_nothing_waits(void **state)
{
    struct zpipe *z = zpipe_new();
    AUTO(buf_free) struct buf wire = BUF_INIT;
    (void)state;

    squeeze(z, "", BY_FLUSH, &wire);
    assert_int_equal(wire.n, 0);
    squeeze(z, "x", BY_FLUSH, &wire);
    const size_t n = wire.n;
    assert_true(n > 0);
    squeeze(z, "", BY_FLUSH, &wire);
    assert_int_equal(wire.n, n);
    zpipe_free(&z);
}

/* A line that is the last one; what is in clear follows it at once. */
static void
end_cut_at(struct span wire, size_t compressed, size_t cut, bool has_final)
{
    static const char line[] = "the last line\r\n";
    const size_t n = sizeof(line) - 1;
    const struct span parts[] = {span_sub(wire, 0, cut), span_skip(wire, cut)};
    struct zpipe *z = zpipe_new();
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct error err = {0};
    bool end = false;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        zpipe_feed(z, parts[i]);
        ASSERT_OK(inflate_to(z, 100, n, &got, &end, &err));
        if (got.n < n)
            continue;
        ASSERT_OK(zpipe_end_input(z, &end, &err));
        assert_true(!end || i == 1 || cut >= compressed);
    }
    assert_true(end);
    assert_true(zpipe_is_over(z) == has_final);
    assert_true(span_eq_str(buf_span(&got), line));
    assert_true(span_eq_str(zpipe_unused(z), "clear"));
    zpipe_free(&z);
}

static void
test_end_is_found_whichever_way_and_wherever_it_is_cut(void **state)
{
    static const enum ending ways[] = {BY_FLUSH, BY_FINAL_BLOCK, BY_BOTH};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        AUTO(buf_free) struct buf wire = BUF_INIT;
        struct zpipe *z = zpipe_new();
        squeeze(z, "the last line\r\n", ways[i], &wire);
        zpipe_free(&z);
        const size_t compressed = wire.n;
        buf_add_str(&wire, "clear");
        for (size_t cut = 0; cut < wire.n; cut++)
            end_cut_at(buf_span(&wire), compressed, cut, ways[i] != BY_FLUSH);
    }
}

static void
test_more_behind_the_last_line_is_an_error(void **state)
{
    AUTO(buf_free) struct buf wire = BUF_INIT;
    struct zpipe *z = zpipe_new();
    struct error err = {0};
    uint8_t plain[100];
    size_t n = 0;
    bool end = true;
    (void)state;

    zpipe_deflate(z, SPAN_LIT("last\r\nmore\r\n"), add_to, &wire);
    zpipe_flush(z, add_to, &wire);
    zpipe_feed(z, buf_span(&wire));
    ASSERT_OK(zpipe_inflate(z, plain, 6, &n, &end, &err));
    assert_int_equal(n, 6);
    end = true;
    assert_int_equal(zpipe_end_input(z, &end, &err), ERR_PROTO);
    assert_true(end); /* untouched */
    zpipe_free(&z);
}

static void
test_what_is_no_deflate_is_an_error_and_stays_one(void **state)
{
    struct zpipe *z = zpipe_new();
    struct error err = {0};
    uint8_t plain[100];
    size_t n = 77;
    bool end = true;
    (void)state;

    zpipe_feed(z, SPAN_LIT("\xff\xff\xff\xff"));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(zpipe_inflate(z, plain, sizeof(plain), &n, &end, &err),
                         ERR_PROTO);
        assert_int_equal(n, 77); /* untouched */
        assert_true(end);
        zpipe_feed(z, SPAN_LIT("more"));
    }
    zpipe_free(&z);
}

/* A million blocks of ten bits without a byte in them, which would take minutes
 * if what waits were moved for each. */
static void
test_small_blocks_take_linear_time(void **state)
{
    static const uint8_t four[] = {0x02, 0x08, 0x20, 0x80, 0x00};
    static const uint8_t stored[] = {0x00, 0x01, 0x00, 0xfe, 0xff, 'x'};
    struct zpipe *z = zpipe_new();
    AUTO(buf_free) struct buf wire = BUF_INIT, got = BUF_INIT;
    struct error err = {0};
    struct timespec from, to;
    bool end = true;
    (void)state;

    for (int i = 0; i < 1 << 18; i++)
        buf_add(&wire, span_of(four, sizeof(four)));
    buf_add(&wire, span_of(stored, sizeof(stored)));
    zpipe_feed(z, buf_span(&wire));
    clock_gettime(CLOCK_MONOTONIC, &from);
    ASSERT_OK(inflate_to(z, 100, SIZE_MAX, &got, &end, &err));
    clock_gettime(CLOCK_MONOTONIC, &to);
    /* Far above what it takes, far below what a square would. */
    assert_true(to.tv_sec - from.tv_sec < 10);
    assert_true(span_eq_str(buf_span(&got), "x"));
    assert_false(end);
    zpipe_free(&z);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_flushed_comes_out_however_it_is_cut),
        cmocka_unit_test(test_nothing_is_flushed_where_nothing_waits),
        cmocka_unit_test(
            test_end_is_found_whichever_way_and_wherever_it_is_cut),
        cmocka_unit_test(test_more_behind_the_last_line_is_an_error),
        cmocka_unit_test(test_what_is_no_deflate_is_an_error_and_stays_one),
        cmocka_unit_test(test_small_blocks_take_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
