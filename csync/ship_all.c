/*
 * csync/ship_all.c - sync_client -A: the replica is made equal, by the one or
 * the other way, or it is only said what would be done.
 *
 * Two that are equal cost one question each.  While a rolling client ships,
 * this one only waits until it got there.
 */
#include "csync/ship_private.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "csync/verify.h"

/* -A asks a replica that gives up its state so often whether it has. */
#define ALL_TRIES 300U

static enum errcode
all_check(struct ship *s, struct error *err)
{
    if (!ship_look(s))
        return error_set(err, ERR_CLOSED,
                         "no instance runs here (%s): start master first",
                         s->o->log_dir);
    if (!ship_may(s))
        return error_set(err, ERR_READONLY,
                         "this instance is not the master: run sync_client on "
                         "the one that is");
    return ERR_OK;
}

/* ---- progress on a terminal ----------------------------------------------
 *
 * Shipping is one call that comes back when it is done, so another thread looks
 * at the slot.  A seed says itself how far it is.
 */

#define SHOW_MS 200
#define FIRST_LOOK_MS 20

struct meter {
    const struct ship *s;
    lsn_t goal;
    bool is_shown, runs;
    lsn_t from; /* where the replica was, as far as the slot knows */
    uint64_t start_ms;
    _Atomic bool stop;
    pthread_t thread;
};

static void
meter_show(struct meter *m, bool last)
{
    const struct synclog_slot *slot = m->s->slot;
    const lsn_t at = MIN(atomic_load(&slot->applied_lsn), m->goal);

    const bool is_under_way =
        last ? m->from != LSN_NONE && at > m->from
             : atomic_load(&slot->state) == SLOT_STREAMING && at != LSN_NONE;
    if (!m->is_shown && !is_under_way)
        return;
    if (!m->is_shown && m->from == LSN_NONE)
        m->from = at;
    m->is_shown = true;
    const double seconds = (double)(ship_now_ms(m->s) - m->start_ms) / 1000;
    const double rate = seconds > 0 ? (double)(at - m->from) / seconds : 0;
    const double left = rate > 0 ? (double)(m->goal - at) / rate : 0;
    printf("\rshipping: at %" PRI_LSN " of %" PRI_LSN
           " records, %.0f/s, %.0f s left   %s",
           at, m->goal, rate, left, last ? "\n" : "");
    fflush(stdout);
}

static void *
meter_run(void *ctx)
{
    struct meter *m = ctx;

    while (!atomic_load(&m->stop)) {
        meter_show(m, false);
        poll(NULL, 0, m->is_shown ? SHOW_MS : FIRST_LOOK_MS);
    }
    return NULL;
}

static void
meter_start(struct meter *m, const struct ship *s, lsn_t goal)
{
    *m = (struct meter){
        .s = s,
        .goal = goal,
        .from = atomic_load(&s->slot->applied_lsn),
        .start_ms = ship_now_ms(s),
    };
    m->runs = isatty(STDOUT_FILENO) == 1 &&
              pthread_create(&m->thread, NULL, meter_run, m) == 0;
}

static void
meter_stop(struct meter *m)
{
    if (!m->runs)
        return;
    atomic_store(&m->stop, true);
    pthread_join(m->thread, NULL);
    meter_show(m, true);
}

/* ---- making it equal ----------------------------------------------------- */

/* A rolling client is at it: only look until it got there. */
static enum errcode
watch_rolling(struct ship *s, lsn_t goal, struct error *err)
{
    const bool on_tty = isatty(STDOUT_FILENO) == 1;
    uint64_t shown = 0;

    for (;;) {
        uint64_t at = atomic_load(&s->slot->applied_lsn);
        if (at >= goal)
            return ERR_OK;
        if (atomic_load(&s->slot->consumer_pid) == 0 ||
            atomic_load(&s->slot->state) != SLOT_STREAMING)
            return error_set(err, ERR_AGAIN, "the rolling sync_client ended");
        if (ship_stopped(s))
            return error_set(err, ERR_CLOSED, "stopped");
        if (!on_tty && ship_now_ms(s) - shown > 1000) {
            shown = ship_now_ms(s);
            printf("sync_client -r ships: at %" PRIu64 " of %" PRI_LSN "\n", at,
                   goal);
            fflush(stdout);
        }
        mark_wait(s->mark, atomic_load(&s->mark->seq), 20);
    }
}

/* One question to each side: are they at one LSN with one digest? */
static enum errcode
ask_root(struct ship *s, enum verify_result *ret, struct logpos *ret_at,
         struct error *err)
{
    struct csync_client *self = NULL;
    AUTO(csync_client_close) struct csync_client *peer = NULL;
    uint64_t digest = 0;

    enum errcode rc =
        csync_connect_control(s->o->control, s->target.timeout_ms, &self, err);
    if (rc == ERR_OK)
        rc = ship_connect(s, &peer, err);
    if (rc == ERR_OK)
        rc = verify_root(self, peer, ret, ret_at, &digest, err);
    csync_client_close(&self);
    if (rc == ERR_OK) {
        s->spare = peer;
        peer = NULL;
    }
    return rc;
}

static bool
is_level(struct ship *s, lsn_t goal, struct logpos *ret_at)
{
    enum verify_result r = VERIFY_BEHIND;
    struct error ignored = {0}; /* it is met again, and told, when shipping */

    return ask_root(s, &r, ret_at, &ignored) == ERR_OK && r == VERIFY_EQUAL &&
           ret_at->lsn >= goal;
}

static enum errcode
check_level(struct ship *s, struct error *err)
{
    enum verify_result r = VERIFY_BEHIND;
    struct logpos at = {0};

    enum errcode rc = ask_root(s, &r, &at, err);
    if (rc == ERR_OK && r == VERIFY_UNEQUAL)
        rc = error_set(err, ERR_CORRUPT,
                       "at %" PRI_EPOCH ":%" PRI_LSN
                       " the replica's digest is another one: 'sync_client "
                       "--verify --diff' tells where, 'ctl_failover rejoin' "
                       "over there makes it anew",
                       at.epoch, at.lsn);
    return rc;
}

/* What a replica does in between (giving up its state) is waited for. */
static enum errcode
bring_level(struct ship *s, lsn_t goal, struct error *err)
{
    for (unsigned tries = 0;; tries++) {
        enum errcode rc = ship_converse(s, goal, true, false, err);
        if (rc != ERR_AGAIN &&
            (tries == 0 || (rc != ERR_CLOSED && rc != ERR_NOTFOUND)))
            return rc;
        if (tries == ALL_TRIES || ship_stopped(s))
            return rc;
        ship_rest(s, 200);
    }
}

enum errcode
ship_all(const struct ship_options *o, struct error *err)
{
    struct ship s = {.o = o, .channel = ship_channel(o)};
    bool rolling = false;

    snprintf(s.log.prefix, sizeof(s.log.prefix), "channel=%s", o->channel);
    enum errcode rc = ship_target(o, &s.target, err);
    if (rc == ERR_OK)
        rc = all_check(&s, err);
    if (rc == ERR_OK)
        rc = slot_attach(o->log_dir, o->channel, true, &s.slot, err);
    if (rc == ERR_OK)
        rc = bell_attach(o->log_dir, &s.bell, err);
    if (rc != ERR_OK)
        goto out;
    lsn_t goal = atomic_load(&s.mark->durable_lsn);
    struct logpos at = {0};
    if (is_level(&s, goal, &at)) {
        printf("equal: the replica has applied %" PRI_EPOCH ":%" PRI_LSN
               ", all that was durable here\n",
               at.epoch, at.lsn);
        fflush(stdout);
        goto out;
    }
    rolling = atomic_load(&s.slot->consumer_pid) != 0 &&
              atomic_load(&s.slot->state) == SLOT_STREAMING;
    struct meter meter;
    meter_start(&meter, &s, goal);
    if (rolling) {
        csync_client_close(&s.spare); /* would be idle for too long */
        rc = watch_rolling(&s, goal, err);
        rolling = rc != ERR_AGAIN;
    }
    if (!rolling)
        rc = bring_level(&s, goal, err);
    meter_stop(&meter);
    if (rc == ERR_OK)
        rc = check_level(&s, err);
    if (rc == ERR_OK) {
        printf("equal: the replica has applied %" PRI_LSN
               ", all that was durable here\n",
               goal);
        fflush(stdout);
    }
out:
    if (s.slot != NULL && !rolling && atomic_load(&s.slot->consumer_pid) == 0)
        ship_set_state(&s, SLOT_DOWN, "");
    csync_client_close(&s.spare);
    slot_detach(&s.slot);
    bell_detach(&s.bell);
    mark_detach(&s.mark);
    return rc;
}

/* ---- what would be done ------------------------------------------------- */

static void
say_plan(struct ship *s, enum verdict verdict, const struct logstatus *peer,
         enum verify_result equality)
{
    lsn_t durable = atomic_load(&s->mark->durable_lsn);
    lsn_t at = peer->applied.applied.lsn;

    if (verdict == PEER_SEED)
        printf("would seed %s with the state at %" PRI_LSN
               ": it holds no state%s\n",
               peer->servername, durable,
               peer->seeding ? ", or half of one" : "");
    else if (ship_is_beyond(s, peer))
        printf("would make %s give up its state at %" PRI_LSN
               " and seed it: the log here begins with %" PRIu64 "\n",
               peer->servername, at,
               (uint64_t)atomic_load(&s->mark->first_lsn));
    else if (equality == VERIFY_UNEQUAL)
        printf("nothing would mend it: at one LSN the digests differ\n");
    else if (at < durable)
        printf("would ship %" PRIu64 " records behind %" PRI_EPOCH ":%" PRI_LSN
               "\n",
               durable - at, peer->applied.applied.epoch, at);
    else
        printf("nothing to do: equal at %" PRI_EPOCH ":%" PRI_LSN "\n",
               peer->applied.applied.epoch, at);
}

enum errcode
ship_dry_run(const struct ship_options *o, struct error *err)
{
    AUTO(arena_free) struct arena arena = ARENA_INIT;
    struct ship s = {.o = o, .channel = ship_channel(o)};
    struct csync_client *peer = NULL;
    enum verify_result r = VERIFY_BEHIND;
    struct logstatus status;
    struct logpos at;

    enum errcode rc = ship_target(o, &s.target, err);
    if (rc == ERR_OK)
        rc = all_check(&s, err);
    if (rc == ERR_OK)
        rc = csync_connect(&s.target, o->cfg, &peer, err);
    if (rc == ERR_OK)
        rc = csync_log_status(peer, &arena, &status, err);
    if (rc == ERR_OK) {
        enum verdict verdict = ship_verdict(&s, &status, true, err);
        if (verdict == PEER_PARK)
            rc = err->code;
        else if (verdict == PEER_DEPOSES)
            rc = error_set(err, ERR_FENCED,
                           "%s is at epoch %" PRI_EPOCH
                           ": this instance is not the master",
                           status.servername, status.epoch);
        if (rc == ERR_OK && verdict == PEER_STREAM)
            rc = ask_root(&s, &r, &at, err);
        if (rc == ERR_OK)
            say_plan(&s, verdict, &status, r);
    }
    csync_client_close(&peer);
    csync_client_close(&s.spare);
    mark_detach(&s.mark);
    return rc;
}
