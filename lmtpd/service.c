/*
 * lmtpd/service.c - sessions on connections: struct lmtp_io for a struct conn.
 *
 * A client outlives its connection while its session has something under way.
 * The service's list of clients is the only thing that several reactors touch;
 * a goodbye goes to each client's reactor by post, with the client counted so
 * that it is still there when the post arrives.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "lmtpd/deliver.h"

struct lmtpd_service {
    const struct lmtpd_options *opt;
    struct lmtp_counters counters;
    _Atomic uint64_t sessions_total;
    pthread_mutex_t lock;
    struct client *clients; /* under the lock, as the count */
    uint64_t sessions;
};

struct client {
    struct lmtpd_service *svc;
    struct conn *conn; /* NULL: closed */
    struct reactor *reactor;
    struct lmtp_session *session; /* NULL: over */
    struct lmtp_store store;
    _Atomic unsigned refs;      /* the session, and goodbyes under way */
    struct client *prev, *next; /* under the service's lock */
};

static void
client_release(struct client *c)
{
    if (atomic_fetch_sub(&c->refs, 1) == 1)
        free(c);
}

/* ---- struct lmtp_io ---------------------------------------------------- */

static void
io_write(void *ctx, struct span bytes)
{
    struct client *c = ctx;
    if (c->conn != NULL)
        conn_write(c->conn, bytes);
}

static void
io_resume(void *ctx)
{
    struct client *c = ctx;
    if (c->conn != NULL && conn_input_is_paused(c->conn))
        conn_resume_input(c->conn);
}

static void
io_pause(void *ctx)
{
    struct client *c = ctx;
    if (c->conn != NULL && !conn_input_is_paused(c->conn))
        conn_pause_input(c->conn);
}

static void
io_close(void *ctx)
{
    struct client *c = ctx;
    if (c->conn != NULL)
        conn_close_after_flush(c->conn);
}

static void
io_start_tls(void *ctx)
{
    struct client *c = ctx;
    if (c->conn != NULL)
        conn_start_tls(c->conn, c->svc->opt->tls, NULL);
}

static void
io_post(void *ctx, void (*fn)(void *arg), void *arg)
{
    struct client *c = ctx;
    reactor_post(c->reactor, fn, arg);
}

static void
io_hold(void *ctx)
{
    struct client *c = ctx;
    reactor_hold(c->reactor);
}

static void
io_release(void *ctx)
{
    struct client *c = ctx;
    reactor_release(c->reactor);
}

static void
io_work(void *ctx, void (*work)(void *arg), void (*done)(void *arg), void *arg)
{
    struct client *c = ctx;
    reactor_work(c->reactor, work, done, arg);
}

static void
io_ended(void *ctx)
{
    struct client *c = ctx;
    struct lmtpd_service *svc = c->svc;

    c->session = NULL;
    pthread_mutex_lock(&svc->lock);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        svc->clients = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    svc->sessions--;
    pthread_mutex_unlock(&svc->lock);
    client_release(c);
}

static const struct lmtp_io conn_io = {
    .write = io_write,
    .resume = io_resume,
    .pause = io_pause,
    .close = io_close,
    .start_tls = io_start_tls,
    .post = io_post,
    .hold = io_hold,
    .release = io_release,
    .work = io_work,
    .ended = io_ended,
};

/* ---- struct conn_handler ----------------------------------------------- */

static size_t
on_input(struct conn *conn, struct span in, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    return lmtp_session_input(c->session, in);
}

static void
on_timeout(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    lmtp_session_timeout(c->session);
}

static void
on_shutdown(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    lmtp_session_goodbye(c->session, "The server is stopping");
}

static void
on_close(struct conn *conn, const struct error *why, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    (void)why;
    c->conn = NULL;
    lmtp_session_gone(c->session);
}

/* Who is at the other end, as far as the connection knows. */
struct peer_names {
    char local[CONN_NAME_BYTES];
    char peer[CONN_NAME_BYTES];
    struct tls_info tls;
};

static struct lmtp_peer
look_at_peer(struct conn *conn, struct peer_names *names)
{
    conn_local_name(conn, names->local);
    conn_peer_name(conn, names->peer);
    bool tls = conn_tls_info(conn, &names->tls);
    return (struct lmtp_peer){
        .local_name = names->local,
        .peer_name = names->peer,
        .tls_bits = tls ? MAX(names->tls.bits, 1U) : 0,
        .external_id =
            tls && names->tls.peer_verified ? names->tls.peer_cn : NULL,
        .trusted = conn_is_unix(conn),
    };
}

static void
on_tls(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    struct peer_names names;
    struct lmtp_peer peer = look_at_peer(conn, &names);

    lmtp_session_tls(c->session, &peer);
}

/* The handshake of a listener with TLS from the first byte is done. */
static void
on_connect(struct conn *conn, void *ctx)
{
    struct client *c = ctx;

    on_tls(conn, ctx);
    lmtp_session_start(c->session);
}

static const struct conn_handler handler = {
    .on_input = on_input,
    .on_timeout = on_timeout,
    .on_shutdown = on_shutdown,
    .on_close = on_close,
    .on_tls = on_tls,
    .on_connect = on_connect,
};

/* ---- the service ------------------------------------------------------- */

struct lmtpd_service *
lmtpd_service_new(const struct lmtpd_options *options)
{
    struct lmtpd_service *svc = xcalloc(1, sizeof(*svc));

    svc->opt = options;
    pthread_mutex_init(&svc->lock, NULL);
    return svc;
}

void
lmtpd_service_free(struct lmtpd_service **svc)
{
    if (*svc == NULL)
        return;
    ENSURE((*svc)->clients == NULL);
    pthread_mutex_destroy(&(*svc)->lock);
    free(*svc);
    *svc = NULL;
}

struct conn_options
lmtpd_conn_options(const struct lmtpd_options *options)
{
    (void)options;
    return (struct conn_options){0}; /* the defaults take our longest line */
}

void
lmtpd_accept(struct conn *conn, void *ctx)
{
    struct lmtpd_service *svc = ctx;
    struct client *c = xcalloc(1, sizeof(*c));
    struct peer_names names;

    c->svc = svc;
    c->conn = conn;
    c->reactor = conn_reactor(conn);
    atomic_init(&c->refs, 1);
    conn_set_handler(conn, &handler, c);
    conn_set_timeout_ms(conn, svc->opt->idle_timeout_ms);
    c->store = (struct lmtp_store){svc->opt, *svc->opt->store};
    const struct lmtp_wiring wiring = {
        .options = svc->opt,
        .io = &conn_io,
        .io_ctx = c,
        .backend = &lmtp_store_backend,
        .backend_ctx = &c->store,
        .counters = &svc->counters,
    };
    struct lmtp_peer peer = look_at_peer(conn, &names);
    c->session = lmtp_session_new(&wiring, &peer);
    atomic_fetch_add(&svc->sessions_total, 1);
    pthread_mutex_lock(&svc->lock);
    c->next = svc->clients;
    if (c->next != NULL)
        c->next->prev = c;
    svc->clients = c;
    svc->sessions++;
    pthread_mutex_unlock(&svc->lock);
    /* What the greeting offers depends on TLS, so that comes first. */
    if (!svc->opt->implicit_tls)
        lmtp_session_start(c->session);
}

struct goodbye {
    struct client *client;
    char *text;
};

static void
goodbye_posted(void *arg)
{
    struct goodbye *g = arg;
    struct reactor *r = g->client->reactor;

    if (g->client->session != NULL && g->client->conn != NULL)
        lmtp_session_goodbye(g->client->session, g->text);
    client_release(g->client);
    free(g->text);
    free(g);
    reactor_release(r);
}

void
lmtpd_service_goodbye(struct lmtpd_service *svc, const char *text)
{
    pthread_mutex_lock(&svc->lock);
    for (struct client *c = svc->clients; c != NULL; c = c->next) {
        struct goodbye *g = xmalloc(sizeof(*g));
        g->client = c;
        g->text = xstrdup(text);
        atomic_fetch_add(&c->refs, 1);
        reactor_hold(c->reactor);
        reactor_post(c->reactor, goodbye_posted, g);
    }
    pthread_mutex_unlock(&svc->lock);
}

struct lmtpd_stats
lmtpd_service_stats(const struct lmtpd_service *svc)
{
    struct lmtpd_service *s = (struct lmtpd_service *)(uintptr_t)svc;

    pthread_mutex_lock(&s->lock);
    uint64_t now = s->sessions;
    pthread_mutex_unlock(&s->lock);
    return (struct lmtpd_stats){
        .sessions = now,
        .sessions_total = atomic_load(&s->sessions_total),
        .messages = atomic_load(&s->counters.messages),
        .delivered = atomic_load(&s->counters.delivered),
        .duplicates = atomic_load(&s->counters.duplicates),
        .refused = atomic_load(&s->counters.refused),
        .login_failures = atomic_load(&s->counters.login_failures),
    };
}
