/*
 * store/scrub.h - reading everything that is stored, slowly, so that damage is
 * found while the twin still has what is needed to repair it.
 *
 * A round: every body in the order of GUIDs (stored hash, decompression, SHA-1
 * of the whole), every frame of the log, every row of the state.  What is found
 * goes to the register (store/damage.h); a damaged state ends the instance.
 * Where a round is, is kept in a local row (LOCAL_SCRUB), so that a restart
 * goes on with the bodies where it was.
 */
#ifndef POLLUX_STORE_SCRUB_H
#define POLLUX_STORE_SCRUB_H

#include "store/store.h"

struct scrub;

struct scrub_options {
    uint64_t rate;        /* bytes a second; 0: no scrubbing */
    uint64_t interval_us; /* a round begins so long after the last one began */
};

enum scrub_phase {
    SCRUB_RESTING, /* the round is over, the next one is not due */
    SCRUB_BODIES,
    SCRUB_LOG,
    SCRUB_STATE,
};

struct scrub_view {
    enum scrub_phase phase;
    uint64_t began_us; /* of this round, or the last; 0: never */
    uint64_t ended_us; /* of the last whole round; 0: never */
    uint64_t bodies;   /* read in this round */
    uint64_t bytes;
    unsigned per_mille; /* of the phase, about */
};

/* With a thread, which is stopped before the store is closed. */
struct scrub *
scrub_start(struct store *store, const struct scrub_options *o);
void
scrub_stop(struct scrub **s);
/*
 * Read about BYTES; *RET_BYTES is what was read, 0 when nothing is due.  For
 * tests; not beside the thread.  ERR_CORRUPT and ERR_IO of the state.
 */
MUST_CHECK enum errcode
scrub_step(struct scrub *s, uint64_t bytes, uint64_t *ret_bytes,
           struct error *err);
/* Keep where it is; comes by itself after each 64 MiB, and at the end. */
void
scrub_save(struct scrub *s);
void
scrub_look(struct scrub *s, struct scrub_view *ret);
/* Of the one that runs on STORE; false: none does. */
bool
store_scrub_look(struct store *store, struct scrub_view *ret);
const char *
scrub_phase_name(enum scrub_phase phase);

/* Without a thread, for tests: free with scrub_stop(). */
struct scrub *
scrub_new(struct store *store, const struct scrub_options *o);

#endif
