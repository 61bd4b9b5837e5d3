/*
 * imapd/service.c - sessions on connections: struct imap_io for a struct conn.
 *
 * A client outlives its connection while its session has something under way.
 * The service's list of clients is the only thing that several reactors touch;
 * a goodbye goes to each client's reactor by post, with the client counted so
 * that it is still there when the post arrives.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "imapd/session.h"

struct imapd_service {
    const struct imapd_options *opt;
    struct imap_counters counters;
    _Atomic uint64_t sessions_total;
    pthread_mutex_t lock;
    struct client *clients; /* under the lock, as the count */
    uint64_t sessions;
};

struct client {
    struct imapd_service *svc;
    struct conn *conn; /* NULL: closed */
    struct reactor *reactor;
    struct imap_session *session; /* NULL: over */
    _Atomic unsigned refs;        /* the session, and goodbyes under way */
    struct client *prev, *next;   /* under the service's lock */
};

static void
client_release(struct client *c)
{
    if (atomic_fetch_sub(&c->refs, 1) == 1)
        free(c);
}

/* ---- struct imap_io ---------------------------------------------------- */

static void
io_write(void *ctx, struct span bytes)
{
    struct client *c = ctx;
    if (c->conn != NULL)
        conn_write(c->conn, bytes);
}

static bool
io_is_full(void *ctx)
{
    struct client *c = ctx;
    return c->conn != NULL && conn_output_is_full(c->conn);
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
io_set_timeout(void *ctx, uint64_t ms)
{
    struct client *c = ctx;
    if (c->conn != NULL) {
        conn_set_deadline_ms(c->conn, 0); /* that of the login */
        conn_set_timeout_ms(c->conn, ms);
    }
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
    struct imapd_service *svc = c->svc;

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

static const struct imap_io conn_io = {
    .write = io_write,
    .is_full = io_is_full,
    .resume = io_resume,
    .pause = io_pause,
    .close = io_close,
    .start_tls = io_start_tls,
    .set_timeout = io_set_timeout,
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
    return imap_session_input(c->session, in);
}

static void
on_drain(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    imap_session_drained(c->session);
}

static void
on_timeout(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    imap_session_timeout(c->session);
}

static void
on_shutdown(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    imap_session_goodbye(c->session, "[UNAVAILABLE] The server is stopping");
}

static void
on_close(struct conn *conn, const struct error *why, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    (void)why;
    c->conn = NULL;
    imap_session_gone(c->session);
}

/* Who is at the other end, as far as the connection knows. */
struct peer_names {
    char local[CONN_NAME_BYTES];
    char peer[CONN_NAME_BYTES];
    struct tls_info tls;
};

static struct imap_peer
look_at_peer(struct conn *conn, struct peer_names *names)
{
    conn_local_name(conn, names->local);
    conn_peer_name(conn, names->peer);
    bool tls = conn_tls_info(conn, &names->tls);
    return (struct imap_peer){
        .local_name = names->local,
        .peer_name = names->peer,
        .tls_bits = tls ? MAX(names->tls.bits, 1U) : 0,
        .external_id =
            tls && names->tls.peer_verified ? names->tls.peer_cn : NULL,
    };
}

static void
on_tls(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    struct peer_names names;
    struct imap_peer peer = look_at_peer(conn, &names);

    imap_session_tls(c->session, &peer);
}

static const struct conn_handler handler = {
    .on_input = on_input,
    .on_drain = on_drain,
    .on_timeout = on_timeout,
    .on_shutdown = on_shutdown,
    .on_close = on_close,
    .on_tls = on_tls,
};

/* ---- the service ------------------------------------------------------- */

struct imapd_service *
imapd_service_new(const struct imapd_options *options)
{
    struct imapd_service *svc = xcalloc(1, sizeof(*svc));

    svc->opt = options;
    pthread_mutex_init(&svc->lock, NULL);
    return svc;
}

void
imapd_service_free(struct imapd_service **svc)
{
    if (*svc == NULL)
        return;
    ENSURE((*svc)->clients == NULL);
    pthread_mutex_destroy(&(*svc)->lock);
    free(*svc);
    *svc = NULL;
}

struct conn_options
imapd_conn_options(const struct imapd_options *options)
{
    return (struct conn_options){.input_max = options->line_bytes_max + 16};
}

void
imapd_accept(struct conn *conn, void *ctx)
{
    struct imapd_service *svc = ctx;
    struct client *c = xcalloc(1, sizeof(*c));
    struct peer_names names;

    c->svc = svc;
    c->conn = conn;
    c->reactor = conn_reactor(conn);
    atomic_init(&c->refs, 1);
    conn_set_handler(conn, &handler, c);
    conn_set_deadline_ms(conn, svc->opt->login_timeout_ms);
    struct imap_peer peer = look_at_peer(conn, &names);
    c->session = imap_session_new(svc->opt, &conn_io, c, &svc->counters, &peer);
    atomic_fetch_add(&svc->sessions_total, 1);
    pthread_mutex_lock(&svc->lock);
    c->next = svc->clients;
    if (c->next != NULL)
        c->next->prev = c;
    svc->clients = c;
    svc->sessions++;
    pthread_mutex_unlock(&svc->lock);
    imap_session_start(c->session);
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
        imap_session_goodbye(g->client->session, g->text);
    client_release(g->client);
    free(g->text);
    free(g);
    reactor_release(r);
}

void
imapd_service_goodbye(struct imapd_service *svc, const char *text)
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

struct imapd_stats
imapd_service_stats(const struct imapd_service *svc)
{
    struct imapd_service *s = (struct imapd_service *)(uintptr_t)svc;

    pthread_mutex_lock(&s->lock);
    uint64_t now = s->sessions;
    pthread_mutex_unlock(&s->lock);
    return (struct imapd_stats){
        .sessions = now,
        .sessions_total = atomic_load(&s->sessions_total),
        .logins = atomic_load(&s->counters.logins),
        .login_failures = atomic_load(&s->counters.login_failures),
        .commands = atomic_load(&s->counters.commands),
    };
}
