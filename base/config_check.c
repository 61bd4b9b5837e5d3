/*
 * base/config_check.c - both files of an instance looked at together.
 *
 * Most findings were made while reading.  Here come those that need both files:
 * imapd.conf takes any prefix before a known option for the name of a service,
 * and only cyrus.conf knows the services.
 */
#include "base/config_check.h"

#include <stdio.h>

#include "base/config_private.h"

struct check {
    const struct config *cfg;
    const struct cyrusconf *conf;
    struct buf *to;
    size_t errors;
    size_t warnings;
    size_t notes;
};

static void
print(struct check *c, const struct config_finding *f)
{
    static const char *const names[] = {[CONFIG_NOTE] = "",
                                        [CONFIG_WARNING] = "warning: ",
                                        [CONFIG_ERROR] = "error: "};

    buf_add_str(c->to, f->severity == CONFIG_NOTE ? "  " : "");
    buf_add_str(c->to, f->file);
    if (f->line > 0)
        buf_addf(c->to, ":%u", f->line);
    buf_addf(c->to, ": %s%s\n", names[f->severity], f->text);

    switch (f->severity) {
    case CONFIG_NOTE:
        c->notes++;
        break;
    case CONFIG_WARNING:
        c->warnings++;
        break;
    case CONFIG_ERROR:
        c->errors++;
        break;
    }
}

static void
print_list(struct check *c, const struct config_finding *list, size_t n,
           bool notes)
{
    for (size_t i = 0; i < n; i++) {
        if ((list[i].severity == CONFIG_NOTE) == notes)
            print(c, &list[i]);
    }
    if (n == CONFIG_FINDINGS && !notes)
        buf_addf(c->to, "%s: more findings than these %d are not shown\n",
                 list[0].file, CONFIG_FINDINGS);
}

static void
print_findings(struct check *c, bool notes)
{
    size_t n;

    if (c->cfg != NULL) {
        const struct config_finding *list = config_findings(c->cfg, &n);
        print_list(c, list, n, notes);
    }
    if (c->conf != NULL) {
        const struct config_finding *list = cyrusconf_findings(c->conf, &n);
        print_list(c, list, n, notes);
    }
}

static bool
is_service(const struct check *c, const char *name)
{
    size_t n;
    const struct cyrusconf_entry *entries = cyrusconf_entries(c->conf, &n);

    for (size_t i = 0; i < n; i++) {
        if (entries[i].section == CYRUS_SERVICES &&
            span_eq_nocase_str(span_str(name), entries[i].name))
            return true;
    }
    return false;
}

static bool
is_channel(const struct check *c, const char *name)
{
    const char *const *channels = config_list(c->cfg, "sync_log_channels");

    for (; *channels != NULL; channels++) {
        if (span_eq_nocase_str(span_str(name), *channels))
            return true;
    }
    return false;
}

static void
check_override(void *ctx, const struct config_override *o)
{
    struct check *c = ctx;
    const char *option = o->option != NULL ? o->option->name : "sasl_...";
    char text[ERROR_TEXT_BYTES];

    if (is_service(c, o->prefix))
        return;
    if (is_channel(c, o->prefix)) {
        if (o->option != NULL && o->option->per_channel)
            return;
        snprintf(text, sizeof(text),
                 "%s_%s: %s is a channel, and %s is the same for all channels",
                 o->prefix, option, o->prefix, option);
    } else {
        snprintf(text, sizeof(text),
                 "%s_%s: there is no %s of the name %s: it does nothing",
                 o->prefix, option,
                 o->option != NULL && o->option->per_channel
                     ? "channel in sync_log_channels and no service"
                     : "service",
                 o->prefix);
    }
    print(c, &(struct config_finding){.severity = CONFIG_WARNING,
                                      .file = o->file,
                                      .line = o->line,
                                      .text = text});
}

static void
check_listeners(struct check *c)
{
    size_t n;
    const struct cyrusconf_entry *e = cyrusconf_entries(c->conf, &n);

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i && e[i].listen != NULL; j++) {
            if (e[j].listen == NULL || strcmp(e[i].listen, e[j].listen) != 0 ||
                strcmp(e[i].proto, e[j].proto) != 0)
                continue;

            char text[ERROR_TEXT_BYTES];
            snprintf(text, sizeof(text), "%s listens on %s as %s does",
                     e[i].name, e[i].listen, e[j].name);
            print(c, &(struct config_finding){.severity = CONFIG_ERROR,
                                              .file = e[i].file,
                                              .line = e[i].line,
                                              .text = text});
            break;
        }
    }
}

bool
config_check_print(const struct config *cfg, const struct cyrusconf *conf,
                   struct buf *to)
{
    struct check c = {.cfg = cfg, .conf = conf, .to = to};

    print_findings(&c, false);
    if (cfg != NULL && conf != NULL)
        config_each_override(cfg, check_override, &c);
    if (conf != NULL)
        check_listeners(&c);

    size_t heading = to->n;
    buf_add_str(to, "accepted without effect:\n");
    print_findings(&c, true);
    if (c.notes == 0)
        to->n = heading;

    buf_addf(to, "%zu errors, %zu warnings, %zu without effect\n", c.errors,
             c.warnings, c.notes);
    return c.errors == 0;
}
