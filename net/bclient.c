/*
 * net/bclient.c - a non-blocking socket, poll(), and two queues.
 *
 *     kernel -> (TLS) -> (inflate) -> in       out -> (TLS) -> kernel
 *
 * `in` is plain input not yet used; `out` is what the kernel did not take, as
 * it goes into TLS (compressed already).  The calls that wait are made of those
 * that do not, and poll() between.
 */
#include "net/bclient.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/env.h"
#include "net/conn_private.h"
#include "net/lineread.h"
#include "net/listener.h"
#include "net/tls_private.h"
#include "net/zpipe.h"

#define READ_BYTES 65536
/* bclient_write_some() takes nothing while this much waits. */
#define OUT_HIGH_BYTES 262144
/* Whoever waits asks so often whether it is to stop. */
#define STOP_LOOK_MS 200

struct bclient {
    int fd;
    SSL *ssl;
    struct zpipe *z;
    struct buf in;
    size_t in_off; /* bytes of `in` that were used */
    struct buf out;
    size_t out_off;
    bool eof;
    bool tls_wants_write; /* a TLS read waits for the socket to be written */
    bool tls_wants_read;  /* the reverse */
    uint64_t deadline_ms; /* of env_mono_ns(); 0: none */
    bool (*stop)(void *ctx);
    void *stop_ctx;
    char name[200];
};

/* ---- waiting ---- */

static uint64_t
now_ms(void)
{
    return env_mono_ns(env_system()) / 1000000;
}

static enum errcode
too_late(const struct bclient *c, struct error *err)
{
    return error_set(err, ERR_TIMEOUT, "%s: takes too long, bit by bit",
                     c->name);
}

/* How long poll() may wait when all ends at END (UINT64_MAX: never). */
static int
slice_ms(const struct bclient *c, uint64_t end)
{
    const uint64_t now = now_ms();
    const uint64_t left = end == UINT64_MAX ? end : now >= end ? 0 : end - now;

    if (c->stop != NULL)
        return (int)MIN(left, (uint64_t)STOP_LOOK_MS);
    return left == UINT64_MAX ? -1 : (int)MIN(left, (uint64_t)INT_MAX);
}

/* Until EVENTS, or errors, or TIMEOUT_MS, or the deadline. */
static enum errcode
wait_for(struct bclient *c, short events, int timeout_ms, struct error *err)
{
    uint64_t end =
        timeout_ms < 0 ? UINT64_MAX : now_ms() + (uint64_t)timeout_ms;

    if (c->deadline_ms != 0)
        end = MIN(end, c->deadline_ms);
    for (;;) {
        struct pollfd p = {.fd = c->fd, .events = events};
        int n = poll(&p, 1, slice_ms(c, end));
        if (n > 0)
            return ERR_OK;
        if (n < 0 && errno != EINTR)
            return error_set_errno(err, errno, "%s: poll", c->name);
        if (c->stop != NULL && c->stop(c->stop_ctx))
            return error_set(err, ERR_CLOSED, "told to stop");
        if (n < 0 || now_ms() < end)
            continue;
        if (end == c->deadline_ms)
            return too_late(c, err);
        return error_set(err, ERR_TIMEOUT, "%s: no answer for %d ms", c->name,
                         timeout_ms);
    }
}

static enum errcode
closed(struct bclient *c, struct error *err)
{
    return error_set(err, ERR_CLOSED, "%s: closed by the peer", c->name);
}

static enum errcode
failed(struct bclient *c, int why, struct error *err)
{
    if (why == EPIPE || why == ECONNRESET)
        return closed(c, err);
    if (why == ETIMEDOUT)
        return error_set(err, ERR_TIMEOUT, "%s: no answer from the peer",
                         c->name);
    return error_set_errno(err, why, "%s", c->name);
}

static enum errcode
tls_error(struct bclient *c, const struct error *why, struct error *err)
{
    return error_set(err, why->code, "%s: %s", c->name, why->text);
}

/* ---- in ---- */

static struct span
unused(const struct bclient *c)
{
    return span_skip(buf_span(&c->in), c->in_off);
}

static void
use(struct bclient *c, size_t n)
{
    ENSURE(n <= c->in.n - c->in_off);
    c->in_off += n;
    if (c->in_off == c->in.n) {
        buf_clear(&c->in);
        c->in_off = 0;
    } else if (c->in_off >= READ_BYTES) {
        buf_drop(&c->in, c->in_off);
        c->in_off = 0;
    }
}

/* One read from the wire; ERR_AGAIN: nothing now.  *RET_N 0 is the end. */
static enum errcode
wire_read(struct bclient *c, uint8_t *to, size_t n, size_t *ret_n,
          struct error *err)
{
    struct error why = {0};

    if (c->ssl == NULL) {
        ssize_t got;
        do {
            got = recv(c->fd, to, n, 0);
        } while (got < 0 && errno == EINTR);
        if (got < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK
                       ? error_set(err, ERR_AGAIN, "nothing to read")
                       : failed(c, errno, err);
        *ret_n = (size_t)got;
        return ERR_OK;
    }
    c->tls_wants_write = false;
    switch (tls_read(c->ssl, to, n, ret_n, &why)) {
    case TLS_IO_OK:
        return ERR_OK;
    case TLS_IO_WANT_WRITE:
        c->tls_wants_write = true;
        return error_set(err, ERR_AGAIN, "TLS wants to write");
    case TLS_IO_WANT_READ:
        return error_set(err, ERR_AGAIN, "nothing to read");
    case TLS_IO_EOF:
        *ret_n = 0;
        return ERR_OK;
    case TLS_IO_FAILED:
        break;
    }
    return tls_error(c, &why, err);
}

/* More into c->in, at most about READ_BYTES. */
static enum errcode
pull(struct bclient *c, struct error *err)
{
    size_t n = 0;
    bool end = false;

    if (c->z == NULL || !zpipe_has_input(c->z)) {
        if (c->eof)
            return closed(c, err);
        uint8_t *to = buf_reserve(&c->in, READ_BYTES);
        ENSURE(to != NULL);
        enum errcode rc = wire_read(c, to, READ_BYTES, &n, err);
        if (rc != ERR_OK)
            return rc;
        if (n == 0) {
            c->eof = true;
            return closed(c, err);
        }
        if (c->z == NULL) {
            c->in.n += n;
            return ERR_OK;
        }
        zpipe_feed(c->z, span_of(to, n));
    }
    uint8_t *to = buf_reserve(&c->in, READ_BYTES);
    ENSURE(to != NULL);
    enum errcode rc = zpipe_inflate(c->z, to, READ_BYTES, &n, &end, err);
    if (rc != ERR_OK)
        return rc;
    c->in.n += n;
    if (end)
        c->eof = true;
    if (n > 0)
        return ERR_OK;
    return end ? closed(c, err) : error_set(err, ERR_AGAIN, "nothing to read");
}

/* pull(), waiting. */
static enum errcode
pull_wait(struct bclient *c, int timeout_ms, struct error *err)
{
    for (;;) {
        if (c->deadline_ms != 0 && now_ms() >= c->deadline_ms)
            return too_late(c, err);
        enum errcode rc = pull(c, err);
        if (rc != ERR_AGAIN)
            return rc;
        if (c->z != NULL && zpipe_has_input(c->z))
            continue;
        rc =
            wait_for(c, c->tls_wants_write ? POLLOUT : POLLIN, timeout_ms, err);
        if (rc != ERR_OK)
            return rc;
    }
}

enum errcode
bclient_read_line(struct bclient *c, size_t max, int timeout_ms,
                  struct buf *ret, struct error *err)
{
    for (;;) {
        struct span line;
        size_t used = 0;
        switch (line_take(unused(c), max, &line, &used)) {
        case PARSE_DONE:
            buf_clear(ret);
            buf_add(ret, line);
            use(c, used);
            return ERR_OK;
        case PARSE_BAD:
            return error_set(err, ERR_LIMIT, "%s: line of more than %zu bytes",
                             c->name, max);
        case PARSE_MORE:
            break;
        }
        enum errcode rc = pull_wait(c, timeout_ms, err);
        if (rc != ERR_OK)
            return rc;
    }
}

enum errcode
bclient_read_exact(struct bclient *c, void *to, size_t n, int timeout_ms,
                   struct error *err)
{
    uint8_t *at = to;

    while (n > 0) {
        struct span have = span_sub(unused(c), 0, n);
        if (have.n > 0) {
            memcpy(at, have.p, have.n);
            use(c, have.n);
            at += have.n;
            n -= have.n;
            continue;
        }
        enum errcode rc = pull_wait(c, timeout_ms, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

enum errcode
bclient_read_some(struct bclient *c, void *to, size_t n, size_t *ret_n,
                  struct error *err)
{
    if (unused(c).n == 0) {
        enum errcode rc = pull(c, err);
        if (rc != ERR_OK)
            return rc;
    }
    struct span have = span_sub(unused(c), 0, n);
    if (have.n > 0)
        memcpy(to, have.p, have.n);
    use(c, have.n);
    *ret_n = have.n;
    return ERR_OK;
}

enum errcode
bclient_fill(struct bclient *c, size_t max, struct span *ret, struct error *err)
{
    enum errcode rc = ERR_AGAIN;

    if (unused(c).n < max)
        rc = pull(c, err);
    else
        error_set(err, ERR_AGAIN, "%zu bytes wait already", unused(c).n);
    *ret = unused(c);
    return rc;
}

void
bclient_used(struct bclient *c, size_t n)
{
    use(c, n);
}

size_t
bclient_buffered(const struct bclient *c)
{
    size_t n = unused(c).n;

    if (c->z != NULL && zpipe_has_input(c->z))
        n++; /* at least: how much it becomes shows when it is read */
    if (c->ssl != NULL)
        n += (size_t)SSL_pending(c->ssl);
    return n;
}

/* ---- out ---- */

static void
queue(void *ctx, struct span bytes)
{
    struct bclient *c = ctx;

    if (c->out_off == c->out.n) {
        buf_clear(&c->out);
        c->out_off = 0;
    } else if (c->out_off >= READ_BYTES) {
        buf_drop(&c->out, c->out_off);
        c->out_off = 0;
    }
    buf_add(&c->out, bytes);
}

/* What the wire takes of BYTES, maybe nothing. */
static enum errcode
wire_write(struct bclient *c, struct span bytes, size_t *ret_n,
           struct error *err)
{
    struct error why = {0};

    *ret_n = 0;
    if (bytes.n == 0)
        return ERR_OK;
    if (c->ssl == NULL) {
        ssize_t n;
        do {
            n = send(c->fd, bytes.p, bytes.n, MSG_NOSIGNAL);
        } while (n < 0 && errno == EINTR);
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return failed(c, errno, err);
        *ret_n = n > 0 ? (size_t)n : 0;
        return ERR_OK;
    }
    c->tls_wants_read = false;
    switch (tls_write(c->ssl, bytes, ret_n, &why)) {
    case TLS_IO_OK:
        return ERR_OK;
    case TLS_IO_WANT_READ:
        c->tls_wants_read = true;
        return ERR_OK;
    case TLS_IO_WANT_WRITE:
        return ERR_OK;
    case TLS_IO_EOF:
    case TLS_IO_FAILED:
        break;
    }
    return tls_error(c, &why, err);
}

static size_t
waiting(const struct bclient *c)
{
    return c->out.n - c->out_off;
}

enum errcode
bclient_flush_some(struct bclient *c, struct error *err)
{
    while (waiting(c) > 0) {
        size_t n;
        enum errcode rc =
            wire_write(c, span_skip(buf_span(&c->out), c->out_off), &n, err);
        if (rc != ERR_OK)
            return rc;
        if (n == 0)
            return error_set(err, ERR_AGAIN, "%zu bytes wait", waiting(c));
        c->out_off += n;
    }
    if (c->out.cap > OUT_HIGH_BYTES)
        buf_free(&c->out);
    else
        buf_clear(&c->out);
    c->out_off = 0;
    return ERR_OK;
}

static enum errcode
flush_wait(struct bclient *c, int timeout_ms, struct error *err)
{
    for (;;) {
        size_t before = waiting(c);
        enum errcode rc = bclient_flush_some(c, err);
        if (rc != ERR_AGAIN)
            return rc;
        if (waiting(c) < before)
            continue;
        rc = wait_for(c, c->tls_wants_read ? POLLIN : POLLOUT, timeout_ms, err);
        if (rc != ERR_OK)
            return rc;
    }
}

enum errcode
bclient_write(struct bclient *c, struct span bytes, int timeout_ms,
              struct error *err)
{
    while (bytes.n > 0) {
        struct span part = span_sub(bytes, 0, OUT_HIGH_BYTES);
        if (c->z != NULL)
            zpipe_deflate(c->z, part, queue, c);
        else
            queue(c, part);
        bytes = span_skip(bytes, part.n);
        if (c->z != NULL && bytes.n == 0)
            zpipe_flush(c->z, queue, c);
        enum errcode rc = flush_wait(c, timeout_ms, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

enum errcode
bclient_writef(struct bclient *c, int timeout_ms, struct error *err,
               const char *fmt, ...)
{
    va_list args, again;

    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    ENSURE(n >= 0);
    char *text = xmalloc((size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    enum errcode rc =
        bclient_write(c, span_of(text, (size_t)n), timeout_ms, err);
    free(text);
    return rc;
}

enum errcode
bclient_write_some(struct bclient *c, struct span bytes, size_t *ret_n,
                   struct error *err)
{
    *ret_n = 0;
    enum errcode rc = bclient_flush_some(c, err);
    if (rc != ERR_OK && rc != ERR_AGAIN)
        return rc;
    size_t room = waiting(c) < OUT_HIGH_BYTES ? OUT_HIGH_BYTES - waiting(c) : 0;
    struct span part = span_sub(bytes, 0, room);
    if (part.n == 0)
        return ERR_OK;
    if (c->z != NULL) {
        zpipe_deflate(c->z, part, queue, c);
        zpipe_flush(c->z, queue, c);
    } else {
        queue(c, part);
    }
    *ret_n = part.n;
    rc = bclient_flush_some(c, err);
    return rc == ERR_AGAIN ? ERR_OK : rc;
}

/* ---- connecting ---- */

struct bclient *
bclient_from_fd(int fd)
{
    struct bclient *c = xcalloc(1, sizeof(*c));
    struct sockaddr_storage at;
    socklen_t n = sizeof(at);
    union netaddr peer = {.family = AF_UNIX};

    c->fd = fd;
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (getpeername(fd, (struct sockaddr *)&at, &n) == 0)
        netaddr_of_sockaddr((struct sockaddr *)&at, n, &peer);
    netaddr_name(&peer, c->name);
    return c;
}

static enum errcode
connect_error(struct error *err, int why, const char *name)
{
    if (why == ECONNREFUSED)
        return error_set(err, ERR_CLOSED, "%s: connection refused", name);
    if (why == ETIMEDOUT)
        return error_set(err, ERR_TIMEOUT, "%s: no answer", name);
    return error_set_errno(err, why, "%s: connect", name);
}

static enum errcode
connect_to(const struct sockaddr *to, socklen_t to_n, const char *name,
           int timeout_ms, struct bclient **ret, struct error *err)
{
    int fd =
        socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;

    if (fd < 0)
        return error_set_errno(err, errno, "socket");
    struct bclient *c = xcalloc(1, sizeof(*c));
    c->fd = fd;
    snprintf(c->name, sizeof(c->name), "%s", name);
    if (to->sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    enum errcode rc = ERR_OK;
    if (connect(fd, to, to_n) != 0) {
        int why = errno;
        socklen_t n = sizeof(why);
        if (why == EINPROGRESS || why == EINTR) {
            rc = wait_for(c, POLLOUT, timeout_ms, err);
            if (rc == ERR_OK &&
                getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) != 0)
                why = errno;
        }
        if (rc == ERR_OK && why != 0)
            rc = connect_error(err, why, name);
    }
    if (rc != ERR_OK) {
        bclient_close(&c);
        return rc;
    }
    *ret = c;
    return ERR_OK;
}

enum errcode
bclient_connect_unix(const char *path, int timeout_ms, struct bclient **ret,
                     struct error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = strlen(path);

    if (n >= sizeof(addr.sun_path))
        return error_set(err, ERR_NOTFOUND, "%s: path too long for a socket",
                         path);
    memcpy(addr.sun_path, path, n);
    return connect_to((struct sockaddr *)&addr, sizeof(addr), path, timeout_ms,
                      ret, err);
}

enum errcode
bclient_connect(const char *host, const char *service, int timeout_ms,
                struct bclient **ret, struct error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
    struct addrinfo *addrs = NULL;
    char number[16];
    uint16_t port;

    if (!service_port(service, &port))
        return error_set(err, ERR_NOTFOUND, "%s: no service \"%s\"", host,
                         service);
    snprintf(number, sizeof(number), "%u", port);
    int gai = getaddrinfo(host, number, &hints, &addrs);
    if (gai != 0)
        return error_set(err, gai == EAI_AGAIN ? ERR_AGAIN : ERR_NOTFOUND,
                         "%s: %s", host, gai_strerror(gai));
    enum errcode rc = error_set(err, ERR_NOTFOUND, "%s: no address", host);
    for (const struct addrinfo *a = addrs; a != NULL && rc != ERR_OK;
         a = a->ai_next) {
        union netaddr addr;
        char name[CONN_NAME_BYTES];
        netaddr_of_sockaddr(a->ai_addr, a->ai_addrlen, &addr);
        netaddr_name(&addr, name);
        rc = connect_to(a->ai_addr, a->ai_addrlen, name, timeout_ms, ret, err);
    }
    freeaddrinfo(addrs);
    return rc;
}

void
bclient_close(struct bclient **cp)
{
    struct bclient *c = *cp;

    if (c == NULL)
        return;
    if (c->ssl != NULL) {
        if (SSL_is_init_finished(c->ssl))
            tls_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
    zpipe_free(&c->z);
    buf_free(&c->in);
    buf_free(&c->out);
    close(c->fd);
    free(c);
    *cp = NULL;
}

enum errcode
bclient_start_tls(struct bclient *c, struct tls_context *tls, const char *name,
                  int timeout_ms, struct error *err)
{
    ENSURE(c->ssl == NULL && c->z == NULL);
    enum errcode rc = flush_wait(c, timeout_ms, err);
    if (rc != ERR_OK)
        return rc;
    buf_clear(&c->in);
    c->in_off = 0;
    c->ssl = tls_session_new(tls, c->fd, name);
    for (;;) {
        struct error why = {0};
        enum tls_io io = tls_handshake(c->ssl, &why);
        if (io == TLS_IO_OK)
            return ERR_OK;
        if (io != TLS_IO_WANT_READ && io != TLS_IO_WANT_WRITE)
            return tls_error(c, &why, err);
        rc = wait_for(c, io == TLS_IO_WANT_READ ? POLLIN : POLLOUT, timeout_ms,
                      err);
        if (rc != ERR_OK)
            return rc;
    }
}

bool
bclient_tls_info(const struct bclient *c, struct tls_info *ret)
{
    if (c->ssl == NULL || !SSL_is_init_finished(c->ssl))
        return false;
    tls_session_info(c->ssl, ret);
    return true;
}

enum errcode
bclient_start_deflate(struct bclient *c, struct error *err)
{
    if (c->z != NULL)
        return error_set(err, ERR_PROTO, "%s: compressed already", c->name);
    c->z = zpipe_new();
    zpipe_feed(c->z, unused(c));
    buf_clear(&c->in);
    c->in_off = 0;
    return ERR_OK;
}

void
bclient_set_stop(struct bclient *c, bool (*stop)(void *ctx), void *ctx)
{
    c->stop = stop;
    c->stop_ctx = ctx;
}

void
bclient_set_deadline(struct bclient *c, uint64_t ms)
{
    c->deadline_ms = ms == 0 ? 0 : now_ms() + ms;
}

int
bclient_fd(const struct bclient *c)
{
    return c->fd;
}

short
bclient_poll_events(const struct bclient *c)
{
    bool out = (waiting(c) > 0 && !c->tls_wants_read) || c->tls_wants_write;

    return (short)(POLLIN | (out ? POLLOUT : 0));
}

const char *
bclient_name(const struct bclient *c)
{
    return c->name;
}
