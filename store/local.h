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

#include "store/body.h"
#include "store/history.h"
#include "store/rows.h"

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

/* Of use in CALL: the row of a part of GUID becomes TO, or goes; the accounts
 * of packs (store/places.h) with it, into B.  Each part once in a call.
 * ERR_AGAIN (the pack of TO is condemned), ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
local_put_body(struct state *st, struct kv_batch *b, const struct guid *guid,
               const struct body_loc *to, struct error *err);
MUST_CHECK enum errcode
local_drop_body(struct state *st, struct kv_batch *b, const struct guid *guid,
                uint32_t part, struct error *err);
/* Where the row says it lies.  ERR_NOTFOUND. */
MUST_CHECK enum errcode
local_get_body(struct state *st, const struct guid *guid, uint32_t part,
               struct body_loc *ret, struct error *err);

/* ---- keys of local rows (TAB_LOCAL; golden bytes: tests/store/test_local.c)
 */

/* LOCAL_DIR: kind and name of a partition -> its directory's number, varint. */
struct span
key_local_dir(struct key *k, uint8_t kind, const char *name);
/* LOCAL_PACK: directory and number of a pack -> struct pack_account. */
struct span
key_local_pack(struct key *k, uint32_t dir, uint64_t pack);
/* LOCAL_DEAD: a body that has lost a reference, perhaps the last: nothing. */
struct span
key_local_dead(struct key *k, const struct guid *guid);
/* LOCAL_HISTORY: u32be epoch, u64be LSN, u64be mbid, u32be UID -> a struct
 * history. */
struct span
key_local_history(struct key *k, const struct history_at *at);
/* LOCAL_HISTORY_BODY: a GUID, and the same behind it: nothing. */
struct span
key_local_history_body(struct key *k, const struct guid *guid,
                       const struct history_at *at);
/* The GUID alone: the prefix of all of a body. */
struct span
key_local_history_of(struct key *k, const struct guid *guid);
/* LOCAL_HISTORY_OLD: u64be mbid, u32be UID -> a struct history. */
struct span
key_local_history_old(struct key *k, mbid_t id, uint32_t uid);
/* LOCAL_PARTS: a body of which parts came ahead of its message -> varints of
 * the commit time in microseconds and the LSN of the last one. */
struct span
key_local_parts(struct key *k, const struct guid *guid);

#endif
