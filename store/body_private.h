/*
 * store/body_private.h - how an open store reads its bodies: packs, and the
 * parts that were decompressed last.
 *
 * store.c opens one of these with the store (after the key-value store, before
 * anything is served), closes it last, and gives it out by store_bodies().
 */
#ifndef POLLUX_STORE_BODY_PRIVATE_H
#define POLLUX_STORE_BODY_PRIVATE_H

#include "store/body.h"
#include "store/full.h"
#include "store/kv.h"
#include "store/places.h"
#include "store/store.h"
#include "synclog/synclog.h"

struct bodies;

/* body.c: FULL is told when B's file has no room; it must outlive B. */
void
body_tell_full(struct body *b, struct full *full);

/*
 * What all bodies of a store together may spend on compressing: a share of the
 * machine's time, saved up for a while.  Thread-safe.
 */
struct body_budget {
    enum body_compress how;
    uint64_t times; /* so much longer than it took nothing is spent again */
    _Atomic uint64_t paid_until_ns;
};

void
body_budget_init(struct body_budget *budget, enum body_compress how);
/* body.c: B is compressed as BUDGET, which must outlive it, has it; without one
 * it always is. */
void
body_set_budget(struct body *b, struct body_budget *budget);
/* Compress a part to TO (room for all of RAW): bytes there, or 0 where it is
 * not worth it.  Any thread. */
size_t
body_compress_part(struct span raw, uint8_t *to);

/* Of CFG the partitions and packs.  KV must outlive it.  As places_open(). */
MUST_CHECK enum errcode
bodies_open(struct env *env, struct kv *kv, const struct store_config *cfg,
            const struct instid *cluster, struct bodies **ret,
            struct error *err);
void
bodies_close(struct bodies **b);
struct places *
bodies_places(struct bodies *b);
/* Of the default partition. */
struct packs *
bodies_packs(struct bodies *b);

/* store_body_read() and store_body_stat() over LOG (NULL: bodies in packs only;
 * others are ERR_IO). */
MUST_CHECK enum errcode
bodies_read(struct bodies *b, struct synclog *log, const struct guid *guid,
            uint64_t offset, uint64_t n, struct buf *out, struct error *err);
MUST_CHECK enum errcode
bodies_stat(struct bodies *b, const struct kv_snap *snap,
            const struct guid *guid, uint64_t *ret_size, struct error *err);
/* The stored bytes of a part, checked, appended to RET; how they are kept.
 * SNAP may be NULL.  ERR_NOTFOUND, ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
bodies_read_stored(struct bodies *b, struct synclog *log,
                   const struct kv_snap *snap, const struct guid *guid,
                   uint32_t part, struct body_loc *ret_loc, struct buf *ret,
                   struct error *err);
/* The stored bytes at LOC (from a row), checked, appended to RET.  ERR_GAP: the
 * file is gone, the row says something else by now; ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
bodies_read_place(struct bodies *b, struct synclog *log,
                  const struct body_loc *loc, struct buf *ret,
                  struct error *err);
/*
 * Raw bytes of a stored part into TO (room for loc->raw_bytes).  False if they
 * are not what LOC says.
 */
MUST_CHECK bool
body_unpack(const struct body_loc *loc, struct span stored, uint8_t *to);

/* ---- what store.c provides -------------------------------------------- */

struct bodies *
store_bodies(struct store *store);

#endif
