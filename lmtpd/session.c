/*
 * lmtpd/session.c - commands one by one, and the envelope.
 *
 *          LHLO          MAIL          RCPT+         DATA          dot
 *   START ------> READY ------> MAIL ------> RCPT ------> bytes ------> commit
 *                   ^   RSET     |            |                           |
 *                   +------------+------------+---------------------------+
 *
 * A client may pipeline (RFC 2920): answers are in order because one command is
 * taken at a time, and while a commit or a worker is under way input is paused,
 * so the rest waits in the connection.  A session whose connection is gone
 * lives on until all that it has under way came back (`inflight`).
 */
#include "lmtpd/session_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/lineread.h"

#define RCPTS_KEPT 16U
/* Of a line that is too long, thrown away before we hang up. */
#define SKIP_BYTES_MAX ((size_t)1 << 20)

/* ---- output ------------------------------------------------------------ */

static void
flush(struct lmtp_session *s)
{
    if (s->out.n > 0 && !s->dead)
        s->w.io->write(s->w.io_ctx, buf_span(&s->out));
    buf_clear(&s->out);
}

void
lmtp_reply_text(struct lmtp_session *s, const char *line)
{
    buf_add_str(&s->out, line);
    buf_add_str(&s->out, "\r\n");
}

void
lmtp_reply(struct lmtp_session *s, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    lmtp_reply_text(s, line);
}

void
lmtp_say_bye(struct lmtp_session *s, const char *line)
{
    if (s->closing || s->dead)
        return;
    s->closing = true;
    lmtp_reply_text(s, line);
    flush(s);
    s->w.io->close(s->w.io_ctx);
}

/* A client that does not speak LMTP is not listened to for ever. */
void
refuse(struct lmtp_session *s, const char *line)
{
    lmtp_reply_text(s, line);
    if (++s->bad_commands >= s->opt->bad_commands_max)
        lmtp_say_bye(s, "421 4.7.0 Too many errors");
}

/* ---- what is under way ------------------------------------------------- */

static void
session_free(struct lmtp_session *s)
{
    const struct session_io *io = s->w.io;
    void *io_ctx = s->w.io_ctx;

    transfer_drop(s);
    auth_drop(s);
    saslsrv_free(&s->sasl);
    free(s->env.rcpts);
    arena_free(&s->arena);
    arena_free(&s->scratch);
    buf_free(&s->out);
    free(s->lhlo);
    session_peer_free(&s->peer);
    free(s->user);
    free(s->goodbye);
    free(s);
    io->ended(io_ctx);
}

void
lmtp_async_begin(struct lmtp_session *s)
{
    ENSURE(!s->waiting);
    s->waiting = true;
    s->inflight++;
    s->w.io->hold(s->w.io_ctx);
    if (!s->dead)
        s->w.io->pause(s->w.io_ctx);
}

bool
lmtp_async_end(struct lmtp_session *s)
{
    bool dead = s->dead;

    ENSURE(s->waiting && s->inflight > 0);
    s->waiting = false;
    s->inflight--;
    s->w.io->release(s->w.io_ctx);
    if (dead && s->inflight == 0)
        session_free(s);
    return !dead;
}

void
lmtp_session_gone(struct lmtp_session *s)
{
    s->dead = true;
    if (s->inflight == 0)
        session_free(s);
}

static void
bye_if_asked(struct lmtp_session *s)
{
    if (s->goodbye != NULL && !s->waiting) {
        char *line = xasprintf("421 4.3.2 %s", s->goodbye);
        lmtp_say_bye(s, line);
        free(line);
    }
}

void
go_on(struct lmtp_session *s)
{
    flush(s);
    bye_if_asked(s);
    if (!s->dead)
        s->w.io->resume(s->w.io_ctx);
}

void
lmtp_session_goodbye(struct lmtp_session *s, const char *text)
{
    free(s->goodbye);
    s->goodbye = xstrdup(text);
    bye_if_asked(s);
}

void
lmtp_session_timeout(struct lmtp_session *s)
{
    lmtp_say_bye(s, "421 4.4.2 Idle for too long");
}

/* ---- the envelope ------------------------------------------------------ */

void
envelope_reset(struct lmtp_session *s)
{
    struct envelope *e = &s->env;

    if (e->cap > RCPTS_KEPT) {
        free(e->rcpts);
        e->rcpts = NULL;
        e->cap = 0;
    }
    *e = (struct envelope){.rcpts = e->rcpts, .cap = e->cap};
    arena_reset(&s->arena);
}

/* Sets the reply of MAIL's parameter; false: refused. */
static bool
mail_param(struct lmtp_session *s, const struct lmtp_param *p)
{
    uint64_t size = 0;
    struct span sender = SPAN_EMPTY;

    if (span_eq_nocase_str(p->key, "SIZE")) { /* RFC 1870, 6 */
        if (p->value.n > 20 || p->value.n == 0) {
            refuse(s, "501 5.5.4 Bad SIZE");
            return false;
        }
        if (!parse_u64(p->value, &size)) {
            for (size_t i = 0; i < p->value.n; i++)
                if (p->value.p[i] < '0' || p->value.p[i] > '9') {
                    refuse(s, "501 5.5.4 Bad SIZE");
                    return false;
                }
            size = UINT64_MAX;
        }
        if (size > s->opt->message_bytes_max) {
            lmtp_reply_text(s, "552 5.3.4 Message too big");
            return false;
        }
    } else if (span_eq_nocase_str(p->key, "BODY")) { /* RFC 6152 */
        if (!span_eq_nocase_str(p->value, "7BIT") &&
            !span_eq_nocase_str(p->value, "8BITMIME")) {
            refuse(s, "501 5.5.4 Bad BODY");
            return false;
        }
    } else if (span_eq_nocase_str(p->key, "SMTPUTF8") && !p->has_value) {
        s->env.utf8 = true;
    } else if (span_eq_nocase_str(p->key, "AUTH")) { /* RFC 4954, 5 */
        if (!lmtp_xtext_decode(p->value, &s->arena, &sender)) {
            refuse(s, "501 5.5.4 Bad AUTH");
            return false;
        }
        if (!span_eq_str(sender, "<>"))
            s->env.sender = arena_str(&s->arena, sender);
    } else {
        refuse(s, "555 5.5.4 Unsupported parameter");
        return false;
    }
    return true;
}

static bool
mail_params(struct lmtp_session *s, struct span left)
{
    struct lmtp_param p;

    for (;;) {
        switch (lmtp_param_take(&left, &p)) {
        case LMTP_PARAM_END:
            return true;
        case LMTP_PARAM_BAD:
            refuse(s, "501 5.5.4 Bad parameter");
            return false;
        case LMTP_PARAM_OK:
            if (!mail_param(s, &p))
                return false;
            break;
        }
    }
}

/* RFC 6531, 3.3: non-ASCII addresses only where SMTPUTF8 was said. */
static bool
check_charset(struct lmtp_session *s, const struct lmtp_path *path,
              const char *no)
{
    if (!path->is_utf8)
        return true;
    if (s->env.utf8 && lmtp_is_utf8(path->text) && lmtp_is_utf8(path->local))
        return true;
    refuse(s, no);
    return false;
}

static const char *
not_ready(enum errcode code)
{
    if (code == ERR_READONLY)
        return "451 4.3.2 This server is a replica";
    if (code == ERR_CLOSED)
        return "451 4.3.2 The server is stopping";
    return "451 4.3.2 This server takes no mail now";
}

/* RFC 5321, 4.1.1.2 */
static void
cmd_mail(struct lmtp_session *s, struct span arg)
{
    struct lmtp_path path;
    struct error err = {0};

    if (s->env.is_open) {
        refuse(s, "503 5.5.1 Sender is given already");
        return;
    }
    enum errcode rc = s->w.backend->ready(s->w.backend_ctx, &err);
    if (rc != ERR_OK) {
        lmtp_reply_text(s, not_ready(rc));
        return;
    }
    envelope_reset(s);
    if (!span_starts_nocase(arg, SPAN_LIT("FROM:"))) {
        refuse(s, "501 5.5.4 Syntax: MAIL FROM:<address>");
        return;
    }
    arg = span_skip(arg, 5);
    if (!lmtp_path_take(&arg, &s->arena, &path)) {
        refuse(s, "501 5.1.7 Bad sender address");
        return;
    }
    if (!mail_params(s, arg) ||
        !check_charset(s, &path, "550 5.6.7 Sender address needs SMTPUTF8")) {
        envelope_reset(s);
        return;
    }
    s->env.from = arena_str(&s->arena, path.text);
    s->env.is_open = true;
    lmtp_reply_text(s, "250 2.1.0 Ok");
}

/* Cyrus's IGNOREQUOTA is all there is. */
static bool
rcpt_params(struct lmtp_session *s, struct span left, struct lmtp_rcpt *rcpt)
{
    struct lmtp_param p;
    enum lmtp_param_found found;

    while ((found = lmtp_param_take(&left, &p)) == LMTP_PARAM_OK) {
        if (!span_eq_nocase_str(p.key, "IGNOREQUOTA") || p.has_value) {
            refuse(s, "555 5.5.4 Unsupported parameter");
            return false;
        }
        rcpt->ignore_quota = true;
    }
    if (found == LMTP_PARAM_BAD)
        refuse(s, "501 5.5.4 Bad parameter");
    return found == LMTP_PARAM_END;
}

/* What a user's name is; the folder behind a '+' keeps its case. */
static char *
fold_local(struct lmtp_session *s, const struct lmtp_path *path)
{
    struct span local = path->local;
    char *folded = arena_str(&s->scratch, local);
    /* RFC 5321, 4.5.1: in any case. */
    bool fold =
        s->opt->downcase_rcpt ||
        (path->domain.n == 0 && span_eq_nocase_str(local, "postmaster"));

    for (size_t i = 0; fold && i < local.n && local.p[i] != '+'; i++)
        folded[i] = (char)ascii_lower(local.p[i]);
    return folded;
}

static const char *
lookup_reply(enum errcode code)
{
    if (code == ERR_NOTFOUND || code == ERR_BADNAME)
        return "550 5.1.1 Unknown user";
    if (code == ERR_DENIED)
        return "550 5.7.1 Posting is not allowed there";
    if (code == ERR_READONLY || code == ERR_FENCED || code == ERR_CLOSED)
        return not_ready(code);
    return "450 4.3.0 Cannot look up the user now";
}

static const char *
keep(struct lmtp_session *s, const char *text)
{
    return text == NULL ? NULL : arena_str(&s->arena, span_str(text));
}

static void
rcpt_add(struct lmtp_session *s, const struct lmtp_rcpt *rcpt)
{
    struct envelope *e = &s->env;
    struct lmtp_rcpt kept = *rcpt;

    kept.path = keep(s, rcpt->path);
    kept.local = keep(s, rcpt->local);
    kept.mailbox = keep(s, rcpt->mailbox);
    kept.user = keep(s, rcpt->user);

    if (e->nrcpts == e->cap) {
        e->cap = e->cap == 0 ? RCPTS_KEPT : e->cap * 2;
        e->rcpts = xrealloc(e->rcpts, e->cap * sizeof(*e->rcpts));
    }
    e->rcpts[e->nrcpts++] = kept;
}

/* RFC 5321, 4.1.1.3 */
static void
cmd_rcpt(struct lmtp_session *s, struct span arg)
{
    struct lmtp_path path;
    struct lmtp_rcpt rcpt = {0};
    struct error err = {0};

    if (!s->env.is_open) {
        refuse(s, "503 5.5.1 MAIL first");
        return;
    }
    if (s->env.nrcpts >= s->opt->recipients_max) { /* RFC 5321, 4.5.3.1.10 */
        lmtp_reply_text(s, "452 4.5.3 Too many recipients");
        return;
    }
    if (!span_starts_nocase(arg, SPAN_LIT("TO:"))) {
        refuse(s, "501 5.5.4 Syntax: RCPT TO:<address>");
        return;
    }
    arg = span_skip(arg, 3);
    if (!lmtp_path_take(&arg, &s->scratch, &path) || path.local.n == 0 ||
        memchr(path.local.p, 0, path.local.n) != NULL) {
        refuse(s, "501 5.1.3 Bad recipient address");
        return;
    }
    if (!rcpt_params(s, arg, &rcpt) ||
        !check_charset(s, &path, "553 5.6.7 Recipient needs SMTPUTF8"))
        return;
    rcpt.path = arena_str(&s->scratch, path.text);
    rcpt.local = fold_local(s, &path);
    enum errcode rc = s->w.backend->lookup(s->w.backend_ctx, &rcpt,
                                           s->env.sender, &s->scratch, &err);
    if (rc != ERR_OK) {
        atomic_fetch_add(&s->w.counters->refused, 1);
        log_notice(&s->log, "lmtp.refused", "rcpt=\"%s\" code=%s why=\"%s\"",
                   rcpt.path, errcode_name(rc), err.text);
        lmtp_reply_text(s, lookup_reply(rc));
        return;
    }
    rcpt_add(s, &rcpt);
    lmtp_reply_text(s, "250 2.1.5 Ok");
}

/* ---- the other commands ------------------------------------------------ */

static bool
needs_login(const struct lmtp_session *s)
{
    return !s->trusted && s->user == NULL;
}

/* Bytes that can stand in a comment of a header line and in a log line. */
static char *
printable_dup(struct span text)
{
    char *copy = span_dup(text);

    for (char *p = copy; *p != '\0'; p++)
        if (*p <= 0x20 || *p >= 0x7f || strchr("()<>\\\"", *p) != NULL)
            *p = '?';
    return copy;
}

/* RFC 2033, 4.1 */
static void
cmd_lhlo(struct lmtp_session *s, struct span arg)
{
    if (arg.n == 0 || arg.n > LMTP_LHLO_BYTES) {
        refuse(s, "501 5.5.4 Syntax: LHLO name");
        return;
    }
    envelope_reset(s);
    free(s->lhlo);
    s->lhlo = printable_dup(arg);
    lmtp_reply(s, "250-%s", s->opt->servername);
    lmtp_reply_text(s, "250-8BITMIME");
    lmtp_reply_text(s, "250-ENHANCEDSTATUSCODES");
    lmtp_reply_text(s, "250-PIPELINING");
    lmtp_reply_text(s, "250-SMTPUTF8");
    lmtp_reply_text(s, "250-IGNOREQUOTA");
    if (s->opt->starttls && s->opt->tls != NULL && s->peer.tls_bits == 0)
        lmtp_reply_text(s, "250-STARTTLS");
    if (needs_login(s)) {
        AUTO(buf_free) struct buf mechs = BUF_INIT;
        auth_mechs(s, &mechs);
        if (mechs.n > 0)
            lmtp_reply(s, "250-AUTH%s", buf_cstr(&mechs));
    }
    lmtp_reply(s, "250 SIZE %" PRIu64, s->opt->message_bytes_max);
}

static void
cmd_rset(struct lmtp_session *s, struct span arg)
{
    (void)arg;
    envelope_reset(s);
    lmtp_reply_text(s, "250 2.0.0 Ok");
}

static void
cmd_noop(struct lmtp_session *s, struct span arg)
{
    (void)arg;
    lmtp_reply_text(s, "250 2.0.0 Ok");
}

/* Whether there is such a user is told to RCPT (RFC 5321, 3.5.3). */
static void
cmd_vrfy(struct lmtp_session *s, struct span arg)
{
    if (arg.n == 0)
        refuse(s, "501 5.5.4 Syntax: VRFY address");
    else
        lmtp_reply_text(s, "252 2.5.0 Send some mail, I will try");
}

static void
cmd_help(struct lmtp_session *s, struct span arg)
{
    (void)arg;
    lmtp_reply_text(
        s, "214 2.0.0 LHLO MAIL RCPT DATA RSET NOOP VRFY QUIT (RFC 2033)");
}

static void
cmd_quit(struct lmtp_session *s, struct span arg)
{
    (void)arg;
    lmtp_say_bye(s, "221 2.0.0 Bye");
}

/* RFC 3207, 4; what came behind it in clear is thrown away. */
static void
cmd_starttls(struct lmtp_session *s, struct span arg)
{
    if (!s->opt->starttls || s->opt->tls == NULL) {
        refuse(s, "502 5.5.1 STARTTLS is not possible here");
    } else if (arg.n > 0) {
        refuse(s, "501 5.5.4 STARTTLS takes no parameter");
    } else if (s->peer.tls_bits != 0) {
        refuse(s, "503 5.5.1 TLS is on already");
    } else {
        lmtp_reply_text(s, "220 2.0.0 Ready to start TLS");
        flush(s);
        s->w.io->start_tls(s->w.io_ctx);
    }
}

enum { NEEDS_LHLO = 1, NEEDS_LOGIN = 2 };

static const struct {
    const char *name;
    void (*run)(struct lmtp_session *s, struct span arg);
    unsigned needs;
} commands[] = {
    [LMTP_LHLO] = {"LHLO", cmd_lhlo, 0},
    [LMTP_MAIL] = {"MAIL", cmd_mail, NEEDS_LHLO | NEEDS_LOGIN},
    [LMTP_RCPT] = {"RCPT", cmd_rcpt, NEEDS_LHLO | NEEDS_LOGIN},
    [LMTP_DATA] = {"DATA", cmd_data, NEEDS_LHLO | NEEDS_LOGIN},
    [LMTP_RSET] = {"RSET", cmd_rset, 0},
    [LMTP_NOOP] = {"NOOP", cmd_noop, 0},
    [LMTP_VRFY] = {"VRFY", cmd_vrfy, NEEDS_LOGIN},
    [LMTP_HELP] = {"HELP", cmd_help, 0},
    [LMTP_QUIT] = {"QUIT", cmd_quit, 0},
    [LMTP_AUTH] = {"AUTH", cmd_auth, NEEDS_LHLO},
    [LMTP_STARTTLS] = {"STARTTLS", cmd_starttls, 0},
};

size_t
lmtpd_commands(void)
{
    return LMTP_COUNT;
}

const char *
lmtpd_command_name(size_t i)
{
    return commands[i].name;
}

/* A delivery is counted by transfer.c, when it is through. */
static void
run_command(struct lmtp_session *s, size_t i, struct span arg)
{
    const uint64_t began_ns = env_mono_ns(s->opt->env);
    const unsigned bad = s->bad_commands;

    commands[i].run(s, arg);
    if (s->opt->commands != NULL && i != LMTP_DATA)
        command_tally_add(&s->opt->commands[i],
                          env_mono_ns(s->opt->env) - began_ns,
                          s->bad_commands > bad);
}

static void
dispatch(struct lmtp_session *s, struct span line)
{
    ptrdiff_t sp = span_find_byte(line, ' ', 0);
    struct span name = sp < 0 ? line : span_sub(line, 0, (size_t)sp);
    struct span arg = span_trim(span_skip(line, name.n));

    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (!span_eq_nocase_str(name, commands[i].name))
            continue;
        if ((commands[i].needs & NEEDS_LHLO) != 0 && s->lhlo == NULL)
            refuse(s, "503 5.5.1 LHLO first");
        else if ((commands[i].needs & NEEDS_LOGIN) != 0 && needs_login(s))
            refuse(s, s->opt->soft_noauth
                          ? "430 4.7.0 Authentication required"
                          : "530 5.7.0 Authentication required");
        else
            run_command(s, i, arg);
        return;
    }
    refuse(s, "500 5.5.1 Unknown command");
}

/* ---- input ------------------------------------------------------------- */

static size_t
skip_line(struct lmtp_session *s, struct span in)
{
    ptrdiff_t lf = span_find_byte(in, '\n', 0);
    size_t used = lf < 0 ? in.n : (size_t)lf + 1;

    s->skipped_bytes += used;
    if (s->skipped_bytes > SKIP_BYTES_MAX) {
        lmtp_say_bye(s, "421 4.7.0 Line without end");
    } else if (lf >= 0) {
        s->mode = MODE_COMMAND;
        s->skipped_bytes = 0;
    }
    return used;
}

static size_t
take_line(struct lmtp_session *s, struct span in)
{
    struct span line = SPAN_EMPTY;
    size_t used = 0;

    switch (line_take(in, LMTP_LINE_BYTES, &line, &used)) {
    case PARSE_MORE:
        return 0;
    case PARSE_BAD:
        if (s->mode == MODE_AUTH)
            auth_drop(s);
        s->mode = MODE_SKIP;
        refuse(s, "500 5.5.2 Line too long");
        return MIN(in.n, LMTP_LINE_BYTES); /* none of it is the line's end */
    case PARSE_DONE:
        break;
    }
    if (s->mode == MODE_AUTH)
        auth_line(s, line);
    else
        dispatch(s, line);
    arena_reset(&s->scratch);
    return used;
}

size_t
lmtp_session_input(struct lmtp_session *s, struct span in)
{
    size_t used = 0;

    if (s->closing)
        return in.n;
    if (s->waiting)
        return 0;
    switch (s->mode) {
    case MODE_COMMAND:
    case MODE_AUTH:
        used = take_line(s, in);
        break;
    case MODE_SKIP:
        used = skip_line(s, in);
        break;
    case MODE_DATA:
        used = transfer_input(s, in);
        break;
    }
    flush(s);
    return used;
}

/* ---- life -------------------------------------------------------------- */

static void
set_peer(struct lmtp_session *s, const struct session_peer *peer)
{
    session_peer_copy(&s->peer, peer);
    s->trusted = peer->on_unix || s->opt->preauth;
    snprintf(s->log.prefix, sizeof(s->log.prefix), "peer=%s",
             s->peer.peer_name == NULL ? "-" : s->peer.peer_name);
}

struct lmtp_session *
lmtp_session_new(const struct lmtp_wiring *wiring,
                 const struct session_peer *peer)
{
    struct lmtp_session *s = xcalloc(1, sizeof(*s));

    s->w = *wiring;
    s->opt = wiring->options;
    set_peer(s, peer);
    return s;
}

void
lmtp_session_start(struct lmtp_session *s)
{
    lmtp_reply(s, "220 %s LMTP Pollux " POLLUX_VERSION " ready",
               s->opt->servername);
    flush(s);
}

/* RFC 3207, 4.2: what was known before is forgotten. */
void
lmtp_session_tls(struct lmtp_session *s, const struct session_peer *peer)
{
    saslsrv_free(&s->sasl); /* what it offered was for a line in clear */
    envelope_reset(s);
    xfree(&s->lhlo);
    xfree(&s->user);
    set_peer(s, peer);
}
