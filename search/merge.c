/*
 * search/merge.c - several segments become one, word by word.
 *
 * Segments are kept so that each is at least FANOUT times smaller than the one
 * before, but for the last few: a message is written again as often as the
 * logarithm of the mailbox's size, and a look-up passes over few segments.  All
 * segments are read in step, so memory is one block of each.
 */
#include "search/index_private.h"

#include <stdlib.h>

#define FANOUT 4U
#define LOOSE_SEGMENTS 4U
/* A segment beyond this is left alone: the number of a message is its place. */
#define MERGED_DOCS_MAX 200000U
#define NO_DOC UINT32_MAX

/* A segment being read. */
struct cursor {
    const struct index_segment *seg;
    struct uidset uids;
    uint32_t *map; /* number of each message in the new segment, or NO_DOC */
    struct search_db_iter *it;
    struct block block;
    struct span word, list;
    bool bits;
    bool open;
    bool at_end;
};

struct merge {
    struct search_index *x;
    mbid_t id;
    struct cursor *c;
    size_t n;
    struct uidset uids; /* of the new segment */
    uint32_t *docs;     /* of the word in hand */
    size_t ndocs, docs_cap;
    const uint32_t *map; /* of the list being read */
    bool sorted;
    struct error *err;
};

static enum errcode
damaged(struct merge *m)
{
    return error_set(m->err, ERR_CORRUPT,
                     "search index: a block of mailbox %" PRIu64, m->id);
}

/* To the next word of C. */
static enum errcode
advance(struct merge *m, struct cursor *c)
{
    struct span key, value;

    for (;;) {
        if (c->open && block_next(&c->block, &c->word, &c->list, &c->bits))
            return ERR_OK;
        if (c->open && c->block.lists.bad)
            return damaged(m);
        c->open = false;
        if (!search_db_next(c->it, &key, &value)) {
            c->at_end = true;
            return ERR_OK;
        }
        if (!block_open(value, &c->block))
            return damaged(m);
        c->open = true;
    }
}

static void
add_doc(void *ctx, uint32_t doc)
{
    struct merge *m = ctx;
    const uint32_t to = m->map[doc];

    if (to == NO_DOC)
        return;
    if (m->ndocs == m->docs_cap) {
        m->docs_cap = m->docs_cap == 0 ? 1024 : m->docs_cap * 2;
        m->docs = xrealloc(m->docs, m->docs_cap * sizeof(m->docs[0]));
    }
    if (m->ndocs > 0 && m->docs[m->ndocs - 1] > to)
        m->sorted = false;
    m->docs[m->ndocs++] = to;
}

static int
by_number(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* The least word that any cursor is at, with all that have it; all of them go
 * on. */
static enum errcode
merge_word(struct merge *m, struct block_writer *w, bool *ret_more)
{
    AUTO(buf_free) struct buf word = BUF_INIT;
    struct cursor *least = NULL;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < m->n; i++)
        if (!m->c[i].at_end &&
            (least == NULL || span_cmp(m->c[i].word, least->word) < 0))
            least = &m->c[i];
    *ret_more = least != NULL;
    if (least == NULL)
        return ERR_OK;
    buf_add(&word, least->word);
    m->ndocs = 0;
    m->sorted = true;
    for (size_t i = 0; rc == ERR_OK && i < m->n; i++) {
        struct cursor *c = &m->c[i];
        if (c->at_end || !span_eq(c->word, buf_span(&word)))
            continue;
        m->map = c->map;
        if (!block_list(c->list, c->bits, c->seg->docs, add_doc, m))
            return damaged(m);
        rc = advance(m, c);
    }
    if (!m->sorted)
        qsort(m->docs, m->ndocs, sizeof(m->docs[0]), by_number);
    if (rc == ERR_OK && m->ndocs > 0 && word.n > 0)
        block_write(w, buf_span(&word), m->docs, m->ndocs);
    return rc;
}

static enum errcode
merge_kind(struct merge *m, enum words_of kind, struct block_writer *w)
{
    struct row_key k;
    enum errcode rc = ERR_OK;
    bool more = true;

    for (size_t i = 0; i < m->n; i++) {
        struct cursor *c = &m->c[i];
        c->it = search_db_iter(m->x->db, NULL,
                               row_key_words(&k, 'B', m->id, c->seg->id, kind));
        c->open = c->at_end = false;
    }
    for (size_t i = 0; rc == ERR_OK && i < m->n; i++)
        rc = advance(m, &m->c[i]);
    while (rc == ERR_OK && more)
        rc = merge_word(m, w, &more);
    for (size_t i = 0; i < m->n; i++) {
        enum errcode end =
            search_db_iter_close(&m->c[i].it, rc == ERR_OK ? m->err : NULL);
        if (rc == ERR_OK)
            rc = end;
    }
    block_write_end(w);
    return rc;
}

/* Who is in the new segment, and under which number. */
static enum errcode
number_docs(struct merge *m, const struct uidset *alive)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < m->n; i++) {
        struct cursor *c = &m->c[i];
        rc = docs_read(m->x->db, NULL, m->id, c->seg->id, &c->uids, m->err);
        if (rc == ERR_OK && uidset_count(&c->uids) != c->seg->docs)
            rc = damaged(m);
        if (rc == ERR_OK)
            uidset_add_set(&m->uids, &c->uids);
    }
    if (rc != ERR_OK)
        return rc;
    uidset_intersect(&m->uids, alive);
    for (size_t i = 0; i < m->n; i++) {
        struct cursor *c = &m->c[i];
        uint32_t from = 0, to = 0;
        size_t at = 0;
        c->map = xcalloc(c->seg->docs + 1, sizeof(c->map[0]));
        for (size_t r = 0; r < c->uids.n; r++)
            for (uint64_t uid = c->uids.r[r].first; uid <= c->uids.r[r].last;
                 uid++) {
                while (at < m->uids.n && m->uids.r[at].last < uid) {
                    to += m->uids.r[at].last - m->uids.r[at].first + 1;
                    at++;
                }
                bool here = at < m->uids.n && m->uids.r[at].first <= uid;
                c->map[from++] =
                    here ? to + (uint32_t)uid - m->uids.r[at].first : NO_DOC;
            }
    }
    return ERR_OK;
}

/* The head with the segments from FIRST on replaced by SEG, and their rows
 * gone. */
static enum errcode
switch_over(struct merge *m, struct index_head *h, size_t first,
            struct segment_out *out)
{
    const size_t n = h->nsegments;
    struct index_segment *gone = xcalloc(n - first, sizeof(gone[0]));

    memcpy(gone, h->segments + first, (n - first) * sizeof(gone[0]));
    h->nsegments = first;
    if (out->seg.docs > 0)
        h->segments[h->nsegments++] = out->seg;
    h->next_segment = out->seg.id + 1;
    enum errcode rc = head_write(m->x, out->batch, m->id, h, m->err);
    for (size_t i = 0; rc == ERR_OK && i < n - first; i++)
        rc = rows_drop(m->x->db, m->id, gone[i].id, m->err);
    free(gone);
    return rc;
}

static enum errcode
merge_from(struct merge *m, struct index_head *h, size_t first,
           const struct uidset *alive)
{
    struct segment_out out;
    struct block_writer w = {.emit = segment_out_block, .ctx = &out};
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct row_key k;

    enum errcode rc = number_docs(m, alive);
    if (rc != ERR_OK)
        return rc;
    segment_out_begin(&out, m->x->db, m->id, h->next_segment, m->err);
    rc = out.rc;
    for (size_t i = 0; rc == ERR_OK && i < WORDS_KINDS; i++) {
        out.kind = (enum words_of)i;
        rc = merge_kind(m, out.kind, &w);
        segment_out_kind_end(&out);
        if (rc == ERR_OK)
            rc = out.rc;
    }
    block_writer_free(&w);
    if (rc == ERR_OK) {
        out.seg.docs = (uint32_t)uidset_count(&m->uids);
        index_docs_encode(&m->uids, &value);
        search_batch_put(out.batch, row_key_segment(&k, 'D', m->id, out.seg.id),
                         buf_span(&value));
        rc = switch_over(m, h, first, &out);
    }
    segment_out_free(&out);
    return rc;
}

/* The first one that is to be merged with all behind it. */
static size_t
choose(const struct index_head *h, bool all)
{
    size_t first = h->nsegments;
    uint64_t docs = 0;

    while (first > 0 && docs + h->segments[first - 1].docs <= MERGED_DOCS_MAX &&
           (all || first == h->nsegments ||
            h->segments[first - 1].docs < FANOUT * docs)) {
        first--;
        docs += h->segments[first].docs;
    }
    if (!all && h->nsegments - first < LOOSE_SEGMENTS)
        return h->nsegments;
    return first;
}

enum errcode
segments_merge(struct search_index *x, mbid_t id, struct index_head *h,
               const struct uidset *alive, bool all, struct error *err)
{
    const size_t first = choose(h, all);
    struct merge m = {.x = x, .id = id, .err = err};

    m.n = h->nsegments - first;
    if (m.n == 0)
        return ERR_OK;
    /* One alone is written again only for what is gone from it. */
    if (m.n == 1 && h->segments[first].docs <= uidset_count(alive))
        return ERR_OK;
    struct index_segment *seg = xcalloc(m.n, sizeof(seg[0]));
    memcpy(seg, h->segments + first, m.n * sizeof(seg[0]));
    m.c = xcalloc(m.n, sizeof(m.c[0]));
    for (size_t i = 0; i < m.n; i++)
        m.c[i].seg = &seg[i];
    enum errcode rc = merge_from(&m, h, first, alive);
    for (size_t i = 0; i < m.n; i++) {
        uidset_free(&m.c[i].uids);
        free(m.c[i].map);
    }
    free(m.c);
    free(m.docs);
    free(seg);
    uidset_free(&m.uids);
    return rc;
}
