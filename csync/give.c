/*
 * csync/give.c - the giving end of a seed (LOG EXPORT on the control socket).
 *
 * A snapshot is walked in steps on a worker; each step fills a bounded buffer
 * of messages, and the next one starts when the peer has taken it.
 *
 *   TOTALS, then for each few thousand bodies: ask which are missing, send
 *   those; SYNC; BEGIN, rows, FINISH; done.
 *
 * A body that is damaged here, and that no other twin has, is said to be LOST:
 * it does not hold up the rest.
 */
#include "csync/session.h"

#include <stdlib.h>

#include "store/compact.h"
#include "store/damage.h"

#define GUIDS_PER_QUESTION 4096U
#define STEP_BYTES ((size_t)2 << 20)
#define REPAIR_WAITS 20U
#define REPAIR_WAIT_MS 2000

enum give_state {
    GIVE_TOTALS,
    GIVE_ASK,     /* the next question is to be made */
    GIVE_ASKED,   /* the answer is awaited */
    GIVE_BODIES,  /* the missing ones are being sent */
    GIVE_SYNCING, /* the answer is awaited */
    GIVE_ROWS,
    GIVE_FINISHING, /* the answer is awaited */
    GIVE_DONE,
};

struct giver {
    enum give_state state;
    struct store *store;
    struct store_snap *snap;
    struct buf out; /* of the step under way */

    struct guid *guids; /* of the question under way */
    size_t nguids;
    struct buf missing; /* bits */
    size_t at;          /* next of guids */
    uint32_t part;      /* next of its body */
    struct guid last;   /* where the next question starts */
    bool has_last;
    bool guids_end;

    struct buf row_key; /* last row sent */
    bool rows_end;
    uint64_t bodies;
    uint64_t bytes;
    unsigned waits;            /* for repairs */
    struct squeezer *squeezer; /* of rows; NULL: they go as they are */
};

static void
add_message(struct giver *g, uint8_t type, struct span payload)
{
    uint8_t header[LOGMSG_HEADER_BYTES];

    logmsg_header(type, (uint32_t)payload.n, header);
    buf_add(&g->out, span_of(header, sizeof(header)));
    buf_add(&g->out, payload);
}

/* ---- steps, on a worker ------------------------------------------------ */

static bool
count_guid(void *ctx, const struct guid *guid, uint64_t size)
{
    struct giver *g = ctx;

    (void)guid;
    g->bodies++;
    g->bytes += size;
    return true;
}

static enum errcode
step_totals(struct giver *g, struct error *err)
{
    AUTO(buf_free) struct buf payload = BUF_INIT;
    struct store_pos pos = snap_pos(g->snap);

    enum errcode rc = seed_each_guid(g->snap, NULL, count_guid, g, err);
    if (rc != ERR_OK)
        return rc;
    store_pos_encode(&pos, &payload);
    buf_add_u64le(&payload, g->bodies);
    buf_add_u64le(&payload, g->bytes);
    add_message(g, LOGMSG_SEED_TOTALS, buf_span(&payload));
    g->state = GIVE_ASK;
    return ERR_OK;
}

static bool
collect_guid(void *ctx, const struct guid *guid, uint64_t size)
{
    struct giver *g = ctx;

    (void)size;
    g->guids[g->nguids++] = *guid;
    return g->nguids < GUIDS_PER_QUESTION;
}

static enum errcode
add_lost(void *ctx, const struct guid *guid, struct error *err)
{
    (void)err;
    store_damage_find(((struct giver *)ctx)->store, guid);
    add_message(ctx, LOGMSG_SEED_LOST, span_of(guid->b, GUID_BYTES));
    return ERR_OK;
}

static enum errcode
step_ask(struct giver *g, struct error *err)
{
    g->nguids = 0;
    enum errcode rc = seed_each_guid(g->snap, g->has_last ? &g->last : NULL,
                                     collect_guid, g, err);
    if (rc != ERR_OK)
        return rc;
    if (g->nguids == 0) {
        rc = seed_each_missing(g->snap, add_lost, g, err);
        if (rc != ERR_OK)
            return rc;
        add_message(g, LOGMSG_SEED_SYNC, SPAN_EMPTY);
        g->state = GIVE_SYNCING;
        return ERR_OK;
    }
    g->last = g->guids[g->nguids - 1];
    g->has_last = true;
    g->at = 0;
    g->part = 0;
    add_message(g, LOGMSG_SEED_GUIDS,
                span_of(g->guids, g->nguids * sizeof(*g->guids)));
    g->state = GIVE_ASKED;
    return ERR_OK;
}

/*
 * The body is damaged here.  Another twin may have it, and is asked by now; so
 * a moment's patience, for the first few: what is still damaged then is not
 * worth a seed that never ends, and is told to who is seeded.
 */
static enum errcode
read_after_repair(struct giver *g, const struct guid *guid,
                  struct body_loc *ret_loc, struct buf *ret, struct error *err)
{
    store_damage_find(g->store, guid);
    if (g->waits < REPAIR_WAITS) {
        g->waits++;
        if (!store_damage_wait(g->store, guid, REPAIR_WAIT_MS))
            return err->code;
    }
    buf_clear(ret);
    return seed_read_part(g->store, g->snap, guid, g->part, ret_loc, ret, err);
}

static enum errcode
add_part(struct giver *g, const struct guid *guid, uint32_t *ret_parts,
         struct error *err)
{
    AUTO(buf_free) struct buf payload = BUF_INIT;
    AUTO(buf_free) struct buf stored = BUF_INIT;
    struct body_loc loc;

    enum errcode rc =
        seed_read_part(g->store, g->snap, guid, g->part, &loc, &stored, err);
    if (rc == ERR_CORRUPT || rc == ERR_NOTFOUND)
        rc = read_after_repair(g, guid, &loc, &stored, err);
    if (rc == ERR_CORRUPT || rc == ERR_NOTFOUND) {
        add_message(g, LOGMSG_SEED_LOST, span_of(guid->b, GUID_BYTES));
        *ret_parts = 0; /* its other parts are of no use */
        return ERR_OK;
    }
    if (rc != ERR_OK)
        return rc;
    logpart_encode(guid, &loc, buf_span(&stored), &payload);
    add_message(g, LOGMSG_SEED_PART, buf_span(&payload));
    *ret_parts = loc.parts;
    return ERR_OK;
}

static enum errcode
step_bodies(struct giver *g, struct error *err)
{
    while (g->at < g->nguids && g->out.n < STEP_BYTES) {
        uint32_t parts = 1;
        if ((g->missing.p[g->at / 8] & 1U << (g->at % 8)) != 0) {
            enum errcode rc = add_part(g, &g->guids[g->at], &parts, err);
            if (rc != ERR_OK)
                return rc;
        }
        if (++g->part >= parts) {
            g->part = 0;
            g->at++;
        }
    }
    if (g->at == g->nguids)
        g->state = GIVE_ASK;
    return ERR_OK;
}

struct row_walk {
    struct giver *g;
    struct buf payload;
    bool first; /* the row that was sent last comes again: leave it out */
};

static bool
add_row(void *ctx, struct span key, struct span value)
{
    struct row_walk *w = ctx;

    if (w->first && span_eq(key, buf_span(&w->g->row_key))) {
        w->first = false;
        return true;
    }
    w->first = false;
    buf_add_blob(&w->payload, key);
    buf_add_blob(&w->payload, value);
    if (w->payload.n < STEP_BYTES)
        return true;
    buf_clear(&w->g->row_key);
    buf_add(&w->g->row_key, key);
    w->g->rows_end = false;
    return false;
}

static enum errcode
step_rows(struct giver *g, struct error *err)
{
    struct row_walk w = {.g = g, .first = g->row_key.n > 0};

    g->rows_end = true;
    enum errcode rc =
        snap_each_row(g->snap, buf_span(&g->row_key), add_row, &w, err);
    if (rc == ERR_OK) {
        if (w.payload.n > 0 && g->squeezer != NULL)
            squeezer_add(g->squeezer, LOGMSG_SEED_ROWS, buf_span(&w.payload),
                         &g->out);
        else if (w.payload.n > 0)
            add_message(g, LOGMSG_SEED_ROWS, buf_span(&w.payload));
        if (g->rows_end) {
            AUTO(buf_free) struct buf payload = BUF_INIT;
            struct store_pos pos = snap_pos(g->snap);
            store_pos_encode(&pos, &payload);
            add_message(g, LOGMSG_SEED_FINISH, buf_span(&payload));
            g->state = GIVE_FINISHING;
        }
    }
    buf_free(&w.payload);
    return rc;
}

static enum errcode
step(struct giver *g, struct error *err)
{
    switch (g->state) {
    case GIVE_TOTALS:
        return step_totals(g, err);
    case GIVE_ASK:
        return step_ask(g, err);
    case GIVE_BODIES:
        return step_bodies(g, err);
    case GIVE_ROWS:
        return step_rows(g, err);
    case GIVE_ASKED:
    case GIVE_SYNCING:
    case GIVE_FINISHING:
    case GIVE_DONE:
        break;
    }
    return ERR_OK;
}

/* ---- on the reactor ---------------------------------------------------- */

static bool
waits_for_answer(const struct giver *g)
{
    return g->state == GIVE_ASKED || g->state == GIVE_SYNCING ||
           g->state == GIVE_FINISHING || g->state == GIVE_DONE;
}

static void
work_step(struct csync_session *s)
{
    struct giver *g = s->giver;

    buf_clear(&g->out);
    while (s->work_code == ERR_OK && !waits_for_answer(g) &&
           g->out.n < STEP_BYTES)
        s->work_code = step(g, &s->work_err);
}

static void
after_step(struct csync_session *s)
{
    struct giver *g = s->giver;

    if (s->work_code != ERR_OK) {
        session_fail(s, s->work_code, &s->work_err);
        return;
    }
    conn_write(s->conn, buf_span(&g->out));
    if (!waits_for_answer(g) && !conn_output_is_full(s->conn))
        session_offload(s, work_step, after_step);
}

void
give_drained(struct csync_session *s)
{
    if (s->jobs == 0 && !waits_for_answer(s->giver))
        session_offload(s, work_step, after_step);
}

void
give_begin(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);
    struct giver *g = xcalloc(1, sizeof(*g));

    g->store = i->store(i->ctx);
    /* What its rows name has to be there until it is given. */
    store_keep_garbage(g->store);
    g->snap = store_snapshot(g->store);
    g->guids = xcalloc(GUIDS_PER_QUESTION, sizeof(*g->guids));
    uint64_t zstd = 0;
    if (s->args != NULL && dlist_get_u64(s->args, "ZSTD", &zstd) && zstd != 0)
        g->squeezer = squeezer_new();
    s->giver = g;
    s->phase = PHASE_GIVE_SEED;
    conn_write_str(s->conn, "OK here it comes\r\n");
    session_offload(s, work_step, after_step);
}

enum errcode
give_message(struct csync_session *s, const struct logmsg *m, struct error *err)
{
    struct giver *g = s->giver;

    if (m->type == LOGMSG_SEED_MISSING && g->state == GIVE_ASKED &&
        m->payload.n == (g->nguids + 7) / 8) {
        buf_clear(&g->missing);
        buf_add(&g->missing, m->payload);
        g->state = GIVE_BODIES;
    } else if (m->type == LOGMSG_SEED_SYNCED && g->state == GIVE_SYNCING) {
        session_send(s, LOGMSG_SEED_BEGIN, SPAN_EMPTY);
        g->state = GIVE_ROWS;
    } else if (m->type == LOGMSG_SEED_DONE && g->state == GIVE_FINISHING) {
        g->state = GIVE_DONE;
        conn_close_after_flush(s->conn);
        return ERR_OK;
    } else {
        return error_set(err, ERR_PROTO, "message %u was not expected",
                         m->type);
    }
    session_offload(s, work_step, after_step);
    return ERR_OK;
}

void
give_end(struct csync_session *s)
{
    struct giver *g = s->giver;

    if (g == NULL)
        return;
    if (g->snap != NULL)
        store_drop_garbage(g->store);
    store_release(&g->snap);
    buf_free(&g->out);
    buf_free(&g->missing);
    buf_free(&g->row_key);
    squeezer_free(&g->squeezer);
    free(g->guids);
    free(g);
    s->giver = NULL;
}
