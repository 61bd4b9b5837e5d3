/*
 * base/buf.c - a growing byte buffer; it doubles while it is small, then grows
 * by half, up to its maximum.  Bytes and numbers, of which a delivery adds a
 * thousand, go straight to where there is room for them.
 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define DOUBLED_BYTES 8192U

/* For N more bytes, as things are. */
static bool
has_room(const struct buf *b, size_t n)
{
    return !b->full && n <= b->cap - b->n &&
           (b->max == 0 || n <= b->max - b->n);
}

void
buf_free(struct buf *b)
{
    free(b->p);
    b->p = NULL;
    b->n = 0;
    b->cap = 0;
    b->full = false;
}

void
buf_clear(struct buf *b)
{
    b->n = 0;
    b->full = false;
}

uint8_t *
buf_reserve(struct buf *b, size_t n)
{
    if (b->full || n > SIZE_MAX / 4 - b->n ||
        (b->max != 0 && (b->n > b->max || n > b->max - b->n))) {
        b->full = true;
        return NULL;
    }
    if (b->n + n > b->cap || b->p == NULL) { /* NULL + 0 is undefined */
        size_t cap =
            b->cap + (b->cap < DOUBLED_BYTES ? b->cap : b->cap / 2) + 64;
        if (cap < b->n + n)
            cap = b->n + n;
        b->p = xrealloc(b->p, cap);
        b->cap = cap;
    }
    return b->p + b->n;
}

void
buf_add(struct buf *b, struct span s)
{
    uint8_t *to = buf_reserve(b, s.n);

    if (to == NULL || s.n == 0)
        return;
    memcpy(to, s.p, s.n);
    b->n += s.n;
}

void
buf_add_str(struct buf *b, const char *s)
{
    buf_add(b, span_str(s));
}

void
buf_add_byte(struct buf *b, uint8_t byte)
{
    if (has_room(b, 1))
        b->p[b->n++] = byte;
    else
        buf_add(b, span_of(&byte, 1));
}

void
buf_addf(struct buf *b, const char *fmt, ...)
{
    char small[256]; /* most are: formatted once then */
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(small, sizeof(small), fmt, args);
    va_end(args);
    ENSURE(n >= 0);
    if ((size_t)n < sizeof(small)) {
        buf_add(b, span_of(small, (size_t)n));
        return;
    }

    uint8_t *to = buf_reserve(b, (size_t)n + 1);
    if (to == NULL)
        return;
    va_start(args, fmt);
    vsnprintf((char *)to, (size_t)n + 1, fmt, args);
    va_end(args);
    b->n += (size_t)n;
}

void
buf_add_dec(struct buf *b, uint64_t v)
{
    uint8_t digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (uint8_t)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    buf_add(b, span_of(digits + at, sizeof(digits) - at));
}

void
buf_add_u16le(struct buf *b, uint16_t v)
{
    uint8_t bytes[] = {(uint8_t)v, (uint8_t)(v >> 8)};

    buf_add(b, span_of(bytes, sizeof(bytes)));
}

static void
add_le(struct buf *b, uint64_t v, size_t n)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(v >> (8 * i));
    buf_add(b, span_of(bytes, n));
}

static void
add_be(struct buf *b, uint64_t v, size_t n)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    buf_add(b, span_of(bytes, n));
}

void
buf_add_u32le(struct buf *b, uint32_t v)
{
    add_le(b, v, 4);
}

void
buf_add_u64le(struct buf *b, uint64_t v)
{
    add_le(b, v, 8);
}

void
buf_add_u32be(struct buf *b, uint32_t v)
{
    add_be(b, v, 4);
}

void
buf_add_u64be(struct buf *b, uint64_t v)
{
    add_be(b, v, 8);
}

void
buf_add_varint(struct buf *b, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;

    if (v < 128) {
        buf_add_byte(b, (uint8_t)v);
        return;
    }
    do {
        bytes[n] = (uint8_t)(v & 127);
        v >>= 7;
        if (v != 0)
            bytes[n] |= 128;
        n++;
    } while (v != 0);
    buf_add(b, span_of(bytes, n));
}

void
buf_add_blob(struct buf *b, struct span s)
{
    buf_add_varint(b, s.n);
    buf_add(b, s);
}

void
buf_drop(struct buf *b, size_t n)
{
    if (n >= b->n) {
        b->n = 0;
        return;
    }
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}

const char *
buf_cstr(struct buf *b)
{
    if (b->n == b->cap) {
        b->cap = b->n + 64;
        b->p = xrealloc(b->p, b->cap);
    }
    b->p[b->n] = '\0';
    return (const char *)b->p;
}
