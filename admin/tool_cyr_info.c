/*
 * admin/tool_cyr_info.c - cyr_info: the configuration as it is understood.
 */
#include "admin/tool.h"

#include <string.h>

#include "base/config_check.h"
#include "base/cyrusconf.h"

static const char usage[] =
    "usage: cyr_info [-C imapd.conf] [-M cyrus.conf] [-n service] command\n"
    "  conf          options that are set to something else than their "
    "default\n"
    "  conf-all      all options\n"
    "  conf-default  all options with their defaults\n"
    "  conf-lint     what is wrong with the files; nothing if nothing is\n"
    "                (exit status 1 if something is)\n"
    "  version       the version\n";

#define DEFAULT_CYRUS_CONF "/etc/cyrus.conf"

struct info {
    struct tool *t;
    const char *service;    /* -n, or NULL */
    const char *cyrus_conf; /* -M, or NULL */
    bool any;
};

/* ---- conf -------------------------------------------------------------- */

static void
print_option(FILE *f, const char *name, const char *value)
{
    fprintf(f, "%s: %s\n", name, value == NULL ? "" : value);
}

static void
print_free(void *ctx, const char *name, const char *value)
{
    struct info *i = ctx;

    print_option(i->t->out, name, value);
}

static void
print_override(void *ctx, const struct config_override *o)
{
    struct info *i = ctx;

    if (o->option != NULL)
        fprintf(i->t->out, "%s_%s: %s\n", o->prefix, o->option->name,
                config_service_string(i->t->cfg, o->prefix, o->option->name));
}

static int
conf(struct info *i, bool all)
{
    struct tool *t = i->t;
    size_t n = 0;
    const struct config_option *o = config_options(&n);

    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    for (size_t k = 0; k < n; k++) {
        const char *value =
            i->service == NULL
                ? config_string(t->cfg, o[k].name)
                : config_service_string(t->cfg, i->service, o[k].name);
        const char *deflt = o[k].deflt == NULL ? "" : o[k].deflt;
        if (all || (value != NULL && strcmp(value, deflt) != 0 &&
                    (i->service != NULL || config_is_set(t->cfg, o[k].name))))
            print_option(t->out, o[k].name, value);
    }
    config_each(t->cfg, "", print_free, i);
    if (i->service == NULL)
        config_each_override(t->cfg, print_override, i);
    return TOOL_OK;
}

static int
conf_default(struct info *i)
{
    size_t n = 0;
    const struct config_option *o = config_options(&n);

    for (size_t k = 0; k < n; k++)
        print_option(i->t->out, o[k].name, o[k].deflt);
    return TOOL_OK;
}

/* ---- conf-lint --------------------------------------------------------- */

static int
lint(struct info *i)
{
    struct tool *t = i->t;
    AUTO(config_free) struct config *cfg = NULL;
    AUTO(cyrusconf_free) struct cyrusconf *cyrus = NULL;
    AUTO(buf_free) struct buf text = BUF_INIT;
    const char *path =
        i->cyrus_conf == NULL ? DEFAULT_CYRUS_CONF : i->cyrus_conf;
    struct error err = {0};

    if (config_read(t->env, t->conf, &cfg, &err) != ERR_OK && cfg == NULL)
        return tool_say(t, TOOL_CONFIG, "%s", err.text);
    if ((i->cyrus_conf != NULL || env_exists(t->env, path)) &&
        cyrusconf_read(t->env, path, &cyrus, &err) != ERR_OK && cyrus == NULL)
        return tool_say(t, TOOL_CONFIG, "%s", err.text);
    bool good = config_check_print(cfg, cyrus, &text);
    /* What was accepted without effect is not wrong, nor is the last line,
     * which counts. */
    struct span all = buf_span(&text);
    ptrdiff_t end = span_find(all, SPAN_LIT("accepted without effect:\n"));
    if (end < 0) {
        size_t n = all.n - 1;
        while (n > 0 && all.p[n - 1] != '\n')
            n--;
        end = (ptrdiff_t)n;
    }
    fprintf(t->out, "%.*s", (int)end, (const char *)all.p);
    return good && end == 0 ? TOOL_OK : TOOL_DIFFERS;
}

/* ---- the program ------------------------------------------------------- */

static int
run(struct tool *t, int argc, char **argv)
{
    struct info i = {.t = t};
    int c;

    while ((c = tool_option(t, argc, argv, "M:n:", "s:", NULL)) != -1) {
        if (c == 'M')
            i.cyrus_conf = optarg;
        else if (c == 'n')
            i.service = optarg;
        else
            return tool_end_options(t);
    }
    if (optind != argc - 1)
        return tool_usage(t, "name a command");
    const char *what = argv[optind];
    if (strcmp(what, "conf") == 0)
        return conf(&i, false);
    if (strcmp(what, "conf-all") == 0)
        return conf(&i, true);
    if (strcmp(what, "conf-default") == 0)
        return conf_default(&i);
    if (strcmp(what, "conf-lint") == 0)
        return lint(&i);
    if (strcmp(what, "version") == 0) {
        fprintf(t->out, "Pollux %s\n", POLLUX_VERSION);
        return TOOL_OK;
    }
    if (strcmp(what, "proc") == 0)
        return tool_say(t, TOOL_NOSTORE,
                        "who is connected is not told by this version");
    return tool_usage(t, "there is no command \"%s\"", what);
}

const struct tool_def tool_cyr_info = {"cyr_info", usage, run};
