/*
 * csync/ship.h - what sync_client does: following the log and shipping it.
 */
#ifndef POLLUX_CSYNC_SHIP_H
#define POLLUX_CSYNC_SHIP_H

#include "base/env.h"
#include "csync/client.h"
#include "synclog/slot.h"

struct ship_options {
    struct env *env;
    const struct config *cfg;
    const char *log_dir;   /* <configdirectory>/synclog */
    const char *control;   /* the instance's control socket */
    const char *channel;   /* slot name: "default" for the channel "" */
    const char *host;      /* -S, or NULL */
    bool once;             /* -1: all that is durable now, then end */
    bool connect_once;     /* -o */
    bool verbose;          /* -v: steps to stdout */
    bool require_compress; /* -z */
    int timeout_ms;        /* -t; 0: client_timeout */
    /* Asked often; true ends as soon as nothing is half done (SIGTERM). */
    bool (*stop)(void *ctx);
    void *stop_ctx;
};

/*
 * sync_client -r: follows the log of the instance beside us for ever.  While
 * the instance is not the master it waits.  When the fence goes up it ships
 * what is durable, waits until the replica has applied it, says the position on
 * stdout and returns ERR_OK; if the fence was up already when it started and
 * nothing is left to ship, it waits instead until the fence goes.  Lost
 * connections are retried for ever, after 50 ms doubling to 2 s.  A peer of a
 * newer epoch: the instance is told over CONTROL that it is deposed.  A peer of
 * another history parks the channel (slot text says why) and is asked again
 * each minute.  A replica that wants to be seeded
 * (rejoin) is seeded from a snapshot.
 */
MUST_CHECK enum errcode
ship_rolling(const struct ship_options *o, struct error *err);

/*
 * sync_client -A: make the replica equal.  One that is needs one question to
 * each; one that follows by log gets what it lacks from the log; one that is
 * empty, or beyond the log, is seeded from a snapshot, with progress on a
 * terminal, or one line a step.  Ends when the replica has applied what was
 * durable here at the start.
 * ERR_CORRUPT: it has, and its digest is another one (verify.h tells where);
 * ERR_HISTORY: the replica has a history of its own (says how to empty it).
 */
MUST_CHECK enum errcode
ship_all(const struct ship_options *o, struct error *err);
/* Say on stdout what ship_all() would do, and do nothing.  Its errors. */
MUST_CHECK enum errcode
ship_dry_run(const struct ship_options *o, struct error *err);
/* Where O's channel leads, with what its options change. */
MUST_CHECK enum errcode
ship_target(const struct ship_options *o, struct csync_target *ret,
            struct error *err);

#endif
