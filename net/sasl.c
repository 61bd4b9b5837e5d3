/*
 * net/sasl.c - libsasl2 behind steps of bytes.
 *
 * libsasl asks for everything by callbacks: its options (answered from
 * imapd.conf), who may act for whom, and on the client's side name and
 * password.  It is used without security layers: TLS does that.
 *
 * Each exchange has its own sasl_conn_t and is used by one thread at a time;
 * the library's global tables are guarded by the mutexes that it is given.
 */
#include "net/sasl.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <stdio.h>

#include <sasl/sasl.h>
#include <sasl/saslutil.h>

#include "base/config.h"
#include "base/log.h"

/* What is offered unless sasl_mech_list says otherwise. */
#define MECHS_DEFAULT                                                          \
    "PLAIN LOGIN SCRAM-SHA-1 SCRAM-SHA-224 SCRAM-SHA-256 SCRAM-SHA-384 "       \
    "SCRAM-SHA-512 EXTERNAL"

typedef int (*sasl_callback_fn)(void);

static const struct config *library_config;

/* ---- the library ---- */

static void *
mutex_new(void)
{
    pthread_mutex_t *m = xmalloc(sizeof(*m));
    pthread_mutex_init(m, NULL);
    return m;
}

static int
mutex_lock(void *m)
{
    return pthread_mutex_lock(m) == 0 ? SASL_OK : SASL_FAIL;
}

static int
mutex_unlock(void *m)
{
    return pthread_mutex_unlock(m) == 0 ? SASL_OK : SASL_FAIL;
}

static void
mutex_free(void *m)
{
    pthread_mutex_destroy(m);
    free(m);
}

/* Options: "sasl_PLUGIN_NAME", then "sasl_NAME". */
static int
on_getopt(void *ctx, const char *plugin, const char *option, const char **ret,
          unsigned *ret_n)
{
    char name[160];
    const char *value = NULL;

    (void)ctx;
    if (plugin != NULL) {
        snprintf(name, sizeof(name), "sasl_%s_%s", plugin, option);
        value = config_free_form(library_config, name);
    }
    if (value == NULL) {
        snprintf(name, sizeof(name), "sasl_%s", option);
        value = config_free_form(library_config, name);
    }
    if (value == NULL && strcmp(option, "mech_list") == 0)
        value = MECHS_DEFAULT;
    if (value == NULL)
        return SASL_FAIL;
    *ret = value;
    if (ret_n != NULL)
        *ret_n = (unsigned)strlen(value);
    return SASL_OK;
}

/* Failed logins are logged by the sessions, with their peer. */
static int
on_log(void *ctx, int level, const char *message)
{
    (void)ctx;
    if (level == SASL_LOG_ERR)
        log_warn(NULL, "sasl.library", "why=\"%s\"", message);
    else if (level == SASL_LOG_WARN)
        log_info(NULL, "sasl.library", "why=\"%s\"", message);
    return SASL_OK;
}

static const sasl_callback_t library_callbacks[] = {
    {SASL_CB_GETOPT, (sasl_callback_fn)(void (*)(void))on_getopt, NULL},
    {SASL_CB_LOG, (sasl_callback_fn)(void (*)(void))on_log, NULL},
    {SASL_CB_LIST_END, NULL, NULL},
};

enum errcode
sasl_library_start(const struct config *cfg, const char *appname,
                   struct error *err)
{
    ENSURE(library_config == NULL && cfg != NULL);
    library_config = cfg;
    sasl_set_mutex(mutex_new, mutex_lock, mutex_unlock, mutex_free);
    int rc = sasl_server_init(library_callbacks, appname);
    if (rc == SASL_OK) {
        rc = sasl_client_init(library_callbacks);
        if (rc != SASL_OK)
            sasl_server_done();
    }
    if (rc == SASL_OK)
        return ERR_OK;
    library_config = NULL;
    return error_set(err, ERR_IO, "SASL library: %s",
                     sasl_errstring(rc, NULL, NULL));
}

void
sasl_library_stop(void)
{
    if (library_config == NULL)
        return;
    sasl_client_done();
    sasl_server_done();
    library_config = NULL;
}

/* ---- the server ---- */

struct saslsrv {
    sasl_conn_t *conn;
    sasl_callback_t callbacks[2];
    bool (*may_act_for)(void *ctx, const char *authenticated,
                        const char *requested);
    void *ctx;
    bool plain_ok;
    bool external;
    bool started;
    bool denied; /* by may_act_for */
    unsigned steps;
    char mech[32];
    char authenticated[SASL_NAME_BYTES];
    char authorized[SASL_NAME_BYTES];
};

/* libsasl asks for every exchange, also when both names are the same. */
static int
on_proxy_policy(sasl_conn_t *conn, void *ctx, const char *requested,
                unsigned requested_n, const char *authenticated,
                unsigned authenticated_n, const char *realm, unsigned realm_n,
                struct propctx *props)
{
    struct saslsrv *s = ctx;

    (void)realm;
    (void)realm_n;
    (void)props;
    struct span who = span_of(authenticated, authenticated_n);
    struct span for_whom = span_of(requested, requested_n);
    if (requested_n == 0 || span_eq(who, for_whom))
        return SASL_OK;
    char *a = span_dup(who), *r = span_dup(for_whom);
    bool may = s->may_act_for != NULL && s->may_act_for(s->ctx, a, r);
    free(a);
    free(r);
    if (may)
        return SASL_OK;
    s->denied = true;
    sasl_seterror(conn, 0, "may not act for that user");
    return SASL_BADAUTH;
}

/* "127.0.0.1:4711" and "[::1]:4711" as libsasl wants them: "addr;port". */
static const char *
sasl_address(const char *name, char *to, size_t room)
{
    const char *colon = name != NULL ? strrchr(name, ':') : NULL;
    if (colon == NULL)
        return NULL;
    struct span addr = span_of(name, (size_t)(colon - name));
    if (addr.n > 2 && addr.p[0] == '[')
        addr = span_sub(addr, 1, addr.n - 2);
    int n = snprintf(to, room, "%.*s;%s", SPAN_FMT(addr), colon + 1);
    return n > 0 && (size_t)n < room ? to : NULL;
}

static int
set_properties(sasl_conn_t *conn, bool plain_ok, unsigned tls_bits,
               const char *external_id)
{
    sasl_security_properties_t props = {
        .max_ssf = 0, /* no layers of SASL's own */
        .maxbufsize = SASL_STEP_BYTES,
        .security_flags =
            SASL_SEC_NOANONYMOUS | (plain_ok ? 0U : SASL_SEC_NOPLAINTEXT),
    };
    sasl_ssf_t ssf = tls_bits;

    int rc = sasl_setprop(conn, SASL_SEC_PROPS, &props);
    if (rc == SASL_OK && tls_bits > 0)
        rc = sasl_setprop(conn, SASL_SSF_EXTERNAL, &ssf);
    if (rc == SASL_OK && external_id != NULL && external_id[0] != '\0')
        rc = sasl_setprop(conn, SASL_AUTH_EXTERNAL, external_id);
    return rc;
}

enum errcode
saslsrv_new(const struct saslsrv_options *o, struct saslsrv **ret,
            struct error *err)
{
    struct saslsrv *s = xcalloc(1, sizeof(*s));
    char local[80], peer[80];

    s->may_act_for = o->may_act_for;
    s->ctx = o->ctx;
    s->plain_ok = o->allow_plain || o->tls_bits > 0;
    s->external = o->external_id != NULL && o->external_id[0] != '\0';
    s->callbacks[0] =
        (sasl_callback_t){SASL_CB_PROXY_POLICY,
                          (sasl_callback_fn)(void (*)(void))on_proxy_policy, s};
    s->callbacks[1] = (sasl_callback_t){SASL_CB_LIST_END, NULL, NULL};
    int rc = sasl_server_new(o->service, o->hostname, NULL,
                             sasl_address(o->local_name, local, sizeof(local)),
                             sasl_address(o->peer_name, peer, sizeof(peer)),
                             s->callbacks, 0, &s->conn);
    if (rc == SASL_OK)
        rc = set_properties(s->conn, s->plain_ok, o->tls_bits, o->external_id);
    if (rc != SASL_OK) {
        saslsrv_free(&s);
        return error_set(err, ERR_IO, "SASL: %s",
                         sasl_errstring(rc, NULL, NULL));
    }
    *ret = s;
    return ERR_OK;
}

void
saslsrv_free(struct saslsrv **sp)
{
    struct saslsrv *s = *sp;

    if (s == NULL)
        return;
    sasl_dispose(&s->conn);
    free(s);
    *sp = NULL;
}

void
saslsrv_mechs(struct saslsrv *s, struct buf *ret)
{
    const char *mechs = NULL;
    unsigned n = 0;
    int count = 0;

    if (sasl_listmech(s->conn, NULL, "", " ", "", &mechs, &n, &count) ==
            SASL_OK &&
        mechs != NULL)
        buf_add(ret, span_of(mechs, n));
}

/* Is MECH one of those on offer?  libsasl itself would also start one that the
 * list leaves out. */
static bool
is_offered(struct saslsrv *s, const char *mech)
{
    struct buf list = BUF_INIT;
    bool found = false;

    saslsrv_mechs(s, &list);
    struct span left = buf_span(&list);
    while (left.n > 0 && !found) {
        ptrdiff_t blank = span_find_byte(left, ' ', 0);
        size_t n = blank < 0 ? left.n : (size_t)blank;
        found = span_eq_nocase_str(span_sub(left, 0, n), mech);
        left = span_skip(left, n + 1);
    }
    buf_free(&list);
    return found;
}

static enum errcode
code_of(int rc)
{
    switch (rc) {
    case SASL_BADPROT:
    case SASL_BADPARAM:
    case SASL_BUFOVER:
        return ERR_PROTO;
    case SASL_NOMECH:
    case SASL_TOOWEAK:
    case SASL_ENCRYPT:
        return ERR_UNSUPPORTED;
    case SASL_NOAUTHZ:
        return ERR_DENIED;
    case SASL_FAIL:
    case SASL_NOMEM:
    case SASL_UNAVAIL:
    case SASL_TRYAGAIN:
    case SASL_NOTINIT:
        return ERR_AGAIN;
    default:
        return ERR_AUTH;
    }
}

static bool
copy_name(char to[SASL_NAME_BYTES], const char *from)
{
    size_t n = from != NULL ? strlen(from) : 0;

    if (n == 0 || n >= SASL_NAME_BYTES)
        return false;
    memcpy(to, from, n + 1);
    return true;
}

static const char *
name_property(struct saslsrv *s, int which)
{
    const void *value = NULL;

    if (sasl_getprop(s->conn, which, &value) != SASL_OK)
        return NULL;
    return value;
}

/* Who it is, and for whom. */
static enum errcode
take_names(struct saslsrv *s, struct error *err)
{
    const char *user = name_property(s, SASL_USERNAME);
    const char *auth = name_property(s, SASL_AUTHUSER);

    if (auth == NULL)
        auth = user;
    if (!copy_name(s->authorized, user) || !copy_name(s->authenticated, auth)) {
        s->authorized[0] = s->authenticated[0] = '\0';
        return error_set(err, ERR_AUTH, "SASL: no name, or too long a one");
    }
    return ERR_OK;
}

static void
step_failed(struct saslsrv_step *step, int rc)
{
    enum errcode code = step->s->denied ? ERR_DENIED : code_of(rc);

    error_set(&step->err, code, "SASL %s: %s", step->s->mech,
              step->s->denied ? "may not act for that user"
                              : sasl_errdetail(step->s->conn));
}

static bool
begin(struct saslsrv_step *step)
{
    struct saslsrv *s = step->s;

    step->mech[sizeof(step->mech) - 1] = '\0';
    if (s->started) {
        error_set(&step->err, ERR_PROTO, "SASL: exchange within an exchange");
        return false;
    }
    if (!is_offered(s, step->mech)) {
        error_set(&step->err, ERR_UNSUPPORTED, "SASL: no mechanism \"%s\"",
                  step->mech);
        return false;
    }
    s->started = true;
    s->denied = false;
    s->steps = 0;
    memcpy(s->mech, step->mech, sizeof(s->mech));
    for (char *p = s->mech; *p != '\0'; p++)
        *p = (char)ascii_upper((uint8_t)*p);
    return true;
}

static bool
may_step(struct saslsrv_step *step)
{
    struct saslsrv *s = step->s;

    if (step->input.n > SASL_STEP_BYTES) {
        error_set(&step->err, ERR_PROTO, "SASL %s: %zu bytes in one step",
                  s->mech, step->input.n);
        return false;
    }
    if (step->mech[0] != '\0') {
        if (!begin(step))
            return false;
    } else if (!s->started) {
        error_set(&step->err, ERR_PROTO, "SASL: no exchange was begun");
        return false;
    }
    if (++s->steps > SASL_STEPS_MAX) {
        error_set(&step->err, ERR_PROTO, "SASL %s: does not end", s->mech);
        return false;
    }
    return true;
}

void
saslsrv_do(struct saslsrv_step *step)
{
    struct saslsrv *s = step->s;
    const char *out = NULL;
    unsigned out_n = 0;
    int rc;

    step->err = (struct error){0};
    step->outcome = SASL_FAILED;
    buf_clear(&step->output);
    if (!may_step(step)) {
        s->started = false;
        return;
    }
    const char *in = (const char *)step->input.p;
    unsigned in_n = (unsigned)step->input.n;
    if (step->mech[0] != '\0')
        rc = sasl_server_start(s->conn, s->mech,
                               !step->has_initial ? NULL
                               : in != NULL       ? in
                                                  : "",
                               step->has_initial ? in_n : 0, &out, &out_n);
    else
        rc =
            sasl_server_step(s->conn, in != NULL ? in : "", in_n, &out, &out_n);
    /* After a failure OUT may point to what the mechanism has freed. */
    if (out != NULL && (rc == SASL_OK || rc == SASL_CONTINUE))
        buf_add(&step->output, span_of(out, out_n));
    if (rc == SASL_CONTINUE) {
        step->outcome = SASL_MORE;
        return;
    }
    s->started = false;
    if (rc != SASL_OK)
        step_failed(step, rc);
    else if (take_names(s, &step->err) == ERR_OK)
        step->outcome = SASL_SUCCESS;
}

/* A step or a login on a worker. */
struct errand {
    void *what;
    void (*done)(void *ctx);
    void *ctx;
};

static void
step_work(void *ctx)
{
    struct errand *e = ctx;
    saslsrv_do(e->what);
}

static void
errand_done(void *ctx)
{
    struct errand *e = ctx;
    struct errand copy = *e;

    free(e);
    copy.done(copy.ctx);
}

void
saslsrv_run(struct reactor *r, struct saslsrv_step *step,
            void (*done)(void *ctx), void *ctx)
{
    struct errand *e = xmalloc(sizeof(*e));

    *e = (struct errand){step, done, ctx};
    reactor_work(r, step_work, errand_done, e);
}

static void
wipe(struct buf *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->cap);
    buf_free(b);
}

void
saslsrv_step_clear(struct saslsrv_step *step)
{
    wipe(&step->input);
    wipe(&step->output);
}

enum errcode
saslsrv_check_password(struct saslsrv *s, struct span user,
                       struct span password, struct error *err)
{
    if (!s->plain_ok)
        return error_set(err, ERR_DENIED,
                         "LOGIN: no passwords in clear without TLS");
    if (user.n == 0 || user.n >= SASL_NAME_BYTES ||
        password.n >= SASL_STEP_BYTES || span_find_byte(user, 0, 0) >= 0 ||
        span_find_byte(password, 0, 0) >= 0)
        return error_set(err, ERR_AUTH, "LOGIN: no such name");

    /* The library takes a length and then looks for a NUL. */
    char *name = span_dup(user), *secret = span_dup(password);
    int rc = sasl_checkpass(s->conn, name, (unsigned)user.n, secret,
                            (unsigned)password.n);
    enum errcode code = ERR_OK;
    if (rc != SASL_OK)
        code = error_set(err, code_of(rc), "LOGIN of %s: %s", name,
                         sasl_errdetail(s->conn));
    else if (take_names(s, NULL) != ERR_OK &&
             (!copy_name(s->authorized, name) ||
              !copy_name(s->authenticated, name)))
        code = error_set(err, ERR_AUTH, "LOGIN: no name");
    if (code == ERR_OK)
        snprintf(s->mech, sizeof(s->mech), "LOGIN-COMMAND");
    explicit_bzero(secret, password.n);
    free(secret);
    free(name);
    return code;
}

static void
login_work(void *ctx)
{
    struct saslsrv_login *l = ctx;

    l->err = (struct error){0};
    l->err.code = saslsrv_check_password(l->s, buf_span(&l->user),
                                         buf_span(&l->password), &l->err);
    wipe(&l->password);
}

static void
login_done(void *ctx)
{
    struct saslsrv_login *l = ctx;
    l->done(l->ctx);
}

void
saslsrv_run_login(struct reactor *r, struct saslsrv_login *login,
                  void (*done)(void *ctx), void *ctx)
{
    login->done = done;
    login->ctx = ctx;
    reactor_work(r, login_work, login_done, login);
}

const char *
saslsrv_authenticated(const struct saslsrv *s)
{
    return s->authenticated;
}

const char *
saslsrv_authorized(const struct saslsrv *s)
{
    return s->authorized;
}

const char *
saslsrv_mech(const struct saslsrv *s)
{
    return s->mech;
}

/* ---- the client ---- */

struct saslcli {
    sasl_conn_t *conn;
    sasl_callback_t callbacks[5];
    char *authname;
    char *authzid;
    char *realm;
    char *mechs;
    sasl_secret_t *secret;
    size_t secret_bytes;
    const char *mech;
    bool ended; /* the mechanism is content */
};

static int
on_simple(void *ctx, int id, const char **ret, unsigned *ret_n)
{
    struct saslcli *c = ctx;
    const char *value = id == SASL_CB_AUTHNAME ? c->authname
                        : c->authzid != NULL   ? c->authzid
                                               : "";

    *ret = value;
    if (ret_n != NULL)
        *ret_n = (unsigned)strlen(value);
    return SASL_OK;
}

static int
on_secret(sasl_conn_t *conn, void *ctx, int id, sasl_secret_t **ret)
{
    struct saslcli *c = ctx;

    (void)conn;
    (void)id;
    if (c->secret == NULL)
        return SASL_FAIL;
    *ret = c->secret;
    return SASL_OK;
}

static int
on_realm(void *ctx, int id, const char **offered, const char **ret)
{
    struct saslcli *c = ctx;

    (void)id;
    if (c->realm != NULL)
        *ret = c->realm;
    else if (offered != NULL && offered[0] != NULL)
        *ret = offered[0];
    else
        *ret = "";
    return SASL_OK;
}

static char *
dup_or_null(const char *s)
{
    return s != NULL ? xstrdup(s) : NULL;
}

enum errcode
saslcli_new(const struct saslcli_options *o, struct saslcli **ret,
            struct error *err)
{
    struct saslcli *c = xcalloc(1, sizeof(*c));

    c->authname = xstrdup(o->authname != NULL ? o->authname : "");
    c->authzid = dup_or_null(o->authzid);
    c->realm = dup_or_null(o->realm);
    c->mechs = dup_or_null(o->mechs);
    if (o->password != NULL) {
        size_t n = strlen(o->password);
        c->secret_bytes = sizeof(*c->secret) + n + 1;
        c->secret = xcalloc(1, c->secret_bytes);
        c->secret->len = n;
        memcpy(c->secret->data, o->password, n);
    }
    c->callbacks[0] = (sasl_callback_t){
        SASL_CB_USER, (sasl_callback_fn)(void (*)(void))on_simple, c};
    c->callbacks[1] = (sasl_callback_t){
        SASL_CB_AUTHNAME, (sasl_callback_fn)(void (*)(void))on_simple, c};
    c->callbacks[2] = (sasl_callback_t){
        SASL_CB_PASS, (sasl_callback_fn)(void (*)(void))on_secret, c};
    c->callbacks[3] = (sasl_callback_t){
        SASL_CB_GETREALM, (sasl_callback_fn)(void (*)(void))on_realm, c};
    c->callbacks[4] = (sasl_callback_t){SASL_CB_LIST_END, NULL, NULL};
    int rc = sasl_client_new(o->service, o->hostname, NULL, NULL, c->callbacks,
                             0, &c->conn);
    if (rc == SASL_OK)
        rc = set_properties(c->conn, true, o->tls_bits,
                            o->external ? c->authname : NULL);
    if (rc != SASL_OK) {
        saslcli_free(&c);
        return error_set(err, ERR_IO, "SASL: %s",
                         sasl_errstring(rc, NULL, NULL));
    }
    *ret = c;
    return ERR_OK;
}

void
saslcli_free(struct saslcli **cp)
{
    struct saslcli *c = *cp;

    if (c == NULL)
        return;
    sasl_dispose(&c->conn);
    if (c->secret != NULL)
        explicit_bzero(c->secret, c->secret_bytes);
    free(c->secret);
    free(c->authname);
    free(c->authzid);
    free(c->realm);
    free(c->mechs);
    free(c);
    *cp = NULL;
}

static bool
list_has(const char *list, struct span word)
{
    struct span left = span_str(list);

    while (left.n > 0) {
        ptrdiff_t blank = span_find_byte(left, ' ', 0);
        size_t n = blank < 0 ? left.n : (size_t)blank;
        if (span_eq_nocase(span_sub(left, 0, n), word))
            return true;
        left = span_skip(left, n + 1);
    }
    return false;
}

/* The words of OFFERED that are in ALLOWED (NULL: all). */
static void
common_mechs(const char *offered, const char *allowed, struct buf *ret)
{
    struct span left = span_str(offered);

    while (left.n > 0) {
        ptrdiff_t blank = span_find_byte(left, ' ', 0);
        size_t n = blank < 0 ? left.n : (size_t)blank;
        struct span word = span_sub(left, 0, n);
        if (n > 0 && (allowed == NULL || list_has(allowed, word))) {
            if (ret->n > 0)
                buf_add_byte(ret, ' ');
            buf_add(ret, word);
        }
        left = span_skip(left, n + 1);
    }
}

static enum errcode
client_error(struct saslcli *c, int rc, struct error *err)
{
    enum errcode code = code_of(rc);

    if (code == ERR_AGAIN || code == ERR_DENIED)
        code = ERR_AUTH;
    return error_set(err, code, "SASL %s: %s", c->mech != NULL ? c->mech : "",
                     sasl_errdetail(c->conn));
}

enum errcode
saslcli_start(struct saslcli *c, const char *offered, const char **ret_mech,
              bool *ret_has_initial, struct buf *out, struct error *err)
{
    struct buf mechs = BUF_INIT;
    const char *bytes = NULL, *mech = NULL;
    unsigned n = 0;

    common_mechs(offered, c->mechs, &mechs);
    int rc = mechs.n == 0 ? SASL_NOMECH
                          : sasl_client_start(c->conn, buf_cstr(&mechs), NULL,
                                              &bytes, &n, &mech);
    buf_free(&mechs);
    if (rc == SASL_NOMECH)
        return error_set(err, ERR_UNSUPPORTED,
                         "SASL: no mechanism in common, offered: %s", offered);
    if (rc != SASL_OK && rc != SASL_CONTINUE)
        return client_error(c, rc, err);
    c->mech = mech;
    c->ended = rc == SASL_OK;
    *ret_mech = mech;
    *ret_has_initial = bytes != NULL;
    if (bytes != NULL)
        buf_add(out, span_of(bytes, n));
    return ERR_OK;
}

enum errcode
saslcli_step(struct saslcli *c, struct span challenge, struct buf *out,
             struct error *err)
{
    const char *bytes = NULL;
    unsigned n = 0;

    if (challenge.n > SASL_STEP_BYTES)
        return error_set(err, ERR_PROTO, "SASL: challenge of %zu bytes",
                         challenge.n);
    /* The mechanism has said all; a server may ask once more with nothing. */
    if (c->ended)
        return challenge.n == 0 ? ERR_OK
                                : error_set(err, ERR_PROTO,
                                            "SASL %s: does not end", c->mech);
    int rc = sasl_client_step(c->conn,
                              challenge.n > 0 ? (const char *)challenge.p : "",
                              (unsigned)challenge.n, NULL, &bytes, &n);
    if (rc != SASL_OK && rc != SASL_CONTINUE)
        return client_error(c, rc, err);
    c->ended = rc == SASL_OK;
    if (bytes != NULL)
        buf_add(out, span_of(bytes, n));
    return ERR_OK;
}

enum errcode
saslcli_finish(struct saslcli *c, bool has_data, struct span data,
               struct error *err)
{
    if (has_data && !c->ended) {
        struct buf out = BUF_INIT;
        enum errcode rc = saslcli_step(c, data, &out, err);
        size_t n = out.n;
        buf_free(&out);
        if (rc != ERR_OK)
            return rc;
        if (n > 0)
            return error_set(err, ERR_PROTO, "SASL %s: ended too early",
                             c->mech);
    }
    if (!c->ended)
        return error_set(err, ERR_AUTH,
                         "SASL %s: the server has not proved itself", c->mech);
    return ERR_OK;
}

/* ---- base64 ---- */

bool
sasl_decode_base64(struct span in, struct buf *out)
{
    if (in.n == 0)
        return true;
    /* RFC 4648: groups of four, the last padded. */
    if (in.n % 4 != 0 || in.n > SASL_STEP_BYTES / 3 * 4 + 4)
        return false;
    for (size_t i = 0; i < in.n; i++) {
        uint8_t c = in.p[i];
        bool alnum = (c >= '0' && c <= '9') ||
                     (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
        bool pad =
            c == '=' && i + 2 >= in.n && (i + 1 == in.n || in.p[i + 1] == '=');
        if (!alnum && c != '+' && c != '/' && !pad)
            return false;
    }
    uint8_t *to = buf_reserve(out, in.n / 4 * 3 + 1);
    unsigned n = 0;
    if (to == NULL ||
        sasl_decode64((const char *)in.p, (unsigned)in.n, (char *)to,
                      (unsigned)(in.n / 4 * 3 + 1), &n) != SASL_OK)
        return false;
    out->n += n;
    return true;
}

void
sasl_encode_base64(struct span in, struct buf *out)
{
    size_t room = (in.n + 2) / 3 * 4 + 1;
    unsigned n = 0;

    if (in.n == 0)
        return;
    ENSURE(in.n < UINT32_MAX / 2);
    uint8_t *to = buf_reserve(out, room);
    if (to == NULL)
        return;
    int rc = sasl_encode64((const char *)in.p, (unsigned)in.n, (char *)to,
                           (unsigned)room, &n);
    ENSURE(rc == SASL_OK);
    out->n += n;
}
