/*
 * tests/metrics/test_http.c - metrics/http.c: good requests cut at each byte,
 * what is refused and with which status, what goes out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "metrics/http.h"

static void
expect(const char *in, const char *path, bool is_head, bool keep_alive)
{
    struct http_request q;
    struct span s = span_str(in);
    size_t used = 0;
    unsigned status = 0;

    for (size_t n = 0; n < s.n; n++) {
        used = 99;
        assert_int_equal(http_parse(span_sub(s, 0, n), &q, &used, &status),
                         PARSE_MORE);
        assert_int_equal(used, 99);
    }
    /* What comes behind it is not touched. */
    AUTO(buf_free) struct buf b = BUF_INIT;
    buf_add(&b, s);
    buf_add_str(&b, "GET /next");
    assert_int_equal(http_parse(buf_span(&b), &q, &used, &status), PARSE_DONE);
    assert_int_equal(used, s.n);
    assert_true(span_eq_str(q.path, path));
    assert_int_equal(q.is_head, is_head);
    assert_int_equal(q.keep_alive, keep_alive);
}

static void
test_requests_cut_anywhere_ask_for_more(void **state)
{
    (void)state;
    expect("GET / HTTP/1.1\r\n\r\n", "/", false, true);
    expect("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "/metrics", true, true);
    expect("GET /a?b=c HTTP/1.0\r\nHost: a\r\n\r\n", "/a", false, false);
    expect("GET /x HTTP/1.1\r\nConnection: Upgrade , CLOSE\r\n\r\n", "/x",
           false, false);
    expect("GET /x HTTP/1.1\r\nContent-Length: 0\r\nA:\tb c\t\r\n\r\n", "/x",
           false, true);
}

static void
refused(const char *in, unsigned want)
{
    struct http_request q;
    size_t used = 99;
    unsigned status = 0;

    assert_int_equal(http_parse(span_str(in), &q, &used, &status), PARSE_BAD);
    assert_int_equal(status, want);
    assert_int_equal(used, 99);
}

static void
test_what_is_not_a_request_is_refused(void **state)
{
    (void)state;
    refused(" GET / HTTP/1.1\r\n\r\n", 400);
    refused("\r\n\r\n", 400);
    refused("\x16\x03\x01", 400); /* TLS: at the first byte */
    refused("AVERYLONGMETHODNAME", 400);
    refused("GET /\r\n\r\n", 400);
    refused("GET  / HTTP/1.1\r\n\r\n", 400);
    refused("GET http://a/ HTTP/1.1\r\n\r\n", 400);
    refused("GET /\x80 HTTP/1.1\r\n\r\n", 400);
    refused("GET / HTTP/2.0\r\n\r\n", 505);
    refused("GET / HTTP/1.1 \r\n\r\n", 400);
    refused("GET / http/1.1\r\n\r\n", 400);
    refused("POST / HTTP/1.1\r\n\r\n", 405);
    refused("get / HTTP/1.1\r\n\r\n", 405);
    refused("GET / HTTP/1.1\r\nnocolon\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nName : x\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nName: a\nb\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 413);
    refused("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 413);
}

static void
test_heads_have_a_limit(void **state)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct http_request q;
    size_t used;
    unsigned status = 0;

    (void)state;
    buf_add_str(&b, "GET / HTTP/1.1\r\nA: ");
    while (b.n < HTTP_HEAD_MAX - 4)
        buf_add_byte(&b, 'a');
    buf_add_str(&b, "\r\n\r\n");
    assert_int_equal(b.n, HTTP_HEAD_MAX);
    assert_int_equal(http_parse(buf_span(&b), &q, &used, &status), PARSE_DONE);
    /* One byte more: at the limit it is known that it cannot fit. */
    b.n -= 4;
    buf_add_str(&b, "a\r\n\r\n");
    for (size_t n = 0; n < HTTP_HEAD_MAX; n += 97)
        assert_int_equal(
            http_parse(span_sub(buf_span(&b), 0, n), &q, &used, &status),
            PARSE_MORE);
    assert_int_equal(http_parse(span_sub(buf_span(&b), 0, HTTP_HEAD_MAX), &q,
                                &used, &status),
                     PARSE_BAD);
    assert_int_equal(status, 431);
    buf_clear(&b);
    buf_add_str(&b, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 65; i++)
        buf_add_str(&b, "A: b\r\n");
    buf_add_str(&b, "\r\n");
    refused(buf_cstr(&b), 431);
}

static void
test_answers_have_their_length_and_head_has_no_body(void **state)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct http_request q = {.keep_alive = true};
    const struct http_response r = {.status = 503,
                                    .type = "text/plain",
                                    .extra = "X: y\r\n",
                                    .body = SPAN_LIT("no\n")};

    (void)state;
    http_print(&r, &q, &out);
    assert_string_equal(buf_cstr(&out),
                        "HTTP/1.1 503 Service Unavailable\r\n"
                        "Content-Type: text/plain\r\nContent-Length: 3\r\n"
                        "Cache-Control: no-store\r\n"
                        "X-Content-Type-Options: nosniff\r\nX: y\r\n\r\nno\n");
    buf_clear(&out);
    q = (struct http_request){.is_head = true};
    http_print(&r, &q, &out);
    assert_string_equal(buf_cstr(&out),
                        "HTTP/1.1 503 Service Unavailable\r\n"
                        "Content-Type: text/plain\r\nContent-Length: 3\r\n"
                        "Cache-Control: no-store\r\n"
                        "X-Content-Type-Options: nosniff\r\nX: y\r\n"
                        "Connection: close\r\n\r\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_cut_anywhere_ask_for_more),
        cmocka_unit_test(test_what_is_not_a_request_is_refused),
        cmocka_unit_test(test_heads_have_a_limit),
        cmocka_unit_test(test_answers_have_their_length_and_head_has_no_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
