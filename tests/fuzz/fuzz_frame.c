/*
 * tests/fuzz/fuzz_frame.c - frames and segment headers out of any bytes.
 *
 * A frame that decodes is walked record by record, and encodes to the header
 * that it came from.
 */
#include "synclog/frame.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
one_frame(struct span in, const struct frame_head *h, struct span payload)
{
    uint8_t head[FRAME_HEADER_BYTES];
    struct record rec = {0};
    size_t pos = 0;
    uint32_t n = 0;

    while (frame_next_record(h, payload, &pos, &rec)) {
        ENSURE(rec.lsn == h->first_lsn + n);
        ENSURE(rec.body.p == payload.p + rec.offset);
        ENSURE(rec.offset + rec.body.n <= payload.n);
        n++;
    }
    ENSURE(n == h->nrecords && pos == payload.n);
    frame_head_encode(h, head);
    ENSURE(span_eq(span_of(head, sizeof(head)),
                   span_sub(in, 0, FRAME_HEADER_BYTES)));
    (void)frame_chain(h->chain, h);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    struct segment_head seg;
    struct error err = {0};

    if (segment_head_decode(in, &seg, &err) == ERR_OK) {
        uint8_t block[SEGMENT_HEADER_BYTES];
        segment_head_encode(&seg, block);
        ENSURE(segment_head_decode(span_of(block, sizeof(block)), &seg, &err) ==
               ERR_OK);
    }
    while (in.n > 0) {
        struct frame_head h;
        struct span payload;
        size_t used = 0;
        if (frame_decode(in, &h, &payload, &used) != PARSE_DONE)
            break;
        ENSURE(used >= FRAME_HEADER_BYTES && used <= in.n);
        one_frame(in, &h, payload);
        in = span_skip(in, used);
    }
    /* What a header promises may not be there: records of any bytes. */
    struct frame_head h = {.first_lsn = 1, .epoch = 1, .nrecords = UINT32_MAX};
    struct record rec = {0};
    size_t pos = 0;
    struct span rest = span_of(data, size);
    while (frame_next_record(&h, rest, &pos, &rec))
        ENSURE(pos <= rest.n);
    return 0;
}
