/*
 * store/mutants.h - promises broken on purpose, so that a test can show that
 * the tests notice.  All zero in the product.  Those of the log:
 * synclog/mutants.h.
 */
#ifndef POLLUX_STORE_MUTANTS_H
#define POLLUX_STORE_MUTANTS_H

enum {
    MUTANT_ACK_BEFORE_SYNC = 1U << 0,
    MUTANT_SHOW_BEFORE_SYNC = 1U << 1,
    MUTANT_NO_HEADROOM = 1U << 2,
    MUTANT_IGNORE_FENCE = 1U << 3,
    MUTANT_IGNORE_EPOCH = 1U << 4,
    MUTANT_APPLY_FLIPPED = 1U << 5,    /* applies two records in wrong order */
    MUTANT_NO_DEDUP = 1U << 6,         /* forgets that it was delivered */
    MUTANT_NO_TOMBSTONE = 1U << 7,     /* expunged is gone without a trace */
    MUTANT_PURGE_BODY = 1U << 8,       /* a purge takes a shared body along */
    MUTANT_REPLICA_NO_SYNC = 1U << 9,  /* says durable what is not */
    MUTANT_ANSWER_LATE = 1U << 10,     /* answers a group after the fence */
    MUTANT_NARROW_HEADROOM = 1U << 11, /* forgets epochs that it has not seen */
    MUTANT_DROP_HISTORY = 1U << 12,    /* garbage is what no message has */
};

#endif
