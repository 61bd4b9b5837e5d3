/*
 * admin/tool_unexpunge.c - unexpunge: what was expunged, told and brought back.
 */
#include "admin/tool.h"

#include <string.h>
#include <time.h>

static const char usage[] =
    "usage: unexpunge [-C imapd.conf] -l mailbox [uid...]\n"
    "       unexpunge [-C imapd.conf] -a [-d] [-v] [-f flag] mailbox\n"
    "       unexpunge [-C imapd.conf] -t time [-d] [-v] [-f flag] mailbox\n"
    "       unexpunge [-C imapd.conf] -u [-d] [-v] [-f flag] mailbox uid...\n"
    "  -l  list what can be brought back\n"
    "  -a  bring back all, -u these UIDs, -t what was expunged within this\n"
    "      time (seconds, or with m h d w)\n"
    "  -d  without \\Deleted\n"
    "  -f  with this flag\n"
    "  -v  tell old and new UID of each\n";

struct unexpunge {
    struct tool *t;
    const char *name;
    bool verbose;
    bool any;
    uint64_t n;
};

static const char *
when(uint64_t seconds, char out[64])
{
    time_t at = (time_t)seconds;
    struct tm tm;

    if (localtime_r(&at, &tm) == NULL ||
        strftime(out, 64, "%a %b %e %H:%M:%S %Y", &tm) == 0)
        snprintf(out, 64, "?");
    return out;
}

static void
print_json(struct unexpunge *u, const struct dlist *row)
{
    static const char *const texts[] = {"SENT", "FROM",    "TO",  "CC",
                                        "BCC",  "SUBJECT", "GUID"};
    static const char *const names[] = {"sent", "from",    "to",  "cc",
                                        "bcc",  "subject", "guid"};
    FILE *f = u->t->out;

    fprintf(f,
            "%s{\"uid\": %" PRIu64 ", \"size\": %" PRIu64
            ", \"received\": %" PRIu64 ", \"expunged\": %" PRIu64,
            u->any ? ",\n" : "[\n", row_u64(row, "UID"), row_u64(row, "SIZE"),
            row_u64(row, "RECV"), row_u64(row, "EXPG"));
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        fprintf(f, ", \"%s\": ", names[i]);
        tool_json_string(f, row_text(row, texts[i]));
    }
    fputc('}', f);
    u->any = true;
}

static void
print_expunged(void *ctx, const struct dlist *row)
{
    static const struct {
        const char *key, *label;
    } fields[] = {{"FROM", "From"},
                  {"TO", "To  "},
                  {"CC", "Cc  "},
                  {"BCC", "Bcc "},
                  {"SUBJECT", "Subj"}};
    struct unexpunge *u = ctx;
    FILE *f = u->t->out;
    char recv[64], expg[64];

    if (u->t->json) {
        print_json(u, row);
        return;
    }
    fprintf(f,
            "UID: %" PRIu64 "\n\tSize: %" PRIu64
            "\n\tSent: %.*s\n\tRecv: %s\n\tExpg: %s\n",
            row_u64(row, "UID"), row_u64(row, "SIZE"),
            SPAN_FMT(row_text(row, "SENT")), when(row_u64(row, "RECV"), recv),
            when(row_u64(row, "EXPG"), expg));
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        fprintf(f, "\t%s: %.*s\n", fields[i].label,
                SPAN_FMT(row_text(row, fields[i].key)));
    fputc('\n', f);
}

static void
print_restored(void *ctx, const struct dlist *row)
{
    struct unexpunge *u = ctx;

    u->n++;
    if (u->verbose)
        fprintf(u->t->out, "Unexpunged %s: %" PRIu64 " => %" PRIu64 "\n",
                u->name, row_u64(row, "FROM"), row_u64(row, "UID"));
}

/* UIDs on the command line, one or a set each. */
static void
add_uids(struct tool *t, int from, int argc, char **argv)
{
    AUTO(buf_free) struct buf set = BUF_INIT;

    for (int i = from; i < argc; i++)
        buf_addf(&set, "%s%s", set.n == 0 ? "" : ",", argv[i]);
    if (set.n > 0)
        dlist_span(&t->args, "UIDS", buf_span(&set));
}

static int
run(struct tool *t, int argc, char **argv)
{
    struct unexpunge u = {.t = t};
    const char *flag = NULL;
    uint64_t within_s = 0;
    bool clear = false;
    char what = 0;
    int c;

    while ((c = tool_option(t, argc, argv, "lat:udvf:", "", NULL)) != -1) {
        switch (c) {
        case 't':
            if (!tool_duration(optarg, 's', &within_s) || within_s == 0)
                return tool_usage(t, "-t: \"%s\" is no time", optarg);
            /* fall through */
        case 'l':
        case 'a':
        case 'u':
            if (what != 0 && what != c)
                return tool_usage(t, "only one of -l -a -t -u is possible");
            what = (char)c;
            break;
        case 'd':
            clear = true;
            break;
        case 'v':
            u.verbose = true;
            break;
        case 'f':
            flag = optarg;
            break;
        default:
            return tool_end_options(t);
        }
    }
    int uids = argc - optind - 1;
    if (what == 0 || uids < 0)
        return tool_usage(t, "one of -l -a -t -u and a mailbox are needed");
    if ((uids > 0) != (what == 'u') && !(what == 'l' && uids > 0))
        return tool_usage(t, what == 'u' ? "-u needs UIDs"
                                         : "UIDs go with -l and -u");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    u.name = argv[optind];
    tool_request(t, what == 'l' ? "EXPUNGED" : "UNEXPUNGE");
    dlist_str(&t->args, "NAME", u.name);
    add_uids(t, optind + 1, argc, argv);
    if (within_s > 0)
        dlist_u64(&t->args, "WITHIN", within_s);
    if (clear)
        dlist_u64(&t->args, "CLEAR", 1);
    if (flag != NULL)
        dlist_str(&t->args, "FLAG", flag);
    if (what == 'l') {
        code = tool_ask(t, print_expunged, &u);
        if (t->json && code == TOOL_OK)
            fputs(u.any ? "\n]\n" : "[]\n", t->out);
        return code;
    }
    fprintf(t->out, "restoring %sexpunged messages in mailbox '%s'\n",
            what == 'a' ? "all " : "", u.name);
    code = tool_ask(t, print_restored, &u);
    fprintf(t->out, "restored %" PRIu64 " expunged messages\n", u.n);
    return code;
}

const struct tool_def tool_unexpunge = {"unexpunge", usage, run};
