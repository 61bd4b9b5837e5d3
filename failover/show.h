/*
 * failover/show.h - `ctl_failover status` for a person: again and again, and in
 * colours where there is a terminal.
 */
#ifndef POLLUX_FAILOVER_SHOW_H
#define POLLUX_FAILOVER_SHOW_H

#include "failover/ctl.h"

struct ctl_show {
    bool color;
    bool clear;       /* a terminal: each look takes the place of the last */
    unsigned every_s; /* 0: once */
    /* Is it over?  May be NULL. */
    bool (*stop)(void *ctx);
    void *ctx;
};

/* The verb "status" of ctl_run(), shown so; the exit code of the last look. */
enum ctl_exit
ctl_show_status(const struct ctl_options *o, const struct ctl_show *show);

/* Add TEXT, which is what status says, to RET, with the words coloured that
 * decide. */
void
ctl_color(struct span text, struct buf *ret);

#endif
