/*
 * cmd/synclog.c - look into the log of an instance, running or not.
 *
 *   synclog dump   [-C imapd.conf | DIR] [--from LSN] [--to LSN] [--json]
 *   synclog verify [-C imapd.conf | DIR]
 *
 * Nothing is changed.  Exit status: 0 the log is whole (a torn tail is only
 * noted), 1 it is damaged, 2 it could not be looked at, or the command line is
 * wrong.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/config.h"
#include "store/record.h"
#include "synclog/synclog.h"

enum { EXIT_WHOLE = 0, EXIT_DAMAGE = 1, EXIT_USAGE = 2 };

#define DEFAULT_CONFIG "/etc/imapd.conf"

struct options {
    const char *config; /* imapd.conf, or NULL */
    const char *dir;    /* as given, or NULL */
    lsn_t from, to;
    bool json;
};

static int
usage(FILE *to)
{
    fputs("usage: synclog dump   [-C imapd.conf | DIR] [--from LSN] [--to LSN]"
          " [--json]\n"
          "       synclog verify [-C imapd.conf | DIR]\n"
          "\n"
          "dump prints one line for each record of the log; verify checks\n"
          "every byte of it.  DIR is the log's directory; without DIR it is\n"
          "<configdirectory>/synclog of imapd.conf (" DEFAULT_CONFIG ").\n"
          "Exit status: 0 whole, 1 damaged, 2 could not be looked at.\n",
          to);
    return to == stdout ? EXIT_WHOLE : EXIT_USAGE;
}

/* The log's directory, which the caller frees; NULL after a complaint. */
static char *
log_dir(const struct options *o)
{
    const char *path = o->config == NULL ? DEFAULT_CONFIG : o->config;
    AUTO(config_free) struct config *cfg = NULL;
    struct error err = {0};

    if (o->dir != NULL)
        return xstrdup(o->dir);
    if (config_read(env_system(), path, &cfg, &err) != ERR_OK) {
        fprintf(stderr, "synclog: %s\n", err.text);
        return NULL;
    }
    const char *dir = config_string(cfg, "configdirectory");
    if (dir == NULL) {
        fprintf(stderr, "synclog: %s names no configdirectory\n", path);
        return NULL;
    }
    return xasprintf("%s/synclog", dir);
}

/* Is somebody writing to the log in DIR right now? */
static bool
is_running(const char *dir)
{
    const struct synclog_mark *mark = NULL;
    struct error ignored = {0};

    if (mark_attach(dir, &mark, &ignored) != ERR_OK || mark == NULL)
        return false;
    uint32_t pid = atomic_load(&mark->writer_pid);
    mark_detach(&mark);
    return pid != 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

/* What a person reads for a record type. */
static void
type_text(uint8_t type, char out[32])
{
    const char *name = record_type_name(type);

    if (name == NULL)
        snprintf(out, 32, "type-%u", type);
    else
        snprintf(out, 32, "%s", name);
}

static void
time_text(uint64_t time_us, char out[40])
{
    time_t seconds = (time_t)(time_us / 1000000);
    struct tm tm;
    char date[24];

    if (gmtime_r(&seconds, &tm) == NULL ||
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        snprintf(date, sizeof(date), "?");
    snprintf(out, 40, "%s.%06uZ", date, (unsigned)(time_us % 1000000));
}

static void
print_record(const struct options *o, const struct record *rec,
             uint64_t time_us, uint64_t segment, uint64_t offset)
{
    char type[32], when[40];

    AUTO(buf_free) struct buf what = BUF_INIT;

    type_text(rec->type, type);
    time_text(time_us, when);
    if (!o->json)
        record_describe(rec, &what);
    printf(o->json ? "{\"lsn\":%" PRI_LSN ",\"epoch\":%" PRI_EPOCH
                     ",\"time\":\"%s\",\"type\":\"%s\",\"bytes\":%zu,"
                     "\"segment\":%" PRIu64 ",\"offset\":%" PRIu64 "}\n"
                   : "lsn=%" PRI_LSN " epoch=%" PRI_EPOCH
                     " time=%s type=%s bytes=%zu at=%" PRIu64 ":%" PRIu64
                     " %s\n",
           rec->lsn, rec->epoch, when, type, rec->body.n, segment, offset,
           buf_cstr(&what));
}

static void
print_frame(void *ctx, uint64_t segment, uint64_t offset,
            const struct frame_head *head, struct span payload)
{
    const struct options *o = ctx;
    struct record rec = {0};
    size_t pos = 0, at = 0;

    while (frame_next_record(head, payload, &pos, &rec)) {
        if (rec.lsn >= o->from && rec.lsn <= o->to)
            print_record(o, &rec, head->time_us, segment,
                         offset + FRAME_HEADER_BYTES + at);
        at = pos;
    }
}

/* One sentence about what went wrong; returns the exit status. */
static int
complain(const char *dir, enum errcode rc, const struct error *err)
{
    if (rc == ERR_CORRUPT || rc == ERR_IO || rc == ERR_HISTORY) {
        fprintf(stderr, "The log in %s is damaged: %s\n", dir, err->text);
        return EXIT_DAMAGE;
    }
    if (rc == ERR_NOTFOUND)
        fprintf(stderr, "There is no log in %s.\n", dir);
    else
        fprintf(stderr, "The log in %s could not be read: %s\n", dir,
                err->text);
    return EXIT_USAGE;
}

static int
dump(const struct options *o, const char *dir)
{
    struct options copy = *o;
    struct synclog_recovery found = {0};
    struct error err = {0};
    uint64_t torn = 0;

    enum errcode rc = synclog_verify(env_system(), dir, print_frame, &copy,
                                     &found, &torn, &err);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "synclog: the output could not be written\n");
        return EXIT_USAGE;
    }
    return rc == ERR_OK ? EXIT_WHOLE : complain(dir, rc, &err);
}

static int
verify(const struct options *o, const char *dir)
{
    struct synclog_recovery found = {0};
    struct error err = {0};
    uint64_t torn = 0;

    (void)o;
    bool running = is_running(dir);
    enum errcode rc =
        synclog_verify(env_system(), dir, NULL, NULL, &found, &torn, &err);
    if (rc != ERR_OK)
        return complain(dir, rc, &err);
    if (found.first_lsn == LSN_NONE)
        printf("The log in %s is whole; it holds no records and goes on behind "
               "LSN %" PRI_LSN ".\n",
               dir, found.last.lsn);
    else
        printf("The log in %s is whole: LSN %" PRI_LSN " to %" PRI_LSN
               ", epoch %" PRI_EPOCH ", chain %016" PRIx64 ".\n",
               dir, found.first_lsn, found.last.lsn, found.last.epoch,
               found.chain);
    if (torn > 0 && running)
        printf("Its last %" PRIu64 " bytes are being written by the running "
               "instance.\n",
               torn);
    else if (torn > 0)
        printf("Its last %" PRIu64 " bytes are a torn tail, which nothing "
               "proves durable; the next start keeps them aside and cuts "
               "them.\n",
               torn);
    return EXIT_WHOLE;
}

static bool
parse_options(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        {"from", required_argument, NULL, 'f'},
        {"to", required_argument, NULL, 't'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "C:", options, NULL)) != -1) {
        if (c == 'C')
            o->config = optarg;
        else if (c == 'j')
            o->json = true;
        else if ((c == 'f' || c == 't') &&
                 !parse_u64(span_str(optarg), c == 'f' ? &o->from : &o->to)) {
            fprintf(stderr, "synclog: \"%s\" is not an LSN\n", optarg);
            return false;
        } else if (c == '?') {
            return false;
        }
    }
    if (optind < argc)
        o->dir = argv[optind++];
    if (optind < argc || (o->dir != NULL && o->config != NULL)) {
        fputs("synclog: name one directory, or one imapd.conf\n", stderr);
        return false;
    }
    return true;
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const struct options *, const char *dir);
    } commands[] = {{"dump", dump}, {"verify", verify}};
    struct options o = {.from = 0, .to = UINT64_MAX};

    if (argc > 1 &&
        (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return usage(stdout);
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        if (!parse_options(argc - 1, argv + 1, &o))
            return usage(stderr);
        AUTO(xfree) char *dir = log_dir(&o);
        return dir == NULL ? EXIT_USAGE : commands[i].run(&o, dir);
    }
    return usage(stderr);
}
