/*
 * imapd/append.c - APPEND (RFC 3501, 6.3.11; RFC 4315).
 *
 * Everything that can be refused is refused before the client sends the
 * message, or while it is thrown away.  The message goes into a struct body as
 * it comes; hashing, compressing and taking it apart happen on a worker when it
 * is large, so that the writer has nothing left to do but to write.
 */
#include "imapd/session_private.h"

#include <stdlib.h>

#include "mime/message.h"

/* Larger ones are finished on a worker. */
#define INLINE_BYTES 65536U

struct append_job {
    struct body *body;
    struct buf cache;
    struct error err; /* the first thing that went wrong */
    mbid_t id;
    uint32_t rights;
    bool own_seen; /* \Seen is kept apart for this user there */
};

void
append_drop(struct imap_session *s)
{
    struct append_job *job = s->append;

    if (job == NULL)
        return;
    body_free(&job->body);
    buf_free(&job->cache);
    free(job);
    s->append = NULL;
}

/* The mailbox that a message is for, and the right to put it there. */
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
    if (rc != ERR_OK)
        reply_error_try(s, &err);
    return rc == ERR_OK;
}

bool
append_begin(struct imap_session *s, const struct imap_command *head)
{
    struct append_job job = {0};

    if (s->state != STATE_AUTH && s->state != STATE_SELECTED) {
        reply(s, "BAD Please login first");
        return false;
    }
    if (s->append != NULL) {
        reply(s, "BAD One message only");
        return false;
    }
    if (head->literal_bytes > s->opt->message_bytes_max) {
        reply(s, "NO [TOOBIG] Message too large");
        return false;
    }
    if (head->literal_bytes == 0) { /* RFC 3502, 6: cancels */
        reply(s, "NO Message is empty");
        return false;
    }
    if (refuse_on_replica(s) || !append_target(s, head->name, &job))
        return false;
    s->append = xcalloc(1, sizeof(*s->append));
    *s->append = job;
    s->append->body = store_body_new(s->store, s->opt->message_bytes_max);
    return true;
}

void
append_chunk(struct imap_session *s, struct span bytes)
{
    struct append_job *job = s->append;

    /* A full disk is told when the message is through. */
    if (job->err.code != ERR_OK)
        return;
    if (span_find_byte(bytes, 0, 0) >= 0) /* RFC 3501, 4.3.1 */
        error_set(&job->err, ERR_SYNTAX, "NUL in message");
    else if (body_write(job->body, bytes, &job->err) != ERR_OK)
        return;
}

static void
finish_work(void *arg)
{
    struct imap_session *s = arg;
    struct append_job *job = s->append;
    struct mime_message *msg = NULL;

    if (body_finish(job->body, &job->err) != ERR_OK)
        return;
    mime_parse(body_raw(job->body), NULL, &msg);
    mime_cache_encode(msg, &job->cache);
    mime_message_free(&msg);
}

/* The message is there; that \Seen could not be set does not take it back. */
static enum run
appended_seen(struct imap_session *s)
{
    (void)s;
    return RUN_DONE;
}

/* What the session knows of the mailbox after the message's body is gone. */
struct appended_job {
    mbid_t id;
    bool seen; /* \Seen, which is kept apart for this user, was asked for */
};

static enum run
appended(struct imap_session *s)
{
    const struct appended_job *job = s->job;

    if (txn_code(s->txn) != ERR_OK)
        return reply_error_try(s, txn_error(s->txn));
    const struct txn_result *res = txn_result(s->txn, 0);
    reply(s, "OK [APPENDUID %" PRIu32 " %" PRIu32 "] Completed",
          res->uidvalidity, uidset_next(&res->uids, 1));
    if (!job->seen)
        return RUN_DONE;
    struct store_txn *txn = txn_new();
    txn_seen(txn, job->id, s->user, &res->uids, true);
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

static enum run
append_commit(struct imap_session *s)
{
    struct append_job *job = s->append;
    const struct imap_command *cmd = s->cmd;

    if (job->err.code != ERR_OK)
        return reply_error(s, &job->err);
    struct appended_job *after = arena_alloc(&s->arena, sizeof(*after));
    uint32_t flags = allowed_flags(cmd->flags.flags, job->rights);
    after->id = job->id;
    after->seen = job->own_seen && (flags & FLAG_SEEN) != 0;
    if (job->own_seen)
        flags &= ~(uint32_t)FLAG_SEEN;
    s->job = after;
    struct store_txn *txn = txn_new();
    const struct txn_append msg = {
        .id = job->id,
        .body = job->body,
        .flags = flags,
        .keywords = cmd->flags.keywords,
        .nkeywords = (job->rights & ACL_WRITE) != 0 ? cmd->flags.nkeywords : 0,
        .internal_s = cmd->has_date
                          ? cmd->date_s
                          : (int64_t)(env_wall_us(s->opt->env) / 1000000),
        .internal_tz_min = (int16_t)cmd->date_zone_min,
        .cache = buf_span(&job->cache),
        .check_quota = true,
    };
    txn_append(txn, &msg);
    append_drop(s);
    return submit(s, txn, appended);
}

enum run
cmd_append(struct imap_session *s)
{
    struct append_job *job = s->append;

    if (job == NULL)
        return reply(s, "BAD Missing message literal");
    if (job->err.code == ERR_SYNTAX)
        return reply(s, "NO Message contains NUL characters");
    if (job->err.code != ERR_OK)
        return reply_error(s, &job->err);
    if (s->cmd->literal_bytes > INLINE_BYTES)
        return run_work(s, finish_work, append_commit);
    finish_work(s);
    return append_commit(s);
}
