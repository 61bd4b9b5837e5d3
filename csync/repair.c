/*
 * csync/repair.c - asking a twin for what is damaged here: one question, one
 * answer, blocking.
 */
#include "csync/repair.h"

#include <stdlib.h>

struct lender {
    struct csync_client *client;
    struct bclient *conn;
    int timeout_ms;
    struct buf answer; /* payload of the last one */
};

enum errcode
lender_open(const struct csync_target *target, const struct config *cfg,
            const struct instid *cluster, struct lender **ret,
            struct error *err)
{
    struct csync_client *client = NULL;
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct dlist_printer p;

    enum errcode rc = csync_connect(target, cfg, &client, err);
    if (rc == ERR_OK && !csync_client_has_log(client))
        rc = error_set(err, ERR_UNSUPPORTED,
                       "%s does not speak POLLUX-LOG: not a Pollux",
                       target->host);
    if (rc == ERR_OK) {
        buf_add_str(&line, "LOG ");
        dlist_print_begin(&p, &line, DLIST_CLIENT);
        dlist_open_kv(&p, "LEND");
        dlist_instid(&p, "CLUSTER", cluster);
        dlist_close(&p);
        rc = csync_command(client, buf_span(&line), NULL, NULL, err);
        if (rc == ERR_PROTO)
            rc = error_set(err, ERR_UNSUPPORTED,
                           "%s is a Pollux that does not lend yet: upgrade it",
                           target->host);
    }
    if (rc != ERR_OK) {
        csync_client_close(&client);
        return rc;
    }
    struct lender *l = xcalloc(1, sizeof(*l));
    l->client = client;
    l->conn = csync_client_conn(client);
    l->timeout_ms = target->timeout_ms;
    *ret = l;
    return ERR_OK;
}

void
lender_close(struct lender **pl)
{
    struct lender *l = *pl;

    *pl = NULL;
    if (l == NULL)
        return;
    csync_client_close(&l->client);
    buf_free(&l->answer);
    free(l);
}

/* The payload of an answer of type WANTED is in l->answer afterwards. */
static enum errcode
ask(struct lender *l, const struct lend_request *q, uint8_t wanted,
    struct error *err)
{
    AUTO(buf_free) struct buf payload = BUF_INIT;
    AUTO(buf_free) struct buf out = BUF_INIT;
    uint8_t header[LOGMSG_HEADER_BYTES];
    struct logmsg m;
    size_t used;

    lend_request_encode(q, &payload);
    logmsg_header(q->wants_frames ? LOGMSG_GET_FRAMES : LOGMSG_GET_PART,
                  (uint32_t)payload.n, header);
    buf_add(&out, span_of(header, sizeof(header)));
    buf_add(&out, buf_span(&payload));
    enum errcode rc =
        bclient_write(l->conn, buf_span(&out), l->timeout_ms, err);

    buf_clear(&l->answer);
    uint8_t *to = buf_reserve(&l->answer, LOGMSG_HEADER_BYTES);
    if (rc == ERR_OK)
        rc = bclient_read_exact(l->conn, to, LOGMSG_HEADER_BYTES, l->timeout_ms,
                                err);
    if (rc != ERR_OK)
        return rc;
    l->answer.n = LOGMSG_HEADER_BYTES;
    if (logmsg_parse(buf_span(&l->answer), &m, &used) == PARSE_BAD)
        return error_set(err, ERR_PROTO, "the twin answered nonsense");
    struct rd r = rd_init(buf_span(&l->answer));
    const uint32_t n = rd_u32le(&r); /* within its limit, as was just seen */
    const uint8_t type = rd_u8(&r);
    l->answer.n = 0;
    to = buf_reserve(&l->answer, n);
    rc = n == 0 ? ERR_OK
                : bclient_read_exact(l->conn, to, n, l->timeout_ms, err);
    if (rc != ERR_OK)
        return rc;
    l->answer.n = n;
    if (type == wanted)
        return ERR_OK;
    if ((type == LOGMSG_LACKING || type == LOGMSG_ERROR) && n > 0) {
        const enum errcode code = (enum errcode)l->answer.p[0];
        return error_set(err,
                         type == LOGMSG_ERROR ? ERR_PROTO
                         : code == ERR_NOTFOUND || code == ERR_GAP ||
                                 code == ERR_CORRUPT
                             ? code
                             : ERR_AGAIN,
                         "the twin says: %.*s", (int)MIN(n - 1, 300U),
                         (const char *)l->answer.p + 1);
    }
    return error_set(err, ERR_PROTO, "the twin answered nonsense");
}

static enum errcode
fetch_body(struct lender *l, struct mend *mend, const struct guid *guid,
           struct error *err)
{
    struct lend_request q = {.guid = *guid};
    uint32_t parts = 1;

    for (q.part = 0; q.part < parts; q.part++) {
        struct span stored = SPAN_EMPTY;
        struct body_loc loc = {0};
        struct guid of;
        enum errcode rc = ask(l, &q, LOGMSG_PART, err);
        if (rc == ERR_CORRUPT)
            return error_set(err, ERR_NOTFOUND,
                             "the twin's copy is damaged too");
        if (rc == ERR_OK)
            rc = logpart_decode(buf_span(&l->answer), &of, &loc, &stored, err);
        if (rc == ERR_OK && (!guid_eq(&of, guid) || loc.part != q.part))
            rc = error_set(err, ERR_PROTO, "the twin sent another body");
        if (rc == ERR_OK)
            rc = mend_put_part(mend, &loc, stored, err);
        if (rc != ERR_OK)
            return rc;
        parts = loc.parts;
    }
    return mend_finish(mend, err);
}

enum errcode
lender_body(struct lender *l, struct store *store, const struct guid *guid,
            struct error *err)
{
    struct mend *mend = NULL;

    enum errcode rc = mend_open(store, guid, &mend, err);
    if (rc == ERR_OK)
        rc = fetch_body(l, mend, guid, err);
    mend_close(&mend);
    return rc;
}

enum errcode
lender_frames(struct lender *l, lsn_t after, lsn_t until, uint64_t *ret_chain,
              struct buf *ret, struct error *err)
{
    const struct lend_request q = {
        .wants_frames = true, .after = after, .until = until};

    enum errcode rc = ask(l, &q, LOGMSG_LENT_FRAMES, err);
    if (rc != ERR_OK)
        return rc;
    struct rd r = rd_init(buf_span(&l->answer));
    const uint64_t chain = rd_u64le(&r);
    if (r.bad || r.left.n == 0)
        return error_set(err, ERR_PROTO, "the twin lent no frames");
    *ret_chain = chain;
    buf_add(ret, r.left);
    return ERR_OK;
}
