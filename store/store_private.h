/*
 * store/store_private.h - the inside of an open store, for the files of this
 * folder.
 *
 * Locks, in the order in which they are taken: `seed_lock`,
 * `checkpoint_lock`, `lock` (queue, role, what the writer is doing), that of
 * acks.c, `watch_lock`, `pos_lock`.  The writer holds none of them while it
 * works on a group; `busy` says that it does.
 */
#ifndef POLLUX_STORE_STORE_PRIVATE_H
#define POLLUX_STORE_STORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/acks.h"
#include "store/body_private.h"
#include "store/full.h"
#include "store/resolve.h"
#include "store/state.h"
#include "store/stats.h"

/* ---- what body.c and seed.c use --------------------------------------- */

struct kv *
store_kv(struct store *store);
struct env *
store_env(const struct store *store);
/* Where large messages lie until they are stored. */
const char *
store_tmpdir(const struct store *store);
const char *
store_pack_dir(const struct store *store);
/*
 * seed.c: KV now holds the whole state at POS (all replicated, derived and
 * local rows but LOCAL_APPLIED and LOCAL_START, flushed).  Writes these two,
 * flushes, begins the log behind POS and goes on from there.  The digests of
 * the users must give POS's (ERR_CORRUPT otherwise, nothing changed).
 */
MUST_CHECK enum errcode
store_adopt(struct store *store, const struct store_pos *pos,
            struct error *err);
/* seed.c: the mark says `seeding`, and the writer takes no frames any more;
 * false: there is history here. */
bool
store_begin_seeding(struct store *store);
void
store_end_seeding(struct store *store);
/*
 * seed.c: KV holds all replicated rows (table_is_replicated()) and no derived
 * ones.  Recounts every mailbox and quota root (ERR_CORRUPT names the first
 * that is wrong), writes TAB_CHANGED, TAB_UNIQUEID, TAB_NAME, TAB_GUIDREF and
 * TAB_DIGEST, and gives the root digest.
 */
MUST_CHECK enum errcode
store_build_derived(struct kv *kv, uint64_t *ret_root, struct error *err);

/* ---- epochs.c --------------------------------------------------------- */

/* In a turn of the writer: the transaction that begins the epoch that is owed,
 * if it can begin; else NULL.  It frees itself. */
struct job *
epochs_owed(struct store *store);

/* ---- store.c ---------------------------------------------------------- */

/* The writer stands still, and the lock is held, from one to the other. */
void
store_control_begin(struct store *store);
void
store_control_end(struct store *store);

/* ---- watch.c ---------------------------------------------------------- */

#define WATCH_BUCKETS 256U

struct watches {
    pthread_mutex_t lock;
    struct store_watch *bucket[WATCH_BUCKETS];
    void (*follow)(void *ctx, mbid_t id); /* NULL: nobody */
    void *follow_ctx;
};

/* Tell whoever watches mailbox ID (0: the list). */
void
watches_fire(struct watches *ws, mbid_t id);

/* ---- frames.c --------------------------------------------------------- */

/* SHA-1 over the parts of bodies that come in several records. */
struct part_hash;

struct part_hashes {
    pthread_mutex_t lock;
    struct part_hash *first;
    unsigned n;
};

/* Is every body in FRAMES what its GUID says?  ERR_CORRUPT. */
MUST_CHECK enum errcode
frames_check_bodies(struct part_hashes *hashes, struct span frames,
                    struct error *err);
void
part_hashes_free(struct part_hashes *hashes);

/* ---- jobs.c ----------------------------------------------------------- */

struct job_list {
    struct job *first, **last;
};

void
jobs_init(struct job_list *list);
void
jobs_add(struct job_list *list, struct job *job);
struct job *
jobs_take(struct job_list *list);
/* All of LIST in front of what waits; with `lock`. */
void
jobs_put_back(struct store *store, struct job_list *list);
/* What becomes of it when it is answered. */
void
job_set_code(struct job *job, const struct error *err);
/* Call DONE, and forget it. */
void
job_answer(struct store *store, struct job *job);
void
job_refuse(struct store *store, struct job *job, const struct error *err);
void
jobs_answer(struct store *store, struct job_list *list);
void
jobs_refuse(struct store *store, struct job_list *list,
            const struct error *err);

/* ---- acks.c: all for the writer, but for view and reset ----------------- */

struct acks;

/* A view of the state that several readers share. */
struct shared_view;

/* Has what was committed last been shown and answered? */
bool
acks_are_none(struct store *store);
/* The group under way is about to be written into the state. */
void
acks_begin(struct store *store);
/* It is there.  False: show and answer it yourself. */
bool
acks_hold(struct store *store);
/* Nothing was to be written for store->acks; false: answer them yourself. */
bool
acks_hold_answers(struct store *store);
/* While replicas are missed: refuse all of LIST that would wait for them. */
void
acks_refuse(struct store *store, struct job_list *list);
/* The role or the epoch changes (the writer rests): what waits is shown, and
 * comes back to be refused when no lock is held. */
struct held;
struct held *
acks_reset(struct store *store, enum role role);
void
acks_refuse_held(struct store *store, struct held *held);
/* With no lock: until nothing waits any more, as long as that may take. */
void
acks_wait(struct store *store);
/* What a reader may see: NULL, the newest; else released by
 * shared_view_release(). */
struct shared_view *
acks_view(struct store *store, struct kv_snap **ret);
void
shared_view_release(struct store *store, struct shared_view **view);
MUST_CHECK enum errcode
acks_start(struct store *store, struct error *err);
/* The writer has ended.  What waits is refused. */
void
acks_stop(struct store *store);

/* ---- delay.c: a replica's log is ahead of its state ---------------------- */

struct delay {
    struct synclog_reader *reader; /* NULL: at store->reached when opened */
    struct buf frame;              /* the next one, not due yet */
    struct synclog_place place;
    uint64_t time_us;
    bool has_frame;
};

/* Is what comes to be left in the log for now?  For the writer. */
bool
delay_holds(struct store *store);
/* Apply what is due, or (ALL) everything; true if there was something. */
bool
delay_step(struct store *store, bool all);
void
delay_close(struct store *store);

/* ---- writer.c --------------------------------------------------------- */

#define DIGEST_RING 4096U

struct frame_digest {
    lsn_t lsn;
    uint64_t digest;
};

struct store {
    struct env *env;
    struct store_config cfg; /* its strings are ours */
    struct store_hooks hooks;
    char *log_dir;
    char *tmp_dir;
    struct kv *kv;
    struct synclog *log;
    struct bodies *bodies;
    struct compactor *compactor;
    struct damages *damages;
    struct scrub *scrub; /* with `lock`: the one that runs, for status */
    struct watches watches;
    struct part_hashes part_hashes;
    struct full full;
    struct body_budget body_budget;
    struct acks *sync_acks;       /* NULL: nothing waits for replicas */
    struct store_tallies tallies; /* the writer adds */

    pthread_mutex_t seed_lock;       /* a call of the seed that comes */
    atomic_uint_fast64_t seed_turn;  /* which one that is */
    pthread_mutex_t checkpoint_lock; /* a checkpoint, the log's exchange, bodies
                                        that move */
    pthread_mutex_t lock;
    pthread_cond_t work; /* something for the writer */
    pthread_cond_t idle; /* the writer has put a group down */
    struct job_list queue;
    bool busy;         /* the writer works without the lock */
    unsigned controls; /* who waits for it to be idle */
    bool closing;
    enum role role;
    epoch_t epoch;
    bool fence; /* as last seen */
    struct { /* the epoch that is to begin; changed while the writer stands */
        _Atomic epoch_t epoch; /* 0: none */
        _Atomic uint32_t uid_headroom;
        bool by_itself; /* the writer begins it when it can */
        char reason[64];
    } planned;
    uint64_t hold_until_ns;
    bool is_open;       /* store_open() is through */
    bool state_damaged; /* the key-value store said so */
    atomic_bool dead;   /* a fatal error: nothing more is written */
    struct error dead_err;
    pthread_t writer;
    pthread_t checkpointer;
    pthread_t compact_thread;
    pthread_cond_t checkpoint_wake;
    atomic_size_t queue_bytes;

    /* The writer's own, while busy. */
    struct state st;
    struct group group;
    struct job_list acks;     /* answered when the group is visible */
    struct store_pos reached; /* by the group under way */
    struct buf frames;
    struct delay delay;
    bool unfinished; /* durable in the log, not yet in the state */
    uint64_t unfinished_retry_ns;
    uint64_t last_group_ns;
    uint64_t last_poll_ns;
    bool beat;                     /* a heartbeat has proved the last group */
    bool begins_epoch;             /* the group under way does */
    struct frame_digest fresh[64]; /* frames of the group under way */
    size_t nfresh;

    pthread_mutex_t pos_lock;
    struct store_pos pos;
    struct frame_digest ring[DIGEST_RING];
    size_t ring_next;
    uint64_t log_bytes; /* written since the store was opened */
    uint64_t flushed_bytes;
    lsn_t flushed_lsn;
};

/* POS is what others see from now on; FRESH: its last groups. */
void
writer_publish(struct store *store, const struct store_pos *pos,
               const struct frame_digest *fresh, size_t nfresh);
/* One turn of the writer; true if it did something. */
bool
writer_turn(struct store *store);
void *
writer_main(void *store);
/* Apply the frames of store->frames, which lie at PLACE in the log, and show
 * them.  False: there is no room for it yet (`unfinished`), or the store has
 * died. */
bool
writer_show_frames(struct store *store, const struct synclog_place *place);
/* Recovery: apply what the log has and the state has not. */
MUST_CHECK enum errcode
writer_replay(struct store *store, uint64_t *ret_records, struct error *err);
/* Whoever answers jobs or calls watchers says so around it. */
static inline void
store_answers(struct store *store, bool begins)
{
    if (store->hooks.on_answers != NULL)
        store->hooks.on_answers(store->hooks.ctx, begins);
}
/* Stop for good. */
void
store_die(struct store *store, const struct error *err);
/* Refuse everything that waits. */
void
writer_refuse_all(struct store *store, enum errcode code, const char *why);

/* ---- damage_state.c --------------------------------------------------- */

/* The key-value store came upon damage (kv_on_corrupt): an open store says what
 * to do, and ends; so does every later start. */
void
state_is_damaged(void *store, const struct error *err);
/* ERR_CORRUPT: the state in DIR was found to be damaged before. */
MUST_CHECK enum errcode
state_check_mark(struct env *env, const char *dir, struct error *err);
/* Does the log reach back to its beginning? */
bool
state_can_be_rebuilt(struct env *env, const char *log_dir);
/* Move the state and its packs out of the way, so that it is made from the log
 * anew. */
MUST_CHECK enum errcode
state_set_aside(struct env *env, const struct store_config *cfg,
                const struct error *why, struct error *err);
/* Add to ERR what the admin is to do. */
void
damage_advise(bool is_state, struct error *err);

/* ---- checkpoint.c ----------------------------------------------------- */

void *
checkpoint_main(void *store);
/* store_checkpoint() by whoever has `checkpoint_lock`. */
MUST_CHECK enum errcode
store_checkpoint_locked(struct store *store, struct error *err);
/* Where the first body lies that is only in the log; 0: none does. */
MUST_CHECK enum errcode
store_first_body(struct store *store, lsn_t *ret, struct error *err);
/* The first record that the state as flushed, or a slot, still needs; those of
 * a replica that feeds nobody need nothing (SLOT_NOT_KEPT).  Slots
 * that pin more than the cap are expelled, and those that are parked before
 * LOST (0: none), up to which the log has damage that nobody can mend. */
MUST_CHECK enum errcode
store_log_needed(struct store *store, lsn_t lost, lsn_t *ret,
                 struct error *err);

/* ---- compact.c -------------------------------------------------------- */

struct compactor;

void *
compact_main(void *store);
struct compactor *
compactor_new(struct store *store);
void
compactor_free(struct compactor **c);

#endif
