/*
 * csync/squeeze.h - messages of CSYNC by log, made smaller with zstd on their
 * way (LOGMSG_ZSTD).  For what is not compressed in the log already: many small
 * records, and the rows of a seed.
 *
 *   u8 type of the message inside (FRAMES, SEED_ROWS), 3 bytes 0,
 *   u32 bytes of its payload, one zstd frame (RFC 8878); little-endian
 *
 * Each message stands alone: nothing is kept from one to the next, so what one
 * user's mail compresses to tells nothing of another's that came before, and a
 * side needs no more memory than for one message.
 */
#ifndef POLLUX_CSYNC_SQUEEZE_H
#define POLLUX_CSYNC_SQUEEZE_H

#include "csync/logproto.h"

/* Smaller payloads go as they are: there is nothing to win. */
#define SQUEEZE_MIN_BYTES 256U

struct squeezer;

struct squeezer *
squeezer_new(void);
void
squeezer_free(struct squeezer **s);
/*
 * Add a message of TYPE with PAYLOAD, at most LOGMSG_PAYLOAD_MAX bytes, to OUT:
 * as LOGMSG_ZSTD where that saves an eighth at least, else as it is.
 */
void
squeezer_add(struct squeezer *s, uint8_t type, struct span payload,
             struct buf *out);
/* Bytes of payloads so far, and what they took. */
void
squeezer_counts(const struct squeezer *s, uint64_t *ret_plain_bytes,
                uint64_t *ret_wire_bytes);

struct unsqueezer;

struct unsqueezer *
unsqueezer_new(void);
void
unsqueezer_free(struct unsqueezer **u);
/*
 * The message inside PAYLOAD, that of a LOGMSG_ZSTD.  *RET lives until the next
 * call.  ERR_PROTO: cut, a type that is never squeezed, more than
 * LOGMSG_PAYLOAD_MAX (seen before anything is allocated), not one whole zstd
 * frame of as many bytes as it says.
 */
MUST_CHECK enum errcode
unsqueezer_take(struct unsqueezer *u, struct span payload, struct logmsg *ret,
                struct error *err);

#endif
