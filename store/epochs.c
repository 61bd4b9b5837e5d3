/*
 * store/epochs.c - how an epoch begins, and what its beginning does to UIDs.
 *
 * An epoch is planned, the role changes, and then the epoch's record is
 * written: whoever promotes waits for that (store_begin_epoch()).  In between
 * readers are told what they will be told after it (snap.c), so nobody sees a
 * UIDNEXT that falls.  A master that was promoted and stopped before the
 * record, and is started while the fence is up or the disk full, owes it: the
 * writer looks each turn whether it can begin now, so that it does not matter
 * how the fence went down (a tool, or rm).
 */
#include "store/store_private.h"

#include <stdio.h>

epoch_t
epochs_jumped_last(const struct epoch_entry *entries, size_t n, epoch_t epoch)
{
    epoch_t last = n == 0 ? 0 : entries[0].epoch;

    for (size_t i = 0; i < n; i++)
        if (entries[i].uid_headroom > 0 && entries[i].epoch <= epoch)
            last = entries[i].epoch;
    return last;
}

uint64_t
epochs_uid_jump(const struct epoch_entry *entries, size_t n, epoch_t uid_epoch)
{
    const epoch_t last = epochs_jumped_last(entries, n, uid_epoch);
    uint64_t jump = 0;

    for (size_t i = 0; i < n; i++) {
        const struct epoch_entry *e = &entries[i];
        if (e->epoch > uid_epoch)
            jump = MAX(jump, (uint64_t)e->uid_headroom * (e->epoch - last));
    }
    return jump;
}

static struct store_txn *
make_begin(epoch_t epoch, uint32_t uid_headroom, const char *reason)
{
    struct store_txn *txn = txn_new();

    struct op *op = txn_add_op(txn, OP_EPOCH, 0);
    op->u.epoch.entry.epoch = epoch;
    op->u.epoch.entry.uid_headroom = uid_headroom;
    op->u.epoch.reason = arena_str(&txn->arena, span_str(reason));
    txn->is_begin = true;
    return txn;
}

enum errcode
store_begin_epoch(struct store *store, epoch_t epoch, uint32_t uid_headroom,
                  const char *reason, struct error *err)
{
    AUTO(txn_free)
    struct store_txn *txn = make_begin(epoch, uid_headroom, reason);

    enum errcode rc = store_commit(store, txn, err);
    if (rc == ERR_OK)
        store_plan_epoch(store, 0, 0, "", false);
    return rc;
}

void
store_plan_epoch(struct store *store, epoch_t epoch, uint32_t uid_headroom,
                 const char *reason, bool by_itself)
{
    store_control_begin(store);
    atomic_store(&store->planned.uid_headroom, uid_headroom);
    atomic_store(&store->planned.epoch, epoch);
    store->planned.by_itself = by_itself;
    snprintf(store->planned.reason, sizeof(store->planned.reason), "%s",
             reason);
    store_control_end(store);
}

static void
owed_done(void *ctx, struct store_txn *txn)
{
    (void)ctx; /* if it failed, the next turn tries again */
    txn_free(&txn);
}

struct job *
epochs_owed(struct store *store)
{
    const epoch_t epoch = atomic_load(&store->planned.epoch);
    const size_t n = store->st.v.nepochs;

    if (epoch == 0 || !store->planned.by_itself || store->role != ROLE_MASTER ||
        epoch != store->epoch || store->fence)
        return NULL;
    if (n > 0 && store->st.epochs[n - 1].epoch >= epoch) {
        atomic_store(&store->planned.epoch, 0);
        return NULL;
    }
    struct store_txn *txn =
        make_begin(epoch, atomic_load(&store->planned.uid_headroom),
                   store->planned.reason);
    txn->done = owed_done;
    txn_prepare(txn);
    atomic_fetch_add(&store->queue_bytes, txn->job.bytes);
    return &txn->job;
}
