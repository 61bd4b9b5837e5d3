/*
 * admin/json.c - a state machine over one byte of expectation: what may stand
 * here, given what stood before.
 */
#include "admin/json.h"

/* What may stand next. */
enum {
    EXPECT_VALUE,
    EXPECT_FIRST,     /* a value or ']' */
    EXPECT_FIRST_KEY, /* a key or '}' */
    EXPECT_KEY,
    EXPECT_COLON,
    EXPECT_COMMA, /* ',' or the end of what is open */
    EXPECT_NOTHING,
    EXPECT_GIVEN_UP,
};

void
json_begin(struct json *j, struct span text, struct arena *arena)
{
    *j = (struct json){.left = text, .arena = arena, .expects = EXPECT_VALUE};
}

static enum json_kind
bad(struct json *j, const char *why)
{
    if (j->expects != EXPECT_GIVEN_UP)
        j->why = why;
    j->expects = EXPECT_GIVEN_UP;
    return JSON_BAD;
}

static void
skip_blanks(struct json *j)
{
    size_t n = 0;

    while (n < j->left.n && (j->left.p[n] == ' ' || j->left.p[n] == '\t' ||
                             j->left.p[n] == '\r' || j->left.p[n] == '\n'))
        n++;
    j->left = span_skip(j->left, n);
}

/* After a whole value. */
static void
value_done(struct json *j)
{
    j->expects = j->depth == 0 ? EXPECT_NOTHING : EXPECT_COMMA;
}

static bool
add_utf8(uint8_t *to, size_t *n, uint32_t c)
{
    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return false;
    if (c < 0x80) {
        to[(*n)++] = (uint8_t)c;
    } else if (c < 0x800) {
        to[(*n)++] = (uint8_t)(0xc0 | c >> 6);
        to[(*n)++] = (uint8_t)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        to[(*n)++] = (uint8_t)(0xe0 | c >> 12);
        to[(*n)++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        to[(*n)++] = (uint8_t)(0x80 | (c & 0x3f));
    } else {
        to[(*n)++] = (uint8_t)(0xf0 | c >> 18);
        to[(*n)++] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        to[(*n)++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        to[(*n)++] = (uint8_t)(0x80 | (c & 0x3f));
    }
    return true;
}

/* The 4 hex digits at AT of S. */
static bool
hex4(struct span s, size_t at, uint32_t *ret)
{
    uint64_t v = 0;

    if (s.n < at + 4 || !parse_hex_u64(span_sub(s, at, 4), &v))
        return false;
    *ret = (uint32_t)v;
    return true;
}

/* One escape at S[*AT] (behind the backslash); *AT goes behind it. */
static bool
unescape(struct span s, size_t *at, uint8_t *to, size_t *n)
{
    static const char from[] = "\"\\/bfnrt";
    static const char into[] = "\"\\/\b\f\n\r\t";
    uint32_t c = 0, low = 0;

    if (*at >= s.n)
        return false;
    if (s.p[*at] != 'u') {
        const char *found = s.p[*at] == 0 ? NULL : strchr(from, s.p[*at]);
        if (found == NULL)
            return false;
        to[(*n)++] = (uint8_t)into[found - from];
        (*at)++;
        return true;
    }
    if (!hex4(s, *at + 1, &c))
        return false;
    *at += 5;
    if (c >= 0xd800 && c <= 0xdbff) {
        if (*at + 1 >= s.n || s.p[*at] != '\\' || s.p[*at + 1] != 'u' ||
            !hex4(s, *at + 2, &low) || low < 0xdc00 || low > 0xdfff)
            return false;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        *at += 6;
    }
    return add_utf8(to, n, c);
}

/* The string at the front, its quotes too, into j->text. */
static bool
take_string(struct json *j)
{
    size_t end = 1;
    bool escapes = false;

    while (end < j->left.n && j->left.p[end] != '"') {
        if (j->left.p[end] < ' ' || end > JSON_STRING_MAX)
            return false;
        if (j->left.p[end] == '\\') {
            escapes = true;
            end++;
        }
        end++;
    }
    if (end >= j->left.n)
        return false;
    struct span raw = span_sub(j->left, 1, end - 1);
    j->left = span_skip(j->left, end + 1);
    j->text = raw;
    if (!escapes)
        return true;
    uint8_t *to = arena_alloc(j->arena, raw.n + 1); /* never longer */
    size_t n = 0;
    for (size_t at = 0; at < raw.n;) {
        if (raw.p[at] != '\\') {
            to[n++] = raw.p[at++];
            continue;
        }
        at++;
        if (!unescape(raw, &at, to, &n))
            return false;
    }
    j->text = span_of(to, n);
    return true;
}

static size_t
digits(struct span s, size_t at)
{
    size_t n = at;

    while (n < s.n && s.p[n] >= '0' && s.p[n] <= '9')
        n++;
    return n - at;
}

static bool
take_number(struct json *j)
{
    struct span s = j->left;
    size_t at = s.p[0] == '-' ? 1 : 0;
    size_t whole = digits(s, at);

    if (whole == 0 || (whole > 1 && s.p[at] == '0'))
        return false;
    at += whole;
    if (at < s.n && s.p[at] == '.') {
        size_t n = digits(s, at + 1);
        if (n == 0)
            return false;
        at += n + 1;
    }
    if (at < s.n && (s.p[at] == 'e' || s.p[at] == 'E')) {
        at++;
        if (at < s.n && (s.p[at] == '+' || s.p[at] == '-'))
            at++;
        size_t n = digits(s, at);
        if (n == 0)
            return false;
        at += n;
    }
    j->text = span_sub(s, 0, at);
    j->left = span_skip(s, at);
    return true;
}

static enum json_kind
open(struct json *j, uint8_t what)
{
    if (j->depth == JSON_DEPTH_MAX)
        return bad(j, "nested too deep");
    j->stack[j->depth++] = what;
    j->left = span_skip(j->left, 1);
    j->expects = what == '{' ? EXPECT_FIRST_KEY : EXPECT_FIRST;
    return what == '{' ? JSON_OBJECT : JSON_ARRAY;
}

static enum json_kind
close(struct json *j)
{
    uint8_t what = j->stack[--j->depth];

    j->left = span_skip(j->left, 1);
    value_done(j);
    return what == '{' ? JSON_OBJECT_END : JSON_ARRAY_END;
}

static enum json_kind
value(struct json *j)
{
    static const struct {
        const char *word;
        enum json_kind kind;
    } words[] = {
        {"true", JSON_TRUE}, {"false", JSON_FALSE}, {"null", JSON_NULL}};
    uint8_t c = j->left.p[0];

    if (c == '{' || c == '[')
        return open(j, c);
    if (c == '"') {
        if (!take_string(j))
            return bad(j, "a string that is none");
        value_done(j);
        return JSON_STRING;
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!span_starts(j->left, span_str(words[i].word)))
            continue;
        j->left = span_skip(j->left, strlen(words[i].word));
        value_done(j);
        return words[i].kind;
    }
    if (!take_number(j))
        return bad(j, "a value was expected");
    value_done(j);
    return JSON_NUMBER;
}

enum json_kind
json_next(struct json *j)
{
    if (j->expects == EXPECT_GIVEN_UP)
        return JSON_BAD;
    skip_blanks(j);
    if (j->left.n == 0)
        return j->expects == EXPECT_NOTHING ? JSON_END
                                            : bad(j, "it ends too early");
    uint8_t c = j->left.p[0];
    uint8_t end = j->depth == 0 ? 0 : j->stack[j->depth - 1] == '{' ? '}' : ']';
    switch (j->expects) {
    case EXPECT_NOTHING:
        return bad(j, "something follows its end");
    case EXPECT_COMMA:
        if (c == end)
            return close(j);
        if (c != ',')
            return bad(j, "a comma was expected");
        j->left = span_skip(j->left, 1);
        j->expects = end == '}' ? EXPECT_KEY : EXPECT_VALUE;
        return json_next(j);
    case EXPECT_FIRST:
        if (c == end)
            return close(j);
        return value(j);
    case EXPECT_FIRST_KEY:
        if (c == end)
            return close(j);
        break;
    case EXPECT_KEY:
        break;
    default:
        return value(j);
    }
    if (c != '"' || !take_string(j))
        return bad(j, "a key was expected");
    skip_blanks(j);
    if (j->left.n == 0 || j->left.p[0] != ':')
        return bad(j, "a colon was expected");
    j->left = span_skip(j->left, 1);
    j->expects = EXPECT_VALUE;
    return JSON_KEY;
}

bool
json_skip(struct json *j, enum json_kind kind)
{
    unsigned depth = j->depth;

    if (kind != JSON_OBJECT && kind != JSON_ARRAY)
        return kind != JSON_BAD && kind != JSON_END;
    while (j->depth >= depth) {
        kind = json_next(j);
        if (kind == JSON_BAD || kind == JSON_END)
            return false;
    }
    return true;
}
