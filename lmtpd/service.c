/*
 * lmtpd/service.c - lmtp sessions that deliver into the store, as a protocol of
 * net/service.h, which has the connections, the list of clients and the
 * goodbyes.
 */
#include <stdlib.h>

#include "lmtpd/deliver.h"
#include "net/service.h"

struct lmtpd_service {
    const struct lmtpd_options *opt;
    struct lmtp_counters counters;
    struct net_service *net;
};

/* ---- struct net_protocol ----------------------------------------------- */

static void *
open_session(void *ctx, const struct session_io *io, void *io_ctx, void *room,
             const struct session_peer *peer)
{
    struct lmtpd_service *svc = ctx;
    struct lmtp_store *store = room;

    *store = (struct lmtp_store){svc->opt, *svc->opt->store};
    const struct lmtp_wiring wiring = {
        .options = svc->opt,
        .io = io,
        .io_ctx = io_ctx,
        .backend = &lmtp_store_backend,
        .backend_ctx = store,
        .counters = &svc->counters,
    };
    return lmtp_session_new(&wiring, peer);
}

static void
start(void *session)
{
    lmtp_session_start(session);
}

static size_t
input(void *session, struct span in)
{
    return lmtp_session_input(session, in);
}

static void
timeout(void *session)
{
    lmtp_session_timeout(session);
}

static void
tls(void *session, const struct session_peer *peer)
{
    lmtp_session_tls(session, peer);
}

static void
goodbye(void *session, const char *text)
{
    lmtp_session_goodbye(session, text);
}

static void
gone(void *session)
{
    lmtp_session_gone(session);
}

static const struct net_protocol lmtp = {
    .room_bytes = sizeof(struct lmtp_store),
    .stopping = "The server is stopping",
    .open = open_session,
    .start = start,
    .input = input,
    .timeout = timeout,
    .tls = tls,
    .goodbye = goodbye,
    .gone = gone,
};

/* ---- the service ------------------------------------------------------- */

struct lmtpd_service *
lmtpd_service_new(const struct lmtpd_options *options)
{
    struct lmtpd_service *svc = xcalloc(1, sizeof(*svc));

    svc->opt = options;
    svc->net = net_service_new(&lmtp, svc, options->tls);
    return svc;
}

void
lmtpd_service_free(struct lmtpd_service **svc)
{
    if (*svc == NULL)
        return;
    net_service_free(&(*svc)->net);
    free(*svc);
    *svc = NULL;
}

struct conn_options
lmtpd_conn_options(const struct lmtpd_options *options)
{
    (void)options;
    return (struct conn_options){0}; /* the defaults take our longest line */
}

void
lmtpd_accept(struct conn *conn, void *ctx)
{
    struct lmtpd_service *svc = ctx;

    conn_set_timeout_ms(conn, svc->opt->idle_timeout_ms);
    net_service_accept(svc->net, conn);
}

void
lmtpd_service_goodbye(struct lmtpd_service *svc, const char *text)
{
    net_service_goodbye(svc->net, text);
}

struct lmtpd_stats
lmtpd_service_stats(const struct lmtpd_service *svc)
{
    struct net_service_counts counts = net_service_counts(svc->net);

    return (struct lmtpd_stats){
        .sessions = counts.sessions,
        .sessions_total = counts.sessions_total,
        .messages = atomic_load(&svc->counters.messages),
        .delivered = atomic_load(&svc->counters.delivered),
        .duplicates = atomic_load(&svc->counters.duplicates),
        .refused = atomic_load(&svc->counters.refused),
        .login_failures = atomic_load(&svc->counters.login_failures),
    };
}
