/*
 * search/lexicon.h - the words of some messages, gathered in memory until they
 * are written as blocks.
 */
#ifndef POLLUX_SEARCH_LEXICON_H
#define POLLUX_SEARCH_LEXICON_H

#include "search/block.h"

/* What one message may bring along; more, and it is not indexed. */
#define LEXICON_DOC_WORDS 200000U
/* Full: time to write it. */
#define LEXICON_PAIRS ((size_t)2 << 20)
#define LEXICON_TEXT_BYTES ((size_t)8 << 20)

struct lexicon_word {
    uint32_t off; /* in the text */
    uint16_t n;
    uint32_t doc;   /* the last message that has it, from 1 */
    uint32_t count; /* messages that have it */
};

struct lexicon {
    struct lexicon_word *words;
    size_t nwords, words_cap;
    uint32_t *slots; /* words by hash, from 1; 0: free */
    size_t nslots;
    struct buf text;
    uint32_t *pairs; /* numbers of words, message by message */
    size_t npairs, pairs_cap;
    size_t *ends; /* of the messages in the pairs */
    size_t ndocs, docs_cap;
};

/* A message begins: its number is that of the calls before. */
void
lexicon_begin(struct lexicon *l);
/* It has this word.  False: too many. */
bool
lexicon_add(struct lexicon *l, struct span word);
/* It was not meant: as before lexicon_begin(). */
void
lexicon_take_back(struct lexicon *l);
bool
lexicon_is_full(const struct lexicon *l);
/* All words in order; the lexicon is used up. */
void
lexicon_write(struct lexicon *l, struct block_writer *w);
void
lexicon_clear(struct lexicon *l);
void
lexicon_free(struct lexicon *l);

#endif
