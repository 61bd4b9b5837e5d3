/*
 * csync/ship_private.h - what csync/ship.c (one conversation after the other),
 * csync/ship_stream.c (following the log), csync/ship_all.c (-A),
 * csync/ship_peer.c (what to do with a peer) and csync/ship_seed.c (piping a
 * seed) share.
 */
#ifndef POLLUX_CSYNC_SHIP_PRIVATE_H
#define POLLUX_CSYNC_SHIP_PRIVATE_H

#include "base/log.h"
#include "csync/ship.h"
#include "synclog/bell.h"
#include "synclog/reader.h"

struct ship {
    const struct ship_options *o;
    const char *channel; /* for options; NULL: the one without a name */
    struct log_ctx log;
    const struct synclog_mark *mark;
    struct synclog_slot *slot;
    struct synclog_bell *bell; /* NULL: could not be had */
    struct csync_target target;
    /* Logged in and ready for a command, if not NULL: a login costs both sides
     * more than many a question.  Who needs a connection takes it first. */
    struct csync_client *spare;
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

/* ---- csync/ship.c ------------------------------------------------------ */

uint64_t
ship_now_ms(const struct ship *s);
/* Does whoever started us want an end? */
bool
ship_stopped(const struct ship *s);
void
ship_set_state(struct ship *s, enum slot_state state, const char *text);
/* Wait up to MS, or until the role of the instance changes. */
void
ship_rest(struct ship *s, uint64_t ms);
/* Attach to the mark, which is made anew whenever the instance starts; false:
 * none runs. */
bool
ship_look(struct ship *s);
/* May what is durable here be shipped: by the master, and, if it feeds others
 * (sync_log_chain), by a replica that is whole. */
bool
ship_may(const struct ship *s);
/* The channel as options are named: NULL is the one without a prefix. */
const char *
ship_channel(const struct ship_options *o);
/* The spare connection, or a new one. */
MUST_CHECK enum errcode
ship_connect(struct ship *s, struct csync_client **ret, struct error *err);
/*
 * One connection from beginning to end: until GOAL is applied over there (0:
 * for ever).  SEED_OK: an empty replica may be seeded although it did not ask.
 */
MUST_CHECK enum errcode
ship_converse(struct ship *s, lsn_t goal, bool seed_ok, bool fence_at_start,
              struct error *err);

/* The slot is kept through a loss of power from now on; a failure costs
 * retention only. */
void
ship_remember_slot(struct ship *s);

/* ---- csync/ship_stream.c ----------------------------------------------- */

/*
 * Stream to PEER, which is where STATUS says, until GOAL is applied there (0:
 * for ever) or the fence is up and all is applied there that it left; if it was
 * up from the start (FENCE_AT_START) that is no end.  Errors: those of either
 * side; ERR_AGAIN: a new epoch has begun; ERR_READONLY: this instance may not
 * ship any more.
 */
MUST_CHECK enum errcode
ship_stream(struct ship *s, struct csync_client *peer,
            const struct logstatus *status, lsn_t goal, bool fence_at_start,
            struct error *err);

/* ---- csync/ship_hear.c ------------------------------------------------- */

/*
 * The next acknowledgement of the replica on CONN, without waiting.  What it
 * said before it hung up is heard first.  Errors: what the replica says is the
 * matter (LOGMSG_ERROR), ERR_AGAIN (nothing more now), ERR_PROTO (nonsense),
 * ERR_CLOSED (it hung up and said no more) and the others of bclient_fill().
 */
MUST_CHECK enum errcode
ship_hear(struct bclient *conn, struct logack *ret, struct error *err);

/* ---- csync/ship_peer.c ------------------------------------------------- */

enum verdict {
    PEER_STREAM,  /* it follows: ship */
    PEER_SEED,    /* it is empty, and may be seeded */
    PEER_DEPOSES, /* it knows a newer epoch: we are not the master */
    PEER_PARK,    /* retrying will not help: ERR says why */
};

struct instid
ship_cluster(const struct ship *s);
/* SEED_OK: an empty replica may be seeded although it did not ask. */
enum verdict
ship_verdict(const struct ship *s, const struct logstatus *peer, bool seed_ok,
             struct error *err);
/* What the instance beside us says of itself. */
MUST_CHECK enum errcode
ship_own_status(struct ship *s, struct arena *a, struct logstatus *ret,
                struct error *err);
/* Tell the instance beside us that PEER is further, and since where. */
void
ship_tell_deposed(struct ship *s, const struct logstatus *peer);
/*
 * This instance was fenced by a twin that came to ship to it, and such a one
 * does not say where the histories part.  Ask it: perhaps nothing was left
 * behind, and this instance can follow.
 */
void
ship_ask_for_fork(struct ship *s);
/* Does the log here not reach back to where PEER is? */
bool
ship_is_beyond(const struct ship *s, const struct logstatus *peer);
/*
 * Then PEER is told to give up its state, if all of that is ours anyway.
 * ERR_AGAIN: it does, and will want a seed.  ERR_HISTORY: it has something of
 * its own.
 */
MUST_CHECK enum errcode
ship_ask_to_reseed(struct ship *s, struct csync_client *peer,
                   const struct logstatus *status, struct error *err);

/* ---- csync/ship_seed.c ------------------------------------------------- */

/*
 * Seed the replica at PEER from a snapshot of the instance beside us.  Errors:
 * those of either side.
 */
MUST_CHECK enum errcode
ship_seed(struct ship *s, struct csync_client *peer, struct error *err);

#endif
