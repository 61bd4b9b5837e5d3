/*
 * tests/sim/sim_private.h - the simulated cluster from inside.
 *
 * One world at a time; everything runs on one thread.  `sim_world` is the one
 * that runs, for the functions that stand in for those of the product.
 */
#ifndef POLLUX_TESTS_SIM_PRIVATE_H
#define POLLUX_TESTS_SIM_PRIVATE_H

#include "base/config.h"
#include "base/env_fault.h"
#include "base/env_sim.h"
#include "csync/server.h"
#include "failover/node.h"
#include "store/kv_mem.h"
#include "store/mutants.h"
#include "store/record.h"
#include "store/txn.h"
#include "synclog/reader.h"
#include "synclog/slot.h"
#include "tests/sim/sim.h"

#define NODES 3U
#define SIM_KEEPER 1U /* keeps what is purged, as the others do not */
#define HEADROOM 1000U
#define US_PER_MS UINT64_C(1000)
#define US_PER_S UINT64_C(1000000)

struct world;
struct proc;
struct line;

/* ---- machines ---------------------------------------------------------- */

enum death { ALIVE, DIED_KILL, DIED_POWER, DIED_FATAL };

/* What a reactor of the product would be: queues, run by the world. */
struct fake_call {
    void (*fn)(void *ctx);
    void *ctx;
    void (*work)(void *ctx); /* runs before fn */
};

struct reactor {
    struct machine *m;
    struct fake_call *calls;
    size_t first, n, cap;
    struct reactor_deferred deferred; /* head of a ring */
};

/* A key-value store's disk; which one is in use says a file on the machine. */
struct kvbox {
    uint32_t id;
    struct kv_disk *disk;
};

struct machine {
    struct world *w;
    unsigned i;
    char dir[16], fence[32], log_dir[32], control[32], csync[32];
    struct env_sim *sim;
    struct env_fault *fault;
    struct kvbox boxes[64];
    size_t nboxes;
    struct kv *kv; /* the open one */

    struct node *node; /* NULL: no instance runs */
    struct csync_instance inst;
    struct csync_server *server;
    struct reactor reactor;
    bool serving;     /* it may take clients: it has asked its twin */
    bool role_lost;   /* sessions are to be ended */
    enum death death; /* it has died inside of a call */
    bool reaping;
    uint64_t calls; /* env calls so far */
    unsigned calls_in_turn;
    uint64_t cut_at; /* die at this one; 0: never */
    enum death cut_how;
    uint64_t eio_at;     /* this one fails */
    bool eio_lies;       /* ... a sync that loses what it should have written */
    bool nth_at_start;   /* the next start is cut too */
    uint64_t restart_at; /* 0: not planned */
    uint64_t paused_until;
    uint64_t step_at, idle_at;
    uint64_t slow_us;    /* of one turn of the writer */
    uint64_t disk_bytes; /* 0: no end */
    bool kv_full;
    bool damaged;    /* bits were flipped */
    lsn_t seeded_at; /* where it was first seen since it was empty */
    bool rejoining;
    unsigned handover_to;   /* of the last swap begun here, + 1 */
    epoch_t handover_epoch; /* in which it was begun */
    unsigned open_failures;
    struct error open_err;

    /* What is known of it. */
    unsigned life; /* counts starts */
    struct line *line;
    struct store_pos seen; /* the last position, on `line` */
    lsn_t acked;           /* answered to clients, by this instance */
    lsn_t promised;        /* readers of its log were let up to here */
    struct synclog_reader *reader;
    lsn_t reader_at;
};

/* ---- processes --------------------------------------------------------- */

enum proc_kind { PROC_SYNC, PROC_CTL, PROC_ASK, PROC_THREAD };

/* simproc.c: blocking code on a stack of its own. */
struct proc *
proc_start(struct world *w, struct machine *m, enum proc_kind kind,
           unsigned peer, const char *verb, bool force);
/* Run all that can run now; true if something did. */
bool
procs_run(struct world *w, const struct machine *only);
/* The earliest time at which one wants to run. */
uint64_t
procs_next(const struct world *w);
/* kill -9; unwinds in order, without any effect.  M NULL: all; KIND -1: all. */
void
procs_kill(struct world *w, const struct machine *m, int kind);
void
procs_free(struct world *w);
bool
proc_is_current_killed(void);
/* Wait in the process that runs: until READY(CTX) or US; false: time is up. */
bool
proc_wait(bool (*ready)(void *ctx), void *ctx, uint64_t us);
struct proc *
proc_current(void);
struct machine *
proc_machine(const struct proc *p);
/* Is a ctl_failover running? */
bool
procs_busy(const struct world *w);

/* ---- network ----------------------------------------------------------- */

struct simlink;

void
net_init(struct world *w);
/* Deliver what is due; true if something was. */
bool
net_run(struct world *w);
uint64_t
net_next(const struct world *w);
/* All connections to and from M end (reset), or fall silent if SILENT. */
void
net_machine_gone(struct world *w, struct machine *m, bool silent);
/* Sessions of M's server end, but not those of its control socket. */
void
net_end_sessions(struct world *w, struct machine *m, bool control_too);
/* Cut one connection in its next bytes. */
void
net_cut_random(struct world *w);
void
net_free(struct world *w);
/* The machine's reactor: calls that wait; true if something ran. */
bool
reactor_run(struct machine *m);

/* ---- history ----------------------------------------------------------- */

struct frame_ref {
    unsigned refs;
    lsn_t first, last;
    epoch_t epoch;
    uint64_t chain, digest;
    bool has_digest;
    uint32_t nrecords;
    size_t n;
    uint8_t bytes[];
};

struct line {
    struct line *next; /* older */
    unsigned id;
    struct frame_ref **v;
    size_t n, cap;
    struct model *model;
};

/* Look where M's store is, and whether that is right (I1, I5, I6). */
void
history_observe(struct world *w, struct machine *m);
/* M is about to be emptied: what it had answered beyond the fork is in its
 * export (I17). */
void
history_rejoins(struct machine *m);
void
history_reset(struct machine *m);
lsn_t
line_end(const struct line *line);
void
history_free(struct world *w);

/* ---- model ------------------------------------------------------------- */

struct model;

/* Bring LINE's model to its end. */
void
model_advance(struct world *w, struct line *line);
/* Is M's state what the model says?  M must be at LINE's end. */
void
model_compare(struct world *w, struct line *line, struct machine *m);
void
model_free(struct model **model);
/* How often a delivery with this mark was stored; UID of the last. */
unsigned
model_deliveries(const struct line *line, const uint8_t mark[16]);
/* LSN of the last purge in mailbox ID. */
lsn_t
model_purged(const struct line *line, mbid_t id);
/* Is there such a message, or its tombstone, at the end of LINE? */
bool
model_has(const struct line *line, mbid_t id, uint32_t uid);
/* A mailbox at random, or 0. */
mbid_t
model_random_mailbox(const struct line *line, uint64_t random);

/* ---- clients ----------------------------------------------------------- */

struct clients;

/* Who may have objects of a user. */
#define SIM_USERS 4U
extern const char *const sim_users[SIM_USERS];

void
clients_init(struct world *w);
void
clients_free(struct world *w);
/* One operation of one client. */
void
clients_step(struct world *w);
/* M has become the master this moment: somebody is quick. */
void
clients_rush(struct world *w, struct machine *m);
/* Whatever was asked of M will not be answered. */
void
clients_lost(struct world *w, struct machine *m);
/* Try all unfinished deliveries once more; true: none is left. */
bool
clients_finish(struct world *w);
void
clients_check_deliveries(struct world *w);
/* Can a mutation be made at M? */
bool
clients_probe(struct world *w, struct machine *m);

/* ---- observers --------------------------------------------------------- */

struct told;

void
told_init(struct world *w);
void
told_free(struct world *w);
/* What a client would see of M now (I4, I7, I8, I9). */
void
told_look(struct world *w, struct machine *m, unsigned mailboxes);
/* From inside of a sync: nothing that is not durable may be seen. */
void
told_peek(struct world *w, struct machine *m);
/* Bodies of M (I13). */
void
told_bodies(struct world *w, struct machine *m, unsigned n);
/* Clients with caches (I10). */
void
caches_resync(struct world *w);
void
caches_free(struct world *w);

/* ---- world ------------------------------------------------------------- */

struct world {
    struct sim_options o;
    struct sim_result *res;
    uint64_t rng, trace_hash;
    uint64_t now; /* us */
    unsigned step;
    bool failed;
    bool healing;  /* no new faults */
    bool operated; /* a person has changed roles */
    struct machine m[NODES];
    struct config *cfg[NODES][NODES]; /* of I, with twin J */
    bool cut[NODES][NODES];           /* bytes from I to J do not arrive */
    uint64_t cut_until;
    uint64_t delay_us; /* of the network, on average */
    struct proc *procs;
    struct simlink *links;
    unsigned nlinks;
    struct line *lines; /* newest first */
    unsigned nlines;
    struct clients *clients;
    struct told *told;
    struct cache *caches;
    uint32_t max_epoch;
    unsigned acker[1024]; /* who has answered in which epoch */
    uint64_t operator_at, promote_at;
    uint64_t segment_bytes;
    uint64_t log_cap_bytes;  /* 0: none */
    struct machine *in_turn; /* whose reactor runs */
    bool peeking;
    uint64_t probes; /* answered */
};

extern struct world *sim_world;

uint64_t
sim_random(struct world *w, uint64_t below);
static inline bool
sim_one_in(struct world *w, uint64_t n)
{
    return sim_random(w, n) == 0;
}
void
sim_trace(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The first one counts. */
void
sim_violation(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Let things happen until UNTIL. */
void
world_run(struct world *w, uint64_t until);

/* machine.c */
void
machine_init(struct world *w, unsigned i);
void
machine_free(struct machine *m);
/* Start the instance; false: it did not. */
bool
machine_start(struct machine *m);
/* The instance dies, or with POWER the whole machine. */
void
machine_die(struct machine *m, enum death how);
/* If it has died inside of a call: clean up. */
bool
machine_reap(struct machine *m);
/* The state's disk has room again. */
void
machine_heal_kv(struct machine *m);
bool
machine_is_paused(const struct machine *m);
struct machine *
machine_by_path(const char *path);
static inline struct store *
machine_store(const struct machine *m)
{
    return m->node == NULL ? NULL : node_store(m->node);
}
/* Whom clients would find: serving, role master. */
bool
machine_is_master(const struct machine *m);
struct synclog_mark *
machine_mark(struct machine *m);

/* faults.c */
void
faults_step(struct world *w);
void
operator_step(struct world *w);
/* Everything works again. */
void
faults_heal(struct world *w);

/* shared.c: marks and slots, which the product maps. */
void
shared_free(void);
/* The power of M is cut: pages that were not synced may be older. */
void
shared_crash(struct machine *m);
struct synclog_slot *
shared_slot(struct machine *m, const char *name);

#endif
