/*
 * mime/charset.c - bytes in some charset become UTF-8; case mapping.
 *
 * The charsets that nearly all mail is in are converted here, the others by
 * ICU, which knows the names and needs no locale and no files beside itself.
 */
#include "mime/text_private.h"

#include <unicode/uchar.h>
#include <unicode/ucnv.h>
#include <unicode/unorm2.h>
#include <unicode/utf16.h>

#define REPLACEMENT 0xFFFDU
#define NAME_BYTES_MAX 40U

int
utf8_take(struct span s, uint32_t *ret)
{
    static const uint32_t lowest[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t c = s.p[0];
    int n = c < 0x80   ? 1
            : c < 0xC2 ? -1
            : c < 0xE0 ? 2
            : c < 0xF0 ? 3
            : c < 0xF5 ? 4
                       : -1;

    if (n <= 1) {
        *ret = c;
        return n;
    }
    uint32_t v = c & (0x7FU >> n);
    for (int i = 1; i < n; i++) {
        if ((size_t)i >= s.n)
            return 0;
        if ((s.p[i] & 0xC0) != 0x80)
            return -1;
        v = v << 6 | (s.p[i] & 0x3F);
    }
    if (v < lowest[n] || v > 0x10FFFF || (v >= 0xD800 && v < 0xE000))
        return -1;
    *ret = v;
    return n;
}

void
utf8_add(struct buf *out, uint32_t c)
{
    uint8_t b[4];
    size_t n = 0;

    if (c < 0x80) {
        b[n++] = (uint8_t)c;
    } else if (c < 0x800) {
        b[n++] = (uint8_t)(0xC0 | c >> 6);
        b[n++] = (uint8_t)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        b[n++] = (uint8_t)(0xE0 | c >> 12);
        b[n++] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        b[n++] = (uint8_t)(0x80 | (c & 0x3F));
    } else {
        b[n++] = (uint8_t)(0xF0 | c >> 18);
        b[n++] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
        b[n++] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        b[n++] = (uint8_t)(0x80 | (c & 0x3F));
    }
    buf_add(out, span_of(b, n));
}

static uint32_t
cp1252(uint8_t c)
{
    static const uint16_t high[32] = {
        0x20AC, 0x0081, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
        0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x008D, 0x017D, 0x008F,
        0x0090, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
        0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x009D, 0x017E, 0x0178};
    return c >= 0x80 && c < 0xA0 ? high[c - 0x80] : c;
}

bool
charset_open(struct charset *c, struct span name)
{
    static const struct {
        const char *name;
        enum charset_kind kind;
    } known[] = {
        {"utf-8", CHARSET_UTF8},        {"utf8", CHARSET_UTF8},
        {"us-ascii", CHARSET_GUESS},    {"ascii", CHARSET_GUESS},
        {"iso-8859-1", CHARSET_CP1252}, {"iso8859-1", CHARSET_CP1252},
        {"latin1", CHARSET_CP1252},     {"windows-1252", CHARSET_CP1252},
        {"cp1252", CHARSET_CP1252}};

    *c = (struct charset){.kind = CHARSET_GUESS};
    name = span_trim(name);
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (span_eq_nocase_str(name, known[i].name)) {
            c->kind = known[i].kind;
            return true;
        }

    char text[NAME_BYTES_MAX + 1];
    if (name.n == 0 || name.n > NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t b = ascii_lower(name.p[i]);
        if (!(b >= 'a' && b <= 'z') && !(b >= '0' && b <= '9') &&
            strchr("-_.:+()", b) == NULL)
            return false; /* no options, no paths for the library */
        text[i] = (char)name.p[i];
    }
    if (memchr(name.p, 0, name.n) != NULL)
        return false;
    text[name.n] = 0;
    UErrorCode rc = U_ZERO_ERROR;
    c->icu = ucnv_open(text, &rc);
    if (U_FAILURE(rc) || c->icu == NULL)
        return false;
    c->kind = CHARSET_ICU;
    return true;
}

void
charset_close(struct charset *c)
{
    if (c->icu != NULL)
        ucnv_close(c->icu);
    c->icu = NULL;
}

static void
add_utf16(struct charset *c, const UChar *p, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u = p[i];
        if (c->high != 0) {
            uint16_t high = c->high;
            c->high = 0;
            if (U16_IS_TRAIL(u)) {
                utf8_add(out, (uint32_t)U16_GET_SUPPLEMENTARY(high, u));
                continue;
            }
            utf8_add(out, REPLACEMENT);
        }
        if (U16_IS_LEAD(u))
            c->high = (uint16_t)u;
        else
            utf8_add(out, U16_IS_TRAIL(u) ? REPLACEMENT : u);
    }
}

static void
push_icu(struct charset *c, struct span in, bool last, struct buf *out)
{
    const char *from = (const char *)in.p;
    const char *end = from + in.n;
    UChar text[512];

    if (in.n == 0)
        from = end = "";
    for (;;) {
        UErrorCode rc = U_ZERO_ERROR;
        UChar *to = text;
        ucnv_toUnicode(c->icu, &to, text + ARRAY_LEN(text), &from, end, NULL,
                       last, &rc);
        add_utf16(c, text, (size_t)(to - text), out);
        if (rc == U_BUFFER_OVERFLOW_ERROR && !out->full)
            continue;
        if (U_SUCCESS(rc) || out->full || from >= end)
            break;
        utf8_add(out, REPLACEMENT); /* what it does not replace itself */
        ucnv_resetToUnicode(c->icu);
    }
    if (last && c->high != 0)
        utf8_add(out, REPLACEMENT);
}

/* Bytes of S at its front that are ASCII. */
static size_t
ascii_prefix(struct span s)
{
    size_t i = 0;

    while (i + 8 <= s.n) {
        uint64_t v;
        memcpy(&v, s.p + i, 8);
        if ((v & UINT64_C(0x8080808080808080)) != 0)
            break;
        i += 8;
    }
    while (i < s.n && s.p[i] < 0x80)
        i++;
    return i;
}

bool
mime_is_ascii(struct span s)
{
    return ascii_prefix(s) == s.n;
}

static void
add_wrong(const struct charset *c, uint8_t byte, struct buf *out)
{
    utf8_add(out, c->kind == CHARSET_GUESS ? cp1252(byte) : REPLACEMENT);
}

/* UTF-8 and the guess; what is left at the end because it is cut, is returned.
 */
static struct span
push_utf8(const struct charset *c, struct span s, bool last, struct buf *out)
{
    while (s.n > 0) {
        size_t n = ascii_prefix(s);
        uint32_t code = 0;

        buf_add(out, span_sub(s, 0, n));
        s = span_skip(s, n);
        if (s.n == 0)
            break;
        int k = utf8_take(s, &code);
        if (k > 0) {
            buf_add(out, span_sub(s, 0, (size_t)k));
            s = span_skip(s, (size_t)k);
        } else if (k == 0 && !last) {
            break;
        } else {
            add_wrong(c, s.p[0], out);
            s = span_skip(s, 1);
        }
    }
    return s;
}

static void
push_tail(struct charset *c, struct span *in, bool last, struct buf *out)
{
    while (c->ntail > 0) {
        uint32_t code = 0;
        while (c->ntail < sizeof(c->tail) && in->n > 0) {
            int k = utf8_take(span_of(c->tail, c->ntail), &code);
            if (k != 0)
                break;
            c->tail[c->ntail++] = in->p[0];
            *in = span_skip(*in, 1);
        }
        size_t before = c->ntail;
        struct span left =
            push_utf8(c, span_of(c->tail, c->ntail), last && in->n == 0, out);
        memmove(c->tail, left.p, left.n);
        c->ntail = left.n;
        if (c->ntail == before || in->n == 0)
            break;
    }
}

void
charset_push(struct charset *c, struct span in, bool last, struct buf *out)
{
    switch (c->kind) {
    case CHARSET_ICU:
        push_icu(c, in, last, out);
        return;
    case CHARSET_CP1252:
        while (in.n > 0) {
            size_t n = ascii_prefix(in);
            buf_add(out, span_sub(in, 0, n));
            in = span_skip(in, n);
            for (; in.n > 0 && in.p[0] >= 0x80; in = span_skip(in, 1))
                utf8_add(out, cp1252(in.p[0]));
        }
        return;
    case CHARSET_GUESS:
    case CHARSET_UTF8:
        push_tail(c, &in, last, out);
        if (in.n > 0) {
            struct span left = push_utf8(c, in, last, out);
            memcpy(c->tail, left.p, left.n);
            c->ntail = left.n;
        }
        return;
    }
}

bool
mime_charset_known(struct span name)
{
    struct charset c;
    bool known = charset_open(&c, name);

    charset_close(&c);
    return known;
}

bool
mime_charset_to_utf8(struct span name, struct span in, struct buf *out)
{
    struct charset c;
    bool known = charset_open(&c, name);

    charset_push(&c, in, true, out);
    charset_close(&c);
    return known;
}

/* ---- case ---- */

/*
 * One character under i;unicode-casemap (RFC 5051, 2): its titlecase, then the
 * decompositions of that, all the way down.
 */
static void
casemap_one(const UNormalizer2 *nfkd, uint32_t c, struct buf *out)
{
    UErrorCode rc = U_ZERO_ERROR;
    UChar32 title = u_totitle((UChar32)c);
    UChar parts[32];
    int32_t n = 0;

    if (nfkd != NULL)
        n = unorm2_getDecomposition(nfkd, title, parts,
                                    (int32_t)ARRAY_LEN(parts), &rc);
    if (nfkd == NULL || n <= 0 || U_FAILURE(rc)) {
        utf8_add(out, (uint32_t)title);
        return;
    }
    struct charset utf16 = {0};
    add_utf16(&utf16, parts, (size_t)n, out);
}

/* N bytes that are all ASCII, eight at a time. */
static void
upper_ascii(const uint8_t *from, size_t n, uint8_t *to)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, from + i, 8);
        /* The high bit of each byte from 'a' to 'z'; no byte can carry. */
        uint64_t is_lower = (v + ones * (0x80 - 'a')) &
                            ~(v + ones * (0x80 - 'z' - 1)) & (ones * 0x80);
        v -= is_lower >> 2;
        memcpy(to + i, &v, 8);
    }
    for (; i < n; i++)
        to[i] = ascii_upper(from[i]);
}

void
mime_casemap(struct span utf8, struct buf *out)
{
    UErrorCode rc = U_ZERO_ERROR;
    const UNormalizer2 *nfkd = NULL;

    while (utf8.n > 0) {
        size_t n = ascii_prefix(utf8);
        uint8_t *to = buf_reserve(out, n);
        if (to == NULL)
            return;
        upper_ascii(utf8.p, n, to);
        out->n += n;
        utf8 = span_skip(utf8, n);
        if (utf8.n == 0)
            break;

        uint32_t c = 0;
        int k = utf8_take(utf8, &c);
        if (nfkd == NULL && U_SUCCESS(rc))
            nfkd = unorm2_getNFKDInstance(&rc);
        if (k > 0)
            casemap_one(U_SUCCESS(rc) ? nfkd : NULL, c, out);
        else
            buf_add_byte(out, utf8.p[0]);
        utf8 = span_skip(utf8, k > 0 ? (size_t)k : 1);
    }
}
