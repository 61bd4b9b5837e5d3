/*
 * csync/state.c - sessions that say GET and APPLY: reading the commands that
 * are too long to be held, running the others, and the words of the answers.
 *
 * Messages of APPLY MESSAGE go into the store's log as they come (txn_stage()),
 * some at a time, on a worker: so what a peer sends ahead costs disk and not
 * memory, is durable when it is answered, and is still there when the
 * connection breaks before the mailbox that names it.
 */
#include "csync/state.h"

#include <stdlib.h>

#define STAGE_BYTES (1U << 20)
#define STAGE_BODIES 128U

struct state_session {
    struct state_call call;
    bool force;
    bool is_mailbox; /* what READER reads */
    struct sync_reader *reader;
    /* Messages that are whole and not yet in the store. */
    struct staged_body {
        struct body *body;
        struct guid guid;
    } * staged;
    size_t nstaged, staged_cap, staged_bytes;
    struct body *body; /* the one coming in */
    struct guid guid;
    bool line_ended;
    enum errcode code; /* of staging */
    struct error err;
};

static struct state_session *
state_of(struct csync_session *s)
{
    if (s->state == NULL)
        s->state = xcalloc(1, sizeof(*s->state));
    return s->state;
}

static void
drop_staged(struct state_session *st)
{
    for (size_t i = 0; i < st->nstaged; i++)
        body_free(&st->staged[i].body);
    st->nstaged = st->staged_bytes = 0;
}

static void
drop_bodies(struct state_session *st)
{
    drop_staged(st);
    body_free(&st->body);
}

void
bystate_free(struct csync_session *s)
{
    if (s->state == NULL)
        return;
    drop_bodies(s->state);
    sync_reader_free(&s->state->reader);
    free(s->state->staged);
    buf_free(&s->state->call.out);
    arena_free(&s->state->call.arena);
    free(s->state);
    s->state = NULL;
}

/* ---- answers ------------------------------------------------------------ */

/* The first words of a NO, as a Cyrus understands them; NULL: not one of its.
 */
static const char *
cyrus_word(enum errcode code)
{
    switch (code) {
    case ERR_NOTFOUND:
        return "IMAP_MAILBOX_NONEXISTENT No Such Mailbox";
    case ERR_HISTORY:
        return "IMAP_SYNC_CHECKSUM Checksum Failure";
    case ERR_GAP:
        return "IMAP_SYNC_CHANGED Changed since last sync";
    case ERR_EXISTS:
        return "IMAP_MAILBOX_MOVED Mailbox exists with another name or "
               "uniqueid";
    case ERR_AGAIN:
    case ERR_BUSY:
    case ERR_CONFLICT:
        return "IMAP_MAILBOX_LOCKED Mailbox locked";
    case ERR_UNSUPPORTED:
        return "IMAP_MAILBOX_NOTSUPPORTED Operation is not supported on "
               "mailbox";
    case ERR_SYNTAX:
        return "IMAP_PROTOCOL_BAD_PARAMETERS Bad parameters";
    case ERR_PROTO:
        return "IMAP_PROTOCOL_ERROR Protocol error";
    case ERR_OK:
    case ERR_LIMIT:
    case ERR_FENCED:
    case ERR_READONLY:
    case ERR_CORRUPT:
    case ERR_IO:
    case ERR_NOSPACE:
    case ERR_CLOSED:
    case ERR_TIMEOUT:
    case ERR_AUTH:
    case ERR_DENIED:
    case ERR_QUOTA:
    case ERR_BADNAME:
    case ERR_VERSION:
        break;
    }
    return NULL;
}

static void
answer(struct csync_session *s, enum errcode code, const struct error *err)
{
    const char *word = cyrus_word(code);

    if (code == ERR_OK) {
        conn_write_str(s->conn, "OK success\r\n");
    } else if (code == ERR_CLOSED) {
        /* A line may have been cut off: nothing can follow it. */
        log_info(&s->log, "csync.cut", "why=\"%s\"", err->text);
        conn_close_after_flush(s->conn);
    } else if (word != NULL) {
        log_info(&s->log, "csync.refused", "verb=%.*s code=%s why=\"%s\"",
                 SPAN_FMT(span_sub(s->verb, 0, 40)), errcode_name(code),
                 err->text);
        conn_writef(s->conn, "NO %s\r\n", word);
    } else {
        session_refuse(s, code, err);
    }
}

enum errcode
bystate_check_role(const struct store *store, struct error *err)
{
    switch (store_role(store)) {
    case ROLE_MASTER:
        return ERR_OK;
    case ROLE_REPLICA:
        return error_set(err, ERR_READONLY,
                         "this instance follows a master: send it there");
    case ROLE_FENCED:
        break;
    }
    return error_set(err, ERR_FENCED, "this instance is fenced");
}

/* ---- commands that are held --------------------------------------------- */

static enum errcode
run_call(struct csync_session *s, const struct csync_answer *to,
         enum errcode (*run)(struct state_call *c, struct error *err),
         struct error *err)
{
    const struct csync_instance *i = session_instance(s);
    struct state_session *st = s->state;
    struct state_call *c = &st->call;

    c->store = i->store(i->ctx);
    c->env = env_system();
    c->verb = s->verb;
    c->args = s->args;
    c->answer = to;
    c->cache = session_crc_cache(s);
    c->force = &st->force;
    arena_reset(&c->arena);
    buf_clear(&c->out);
    enum errcode rc = run(c, err);
    if (rc == ERR_OK && c->out.n > 0)
        rc = bystate_say(c, err);
    arena_free(&c->arena);
    return rc;
}

static enum errcode
run_get(void *ctx, struct span verb, const struct dlist *args,
        const struct csync_answer *to, struct error *err)
{
    (void)verb;
    (void)args;
    return run_call(ctx, to, bystate_get, err);
}

static enum errcode
run_apply(void *ctx, struct span verb, const struct dlist *args,
          const struct csync_answer *to, struct error *err)
{
    (void)verb;
    (void)args;
    return run_call(ctx, to, bystate_apply, err);
}

static void
begin(struct csync_session *s,
      enum errcode (*run)(void *ctx, struct span verb, const struct dlist *args,
                          const struct csync_answer *to, struct error *err))
{
    (void)state_of(s);
    request_run(s, &(struct request_job){.run = run,
                                         .ctx = s,
                                         .done = answer,
                                         .list = session_state_requests(s)});
}

void
bystate_begin_get(struct csync_session *s)
{
    begin(s, run_get);
}

void
bystate_begin_apply(struct csync_session *s)
{
    begin(s, run_apply);
}

/* What was staged is in the store and goes by itself. */
void
bystate_restart(struct csync_session *s)
{
    conn_write_str(s->conn, "OK Restarting\r\n");
}

/* ---- APPLY MAILBOX ------------------------------------------------------ */

static enum errcode
take_mailbox(struct state_call *c, struct error *err)
{
    struct state_session *st =
        (struct state_session *)(uintptr_t)c; /* CALL is its first field */
    bool is_head_only = false;
    const struct sync_mailbox *mb =
        sync_reader_result(st->reader, &is_head_only);

    /* A name with children but no mailbox is nothing that is kept here. */
    return is_head_only ? ERR_OK : bystate_take_mailbox(c, mb, err);
}

static enum errcode
run_mailbox(void *ctx, struct span verb, const struct dlist *args,
            const struct csync_answer *to, struct error *err)
{
    struct csync_session *s = ctx;

    (void)verb;
    (void)args;
    enum errcode rc = sync_reader_code(s->state->reader, err);
    if (rc == ERR_OK)
        rc = run_call(s, to, take_mailbox, err);
    sync_reader_free(&s->state->reader);
    return rc;
}

/* ---- APPLY MESSAGE ------------------------------------------------------ */

static enum errcode
file_begin(void *ctx, const struct guid *guid, uint64_t size, struct error *err)
{
    struct csync_session *s = ctx;
    struct state_session *st = s->state;

    enum errcode rc = bystate_check_role(st->call.store, err);
    if (rc != ERR_OK)
        return rc;
    st->guid = *guid;
    st->body = store_body_new(st->call.store, size);
    return ERR_OK;
}

static enum errcode
file_bytes(void *ctx, struct span bytes, struct error *err)
{
    struct csync_session *s = ctx;

    return body_write(s->state->body, bytes, err);
}

static enum errcode
file_end(void *ctx, struct error *err)
{
    struct csync_session *s = ctx;
    struct state_session *st = s->state;

    (void)err;
    /* As many as the input that is here can have: then they are written. */
    if (st->nstaged == st->staged_cap) {
        st->staged_cap = st->staged_cap * 2 + STAGE_BODIES;
        st->staged = xrealloc(st->staged, st->staged_cap * sizeof(*st->staged));
    }
    st->staged[st->nstaged].body = st->body;
    st->staged[st->nstaged].guid = st->guid;
    st->nstaged++;
    st->staged_bytes += body_size(st->body);
    st->body = NULL;
    return ERR_OK;
}

/* Hash and compress one; is it what it was said to be? */
static enum errcode
finish_body(struct body *body, const struct guid *guid, struct error *err)
{
    char said[GUID_TEXT_BYTES];

    enum errcode rc = body_finish(body, err);
    if (rc == ERR_OK && !guid_eq(body_guid(body), guid))
        rc = error_set(err, ERR_SYNTAX, "a message is not its GUID %s",
                       guid_text(guid, said));
    return rc;
}

/* Messages FROM to TO as one transaction; where a commit group is smaller than
 * that (sync_segment_bytes), as one each. */
static enum errcode
commit_staged(struct state_session *st, size_t from, size_t to)
{
    struct store_txn *txn = txn_new();

    for (size_t i = from; i < to; i++)
        txn_stage(txn, st->staged[i].body);
    enum errcode rc =
        from == to ? ERR_OK : store_commit(st->call.store, txn, &st->err);
    txn_free(&txn);
    if (rc != ERR_LIMIT || to - from < 2)
        return rc;
    rc = ERR_OK;
    for (size_t i = from; i < to && rc == ERR_OK; i++)
        rc = commit_staged(st, i, i + 1);
    return rc;
}

/* On a worker.  Large ones go alone; one may be half there, and is left so.  A
 * line of which one message has failed has failed. */
static void
stage(struct csync_session *s)
{
    struct state_session *st = s->state;
    size_t from = 0;
    enum errcode rc = st->code;

    for (size_t i = 0; i < st->nstaged && rc == ERR_OK; i++) {
        struct body *body = st->staged[i].body;
        rc = finish_body(body, &st->staged[i].guid, &st->err);
        if (rc != ERR_OK || body_part_count(body) < 2)
            continue;
        rc = commit_staged(st, from, i);
        if (rc == ERR_OK)
            rc = commit_staged(st, i, i + 1);
        from = i + 1;
    }
    if (rc == ERR_OK)
        rc = commit_staged(st, from, st->nstaged);
    drop_staged(st);
    st->code = rc;
}

static void
end_messages(struct csync_session *s)
{
    struct state_session *st = s->state;
    struct error err = {0};
    enum errcode rc = sync_reader_code(st->reader, &err);

    sync_reader_free(&st->reader);
    drop_bodies(st);
    if (st->code != ERR_OK) {
        rc = st->code;
        err = st->err;
    }
    s->phase = PHASE_COMMAND;
    answer(s, rc, &err);
}

static void
staged(struct csync_session *s)
{
    if (s->state->line_ended)
        end_messages(s);
}

/* ---- lines that come in pieces ------------------------------------------ */

enum parse
bystate_begin_line_input(struct csync_session *s, struct span in,
                         size_t *ret_used)
{
    static const struct {
        const char *words;
        bool is_mailbox;
    } lines[] = {
        {"APPLY MAILBOX ", true},
        {"APPLY LOCAL_MAILBOX ", true},
        {"APPLY MESSAGE ", false},
    };
    const struct csync_instance *i = session_instance(s);
    bool maybe = false;

    for (size_t k = 0; k < ARRAY_LEN(lines); k++) {
        struct span words = span_str(lines[k].words);
        if (in.n < words.n) {
            maybe |= span_starts_nocase(words, in);
            continue;
        }
        if (!span_starts_nocase(in, words))
            continue;
        struct state_session *st = state_of(s);
        st->is_mailbox = lines[k].is_mailbox;
        st->line_ended = false;
        st->code = ERR_OK;
        st->call.store = i->store(i->ctx);
        st->reader = st->is_mailbox ? sync_reader_mailbox()
                                    : sync_reader_message(&(struct sync_files){
                                          .ctx = s,
                                          .begin = file_begin,
                                          .bytes = file_bytes,
                                          .end = file_end,
                                      });
        s->verb = span_str(st->is_mailbox ? "MAILBOX" : "MESSAGE");
        s->args = NULL;
        s->phase = PHASE_STATE;
        *ret_used = words.n;
        return PARSE_DONE;
    }
    return maybe ? PARSE_MORE : PARSE_BAD;
}

static void
fail(struct csync_session *s, const struct error *err)
{
    log_notice(&s->log, "csync.fatal", "why=\"%s\"", err->text);
    conn_writef(s->conn, "* Fatal error: %.200s\r\n", err->text);
    conn_close_after_flush(s->conn);
}

size_t
bystate_input(struct csync_session *s, struct span in)
{
    struct state_session *st = s->state;
    struct error err = {0};
    size_t used = 0;

    /* Not more at once than there is room for among the staged. */
    enum parse rc = sync_reader_feed(
        st->reader, span_sub(in, 0, st->is_mailbox ? SIZE_MAX : 16384), &used,
        &err);
    if (rc == PARSE_BAD) {
        fail(s, &err);
        return in.n;
    }
    if (rc == PARSE_MORE && used == 0 && !st->is_mailbox && in.n > 16384)
        rc = sync_reader_feed(st->reader, in, &used, &err);
    if (rc == PARSE_BAD) {
        fail(s, &err);
        return in.n;
    }
    st->line_ended = rc == PARSE_DONE;
    if (st->is_mailbox) {
        if (!st->line_ended)
            return used;
        s->phase = PHASE_COMMAND;
        begin(s, run_mailbox);
        return used;
    }
    if (st->nstaged > 0 && (st->line_ended || st->staged_bytes >= STAGE_BYTES ||
                            st->nstaged >= STAGE_BODIES))
        session_offload(s, stage, staged);
    else if (st->line_ended)
        end_messages(s);
    return used;
}
