/*
 * search/words.c: words of a text however it is cut, long ones in pieces, and
 * the patterns of a needle; above all that no text is missed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "search/words.h"
#include "tests/lib/storetest.h"

static void
add_word(void *ctx, struct span w)
{
    struct buf *out = ctx;

    assert_true(w.n > 0 && w.n <= WORD_MAX);
    buf_add_byte(out, 0);
    buf_add(out, w);
}

/* As a block has them: "\0W\0W\0". */
static void
split(struct span text, size_t cut, struct buf *out)
{
    AUTO(buf_free) struct buf left = BUF_INIT;

    buf_clear(out);
    for (size_t at = 0; at < text.n; at += cut) {
        buf_add(&left, span_sub(text, at, cut));
        size_t keep = words_split(buf_span(&left), add_word, out);
        buf_drop(&left, left.n - keep);
    }
    buf_add_byte(&left, 0);
    assert_int_equal(words_split(buf_span(&left), add_word, out), 0);
    buf_add_byte(out, 0);
}

static void
check_words(const char *text, const char *want)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    AUTO(buf_free) struct buf shown = BUF_INIT;

    for (size_t cut = 1; cut < 12; cut++) {
        split(span_str(text), cut, &out);
        buf_clear(&shown);
        for (size_t i = 1; i + 1 < out.n; i++)
            buf_add_byte(&shown, out.p[i] == 0 ? '|' : out.p[i]);
        assert_string_equal(buf_cstr(&shown), want);
    }
}

static void
test_words_end_at_what_is_no_letter(void **state)
{
    (void)state;
    check_words("HELLO, WORLD", "HELLO|WORLD");
    check_words("JO@EXAMPLE.ORG <X1>", "JO|EXAMPLE|ORG|X1");
    check_words("  ", "");
    check_words("GR\xC3\x9C\xC3\x9F"
                "E_AUS-ROM",
                "GR\xC3\x9C\xC3\x9F"
                "E|AUS|ROM");
}

static void
test_long_words_are_pieces(void **state)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    char text[101];
    (void)state;

    for (size_t i = 0; i < 100; i++)
        text[i] = (char)('A' + i % 26);
    text[100] = '\0';
    split(span_str(text), 100, &out);
    /* 0-63, 32-95, 64-99 */
    assert_int_equal(out.n, 1 + 64 + 1 + 64 + 1 + 36 + 1);
    assert_memory_equal(out.p + 1, text, 64);
    assert_memory_equal(out.p + 66, text + 32, 64);
    assert_memory_equal(out.p + 131, text + 64, 36);
}

static bool
has_all(struct span words, const struct word_query *q)
{
    for (size_t i = 0; i < q->npatterns; i++)
        if (span_find(words, word_query_pattern(q, i)) < 0)
            return false;
    return true;
}

/* Random text over few letters and blanks, runs of all lengths: whatever is in
 * it, the words say so; and where they are exact, what is not in it they do not
 * say. */
static void
test_no_text_is_missed(void **state)
{
    uint64_t rng = 7;
    AUTO(buf_free) struct buf text = BUF_INIT;
    AUTO(buf_free) struct buf words = BUF_INIT;
    size_t exact = 0, absent = 0;
    (void)state;

    for (int round = 0; round < 300; round++) {
        buf_clear(&text);
        const size_t n = 1 + ts_random(&rng, round % 10 == 0 ? 20000 : 300);
        const uint64_t blank = 2 + ts_random(&rng, 400);
        for (size_t i = 0; i < n; i++)
            buf_add_byte(&text, ts_random(&rng, blank) == 0
                                    ? (uint8_t) " .-@"[ts_random(&rng, 4)]
                                    : (uint8_t)('A' + ts_random(&rng, 3)));
        split(buf_span(&text), 1 + ts_random(&rng, 5000), &words);
        for (int k = 0; k < 40; k++) {
            struct word_query q;
            AUTO(buf_free) struct buf needle = BUF_INIT;
            const size_t len = 1 + ts_random(&rng, k < 20 ? 12 : 120);
            buf_add(&needle,
                    span_sub(buf_span(&text), ts_random(&rng, n), len));
            if (k % 4 == 0)
                buf_add_byte(&needle, (uint8_t)('A' + ts_random(&rng, 4)));
            const bool there =
                span_find(buf_span(&text), buf_span(&needle)) >= 0;
            if (!word_query_make(buf_span(&needle), &q)) {
                word_query_free(&q);
                continue;
            }
            const bool says = has_all(buf_span(&words), &q);
            assert_true(says || !there);
            if (q.exact) {
                assert_int_equal(says, there);
                exact++;
            }
            absent += !says;
            word_query_free(&q);
        }
    }
    assert_true(exact > 1000 && absent > 100);
}

static void
test_needles_become_patterns(void **state)
{
    struct word_query q;
    (void)state;

    assert_false(word_query_make(SPAN_LIT(" .-"), &q));
    word_query_free(&q);
    assert_false(word_query_make(SPAN_EMPTY, &q));
    word_query_free(&q);

    assert_true(word_query_make(SPAN_LIT("VOICE"), &q));
    assert_true(q.exact);
    assert_int_equal(q.npatterns, 1);
    assert_true(span_eq(word_query_pattern(&q, 0), SPAN_LIT("VOICE")));
    word_query_free(&q);

    assert_true(word_query_make(SPAN_LIT("OHN@EXAMPLE.OR"), &q));
    assert_false(q.exact);
    assert_int_equal(q.npatterns, 3);
    assert_true(span_eq(word_query_pattern(&q, 0), span_of("\0EXAMPLE\0", 9)));
    assert_true(span_eq(word_query_pattern(&q, 1), span_of("OHN\0", 4)));
    assert_true(span_eq(word_query_pattern(&q, 2), span_of("\0OR", 3)));
    word_query_free(&q);

    /* Longer than any piece is sure to have. */
    AUTO(buf_free) struct buf s = BUF_INIT;
    for (size_t i = 0; i < WORD_NEEDLE_MAX + 1; i++)
        buf_add_byte(&s, 'X');
    assert_true(word_query_make(buf_span(&s), &q));
    assert_false(q.exact);
    assert_int_equal(word_query_pattern(&q, 0).n, WORD_NEEDLE_MAX);
    word_query_free(&q);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_end_at_what_is_no_letter),
        cmocka_unit_test(test_long_words_are_pieces),
        cmocka_unit_test(test_no_text_is_missed),
        cmocka_unit_test(test_needles_become_patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
