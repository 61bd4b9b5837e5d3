/*
 * tests/sim/machine.c - one machine of the cluster: disk, key-value store,
 * instance, and the ways in which they die.
 *
 * All calls of the instance on files go through one hook, which counts them:
 * death, errors and looks from outside happen inside of a call.  Who has died
 * there unwinds with every further call failing, and is cleaned up afterwards
 * (machine_reap()): what it says on the way out is heard by nobody.
 */
#include "tests/sim/sim_private.h"

#include <errno.h>
#include <stdlib.h>

#include "store/history.h"
#include "store/store_private.h"

struct machine *
machine_by_path(const char *path)
{
    const char *n = strstr(path, "/n");

    ENSURE(n != NULL && n[2] >= '0' && n[2] < '0' + (int)NODES);
    return &sim_world->m[n[2] - '0'];
}

bool
machine_is_paused(const struct machine *m)
{
    return m->w->now < m->paused_until;
}

bool
machine_is_master(const struct machine *m)
{
    return m->node != NULL && m->death == ALIVE && m->serving &&
           !machine_is_paused(m) && node_store(m->node) != NULL &&
           node_role(m->node) == ROLE_MASTER;
}

/* ---- every call on files ----------------------------------------------- */

static void
die_here(struct machine *m, enum death how)
{
    const struct synclog_mark *mark = machine_mark(m);

    m->death = how;
    if (mark != NULL && !m->rejoining)
        m->promised = MAX(m->promised, atomic_load(&mark->durable_lsn));
    sim_trace(m->w, "n%u dies (%s) at call %llu", m->i,
              how == DIED_POWER  ? "power"
              : how == DIED_KILL ? "kill"
                                 : "fatal",
              (unsigned long long)m->calls);
    for (size_t i = 0; i < m->nboxes; i++)
        kv_disk_cut(m->boxes[i].disk, sim_random(m->w, 4) == 0
                                          ? 0
                                          : 1 + sim_random(m->w, 1U << 30));
    if (how == DIED_POWER)
        env_sim_halt(m->sim);
}

void
machine_heal_kv(struct machine *m)
{
    if (m->kv_full && m->kv != NULL)
        kv_mem_fail(m->kv, ERR_OK);
    m->kv_full = false;
}

static int
on_call(void *ctx, enum env_fault_kind kind, const char *path)
{
    struct machine *m = ctx;
    struct world *w = m->w;

    (void)path;
    if (++m->calls_in_turn > 5000) {
        /* A promotion waits for room in the state: it comes at last. */
        m->calls_in_turn = 0;
        env_sim_advance_us(m->sim, 200 * US_PER_MS);
        machine_heal_kv(m);
        sim_trace(w, "n%u: a call takes long", m->i);
    }
    if (m->death != ALIVE)
        return -EIO;
    m->calls++;
    if (kind == FAULT_SYNC && m->node != NULL && !w->peeking) {
        w->peeking = true;
        told_peek(w, m);
        if (proc_current() == NULL && sim_one_in(w, 4))
            (void)procs_run(w, m); /* other processes of this machine */
        w->peeking = false;
    }
    if (m->cut_at != 0 && m->calls >= m->cut_at) {
        m->cut_at = 0;
        die_here(m, m->cut_how);
        return -EIO;
    }
    if (m->eio_at != 0 && m->calls >= m->eio_at &&
        (!m->eio_lies || kind == FAULT_SYNC)) {
        m->eio_at = 0;
        sim_trace(w, "n%u: EIO at call %llu", m->i,
                  (unsigned long long)m->calls);
        if (!m->eio_lies)
            return -EIO;
        env_sim_fail_sync(m->sim, 1, EIO);
    }
    return 0;
}

/* ---- the key-value store's disks --------------------------------------- */

/* Which one is in DIR/state says a file there, so that a rename takes it away
 * and a power cut may bring it back. */
static struct kv *
open_kv(void *ctx, const char *dir)
{
    struct machine *m = ctx;
    struct env *env = env_sim_env(m->sim);
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error err = {0};
    char path[64], state[48];
    uint32_t id = 0;

    snprintf(state, sizeof(state), "%s/state", dir);
    snprintf(path, sizeof(path), "%s/ID", state);
    if (env_read_file(env, path, 64, &text, &err) == ERR_OK)
        ENSURE(parse_u32(buf_span(&text), &id));
    for (size_t i = 0; i < m->nboxes; i++)
        if (m->boxes[i].id == id)
            return m->kv = kv_open_mem_on(m->boxes[i].disk);
    ENSURE(m->nboxes < ARRAY_LEN(m->boxes));
    struct kvbox *box = &m->boxes[m->nboxes++];
    box->id = (uint32_t)m->nboxes;
    box->disk = kv_disk_new();
    buf_clear(&text);
    buf_addf(&text, "%u", box->id);
    env_sim_set_disk_bytes(m->sim, 0);
    ENSURE(env_mkdirs(env, state, &err) == ERR_OK);
    ENSURE(env_write_file_atomic(env, path, buf_span(&text), &err) == ERR_OK);
    env_sim_set_disk_bytes(m->sim, m->disk_bytes);
    return m->kv = kv_open_mem_on(box->disk);
}

/* ---- the instance ------------------------------------------------------ */

static void
on_fatal(void *ctx, const struct error *err)
{
    struct machine *m = ctx;

    if (m->death != ALIVE)
        return;
    sim_trace(m->w, "n%u fatal: %s", m->i, err->text);
    m->w->res->fatals++;
    if (err->code == ERR_CORRUPT && !m->damaged)
        sim_violation(m->w, "n%u stops: %s", m->i, err->text);
    die_here(m, DIED_FATAL);
}

static void
on_role(void *ctx, enum role role)
{
    struct machine *m = ctx;

    if (role != ROLE_MASTER)
        m->role_lost = true;
    else if (m->serving && m->death == ALIVE && sim_one_in(m->w, 2))
        clients_rush(m->w, m);
}

static void
drop_reader(struct machine *m)
{
    reader_close(&m->reader);
    m->reader_at = 0;
}

static void
close_sessions(void *ctx)
{
    struct machine *m = ctx;

    m->rejoining = true;
    net_end_sessions(m->w, m, false);
    while (machine_store(m) != NULL && store_step(machine_store(m)))
        ;
    (void)reactor_run(m);
    clients_lost(m->w, m);
    history_observe(m->w, m);
    history_rejoins(m);
    drop_reader(m);
}

/* Who died on the way has not emptied anything yet; its next start does. */
static void
reopened(void *ctx)
{
    struct machine *m = ctx;

    if (m->death == ALIVE)
        history_reset(m);
}

void
machine_init(struct world *w, unsigned i)
{
    struct machine *m = &w->m[i];

    m->w = w;
    m->i = i;
    snprintf(m->dir, sizeof(m->dir), "/n%u", i);
    snprintf(m->fence, sizeof(m->fence), "/n%u/shutdown", i);
    snprintf(m->log_dir, sizeof(m->log_dir), "/n%u/synclog", i);
    snprintf(m->control, sizeof(m->control), "/control/n%u", i);
    snprintf(m->csync, sizeof(m->csync), "/csync/n%u", i);
    m->sim = env_sim_new(
        &(struct env_sim_options){.seed = sim_random(w, UINT64_C(1) << 40)});
    m->fault = env_fault_new(env_sim_env(m->sim));
    m->reactor.m = m;
    m->reactor.deferred.prev = m->reactor.deferred.next = &m->reactor.deferred;
    m->slow_us = 200;
    m->restart_at = 1;
    env_fault_add(m->fault, &(struct env_fault_rule){.kinds = FAULT_ANY,
                                                     .nth = 1,
                                                     .from_then_on = true,
                                                     .action = FAULT_HOOK,
                                                     .hook = on_call,
                                                     .hook_ctx = m});
}

static void
stop_instance(struct machine *m)
{
    const bool silent = m->death == DIED_POWER;

    clients_lost(m->w, m);
    net_machine_gone(m->w, m, silent);
    while (reactor_run(m))
        ;
    node_close(&m->node);
    while (reactor_run(m))
        ;
    csync_server_free(&m->server);
    drop_reader(m);
    m->kv = NULL;
    m->kv_full = false;
    m->serving = false;
    m->role_lost = false;
}

static enum errcode
open_node(struct machine *m, struct store_opened *ret, struct error *err)
{
    const struct world *w = m->w;
    const struct node_config cfg = {
        .store = {.dir = m->dir,
                  .fence_path = m->fence,
                  .segment_bytes = w->segment_bytes,
                  .log_cap_bytes = w->log_cap_bytes,
                  .no_threads = true,
                  /* The digests are compared with those of nodes without. */
                  .keep_history_s = m->i == SIM_KEEPER ? HISTORY_FOREVER : 0,
                  .open_kv = open_kv,
                  .open_kv_ctx = m,
                  .mutants = w->o.mutants},
        .servername = m->dir + 1,
        .has_twin = true,
        .uid_headroom = HEADROOM,
        .swap_hold_ms = 2000,
        .swap_max_lag = 1000,
    };
    const struct node_hooks hooks = {
        .ctx = m,
        .on_role = on_role,
        .close_sessions = close_sessions,
        .reopened = reopened,
        .on_fatal = on_fatal,
    };

    return node_open(env_fault_env(m->fault), &cfg, &hooks, &m->node, ret, err);
}

/* Opening the node gave RC, or M died of it. */
static void
does_not_start(struct machine *m, enum errcode rc, const struct error *err)
{
    sim_trace(m->w, "n%u does not start: %s", m->i, err->text);
    if (rc != ERR_OK)
        m->kv = NULL;
    if (rc == ERR_OK) {
        (void)machine_reap(m);
    } else if (m->death == ALIVE) {
        /* It unwound by itself; only an error that faults explain. */
        m->open_failures++;
        m->open_err = *err;
        m->restart_at = m->w->now + US_PER_S;
        if (rc != ERR_IO && rc != ERR_NOSPACE && !m->damaged)
            sim_violation(m->w, "n%u does not start: %s", m->i, err->text);
    } else {
        m->node = NULL;
        (void)machine_reap(m);
    }
}

static void
make_server(struct machine *m)
{
    node_csync_instance(m->node, &m->inst);
    const struct csync_server_options options = {
        .servername = m->dir + 1,
        .cfg = m->w->cfg[m->i][(m->i + 1) % NODES],
        .is_control = true,
        .mutants = m->w->o.mutants,
        .instance = m->inst,
    };
    m->server = csync_server_new(&options);
}

/* What it has now, against what it had promised before. */
static void
compare_history(struct machine *m)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct logstatus status;

    m->inst.status(m->inst.ctx, &a, &status);
    if (m->rejoining && status.applied.applied.lsn == 0)
        history_reset(m); /* it died in a rejoin */
    m->rejoining = false;
    if (status.durable.lsn < m->promised)
        sim_violation(m->w, "I4: n%u let others read up to %llu and has %llu",
                      m->i, (unsigned long long)m->promised,
                      (unsigned long long)status.durable.lsn);
    history_observe(m->w, m);
}

static void
start_programs(struct machine *m)
{
    for (unsigned j = 0; j < NODES; j++)
        if (j != m->i)
            (void)proc_start(m->w, m, PROC_SYNC, j, NULL, false);
    if (node_role(m->node) == ROLE_MASTER)
        (void)proc_start(m->w, m, PROC_ASK, m->i == 0 ? 1 : 0, NULL, false);
    else
        m->serving = true;
}

bool
machine_start(struct machine *m)
{
    struct world *w = m->w;
    struct store_opened found = {0};
    struct error err = {0};

    m->life++;
    m->death = ALIVE;
    if (m->nth_at_start) {
        m->nth_at_start = false;
        m->cut_at = m->calls + 1 + sim_random(w, 60);
        m->cut_how = sim_one_in(w, 2) ? DIED_KILL : DIED_POWER;
    }
    const enum errcode rc = open_node(m, &found, &err);
    if (rc != ERR_OK || m->death != ALIVE) {
        does_not_start(m, rc, &err);
        return false;
    }
    m->cut_at = 0;
    m->open_failures = 0;
    m->restart_at = 0;
    make_server(m);
    m->step_at = m->idle_at = w->now;
    sim_trace(w, "n%u starts: role %d epoch %u, replayed %llu, torn %llu", m->i,
              (int)node_role(m->node), m->open_failures,
              (unsigned long long)found.replayed,
              (unsigned long long)found.log.torn_bytes);
    if (kv_health(m->kv, &err) != ERR_OK)
        return true;
    compare_history(m);
    start_programs(m);
    return true;
}

bool
machine_reap(struct machine *m)
{
    const enum death how = m->death;

    if (how == ALIVE || m->reaping)
        return false;
    m->reaping = true;
    if (how == DIED_POWER)
        net_machine_gone(m->w, m, true);
    procs_kill(m->w, m, -1);
    stop_instance(m);
    if (how == DIED_POWER) {
        shared_crash(m);
        env_sim_crash(m->sim, sim_random(m->w, UINT64_C(1) << 40));
    }
    m->cut_at = m->eio_at = 0;
    if (m->restart_at == 0 || m->restart_at < m->w->now)
        m->restart_at = m->w->now + (sim_one_in(m->w, 3)
                                         ? sim_random(m->w, 3 * US_PER_S)
                                         : sim_random(m->w, 50 * US_PER_MS));
    m->w->res->crashes++;
    m->reaping = false;
    return true;
}

void
machine_die(struct machine *m, enum death how)
{
    if (m->node == NULL || m->death != ALIVE)
        return;
    die_here(m, how);
    (void)machine_reap(m);
}

void
machine_free(struct machine *m)
{
    m->death = DIED_KILL; /* nothing is written any more */
    procs_kill(m->w, m, -1);
    if (m->node != NULL)
        stop_instance(m);
    for (size_t i = 0; i < m->nboxes; i++)
        kv_disk_free(&m->boxes[i].disk);
    free(m->reactor.calls);
    env_fault_free(&m->fault);
    env_sim_free(&m->sim);
}
