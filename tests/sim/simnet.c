/*
 * tests/sim/simnet.c - the network under csync: what net/conn.c, net/reactor.c
 * and net/bclient.c are to the product, in one process and on simulated time
 * (the functions replace theirs at link time, --wrap).
 *
 * A link has two pipes of bytes.  What is written is in flight until its time
 * has come, and then in the receiver's input.  A cut direction delivers nothing
 * until it is mended (TCP sends again); a link may break after any byte; a
 * machine that lost its power says nothing until it is up again, and then
 * resets what it does not know.
 *
 * All sessions are those of a control socket, so that nobody has to log in.
 */
#include "tests/sim/simnet.h"

#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "csync/logproto.h"
#include "tests/sim/sim_private.h"

#define INPUT_MAX (LOGMSG_PAYLOAD_MAX + (64U << 10))
#define IDLE_US (30 * US_PER_S)

/* ---- pipes ------------------------------------------------------------- */

void
net_put(struct pipe *p, struct span bytes, uint64_t at)
{
    if (bytes.n == 0)
        return;
    if (p->count > 0 && p->chunks[p->first + p->count - 1].at >= at) {
        p->chunks[p->first + p->count - 1].n += bytes.n;
    } else {
        if (p->first > 0 && p->first + p->count == p->cap) {
            memmove(p->chunks, p->chunks + p->first,
                    p->count * sizeof(*p->chunks));
            p->first = 0;
        }
        if (p->first + p->count == p->cap) {
            p->cap = p->cap * 2 + 16;
            p->chunks = xrealloc(p->chunks, p->cap * sizeof(*p->chunks));
        }
        p->chunks[p->first + p->count++] = (struct chunk){at, bytes.n};
    }
    buf_add(&p->flight, bytes);
}

static void
pipe_free(struct pipe *p)
{
    buf_free(&p->flight);
    buf_free(&p->in);
    free(p->chunks);
}

uint64_t
net_arrival(struct simlink *l)
{
    struct world *w = l->w;

    if (l->control)
        return w->now + 20;
    return w->now + w->delay_us / 2 + sim_random(w, w->delay_us + 1);
}

/* Move what has arrived; false if nothing has. */
static bool
pipe_run(struct simlink *l, struct pipe *p)
{
    size_t n = 0;

    while (p->count > 0 && p->chunks[p->first].at <= l->w->now) {
        n += p->chunks[p->first].n;
        p->first++;
        p->count--;
    }
    if (p->count == 0)
        p->first = 0;
    if (n == 0)
        return false;
    if (n >= p->cut_after) {
        buf_add(&p->in, span_sub(buf_span(&p->flight), 0, p->cut_after));
        sim_trace(l->w, "link %u breaks after %zu bytes", l->id, p->cut_after);
        l->broken = true;
        l->w->res->cuts++;
        return true;
    }
    if (p->cut_after != SIZE_MAX)
        p->cut_after -= n;
    buf_add(&p->in, span_sub(buf_span(&p->flight), 0, n));
    buf_drop(&p->flight, n);
    return true;
}

static bool
is_cut(const struct simlink *l, bool up)
{
    return !l->control &&
           (up ? l->w->cut[l->from][l->to] : l->w->cut[l->to][l->from]);
}

/* ---- links ------------------------------------------------------------- */

struct simlink *
net_link_new(struct world *w, unsigned from, unsigned to, bool control)
{
    struct simlink *l = xcalloc(1, sizeof(*l));

    l->w = w;
    l->id = ++w->nlinks;
    l->from = from;
    l->to = to;
    l->control = control;
    l->to_life = w->m[to].life;
    l->up.cut_after = l->down.cut_after = SIZE_MAX;
    l->conn = xcalloc(1, sizeof(*l->conn));
    l->conn->l = l;
    l->conn->m = &w->m[to];
    l->conn->active_at = w->now;
    l->client = xcalloc(1, sizeof(*l->client));
    l->client->l = l;
    snprintf(l->client->name, sizeof(l->client->name), "n%u", to);
    struct simlink **at = &w->links;
    while (*at != NULL)
        at = &(*at)->next;
    *at = l;
    return l;
}

/* The last word to the server's end. */
static void
conn_end(struct conn *c, enum errcode code)
{
    struct simlink *l = c->l;
    struct error why = {0};

    l->conn = NULL;
    if (l->accepted && c->h != NULL && c->h->on_close != NULL) {
        (void)error_set(&why, code, "%s", errcode_name(code));
        c->h->on_close(c, &why, c->ctx);
    }
    free(c);
}

static void
conn_feed(struct conn *c)
{
    struct pipe *p = &c->l->up;

    c->fresh = false;
    for (int turns = 0; p->in.n > 0 && !c->paused && !c->closing; turns++) {
        if (turns == 64) {
            c->fresh = true; /* others too */
            return;
        }
        size_t used = c->h->on_input(c, buf_span(&p->in), c->ctx);
        if (used == 0) {
            if (p->in.n > INPUT_MAX && !c->paused && !c->closing) {
                c->closing = c->reset = true;
                c->why = ERR_LIMIT;
            }
            return;
        }
        buf_drop(&p->in, used);
    }
    c->fresh = c->paused && p->in.n > 0;
}

/* One turn of the server's end; true if something was done. */
static bool
conn_run(struct conn *c)
{
    struct simlink *l = c->l;
    struct world *w = l->w;

    if (!l->accepted) {
        l->accepted = true;
        csync_server_accept(c, c->m->server);
        return true;
    }
    if (l->broken || (c->closing && (c->reset || l->down.flight.n == 0))) {
        if (!l->broken)
            l->down.fin = true;
        conn_end(c, l->broken ? ERR_CLOSED : c->why);
        return true;
    }
    if (l->up.fin && l->up.flight.n == 0 && !c->paused && !c->closing) {
        conn_feed(c);
        if (!c->paused)
            c->closing = true;
        return true;
    }
    if (c->fresh && !c->paused) {
        conn_feed(c);
        return true;
    }
    if (c->was_full && l->down.flight.n < OUTPUT_HIGH / 4) {
        c->was_full = false;
        if (c->h->on_drain != NULL && !c->closing)
            c->h->on_drain(c, c->ctx);
        return true;
    }
    if (w->now - c->active_at > IDLE_US && !c->paused && !l->control) {
        c->active_at = w->now;
        c->closing = c->reset = true;
        c->why = ERR_TIMEOUT;
        return true;
    }
    return false;
}

static bool
link_run(struct simlink *l)
{
    struct world *w = l->w;
    struct machine *to = &w->m[l->to];
    bool did = false;

    if (l->silent && to->node != NULL && to->life != l->to_life &&
        l->up.shown > 0 && !is_cut(l, true)) {
        l->broken = true; /* somebody there who does not know us */
        did = true;
    }
    if (!l->broken && !is_cut(l, true) && pipe_run(l, &l->up)) {
        did = true;
        if (l->conn != NULL) {
            l->conn->fresh = true;
            l->conn->active_at = w->now;
        }
    }
    if (!l->broken && !is_cut(l, false) && pipe_run(l, &l->down))
        did = true;
    if (l->conn != NULL && to->node != NULL && to->death == ALIVE &&
        !machine_is_paused(to))
        did = conn_run(l->conn) || did;
    return did;
}

void
net_init(struct world *w)
{
    w->delay_us = 300;
}

bool
net_run(struct world *w)
{
    bool did = false;

    for (struct simlink **at = &w->links; *at != NULL;) {
        struct simlink *l = *at;
        did = link_run(l) || did;
        if (l->client != NULL || l->conn != NULL) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        pipe_free(&l->up);
        pipe_free(&l->down);
        free(l);
    }
    return did;
}

uint64_t
net_next(const struct world *w)
{
    uint64_t next = UINT64_MAX;

    for (const struct simlink *l = w->links; l != NULL; l = l->next) {
        const struct machine *to = &w->m[l->to];
        const struct conn *c = l->conn;
        if (!l->broken && l->up.count > 0 && !is_cut(l, true))
            next = MIN(next, l->up.chunks[l->up.first].at);
        if (!l->broken && l->down.count > 0 && !is_cut(l, false))
            next = MIN(next, l->down.chunks[l->down.first].at);
        if (c != NULL && to->node != NULL &&
            (!l->accepted || l->broken || (c->fresh && !c->paused)))
            next = MIN(next, machine_is_paused(to) ? to->paused_until : w->now);
    }
    return next;
}

void
net_machine_gone(struct world *w, struct machine *m, bool silent)
{
    for (struct simlink *l = w->links; l != NULL; l = l->next) {
        if (l->to == m->i && l->conn != NULL) {
            conn_end(l->conn, ERR_CLOSED);
            if (silent && !l->control)
                l->silent = true;
            else
                l->broken = true;
        } else if (l->from == m->i && silent && !l->control) {
            l->silent = true; /* its sync_client dies with it */
        }
    }
}

void
net_end_sessions(struct world *w, struct machine *m, bool control_too)
{
    for (struct simlink *l = w->links; l != NULL; l = l->next)
        if (l->to == m->i && l->conn != NULL && (control_too || !l->control)) {
            conn_end(l->conn, ERR_OK);
            l->broken = true;
        }
}

void
net_cut_random(struct world *w)
{
    unsigned n = 0;

    for (struct simlink *l = w->links; l != NULL; l = l->next)
        n += !l->control && !l->broken;
    if (n == 0)
        return;
    n = (unsigned)sim_random(w, n);
    for (struct simlink *l = w->links; l != NULL; l = l->next)
        if (!l->control && !l->broken && n-- == 0) {
            struct pipe *p = sim_one_in(w, 2) ? &l->up : &l->down;
            p->cut_after = (size_t)sim_random(w, sim_one_in(w, 2) ? 60 : 4000);
            return;
        }
}

void
net_free(struct world *w)
{
    while (w->links != NULL) {
        struct simlink *l = w->links;
        w->links = l->next;
        ENSURE(l->conn == NULL);
        free(l->client);
        pipe_free(&l->up);
        pipe_free(&l->down);
        free(l);
    }
}

bool
net_fd_is_ours(int fd)
{
    return fd >= FD_BASE;
}

static struct simlink *
link_of_fd(int fd)
{
    for (struct simlink *l = sim_world->links; l != NULL; l = l->next)
        if (l->id == (unsigned)(fd - FD_BASE) && l->client != NULL)
            return l;
    return NULL;
}

bool
net_can_read(const struct simlink *l)
{
    return l->broken || l->down.in.n > l->down.shown ||
           (l->down.fin && l->down.flight.n == 0);
}

short
net_fd_events(int fd, short events)
{
    const struct simlink *l = net_fd_is_ours(fd) ? link_of_fd(fd) : NULL;
    short now = 0;

    if (l == NULL)
        return 0;
    if ((events & POLLIN) != 0 && net_can_read(l))
        now = (short)(now | POLLIN);
    if ((events & POLLOUT) != 0 && (l->broken || l->up.flight.n < OUTPUT_HIGH))
        now = (short)(now | POLLOUT);
    return now;
}

/* ---- instead of net/reactor.c ------------------------------------------ */

static void
enqueue(struct reactor *r, struct fake_call call)
{
    if (r->first > 0 && r->first + r->n == r->cap) {
        memmove(r->calls, r->calls + r->first, r->n * sizeof(*r->calls));
        r->first = 0;
    }
    if (r->first + r->n == r->cap) {
        r->cap = r->cap * 2 + 16;
        r->calls = xrealloc(r->calls, r->cap * sizeof(*r->calls));
    }
    r->calls[r->first + r->n++] = call;
}

void
__wrap_reactor_defer_cancel(struct reactor *r, struct reactor_deferred *d);

bool
reactor_run(struct machine *m)
{
    struct reactor *r = &m->reactor;
    struct machine *before = m->w->in_turn;
    bool did = false;

    m->w->in_turn = m;
    while (r->n > 0) {
        struct fake_call call = r->calls[r->first++];
        if (--r->n == 0)
            r->first = 0;
        if (call.work != NULL)
            call.work(call.ctx);
        call.fn(call.ctx);
        did = true;
    }
    m->w->in_turn = before;
    if (r->deferred.next == &r->deferred)
        return did;
    struct reactor_deferred todo = r->deferred;
    todo.next->prev = todo.prev->next = &todo;
    r->deferred.prev = r->deferred.next = &r->deferred;
    while (todo.next != &todo) {
        struct reactor_deferred *d = todo.next;
        __wrap_reactor_defer_cancel(r, d);
        d->fn(d->ctx);
    }
    return true;
}

void
__wrap_reactor_post(struct reactor *r, void (*fn)(void *ctx), void *ctx);
void
__wrap_reactor_work(struct reactor *r, void (*work)(void *ctx),
                    void (*done)(void *ctx), void *ctx);
void
__wrap_reactor_hold(struct reactor *r);
void
__wrap_reactor_release(struct reactor *r);
void
__wrap_reactor_defer(struct reactor *r, struct reactor_deferred *d,
                     void (*fn)(void *ctx), void *ctx);

void
__wrap_reactor_post(struct reactor *r, void (*fn)(void *ctx), void *ctx)
{
    enqueue(r, (struct fake_call){.fn = fn, .ctx = ctx});
}

void
__wrap_reactor_work(struct reactor *r, void (*work)(void *ctx),
                    void (*done)(void *ctx), void *ctx)
{
    enqueue(r, (struct fake_call){.fn = done, .ctx = ctx, .work = work});
}

void
__wrap_reactor_hold(struct reactor *r)
{
    (void)r;
}

void
__wrap_reactor_release(struct reactor *r)
{
    (void)r;
}

void
__wrap_reactor_defer(struct reactor *r, struct reactor_deferred *d,
                     void (*fn)(void *ctx), void *ctx)
{
    if (d->queued)
        return;
    d->queued = true;
    d->fn = fn;
    d->ctx = ctx;
    d->prev = r->deferred.prev;
    d->next = &r->deferred;
    d->prev->next = d->next->prev = d;
}

void
__wrap_reactor_defer_cancel(struct reactor *r, struct reactor_deferred *d)
{
    (void)r;
    if (!d->queued)
        return;
    d->queued = false;
    d->prev->next = d->next;
    d->next->prev = d->prev;
}

/* ---- instead of net/conn.c --------------------------------------------- */

void
__wrap_conn_set_handler(struct conn *c, const struct conn_handler *h,
                        void *ctx);
void
__wrap_conn_write(struct conn *c, struct span bytes);
void
__wrap_conn_write_str(struct conn *c, const char *s);
void
__wrap_conn_writef(struct conn *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool
__wrap_conn_output_is_full(const struct conn *c);
void
__wrap_conn_pause_input(struct conn *c);
void
__wrap_conn_resume_input(struct conn *c);
bool
__wrap_conn_input_is_paused(const struct conn *c);
void
__wrap_conn_close_after_flush(struct conn *c);
void
__wrap_conn_close(struct conn *c);
struct reactor *
__wrap_conn_reactor(const struct conn *c);
int64_t
__wrap_conn_peer_uid(const struct conn *c);
void
__wrap_conn_peer_name(const struct conn *c, char ret[CONN_NAME_BYTES]);
bool
__wrap_conn_is_tls(const struct conn *c);
bool
__wrap_conn_is_deflate(const struct conn *c);
void
__wrap_conn_set_deadline_ms(struct conn *c, uint64_t ms);
void
__wrap_conn_set_timeout_ms(struct conn *c, uint64_t ms);

void
__wrap_conn_set_handler(struct conn *c, const struct conn_handler *h, void *ctx)
{
    c->h = h;
    c->ctx = ctx;
}

void
__wrap_conn_write(struct conn *c, struct span bytes)
{
    if (c->closing)
        return;
    net_put(&c->l->down, bytes, net_arrival(c->l));
    c->active_at = c->l->w->now;
}

void
__wrap_conn_write_str(struct conn *c, const char *s)
{
    __wrap_conn_write(c, span_str(s));
}

void
__wrap_conn_writef(struct conn *c, const char *fmt, ...)
{
    AUTO(xfree) char *text = NULL;
    va_list args;

    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    ENSURE(n >= 0);
    __wrap_conn_write(c, span_str(text));
}

bool
__wrap_conn_output_is_full(const struct conn *c)
{
    struct conn *own = c->l->conn;

    if (c->l->down.flight.n < OUTPUT_HIGH)
        return false;
    own->was_full = true;
    return true;
}

void
__wrap_conn_pause_input(struct conn *c)
{
    c->paused = true;
}

void
__wrap_conn_resume_input(struct conn *c)
{
    c->paused = false;
    c->fresh = c->l->up.in.n > 0;
    c->active_at = c->l->w->now;
}

bool
__wrap_conn_input_is_paused(const struct conn *c)
{
    return c->paused;
}

void
__wrap_conn_close_after_flush(struct conn *c)
{
    c->closing = true;
}

void
__wrap_conn_close(struct conn *c)
{
    c->closing = c->reset = true;
}

struct reactor *
__wrap_conn_reactor(const struct conn *c)
{
    return &c->m->reactor;
}

int64_t
__wrap_conn_peer_uid(const struct conn *c)
{
    (void)c;
    return (int64_t)geteuid();
}

void
__wrap_conn_peer_name(const struct conn *c, char ret[CONN_NAME_BYTES])
{
    snprintf(ret, CONN_NAME_BYTES, "n%u", c->l->from);
}

bool
__wrap_conn_is_tls(const struct conn *c)
{
    (void)c;
    return false;
}

bool
__wrap_conn_is_deflate(const struct conn *c)
{
    (void)c;
    return false;
}

void
__wrap_conn_set_deadline_ms(struct conn *c, uint64_t ms)
{
    (void)c;
    (void)ms;
}

void
__wrap_conn_set_timeout_ms(struct conn *c, uint64_t ms)
{
    (void)c;
    (void)ms;
}
