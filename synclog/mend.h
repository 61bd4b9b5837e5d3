/*
 * synclog/mend.h - putting whole frames of another copy of the log into the
 * place of damaged ones.
 *
 * A log is the same on all members of a cluster, frame by frame, but for where
 * segments begin, for heartbeats, and for durable_lsn.  So what is damaged here
 * is fetched by LSN, and counts only where the chain from the frame before to
 * the frame behind fits.  Offsets stay as they were: the state names bodies by
 * them.
 */
#ifndef POLLUX_SYNCLOG_MEND_H
#define POLLUX_SYNCLOG_MEND_H

#include "synclog/synclog.h"

/*
 * Whole frames behind AFTER, up to UNTIL or less, but at least one, appended to
 * RET; *RET_CHAIN is the chain at AFTER.  ERR_GAP: they are not to be had.
 */
typedef enum errcode
synclog_fetch(void *ctx, lsn_t after, lsn_t until, uint64_t *ret_chain,
              struct buf *ret, struct error *err);

struct synclog_mend_options {
    const char *dir;
    struct instid cluster; /* of a header that has to be made anew */
    struct instid instance;
    /* Up to here all was durable, as something outside of the log knows (the
     * state): a tail that ends before is damage, not torn.  0: unknown. */
    lsn_t proven;
    /* A writer is at it: nothing beyond this LSN is looked at.  0: nobody is,
     * and the caller holds DIR/lock. */
    lsn_t durable;
    uint64_t segment; /* only this one; 0: all */
    synclog_fetch *fetch;
    void *ctx;
};

struct synclog_mended {
    unsigned places;   /* that were damaged */
    uint64_t bytes;    /* written anew */
    uint64_t records;  /* fetched */
    lsn_t first, last; /* of them; 0: none was needed */
};

/*
 * Walk the log and mend what is damaged, in place; the damaged bytes are kept
 * in DIR/damaged-SEGMENT-OFFSET first.  A torn tail is left to recovery.  A
 * crash on the way leaves less damage than before.
 * ERR_NOTFOUND (no log), ERR_GAP (not to be had: ERR names segment, offset and
 * LSNs), ERR_HISTORY (what was fetched is of another chain), ERR_CORRUPT (a
 * whole segment is missing, or two neighbouring headers and frames are
 * damaged), ERR_VERSION, those of FETCH, ERR_NOSPACE, ERR_IO.
 * *RET is set in any case.
 */
MUST_CHECK enum errcode
synclog_mend(struct env *env, const struct synclog_mend_options *o,
             struct synclog_mended *ret, struct error *err);

#endif
