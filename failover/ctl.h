/*
 * failover/ctl.h - what ctl_failover does: asks the local instance over its
 * control socket and the twin over csync, and prints for a person or as JSON.
 */
#ifndef POLLUX_FAILOVER_CTL_H
#define POLLUX_FAILOVER_CTL_H

#include <stdio.h>

#include "base/config.h"
#include "base/env.h"

/* Exit codes that a script can use. */
enum ctl_exit {
    CTL_OK = 0,     /* done; status: both there, roles fit, digests equal */
    CTL_FAILED = 1, /* refused or failed; nothing has changed */
    CTL_USAGE = 2,
    CTL_LAGGING = 3, /* status: the replica is behind */
    CTL_UNEQUAL = 4, /* status: same position, other digest or history */
    CTL_NOTWIN = 5,  /* status: the twin cannot be reached */
    CTL_FENCED = 6,  /* status: nobody writes */
    CTL_NOLOCAL = 7, /* no instance runs here */
    CTL_UNCLEAR = 8, /* swap: the twin's answer was lost; fenced, run again */
};

struct ctl_options {
    struct env *env;
    const struct config *cfg;
    const char *channel; /* NULL: the default */
    bool json;
    bool force;
    int timeout_ms;
    FILE *out;
    FILE *err;
};

/* status | fence | unfence | swap | promote | export | rejoin */
enum ctl_exit
ctl_run(const struct ctl_options *o, const char *verb);

#endif
