/*
 * mime/header.c - lexers for header blocks, address lists and parameters.
 *
 * Each goes over its input once and never steps back, so the time is linear
 * whatever the input.  All are forgiving: what other programs have written is
 * read as a person would read it, and what makes no sense is skipped up to the
 * next separator.  Nothing recurses: comments are counted.
 */
#include "mime/header.h"

/* ---- fields ---- */

/* Bytes of the first line of S with its line end. */
static size_t
line_bytes(struct span s)
{
    ptrdiff_t at = span_find_byte(s, '\n', 0);
    return at < 0 ? s.n : (size_t)at + 1;
}

static bool
is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static bool
is_space(uint8_t c)
{
    return is_blank(c) || c == '\r' || c == '\n';
}

/* "Name:" at the front of LINE (name: no blanks, no controls), blanks before
 * the colon allowed (RFC 5322, 4.5).  0, or the bytes of the name. */
static size_t
field_name(struct span line, size_t *ret_colon)
{
    size_t n = 0;

    while (n < line.n && line.p[n] > ' ' && line.p[n] != ':' &&
           line.p[n] != 127)
        n++;
    size_t colon = n;
    while (colon < line.n && is_blank(line.p[colon]))
        colon++;
    if (n == 0 || colon == line.n || line.p[colon] != ':')
        return 0;
    *ret_colon = colon;
    return n;
}

bool
mime_field_next(struct span *block, struct mime_field *ret)
{
    while (block->n > 0) {
        size_t n = line_bytes(*block);
        size_t colon = 0;
        struct span line = span_sub(*block, 0, n);

        if (span_eq_str(line, "\n") || span_eq_str(line, "\r\n"))
            break;
        size_t name = field_name(line, &colon);
        while (n < block->n && is_blank(block->p[n]))
            n += line_bytes(span_skip(*block, n));
        struct span raw = span_sub(*block, 0, n);
        *block = span_skip(*block, n);
        if (name == 0)
            continue;
        ret->raw = raw;
        ret->name = span_sub(raw, 0, name);
        ret->value = span_skip(raw, colon + 1);
        if (ret->value.n > 0 && ret->value.p[ret->value.n - 1] == '\n') {
            ret->value.n--;
            if (ret->value.n > 0 && ret->value.p[ret->value.n - 1] == '\r')
                ret->value.n--;
        }
        return true;
    }
    block->n = 0;
    return false;
}

void
mime_header_fields(struct span block, const struct span *names, size_t n,
                   bool not, struct buf *out)
{
    struct mime_field f;

    while (mime_field_next(&block, &f)) {
        bool named = false;
        for (size_t i = 0; i < n && !named; i++)
            named = span_eq_nocase(f.name, names[i]);
        if (named == not )
            continue;
        buf_add(out, f.raw);
        if (f.raw.p[f.raw.n - 1] != '\n')
            buf_add_str(out, "\r\n");
    }
    buf_add_str(out, "\r\n");
}

void
mime_unfold(struct span value, struct buf *out)
{
    struct span s = span_trim(value);
    uint8_t *to = buf_reserve(out, s.n);
    size_t n = 0;

    if (to == NULL)
        return;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (c == '\n' || (c == '\r' && i + 1 < s.n && s.p[i + 1] == '\n'))
            continue;
        to[n++] = c == 0 ? '?' : c;
    }
    out->n += n;
}

bool
mime_header_get(struct span block, struct span name, size_t n, struct buf *out)
{
    struct mime_field f;

    while (mime_field_next(&block, &f)) {
        if (!span_eq_nocase(f.name, name) || n-- > 0)
            continue;
        mime_unfold(f.value, out);
        return true;
    }
    return false;
}

/* ---- blanks, comments, quoted strings ---- */

struct lexer {
    struct span in;
    size_t at;
};

static bool
lex_end(const struct lexer *l)
{
    return l->at >= l->in.n;
}

static uint8_t
lex_peek(const struct lexer *l)
{
    return l->at < l->in.n ? l->in.p[l->at] : 0;
}

static void
add_byte(struct buf *out, uint8_t c)
{
    if (c == '\r' || c == '\n')
        return; /* a fold */
    buf_add_byte(out, c == 0 ? '?' : c);
}

/* At a "(": over the comment and those in it; its text goes to OUT, which may
 * be NULL. */
static void
lex_comment(struct lexer *l, struct buf *out)
{
    size_t depth = 0;

    if (out != NULL)
        buf_clear(out);
    while (!lex_end(l)) {
        uint8_t c = l->in.p[l->at++];
        if (c == '(' && depth++ == 0)
            continue;
        if (c == ')' && --depth == 0)
            return;
        if (c == '\\' && !lex_end(l))
            c = l->in.p[l->at++];
        if (out != NULL)
            add_byte(out, c);
    }
}

/* Over blanks, folds and comments; true if there were any. */
static bool
lex_cfws(struct lexer *l, struct buf *comment)
{
    size_t from = l->at;

    while (!lex_end(l)) {
        if (is_space(lex_peek(l)))
            l->at++;
        else if (lex_peek(l) == '(')
            lex_comment(l, comment);
        else
            break;
    }
    return l->at > from;
}

/* At a quote: the string without it goes to OUT. */
static void
lex_quoted(struct lexer *l, struct buf *out)
{
    l->at++;
    while (!lex_end(l)) {
        uint8_t c = l->in.p[l->at++];
        if (c == '"')
            return;
        if (c == '\\' && !lex_end(l))
            c = l->in.p[l->at++];
        add_byte(out, c);
    }
}

/* ---- addresses ---- */

#define AT_NONE SIZE_MAX

struct address_parser {
    struct lexer lex;
    struct arena *arena;
    struct mime_address **tail;
    size_t n;
    size_t max;
    bool full;
    bool in_group;
    struct buf phrase;  /* words of the address under way */
    struct buf comment; /* the last one seen since the last address */
    struct buf spec;    /* what stands between angle brackets */
    size_t at_sign;     /* place of the last "@" in phrase, or AT_NONE */
    bool quoted;        /* a quoted string is in phrase */
};

static struct mime_address *
address_add(struct address_parser *p, enum mime_address_kind kind)
{
    /* One entry is kept back for the end of the group that may be open. */
    if (p->n + (kind != MIME_ADDRESS_GROUP_END ? 1 : 0) +
            (kind == MIME_ADDRESS_GROUP || p->in_group ? 1 : 0) >
        p->max) {
        p->full = true;
        return NULL;
    }
    struct mime_address *a = arena_alloc(p->arena, sizeof(*a));
    a->kind = kind;
    *p->tail = a;
    p->tail = &a->next;
    p->n++;
    return a;
}

/* Blanks beside dots are no part of a local part (RFC 5322, 4.4). */
static struct span
without_blanks(struct arena *arena, struct span s)
{
    uint8_t *copy = arena_alloc(arena, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != ' ')
            copy[n++] = s.p[i];
    return span_of(copy, n);
}

/* An addr-spec of TEXT, whose "@" is at AT.  Blanks go unless QUOTED. */
static void
address_spec(struct address_parser *p, struct mime_address *a, struct span text,
             size_t at, bool quoted)
{
    struct span local = at == AT_NONE ? text : span_sub(text, 0, at);

    a->mailbox =
        quoted ? arena_copy(p->arena, local) : without_blanks(p->arena, local);
    if (at != AT_NONE)
        a->host = without_blanks(p->arena, span_skip(text, at + 1));
}

static void
address_reset(struct address_parser *p)
{
    buf_clear(&p->phrase);
    buf_clear(&p->comment);
    p->at_sign = AT_NONE;
    p->quoted = false;
}

/* End of an address without angle brackets: "a@b", "a@b (name)", "words". */
static void
address_finish(struct address_parser *p)
{
    struct span text = buf_span(&p->phrase);
    struct span name = span_trim(buf_span(&p->comment));
    size_t at = p->at_sign;

    if (text.n > 0 || p->quoted) {
        struct mime_address *a = address_add(p, MIME_ADDRESS_MAILBOX);
        if (a == NULL)
            return address_reset(p);
        if (at != AT_NONE && !p->quoted) {
            /* "Some Name a@b": the words before the last one are a name,
             * unless a dot binds them. */
            size_t i = at;
            while (i > 0 && text.p[i - 1] == ' ')
                i--;
            while (i > 0 && text.p[i - 1] != ' ')
                i--;
            if (i > 1 && text.p[i] != '.' && text.p[i - 2] != '.') {
                name = span_trim(span_sub(text, 0, i));
                text = span_skip(text, i);
                at -= i;
            }
        }
        address_spec(p, a, text, at, p->quoted || at == AT_NONE);
        a->name = arena_copy(p->arena, name);
    }
    address_reset(p);
}

/* Over the route in "<@a,@b:c@d>"; the text without blanks. */
static struct span
lex_route(struct address_parser *p)
{
    struct lexer *l = &p->lex;

    buf_clear(&p->spec);
    while (!lex_end(l)) {
        uint8_t c = lex_peek(l);
        if (c == ':' || c == '>' || c == '<' || c == ';')
            break;
        if (lex_cfws(l, NULL))
            continue;
        add_byte(&p->spec, c);
        l->at++;
    }
    if (lex_peek(l) == ':')
        l->at++;
    return arena_copy(p->arena, buf_span(&p->spec));
}

/* At a "<": "Name <@route:local@host>". */
static void
address_angle(struct address_parser *p)
{
    struct lexer *l = &p->lex;
    size_t at = AT_NONE;
    bool quoted = false;
    struct span route = SPAN_EMPTY;

    l->at++;
    lex_cfws(l, NULL);
    if (lex_peek(l) == '@')
        route = lex_route(p);
    buf_clear(&p->spec);
    while (!lex_end(l)) {
        if (lex_cfws(l, NULL))
            continue;
        uint8_t c = lex_peek(l);
        if (c == '>' || c == ',' || c == '<')
            break;
        if (c == '"') {
            quoted = true;
            lex_quoted(l, &p->spec);
            continue;
        }
        if (c == '@')
            at = p->spec.n;
        add_byte(&p->spec, c);
        l->at++;
    }
    if (lex_peek(l) == '>')
        l->at++;

    struct span name = span_trim(buf_span(&p->phrase));
    struct mime_address *a = address_add(p, MIME_ADDRESS_MAILBOX);
    if (a != NULL) {
        a->route = route;
        address_spec(p, a, buf_span(&p->spec), at, quoted);
        if (name.n == 0) { /* "<a@b> (Name)" */
            lex_cfws(l, &p->comment);
            name = span_trim(buf_span(&p->comment));
        }
        a->name = arena_copy(p->arena, name);
    }
    address_reset(p);
    /* Nothing more belongs to this address. */
    while (!lex_end(l)) {
        uint8_t c = lex_peek(l);
        if (c == ',' || c == ';' || c == '<')
            break;
        if (!lex_cfws(l, NULL))
            l->at++;
    }
}

static void
group_begin(struct address_parser *p)
{
    struct mime_address *a = address_add(p, MIME_ADDRESS_GROUP);

    if (a != NULL) {
        a->mailbox = arena_copy(p->arena, span_trim(buf_span(&p->phrase)));
        p->in_group = true;
    }
    address_reset(p);
}

static void
group_end(struct address_parser *p)
{
    if (p->in_group)
        (void)address_add(p, MIME_ADDRESS_GROUP_END);
    p->in_group = false;
}

/* One word of an address, with the blank before it if there was any. */
static void
address_word(struct address_parser *p, bool gap)
{
    struct lexer *l = &p->lex;
    uint8_t c = lex_peek(l);

    if (gap && p->phrase.n > 0)
        buf_add_byte(&p->phrase, ' ');
    if (c == '"') {
        p->quoted = true;
        lex_quoted(l, &p->phrase);
        return;
    }
    if (c == '@')
        p->at_sign = p->phrase.n;
    if (c == '[' && p->at_sign != AT_NONE) { /* a domain literal */
        while (!lex_end(l) && lex_peek(l) != ']')
            add_byte(&p->phrase, l->in.p[l->at++]);
        if (lex_end(l))
            return;
        c = ']';
    }
    add_byte(&p->phrase, c);
    l->at++;
}

size_t
mime_addresses_parse(struct span value, size_t max, struct arena *arena,
                     struct mime_address **ret, bool *ret_full)
{
    struct mime_address *first = NULL;
    struct address_parser p = {.lex = {.in = value},
                               .arena = arena,
                               .tail = &first,
                               .max = max,
                               .at_sign = AT_NONE};

    while (!p.full) {
        bool gap = lex_cfws(&p.lex, &p.comment);
        if (lex_end(&p.lex))
            break;
        uint8_t c = lex_peek(&p.lex);
        if (c == '<') {
            address_angle(&p);
        } else if (c == ',' || c == ';') {
            p.lex.at++;
            address_finish(&p);
            if (c == ';')
                group_end(&p);
        } else if (c == ':' && !p.in_group) {
            p.lex.at++;
            group_begin(&p);
        } else if (c == '>' || c == ')') {
            p.lex.at++;
        } else {
            address_word(&p, gap);
        }
    }
    address_finish(&p);
    group_end(&p);
    buf_free(&p.phrase);
    buf_free(&p.comment);
    buf_free(&p.spec);
    *ret = first;
    if (p.full && ret_full != NULL)
        *ret_full = true;
    return p.n;
}

/* ---- types and parameters ---- */

/* A parameter as it stands there; name is "base", "base*", "base*3*". */
struct piece {
    struct span name;
    struct span value;
    struct span base; /* name without the RFC 2231 marks */
    uint32_t number;  /* NO_NUMBER: not a piece */
    bool encoded;     /* "*" at the end */
};

#define NO_NUMBER UINT32_MAX

static bool
ends_token(uint8_t c)
{
    return is_space(c) || c == ';' || c == '(' || c == '"' || c == 0;
}

static struct span
lex_token(struct lexer *l, const char *stop)
{
    size_t from = l->at;

    while (!lex_end(l) && !ends_token(lex_peek(l)) &&
           strchr(stop, lex_peek(l)) == NULL)
        l->at++;
    return span_sub(l->in, from, l->at - from);
}

/* "WORD =" comes next: somebody has forgotten the semicolon. */
static bool
at_param(struct lexer l)
{
    return lex_token(&l, "=").n > 0 && lex_peek(&l) == '=';
}

/*
 * A value: a quoted string, or all up to the semicolon, since some forget to
 * quote blanks in file names.
 */
static struct span
lex_value(struct lexer *l, struct buf *scratch, struct arena *arena)
{
    buf_clear(scratch);
    lex_cfws(l, NULL);
    if (lex_peek(l) == '"') {
        lex_quoted(l, scratch);
        lex_cfws(l, NULL);
        return arena_copy(arena, buf_span(scratch));
    }
    for (;;) {
        struct span word = lex_token(l, "");
        buf_add(scratch, word);
        if (word.n == 0 && !lex_end(l) && lex_peek(l) != ';')
            l->at++; /* a stray quote or NUL */
        lex_cfws(l, NULL);
        if (lex_end(l) || lex_peek(l) == ';' || at_param(*l))
            break;
        buf_add_byte(scratch, ' ');
    }
    return arena_copy(arena, span_trim(buf_span(scratch)));
}

/* Split the name as RFC 2231, 3 and 4 say. */
static void
piece_split(struct piece *x)
{
    x->base = x->name;
    x->number = NO_NUMBER;
    if (x->base.n > 1 && x->base.p[x->base.n - 1] == '*') {
        x->encoded = true;
        x->base.n--;
    }
    ptrdiff_t star = span_find_byte(x->base, '*', 0);
    uint32_t number = 0;
    if (star > 0 && parse_u32(span_skip(x->base, (size_t)star + 1), &number)) {
        x->base.n = (size_t)star;
        x->number = number;
    }
}

static void
add_encoded(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if ((c >= '0' && c <= '9') ||
            (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') ||
            memchr("-._~", c, 4) != NULL)
            buf_add_byte(out, c);
        else
            buf_addf(out, "%%%02X", c);
    }
}

/* Put the pieces 0, 1, 2 ... of X[FIRST] together.  SLOTS has room for N. */
static struct mime_param *
pieces_join(const struct piece *x, size_t n, size_t first, size_t *slots,
            bool *used, struct buf *scratch, struct arena *arena)
{
    struct mime_param *param = arena_alloc(arena, sizeof(*param));
    bool encoded = false;
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        slots[i] = SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        if (x[i].number < n && slots[x[i].number] == SIZE_MAX &&
            span_eq_nocase(x[i].base, x[first].base))
            slots[x[i].number] = i;
    while (count < n && slots[count] != SIZE_MAX) {
        encoded = encoded || x[slots[count]].encoded;
        used[slots[count]] = true;
        count++;
    }

    buf_clear(scratch);
    if (encoded && !x[first].encoded)
        buf_add_str(scratch, "''");
    for (size_t i = 0; i < count; i++) {
        const struct piece *from = &x[slots[i]];
        if (encoded && !from->encoded)
            add_encoded(scratch, from->value);
        else
            buf_add(scratch, from->value);
    }
    param->value = arena_copy(arena, buf_span(scratch));
    param->name = x[first].base;
    if (encoded) {
        buf_clear(scratch);
        buf_add(scratch, x[first].base);
        buf_add_byte(scratch, '*');
        param->name = arena_copy(arena, buf_span(scratch));
    }
    return param;
}

/* The list of what X[0..N) says, in its order.  Pieces are joined first, since
 * piece 1 may stand before piece 0. */
static struct mime_param *
params_of(const struct piece *x, size_t n, struct buf *scratch,
          struct arena *arena)
{
    struct mime_param *first = NULL;
    struct mime_param **tail = &first;
    bool *used = arena_array(arena, n, sizeof(*used));
    struct mime_param **joined =
        arena_array(arena, n, sizeof(struct mime_param *));
    size_t *slots = NULL;

    for (size_t i = 0; i < n; i++) {
        if (used[i] || x[i].number != 0)
            continue;
        if (slots == NULL)
            slots = arena_array(arena, n, sizeof(*slots));
        joined[i] = pieces_join(x, n, i, slots, used, scratch, arena);
    }
    for (size_t i = 0; i < n; i++) {
        struct mime_param *param = joined[i];
        if (param == NULL && used[i])
            continue;
        if (param == NULL) {
            param = arena_alloc(arena, sizeof(*param));
            param->name = x[i].name;
            param->value = x[i].value;
        }
        *tail = param;
        tail = &param->next;
    }
    return first;
}

/* All parameters from here to the end, as they stand there. */
static size_t
lex_params(struct lexer *l, struct piece **ret, size_t max, struct buf *scratch,
           struct arena *arena, bool *ret_full)
{
    struct piece *x = NULL;
    size_t n = 0;
    size_t cap = 0;

    for (;;) {
        while (lex_cfws(l, NULL) || lex_peek(l) == ';')
            if (lex_peek(l) == ';')
                l->at++;
        if (lex_end(l))
            break;
        struct span name = lex_token(l, "=");
        lex_cfws(l, NULL);
        if (name.n == 0 || lex_peek(l) != '=') {
            if (name.n == 0)
                l->at++; /* nothing that a name begins with */
            continue;
        }
        l->at++;
        if (n == max) {
            if (ret_full != NULL)
                *ret_full = true;
            break;
        }
        if (n == cap) {
            size_t more = cap == 0 ? 4 : cap * 2;
            struct piece *y = arena_array(arena, more, sizeof(*y));
            if (n > 0)
                memcpy(y, x, n * sizeof(*x));
            x = y;
            cap = more;
        }
        x[n] = (struct piece){.name = name};
        x[n].value = lex_value(l, scratch, arena);
        piece_split(&x[n]);
        n++;
    }
    *ret = x;
    return n;
}

void
mime_typed_parse(struct span value, bool slash, size_t max, struct arena *arena,
                 struct mime_typed *ret, bool *ret_full)
{
    struct lexer l = {.in = value};
    struct mime_typed typed = {0};
    struct buf scratch = BUF_INIT;
    struct piece *pieces = NULL;

    lex_cfws(&l, NULL);
    if (lex_peek(&l) == '"' && !slash) { /* disposition in quotes: seen */
        lex_quoted(&l, &scratch);
        typed.type = arena_copy(arena, span_trim(buf_span(&scratch)));
    } else {
        typed.type = lex_token(&l, "/=");
    }
    lex_cfws(&l, NULL);
    if (slash && lex_peek(&l) == '/') {
        l.at++;
        lex_cfws(&l, NULL);
        typed.subtype = lex_token(&l, "/=");
    }
    if (typed.type.n == 0 || (slash && typed.subtype.n == 0))
        typed.type = typed.subtype = SPAN_EMPTY;
    size_t n = lex_params(&l, &pieces, max, &scratch, arena, ret_full);
    if (n > 0)
        typed.params = params_of(pieces, n, &scratch, arena);
    buf_free(&scratch);
    *ret = typed;
}

struct span
mime_param_get(const struct mime_typed *typed, const char *name)
{
    for (const struct mime_param *p = typed->params; p != NULL; p = p->next)
        if (span_eq_nocase_str(p->name, name))
            return p->value;
    return SPAN_EMPTY;
}
