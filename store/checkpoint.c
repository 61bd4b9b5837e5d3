/*
 * store/checkpoint.c - a thread beside the writer: it flushes the state, so
 * that recovery has little to replay, watches the key-value store's health, and
 * lets go of log segments.
 *
 * A segment may go when
 *  - what it says is in the flushed state,
 *  - every slot has acknowledged it as durable, unless the slot lags so far
 *    behind that it would pin more than the configured cap: then it is told
 *    to be reseeded, loudly, and pins nothing any more,
 *  - no body lies in it (LOCAL_BODIES).
 */
#include "store/store_private.h"

#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "store/damage_private.h"
#include "synclog/slot.h"

#define FLUSH_BYTES (UINT64_C(256) << 20)
#define FLUSH_EVERY_S 300
#define NS_PER_S UINT64_C(1000000000)

static enum errcode
flush_state(struct store *store, struct error *err)
{
    pthread_mutex_lock(&store->pos_lock);
    const lsn_t lsn = store->pos.applied.lsn;
    const uint64_t bytes = store->log_bytes;
    pthread_mutex_unlock(&store->pos_lock);

    enum errcode rc = kv_flush(store->kv, err);
    if (rc != ERR_OK)
        return rc;
    pthread_mutex_lock(&store->pos_lock);
    store->flushed_lsn = MAX(store->flushed_lsn, lsn);
    store->flushed_bytes = bytes;
    pthread_mutex_unlock(&store->pos_lock);
    return ERR_OK;
}

enum errcode
store_first_body(struct store *store, lsn_t *ret, struct error *err)
{
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;

    *ret = 0;
    enum errcode rc = kv_get(store->kv, NULL, KV_STATE,
                             key_local(&k, LOCAL_BODIES), &value, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    struct rd r = rd_init(buf_span(&value));
    if (rc == ERR_OK)
        *ret = rd_u64le(&r);
    return rc;
}

static void
expel(struct store *store, struct synclog_slot *slot, const char *name,
      const char *why)
{
    char text[SLOT_TEXT_BYTES];

    if (atomic_exchange(&slot->expelled, SLOT_EXPELLED) == SLOT_EXPELLED)
        return;
    snprintf(text, sizeof(text), "%s: to be reseeded by state", why);
    slot_set_state(slot, SLOT_RESEED, text, env_wall_us(store->env));
    log_error(NULL, "store.slot_expelled",
              "channel=\"%s\" durable=%" PRI_LSN
              " why=\"%s\" effect=\"the log is not kept for it any more; it is "
              "seeded anew when it is back\"",
              name, atomic_load(&slot->durable_lsn), why);
}

static void
slot_needs(struct store *store, struct synclog_slot *slot, const char *name,
           lsn_t lost, lsn_t *ret)
{
    const lsn_t durable = atomic_load(&slot->durable_lsn);
    uint64_t cap = atomic_load(&slot->cap_bytes);

    if (cap == 0)
        cap = store->cfg.log_cap_bytes;
    if (cap > 0 && synclog_bytes_from(store->log, durable + 1) > cap)
        expel(store, slot, name, "lags behind the cap of the log");
    else if (durable < lost && atomic_load(&slot->state) == SLOT_PARKED)
        expel(store, slot, name,
              "the log is damaged where it is to go on, and no twin has it");
    else if (atomic_load(&slot->expelled) != SLOT_EXPELLED)
        *ret = MIN(*ret, durable + 1);
}

/* Nobody is fed from here: who is to be once this instance is promoted may be
 * seeded if it needs more than is left then. */
static void
slot_needs_nothing(struct synclog_slot *slot, lsn_t kept)
{
    uint32_t was = SLOT_KEPT;

    if (atomic_load(&slot->durable_lsn) + 1 < kept)
        (void)atomic_compare_exchange_strong(&slot->expelled, &was,
                                             SLOT_NOT_KEPT);
}

/* The least LSN that a slot still needs, in *RET if it is less.  It pins the
 * segments from there on.  Up to LOST the log has damage that nobody can mend:
 * who is stopped before it does not get beyond. */
static enum errcode
slots_need(struct store *store, lsn_t lost, lsn_t *ret, struct error *err)
{
    const bool feeds =
        atomic_load(&synclog_mark(store->log)->role) != ROLE_REPLICA ||
        store->cfg.feeds_others;
    AUTO(buf_free) struct buf names = BUF_INIT;

    enum errcode rc = slot_list(store->env, store->log_dir, &names, err);
    for (size_t at = 0; rc == ERR_OK && at < names.n;) {
        const char *name = (const char *)names.p + at;
        struct synclog_slot *slot = NULL;
        at += strlen(name) + 1;
        if (slot_attach(store->log_dir, name, true, &slot, NULL) != ERR_OK)
            continue;
        if (feeds)
            slot_needs(store, slot, name, lost, ret);
        else
            slot_needs_nothing(slot, *ret);
        slot_detach(&slot);
    }
    return rc;
}

enum errcode
store_log_needed(struct store *store, lsn_t lost, lsn_t *ret, struct error *err)
{
    pthread_mutex_lock(&store->pos_lock);
    lsn_t keep = store->flushed_lsn + 1;
    pthread_mutex_unlock(&store->pos_lock);
    enum errcode rc = slots_need(store, lost, &keep, err);
    if (rc == ERR_OK)
        *ret = keep;
    return rc;
}

/* What lay in segments that are gone needs no repair. */
static void
tell_damages(struct store *store)
{
    AUTO(xfree) struct synclog_segment *v = NULL;

    if (synclog_segments(store->log, &v) > 0)
        store_damage_trimmed(store, v[0].number);
}

/* What the row said before the flush is on disk after it, and so are the rows
 * that say where the bodies went. */
enum errcode
store_checkpoint_locked(struct store *store, struct error *err)
{
    unsigned removed = 0;
    lsn_t body = 0;
    lsn_t keep = 0;

    enum errcode rc = store_first_body(store, &body, err);
    if (rc == ERR_OK)
        rc = flush_state(store, err);
    if (rc == ERR_OK)
        rc = store_log_needed(store, 0, &keep, err);
    if (rc == ERR_OK && body > 0)
        keep = MIN(keep, body);
    if (rc == ERR_OK)
        rc = synclog_trim(store->log, keep, &removed, err);
    if (removed > 0)
        tell_damages(store);
    return rc;
}

enum errcode
store_checkpoint(struct store *store, struct error *err)
{
    pthread_mutex_lock(&store->checkpoint_lock);
    enum errcode rc = store_checkpoint_locked(store, err);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return rc;
}

static bool
flush_is_due(struct store *store, uint64_t last_ns)
{
    pthread_mutex_lock(&store->pos_lock);
    const uint64_t grown = store->log_bytes - store->flushed_bytes;
    pthread_mutex_unlock(&store->pos_lock);
    const uint64_t much =
        store->cfg.flush_bytes > 0 ? store->cfg.flush_bytes : FLUSH_BYTES;
    return grown > much || (grown > 0 && env_mono_ns(store->env) - last_ns >
                                             FLUSH_EVERY_S * NS_PER_S);
}

static void
wait_a_second(struct store *store)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec++;
    (void)pthread_cond_timedwait(&store->checkpoint_wake, &store->lock, &at);
}

void *
checkpoint_main(void *arg)
{
    struct store *store = arg;
    uint64_t last_ns = env_mono_ns(store->env);

    pthread_mutex_lock(&store->lock);
    while (!store->closing) {
        wait_a_second(store);
        if (store->closing || store->dead)
            continue;
        pthread_mutex_unlock(&store->lock);
        struct error err = {0};
        enum errcode rc = kv_health(store->kv, &err);
        if (rc == ERR_OK && flush_is_due(store, last_ns)) {
            rc = store_checkpoint(store, &err);
            last_ns = env_mono_ns(store->env);
        }
        if (rc == ERR_IO || rc == ERR_CORRUPT)
            store_die(store, &err);
        else if (rc != ERR_OK)
            log_warn(NULL, "store.checkpoint_failed",
                     "why=\"%s\" effect=\"tried again\"", err.text);
        pthread_mutex_lock(&store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}
