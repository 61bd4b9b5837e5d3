/*
 * store/mutants.h - promises broken on purpose, so that a test can show that
 * the tests notice.  All zero in the product.
 */
#ifndef POLLUX_STORE_MUTANTS_H
#define POLLUX_STORE_MUTANTS_H

enum {
    MUTANT_ACK_BEFORE_SYNC = 1U << 0,
    MUTANT_SHOW_BEFORE_SYNC = 1U << 1,
    MUTANT_NO_HEADROOM = 1U << 2,
    MUTANT_IGNORE_FENCE = 1U << 3,
    MUTANT_IGNORE_EPOCH = 1U << 4,
    MUTANT_APPLY_FLIPPED = 1U << 5, /* applies two records in wrong order */
};

#endif
