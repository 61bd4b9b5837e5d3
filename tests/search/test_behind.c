/*
 * tests/search/test_behind.c - sums over mailboxes against an array that
 * remembers all of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "search/behind.h"

#define IDS 2000U

static uint64_t
next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void
test_says_what_a_model_says(void **state)
{
    static uint64_t model[IDS];
    struct behind b = {0};
    uint64_t x = 88172645463325252U, total = 0;
    size_t used = 0;
    (void)state;

    for (int step = 0; step < 200000; step++) {
        /* Now many, now few of them. */
        size_t i = next(&x) % (step / 20000 % 2 == 0 ? IDS : IDS / 10);
        uint64_t n = next(&x) % 3 == 0 ? next(&x) % UINT32_MAX : 0;
        behind_set(&b, (mbid_t)(i * 64 + 1), n);
        total = total - model[i] + n;
        used = used - (model[i] != 0) + (n != 0);
        model[i] = n;
        assert_true(b.total == total);
        assert_int_equal(b.used, used);
        assert_true(b.cap <= 4096); /* what went makes room */
    }
    for (size_t i = 0; i < IDS; i++)
        behind_set(&b, (mbid_t)(i * 64 + 1), 0);
    assert_int_equal(b.total, 0);
    assert_int_equal(b.used, 0);
    behind_free(&b);
    behind_free(&b);
}

static void
test_nothing_of_nothing(void **state)
{
    struct behind b = {0};
    (void)state;

    behind_set(&b, 7, 0);
    behind_set(&b, 0, 7);
    assert_int_equal(b.total, 0);
    assert_null(b.slots);
    behind_set(&b, UINT64_MAX, UINT64_MAX);
    behind_set(&b, UINT64_MAX, 5);
    assert_int_equal(b.total, 5);
    behind_free(&b);
    assert_int_equal(b.total, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_what_a_model_says),
        cmocka_unit_test(test_nothing_of_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
