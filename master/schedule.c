/*
 * master/schedule.c - local times of day, by mktime(3).
 *
 * Whoever runs events compares with the wall clock, so an hour that passed
 * while the machine slept, or while the clock was set forward, is made up for
 * by one run, and not by one for each that was missed.
 */
#include "master/schedule.h"

#include <time.h>

uint64_t
schedule_next_at(uint64_t now_s, int hhmm)
{
    time_t now = (time_t)now_s;
    struct tm today;

    if (localtime_r(&now, &today) == NULL)
        return SCHEDULE_NEVER;
    for (int days = 0; days < 3; days++) {
        struct tm tm = {
            .tm_year = today.tm_year,
            .tm_mon = today.tm_mon,
            .tm_mday = today.tm_mday + days,
            .tm_hour = hhmm / 100,
            .tm_min = hhmm % 100,
            .tm_isdst = -1,
        };
        time_t at = mktime(&tm);
        if (at != (time_t)-1 && at > now)
            return (uint64_t)at;
    }
    return SCHEDULE_NEVER;
}
