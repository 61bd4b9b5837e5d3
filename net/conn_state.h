/*
 * net/conn_state.h - what a connection is made of; for the files that make one:
 * conn.c (its turn), conn_out.c, conn_in.c, conn_dial.c.  Private to net/.
 */
#ifndef POLLUX_NET_CONN_STATE_H
#define POLLUX_NET_CONN_STATE_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "net/conn_private.h"
#include "net/tls_private.h"
#include "net/zpipe.h"

struct segment;
struct dial;

enum tls_state {
    TLS_NONE,
    TLS_AFTER_FLUSH, /* begins when the plain output has left */
    TLS_HANDSHAKE,
    TLS_ON,
};

enum closing {
    CLOSE_NO,
    CLOSE_FLUSH,  /* when output has left */
    CLOSE_LINGER, /* output has left: wait for the peer's end */
    CLOSE_NOW,
};

struct conn {
    struct reactor *r;
    struct reactor_guest guest;
    struct reactor_deferred deferred;
    struct reactor_timer timer;
    const struct conn_handler *h;
    void *ctx;
    int fd;
    struct event rd;
    struct event wr;
    struct conn_options opt;

    struct buf in;
    struct segment *out;
    struct segment *out_last;
    size_t out_bytes;

    SSL *ssl;
    struct tls_context *tls_ctx; /* until the handshake begins */
    char *tls_name;
    size_t plain_left; /* TLS_AFTER_FLUSH: output to send in clear */
    struct zpipe *z;
    struct dial *dial;

    uint64_t timeout_ms;
    uint64_t active_ms;      /* when bytes went last, either way */
    uint64_t deadline_at_ms; /* 0: none */
    uint64_t own_at_ms;      /* connect, handshake, linger; 0: none */
    uint64_t wire_in;
    uint64_t wire_out;
    struct error *why; /* of the end, if it was not ours */
    void (*gone)(void *ctx);
    void *gone_ctx;
    union netaddr peer;

    enum tls_state tls;
    enum closing closing;
    size_t lingered_bytes; /* read and thrown away since */
    bool established; /* connected, and TLS is up if it was to come first */
    bool rd_on;       /* the event is added */
    bool wr_on;
    bool send_blocked;    /* until the socket can be written */
    bool tls_wants_write; /* ... for a read or handshake of TLS */
    bool paused;
    bool eof; /* the peer has ended */
    bool eof_told;
    bool half_close; /* asked for */
    bool half_closed;
    bool was_full;
    bool read_more;  /* bytes are there that the socket will not report */
    bool deliver;    /* show input at the end of the turn */
    bool in_handler; /* inside on_input */
    bool tls_now;    /* conn_start_tls() was called in on_input */
    bool z_now;      /* conn_start_deflate() likewise */
    bool z_ending;   /* conn_end_deflate(): ours is over, the peer's not yet */
    bool stop_soft;  /* on_shutdown is due */
    bool timed_out;  /* on_timeout is due */
    bool connected;  /* on_connect is due */
    bool tls_done;   /* on_tls is due */
    bool rst;
    bool dead; /* on_close is being called */
};

/* 10,000 idle clients: what an idle one costs here is this struct. */
_Static_assert(sizeof(struct conn) <= 1024, "an idle connection is small");

/* The end of a turn; ctx is the struct conn. */
void
conn_turn_end(void *ctx);

/* Something of C has changed: look at it at the end of this turn. */
static inline void
conn_turn_due(struct conn *c)
{
    if (!c->dead)
        reactor_defer(c->r, &c->deferred, conn_turn_end, c);
}

static inline bool
conn_is_open(const struct conn *c)
{
    return c->closing == CLOSE_NO;
}

/* Is what is written compressed? */
static inline bool
conn_deflates(const struct conn *c)
{
    return c->z != NULL && !c->z_ending;
}

/* conn_out.c: the end of our compressed stream. */
void
conn_end_deflated_output(struct conn *c);

/* conn.c: the end, by a reason that is not ours.  The first reason counts. */
void
conn_fail(struct conn *c, const struct error *why);
void
conn_fail_text(struct conn *c, enum errcode code, const char *text);
void
conn_fail_errno(struct conn *c, int sys_errno, const char *what);
/* A connection without a socket. */
struct conn *
conn_alloc(struct reactor *r, const struct conn_options *options);
/* Make the events of c->fd, which are not added yet; take both away. */
void
conn_watch_fd(struct conn *c);
void
conn_unwatch(struct conn *c);

/* conn_out.c: drop what was not sent; send what the socket takes; say that
 * nothing more comes. */
void
conn_out_drop(struct conn *c);
void
conn_flush(struct conn *c);
void
conn_send_end(struct conn *c);
/* One step of the TLS handshake. */
void
conn_handshake(struct conn *c);

/* conn_in.c: may bytes be read from the wire now? */
bool
conn_wants_wire(const struct conn *c);
/* Compressed bytes that were read before the end are input still. */
bool
conn_has_compressed(const struct conn *c);
/* Read one turn's worth. */
void
conn_read_turn(struct conn *c);
/* Show FRESH, which lies outside c->in (then empty), or c->in. */
void
conn_deliver(struct conn *c, struct span fresh);

/* conn_dial.c: the socket of a connection being made can be written: how did
 * it go? */
void
conn_dial_writable(struct conn *c);
/* Not while the name is looked up. */
void
conn_dial_free(struct dial **dp);
/* C goes while it is being made. */
void
conn_dial_drop(struct conn *c);

#endif
