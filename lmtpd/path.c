/*
 * lmtpd/path.c - one pass over a path, byte by byte.
 *
 * Dots in a local part may stand anywhere, since mail to such addresses exists
 * and an MTA has taken it already; control bytes never, for the text goes into
 * header lines and log lines.
 */
#include "lmtpd/path.h"

static bool
is_atext(uint8_t c)
{
    return c >= 0x80 ||
           (c > 0x20 && c < 0x7f && memchr("()<>[]:;@\\,\"", c, 12) == NULL);
}

static bool
is_domain(uint8_t c)
{
    return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
}

/* IPv4, IPv6 and general address literals: nothing is done with them. */
static bool
is_literal(uint8_t c)
{
    return c > 0x20 && c < 0x7f && c != '[' && c != ']' && c != '\\' &&
           c != '<' && c != '>';
}

static bool
peek(struct span s, uint8_t c)
{
    return s.n > 0 && s.p[0] == c;
}

/* Quoted-string; *LEFT is behind the closing quote. */
static bool
take_quoted(struct span *left, uint8_t *to, size_t *ret_n)
{
    struct span s = span_skip(*left, 1);
    size_t n = 0;

    for (; s.n > 0 && s.p[0] != '"'; s = span_skip(s, 1)) {
        if (s.p[0] == '\\') {
            s = span_skip(s, 1);
            if (s.n == 0)
                return false;
        }
        if (s.p[0] < 0x20 || s.p[0] == 0x7f)
            return false;
        to[n++] = s.p[0];
    }
    if (s.n == 0)
        return false;
    *left = span_skip(s, 1);
    *ret_n = n;
    return true;
}

static bool
take_local(struct span *left, struct arena *a, struct span *ret)
{
    size_t n = 0;
    uint8_t *to = arena_alloc(a, left->n + 1);

    if (peek(*left, '"')) {
        if (!take_quoted(left, to, &n))
            return false;
    } else {
        while (n < left->n && is_atext(left->p[n])) {
            to[n] = left->p[n];
            n++;
        }
        *left = span_skip(*left, n);
    }
    *ret = span_of(to, n);
    return n > 0;
}

static bool
take_domain(struct span *left, struct span *ret)
{
    size_t n = 0;

    if (peek(*left, '[')) {
        for (n = 1; n < left->n && is_literal(left->p[n]); n++)
            ;
        if (n == left->n || left->p[n] != ']')
            return false;
        n++;
    } else {
        while (n < left->n && is_domain(left->p[n]))
            n++;
    }
    *ret = span_sub(*left, 0, n);
    *left = span_skip(*left, n);
    return n > 0;
}

/* "@a,@b:" is passed over (RFC 5321, Appendix C). */
static bool
skip_route(struct span *left)
{
    struct span domain;

    if (!peek(*left, '@'))
        return true;
    do {
        if (!peek(*left, '@'))
            return false;
        *left = span_skip(*left, 1);
        if (!take_domain(left, &domain))
            return false;
        if (peek(*left, ':')) {
            *left = span_skip(*left, 1);
            return true;
        }
        if (!peek(*left, ','))
            return false;
        *left = span_skip(*left, 1);
    } while (true);
}

bool
lmtp_path_take(struct span *left, struct arena *a, struct lmtp_path *ret)
{
    struct span s = *left;
    struct lmtp_path path = {0};

    while (peek(s, ' '))
        s = span_skip(s, 1);
    if (!peek(s, '<'))
        return false;
    s = span_skip(s, 1);
    if (!peek(s, '>')) {
        /* What can be one path is bounded before anything is allocated. */
        struct span in = span_sub(s, 0, LMTP_PATH_BYTES);
        size_t before = in.n;
        if (!skip_route(&in))
            return false;
        path.text = in;
        if (!take_local(&in, a, &path.local))
            return false;
        if (peek(in, '@')) {
            in = span_skip(in, 1);
            if (!take_domain(&in, &path.domain))
                return false;
        }
        path.text = span_sub(path.text, 0, path.text.n - in.n);
        s = span_skip(s, before - in.n);
    }
    if (!peek(s, '>'))
        return false;
    s = span_skip(s, 1);
    for (size_t i = 0; i < path.text.n; i++)
        path.is_utf8 = path.is_utf8 || path.text.p[i] >= 0x80;
    if (s.n > 0 && s.p[0] != ' ')
        return false;
    *left = s;
    *ret = path;
    return true;
}

enum lmtp_param_found
lmtp_param_take(struct span *left, struct lmtp_param *ret)
{
    struct span s = *left;
    size_t n = 0;

    while (peek(s, ' '))
        s = span_skip(s, 1);
    if (s.n == 0)
        return LMTP_PARAM_END;
    while (n < s.n && s.p[n] != ' ')
        n++;
    struct span word = span_sub(s, 0, n);
    *left = span_skip(s, n);
    for (size_t i = 0; i < word.n; i++)
        if (word.p[i] < 0x20 || word.p[i] == 0x7f)
            return LMTP_PARAM_BAD;
    ptrdiff_t eq = span_find_byte(word, '=', 0);
    *ret = (struct lmtp_param){
        .key = eq < 0 ? word : span_sub(word, 0, (size_t)eq),
        .value = eq < 0 ? SPAN_EMPTY : span_skip(word, (size_t)eq + 1),
        .has_value = eq >= 0,
    };
    for (size_t i = 0; i < ret->key.n; i++)
        if (!is_domain(ret->key.p[i]) || ret->key.p[i] >= 0x80 ||
            ret->key.p[i] == '.' || ret->key.p[i] == '_')
            return LMTP_PARAM_BAD;
    if (ret->key.n == 0 || (ret->has_value && ret->value.n == 0))
        return LMTP_PARAM_BAD;
    return LMTP_PARAM_OK;
}

bool
lmtp_xtext_decode(struct span in, struct arena *a, struct span *ret)
{
    uint8_t *to = arena_alloc(a, in.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < in.n; i++) {
        uint8_t c = in.p[i];
        if (c == '+') {
            if (!parse_hex_bytes(span_sub(in, i + 1, 2), &c, 1))
                return false;
            i += 2;
        } else if (c <= 0x20 || c >= 0x7f || c == '=') {
            return false;
        }
        if (c < 0x20 || c == 0x7f)
            return false;
        to[n++] = c;
    }
    *ret = span_of(to, n);
    return true;
}

/* Continuation bytes that follow the lead byte C, and what the first of them
 * may be (Unicode, table 3-7); 4: C leads nothing. */
static unsigned
utf8_follow(uint8_t c, uint8_t *ret_lo, uint8_t *ret_hi)
{
    *ret_lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    *ret_hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (c < 0x80)
        return 0;
    if (c >= 0xc2 && c <= 0xdf)
        return 1;
    if (c >= 0xe0 && c <= 0xef)
        return 2;
    if (c >= 0xf0 && c <= 0xf4)
        return 3;
    return 4;
}

bool
lmtp_is_utf8(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t lo, hi;
        unsigned follow = utf8_follow(s.p[i], &lo, &hi);
        if (follow > 3 || follow >= s.n - i)
            return false;
        for (; follow > 0; follow--, lo = 0x80, hi = 0xbf)
            if (s.p[++i] < lo || s.p[i] > hi)
                return false;
    }
    return true;
}
