/*
 * search/behind.h - how many messages of which mailboxes are not in the index,
 * and how many that makes.  21 to 43 bytes a mailbox that has some.
 */
#ifndef POLLUX_SEARCH_BEHIND_H
#define POLLUX_SEARCH_BEHIND_H

#include "store/types.h"

struct behind {
    struct behind_slot {
        mbid_t id; /* 0: free */
        uint64_t n;
    } * slots;
    size_t cap; /* a power of two, or 0 */
    size_t used;
    uint64_t total;
};

/* N messages of ID are not there, whatever was said of it before. */
void
behind_set(struct behind *b, mbid_t id, uint64_t n);
/* Nothing is known; its memory goes. */
void
behind_free(struct behind *b);

#endif
