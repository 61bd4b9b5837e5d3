/*
 * net/service.h - sessions on connections: all clients of one service, spread
 * over the reactors.
 *
 * A service gives each connection a session and tells the session what happens
 * to the connection; the session acts through struct session_io.  Which
 * protocol is spoken is in struct net_protocol.
 */
#ifndef POLLUX_NET_SERVICE_H
#define POLLUX_NET_SERVICE_H

#include "net/conn.h"
#include "net/session_io.h"

/*
 * How a protocol's sessions are made and told things.  All on the thread of the
 * session's reactor; none is called from inside a call of struct session_io,
 * and none after gone().
 */
struct net_protocol {
    /* Zeroed bytes for each session that live as long as it; may be 0. */
    size_t room_bytes;
    /* Said to goodbye() when the instance stops. */
    const char *stopping;
    /*
     * A new session, never NULL; it is its own owner: after gone() it frees
     * itself, at once or when what is under way has come back, and then calls
     * IO->ended() as its last act.  IO_CTX and ROOM (aligned for anything) live
     * until then, PEER for the call.  Nothing is written yet.  CTX: as given to
     * net_service_new().
     */
    void *(*open)(void *ctx, const struct session_io *io, void *io_ctx,
                  void *room, const struct session_peer *peer);
    /* Greet. */
    void (*start)(void *session);
    /* IN is all unused input; returns how much of it was used. */
    size_t (*input)(void *session, struct span in);
    /* Output was full and is not any more.  May be NULL. */
    void (*drained)(void *session);
    void (*timeout)(void *session);
    /* TLS is on, after start_tls().  PEER lives for the call. */
    void (*tls)(void *session, const struct session_peer *peer);
    /* Say TEXT, then close, as soon as the protocol allows.  May come more than
     * once. */
    void (*goodbye)(void *session, const char *text);
    /* The connection is gone. */
    void (*gone)(void *session);
};

struct net_service;

/* PROTOCOL and CTX must live as long as the service; so must TLS, the context
 * for start_tls() (NULL: sessions never ask). */
struct net_service *
net_service_new(const struct net_protocol *protocol, void *ctx,
                struct tls_context *tls);
/* When no session is left (after reactor_pool_stop()).  NULL is fine. */
void
net_service_free(struct net_service **svc);

/* Take CONN, which is new, on the thread of its reactor: make a session for it
 * and start that.  The handler of CONN is the service's from now on. */
void
net_service_accept(struct net_service *svc, struct conn *conn);

/* goodbye() with TEXT (copied) to each session that is there now and has its
 * connection.  Any thread; returns at once. */
void
net_service_goodbye(struct net_service *svc, const char *text);

struct net_service_counts {
    uint64_t sessions;       /* now: until ended(), which may be after gone() */
    uint64_t sessions_total; /* since the start */
};

/* Any thread. */
struct net_service_counts
net_service_counts(struct net_service *svc);

#endif
