/*
 * imapd/utf7.c - names of mailboxes in both alphabets.
 *
 * Printable ASCII stands for itself, "&" is "&-", everything else is UTF-16 in
 * base64 between "&" and "-".  Each name has one form in either alphabet, so
 * there and back gives the same bytes.
 */
#include "imapd/utf7.h"

#include "base/buf.h"

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/* ---- UTF-8 ------------------------------------------------------------- */

/* The next character of *IN, which moves on; false: not UTF-8. */
static bool
take_utf8(struct span *in, uint32_t *ret)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const uint8_t first = in->p[0];
    size_t more = first < 0x80   ? 0
                  : first < 0xc0 ? 4
                  : first < 0xe0 ? 1
                  : first < 0xf0 ? 2
                  : first < 0xf8 ? 3
                                 : 4;

    if (more > 3 || in->n < more + 1)
        return false;
    uint32_t c = more == 0 ? first : first & (0x3fU >> more);
    for (size_t i = 1; i <= more; i++) {
        if ((in->p[i] & 0xc0) != 0x80)
            return false;
        c = c << 6 | (in->p[i] & 0x3fU);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return false;
    *in = span_skip(*in, more + 1);
    *ret = c;
    return true;
}

static void
add_utf8(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_add_byte(out, (uint8_t)c);
        return;
    }
    if (c >= 0x10000) {
        buf_add_byte(out, (uint8_t)(0xf0 | c >> 18));
        buf_add_byte(out, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
    } else if (c >= 0x800) {
        buf_add_byte(out, (uint8_t)(0xe0 | c >> 12));
    }
    if (c >= 0x800)
        buf_add_byte(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
    else
        buf_add_byte(out, (uint8_t)(0xc0 | c >> 6));
    buf_add_byte(out, (uint8_t)(0x80 | (c & 0x3f)));
}

static bool
is_forbidden(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029;
}

/* ---- there ------------------------------------------------------------- */

struct shift {
    struct buf out;
    bool on;
    uint32_t bits;
    unsigned nbits;
};

static void
add_unit(struct shift *s, uint32_t unit)
{
    s->bits = s->bits << 16 | unit;
    for (s->nbits += 16; s->nbits >= 6; s->nbits -= 6)
        buf_add_byte(&s->out,
                     (uint8_t)alphabet[s->bits >> (s->nbits - 6) & 0x3f]);
    s->bits &= (1U << s->nbits) - 1;
}

static void
shift_back(struct shift *s)
{
    if (!s->on)
        return;
    if (s->nbits > 0)
        buf_add_byte(&s->out,
                     (uint8_t)alphabet[s->bits << (6 - s->nbits) & 0x3f]);
    buf_add_byte(&s->out, '-');
    s->on = false;
    s->nbits = 0;
    s->bits = 0;
}

static void
add_char(struct shift *s, uint32_t c)
{
    if (c < 0x7f) {
        shift_back(s);
        buf_add_byte(&s->out, (uint8_t)c);
        if (c == '&')
            buf_add_byte(&s->out, '-');
        return;
    }
    if (!s->on)
        buf_add_byte(&s->out, '&');
    s->on = true;
    if (c >= 0x10000) {
        add_unit(s, 0xd800 + ((c - 0x10000) >> 10));
        add_unit(s, 0xdc00 + ((c - 0x10000) & 0x3ff));
    } else {
        add_unit(s, c);
    }
}

bool
utf7_from_utf8(struct span utf8, struct arena *a, const char **ret)
{
    struct shift s = {.out = BUF_INIT};
    uint32_t c;
    bool ok = true;

    while (ok && utf8.n > 0) {
        ok = take_utf8(&utf8, &c) && !is_forbidden(c);
        if (ok)
            add_char(&s, c);
    }
    shift_back(&s);
    if (ok)
        *ret = arena_str(a, buf_span(&s.out));
    buf_free(&s.out);
    return ok;
}

/* ---- and back ---------------------------------------------------------- */

/* What stands between "&" and "-" as UTF-8; false: nothing proper. */
static bool
add_shifted(struct buf *out, struct span text)
{
    uint32_t bits = 0, high = 0;
    unsigned nbits = 0;

    for (size_t i = 0; i < text.n; i++) {
        const char *at = strchr(alphabet, text.p[i]);
        if (text.p[i] == 0 || at == NULL)
            return false;
        bits = (bits << 6 | (uint32_t)(at - alphabet)) & 0x3fffffU;
        nbits += 6;
        if (nbits < 16)
            continue;
        nbits -= 16;
        uint32_t unit = bits >> nbits & 0xffffU;
        if (unit >= 0xd800 && unit <= 0xdbff && high == 0) {
            high = unit;
        } else if (unit >= 0xdc00 && unit <= 0xdfff && high != 0) {
            add_utf8(out, 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00));
            high = 0;
        } else if (high != 0 || (unit >= 0xd800 && unit <= 0xdfff)) {
            return false;
        } else {
            add_utf8(out, unit);
        }
    }
    return high == 0 && text.n > 0;
}

const char *
utf7_to_utf8(const char *utf7, struct arena *a)
{
    AUTO(buf_free) struct buf out = BUF_INIT;

    if (strchr(utf7, '&') == NULL)
        return utf7;
    for (const char *p = utf7; *p != '\0'; p++) {
        const char *end = *p == '&' ? strchr(p, '-') : NULL;
        const size_t before = out.n;
        if (end == NULL) {
            buf_add_byte(&out, (uint8_t)*p);
            continue;
        }
        if (end == p + 1) {
            buf_add_byte(&out, '&');
            p = end;
        } else if (add_shifted(&out, span_of(p + 1, (size_t)(end - p - 1)))) {
            p = end;
        } else {
            out.n = before;
            buf_add_byte(&out, '&');
        }
    }
    return arena_str(a, buf_span(&out));
}
