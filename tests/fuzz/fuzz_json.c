/*
 * tests/fuzz/fuzz_json.c - admin/json.c over any bytes: it ends, stays within
 * its depth, and what it calls good nests as it should.
 */
#include "admin/json.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena a = ARENA_INIT;
    struct json j;
    enum json_kind k;
    unsigned depth = 0;
    size_t tokens = 0;

    json_begin(&j, span_of(data, n), &a);
    do {
        k = json_next(&j);
        depth += k == JSON_OBJECT || k == JSON_ARRAY;
        if (k == JSON_OBJECT_END || k == JSON_ARRAY_END) {
            ENSURE(depth > 0);
            depth--;
        }
        ENSURE(depth <= JSON_DEPTH_MAX && ++tokens <= n + 2);
        if (k == JSON_KEY || k == JSON_STRING || k == JSON_NUMBER)
            ENSURE(j.text.n <= n);
    } while (k != JSON_END && k != JSON_BAD);
    ENSURE(k == JSON_BAD ? j.why != NULL : depth == 0);
    ENSURE(k == JSON_END || json_next(&j) == JSON_BAD);

    json_begin(&j, span_of(data, n), &a);
    (void)!json_skip(&j, json_next(&j));
    arena_free(&a);
    return 0;
}
