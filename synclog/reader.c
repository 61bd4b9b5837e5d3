/*
 * synclog/reader.c - following the log.
 *
 * A reader holds one segment open and a window on it.  The window may have read
 * past what was durable at that moment, into bytes that change; so it remembers
 * the bound under which it was filled and is filled again before anything
 * beyond that bound is looked at.  Below the bound every frame is complete, and
 * a bad one is damage.
 *
 * Who follows closely finds a frame or two, and behind them a segment that is
 * zeros up to its end: no more of those is read than was read last time.
 *
 * Where the segment holds nothing more although more is durable, the next one
 * does.  A segment stays readable while we hold it, even when it is trimmed; it
 * is at the next step that the gap shows.
 */
#include "synclog/reader.h"

#include <stdlib.h>

#include "synclog/synclog_private.h"

#define AHEAD_MIN ((size_t)16 << 10)

struct synclog_reader {
    struct env *env;
    char *dir;
    const struct synclog_mark *mark;
    struct seginfo seg;
    struct envfile *file;
    struct window window;
    lsn_t bound;        /* durable when the window was filled */
    size_t passed;      /* bytes since the bound was looked at */
    uint64_t offset;    /* of the next frame */
    struct logstate at; /* after the last frame given out */
    uint64_t given;     /* offset of the frames given last */
    uint64_t given_in;  /* their segment */
};

static lsn_t
durable_now(const struct synclog_reader *r)
{
    return atomic_load_explicit(&r->mark->durable_lsn, memory_order_acquire);
}

/* Open segment NUMBER and stand at its start. */
static enum errcode
enter_segment(struct synclog_reader *r, uint64_t number, struct error *err)
{
    char path[LOG_PATH_BYTES];
    struct seginfo seg;
    AUTO(env_close) struct envfile *f = NULL;

    enum errcode rc =
        env_open(r->env, segment_path(r->dir, number, path), ENV_READ, &f, err);
    if (rc == ERR_OK)
        rc = segment_read_head(f, number, &seg, err);
    if (rc != ERR_OK)
        return rc;
    env_close(&r->file);
    window_free(&r->window);
    r->file = f;
    f = NULL;
    r->window = (struct window){.file = r->file};
    r->bound = LSN_NONE;
    r->seg = seg;
    r->offset = SEGMENT_HEADER_BYTES;
    return ERR_OK;
}

/* At the end of a segment, with more durable: go on in the next one. */
static enum errcode
next_segment(struct synclog_reader *r, struct error *err)
{
    const uint64_t number = r->seg.head.number;

    enum errcode rc = enter_segment(r, number + 1, err);
    if (rc == ERR_NOTFOUND) {
        AUTO(seglist_free) struct seglist list = {0};
        rc = seglist_load(r->env, r->dir, &list, err);
        if (rc != ERR_OK && rc != ERR_AGAIN)
            return rc;
        if (rc == ERR_AGAIN ||
            (list.n > 0 && list.v[0].head.number > number + 1))
            return error_set(err, ERR_GAP,
                             "the log was trimmed behind LSN %" PRI_LSN,
                             r->at.last.lsn);
        return error_set(err, ERR_CORRUPT,
                         "segment %" PRIx64 ", offset %" PRIu64
                         ": LSN %" PRI_LSN " is durable and not there",
                         number, r->offset, r->at.last.lsn + 1);
    }
    if (rc != ERR_OK)
        return rc;
    if (r->seg.head.prev_lsn != r->at.last.lsn ||
        r->seg.head.prev_chain != r->at.chain)
        return error_set(err, ERR_CORRUPT,
                         "segment %" PRIx64 " ends with LSN %" PRI_LSN
                         " and the next follows %" PRI_LSN
                         ", or of another chain",
                         number, r->at.last.lsn, r->seg.head.prev_lsn);
    return ERR_OK;
}

/*
 * The header of the frame that holds the next record, which is durable;
 * heartbeats are passed over and segments followed.
 */
static enum errcode
find_head(struct synclog_reader *r, struct frame_head *ret, struct error *err)
{
    for (;;) {
        struct span in;
        if (r->at.last.lsn >= r->bound) {
            window_forget(&r->window);
            r->window.ahead = MIN(MAX(2 * r->passed, AHEAD_MIN), WINDOW_BYTES);
            r->passed = 0;
            r->bound = durable_now(r);
        }
        enum errcode rc =
            window_get(&r->window, r->offset, FRAME_HEADER_BYTES, &in, err);
        if (rc != ERR_OK)
            return rc;
        if (frame_head_is_newer(in))
            return error_set(err, ERR_VERSION,
                             "segment %" PRIx64 ", offset %" PRIu64
                             ": a frame of a newer version of Pollux",
                             r->seg.head.number, r->offset);
        if (frame_head_decode(in, ret) == PARSE_DONE &&
            logstate_misfit(&r->at, ret) == NULL) {
            if (ret->nrecords > 0)
                return ERR_OK;
            r->offset += frame_bytes(ret);
            continue;
        }
        rc = next_segment(r, err);
        if (rc != ERR_OK)
            return rc;
    }
}

/* Is the next record durable?  Refreshes nothing. */
static bool
has_more(const struct synclog_reader *r)
{
    return r->at.last.lsn < durable_now(r);
}

/* Pass over whole frames until AFTER is the last record passed. */
static enum errcode
skip_to(struct synclog_reader *r, lsn_t after, struct error *err)
{
    while (r->at.last.lsn < after) {
        struct frame_head h;
        enum errcode rc = find_head(r, &h, err);
        if (rc != ERR_OK)
            return rc;
        if (frame_last_lsn(&h) > after)
            return error_set(err, ERR_GAP,
                             "LSN %" PRI_LSN " is inside of a frame (%" PRI_LSN
                             " to %" PRI_LSN ")",
                             after, h.first_lsn, frame_last_lsn(&h));
        logstate_move(&r->at, &h);
        r->offset += frame_bytes(&h);
        r->passed += frame_bytes(&h);
    }
    return ERR_OK;
}

/* Stand at the start of the segment that holds what follows AFTER. */
static enum errcode
find_segment(struct synclog_reader *r, lsn_t after, struct error *err)
{
    AUTO(seglist_free) struct seglist list = {0};

    enum errcode rc = seglist_load(r->env, r->dir, &list, err);
    if (rc != ERR_OK)
        return rc;
    if (list.n == 0 || after < list.v[0].head.prev_lsn)
        return error_set(err, ERR_GAP,
                         "the log begins behind LSN %" PRI_LSN
                         ", what follows %" PRI_LSN " is not in it any more",
                         list.n == 0 ? LSN_NONE : list.v[0].head.prev_lsn,
                         after);
    size_t i = list.n - 1;
    while (list.v[i].head.prev_lsn > after)
        i--;
    rc = enter_segment(r, list.v[i].head.number, err);
    if (rc == ERR_NOTFOUND)
        return error_set(err, ERR_AGAIN, "the log was just trimmed");
    if (rc == ERR_OK)
        r->at = logstate_at_start(&r->seg.head);
    return rc;
}

enum errcode
reader_open(struct env *env, const char *dir, const struct synclog_mark *mark,
            lsn_t after, struct synclog_reader **ret, struct error *err)
{
    AUTO(reader_close) struct synclog_reader *r = xcalloc(1, sizeof(*r));
    enum errcode rc;
    int looks = 100;

    r->env = env;
    r->dir = xstrdup(dir);
    r->mark = mark;
    const lsn_t durable = durable_now(r);
    /* A writer may trim under us: another look is at what is left. */
    do
        rc = find_segment(r, after, err);
    while (rc == ERR_AGAIN && --looks > 0);
    if (rc == ERR_OK && after > durable)
        rc = error_set(err, ERR_GAP,
                       "LSN %" PRI_LSN " is beyond %" PRI_LSN
                       ", the last that is durable",
                       after, durable);
    if (rc == ERR_OK)
        rc = skip_to(r, after, err);
    if (rc != ERR_OK)
        return rc;
    *ret = r;
    r = NULL;
    return ERR_OK;
}

void
reader_close(struct synclog_reader **rp)
{
    struct synclog_reader *r = *rp;

    if (r == NULL)
        return;
    window_free(&r->window);
    env_close(&r->file);
    xfree(&r->dir);
    xfree(rp);
}

/* How many bytes of whole good frames IN holds, up to BOUND and about MAX. */
static enum errcode
take_frames(struct synclog_reader *r, struct span in, size_t max_bytes,
            size_t *ret_n, struct error *err)
{
    size_t n = 0;

    while (r->at.last.lsn < r->bound) {
        struct frame_head h;
        struct span payload, rest = span_skip(in, n);
        size_t used = 0;
        enum parse got = frame_head_decode(rest, &h);
        /* A heartbeat, the end of the segment or the window: another time. */
        if (n > 0 && (got != PARSE_DONE || h.nrecords == 0 ||
                      n + frame_bytes(&h) > max_bytes ||
                      logstate_misfit(&r->at, &h) != NULL))
            break;
        if (frame_decode(rest, &h, &payload, &used) != PARSE_DONE) {
            if (n > 0)
                break; /* what is good goes first */
            return error_set(err, ERR_CORRUPT,
                             "segment %" PRIx64 ", offset %" PRIu64
                             ": the frame with LSN %" PRI_LSN
                             " is not what was written",
                             r->seg.head.number, r->offset, r->at.last.lsn + 1);
        }
        logstate_move(&r->at, &h);
        r->offset += used;
        n += used;
    }
    r->passed += n;
    *ret_n = n;
    return ERR_OK;
}

enum errcode
reader_next(struct synclog_reader *r, size_t max_bytes, struct span *ret_frames,
            lsn_t *ret_last, uint64_t *ret_time_us, struct error *err)
{
    struct span frames = SPAN_EMPTY;

    if (has_more(r)) {
        struct frame_head h;
        struct span in;
        size_t n = 0;
        enum errcode rc = find_head(r, &h, err);
        if (rc == ERR_OK)
            rc = window_get(&r->window, r->offset, frame_bytes(&h), &in, err);
        if (rc == ERR_OK)
            rc = take_frames(r, in, max_bytes, &n, err);
        if (rc != ERR_OK)
            return rc;
        frames = span_sub(in, 0, n);
        r->given = r->offset - n;
        r->given_in = r->seg.head.number;
    }
    *ret_frames = frames;
    *ret_last = r->at.last.lsn;
    *ret_time_us = r->at.time_us;
    return ERR_OK;
}

void
reader_place(const struct synclog_reader *r, uint64_t *ret_segment,
             uint64_t *ret_offset)
{
    *ret_segment = r->given_in;
    *ret_offset = r->given;
}

uint64_t
reader_chain(const struct synclog_reader *r)
{
    return r->at.chain;
}

epoch_t
reader_epoch(const struct synclog_reader *r)
{
    return r->at.last.epoch;
}

enum errcode
reader_chain_at(struct env *env, const char *dir,
                const struct synclog_mark *mark, lsn_t lsn, uint64_t *ret_chain,
                epoch_t *ret_epoch, struct error *err)
{
    AUTO(reader_close) struct synclog_reader *r = NULL;

    enum errcode rc = reader_open(env, dir, mark, lsn, &r, err);
    if (rc != ERR_OK)
        return rc;
    *ret_chain = reader_chain(r);
    *ret_epoch = reader_epoch(r);
    return ERR_OK;
}
