/* tests/mime/test_header.c - fields, address lists, parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mime/header.h"

static void
assert_span(struct span s, const char *want)
{
    if (!span_eq_str(s, want))
        fail_msg("got:  %.*s\nwant: %s", SPAN_FMT(s), want);
}

static const char block[] = "From me Thu Jan  1 00:00:00 1970\r\n"
                            "Received: one\r\n"
                            "Subject:  a\r\n"
                            "\tb \r\n"
                            "garbage\r\n"
                            " more of it\r\n"
                            "RECEIVED : two\r\n"
                            ": nameless\r\n"
                            "X:\r\n"
                            "\r\n"
                            "Not: a field\r\n";

static void
test_fields_in_order(void **state)
{
    static const char *const want[][2] = {{"Received", " one"},
                                          {"Subject", "  a\r\n\tb "},
                                          {"RECEIVED", " two"},
                                          {"X", ""}};
    struct span left = span_of(block, sizeof(block) - 1);
    struct mime_field f;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_true(mime_field_next(&left, &f));
        assert_span(f.name, want[i][0]);
        assert_span(f.value, want[i][1]);
    }
    assert_false(mime_field_next(&left, &f));
    assert_false(mime_field_next(&left, &f));
}

static void
test_header_fields_and_not(void **state)
{
    struct span names[] = {SPAN_LIT("subject"), SPAN_LIT("x")};
    struct span b = span_of(block, sizeof(block) - 1);
    struct buf out = BUF_INIT;
    (void)state;

    mime_header_fields(b, names, 2, false, &out);
    assert_span(buf_span(&out), "Subject:  a\r\n\tb \r\nX:\r\n\r\n");
    buf_clear(&out);
    mime_header_fields(b, names, 2, true, &out);
    assert_span(buf_span(&out), "Received: one\r\nRECEIVED : two\r\n\r\n");
    buf_clear(&out);
    mime_header_fields(b, names, 0, false, &out);
    assert_span(buf_span(&out), "\r\n");
    buf_clear(&out);
    mime_header_fields(SPAN_LIT("x: cut"), names, 2, false, &out);
    assert_span(buf_span(&out), "x: cut\r\n\r\n");
    buf_clear(&out);
    mime_header_fields(SPAN_EMPTY, names, 2, false, &out);
    assert_span(buf_span(&out), "\r\n");
    buf_free(&out);
}

static void
test_header_get_unfolds(void **state)
{
    struct span b = span_of(block, sizeof(block) - 1);
    struct buf out = BUF_INIT;
    (void)state;

    assert_true(mime_header_get(b, SPAN_LIT("SUBJECT"), 0, &out));
    assert_span(buf_span(&out), "a\tb");
    buf_clear(&out);
    assert_true(mime_header_get(b, SPAN_LIT("received"), 1, &out));
    assert_span(buf_span(&out), "two");
    assert_false(mime_header_get(b, SPAN_LIT("received"), 2, &out));
    assert_false(mime_header_get(b, SPAN_LIT("not"), 0, &out));
    buf_free(&out);
}

/* name|route|mailbox|host for each; "{" and "}" for groups. */
static void
print_addresses(const struct mime_address *a, struct buf *out)
{
    buf_clear(out);
    for (; a != NULL; a = a->next) {
        switch (a->kind) {
        case MIME_ADDRESS_MAILBOX:
            buf_addf(out, "[%.*s|%.*s|%.*s|%.*s]", SPAN_FMT(a->name),
                     SPAN_FMT(a->route), SPAN_FMT(a->mailbox),
                     SPAN_FMT(a->host));
            break;
        case MIME_ADDRESS_GROUP:
            buf_addf(out, "%.*s{", SPAN_FMT(a->mailbox));
            break;
        case MIME_ADDRESS_GROUP_END:
            buf_add_byte(out, '}');
            break;
        }
    }
}

/* RFC 5322, appendix A, and what is seen in the wild. */
static void
test_address_lists(void **state)
{
    static const struct {
        const char *text;
        const char *want;
    } cases[] = {
        {"", ""},
        {" ,\r\n ,;", ""},
        {"a@b", "[||a|b]"},
        {"John Doe <jdoe@machine.example>", "[John Doe||jdoe|machine.example]"},
        {"\"Joe Q. Public\" <john.q.public@example.com>",
         "[Joe Q. Public||john.q.public|example.com]"},
        {"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
         "[Mary Smith||mary|x.test][||jdoe|example.org][Who?||one|y.test]"},
        {"<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <s@example.net>",
         "[||boss|nil.test][Giant; \"Big\" Box||s|example.net]"},
        {"A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
         "A Group{[Ed Jones||c|a.test][||joe|where.test]"
         "[John||jdoe|one.test]}"},
        {"Undisclosed recipients:;", "Undisclosed recipients{}"},
        {"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
         "[Pete||pete|silly.test]"},
        {"A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)"
         "public.example>,\r\n joe@example.org,\r\n  John <jdoe@one.test> "
         "(my dear friend); (the end of the group)",
         "A Group{[Chris Jones||c|public.example][||joe|example.org]"
         "[John||jdoe|one.test]}"},
        {"Joe Q. Public <john.q.public@example.com>",
         "[Joe Q. Public||john.q.public|example.com]"},
        {"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
         "[Mary Smith|@node.test|mary|example.net][||jdoe|test.example]"},
        {"a@b (John (J.) Doe)", "[John (J.) Doe||a|b]"},
        {"<a@b> (Jane)", "[Jane||a|b]"},
        {"\"john doe\"@x", "[||john doe|x]"},
        {"john . doe @ x . y", "[||john.doe|x.y]"},
        {"a@b <c@d>", "[a@b||c|d]"},
        {"root", "[||root|]"},
        {"Some One", "[||Some One|]"},
        {"Some One a@b", "[Some One||a|b]"},
        {"a@b c@d", "[a@b||c|d]"},
        {"<a@b> <c@d>", "[||a|b][||c|d]"},
        {"<a@b> x, <c@d>", "[||a|b][||c|d]"},
        {"<a@b, c@d", "[||a|b][||c|d]"},
        {"a@b; c@d", "[||a|b][||c|d]"},
        {"a@[127.0.0.1]", "[||a|[127.0.0.1]]"},
        {"x <a@[IPv6:::1]>", "[x||a|[IPv6:::1]]"},
        {"g: a, h: b", "g{[||a|][||h: b|]}"},
        {"\"unclosed, a@b", "[||unclosed, a@b|]"},
        {"a@b (unclosed, c@d", "[unclosed, c@d||a|b]"},
        {"<>", "[|||]"},
        {"=?utf-8?Q?J=C3=BC?= <j@x>", "[=?utf-8?Q?J=C3=BC?=||j|x]"},
        {"\"a\r\n b\" <c@d>", "[a b||c|d]"},
        {"\"\" <c@d>", "[||c|d]"},
        {"> ) a@b", "[||a|b]"},
    };
    struct buf out = BUF_INIT;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct mime_address *a = NULL;
        bool full = false;
        size_t n = mime_addresses_parse(span_str(cases[i].text), 100, &arena,
                                        &a, &full);
        print_addresses(a, &out);
        if (!span_eq_str(buf_span(&out), cases[i].want))
            fail_msg("%s\ngot:  %.*s\nwant: %s", cases[i].text,
                     SPAN_FMT(buf_span(&out)), cases[i].want);
        assert_false(full);
        for (; a != NULL; a = a->next)
            n--;
        assert_int_equal(n, 0);
        arena_free(&arena);
    }
    buf_free(&out);
}

static void
test_address_lists_are_bounded(void **state)
{
    struct buf out = BUF_INIT;
    (void)state;

    for (size_t max = 0; max < 8; max++) {
        static const char *const want[] = {
            "",
            "[||a|]",
            "[||a|]", /* no room for a group and its end */
            "[||a|]g{}",
            "[||a|]g{[||b|]}",
            "[||a|]g{[||b|]}[||c|]",
            "[||a|]g{[||b|]}[||c|]",
            "[||a|]g{[||b|]}[||c|]"};
        struct arena arena = ARENA_INIT;
        struct mime_address *a = NULL;
        bool full = false;
        size_t n = mime_addresses_parse(SPAN_LIT("a, g: b;, c"), max, &arena,
                                        &a, &full);
        print_addresses(a, &out);
        assert_span(buf_span(&out), want[max]);
        assert_true(n <= max);
        assert_int_equal(full, max < 5);
        arena_free(&arena);
    }
    buf_free(&out);
}

static void
print_typed(const struct mime_typed *t, struct buf *out)
{
    buf_clear(out);
    buf_addf(out, "%.*s/%.*s", SPAN_FMT(t->type), SPAN_FMT(t->subtype));
    for (const struct mime_param *p = t->params; p != NULL; p = p->next)
        buf_addf(out, ";%.*s=%.*s", SPAN_FMT(p->name), SPAN_FMT(p->value));
}

/* RFC 2045, 5.1; RFC 2231, 3 and 4; and what is seen in the wild. */
static void
test_types_and_parameters(void **state)
{
    static const struct {
        const char *text;
        const char *want;
        bool slash;
    } cases[] = {
        {"", "/", true},
        {"text/plain", "text/plain", true},
        {"text", "/", true},
        {"/plain", "/", true},
        {" text / (c) plain (d) ; charset = us-ascii (Plain text)",
         "text/plain;charset=us-ascii", true},
        {"text/plain; charset=\"us-ascii\"", "text/plain;charset=us-ascii",
         true},
        {"x/y; a=b c; d", "x/y;a=b c", true},
        {"x/y; a=b c=d", "x/y;a=b;c=d", true},
        {"x/y; a=\"b\" c=d", "x/y;a=b;c=d", true},
        {"x/y;;; a=;b==c=;=d", "x/y;a=;b==c=", true},
        {"x/y; a=\"\\\"q\\\\\" ;\r\n b=\"1\r\n 2\"", "x/y;a=\"q\\;b=1 2", true},
        {"x/y; a=\"open", "x/y;a=open", true},
        {"attachment; filename=genome.jpeg;\r\n modification-date=\"Wed, 12 "
         "Feb 1997\"",
         "attachment/;filename=genome.jpeg;modification-date=Wed, 12 Feb "
         "1997",
         false},
        {"message/external-body; access-type=URL;\r\n URL*0=\"ftp://\";\r\n "
         "URL*1=\"cs.utk.edu/x\"",
         "message/external-body;access-type=URL;URL=ftp://cs.utk.edu/x", true},
        {"application/x-stuff; title*=us-ascii'en-us'This%20is%20%2A%2A",
         "application/x-stuff;title*=us-ascii'en-us'This%20is%20%2A%2A", true},
        {"application/x-stuff\r\n ;title*0*=us-ascii'en'This%20is%20even%20"
         "more%20\r\n ;title*1*=%2A%2A%2Afun%2A%2A%2A%20\r\n "
         ";title*2=\"isn't it!\"",
         "application/x-stuff;title*=us-ascii'en'This%20is%20even%20more%20"
         "%2A%2A%2Afun%2A%2A%2A%20isn%27t%20it%21",
         true},
        /* Out of order, another between, a gap, one twice. */
        {"x/y; n*1=b; m=q; n*0=a; n*3=d; n*1=c", "x/y;m=q;n=ab;n*3=d;n*1=c",
         true},
        {"x/y; n*1=b", "x/y;n*1=b", true},
        {"x/y; n*x=b; *=c; *0=d", "x/y;n*x=b;*=c;*0=d", true},
        {"x/y; n*0=a%; n*1*=%41", "x/y;n*=''a%25%41", true},
    };
    struct buf out = BUF_INIT;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct mime_typed t;
        bool full = false;
        mime_typed_parse(span_str(cases[i].text), cases[i].slash, 100, &arena,
                         &t, &full);
        print_typed(&t, &out);
        if (!span_eq_str(buf_span(&out), cases[i].want))
            fail_msg("%s\ngot:  %.*s\nwant: %s", cases[i].text,
                     SPAN_FMT(buf_span(&out)), cases[i].want);
        assert_false(full);
        arena_free(&arena);
    }
    buf_free(&out);
}

static void
test_parameters_are_bounded_and_found(void **state)
{
    struct arena arena = ARENA_INIT;
    struct mime_typed t;
    bool full = false;
    (void)state;

    mime_typed_parse(SPAN_LIT("a/b; C=1; d=2; e=3"), true, 2, &arena, &t,
                     &full);
    assert_true(full);
    assert_span(mime_param_get(&t, "c"), "1");
    assert_span(mime_param_get(&t, "D"), "2");
    assert_span(mime_param_get(&t, "e"), "");
    arena_free(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_in_order),
        cmocka_unit_test(test_header_fields_and_not),
        cmocka_unit_test(test_header_get_unfolds),
        cmocka_unit_test(test_address_lists),
        cmocka_unit_test(test_address_lists_are_bounded),
        cmocka_unit_test(test_types_and_parameters),
        cmocka_unit_test(test_parameters_are_bounded_and_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
