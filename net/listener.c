/*
 * net/listener.c - sockets that accept, and counting who is in.
 *
 * Each socket is watched by one reactor, which accepts and hands the descriptor
 * to the reactor with the fewest connections.  A connection holds a ticket
 * (which limits it counts in) and gives it back when it is freed, so the shared
 * part outlives the listener.
 *
 * Limits by address count IPv6 clients by their /64: that is what one client
 * has.
 */
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "net/conn_private.h"

#define SOCKETS_MAX 16
#define ACCEPTS_A_TURN 64
#define REST_MS 100 /* when descriptors have run out */
#define LIMIT_BUCKETS 1024

/* ---- limits ---- */

struct limit_key {
    uint8_t bytes[16];
};

struct limit_count {
    struct limit_count *next;
    struct limit_key key;
    unsigned n;
};

struct conn_limits {
    pthread_mutex_t lock;
    unsigned refs;
    unsigned total_max;
    unsigned address_max;
    unsigned total;
    struct limit_count *buckets[LIMIT_BUCKETS];
};

struct conn_limits *
conn_limits_new(unsigned total, unsigned per_address)
{
    struct conn_limits *l = xcalloc(1, sizeof(*l));

    pthread_mutex_init(&l->lock, NULL);
    l->refs = 1;
    l->total_max = total;
    l->address_max = per_address;
    return l;
}

static struct conn_limits *
limits_ref(struct conn_limits *l)
{
    if (l == NULL)
        return NULL;
    pthread_mutex_lock(&l->lock);
    l->refs++;
    pthread_mutex_unlock(&l->lock);
    return l;
}

void
conn_limits_free(struct conn_limits **limits)
{
    struct conn_limits *l = *limits;

    *limits = NULL;
    if (l == NULL)
        return;
    pthread_mutex_lock(&l->lock);
    bool last = --l->refs == 0;
    pthread_mutex_unlock(&l->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&l->lock);
    free(l);
}

unsigned
conn_limits_total(const struct conn_limits *limits)
{
    struct conn_limits *l = (struct conn_limits *)(uintptr_t)limits;

    pthread_mutex_lock(&l->lock);
    unsigned n = l->total;
    pthread_mutex_unlock(&l->lock);
    return n;
}

/* Unix clients have no address of their own: all zero, never counted by it. */
static struct limit_key
key_of(const union netaddr *peer)
{
    struct limit_key key = {0};

    if (peer->family == AF_INET) {
        key.bytes[0] = 4;
        memcpy(key.bytes + 1, &peer->in.sin_addr, 4);
    } else if (peer->family == AF_INET6) {
        key.bytes[0] = 6;
        memcpy(key.bytes + 1, &peer->in6.sin6_addr, 8);
    }
    return key;
}

static struct limit_count **
limit_find(struct conn_limits *l, const struct limit_key *key)
{
    uint32_t hash = 2166136261U;

    for (size_t i = 0; i < sizeof(key->bytes); i++)
        hash = (hash ^ key->bytes[i]) * 16777619U;
    struct limit_count **at = &l->buckets[hash % LIMIT_BUCKETS];
    while (*at != NULL && memcmp(&(*at)->key, key, sizeof(*key)) != 0)
        at = &(*at)->next;
    return at;
}

/* NULL: come in; else which limit says no. */
static const char *
limit_enter(struct conn_limits *l, const struct limit_key *key)
{
    const char *why = NULL;

    if (l == NULL)
        return NULL;
    pthread_mutex_lock(&l->lock);
    struct limit_count **at = limit_find(l, key);
    bool by_address = l->address_max != 0 && key->bytes[0] != 0;
    if (l->total_max != 0 && l->total >= l->total_max) {
        why = "total";
    } else if (by_address && *at != NULL && (*at)->n >= l->address_max) {
        why = "address";
    } else {
        l->total++;
        if (*at == NULL) {
            *at = xcalloc(1, sizeof(**at));
            (*at)->key = *key;
        }
        (*at)->n++;
    }
    pthread_mutex_unlock(&l->lock);
    return why;
}

static void
limit_leave(struct conn_limits *l, const struct limit_key *key)
{
    if (l == NULL)
        return;
    pthread_mutex_lock(&l->lock);
    struct limit_count **at = limit_find(l, key);
    ENSURE(*at != NULL && l->total > 0);
    l->total--;
    if (--(*at)->n == 0) {
        struct limit_count *gone = *at;
        *at = gone->next;
        free(gone);
    }
    pthread_mutex_unlock(&l->lock);
}

/* ---- what listener and connections share ---- */

struct shared {
    atomic_uint refs;
    struct listener_service service;
    struct conn_limits *limits;
    atomic_uint conns;
    atomic_uint_fast64_t refused;
};

static void
shared_unref(struct shared *s)
{
    if (atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    conn_limits_free(&s->limits);
    tls_context_free(&s->service.tls);
    free(s);
}

/* One accepted connection on its way to its reactor, then its place in the
 * counts. */
struct ticket {
    struct shared *shared;
    struct limit_key key;
    union netaddr peer;
    struct reactor *r;
    int fd;
};

static void
ticket_back(void *ctx)
{
    struct ticket *t = ctx;

    limit_leave(t->shared->limits, &t->key);
    atomic_fetch_sub(&t->shared->conns, 1);
    shared_unref(t->shared);
    free(t);
}

/* Implicit TLS: the service meets the client after the handshake, when it can
 * ask conn_tls_info() before it greets. */
static void
hands_shaken(struct conn *c, void *ctx)
{
    struct ticket *t = ctx;

    t->shared->service.on_conn(c, t->shared->service.ctx);
}

static void
hands_not_shaken(struct conn *c, const struct error *why, void *ctx)
{
    struct ticket *t = ctx;
    char name[CONN_NAME_BYTES];

    conn_peer_name(c, name);
    if (why->code != ERR_OK)
        log_info(NULL, "net.tls_failed", "service=%s peer=%s why=\"%s\"",
                 t->shared->service.name, name, why->text);
}

static void
welcome(void *ctx)
{
    static const struct conn_handler until_tls = {
        .on_tls = hands_shaken,
        .on_close = hands_not_shaken,
    };
    struct ticket *t = ctx;
    const struct listener_service *s = &t->shared->service;
    struct conn *c = conn_new_accepted(t->r, t->fd, &s->conn, s->tls, &t->peer,
                                       ticket_back, t);

    if (s->tls != NULL)
        conn_set_handler(c, &until_tls, t);
    else
        s->on_conn(c, s->ctx);
}

struct door {
    struct listener *listener;
    int fd;
    struct event *ev;
    struct reactor *r; /* NULL: not started */
    struct reactor_timer rest;
};

struct listener {
    struct door doors[SOCKETS_MAX];
    size_t ndoors;
    struct shared *shared;
    struct reactor_pool *pool;
    char path[108];
    dev_t path_dev;
    ino_t path_ino;
    uint16_t port;
    char name[160];
    pthread_mutex_t lock; /* for closing */
    pthread_cond_t cond;
    size_t open_doors;
};

static const char *
try_enter(struct shared *s, const struct limit_key *key)
{
    unsigned max = s->service.max_conns;

    if (atomic_fetch_add(&s->conns, 1) >= max && max != 0) {
        atomic_fetch_sub(&s->conns, 1);
        return "listener";
    }
    const char *why = limit_enter(s->limits, key);
    if (why != NULL)
        atomic_fetch_sub(&s->conns, 1);
    return why;
}

static void
refuse(struct shared *s, int fd, const union netaddr *peer, const char *limit)
{
    char name[CONN_NAME_BYTES];

    netaddr_name(peer, name);
    atomic_fetch_add(&s->refused, 1);
    log_warn(NULL, "net.refused", "service=%s peer=%s limit=%s",
             s->service.name, name, limit);
    if (s->service.refuse != NULL && s->service.tls == NULL) {
        ssize_t n = send(fd, s->service.refuse, strlen(s->service.refuse),
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)n; /* politeness only */
    }
    shutdown(fd, SHUT_WR);
    close(fd);
}

static void
accepted(struct listener *l, int fd, const union netaddr *peer)
{
    struct shared *s = l->shared;
    struct limit_key key = key_of(peer);
    const char *limit = try_enter(s, &key);

    if (limit != NULL) {
        refuse(s, fd, peer, limit);
        return;
    }
    struct ticket *t = xmalloc(sizeof(*t));
    *t = (struct ticket){.shared = s, .key = key, .peer = *peer, .fd = fd};
    atomic_fetch_add(&s->refs, 1);
    t->r = reactor_pool_least(l->pool);
    if (t->r == reactor_current())
        welcome(t);
    else
        reactor_post(t->r, welcome, t);
}

static void
door_open_again(void *ctx)
{
    struct door *d = ctx;

    event_add(d->ev, NULL);
}

/* True: the next one may be tried at once. */
static bool
accept_one(struct door *d)
{
    struct sockaddr_storage from;
    socklen_t n = sizeof(from);
    union netaddr peer;
    int fd = accept4(d->fd, (struct sockaddr *)&from, &n,
                     SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0) {
        netaddr_of_sockaddr((struct sockaddr *)&from, n, &peer);
        accepted(d->listener, fd, &peer);
        return true;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        /* They wait in the backlog until some descriptor is free again. */
        log_error(NULL, "net.accept_rests",
                  "service=%s listen=\"%s\" rest_ms=%d why=\"%s\"",
                  d->listener->shared->service.name, d->listener->name, REST_MS,
                  errno == EMFILE || errno == ENFILE ? "no descriptor left"
                                                     : "no memory left");
        event_del(d->ev);
        reactor_timer_set(d->r, &d->rest, REST_MS, door_open_again, d);
        return false;
    case EAGAIN:
        return false;
    default: /* that client is gone already; the next one may be fine */
        return true;
    }
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    for (int i = 0; i < ACCEPTS_A_TURN && accept_one(arg); i++)
        ;
}

/* ---- binding ---- */

static enum errcode
bind_error(struct error *err, int why, const char *name)
{
    if (why == EADDRINUSE)
        return error_set(err, ERR_BUSY, "listen %s: in use", name);
    if (why == EACCES || why == EPERM)
        return error_set(err, ERR_DENIED, "listen %s: not permitted", name);
    return error_set_errno(err, why, "listen %s", name);
}

static void
add_door(struct listener *l, int fd)
{
    struct door *d = &l->doors[l->ndoors++];

    *d = (struct door){.listener = l, .fd = fd};
}

/* Somebody accepts connections there. */
static bool
unix_alive(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return true; /* not known: leave it */
    bool alive =
        connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ||
        errno == EAGAIN || errno == EINPROGRESS;
    close(fd);
    return alive;
}

static enum errcode
bind_unix(struct listener *l, const char *path, int backlog, struct error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct stat st;
    size_t n = strlen(path);

    ENSURE(n < sizeof(addr.sun_path));
    memcpy(addr.sun_path, path, n);
    snprintf(l->name, sizeof(l->name), "%s", path);
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return error_set(err, ERR_BUSY, "listen %s: is not a socket", path);
        if (unix_alive(&addr))
            return error_set(err, ERR_BUSY, "listen %s: somebody answers there",
                             path);
        unlink(path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set_errno(err, errno, "socket");
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
        chmod(path, 0777) != 0 || listen(fd, backlog) != 0 ||
        lstat(path, &st) != 0) {
        int why = errno;
        close(fd);
        return bind_error(err, why, path);
    }
    add_door(l, fd);
    memcpy(l->path, path, n + 1);
    l->path_dev = st.st_dev;
    l->path_ino = st.st_ino;
    return ERR_OK;
}

static void
set_port(struct sockaddr *addr, uint16_t port)
{
    if (addr->sa_family == AF_INET)
        ((struct sockaddr_in *)(void *)addr)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)(void *)addr)->sin6_port = htons(port);
}

static enum errcode
bind_tcp_one(struct listener *l, const struct addrinfo *a, int backlog,
             struct error *err)
{
    struct sockaddr_storage at = {0};
    socklen_t n = a->ai_addrlen;
    union netaddr local;
    char name[CONN_NAME_BYTES];
    int one = 1;

    memcpy(&at, a->ai_addr, n);
    /* All addresses get the port that the kernel gave to the first. */
    if (l->port != 0)
        set_port((struct sockaddr *)&at, l->port);
    netaddr_of_sockaddr((struct sockaddr *)&at, n, &local);
    netaddr_name(&local, name);

    int fd =
        socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set_errno(err, errno, "socket for %s", name);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&at, n) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &n) != 0) {
        int why = errno;
        close(fd);
        return bind_error(err, why, name);
    }
    netaddr_of_sockaddr((struct sockaddr *)&at, n, &local);
    if (l->ndoors == 0) {
        netaddr_name(&local, l->name);
        l->port = ntohs(local.family == AF_INET ? local.in.sin_port
                                                : local.in6.sin6_port);
    }
    add_door(l, fd);
    return ERR_OK;
}

static enum errcode
bind_tcp(struct listener *l, const struct listen_spec *spec, int backlog,
         struct error *err)
{
    struct addrinfo hints = {.ai_family = spec->family,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *addrs = NULL;
    char number[16];
    uint16_t port;

    if (!service_port(spec->service, &port))
        return error_set(err, ERR_NOTFOUND, "listen: no service \"%s\"",
                         spec->service);
    snprintf(number, sizeof(number), "%u", port);
    int rc = getaddrinfo(spec->host[0] != '\0' ? spec->host : NULL, number,
                         &hints, &addrs);
    if (rc != 0)
        return error_set(err, ERR_NOTFOUND, "listen: host \"%s\": %s",
                         spec->host, gai_strerror(rc));
    enum errcode code = ERR_OK;
    for (const struct addrinfo *a = addrs;
         a != NULL && code == ERR_OK && l->ndoors < SOCKETS_MAX;
         a = a->ai_next) {
        code = bind_tcp_one(l, a, backlog, err);
        /* A machine without IPv6 still serves IPv4, and the reverse. */
        if (code == ERR_IO && err != NULL && spec->host[0] == '\0' &&
            (err->sys_errno == EAFNOSUPPORT ||
             err->sys_errno == EADDRNOTAVAIL) &&
            (l->ndoors > 0 || a->ai_next != NULL))
            code = ERR_OK;
    }
    freeaddrinfo(addrs);
    return code;
}

enum errcode
listener_bind(const struct listen_spec *spec, int backlog,
              struct listener **ret, struct error *err)
{
    struct listener *l = xcalloc(1, sizeof(*l));
    struct error local = {0};

    if (err == NULL)
        err = &local;
    if (backlog <= 0)
        backlog = 1024;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->cond, NULL);
    enum errcode rc = spec->path[0] != '\0'
                          ? bind_unix(l, spec->path, backlog, err)
                          : bind_tcp(l, spec, backlog, err);
    if (rc != ERR_OK) {
        listener_close(&l);
        return rc;
    }
    *ret = l;
    return ERR_OK;
}

/* ---- cyrus.conf's way to say where ---- */

static bool
copy_part(char *to, size_t room, struct span from)
{
    if (from.n >= room || span_find_byte(from, 0, 0) >= 0)
        return false;
    if (from.n > 0)
        memcpy(to, from.p, from.n);
    to[from.n] = '\0';
    return true;
}

static bool
family_of(struct span proto, int *ret)
{
    if (span_eq_nocase_str(proto, "tcp"))
        *ret = AF_UNSPEC;
    else if (span_eq_nocase_str(proto, "tcp4"))
        *ret = AF_INET;
    else if (span_eq_nocase_str(proto, "tcp6"))
        *ret = AF_INET6;
    else
        return false;
    return true;
}

static bool
is_udp(struct span proto)
{
    return span_starts_nocase(proto, SPAN_LIT("udp"));
}

/* Split "[host]:service", "host:service", "service". */
static bool
split(struct span in, struct span *ret_host, struct span *ret_service)
{
    ptrdiff_t at;

    if (in.n > 0 && in.p[0] == '[') {
        at = span_find_byte(in, ']', 0);
        if (at < 0 || (size_t)at + 1 >= in.n || in.p[at + 1] != ':')
            return false;
        *ret_host = span_sub(in, 1, (size_t)at - 1);
        *ret_service = span_skip(in, (size_t)at + 2);
        return true;
    }
    at = span_find_byte(in, ':', 0);
    *ret_host = at < 0 ? SPAN_EMPTY : span_sub(in, 0, (size_t)at);
    *ret_service = at < 0 ? in : span_skip(in, (size_t)at + 1);
    /* More colons: an IPv6 address without brackets. */
    return span_find_byte(*ret_service, ':', 0) < 0;
}

enum errcode
listen_spec_parse(const char *listen, const char *proto,
                  struct listen_spec *ret, struct error *err)
{
    struct listen_spec spec = {.family = AF_UNSPEC};
    struct span in = span_trim(span_str(listen));
    struct span p = span_str(proto != NULL ? proto : "tcp");

    if (is_udp(p))
        return error_set(err, ERR_UNSUPPORTED, "listen \"%s\": no udp here",
                         listen);
    if (!family_of(p, &spec.family))
        return error_set(err, ERR_SYNTAX, "unknown proto \"%s\"", proto);
    if (in.n > 0 && in.p[0] == '/') {
        spec.family = AF_UNIX;
        if (!copy_part(spec.path, sizeof(spec.path), in))
            return error_set(err, ERR_SYNTAX, "listen \"%s\": path too long",
                             listen);
        *ret = spec;
        return ERR_OK;
    }

    ptrdiff_t colon = span_find_byte(in, ':', 0);
    struct span first = colon < 0 ? SPAN_EMPTY : span_sub(in, 0, (size_t)colon);
    if (is_udp(first))
        return error_set(err, ERR_UNSUPPORTED, "listen \"%s\": no udp here",
                         listen);
    if (family_of(first, &spec.family))
        in = span_skip(in, first.n + 1);

    struct span host, service;
    if (!split(in, &host, &service) || service.n == 0 ||
        span_find_byte(in, ' ', 0) >= 0 ||
        !copy_part(spec.service, sizeof(spec.service), service) ||
        !copy_part(spec.host, sizeof(spec.host), host))
        return error_set(err, ERR_SYNTAX,
                         "listen \"%s\": not [host:]port nor a path", listen);
    if (strcmp(spec.host, "*") == 0)
        spec.host[0] = '\0';
    *ret = spec;
    return ERR_OK;
}

/* ---- running ---- */

static void
door_start(void *ctx)
{
    struct door *d = ctx;

    d->ev = event_new(reactor_base(d->r), d->fd, EV_READ | EV_PERSIST,
                      on_accept, d);
    ENSURE(d->ev != NULL);
    event_add(d->ev, NULL);
}

static void
door_stop(void *ctx)
{
    struct door *d = ctx;
    struct listener *l = d->listener;

    reactor_timer_cancel(d->r, &d->rest);
    event_free(d->ev);
    pthread_mutex_lock(&l->lock);
    l->open_doors--;
    pthread_cond_signal(&l->cond);
    pthread_mutex_unlock(&l->lock);
}

void
listener_start(struct listener *l, struct reactor_pool *pool,
               const struct listener_service *service,
               struct conn_limits *limits)
{
    static atomic_uint turn; /* not all listeners on the first reactor */

    ENSURE(l->shared == NULL && service->on_conn != NULL);
    l->pool = pool;
    l->shared = xcalloc(1, sizeof(*l->shared));
    atomic_init(&l->shared->refs, 1);
    l->shared->service = *service;
    if (service->tls != NULL)
        l->shared->service.tls = tls_context_ref(service->tls);
    l->shared->limits = limits_ref(limits);
    l->open_doors = l->ndoors;
    for (size_t i = 0; i < l->ndoors; i++) {
        struct door *d = &l->doors[i];
        unsigned n = atomic_fetch_add(&turn, 1) % reactor_pool_size(pool);
        d->r = reactor_pool_get(pool, n);
        reactor_post(d->r, door_start, d);
    }
}

void
listener_close(struct listener **lp)
{
    struct listener *l = *lp;
    struct stat st;

    if (l == NULL)
        return;
    if (l->shared != NULL) {
        ENSURE(reactor_current() == NULL);
        for (size_t i = 0; i < l->ndoors; i++)
            reactor_post(l->doors[i].r, door_stop, &l->doors[i]);
        pthread_mutex_lock(&l->lock);
        while (l->open_doors > 0)
            pthread_cond_wait(&l->cond, &l->lock);
        pthread_mutex_unlock(&l->lock);
        shared_unref(l->shared);
    }
    for (size_t i = 0; i < l->ndoors; i++)
        close(l->doors[i].fd);
    /* Only our own: somebody may have taken the place. */
    if (l->path[0] != '\0' && lstat(l->path, &st) == 0 &&
        st.st_dev == l->path_dev && st.st_ino == l->path_ino)
        unlink(l->path);
    pthread_cond_destroy(&l->cond);
    pthread_mutex_destroy(&l->lock);
    free(l);
    *lp = NULL;
}

uint16_t
listener_port(const struct listener *l)
{
    return l->port;
}

const char *
listener_name(const struct listener *l)
{
    return l->name;
}

unsigned
listener_conns(const struct listener *l)
{
    return l->shared == NULL ? 0 : atomic_load(&l->shared->conns);
}

uint64_t
listener_refused(const struct listener *l)
{
    return l->shared == NULL ? 0 : atomic_load(&l->shared->refused);
}
