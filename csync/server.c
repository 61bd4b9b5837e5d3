/*
 * csync/server.c - the service on the csync port and the control socket:
 * greeting, login, and the commands that are lines.
 *
 * One command at a time: while one is on a worker, input is paused, so answers
 * come in order whatever the client pipelines.  Once LOG STREAM, LOG SEED or
 * LOG EXPORT is answered, the connection speaks messages (csync/take.c,
 * csync/give.c) until it ends.
 */
#include "csync/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "csync/session.h"
#include "csync/state.h"
#include "net/lineread.h"

/* Before login a line is a command word and a SASL response. */
#define LOGIN_LINE_MAX (SASL_STEP_BYTES * 4 / 3 + 128)

/* Requests of tools, and commands by state, that run at once. */
#define REQUESTS_MAX 8U
#define STATE_REQUESTS_MAX 64U

/* A RESERVE names all folders of a user. */
static const struct dlist_limits command_limits = {
    .total_bytes = 4U << 20,
    .literal_bytes = 131072,
    .file_bytes = 0, /* only MESSAGE has files, and is read as it comes */
    .depth = 32,
    .nodes = 200000,
};

struct csync_server {
    struct csync_server_options options;
    struct request_list requests;
    struct request_list state_requests; /* GET and APPLY */
    struct crc_cache *crcs;
};

const struct csync_server_options *
session_options(const struct csync_session *s)
{
    return &s->server->options;
}

const struct csync_instance *
session_instance(const struct csync_session *s)
{
    return &s->server->options.instance;
}

struct request_list *
session_requests(const struct csync_session *s)
{
    return &s->server->requests;
}

struct request_list *
session_state_requests(const struct csync_session *s)
{
    return &s->server->state_requests;
}

struct crc_cache *
session_crc_cache(const struct csync_session *s)
{
    return s->server->crcs;
}

/* ---- jobs -------------------------------------------------------------- */

static void
session_free(struct csync_session *s)
{
    take_end(s);
    give_end(s);
    bystate_free(s);
    saslsrv_free(&s->sasl);
    saslsrv_step_clear(&s->step);
    buf_free(&s->work_out);
    arena_free(&s->arena);
    free(s);
}

void
session_job_begin(struct csync_session *s)
{
    s->jobs++;
    reactor_hold(s->reactor);
}

bool
session_job_end(struct csync_session *s)
{
    ENSURE(s->jobs > 0);
    s->jobs--;
    reactor_release(s->reactor);
    if (s->conn != NULL || s->jobs > 0)
        return s->conn == NULL;
    session_free(s);
    return true;
}

static void
run_work(void *ctx)
{
    struct csync_session *s = ctx;

    s->work(s);
}

static void
work_done(void *ctx)
{
    struct csync_session *s = ctx;

    if (session_job_end(s))
        return;
    conn_resume_input(s->conn);
    s->after(s);
}

void
session_offload(struct csync_session *s, void (*work)(struct csync_session *s),
                void (*after)(struct csync_session *s))
{
    s->work = work;
    s->after = after;
    s->work_code = ERR_OK;
    s->work_err = (struct error){0};
    buf_clear(&s->work_out);
    conn_pause_input(s->conn);
    session_job_begin(s);
    reactor_work(s->reactor, run_work, work_done, s);
}

/* ---- answers ----------------------------------------------------------- */

void
session_send(struct csync_session *s, uint8_t type, struct span payload)
{
    uint8_t header[LOGMSG_HEADER_BYTES];

    logmsg_header(type, (uint32_t)payload.n, header);
    conn_write(s->conn, span_of(header, sizeof(header)));
    conn_write(s->conn, payload);
}

void
session_fail(struct csync_session *s, enum errcode code,
             const struct error *err)
{
    AUTO(buf_free) struct buf out = BUF_INIT;

    log_warn(&s->log, "csync.failed", "code=%s why=\"%s\"", errcode_name(code),
             err->text);
    buf_add_byte(&out, (uint8_t)code);
    buf_add_str(&out, err->text);
    session_send(s, LOGMSG_ERROR, buf_span(&out));
    conn_close_after_flush(s->conn);
}

/* The first word of a NO; csync/client.c reads them back. */
static const char *
refusal_word(enum errcode code)
{
    switch (code) {
    case ERR_HISTORY:
        return "POLLUX-HISTORY";
    case ERR_FENCED:
        return "POLLUX-FENCED";
    case ERR_READONLY:
        return "POLLUX-ROLE";
    case ERR_GAP:
        return "POLLUX-GAP";
    case ERR_CONFLICT:
        return "POLLUX-CONFLICT";
    case ERR_EXISTS:
        return "POLLUX-EXISTS";
    case ERR_VERSION:
        return "POLLUX-VERSION";
    case ERR_CORRUPT:
        return "POLLUX-CORRUPT";
    case ERR_NOSPACE:
        return "POLLUX-NOSPACE";
    case ERR_BUSY:
        return "POLLUX-BUSY";
    case ERR_NOTFOUND:
        return "POLLUX-NOTFOUND";
    case ERR_UNSUPPORTED:
        return "POLLUX-UNSUPPORTED";
    case ERR_AGAIN:
    case ERR_TIMEOUT:
        return "POLLUX-AGAIN";
    case ERR_LIMIT:
        return "POLLUX-LIMIT";
    case ERR_SYNTAX:
        return "POLLUX-SYNTAX";
    case ERR_IO:
        return "POLLUX-IO";
    case ERR_QUOTA:
        return "POLLUX-QUOTA";
    case ERR_BADNAME:
        return "POLLUX-BADNAME";
    case ERR_CLOSED:
        return "POLLUX-CLOSED";
    case ERR_OK:
    case ERR_PROTO:
    case ERR_AUTH:
    case ERR_DENIED:
        break;
    }
    return "POLLUX-ERROR";
}

void
session_refuse(struct csync_session *s, enum errcode code,
               const struct error *err)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    buf_add_str(&text, err->text);
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] < ' ')
            text.p[i] = ' '; /* one line, whatever the reason says */
    log_info(&s->log, "csync.refused", "code=%s why=\"%s\"", errcode_name(code),
             err->text);
    conn_writef(s->conn, "NO %s %s\r\n", refusal_word(code), buf_cstr(&text));
}

static void
greet(struct csync_session *s)
{
    const struct csync_server_options *o = &s->server->options;
    AUTO(buf_free) struct buf mechs = BUF_INIT;

    if (!s->authenticated) {
        saslsrv_mechs(s->sasl, &mechs);
        if (mechs.n > 0)
            conn_writef(s->conn, "* SASL %s\r\n", buf_cstr(&mechs));
        if (o->tls != NULL && !conn_is_tls(s->conn) && !o->is_control)
            conn_write_str(s->conn, "* STARTTLS\r\n");
        if (!conn_is_tls(s->conn) && !conn_is_deflate(s->conn) &&
            !o->is_control)
            conn_write_str(s->conn, "* COMPRESS DEFLATE\r\n");
    }
    conn_writef(s->conn,
                "* POLLUX-LOG %u ZSTD\r\n* OK %s Pollux sync server %s\r\n",
                LOGPROTO_VERSION, o->servername, POLLUX_VERSION);
}

/* What Cyrus uses for its backups only is answered in the words that Cyrus uses
 * for a command that it does not have. */
static void
cmd_restore(struct csync_session *s)
{
    conn_write_str(s->conn, "NO IMAP_PROTOCOL_ERROR Protocol error\r\n");
}

/* ---- lines ------------------------------------------------------------- */

static void
cmd_starttls(struct csync_session *s)
{
    const struct csync_server_options *o = &s->server->options;

    if (s->authenticated || conn_is_tls(s->conn) || o->tls == NULL) {
        conn_write_str(s->conn, "BAD STARTTLS is not possible now\r\n");
        return;
    }
    conn_write_str(s->conn, "OK Begin TLS negotiation now\r\n");
    conn_start_tls(s->conn, o->tls, NULL);
}

static void
cmd_compress(struct csync_session *s, struct span rest)
{
    if (!span_eq_nocase_str(rest, "DEFLATE")) {
        conn_writef(s->conn, "NO Unknown compression algorithm: %.*s\r\n",
                    (int)MIN(rest.n, (size_t)40), (const char *)rest.p);
        return;
    }
    if (conn_is_deflate(s->conn)) {
        conn_write_str(s->conn, "NO DEFLATE is active already\r\n");
        return;
    }
    conn_write_str(s->conn, "OK DEFLATE active\r\n");
    conn_start_deflate(s->conn);
}

static void
cmd_exit(struct csync_session *s)
{
    conn_write_str(s->conn, "OK Finished\r\n");
    conn_close_after_flush(s->conn);
}

/* Commands that are a word and perhaps a word; true if it was one. */
static bool
simple_command(struct csync_session *s, struct span word, struct span rest)
{
    if (span_eq_nocase_str(word, "NOOP"))
        conn_write_str(s->conn, "OK Noop completed\r\n");
    else if (span_eq_nocase_str(word, "EXIT"))
        cmd_exit(s);
    else if (span_eq_nocase_str(word, "AUTHENTICATE"))
        login_start(s, rest);
    else if (span_eq_nocase_str(word, "STARTTLS"))
        cmd_starttls(s);
    else if (span_eq_nocase_str(word, "COMPRESS"))
        cmd_compress(s, rest);
    else if (span_eq_nocase_str(word, "RESTART"))
        bystate_restart(s);
    else if (span_eq_nocase_str(rest, "CAPABILITY"))
        /* A Cyrus that tries IMAP first gives up at once on this. */
        conn_writef(s->conn, "%.*s BAD this is csync, not IMAP\r\n",
                    (int)MIN(word.n, (size_t)40), (const char *)word.p);
    else
        return false;
    return true;
}

static const struct {
    const char *word;
    void (*run)(struct csync_session *s);
    bool control_only;
} families[] = {
    {"LOG", session_cmd_log, false},       {"NODE", session_cmd_node, true},
    {"ADMIN", session_cmd_admin, true},    {"GET", bystate_begin_get, false},
    {"APPLY", bystate_begin_apply, false}, {"RESTORE", cmd_restore, false},
};

/* A fatal mistake of the peer: say it and hang up. */
static void
fatal(struct csync_session *s, const char *why)
{
    log_notice(&s->log, "csync.fatal", "why=\"%s\"", why);
    conn_writef(s->conn, "* Fatal error: %s\r\n", why);
    conn_close_after_flush(s->conn);
}

/*
 * WORD and its dlist.  Bytes used, 0 for more.  The dlist points into the
 * input, which a worker must not rely on, so it is parsed from a copy.
 */
static size_t
family_command(struct csync_session *s, size_t family, struct span in,
               size_t skip, size_t line_used, struct span rest)
{
    struct error err = {0};
    struct dlist *d = NULL;
    size_t used = 0;

    arena_reset(&s->arena);
    if (span_find_byte(rest, ' ', 0) < 0) { /* a verb alone */
        s->verb = arena_copy(&s->arena, rest);
        s->args = NULL;
        families[family].run(s);
        return line_used;
    }
    switch (dlist_parse(span_skip(in, skip), &command_limits, &s->arena, &d,
                        &used, &err)) {
    case PARSE_MORE:
        return 0;
    case PARSE_BAD:
        if (used == 0) {
            fatal(s, err.text);
            return in.n;
        }
        conn_writef(s->conn,
                    "BAD IMAP_PROTOCOL_ERROR Failed to parse %s line\r\n",
                    families[family].word);
        return skip + used;
    case PARSE_DONE:
        break;
    }
    struct span copy = arena_copy(&s->arena, span_sub(in, skip, used));
    size_t again = 0;
    ENSURE(dlist_parse(copy, &command_limits, &s->arena, &d, &again, &err) ==
           PARSE_DONE);
    s->verb = d->name;
    s->args = d;
    families[family].run(s);
    return skip + used;
}

static size_t
command_input(struct csync_session *s, struct span in)
{
    struct span line = SPAN_EMPTY;
    size_t used = 0;
    size_t max =
        s->authenticated ? command_limits.total_bytes : (size_t)LOGIN_LINE_MAX;

    if (s->permitted && s->phase == PHASE_COMMAND) {
        switch (bystate_begin_line_input(s, in, &used)) {
        case PARSE_DONE:
            return used;
        case PARSE_MORE:
            return 0;
        case PARSE_BAD:
            break;
        }
    }
    switch (line_take(in, max, &line, &used)) {
    case PARSE_MORE:
        return 0;
    case PARSE_BAD:
        fatal(s, "line is too long");
        return in.n;
    case PARSE_DONE:
        break;
    }
    if (s->phase != PHASE_COMMAND) {
        login_answer(s, line);
        return used;
    }
    ptrdiff_t blank = span_find_byte(line, ' ', 0);
    struct span word = blank < 0 ? line : span_sub(line, 0, (size_t)blank);
    struct span rest =
        blank < 0 ? SPAN_EMPTY : span_skip(line, (size_t)blank + 1);
    if (simple_command(s, word, span_trim(rest)))
        return used;
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (!span_eq_nocase_str(word, families[i].word) ||
            (families[i].control_only && !s->server->options.is_control))
            continue;
        if (!s->authenticated)
            conn_write_str(s->conn, "NO Please authenticate first\r\n");
        else if (!s->permitted)
            conn_write_str(s->conn, "NO Permission denied\r\n");
        else
            return family_command(s, i, in, word.n + 1, used, span_trim(rest));
        return used;
    }
    conn_write_str(s->conn, "BAD IMAP_PROTOCOL_ERROR Unrecognized command\r\n");
    return used;
}

/* ---- events ------------------------------------------------------------ */

/* One message of a stream or a seed (PROTOCOL.md). */
static size_t
message_input(struct csync_session *s, struct span in)
{
    struct error err = {0};
    struct logmsg m;
    size_t used = 0;

    switch (logmsg_parse(in, &m, &used)) {
    case PARSE_MORE:
        return 0;
    case PARSE_BAD:
        error_set(&err, ERR_PROTO, "not a message");
        session_fail(s, ERR_PROTO, &err);
        return in.n;
    case PARSE_DONE:
        break;
    }
    enum errcode rc = s->phase == PHASE_GIVE_SEED ? give_message(s, &m, &err)
                      : s->phase == PHASE_LEND    ? lend_message(s, &m, &err)
                                                  : take_message(s, &m, &err);
    if (rc != ERR_OK)
        session_fail(s, rc, &err);
    return used;
}

static size_t
on_input(struct conn *c, struct span in, void *ctx)
{
    struct csync_session *s = ctx;

    (void)c;
    if (s->request != NULL)
        return 0; /* not paused, so that we see when the peer goes */
    switch (s->phase) {
    case PHASE_COMMAND:
    case PHASE_SASL:
    case PHASE_SASL_LAST:
        return command_input(s, in);
    case PHASE_TAKE_LOG:
    case PHASE_TAKE_SEED:
    case PHASE_GIVE_SEED:
    case PHASE_LEND:
        return message_input(s, in);
    case PHASE_STATE:
        return bystate_input(s, in);
    }
    return 0;
}

static void
on_drain(struct conn *c, void *ctx)
{
    struct csync_session *s = ctx;

    (void)c;
    if (s->phase == PHASE_GIVE_SEED)
        give_drained(s);
    if (s->request != NULL)
        request_drained(s);
}

static void
on_tls(struct conn *c, void *ctx)
{
    struct csync_session *s = ctx;

    (void)c;
    if (login_begin(s))
        greet(s);
}

static void
on_shutdown(struct conn *c, void *ctx)
{
    struct csync_session *s = ctx;

    request_cancel(s);
    if (s->phase == PHASE_COMMAND)
        conn_write_str(c, "BYE shutting down\r\n");
    conn_close_after_flush(c);
}

static void
on_close(struct conn *c, const struct error *why, void *ctx)
{
    struct csync_session *s = ctx;

    (void)c;
    log_info(&s->log, "csync.closed", "code=%s why=\"%s\"",
             errcode_name(why->code), why->text);
    s->conn = NULL;
    request_cancel(s);
    if (s->jobs == 0)
        session_free(s);
}

static const struct conn_handler handler = {
    .on_input = on_input,
    .on_drain = on_drain,
    .on_tls = on_tls,
    .on_shutdown = on_shutdown,
    .on_close = on_close,
};

/* Who is at the other end of a control socket: root, or we. */
static bool
control_peer_ok(const struct conn *c)
{
    int64_t uid = conn_peer_uid(c);

    return uid == 0 || uid == (int64_t)geteuid();
}

void
csync_server_accept(struct conn *c, void *ctx)
{
    struct csync_server *server = ctx;
    struct csync_session *s = xcalloc(1, sizeof(*s));
    char peer[CONN_NAME_BYTES];

    s->server = server;
    s->conn = c;
    s->reactor = conn_reactor(c);
    conn_peer_name(c, peer);
    snprintf(s->log.prefix, sizeof(s->log.prefix), "peer=%s", peer);
    conn_set_handler(c, &handler, s);
    if (server->options.is_control) {
        s->authenticated = true;
        s->permitted = control_peer_ok(c);
    } else {
        conn_set_deadline_ms(c, server->options.login_timeout_ms);
        if (!login_begin(s))
            return;
    }
    greet(s);
}

struct csync_server *
csync_server_new(const struct csync_server_options *options)
{
    struct csync_server *server = xcalloc(1, sizeof(*server));

    server->options = *options;
    request_list_init(&server->requests, REQUESTS_MAX);
    request_list_init(&server->state_requests, STATE_REQUESTS_MAX);
    server->crcs = crc_cache_new();
    return server;
}

void
csync_server_end_requests(struct csync_server *s)
{
    request_list_close(&s->requests);
    request_list_close(&s->state_requests);
}

void
csync_server_take_requests(struct csync_server *s)
{
    request_list_open(&s->requests);
    request_list_open(&s->state_requests);
}

void
csync_server_free(struct csync_server **s)
{
    if (*s == NULL)
        return;
    request_list_free(&(*s)->requests);
    request_list_free(&(*s)->state_requests);
    crc_cache_free(&(*s)->crcs);
    free(*s);
    *s = NULL;
}
