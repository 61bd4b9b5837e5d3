/*
 * imapd/service.c - imap sessions as a protocol of net/service.h, which has the
 * connections, the list of clients and the goodbyes.
 */
#include <stdlib.h>

#include "imapd/parse.h"
#include "imapd/session.h"
#include "net/service.h"

size_t
imapd_commands(void)
{
    return CMD_COUNT;
}

const char *
imapd_command_name(size_t i)
{
    return imap_cmd_name((enum imap_cmd)i);
}

struct imapd_service {
    const struct imapd_options *opt;
    struct imap_counters counters;
    struct net_service *net;
};

/* ---- struct net_protocol ----------------------------------------------- */

static void *
open_session(void *ctx, const struct session_io *io, void *io_ctx, void *room,
             const struct session_peer *peer)
{
    struct imapd_service *svc = ctx;

    (void)room;
    return imap_session_new(svc->opt, io, io_ctx, &svc->counters, peer);
}

static void
start(void *session)
{
    imap_session_start(session);
}

static size_t
input(void *session, struct span in)
{
    return imap_session_input(session, in);
}

static void
drained(void *session)
{
    imap_session_drained(session);
}

static void
timeout(void *session)
{
    imap_session_timeout(session);
}

static void
tls(void *session, const struct session_peer *peer)
{
    imap_session_tls(session, peer);
}

static void
goodbye(void *session, const char *text)
{
    imap_session_goodbye(session, text);
}

static void
gone(void *session)
{
    imap_session_gone(session);
}

static const struct net_protocol imap = {
    .stopping = "[UNAVAILABLE] The server is stopping",
    .open = open_session,
    .start = start,
    .input = input,
    .drained = drained,
    .timeout = timeout,
    .tls = tls,
    .goodbye = goodbye,
    .gone = gone,
};

/* ---- the service ------------------------------------------------------- */

struct imapd_service *
imapd_service_new(const struct imapd_options *options)
{
    struct imapd_service *svc = xcalloc(1, sizeof(*svc));

    svc->opt = options;
    svc->net = net_service_new(&imap, svc, options->tls);
    return svc;
}

void
imapd_service_free(struct imapd_service **svc)
{
    if (*svc == NULL)
        return;
    net_service_free(&(*svc)->net);
    free(*svc);
    *svc = NULL;
}

struct conn_options
imapd_conn_options(const struct imapd_options *options)
{
    return (struct conn_options){.input_max = options->line_bytes_max + 16};
}

void
imapd_accept(struct conn *conn, void *ctx)
{
    struct imapd_service *svc = ctx;

    conn_set_deadline_ms(conn, svc->opt->login_timeout_ms);
    net_service_accept(svc->net, conn);
}

void
imapd_service_goodbye(struct imapd_service *svc, const char *text)
{
    net_service_goodbye(svc->net, text);
}

struct imapd_stats
imapd_service_stats(const struct imapd_service *svc)
{
    struct net_service_counts counts = net_service_counts(svc->net);

    return (struct imapd_stats){
        .sessions = counts.sessions,
        .sessions_total = counts.sessions_total,
        .logins = atomic_load(&svc->counters.logins),
        .login_failures = atomic_load(&svc->counters.login_failures),
        .commands = atomic_load(&svc->counters.commands),
    };
}
