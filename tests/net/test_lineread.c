/* tests/net/test_lineread.c - lines and literals, whole and cut at every byte.
 */
#include "net_test.h"
#include "net/lineread.h"

static void
test_line_ends_by_crlf_or_lf(void **state)
{
    (void)state;
    struct span line;
    size_t used;
    assert_int_equal(line_take(SPAN_LIT("a1 NOOP\r\nnext"), 100, &line, &used),
                     PARSE_DONE);
    assert_true(span_eq_str(line, "a1 NOOP"));
    assert_int_equal(used, 9);
    assert_int_equal(line_take(SPAN_LIT("\n"), 100, &line, &used), PARSE_DONE);
    assert_int_equal(line.n, 0);
    assert_int_equal(used, 1);
    assert_int_equal(line_take(SPAN_LIT("a\rb\r\r\n"), 100, &line, &used),
                     PARSE_DONE);
    assert_true(span_eq_str(line, "a\rb\r"));
}

static void
test_line_cut_anywhere_asks_for_more(void **state)
{
    (void)state;
    struct span whole = SPAN_LIT("abcdef\r\n"), line = SPAN_LIT("untouched");
    size_t used = 77;
    for (size_t cut = 0; cut < whole.n; cut++) {
        assert_int_equal(line_take(span_sub(whole, 0, cut), 6, &line, &used),
                         PARSE_MORE);
        assert_int_equal(used, 77);
    }
    assert_int_equal(line_take(whole, 6, &line, &used), PARSE_DONE);
    assert_int_equal(line_take(whole, 5, &line, &used), PARSE_BAD);
}

static void
test_line_too_long_is_bad_as_soon_as_certain(void **state)
{
    (void)state;
    struct span line;
    size_t used;
    assert_int_equal(line_take(SPAN_LIT("abcd"), 4, &line, &used), PARSE_MORE);
    assert_int_equal(line_take(SPAN_LIT("abcd\r"), 4, &line, &used),
                     PARSE_MORE);
    assert_int_equal(line_take(SPAN_LIT("abcde"), 4, &line, &used), PARSE_BAD);
    assert_int_equal(line_take(SPAN_LIT("abcd\re"), 4, &line, &used),
                     PARSE_BAD);
    assert_int_equal(line_take(SPAN_LIT("abcd\n"), 4, &line, &used),
                     PARSE_DONE);
    /* An LF far behind the limit is not looked for. */
    assert_int_equal(line_take(SPAN_LIT("abcdefghijk\n"), 4, &line, &used),
                     PARSE_BAD);
    assert_int_equal(line_take(SPAN_LIT("abc"), SIZE_MAX, &line, &used),
                     PARSE_MORE);
}

static void
test_literals(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum literal_found found;
        uint64_t n;
        bool nonsync, binary;
        const char *before;
    } cases[] = {
        {"a APPEND x {10}", LITERAL_OK, 10, false, false, "a APPEND x "},
        {"a APPEND x {10+}", LITERAL_OK, 10, true, false, "a APPEND x "},
        {"a APPEND x {10-}", LITERAL_OK, 10, true, false, "a APPEND x "},
        {"a APPEND x ~{10}", LITERAL_OK, 10, false, true, "a APPEND x "},
        {"~{0+}", LITERAL_OK, 0, true, true, ""},
        {"{1000}", LITERAL_OK, 1000, false, false, ""},
        {"{1001}", LITERAL_TOO_BIG, 1001, false, false, ""},
        {"{18446744073709551616}", LITERAL_TOO_BIG, UINT64_MAX, false, false,
         ""},
        {"{99999999999999999999999+}", LITERAL_TOO_BIG, UINT64_MAX, true, false,
         ""},
        {"{}", LITERAL_NONE, 0, false, false, NULL},
        {"{+}", LITERAL_NONE, 0, false, false, NULL},
        {"{-1}", LITERAL_NONE, 0, false, false, NULL},
        {"{1 }", LITERAL_NONE, 0, false, false, NULL},
        {"{1++}", LITERAL_NONE, 0, false, false, NULL},
        {"1}", LITERAL_NONE, 0, false, false, NULL},
        {"{1} ", LITERAL_NONE, 0, false, false, NULL},
        {"", LITERAL_NONE, 0, false, false, NULL},
        {"}", LITERAL_NONE, 0, false, false, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct literal lit = {0};
        struct span before = SPAN_EMPTY;
        assert_int_equal(
            line_literal(span_str(cases[i].line), 1000, &lit, &before),
            cases[i].found);
        if (cases[i].found == LITERAL_NONE)
            continue;
        assert_true(lit.n == cases[i].n);
        assert_int_equal(lit.nonsync, cases[i].nonsync);
        assert_int_equal(lit.binary, cases[i].binary);
        assert_true(span_eq_str(before, cases[i].before));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_ends_by_crlf_or_lf),
        cmocka_unit_test(test_line_cut_anywhere_asks_for_more),
        cmocka_unit_test(test_line_too_long_is_bad_as_soon_as_certain),
        cmocka_unit_test(test_literals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
