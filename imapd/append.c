/*
 * imapd/append.c - APPEND (RFC 3501, 6.3.11; RFC 3502, 4315, 4469, 6855) and
 * REPLACE (RFC 8508).
 *
 * Everything that can be refused is refused before the client sends the
 * message, or while it is thrown away.  A message goes into a struct body as it
 * comes; putting together, hashing, compressing and taking it apart happen on a
 * worker when it is large, so that the writer has nothing left to do but to
 * write.  All messages of a command, and the expunge of REPLACE, are one
 * transaction: all of it happens, or nothing.
 *
 * Memory: a body keeps up to 1 MiB of its own before it spills; so the messages
 * of one command behind the first have a limit together (MORE_BYTES_MAX).
 */
#include "imapd/annotate.h"
#include "imapd/notify.h"

#include <stdlib.h>

#include "mime/message.h"

/* Larger ones are finished on a worker. */
#define INLINE_BYTES 131072U
/* All messages behind the first one of a command. */
#define MORE_BYTES_MAX (UINT64_C(64) << 20)

void
append_drop(struct imap_session *s)
{
    struct append_job *job = s->append;

    if (job == NULL)
        return;
    for (size_t i = 0; i < job->n; i++) {
        body_free(&job->msgs[i].body);
        body_free(&job->msgs[i].joined);
        body_free(&job->msgs[i].encoded);
        buf_free(&job->msgs[i].cache);
    }
    free(job->msgs);
    free(job);
    s->append = NULL;
}

/* ---- as it comes ------------------------------------------------------- */

/* The mailbox that the messages are for, and the right to put them there. */
static bool
append_target(struct imap_session *s, struct span name, struct append_job *ret)
{
    struct error err = {0};
    struct mailbox mb;
    const char *internal = internal_name(s, name);

    if (internal == NULL)
        return false;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    enum errcode rc =
        snap_mailbox_by_name(snap, internal, &s->arena, &mb, &err);
    if (rc == ERR_OK) {
        ret->id = mb.id;
        ret->rights = rights_of(s, &mb);
        ret->own_seen = mailbox_has_own_seen(&mb, s->user);
        if ((ret->rights & ACL_LOOKUP) == 0)
            rc = error_set(&err, ERR_NOTFOUND, "not to be seen");
        else if ((ret->rights & ACL_INSERT) == 0)
            rc = error_set(&err, ERR_DENIED, "no right to insert");
    }
    ret->has_target = rc == ERR_OK;
    if (rc != ERR_OK)
        reply_error_try(s, &err);
    return rc == ERR_OK;
}

/* NAME becomes the target of a command that begins.  False: the reply is set.
 */
static bool
append_open(struct imap_session *s, struct span name)
{
    struct append_job job = {0};

    if (s->append != NULL)
        return true;
    if (refuse_on_replica(s) || !append_target(s, name, &job))
        return false;
    s->append = xcalloc(1, sizeof(*s->append));
    *s->append = job;
    return true;
}

/* The N-th message, from 1, and those before it, which may have no literals. */
static struct append_msg *
append_msg(struct append_job *job, size_t n)
{
    while (job->n < n) {
        if (job->n == job->cap) {
            job->cap = job->cap == 0 ? 1 : job->cap * 2;
            job->msgs = xrealloc(job->msgs, job->cap * sizeof(job->msgs[0]));
        }
        job->msgs[job->n++] = (struct append_msg){0};
    }
    return &job->msgs[n - 1];
}

/* False: the reply is set. */
static bool
check_bytes(struct imap_session *s, const struct imap_command *head)
{
    const struct append_job *job = s->append;
    const uint64_t first = job->n > 0 ? job->msgs[0].bytes : 0;
    uint64_t so_far =
        job->n < head->nappends ? 0 : job->msgs[head->nappends - 1].bytes;

    if (head->literal_bytes > s->opt->message_bytes_max - so_far) {
        reply(s, "NO [TOOBIG] Message too large");
        return false;
    }
    if (s->opt->message_limit > 0 && head->nappends > s->opt->message_limit) {
        reply(s, "NO [MESSAGELIMIT %" PRIu32 "] Too many messages",
              s->opt->message_limit);
        return false;
    }
    if (head->nappends > 1 &&
        job->bytes - first + head->literal_bytes > MORE_BYTES_MAX) {
        reply(s, "NO [LIMIT] Too much for one command");
        return false;
    }
    /* RFC 3502, 6: cancels. */
    if (head->literal_bytes == 0 && !head->last_append->is_catenate) {
        reply(s, "NO Message is empty");
        return false;
    }
    return true;
}

bool
append_begin(struct imap_session *s, const struct imap_command *head)
{
    if (s->state != STATE_SELECTED &&
        (s->state != STATE_AUTH || head->cmd == CMD_REPLACE)) {
        reply(s, s->state == STATE_AUTH ? "BAD Please select a mailbox first"
                                        : "BAD Please login first");
        return false;
    }
    if (!append_open(s, head->name) || !check_bytes(s, head)) {
        append_drop(s);
        return false;
    }
    struct append_msg *msg = append_msg(s->append, head->nappends);
    if (msg->body == NULL)
        msg->body = store_body_new(s->store, s->opt->message_bytes_max);
    msg->bytes += head->literal_bytes;
    s->append->binary = head->last_append->is_binary;
    s->append->bytes += head->literal_bytes;
    return true;
}

void
append_chunk(struct imap_session *s, struct span bytes)
{
    struct append_job *job = s->append;

    /* A full disk is told when the message is through. */
    if (job->err.code != ERR_OK)
        return;
    const bool has_nul = span_find_byte(bytes, 0, 0) >= 0;
    job->msgs[job->n - 1].has_nul |= has_nul;
    if (has_nul && !job->binary) /* RFC 3501, 4.3.1 */
        error_set(&job->err, ERR_SYNTAX, "NUL in message");
    else if (body_write(job->msgs[job->n - 1].body, bytes, &job->err) != ERR_OK)
        return;
}

/* ---- all of it is here ------------------------------------------------- */

/* RFC 3516, 4.4: of BODY comes another one, without NUL. */
static void
encode_binary(struct imap_session *s, struct append_msg *msg,
              const struct body *body)
{
    struct append_job *job = s->append;
    struct mime_message *parsed = NULL;
    enum errcode rc;

    mime_parse(body_raw(body), NULL, &parsed);
    mime_cache_encode(parsed, &msg->cache);
    mime_message_free(&parsed);
    msg->encoded = store_body_new(s->store, s->opt->message_bytes_max);
    if (!binary_convert(body_raw(body), buf_span(&msg->cache), msg->encoded,
                        &rc, &job->err)) {
        error_set(&job->err, ERR_UNSUPPORTED, "NUL where it cannot be kept");
        job->why = "NO [UNKNOWN-CTE] NUL outside of a binary part";
    } else if (rc == ERR_LIMIT) {
        job->why = "NO [TOOBIG] Message too large in base64";
    } else if (rc == ERR_OK) {
        /* It says itself what went wrong. */
        (void)!body_finish(msg->encoded, &job->err);
    }
    buf_clear(&msg->cache);
}

static void
finish_one(struct imap_session *s, const struct imap_append *how,
           struct append_msg *msg)
{
    struct append_job *job = s->append;
    struct mime_message *parsed = NULL;

    if (how->is_catenate && !catenate(s, job, how, msg))
        return;
    struct body *body = how->is_catenate ? msg->joined : msg->body;
    if (body_finish(body, &job->err) != ERR_OK)
        return;
    if (msg->has_nul) {
        encode_binary(s, msg, body);
        if (job->err.code != ERR_OK)
            return;
        body = msg->encoded;
    }
    /* One message, which is not looked into: while the writer is at work. */
    if (job->is_late)
        return;
    mime_parse(body_raw(body), NULL, &parsed);
    mime_cache_encode(parsed, &msg->cache);
    mime_message_free(&parsed);
}

static void
finish_work(void *arg)
{
    struct imap_session *s = arg;
    struct append_job *job = s->append;
    size_t i = 0;

    for (const struct imap_append *how = s->cmd->append;
         how != NULL && job->err.code == ERR_OK; how = how->next)
        finish_one(s, how, &job->msgs[i++]);
}

/* The messages are there; that \Seen could not be set does not take it back. */
static enum run
appended_seen(struct imap_session *s)
{
    (void)s;
    return RUN_DONE;
}

/* What the session knows of the mailbox after the messages' bodies are gone. */
struct appended_job {
    mbid_t id;
    size_t first;     /* operation of the first message */
    size_t n;         /* of them */
    const bool *seen; /* \Seen, which is kept apart, was asked for */
    bool annotated;
    bool tells_uids;  /* RFC 9051, 6.3.12: to who may read them */
    struct span left; /* a derived record that came too late for the writer */
};

static enum run
appended(struct imap_session *s)
{
    const struct appended_job *job = s->job;
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(uidset_free) struct uidset seen = UIDSET_INIT;
    AUTO(buf_free) struct buf text = BUF_INIT;
    uint32_t uidvalidity = 0;

    if (txn_code(s->txn) == ERR_LIMIT && job->annotated)
        return reply(s, "NO [ANNOTATE TOOMANY] Too many annotations");
    if (txn_code(s->txn) != ERR_OK)
        return reply_error_try(s, txn_error(s->txn));
    for (size_t i = 0; i < job->n; i++) {
        const struct txn_result *res = txn_result(s->txn, job->first + i);
        uidset_add_set(&uids, &res->uids);
        uidvalidity = res->uidvalidity;
        if (job->seen[i])
            uidset_add_set(&seen, &res->uids);
    }
    if (job->left.n > 0)
        store_cache_put(s->store, job->id, uids.r[0].first, job->left);
    notify_own(s, job->id, &uids);
    buf_addf(&text, "OK [APPENDUID %" PRIu32 " ", uidvalidity);
    uidset_format(&uids, &text);
    if (!job->tells_uids) {
        reply(s, "OK Completed");
    } else if (s->cmd->cmd == CMD_REPLACE) { /* RFC 8508, 3.2 */
        buf_addf(&s->out, "* %s] Replacement is there\r\n", buf_cstr(&text));
        reply(s, "OK Completed");
    } else {
        buf_add_str(&text, "] Completed");
        s->reply = arena_str(&s->arena, buf_span(&text));
    }
    if (seen.n == 0)
        return RUN_DONE;
    struct store_txn *txn = txn_new();
    txn_seen(txn, job->id, s->user, &seen, true);
    return submit(s, txn, appended_seen);
}

/* RFC 4314, 4: flags that the user may not set are left out. */
static uint32_t
allowed_flags(uint32_t flags, uint32_t rights)
{
    if ((rights & ACL_SEEN) == 0)
        flags &= ~(uint32_t)FLAG_SEEN;
    if ((rights & ACL_DELETEMSG) == 0)
        flags &= ~(uint32_t)FLAG_DELETED;
    if ((rights & ACL_WRITE) == 0)
        flags &= FLAG_SEEN | FLAG_DELETED;
    return flags;
}

/* Into TXN; was a \Seen asked for that has its own place? */
static bool
add_append(struct imap_session *s, struct store_txn *txn,
           const struct imap_append *how, const struct append_msg *from)
{
    const struct append_job *job = s->append;
    uint32_t flags = allowed_flags(how->flags.flags, job->rights);
    size_t nannots = 0;
    const struct txn_append_annot *annots = annots_of_append(s, how, &nannots);
    const bool seen = job->own_seen && (flags & FLAG_SEEN) != 0;

    if (job->own_seen)
        flags &= ~(uint32_t)FLAG_SEEN;
    const struct txn_append msg = {
        .id = job->id,
        .body = from->encoded != NULL ? from->encoded
                : how->is_catenate    ? from->joined
                                      : from->body,
        .flags = flags,
        .keywords = how->flags.keywords,
        .nkeywords = (job->rights & ACL_WRITE) != 0 ? how->flags.nkeywords : 0,
        .internal_s = how->has_date
                          ? how->date_s
                          : (int64_t)(env_wall_us(s->opt->env) / 1000000),
        .internal_tz_min = (int16_t)how->date_zone_min,
        .cache = buf_span(&from->cache),
        .cache_is_late = job->is_late,
        .annots = annots,
        .nannots = nannots,
        .check_quota = true,
    };
    txn_append(txn, &msg);
    return seen;
}

/*
 * TXN is on its way: what is derived from its one message, BODY, is made while
 * the disk is at work.  What TXN calls at its end comes to this thread, so TXN
 * is there as long as this runs.
 */
static void
bring_cache(struct imap_session *s, struct store_txn *txn,
            struct appended_job *after, struct body *body)
{
    AUTO(buf_free) struct buf record = BUF_INIT;
    struct mime_message *parsed = NULL;

    mime_parse(body_raw(body), NULL, &parsed);
    mime_cache_encode(parsed, &record);
    mime_message_free(&parsed);
    const struct span kept = arena_copy(&s->arena, buf_span(&record));
    if (!txn_bring_cache(txn, after->first, kept))
        after->left = kept;
}

static enum run
append_commit(struct imap_session *s)
{
    struct append_job *job = s->append;
    struct appended_job *after = arena_alloc(&s->arena, sizeof(*after));
    bool *seen = arena_array(&s->arena, s->cmd->nappends, sizeof(*seen));

    if (job->err.code != ERR_OK && job->why != NULL)
        return reply(s, "%s", job->why);
    if (job->err.code != ERR_OK)
        return reply_error(s, &job->err);
    size_t k = 0;
    for (const struct imap_append *a = s->cmd->append; a != NULL; a = a->next) {
        if (!annot_parts_exist(a->annots, a->nannots,
                               buf_span(&job->msgs[k++].cache)))
            return reply(s, "BAD There is no such part");
        after->annotated |= a->nannots > 0;
    }
    struct store_txn *txn = txn_new();
    if (job->replaced != 0) {
        /* In front, so that quota counts what is left (RFC 8508, 3.4). */
        AUTO(uidset_free) struct uidset old = UIDSET_INIT;
        uidset_add(&old, job->replaced, job->replaced);
        txn_expunge(txn, s->sel->id, &old, false);
        after->first = 1;
    }
    const struct imap_append *how = s->cmd->append;
    for (size_t i = 0; how != NULL; how = how->next, i++)
        seen[i] = add_append(s, txn, how, &job->msgs[i]);
    after->id = job->id;
    after->tells_uids = (job->rights & ACL_READ) != 0;
    after->n = s->cmd->nappends;
    after->seen = seen;
    s->job = after;
    struct body *body = job->is_late ? body_ref(job->msgs[0].body) : NULL;
    append_drop(s);
    const enum run run = submit(s, txn, appended);
    if (body != NULL)
        bring_cache(s, txn, after, body);
    body_free(&body);
    return run;
}

/* RFC 8508, 3.4 and 4.1.  False: the reply is set. */
static bool
find_replaced(struct imap_session *s, uint32_t *ret)
{
    const uint32_t need = ACL_DELETEMSG | ACL_EXPUNGE;
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    struct message msg;
    struct error err = {0};

    if (s->sel->readonly) {
        reply(s, "NO Mailbox is read-only");
        return false;
    }
    if ((s->sel->rights & need) != need) {
        reply(s, "NO [NOPERM] Permission denied");
        return false;
    }
    if (!resolve_set(s, s->cmd->set, s->cmd->uid, &uids))
        return false;
    *ret = uidset_next(&uids, 1);
    if (*ret == 0) {
        reply(s, "NO [NONEXISTENT] There is no such message");
        return false;
    }
    if (snap_message(snap, s->sel->id, *ret, &s->arena, &msg, &err) == ERR_OK &&
        (msg.flags & FLAG_EXPUNGED) == 0)
        return true;
    reply(s, "NO [EXPUNGEISSUED] The message is gone");
    return false;
}

enum run
cmd_append(struct imap_session *s)
{
    bool dear = false;
    bool plain = true; /* nothing has to be known of what is inside */

    if (!append_open(s, s->cmd->name)) /* only URLs: nothing came before */
        return RUN_DONE;
    struct append_job *job = s->append;
    append_msg(job, s->cmd->nappends);
    size_t i = 0;
    for (const struct imap_append *how = s->cmd->append; how != NULL;
         how = how->next, i++) {
        dear |= how->is_catenate;
        plain &=
            !how->is_catenate && how->nannots == 0 && !job->msgs[i].has_nul;
        if (!check_annot_sets(s, how->annots, how->nannots, job->rights))
            return RUN_DONE;
        if (!how->is_catenate && job->msgs[i].body == NULL)
            return reply(s, "BAD Missing message literal");
    }
    if (s->cmd->cmd == CMD_REPLACE && !find_replaced(s, &job->replaced))
        return RUN_DONE;
    if (job->err.code == ERR_SYNTAX)
        return reply(s, "NO Message contains NUL characters");
    if (job->err.code != ERR_OK)
        return reply_error(s, &job->err);
    if (dear || job->bytes > INLINE_BYTES)
        return run_work(s, finish_work, append_commit);
    job->is_late = plain && s->cmd->nappends == 1;
    finish_work(s);
    return append_commit(s);
}
