/*
 * csync/ship.c - sync_client -r: one conversation with the replica after the
 * other, for as long as this instance has something to ship.
 *
 * A conversation looks at the replica, seeds it if it is to be seeded, and
 * follows the log (csync/ship_stream.c).  Why something cannot go on is decided
 * in csync/ship_peer.c: wait, connect again, or park.
 */
#include "csync/ship.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "csync/ship_private.h"
#include "store/record.h"

#define BACKOFF_FIRST_MS 50U
/* Asking a host that is down costs next to nothing, so the backoff stays short
 * whatever sync_reconnect_maxwait allows. */
#define BACKOFF_MAX_MS 2000U
/* A twin that stays away is worth a line so often. */
#define SAY_AGAIN_MS 60000U
/* A change of role is noticed so soon. */
#define LOOK_MS 20U
/* How often an instance that is not the master is looked at. */
#define WAITING_MS 200U
/* What somebody is likely to mend soon, and the rest. */
#define PARKED_SHORT_MS 10000U
#define PARKED_MS 60000U

/* ---- small things ------------------------------------------------------ */

uint64_t
ship_now_ms(const struct ship *s)
{
    return env_mono_ns(s->o->env) / 1000000;
}

bool
ship_stopped(const struct ship *s)
{
    return s->o->stop != NULL && s->o->stop(s->o->stop_ctx);
}

void
ship_set_state(struct ship *s, enum slot_state state, const char *text)
{
    /* The log is not kept for it: that is what an admin has to see. */
    if (state == SLOT_CONNECTING &&
        atomic_load(&s->slot->expelled) == SLOT_EXPELLED)
        state = SLOT_RESEED;
    slot_set_state(s->slot, state, text, env_wall_us(s->o->env));
}

/* Wait up to MS, or until something changes in the instance. */
void
ship_rest(struct ship *s, uint64_t ms)
{
    uint64_t until = ship_now_ms(s) + ms;
    uint32_t role = s->mark == NULL ? 0 : atomic_load(&s->mark->role);

    /* Not on the mark's futex, which every commit wakes: what cannot be shipped
     * now is no reason to run thousands of times a second. */
    for (uint64_t now; !ship_stopped(s) && (now = ship_now_ms(s)) < until;) {
        poll(NULL, 0, (int)MIN(until - now, (uint64_t)LOOK_MS));
        if (s->mark != NULL && atomic_load(&s->mark->role) != role)
            return;
    }
}

/* May what is durable here be shipped: by the master, and, if it feeds others
 * (sync_log_chain), by a replica that is whole. */
bool
ship_may(const struct ship *s)
{
    if (s->mark == NULL || atomic_load(&s->mark->writer_pid) == 0)
        return false;
    if (atomic_load(&s->mark->role) == ROLE_MASTER)
        return true;
    return atomic_load(&s->mark->role) == ROLE_REPLICA &&
           atomic_load(&s->mark->seeding) == 0 &&
           config_switch(s->o->cfg, "sync_log_chain");
}

static bool
is_fenced(const struct ship *s)
{
    return s->mark != NULL && atomic_load(&s->mark->writer_pid) != 0 &&
           atomic_load(&s->mark->role) == ROLE_FENCED;
}

void
ship_command(const struct ship *s, const char *verb,
             void (*keys)(void *ctx, struct dlist_printer *p), void *ctx,
             struct buf *out)
{
    struct dlist_printer p;
    struct instid cluster;
    struct instid instance;

    memcpy(cluster.b, s->mark->cluster, INSTANCE_ID_BYTES);
    memcpy(instance.b, s->mark->instance, INSTANCE_ID_BYTES);
    buf_add_str(out, "LOG ");
    dlist_print_begin(&p, out, DLIST_CLIENT);
    dlist_open_kv(&p, verb);
    dlist_str(&p, "CHANNEL", s->o->channel);
    dlist_instid(&p, "CLUSTER", &cluster);
    dlist_instid(&p, "INSTANCE", &instance);
    dlist_u64(&p, "EPOCH", atomic_load(&s->mark->epoch));
    dlist_u64(&p, "FORMAT", RECORD_FORMAT);
    if (keys != NULL)
        keys(ctx, &p);
    dlist_close(&p);
}

/* A failure costs retention only. */
void
ship_remember_slot(struct ship *s)
{
    struct error why = {0};

    if (slot_sync(s->slot, &why) != ERR_OK)
        log_warn(&s->log, "sync.slot", "why=\"%s\"", why.text);
}

/* ---- conversations ----------------------------------------------------- */

enum errcode
ship_connect(struct ship *s, struct csync_client **ret, struct error *err)
{
    if (s->spare == NULL)
        return csync_connect(&s->target, s->o->cfg, ret, err);
    *ret = s->spare;
    s->spare = NULL;
    return ERR_OK;
}

/*
 * A seed has brought the replica to where STATUS says.  Is that all of what was
 * asked for?  Then a stream would only say so again, after looking for its
 * beginning in a long log.
 */
static bool
seed_was_all(struct ship *s, const struct logstatus *status, lsn_t goal)
{
    struct synclog_slot *slot = s->slot;
    const lsn_t applied = status->applied.applied.lsn;

    if (goal == 0 || applied < goal || status->durable.lsn < applied ||
        status->seeding)
        return false;
    atomic_store(&slot->sent_lsn, applied);
    atomic_store(&slot->received_lsn, status->durable.lsn);
    atomic_store(&slot->durable_lsn, status->durable.lsn);
    atomic_store(&slot->applied_lsn, applied);
    atomic_store(&slot->ack_wall_us, env_wall_us(s->o->env));
    atomic_store(&slot->peer_role, (uint32_t)status->role);
    atomic_store(&slot->peer_epoch, status->epoch);
    ship_remember_slot(s);
    if (s->bell != NULL)
        bell_ring(s->bell);
    return true;
}

/* One connection from beginning to end. */
enum errcode
ship_converse(struct ship *s, lsn_t goal, bool seed_ok, bool fence_at_start,
              struct error *err)
{
    struct csync_client *peer = NULL;
    struct arena arena = ARENA_INIT;
    struct logstatus status;
    AUTO(buf_free) struct buf line = BUF_INIT;

    enum errcode rc = ship_connect(s, &peer, err);
    if (rc != ERR_OK)
        goto out;
    rc = csync_log_status(peer, &arena, &status, err);
    if (rc != ERR_OK)
        goto out;
    enum verdict verdict = ship_verdict(s, &status, seed_ok, err);
    if (verdict == PEER_DEPOSES) {
        ship_tell_deposed(s, &status);
        rc = error_set(err, ERR_FENCED,
                       "%s is at epoch %" PRI_EPOCH ": we are not the master",
                       status.servername, status.epoch);
        goto out;
    }
    if (verdict == PEER_PARK) {
        rc = err->code;
        goto out;
    }
    ship_command(s, "OPEN", NULL, NULL, &line);
    rc = csync_command(peer, buf_span(&line), NULL, NULL, err);
    if (rc == ERR_OK && verdict == PEER_SEED) {
        rc = ship_seed(s, peer, err);
        csync_client_close(&peer);
        if (rc == ERR_OK)
            rc = csync_connect(&s->target, s->o->cfg, &peer, err);
    }
    if (rc == ERR_OK)
        rc = csync_log_status(peer, &arena, &status, err);
    if (rc == ERR_OK && verdict == PEER_SEED &&
        seed_was_all(s, &status, goal)) {
        s->spare = peer;
        peer = NULL;
        goto out;
    }
    bool may_reseed = seed_ok || atomic_load(&s->slot->expelled) != SLOT_KEPT;
    if (rc == ERR_OK && may_reseed && ship_is_beyond(s, &status))
        rc = ship_ask_to_reseed(s, peer, &status, err);
    if (rc == ERR_OK)
        rc = ship_stream(s, peer, &status, goal, fence_at_start, err);
out:
    csync_client_close(&peer);
    arena_free(&arena);
    return rc;
}

/* ---- the two ways in --------------------------------------------------- */

/* As options are named: NULL is the one without a prefix. */
const char *
ship_channel(const struct ship_options *o)
{
    return strcmp(o->channel, "default") == 0 ? NULL : o->channel;
}

enum errcode
ship_target(const struct ship_options *o, struct csync_target *ret,
            struct error *err)
{
    enum errcode rc =
        csync_target_from_config(o->cfg, ship_channel(o), o->host, ret, err);

    if (rc == ERR_OK) {
        ret->require_compress = o->require_compress;
        ret->by_log = true;
        ret->stop = o->stop;
        ret->stop_ctx = o->stop_ctx;
        if (o->timeout_ms > 0)
            ret->timeout_ms = o->timeout_ms;
    }
    return rc;
}

static void
sign_slot(struct ship *s)
{
    atomic_store(&s->slot->consumer_pid, (uint32_t)getpid());
    atomic_store(&s->slot->by_state, 0);
    atomic_store(&s->slot->cap_bytes,
                 config_channel_bytes(s->o->cfg, s->channel, "sync_log_cap"));
    snprintf(s->slot->peer, sizeof(s->slot->peer), "%s", s->target.host);
}

static enum errcode
ship_open(struct ship *s, const struct ship_options *o, struct error *err)
{
    *s = (struct ship){.o = o, .channel = ship_channel(o)};
    snprintf(s->log.prefix, sizeof(s->log.prefix), "channel=%s", o->channel);
    enum errcode rc = ship_target(o, &s->target, err);
    if (rc != ERR_OK)
        return rc;
    rc = slot_attach(o->log_dir, o->channel, true, &s->slot, err);
    if (rc != ERR_OK)
        return rc;
    sign_slot(s);
    return ERR_OK;
}

static void
ship_close(struct ship *s)
{
    if (s->slot != NULL) {
        atomic_store(&s->slot->consumer_pid, 0);
        ship_set_state(s, SLOT_DOWN, "sync_client has ended");
    }
    csync_client_close(&s->spare); /* of a seed that was all (sync_client -1) */
    slot_detach(&s->slot);
    bell_detach(&s->bell);
    mark_detach(&s->mark);
}

/* The mark is made anew whenever the instance starts. */
bool
ship_look(struct ship *s)
{
    struct error err = {0};

    mark_detach(&s->mark);
    return mark_attach(s->o->log_dir, &s->mark, &err) == ERR_OK &&
           atomic_load(&s->mark->writer_pid) != 0;
}

/* The same, and the slot, which a rejoin sets aside with the store: in the old
 * one nobody would read what we say, and the new log would not be kept for us.
 */
static bool
look_at_instance(struct ship *s)
{
    struct synclog_slot *slot = NULL;
    struct error err = {0};

    if (!ship_look(s))
        return false;
    if (slot_attach(s->o->log_dir, s->o->channel, true, &slot, &err) !=
        ERR_OK) {
        log_warn(&s->log, "sync.slot", "why=\"%s\"", err.text);
        return false;
    }
    slot_detach(&s->slot);
    s->slot = slot;
    sign_slot(s);
    bell_detach(&s->bell);
    if (bell_attach(s->o->log_dir, &s->bell, &err) != ERR_OK)
        log_warn(&s->log, "sync.bell", "why=\"%s\"", err.text);
    return true;
}

/* What went wrong decides how long to wait before it is tried again. */
static uint64_t
pause_after(struct ship *s, enum errcode rc, const struct error *err,
            uint64_t *backoff_ms)
{
    uint64_t wait = *backoff_ms;
    bool parked = rc == ERR_HISTORY || rc == ERR_VERSION || rc == ERR_AUTH ||
                  rc == ERR_DENIED || rc == ERR_CORRUPT || rc == ERR_GAP ||
                  rc == ERR_UNSUPPORTED || rc == ERR_SYNTAX;

    if (rc == ERR_READONLY || rc == ERR_FENCED) {
        *backoff_ms = BACKOFF_FIRST_MS;
        ship_set_state(s, SLOT_WAITING, err->text);
        return rc == ERR_FENCED ? 1000 : 0;
    }
    /* The replica may only have been busy with an old stream. */
    if (parked && (rc != ERR_GAP || wait > 1000)) {
        log_warn(&s->log, "sync.parked", "code=%s why=\"%s\"", errcode_name(rc),
                 err->text);
        ship_set_state(s, SLOT_PARKED, err->text);
        return rc == ERR_GAP || rc == ERR_AUTH || rc == ERR_CORRUPT
                   ? PARKED_SHORT_MS
                   : PARKED_MS;
    }
    if (wait == BACKOFF_FIRST_MS ||
        ship_now_ms(s) - s->said_ms > SAY_AGAIN_MS) {
        s->said_ms = ship_now_ms(s);
        log_warn(&s->log, "sync.peer_lost",
                 "code=%s again_ms=%" PRIu64 " why=\"%s\"", errcode_name(rc),
                 wait, err->text);
    }
    ship_set_state(s, SLOT_CONNECTING, err->text);
    *backoff_ms = MIN(2 * wait, (uint64_t)BACKOFF_MAX_MS);
    return wait;
}

enum errcode
ship_rolling(const struct ship_options *o, struct error *err)
{
    struct ship s;
    uint64_t backoff_ms = BACKOFF_FIRST_MS;
    bool first = true;
    bool fence_at_start = false;

    enum errcode rc = ship_open(&s, o, err);
    if (rc != ERR_OK)
        return rc;
    while (!ship_stopped(&s)) {
        if (!look_at_instance(&s) || !ship_may(&s)) {
            ship_set_state(&s, SLOT_WAITING,
                           s.mark == NULL ? "no instance runs here"
                                          : "this instance is not the master");
            if (is_fenced(&s))
                ship_ask_for_fork(&s);
            ship_rest(&s, WAITING_MS);
            first = false;
            continue;
        }
        if (first)
            fence_at_start = atomic_load(&s.mark->fence) != 0;
        else if (atomic_load(&s.mark->fence) == 0)
            fence_at_start = false;
        first = false;
        lsn_t goal = o->once ? atomic_load(&s.mark->durable_lsn) : 0;
        struct error why = {0};
        uint64_t began = ship_now_ms(&s);
        rc = ship_converse(&s, goal, false, fence_at_start, &why);
        if (rc == ERR_OK)
            break;
        if (ship_now_ms(&s) - began > 5000)
            backoff_ms = BACKOFF_FIRST_MS;
        if (o->connect_once || o->once) {
            *err = why;
            break;
        }
        ship_rest(&s, pause_after(&s, rc, &why, &backoff_ms));
        rc = ERR_OK;
    }
    ship_close(&s);
    return rc;
}
