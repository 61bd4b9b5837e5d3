/*
 * admin/admin.c - the verbs, and who may be asked for which.
 *
 * What changes nothing is answered by any instance.  What changes something is
 * refused up front where it could only fail later: the reason then stands in
 * one sentence and not behind an hour of reading.  The store's writer checks
 * each transaction all the same.
 */
#include "admin/admin.h"

#include "admin/ask.h"
#include "base/log.h"

static const struct {
    const char *verb;
    enum errcode (*run)(struct ask *ask, struct error *err);
    bool changes;
} verbs[] = {
    {"RECOVER", admin_recover, false},
    {"CHECKPOINT", admin_checkpoint, false},
    {"MAILBOXES", admin_mailboxes, false},
    {"VERIFY", admin_verify, false},
    {"LOAD", admin_load, true},
    {"REMOVE", admin_remove, true},
    {"PATH", admin_path, false},
    {"EXAMINE", admin_examine, false},
    {"RECONSTRUCT", admin_reconstruct, false},
    {"EXPUNGED", admin_expunged, false},
    {"UNEXPUNGE", admin_unexpunge, true},
    {"QUOTA", admin_quota, false},
    {"QUOTAFIX", admin_quota_fix, true},
    {"EXPIRE", admin_expire, true},
    {"DELIVERIES", admin_deliveries, false},
    {"ARCHIVE", admin_archive, false},
    {"INDEX", admin_index, false},
    {"BACKUP", admin_backup, false},
    {"EXPORT", admin_export, false},
    {"IMPORT", admin_import, true},
    {"HISTORY", admin_history, false},
    {"HISTORYDROP", admin_history_drop, false},
    {"HISTORYBODY", admin_history_body, false},
    {"HISTORYEXPORT", admin_history_export, false},
};

static enum errcode
may_change(struct ask *ask, struct error *err)
{
    const char *fence = config_string(ask->cfg, "sync_shutdown_file");

    switch (store_role(ask->store)) {
    case ROLE_REPLICA:
        return error_set(err, ERR_READONLY,
                         "this instance is a replica: ask its master, from "
                         "which every change comes here");
    case ROLE_FENCED:
        return error_set(err, ERR_FENCED,
                         "this instance was deposed and changes nothing any "
                         "more: see 'ctl_failover status'");
    case ROLE_MASTER:
        break;
    }
    if (store_check_fence(ask->store))
        return error_set(err, ERR_FENCED,
                         "the fence is up (%s): nothing is "
                         "changed while it is there",
                         fence);
    return ERR_OK;
}

static void
ask_init(struct ask *ask, const struct admin_host *host,
         const struct dlist *args, const struct csync_answer *answer)
{
    *ask = (struct ask){
        .host = host,
        .env = host->env,
        .cfg = host->cfg,
        .store = node_store(host->node),
        .args = args,
        .answer = answer,
        .ns = {.sep = config_switch(host->cfg, "unixhierarchysep") ? '/' : '.',
               .alt = config_switch(host->cfg, "altnamespace"),
               .user_prefix = config_string(host->cfg, "userprefix"),
               .shared_prefix = config_string(host->cfg, "sharedprefix")},
        .told_ns = env_mono_ns(host->env),
    };
}

enum errcode
admin_run(const struct admin_host *host, struct span verb,
          const struct dlist *args, const struct csync_answer *answer,
          struct error *err)
{
    struct ask ask;
    enum errcode rc = ERR_OK;

    if (args != NULL && args->type != DLIST_KVLIST)
        args = NULL;
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (!span_eq_nocase_str(verb, verbs[i].verb))
            continue;
        ask_init(&ask, host, args, answer);
        if (verbs[i].changes && !ask_flag(&ask, "DRY"))
            rc = may_change(&ask, err);
        if (rc == ERR_OK)
            rc = verbs[i].run(&ask, err);
        buf_free(&ask.line);
        arena_free(&ask.arena);
        return rc;
    }
    return error_set(err, ERR_PROTO, "this version does not know how to %.*s",
                     SPAN_FMT(span_sub(verb, 0, 40)));
}

static enum errcode
run(void *ctx, struct span verb, const struct dlist *args,
    const struct csync_answer *answer, struct error *err)
{
    enum errcode rc = admin_run(ctx, verb, args, answer, err);

    log_info(NULL, "admin.request", "verb=%.*s code=%s", SPAN_FMT(verb),
             errcode_name(rc));
    return rc;
}

void
admin_csync(struct admin_host *host, struct csync_admin *ret)
{
    *ret = (struct csync_admin){.ctx = host, .run = run};
}
