/*
 * failover/node.c - an instance's role: kept, changed, and asked about.
 *
 * Every change goes the same way: the node file first (durable), then the
 * store's writer (obeys), then whoever wants to know.  So after a crash at any
 * point the file says what may at most have been done, and opening finishes it:
 * a MASTER whose log lacks the record of its epoch writes it then.
 */
#include "failover/node.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "failover/node_private.h"
#include "net/reactor.h"
#include "store/seed.h"

#define TO(role) (1U << ROLE_##role)

static const struct {
    const char *name;
    unsigned next; /* the roles that may follow */
} roles[] = {
    [ROLE_REPLICA] = {"replica", TO(REPLICA) | TO(MASTER) | TO(FENCED)},
    [ROLE_MASTER] = {"master", TO(MASTER) | TO(REPLICA) | TO(FENCED)},
    [ROLE_FENCED] = {"fenced", TO(FENCED) | TO(REPLICA) | TO(MASTER)},
};

static void
set_why(struct nodefile *n, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void
set_why(struct nodefile *n, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(n->why, sizeof(n->why), fmt, args);
    va_end(args);
}

/* ---- changing ---------------------------------------------------------- */

/* Does the file still say what it said before a failed write? */
static bool
file_is_old(struct node *node)
{
    AUTO(buf_free) struct buf old = BUF_INIT;
    AUTO(buf_free) struct buf now = BUF_INIT;

    nodefile_encode(&node->file, &old);
    return env_read_file(node->env, node->path, NODEFILE_BYTES_MAX, &now,
                         NULL) == ERR_OK &&
           span_eq(buf_span(&now), buf_span(&old));
}

enum errcode
node_check_doubt(const struct node *node, struct error *err)
{
    if (!node->in_doubt)
        return ERR_OK;
    return error_set(err, ERR_IO,
                     "what %s will say after a restart is not known: this "
                     "instance ends",
                     node->path);
}

enum errcode
node_save(struct node *node, const struct nodefile *next, struct error *err)
{
    enum errcode rc = node_check_doubt(node, err);
    if (rc != ERR_OK)
        return rc;
    rc = nodefile_write(node->env, node->path, next, err);
    if (rc == ERR_OK) {
        node->file = *next;
        return ERR_OK;
    }
    if (node->store == NULL || file_is_old(node))
        return rc;
    /* The next start might be a master that nobody here knows of: no twin may
     * be told that nothing has changed. */
    node->in_doubt = true;
    rc = error_prefix(err,
                      "%s was replaced, and may be the old one again after a "
                      "power cut; the next start obeys what it finds",
                      node->path);
    if (node->hooks.on_fatal != NULL)
        node->hooks.on_fatal(node->hooks.ctx, err);
    return rc;
}

enum errcode
node_move(struct node *node, const struct nodefile *next, struct error *err)
{
    struct nodefile old = node->file;

    ENSURE((roles[old.role].next & (1U << next->role)) != 0);
    ENSURE(next->epoch >= old.epoch || old.role == ROLE_MASTER);
    enum errcode rc = node_save(node, next, err);
    if (rc != ERR_OK)
        return rc;
    store_set_role(node->store, next->role, next->epoch);
    if (old.role != next->role || old.epoch != next->epoch)
        log_notice(NULL, "failover.role",
                   "from=%s to=%s epoch=%" PRI_EPOCH " why=\"%s\"",
                   roles[old.role].name, roles[next->role].name, next->epoch,
                   next->why);
    if (old.role != next->role && node->hooks.on_role != NULL)
        node->hooks.on_role(node->hooks.ctx, next->role);
    return ERR_OK;
}

bool
node_fence_is_up(const struct node *node)
{
    return node->fence_path != NULL &&
           env_may_exist(node->env, node->fence_path);
}

enum errcode
node_lower_fence(struct node *node, struct error *err)
{
    enum errcode rc = env_unlink(node->env, node->fence_path, err);

    if (rc == ERR_OK) {
        char *dir = xstrdup(node->fence_path);
        char *slash = strrchr(dir, '/');
        if (slash != NULL) {
            *slash = '\0';
            rc = env_syncdir(node->env, dir, err);
        }
        free(dir);
    }
    node->swapping = false;
    store_hold(node->store, 0);
    (void)store_check_fence(node->store);
    return rc;
}

/* A fence that a swap put up, and that the swap's end takes down again. */
static bool
fence_is_of_swap(struct node *node)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error ignored = {0};

    return node_fence_is_up(node) &&
           env_read_file(node->env, node->fence_path, 4096, &text, &ignored) ==
               ERR_OK &&
           (span_starts(buf_span(&text), SPAN_LIT("swap")) ||
            span_starts(buf_span(&text), SPAN_LIT("handover")));
}

/* A cluster of our own, for the first promotion of all. */
static enum errcode
found_cluster(struct node *node, struct nodefile *next, struct error *err)
{
    env_random(node->env, next->cluster.b, sizeof(next->cluster.b));
    return store_join_cluster(node->store, &next->cluster, err);
}

enum errcode
node_promote(struct node *node, uint32_t uid_headroom, const char *reason,
             struct error *err)
{
    struct nodefile next = node->file;
    enum errcode rc = ERR_OK;

    if (node_fence_is_up(node))
        return error_set(err, ERR_FENCED,
                         "the fence is up here (%s): lower it with "
                         "'ctl_failover unfence' first",
                         node->fence_path);
    if (next.epoch >= EPOCH_MAX)
        return error_set(err, ERR_LIMIT, "there are no epochs left");
    if (instid_none(&next.cluster)) {
        uid_headroom = 0;
        reason = "first start";
        rc = found_cluster(node, &next, err);
        if (rc != ERR_OK)
            return rc;
    }
    next.role = ROLE_MASTER;
    next.epoch++;
    next.uid_headroom = uid_headroom;
    next.fork_lsn = 0;
    next.fork_chain = 0;
    next.seed_wanted = false;
    set_why(&next, "promoted: %s", reason);
    struct nodefile before = node->file;
    store_plan_epoch(node->store, next.epoch, uid_headroom, reason, false);
    rc = node_move(node, &next, err);
    if (rc != ERR_OK) {
        store_plan_epoch(node->store, 0, 0, "", false);
        return rc;
    }
    rc = store_begin_epoch(node->store, next.epoch, uid_headroom, reason, err);
    if (rc == ERR_OK)
        return ERR_OK;

    /* The role is given back, and the epoch too if it is sure that no record of
     * it was written: a higher one would depose a master that does well.  If
     * they cannot be, this stays the master, here as after a restart. */
    struct error ignored = {0};
    if (rc != ERR_NOSPACE)
        before.epoch = node->file.epoch;
    before.cluster = node->file.cluster;
    const bool is_back = node_move(node, &before, &ignored) == ERR_OK;
    if (!is_back) {
        log_error(NULL, "failover.role", "why=\"%s\"", ignored.text);
        /* For who asks it is as if no answer had come: the twin goes on only
         * when it has been told that this one is no master. */
        (void)error_prefix(err, "this instance is the master all the same");
        rc = err->code = ERR_IO;
    }
    store_plan_epoch(node->store, is_back ? 0 : next.epoch, uid_headroom,
                     reason, true);
    return rc;
}

enum errcode
node_depose(struct node *node, epoch_t epoch, lsn_t fork, uint64_t chain,
            const char *who, struct error *err)
{
    struct nodefile next = node->file;
    struct store_log_view log;

    if (epoch < next.epoch ||
        (epoch == next.epoch && !(next.role == ROLE_FENCED && fork > 0)))
        return ERR_OK; /* nothing new */
    if (next.role == ROLE_REPLICA) {
        next.epoch = epoch;
        return node_move(node, &next, err);
    }
    next.epoch = epoch;
    next.fork_lsn = fork;
    next.fork_chain = chain;
    node->token = 0; /* no handover promotes who is fenced (ctl.c) */
    next.role = ROLE_FENCED;
    set_why(&next,
            "deposed: %s is at epoch %" PRI_EPOCH
            "; run 'ctl_failover rejoin' here",
            who, epoch);
    /* Nothing is taken any more before the log's end is looked at. */
    enum errcode rc = node_move(node, &next, err);
    if (rc != ERR_OK || fork == 0)
        return rc;
    (void)store_check_fence(node->store);
    store_log_view(node->store, &log);
    if (log.durable.lsn == fork && log.chain == chain) {
        next.role = ROLE_REPLICA;
        next.fork_lsn = 0;
        next.fork_chain = 0;
        set_why(&next,
                "%s was promoted at our last record: nothing is left "
                "behind",
                who);
        rc = node_move(node, &next, err);
        if (rc == ERR_OK && fence_is_of_swap(node))
            rc = node_lower_fence(node, err);
    }
    return rc;
}

/* ---- what a peer may ask ----------------------------------------------- */

static struct store *
instance_store(void *ctx)
{
    return node_store(ctx);
}

static void
instance_status(void *ctx, struct arena *a, struct logstatus *ret)
{
    struct node *node = ctx;

    pthread_mutex_lock(&node->lock);
    node_fill_status(node, a, ret);
    pthread_mutex_unlock(&node->lock);
}

static enum errcode
follow_as_replica(struct node *node, const struct instid *cluster,
                  epoch_t epoch, struct error *err)
{
    struct nodefile next = node->file;
    enum errcode rc = ERR_OK;

    if (epoch < next.epoch)
        return error_set(err, ERR_FENCED,
                         "epoch %" PRI_EPOCH " is over: this replica knows of "
                         "epoch %" PRI_EPOCH,
                         epoch, next.epoch);
    if (instid_none(&next.cluster)) {
        next.cluster = *cluster;
        rc = store_join_cluster(node->store, cluster, err);
    } else if (!instid_eq(&next.cluster, cluster)) {
        return error_set(err, ERR_HISTORY,
                         "this replica belongs to another cluster; empty it "
                         "with 'ctl_failover rejoin' if it is to join yours");
    }
    next.epoch = epoch;
    if (next.seed_wanted && !store_is_empty(node->store))
        next.seed_wanted = false;
    if (rc == ERR_OK && memcmp(&next, &node->file, sizeof(next)) != 0) {
        set_why(&next, "follows its master in epoch %" PRI_EPOCH, epoch);
        rc = node_move(node, &next, err);
    }
    return rc;
}

static enum errcode
instance_follow(void *ctx, const struct instid *cluster,
                const struct instid *instance, epoch_t epoch, struct error *err)
{
    struct node *node = ctx;

    pthread_mutex_lock(&node->lock);
    enum errcode rc = node_check_doubt(node, err);
    if (rc != ERR_OK) {
        /* said */
    } else if (instid_eq(instance, &node->file.instance)) {
        rc = error_set(err, ERR_CONFLICT,
                       "that is this instance itself: sync_host names it");
    } else if (node->file.role == ROLE_REPLICA) {
        rc = follow_as_replica(node, cluster, epoch, err);
    } else if (!instid_eq(&node->file.cluster, cluster)) {
        rc = error_set(err, ERR_HISTORY,
                       "this instance belongs to another cluster");
    } else if (node->swapping && epoch == node->file.epoch + 1) {
        rc = error_set(err, ERR_AGAIN, "handing over: in a moment");
    } else {
        if (epoch > node->file.epoch)
            rc = node_depose(node, epoch, 0, 0, "the twin", err);
        if (rc == ERR_OK)
            rc = error_set(err, ERR_FENCED,
                           "this instance is %s at epoch %" PRI_EPOCH
                           " and follows nobody: %s",
                           role_name(node->file.role), node->file.epoch,
                           node->file.why);
    }
    pthread_mutex_unlock(&node->lock);
    return rc;
}

static enum errcode
instance_reseed(void *ctx, struct error *err)
{
    struct node *node = ctx;

    pthread_mutex_lock(&node->lock);
    enum errcode rc = node_check_doubt(node, err);
    if (rc == ERR_OK)
        rc = node_reseed(node, err);
    pthread_mutex_unlock(&node->lock);
    return rc;
}

static enum errcode
instance_prepare(void *ctx, epoch_t epoch, uint64_t *ret_token,
                 struct error *err)
{
    struct node *node = ctx;

    pthread_mutex_lock(&node->lock);
    enum errcode rc = node_check_doubt(node, err);
    if (rc != ERR_OK) {
        /* said */
    } else if (node->file.role != ROLE_REPLICA) {
        rc = error_set(err, ERR_READONLY, "this instance is %s, not a replica",
                       role_name(node->file.role));
    } else if (epoch != node->file.epoch + 1) {
        rc = error_set(err, ERR_FENCED,
                       "epoch %" PRI_EPOCH " does not follow %" PRI_EPOCH,
                       epoch, node->file.epoch);
    } else if (node_fence_is_up(node)) {
        rc = error_set(err, ERR_FENCED, "the fence is up here (%s)",
                       node->fence_path);
    } else {
        do
            env_random(node->env, &node->token, sizeof(node->token));
        while (node->token == 0);
        node->token_epoch = epoch;
        *ret_token = node->token;
    }
    pthread_mutex_unlock(&node->lock);
    return rc;
}

static enum errcode
check_handover(struct node *node, uint64_t token, epoch_t epoch,
               const struct store_pos *at, struct error *err)
{
    struct store_pos pos = store_pos(node->store);

    if (token == 0 || token != node->token || epoch != node->token_epoch)
        return error_set(err, ERR_CONFLICT,
                         "this handover was not prepared, or was called off");
    if (node->file.role != ROLE_REPLICA)
        return error_set(err, ERR_READONLY, "not a replica any more");
    if (pos.applied.lsn != at->applied.lsn)
        return error_set(err, ERR_GAP,
                         "this replica is at %" PRI_LSN ", not at %" PRI_LSN,
                         pos.applied.lsn, at->applied.lsn);
    if (pos.chain != at->chain || pos.digest != at->digest)
        return error_set(
            err, ERR_HISTORY,
            "at %" PRI_LSN " chain and digest here are %016" PRIx64
            " and %016" PRIx64 ", the master's %016" PRIx64 " and %016" PRIx64,
            pos.applied.lsn, pos.chain, pos.digest, at->chain, at->digest);
    return ERR_OK;
}

static enum errcode
instance_handover(void *ctx, uint64_t token, epoch_t epoch,
                  const struct store_pos *at, struct error *err)
{
    struct node *node = ctx;

    pthread_mutex_lock(&node->lock);
    enum errcode rc = node_check_doubt(node, err);
    if (rc == ERR_OK)
        rc = check_handover(node, token, epoch, at, err);
    if (rc == ERR_OK) {
        node->token = 0;
        rc = node_promote(node, 0, "swap", err);
        if (rc == ERR_OK)
            node->used_token = token;
    }
    pthread_mutex_unlock(&node->lock);
    return rc;
}

static enum errcode
instance_cancel(void *ctx, uint64_t token, struct error *err)
{
    struct node *node = ctx;

    pthread_mutex_lock(&node->lock);
    enum errcode rc = node_check_doubt(node, err);
    if (rc == ERR_OK && token != 0 && token == node->used_token)
        rc = error_set(err, ERR_CONFLICT,
                       "too late: that handover has promoted this instance");
    else if (rc == ERR_OK && token == node->token)
        node->token = 0;
    pthread_mutex_unlock(&node->lock);
    return rc;
}

void
node_csync_instance(struct node *node, struct csync_instance *ret)
{
    *ret = (struct csync_instance){
        .ctx = node,
        .store = instance_store,
        .status = instance_status,
        .follow = instance_follow,
        .reseed = instance_reseed,
        .prepare = instance_prepare,
        .handover = instance_handover,
        .cancel = instance_cancel,
        .node = node_verb,
    };
}

enum errcode
node_heard(struct node *node, const struct logstatus *peer, struct error *err)
{
    AUTO(arena_free) struct arena arena = ARENA_INIT;
    lsn_t fork = 0;
    uint64_t chain = 0;

    pthread_mutex_lock(&node->lock);
    enum errcode rc = node_check_doubt(node, err);
    if (rc == ERR_OK && instid_eq(&peer->cluster, &node->file.cluster) &&
        peer->epoch > node->file.epoch) {
        struct logstatus own;
        node_fill_status(node, &arena, &own);
        (void)!logstatus_fork(&own, peer, &fork, &chain);
        rc = node_depose(node, peer->epoch, fork, chain, peer->servername, err);
    }
    pthread_mutex_unlock(&node->lock);
    return rc;
}

/* ---- opening ----------------------------------------------------------- */

static void
on_store_fatal(void *ctx, const struct error *err)
{
    struct node *node = ctx;

    if (node->hooks.on_fatal != NULL)
        node->hooks.on_fatal(node->hooks.ctx, err);
}

/* A commit group wakes each reactor once. */
static void
on_store_answers(void *ctx, bool begins)
{
    (void)ctx;
    if (begins)
        reactor_gather_begin();
    else
        reactor_gather_end();
}

enum errcode
node_open_store(struct node *node, struct store_opened *ret_found,
                struct error *err)
{
    struct store_config cfg = node->cfg.store;
    struct store_hooks hooks = {.ctx = node,
                                .on_fatal = on_store_fatal,
                                .on_answers = on_store_answers};

    cfg.cluster = node->file.cluster;
    cfg.instance = node->file.instance;
    enum errcode rc =
        store_open(node->env, &cfg, &hooks, &node->store, ret_found, err);
    if (rc == ERR_OK)
        store_set_role(node->store, node->file.role, node->file.epoch);
    return rc;
}

static enum errcode
new_instance(struct node *node, struct error *err)
{
    struct nodefile n = {.role = ROLE_REPLICA};

    env_random(node->env, n.instance.b, sizeof(n.instance.b));
    if (node->cfg.has_twin)
        set_why(&n, "new: run 'ctl_failover promote' on the twin that is to be "
                    "the master");
    else
        set_why(&n, "new");
    return node_save(node, &n, err);
}

/* The newest epoch that the log knows of, or 0. */
static enum errcode
newest_epoch(struct node *node, epoch_t *ret, struct error *err)
{
    struct store_snap *snap = store_snapshot(node->store);
    const struct epoch_entry *epochs = NULL;
    struct arena a = ARENA_INIT;
    size_t n = 0;

    enum errcode rc = snap_epochs(snap, &a, &epochs, &n, err);
    if (rc == ERR_OK)
        *ret = n == 0 ? 0 : epochs[n - 1].epoch;
    arena_free(&a);
    store_release(&snap);
    return rc;
}

/* Finish what a crash left half done, and start where nobody has yet. */
static enum errcode
finish_opening(struct node *node, bool is_new, struct error *err)
{
    epoch_t epoch = 0;

    if (is_new && !node->cfg.has_twin)
        return node_promote(node, 0, "first start", err);
    enum errcode rc = newest_epoch(node, &epoch, err);
    if (rc != ERR_OK)
        return rc;
    if (epoch > node->file.epoch)
        return error_set(err, ERR_CORRUPT,
                         "%s says epoch %" PRI_EPOCH ", the log %" PRI_EPOCH
                         ": the file is not of this store; restore it, or "
                         "reseed this instance",
                         node->path, node->file.epoch, epoch);
    if (node->file.role == ROLE_MASTER && epoch < node->file.epoch) {
        rc = node_fence_is_up(node)
                 ? ERR_FENCED
                 : store_begin_epoch(node->store, node->file.epoch,
                                     node->file.uid_headroom,
                                     "finished at start", err);
        if (rc == ERR_FENCED || rc == ERR_NOSPACE) {
            store_plan_epoch(node->store, node->file.epoch,
                             node->file.uid_headroom, "finished after a start",
                             true);
            rc = ERR_OK; /* it can be read meanwhile */
        }
    }
    return rc;
}

static char *
dup_or_null(const char *s)
{
    return s == NULL ? NULL : xstrdup(s);
}

/* The store may be opened again, long after who opened the node is done. */
static void
copy_partitions(struct node *node, const struct store_config *from)
{
    struct arena *a = &node->arena;
    struct store_partition *v =
        arena_array(a, from->npartitions + 1, sizeof(*v));

    for (size_t i = 0; i < from->npartitions; i++) {
        const struct store_partition *p = &from->partitions[i];
        v[i] = (struct store_partition){
            .name = arena_str(a, span_str(p->name)),
            .path = arena_str(a, span_str(p->path)),
        };
        if (p->archive_path != NULL)
            v[i].archive_path = arena_str(a, span_str(p->archive_path));
    }
    node->cfg.store.partitions = v;
    if (from->default_partition != NULL)
        node->cfg.store.default_partition =
            arena_str(a, span_str(from->default_partition));
}

enum errcode
node_open(struct env *env, const struct node_config *cfg,
          const struct node_hooks *hooks, struct node **ret,
          struct store_opened *ret_found, struct error *err)
{
    struct node *node = xcalloc(1, sizeof(*node));
    AUTO(buf_free) struct buf aside = BUF_INIT;
    bool is_new = false;

    node->env = env;
    node->cfg = *cfg;
    node->hooks = *hooks;
    node->cfg.store.dir = node->dir = xstrdup(cfg->store.dir);
    node->cfg.store.pack_dir = node->pack_dir =
        dup_or_null(cfg->store.pack_dir);
    node->cfg.store.fence_path = node->fence_path =
        dup_or_null(cfg->store.fence_path);
    copy_partitions(node, &cfg->store);
    node->servername = xstrdup(cfg->servername);
    node->path = xasprintf("%s/node", node->dir);
    pthread_mutex_init(&node->lock, NULL);

    enum errcode rc = env_mkdirs(env, node->dir, err);
    if (rc == ERR_OK) {
        rc = nodefile_read(env, node->path, &node->file, err);
        if (rc == ERR_NOTFOUND) {
            is_new = true;
            rc = new_instance(node, err);
        } else if (rc == ERR_OK) {
            /* It may have its name without the directory's sync, if that
             * failed: what is obeyed from here on is durable. */
            rc = env_syncdir(env, node->dir, err);
        }
    }
    if (rc == ERR_CORRUPT)
        (void)error_set(err, ERR_CORRUPT,
                        "%s is damaged, and what this instance may do is not "
                        "known: if the twin is the master, run 'ctl_failover "
                        "rejoin' here",
                        node->path);
    if (rc == ERR_OK)
        rc = node_obey_rejoin(node, &aside, err);
    if (rc == ERR_OK)
        rc = node_obey_reseed(node, err);
    if (rc == ERR_OK)
        rc = node_open_store(node, ret_found, err);
    if (rc == ERR_OK) {
        pthread_mutex_lock(&node->lock);
        rc = finish_opening(node, is_new, err);
        pthread_mutex_unlock(&node->lock);
    }
    if (rc != ERR_OK) {
        node_close(&node);
        return rc;
    }
    *ret = node;
    return ERR_OK;
}

void
node_close(struct node **nodep)
{
    struct node *node = *nodep;

    if (node == NULL)
        return;
    if (node->has_reseeder)
        pthread_join(node->reseeder, NULL);
    store_close(&node->store);
    pthread_mutex_destroy(&node->lock);
    free(node->dir);
    free(node->pack_dir);
    arena_free(&node->arena);
    free(node->fence_path);
    free(node->servername);
    free(node->path);
    free(node);
    *nodep = NULL;
}

struct store *
node_store(const struct node *node)
{
    return node->store;
}

enum role
node_role(const struct node *node)
{
    return store_role(node->store);
}
