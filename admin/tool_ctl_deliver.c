/*
 * admin/tool_ctl_deliver.c - ctl_deliver: the marks by which a message that is
 * delivered twice is stored once.
 */
#include "admin/tool.h"

static const char usage[] =
    "usage: ctl_deliver [-C imapd.conf] -d\n"
    "       ctl_deliver [-C imapd.conf] -E age\n"
    "  -d  list the marks: when, and the hash of message, recipient and "
    "mailbox\n"
    "  -E  forget those that are older (days, or with d h m s), as\n"
    "      'cyr_expire -E' does\n";

static void
print_mark(void *ctx, const struct dlist *row)
{
    struct tool *t = ctx;

    if (row_is(row, "MARK"))
        fprintf(t->out, "%" PRIu64 " %.*s\n", row_u64(row, "TIME"),
                SPAN_FMT(row_text(row, "HASH")));
}

static int
run(struct tool *t, int argc, char **argv)
{
    uint64_t age_s = 0;
    bool dump = false, forget = false;
    int c;

    while ((c = tool_option(t, argc, argv, "dE:", "f:", NULL)) != -1) {
        if (c == 'd') {
            dump = true;
        } else if (c == 'E') {
            forget = true;
            if (!tool_duration(optarg, 'd', &age_s))
                return tool_usage(t, "-E: \"%s\" is no age", optarg);
        } else {
            return tool_end_options(t);
        }
    }
    if (dump == forget || optind != argc)
        return tool_usage(t, "one of -d and -E is needed");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    tool_request(t, dump ? "DELIVERIES" : "EXPIRE");
    if (forget) {
        dlist_u64(&t->args, "MARKS", age_s);
        dlist_u64(&t->args, "NOEXPUNGE", 1);
    }
    return tool_ask(t, print_mark, t);
}

const struct tool_def tool_ctl_deliver = {"ctl_deliver", usage, run};
