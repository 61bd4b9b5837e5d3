/*
 * imapd/seqmap.h - the messages of a selected mailbox as the client counts
 * them: sequence number <-> UID.
 *
 * Kept as ranges of UIDs, so a mailbox without gaps costs 12 bytes whatever its
 * size; both ways are a binary search.
 */
#ifndef POLLUX_IMAPD_SEQMAP_H
#define POLLUX_IMAPD_SEQMAP_H

#include "base/uidset.h"

struct seqrange {
    uint32_t first;
    uint32_t last;
    uint32_t before; /* messages in front of this range */
};

struct seqmap {
    struct seqrange *r;
    uint32_t n;
    uint32_t cap;
};

#define SEQMAP_INIT ((struct seqmap){0})

void
seqmap_free(struct seqmap *m);
uint32_t
seqmap_count(const struct seqmap *m);
/* UID must be above all that are in. */
void
seqmap_append(struct seqmap *m, uint32_t uid);
/* The same for all UIDs from FIRST to LAST. */
void
seqmap_append_range(struct seqmap *m, uint32_t first, uint32_t last);
/* 0: not there. */
uint32_t
seqmap_uid(const struct seqmap *m, uint32_t seq);
uint32_t
seqmap_seq(const struct seqmap *m, uint32_t uid);
/* The highest UID; 0 for none. */
uint32_t
seqmap_last_uid(const struct seqmap *m);
/* The smallest UID >= UID; 0 for none. */
uint32_t
seqmap_next(const struct seqmap *m, uint32_t uid);
void
seqmap_remove(struct seqmap *m, const struct uidset *uids);
/* Add to RET those of UIDS that are in. */
void
seqmap_intersect(const struct seqmap *m, const struct uidset *uids,
                 struct uidset *ret);
/* Add to RET the UIDs of the sequence numbers SEQS; false if one of them is
 * beyond the last message. */
MUST_CHECK bool
seqmap_resolve(const struct seqmap *m, const struct uidset *seqs,
               struct uidset *ret);

#endif
