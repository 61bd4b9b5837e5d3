/*
 * mime/subject.c - the base subject of RFC 5256, 2.1, as its steps (1) to (6)
 * say.  Blobs are skipped once: if no "re:" follows them none will after one of
 * them was taken off, so a subject of a million blobs takes linear time.
 */
#include "mime/text.h"

static size_t
blanks(struct span s, size_t at)
{
    while (at < s.n && s.p[at] == ' ')
        at++;
    return at;
}

/* Behind the subj-blob at AT ("[...]" and blanks), or AT. */
static size_t
skip_blob(struct span s, size_t at)
{
    size_t i = at;

    if (i >= s.n || s.p[i] != '[')
        return at;
    for (i++; i < s.n && s.p[i] != ']'; i++)
        if (s.p[i] == '[')
            return at;
    return i < s.n ? blanks(s, i + 1) : at;
}

/* Behind the subj-refwd at AT ("re: ", "fw [blob]:", "fwd:"), or AT. */
static size_t
skip_refwd(struct span s, size_t at)
{
    struct span left = span_skip(s, at);
    size_t i = 0;

    if (span_starts_nocase(left, SPAN_LIT("fwd")))
        i = 3;
    else if (span_starts_nocase(left, SPAN_LIT("re")) ||
             span_starts_nocase(left, SPAN_LIT("fw")))
        i = 2;
    else
        return at;
    i = skip_blob(left, blanks(left, i));
    return i < left.n && left.p[i] == ':' ? at + i + 1 : at;
}

/* (2) "(fwd)" and blanks at the end. */
static struct span
drop_trailers(struct span s, bool *reply)
{
    for (;;) {
        while (s.n > 0 && s.p[s.n - 1] == ' ')
            s.n--;
        if (s.n < 5 || !span_eq_nocase_str(span_skip(s, s.n - 5), "(fwd)"))
            return s;
        s.n -= 5;
        *reply = true;
    }
}

/* (3) to (5) Leaders, then blobs unless nothing would be left. */
static struct span
drop_leaders(struct span s, bool *reply)
{
    size_t at = blanks(s, 0);

    for (;;) {
        size_t last = at; /* begin of the last blob */
        size_t i = at;
        for (size_t next; (next = skip_blob(s, i)) > i; i = next)
            last = i;
        size_t behind = skip_refwd(s, i);
        if (behind == i)
            return span_skip(s, i < s.n ? i : last);
        *reply = true;
        at = blanks(s, behind);
    }
}

/* (6) "[fwd: ... ]" */
static bool
unwrap(struct span *s)
{
    if (s->n < 6 || !span_starts_nocase(*s, SPAN_LIT("[fwd:")) ||
        s->p[s->n - 1] != ']')
        return false;
    *s = span_sub(*s, 5, s->n - 6);
    return true;
}

/* (1) Tabs and folds are blanks, and several are one. */
static void
squeeze(struct buf *b)
{
    size_t n = 0;

    for (size_t i = 0; i < b->n; i++) {
        uint8_t c = b->p[i];
        if (c == '\t' || c == '\r' || c == '\n')
            c = ' ';
        if (c != ' ' || n == 0 || b->p[n - 1] != ' ')
            b->p[n++] = c;
    }
    b->n = n;
}

bool
mime_base_subject(struct span value, struct buf *out)
{
    struct buf text = BUF_INIT;
    bool reply = false;

    mime_header_decode(value, &text);
    squeeze(&text);
    struct span s = buf_span(&text);
    do {
        s = drop_trailers(s, &reply);
        s = drop_leaders(s, &reply);
    } while (unwrap(&s) && (reply = true));
    buf_add(out, s);
    buf_free(&text);
    return reply;
}
