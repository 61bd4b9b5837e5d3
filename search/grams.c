/*
 * search/grams.c - a bit for each slot and block, the bits of all blocks for
 * one slot beside each other: which blocks have all grams of a pattern is then
 * a row of ands.
 */
#include "search/grams.h"

#include <xxhash.h>

#define HEAD_BYTES 2U
#define HASH_BYTES 8U

static uint32_t
slot_of(uint32_t gram)
{
    return (gram * UINT32_C(0x9E3779B1)) >> 17; /* 15 bits: GRAM_SLOTS */
}

/* The next gram behind LAST, with byte C at its end. */
static uint32_t
shift(uint32_t last, uint8_t c)
{
    return (last << 8 | c) & 0xFFFFFFU;
}

static void
add_gram(struct gram_set *set, uint32_t gram)
{
    const uint32_t slot = slot_of(gram);

    set->bits[slot / 64] |= UINT64_C(1) << (slot % 64);
}

void
gram_set_clear(struct gram_set *set)
{
    memset(set, 0, sizeof(*set));
}

void
gram_set_add(struct gram_set *set, struct span word)
{
    uint32_t gram = 0; /* the NUL in front is in it */

    for (size_t i = 0; i < word.n; i++) {
        gram = shift(gram, word.p[i]);
        if (i > 0)
            add_gram(set, gram);
    }
    if (word.n > 0)
        add_gram(set, shift(gram, 0));
}

void
gram_filter_clear(struct gram_filter *f)
{
    memset(f, 0, sizeof(*f));
}

void
gram_filter_add(struct gram_filter *f, const struct gram_set *set)
{
    ENSURE(f->nblocks < GRAM_FILTER_BLOCKS);
    const uint64_t bit = UINT64_C(1) << f->nblocks++;

    for (uint32_t i = 0; i < ARRAY_LEN(set->bits); i++)
        for (uint64_t left = set->bits[i]; left != 0; left &= left - 1)
            f->of[i * 64 + (unsigned)__builtin_ctzll(left)] |= bit;
}

void
gram_filter_encode(const struct gram_filter *f, struct buf *out)
{
    const size_t from = out->n;
    const size_t width = (f->nblocks + 7) / 8;

    ENSURE(f->nblocks > 0);
    buf_add_byte(out, GRAM_FILTER_VERSION);
    buf_add_byte(out, (uint8_t)f->nblocks);
    uint8_t *p = buf_reserve(out, GRAM_SLOTS * width);
    ENSURE(p != NULL);
    for (size_t i = 0; i < GRAM_SLOTS; i++)
        for (size_t k = 0; k < width; k++)
            *p++ = (uint8_t)(f->of[i] >> (8 * k));
    out->n += GRAM_SLOTS * width;
    buf_add_u64le(out, XXH3_64bits(out->p + from, out->n - from));
}

/* ---- reading ----------------------------------------------------------- */

bool
gram_row_open(struct span row, unsigned *ret_nblocks)
{
    if (row.n < HEAD_BYTES + HASH_BYTES || row.p[0] != GRAM_FILTER_VERSION)
        return false;
    const unsigned n = row.p[1];
    if (n == 0 || n > GRAM_FILTER_BLOCKS ||
        row.n != HEAD_BYTES + GRAM_SLOTS * (size_t)((n + 7) / 8) + HASH_BYTES)
        return false;
    struct rd hash = rd_init(span_skip(row, row.n - HASH_BYTES));
    if (rd_u64le(&hash) != XXH3_64bits(row.p, row.n - HASH_BYTES))
        return false;
    *ret_nblocks = n;
    return true;
}

uint64_t
gram_row_find(struct span row, struct span pattern)
{
    const unsigned n = row.p[1];
    const size_t width = (n + 7) / 8;
    uint64_t have = n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;
    uint32_t gram = 0;

    for (size_t i = 0; i < pattern.n && have != 0; i++) {
        gram = shift(gram, pattern.p[i]);
        if (i + 1 < GRAM_BYTES)
            continue;
        const uint8_t *p = row.p + HEAD_BYTES + slot_of(gram) * width;
        uint64_t with = 0;
        for (size_t k = 0; k < width; k++)
            with |= (uint64_t)p[k] << (8 * k);
        have &= with;
    }
    return have;
}
