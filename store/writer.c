/*
 * store/writer.c - the one thread that changes the state.
 *
 * A turn takes what waits and makes one commit group of it: records into one
 * frame, applied to the overlay; the frame into the log, one sync; the overlay
 * into the key-value store; then the position is published, who asked is
 * answered and who watches is told, in this order (P1: nothing is shown or
 * answered that is not durable).  While a group is being synced the next one
 * gathers in the queue.
 *
 * On a replica the frames come as they are; several that wait are one group.
 * They are in the overlay while the disk is at work, and shown when it is done.
 *
 * What can go wrong:
 *  - no room for the next segment: nothing was written, the group is refused
 *    with ERR_NOSPACE and forgotten;
 *  - the log fails: what became of the group is unknown until the log is read
 *    again, so nothing more is ever written (store_die());
 *  - the key-value store is full after the log took the group: the group is
 *    durable and must become visible, so the writer keeps the batch and tries
 *    again, refusing all new work meanwhile;
 *  - a record does not fit the state: this and the master's state have parted;
 *    the instance stops.
 */
#include "store/store_private.h"

#include <stdlib.h>
#include <time.h>

#include "store/mutants.h"
#include "synclog/reader.h"

#define NS_PER_MS UINT64_C(1000000)
#define FENCE_POLL_MS 50
#define HEARTBEAT_MS 200
#define RETRY_MS 100
/* Replay gathers so much before it writes: what is looked up and sorted stays
 * in the processor's cache. */
#define REPLAY_BATCH_BYTES ((size_t)1 << 20)

void
store_die(struct store *store, const struct error *err)
{
    pthread_mutex_lock(&store->lock);
    const bool first = !store->dead;
    if (first) {
        store->dead = true;
        store->dead_err = *err;
    }
    pthread_mutex_unlock(&store->lock);
    if (first && store->hooks.on_fatal != NULL)
        store->hooks.on_fatal(store->hooks.ctx, err);
}

/* ----------------------------------------------------------------- fence */

static bool
look_at_fence(struct store *store)
{
    const bool up = store->cfg.fence_path != NULL &&
                    env_may_exist(store->env, store->cfg.fence_path);
    struct synclog_mark *mark = synclog_mark(store->log);

    store->last_poll_ns = env_mono_ns(store->env);
    store->fence = up;
    /* It is up for others when nothing from before is left to be answered. */
    const uint32_t shown = up && acks_are_none(store) ? 1 : 0;
    if (shown != atomic_load(&mark->fence)) {
        atomic_store(&mark->fence, shown);
        mark_wake(mark);
    }
    return up;
}

static bool
is_held(const struct store *store)
{
    return env_mono_ns(store->env) < store->hold_until_ns;
}

/* ------------------------------------------------------------ finishing */

static void
note_frame(struct store *store, lsn_t lsn, uint64_t digest)
{
    /* Of many frames in one group the last ones are kept. */
    if (store->nfresh == ARRAY_LEN(store->fresh)) {
        memmove(&store->fresh[0], &store->fresh[1],
                sizeof(store->fresh) - sizeof(store->fresh[0]));
        store->nfresh--;
    }
    store->fresh[store->nfresh].lsn = lsn;
    store->fresh[store->nfresh].digest = digest;
    store->nfresh++;
}

void
writer_publish(struct store *store, const struct store_pos *pos,
               const struct frame_digest *fresh, size_t nfresh)
{
    struct synclog_mark *mark = synclog_mark(store->log);

    pthread_mutex_lock(&store->pos_lock);
    store->pos = *pos;
    for (size_t i = 0; i < nfresh; i++) {
        store->ring[store->ring_next] = fresh[i];
        store->ring_next = (store->ring_next + 1) % DIGEST_RING;
    }
    pthread_mutex_unlock(&store->pos_lock);
    atomic_store(&mark->applied_lsn, pos->applied.lsn);
    mark_wake(mark);
}

static void
publish(struct store *store)
{
    writer_publish(store, &store->reached, store->fresh, store->nfresh);
    store->nfresh = 0;
}

static void
answer_all(struct store *store)
{
    jobs_answer(store, &store->acks);
}

/* The group is visible: everybody is told. */
static void
tell_all(struct store *store)
{
    store_answers(store, true);
    answer_all(store);
    for (struct head *h = store->st.all_heads; h != NULL; h = h->all)
        if (h->changed)
            watches_fire(&store->watches, h->mb.id);
    if (store->st.v.list_changed)
        watches_fire(&store->watches, 0);
    store_answers(store, false);
}

static void
fail_group(struct store *store, const struct error *err)
{
    struct error discard = {0};

    jobs_refuse(store, &store->acks, err);
    store->nfresh = 0;
    if (state_discard(&store->st, store->reached.digest, &discard) != ERR_OK)
        store_die(store, &discard);
}

/* The group is durable in the log: show it.  False: no room for it yet. */
static bool
finish_group(struct store *store)
{
    struct error err = {0};

    acks_begin(store);
    enum errcode rc = kv_write(store->kv, store->st.batch, &err);
    if (rc == ERR_NOSPACE) {
        store->unfinished = true;
        store->unfinished_retry_ns =
            env_mono_ns(store->env) + RETRY_MS * NS_PER_MS;
        return false;
    }
    store->unfinished = false;
    if (rc != ERR_OK) {
        store_die(store, &err);
        jobs_refuse(store, &store->acks, &err);
        return true;
    }
    full_taken(&store->full);
    if (!acks_hold(store)) {
        publish(store);
        tell_all(store);
    }
    state_clear(&store->st);
    store->last_group_ns = env_mono_ns(store->env);
    store->beat = false;
    return true;
}

static void
put_position(struct store *store)
{
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;

    pos_encode(&store->reached, &value);
    kv_batch_put(store->st.batch, KV_STATE, key_local(&k, LOCAL_APPLIED),
                 buf_span(&value));
}

/* Derived records that were made while the disk was at work. */
static void
put_late_caches(struct store *store)
{
    for (struct job *job = store->acks.first; job != NULL; job = job->next) {
        struct store_txn *txn = (struct store_txn *)job;
        for (size_t i = 0; !job->is_frames && i < txn->nops; i++) {
            struct op *op = &txn->ops[i];
            struct span record;
            struct key k;
            if (op->kind != OP_APPEND || !op->u.append.msg.cache_is_late ||
                txn->code != ERR_OK || op->res.code != ERR_OK)
                continue;
            if (txn_take_cache(op, &record))
                kv_batch_put(store->st.batch, KV_CACHE,
                             key_message(&k, op->id, op->res.uids.r[0].first),
                             record);
        }
    }
}

static void
count_log_bytes(struct store *store, size_t n)
{
    pthread_mutex_lock(&store->pos_lock);
    store->log_bytes += n;
    pthread_mutex_unlock(&store->pos_lock);
}

/* synclog_sync(), counted. */
static enum errcode
sync_log(struct store *store, struct error *err)
{
    const lsn_t before = synclog_durable(store->log, NULL).lsn;
    const uint64_t began_ns = env_mono_ns(store->env);

    atomic_store(&store->tallies.sync_began_ns, began_ns);
    enum errcode rc = synclog_sync(store->log, err);
    atomic_store(&store->tallies.sync_began_ns, 0);
    if (rc == ERR_OK) {
        tally_add(&store->tallies.sync_us,
                  (env_mono_ns(store->env) - began_ns) / 1000);
        tally_add(&store->tallies.group_records,
                  synclog_durable(store->log, NULL).lsn - before);
    }
    return rc;
}

/* ---------------------------------------------------------------- master */

static enum errcode
begin_group(struct store *store, struct error *err)
{
    struct group *g = &store->group;

    g->epoch = store->epoch;
    g->payload.n = 0;
    g->nrecords = 0;
    g->chain = store->reached.chain;
    g->time_us = MAX(env_wall_us(store->env), store->reached.time_us);
    store->begins_epoch = false;
    return synclog_begin(store->log, g->payload_max, &g->place, err);
}

static bool
epoch_has_begun(const struct store *store)
{
    const size_t n = store->st.v.nepochs;
    return (store->cfg.mutants & MUTANT_IGNORE_EPOCH) != 0 ||
           (n > 0 && store->st.epochs[n - 1].epoch == store->epoch);
}

/*
 * Run what waits until the group is full.  What has had a turn of writing parts
 * goes to AGAIN.
 */
static void
gather(struct store *store, struct job_list *list, struct job_list *again)
{
    struct group *g = &store->group;
    const size_t enough =
        MIN((size_t)FRAME_GROUP_BYTES, g->payload_max / 4 * 3);
    struct job *job;

    while (g->payload.n < enough && !store->begins_epoch &&
           (job = jobs_take(list)) != NULL) {
        struct store_txn *txn = (struct store_txn *)job;
        struct error no = {0};
        if (job->is_frames) {
            (void)error_set(&no, ERR_READONLY, "a master takes no frames");
            job_set_code(job, &no);
            jobs_add(&store->acks, job);
            continue;
        }
        if (!txn->is_begin && !epoch_has_begun(store)) {
            (void)error_set(&no, ERR_READONLY,
                            "epoch %" PRI_EPOCH " has not begun", store->epoch);
            job_set_code(job, &no);
            jobs_add(&store->acks, job);
            continue;
        }
        switch (resolve_txn(g, txn)) {
        case TXN_DONE:
            jobs_add(&store->acks, job);
            /* It waits for no replica, so it has a group of its own. */
            store->begins_epoch = txn->is_begin;
            break;
        case TXN_MORE:
            jobs_add(again, job);
            break;
        case TXN_OVERFLOW:
            if (g->nrecords > 0) { /* it comes first next time */
                job->next = list->first;
                if (list->first == NULL)
                    list->last = &job->next;
                list->first = job;
                return;
            }
            jobs_add(&store->acks, job); /* its code is ERR_LIMIT */
            break;
        }
    }
}

/* The records into the log, and durable. */
static enum errcode
commit(struct store *store, struct error *err)
{
    struct group *g = &store->group;

    enum errcode rc = synclog_append(store->log, g->epoch, g->time_us,
                                     buf_span(&g->payload), g->nrecords, err);
    if (rc == ERR_OK && (store->cfg.mutants & MUTANT_SHOW_BEFORE_SYNC) != 0) {
        if (kv_write(store->kv, store->st.batch, err) != ERR_OK)
            return err->code;
    }
    if (rc == ERR_OK && (store->cfg.mutants & MUTANT_ACK_BEFORE_SYNC) != 0)
        answer_all(store);
    if (rc == ERR_OK)
        rc = sync_log(store, err);
    if (rc != ERR_OK)
        return rc;
    store->reached.applied = synclog_durable(store->log, &store->reached.chain);
    store->reached.digest = store->st.root;
    store->reached.time_us = g->time_us;
    note_frame(store, store->reached.applied.lsn, store->st.root);
    count_log_bytes(store, g->payload.n + FRAME_HEADER_BYTES);
    put_late_caches(store);
    put_position(store);
    return ERR_OK;
}

/* They wait on: as if they had never been looked at. */
static void
keep_waiting(struct store *store, struct job_list *list)
{
    struct job *job;
    struct job_list kept;

    jobs_init(&kept);
    while ((job = jobs_take(&store->acks)) != NULL) {
        if (!job->is_frames) {
            struct store_txn *txn = (struct store_txn *)job;
            txn_reset(txn);
            txn_prepare(txn);
        }
        jobs_add(&kept, job);
    }
    while ((job = jobs_take(list)) != NULL)
        jobs_add(&kept, job);
    *list = kept;
    if (kept.first == NULL)
        jobs_init(list);
}

/* The fence is up: wait for its end if that is near, else refuse. */
static void
stop_at_fence(struct store *store, struct job_list *list)
{
    struct error err;

    (void)error_set(&err, ERR_FENCED, "the fence %s is up",
                    store->cfg.fence_path);
    const bool held = is_held(store);
    if (held)
        keep_waiting(store, list);
    fail_group(store, &err);
    if (!held)
        jobs_refuse(store, list, &err);
}

static bool
fence_binds(const struct store *store)
{
    return store->fence && (store->cfg.mutants & MUTANT_IGNORE_FENCE) == 0;
}

static void
move_all(struct job_list *from, struct job_list *to)
{
    struct job *job;
    while ((job = jobs_take(from)) != NULL)
        jobs_add(to, job);
}

/* What has had a turn that is durable goes to the end of the line. */
static void
next_turns(struct job_list *again, struct job_list *list)
{
    struct job *job;

    while ((job = jobs_take(again)) != NULL) {
        txn_keep_turn((struct store_txn *)job);
        jobs_add(list, job);
    }
}

static void
master_group(struct store *store, struct job_list *list)
{
    struct error err = {0};
    struct job_list again;
    uint64_t root;

    jobs_init(&again);
    enum errcode rc = begin_group(store, &err);
    if (rc != ERR_OK) {
        if (rc != ERR_NOSPACE)
            store_die(store, &err);
        jobs_refuse(store, list, &err);
        return;
    }
    gather(store, list, &again);
    rc = state_settle(&store->st, &root, &err);
    if (rc != ERR_OK) {
        move_all(&again, &store->acks);
        fail_group(store, &err);
        return;
    }
    (void)look_at_fence(store);
    if (fence_binds(store)) {
        move_all(&again, &store->acks);
        stop_at_fence(store, list);
        return;
    }
    if (store->group.nrecords == 0) {
        state_clear(&store->st);
        if (!acks_hold_answers(store))
            answer_all(store);
        next_turns(&again, list);
        return;
    }
    rc = commit(store, &err);
    if (rc != ERR_OK) {
        store_die(store, &err);
        move_all(&again, &store->acks);
        jobs_refuse(store, &store->acks, &err);
        return;
    }
    (void)finish_group(store);
    next_turns(&again, list);
}

/* --------------------------------------------------------------- replica */

/* Apply all frames of store->frames, which lie at PLACE. */
static enum errcode
apply_frames(struct store *store, const struct synclog_place *place,
             struct error *err)
{
    struct span in = buf_span(&store->frames);
    size_t at = 0;

    while (at < in.n) {
        struct frame_head h;
        struct span payload;
        size_t used;
        uint64_t root;
        if (frame_decode(span_skip(in, at), &h, &payload, &used) != PARSE_DONE)
            return error_set(err, ERR_CORRUPT, "a frame does not decode");
        const struct apply_place where = {
            .segment = place->segment,
            .payload_offset = place->payload_offset + at,
            .time_us = h.time_us,
        };
        enum errcode rc = h.nrecords == 0
                              ? ERR_OK
                              : store_apply_frame(&store->st, &h, payload,
                                                  &where, &root, err);
        if (rc != ERR_OK)
            return rc;
        if (h.nrecords > 0) {
            store->reached = (struct store_pos){
                .applied = {h.epoch, frame_last_lsn(&h)},
                .chain = h.chain,
                .digest = root,
                .time_us = h.time_us,
            };
            note_frame(store, store->reached.applied.lsn, root);
        }
        at += used;
    }
    return ERR_OK;
}

/* What replay has gathered, into the state. */
static enum errcode
write_replayed(struct store *store, struct error *err)
{
    put_position(store);
    enum errcode rc = kv_write(store->kv, store->st.batch, err);
    state_clear(&store->st);
    return rc;
}

/* Apply what the log has next; *RET_MORE: there was something. */
static enum errcode
replay_some(struct store *store, struct synclog_reader *r, bool *ret_more,
            struct error *err)
{
    struct synclog_place place;
    struct span frames;
    lsn_t last;
    uint64_t time_us;

    enum errcode rc =
        reader_next(r, FRAME_GROUP_BYTES, &frames, &last, &time_us, err);
    *ret_more = frames.n > 0;
    if (rc != ERR_OK || frames.n == 0)
        return rc;
    reader_place(r, &place.segment, &place.payload_offset);
    place.payload_offset += FRAME_HEADER_BYTES;
    buf_clear(&store->frames);
    buf_add(&store->frames, frames);
    return apply_frames(store, &place, err);
}

enum errcode
writer_replay(struct store *store, uint64_t *ret_records, struct error *err)
{
    AUTO(reader_close) struct synclog_reader *r = NULL;
    const lsn_t from = store->reached.applied.lsn;
    bool more = true;

    enum errcode rc = reader_open(store->env, store->log_dir,
                                  synclog_mark(store->log), from, &r, err);
    if (rc == ERR_GAP)
        rc = error_set(err, ERR_CORRUPT,
                       "the state is at %" PRI_LSN
                       ", and the log does not go on from there (it begins "
                       "with %" PRI_LSN ")",
                       from, synclog_first(store->log));
    if (rc == ERR_OK && reader_chain(r) != store->reached.chain)
        rc = error_set(err, ERR_HISTORY,
                       "the state at %" PRI_LSN
                       " and the log there are of different histories",
                       from);
    while (rc == ERR_OK && more) {
        rc = replay_some(store, r, &more, err);
        if (rc == ERR_OK && store->reached.applied.lsn > from &&
            (!more || kv_batch_bytes(store->st.batch) >= REPLAY_BATCH_BYTES))
            rc = write_replayed(store, err);
    }
    *ret_records = store->reached.applied.lsn - from;
    publish(store);
    return rc;
}

bool
writer_show_frames(struct store *store, const struct synclog_place *place)
{
    struct error err = {0};

    if (apply_frames(store, place, &err) != ERR_OK) {
        store_die(store, &err);
        return false;
    }
    put_position(store);
    return finish_group(store);
}

/* Frames that were refused as they came, one reason for all of them. */
static void
fail_frames(struct store *store, const struct error *err)
{
    jobs_refuse(store, &store->acks, err);
}

/* Write and apply the frames of store->acks.  False: try them one by one. */
static bool
frames_group(struct store *store, bool alone)
{
    struct error err = {0};
    struct synclog_place place;

    buf_clear(&store->frames);
    for (struct job *j = store->acks.first; j != NULL; j = j->next)
        buf_add(&store->frames, buf_span(&((struct frames_job *)j)->frames));
    (void)look_at_fence(store);
    if (fence_binds(store)) {
        (void)error_set(&err, ERR_FENCED, "the fence %s is up",
                        store->cfg.fence_path);
        fail_frames(store, &err);
        return true;
    }
    if (store->frames.n == 0) {
        answer_all(store);
        return true;
    }
    if (atomic_load(&synclog_mark(store->log)->seeding) != 0) {
        /* Another master's stream began before: its rows would mix. */
        (void)error_set(&err, ERR_CONFLICT, "a seed is coming");
        fail_frames(store, &err);
        return true;
    }
    enum errcode rc = synclog_begin(store->log, store->frames.n, &place, &err);
    if (rc == ERR_OK)
        rc = synclog_append_frames(store->log, buf_span(&store->frames), &err);
    if (rc != ERR_OK && rc != ERR_IO && rc != ERR_NOSPACE && !alone)
        return false; /* nothing was written */
    if (rc != ERR_OK) {
        if (rc == ERR_IO)
            store_die(store, &err);
        fail_frames(store, &err);
        return true;
    }
    /* The disk has begun with them: the overlay meanwhile, which nobody sees.
     */
    const bool shows = !delay_holds(store);
    if (shows)
        rc = apply_frames(store, &place, &err);
    if (rc == ERR_OK && (store->cfg.mutants & MUTANT_REPLICA_NO_SYNC) == 0)
        rc = sync_log(store, &err);
    if (rc != ERR_OK) {
        store_die(store, &err);
        fail_frames(store, &err);
        return true;
    }
    count_log_bytes(store, store->frames.n);
    if (!shows) {
        answer_all(store);
        return true;
    }
    put_position(store);
    (void)finish_group(store);
    return true;
}

static void
replica_group(struct store *store, struct job_list *list)
{
    size_t bytes = 0;
    struct job *job;

    while (bytes < FRAME_GROUP_BYTES && !store->unfinished && !store->dead &&
           (job = jobs_take(list)) != NULL) {
        struct frames_job *f = (struct frames_job *)job;
        struct error err;
        if (!job->is_frames) {
            (void)error_set(&err, ERR_READONLY, "this instance is a replica");
            job_refuse(store, job, &err);
        } else if (f->code != ERR_OK) {
            job_answer(store, job); /* a body that is not its GUID */
        } else {
            bytes += f->frames.n;
            jobs_add(&store->acks, job);
        }
    }
    if (store->acks.first == NULL || frames_group(store, false))
        return;
    struct job_list one_by_one = store->acks;
    jobs_init(&store->acks);
    while (!store->unfinished && (job = jobs_take(&one_by_one)) != NULL) {
        jobs_add(&store->acks, job);
        if (store->dead)
            jobs_refuse(store, &store->acks, &store->dead_err);
        else
            (void)frames_group(store, true);
    }
    /* Only what stands behind an unfinished one is left. */
    while ((job = jobs_take(&one_by_one)) != NULL) {
        job->next = list->first;
        if (list->first == NULL)
            list->last = &job->next;
        list->first = job;
    }
}

static void
fenced_group(struct store *store, struct job_list *list)
{
    struct job *job;
    struct error err;

    while ((job = jobs_take(list)) != NULL) {
        if (job->is_frames)
            (void)error_set(&err, ERR_READONLY,
                            "this instance is fenced and no replica");
        else
            (void)error_set(&err, ERR_FENCED, "this instance is fenced");
        job_refuse(store, job, &err);
    }
}

/* ----------------------------------------------------------------- turns */

/*
 * A group that is durable and waits for room in the state was not answered yet,
 * and once the fence is up, or another is the master, it must not be (P3).
 */
static void
refuse_unfinished(struct store *store)
{
    struct job_list kept;
    struct job *job;
    struct error err;

    (void)look_at_fence(store);
    if ((store->role == ROLE_MASTER && !fence_binds(store)) ||
        (store->cfg.mutants & MUTANT_ANSWER_LATE) != 0)
        return;
    (void)error_set(&err, ERR_FENCED,
                    "it is durable, but it was fenced before that could be "
                    "said");
    jobs_init(&kept);
    while ((job = jobs_take(&store->acks)) != NULL) {
        if (job->is_frames)
            jobs_add(&kept, job);
        else
            job_refuse(store, job, &err);
    }
    move_all(&kept, &store->acks);
}

/* What a group may be made of; the lock is not held, `busy` is. */
static void
run(struct store *store, struct job_list *list)
{
    struct error err;

    if (store->unfinished && !store->dead) {
        refuse_unfinished(store);
        if (env_mono_ns(store->env) < store->unfinished_retry_ns ||
            !finish_group(store)) {
            (void)error_set(&err, ERR_NOSPACE,
                            "the state's disk is full, trying on");
            jobs_refuse(store, list, &err);
            return;
        }
    }
    if (store->dead) {
        jobs_refuse(store, &store->acks, &store->dead_err);
        jobs_refuse(store, list, &store->dead_err);
        return;
    }
    struct job *begin = epochs_owed(store);
    if (begin != NULL) {
        begin->next = list->first;
        if (list->first == NULL)
            list->last = &begin->next;
        list->first = begin;
    }
    if (list->first == NULL)
        return;
    switch (store->role) {
    case ROLE_MASTER:
        /* One that is raised now is seen before anything is written. */
        if (store->fence && look_at_fence(store) && fence_binds(store) &&
            store->acks.first == NULL) {
            if (is_held(store))
                return;
            (void)error_set(&err, ERR_FENCED, "the fence %s is up",
                            store->cfg.fence_path);
            jobs_refuse(store, list, &err);
            return;
        }
        acks_refuse(store, list);
        if (list->first != NULL)
            master_group(store, list);
        return;
    case ROLE_REPLICA:
        replica_group(store, list);
        return;
    case ROLE_FENCED:
        fenced_group(store, list);
        return;
    }
}

static void
idle_work(struct store *store)
{
    const uint64_t now = env_mono_ns(store->env);
    struct error err = {0};

    if (now - store->last_poll_ns >= FENCE_POLL_MS * NS_PER_MS)
        (void)look_at_fence(store);
    if (!store->dead && !store->unfinished)
        (void)delay_step(store, false);
    if (!store->beat && !store->dead && !store->unfinished &&
        now - store->last_group_ns >= HEARTBEAT_MS * NS_PER_MS) {
        store->beat = true;
        if (synclog_heartbeat(store->log, &err) == ERR_IO)
            store_die(store, &err);
    }
}

bool
writer_turn(struct store *store)
{
    struct job_list list;
    const bool had_unfinished = store->unfinished;

    jobs_init(&list);
    pthread_mutex_lock(&store->lock);
    /* The lock was free: who came meanwhile may be at work (store/local.c). */
    while (store->busy)
        pthread_cond_wait(&store->idle, &store->lock);
    if (store->queue.first != NULL) {
        list.first = store->queue.first;
        list.last = store->queue.last;
        jobs_init(&store->queue);
    }
    store->busy = true;
    pthread_mutex_unlock(&store->lock);

    const bool had_work = list.first != NULL;
    run(store, &list);
    idle_work(store);

    pthread_mutex_lock(&store->lock);
    const bool left = list.first != NULL;
    jobs_put_back(store, &list);
    ENSURE(store->busy); /* nobody else was at work meanwhile */
    store->busy = false;
    pthread_cond_broadcast(&store->idle);
    pthread_mutex_unlock(&store->lock);
    return (had_work && !(left && store->fence)) ||
           (had_unfinished && !store->unfinished);
}

static void
wait_ms(struct store *store, uint64_t ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t ns = (uint64_t)at.tv_nsec + ms * NS_PER_MS;
    at.tv_sec += (time_t)(ns / 1000000000U);
    at.tv_nsec = (long)(ns % 1000000000U);
    (void)pthread_cond_timedwait(&store->work, &store->lock, &at);
}

void *
writer_main(void *arg)
{
    struct store *store = arg;
    bool did = false;

    pthread_mutex_lock(&store->lock);
    for (;;) {
        while (store->controls > 0)
            pthread_cond_wait(&store->idle, &store->lock);
        if (store->closing)
            break;
        /* Nothing to do, or nothing that can be done now. */
        if (!did || store->queue.first == NULL)
            if (store->queue.first == NULL || store->fence || store->unfinished)
                wait_ms(store, FENCE_POLL_MS);
        if (store->closing || store->controls > 0)
            continue;
        pthread_mutex_unlock(&store->lock);
        did = writer_turn(store);
        pthread_mutex_lock(&store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}
