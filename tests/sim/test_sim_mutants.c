/*
 * tests/sim/test_sim_mutants.c - tests of the tests: with a promise broken on
 * purpose (store/mutants.h, synclog/mutants.h) the simulation must fail within
 * so many seeds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "store/mutants.h"
#include "synclog/mutants.h"
#include "tests/sim/runner.h"

static const struct {
    const char *name;
    unsigned bit;
    unsigned seeds, ops, first; /* the first seed that found it is near */
} mutants[] = {
    {"acknowledge before sync", MUTANT_ACK_BEFORE_SYNC, 20, 150, 1},
    {"show before sync", MUTANT_SHOW_BEFORE_SYNC, 20, 150, 1},
    {"headroom 0", MUTANT_NO_HEADROOM, 60, 300, 1},
    {"ignore the fence", MUTANT_IGNORE_FENCE, 60, 300, 5},
    {"apply in another order", MUTANT_APPLY_FLIPPED, 20, 150, 1},
    {"no delivery mark", MUTANT_NO_DEDUP, 100, 600, 10},
    {"expunge without tombstone", MUTANT_NO_TOMBSTONE, 20, 150, 1},
    {"purge of a body in use", MUTANT_PURGE_BODY, 60, 300, 1},
    {"garbage of what is kept", MUTANT_DROP_HISTORY, 60, 300, 1},
    {"replica without sync", MUTANT_REPLICA_NO_SYNC, 60, 300, 1},
    {"answer after the fence", MUTANT_ANSWER_LATE, 300, 600, 13},
    {"headroom without unseen epochs", MUTANT_NARROW_HEADROOM, 300, 600, 5},
    {"unproven frames not written again", MUTANT_NO_REWRITE, 300, 600, 8},
    {"recovery cuts a frame too many", MUTANT_CUT_ONE_MORE, 20, 150, 1},
    {"ship before sync", MUTANT_SHIP_EARLY, 60, 300, 20},
    {"write before the epoch begins", MUTANT_IGNORE_EPOCH, 60, 300, 1},
    {"take frames of any history", MUTANT_ANY_CHAIN, 300, 600, 13},
};

static void
test_every_mutant_is_noticed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(mutants) / sizeof(mutants[0]); i++) {
        struct sim_result r = {0};
        unsigned seed = mutants[i].first;
        for (unsigned n = 0; n < mutants[i].seeds && !r.failed; n++, seed++)
            run_quietly(&(struct sim_options){.seed = seed,
                                              .ops = mutants[i].ops,
                                              .mutants = mutants[i].bit},
                        &r);
        if (!r.failed)
            fail_msg("\"%s\" was not noticed in %u seeds", mutants[i].name,
                     mutants[i].seeds);
        print_message("%s: seed %u, step %u: %s\n", mutants[i].name, seed - 1,
                      r.step, r.why);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_mutant_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
