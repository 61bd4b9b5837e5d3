/*
 * base/config_value.h - the text of one option made into a value of its type.
 */
#ifndef POLLUX_BASE_CONFIG_VALUE_H
#define POLLUX_BASE_CONFIG_VALUE_H

#include "base/config_private.h"

struct config_value {
    const char *text; /* NULL: not set, and no default */
    bool set;         /* by the file */
    const char *file;
    unsigned line;
    int64_t i;                /* INT */
    uint64_t u;               /* DURATION in s, BYTES, BITFIELD, ENUM, SWITCH */
    const char *const *words; /* LIST */
};

/*
 * TEXT as a value of O; strings are copied into ARENA.  False: it is none, and
 * *RET_WHY says what is wrong.  True with *RET_WHY set: taken, but changed.
 */
MUST_CHECK bool
config_value_parse(struct arena *arena, const struct config_option *o,
                   struct span text, struct config_value *ret,
                   const char **ret_why);

#endif
