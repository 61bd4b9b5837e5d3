/*
 * imapd/preview.c - PREVIEW (RFC 8970): the first words of a message.
 *
 * Made from the first text/plain part that is no attachment, else from the
 * first text/html: the beginning of it decoded, markup and quoted lines left
 * out, blanks run together, cut at 200 characters.  Nothing is kept; only the
 * beginning of the part is read, so it is made with LAZY too.
 */
#include "imapd/fetch_private.h"

#include "mime/header.h"

#define PREVIEW_CHARS 200U
#define HEADER_BYTES 16384U
#define BODY_BYTES 32768U
/* Parts that are looked at. */
#define PARTS_MAX 20U

/* ---- text -------------------------------------------------------------- */

struct writer {
    struct buf *out;
    unsigned chars;
    bool blank; /* one is due before the next character */
};

/* One UTF-8 character at the front of S; false: enough. */
static bool
add_char(struct writer *w, struct span s, size_t n)
{
    if (n == 1 && s.p[0] <= 0x20) {
        w->blank = w->chars > 0;
        return true;
    }
    if (w->chars + w->blank >= PREVIEW_CHARS)
        return false;
    if (w->blank)
        buf_add_byte(w->out, ' ');
    w->chars += 1U + w->blank;
    w->blank = false;
    buf_add(w->out, span_sub(s, 0, n));
    return true;
}

static size_t
char_bytes(struct span s)
{
    size_t n = 1;

    while (n < s.n && (s.p[n] & 0xc0) == 0x80)
        n++;
    return n;
}

static void
plain_preview(struct span text, struct writer *w)
{
    bool at_line = true;

    while (text.n > 0) {
        if (at_line && text.p[0] == '>') { /* somebody else's words */
            ptrdiff_t lf = span_find_byte(text, '\n', 0);
            text = lf < 0 ? SPAN_EMPTY : span_skip(text, (size_t)lf + 1);
            continue;
        }
        size_t n = char_bytes(text);
        at_line = text.p[0] == '\n';
        if (!add_char(w, text, n))
            return;
        text = span_skip(text, n);
    }
}

/* "<...>" at the front of *TEXT, with all that it hides (a style sheet). */
static void
skip_tag(struct span *text)
{
    static const char *const hides[] = {"style", "script", "head", "title"};
    struct span name = span_skip(*text, 1);
    ptrdiff_t end = span_find_byte(*text, '>', 0);

    *text = end < 0 ? SPAN_EMPTY : span_skip(*text, (size_t)end + 1);
    for (size_t i = 0; i < ARRAY_LEN(hides); i++) {
        struct span hidden = span_str(hides[i]);
        if (!span_starts_nocase(name, hidden) ||
            (name.n > hidden.n && name.p[hidden.n] != '>' &&
             name.p[hidden.n] > 0x20))
            continue;
        while (text->n > 0 &&
               !(text->n > hidden.n + 2 && text->p[0] == '<' &&
                 text->p[1] == '/' &&
                 span_starts_nocase(span_skip(*text, 2), hidden)))
            *text = span_skip(*text, 1);
    }
}

/* "&amp;" at the front of TEXT; how many bytes it takes, 0: it is none. */
static size_t
entity(struct span text, const char **ret)
{
    static const char *const known[][2] = {
        {"&amp;", "&"},  {"&lt;", "<"},   {"&gt;", ">"},  {"&quot;", "\""},
        {"&nbsp;", " "}, {"&#160;", " "}, {"&#39;", "'"}, {"&apos;", "'"}};

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (span_starts(text, span_str(known[i][0]))) {
            *ret = known[i][1];
            return strlen(known[i][0]);
        }
    return 0;
}

static void
html_preview(struct span text, struct writer *w)
{
    const char *means;

    while (text.n > 0) {
        size_t n = char_bytes(text);
        size_t named = entity(text, &means);
        if (text.p[0] == '<') {
            skip_tag(&text);
            w->blank = w->chars > 0;
            continue;
        }
        if (!add_char(w, named > 0 ? span_str(means) : text, named > 0 ? 1 : n))
            return;
        text = span_skip(text, named > 0 ? named : n);
    }
}

/* ---- the part ---------------------------------------------------------- */

struct text_part {
    struct mime_part part;
    bool is_html;
    struct span charset; /* in the arena */
};

/* What PART's header says; false: not to be read from. */
static enum errcode
look_at(struct imap_session *s, struct fetch_job *job,
        const struct mime_part *part, struct text_part *ret, bool *ret_ok,
        struct error *err)
{
    AUTO(buf_free) struct buf header = BUF_INIT;
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct mime_typed typed = {0};
    bool full = false;

    enum errcode rc = store_body_read(
        s->store, &job->msg.guid, part->header_off,
        MIN(part->header_bytes, (size_t)HEADER_BYTES), &header, err);
    if (rc != ERR_OK)
        return rc;
    *ret = (struct text_part){.part = *part};
    *ret_ok = true;
    if (mime_header_get(buf_span(&header), SPAN_LIT("Content-Disposition"), 0,
                        &value) &&
        span_starts_nocase(buf_span(&value), SPAN_LIT("attachment")))
        *ret_ok = false;
    buf_clear(&value);
    if (mime_header_get(buf_span(&header), SPAN_LIT("Content-Type"), 0,
                        &value)) {
        mime_typed_parse(buf_span(&value), true, 50, &job->arena, &typed,
                         &full);
        ret->charset =
            arena_copy(&job->arena, mime_param_get(&typed, "charset"));
    }
    ret->is_html = span_eq_nocase_str(typed.subtype, "html");
    if (!ret->is_html && typed.subtype.n > 0 &&
        !span_eq_nocase_str(typed.subtype, "plain"))
        *ret_ok = false;
    return ERR_OK;
}

/* The part to read from; *RET_FOUND false: there is none. */
static enum errcode
find_text(struct imap_session *s, struct fetch_job *job, struct text_part *ret,
          bool *ret_found, struct error *err)
{
    struct mime_part_iter it = mime_part_iter(&job->mime);
    struct mime_part part;
    struct text_part text = {0};
    enum errcode rc = ERR_OK;
    bool ok = false;

    *ret_found = false;
    for (unsigned n = 0;
         n < PARTS_MAX && rc == ERR_OK && mime_part_next(&it, &part); n++) {
        if (part.kind != MIME_KIND_TEXT || part.encoding == MIME_ENC_UNKNOWN)
            continue;
        rc = look_at(s, job, &part, &text, &ok, err);
        if (rc != ERR_OK || !ok || (*ret_found && text.is_html))
            continue;
        *ret = text;
        *ret_found = true;
        if (!text.is_html)
            break;
    }
    return rc;
}

static enum errcode
make_preview(struct imap_session *s, struct fetch_job *job, struct buf *out,
             struct error *err)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;
    AUTO(buf_free) struct buf decoded = BUF_INIT;
    AUTO(buf_free) struct buf utf8 = BUF_INIT;
    struct writer w = {.out = out};
    struct text_part text = {0};
    bool found = false;

    enum errcode rc = find_text(s, job, &text, &found, err);
    if (rc != ERR_OK || !found)
        return rc;
    rc = store_body_read(s->store, &job->msg.guid, text.part.body_off,
                         MIN(text.part.body_bytes, (size_t)BODY_BYTES), &raw,
                         err);
    if (rc != ERR_OK)
        return rc;
    job->turn_bytes += raw.n;
    mime_decode(text.part.encoding, buf_span(&raw), &decoded);
    mime_charset_to_utf8(text.charset, buf_span(&decoded), &utf8);
    if (text.is_html)
        html_preview(buf_span(&utf8), &w);
    else
        plain_preview(buf_span(&utf8), &w);
    return ERR_OK;
}

void
write_preview(struct imap_session *s, struct fetch_job *job,
              const struct imap_fetch_item *item)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error err = {0};

    (void)item; /* it is never put off */
    buf_add_str(&s->out, "PREVIEW ");
    if (job->cache_ok && make_preview(s, job, &text, &err) != ERR_OK) {
        if (may_heal(job, &err))
            return;
        fetch_damaged(s, job, &err);
        buf_clear(&text);
    }
    write_string(&s->out, buf_span(&text));
}
