/*
 * synclog/mutants.h - promises of the log broken on purpose, so that a test can
 * show that the tests notice.  All zero in the product.
 */
#ifndef POLLUX_SYNCLOG_MUTANTS_H
#define POLLUX_SYNCLOG_MUTANTS_H

enum {
    MUTANT_SHIP_EARLY = 1U << 16,   /* readers see what is not synced (L6) */
    MUTANT_NO_REWRITE = 1U << 17,   /* unproven frames are left as they lie */
    MUTANT_CUT_ONE_MORE = 1U << 18, /* recovery cuts unproven frames */
    MUTANT_ANY_CHAIN = 1U << 19,    /* frames of any history are taken */
};

#endif
