/*
 * admin/tool_ctl_cyrusdb.c - ctl_cyrusdb: what opening the store found, and
 * writing it through.
 */
#include "admin/tool.h"

static const char usage[] =
    "usage: ctl_cyrusdb [-C imapd.conf] -r [-x] [--verify] [--json]\n"
    "       ctl_cyrusdb [-C imapd.conf] -c [--json]\n"
    "  -r        recover: where no instance runs, open the store, which cuts\n"
    "            the torn end of the log, if there is one, and applies what\n"
    "            the state lacks; say what was found\n"
    "  -x        with -r: accepted, there is nothing to clean up\n"
    "  --verify  with -r: count everything anew, digests too\n"
    "  -c        checkpoint: write the state through, let go of log segments\n"
    "            that nobody needs\n";

static const char *const roles[] = {
    [ROLE_REPLICA] = "replica",
    [ROLE_MASTER] = "master",
    [ROLE_FENCED] = "fenced",
};

static const char *
role_word(const struct dlist *row)
{
    uint64_t role = row_u64(row, "ROLE");

    return role < ARRAY_LEN(roles) ? roles[role] : "unknown";
}

static void
print_store(void *ctx, const struct dlist *row)
{
    struct tool *t = ctx;
    uint64_t first = row_u64(row, "FIRST");
    uint64_t torn = row_u64(row, "TORN");

    if (t->json) {
        fprintf(t->out,
                "{\"role\":\"%s\",\"epoch\":%" PRIu64 ",\"lsn\":%" PRIu64
                ",\"chain\":\"%.*s\",\"digest\":\"%.*s\",\"first_lsn\":%" PRIu64
                ",\"replayed\":%" PRIu64 ",\"torn_bytes\":%" PRIu64
                ",\"seeding\":%s,\"verified\":%s}\n",
                role_word(row), row_u64(row, "EPOCH"), row_u64(row, "LSN"),
                SPAN_FMT(row_text(row, "CHAIN")),
                SPAN_FMT(row_text(row, "DIGEST")), first,
                row_u64(row, "REPLAYED"), torn,
                row_u64(row, "SEEDING") != 0 ? "true" : "false",
                row_u64(row, "VERIFIED") != 0 ? "true" : "false");
        return;
    }
    fprintf(t->out,
            "recovered: %s at %" PRIu64 ":%" PRIu64 ", digest %.*s, %" PRIu64
            " records applied again\n",
            role_word(row), row_u64(row, "EPOCH"), row_u64(row, "LSN"),
            SPAN_FMT(row_text(row, "DIGEST")), row_u64(row, "REPLAYED"));
    if (torn > 0)
        fprintf(t->out,
                "the log had a torn end of %" PRIu64 " bytes, which nothing "
                "proved durable; it was cut and kept aside\n",
                torn);
    if (row_u64(row, "SEEDING") != 0)
        fputs("its seed is not complete yet\n", t->out);
    if (row_u64(row, "VERIFIED") != 0)
        fprintf(t->out,
                "verified in %" PRIu64 " ms: counters, quotas and digests are "
                "what the rows say\n",
                row_u64(row, "MS"));
}

static void
print_checkpoint(void *ctx, const struct dlist *row)
{
    struct tool *t = ctx;

    fprintf(t->out,
            t->json ? "{\"epoch\":%" PRIu64 ",\"lsn\":%" PRIu64
                      ",\"first_lsn\":%" PRIu64 ",\"log_bytes\":%" PRIu64
                      ",\"freed_bytes\":%" PRIu64 ",\"ms\":%" PRIu64 "}\n"
                    : "checkpoint: the state at %" PRIu64 ":%" PRIu64
                      " is on the disk; the log begins at %" PRIu64
                      " and has %" PRIu64 " bytes (%" PRIu64 " fewer); %" PRIu64
                      " ms\n",
            row_u64(row, "EPOCH"), row_u64(row, "LSN"), row_u64(row, "FIRST"),
            row_u64(row, "LOG"), row_u64(row, "FREED"), row_u64(row, "MS"));
}

static int
run(struct tool *t, int argc, char **argv)
{
    enum { OPT_VERIFY = 256 };
    static const struct option options[] = {
        {"recover", no_argument, NULL, 'r'},
        {"no-cleanup", no_argument, NULL, 'x'},
        {"checkpoint", no_argument, NULL, 'c'},
        {"verify", no_argument, NULL, OPT_VERIFY},
        {NULL, 0, NULL, 0},
    };
    bool recover = false, checkpoint = false, verify = false;
    int c;

    while ((c = tool_option(t, argc, argv, "rxc", "", options)) != -1) {
        switch (c) {
        case 'r':
            recover = true;
            break;
        case 'x':
            break;
        case 'c':
            checkpoint = true;
            break;
        case OPT_VERIFY:
            verify = true;
            break;
        default:
            return tool_end_options(t);
        }
    }
    if (recover == checkpoint || optind != argc)
        return tool_usage(t, "one of -r and -c is needed, and nothing else");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    tool_request(t, recover ? "RECOVER" : "CHECKPOINT");
    if (verify)
        dlist_u64(&t->args, "VERIFY", 1);
    return tool_ask(t, recover ? print_store : print_checkpoint, t);
}

const struct tool_def tool_ctl_cyrusdb = {"ctl_cyrusdb", usage, run};
