/*
 * tests/master/test_schedule.c - the next time of day, also over the changes of
 * summer time (Europe/Berlin by rule, so that no zone files are needed).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <time.h>

#include "master/schedule.h"

#define DAY 86400U
/* 2026-03-01T00:00:00Z, a Sunday. */
#define MARCH_1 UINT64_C(1772323200)

static void
use_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static void
test_later_today_and_tomorrow(void **state)
{
    (void)state;
    use_zone("UTC0");
    assert_int_equal(schedule_next_at(MARCH_1, 400), MARCH_1 + 4 * 3600);
    assert_int_equal(schedule_next_at(MARCH_1 + 4 * 3600 - 1, 400),
                     MARCH_1 + 4 * 3600);
    /* It is 04:00 now: that run is the one that is under way. */
    assert_int_equal(schedule_next_at(MARCH_1 + 4 * 3600, 400),
                     MARCH_1 + DAY + 4 * 3600);
    assert_int_equal(schedule_next_at(MARCH_1, 0), MARCH_1 + DAY);
    assert_int_equal(schedule_next_at(MARCH_1, 2359),
                     MARCH_1 + 23 * 3600 + 59 * 60);
}

static void
test_end_of_month(void **state)
{
    uint64_t last = MARCH_1 + 30 * DAY + 23 * 3600;

    (void)state;
    use_zone("UTC0");
    assert_int_equal(schedule_next_at(last, 2230),
                     MARCH_1 + 31 * DAY + 22 * 3600 + 1800);
}

static void
test_change_of_time_leaves_no_day_out(void **state)
{
    (void)state;
    use_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    /* 2026-03-29: 02:00 to 03:00 does not exist. */
    uint64_t midnight = MARCH_1 + 28 * DAY - 3600;
    uint64_t at = schedule_next_at(midnight, 230);
    assert_true(at >= midnight + 2 * 3600 - 1800 &&
                at <= midnight + 3 * 3600 + 1800);
    uint64_t next = schedule_next_at(at, 230);
    assert_true(next > at + 20 * 3600 && next < at + 26 * 3600);
    /* And 04:00 is 23 hours after the last. */
    uint64_t four = schedule_next_at(midnight - 12 * 3600, 400);
    assert_int_equal(four, midnight + 3 * 3600);
}

static void
test_every_day_once_for_a_year(void **state)
{
    static const int times[] = {0, 100, 200, 230, 259, 300, 1200, 2359};

    (void)state;
    use_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        uint64_t now = MARCH_1;
        unsigned runs = 0;
        for (; now < MARCH_1 + 365 * DAY; runs++) {
            uint64_t next = schedule_next_at(now, times[i]);
            assert_true(next > now && next - now <= 26 * 3600);
            now = next;
        }
        assert_in_range(runs, 365, 367);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_later_today_and_tomorrow),
        cmocka_unit_test(test_end_of_month),
        cmocka_unit_test(test_change_of_time_leaves_no_day_out),
        cmocka_unit_test(test_every_day_once_for_a_year),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
