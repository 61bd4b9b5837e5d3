/*
 * tests/synclog/logtest.h - a log in a simulated machine, and frames made by
 * hand.
 */
#ifndef POLLUX_TESTS_SYNCLOG_LOGTEST_H
#define POLLUX_TESTS_SYNCLOG_LOGTEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "synclog/reader.h"
#include "synclog/synclog.h"

#define LOGTEST_DIR "/var/synclog"
#define LOGTEST_SEGMENT_BYTES 32768U

static inline struct synclog_config
logtest_config(const char *dir)
{
    return (struct synclog_config){
        .dir = dir,
        .segment_bytes = LOGTEST_SEGMENT_BYTES,
        .cluster = {"cluster-A"},
        .instance = {"instance-A"},
        .no_helper = true,
    };
}

static inline struct synclog *
logtest_open(struct env *env, const char *dir, struct synclog_recovery *found)
{
    const struct synclog_config cfg = logtest_config(dir);
    struct synclog *log = NULL;
    struct error err = {0};

    if (synclog_open(env, &cfg, &log, found, &err) != ERR_OK)
        fail_msg("%s", err.text);
    return log;
}

/* N records of BYTES bytes each, which FIRST and the index decide. */
static inline void
logtest_payload(struct buf *payload, lsn_t first, unsigned n, size_t bytes)
{
    AUTO(xfree) uint8_t *body = xmalloc(bytes);

    for (unsigned i = 0; i < n; i++) {
        memset(body, (int)('a' + (first + i) % 26), bytes);
        frame_add_record(payload, (uint8_t)(1 + i % 200), 1,
                         span_of(body, bytes));
    }
}

/* One frame; the error code of the first call that failed. */
static inline enum errcode
logtest_try_append(struct synclog *log, epoch_t epoch, unsigned n, size_t bytes,
                   struct error *err)
{
    AUTO(buf_free) struct buf payload = BUF_INIT;
    struct synclog_place place;

    enum errcode rc =
        synclog_begin(log, n * (bytes + RECORD_HEADER_BYTES), &place, err);
    if (rc != ERR_OK)
        return rc;
    logtest_payload(&payload, place.first_lsn, n, bytes);
    return synclog_append(log, epoch, 1000 + place.first_lsn,
                          buf_span(&payload), n, err);
}

static inline void
logtest_append(struct synclog *log, epoch_t epoch, unsigned n, size_t bytes)
{
    struct error err = {0};

    if (logtest_try_append(log, epoch, n, bytes, &err) != ERR_OK)
        fail_msg("%s", err.text);
}

static inline void
logtest_sync(struct synclog *log)
{
    struct error err = {0};

    if (synclog_sync(log, &err) != ERR_OK)
        fail_msg("%s", err.text);
}

/* A frame of one record of BYTES bytes behind a frame whose chain is PREV. */
static inline struct frame_head
logtest_frame(struct buf *out, uint64_t prev, epoch_t epoch, lsn_t first,
              lsn_t durable, size_t bytes)
{
    AUTO(buf_free) struct buf payload = BUF_INIT;
    uint8_t head[FRAME_HEADER_BYTES];

    logtest_payload(&payload, first, 1, bytes);
    struct frame_head h = {
        .payload_bytes = (uint32_t)payload.n,
        .nrecords = 1,
        .epoch = epoch,
        .first_lsn = first,
        .durable_lsn = durable,
        .payload_hash = frame_payload_hash(buf_span(&payload)),
        .time_us = 1000 + first,
    };
    h.chain = frame_chain(prev, &h);
    frame_head_encode(&h, head);
    buf_add(out, span_of(head, sizeof(head)));
    buf_add(out, buf_span(&payload));
    while (out->n % 8 != 0)
        buf_add_byte(out, 0);
    return h;
}

static inline void
logtest_heartbeat(struct buf *out, uint64_t chain, epoch_t epoch, lsn_t next,
                  lsn_t durable)
{
    uint8_t head[FRAME_HEADER_BYTES];
    const struct frame_head h = {
        .epoch = epoch,
        .first_lsn = next,
        .durable_lsn = durable,
        .payload_hash = frame_payload_hash(SPAN_EMPTY),
        .chain = chain,
        .time_us = 1,
    };

    frame_head_encode(&h, head);
    buf_add(out, span_of(head, sizeof(head)));
}

/* The checks of a log that is whole: frame by frame what was appended. */
static inline void
logtest_each(void *ctx, uint64_t segment, uint64_t offset,
             const struct frame_head *head, struct span payload)
{
    lsn_t *last = ctx;
    struct record rec = {0};
    size_t pos = 0;

    (void)segment;
    (void)offset;
    while (frame_next_record(head, payload, &pos, &rec)) {
        assert_true(rec.lsn == *last + 1);
        for (size_t i = 0; i < rec.body.n; i++)
            assert_int_equal(rec.body.p[i], 'a' + rec.lsn % 26);
        *last = rec.lsn;
    }
}

static inline void
logtest_write(struct env *env, const char *path, uint64_t offset,
              struct span bytes)
{
    AUTO(env_close) struct envfile *f = NULL;
    struct error err = {0};

    if (env_open(env, path, ENV_WRITE, &f, &err) != ERR_OK ||
        env_pwrite(f, bytes.p, bytes.n, offset, &err) != ERR_OK ||
        env_fsync(f, &err) != ERR_OK)
        fail_msg("%s", err.text);
}

#endif
