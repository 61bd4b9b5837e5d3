/*
 * master/plan.c - from the lines of cyrus.conf to what is hosted and run.
 *
 * Options of service programs are read as getopt(3) would: letters may stand
 * together, a value may follow its letter or be the next word.  Each letter is
 * a row of a table, so that an unknown one is an error that names file and
 * line, and one that means nothing here is said once.
 */
#include "master/plan.h"

#include <stdlib.h>
#include <string.h>

#include "master/programs.h"

/* ---- findings ---------------------------------------------------------- */

/* A plan being made; its arrays have room for every entry. */
struct maker {
    struct plan *plan;
    const struct plan_place *place;
    size_t findings_cap;
    bool failed;
    struct error *err; /* the first error */
};

static void
find(struct maker *m, enum config_severity severity,
     const struct cyrusconf_entry *e, const char *text)
{
    struct plan *p = m->plan;

    if (p->nfindings == m->findings_cap) {
        m->findings_cap = MAX(m->findings_cap * 2, (size_t)64);
        p->findings =
            xrealloc(p->findings, m->findings_cap * sizeof(*p->findings));
    }
    p->findings[p->nfindings++] = (struct config_finding){
        .severity = severity,
        .file = arena_str(&p->arena, span_str(e->file)),
        .line = e->line,
        .text = text,
    };
    if (severity == CONFIG_ERROR && !m->failed) {
        m->failed = true;
        error_set(m->err, ERR_SYNTAX, "%s:%u: %s", e->file, e->line, text);
    }
}

/* ---- options of services ----------------------------------------------- */

enum option_means {
    OPTION_CONF, /* -C: our own imapd.conf, or an error */
    OPTION_TLS,  /* TLS from the first byte */
    OPTION_PREAUTH,
    OPTION_LAYER, /* strength of an outer layer */
    OPTION_NOTHING,
};

static const struct service_option {
    char letter;
    unsigned kinds; /* bit of each kind that has it */
    bool has_value;
    enum option_means means;
} service_options[] = {
#define ALL (1U << SERVICE_IMAP | 1U << SERVICE_LMTP | 1U << SERVICE_SYNC)
    {'C', ALL, true, OPTION_CONF},
    {'D', ALL, false, OPTION_NOTHING},
    {'N', 1U << SERVICE_IMAP, false, OPTION_NOTHING},
    {'T', ALL, true, OPTION_NOTHING},
    {'U', ALL, true, OPTION_NOTHING},
    {'a', 1U << SERVICE_LMTP, false, OPTION_PREAUTH},
    {'f', 1U << SERVICE_SYNC, false, OPTION_NOTHING},
    {'p', 1U << SERVICE_IMAP | 1U << SERVICE_SYNC, true, OPTION_LAYER},
    {'s', 1U << SERVICE_IMAP, false, OPTION_TLS},
};

static const struct service_option *
option_of(enum service_kind kind, char letter)
{
    for (size_t i = 0; i < ARRAY_LEN(service_options); i++)
        if (service_options[i].letter == letter &&
            (service_options[i].kinds & (1U << kind)) != 0)
            return &service_options[i];
    return NULL;
}

/* The same file, by whatever name. */
static bool
same_file(const char *a, const char *b)
{
    if (strcmp(a, b) == 0)
        return true;
    char *real_a = realpath(a, NULL);
    char *real_b = realpath(b, NULL);
    bool same = real_a != NULL && real_b != NULL && strcmp(real_a, real_b) == 0;
    free(real_a);
    free(real_b);
    return same;
}

static void
take_option(struct maker *m, const struct cyrusconf_entry *e,
            const struct service_option *o, const char *value,
            struct plan_service *s)
{
    struct arena *a = &m->plan->arena;
    uint32_t strength = 0;

    switch (o->means) {
    case OPTION_CONF:
        if (!same_file(value, m->place->imapd_conf))
            find(m, CONFIG_ERROR, e,
                 arena_printf(a,
                              "%s: -C %s is not the file of this instance "
                              "(%s), and one process serves one store",
                              e->name, value, m->place->imapd_conf));
        return;
    case OPTION_TLS:
        s->implicit_tls = true;
        return;
    case OPTION_PREAUTH:
        s->preauth = true;
        return;
    case OPTION_LAYER:
        if (!parse_u32(span_str(value), &strength))
            find(m, CONFIG_ERROR, e,
                 arena_printf(a, "%s: -p takes a number, not \"%s\"", e->name,
                              value));
        s->outer_layer = strength > 1;
        return;
    case OPTION_NOTHING:
        find(m, CONFIG_NOTE, e,
             arena_printf(a, "%s: -%c is without effect", e->name, o->letter));
        return;
    }
}

/* The letters of one word, "-sC" or "-C"; *I is moved past a value taken from
 * the next word. */
static void
take_word(struct maker *m, const struct cyrusconf_entry *e, size_t *i,
          struct plan_service *s)
{
    struct arena *a = &m->plan->arena;
    const char *word = e->argv[*i];

    for (size_t k = 1; word[k] != '\0'; k++) {
        const struct service_option *o = option_of(s->kind, word[k]);
        const char *value = NULL;
        if (o == NULL) {
            find(m, CONFIG_ERROR, e,
                 arena_printf(a, "%s: %s has no option -%c", e->name,
                              program_known(e->argv[0], true).name, word[k]));
            return;
        }
        if (o->has_value) {
            value = word[k + 1] != '\0' ? word + k + 1 : e->argv[*i + 1];
            if (value == NULL) {
                find(m, CONFIG_ERROR, e,
                     arena_printf(a, "%s: -%c needs a value", e->name,
                                  o->letter));
                return;
            }
            if (word[k + 1] == '\0')
                ++*i;
        }
        take_option(m, e, o, value, s);
        if (o->has_value)
            return;
    }
}

static void
take_options(struct maker *m, const struct cyrusconf_entry *e,
             struct plan_service *s)
{
    for (size_t i = 1; e->argv[i] != NULL; i++) {
        if (e->argv[i][0] == '-' && e->argv[i][1] != '\0')
            take_word(m, e, &i, s);
        else
            find(m, CONFIG_ERROR, e,
                 arena_printf(&m->plan->arena,
                              "%s: \"%s\" is not an option of a service",
                              e->name, e->argv[i]));
    }
}

/* ---- entries ----------------------------------------------------------- */

static void
note_ignored_keys(struct maker *m, const struct cyrusconf_entry *e)
{
    struct arena *a = &m->plan->arena;
    const char *keys = arena_printf(
        a, "%s%s%s%s", e->prefork > 0 ? " prefork" : "",
        e->maxfds >= 0 ? " maxfds" : "",
        e->maxforkrate > 0 ? " maxforkrate" : "", e->babysit ? " babysit" : "");

    if (keys[0] != '\0')
        find(m, CONFIG_NOTE, e,
             arena_printf(a, "%s: without effect:%s", e->name, keys));
}

/* Said of a program that is known and not there. */
static void
find_absent(struct maker *m, const struct cyrusconf_entry *e,
            const struct program *p)
{
    struct arena *a = &m->plan->arena;

    if (p->fate == PROGRAM_NO_SENSE)
        find(m, CONFIG_NOTE, e,
             arena_printf(a, "%s: %s is not needed: %s", e->name, p->name,
                          p->why));
    else if (p->fate == PROGRAM_TOOL)
        find(m, CONFIG_WARNING, e,
             arena_printf(a, "%s: %s is not beside master, in %s: left out",
                          e->name, p->name, m->place->exe_dir));
    else
        find(
            m, CONFIG_NOTE, e,
            arena_printf(a, "%s: %s is not in this version", e->name, p->name));
}

static void
add_service(struct maker *m, const struct cyrusconf_entry *e)
{
    struct plan *plan = m->plan;
    struct program p = program_known(e->argv[0], true);

    if (p.fate == PROGRAM_UNKNOWN) {
        find(m, CONFIG_ERROR, e,
             arena_printf(&plan->arena,
                          "%s: there is no service program \"%s\"", e->name,
                          e->argv[0]));
        return;
    }
    if (p.fate != PROGRAM_HOSTED) {
        find_absent(m, e, &p);
        return;
    }
    struct plan_service *s = &plan->services[plan->nservices++];
    *s = (struct plan_service){
        .name = arena_str(&plan->arena, span_str(e->name)),
        .cmd = arena_str(&plan->arena, span_str(e->cmd)),
        .kind = p.kind,
        .listen = arena_str(&plan->arena, span_str(e->listen)),
        .proto = arena_str(&plan->arena,
                           span_str(e->proto == NULL ? "tcp" : e->proto)),
        .max_conns = e->maxchild > 0 ? (unsigned)e->maxchild : 0,
    };
    note_ignored_keys(m, e);
    take_options(m, e, s);
}

static void
add_child(struct maker *m, const struct cyrusconf_entry *e)
{
    struct plan *plan = m->plan;
    struct arena *a = &plan->arena;
    const char *const *words = e->argv;
    const char *dispatched = program_dispatched(words[0], words[1]);
    const char *word = words[0];

    if (dispatched != NULL) {
        word = dispatched;
        words++;
    }
    struct program p = program_known(word, false);
    const char *path =
        p.fate == PROGRAM_TOOL
            ? program_find(p.name, m->place->exe_dir, NULL, a)
            : program_find(word, m->place->exe_dir, m->place->path, a);

    if (path == NULL && p.fate == PROGRAM_UNKNOWN) {
        find(m, CONFIG_WARNING, e,
             arena_printf(a, "%s: no program \"%s\" in %s%s: left out", e->name,
                          word, m->place->exe_dir,
                          strchr(word, '/') == NULL ? " or PATH" : ""));
        return;
    }
    if (path == NULL) {
        find_absent(m, e, &p);
        return;
    }
    size_t n = 0;
    while (words[n] != NULL)
        n++;
    const char **argv = arena_array(a, n + 1, sizeof(*argv));
    for (size_t i = 1; i < n; i++)
        argv[i] = arena_str(a, span_str(words[i]));
    argv[0] = path;
    argv[n] = NULL;
    plan->children[plan->nchildren++] = (struct plan_child){
        .section = e->section,
        .name = arena_str(a, span_str(e->name)),
        .cmd = arena_str(a, span_str(e->cmd)),
        .argv = argv,
        .period_min = e->period_min,
        .at_hhmm = e->at_hhmm,
    };
}

enum errcode
plan_make(const struct cyrusconf *conf, const struct plan_place *place,
          struct plan **ret, struct error *err)
{
    size_t n = 0;
    const struct cyrusconf_entry *entries = cyrusconf_entries(conf, &n);
    struct plan *plan = xcalloc(1, sizeof(*plan));
    struct maker m = {.plan = plan, .place = place, .err = err};

    plan->services = xcalloc(MAX(n, (size_t)1), sizeof(*plan->services));
    plan->children = xcalloc(MAX(n, (size_t)1), sizeof(*plan->children));
    for (size_t i = 0; i < n; i++) {
        if (entries[i].section == CYRUS_SERVICES)
            add_service(&m, &entries[i]);
        else
            add_child(&m, &entries[i]);
    }
    *ret = plan;
    return m.failed ? ERR_SYNTAX : ERR_OK;
}

void
plan_free(struct plan **plan)
{
    if (*plan == NULL)
        return;
    free((*plan)->services);
    free((*plan)->children);
    free((*plan)->findings);
    arena_free(&(*plan)->arena);
    free(*plan);
    *plan = NULL;
}
