/*
 * csync/parked.h - what a channel by state could not bring level, and tries
 * again: kept in a file, since the log goes on without it.
 *
 *   pollux-parked 1
 *   u NAME          a user, with all that is theirs
 *   m NAME          a mailbox that nobody owns
 *   g NAME          a user who is gone here
 *   s               the server's annotations
 *
 * A line that is none of these counts for nothing.  One thread.
 */
#ifndef POLLUX_CSYNC_PARKED_H
#define POLLUX_CSYNC_PARKED_H

#include "base/env.h"

#define PARKED_MAX 10000U

enum parked_kind {
    PARKED_USER = 'u',
    PARKED_MAILBOX = 'm',
    PARKED_GONE = 'g',
    PARKED_SERVER = 's',
};

struct parked_item {
    enum parked_kind kind;
    char *name; /* "" of PARKED_SERVER */
};

struct parked;

/* What PATH holds; nothing if it is absent.  ERR_IO, ERR_LIMIT. */
MUST_CHECK enum errcode
parked_open(struct env *env, const char *path, struct parked **ret,
            struct error *err);
/* NULL is fine.  What was not saved is lost. */
void
parked_close(struct parked **p);

bool
parked_has(const struct parked *p, enum parked_kind kind, const char *name);
/* One that is there already is fine.  ERR_LIMIT: PARKED_MAX are there, or NAME
 * has a line break. */
MUST_CHECK enum errcode
parked_add(struct parked *p, enum parked_kind kind, const char *name,
           struct error *err);
/* All of them, until the next call that changes them. */
const struct parked_item *
parked_items(const struct parked *p, size_t *ret_n);
void
parked_remove(struct parked *p, size_t at);
/* What has changed is in the file when this is done.  ERR_IO, ERR_NOSPACE. */
MUST_CHECK enum errcode
parked_save(struct parked *p, struct error *err);

/* "user alice", for log and terminal. */
const char *
parked_kind_text(enum parked_kind kind);

#endif
