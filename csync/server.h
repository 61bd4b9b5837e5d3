/*
 * csync/server.h - sync_server: the service on the csync port, and on the
 * control socket.
 *
 * What it is asked to do with roles and epochs it asks of the instance through
 * struct csync_instance, which failover/ fills in; so this folder knows how the
 * questions look, and failover/ what the answers are.
 *
 * Only `admins` and `sync_admins` may log in to any avail; the latter are no
 * admins to IMAP.  On a Unix socket of the control kind nobody logs
 * in: root and the instance's own user are let in, and may say NODE commands.
 */
#ifndef POLLUX_CSYNC_SERVER_H
#define POLLUX_CSYNC_SERVER_H

#include "csync/logproto.h"
#include "net/listener.h"
#include "net/sasl.h"
#include "store/store.h"

/* Calls run on a reactor and may block only for a commit or two. */
struct csync_instance {
    void *ctx;
    /* The store; it may be another one after a rejoin, when all sessions were
     * ended before. */
    struct store *(*store)(void *ctx);
    void (*status)(void *ctx, struct arena *a, struct logstatus *ret);
    /* A master of CLUSTER at EPOCH wants to stream.  ERR_OK: we follow (an
     * empty instance adopts the cluster).  ERR_HISTORY, ERR_FENCED with text.
     * If EPOCH is above ours and we are the master, we are deposed. */
    enum errcode (*follow)(void *ctx, const struct instid *cluster,
                           const struct instid *instance, epoch_t epoch,
                           struct error *err);
    /* That master, which we follow, cannot bring us level by its log: give up
     * the state, and be seeded.  Answers before it is done.  ERR_READONLY,
     * ERR_AGAIN. */
    enum errcode (*reseed)(void *ctx, struct error *err);
    enum errcode (*prepare)(void *ctx, epoch_t epoch, uint64_t *ret_token,
                            struct error *err);
    enum errcode (*handover)(void *ctx, uint64_t token, epoch_t epoch,
                             const struct store_pos *at, struct error *err);
    enum errcode (*cancel)(void *ctx, uint64_t token, struct error *err);
    /* "NODE VERB [%(...)]" from the control socket; lines for the answer go to
     * OUT ("* NAME value CRLF"). */
    enum errcode (*node)(void *ctx, struct span verb, const struct dlist *args,
                         struct buf *out, struct error *err);
};

/*
 * Where the answer to a tool's request goes.  It may be long and take long.  To
 * be called by the thread that was asked.
 */
struct csync_answer {
    void *ctx;
    /* LINE is "* NAME value" without its end; copied.  Waits while who asked
     * does not read.  False: nobody waits for the answer any more. */
    bool (*line)(void *ctx, struct span line);
    /* The same for bytes that are lines, or parts of them, already. */
    bool (*bytes)(void *ctx, struct span bytes);
    /* Wait for MS, or only look (0).  False as above, and then at once. */
    bool (*pause)(void *ctx, unsigned ms);
};

/*
 * "ADMIN VERB [%(...)]" from the control socket, each on a thread of its own
 * (csync/request.c); what is asked and answered is known to who fills this in.
 * RUN NULL: there is nobody to ask.
 */
struct csync_admin {
    void *ctx;
    enum errcode (*run)(void *ctx, struct span verb, const struct dlist *args,
                        const struct csync_answer *answer, struct error *err);
};

struct csync_server_options {
    const char *servername;
    const struct config *cfg; /* SASL */
    const char *const *admins;
    const char *const *sync_admins; /* may replicate, and nothing else */
    bool allow_plaintext;
    bool is_control;         /* the control socket */
    struct tls_context *tls; /* STARTTLS; NULL: none */
    unsigned login_timeout_ms;
    unsigned idle_timeout_ms;
    unsigned mutants; /* synclog/mutants.h; 0 but in tests of tests */
    struct csync_instance instance;
    struct csync_admin admin;
};

struct csync_server;

/* Strings and pointers of OPTIONS must live as long as the server. */
struct csync_server *
csync_server_new(const struct csync_server_options *options);
/* After the reactors stopped. */
void
csync_server_free(struct csync_server **s);
/*
 * End what runs for ADMIN requests, and take no new ones (ERR_AGAIN) until
 * csync_server_take_requests(): the store is about to go.  Returns when none is
 * left.  Not from such a request.
 */
void
csync_server_end_requests(struct csync_server *s);
void
csync_server_take_requests(struct csync_server *s);
/* listener_service.on_conn; ctx is the struct csync_server. */
void
csync_server_accept(struct conn *c, void *ctx);

#endif
