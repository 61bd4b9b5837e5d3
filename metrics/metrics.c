/*
 * metrics/metrics.c - the threads behind metrics/metrics.h.
 *
 * One thread looks at the instance once a second and keeps the last minutes.
 * Whoever asks over HTTP gets a look that is fresh: a worker takes it, and
 * prints it while nobody else does.  An instance whose roles are locked for
 * longer (a rejoin) is shown as it was before, with its age.
 *
 * A pool of its own serves the connections, so that neither clients nor the
 * control socket wait for who looks, nor the other way round.
 */
#include "metrics/metrics.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "metrics/advice.h"
#include "metrics/http.h"
#include "metrics/openmetrics.h"
#include "metrics/page.h"
#include "metrics/sample.h"
#include "metrics/status.h"
#include "metrics/twin.h"
#include "net/service.h"

#define CONNS_MAX 64U
#define IDLE_MS 60000U
#define LIFE_MS 600000U /* of a connection, whatever it does */
#define WORKERS 2U
#define STOP_MS 200U

struct metrics {
    struct metrics_host host;
    struct listener *listener;
    struct reactor_pool *pool;
    struct net_service *service;
    struct twins *twins;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock; /* over the rest */
    pthread_cond_t wake;
    bool stop;
    struct sample sample;
    struct history history;
};

/* ---- looking ----------------------------------------------------------- */

/* With the lock. */
static void
look(struct metrics *m)
{
    const struct metrics_host *h = &m->host;
    struct sample *s = &m->sample;

    /* What cannot be looked at now is as it was. */
    (void)!sample_node(h->env, h->node, h->dir, &m->history, s, NULL);
    s->nservices = h->services(h->ctx, s->services, SAMPLE_SERVICES_MAX);
    h->index(h->ctx, &s->index);
    s->is_serving = h->is_serving(h->ctx);
    s->heartbeat_ms = h->heartbeat_ms(h->ctx);
    s->ntwins = twins_look(m->twins, s->twins);
}

static void
remember(struct metrics *m)
{
    struct history_point p;

    if (!m->sample.is_there)
        return;
    sample_point(&m->sample, &p);
    if (m->history.n == 0 ||
        p.wall_us > history_at(&m->history, m->history.n - 1)->wall_us)
        history_add(&m->history, &p);
}

static void *
looking_main(void *arg)
{
    struct metrics *m = arg;
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    pthread_mutex_lock(&m->lock);
    while (!m->stop) {
        look(m);
        remember(m);
        until.tv_sec++;
        while (!m->stop &&
               pthread_cond_timedwait(&m->wake, &m->lock, &until) != ETIMEDOUT)
            ;
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- what is answered -------------------------------------------------- */

struct answer {
    unsigned status;
    const char *type;
    char *extra; /* header lines; NULL: none */
    struct buf body;
};

static void
answer_metrics(struct metrics *m, struct answer *r)
{
    r->type = OPENMETRICS_TYPE;
    openmetrics_print(&m->sample, m->host.protocols, m->host.nprotocols,
                      &r->body);
}

static void
answer_status(struct metrics *m, struct answer *r)
{
    r->type = "application/json";
    status_print(&m->sample, &m->history, m->host.protocols, m->host.nprotocols,
                 env_wall_us(m->host.env), &r->body);
}

static void
answer_health(struct metrics *m, enum health what, struct answer *r)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    const char *why = health_complaint(&m->sample, what, &a);

    r->type = "text/plain; charset=utf-8";
    r->status = why == NULL ? 200 : 503;
    buf_addf(&r->body, "%s\n", why == NULL ? "ok" : why);
}

static void
answer_live(struct metrics *m, struct answer *r)
{
    answer_health(m, HEALTH_LIVE, r);
}

static void
answer_ready(struct metrics *m, struct answer *r)
{
    answer_health(m, HEALTH_READY, r);
}

static void
answer_master(struct metrics *m, struct answer *r)
{
    answer_health(m, HEALTH_MASTER, r);
}

/* Nothing on the page but what is in it: the nonce says so to the browser. */
static void
answer_page(struct metrics *m, struct answer *r)
{
    uint8_t bytes[16];
    char nonce[2 * sizeof(bytes) + 1];
    struct span rest = span_of(metrics_page, metrics_page_bytes);
    const struct span mark = SPAN_LIT("@NONCE@");
    ptrdiff_t at;

    env_random(m->host.env, bytes, sizeof(bytes));
    format_hex_bytes(bytes, sizeof(bytes), nonce);
    while ((at = span_find(rest, mark)) >= 0) {
        buf_add(&r->body, span_sub(rest, 0, (size_t)at));
        buf_add_str(&r->body, nonce);
        rest = span_skip(rest, (size_t)at + mark.n);
    }
    buf_add(&r->body, rest);
    r->type = "text/html; charset=utf-8";
    r->extra = xasprintf(
        "Content-Security-Policy: default-src 'none'; style-src 'nonce-%s'; "
        "script-src 'nonce-%s'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
        "Referrer-Policy: no-referrer\r\n",
        nonce, nonce);
}

static const struct route {
    const char *path;
    void (*answer)(struct metrics *m, struct answer *r);
    bool looks; /* with the lock, after a look */
} routes[] = {
    {"/", answer_page, false},
    {"/status.json", answer_status, true},
    {"/metrics", answer_metrics, true},
    {"/health/live", answer_live, true},
    {"/health/ready", answer_ready, true},
    {"/health/master", answer_master, true},
};

static const struct route *
find_route(struct span path)
{
    for (size_t i = 0; i < ARRAY_LEN(routes); i++)
        if (span_eq_str(path, routes[i].path))
            return &routes[i];
    return NULL;
}

/* ---- a connection ------------------------------------------------------ */

struct web {
    struct metrics *m;
    const struct session_io *io;
    void *io_ctx;
    struct http_request request; /* its path is not kept */
    const struct route *route;
    struct answer answer;
    bool busy;    /* a worker is at it */
    bool closing; /* nothing more is read */
    bool dead;    /* the connection is gone */
};

static void
web_free(struct web *w)
{
    const struct session_io *io = w->io;
    void *io_ctx = w->io_ctx;

    buf_free(&w->answer.body);
    free(w->answer.extra);
    free(w);
    io->ended(io_ctx);
}

static void
send_answer(struct web *w)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    const struct http_response r = {
        .status = w->answer.status,
        .type = w->answer.type,
        .extra = w->answer.extra,
        .body = buf_span(&w->answer.body),
    };

    http_print(&r, &w->request, &out);
    w->io->write(w->io_ctx, buf_span(&out));
    buf_free(&w->answer.body);
    xfree(&w->answer.extra);
    w->answer = (struct answer){0};
    if (!w->request.keep_alive) {
        w->closing = true;
        w->io->close(w->io_ctx);
    }
}

static void
say(struct web *w, unsigned status)
{
    w->answer =
        (struct answer){.status = status, .type = "text/plain; charset=utf-8"};
    if (status == 405)
        w->answer.extra = xstrdup("Allow: GET, HEAD\r\n");
    buf_addf(&w->answer.body, "%u %s\n", status, http_reason(status));
    send_answer(w);
}

/* On a worker. */
static void
render(void *arg)
{
    struct web *w = arg;
    struct metrics *m = w->m;

    w->answer.status = 200;
    if (!w->route->looks) {
        w->route->answer(m, &w->answer);
        return;
    }
    pthread_mutex_lock(&m->lock);
    look(m); /* health is of now: a fence that went up counts */
    w->route->answer(m, &w->answer);
    pthread_mutex_unlock(&m->lock);
}

static void
rendered(void *arg)
{
    struct web *w = arg;

    w->busy = false;
    w->io->release(w->io_ctx);
    if (w->dead) {
        web_free(w);
        return;
    }
    send_answer(w);
    if (!w->closing)
        w->io->resume(w->io_ctx);
}

static void *
web_open(void *ctx, const struct session_io *io, void *io_ctx, void *room,
         const struct session_peer *peer)
{
    struct web *w = xcalloc(1, sizeof(*w));

    (void)room;
    (void)peer;
    w->m = ctx;
    w->io = io;
    w->io_ctx = io_ctx;
    return w;
}

static void
web_start(void *session)
{
    (void)session; /* the client speaks first */
}

static size_t
web_input(void *session, struct span in)
{
    struct web *w = session;
    size_t used = 0;
    unsigned status = 0;

    if (w->closing)
        return in.n;
    if (w->busy)
        return 0;
    switch (http_parse(in, &w->request, &used, &status)) {
    case PARSE_MORE:
        return 0;
    case PARSE_BAD:
        w->request = (struct http_request){0};
        say(w, status);
        return in.n;
    case PARSE_DONE:
        break;
    }
    w->route = find_route(w->request.path);
    w->request.path = SPAN_EMPTY;
    if (w->route == NULL) {
        say(w, 404);
        return used;
    }
    w->busy = true;
    w->io->pause(w->io_ctx);
    w->io->hold(w->io_ctx);
    w->io->work(w->io_ctx, render, rendered, w);
    return used;
}

static void
web_timeout(void *session)
{
    struct web *w = session;

    w->request.keep_alive = false;
    if (!w->busy) {
        w->closing = true;
        w->io->close(w->io_ctx);
    }
}

static void
web_tls(void *session, const struct session_peer *peer)
{
    (void)session;
    (void)peer;
}

static void
web_goodbye(void *session, const char *text)
{
    (void)text;
    web_timeout(session);
}

static void
web_gone(void *session)
{
    struct web *w = session;

    w->dead = true;
    if (!w->busy)
        web_free(w);
}

static const struct net_protocol web_protocol = {
    .stopping = "",
    .open = web_open,
    .start = web_start,
    .input = web_input,
    .timeout = web_timeout,
    .tls = web_tls,
    .goodbye = web_goodbye,
    .gone = web_gone,
};

static void
on_conn(struct conn *c, void *ctx)
{
    struct metrics *m = ctx;

    conn_set_timeout_ms(c, IDLE_MS);
    conn_set_deadline_ms(c, LIFE_MS);
    net_service_accept(m->service, c);
}

/* ---- public ------------------------------------------------------------ */

enum errcode
metrics_listen_parse(const char *listen, struct listen_spec *ret,
                     struct error *err)
{
    enum errcode rc;

    if (listen[0] != '/' && strchr(listen, ':') == NULL) {
        rc = listen_spec_parse(listen, "tcp4", ret, err);
        if (rc == ERR_OK)
            snprintf(ret->host, sizeof(ret->host), "127.0.0.1");
    } else if (listen[0] == '*' && listen[1] == ':') {
        rc = listen_spec_parse(listen + 2, NULL, ret, err);
    } else {
        rc = listen_spec_parse(listen, NULL, ret, err);
    }
    return rc == ERR_OK ? rc : error_prefix(err, "metrics_listen");
}

static enum errcode
start_threads(struct metrics *m, struct error *err)
{
    const struct reactor_pool_options pool = {.threads = 1, .workers = WORKERS};
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->wake, &attr);
    pthread_condattr_destroy(&attr);
    enum errcode rc = reactor_pool_start(&pool, &m->pool, err);
    if (rc != ERR_OK)
        return rc;
    m->twins = twins_start(m->host.env, m->host.cfg, m->host.node);
    int failed = pthread_create(&m->thread, NULL, looking_main, m);
    m->has_thread = failed == 0;
    return failed == 0 ? ERR_OK
                       : error_set_errno(err, failed, "thread for metrics");
}

enum errcode
metrics_start(const struct metrics_host *host, const struct listen_spec *spec,
              struct metrics **ret, struct error *err)
{
    struct metrics *m = xcalloc(1, sizeof(*m));
    const struct listener_service service = {
        .name = "metrics",
        .conn = {.input_max = HTTP_HEAD_MAX},
        .max_conns = CONNS_MAX,
        .on_conn = on_conn,
        .ctx = m,
    };

    m->host = *host;
    enum errcode rc = start_threads(m, err);
    if (rc == ERR_OK)
        rc = listener_bind(spec, 0, &m->listener, err);
    if (rc != ERR_OK) {
        metrics_stop(&m);
        return error_prefix(err, "metrics_listen");
    }
    m->service = net_service_new(&web_protocol, m, NULL);
    listener_start(m->listener, m->pool, &service, NULL);
    log_info(NULL, "metrics.listening", "at=%s", listener_name(m->listener));
    *ret = m;
    return ERR_OK;
}

void
metrics_stop(struct metrics **metrics)
{
    struct metrics *m = *metrics;

    if (m == NULL)
        return;
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_signal(&m->wake);
    pthread_mutex_unlock(&m->lock);
    listener_close(&m->listener);
    reactor_pool_stop(&m->pool, STOP_MS);
    net_service_free(&m->service);
    if (m->has_thread)
        pthread_join(m->thread, NULL);
    twins_stop(&m->twins);
    pthread_cond_destroy(&m->wake);
    pthread_mutex_destroy(&m->lock);
    free(m);
    *metrics = NULL;
}

const char *
metrics_address(const struct metrics *m)
{
    return listener_name(m->listener);
}
