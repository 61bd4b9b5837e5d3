/*
 * csync/verify.h - is the replica equal?  By digests of one LSN, as deep as is
 * asked for; what differs is named row by row.
 */
#ifndef POLLUX_CSYNC_VERIFY_H
#define POLLUX_CSYNC_VERIFY_H

#include "csync/ship.h"

enum verify_result {
    VERIFY_EQUAL,
    VERIFY_BEHIND,  /* equal as far as is known; not at the same LSN yet */
    VERIFY_UNEQUAL, /* the same LSN, another digest: never by itself */
};

struct verify_names {
    const char *const *prefixes;  /* users whose names begin so, likewise */
    const char *const *users;     /* NULL-terminated; NULL: none */
    const char *const *mailboxes; /* internal names, likewise */
};

/*
 * Ask the instance beside us and its replica (O's channel or host).  Without
 * NAMES the whole store; DIFF: also walk down to what differs.  Says on stdout
 * what it found, a line each; O->verbose says more.  ERR_HISTORY (of another
 * cluster), those of connecting.  A name that neither side has is
 * VERIFY_UNEQUAL.
 */
MUST_CHECK enum errcode
verify_run(const struct ship_options *o, const struct verify_names *names,
           bool diff, enum verify_result *ret, struct error *err);

/* The same digest at the same LSN, in one question to each?  For -A. */
MUST_CHECK enum errcode
verify_root(struct csync_client *self, struct csync_client *peer,
            enum verify_result *ret, struct logpos *ret_at,
            uint64_t *ret_digest, struct error *err);

#endif
