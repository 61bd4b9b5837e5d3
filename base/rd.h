/*
 * base/rd.h - reading binary fields out of a span.
 *
 * A reader that ran short stays bad and gives zeros, so a row of reads needs
 * one check at the end; a decoder ends with rd_done(), which asks that nothing
 * is left over.
 */
#ifndef POLLUX_BASE_RD_H
#define POLLUX_BASE_RD_H

#include "base/span.h"

struct rd {
    struct span left;
    bool bad;
};

static inline struct rd
rd_init(struct span in)
{
    return (struct rd){.left = in};
}

/* N bytes, pointing into the input. */
static inline struct span
rd_span(struct rd *r, size_t n)
{
    if (r->bad || n > r->left.n) {
        r->bad = true;
        return SPAN_EMPTY;
    }
    struct span s = {r->left.p, n};
    r->left = span_skip(r->left, n);
    return s;
}

static inline uint64_t
rd_le(struct rd *r, size_t n)
{
    struct span s = rd_span(r, n);
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++)
        v |= (uint64_t)s.p[i] << (8 * i);
    return v;
}

static inline uint64_t
rd_be(struct rd *r, size_t n)
{
    struct span s = rd_span(r, n);
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++)
        v = v << 8 | s.p[i];
    return v;
}

static inline uint8_t
rd_u8(struct rd *r)
{
    return (uint8_t)rd_le(r, 1);
}

static inline uint16_t
rd_u16le(struct rd *r)
{
    return (uint16_t)rd_le(r, 2);
}

static inline uint32_t
rd_u32le(struct rd *r)
{
    return (uint32_t)rd_le(r, 4);
}

static inline uint64_t
rd_u64le(struct rd *r)
{
    return rd_le(r, 8);
}

static inline uint32_t
rd_u32be(struct rd *r)
{
    return (uint32_t)rd_be(r, 4);
}

static inline uint64_t
rd_u64be(struct rd *r)
{
    return rd_be(r, 8);
}

/* LEB128, at most 10 bytes and 64 bits; longer or overlong ones are bad. */
static inline uint64_t
rd_varint(struct rd *r)
{
    const uint8_t *p = r->left.p;
    const size_t n = r->bad ? 0 : MIN(r->left.n, (size_t)10);
    uint64_t v = 0;

    /* Rows are full of these: one look at the bounds for all bytes of one. */
    for (size_t i = 0; i < n; i++) {
        if ((i == 9 && p[i] > 1) || (i > 0 && p[i] == 0))
            break;
        v |= (uint64_t)(p[i] & 127) << (7 * i);
        if ((p[i] & 128) == 0) {
            r->left = span_skip(r->left, i + 1);
            return v;
        }
    }
    r->bad = true;
    return 0;
}

/* A varint that must fit 32 bits. */
static inline uint32_t
rd_varint32(struct rd *r)
{
    uint64_t v = rd_varint(r);
    if (v > UINT32_MAX) {
        r->bad = true;
        return 0;
    }
    return (uint32_t)v;
}

/* varint length, then that many bytes, at most MAX. */
static inline struct span
rd_blob(struct rd *r, size_t max)
{
    uint64_t n = rd_varint(r);
    if (n > max) {
        r->bad = true;
        return SPAN_EMPTY;
    }
    return rd_span(r, (size_t)n);
}

/* All read, nothing short, nothing left. */
static inline bool
rd_done(const struct rd *r)
{
    return !r->bad && r->left.n == 0;
}

/* What an incremental parser answers. */
enum parse {
    PARSE_DONE, /* one unit taken, *ret_used bytes of the input used */
    PARSE_MORE, /* cut inside a unit: nothing used, more bytes wanted */
    PARSE_BAD,  /* not our language: hang up (or refuse the command) */
};

#endif
