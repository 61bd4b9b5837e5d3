/*
 * tests/mime/test_message_limits.c - what a hostile message costs: limits of
 * mime/message.c and what they leave, time, and a message cut at each byte.
 */
#include <stdlib.h>
#include <time.h>

#include "messagetest.h"

static double
now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
test_depth_limit_makes_an_opaque_leaf(void **state)
{
    struct mime_limits limits = {.depth = 3};
    struct fixture f;
    (void)state;

    fixture_make_limited(&f, SPAN_ARRAY(nasty), &limits);
    assert_true((f.cache.flags & MIME_CACHE_LIMITED) != 0);
    assert_section(&f, "3.1", "three one");
    assert_section(&f, "4.1", "GIF");
    assert_section(&f, "4.2.HEADER",
                   "Subject: deep\r\n"
                   "Content-Type: multipart/mixed; boundary=deep\r\n\r\n");
    assert_no_section(&f, "4.2.2", ERR_NOTFOUND);
    fixture_free(&f);
    limits.depth = 1;
    fixture_make_limited(&f, SPAN_ARRAY(nasty), &limits);
    assert_section(&f, "4.MIME",
                   "Content-Type: multipart/mixed; boundary=four\r\n\r\n");
    assert_true(span_find(f.cache.body,
                          SPAN_LIT("\"APPLICATION\" \"OCTET-STREAM\"")) > 0);
    fixture_free(&f);
}

static void
test_part_limit_gives_the_rest_to_the_last(void **state)
{
    (void)state;

    for (uint32_t n = 1; n < 18; n++) {
        struct mime_limits limits = {.parts = n};
        struct fixture f;
        fixture_make_limited(&f, SPAN_ARRAY(nasty), &limits);
        assert_int_equal(f.cache.nparts, MIN(n, 15));
        assert_int_equal((f.cache.flags & MIME_CACHE_LIMITED) != 0, n <= 15);
        fixture_free(&f);
    }
}

static void
test_header_limits_leave_fields_out(void **state)
{
    struct mime_limits limits = {.fields = 1};
    struct fixture f;
    const char *raw = "Subject: a\r\nTo: a@b, c@d, e: f@g;\r\n\r\n";
    (void)state;

    fixture_make_limited(&f, span_str(raw), &limits);
    assert_span(f.cache.envelope,
                "(NIL \"a\" NIL NIL NIL NIL NIL NIL NIL NIL)");
    assert_int_equal(f.cache.flags, MIME_CACHE_LIMITED | MIME_CACHE_FIELDS);
    fixture_free(&f);
    limits = (struct mime_limits){.header_bytes = 15};
    fixture_make_limited(&f, span_str(raw), &limits);
    assert_span(f.cache.envelope,
                "(NIL \"a\" NIL NIL NIL NIL NIL NIL NIL NIL)");
    fixture_free(&f);
    limits = (struct mime_limits){.addresses = 4};
    fixture_make_limited(&f, span_str(raw), &limits);
    assert_span(f.cache.envelope,
                "(NIL \"a\" NIL NIL NIL ((NIL NIL \"a\" \"b\")"
                "(NIL NIL \"c\" \"d\")(NIL NIL \"e\" NIL)(NIL NIL NIL NIL)) "
                "NIL NIL NIL NIL)");
    assert_int_equal(f.cache.flags, MIME_CACHE_LIMITED | MIME_CACHE_FIELDS);
    fixture_free(&f);
}

/* What would be quadratic, or recurse, in a careless parser. */
static void
test_hostile_messages_take_linear_time(void **state)
{
    static const struct {
        const char *head;
        const char *again;
        int times;
    } cases[] = {
        {"Content-Type: multipart/mixed; boundary=x\n\n",
         "--x\nContent-Type: multipart/mixed; boundary=x\n\n", 10000},
        {"", "Content-Type: message/rfc822\n\n", 10000},
        {"Content-Type: multipart/digest; boundary=x\n\n", "--x\n\n\n", 100000},
        {"Subject: ", "[a]", 350000},
        {"Subject: ", "=?a?q?", 180000},
        {"Subject: ", "[fwd:", 200000},
        {"Subject: ", "re:", 350000},
        {"To: ", "(", 1000000},
        {"To: ", "<@", 500000},
        {"To: ", "a,", 500000},
        {"To: ", "a:b;", 250000},
        {"To: ", "\"", 1000000},
        {"To: ", "a@b ", 250000},
        {"To: ", "\n ", 500000},
        {"References: ", "<a>", 300000},
        {"References: ", "<", 1000000},
        {"Content-Type: text/plain", ";a*0=b", 150000},
        {"Content-Type: text/plain; a=", "b ", 500000},
        {"Content-Disposition: x; ", "a*1*=", 200000},
        {"", "a: b\n", 200000},
        {"Content-Language: ", "a,", 500000},
        {"Date: ", "(1 ", 300000},
        {"Content-Type: multipart/mixed; boundary=x\n\n", "--xx \n", 200000},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf raw = BUF_INIT;
        struct mime_message *m = NULL;
        struct buf out = BUF_INIT;
        struct mime_cache cache;

        buf_add_str(&raw, cases[i].head);
        for (int k = 0; k < cases[i].times; k++)
            buf_add_str(&raw, cases[i].again);
        double t = now_s();
        mime_parse(buf_span(&raw), NULL, &m);
        mime_cache_encode(m, &out);
        mime_message_free(&m);
        t = now_s() - t;
        if (getenv("MIME_TIMES") != NULL)
            print_message("%2zu: %.0f ms, record of %zu bytes\n", i, t * 1e3,
                          out.n);
        /* Far above what it takes, far below what a square would. */
        assert_true(t < 10);
        assert_int_equal(mime_cache_decode(buf_span(&out), &cache, NULL),
                         ERR_OK);
        assert_null(mime_check_envelope(cache.envelope));
        assert_null(mime_check_body(cache.body, false));
        assert_null(mime_check_body(cache.bodystructure, true));
        buf_free(&out);
        buf_free(&raw);
    }
}

static void
test_message_cut_anywhere_parses(void **state)
{
    (void)state;

    for (size_t n = 0; n < sizeof(nasty); n++) {
        struct fixture f;
        uint8_t *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, nasty, n);
        fixture_make_limited(&f, span_of(copy, n), NULL);
        fixture_free(&f);
        free(copy);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_depth_limit_makes_an_opaque_leaf),
        cmocka_unit_test(test_part_limit_gives_the_rest_to_the_last),
        cmocka_unit_test(test_header_limits_leave_fields_out),
        cmocka_unit_test(test_hostile_messages_take_linear_time),
        cmocka_unit_test(test_message_cut_anywhere_parses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
