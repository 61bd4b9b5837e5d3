/*
 * net/zpipe.c - two zlib streams.  Compressed input waits in a buffer while the
 * reader has no room for what it would become: that, and not the sender's
 * ratio, bounds memory.
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
    struct buf waiting; /* compressed, not yet inflated */
    bool more;          /* inflate() stopped for lack of room */
    bool ended;         /* the peer's stream is over */
    bool dirty;         /* deflate() holds something */
};

struct zpipe *
zpipe_new(void)
{
    struct zpipe *z = xcalloc(1, sizeof(*z));

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

void
zpipe_feed(struct zpipe *z, struct span in)
{
    buf_add(&z->waiting, in);
}

bool
zpipe_has_input(const struct zpipe *z)
{
    return !z->ended && (z->waiting.n > 0 || z->more);
}

enum errcode
zpipe_inflate(struct zpipe *z, uint8_t *to, size_t room, size_t *ret_n,
              bool *ret_end, struct error *err)
{
    if (room > UINT32_MAX / 2)
        room = UINT32_MAX / 2;
    size_t feed = MIN(z->waiting.n, (size_t)UINT32_MAX / 2);

    *ret_n = 0;
    *ret_end = z->ended;
    if (room == 0 || !zpipe_has_input(z))
        return ERR_OK;
    z->in.next_in = z->waiting.p;
    z->in.avail_in = (uInt)feed;
    z->in.next_out = to;
    z->in.avail_out = (uInt)room;
    int rc = inflate(&z->in, Z_SYNC_FLUSH);
    buf_drop(&z->waiting, feed - z->in.avail_in);
    if (z->waiting.n == 0)
        buf_free(&z->waiting);
    z->more = z->in.avail_out == 0;
    *ret_n = room - z->in.avail_out;
    if (rc == Z_STREAM_END) {
        z->ended = true;
        *ret_end = true;
        return ERR_OK;
    }
    if (rc != Z_OK && rc != Z_BUF_ERROR)
        return error_set(err, ERR_PROTO, "not DEFLATE: %s",
                         z->in.msg != NULL ? z->in.msg : "damaged");
    return ERR_OK;
}

static void
pump(struct zpipe *z, int flush, void (*sink)(void *ctx, struct span out),
     void *ctx)
{
    uint8_t piece[OUT_PIECE_BYTES];

    do {
        z->out.next_out = piece;
        z->out.avail_out = sizeof(piece);
        int rc = deflate(&z->out, flush);
        ENSURE(rc == Z_OK || rc == Z_BUF_ERROR);
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
