/*
 * search/view.c - looking up: for each pattern of a needle a pass over those
 * blocks of words that can have it, and the messages that have all of them.
 * The pattern that the fewest blocks can have goes first, and where no message
 * is left the others are not looked for.
 *
 * A needle is in one text, so header and body are looked up apart: a message
 * that has half of it here and half of it there has it nowhere.
 */
#include "search/index_private.h"

#include <stdlib.h>

struct view_segment {
    uint32_t id;
    uint32_t docs;
    uint32_t blocks[WORDS_KINDS];
    struct uidset uids;
};

struct search_view {
    struct search_index *x;
    mbid_t id;
    struct search_db_view *db;
    struct view_segment *segments;
    size_t nsegments;
    struct uidset covered;
};

void
search_view_close(struct search_view **vp)
{
    struct search_view *v = *vp;

    if (v == NULL)
        return;
    for (size_t i = 0; i < v->nsegments; i++)
        uidset_free(&v->segments[i].uids);
    free(v->segments);
    uidset_free(&v->covered);
    search_db_release(&v->db);
    pthread_rwlock_unlock(&v->x->lock);
    xfree(vp);
}

static enum errcode
read_segments(struct search_view *v, const struct index_head *h,
              struct error *err)
{
    enum errcode rc = ERR_OK;

    v->segments = xcalloc(h->nsegments + 1, sizeof(v->segments[0]));
    for (size_t i = 0; rc == ERR_OK && i < h->nsegments; i++) {
        struct view_segment *s = &v->segments[v->nsegments++];
        s->id = h->segments[i].id;
        s->docs = h->segments[i].docs;
        memcpy(s->blocks, h->segments[i].blocks, sizeof(s->blocks));
        rc = docs_read(v->x->db, v->db, v->id, s->id, &s->uids, err);
        if (rc == ERR_OK && uidset_count(&s->uids) != s->docs)
            rc = error_set(err, ERR_CORRUPT, "search index: not so many");
        if (rc == ERR_OK)
            uidset_add_set(&v->covered, &s->uids);
    }
    return rc;
}

struct search_view *
search_view_open(struct search_index *x, const struct mailbox *mb)
{
    AUTO(index_head_free) struct index_head h = {0};
    struct error err = {0};

    pthread_rwlock_rdlock(&x->lock);
    if (x->db == NULL || atomic_load(&x->broken)) {
        pthread_rwlock_unlock(&x->lock);
        return NULL;
    }
    struct search_view *v = xcalloc(1, sizeof(*v));
    v->x = x;
    v->id = mb->id;
    v->db = search_db_view(x->db);
    enum errcode rc = head_read(x->db, v->db, mb->id, &h, &err);
    if (rc == ERR_OK && (h.uidvalidity != mb->uidvalidity ||
                         strcmp(h.uniqueid.s, mb->uniqueid.s) != 0))
        rc = ERR_NOTFOUND;
    if (rc == ERR_OK)
        rc = read_segments(v, &h, &err);
    if (rc != ERR_OK)
        search_view_close(&v);
    return v;
}

const struct uidset *
search_view_covered(const struct search_view *v)
{
    return &v->covered;
}

void
search_uids_without(const struct uidset *all, const struct uidset *less,
                    struct uidset *ret)
{
    size_t k = 0;

    for (size_t i = 0; i < all->n; i++) {
        uint64_t from = all->r[i].first;
        const uint32_t last = all->r[i].last;
        while (k < less->n && less->r[k].last < from)
            k++;
        for (size_t j = k; j < less->n && less->r[j].first <= last; j++) {
            if (less->r[j].first > from)
                uidset_add(ret, (uint32_t)from, less->r[j].first - 1);
            from = (uint64_t)less->r[j].last + 1;
        }
        if (from <= last)
            uidset_add(ret, (uint32_t)from, last);
    }
}

/* ---- finding ----------------------------------------------------------- */

static void
set_bit(void *ctx, uint32_t doc)
{
    uint64_t *bits = ctx;

    bits[doc / 64] |= UINT64_C(1) << (doc % 64);
}

/* Which blocks of S can have each pattern of Q: a bit for each block, one word
 * for each 64 of them, N words a pattern.  Where no filter speaks, all. */
static void
ask_filters(struct search_view *v, const struct view_segment *s,
            enum words_of kind, const struct word_query *q, uint64_t *may,
            size_t n)
{
    struct row_key k;
    struct span key, value;
    unsigned nblocks;
    struct error ignored = {0};

    for (size_t i = 0; i < n * q->npatterns; i++)
        may[i] = UINT64_MAX;
    if (s->blocks[kind] < FILTER_BLOCKS_MIN)
        return;
    struct search_db_iter *it = search_db_iter(
        v->x->db, v->db, row_key_words(&k, 'F', v->id, s->id, kind));
    while (search_db_next(it, &key, &value)) {
        struct rd r = rd_init(span_skip(key, k.n));
        const uint32_t no = rd_u32be(&r);
        if (!rd_done(&r) || no >= n || !gram_row_open(value, &nblocks) ||
            nblocks != MIN(s->blocks[kind] - no * GRAM_FILTER_BLOCKS,
                           GRAM_FILTER_BLOCKS))
            continue; /* damaged: all are looked at */
        for (size_t p = 0; p < q->npatterns; p++)
            may[p * n + no] = gram_row_find(value, word_query_pattern(q, p));
    }
    /* What could not be read is looked at. */
    (void)!search_db_iter_close(&it, &ignored);
}

/* Messages of S that have PATTERN among their words of KIND, in the blocks that
 * MAY have it. */
static bool
find_pattern(struct search_view *v, const struct view_segment *s,
             enum words_of kind, struct span pattern, const uint64_t *may,
             uint64_t *bits)
{
    struct row_key k;
    struct span key, value;
    struct error ignored = {0};
    struct block b;
    bool good = true;
    uint32_t at = 0; /* where the iterator goes by itself */
    struct search_db_iter *it = NULL;

    for (uint32_t no = 0; good && no < s->blocks[kind]; no++) {
        if ((may[no / 64] >> (no % 64) & 1) == 0)
            continue;
        if (it == NULL)
            it = search_db_iter(v->x->db, v->db,
                                row_key_words(&k, 'B', v->id, s->id, kind));
        const struct span want = row_key_block(&k, 'B', v->id, s->id, kind, no);
        if (no != at)
            search_db_seek(it, want);
        at = no + 1;
        good = search_db_next(it, &key, &value) && span_eq(key, want) &&
               block_open(value, &b) &&
               block_find(&b, pattern, s->docs, set_bit, bits);
    }
    return search_db_iter_close(&it, &ignored) == ERR_OK && good;
}

static bool
any_bit(const uint64_t *bits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bits[i] != 0)
            return true;
    return false;
}

/* In how many blocks N words MAY of bits let it look. */
static unsigned
count_bits(const uint64_t *may, size_t n)
{
    unsigned sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (unsigned)__builtin_popcountll(may[i]);
    return sum;
}

/* The patterns of Q, those with the fewest blocks first. */
static void
order_patterns(const struct word_query *q, const uint64_t *may, size_t n,
               size_t order[QUERY_PATTERNS_MAX])
{
    unsigned blocks[QUERY_PATTERNS_MAX];

    for (size_t p = 0; p < q->npatterns; p++) {
        size_t i = p;
        blocks[p] = count_bits(may + p * n, n);
        for (; i > 0 && blocks[order[i - 1]] > blocks[p]; i--)
            order[i] = order[i - 1];
        order[i] = p;
    }
}

/* The messages of S with all patterns of Q, added to ANY. */
static bool
find_all(struct search_view *v, const struct view_segment *s,
         enum words_of kind, const struct word_query *q, uint64_t *any)
{
    const size_t words = s->docs / 64 + 1;
    const size_t groups = s->blocks[kind] / GRAM_FILTER_BLOCKS + 1;
    size_t order[QUERY_PATTERNS_MAX];
    bool good = true;

    if (s->blocks[kind] == 0)
        return true;
    uint64_t *may = xcalloc(q->npatterns * groups, sizeof(may[0]));
    uint64_t *all = xcalloc(words, sizeof(all[0]));
    uint64_t *one = xcalloc(words, sizeof(one[0]));
    ask_filters(v, s, kind, q, may, groups);
    order_patterns(q, may, groups, order);
    for (size_t i = 0; good && i < q->npatterns; i++) {
        const size_t p = order[i];
        if (i > 0 && !any_bit(all, words))
            break;
        memset(one, 0, words * sizeof(one[0]));
        good = find_pattern(v, s, kind, word_query_pattern(q, p),
                            may + p * groups, i == 0 ? all : one);
        for (size_t k = 0; i > 0 && k < words; k++)
            all[k] &= one[k];
    }
    for (size_t i = 0; i < words; i++)
        any[i] |= all[i];
    free(may);
    free(all);
    free(one);
    return good;
}

/* The UIDs of the messages in BITS. */
static void
add_uids(const struct view_segment *s, const uint64_t *bits, struct uidset *ret)
{
    uint32_t doc = 0;

    for (size_t i = 0; i < s->uids.n; i++)
        for (uint64_t uid = s->uids.r[i].first; uid <= s->uids.r[i].last;
             uid++, doc++)
            if ((bits[doc / 64] >> (doc % 64) & 1) != 0)
                uidset_add(ret, (uint32_t)uid, (uint32_t)uid);
}

bool
search_view_find(struct search_view *v, struct span folded,
                 enum mime_search_where where, struct uidset *ret,
                 bool *ret_exact)
{
    AUTO(word_query_free) struct word_query q = {0};
    bool good = true;

    if (!word_query_make(folded, &q))
        return false;
    uidset_clear(ret);
    for (size_t i = 0; good && i < v->nsegments; i++) {
        const struct view_segment *s = &v->segments[i];
        uint64_t *any = xcalloc(s->docs / 64 + 1, sizeof(any[0]));
        if (where != MIME_SEARCH_BODY)
            good = find_all(v, s, WORDS_HEADER, &q, any);
        if (good && where != MIME_SEARCH_HEADER)
            good = find_all(v, s, WORDS_BODY, &q, any);
        if (good)
            add_uids(s, any, ret);
        free(any);
    }
    *ret_exact = q.exact;
    return good;
}
