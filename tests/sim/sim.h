/*
 * tests/sim/sim.h - a cluster in one process, driven from a seed.
 *
 * Real: store, synclog, failover/node and ctl_failover, csync's server, client
 * and sync_client.  Simulated: machines (base/env_sim.h, store/kv_mem.h), the
 * network under csync (simnet.c), processes (simproc.c), the clock, clients and
 * the person who operates all this.  README.md says what is checked where.
 */
#ifndef POLLUX_TESTS_SIM_SIM_H
#define POLLUX_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SIM_WHY_BYTES 700

struct sim_options {
    uint64_t seed;
    unsigned ops;     /* operations of clients */
    unsigned mutants; /* store/mutants.h */
    FILE *trace;      /* NULL: none */
};

struct sim_result {
    bool failed;
    char why[SIM_WHY_BYTES]; /* the first thing that was wrong */
    unsigned step;           /* operations that were done by then */
    uint64_t trace_hash;
    uint64_t acked;   /* operations that were answered with success */
    uint64_t refused; /* ... with an error */
    uint64_t unknown; /* ... not at all */
    uint64_t compacted_bytes;
    uint64_t kept_bodies; /* of purged messages, read */
    uint64_t crashes, cuts, promotions, swaps, rejoins, reseeds, full_disks,
        fatals, pauses, checks;
    uint64_t virtual_ms;
};

void
sim_run(const struct sim_options *options, struct sim_result *ret);

#endif
