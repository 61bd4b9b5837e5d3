/*
 * search/grams.h - which blocks of a segment can have a pattern in them, by the
 * runs of three bytes (grams) of their words: so that a look-up reads few.
 *
 * A word's grams are those of "\0WORD\0", so the begin and the end of a word
 * count.  Grams share GRAM_SLOTS slots by their hash: a filter can name a block
 * that has not got a pattern, and never leaves one out that has.
 *
 * Bytes of a filter of N blocks, 1 to 64, version 1:
 *   u8 version, u8 N, for each slot a bit for each block, the lowest first, in
 *   (N + 7) / 8 bytes; u64le xxh3-64 of all before.
 */
#ifndef POLLUX_SEARCH_GRAMS_H
#define POLLUX_SEARCH_GRAMS_H

#include "base/buf.h"
#include "base/rd.h"

#define GRAM_FILTER_VERSION 1U
#define GRAM_FILTER_BLOCKS 64U
#define GRAM_BYTES 3U
/* Blocks of some thousand words of a language have a sixth of them; 4 KiB. */
#define GRAM_SLOTS 32768U

/* The grams of some words, by slot. */
struct gram_set {
    uint64_t bits[GRAM_SLOTS / 64];
};

void
gram_set_clear(struct gram_set *set);
/* WORD as in a segment (search/words.h): without NULs. */
void
gram_set_add(struct gram_set *set, struct span word);

/* The grams of up to GRAM_FILTER_BLOCKS blocks, one after the other. */
struct gram_filter {
    unsigned nblocks;
    uint64_t of[GRAM_SLOTS]; /* by slot: a bit for each block */
};

void
gram_filter_clear(struct gram_filter *f);
/* Of the next block; there are not more than GRAM_FILTER_BLOCKS. */
void
gram_filter_add(struct gram_filter *f, const struct gram_set *set);
/* Appended to OUT, which has no maximum; F has a block at least. */
void
gram_filter_encode(const struct gram_filter *f, struct buf *out);

/* Is ROW a filter, whole and of this version?  Of how many blocks, 1 to
 * GRAM_FILTER_BLOCKS?  False leaves *RET_NBLOCKS as it was. */
MUST_CHECK bool
gram_row_open(struct span row, unsigned *ret_nblocks);
/*
 * A bit for each block of ROW, the first one's the lowest, in whose words
 * PATTERN (search/words.h; a NUL is the begin or the end of a word) can be.  A
 * pattern of less than GRAM_BYTES can be in all.  Only for a ROW to which
 * gram_row_open() said yes.
 */
uint64_t
gram_row_find(struct span row, struct span pattern);

#endif
