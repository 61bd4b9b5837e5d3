/*
 * master/look.c - see master/look.h.
 */
#include "master/look.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { IMAP, LMTP, PROTOCOLS };

struct look {
    struct env *env;
    struct command_tally *imap_commands, *lmtp_commands;
    struct metrics_protocol protocols[PROTOCOLS];
    struct services *services;
    struct keepers *keepers;
    _Atomic uint64_t beat_ns;
    atomic_bool is_serving;
    struct metrics *metrics;
};

struct look *
look_new(struct env *env)
{
    struct look *l = xcalloc(1, sizeof(*l));

    l->env = env;
    l->imap_commands = xcalloc(imapd_commands(), sizeof(*l->imap_commands));
    l->lmtp_commands = xcalloc(lmtpd_commands(), sizeof(*l->lmtp_commands));
    l->protocols[IMAP] = (struct metrics_protocol){
        .name = "imap",
        .ncommands = imapd_commands(),
        .command = imapd_command_name,
        .commands = l->imap_commands,
    };
    l->protocols[LMTP] = (struct metrics_protocol){
        .name = "lmtp",
        .ncommands = lmtpd_commands(),
        .command = lmtpd_command_name,
        .commands = l->lmtp_commands,
    };
    look_beat(l);
    return l;
}

void
look_free(struct look **look)
{
    struct look *l = *look;

    if (l == NULL)
        return;
    look_stop(l);
    free(l->imap_commands);
    free(l->lmtp_commands);
    free(l);
    *look = NULL;
}

void
look_count(struct look *l, struct service_host *host)
{
    host->imap_commands = l->imap_commands;
    host->lmtp_commands = l->lmtp_commands;
}

void
look_beat(struct look *l)
{
    atomic_store(&l->beat_ns, env_mono_ns(l->env));
}

void
look_serving(struct look *l, bool is_serving)
{
    atomic_store(&l->is_serving, is_serving);
}

/* ---- struct metrics_host ----------------------------------------------- */

static size_t
services(void *ctx, struct metrics_service *ret, size_t max)
{
    struct look *l = ctx;

    return services_look(l->services, ret, max);
}

static void
index_of(void *ctx, struct metrics_index *ret)
{
    struct look *l = ctx;

    keepers_look_at_index(l->keepers, ret);
}

static bool
is_serving(void *ctx)
{
    struct look *l = ctx;

    return atomic_load(&l->is_serving);
}

static uint64_t
heartbeat_ms(void *ctx)
{
    struct look *l = ctx;
    const uint64_t beat_ns = atomic_load(&l->beat_ns);
    const uint64_t now_ns = env_mono_ns(l->env);

    return now_ns > beat_ns ? (now_ns - beat_ns) / 1000000 : 0;
}

enum errcode
look_start(struct look *l, const struct config *cfg, struct node *node,
           struct services *s, struct keepers *keepers, struct error *err)
{
    const char *listen = config_string(cfg, "metrics_listen");
    struct listen_spec spec;
    const struct metrics_host host = {
        .env = l->env,
        .cfg = cfg,
        .dir = config_string(cfg, "configdirectory"),
        .node = node,
        .protocols = l->protocols,
        .nprotocols = PROTOCOLS,
        .ctx = l,
        .services = services,
        .index = index_of,
        .is_serving = is_serving,
        .heartbeat_ms = heartbeat_ms,
    };

    l->services = s;
    l->keepers = keepers;
    if (listen == NULL || listen[0] == '\0')
        return ERR_OK;
    enum errcode rc = metrics_listen_parse(listen, &spec, err);
    if (rc != ERR_OK)
        return rc;
    return metrics_start(&host, &spec, &l->metrics, err);
}

void
look_stop(struct look *l)
{
    if (l != NULL)
        metrics_stop(&l->metrics);
}
