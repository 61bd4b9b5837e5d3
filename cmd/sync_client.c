/*
 * cmd/sync_client.c - carrying the log to the replica: once, or for ever.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "csync/ship.h"
#include "master/child.h"
#include "master/instance.h"
#include "net/sasl.h"

#define EXIT_USAGE 64
#define EXIT_BY_STATE 69

static const char usage[] =
    "usage: sync_client [-C imapd.conf] [-n channel] [-S host] [-o] [-v]\n"
    "                   [-F shutdown_file] [-w seconds] -r | -R | -1 | -A\n"
    "  -r  follow the log for ever, in the background unless started by "
    "master\n"
    "  -R  follow the log for ever, in the foreground\n"
    "  -1  ship what is durable now, then end\n"
    "  -A  make the replica equal: seed an empty one, or ship what it lacks\n"
    "  -o  do not try again to connect\n"
    "taken without effect: -d -t seconds, -l -z -N -O -L -a, -p partition\n";

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'C'},
    {"all-users", no_argument, NULL, 'A'},
    {"userids", no_argument, NULL, 'u'},
    {"mailboxes", no_argument, NULL, 'm'},
    {"sieve-mode", no_argument, NULL, 's'},
    {"rolling", no_argument, NULL, 'r'},
    {"foreground-rolling", no_argument, NULL, 'R'},
    {"rolling-once", no_argument, NULL, '1'},
    {"channel", required_argument, NULL, 'n'},
    {"server", required_argument, NULL, 'S'},
    {"input-file", required_argument, NULL, 'f'},
    {"shutdown-file", required_argument, NULL, 'F'},
    {"delay", required_argument, NULL, 'd'},
    {"timeout", required_argument, NULL, 't'},
    {"delayed-startup", required_argument, NULL, 'w'},
    {"connect-once", no_argument, NULL, 'o'},
    {"skip-locked", no_argument, NULL, 'N'},
    {"no-copyback", no_argument, NULL, 'O'},
    {"dest-partition", required_argument, NULL, 'p'},
    {"local-only", no_argument, NULL, 'L'},
    {"require-compression", no_argument, NULL, 'z'},
    {"stage-to-archive", no_argument, NULL, 'a'},
    {"verbose-logging", no_argument, NULL, 'l'},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct request {
    const char *conf;
    int mode; /* r R 1 A; 0: none given */
    uint32_t wait_s;
    struct ship_options ship;
};

static volatile sig_atomic_t stopped;
static volatile sig_atomic_t must_reopen;

static void
on_signal(int signo)
{
    if (signo == SIGHUP)
        must_reopen = 1;
    else
        stopped = 1;
}

static bool
is_stopped(void *ctx)
{
    (void)ctx;
    if (must_reopen) {
        must_reopen = 0;
        log_reopen();
    }
    return stopped != 0;
}

static void
take_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal};

    sigemptyset(&sa.sa_mask);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static bool
is_our_child(void)
{
    const char *set = getenv(CHILD_ENV);

    return set != NULL && strcmp(set, "1") == 0;
}

/* Does not return in the parent. */
static enum errcode
go_into_background(struct error *err)
{
    pid_t pid = fork();

    if (pid < 0)
        return error_set_errno(err, errno, "go into the background");
    if (pid > 0)
        _exit(0);
    setsid();
    return ERR_OK;
}

/* Nobody waits at the other end any more. */
static void
leave_terminal(void)
{
    int fd = open("/dev/null", O_RDWR);

    if (fd < 0)
        return;
    dup2(fd, STDIN_FILENO);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

static enum errcode
open_log(const struct config *cfg, bool in_background, struct error *err)
{
    static const enum log_target targets[] = {LOG_TO_STDERR, LOG_TO_FILE,
                                              LOG_TO_SYSLOG};
    const char *prefix = config_string(cfg, "syslog_prefix");
    bool has_prefix = prefix != NULL && prefix[0] != '\0';
    AUTO(xfree)
    char *ident = xasprintf("pollux%s%s/sync_client", has_prefix ? "/" : "",
                            has_prefix ? prefix : "");
    enum log_target target =
        in_background ? targets[config_enum(cfg, "log_target")] : LOG_TO_STDERR;

    return log_open(target, config_string(cfg, "log_file"), ident,
                    (enum log_level)config_enum(cfg, "log_level"), err);
}

/* Exit code to end with at once, or -1. */
static int
by_state(int letter)
{
    fprintf(stderr,
            "sync_client: -%c compares states, which this version does not "
            "do; -A and -r carry everything\n",
            letter);
    return EXIT_BY_STATE;
}

static int
take_options(int argc, char **argv, struct request *q)
{
    uint32_t ignored = 0;
    int opt;

    while ((opt = getopt_long(argc, argv, "C:AumsMrR1n:S:f:F:d:t:w:oNOp:Lzalvh",
                              long_options, NULL)) != -1) {
        switch (opt) {
        case 'C':
            q->conf = optarg;
            break;
        case 'r':
        case 'R':
        case '1':
        case 'A':
            /* "-r -1" is how Cyrus writes it. */
            if (q->mode == 0 || q->mode == 'r')
                q->mode = opt;
            break;
        case 'n':
            q->ship.channel = optarg[0] == '\0' ? INSTANCE_CHANNEL : optarg;
            break;
        case 'S':
            q->ship.host = optarg;
            break;
        case 'F':
            q->ship.shutdown_file = optarg;
            break;
        case 'o':
            q->ship.connect_once = true;
            break;
        case 'v':
            q->ship.verbose = true;
            break;
        case 'w':
            if (!parse_u32(span_str(optarg), &q->wait_s))
                return EXIT_USAGE;
            break;
        case 'd':
        case 't':
            if (!parse_u32(span_str(optarg), &ignored)) {
                fprintf(stderr, "sync_client: -%c takes seconds\n", opt);
                return EXIT_USAGE;
            }
            break;
        case 'l':
        case 'z':
        case 'N':
        case 'O':
        case 'L':
        case 'a':
        case 'p':
            break;
        case 'u':
        case 'm':
        case 's':
        case 'M':
        case 'f':
            return by_state(opt);
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return EXIT_USAGE;
        }
    }
    if (q->mode == 0 || optind != argc) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    return -1;
}

static enum errcode
ship(struct request *q, const struct config *cfg, struct error *err)
{
    struct ship_options *o = &q->ship;
    AUTO(xfree)
    char *log_dir =
        xasprintf("%s/synclog", config_string(cfg, "configdirectory"));

    o->env = env_system();
    o->cfg = cfg;
    o->log_dir = log_dir;
    o->control = config_string(cfg, "control_socket");
    o->once = q->mode == '1';
    o->stop = is_stopped;
    if (o->shutdown_file == NULL)
        o->shutdown_file =
            config_channel_string(cfg, o->channel, "sync_shutdown_file");
    if (q->wait_s > 0) {
        struct timespec left = {.tv_sec = q->wait_s};
        while (!is_stopped(NULL) && nanosleep(&left, &left) != 0)
            ;
    }
    return q->mode == 'A' ? ship_all(o, err) : ship_rolling(o, err);
}

int
main(int argc, char **argv)
{
    struct request q = {.conf = getenv(CHILD_ENV_CONF),
                        .ship = {.channel = INSTANCE_CHANNEL}};
    AUTO(config_free) struct config *cfg = NULL;
    struct error err = {0};

    int code = take_options(argc, argv, &q);
    if (code >= 0)
        return code;
    enum errcode rc = config_read(
        env_system(), q.conf == NULL ? "/etc/imapd.conf" : q.conf, &cfg, &err);
    bool in_background = q.mode == 'r' && !is_our_child();
    bool is_logged = is_our_child();
    if (rc == ERR_OK && in_background)
        rc = go_into_background(&err);
    if (rc == ERR_OK)
        rc = open_log(cfg, in_background, &err);
    if (rc == ERR_OK)
        rc = sasl_library_start(cfg, "pollux", &err);
    if (rc == ERR_OK) {
        take_signals();
        if (in_background)
            leave_terminal();
        is_logged |= in_background;
        rc = ship(&q, cfg, &err);
        sasl_library_stop();
    }
    if (rc != ERR_OK && !is_stopped(NULL)) {
        if (is_logged)
            log_error(NULL, "sync.ended", "code=%s why=\"%s\"",
                      errcode_name(rc), err.text);
        else
            fprintf(stderr, "sync_client: %s\n", err.text);
        return 1;
    }
    log_close();
    return 0;
}
