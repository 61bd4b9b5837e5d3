/*
 * failover/nodefile.h - DIR/node: who this instance is, across restarts.
 *
 * Text, one "key: value" a line, last line "check: HEX" (xxh3-64 of all before
 * it), so that an admin can read it and a torn one is known.  Replaced
 * atomically (env_write_file_atomic).
 */
#ifndef POLLUX_FAILOVER_NODEFILE_H
#define POLLUX_FAILOVER_NODEFILE_H

#include "base/env.h"
#include "base/ids.h"

#define NODEFILE_VERSION 1U
#define NODEFILE_BYTES_MAX 4096U

struct nodefile {
    struct instid cluster;  /* all zero: no history yet */
    struct instid instance; /* made once */
    enum role role;
    epoch_t epoch;         /* highest ever heard of */
    uint32_t uid_headroom; /* MASTER: of its epoch, until the log has it */
    lsn_t fork_lsn;        /* FENCED: where the newer epoch began, or 0 */
    uint64_t fork_chain;
    bool seed_wanted; /* rejoined: empty on purpose */
    char why[200];    /* one sentence */
};

void
nodefile_encode(const struct nodefile *n, struct buf *out);
/* ERR_CORRUPT, ERR_VERSION. */
MUST_CHECK enum errcode
nodefile_decode(struct span in, struct nodefile *ret, struct error *err);
/* ERR_NOTFOUND: a new instance. */
MUST_CHECK enum errcode
nodefile_read(struct env *env, const char *path, struct nodefile *ret,
              struct error *err);
MUST_CHECK enum errcode
nodefile_write(struct env *env, const char *path, const struct nodefile *n,
               struct error *err);

#endif
