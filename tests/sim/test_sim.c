/*
 * tests/sim/test_sim.c - clusters from seeds: SEEDS of them, OPS operations
 * each.  POLLUX_SEED=n runs one (POLLUX_TRACE=1: with its trace on stderr),
 * POLLUX_SEEDS and POLLUX_OPS change how many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/span.h"
#include "tests/sim/runner.h"

#define SEEDS 200U
#define OPS 120U

static uint64_t
from_env(const char *name, uint64_t normal)
{
    const char *text = getenv(name);
    uint64_t value = normal;

    if (text != NULL)
        assert_true(parse_u64(span_str(text), &value));
    return value;
}

static void
test_cluster_keeps_every_invariant_whatever_happens(void **state)
{
    const uint64_t only = from_env("POLLUX_SEED", 0);
    const uint64_t seeds = only != 0 ? 1 : from_env("POLLUX_SEEDS", SEEDS);
    const unsigned ops = (unsigned)from_env("POLLUX_OPS", OPS);

    (void)state;
    for (uint64_t i = 0; i < seeds; i++) {
        struct sim_result r;
        const uint64_t seed = only != 0 ? only : i + 1;
        run_quietly(&(struct sim_options){.seed = seed, .ops = ops}, &r);
        if (r.failed)
            fail_msg("seed %" PRIu64 " (%u operations), step %u: %s", seed, ops,
                     r.step, r.why);
    }
}

static void
test_same_seed_gives_same_trace(void **state)
{
    (void)state;
    for (uint64_t seed = 1000; seed < 1005; seed++) {
        struct sim_result a, b;
        run_quietly(&(struct sim_options){.seed = seed, .ops = OPS}, &a);
        run_quietly(&(struct sim_options){.seed = seed, .ops = OPS}, &b);
        assert_int_equal(a.trace_hash, b.trace_hash);
        assert_int_equal(a.acked, b.acked);
        run_quietly(&(struct sim_options){.seed = seed + 100, .ops = OPS}, &b);
        assert_int_not_equal(a.trace_hash, b.trace_hash);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cluster_keeps_every_invariant_whatever_happens),
        cmocka_unit_test(test_same_seed_gives_same_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
