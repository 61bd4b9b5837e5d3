/*
 * master/user.h - what root does for an instance before it stops being root:
 * descriptors, directories, the pid file; and then who it is.
 */
#ifndef POLLUX_MASTER_USER_H
#define POLLUX_MASTER_USER_H

#include <sys/types.h>

#include "base/config.h"
#include "base/error.h"

/* Whom the instance runs as. */
struct run_user {
    bool change;    /* we are root, and there is such a user */
    char name[256]; /* "" where change is false and root goes on as root */
    uid_t uid;
    gid_t gid;
};

/*
 * By cyrus_user (default "cyrus") and cyrus_group (default "mail" where it
 * exists, else the user's own).  Not root: nothing is to change.  A default
 * user who does not exist is a warning in the log, and root goes on as root; a
 * configured one who does not exist is ERR_NOTFOUND.
 */
MUST_CHECK enum errcode
user_choose(const struct config *cfg, struct run_user *ret, struct error *err);

/*
 * Make configdirectory, what must be below it, and the directories of all
 * partitions, mode 0750, where they are missing; those that were made, and
 * empty ones, are given to U.  Errors: ERR_IO, ERR_NOSPACE, ERR_SYNTAX (no
 * configdirectory).
 */
MUST_CHECK enum errcode
user_make_dirs(struct env *env, const struct config *cfg,
               const struct run_user *u, struct error *err);

/* Become U for good, keeping only the right to bind low ports.  Before there
 * are threads.  Errors: ERR_IO. */
MUST_CHECK enum errcode
user_become(const struct run_user *u, struct error *err);

/* As many descriptors as the system lets us have. */
void
user_raise_limits(void);

/*
 * Lock PATH and write our process id into it.  Held until pidfile_release(),
 * which empties and, where that is allowed, removes the file; it ends with the
 * process too.  ERR_BUSY names the process that has it.
 */
MUST_CHECK enum errcode
pidfile_take(const char *path, int *ret_fd, struct error *err);
void
pidfile_release(const char *path, int *fd);

#endif
