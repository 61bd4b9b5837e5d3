/*
 * failover/setup.c - a node from imapd.conf, for the instance and for the tools
 * that open the store while none runs.  One place, so that both mean the same
 * store, and so that neither writes in an epoch that is over.
 */
#include "failover/node.h"

#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "csync/client.h"
#include "failover/storage.h"

void
node_servername(const struct config *cfg, char *ret, size_t room)
{
    const char *name = config_string(cfg, "servername");

    if (name != NULL && name[0] != '\0')
        snprintf(ret, room, "%s", name);
    else if (gethostname(ret, room - 1) != 0)
        snprintf(ret, room, "localhost");
    ret[room - 1] = '\0';
}

void
node_config_from(const struct config *cfg, const char *servername,
                 struct arena *a, struct node_config *ret)
{
    const char *twin = config_string(cfg, "sync_host");

    *ret = (struct node_config){
        .store = {.dir = config_string(cfg, "configdirectory"),
                  .fence_path = config_string(cfg, "sync_shutdown_file"),
                  .segment_bytes = config_bytes(cfg, "sync_segment_bytes"),
                  .cache_bytes = config_bytes(cfg, "rocksdb_cache"),
                  .flush_bytes = config_bytes(cfg, "state_flush_bytes"),
                  .apply_delay_us =
                      config_duration_s(cfg, "sync_apply_delay") * 1000000,
                  .keep_history_s = config_duration_s(cfg, "sync_keep_history"),
                  .feeds_others = config_switch(cfg, "sync_log_chain"),
                  .log_cap_bytes = config_bytes(cfg, "sync_log_cap")},
        .servername = servername,
        .has_twin = twin != NULL && twin[0] != '\0',
        .uid_headroom = (uint32_t)config_int(cfg, "promotion_uid_headroom"),
        .swap_hold_ms = config_duration_s(cfg, "swap_hold") * 1000,
        .swap_max_lag = (uint64_t)config_int(cfg, "swap_max_lag"),
    };
    ret->store.acks = (struct store_acks){
        .mode = (enum ack_mode)config_enum(cfg, "sync_ack"),
        .replicas = (unsigned)config_int(cfg, "sync_ack_replicas"),
        .timeout_ms = config_duration_s(cfg, "sync_ack_timeout") * 1000,
        .degrade = config_enum(cfg, "sync_ack_policy") == 1,
    };
    storage_from_config(cfg, a, &ret->store);
}

enum errcode
node_ask_twin(struct node *node, const struct config *cfg, int timeout_ms,
              struct error *err)
{
    AUTO(csync_client_close) struct csync_client *c = NULL;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct csync_target target;
    struct logstatus status;
    struct error why = {0};

    if (node_role(node) != ROLE_MASTER ||
        csync_target_from_config(cfg, NULL, NULL, &target, &why) != ERR_OK)
        return ERR_OK;
    target.timeout_ms = MIN(target.timeout_ms, timeout_ms);
    enum errcode rc = csync_connect(&target, cfg, &c, &why);
    if (rc == ERR_OK)
        rc = csync_log_status(c, &a, &status, &why);
    if (rc == ERR_OK)
        return node_heard(node, &status, err);
    log_warn(NULL, "failover.twin_silent",
             "twin=\"%s\" why=\"%s\" then=\"going on as the master\"",
             target.host, why.text);
    return ERR_OK;
}
