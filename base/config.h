/*
 * base/config.h - imapd.conf: the options that Cyrus's admins know, by name,
 * type and default in one table (base/config_options.c).
 *
 * Syntax (imapd.conf(5)): "name: value" a line, # comments, blank lines,
 * "@include: path" (relative to the including file); a later line for the same
 * option wins.  Free-form families: sasl_*, partition-NAME, metapartition-NAME,
 * archivepartition-NAME, *searchpartition-NAME, HOST_password, HOST_mechs,
 * SERVICE_OPTION and CHANNEL_sync_* overrides.
 *
 * A struct config is read once in cmd/ and is const from then on.
 */
#ifndef POLLUX_BASE_CONFIG_H
#define POLLUX_BASE_CONFIG_H

#include "base/env.h"
#include "base/error.h"

struct config;

enum config_type {
    CONFIG_STRING,   /* default may be NULL */
    CONFIG_INT,      /* decimal, may be negative */
    CONFIG_SWITCH,   /* yes/no, on/off, true/false, t/f, 1/0 */
    CONFIG_ENUM,     /* one of the words of the table */
    CONFIG_BITFIELD, /* several words of the table */
    CONFIG_DURATION, /* "3d12h", plain numbers in the option's own unit */
    CONFIG_BYTES,    /* number with K, M, G */
    CONFIG_LIST,     /* words split by blanks */
};

/* A row of the table; `effect` says what the option does here. */
enum config_effect {
    CONFIG_WORKS,    /* read by this version */
    CONFIG_NOT_YET,  /* accepted, without effect in this version */
    CONFIG_NO_SENSE, /* accepted for Cyrus's sake: has no meaning here */
};

struct config_option {
    const char *name;
    enum config_type type;
    enum config_effect effect;
    const char *deflt;
    const char *const *words; /* ENUM, BITFIELD: NULL-terminated */
    char unit;                /* DURATION: unit of a plain number: s m h d */
    bool per_channel;         /* may carry a "<channel>_" prefix */
    bool ours;                /* not known to Cyrus: documented as Pollux's */
    const char *help;         /* one line */
};

/* The whole table; *RET_N rows, sorted by name. */
const struct config_option *
config_options(size_t *ret_n);

/* One finding of a check: file, line, and one sentence. */
enum config_severity { CONFIG_NOTE, CONFIG_WARNING, CONFIG_ERROR };

struct config_finding {
    enum config_severity severity;
    const char *file;
    unsigned line;
    const char *text;
};

/*
 * Read PATH.  Unknown or badly typed options fail the read (ERR_SYNTAX, with
 * file and line of the first); config_findings() has them all, with the notes
 * of options that have no effect.  *RET is set even then, so that a check can
 * list them; free it with config_free().  Only if PATH itself cannot be read,
 * *RET is NULL.
 */
MUST_CHECK enum errcode
config_read(struct env *env, const char *path, struct config **ret,
            struct error *err);
/* The same from text, for tests and fuzzing; includes are refused. */
MUST_CHECK enum errcode
config_parse(struct span text, const char *name, struct config **ret,
             struct error *err);
void
config_free(struct config **cfg);
const struct config_finding *
config_findings(const struct config *cfg, size_t *ret_n);

/*
 * Values by option name; a name that is not in the table is a broken promise
 * of ours (ENSURE).  Strings live as long as the config.
 */
const char *
config_string(const struct config *cfg, const char *name); /* may be NULL */
int64_t
config_int(const struct config *cfg, const char *name);
bool
config_switch(const struct config *cfg, const char *name);
/* Index of the word in the option's table. */
unsigned
config_enum(const struct config *cfg, const char *name);
/* Bit i for word i. */
uint64_t
config_bits(const struct config *cfg, const char *name);
uint64_t
config_duration_s(const struct config *cfg, const char *name);
uint64_t
config_bytes(const struct config *cfg, const char *name);
/* The words, NULL-terminated. */
const char *const *
config_list(const struct config *cfg, const char *name);
/* "<channel>_NAME" if it was set, else NAME; CHANNEL NULL or "" is NAME. */
const char *
config_channel_string(const struct config *cfg, const char *channel,
                      const char *name);
/* "SERVICE_NAME" if it was set, else NAME (imapd.conf(5)). */
const char *
config_service_string(const struct config *cfg, const char *service,
                      const char *name);
bool
config_is_set(const struct config *cfg, const char *name);

/* Free-form options, as "sasl_mech_list" or "partition-default"; NULL if not
 * set.  config_each() calls for each one whose name starts with PREFIX. */
const char *
config_free_form(const struct config *cfg, const char *name);
void
config_each(const struct config *cfg, const char *prefix,
            void (*call)(void *ctx, const char *name, const char *value),
            void *ctx);

#endif
