/*
 * store/compact.h - the compactor: bodies leave the log, packs lose their dead,
 * old mail goes to the archive.
 *
 * All of it is this instance's own doing: nothing here is logged, shipped, or
 * in a digest.  Readers need not know; a body is readable at every moment.
 */
#ifndef POLLUX_STORE_COMPACT_H
#define POLLUX_STORE_COMPACT_H

#include "store/store.h"

/*
 * One bounded piece of work: at most about a megabyte read or moved, or a few
 * dozen rows looked at while the writer stands still.  *RET_BYTES is what it
 * cost, to be set against a rate; *RET_MORE: there is more to do now.  The
 * thread of an open store calls it; with no_threads the test does.  One caller
 * at a time.  ERR_NOSPACE (try later), ERR_CORRUPT, ERR_IO.
 */
MUST_CHECK enum errcode
store_compact_step(struct store *store, bool *ret_more, uint64_t *ret_bytes,
                   struct error *err);

/* What an admin may want to see. */
struct compaction_view {
    uint64_t log_bytes;     /* of all segments */
    uint64_t packs;         /* that hold bodies */
    uint64_t pack_bytes;    /* of the bodies that were ever put there */
    uint64_t dead_bytes;    /* of these, not needed any more */
    uint64_t moved_bodies;  /* since the store was opened; parts */
    uint64_t moved_bytes;   /* of these */
    uint64_t dropped;       /* bodies that were garbage, likewise */
    uint64_t removed_packs; /* likewise */
    uint64_t bytes_per_s;   /* read and written in the last seconds */
    uint64_t stuck_segment; /* holds damaged bodies, so it cannot go; 0: none */
    /* Messages that were purged and are kept (store/history.h). */
    uint64_t history_rows;
    uint64_t history_bytes; /* of these, as they were received */
};
/* Any thread.  ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
store_compaction_view(struct store *store, struct compaction_view *ret,
                      struct error *err);

/*
 * While somebody reads an old view of everything (a seed, a backup), bodies
 * that lost their last message stay.  Calls nest; any thread.
 */
void
store_keep_garbage(struct store *store);
void
store_drop_garbage(struct store *store);

/* ---- archive ---------------------------------------------------------- */

/* Which messages belong into the archive of their partition. */
struct archive_rule {
    uint64_t older_s;      /* by INTERNALDATE; 0: none for its age */
    uint64_t larger_bytes; /* 0: none for its size */
    bool keep_flagged;     /* \Flagged ones never */
};

struct archive_result {
    uint64_t messages; /* looked at */
    uint64_t moved;    /* bodies, either way; parts */
    uint64_t bytes;    /* of these */
};

/*
 * Bring every body to where RULE, NOW_S and the partition of its mailbox want
 * it: to the archive of the partition, or back, or to another partition (after
 * a rename).  A body that several messages share goes to an archive only if all
 * of them want it there.  Where a partition has no archive its mail stays.
 * PREFIX: of internal mailbox names, "" is all.  PROGRESS (may be NULL) is told
 * after every slice and returns false to stop (ERR_CLOSED).  At the compactor's
 * rate.  Blocks; any thread but the writer's and a reactor's.  ERR_NOSPACE,
 * ERR_CORRUPT, ERR_IO.
 */
MUST_CHECK enum errcode
store_archive(struct store *store, const struct archive_rule *rule,
              int64_t now_s, const char *prefix,
              bool (*progress)(void *ctx, const struct archive_result *so_far),
              void *ctx, struct archive_result *ret, struct error *err);

#endif
