/*
 * csync/push.h - what sync_client does by state: making a csync server equal to
 * the instance beside us, users and mailboxes at a time, or for ever.
 *
 * For peers that do not speak our log: a Cyrus 3.6, and a Pollux with a history
 * of its own.  The state is read from the instance over its control socket.
 */
#ifndef POLLUX_CSYNC_PUSH_H
#define POLLUX_CSYNC_PUSH_H

#include "csync/ship.h"

#define PUSH_JOBS_MAX 32U

enum push_mode {
    PUSH_ALL,       /* -A: everybody; NAMES, if there: whose names begin so */
    PUSH_USERS,     /* -u: users NAMES */
    PUSH_MAILBOXES, /* -m: mailboxes NAMES (external names, as admins see them)
                     */
    PUSH_META,      /* -s: subscriptions, scripts and \Seen of users NAMES */
    PUSH_ROLLING,   /* -r: for ever */
    PUSH_ONCE,      /* -1: what changed since the last time, then end */
};

struct push_options {
    const struct ship_options *ship; /* whom, from where, when to stop */
    enum push_mode mode;
    const char *const *names;
    size_t nnames;
    const char *partition; /* -p: of mailboxes there; NULL: as it is */
    bool force;            /* -O: the peer's own changes are written over */
    bool wrong_way;        /* also from an instance that is not the master, and
                              to a newer epoch of its own cluster */
    bool anew;             /* PUSH_ALL: look at those too who are known to be
                              level */
    bool dry_run;          /* only say what would be changed */
    uint32_t jobs;         /* PUSH_ALL: users at a time; 0: 4 towards a Pollux,
                              else 1 */
    uint32_t delay_s;      /* -d, PUSH_ROLLING: at least so long from one round
                              to the next */
    const char *remainder; /* PUSH_ALL, _USERS, _META: file for the names of
                              users that were not brought level; or NULL */
    bool remove_extra;     /* --remove-extra: mailboxes of the peer that are not
                              here get DELETED. names there */
};

/*
 * Is the peer one to be pushed to by state?  Asks it; false also where it is
 * not there, or follows by log.
 */
bool
push_is_wanted(const struct ship_options *o);

/*
 * Do it.  Broken users and mailboxes are passed over, named on stderr and
 * counted; what was done is said on stdout at the end.  ERR_CONFLICT: some were
 * not brought level; ERR_READONLY: this instance is not the master; errors of
 * the connections.  PUSH_ROLLING ends when told to stop, when the fence goes up
 * and the peer has all that is durable, or with ERR_IO and the like of our own
 * log; it and PUSH_ONCE keep what is not brought level for the next time
 * (csync/parked.h), and end with ERR_CONFLICT if there is any.
 */
MUST_CHECK enum errcode
push_run(const struct push_options *o, struct error *err);

#endif
