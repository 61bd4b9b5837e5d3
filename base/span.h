/*
 * base/span.h - bytes of someone else, and text that becomes a number.
 *
 * A span never owns: it is valid as long as what it points into.
 */
#ifndef POLLUX_BASE_SPAN_H
#define POLLUX_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/macros.h"

struct span {
    const uint8_t *p; /* may be NULL when n is 0 */
    size_t n;
};

#define SPAN_EMPTY ((struct span){NULL, 0})
#define SPAN_LIT(s) ((struct span){(const uint8_t *)("" s), sizeof(s) - 1})
/* For printf("%.*s"). */
#define SPAN_FMT(s) (int)(s).n, (const char *)(s).p

static inline struct span
span_of(const void *p, size_t n)
{
    return (struct span){p, n};
}

static inline struct span
span_str(const char *s)
{
    return (struct span){(const uint8_t *)s, strlen(s)};
}

/* The part from FROM (clamped) on, N bytes (clamped). */
static inline struct span
span_sub(struct span s, size_t from, size_t n)
{
    if (from > s.n)
        from = s.n;
    if (n > s.n - from)
        n = s.n - from;
    return (struct span){s.p == NULL ? NULL : s.p + from, n};
}

static inline struct span
span_skip(struct span s, size_t n)
{
    return span_sub(s, n, SIZE_MAX);
}

static inline bool
span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool
span_eq_str(struct span a, const char *s)
{
    return span_eq(a, span_str(s));
}

/* ASCII case is ignored. */
bool
span_eq_nocase(struct span a, struct span b);
bool
span_eq_nocase_str(struct span a, const char *s);
bool
span_starts(struct span s, struct span prefix);
bool
span_starts_nocase(struct span s, struct span prefix);
/* <0, 0, >0 as memcmp, the shorter first. */
int
span_cmp(struct span a, struct span b);
/* Index of the first BYTE at or after FROM, or -1. */
ptrdiff_t
span_find_byte(struct span s, uint8_t byte, size_t from);
/* Index of the first NEEDLE, or -1; an empty needle is at 0. */
ptrdiff_t
span_find(struct span s, struct span needle);
/* Without SP, TAB, CR, LF at both ends. */
struct span
span_trim(struct span s);
/* A NUL-terminated copy; the caller frees it.  Stops at no NUL inside. */
char *
span_dup(struct span s);

/*
 * The whole of S as an unsigned decimal number: digits only, no sign, no
 * blank, in range.  *RET is untouched on failure.
 */
MUST_CHECK bool
parse_u32(struct span s, uint32_t *ret);
MUST_CHECK bool
parse_u64(struct span s, uint64_t *ret);
/* The same in hexadecimal, no prefix, either case. */
MUST_CHECK bool
parse_hex_u64(struct span s, uint64_t *ret);
/* 2*N hex digits into N bytes; false if S is not exactly that. */
MUST_CHECK bool
parse_hex_bytes(struct span s, uint8_t *ret, size_t n);
/* Lower-case hex of N bytes into OUT[2*n+1]. */
void
format_hex_bytes(const uint8_t *p, size_t n, char *out);

/* ASCII only, independent of locale. */
static inline uint8_t
ascii_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static inline uint8_t
ascii_upper(uint8_t c)
{
    return c >= 'a' && c <= 'z' ? (uint8_t)(c - 32) : c;
}

#endif
