/*
 * csync/client.h - talking to a csync port or a control socket, blocking: for
 * sync_client, ctl_failover and the start of an instance.
 */
#ifndef POLLUX_CSYNC_CLIENT_H
#define POLLUX_CSYNC_CLIENT_H

#include "base/config.h"
#include "csync/logproto.h"
#include "net/bclient.h"

struct csync_client;

/* Whom to ask, and as whom. */
struct csync_target {
    const char *host; /* "host", "host:port", "host:port/tls", "/a/socket"*/
    const char *port; /* if not in host */
    const char *authname, *password, *realm;
    const char *mechs;       /* HOST_mechs, or NULL */
    bool require_tls;        /* TLS from the first byte */
    bool must_tls;           /* no login without TLS */
    bool any_certificate;    /* the peer's is not looked at */
    const char *tls_ca_file; /* whom alone we believe; NULL: tls_server_ca_* */
    bool compress;           /* COMPRESS DEFLATE, if it is offered */
    bool require_compress;   /* and if not, ERR_UNSUPPORTED */
    bool by_log;             /* zstd inside of the stream instead, if offered */
    bool greeting_only;      /* what it can do is all we want: no login */
    int timeout_ms;
    bool (*stop)(void *ctx); /* asked while waiting: ERR_CLOSED; or NULL */
    void *stop_ctx;
};

/* From imapd.conf: sync_host, sync_port, sync_authname ... of CHANNEL, or
 * HOST instead of sync_host.  ERR_NOTFOUND: no sync_host is set (the text names
 * the option). */
MUST_CHECK enum errcode
csync_target_from_config(const struct config *cfg, const char *channel,
                         const char *host, struct csync_target *ret,
                         struct error *err);

/*
 * Connect, read the greeting, STARTTLS if offered, log in.
 * ERR_NOTFOUND, ERR_CLOSED, ERR_TIMEOUT (not there); ERR_AUTH, ERR_DENIED;
 * ERR_PROTO (not a csync server); ERR_IO.
 */
MUST_CHECK enum errcode
csync_connect(const struct csync_target *target, const struct config *cfg,
              struct csync_client **ret, struct error *err);
/* The instance's own control socket.  ERR_NOTFOUND, ERR_CLOSED: none runs. */
MUST_CHECK enum errcode
csync_connect_control(const char *path, int timeout_ms,
                      struct csync_client **ret, struct error *err);
void
csync_client_close(struct csync_client **c);
/* From now on; BCLIENT_FOREVER: an answer may take as long as it takes. */
void
csync_client_set_timeout(struct csync_client *c, int timeout_ms);
/* Does the peer speak POLLUX-LOG? */
bool
csync_client_has_log(const struct csync_client *c);
/* Was compression asked for, and is it to be that of csync/squeeze.h? */
bool
csync_client_takes_zstd(const struct csync_client *c);
struct bclient *
csync_client_conn(struct csync_client *c);

/*
 * Send LINE (CRLF is added) and read the answer; each "* NAME value" goes to
 * EACH.  OK: ERR_OK.  NO and BAD: the code of the first word (POLLUX-HISTORY ->
 * ERR_HISTORY ...), the text in ERR.
 */
MUST_CHECK enum errcode
csync_command(struct csync_client *c, struct span line,
              void (*each)(void *ctx, const struct dlist *d), void *ctx,
              struct error *err);

/* LOG STATUS; strings live in A. */
MUST_CHECK enum errcode
csync_log_status(struct csync_client *c, struct arena *a, struct logstatus *ret,
                 struct error *err);
/* Digest that the peer had at LSN; ERR_GAP: it does not remember. */
MUST_CHECK enum errcode
csync_log_digest(struct csync_client *c, lsn_t lsn, uint64_t *ret,
                 struct error *err);

#endif
