/*
 * cmd/ctl_failover.c - who writes: asking, fencing, swapping, promoting.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/span.h"
#include "failover/ctl.h"
#include "master/child.h"
#include "net/sasl.h"

static const char usage[] =
    "usage: ctl_failover [-C imapd.conf] [-n channel] [--json] [--force]\n"
    "                    [--timeout seconds] VERB\n"
    "  status    both sides: role, position, lag, digests; the exit code is\n"
    "            0 equal, 3 behind, 4 unequal, 5 no twin, 6 nobody writes,\n"
    "            7 no instance here\n"
    "  fence     nothing is written here any more\n"
    "  unfence   and again\n"
    "  swap      this master and its replica change places\n"
    "  promote   this replica becomes the master, its twin being gone\n"
    "  export    save what a deposed master had not shipped\n"
    "  rejoin    export it, empty the store, become the replica\n";

enum { OPT_JSON = 256, OPT_FORCE, OPT_TIMEOUT };

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'C'},
    {"channel", required_argument, NULL, 'n'},
    {"json", no_argument, NULL, OPT_JSON},
    {"force", no_argument, NULL, OPT_FORCE},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

int
main(int argc, char **argv)
{
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
    enum ctl_exit code = ctl_run(&o, argv[optind]);
    sasl_library_stop();
    return (int)code;
}
