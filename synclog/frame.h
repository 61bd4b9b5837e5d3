/*
 * synclog/frame.h - the bytes of the log: segment headers, frames, records.
 *
 * A frame is one commit group and is atomic as a whole.  64 bytes of header,
 * then the records, padded with zeros to 8 bytes; integers little-endian:
 *
 *   0  u32 magic "PLXF"        32 u64 durable_lsn  (of who wrote this copy)
 *   4  u32 header checksum     40 u64 payload_hash (xxh3-64 of the payload)
 *   8  u32 payload_bytes       48 u64 chain
 *  12  u32 nrecords            56 u64 time_us (wall clock of the commit)
 *  16  u32 epoch
 *  20  u16 version, u16 flags (0)
 *  24  u64 first_lsn
 *
 * header checksum: low 32 bits of xxh3-64 over bytes 8..63.
 * chain: xxh3-64 with the previous frame's chain as seed over bytes 8..31,
 * 40..47 and 56..63, that is, over everything but durable_lsn and itself.  So
 * one number stands for the whole log up to here, and is the same on master
 * and replica, while durable_lsn is each one's own (L4).
 *
 * A heartbeat is a frame without records: first_lsn is the next LSN to come,
 * chain the chain of the frame before.  It only proves what is durable; it is
 * never shipped and takes no part in the chain.
 *
 * A record: u32 length with this header, u8 type, u8 version, u16 flags, body.
 * Types and bodies belong to the store (store/record.h).  Record i of a frame
 * has LSN first_lsn + i.
 */
#ifndef POLLUX_SYNCLOG_FRAME_H
#define POLLUX_SYNCLOG_FRAME_H

#include "base/buf.h"
#include "base/error.h"
#include "base/ids.h"
#include "base/rd.h"

#define FRAME_HEADER_BYTES 64U
#define FRAME_VERSION 1U
#define FRAME_MAGIC 0x46584c50U /* "PLXF" as it lies in the file */
/* A group ends at 4 MiB; the last record may overshoot. */
#define FRAME_GROUP_BYTES (4U << 20)
#define RECORD_HEADER_BYTES 8U
#define RECORD_BYTES_MAX ((1U << 20) + (256U << 10))
#define FRAME_PAYLOAD_MAX (FRAME_GROUP_BYTES + RECORD_BYTES_MAX)
#define FRAME_RECORDS_MAX 65536U
/* A MODSEQ has 43 bits for the LSN; the margin is for the last frame. */
#define FRAME_LSN_MAX ((UINT64_C(1) << MODSEQ_LSN_BITS) - 1 - FRAME_RECORDS_MAX)

struct frame_head {
    uint32_t payload_bytes; /* without padding; at most FRAME_PAYLOAD_MAX */
    uint32_t nrecords;      /* at most FRAME_RECORDS_MAX; 0: heartbeat */
    epoch_t epoch;
    lsn_t first_lsn;
    lsn_t durable_lsn;
    uint64_t payload_hash;
    uint64_t chain;
    uint64_t time_us;
};

static inline lsn_t
frame_last_lsn(const struct frame_head *h)
{
    return h->first_lsn + h->nrecords - 1;
}

/* Header and payload with padding. */
static inline size_t
frame_bytes(const struct frame_head *h)
{
    return FRAME_HEADER_BYTES + (((size_t)h->payload_bytes + 7U) & ~(size_t)7U);
}

/*
 * Read a header off the front of IN.  PARSE_MORE: fewer than 64 bytes;
 * PARSE_BAD: not a frame header, wrong checksum, over a limit, another version,
 * or durable_lsn not below first_lsn.  The payload need not be there.
 */
enum parse
frame_head_decode(struct span in, struct frame_head *ret);
/* 64 bytes into OUT, with the header checksum. */
void
frame_head_encode(const struct frame_head *h, uint8_t *out);
/* IN begins with a sound header of a version that we do not know: nothing that
 * may be cut or skipped. */
bool
frame_head_is_newer(struct span in);
uint64_t
frame_payload_hash(struct span payload);
/* What `chain` has to be after a frame whose chain is PREV. */
uint64_t
frame_chain(uint64_t prev, const struct frame_head *h);
/*
 * A whole frame off the front of IN, its payload hash and zero padding checked
 * and its records walked (lengths add up to the payload).  *RET_PAYLOAD points
 * into IN.
 */
enum parse
frame_decode(struct span in, struct frame_head *ret, struct span *ret_payload,
             size_t *ret_used);

/* One record of a frame. */
struct record {
    lsn_t lsn;
    epoch_t epoch;
    uint8_t type;
    uint8_t version;
    uint16_t flags;
    struct span body;
    uint64_t offset; /* of the body within its payload */
};

/*
 * Walk the records of PAYLOAD; start with *POS = 0 and give the same *RET each
 * time, which numbers them.  False at the end.
 */
bool
frame_next_record(const struct frame_head *h, struct span payload, size_t *pos,
                  struct record *ret);
/* The records of PAYLOAD fill it exactly, and are as many as H says. */
bool
frame_records_sound(const struct frame_head *h, struct span payload);
/* Append a record to a payload being built; whole, or not at all (buf.full).
 * BODY is at most RECORD_BYTES_MAX - RECORD_HEADER_BYTES. */
void
frame_add_record(struct buf *payload, uint8_t type, uint8_t version,
                 struct span body);

#define SEGMENT_HEADER_BYTES 4096U
#define SEGMENT_VERSION 1U

/*
 * First block of every segment file; golden bytes in tests:
 *
 *   0  8 bytes "PLXSEG\0\0"   56 u64 first_lsn (= prev_lsn + 1)
 *   8  u32 version            64 u64 prev_lsn
 *  12  u32 epoch              72 u64 prev_chain
 *  16  16 bytes cluster       80 u64 created_us
 *  32  16 bytes instance      88 zeros
 *  48  u64 number           4088 u64 xxh3-64 of bytes 0..4087
 *
 * Magic, version and checksum stay where they are in every version to come.
 * What a header says of prev_lsn was durable before the header was written.
 */
struct segment_head {
    struct instid cluster;
    struct instid instance; /* who wrote this copy */
    uint64_t number;        /* from 1 */
    lsn_t first_lsn;        /* of the first record in it */
    epoch_t epoch;          /* at its start */
    lsn_t prev_lsn;         /* last record of the segment before, or 0 */
    uint64_t prev_chain;
    uint64_t created_us;
};

void
segment_head_encode(const struct segment_head *h,
                    uint8_t out[SEGMENT_HEADER_BYTES]);
/* ERR_CORRUPT, ERR_VERSION (a format of a newer Pollux). */
MUST_CHECK enum errcode
segment_head_decode(struct span in, struct segment_head *ret,
                    struct error *err);

#endif
