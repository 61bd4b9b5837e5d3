/*
 * search/rows.h - keys and values of the index's database.
 *
 *   'I'  of which store, and how far: struct index_origin
 *   'H'  mbid: struct index_head
 *   'D'  mbid segment: messages of a segment: u8 version, UIDs
 *        (base/uidset.h), u64le xxh3-64 of all before
 *   'B'  mbid segment kind no: a block of words (search/block.h)
 *   'F'  mbid segment kind no: a filter (search/grams.h) of the blocks from
 *        64 * no on; not of a few blocks alone
 *
 * Integers in keys are big-endian: mbid 8 bytes, segment and no 4, kind 1.
 * Every value has a version and a hash; what does not fit is thrown away and
 * made again.  Version 2: there are filters.
 */
#ifndef POLLUX_SEARCH_ROWS_H
#define POLLUX_SEARCH_ROWS_H

#include "base/ids.h"
#include "base/uidset.h"

#define ROWS_VERSION 2U
#define SEGMENTS_MAX 1000U

/* Where words stand. */
enum words_of {
    WORDS_HEADER, /* the message's own header */
    WORDS_BODY,   /* all else */
    WORDS_KINDS,
};

struct row_key {
    uint8_t b[24];
    size_t n;
};

static inline struct span
row_key_span(const struct row_key *k)
{
    return span_of(k->b, k->n);
}

/* TABLE and mailbox: also the prefix of all its rows there. */
struct span
row_key_mailbox(struct row_key *k, char table, mbid_t id);
struct span
row_key_segment(struct row_key *k, char table, mbid_t id, uint32_t segment);
/* TABLE is 'B' or 'F'. */
struct span
row_key_words(struct row_key *k, char table, mbid_t id, uint32_t segment,
              enum words_of kind);
struct span
row_key_block(struct row_key *k, char table, mbid_t id, uint32_t segment,
              enum words_of kind, uint32_t no);

struct index_origin {
    struct instid cluster;
    epoch_t epoch;
    lsn_t lsn; /* all that was indexed is of this position or before */
};

struct index_segment {
    uint32_t id;
    uint32_t docs;
    uint32_t blocks[WORDS_KINDS];
    uint64_t bytes;
};

/* Of one mailbox. */
struct index_head {
    struct uniqueid uniqueid;
    uint32_t uidvalidity;
    uint32_t upto; /* UIDs up to here were looked at */
    uint32_t next_segment;
    struct index_segment *segments; /* oldest first */
    size_t nsegments;
    struct uidset skipped; /* could not be read, or have too many words */
};

void
index_head_free(struct index_head *h);
void
index_head_encode(const struct index_head *h, struct buf *out);
/* *RET is empty or freed before.  False: not what we wrote. */
MUST_CHECK bool
index_head_decode(struct span in, struct index_head *ret);
void
index_docs_encode(const struct uidset *uids, struct buf *out);
MUST_CHECK bool
index_docs_decode(struct span in, struct uidset *ret);
void
index_origin_encode(const struct index_origin *o, struct buf *out);
MUST_CHECK bool
index_origin_decode(struct span in, struct index_origin *ret);

#endif
