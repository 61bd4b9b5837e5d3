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

/* A filter of the right size, filled with DATA over and over, and DATA as what
 * is looked for. */
static void
filter(struct span data)
{
    AUTO(buf_free) struct buf row = BUF_INIT;
    unsigned n = data.n == 0 ? 1 : data.p[0] % 64U + 1;
    const size_t bytes = 2 + (size_t)GRAM_SLOTS * ((n + 7) / 8);

    buf_add_byte(&row, GRAM_FILTER_VERSION);
    buf_add_byte(&row, (uint8_t)n);
    while (row.n < bytes && data.n > 0)
        buf_add(&row, span_sub(data, 0, bytes - row.n));
    while (row.n < bytes)
        buf_add_byte(&row, 0);
    buf_add_u64le(&row, XXH3_64bits(row.p, row.n));
    ENSURE(gram_row_open(buf_span(&row), &n));
    const uint64_t in = gram_row_find(buf_span(&row), data);
    ENSURE(n == 64 || in >> n == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(buf_free) struct buf in = BUF_INIT;
    AUTO(index_head_free) struct index_head head = {0};
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    struct index_origin origin;
    struct block b;
    unsigned nblocks;
    uint64_t n = 0;

    filter(span_of(data, size));
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
    if (gram_row_open(buf_span(&in), &nblocks))
        (void)gram_row_find(buf_span(&in), SPAN_LIT("A"));
    (void)!index_head_decode(buf_span(&in), &head);
    (void)!index_docs_decode(buf_span(&in), &uids);
    (void)!index_origin_decode(buf_span(&in), &origin);
    return 0;
}
