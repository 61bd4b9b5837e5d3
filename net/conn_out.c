/*
 * net/conn_out.c - output of a connection: a chain of segments, our own, filled
 * by conn_write(), and foreign ones; and how it gets into the socket, through
 * TLS or not.
 *
 * conn_start_tls() lets the plain bytes written before it leave first
 * (plain_left), then shakes hands; what is written meanwhile waits.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net/conn_state.h"

#define SEGMENT_BYTES_FIRST 1024
#define SEGMENT_BYTES 16384
/* Foreign bytes fewer than this are copied: cheaper than a segment. */
#define OWNED_BYTES_MIN 512
#define IOV_MAX_USED 32

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

void
conn_out_drop(struct conn *c)
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
    return conn_is_open(c) && !c->half_close;
}

static void
wrote(struct conn *c)
{
    if (c->out_bytes >= c->opt.output_high)
        c->was_full = true;
    conn_turn_due(c);
}

void
conn_write(struct conn *c, struct span bytes)
{
    ENSURE(reactor_current() == c->r);
    if (!takes_output(c) || bytes.n == 0)
        return;
    if (conn_deflates(c))
        zpipe_deflate(c->z, bytes, out_copy, c);
    else
        out_copy(c, bytes);
    wrote(c);
}

void
conn_end_deflated_output(struct conn *c)
{
    if (!takes_output(c))
        return;
    zpipe_end_output(c->z, out_copy, c);
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
    if (!takes_output(c) || conn_deflates(c) || bytes.n < OWNED_BYTES_MIN) {
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
        conn_fail_errno(c, errno, "send");
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
        conn_fail(c, &err);
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
    if (conn_is_open(c))
        c->own_at_ms = reactor_now_ms(c->r) + c->opt.handshake_ms;
}

void
conn_handshake(struct conn *c)
{
    struct error err = {0};

    c->tls_wants_write = false;
    switch (tls_handshake(c->ssl, &err)) {
    case TLS_IO_OK:
        c->tls = TLS_ON;
        if (conn_is_open(c))
            c->own_at_ms = 0;
        c->active_ms = reactor_now_ms(c->r);
        c->read_more = true; /* bytes may have come with the last flight */
        if (c->established)
            c->tls_done = true;
        else
            c->connected = true;
        c->established = true;
        conn_turn_due(c);
        break;
    case TLS_IO_WANT_READ:
        break;
    case TLS_IO_WANT_WRITE:
        c->tls_wants_write = true;
        break;
    case TLS_IO_EOF:
    case TLS_IO_FAILED:
        conn_fail(c, &err);
        break;
    }
}

void
conn_flush(struct conn *c)
{
    if (c->fd < 0 || c->dial != NULL)
        return;
    if (conn_deflates(c))
        zpipe_flush(c->z, out_copy, c);
    size_t before = c->out_bytes;
    while (!c->send_blocked && c->closing != CLOSE_NOW) {
        if (c->tls == TLS_AFTER_FLUSH && c->plain_left == 0) {
            begin_handshake(c);
            conn_handshake(c);
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

void
conn_send_end(struct conn *c)
{
    if (c->half_closed || c->fd < 0)
        return;
    c->half_closed = true;
    if (c->tls == TLS_ON)
        tls_shutdown(c->ssl);
    shutdown(c->fd, SHUT_WR);
}
