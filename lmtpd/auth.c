/*
 * lmtpd/auth.c - AUTH (RFC 4954): only those who may deliver log in here.
 *
 * A step of libsasl runs on a worker, for saslauthd may take its time.  A login
 * is good only for a name of lmtp_admins (or admins): a user's own password
 * does not let him put mail into the boxes of others.
 */
#include "lmtpd/session_private.h"

#include <stdlib.h>

static bool
is_listed(const char *const *list, const char *user)
{
    for (; list != NULL && *list != NULL; list++)
        if (strcmp(*list, user) == 0)
            return true;
    return false;
}

static struct saslsrv *
session_sasl(struct lmtp_session *s)
{
    struct error err = {0};
    const struct saslsrv_options options = {
        .service = "lmtp",
        .hostname = s->opt->servername,
        .local_name = s->peer.local_name,
        .peer_name = s->peer.peer_name,
        .tls_bits = s->peer.tls_bits,
        .external_id = s->peer.external_id,
        .allow_plain = s->opt->allow_plain,
    };

    if (s->sasl != NULL || s->opt->cfg == NULL)
        return s->sasl;
    if (saslsrv_new(&options, &s->sasl, &err) != ERR_OK)
        log_error(&s->log, "lmtp.sasl_failed", "why=\"%s\"", err.text);
    return s->sasl;
}

void
auth_mechs(struct lmtp_session *s, struct buf *out)
{
    AUTO(buf_free) struct buf mechs = BUF_INIT;

    if (s->opt->check_password != NULL) {
        buf_add_str(&mechs, "PLAIN");
    } else {
        struct saslsrv *sasl = session_sasl(s);
        if (sasl != NULL)
            saslsrv_mechs(sasl, &mechs);
    }
    if (mechs.n == 0)
        return;
    buf_add_byte(out, ' ');
    buf_add(out, buf_span(&mechs));
}

void
auth_drop(struct lmtp_session *s)
{
    if (s->step == NULL)
        return;
    saslsrv_step_clear(s->step);
    free(s->step);
    s->step = NULL;
    if (s->mode == MODE_AUTH)
        s->mode = MODE_COMMAND;
}

/* ---- what came of it --------------------------------------------------- */

static void
auth_failed(struct lmtp_session *s, const struct error *err)
{
    const char *line = "535 5.7.8 Authentication failed";

    atomic_fetch_add(&s->w.counters->login_failures, 1);
    log_notice(&s->log, "lmtp.login_failed", "code=%s why=\"%s\"",
               errcode_name(err->code), err->text);
    if (err->code == ERR_AGAIN) /* RFC 4954, 6 */
        line = "454 4.7.0 Authentication is not possible now";
    else if (err->code == ERR_DENIED)
        line = "535 5.7.1 This user may not deliver";
    else if (err->code == ERR_UNSUPPORTED)
        line = "504 5.5.4 No such mechanism here";
    else if (err->code == ERR_PROTO)
        line = "501 5.5.2 Bad authentication exchange";
    auth_drop(s);
    saslsrv_free(&s->sasl);
    refuse(s, line);
}

static void
welcome(struct lmtp_session *s, const char *user, const char *mech)
{
    char *name = xstrdup(user);
    struct error err = {0};

    for (char *p = name; s->opt->user_tolower && *p != '\0'; p++)
        *p = (char)ascii_lower((uint8_t)*p);
    if (!is_listed(s->opt->admins, name)) {
        error_set(&err, ERR_DENIED, "user \"%s\" is none of lmtp_admins", name);
        auth_failed(s, &err);
        free(name);
        return;
    }
    log_info(&s->log, "lmtp.login", "user=\"%s\" mech=%s tls=%u", name, mech,
             s->peer.tls_bits);
    free(s->user);
    s->user = name;
    auth_drop(s);
    saslsrv_free(&s->sasl);
    lmtp_reply(s, "235 2.7.0 Authentication succeeded");
}

/* ---- steps ------------------------------------------------------------- */

static void
challenge(struct lmtp_session *s)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    sasl_encode_base64(buf_span(&s->step->output), &text);
    buf_add_str(&s->out, "334 ");
    buf_add(&s->out, buf_span(&text));
    buf_add_str(&s->out, "\r\n");
    s->mode = MODE_AUTH;
}

static void
stepped(struct lmtp_session *s)
{
    struct saslsrv_step *step = s->step;

    switch (step->outcome) {
    case SASL_MORE:
        challenge(s);
        break;
    case SASL_SUCCESS:
        /* RFC 4954, 4: data with success goes as one more challenge, which the
         * client answers with an empty line. */
        if (step->output.n > 0)
            challenge(s);
        else
            welcome(s, saslsrv_authorized(s->sasl), saslsrv_mech(s->sasl));
        break;
    case SASL_FAILED: {
        struct error err = step->err;
        auth_failed(s, &err);
        break;
    }
    }
}

static void
step_done(void *arg)
{
    struct lmtp_session *s = arg;

    if (!s->dead)
        stepped(s);
    if (lmtp_async_end(s))
        go_on(s);
}

static void
step_work(void *arg)
{
    struct lmtp_session *s = arg;

    saslsrv_do(s->step);
}

/* A test's PLAIN (RFC 4616) in place of libsasl's. */
static void
check_plain(struct lmtp_session *s)
{
    struct span in = buf_span(&s->step->input);
    ptrdiff_t first = span_find_byte(in, 0, 0);
    ptrdiff_t second =
        first < 0 ? -1 : span_find_byte(in, 0, (size_t)first + 1);
    struct error err = {0};

    if (second < 0) {
        error_set(&err, ERR_PROTO, "bad PLAIN");
        auth_failed(s, &err);
        return;
    }
    struct span user =
        span_sub(in, (size_t)first + 1, (size_t)(second - first - 1));
    struct span password = span_skip(in, (size_t)second + 1);
    if (!s->opt->check_password(s->opt->check_ctx, user, password)) {
        error_set(&err, ERR_AUTH, "wrong password");
        auth_failed(s, &err);
        return;
    }
    char *name = span_dup(user);
    welcome(s, name, "PLAIN");
    free(name);
}

static void
run_step(struct lmtp_session *s)
{
    buf_clear(&s->step->output);
    s->mode = MODE_COMMAND;
    if (s->opt->check_password != NULL) {
        check_plain(s);
        return;
    }
    lmtp_async_begin(s);
    s->w.io->work(s->w.io_ctx, step_work, step_done, s);
}

/* False: refused. */
static bool
take_response(struct lmtp_session *s, struct span text)
{
    buf_clear(&s->step->input);
    s->step->input.max = SASL_STEP_BYTES;
    if (sasl_decode_base64(text, &s->step->input))
        return true;
    auth_drop(s);
    saslsrv_free(&s->sasl);
    refuse(s, "501 5.5.2 Bad base64");
    return false;
}

void
auth_line(struct lmtp_session *s, struct span line)
{
    if (span_eq_str(line, "*")) { /* RFC 4954, 4 */
        auth_drop(s);
        saslsrv_free(&s->sasl);
        refuse(s, "501 5.7.0 Authentication cancelled");
        return;
    }
    if (!take_response(s, line))
        return;
    if (s->step->outcome == SASL_SUCCESS) {
        welcome(s, saslsrv_authorized(s->sasl), saslsrv_mech(s->sasl));
        return;
    }
    s->step->mech[0] = '\0';
    s->step->has_initial = false;
    run_step(s);
}

void
cmd_auth(struct lmtp_session *s, struct span arg)
{
    ptrdiff_t sp = span_find_byte(arg, ' ', 0);
    struct span mech = sp < 0 ? arg : span_sub(arg, 0, (size_t)sp);
    struct span initial = span_trim(span_skip(arg, mech.n));

    if (s->trusted || s->user != NULL || s->env.is_open) {
        refuse(s, "503 5.5.1 AUTH is not possible now");
        return;
    }
    if (s->opt->check_password == NULL && session_sasl(s) == NULL) {
        refuse(s, "454 4.7.0 Authentication is not possible now");
        return;
    }
    s->step = xcalloc(1, sizeof(*s->step));
    s->step->s = s->sasl;
    if (mech.n == 0 || mech.n >= sizeof(s->step->mech) ||
        (s->opt->check_password != NULL &&
         !span_eq_nocase_str(mech, "PLAIN"))) {
        auth_drop(s);
        refuse(s, "504 5.5.4 No such mechanism here");
        return;
    }
    for (size_t i = 0; i < mech.n; i++)
        s->step->mech[i] = (char)ascii_upper(mech.p[i]);
    s->step->outcome = SASL_MORE;
    s->step->has_initial = initial.n > 0;
    if (span_eq_str(initial, "=")) /* an empty one */
        initial = SPAN_EMPTY;
    if (!take_response(s, initial))
        return;
    if (s->opt->check_password != NULL && !s->step->has_initial)
        challenge(s);
    else
        run_step(s);
}
