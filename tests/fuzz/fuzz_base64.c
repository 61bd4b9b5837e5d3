/* tests/fuzz/fuzz_base64.c - what is taken as base64 is exactly what encoding
 * its meaning gives, but for bits that padding hides. */
#include "net/sasl.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf plain = BUF_MAX(300), text = BUF_INIT, again = BUF_MAX(300);

    if (sasl_decode_base64(span_of(data, size), &plain)) {
        sasl_encode_base64(buf_span(&plain), &text);
        ENSURE(text.n == size && plain.n <= 300);
        ENSURE(sasl_decode_base64(buf_span(&text), &again));
        ENSURE(span_eq(buf_span(&plain), buf_span(&again)));
    }
    buf_free(&plain);
    buf_free(&text);
    buf_free(&again);
    return 0;
}
