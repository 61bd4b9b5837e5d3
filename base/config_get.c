/*
 * base/config_get.c - what the programs ask of an imapd.conf that was read.
 *
 * The table is sorted by name and looked through by halves.
 */
#include "base/config_held.h"

/* ---- the table ---- */

const struct config_option *
config_find_option(struct span name)
{
    size_t n;
    const struct config_option *all = config_options(&n);
    size_t low = 0;

    while (low < n) {
        size_t middle = low + (n - low) / 2;
        int order = span_cmp(span_str(all[middle].name), name);
        if (order == 0)
            return &all[middle];
        if (order < 0)
            low = middle + 1;
        else
            n = middle;
    }
    return NULL;
}

size_t
config_index_of(const struct config_option *o)
{
    size_t n;

    return (size_t)(o - config_options(&n));
}

const struct config_option *
config_current(const struct config_option *o)
{
    if (o->replaced_by == NULL)
        return o;

    const struct config_option *to =
        config_find_option(span_str(o->replaced_by));
    ENSURE(to != NULL && to->replaced_by == NULL && to->type == o->type);
    return to;
}

struct config_named *
config_find_named(const struct config *cfg, struct span name)
{
    for (size_t i = 0; i < cfg->n_named; i++) {
        if (span_eq_nocase_str(name, cfg->named[i].name))
            return &cfg->named[i];
    }
    return NULL;
}

/* ---- public ---- */

const struct config_finding *
config_findings(const struct config *cfg, size_t *ret_n)
{
    *ret_n = cfg->findings.n;
    return cfg->findings.items;
}

/* The option NAME, which the caller knows to be there. */
static const struct config_option *
wanted(const char *name)
{
    const struct config_option *o = config_find_option(span_str(name));

    ENSURE(o != NULL);
    return config_current(o);
}

/* The value of NAME under PREFIX, else its own; TYPE as the caller has it. */
static const struct config_value *
scoped(const struct config *cfg, const char *prefix, const char *name)
{
    const struct config_option *o = wanted(name);

    for (size_t i = 0; prefix != NULL && *prefix != '\0' && i < cfg->n_named;
         i++) {
        const struct config_named *e = &cfg->named[i];
        if (e->option == o && span_eq_nocase_str(span_str(prefix), e->prefix))
            return &e->value;
    }
    return &cfg->values[config_index_of(o)];
}

static const struct config_value *
scoped_typed(const struct config *cfg, const char *prefix, const char *name,
             enum config_type type)
{
    ENSURE(wanted(name)->type == type);
    return scoped(cfg, prefix, name);
}

const char *
config_service_string(const struct config *cfg, const char *service,
                      const char *name)
{
    return scoped(cfg, service, name)->text;
}

int64_t
config_service_int(const struct config *cfg, const char *service,
                   const char *name)
{
    return scoped_typed(cfg, service, name, CONFIG_INT)->i;
}

bool
config_service_switch(const struct config *cfg, const char *service,
                      const char *name)
{
    return scoped_typed(cfg, service, name, CONFIG_SWITCH)->u != 0;
}

unsigned
config_service_enum(const struct config *cfg, const char *service,
                    const char *name)
{
    return (unsigned)scoped_typed(cfg, service, name, CONFIG_ENUM)->u;
}

uint64_t
config_service_bits(const struct config *cfg, const char *service,
                    const char *name)
{
    return scoped_typed(cfg, service, name, CONFIG_BITFIELD)->u;
}

uint64_t
config_service_duration_s(const struct config *cfg, const char *service,
                          const char *name)
{
    return scoped_typed(cfg, service, name, CONFIG_DURATION)->u;
}

uint64_t
config_service_bytes(const struct config *cfg, const char *service,
                     const char *name)
{
    return scoped_typed(cfg, service, name, CONFIG_BYTES)->u;
}

const char *const *
config_service_list(const struct config *cfg, const char *service,
                    const char *name)
{
    return scoped_typed(cfg, service, name, CONFIG_LIST)->words;
}

const char *
config_string(const struct config *cfg, const char *name)
{
    return config_service_string(cfg, NULL, name);
}

int64_t
config_int(const struct config *cfg, const char *name)
{
    return config_service_int(cfg, NULL, name);
}

bool
config_switch(const struct config *cfg, const char *name)
{
    return config_service_switch(cfg, NULL, name);
}

unsigned
config_enum(const struct config *cfg, const char *name)
{
    return config_service_enum(cfg, NULL, name);
}

uint64_t
config_bits(const struct config *cfg, const char *name)
{
    return config_service_bits(cfg, NULL, name);
}

uint64_t
config_duration_s(const struct config *cfg, const char *name)
{
    return config_service_duration_s(cfg, NULL, name);
}

uint64_t
config_bytes(const struct config *cfg, const char *name)
{
    return config_service_bytes(cfg, NULL, name);
}

const char *const *
config_list(const struct config *cfg, const char *name)
{
    return config_service_list(cfg, NULL, name);
}

bool
config_is_set(const struct config *cfg, const char *name)
{
    return scoped(cfg, NULL, name)->set;
}

const char *
config_channel_string(const struct config *cfg, const char *channel,
                      const char *name)
{
    ENSURE(wanted(name)->per_channel);
    return config_service_string(cfg, channel, name);
}

bool
config_channel_switch(const struct config *cfg, const char *channel,
                      const char *name)
{
    ENSURE(wanted(name)->per_channel);
    return config_service_switch(cfg, channel, name);
}

uint64_t
config_channel_duration_s(const struct config *cfg, const char *channel,
                          const char *name)
{
    ENSURE(wanted(name)->per_channel);
    return config_service_duration_s(cfg, channel, name);
}

uint64_t
config_channel_bytes(const struct config *cfg, const char *channel,
                     const char *name)
{
    ENSURE(wanted(name)->per_channel);
    return config_service_bytes(cfg, channel, name);
}

const char *
config_free_form(const struct config *cfg, const char *name)
{
    const struct config_named *e = config_find_named(cfg, span_str(name));

    if (e != NULL)
        return e->value.text;

    /* sasl_minimum_layer and the like are in the table, for their types. */
    const struct config_option *o = config_find_option(span_str(name));
    return o == NULL || !cfg->values[config_index_of(o)].set
               ? NULL
               : cfg->values[config_index_of(o)].text;
}

const char *
config_service_free_form(const struct config *cfg, const char *service,
                         const char *name)
{
    const char *value = NULL;

    if (service != NULL && *service != '\0') {
        char *full = xasprintf("%s_%s", service, name);
        for (char *p = full; *p != '\0'; p++)
            *p = (char)ascii_lower((uint8_t)*p);
        value = config_free_form(cfg, full);
        xfree(&full);
    }
    return value != NULL ? value : config_free_form(cfg, name);
}

void
config_each(const struct config *cfg, const char *prefix,
            void (*call)(void *ctx, const char *name, const char *value),
            void *ctx)
{
    for (size_t i = 0; i < cfg->n_named; i++) {
        const struct config_named *e = &cfg->named[i];
        if (e->option == NULL &&
            span_starts(span_str(e->name), span_str(prefix)))
            call(ctx, e->name, e->value.text);
    }
}

void
config_each_override(const struct config *cfg,
                     void (*call)(void *ctx, const struct config_override *o),
                     void *ctx)
{
    for (size_t i = 0; i < cfg->n_named; i++) {
        const struct config_named *e = &cfg->named[i];
        if (e->prefix == NULL)
            continue;
        struct config_override o = {.prefix = e->prefix,
                                    .option = e->option,
                                    .file = e->value.file,
                                    .line = e->value.line};
        call(ctx, &o);
    }
}
