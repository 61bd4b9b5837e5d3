/*
 * imapd/binary.c - APPEND of binary parts (RFC 3516, 4.4).
 *
 * A message is kept so that BODY[] can be told of it at any time, to clients
 * that know nothing of literal8: so no NUL is stored.  A leaf that has NUL in
 * it and says that it is not encoded becomes base64, its
 * Content-Transfer-Encoding with it, and BINARY[] gives the bytes back as they
 * came.  Containers stay what they are, for they may not be encoded (RFC 2045,
 * 6.4); NUL anywhere else (headers, between parts, in a part that says it is
 * encoded already) cannot be kept, and the message is refused.
 */
#include "imapd/append.h"

#include "mime/message.h"

#define LINE_OCTETS 57U /* 76 characters of base64 */
#define PIECE_LINES 1000U

static bool
has_nul(struct span s)
{
    return span_find_byte(s, 0, 0) >= 0;
}

static void
add_base64(struct buf *out, struct span s)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < s.n; i += 3) {
        const size_t n = MIN(s.n - i, (size_t)3);
        uint32_t v = (uint32_t)s.p[i] << 16;
        if (n > 1)
            v |= (uint32_t)s.p[i + 1] << 8;
        if (n > 2)
            v |= s.p[i + 2];
        buf_add_byte(out, (uint8_t)digits[v >> 18]);
        buf_add_byte(out, (uint8_t)digits[v >> 12 & 63]);
        buf_add_byte(out, n > 1 ? (uint8_t)digits[v >> 6 & 63] : '=');
        buf_add_byte(out, n > 2 ? (uint8_t)digits[v & 63] : '=');
    }
}

static enum errcode
write_base64(struct body *to, struct span s, struct error *err)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    enum errcode rc = ERR_OK;

    while (s.n > 0 && rc == ERR_OK) {
        buf_clear(&out);
        for (unsigned i = 0; i < PIECE_LINES && s.n > 0; i++) {
            const size_t n = MIN(s.n, (size_t)LINE_OCTETS);
            add_base64(&out, span_sub(s, 0, n));
            s = span_skip(s, n);
            if (s.n > 0) /* the last line end belongs to the boundary */
                buf_add_str(&out, "\r\n");
        }
        rc = body_write(to, buf_span(&out), err);
    }
    return rc;
}

/* The bytes of the field at the front of S, with its line end. */
static size_t
field_bytes(struct span s)
{
    size_t n = 0;

    do {
        ptrdiff_t lf = span_find_byte(s, '\n', n);
        n = lf < 0 ? s.n : (size_t)lf + 1;
    } while (n < s.n && (s.p[n] == ' ' || s.p[n] == '\t'));
    return n;
}

/* HEADER with another encoding. */
static enum errcode
write_header(struct body *to, struct span header, struct error *err)
{
    enum errcode rc =
        body_write(to, SPAN_LIT("Content-Transfer-Encoding: base64\r\n"), err);

    while (header.n > 0 && rc == ERR_OK) {
        const struct span field = span_sub(header, 0, field_bytes(header));
        header = span_skip(header, field.n);
        if (!span_starts_nocase(field, SPAN_LIT("Content-Transfer-Encoding:")))
            rc = body_write(to, field, err);
    }
    return rc;
}

static bool
is_plain_leaf(const struct mime_part *part)
{
    return (part->kind == MIME_KIND_LEAF || part->kind == MIME_KIND_TEXT) &&
           (part->encoding == MIME_ENC_7BIT ||
            part->encoding == MIME_ENC_8BIT ||
            part->encoding == MIME_ENC_BINARY);
}

/* What stands between AT and TO goes over as it is; false: it cannot. */
static bool
keep(struct span raw, size_t at, size_t to, struct body *out, enum errcode *rc,
     struct error *err)
{
    const struct span s = span_sub(raw, at, to - at);

    if (has_nul(s))
        return false;
    *rc = body_write(out, s, err);
    return true;
}

bool
binary_convert(struct span raw, struct span cache, struct body *out,
               enum errcode *ret_rc, struct error *err)
{
    struct mime_cache mime;
    struct mime_part part;
    size_t at = 0;

    *ret_rc = mime_cache_decode(cache, &mime, err);
    if (*ret_rc != ERR_OK)
        return true;
    struct mime_part_iter it = mime_part_iter(&mime);
    while (*ret_rc == ERR_OK && mime_part_next(&it, &part)) {
        const struct span body = span_sub(raw, part.body_off, part.body_bytes);
        const struct span header =
            span_sub(raw, part.header_off, part.header_bytes);
        if (!is_plain_leaf(&part) || !has_nul(body))
            continue;
        if (has_nul(header) ||
            !keep(raw, at, part.header_off, out, ret_rc, err))
            return false;
        if (*ret_rc == ERR_OK)
            *ret_rc = write_header(out, header, err);
        if (*ret_rc == ERR_OK)
            *ret_rc = write_base64(out, body, err);
        at = part.body_off + part.body_bytes;
    }
    return *ret_rc != ERR_OK || keep(raw, at, raw.n, out, ret_rc, err);
}
