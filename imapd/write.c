/*
 * imapd/write.c - strings in the form that every client understands: quoted
 * only for plain ASCII of modest length, a literal for the rest.
 */
#include "imapd/write.h"

#define QUOTED_MAX 1000U

/* FETCH and STORE say some of these for each of very many messages. */
void
write_number(struct buf *out, uint64_t n)
{
    uint8_t digits[20];
    size_t at = sizeof(digits);

    do
        digits[--at] = (uint8_t)('0' + n % 10);
    while ((n /= 10) > 0);
    buf_add(out, span_of(digits + at, sizeof(digits) - at));
}

static bool
can_quote(struct span s)
{
    if (s.n > QUOTED_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x20 || s.p[i] >= 0x7f)
            return false;
    return true;
}

static void
write_quoted(struct buf *out, struct span s)
{
    buf_add_byte(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            buf_add_byte(out, '\\');
        buf_add_byte(out, s.p[i]);
    }
    buf_add_byte(out, '"');
}

static void
write_literal(struct buf *out, struct span s)
{
    size_t nuls = 0;

    for (size_t i = 0; i < s.n; i++)
        nuls += s.p[i] == 0;
    buf_addf(out, "{%zu}\r\n", s.n - nuls);
    if (nuls == 0) {
        buf_add(out, s);
        return;
    }
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != 0)
            buf_add_byte(out, s.p[i]);
}

void
write_string(struct buf *out, struct span s)
{
    if (can_quote(s))
        write_quoted(out, s);
    else
        write_literal(out, s);
}

void
write_string8(struct buf *out, struct span s)
{
    if (span_find_byte(s, 0, 0) < 0) {
        write_string(out, s);
        return;
    }
    buf_addf(out, "~{%zu}\r\n", s.n);
    buf_add(out, s);
}

void
write_astring(struct buf *out, struct span s)
{
    bool atom = s.n > 0 && !span_eq_nocase_str(s, "NIL");

    for (size_t i = 0; i < s.n && atom; i++)
        atom = s.p[i] > 0x20 && s.p[i] < 0x7f &&
               memchr("(){%*\"\\", s.p[i], 7) == NULL;
    if (atom)
        buf_add(out, s);
    else
        write_string(out, s);
}

/* Only for clients that have said that they understand UTF-8 there are names
 * in it (RFC 6855, 3). */
void
write_astring_str(struct buf *out, const char *s)
{
    struct span name = span_str(s);

    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] >= 0x80) {
            write_quoted(out, name);
            return;
        }
    write_astring(out, name);
}

static void
write_flag(struct buf *out, const char *name, bool *first)
{
    if (!*first)
        buf_add_byte(out, ' ');
    *first = false;
    buf_add_str(out, name);
}

void
write_flags(struct buf *out, uint32_t flags, const struct span *keywords,
            size_t nkeywords, bool recent)
{
    static const struct {
        uint32_t flag;
        const char *name;
    } names[] = {{FLAG_ANSWERED, "\\Answered"},
                 {FLAG_FLAGGED, "\\Flagged"},
                 {FLAG_DRAFT, "\\Draft"},
                 {FLAG_DELETED, "\\Deleted"},
                 {FLAG_SEEN, "\\Seen"}};
    bool first = true;

    buf_add_byte(out, '(');
    if (recent)
        write_flag(out, "\\Recent", &first);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if ((flags & names[i].flag) != 0)
            write_flag(out, names[i].name, &first);
    for (size_t i = 0; i < nkeywords; i++) {
        write_flag(out, "", &first);
        buf_add(out, keywords[i]);
    }
    buf_add_byte(out, ')');
}

void
write_text(struct buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        buf_add_byte(out, *p >= 0x20 && *p < 0x7f ? (uint8_t)*p : '?');
}
