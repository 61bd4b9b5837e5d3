/*
 * cmd/ctl_failover.c - who writes: asking, fencing, swapping, promoting.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/span.h"
#include "failover/show.h"
#include "master/child.h"
#include "net/sasl.h"

static const char usage[] =
    "usage: ctl_failover [-C imapd.conf] [-n channel] [--json] [--force]\n"
    "                    [--timeout seconds] [--watch[=seconds]]\n"
    "                    [--color=auto|always|never] VERB\n"
    "  status    both sides: role, position, lag, digests; the exit code is\n"
    "            0 equal, 3 behind, 4 unequal, 5 no twin, 6 nobody writes,\n"
    "            7 no instance here; --watch shows it again and again\n"
    "  fence     nothing is written here any more\n"
    "  unfence   and again\n"
    "  swap      this master and its replica change places\n"
    "  promote   this replica becomes the master, its twin being gone\n"
    "  export    save what a deposed master had not shipped\n"
    "  rejoin    export it, empty the store, become the replica\n";

enum { OPT_JSON = 256, OPT_FORCE, OPT_TIMEOUT, OPT_WATCH, OPT_COLOR };

#define WATCH_S 2U

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'C'},
    {"channel", required_argument, NULL, 'n'},
    {"json", no_argument, NULL, OPT_JSON},
    {"force", no_argument, NULL, OPT_FORCE},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"watch", optional_argument, NULL, OPT_WATCH},
    {"color", required_argument, NULL, OPT_COLOR},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static volatile sig_atomic_t interrupted;

static void
on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}

static bool
is_interrupted(void *ctx)
{
    (void)ctx;
    return interrupted != 0;
}

/* https://no-color.org: what is there and not empty. */
static bool
wants_color(void)
{
    const char *no = getenv("NO_COLOR");

    return isatty(STDOUT_FILENO) == 1 && (no == NULL || no[0] == '\0');
}

static enum ctl_exit
run(const struct ctl_options *o, const char *verb, struct ctl_show *show)
{
    if (strcmp(verb, "status") != 0)
        return ctl_run(o, verb);
    if (show->every_s > 0) {
        struct sigaction act = {.sa_handler = on_signal};
        sigaction(SIGINT, &act, NULL);
        sigaction(SIGTERM, &act, NULL);
        show->stop = is_interrupted;
        show->clear = isatty(STDOUT_FILENO) == 1 && !o->json;
    }
    return ctl_show_status(o, show);
}

int
main(int argc, char **argv)
{
    struct ctl_show show = {.color = wants_color()};
    struct ctl_options o = {.env = env_system(), .out = stdout, .err = stderr};
    const char *conf = getenv(CHILD_ENV_CONF);
    AUTO(config_free) struct config *cfg = NULL;
    struct error err = {0};
    uint32_t seconds = 0;
    int opt;

    while ((opt = getopt_long(argc, argv, "C:n:h", long_options, NULL)) != -1) {
        switch (opt) {
        case 'C':
            conf = optarg;
            break;
        case 'n':
            o.channel = optarg;
            break;
        case OPT_JSON:
            o.json = true;
            break;
        case OPT_FORCE:
            o.force = true;
            break;
        case OPT_TIMEOUT:
            if (!parse_u32(span_str(optarg), &seconds) || seconds == 0 ||
                seconds > 86400) {
                fputs("ctl_failover: --timeout takes seconds, at most 86400\n",
                      stderr);
                return CTL_USAGE;
            }
            o.timeout_ms = (int)seconds * 1000;
            break;
        case OPT_WATCH:
            show.every_s = WATCH_S;
            if (optarg != NULL && (!parse_u32(span_str(optarg), &seconds) ||
                                   seconds == 0 || seconds > 86400)) {
                fputs("ctl_failover: --watch takes seconds, at most 86400\n",
                      stderr);
                return CTL_USAGE;
            }
            show.every_s = optarg == NULL ? WATCH_S : seconds;
            break;
        case OPT_COLOR:
            if (strcmp(optarg, "always") == 0) {
                show.color = true;
            } else if (strcmp(optarg, "never") == 0) {
                show.color = false;
            } else if (strcmp(optarg, "auto") != 0) {
                fputs("ctl_failover: --color is auto, always or never\n",
                      stderr);
                return CTL_USAGE;
            }
            break;
        case 'h':
            fputs(usage, stdout);
            return CTL_OK;
        default:
            fputs(usage, stderr);
            return CTL_USAGE;
        }
    }
    if (optind != argc - 1) {
        fputs(usage, stderr);
        return CTL_USAGE;
    }
    if (config_read(o.env, conf == NULL ? "/etc/imapd.conf" : conf, &cfg,
                    &err) != ERR_OK ||
        sasl_library_start(cfg, "pollux", &err) != ERR_OK) {
        fprintf(stderr, "ctl_failover: %s\n", err.text);
        return CTL_FAILED;
    }
    o.cfg = cfg;
    enum ctl_exit code = run(&o, argv[optind], &show);
    sasl_library_stop();
    return (int)code;
}
