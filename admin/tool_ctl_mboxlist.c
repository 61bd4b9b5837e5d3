/*
 * admin/tool_ctl_mboxlist.c - ctl_mboxlist: the list of mailboxes dumped,
 * loaded, verified.
 *
 * A dump has the members that Cyrus 3.6 writes, and more: numbers are strings
 * there, and so here.  Loading makes the mailboxes that are missing and sets
 * rights that differ; a mailbox that is made here gets a UNIQUEID and a
 * UIDVALIDITY of its own, since it is not the one that the dump was made of.
 */
#include "admin/tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/json.h"

static const char usage[] =
    "usage: ctl_mboxlist [-C imapd.conf] -d [-x] [-y] [-p partition]\n"
    "       ctl_mboxlist [-C imapd.conf] -u [-L] [file]\n"
    "       ctl_mboxlist [-C imapd.conf] -v\n"
    "       ctl_mboxlist [-C imapd.conf] -m [-a] [-w] [-i]\n"
    "  -d  dump the list as JSON\n"
    "  -x  with -d: delete (to DELETED.) what was dumped\n"
    "  -p  with -d: only mailboxes of this partition\n"
    "  -u  load a dump from FILE or standard input: make what is missing, set\n"
    "      rights that differ\n"
    "  -L  with -u: the lines of older versions, not JSON\n"
    "  -v  look for what is wrong; exit status 1 if there is something\n"
    "  -m  to the MUPDATE server: not in this version\n";

#define DUMP_BYTES_MAX (UINT64_C(1) << 30)
#define REMOVE_BATCH 200U

struct mboxlist {
    struct tool *t;
    bool any;
    uint64_t n; /* verified */
    uint64_t made, changed, same;
    uint64_t wrong;
    struct buf dumped; /* with -x: names, each with its NUL */
    size_t ndumped;
    bool removing;
};

/* ---- -d ---------------------------------------------------------------- */

static void
print_acl(FILE *f, struct span acl)
{
    bool first = true;

    fputc('{', f);
    while (acl.n > 0) {
        struct span part[2];
        for (int i = 0; i < 2; i++) {
            ptrdiff_t tab = span_find_byte(acl, '\t', 0);
            part[i] = tab < 0 ? acl : span_sub(acl, 0, (size_t)tab);
            acl = span_skip(acl, part[i].n + 1);
        }
        fputs(first ? "" : ", ", f);
        tool_json_string(f, part[0]);
        fputs(": ", f);
        tool_json_string(f, part[1]);
        first = false;
    }
    fputc('}', f);
}

static void
print_mailbox(void *ctx, const struct dlist *row)
{
    struct mboxlist *m = ctx;
    FILE *f = m->t->out;
    struct span name = row_text(row, "NAME");
    struct span root = row_text(row, "ROOT");
    struct span use = row_text(row, "USE");

    fputs(m->any ? ",\n" : "", f);
    tool_json_string(f, name);
    fputs(": {\"name\": ", f);
    tool_json_string(f, name);
    fprintf(f,
            ", \"mtime\": \"%" PRIu64 "\", \"uidvalidity\": \"%" PRIu64
            "\", \"createdmodseq\": \"%" PRIu64
            "\", \"foldermodseq\": \"%" PRIu64 "\", \"uniqueid\": ",
            row_u64(row, "APPENDED"), row_u64(row, "UIDVALIDITY"),
            row_u64(row, "CREATED"), row_u64(row, "MODSEQ"));
    tool_json_string(f, row_text(row, "UNIQUEID"));
    fputs(", \"mbtype\": \"e\", \"partition\": ", f);
    tool_json_string(f, row_text(row, "PARTITION"));
    fputs(", \"acl\": ", f);
    print_acl(f, row_text(row, "ACL"));
    if (root.n > 0) {
        fputs(", \"quotaroot\": ", f);
        tool_json_string(f, root);
    }
    if (use.n > 0) {
        fputs(", \"specialuse\": ", f);
        tool_json_string(f, use);
    }
    fputs(", \"name_history\": []}", f);
    m->any = true;
    if (m->removing && !span_starts(name, SPAN_LIT("DELETED."))) {
        buf_add(&m->dumped, name);
        buf_add_byte(&m->dumped, 0);
        m->ndumped++;
    }
}

static int
remove_dumped(struct mboxlist *m)
{
    int code = TOOL_OK;
    size_t at = 0;

    while (code == TOOL_OK && at < m->dumped.n) {
        tool_request(m->t, "REMOVE");
        dlist_open_list(&m->t->args, "NAMES");
        for (size_t i = 0; i < REMOVE_BATCH && at < m->dumped.n; i++) {
            const char *name = (const char *)m->dumped.p + at;
            dlist_str(&m->t->args, NULL, name);
            at += strlen(name) + 1;
        }
        dlist_close(&m->t->args);
        code = tool_ask(m->t, NULL, NULL);
    }
    return code;
}

static int
dump(struct mboxlist *m, const char *partition)
{
    tool_request(m->t, "MAILBOXES");
    if (partition != NULL)
        dlist_str(&m->t->args, "PARTITION", partition);
    fputs("{\n", m->t->out);
    int code = tool_ask(m->t, print_mailbox, m);
    fputs(m->any ? "\n}\n" : "}\n", m->t->out);
    if (code == TOOL_OK && fflush(m->t->out) != 0)
        code = tool_say(m->t, TOOL_IO,
                        "the dump could not be written; "
                        "nothing was deleted");
    if (code == TOOL_OK && m->removing)
        code = remove_dumped(m);
    buf_free(&m->dumped);
    return code;
}

/* ---- -v ---------------------------------------------------------------- */

static void
print_wrong(void *ctx, const struct dlist *row)
{
    struct mboxlist *m = ctx;

    if (row_is(row, "VERIFIED")) {
        m->n = row_u64(row, "MAILBOXES");
        return;
    }
    m->wrong++;
    fprintf(m->t->out, "'%.*s': %.*s\n", SPAN_FMT(row_text(row, "NAME")),
            SPAN_FMT(row_text(row, "TEXT")));
}

static int
verify(struct mboxlist *m)
{
    tool_request(m->t, "VERIFY");
    int code = tool_ask(m->t, print_wrong, m);
    if (code != TOOL_OK)
        return code;
    if (m->wrong == 0 && m->t->shows_progress)
        fprintf(m->t->out, "%" PRIu64 " mailboxes: nothing is wrong\n", m->n);
    return m->wrong > 0 ? TOOL_DIFFERS : TOOL_OK;
}

/* ---- -u ---------------------------------------------------------------- */

static void
count_loaded(void *ctx, const struct dlist *row)
{
    struct mboxlist *m = ctx;
    struct span did = row_text(row, "DID");

    m->made += span_eq_str(did, "made");
    m->changed += span_eq_str(did, "rights set");
    m->same += did.n == 0;
}

static int
load_one(struct mboxlist *m, struct span name, struct span partition,
         struct span acl)
{
    tool_request(m->t, "LOAD");
    dlist_span(&m->t->args, "NAME", name);
    dlist_span(&m->t->args, "ACL", acl);
    if (partition.n > 0)
        dlist_span(&m->t->args, "PARTITION", partition);
    return tool_ask(m->t, count_loaded, m);
}

/* {"joe": "lrs", ...} as the store has it. */
static bool
take_acl(struct json *j, struct buf *acl)
{
    enum json_kind k = json_next(j);

    buf_clear(acl);
    if (k != JSON_OBJECT)
        return false;
    while ((k = json_next(j)) == JSON_KEY) {
        buf_add(acl, j->text);
        buf_add_byte(acl, '\t');
        if (json_next(j) != JSON_STRING)
            return false;
        buf_add(acl, j->text);
        buf_add_byte(acl, '\t');
    }
    return k == JSON_OBJECT_END;
}

/* The members of one mailbox; false: not of that shape. */
static bool
take_mailbox(struct json *j, struct span *partition, struct buf *acl)
{
    enum json_kind k = json_next(j);

    *partition = SPAN_EMPTY;
    buf_clear(acl);
    if (k != JSON_OBJECT)
        return false;
    while ((k = json_next(j)) == JSON_KEY) {
        struct span key = j->text;
        if (span_eq_str(key, "acl")) {
            if (!take_acl(j, acl))
                return false;
        } else if (span_eq_str(key, "partition")) {
            if (json_next(j) != JSON_STRING)
                return false;
            *partition = j->text;
        } else if (!json_skip(j, json_next(j))) {
            return false;
        }
    }
    return k == JSON_OBJECT_END;
}

static int
load_json(struct mboxlist *m, struct span text)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    AUTO(buf_free) struct buf acl = BUF_INIT;
    struct json j;
    struct span partition;
    int code = TOOL_OK;

    json_begin(&j, text, &a);
    enum json_kind k = json_next(&j);
    if (k != JSON_OBJECT)
        return tool_say(m->t, TOOL_DATA, "this is not a dump: %s",
                        j.why == NULL ? "no JSON object" : j.why);
    while (code == TOOL_OK && (k = json_next(&j)) == JSON_KEY) {
        struct span name = j.text;
        if (!take_mailbox(&j, &partition, &acl))
            return tool_say(
                m->t, TOOL_DATA, "this is not a dump, from \"%.*s\" on: %s",
                SPAN_FMT(span_sub(name, 0, 200)),
                j.why == NULL ? "a member has another type" : j.why);
        if (!span_starts(name, SPAN_LIT("DELETED.")))
            code = load_one(m, name, partition, buf_span(&acl));
    }
    if (code == TOOL_OK && k == JSON_OBJECT_END)
        k = json_next(&j);
    if (code == TOOL_OK && k != JSON_END)
        code = tool_say(m->t, TOOL_DATA, "this is not a dump: %s",
                        j.why == NULL ? "a key was expected" : j.why);
    return code;
}

/* "NAME TAB TYPE SP PARTITION SP ACL", the ACL with its own TABs. */
static int
load_legacy(struct mboxlist *m, struct span text)
{
    unsigned line = 0;
    int code = TOOL_OK;

    while (code == TOOL_OK && text.n > 0) {
        ptrdiff_t end = span_find_byte(text, '\n', 0);
        struct span s = end < 0 ? text : span_sub(text, 0, (size_t)end);
        text = span_skip(text, s.n + 1);
        line++;
        if (s.n == 0)
            continue;
        ptrdiff_t tab = span_find_byte(s, '\t', 0);
        ptrdiff_t type = tab <= 0 ? -1 : span_find_byte(s, ' ', (size_t)tab);
        ptrdiff_t part =
            type < 0 ? -1 : span_find_byte(s, ' ', (size_t)type + 1);
        if (part < 0)
            return tool_say(m->t, TOOL_DATA, "line %u is none of a dump", line);
        struct span name = span_sub(s, 0, (size_t)tab);
        if (!span_starts(name, SPAN_LIT("DELETED.")))
            code = load_one(
                m, name,
                span_sub(s, (size_t)type + 1, (size_t)(part - type) - 1),
                span_skip(s, (size_t)part + 1));
    }
    return code;
}

static int
read_dump(struct mboxlist *m, const char *path, struct buf *to)
{
    FILE *f = path == NULL ? stdin : fopen(path, "re");
    size_t n = 1;

    if (f == NULL)
        return tool_say(m->t, TOOL_DATA, "%s: %s", path, strerror(errno));
    while (n > 0 && to->n <= DUMP_BYTES_MAX) {
        uint8_t *at = buf_reserve(to, 65536);
        n = fread(at, 1, 65536, f);
        to->n += n;
    }
    bool failed = ferror(f) != 0;
    if (path != NULL)
        (void)fclose(f);
    if (failed)
        return tool_say(m->t, TOOL_IO, "the dump could not be read");
    if (to->n > DUMP_BYTES_MAX)
        return tool_say(m->t, TOOL_DATA, "a dump of over 1 GiB");
    return TOOL_OK;
}

static int
load(struct mboxlist *m, const char *path, bool legacy)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    int code = read_dump(m, path, &text);
    if (code == TOOL_OK)
        code = legacy ? load_legacy(m, buf_span(&text))
                      : load_json(m, buf_span(&text));
    if (m->made + m->changed + m->same > 0 || code == TOOL_OK)
        fprintf(m->t->out,
                "%" PRIu64 " mailboxes made, %" PRIu64
                " with other rights, %" PRIu64 " as they were\n",
                m->made, m->changed, m->same);
    return code;
}

/* ---- options ----------------------------------------------------------- */

static int
say_murder(struct tool *t)
{
    const char *server = config_string(t->cfg, "mupdate_server");

    if (server == NULL || server[0] == '\0')
        return tool_say(t, TOOL_NOSTORE,
                        "imapd.conf names no mupdate_server, so there is no "
                        "murder to tell");
    return tool_say(t, TOOL_NOSTORE,
                    "MUPDATE is not in this version: %s was not told", server);
}

static int
run(struct tool *t, int argc, char **argv)
{
    struct mboxlist m = {.t = t};
    const char *partition = NULL;
    bool legacy = false;
    char what = 0;
    int c;

    while ((c = tool_option(t, argc, argv, "dxp:uLvmawi", "yf:", NULL)) != -1) {
        switch (c) {
        case 'd':
        case 'u':
        case 'v':
        case 'm':
            if (what != 0 && what != c)
                return tool_usage(t, "only one of -d, -u, -v and -m is "
                                     "possible");
            what = (char)c;
            break;
        case 'x':
            m.removing = true;
            break;
        case 'p':
            partition = optarg;
            break;
        case 'L':
            legacy = true;
            break;
        case 'a':
        case 'w':
        case 'i':
            break;
        default:
            return tool_end_options(t);
        }
    }
    if (what == 0 || optind + (what == 'u') < argc)
        return tool_usage(t, "one of -d, -u, -v and -m is needed");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    if (what == 'm')
        return say_murder(t);
    if (what == 'd')
        return dump(&m, partition);
    return what == 'v' ? verify(&m)
                       : load(&m, optind < argc ? argv[optind] : NULL, legacy);
}

const struct tool_def tool_ctl_mboxlist = {"ctl_mboxlist", usage, run};
