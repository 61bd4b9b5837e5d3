/*
 * csync/ship_hear.c - what a replica says while it is shipped to.
 *
 * Why it hangs up stands behind acknowledgements, often in one piece with them
 * and with the end of the connection.  So what is here is looked at before how
 * reading went: the end counts only when nothing whole is left.
 */
#include "csync/ship_private.h"

/* Far more than any answer has. */
#define ANSWERS_BYTES ((size_t)65536)

static enum errcode
what_it_says(const struct logmsg *m, struct logack *ret, struct error *err)
{
    if (m->type == LOGMSG_ERROR && m->payload.n > 0 &&
        m->payload.p[0] != ERR_OK)
        return error_set(err, (enum errcode)m->payload.p[0],
                         "the replica says: %.*s",
                         (int)MIN(m->payload.n - 1, (size_t)400),
                         (const char *)m->payload.p + 1);
    struct logack ack;
    if (m->type == LOGMSG_ACK && logack_decode(m->payload, &ack)) {
        /* Commits may wait for this (sync_ack), and the log goes by it. */
        if (ack.durable > ack.received)
            return error_set(err, ERR_PROTO,
                             "the replica acknowledges %" PRI_LSN
                             " and has received %" PRI_LSN,
                             ack.durable, ack.received);
        *ret = ack;
        return ERR_OK;
    }
    return error_set(err, ERR_PROTO, "the replica answered nonsense");
}

enum errcode
ship_hear(struct bclient *conn, struct logack *ret, struct error *err)
{
    for (;;) {
        struct span in = SPAN_EMPTY;
        struct logmsg m;
        size_t used = 0;

        enum errcode rc = bclient_fill(conn, ANSWERS_BYTES, &in, err);
        enum parse parsed = logmsg_parse(in, &m, &used);
        if (parsed == PARSE_DONE) {
            rc = what_it_says(&m, ret, err);
            bclient_used(conn, used);
            return rc;
        }
        if (parsed == PARSE_BAD || in.n >= ANSWERS_BYTES)
            return error_set(err, ERR_PROTO, "the replica answered nonsense");
        if (rc != ERR_OK)
            return rc;
    }
}
