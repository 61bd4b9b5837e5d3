/*
 * failover/node.h - who may write: an instance's role and epoch, and every way
 * to change them.
 *
 *            promoted             handed over
 *  REPLICA ------------> MASTER -------------> REPLICA
 *     ^                     |  a newer epoch was seen
 *     |     rejoined        v
 *     +------------------ FENCED
 *
 * Role, epoch, cluster and instance ids are in DIR/node (failover/nodefile.h),
 * replaced atomically, and durable before anyone obeys them.  A file that
 * cannot be read is not a master (N3).
 *
 * Invariants
 *  N1  at most one instance acknowledges in an epoch: an epoch is durable here
 *      before its first record, and higher than every epoch ever heard of.
 *  N2  who has handed over, or was deposed, never writes in the old epoch.
 *  N3  unknown is not writable.
 *  N4  the fence (shutdown file) binds everybody, by the store's commit path.
 *  N5  a swap is called off only with a cancelled token, or before a handover
 *      was sent.
 */
#ifndef POLLUX_FAILOVER_NODE_H
#define POLLUX_FAILOVER_NODE_H

#include "base/config.h"
#include "csync/server.h"
#include "store/store.h"

struct node;

struct node_config {
    struct store_config store; /* cluster and instance are filled in here */
    const char *servername;
    bool has_twin; /* sync_host is set: a new instance starts as a replica that
                      nobody has promoted yet; without a twin as the master */
    uint32_t uid_headroom;
    uint64_t swap_hold_ms;
    uint64_t swap_max_lag; /* records */
};

/* `servername`, or the name of this host. */
void
node_servername(const struct config *cfg, char *ret, size_t room);
/* What CFG says; strings are CFG's and SERVERNAME, the rest lives in A. */
void
node_config_from(const struct config *cfg, const char *servername,
                 struct arena *a, struct node_config *ret);

struct node_hooks {
    void *ctx;
    /* The role has changed (any thread): sessions of clients should be ended
     * when it is not MASTER any more. */
    void (*on_role)(void *ctx, enum role role);
    /* All sessions must end and stay out until REOPENED: the store is being
     * emptied for a rejoin.  Returns when none is left. */
    void (*close_sessions)(void *ctx);
    void (*reopened)(void *ctx);
    void (*on_fatal)(void *ctx, const struct error *err);
};

/*
 * Read DIR/node (or make it), open the store, recover, take the role that was
 * kept.  Errors: those of store_open(); ERR_CORRUPT (node file).
 */
MUST_CHECK enum errcode
node_open(struct env *env, const struct node_config *cfg,
          const struct node_hooks *hooks, struct node **ret,
          struct store_opened *ret_found, struct error *err);
void
node_close(struct node **node);
struct store *
node_store(const struct node *node);
enum role
node_role(const struct node *node);
/*
 * For metrics: CALL hears what this instance says of itself, with the store as
 * it is now, which stays open until CALL returns.  Nothing may be asked of NODE
 * in it.  ERR_AGAIN: a change of role was under way for TIMEOUT_MS.
 */
MUST_CHECK enum errcode
node_look(struct node *node, unsigned timeout_ms,
          void (*call)(void *ctx, const struct logstatus *s,
                       struct store *store),
          void *ctx, struct error *err);
/* For csync/server.h: what a peer or the control socket may ask. */
void
node_csync_instance(struct node *node, struct csync_instance *ret);

/*
 * What was heard of the twin before serving (a master that comes back): a
 * higher epoch deposes us.
 */
MUST_CHECK enum errcode
node_heard(struct node *node, const struct logstatus *peer, struct error *err);

/*
 * A master that comes back asks its twin (CFG's sync_host) whether it still is
 * one, before it serves or writes.  A twin that does not answer within
 * TIMEOUT_MS cannot know better: that is logged, and ERR_OK.
 */
MUST_CHECK enum errcode
node_ask_twin(struct node *node, const struct config *cfg, int timeout_ms,
              struct error *err);

/*
 * REJOIN for an instance that does not run: DIR/rejoin is written, and its next
 * start obeys.  TWIN_EPOCH: of the twin if it is a master, else 0.
 * ERR_CONFLICT: this one is the master of no older epoch (FORCE: all the same);
 * ERR_NOTFOUND; ERR_IO, ERR_NOSPACE.
 */
MUST_CHECK enum errcode
node_ask_rejoin(struct env *env, const char *dir, epoch_t twin_epoch,
                bool force, struct error *err);

/*
 * Verbs of the control socket, "NODE VERB %(...)":
 *   STATUS                  * LOGSTATUS, * DAMAGE (counts), a * SLOT line for
 *                           each channel
 *   DAMAGE                  * DAMAGE, a * DAMAGED line for each entry of the
 *                           register (store/damage.h), with its messages
 *   FENCE %(WHY text SWAP 0|1)     make the shutdown file; answers when nothing
 *                           is under way any more: * POS
 *   UNFENCE                 remove it
 *   PROMOTE %(FORCE 0|1)    replica (or fenced) to master, unplanned
 *   DEMOTE %(EPOCH e)       after a handover that the peer confirmed: replica
 *   DEPOSED %(EPOCH e FORK n CHAIN h)  a peer of a newer epoch was seen
 *   EXPORT                  what the fork left behind: * EXPORT %(PATH ...)
 *   REJOIN %(FORK n)        export, empty the store, wait for a seed; FORK is
 *                           where a replica's history left the twin's
 */

#endif
