/*
 * tests/sim/faults.c - what goes wrong, and the person who operates the cluster
 * with ctl_failover as the documentation says.
 *
 * The operator promotes only a replica that knows of the newest epoch, and
 * swaps only the master of it: without a third vote nothing else keeps two
 * promotions of one epoch apart.
 */
#include "tests/sim/sim_private.h"

#include <stdlib.h>

#include "store/compact.h"
#include "store/store_private.h"

static struct machine *
random_machine(struct world *w)
{
    return &w->m[sim_random(w, NODES)];
}

/* ---- faults ------------------------------------------------------------ */

static void
crash_soon(struct world *w, struct machine *m)
{
    m->cut_how = sim_one_in(w, 2) ? DIED_POWER : DIED_KILL;
    m->cut_at = m->calls + 1 + sim_random(w, 60);
    m->nth_at_start = sim_one_in(w, 3);
    sim_trace(w, "n%u is to die at call %llu", m->i,
              (unsigned long long)m->cut_at);
}

static void
crash_now(struct world *w, struct machine *m)
{
    if (sim_one_in(w, 4))
        m->restart_at = w->now + sim_random(w, 20 * US_PER_S);
    m->nth_at_start = sim_one_in(w, 3);
    machine_die(m, sim_one_in(w, 2) ? DIED_POWER : DIED_KILL);
}

static void
fill_disk(struct world *w, struct machine *m)
{
    const uint64_t used = env_sim_used_bytes(m->sim);

    m->disk_bytes =
        used < 8192 ? 4096
                    : used - 4096 * sim_random(w, 2) + 4096 * sim_random(w, 80);
    env_sim_set_disk_bytes(m->sim, m->disk_bytes);
    w->res->full_disks++;
    sim_trace(w, "n%u: disk is full soon", m->i);
}

static void
empty_disk(struct machine *m)
{
    m->disk_bytes = 0;
    env_sim_set_disk_bytes(m->sim, 0);
}

static void
fill_kv(struct world *w, struct machine *m)
{
    if (m->node == NULL || m->kv == NULL)
        return;
    m->kv_full = !m->kv_full;
    kv_mem_fail(m->kv, m->kv_full ? ERR_NOSPACE : ERR_OK);
    sim_trace(w, "n%u: state's disk %s", m->i,
              m->kv_full ? "full" : "has room");
}

static void
fail_call(struct world *w, struct machine *m)
{
    m->eio_at = m->calls + 1 + sim_random(w, 40);
    m->eio_lies = sim_one_in(w, 2);
    sim_trace(w, "n%u: a call is to fail%s", m->i,
              m->eio_lies ? ", a sync" : "");
}

static void
part(struct world *w)
{
    const unsigned a = (unsigned)sim_random(w, NODES);
    const bool one_way = sim_one_in(w, 3);

    for (unsigned b = 0; b < NODES; b++) {
        if (b == a || sim_one_in(w, 4))
            continue;
        w->cut[a][b] = true;
        if (!one_way)
            w->cut[b][a] = true;
    }
    w->cut_until = w->now + (sim_one_in(w, 3) ? sim_random(w, 40 * US_PER_S)
                                              : sim_random(w, 2 * US_PER_S));
    sim_trace(w, "n%u is cut off%s", a, one_way ? ", one way" : "");
}

static void
mend(struct world *w)
{
    memset(w->cut, 0, sizeof(w->cut));
    w->cut_until = 0;
}

static void
pause_machine(struct world *w, struct machine *m)
{
    m->paused_until =
        w->now + sim_random(w, sim_one_in(w, 3) ? 30 * US_PER_S : US_PER_S);
    w->res->pauses++;
    sim_trace(w, "n%u is paused", m->i);
}

static void
jump_clock(struct world *w, struct machine *m)
{
    const uint64_t day = 24 * 3600 * US_PER_S;
    const uint64_t now = env_wall_us(env_sim_env(m->sim));

    env_sim_set_wall_us(m->sim, now + sim_random(w, 2 * day) - day);
    sim_trace(w, "n%u: clock jumps", m->i);
}

static void
flush(struct world *w, struct machine *m)
{
    struct error err = {0};

    if (m->node == NULL || machine_is_paused(m))
        return;
    enum errcode rc = sim_one_in(w, 2)
                          ? kv_flush(m->kv, &err)
                          : store_checkpoint(machine_store(m), &err);
    sim_trace(w, "n%u flush: %s", m->i, errcode_name(rc));
    if (rc == ERR_IO || rc == ERR_CORRUPT)
        store_die(machine_store(m), &err);
}

/* As the compactor's thread: what fails is tried again another time. */
static void
compact(struct world *w, struct machine *m)
{
    struct error err = {0};
    enum errcode rc = ERR_OK;
    bool more = true;
    uint64_t bytes, all = 0;

    if (m->node == NULL || machine_is_paused(m))
        return;
    for (uint64_t n = 1 + sim_random(w, 60); n > 0 && more && rc == ERR_OK;
         n--) {
        rc = store_compact_step(machine_store(m), &more, &bytes, &err);
        all += rc == ERR_OK ? bytes : 0;
    }
    sim_trace(w, "n%u compact: %s, %llu bytes", m->i, errcode_name(rc),
              (unsigned long long)all);
    w->res->compacted_bytes += all;
    if (rc == ERR_CORRUPT && m->death == ALIVE)
        sim_violation(w, "I21: n%u: %s", m->i, err.text);
    if (m->death == ALIVE)
        told_bodies(w, m, 2);
}

/* By hand: touch(1) and rm(1). */
static void
touch_fence(struct world *w, struct machine *m)
{
    struct env *env = env_sim_env(m->sim);
    struct envfile *f = NULL;
    struct error err = {0};

    if (procs_busy(w))
        return;
    AUTO(buf_free) struct buf text = BUF_INIT;
    if (env_exists(env, m->fence)) {
        /* Not after a handover was sent: only the tool may say what came. */
        (void)!env_read_file(env, m->fence, 4096, &text, &err);
        if (span_starts(buf_span(&text), SPAN_LIT("handover")))
            return;
        (void)!env_unlink(env, m->fence, &err);
    } else if (env_open(env, m->fence, ENV_CREATE, &f, &err) == ERR_OK) {
        env_close(&f);
        w->operated = true;
    }
    sim_trace(w, "n%u: fence by hand", m->i);
}

static struct machine *
find_master(struct world *w)
{
    for (unsigned i = 0; i < NODES; i++)
        if (machine_is_master(&w->m[i]))
            return &w->m[i];
    return NULL;
}

static void
ctl(struct world *w, struct machine *m, unsigned peer, const char *verb,
    bool force)
{
    sim_trace(w, "operator: n%u %s, twin n%u", m->i, verb, peer);
    (void)proc_start(w, m, PROC_CTL, peer, verb, force);
    w->operator_at = w->now + US_PER_S;
}

static unsigned
random_peer(struct world *w, const struct machine *m)
{
    return (m->i + 1 + (unsigned)sim_random(w, NODES - 1)) % NODES;
}

static void
swap(struct world *w)
{
    struct machine *m = find_master(w);

    if (m == NULL || procs_busy(w))
        return;
    /* Nor does a master that came back from an epoch that is over, and has not
     * met the others yet: its swap would make an epoch a second time. */
    if (store_pos(machine_store(m)).applied.epoch < w->max_epoch)
        return;
    w->operated = true;
    unsigned peer = random_peer(w, m);
    /* While a handover is open, only who was asked can say what came of it. */
    struct logstatus s;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    m->inst.status(m->inst.ctx, &a, &s);
    if (s.fence && m->handover_to != 0)
        peer = m->handover_to - 1;
    m->handover_to = peer + 1;
    m->handover_epoch = s.epoch;
    ctl(w, m, peer, "swap", sim_one_in(w, 3));
}

/* The master is away, or cut off: somebody promotes a replica. */
static void
lose_master(struct world *w)
{
    struct machine *m = find_master(w);

    if (m == NULL || procs_busy(w))
        return;
    if (sim_one_in(w, 2)) {
        m->restart_at = w->now + US_PER_S + sim_random(w, 8 * US_PER_S);
        machine_die(m, sim_one_in(w, 2) ? DIED_POWER : DIED_KILL);
    } else {
        for (unsigned i = 0; i < NODES; i++)
            w->cut[m->i][i] = w->cut[i][m->i] = i != m->i;
        w->cut_until = w->now + 500 * US_PER_MS + sim_random(w, 8 * US_PER_S);
        sim_trace(w, "n%u, the master, is cut off", m->i);
    }
    w->promote_at = w->now + sim_random(w, 800 * US_PER_MS);
}

/* ---- which, and how often ---------------------------------------------- */

static void
part_some(struct world *w, struct machine *m)
{
    (void)m;
    part(w);
}

static void
mend_all(struct world *w, struct machine *m)
{
    (void)m;
    mend(w);
}

static void
cut_one(struct world *w, struct machine *m)
{
    (void)m;
    net_cut_random(w);
}

static void
swap_master(struct world *w, struct machine *m)
{
    (void)m;
    swap(w);
}

static void
lose_the_master(struct world *w, struct machine *m)
{
    (void)m;
    lose_master(w);
}

static void
change_network(struct world *w, struct machine *m)
{
    (void)m;
    w->delay_us = 100 + sim_random(w, sim_one_in(w, 4) ? 200000 : 2000);
}

static void
change_disk(struct world *w, struct machine *m)
{
    m->slow_us = 50 + sim_random(w, sim_one_in(w, 4) ? 300000 : 2000);
}

static void
kill_sync(struct world *w, struct machine *m)
{
    procs_kill(w, m, PROC_SYNC);
    for (unsigned j = 0; j < NODES && m->node != NULL; j++)
        if (j != m->i)
            (void)proc_start(w, m, PROC_SYNC, j, NULL, false);
}

/* In the middle of a swap, maybe. */
static void
kill_ctl(struct world *w, struct machine *m)
{
    procs_kill(w, m, PROC_CTL);
}

static void
make_room(struct world *w, struct machine *m)
{
    (void)w;
    empty_disk(m);
    machine_heal_kv(m);
}

/* Of so many operations one sees nothing go wrong but for these. */
#define FAULTS_OF 640U

static const struct {
    unsigned n; /* of FAULTS_OF */
    void (*happen)(struct world *w, struct machine *m);
} faults[] = {
    {3, crash_now},   {5, crash_soon},     {1, fill_disk},
    {2, fill_kv},     {2, fail_call},      {1, part_some},
    {1, mend_all},    {4, cut_one},        {1, pause_machine},
    {1, jump_clock},  {3, swap_master},    {2, lose_the_master},
    {1, touch_fence}, {1, change_network}, {1, change_disk},
    {1, kill_sync},   {1, kill_ctl},       {6, flush},
    {5, make_room},   {12, compact},
};

void
faults_step(struct world *w)
{
    struct machine *m = random_machine(w);

    if (w->cut_until != 0 && w->now >= w->cut_until)
        mend(w);
    uint64_t at = sim_random(w, FAULTS_OF);
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        if (at < faults[i].n) {
            faults[i].happen(w, m);
            return;
        }
        at -= faults[i].n;
    }
}

void
faults_heal(struct world *w)
{
    w->healing = true;
    mend(w);
    w->delay_us = 300;
    for (unsigned i = 0; i < NODES; i++) {
        struct machine *m = &w->m[i];
        empty_disk(m);
        machine_heal_kv(m);
        m->slow_us = 100;
        m->paused_until = 0;
        m->cut_at = m->eio_at = 0;
        m->nth_at_start = false;
        if (m->node == NULL)
            m->restart_at = w->now;
        if (env_exists(env_sim_env(m->sim), m->fence) && !w->operated)
            sim_violation(w, "a fence is up on n%u, and nobody put it up", i);
    }
    sim_trace(w, "all is healed");
}

/* ---- the operator ------------------------------------------------------ */

struct view {
    bool up;
    struct logstatus s;
};

static void
look(struct world *w, struct view v[NODES], struct arena *a)
{
    for (unsigned i = 0; i < NODES; i++) {
        struct machine *m = &w->m[i];
        v[i] = (struct view){0};
        if (m->node == NULL || m->death != ALIVE || machine_is_paused(m) ||
            machine_store(m) == NULL)
            continue;
        v[i].up = true;
        m->inst.status(m->inst.ctx, a, &v[i].s);
        w->max_epoch = MAX(w->max_epoch, v[i].s.epoch);
    }
}

/* The fence that a swap left, or one put up by hand.  Not always the same one
 * first: who was asked calls nothing off while a fence is up there too. */
static bool
mend_fence(struct world *w, const struct view v[NODES])
{
    const unsigned from = (unsigned)(w->now / US_PER_S);

    for (unsigned k = 0; k < NODES; k++) {
        const unsigned i = (from + k) % NODES;
        if (!v[i].up || !v[i].s.fence || !(w->healing || sim_one_in(w, 3)))
            continue;
        struct machine *m = &w->m[i];
        unsigned peer = random_peer(w, m);
        for (unsigned j = 0; j < NODES; j++)
            if (j != i && v[j].up && v[j].s.epoch > v[i].s.epoch &&
                v[j].s.role == ROLE_MASTER)
                peer = j;
        if (m->handover_to != 0)
            peer = m->handover_to - 1;
        ctl(w, m, peer, "unfence", false);
        return true;
    }
    return false;
}

static bool
mend_fenced(struct world *w, const struct view v[NODES], unsigned master)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (i == master || !v[i].up)
            continue;
        struct machine *m = &w->m[i];
        char name[8];
        snprintf(name, sizeof(name), "n%u", i);
        const struct synclog_slot *slot = shared_slot(&w->m[master], name);
        const enum slot_state state =
            slot == NULL ? SLOT_DOWN
                         : (enum slot_state)atomic_load(&slot->state);
        const bool parked = v[i].s.role == ROLE_REPLICA &&
                            !v[i].s.seed_wanted && !v[i].s.seeding &&
                            (state == SLOT_PARKED || state == SLOT_RESEED);
        if (v[i].s.role != ROLE_FENCED && !parked)
            continue;
        ctl(w, m, master, "rejoin", false);
        return true;
    }
    return false;
}

/* Another one was handed the next epoch and did not answer: it may have begun
 * it, and who asked still waits behind its fence. */
static bool
is_handed_to_another(struct world *w, unsigned i, epoch_t epoch)
{
    for (unsigned j = 0; j < NODES; j++) {
        const struct machine *m = &w->m[j];
        AUTO(buf_free) struct buf text = BUF_INIT;
        struct error err = {0};
        if (m->handover_to == 0 || m->handover_to == i + 1 ||
            m->handover_epoch < epoch ||
            env_read_file(env_sim_env(m->sim), m->fence, 4096, &text, &err) !=
                ERR_OK)
            continue;
        if (span_starts(buf_span(&text), SPAN_LIT("handover")))
            return true;
    }
    return false;
}

static bool
promote(struct world *w, const struct view v[NODES])
{
    int best = -1;

    for (unsigned i = 0; i < NODES; i++) {
        if (!v[i].up || v[i].s.role != ROLE_REPLICA || v[i].s.seeding ||
            v[i].s.seed_wanted || v[i].s.fence || v[i].s.epoch < w->max_epoch ||
            (w->lines != NULL && v[i].s.applied.applied.lsn == 0) ||
            is_handed_to_another(w, i, v[i].s.epoch))
            continue;
        if (best < 0 ||
            v[i].s.applied.applied.epoch > v[best].s.applied.applied.epoch ||
            (v[i].s.applied.applied.epoch == v[best].s.applied.applied.epoch &&
             v[i].s.applied.applied.lsn > v[best].s.applied.applied.lsn))
            best = (int)i;
    }
    if (best < 0)
        return false;
    struct machine *m = &w->m[best];
    ctl(w, m, random_peer(w, m), "promote", true);
    w->promote_at = 0;
    return true;
}

void
operator_step(struct world *w)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct view v[NODES];
    unsigned master = NODES;

    if (procs_busy(w) || w->now < w->operator_at)
        return;
    if (w->healing && !w->operated)
        return; /* nothing that a person did has to be mended */
    w->operator_at = w->now + 200 * US_PER_MS;
    look(w, v, &a);
    for (unsigned i = 0; i < NODES; i++)
        if (v[i].up && v[i].s.role == ROLE_MASTER &&
            (master == NODES || v[i].s.epoch > v[master].s.epoch))
            master = i;
    if (w->promote_at != 0 && w->now >= w->promote_at) {
        w->operated = true;
        if (promote(w, v))
            return;
    }
    if (mend_fence(w, v))
        return;
    if (master < NODES) {
        if (w->healing || sim_one_in(w, 4))
            (void)mend_fenced(w, v, master);
        return;
    }
    bool all_up = true;
    for (unsigned i = 0; i < NODES; i++)
        all_up = all_up && v[i].up;
    if (all_up) {
        w->operated = w->operated || w->lines != NULL;
        (void)promote(w, v);
    }
}
