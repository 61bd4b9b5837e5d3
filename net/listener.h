/*
 * net/listener.h - where clients come in: TCP and Unix sockets, named as in
 * cyrus.conf, with limits on how many may be there.
 *
 * Two steps, so that a privileged port can be bound before root is given up:
 * listener_bind() in main(), listener_start() when the reactors run.
 */
#ifndef POLLUX_NET_LISTENER_H
#define POLLUX_NET_LISTENER_H

#include "net/conn.h"
#include "net/reactor.h"

/* Where to listen, as parsed from cyrus.conf. */
struct listen_spec {
    char host[256];   /* "" is every address */
    char service[64]; /* name of /etc/services or a number */
    char path[108];   /* a Unix socket if not "" */
    int family;       /* AF_UNSPEC, AF_INET, AF_INET6; AF_UNIX */
};

/*
 * Parse LISTEN: "imap", "host:imap", "host:143", "[::1]:143", "/a/socket"; each
 * but the path may carry "tcp:", "tcp4:" or "tcp6:" before it.  PROTO is tcp
 * (NULL means that), tcp4 or tcp6.  Errors: ERR_SYNTAX, ERR_UNSUPPORTED (udp).
 */
MUST_CHECK enum errcode
listen_spec_parse(const char *listen, const char *proto,
                  struct listen_spec *ret, struct error *err);

/* Port of a service: a number, else /etc/services, else the names of Cyrus
 * (imap imaps pop3 pop3s lmtp csync sieve mupdate); false if unknown. */
bool
service_port(const char *service, uint16_t *ret);

/*
 * Limits that all listeners of an instance share; 0 is no limit.  Reference
 * counted by listeners and connections.
 */
struct conn_limits;
struct conn_limits *
conn_limits_new(unsigned total, unsigned per_address);
/* Takes *LIMITS; NULL is fine. */
void
conn_limits_free(struct conn_limits **limits);
/* Connections counted now. */
unsigned
conn_limits_total(const struct conn_limits *limits);

/* What a service does with its clients. */
struct listener_service {
    const char *name;   /* for logs, "imap" */
    const char *refuse; /* sent to whom a limit turns away, with its CRLF; NULL:
                           nothing.  Not sent where TLS is implicit. */
    struct conn_options conn;
    struct tls_context *tls; /* TLS from the first byte; NULL: none */
    unsigned max_conns;      /* of this listener (maxchild); 0: no limit */
    /*
     * A client is there, on its reactor's thread; where TLS is implicit, its
     * handshake is done (one that fails is logged here and never comes).  To be
     * answered by conn_set_handler() before it returns; what is written goes
     * out at the end of the turn.
     */
    void (*on_conn)(struct conn *c, void *ctx);
    void *ctx;
};

struct listener;

/*
 * Bind (and listen on) every address of SPEC.  A Unix socket whose path is
 * there already is replaced if nobody answers on it (ERR_BUSY if somebody
 * does); its mode becomes 0777 as in Cyrus.  SPEC with port "0" takes one from
 * the kernel.  BACKLOG 0 is 1024.
 * Errors: ERR_BUSY (address in use), ERR_NOTFOUND (no such host or service),
 * ERR_DENIED (privileged port), ERR_IO.
 */
MUST_CHECK enum errcode
listener_bind(const struct listen_spec *spec, int backlog,
              struct listener **ret, struct error *err);
/* TCP: the port; Unix: 0. */
uint16_t
listener_port(const struct listener *l);
/* "0.0.0.0:143", "[::]:143" or the path; of the first socket. */
const char *
listener_name(const struct listener *l);

/*
 * Accept from now on, and spread the connections over POOL.  SERVICE is copied,
 * strings and ctx must live as long as the listener and its connections.
 * LIMITS may be NULL.  Running out of descriptors is survived: accepting rests
 * for a moment and is tried again.  Not to be called twice.
 */
void
listener_start(struct listener *l, struct reactor_pool *pool,
               const struct listener_service *service,
               struct conn_limits *limits);
/* Connections of this listener now; any thread. */
unsigned
listener_conns(const struct listener *l);
/* How many were turned away by a limit; any thread. */
uint64_t
listener_refused(const struct listener *l);

/*
 * Accept no more, close the sockets, remove the Unix path, free *L.  Those who
 * are in stay.  Before reactor_pool_stop(); not on a reactor.  NULL is fine.
 */
void
listener_close(struct listener **l);

#endif
