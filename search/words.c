/*
 * search/words.c - splitting.
 *
 * A run that does not end (text in a script without blanks, base64 in a text
 * part) is not kept until it does: what was seen of it becomes pieces, and its
 * last WORD_MAX bytes begin a word of their own.  So a needle of at most
 * WORD_NEEDLE_MAX bytes over that border is whole in the first piece behind it.
 */
#include "search/words.h"

#include <stdlib.h>

#define RUN_MAX 4096U

static bool
in_word(uint8_t c)
{
    return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
           (c >= 'a' && c <= 'z');
}

static void
give(struct span run, void (*word)(void *ctx, struct span w), void *ctx)
{
    for (;;) {
        word(ctx, span_sub(run, 0, WORD_MAX));
        if (run.n <= WORD_MAX)
            return;
        run = span_skip(run, WORD_STEP);
    }
}

size_t
words_split(struct span text, void (*word)(void *ctx, struct span w), void *ctx)
{
    size_t at = 0;

    while (at < text.n) {
        while (at < text.n && !in_word(text.p[at]))
            at++;
        size_t from = at;
        while (at < text.n && in_word(text.p[at]))
            at++;
        if (at < text.n) {
            give(span_sub(text, from, at - from), word, ctx);
        } else if (at - from <= RUN_MAX) {
            return at - from;
        } else {
            give(span_skip(text, from), word, ctx);
            return WORD_MAX;
        }
    }
    return 0;
}

/* ---- what is looked for ------------------------------------------------ */

struct token {
    struct span text;
    bool begins, ends; /* something else than a word stands beside it */
};

static void
add_pattern(struct word_query *q, const struct token *t)
{
    const bool cut = t->text.n > WORD_NEEDLE_MAX;
    const bool at_end = cut && t->ends && !t->begins;
    struct span text = at_end ? span_skip(t->text, t->text.n - WORD_NEEDLE_MAX)
                              : span_sub(t->text, 0, WORD_NEEDLE_MAX);
    size_t off = q->bytes.n;

    if (t->begins)
        buf_add_byte(&q->bytes, 0);
    buf_add(&q->bytes, text);
    if (t->ends && (!cut || at_end))
        buf_add_byte(&q->bytes, 0);
    q->pattern[q->npatterns].off = off;
    q->pattern[q->npatterns++].n = q->bytes.n - off;
}

static int
longest_first(const void *a, const void *b)
{
    const struct token *x = a, *y = b;

    if (x->text.n != y->text.n)
        return x->text.n > y->text.n ? -1 : 1;
    return x->text.p < y->text.p ? -1 : x->text.p > y->text.p;
}

bool
word_query_make(struct span folded, struct word_query *ret)
{
    struct token tokens[64];
    size_t n = 0;

    *ret = (struct word_query){0};
    for (size_t at = 0; at < folded.n && n < ARRAY_LEN(tokens);) {
        if (!in_word(folded.p[at])) {
            at++;
            continue;
        }
        size_t from = at;
        while (at < folded.n && in_word(folded.p[at]))
            at++;
        tokens[n++] = (struct token){.text = span_sub(folded, from, at - from),
                                     .begins = from > 0,
                                     .ends = at < folded.n};
    }
    if (n == 0)
        return false;
    ret->exact =
        n == 1 && tokens[0].text.n == folded.n && folded.n <= WORD_NEEDLE_MAX;
    qsort(tokens, n, sizeof(tokens[0]), longest_first);
    for (size_t i = 0; i < MIN(n, (size_t)QUERY_PATTERNS_MAX); i++)
        add_pattern(ret, &tokens[i]);
    return true;
}

void
word_query_free(struct word_query *q)
{
    buf_free(&q->bytes);
}
