/*
 * metrics/advice.c - see metrics/advice.h.  Thresholds are generous: what is
 * said here is to be read.
 */
#include "metrics/advice.h"

#include <stdlib.h>

#define ADVICE_MAX 64U
#define STUCK_MS 30000U         /* the main thread */
#define STALLED_MS 10000U       /* one sync of the log */
#define LAG_WARN_US 10000000ULL /* a streaming channel */

const char *
advice_level_name(enum advice_level level)
{
    static const char *const names[] = {
        [ADVICE_BAD] = "bad",
        [ADVICE_WARN] = "warn",
        [ADVICE_NOTE] = "note",
    };
    return names[level];
}

struct list {
    struct advice v[ADVICE_MAX];
    size_t n;
};

static void
say(struct list *l, enum advice_level level, const char *what, const char *todo)
{
    if (l->n < ADVICE_MAX)
        l->v[l->n++] = (struct advice){level, what, todo};
}

/* ---- the instance ------------------------------------------------------ */

static void
advise_role(const struct sample *s, struct list *l)
{
    if (s->role == ROLE_FENCED)
        say(l, ADVICE_BAD, "This instance was deposed and takes no mail.",
            "Run `ctl_failover export` to look at what it had not shipped, "
            "then `ctl_failover rejoin`.");
    else if (s->fence && s->swapping)
        say(l, ADVICE_WARN, "A swap is under way: writers wait.",
            "Nothing. If it does not end, `ctl_failover unfence`.");
    else if (s->fence)
        say(l, ADVICE_BAD, "The fence is up: nothing is acknowledged here.",
            "`ctl_failover unfence` ends it, once whoever put it up is done.");
    if (s->seed_wanted && !s->seeding)
        say(l, ADVICE_WARN, "This instance is empty and waits for a seed.",
            "Nothing, if the twin is the master and its sync_client runs; "
            "look at the twin's status otherwise.");
    else if (s->seeding)
        say(l, ADVICE_NOTE, "This instance is being seeded.",
            "Nothing. It cannot take over before that is through.");
}

static void
advise_acks(const struct sample *s, struct list *l, struct arena *a)
{
    if (s->role != ROLE_MASTER)
        return;
    if (s->acks.state == ACKS_REFUSING)
        say(l, ADVICE_BAD,
            arena_printf(a,
                         "Mail is refused: commits wait for %u replicas "
                         "(sync_ack), and %u stream.",
                         s->acks.replicas, s->acks.have),
            "Bring a replica back. Until then the setting of sync_ack decides "
            "whether mail is taken on one machine only.");
    else if (s->acks.state == ACKS_DEGRADED)
        say(l, ADVICE_WARN,
            arena_printf(a,
                         "%" PRIu64 " groups were answered without a replica, "
                         "since too few answer (sync_ack).",
                         s->acks.alone),
            "Bring a replica back: new mail lies on this machine only.");
}

static void
advise_disk(const struct sample *s, struct list *l, struct arena *a)
{
    if (s->full.is_full)
        say(l, ADVICE_BAD,
            arena_printf(
                a, "The disk is full: %" PRIu64 " changes were refused so far.",
                s->full.refused),
            "Make room. It heals by itself.");
    if (s->sync_stalled_ms > STALLED_MS)
        say(l, ADVICE_BAD,
            arena_printf(a,
                         "The disk has not answered a sync of the log for "
                         "%" PRIu64 " s.",
                         s->sync_stalled_ms / 1000),
            "Look at the disk. If it does not come back, switch this machine "
            "off and `ctl_failover promote` on the twin.");
    if (s->storage.stuck_segment != 0)
        say(l, ADVICE_WARN,
            arena_printf(a,
                         "Segment %016" PRIx64
                         " of the log holds damaged bodies and cannot go.",
                         s->storage.stuck_segment),
            "It goes when they are repaired; `synclog verify` names them.");
    if (s->damage.lost > 0)
        say(l, ADVICE_BAD,
            arena_printf(a,
                         "%" PRIu64 " bodies are damaged, and no twin has "
                         "them either.",
                         s->damage.lost),
            "`synclog verify` names mailboxes and UIDs: bring the messages "
            "back from a backup, or expunge them.");
    else if (s->damage.count > 0)
        say(l, ADVICE_WARN,
            arena_printf(a,
                         "%" PRIu64 " damaged bodies or frames wait for "
                         "their repair.",
                         s->damage.count),
            "Nothing, while a twin answers: they come from there. Look at the "
            "disk.");
}

static void
advise_index(const struct metrics_index *x, struct list *l, struct arena *a)
{
    if (!x->is_failing)
        return;
    say(l, ADVICE_NOTE,
        arena_printf(a,
                     x->is_open ? "The search index is not brought level: %s."
                                : "The search index could not be opened: %s.",
                     x->why),
        x->is_open ? "Searches read the messages until it is; it is tried "
                     "again each minute. The log says more."
                   : "Searches read the messages. Make room, or remove "
                     "`search` in configdirectory, and restart.");
}

/* ---- replicas ---------------------------------------------------------- */

static void
advise_channel(const struct sample *s, const struct sample_channel *c,
               struct list *l, struct arena *a)
{
    const bool leads = s->role == ROLE_MASTER;

    switch (c->state) {
    case SLOT_PARKED:
        say(l, ADVICE_BAD,
            arena_printf(a, "Channel %s is parked: %s.", c->name, c->text),
            "Mend what it says; it is tried again each minute. "
            "A replica that has parted is seeded anew by `ctl_failover "
            "rejoin` over there.");
        break;
    case SLOT_RESEED:
        say(l, ADVICE_BAD,
            arena_printf(a,
                         "Channel %s lagged beyond sync_log_cap, and the log "
                         "that it needs is gone.",
                         c->name),
            "Seed the replica anew: `ctl_failover rejoin` over there.");
        break;
    case SLOT_CONNECTING:
        if (leads && c->lag_us > LAG_WARN_US)
            say(l, ADVICE_WARN,
                arena_printf(a, "Channel %s does not reach its replica: %s.",
                             c->name, c->text),
                "Is the other instance running, and its csync port open? New "
                "mail lies on this machine only.");
        break;
    case SLOT_DOWN:
        if (leads)
            say(l, ADVICE_BAD,
                arena_printf(a, "Nobody serves channel %s.", c->name),
                "Is `sync_client -r` in DAEMON of cyrus.conf? The log says "
                "why it ended.");
        break;
    case SLOT_STREAMING:
        if (leads && c->lag_us > LAG_WARN_US)
            say(l, ADVICE_WARN,
                arena_printf(
                    a, "The replica of channel %s is %" PRIu64 " s behind.",
                    c->name, c->lag_us / 1000000),
                "Nothing, if it is catching up. Otherwise look at its disk "
                "and at the network.");
        break;
    case SLOT_SEEDING:
        if (leads)
            say(l, ADVICE_NOTE,
                arena_printf(a, "The replica of channel %s is being seeded.",
                             c->name),
                "Nothing. Until that is through there is no second copy.");
        break;
    case SLOT_WAITING:
        break;
    }
}

static void
advise_twin(const struct sample *s, const struct sample_twin *t, struct list *l,
            struct arena *a)
{
    if (!t->was_asked)
        return;
    if (!t->is_reachable) {
        say(l, s->role == ROLE_REPLICA ? ADVICE_BAD : ADVICE_WARN,
            arena_printf(a, "The twin %s does not answer: %s.", t->host,
                         t->error),
            s->role == ROLE_REPLICA
                ? "If it is gone for good, switch it off and run "
                  "`ctl_failover promote` here."
                : "Look after it: there is no second copy of new mail, and "
                  "nobody to take over.");
        return;
    }
    /* Of histories that have parted it is said already who has to rejoin. */
    if (t->equality == EQUALITY_UNEQUAL && s->role != ROLE_FENCED &&
        t->role != ROLE_FENCED)
        say(l, ADVICE_BAD,
            arena_printf(a,
                         t->same_cluster
                             ? "The twin %s holds another state at the same "
                               "record."
                             : "The twin %s is of another cluster.",
                         t->host),
            "Keep both stores for a look, then `ctl_failover rejoin` on the "
            "replica.");
    if (t->role == ROLE_MASTER && s->role == ROLE_MASTER)
        say(l, ADVICE_BAD,
            arena_printf(a, "%s says that it is the master, too.", t->host),
            "The one of the lower epoch is fenced as soon as they meet. Keep "
            "clients from it.");
    if (t->role == ROLE_REPLICA && s->role == ROLE_REPLICA)
        say(l, ADVICE_BAD, "Both instances are replicas: nobody takes mail.",
            "`ctl_failover promote` on the one that is further ahead.");
    if (t->role == ROLE_FENCED)
        say(l, ADVICE_WARN,
            arena_printf(a, "The twin %s was deposed.", t->host),
            "`ctl_failover rejoin` over there makes it the replica again.");
}

size_t
advice_make(const struct sample *s, struct arena *a, const struct advice **ret)
{
    struct list *l = arena_alloc(a, sizeof(*l));
    struct advice *sorted = arena_array(a, ADVICE_MAX, sizeof(*sorted));
    size_t n = 0;

    if (!s->is_there)
        say(l, ADVICE_WARN, "The instance is not up yet.", "Wait.");
    advise_role(s, l);
    advise_acks(s, l, a);
    advise_disk(s, l, a);
    advise_index(&s->index, l, a);
    for (size_t i = 0; i < s->nchannels; i++)
        advise_channel(s, &s->channels[i], l, a);
    for (size_t i = 0; i < s->ntwins; i++)
        advise_twin(s, &s->twins[i], l, a);
    if (s->heartbeat_ms > STUCK_MS)
        say(l, ADVICE_BAD,
            arena_printf(a, "The main thread is stuck since %" PRIu64 " s.",
                         s->heartbeat_ms / 1000),
            "Keep a core of the process, then start it again.");
    for (int level = ADVICE_BAD; level <= ADVICE_NOTE; level++)
        for (size_t i = 0; i < l->n; i++)
            if ((int)l->v[i].level == level)
                sorted[n++] = l->v[i];
    *ret = sorted;
    return n;
}

/* ---- health ------------------------------------------------------------ */

const char *
health_complaint(const struct sample *s, enum health what, struct arena *a)
{
    if (s->heartbeat_ms > STUCK_MS)
        return arena_printf(a, "the main thread is stuck since %" PRIu64 " s",
                            s->heartbeat_ms / 1000);
    if (what == HEALTH_LIVE)
        return NULL;
    if (!s->is_there)
        return "not up yet";
    if (!s->is_serving)
        return "no clients are let in now";
    if (s->seeding || s->seed_wanted)
        return "waits for a seed";
    if (what == HEALTH_READY)
        return NULL;
    if (s->role != ROLE_MASTER)
        return arena_printf(a, "role %s", role_name(s->role));
    if (s->fence)
        return "the fence is up";
    if (s->sync_stalled_ms > STALLED_MS)
        return "the disk does not answer";
    if (s->acks.state == ACKS_REFUSING)
        return "no replica answers, and sync_ack refuses";
    return NULL;
}
