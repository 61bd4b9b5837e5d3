/*
 * synclog/synclog.h - append-only log of every mutation of the store.
 *
 * A mutation exists once its record is durable here.  LSNs count records from
 * 1 without gaps.  One process writes, any number follow (synclog/reader.h).
 * Nothing here touches the network, and nothing here logs: every failure goes
 * to the caller.
 *
 * Invariants
 *  L1  LSNs are dense, epochs never fall, chains fit: checked when read.
 *  L2  a frame is not written before the sync of the frame before returned, or
 *      it carries a durable_lsn below that frame.
 *  L3  nothing follows a failed write or sync: the log is dead until reopened.
 *  L4  durable_lsn in a frame is what its writer knew to be durable on its own
 *      disk; so a bad frame at LSN x with a good one behind it that says
 *      durable >= x is damage, otherwise it is a torn tail.
 *  L5  a segment is made under a temporary name, allocated, its header synced,
 *      renamed, and its directory synced before the first frame goes into it;
 *      it is never recycled.
 *  L6  nothing beyond synclog_durable() is ever given to a reader.
 */
#ifndef POLLUX_SYNCLOG_SYNCLOG_H
#define POLLUX_SYNCLOG_SYNCLOG_H

#include "base/env.h"
#include "synclog/frame.h"
#include "synclog/mark.h"

struct synclog; /* one open log; its fields are in synclog_private.h */

struct synclog_config {
    const char *dir;        /* made if absent */
    uint64_t segment_bytes; /* file size at creation; at least 8 MiB, or less
                               in tests: twice the largest group */
    struct instid cluster;  /* refused if the log is of another one */
    struct instid instance;
    /* The log begins behind this position if it is empty: {0,0} for a new
     * history, the snapshot's place after seeding.  A log that holds nothing
     * and begins before `start` is made anew; any other keeps its own place. */
    struct logpos start;
    uint64_t start_chain;
    /* The state is so far, so it had been durable: a tail that ends before is
     * damage.  0: nothing is known. */
    lsn_t proven;
    bool no_helper;   /* no thread that makes the next segment ahead of time */
    unsigned mutants; /* tests of the tests (synclog/mutants.h) */
};

/* What opening found and did. */
struct synclog_recovery {
    struct logpos last;    /* last record that is there; all durable now */
    uint64_t chain;        /* of the frame that holds it */
    uint64_t last_time_us; /* its commit time, 0 if none */
    lsn_t first_lsn;       /* oldest record that can be read, 0 if none */
    uint64_t torn_bytes;   /* cut from the tail, kept in torn_path */
    char torn_path[256];   /* cut short if DIR is very long */
};

/*
 * Open for writing, recover, and make durable whatever is found whole.  Only
 * one process may (the lock is on DIR/lock): ERR_BUSY for the second.
 * Errors: ERR_BUSY, ERR_HISTORY (another cluster's log), ERR_VERSION,
 * ERR_CORRUPT (damage before the proven end: the text names segment and
 * offset; nothing was changed), ERR_IO, ERR_NOSPACE.
 */
MUST_CHECK enum errcode
synclog_open(struct env *env, const struct synclog_config *cfg,
             struct synclog **ret, struct synclog_recovery *ret_found,
             struct error *err);
/* Close and free *LOG and set it to NULL.  NULL is fine. */
void
synclog_close(struct synclog **log);

/* Where the payload of the next frame will lie. */
struct synclog_place {
    uint64_t segment;
    uint64_t payload_offset; /* in the segment's file */
    lsn_t first_lsn;
};

/*
 * Fix the place of the next frame, with room for MAX_BYTES of payload; a new
 * segment is taken if need be.  The writer needs it because the state names
 * the places of bodies.  ERR_NOSPACE: no segment could be made ready; nothing
 * is harmed and a later call may succeed.  ERR_IO: the log is dead (L3).
 * The place holds until the next frame, heartbeat or synclog_begin().
 */
MUST_CHECK enum errcode
synclog_begin(struct synclog *log, size_t max_bytes, struct synclog_place *ret,
              struct error *err);

/*
 * Go on in a new segment, so that the one written so far can be let go of; one
 * without a frame is kept.  Like synclog_begin(), whose place it takes back:
 * ERR_NOSPACE (nothing is harmed), ERR_IO (dead, L3).
 */
MUST_CHECK enum errcode
synclog_rotate(struct synclog *log, struct error *err);

/*
 * Write one frame with the NRECORDS records in PAYLOAD (frame_add_record) at
 * the place that synclog_begin() gave.  Not durable yet.  EPOCH may not fall;
 * NRECORDS is at least 1 and at most FRAME_RECORDS_MAX.
 * Errors: ERR_LIMIT (over max_bytes or FRAME_PAYLOAD_MAX: nothing written),
 * ERR_IO (dead, L3; so is a full disk here, which cannot be: space was
 * allocated).
 */
MUST_CHECK enum errcode
synclog_append(struct synclog *log, epoch_t epoch, uint64_t time_us,
               struct span payload, uint32_t nrecords, struct error *err);

/*
 * Replica: write whole frames FRAMES (at most max_bytes of synclog_begin(),
 * headers included less the first) as they came, each checked: next LSN,
 * epoch not below ours, chain, hashes.  Only durable_lsn is made ours.
 * ERR_GAP (not our next LSN), ERR_HISTORY (chain or epoch), ERR_CORRUPT (hash,
 * or not whole frames), ERR_VERSION (a newer frame), ERR_LIMIT (over
 * max_bytes), ERR_IO.  Only with ERR_IO something may have been written.
 */
MUST_CHECK enum errcode
synclog_append_frames(struct synclog *log, struct span frames,
                      struct error *err);

/* One fdatasync: all that was appended is durable when this returns ERR_OK,
 * and the mark says so.  ERR_IO: dead (L3). */
MUST_CHECK enum errcode
synclog_sync(struct synclog *log, struct error *err);

/*
 * If something was synced since the last frame, write (not sync) a heartbeat
 * that proves it.  Called when the writer has been idle for a moment.  Without
 * room left in the segment none is written: the next segment's header proves
 * the same.  ERR_IO: dead (L3).
 */
MUST_CHECK enum errcode
synclog_heartbeat(struct synclog *log, struct error *err);

/* Position, chain of the last durable record.  Any thread. */
struct logpos
synclog_durable(const struct synclog *log, uint64_t *ret_chain);
lsn_t
synclog_first(const struct synclog *log);
/* The mapped page that other processes watch; lives as long as the log. */
struct synclog_mark *
synclog_mark(struct synclog *log);

/*
 * Read N bytes at OFFSET of segment SEGMENT's file (bodies).  Any thread; file
 * handles are kept open.  ERR_GAP: no such segment (any more); ERR_CORRUPT: the
 * segment ends before; ERR_IO.
 */
MUST_CHECK enum errcode
synclog_pread(struct synclog *log, uint64_t segment, uint64_t offset, void *to,
              size_t n, struct error *err);

/*
 * Let go of segments whose last record is below KEEP_FROM; never the current
 * one.  Oldest first, so that a crash leaves a gap-free suffix.  Any thread.
 * After ERR_IO it may be tried again; the log is not dead.
 */
MUST_CHECK enum errcode
synclog_trim(struct synclog *log, lsn_t keep_from, unsigned *ret_removed,
             struct error *err);
/* Bytes of all segment files.  Any thread. */
uint64_t
synclog_bytes(const struct synclog *log);
/* Of those that hold record LSN or a later one: what whoever needs it pins.
 * The segment being written does not count: it cannot go anyway. */
uint64_t
synclog_bytes_from(const struct synclog *log, lsn_t lsn);

/* A segment; the last one is being written. */
struct synclog_segment {
    uint64_t number;
    lsn_t first_lsn;
    lsn_t last_lsn; /* 0: the last segment */
    uint64_t bytes;
};
/* All of them, oldest first, in *RET, which the caller frees; how many.  Any
 * thread. */
size_t
synclog_segments(const struct synclog *log, struct synclog_segment **ret);

/*
 * Walk all frames of the log in DIR, open or not, and check everything (L1,
 * hashes, records), calling EACH for every frame if not NULL.  For `synclog
 * verify` and `dump`.  ERR_CORRUPT names segment and offset of the first
 * damage; a torn tail is reported through *RET_TORN_BYTES only (while a writer
 * runs that may be the frame it is writing).  ERR_AGAIN: trimmed while we read;
 * ERR_NOTFOUND: no log there.
 */
MUST_CHECK enum errcode
synclog_verify(struct env *env, const char *dir,
               void (*each)(void *ctx, uint64_t segment, uint64_t offset,
                            const struct frame_head *head, struct span payload),
               void *ctx, struct synclog_recovery *ret_found,
               uint64_t *ret_torn_bytes, struct error *err);

/*
 * Reading the open log LOG bit by bit, beside whoever writes it.  What is
 * damaged is told and does not keep what lies in other segments from being
 * read.  For one thread; to be freed before the log is closed.
 */
struct synclog_check;

struct synclog_checked {
    uint64_t bytes; /* read by this call */
    lsn_t last;     /* the last record read */
    uint64_t
        segment;     /* where it is: after ERR_CORRUPT what is damaged there, */
    uint64_t offset; /* header (0) or frame */
    bool is_done;    /* all that was durable has been looked at */
};

struct synclog_check *
synclog_check_new(struct synclog *log);
void
synclog_check_free(struct synclog_check **check);
/*
 * Read about MAX_BYTES of one segment.  Fills in *RET on failures too, and goes
 * on in the next segment then.  ERR_CORRUPT; ERR_VERSION, ERR_IO.
 */
MUST_CHECK enum errcode
synclog_check_next(struct synclog_check *check, uint64_t max_bytes,
                   struct synclog_checked *ret, struct error *err);

#endif
