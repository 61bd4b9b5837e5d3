/*
 * admin/store.c - RECOVER and CHECKPOINT: the store as a whole (ctl_cyrusdb).
 *
 * A store recovers when it is opened, by its instance or by the tool, and not
 * otherwise; so RECOVER says what that found.  VERIFY counts everything anew.
 */
#include "admin/ask.h"

enum errcode
admin_recover(struct ask *ask, struct error *err)
{
    const struct store_opened *found = &ask->host->found;
    AUTO(store_release) struct store_snap *snap = store_snapshot(ask->store);
    struct store_pos pos = snap_pos(snap);
    struct store_log_view log;
    bool verify = ask_flag(ask, "VERIFY");
    uint64_t began_ns = env_mono_ns(ask->env);

    store_log_view(ask->store, &log);
    if (verify) {
        enum errcode rc = snap_verify(snap, err);
        if (rc != ERR_OK)
            return rc;
    }
    struct dlist_printer *p = ask_row(ask, "STORE");
    dlist_u64(p, "ROLE", (uint64_t)store_role(ask->store));
    dlist_u64(p, "EPOCH", pos.applied.epoch);
    dlist_u64(p, "LSN", pos.applied.lsn);
    dlist_hex64(p, "CHAIN", pos.chain);
    dlist_hex64(p, "DIGEST", pos.digest);
    dlist_u64(p, "FIRST", log.first_lsn);
    dlist_u64(p, "REPLAYED", found->replayed);
    dlist_u64(p, "TORN", found->log.torn_bytes);
    dlist_u64(p, "SEEDING", log.seeding ? 1 : 0);
    dlist_u64(p, "VERIFIED", verify ? 1 : 0);
    dlist_u64(p, "MS", (env_mono_ns(ask->env) - began_ns) / 1000000);
    return ask_row_end(ask, err);
}

enum errcode
admin_checkpoint(struct ask *ask, struct error *err)
{
    struct store_log_view log;
    uint64_t began_ns = env_mono_ns(ask->env);
    struct store_pos pos = store_pos(ask->store);
    uint64_t log_bytes = synclog_bytes(store_log(ask->store));

    enum errcode rc = store_checkpoint(ask->store, err);
    if (rc != ERR_OK)
        return rc;
    store_log_view(ask->store, &log);
    uint64_t now_bytes = synclog_bytes(store_log(ask->store));
    struct dlist_printer *p = ask_row(ask, "CHECKPOINT");
    dlist_u64(p, "EPOCH", pos.applied.epoch);
    dlist_u64(p, "LSN", pos.applied.lsn);
    dlist_u64(p, "FIRST", log.first_lsn);
    dlist_u64(p, "LOG", now_bytes);
    dlist_u64(p, "FREED", log_bytes > now_bytes ? log_bytes - now_bytes : 0);
    dlist_u64(p, "MS", (env_mono_ns(ask->env) - began_ns) / 1000000);
    return ask_row_end(ask, err);
}
