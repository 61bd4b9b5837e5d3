/*
 * synclog/frame.c - frames and records as bytes.
 *
 * A header has a checksum of its own, so that a length is trusted before it is
 * used, and every limit is met before a payload byte is looked at.  The chain
 * leaves out durable_lsn and the header checksum, which is over it: so a
 * replica can put its own durable_lsn into a frame without breaking the chain.
 */
#include "synclog/frame.h"

#include <xxhash.h>

/* Byte offsets in a frame's header (see frame.h). */
enum {
    OFF_MAGIC = 0,
    OFF_SUM = 4,
    OFF_PAYLOAD_BYTES = 8,
    OFF_NRECORDS = 12,
    OFF_EPOCH = 16,
    OFF_VERSION = 20,
    OFF_FLAGS = 22,
    OFF_FIRST_LSN = 24,
    OFF_DURABLE_LSN = 32,
    OFF_PAYLOAD_HASH = 40,
    OFF_CHAIN = 48,
    OFF_TIME_US = 56,
};

static void
put_le(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t
head_sum(const uint8_t *p)
{
    return (uint32_t)XXH3_64bits(p + OFF_PAYLOAD_BYTES,
                                 FRAME_HEADER_BYTES - OFF_PAYLOAD_BYTES);
}

uint64_t
frame_payload_hash(struct span payload)
{
    return XXH3_64bits(payload.p, payload.n);
}

/* Magic, checksum and version of a header; false if it is none. */
static bool
head_is_ours(struct span in, uint16_t *ret_version)
{
    struct rd r = rd_init(span_sub(in, 0, OFF_PAYLOAD_BYTES));
    uint32_t magic = rd_u32le(&r);
    uint32_t sum = rd_u32le(&r);

    if (in.n < FRAME_HEADER_BYTES || magic != FRAME_MAGIC ||
        sum != head_sum(in.p))
        return false;
    r = rd_init(span_sub(in, OFF_VERSION, 2));
    *ret_version = rd_u16le(&r);
    return true;
}

bool
frame_head_is_newer(struct span in)
{
    uint16_t version = 0;

    return head_is_ours(in, &version) && version > FRAME_VERSION;
}

/* The limits and relations that hold in every frame that we write. */
static bool
head_is_sound(const struct frame_head *h)
{
    if (h->payload_bytes > FRAME_PAYLOAD_MAX || h->nrecords > FRAME_RECORDS_MAX)
        return false;
    if ((h->nrecords == 0) != (h->payload_bytes == 0) ||
        h->payload_bytes / RECORD_HEADER_BYTES < h->nrecords)
        return false;
    if (h->epoch == 0 || h->epoch > EPOCH_MAX)
        return false;
    return h->first_lsn != LSN_NONE && h->first_lsn <= FRAME_LSN_MAX &&
           h->durable_lsn < h->first_lsn;
}

enum parse
frame_head_decode(struct span in, struct frame_head *ret)
{
    uint16_t version = 0;

    if (in.n < FRAME_HEADER_BYTES)
        return PARSE_MORE;
    if (!head_is_ours(in, &version) || version != FRAME_VERSION)
        return PARSE_BAD;

    struct rd r = rd_init(span_sub(in, 0, FRAME_HEADER_BYTES));
    struct frame_head h = {0};
    (void)rd_span(&r, OFF_PAYLOAD_BYTES);
    h.payload_bytes = rd_u32le(&r);
    h.nrecords = rd_u32le(&r);
    h.epoch = rd_u32le(&r);
    (void)rd_u16le(&r);
    uint16_t flags = rd_u16le(&r);
    h.first_lsn = rd_u64le(&r);
    h.durable_lsn = rd_u64le(&r);
    h.payload_hash = rd_u64le(&r);
    h.chain = rd_u64le(&r);
    h.time_us = rd_u64le(&r);
    if (!rd_done(&r) || flags != 0 || !head_is_sound(&h))
        return PARSE_BAD;
    *ret = h;
    return PARSE_DONE;
}

void
frame_head_encode(const struct frame_head *h, uint8_t *out)
{
    put_le(out + OFF_MAGIC, FRAME_MAGIC, 4);
    put_le(out + OFF_PAYLOAD_BYTES, h->payload_bytes, 4);
    put_le(out + OFF_NRECORDS, h->nrecords, 4);
    put_le(out + OFF_EPOCH, h->epoch, 4);
    put_le(out + OFF_VERSION, FRAME_VERSION, 2);
    put_le(out + OFF_FLAGS, 0, 2);
    put_le(out + OFF_FIRST_LSN, h->first_lsn, 8);
    put_le(out + OFF_DURABLE_LSN, h->durable_lsn, 8);
    put_le(out + OFF_PAYLOAD_HASH, h->payload_hash, 8);
    put_le(out + OFF_CHAIN, h->chain, 8);
    put_le(out + OFF_TIME_US, h->time_us, 8);
    put_le(out + OFF_SUM, head_sum(out), 4);
}

uint64_t
frame_chain(uint64_t prev, const struct frame_head *h)
{
    uint8_t head[FRAME_HEADER_BYTES];
    uint8_t in[24 + 8 + 8];

    frame_head_encode(h, head);
    memcpy(in, head + OFF_PAYLOAD_BYTES, 24);
    memcpy(in + 24, head + OFF_PAYLOAD_HASH, 8);
    memcpy(in + 32, head + OFF_TIME_US, 8);
    return XXH3_64bits_withSeed(in, sizeof(in), prev);
}

bool
frame_next_record(const struct frame_head *h, struct span payload, size_t *pos,
                  struct record *ret)
{
    struct rd r = rd_init(span_skip(payload, *pos));
    uint32_t length = rd_u32le(&r);
    struct record rec = {.epoch = h->epoch};

    rec.type = rd_u8(&r);
    rec.version = rd_u8(&r);
    rec.flags = rd_u16le(&r);
    if (r.bad || length < RECORD_HEADER_BYTES || length > RECORD_BYTES_MAX)
        return false;
    rec.body = rd_span(&r, length - RECORD_HEADER_BYTES);
    if (r.bad)
        return false;
    rec.offset = *pos + RECORD_HEADER_BYTES;
    /* ret->lsn of the record before, if this is not the first. */
    rec.lsn = *pos == 0 ? h->first_lsn : ret->lsn + 1;
    *pos += length;
    *ret = rec;
    return true;
}

bool
frame_records_sound(const struct frame_head *h, struct span payload)
{
    struct record rec = {0};
    size_t pos = 0;
    uint32_t n = 0;

    while (n <= h->nrecords && frame_next_record(h, payload, &pos, &rec))
        n++;
    return pos == payload.n && n == h->nrecords;
}

enum parse
frame_decode(struct span in, struct frame_head *ret, struct span *ret_payload,
             size_t *ret_used)
{
    struct frame_head h;
    enum parse got = frame_head_decode(in, &h);

    if (got != PARSE_DONE)
        return got;
    size_t used = frame_bytes(&h);
    if (in.n < used)
        return PARSE_MORE;

    struct span payload = span_sub(in, FRAME_HEADER_BYTES, h.payload_bytes);
    if (frame_payload_hash(payload) != h.payload_hash)
        return PARSE_BAD;
    for (size_t i = FRAME_HEADER_BYTES + h.payload_bytes; i < used; i++)
        if (in.p[i] != 0)
            return PARSE_BAD;
    if (!frame_records_sound(&h, payload))
        return PARSE_BAD;
    *ret = h;
    *ret_payload = payload;
    *ret_used = used;
    return PARSE_DONE;
}

void
frame_add_record(struct buf *payload, uint8_t type, uint8_t version,
                 struct span body)
{
    ENSURE(body.n <= RECORD_BYTES_MAX - RECORD_HEADER_BYTES);
    if (buf_reserve(payload, RECORD_HEADER_BYTES + body.n) == NULL)
        return; /* full: a record is added whole or not at all */
    buf_add_u32le(payload, (uint32_t)(RECORD_HEADER_BYTES + body.n));
    buf_add_byte(payload, type);
    buf_add_byte(payload, version);
    buf_add_u16le(payload, 0);
    buf_add(payload, body);
}
