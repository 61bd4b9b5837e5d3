/*
 * tests/sim/sim.c - the world: time, turns, and one run from beginning to end.
 *
 * A turn gives everybody who can do something the chance; when nobody can, the
 * clock goes on to when the next one wants to.  All order comes from the seed.
 */
#include "tests/sim/sim_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.h"

#define IDLE_US (50 * US_PER_MS)
/* After the last fault all must be well within this time. */
#define HEAL_S 400U
#define DEEP_CHECK 150U

struct world *sim_world;

uint64_t
sim_random(struct world *w, uint64_t below)
{
    uint64_t z = w->rng += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % below;
}

void
sim_trace(struct world *w, const char *fmt, ...)
{
    char line[400];
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    n = MIN(n, (int)sizeof(line) - 1);
    w->trace_hash =
        XXH3_64bits_withSeed(line, (size_t)n, w->trace_hash ^ w->now ^ w->step);
    if (w->o.trace != NULL)
        fprintf(w->o.trace, "%5u %10.3f  %s\n", w->step, (double)w->now / 1e6,
                line);
}

void
sim_violation(struct world *w, const char *fmt, ...)
{
    va_list args;

    if (w->failed)
        return;
    w->failed = true;
    va_start(args, fmt);
    vsnprintf(w->res->why, sizeof(w->res->why), fmt, args);
    va_end(args);
    w->res->failed = true;
    w->res->step = w->step;
    sim_trace(w, "VIOLATION %s", w->res->why);
}

/* ---- turns ------------------------------------------------------------- */

static void
step_store(struct machine *m)
{
    struct world *w = m->w;
    struct store *store = machine_store(m);

    if (store == NULL)
        return;
    const bool waits = store_queue_bytes(store) > 0;
    if (!(waits && w->now >= m->step_at) && w->now < m->idle_at)
        return;
    bool did = store_step(store);
    m->idle_at = w->now + IDLE_US;
    m->step_at = w->now + m->slow_us;
    if (!did && machine_store(m) != NULL &&
        store_queue_bytes(machine_store(m)) > 0)
        m->step_at = w->now + 5 * US_PER_MS;
}

static bool
turn_machine(struct machine *m)
{
    struct world *w = m->w;
    bool did = false;

    m->calls_in_turn = 0;
    if (m->death != ALIVE && m->node != NULL)
        did = machine_reap(m);
    if (m->node == NULL) {
        if (m->restart_at == 0 || w->now < m->restart_at)
            return did;
        (void)machine_start(m);
        return true;
    }
    if (machine_is_paused(m))
        return did;
    if (m->role_lost) { /* sessions of clients are ended */
        m->role_lost = false;
        sim_trace(w, "n%u: sessions end", m->i);
    }
    did = reactor_run(m) || did;
    if (m->death == ALIVE)
        step_store(m);
    if (m->death == ALIVE)
        history_observe(w, m);
    if (m->death != ALIVE)
        did = machine_reap(m) || did;
    return did;
}

static uint64_t
machine_next(const struct machine *m)
{
    const struct store *store = machine_store(m);

    if (m->node == NULL)
        return m->restart_at == 0 ? UINT64_MAX : m->restart_at;
    if (machine_is_paused(m))
        return m->paused_until;
    if (m->reactor.n > 0 || m->reactor.deferred.next != &m->reactor.deferred)
        return m->w->now;
    uint64_t next = m->idle_at;
    if (store != NULL && store_queue_bytes(store) > 0)
        next = MIN(next, m->step_at);
    return next;
}

static void
advance(struct world *w, uint64_t to)
{
    if (to <= w->now)
        to = w->now + 1;
    for (unsigned i = 0; i < NODES; i++)
        env_sim_advance_us(w->m[i].sim, to - w->now);
    w->now = to;
}

void
world_run(struct world *w, uint64_t until)
{
    unsigned turns = 0;

    while (w->now < until && !w->failed) {
        bool did = false;
        for (unsigned i = 0; i < NODES; i++)
            did = turn_machine(&w->m[i]) || did;
        did = net_run(w) || did;
        did = procs_run(w, NULL) || did;
        if (did && ++turns < 1000)
            continue;
        turns = 0;
        uint64_t next = MIN(until, MIN(net_next(w), procs_next(w)));
        for (unsigned i = 0; i < NODES; i++)
            next = MIN(next, machine_next(&w->m[i]));
        advance(w, next);
    }
}

/* ---- a run ------------------------------------------------------------- */

static void
make_configs(struct world *w)
{
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned j = 0; j < NODES; j++) {
            AUTO(xfree)
            char *text = xasprintf(
                "configdirectory: /n%u\nservername: n%u\n"
                "control_socket: /control/n%u\nsync_host: /csync/n%u\n"
                "client_timeout: 10s\nswap_max_lag: 1000\n"
                "sync_log_cap: %" PRIu64 "\n",
                i, i, i, j, w->log_cap_bytes);
            struct error err = {0};
            if (config_parse(span_str(text), "sim", &w->cfg[i][j], &err) !=
                ERR_OK)
                sim_violation(w, "config: %s", err.text);
        }
}

/* Everybody who is up, whole. */
static void
deep_check(struct world *w)
{
    for (unsigned i = 0; i < NODES && !w->failed; i++) {
        struct machine *m = &w->m[i];
        if (m->node == NULL || m->death != ALIVE || machine_store(m) == NULL)
            continue;
        history_observe(w, m);
        if (w->failed || m->line == NULL ||
            m->seen.applied.lsn != line_end(m->line))
            continue;
        model_advance(w, m->line);
        if (w->failed)
            return;
        model_compare(w, m->line, m);
        told_bodies(w, m, 4);
        if (machine_is_master(m))
            told_look(w, m, 8);
    }
}

/* One master, the others its equals. */
static bool
all_is_well(struct world *w)
{
    struct machine *master = NULL;

    for (unsigned i = 0; i < NODES; i++) {
        struct machine *m = &w->m[i];
        if (m->node == NULL || m->death != ALIVE || machine_store(m) == NULL)
            return false;
        if (node_role(m->node) == ROLE_FENCED ||
            env_exists(env_sim_env(m->sim), m->fence))
            return false;
        if (node_role(m->node) == ROLE_MASTER) {
            if (master != NULL || !m->serving)
                return false;
            master = m;
        }
    }
    if (master == NULL)
        return false;
    for (unsigned i = 0; i < NODES; i++) {
        struct store_pos a = store_pos(machine_store(master));
        struct store_pos b = store_pos(machine_store(&w->m[i]));
        if (a.applied.lsn != b.applied.lsn || a.chain != b.chain ||
            a.digest != b.digest)
            return false;
    }
    return true;
}

static void
say_why_not(struct world *w, const char *what)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    AUTO(arena_free) struct arena a = ARENA_INIT;

    for (unsigned i = 0; i < NODES; i++) {
        struct machine *m = &w->m[i];
        struct logstatus s;
        if (m->node == NULL) {
            buf_addf(&text, "; n%u is down (%s)", i, m->open_err.text);
            continue;
        }
        m->inst.status(m->inst.ctx, &a, &s);
        buf_addf(&text, "; n%u %s epoch %u at %u:%llu%s%s (%s)", i,
                 role_name(s.role), s.epoch, s.applied.applied.epoch,
                 (unsigned long long)s.applied.applied.lsn,
                 s.fence ? " fence" : "", s.seeding ? " seeding" : "", s.text);
        for (unsigned j = 0; s.role == ROLE_MASTER && j < NODES; j++) {
            char name[8], why[SLOT_TEXT_BYTES];
            snprintf(name, sizeof(name), "n%u", j);
            struct synclog_slot *slot = shared_slot(m, name);
            if (slot == NULL)
                continue;
            slot_get_text(slot, why);
            buf_addf(
                &text, " [%s %s: %s]", name,
                slot_state_name((enum slot_state)atomic_load(&slot->state)),
                why);
        }
    }
    sim_violation(w, "I19: %s%s", what, buf_cstr(&text));
}

static void
end_well(struct world *w)
{
    faults_heal(w);
    for (unsigned s = 0; s < HEAL_S && !w->failed; s++) {
        world_run(w, w->now + US_PER_S);
        if (all_is_well(w) && !procs_busy(w))
            break;
        operator_step(w);
    }
    if (w->failed)
        return;
    if (!all_is_well(w)) {
        say_why_not(w, "it does not heal");
        return;
    }
    for (unsigned i = 0; i < 2000 && !clients_finish(w) && !w->failed; i++)
        world_run(w, w->now + 10 * US_PER_MS);
    for (unsigned i = 0; i < NODES; i++)
        if (machine_is_master(&w->m[i]) && !clients_probe(w, &w->m[i]))
            say_why_not(w, "the master takes nothing");
    for (unsigned s = 0; s < 60 && !w->failed && !all_is_well(w); s++)
        world_run(w, w->now + US_PER_S);
    if (!w->failed && !all_is_well(w))
        say_why_not(w, "the replicas do not follow");
    deep_check(w);
    for (unsigned i = 0; i < 12 && !w->failed; i++)
        caches_resync(w);
    if (!w->failed)
        clients_check_deliveries(w);
}

static void
begin(struct world *w)
{
    w->segment_bytes = sim_one_in(w, 12)  ? UINT64_C(8) << 20
                       : sim_one_in(w, 2) ? UINT64_C(256) << 10
                                          : UINT64_C(64) << 10;
    w->log_cap_bytes = sim_one_in(w, 3) ? UINT64_C(100) << 10 : 0;
    make_configs(w);
    net_init(w);
    told_init(w);
    clients_init(w);
    for (unsigned i = 0; i < NODES; i++)
        machine_init(w, i);
    world_run(w, w->now + US_PER_S);
    (void)proc_start(w, &w->m[0], PROC_CTL, 1, "promote", true);
    world_run(w, w->now + 3 * US_PER_S);
    if (!w->failed && !machine_is_master(&w->m[0]))
        say_why_not(w, "no first master");
}

static void
finish(struct world *w)
{
    w->res->trace_hash = w->trace_hash;
    w->res->virtual_ms = w->now / 1000;
    if (!w->res->failed)
        w->res->step = w->step;
    for (unsigned i = 0; i < NODES; i++)
        machine_free(&w->m[i]);
    procs_free(w);
    net_free(w);
    clients_free(w);
    caches_free(w);
    told_free(w);
    history_free(w);
    shared_free();
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned j = 0; j < NODES; j++)
            config_free(&w->cfg[i][j]);
}

void
sim_run(const struct sim_options *options, struct sim_result *ret)
{
    struct world *w = xcalloc(1, sizeof(*w));

    *ret = (struct sim_result){0};
    w->o = *options;
    w->res = ret;
    w->rng = options->seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
    w->now = 1000;
    sim_world = w;
    begin(w);
    while (w->step < options->ops && !w->failed) {
        w->step++;
        clients_step(w);
        faults_step(w);
        operator_step(w);
        uint64_t us = sim_random(w, 3000);
        if (sim_one_in(w, 60))
            us = sim_random(w, 500 * US_PER_MS);
        else if (sim_one_in(w, 300))
            us = sim_random(w, 15 * US_PER_S);
        world_run(w, w->now + us);
        if (w->step % DEEP_CHECK == 0 && !w->failed)
            deep_check(w);
    }
    if (!w->failed)
        end_well(w);
    finish(w);
    sim_world = NULL;
    free(w);
}
