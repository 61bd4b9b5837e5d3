#include "tests/sim/runner.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static uint64_t seed_now;

/* An ENSURE of the product that does not hold. */
static void
on_abort(int sig)
{
    char text[64] = "simulation: aborted in seed ";
    size_t n = strlen(text);
    char digits[24];
    size_t k = 0;

    for (uint64_t s = seed_now; s > 0 || k == 0; s /= 10)
        digits[k++] = (char)('0' + s % 10);
    while (k > 0)
        text[n++] = digits[--k];
    text[n++] = '\n';
    if (write(STDERR_FILENO, text, n) < 0)
        _exit(3);
    signal(sig, SIG_DFL);
    raise(sig);
}

void
run_quietly(const struct sim_options *options, struct sim_result *ret)
{
    struct sim_options o = *options;
    const bool loud = getenv("POLLUX_TRACE") != NULL;
    struct error err = {0};

    if (loud && o.trace == NULL)
        o.trace = stderr;
    if (log_open(loud ? LOG_TO_STDERR : LOG_TO_FILE, "/dev/null", "sim",
                 loud ? LOG_LV_NOTICE : LOG_LV_ERROR, &err) != ERR_OK)
        abort();
    seed_now = o.seed;
    signal(SIGABRT, on_abort);
    fflush(stdout); /* sync_client says on it how far it is */
    int saved = dup(STDOUT_FILENO);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (saved < 0 || null < 0 || dup2(null, STDOUT_FILENO) < 0)
        abort();
    sim_run(&o, ret);
    fflush(stdout);
    if (dup2(saved, STDOUT_FILENO) < 0)
        abort();
    close(saved);
    close(null);
    signal(SIGABRT, SIG_DFL);
}
