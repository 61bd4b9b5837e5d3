/*
 * base/buf.h - bytes of ours, growing up to a maximum.
 *
 * Appending never fails visibly: past the maximum nothing more is taken and
 * `full` stays set, so a row of appends needs one check at the end.
 */
#ifndef POLLUX_BASE_BUF_H
#define POLLUX_BASE_BUF_H

#include "base/span.h"

struct buf {
    uint8_t *p;
    size_t n;
    size_t cap;
    size_t max; /* 0: no maximum */
    bool full;  /* an append was refused */
};

#define BUF_INIT ((struct buf){0})
#define BUF_MAX(bytes) ((struct buf){.max = (bytes)})

/* Free the bytes; the struct can be used again.  NULL bytes are fine. */
void
buf_free(struct buf *b);
/* Forget the content, keep the memory. */
void
buf_clear(struct buf *b);
/* Room for N more bytes at the end, to be filled by the caller who then adds
 * to b->n; NULL (and full) past the maximum. */
uint8_t *
buf_reserve(struct buf *b, size_t n);
void
buf_add(struct buf *b, struct span s);
void
buf_add_str(struct buf *b, const char *s);
void
buf_add_byte(struct buf *b, uint8_t byte);
void
buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Decimal digits, no zeros in front. */
void
buf_add_dec(struct buf *b, uint64_t v);
/* Integers little-endian (log and state values) and big-endian (keys). */
void
buf_add_u16le(struct buf *b, uint16_t v);
void
buf_add_u32le(struct buf *b, uint32_t v);
void
buf_add_u64le(struct buf *b, uint64_t v);
void
buf_add_u32be(struct buf *b, uint32_t v);
void
buf_add_u64be(struct buf *b, uint64_t v);
/* LEB128: 7 bits a byte, low first. */
void
buf_add_varint(struct buf *b, uint64_t v);
/* varint length, then the bytes. */
void
buf_add_blob(struct buf *b, struct span s);
/* Drop N bytes (clamped) from the front. */
void
buf_drop(struct buf *b, size_t n);

static inline struct span
buf_span(const struct buf *b)
{
    return (struct span){b->p, b->n};
}

/* The content as a C string: a NUL is put behind it, not counted. */
const char *
buf_cstr(struct buf *b);

#endif
