/*
 * lmtpd/transfer.c - DATA: a message streams into a struct body, and each
 * recipient gets an answer.
 *
 * The body begins with Return-Path and Received, which name no recipient: so
 * all recipients share one body, with one GUID.  What tells a second delivery
 * of the same message is the hash of what came from the client, without these
 * (an MTA's retry is the same to the byte, and our own lines are not).
 *
 * Whatever goes wrong while the message comes in is kept, the rest of it is
 * thrown away, and all recipients are told after the dot.
 */
#include "lmtpd/session_private.h"

#include <stdlib.h>

#include "mime/date.h"
#include "mime/message.h"

/* Larger ones are hashed, compressed and taken apart on a worker. */
#define INLINE_BYTES 131072U
#define TRACE_BYTES 256U /* most have no more */

void
transfer_drop(struct lmtp_session *s)
{
    struct transfer *t = s->transfer;

    if (t == NULL)
        return;
    body_free(&t->body);
    XXH3_freeState(t->hash);
    buf_free(&t->cache);
    free(t);
    s->transfer = NULL;
}

/* ---- bytes come -------------------------------------------------------- */

static void
write_body(struct transfer *t, struct span bytes)
{
    /* The first error stays; the rest of the message goes nowhere. */
    if (t->err.code != ERR_OK || body_write(t->body, bytes, &t->err) == ERR_OK)
        return;
}

static void
on_raw(void *ctx, struct span bytes)
{
    struct transfer *t = ctx;

    if (t->err.code == ERR_OK)
        XXH3_128bits_update(t->hash, bytes.p, bytes.n);
}

static void
on_kept(void *ctx, struct span bytes)
{
    write_body(ctx, bytes);
}

/* RFC 5321, 4.4; the protocol's name by RFC 3848 and RFC 6531, 4.3. */
static void
add_trace(struct lmtp_session *s, struct transfer *t)
{
    char date[MIME_RFC5322_DATE_BYTES];
    AUTO(buf_free) struct buf head = BUF_INIT;
    struct mime_date now = {.utc_s =
                                (int64_t)(env_wall_us(s->opt->env) / 1000000)};

    mime_date_format(now, date);
    const char *const texts[] = {
        "Return-Path: <",
        s->env.from,
        ">\r\nReceived: from ",
        s->lhlo,
        " (",
        s->peer.peer_name == NULL ? "local" : s->peer.peer_name,
        ")\r\n\tby ",
        s->opt->servername,
        " (Pollux " POLLUX_VERSION ") with ",
        s->env.utf8 ? "UTF8" : "",
        "LMTP",
        s->peer.tls_bits != 0 ? "S" : "",
        s->user != NULL ? "A" : "",
        ";\r\n\t",
        date,
        "\r\n",
    };
    (void)buf_reserve(&head, TRACE_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        buf_add_str(&head, texts[i]);
    write_body(t, buf_span(&head));
}

void
cmd_data(struct lmtp_session *s, struct span arg)
{
    if (arg.n > 0) {
        refuse(s, "501 5.5.4 DATA takes no parameter");
        return;
    }
    /* RFC 2033, 4.2 */
    if (!s->env.is_open || s->env.nrcpts == 0) {
        refuse(s, "503 5.5.1 No recipients");
        return;
    }
    struct transfer *t = xcalloc(1, sizeof(*t));
    t->body =
        s->w.backend->new_body(s->w.backend_ctx, s->opt->message_bytes_max);
    t->hash = XXH3_createState();
    ENSURE(t->hash != NULL);
    XXH3_128bits_reset(t->hash);
    s->transfer = t;
    add_trace(s, t);
    s->mode = MODE_DATA;
    lmtp_reply_text(s, "354 End data with <CR><LF>.<CR><LF>");
}

/* ---- the answers ------------------------------------------------------- */

static const char *
result_reply(const struct lmtp_session *s, enum errcode code)
{
    switch (code) {
    case ERR_OK:
    case ERR_EXISTS:
        return "250 2.1.5 Ok";
    case ERR_QUOTA:
        return s->opt->over_quota_permanent ? "552 5.2.2 Over quota"
                                            : "452 4.2.2 Over quota";
    case ERR_LIMIT:
        return "552 5.3.4 Message too big";
    case ERR_SYNTAX:
        return "554 5.6.0 Message contains NUL characters";
    case ERR_NOSPACE:
        return "452 4.3.1 No space left on the server";
    case ERR_READONLY:
        return "451 4.3.2 This server is a replica";
    case ERR_FENCED:
        return "451 4.3.2 This server takes no mail now";
    case ERR_CLOSED:
        return "451 4.3.2 The server is stopping";
    case ERR_TIMEOUT: /* sync_ack */
        return "452 4.3.0 The replica does not answer, try again later";
    case ERR_BADNAME:
        return "550 5.1.1 Unknown user";
    case ERR_NOTFOUND: /* it was there at RCPT */
    case ERR_CONFLICT:
        return "450 4.2.0 The mailbox has changed, try again";
    case ERR_AGAIN:
    case ERR_PROTO:
    case ERR_GAP:
    case ERR_CORRUPT:
    case ERR_IO:
    case ERR_AUTH:
    case ERR_DENIED:
    case ERR_HISTORY:
    case ERR_VERSION:
    case ERR_BUSY:
    case ERR_UNSUPPORTED:
        break;
    }
    return "451 4.3.0 Temporary failure";
}

static void
log_result(struct lmtp_session *s, const struct lmtp_rcpt *r)
{
    char guid[GUID_TEXT_BYTES] = "";
    const struct body *body = s->transfer->body;
    bool stored = r->result.code == ERR_OK;

    if (!stored && r->result.code != ERR_EXISTS) {
        atomic_fetch_add(&s->w.counters->refused, 1);
        /* A full disk the store tells itself, once. */
        log_line(&s->log,
                 r->result.code == ERR_NOSPACE ? LOG_LV_INFO : LOG_LV_NOTICE,
                 "lmtp.not_delivered",
                 "rcpt=\"%s\" mailbox=\"%s\" from=\"%s\" code=%s why=\"%s\"",
                 r->path, r->mailbox == NULL ? "" : r->mailbox, s->env.from,
                 errcode_name(r->result.code), r->result.text);
        return;
    }
    if (!stored) { /* the one that is there has a GUID of its own */
        atomic_fetch_add(&s->w.counters->duplicates, 1);
        log_info(&s->log, "lmtp.duplicate",
                 "rcpt=\"%s\" mailbox=\"%s\" uid=%" PRIu32 " from=\"%s\"",
                 r->path, r->mailbox, r->uid, s->env.from);
        return;
    }
    atomic_fetch_add(&s->w.counters->delivered, 1);
    log_info(&s->log, "lmtp.delivered",
             "rcpt=\"%s\" mailbox=\"%s\" guid=%s uid=%" PRIu32 " size=%" PRIu64
             " from=\"%s\"",
             r->path, r->mailbox, guid_text(body_guid(body), guid), r->uid,
             body_size(body), s->env.from);
}

/* RFC 2033, 4.2: one answer for each RCPT that was taken, in order. */
static void
answer(struct lmtp_session *s)
{
    bool taken = false, known = false;

    for (size_t i = 0; i < s->env.nrcpts; i++) {
        const struct lmtp_rcpt *r = &s->env.rcpts[i];
        log_result(s, r);
        lmtp_reply_text(s, result_reply(s, r->result.code));
        taken = taken || r->result.code == ERR_OK;
        known = known || r->result.code == ERR_EXISTS;
    }
    if (taken) {
        atomic_fetch_add(&s->w.counters->messages, 1);
        s->bad_commands = 0;
    }
    if (s->opt->commands != NULL)
        command_tally_add(&s->opt->commands[LMTP_DATA],
                          env_mono_ns(s->opt->env) - s->transfer->dot_ns,
                          !taken && !known);
    transfer_drop(s);
    envelope_reset(s);
    s->mode = MODE_COMMAND;
}

static void
answer_all(struct lmtp_session *s, const struct error *err)
{
    for (size_t i = 0; i < s->env.nrcpts; i++)
        s->env.rcpts[i].result = *err;
    answer(s);
}

/* ---- the message is here ----------------------------------------------- */

static void
delivered(void *arg)
{
    struct lmtp_session *s = arg;

    answer(s);
    if (lmtp_async_end(s))
        go_on(s);
}

/* The commit; its lmtp_async_begin() was made. */
static void
deliver(struct lmtp_session *s)
{
    struct transfer *t = s->transfer;
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(t->hash));
    t->delivery = (struct lmtp_delivery){
        .body = t->body,
        .cache = buf_span(&t->cache),
        .rcpts = s->env.rcpts,
        .nrcpts = s->env.nrcpts,
        .log = &s->log,
        .io = s->w.io,
        .io_ctx = s->w.io_ctx,
        .done = delivered,
        .arg = s,
    };
    memcpy(t->delivery.received_hash, canonical.digest,
           sizeof(t->delivery.received_hash));
    s->w.backend->deliver(s->w.backend_ctx, &t->delivery);
}

static void
finish_work(void *arg)
{
    struct transfer *t = arg;
    struct mime_message *msg = NULL;

    if (body_finish(t->body, &t->err) != ERR_OK)
        return;
    mime_parse(body_raw(t->body), NULL, &msg);
    mime_cache_encode(msg, &t->cache);
    mime_message_free(&msg);
}

static void
worked(void *arg)
{
    struct lmtp_session *s = ((struct transfer *)arg)->delivery.arg;

    if (s->transfer->err.code == ERR_OK && !s->dead) {
        deliver(s);
        return;
    }
    /* Nobody heard an answer, so nothing needs to be delivered. */
    if (s->dead && s->transfer->err.code == ERR_OK)
        error_set(&s->transfer->err, ERR_CLOSED, "the client is gone");
    answer_all(s, &s->transfer->err);
    if (lmtp_async_end(s))
        go_on(s);
}

static void
message_over(struct lmtp_session *s)
{
    struct transfer *t = s->transfer;

    t->dot_ns = env_mono_ns(s->opt->env);
    if (t->err.code == ERR_OK && t->data.has_nul)
        error_set(&t->err, ERR_SYNTAX, "NUL in the message");
    if (t->err.code == ERR_OK && body_size(t->body) <= INLINE_BYTES)
        finish_work(t);
    else if (t->err.code == ERR_OK) {
        t->delivery.arg = s;
        lmtp_async_begin(s);
        s->w.io->work(s->w.io_ctx, finish_work, worked, t);
        return;
    }
    if (t->err.code != ERR_OK) {
        answer_all(s, &t->err);
        return;
    }
    lmtp_async_begin(s);
    deliver(s);
}

size_t
transfer_input(struct lmtp_session *s, struct span in)
{
    struct transfer *t = s->transfer;
    bool end = false;
    size_t used = lmtp_data_take(&t->data, in, on_raw, on_kept, t, &end);

    if (end)
        message_over(s);
    return used;
}
