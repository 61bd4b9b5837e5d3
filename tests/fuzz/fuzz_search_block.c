/*
 * tests/fuzz/fuzz_search_block.c - any bytes as rows of the search index.  The
 * hash is made right, so that what stands behind it is reached.
 */
#include <stdint.h>
#include <xxhash.h>

#include "search/block.h"
#include "search/rows.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
note(void *ctx, uint32_t doc)
{
    ENSURE(doc < 1000);
    ++*(uint64_t *)ctx;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(buf_free) struct buf in = BUF_INIT;
    AUTO(index_head_free) struct index_head head = {0};
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    struct index_origin origin;
    struct block b;
    uint64_t n = 0;

    buf_add(&in, span_of(data, size));
    buf_add_u64le(&in, XXH3_64bits(in.p, in.n));
    if (block_open(buf_span(&in), &b)) {
        struct block again = b;
        struct span word, list;
        bool bits;
        while (block_next(&b, &word, &list, &bits))
            (void)!block_list(list, bits, 1000, note, &n);
        (void)!block_find(&again, SPAN_LIT("A"), 1000, note, &n);
    }
    (void)!index_head_decode(buf_span(&in), &head);
    (void)!index_docs_decode(buf_span(&in), &uids);
    (void)!index_origin_decode(buf_span(&in), &origin);
    return 0;
}
