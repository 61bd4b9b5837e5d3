/*
 * imapd/auth.c - LOGIN, AUTHENTICATE and STARTTLS: who the client is.
 *
 * Passwords are checked on a worker, for saslauthd may take its time.  After
 * that the user's INBOX is made if the configuration wants it so (autocreate),
 * and only then the client hears OK.
 */
#include "imapd/notify.h"

#include <stdlib.h>

/* A check that runs on a worker; it touches nothing of the session but this. */
struct auth_job {
    struct saslsrv_step step; /* AUTHENTICATE */
    struct span user;         /* LOGIN */
    struct span password;
    enum errcode code; /* LOGIN: what came of it */
    struct error err;
    bool has_step;
};

static bool
is_listed(const char *const *list, const char *user)
{
    for (; list != NULL && *list != NULL; list++)
        if (strcmp(*list, user) == 0)
            return true;
    return false;
}

/* On a worker thread: const data only. */
static bool
may_act_for(void *ctx, const char *authenticated, const char *requested)
{
    const struct imapd_options *opt = ctx;

    (void)requested;
    return is_listed(opt->admins, authenticated) ||
           is_listed(opt->proxyservers, authenticated);
}

struct saslsrv *
session_sasl(struct imap_session *s)
{
    struct error err = {0};
    const struct saslsrv_options options = {
        .service = "imap",
        .hostname = s->opt->servername,
        .local_name = s->peer.local_name,
        .peer_name = s->peer.peer_name,
        .tls_bits = s->peer.tls_bits,
        .external_id = s->peer.external_id,
        .allow_plain = s->opt->allow_plain,
        .may_act_for = may_act_for,
        .ctx = (void *)(uintptr_t)s->opt,
    };

    if (s->sasl != NULL || s->opt->check_password != NULL)
        return s->sasl;
    if (saslsrv_new(&options, &s->sasl, &err) != ERR_OK)
        log_error(&s->log, "imap.sasl_failed", "why=\"%s\"", err.text);
    return s->sasl;
}

/*
 * A replica that has nothing applied yet (new, rejoined, being seeded) would
 * show an account without mail, and a client that keeps copies would throw its
 * own away.
 */
static bool
is_unfilled(const struct imap_session *s)
{
    return store_role(s->store) != ROLE_MASTER &&
           store_pos(s->store).applied.lsn == LSN_NONE;
}

static enum run
not_filled(struct imap_session *s)
{
    return reply(s, "NO [UNAVAILABLE] This replica waits to be filled by its "
                    "master, try again later");
}

/* ---- after the check --------------------------------------------------- */

static enum run
logged_in(struct imap_session *s)
{
    s->state = STATE_AUTH;
    saslsrv_free(&s->sasl);
    s->io->set_timeout(s->io_ctx, s->opt->idle_timeout_ms);
    return reply(s, "OK [CAPABILITY %s] User logged in",
                 capabilities(s, true, &s->arena));
}

/* That the INBOX could not be made is the admin's to know; who wants to read
 * other mailboxes may. */
static enum run
autocreated(struct imap_session *s)
{
    if (txn_code(s->txn) != ERR_OK)
        log_warn(&s->log, "imap.autocreate_failed",
                 "user=\"%s\" why=\"%s\" consequence=\"there is no INBOX\"",
                 s->user, txn_error(s->txn)->text);
    else
        log_notice(&s->log, "imap.autocreated", "user=\"%s\"", s->user);
    return logged_in(s);
}

static bool
lacks_inbox(struct imap_session *s, const char *inbox)
{
    struct mailbox mb;
    struct error err = {0};
    struct store_snap *snap = store_snapshot(s->store);
    enum errcode rc = snap_mailbox_by_name(snap, inbox, &s->arena, &mb, &err);

    store_release(&snap);
    return rc == ERR_NOTFOUND;
}

static enum run
auth_failed(struct imap_session *s, const struct error *err, const char *mech)
{
    atomic_fetch_add(&s->counters->login_failures, 1);
    log_notice(&s->log, "imap.login_failed", "mech=%s code=%s why=\"%s\"", mech,
               errcode_name(err->code), err->text);
    s->bad_commands++;
    if (s->bad_commands >= s->opt->bad_commands_max) {
        free(s->goodbye);
        s->goodbye = xstrdup("Too many failed logins");
    }
    switch (err->code) { /* RFC 5530 */
    case ERR_AGAIN:
        return reply(s, "NO [UNAVAILABLE] Authentication is not possible now");
    case ERR_DENIED:
        return reply(s, "NO [AUTHORIZATIONFAILED] Not allowed");
    case ERR_PROTO:
        return reply(s, "BAD Bad authentication exchange");
    case ERR_UNSUPPORTED:
        return reply(s, "NO [CANNOT] No such mechanism here");
    case ERR_OK:
    case ERR_LIMIT:
    case ERR_SYNTAX:
    case ERR_GAP:
    case ERR_FENCED:
    case ERR_READONLY:
    case ERR_CORRUPT:
    case ERR_IO:
    case ERR_NOSPACE:
    case ERR_CLOSED:
    case ERR_TIMEOUT:
    case ERR_AUTH:
    case ERR_NOTFOUND:
    case ERR_EXISTS:
    case ERR_CONFLICT:
    case ERR_QUOTA:
    case ERR_BADNAME:
    case ERR_HISTORY:
    case ERR_VERSION:
    case ERR_BUSY:
        break;
    }
    return reply(s, "NO [AUTHENTICATIONFAILED] Authentication failed");
}

/* The credentials of AUTHENTICATED are good, and USER is whom they are for. */
static enum run
welcome(struct imap_session *s, const char *user, const char *authenticated,
        const char *mech)
{
    struct error err = {0};
    struct store_txn *txn = NULL;
    const char *inbox = NULL;
    char *name = arena_str(&s->arena, span_str(user));

    for (char *p = name; s->opt->user_tolower && *p != '\0'; p++)
        *p = (char)ascii_lower((uint8_t)*p);
    if (name_inbox(name, &s->arena, &inbox, &err) != ERR_OK)
        return auth_failed(s, &err, mech);
    free(s->user);
    s->user = xstrdup(name);
    s->is_admin = is_listed(s->opt->admins, name);
    s->bad_commands = 0;
    atomic_fetch_add(&s->counters->logins, 1);
    log_info(&s->log, "imap.login", "user=\"%s\" by=\"%s\" mech=%s tls=%u",
             name, authenticated, mech, s->peer.tls_bits);
    if (s->is_admin || !s->opt->autocreate.on_login ||
        store_role(s->store) != ROLE_MASTER || !lacks_inbox(s, inbox) ||
        autocreate_txn(&s->opt->autocreate, &s->opt->ns, name, &txn, &err) !=
            ERR_OK)
        return logged_in(s);
    return submit(s, txn, autocreated);
}

/* ---- LOGIN ------------------------------------------------------------- */

static void
login_work(void *arg)
{
    struct imap_session *s = arg;
    struct auth_job *job = s->job;

    if (s->opt->check_password != NULL)
        job->code =
            s->opt->check_password(s->opt->check_ctx, job->user, job->password)
                ? ERR_OK
                : error_set(&job->err, ERR_AUTH, "wrong password");
    else
        job->code = saslsrv_check_password(s->sasl, job->user, job->password,
                                           &job->err);
}

static enum run
login_checked(struct imap_session *s)
{
    struct auth_job *job = s->job;

    /* The password stays in memory no longer than needed. */
    if (job->password.n > 0)
        memset((uint8_t *)(uintptr_t)job->password.p, 0, job->password.n);
    if (job->code != ERR_OK)
        return auth_failed(s, &job->err, "LOGIN-COMMAND");
    if (s->opt->check_password != NULL) {
        const char *user = arena_str(&s->arena, job->user);
        return welcome(s, user, user, "TEST");
    }
    return welcome(s, saslsrv_authorized(s->sasl),
                   saslsrv_authenticated(s->sasl), "LOGIN-COMMAND");
}

enum run
cmd_login(struct imap_session *s)
{
    struct auth_job *job = arena_alloc(&s->arena, sizeof(*job));

    /* RFC 3501, 6.2.3: LOGINDISABLED was announced. */
    if (s->peer.tls_bits == 0 && !s->opt->allow_plain)
        return reply(s, "NO [PRIVACYREQUIRED] Login only under TLS");
    if (is_unfilled(s))
        return not_filled(s);
    if (s->opt->check_password == NULL && session_sasl(s) == NULL)
        return reply(s, "NO [UNAVAILABLE] Authentication is not possible now");
    job->user = s->cmd->name;
    job->password = s->cmd->arg;
    s->job = job;
    return run_work(s, login_work, login_checked);
}

/* ---- AUTHENTICATE ------------------------------------------------------ */

static void
step_end(struct imap_session *s)
{
    struct auth_job *job = s->job;

    saslsrv_step_clear(&job->step);
}

static void
step_work(void *arg)
{
    struct imap_session *s = arg;
    struct auth_job *job = s->job;

    saslsrv_do(&job->step);
}

static enum run
wait_for_line(struct imap_session *s)
{
    (void)s;
    return RUN_WAIT;
}

static enum run
stepped(struct imap_session *s)
{
    struct auth_job *job = s->job;
    struct saslsrv_step *step = &job->step;

    switch (step->outcome) {
    case SASL_MORE:
        break;
    case SASL_SUCCESS:
        /* IMAP has no place for data with success (RFC 4959, 3 leaves it so):
         * it goes as one more challenge, which the client answers with an
         * empty line. */
        if (step->output.n > 0)
            break;
        return welcome(s, saslsrv_authorized(s->sasl),
                       saslsrv_authenticated(s->sasl), saslsrv_mech(s->sasl));
    case SASL_FAILED: {
        struct error err = step->err;
        saslsrv_free(&s->sasl);
        return auth_failed(s, &err, "SASL");
    }
    }
    buf_add_str(&s->out, "+ ");
    sasl_encode_base64(buf_span(&step->output), &s->out);
    buf_add_str(&s->out, "\r\n");
    flush(s);
    s->mode = INPUT_SASL;
    s->run = wait_for_line;
    return RUN_WAIT;
}

static enum run
step_on(struct imap_session *s)
{
    return run_work(s, step_work, stepped);
}

static enum run
cancelled(struct imap_session *s)
{
    saslsrv_free(&s->sasl);
    return reply(s, "BAD Authentication cancelled");
}

static enum run
success_acknowledged(struct imap_session *s)
{
    return welcome(s, saslsrv_authorized(s->sasl),
                   saslsrv_authenticated(s->sasl), saslsrv_mech(s->sasl));
}

void
sasl_line(struct imap_session *s, struct span line)
{
    struct auth_job *job = s->job;
    struct saslsrv_step *step = &job->step;

    s->mode = INPUT_COMMAND;
    buf_clear(&step->input);
    step->input.max = SASL_STEP_BYTES;
    if (span_eq_str(line, "*") || !sasl_decode_base64(line, &step->input)) {
        s->run = cancelled;
    } else if (step->outcome == SASL_SUCCESS) {
        s->run = success_acknowledged;
    } else {
        step->mech[0] = '\0';
        step->has_initial = false;
        buf_clear(&step->output);
        s->run = step_on;
    }
    session_run(s);
}

enum run
cmd_authenticate(struct imap_session *s)
{
    struct auth_job *job = arena_alloc(&s->arena, sizeof(*job));
    struct saslsrv_step *step = &job->step;
    struct span mech = s->cmd->arg;

    if (is_unfilled(s))
        return not_filled(s);
    saslsrv_free(&s->sasl); /* a new exchange for each attempt */
    if (session_sasl(s) == NULL)
        return reply(s, "NO [UNAVAILABLE] Authentication is not possible now");
    if (mech.n >= sizeof(step->mech))
        return reply(s, "NO [CANNOT] No such mechanism here");
    s->job = job;
    s->job_end = step_end;
    step->s = s->sasl;
    for (size_t i = 0; i < mech.n; i++)
        step->mech[i] = (char)ascii_upper(mech.p[i]);
    step->has_initial = s->cmd->has_arg2;
    step->input.max = SASL_STEP_BYTES;
    if (!sasl_decode_base64(s->cmd->arg2, &step->input))
        return reply(s, "BAD Invalid base64");
    return step_on(s);
}

/* ---- UNAUTHENTICATE ---------------------------------------------------- */

/* RFC 8437: all is as after the greeting.  Compression ends behind the OK, the
 * client's behind the command (4.1). */
enum run
cmd_unauthenticate(struct imap_session *s)
{
    notify_free(s);
    unselect(s);
    free(s->user);
    s->user = NULL;
    s->is_admin = false;
    s->condstore = s->condstore_named = s->qresync = false;
    s->rev2 = s->utf8_accept = s->uidonly = false;
    s->bad_commands = 0;
    saslsrv_free(&s->sasl);
    s->state = STATE_NOT_AUTH;
    s->io->set_timeout(s->io_ctx, s->opt->login_timeout_ms);
    if (!s->compressed)
        return reply(s, "OK Completed");
    buf_add(&s->out, s->cmd->tag);
    buf_add_str(&s->out, " OK Completed\r\n");
    flush(s);
    s->io->end_deflate(s->io_ctx);
    s->compressed = false;
    return RUN_DONE;
}

/* ---- COMPRESS ---------------------------------------------------------- */

enum run
cmd_compress(struct imap_session *s)
{
    if (!span_eq_nocase_str(s->cmd->arg, "DEFLATE"))
        return reply(s, "NO [CANNOT] Only DEFLATE");
    if (s->compressed) /* RFC 4978, 3 */
        return reply(s, "NO [COMPRESSIONACTIVE] DEFLATE is on already");
    if (s->io->start_deflate == NULL)
        return reply(s, "NO [CANNOT] Not possible here");
    buf_add(&s->out, s->cmd->tag);
    buf_add_str(&s->out, " OK DEFLATE active\r\n");
    flush(s);
    s->io->start_deflate(s->io_ctx);
    s->compressed = true;
    return RUN_DONE;
}

/* ---- STARTTLS ---------------------------------------------------------- */

enum run
cmd_starttls(struct imap_session *s)
{
    if (!s->opt->starttls || s->opt->tls == NULL || s->peer.tls_bits != 0)
        return reply(s, "BAD STARTTLS is not possible here");
    /* The reply must be in clear, and nothing behind it. */
    buf_add(&s->out, s->cmd->tag);
    buf_add_str(&s->out, " OK Begin TLS negotiation now\r\n");
    flush(s);
    s->io->start_tls(s->io_ctx);
    return RUN_DONE;
}
