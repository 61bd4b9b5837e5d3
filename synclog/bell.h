/*
 * synclog/bell.h - a page by which consumers of the log tell the instance that
 * one of their slots says something new.  DIR/slots/.bell, 4 KiB, mapped by
 * both; it holds nothing but a futex, so it needs no crash safety.
 */
#ifndef POLLUX_SYNCLOG_BELL_H
#define POLLUX_SYNCLOG_BELL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"

#define BELL_MAGIC 0x4c4542584c50ULL /* "PLXBEL" */
#define BELL_VERSION 1U

struct synclog_bell {
    uint64_t magic;
    uint32_t version;
    _Atomic uint32_t seq; /* futex */
};

/*
 * Map DIR/slots/.bell, made if absent.  ERR_VERSION (not a bell of this
 * version), ERR_LIMIT (path), ERR_IO, ERR_NOSPACE.
 */
MUST_CHECK enum errcode
bell_attach(const char *dir, struct synclog_bell **ret, struct error *err);
void
bell_detach(struct synclog_bell **bell);
/* A slot has changed: wake who waits. */
void
bell_ring(struct synclog_bell *bell);
/*
 * Wait until it has rung since SEEN, at most TIMEOUT_MS; returns what to have
 * seen next.  Look at the slots between the two: begin with the seq as it is.
 */
uint32_t
bell_wait(const struct synclog_bell *bell, uint32_t seen, int timeout_ms);

#endif
