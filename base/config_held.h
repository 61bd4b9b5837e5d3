/*
 * base/config_held.h - what base/config.c has read, for base/config_get.c.
 */
#ifndef POLLUX_BASE_CONFIG_HELD_H
#define POLLUX_BASE_CONFIG_HELD_H

#include "base/config.h"
#include "base/config_private.h"
#include "base/config_value.h"

/* An override or a free-form option. */
struct config_named {
    const char *name;
    const char *prefix;                 /* of an override, else NULL */
    const struct config_option *option; /* of an override, else NULL */
    struct config_value value;
};

struct config {
    struct arena arena;
    struct findings findings;
    struct config_value *values; /* one for each row of the table */
    struct config_named *named;
    size_t n_named;
    size_t cap_named;
    unsigned suggestions; /* looked for so far */
};

/* The row of the table with this name, or NULL. */
const struct config_option *
config_find_option(struct span name);
/* O's place in the table, and so in `values`. */
size_t
config_index_of(const struct config_option *o);
/* The option that O stands for, if it is an old name; else O. */
const struct config_option *
config_current(const struct config_option *o);
/* The override or free-form option NAME, in either case; or NULL. */
struct config_named *
config_find_named(const struct config *cfg, struct span name);

#endif
