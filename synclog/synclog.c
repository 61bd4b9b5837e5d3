/*
 * synclog/synclog.c - writing: places, frames, syncs, segments, trimming.
 *
 * One thread writes (begin, append, sync, heartbeat); what others ask for lies
 * behind state_lock, which is never held across a system call.
 *
 * Rotation is done by synclog_begin(), before a frame has its place: sync what
 * is written, take the file that the helper made ready, write and sync its
 * header, rename it, sync the directory (L5).  Until the rename a failure
 * leaves the log as it was, so a full disk only refuses; after it the log is
 * dead, since nobody knows what would be found.  The finished segment is cut to
 * what it holds, once its successor is durable.
 *
 * There is always room for one heartbeat behind the frames, so that an idle
 * log can prove its last frame.
 *
 * L3 is one flag: the first failed write or sync sets it with its reason, and
 * every call that would write answers with that reason from then on.
 */
#include "synclog/mutants.h"
#include "synclog/synclog_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Frames up to here go to the file in one write, larger ones in two. */
#define ONE_WRITE_BYTES ((size_t)256 << 10)
#define HEARTBEAT_BYTES ((uint64_t)FRAME_HEADER_BYTES)
/* When so much of a segment is used (a quarter), zeros go into the next one: an
 * instance that writes little makes no more of them than of log. */
#define FILL_FROM 4U

static uint64_t
padded(uint64_t n)
{
    return (n + 7U) & ~(uint64_t)7U;
}

/* ------------------------------------------------------------------ death */

static enum errcode
check_alive(const struct synclog *log, struct error *err)
{
    if (!log->dead)
        return ERR_OK;
    error_set(err, ERR_IO, "the log takes nothing until it is reopened: %s",
              log->dead_err.text);
    if (err != NULL)
        err->sys_errno = log->dead_err.sys_errno;
    return ERR_IO;
}

/* L3, because of WHY; from here on it is ERR_IO, whatever the code was. */
static enum errcode
die(struct synclog *log, const struct error *why, struct error *err)
{
    log->dead = true;
    log->dead_err = *why;
    log->dead_err.code = ERR_IO;
    log->begun = false;
    if (err != NULL)
        *err = log->dead_err;
    return ERR_IO;
}

/* Hand WHY to the caller; nothing has died of it. */
static enum errcode
refuse(const struct error *why, struct error *err)
{
    if (err != NULL)
        *err = *why;
    return why->code;
}

/* ------------------------------------------------------------------- mark */

/* The first record that can be read.  state_lock held. */
static lsn_t
first_lsn(const struct synclog *log)
{
    const struct segment_head *first = &log->list.v[0].head;

    return log->durable.last.lsn > first->prev_lsn ? first->first_lsn
                                                   : LSN_NONE;
}

/* Tell everyone where the log begins and how far it is durable.  The LSN comes
 * last: who sees it sees what belongs to it. */
static void
publish(struct synclog *log)
{
    struct synclog_mark *m = log->mark.page;

    pthread_mutex_lock(&log->state_lock);
    atomic_store(&m->start_lsn, log->list.v[0].head.prev_lsn);
    atomic_store(&m->first_lsn, first_lsn(log));
    atomic_store(&m->durable_epoch, log->durable.last.epoch);
    atomic_store(&m->durable_time_us, log->durable.time_us);
    atomic_store(&m->durable_lsn, log->durable.last.lsn);
    pthread_mutex_unlock(&log->state_lock);
    mark_wake(m);
}

/* ----------------------------------------------------------- open, close */

static enum errcode
take_lock(struct synclog *log, struct error *err)
{
    char path[LOG_PATH_BYTES];

    snprintf(path, sizeof(path), "%s/lock", log->dir);
    enum errcode rc =
        env_open(log->env, path, ENV_CREATE, &log->lock_file, err);
    if (rc == ERR_OK)
        rc = env_lock(log->lock_file, err);
    if (rc == ERR_BUSY)
        return error_set(err, ERR_BUSY,
                         "the log in %s is open for writing elsewhere",
                         log->dir);
    return rc;
}

/* The mark is from the run before, or new: say what is true now. */
static void
start_mark(struct synclog *log)
{
    struct synclog_mark *m = log->mark.page;

    memcpy(m->cluster, log->cfg.cluster.b, INSTANCE_ID_BYTES);
    memcpy(m->instance, log->cfg.instance.b, INSTANCE_ID_BYTES);
    atomic_store(&m->role, (uint32_t)ROLE_REPLICA);
    atomic_store(&m->fence, 0);
    atomic_store(&m->seeding, 0);
    atomic_store(&m->epoch, log->durable.last.epoch);
    atomic_store(&m->applied_lsn, 0);
    atomic_store(&m->writer_pid, (uint32_t)getpid());
    publish(log);
}

static void
adopt_recovered(struct synclog *log, const struct recovered *rec)
{
    log->list = rec->list;
    log->file = rec->file;
    log->file_bytes = rec->list.v[rec->list.n - 1].bytes;
    log->used = rec->end.end_offset;
    log->written = rec->end.end;
    log->durable = rec->end.end;
    /* What was not proven before is durable now: let a heartbeat say so. */
    log->proven = rec->end.unproven ? LSN_NONE : rec->end.end.last.lsn;
}

static enum errcode
open_dir(struct synclog *log, struct synclog_recovery *ret_found,
         struct error *err)
{
    struct recovered rec;
    struct synclog_recovery found;

    enum errcode rc = env_mkdirs(log->env, log->dir, err);
    if (rc == ERR_OK)
        rc = take_lock(log, err);
    if (rc == ERR_OK)
        rc = log_recover(log->env, &log->cfg, &rec, &found, err);
    if (rc != ERR_OK)
        return rc;
    adopt_recovered(log, &rec);
    rc = markmap_open(log->env, log->dir, env_fd(log->lock_file) >= 0,
                      &log->mark, err);
    if (rc != ERR_OK)
        return rc;
    start_mark(log);
    log->spare = spare_new(log->env, log->dir, log->cfg.segment_bytes,
                           !log->cfg.no_helper);
    *ret_found = found;
    return ERR_OK;
}

enum errcode
synclog_open(struct env *env, const struct synclog_config *cfg,
             struct synclog **ret, struct synclog_recovery *ret_found,
             struct error *err)
{
    ENSURE(cfg->segment_bytes >= 4 * SEGMENT_HEADER_BYTES);
    AUTO(synclog_close) struct synclog *log = xcalloc(1, sizeof(*log));

    log->env = env;
    log->cfg = *cfg;
    log->cfg.segment_bytes = padded(cfg->segment_bytes);
    log->dir = xstrdup(cfg->dir);
    log->cfg.dir = log->dir;
    handles_init(&log->handles);
    ENSURE(pthread_mutex_init(&log->state_lock, NULL) == 0);
    ENSURE(pthread_mutex_init(&log->trim_lock, NULL) == 0);
    enum errcode rc = ERR_OK;
    if (strlen(log->dir) > LOG_PATH_BYTES - 64)
        rc = error_set(err, ERR_LIMIT, "the path %s is too long", log->dir);
    if (rc == ERR_OK)
        rc = open_dir(log, ret_found, err);
    if (rc != ERR_OK) {
        error_prefix(err, "open the log");
        return rc;
    }
    *ret = log;
    log = NULL;
    return ERR_OK;
}

void
synclog_close(struct synclog **lp)
{
    struct synclog *log = *lp;

    if (log == NULL)
        return;
    spare_free(&log->spare);
    handles_done(&log->handles);
    if (log->mark.page != NULL) {
        atomic_store(&log->mark.page->writer_pid, 0);
        mark_wake(log->mark.page);
    }
    markmap_close(&log->mark);
    env_close(&log->file);
    env_close(&log->lock_file);
    seglist_free(&log->list);
    buf_free(&log->scratch);
    pthread_mutex_destroy(&log->state_lock);
    pthread_mutex_destroy(&log->trim_lock);
    xfree(&log->dir);
    xfree(lp);
}

/* ------------------------------------------------------------------- sync */

enum errcode
synclog_sync(struct synclog *log, struct error *err)
{
    struct error why = {0};

    enum errcode rc = check_alive(log, err);
    if (rc != ERR_OK || !log->dirty)
        return rc;
    rc = env_fdatasync(log->file, &why);
    if (rc != ERR_OK)
        return die(log, &why, err);
    log->dirty = false;
    pthread_mutex_lock(&log->state_lock);
    log->durable = log->written;
    pthread_mutex_unlock(&log->state_lock);
    publish(log);
    return ERR_OK;
}

/* --------------------------------------------------------------- rotation */

/*
 * The segment that was the last one is complete and durable: give back what it
 * does not use.  A failed cut costs only space; a failed sync is a failed sync.
 */
static enum errcode
seal(struct synclog *log, struct envfile *old, uint64_t used, uint64_t number,
     struct error *err)
{
    struct error why = {0};

    if (env_truncate(old, used, &why) != ERR_OK)
        return ERR_OK;
    pthread_mutex_lock(&log->state_lock);
    struct seginfo *seg = seglist_find(&log->list, number);
    if (seg != NULL) /* not trimmed already */
        seg->bytes = used;
    pthread_mutex_unlock(&log->state_lock);
    enum errcode rc = env_fdatasync(old, &why);
    return rc == ERR_OK ? ERR_OK : die(log, &why, err);
}

/* FILE was published as SEG: write there from now on. */
static void
switch_to(struct synclog *log, struct envfile *file, const struct seginfo *seg)
{
    log->file = file;
    log->file_bytes = seg->bytes;
    log->used = SEGMENT_HEADER_BYTES;
    log->fill_asked = false;
    log->proven = log->written.last.lsn; /* the header says it */
    pthread_mutex_lock(&log->state_lock);
    seglist_add(&log->list, seg);
    pthread_mutex_unlock(&log->state_lock);
}

/* Make FILE, allocated under the name TMP, the last segment. */
static enum errcode
publish_next(struct synclog *log, struct envfile *file, const char *tmp,
             struct seginfo *seg, struct error *err)
{
    struct error why = {0};
    bool safe = true;

    enum errcode rc = env_size(file, &seg->bytes, &why);
    if (rc == ERR_OK)
        rc = segment_publish(log->env, log->dir, file, tmp, &seg->head, &safe,
                             &why);
    if (rc == ERR_OK)
        return ERR_OK;
    if (rc != ERR_NOSPACE || !safe)
        return die(log, &why, err);
    return refuse(&why, err);
}

/* Take a new segment with room for NEED bytes behind its header. */
static enum errcode
rotate(struct synclog *log, uint64_t need, struct error *err)
{
    struct envfile *file = NULL;
    const char *tmp = NULL;
    struct error why = {0};

    enum errcode rc = synclog_sync(log, err); /* headers prove what is before */
    if (rc != ERR_OK)
        return rc;
    rc = spare_take(log->spare, SEGMENT_HEADER_BYTES + need, &file, &tmp, &why);
    if (rc == ERR_NOSPACE)
        return refuse(&why, err);
    if (rc != ERR_OK)
        return die(log, &why, err);

    pthread_mutex_lock(&log->state_lock);
    const uint64_t number = log->list.v[log->list.n - 1].head.number + 1;
    pthread_mutex_unlock(&log->state_lock);
    struct seginfo seg = {
        .head = {.cluster = log->cfg.cluster,
                 .instance = log->cfg.instance,
                 .number = number,
                 .first_lsn = log->written.last.lsn + 1,
                 .epoch = log->written.last.epoch,
                 .prev_lsn = log->written.last.lsn,
                 .prev_chain = log->written.chain,
                 .created_us = env_wall_us(log->env)},
    };
    rc = publish_next(log, file, tmp, &seg, err);
    spare_taken(log->spare);
    if (rc != ERR_OK) {
        env_close(&file);
        return rc;
    }
    AUTO(env_close) struct envfile *old = log->file;
    const uint64_t used = log->used;
    switch_to(log, file, &seg);
    return seal(log, old, used, number - 1, err);
}

enum errcode
synclog_rotate(struct synclog *log, struct error *err)
{
    log->begun = false;
    enum errcode rc = check_alive(log, err);

    if (rc != ERR_OK || log->used <= SEGMENT_HEADER_BYTES)
        return rc;
    return rotate(log, FRAME_HEADER_BYTES + HEARTBEAT_BYTES, err);
}

enum errcode
synclog_begin(struct synclog *log, size_t max_bytes, struct synclog_place *ret,
              struct error *err)
{
    log->begun = false;
    enum errcode rc = check_alive(log, err);
    if (rc != ERR_OK)
        return rc;

    const uint64_t need =
        FRAME_HEADER_BYTES + padded(max_bytes) + HEARTBEAT_BYTES;
    if (log->used > log->file_bytes || log->file_bytes - log->used < need) {
        rc = rotate(log, need, err);
        if (rc != ERR_OK)
            return rc;
    }
    if (!log->fill_asked && log->used >= log->file_bytes / FILL_FROM) {
        log->fill_asked = true;
        spare_fill(log->spare);
    }
    log->begun = true;
    log->begun_bytes = max_bytes;
    pthread_mutex_lock(&log->state_lock);
    ret->segment = log->list.v[log->list.n - 1].head.number;
    pthread_mutex_unlock(&log->state_lock);
    ret->payload_offset = log->used + FRAME_HEADER_BYTES;
    ret->first_lsn = log->written.last.lsn + 1;
    return ERR_OK;
}

/* ----------------------------------------------------------------- append */

/* HEAD and PAYLOAD to the end of the log; the padding is zero already. */
static enum errcode
write_frame(struct synclog *log, const struct frame_head *head,
            struct span payload, struct error *err)
{
    struct error why = {0};
    enum errcode rc;

    buf_clear(&log->scratch);
    uint8_t *to = buf_reserve(&log->scratch, FRAME_HEADER_BYTES);
    ENSURE(to != NULL);
    frame_head_encode(head, to);
    log->scratch.n += FRAME_HEADER_BYTES;
    if (payload.n <= ONE_WRITE_BYTES) {
        buf_add(&log->scratch, payload);
        rc = env_pwrite(log->file, log->scratch.p, log->scratch.n, log->used,
                        &why);
    } else {
        rc = env_pwrite(log->file, payload.p, payload.n,
                        log->used + FRAME_HEADER_BYTES, &why);
        if (rc == ERR_OK)
            rc = env_pwrite(log->file, log->scratch.p, FRAME_HEADER_BYTES,
                            log->used, &why);
    }
    if (rc != ERR_OK)
        return die(log, &why, err);
    log->used += frame_bytes(head);
    log->proven = MAX(log->proven, head->durable_lsn);
    return ERR_OK;
}

enum errcode
synclog_append(struct synclog *log, epoch_t epoch, uint64_t time_us,
               struct span payload, uint32_t nrecords, struct error *err)
{
    enum errcode rc = check_alive(log, err);
    if (rc != ERR_OK)
        return rc;
    ENSURE(log->begun && nrecords > 0);
    ENSURE(epoch > 0 && epoch <= EPOCH_MAX && epoch >= log->written.last.epoch);
    if (payload.n > log->begun_bytes || payload.n > FRAME_PAYLOAD_MAX)
        return error_set(err, ERR_LIMIT,
                         "a group of %zu bytes, room was made for %zu and the "
                         "limit is %u",
                         payload.n, log->begun_bytes, FRAME_PAYLOAD_MAX);
    if (nrecords > FRAME_RECORDS_MAX)
        return error_set(err, ERR_LIMIT, "%" PRIu32 " records, limit %u",
                         nrecords, FRAME_RECORDS_MAX);

    struct frame_head h = {
        .payload_bytes = (uint32_t)payload.n,
        .nrecords = nrecords,
        .epoch = epoch,
        .first_lsn = log->written.last.lsn + 1,
        .durable_lsn = log->durable.last.lsn,
        .payload_hash = frame_payload_hash(payload),
        .time_us = time_us,
    };
    ENSURE(h.first_lsn <= FRAME_LSN_MAX && frame_records_sound(&h, payload));
    h.chain = frame_chain(log->written.chain, &h);
    log->begun = false;
    rc = write_frame(log, &h, payload, err);
    if (rc != ERR_OK)
        return rc;
    logstate_move(&log->written, &h);
    log->dirty = true;
    if ((log->cfg.mutants & MUTANT_SHIP_EARLY) != 0) {
        log->durable = log->written;
        publish(log);
    }
    return ERR_OK;
}

/* Check the frame at the front of *FRAMES against *ST and take a copy of it,
 * with our own durable_lsn, into the scratch buffer. */
static enum errcode
take_foreign_frame(struct synclog *log, struct logstate *st,
                   struct span *frames, struct error *err)
{
    struct frame_head h;
    struct span payload;
    size_t used = 0;

    if (frame_head_is_newer(*frames))
        return error_set(err, ERR_VERSION,
                         "a frame of a newer version of Pollux behind LSN "
                         "%" PRI_LSN,
                         st->last.lsn);
    if (frame_decode(*frames, &h, &payload, &used) != PARSE_DONE ||
        h.nrecords == 0)
        return error_set(err, ERR_CORRUPT,
                         "a frame behind LSN %" PRI_LSN
                         " is not what was written",
                         st->last.lsn);
    if (h.first_lsn != st->last.lsn + 1)
        return error_set(err, ERR_GAP,
                         "a frame with LSN %" PRI_LSN ", %" PRI_LSN " is next",
                         h.first_lsn, st->last.lsn + 1);
    if ((log->cfg.mutants & MUTANT_ANY_CHAIN) != 0)
        h.chain = frame_chain(st->chain, &h);
    const char *why = logstate_misfit(st, &h);
    if (why != NULL)
        return error_set(
            err, ERR_HISTORY,
            "%s (%" PRI_EPOCH ":%" PRI_LSN ") behind %" PRI_EPOCH ":%" PRI_LSN,
            why, h.epoch, h.first_lsn, st->last.epoch, st->last.lsn);
    logstate_move(st, &h);
    h.durable_lsn = log->durable.last.lsn;
    uint8_t *to = buf_reserve(&log->scratch, used);
    ENSURE(to != NULL);
    memcpy(to, frames->p, used);
    frame_head_encode(&h, to);
    log->scratch.n += used;
    *frames = span_skip(*frames, used);
    return ERR_OK;
}

enum errcode
synclog_append_frames(struct synclog *log, struct span frames,
                      struct error *err)
{
    struct logstate st = log->written;
    struct error why = {0};

    enum errcode rc = check_alive(log, err);
    if (rc != ERR_OK)
        return rc;
    ENSURE(log->begun);
    if (frames.n > FRAME_HEADER_BYTES + padded(log->begun_bytes))
        return error_set(err, ERR_LIMIT,
                         "frames of %zu bytes, room was made for %zu", frames.n,
                         log->begun_bytes);
    buf_clear(&log->scratch);
    while (frames.n > 0) {
        rc = take_foreign_frame(log, &st, &frames, err);
        if (rc != ERR_OK)
            return rc;
    }
    if (log->scratch.n == 0)
        return ERR_OK;
    log->begun = false;
    rc = env_pwrite(log->file, log->scratch.p, log->scratch.n, log->used, &why);
    if (rc != ERR_OK)
        return die(log, &why, err);
    /* The disk begins while who called us looks at what it is. */
    env_start_writing(log->file, log->used, log->scratch.n);
    log->used += log->scratch.n;
    log->proven = MAX(log->proven, log->durable.last.lsn);
    log->written = st;
    log->dirty = true;
    return ERR_OK;
}

enum errcode
synclog_heartbeat(struct synclog *log, struct error *err)
{
    const struct logstate *st = &log->written;

    enum errcode rc = check_alive(log, err);
    if (rc != ERR_OK || log->dirty || log->proven >= st->last.lsn ||
        log->file_bytes < log->used + HEARTBEAT_BYTES)
        return rc;
    const struct frame_head h = {
        .epoch = st->last.epoch,
        .first_lsn = st->last.lsn + 1,
        .durable_lsn = st->last.lsn,
        .payload_hash = frame_payload_hash(SPAN_EMPTY),
        .chain = st->chain,
        .time_us = env_wall_us(log->env),
    };
    log->begun = false;
    return write_frame(log, &h, SPAN_EMPTY, err);
}

/* -------------------------------------------------------- what others ask */

struct logpos
synclog_durable(const struct synclog *log, uint64_t *ret_chain)
{
    struct synclog *l = (struct synclog *)(uintptr_t)log;

    pthread_mutex_lock(&l->state_lock);
    const struct logstate st = l->durable;
    pthread_mutex_unlock(&l->state_lock);
    if (ret_chain != NULL)
        *ret_chain = st.chain;
    return st.last;
}

lsn_t
synclog_first(const struct synclog *log)
{
    struct synclog *l = (struct synclog *)(uintptr_t)log;

    pthread_mutex_lock(&l->state_lock);
    const lsn_t first = first_lsn(l);
    pthread_mutex_unlock(&l->state_lock);
    return first;
}

struct synclog_mark *
synclog_mark(struct synclog *log)
{
    return log->mark.page;
}

uint64_t
synclog_bytes(const struct synclog *log)
{
    struct synclog *l = (struct synclog *)(uintptr_t)log;
    uint64_t bytes = 0;

    pthread_mutex_lock(&l->state_lock);
    for (size_t i = 0; i < l->list.n; i++)
        bytes += l->list.v[i].bytes;
    pthread_mutex_unlock(&l->state_lock);
    return bytes;
}

/* Last record of the I-th segment; the newest has no end yet.  Locked. */
static lsn_t
last_of(const struct synclog *log, size_t i)
{
    return i + 1 < log->list.n ? log->list.v[i + 1].head.prev_lsn : LSN_NONE;
}

uint64_t
synclog_bytes_from(const struct synclog *log, lsn_t lsn)
{
    struct synclog *l = (struct synclog *)(uintptr_t)log;
    uint64_t bytes = 0;

    pthread_mutex_lock(&l->state_lock);
    for (size_t i = 0; i + 1 < l->list.n; i++)
        if (last_of(l, i) >= lsn)
            bytes += l->list.v[i].bytes;
    pthread_mutex_unlock(&l->state_lock);
    return bytes;
}

size_t
synclog_segments(const struct synclog *log, struct synclog_segment **ret)
{
    struct synclog *l = (struct synclog *)(uintptr_t)log;

    pthread_mutex_lock(&l->state_lock);
    const size_t n = l->list.n;
    struct synclog_segment *v = xcalloc(n + 1, sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        const struct seginfo *seg = &l->list.v[i];
        v[i] = (struct synclog_segment){.number = seg->head.number,
                                        .first_lsn = seg->head.first_lsn,
                                        .last_lsn = last_of(l, i),
                                        .bytes = seg->bytes};
    }
    pthread_mutex_unlock(&l->state_lock);
    *ret = v;
    return n;
}

enum errcode
synclog_pread(struct synclog *log, uint64_t segment, uint64_t offset, void *to,
              size_t n, struct error *err)
{
    struct handle *h = NULL;

    pthread_mutex_lock(&log->state_lock);
    bool there = seglist_find(&log->list, segment) != NULL;
    pthread_mutex_unlock(&log->state_lock);
    if (!there)
        return error_set(err, ERR_GAP, "segment %" PRIx64 " is not in the log",
                         segment);
    enum errcode rc =
        handles_get(&log->handles, log->env, log->dir, segment, &h, err);
    if (rc != ERR_OK)
        return rc;
    rc = env_pread(h->file, to, n, offset, err);
    handles_put(&log->handles, &h);
    if (rc == ERR_GAP)
        return error_set(err, ERR_CORRUPT,
                         "segment %" PRIx64 " ends before offset %" PRIu64
                         " and %zu bytes",
                         segment, offset, n);
    return rc;
}

/* ---------------------------------------------------------------- trimming */

/* The oldest segment's number if all of it is below KEEP_FROM, else 0. */
static uint64_t
oldest_below(struct synclog *log, lsn_t keep_from)
{
    uint64_t number = 0;

    pthread_mutex_lock(&log->state_lock);
    if (log->list.n > 1 && log->list.v[1].head.prev_lsn < keep_from)
        number = log->list.v[0].head.number;
    pthread_mutex_unlock(&log->state_lock);
    return number;
}

/* The list goes after the file: a failure must not let a later one go first. */
static enum errcode
remove_oldest(struct synclog *log, uint64_t number, struct error *err)
{
    char path[LOG_PATH_BYTES];

    enum errcode rc =
        env_unlink(log->env, segment_path(log->dir, number, path), err);
    if (rc == ERR_OK)
        rc = env_syncdir(log->env, log->dir, err);
    if (rc != ERR_OK)
        return rc;
    pthread_mutex_lock(&log->state_lock);
    seglist_drop(&log->list, 1);
    pthread_mutex_unlock(&log->state_lock);
    handles_trim(&log->handles, number + 1);
    return ERR_OK;
}

enum errcode
synclog_trim(struct synclog *log, lsn_t keep_from, unsigned *ret_removed,
             struct error *err)
{
    enum errcode rc = ERR_OK;
    unsigned removed = 0;
    uint64_t number;

    pthread_mutex_lock(&log->trim_lock);
    while (rc == ERR_OK && (number = oldest_below(log, keep_from)) != 0) {
        rc = remove_oldest(log, number, err);
        if (rc == ERR_OK)
            removed++;
    }
    pthread_mutex_unlock(&log->trim_lock);
    if (removed > 0)
        publish(log);
    if (rc != ERR_OK) {
        error_prefix(err, "trim the log");
        return rc;
    }
    *ret_removed = removed;
    return ERR_OK;
}
