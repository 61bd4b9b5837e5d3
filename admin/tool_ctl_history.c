/*
 * admin/tool_ctl_history.c - ctl_history: what was purged and is kept
 * (sync_keep_history), listed, given out and let go of.
 *
 * All of it is asked of the instance; `export` is written by it, as its own
 * user.  History is the instance's own, so a replica is asked as well as a
 * master.
 */
#include "admin/tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: ctl_history list [-C imapd.conf] [-u USER | -m MAILBOX]\n"
    "                  [--since WHEN] [--until WHEN] [--headers] [--json]\n"
    "       ctl_history cat [-C imapd.conf] GUID\n"
    "       ctl_history cat [-C imapd.conf] -m MAILBOX UID\n"
    "       ctl_history export [-C imapd.conf] {-u USER | -m MAILBOX}\n"
    "                  [--since WHEN] [--until WHEN]\n"
    "                  [--format maildir|mbox] TARGET\n"
    "       ctl_history drop [-C imapd.conf] {-u USER | -m MAILBOX}\n"
    "                  [--since WHEN] [--until WHEN]\n"
    "  list      messages that were purged and are kept here, oldest first\n"
    "  cat       one of them on standard output, byte for byte\n"
    "  export    into the empty directory TARGET, as ctl_backup does.  The\n"
    "            instance writes it, as its own user, so it is on its "
    "machine.\n"
    "  drop      let go of them for good, here and now\n"
    "  -u USER   in mailboxes of this user\n"
    "  -m MAILBOX     in this one, also if it was deleted since\n"
    "  --since WHEN   purged then or later: 2026-11-22, 2026-11-22T18:30:00\n"
    "            (UTC), or so long ago: 7d, 12h\n"
    "  --until WHEN   purged earlier than that\n"
    "  --headers date, sender and subject too: reads each message\n";

struct options {
    const char *command, *user, *mailbox, *what;
    uint64_t since_us, until_us;
    bool has_since, has_until, headers, mbox;
};

struct showing {
    struct tool *t;
    bool headers, any;
    uint64_t failed;
    uint64_t found, kept, kept_bytes;
    bool has_sum;
    bool cannot_write;
};

/* "7d": so long ago; else a date, in UTC. */
static bool
when_of(const char *text, uint64_t *ret_us)
{
    uint64_t ago_s = 0;
    struct tm tm = {0};

    if (tool_duration(text, 'd', &ago_s)) {
        const time_t now = time(NULL);
        *ret_us = ago_s >= (uint64_t)now
                      ? 0
                      : ((uint64_t)now - ago_s) * UINT64_C(1000000);
        return true;
    }
    const char *end = strptime(text, "%Y-%m-%d", &tm);
    if (end != NULL && (*end == 'T' || *end == ' '))
        end = strptime(end + 1, "%H:%M:%S", &tm);
    if (end != NULL && *end == 'Z')
        end++;
    const time_t at = end == NULL || *end != '\0' ? -1 : timegm(&tm);
    *ret_us = (uint64_t)at * 1000000;
    return at >= 0;
}

static const char *
utc(uint64_t seconds, char out[32])
{
    const time_t t = (time_t)seconds;
    struct tm tm;

    if (seconds == 0 || gmtime_r(&t, &tm) == NULL ||
        strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(out, 32, "-");
    return out;
}

/* ---- list --------------------------------------------------------------- */

static void
print_json(struct showing *s, const struct dlist *row)
{
    static const struct {
        const char *key, *name;
        bool is_header;
    } texts[] = {{"USER", "user", false},      {"UNIQUEID", "uniqueid", false},
                 {"GUID", "guid", false},      {"FLAGS", "flags", false},
                 {"WAY", "way", false},        {"SENT", "sent", true},
                 {"FROM", "from", true},       {"TO", "to", true},
                 {"SUBJECT", "subject", true}, {"WRONG", "wrong", true}};
    static const struct {
        const char *key, *name;
    } numbers[] = {{"UIDVALIDITY", "uidvalidity"},
                   {"UID", "uid"},
                   {"SIZE", "size"},
                   {"RECV", "received"},
                   {"MODSEQ", "modseq"},
                   {"EXPG", "expunged"},
                   {"EPOCH", "epoch"},
                   {"LSN", "lsn"}};
    FILE *f = s->t->out;

    AUTO(arena_free) struct arena a = ARENA_INIT;
    fprintf(f, "%s{\"mailbox\": ", s->any ? ",\n" : "[\n");
    s->any = true;
    tool_json_string(f, span_str(tool_external(
                            s->t, arena_str(&a, row_text(row, "BEFORE")))));
    fputs(", \"name\": ", f);
    tool_json_string(f, row_text(row, "NAME"));
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i].is_header && !s->headers)
            continue;
        fprintf(f, ", \"%s\": ", texts[i].name);
        tool_json_string(f, row_text(row, texts[i].key));
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        fprintf(f, ", \"%s\": %" PRIu64, numbers[i].name,
                row_u64(row, numbers[i].key));
    fprintf(f, ", \"purged_us\": %" PRIu64 "}", row_u64(row, "PURGED"));
}

static void
print_text(struct showing *s, const struct dlist *row)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    FILE *f = s->t->out;
    const bool is_seeded = span_eq_str(row_text(row, "WAY"), "seeded");
    char purged[32], expunged[32], received[32];

    fprintf(f,
            "%s %s uid %" PRIu64 " %.*s %" PRIu64
            " bytes, received %s, expunged %s%s\n",
            utc(row_u64(row, "PURGED") / 1000000, purged),
            tool_external(s->t, arena_str(&a, row_text(row, "BEFORE"))),
            row_u64(row, "UID"), SPAN_FMT(row_text(row, "GUID")),
            row_u64(row, "SIZE"), utc(row_u64(row, "RECV"), received),
            utc(row_u64(row, "EXPG"), expunged),
            is_seeded ? ", missed: purged before this instance was seeded"
                      : "");
    if (!s->headers)
        return;
    fprintf(f, "    %.*s  %.*s  %.*s\n", SPAN_FMT(row_text(row, "SENT")),
            SPAN_FMT(row_text(row, "FROM")),
            SPAN_FMT(row_text(row, "SUBJECT")));
    if (row_text(row, "WRONG").n > 0)
        fprintf(f, "    it cannot be read: %.*s\n",
                SPAN_FMT(row_text(row, "WRONG")));
}

static void
on_row(void *ctx, const struct dlist *row)
{
    struct showing *s = ctx;

    if (row_is(row, "SUM")) {
        s->has_sum = true;
        s->found = row_u64(row, "FOUND");
        s->kept = row_u64(row, "KEPT");
        s->kept_bytes = row_u64(row, "KEPTBYTES");
    } else if (s->t->json) {
        print_json(s, row);
    } else {
        print_text(s, row);
    }
}

static void
add_question(struct tool *t, const struct options *o)
{
    if (o->user != NULL)
        dlist_str(&t->args, "USER", o->user);
    if (o->mailbox != NULL)
        dlist_str(&t->args, "NAME", o->mailbox);
    if (o->has_since)
        dlist_u64(&t->args, "SINCE", o->since_us);
    if (o->has_until)
        dlist_u64(&t->args, "UNTIL", o->until_us);
}

static int
run_list(struct tool *t, const struct options *o)
{
    struct showing s = {.t = t, .headers = o->headers};

    tool_request(t, "HISTORY");
    add_question(t, o);
    if (o->headers)
        dlist_u64(&t->args, "HEADERS", 1);
    const int code = tool_ask(t, on_row, &s);
    if (t->json && (s.any || code == TOOL_OK))
        fputs(s.any ? "\n]\n" : "[]\n", t->out);
    if (!t->json && s.has_sum)
        fprintf(t->out,
                "%" PRIu64 " of %" PRIu64 " purged messages (%.1f MiB) that "
                "are kept here\n",
                s.found, s.kept, (double)s.kept_bytes / (1 << 20));
    return code;
}

/* ---- cat, export -------------------------------------------------------- */

static void
on_data(void *ctx, const struct dlist *row)
{
    struct showing *s = ctx;
    const struct span bytes = row_text(row, "BYTES");

    if (bytes.n > 0 && fwrite(bytes.p, 1, bytes.n, s->t->out) != bytes.n)
        s->cannot_write = true;
}

static int
run_cat(struct tool *t, const struct options *o)
{
    struct showing s = {.t = t};

    tool_request(t, "HISTORYBODY");
    add_question(t, o);
    dlist_str(&t->args, o->mailbox != NULL ? "UIDS" : "GUID", o->what);
    const int code = tool_ask(t, on_data, &s);
    if (s.cannot_write || fflush(t->out) != 0)
        return tool_say(t, TOOL_IO, "standard output: %s", strerror(errno));
    return code;
}

static void
on_exported(void *ctx, const struct dlist *row)
{
    struct showing *s = ctx;

    if (row_is(row, "FAILED")) {
        s->failed++;
        (void)tool_say(s->t, 0, "%.*s, UID %" PRIu64 ": %.*s",
                       SPAN_FMT(row_text(row, "NAME")), row_u64(row, "UID"),
                       SPAN_FMT(row_text(row, "TEXT")));
        return;
    }
    fprintf(s->t->out,
            s->t->json ? "{\"folders\":%" PRIu64 ",\"messages\":%" PRIu64
                         ",\"bytes\":%" PRIu64 "}\n"
                       : "%" PRIu64 " folders, %" PRIu64 " messages, %" PRIu64
                         " bytes\n",
            row_u64(row, "FOLDERS"), row_u64(row, "MESSAGES"),
            row_u64(row, "BYTES"));
}

static int
run_export(struct tool *t, const struct options *o)
{
    struct showing s = {.t = t};
    AUTO(xfree) char *here = getcwd(NULL, 0);
    AUTO(xfree)
    char *target = o->what[0] == '/' || here == NULL
                       ? xstrdup(o->what)
                       : xasprintf("%s/%s", here, o->what);

    tool_request(t, "HISTORYEXPORT");
    add_question(t, o);
    dlist_str(&t->args, "TARGET", target);
    dlist_u64(&t->args, "MBOX", o->mbox);
    const int code = tool_ask(t, on_exported, &s);
    return code == TOOL_OK && s.failed > 0 ? TOOL_DIFFERS : code;
}

/* ---- drop --------------------------------------------------------------- */

static void
on_dropped(void *ctx, const struct dlist *row)
{
    const struct showing *s = ctx;

    fprintf(s->t->out,
            s->t->json ? "{\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 "}\n"
                       : "%" PRIu64 " messages, %" PRIu64
                         " bytes are not kept any more\n",
            row_u64(row, "MESSAGES"), row_u64(row, "BYTES"));
}

static int
run_drop(struct tool *t, const struct options *o)
{
    struct showing s = {.t = t};

    tool_request(t, "HISTORYDROP");
    add_question(t, o);
    return tool_ask(t, on_dropped, &s);
}

/* ---- the program -------------------------------------------------------- */

static const struct {
    const char *name;
    int (*run)(struct tool *t, const struct options *o);
    bool takes_word;
} commands[] = {
    {"list", run_list, false},
    {"cat", run_cat, true},
    {"export", run_export, true},
    {"drop", run_drop, false},
};

static int
run_command(struct tool *t, struct options *o, int argc, char **argv)
{
    size_t i = 0;

    if (optind >= argc)
        return tool_usage(t, "a command is needed");
    o->command = argv[optind];
    while (i < ARRAY_LEN(commands) && strcmp(o->command, commands[i].name) != 0)
        i++;
    if (i == ARRAY_LEN(commands))
        return tool_usage(t, "%s is not a command", o->command);
    if (argc - optind - 1 != commands[i].takes_word)
        return tool_usage(t, "%s takes %s", o->command,
                          !commands[i].takes_word ? "options only"
                          : commands[i].run == run_cat
                              ? "a GUID, or -m MAILBOX and a UID"
                              : "a directory");
    if (o->user != NULL && o->mailbox != NULL)
        return tool_usage(t, "-u and -m do not go together");
    if ((commands[i].run == run_export || commands[i].run == run_drop) &&
        o->user == NULL && o->mailbox == NULL)
        return tool_usage(t, "%s needs -u or -m", o->command);
    if (commands[i].run == run_cat && (o->user != NULL || t->json))
        return tool_usage(t, "cat takes neither -u nor --json");
    o->what = commands[i].takes_word ? argv[optind + 1] : NULL;
    const int code = tool_begin(t);
    return code == TOOL_OK ? commands[i].run(t, o) : code;
}

static int
run(struct tool *t, int argc, char **argv)
{
    enum { OPT_SINCE = 256, OPT_UNTIL, OPT_HEADERS, OPT_FORMAT };
    static const struct option options[] = {
        {"since", required_argument, NULL, OPT_SINCE},
        {"until", required_argument, NULL, OPT_UNTIL},
        {"headers", no_argument, NULL, OPT_HEADERS},
        {"format", required_argument, NULL, OPT_FORMAT},
        {NULL, 0, NULL, 0},
    };
    struct options o = {0};
    int c;

    while ((c = tool_option(t, argc, argv, "u:m:", "", options)) != -1) {
        switch (c) {
        case 'u':
            o.user = optarg;
            break;
        case 'm':
            o.mailbox = optarg;
            break;
        case OPT_SINCE:
        case OPT_UNTIL:
            if (!when_of(optarg, c == OPT_SINCE ? &o.since_us : &o.until_us))
                return tool_usage(t,
                                  "\"%s\" is no time as 2026-11-22, "
                                  "2026-11-22T18:30:00 or 7d",
                                  optarg);
            *(c == OPT_SINCE ? &o.has_since : &o.has_until) = true;
            break;
        case OPT_HEADERS:
            o.headers = true;
            break;
        case OPT_FORMAT:
            if (strcmp(optarg, "maildir") != 0 && strcmp(optarg, "mbox") != 0)
                return tool_usage(t, "--format is maildir or mbox");
            o.mbox = strcmp(optarg, "mbox") == 0;
            break;
        default:
            return tool_end_options(t);
        }
    }
    return run_command(t, &o, argc, argv);
}

const struct tool_def tool_ctl_history = {"ctl_history", usage, run};
