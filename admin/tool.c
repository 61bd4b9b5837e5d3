/*
 * admin/tool.c - the way in of every tool, and how it ends.
 *
 * Whether an instance runs is found out by asking it.  If nobody listens at the
 * control socket the store is opened here; its lock then keeps an instance from
 * starting until the tool is done, and two tools apart.  Between the two there
 * is the moment in which an instance holds the lock and does not listen yet (or
 * not any more): that is waited for.
 *
 * A store is only opened where there is one: a wrong imapd.conf must not found
 * a new one.  Before the first request of a master that has a twin the twin is
 * asked, as an instance does before it serves: nothing is to be written in an
 * epoch that is over.
 */
#include "admin/tool.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "csync/client.h"
#include "net/sasl.h"
#include "store/names.h"

#define DEFAULT_CONFIG "/etc/imapd.conf"
#define CONNECT_MS 10000
#define LOCK_WAIT_MS 10000U /* for an instance that comes up or goes down */
#define LOCK_LOOK_MS 100U
#define TWIN_MS 3000
#define PROGRESS_EVERY_NS UINT64_C(250000000)

/* SIGINT or SIGTERM while the store is open here. */
static volatile sig_atomic_t interrupted;

/* ---- saying ------------------------------------------------------------ */

static const int exit_codes[] = {
    [ERR_OK] = TOOL_OK,
    [ERR_AGAIN] = TOOL_TEMPFAIL,
    [ERR_LIMIT] = TOOL_DATA,
    [ERR_PROTO] = TOOL_FAILED,
    [ERR_SYNTAX] = TOOL_USAGE,
    [ERR_GAP] = TOOL_FAILED,
    [ERR_FENCED] = TOOL_TEMPFAIL,
    [ERR_READONLY] = TOOL_TEMPFAIL,
    [ERR_CORRUPT] = TOOL_IO,
    [ERR_IO] = TOOL_IO,
    [ERR_NOSPACE] = TOOL_TEMPFAIL,
    [ERR_CLOSED] = TOOL_TEMPFAIL,
    [ERR_TIMEOUT] = TOOL_TEMPFAIL,
    [ERR_AUTH] = TOOL_NOPERM,
    [ERR_DENIED] = TOOL_NOPERM,
    [ERR_NOTFOUND] = TOOL_DATA,
    [ERR_EXISTS] = TOOL_DATA,
    [ERR_CONFLICT] = TOOL_TEMPFAIL,
    [ERR_QUOTA] = TOOL_DATA,
    [ERR_BADNAME] = TOOL_DATA,
    [ERR_HISTORY] = TOOL_IO,
    [ERR_VERSION] = TOOL_NOSTORE,
    [ERR_BUSY] = TOOL_TEMPFAIL,
    [ERR_UNSUPPORTED] = TOOL_FAILED,
};

static void
end_progress(struct tool *t)
{
    if (t->progress_shown)
        fputs("\r\033[K", t->err);
    t->progress_shown = false;
}

int
tool_fail(struct tool *t, enum errcode code, const struct error *err)
{
    end_progress(t);
    fprintf(t->err, "%s: %s\n", t->def->name, err->text);
    return (size_t)code < ARRAY_LEN(exit_codes) ? exit_codes[code]
                                                : TOOL_FAILED;
}

int
tool_say(struct tool *t, int exit_code, const char *fmt, ...)
{
    va_list args;

    end_progress(t);
    fprintf(t->err, "%s: ", t->def->name);
    va_start(args, fmt);
    vfprintf(t->err, fmt, args);
    va_end(args);
    fputc('\n', t->err);
    return exit_code;
}

int
tool_usage(const struct tool *t, const char *fmt, ...)
{
    va_list args;

    fprintf(t->err, "%s: ", t->def->name);
    va_start(args, fmt);
    vfprintf(t->err, fmt, args);
    va_end(args);
    fprintf(t->err, "\n%s", t->def->usage);
    return TOOL_USAGE;
}

/* ---- options ----------------------------------------------------------- */

enum { OPT_JSON = 0x1000, OPT_HELP };

int
tool_end_options(const struct tool *t)
{
    return t->exit_code;
}

/* A letter of Cyrus's that has no effect here. */
static void
say_no_effect(struct tool *t, int letter)
{
    fprintf(t->err, "%s: -%c has no effect here\n", t->def->name, letter);
}

int
tool_option(struct tool *t, int argc, char **argv, const char *letters,
            const char *no_effect, const struct option *long_options)
{
    AUTO(xfree) char *all = xasprintf(":C:h%s%s", letters, no_effect);
    static const struct option common[] = {
        {"config", required_argument, NULL, 'C'},
        {"json", no_argument, NULL, OPT_JSON},
        {"help", no_argument, NULL, OPT_HELP},
    };
    struct option options[24] = {{NULL, 0, NULL, 0}};
    size_t n = ARRAY_LEN(common);

    memcpy(options, common, sizeof(common));
    for (; long_options != NULL && long_options->name != NULL; long_options++) {
        ENSURE(n + 1 < ARRAY_LEN(options));
        options[n++] = *long_options;
    }
    for (;;) {
        int before = optind;
        int c = getopt_long(argc, argv, all, options, NULL);
        if (c == 'C') {
            t->conf = optarg;
        } else if (c == OPT_JSON) {
            t->json = true;
        } else if (c == OPT_HELP ||
                   (c == 'h' && strchr(letters, 'h') == NULL)) {
            fputs(t->def->usage, t->out);
            t->exit_code = TOOL_OK;
            return '?';
        } else if (c == ':') {
            t->exit_code = tool_usage(t, "%s needs a value", argv[optind - 1]);
            return '?';
        } else if (c == '?') {
            if (optopt > ' ' && optopt < 127)
                t->exit_code = tool_usage(t, "-%c is not known", optopt);
            else
                t->exit_code =
                    tool_usage(t, "%s is not known",
                               argv[before < argc ? before : argc - 1]);
            return '?';
        } else if (c > ' ' && c < 127 && strchr(no_effect, c) != NULL) {
            say_no_effect(t, c);
        } else {
            return c;
        }
    }
}

/* ---- the way in -------------------------------------------------------- */

static void
on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

int
tool_begin(struct tool *t)
{
    struct error err = {0};

    if (config_read(t->env, t->conf, &t->cfg, &err) != ERR_OK)
        return tool_say(t, TOOL_CONFIG, "%s", err.text);
    t->ns = (struct namespace){
        .sep = config_switch(t->cfg, "unixhierarchysep") ? '/' : '.',
        .alt = config_switch(t->cfg, "altnamespace"),
        .user_prefix = config_string(t->cfg, "userprefix"),
        .shared_prefix = config_string(t->cfg, "sharedprefix"),
    };
    return TOOL_OK;
}

static char *
control_path(const struct tool *t)
{
    const char *path = config_string(t->cfg, "control_socket");

    if (path != NULL)
        return xstrdup(path);
    return xasprintf("%s/socket/control",
                     config_string(t->cfg, "configdirectory"));
}

static enum errcode
connect_instance(struct tool *t, struct error *err)
{
    AUTO(xfree) char *path = control_path(t);

    enum errcode rc = csync_connect_control(path, CONNECT_MS, &t->client, err);
    if (rc == ERR_OK)
        csync_client_set_timeout(t->client, BCLIENT_FOREVER);
    return rc;
}

static void
catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};

    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    (void)sigaction(SIGHUP, &act, NULL);
}

/* The store of this configuration, which nobody has open. */
static enum errcode
open_here(struct tool *t, struct error *err)
{
    const char *dir = config_string(t->cfg, "configdirectory");
    AUTO(xfree) char *node_path = xasprintf("%s/node", dir);
    char servername[256];
    AUTO(arena_free) struct arena storage = ARENA_INIT;
    struct node_config nc;
    struct node_hooks hooks = {0};

    if (!env_exists(t->env, node_path))
        return error_set(err, ERR_NOTFOUND,
                         "no instance runs, and there is no store in %s", dir);
    node_servername(t->cfg, servername, sizeof(servername));
    node_config_from(t->cfg, servername, &storage, &nc);
    enum errcode rc =
        node_open(t->env, &nc, &hooks, &t->node, &t->host.found, err);
    if (rc != ERR_OK)
        return rc;
    catch_signals();
    if (config_string(t->cfg, "sync_host") != NULL) {
        rc = sasl_library_start(t->cfg, "pollux", err);
        if (rc != ERR_OK)
            return rc;
        rc = node_ask_twin(t->node, t->cfg, TWIN_MS, err);
        sasl_library_stop();
    }
    t->host.env = t->env;
    t->host.cfg = t->cfg;
    t->host.node = t->node;
    return rc;
}

static void
wait_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000,
                          .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)nanosleep(&ts, NULL);
}

/* May somebody who is not root, or not the instance's user, open it? */
static enum errcode
find_store(struct tool *t, struct error *err)
{
    uint64_t until = env_mono_ns(t->env) + LOCK_WAIT_MS * UINT64_C(1000000);
    bool became = false;

    if (t->client != NULL || t->node != NULL)
        return ERR_OK;
    for (;;) {
        enum errcode rc = connect_instance(t, err);
        if (rc != ERR_NOTFOUND && rc != ERR_CLOSED)
            return rc;
        if (!became && t->hooks.become != NULL) {
            rc = t->hooks.become(t->cfg, err);
            if (rc != ERR_OK)
                return rc;
        }
        became = true;
        rc = open_here(t, err);
        if (rc != ERR_BUSY)
            return rc;
        if (env_mono_ns(t->env) > until)
            return error_prefix(err, "no instance answers here, and the store "
                                     "cannot be opened");
        wait_ms(LOCK_LOOK_MS);
    }
}

/* ---- asking ------------------------------------------------------------ */

void
tool_request(struct tool *t, const char *verb)
{
    buf_clear(&t->request);
    dlist_print_begin(&t->args, &t->request, DLIST_CLIENT);
    dlist_open_kv(&t->args, verb);
}

static void
print_count(FILE *f, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, n);

    for (int i = 0; i < len; i++) {
        fputc(digits[i], f);
        if ((len - i - 1) % 3 == 0 && i + 1 < len)
            fputc(',', f);
    }
}

/* "12,345 of 457,000, 2,100/s, 3:31 left", over what stood there before. */
static void
show_progress(struct tool *t, uint64_t done, uint64_t total)
{
    uint64_t ns = env_mono_ns(t->env) - t->began_ns;
    double rate = ns == 0 ? 0 : (double)done * 1e9 / (double)ns;

    if (!t->shows_progress || t->quiet)
        return;
    fputs("\r\033[K", t->err);
    print_count(t->err, done);
    if (total > 0) {
        fputs(" of ", t->err);
        print_count(t->err, total);
    }
    fputs(", ", t->err);
    print_count(t->err, (uint64_t)rate);
    fputs("/s", t->err);
    if (total > done && rate > 0) {
        uint64_t left = (uint64_t)((double)(total - done) / rate);
        fprintf(t->err, ", %" PRIu64 ":%02" PRIu64 " left", left / 60,
                left % 60);
    }
    fflush(t->err);
    t->progress_shown = true;
}

enum errcode
tool_work(struct tool *t, bool as_instance, struct error *err)
{
    catch_signals();
    t->began_ns = t->shown_ns = env_mono_ns(t->env);
    if (!as_instance || t->hooks.become == NULL)
        return ERR_OK;
    return t->hooks.become(t->cfg, err);
}

bool
tool_progress(struct tool *t, uint64_t done, uint64_t total)
{
    uint64_t now = env_mono_ns(t->env);

    if (now - t->shown_ns > PROGRESS_EVERY_NS) {
        t->shown_ns = now;
        show_progress(t, done, total);
    }
    return !interrupted;
}

static void
on_row(void *ctx, const struct dlist *row)
{
    struct tool *t = ctx;

    if (row_is(row, "PROGRESS")) {
        show_progress(t, row_u64(row, "DONE"), row_u64(row, "TOTAL"));
        return;
    }
    end_progress(t);
    if (t->each != NULL)
        t->each(t->each_ctx, row);
}

static bool
line_here(void *ctx, struct span line)
{
    struct tool *t = ctx;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error err = {0};
    struct dlist *d = NULL;
    size_t used = 0;

    buf_add(&text, span_skip(line, 2)); /* without "* " */
    buf_add_str(&text, "\r\n");
    ENSURE(dlist_parse(buf_span(&text), &dlist_default_limits, &a, &d, &used,
                       &err) == PARSE_DONE);
    on_row(t, d);
    return !interrupted;
}

static bool
pause_here(void *ctx, unsigned ms)
{
    (void)ctx;
    if (ms > 0 && !interrupted)
        wait_ms(ms);
    return !interrupted;
}

static enum errcode
ask_here(struct tool *t, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct csync_answer answer = {
        .ctx = t,
        .line = line_here,
        .pause = pause_here,
    };
    struct dlist *d = NULL;
    size_t used = 0;

    buf_add_str(&t->request, "\r\n");
    ENSURE(dlist_parse(buf_span(&t->request), &dlist_default_limits, &a, &d,
                       &used, err) == PARSE_DONE);
    enum errcode rc = admin_run(&t->host, d->name, d, &answer, err);
    if (rc == ERR_CLOSED && interrupted)
        return error_set(err, ERR_CLOSED, "interrupted");
    return rc;
}

static enum errcode
ask_instance(struct tool *t, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;

    buf_add_str(&line, "ADMIN ");
    buf_add(&line, buf_span(&t->request));
    return csync_command(t->client, buf_span(&line), on_row, t, err);
}

enum errcode
tool_ask_quietly(struct tool *t,
                 void (*each)(void *ctx, const struct dlist *row), void *ctx,
                 struct error *err)
{
    dlist_close(&t->args);
    t->each = each;
    t->each_ctx = ctx;
    enum errcode rc = find_store(t, err);
    if (rc == ERR_OK) {
        t->began_ns = env_mono_ns(t->env);
        rc = t->client != NULL ? ask_instance(t, err) : ask_here(t, err);
    }
    end_progress(t);
    return rc;
}

int
tool_ask(struct tool *t, void (*each)(void *ctx, const struct dlist *row),
         void *ctx)
{
    struct error err = {0};

    enum errcode rc = tool_ask_quietly(t, each, ctx, &err);
    if (rc == ERR_OK)
        return TOOL_OK;
    if (t->client == NULL && t->node == NULL && rc == ERR_NOTFOUND)
        return tool_say(t, TOOL_NOSTORE, "%s", err.text);
    return tool_fail(t, rc, &err);
}

/* ---- rows -------------------------------------------------------------- */

struct span
row_text(const struct dlist *row, const char *name)
{
    struct span s = SPAN_EMPTY;

    (void)!dlist_get_text(row, name, &s);
    return s;
}

uint64_t
row_u64(const struct dlist *row, const char *name)
{
    uint64_t v = 0;

    (void)!dlist_get_u64(row, name, &v);
    return v;
}

bool
row_is(const struct dlist *row, const char *name)
{
    return span_eq_str(row->name, name);
}

const char *
tool_external(struct tool *t, const char *internal)
{
    arena_reset(&t->names);
    return name_to_external(&t->ns, NULL, true, internal, &t->names);
}

void
tool_json_string(FILE *f, struct span s)
{
    fputc('"', f);
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < ' ' || c == 127)
            fprintf(f, "\\u%04x", c);
        else
            fputc(c, f);
    }
    fputc('"', f);
}

static bool
unit_seconds(char unit, double *ret)
{
    static const struct {
        char unit;
        double seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};

    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (units[i].unit == unit) {
            *ret = units[i].seconds;
            return true;
        }
    return false;
}

bool
tool_duration(const char *text, char unit, uint64_t *ret_s)
{
    static const double most = 1000.0 * 366 * 86400;
    size_t n = strlen(text);
    double whole = 0, scale = 1, seconds = 0;
    bool point = false, digit = false;

    if (n > 0 && unit_seconds(text[n - 1], &seconds))
        n--;
    else if (!unit_seconds(unit, &seconds))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '.' && !point) {
            point = true;
        } else if (text[i] >= '0' && text[i] <= '9') {
            digit = true;
            whole = whole * 10 + (text[i] - '0');
            scale *= point ? 10 : 1;
            if (whole > 1e15)
                return false;
        } else {
            return false;
        }
    }
    if (!digit || whole / scale * seconds > most)
        return false;
    *ret_s = (uint64_t)(whole / scale * seconds);
    return true;
}

/* ---- the program ------------------------------------------------------- */

int
tool_main(const struct tool_def *def, int argc, char **argv,
          const struct tool_hooks *hooks)
{
    struct tool t = {
        .def = def,
        .hooks = *hooks,
        .env = env_system(),
        .out = hooks->out != NULL ? hooks->out : stdout,
        .err = hooks->err != NULL ? hooks->err : stderr,
        .conf = hooks->conf != NULL ? hooks->conf : DEFAULT_CONFIG,
    };
    struct error err = {0};

    signal(SIGPIPE, SIG_IGN);
    t.shows_progress = isatty(fileno(t.err)) == 1;
    if (log_open(LOG_TO_STDERR, NULL, def->name, LOG_LV_WARN, &err) != ERR_OK)
        return tool_say(&t, TOOL_FAILED, "%s", err.text);
    interrupted = 0;
    optind = 0; /* from the start, also the second time in one process */
    int code = def->run(&t, argc, argv);
    csync_client_close(&t.client);
    node_close(&t.node);
    buf_free(&t.request);
    arena_free(&t.names);
    config_free(&t.cfg);
    if (fflush(t.out) != 0 || ferror(t.out))
        return code == TOOL_OK
                   ? tool_say(&t, TOOL_IO, "the output could not be written")
                   : code;
    return code;
}
