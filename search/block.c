/*
 * search/block.c - writing and reading a block.
 *
 * A look-up is one memmem() over the words, at several GB a second; only where
 * it hits are words counted, so that the list that goes with the hit is found.
 */
#include "search/block.h"

#include <xxhash.h>

#define HASH_BYTES 8U

static void
add_deltas(struct buf *out, const uint32_t *docs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_add_varint(out, i == 0 ? docs[0] : docs[i] - docs[i - 1] - 1);
}

static void
add_bits(struct buf *out, const uint32_t *docs, size_t n)
{
    size_t bytes = (docs[n - 1] - docs[0]) / 8 + 1;

    buf_add_varint(out, docs[0]);
    uint8_t *bits = buf_reserve(out, bytes);
    ENSURE(bits != NULL);
    memset(bits, 0, bytes);
    for (size_t i = 0; i < n; i++) {
        uint32_t at = docs[i] - docs[0];
        bits[at / 8] = (uint8_t)(bits[at / 8] | 1U << (at % 8));
    }
    out->n += bytes;
}

static void
emit(struct block_writer *w)
{
    AUTO(buf_free) struct buf b = BUF_INIT;

    buf_add_byte(&w->words, 0);
    buf_add_byte(&b, BLOCK_VERSION);
    buf_add_varint(&b, w->nwords);
    buf_add_varint(&b, w->words.n);
    buf_add(&b, buf_span(&w->words));
    buf_add(&b, buf_span(&w->lists));
    buf_add_u64le(&b, XXH3_64bits(b.p, b.n));
    w->emit(w->ctx, buf_span(&b), &w->grams);
    gram_set_clear(&w->grams);
    buf_clear(&w->words);
    buf_clear(&w->lists);
    w->nwords = 0;
}

void
block_write(struct block_writer *w, struct span word, const uint32_t *docs,
            size_t n)
{
    ENSURE(n > 0 && word.n > 0);
    buf_clear(&w->list);
    add_deltas(&w->list, docs, n);
    /* Bits take no more than five bytes beside. */
    bool bits = (docs[n - 1] - docs[0]) / 8 + 6 < w->list.n;
    if (bits) {
        buf_clear(&w->list);
        add_bits(&w->list, docs, n);
    }
    buf_add_byte(&w->words, 0);
    buf_add(&w->words, word);
    gram_set_add(&w->grams, word);
    buf_add_varint(&w->lists, (uint64_t)w->list.n * 2 + bits);
    buf_add(&w->lists, buf_span(&w->list));
    w->nwords++;
    if (w->words.n >= BLOCK_WORD_BYTES || w->lists.n >= BLOCK_LIST_BYTES)
        emit(w);
}

void
block_write_end(struct block_writer *w)
{
    if (w->nwords > 0)
        emit(w);
}

void
block_writer_free(struct block_writer *w)
{
    buf_free(&w->words);
    buf_free(&w->lists);
    buf_free(&w->list);
}

/* ---- reading ----------------------------------------------------------- */

bool
block_open(struct span bytes, struct block *ret)
{
    struct rd r = rd_init(bytes);

    if (bytes.n < HASH_BYTES || rd_u8(&r) != BLOCK_VERSION)
        return false;
    struct rd hash = rd_init(span_skip(bytes, bytes.n - HASH_BYTES));
    if (rd_u64le(&hash) != XXH3_64bits(bytes.p, bytes.n - HASH_BYTES))
        return false;
    r.left.n -= HASH_BYTES;
    uint32_t nwords = rd_varint32(&r);
    struct span words = rd_blob(&r, SIZE_MAX);
    if (r.bad || nwords == 0 || words.n < 2 || words.p[0] != 0 ||
        words.p[words.n - 1] != 0)
        return false;
    *ret = (struct block){.words = words, .nwords = nwords, .lists = r};
    return true;
}

bool
block_next(struct block *b, struct span *ret_word, struct span *ret_list,
           bool *ret_bits)
{
    ptrdiff_t end =
        b->at + 1 < b->words.n ? span_find_byte(b->words, 0, b->at + 1) : -1;

    if (end < 0) {
        if (b->index != b->nwords || b->lists.left.n > 0)
            b->lists.bad = true;
        return false;
    }
    *ret_word = span_sub(b->words, b->at + 1, (size_t)end - b->at - 1);
    uint64_t head = rd_varint(&b->lists);
    *ret_bits = (head & 1) != 0;
    *ret_list = head / 2 > b->lists.left.n
                    ? rd_span(&b->lists, SIZE_MAX)
                    : rd_span(&b->lists, (size_t)(head / 2));
    b->at = (size_t)end;
    b->index++;
    if (b->index > b->nwords)
        b->lists.bad = true;
    return !b->lists.bad;
}

static bool
list_bits(struct rd *r, uint32_t limit, void (*doc)(void *ctx, uint32_t doc),
          void *ctx)
{
    uint64_t first = rd_varint(r);

    if (r->bad)
        return false;
    for (size_t i = 0; i < r->left.n; i++)
        for (unsigned byte = r->left.p[i]; byte != 0; byte &= byte - 1) {
            uint64_t at = first + i * 8 + (unsigned)__builtin_ctz(byte);
            if (at >= limit)
                return false;
            doc(ctx, (uint32_t)at);
        }
    return true;
}

bool
block_list(struct span list, bool bits, uint32_t limit,
           void (*doc)(void *ctx, uint32_t doc), void *ctx)
{
    struct rd r = rd_init(list);
    uint64_t next = 0;

    if (bits)
        return list_bits(&r, limit, doc, ctx);
    while (r.left.n > 0) {
        uint64_t at = next + rd_varint32(&r);
        if (r.bad || at >= limit)
            return false;
        doc(ctx, (uint32_t)at);
        next = at + 1;
    }
    return true;
}

/* How many of the N bytes at P are NUL. */
static uint32_t
count_nuls(const uint8_t *p, size_t n)
{
    uint32_t sum = 0;

    while (n > 0) { /* in pieces whose count fits a byte: the compiler does many
                       bytes at a time */
        const size_t k = MIN(n, (size_t)255);
        uint8_t some = 0;
        for (size_t i = 0; i < k; i++)
            some = (uint8_t)(some + (p[i] == 0));
        sum += some;
        p += k;
        n -= k;
    }
    return sum;
}

/* Pass over all words that end at or before AT.  False: damaged. */
static bool
skip_to(struct block *b, size_t at)
{
    const uint8_t *p = b->words.p;
    const uint32_t n = count_nuls(p + b->at + 1, at - b->at);
    struct rd *lists = &b->lists;

    if (n > b->nwords - b->index)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        /* Nearly all lists are short. */
        const size_t left = lists->left.n;
        const size_t one = left > 0 ? lists->left.p[0] / 2U : 0;
        if (left > 0 && lists->left.p[0] < 128 && one < left) {
            lists->left = span_skip(lists->left, 1 + one);
            continue;
        }
        const uint64_t head = rd_varint(lists);
        if (head / 2 > lists->left.n)
            lists->bad = true;
        if (lists->bad)
            return false;
        lists->left = span_skip(lists->left, (size_t)(head / 2));
    }
    b->index += n;
    if (n > 0) {
        const uint8_t *nul = memrchr(p + b->at, 0, at + 1 - b->at);
        b->at = (size_t)(nul - p);
    }
    return true;
}

bool
block_find(struct block *b, struct span pattern, uint32_t limit,
           void (*doc)(void *ctx, uint32_t doc), void *ctx)
{
    const uint8_t *end = b->words.p + b->words.n;
    const uint8_t *from = b->words.p;
    struct span word, list = SPAN_EMPTY;
    bool bits = false;

    while (pattern.n > 0) {
        const uint8_t *hit =
            memmem(from, (size_t)(end - from), pattern.p, pattern.n);
        if (hit == NULL)
            return true;
        /* The word of the hit, or that behind the NUL where it begins. */
        const size_t at = (size_t)(hit - b->words.p);
        if (at > b->at && !skip_to(b, at)) {
            b->lists.bad = true;
            return false;
        }
        if (!block_next(b, &word, &list, &bits))
            return !b->lists.bad;
        if (!block_list(list, bits, limit, doc, ctx))
            return false;
        from = b->words.p + b->at;
    }
    return true;
}
