/*
 * store/snap_private.h - the inside of a snapshot.
 */
#ifndef POLLUX_STORE_SNAP_PRIVATE_H
#define POLLUX_STORE_SNAP_PRIVATE_H

#include "store/store_private.h"

struct store_snap {
    struct store *store;
    struct kv *kv;
    struct kv_snap *view;
    struct shared_view *shared; /* not NULL: VIEW is its, not ours */
    struct buf value;
    struct arena arena;
    const struct epoch_entry *epochs; /* of snap_epochs(), when first needed */
    size_t nepochs;
    bool has_epochs;
};

/* VALUE, the row of mailbox ID, as snap_mailbox() gives it. */
MUST_CHECK enum errcode
snap_head_decode(struct store_snap *snap, mbid_t id, struct span value,
                 struct arena *a, struct mailbox *ret, struct error *err);

#endif
