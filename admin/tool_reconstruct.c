/*
 * admin/tool_reconstruct.c - reconstruct: derived data made again, everything
 * else checked.
 */
#include "admin/tool.h"

static const char usage[] =
    "usage: reconstruct [-C imapd.conf] [-r] [-n] [-q] [-s] [-G] [mailbox...]\n"
    "       reconstruct [-C imapd.conf] [-n] [-q] [-s] [-G] -u user...\n"
    "  -r  what is below the mailboxes too\n"
    "  -u  users are named, not mailboxes\n"
    "  -n  only tell what is wrong\n"
    "  -s  do not look whether each body is there\n"
    "  -G  read each message: compare it with its GUID, parse it again\n"
    "  -q  tell only what is wrong, not each mailbox\n"
    "Without names: all mailboxes, and the digests of the whole store.\n"
    "What is derived is made again. What is not (rows, counters, bodies) is\n"
    "told; exit status 74: have the twin seed this instance "
    "(docs/operating.md)."
    "\n"
    "A mailbox may end in * or %.\n";

struct reconstruct {
    struct tool *t;
    bool dry;
    uint64_t mended, wrong;
};

static void
print_row(void *ctx, const struct dlist *row)
{
    struct reconstruct *r = ctx;
    struct tool *t = r->t;
    char name[1024];

    if (row_is(row, "SUM")) {
        r->mended = row_u64(row, "MENDED");
        r->wrong = row_u64(row, "WRONG");
        return;
    }
    snprintf(name, sizeof(name), "%.*s", SPAN_FMT(row_text(row, "NAME")));
    if (row_is(row, "MAILBOX")) {
        if (!t->quiet)
            fprintf(t->out, "%s\n", tool_external(t, name));
        return;
    }
    uint64_t uid = row_u64(row, "UID");
    if (name[0] != '\0')
        fprintf(t->out, "%s", tool_external(t, name));
    if (uid > 0)
        fprintf(t->out, " uid %" PRIu64, uid);
    fprintf(t->out, "%s%.*s%s\n", name[0] == '\0' ? "" : ": ",
            SPAN_FMT(row_text(row, "TEXT")),
            row_is(row, "WRONG") ? ""
            : r->dry             ? " (to be made again)"
                                 : " (made again)");
}

static int
run(struct tool *t, int argc, char **argv)
{
    struct reconstruct r = {.t = t};
    bool tree = false, users = false, no_stat = false, deep = false;
    int c;

    while ((c = tool_option(t, argc, argv, "rnqsuG", "fxUoOMIRkgp:V:P",
                            NULL)) != -1) {
        switch (c) {
        case 'r':
            tree = true;
            break;
        case 'n':
            r.dry = true;
            break;
        case 'q':
            t->quiet = true;
            break;
        case 's':
            no_stat = true;
            break;
        case 'u':
            users = true;
            break;
        case 'G':
            deep = true;
            break;
        default:
            return tool_end_options(t);
        }
    }
    if (users && optind == argc)
        return tool_usage(t, "-u needs the names of users");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    tool_request(t, "RECONSTRUCT");
    const struct {
        const char *name;
        bool on;
    } flags[] = {{"TREE", tree},
                 {"USERS", users},
                 {"DRY", r.dry},
                 {"NOSTAT", no_stat},
                 {"DEEP", deep}};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (flags[i].on)
            dlist_u64(&t->args, flags[i].name, 1);
    dlist_open_list(&t->args, "NAMES");
    for (int i = optind; i < argc; i++)
        dlist_str(&t->args, NULL, argv[i]);
    dlist_close(&t->args);
    code = tool_ask(t, print_row, &r);
    if (code != TOOL_OK)
        return code;
    return r.wrong > 0             ? TOOL_IO
           : r.dry && r.mended > 0 ? TOOL_DIFFERS
                                   : TOOL_OK;
}

const struct tool_def tool_reconstruct = {"reconstruct", usage, run};
