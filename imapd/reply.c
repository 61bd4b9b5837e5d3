/*
 * imapd/reply.c - what a client is told of its command: the tagged reply,
 * errors of the layers below as response codes (RFC 5530), BYE; and the buffer
 * that all of it goes out by.
 *
 * A reply is only noted: it is written at the end of the command, behind what
 * the command changed (imapd/session.c).
 */
#include "imapd/session_private.h"

#include <stdarg.h>
#include <stdio.h>

#include "imapd/write.h"

#define OUT_FLUSH_BYTES 16384U

void
flush(struct imap_session *s)
{
    if (s->out.n > 0 && !s->dead)
        s->io->write(s->io_ctx, buf_span(&s->out));
    buf_clear(&s->out);
}

bool
is_full(struct imap_session *s)
{
    if (s->out.n >= OUT_FLUSH_BYTES)
        flush(s);
    return !s->dead && s->io->is_full(s->io_ctx);
}

enum run
reply(struct imap_session *s, const char *fmt, ...)
{
    va_list ap, again;

    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    ENSURE(n >= 0);
    s->reply = arena_alloc(&s->arena, (size_t)n + 1);
    vsnprintf(s->reply, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return RUN_DONE;
}

static const char *
error_reply(enum errcode code)
{
    switch (code) {
    case ERR_AGAIN:
    case ERR_BUSY:
        return "NO [INUSE] Try again later";
    case ERR_TIMEOUT: /* sync_ack */
        return "NO [UNAVAILABLE] The replica does not answer, try again later";
    case ERR_LIMIT:
        return "NO [LIMIT] A limit of this server was reached";
    case ERR_READONLY:
        return "NO [UNAVAILABLE] This server is a read-only replica";
    case ERR_FENCED:
        return "NO [UNAVAILABLE] This server takes no changes now";
    case ERR_NOSPACE:
        return "NO [UNAVAILABLE] No space left on the server";
    case ERR_CLOSED:
        return "NO [UNAVAILABLE] The server is stopping";
    case ERR_CORRUPT:
    case ERR_VERSION:
        return "NO [CORRUPTION] Stored data is damaged";
    case ERR_DENIED:
    case ERR_AUTH:
        return "NO [NOPERM] Permission denied";
    case ERR_NOTFOUND:
        return "NO [NONEXISTENT] Mailbox does not exist";
    case ERR_EXISTS:
        return "NO [ALREADYEXISTS] Mailbox already exists";
    case ERR_CONFLICT:
        return "NO [INUSE] Changed by somebody else meanwhile";
    case ERR_QUOTA:
        return "NO [OVERQUOTA] Over quota";
    case ERR_BADNAME:
        return "NO [CANNOT] Invalid mailbox name";
    case ERR_UNSUPPORTED:
        return "NO [CANNOT] Not supported here";
    case ERR_OK:
    case ERR_PROTO:
    case ERR_SYNTAX:
    case ERR_GAP:
    case ERR_IO:
    case ERR_HISTORY:
        break;
    }
    return "NO [SERVERBUG] Internal error";
}

/* Errors that the admin must see.  A full disk the store tells itself. */
static bool
is_ours(enum errcode code)
{
    return code == ERR_IO || code == ERR_CORRUPT || code == ERR_VERSION ||
           code == ERR_HISTORY || code == ERR_GAP || code == ERR_SYNTAX ||
           code == ERR_PROTO;
}

enum run
reply_error(struct imap_session *s, const struct error *err)
{
    if (is_ours(err->code))
        log_error(&s->log, "imap.command_failed",
                  "command=%s user=\"%s\" code=%s why=\"%s\"",
                  s->cmd == NULL ? "" : imap_cmd_name(s->cmd->cmd),
                  s->user == NULL ? "" : s->user, errcode_name(err->code),
                  err->text);
    return reply(s, "%s", error_reply(err->code));
}

enum run
reply_error_try(struct imap_session *s, const struct error *err)
{
    if (err->code == ERR_NOTFOUND)
        return reply(s, "NO [TRYCREATE] Mailbox does not exist");
    return reply_error(s, err);
}

void
say_bye(struct imap_session *s, const char *text)
{
    if (s->closing || s->dead)
        return;
    s->closing = true;
    s->state = STATE_LOGOUT;
    buf_add_str(&s->out, "* BYE ");
    write_text(&s->out, text);
    buf_add_str(&s->out, "\r\n");
    flush(s);
    s->io->close(s->io_ctx);
}

bool
refuse_on_replica(struct imap_session *s)
{
    if (store_role(s->store) == ROLE_MASTER)
        return false;
    reply(s, "%s", error_reply(ERR_READONLY));
    return true;
}
