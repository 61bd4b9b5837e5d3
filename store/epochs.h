/*
 * store/epochs.h - what a client learned in an epoch, and whether that still
 * counts.
 */
#ifndef POLLUX_STORE_EPOCHS_H
#define POLLUX_STORE_EPOCHS_H

#include "store/store.h"

/*
 * From which MODSEQ on a client has to be told what changed, if it says that it
 * knows all up to MODSEQ (RFC 7162): that one, or 1 if it comes from a history
 * that is no more.  Above the place where its epoch ended it was made by a
 * master that is lost, and what the client learned with it may never have
 * happened.  An epoch that is about to begin here counts as begun.
 */
MUST_CHECK enum errcode
snap_living_modseq(struct store_snap *snap, uint64_t modseq, modseq_t *ret,
                   struct error *err);

#endif
