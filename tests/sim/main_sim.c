/*
 * tests/sim/main_sim.c - many seeds over several processes:
 *
 *     sim_main FIRST SEEDS OPS JOBS [MUTANTS]
 *
 * Each failing seed is a line on stdout; the last line sums up.  Ends 0 if none
 * failed.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/span.h"
#include "tests/sim/runner.h"

struct totals {
    _Atomic uint64_t next;
    _Atomic uint64_t done, failed, acked, refused, unknown, crashes, cuts,
        promotions, swaps, rejoins, reseeds, full_disks, fatals, pauses, checks,
        compacted, kept, virtual_ms;
};

static void
work(struct totals *t, uint64_t end, unsigned ops, unsigned mutants)
{
    uint64_t seed;

    while ((seed = t->next++) < end) {
        struct sim_result r;
        run_quietly(
            &(struct sim_options){.seed = seed, .ops = ops, .mutants = mutants},
            &r);
        if (r.failed) {
            printf("seed %" PRIu64 " step %u: %s\n", seed, r.step, r.why);
            fflush(stdout);
            t->failed++;
        }
        t->done++;
        t->acked += r.acked;
        t->refused += r.refused;
        t->unknown += r.unknown;
        t->crashes += r.crashes;
        t->cuts += r.cuts;
        t->promotions += r.promotions;
        t->swaps += r.swaps;
        t->rejoins += r.rejoins;
        t->reseeds += r.reseeds;
        t->compacted += r.compacted_bytes;
        t->kept += r.kept_bodies;
        t->full_disks += r.full_disks;
        t->fatals += r.fatals;
        t->pauses += r.pauses;
        t->checks += r.checks;
        t->virtual_ms += r.virtual_ms;
    }
}

static bool
number(const char *text, uint64_t *ret)
{
    return text != NULL && parse_u64(span_str(text), ret);
}

int
main(int argc, char **argv)
{
    uint64_t first = 0, seeds = 0, ops = 0, jobs = 0, mutants = 0;
    struct timespec begin, end;

    if (argc < 5 || !number(argv[1], &first) || !number(argv[2], &seeds) ||
        !number(argv[3], &ops) || !number(argv[4], &jobs) ||
        (argc > 5 && !number(argv[5], &mutants))) {
        fprintf(stderr, "usage: sim_main FIRST SEEDS OPS JOBS [MUTANTS]\n");
        return 2;
    }
    struct totals *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t == MAP_FAILED)
        return 2;
    memset(t, 0, sizeof(*t));
    t->next = first;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (uint64_t i = 0; i < jobs; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 2;
        if (pid == 0) {
            work(t, first + seeds, (unsigned)ops, (unsigned)mutants);
            exit(0);
        }
    }
    int status;
    bool broken = false;
    while (wait(&status) > 0)
        broken = broken || status != 0;
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%" PRIu64 " of %" PRIu64 " seeds x %" PRIu64
           " operations in %ld s: %" PRIu64 " failed%s\n",
           t->done, seeds, ops, (long)(end.tv_sec - begin.tv_sec), t->failed,
           broken ? ", and a process ended badly" : "");
    printf("answered %" PRIu64 ", refused %" PRIu64 ", unknown %" PRIu64
           "; crashes %" PRIu64 ", fatal errors %" PRIu64
           ", cut connections %" PRIu64 ", full disks %" PRIu64
           ", pauses %" PRIu64 ", promotions %" PRIu64 ", swaps %" PRIu64
           ", rejoins %" PRIu64 ", reseeds %" PRIu64 ", compacted %" PRIu64
           " MiB, kept bodies read %" PRIu64 "; whole comparisons %" PRIu64
           "; simulated %" PRIu64 " h\n",
           t->acked, t->refused, t->unknown, t->crashes, t->fatals, t->cuts,
           t->full_disks, t->pauses, t->promotions, t->swaps, t->rejoins,
           t->reseeds, t->compacted >> 20, t->kept, t->checks,
           t->virtual_ms / 3600000);
    return t->failed > 0 || broken || t->done < seeds;
}
