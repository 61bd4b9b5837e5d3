/*
 * synclog/check.c - reading the log that this process has open, bit by bit, for
 * a scrubber.
 *
 * Which segments there are, and where each begins and ends, is known from
 * memory; so one that is damaged, header or frame, does not keep the others
 * from being read.  In the last one no more is looked at than was durable when
 * it was opened: everything below that is complete.
 */
#include <stdlib.h>

#include "synclog/synclog_private.h"

struct synclog_check {
    struct synclog *log;
    uint64_t number; /* of the segment that is read, or is next */
    struct seginfo seg;
    struct envfile *file; /* NULL: it is next */
    struct window window;
    struct logstate at;
    uint64_t offset;
    lsn_t end; /* the last record of it that is looked at */
    bool is_last;
};

struct synclog_check *
synclog_check_new(struct synclog *log)
{
    struct synclog_check *c = xcalloc(1, sizeof(*c));

    c->log = log;
    return c;
}

static void
leave_segment(struct synclog_check *c)
{
    window_free(&c->window);
    env_close(&c->file);
    c->number++;
}

void
synclog_check_free(struct synclog_check **c)
{
    if (*c == NULL)
        return;
    leave_segment(*c);
    xfree(c);
}

/* The first segment from c->number on; false: there is none. */
static bool
find_next(struct synclog_check *c)
{
    struct synclog *log = c->log;
    bool there = false;

    pthread_mutex_lock(&log->state_lock);
    for (size_t i = 0; !there && i < log->list.n; i++) {
        const struct seginfo *seg = &log->list.v[i];
        if (seg->head.number < c->number)
            continue;
        there = true;
        c->seg = *seg;
        c->is_last = i + 1 == log->list.n;
        c->end = c->is_last ? log->durable.last.lsn
                            : log->list.v[i + 1].head.prev_lsn;
    }
    pthread_mutex_unlock(&log->state_lock);
    if (there)
        c->number = c->seg.head.number;
    return there;
}

static enum errcode
enter_segment(struct synclog_check *c, struct error *err)
{
    char path[LOG_PATH_BYTES];
    struct seginfo seg;

    enum errcode rc =
        env_open(c->log->env, segment_path(c->log->dir, c->number, path),
                 ENV_READ, &c->file, err);
    if (rc != ERR_OK)
        return rc;
    c->window = (struct window){.file = c->file};
    c->offset = 0;
    rc = segment_read_head(c->file, c->number, &seg, err);
    if (rc == ERR_OK && (seg.head.prev_lsn != c->seg.head.prev_lsn ||
                         seg.head.prev_chain != c->seg.head.prev_chain))
        rc = error_set(err, ERR_CORRUPT, "segment %s is another one", path);
    if (rc != ERR_OK)
        return rc;
    c->at = logstate_at_start(&c->seg.head);
    c->offset = SEGMENT_HEADER_BYTES;
    return ERR_OK;
}

static enum errcode
read_frame(struct synclog_check *c, struct error *err)
{
    struct frame_head h;
    struct span in;
    struct span payload;
    size_t used = 0;
    const char *why = "no frame header";

    enum errcode rc =
        window_get(&c->window, c->offset, FRAME_HEADER_BYTES, &in, err);
    if (rc == ERR_OK && frame_head_is_newer(in))
        why = "a frame of a newer version of Pollux";
    else if (rc == ERR_OK && frame_head_decode(in, &h) == PARSE_DONE) {
        why = logstate_misfit(&c->at, &h);
        if (why == NULL)
            rc = window_get(&c->window, c->offset, frame_bytes(&h), &in, err);
        if (rc == ERR_OK && why == NULL &&
            frame_decode(in, &h, &payload, &used) != PARSE_DONE)
            why = "a frame whose payload is not what was written";
    }
    if (rc != ERR_OK)
        return rc;
    if (why != NULL)
        return error_set(err, ERR_CORRUPT,
                         "segment %" PRIx64 ", offset %" PRIu64
                         ": %s where LSN %" PRI_LSN " was",
                         c->number, c->offset, why, c->at.last.lsn + 1);
    logstate_move(&c->at, &h);
    c->offset += used;
    return ERR_OK;
}

enum errcode
synclog_check_next(struct synclog_check *c, uint64_t max_bytes,
                   struct synclog_checked *ret, struct error *err)
{
    struct synclog_checked got = {0};
    enum errcode rc = ERR_OK;

    if (c->file == NULL) {
        if (!find_next(c)) {
            *ret = (struct synclog_checked){.is_done = true};
            return ERR_OK;
        }
        rc = enter_segment(c, err);
        got.bytes = SEGMENT_HEADER_BYTES;
    }
    const uint64_t begin = c->offset;
    while (rc == ERR_OK && c->at.last.lsn < c->end &&
           c->offset - begin < max_bytes)
        rc = read_frame(c, err);
    got.bytes += c->offset - begin;
    got.segment = c->number;
    got.offset = c->offset;
    got.last = c->at.last.lsn;
    if (rc != ERR_OK || c->at.last.lsn >= c->end) {
        leave_segment(c);
        got.is_done = c->is_last;
    }
    *ret = got;
    return rc == ERR_NOTFOUND ? ERR_OK : rc; /* it was just trimmed */
}
