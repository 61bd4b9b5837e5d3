/*
 * admin/tool_cyr_expire.c - cyr_expire: what has had its time goes for good.
 */
#include "admin/tool.h"

static const char usage[] =
    "usage: cyr_expire [-C imapd.conf] [-E age] [-X age] [-D age] [-A age]\n"
    "                  [-p prefix | -u user] [-a] [-x] [-c] [-t] [-v]\n"
    "  -E  forget marks of deliveries that are older; expire messages by the\n"
    "      annotation /vendor/cmu/cyrus-imapd/expire of their mailbox\n"
    "  -X  messages that were expunged longer ago go for good\n"
    "  -D  mailboxes that were deleted longer ago go for good\n"
    "  -A  bodies of mail that is older go to the archive partition\n"
    "  -p  only mailboxes whose names begin so\n"
    "  -u  only mailboxes of this user\n"
    "  -a  pay no attention to annotations\n"
    "  -x  no messages go, whatever -X says\n"
    "  -v  tell\n"
    "  -c, -t  accepted: there is nothing to do\n"
    "An age is a number of days, or has one of d h m s behind it.\n";

enum age { AGE_MARKS, AGE_EXPUNGED, AGE_DELETED, AGE_ARCHIVE, AGES };

/* Of a request of EXPIRE; archiving is one of its own. */
#define EXPIRE_AGES AGE_ARCHIVE

struct expire {
    struct tool *t;
    bool verbose;
    bool given[AGES];
    uint64_t age_s[AGES];
};

static const char letters[AGES] = {'E', 'X', 'D', 'A'};
static const char *const keys[EXPIRE_AGES] = {"MARKS", "EXPUNGED", "DELETED"};

static void
print_json(FILE *f, const struct dlist *row)
{
    fprintf(f,
            "{\"mailboxes\":%" PRIu64 ",\"messages\":%" PRIu64
            ",\"expired\":%" PRIu64 ",\"expunged\":%" PRIu64
            ",\"deleted_mailboxes\":%" PRIu64 ",\"delivery_marks\":%" PRIu64
            "}\n",
            row_u64(row, "MAILBOXES"), row_u64(row, "MESSAGES"),
            row_u64(row, "EXPIRED"), row_u64(row, "PURGED"),
            row_u64(row, "REMOVED"), row_u64(row, "MARKS"));
}

static void
print_sum(const struct expire *e, const struct dlist *row)
{
    FILE *f = e->t->out;

    if (e->t->json) {
        print_json(f, row);
        return;
    }
    if (!e->verbose)
        return;
    if (e->given[AGE_MARKS] || e->given[AGE_EXPUNGED])
        fprintf(f,
                "\nExpired %" PRIu64 " and expunged %" PRIu64 " out of %" PRIu64
                " messages from %" PRIu64 " mailboxes\n",
                row_u64(row, "EXPIRED"), row_u64(row, "PURGED"),
                row_u64(row, "MESSAGES"), row_u64(row, "MAILBOXES"));
    if (e->given[AGE_DELETED])
        fprintf(f, "\nRemoved %" PRIu64 " deleted mailboxes\n",
                row_u64(row, "REMOVED"));
    if (e->given[AGE_MARKS])
        fprintf(f, "\nForgot %" PRIu64 " marks of deliveries\n",
                row_u64(row, "MARKS"));
}

static void
print_row(void *ctx, const struct dlist *row)
{
    struct expire *e = ctx;
    char name[1024];

    if (row_is(row, "SUM")) {
        print_sum(e, row);
        return;
    }
    if (e->t->json)
        return;
    snprintf(name, sizeof(name), "%.*s", SPAN_FMT(row_text(row, "NAME")));
    if (row_is(row, "REMOVED"))
        fprintf(e->t->out, "Removing: %s\n", tool_external(e->t, name));
    else
        fprintf(e->t->out, "%s: expired %" PRIu64 ", expunged %" PRIu64 "\n",
                tool_external(e->t, name), row_u64(row, "EXPIRED"),
                row_u64(row, "PURGED"));
}

static void
announce(const struct expire *e)
{
    FILE *f = e->t->out;

    if (!e->verbose || e->t->json)
        return;
    if (e->given[AGE_EXPUNGED])
        fprintf(f,
                "Expunging deleted messages in mailboxes older than %0.2f "
                "days\n",
                (double)e->age_s[AGE_EXPUNGED] / 86400);
    if (e->given[AGE_DELETED])
        fprintf(f, "Removing deleted mailboxes older than %0.2f days\n",
                (double)e->age_s[AGE_DELETED] / 86400);
}

/* The instance asks for this by itself on both twins: on the one that is not
 * the master there is nothing to do, and nothing wrong. */
static int
ask(struct expire *e)
{
    struct tool *t = e->t;
    struct error err = {0};

    if (!t->hooks.is_child)
        return tool_ask(t, print_row, e);
    enum errcode rc = tool_ask_quietly(t, print_row, e, &err);
    if (rc == ERR_READONLY || rc == ERR_FENCED)
        return tool_say(t, TOOL_OK, "nothing is done: %s", err.text);
    return rc == ERR_OK ? TOOL_OK : tool_fail(t, rc, &err);
}

static void
print_archived(void *ctx, const struct dlist *row)
{
    struct expire *e = ctx;
    FILE *f = e->t->out;

    if (!row_is(row, "ARCHIVED"))
        return;
    if (row_u64(row, "ENABLED") == 0)
        (void)tool_say(e->t, 0, "nothing is archived: archive_enabled is off");
    else if (e->t->json)
        fprintf(f,
                "{\"messages\":%" PRIu64 ",\"moved\":%" PRIu64
                ",\"bytes\":%" PRIu64 "}\n",
                row_u64(row, "MESSAGES"), row_u64(row, "MOVED"),
                row_u64(row, "BYTES"));
    else if (e->verbose)
        fprintf(f,
                "\nArchived: %" PRIu64 " parts of bodies moved, %" PRIu64
                " bytes, out of %" PRIu64 " messages\n",
                row_u64(row, "MOVED"), row_u64(row, "BYTES"),
                row_u64(row, "MESSAGES"));
}

static int
archive(struct expire *e, const char *prefix, const char *user)
{
    struct tool *t = e->t;

    tool_request(t, "ARCHIVE");
    dlist_u64(&t->args, "AGE", e->age_s[AGE_ARCHIVE]);
    if (prefix != NULL)
        dlist_str(&t->args, "PREFIX", prefix);
    if (user != NULL)
        dlist_str(&t->args, "USER", user);
    return tool_ask(t, print_archived, e);
}

static bool
take_age(struct expire *e, int letter, const char *text)
{
    for (size_t i = 0; i < AGES; i++)
        if (letters[i] == letter) {
            e->given[i] = true;
            return tool_duration(text, 'd', &e->age_s[i]);
        }
    return false;
}

static int
run(struct tool *t, int argc, char **argv)
{
    static const struct option options[] = {
        {"archive-duration", required_argument, NULL, 'A'},
        {"delete-duration", required_argument, NULL, 'D'},
        {"expire-duration", required_argument, NULL, 'E'},
        {"expunge-duration", required_argument, NULL, 'X'},
        {"ignore-annotations", no_argument, NULL, 'a'},
        {"no-conversations", no_argument, NULL, 'c'},
        {"no-expunge", no_argument, NULL, 'x'},
        {"prefix", required_argument, NULL, 'p'},
        {"prune-userflags", no_argument, NULL, 't'},
        {"userid", required_argument, NULL, 'u'},
        {"verbose", no_argument, NULL, 'v'},
        {"batchsize", required_argument, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    struct expire e = {.t = t};
    const char *prefix = NULL, *user = NULL;
    bool no_annotations = false, no_expunge = false, flags = false;
    int c;

    while ((c = tool_option(t, argc, argv, "A:D:E:X:p:u:axctv",
                            "b:", options)) != -1) {
        switch (c) {
        case 'p':
            prefix = optarg;
            break;
        case 'u':
            user = optarg;
            break;
        case 'a':
            no_annotations = true;
            break;
        case 'x':
            no_expunge = true;
            break;
        case 'c':
            break;
        case 't':
            flags = true;
            break;
        case 'v':
            e.verbose = true;
            break;
        case '?':
            return tool_end_options(t);
        default:
            if (!take_age(&e, c, optarg))
                return tool_usage(t, "-%c: \"%s\" is no age", c, optarg);
        }
    }
    if (optind != argc || (prefix != NULL && user != NULL))
        return tool_usage(t, "only options are possible, and one of -p and "
                             "-u");
    if (no_expunge)
        e.given[AGE_EXPUNGED] = false;
    bool expires =
        e.given[AGE_MARKS] || e.given[AGE_EXPUNGED] || e.given[AGE_DELETED];
    if (!expires && !e.given[AGE_ARCHIVE] && !flags)
        return tool_usage(t, "one of -A -D -E -X -t is needed");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    announce(&e);
    if (!expires && !e.given[AGE_ARCHIVE])
        return TOOL_OK; /* -t alone: flags cost nothing here */
    if (e.given[AGE_ARCHIVE]) {
        code = archive(&e, prefix, user);
        if (code != TOOL_OK || !expires)
            return code;
    }
    tool_request(t, "EXPIRE");
    for (size_t i = 0; i < EXPIRE_AGES; i++)
        if (e.given[i])
            dlist_u64(&t->args, keys[i], e.age_s[i]);
    if (no_annotations)
        dlist_u64(&t->args, "NOANNOTATIONS", 1);
    if (no_expunge)
        dlist_u64(&t->args, "NOEXPUNGE", 1);
    if (e.verbose && !t->json)
        dlist_u64(&t->args, "VERBOSE", 1);
    if (prefix != NULL)
        dlist_str(&t->args, "PREFIX", prefix);
    if (user != NULL)
        dlist_str(&t->args, "USER", user);
    return ask(&e);
}

const struct tool_def tool_cyr_expire = {"cyr_expire", usage, run};
