/*
 * Records as a peer may send them: the first byte is the type, the rest the
 * body.  What decodes must encode to the same bytes.
 */
#include <stdint.h>

#include "store/record.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TRY(kind)                                                              \
    do {                                                                       \
        struct rec_##kind rec;                                                 \
        if (rec_##kind##_decode(body, 1, &a, &rec, &err) == ERR_OK) {          \
            rec_##kind##_encode(&rec, &again);                                 \
            ENSURE(span_eq(buf_span(&again), body));                           \
        }                                                                      \
        buf_clear(&again);                                                     \
    } while (0)

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = ARENA_INIT;
    struct error err;
    struct buf again = BUF_INIT;

    if (size == 0)
        return 0;
    struct span body = span_of(data + 1, size - 1);
    const struct record whole = {
        .lsn = 1, .epoch = 1, .type = data[0], .version = 1, .body = body};
    record_describe(&whole, &again);
    buf_clear(&again);
    TRY(epoch);
    TRY(mailbox);
    TRY(rename);
    TRY(set);
    TRY(append);
    TRY(body);
    TRY(flags);
    TRY(expunge);
    TRY(user);
    TRY(quota);
    buf_free(&again);
    arena_free(&a);
    return 0;
}
