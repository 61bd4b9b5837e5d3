/*
 * cmd/master.c - master -C imapd.conf -M cyrus.conf: one instance.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/span.h"
#include "master/instance.h"

static const char usage[] =
    "usage: master [-C imapd.conf] [-M cyrus.conf] [-p pidfile] [-d | -D]\n"
    "              [-L logfile] [-l backlog] [-v] [-V] [--check-config]\n";

enum { OPT_CHECK = 256 };

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'C'},
    {"cyrus-config", required_argument, NULL, 'M'},
    {"pid-file", required_argument, NULL, 'p'},
    {"daemon", no_argument, NULL, 'd'},
    {"do-not-close-streams", no_argument, NULL, 'D'},
    {"log-file", required_argument, NULL, 'L'},
    {"listen-queue", required_argument, NULL, 'l'},
    {"janitor-full-scans", required_argument, NULL, 'j'},
    {"check-config", no_argument, NULL, OPT_CHECK},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

int
main(int argc, char **argv)
{
    struct instance_options o = {
        .imapd_conf = "/etc/imapd.conf",
        .cyrus_conf = "/etc/cyrus.conf",
    };
    bool check = false;
    uint32_t n = 0;
    int opt;

    while ((opt = getopt_long(argc, argv, "C:M:p:dDL:l:j:vVh", long_options,
                              NULL)) != -1) {
        switch (opt) {
        case 'C':
            o.imapd_conf = optarg;
            break;
        case 'M':
            o.cyrus_conf = optarg;
            break;
        case 'p':
            o.pid_file = optarg;
            break;
        case 'd':
            o.detach = true;
            break;
        case 'D':
            o.keep_streams = true;
            break;
        case 'L':
            o.log_file = optarg;
            break;
        case 'l':
        case 'j': /* sweeps of Cyrus's child table: taken, without effect */
            if (!parse_u32(span_str(optarg), &n) || n == 0 || n > 65535) {
                fprintf(stderr, "master: -%c takes a number up to 65535\n",
                        opt);
                return 2;
            }
            if (opt == 'l')
                o.backlog = (int)n;
            break;
        case 'v':
            o.verbose = true;
            break;
        case 'V':
            puts("Pollux " POLLUX_VERSION);
            return 0;
        case OPT_CHECK:
            check = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    if (check)
        return instance_check(env_system(), &o, stdout) ? 0 : 1;
    return instance_run(env_system(), &o);
}
