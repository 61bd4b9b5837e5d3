/*
 * metrics/sample.c - looking at an instance: all of it under the lock of its
 * roles, so that the store is open and the numbers are of one moment.
 */
#include "metrics/sample.h"

#include <stdio.h>
#include <stdlib.h>

#define LOOK_MS 200U

const char *const sample_properties[SAMPLE_PROPERTIES] = {
    "rocksdb.estimate-num-keys",
    "rocksdb.live-sst-files-size",
    "rocksdb.cur-size-all-mem-tables",
    "rocksdb.estimate-table-readers-mem",
    "rocksdb.block-cache-usage",
    "rocksdb.block-cache-capacity",
    "rocksdb.block-cache-pinned-usage",
    "rocksdb.estimate-pending-compaction-bytes",
    "rocksdb.num-running-compactions",
    "rocksdb.num-running-flushes",
    "rocksdb.num-immutable-mem-table",
    "rocksdb.num-snapshots",
    "rocksdb.background-errors",
    "rocksdb.is-write-stopped",
    "rocksdb.actual-delayed-write-rate",
};

const char *
equality_name(enum equality e)
{
    static const char *const names[] = {
        [EQUALITY_UNKNOWN] = "unknown",
        [EQUALITY_EQUAL] = "equal",
        [EQUALITY_BEHIND] = "behind",
        [EQUALITY_UNEQUAL] = "unequal",
    };
    return names[e];
}

struct look {
    struct env *env;
    const char *dir;
    const struct history *history;
    struct sample *s;
};

/* ---- channels ---------------------------------------------------------- */

static void
measure_lag(const struct look *look, struct sample_channel *c)
{
    struct history_point now;
    struct history_behind behind;
    const struct sample *s = look->s;

    c->is_exact = true;
    if (s->role != ROLE_MASTER)
        return; /* the others follow somebody else */
    sample_point(s, &now);
    c->lag_records =
        s->durable.lsn > c->applied ? s->durable.lsn - c->applied : 0;
    history_behind(look->history, &now, c->applied, &behind);
    c->lag_bytes = behind.bytes;
    c->lag_us = behind.age_us;
    c->is_exact = behind.is_whole;
    if (behind.is_whole)
        return;
    /* Older than what is remembered: the last acknowledgement is at least so
     * long ago, and records are as large as others. */
    if (c->ack_us != 0 && s->wall_us > c->ack_us)
        c->lag_us = MAX(c->lag_us, s->wall_us - c->ack_us);
    uint64_t all = s->first_lsn == 0 ? 0 : s->durable.lsn - s->first_lsn + 1;
    if (all > 0)
        c->lag_bytes =
            MAX(c->lag_bytes,
                (uint64_t)((double)s->storage.log_bytes *
                           (double)MIN(c->lag_records, all) / (double)all));
}

static void
look_at_slot(const struct look *look, const char *dir, const char *name)
{
    struct sample *s = look->s;
    struct synclog_slot *slot = NULL;

    if (s->nchannels == SAMPLE_CHANNELS_MAX ||
        slot_attach(dir, name, false, &slot, NULL) != ERR_OK)
        return;
    struct sample_channel *c = &s->channels[s->nchannels++];
    *c = (struct sample_channel){
        .state = (enum slot_state)atomic_load(&slot->state),
        .is_running = atomic_load(&slot->consumer_pid) != 0,
        .since_us = atomic_load(&slot->state_wall_us),
        .ack_us = atomic_load(&slot->ack_wall_us),
        .sent = atomic_load(&slot->sent_lsn),
        .durable = atomic_load(&slot->durable_lsn),
        .applied = atomic_load(&slot->applied_lsn),
    };
    snprintf(c->name, sizeof(c->name), "%s", name);
    snprintf(c->peer, sizeof(c->peer), "%.*s", (int)sizeof(slot->peer) - 1,
             slot->peer);
    slot_get_text(slot, c->text);
    slot_detach(&slot);
    measure_lag(look, c);
}

static void
look_at_channels(const struct look *look)
{
    AUTO(buf_free) struct buf names = BUF_INIT;
    AUTO(xfree) char *dir = xasprintf("%s/synclog", look->dir);

    look->s->nchannels = 0;
    if (slot_list(look->env, dir, &names, NULL) != ERR_OK)
        return;
    for (size_t at = 0; at < names.n;) {
        const char *name = (const char *)names.p + at;
        look_at_slot(look, dir, name);
        at += strlen(name) + 1;
    }
}

/* ---- the store --------------------------------------------------------- */

static void
look_at_store(const struct look *look, struct store *store)
{
    struct sample *s = look->s;
    const struct store_tallies *t = store_tallies(store);
    const uint64_t began_ns = atomic_load(&t->sync_began_ns);

    tally_read(&t->sync_us, &s->sync_us);
    tally_read(&t->group_records, &s->group_records);
    s->sync_stalled_ms = began_ns == 0 || began_ns > s->mono_ns
                             ? 0
                             : (s->mono_ns - began_ns) / 1000000;
    s->log_written = store_log_written(store);
    s->queue_bytes = store_queue_bytes(store);
    store_full_look(store, &s->full);
    store_ack_view(store, &s->acks);
    if (store_compaction_view(store, &s->storage, NULL) != ERR_OK)
        s->storage = (struct compaction_view){0}; /* told by who trips on it */
    store_damage_view(store, &s->damage);
    s->has_scrub = store_scrub_look(store, &s->scrub);
    for (size_t i = 0; i < SAMPLE_PROPERTIES; i++)
        s->properties[i] = store_property(store, sample_properties[i]);
}

static void
on_look(void *ctx, const struct logstatus *status, struct store *store)
{
    const struct look *look = ctx;
    struct sample *s = look->s;

    s->wall_us = env_wall_us(look->env);
    s->mono_ns = env_mono_ns(look->env);
    s->is_there = true;
    snprintf(s->servername, sizeof(s->servername), "%s", status->servername);
    snprintf(s->why, sizeof(s->why), "%s", status->text);
    s->role = status->role;
    s->epoch = status->epoch;
    s->fence = status->fence;
    s->swapping = status->swapping;
    s->seeding = status->seeding;
    s->seed_wanted = status->seed_wanted;
    s->cluster = status->cluster;
    s->instance = status->instance;
    s->durable = status->durable;
    s->applied = status->applied.applied;
    s->applied_time_us = status->applied.time_us;
    s->chain = status->chain;
    s->digest = status->applied.digest;
    s->first_lsn = status->first_lsn;
    s->start_lsn = status->start_lsn;
    look_at_store(look, store);
    look_at_channels(look);
}

enum errcode
sample_node(struct env *env, struct node *node, const char *dir,
            const struct history *history, struct sample *ret,
            struct error *err)
{
    struct look look = {env, dir, history, ret};

    return node_look(node, LOOK_MS, on_look, &look, err);
}

void
sample_point(const struct sample *s, struct history_point *ret)
{
    *ret = (struct history_point){
        .wall_us = s->wall_us,
        .lsn = s->durable.lsn,
        .bytes = s->log_written,
        .syncs = s->sync_us.count,
    };
    for (size_t i = 0; i < s->nchannels; i++) {
        ret->lag_records = MAX(ret->lag_records, s->channels[i].lag_records);
        ret->lag_us = MAX(ret->lag_us, s->channels[i].lag_us);
    }
}
