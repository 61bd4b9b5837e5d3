/*
 * synclog/mark.h - a page shared with other processes: how far the log is
 * durable, and who we are.  DIR/mark, 4 KiB, mapped; rebuilt at every start, so
 * it needs no crash safety.  Words are atomic; `seq` is a futex that is bumped
 * and woken whenever something changed.
 */
#ifndef POLLUX_SYNCLOG_MARK_H
#define POLLUX_SYNCLOG_MARK_H

#include <stdatomic.h>

#include "base/env.h"
#include "base/ids.h"

#define MARK_MAGIC 0x4b52414d584c50ULL /* "PLXMARK" */
#define MARK_VERSION 1U

struct synclog_mark {
    uint64_t magic;
    uint32_t version;
    _Atomic uint32_t seq;        /* futex */
    _Atomic uint32_t writer_pid; /* 0: no writer runs */
    _Atomic uint32_t role;       /* enum role */
    _Atomic uint32_t fence;      /* 1: the shutdown file is up */
    _Atomic uint32_t seeding;    /* 1: state is incomplete */
    _Atomic uint64_t epoch;      /* of the instance */
    _Atomic uint64_t durable_lsn;
    _Atomic uint64_t durable_epoch;
    _Atomic uint64_t durable_time_us; /* commit time of durable_lsn */
    _Atomic uint64_t applied_lsn;
    _Atomic uint64_t first_lsn; /* oldest that can be read; 0: log is empty */
    _Atomic uint64_t start_lsn; /* the log begins behind this one */
    uint8_t cluster[INSTANCE_ID_BYTES];
    uint8_t instance[INSTANCE_ID_BYTES];
};

/*
 * Map DIR/mark read-only from another process.  ERR_NOTFOUND (no writer was
 * ever here), ERR_VERSION, ERR_IO.  The page stays valid until it is detached,
 * whatever the writer does; when writer_pid is 0 only the durable fields count.
 */
MUST_CHECK enum errcode
mark_attach(const char *dir, const struct synclog_mark **ret,
            struct error *err);
void
mark_detach(const struct synclog_mark **mark);
/* Writer: something changed; wake everyone who waits. */
void
mark_wake(struct synclog_mark *mark);
/*
 * Wait until seq differs from SEEN, at most TIMEOUT_MS; returns the new seq.
 * Read seq, then look whether there is work, and only then wait for that seq.
 */
uint32_t
mark_wait(const struct synclog_mark *mark, uint32_t seen, int timeout_ms);

#endif
