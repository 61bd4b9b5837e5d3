/*
 * master/instance.h - one process, one store, and all that its cyrus.conf
 * names: what `master` does.
 */
#ifndef POLLUX_MASTER_INSTANCE_H
#define POLLUX_MASTER_INSTANCE_H

#include <stdio.h>

#include "base/env.h"

/* Where a channel's name is not given. */
#define INSTANCE_CHANNEL "default"

struct instance_options {
    const char *imapd_conf;
    const char *cyrus_conf;
    const char *pid_file; /* NULL: master.pid in configdirectory */
    const char *log_file; /* -L, or NULL */
    int backlog;          /* of listeners; 0: the default */
    bool detach;          /* -d: go on in the background once the store is up */
    bool keep_streams;    /* -D: leave standard output and error as they are */
    bool verbose;
};

/*
 * Say to OUT what is to be said about both files, and start nothing.  True: an
 * instance can start with them.
 */
bool
instance_check(struct env *env, const struct instance_options *o, FILE *out);

/*
 * Run until SIGTERM, SIGINT or SIGQUIT.  Returns the exit code: 0 after an
 * orderly end, 1 if it could not start (said on stderr and in the log).  A
 * fatal error of the store ends the process at once, with 75.
 *
 * SIGHUP: cyrus.conf, certificates and the log file anew.
 */
int
instance_run(struct env *env, const struct instance_options *o);

#define INSTANCE_EXIT_FATAL 75

#endif
