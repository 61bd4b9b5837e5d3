/*
 * admin/tool_ctl_backup.c - ctl_backup: a command, a directory, options.
 *
 * `create` is asked of the instance, which writes the files; the others need
 * the directory alone and are done here.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "admin/backup.h"
#include "admin/export.h"
#include "admin/tool.h"

static const char usage[] =
    "usage: ctl_backup create DIR [-C imapd.conf] [--keep N] [--rate BYTES]\n"
    "       ctl_backup list DIR\n"
    "       ctl_backup verify DIR [--generation N]\n"
    "       ctl_backup restore DIR -C imapd.conf [--generation N]\n"
    "       ctl_backup export --user NAME [--format maildir|mbox] TARGET\n"
    "                  [-C imapd.conf | --from DIR [--generation N]]\n"
    "       ctl_backup import --user NAME [--folder NAME] SOURCE\n"
    "                  [-C imapd.conf]\n"
    "  create    one more generation in DIR: the state as it is now, and the\n"
    "            bodies that are not there yet.  The instance writes it, as "
    "its\n"
    "            own user, so DIR is on its machine.\n"
    "  verify    reads every byte; a line for each fault, exit code 1 with "
    "any\n"
    "  restore   into the empty directories of that imapd.conf: a replica of\n"
    "            the same cluster that nobody has promoted\n"
    "  export    a user's mail into the empty directory TARGET, out of the\n"
    "            store, or out of a backup in DIR\n"
    "  import    the Maildir++ in SOURCE into mailboxes of a user, or below\n"
    "            --folder; what is there already is passed over\n"
    "  --keep N  afterwards remove the oldest generations until N are left\n"
    "  --rate BYTES   a second at most; with k, M or G at the end\n"
    "  --generation N not the newest one (verify: not all)\n"
    "  --json    list, create and verify as JSON\n";

struct options {
    const char *command, *dir; /* export: TARGET */
    const char *user, *from, *folder;
    enum export_format format;
    uint64_t keep, rate, generation;
};

/* "20M": bytes. */
static bool
bytes_of(const char *text, uint64_t *ret)
{
    static const char units[] = "kMG";
    struct span s = span_str(text);
    const char *unit = s.n == 0 ? NULL : strchr(units, text[s.n - 1]);
    unsigned shift = unit == NULL ? 0 : 10U * (unsigned)(unit - units + 1);
    uint64_t v = 0;

    if (!parse_u64(span_sub(s, 0, s.n - (unit != NULL)), &v) || v == 0 ||
        v > UINT64_MAX >> shift)
        return false;
    *ret = v << shift;
    return true;
}

static void
print_utc(FILE *f, uint64_t us)
{
    time_t t = (time_t)(us / 1000000);
    struct tm tm;
    char text[32];

    if (gmtime_r(&t, &tm) == NULL ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        text[0] = '\0';
    fputs(text, f);
}

/* ---- create ------------------------------------------------------------ */

static void
print_created(void *ctx, const struct dlist *row)
{
    struct tool *t = ctx;

    if (row_is(row, "WARNING")) {
        fprintf(t->err, "%s: warning: %.*s\n", t->def->name,
                SPAN_FMT(row_text(row, "TEXT")));
        return;
    }
    fprintf(
        t->out,
        t->json ? "{\"generation\":%" PRIu64 ",\"epoch\":%" PRIu64
                  ",\"lsn\":%" PRIu64 ",\"digest\":\"%.*s\",\"rows\":%" PRIu64
                  ",\"bodies\":%" PRIu64 ",\"new\":%" PRIu64
                  ",\"new_bytes\":%" PRIu64 ",\"lost\":%" PRIu64
                  ",\"dropped\":%" PRIu64 ",\"ms\":%" PRIu64 "}\n"
                : "generation %" PRIu64 " at %" PRIu64 ":%" PRIu64
                  ", digest %.*s: %" PRIu64 " rows, %" PRIu64
                  " bodies, of them %" PRIu64 " new (%" PRIu64
                  " bytes), %" PRIu64 " lost; %" PRIu64
                  " old generations removed; %" PRIu64 " ms\n",
        row_u64(row, "GENERATION"), row_u64(row, "EPOCH"), row_u64(row, "LSN"),
        SPAN_FMT(row_text(row, "DIGEST")), row_u64(row, "ROWS"),
        row_u64(row, "BODIES"), row_u64(row, "NEW"), row_u64(row, "NEWBYTES"),
        row_u64(row, "LOST"), row_u64(row, "DROPPED"), row_u64(row, "MS"));
}

/* PATH as the instance finds it; the caller frees it. */
static char *
absolute(const char *path)
{
    AUTO(xfree) char *here = getcwd(NULL, 0);

    return path[0] == '/' || here == NULL ? xstrdup(path)
                                          : xasprintf("%s/%s", here, path);
}

static int
run_create(struct tool *t, const struct options *o)
{
    AUTO(xfree) char *path = absolute(o->dir);
    int code = tool_begin(t);

    if (code != TOOL_OK)
        return code;
    tool_request(t, "BACKUP");
    dlist_str(&t->args, "PATH", path);
    dlist_u64(&t->args, "KEEP", o->keep);
    dlist_u64(&t->args, "RATE", o->rate);
    return tool_ask(t, print_created, t);
}

/* ---- list -------------------------------------------------------------- */

static void
print_generation(struct tool *t, const struct backup_generation *g)
{
    const struct backup_manifest *m = &g->m;
    uint64_t bytes = 0;

    for (size_t i = 0; i < m->nfiles; i++)
        bytes += m->files[i].bytes;
    if (!t->json) {
        fprintf(t->out, "%8" PRIu64 "  ", m->generation);
        print_utc(t->out, m->made_us);
        fprintf(t->out,
                "  %" PRI_EPOCH ":%" PRI_LSN "  digest %016" PRIx64 "  %" PRIu64
                " bodies, %" PRIu64 " new, %" PRIu64 " lost, files of %" PRIu64
                " bytes\n",
                m->pos.applied.epoch, m->pos.applied.lsn, m->pos.digest,
                m->bodies, m->new_bodies, m->lost, bytes);
        return;
    }
    fprintf(t->out, "{\"generation\":%" PRIu64 ",\"made\":\"", m->generation);
    print_utc(t->out, m->made_us);
    fprintf(t->out,
            "\",\"epoch\":%" PRI_EPOCH ",\"lsn\":%" PRI_LSN
            ",\"digest\":\"%016" PRIx64 "\",\"rows\":%" PRIu64
            ",\"bodies\":%" PRIu64 ",\"new\":%" PRIu64 ",\"lost\":%" PRIu64
            ",\"bytes\":%" PRIu64 "}",
            m->pos.applied.epoch, m->pos.applied.lsn, m->pos.digest, m->rows,
            m->bodies, m->new_bodies, m->lost, bytes);
}

static int
run_list(struct tool *t, const struct options *o)
{
    AUTO(backup_list_free) struct backup_list l = {0};
    struct error err = {0};
    bool is_first = true;
    int code = TOOL_OK;

    enum errcode rc = backup_list_read(t->env, o->dir, &l, &err);
    if (rc != ERR_OK)
        return tool_fail(t, rc, &err);
    if (t->json)
        fputs("[", t->out);
    for (size_t i = 0; i < l.n; i++) {
        if (l.v[i].code != ERR_OK) {
            code = tool_say(t, TOOL_DIFFERS, "%s", l.v[i].err.text);
            continue;
        }
        if (t->json && !is_first)
            fputs(",\n", t->out);
        is_first = false;
        print_generation(t, &l.v[i]);
    }
    if (t->json)
        fputs("]\n", t->out);
    return code;
}

/* ---- verify, restore --------------------------------------------------- */

static bool
progress(void *ctx, uint64_t done, uint64_t total)
{
    return tool_progress(ctx, done, total);
}

static void
print_fault(void *ctx, const char *text)
{
    struct tool *t = ctx;

    if (!t->json) {
        fprintf(t->out, "%s\n", text);
        return;
    }
    fputs("{\"fault\":", t->out);
    tool_json_string(t->out, span_str(text));
    fputs("}\n", t->out);
}

static int
run_verify(struct tool *t, const struct options *o)
{
    struct backup_watch watch = {t, progress, print_fault};
    struct backup_verified sum;
    const char *tmpdir = getenv("TMPDIR");
    struct error err = {0};

    enum errcode rc = tool_work(t, false, &err);
    if (rc == ERR_OK)
        rc = backup_verify(t->env, o->dir, tmpdir != NULL ? tmpdir : "/tmp",
                           o->generation, &watch, &sum, &err);
    if (rc != ERR_OK)
        return tool_fail(t, rc, &err);
    if (sum.faults > 0)
        return tool_say(t, TOOL_DIFFERS, "%" PRIu64 " faults in %s", sum.faults,
                        o->dir);
    fprintf(t->out,
            t->json ? "{\"generations\":%" PRIu64 ",\"rows\":%" PRIu64
                      ",\"bodies\":%" PRIu64 ",\"packs\":%" PRIu64 "}\n"
                    : "%" PRIu64 " generations, %" PRIu64 " rows, %" PRIu64
                      " bodies in %" PRIu64 " packs: all good\n",
            sum.generations, sum.rows, sum.bodies, sum.packs);
    return TOOL_OK;
}

static int
run_restore(struct tool *t, const struct options *o)
{
    AUTO(arena_free) struct arena storage = ARENA_INIT;
    struct backup_watch watch = {t, progress, print_fault};
    struct backup_manifest m;
    struct node_config nc;
    char servername[256];
    struct error err = {0};
    int code = tool_begin(t);

    if (code != TOOL_OK)
        return code;
    node_servername(t->cfg, servername, sizeof(servername));
    node_config_from(t->cfg, servername, &storage, &nc);
    enum errcode rc = tool_work(t, true, &err);
    if (rc == ERR_OK)
        rc = backup_restore(t->env, o->dir, o->generation, &nc, &watch, &m,
                            &err);
    if (rc != ERR_OK)
        return tool_fail(t, rc, &err);
    fprintf(t->out,
            "restored generation %" PRIu64 " at %" PRI_EPOCH ":%" PRI_LSN
            ", digest %016" PRIx64 ": %" PRIu64 " bodies, %" PRIu64
            " lost; it is a replica: let it follow its master, or run "
            "'ctl_failover promote'\n",
            m.generation, m.pos.applied.epoch, m.pos.applied.lsn, m.pos.digest,
            m.bodies, m.lost);
    return TOOL_OK;
}

/* ---- export ------------------------------------------------------------ */

struct exporting {
    struct tool *t;
    uint64_t failed;
};

static void
print_exported(struct tool *t, uint64_t folders, uint64_t messages,
               uint64_t bytes)
{
    fprintf(t->out,
            t->json ? "{\"folders\":%" PRIu64 ",\"messages\":%" PRIu64
                      ",\"bytes\":%" PRIu64 "}\n"
                    : "%" PRIu64 " folders, %" PRIu64 " messages, %" PRIu64
                      " bytes\n",
            folders, messages, bytes);
}

static void
on_exported(void *ctx, const struct dlist *row)
{
    struct exporting *x = ctx;

    if (row_is(row, "FAILED")) {
        x->failed++;
        (void)tool_say(x->t, 0, "%.*s, UID %" PRIu64 ": %.*s",
                       SPAN_FMT(row_text(row, "NAME")), row_u64(row, "UID"),
                       SPAN_FMT(row_text(row, "TEXT")));
        return;
    }
    print_exported(x->t, row_u64(row, "FOLDERS"), row_u64(row, "MESSAGES"),
                   row_u64(row, "BYTES"));
}

static bool
export_progress(void *ctx, uint64_t done, uint64_t total)
{
    return tool_progress(((struct exporting *)ctx)->t, done, total);
}

static void
export_failed(void *ctx, const char *text)
{
    struct exporting *x = ctx;

    x->failed++;
    (void)tool_say(x->t, 0, "%s", text);
}

static int
export_from(struct exporting *ex, const struct options *o)
{
    struct tool *t = ex->t;
    struct export_watch watch = {ex, export_progress, export_failed};
    struct export x = {0};
    struct error err = {0};

    enum errcode rc = tool_work(t, false, &err);
    if (rc == ERR_OK)
        rc = export_open(t->env, o->dir, o->format, &x, &err);
    if (rc == ERR_OK)
        rc = export_backup(t->env, o->from, o->generation, o->user, &x, &watch,
                           &err);
    if (rc == ERR_OK)
        print_exported(t, x.folders, x.messages, x.bytes);
    export_close(&x);
    return rc == ERR_OK ? TOOL_OK : tool_fail(t, rc, &err);
}

static int
run_export(struct tool *t, const struct options *o)
{
    struct exporting ex = {.t = t};
    int code;

    if (o->user == NULL)
        return tool_usage(t, "export needs --user");
    if (o->from != NULL) {
        code = export_from(&ex, o);
    } else {
        AUTO(xfree) char *path = absolute(o->dir);
        code = tool_begin(t);
        if (code != TOOL_OK)
            return code;
        tool_request(t, "EXPORT");
        dlist_str(&t->args, "USER", o->user);
        dlist_str(&t->args, "TARGET", path);
        dlist_u64(&t->args, "MBOX", o->format == EXPORT_MBOX);
        code = tool_ask(t, on_exported, &ex);
    }
    return code == TOOL_OK && ex.failed > 0 ? TOOL_DIFFERS : code;
}

/* ---- import ------------------------------------------------------------ */

static void
on_imported(void *ctx, const struct dlist *row)
{
    struct exporting *x = ctx;

    if (row_is(row, "FAILED")) {
        x->failed++;
        (void)tool_say(x->t, 0, "%.*s: %.*s", SPAN_FMT(row_text(row, "NAME")),
                       SPAN_FMT(row_text(row, "TEXT")));
        return;
    }
    fprintf(x->t->out,
            x->t->json ? "{\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64
                         ",\"skipped\":%" PRIu64 ",\"made\":%" PRIu64 "}\n"
                       : "%" PRIu64 " messages, %" PRIu64 " bytes; %" PRIu64
                         " were there already; %" PRIu64 " mailboxes made\n",
            row_u64(row, "MESSAGES"), row_u64(row, "BYTES"),
            row_u64(row, "SKIPPED"), row_u64(row, "MADE"));
}

static int
run_import(struct tool *t, const struct options *o)
{
    struct exporting ex = {.t = t};
    AUTO(xfree) char *path = absolute(o->dir);

    if (o->user == NULL)
        return tool_usage(t, "import needs --user");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    tool_request(t, "IMPORT");
    dlist_str(&t->args, "USER", o->user);
    dlist_str(&t->args, "SOURCE", path);
    if (o->folder != NULL)
        dlist_str(&t->args, "FOLDER", o->folder);
    code = tool_ask(t, on_imported, &ex);
    return code == TOOL_OK && ex.failed > 0 ? TOOL_DIFFERS : code;
}

/* ---- the program ------------------------------------------------------- */

static const struct {
    const char *name;
    int (*run)(struct tool *t, const struct options *o);
} commands[] = {
    {"create", run_create},   {"list", run_list},     {"verify", run_verify},
    {"restore", run_restore}, {"export", run_export}, {"import", run_import},
};

static int
run(struct tool *t, int argc, char **argv)
{
    enum {
        OPT_KEEP = 256,
        OPT_RATE,
        OPT_GENERATION,
        OPT_USER,
        OPT_FORMAT,
        OPT_FROM,
        OPT_FOLDER
    };
    static const struct option options[] = {
        {"keep", required_argument, NULL, OPT_KEEP},
        {"rate", required_argument, NULL, OPT_RATE},
        {"generation", required_argument, NULL, OPT_GENERATION},
        {"user", required_argument, NULL, OPT_USER},
        {"format", required_argument, NULL, OPT_FORMAT},
        {"from", required_argument, NULL, OPT_FROM},
        {"folder", required_argument, NULL, OPT_FOLDER},
        {NULL, 0, NULL, 0},
    };
    struct options o = {0};
    int c;

    while ((c = tool_option(t, argc, argv, "", "", options)) != -1) {
        switch (c) {
        case OPT_KEEP:
            if (!parse_u64(span_str(optarg), &o.keep) || o.keep == 0)
                return tool_usage(t, "--keep needs a number from 1 on");
            break;
        case OPT_RATE:
            if (!bytes_of(optarg, &o.rate))
                return tool_usage(t, "--rate needs bytes a second, as 20M");
            break;
        case OPT_GENERATION:
            if (!parse_u64(span_str(optarg), &o.generation) ||
                o.generation == 0)
                return tool_usage(t, "--generation needs a number from 1 on");
            break;
        case OPT_USER:
            o.user = optarg;
            break;
        case OPT_FROM:
            o.from = optarg;
            break;
        case OPT_FOLDER:
            o.folder = optarg;
            break;
        case OPT_FORMAT:
            if (strcmp(optarg, "maildir") != 0 && strcmp(optarg, "mbox") != 0)
                return tool_usage(t, "--format is maildir or mbox");
            o.format =
                strcmp(optarg, "mbox") == 0 ? EXPORT_MBOX : EXPORT_MAILDIR;
            break;
        default:
            return tool_end_options(t);
        }
    }
    if (optind + 2 != argc)
        return tool_usage(t, "a command and a directory are needed");
    o.command = argv[optind];
    o.dir = argv[optind + 1];
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(o.command, commands[i].name) == 0)
            return commands[i].run(t, &o);
    return tool_usage(t, "%s is not a command", o.command);
}

const struct tool_def tool_ctl_backup = {"ctl_backup", usage, run};
