/*
 * net/zpipe.h - raw DEFLATE both ways as bytes in and bytes out (RFC 4978,
 * RFC 1951); for conn.c and bclient.c.  Bounds are the caller's: what is fed is
 * kept until it is used, and what comes out of it is taken in pieces.
 */
#ifndef POLLUX_NET_ZPIPE_H
#define POLLUX_NET_ZPIPE_H

#include "base/buf.h"
#include "base/error.h"

struct zpipe;

struct zpipe *
zpipe_new(void);
/* NULL is fine. */
void
zpipe_free(struct zpipe **z);

/* Compressed bytes that came in; kept until zpipe_inflate() has used them. */
void
zpipe_feed(struct zpipe *z, struct span in);
/* There may be something to inflate without feeding more. */
bool
zpipe_has_input(const struct zpipe *z);
/*
 * Up to ROOM plain bytes into TO, of one block at most; *RET_N is 0 where all
 * that was fed gives none.  *RET_END: the peer has ended its stream.
 * Errors: ERR_PROTO (not DEFLATE; so it stays).
 */
MUST_CHECK enum errcode
zpipe_inflate(struct zpipe *z, uint8_t *to, size_t room, size_t *ret_n,
              bool *ret_end, struct error *err);

/* The peer has ended its stream. */
bool
zpipe_is_over(const struct zpipe *z);
/*
 * All that was inflated was looked at, and what it said ends the peer's stream:
 * take what belongs to that.  *RET_END: it is over, and zpipe_unused() is not
 * compressed; else more has to be fed.  Errors: ERR_PROTO (not DEFLATE, or
 * there was more in it).
 */
MUST_CHECK enum errcode
zpipe_end_input(struct zpipe *z, bool *ret_end, struct error *err);
/* What was fed and not used; until the next call. */
struct span
zpipe_unused(const struct zpipe *z);

/* Compress BYTES; what comes out goes to SINK (never NULL), piece by piece. */
void
zpipe_deflate(struct zpipe *z, struct span bytes,
              void (*sink)(void *ctx, struct span out), void *ctx);
/* Push out what the compressor still holds, if anything: the peer can then
 * inflate all that was compressed. */
void
zpipe_flush(struct zpipe *z, void (*sink)(void *ctx, struct span out),
            void *ctx);
/* The same, and the end of our stream: nothing may be compressed after that. */
void
zpipe_end_output(struct zpipe *z, void (*sink)(void *ctx, struct span out),
                 void *ctx);

#endif
