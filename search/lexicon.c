/*
 * search/lexicon.c - a hash table over words, and for each message the numbers
 * of its words, one behind the other: 4 bytes for a word of a message.  When it
 * is written the words are sorted, and one pass over the messages puts each
 * where its words have room for it.
 */
#include "search/lexicon.h"

#include <stdlib.h>
#include <xxhash.h>

#define SLOTS_MIN 4096U

static struct span
text_of(const struct lexicon *l, const struct lexicon_word *w)
{
    return span_of(l->text.p + w->off, w->n);
}

static size_t
slot_of(const struct lexicon *l, struct span word)
{
    size_t i = XXH3_64bits(word.p, word.n) & (l->nslots - 1);

    while (l->slots[i] != 0 &&
           !span_eq(text_of(l, &l->words[l->slots[i] - 1]), word))
        i = (i + 1) & (l->nslots - 1);
    return i;
}

static void
grow_slots(struct lexicon *l)
{
    free(l->slots);
    l->nslots = l->nslots == 0 ? SLOTS_MIN : l->nslots * 2;
    l->slots = xcalloc(l->nslots, sizeof(l->slots[0]));
    for (size_t i = 0; i < l->nwords; i++)
        l->slots[slot_of(l, text_of(l, &l->words[i]))] = (uint32_t)i + 1;
}

static struct lexicon_word *
word_of(struct lexicon *l, struct span word)
{
    if (l->nwords * 2 >= l->nslots)
        grow_slots(l);
    size_t slot = slot_of(l, word);
    if (l->slots[slot] == 0) {
        if (l->nwords == l->words_cap) {
            l->words_cap = l->words_cap == 0 ? 1024 : l->words_cap * 2;
            l->words = xrealloc(l->words, l->words_cap * sizeof(l->words[0]));
        }
        l->words[l->nwords++] = (struct lexicon_word){
            .off = (uint32_t)l->text.n, .n = (uint16_t)word.n};
        buf_add(&l->text, word);
        l->slots[slot] = (uint32_t)l->nwords;
    }
    return &l->words[l->slots[slot] - 1];
}

void
lexicon_begin(struct lexicon *l)
{
    if (l->ndocs == l->docs_cap) {
        l->docs_cap = l->docs_cap == 0 ? 64 : l->docs_cap * 2;
        l->ends = xrealloc(l->ends, l->docs_cap * sizeof(l->ends[0]));
    }
    l->ends[l->ndocs++] = l->npairs;
}

bool
lexicon_add(struct lexicon *l, struct span word)
{
    ENSURE(l->ndocs > 0 && word.n > 0 && word.n <= UINT16_MAX);
    const size_t from = l->ndocs == 1 ? 0 : l->ends[l->ndocs - 2];
    if (l->npairs - from >= LEXICON_DOC_WORDS)
        return false;
    struct lexicon_word *w = word_of(l, word);
    if (w->doc == l->ndocs)
        return true;
    w->doc = (uint32_t)l->ndocs;
    w->count++;
    if (l->npairs == l->pairs_cap) {
        l->pairs_cap = l->pairs_cap == 0 ? 4096 : l->pairs_cap * 2;
        l->pairs = xrealloc(l->pairs, l->pairs_cap * sizeof(l->pairs[0]));
    }
    l->pairs[l->npairs++] = (uint32_t)(w - l->words);
    l->ends[l->ndocs - 1] = l->npairs;
    return true;
}

void
lexicon_take_back(struct lexicon *l)
{
    const size_t from = l->ndocs == 1 ? 0 : l->ends[l->ndocs - 2];

    for (size_t i = from; i < l->npairs; i++) {
        struct lexicon_word *w = &l->words[l->pairs[i]];
        w->count--;
        w->doc = 0; /* of one before, or none: it comes not again */
    }
    l->npairs = from;
    l->ndocs--;
}

bool
lexicon_is_full(const struct lexicon *l)
{
    return l->npairs >= LEXICON_PAIRS || l->text.n >= LEXICON_TEXT_BYTES;
}

static int
by_text(const void *a, const void *b, void *ctx)
{
    const struct lexicon *l = ctx;
    const uint32_t *x = a, *y = b;

    return span_cmp(text_of(l, &l->words[*x]), text_of(l, &l->words[*y]));
}

void
lexicon_write(struct lexicon *l, struct block_writer *w)
{
    uint32_t *order = xcalloc(l->nwords + 1, sizeof(order[0]));
    size_t *at = xcalloc(l->nwords + 1, sizeof(at[0]));
    uint32_t *docs = xcalloc(l->npairs + 1, sizeof(docs[0]));
    size_t sum = 0, from = 0;

    for (size_t i = 0; i < l->nwords; i++) {
        order[i] = (uint32_t)i;
        at[i] = sum;
        sum += l->words[i].count;
    }
    for (size_t d = 0; d < l->ndocs; from = l->ends[d++])
        for (size_t i = from; i < l->ends[d]; i++)
            docs[at[l->pairs[i]]++] = (uint32_t)d;
    qsort_r(order, l->nwords, sizeof(order[0]), by_text, l);
    for (size_t i = 0; i < l->nwords; i++) {
        const struct lexicon_word *word = &l->words[order[i]];
        if (word->count > 0)
            block_write(w, text_of(l, word), docs + at[order[i]] - word->count,
                        word->count);
    }
    block_write_end(w);
    free(order);
    free(at);
    free(docs);
    lexicon_clear(l);
}

void
lexicon_clear(struct lexicon *l)
{
    l->nwords = l->npairs = l->ndocs = 0;
    buf_clear(&l->text);
    if (l->slots != NULL)
        memset(l->slots, 0, l->nslots * sizeof(l->slots[0]));
}

void
lexicon_free(struct lexicon *l)
{
    free(l->words);
    free(l->slots);
    free(l->pairs);
    free(l->ends);
    buf_free(&l->text);
    *l = (struct lexicon){0};
}
