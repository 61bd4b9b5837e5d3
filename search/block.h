/*
 * search/block.h - some words in order, each with the messages that have it.
 *
 * Bytes, version 1:
 *   u8 version, varint number of words, varint bytes of the words,
 *   the words: NUL, word, NUL, word ... NUL, in bytewise order, none empty;
 *   for each word a list: varint (bytes * 2 + kind), then
 *     kind 0: varints: the first number, then each less the one before less 1
 *     kind 1: varint first number, then bits, the lowest first, from it on;
 *   u64le xxh3-64 of all before.
 * A message is its number in the segment, from 0.
 */
#ifndef POLLUX_SEARCH_BLOCK_H
#define POLLUX_SEARCH_BLOCK_H

#include "base/buf.h"
#include "base/rd.h"
#include "search/grams.h"

#define BLOCK_VERSION 1U
/* A writer ends a block when its words, or its lists, are so many bytes. */
#define BLOCK_WORD_BYTES ((size_t)48 << 10)
#define BLOCK_LIST_BYTES ((size_t)192 << 10)

struct block_writer {
    struct buf words;
    struct buf lists;
    struct buf list;
    uint32_t nwords;
    /* Takes a whole block, and the grams of its words. */
    void (*emit)(void *ctx, struct span block, const struct gram_set *grams);
    void *ctx;
    struct gram_set grams;
};

/* WORD is above all before; DOCS ascend, N is not 0. */
void
block_write(struct block_writer *w, struct span word, const uint32_t *docs,
            size_t n);
/* The last block; W can be used again. */
void
block_write_end(struct block_writer *w);
void
block_writer_free(struct block_writer *w);

/* A block being read; points into its bytes. */
struct block {
    struct span words;
    uint32_t nwords;
    struct rd lists;
    size_t at;      /* of the NUL in front of the next word */
    uint32_t index; /* of the next word */
};

/* False: damaged, or of another version. */
MUST_CHECK bool
block_open(struct span bytes, struct block *ret);
/* The next word and the bytes of its list; false at the end, or (B->lists.bad)
 * where it is damaged. */
bool
block_next(struct block *b, struct span *ret_word, struct span *ret_list,
           bool *ret_bits);
/* Call for each number of a list, ascending, all below LIMIT; false: damaged.
 */
MUST_CHECK bool
block_list(struct span list, bool bits, uint32_t limit,
           void (*doc)(void *ctx, uint32_t doc), void *ctx);
/* Call for each message that has a word with PATTERN (search/words.h) in it,
 * perhaps more than once.  B is used up.  False: damaged. */
MUST_CHECK bool
block_find(struct block *b, struct span pattern, uint32_t limit,
           void (*doc)(void *ctx, uint32_t doc), void *ctx);

#endif
