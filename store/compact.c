/*
 * store/compact.c - the compactor's steps, and its thread.
 *
 *   segment behind what is kept:  read its frames -> those bodies that rows
 *       name in it, sorted by user -> slices into packs -> LOCAL_BODIES moves
 * on pack with much dead:          read its headers -> the same -> condemned
 *   then:                         a flush; only now segments and condemned
 * packs go
 *
 * What is in memory here is a plan: after a crash it is made again from the
 * rows.  LOCAL_BODIES says which segments are done, accounts say which packs
 * are worth it, and a pack without an account, or condemned, is removed when
 * the store is opened.
 *
 * A segment with a damaged body cannot go: it waits for the repair and is tried
 * again, while packs and garbage are seen to.  The same with packs; one whose
 * headers end in something else is emptied as far as they can be followed, and
 * goes only if its account agrees that nothing is left.
 *
 * A segment with a place in the log that no twin has goes out of its turn.
 */
#include "store/compact_private.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "store/damage_private.h"
#include "store/seed.h"

#define NS_PER_S UINT64_C(1000000000)
#define TRY_AGAIN_NS (UINT64_C(600) * NS_PER_S)
#define DEAD_PERCENT 50U
/* So many are done before a flush is asked for on their account. */
#define EMPTIED_SEGMENTS 4U
#define EMPTIED_PACKS 8U
/* Deliveries that wait make the compactor wait, but not for ever. */
#define BUSY_QUEUE_BYTES ((size_t)1 << 20)
#define BUSY_WAIT_MS 10U
#define BUSY_WAITS 50U
#define IDLE_MS 1000U
#define TROUBLE_MS 10000U
#define RATE_WINDOW_NS (UINT64_C(5) * NS_PER_S)

struct pack_id {
    uint32_t dir;
    uint64_t pack;
    uint64_t until_ns; /* not tried before */
};

struct compactor {
    struct store *store;
    struct plan job;
    struct collector collector;
    uint64_t segment_until_ns; /* damaged ones in the first */
    uint64_t stuck_healed;     /* so many were healed then */
    uint64_t lost_segment;     /* up to here it is to go */
    unsigned emptied_segments;
    struct pack_id *condemned; /* go after the next flush */
    size_t ncondemned;
    struct pack_id *refused;
    size_t nrefused;
    atomic_uint keepers;

    atomic_ullong moved_parts, moved_bytes, dropped, removed_packs;
    atomic_ullong stuck_segment;
    pthread_mutex_t rate_lock;
    uint64_t window_ns, window_bytes;
    uint64_t rate;
};

struct compactor *
compactor_new(struct store *store)
{
    struct compactor *c = xcalloc(1, sizeof(*c));

    c->store = store;
    ENSURE(pthread_mutex_init(&c->rate_lock, NULL) == 0);
    return c;
}

void
compactor_free(struct compactor **pc)
{
    struct compactor *c = *pc;

    *pc = NULL;
    if (c == NULL)
        return;
    plan_end(&c->job);
    collector_done(&c->collector);
    free(c->condemned);
    free(c->refused);
    pthread_mutex_destroy(&c->rate_lock);
    free(c);
}

/* ----------------------------------------------------------------- garbage */

void
store_keep_garbage(struct store *store)
{
    atomic_fetch_add(&store->compactor->keepers, 1);
}

void
store_drop_garbage(struct store *store)
{
    ENSURE(atomic_fetch_sub(&store->compactor->keepers, 1) > 0);
}

bool
compact_keeps_garbage(struct store *store)
{
    return atomic_load(&store->compactor->keepers) > 0;
}

/* -------------------------------------------------------------------- rate */

void
compact_count(struct store *store, const struct moved *moved)
{
    atomic_fetch_add(&store->compactor->moved_parts, moved->parts);
    atomic_fetch_add(&store->compactor->moved_bytes, moved->bytes);
}

static void
count_rate(struct compactor *c, uint64_t bytes)
{
    const uint64_t now = env_mono_ns(c->store->env);

    pthread_mutex_lock(&c->rate_lock);
    if (c->window_ns == 0)
        c->window_ns = now;
    c->window_bytes += bytes;
    if (now - c->window_ns >= RATE_WINDOW_NS) {
        c->rate = (uint64_t)((double)c->window_bytes * (double)NS_PER_S /
                             (double)(now - c->window_ns));
        c->window_ns = now;
        c->window_bytes = 0;
    }
    pthread_mutex_unlock(&c->rate_lock);
}

/* False: the store is closing. */
static bool
wait_ms(struct store *store, uint64_t ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    const uint64_t ns = (uint64_t)at.tv_nsec + ms * 1000000;
    at.tv_sec += (time_t)(ns / NS_PER_S);
    at.tv_nsec = (long)(ns % NS_PER_S);
    pthread_mutex_lock(&store->lock);
    int waited = 0;
    while (!store->closing && waited != ETIMEDOUT)
        waited =
            pthread_cond_timedwait(&store->checkpoint_wake, &store->lock, &at);
    const bool goes_on = !store->closing;
    pthread_mutex_unlock(&store->lock);
    return goes_on;
}

bool
compact_pace(struct store *store, uint64_t bytes)
{
    const uint64_t rate = store->cfg.compaction.rate_bytes;

    count_rate(store->compactor, bytes);
    if (store->cfg.no_threads)
        return true;
    bool goes_on = wait_ms(store, rate == 0 ? 0 : bytes * 1000 / rate);
    for (unsigned i = 0; goes_on && i < BUSY_WAITS &&
                         store_queue_bytes(store) > BUSY_QUEUE_BYTES;
         i++)
        goes_on = wait_ms(store, BUSY_WAIT_MS);
    return goes_on;
}

/* ---------------------------------------------------- what is done may go */

/* While the writer stands still: nothing is left to remember of them. */
static enum errcode
forget_packs(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    const struct compactor *c = ctx;
    struct key k;

    (void)st;
    (void)err;
    for (size_t i = 0; i < c->ncondemned; i++)
        kv_batch_delete(
            b, KV_STATE,
            key_local_pack(&k, c->condemned[i].dir, c->condemned[i].pack));
    return ERR_OK;
}

/* After a flush: what condemned them is on disk. */
static enum errcode
remove_condemned(struct compactor *c, struct error *err)
{
    struct places *places = bodies_places(c->store->bodies);
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < c->ncondemned && rc == ERR_OK; i++)
        rc = packs_remove(places_packs(places, c->condemned[i].dir),
                          c->condemned[i].pack, err);
    if (rc == ERR_OK && c->ncondemned > 0)
        rc = store_local(c->store, forget_packs, c, err);
    if (rc != ERR_OK)
        return rc;
    atomic_fetch_add(&c->removed_packs, c->ncondemned);
    c->ncondemned = 0;
    return ERR_OK;
}

static enum errcode
let_go(struct compactor *c, struct error *err)
{
    enum errcode rc = store_checkpoint_locked(c->store, err);

    if (rc != ERR_OK)
        return rc;
    c->emptied_segments = 0;
    return remove_condemned(c, err);
}

/* -------------------------------------------------------------- choosing */

static void
begin_job(struct compactor *c, enum job_kind kind)
{
    const struct store_compaction *cfg = &c->store->cfg.compaction;
    const struct archive_rule rule = {
        .larger_bytes = cfg->archive ? cfg->archive_maxsize : 0,
        .keep_flagged = cfg->archive_keepflagged,
    };

    c->job = (struct plan){.kind = kind};
    c->job.placer = placer_new(c->store, &rule, 0);
}

/* While the writer stands still. */
static enum errcode
leave_segment(void *ctx, struct state *st, struct kv_batch *b,
              struct error *err)
{
    (void)st;
    (void)b;
    return synclog_rotate(ctx, err);
}

/* The last segment up to number LOST; false: those are gone.  *RET_CURRENT: it
 * is the one that is written. */
static bool
find_lost(struct store *store, uint64_t lost, struct synclog_segment *ret,
          bool *ret_current)
{
    AUTO(xfree) struct synclog_segment *v = NULL;
    const size_t n = synclog_segments(store->log, &v);
    size_t i = n;

    while (i > 0 && v[i - 1].number > lost)
        i--;
    if (i == 0)
        return false;
    *ret = v[i - 1];
    *ret_current = i == n;
    return true;
}

/*
 * What is damaged in the log and no twin has is of use to nobody once the state
 * on disk is beyond it, each replica too, and the bodies are out.  So all that
 * lies up to there goes, however much log is to be kept: what can be done for
 * that before bodies are moved, or when none is left.
 */
static enum errcode
let_go_of_lost(struct compactor *c, struct error *err)
{
    struct store *store = c->store;
    const uint64_t lost = store_damage_lost_segment(store);
    struct synclog_segment seg;
    bool is_current = false;
    lsn_t needed = 0;
    lsn_t body = 0;
    enum errcode rc = ERR_OK;

    c->lost_segment = lost;
    if (lost == 0 || !find_lost(store, lost, &seg, &is_current))
        return ERR_OK;
    if (is_current) {
        rc = store_local(store, leave_segment, store->log, err);
        if (rc != ERR_OK || !find_lost(store, lost, &seg, &is_current) ||
            is_current)
            return rc;
    }
    rc = store_log_needed(store, seg.last_lsn, &needed, err);
    if (rc == ERR_OK)
        rc = store_first_body(store, &body, err);
    if (rc != ERR_OK)
        return rc;
    pthread_mutex_lock(&store->pos_lock);
    const bool is_flushed = store->flushed_lsn >= seg.last_lsn;
    pthread_mutex_unlock(&store->pos_lock);
    return !is_flushed ||
                   (seg.last_lsn < needed && (body == 0 || seg.last_lsn < body))
               ? let_go(c, err)
               : ERR_OK;
}

/* Did the reason why the oldest one stayed go away, or may have? */
static bool
is_worth_a_try(const struct compactor *c)
{
    struct damage_view view;

    if (env_mono_ns(c->store->env) >= c->segment_until_ns)
        return true;
    store_damage_view(c->store, &view);
    return view.healed != c->stuck_healed;
}

/* The oldest segment that bodies may lie in, if it could go without them. */
static enum errcode
choose_segment(struct compactor *c, struct error *err)
{
    struct store *store = c->store;
    AUTO(xfree) struct synclog_segment *v = NULL;
    lsn_t body = 0;
    lsn_t needed = 0;

    if (!is_worth_a_try(c))
        return ERR_OK;
    enum errcode rc = store_first_body(store, &body, err);
    if (rc != ERR_OK || body == 0)
        return rc;
    const size_t n = synclog_segments(store->log, &v);
    uint64_t behind = 0;
    for (size_t i = 0; i < n; i++)
        behind += v[i].bytes;
    for (size_t i = 0; i + 1 < n; i++) {
        behind -= v[i].bytes;
        if (v[i].last_lsn < body)
            continue;
        if (behind < store->cfg.compaction.log_keep_bytes &&
            v[i].number > c->lost_segment)
            return ERR_OK;
        rc = store_log_needed(store, 0, &needed, err);
        if (rc == ERR_OK && v[i].last_lsn < needed) {
            begin_job(c, JOB_SEGMENT);
            c->job.segment = v[i];
        }
        return rc;
    }
    return ERR_OK;
}

struct choice {
    struct compactor *c;
    uint64_t now_ns;
    bool is_found;
    uint32_t dir;
    uint64_t pack;
    uint64_t total;
};

static bool
is_refused(const struct choice *ch, uint32_t dir, uint64_t pack)
{
    const struct compactor *c = ch->c;

    for (size_t i = 0; i < c->nrefused; i++)
        if (c->refused[i].dir == dir && c->refused[i].pack == pack &&
            ch->now_ns < c->refused[i].until_ns)
            return true;
    return false;
}

static bool
choose_pack_if(void *ctx, uint32_t dir, uint64_t pack,
               const struct pack_account *a)
{
    struct choice *ch = ctx;
    struct store *store = ch->c->store;
    struct packs *packs = places_packs(bodies_places(store->bodies), dir);
    const unsigned set = store->cfg.compaction.dead_percent;
    const uint64_t percent = set == 0 ? DEAD_PERCENT : set;

    if (a->is_condemned || packs == NULL || packs_current(packs) == pack ||
        is_refused(ch, dir, pack) ||
        (double)(a->total - a->live) * 100.0 <
            (double)percent * (double)a->total)
        return true;
    ch->is_found = true;
    ch->dir = dir;
    ch->pack = pack;
    ch->total = a->total;
    return false;
}

static enum errcode
choose_pack(struct compactor *c, struct error *err)
{
    struct choice ch = {.c = c, .now_ns = env_mono_ns(c->store->env)};
    enum errcode rc =
        pack_account_each(c->store->kv, NULL, choose_pack_if, &ch, err);

    if (rc == ERR_OK && ch.is_found) {
        begin_job(c, JOB_PACK);
        c->job.dir = ch.dir;
        c->job.pack = ch.pack;
        c->job.total = ch.total;
    }
    return rc;
}

/* --------------------------------------------------------------- finishing */

static void
add_pack(struct pack_id **v, size_t *n, const struct plan *j, uint64_t until_ns)
{
    *v = xrealloc(*v, (*n + 1) * sizeof(**v));
    (*v)[(*n)++] =
        (struct pack_id){.dir = j->dir, .pack = j->pack, .until_ns = until_ns};
}

static void
refuse_pack(struct compactor *c)
{
    const uint64_t until = env_mono_ns(c->store->env) + TRY_AGAIN_NS;

    for (size_t i = 0; i < c->nrefused; i++)
        if (c->refused[i].dir == c->job.dir &&
            c->refused[i].pack == c->job.pack) {
            c->refused[i].until_ns = until;
            return;
        }
    add_pack(&c->refused, &c->nrefused, &c->job, until);
}

/* While the writer stands still: the bodies of the log begin behind the
 * segment. */
static enum errcode
move_on(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    const lsn_t lsn = *(const lsn_t *)ctx;
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;

    (void)st;
    (void)err;
    buf_add_u64le(&value, lsn);
    kv_batch_put(b, KV_STATE, key_local(&k, LOCAL_BODIES), buf_span(&value));
    return ERR_OK;
}

static enum errcode
finish_segment(struct compactor *c, struct error *err)
{
    lsn_t next = c->job.segment.last_lsn + 1;

    if (c->job.moved.damaged > 0) {
        if (atomic_exchange(&c->stuck_segment, c->job.segment.number) !=
            c->job.segment.number)
            log_error(NULL, "store.segment_stuck",
                      "segment=%016" PRIx64 " damaged=%" PRIu64
                      " effect=\"the log cannot be trimmed until they are "
                      "repaired\"",
                      c->job.segment.number, c->job.moved.damaged);
        struct damage_view view;
        store_damage_view(c->store, &view);
        c->stuck_healed = view.healed;
        c->segment_until_ns = env_mono_ns(c->store->env) + TRY_AGAIN_NS;
        return ERR_OK;
    }
    c->segment_until_ns = 0;
    atomic_store(&c->stuck_segment, 0);
    enum errcode rc = store_local(c->store, move_on, &next, err);
    if (rc == ERR_OK)
        c->emptied_segments++;
    return rc;
}

struct condemning {
    const struct plan *job;
    bool done;
};

/* While the writer stands still. */
static enum errcode
condemn(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    struct condemning *d = ctx;
    const struct plan *j = d->job;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct pack_account a;
    struct span value;
    struct key k;
    struct span key = key_local_pack(&k, j->dir, j->pack);

    d->done = false;
    enum errcode rc = state_get(st, key, &st->scratch, &value, err);
    if (rc == ERR_OK)
        rc = pack_account_decode(value, &a, err);
    if (rc != ERR_OK)
        return rc;
    /* Something has come since, or something is left that we cannot find. */
    if (a.total != j->total || (j->is_broken && a.live > 0))
        return ERR_OK;
    a.live = 0;
    a.is_condemned = true;
    pack_account_encode(&a, &out);
    kv_batch_put(b, KV_STATE, key, buf_span(&out));
    d->done = true;
    return ERR_OK;
}

static enum errcode
finish_pack(struct compactor *c, struct error *err)
{
    struct condemning d = {.job = &c->job};
    enum errcode rc = ERR_OK;

    if (c->job.moved.damaged == 0)
        rc = store_local(c->store, condemn, &d, err);
    if (rc != ERR_OK)
        return rc;
    if (d.done)
        add_pack(&c->condemned, &c->ncondemned, &c->job, 0);
    else
        refuse_pack(c);
    return ERR_OK;
}

static enum errcode
job_step(struct compactor *c, uint64_t *ret_bytes, struct error *err)
{
    struct plan *j = &c->job;
    enum errcode rc = ERR_OK;

    if (!j->is_read)
        return plan_read(c->store, j, ret_bytes, err);
    if (j->at < j->items.n) {
        const struct moved before = j->moved;
        const size_t n = items_slice(j->items.v + j->at, j->items.n - j->at);
        rc = items_move(c->store, j->items.v + j->at, n, &j->moved, err);
        const struct moved more = {
            .parts = j->moved.parts - before.parts,
            .bytes = j->moved.bytes - before.bytes,
        };
        compact_count(c->store, &more);
        *ret_bytes += more.bytes + SLICE_BYTES / 16;
        j->at += n;
        return rc;
    }
    rc = j->kind == JOB_SEGMENT ? finish_segment(c, err) : finish_pack(c, err);
    plan_end(&c->job);
    return rc;
}

/* -------------------------------------------------------------------- step */

static enum errcode
next_job(struct compactor *c, struct error *err)
{
    enum errcode rc = let_go_of_lost(c, err);

    if (rc == ERR_OK)
        rc = choose_segment(c, err);
    if (rc == ERR_OK && c->job.kind == JOB_NONE)
        rc = choose_pack(c, err);
    return rc;
}

static enum errcode
step(struct compactor *c, bool *ret_more, uint64_t *ret_bytes,
     struct error *err)
{
    struct store *store = c->store;
    enum errcode rc = ERR_OK;

    *ret_more = false;
    if (store_is_empty(store))
        return ERR_OK; /* or being seeded */
    if (c->emptied_segments >= EMPTIED_SEGMENTS ||
        c->ncondemned >= EMPTIED_PACKS) {
        *ret_more = true;
        return let_go(c, err);
    }
    if (c->job.kind == JOB_NONE) {
        const uint64_t before = c->collector.dropped;
        rc = collect_step(store, &c->collector, ret_more, ret_bytes, err);
        atomic_fetch_add(&c->dropped, c->collector.dropped - before);
        if (rc != ERR_OK || *ret_more)
            return rc;
        rc = next_job(c, err);
    }
    if (rc == ERR_OK && c->job.kind != JOB_NONE) {
        *ret_more = true;
        rc = job_step(c, ret_bytes, err);
        if (rc != ERR_OK)
            plan_end(&c->job); /* made again from the rows */
        return rc;
    }
    if (rc == ERR_OK)
        rc = sweep_step(store, &c->collector, ret_more, ret_bytes, err);
    if (rc == ERR_OK && !*ret_more &&
        (c->emptied_segments > 0 || c->ncondemned > 0)) {
        *ret_more = true;
        rc = let_go(c, err);
    }
    return rc;
}

enum errcode
store_compact_step(struct store *store, bool *ret_more, uint64_t *ret_bytes,
                   struct error *err)
{
    bool more = false;
    uint64_t bytes = 0;

    pthread_mutex_lock(&store->checkpoint_lock);
    enum errcode rc = step(store->compactor, &more, &bytes, err);
    pthread_mutex_unlock(&store->checkpoint_lock);
    *ret_more = more;
    *ret_bytes = bytes;
    return rc == ERR_OK ? rc : error_prefix(err, "compaction");
}

/* ------------------------------------------------------------------ thread */

void *
compact_main(void *arg)
{
    struct store *store = arg;
    bool goes_on = wait_ms(store, IDLE_MS);
    enum errcode said = ERR_OK; /* the trouble that is in the log already */

    while (goes_on) {
        struct error err = {0};
        uint64_t bytes = 0;
        bool more = false;
        if (store->dead) {
            goes_on = wait_ms(store, TROUBLE_MS);
            continue;
        }
        const enum errcode rc = store_compact_step(store, &more, &bytes, &err);
        if (rc != ERR_OK && rc != said)
            log_warn(NULL, "store.compaction_failed",
                     "why=\"%s\" effect=\"nothing is lost; tried again\"",
                     err.text);
        said = rc;
        goes_on = compact_pace(store, bytes);
        if (goes_on && rc != ERR_OK)
            goes_on = wait_ms(store, TROUBLE_MS);
        else if (goes_on && !more)
            goes_on = wait_ms(store, IDLE_MS);
    }
    return NULL;
}

/* -------------------------------------------------------------------- view */

static bool
add_up(void *ctx, uint32_t dir, uint64_t pack, const struct pack_account *a)
{
    struct compaction_view *v = ctx;

    (void)dir;
    (void)pack;
    v->packs++;
    v->pack_bytes += a->total;
    v->dead_bytes += a->total - a->live;
    return true;
}

enum errcode
store_compaction_view(struct store *store, struct compaction_view *ret,
                      struct error *err)
{
    struct compactor *c = store->compactor;
    struct compaction_view v = {
        .moved_bodies = atomic_load(&c->moved_parts),
        .moved_bytes = atomic_load(&c->moved_bytes),
        .dropped = atomic_load(&c->dropped),
        .removed_packs = atomic_load(&c->removed_packs),
        .stuck_segment = atomic_load(&c->stuck_segment),
    };

    count_rate(c, 0);
    pthread_mutex_lock(&c->rate_lock);
    v.bytes_per_s = c->rate;
    pthread_mutex_unlock(&c->rate_lock);
    pthread_mutex_lock(&store->pos_lock); /* the log may be begun anew */
    v.log_bytes = synclog_bytes(store->log);
    pthread_mutex_unlock(&store->pos_lock);
    struct history_sum kept;
    enum errcode rc = pack_account_each(store->kv, NULL, add_up, &v, err);
    if (rc == ERR_OK)
        rc = history_sum_read(store->kv, &kept, err);
    if (rc != ERR_OK)
        return rc;
    v.history_rows = kept.rows;
    v.history_bytes = kept.bytes;
    *ret = v;
    return rc;
}
