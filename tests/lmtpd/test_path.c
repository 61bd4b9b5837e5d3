/*
 * tests/lmtpd/test_path.c - addresses and parameters: what is one, what is not,
 * and each good one cut at every byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "lmtpd/path.h"

static const struct {
    const char *in;
    const char *text; /* NULL: not a path */
    const char *local;
    const char *domain;
    const char *left;
} paths[] = {
    {"<>", "", "", "", ""},
    {"<a@b.example>", "a@b.example", "a", "b.example", ""},
    {" <a@b> SIZE=1", "a@b", "a", "b", " SIZE=1"},
    {"<user>", "user", "user", "", ""},
    {"<fred+Lists/x@b>", "fred+Lists/x@b", "fred+Lists/x", "b", ""},
    {"<a..b.@b>", "a..b.@b", "a..b.", "b", ""},
    {"<\"a b\\\"c\\\\\"@b>", "\"a b\\\"c\\\\\"@b", "a b\"c\\", "b", ""},
    {"<\"a@b\">", "\"a@b\"", "a@b", "", ""},
    {"<@r1,@r2.example:a@b>", "a@b", "a", "b", ""},
    {"<a@[127.0.0.1]>", "a@[127.0.0.1]", "a", "[127.0.0.1]", ""},
    {"<a@[IPv6:::1]>", "a@[IPv6:::1]", "a", "[IPv6:::1]", ""},
    {"<\xc3\xbc@\xc3\xbc>", "\xc3\xbc@\xc3\xbc", "\xc3\xbc", "\xc3\xbc", ""},
    {"", NULL, NULL, NULL, NULL},
    {"a@b", NULL, NULL, NULL, NULL},
    {"<a@b", NULL, NULL, NULL, NULL},
    {"<a@>", NULL, NULL, NULL, NULL},
    {"<@b>", NULL, NULL, NULL, NULL},
    {"<a b@c>", NULL, NULL, NULL, NULL},
    {"<a@b c>", NULL, NULL, NULL, NULL},
    {"<a@b>x", NULL, NULL, NULL, NULL},
    {"<a@b>>", NULL, NULL, NULL, NULL},
    {"<\"a@b>", NULL, NULL, NULL, NULL},
    {"<\"\"@b>", NULL, NULL, NULL, NULL},
    {"<\"a\"b@c>", NULL, NULL, NULL, NULL},
    {"<\"a\\", NULL, NULL, NULL, NULL},
    {"<\"a\tb\"@c>", NULL, NULL, NULL, NULL},
    {"<a\rb@c>", NULL, NULL, NULL, NULL},
    {"<a@b\x7f>", NULL, NULL, NULL, NULL},
    {"<a@[1>", NULL, NULL, NULL, NULL},
    {"<@a,b:c@d>", NULL, NULL, NULL, NULL},
    {"<@a@b:c@d>", NULL, NULL, NULL, NULL},
};

static void
test_paths_are_taken_apart_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        AUTO(arena_free) struct arena a = ARENA_INIT;
        struct span left = span_str(paths[i].in);
        struct lmtp_path p;
        bool good = lmtp_path_take(&left, &a, &p);
        if (good != (paths[i].text != NULL))
            fail_msg("\"%s\": %d", paths[i].in, good);
        if (!good)
            continue;
        assert_true(span_eq_str(p.text, paths[i].text));
        assert_true(span_eq_str(p.local, paths[i].local));
        assert_true(span_eq_str(p.domain, paths[i].domain));
        assert_true(span_eq_str(left, paths[i].left));
        assert_int_equal(p.is_utf8, paths[i].text[0] == '\xc3');
    }
}

static void
test_path_cut_anywhere_is_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        size_t n = strlen(paths[i].in);
        if (paths[i].text == NULL)
            continue;
        for (size_t cut = 0; cut < n - strlen(paths[i].left); cut++) {
            AUTO(arena_free) struct arena a = ARENA_INIT;
            struct span left = span_of(paths[i].in, cut);
            struct lmtp_path p;
            assert_false(lmtp_path_take(&left, &a, &p));
            assert_int_equal(left.n, cut);
        }
    }
}

static void
test_path_longer_than_the_limit_is_refused(void **state)
{
    (void)state;
    for (size_t n = LMTP_PATH_BYTES - 1; n <= LMTP_PATH_BYTES + 1; n++) {
        AUTO(arena_free) struct arena a = ARENA_INIT;
        AUTO(buf_free) struct buf b = BUF_INIT;
        struct lmtp_path p;
        buf_add_byte(&b, '<');
        for (size_t i = 0; i < n; i++)
            buf_add_byte(&b, 'x');
        buf_add_byte(&b, '>');
        struct span left = buf_span(&b);
        assert_int_equal(lmtp_path_take(&left, &a, &p), n <= LMTP_PATH_BYTES);
    }
}

static void
test_params_are_taken_one_by_one(void **state)
{
    struct span left = SPAN_LIT("  SIZE=12 SMTPUTF8  X-Y=a=b");
    struct lmtp_param p;
    (void)state;

    assert_int_equal(lmtp_param_take(&left, &p), LMTP_PARAM_OK);
    assert_true(span_eq_str(p.key, "SIZE") && span_eq_str(p.value, "12"));
    assert_int_equal(lmtp_param_take(&left, &p), LMTP_PARAM_OK);
    assert_true(span_eq_str(p.key, "SMTPUTF8") && !p.has_value);
    assert_int_equal(lmtp_param_take(&left, &p), LMTP_PARAM_OK);
    assert_true(span_eq_str(p.key, "X-Y") && span_eq_str(p.value, "a=b"));
    assert_int_equal(lmtp_param_take(&left, &p), LMTP_PARAM_END);
}

static void
test_bad_params_are_refused(void **state)
{
    static const char *const bad[] = {"=x", "SIZE=", "A B=\x01", "A_B",
                                      "\xc3\xbc=1"};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct span left = span_str(bad[i]);
        struct lmtp_param p;
        enum lmtp_param_found found;
        while ((found = lmtp_param_take(&left, &p)) == LMTP_PARAM_OK)
            ;
        assert_int_equal(found, LMTP_PARAM_BAD);
    }
}

static void
test_xtext_is_decoded_or_refused(void **state)
{
    static const char *const bad[] = {"+",   "+4",  "+4g", "a b",
                                      "a=b", "+0A", "\xc3"};
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct span out;
    (void)state;

    assert_true(lmtp_xtext_decode(SPAN_LIT("e+3Dmc2@b"), &a, &out));
    assert_true(span_eq_str(out, "e=mc2@b"));
    assert_true(lmtp_xtext_decode(SPAN_LIT("<>"), &a, &out));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(lmtp_xtext_decode(span_str(bad[i]), &a, &out));
}

static void
test_utf8_is_told_from_what_looks_like_it(void **state)
{
    static const char *const good[] = {"",
                                       "abc",
                                       "\xc3\xbc",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xed\x9f\xbf",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {
        "\x80",         "\xc3",         "\xc0\x80",         "\xe0\x80\x80",
        "\xed\xa0\x80", "\xe2\x82",     "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
        "\xff",         "\xe2\x82\x28", "\xc3\xbc\xc3"};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(lmtp_is_utf8(span_str(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(lmtp_is_utf8(span_str(bad[i])));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths_are_taken_apart_or_refused),
        cmocka_unit_test(test_path_cut_anywhere_is_none),
        cmocka_unit_test(test_path_longer_than_the_limit_is_refused),
        cmocka_unit_test(test_params_are_taken_one_by_one),
        cmocka_unit_test(test_bad_params_are_refused),
        cmocka_unit_test(test_xtext_is_decoded_or_refused),
        cmocka_unit_test(test_utf8_is_told_from_what_looks_like_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
