/*
 * store/resolve.h - a transaction becomes records: the part of the commit that
 * only a master does.
 */
#ifndef POLLUX_STORE_RESOLVE_H
#define POLLUX_STORE_RESOLVE_H

#include "store/state.h"
#include "store/txn_private.h"

/* A derived record to be put when its transaction is in. */
struct cache_put {
    mbid_t id;
    uint32_t uid;
    struct span record; /* of the transaction */
    struct cache_put *next;
};

/* A commit group being gathered on the master. */
struct group {
    struct state *st;
    struct env *env;
    struct instid instance;
    epoch_t epoch;
    struct synclog_place place;
    uint64_t time_us;
    uint64_t chain; /* of the frame before */
    struct buf payload;
    uint32_t nrecords;
    size_t payload_max;
    bool overflow; /* a record did not fit any more */
    size_t slice;  /* messages that this turn may touch; 0: any number */
    unsigned mutants;
    struct arena arena;  /* for one transaction */
    uint8_t random[256]; /* the last RANDOM_LEFT bytes were not used */
    size_t random_left;
    struct buf body;          /* of the record being made */
    struct cache_put *caches; /* of the transaction under way */
};

enum txn_outcome {
    TXN_DONE,     /* code and results say what came of it */
    TXN_MORE,     /* it has had its turn; run it again when that is durable */
    TXN_OVERFLOW, /* did not fit and left nothing: try in the next group */
};

/* Resolve TXN against the group's state and add its records. */
enum txn_outcome
resolve_txn(struct group *g, struct store_txn *txn);

#endif
