/*
 * net/service.c - sessions on connections: struct session_io for a struct conn.
 *
 * A client outlives its connection while its session has something under way.
 * The service's list of clients is the only thing that several reactors touch;
 * a goodbye goes to each client's reactor by post, with the client counted so
 * that it is still there when the post arrives, and the reactor held.
 */
#include "net/service.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

struct net_service {
    const struct net_protocol *protocol;
    void *ctx;
    struct tls_context *tls;
    pthread_mutex_t lock;
    struct client *clients; /* under the lock, as the counts */
    struct net_service_counts counts;
};

struct client {
    struct net_service *svc;
    struct conn *conn; /* NULL: closed */
    struct reactor *reactor;
    void *session;              /* NULL: over */
    atomic_uint refs;           /* the session, and goodbyes under way */
    struct client *prev, *next; /* under the service's lock */
    _Alignas(max_align_t) unsigned char room[];
};

static void
client_release(struct client *c)
{
    if (atomic_fetch_sub(&c->refs, 1) == 1)
        free(c);
}

static void
client_enter(struct client *c)
{
    struct net_service *svc = c->svc;

    pthread_mutex_lock(&svc->lock);
    c->next = svc->clients;
    if (c->next != NULL)
        c->next->prev = c;
    svc->clients = c;
    svc->counts.sessions++;
    svc->counts.sessions_total++;
    pthread_mutex_unlock(&svc->lock);
}

static void
client_leave(struct client *c)
{
    struct net_service *svc = c->svc;

    pthread_mutex_lock(&svc->lock);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        svc->clients = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    svc->counts.sessions--;
    pthread_mutex_unlock(&svc->lock);
}

/* ---- struct session_io ------------------------------------------------- */

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
        conn_start_tls(c->conn, c->svc->tls, NULL);
}

static void
io_start_deflate(void *ctx)
{
    struct client *c = ctx;
    if (c->conn != NULL)
        conn_start_deflate(c->conn);
}

static void
io_end_deflate(void *ctx)
{
    struct client *c = ctx;
    if (c->conn != NULL)
        conn_end_deflate(c->conn);
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

    c->session = NULL;
    client_leave(c);
    client_release(c);
}

static const struct session_io conn_io = {
    .write = io_write,
    .is_full = io_is_full,
    .resume = io_resume,
    .pause = io_pause,
    .close = io_close,
    .start_tls = io_start_tls,
    .start_deflate = io_start_deflate,
    .end_deflate = io_end_deflate,
    .set_timeout = io_set_timeout,
    .post = io_post,
    .hold = io_hold,
    .release = io_release,
    .work = io_work,
    .ended = io_ended,
};

/* ---- struct session_peer ----------------------------------------------- */

static const char *
dup_or_null(const char *s)
{
    return s == NULL ? NULL : xstrdup(s);
}

void
session_peer_free(struct session_peer *p)
{
    /* A copy's strings are ours, though nobody is to write to them. */
    free((void *)(uintptr_t)p->local_name);
    free((void *)(uintptr_t)p->peer_name);
    free((void *)(uintptr_t)p->external_id);
    *p = (struct session_peer){0};
}

void
session_peer_copy(struct session_peer *to, const struct session_peer *from)
{
    struct session_peer copy = *from;

    copy.local_name = dup_or_null(from->local_name);
    copy.peer_name = dup_or_null(from->peer_name);
    copy.external_id = dup_or_null(from->external_id);
    session_peer_free(to);
    *to = copy;
}

/* Where the strings of a peer are while it is looked at. */
struct peer_names {
    char local[CONN_NAME_BYTES];
    char peer[CONN_NAME_BYTES];
    struct tls_info tls;
};

static struct session_peer
look_at_peer(struct conn *conn, struct peer_names *names)
{
    conn_local_name(conn, names->local);
    conn_peer_name(conn, names->peer);
    bool tls = conn_tls_info(conn, &names->tls);
    return (struct session_peer){
        .local_name = names->local,
        .peer_name = names->peer,
        .tls_bits = tls ? MAX(names->tls.bits, 1U) : 0,
        .external_id =
            tls && names->tls.peer_verified ? names->tls.peer_cn : NULL,
        .on_unix = conn_is_unix(conn),
    };
}

/* ---- struct conn_handler ----------------------------------------------- */

static size_t
on_input(struct conn *conn, struct span in, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    return c->svc->protocol->input(c->session, in);
}

static void
on_drain(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    if (c->svc->protocol->drained != NULL)
        c->svc->protocol->drained(c->session);
}

static void
on_timeout(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    c->svc->protocol->timeout(c->session);
}

static void
on_shutdown(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    c->svc->protocol->goodbye(c->session, c->svc->protocol->stopping);
}

static void
on_close(struct conn *conn, const struct error *why, void *ctx)
{
    struct client *c = ctx;
    (void)conn;
    (void)why;
    c->conn = NULL;
    c->svc->protocol->gone(c->session);
}

static void
on_tls(struct conn *conn, void *ctx)
{
    struct client *c = ctx;
    struct peer_names names;
    struct session_peer peer = look_at_peer(conn, &names);

    c->svc->protocol->tls(c->session, &peer);
}

static const struct conn_handler handler = {
    .on_input = on_input,
    .on_drain = on_drain,
    .on_timeout = on_timeout,
    .on_shutdown = on_shutdown,
    .on_close = on_close,
    .on_tls = on_tls,
};

/* ---- goodbye ----------------------------------------------------------- */

struct goodbye {
    struct client *client; /* counted; its reactor held */
    char *text;
};

static void
goodbye_posted(void *arg)
{
    struct goodbye *g = arg;
    struct client *c = g->client;
    struct reactor *r = c->reactor;

    if (c->session != NULL && c->conn != NULL)
        c->svc->protocol->goodbye(c->session, g->text);
    client_release(c);
    free(g->text);
    free(g);
    reactor_release(r);
}

void
net_service_goodbye(struct net_service *svc, const char *text)
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

/* ---- the service ------------------------------------------------------- */

struct net_service *
net_service_new(const struct net_protocol *protocol, void *ctx,
                struct tls_context *tls)
{
    struct net_service *svc = xcalloc(1, sizeof(*svc));

    svc->protocol = protocol;
    svc->ctx = ctx;
    svc->tls = tls;
    pthread_mutex_init(&svc->lock, NULL);
    return svc;
}

void
net_service_free(struct net_service **svc)
{
    if (*svc == NULL)
        return;
    ENSURE((*svc)->clients == NULL);
    pthread_mutex_destroy(&(*svc)->lock);
    free(*svc);
    *svc = NULL;
}

void
net_service_accept(struct net_service *svc, struct conn *conn)
{
    struct client *c = xcalloc(1, sizeof(*c) + svc->protocol->room_bytes);
    struct peer_names names;
    struct session_peer peer = look_at_peer(conn, &names);

    c->svc = svc;
    c->conn = conn;
    c->reactor = conn_reactor(conn);
    atomic_init(&c->refs, 1);
    conn_set_handler(conn, &handler, c);
    c->session = svc->protocol->open(svc->ctx, &conn_io, c, c->room, &peer);
    client_enter(c);
    svc->protocol->start(c->session);
}

struct net_service_counts
net_service_counts(struct net_service *svc)
{
    pthread_mutex_lock(&svc->lock);
    struct net_service_counts counts = svc->counts;
    pthread_mutex_unlock(&svc->lock);
    return counts;
}
