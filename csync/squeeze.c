/*
 * csync/squeeze.c - zstd around messages.
 *
 * Bodies lie compressed in the log and do not get smaller; a stream of big mail
 * would cost a core for nothing.  So a message that won nothing makes the next
 * ones go as they are: one, two, four, up to SKIP_MAX, until one wins again.
 */
#include "csync/squeeze.h"

#include <stdlib.h>

#include <zstd.h>

#define LEVEL 1
#define SKIP_MAX 16U
#define HEAD_BYTES 8U

struct squeezer {
    ZSTD_CCtx *ctx;
    struct buf work;
    unsigned skip, skipped;
    uint64_t plain_bytes, wire_bytes;
};

struct unsqueezer {
    ZSTD_DCtx *ctx;
    struct buf out;
};

struct squeezer *
squeezer_new(void)
{
    struct squeezer *s = xcalloc(1, sizeof(*s));

    s->ctx = ZSTD_createCCtx();
    ENSURE(s->ctx != NULL);
    return s;
}

void
squeezer_free(struct squeezer **s)
{
    if (*s == NULL)
        return;
    ZSTD_freeCCtx((*s)->ctx);
    buf_free(&(*s)->work);
    free(*s);
    *s = NULL;
}

void
squeezer_counts(const struct squeezer *s, uint64_t *ret_plain_bytes,
                uint64_t *ret_wire_bytes)
{
    *ret_plain_bytes = s->plain_bytes;
    *ret_wire_bytes = s->wire_bytes;
}

static void
add_message(struct squeezer *s, uint8_t type, struct span payload,
            struct buf *out)
{
    uint8_t header[LOGMSG_HEADER_BYTES];

    logmsg_header(type, (uint32_t)payload.n, header);
    buf_add(out, span_of(header, sizeof(header)));
    buf_add(out, payload);
    s->wire_bytes += payload.n;
}

/* PAYLOAD in s->work, as the payload of a LOGMSG_ZSTD; false: no gain. */
static bool
compress(struct squeezer *s, uint8_t type, struct span payload)
{
    const size_t most = payload.n - payload.n / 8;

    if (payload.n < SQUEEZE_MIN_BYTES)
        return false;
    if (s->skipped < s->skip) {
        s->skipped++;
        return false;
    }
    buf_clear(&s->work);
    buf_add_byte(&s->work, type);
    buf_add(&s->work, SPAN_LIT("\0\0\0"));
    buf_add_u32le(&s->work, (uint32_t)payload.n);
    uint8_t *room = buf_reserve(&s->work, most - HEAD_BYTES);
    size_t n = ZSTD_compressCCtx(s->ctx, room, most - HEAD_BYTES, payload.p,
                                 payload.n, LEVEL);
    s->skipped = 0;
    if (ZSTD_isError(n)) { /* it does not fit: nothing is won */
        s->skip = MIN(2 * s->skip + (s->skip == 0), SKIP_MAX);
        return false;
    }
    s->skip = 0;
    s->work.n += n;
    return true;
}

void
squeezer_add(struct squeezer *s, uint8_t type, struct span payload,
             struct buf *out)
{
    ENSURE(payload.n <= LOGMSG_PAYLOAD_MAX);
    s->plain_bytes += payload.n;
    if (compress(s, type, payload))
        add_message(s, LOGMSG_ZSTD, buf_span(&s->work), out);
    else
        add_message(s, type, payload, out);
}

struct unsqueezer *
unsqueezer_new(void)
{
    struct unsqueezer *u = xcalloc(1, sizeof(*u));

    u->ctx = ZSTD_createDCtx();
    ENSURE(u->ctx != NULL);
    u->out.max = LOGMSG_PAYLOAD_MAX;
    return u;
}

void
unsqueezer_free(struct unsqueezer **u)
{
    if (*u == NULL)
        return;
    ZSTD_freeDCtx((*u)->ctx);
    buf_free(&(*u)->out);
    free(*u);
    *u = NULL;
}

enum errcode
unsqueezer_take(struct unsqueezer *u, struct span payload, struct logmsg *ret,
                struct error *err)
{
    struct rd r = rd_init(payload);
    uint8_t type = rd_u8(&r);
    uint8_t zero[3] = {rd_u8(&r), rd_u8(&r), rd_u8(&r)};
    uint32_t bytes = rd_u32le(&r);
    struct span frame = r.left;

    if (r.bad || (type != LOGMSG_FRAMES && type != LOGMSG_SEED_ROWS) ||
        zero[0] != 0 || zero[1] != 0 || zero[2] != 0)
        return error_set(err, ERR_PROTO, "not a squeezed message");
    if (bytes > LOGMSG_PAYLOAD_MAX)
        return error_set(err, ERR_PROTO,
                         "a squeezed message of %" PRIu32 " bytes", bytes);
    /* One frame, whole, which says its size, and that is the one above. */
    if (ZSTD_findFrameCompressedSize(frame.p, frame.n) != frame.n ||
        ZSTD_getFrameContentSize(frame.p, frame.n) != bytes)
        return error_set(err, ERR_PROTO,
                         "a squeezed message is not one zstd frame");
    buf_clear(&u->out);
    uint8_t *room = buf_reserve(&u->out, bytes);
    if (ZSTD_decompressDCtx(u->ctx, room, bytes, frame.p, frame.n) != bytes)
        return error_set(err, ERR_PROTO, "a squeezed message is damaged");
    u->out.n = bytes;
    *ret = (struct logmsg){.type = type, .payload = buf_span(&u->out)};
    return ERR_OK;
}
