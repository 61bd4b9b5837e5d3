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
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "csync/push.h"
#include "csync/ship_end.h"
#include "csync/verify.h"
#include "master/child.h"
#include "master/instance.h"
#include "net/sasl.h"
#include "store/names.h"

#define EXIT_BEHIND 3
#define EXIT_UNEQUAL 4
#define EXIT_USAGE 64
#define NAMES_MAX 1000000U

static const char usage[] =
    "usage: sync_client [-C imapd.conf] [-n channel] [-S host] [-F file] [-o]\n"
    "                   [-z] [-t seconds] [-w seconds] [-l] [-v]\n"
    "                   -r | -R | -1 | -A | -u user... | -m mailbox... | -s "
    "user...\n"
    "       sync_client [...] --dry-run | --verify [-u user... | -m "
    "mailbox...] [--diff]\n"
    "  -r  follow the log for ever, in the background unless started by "
    "master\n"
    "  -R  follow the log for ever, in the foreground\n"
    "  -1  ship what is durable now, then end\n"
    "  -A  make the replica equal: ship what it lacks, or seed it\n"
    "  -u, -m, -s  the same, then prove that these users or mailboxes are "
    "equal\n"
    "  -f file     names of users or mailboxes, one a line, instead\n"
    "  --dry-run   only say what -A would do\n"
    "  --verify    only prove that the replica is equal, by digests\n"
    "  --diff      and name each row that is not\n"
    "  -F  when it is there -r ends          -o  do not try again to connect\n"
    "  -z  only if the peer compresses      -t  wait so long for an answer\n"
    "  -w  wait before the start            -l  log more   -v  say more\n"
    "by state, to a Cyrus or to a Pollux of another history:\n"
    "  -b  even if the peer speaks our log  -A prefix  users that begin so\n"
    "  -O  write over what the peer has changed by itself\n"
    "  -p  partition that the peer is to keep mailboxes on\n"
    "  --remove-extra  mailboxes that only the peer has get DELETED. names\n"
    "  --jobs n        users at a time in -A (4 towards a Pollux, else 1)\n"
    "  --anew          look also at those who were level and have not changed\n"
    "  --remainder f   names of users who were not brought level, for -u -f f\n"
    "  --wrong-way     although this instance is not the master, or the peer "
    "is\n"
    "                  of a newer epoch\n"
    "  -d seconds      -r: at least so long from one round to the next (by "
    "log\n"
    "                  nothing waits)\n"
    "taken without effect: -N -L -a\n"
    "exit codes: 0 done, equal; 1 failed; 3 behind, equality is not known;\n"
    "4 unequal; 64 wrong command line\n";

static const char see_help[] = "sync_client -h says how it is called\n";

enum {
    OPT_DRY_RUN = 256,
    OPT_VERIFY,
    OPT_DIFF,
    OPT_REMOVE_EXTRA,
    OPT_WRONG_WAY,
    OPT_JOBS,
    OPT_ANEW,
    OPT_REMAINDER,
};

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
    {"by-state", no_argument, NULL, 'b'},
    {"remove-extra", no_argument, NULL, OPT_REMOVE_EXTRA},
    {"wrong-way", no_argument, NULL, OPT_WRONG_WAY},
    {"jobs", required_argument, NULL, OPT_JOBS},
    {"anew", no_argument, NULL, OPT_ANEW},
    {"remainder", required_argument, NULL, OPT_REMAINDER},
    {"dest-partition", required_argument, NULL, 'p'},
    {"local-only", no_argument, NULL, 'L'},
    {"require-compression", no_argument, NULL, 'z'},
    {"stage-to-archive", no_argument, NULL, 'a'},
    {"verbose-logging", no_argument, NULL, 'l'},
    {"verbose", no_argument, NULL, 'v'},
    {"dry-run", no_argument, NULL, OPT_DRY_RUN},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"diff", no_argument, NULL, OPT_DIFF},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct request {
    const char *conf;
    int mode;     /* r R 1 A; u m s with names; 0: none given */
    bool is_torn; /* two modes that do not go together */
    bool dry_run; /* --dry-run */
    bool verify;  /* --verify */
    bool diff;    /* --diff */
    bool log_more;
    const char *input;    /* -f */
    const char *end_file; /* -F */
    char **names;         /* of -u, -m, -s */
    size_t nnames;
    uint32_t wait_s;
    bool by_state; /* -b */
    struct push_options push;
    struct ship_options ship;
};

static volatile sig_atomic_t stopped;
static volatile sig_atomic_t must_reopen;
static struct ship_end end_file = SHIP_END_INIT; /* read by is_stopped() */

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
    return stopped != 0 || ship_end_is_due(&end_file);
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
open_log(const struct config *cfg, bool in_background, bool more,
         struct error *err)
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

    enum log_level level = (enum log_level)config_enum(cfg, "log_level");
    if (more && level > LOG_LV_INFO)
        level = LOG_LV_INFO;
    return log_open(target, config_string(cfg, "log_file"), ident, level, err);
}

static void
add_name(struct request *q, const char *name)
{
    q->names = xrealloc(q->names, (q->nnames + 2) * sizeof(*q->names));
    q->names[q->nnames++] = xstrdup(name);
    q->names[q->nnames] = NULL;
}

/* Names of a file, one a line; "# so" is a remark. */
static enum errcode
read_names(struct request *q, struct error *err)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    if (q->input == NULL)
        return ERR_OK;
    enum errcode rc =
        env_read_file(env_system(), q->input, (size_t)64 << 20, &text, err);
    struct span rest = buf_span(&text);
    while (rc == ERR_OK && rest.n > 0) {
        ptrdiff_t end = span_find_byte(rest, '\n', 0);
        struct span line = end < 0 ? rest : span_sub(rest, 0, (size_t)end);
        rest = end < 0 ? SPAN_EMPTY : span_skip(rest, (size_t)end + 1);
        line = span_trim(line);
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (q->nnames == NAMES_MAX || span_find_byte(line, 0, 0) >= 0)
            return error_set(err, ERR_LIMIT, "%s: not a list of names",
                             q->input);
        AUTO(xfree) char *name = xasprintf("%.*s", SPAN_FMT(line));
        add_name(q, name);
    }
    return rc;
}

/* Mailboxes are named as an admin sees them. */
static enum errcode
names_to_internal(struct request *q, const struct config *cfg,
                  struct error *err)
{
    const struct namespace ns = {
        .sep = config_switch(cfg, "unixhierarchysep") ? '/' : '.',
        .alt = config_switch(cfg, "altnamespace"),
        .user_prefix = config_string(cfg, "userprefix"),
        .shared_prefix = config_string(cfg, "sharedprefix"),
    };
    AUTO(arena_free) struct arena a = ARENA_INIT;

    for (size_t i = 0; q->mode == 'm' && i < q->nnames; i++) {
        const char *name = NULL;
        enum errcode rc = name_to_internal(
            &ns, NULL, true, span_str(q->names[i]), &a, &name, err);
        if (rc != ERR_OK)
            return error_prefix(err, "%s", q->names[i]);
        xfree(&q->names[i]);
        q->names[i] = xstrdup(name);
    }
    return ERR_OK;
}

static void
free_names(struct request *q)
{
    for (size_t i = 0; i < q->nnames; i++)
        xfree(&q->names[i]);
    xfree(&q->names);
}

/* Seconds of -t, -w; false: said. */
static bool
take_seconds(int opt, uint32_t *ret)
{
    uint32_t seconds = 0;

    if (!parse_u32(span_str(optarg), &seconds) || seconds > 86400) {
        fprintf(stderr, "sync_client: -%c takes seconds\n", opt);
        return false;
    }
    *ret = seconds;
    return true;
}

static bool
is_rolling(int mode)
{
    return mode == 'r' || mode == 'R';
}

/* Those that say what is to be done; false: not one. */
static bool
take_mode(int opt, struct request *q)
{
    switch (opt) {
    case 'M':
        opt = 'u';
        /* fall through */
    case 'u':
    case 'm':
    case 's':
    case 'A':
    case 'r':
    case 'R':
    case '1':
        /* "-r -1" is how Cyrus writes it. */
        if (q->mode == '1' && is_rolling(opt))
            return true;
        q->is_torn |= q->mode != 0 && q->mode != opt &&
                      !(is_rolling(q->mode) && (is_rolling(opt) || opt == '1'));
        q->mode = opt;
        return true;
    case OPT_DRY_RUN:
        q->dry_run = true;
        return true;
    case OPT_DIFF:
        q->diff = true;
        q->verify = true;
        return true;
    case OPT_VERIFY:
        q->verify = true;
        return true;
    default:
        return false;
    }
}

/* Those of the way by state; false: not one. */
static bool
take_push_option(int opt, struct request *q)
{
    switch (opt) {
    case 'b':
        q->by_state = true;
        return true;
    case 'p':
        q->push.partition = optarg;
        return true;
    case 'O':
        q->push.force = true;
        return true;
    case OPT_REMOVE_EXTRA:
        q->push.remove_extra = true;
        return true;
    case OPT_WRONG_WAY:
        q->push.wrong_way = true;
        return true;
    case OPT_ANEW:
        q->push.anew = true;
        return true;
    case OPT_REMAINDER:
        q->push.remainder = optarg;
        return true;
    case OPT_JOBS:
        if (parse_u32(span_str(optarg), &q->push.jobs) && q->push.jobs >= 1 &&
            q->push.jobs <= PUSH_JOBS_MAX)
            return true;
        fprintf(stderr, "sync_client: --jobs takes 1 to %u\n", PUSH_JOBS_MAX);
        return false;
    default:
        return false;
    }
}

/* The others; false: not one, or a bad value. */
static bool
take_option(int opt, struct request *q)
{
    uint32_t seconds = 0;

    switch (opt) {
    case 'C':
        q->conf = optarg;
        return true;
    case 'f':
        q->input = optarg;
        return true;
    case 'z':
        q->ship.require_compress = true;
        return true;
    case 'l':
        q->log_more = true;
        return true;
    case 'n':
        q->ship.channel = optarg[0] == '\0' ? INSTANCE_CHANNEL : optarg;
        return true;
    case 'S':
        q->ship.host = optarg;
        return true;
    case 'F':
        q->end_file = optarg;
        return true;
    case 'o':
        q->ship.connect_once = true;
        return true;
    case 'v':
        q->ship.verbose = true;
        return true;
    case 'w':
        return take_seconds(opt, &q->wait_s);
    case 'd':
        return take_seconds(opt, &q->push.delay_s);
    case 't':
        if (!take_seconds(opt, &seconds))
            return false;
        q->ship.timeout_ms = (int)seconds * 1000;
        return true;
    case 'N':
    case 'L':
    case 'a':
        return true;
    default:
        return false;
    }
}

/* Why options and names do not go together, or NULL. */
static const char *
what_is_wrong(const struct request *q)
{
    const bool has_names = q->nnames > 0 || q->input != NULL;
    const bool is_named = q->mode == 'u' || q->mode == 'm' || q->mode == 's';

    if (q->is_torn)
        return "give one of -r, -R, -1, -A, -u, -m and -s";
    if (q->mode == 0 && !q->verify && !q->dry_run)
        return "say what to do: -r, -R, -1, -A, -u, -m, -s or --verify";
    if (is_named && !has_names)
        return "-u, -m and -s want names, or -f with a file of names";
    if (!is_named && q->mode != 'A' && has_names)
        return q->input != NULL ? "-f goes with -u, -m, -s and -A"
                                : "names go with -u, -m, -s and -A";
    if (is_rolling(q->mode) && (q->verify || q->dry_run))
        return "--verify and --dry-run do not go with -r";
    if (q->push.remainder != NULL && q->mode != 'A' && q->mode != 'u' &&
        q->mode != 's')
        return "--remainder goes with -A, -u and -s";
    return NULL;
}

/* Exit code to end with at once, or -1. */
static int
take_options(int argc, char **argv, struct request *q)
{
    int opt;

    while (
        (opt = getopt_long(argc, argv, "C:AumsMrR1n:S:f:F:d:t:w:oNObp:Lzalvh",
                           long_options, NULL)) != -1) {
        if (opt == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        if (!take_mode(opt, q) && !take_push_option(opt, q) &&
            !take_option(opt, q)) {
            fputs(see_help, stderr);
            return EXIT_USAGE;
        }
    }
    for (; optind < argc && q->mode != 0 && strchr("umsA", q->mode) != NULL;
         optind++)
        add_name(q, argv[optind]);
    const char *wrong =
        optind < argc ? "names go with -u, -m, -s and -A" : what_is_wrong(q);
    if (wrong == NULL)
        return -1;
    fprintf(stderr, "sync_client: %s\n%s", wrong, see_help);
    return EXIT_USAGE;
}

static enum errcode
verify(struct request *q, enum verify_result *ret, struct error *err)
{
    const char *const *names = (const char *const *)q->names;
    const struct verify_names what = {
        .prefixes = q->mode == 'A' ? names : NULL,
        .users = q->mode == 'u' || q->mode == 's' ? names : NULL,
        .mailboxes = q->mode == 'm' ? names : NULL,
    };

    return verify_run(&q->ship, &what, q->diff, ret, err);
}

static enum errcode
push(struct request *q, struct error *err)
{
    q->push.ship = &q->ship;
    q->push.dry_run = q->dry_run;
    q->push.mode = q->mode == 'A'   ? PUSH_ALL
                   : q->mode == 'u' ? PUSH_USERS
                   : q->mode == 'm' ? PUSH_MAILBOXES
                   : q->mode == 's' ? PUSH_META
                   : q->mode == '1' ? PUSH_ONCE
                                    : PUSH_ROLLING;
    q->push.names = (const char *const *)q->names;
    q->push.nnames = q->nnames;
    return push_run(&q->push, err);
}

/* What is asked for; *RET is of what was compared. */
static enum errcode
run(struct request *q, enum verify_result *ret, struct error *err)
{
    const struct ship_options *o = &q->ship;

    if (q->mode != 0 && !q->verify && (q->by_state || push_is_wanted(o)))
        return push(q, err);
    if (q->dry_run)
        return ship_dry_run(o, err);
    if (q->verify)
        return verify(q, ret, err);
    switch (q->mode) {
    case 'A': /* within a cluster all comes by the log; a prefix is proved */
    case 'u':
    case 's':
    case 'm': {
        enum errcode rc = ship_all(o, err);
        return rc == ERR_OK && q->nnames > 0 ? verify(q, ret, err) : rc;
    }
    }
    return ship_rolling(o, err);
}

/* The instance looks at its fence itself, and ends rolling clients by it. */
static void
watch_end_file(struct request *q, const struct config *cfg)
{
    const struct ship_options *o = &q->ship;
    const char *fence = config_string(cfg, "sync_shutdown_file");
    const char *file =
        q->end_file != NULL
            ? q->end_file
            : config_channel_string(cfg, o->channel, "sync_shutdown_file");

    end_file.env = o->env;
    end_file.log_dir = o->log_dir;
    end_file.channel = o->channel;
    if (is_rolling(q->mode) && file != NULL && file[0] != '\0' &&
        (fence == NULL || strcmp(file, fence) != 0))
        end_file.file = file;
}

/* A mistyped name would be a slot that keeps the log for nobody. */
static enum errcode
check_channel(const struct ship_options *o, struct error *err)
{
    const char *const *listed = config_list(o->cfg, "sync_log_channels");

    if (o->host != NULL || strcmp(o->channel, INSTANCE_CHANNEL) == 0 ||
        config_channel_string(o->cfg, o->channel, "sync_host") !=
            config_string(o->cfg, "sync_host"))
        return ERR_OK;
    for (; *listed != NULL; listed++)
        if (strcasecmp(*listed, o->channel) == 0)
            return ERR_OK;
    return error_set(err, ERR_NOTFOUND,
                     "there is no channel of the name %s: set %s_sync_host in "
                     "imapd.conf, or name it in sync_log_channels",
                     o->channel, o->channel);
}

static enum errcode
ship(struct request *q, const struct config *cfg, enum verify_result *ret,
     struct error *err)
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
    watch_end_file(q, cfg);
    enum errcode rc = check_channel(o, err);
    if (rc == ERR_OK)
        rc = read_names(q, err);
    if (rc == ERR_OK)
        rc = names_to_internal(q, cfg, err);
    if (q->wait_s > 0) {
        struct timespec left = {.tv_sec = q->wait_s};
        while (!is_stopped(NULL) && nanosleep(&left, &left) != 0)
            ;
    }
    return rc == ERR_OK ? run(q, ret, err) : rc;
}

int
main(int argc, char **argv)
{
    struct request q = {.conf = getenv(CHILD_ENV_CONF),
                        .ship = {.channel = INSTANCE_CHANNEL}};
    AUTO(config_free) struct config *cfg = NULL;
    enum verify_result result = VERIFY_EQUAL;
    struct error err = {0};

    int code = take_options(argc, argv, &q);
    if (code >= 0) {
        free_names(&q);
        return code;
    }
    enum errcode rc = config_read(
        env_system(), q.conf == NULL ? "/etc/imapd.conf" : q.conf, &cfg, &err);
    bool in_background = q.mode == 'r' && !is_our_child();
    bool is_logged = is_our_child();
    if (rc == ERR_OK && in_background)
        rc = go_into_background(&err);
    if (rc == ERR_OK)
        rc = open_log(cfg, in_background, q.log_more, &err);
    if (rc == ERR_OK)
        rc = sasl_library_start(cfg, "pollux", &err);
    if (rc == ERR_OK) {
        take_signals();
        if (in_background)
            leave_terminal();
        is_logged |= in_background;
        rc = ship(&q, cfg, &result, &err);
        sasl_library_stop();
    }
    free_names(&q);
    if (stopped == 0 && end_file.is_due && !end_file.is_complete)
        rc = error_set(&err, ERR_CLOSED,
                       "ended by %s; the replica has not all that is durable "
                       "here",
                       end_file.file);
    else if (stopped != 0 || end_file.is_due)
        rc = ERR_OK;
    if (rc != ERR_OK) {
        if (is_logged)
            log_error(NULL, "sync.ended", "code=%s why=\"%s\"",
                      errcode_name(rc), err.text);
        else
            fprintf(stderr, "sync_client: %s\n", err.text);
        return 1;
    }
    log_close();
    return result == VERIFY_EQUAL    ? 0
           : result == VERIFY_BEHIND ? EXIT_BEHIND
                                     : EXIT_UNEQUAL;
}
