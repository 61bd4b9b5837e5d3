/*
 * store/history_private.h - what keeps history, for the files of this folder.
 */
#ifndef POLLUX_STORE_HISTORY_PRIVATE_H
#define POLLUX_STORE_HISTORY_PRIVATE_H

#include "store/history.h"
#include "store/state.h"

/* What rows count that come and go together. */
struct history_sum {
    uint64_t rows, bytes;
};

/* OLD of HEAD goes with the record at EPOCH, LSN, committed at TIME_US: into
 * the group's batch.  *SUM counts; a tombstone that was brought back under
 * another UID is not kept. */
void
history_note(struct state *st, const struct head *head,
             const struct message *old, const struct logpos *record,
             uint64_t time_us, struct history_sum *sum);
/* So many more, after history_note().  ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
history_note_sum(struct state *st, const struct history_sum *sum,
                 struct error *err);

/* Is anything kept at all? */
MUST_CHECK enum errcode
history_is_kept(struct kv *kv, bool *ret, struct error *err);
/* Does a row name GUID? */
MUST_CHECK enum errcode
history_has(struct kv *kv, const struct kv_snap *snap, const struct guid *guid,
            bool *ret, struct error *err);
/* The row that names it first; *RET_FOUND false: none. */
MUST_CHECK enum errcode
history_first_of(struct kv *kv, const struct kv_snap *snap,
                 const struct guid *guid, struct arena *a, struct history *ret,
                 bool *ret_found, struct error *err);

/* Let go of some that are too old; *RET_LOOKED rows, *RET_MORE: come again. */
struct history_age {
    uint64_t off_since_ns; /* 0: nothing was to go yet */
    uint64_t looked_ns;
    bool has_more;
};
MUST_CHECK enum errcode
history_expire(struct store *store, struct history_age *age,
               unsigned *ret_looked, bool *ret_more, struct error *err);

/* ---- history_seed.c ---------------------------------------------------- */

/* Before the rows of a seed come: each message of the state that goes becomes a
 * row of LOCAL_HISTORY_OLD.  ERR_NOSPACE, ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
history_seed_begins(struct kv *kv, struct error *err);
/* KV holds the new state at POS, with its derived rows: what it has not becomes
 * history, the rest is forgotten; so is all if KEEPS is false. */
MUST_CHECK enum errcode
history_seed_ends(struct kv *kv, const struct store_pos *pos, bool keeps,
                  struct error *err);

/* One row and its sum into B; SUM is what the rows in B and KV say so far. */
void
history_put(struct kv_batch *b, const struct history *h);
void
history_sum_encode(const struct history_sum *sum, struct buf *out);
/* 0 and 0 where there is no row. */
MUST_CHECK enum errcode
history_sum_read(struct kv *kv, struct history_sum *ret, struct error *err);

#endif
