/*
 * store/full.h - a disk that is full, in few log lines: one when the first
 * mutation is refused, a count each ten seconds while it lasts, one when there
 * is room again.  A loaded server refuses hundreds a second.
 */
#ifndef POLLUX_STORE_FULL_H
#define POLLUX_STORE_FULL_H

#include <pthread.h>

#include "base/env.h"

/* All zero but for the lock and the clock. */
struct full {
    pthread_mutex_t lock;
    struct env *env;
    bool is_full;
    uint64_t since_ns;
    uint64_t refused_ns; /* the last time */
    uint64_t told_ns;
    uint64_t refused; /* since since_ns */
};

void
full_init(struct full *f, struct env *env);
void
full_done(struct full *f);
/* Something was refused for want of room: ERR says what had none. */
void
full_refused(struct full *f, const struct error *err);
/* Something was taken.  There is room again if nothing has been refused for two
 * seconds: large messages can be without it where small ones have it. */
void
full_taken(struct full *f);

#endif
