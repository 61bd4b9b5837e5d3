/*
 * store/seed.h - filling an empty store with the state of another at one LSN.
 *
 * The bodies come first, in any order, as often as the line breaks: what is
 * here by GUID is not sent again.  Then the rows of one snapshot, which count
 * only when all of them and the digest are there.  Then the log goes on behind
 * the snapshot's LSN.  Until then the store says `seeding` and can be nothing
 * but a target.
 */
#ifndef POLLUX_STORE_SEED_H
#define POLLUX_STORE_SEED_H

#include "store/body.h"
#include "store/store.h"

/* Is the store without any history (position 0)? */
bool
store_is_empty(const struct store *store);

/* ---- the side that gives ---------------------------------------------- */

/* Every GUID with a body, in order, from behind AFTER (NULL: the start), but
 * not those that only history has (store/history.h). */
MUST_CHECK enum errcode
seed_each_guid(struct store_snap *snap, const struct guid *after,
               bool (*call)(void *ctx, const struct guid *guid, uint64_t size),
               void *ctx, struct error *err);
/* The stored bytes of part PART, checked; *RET_LOC says how they are kept. */
MUST_CHECK enum errcode
seed_read_part(struct store *store, struct store_snap *snap,
               const struct guid *guid, uint32_t part, struct body_loc *ret_loc,
               struct buf *ret, struct error *err);
/* Every body that a message has, and that is not here whole: it has to be said
 * to the other side.  What CALL answers, or ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
seed_each_missing(struct store_snap *snap,
                  enum errcode (*call)(void *ctx, const struct guid *guid,
                                       struct error *err),
                  void *ctx, struct error *err);

/* ---- rows and bodies that lie elsewhere (backups) ---------------------- */

/*
 * KV holds all rows that snap_each_row() gave, and nothing else.  Counts every
 * mailbox and quota root anew (ERR_CORRUPT names the first that is wrong),
 * writes the derived rows, and gives the digest over all.
 */
MUST_CHECK enum errcode
seed_check_rows(struct kv *kv, uint64_t *ret_digest, struct error *err);
/* Raw bytes of a stored part into TO (room for loc->raw_bytes); false if STORED
 * is not what LOC says. */
MUST_CHECK bool
seed_unpack_part(const struct body_loc *loc, struct span stored, uint8_t *to);

/* ---- the side that takes (replica, empty or seeding) ------------------- */

/*
 * Beside no open store: the one in CFG's directory gives up its state and its
 * log, which is moved to LOG_ASIDE, and keeps the bodies of its packs: it opens
 * as one that is empty and seeding.  May be called again after a crash in the
 * middle; only when it has returned may the store be opened.  Counts bodies.
 * ERR_BUSY (it is open), ERR_CORRUPT, ERR_IO, ERR_NOSPACE.
 */
MUST_CHECK enum errcode
store_make_seedable(struct env *env, const struct store_config *cfg,
                    const char *log_aside, uint64_t *ret_kept,
                    uint64_t *ret_dropped, struct error *err);

struct seed;

/*
 * ERR_CONFLICT: there is history here already.  A seed that was open before is
 * over: all its calls answer ERR_CONFLICT and change nothing; so do those of
 * one that is finished.
 */
MUST_CHECK enum errcode
seed_open(struct store *store, struct seed **ret, struct error *err);
void
seed_close(struct seed **seed);
bool
seed_has(struct seed *seed, const struct guid *guid);
/* A part, in order of parts; after the last one the whole is checked against
 * its GUID (ERR_CORRUPT) and kept.  Goes into a pack. */
MUST_CHECK enum errcode
seed_put_part(struct seed *seed, const struct guid *guid,
              const struct body_loc *loc, struct span stored,
              struct error *err);
/* Make the bodies so far durable. */
MUST_CHECK enum errcode
seed_sync(struct seed *seed, struct error *err);
/* The rows of the snapshot start: those of an attempt before are dropped. */
MUST_CHECK enum errcode
seed_begin_rows(struct seed *seed, struct error *err);
MUST_CHECK enum errcode
seed_put_row(struct seed *seed, struct span key, struct span value,
             struct error *err);
/*
 * All rows are there: derived tables are built, digest and counters compared
 * (ERR_CORRUPT: nothing is taken over), everything made durable, and the log
 * begins behind POS.  A body that did not come is ERR_CORRUPT too, unless the
 * register of damage knows it.
 */
MUST_CHECK enum errcode
seed_finish(struct seed *seed, const struct store_pos *pos, struct error *err);

#endif
