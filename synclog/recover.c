/*
 * synclog/recover.c - from what a crash has left to a log that can be written.
 *
 * Only the last segment can be unsettled: its successor's header is written
 * after all of it was synced.  What it holds is walked and judged by scan.c;
 * then
 *   1. a torn tail that is not just zeros is copied to torn-SEGMENT-OFFSET,
 *      which is synced, with its name;
 *   2. frames that nothing proves durable are written again in place: after a
 *      failed sync the page cache shows bytes that the disk never got, as clean
 *      pages that no sync would write;
 *   3. the tail is cut off and the space allocated again, so that it is zero;
 *   4. file and directory are synced.  From here on all that is there is
 *      durable.
 * A crash in between leaves the same work to do again: until 3 the tail is
 * still there, and 2 writes what is there already.
 */
#include "synclog/mutants.h"
#include "synclog/synclog_private.h"

#include <stdio.h>
#include <stdlib.h>

#define COPY_BYTES ((size_t)1 << 20)

enum errcode
segment_publish(struct env *env, const char *dir, struct envfile *file,
                const char *tmp, const struct segment_head *head,
                bool *ret_safe, struct error *err)
{
    uint8_t block[SEGMENT_HEADER_BYTES];
    char path[LOG_PATH_BYTES];

    *ret_safe = true;
    segment_head_encode(head, block);
    enum errcode rc = env_pwrite(file, block, sizeof(block), 0, err);
    if (rc == ERR_OK)
        rc = env_fsync(file, err);
    if (rc == ERR_OK)
        rc = env_rename(env, tmp, segment_path(dir, head->number, path), err);
    if (rc != ERR_OK)
        return rc;
    *ret_safe = false; /* the name may be durable, or not */
    return env_syncdir(env, dir, err);
}

/* Remove what was being made when the process ended. */
static enum errcode
remove_temporaries(struct env *env, const char *dir, struct error *err)
{
    AUTO(buf_free) struct buf names = BUF_INIT;
    enum errcode rc = env_list(env, dir, &names, err);

    for (size_t at = 0; rc == ERR_OK && at < names.n;) {
        const char *name = (const char *)names.p + at;
        at += strlen(name) + 1;
        if (!span_starts(span_str(name), SPAN_LIT("tmp-")))
            continue;
        char path[LOG_PATH_BYTES];
        snprintf(path, sizeof(path), "%s/%s", dir, name);
        rc = env_unlink(env, path, err);
    }
    return rc;
}

/* The first segment of a log that begins behind cfg->start. */
static enum errcode
begin_history(struct env *env, const struct synclog_config *cfg,
              uint64_t number, struct recovered *rec, struct error *err)
{
    struct seginfo seg = {
        .head = {.cluster = cfg->cluster,
                 .instance = cfg->instance,
                 .number = number,
                 .first_lsn = cfg->start.lsn + 1,
                 .epoch = cfg->start.epoch,
                 .prev_lsn = cfg->start.lsn,
                 .prev_chain = cfg->start_chain,
                 .created_us = env_wall_us(env)},
        .bytes = cfg->segment_bytes,
    };
    char tmp[LOG_PATH_BYTES];
    bool safe = true;
    AUTO(env_close) struct envfile *f = NULL;

    snprintf(tmp, sizeof(tmp), "%s/tmp-first", cfg->dir);
    enum errcode rc = env_unlink(env, tmp, err);
    if (rc == ERR_OK)
        rc = env_open(env, tmp, ENV_NEW, &f, err);
    if (rc == ERR_OK)
        rc = env_fallocate(f, 0, seg.bytes, err);
    if (rc == ERR_OK)
        rc = segment_publish(env, cfg->dir, f, tmp, &seg.head, &safe, err);
    if (rc != ERR_OK) {
        error_prefix(err, "make the first segment of the log");
        return rc;
    }
    rec->file = f;
    f = NULL;
    seglist_add(&rec->list, &seg);
    rec->end = (struct scan){
        .end = logstate_at_start(&seg.head),
        .end_offset = SEGMENT_HEADER_BYTES,
        .unproven_offset = SEGMENT_HEADER_BYTES,
        .torn_end = SEGMENT_HEADER_BYTES,
    };
    return ERR_OK;
}

/* Copy N bytes at FROM of one file to TO of another (or the same one). */
static enum errcode
copy_range(struct envfile *src, uint64_t from, struct envfile *dst, uint64_t to,
           uint64_t n, struct error *err)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    uint8_t *p = buf_reserve(&b, COPY_BYTES);
    enum errcode rc = ERR_OK;

    ENSURE(p != NULL);
    while (n > 0 && rc == ERR_OK) {
        size_t part = (size_t)MIN(n, COPY_BYTES);
        rc = env_pread(src, p, part, from, err);
        if (rc == ERR_OK)
            rc = env_pwrite(dst, p, part, to, err);
        from += part;
        to += part;
        n -= part;
    }
    return rc;
}

static enum errcode
keep_torn(struct env *env, const struct synclog_config *cfg,
          const struct recovered *rec, struct synclog_recovery *found,
          struct error *err)
{
    const struct scan *end = &rec->end;
    const uint64_t number = rec->list.v[rec->list.n - 1].head.number;
    char path[LOG_PATH_BYTES];
    AUTO(env_close) struct envfile *f = NULL;

    snprintf(path, sizeof(path), "%s/torn-%016" PRIx64 "-%" PRIu64, cfg->dir,
             number, end->end_offset);
    found->torn_bytes = end->torn_end - end->end_offset;
    memcpy(found->torn_path, path,
           MIN(strlen(path), sizeof(found->torn_path) - 1));

    enum errcode rc = env_open(env, path, ENV_CREATE, &f, err);
    if (rc == ERR_OK)
        rc = env_truncate(f, 0, err);
    if (rc == ERR_OK)
        rc = copy_range(rec->file, end->end_offset, f, 0, found->torn_bytes,
                        err);
    if (rc == ERR_OK)
        rc = env_fsync(f, err);
    if (rc == ERR_OK)
        rc = env_syncdir(env, cfg->dir, err);
    if (rc != ERR_OK) {
        error_prefix(err, "keep the torn tail of the log");
        return rc;
    }
    return ERR_OK;
}

/* Steps 1 to 4 of the head of this file. */
static enum errcode
repair(struct env *env, const struct synclog_config *cfg, struct recovered *rec,
       struct synclog_recovery *found, struct error *err)
{
    const struct scan *end = &rec->end;
    struct seginfo *seg = &rec->list.v[rec->list.n - 1];
    enum errcode rc = ERR_OK;

    if (end->torn_end > end->end_offset)
        rc = keep_torn(env, cfg, rec, found, err);
    if (rc == ERR_OK && end->unproven_offset < end->end_offset &&
        (cfg->mutants & MUTANT_NO_REWRITE) == 0)
        rc = copy_range(rec->file, end->unproven_offset, rec->file,
                        end->unproven_offset,
                        end->end_offset - end->unproven_offset, err);
    if (rc == ERR_OK && end->torn_end > end->end_offset) {
        rc = env_truncate(rec->file, end->end_offset, err);
        seg->bytes = end->end_offset;
    }
    if (rc != ERR_OK)
        return rc;
    if (seg->bytes < cfg->segment_bytes) {
        rc = env_fallocate(rec->file, 0, cfg->segment_bytes, err);
        if (rc == ERR_OK)
            seg->bytes = cfg->segment_bytes;
        else if (rc != ERR_NOSPACE)
            return rc;
        /* A full disk: what is there can be read; writing waits for room. */
    }
    rc = env_fsync(rec->file, err);
    if (rc == ERR_OK)
        rc = env_syncdir(env, cfg->dir, err);
    return rc;
}

/* Walk the segment before the last one, for the time of the last record. */
static enum errcode
scan_before(struct env *env, const struct synclog_config *cfg,
            struct recovered *rec, struct error *err)
{
    const struct seginfo *last = &rec->list.v[rec->list.n - 1];
    char path[LOG_PATH_BYTES];
    struct scan before;
    AUTO(env_close) struct envfile *f = NULL;

    enum errcode rc =
        env_open(env, segment_path(cfg->dir, last[-1].head.number, path),
                 ENV_READ, &f, err);
    if (rc == ERR_OK)
        rc = scan_segment(f, &last[-1], &last->head, NULL, NULL, &before, err);
    if (rc == ERR_OK)
        rec->end.end.time_us = before.end.time_us;
    return rc;
}

static enum errcode
scan_last(struct env *env, const struct synclog_config *cfg,
          struct recovered *rec, struct error *err)
{
    const struct seginfo *last = &rec->list.v[rec->list.n - 1];
    char path[LOG_PATH_BYTES];

    enum errcode rc =
        env_open(env, segment_path(cfg->dir, last->head.number, path),
                 ENV_WRITE, &rec->file, err);
    if (rc == ERR_OK)
        rc = scan_segment(rec->file, last, NULL, NULL, NULL, &rec->end, err);
    if (rc == ERR_OK && rec->end.unproven &&
        (cfg->mutants & MUTANT_CUT_ONE_MORE) != 0) {
        rc = env_truncate(rec->file, rec->end.unproven_offset, err);
        if (rc == ERR_OK)
            rc =
                scan_segment(rec->file, last, NULL, NULL, NULL, &rec->end, err);
    }
    if (rc == ERR_OK && rec->end.end.time_us == 0 && rec->list.n > 1)
        rc = scan_before(env, cfg, rec, err);
    return rc;
}

static enum errcode
check_cluster(const struct synclog_config *cfg, const struct seglist *list,
              struct error *err)
{
    char theirs[2 * INSTANCE_ID_BYTES + 1];
    char ours[2 * INSTANCE_ID_BYTES + 1];

    if (list->n == 0 || instid_eq(&list->v[0].head.cluster, &cfg->cluster))
        return ERR_OK;
    format_hex_bytes(list->v[0].head.cluster.b, INSTANCE_ID_BYTES, theirs);
    format_hex_bytes(cfg->cluster.b, INSTANCE_ID_BYTES, ours);
    return error_set(err, ERR_HISTORY,
                     "the log in %s is of cluster %s, this instance is of %s",
                     cfg->dir, theirs, ours);
}

static bool
holds_nothing(const struct recovered *rec)
{
    return rec->list.n == 1 && rec->end.end_offset == SEGMENT_HEADER_BYTES &&
           rec->end.torn_end == SEGMENT_HEADER_BYTES;
}

/*
 * Does the log hold nothing, and begin before cfg->start?  Then the instance
 * was seeded since, and its log has to begin at the seed.
 */
static bool
is_before_start(const struct synclog_config *cfg, const struct recovered *rec)
{
    return holds_nothing(rec) && rec->end.end.last.lsn < cfg->start.lsn;
}

/* A log without any history is of no cluster, whatever its header says: its
 * instance has joined one since, or was stopped while it did. */
static bool
is_of_no_cluster(const struct synclog_config *cfg, const struct recovered *rec)
{
    return holds_nothing(rec) && rec->list.v[0].head.first_lsn == 1 &&
           !instid_eq(&rec->list.v[0].head.cluster, &cfg->cluster);
}

/* What the state has was durable: it is not torn. */
static enum errcode
check_proven(const struct synclog_config *cfg, const struct recovered *rec,
             struct error *err)
{
    if (rec->list.n == 0 || rec->end.end.last.lsn >= cfg->proven ||
        holds_nothing(rec))
        return ERR_OK;
    return error_set(
        err, ERR_CORRUPT,
        "segment %" PRIx64 ", offset %" PRIu64 ": %s where LSN %" PRI_LSN
        " was; it had been durable, as the state says, which is at "
        "%" PRI_LSN,
        rec->list.v[rec->list.n - 1].head.number, rec->end.end_offset,
        rec->end.torn_why, rec->end.end.last.lsn + 1, cfg->proven);
}

/* Crash in between: an empty directory, in which the log begins at start. */
static enum errcode
begin_again(struct env *env, const struct synclog_config *cfg,
            struct recovered *rec, struct error *err)
{
    const uint64_t number = rec->list.v[0].head.number;
    char path[LOG_PATH_BYTES];

    env_close(&rec->file);
    enum errcode rc =
        env_unlink(env, segment_path(cfg->dir, number, path), err);
    if (rc == ERR_OK)
        rc = env_syncdir(env, cfg->dir, err);
    if (rc != ERR_OK)
        return rc;
    seglist_drop(&rec->list, 1);
    return begin_history(env, cfg, number + 1, rec, err);
}

static enum errcode
recover(struct env *env, const struct synclog_config *cfg,
        struct recovered *rec, struct synclog_recovery *found,
        struct error *err)
{
    enum errcode rc = seglist_load(env, cfg->dir, &rec->list, err);
    if (rc == ERR_OK && rec->list.n > 0)
        rc = scan_last(env, cfg, rec, err);
    if (rc == ERR_OK && !is_of_no_cluster(cfg, rec))
        rc = check_cluster(cfg, &rec->list, err);
    if (rc == ERR_OK)
        rc = check_proven(cfg, rec, err);
    /* All is judged; only now something is changed. */
    if (rc == ERR_OK)
        rc = remove_temporaries(env, cfg->dir, err);
    if (rc != ERR_OK)
        return rc;
    if (rec->list.n == 0)
        return begin_history(env, cfg, 1, rec, err);
    if (is_before_start(cfg, rec) || is_of_no_cluster(cfg, rec))
        return begin_again(env, cfg, rec, err);
    return repair(env, cfg, rec, found, err);
}

enum errcode
log_recover(struct env *env, const struct synclog_config *cfg,
            struct recovered *ret, struct synclog_recovery *ret_found,
            struct error *err)
{
    struct recovered rec = {0};
    struct synclog_recovery found = {0};

    enum errcode rc = recover(env, cfg, &rec, &found, err);
    if (rc != ERR_OK) {
        env_close(&rec.file);
        seglist_free(&rec.list);
        return rc;
    }
    found.last = rec.end.end.last;
    found.chain = rec.end.end.chain;
    found.last_time_us = rec.end.end.time_us;
    if (rec.list.v[0].head.prev_lsn < found.last.lsn)
        found.first_lsn = rec.list.v[0].head.first_lsn;
    *ret = rec;
    *ret_found = found;
    return ERR_OK;
}
