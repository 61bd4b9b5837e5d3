/*
 * net/zpipe.c - two zlib streams.  Compressed input waits in a buffer while the
 * reader has no room for what it would become: that, and not the sender's
 * ratio, bounds memory.
 *
 * A peer may end its stream behind a line that asks for it and go on in clear
 * (RFC 8437, 4.1), so inflate() goes no further than to the end of the block
 * that gave something: whoever reads has looked at all of it before the next
 * one.  How the stream ends is not said there: by a final block (RFC 1951,
 * 3.2.3), or by the empty block of the flush that pushed the line out, which
 * ends at a whole byte; or by both.
 */
#include "net/zpipe.h"

#include <stdlib.h>

#include <zlib.h>

#define RAW_DEFLATE (-15)
/* Our own window and tables: 64 KiB a connection in place of 256 KiB, for a few
 * percent of the ratio. */
#define OUR_WINDOW (-13)
#define OUR_MEMORY 6
#define OUT_PIECE_BYTES 8192

struct zpipe {
    z_stream in;
    z_stream out;
    struct buf waiting; /* compressed */
    size_t used;        /* so many bytes of it were inflated */
    bool more;          /* inflate() stopped for lack of room */
    bool ended;         /* the peer's stream is over */
    bool quiet;         /* nothing came since the last block's end */
    bool flushed;       /* in zpipe_end_input(): an empty block came */
    bool dirty;         /* deflate() holds something */
};

struct zpipe *
zpipe_new(void)
{
    struct zpipe *z = xcalloc(1, sizeof(*z));

    z->quiet = true;
    ENSURE(inflateInit2(&z->in, RAW_DEFLATE) == Z_OK);
    ENSURE(deflateInit2(&z->out, Z_DEFAULT_COMPRESSION, Z_DEFLATED, OUR_WINDOW,
                        OUR_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK);
    return z;
}

void
zpipe_free(struct zpipe **zp)
{
    struct zpipe *z = *zp;

    if (z == NULL)
        return;
    inflateEnd(&z->in);
    deflateEnd(&z->out);
    buf_free(&z->waiting);
    free(z);
    *zp = NULL;
}

/* Compressed and not yet inflated. */
static struct span
left(const struct zpipe *z)
{
    return span_skip(buf_span(&z->waiting), z->used);
}

void
zpipe_feed(struct zpipe *z, struct span in)
{
    buf_drop(&z->waiting, z->used);
    z->used = 0;
    buf_add(&z->waiting, in);
}

bool
zpipe_has_input(const struct zpipe *z)
{
    return !z->ended && (left(z).n > 0 || z->more);
}

bool
zpipe_is_over(const struct zpipe *z)
{
    return z->ended;
}

/* zlib's, after inflate() with Z_BLOCK. */
#define AT_BLOCK_END 128
#define IN_LAST_BLOCK 64
#define BITS_LEFT 63

/*
 * Inflate to the end of a block, of the input or of ROOM.  *RET_EMPTY: what
 * ended is a block without a byte in it, at a whole byte of the input.
 */
static enum errcode
inflate_block(struct zpipe *z, uint8_t *to, size_t room, size_t *ret_n,
              bool *ret_empty, struct error *err)
{
    const struct span in = left(z);
    const size_t feed = MIN(in.n, (size_t)UINT32_MAX / 2);

    /* zlib does not write through next_in. */
    z->in.next_in = (Bytef *)(uintptr_t)in.p;
    z->in.avail_in = (uInt)feed;
    z->in.next_out = to;
    z->in.avail_out = (uInt)room;
    int rc = inflate(&z->in, Z_BLOCK);
    /* Behind the last one it stops too, before it says that it was that. */
    if (rc == Z_OK && (z->in.data_type & AT_BLOCK_END) != 0 &&
        (z->in.data_type & IN_LAST_BLOCK) != 0)
        rc = inflate(&z->in, Z_BLOCK);
    /* What is left stays where it is: a block may be ten bits long. */
    z->used += feed - z->in.avail_in;
    if (z->used == z->waiting.n) {
        buf_free(&z->waiting);
        z->used = 0;
    }
    z->more = z->in.avail_out == 0;
    *ret_n = room - z->in.avail_out;
    if (rc == Z_STREAM_END)
        z->ended = true;
    else if (rc != Z_OK && rc != Z_BUF_ERROR)
        return error_set(err, ERR_PROTO, "not DEFLATE: %s",
                         z->in.msg != NULL ? z->in.msg : "damaged");
    const bool block_end = (z->in.data_type & AT_BLOCK_END) != 0;
    *ret_empty = block_end && z->quiet && *ret_n == 0 &&
                 (z->in.data_type & BITS_LEFT) == 0 && rc == Z_OK;
    if (*ret_n > 0 || block_end)
        z->quiet = block_end;
    return ERR_OK;
}

enum errcode
zpipe_inflate(struct zpipe *z, uint8_t *to, size_t room, size_t *ret_n,
              bool *ret_end, struct error *err)
{
    size_t n = 0;
    bool ignored;

    if (room > UINT32_MAX / 2)
        room = UINT32_MAX / 2;
    while (room > 0 && n == 0 && zpipe_has_input(z)) {
        enum errcode rc = inflate_block(z, to, room, &n, &ignored, err);
        if (rc != ERR_OK)
            return rc;
    }
    *ret_n = n;
    *ret_end = z->ended;
    return ERR_OK;
}

/* What follows a flush: an empty final block, or text, which begins with
 * neither of these bytes. */
static bool
is_final_block(uint8_t first)
{
    return first == 0x01 || first == 0x03;
}

enum errcode
zpipe_end_input(struct zpipe *z, bool *ret_end, struct error *err)
{
    uint8_t more;
    size_t n = 0;

    while (!z->ended) {
        if (z->flushed && left(z).n == 0) {
            *ret_end = false; /* the next byte will tell */
            return ERR_OK;
        }
        if (z->flushed && !is_final_block(left(z).p[0]))
            break;
        z->flushed = false;
        enum errcode rc = inflate_block(z, &more, 1, &n, &z->flushed, err);
        if (rc != ERR_OK)
            return rc;
        if (n > 0)
            return error_set(err, ERR_PROTO,
                             "more in DEFLATE behind what ended it");
        if (!z->ended && !z->flushed && left(z).n == 0) {
            *ret_end = false;
            return ERR_OK;
        }
    }
    *ret_end = true;
    return ERR_OK;
}

struct span
zpipe_unused(const struct zpipe *z)
{
    return left(z);
}

/* Until the compressor has nothing more to give. */
static void
pump(struct zpipe *z, int flush, void (*sink)(void *ctx, struct span out),
     void *ctx)
{
    uint8_t piece[OUT_PIECE_BYTES];

    do {
        z->out.next_out = piece;
        z->out.avail_out = sizeof(piece);
        int rc = deflate(&z->out, flush);
        ENSURE(rc == Z_OK || rc == Z_BUF_ERROR || rc == Z_STREAM_END);
        size_t n = sizeof(piece) - z->out.avail_out;
        if (n > 0)
            sink(ctx, span_of(piece, n));
    } while (z->out.avail_out == 0);
}

void
zpipe_deflate(struct zpipe *z, struct span bytes,
              void (*sink)(void *ctx, struct span out), void *ctx)
{
    while (bytes.n > 0) {
        size_t n = MIN(bytes.n, (size_t)UINT32_MAX / 2);
        /* zlib does not write through next_in. */
        z->out.next_in = (Bytef *)(uintptr_t)bytes.p;
        z->out.avail_in = (uInt)n;
        pump(z, Z_NO_FLUSH, sink, ctx);
        bytes = span_skip(bytes, n);
        z->dirty = true;
    }
}

void
zpipe_flush(struct zpipe *z, void (*sink)(void *ctx, struct span out),
            void *ctx)
{
    if (!z->dirty)
        return;
    z->out.next_in = NULL;
    z->out.avail_in = 0;
    pump(z, Z_SYNC_FLUSH, sink, ctx);
    z->dirty = false;
}

void
zpipe_end_output(struct zpipe *z, void (*sink)(void *ctx, struct span out),
                 void *ctx)
{
    z->out.next_in = NULL;
    z->out.avail_in = 0;
    pump(z, Z_FINISH, sink, ctx);
    z->dirty = false;
}
