/*
 * csync/ship_peer.c - what is to be done with a peer: ship to it, seed it, make
 * it give up its state, obey it, or leave it alone.
 */
#include "csync/ship_private.h"

#include <stdio.h>

/* A fenced instance asks its twin for the fork so often. */
#define ASK_MS 2000U

struct instid
ship_cluster(const struct ship *s)
{
    struct instid cluster;

    memcpy(cluster.b, s->mark->cluster, INSTANCE_ID_BYTES);
    return cluster;
}

enum verdict
ship_verdict(const struct ship *s, const struct logstatus *peer, bool seed_ok,
             struct error *err)
{
    struct instid own = ship_cluster(s);
    bool is_empty = peer->applied.applied.lsn == 0 && peer->durable.lsn == 0;
    bool same = instid_eq(&peer->cluster, &own);

    if (same && peer->epoch > atomic_load(&s->mark->epoch))
        return PEER_DEPOSES;
    if (atomic_load(&s->mark->role) != ROLE_MASTER &&
        peer->role == ROLE_MASTER) {
        error_set(err, ERR_FENCED,
                  "%s is the master, and this instance a replica that feeds "
                  "others: nothing is shipped there",
                  peer->servername);
        return PEER_PARK;
    }
    if (!same && !instid_none(&peer->cluster)) {
        error_set(err, ERR_HISTORY,
                  "%s belongs to another cluster: nothing is shipped there; "
                  "empty it with 'ctl_failover rejoin' over there if it is to "
                  "become our replica",
                  peer->servername);
        return PEER_PARK;
    }
    if (peer->version != LOGPROTO_VERSION) {
        error_set(err, ERR_VERSION,
                  "%s speaks version %u of POLLUX-LOG, we speak %u: upgrade "
                  "the older one",
                  peer->servername, peer->version, LOGPROTO_VERSION);
        return PEER_PARK;
    }
    if (peer->seeding || (is_empty && (seed_ok || peer->seed_wanted)))
        return PEER_SEED;
    if (is_empty && atomic_load(&s->mark->start_lsn) != 0) {
        error_set(err, ERR_GAP,
                  "the replica is empty and the log here begins behind "
                  "%" PRIu64 ": seed it with 'sync_client -A'",
                  (uint64_t)atomic_load(&s->mark->start_lsn));
        return PEER_PARK;
    }
    return PEER_STREAM;
}

static enum errcode
depose(struct csync_client *self, const struct logstatus *peer,
       struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct arena arena = ARENA_INIT;
    struct logstatus own;
    struct dlist_printer p;

    enum errcode rc = csync_log_status(self, &arena, &own, err);
    if (rc == ERR_OK) {
        lsn_t fork = 0;
        uint64_t chain = 0;
        (void)!logstatus_fork(&own, peer, &fork, &chain);
        buf_add_str(&line, "NODE ");
        dlist_print_begin(&p, &line, DLIST_CLIENT);
        dlist_open_kv(&p, "DEPOSED");
        dlist_u64(&p, "EPOCH", peer->epoch);
        dlist_u64(&p, "FORK", fork);
        dlist_hex64(&p, "CHAIN", chain);
        dlist_close(&p);
        rc = csync_command(self, buf_span(&line), NULL, NULL, err);
    }
    arena_free(&arena);
    return rc;
}

/* Tell the instance beside us that PEER is further, and since where. */
void
ship_tell_deposed(struct ship *s, const struct logstatus *peer)
{
    struct csync_client *self = NULL;
    struct error err = {0};

    enum errcode rc = csync_connect_control(s->o->control, 5000, &self, &err);
    if (rc == ERR_OK)
        rc = depose(self, peer, &err);
    csync_client_close(&self);
    if (rc != ERR_OK) {
        log_error(&s->log, "sync.deposed", "why=\"%s\"", err.text);
        return;
    }
    s->told_epoch = peer->epoch;
    log_warn(&s->log, "sync.deposed", "epoch=%" PRI_EPOCH " peer=%s",
             peer->epoch, peer->servername);
}

/*
 * This instance was fenced by a twin that came to ship to it, and such a one
 * does not say where the histories part.  Ask it: perhaps nothing was left
 * behind, and this instance can follow.
 */
void
ship_ask_for_fork(struct ship *s)
{
    struct csync_client *peer = NULL;
    struct arena arena = ARENA_INIT;
    struct instid own = ship_cluster(s);
    struct logstatus status;
    struct error ignored = {0};

    if (s->told_epoch == atomic_load(&s->mark->epoch) ||
        ship_now_ms(s) - s->asked_ms < ASK_MS)
        return;
    s->asked_ms = ship_now_ms(s);
    if (csync_connect(&s->target, s->o->cfg, &peer, &ignored) == ERR_OK &&
        csync_log_status(peer, &arena, &status, &ignored) == ERR_OK &&
        status.role == ROLE_MASTER && instid_eq(&status.cluster, &own) &&
        status.epoch >= atomic_load(&s->mark->epoch))
        ship_tell_deposed(s, &status);
    csync_client_close(&peer);
    arena_free(&arena);
}

/* ---- beyond the log ---------------------------------------------------- */

bool
ship_is_beyond(const struct ship *s, const struct logstatus *peer)
{
    lsn_t at = peer->durable.lsn;
    lsn_t first = atomic_load(&s->mark->first_lsn);

    return at != LSN_NONE &&
           at < (first > 0 ? first - 1 : atomic_load(&s->mark->start_lsn));
}

static void
reseed_keys(void *ctx, struct dlist_printer *p)
{
    const lsn_t *lsn = ctx;

    dlist_u64(p, "LSN", *lsn);
}

enum errcode
ship_own_status(struct ship *s, struct arena *a, struct logstatus *ret,
                struct error *err)
{
    struct csync_client *self = NULL;

    enum errcode rc = csync_connect_control(s->o->control, 5000, &self, err);
    if (rc == ERR_OK)
        rc = csync_log_status(self, a, ret, err);
    csync_client_close(&self);
    return rc;
}

/*
 * The log here does not reach back to where the replica is.  It is told to give
 * up its state if all of that is ours anyway; ERR_AGAIN: it does, and will want
 * a seed.
 */
enum errcode
ship_ask_to_reseed(struct ship *s, struct csync_client *peer,
                   const struct logstatus *status, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    AUTO(arena_free) struct arena arena = ARENA_INIT;
    struct logstatus own;
    lsn_t lsn = status->durable.lsn;

    enum errcode rc = ship_own_status(s, &arena, &own, err);
    if (rc != ERR_OK)
        return rc;
    if (!logstatus_is_prefix(&own, status))
        return error_set(err, ERR_HISTORY,
                         "%s holds what is not ours, and the log here does not "
                         "reach back to where it is: run 'ctl_failover rejoin' "
                         "over there",
                         status->servername);
    ship_command(s, "RESEED", reseed_keys, &lsn, &line);
    rc = csync_command(peer, buf_span(&line), NULL, NULL, err);
    if (rc != ERR_OK)
        return rc;
    log_notice(&s->log, "sync.reseed",
               "peer=%s at=%" PRI_LSN " first=%" PRIu64
               " then=\"it is seeded, and keeps its bodies\"",
               status->servername, lsn,
               (uint64_t)atomic_load(&s->mark->first_lsn));
    return error_set(err, ERR_AGAIN,
                     "the log here does not reach back to where the replica "
                     "is: it is going to be seeded");
}
