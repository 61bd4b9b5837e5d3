/*
 * tests/base/test_uidset.c - sets of UIDs: every operation against a plain
 * array of flags, text and binary form by golden examples, and every binary
 * form cut at each byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/uidset.h"

static void
assert_text(const struct uidset *s, const char *want)
{
    struct buf out = BUF_INIT;
    uidset_format(s, &out);
    assert_string_equal(buf_cstr(&out), want);
    buf_free(&out);
}

static struct uidset
parsed(const char *text)
{
    struct uidset s = UIDSET_INIT;
    assert_true(uidset_parse(span_str(text), 0, 1000, &s));
    return s;
}

static void
test_add_merges_neighbours_and_overlaps(void **state)
{
    (void)state;
    struct uidset s = UIDSET_INIT;
    assert_text(&s, "");
    uidset_add(&s, 9, 9);
    uidset_add(&s, 5, 1); /* swapped */
    assert_text(&s, "1:5,9");
    uidset_add(&s, 7, 7);
    assert_text(&s, "1:5,7,9");
    uidset_add(&s, 6, 6);
    assert_text(&s, "1:7,9");
    uidset_add(&s, 0, 0);
    assert_text(&s, "1:7,9");
    uidset_add(&s, 0, 8);
    assert_text(&s, "1:9");
    uidset_add(&s, UINT32_MAX, UINT32_MAX);
    uidset_add(&s, UINT32_MAX - 1, UINT32_MAX - 1);
    assert_text(&s, "1:9,4294967294:4294967295");
    assert_true(uidset_count(&s) == 11);
    uidset_add(&s, 1, UINT32_MAX);
    assert_text(&s, "1:4294967295");
    assert_true(uidset_count(&s) == UINT32_MAX);
    uidset_clear(&s);
    assert_text(&s, "");
    uidset_free(&s);
}

static void
test_remove_splits_and_shrinks(void **state)
{
    (void)state;
    struct uidset s = parsed("1:10,20:30");
    uidset_remove(&s, 5, 5);
    assert_text(&s, "1:4,6:10,20:30");
    uidset_remove(&s, 25, 9);
    assert_text(&s, "1:4,6:8,26:30");
    uidset_remove(&s, 11, 19);
    assert_text(&s, "1:4,6:8,26:30");
    uidset_remove(&s, 0, 2);
    assert_text(&s, "3:4,6:8,26:30");
    uidset_remove(&s, 1, UINT32_MAX);
    assert_text(&s, "");
    uidset_free(&s);
}

static void
test_next_and_has(void **state)
{
    (void)state;
    struct uidset s = parsed("3:4,7,4294967295");
    assert_int_equal(uidset_next(&s, 0), 3);
    assert_int_equal(uidset_next(&s, 4), 4);
    assert_int_equal(uidset_next(&s, 5), 7);
    assert_int_equal(uidset_next(&s, 8), UINT32_MAX);
    assert_false(uidset_has(&s, 0));
    assert_false(uidset_has(&s, 2));
    assert_true(uidset_has(&s, 7));
    assert_true(uidset_has(&s, UINT32_MAX));
    uidset_remove(&s, UINT32_MAX, UINT32_MAX);
    assert_int_equal(uidset_next(&s, 8), 0);
    uidset_free(&s);
}

#define FLAGS 64

static uint32_t
next_random(uint64_t *state, uint32_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407U;
    return (uint32_t)(*state >> 33) % below;
}

/* S has exactly the flagged UIDs, in its one form. */
static void
assert_flags(const struct uidset *s, const bool *flags)
{
    uint64_t count = 0;
    for (uint32_t u = 1; u < FLAGS; u++) {
        assert_int_equal(uidset_has(s, u), flags[u]);
        count += flags[u];
    }
    assert_true(uidset_count(s) == count);
    for (size_t i = 0; i < s->n; i++) {
        assert_true(s->r[i].first >= 1 && s->r[i].first <= s->r[i].last);
        if (i > 0)
            assert_true(s->r[i].first > s->r[i - 1].last + 1);
    }
}

static void
test_random_operations_agree_with_flags(void **state)
{
    (void)state;
    uint64_t seed = 1;
    struct uidset s = UIDSET_INIT;
    struct uidset other = UIDSET_INIT;
    bool flags[FLAGS] = {false};
    for (int i = 0; i < 20000; i++) {
        uint32_t a = next_random(&seed, FLAGS);
        uint32_t more = next_random(&seed, 6);
        uint32_t b = MIN(a + more, FLAGS - 1);
        uint32_t kind = next_random(&seed, 5);
        if (kind == 4) {
            uidset_add(&other, a, b);
            uidset_add_set(&s, &other);
            for (uint32_t u = 1; u < FLAGS; u++)
                flags[u] |= uidset_has(&other, u);
            if (uidset_count(&other) > 20)
                uidset_clear(&other);
        } else {
            bool add = kind < 2;
            if (add)
                uidset_add(&s, a, b);
            else
                uidset_remove(&s, a, b);
            for (uint32_t u = MAX(a, 1U); u <= b; u++)
                flags[u] = add;
        }
        assert_flags(&s, flags);
    }
    uidset_free(&s);
    uidset_free(&other);
}

static void
test_text_in_any_order_gives_the_set(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        uint32_t star;
        const char *out;
    } good[] = {
        {"1", 0, "1"},
        {"9,1:5", 0, "1:5,9"},
        {"5:1,2,2,6", 0, "1:6"},
        {"4294967295", 0, "4294967295"},
        {"*", 7, "7"},
        {"*:3", 7, "3:7"},
        {"9:*", 7, "7:9"}, /* RFC 9051, 9: order does not matter */
        {"*", 0, ""},
        {"1:*,4", 0, "4"},
        {"*:*", 7, "7"},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct uidset s = UIDSET_INIT;
        assert_true(uidset_parse(span_str(good[i].in), good[i].star, 1000, &s));
        assert_text(&s, good[i].out);
        uidset_free(&s);
    }
}

static void
test_bad_text_is_refused_and_the_set_untouched(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",   ",",  "1,",    ",1",   "0",  "1:0",  "01",
        "1:", ":1", "1:2:3", "a",    "1 ", "1,,2", "4294967296",
        "-1", "$",  "**",    "1:**", "+1", "1;2",  "1:2,x",
    };
    struct uidset s = parsed("4");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(uidset_parse(span_str(bad[i]), 9, 1000, &s));
    assert_false(uidset_parse(span_of("1\0", 2), 9, 1000, &s));
    assert_false(uidset_parse(SPAN_LIT("1,3,5"), 9, 2, &s));
    assert_text(&s, "4");
    assert_true(uidset_parse(SPAN_LIT("1,3,5"), 9, 3, &s));
    assert_text(&s, "1,3:5");
    uidset_free(&s);
}

static const struct {
    const char *text;
    struct span bytes;
} golden[] = {
    {"", {(const uint8_t *)"\x00", 1}},
    {"1", {(const uint8_t *)"\x01\x00\x00", 3}},
    {"1:5,9", {(const uint8_t *)"\x02\x00\x04\x03\x00", 5}},
    {"300:555", {(const uint8_t *)"\x01\xab\x02\xff\x01", 5}},
    {"1:4294967295", {(const uint8_t *)"\x01\x00\xfe\xff\xff\xff\x0f", 7}},
    {"4294967295", {(const uint8_t *)"\x01\xfe\xff\xff\xff\x0f\x00", 7}},
};

static void
test_binary_form_is_golden_and_cuts_are_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
        struct uidset s = UIDSET_INIT;
        if (golden[i].text[0] != '\0')
            s = parsed(golden[i].text);
        struct buf out = BUF_INIT;
        uidset_encode(&s, &out);
        assert_true(span_eq(buf_span(&out), golden[i].bytes));

        struct uidset back = parsed("77"); /* replaced, not added to */
        struct rd r = rd_init(golden[i].bytes);
        uidset_decode(&r, 1000, &back);
        assert_true(rd_done(&r));
        assert_true(uidset_eq(&s, &back));
        for (size_t cut = 0; cut < golden[i].bytes.n; cut++) {
            r = rd_init(span_sub(golden[i].bytes, 0, cut));
            uidset_decode(&r, 1000, &back);
            assert_true(r.bad);
            assert_true(back.n == 0);
        }
        buf_free(&out);
        uidset_free(&s);
        uidset_free(&back);
    }
}

static void
test_binary_form_out_of_its_bounds_is_bad(void **state)
{
    (void)state;
    static const struct span bad[] = {
        /* more ranges than are allowed here */
        {(const uint8_t *)"\x03\x00\x00\x01\x00\x01\x00", 7},
        /* a count for which no bytes came: nothing is allocated */
        {(const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00",
         12},
        /* adjacent ranges: 1, 2 */
        {(const uint8_t *)"\x02\x00\x00\x00\x00", 5},
        /* past 32 bits: by the gap, by the length, by both */
        {(const uint8_t *)"\x01\xff\xff\xff\xff\x0f\x00", 7},
        {(const uint8_t *)"\x01\x00\xff\xff\xff\xff\x0f", 7},
        {(const uint8_t *)"\x01\x80\x80\x80\x80\x10\x00", 7},
        /* overlong varint */
        {(const uint8_t *)"\x01\x80\x00\x00", 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct uidset s = UIDSET_INIT;
        struct rd r = rd_init(bad[i]);
        uidset_decode(&r, 2, &s);
        assert_true(r.bad);
        assert_true(s.n == 0);
        uidset_free(&s);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_merges_neighbours_and_overlaps),
        cmocka_unit_test(test_remove_splits_and_shrinks),
        cmocka_unit_test(test_next_and_has),
        cmocka_unit_test(test_random_operations_agree_with_flags),
        cmocka_unit_test(test_text_in_any_order_gives_the_set),
        cmocka_unit_test(test_bad_text_is_refused_and_the_set_untouched),
        cmocka_unit_test(test_binary_form_is_golden_and_cuts_are_bad),
        cmocka_unit_test(test_binary_form_out_of_its_bounds_is_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
