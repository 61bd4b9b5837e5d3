/*
 * metrics/history.h - the last minutes, a point a second: for rates, and to
 * tell how old and how large is what a replica lacks.  No locks, no clock.
 */
#ifndef POLLUX_METRICS_HISTORY_H
#define POLLUX_METRICS_HISTORY_H

#include "base/ids.h"

#define HISTORY_POINTS 900U

struct history_point {
    uint64_t wall_us;
    lsn_t lsn;      /* durable */
    uint64_t bytes; /* that went into the log since it was opened */
    uint64_t syncs;
    uint64_t lag_records; /* of the channel that lags most */
    uint64_t lag_us;
};

struct history {
    struct history_point ring[HISTORY_POINTS];
    size_t next; /* where the next point goes */
    size_t n;
};

/* P is later than all before; one whose counters are below the last one's is of
 * another store, and what was before it is forgotten. */
void
history_add(struct history *h, const struct history_point *p);
/* The I-th, 0 is the oldest; I < h->n. */
const struct history_point *
history_at(const struct history *h, size_t i);

/* What lies behind record LSN at NOW, which is not older than any point. */
struct history_behind {
    uint64_t bytes;
    uint64_t age_us; /* since the first record that is behind LSN was durable */
    bool is_whole;   /* false: it began before the oldest point, so both are at
                        least this much */
};
void
history_behind(const struct history *h, const struct history_point *now,
               lsn_t lsn, struct history_behind *ret);

#endif
