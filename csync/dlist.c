/*
 * csync/dlist.c - reading and printing dlists.
 *
 * Reading is recursive over the nesting, which a limit bounds, and works on
 * what is there: a value that is cut gives PARSE_MORE and is read again from
 * the start when more bytes came.  Sizes that a peer announces meet their limit
 * before anything waits for, or allocates, that many bytes.
 */
#include "csync/dlist.h"

#include <stdio.h>

const struct dlist_limits dlist_default_limits = {
    .total_bytes = 1U << 20,
    .literal_bytes = 131072,
    .file_bytes = 64U << 20,
    .depth = 32,
    .nodes = 200000,
};

/* What Cyrus prints as an atom is shorter than this, and so for quoted. */
#define ATOM_PRINT_MAX 1024U
/* Digits of a 64-bit number, and one more, so that too many are noticed. */
#define DIGITS_MAX 21U

struct parser {
    struct span in;
    size_t at;
    const struct dlist_limits *limits;
    struct arena *arena;
    struct error *err;
    unsigned nodes;
    uint64_t file_bytes; /* do not count for total_bytes */
};

static enum parse
bad(struct parser *p, const char *why)
{
    error_set(p->err, ERR_PROTO, "at byte %zu: %s", p->at, why);
    return PARSE_BAD;
}

static bool
at_end(const struct parser *p)
{
    return p->at >= p->in.n;
}

static uint8_t
peek(const struct parser *p)
{
    return p->in.p[p->at];
}

static bool
is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Blanks inside lists may be line ends too; at the top they may not. */
static void
skip_blanks(struct parser *p, bool line_ends_too)
{
    while (!at_end(p) && is_blank(peek(p)) &&
           (line_ends_too || (peek(p) != '\r' && peek(p) != '\n')))
        p->at++;
}

static enum parse
parse_atom(struct parser *p, struct span *ret)
{
    size_t from = p->at;

    while (!at_end(p)) {
        uint8_t c = peek(p);
        if (is_blank(c) || c == '(' || c == ')' || c == '"')
            break;
        p->at++;
        if (p->at - from > p->limits->literal_bytes)
            return bad(p, "word is too long");
    }
    if (at_end(p))
        return PARSE_MORE; /* it may go on */
    if (p->at == from)
        return bad(p, "a value is missing");
    *ret = span_sub(p->in, from, p->at - from);
    return PARSE_DONE;
}

static enum parse
parse_quoted(struct parser *p, struct span *ret)
{
    size_t from = ++p->at;
    bool escaped = false;

    for (; !at_end(p); p->at++) {
        uint8_t c = peek(p);
        if (c == '"')
            break;
        if (c == '\r' || c == '\n')
            return bad(p, "line ends inside a quoted string");
        if (c == '\\') {
            escaped = true;
            p->at++;
        }
        if (p->at - from > p->limits->literal_bytes)
            return bad(p, "quoted string is too long");
    }
    if (at_end(p))
        return PARSE_MORE;

    struct span raw = span_sub(p->in, from, p->at - from);
    p->at++;
    if (!escaped) {
        *ret = raw;
        return PARSE_DONE;
    }
    uint8_t *to = arena_alloc(p->arena, raw.n);
    size_t n = 0;
    for (size_t i = 0; i < raw.n; i++) {
        if (raw.p[i] == '\\')
            i++;
        to[n++] = raw.p[i];
    }
    *ret = span_of(to, n);
    return PARSE_DONE;
}

/* Digits up to one of STOPS; the stop is left standing. */
static enum parse
parse_size(struct parser *p, const char *stops, uint64_t max, uint64_t *ret)
{
    size_t from = p->at;

    while (!at_end(p) && strchr(stops, peek(p)) == NULL) {
        p->at++;
        if (p->at - from > DIGITS_MAX)
            return bad(p, "size is too long");
    }
    if (at_end(p))
        return PARSE_MORE;
    if (!parse_u64(span_sub(p->in, from, p->at - from), ret))
        return bad(p, "size is not a number");
    if (*ret > max)
        return bad(p, "[TOOBIG] Literal size exceeds fixed limit");
    return PARSE_DONE;
}

static enum parse
expect(struct parser *p, const char *text)
{
    for (; *text != '\0'; text++, p->at++) {
        if (at_end(p))
            return PARSE_MORE;
        if (peek(p) != (uint8_t)*text)
            return bad(p, "literal is malformed");
    }
    return PARSE_DONE;
}

static enum parse
take_bytes(struct parser *p, uint64_t n, struct span *ret)
{
    if (n > p->in.n - p->at)
        return PARSE_MORE;
    *ret = span_sub(p->in, p->at, (size_t)n);
    p->at += (size_t)n;
    return PARSE_DONE;
}

/* {n}CRLF or {n+}CRLF, then the bytes. */
static enum parse
parse_literal(struct parser *p, struct span *ret)
{
    uint64_t n = 0;

    p->at++;
    enum parse rc = parse_size(p, "+}", p->limits->literal_bytes, &n);
    if (rc != PARSE_DONE)
        return rc;
    if (peek(p) == '+')
        p->at++;
    rc = expect(p, "}\r\n");
    if (rc != PARSE_DONE)
        return rc;
    return take_bytes(p, n, ret);
}

static enum parse
parse_text(struct parser *p, struct span *ret, bool *ret_is_atom)
{
    *ret_is_atom = false;
    if (at_end(p))
        return PARSE_MORE;
    if (peek(p) == '"')
        return parse_quoted(p, ret);
    if (peek(p) == '{')
        return parse_literal(p, ret);
    *ret_is_atom = true;
    return parse_atom(p, ret);
}

/* %{partition SP guid SP size}[CR]LF, then the bytes. */
static enum parse
parse_file_head(struct parser *p, struct dlist *d)
{
    struct span guid;
    bool is_atom = false;

    p->at += 2;
    enum parse rc = parse_text(p, &d->partition, &is_atom);
    if (rc != PARSE_DONE)
        return rc;
    skip_blanks(p, false);
    rc = parse_atom(p, &guid);
    if (rc != PARSE_DONE)
        return rc;
    if (!parse_hex_bytes(guid, d->guid.b, GUID_BYTES))
        return bad(p, "file has no GUID");
    skip_blanks(p, false);
    rc = parse_size(p, "}", p->limits->file_bytes, &d->size);
    if (rc != PARSE_DONE)
        return rc;
    p->at++;
    if (at_end(p))
        return PARSE_MORE;
    if (peek(p) == '\r')
        p->at++;
    rc = expect(p, "\n");
    if (rc == PARSE_DONE)
        d->type = DLIST_FILE;
    return rc;
}

static enum parse
parse_file(struct parser *p, struct dlist *d)
{
    enum parse rc = parse_file_head(p, d);

    if (rc != PARSE_DONE)
        return rc;
    p->file_bytes += d->size;
    return take_bytes(p, d->size, &d->text);
}

static enum parse
parse_value(struct parser *p, struct dlist *d, unsigned depth);

static enum parse
parse_children(struct parser *p, struct dlist *d, unsigned depth)
{
    struct dlist **tail = &d->child;

    if (depth >= p->limits->depth)
        return bad(p, "nested too deeply");
    for (;;) {
        skip_blanks(p, true);
        if (at_end(p))
            return PARSE_MORE;
        if (peek(p) == ')') {
            p->at++;
            return PARSE_DONE;
        }
        if (++p->nodes > p->limits->nodes)
            return bad(p, "too many values");
        struct dlist *child = arena_alloc(p->arena, sizeof(*child));
        enum parse rc;
        if (d->type == DLIST_KVLIST) {
            bool is_atom = false;
            rc = parse_text(p, &child->name, &is_atom);
            if (rc != PARSE_DONE)
                return rc;
            skip_blanks(p, true);
        }
        rc = parse_value(p, child, depth + 1);
        if (rc != PARSE_DONE)
            return rc;
        *tail = child;
        tail = &child->next;
    }
}

static enum parse
parse_value(struct parser *p, struct dlist *d, unsigned depth)
{
    bool is_atom = false;

    if (at_end(p))
        return PARSE_MORE;
    if (peek(p) == '(') {
        p->at++;
        d->type = DLIST_LIST;
        return parse_children(p, d, depth);
    }
    if (peek(p) == '%') {
        if (p->in.n - p->at < 2)
            return PARSE_MORE;
        if (p->in.p[p->at + 1] == '(') {
            p->at += 2;
            d->type = DLIST_KVLIST;
            return parse_children(p, d, depth);
        }
        if (p->in.p[p->at + 1] == '{')
            return parse_file(p, d);
    }
    d->type = DLIST_ATOM;
    enum parse rc = parse_text(p, &d->text, &is_atom);
    if (rc == PARSE_DONE && is_atom && span_eq_str(d->text, "NIL")) {
        d->type = DLIST_NIL;
        d->text = SPAN_EMPTY;
    }
    return rc;
}

static enum parse
parse_line(struct parser *p, struct dlist *top)
{
    bool is_atom = false;

    enum parse rc = parse_text(p, &top->name, &is_atom);
    if (rc != PARSE_DONE)
        return rc;
    skip_blanks(p, false);
    rc = parse_value(p, top, 0);
    if (rc != PARSE_DONE)
        return rc;
    skip_blanks(p, false);
    if (at_end(p))
        return PARSE_MORE;
    if (peek(p) == '\r') {
        p->at++;
        if (at_end(p))
            return PARSE_MORE;
    }
    if (peek(p) != '\n')
        return bad(p, "something follows the value");
    p->at++;
    return PARSE_DONE;
}

enum parse
dlist_parse(struct span in, const struct dlist_limits *limits, struct arena *a,
            struct dlist **ret, size_t *ret_used, struct error *err)
{
    struct parser p = {.in = in, .limits = limits, .arena = a, .err = err};
    struct dlist *top = arena_alloc(a, sizeof(*top));

    enum parse rc = parse_line(&p, top);
    if (rc == PARSE_MORE && in.n > limits->total_bytes + p.file_bytes)
        rc = bad(&p, "line is too long");
    switch (rc) {
    case PARSE_DONE:
        *ret = top;
        *ret_used = p.at;
        break;
    case PARSE_MORE:
        break;
    case PARSE_BAD: {
        ptrdiff_t end = span_find_byte(in, '\n', MIN(p.at, in.n));
        *ret_used = end < 0 ? 0 : (size_t)end + 1;
        break;
    }
    }
    return rc;
}

size_t
dlist_take_blanks(struct span in)
{
    size_t n = 0;

    while (n < in.n && is_blank(in.p[n]))
        n++;
    return n;
}

/* What is cut may be as long as the limit says, and no longer. */
static enum parse
bounded(struct parser *p, enum parse rc, size_t *ret_used)
{
    if (rc == PARSE_MORE && p->in.n > p->limits->total_bytes + p->file_bytes)
        rc = bad(p, "a value is too long");
    if (rc == PARSE_DONE)
        *ret_used = p->at;
    return rc;
}

enum parse
dlist_take_name(struct span in, const struct dlist_limits *limits,
                struct arena *a, struct span *ret, size_t *ret_used,
                struct error *err)
{
    struct parser p = {.in = in, .limits = limits, .arena = a, .err = err};
    bool is_atom = false;

    return bounded(&p, parse_text(&p, ret, &is_atom), ret_used);
}

enum parse
dlist_take_value(struct span in, const struct dlist_limits *limits,
                 struct arena *a, struct dlist *ret, size_t *ret_used,
                 struct error *err)
{
    struct parser p = {.in = in, .limits = limits, .arena = a, .err = err};

    *ret = (struct dlist){0};
    return bounded(&p, parse_value(&p, ret, 0), ret_used);
}

enum parse
dlist_take_file(struct span in, const struct dlist_limits *limits,
                struct arena *a, struct dlist *ret, size_t *ret_used,
                struct error *err)
{
    struct parser p = {.in = in, .limits = limits, .arena = a, .err = err};

    *ret = (struct dlist){0};
    if (in.n < 2)
        return PARSE_MORE;
    if (in.p[0] != '%' || in.p[1] != '{')
        return bad(&p, "not a file");
    return bounded(&p, parse_file_head(&p, ret), ret_used);
}

const struct dlist *
dlist_get(const struct dlist *d, const char *name)
{
    if (d == NULL || d->type != DLIST_KVLIST)
        return NULL;
    for (const struct dlist *c = d->child; c != NULL; c = c->next)
        if (span_eq_str(c->name, name))
            return c;
    return NULL;
}

bool
dlist_get_text(const struct dlist *d, const char *name, struct span *ret)
{
    const struct dlist *c = dlist_get(d, name);

    if (c == NULL || c->type != DLIST_ATOM)
        return false;
    *ret = c->text;
    return true;
}

bool
dlist_get_str(const struct dlist *d, const char *name, struct arena *a,
              const char **ret)
{
    struct span text;

    if (!dlist_get_text(d, name, &text) || span_find_byte(text, 0, 0) >= 0)
        return false;
    *ret = arena_str(a, text);
    return true;
}

bool
dlist_get_u64(const struct dlist *d, const char *name, uint64_t *ret)
{
    struct span text;

    return dlist_get_text(d, name, &text) && parse_u64(text, ret);
}

bool
dlist_get_u32(const struct dlist *d, const char *name, uint32_t *ret)
{
    struct span text;

    return dlist_get_text(d, name, &text) && parse_u32(text, ret);
}

bool
dlist_get_hex64(const struct dlist *d, const char *name, uint64_t *ret)
{
    struct span text;

    return dlist_get_text(d, name, &text) && text.n == 16 &&
           parse_hex_u64(text, ret);
}

bool
dlist_get_instid(const struct dlist *d, const char *name, struct instid *ret)
{
    struct span text;

    return dlist_get_text(d, name, &text) &&
           parse_hex_bytes(text, ret->b, INSTANCE_ID_BYTES);
}

/* ---- printing ---------------------------------------------------------- */

void
dlist_print_begin(struct dlist_printer *p, struct buf *out,
                  enum dlist_side side)
{
    *p = (struct dlist_printer){.out = out, .side = side};
}

static bool
can_be_atom(struct span s)
{
    if (s.n == 0 || s.n >= ATOM_PRINT_MAX || span_eq_str(s, "NIL"))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x1f || s.p[i] >= 0x7f ||
            memchr(" {()\"%*\\", s.p[i], 8) != NULL)
            return false;
    return true;
}

static bool
can_be_quoted(struct span s)
{
    if (s.n >= ATOM_PRINT_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 0x80 || s.p[i] == 0 ||
            memchr("\r\n\"%\\", s.p[i], 5) != NULL)
            return false;
    return true;
}

static void
print_string(struct dlist_printer *p, struct span s)
{
    if (can_be_atom(s)) {
        buf_add(p->out, s);
    } else if (can_be_quoted(s)) {
        buf_add_byte(p->out, '"');
        buf_add(p->out, s);
        buf_add_byte(p->out, '"');
    } else {
        buf_addf(p->out, p->side == DLIST_CLIENT ? "{%zu+}\r\n" : "{%zu}\r\n",
                 s.n);
        buf_add(p->out, s);
    }
}

/* The blank before, and the name where there is one. */
static void
print_name(struct dlist_printer *p, const char *name)
{
    if (p->need_blank)
        buf_add_byte(p->out, ' ');
    if (name != NULL) {
        print_string(p, span_str(name));
        buf_add_byte(p->out, ' ');
    }
    p->need_blank = true;
}

void
dlist_open_kv(struct dlist_printer *p, const char *name)
{
    print_name(p, name);
    buf_add_str(p->out, "%(");
    p->need_blank = false;
    p->depth++;
}

void
dlist_open_list(struct dlist_printer *p, const char *name)
{
    print_name(p, name);
    buf_add_byte(p->out, '(');
    p->need_blank = false;
    p->depth++;
}

void
dlist_close(struct dlist_printer *p)
{
    ENSURE(p->depth > 0);
    buf_add_byte(p->out, ')');
    p->need_blank = true;
    p->depth--;
}

void
dlist_nil(struct dlist_printer *p, const char *name)
{
    print_name(p, name);
    buf_add_str(p->out, "NIL");
}

void
dlist_span(struct dlist_printer *p, const char *name, struct span value)
{
    print_name(p, name);
    print_string(p, value);
}

void
dlist_str(struct dlist_printer *p, const char *name, const char *value)
{
    if (value == NULL)
        dlist_nil(p, name);
    else
        dlist_span(p, name, span_str(value));
}

void
dlist_u64(struct dlist_printer *p, const char *name, uint64_t value)
{
    print_name(p, name);
    buf_addf(p->out, "%" PRIu64, value);
}

void
dlist_hex64(struct dlist_printer *p, const char *name, uint64_t value)
{
    print_name(p, name);
    buf_addf(p->out, "%016" PRIx64, value);
}

void
dlist_guid(struct dlist_printer *p, const char *name, const struct guid *g)
{
    char text[GUID_TEXT_BYTES];

    print_name(p, name);
    buf_add_str(p->out, guid_text(g, text));
}

void
dlist_instid(struct dlist_printer *p, const char *name, const struct instid *i)
{
    char text[2 * INSTANCE_ID_BYTES + 1];

    format_hex_bytes(i->b, INSTANCE_ID_BYTES, text);
    print_name(p, name);
    buf_add_str(p->out, text);
}
