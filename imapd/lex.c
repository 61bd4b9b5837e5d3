/*
 * imapd/lex.c - tokens.  Strict where RFC 3501 is: one blank, no 8-bit bytes in
 * atoms, NUL nowhere.  In quoted strings 8-bit bytes are let through, since
 * clients search for them.
 */
#include "imapd/lex.h"

#include "net/lineread.h"
#include "store/types.h"

bool
lex_fail(struct lex *l, const char *why)
{
    if (l->why == NULL)
        l->why = why;
    l->left = SPAN_EMPTY;
    return false;
}

int
lex_peek(const struct lex *l)
{
    return l->left.n == 0 ? -1 : l->left.p[0];
}

bool
lex_accept(struct lex *l, char byte)
{
    if (lex_peek(l) != (uint8_t)byte)
        return false;
    l->left = span_skip(l->left, 1);
    return true;
}

void
lex_expect(struct lex *l, char byte, const char *why)
{
    if (!lex_accept(l, byte))
        lex_fail(l, why);
}

void
lex_sp(struct lex *l)
{
    lex_expect(l, ' ', "Missing argument");
}

void
lex_end(struct lex *l)
{
    if (l->left.n > 0)
        lex_fail(l, "Unexpected extra arguments");
}

static bool
is_atom_char(uint8_t c)
{
    return c > 0x20 && c < 0x7f && memchr("(){%*\"\\]", c, 8) == NULL;
}

bool
lex_accept_word(struct lex *l, const char *word)
{
    struct span w = span_str(word);

    if (!span_starts_nocase(l->left, w))
        return false;
    if (l->left.n > w.n && is_atom_char(l->left.p[w.n]))
        return false;
    l->left = span_skip(l->left, w.n);
    return true;
}

static struct span
lex_run(struct lex *l, const char *extra, const char *why)
{
    size_t n = 0;
    while (n < l->left.n &&
           (is_atom_char(l->left.p[n]) ||
            (l->left.p[n] != 0 && strchr(extra, l->left.p[n]) != NULL)))
        n++;
    struct span s = span_sub(l->left, 0, n);
    if (n == 0)
        lex_fail(l, why);
    else
        l->left = span_skip(l->left, n);
    return s;
}

struct span
lex_atom(struct lex *l)
{
    return lex_run(l, "", "Missing or invalid atom");
}

struct span
lex_astring_chars(struct lex *l)
{
    return lex_run(l, "]", "Missing or invalid string");
}

static struct span
lex_quoted(struct lex *l)
{
    size_t n = 1, out = 0;

    while (n < l->left.n && l->left.p[n] != '"') {
        uint8_t c = l->left.p[n];
        if (c == '\r' || c == '\n' || c == 0)
            break;
        if (c == '\\')
            n++;
        n++;
    }
    if (n >= l->left.n || l->left.p[n] != '"') {
        lex_fail(l, "Unterminated quoted string");
        return SPAN_EMPTY;
    }
    struct span in = span_sub(l->left, 1, n - 1);
    l->left = span_skip(l->left, n + 1);
    if (span_find_byte(in, '\\', 0) < 0)
        return in;
    uint8_t *p = arena_alloc(l->a, in.n + 1);
    for (size_t i = 0; i < in.n; i++) {
        if (in.p[i] == '\\')
            i++;
        p[out++] = in.p[i];
    }
    return span_of(p, out);
}

static struct span
lex_literal(struct lex *l, bool nul_ok)
{
    struct literal lit;
    struct span before;

    ptrdiff_t lf = span_find_byte(l->left, '\n', 0);
    if (lf < 1 || l->left.p[lf - 1] != '\r' ||
        line_literal(span_sub(l->left, 0, (size_t)lf - 1), UINT64_MAX - 1, &lit,
                     &before) != LITERAL_OK ||
        before.n != 0 || lit.n > l->left.n - (size_t)lf - 1) {
        lex_fail(l, "Invalid literal");
        return SPAN_EMPTY;
    }
    struct span s = span_sub(l->left, (size_t)lf + 1, (size_t)lit.n);
    l->left = span_skip(l->left, (size_t)lf + 1 + s.n);
    if (!nul_ok && span_find_byte(s, 0, 0) >= 0) {
        lex_fail(l, "NUL in a literal");
        return SPAN_EMPTY;
    }
    return s;
}

struct span
lex_string(struct lex *l)
{
    int c = lex_peek(l);

    if (c == '"')
        return lex_quoted(l);
    if (c == '{')
        return lex_literal(l, false);
    lex_fail(l, "Missing or invalid string");
    return SPAN_EMPTY;
}

struct span
lex_string8(struct lex *l)
{
    return lex_accept(l, '~') ? lex_literal(l, true) : lex_string(l);
}

struct span
lex_astring(struct lex *l)
{
    int c = lex_peek(l);

    return c == '"' || c == '{' ? lex_string(l) : lex_astring_chars(l);
}

struct span
lex_nstring(struct lex *l, bool *ret_nil)
{
    *ret_nil = lex_accept_word(l, "NIL");
    return *ret_nil ? SPAN_EMPTY : lex_string(l);
}

struct span
lex_list_mailbox(struct lex *l)
{
    int c = lex_peek(l);

    if (c == '"' || c == '{')
        return lex_string(l);
    return lex_run(l, "]*%", "Missing or invalid mailbox pattern");
}

static struct span
lex_digits(struct lex *l)
{
    size_t n = 0;
    while (n < l->left.n && l->left.p[n] >= '0' && l->left.p[n] <= '9')
        n++;
    struct span s = span_sub(l->left, 0, n);
    l->left = span_skip(l->left, n);
    return s;
}

uint32_t
lex_number(struct lex *l)
{
    uint32_t v = 0;
    if (!parse_u32(lex_digits(l), &v))
        lex_fail(l, "Invalid number");
    return v;
}

uint64_t
lex_number64(struct lex *l)
{
    uint64_t v = 0;
    if (!parse_u64(lex_digits(l), &v))
        lex_fail(l, "Invalid number");
    return v;
}

struct span
lex_seqset(struct lex *l)
{
    size_t n = 0;

    if (lex_peek(l) == '$') { /* RFC 5182 */
        struct span saved = span_sub(l->left, 0, 1);
        l->left = span_skip(l->left, 1);
        return saved;
    }
    while (n < l->left.n && l->left.p[n] != 0 &&
           strchr("0123456789:,*", l->left.p[n]) != NULL)
        n++;
    struct span s = span_sub(l->left, 0, n);
    struct uidset check = UIDSET_INIT;
    if (n == 0 || !uidset_parse(s, 1, IMAP_RANGES_MAX, &check))
        lex_fail(l, "Invalid sequence set");
    else
        l->left = span_skip(l->left, n);
    uidset_free(&check);
    return s;
}

static uint32_t
system_flag(struct span name)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } names[] = {{"\\Answered", FLAG_ANSWERED},
                 {"\\Flagged", FLAG_FLAGGED},
                 {"\\Deleted", FLAG_DELETED},
                 {"\\Seen", FLAG_SEEN},
                 {"\\Draft", FLAG_DRAFT}};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (span_eq_nocase_str(name, names[i].name))
            return names[i].flag;
    return 0;
}

static void
lex_flag(struct lex *l, struct imap_flags *ret)
{
    if (lex_peek(l) == '\\') {
        struct span name = l->left;
        lex_accept(l, '\\');
        name.n = 1 + lex_atom(l).n;
        uint32_t flag = system_flag(name);
        /* \Recent cannot be set (RFC 3501, 2.3.2); clients that give back what
         * they were told are forgiven. */
        if (flag == 0 && !span_eq_nocase_str(name, "\\Recent"))
            lex_fail(l, "Unknown system flag");
        ret->flags |= flag;
        return;
    }
    struct span kw = lex_atom(l);
    if (ret->nkeywords >= KEYWORDS_PER_MESSAGE || kw.n > KEYWORD_MAX) {
        lex_fail(l, "Too many or too long keywords");
        return;
    }
    if (ret->keywords == NULL)
        ret->keywords =
            arena_array(l->a, KEYWORDS_PER_MESSAGE, sizeof(struct span));
    ret->keywords[ret->nkeywords++] = kw;
}

void
lex_flags(struct lex *l, bool bare_ok, struct imap_flags *ret)
{
    bool parens = lex_accept(l, '(');

    if (!parens && !bare_ok)
        lex_fail(l, "Missing flag list");
    if (parens && lex_accept(l, ')'))
        return;
    do
        lex_flag(l, ret);
    while (!lex_bad(l) && lex_accept(l, ' '));
    if (parens)
        lex_expect(l, ')', "Missing ) after flags");
}
