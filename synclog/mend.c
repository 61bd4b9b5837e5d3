/*
 * synclog/mend.c - putting fetched frames into the place of damaged ones.
 *
 * A segment is read whole and walked.  At the first bad frame the question is
 * where the good ones go on: at each place behind it that holds a sound frame,
 * the records between are fetched (once), and if they fit into the hole and the
 * chain closes, that is it.  A frame inside of a message's text does not close
 * the chain.
 *
 * Fetched frames have the bytes that were here, so they lie where they lay; but
 * the heartbeats between them were ours alone.  What the hole has more than the
 * frames is so many heartbeats, and where they stood the damaged bytes still
 * tell: a frame is put where more of its bytes match.
 *
 * Only the hole is written.  Behind the last good frame of a segment with a
 * successor, whose header says how far it went, the same goes without a frame
 * behind.
 */
#include "synclog/mend.h"

#include <stdio.h>
#include <stdlib.h>

#include "synclog/synclog_private.h"

/* Of a frame, to find its place. */
#define LOOK_BYTES ((size_t)16 << 10)

struct mender {
    struct env *env;
    const struct synclog_mend_options *o;
    struct synclog_mended *done;

    /* The segment under way. */
    uint64_t number;
    struct envfile *file;
    struct buf bytes; /* all of it */
    lsn_t limit;      /* its last record is not beyond */
    bool has_next;
    uint64_t mended_at; /* the last place: the same again does not help */

    struct logstate st; /* after the frames that were passed */
    bool has_st;

    struct buf lent;          /* frames behind st */
    struct logstate lent_end; /* after them */
};

/* ---- what is fetched --------------------------------------------------- */

static void
forget_lent(struct mender *m)
{
    buf_clear(&m->lent);
    m->lent_end = m->st;
}

/* Check frames from FROM on of m->lent, and move lent_end. */
static enum errcode
check_lent(struct mender *m, size_t from, struct error *err)
{
    while (from < m->lent.n) {
        struct frame_head h;
        struct span payload;
        size_t used = 0;
        if (frame_decode(span_skip(buf_span(&m->lent), from), &h, &payload,
                         &used) != PARSE_DONE ||
            h.nrecords == 0)
            return error_set(err, ERR_PROTO, "what came are not whole frames");
        const char *why = logstate_misfit(&m->lent_end, &h);
        if (why != NULL)
            return error_set(err, ERR_HISTORY,
                             "what came for LSN %" PRI_LSN " is %s",
                             m->lent_end.last.lsn + 1, why);
        logstate_move(&m->lent_end, &h);
        m->done->records += h.nrecords;
        from += used;
    }
    return ERR_OK;
}

/* Have all records up to UNTIL in m->lent. */
static enum errcode
borrow(struct mender *m, lsn_t until, struct error *err)
{
    while (m->lent_end.last.lsn < until) {
        const lsn_t after = m->lent_end.last.lsn;
        const size_t from = m->lent.n;
        uint64_t chain = 0;
        if (m->o->fetch == NULL)
            return error_set(err, ERR_GAP, "nobody is asked");
        enum errcode rc =
            m->o->fetch(m->o->ctx, after, until, &chain, &m->lent, err);
        if (rc == ERR_OK && chain != m->lent_end.chain)
            rc = error_set(
                err, ERR_HISTORY,
                "at LSN %" PRI_LSN " the other log has another chain", after);
        if (rc == ERR_OK)
            rc = check_lent(m, from, err);
        if (rc == ERR_OK && m->lent_end.last.lsn == after)
            rc = error_set(err, ERR_GAP, "nothing came for LSN %" PRI_LSN,
                           after + 1);
        if (rc != ERR_OK) {
            m->lent.n = from;
            return rc;
        }
    }
    return ERR_OK;
}

/* How many bytes of m->lent hold the records up to UNTIL; false if a frame goes
 * beyond.  *RET_END: the state after them. */
static bool
lent_bytes(const struct mender *m, lsn_t until, size_t *ret,
           struct logstate *ret_end)
{
    struct logstate st = m->st;
    size_t n = 0;

    while (st.last.lsn < until) {
        struct frame_head h;
        if (frame_head_decode(span_skip(buf_span(&m->lent), n), &h) !=
            PARSE_DONE)
            return false;
        logstate_move(&st, &h);
        n += frame_bytes(&h);
    }
    *ret = n;
    *ret_end = st;
    return st.last.lsn == until;
}

/* ---- filling a hole ---------------------------------------------------- */

static struct span
at_offset(const struct mender *m, uint64_t offset)
{
    return span_skip(buf_span(&m->bytes), (size_t)offset);
}

/* Bytes that FRAME and what lies at OFFSET have in common; each copy has its
 * own checksum and durable_lsn. */
static size_t
alike(const struct mender *m, struct span frame, uint64_t offset)
{
    struct span here = at_offset(m, offset);
    size_t n = MIN(MIN(frame.n, here.n), LOOK_BYTES);
    size_t same = 0;

    for (size_t i = 0; i < n; i++)
        same += frame.p[i] == here.p[i] && !(i >= 4 && i < 8) &&
                !(i >= 32 && i < 40);
    return same;
}

static void
add_heartbeat(const struct logstate *st, uint64_t time_us, struct buf *out)
{
    const struct frame_head h = {
        .epoch = MAX(st->last.epoch, 1U),
        .first_lsn = st->last.lsn + 1,
        .durable_lsn = st->last.lsn,
        .payload_hash = frame_payload_hash(SPAN_EMPTY),
        .chain = st->chain,
        .time_us = time_us,
    };
    uint8_t head[FRAME_HEADER_BYTES];

    frame_head_encode(&h, head);
    buf_add(out, span_of(head, sizeof(head)));
}

/* N bytes of lent frames for the hole at OFFSET, with SLACK bytes of heartbeats
 * among them. */
static void
lay_out(const struct mender *m, uint64_t offset, size_t n, size_t slack,
        struct buf *out)
{
    struct logstate st = m->st;
    struct span frames = span_sub(buf_span(&m->lent), 0, n);

    while (frames.n > 0) {
        uint8_t head[FRAME_HEADER_BYTES];
        struct frame_head h;
        ENSURE(frame_head_decode(frames, &h) == PARSE_DONE);
        struct span frame = span_sub(frames, 0, frame_bytes(&h));
        while (slack >= FRAME_HEADER_BYTES &&
               alike(m, frame, offset + out->n) <
                   alike(m, frame, offset + out->n + FRAME_HEADER_BYTES)) {
            add_heartbeat(&st, st.time_us, out);
            slack -= FRAME_HEADER_BYTES;
        }
        /* All before it was durable here, or this would be no damage. */
        h.durable_lsn = h.first_lsn - 1;
        frame_head_encode(&h, head);
        buf_add(out, span_of(head, sizeof(head)));
        buf_add(out, span_skip(frame, sizeof(head)));
        logstate_move(&st, &h);
        frames = span_skip(frames, frame.n);
    }
    for (; slack >= FRAME_HEADER_BYTES; slack -= FRAME_HEADER_BYTES)
        add_heartbeat(&st, st.time_us, out);
}

/* What lay at OFFSET, N bytes, into a file of its own. */
static enum errcode
keep_damaged(struct mender *m, uint64_t offset, size_t n, struct error *err)
{
    char path[LOG_PATH_BYTES];
    AUTO(env_close) struct envfile *f = NULL;

    snprintf(path, sizeof(path), "%s/damaged-%016" PRIx64 "-%" PRIu64,
             m->o->dir, m->number, offset);
    struct span old = span_sub(at_offset(m, offset), 0, n);
    enum errcode rc = env_open(m->env, path, ENV_CREATE, &f, err);
    if (rc == ERR_OK)
        rc = env_truncate(f, 0, err);
    if (rc == ERR_OK && old.n > 0)
        rc = env_pwrite(f, old.p, old.n, 0, err);
    if (rc == ERR_OK)
        rc = env_fsync(f, err);
    if (rc == ERR_OK)
        rc = env_syncdir(m->env, m->o->dir, err);
    return rc == ERR_OK ? rc : error_prefix(err, "keep the damaged bytes");
}

/* NEW in the place of what lies at OFFSET. */
static enum errcode
write_anew(struct mender *m, uint64_t offset, struct span new,
           struct error *err)
{
    enum errcode rc = keep_damaged(m, offset, new.n, err);

    if (rc == ERR_OK)
        rc = env_pwrite(m->file, new.p, new.n, offset, err);
    if (rc == ERR_OK)
        rc = env_fsync(m->file, err);
    if (rc != ERR_OK)
        return rc;
    if (offset + new.n > m->bytes.n) {
        ENSURE(buf_reserve(&m->bytes, (size_t)offset + new.n - m->bytes.n) !=
               NULL);
        m->bytes.n = (size_t)offset + new.n;
    }
    memcpy(m->bytes.p + offset, new.p, new.n);
    m->done->places++;
    m->done->bytes += new.n;
    return ERR_OK;
}

/* The records up to UNTIL into the hole at OFFSET: HOLE bytes, or as many as
 * it takes if HOLE is 0.  *RET_FITS: it was done. */
static enum errcode
try_fill(struct mender *m, uint64_t offset, size_t hole, lsn_t until,
         const struct frame_head *behind, bool *ret_fits, struct error *err)
{
    AUTO(buf_free) struct buf new = BUF_INIT;
    struct logstate end;
    size_t n = 0;

    *ret_fits = false;
    enum errcode rc = borrow(m, until, err);
    if (rc != ERR_OK)
        return rc;
    if (!lent_bytes(m, until, &n, &end) ||
        (hole > 0 && (n > hole || (hole - n) % FRAME_HEADER_BYTES != 0)) ||
        (behind != NULL && logstate_misfit(&end, behind) != NULL))
        return ERR_OK;
    lay_out(m, offset, n, hole > 0 ? hole - n : 0, &new);
    if (n > 0) {
        if (m->done->first == LSN_NONE)
            m->done->first = m->st.last.lsn + 1;
        m->done->last = until;
    }
    *ret_fits = true;
    return write_anew(m, offset, buf_span(&new), err);
}

/* ---- walking ----------------------------------------------------------- */

static enum errcode
cannot(const struct mender *m, uint64_t offset, lsn_t until, enum errcode rc,
       struct error *err)
{
    return rc == ERR_IO || rc == ERR_NOSPACE
               ? rc
               : error_prefix(err,
                              "segment %" PRIx64 ", offset %" PRIu64
                              ": LSN %" PRI_LSN " to %" PRI_LSN
                              " cannot be had",
                              m->number, offset, m->st.last.lsn + 1, until);
}

/* Could the frame at OFFSET be the next good one behind a hole at AT? */
static bool
is_candidate(const struct mender *m, uint64_t at, uint64_t offset,
             struct frame_head *ret)
{
    struct span in = at_offset(m, offset);
    struct rd r = rd_init(in);
    const lsn_t x = m->st.last.lsn + 1;
    struct span payload;
    size_t used;

    if (rd_u32le(&r) != FRAME_MAGIC ||
        frame_decode(in, ret, &payload, &used) != PARSE_DONE)
        return false;
    return ret->first_lsn >= x && ret->epoch >= m->st.last.epoch &&
           ret->first_lsn - x <= (offset - at) / RECORD_HEADER_BYTES &&
           ret->first_lsn - 1 <= m->limit;
}

/*
 * The frame at AT is bad.  *RET_TORN: nothing says that there was more.
 */
static enum errcode
mend_at(struct mender *m, uint64_t at, bool *ret_torn, struct error *err)
{
    struct error why = {0};
    enum errcode failed = ERR_OK;
    unsigned failures = 0;
    lsn_t wanted = LSN_NONE;
    bool fits = false;

    *ret_torn = false;
    forget_lent(m);
    for (uint64_t o = at + 8; o + FRAME_HEADER_BYTES <= m->bytes.n; o += 8) {
        struct frame_head h;
        if (!is_candidate(m, at, o, &h))
            continue;
        enum errcode rc =
            try_fill(m, at, (size_t)(o - at), h.first_lsn - 1, &h, &fits, &why);
        if (fits)
            return rc == ERR_OK ? rc : error_set(err, rc, "%s", why.text);
        if (rc != ERR_OK) {
            failed = rc;
            wanted = MAX(wanted, h.first_lsn - 1);
            /* Another place may need less, but hardly the ninth. */
            if ((rc != ERR_GAP && rc != ERR_HISTORY) || ++failures > 8)
                break;
        }
    }
    if (failed == ERR_OK) {
        wanted = m->has_next ? m->limit : m->o->proven;
        if (wanted <= m->st.last.lsn) {
            *ret_torn = true;
            return ERR_OK;
        }
        failed = try_fill(m, at, 0, wanted, NULL, &fits, &why);
        if (fits && failed == ERR_OK)
            return ERR_OK;
        if (failed == ERR_OK)
            failed = error_set(&why, ERR_GAP, "no frame ends there");
    }
    (void)error_set(err, failed, "%s", why.text);
    return cannot(m, at, wanted, failed, err);
}

static enum errcode
walk(struct mender *m, struct error *err)
{
    uint64_t at = SEGMENT_HEADER_BYTES;

    for (;;) {
        struct frame_head h;
        struct span payload;
        size_t used = 0;
        if (frame_head_is_newer(at_offset(m, at)))
            return error_set(err, ERR_VERSION,
                             "segment %" PRIx64 ", offset %" PRIu64
                             ": a frame of a newer version of Pollux",
                             m->number, at);
        if (m->o->durable != LSN_NONE && !m->has_next &&
            m->st.last.lsn >= m->limit)
            return ERR_OK; /* what follows is the writer's */
        if (frame_decode(at_offset(m, at), &h, &payload, &used) == PARSE_DONE &&
            logstate_misfit(&m->st, &h) == NULL) {
            logstate_move(&m->st, &h);
            at += used;
            continue;
        }
        if (m->has_next && m->st.last.lsn >= m->limit)
            return ERR_OK;
        if (m->mended_at == at)
            return error_set(err, ERR_CORRUPT,
                             "segment %" PRIx64 ", offset %" PRIu64
                             ": is still damaged after it was written anew",
                             m->number, at);
        bool torn = false;
        enum errcode rc = mend_at(m, at, &torn, err);
        if (rc != ERR_OK || torn)
            return rc;
        m->mended_at = at;
    }
}

/* ---- segments ---------------------------------------------------------- */

static enum errcode
open_segment(struct mender *m, uint64_t number, struct error *err)
{
    char path[LOG_PATH_BYTES];
    uint64_t size = 0;

    env_close(&m->file);
    buf_clear(&m->bytes);
    m->number = number;
    m->mended_at = 0;
    enum errcode rc = env_open(m->env, segment_path(m->o->dir, number, path),
                               ENV_WRITE, &m->file, err);
    if (rc == ERR_OK)
        rc = env_size(m->file, &size, err);
    if (rc != ERR_OK)
        return rc;
    uint8_t *to = buf_reserve(&m->bytes, (size_t)size + 1);
    size_t got = 0;
    ENSURE(to != NULL);
    rc = env_pread_some(m->file, to, (size_t)size, 0, &got, err);
    m->bytes.n = got;
    return rc;
}

/* Where segment NUMBER, which has a successor, has to end. */
static enum errcode
end_of(struct mender *m, uint64_t number, lsn_t *ret, struct error *err)
{
    char path[LOG_PATH_BYTES];
    struct buf head = BUF_INIT;
    struct segment_head next;
    struct frame_head h;
    size_t got = 0;
    AUTO(env_close) struct envfile *f = NULL;
    uint8_t *to = buf_reserve(&head, SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES);

    enum errcode rc = env_open(
        m->env, segment_path(m->o->dir, number + 1, path), ENV_READ, &f, err);
    if (rc == ERR_OK)
        rc = env_pread_some(f, to, SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES, 0,
                            &got, err);
    head.n = got;
    if (rc == ERR_OK &&
        segment_head_decode(buf_span(&head), &next, NULL) == ERR_OK)
        *ret = next.prev_lsn;
    else if (rc == ERR_OK &&
             frame_head_decode(span_skip(buf_span(&head), SEGMENT_HEADER_BYTES),
                               &h) == PARSE_DONE)
        *ret = h.first_lsn - 1;
    else if (rc == ERR_OK)
        rc = error_set(err, ERR_CORRUPT,
                       "segment %" PRIx64
                       ": header and first frame are damaged, nothing says "
                       "where it begins",
                       number + 1);
    buf_free(&head);
    return rc;
}

/* The header was damaged: say again what it has to say. */
static enum errcode
make_header(struct mender *m, struct segment_head *ret, struct error *err)
{
    uint8_t block[SEGMENT_HEADER_BYTES];
    struct frame_head h = {0};
    const bool has_frame =
        frame_head_decode(at_offset(m, SEGMENT_HEADER_BYTES), &h) == PARSE_DONE;

    if (!m->has_st) {
        /* The first segment: its first frame says where, and the other log of
         * which chain. */
        if (!has_frame)
            return error_set(err, ERR_CORRUPT,
                             "segment %" PRIx64
                             ": header and first frame are damaged, nothing "
                             "says where the log begins",
                             m->number);
        m->st = (struct logstate){0};
        m->st.last.lsn = h.first_lsn - 1;
        if (h.first_lsn > 1) {
            AUTO(buf_free) struct buf ignored = BUF_INIT;
            m->st.last.epoch = h.epoch;
            enum errcode rc =
                m->o->fetch == NULL
                    ? error_set(err, ERR_GAP, "nobody is asked")
                    : m->o->fetch(m->o->ctx, m->st.last.lsn, h.first_lsn,
                                  &m->st.chain, &ignored, err);
            if (rc != ERR_OK)
                return cannot(m, 0, h.first_lsn, rc, err);
        }
    }
    *ret = (struct segment_head){
        .cluster = m->o->cluster,
        .instance = m->o->instance,
        .number = m->number,
        .first_lsn = m->st.last.lsn + 1,
        .epoch = m->st.last.epoch,
        .prev_lsn = m->st.last.lsn,
        .prev_chain = m->st.chain,
        .created_us = has_frame ? h.time_us : m->st.time_us,
    };
    segment_head_encode(ret, block);
    return write_anew(m, 0, span_of(block, sizeof(block)), err);
}

static enum errcode
mend_segment(struct mender *m, uint64_t number, bool has_next,
             struct error *err)
{
    struct segment_head head;

    m->has_next = has_next;
    m->limit = m->o->durable != LSN_NONE ? m->o->durable : FRAME_LSN_MAX;
    enum errcode rc = open_segment(m, number, err);
    if (rc == ERR_OK && has_next)
        rc = end_of(m, number, &m->limit, err);
    if (rc != ERR_OK)
        return rc;
    rc = segment_head_decode(buf_span(&m->bytes), &head, err);
    if (rc == ERR_OK && (head.number != number ||
                         (m->has_st && (head.prev_lsn != m->st.last.lsn ||
                                        head.prev_chain != m->st.chain))))
        return error_set(
            err, ERR_CORRUPT,
            "segment %" PRIx64 " does not follow the one before it", number);
    if (rc == ERR_CORRUPT)
        rc = make_header(m, &head, err);
    if (rc != ERR_OK)
        return rc;
    const uint64_t time_us = m->st.time_us;
    m->st = logstate_at_start(&head);
    m->st.time_us = time_us;
    m->has_st = true;
    return walk(m, err);
}

/* Numbers of all segments, in order, as u64le in RET. */
static enum errcode
list_numbers(struct env *env, const char *dir, struct buf *ret,
             struct error *err)
{
    AUTO(buf_free) struct buf names = BUF_INIT;
    uint64_t before = 0;

    enum errcode rc = env_list(env, dir, &names, err);
    for (size_t at = 0; rc == ERR_OK && at < names.n;) {
        struct span name = span_str((const char *)names.p + at);
        uint64_t number = 0;
        at += name.n + 1;
        if (!segment_number(name, &number))
            continue;
        if (before != 0 && number != before + 1)
            return error_set(err, ERR_CORRUPT,
                             "segment %" PRIx64
                             " of the log is missing as a whole",
                             before + 1);
        before = number;
        buf_add_u64le(ret, number);
    }
    if (rc == ERR_OK && ret->n == 0)
        rc = error_set(err, ERR_NOTFOUND, "there is no log in %s", dir);
    return rc;
}

enum errcode
synclog_mend(struct env *env, const struct synclog_mend_options *o,
             struct synclog_mended *ret, struct error *err)
{
    AUTO(buf_free) struct buf numbers = BUF_INIT;
    struct mender m = {.env = env, .o = o, .done = ret};

    *ret = (struct synclog_mended){0};
    enum errcode rc = list_numbers(env, o->dir, &numbers, err);
    struct rd r = rd_init(buf_span(&numbers));
    while (rc == ERR_OK && r.left.n > 0) {
        const uint64_t number = rd_u64le(&r);
        /* The one before says where it begins. */
        if (o->segment != 0 && (number + 1 < o->segment || number > o->segment))
            continue;
        rc = mend_segment(&m, number, r.left.n > 0, err);
    }
    env_close(&m.file);
    buf_free(&m.bytes);
    buf_free(&m.lent);
    return rc;
}
