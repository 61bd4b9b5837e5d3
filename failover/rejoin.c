/*
 * failover/rejoin.c - an instance gives up its store and waits for a seed.
 *
 * Nothing is deleted: log, state and packs are moved into directories whose
 * names say when and of which epoch.  While the instance runs the control
 * socket asks for it (failover/verbs.c); one that cannot start any more is told
 * by the file DIR/rejoin, which 'ctl_failover rejoin' writes and the next start
 * obeys.
 */
#include <stdio.h>
#include <stdlib.h>

#include "failover/node_private.h"

enum errcode
node_set_aside(struct node *node, struct nodefile *next, struct buf *ret_path,
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
        if (env_exists(node->env, buf_cstr(&from)))
            rc = env_rename(node->env, buf_cstr(&from), buf_cstr(&to), err);
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
node_obey_rejoin(struct node *node, struct error *err)
{
    AUTO(xfree) char *path = xasprintf("%s/rejoin", node->dir);
    AUTO(buf_free) struct buf aside = BUF_INIT;
    struct nodefile next = node->file;

    if (!env_exists(node->env, path))
        return ERR_OK;
    enum errcode rc = node_set_aside(node, &next, &aside, err);
    if (rc == ERR_OK)
        rc = node_save(node, &next, err);
    if (rc == ERR_OK)
        rc = env_unlink(node->env, path, err);
    if (rc == ERR_OK)
        rc = env_syncdir(node->env, node->dir, err);
    if (rc != ERR_OK)
        return error_prefix(err, "rejoin");
    log_notice(NULL, "failover.rejoin", "old_store=\"%s\"", buf_cstr(&aside));
    return ERR_OK;
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
