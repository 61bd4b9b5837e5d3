/*
 * csync/take.c - the replica's end of LOG STREAM and LOG SEED.
 *
 * Frames go to the store as they come; its writer says when they are durable
 * and applied, and every turn of the loop acknowledges once, however many
 * groups came back in it.  When the writer has much to do, input rests, and so,
 * through TCP, does the master: memory is bounded by QUEUE_HIGH.
 */
#include "csync/session.h"

#include <stdlib.h>

#include "store/damage.h"
#include "synclog/frame.h"

#define QUEUE_HIGH_BYTES ((size_t)16 << 20)

/* ---- frames ------------------------------------------------------------ */

static void
send_ack(void *ctx)
{
    struct csync_session *s = ctx;
    AUTO(buf_free) struct buf out = BUF_INIT;

    if (s->conn == NULL || !s->ack_due)
        return;
    struct store_log_view log;
    store_log_view(s->store, &log);
    struct logack ack = {
        .received = s->received,
        .durable = log.durable.lsn, /* may be ahead of the state, on purpose */
        .applied = s->reached,
        .ping = s->ping,
    };
    s->ack_due = false;
    s->ping = 0;
    logack_encode(&ack, &out);
    session_send(s, LOGMSG_ACK, buf_span(&out));
    if (s->ending && log.durable.lsn == s->received)
        conn_close_after_flush(s->conn);
}

static void
ack_soon(struct csync_session *s)
{
    s->ack_due = true;
    reactor_defer(s->reactor, &s->ack_call, send_ack, s);
}

/* What the writer said of one batch of frames, on its way to the reactor. */
struct frames_job {
    struct csync_session *s;
    enum errcode code;
    struct error err;
    struct store_pos pos;
};

static void
frames_came_back(void *ctx)
{
    struct frames_job *job = ctx;
    struct csync_session *s = job->s;

    if (!session_job_end(s)) {
        if (job->code != ERR_OK) {
            session_fail(s, job->code, &job->err);
        } else {
            s->reached = job->pos;
            ack_soon(s);
            if (conn_input_is_paused(s->conn) &&
                store_queue_bytes(s->store) < QUEUE_HIGH_BYTES / 2)
                conn_resume_input(s->conn);
        }
    }
    free(job);
}

/* In the writer's thread. */
static void
frames_done(void *ctx, enum errcode code, const struct error *err,
            struct store_pos pos)
{
    struct frames_job *job = ctx;

    job->code = code;
    if (err != NULL)
        job->err = *err;
    job->pos = pos;
    reactor_post(job->s->reactor, frames_came_back, job);
}

/* The last LSN in FRAMES; false if they are not whole frames. */
static bool
last_lsn_of(struct span frames, lsn_t *ret)
{
    while (frames.n > 0) {
        struct frame_head head;
        if (frame_head_decode(frames, &head) != PARSE_DONE ||
            frame_bytes(&head) > frames.n || head.nrecords == 0)
            return false;
        *ret = frame_last_lsn(&head);
        frames = span_skip(frames, frame_bytes(&head));
    }
    return true;
}

static void
take_frames(struct csync_session *s, struct span frames)
{
    struct error err = {0};

    if (s->epoch < store_epoch(s->store)) {
        error_set(&err, ERR_FENCED,
                  "epoch %" PRI_EPOCH " is over: this replica follows epoch "
                  "%" PRI_EPOCH " now",
                  s->epoch, store_epoch(s->store));
        session_fail(s, ERR_FENCED, &err);
        return;
    }
    if (!last_lsn_of(frames, &s->received)) {
        error_set(&err, ERR_PROTO, "not whole frames");
        session_fail(s, ERR_PROTO, &err);
        return;
    }
    struct frames_job *job = xcalloc(1, sizeof(*job));
    job->s = s;
    session_job_begin(s);
    store_append_frames(s->store, frames, frames_done, job);
    if (s->on_receipt)
        ack_soon(s);
    if (store_queue_bytes(s->store) > QUEUE_HIGH_BYTES)
        conn_pause_input(s->conn);
}

static void
take_ping(struct csync_session *s, struct span payload)
{
    struct rd r = rd_init(payload);

    s->ping = rd_u64le(&r);
    if (s->jobs == 0)
        s->reached = store_pos(s->store);
    ack_soon(s);
}

void
take_log_begin(struct csync_session *s)
{
    s->phase = PHASE_TAKE_LOG;
    s->reached = store_pos(s->store);
    struct store_log_view log;
    store_log_view(s->store, &log);
    s->received = log.durable.lsn;
    log_notice(&s->log, "csync.follow", "applied=%" PRI_EPOCH ":%" PRI_LSN,
               s->reached.applied.epoch, s->reached.applied.lsn);
}

/* ---- seed -------------------------------------------------------------- */

static void
seed_worked(struct csync_session *s)
{
    if (s->work_code != ERR_OK)
        session_fail(s, s->work_code, &s->work_err);
}

static void
work_sync(struct csync_session *s)
{
    s->work_code = seed_sync(s->seed, &s->work_err);
}

static void
after_sync(struct csync_session *s)
{
    seed_worked(s);
    if (s->work_code == ERR_OK)
        session_send(s, LOGMSG_SEED_SYNCED, SPAN_EMPTY);
}

static void
work_begin_rows(struct csync_session *s)
{
    s->work_code = seed_begin_rows(s->seed, &s->work_err);
}

static void
work_finish(struct csync_session *s)
{
    s->work_code = seed_finish(s->seed, &s->seed_pos, &s->work_err);
}

static void
after_finish(struct csync_session *s)
{
    seed_worked(s);
    if (s->work_code != ERR_OK)
        return;
    log_notice(&s->log, "csync.seeded", "applied=%" PRI_EPOCH ":%" PRI_LSN,
               s->seed_pos.applied.epoch, s->seed_pos.applied.lsn);
    session_send(s, LOGMSG_SEED_DONE, SPAN_EMPTY);
}

static enum errcode
answer_guids(struct csync_session *s, struct span payload, struct error *err)
{
    AUTO(buf_free) struct buf bits = BUF_INIT;

    if (payload.n % GUID_BYTES != 0)
        return error_set(err, ERR_PROTO, "half a GUID");
    size_t n = payload.n / GUID_BYTES;
    uint8_t *to = buf_reserve(&bits, (n + 7) / 8);
    memset(to, 0, (n + 7) / 8);
    for (size_t i = 0; i < n; i++) {
        struct guid guid;
        memcpy(guid.b, payload.p + i * GUID_BYTES, GUID_BYTES);
        if (!seed_has(s->seed, &guid))
            to[i / 8] = (uint8_t)(to[i / 8] | 1U << (i % 8));
    }
    bits.n = (n + 7) / 8;
    session_send(s, LOGMSG_SEED_MISSING, buf_span(&bits));
    return ERR_OK;
}

static enum errcode
take_part(struct csync_session *s, struct span payload, struct error *err)
{
    struct span stored = SPAN_EMPTY;
    struct body_loc loc;
    struct guid guid;

    enum errcode rc = logpart_decode(payload, &guid, &loc, &stored, err);
    if (rc != ERR_OK)
        return error_prefix(err, "seed");
    return seed_put_part(s->seed, &guid, &loc, stored, err);
}

static enum errcode
take_lost(struct csync_session *s, struct span payload, struct error *err)
{
    struct damage d = {.kind = DAMAGE_BODY,
                       .why = "who gave the seed had it damaged"};

    if (payload.n != GUID_BYTES)
        return error_set(err, ERR_PROTO, "seed: not a GUID");
    memcpy(d.guid.b, payload.p, GUID_BYTES);
    store_damage_note(s->store, &d);
    return ERR_OK;
}

static enum errcode
take_rows(struct csync_session *s, struct span payload, struct error *err)
{
    struct rd r = rd_init(payload);

    while (r.left.n > 0) {
        struct span key = rd_blob(&r, 65536);
        struct span value = rd_blob(&r, LOGMSG_PAYLOAD_MAX);
        if (r.bad)
            return error_set(err, ERR_PROTO, "seed row is cut");
        enum errcode rc = seed_put_row(s->seed, key, value, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

static enum errcode
take_finish(struct csync_session *s, struct span payload, struct error *err)
{
    struct rd r = rd_init(payload);

    store_pos_decode(&r, &s->seed_pos);
    if (!rd_done(&r))
        return error_set(err, ERR_PROTO, "seed position is malformed");
    session_offload(s, work_finish, after_finish);
    return ERR_OK;
}

void
take_seed_begin(struct csync_session *s)
{
    s->phase = PHASE_TAKE_SEED;
    log_notice(&s->log, "csync.seed", "state=begins");
}

/* ---- dispatch ---------------------------------------------------------- */

static enum errcode
take_seed_message(struct csync_session *s, const struct logmsg *m,
                  struct error *err)
{
    switch ((enum logmsg_type)m->type) {
    case LOGMSG_SEED_TOTALS:
        return ERR_OK; /* for who counts on the way */
    case LOGMSG_SEED_GUIDS:
        return answer_guids(s, m->payload, err);
    case LOGMSG_SEED_PART:
        return take_part(s, m->payload, err);
    case LOGMSG_SEED_LOST:
        return take_lost(s, m->payload, err);
    case LOGMSG_SEED_SYNC:
        session_offload(s, work_sync, after_sync);
        return ERR_OK;
    case LOGMSG_SEED_BEGIN:
        session_offload(s, work_begin_rows, seed_worked);
        return ERR_OK;
    case LOGMSG_SEED_ROWS:
        return take_rows(s, m->payload, err);
    case LOGMSG_SEED_FINISH:
        return take_finish(s, m->payload, err);
    case LOGMSG_FRAMES:
    case LOGMSG_PING:
    case LOGMSG_END:
    case LOGMSG_ACK:
    case LOGMSG_ERROR:
    case LOGMSG_SEED_MISSING:
    case LOGMSG_SEED_SYNCED:
    case LOGMSG_SEED_DONE:
    case LOGMSG_GET_PART:
    case LOGMSG_GET_FRAMES:
    case LOGMSG_PART:
    case LOGMSG_LENT_FRAMES:
    case LOGMSG_LACKING:
    case LOGMSG_ZSTD:
        break;
    }
    return error_set(err, ERR_PROTO, "message %u has no place in a seed",
                     m->type);
}

static enum errcode
take_log_message(struct csync_session *s, const struct logmsg *m,
                 struct error *err)
{
    if (m->type == LOGMSG_FRAMES) {
        take_frames(s, m->payload);
    } else if (m->type == LOGMSG_PING) {
        take_ping(s, m->payload);
    } else if (m->type == LOGMSG_END) {
        s->ending = true;
        ack_soon(s);
    } else {
        return error_set(err, ERR_PROTO, "message %u has no place in a stream",
                         m->type);
    }
    return ERR_OK;
}

enum errcode
take_message(struct csync_session *s, const struct logmsg *m, struct error *err)
{
    struct logmsg inside;

    if (m->type == LOGMSG_ZSTD) {
        if (s->unsqueezer == NULL)
            s->unsqueezer = unsqueezer_new();
        enum errcode rc =
            unsqueezer_take(s->unsqueezer, m->payload, &inside, err);
        if (rc != ERR_OK)
            return rc;
        m = &inside;
    }
    return s->phase == PHASE_TAKE_LOG ? take_log_message(s, m, err)
                                      : take_seed_message(s, m, err);
}

void
take_end(struct csync_session *s)
{
    reactor_defer_cancel(s->reactor, &s->ack_call);
    seed_close(&s->seed);
    unsqueezer_free(&s->unsqueezer);
}
