/*
 * tests/fuzz/fuzz_http.c - metrics/http.c: whatever comes, what is used lies
 * inside, a request has a path, and more bytes do not change what was taken.
 */
#include "metrics/http.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of(data, n);
    struct http_request q, again;
    size_t used = 0, used_again = 0;
    unsigned status = 0;

    switch (http_parse(in, &q, &used, &status)) {
    case PARSE_MORE:
        ENSURE(n < HTTP_HEAD_MAX);
        break;
    case PARSE_BAD:
        ENSURE(status >= 400 && http_reason(status)[0] != 'U');
        break;
    case PARSE_DONE:
        ENSURE(used <= n && used <= HTTP_HEAD_MAX);
        ENSURE(q.path.n > 0 && q.path.p[0] == '/');
        ENSURE(http_parse(span_sub(in, 0, used), &again, &used_again,
                          &status) == PARSE_DONE);
        ENSURE(used == used_again && span_eq(q.path, again.path) &&
               q.keep_alive == again.keep_alive);
        ENSURE(http_parse(span_sub(in, 0, used - 1), &again, &used_again,
                          &status) == PARSE_MORE);
        break;
    }
    return 0;
}
