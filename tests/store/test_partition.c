/*
 * The choice of a partition: each mode against usages made up here, with the
 * chances counted over many draws from a seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/env_sim.h"
#include "store/partition.h"

#define DRAWS 20000U

static const char *const names[] = {"a", "b", "c"};

struct fixture {
    struct env_sim *sim;
    struct arena arena;
    struct partition_usage usage[3];
    unsigned looks;
};

/* Paths are "0", "1", "2". */
static bool
usage(void *ctx, const char *path, struct partition_usage *ret)
{
    struct fixture *f = ctx;

    f->looks++;
    *ret = f->usage[path[0] - '0'];
    return ret->total_bytes != 7; /* it cannot be told */
}

static int
setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    f->sim = env_sim_new(&(struct env_sim_options){.seed = 5});
    /* 10 %, 30 % and 60 % free; b has the most bytes. */
    f->usage[0] = (struct partition_usage){1000, 100};
    f->usage[1] = (struct partition_usage){9000, 2700};
    f->usage[2] = (struct partition_usage){1000, 600};
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    env_sim_free(&f->sim);
    arena_free(&f->arena);
    free(f);
    return 0;
}

static struct partitions *
make(struct fixture *f, enum partition_mode mode, const char *const *exclude,
     unsigned soft_limit, unsigned reinit)
{
    static const char *const paths[] = {"0", "1", "2"};
    const struct partition_options o = {.mode = mode,
                                        .exclude = exclude,
                                        .soft_limit = soft_limit,
                                        .reinit = reinit,
                                        .usage = usage,
                                        .ctx = f};

    return partitions_new(env_sim_env(f->sim), &o, names, paths, 3, &f->arena);
}

/* How often each one was drawn, in tenths of a percent. */
static void
count(struct partitions *p, unsigned ret[3])
{
    unsigned n[3] = {0};

    for (unsigned i = 0; i < DRAWS; i++)
        n[partition_choose(p)[0] - 'a']++;
    for (unsigned i = 0; i < 3; i++)
        ret[i] = n[i] * 1000 / DRAWS;
}

static void
assert_near(unsigned got, unsigned want)
{
    if (got + 15 < want || got > want + 15)
        fail_msg("%u, not about %u per mille", got, want);
}

static void
assert_chances(struct partitions *p, unsigned a, unsigned b, unsigned c)
{
    unsigned n[3];

    count(p, n);
    assert_near(n[0], a);
    assert_near(n[1], b);
    assert_near(n[2], c);
}

static void
test_each_mode_chooses_as_it_says(void **state)
{
    struct fixture *f = *state;

    assert_chances(make(f, PARTITION_RANDOM, NULL, 0, 0), 333, 333, 333);
    assert_string_equal(
        partition_choose(make(f, PARTITION_FREE_MOST, NULL, 0, 0)), "b");
    assert_string_equal(
        partition_choose(make(f, PARTITION_PERCENT_MOST, NULL, 0, 0)), "c");
    assert_chances(make(f, PARTITION_PERCENT_WEIGHTED, NULL, 0, 0), 100, 300,
                   600);
    /* 0.5, 20.5 and 50.5 of 71.5. */
    assert_chances(make(f, PARTITION_PERCENT_WEIGHTED_DELTA, NULL, 0, 0), 7,
                   287, 706);
    /* Nearly level: all have about the same. */
    f->usage[0].free_bytes = f->usage[2].free_bytes = 300;
    assert_chances(make(f, PARTITION_PERCENT_WEIGHTED_DELTA, NULL, 0, 0), 333,
                   333, 333);
}

static void
test_excluded_ones_are_not_chosen(void **state)
{
    struct fixture *f = *state;
    static const char *const two[] = {"b", "c", NULL};
    static const char *const all[] = {"a", "b", "c", NULL};

    assert_chances(make(f, PARTITION_RANDOM, two, 0, 0), 1000, 0, 0);
    assert_string_equal(
        partition_choose(make(f, PARTITION_FREE_MOST, two, 0, 0)), "a");
    /* Somewhere it has to go. */
    assert_string_equal(
        partition_choose(make(f, PARTITION_FREE_MOST, all, 0, 0)), "b");
}

static void
test_soft_limit_holds_unless_all_are_over_it(void **state)
{
    struct fixture *f = *state;

    /* 90 %, 70 % and 40 % are used. */
    assert_chances(make(f, PARTITION_RANDOM, NULL, 70, 0), 0, 500, 500);
    assert_chances(make(f, PARTITION_RANDOM, NULL, 69, 0), 0, 0, 1000);
    assert_chances(make(f, PARTITION_RANDOM, NULL, 39, 0), 333, 333, 333);
}

static void
test_usage_is_looked_at_again_after_so_many_choices(void **state)
{
    struct fixture *f = *state;
    struct partitions *p = make(f, PARTITION_FREE_MOST, NULL, 0, 3);

    for (unsigned i = 0; i < 3; i++)
        assert_string_equal(partition_choose(p), "b");
    assert_int_equal(f->looks, 3); /* one for each */
    f->usage[1].free_bytes = 1;
    assert_string_equal(partition_choose(p), "c");
    assert_int_equal(f->looks, 6);
    p = make(f, PARTITION_FREE_MOST, NULL, 0, 0);
    for (unsigned i = 0; i < 3; i++)
        (void)partition_choose(p);
    assert_int_equal(f->looks, 15);
}

static void
test_unknown_usage_is_a_full_one(void **state)
{
    struct fixture *f = *state;

    f->usage[1].total_bytes = 7;
    assert_string_equal(
        partition_choose(make(f, PARTITION_FREE_MOST, NULL, 0, 0)), "c");
    f->usage[0].total_bytes = f->usage[2].total_bytes = 7;
    assert_chances(make(f, PARTITION_PERCENT_WEIGHTED, NULL, 0, 0), 333, 333,
                   333);
}

static void
test_default_is_no_choice(void **state)
{
    struct fixture *f = *state;
    const struct partition_options fixed = {.fixed = "b"};
    const struct partition_options none = {0};
    static const char *const paths[] = {"0", "1", "2"};
    struct env *env = env_sim_env(f->sim);

    struct partitions *p =
        partitions_new(env, &fixed, names, paths, 3, &f->arena);
    assert_string_equal(partition_choose(p), "b");
    assert_string_equal(partition_find(p, span_str("c")), "c");
    assert_null(partition_find(p, span_str("d")));
    p = partitions_new(env, &none, names, paths, 1, &f->arena);
    assert_string_equal(partition_choose(p), "a");
    p = partitions_new(env, &none, NULL, NULL, 0, &f->arena);
    assert_string_equal(partition_choose(p), "default");
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_each_mode_chooses_as_it_says),
        T(test_excluded_ones_are_not_chosen),
        T(test_soft_limit_holds_unless_all_are_over_it),
        T(test_usage_is_looked_at_again_after_so_many_choices),
        T(test_unknown_usage_is_a_full_one),
        T(test_default_is_no_choice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
