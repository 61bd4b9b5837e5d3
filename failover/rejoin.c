/*
 * failover/rejoin.c - an instance gives up its store and waits for a seed.
 *
 * Nothing is deleted: log, state and packs are moved into directories whose
 * names say when and of which epoch.  The file DIR/rejoin says that it is to be
 * done: the control socket writes it and obeys at once (failover/verbs.c); for
 * an instance that cannot start any more 'ctl_failover rejoin' writes it, and
 * the next start obeys.  It goes when all is done, so a crash between two steps
 * is followed by the rest of them: a log set aside without its state, or the
 * other way about, would not open.
 *
 * A replica whose master does not keep the log for it any more has nothing that
 * its master has not: it gives up state and log only and keeps its bodies
 * (node_reseed(), DIR/reseed).
 */
#include <stdio.h>
#include <stdlib.h>

#include "failover/node_private.h"
#include "store/history.h"
#include "store/seed.h"

/* Is the file PATH there, which says what was begun?  ERR_IO: nobody knows. */
static enum errcode
is_begun(const struct node *node, const char *path, bool *ret,
         struct error *err)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    enum errcode rc = env_read_file(node->env, path, 4096, &text, err);
    *ret = rc != ERR_NOTFOUND;
    return rc == ERR_NOTFOUND || rc == ERR_LIMIT ? ERR_OK : rc;
}

/* Beside no open store.  NEXT becomes what an instance is that waits for a
 * seed. */
static enum errcode
set_aside(struct node *node, struct nodefile *next, struct buf *ret_path,
          struct error *err)
{
    static const char *const parts[] = {"synclog", "state"};
    AUTO(buf_free) struct buf from = BUF_INIT;
    AUTO(buf_free) struct buf to = BUF_INIT;

    buf_addf(ret_path, "%s/discarded-%" PRI_EPOCH "-%" PRIu64, node->dir,
             node->file.epoch, env_wall_us(node->env));
    enum errcode rc = env_mkdirs(node->env, buf_cstr(ret_path), err);
    for (size_t i = 0; rc == ERR_OK && i < ARRAY_LEN(parts); i++) {
        buf_clear(&from);
        buf_clear(&to);
        buf_addf(&from, "%s/%s", node->dir, parts[i]);
        buf_addf(&to, "%s/%s", buf_cstr(ret_path), parts[i]);
        rc = env_rename(node->env, buf_cstr(&from), buf_cstr(&to), err);
        if (rc == ERR_NOTFOUND) /* it may have been done already */
            rc = ERR_OK;
    }
    if (rc == ERR_OK)
        rc = env_syncdir(node->env, node->dir, err);
    const char *name = strrchr(buf_cstr(ret_path), '/') + 1;
    if (rc == ERR_OK)
        rc = store_set_packs_aside(node->env, &node->cfg.store, name, err);

    /* From here on the role says that nothing may be served as ours. */
    memset(&next->cluster, 0, sizeof(next->cluster));
    next->role = ROLE_REPLICA;
    next->fork_lsn = 0;
    next->fork_chain = 0;
    next->seed_wanted = true;
    snprintf(next->why, sizeof(next->why),
             "rejoined: empty, waits for its master to seed it");
    return rc;
}

enum errcode
node_obey_rejoin(struct node *node, struct buf *ret_path, struct error *err)
{
    AUTO(xfree) char *path = xasprintf("%s/rejoin", node->dir);
    struct nodefile next = node->file;

    bool begun;

    enum errcode rc = is_begun(node, path, &begun, err);
    if (rc != ERR_OK || !begun)
        return rc;
    rc = set_aside(node, &next, ret_path, err);
    if (rc == ERR_OK)
        rc = node_save(node, &next, err);
    if (rc == ERR_OK)
        rc = env_unlink(node->env, path, err);
    if (rc == ERR_OK)
        rc = env_syncdir(node->env, node->dir, err);
    if (rc != ERR_OK)
        return error_prefix(err, "rejoin");
    log_notice(NULL, "failover.rejoin", "old_store=\"%s\"", buf_cstr(ret_path));
    return ERR_OK;
}

/* The store is closed.  A failure is the end: what is left of it must not be
 * opened before the next start has done the rest. */
static enum errcode
open_after(struct node *node, enum errcode rc, struct error *err)
{
    struct store_opened found;

    if (rc == ERR_OK)
        rc = node_open_store(node, &found, err);
    if (rc != ERR_OK && node->hooks.on_fatal != NULL)
        node->hooks.on_fatal(node->hooks.ctx, err);
    return rc;
}

enum errcode
node_empty(struct node *node, struct buf *ret_path, struct error *err)
{
    AUTO(xfree) char *path = xasprintf("%s/rejoin", node->dir);

    enum errcode rc = env_write_file_atomic(
        node->env, path, SPAN_LIT("asked for at the control socket\n"), err);
    if (rc != ERR_OK) {
        (void)!env_unlink(node->env, path, NULL);
        return rc;
    }
    store_close(&node->store);
    return open_after(node, node_obey_rejoin(node, ret_path, err), err);
}

enum errcode
node_ask_rejoin(struct env *env, const char *dir, epoch_t twin_epoch,
                bool force, struct error *err)
{
    AUTO(xfree) char *node_path = xasprintf("%s/node", dir);
    AUTO(xfree) char *path = xasprintf("%s/rejoin", dir);
    struct nodefile file = {0};

    enum errcode rc = nodefile_read(env, node_path, &file, err);
    if (rc == ERR_OK && file.role == ROLE_MASTER && twin_epoch <= file.epoch &&
        !force)
        return error_set(err, ERR_CONFLICT,
                         "this instance is the master of epoch %" PRI_EPOCH
                         ": promote the twin first",
                         file.epoch);
    if (rc == ERR_NOTFOUND)
        return error_prefix(err, "there is no instance here");
    if (rc == ERR_CORRUPT) { /* who it was is not known: a new one */
        memset(&file, 0, sizeof(file));
        file.role = ROLE_REPLICA;
        file.epoch = twin_epoch;
        env_random(env, file.instance.b, sizeof(file.instance.b));
        snprintf(file.why, sizeof(file.why), "to rejoin at its next start");
        rc = nodefile_write(env, node_path, &file, err);
    }
    if (rc == ERR_OK)
        rc = env_write_file_atomic(env, path, SPAN_LIT("ctl_failover rejoin\n"),
                                   err);
    return rc;
}

/* ---- beyond the cap ---------------------------------------------------- */

enum errcode
node_obey_reseed(struct node *node, struct error *err)
{
    AUTO(xfree) char *path = xasprintf("%s/reseed", node->dir);
    AUTO(xfree)
    char *aside = xasprintf("%s/discarded-log-%" PRIu64, node->dir,
                            env_wall_us(node->env));
    struct nodefile next = node->file;
    uint64_t kept = 0;
    uint64_t dropped = 0;

    bool begun;

    enum errcode rc = is_begun(node, path, &begun, err);
    if (rc != ERR_OK || !begun)
        return rc;
    next.seed_wanted = true;
    snprintf(next.why, sizeof(next.why),
             "its master's log has moved on: waits to be seeded");
    rc = node_save(node, &next, err);
    if (rc == ERR_OK)
        rc = store_make_seedable(node->env, &node->cfg.store, aside, &kept,
                                 &dropped, err);
    if (rc == ERR_OK)
        rc = env_unlink(node->env, path, err);
    if (rc == ERR_OK)
        rc = env_syncdir(node->env, node->dir, err);
    if (rc == ERR_OK)
        log_notice(NULL, "failover.reseed",
                   "kept=%" PRIu64 " bodies dropped=%" PRIu64 " old_log=\"%s\"",
                   kept, dropped, aside);
    return rc;
}

static enum errcode
give_up_state(struct node *node, struct error *err)
{
    AUTO(xfree) char *path = xasprintf("%s/reseed", node->dir);

    /* What the seed will not have any more may be in the log alone. */
    enum errcode rc = store_history_pack(node->store, err);
    if (rc == ERR_OK)
        rc = env_write_file_atomic(node->env, path,
                                   SPAN_LIT("the master asked for it\n"), err);
    if (rc != ERR_OK)
        return rc;
    store_close(&node->store);
    return open_after(node, node_obey_reseed(node, err), err);
}

static void *
reseed_main(void *ctx)
{
    struct node *node = ctx;
    struct error err = {0};
    enum errcode rc = ERR_OK;

    if (node->hooks.close_sessions != NULL)
        node->hooks.close_sessions(node->hooks.ctx);
    pthread_mutex_lock(&node->lock);
    if (node->file.role == ROLE_REPLICA)
        rc = give_up_state(node, &err);
    if (node->store != NULL && node->hooks.reopened != NULL)
        node->hooks.reopened(node->hooks.ctx);
    node->reseeds = false;
    pthread_mutex_unlock(&node->lock);
    if (rc != ERR_OK)
        log_error(NULL, "failover.reseed", "why=\"%s\"", err.text);
    return NULL;
}

enum errcode
node_reseed(struct node *node, struct error *err)
{
    if (node->file.role != ROLE_REPLICA)
        return error_set(err, ERR_READONLY, "this instance is %s, no replica",
                         role_name(node->file.role));
    if (node->reseeds)
        return error_set(err, ERR_AGAIN, "it gives up its state already");
    if (node->has_reseeder)
        pthread_join(node->reseeder, NULL);
    node->has_reseeder = false;
    if (pthread_create(&node->reseeder, NULL, reseed_main, node) != 0)
        return error_set(err, ERR_IO, "no thread for a reseed");
    node->has_reseeder = true;
    node->reseeds = true;
    return ERR_OK;
}
