/*
 * admin/tool_quota.c - quota: limits and usage of quota roots, as Cyrus shows
 * them: storage in KiB, one line a resource.
 */
#include "admin/tool.h"

static const char usage[] =
    "usage: quota [-C imapd.conf] [-f [-n]] [-q] [-J] [-d domain] [-u] "
    "[prefix...]\n"
    "  -f  count anew, and mend what is wrong; -n: only tell\n"
    "  -q  tell only what is wrong\n"
    "  -J  as JSON, in bytes\n"
    "  -u  users are named, not prefixes of mailboxes\n"
    "  -d  only roots in this domain\n";

static const struct {
    const char *name;
    uint64_t unit; /* bytes in what is shown */
} resources[] = {
    {"STORAGE", 1024},
    {"MESSAGE", 1},
    {"X-ANNOTATION-STORAGE", 1024},
    {"X-NUM-FOLDERS", 1},
};

struct quota_tool {
    struct tool *t;
    const char *domain;
    bool fix, dry;
    bool headed, any;
    uint64_t wrong;
};

static void
print_wrong(struct quota_tool *q, const struct dlist *row)
{
    char name[1024];
    FILE *f = q->t->json ? q->t->err : q->t->out;
    struct span resource = row_text(row, "RESOURCE");

    q->wrong++;
    snprintf(name, sizeof(name), "%.*s", SPAN_FMT(row_text(row, "NAME")));
    if (resource.n == 0)
        fprintf(f,
                "%s: %" PRIu64 " mailboxes have another quota root than their "
                "name says\n",
                tool_external(q->t, name), row_u64(row, "STRANGERS"));
    else
        fprintf(f, "%s: %.*s usage was %" PRIu64 ", now %" PRIu64 "\n",
                tool_external(q->t, name), SPAN_FMT(resource),
                row_u64(row, "WAS"), row_u64(row, "IS"));
}

static void
print_root_json(struct quota_tool *q, const struct dlist *row, const char *name)
{
    FILE *f = q->t->out;

    fputs(q->any ? ",\n  " : "{\n  ", f);
    tool_json_string(f, span_str(name));
    fputs(": {\n", f);
    for (size_t i = 0; i < ARRAY_LEN(resources); i++) {
        const struct dlist *r = dlist_get(row, resources[i].name);
        if (r == NULL)
            continue;
        fprintf(f, "%s    \"%s\": {\n      \"used\": %" PRIu64,
                i == 0 ? "" : ",\n", resources[i].name, row_u64(r, "USED"));
        if (dlist_get(r, "LIMIT") != NULL)
            fprintf(f, ",\n      \"limit\": %" PRIu64, row_u64(r, "LIMIT"));
        fputs("\n    }", f);
    }
    fputs("\n  }", f);
    q->any = true;
}

static void
print_root(struct quota_tool *q, const struct dlist *row)
{
    FILE *f = q->t->out;
    char internal[1024];

    if (q->t->quiet)
        return;
    snprintf(internal, sizeof(internal), "%.*s",
             SPAN_FMT(row_text(row, "NAME")));
    const char *name = tool_external(q->t, internal);
    if (q->t->json) {
        print_root_json(q, row, name);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(resources); i++) {
        const struct dlist *r = dlist_get(row, resources[i].name);
        if (r == NULL)
            continue;
        uint64_t used = row_u64(r, "USED"), limit = row_u64(r, "LIMIT");
        if (dlist_get(r, "LIMIT") == NULL)
            fprintf(f, " %7s %8s", "", "");
        else
            fprintf(f, " %7" PRIu64 " %8" PRIu64, limit / resources[i].unit,
                    limit == 0
                        ? (used == 0 ? 0 : 100)
                        : (uint64_t)((double)used * 100 / (double)limit));
        fprintf(f, " %8" PRIu64 " %20s %s\n", used / resources[i].unit,
                resources[i].name, name);
    }
}

static void
print_row(void *ctx, const struct dlist *row)
{
    struct quota_tool *q = ctx;
    struct span name = row_text(row, "NAME");

    if (q->domain != NULL) {
        /* "user.joe@example^org..." */
        ptrdiff_t at = span_find_byte(name, '@', 0);
        if (at < 0 ||
            !span_starts(span_skip(name, (size_t)at + 1), span_str(q->domain)))
            return;
    }
    if (row_is(row, "WRONG"))
        print_wrong(q, row);
    else
        print_root(q, row);
}

static int
run(struct tool *t, int argc, char **argv)
{
    struct quota_tool q = {.t = t};
    char domain[512] = "";
    bool users = false;
    int c;

    while ((c = tool_option(t, argc, argv, "fnqJd:u", "", NULL)) != -1) {
        switch (c) {
        case 'f':
            q.fix = true;
            break;
        case 'n':
            q.dry = true;
            break;
        case 'q':
            t->quiet = true;
            break;
        case 'J':
            t->json = true;
            break;
        case 'd':
            snprintf(domain, sizeof(domain), "%s", optarg);
            q.domain = domain;
            break;
        case 'u':
            users = true;
            break;
        default:
            return tool_end_options(t);
        }
    }
    if (q.dry && !q.fix)
        return tool_usage(t, "-n goes with -f");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    for (char *p = domain; *p != '\0' && t->ns.sep == '/'; p++)
        *p = *p == '.' ? '^' : *p;
    tool_request(t, q.fix && !q.dry ? "QUOTAFIX" : "QUOTA");
    if (q.fix)
        dlist_u64(&t->args, "CHECK", 1);
    if (users)
        dlist_u64(&t->args, "USERS", 1);
    dlist_open_list(&t->args, "NAMES");
    for (int i = optind; i < argc; i++)
        dlist_str(&t->args, NULL, argv[i]);
    dlist_close(&t->args);
    if (!t->json && !t->quiet)
        fputs("   Quota   % Used     Used             Resource Root\n", t->out);
    code = tool_ask(t, print_row, &q);
    if (t->json && !t->quiet)
        fputs(q.any ? "\n}\n" : "{}\n", t->out);
    return code == TOOL_OK && q.dry && q.wrong > 0 ? TOOL_DIFFERS : code;
}

const struct tool_def tool_quota = {"quota", usage, run};
