/*
 * tests/sim/runner.h - running simulations from a program: without the output
 * of the product's tools, and with the seed named should one abort.
 */
#ifndef POLLUX_TESTS_SIM_RUNNER_H
#define POLLUX_TESTS_SIM_RUNNER_H

#include "tests/sim/sim.h"

/* sim_run(); POLLUX_TRACE set: with a trace, and the product's log, on stderr.
 */
void
run_quietly(const struct sim_options *options, struct sim_result *ret);

#endif
