/*
 * imapd/session.c - the way of a command: bytes, text, table, steps, reply.
 *
 *   input -> reader -> parse -> table -> step, step, ... -> sync -> reply
 *                                         ^        |
 *                                         +--------+ next turn, drained,
 *                                                    committed
 *
 * One command at a time.  A step that cannot go on says why (enum run) and is
 * called again; while a command is under way input is paused, so pipelined
 * commands wait in order.  A session whose connection is gone lives on until
 * all that it has under way came back (`inflight`).
 */
#include "imapd/context.h"
#include "imapd/notify.h"

#include <stdio.h>
#include <stdlib.h>

#define SKIP_BEFORE_LOGIN_BYTES (1U << 20)
#define SASL_LINE_BYTES (SASL_STEP_BYTES / 3U * 4U + 1024U)

/* ---- what is under way ------------------------------------------------- */

void
async_begin(struct imap_session *s)
{
    s->inflight++;
    s->io->hold(s->io_ctx);
}

static void
append_and_job_free(struct imap_session *s)
{
    if (s->job_end != NULL)
        s->job_end(s);
    s->job_end = NULL;
    s->job = NULL;
    append_drop(s);
    txn_free(&s->txn);
}

static void
session_free(struct imap_session *s)
{
    const struct session_io *io = s->io;
    void *io_ctx = s->io_ctx;

    append_and_job_free(s);
    notify_free(s);
    unselect(s);
    arena_free(&s->outer.arena);
    saslsrv_free(&s->sasl);
    imap_reader_free(&s->reader);
    buf_free(&s->out);
    arena_free(&s->arena);
    free(s->user);
    session_peer_free(&s->peer);
    free(s->goodbye);
    free(s);
    io->ended(io_ctx);
}

void
session_free_if_over(struct imap_session *s)
{
    if (s->dead && s->inflight == 0 && !atomic_load(&s->wake_posted))
        session_free(s);
}

bool
async_end(struct imap_session *s)
{
    bool dead = s->dead;

    ENSURE(s->inflight > 0);
    s->io->release(s->io_ctx);
    s->inflight--;
    session_free_if_over(s);
    return !dead;
}

void
imap_session_gone(struct imap_session *s)
{
    s->dead = true;
    /* After this wake_posted is not set any more. */
    store_unwatch(&s->watch);
    notify_unwatch(s);
    session_free_if_over(s);
}

static bool
wants_input(const struct imap_session *s)
{
    return s->closing || s->cmd == NULL ||
           (!s->waiting && (s->mode == INPUT_SASL || s->mode == INPUT_IDLE));
}

static void
update_input(struct imap_session *s)
{
    if (s->dead)
        return;
    if (wants_input(s))
        s->io->resume(s->io_ctx);
    else
        s->io->pause(s->io_ctx);
}

/* ---- steps of a command ------------------------------------------------ */

#define ANY (STATE_NOT_AUTH | STATE_AUTH | STATE_SELECTED)
#define LOGGED_IN (STATE_AUTH | STATE_SELECTED)

static enum run
cmd_capability(struct imap_session *s)
{
    /* cyradm asks before it logs in, and not again. */
    buf_addf(&s->out, "* CAPABILITY %s\r\n", capabilities(s, true, &s->arena));
    return reply(s, "OK Completed");
}

static enum run
cmd_logout(struct imap_session *s)
{
    buf_add_str(&s->out, "* BYE LOGOUT received\r\n");
    s->state = STATE_LOGOUT;
    return reply(s, "OK Completed");
}

/* RFC 2971: values of the client are not logged, they may be anything. */
static enum run
cmd_id(struct imap_session *s)
{
    buf_add_str(&s->out,
                "* ID (\"name\" \"Pollux\" \"version\" \"" POLLUX_VERSION
                "\")\r\n");
    return reply(s, "OK Completed");
}

enum run
cmd_noop(struct imap_session *s)
{
    return reply(s, "OK Completed");
}

/* What may be told at the end of which command (RFC 3501, 5.5 and 7.4.1): no
 * EXPUNGE while the client's sequence numbers are in use. */
static const struct {
    enum run (*start)(struct imap_session *s);
    unsigned states;
    enum sync sync;    /* as the command without UID */
    const char *needs; /* capability that brought it; "": RFC 3501 */
} table[] = {
    [CMD_APPEND] = {cmd_append, LOGGED_IN, SYNC_ALL, ""},
    [CMD_AUTHENTICATE] = {cmd_authenticate, STATE_NOT_AUTH, SYNC_NONE, ""},
    [CMD_CANCELUPDATE] = {cmd_cancelupdate, STATE_SELECTED, SYNC_ALL,
                          "CONTEXT=SEARCH"},
    [CMD_CAPABILITY] = {cmd_capability, ANY, SYNC_ALL, ""},
    [CMD_CHECK] = {cmd_noop, STATE_SELECTED, SYNC_ALL, ""},
    [CMD_CLOSE] = {cmd_close, STATE_SELECTED, SYNC_NONE, ""},
    [CMD_COMPRESS] = {cmd_compress, LOGGED_IN, SYNC_NONE, "COMPRESS"},
    [CMD_COPY] = {cmd_copy, STATE_SELECTED, SYNC_ALL, ""},
    [CMD_CREATE] = {cmd_create, LOGGED_IN, SYNC_ALL, ""},
    [CMD_DELETE] = {cmd_delete, LOGGED_IN, SYNC_ALL, ""},
    [CMD_DELETEACL] = {cmd_setacl, LOGGED_IN, SYNC_ALL, "ACL"},
    [CMD_ENABLE] = {cmd_enable, STATE_AUTH, SYNC_NONE, "ENABLE"},
    [CMD_ESEARCH] = {cmd_esearch, LOGGED_IN, SYNC_ALL, "MULTISEARCH"},
    [CMD_EXAMINE] = {cmd_select, LOGGED_IN, SYNC_NONE, ""},
    [CMD_EXPUNGE] = {cmd_expunge, STATE_SELECTED, SYNC_ALL, ""},
    [CMD_FETCH] = {cmd_fetch, STATE_SELECTED, SYNC_NO_EXPUNGE, ""},
    [CMD_GETACL] = {cmd_getacl, LOGGED_IN, SYNC_ALL, "ACL"},
    [CMD_GETMETADATA] = {cmd_getmetadata, LOGGED_IN, SYNC_ALL, "METADATA"},
    [CMD_GETQUOTA] = {cmd_getquota, LOGGED_IN, SYNC_ALL, "QUOTA"},
    [CMD_GETQUOTAROOT] = {cmd_getquotaroot, LOGGED_IN, SYNC_ALL, "QUOTA"},
    [CMD_ID] = {cmd_id, ANY, SYNC_ALL, "ID"},
    [CMD_IDLE] = {cmd_idle, LOGGED_IN, SYNC_ALL, "IDLE"},
    [CMD_LIST] = {cmd_list, LOGGED_IN, SYNC_ALL, ""},
    [CMD_LISTRIGHTS] = {cmd_listrights, LOGGED_IN, SYNC_ALL, "ACL"},
    [CMD_LOGIN] = {cmd_login, STATE_NOT_AUTH, SYNC_NONE, ""},
    [CMD_LOGOUT] = {cmd_logout, ANY, SYNC_NONE, ""},
    [CMD_LSUB] = {cmd_list, LOGGED_IN, SYNC_ALL, ""},
    [CMD_MOVE] = {cmd_copy, STATE_SELECTED, SYNC_ALL, "MOVE"},
    [CMD_MYRIGHTS] = {cmd_myrights, LOGGED_IN, SYNC_ALL, "ACL"},
    [CMD_NAMESPACE] = {cmd_namespace, LOGGED_IN, SYNC_ALL, "NAMESPACE"},
    [CMD_NOOP] = {cmd_noop, ANY, SYNC_ALL, ""},
    [CMD_NOTIFY] = {cmd_notify, LOGGED_IN, SYNC_NONE, "NOTIFY"},
    [CMD_RENAME] = {cmd_rename, LOGGED_IN, SYNC_ALL, ""},
    [CMD_REPLACE] = {cmd_append, STATE_SELECTED, SYNC_ALL, "REPLACE"},
    [CMD_SEARCH] = {cmd_search, STATE_SELECTED, SYNC_NO_EXPUNGE, ""},
    [CMD_SELECT] = {cmd_select, LOGGED_IN, SYNC_NONE, ""},
    [CMD_SETACL] = {cmd_setacl, LOGGED_IN, SYNC_ALL, "ACL"},
    [CMD_SETMETADATA] = {cmd_setmetadata, LOGGED_IN, SYNC_ALL, "METADATA"},
    [CMD_SETQUOTA] = {cmd_setquota, LOGGED_IN, SYNC_ALL, "QUOTA"},
    [CMD_SORT] = {cmd_search, STATE_SELECTED, SYNC_NO_EXPUNGE, "SORT"},
    [CMD_STARTTLS] = {cmd_starttls, STATE_NOT_AUTH, SYNC_NONE, ""},
    [CMD_STATUS] = {cmd_status, LOGGED_IN, SYNC_ALL, ""},
    [CMD_STORE] = {cmd_store, STATE_SELECTED, SYNC_NO_EXPUNGE, ""},
    [CMD_SUBSCRIBE] = {cmd_subscribe, LOGGED_IN, SYNC_ALL, ""},
    [CMD_THREAD] = {cmd_thread, STATE_SELECTED, SYNC_NO_EXPUNGE, "THREAD"},
    [CMD_UNAUTHENTICATE] = {cmd_unauthenticate, LOGGED_IN, SYNC_NONE,
                            "UNAUTHENTICATE"},
    [CMD_UNSELECT] = {cmd_close, STATE_SELECTED, SYNC_NONE, "UNSELECT"},
    [CMD_UNSUBSCRIBE] = {cmd_subscribe, LOGGED_IN, SYNC_ALL, ""},
    [CMD_XLIST] = {cmd_list, LOGGED_IN, SYNC_ALL, "XLIST"},
};

static void
write_tagged(struct imap_session *s, struct span tag, const char *text)
{
    buf_add(&s->out, tag);
    buf_add_byte(&s->out, ' ');
    buf_add_str(&s->out, text);
    buf_add_str(&s->out, "\r\n");
}

/* Between two commands nothing is kept that the next one does not need. */
static void
command_clear(struct imap_session *s)
{
    append_and_job_free(s);
    s->cmd = NULL;
    s->run = NULL;
    s->reply = NULL;
    s->mode = INPUT_COMMAND;
    s->full = false;
    s->progress_done = s->progress_goal = 0;
    s->limited_uid = 0;
    imap_reader_reset(&s->reader);
    arena_free(&s->arena);
    buf_free(&s->out);
}

/* IDLE takes as long as the client likes, which says nothing. */
static void
count_command(struct imap_session *s)
{
    if (s->opt->commands == NULL || s->cmd->cmd == CMD_IDLE)
        return;
    command_tally_add(&s->opt->commands[s->cmd->cmd],
                      env_mono_ns(s->opt->env) - s->cmd_began_ns,
                      s->reply != NULL && s->reply[0] != 'O');
}

static bool
has_numbers(const struct imap_search *node)
{
    for (; node != NULL; node = node->next)
        if ((node->kind == SEARCH_SEQS && !span_eq_str(node->text, "$")) ||
            has_numbers(node->kids))
            return true;
    return false;
}

/* Back to what it ran inside of, if anything. */
static void
inner_over(struct imap_session *s)
{
    flush(s);
    append_and_job_free(s);
    arena_free(&s->arena);
    buf_free(&s->out);
    s->arena = s->outer.arena;
    s->cmd = s->outer.cmd;
    s->run = s->outer.run;
    s->mode = s->outer.mode;
    s->outer = (struct outer){0};
    s->inner = false;
    s->reply = NULL;
    s->full = false;
    s->limited_uid = 0;
    s->progress_done = s->progress_goal = 0;
    if (s->goodbye != NULL)
        say_bye(s, s->goodbye);
    if (!s->closing && !s->dead && notify_is_due(s))
        wake_session(s); /* it came while that went on */
    update_input(s);
}

/* RFC 9738, 3.1.  A reply has one code only: where there is another one (the
 * MODIFIED of a STORE, the HIGHESTMODSEQ of an EXPUNGE), it goes before. */
static void
tell_limit(struct imap_session *s)
{
    const bool reads_or_stores =
        s->cmd->cmd == CMD_FETCH || s->cmd->cmd == CMD_STORE;

    if (s->limited_uid == 0 || s->reply == NULL)
        return;
    if (strcmp(s->reply, "OK Completed") == 0)
        reply(s, "OK [MESSAGELIMIT %" PRIu32 " %" PRIu32 "] Completed",
              s->opt->message_limit, s->limited_uid);
    else if (s->reply[0] == 'O' || (reads_or_stores && s->reply[0] == 'N'))
        buf_addf(&s->out,
                 "* OK [MESSAGELIMIT %" PRIu32 " %" PRIu32 "] Not more\r\n",
                 s->opt->message_limit, s->limited_uid);
}

static void
command_over(struct imap_session *s)
{
    struct imap_command *cmd = s->cmd;
    enum sync sync = table[cmd->cmd].sync;

    if (s->inner) {
        inner_over(s);
        return;
    }

    ENSURE(!s->ahead);
    if (s->job_end != NULL)
        s->job_end(s);
    s->job_end = NULL;
    /* RFC 7162, 3.2.10.2; RFC 9051, 7.5.1: UID SEARCH may have numbers. */
    if (cmd->uid && sync != SYNC_NONE && !has_numbers(cmd->search))
        sync = SYNC_ALL;
    if (s->sel != NULL)
        sync_selected(s, sync, cmd->uid);
    tell_limit(s);
    if (s->reply != NULL && !s->closing)
        write_tagged(s, cmd->tag, s->reply);
    flush(s);
    count_command(s);
    command_clear(s);
    if (s->state == STATE_LOGOUT && !s->closing) {
        s->closing = true;
        if (!s->dead)
            s->io->close(s->io_ctx);
    } else if (s->goodbye != NULL) {
        say_bye(s, s->goodbye);
    }
    if (!s->closing && notify_is_due(s))
        wake_session(s);
    update_input(s);
}

static void
continue_posted(void *arg)
{
    struct imap_session *s = arg;

    if (async_end(s))
        session_run(s);
}

/*
 * RFC 9585, 3: that a long command is still under way.  Only where nothing is
 * told before its end, or in whole lines; clients are not to be told often.
 */
static void
tell_progress(struct imap_session *s)
{
    const uint64_t now = env_mono_ns(s->opt->env);
    const enum imap_cmd cmd = s->cmd->cmd;

    if ((cmd != CMD_SEARCH && cmd != CMD_SORT && cmd != CMD_THREAD &&
         cmd != CMD_STORE) ||
        now - s->progress_ns < s->opt->progress_ms * 1000000)
        return;
    s->progress_ns = now;
    buf_add_str(&s->out, "* OK [INPROGRESS (");
    write_string(&s->out, s->cmd->tag);
    if (s->progress_goal == 0)
        buf_add_str(&s->out, " NIL NIL)] Still working\r\n");
    else
        buf_addf(&s->out, " %" PRIu64 " %" PRIu64 ")] Still working\r\n",
                 s->progress_done, s->progress_goal);
    flush(s);
}

void
session_run(struct imap_session *s)
{
    ENSURE(!s->running);
    if (s->cmd == NULL || s->run == NULL || s->closing)
        return;
    s->running = true;
    s->full = false;
    enum run run = s->run(s);
    s->running = false;
    flush(s);
    switch (run) {
    case RUN_DONE:
        command_over(s);
        return;
    case RUN_YIELD:
        tell_progress(s);
        async_begin(s);
        s->io->post(s->io_ctx, continue_posted, s);
        break;
    case RUN_FULL:
        /* It may have been taken meanwhile. */
        s->full = s->io->is_full(s->io_ctx);
        if (!s->full) {
            async_begin(s);
            s->io->post(s->io_ctx, continue_posted, s);
        }
        break;
    case RUN_WAIT:
        break;
    }
    update_input(s);
}

void
imap_session_drained(struct imap_session *s)
{
    if (s->full)
        session_run(s);
}

/* A commit has come back; on the session's thread. */
static void
commit_posted(void *arg)
{
    struct imap_session *s = arg;

    s->waiting = false;
    if (async_end(s))
        session_run(s);
}

/* In the writer's thread. */
static void
on_commit(void *ctx, struct store_txn *txn)
{
    struct imap_session *s = ctx;

    s->txn = txn;
    s->io->post(s->io_ctx, commit_posted, s);
}

enum run
submit(struct imap_session *s, struct store_txn *txn,
       enum run (*after)(struct imap_session *s))
{
    ENSURE(!s->waiting);
    txn_free(&s->txn);
    s->run = after;
    s->waiting = true;
    async_begin(s);
    store_submit(s->store, txn, on_commit, s);
    return RUN_WAIT;
}

static void
ahead_posted(void *arg)
{
    struct imap_session *s = arg;
    const bool is_awaited = s->waiting;

    s->ahead = false;
    s->waiting = false;
    if (async_end(s) && is_awaited)
        session_run(s);
}

/* In the writer's thread. */
static void
on_commit_ahead(void *ctx, struct store_txn *txn)
{
    struct imap_session *s = ctx;

    s->txn = txn;
    s->io->post(s->io_ctx, ahead_posted, s);
}

void
submit_ahead(struct imap_session *s, struct store_txn *txn)
{
    ENSURE(!s->waiting && !s->ahead);
    txn_free(&s->txn);
    s->ahead = true;
    async_begin(s);
    store_submit(s->store, txn, on_commit_ahead, s);
}

enum run
submit_wait(struct imap_session *s, enum run (*after)(struct imap_session *s))
{
    s->run = after;
    if (!s->ahead)
        return after(s);
    s->waiting = true;
    return RUN_WAIT;
}

enum run
run_work(struct imap_session *s, void (*do_it)(void *session),
         enum run (*after)(struct imap_session *s))
{
    ENSURE(!s->waiting);
    s->run = after;
    s->waiting = true;
    async_begin(s);
    s->io->work(s->io_ctx, do_it, commit_posted, s);
    return RUN_WAIT;
}

/* ---- input ------------------------------------------------------------- */

/* A client that does not speak IMAP is not listened to for ever. */
static void
count_bad(struct imap_session *s)
{
    s->bad_commands++;
    if (s->state == STATE_NOT_AUTH &&
        s->bad_commands >= s->opt->bad_commands_max)
        say_bye(s, "Too many bad commands");
}

static void
write_bad(struct imap_session *s, struct span tag, const char *why)
{
    if (tag.n == 0)
        tag = SPAN_LIT("*");
    buf_add(&s->out, tag);
    buf_add_str(&s->out, " BAD ");
    write_text(&s->out, why);
    buf_add_str(&s->out, "\r\n");
    flush(s);
    count_bad(s);
}

static const char *
wrong_state(const struct imap_session *s, unsigned states)
{
    if (states == STATE_NOT_AUTH)
        return "Not possible in this state";
    switch (s->state) {
    case STATE_NOT_AUTH:
        return "Please login first";
    case STATE_AUTH:
        return "Please select a mailbox first";
    case STATE_SELECTED:
    case STATE_LOGOUT:
        break;
    }
    return "Not possible in this state";
}

static void
dispatch(struct imap_session *s)
{
    struct imap_command *cmd = arena_alloc(&s->arena, sizeof(*cmd));
    const char *why = NULL;

    atomic_fetch_add(&s->counters->commands, 1);
    enum imap_parsed parsed =
        imap_parse(buf_span(&s->reader.text), &s->arena, cmd, &why);
    if (parsed == IMAP_PARSE_UNKNOWN)
        why = "Unrecognized command";
    else if (parsed == IMAP_PARSED && (table[cmd->cmd].states & s->state) == 0)
        why = wrong_state(s, table[cmd->cmd].states);
    else if (parsed == IMAP_PARSED && s->uidonly && !cmd->uid &&
             imap_cmd_takes_uid(cmd->cmd) && cmd->cmd != CMD_EXPUNGE)
        why = "[UIDREQUIRED] Only UIDs, please"; /* RFC 9586, 3.1 */
    if (why != NULL) {
        write_bad(s, cmd->tag, why);
        command_clear(s);
        return;
    }
    s->cmd = cmd;
    s->progress_ns = s->cmd_began_ns = env_mono_ns(s->opt->env);
    s->run = table[cmd->cmd].start;
    s->mode = INPUT_COMMAND;
    session_run(s);
}

/* The text begins with the tag, if there is one. */
static struct span
tag_of(struct imap_session *s)
{
    struct imap_command *cmd = arena_alloc(&s->arena, sizeof(*cmd));
    const char *why;

    imap_parse(buf_span(&s->reader.text), &s->arena, cmd, &why);
    return cmd->tag;
}

static void
refuse_literal(struct imap_session *s)
{
    struct literal lit = s->reader.literal;

    imap_reader_refuse(&s->reader);
    /* RFC 7888, 4: what comes anyhow is read and thrown away, or we hang up. */
    if (lit.nonsync && lit.n > s->opt->swallow_bytes_max)
        say_bye(s, "[TOOBIG] Literal too large");
}

static void
decide_literal(struct imap_session *s)
{
    struct imap_command head;

    if (imap_parse_append_head(buf_span(&s->reader.text), &s->arena, &head)) {
        bool nonsync = s->reader.literal.nonsync;
        if (append_begin(s, &head)) {
            imap_reader_stream(&s->reader);
            s->mode = INPUT_APPEND;
            if (!nonsync)
                buf_add_str(&s->out, "+ go ahead\r\n");
        } else {
            append_drop(s);
            write_tagged(s, head.tag, s->reply);
            refuse_literal(s);
        }
    } else if (s->state != STATE_LOGOUT && imap_reader_keep(&s->reader)) {
        if (!s->reader.literal.nonsync)
            buf_add_str(&s->out, "+ go ahead\r\n");
    } else {
        append_drop(s);
        write_bad(s, tag_of(s), "Literal too large");
        refuse_literal(s);
    }
    s->reply = NULL;
    flush(s);
    arena_reset(&s->arena);
}

static size_t
input_line(struct imap_session *s, struct span in)
{
    struct span line = SPAN_EMPTY;
    size_t used = 0;
    size_t max = s->mode == INPUT_SASL ? SASL_LINE_BYTES : 1024;

    switch (line_take(in, max, &line, &used)) {
    case PARSE_MORE:
        return 0;
    case PARSE_BAD:
        say_bye(s, "Line too long");
        return in.n;
    case PARSE_DONE:
        break;
    }
    if (s->mode == INPUT_SASL)
        sasl_line(s, line);
    else
        idle_line(s, line);
    return used;
}

/* What is thrown away is bounded too: before login hardly anything. */
static void
count_skipped(struct imap_session *s, size_t n)
{
    uint64_t max = s->state == STATE_NOT_AUTH
                       ? MIN((uint64_t)SKIP_BEFORE_LOGIN_BYTES,
                             (uint64_t)s->opt->swallow_bytes_max)
                       : (uint64_t)s->opt->swallow_bytes_max;

    s->skipped_bytes += n;
    if (s->skipped_bytes > max)
        say_bye(s, "[TOOBIG] Command too long");
}

/* One event; true if it used nothing and another one may follow. */
static bool
input_event(struct imap_session *s, struct span in, size_t *ret_used)
{
    switch (imap_reader_take(&s->reader, in, ret_used)) {
    case IMAP_READ_MORE:
        if (s->reader.state == READER_SKIP)
            count_skipped(s, *ret_used);
        break;
    case IMAP_READ_COMMAND:
        dispatch(s);
        break;
    case IMAP_READ_DECIDE:
        decide_literal(s);
        break;
    case IMAP_READ_CHUNK:
        append_chunk(s, s->reader.chunk);
        break;
    case IMAP_READ_STREAMED:
        s->mode = INPUT_COMMAND;
        return *ret_used == 0;
    case IMAP_READ_TOO_LONG:
        append_drop(s);
        write_bad(s, tag_of(s), "Command too long");
        arena_reset(&s->arena);
        return *ret_used == 0 && !s->closing;
    case IMAP_READ_SKIPPED:
        s->skipped_bytes = 0;
        command_clear(s);
        break;
    }
    return false;
}

size_t
imap_session_input(struct imap_session *s, struct span in)
{
    size_t used = 0;

    if (s->closing)
        return in.n;
    if (!wants_input(s))
        return 0;
    if (s->mode == INPUT_SASL || s->mode == INPUT_IDLE)
        used = input_line(s, in);
    else
        while (input_event(s, in, &used))
            ;
    update_input(s);
    return used;
}

/* ---- life -------------------------------------------------------------- */

static void
set_peer(struct imap_session *s, const struct session_peer *peer)
{
    session_peer_copy(&s->peer, peer);
    snprintf(s->log.prefix, sizeof(s->log.prefix), "peer=%s",
             s->peer.peer_name == NULL ? "-" : s->peer.peer_name);
}

struct imap_session *
imap_session_new(const struct imapd_options *options,
                 const struct session_io *io, void *io_ctx,
                 struct imap_counters *counters,
                 const struct session_peer *peer)
{
    const struct imap_reader_limits limits = {
        .line_bytes = options->line_bytes_max,
        .command_bytes = options->command_bytes_max};
    struct imap_session *s = xcalloc(1, sizeof(*s));

    s->opt = options;
    s->io = io;
    s->io_ctx = io_ctx;
    s->counters = counters;
    s->store = *options->store;
    s->index = options->index == NULL ? NULL : *options->index;
    s->state = STATE_NOT_AUTH;
    imap_reader_init(&s->reader, &limits);
    set_peer(s, peer);
    return s;
}

void
imap_session_start(struct imap_session *s)
{
    buf_addf(&s->out, "* OK [CAPABILITY %s] %s Pollux IMAP server ready\r\n",
             capabilities(s, false, &s->arena), s->opt->servername);
    flush(s);
    buf_free(&s->out);
    arena_free(&s->arena);
}

void
imap_session_tls(struct imap_session *s, const struct session_peer *peer)
{
    saslsrv_free(&s->sasl); /* what it offered was for a line in clear */
    set_peer(s, peer);
}

void
imap_session_timeout(struct imap_session *s)
{
    say_bye(s,
            s->state == STATE_NOT_AUTH ? "Login timeout" : "Idle for too long");
}

void
imap_session_goodbye(struct imap_session *s, const char *text)
{
    if (s->cmd == NULL || s->mode == INPUT_IDLE || s->mode == INPUT_SASL) {
        if (!s->waiting) {
            say_bye(s, text);
            return;
        }
    }
    free(s->goodbye);
    s->goodbye = xstrdup(text);
}
