/*
 * master/service.h - one line of SERVICES: a listener, and the protocol behind
 * it.
 *
 *   bound ---> serving ---> quiet (nobody new; those inside stay) ---> freed
 *     ^           |           |
 *     +-----------+-----------+  service_rest(), when the pool was stopped
 *
 * All calls but service_look() on the main thread.
 */
#ifndef POLLUX_MASTER_SERVICE_H
#define POLLUX_MASTER_SERVICE_H

#include "csync/server.h"
#include "master/plan.h"
#include "metrics/metrics.h"

/* What the services of an instance share.  Lives longer than they. */
struct service_host {
    struct env *env;
    const struct config *cfg;
    const char *servername;
    struct store *const *store;        /* the store of now */
    struct search_index *const *index; /* and its index, or NULL there */
    struct csync_instance instance;
    struct conn_limits *limits;
    int backlog; /* 0: the default */
    /* imapd_commands(), lmtpd_commands() of them; NULL: nobody counts. */
    struct command_tally *imap_commands;
    struct command_tally *lmtp_commands;
};

struct service;

/* Nothing of PLAN is kept. */
struct service *
service_new(const struct plan_service *plan, const struct service_host *host);
/* When none of its sessions is left.  NULL is fine. */
void
service_free(struct service **s);

/* Bind and listen; who connects waits.  Errors: those of listen_spec_parse()
 * and listener_bind(). */
MUST_CHECK enum errcode
service_bind(struct service *s, struct error *err);
/*
 * Read the certificates, make the protocol's part, and accept.  Errors: those
 * of tls_server_from_config(); ERR_SYNTAX (options in imapd.conf; TLS without
 * a certificate); it is then not bound any more.
 */
MUST_CHECK enum errcode
service_start(struct service *s, struct reactor_pool *pool, struct error *err);
/* Certificates and options anew, for those who connect from now on.  On an
 * error the old ones stay. */
MUST_CHECK enum errcode
service_reload(struct service *s, struct error *err);
/* Nobody new. */
void
service_quiet(struct service *s);
/* Ask clients to go: this instance is no longer the master.  Replication
 * stays. */
void
service_goodbye(struct service *s, const char *text);
/* All sessions are gone (the pool was stopped): as after service_new(). */
void
service_rest(struct service *s);

/* Buffers of a connection that speaks csync, on a control socket too. */
struct conn_options
service_sync_conn_options(void);

const char *
service_name(const struct service *s);
bool
service_is(const struct service *s, const struct plan_service *plan);
/* Where it listens; "" if it does not. */
const char *
service_address(const struct service *s);
/* service_start() was called, and none of those that end it. */
bool
service_is_serving(const struct service *s);
/* Who is connected now. */
unsigned
service_conns(struct service *s);
/* What it has done since it was made.  Any thread, as long as it is not freed.
 */
void
service_look(struct service *s, struct metrics_service *ret);

#endif
