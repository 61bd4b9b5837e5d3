/*
 * base/config.c - reading imapd.conf.
 *
 * A line is split into name and value, the name is looked for in this order:
 * the table; the free-form families; "SERVICE_sasl_x"; "PREFIX_option" with an
 * option of the table behind the underscore (the longest such option); last
 * "HOST_password" and "HOST_mechs", which fit almost anything.  What fits
 * nothing is a mistake.  Values are typed at once, so that a finding has its
 * line; defaults, and what refers to another option, are filled in at the end.
 *
 * Names of hosts, services and channels are not known here.  That a prefix is
 * one of them is looked at by config_check_print(), which has cyrus.conf too.
 */
#include "base/config_held.h"

#include <stdlib.h>

#define NAME_BYTES 128
#define NAMED_MAX 1024
#define INCLUDE_DEPTH 8
#define INCLUDE_FILES 64
/* Looking for what was meant takes time; nobody reads more than these. */
#define SUGGESTIONS 25

/* A file being read. */
struct reader {
    struct config *cfg;
    struct env *env; /* NULL: includes are refused */
    const char *file;
    unsigned line;
    unsigned depth;
    unsigned *files;             /* included so far */
    const struct reader *parent; /* that includes this one */
};

/* What a family of free-form names does here. */
static const struct family {
    const char *start;
    bool inside; /* START may stand after a tier's name */
    bool each;   /* every line counts */
    enum config_effect effect;
} families[] = {
    {.start = "sasl_", .effect = CONFIG_WORKS},
    {.start = "partition-", .effect = CONFIG_WORKS},
    {.start = "metapartition-", .effect = CONFIG_NO_SENSE},
    {.start = "archivepartition-", .effect = CONFIG_WORKS},
    {.start = "backuppartition-", .effect = CONFIG_NO_SENSE},
    {.start = "searchpartition-", .inside = true, .effect = CONFIG_NOT_YET},
    {.start = "xlist-", .effect = CONFIG_NOT_YET},
    {.start = "autocreate_acl", .each = true, .effect = CONFIG_NOT_YET},
};

/* ---- the table ---- */

static const char *
option_at(const void *ctx, size_t i)
{
    const struct config_option *all = ctx;

    return all[i].name;
}

static const char *
nearest_option(struct span name, size_t *ret_edits)
{
    size_t n;
    const struct config_option *all = config_options(&n);

    return config_nearest(name, option_at, all, n, ret_edits);
}

/* ---- findings ---- */

#define FOUND(r, severity, ...)                                                \
    findings_add(&(r)->cfg->findings, &(r)->cfg->arena, (severity), (r)->file, \
                 (r)->line, __VA_ARGS__)

static void
note_effect(struct reader *r, const char *name, enum config_effect effect)
{
    switch (effect) {
    case CONFIG_WORKS:
        break;
    case CONFIG_NOT_YET:
        FOUND(r, CONFIG_NOTE, "%s has no effect in this version", name);
        break;
    case CONFIG_NO_SENSE:
        FOUND(r, CONFIG_NOTE, "%s has no meaning here", name);
        break;
    }
}

/* NAME was set before, as OLD. */
static void
note_repeated(struct reader *r, const char *name,
              const struct config_value *old)
{
    if (strcmp(old->file, r->file) == 0)
        FOUND(r, CONFIG_WARNING,
              "%s was set in line %u already; this line counts", name,
              old->line);
    else
        FOUND(r, CONFIG_NOTE, "%s was set in %s:%u already; this line counts",
              name, old->file, old->line);
}

/* ---- setting options ---- */

/* VALUE as one of O, with its findings under NAME. */
static bool
typed(struct reader *r, const char *name, const struct config_option *o,
      struct span value, struct config_value *ret)
{
    const char *why;

    if (!config_value_parse(&r->cfg->arena, o, value, ret, &why)) {
        FOUND(r, CONFIG_ERROR, "%s: %s", name, why);
        return false;
    }
    if (why != NULL)
        FOUND(r, CONFIG_WARNING, "%s: %s", name, why);
    ret->set = true;
    ret->file = r->file;
    ret->line = r->line;
    return true;
}

static void
set_option(struct reader *r, const struct config_option *o, struct span value)
{
    const struct config_option *to = config_current(o);
    struct config_value *v = &r->cfg->values[config_index_of(to)];
    struct config_value parsed;

    if (to != o)
        FOUND(r, CONFIG_WARNING, "%s is now called %s", o->name, to->name);
    if (!typed(r, o->name, to, value, &parsed))
        return;
    if (v->set)
        note_repeated(r, o->name, v);
    else
        note_effect(r, o->name, to->effect);
    *v = parsed;
}

/* The entry of NAME, or a new one; NULL when there are too many. */
static struct config_named *
name_entry(struct reader *r, struct span name, bool each)
{
    struct config *cfg = r->cfg;
    struct config_named *have = each ? NULL : config_find_named(cfg, name);

    if (have != NULL) {
        note_repeated(r, have->name, &have->value);
        return have;
    }
    if (cfg->n_named == NAMED_MAX) {
        FOUND(r, CONFIG_ERROR,
              "more than %d free-form options and overrides: %s is left out",
              NAMED_MAX, config_shown(&cfg->arena, name));
        return NULL;
    }
    if (cfg->n_named == cfg->cap_named) {
        cfg->cap_named = MAX(16, 2 * cfg->cap_named);
        cfg->named = xrealloc(cfg->named, cfg->cap_named * sizeof(*cfg->named));
    }
    have = &cfg->named[cfg->n_named++];
    *have = (struct config_named){.name = arena_str(&cfg->arena, name)};
    return have;
}

static void
set_free_form(struct reader *r, struct span name, struct span value, bool each)
{
    struct config_named *entry = name_entry(r, name, each);

    if (entry != NULL)
        entry->value =
            (struct config_value){.text = arena_str(&r->cfg->arena, value),
                                  .set = true,
                                  .file = r->file,
                                  .line = r->line};
}

static bool
in_family(const struct family *f, struct span name)
{
    struct span start = span_str(f->start);

    if (f->inside) {
        ptrdiff_t at = span_find(name, start);
        return at >= 0 && (size_t)at + start.n < name.n;
    }
    if (f->each)
        return span_eq(name, start);
    return span_starts(name, start) && name.n > start.n;
}

static bool
set_family(struct reader *r, struct span name, struct span value)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (!in_family(&families[i], name))
            continue;
        if (families[i].each || config_find_named(r->cfg, name) == NULL)
            note_effect(r, config_shown(&r->cfg->arena, name),
                        families[i].effect);
        set_free_form(r, name, value, families[i].each);
        return true;
    }
    return false;
}

/* "SERVICE_sasl_x". */
static bool
set_service_sasl(struct reader *r, struct span name, struct span value)
{
    struct span sasl = SPAN_LIT("_sasl_");
    ptrdiff_t at = span_find(name, sasl);

    if (at <= 0 || (size_t)at + sasl.n == name.n)
        return false;
    set_free_form(r, name, value, false);
    struct config_named *entry = config_find_named(r->cfg, name);
    if (entry != NULL)
        entry->prefix =
            arena_str(&r->cfg->arena, span_sub(name, 0, (size_t)at));
    return true;
}

/* The option behind the first underscore with which there is one. */
static const struct config_option *
split_override(struct span name, size_t *ret_prefix)
{
    for (ptrdiff_t at = span_find_byte(name, '_', 1); at > 0;
         at = span_find_byte(name, '_', (size_t)at + 1)) {
        const struct config_option *o =
            config_find_option(span_skip(name, (size_t)at + 1));
        if (o != NULL) {
            *ret_prefix = (size_t)at;
            return o;
        }
    }
    return NULL;
}

static bool
set_override(struct reader *r, struct span name, struct span value)
{
    size_t prefix;
    const struct config_option *o = split_override(name, &prefix);
    struct config_value parsed;

    if (o == NULL)
        return false;

    /* Under the option's present name, so that look-ups find it. */
    const struct config_option *to = config_current(o);
    const char *given = config_shown(&r->cfg->arena, name);
    const char *full = arena_printf(&r->cfg->arena, "%.*s_%s", (int)prefix,
                                    (const char *)name.p, to->name);
    if (to != o)
        FOUND(r, CONFIG_WARNING, "%s is now called %s", o->name, to->name);
    if (!typed(r, given, to, value, &parsed))
        return true;
    if (config_find_named(r->cfg, span_str(full)) == NULL)
        note_effect(r, given, to->effect);

    struct config_named *entry = name_entry(r, span_str(full), false);
    if (entry == NULL)
        return true;
    entry->option = to;
    entry->prefix = arena_str(&r->cfg->arena, span_sub(name, 0, prefix));
    entry->value = parsed;
    return true;
}

static bool
ends_with(struct span s, struct span end)
{
    return s.n > end.n && span_eq(span_skip(s, s.n - end.n), end);
}

/* "HOST_password", "HOST_mechs": how we log in there. */
static bool
set_host(struct reader *r, struct span name, struct span value)
{
    if (!ends_with(name, SPAN_LIT("_password")) &&
        !ends_with(name, SPAN_LIT("_mechs")))
        return false;

    const char *shown = config_shown(&r->cfg->arena, name);
    const char *near =
        r->cfg->suggestions++ < SUGGESTIONS ? nearest_option(name, NULL) : NULL;
    if (near != NULL)
        FOUND(r, CONFIG_WARNING,
              "%s is taken as that of a host; did you mean %s?", shown, near);
    else if (config_find_named(r->cfg, name) == NULL)
        note_effect(r, shown, CONFIG_NOT_YET);
    set_free_form(r, name, value, false);
    return true;
}

/* NAME fits nothing: say so, with what may have been meant: an option, or a
 * prefix with an option behind it, whichever is closer. */
static void
unknown_option(struct reader *r, struct span name)
{
    const char *shown = config_shown(&r->cfg->arena, name);
    const char *near = NULL, *near_behind = NULL;
    ptrdiff_t at = span_find_byte(name, '_', 1);
    size_t edits = SIZE_MAX, edits_behind = SIZE_MAX;

    if (r->cfg->suggestions < SUGGESTIONS) {
        r->cfg->suggestions++;
        near = nearest_option(name, &edits);
        if (at > 0)
            near_behind =
                nearest_option(span_skip(name, (size_t)at + 1), &edits_behind);
    }
    if (near == NULL && near_behind == NULL)
        FOUND(r, CONFIG_ERROR, "unknown option %s", shown);
    else if (edits <= edits_behind)
        FOUND(r, CONFIG_ERROR, "unknown option %s, did you mean %s?", shown,
              near);
    else
        FOUND(r, CONFIG_ERROR, "unknown option %s, did you mean %.*s_%s?",
              shown, (int)at, shown, near_behind);
}

static void
set_any(struct reader *r, struct span name, struct span value)
{
    const struct config_option *o = config_find_option(name);

    if (o != NULL) {
        set_option(r, o, value);
        return;
    }
    if (!set_family(r, name, value) && !set_service_sasl(r, name, value) &&
        !set_override(r, name, value) && !set_host(r, name, value))
        unknown_option(r, name);
}

/* ---- lines and files ---- */

static bool
is_name_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

static void
include(struct reader *r, struct span path);

/* One line without its end, not blank and no comment. */
static void
read_line(struct reader *r, struct span line)
{
    uint8_t name[NAME_BYTES];
    size_t n = 0;

    if (span_find_byte(line, '\0', 0) >= 0) {
        FOUND(r, CONFIG_ERROR, "the line has a NUL byte in it");
        return;
    }
    while (n < line.n && n < sizeof(name)) {
        uint8_t c = ascii_lower(line.p[n]);
        if (!is_name_byte(c) && !(c == '@' && n == 0))
            break;
        name[n++] = c;
    }
    struct span rest = span_trim(span_skip(line, n));
    if (n == 0 || n == sizeof(name) || rest.n == 0 || rest.p[0] != ':') {
        FOUND(r, CONFIG_ERROR,
              "\"name: value\" is wanted, and the line starts with \"%s\"",
              config_shown(&r->cfg->arena, span_sub(line, 0, MAX(n, 1))));
        return;
    }
    struct span value = span_trim(span_skip(rest, 1));
    if (value.n == 0)
        FOUND(r, CONFIG_ERROR, "%s has no value",
              config_shown(&r->cfg->arena, span_of(name, n)));
    else if (span_eq_str(span_of(name, n), "@include"))
        include(r, value);
    else
        set_any(r, span_of(name, n), value);
}

/* Take one physical line off *REST, without its LF or CRLF. */
static struct span
take_line(struct span *rest)
{
    ptrdiff_t end = span_find_byte(*rest, '\n', 0);
    struct span line = end < 0 ? *rest : span_sub(*rest, 0, (size_t)end);

    *rest = end < 0 ? SPAN_EMPTY : span_skip(*rest, (size_t)end + 1);
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static bool
is_continued(struct span line)
{
    return line.n > 0 && line.p[line.n - 1] == '\\';
}

static void
read_text(struct reader *r, struct span rest)
{
    struct buf joined = BUF_INIT;
    unsigned next = 1;

    while (rest.n > 0) {
        struct span line = take_line(&rest);
        r->line = next++;
        if (span_trim(line).n == 0 || span_trim(line).p[0] == '#')
            continue;

        if (is_continued(line)) {
            buf_clear(&joined);
            while (is_continued(line)) {
                buf_add(&joined, span_sub(line, 0, line.n - 1));
                line = take_line(&rest);
                next++;
            }
            buf_add(&joined, line);
            line = buf_span(&joined);
        }
        line = span_trim(line);
        if (line.n > 0)
            read_line(r, line);
    }
    buf_free(&joined);
}

static bool
is_being_read(const struct reader *r, const char *path)
{
    for (; r != NULL; r = r->parent) {
        if (strcmp(r->file, path) == 0)
            return true;
    }
    return false;
}

/* PATH, relative to the file that R reads. */
static const char *
beside(struct reader *r, struct span path)
{
    const char *slash = strrchr(r->file, '/');

    if (path.p[0] == '/' || slash == NULL)
        return arena_str(&r->cfg->arena, path);
    return arena_printf(&r->cfg->arena, "%.*s%.*s", (int)(slash - r->file + 1),
                        r->file, SPAN_FMT(path));
}

static void
include(struct reader *r, struct span path)
{
    if (r->env == NULL) {
        FOUND(r, CONFIG_ERROR, "@include is not allowed here");
        return;
    }

    const char *file = beside(r, path);
    struct error err = {0};
    struct buf text = BUF_INIT;
    struct reader inner = {.cfg = r->cfg,
                           .env = r->env,
                           .file = file,
                           .depth = r->depth + 1,
                           .files = r->files,
                           .parent = r};

    if (is_being_read(r, file))
        FOUND(r, CONFIG_ERROR, "%s includes itself", file);
    else if (inner.depth > INCLUDE_DEPTH)
        FOUND(r, CONFIG_ERROR, "includes go deeper than %d", INCLUDE_DEPTH);
    else if (*r->files == INCLUDE_FILES)
        FOUND(r, CONFIG_ERROR, "more than %d included files", INCLUDE_FILES);
    else if (env_read_file(r->env, file, CONFIG_FILE_BYTES, &text, &err) !=
             ERR_OK)
        FOUND(r, CONFIG_ERROR, "@include: %s", err.text);
    else {
        (*r->files)++;
        read_text(&inner, buf_span(&text));
    }
    buf_free(&text);
}

/* ---- defaults, and what needs the whole file ---- */

static const char configdirectory[] = "{configdirectory}";

/* The option NAME of a default "{NAME}", or NULL. */
static const struct config_option *
referred(const struct config_option *o)
{
    if (o->deflt == NULL || o->deflt[0] != '{' ||
        o->deflt[strlen(o->deflt) - 1] != '}')
        return NULL;

    struct span name = span_sub(span_str(o->deflt), 1, strlen(o->deflt) - 2);
    const struct config_option *to = config_find_option(name);
    ENSURE(to != NULL && to->type == o->type);
    return to;
}

static void
fill_default(struct config *cfg, const struct config_option *o)
{
    struct config_value *v = &cfg->values[config_index_of(o)];
    const char *why;

    if (v->set || referred(o) != NULL)
        return;
    if (o->deflt == NULL) {
        if (o->type == CONFIG_LIST)
            v->words = arena_array(&cfg->arena, 1, sizeof(*v->words));
        return;
    }
    ENSURE(config_value_parse(&cfg->arena, o, span_str(o->deflt), v, &why) &&
           why == NULL);
}

/* "{configdirectory}/x" becomes a path; NULL while it is not known. */
static void
expand(struct config *cfg, struct config_value *v)
{
    size_t n = sizeof(configdirectory) - 1;

    if (v->text == NULL || strncmp(v->text, configdirectory, n) != 0)
        return;

    const char *dir = config_string(cfg, "configdirectory");
    v->text = dir == NULL ? NULL
                          : arena_printf(&cfg->arena, "%s%s", dir, v->text + n);
}

static void
finish_values(struct config *cfg)
{
    size_t n;
    const struct config_option *all = config_options(&n);

    for (size_t i = 0; i < n; i++)
        fill_default(cfg, &all[i]);
    for (size_t i = 0; i < n; i++) {
        const struct config_option *to = referred(&all[i]);
        if (to != NULL && !cfg->values[i].set) {
            cfg->values[i] = cfg->values[config_index_of(to)];
            cfg->values[i].set = false;
        }
        if (all[i].type == CONFIG_STRING && all[i].replaced_by == NULL)
            expand(cfg, &cfg->values[i]);
    }
    for (size_t i = 0; i < cfg->n_named; i++) {
        const struct config_option *o = cfg->named[i].option;
        if (o == NULL || o->type == CONFIG_STRING)
            expand(cfg, &cfg->named[i].value);
    }
}

static void
check_configdirectory(struct config *cfg, const char *file)
{
    size_t i = config_index_of(config_find_option(SPAN_LIT("configdirectory")));
    const struct config_value *v = &cfg->values[i];

    if (!v->set)
        findings_add(&cfg->findings, &cfg->arena, CONFIG_ERROR, file, 0,
                     "configdirectory is not set");
    else if (v->text[0] != '/')
        findings_add(&cfg->findings, &cfg->arena, CONFIG_ERROR, v->file,
                     v->line, "configdirectory must be an absolute path");
}

static void
check_defaultpartition(struct config *cfg)
{
    size_t i =
        config_index_of(config_find_option(SPAN_LIT("defaultpartition")));
    const struct config_value *v = &cfg->values[i];

    if (!v->set)
        return;
    const char *name = arena_printf(&cfg->arena, "partition-%s", v->text);
    if (config_find_named(cfg, span_str(name)) == NULL)
        findings_add(&cfg->findings, &cfg->arena, CONFIG_ERROR, v->file,
                     v->line, "defaultpartition: %s is not set",
                     config_shown(&cfg->arena, span_str(name)));
}

/* ---- public ---- */

static struct config *
config_new(void)
{
    size_t n;
    struct config *cfg = xcalloc(1, sizeof(*cfg));

    (void)config_options(&n);
    cfg->values = xcalloc(n, sizeof(*cfg->values));
    return cfg;
}

/* TEXT of the file NAME; with ENV, files may be included. */
static struct config *
read_all(struct env *env, struct span text, const char *name)
{
    struct config *cfg = config_new();
    unsigned files = 0;
    struct reader r = {.cfg = cfg,
                       .env = env,
                       .file = arena_str(&cfg->arena, span_str(name)),
                       .files = &files};

    read_text(&r, text);
    finish_values(cfg);
    check_defaultpartition(cfg);
    return cfg;
}

enum errcode
config_read(struct env *env, const char *path, struct config **ret,
            struct error *err)
{
    struct buf text = BUF_INIT;
    enum errcode rc = env_read_file(env, path, CONFIG_FILE_BYTES, &text, err);

    *ret = NULL;
    if (rc == ERR_OK) {
        *ret = read_all(env, buf_span(&text), path);
        check_configdirectory(*ret, path);
        rc = findings_result(&(*ret)->findings, err);
    }
    buf_free(&text);
    return rc;
}

enum errcode
config_parse(struct span text, const char *name, struct config **ret,
             struct error *err)
{
    if (text.n > CONFIG_FILE_BYTES) {
        *ret = NULL;
        return error_set(err, ERR_LIMIT, "%s: %zu bytes, limit %u", name,
                         text.n, CONFIG_FILE_BYTES);
    }
    *ret = read_all(NULL, text, name);
    return findings_result(&(*ret)->findings, err);
}

void
config_free(struct config **cfg)
{
    struct config *c = *cfg;

    if (c == NULL)
        return;
    findings_free(&c->findings);
    free(c->values);
    free(c->named);
    arena_free(&c->arena);
    free(c);
    *cfg = NULL;
}
