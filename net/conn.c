/*
 * net/conn.c - how bytes go through a connection.
 *
 * Input is read into a buffer of the thread and shown to the handler there;
 * only what the handler leaves is copied into the connection.  So an idle
 * connection has no buffer.  With DEFLATE, or when something was left, it is
 * read behind what is there, never past input_max.
 *
 * Output is a chain of segments: our own, filled by conn_write(), and foreign
 * ones.  It is sent at the end of the turn (conn_turn_end()), which is also the
 * only place where callbacks other than input's are made and where a connection
 * is freed: whoever closes one merely marks it, so no caller finds it gone.
 *
 * conn_start_tls() lets the plain bytes written before it leave first
 * (plain_left), then shakes hands; what is written meanwhile waits.
 *
 *   C1  on_close is called exactly once, and is the last callback.
 *   C2  nothing that came before a TLS handshake is shown after it.
 *   C3  a connection that nobody reads keeps at most its output, input_max of
 *       input and, with DEFLATE, CONN_READ_BUDGET of compressed input.
 */
#include "net/conn.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "net/conn_private.h"
#include "net/listener.h"
#include "net/tls_private.h"
#include "net/zpipe.h"

#define SEGMENT_BYTES_FIRST 1024
#define SEGMENT_BYTES 16384
/* Foreign bytes fewer than this are copied: cheaper than a segment. */
#define OWNED_BYTES_MIN 512
#define IOV_MAX_USED 32
/* Handler calls in one turn, for a peer that sends many tiny commands. */
#define INPUT_CALLS_MAX 256

/* Bytes that wait to be sent. */
struct segment {
    struct segment *next;
    const uint8_t *p;
    size_t n;   /* bytes at p */
    size_t off; /* of them sent */
    size_t cap; /* room at bytes[]; 0: foreign */
    void (*release)(void *ctx);
    void *ctx;
    uint8_t bytes[];
};

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
    bool stop_soft;  /* on_shutdown is due */
    bool timed_out;  /* on_timeout is due */
    bool connected;  /* on_connect is due */
    bool tls_done;   /* on_tls is due */
    bool rst;
    bool dead; /* on_close is being called */
};

/* 10,000 idle clients: what an idle one costs here is this struct. */
_Static_assert(sizeof(struct conn) <= 1024, "an idle connection is small");

/* What a turn reads goes through here, so that connections need no buffers. */
static _Thread_local uint8_t scratch[CONN_READ_BUDGET];

static void
conn_turn_end(void *ctx);

static void
schedule(struct conn *c)
{
    if (!c->dead)
        reactor_defer(c->r, &c->deferred, conn_turn_end, c);
}

static bool
is_open(const struct conn *c)
{
    return c->closing == CLOSE_NO;
}

/* The end, by a reason that is not ours.  The first reason counts. */
static void
fail(struct conn *c, const struct error *why)
{
    if (c->why == NULL && c->closing != CLOSE_NOW) {
        c->why = xmalloc(sizeof(*c->why));
        *c->why = *why;
    }
    c->closing = CLOSE_NOW;
    schedule(c);
}

static void
fail_text(struct conn *c, enum errcode code, const char *text)
{
    struct error why = {0};
    error_set(&why, code, "%s", text);
    fail(c, &why);
}

static void
fail_errno(struct conn *c, int sys_errno, const char *what)
{
    struct error why = {0};

    if (sys_errno == EPIPE || sys_errno == ECONNRESET)
        error_set(&why, ERR_CLOSED, "%s: closed by the peer", what);
    else if (sys_errno == ETIMEDOUT)
        error_set(&why, ERR_TIMEOUT, "%s: no answer from the peer", what);
    else
        error_set_errno(&why, sys_errno, "%s", what);
    fail(c, &why);
}

/* ---- output: the chain ---- */

static void
segment_free(struct segment *s)
{
    if (s->release != NULL)
        s->release(s->ctx);
    free(s);
}

static struct segment *
segment_append(struct conn *c, size_t cap)
{
    struct segment *s = xmalloc(sizeof(*s) + cap);

    *s = (struct segment){.cap = cap};
    s->p = s->bytes;
    if (c->out_last != NULL)
        c->out_last->next = s;
    else
        c->out = s;
    c->out_last = s;
    return s;
}

static void
out_copy(void *ctx, struct span bytes)
{
    struct conn *c = ctx;

    while (bytes.n > 0) {
        struct segment *s = c->out_last;
        if (s == NULL || s->n >= s->cap)
            s = segment_append(c,
                               MAX(bytes.n, c->out == NULL ? SEGMENT_BYTES_FIRST
                                                           : SEGMENT_BYTES));
        size_t n = MIN(bytes.n, s->cap - s->n);
        memcpy(s->bytes + s->n, bytes.p, n);
        s->n += n;
        c->out_bytes += n;
        bytes = span_skip(bytes, n);
    }
}

static void
out_sent(struct conn *c, size_t n)
{
    c->out_bytes -= n;
    while (n > 0) {
        struct segment *s = c->out;
        size_t part = MIN(n, s->n - s->off);
        s->off += part;
        n -= part;
        if (s->off < s->n)
            break;
        c->out = s->next;
        if (c->out == NULL)
            c->out_last = NULL;
        segment_free(s);
    }
}

static void
out_drop(struct conn *c)
{
    while (c->out != NULL) {
        struct segment *s = c->out;
        c->out = s->next;
        segment_free(s);
    }
    c->out_last = NULL;
    c->out_bytes = 0;
}

static bool
takes_output(const struct conn *c)
{
    return is_open(c) && !c->half_close;
}

static void
wrote(struct conn *c)
{
    if (c->out_bytes >= c->opt.output_high)
        c->was_full = true;
    schedule(c);
}

void
conn_write(struct conn *c, struct span bytes)
{
    ENSURE(reactor_current() == c->r);
    if (!takes_output(c) || bytes.n == 0)
        return;
    if (c->z != NULL)
        zpipe_deflate(c->z, bytes, out_copy, c);
    else
        out_copy(c, bytes);
    wrote(c);
}

void
conn_write_str(struct conn *c, const char *s)
{
    conn_write(c, span_str(s));
}

void
conn_writef(struct conn *c, const char *fmt, ...)
{
    char small[512];
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(small, sizeof(small), fmt, args);
    va_end(args);
    ENSURE(n >= 0);
    if ((size_t)n < sizeof(small)) {
        conn_write(c, span_of(small, (size_t)n));
        return;
    }
    char *large = xmalloc((size_t)n + 1);
    va_start(args, fmt);
    vsnprintf(large, (size_t)n + 1, fmt, args);
    va_end(args);
    conn_write(c, span_of(large, (size_t)n));
    free(large);
}

void
conn_write_owned(struct conn *c, struct span bytes, void (*release)(void *ctx),
                 void *ctx)
{
    ENSURE(reactor_current() == c->r);
    if (!takes_output(c) || c->z != NULL || bytes.n < OWNED_BYTES_MIN) {
        conn_write(c, bytes);
        if (release != NULL)
            release(ctx);
        return;
    }
    struct segment *s = segment_append(c, 0);
    s->p = bytes.p;
    s->n = bytes.n;
    s->release = release;
    s->ctx = ctx;
    c->out_bytes += bytes.n;
    wrote(c);
}

size_t
conn_output_bytes(const struct conn *c)
{
    return c->out_bytes;
}

bool
conn_output_is_full(const struct conn *c)
{
    return c->out_bytes >= c->opt.output_high;
}

/* ---- output: the socket ---- */

/* Bytes sent, 0 when the socket takes none now or C has failed. */
static size_t
send_plain(struct conn *c, size_t max)
{
    struct iovec iov[IOV_MAX_USED];
    size_t niov = 0;

    for (struct segment *s = c->out;
         s != NULL && niov < IOV_MAX_USED && max > 0; s = s->next) {
        size_t n = MIN(s->n - s->off, max);
        /* sendmsg() does not write through it. */
        iov[niov].iov_base = (void *)(uintptr_t)(s->p + s->off);
        iov[niov++].iov_len = n;
        max -= n;
    }
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = niov};
    ssize_t n;
    do {
        n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return (size_t)n;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        c->send_blocked = true;
    else
        fail_errno(c, errno, "send");
    return 0;
}

static size_t
send_tls(struct conn *c)
{
    struct error err = {0};
    size_t n = 0;

    switch (tls_write(c->ssl,
                      span_of(c->out->p + c->out->off, c->out->n - c->out->off),
                      &n, &err)) {
    case TLS_IO_OK:
        return n;
    case TLS_IO_WANT_READ: /* the peer's turn; the read event brings us on */
    case TLS_IO_WANT_WRITE:
        c->send_blocked = true;
        break;
    case TLS_IO_EOF:
    case TLS_IO_FAILED:
        fail(c, &err);
        break;
    }
    return 0;
}

static void
begin_handshake(struct conn *c)
{
    c->ssl = tls_session_new(c->tls_ctx, c->fd, c->tls_name);
    tls_context_free(&c->tls_ctx);
    xfree(&c->tls_name);
    c->tls = TLS_HANDSHAKE;
    if (is_open(c))
        c->own_at_ms = reactor_now_ms(c->r) + c->opt.handshake_ms;
}

/* One step of the handshake. */
static void
handshake(struct conn *c)
{
    struct error err = {0};

    c->tls_wants_write = false;
    switch (tls_handshake(c->ssl, &err)) {
    case TLS_IO_OK:
        c->tls = TLS_ON;
        if (is_open(c))
            c->own_at_ms = 0;
        c->active_ms = reactor_now_ms(c->r);
        c->read_more = true; /* bytes may have come with the last flight */
        if (c->established)
            c->tls_done = true;
        else
            c->connected = true;
        c->established = true;
        schedule(c);
        break;
    case TLS_IO_WANT_READ:
        break;
    case TLS_IO_WANT_WRITE:
        c->tls_wants_write = true;
        break;
    case TLS_IO_EOF:
    case TLS_IO_FAILED:
        fail(c, &err);
        break;
    }
}

/* Send what the socket takes. */
static void
flush(struct conn *c)
{
    if (c->fd < 0 || c->dial != NULL)
        return;
    if (c->z != NULL)
        zpipe_flush(c->z, out_copy, c);
    size_t before = c->out_bytes;
    while (!c->send_blocked && c->closing != CLOSE_NOW) {
        if (c->tls == TLS_AFTER_FLUSH && c->plain_left == 0) {
            begin_handshake(c);
            handshake(c);
        }
        if (c->tls == TLS_HANDSHAKE || c->out == NULL)
            break;
        size_t n = c->tls == TLS_ON            ? send_tls(c)
                   : c->tls == TLS_AFTER_FLUSH ? send_plain(c, c->plain_left)
                                               : send_plain(c, SIZE_MAX);
        if (n == 0)
            break;
        if (c->tls == TLS_AFTER_FLUSH)
            c->plain_left -= n;
        c->wire_out += n;
        out_sent(c, n);
    }
    if (c->out_bytes >= before)
        return;
    c->active_ms = reactor_now_ms(c->r);
    if (c->closing == CLOSE_FLUSH)
        c->own_at_ms = c->active_ms + c->opt.linger_ms;
}

static void
send_end(struct conn *c)
{
    if (c->half_closed || c->fd < 0)
        return;
    c->half_closed = true;
    if (c->tls == TLS_ON)
        tls_shutdown(c->ssl);
    shutdown(c->fd, SHUT_WR);
}

/* ---- input ---- */

/* Up to N bytes from the wire; 0: none now, the end, or a failure. */
static size_t
wire_read(struct conn *c, uint8_t *to, size_t n)
{
    struct error err = {0};
    size_t got = 0;

    if (c->tls == TLS_ON) {
        c->tls_wants_write = false;
        switch (tls_read(c->ssl, to, n, &got, &err)) {
        case TLS_IO_OK:
            break;
        case TLS_IO_WANT_READ:
            return 0;
        case TLS_IO_WANT_WRITE:
            c->tls_wants_write = true;
            return 0;
        case TLS_IO_EOF:
            c->eof = true;
            return 0;
        case TLS_IO_FAILED:
            fail(c, &err);
            return 0;
        }
    } else {
        ssize_t rc;
        do {
            rc = recv(c->fd, to, n, 0);
        } while (rc < 0 && errno == EINTR);
        if (rc < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                fail_errno(c, errno, "receive");
            return 0;
        }
        if (rc == 0) {
            c->eof = true;
            return 0;
        }
        got = (size_t)rc;
    }
    c->wire_in += got;
    c->active_ms = reactor_now_ms(c->r);
    return got;
}

/* Records of TLS are smaller than a turn: read until it is used up.  *RET_DRY:
 * the socket has no more. */
static size_t
wire_read_all(struct conn *c, uint8_t *to, size_t n, bool *ret_dry)
{
    size_t got = 0;

    *ret_dry = false;
    while (got < n && c->closing != CLOSE_NOW) {
        size_t part = wire_read(c, to + got, n - got);
        if (part == 0) {
            *ret_dry = true;
            break;
        }
        got += part;
        if (c->tls != TLS_ON)
            break; /* level-triggered: the rest is reported again */
    }
    return got;
}

static bool
has_room(const struct conn *c)
{
    return c->in.n < c->opt.input_max;
}

/* May bytes be read from the wire now? */
static bool
wants_wire(const struct conn *c)
{
    if (c->fd < 0 || c->dial != NULL || c->eof || c->closing == CLOSE_NOW)
        return false;
    if (c->closing == CLOSE_LINGER || c->tls == TLS_HANDSHAKE)
        return true;
    if (c->closing == CLOSE_FLUSH)
        return false;
    return c->tls != TLS_AFTER_FLUSH && has_room(c);
}

/* What on_input asked for while it ran; REST is the input after its bytes. */
static struct span
switch_layer(struct conn *c, struct span rest)
{
    if (c->tls_now) {
        c->tls_now = false;
        return SPAN_EMPTY; /* C2 */
    }
    if (c->z_now) {
        c->z_now = false;
        zpipe_feed(c->z, rest);
        c->read_more = true;
        return SPAN_EMPTY;
    }
    return rest;
}

static struct span
show(struct conn *c, struct span in)
{
    for (int calls = 0;; calls++) {
        if (!is_open(c) || c->paused || in.n == 0 || c->h == NULL ||
            c->h->on_input == NULL)
            return in;
        if (calls == INPUT_CALLS_MAX) {
            c->deliver = true;
            schedule(c);
            return in;
        }
        c->in_handler = true;
        size_t used = c->h->on_input(c, in, c->ctx);
        c->in_handler = false;
        ENSURE(used <= in.n);
        in = switch_layer(c, span_skip(in, used));
        if (used > 0)
            continue;
        if (in.n >= c->opt.input_max && is_open(c) && !c->paused)
            fail_text(c, ERR_LIMIT, "input without an end");
        return in;
    }
}

/* Show FRESH, which lies outside c->in (then empty), or c->in. */
static void
deliver(struct conn *c, struct span fresh)
{
    if (fresh.n > 0) {
        struct span rest = show(c, fresh);
        if (c->closing == CLOSE_NO)
            buf_add(&c->in, rest);
        return;
    }
    size_t before = c->in.n;
    struct span rest = show(c, buf_span(&c->in));
    buf_drop(&c->in, before - rest.n);
    if (c->in.n == 0)
        buf_free(&c->in);
    /* Room again for what was left in TLS or DEFLATE. */
    if (c->in.n < before && (c->ssl != NULL || c->z != NULL)) {
        c->read_more = true;
        schedule(c);
    }
}

static void
read_deflated(struct conn *c)
{
    struct error err = {0};
    bool end = false, dry = false;

    if (!zpipe_has_input(c->z)) {
        size_t n = wire_read_all(c, scratch, CONN_READ_BUDGET / 4, &dry);
        zpipe_feed(c->z, span_of(scratch, n));
        if (n == 0)
            return;
    }
    size_t got = 0;
    size_t room = MIN(c->opt.input_max - c->in.n, (size_t)CONN_READ_BUDGET);
    if (zpipe_inflate(c->z, scratch, room, &got, &end, &err) != ERR_OK) {
        fail(c, &err);
        return;
    }
    if (end)
        c->eof = true;
    buf_add(&c->in, span_of(scratch, got));
    if (!end)
        c->read_more = zpipe_has_input(c->z) || (c->ssl != NULL && !dry);
    if (got > 0)
        deliver(c, SPAN_EMPTY);
}

static void
read_direct(struct conn *c)
{
    bool dry = false;
    size_t room = MIN(c->opt.input_max - c->in.n, (size_t)CONN_READ_BUDGET);
    size_t n = wire_read_all(c, scratch, room, &dry);

    if (c->ssl != NULL && !dry)
        c->read_more = true;
    if (n == 0)
        return;
    if (c->in.n == 0) {
        deliver(c, span_of(scratch, n));
    } else {
        buf_add(&c->in, span_of(scratch, n));
        deliver(c, SPAN_EMPTY);
    }
}

/* Closing with unread input would reset, and the peer lose our last words: so
 * what still comes is read and thrown away, below TLS.  Not for ever: who sends
 * on and on does not listen. */
static void
read_lingering(struct conn *c)
{
    ssize_t n = recv(c->fd, scratch, sizeof(scratch), 0);

    if (n > 0)
        c->lingered_bytes += (size_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ||
        c->lingered_bytes > LINGER_BYTES)
        c->closing = CLOSE_NOW;
}

/* Compressed bytes that were read before the end are input still. */
static bool
has_compressed(const struct conn *c)
{
    return c->z != NULL && zpipe_has_input(c->z);
}

/* One turn's worth. */
static void
read_turn(struct conn *c)
{
    c->read_more = false;
    if (c->closing == CLOSE_LINGER) {
        read_lingering(c);
        return;
    }
    if (c->tls == TLS_HANDSHAKE) {
        handshake(c);
        return;
    }
    if (is_open(c) && (c->tls_done || c->connected)) {
        /* Who handles it is told of that before it sees what came after. */
        c->read_more = true;
        schedule(c);
        return;
    }
    if (!wants_wire(c) && !(is_open(c) && has_compressed(c) && has_room(c)))
        return;
    if (c->z != NULL)
        read_deflated(c);
    else
        read_direct(c);
    /* The end of TLS or DEFLATE may be behind what is read still. */
    if (c->read_more)
        schedule(c);
}

/* ---- the making of connections ---- */

static void
dial_free(struct dial **dp)
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
    if (is_open(c))
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
    dial_free(&c->dial);
    schedule(c);
}

static void
unwatch(struct conn *c)
{
    if (c->rd_on)
        event_del(&c->rd);
    if (c->wr_on)
        event_del(&c->wr);
    c->rd_on = c->wr_on = false;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg);
static void
on_writable(evutil_socket_t fd, short what, void *arg);

static void
watch_fd(struct conn *c)
{
    event_assign(&c->rd, reactor_base(c->r), c->fd, EV_READ | EV_PERSIST,
                 on_readable, c);
    event_assign(&c->wr, reactor_base(c->r), c->fd, EV_WRITE | EV_PERSIST,
                 on_writable, c);
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
    watch_fd(c);
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
    fail(c, &d->err);
}

/* The socket of a connection being made can be written: how did it go? */
static void
dial_writable(struct conn *c)
{
    int why = 0;
    socklen_t n = sizeof(why);

    unwatch(c);
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
        dial_free(&d);
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

/* ---- time ---- */

static uint64_t
earlier(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a == 0 ? b : a;
    return MIN(a, b);
}

/* Resting: the handler is at work and the peer waits for it, not we. */
static bool
timeout_rests(const struct conn *c)
{
    return c->timeout_ms == 0 || !is_open(c) || c->dial != NULL ||
           (c->paused && c->out_bytes == 0);
}

static uint64_t
next_due(const struct conn *c)
{
    uint64_t due = c->own_at_ms;

    if (is_open(c))
        due = earlier(due, c->deadline_at_ms);
    if (!timeout_rests(c))
        due = earlier(due, c->active_ms + c->timeout_ms);
    return due;
}

static void
on_time(void *ctx)
{
    struct conn *c = ctx;
    uint64_t now = reactor_now_ms(c->r);

    if (c->own_at_ms != 0 && c->own_at_ms <= now) {
        c->own_at_ms = 0;
        if (c->dial != NULL)
            fail_text(c, ERR_TIMEOUT, "connect: no answer in time");
        else if (is_open(c))
            fail_text(c, ERR_TIMEOUT, "TLS: no handshake in time");
        else
            c->closing = CLOSE_NOW; /* lingered long enough */
    }
    if (is_open(c) && c->deadline_at_ms != 0 && c->deadline_at_ms <= now) {
        c->deadline_at_ms = 0;
        c->timed_out = true;
    }
    if (!timeout_rests(c) && c->active_ms + c->timeout_ms <= now) {
        c->active_ms = now;
        c->timed_out = true;
    }
    schedule(c); /* also sets the timer again */
}

/* The timer is moved only when it would come too late: activity moves the due
 * time with every byte, and on_time() looks again. */
static void
set_timer(struct conn *c)
{
    uint64_t due = next_due(c);

    if (due == 0 || (reactor_timer_is_set(&c->timer) && c->timer.at_ms <= due))
        return;
    uint64_t now = reactor_now_ms(c->r);
    reactor_timer_set(c->r, &c->timer, due > now ? due - now : 0, on_time, c);
}

void
conn_set_timeout_ms(struct conn *c, uint64_t ms)
{
    c->timeout_ms = MIN(ms, (uint64_t)UINT32_MAX);
    c->active_ms = reactor_now_ms(c->r);
    schedule(c);
}

void
conn_set_deadline_ms(struct conn *c, uint64_t ms)
{
    c->deadline_at_ms =
        ms == 0 ? 0 : reactor_now_ms(c->r) + MIN(ms, (uint64_t)UINT32_MAX);
    schedule(c);
}

/* ---- the turn ---- */

static void
watch(struct conn *c)
{
    if (c->fd < 0 || c->dial != NULL)
        return;
    bool rd = wants_wire(c);
    bool wr = c->send_blocked || c->tls_wants_write;

    if (rd != c->rd_on) {
        if (rd)
            event_add(&c->rd, NULL);
        else
            event_del(&c->rd);
        c->rd_on = rd;
    }
    if (wr != c->wr_on) {
        if (wr)
            event_add(&c->wr, NULL);
        else
            event_del(&c->wr);
        c->wr_on = wr;
    }
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;

    (void)fd;
    (void)what;
    /* A TLS write may have waited for bytes of the peer. */
    if (c->ssl != NULL)
        c->send_blocked = false;
    read_turn(c);
    schedule(c);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;

    (void)fd;
    (void)what;
    if (c->dial != NULL) {
        dial_writable(c);
        return;
    }
    c->send_blocked = false;
    if (c->tls_wants_write)
        read_turn(c);
    schedule(c);
}

static void
conn_destroy(struct conn *c)
{
    struct error ours = {0};

    c->dead = true;
    unwatch(c);
    reactor_timer_cancel(c->r, &c->timer);
    if (c->h != NULL && c->h->on_close != NULL)
        c->h->on_close(c, c->why != NULL ? c->why : &ours, c->ctx);
    out_drop(c);
    buf_free(&c->in);
    zpipe_free(&c->z);
    if (c->tls == TLS_ON && !c->half_closed && c->why == NULL && !c->rst)
        tls_shutdown(c->ssl);
    SSL_free(c->ssl);
    tls_context_free(&c->tls_ctx);
    free(c->tls_name);
    if (c->dial != NULL && c->dial->resolving)
        c->dial->conn = NULL; /* frees itself when the lookup is back */
    else
        dial_free(&c->dial);
    if (c->fd >= 0) {
        if (c->rst)
            setsockopt(c->fd, SOL_SOCKET, SO_LINGER,
                       &(struct linger){.l_onoff = 1}, sizeof(struct linger));
        close(c->fd);
    }
    reactor_guest_leave(c->r, &c->guest);
    if (c->gone != NULL)
        c->gone(c->gone_ctx);
    free(c->why);
    free(c);
}

/* Callbacks that became due; each may close. */
static void
call_due(struct conn *c)
{
    const struct conn_handler none = {0};

#define H (c->h != NULL ? c->h : &none)
    if (c->connected && is_open(c)) {
        c->connected = false;
        if (H->on_connect != NULL)
            H->on_connect(c, c->ctx);
    }
    if (c->tls_done && is_open(c)) {
        c->tls_done = false;
        if (H->on_tls != NULL)
            H->on_tls(c, c->ctx);
    }
    if (c->stop_soft && is_open(c)) {
        c->stop_soft = false;
        if (H->on_shutdown != NULL)
            H->on_shutdown(c, c->ctx);
        else
            conn_close_after_flush(c);
    }
    if (c->timed_out && is_open(c)) {
        c->timed_out = false;
        if (H->on_timeout != NULL)
            H->on_timeout(c, c->ctx);
        else
            fail_text(c, ERR_TIMEOUT, "idle for too long");
    }
#undef H
}

static void
call_drain(struct conn *c)
{
    if (!c->was_full || c->out_bytes > c->opt.output_low || !is_open(c))
        return;
    c->was_full = false;
    if (c->h != NULL && c->h->on_drain != NULL)
        c->h->on_drain(c, c->ctx);
}

/* Everything that came was shown, and no more comes. */
static void
call_eof(struct conn *c)
{
    if (!c->eof || c->eof_told || !is_open(c) || c->paused || c->deliver ||
        c->read_more || has_compressed(c) || c->h == NULL)
        return;
    c->eof_told = true;
    if (c->h->on_eof != NULL) {
        c->h->on_eof(c, c->ctx);
        return;
    }
    struct error why = {0};
    error_set(&why, ERR_CLOSED, "closed by the peer");
    conn_close_after_flush(c);
    if (c->why == NULL) {
        c->why = xmalloc(sizeof(*c->why));
        *c->why = why;
    }
}

static void
close_step(struct conn *c)
{
    if (c->out_bytes > 0 || c->tls == TLS_AFTER_FLUSH ||
        c->tls == TLS_HANDSHAKE || c->dial != NULL)
        return;
    if (is_open(c)) {
        if (c->half_close)
            send_end(c);
        return;
    }
    if (c->closing == CLOSE_FLUSH) {
        send_end(c);
        c->closing = CLOSE_LINGER;
        c->own_at_ms = reactor_now_ms(c->r) + c->opt.linger_ms;
    }
    if (c->closing == CLOSE_LINGER && c->eof)
        c->closing = CLOSE_NOW;
}

static void
conn_turn_end(void *ctx)
{
    struct conn *c = ctx;

    if (c->closing != CLOSE_NOW)
        call_due(c);
    if (c->deliver && c->closing != CLOSE_NOW) {
        c->deliver = false;
        deliver(c, SPAN_EMPTY);
    }
    if (c->read_more && c->closing != CLOSE_NOW)
        read_turn(c);
    if (c->closing != CLOSE_NOW)
        call_eof(c);
    if (c->closing != CLOSE_NOW)
        flush(c);
    if (c->closing != CLOSE_NOW)
        call_drain(c);
    close_step(c);
    if (c->closing == CLOSE_NOW) {
        /* What was deferred meanwhile must not find C gone. */
        if (c->deferred.queued)
            return;
        conn_destroy(c);
        return;
    }
    if (c->read_more || c->connected || c->tls_done)
        schedule(c);
    watch(c);
    set_timer(c);
}

/* ---- the calls ---- */

static void
on_stop(struct reactor_guest *g, bool now)
{
    struct conn *c =
        (struct conn *)(void *)((char *)g - offsetof(struct conn, guest));

    if (now) {
        fail_text(c, ERR_CLOSED, "the instance is stopping");
        return;
    }
    c->stop_soft = true;
    schedule(c);
}

static struct conn *
conn_alloc(struct reactor *r, const struct conn_options *options)
{
    ENSURE(reactor_current() == r);
    struct conn *c = xcalloc(1, sizeof(*c));

    c->r = r;
    c->fd = -1;
    if (options != NULL)
        c->opt = *options;
    if (c->opt.input_max == 0)
        c->opt.input_max = 65536;
    if (c->opt.output_high == 0)
        c->opt.output_high = 262144;
    if (c->opt.output_low == 0 || c->opt.output_low >= c->opt.output_high)
        c->opt.output_low = c->opt.output_high / 4;
    if (c->opt.linger_ms == 0)
        c->opt.linger_ms = 10000;
    if (c->opt.handshake_ms == 0)
        c->opt.handshake_ms = 30000;
    c->active_ms = reactor_now_ms(r);
    c->peer.family = AF_UNIX;
    c->guest.stop = on_stop;
    reactor_guest_enter(r, &c->guest);
    schedule(c);
    return c;
}

struct conn *
conn_new_accepted(struct reactor *r, int fd, const struct conn_options *options,
                  struct tls_context *tls, const union netaddr *peer,
                  void (*gone)(void *ctx), void *gone_ctx)
{
    struct conn *c = conn_alloc(r, options);
    int one = 1;

    c->fd = fd;
    c->peer = *peer;
    c->gone = gone;
    c->gone_ctx = gone_ctx;
    c->established = true;
    evutil_make_socket_nonblocking(fd);
    if (peer->family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    watch_fd(c);
    if (tls != NULL)
        conn_start_tls(c, tls, NULL);
    return c;
}

struct conn *
conn_new(struct reactor *r, int fd, const struct conn_options *options,
         struct tls_context *tls, const struct conn_handler *h, void *ctx)
{
    struct sockaddr_storage from;
    socklen_t n = sizeof(from);
    union netaddr peer = {.family = AF_UNIX};

    if (getpeername(fd, (struct sockaddr *)&from, &n) == 0)
        netaddr_of_sockaddr((struct sockaddr *)&from, n, &peer);
    struct conn *c = conn_new_accepted(r, fd, options, tls, &peer, NULL, NULL);
    conn_set_handler(c, h, ctx);
    return c;
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
conn_set_handler(struct conn *c, const struct conn_handler *h, void *ctx)
{
    c->h = h;
    c->ctx = ctx;
    if (c->in.n > 0) {
        c->deliver = true;
        schedule(c);
    }
}

void
conn_pause_input(struct conn *c)
{
    c->paused = true;
}

void
conn_resume_input(struct conn *c)
{
    ENSURE(reactor_current() == c->r);
    if (!c->paused)
        return;
    c->paused = false;
    c->deliver = true;
    c->active_ms = reactor_now_ms(c->r);
    schedule(c);
}

bool
conn_input_is_paused(const struct conn *c)
{
    return c->paused;
}

void
conn_start_tls(struct conn *c, struct tls_context *tls, const char *name)
{
    ENSURE(reactor_current() == c->r);
    ENSURE(c->tls == TLS_NONE && c->z == NULL);
    c->tls_ctx = tls_context_ref(tls);
    c->tls_name = name != NULL ? xstrdup(name) : NULL;
    c->tls = TLS_AFTER_FLUSH;
    c->plain_left = c->out_bytes;
    if (c->in_handler)
        c->tls_now = true; /* c->in is being shown */
    else
        buf_free(&c->in); /* C2 */
    schedule(c);
}

bool
conn_is_tls(const struct conn *c)
{
    return c->tls == TLS_ON;
}

bool
conn_tls_info(const struct conn *c, struct tls_info *ret)
{
    if (c->tls != TLS_ON)
        return false;
    tls_session_info(c->ssl, ret);
    return true;
}

void
conn_start_deflate(struct conn *c)
{
    ENSURE(reactor_current() == c->r);
    ENSURE(c->z == NULL && c->tls != TLS_AFTER_FLUSH);
    c->z = zpipe_new();
    if (c->in_handler) {
        c->z_now = true;
        return;
    }
    zpipe_feed(c->z, buf_span(&c->in));
    buf_free(&c->in);
    c->read_more = true;
    schedule(c);
}

bool
conn_is_deflate(const struct conn *c)
{
    return c->z != NULL;
}

void
conn_close(struct conn *c)
{
    ENSURE(reactor_current() == c->r);
    c->closing = CLOSE_NOW;
    schedule(c);
}

void
conn_close_after_flush(struct conn *c)
{
    ENSURE(reactor_current() == c->r);
    if (!is_open(c))
        return;
    c->closing = CLOSE_FLUSH;
    c->own_at_ms = reactor_now_ms(c->r) + c->opt.linger_ms;
    schedule(c);
}

void
conn_reset(struct conn *c)
{
    c->rst = true;
    conn_close(c);
}

void
conn_half_close(struct conn *c)
{
    ENSURE(reactor_current() == c->r);
    c->half_close = true;
    schedule(c);
}

bool
conn_is_closing(const struct conn *c)
{
    return !is_open(c);
}

struct reactor *
conn_reactor(const struct conn *c)
{
    return c->r;
}

int
conn_fd(const struct conn *c)
{
    return c->fd;
}

void *
conn_ctx(const struct conn *c)
{
    return c->ctx;
}

bool
conn_is_unix(const struct conn *c)
{
    return c->peer.family == AF_UNIX;
}

int64_t
conn_peer_uid(const struct conn *c)
{
    struct ucred cred;
    socklen_t n = sizeof(cred);

    if (c->fd < 0 || !conn_is_unix(c) ||
        getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0)
        return -1;
    return (int64_t)cred.uid;
}

void
conn_peer_name(const struct conn *c, char ret[CONN_NAME_BYTES])
{
    netaddr_name(&c->peer, ret);
}

void
conn_local_name(const struct conn *c, char ret[CONN_NAME_BYTES])
{
    struct sockaddr_storage at;
    socklen_t n = sizeof(at);
    union netaddr local = {.family = AF_UNIX};

    if (c->fd >= 0 && getsockname(c->fd, (struct sockaddr *)&at, &n) == 0)
        netaddr_of_sockaddr((struct sockaddr *)&at, n, &local);
    netaddr_name(&local, ret);
}

void
conn_peer_address(const struct conn *c, char ret[CONN_NAME_BYTES])
{
    char name[CONN_NAME_BYTES];

    ret[0] = '\0';
    if (conn_is_unix(c))
        return;
    netaddr_name(&c->peer, name);
    char *colon = strrchr(name, ':');
    size_t from = name[0] == '[' ? 1 : 0;
    size_t n = (size_t)(colon - name) - 2 * from;
    memcpy(ret, name + from, n);
    ret[n] = '\0';
}

struct conn_stats
conn_stats(const struct conn *c)
{
    return (struct conn_stats){.wire_in_bytes = c->wire_in,
                               .wire_out_bytes = c->wire_out};
}
