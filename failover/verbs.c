/*
 * failover/verbs.c - what an admin's tools ask of an instance over its control
 * socket ("NODE VERB"), and what an instance says of itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "failover/node_private.h"
#include "store/acks.h"
#include "store/compact.h"
#include "store/damage.h"
#include "store/record.h"
#include "store/scrub.h"
#include "store/seed.h"
#include "synclog/slot.h"

/* So many of the newest epochs go into a status. */
#define STATUS_EPOCHS 256U
/* A fence file that begins so was put up after a handover had been sent. */
#define HANDOVER_MARK "handover"

/* ---- status ------------------------------------------------------------ */

static void
fill_epochs(struct node *node, struct arena *a, struct logstatus *s)
{
    struct store_snap *snap = store_snapshot(node->store);
    const struct epoch_entry *epochs = NULL;
    struct error err = {0};
    size_t n = 0;

    if (snap_epochs(snap, a, &epochs, &n, &err) != ERR_OK) {
        log_warn(NULL, "failover.epochs", "why=\"%s\"", err.text);
        n = 0;
    }
    size_t skip = n > STATUS_EPOCHS ? n - STATUS_EPOCHS : 0;
    s->epochs = n == 0 ? NULL : epochs + skip;
    s->nepochs = n - skip;
    store_release(&snap);
}

void
node_fill_status(struct node *node, struct arena *a, struct logstatus *ret)
{
    struct store_log_view log;

    store_log_view(node->store, &log);
    struct logstatus s = {
        .version = LOGPROTO_VERSION,
        .record_format = RECORD_FORMAT,
        .cluster = node->file.cluster,
        .instance = node->file.instance,
        .role = node->file.role,
        .epoch = node->file.epoch,
        .fence = node_fence_is_up(node),
        .swapping = node->swapping,
        .seeding = log.seeding,
        .seed_wanted = node->file.seed_wanted && store_is_empty(node->store),
        .delay_us = node->cfg.store.apply_delay_us,
        .first_lsn = log.first_lsn,
        .start_lsn = log.start_lsn,
        .wall_us = env_wall_us(node->env),
        .servername = node->servername,
        .text = arena_str(a, span_str(node->file.why)),
    };
    s.durable = log.durable;
    s.chain = log.chain;
    s.applied = store_pos(node->store);
    fill_epochs(node, a, &s);
    *ret = s;
}

enum errcode
node_look(struct node *node, unsigned timeout_ms,
          void (*call)(void *ctx, const struct logstatus *s,
                       struct store *store),
          void *ctx, struct error *err)
{
    struct timespec until;
    struct arena a = ARENA_INIT;
    struct logstatus s;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    if (pthread_mutex_timedlock(&node->lock, &until) != 0)
        return error_set(err, ERR_AGAIN, "a change of role is under way");
    enum errcode rc = ERR_OK;
    if (node->store == NULL) {
        rc = error_set(err, ERR_AGAIN, "the store is closed");
    } else {
        node_fill_status(node, &a, &s);
        call(ctx, &s, node->store);
    }
    pthread_mutex_unlock(&node->lock);
    arena_free(&a);
    return rc;
}

static void
print_slot(struct node *node, const char *name, struct buf *out)
{
    char *dir = xasprintf("%s/synclog", node->dir);
    struct synclog_slot *slot = NULL;
    struct dlist_printer p;
    struct error err = {0};
    char text[SLOT_TEXT_BYTES];

    if (slot_attach(dir, name, false, &slot, &err) == ERR_OK) {
        slot_get_text(slot, text);
        buf_add_str(out, "* ");
        dlist_print_begin(&p, out, DLIST_SERVER);
        dlist_open_kv(&p, "SLOT");
        dlist_str(&p, "CHANNEL", name);
        dlist_str(&p, "STATE",
                  slot_state_name((enum slot_state)atomic_load(&slot->state)));
        dlist_u64(&p, "PID", atomic_load(&slot->consumer_pid));
        dlist_str(&p, "PEER", slot->peer);
        dlist_u64(&p, "SENT", atomic_load(&slot->sent_lsn));
        dlist_u64(&p, "RECEIVED", atomic_load(&slot->received_lsn));
        dlist_u64(&p, "DURABLE", atomic_load(&slot->durable_lsn));
        dlist_u64(&p, "APPLIED", atomic_load(&slot->applied_lsn));
        dlist_u64(&p, "ACK_WALL", atomic_load(&slot->ack_wall_us));
        dlist_u64(&p, "LAG_US", atomic_load(&slot->lag_us));
        dlist_u64(&p, "SINCE", atomic_load(&slot->state_wall_us));
        dlist_u64(&p, "DRAINED", atomic_load(&slot->drained_lsn));
        dlist_str(&p, "TEXT", text);
        dlist_close(&p);
        buf_add_str(out, "\r\n");
    }
    slot_detach(&slot);
    free(dir);
}

static void
print_damage(struct node *node, struct buf *out)
{
    struct damage_view view;
    struct scrub_view scrub;
    struct dlist_printer p;

    store_damage_view(node->store, &view);
    buf_add_str(out, "* ");
    dlist_print_begin(&p, out, DLIST_SERVER);
    dlist_open_kv(&p, "DAMAGE");
    dlist_u64(&p, "COUNT", view.count);
    dlist_u64(&p, "LOST", view.lost);
    dlist_u64(&p, "OLDEST", view.oldest_us);
    dlist_u64(&p, "HEALED", view.healed);
    if (store_scrub_look(node->store, &scrub)) {
        dlist_str(&p, "SCRUB", scrub_phase_name(scrub.phase));
        dlist_u64(&p, "SCRUB_PER_MILLE", scrub.per_mille);
        dlist_u64(&p, "SCRUB_BODIES", scrub.bodies);
        dlist_u64(&p, "SCRUB_BYTES", scrub.bytes);
        dlist_u64(&p, "SCRUB_BEGAN", scrub.began_us);
        dlist_u64(&p, "SCRUB_ENDED", scrub.ended_us);
    }
    dlist_close(&p);
    buf_add_str(out, "\r\n");
}

static void
print_storage(struct node *node, struct buf *out)
{
    struct compaction_view v;
    struct dlist_printer p;

    if (store_compaction_view(node->store, &v, NULL) != ERR_OK)
        return; /* what is wrong is told by who trips over it */
    buf_add_str(out, "* ");
    dlist_print_begin(&p, out, DLIST_SERVER);
    dlist_open_kv(&p, "STORAGE");
    dlist_u64(&p, "LOG_BYTES", v.log_bytes);
    dlist_u64(&p, "PACKS", v.packs);
    dlist_u64(&p, "PACK_BYTES", v.pack_bytes);
    dlist_u64(&p, "DEAD_BYTES", v.dead_bytes);
    dlist_u64(&p, "MOVED", v.moved_bodies);
    dlist_u64(&p, "MOVED_BYTES", v.moved_bytes);
    dlist_u64(&p, "DROPPED", v.dropped);
    dlist_u64(&p, "REMOVED_PACKS", v.removed_packs);
    dlist_u64(&p, "BYTES_PER_S", v.bytes_per_s);
    dlist_u64(&p, "STUCK_SEGMENT", v.stuck_segment);
    dlist_u64(&p, "HISTORY", v.history_rows);
    dlist_u64(&p, "HISTORY_BYTES", v.history_bytes);
    dlist_close(&p);
    buf_add_str(out, "\r\n");
}

static void
print_acks(struct node *node, struct buf *out)
{
    static const char *const modes[] = {
        [ACK_NONE] = "none",
        [ACK_RECEIVED] = "received",
        [ACK_DURABLE] = "durable",
    };
    struct dlist_printer p;
    struct ack_view v;

    store_ack_view(node->store, &v);
    if (v.mode == ACK_NONE)
        return;
    buf_add_str(out, "* ");
    dlist_print_begin(&p, out, DLIST_SERVER);
    dlist_open_kv(&p, "ACKS");
    dlist_str(&p, "MODE", modes[v.mode]);
    dlist_str(&p, "STATE", ack_state_name(v.state));
    dlist_str(&p, "POLICY", v.degrade ? "degrade" : "refuse");
    dlist_u64(&p, "REPLICAS", v.replicas);
    dlist_u64(&p, "STREAMING", v.have);
    dlist_u64(&p, "TIMEOUT_MS", v.timeout_ms);
    dlist_u64(&p, "SINCE", v.since_us);
    dlist_u64(&p, "ACKED", v.acked);
    dlist_u64(&p, "HELD", v.held);
    dlist_u64(&p, "REFUSED", v.refused);
    dlist_u64(&p, "ALONE", v.alone);
    dlist_close(&p);
    buf_add_str(out, "\r\n");
}

static enum errcode
verb_status(struct node *node, const struct dlist *args, struct buf *out,
            struct error *err)
{
    struct arena a = ARENA_INIT;
    struct logstatus s;
    AUTO(buf_free) struct buf names = BUF_INIT;
    char *dir = xasprintf("%s/synclog", node->dir);

    (void)args;
    node_fill_status(node, &a, &s);
    buf_add_str(out, "* ");
    logstatus_print(&s, DLIST_SERVER, out);
    buf_add_str(out, "\r\n");
    print_damage(node, out);
    print_storage(node, out);
    print_acks(node, out);
    enum errcode rc = slot_list(node->env, dir, &names, err);
    for (size_t at = 0; rc == ERR_OK && at < names.n;) {
        const char *name = (const char *)names.p + at;
        print_slot(node, name, out);
        at += strlen(name) + 1;
    }
    free(dir);
    arena_free(&a);
    return rc;
}

/* ---- the fence --------------------------------------------------------- */

static void
print_pos(struct node *node, struct buf *out)
{
    struct store_pos pos = store_pos(node->store);
    struct dlist_printer p;

    buf_add_str(out, "* ");
    dlist_print_begin(&p, out, DLIST_SERVER);
    dlist_open_kv(&p, "POS");
    dlist_u64(&p, "EPOCH", pos.applied.epoch);
    dlist_u64(&p, "LSN", pos.applied.lsn);
    dlist_hex64(&p, "CHAIN", pos.chain);
    dlist_hex64(&p, "DIGEST", pos.digest);
    dlist_close(&p);
    buf_add_str(out, "\r\n");
}

/* Behind the fence: the last position that there will be.  What is durable and
 * has no room in the state yet will be shown, so the twin must have it too. */
static enum errcode
print_end(struct node *node, struct buf *out, struct error *err)
{
    struct store_log_view log;

    store_log_view(node->store, &log);
    if (log.durable.lsn > store_pos(node->store).applied.lsn)
        return error_set(err, ERR_AGAIN,
                         "the fence is up, and %" PRI_LSN
                         " is durable, but not yet in the state, whose disk "
                         "is full",
                         log.durable.lsn);
    print_pos(node, out);
    return ERR_OK;
}

static enum errcode
need_fence(const struct node *node, struct error *err)
{
    if (node->fence_path != NULL)
        return ERR_OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "there is no fence: set sync_shutdown_file in "
                     "imapd.conf");
}

static bool
arg_is_set(const struct dlist *args, const char *name)
{
    uint32_t v = 0;

    return args != NULL && dlist_get_u32(args, name, &v) && v != 0;
}

static enum errcode
verb_fence(struct node *node, const struct dlist *args, struct buf *out,
           struct error *err)
{
    struct span why = SPAN_LIT("by hand");
    AUTO(buf_free) struct buf text = BUF_INIT;
    bool swap = arg_is_set(args, "SWAP");

    enum errcode rc = need_fence(node, err);
    if (rc != ERR_OK)
        return rc;
    if (args != NULL)
        (void)!dlist_get_text(args, "WHY", &why);
    buf_add(&text, why);
    buf_add_byte(&text, '\n');
    node->swapping = swap;
    if (swap)
        store_hold(node->store, node->cfg.swap_hold_ms);
    rc = env_write_file_atomic(node->env, node->fence_path, buf_span(&text),
                               err);
    if (rc != ERR_OK) {
        node->swapping = false;
        store_hold(node->store, 0);
        return rc;
    }
    if (!store_check_fence(node->store))
        return error_set(err, ERR_CONFLICT, "somebody removed %s again at once",
                         node->fence_path);
    log_notice(NULL, "failover.fence", "state=up why=\"%.*s\"",
               (int)MIN(why.n, (size_t)150), (const char *)why.p);
    return print_end(node, out, err);
}

/* For an error's text. */
static struct span
first_line(struct span text)
{
    const ptrdiff_t end = span_find_byte(text, '\n', 0);

    return span_sub(text, 0, MIN(end < 0 ? text.n : (size_t)end, (size_t)150));
}

static enum errcode
verb_unfence(struct node *node, const struct dlist *args, struct buf *out,
             struct error *err)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    (void)out;
    enum errcode rc = need_fence(node, err);
    if (rc != ERR_OK)
        return rc;
    if (!node_fence_is_up(node))
        return ERR_OK;
    rc = env_read_file(node->env, node->fence_path, 4096, &text, err);
    if (rc != ERR_OK && rc != ERR_LIMIT)
        return rc;
    /* Whoever is not the master any more has its answer. */
    if (node->file.role == ROLE_MASTER &&
        span_starts(buf_span(&text), SPAN_LIT(HANDOVER_MARK)) &&
        !arg_is_set(args, "FORCE"))
        return error_set(err, ERR_CONFLICT,
                         "a %.*s, and its answer is not known: run "
                         "'ctl_failover unfence', which asks it first",
                         SPAN_FMT(first_line(buf_span(&text))));
    rc = node_lower_fence(node, err);
    if (rc == ERR_OK)
        log_notice(NULL, "failover.fence", "state=down");
    return rc;
}

/* ---- roles ------------------------------------------------------------- */

static enum errcode
verb_promote(struct node *node, const struct dlist *args, struct buf *out,
             struct error *err)
{
    struct store_log_view log;

    store_log_view(node->store, &log);
    if (node->file.role == ROLE_MASTER)
        return error_set(err, ERR_CONFLICT,
                         "this instance is the master already");
    if (node->file.role == ROLE_FENCED && !arg_is_set(args, "FORCE"))
        return error_set(err, ERR_FENCED,
                         "%s (promoting it all the same needs --force and "
                         "forks the history)",
                         node->file.why);
    if (log.seeding)
        return error_set(err, ERR_CONFLICT,
                         "its seed is not complete: it holds no whole state");
    if (node->file.seed_wanted && store_is_empty(node->store))
        return error_set(err, ERR_CONFLICT,
                         "it was emptied to be seeded: it holds nothing");
    node->token = 0;
    enum errcode rc =
        node_promote(node, node->cfg.uid_headroom, "promote", err);
    if (rc == ERR_OK)
        print_pos(node, out);
    return rc;
}

/* After a handover that the twin confirmed. */
static enum errcode
verb_demote(struct node *node, const struct dlist *args, struct buf *out,
            struct error *err)
{
    struct nodefile next = node->file;
    uint32_t epoch = 0;

    (void)out;
    if (args == NULL || !dlist_get_u32(args, "EPOCH", &epoch) ||
        epoch > EPOCH_MAX)
        return error_set(err, ERR_PROTO, "DEMOTE without EPOCH");
    if (next.role == ROLE_REPLICA && epoch <= next.epoch)
        return ERR_OK;
    /* The new master's first words may have deposed us already. */
    if (next.role == ROLE_REPLICA || epoch < next.epoch ||
        (epoch == next.epoch && next.role == ROLE_MASTER))
        return error_set(err, ERR_CONFLICT,
                         "not the master of an epoch below "
                         "%" PRIu32,
                         epoch);
    if (!node_fence_is_up(node))
        return error_set(err, ERR_CONFLICT,
                         "the fence is not up: something may have been "
                         "acknowledged since");
    next.role = ROLE_REPLICA;
    next.epoch = epoch;
    next.fork_lsn = 0;
    next.fork_chain = 0;
    snprintf(next.why, sizeof(next.why),
             "handed over to its twin, now the master of epoch %" PRIu32,
             epoch);
    enum errcode rc = node_move(node, &next, err);
    if (rc == ERR_OK)
        rc = node_lower_fence(node, err);
    return rc;
}

static enum errcode
verb_deposed(struct node *node, const struct dlist *args, struct buf *out,
             struct error *err)
{
    uint32_t epoch = 0;
    uint64_t fork = 0;
    uint64_t chain = 0;

    (void)out;
    if (args == NULL || !dlist_get_u32(args, "EPOCH", &epoch) ||
        epoch > EPOCH_MAX || !dlist_get_u64(args, "FORK", &fork) ||
        !dlist_get_hex64(args, "CHAIN", &chain))
        return error_set(err, ERR_PROTO, "DEPOSED without EPOCH, FORK, CHAIN");
    return node_depose(node, epoch, fork, chain, "the twin", err);
}

/* ---- after a failover -------------------------------------------------- */

static enum errcode
export_behind(struct node *node, lsn_t fork, struct buf *out, struct error *err)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    struct dlist_printer p;
    uint64_t records = 0;
    uint64_t messages = 0;

    enum errcode rc = node_export(node, fork, &records, &messages, &path, err);
    if (rc != ERR_OK)
        return rc;
    buf_add_str(out, "* ");
    dlist_print_begin(&p, out, DLIST_SERVER);
    dlist_open_kv(&p, "EXPORT");
    dlist_str(&p, "PATH", buf_cstr(&path));
    dlist_u64(&p, "RECORDS", records);
    dlist_u64(&p, "MESSAGES", messages);
    dlist_close(&p);
    buf_add_str(out, "\r\n");
    return ERR_OK;
}

static enum errcode
verb_export(struct node *node, const struct dlist *args, struct buf *out,
            struct error *err)
{
    (void)args;
    if (node->file.role != ROLE_FENCED)
        return error_set(err, ERR_CONFLICT,
                         "this instance is %s: only one that was deposed has "
                         "something to export",
                         role_name(node->file.role));
    if (node->file.fork_lsn == 0 && store_pos(node->store).applied.lsn == 0)
        return ERR_OK; /* emptied for a seed that never came */
    if (node->file.fork_lsn == 0)
        return error_set(err, ERR_AGAIN,
                         "where the newer history began is not known yet: the "
                         "twin must be reachable");
    return export_behind(node, node->file.fork_lsn, out, err);
}

/*
 * A replica that followed a master which was deposed has records behind FORK
 * that the new one never got.  The old master has them too, if its disk lives.
 * What cannot be read does not stop it here: the old store is kept whole.
 */
static enum errcode
export_replica(struct node *node, lsn_t fork, struct buf *out,
               struct error *err)
{
    if (fork >= store_pos(node->store).applied.lsn)
        return ERR_OK;
    enum errcode rc = export_behind(node, fork, out, err);
    if (rc == ERR_CORRUPT || rc == ERR_NOTFOUND) {
        log_error(NULL, "failover.export",
                  "why=\"%s\" then=\"all is kept in discarded-*\"", err->text);
        rc = ERR_OK;
    }
    return rc;
}

static enum errcode
verb_rejoin(struct node *node, const struct dlist *args, struct buf *out,
            struct error *err)
{
    AUTO(buf_free) struct buf aside = BUF_INIT;
    struct dlist_printer p;
    enum errcode rc = ERR_OK;
    uint64_t fork = 0;

    if (node->file.role == ROLE_MASTER)
        return error_set(err, ERR_CONFLICT,
                         "this instance is the master: it has nobody to "
                         "rejoin");
    if (node->file.role == ROLE_FENCED)
        rc = verb_export(node, NULL, out, err);
    else if (node->file.role == ROLE_REPLICA && args != NULL &&
             dlist_get_u64(args, "FORK", &fork))
        rc = export_replica(node, fork, out, err);
    if (rc != ERR_OK)
        return rc;
    if (node->hooks.close_sessions != NULL) {
        /* A session that ends may be waiting for the lock. */
        pthread_mutex_unlock(&node->lock);
        node->hooks.close_sessions(node->hooks.ctx);
        pthread_mutex_lock(&node->lock);
    }
    rc = node_empty(node, &aside, err);
    if (node->store == NULL)
        return rc;
    if (node->hooks.reopened != NULL)
        node->hooks.reopened(node->hooks.ctx);
    if (rc == ERR_OK && node->fence_path != NULL)
        rc = node_lower_fence(node, err);
    if (rc != ERR_OK)
        return rc;
    buf_add_str(out, "* ");
    dlist_print_begin(&p, out, DLIST_SERVER);
    dlist_open_kv(&p, "REJOIN");
    dlist_str(&p, "ASIDE", buf_cstr(&aside));
    dlist_close(&p);
    buf_add_str(out, "\r\n");
    return ERR_OK;
}

/* ---- damage ------------------------------------------------------------ */

/* So many entries are listed, and so many messages of one body. */
#define LISTED_MAX 1000U
#define MESSAGES_MAX 20U

struct damage_list {
    struct damage v[LISTED_MAX];
    size_t n;
};

static bool
collect_damage(void *ctx, const struct damage *d)
{
    struct damage_list *list = ctx;

    list->v[list->n++] = *d;
    return list->n < LISTED_MAX;
}

struct message_lines {
    struct dlist_printer p;
    unsigned n;
};

static bool
print_message(void *ctx, const char *mailbox, uint32_t uid)
{
    struct message_lines *lines = ctx;

    dlist_open_kv(&lines->p, NULL);
    dlist_str(&lines->p, "MAILBOX", mailbox);
    dlist_u64(&lines->p, "UID", uid);
    dlist_close(&lines->p);
    return ++lines->n < MESSAGES_MAX;
}

static enum errcode
print_damaged(struct node *node, const struct damage *d, struct buf *out,
              struct error *err)
{
    static const char *const kinds[] = {
        [DAMAGE_BODY] = "body", [DAMAGE_LOG] = "log", [DAMAGE_PACK] = "pack"};
    struct message_lines lines = {0};
    enum errcode rc = ERR_OK;

    buf_add_str(out, "* ");
    dlist_print_begin(&lines.p, out, DLIST_SERVER);
    dlist_open_kv(&lines.p, "DAMAGED");
    dlist_str(&lines.p, "KIND", kinds[d->kind]);
    if (d->kind == DAMAGE_BODY)
        dlist_guid(&lines.p, "GUID", &d->guid);
    dlist_str(&lines.p, "HOME",
              d->kind == DAMAGE_LOG || d->home == BODY_IN_LOG     ? "segment"
              : d->kind == DAMAGE_PACK || d->home == BODY_IN_PACK ? "pack"
                                                                  : "nowhere");
    dlist_u64(&lines.p, "FILE", d->file);
    dlist_u64(&lines.p, "OFFSET", d->offset);
    dlist_u64(&lines.p, "FOUND", d->found_us);
    dlist_u64(&lines.p, "TRIES", d->tries);
    dlist_u64(&lines.p, "LOST", d->lost);
    dlist_str(&lines.p, "WHY", d->why);
    dlist_open_list(&lines.p, "MESSAGES");
    if (d->kind == DAMAGE_BODY)
        rc = store_damage_messages(node->store, &d->guid, print_message, &lines,
                                   err);
    dlist_close(&lines.p);
    dlist_close(&lines.p);
    buf_add_str(out, "\r\n");
    return rc;
}

static enum errcode
verb_damage(struct node *node, const struct dlist *args, struct buf *out,
            struct error *err)
{
    struct damage_list *list = xcalloc(1, sizeof(*list));
    enum errcode rc = ERR_OK;

    (void)args;
    store_damage_each(node->store, collect_damage, list);
    print_damage(node, out);
    for (size_t i = 0; rc == ERR_OK && i < list->n; i++)
        rc = print_damaged(node, &list->v[i], out, err);
    free(list);
    return rc;
}

/* ---- dispatch ---------------------------------------------------------- */

static const struct {
    const char *name;
    enum errcode (*run)(struct node *node, const struct dlist *args,
                        struct buf *out, struct error *err);
} verbs[] = {
    {"STATUS", verb_status},   {"FENCE", verb_fence},
    {"UNFENCE", verb_unfence}, {"PROMOTE", verb_promote},
    {"DEMOTE", verb_demote},   {"DEPOSED", verb_deposed},
    {"EXPORT", verb_export},   {"REJOIN", verb_rejoin},
    {"DAMAGE", verb_damage},
};

enum errcode
node_verb(void *ctx, struct span verb, const struct dlist *args,
          struct buf *out, struct error *err)
{
    struct node *node = ctx;

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (!span_eq_nocase_str(verb, verbs[i].name))
            continue;
        pthread_mutex_lock(&node->lock);
        enum errcode rc = node_check_doubt(node, err);
        if (rc == ERR_OK)
            rc = verbs[i].run(node, args, out, err);
        pthread_mutex_unlock(&node->lock);
        return rc;
    }
    return error_set(err, ERR_PROTO, "no such verb");
}
