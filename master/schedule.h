/*
 * master/schedule.h - when a line of EVENTS is due.
 */
#ifndef POLLUX_MASTER_SCHEDULE_H
#define POLLUX_MASTER_SCHEDULE_H

#include <stdint.h>

/* Never again. */
#define SCHEDULE_NEVER UINT64_MAX

/*
 * The next time, in seconds since 1970 and later than NOW_S, at which the local
 * clock shows HHMM (0 to 2359).  A time that the change to summer time leaves
 * out counts as the moment it would have been without the change, so no day is
 * left out.
 */
uint64_t
schedule_next_at(uint64_t now_s, int hhmm);

#endif
