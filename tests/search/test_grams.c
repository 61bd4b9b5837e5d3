/*
 * search/grams.c: golden bytes, no block is left out that has a pattern, few
 * are named that have not, and nothing that was cut or changed is taken for
 * whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <xxhash.h>

#include "search/grams.h"

static uint64_t
next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void
test_golden_bytes(void **state)
{
    /* "\0AB", "ABC", "BC\0", times 2654435761, the upper 15 of 32 bits. */
    static const uint32_t of_abc[] = {28697, 19946, 29245};
    struct gram_set set;
    struct gram_filter *f = xcalloc(1, sizeof(*f));
    AUTO(buf_free) struct buf out = BUF_INIT;
    AUTO(buf_free) struct buf want = BUF_INIT;
    uint8_t slots[2 * GRAM_SLOTS] = {0};
    (void)state;

    for (unsigned i = 0; i < 9; i++) { /* "ABC" is in the first and the last */
        gram_set_clear(&set);
        if (i % 8 == 0)
            gram_set_add(&set, SPAN_LIT("ABC"));
        gram_filter_add(f, &set);
    }
    gram_filter_encode(f, &out);
    for (size_t i = 0; i < ARRAY_LEN(of_abc); i++)
        slots[(size_t)2 * of_abc[i]] = slots[(size_t)2 * of_abc[i] + 1] = 1;
    buf_add_byte(&want, 1);
    buf_add_byte(&want, 9);
    buf_add(&want, span_of(slots, sizeof(slots)));
    buf_add_u64le(&want, XXH3_64bits(want.p, want.n));
    assert_int_equal(out.n, want.n);
    assert_memory_equal(out.p, want.p, want.n);
    free(f);
}

static struct span
random_word(uint64_t *rng, uint8_t *room)
{
    static const char letters[] = "ABCDEFGH01\xC3\xA4";
    const size_t n = 1 + next_random(rng) % 9;

    for (size_t i = 0; i < n; i++)
        room[i] = (uint8_t)letters[next_random(rng) % (sizeof(letters) - 1)];
    return span_of(room, n);
}

/* N blocks of random words; whatever piece of "\0WORD\0" is looked for, the
 * block of the word is named. */
static void
check_blocks(unsigned n, uint64_t seed)
{
    enum { WORDS = 40 };
    struct gram_filter *f = xcalloc(1, sizeof(*f));
    AUTO(buf_free) struct buf row = BUF_INIT;
    uint64_t rng = seed, again = seed;
    uint8_t room[16];
    unsigned nblocks = 0;
    uint64_t named = 0, asked = 0;

    for (unsigned b = 0; b < n; b++) {
        struct gram_set set;
        gram_set_clear(&set);
        for (unsigned i = 0; i < WORDS; i++)
            gram_set_add(&set, random_word(&rng, room));
        gram_filter_add(f, &set);
    }
    gram_filter_encode(f, &row);
    assert_true(gram_row_open(buf_span(&row), &nblocks));
    assert_int_equal(nblocks, n);
    for (unsigned i = 0; i < n * WORDS; i++) {
        uint8_t text[18] = {0};
        const struct span word = random_word(&again, text + 1);
        text[word.n + 1] = 0;
        for (size_t from = 0; from < word.n + 2; from++)
            for (size_t k = 1; from + k <= word.n + 2; k++) {
                const uint64_t in =
                    gram_row_find(buf_span(&row), span_of(text + from, k));
                assert_true((in >> (i / WORDS) & 1) != 0);
                assert_true(n == 64 || in >> n == 0);
                if (k < 3)
                    assert_int_equal(__builtin_popcountll(in), n);
                if (k == 7) {
                    asked += n;
                    named += (unsigned)__builtin_popcountll(in);
                }
            }
    }
    if (n == 64) /* and most of the others are not */
        assert_true(named * 10 < asked);
    assert_int_equal(gram_row_find(buf_span(&row), SPAN_LIT("XYZ")), 0);
    free(f);
}

static void
test_no_block_is_left_out(void **state)
{
    static const unsigned counts[] = {1, 4, 8, 9, 33, 63, 64};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        check_blocks(counts[i], 77 + i);
}

static void
test_cleared_has_nothing(void **state)
{
    struct gram_set set;
    struct gram_filter *f = xcalloc(1, sizeof(*f));
    AUTO(buf_free) struct buf row = BUF_INIT;
    (void)state;

    gram_set_clear(&set);
    gram_set_add(&set, SPAN_LIT("ABC"));
    gram_filter_add(f, &set);
    gram_filter_clear(f);
    gram_set_clear(&set);
    gram_filter_add(f, &set);
    gram_filter_encode(f, &row);
    assert_int_equal(gram_row_find(buf_span(&row), SPAN_LIT("ABC")), 0);
    assert_int_equal(gram_row_find(buf_span(&row), SPAN_LIT("AB")), 1);
    free(f);
}

/* ROW with a hash that is right. */
static bool
opens(struct buf *row)
{
    unsigned n;

    row->n -= 8;
    buf_add_u64le(row, XXH3_64bits(row->p, row->n));
    return gram_row_open(buf_span(row), &n);
}

static void
test_cut_or_changed_is_damaged(void **state)
{
    struct gram_set set;
    struct gram_filter *f = xcalloc(1, sizeof(*f));
    AUTO(buf_free) struct buf row = BUF_INIT;
    unsigned n;
    (void)state;

    gram_set_clear(&set);
    gram_set_add(&set, SPAN_LIT("WORD"));
    gram_filter_add(f, &set);
    gram_filter_encode(f, &row);
    assert_true(gram_row_open(buf_span(&row), &n));
    for (size_t i = 0; i < row.n; i++) {
        assert_false(gram_row_open(span_sub(buf_span(&row), 0, i), &n));
        if (i > 100 && i + 100 < row.n && i % 97 != 0)
            continue;
        row.p[i] ^= 4;
        assert_false(gram_row_open(buf_span(&row), &n));
        row.p[i] ^= 4;
    }
    /* Right hashes of what is not one. */
    assert_true(opens(&row));
    for (unsigned count = 0; count < 256; count++) {
        row.p[1] = (uint8_t)count;
        assert_int_equal(opens(&row), count >= 1 && count <= 8);
    }
    row.p[1] = 1;
    row.p[0] = 2;
    assert_false(opens(&row));
    free(f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_bytes),
        cmocka_unit_test(test_no_block_is_left_out),
        cmocka_unit_test(test_cleared_has_nothing),
        cmocka_unit_test(test_cut_or_changed_is_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
