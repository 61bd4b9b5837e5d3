/*
 * store/acks.c - groups that are durable here and wait for replicas.
 *
 * What a group has done is in the key-value store as soon as it is durable, for
 * the next groups build on it.  Readers see it later: while something waits
 * they share one view of the state, that of the last group that enough replicas
 * have.  So a group costs one view, and a reader nothing.
 *
 * The writer puts what it has finished at the end of `held`; a thread listens
 * to the bell that sync_client rings with each acknowledgement, takes off the
 * front what enough slots have, shows it, and answers.  The writer never waits.
 *
 * What was answered with nothing written ("that was delivered before") waits
 * too, for what it was found in may not be on a replica yet.
 */
#include "store/acks.h"

#include <stdlib.h>

#include "base/log.h"
#include "store/store_private.h"
#include "synclog/bell.h"
#include "synclog/slot.h"

#define NS_PER_MS UINT64_C(1000000)
#define TICK_MS 200
#define TIMEOUT_MS_DEFAULT 10000U
#define SLOTS_MAX 64U

struct shared_view {
    struct kv_snap *snap;
    atomic_uint refs;
};

struct held {
    struct held *next;
    lsn_t lsn;
    uint64_t since_ns;
    struct job_list jobs;
    struct shared_view *view; /* NULL: nothing was written */
    struct store_pos pos;
    struct frame_digest fresh[4];
    size_t nfresh;
    mbid_t *changed;
    size_t nchanged;
    bool list_changed;
};

struct channel {
    struct synclog_slot *slot;
};

struct acks {
    struct store *store;
    enum ack_mode mode;
    unsigned replicas;
    uint64_t timeout_ns;
    bool degrade;

    pthread_mutex_t lock;
    pthread_cond_t settled; /* `held` is empty, or nobody waits in it */
    struct held *first, **last;
    uint64_t nheld;
    struct shared_view *visible; /* NULL: the newest */
    bool in_write; /* the state may be ahead of what may be seen */
    enum ack_state state;
    uint64_t since_us;   /* wall clock, in this state */
    uint64_t missing_ns; /* since when too few stream; 0: enough do */
    lsn_t acked;
    unsigned have;
    lsn_t tick_lsn; /* DEGRADED: durable when last looked at */
    uint64_t refused, alone;
    bool is_master;
    bool closing;

    pthread_t thread;
    struct synclog_bell *bell;
    /* The thread's own. */
    struct channel channels[SLOTS_MAX];
    size_t nchannels;
    uint64_t listed_ns;
};

const char *
ack_state_name(enum ack_state state)
{
    static const char *const names[] = {
        [ACKS_OFF] = "off",
        [ACKS_WAITING] = "waiting",
        [ACKS_REFUSING] = "refusing",
        [ACKS_DEGRADED] = "degraded",
    };

    return names[state];
}

/* ----------------------------------------------------------------- views */

static struct shared_view *
view_new(struct store *store)
{
    struct shared_view *v = xcalloc(1, sizeof(*v));

    v->snap = kv_snapshot(store->kv);
    atomic_store(&v->refs, 1);
    return v;
}

void
shared_view_release(struct store *store, struct shared_view **viewp)
{
    struct shared_view *v = *viewp;

    *viewp = NULL;
    if (v == NULL || atomic_fetch_sub(&v->refs, 1) != 1)
        return;
    kv_release(store->kv, &v->snap);
    free(v);
}

struct shared_view *
acks_view(struct store *store, struct kv_snap **ret)
{
    struct acks *a = store->sync_acks;

    if (a == NULL) {
        *ret = kv_snapshot(store->kv);
        return NULL;
    }
    pthread_mutex_lock(&a->lock);
    struct shared_view *v = a->visible;
    if (v != NULL)
        atomic_fetch_add(&v->refs, 1);
    *ret = v != NULL ? v->snap : kv_snapshot(store->kv);
    pthread_mutex_unlock(&a->lock);
    return v;
}

/* ------------------------------------------------------------------ held */

static void
held_free(struct acks *a, struct held *h)
{
    shared_view_release(a->store, &h->view);
    free(h->changed);
    free(h);
}

static void
fire(struct store *store, const struct held *h)
{
    for (size_t i = 0; i < h->nchanged; i++)
        watches_fire(&store->watches, h->changed[i]);
    if (h->list_changed)
        watches_fire(&store->watches, 0);
}

static struct held *
take_first(struct acks *a)
{
    struct held *h = a->first;

    a->first = h->next;
    if (a->first == NULL)
        a->last = &a->first;
    a->nheld--;
    h->next = NULL;
    return h;
}

/*
 * All that is held up to LSN may be seen from now on; with the lock.  It comes
 * back for deliver(), without it.
 */
static struct held *
show_until(struct acks *a, lsn_t lsn)
{
    struct held *out = NULL;
    struct held **end = &out;

    while (a->first != NULL && a->first->lsn <= lsn) {
        struct held *h = take_first(a);
        if (h->view != NULL) {
            struct shared_view *v = h->view;
            h->view = a->visible;
            a->visible = v;
            writer_publish(a->store, &h->pos, h->fresh, h->nfresh);
        }
        *end = h;
        end = &h->next;
    }
    if (a->first == NULL) {
        if (!a->in_write)
            shared_view_release(a->store, &a->visible);
        pthread_cond_broadcast(&a->settled);
    }
    return out;
}

/* ERR NULL: it is done. */
static void
deliver(struct acks *a, struct held *out, const struct error *err)
{
    if (out == NULL)
        return;
    store_answers(a->store, true);
    for (struct held *h; (h = out) != NULL;) {
        out = h->next;
        if (err == NULL)
            jobs_answer(a->store, &h->jobs);
        else
            jobs_refuse(a->store, &h->jobs, err);
        fire(a->store, h);
        held_free(a, h);
    }
    store_answers(a->store, false);
}

static void
note_changed(struct store *store, struct held *h)
{
    size_t n = 0;

    for (struct head *head = store->st.all_heads; head != NULL;
         head = head->all)
        n += head->changed;
    h->changed = n == 0 ? NULL : xcalloc(n, sizeof(*h->changed));
    for (struct head *head = store->st.all_heads; head != NULL;
         head = head->all)
        if (head->changed)
            h->changed[h->nchanged++] = head->mb.id;
    h->list_changed = store->st.v.list_changed;
}

/* A list knows where it ends by an address, which is its own when empty. */
static void
move_jobs(struct store *store, struct job_list *to)
{
    struct job *job;

    jobs_init(to);
    while ((job = jobs_take(&store->acks)) != NULL)
        jobs_add(to, job);
}

static void
add_held(struct acks *a, struct held *h)
{
    h->since_ns = env_mono_ns(a->store->env);
    move_jobs(a->store, &h->jobs);
    *a->last = h;
    a->last = &h->next;
    a->nheld++;
}

static void
missed_error(const struct acks *a, const char *then, struct error *ret)
{
    (void)error_set(ret, ERR_TIMEOUT,
                    "%u of %u replicas stream, and too few have acknowledged "
                    "within %" PRIu64 " ms: %s",
                    a->have, a->replicas, a->timeout_ns / NS_PER_MS, then);
}

/* ---------------------------------------------------------- for the writer */

bool
acks_are_none(struct store *store)
{
    struct acks *a = store->sync_acks;

    if (a == NULL)
        return true;
    pthread_mutex_lock(&a->lock);
    const bool none = a->first == NULL || a->state == ACKS_REFUSING;
    pthread_mutex_unlock(&a->lock);
    return none;
}

void
acks_begin(struct store *store)
{
    struct acks *a = store->sync_acks;

    if (a == NULL || store->role != ROLE_MASTER || store->begins_epoch)
        return;
    pthread_mutex_lock(&a->lock);
    if (a->state != ACKS_DEGRADED) {
        a->in_write = true;
        if (a->visible == NULL)
            a->visible = view_new(store);
    }
    pthread_mutex_unlock(&a->lock);
}

bool
acks_hold(struct store *store)
{
    struct acks *a = store->sync_acks;
    bool missed = false;

    if (a == NULL || store->role != ROLE_MASTER)
        return false;
    pthread_mutex_lock(&a->lock);
    const bool waits = a->in_write && a->state != ACKS_DEGRADED;
    a->in_write = false;
    if (waits) {
        struct held *h = xcalloc(1, sizeof(*h));
        h->lsn = store->reached.applied.lsn;
        h->view = view_new(store);
        h->pos = store->reached;
        h->nfresh = MIN(store->nfresh, ARRAY_LEN(h->fresh));
        memcpy(h->fresh, store->fresh + store->nfresh - h->nfresh,
               h->nfresh * sizeof(h->fresh[0]));
        store->nfresh = 0;
        note_changed(store, h);
        add_held(a, h);
        missed = a->acked >= h->lsn || a->state == ACKS_REFUSING;
    } else {
        /* Whatever waited was shown when it was decided not to wait. */
        shared_view_release(store, &a->visible);
        a->alone += !store->begins_epoch;
    }
    pthread_mutex_unlock(&a->lock);
    if (missed) /* the acknowledgement was faster than we are */
        bell_ring(a->bell);
    return waits;
}

bool
acks_hold_answers(struct store *store)
{
    struct acks *a = store->sync_acks;

    if (a == NULL)
        return false;
    pthread_mutex_lock(&a->lock);
    const bool waits = a->first != NULL;
    if (waits) {
        struct held *h = xcalloc(1, sizeof(*h));
        h->lsn = store->reached.applied.lsn;
        add_held(a, h);
    }
    pthread_mutex_unlock(&a->lock);
    return waits;
}

void
acks_refuse(struct store *store, struct job_list *list)
{
    struct acks *a = store->sync_acks;
    struct job_list kept, refused;
    struct job *job;
    struct error err;

    if (a == NULL)
        return;
    jobs_init(&kept);
    jobs_init(&refused);
    pthread_mutex_lock(&a->lock);
    if (a->state == ACKS_REFUSING) {
        while ((job = jobs_take(list)) != NULL) {
            const bool waits =
                !job->is_frames && !((struct store_txn *)job)->is_begin;
            jobs_add(waits ? &refused : &kept, job);
            a->refused += waits;
        }
        missed_error(a, "nothing was done", &err);
        while ((job = jobs_take(&kept)) != NULL)
            jobs_add(list, job);
    }
    pthread_mutex_unlock(&a->lock);
    jobs_refuse(store, &refused, &err);
}

/* ------------------------------------------------------------ the thread */

static void
forget_channels(struct acks *a)
{
    for (size_t i = 0; i < a->nchannels; i++)
        slot_detach(&a->channels[i].slot);
    a->nchannels = 0;
}

/* Channels come and go with their files. */
static void
list_channels(struct acks *a)
{
    AUTO(buf_free) struct buf names = BUF_INIT;
    struct error err = {0};

    a->listed_ns = env_mono_ns(a->store->env);
    if (slot_list(a->store->env, a->store->log_dir, &names, &err) != ERR_OK) {
        log_warn(NULL, "store.acks", "why=\"%s\"", err.text);
        return;
    }
    forget_channels(a);
    for (size_t at = 0; at < names.n && a->nchannels < SLOTS_MAX;) {
        const char *name = (const char *)names.p + at;
        struct channel *c = &a->channels[a->nchannels];
        at += strlen(name) + 1;
        if (slot_attach(a->store->log_dir, name, false, &c->slot, NULL) ==
            ERR_OK)
            a->nchannels++;
    }
}

static int
by_lsn_down(const void *x, const void *y)
{
    const lsn_t *a = x;
    const lsn_t *b = y;

    return (*a < *b) - (*a > *b);
}

/* What enough of the channels have, and how many there are at all. */
static lsn_t
count_channels(const struct acks *a, unsigned *ret_have)
{
    lsn_t has[SLOTS_MAX];
    unsigned n = 0;

    for (size_t i = 0; i < a->nchannels; i++) {
        const struct synclog_slot *slot = a->channels[i].slot;
        /* Elsewhere the page may be of another stream than it will be. */
        if (atomic_load(&slot->state) != SLOT_STREAMING ||
            atomic_load(&slot->by_state) != 0)
            continue;
        has[n++] = a->mode == ACK_RECEIVED ? atomic_load(&slot->received_lsn)
                                           : atomic_load(&slot->durable_lsn);
    }
    *ret_have = n;
    if (n < a->replicas)
        return LSN_NONE;
    qsort(has, n, sizeof(has[0]), by_lsn_down);
    return has[a->replicas - 1];
}

static void
enter(struct acks *a, enum ack_state state, const char *event,
      const char *effect)
{
    const uint64_t now = env_wall_us(a->store->env);

    log_warn(NULL, event,
             "was=%s for_ms=%" PRIu64 " streaming=%u of=%u acked=%" PRI_LSN
             " effect=\"%s\"",
             ack_state_name(a->state), (now - a->since_us) / 1000, a->have,
             a->replicas, a->acked, effect);
    a->state = state;
    a->since_us = now;
}

/* Who waits for a replica in vain; with the lock.  The groups stay, unseen. */
static void
give_up(struct acks *a, struct job_list *ret)
{
    struct job *job;

    for (struct held *h = a->first; h != NULL; h = h->next)
        while ((job = jobs_take(&h->jobs)) != NULL) {
            jobs_add(ret, job);
            a->refused++;
        }
    pthread_cond_broadcast(&a->settled);
}

static bool
is_late(struct acks *a, uint64_t now)
{
    if (a->have >= a->replicas)
        a->missing_ns = 0;
    else if (a->missing_ns == 0)
        a->missing_ns = now;
    return (a->first != NULL && now - a->first->since_ns >= a->timeout_ns) ||
           (a->missing_ns != 0 && now - a->missing_ns >= a->timeout_ns);
}

/* Has a whole tick gone by since the last one, and all of it come over? */
static bool
has_caught_up(struct acks *a)
{
    const bool up = a->have >= a->replicas && a->tick_lsn != LSN_NONE &&
                    a->acked >= a->tick_lsn;

    a->tick_lsn = store_pos(a->store).applied.lsn;
    return up;
}

/* With the lock: what follows from what is known now.  Returns what has come to
 * be seen, and in RET_REFUSED who is not answered that way. */
static struct held *
decide(struct acks *a, bool tick, struct job_list *ret_refused)
{
    const uint64_t now = env_mono_ns(a->store->env);
    struct held *out = show_until(a, a->acked);

    if (!a->is_master)
        return out;
    const bool late = is_late(a, now);
    switch (a->state) {
    case ACKS_OFF:
        break;
    case ACKS_WAITING:
        if (late && a->degrade) {
            enter(a, ACKS_DEGRADED, "store.ack_degraded",
                  "mutations are answered without a replica");
            a->tick_lsn = LSN_NONE;
            struct held **end = &out;
            while (*end != NULL)
                end = &(*end)->next;
            *end = show_until(a, UINT64_MAX);
        } else if (late) {
            enter(a, ACKS_REFUSING, "store.ack_refusing",
                  "mutations are refused");
            give_up(a, ret_refused);
        }
        break;
    case ACKS_REFUSING:
        if (a->first == NULL && a->have >= a->replicas)
            enter(a, ACKS_WAITING, "store.ack_restored",
                  "mutations wait for replicas again");
        else
            give_up(a, ret_refused);
        break;
    case ACKS_DEGRADED:
        if (tick && has_caught_up(a))
            enter(a, ACKS_WAITING, "store.ack_restored",
                  "mutations wait for replicas again");
        break;
    }
    return out;
}

static void
look(struct acks *a)
{
    const uint64_t now = env_mono_ns(a->store->env);
    const bool tick = now - a->listed_ns >= TICK_MS * NS_PER_MS;
    struct job_list refused;
    struct error err;
    unsigned have = 0;

    if (tick)
        list_channels(a);
    jobs_init(&refused);
    const lsn_t acked = count_channels(a, &have);
    pthread_mutex_lock(&a->lock);
    a->acked = acked;
    a->have = have;
    struct held *out = decide(a, tick, &refused);
    missed_error(a, "it is durable here, and may appear later", &err);
    pthread_mutex_unlock(&a->lock);
    deliver(a, out, NULL);
    jobs_refuse(a->store, &refused, &err);
}

/* All that is held, which nobody shows any more; with the lock. */
static struct held *
take_all(struct acks *a)
{
    struct held *out = a->first;

    a->first = NULL;
    a->last = &a->first;
    a->nheld = 0;
    pthread_cond_broadcast(&a->settled);
    return out;
}

static void
refuse_dead(struct acks *a)
{
    struct store *store = a->store;

    pthread_mutex_lock(&store->lock);
    struct error err = store->dead_err;
    pthread_mutex_unlock(&store->lock);
    pthread_mutex_lock(&a->lock);
    struct held *out = take_all(a);
    pthread_mutex_unlock(&a->lock);
    deliver(a, out, &err);
}

static bool
is_closing(struct acks *a)
{
    pthread_mutex_lock(&a->lock);
    const bool closing = a->closing;
    pthread_mutex_unlock(&a->lock);
    return closing;
}

static void *
acks_main(void *ctx)
{
    struct acks *a = ctx;
    uint32_t seq = atomic_load(&a->bell->seq);

    list_channels(a);
    while (!is_closing(a)) {
        if (a->store->dead)
            refuse_dead(a);
        else
            look(a);
        seq = bell_wait(
            a->bell, seq,
            (int)MIN((uint64_t)TICK_MS, a->timeout_ns / NS_PER_MS / 4));
    }
    return NULL;
}

/* --------------------------------------------------------- roles, the end */

struct held *
acks_reset(struct store *store, enum role role)
{
    struct acks *a = store->sync_acks;

    if (a == NULL)
        return NULL;
    pthread_mutex_lock(&a->lock);
    a->in_write = false;
    struct held *out = show_until(a, UINT64_MAX);
    shared_view_release(store, &a->visible);
    a->is_master = role == ROLE_MASTER;
    a->state = a->is_master ? ACKS_WAITING : ACKS_OFF;
    a->since_us = env_wall_us(store->env);
    a->missing_ns = 0;
    pthread_mutex_unlock(&a->lock);
    return out;
}

void
acks_refuse_held(struct store *store, struct held *held)
{
    struct error err;

    (void)error_set(&err, ERR_FENCED,
                    "it is durable, but this instance ceased to be the master "
                    "before a replica had it");
    if (held != NULL)
        deliver(store->sync_acks, held, &err);
}

void
acks_wait(struct store *store)
{
    struct acks *a = store->sync_acks;

    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    while (a->first != NULL && a->state != ACKS_REFUSING && !a->closing)
        pthread_cond_wait(&a->settled, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

enum errcode
acks_start(struct store *store, struct error *err)
{
    const struct store_acks *cfg = &store->cfg.acks;

    if (cfg->mode == ACK_NONE)
        return ERR_OK;
    ENSURE(!store->cfg.no_threads);
    struct acks *a = xcalloc(1, sizeof(*a));
    enum errcode rc = bell_attach(store->log_dir, &a->bell, err);
    if (rc != ERR_OK) {
        free(a);
        return error_prefix(err, "sync_ack");
    }
    a->store = store;
    a->mode = cfg->mode;
    a->replicas = MAX(cfg->replicas, 1U);
    a->timeout_ns =
        (cfg->timeout_ms == 0 ? TIMEOUT_MS_DEFAULT : cfg->timeout_ms) *
        NS_PER_MS;
    a->degrade = cfg->degrade;
    a->last = &a->first;
    a->since_us = env_wall_us(store->env);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->settled, NULL);
    store->sync_acks = a;
    ENSURE(pthread_create(&a->thread, NULL, acks_main, a) == 0);
    return ERR_OK;
}

void
acks_stop(struct store *store)
{
    struct acks *a = store->sync_acks;
    struct error err;

    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    a->closing = true;
    pthread_cond_broadcast(&a->settled);
    pthread_mutex_unlock(&a->lock);
    bell_ring(a->bell);
    pthread_join(a->thread, NULL);
    (void)error_set(&err, ERR_CLOSED,
                    "it is durable, but the store is being closed before a "
                    "replica has it");
    pthread_mutex_lock(&a->lock);
    struct held *out = take_all(a);
    pthread_mutex_unlock(&a->lock);
    deliver(a, out, &err);
    shared_view_release(store, &a->visible);
    forget_channels(a);
    bell_detach(&a->bell);
    pthread_cond_destroy(&a->settled);
    pthread_mutex_destroy(&a->lock);
    free(a);
    store->sync_acks = NULL;
}

void
store_ack_view(struct store *store, struct ack_view *ret)
{
    struct acks *a = store->sync_acks;

    *ret = (struct ack_view){.mode = ACK_NONE};
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    *ret = (struct ack_view){
        .mode = a->mode,
        .state = a->state,
        .replicas = a->replicas,
        .have = a->have,
        .degrade = a->degrade,
        .timeout_ms = a->timeout_ns / NS_PER_MS,
        .since_us = a->since_us,
        .acked = a->acked,
        .held = a->nheld,
        .refused = a->refused,
        .alone = a->alone,
    };
    pthread_mutex_unlock(&a->lock);
}
