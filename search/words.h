/*
 * search/words.h - folded text (mime_fold()) becomes words, and what a client
 * looks for becomes patterns that are looked up among words.
 *
 * A word is a run of letters, digits and bytes beyond ASCII.  A needle without
 * anything else in it is in a text exactly if it is in one of the text's words:
 * so a substring search needs the words only.  Of any other needle the words
 * tell which texts cannot have it.
 */
#ifndef POLLUX_SEARCH_WORDS_H
#define POLLUX_SEARCH_WORDS_H

#include "base/buf.h"

/*
 * Longer words are kept as pieces of WORD_MAX bytes, each beginning WORD_STEP
 * bytes behind the one before: whatever is at most WORD_NEEDLE_MAX bytes long
 * is whole in one of them.
 */
#define WORD_MAX 64U
#define WORD_STEP 32U
#define WORD_NEEDLE_MAX (WORD_MAX - WORD_STEP + 1)

/*
 * Call for each word (or piece) in TEXT; returns how many bytes at its end
 * belong to a word that may go on: they are to come again in front of the next
 * text.  A NUL ends a word, so a text that ends in one leaves nothing.
 */
size_t
words_split(struct span text, void (*word)(void *ctx, struct span w),
            void *ctx);

#define QUERY_PATTERNS_MAX 8U

/*
 * What to look for in lists of words that are written "\0WORD\0WORD\0": each
 * pattern must be there.  A NUL in it is the begin or the end of a word.
 */
struct word_query {
    struct buf bytes;
    struct {
        size_t off, n;
    } pattern[QUERY_PATTERNS_MAX];
    size_t npatterns;
    bool exact; /* a text has the needle if it has the pattern */
};

/* False: the needle has no word in it, and words say nothing.  *RET is to be
 * freed either way. */
MUST_CHECK bool
word_query_make(struct span folded, struct word_query *ret);
void
word_query_free(struct word_query *q);

static inline struct span
word_query_pattern(const struct word_query *q, size_t i)
{
    return span_sub(buf_span(&q->bytes), q->pattern[i].off, q->pattern[i].n);
}

#endif
