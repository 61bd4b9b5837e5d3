/*
 * cmd/synclog.c - look into the log of an instance, running or not.
 *
 *   synclog dump   [-C imapd.conf | DIR] [--from LSN] [--to LSN] [--json]
 *   synclog verify [-C imapd.conf | DIR]
 *   synclog repair [-C imapd.conf]
 *
 * dump and verify change nothing; repair fetches what is damaged from the twin,
 * while the instance is stopped.  Exit status: 0 the log is whole (a torn tail
 * is only noted), 1 it is damaged, or something else is (verify of a running
 * instance shows its register of damage), 2 it could not be looked at, or the
 * command line is wrong.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/config.h"
#include "csync/repair.h"
#include "failover/nodefile.h"
#include "net/sasl.h"
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
          "       synclog repair [-C imapd.conf]\n"
          "\n"
          "dump prints one line for each record of the log; verify checks\n"
          "every byte of it, and of a running instance names the messages\n"
          "that are damaged; repair fetches what is damaged in the log of a\n"
          "stopped instance from its twin.  DIR is the log's directory; "
          "without DIR it is\n"
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

struct damage_lines {
    uint64_t count;
};

/* One entry of the register: "* DAMAGED %(...)". */
static void
on_damaged(void *ctx, const struct dlist *d)
{
    struct damage_lines *lines = ctx;
    struct arena a = ARENA_INIT;
    const char *kind = "", *guid = NULL, *home = "", *why = "", *mailbox = "";
    uint64_t file = 0, offset = 0, lost = 0, uid = 0;

    if (span_eq_str(d->name, "DAMAGE"))
        (void)!dlist_get_u64(d, "COUNT", &lines->count);
    if (!span_eq_str(d->name, "DAMAGED"))
        return;
    (void)!dlist_get_str(d, "KIND", &a, &kind);
    (void)!dlist_get_str(d, "GUID", &a, &guid);
    (void)!dlist_get_str(d, "HOME", &a, &home);
    (void)!dlist_get_str(d, "WHY", &a, &why);
    (void)!dlist_get_u64(d, "FILE", &file);
    (void)!dlist_get_u64(d, "OFFSET", &offset);
    (void)!dlist_get_u64(d, "LOST", &lost);
    printf("damaged: %s%s%s in %s %" PRIx64 " at %" PRIu64 ": %s%s\n", kind,
           guid == NULL ? "" : " ", guid == NULL ? "" : guid, home, file,
           offset, why, lost != 0 ? " (no twin has it)" : "");
    const struct dlist *list = dlist_get(d, "MESSAGES");
    for (const struct dlist *m = list == NULL ? NULL : list->child; m != NULL;
         m = m->next)
        if (dlist_get_str(m, "MAILBOX", &a, &mailbox) &&
            dlist_get_u64(m, "UID", &uid))
            printf("  hurts %s UID %" PRIu64 "\n", mailbox, uid);
    arena_free(&a);
}

/* What the running instance of imapd.conf knows to be damaged; exit status. */
static int
show_register(const struct options *o)
{
    AUTO(config_free) struct config *cfg = NULL;
    AUTO(csync_client_close) struct csync_client *c = NULL;
    struct damage_lines lines = {0};
    struct error err = {0};

    if (o->dir != NULL ||
        config_read(env_system(),
                    o->config == NULL ? DEFAULT_CONFIG : o->config, &cfg,
                    &err) != ERR_OK)
        return EXIT_WHOLE;
    enum errcode rc = csync_connect_control(
        config_string(cfg, "control_socket"), 10000, &c, &err);
    if (rc == ERR_NOTFOUND || rc == ERR_CLOSED)
        return EXIT_WHOLE; /* it does not run */
    if (rc == ERR_OK)
        rc =
            csync_command(c, SPAN_LIT("NODE DAMAGE"), on_damaged, &lines, &err);
    if (rc != ERR_OK) {
        fprintf(stderr, "synclog: the instance could not be asked: %s\n",
                err.text);
        return EXIT_USAGE;
    }
    if (lines.count > 0)
        printf("%" PRIu64 " places are known to be damaged.\n", lines.count);
    return lines.count > 0 ? EXIT_DAMAGE : EXIT_WHOLE;
}

static int
verify(const struct options *o, const char *dir)
{
    struct synclog_recovery found = {0};
    struct error err = {0};
    uint64_t torn = 0;

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
    return running ? show_register(o) : EXIT_WHOLE;
}

static int
repaired(const char *dir, const char *host, const struct synclog_mended *done)
{
    if (done->places == 0) {
        printf("The log in %s is whole: nothing had to be repaired.\n", dir);
        return EXIT_WHOLE;
    }
    printf("Repaired %u place%s of the log in %s, %" PRIu64 " bytes",
           done->places, done->places == 1 ? "" : "s", dir, done->bytes);
    if (done->first != LSN_NONE)
        printf(", with LSN %" PRI_LSN " to %" PRI_LSN " of %s", done->first,
               done->last, host == NULL ? "the twin" : host);
    printf("; what lay there is kept in its damaged-* files.\n");
    return EXIT_WHOLE;
}

static int
repair(const struct options *o, const char *dir)
{
    AUTO(config_free) struct config *cfg = NULL;
    struct synclog_mended done = {0};
    struct nodefile node = {0};
    struct error err = {0};
    const char *host = NULL;

    if (o->dir != NULL) {
        fputs("synclog: repair wants an imapd.conf, for the twin is named "
              "there\n",
              stderr);
        return EXIT_USAGE;
    }
    enum errcode rc =
        config_read(env_system(),
                    o->config == NULL ? DEFAULT_CONFIG : o->config, &cfg, &err);
    if (rc == ERR_OK) {
        AUTO(xfree)
        char *path =
            xasprintf("%s/node", config_string(cfg, "configdirectory"));
        rc = nodefile_read(env_system(), path, &node, &err);
    }
    if (rc == ERR_OK)
        rc = sasl_library_start(cfg, "pollux", &err);
    if (rc == ERR_OK) {
        rc = repair_log(env_system(), cfg, &node.cluster, &node.instance, &done,
                        &host, &err);
        sasl_library_stop();
    }
    if (rc == ERR_OK)
        return repaired(dir, host, &done);
    if (done.places > 0)
        (void)repaired(dir, host, &done);
    fprintf(stderr, "The log in %s could not be repaired: %s.%s\n", dir,
            err.text,
            rc == ERR_GAP || rc == ERR_HISTORY || rc == ERR_CORRUPT
                ? "  If the twin is whole, run 'ctl_failover promote' there "
                  "and 'ctl_failover rejoin' here: it seeds this instance."
                : "");
    return rc == ERR_BUSY || rc == ERR_NOTFOUND ? EXIT_USAGE : EXIT_DAMAGE;
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
    } commands[] = {{"dump", dump}, {"verify", verify}, {"repair", repair}};
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
