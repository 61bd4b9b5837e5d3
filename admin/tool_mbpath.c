/*
 * admin/tool_mbpath.c - mbpath: where the mail of a mailbox lies.
 */
#include "admin/tool.h"

#include <string.h>

static const char usage[] =
    "usage: mbpath [-C imapd.conf] [-l] [-q] [-s] [-u] [-a|-A|-D|-M|-S|-U]\n"
    "              [--json] mailbox...\n"
    "  -D  directory of its partition, where packs of bodies lie (default)\n"
    "  -A  directory of its archive partition\n"
    "  -M, -m, -S, -U  directory of the state: metadata, Sieve scripts and "
    "what\n"
    "      belongs to a user lie there and not in files of their own\n"
    "  -a  all of these, its UNIQUEID and its number\n"
    "  -u  users are named, not mailboxes\n"
    "  -q  no words about mailboxes that are not there\n"
    "  -s  stop at the first of those\n"
    "  -l  local mailboxes only: all are\n";

struct mbpath {
    struct tool *t;
    char what; /* the selector */
    bool failed;
    bool any;
};

static void
print_json(struct mbpath *m, const struct dlist *row)
{
    static const char *const keys[] = {
        "NAME", "UNIQUEID", "PARTITION", "DATA", "ARCHIVE", "META", "LOG"};
    static const char *const names[] = {
        "name", "uniqueid", "partition", "data", "archive", "state", "log"};
    FILE *f = m->t->out;

    fputs(m->any ? ",\n{" : "[\n{", f);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        fprintf(f, "\"%s\": ", names[i]);
        tool_json_string(f, row_text(row, keys[i]));
        fputs(", ", f);
    }
    fprintf(f, "\"number\": %" PRIu64 "}", row_u64(row, "NUMBER"));
}

static void
print_path(void *ctx, const struct dlist *row)
{
    struct mbpath *m = ctx;
    FILE *f = m->t->out;

    if (row_is(row, "FAILED")) {
        m->failed = true;
        if (!m->t->quiet)
            (void)tool_say(m->t, 0, "%.*s", SPAN_FMT(row_text(row, "TEXT")));
        return;
    }
    struct span data = row_text(row, "DATA");
    struct span archive = row_text(row, "ARCHIVE");
    struct span state = row_text(row, "META");
    if (m->t->json)
        print_json(m, row);
    else if (m->what == 'D')
        fprintf(f, "%.*s\n", SPAN_FMT(data));
    else if (m->what == 'A')
        fprintf(f, "%.*s\n", SPAN_FMT(archive));
    else if (m->what != 'a')
        fprintf(f, "%.*s\n", SPAN_FMT(state));
    else
        fprintf(f,
                "Name: %.*s\nUniqueid: %.*s\nNumber: %" PRIu64
                "\nPartition: %.*s\nArchive: %.*s\nData: %.*s\nState: %.*s\n"
                "Log: %.*s\n",
                SPAN_FMT(row_text(row, "NAME")),
                SPAN_FMT(row_text(row, "UNIQUEID")), row_u64(row, "NUMBER"),
                SPAN_FMT(row_text(row, "PARTITION")), SPAN_FMT(archive),
                SPAN_FMT(data), SPAN_FMT(state),
                SPAN_FMT(row_text(row, "LOG")));
    m->any = true;
}

static int
run(struct tool *t, int argc, char **argv)
{
    struct mbpath m = {.t = t, .what = 'D'};
    bool users = false, stop = false;
    int c;

    while ((c = tool_option(t, argc, argv, "lmqsuaADMSUj", "7", NULL)) != -1) {
        switch (c) {
        case 'q':
            t->quiet = true;
            break;
        case 's':
            stop = true;
            break;
        case 'u':
            users = true;
            break;
        case 'j':
            t->json = true;
            break;
        case 'l':
            break;
        case 'm':
            m.what = 'M';
            break;
        case '?':
            return tool_end_options(t);
        default:
            m.what = (char)c;
        }
    }
    if (optind == argc)
        return tool_usage(t, "name a mailbox");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    tool_request(t, "PATH");
    if (users)
        dlist_u64(&t->args, "USERS", 1);
    if (stop)
        dlist_u64(&t->args, "STOP", 1);
    dlist_open_list(&t->args, "NAMES");
    for (int i = optind; i < argc; i++)
        dlist_str(&t->args, NULL, argv[i]);
    dlist_close(&t->args);
    code = tool_ask(t, print_path, &m);
    if (t->json && code == TOOL_OK)
        fputs(m.any ? "\n]\n" : "[]\n", t->out);
    return code == TOOL_OK && m.failed ? TOOL_DATA : code;
}

const struct tool_def tool_mbpath = {"mbpath", usage, run};
