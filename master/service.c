/*
 * master/service.c - from a connection to the protocol that was asked for.
 *
 * What a protocol needs (options, certificates, its own service object) is a
 * generation: made when serving starts, and made anew when certificates are
 * reloaded; who is connected stays with the one he came with.  Old generations
 * are kept until no session can be left; each is a few kilobytes, and a reload
 * is rare.
 *
 * TLS from the first byte is begun here and not by the listener, since the
 * listener's context could not be changed.
 */
#include "master/service.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "imapd/imapd.h"
#include "lmtpd/lmtpd.h"

struct generation {
    struct generation *older;
    struct arena arena; /* of the options */
    struct tls_context *tls;
    union {
        struct imapd_options imap;
        struct lmtpd_options lmtp;
        struct csync_server_options sync;
    } options;
    void *server; /* the protocol's service object */
};

struct service {
    const struct service_host *host;
    char *name, *cmd, *listen, *proto;
    struct plan_service plan; /* its strings are the above */
    const struct protocol *protocol;
    /* Over the rest, and the handing over of a connection to `now`. */
    pthread_mutex_t lock;
    struct listener *listener;
    struct generation *now;
    struct metrics_service past; /* of generations that are gone */
};

/* One protocol. */
struct protocol {
    const char *refuse; /* to whom a limit turns away */
    enum errcode (*make)(struct service *s, struct generation *g,
                         struct error *err);
    void (*accept)(struct conn *c, void *server);
    void (*free)(struct generation *g);
    struct conn_options (*conn)(const struct generation *g);
    void (*goodbye)(struct generation *g, const char *text);
    /* Add what G has done; NULL: it does not count. */
    void (*count)(const struct generation *g, struct metrics_service *to);
    const char *name;
};

/* ---- imap -------------------------------------------------------------- */

static enum errcode
imap_make(struct service *s, struct generation *g, struct error *err)
{
    const struct service_host *h = s->host;
    enum errcode rc = imapd_options_from_config(
        h->cfg, h->env, h->store, g->tls, s->plan.implicit_tls, &g->arena,
        &g->options.imap, err);

    if (rc != ERR_OK)
        return rc;
    g->options.imap.allow_plain |= s->plan.outer_layer;
    g->options.imap.commands = h->imap_commands;
    g->options.imap.index = h->index;
    g->server = imapd_service_new(&g->options.imap);
    return ERR_OK;
}

static void
imap_free(struct generation *g)
{
    struct imapd_service *svc = g->server;

    imapd_service_free(&svc);
}

static struct conn_options
imap_conn(const struct generation *g)
{
    return imapd_conn_options(&g->options.imap);
}

static void
imap_goodbye(struct generation *g, const char *text)
{
    imapd_service_goodbye(g->server, text);
}

static void
imap_count(const struct generation *g, struct metrics_service *to)
{
    struct imapd_stats stats = imapd_service_stats(g->server);

    to->sessions += stats.sessions_total;
    to->logins += stats.logins;
    to->login_failures += stats.login_failures;
}

/* ---- lmtp -------------------------------------------------------------- */

static enum errcode
lmtp_make(struct service *s, struct generation *g, struct error *err)
{
    const struct service_host *h = s->host;
    struct lmtpd_listener listener = {
        .service = s->name,
        .tls = g->tls,
        .preauth = s->plan.preauth,
    };
    enum errcode rc = lmtpd_options_from_config(
        h->cfg, h->env, h->store, &listener, &g->arena, &g->options.lmtp, err);

    if (rc != ERR_OK)
        return rc;
    g->options.lmtp.commands = h->lmtp_commands;
    g->server = lmtpd_service_new(&g->options.lmtp);
    return ERR_OK;
}

static void
lmtp_free(struct generation *g)
{
    struct lmtpd_service *svc = g->server;

    lmtpd_service_free(&svc);
}

static struct conn_options
lmtp_conn(const struct generation *g)
{
    return lmtpd_conn_options(&g->options.lmtp);
}

static void
lmtp_goodbye(struct generation *g, const char *text)
{
    lmtpd_service_goodbye(g->server, text);
}

static void
lmtp_count(const struct generation *g, struct metrics_service *to)
{
    struct lmtpd_stats stats = lmtpd_service_stats(g->server);

    to->sessions += stats.sessions_total;
    to->login_failures += stats.login_failures;
    to->messages += stats.messages;
    to->delivered += stats.delivered;
    to->duplicates += stats.duplicates;
    to->refused += stats.refused;
}

/* ---- csync ------------------------------------------------------------- */

#define SYNC_SILENCE_MS 60000U /* a shipper pings each second */

static enum errcode
sync_make(struct service *s, struct generation *g, struct error *err)
{
    const struct service_host *h = s->host;

    (void)err;
    g->options.sync = (struct csync_server_options){
        .servername = h->servername,
        .cfg = h->cfg,
        .admins = config_service_list(h->cfg, s->name, "admins"),
        .sync_admins = config_list(h->cfg, "sync_admins"),
        .allow_plaintext =
            s->plan.outer_layer ||
            config_service_switch(h->cfg, s->name, "allowplaintext"),
        .tls = g->tls,
        .login_timeout_ms = (unsigned)MIN(
            config_service_duration_s(h->cfg, s->name, "login_timeout") * 1000,
            (uint64_t)3600000),
        .idle_timeout_ms = SYNC_SILENCE_MS,
        .instance = h->instance,
    };
    g->server = csync_server_new(&g->options.sync);
    return ERR_OK;
}

static void
sync_free(struct generation *g)
{
    struct csync_server *server = g->server;

    csync_server_free(&server);
}

static struct conn_options
sync_conn(const struct generation *g)
{
    (void)g;
    return service_sync_conn_options();
}

static const struct protocol protocols[] = {
    [SERVICE_IMAP] = {.refuse = "* BYE Too many connections\r\n",
                      .make = imap_make,
                      .accept = imapd_accept,
                      .free = imap_free,
                      .conn = imap_conn,
                      .goodbye = imap_goodbye,
                      .count = imap_count,
                      .name = "imap"},
    [SERVICE_LMTP] = {.refuse = LMTPD_REFUSE,
                      .make = lmtp_make,
                      .accept = lmtpd_accept,
                      .free = lmtp_free,
                      .conn = lmtp_conn,
                      .goodbye = lmtp_goodbye,
                      .count = lmtp_count,
                      .name = "lmtp"},
    [SERVICE_SYNC] = {.refuse = "* BYE Too many connections\r\n",
                      .make = sync_make,
                      .accept = csync_server_accept,
                      .free = sync_free,
                      .conn = sync_conn,
                      .name = "csync"},
};

/* ---- generations ------------------------------------------------------- */

static struct generation *
take_generations(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    struct generation *first = s->now;
    if (s->protocol->count != NULL)
        for (struct generation *g = first; g != NULL; g = g->older)
            s->protocol->count(g, &s->past);
    s->now = NULL;
    pthread_mutex_unlock(&s->lock);
    return first;
}

static void
generations_free(struct service *s)
{
    struct generation *first = take_generations(s);

    while (first != NULL) {
        struct generation *g = first;
        first = g->older;
        if (g->server != NULL)
            s->protocol->free(g);
        tls_context_free(&g->tls);
        arena_free(&g->arena);
        free(g);
    }
}

static enum errcode
generation_new(struct service *s, struct generation **ret, struct error *err)
{
    struct generation *g = xcalloc(1, sizeof(*g));
    enum errcode rc =
        tls_server_from_config(s->host->cfg, s->name, &g->tls, err);

    if (rc == ERR_OK && s->plan.implicit_tls && g->tls == NULL)
        rc = error_set(err, ERR_SYNTAX,
                       "-s needs a certificate: set tls_server_cert");
    if (rc == ERR_OK)
        rc = s->protocol->make(s, g, err);
    if (rc == ERR_OK) {
        *ret = g;
        return ERR_OK;
    }
    tls_context_free(&g->tls);
    arena_free(&g->arena);
    free(g);
    return error_prefix(err, "service %s", s->name);
}

/* ---- connections ------------------------------------------------------- */

/* On the connection's reactor. */
static void
hand_over(struct conn *c, void *ctx)
{
    struct service *s = ctx;

    pthread_mutex_lock(&s->lock);
    s->protocol->accept(c, s->now->server);
    pthread_mutex_unlock(&s->lock);
}

static void
handshake_failed(struct conn *c, const struct error *why, void *ctx)
{
    const struct service *s = ctx;
    char peer[CONN_NAME_BYTES];

    conn_peer_name(c, peer);
    log_info(NULL, "tls.no_handshake", "service=%s peer=%s why=\"%s\"", s->name,
             peer, why->code == ERR_OK ? "closed" : why->text);
}

static void
on_conn(struct conn *c, void *ctx)
{
    static const struct conn_handler handshake = {
        .on_tls = hand_over,
        .on_close = handshake_failed,
    };
    struct service *s = ctx;

    if (!s->plan.implicit_tls) {
        hand_over(c, ctx);
        return;
    }
    conn_set_handler(c, &handshake, s);
    pthread_mutex_lock(&s->lock);
    conn_start_tls(c, s->now->tls, NULL);
    pthread_mutex_unlock(&s->lock);
}

/* ---- the service ------------------------------------------------------- */

struct conn_options
service_sync_conn_options(void)
{
    size_t command_bytes = dlist_default_limits.total_bytes + 4096;
    size_t message_bytes = LOGMSG_HEADER_BYTES + LOGMSG_PAYLOAD_MAX;

    return (struct conn_options){
        .input_max = MAX(command_bytes, message_bytes),
    };
}

struct service *
service_new(const struct plan_service *plan, const struct service_host *host)
{
    struct service *s = xcalloc(1, sizeof(*s));

    s->host = host;
    s->plan = *plan;
    s->plan.name = s->name = xstrdup(plan->name);
    s->plan.cmd = s->cmd = xstrdup(plan->cmd);
    s->plan.listen = s->listen = xstrdup(plan->listen);
    s->plan.proto = s->proto = xstrdup(plan->proto);
    s->protocol = &protocols[plan->kind];
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

void
service_free(struct service **service)
{
    struct service *s = *service;

    if (s == NULL)
        return;
    service_quiet(s);
    generations_free(s);
    pthread_mutex_destroy(&s->lock);
    free(s->name);
    free(s->cmd);
    free(s->listen);
    free(s->proto);
    free(s);
    *service = NULL;
}

enum errcode
service_bind(struct service *s, struct error *err)
{
    struct listen_spec spec;
    struct listener *listener = NULL;
    enum errcode rc = listen_spec_parse(s->listen, s->proto, &spec, err);

    if (rc == ERR_OK)
        rc = listener_bind(&spec, s->host->backlog, &listener, err);
    if (rc != ERR_OK)
        return error_prefix(err, "service %s", s->name);
    pthread_mutex_lock(&s->lock);
    s->listener = listener;
    pthread_mutex_unlock(&s->lock);
    return ERR_OK;
}

enum errcode
service_start(struct service *s, struct reactor_pool *pool, struct error *err)
{
    struct generation *g = NULL;
    enum errcode rc = generation_new(s, &g, err);

    if (rc != ERR_OK) {
        service_quiet(s);
        return rc;
    }
    struct listener_service options = {
        .name = s->name,
        .refuse = s->plan.implicit_tls ? NULL : s->protocol->refuse,
        .conn = s->protocol->conn(g),
        .max_conns = s->plan.max_conns,
        .on_conn = on_conn,
        .ctx = s,
    };
    pthread_mutex_lock(&s->lock);
    s->now = g;
    pthread_mutex_unlock(&s->lock);
    listener_start(s->listener, pool, &options, s->host->limits);
    log_info(NULL, "service.listening", "service=%s at=%s", s->name,
             listener_name(s->listener));
    return ERR_OK;
}

enum errcode
service_reload(struct service *s, struct error *err)
{
    struct generation *g = NULL;

    if (s->now == NULL)
        return ERR_OK;
    enum errcode rc = generation_new(s, &g, err);
    if (rc != ERR_OK)
        return rc;
    pthread_mutex_lock(&s->lock);
    g->older = s->now;
    s->now = g;
    pthread_mutex_unlock(&s->lock);
    return ERR_OK;
}

void
service_quiet(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    struct listener *listener = s->listener;
    s->listener = NULL;
    pthread_mutex_unlock(&s->lock);
    listener_close(&listener);
}

void
service_goodbye(struct service *s, const char *text)
{
    if (s->protocol->goodbye == NULL)
        return;
    for (struct generation *g = s->now; g != NULL; g = g->older)
        s->protocol->goodbye(g, text);
}

void
service_rest(struct service *s)
{
    service_quiet(s);
    generations_free(s);
}

const char *
service_name(const struct service *s)
{
    return s->name;
}

bool
service_is(const struct service *s, const struct plan_service *p)
{
    return strcmp(s->name, p->name) == 0 && strcmp(s->cmd, p->cmd) == 0 &&
           strcmp(s->listen, p->listen) == 0 &&
           strcmp(s->proto, p->proto) == 0 && s->plan.max_conns == p->max_conns;
}

const char *
service_address(const struct service *s)
{
    return s->listener == NULL ? "" : listener_name(s->listener);
}

bool
service_is_serving(const struct service *s)
{
    return s->now != NULL;
}

unsigned
service_conns(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    unsigned n = s->listener == NULL ? 0 : listener_conns(s->listener);
    pthread_mutex_unlock(&s->lock);
    return n;
}

void
service_look(struct service *s, struct metrics_service *ret)
{
    pthread_mutex_lock(&s->lock);
    *ret = s->past;
    snprintf(ret->name, sizeof(ret->name), "%s", s->name);
    snprintf(ret->protocol, sizeof(ret->protocol), "%s", s->protocol->name);
    if (s->listener != NULL) {
        snprintf(ret->address, sizeof(ret->address), "%s",
                 listener_name(s->listener));
        ret->conns = listener_conns(s->listener);
    }
    if (s->protocol->count != NULL)
        for (const struct generation *g = s->now; g != NULL; g = g->older)
            s->protocol->count(g, ret);
    pthread_mutex_unlock(&s->lock);
}
