/*
 * Records as a peer may send them: the first byte is the type, the rest the
 * body.  What decodes must encode to the same bytes.
 */
#include <stdint.h>

#include "store/record.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As KIND, in the version that TYPE is written in. */
#define TRY(kind, type)                                                        \
    do {                                                                       \
        struct rec_##kind rec;                                                 \
        if (rec_##kind##_decode(body, record_version(type), &a, &rec, &err) == \
            ERR_OK) {                                                          \
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
        .lsn = 1,
        .epoch = 1,
        .type = data[0],
        .version = record_type_name(data[0]) == NULL
                       ? 1
                       : record_version((enum record_type)data[0]),
        .body = body};
    record_describe(&whole, &again);
    buf_clear(&again);
    TRY(epoch, REC_EPOCH);
    TRY(mailbox, REC_MAILBOX);
    TRY(rename, REC_RENAME);
    TRY(set, REC_SET);
    TRY(append, REC_APPEND);
    TRY(body, REC_BODY);
    TRY(flags, REC_FLAGS);
    TRY(expunge, REC_EXPUNGE);
    TRY(user, REC_USER);
    TRY(quota, REC_QUOTA);
    TRY(purge, REC_PURGE);
    TRY(annot, REC_ANNOT);
    TRY(seen, REC_SEEN);
    TRY(forget, REC_FORGET);
    TRY(rows, REC_ROWS);
    TRY(head, REC_HEAD);
    buf_free(&again);
    arena_free(&a);
    return 0;
}
