/*
 * tests/admin/test_json.c - admin/json.c: every token, every way to be wrong,
 * every text also cut at each byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "admin/json.h"
#include "base/buf.h"

/* The tokens of TEXT as letters, with what a text one says. */
static void
tokens(struct span text, struct buf *out)
{
    static const char letters[] = ".!{}[]ksn10_";
    struct arena a = ARENA_INIT;
    struct json j;
    enum json_kind k;

    json_begin(&j, text, &a);
    do {
        k = json_next(&j);
        buf_add_byte(out, (uint8_t)letters[k]);
        if (k == JSON_KEY || k == JSON_STRING || k == JSON_NUMBER)
            buf_addf(out, "(%.*s)", SPAN_FMT(j.text));
    } while (k != JSON_END && k != JSON_BAD);
    arena_free(&a);
}

static void
check(const char *text, const char *want)
{
    AUTO(buf_free) struct buf got = BUF_INIT;

    tokens(span_str(text), &got);
    assert_string_equal(buf_cstr(&got), want);
}

static void
test_values(void **state)
{
    (void)state;
    check("{}", "{}.");
    check(" [ ] ", "[].");
    check("\"x\"", "s(x).");
    check("-12.5e+3", "n(-12.5e+3).");
    check("0", "n(0).");
    check("[true,false,null]", "[10_].");
    check("{\"a\":1,\"b\":[\"c\",{\"d\":{}}],\r\n\t\"e\":\"\"}",
          "{k(a)n(1)k(b)[s(c){k(d){}}]k(e)s()}.");
}

static void
test_strings(void **state)
{
    (void)state;
    check("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "s(\"\\/\b\f\n\r\t).");
    check("\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"",
          "s(A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80).");
    check("\"\\u0000\"", "!");
    check("\"\\ud83d\"", "!");
    check("\"\\ude00\"", "!");
    check("\"\\ud83d\\u0041\"", "!");
    check("\"\\x\"", "!");
    check("\"\\u12g4\"", "!");
    check("\"a\nb\"", "!");
}

static void
test_what_is_no_json(void **state)
{
    static const struct {
        const char *text, *want;
    } bad[] = {
        {"", "!"},
        {"x", "!"},
        {"[1 2]", "[n(1)!"},
        {"[1,]", "[n(1)!"},
        {"[,1]", "[!"},
        {"{1:2}", "{!"},
        {"{\"a\" 1}", "{!"},
        {"{\"a\":}", "{k(a)!"},
        {"{\"a\":1,}", "{k(a)n(1)!"},
        {"[}", "[!"},
        {"{]", "{!"},
        {"1 1", "n(1)!"},
        {"01", "!"},
        {"1.", "!"},
        {"1e", "!"},
        {"-", "!"},
        {"+1", "!"},
        {"tru", "!"},
        {"]", "!"},
        {"nul", "!"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        check(bad[i].text, bad[i].want);
}

static void
test_cut_anywhere_is_no_json(void **state)
{
    static const char text[] =
        "{\"user.joe\": {\"name\": \"user.joe\", \"n\": [1.5e3, true, null], "
        "\"acl\": {\"j\\u00e9\": \"lrs\"}}}";

    (void)state;
    for (size_t n = 0; n + 1 < sizeof(text); n++) {
        AUTO(buf_free) struct buf got = BUF_INIT;
        tokens(span_of(text, n), &got);
        assert_int_equal(got.p[got.n - 1], '!');
    }
}

static void
test_depth_has_a_limit(void **state)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    AUTO(buf_free) struct buf got = BUF_INIT;

    (void)state;
    for (unsigned i = 0; i < JSON_DEPTH_MAX; i++)
        buf_add_byte(&text, '[');
    for (unsigned i = 0; i < JSON_DEPTH_MAX; i++)
        buf_add_byte(&text, ']');
    tokens(buf_span(&text), &got);
    assert_int_equal(got.p[got.n - 1], '.');
    buf_clear(&text);
    buf_clear(&got);
    for (unsigned i = 0; i <= JSON_DEPTH_MAX; i++)
        buf_add_byte(&text, '[');
    tokens(buf_span(&text), &got);
    assert_int_equal(got.n, JSON_DEPTH_MAX + 1);
    assert_int_equal(got.p[JSON_DEPTH_MAX], '!');
}

static void
test_strings_have_a_limit(void **state)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    AUTO(buf_free) struct buf got = BUF_INIT;

    (void)state;
    buf_add_byte(&text, '"');
    for (unsigned i = 0; i < JSON_STRING_MAX + 2; i++)
        buf_add_byte(&text, 'a');
    buf_add_byte(&text, '"');
    tokens(buf_span(&text), &got);
    assert_int_equal(got.p[0], '!');
}

static void
test_skip_takes_a_whole_value(void **state)
{
    struct arena a = ARENA_INIT;
    struct json j;

    (void)state;
    json_begin(&j, SPAN_LIT("{\"a\":{\"b\":[1,{}]},\"c\":2,\"d\":[1"), &a);
    assert_int_equal(json_next(&j), JSON_OBJECT);
    assert_int_equal(json_next(&j), JSON_KEY);
    assert_true(json_skip(&j, json_next(&j)));
    assert_int_equal(json_next(&j), JSON_KEY);
    assert_true(json_skip(&j, json_next(&j)));
    assert_int_equal(json_next(&j), JSON_KEY);
    assert_false(json_skip(&j, json_next(&j)));
    assert_string_equal(j.why, "it ends too early");
    arena_free(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_what_is_no_json),
        cmocka_unit_test(test_cut_anywhere_is_no_json),
        cmocka_unit_test(test_depth_has_a_limit),
        cmocka_unit_test(test_strings_have_a_limit),
        cmocka_unit_test(test_skip_takes_a_whole_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
