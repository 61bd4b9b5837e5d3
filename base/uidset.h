/*
 * base/uidset.h - sets of UIDs as sorted, disjoint, non-adjacent ranges.
 *
 * Text form as in IMAP ("1:5,9"); binary form for log records: varint count,
 * then for each range varint gap (how many UIDs are missing before it) and
 * varint length-1.  A set has exactly one binary form.
 */
#ifndef POLLUX_BASE_UIDSET_H
#define POLLUX_BASE_UIDSET_H

#include "base/buf.h"
#include "base/rd.h"

struct uidrange {
    uint32_t first;
    uint32_t last; /* inclusive, >= first >= 1 */
};

struct uidset {
    struct uidrange *r;
    size_t n;
    size_t cap;
};

#define UIDSET_INIT ((struct uidset){0})

void
uidset_free(struct uidset *s);
void
uidset_clear(struct uidset *s);
/* Any order; ranges are merged.  FIRST > LAST is swapped; 0 is ignored. */
void
uidset_add(struct uidset *s, uint32_t first, uint32_t last);
void
uidset_add_set(struct uidset *s, const struct uidset *other);
/* Leave in S only what is in WITH too. */
void
uidset_intersect(struct uidset *s, const struct uidset *with);
void
uidset_remove(struct uidset *s, uint32_t first, uint32_t last);
bool
uidset_has(const struct uidset *s, uint32_t uid);
/* How many UIDs. */
uint64_t
uidset_count(const struct uidset *s);
/* The smallest member >= UID, or 0. */
uint32_t
uidset_next(const struct uidset *s, uint32_t uid);
bool
uidset_eq(const struct uidset *a, const struct uidset *b);
/* "1:5,9"; nothing for an empty set. */
void
uidset_format(const struct uidset *s, struct buf *out);
/*
 * An IMAP sequence-set (RFC 9051, 9): numbers, ranges either way round, "*"
 * standing for STAR (a range with "*" and STAR 0 stands for nothing).  False if
 * it does not parse or has more than MAX_RANGES parts, and then *S is
 * untouched. Adds to *S.  "$" (RFC 9051, 9) is for the caller.
 */
MUST_CHECK bool
uidset_parse(struct span text, uint32_t star, size_t max_ranges,
             struct uidset *s);
void
uidset_encode(const struct uidset *s, struct buf *out);
/* Replaces *S.  Bad encodings (adjacent ranges among them) set r->bad and leave
 * *S empty; at most MAX_RANGES ranges. */
void
uidset_decode(struct rd *r, size_t max_ranges, struct uidset *s);

#endif
