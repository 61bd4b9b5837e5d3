/*
 * store/history.h - messages that are gone for good and kept all the same
 * (sync_keep_history).
 *
 * What a record purges goes from the state, here as on every other instance, so
 * digests are equal and prove what they always prove.  An instance that keeps
 * history notes each of these messages in a local row, in the same batch as the
 * purge, and its garbage collector leaves the body alone as long as such a row
 * names it.  Nothing of it is logged, shipped, seeded or backed up.
 */
#ifndef POLLUX_STORE_HISTORY_H
#define POLLUX_STORE_HISTORY_H

#include "store/store.h"

/* sync_keep_history: rows never go for their age. */
#define HISTORY_FOREVER UINT64_MAX

/* How a message went. */
enum history_way {
    HISTORY_PURGED = 1, /* by a record */
    HISTORY_SEEDED = 2, /* this instance was seeded anew, and the seed had it
                           not any more: somewhere in what was skipped */
};

/* What tells one from all others: the record that purged it (or the position of
 * the seed), the mailbox's number, its UID. */
struct history_at {
    epoch_t epoch;
    lsn_t lsn;
    mbid_t mbid;
    uint32_t uid;
};

/* Strings live in the arena that it was read into. */
struct history {
    struct history_at at;
    enum history_way way;
    uint64_t purged_us; /* commit time of that record, or of the seed */
    const char *name;   /* of the mailbox then: mostly DELETED. or as it was */
    const char *partition;
    struct uniqueid uniqueid;
    uint32_t uidvalidity;
    struct message msg; /* as it was; a tombstone says when it was expunged */
};

/*
 * Value of a row.  Version 1: u8 version, u8 way, varints purged_us,
 * uidvalidity, then name, partition and UNIQUEID as blobs, then the message as
 * in its own row.  `at` is the key's.
 */
void
history_encode(const struct history *h, struct buf *out);
/* ERR_CORRUPT, ERR_VERSION.  RET->at and RET->msg.uid are left as they are. */
MUST_CHECK enum errcode
history_decode(struct span in, struct arena *a, struct history *ret,
               struct error *err);

/*
 * Call for what is kept, oldest record first, from behind *AFTER (all zero: the
 * first) on, until CALL returns false or some thousand rows were looked at;
 * *AFTER moves along.  *RET_MORE: there may be more, go on.  The row is valid
 * during the call.  Any thread; between two walks rows come and go.
 * ERR_CORRUPT, ERR_IO.
 */
MUST_CHECK enum errcode
store_history_walk(struct store *store, struct history_at *after,
                   bool (*call)(void *ctx, const struct history *h), void *ctx,
                   bool *ret_more, struct error *err);
/* Call for what is kept of one body, until CALL returns false.  As above. */
MUST_CHECK enum errcode
store_history_of(struct store *store, const struct guid *guid,
                 bool (*call)(void *ctx, const struct history *h), void *ctx,
                 struct error *err);

/*
 * Let go of the N rows V, each another, now and not by their age; those that
 * are gone are passed over.  Bodies go with the next steps of the collector.
 * *RET_DROPPED counts, also after a failure.  Blocks; any thread but the
 * writer's.  As store_local().
 */
MUST_CHECK enum errcode
store_history_drop(struct store *store, const struct history_at *v, size_t n,
                   uint64_t *ret_dropped, struct error *err);

struct history_view {
    uint64_t rows;
    uint64_t bytes;  /* of these messages, as they were received; a body that
                        several have counts for each */
    uint64_t keep_s; /* as configured: 0 (what is there goes), HISTORY_FOREVER*/
};
/* Any thread.  ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
store_history_view(struct store *store, struct history_view *ret,
                   struct error *err);

/* Before the log is given up for a seed: bodies that are only there go into
 * packs, if history is kept.  Blocks; any thread but the writer's.
 * ERR_NOSPACE, ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
store_history_pack(struct store *store, struct error *err);

#endif
