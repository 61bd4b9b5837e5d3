/* tests/base/test_buf.c - spans, buffers, readers, arenas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdalign.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/rd.h"

static void
test_number_out_of_range_is_refused(void **state)
{
    (void)state;
    uint32_t v = 7;
    assert_true(parse_u32(SPAN_LIT("4294967295"), &v));
    assert_int_equal(v, UINT32_MAX);
    v = 7;
    assert_false(parse_u32(SPAN_LIT("4294967296"), &v));
    assert_false(parse_u32(SPAN_LIT("+1"), &v));
    assert_false(parse_u32(SPAN_LIT(" 1"), &v));
    assert_false(parse_u32(SPAN_EMPTY, &v));
    assert_int_equal(v, 7);
    uint64_t w = 0;
    assert_true(parse_u64(SPAN_LIT("18446744073709551615"), &w));
    assert_false(parse_u64(SPAN_LIT("18446744073709551616"), &w));
}

static void
test_buf_past_its_maximum_is_full_and_unchanged(void **state)
{
    (void)state;
    struct buf b = BUF_MAX(4);
    buf_add_str(&b, "abc");
    buf_add_str(&b, "de");
    assert_true(b.full);
    assert_true(span_eq_str(buf_span(&b), "abc"));
    buf_free(&b);
}

static void
test_varint_cut_anywhere_is_bad(void **state)
{
    (void)state;
    static const uint64_t values[] = {0,     1,          127,       128,
                                      16384, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct buf b = BUF_INIT;
        buf_add_varint(&b, values[i]);
        struct rd r = rd_init(buf_span(&b));
        assert_true(rd_varint(&r) == values[i]);
        assert_true(rd_done(&r));
        for (size_t cut = 0; cut < b.n; cut++) {
            r = rd_init(span_sub(buf_span(&b), 0, cut));
            (void)rd_varint(&r);
            assert_true(r.bad);
        }
        buf_free(&b);
    }
    struct rd overlong = rd_init(SPAN_LIT("\x80\x00"));
    (void)rd_varint(&overlong);
    assert_true(overlong.bad);
}

static void
test_error_text_keeps_prefixes_in_order(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(error_set(&err, ERR_LIMIT, "record of %d bytes", 9),
                     ERR_LIMIT);
    assert_int_equal(error_prefix(&err, "append"), ERR_LIMIT);
    assert_string_equal(err.text, "append: record of 9 bytes");
    assert_int_equal(error_set_errno(&err, 28, "write x"), ERR_NOSPACE);
}

static void
test_arena_serves_small_and_large_and_starts_again(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    for (int round = 0; round < 3; round++) {
        char *small = arena_str(&a, SPAN_LIT("hello"));
        uint8_t *large = arena_alloc(&a, 100000);
        large[99999] = 1;
        assert_string_equal(small, "hello");
        assert_string_equal(arena_printf(&a, "%d-%s", 5, small), "5-hello");
        arena_reset(&a);
    }
    /* Much, in pieces: zeros that nobody else has. */
    enum { PIECES = 2000 };
    static uint8_t *pieces[PIECES];
    for (size_t i = 0; i < PIECES; i++) {
        const size_t n = 1 + i * 17 % 20000;
        pieces[i] = arena_alloc(&a, n);
        assert_int_equal((uintptr_t)pieces[i] % alignof(max_align_t), 0);
        for (size_t at = 0; at < n; at++)
            assert_true(pieces[i][at] == 0);
        memset(pieces[i], (int)(i % 251), n);
    }
    for (size_t i = 0; i < PIECES; i++)
        assert_true(pieces[i][0] == i % 251 &&
                    pieces[i][i * 17 % 20000] == i % 251);
    arena_free(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number_out_of_range_is_refused),
        cmocka_unit_test(test_buf_past_its_maximum_is_full_and_unchanged),
        cmocka_unit_test(test_varint_cut_anywhere_is_bad),
        cmocka_unit_test(test_error_text_keeps_prefixes_in_order),
        cmocka_unit_test(test_arena_serves_small_and_large_and_starts_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
