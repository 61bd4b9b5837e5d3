/*
 * tests/sim/simclient.c - the clients' ends of links: what net/bclient.c is to
 * the product (the functions replace its at link time, --wrap).
 */
#include <poll.h>

#include <stdlib.h>

#include "tests/sim/simnet.h"

enum errcode
__wrap_bclient_connect(const char *host, const char *service, int timeout_ms,
                       struct bclient **ret, struct error *err);
enum errcode
__wrap_bclient_connect_unix(const char *path, int timeout_ms,
                            struct bclient **ret, struct error *err);
void
__wrap_bclient_close(struct bclient **c);
enum errcode
__wrap_bclient_read_line(struct bclient *c, size_t max, int timeout_ms,
                         struct buf *ret, struct error *err);
enum errcode
__wrap_bclient_read_exact(struct bclient *c, void *to, size_t n, int timeout_ms,
                          struct error *err);
enum errcode
__wrap_bclient_write(struct bclient *c, struct span bytes, int timeout_ms,
                     struct error *err);
enum errcode
__wrap_bclient_read_some(struct bclient *c, void *to, size_t n, size_t *ret_n,
                         struct error *err);
void
__wrap_bclient_set_deadline(struct bclient *c, uint64_t ms);
void
__wrap_bclient_set_stop(struct bclient *c, bool (*stop)(void *ctx), void *ctx);
enum errcode
__wrap_bclient_fill(struct bclient *c, size_t max, struct span *ret,
                    struct error *err);
void
__wrap_bclient_used(struct bclient *c, size_t n);
enum errcode
__wrap_bclient_write_some(struct bclient *c, struct span bytes, size_t *ret_n,
                          struct error *err);
enum errcode
__wrap_bclient_flush_some(struct bclient *c, struct error *err);
int
__wrap_bclient_fd(const struct bclient *c);
short
__wrap_bclient_poll_events(const struct bclient *c);
size_t
__wrap_bclient_buffered(const struct bclient *c);
const char *
__wrap_bclient_name(const struct bclient *c);

/* Peers here are slow, but none gives a byte now and then. */
void
__wrap_bclient_set_deadline(struct bclient *c, uint64_t ms)
{
    (void)c;
    (void)ms;
}

/* Whoever is to stop here is asked where it does not wait. */
void
__wrap_bclient_set_stop(struct bclient *c, bool (*stop)(void *ctx), void *ctx)
{
    (void)c;
    (void)stop;
    (void)ctx;
}

enum errcode
__wrap_bclient_connect(const char *host, const char *service, int timeout_ms,
                       struct bclient **ret, struct error *err)
{
    (void)service;
    (void)timeout_ms;
    (void)ret;
    return error_set(err, ERR_NOTFOUND, "no such host %s", host);
}

/* "/control/nI" and "/csync/nI"; the latter over the network. */
enum errcode
__wrap_bclient_connect_unix(const char *path, int timeout_ms,
                            struct bclient **ret, struct error *err)
{
    struct world *w = sim_world;
    struct machine *from = proc_machine(proc_current());
    struct machine *to = machine_by_path(path);
    const bool control = strncmp(path, "/control/", 9) == 0;
    const uint64_t trip = control ? 20 : w->delay_us + 50;

    if (!control && (w->cut[from->i][to->i] || w->cut[to->i][from->i])) {
        (void)proc_wait(NULL, NULL,
                        (uint64_t)MIN(timeout_ms, 3000) * US_PER_MS);
        return error_set(err, ERR_TIMEOUT, "no answer from %s", path);
    }
    (void)proc_wait(NULL, NULL, trip);
    if (proc_is_current_killed())
        return error_set(err, ERR_CLOSED, "killed");
    if (to->node == NULL || to->death != ALIVE)
        return error_set(err, ERR_CLOSED, "%s refused", path);
    *ret = net_link_new(w, from->i, to->i, control)->client;
    return ERR_OK;
}

void
__wrap_bclient_close(struct bclient **cp)
{
    struct bclient *c = *cp;

    if (c == NULL)
        return;
    if (proc_is_current_killed() && c->l->silent)
        c->l->up.fin = false;
    else if (proc_is_current_killed())
        c->l->broken = true;
    else
        c->l->up.fin = true;
    c->l->client = NULL;
    free(c);
    *cp = NULL;
}

static bool
readable(void *ctx)
{
    const struct bclient *c = ctx;

    return net_can_read(c->l);
}

static enum errcode
check(const struct bclient *c, struct error *err)
{
    if (proc_is_current_killed())
        return error_set(err, ERR_CLOSED, "killed");
    if (c->l->broken)
        return error_set(err, ERR_CLOSED, "connection reset by n%u", c->l->to);
    return ERR_OK;
}

/* Wait for more than SHOWN bytes of input. */
static enum errcode
wait_input(struct bclient *c, int timeout_ms, struct error *err)
{
    c->l->down.shown = c->l->down.in.n;
    enum errcode rc = check(c, err);
    if (rc != ERR_OK)
        return rc;
    if (!readable(c) &&
        !proc_wait(readable, c,
                   timeout_ms < 0 ? 60 * US_PER_S
                                  : (uint64_t)timeout_ms * US_PER_MS)) {
        rc = check(c, err);
        return rc != ERR_OK ? rc
                            : error_set(err, ERR_TIMEOUT, "no answer in time");
    }
    if (c->l->down.in.n > c->l->down.shown)
        return ERR_OK;
    rc = check(c, err);
    return rc != ERR_OK ? rc : error_set(err, ERR_CLOSED, "the peer ended");
}

static void
use(struct bclient *c, size_t n)
{
    buf_drop(&c->l->down.in, n);
    c->l->down.shown = 0;
}

enum errcode
__wrap_bclient_read_line(struct bclient *c, size_t max, int timeout_ms,
                         struct buf *ret, struct error *err)
{
    for (;;) {
        struct span in = buf_span(&c->l->down.in);
        ptrdiff_t lf = span_find_byte(in, '\n', 0);
        if (proc_is_current_killed())
            return error_set(err, ERR_CLOSED, "killed");
        if (lf < 0 && in.n > max)
            return error_set(err, ERR_LIMIT, "line too long");
        if (lf >= 0) {
            size_t n = (size_t)lf;
            if (n > 0 && in.p[n - 1] == '\r')
                n--;
            buf_clear(ret);
            buf_add(ret, span_sub(in, 0, n));
            use(c, (size_t)lf + 1);
            return ERR_OK;
        }
        enum errcode rc = wait_input(c, timeout_ms, err);
        if (rc != ERR_OK)
            return rc;
    }
}

enum errcode
__wrap_bclient_read_exact(struct bclient *c, void *to, size_t n, int timeout_ms,
                          struct error *err)
{
    while (c->l->down.in.n < n) {
        enum errcode rc = wait_input(c, timeout_ms, err);
        if (rc != ERR_OK)
            return rc;
    }
    if (n > 0)
        memcpy(to, c->l->down.in.p, n);
    use(c, n);
    return ERR_OK;
}

enum errcode
__wrap_bclient_write(struct bclient *c, struct span bytes, int timeout_ms,
                     struct error *err)
{
    (void)timeout_ms;
    enum errcode rc = check(c, err);
    if (rc != ERR_OK)
        return rc;
    net_put(&c->l->up, bytes, net_arrival(c->l));
    c->l->up.shown = 1;
    return ERR_OK;
}

enum errcode
__wrap_bclient_read_some(struct bclient *c, void *to, size_t n, size_t *ret_n,
                         struct error *err)
{
    struct pipe *p = &c->l->down;

    if (p->in.n == 0) {
        enum errcode rc = check(c, err);
        if (rc != ERR_OK)
            return rc;
        return p->fin && p->flight.n == 0
                   ? error_set(err, ERR_CLOSED, "the peer ended")
                   : error_set(err, ERR_AGAIN, "nothing yet");
    }
    n = MIN(n, p->in.n);
    memcpy(to, p->in.p, n);
    use(c, n);
    *ret_n = n;
    return ERR_OK;
}

enum errcode
__wrap_bclient_fill(struct bclient *c, size_t max, struct span *ret,
                    struct error *err)
{
    struct pipe *p = &c->l->down;

    (void)max;
    *ret = buf_span(&p->in);
    if (p->in.n > p->shown) {
        p->shown = p->in.n;
        return ERR_OK;
    }
    enum errcode rc = check(c, err);
    if (rc != ERR_OK)
        return rc;
    return p->fin && p->flight.n == 0
               ? error_set(err, ERR_CLOSED, "the peer ended")
               : error_set(err, ERR_AGAIN, "nothing yet");
}

void
__wrap_bclient_used(struct bclient *c, size_t n)
{
    use(c, n);
}

enum errcode
__wrap_bclient_write_some(struct bclient *c, struct span bytes, size_t *ret_n,
                          struct error *err)
{
    struct pipe *p = &c->l->up;

    enum errcode rc = check(c, err);
    if (rc != ERR_OK)
        return rc;
    size_t n = p->flight.n >= OUTPUT_HIGH
                   ? 0
                   : MIN(bytes.n, OUTPUT_HIGH - p->flight.n);
    net_put(p, span_sub(bytes, 0, n), net_arrival(c->l));
    if (n > 0)
        p->shown = 1;
    *ret_n = n;
    return ERR_OK;
}

enum errcode
__wrap_bclient_flush_some(struct bclient *c, struct error *err)
{
    return check(c, err);
}

int
__wrap_bclient_fd(const struct bclient *c)
{
    return FD_BASE + (int)c->l->id;
}

short
__wrap_bclient_poll_events(const struct bclient *c)
{
    (void)c;
    return POLLIN;
}

size_t
__wrap_bclient_buffered(const struct bclient *c)
{
    return c->l->down.in.n > c->l->down.shown ? c->l->down.in.n : 0;
}

const char *
__wrap_bclient_name(const struct bclient *c)
{
    return c->name;
}
