/*
 * mime/text.c - transfer encodings and encoded words.
 *
 * Both decoders take what they can and drop the rest, as RFC 2045, 6.7 and 6.8
 * advise: a damaged attachment is better than none.
 */
#include "mime/text.h"

#include "mime/header.h"

/* ---- transfer encodings ---- */

enum mime_encoding
mime_encoding_parse(struct span value)
{
    static const struct {
        const char *name;
        enum mime_encoding encoding;
    } known[] = {{"7bit", MIME_ENC_7BIT},
                 {"8bit", MIME_ENC_8BIT},
                 {"binary", MIME_ENC_BINARY},
                 {"quoted-printable", MIME_ENC_QP},
                 {"base64", MIME_ENC_BASE64}};
    struct span s = span_trim(value);
    size_t n = 0;

    while (n < s.n && s.p[n] > ' ' && s.p[n] != ';' && s.p[n] != '(')
        n++;
    if (n == 0)
        return MIME_ENC_7BIT;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (span_eq_nocase_str(span_sub(s, 0, n), known[i].name))
            return known[i].encoding;
    return MIME_ENC_UNKNOWN;
}

void
mime_decoder_init(struct mime_decoder *d, enum mime_encoding encoding)
{
    *d = (struct mime_decoder){.encoding = encoding};
}

/* 0 to 63, 64 for "=", 255 for what does not belong. */
static uint8_t
base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint8_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint8_t)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (uint8_t)(c - '0' + 52);
    return c == '+' ? 62 : c == '/' ? 63 : c == '=' ? 64 : 255;
}

/* Give out what is whole; sextets left over make no byte. */
static void
base64_flush(struct mime_decoder *d, struct buf *out)
{
    if (d->nbits == 12)
        buf_add_byte(out, (uint8_t)(d->bits >> 4));
    if (d->nbits == 18) {
        buf_add_byte(out, (uint8_t)(d->bits >> 10));
        buf_add_byte(out, (uint8_t)(d->bits >> 2));
    }
    d->nbits = 0;
    d->bits = 0;
}

static void
push_base64(struct mime_decoder *d, struct span in, struct buf *out)
{
    for (size_t i = 0; i < in.n && !out->full; i++) {
        uint8_t v = base64_value(in.p[i]);
        if (v == 64) {
            base64_flush(d, out); /* another one may follow */
        } else if (v < 64) {
            d->bits = d->bits << 6 | v;
            d->nbits += 6;
        }
        if (d->nbits < 24)
            continue;
        uint8_t b[3] = {(uint8_t)(d->bits >> 16), (uint8_t)(d->bits >> 8),
                        (uint8_t)d->bits};
        buf_add(out, span_of(b, 3));
        d->nbits = 0;
        d->bits = 0;
    }
}

static int
hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void
qp_give_pending(struct mime_decoder *d, struct buf *out)
{
    buf_add(out, span_of(d->pending, d->npending));
    d->npending = 0;
}

/* C comes behind pending "=": an octet, a soft line end, or neither. */
static void
qp_escape(struct mime_decoder *d, uint8_t c, struct buf *out)
{
    bool two = d->npending == 2 && hex_value(d->pending[1]) >= 0;

    if (two && hex_value(c) >= 0) {
        buf_add_byte(out,
                     (uint8_t)(hex_value(d->pending[1]) << 4 | hex_value(c)));
        d->npending = 0;
    } else if (c == '\n' && !two) {
        d->npending = 0; /* "=", blanks, line end */
    } else if ((d->npending == 1 && hex_value(c) >= 0) ||
               (!two && (c == ' ' || c == '\t' || c == '\r') &&
                d->npending < sizeof(d->pending))) {
        d->pending[d->npending++] = c;
    } else { /* as it is */
        qp_give_pending(d, out);
        if (c == '=' || c == ' ' || c == '\t')
            d->pending[d->npending++] = c;
        else
            buf_add_byte(out, c);
    }
}

static void
push_qp(struct mime_decoder *d, struct span in, struct buf *out)
{
    for (size_t i = 0; i < in.n && !out->full; i++) {
        uint8_t c = in.p[i];
        if (d->npending > 0 && d->pending[0] == '=') {
            qp_escape(d, c, out);
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '=') {
            /* Blanks at the end of a line were added on the way. */
            if (c == '=' || d->npending == sizeof(d->pending))
                qp_give_pending(d, out);
            d->pending[d->npending++] = c;
        } else if (c == '\n') {
            bool crlf = d->npending > 0 && d->pending[d->npending - 1] == '\r';
            d->npending = 0;
            buf_add_str(out, crlf ? "\r\n" : "\n");
        } else {
            qp_give_pending(d, out);
            buf_add_byte(out, c);
        }
    }
}

void
mime_decoder_push(struct mime_decoder *d, struct span in, struct buf *out)
{
    switch (d->encoding) {
    case MIME_ENC_BASE64:
        push_base64(d, in, out);
        return;
    case MIME_ENC_QP:
        push_qp(d, in, out);
        return;
    case MIME_ENC_7BIT:
    case MIME_ENC_8BIT:
    case MIME_ENC_BINARY:
    case MIME_ENC_UNKNOWN:
        buf_add(out, in);
        return;
    }
}

void
mime_decoder_finish(struct mime_decoder *d, struct buf *out)
{
    if (d->encoding == MIME_ENC_BASE64)
        base64_flush(d, out);
    if (d->encoding == MIME_ENC_QP) {
        /* "=" at the very end is a soft line end, blanks go. */
        bool soft = d->npending > 0 && d->pending[0] == '=' &&
                    (d->npending == 1 || hex_value(d->pending[1]) < 0);
        bool blanks = d->npending > 0 && d->pending[0] != '=';
        if (!soft && !blanks)
            qp_give_pending(d, out);
        d->npending = 0;
    }
}

void
mime_decode(enum mime_encoding encoding, struct span in, struct buf *out)
{
    struct mime_decoder d;

    mime_decoder_init(&d, encoding);
    mime_decoder_push(&d, in, out);
    mime_decoder_finish(&d, out);
}

/* ---- encoded words ---- */

#define CHARSET_BYTES_MAX 80U

struct encoded_word {
    struct span charset; /* without the language of RFC 2231, 5 */
    bool base64;
    struct span text;
    size_t bytes; /* of the whole */
};

/*
 * "=?charset?Q?text?=" at the front of S.  Blanks in the text, and words that
 * touch their neighbours, are wrong and common, so both are taken.
 */
static bool
encoded_word_at(struct span s, struct encoded_word *ret)
{
    size_t at = 2;

    while (at < s.n && at < CHARSET_BYTES_MAX && s.p[at] > ' ' &&
           s.p[at] != '?')
        at++;
    struct span charset = span_sub(s, 2, at - 2);
    if (at + 2 >= s.n || s.p[at] != '?' || charset.n == 0 || s.p[at + 2] != '?')
        return false;
    uint8_t how = ascii_lower(s.p[at + 1]);
    if (how != 'q' && how != 'b')
        return false;
    ptrdiff_t end = span_find_byte(s, '?', at + 3);
    if (end < 0 || (size_t)end + 1 >= s.n || s.p[end + 1] != '=')
        return false;
    ptrdiff_t star = span_find_byte(charset, '*', 0);
    if (star >= 0)
        charset.n = (size_t)star;
    ret->charset = charset;
    ret->base64 = how == 'b';
    ret->text = span_sub(s, at + 3, (size_t)end - at - 3);
    ret->bytes = (size_t)end + 2;
    return true;
}

/* RFC 2047, 4.2: "_" is a blank, whatever the charset. */
static void
decode_q(struct span s, struct buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (c == '=' && i + 2 < s.n && hex_value(s.p[i + 1]) >= 0 &&
            hex_value(s.p[i + 2]) >= 0) {
            c = (uint8_t)(hex_value(s.p[i + 1]) << 4 | hex_value(s.p[i + 2]));
            i += 2;
        } else if (c == '_') {
            c = ' ';
        }
        buf_add_byte(out, c);
    }
}

/* Neighbours in one charset, whose characters may be cut between them. */
struct encoded_run {
    struct span charset;
    struct buf bytes;
};

static void
run_flush(struct encoded_run *run, struct buf *out)
{
    if (run->bytes.n > 0)
        mime_charset_to_utf8(run->charset, buf_span(&run->bytes), out);
    buf_clear(&run->bytes);
    run->charset = SPAN_EMPTY;
}

static bool
all_blank(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != ' ' && s.p[i] != '\t')
            return false;
    return true;
}

static void
decode_words(struct span s, struct buf *out)
{
    struct encoded_run run = {0};
    struct encoded_word word;
    size_t plain = 0; /* begin of the text since the last word */
    bool behind_word = false;

    for (size_t at = 0; at + 1 < s.n;) {
        ptrdiff_t next = span_find_byte(s, '=', at);
        if (next < 0)
            break;
        at = (size_t)next;
        if (at + 1 >= s.n || s.p[at + 1] != '?' ||
            !encoded_word_at(span_skip(s, at), &word)) {
            at++;
            continue;
        }
        struct span between = span_sub(s, plain, at - plain);
        if (!behind_word || !all_blank(between)) {
            run_flush(&run, out);
            mime_charset_to_utf8(SPAN_EMPTY, between, out);
        }
        if (!span_eq_nocase(run.charset, word.charset))
            run_flush(&run, out);
        run.charset = word.charset;
        if (word.base64)
            mime_decode(MIME_ENC_BASE64, word.text, &run.bytes);
        else
            decode_q(word.text, &run.bytes);
        at += word.bytes;
        plain = at;
        behind_word = true;
    }
    run_flush(&run, out);
    mime_charset_to_utf8(SPAN_EMPTY, span_skip(s, plain), out);
    buf_free(&run.bytes);
}

void
mime_header_decode(struct span value, struct buf *out)
{
    struct span s = span_trim(value);
    struct buf text = BUF_INIT;

    mime_unfold(s, &text);
    decode_words(buf_span(&text), out);
    buf_free(&text);
}
