/*
 * csync/repair_log.c - the log of an instance that is stopped is mended from
 * its twin ('synclog repair').  The twin is only connected to when something
 * has to be fetched: a damaged heartbeat needs nobody.
 */
#include "csync/repair.h"

#include <stdio.h>

struct borrower {
    const struct config *cfg;
    const struct instid *cluster;
    struct lender *lender;
    const char *host;
};

static enum errcode
fetch(void *ctx, lsn_t after, lsn_t until, uint64_t *ret_chain, struct buf *ret,
      struct error *err)
{
    struct borrower *b = ctx;
    struct csync_target target;
    enum errcode rc = ERR_OK;

    if (b->lender == NULL) {
        rc = csync_target_from_config(b->cfg, NULL, NULL, &target, err);
        if (rc == ERR_OK) {
            b->host = target.host;
            rc = lender_open(&target, b->cfg, b->cluster, &b->lender, err);
        }
        if (rc != ERR_OK)
            return error_prefix(err, "the twin");
    }
    return lender_frames(b->lender, after, until, ret_chain, ret, err);
}

enum errcode
repair_log(struct env *env, const struct config *cfg,
           const struct instid *cluster, const struct instid *instance,
           struct synclog_mended *ret, const char **ret_host, struct error *err)
{
    const char *conf_dir = config_string(cfg, "configdirectory");
    AUTO(xfree) char *dir = xasprintf("%s/synclog", conf_dir);
    AUTO(xfree) char *lock_path = xasprintf("%s/lock", dir);
    AUTO(env_close) struct envfile *lock = NULL;
    struct borrower b = {.cfg = cfg, .cluster = cluster};
    struct store_pos pos = {0};
    struct error ignored;

    *ret = (struct synclog_mended){0};
    *ret_host = NULL;
    enum errcode rc = env_open(env, lock_path, ENV_WRITE, &lock, err);
    if (rc == ERR_OK)
        rc = env_lock(lock, err);
    if (rc == ERR_BUSY)
        return error_set(err, ERR_BUSY,
                         "the instance runs: it repairs by itself what its "
                         "scrubber and its readers find; stop it to have the "
                         "whole log looked at");
    if (rc != ERR_OK)
        return rc;
    /* A state that cannot be read proves nothing. */
    if (store_peek_pos(conf_dir, &pos, &ignored) != ERR_OK)
        pos.applied.lsn = LSN_NONE;
    const struct synclog_mend_options o = {.dir = dir,
                                           .cluster = *cluster,
                                           .instance = *instance,
                                           .proven = pos.applied.lsn,
                                           .fetch = fetch,
                                           .ctx = &b};
    rc = synclog_mend(env, &o, ret, err);
    lender_close(&b.lender);
    *ret_host = b.host;
    return rc;
}
