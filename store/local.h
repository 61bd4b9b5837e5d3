/*
 * store/local.h - changing local rows while the store runs.
 *
 * Where bodies lie, what packs hold, what may be garbage: these rows are this
 * instance's own, in no digest and in no record.  Maintenance (the compactor,
 * repair) changes them between two groups of the writer, so that what it
 * decided by the rows cannot change under it.
 */
#ifndef POLLUX_STORE_LOCAL_H
#define POLLUX_STORE_LOCAL_H

#include "store/kv.h"

struct state;
struct store;

/*
 * Run CALL while the writer stands still, with the state as it is visible and a
 * batch for rows of TAB_BODY and TAB_LOCAL only; what it put there is then
 * written (not flushed) at once, unless it fails.  Deliveries wait meanwhile:
 * a few hundred rows at most.  CALL must not call the store.  Any thread but
 * the writer's; with no_threads it runs in the caller.
 * What CALL says; ERR_NOSPACE (nothing was written; also while a group waits
 * for room); ERR_IO and ERR_CORRUPT of the write itself end the store;
 * the reason of its end in a dead one.
 */
MUST_CHECK enum errcode
store_local(struct store *store,
            enum errcode (*call)(void *ctx, struct state *st,
                                 struct kv_batch *b, struct error *err),
            void *ctx, struct error *err);

#endif
