/*
 * csync/verbs.c - what LOG, NODE and ADMIN are asked for: a table of verbs,
 * each with what runs on a worker and what answers here.
 */
#include "csync/session.h"

static void
print_status(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct logstatus status = {0};

    i->status(i->ctx, &s->arena, &status);
    buf_add_str(&out, "* ");
    logstatus_print(&status, DLIST_SERVER, &out);
    buf_add_str(&out, "\r\nOK success\r\n");
    conn_write(s->conn, buf_span(&out));
}

static void
answer_status(struct csync_session *s)
{
    if (s->work_code != ERR_OK)
        session_refuse(s, s->work_code, &s->work_err);
    else
        print_status(s);
}

static void
answer_plain(struct csync_session *s)
{
    if (s->work_code != ERR_OK) {
        session_refuse(s, s->work_code, &s->work_err);
        return;
    }
    conn_write(s->conn, buf_span(&s->work_out));
    conn_write_str(s->conn, "OK success\r\n");
}

enum errcode
session_missing(struct csync_session *s, const char *key)
{
    return error_set(&s->work_err, ERR_PROTO, "%.*s without a usable %s",
                     SPAN_FMT(s->verb), key);
}

static void
work_prepare(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);
    uint32_t epoch = 0;
    uint64_t token = 0;

    if (!dlist_get_u32(s->args, "EPOCH", &epoch)) {
        s->work_code = session_missing(s, "EPOCH");
        return;
    }
    s->work_code = i->prepare(i->ctx, epoch, &token, &s->work_err);
    if (s->work_code == ERR_OK)
        buf_addf(&s->work_out, "* LOGPREPARED %%(TOKEN %016" PRIx64 ")\r\n",
                 token);
}

static void
work_handover(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);
    struct store_pos at = {0};
    uint64_t token = 0;
    uint32_t epoch = 0;

    if (!dlist_get_hex64(s->args, "TOKEN", &token))
        s->work_code = session_missing(s, "TOKEN");
    else if (!dlist_get_u32(s->args, "EPOCH", &epoch))
        s->work_code = session_missing(s, "EPOCH");
    else if (!dlist_get_u64(s->args, "LSN", &at.applied.lsn))
        s->work_code = session_missing(s, "LSN");
    else if (!dlist_get_hex64(s->args, "CHAIN", &at.chain))
        s->work_code = session_missing(s, "CHAIN");
    else if (!dlist_get_hex64(s->args, "DIGEST", &at.digest))
        s->work_code = session_missing(s, "DIGEST");
    else
        s->work_code = i->handover(i->ctx, token, epoch, &at, &s->work_err);
}

static void
work_cancel(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);
    uint64_t token = 0;

    if (!dlist_get_hex64(s->args, "TOKEN", &token))
        s->work_code = session_missing(s, "TOKEN");
    else
        s->work_code = i->cancel(i->ctx, token, &s->work_err);
}

static void
work_node(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);

    s->work_code =
        i->node(i->ctx, s->verb, s->args, &s->work_out, &s->work_err);
}

static void
log_digest(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);
    struct store *store = i->store(i->ctx);
    struct error err = {0};
    uint64_t digest = 0;
    uint64_t lsn = 0;

    if (s->args == NULL || s->args->type != DLIST_ATOM ||
        !parse_u64(s->args->text, &lsn)) {
        conn_write_str(s->conn, "NO IMAP_PROTOCOL_BAD_PARAMETERS LSN\r\n");
        return;
    }
    struct store_pos pos = store_pos(store);
    if (lsn == pos.applied.lsn)
        digest = pos.digest;
    else if (!store_digest_at(store, lsn, &digest)) {
        error_set(&err, ERR_GAP, "the digest at %" PRIu64 " is not known", lsn);
        session_refuse(s, ERR_GAP, &err);
        return;
    }
    conn_writef(s->conn,
                "* LOGDIGEST %%(LSN %" PRIu64 " DIGEST %016" PRIx64
                ")\r\nOK success\r\n",
                lsn, digest);
}

static const struct {
    const char *verb;
    void (*work)(struct csync_session *s);  /* on a worker; NULL: none */
    void (*after)(struct csync_session *s); /* here */
    bool control_only;
} log_verbs[] = {
    {"STATUS", NULL, print_status, false},
    {"DIGEST", NULL, log_digest, false},
    {"OPEN", follow_work_open, answer_status, false},
    {"STREAM", follow_work_stream, follow_begin_stream, false},
    {"SEED", follow_work_seed, follow_begin_seed, false},
    {"RESEED", follow_work_reseed, answer_plain, false},
    {"PREPARE", work_prepare, answer_plain, false},
    {"HANDOVER", work_handover, answer_status, false},
    {"CANCEL", work_cancel, answer_plain, false},
    {"EXPORT", NULL, give_begin, true},
    {"LEND", lend_work, lend_begin, false},
    {"USERS", tree_work_users, answer_plain, false},
    {"MAILBOXES", tree_work_mailboxes, answer_plain, false},
    {"ROWS", tree_work_rows, answer_plain, false},
};

void
session_cmd_log(struct csync_session *s)
{
    for (size_t i = 0; i < ARRAY_LEN(log_verbs); i++) {
        if (!span_eq_nocase_str(s->verb, log_verbs[i].verb))
            continue;
        if (log_verbs[i].control_only && !session_options(s)->is_control)
            break;
        if (log_verbs[i].work == NULL)
            log_verbs[i].after(s);
        else
            session_offload(s, log_verbs[i].work, log_verbs[i].after);
        return;
    }
    conn_write_str(s->conn, "NO IMAP_PROTOCOL_ERROR Protocol error\r\n");
}

void
session_cmd_node(struct csync_session *s)
{
    session_offload(s, work_node, answer_plain);
}

void
session_cmd_admin(struct csync_session *s)
{
    request_begin(s);
}
