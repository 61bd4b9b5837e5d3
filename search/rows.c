/*
 * search/rows.c - as rows.h says.
 */
#include "search/rows.h"

#include <stdlib.h>
#include <xxhash.h>

static void
key_be(struct row_key *k, uint64_t v, size_t n)
{
    ENSURE(k->n + n <= sizeof(k->b));
    for (size_t i = n; i > 0; i--)
        k->b[k->n++] = (uint8_t)(v >> (8 * (i - 1)));
}

struct span
row_key_mailbox(struct row_key *k, char table, mbid_t id)
{
    k->n = 0;
    key_be(k, (uint8_t)table, 1);
    key_be(k, id, 8);
    return row_key_span(k);
}

struct span
row_key_segment(struct row_key *k, char table, mbid_t id, uint32_t segment)
{
    (void)row_key_mailbox(k, table, id);
    key_be(k, segment, 4);
    return row_key_span(k);
}

struct span
row_key_words(struct row_key *k, char table, mbid_t id, uint32_t segment,
              enum words_of kind)
{
    (void)row_key_segment(k, table, id, segment);
    key_be(k, kind, 1);
    return row_key_span(k);
}

struct span
row_key_block(struct row_key *k, char table, mbid_t id, uint32_t segment,
              enum words_of kind, uint32_t no)
{
    (void)row_key_words(k, table, id, segment, kind);
    key_be(k, no, 4);
    return row_key_span(k);
}

/* ---- values ------------------------------------------------------------ */

/* B[FROM..] was written: its hash behind it. */
static void
seal(struct buf *b, size_t from)
{
    buf_add_u64le(b, XXH3_64bits(b->p + from, b->n - from));
}

/* What is between version and hash. */
static bool
unseal(struct span in, struct rd *ret)
{
    if (in.n < 9 || in.p[0] != ROWS_VERSION)
        return false;
    struct rd hash = rd_init(span_skip(in, in.n - 8));
    if (rd_u64le(&hash) != XXH3_64bits(in.p, in.n - 8))
        return false;
    *ret = rd_init(span_sub(in, 1, in.n - 9));
    return true;
}

void
index_head_free(struct index_head *h)
{
    free(h->segments);
    uidset_free(&h->skipped);
    *h = (struct index_head){0};
}

void
index_head_encode(const struct index_head *h, struct buf *out)
{
    const size_t from = out->n;

    buf_add_byte(out, ROWS_VERSION);
    buf_add_blob(out, span_str(h->uniqueid.s));
    buf_add_varint(out, h->uidvalidity);
    buf_add_varint(out, h->upto);
    buf_add_varint(out, h->next_segment);
    buf_add_varint(out, h->nsegments);
    for (size_t i = 0; i < h->nsegments; i++) {
        const struct index_segment *s = &h->segments[i];
        buf_add_varint(out, s->id);
        buf_add_varint(out, s->docs);
        for (size_t k = 0; k < WORDS_KINDS; k++)
            buf_add_varint(out, s->blocks[k]);
        buf_add_varint(out, s->bytes);
    }
    uidset_encode(&h->skipped, out);
    seal(out, from);
}

bool
index_head_decode(struct span in, struct index_head *ret)
{
    struct rd r;
    struct index_head h = {0};

    if (!unseal(in, &r))
        return false;
    struct span uniqueid = rd_blob(&r, UNIQUEID_MAX);
    memcpy(h.uniqueid.s, uniqueid.n > 0 ? uniqueid.p : (const uint8_t *)"",
           uniqueid.n);
    h.uidvalidity = rd_varint32(&r);
    h.upto = rd_varint32(&r);
    h.next_segment = rd_varint32(&r);
    uint64_t n = rd_varint(&r);
    if (r.bad || n > SEGMENTS_MAX)
        return false;
    h.nsegments = (size_t)n;
    h.segments = xcalloc(h.nsegments + 1, sizeof(h.segments[0]));
    for (size_t i = 0; i < h.nsegments; i++) {
        struct index_segment *s = &h.segments[i];
        s->id = rd_varint32(&r);
        s->docs = rd_varint32(&r);
        for (size_t k = 0; k < WORDS_KINDS; k++)
            s->blocks[k] = rd_varint32(&r);
        s->bytes = rd_varint(&r);
        r.bad |= s->id >= h.next_segment;
    }
    uidset_decode(&r, SIZE_MAX, &h.skipped);
    if (!rd_done(&r)) {
        index_head_free(&h);
        return false;
    }
    *ret = h;
    return true;
}

void
index_docs_encode(const struct uidset *uids, struct buf *out)
{
    const size_t from = out->n;

    buf_add_byte(out, ROWS_VERSION);
    uidset_encode(uids, out);
    seal(out, from);
}

bool
index_docs_decode(struct span in, struct uidset *ret)
{
    struct rd r;

    if (!unseal(in, &r))
        return false;
    uidset_decode(&r, SIZE_MAX, ret);
    return rd_done(&r);
}

void
index_origin_encode(const struct index_origin *o, struct buf *out)
{
    const size_t from = out->n;

    buf_add_byte(out, ROWS_VERSION);
    buf_add(out, span_of(o->cluster.b, sizeof(o->cluster.b)));
    buf_add_varint(out, o->epoch);
    buf_add_varint(out, o->lsn);
    seal(out, from);
}

bool
index_origin_decode(struct span in, struct index_origin *ret)
{
    struct rd r;
    struct index_origin o = {0};

    if (!unseal(in, &r))
        return false;
    struct span cluster = rd_span(&r, sizeof(o.cluster.b));
    o.epoch = rd_varint32(&r);
    o.lsn = rd_varint(&r);
    if (!rd_done(&r))
        return false;
    memcpy(o.cluster.b, cluster.p, cluster.n);
    *ret = o;
    return true;
}
