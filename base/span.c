/* base/span.c - comparing, searching and reading numbers out of spans. */
#include "base/span.h"

bool
span_eq_nocase(struct span a, struct span b)
{
    return a.n == b.n && span_starts_nocase(a, b);
}

bool
span_eq_nocase_str(struct span a, const char *s)
{
    /* Most differ here already, and need no strlen(). */
    if (a.n > 0 && ascii_lower(a.p[0]) != ascii_lower((uint8_t)s[0]))
        return false;
    return span_eq_nocase(a, span_str(s));
}

bool
span_starts(struct span s, struct span prefix)
{
    return s.n >= prefix.n &&
           (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

bool
span_starts_nocase(struct span s, struct span prefix)
{
    if (s.n < prefix.n)
        return false;
    for (size_t i = 0; i < prefix.n; i++)
        if (ascii_lower(s.p[i]) != ascii_lower(prefix.p[i]))
            return false;
    return true;
}

int
span_cmp(struct span a, struct span b)
{
    size_t n = MIN(a.n, b.n);
    int order = n == 0 ? 0 : memcmp(a.p, b.p, n);

    if (order != 0)
        return order;
    return a.n < b.n ? -1 : a.n > b.n;
}

ptrdiff_t
span_find_byte(struct span s, uint8_t byte, size_t from)
{
    if (from >= s.n)
        return -1;
    const uint8_t *hit = memchr(s.p + from, byte, s.n - from);
    return hit == NULL ? -1 : hit - s.p;
}

ptrdiff_t
span_find(struct span s, struct span needle)
{
    if (needle.n == 0)
        return 0;
    if (s.n < needle.n)
        return -1;
    const uint8_t *hit = memmem(s.p, s.n, needle.p, needle.n);
    return hit == NULL ? -1 : hit - s.p;
}

static bool
is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span
span_trim(struct span s)
{
    while (s.n > 0 && is_blank(s.p[0]))
        s = span_skip(s, 1);
    while (s.n > 0 && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

char *
span_dup(struct span s)
{
    char *copy = xmalloc(s.n + 1);

    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    copy[s.n] = '\0';
    return copy;
}

bool
parse_u64(struct span s, uint64_t *ret)
{
    uint64_t value = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, 10U, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s.p[i] - '0'), &value))
            return false;
    }
    *ret = value;
    return true;
}

bool
parse_u32(struct span s, uint32_t *ret)
{
    uint64_t value = 0;

    if (!parse_u64(s, &value) || value > UINT32_MAX)
        return false;
    *ret = (uint32_t)value;
    return true;
}

static int
hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
parse_hex_u64(struct span s, uint64_t *ret)
{
    uint64_t value = 0;

    if (s.n == 0 || s.n > 16)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        int digit = hex_digit(s.p[i]);
        if (digit < 0)
            return false;
        value = value << 4 | (uint64_t)digit;
    }
    *ret = value;
    return true;
}

bool
parse_hex_bytes(struct span s, uint8_t *ret, size_t n)
{
    if (s.n != 2 * n)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (hex_digit(s.p[i]) < 0)
            return false;
    for (size_t i = 0; i < n; i++)
        ret[i] =
            (uint8_t)(hex_digit(s.p[2 * i]) << 4 | hex_digit(s.p[2 * i + 1]));
    return true;
}

void
format_hex_bytes(const uint8_t *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}
