/*
 * admin/tool_mbexamine.c - mbexamine: a mailbox and its messages as they are
 * stored.
 */
#include "admin/tool.h"

#include <string.h>
#include <time.h>

static const char usage[] =
    "usage: mbexamine [-C imapd.conf] [-u uids | -s seqnum] mailbox...\n"
    "       mbexamine [-C imapd.conf] -q mailbox...\n"
    "       mbexamine [-C imapd.conf] -c mailbox...\n"
    "  -u  only these UIDs (1:5,9), expunged ones too\n"
    "  -s  only the message with this sequence number\n"
    "  -q  add up the sizes and compare them with what the mailbox says\n"
    "  -c  read each message and compare it with its row\n"
    "A mailbox may end in * or %. Exit status: 1 if something differs.\n";

struct mbexamine {
    struct tool *t;
    bool only_check;
    bool missing, differs;
    uint64_t bytes, exists;
};

static const char *
date(uint64_t seconds, char out[40])
{
    time_t at = (time_t)seconds;
    struct tm tm;

    if (seconds == 0 || gmtime_r(&at, &tm) == NULL ||
        strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(out, 40, "never");
    return out;
}

static void
print_acl(FILE *f, struct span acl)
{
    bool value = false;

    for (size_t i = 0; i < acl.n; i++) {
        if (acl.p[i] != '\t') {
            fputc(acl.p[i], f);
        } else {
            fputs(value ? " " : "=", f);
            value = !value;
        }
    }
}

static void
print_head(struct mbexamine *m, const struct dlist *row)
{
    FILE *f = m->t->out;
    const struct dlist *words = dlist_get(row, "KEYWORDS");
    char name[1024], at[40];

    m->bytes = row_u64(row, "BYTES");
    m->exists = row_u64(row, "EXISTS");
    snprintf(name, sizeof(name), "%.*s", SPAN_FMT(row_text(row, "NAME")));
    fprintf(f, "Examining %s...\n", tool_external(m->t, name));
    if (m->only_check)
        return;
    fprintf(f,
            " Mailbox Header Info:\n"
            "  Name: %s\n  Partition: %.*s\n  Quota Root: %.*s\n"
            "  Unique ID: %.*s\n  Number: %" PRIu64 "\n  ACL: ",
            name, SPAN_FMT(row_text(row, "PARTITION")),
            SPAN_FMT(row_text(row, "ROOT")),
            SPAN_FMT(row_text(row, "UNIQUEID")), row_u64(row, "NUMBER"));
    print_acl(f, row_text(row, "ACL"));
    fprintf(f, "\n  Special Use: %.*s\n  User Flags:",
            SPAN_FMT(row_text(row, "USE")));
    for (const struct dlist *w = words == NULL ? NULL : words->child; w != NULL;
         w = w->next)
        fprintf(f, " %.*s", SPAN_FMT(w->text));
    fprintf(
        f,
        "\n\n Index Header Info:\n"
        "  Number of Messages: %" PRIu64 "  Mailbox Size: %" PRIu64 " bytes\n"
        "  Last Append Date: %s\n"
        "  UIDValidity: %" PRIu64 "  Last UID: %" PRIu64 "\n"
        "  Deleted: %" PRIu64 "  Unseen: %" PRIu64 "  Expunged: %" PRIu64 "\n"
        "  Mailbox Options: %" PRIu64 "\n"
        "  Highest Mod Sequence: %" PRIu64 "\n"
        "  Digest: %.*s\n\n Message Info:\n",
        m->exists, m->bytes, date(row_u64(row, "APPENDED"), at),
        row_u64(row, "UIDVALIDITY"), row_u64(row, "UIDNEXT") - 1,
        row_u64(row, "DELETED"), row_u64(row, "UNSEEN"),
        row_u64(row, "EXPUNGED"), row_u64(row, "OPTIONS"),
        row_u64(row, "MODSEQ"), SPAN_FMT(row_text(row, "DIGEST")));
}

static void
print_message(struct mbexamine *m, const struct dlist *row)
{
    FILE *f = m->t->out;
    struct span wrong = row_text(row, "WRONG");
    char internal[40], saved[40];

    if (wrong.n > 0) {
        m->differs = true;
        fprintf(f, " uid %" PRIu64 ": %.*s\n", row_u64(row, "UID"),
                SPAN_FMT(wrong));
        return;
    }
    fprintf(f,
            "%06" PRIu64 "> UID:%08" PRIu64
            "   INT_DATE:%s SAVEDATE:%s SIZE:%" PRIu64 "\n"
            "      > MODSEQ:%" PRIu64 " CREATEDMODSEQ:%" PRIu64 " FLAGS: %.*s\n"
            "      > GUID:%.*s\n",
            row_u64(row, "SEQ"), row_u64(row, "UID"),
            date(row_u64(row, "INTERNAL"), internal),
            date(row_u64(row, "SAVED"), saved), row_u64(row, "SIZE"),
            row_u64(row, "MODSEQ"), row_u64(row, "CREATED"),
            SPAN_FMT(row_text(row, "FLAGS")), SPAN_FMT(row_text(row, "GUID")));
}

static void
print_counted(struct mbexamine *m, const struct dlist *row)
{
    uint64_t bytes = row_u64(row, "BYTES");
    uint64_t exists = row_u64(row, "EXISTS");

    if (bytes != m->bytes || exists != m->exists) {
        m->differs = true;
        fprintf(m->t->out,
                "  the mailbox says %" PRIu64 " messages of %" PRIu64
                " bytes, counted are %" PRIu64 " of %" PRIu64 "\n",
                m->exists, m->bytes, exists, bytes);
    } else if (m->only_check && row_u64(row, "WRONG") == 0) {
        fprintf(m->t->out,
                "  %" PRIu64 " messages of %" PRIu64
                " bytes: nothing differs\n",
                exists, bytes);
    }
}

static void
print_row(void *ctx, const struct dlist *row)
{
    struct mbexamine *m = ctx;

    if (row_is(row, "MAILBOX")) {
        print_head(m, row);
    } else if (row_is(row, "MESSAGE")) {
        print_message(m, row);
    } else if (row_is(row, "COUNTED")) {
        print_counted(m, row);
    } else if (row_is(row, "FAILED")) {
        m->missing = true;
        (void)tool_say(m->t, 0, "%.*s", SPAN_FMT(row_text(row, "TEXT")));
    }
}

static int
run(struct tool *t, int argc, char **argv)
{
    struct mbexamine m = {.t = t};
    const char *uids = NULL;
    uint32_t seq = 0;
    bool bodies = false, quota = false;
    int c;

    while ((c = tool_option(t, argc, argv, "u:s:qc", "", NULL)) != -1) {
        switch (c) {
        case 'u':
            uids = optarg;
            break;
        case 's':
            if (!parse_u32(span_str(optarg), &seq) || seq == 0)
                return tool_usage(t, "\"%s\" is no sequence number", optarg);
            break;
        case 'q':
            quota = true;
            break;
        case 'c':
            bodies = true;
            break;
        default:
            return tool_end_options(t);
        }
    }
    if (optind == argc)
        return tool_usage(t, "name a mailbox");
    if ((uids != NULL) + (seq > 0) + quota + bodies > 1)
        return tool_usage(t, "only one of -u, -s, -q and -c is possible");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    m.only_check = bodies || quota;
    tool_request(t, "EXAMINE");
    if (uids != NULL)
        dlist_str(&t->args, "UIDS", uids);
    if (seq > 0)
        dlist_u64(&t->args, "SEQ", seq);
    if (bodies)
        dlist_u64(&t->args, "BODIES", 1);
    if (quota)
        dlist_u64(&t->args, "QUOTA", 1);
    dlist_open_list(&t->args, "NAMES");
    for (int i = optind; i < argc; i++)
        dlist_str(&t->args, NULL, argv[i]);
    dlist_close(&t->args);
    code = tool_ask(t, print_row, &m);
    if (code != TOOL_OK)
        return code;
    return m.missing ? TOOL_DATA : m.differs ? TOOL_DIFFERS : TOOL_OK;
}

const struct tool_def tool_mbexamine = {"mbexamine", usage, run};
