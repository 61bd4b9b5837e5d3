/*
 * synclog/scan.c - walking a segment, and deciding what its end is (L4).
 *
 * Frames are taken as long as each is sound and fits the one before.  At the
 * first bad one, which would have held LSN x, the question is whether x had
 * been durable.  In a segment that has a successor the successor's header
 * answers it, since it is written only after everything before it was synced.
 * In the last one we search on in steps of 8 bytes for any sound frame that
 * says durable >= x; then x is damage, otherwise the tail is torn.
 *
 * The search must not be fooled by frames inside of a message's text.  Where
 * the bad frame's own header is sound we know where its payload ends and search
 * behind it.  And since a record takes at least 8 bytes, a frame that is D
 * bytes behind x cannot hold more than x + D/8.  What remains is a header lost
 * with its payload kept, and a sender who knew LSN and epoch: then a torn tail
 * is called damage, and the log is not opened.  That errs on the safe side: the
 * search can only keep bytes from being cut.
 *
 * A segment is allocated ahead, so most of what lies behind its last frame was
 * never written.  Such holes, and blocks of zeros, are passed over: no frame
 * begins with a zero.
 */
#include "synclog/synclog_private.h"

#include <stdio.h>
#include <stdlib.h>

#define ZERO_BLOCK_BYTES ((size_t)4096)

struct logstate
logstate_at_start(const struct segment_head *head)
{
    return (struct logstate){
        .last = {.epoch = head->epoch, .lsn = head->prev_lsn},
        .chain = head->prev_chain,
    };
}

const char *
logstate_misfit(const struct logstate *st, const struct frame_head *h)
{
    if (h->first_lsn != st->last.lsn + 1)
        return "a frame with another LSN";
    if (h->epoch < st->last.epoch)
        return "a frame of an older epoch";
    uint64_t chain = h->nrecords == 0 ? st->chain : frame_chain(st->chain, h);
    if (h->chain != chain)
        return "a frame of another chain";
    return NULL;
}

void
logstate_move(struct logstate *st, const struct frame_head *h)
{
    if (h->nrecords == 0)
        return;
    st->last = (struct logpos){.epoch = h->epoch, .lsn = frame_last_lsn(h)};
    st->chain = h->chain;
    st->time_us = h->time_us;
}

/* Frames that no later durable_lsn has proven yet, oldest first.  A heartbeat
 * is written and not synced: what proves it is a sync of a record behind it. */
struct unproven {
    struct {
        uint64_t offset;
        lsn_t last; /* durable if this is */
        bool is_record;
    } * v;
    size_t from, n, cap;
};

static void
unproven_add(struct unproven *u, uint64_t offset, const struct frame_head *h)
{
    if (u->from == u->n)
        u->from = u->n = 0;
    if (u->n == u->cap) {
        u->cap = u->cap * 2 + 16;
        u->v = xrealloc(u->v, u->cap * sizeof(*u->v));
    }
    u->v[u->n].offset = offset;
    u->v[u->n].is_record = h->nrecords > 0;
    u->v[u->n].last = h->nrecords > 0 ? frame_last_lsn(h) : h->first_lsn;
    u->n++;
}

static void
unproven_settle(struct unproven *u, lsn_t durable)
{
    while (u->from < u->n && u->v[u->from].last <= durable)
        u->from++;
}

struct scanner {
    const struct seginfo *seg;
    const struct segment_head *next;
    struct window window;
    struct scan at;
    struct unproven unproven;
    scan_each *each;
    void *ctx;
};

/* The frame at the scanner's place; NULL in *RET_WHY if it is good. */
static enum errcode
read_frame(struct scanner *s, struct frame_head *h, struct span *payload,
           size_t *used, const char **ret_why, struct error *err)
{
    struct span in;

    enum errcode rc =
        window_get(&s->window, s->at.end_offset, FRAME_HEADER_BYTES, &in, err);
    if (rc != ERR_OK)
        return rc;
    if (frame_head_is_newer(in))
        return error_set(err, ERR_VERSION,
                         "segment %" PRIx64 ", offset %" PRIu64
                         ": a frame of a newer version of Pollux",
                         s->seg->head.number, s->at.end_offset);
    enum parse got = frame_head_decode(in, h);
    if (got != PARSE_DONE) {
        *ret_why = in.n == 0 ? "the end of the file" : "no frame header";
        return ERR_OK;
    }
    *ret_why = logstate_misfit(&s->at.end, h);
    if (*ret_why != NULL)
        return ERR_OK;
    rc = window_get(&s->window, s->at.end_offset, frame_bytes(h), &in, err);
    if (rc == ERR_OK && frame_decode(in, h, payload, used) != PARSE_DONE)
        *ret_why = "a frame whose payload is not what was written";
    return rc;
}

/* Walk while frames are good; *RET_WHY says why it ended. */
static enum errcode
walk(struct scanner *s, const char **ret_why, struct error *err)
{
    for (;;) {
        struct frame_head h;
        struct span payload = SPAN_EMPTY;
        size_t used = 0;

        enum errcode rc = read_frame(s, &h, &payload, &used, ret_why, err);
        if (rc != ERR_OK || *ret_why != NULL)
            return rc;
        if (s->each != NULL)
            s->each(s->ctx, s->seg->head.number, s->at.end_offset, &h, payload);
        unproven_settle(&s->unproven, h.durable_lsn);
        unproven_add(&s->unproven, s->at.end_offset, &h);
        logstate_move(&s->at.end, &h);
        s->at.end_offset += used;
    }
}

/*
 * Is there a sound frame at OFFSET that proves LSN X durable?  *RET_SKIP is how
 * far the search may go on.
 */
static enum errcode
proves(struct scanner *s, uint64_t offset, lsn_t x, bool *ret_proof,
       size_t *ret_skip, struct error *err)
{
    struct frame_head h;
    struct span in, payload;
    size_t used;

    *ret_proof = false;
    *ret_skip = 8;
    enum errcode rc =
        window_get(&s->window, offset, FRAME_HEADER_BYTES, &in, err);
    if (rc != ERR_OK)
        return rc;
    if (frame_head_is_newer(in))
        return error_set(err, ERR_VERSION,
                         "segment %" PRIx64 ", offset %" PRIu64
                         ": a frame of a newer version of Pollux",
                         s->seg->head.number, offset);
    if (frame_head_decode(in, &h) != PARSE_DONE)
        return ERR_OK;
    uint64_t room = (offset - s->at.end_offset) / RECORD_HEADER_BYTES;
    if (offset == s->at.end_offset)
        room = FRAME_LSN_MAX; /* another LSN in the very place of x */
    if (h.durable_lsn < x || h.first_lsn - x > room ||
        h.epoch < s->at.end.last.epoch)
        return ERR_OK;
    rc = window_get(&s->window, offset, frame_bytes(&h), &in, err);
    if (rc != ERR_OK)
        return rc;
    if (frame_decode(in, &h, &payload, &used) == PARSE_DONE) {
        *ret_proof = true;
        *ret_skip = used;
    }
    return ERR_OK;
}

/* Offset of the first byte that a search for proof has to look at. */
static enum errcode
search_start(struct scanner *s, uint64_t *ret, struct error *err)
{
    struct frame_head h;
    struct span in;

    *ret = s->at.end_offset;
    enum errcode rc =
        window_get(&s->window, s->at.end_offset, FRAME_HEADER_BYTES, &in, err);
    if (rc == ERR_OK && frame_head_decode(in, &h) == PARSE_DONE &&
        logstate_misfit(&s->at.end, &h) == NULL)
        *ret += frame_bytes(&h);
    return rc;
}

/* Is all of IN zeros? */
static bool
is_zero(struct span in)
{
    return in.n == 0 || (in.p[0] == 0 && memcmp(in.p, in.p + 1, in.n - 1) == 0);
}

/* How many bytes of whole blocks of zeros IN begins with. */
static size_t
leading_zeros(struct span in)
{
    size_t n = 0;

    while (in.n - n >= ZERO_BLOCK_BYTES &&
           is_zero(span_sub(in, n, ZERO_BLOCK_BYTES)))
        n += ZERO_BLOCK_BYTES;
    return n;
}

/* Move *AT over a hole, in steps of 8 bytes. */
static void
skip_hole(struct scanner *s, uint64_t *at)
{
    uint64_t data = *at;

    env_skip_hole(s->window.file, &data);
    *at += (data - *at) / 8 * 8;
}

/* L4, in the last segment: torn tail or damage? */
static enum errcode
search_proof(struct scanner *s, const char *why, struct error *err)
{
    const lsn_t x = s->at.end.last.lsn + 1;
    uint64_t at = 0;

    enum errcode rc = search_start(s, &at, err);
    while (rc == ERR_OK) {
        struct span in;
        bool proof = false;
        size_t skip = 8;

        skip_hole(s, &at);
        rc = window_get(&s->window, at, FRAME_HEADER_BYTES, &in, err);
        if (rc != ERR_OK || in.n < FRAME_HEADER_BYTES)
            return rc;
        const size_t zeros = leading_zeros(in);
        at += zeros;
        in = span_skip(in, zeros);
        /* Run through what cannot be a header without leaving the window. */
        struct rd r = rd_init(in);
        while (r.left.n >= FRAME_HEADER_BYTES) {
            struct rd peek = r;
            if (rd_u32le(&peek) == FRAME_MAGIC)
                break;
            (void)rd_span(&r, 8);
        }
        at += in.n - r.left.n;
        if (r.left.n < FRAME_HEADER_BYTES)
            continue;
        rc = proves(s, at, x, &proof, &skip, err);
        if (rc == ERR_OK && proof)
            return error_set(
                err, ERR_CORRUPT,
                "segment %" PRIx64 ", offset %" PRIu64
                ": %s where LSN %" PRI_LSN
                " was; it had been durable, as the frame at offset %" PRIu64
                " says",
                s->seg->head.number, s->at.end_offset, why, x, at);
        at += skip;
    }
    return rc;
}

/* Behind the last byte that is not zero, at or after the end of the frames. */
static enum errcode
find_torn_end(struct scanner *s, struct error *err)
{
    uint64_t at = s->at.end_offset;

    s->at.torn_end = at;
    for (;;) {
        struct span in;
        skip_hole(s, &at);
        enum errcode rc = window_get(&s->window, at, 1, &in, err);
        if (rc != ERR_OK || in.n == 0)
            return rc;
        size_t n = is_zero(in) ? 0 : in.n;
        while (n > 0 && in.p[n - 1] == 0)
            n--;
        if (n > 0)
            s->at.torn_end = at + n;
        at += in.n;
    }
}

/* The successor's header says where this segment has to end. */
static enum errcode
check_successor(const struct scanner *s, const char *why, struct error *err)
{
    const struct logstate *end = &s->at.end;

    if (end->last.lsn < s->next->prev_lsn)
        return error_set(
            err, ERR_CORRUPT,
            "segment %" PRIx64 ", offset %" PRIu64 ": %s where LSN %" PRI_LSN
            " was; it had been durable, as the next segment says",
            s->seg->head.number, s->at.end_offset, why, end->last.lsn + 1);
    if (end->last.lsn > s->next->prev_lsn || end->chain != s->next->prev_chain)
        return error_set(err, ERR_CORRUPT,
                         "segment %" PRIx64 " ends with LSN %" PRI_LSN
                         " and chain %016" PRIx64
                         ", the next one follows %" PRI_LSN
                         " and chain %016" PRIx64,
                         s->seg->head.number, end->last.lsn, end->chain,
                         s->next->prev_lsn, s->next->prev_chain);
    return ERR_OK;
}

enum errcode
scan_segment(struct envfile *f, const struct seginfo *seg,
             const struct segment_head *next, scan_each *each, void *ctx,
             struct scan *ret, struct error *err)
{
    struct scanner s = {
        .seg = seg,
        .next = next,
        .window = {.file = f},
        .at = {.end = logstate_at_start(&seg->head),
               .end_offset = SEGMENT_HEADER_BYTES},
        .each = each,
        .ctx = ctx,
    };
    const char *why = NULL;

    enum errcode rc = walk(&s, &why, err);
    if (rc == ERR_OK && next != NULL)
        rc = check_successor(&s, why, err);
    if (rc == ERR_OK && next == NULL)
        rc = search_proof(&s, why, err);
    if (rc == ERR_OK && next == NULL)
        rc = find_torn_end(&s, err);
    if (rc == ERR_OK) {
        s.at.torn_why = why;
        s.at.unproven_offset = s.unproven.from < s.unproven.n
                                   ? s.unproven.v[s.unproven.from].offset
                                   : s.at.end_offset;
        for (size_t i = s.unproven.from; i < s.unproven.n; i++)
            s.at.unproven = s.at.unproven || s.unproven.v[i].is_record;
        *ret = s.at;
    }
    free(s.unproven.v);
    window_free(&s.window);
    return rc;
}
