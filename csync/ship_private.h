/*
 * csync/ship_private.h - what csync/ship.c (following the log) and
 * csync/ship_seed.c (piping a seed) share.
 */
#ifndef POLLUX_CSYNC_SHIP_PRIVATE_H
#define POLLUX_CSYNC_SHIP_PRIVATE_H

#include "base/log.h"
#include "csync/ship.h"
#include "synclog/bell.h"
#include "synclog/reader.h"

struct ship {
    const struct ship_options *o;
    struct log_ctx log;
    const struct synclog_mark *mark;
    struct synclog_slot *slot;
    struct synclog_bell *bell; /* NULL: could not be had */
    struct csync_target target;
    uint64_t said_ms;   /* when the log last heard that the twin is away */
    uint64_t asked_ms;  /* when the twin was last asked for the fork */
    epoch_t told_epoch; /* of the twin that our instance was last told of */
};

/* Room for "LOG VERB %(CHANNEL c CLUSTER i INSTANCE i EPOCH e FORMAT n" and,
 * where KEYS is not NULL, what it adds. */
void
ship_command(const struct ship *s, const char *verb,
             void (*keys)(void *ctx, struct dlist_printer *p), void *ctx,
             struct buf *out);

/*
 * Seed the replica at PEER from a snapshot of the instance beside us.  Errors:
 * those of either side.
 */
MUST_CHECK enum errcode
ship_seed(struct ship *s, struct csync_client *peer, struct error *err);

#endif
