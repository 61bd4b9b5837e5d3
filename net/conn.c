/*
 * net/conn.c - how bytes go through a connection: its turn.
 *
 * Output is sent at the end of the turn (conn_turn_end()), which is also the
 * only place where callbacks other than input's are made and where a connection
 * is freed: whoever closes one merely marks it, so no caller finds it gone.
 * conn_in.c reads, conn_out.c writes, conn_dial.c makes connections.
 *
 *   C1  on_close is called exactly once, and is the last callback.
 *   C2  nothing that came before a TLS handshake is shown after it.
 *   C3  a connection that nobody reads keeps at most its output, input_max of
 *       input and, with DEFLATE, CONN_READ_BUDGET of compressed input.
 */
#include "net/conn.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_state.h"

void
conn_fail(struct conn *c, const struct error *why)
{
    if (c->why == NULL && c->closing != CLOSE_NOW) {
        c->why = xmalloc(sizeof(*c->why));
        *c->why = *why;
    }
    c->closing = CLOSE_NOW;
    conn_turn_due(c);
}

void
conn_fail_text(struct conn *c, enum errcode code, const char *text)
{
    struct error why = {0};
    error_set(&why, code, "%s", text);
    conn_fail(c, &why);
}

void
conn_fail_errno(struct conn *c, int sys_errno, const char *what)
{
    struct error why = {0};

    if (sys_errno == EPIPE || sys_errno == ECONNRESET)
        error_set(&why, ERR_CLOSED, "%s: closed by the peer", what);
    else if (sys_errno == ETIMEDOUT)
        error_set(&why, ERR_TIMEOUT, "%s: no answer from the peer", what);
    else
        error_set_errno(&why, sys_errno, "%s", what);
    conn_fail(c, &why);
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
    return c->timeout_ms == 0 || !conn_is_open(c) || c->dial != NULL ||
           (c->paused && c->out_bytes == 0);
}

static uint64_t
next_due(const struct conn *c)
{
    uint64_t due = c->own_at_ms;

    if (conn_is_open(c))
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
            conn_fail_text(c, ERR_TIMEOUT, "connect: no answer in time");
        else if (conn_is_open(c))
            conn_fail_text(c, ERR_TIMEOUT, "TLS: no handshake in time");
        else
            c->closing = CLOSE_NOW; /* lingered long enough */
    }
    if (conn_is_open(c) && c->deadline_at_ms != 0 && c->deadline_at_ms <= now) {
        c->deadline_at_ms = 0;
        c->timed_out = true;
    }
    if (!timeout_rests(c) && c->active_ms + c->timeout_ms <= now) {
        c->active_ms = now;
        c->timed_out = true;
    }
    conn_turn_due(c); /* also sets the timer again */
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
    conn_turn_due(c);
}

void
conn_set_deadline_ms(struct conn *c, uint64_t ms)
{
    c->deadline_at_ms =
        ms == 0 ? 0 : reactor_now_ms(c->r) + MIN(ms, (uint64_t)UINT32_MAX);
    conn_turn_due(c);
}

/* ---- the turn ---- */

static void
on_readable(evutil_socket_t fd, short what, void *arg);
static void
on_writable(evutil_socket_t fd, short what, void *arg);

void
conn_unwatch(struct conn *c)
{
    if (c->rd_on)
        event_del(&c->rd);
    if (c->wr_on)
        event_del(&c->wr);
    c->rd_on = c->wr_on = false;
}

void
conn_watch_fd(struct conn *c)
{
    event_assign(&c->rd, reactor_base(c->r), c->fd, EV_READ | EV_PERSIST,
                 on_readable, c);
    event_assign(&c->wr, reactor_base(c->r), c->fd, EV_WRITE | EV_PERSIST,
                 on_writable, c);
}

static void
watch(struct conn *c)
{
    if (c->fd < 0 || c->dial != NULL)
        return;
    bool rd = conn_wants_wire(c);
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
    conn_read_turn(c);
    conn_turn_due(c);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;

    (void)fd;
    (void)what;
    if (c->dial != NULL) {
        conn_dial_writable(c);
        return;
    }
    c->send_blocked = false;
    if (c->tls_wants_write)
        conn_read_turn(c);
    conn_turn_due(c);
}

static void
conn_destroy(struct conn *c)
{
    struct error ours = {0};

    c->dead = true;
    conn_unwatch(c);
    reactor_timer_cancel(c->r, &c->timer);
    if (c->h != NULL && c->h->on_close != NULL)
        c->h->on_close(c, c->why != NULL ? c->why : &ours, c->ctx);
    conn_out_drop(c);
    buf_free(&c->in);
    zpipe_free(&c->z);
    if (c->tls == TLS_ON && !c->half_closed && c->why == NULL && !c->rst)
        tls_shutdown(c->ssl);
    SSL_free(c->ssl);
    tls_context_free(&c->tls_ctx);
    free(c->tls_name);
    conn_dial_drop(c);
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
    if (c->connected && conn_is_open(c)) {
        c->connected = false;
        if (H->on_connect != NULL)
            H->on_connect(c, c->ctx);
    }
    if (c->tls_done && conn_is_open(c)) {
        c->tls_done = false;
        if (H->on_tls != NULL)
            H->on_tls(c, c->ctx);
    }
    if (c->stop_soft && conn_is_open(c)) {
        c->stop_soft = false;
        if (H->on_shutdown != NULL)
            H->on_shutdown(c, c->ctx);
        else
            conn_close_after_flush(c);
    }
    if (c->timed_out && conn_is_open(c)) {
        c->timed_out = false;
        if (H->on_timeout != NULL)
            H->on_timeout(c, c->ctx);
        else
            conn_fail_text(c, ERR_TIMEOUT, "idle for too long");
    }
#undef H
}

static void
call_drain(struct conn *c)
{
    if (!c->was_full || c->out_bytes > c->opt.output_low || !conn_is_open(c))
        return;
    c->was_full = false;
    if (c->h != NULL && c->h->on_drain != NULL)
        c->h->on_drain(c, c->ctx);
}

/* Everything that came was shown, and no more comes. */
static void
call_eof(struct conn *c)
{
    if (!c->eof || c->eof_told || !conn_is_open(c) || c->paused || c->deliver ||
        c->read_more || conn_has_compressed(c) || c->h == NULL)
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
    if (conn_is_open(c)) {
        if (c->half_close)
            conn_send_end(c);
        return;
    }
    if (c->closing == CLOSE_FLUSH) {
        conn_send_end(c);
        c->closing = CLOSE_LINGER;
        c->own_at_ms = reactor_now_ms(c->r) + c->opt.linger_ms;
    }
    if (c->closing == CLOSE_LINGER && c->eof)
        c->closing = CLOSE_NOW;
}

void
conn_turn_end(void *ctx)
{
    struct conn *c = ctx;

    if (c->closing != CLOSE_NOW)
        call_due(c);
    if (c->deliver && c->closing != CLOSE_NOW) {
        c->deliver = false;
        conn_deliver(c, SPAN_EMPTY);
    }
    if (c->read_more && c->closing != CLOSE_NOW)
        conn_read_turn(c);
    if (c->closing != CLOSE_NOW)
        call_eof(c);
    if (c->closing != CLOSE_NOW)
        conn_flush(c);
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
        conn_turn_due(c);
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
        conn_fail_text(c, ERR_CLOSED, "the instance is stopping");
        return;
    }
    c->stop_soft = true;
    conn_turn_due(c);
}

struct conn *
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
    conn_turn_due(c);
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
    conn_watch_fd(c);
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
void
conn_set_handler(struct conn *c, const struct conn_handler *h, void *ctx)
{
    c->h = h;
    c->ctx = ctx;
    if (c->in.n > 0) {
        c->deliver = true;
        conn_turn_due(c);
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
    conn_turn_due(c);
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
    conn_turn_due(c);
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
    conn_turn_due(c);
}

void
conn_end_deflate(struct conn *c)
{
    ENSURE(reactor_current() == c->r);
    ENSURE(conn_deflates(c) && !c->z_now);
    conn_end_deflated_output(c);
    c->z_ending = true;
    if (!c->in_handler && c->in.n > 0)
        conn_fail_text(c, ERR_PROTO, "more in DEFLATE behind what ended it");
    c->read_more = true;
    conn_turn_due(c);
}

bool
conn_is_deflate(const struct conn *c)
{
    return conn_deflates(c);
}

void
conn_close(struct conn *c)
{
    ENSURE(reactor_current() == c->r);
    c->closing = CLOSE_NOW;
    conn_turn_due(c);
}

void
conn_close_after_flush(struct conn *c)
{
    ENSURE(reactor_current() == c->r);
    if (!conn_is_open(c))
        return;
    c->closing = CLOSE_FLUSH;
    c->own_at_ms = reactor_now_ms(c->r) + c->opt.linger_ms;
    conn_turn_due(c);
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
    conn_turn_due(c);
}

bool
conn_is_closing(const struct conn *c)
{
    return !conn_is_open(c);
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
