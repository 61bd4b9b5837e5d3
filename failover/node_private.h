/*
 * failover/node_private.h - the inside of a node, for the files of this folder.
 *
 * `lock` is held over every change of role and over every verb, so that two of
 * them never meet; none of them is called from the writer's thread.
 */
#ifndef POLLUX_FAILOVER_NODE_PRIVATE_H
#define POLLUX_FAILOVER_NODE_PRIVATE_H

#include <pthread.h>

#include "base/log.h"
#include "failover/node.h"
#include "failover/nodefile.h"

struct node {
    struct env *env;
    struct node_config cfg; /* strings are copies */
    struct node_hooks hooks;
    char *dir, *pack_dir, *fence_path, *servername;
    struct arena arena; /* of the partitions */
    char *path;         /* DIR/node */
    struct store *store;
    struct nodefile file; /* as it is on disk */
    uint64_t token;       /* of a prepared handover; 0: none */
    epoch_t token_epoch;
    uint64_t used_token; /* that promoted us */
    bool swapping;       /* our fence is up because of a swap */
    bool in_doubt;       /* what the file will say is not known: we end */
    pthread_t reseeder;  /* gives up the state for a seed */
    bool has_reseeder;   /* to be joined */
    bool reseeds;        /* it runs */
    pthread_mutex_t lock;
};

/* All with `lock` held. */

/* Replace the file and then node->file; untouched on failure.  ERR_IO after the
 * file got its new name and that could not be synced: nobody knows which one
 * the next start reads, so the instance ends (on_fatal), and all that is asked
 * of it until then is answered with ERR_IO. */
MUST_CHECK enum errcode
node_save(struct node *node, const struct nodefile *next, struct error *err);
/* ERR_IO: see node_save(). */
MUST_CHECK enum errcode
node_check_doubt(const struct node *node, struct error *err);
/* The only writer of the role: durable, then obeyed, then told. */
MUST_CHECK enum errcode
node_move(struct node *node, const struct nodefile *next, struct error *err);
MUST_CHECK enum errcode
node_promote(struct node *node, uint32_t uid_headroom, const char *reason,
             struct error *err);
MUST_CHECK enum errcode
node_depose(struct node *node, epoch_t epoch, lsn_t fork, uint64_t chain,
            const char *who, struct error *err);
bool
node_fence_is_up(const struct node *node);
/* Remove the shutdown file and let the writer see it. */
MUST_CHECK enum errcode
node_lower_fence(struct node *node, struct error *err);
/* Open the store that the file names. */
MUST_CHECK enum errcode
node_open_store(struct node *node, struct store_opened *ret_found,
                struct error *err);

/* failover/rejoin.c */

/* Our master lets go of what we would need to follow it: be seeded anew, and
 * keep the bodies.  Answers at once; a thread does it.  ERR_AGAIN (it runs
 * already), ERR_READONLY (not a replica). */
MUST_CHECK enum errcode
node_reseed(struct node *node, struct error *err);
/* The file DIR/reseed says that it was begun: do it, before the store is
 * opened. */
MUST_CHECK enum errcode
node_obey_reseed(struct node *node, struct error *err);
/* The file DIR/rejoin says that one was begun, or asked for while nothing ran:
 * do it, before the store is opened.  The path of what was set aside, if
 * anything was, is appended to RET_PATH. */
MUST_CHECK enum errcode
node_obey_rejoin(struct node *node, struct buf *ret_path, struct error *err);
/* Write DIR/rejoin, close the store, obey, open it again.  A failure before
 * the store is closed leaves all as it was; after one later the instance ends
 * (on_fatal), and its next start goes on. */
MUST_CHECK enum errcode
node_empty(struct node *node, struct buf *ret_path, struct error *err);

/* failover/verbs.c */
enum errcode
node_verb(void *ctx, struct span verb, const struct dlist *args,
          struct buf *out, struct error *err);
void
node_fill_status(struct node *node, struct arena *a, struct logstatus *ret);

/*
 * failover/export.c: what lies behind FORK goes to a folder of its own, whose
 * path is appended to RET_PATH; one that is there already is not made again.
 * *RET_RECORDS counts its records (0: nothing was there) and *RET_MESSAGES the
 * messages, less those that were purged since.
 * Errors: ERR_AGAIN (the state has not got all that the log has, for lack of
 * room), ERR_NOSPACE, ERR_IO, ERR_CORRUPT, ERR_NOTFOUND (a message has no body
 * any more and is not purged), ERR_LIMIT (the index of before is too large).
 */
MUST_CHECK enum errcode
node_export(struct node *node, lsn_t fork, uint64_t *ret_records,
            uint64_t *ret_messages, struct buf *ret_path, struct error *err);

#endif
