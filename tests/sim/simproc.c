/*
 * tests/sim/simproc.c - processes: sync_client, ctl_failover and a start's look
 * at the twin are blocking code of the product, so each runs on a stack of its
 * own and comes back here whenever it would wait.
 *
 * What they wait with (poll, a futex on the mark, a second thread that turns
 * the futex into an event) is replaced at link time (--wrap).  A killed process
 * finds that nothing works any more and that it is to stop, so that it unwinds
 * and frees what it has, without any effect on others.
 *
 * A thread that an instance starts (to give up its state for a seed) is such a
 * process too.
 */
#include "tests/sim/sim_private.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "csync/ship.h"
#include "failover/ctl.h"
#include "tests/sim/simnet.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define FIBER_START(save, bottom, size)                                        \
    __sanitizer_start_switch_fiber((save), (bottom), (size))
#define FIBER_END(save, bottom, size)                                          \
    __sanitizer_finish_switch_fiber((save), (bottom), (size))
#define STACK_BYTES ((size_t)1 << 20)
#else
#define FIBER_START(save, bottom, size)                                        \
    ((void)(save), (void)(bottom), (void)(size))
#define FIBER_END(save, bottom, size)                                          \
    ((void)(save), (void)(bottom), (void)(size))
#define STACK_BYTES ((size_t)256 << 10)
#endif

struct proc {
    struct proc *next;
    struct world *w;
    struct machine *m;
    enum proc_kind kind;
    unsigned peer;
    const char *verb;
    bool force;
    unsigned life; /* of the machine, when it was started */
    bool killed, done;

    ucontext_t ctx;
    void *stack;
    void *fake_stack;
    bool (*ready)(void *ctx);
    void *ready_ctx;
    uint64_t until;
    bool timed_out;

    /* PROC_ASK */
    struct arena arena;
    struct logstatus status;
    bool heard;

    /* PROC_THREAD */
    void *(*thread)(void *ctx);
    void *thread_ctx;
    pthread_t thread_id;
};

static struct proc *current;
static ucontext_t main_ctx;
static const void *main_bottom;
static size_t main_size;

/* Stacks are used again, by the next world too. */
static void *free_stacks[64];
static size_t nfree_stacks;

static void *
stack_new(void)
{
    if (nfree_stacks > 0)
        return free_stacks[--nfree_stacks];
    void *p = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    ENSURE(p != MAP_FAILED);
    return p;
}

static void
stack_free(void *stack)
{
    if (nfree_stacks < ARRAY_LEN(free_stacks))
        free_stacks[nfree_stacks++] = stack;
    else
        munmap(stack, STACK_BYTES);
}

struct proc *
proc_current(void)
{
    return current;
}

bool
proc_is_current_killed(void)
{
    return current != NULL && current->killed;
}

struct machine *
proc_machine(const struct proc *p)
{
    return p->m;
}

bool
proc_wait(bool (*ready)(void *ctx), void *ctx, uint64_t us)
{
    struct proc *p = current;

    if (p->killed)
        return false;
    p->ready = ready;
    p->ready_ctx = ctx;
    p->until = p->w->now + us;
    FIBER_START(&p->fake_stack, main_bottom, main_size);
    ENSURE(swapcontext(&p->ctx, &main_ctx) == 0);
    FIBER_END(p->fake_stack, &main_bottom, &main_size);
    return !p->timed_out && !p->killed;
}

/* ---- what they run ----------------------------------------------------- */

static bool
stopped(void *ctx)
{
    return ((struct proc *)ctx)->killed;
}

static void
run_sync(struct proc *p)
{
    char channel[8];
    struct error err = {0};

    snprintf(channel, sizeof(channel), "n%u", p->peer);
    const struct ship_options o = {
        .env = env_sim_env(p->m->sim),
        .cfg = p->w->cfg[p->m->i][p->peer],
        .log_dir = p->m->log_dir,
        .control = p->m->control,
        .channel = channel,
        .host = p->w->m[p->peer].csync,
        .stop = stopped,
        .stop_ctx = p,
    };
    while (!p->killed) { /* master(8) starts it again */
        (void)!ship_rolling(&o, &err);
        (void)proc_wait(NULL, NULL, 200 * US_PER_MS);
    }
}

static void
run_ctl(struct proc *p)
{
    char channel[8];
    char *out = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&out, &n);

    snprintf(channel, sizeof(channel), "n%u", p->peer);
    const struct ctl_options o = {
        .env = env_sim_env(p->m->sim),
        .cfg = p->w->cfg[p->m->i][p->peer],
        .channel = channel,
        .force = p->force,
        .timeout_ms = 3000,
        .out = f,
        .err = f,
    };
    enum ctl_exit code = ctl_run(&o, p->verb);
    fclose(f);
    if (!p->killed) {
        sim_trace(p->w, "ctl n%u %s: %d %s", p->m->i, p->verb, (int)code,
                  out == NULL ? "" : out);
        if (code == CTL_OK && strcmp(p->verb, "swap") == 0)
            p->w->res->swaps++;
        if (code == CTL_OK && strcmp(p->verb, "promote") == 0)
            p->w->res->promotions++;
        if (code == CTL_OK && strcmp(p->verb, "rejoin") == 0)
            p->w->res->rejoins++;
    }
    free(out);
}

/* As a master that comes back does (master/instance.c). */
static void
run_ask(struct proc *p)
{
    AUTO(csync_client_close) struct csync_client *c = NULL;
    struct csync_target target;
    struct error err = {0};

    enum errcode rc = csync_target_from_config(p->w->cfg[p->m->i][p->peer],
                                               NULL, NULL, &target, &err);
    target.timeout_ms = 1000;
    if (rc == ERR_OK)
        rc = csync_connect(&target, p->w->cfg[p->m->i][p->peer], &c, &err);
    if (rc == ERR_OK)
        rc = csync_log_status(c, &p->arena, &p->status, &err);
    p->heard = rc == ERR_OK;
}

static void
proc_main(void)
{
    struct proc *p = current;

    FIBER_END(NULL, &main_bottom, &main_size);
    switch (p->kind) {
    case PROC_SYNC:
        run_sync(p);
        break;
    case PROC_CTL:
        run_ctl(p);
        break;
    case PROC_ASK:
        run_ask(p);
        break;
    case PROC_THREAD:
        if (p->killed)
            break;
        sim_trace(p->w, "n%u: a thread of its own", p->m->i);
        p->w->res->reseeds++;
        (void)p->thread(p->thread_ctx);
        break;
    }
    p->done = true;
    FIBER_START(NULL, main_bottom, main_size);
    setcontext(&main_ctx);
    ENSURE(false);
}

static void
resume(struct proc *p)
{
    void *fake = NULL;

    ENSURE(current == NULL);
    current = p;
    FIBER_START(&fake, p->stack, STACK_BYTES);
    ENSURE(swapcontext(&main_ctx, &p->ctx) == 0);
    FIBER_END(fake, NULL, NULL);
    current = NULL;
}

struct proc *
proc_start(struct world *w, struct machine *m, enum proc_kind kind,
           unsigned peer, const char *verb, bool force)
{
    struct proc *p = xcalloc(1, sizeof(*p));

    p->w = w;
    p->m = m;
    p->kind = kind;
    p->peer = peer;
    p->verb = verb;
    p->force = force;
    p->life = m->life;
    p->stack = stack_new();
    ENSURE(getcontext(&p->ctx) == 0);
    p->ctx.uc_stack.ss_sp = p->stack;
    p->ctx.uc_stack.ss_size = STACK_BYTES;
    makecontext(&p->ctx, proc_main, 0);
    struct proc **at = &w->procs; /* in the order of their start */
    while (*at != NULL)
        at = &(*at)->next;
    *at = p;
    return p;
}

/* What an ended process has left to be done on the world's own stack. */
static void
finish(struct proc *p)
{
    struct machine *m = p->m;
    struct error err = {0};

    if (p->kind == PROC_ASK && !p->killed && m->node != NULL &&
        m->life == p->life) {
        if (p->heard && node_heard(m->node, &p->status, &err) != ERR_OK)
            sim_trace(p->w, "n%u heard: %s", m->i, err.text);
        m->serving = true;
        sim_trace(p->w, "n%u serves, role %d", m->i, (int)node_role(m->node));
    }
    arena_free(&p->arena);
    stack_free(p->stack);
    free(p);
}

static bool
is_ready(struct proc *p)
{
    if (p->killed)
        return true;
    p->timed_out = false;
    if (p->ready != NULL && p->ready(p->ready_ctx))
        return true;
    p->timed_out = p->w->now >= p->until;
    return p->timed_out;
}

static void
reap(struct world *w)
{
    for (struct proc **at = &w->procs; *at != NULL;) {
        struct proc *p = *at;
        if (!p->done) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        finish(p);
        at = &w->procs; /* finishing may have started others */
    }
}

bool
procs_run(struct world *w, const struct machine *only)
{
    bool did = false;

    for (struct proc *p = w->procs; p != NULL; p = p->next) {
        if (p->done || (only != NULL && p->m != only) ||
            (only == NULL && machine_is_paused(p->m)) || !is_ready(p))
            continue;
        /* A store is not closed while its writer is in a turn. */
        if (only != NULL && p->kind == PROC_THREAD)
            continue;
        resume(p);
        did = true;
    }
    if (only == NULL)
        reap(w);
    return did;
}

uint64_t
procs_next(const struct world *w)
{
    uint64_t next = UINT64_MAX;

    for (const struct proc *p = w->procs; p != NULL; p = p->next) {
        uint64_t at = p->until;
        if (machine_is_paused(p->m))
            at = MAX(at, p->m->paused_until);
        next = MIN(next, at);
    }
    return next;
}

void
procs_kill(struct world *w, const struct machine *m, int kind)
{
    for (struct proc *p = w->procs; p != NULL; p = p->next)
        if ((m == NULL || p->m == m) && (kind < 0 || (int)p->kind == kind)) {
            p->killed = true;
            while (!p->done)
                resume(p);
        }
}

bool
procs_busy(const struct world *w)
{
    for (const struct proc *p = w->procs; p != NULL; p = p->next)
        if (p->kind == PROC_CTL && !p->done)
            return true;
    return false;
}

void
procs_free(struct world *w)
{
    procs_kill(w, NULL, -1);
    reap(w);
}

/* ---- what they wait with ----------------------------------------------- */

int
__wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int
__real_poll(struct pollfd *fds, nfds_t n, int timeout_ms);

struct poll_wait {
    struct pollfd *fds;
    nfds_t n;
    const struct synclog_mark *mark; /* NULL: not waited for */
    uint32_t seq;
};

static bool
poll_ready(void *ctx)
{
    struct poll_wait *pw = ctx;

    if (pw->mark != NULL && atomic_load(&pw->mark->seq) != pw->seq)
        return true;
    for (nfds_t i = 0; i < pw->n; i++)
        if (net_fd_events(pw->fds[i].fd, pw->fds[i].events) != 0)
            return true;
    return false;
}

int
__wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    struct poll_wait pw = {.fds = fds, .n = n};
    int count = 0;

    if (current == NULL)
        return __real_poll(fds, n, timeout_ms);
    for (nfds_t i = 0; i < n; i++)
        if (!net_fd_is_ours(fds[i].fd)) { /* the eventfd of the mark */
            pw.mark = machine_mark(current->m);
            pw.seq = pw.mark == NULL ? 0 : atomic_load(&pw.mark->seq);
        }
    if (!poll_ready(&pw))
        (void)proc_wait(poll_ready, &pw,
                        timeout_ms < 0 ? US_PER_S
                                       : (uint64_t)timeout_ms * US_PER_MS);
    for (nfds_t i = 0; i < n; i++) {
        fds[i].revents = net_fd_events(fds[i].fd, fds[i].events);
        count += fds[i].revents != 0;
    }
    return count;
}

struct mark_wait {
    const struct synclog_mark *mark;
    uint32_t seen;
};

static bool
mark_moved(void *ctx)
{
    struct mark_wait *mw = ctx;

    return atomic_load(&mw->mark->seq) != mw->seen;
}

uint32_t
__wrap_mark_wait(const struct synclog_mark *mark, uint32_t seen,
                 int timeout_ms);

uint32_t
__wrap_mark_wait(const struct synclog_mark *mark, uint32_t seen, int timeout_ms)
{
    struct mark_wait mw = {mark, seen};

    ENSURE(current != NULL);
    if (!mark_moved(&mw))
        (void)proc_wait(mark_moved, &mw,
                        (uint64_t)MAX(timeout_ms, 1) * US_PER_MS);
    return atomic_load(&mark->seq);
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                      void *(*main)(void *), void *arg);
int
__wrap_pthread_join(pthread_t thread, void **ret);

/* sync_client's second thread only wakes poll(), which needs no waking here;
 * an instance's runs when those who wait for something do. */
int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                      void *(*main)(void *), void *arg)
{
    static pthread_t last;

    (void)attr;
    *thread = ++last;
    if (current != NULL)
        return 0;
    ENSURE(sim_world->in_turn != NULL);
    struct machine *m = sim_world->in_turn;
    struct proc *p = proc_start(sim_world, m, PROC_THREAD, m->i, NULL, false);
    p->thread = main;
    p->thread_ctx = arg;
    p->thread_id = *thread;
    return 0;
}

/* It does not wait for anything, so one turn is enough. */
int
__wrap_pthread_join(pthread_t thread, void **ret)
{
    (void)ret;
    for (struct proc *p = sim_world->procs; p != NULL; p = p->next)
        if (p->kind == PROC_THREAD && p->thread_id == thread && !p->done)
            resume(p);
    return 0;
}
