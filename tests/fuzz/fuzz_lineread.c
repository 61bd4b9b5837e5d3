/* tests/fuzz/fuzz_lineread.c - the first byte is the limit; lines and literals
 * are taken until the input ends, as a session would. */
#include "net/lineread.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t max = data[0];
    struct span in = span_of(data + 1, size - 1), line, before;
    struct literal lit;
    size_t used;

    while (line_take(in, max, &line, &used) == PARSE_DONE) {
        ENSURE(line.n <= max && used > line.n && used <= line.n + 2);
        in = span_skip(in, used);
        if (line_literal(line, 4096, &lit, &before) == LITERAL_OK) {
            ENSURE(lit.n <= 4096 && before.n + 3 <= line.n);
            in = span_skip(in, (size_t)lit.n);
        }
    }
    return 0;
}
