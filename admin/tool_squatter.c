/*
 * admin/tool_squatter.c - squatter: mailboxes brought level in the index that
 * SEARCH uses.
 *
 * The instance does this by itself, so "squatter -R" has nothing to do: it
 * brings everything level once and then stays until it is ended, for the
 * cyrus.conf that has it among its DAEMONs.
 */
#include "admin/tool.h"

#include <signal.h>

static const char usage[] =
    "usage: squatter [-C imapd.conf] [-i] [-r] [-X] [-F] [-v] [mailbox...]\n"
    "       squatter [-C imapd.conf] [-i] [-X] [-F] [-v] -u user...\n"
    "       squatter [-C imapd.conf] -R [-v]\n"
    "  -i  index what is new (it is what is done without it, too)\n"
    "  -r  what is below the mailboxes too\n"
    "  -u  users are named, not mailboxes\n"
    "  -X  index all of it again, from the start\n"
    "  -F  then make each mailbox's index as small as can be\n"
    "  -R  everything once, then stay: the instance goes on by itself\n"
    "  -v  name each mailbox\n"
    "Without names: all mailboxes. imapd.conf needs a search_engine other "
    "than\n"
    "none.\n";

struct squatter {
    struct tool *t;
    bool verbose;
    uint64_t skipped;
};

static void
print_row(void *ctx, const struct dlist *row)
{
    struct squatter *s = ctx;
    struct tool *t = s->t;
    char name[1024];

    if (row_is(row, "SUM")) {
        s->skipped = row_u64(row, "SKIPPED");
        if (!t->quiet)
            fprintf(t->out,
                    "indexed %" PRIu64 " messages (%" PRIu64
                    " bytes) of %" PRIu64 " mailboxes, left out %" PRIu64 "\n",
                    row_u64(row, "MESSAGES"), row_u64(row, "BYTES"),
                    row_u64(row, "MAILBOXES"), s->skipped);
        return;
    }
    if (!s->verbose || !row_is(row, "MAILBOX"))
        return;
    snprintf(name, sizeof(name), "%.*s", SPAN_FMT(row_text(row, "NAME")));
    fprintf(t->out, "%s: %" PRIu64 " messages\n", tool_external(t, name),
            row_u64(row, "MESSAGES"));
}

/* Until a signal ends it. */
static int
stay(void)
{
    sigset_t set;
    int signal = 0;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    (void)sigwait(&set, &signal);
    return TOOL_OK;
}

static int
run(struct tool *t, int argc, char **argv)
{
    struct squatter s = {.t = t};
    bool tree = false, users = false, rebuild = false, compact = false;
    bool rolling = false;
    int c;

    while ((c = tool_option(t, argc, argv, "iruXFRvq",
                            "adsBpUZn:N:S:T:f:z:t:oO:", NULL)) != -1) {
        switch (c) {
        case 'i':
            break;
        case 'r':
            tree = true;
            break;
        case 'u':
            users = true;
            break;
        case 'X':
            rebuild = true;
            break;
        case 'F':
            compact = true;
            break;
        case 'R':
            rolling = true;
            break;
        case 'v':
            s.verbose = true;
            break;
        case 'q':
            t->quiet = true;
            break;
        default:
            return tool_end_options(t);
        }
    }
    if (users && optind == argc)
        return tool_usage(t, "-u needs the names of users");
    if (rolling && optind < argc)
        return tool_usage(t, "-R is for all mailboxes");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    tool_request(t, "INDEX");
    const struct {
        const char *name;
        bool on;
    } flags[] = {{"TREE", tree},
                 {"USERS", users},
                 {"REBUILD", rebuild},
                 {"COMPACT", compact}};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (flags[i].on)
            dlist_u64(&t->args, flags[i].name, 1);
    dlist_open_list(&t->args, "NAMES");
    for (int i = optind; i < argc; i++)
        dlist_str(&t->args, NULL, argv[i]);
    dlist_close(&t->args);
    code = tool_ask(t, print_row, &s);
    if (code != TOOL_OK || !rolling)
        return code;
    fflush(t->out);
    return stay();
}

const struct tool_def tool_squatter = {"squatter", usage, run};
