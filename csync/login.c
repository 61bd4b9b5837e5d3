/*
 * csync/login.c - who is at the other end: AUTHENTICATE on the csync port.
 *
 * Steps run on a worker, since looking up a password may block; input rests
 * meanwhile.
 */
#include <stdio.h>

#include "csync/session.h"

static bool
is_among(const char *const *names, const char *user)
{
    for (; names != NULL && *names != NULL; names++)
        if (strcmp(*names, user) == 0)
            return true;
    return false;
}

bool
login_begin(struct csync_session *s)
{
    const struct csync_server_options *o = session_options(s);
    char local[CONN_NAME_BYTES];
    char peer[CONN_NAME_BYTES];
    struct tls_info tls = {0};
    bool has_tls = conn_tls_info(s->conn, &tls);
    struct error err = {0};

    conn_local_name(s->conn, local);
    conn_peer_name(s->conn, peer);
    struct saslsrv_options options = {
        .service = "csync",
        .hostname = o->servername,
        .local_name = local,
        .peer_name = peer,
        .tls_bits = has_tls ? tls.bits : 0,
        .external_id = has_tls && tls.peer_verified ? tls.peer_cn : NULL,
        .allow_plain = o->allow_plaintext,
    };
    saslsrv_free(&s->sasl);
    if (saslsrv_new(&options, &s->sasl, &err) == ERR_OK)
        return true;
    log_error(&s->log, "csync.sasl", "why=\"%s\"", err.text);
    conn_close(s->conn);
    return false;
}

static void
logged_in(struct csync_session *s)
{
    const char *user = saslsrv_authorized(s->sasl);

    s->authenticated = true;
    s->permitted = is_among(session_options(s)->admins, user) ||
                   is_among(session_options(s)->sync_admins, user);
    s->phase = PHASE_COMMAND;
    conn_set_deadline_ms(s->conn, 0);
    conn_set_timeout_ms(s->conn, session_options(s)->idle_timeout_ms);
    log_info(&s->log, "csync.login", "user=\"%s\" mech=%s permitted=%s", user,
             saslsrv_mech(s->sasl), s->permitted ? "yes" : "no");
    conn_write_str(s->conn, "OK Success (no protection)\r\n");
}

static void
write_challenge(struct csync_session *s)
{
    AUTO(buf_free) struct buf out = BUF_INIT;

    sasl_encode_base64(buf_span(&s->step.output), &out);
    conn_writef(s->conn, "+ %s\r\n", buf_cstr(&out));
}

static void
login_failed(struct csync_session *s)
{
    log_notice(&s->log, "csync.badlogin", "why=\"%s\"", s->step.err.text);
    s->phase = PHASE_COMMAND;
    conn_write_str(s->conn, "NO authentication failure\r\n");
    (void)login_begin(s);
}

static void
sasl_stepped(void *ctx)
{
    struct csync_session *s = ctx;

    if (session_job_end(s))
        return;
    conn_resume_input(s->conn);
    switch (s->step.outcome) {
    case SASL_MORE:
        s->phase = PHASE_SASL;
        write_challenge(s);
        break;
    case SASL_SUCCESS:
        if (s->step.output.n == 0) {
            logged_in(s);
            break;
        }
        s->phase = PHASE_SASL_LAST;
        write_challenge(s);
        break;
    case SASL_FAILED:
        login_failed(s);
        break;
    }
}

static void
sasl_step(struct csync_session *s)
{
    s->step.s = s->sasl;
    conn_pause_input(s->conn);
    session_job_begin(s);
    saslsrv_run(s->reactor, &s->step, sasl_stepped, s);
}

void
login_start(struct csync_session *s, struct span rest)
{
    ptrdiff_t blank = span_find_byte(rest, ' ', 0);
    struct span mech = blank < 0 ? rest : span_sub(rest, 0, (size_t)blank);
    struct span initial =
        blank < 0 ? SPAN_EMPTY : span_trim(span_skip(rest, (size_t)blank));

    if (s->authenticated) {
        conn_write_str(s->conn, "BAD already authenticated\r\n");
        return;
    }
    if (mech.n == 0 || mech.n >= sizeof(s->step.mech)) {
        conn_write_str(s->conn, "BAD which mechanism?\r\n");
        return;
    }
    saslsrv_step_clear(&s->step);
    s->step = (struct saslsrv_step){.has_initial = initial.n > 0};
    memcpy(s->step.mech, mech.p, mech.n);
    s->step.input.max = SASL_STEP_BYTES;
    if (initial.n > 0 && !span_eq_str(initial, "=") &&
        !sasl_decode_base64(initial, &s->step.input)) {
        conn_write_str(s->conn, "BAD initial response is not base64\r\n");
        return;
    }
    sasl_step(s);
}

void
login_answer(struct csync_session *s, struct span line)
{
    if (s->phase == PHASE_SASL_LAST) {
        if (line.n == 0)
            logged_in(s);
        else
            login_failed(s);
        return;
    }
    saslsrv_step_clear(&s->step);
    s->step = (struct saslsrv_step){.input = BUF_MAX(SASL_STEP_BYTES)};
    if (span_eq_str(line, "*") || !sasl_decode_base64(line, &s->step.input)) {
        error_set(&s->step.err, ERR_PROTO, "cancelled, or not base64");
        login_failed(s);
        return;
    }
    sasl_step(s);
}
