/*
 * base/config.h - imapd.conf: the options that Cyrus's admins know, by name,
 * type and default in one table (base/config_options.c).
 *
 * Syntax (imapd.conf(5)): "name: value" a line, # comments, blank lines, a
 * backslash at the end of a line joins the next one to it, "@include: path"
 * (relative to the including file); a later line for the same option wins.
 * Names may be written in either case.  Free-form families: sasl_*,
 * partition-NAME, metapartition-NAME, archivepartition-NAME,
 * backuppartition-NAME, *searchpartition-NAME, xlist-FLAG, autocreate_acl (each
 * line counts), HOST_password, HOST_mechs, SERVICE_sasl_*, and SERVICE_OPTION
 * and CHANNEL_sync_* overrides.
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
    CONFIG_SWITCH,   /* yes/no, on/off, true/false, y/n, t/f, 1/0 */
    CONFIG_ENUM,     /* one of the words of the table, in either case */
    CONFIG_BITFIELD, /* several words of the table, split by blanks */
    CONFIG_DURATION, /* "3d12h", plain numbers in the option's own unit */
    CONFIG_BYTES,    /* number with K, M, G; plain ones in the option's unit */
    CONFIG_LIST,     /* words split by blanks, or by the option's own sign */
};

/* A row of the table; `effect` says what the option does here. */
enum config_effect {
    CONFIG_WORKS,    /* read by this version */
    CONFIG_NOT_YET,  /* accepted, without effect in this version */
    CONFIG_NO_SENSE, /* accepted for Cyrus's sake: has no meaning here */
};

/* A negative duration where Cyrus takes one: without end. */
#define CONFIG_FOREVER UINT64_MAX

struct config_option {
    const char *name;
    enum config_type type;
    enum config_effect effect;
    /* "{NAME}": what the option NAME has; a STRING, in the file too, may start
     * with "{configdirectory}". */
    const char *deflt;
    /* ENUM, BITFIELD: NULL-terminated; "a=b": b is another spelling of a. */
    const char *const *words;
    /* DURATION: s m h d of a plain number; BYTES: B K M G of a plain number;
     * LIST: '|' where that splits in place of blanks. */
    char unit;
    bool per_channel; /* may carry a "<channel>_" prefix */
    bool ours;        /* not known to Cyrus: documented as Pollux's */
    bool or_switch;   /* DURATION: "no" is 0, "yes" is without end */
    /* INT: outside of these is an error; DURATION (seconds) and BYTES are
     * raised or lowered to them with a warning.  Both 0: the whole range of
     * the type.  A DURATION may be negative only if min is. */
    int64_t min, max;
    const char *replaced_by; /* an old name: setting it sets that option */
    const char *help;        /* one line */
};

/* The whole table; *RET_N rows, sorted by name. */
const struct config_option *
config_options(size_t *ret_n);

/* One finding of a check: file, line (0: the file as a whole), a sentence. */
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
 * of options that have no effect.  A file without configdirectory is an error
 * too.  *RET is set even then, so that a check can list them; free it with
 * config_free().  Only if PATH itself cannot be read, *RET is NULL and the code
 * is that of env_read_file() (ERR_LIMIT above 1 MiB).
 *
 * Bounds: 1 MiB a file, 64 included files, 8 deep, 1024 free-form options and
 * overrides; at most 500 findings are kept.  Beyond them: ERR_SYNTAX.
 */
MUST_CHECK enum errcode
config_read(struct env *env, const char *path, struct config **ret,
            struct error *err);
/* The same from text, for tests and fuzzing; includes are refused, and
 * configdirectory is not asked for. */
MUST_CHECK enum errcode
config_parse(struct span text, const char *name, struct config **ret,
             struct error *err);
void
config_free(struct config **cfg);
const struct config_finding *
config_findings(const struct config *cfg, size_t *ret_n);

/*
 * Values by option name; a name that is not in the table, or is of another
 * type, is a broken promise of ours (ENSURE).  Strings live as long as the
 * config.  An option without default that is not set is NULL, 0, or no words.
 */
const char *
config_string(const struct config *cfg, const char *name); /* any type */
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
/* The words, NULL-terminated; a word of two quotes ("") is an empty one. */
const char *const *
config_list(const struct config *cfg, const char *name);
/* Was it set in the file, by this or by an old name? */
bool
config_is_set(const struct config *cfg, const char *name);

/*
 * "<channel>_NAME" if it was set, else NAME; CHANNEL NULL or "" is NAME.  The
 * option must be one that takes channels (ENSURE).
 */
const char *
config_channel_string(const struct config *cfg, const char *channel,
                      const char *name);
bool
config_channel_switch(const struct config *cfg, const char *channel,
                      const char *name);
uint64_t
config_channel_duration_s(const struct config *cfg, const char *channel,
                          const char *name);
uint64_t
config_channel_bytes(const struct config *cfg, const char *channel,
                     const char *name);

/* "SERVICE_NAME" if it was set, else NAME (imapd.conf(5)); SERVICE is the name
 * in cyrus.conf, and NULL or "" is NAME. */
const char *
config_service_string(const struct config *cfg, const char *service,
                      const char *name);
int64_t
config_service_int(const struct config *cfg, const char *service,
                   const char *name);
bool
config_service_switch(const struct config *cfg, const char *service,
                      const char *name);
unsigned
config_service_enum(const struct config *cfg, const char *service,
                    const char *name);
uint64_t
config_service_bits(const struct config *cfg, const char *service,
                    const char *name);
uint64_t
config_service_duration_s(const struct config *cfg, const char *service,
                          const char *name);
uint64_t
config_service_bytes(const struct config *cfg, const char *service,
                     const char *name);
const char *const *
config_service_list(const struct config *cfg, const char *service,
                    const char *name);

/* Free-form options, as "sasl_mech_list" or "partition-default"; NULL if not
 * set.  config_each() calls for each one whose name starts with PREFIX. */
const char *
config_free_form(const struct config *cfg, const char *name);
/* "SERVICE_NAME" if it was set, else NAME. */
const char *
config_service_free_form(const struct config *cfg, const char *service,
                         const char *name);
void
config_each(const struct config *cfg, const char *prefix,
            void (*call)(void *ctx, const char *name, const char *value),
            void *ctx);

/* A SERVICE_OPTION or CHANNEL_OPTION line, for checks. */
struct config_override {
    const char *prefix;                 /* "imap", without the underscore */
    const struct config_option *option; /* NULL: SERVICE_sasl_* */
    const char *file;
    unsigned line;
};

void
config_each_override(const struct config *cfg,
                     void (*call)(void *ctx, const struct config_override *o),
                     void *ctx);

#endif
