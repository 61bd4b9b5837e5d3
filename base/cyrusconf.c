/*
 * base/cyrusconf.c - reading cyrus.conf.
 *
 * The file is a row of tokens: words, key=value pairs, braces.  A word inside a
 * section starts an entry and every pair belongs to the entry before it, so
 * line ends mean nothing, and files that a mail program has wrapped still read
 * as they were meant.  The price: a forgotten quote swallows what follows it;
 * therefore the finding names the line in which the quote was opened.
 *
 * After a mistake reading goes on with the next token.
 */
#include "base/cyrusconf.h"

#include <stdlib.h>

#include "base/config_private.h"

#define ENTRIES_MAX 1024
#define VALUE_BYTES 4096

struct cyrusconf {
    struct arena arena;
    struct findings findings;
    struct cyrusconf_entry *entries;
    size_t n;
    size_t cap;
    unsigned noted; /* bit i: the note on keys[i] has been made */
};

enum token_kind { TOKEN_END, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_WORD, TOKEN_PAIR };

struct token {
    enum token_kind kind;
    unsigned line;
    struct span word;  /* WORD, or the key of a PAIR */
    const char *value; /* PAIR; NULL: broken, and said so */
};

struct reader {
    struct cyrusconf *conf;
    const char *file;
    struct span rest;
    unsigned line;
    bool in_section;
    bool skipping; /* a section that is unknown */
    enum cyrusconf_section section;
    bool in_entry;
    unsigned given; /* keys of the entry: bit i for keys[i] */
};

#define FOUND(r, severity, at, ...)                                            \
    findings_add(&(r)->conf->findings, &(r)->conf->arena, (severity),          \
                 (r)->file, (at), __VA_ARGS__)
#define SHOWN(r, s) config_shown(&(r)->conf->arena, (s))

/* ---- tokens ---- */

static void
advance(struct reader *r)
{
    if (r->rest.p[0] == '\n')
        r->line++;
    r->rest = span_skip(r->rest, 1);
}

static void
skip_blanks(struct reader *r)
{
    bool comment = false;

    while (r->rest.n > 0) {
        uint8_t c = r->rest.p[0];
        if (c == '#')
            comment = true;
        if (c == '\n')
            comment = false;
        if (!comment && !config_is_blank(c))
            return;
        advance(r);
    }
}

/* Behind the opening quote, up to and with the closing one. */
static const char *
take_quoted(struct reader *r)
{
    unsigned opened = r->line;
    struct buf text = BUF_MAX(VALUE_BYTES);
    bool nul = false;
    const char *value = NULL;

    while (r->rest.n > 0 && r->rest.p[0] != '"') {
        if (r->rest.p[0] == '\\' && r->rest.n > 1 &&
            (r->rest.p[1] == '"' || r->rest.p[1] == '\\'))
            advance(r);
        nul = nul || r->rest.p[0] == '\0';
        buf_add_byte(&text, r->rest.p[0]);
        advance(r);
    }
    if (r->rest.n == 0)
        FOUND(r, CONFIG_ERROR, opened, "the quote opened here is never closed");
    else if (text.full)
        FOUND(r, CONFIG_ERROR, opened, "a value of more than %d bytes",
              VALUE_BYTES);
    else if (nul)
        FOUND(r, CONFIG_ERROR, opened, "a value with a NUL byte in it");
    else
        value = arena_str(&r->conf->arena, buf_span(&text));
    if (r->rest.n > 0)
        advance(r);
    buf_free(&text);
    return value;
}

static bool
ends_word(uint8_t c)
{
    return config_is_blank(c) || c == '{' || c == '}' || c == '"';
}

static struct span
take_word(struct reader *r, uint8_t until)
{
    size_t n = 0;

    while (n < r->rest.n && r->rest.p[n] != until && !ends_word(r->rest.p[n]))
        n++;
    struct span word = span_sub(r->rest, 0, n);
    r->rest = span_skip(r->rest, n);
    return word;
}

static const char *
take_value(struct reader *r)
{
    if (r->rest.n > 0 && r->rest.p[0] == '"') {
        advance(r);
        return take_quoted(r);
    }
    struct span word = take_word(r, '\n');
    if (word.n > VALUE_BYTES || span_find_byte(word, '\0', 0) >= 0) {
        FOUND(r, CONFIG_ERROR, r->line, "a value that is too long or binary");
        return NULL;
    }
    return arena_str(&r->conf->arena, word);
}

static struct token
next_token(struct reader *r)
{
    skip_blanks(r);

    struct token t = {.kind = TOKEN_END, .line = r->line};
    if (r->rest.n == 0)
        return t;
    switch (r->rest.p[0]) {
    case '{':
        t.kind = TOKEN_OPEN;
        advance(r);
        return t;
    case '}':
        t.kind = TOKEN_CLOSE;
        advance(r);
        return t;
    case '"':
    case '=':
        /* Out of place; as a word it is refused where it stands. */
        t.kind = TOKEN_WORD;
        t.word = span_sub(r->rest, 0, 1);
        advance(r);
        return t;
    default:
        break;
    }
    t.kind = TOKEN_WORD;
    t.word = take_word(r, '=');
    if (r->rest.n > 0 && r->rest.p[0] == '=') {
        t.kind = TOKEN_PAIR;
        advance(r);
        t.value = take_value(r);
    }
    return t;
}

/* ---- keys ---- */

#define IN(section) (1U << CYRUS_##section)

typedef bool
key_set(struct reader *r, const struct token *t, struct cyrusconf_entry *e);

static bool
take_int(const char *value, int least, int most, int *ret)
{
    int64_t v;

    if (!config_parse_int(span_str(value), &v) || v < least || v > most)
        return false;
    *ret = (int)v;
    return true;
}

#define COUNT_MAX 1000000

static bool
set_cmd(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    struct span all = span_trim(span_str(t->value));
    const char **argv = arena_array(&r->conf->arena, all.n / 2 + 2,
                                    sizeof(*argv)); /* word, blank, word ... */
    size_t n = 0;

    for (struct span rest = all; rest.n > 0; rest = span_trim(rest)) {
        size_t end = 0;
        while (end < rest.n && !config_is_blank(rest.p[end]))
            end++;
        if (end == 0)
            rest = span_skip(rest, 1); /* \v and \f, which trim leaves */
        else
            argv[n++] = arena_str(&r->conf->arena, span_sub(rest, 0, end));
        rest = span_skip(rest, end);
    }
    e->cmd = t->value;
    e->argv = argv;
    return n > 0;
}

static bool
set_listen(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    (void)r;
    for (const char *p = t->value; *p != '\0'; p++) {
        if (config_is_blank((uint8_t)*p))
            return false;
    }
    e->listen = t->value;
    return *t->value != '\0';
}

static bool
set_proto(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    static const char *const words[] = {"tcp", "tcp4", "tcp6",
                                        "udp", "udp4", "udp6"};

    (void)r;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (span_eq_nocase_str(span_str(t->value), words[i])) {
            e->proto = words[i];
            return true;
        }
    }
    return false;
}

static bool
set_maxchild(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    (void)r;
    return take_int(t->value, -1, COUNT_MAX, &e->maxchild);
}

static bool
set_maxfds(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    (void)r;
    return take_int(t->value, -1, COUNT_MAX, &e->maxfds);
}

static bool
set_prefork(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    (void)r;
    return take_int(t->value, 0, COUNT_MAX, &e->prefork);
}

static bool
set_maxforkrate(struct reader *r, const struct token *t,
                struct cyrusconf_entry *e)
{
    (void)r;
    return take_int(t->value, 0, COUNT_MAX, &e->maxforkrate);
}

static bool
set_babysit(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    (void)r;
    return config_parse_switch(span_str(t->value), &e->babysit);
}

static bool
set_wait(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    (void)r;
    return config_parse_switch(span_str(t->value), &e->wait);
}

static bool
set_period(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    (void)r;
    return take_int(t->value, 0, COUNT_MAX, &e->period_min);
}

static bool
set_at(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    int v;

    (void)r;
    if (strlen(t->value) > 4 || !take_int(t->value, 0, 2359, &v) ||
        v % 100 > 59)
        return false;
    e->at_hhmm = v;
    return true;
}

static bool
set_nothing(struct reader *r, const struct token *t, struct cyrusconf_entry *e)
{
    (void)r;
    (void)t;
    (void)e;
    return true;
}

static const struct key {
    const char *name;
    unsigned sections;
    key_set *set;
    const char *wants;
    bool no_sense; /* services are threads of one process here */
} keys[] = {
    {"cmd", IN(START) | IN(SERVICES) | IN(EVENTS) | IN(DAEMON), set_cmd,
     "a command", false},
    {"listen", IN(SERVICES), set_listen, "[host:]port or /path", false},
    {"proto", IN(SERVICES), set_proto, "tcp, tcp4, tcp6, udp, udp4 or udp6",
     false},
    {"maxchild", IN(SERVICES), set_maxchild, "a number", false},
    {"maxfds", IN(SERVICES) | IN(DAEMON), set_maxfds, "a number", true},
    {"prefork", IN(SERVICES), set_prefork, "a number", true},
    {"maxforkrate", IN(SERVICES), set_maxforkrate, "a number", true},
    {"babysit", IN(SERVICES), set_babysit, "yes or no", true},
    {"provide_uuid", IN(SERVICES), set_nothing, "yes or no", true},
    {"wait", IN(START) | IN(DAEMON), set_wait, "yes or no", false},
    {"period", IN(EVENTS), set_period, "minutes", false},
    {"at", IN(EVENTS), set_at, "hhmm", false},
};

static const char *
key_at(const void *ctx, size_t i)
{
    (void)ctx;
    return keys[i].name;
}

static const char *const section_names[] = {
    [CYRUS_START] = "START",
    [CYRUS_SERVICES] = "SERVICES",
    [CYRUS_EVENTS] = "EVENTS",
    [CYRUS_DAEMON] = "DAEMON",
};

static const char *
section_at(const void *ctx, size_t i)
{
    (void)ctx;
    return section_names[i];
}

static const struct key *
find_key(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (span_eq_nocase_str(name, keys[i].name))
            return &keys[i];
    }
    return NULL;
}

static void
unknown_key(struct reader *r, const struct token *t)
{
    const char *near =
        config_nearest(t->word, key_at, NULL, ARRAY_LEN(keys), NULL);

    if (near != NULL)
        FOUND(r, CONFIG_ERROR, t->line, "unknown key %s, did you mean %s?",
              SHOWN(r, t->word), near);
    else
        FOUND(r, CONFIG_ERROR, t->line, "unknown key %s", SHOWN(r, t->word));
}

static void
on_pair(struct reader *r, const struct token *t)
{
    if (r->skipping || t->value == NULL)
        return;
    if (!r->in_entry) {
        FOUND(r, CONFIG_ERROR, t->line, "%s= stands before any entry",
              SHOWN(r, t->word));
        return;
    }

    const struct key *k = find_key(t->word);
    if (k == NULL) {
        unknown_key(r, t);
        return;
    }
    if ((k->sections & (1U << r->section)) == 0) {
        FOUND(r, CONFIG_ERROR, t->line, "%s= has no place in %s", k->name,
              section_names[r->section]);
        return;
    }
    if (!k->set(r, t, &r->conf->entries[r->conf->n - 1])) {
        FOUND(r, CONFIG_ERROR, t->line, "%s=\"%s\": %s is wanted", k->name,
              SHOWN(r, span_str(t->value)), k->wants);
        return;
    }
    unsigned bit = 1U << (k - keys);
    if ((r->given & bit) != 0)
        FOUND(r, CONFIG_WARNING, t->line, "%s= is given twice; this one counts",
              k->name);
    r->given |= bit;
    if (k->no_sense && (r->conf->noted & bit) == 0) {
        r->conf->noted |= bit;
        FOUND(r, CONFIG_NOTE, t->line,
              "%s= has no meaning here: services share one process", k->name);
    }
}

/* ---- entries and sections ---- */

static bool
is_name(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = ascii_lower(s.p[i]);
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' &&
            c != '_' && c != '.')
            return false;
    }
    return s.n > 0 && s.n <= 128;
}

/* The entry that is being read is complete: has it what it needs? */
static void
end_entry(struct reader *r)
{
    if (!r->in_entry)
        return;
    r->in_entry = false;

    const struct cyrusconf_entry *e = &r->conf->entries[r->conf->n - 1];
    if (e->cmd == NULL)
        FOUND(r, CONFIG_ERROR, e->line, "%s has no cmd=", e->name);
    if (e->section == CYRUS_SERVICES && e->listen == NULL)
        FOUND(r, CONFIG_ERROR, e->line, "%s has no listen=", e->name);
    if (e->section == CYRUS_EVENTS && e->at_hhmm < 0 && e->period_min == 0)
        FOUND(r, CONFIG_WARNING, e->line,
              "%s has neither at= nor period=: it runs once, at the start",
              e->name);
    if (e->section == CYRUS_EVENTS && e->at_hhmm >= 0 && e->period_min > 0)
        FOUND(r, CONFIG_WARNING, e->line,
              "%s has both at= and period=: at= "
              "counts",
              e->name);
}

static void
check_twice(struct reader *r, const struct token *t)
{
    for (size_t i = 0; i < r->conf->n; i++) {
        const struct cyrusconf_entry *e = &r->conf->entries[i];
        if (r->section == CYRUS_SERVICES && e->section == CYRUS_SERVICES &&
            span_eq_str(t->word, e->name))
            FOUND(r, CONFIG_ERROR, t->line,
                  "there is a service %s in line %u already", e->name, e->line);
    }
}

static void
start_entry(struct reader *r, const struct token *t)
{
    struct cyrusconf *conf = r->conf;

    end_entry(r);
    if (!is_name(t->word)) {
        FOUND(r, CONFIG_ERROR, t->line, "\"%s\" is no name of an entry",
              SHOWN(r, t->word));
        return;
    }
    if (conf->n == ENTRIES_MAX) {
        FOUND(r, CONFIG_ERROR, t->line, "more than %d entries", ENTRIES_MAX);
        r->skipping = true;
        return;
    }
    check_twice(r, t);
    if (conf->n == conf->cap) {
        conf->cap = MAX(16, 2 * conf->cap);
        conf->entries =
            xrealloc(conf->entries, conf->cap * sizeof(*conf->entries));
    }
    conf->entries[conf->n++] = (struct cyrusconf_entry){
        .section = r->section,
        .name = arena_str(&conf->arena, t->word),
        .argv = arena_alloc(&conf->arena, sizeof(char *)),
        .proto = "tcp",
        .maxchild = -1,
        .maxfds = -1,
        .at_hhmm = -1,
        .file = r->file,
        .line = t->line};
    r->in_entry = true;
    r->given = 0;
}

/* Outside of sections: NAME { */
static void
start_section(struct reader *r, const struct token *t)
{
    r->in_section = true;
    r->skipping = true;
    for (size_t i = 0; i < ARRAY_LEN(section_names); i++) {
        if (span_eq_nocase_str(t->word, section_names[i])) {
            r->section = (enum cyrusconf_section)i;
            r->skipping = false;
        }
    }
    if (r->skipping) {
        const char *near = config_nearest(t->word, section_at, NULL,
                                          ARRAY_LEN(section_names), NULL);
        FOUND(r, CONFIG_ERROR, t->line, "unknown section %s%s%s%s",
              SHOWN(r, t->word), near != NULL ? ", did you mean " : "",
              near != NULL ? near : "", near != NULL ? "?" : "");
    }
    skip_blanks(r);
    if (r->rest.n > 0 && r->rest.p[0] == '{')
        advance(r);
    else
        FOUND(r, CONFIG_ERROR, t->line, "\"{\" is missing behind %s",
              SHOWN(r, t->word));
}

static void
outside(struct reader *r, const struct token *t)
{
    switch (t->kind) {
    case TOKEN_WORD:
        start_section(r, t);
        break;
    case TOKEN_PAIR:
        FOUND(r, CONFIG_ERROR, t->line, "%s= stands outside of any section",
              SHOWN(r, t->word));
        break;
    case TOKEN_OPEN:
    case TOKEN_CLOSE:
        FOUND(r, CONFIG_ERROR, t->line, "a brace without a section");
        break;
    case TOKEN_END:
        break;
    }
}

/* The name of a section with a brace behind it, where an entry may stand. */
static bool
opens_section(struct reader *r, const struct token *t)
{
    skip_blanks(r);
    if (r->rest.n == 0 || r->rest.p[0] != '{')
        return false;
    for (size_t i = 0; i < ARRAY_LEN(section_names); i++) {
        if (span_eq_nocase_str(t->word, section_names[i]))
            return true;
    }
    return false;
}

static void
inside(struct reader *r, const struct token *t)
{
    switch (t->kind) {
    case TOKEN_WORD:
        if (opens_section(r, t)) {
            FOUND(r, CONFIG_ERROR, t->line,
                  "the section before %s is not "
                  "closed",
                  SHOWN(r, t->word));
            end_entry(r);
            start_section(r, t);
        } else if (!r->skipping)
            start_entry(r, t);
        break;
    case TOKEN_PAIR:
        on_pair(r, t);
        break;
    case TOKEN_OPEN:
        FOUND(r, CONFIG_ERROR, t->line,
              "a brace inside a section; is the one before not closed?");
        break;
    case TOKEN_CLOSE:
        end_entry(r);
        r->in_section = false;
        break;
    case TOKEN_END:
        break;
    }
}

static struct cyrusconf *
read_all(struct span text, const char *name)
{
    struct cyrusconf *conf = xcalloc(1, sizeof(*conf));
    struct reader r = {.conf = conf,
                       .file = arena_str(&conf->arena, span_str(name)),
                       .rest = text,
                       .line = 1};
    struct token t;

    while ((t = next_token(&r)).kind != TOKEN_END) {
        if (r.in_section)
            inside(&r, &t);
        else
            outside(&r, &t);
    }
    end_entry(&r);
    if (r.in_section)
        FOUND(&r, CONFIG_ERROR, r.line, "the file ends inside %s",
              r.skipping ? "a section" : section_names[r.section]);
    return conf;
}

/* ---- public ---- */

enum errcode
cyrusconf_parse(struct span text, const char *name, struct cyrusconf **ret,
                struct error *err)
{
    if (text.n > CONFIG_FILE_BYTES) {
        *ret = NULL;
        return error_set(err, ERR_LIMIT, "%s: %zu bytes, limit %u", name,
                         text.n, CONFIG_FILE_BYTES);
    }
    *ret = read_all(text, name);
    return findings_result(&(*ret)->findings, err);
}

enum errcode
cyrusconf_read(struct env *env, const char *path, struct cyrusconf **ret,
               struct error *err)
{
    struct buf text = BUF_INIT;
    enum errcode rc = env_read_file(env, path, CONFIG_FILE_BYTES, &text, err);

    *ret = NULL;
    if (rc == ERR_OK)
        rc = cyrusconf_parse(buf_span(&text), path, ret, err);
    buf_free(&text);
    return rc;
}

void
cyrusconf_free(struct cyrusconf **conf)
{
    struct cyrusconf *c = *conf;

    if (c == NULL)
        return;
    findings_free(&c->findings);
    free(c->entries);
    arena_free(&c->arena);
    free(c);
    *conf = NULL;
}

const struct cyrusconf_entry *
cyrusconf_entries(const struct cyrusconf *conf, size_t *ret_n)
{
    *ret_n = conf->n;
    return conf->entries;
}

const struct config_finding *
cyrusconf_findings(const struct cyrusconf *conf, size_t *ret_n)
{
    *ret_n = conf->findings.n;
    return conf->findings.items;
}
