/*
 * tests/metrics/test_history.c - metrics/history.c: how old and how large what
 * lies behind a record is, at both ends of what is remembered.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "metrics/history.h"

#define S UINT64_C(1000000)

/* A point a second; ten records of 100 bytes each. */
static struct history_point
at(uint64_t s)
{
    return (struct history_point){
        .wall_us = s * S, .lsn = s * 10, .bytes = s * 1000, .syncs = s};
}

static void
fill(struct history *h, uint64_t from, uint64_t until)
{
    for (uint64_t s = from; s <= until; s++) {
        struct history_point p = at(s);
        history_add(h, &p);
    }
}

static void
test_nothing_behind_is_nothing(void **state)
{
    static struct history h;
    struct history_point now = at(5);
    struct history_behind b;

    (void)state;
    memset(&h, 0, sizeof(h));
    history_behind(&h, &now, 50, &b);
    assert_int_equal(b.bytes, 0);
    assert_int_equal(b.age_us, 0);
    assert_true(b.is_whole);
    history_behind(&h, &now, 49, &b); /* nothing is remembered */
    assert_false(b.is_whole);
}

static void
test_between_two_points_it_grows_evenly(void **state)
{
    static struct history h;
    struct history_point now = at(100);
    struct history_behind b;

    (void)state;
    memset(&h, 0, sizeof(h));
    fill(&h, 1, 100);
    history_behind(&h, &now, 900, &b); /* 901 came between 90 s and 91 s */
    assert_true(b.is_whole);
    assert_int_equal(b.bytes, 10000);
    assert_int_equal(b.age_us, 10 * S - S / 10);
    history_behind(&h, &now, 905, &b);
    assert_int_equal(b.bytes, 9500);
    assert_int_equal(b.age_us, 10 * S - S * 6 / 10);
    history_behind(&h, &now, 999, &b);
    assert_int_equal(b.bytes, 100);
    assert_int_equal(b.age_us, 0);
}

static void
test_what_is_newer_than_the_last_point_counts(void **state)
{
    static struct history h;
    struct history_point now = at(101);
    struct history_behind b;

    (void)state;
    memset(&h, 0, sizeof(h));
    fill(&h, 1, 100);
    history_behind(&h, &now, 1000, &b);
    assert_true(b.is_whole);
    assert_int_equal(b.bytes, 1000);
    assert_int_equal(b.age_us, S - S / 10);
}

static void
test_older_than_remembered_is_at_least_that(void **state)
{
    static struct history h;
    struct history_point now = at(3000);
    struct history_behind b;

    (void)state;
    memset(&h, 0, sizeof(h));
    fill(&h, 1, 3000);
    assert_int_equal(h.n, HISTORY_POINTS);
    assert_int_equal(history_at(&h, 0)->wall_us, (3000 - 899) * S);
    history_behind(&h, &now, 15, &b);
    assert_false(b.is_whole);
    assert_int_equal(b.age_us, 899 * S);
    assert_int_equal(b.bytes, 899 * 1000);
}

static void
test_another_store_begins_anew(void **state)
{
    static struct history h;
    struct history_point p = at(5);

    (void)state;
    memset(&h, 0, sizeof(h));
    fill(&h, 1, 10);
    p.wall_us = 11 * S;
    history_add(&h, &p);
    assert_int_equal(h.n, 1);
    assert_int_equal(history_at(&h, 0)->lsn, 50);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_behind_is_nothing),
        cmocka_unit_test(test_between_two_points_it_grows_evenly),
        cmocka_unit_test(test_what_is_newer_than_the_last_point_counts),
        cmocka_unit_test(test_older_than_remembered_is_at_least_that),
        cmocka_unit_test(test_another_store_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
