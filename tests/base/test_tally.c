/*
 * tests/base/test_tally.c - base/tally.c: which bucket, nothing lost,
 * quantiles.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/tally.h"

static void
test_buckets_end_at_powers_of_two(void **state)
{
    (void)state;
    assert_int_equal(tally_bucket(0), 0);
    assert_int_equal(tally_bucket(1), 0);
    assert_int_equal(tally_bucket(2), 1);
    assert_int_equal(tally_bucket(3), 2);
    assert_int_equal(tally_bucket(4), 2);
    assert_int_equal(tally_bucket(5), 3);
    assert_int_equal(tally_bucket(UINT64_C(1) << 24), 24);
    assert_int_equal(tally_bucket((UINT64_C(1) << 24) + 1), 25);
    assert_int_equal(tally_bucket(UINT64_MAX), 25);
}

static void
test_quantiles_are_upper_ends(void **state)
{
    struct tally t = {0};
    struct tally_view v;

    (void)state;
    tally_read(&t, &v);
    assert_int_equal(tally_quantile(&v, 500), 0);
    for (unsigned i = 0; i < 990; i++)
        tally_add(&t, 100);
    for (unsigned i = 0; i < 10; i++)
        tally_add(&t, 5000);
    tally_read(&t, &v);
    assert_int_equal(v.count, 1000);
    assert_int_equal(v.sum, 990 * 100 + 10 * 5000);
    assert_int_equal(tally_quantile(&v, 500), 128);
    assert_int_equal(tally_quantile(&v, 990), 128);
    assert_int_equal(tally_quantile(&v, 991), 8192);
    assert_int_equal(tally_quantile(&v, 1000), 8192);
}

#define EACH 20000U

static void *
add_many(void *arg)
{
    struct command_tally *c = arg;

    for (unsigned i = 0; i < EACH; i++)
        command_tally_add(c, 3000, i % 2 == 0);
    return NULL;
}

static void
test_threads_lose_nothing(void **state)
{
    static struct command_tally c;
    pthread_t threads[4];
    struct tally_view v;

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &c), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    tally_read(&c.us, &v);
    assert_int_equal(v.count, 4 * EACH);
    assert_int_equal(v.sum, 3 * 4 * EACH);
    assert_int_equal(c.failed, 2 * EACH);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets_end_at_powers_of_two),
        cmocka_unit_test(test_quantiles_are_upper_ends),
        cmocka_unit_test(test_threads_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
