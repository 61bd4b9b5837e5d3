/*
 * store/damage_private.h - the register inside of an open store, and its rows.
 */
#ifndef POLLUX_STORE_DAMAGE_PRIVATE_H
#define POLLUX_STORE_DAMAGE_PRIVATE_H

#include "store/damage.h"
#include "store/kv.h"

struct damages;

/* Reads the rows.  KV must outlive it.  ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
damages_open(struct env *env, struct kv *kv, struct damages **ret,
             struct error *err);
void
damages_close(struct damages **d);
/* Nobody waits any more. */
void
damages_stop(struct damages *d);

/* The last segment of the log with a place that no twin has; 0: there is none.
 */
uint64_t
store_damage_lost_segment(struct store *store);
/* The log begins with segment FIRST now: what lay before hurts nobody. */
void
store_damage_trimmed(struct store *store, uint64_t first);

/* Version 1: u8 version, u8 home, u8 lost, varints part, file, offset,
 * found_us, tried_us, tries, blob why.  The kind, and what names it, are in the
 * key: LOCAL_DAMAGE, u8 kind, GUID or u64be file and offset. */
void
damage_encode(const struct damage *d, struct buf *out);
MUST_CHECK enum errcode
damage_decode(struct span key, struct span value, struct damage *ret,
              struct error *err);

/* store.c provides */
struct damages *
store_damages(struct store *store);

#endif
