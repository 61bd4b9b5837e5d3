/*
 * tests/fuzz/fuzz_pack.c - a pack's first block, its frames, and the value of
 * the guid table.  The first byte says which.
 */
#include "store/pack.h"

#include <stdlib.h>

#include "store/body_private.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
walk_frames(struct span in)
{
    struct guid guid;
    struct body_loc loc;
    struct span stored;
    size_t used;
    uint8_t *raw = xmalloc(BODY_PART_BYTES);

    while (pack_frame_decode(in, &guid, &loc, &stored, &used) == PARSE_DONE) {
        ENSURE(used >= PACK_FRAME_BYTES + stored.n && used <= in.n);
        ENSURE(body_loc_fits(&loc));
        (void)!body_unpack(&loc, stored, raw);
        in = span_skip(in, used);
    }
    free(raw);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct span in = span_of(data + 1, size - 1);
    struct pack_head head;
    struct body_loc loc;

    if (data[0] == 'h')
        (void)!pack_head_decode(in, &head, NULL);
    else if (data[0] == 'f')
        walk_frames(in);
    else if (body_loc_decode(in, &loc, NULL) == ERR_OK) {
        struct buf out = BUF_INIT;
        body_loc_encode(&loc, &out);
        ENSURE(span_eq(buf_span(&out), in));
        buf_free(&out);
    }
    return 0;
}
