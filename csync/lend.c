/*
 * csync/lend.c - what a twin lends whose own bytes are damaged (LOG LEND).
 *
 * One question, one answer: a part of a body by GUID, checked as for a reader,
 * or whole frames of the log behind an LSN.  Whoever is of the same cluster may
 * ask, in whatever role either side is.  That it is lacking here is an answer
 * too, and the session goes on.
 */
#include "csync/session.h"

#include "store/damage.h"
#include "synclog/reader.h"

/* Of frames in one answer, but at least one frame. */
#define LEND_BYTES ((size_t)1 << 20)

void
lend_work(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);
    struct logstatus status = {0};
    struct instid cluster;

    i->status(i->ctx, &s->arena, &status);
    if (s->args == NULL || !dlist_get_instid(s->args, "CLUSTER", &cluster))
        s->work_code =
            error_set(&s->work_err, ERR_PROTO, "LEND without a usable CLUSTER");
    else if (instid_none(&cluster) || !instid_eq(&cluster, &status.cluster))
        s->work_code = error_set(&s->work_err, ERR_HISTORY,
                                 "this instance is not of your cluster: it has "
                                 "nothing to lend");
    else
        s->store = i->store(i->ctx);
}

void
lend_begin(struct csync_session *s)
{
    if (s->work_code != ERR_OK) {
        session_refuse(s, s->work_code, &s->work_err);
        return;
    }
    conn_write_str(s->conn, "OK ask\r\n");
    s->phase = PHASE_LEND;
}

static enum errcode
lend_part(struct csync_session *s, struct error *err)
{
    const struct lend_request *q = &s->lend;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    AUTO(buf_free) struct buf stored = BUF_INIT;
    struct body_loc loc;

    enum errcode rc =
        seed_read_part(s->store, snap, &q->guid, q->part, &loc, &stored, err);
    if (rc == ERR_OK)
        logpart_encode(&q->guid, &loc, buf_span(&stored), &s->work_out);
    else
        store_damage_find(s->store, &q->guid); /* ours too, perhaps */
    return rc;
}

static enum errcode
lend_frames(struct csync_session *s, struct error *err)
{
    const struct lend_request *q = &s->lend;
    AUTO(xfree) char *dir = xasprintf("%s/synclog", store_dir(s->store));
    AUTO(reader_close) struct synclog_reader *r = NULL;
    struct span frames = SPAN_EMPTY;
    uint64_t time_us;
    lsn_t last;

    enum errcode rc =
        reader_open(env_system(), dir, synclog_mark(store_log(s->store)),
                    q->after, &r, err);
    if (rc != ERR_OK)
        return rc;
    buf_add_u64le(&s->work_out, reader_chain(r));
    rc = reader_next(r, LEND_BYTES, &frames, &last, &time_us, err);
    if (rc == ERR_OK && frames.n == 0)
        rc = error_set(err, ERR_GAP, "the log here ends with LSN %" PRI_LSN,
                       q->after);
    while (rc == ERR_OK && frames.n > 0) {
        struct frame_head h;
        ENSURE(frame_head_decode(frames, &h) == PARSE_DONE);
        if (h.first_lsn > q->until)
            break;
        buf_add(&s->work_out, span_sub(frames, 0, frame_bytes(&h)));
        frames = span_skip(frames, frame_bytes(&h));
    }
    return rc;
}

static void
work_lend(struct csync_session *s)
{
    s->work_code = s->lend.wants_frames ? lend_frames(s, &s->work_err)
                                        : lend_part(s, &s->work_err);
}

static void
after_lend(struct csync_session *s)
{
    if (s->work_code == ERR_OK) {
        session_send(s, s->lend.wants_frames ? LOGMSG_LENT_FRAMES : LOGMSG_PART,
                     buf_span(&s->work_out));
        return;
    }
    log_notice(&s->log, "csync.lacking", "code=%s why=\"%s\"",
               errcode_name(s->work_code), s->work_err.text);
    buf_clear(&s->work_out);
    buf_add_byte(&s->work_out, (uint8_t)s->work_code);
    buf_add_str(&s->work_out, s->work_err.text);
    session_send(s, LOGMSG_LACKING, buf_span(&s->work_out));
}

enum errcode
lend_message(struct csync_session *s, const struct logmsg *m, struct error *err)
{
    if (m->type == LOGMSG_END) {
        conn_close_after_flush(s->conn);
        return ERR_OK;
    }
    if (!lend_request_decode(m, &s->lend))
        return error_set(err, ERR_PROTO, "message %u is no question", m->type);
    session_offload(s, work_lend, after_lend);
    return ERR_OK;
}
