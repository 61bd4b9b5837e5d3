/*
 * net/conn_in.c - input of a connection.
 *
 * It is read into a buffer of the thread and shown to the handler there; only
 * what the handler leaves is copied into the connection.  So an idle connection
 * has no buffer.  With DEFLATE, or when something was left, it is read behind
 * what is there, never past input_max.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "net/conn_state.h"

/* Handler calls in one turn, for a peer that sends many tiny commands. */
#define INPUT_CALLS_MAX 256

/* What a turn reads goes through here, so that connections need no buffers. */
static _Thread_local uint8_t scratch[CONN_READ_BUDGET];

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
            conn_fail(c, &err);
            return 0;
        }
    } else {
        ssize_t rc;
        do {
            rc = recv(c->fd, to, n, 0);
        } while (rc < 0 && errno == EINTR);
        if (rc < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                conn_fail_errno(c, errno, "receive");
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

bool
conn_has_compressed(const struct conn *c)
{
    return c->z != NULL && zpipe_has_input(c->z);
}

/* The handler has more to look at before it is shown more: what it finds there
 * may end the peer's stream. */
static bool
is_behind(const struct conn *c)
{
    return c->paused || c->deliver;
}

bool
conn_wants_wire(const struct conn *c)
{
    if (c->fd < 0 || c->dial != NULL || c->eof || c->closing == CLOSE_NOW)
        return false;
    if (c->closing == CLOSE_LINGER || c->tls == TLS_HANDSHAKE)
        return true;
    if (c->closing == CLOSE_FLUSH)
        return false;
    if (c->z != NULL && is_behind(c) &&
        (zpipe_has_input(c->z) || zpipe_is_over(c->z)))
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
    if (c->z_ending && rest.n > 0) {
        conn_fail_text(c, ERR_PROTO, "more in DEFLATE behind what ended it");
        return SPAN_EMPTY;
    }
    return rest;
}

static struct span
show(struct conn *c, struct span in)
{
    for (int calls = 0;; calls++) {
        if (!conn_is_open(c) || c->paused || in.n == 0 || c->h == NULL ||
            c->h->on_input == NULL)
            return in;
        if (calls == INPUT_CALLS_MAX) {
            c->deliver = true;
            conn_turn_due(c);
            return in;
        }
        c->in_handler = true;
        size_t used = c->h->on_input(c, in, c->ctx);
        c->in_handler = false;
        ENSURE(used <= in.n);
        in = switch_layer(c, span_skip(in, used));
        if (used > 0)
            continue;
        if (in.n >= c->opt.input_max && conn_is_open(c) && !c->paused)
            conn_fail_text(c, ERR_LIMIT, "input without an end");
        return in;
    }
}

/* Who ends their stream without having said so hangs up. */
static void
note_stream_end(struct conn *c)
{
    if (c->z != NULL && !c->z_ending && zpipe_is_over(c->z) && !is_behind(c))
        c->eof = true;
}

void
conn_deliver(struct conn *c, struct span fresh)
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
    if ((c->in.n < before && (c->ssl != NULL || c->z != NULL)) ||
        (!c->paused && conn_has_compressed(c))) {
        c->read_more = true;
        conn_turn_due(c);
    }
    note_stream_end(c);
}

/* What follows the end of the peer's stream is in clear.  False: that has not
 * come yet. */
static bool
read_ending(struct conn *c)
{
    struct error err = {0};
    bool end = false;

    if (zpipe_end_input(c->z, &end, &err) != ERR_OK) {
        conn_fail(c, &err);
        return true;
    }
    if (!end)
        return false;
    buf_add(&c->in, zpipe_unused(c->z));
    zpipe_free(&c->z);
    c->z_ending = false;
    c->read_more = c->ssl != NULL;
    conn_deliver(c, SPAN_EMPTY);
    return true;
}

static void
read_deflated(struct conn *c)
{
    struct error err = {0};
    bool end = false, dry = false;

    if (c->z_ending && read_ending(c))
        return;
    if (!zpipe_has_input(c->z)) {
        size_t n = wire_read_all(c, scratch, CONN_READ_BUDGET / 4, &dry);
        zpipe_feed(c->z, span_of(scratch, n));
        if (n == 0)
            return;
    }
    if (c->z_ending) {
        c->read_more = c->ssl != NULL && !dry;
        (void)read_ending(c);
        return;
    }
    if (is_behind(c))
        return; /* conn_deliver() goes on */
    size_t got = 0;
    size_t room = MIN(c->opt.input_max - c->in.n, (size_t)CONN_READ_BUDGET);
    if (zpipe_inflate(c->z, scratch, room, &got, &end, &err) != ERR_OK) {
        conn_fail(c, &err);
        return;
    }
    buf_add(&c->in, span_of(scratch, got));
    if (!end)
        c->read_more = zpipe_has_input(c->z) || (c->ssl != NULL && !dry);
    if (got > 0)
        conn_deliver(c, SPAN_EMPTY);
    else
        note_stream_end(c);
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
        conn_deliver(c, span_of(scratch, n));
    } else {
        buf_add(&c->in, span_of(scratch, n));
        conn_deliver(c, SPAN_EMPTY);
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

void
conn_read_turn(struct conn *c)
{
    c->read_more = false;
    if (c->closing == CLOSE_LINGER) {
        read_lingering(c);
        return;
    }
    if (c->tls == TLS_HANDSHAKE) {
        conn_handshake(c);
        return;
    }
    if (conn_is_open(c) && (c->tls_done || c->connected)) {
        /* Who handles it is told of that before it sees what came after. */
        c->read_more = true;
        conn_turn_due(c);
        return;
    }
    if (!conn_wants_wire(c) &&
        !(conn_is_open(c) && conn_has_compressed(c) && has_room(c)))
        return;
    if (c->z != NULL)
        read_deflated(c);
    else
        read_direct(c);
    /* The end of TLS or DEFLATE may be behind what is read still. */
    if (c->read_more)
        conn_turn_due(c);
}
