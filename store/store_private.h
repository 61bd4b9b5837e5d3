/*
 * store/store_private.h - the inside of an open store, for the files of this
 * folder.
 *
 * Locks, in the order in which they are taken: `lock` (queue, role, what the
 * writer is doing), `watch_lock`, `pos_lock`.  The writer holds none of them
 * while it works on a group; `busy` says that it does.
 */
#ifndef POLLUX_STORE_STORE_PRIVATE_H
#define POLLUX_STORE_STORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/state.h"
#include "store/txn.h"

/* ---- what body.c and seed.c use --------------------------------------- */

struct kv *
store_kv(struct store *store);
struct env *
store_env(const struct store *store);
const char *
store_pack_dir(const struct store *store);
/*
 * seed.c: KV now holds the whole state at POS (all replicated, derived and
 * local rows but LOCAL_APPLIED and LOCAL_START, flushed).  Writes these two,
 * flushes, begins the log behind POS and goes on from there.  The digests of
 * the users must give POS's (ERR_CORRUPT otherwise, nothing changed).
 */
MUST_CHECK enum errcode
store_adopt(struct store *store, const struct store_pos *pos,
            struct error *err);
/*
 * seed.c: KV holds all replicated rows (table_is_replicated()) and no derived
 * ones.  Recounts every mailbox and quota root (ERR_CORRUPT names the first
 * that is wrong), writes TAB_CHANGED, TAB_UNIQUEID, TAB_NAME, TAB_GUIDREF and
 * TAB_DIGEST, and gives the root digest.
 */
MUST_CHECK enum errcode
store_build_derived(struct kv *kv, uint64_t *ret_root, struct error *err);

#endif
