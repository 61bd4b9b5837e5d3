/*
 * net/conn_dial.c - the making of connections: names are looked up on a worker,
 * addresses tried one after the other.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/conn_state.h"
#include "net/listener.h"

/* A connection being made. */
struct dial {
    struct conn *conn; /* NULL: closed while the name was looked up */
    char *host;
    char *service;
    char *tls_name;
    char *path;
    struct tls_context *tls;
    struct addrinfo *addrs; /* all of them; our own or getaddrinfo()'s */
    struct addrinfo *next;  /* the one to try next */
    struct error err;       /* why the last try failed */
    bool resolving;
};

void
conn_dial_free(struct dial **dp)
{
    struct dial *d = *dp;

    if (d == NULL)
        return;
    if (d->path != NULL)
        free(d->addrs); /* one of our own, address behind it */
    else if (d->addrs != NULL)
        freeaddrinfo(d->addrs);
    free(d->host);
    free(d->service);
    free(d->tls_name);
    free(d->path);
    tls_context_free(&d->tls);
    free(d);
    *dp = NULL;
}

static void
dial_connected(struct conn *c)
{
    struct dial *d = c->dial;

    c->active_ms = reactor_now_ms(c->r);
    if (conn_is_open(c))
        c->own_at_ms = 0;
    if (d->tls != NULL) {
        c->tls_ctx = tls_context_ref(d->tls);
        c->tls_name = d->tls_name;
        d->tls_name = NULL;
        c->tls = TLS_AFTER_FLUSH;
        c->plain_left = 0;
    } else {
        c->established = true;
        c->connected = true;
    }
    conn_dial_free(&c->dial);
    conn_turn_due(c);
}

/* Begin with the next address; false: that was not to be. */
static bool
dial_try(struct conn *c, const struct addrinfo *a)
{
    struct dial *d = c->dial;
    int one = 1;

    netaddr_of_sockaddr(a->ai_addr, a->ai_addrlen, &c->peer);
    c->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0) {
        error_set_errno(&d->err, errno, "socket");
        return false;
    }
    if (a->ai_family != AF_UNIX)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    conn_watch_fd(c);
    if (connect(c->fd, a->ai_addr, a->ai_addrlen) == 0) {
        dial_connected(c);
        return true;
    }
    if (errno == EINPROGRESS) {
        event_add(&c->wr, NULL);
        c->wr_on = true;
        return true;
    }
    if (errno == ECONNREFUSED)
        error_set(&d->err, ERR_CLOSED, "connection refused");
    else
        error_set_errno(&d->err, errno, "connect");
    close(c->fd);
    c->fd = -1;
    return false;
}

static void
dial_next(struct conn *c)
{
    struct dial *d = c->dial;

    while (d->next != NULL) {
        struct addrinfo *a = d->next;
        d->next = a->ai_next;
        if (dial_try(c, a))
            return;
    }
    error_prefix(&d->err, "%s", d->path != NULL ? d->path : d->host);
    conn_fail(c, &d->err);
}

void
conn_dial_writable(struct conn *c)
{
    int why = 0;
    socklen_t n = sizeof(why);

    conn_unwatch(c);
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &why, &n) != 0)
        why = errno;
    if (why == 0) {
        dial_connected(c);
        return;
    }
    if (why == ECONNREFUSED)
        error_set(&c->dial->err, ERR_CLOSED, "connection refused");
    else
        error_set_errno(&c->dial->err, why, "connect");
    close(c->fd);
    c->fd = -1;
    dial_next(c);
}

/* On a worker. */
static void
dial_resolve(void *ctx)
{
    struct dial *d = ctx;
    uint16_t port;
    char number[16];

    if (!service_port(d->service, &port)) {
        error_set(&d->err, ERR_NOTFOUND, "no service \"%s\"", d->service);
        return;
    }
    snprintf(number, sizeof(number), "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
    int rc = getaddrinfo(d->host, number, &hints, &d->addrs);
    if (rc != 0) {
        d->addrs = NULL;
        error_set(&d->err, rc == EAI_AGAIN ? ERR_AGAIN : ERR_NOTFOUND, "%s",
                  gai_strerror(rc));
    }
}

static void
dial_resolved(void *ctx)
{
    struct dial *d = ctx;
    struct conn *c = d->conn;

    d->resolving = false;
    if (c == NULL) {
        conn_dial_free(&d);
        return;
    }
    d->next = d->addrs;
    dial_next(c);
}

static void
dial_unix(struct dial *d)
{
    struct {
        struct addrinfo info;
        struct sockaddr_un addr;
    } *one = xcalloc(1, sizeof(*one));

    one->addr.sun_family = AF_UNIX;
    memcpy(one->addr.sun_path, d->path,
           MIN(strlen(d->path), sizeof(one->addr.sun_path) - 1));
    one->info.ai_family = AF_UNIX;
    one->info.ai_addr = (struct sockaddr *)&one->addr;
    one->info.ai_addrlen = sizeof(one->addr);
    d->addrs = d->next = &one->info;
}
struct conn *
conn_connect(struct reactor *r, const struct conn_target *target,
             const struct conn_options *options, const struct conn_handler *h,
             void *ctx)
{
    struct conn *c = conn_alloc(r, options);
    struct dial *d = xcalloc(1, sizeof(*d));
    const char *name =
        target->tls_name != NULL ? target->tls_name : target->host;

    ENSURE(target->path != NULL ||
           (target->host != NULL && target->service != NULL));
    c->dial = d;
    d->conn = c;
    conn_set_handler(c, h, ctx);
    if (target->tls != NULL)
        d->tls = tls_context_ref(target->tls);
    if (name != NULL)
        d->tls_name = xstrdup(name);
    c->own_at_ms = reactor_now_ms(r) +
                   (target->timeout_ms != 0 ? target->timeout_ms : 30000);
    if (target->path != NULL) {
        d->path = xstrdup(target->path);
        dial_unix(d);
        dial_next(c);
        return c;
    }
    d->host = xstrdup(target->host);
    d->service = xstrdup(target->service);
    d->resolving = true;
    reactor_work(r, dial_resolve, dial_resolved, d);
    return c;
}

void
conn_dial_drop(struct conn *c)
{
    if (c->dial != NULL && c->dial->resolving)
        c->dial->conn = NULL; /* frees itself when the lookup is back */
    else
        conn_dial_free(&c->dial);
}
