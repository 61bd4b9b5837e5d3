/*
 * tests/synclog/test_synclog.c - the log on a real disk: writing, places,
 * rotation, trimming, reading bodies from several threads, one writer only, a
 * replica's log beside its master's.
 */
#include "tests/synclog/disktest.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env_fault.h"
#include "synclog/synclog_private.h"

static void
test_synced_records_are_there_after_reopening(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    assert_int_equal(found.last.lsn, 0);
    assert_int_equal(found.first_lsn, 0);
    assert_int_equal(synclog_first(log), 0);
    logtest_append(log, 1, 3, 100);
    assert_int_equal(synclog_durable(log, NULL).lsn, 0);
    logtest_sync(log);
    assert_int_equal(synclog_first(log), 1);
    uint64_t chain = 0;
    assert_int_equal(synclog_durable(log, &chain).lsn, 3);
    logtest_append(log, 2, 1, 10);
    logtest_sync(log);
    assert_int_equal(synclog_durable(log, &chain).lsn, 4);
    synclog_close(&log);
    assert_null(log);
    synclog_close(&log); /* NULL is fine */

    log = open_log(&found);
    assert_int_equal(found.last.lsn, 4);
    assert_int_equal(found.last.epoch, 2);
    assert_int_equal(found.first_lsn, 1);
    assert_int_equal(found.last_time_us, 1004);
    assert_int_equal(found.torn_bytes, 0);
    assert_true(found.chain == chain);
    synclog_close(&log);
}

static void
test_log_begins_behind_its_start(void **state)
{
    (void)state;
    struct synclog_config cfg = logtest_config(dir);
    struct synclog *log = NULL;
    struct synclog_recovery found;
    struct synclog_place place;
    struct error err = {0};

    /* An instance that was empty, and then seeded. */
    log = open_log(&found);
    synclog_close(&log);
    cfg.start = (struct logpos){.epoch = 7, .lsn = 4181};
    cfg.start_chain = 99;
    assert_int_equal(synclog_open(env_system(), &cfg, &log, &found, &err),
                     ERR_OK);
    assert_int_equal(found.last.lsn, 4181);
    assert_int_equal(found.last.epoch, 7);
    assert_true(found.chain == 99);
    assert_int_equal(found.first_lsn, 0);
    assert_int_equal(synclog_mark(log)->start_lsn, 4181);
    assert_int_equal(synclog_begin(log, 100, &place, &err), ERR_OK);
    assert_int_equal(place.first_lsn, 4182);
    logtest_append(log, 7, 1, 10);
    logtest_sync(log);
    synclog_close(&log);

    /* From then on its place is its own. */
    cfg.start = (struct logpos){.epoch = 9, .lsn = 9000};
    assert_int_equal(synclog_open(env_system(), &cfg, &log, &found, &err),
                     ERR_OK);
    assert_int_equal(found.last.lsn, 4182);
    assert_int_equal(found.first_lsn, 4182);
    synclog_close(&log);
}

static void
test_second_writer_is_refused(void **state)
{
    (void)state;
    const struct synclog_config cfg = logtest_config(dir);
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct synclog *second = NULL;
    struct error err = {0};
    assert_int_equal(synclog_open(env_system(), &cfg, &second, &found, &err),
                     ERR_BUSY);
    assert_null(second);
    synclog_close(&log);
    log = open_log(&found);
    synclog_close(&log);
}

/* The log in dir is of CFG's cluster, and of no other. */
static void
assert_other_cluster_refused(struct synclog_config cfg)
{
    struct synclog_recovery found;
    struct synclog *log = NULL;
    struct error err = {0};

    cfg.cluster.b[0] ^= 1;
    assert_int_equal(synclog_open(env_system(), &cfg, &log, &found, &err),
                     ERR_HISTORY);
}

static void
test_log_of_another_cluster_is_refused(void **state)
{
    (void)state;
    struct synclog_config cfg = logtest_config(dir);
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    append_synced(log, 100);
    synclog_close(&log);
    assert_other_cluster_refused(cfg);
}

/* Before its first record an instance may join a cluster. */
static void
test_log_without_history_is_of_any_cluster(void **state)
{
    (void)state;
    struct synclog_config cfg = logtest_config(dir);
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct error err = {0};
    synclog_close(&log);
    cfg.cluster.b[0] ^= 1;
    assert_int_equal(synclog_open(env_system(), &cfg, &log, &found, &err),
                     ERR_OK);
    assert_memory_equal(synclog_mark(log)->cluster, cfg.cluster.b,
                        INSTANCE_ID_BYTES);
    append_synced(log, 100);
    synclog_close(&log);
    assert_other_cluster_refused(cfg);
}

static void
test_group_over_its_room_is_refused_and_harmless(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf payload = BUF_INIT;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct synclog_place place;
    struct error err = {0};
    logtest_payload(&payload, 1, 1, 100);
    assert_int_equal(synclog_begin(log, 50, &place, &err), ERR_OK);
    assert_int_equal(synclog_append(log, 1, 1, buf_span(&payload), 1, &err),
                     ERR_LIMIT);
    assert_int_equal(synclog_append_frames(log, buf_span(&payload), &err),
                     ERR_CORRUPT);
    append_synced(log, 100);
    synclog_close(&log);
}

/* What begin promised is where pread finds it. */
static void
test_bodies_lie_where_begin_said(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct synclog_place places[40];
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        AUTO(buf_free) struct buf payload = BUF_INIT;
        /* One is larger than a segment: it gets one of its own. */
        size_t bytes = i == 20 ? 100000 : 3000;
        logtest_payload(&payload, i + 1, 1, bytes);
        assert_int_equal(synclog_begin(log, payload.n, &places[i], &err),
                         ERR_OK);
        assert_int_equal(places[i].first_lsn, i + 1);
        assert_int_equal(synclog_append(log, 1, 1, buf_span(&payload), 1, &err),
                         ERR_OK);
        logtest_sync(log);
    }
    assert_true(places[39].segment > 4);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        uint8_t body[3000];
        if (synclog_pread(log, places[i].segment,
                          places[i].payload_offset + RECORD_HEADER_BYTES, body,
                          sizeof(body), &err) != ERR_OK)
            fail_msg("%s", err.text);
        for (size_t k = 0; k < sizeof(body); k++)
            assert_int_equal(body[k], 'a' + (i + 1) % 26);
    }
    uint8_t byte;
    assert_int_equal(synclog_pread(log, 99, 0, &byte, 1, &err), ERR_GAP);
    assert_int_equal(synclog_pread(log, 0, 0, &byte, 1, &err), ERR_GAP);
    assert_int_equal(synclog_pread(log, 1, 1 << 30, &byte, 1, &err),
                     ERR_CORRUPT);
    synclog_close(&log);
}

static void
test_trim_lets_go_of_what_is_below_and_no_more(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct error err = {0};
    unsigned removed = 9;
    uint8_t byte;
    for (unsigned i = 0; i < 40; i++) {
        append_synced(log, 3000);
    }
    uint64_t before = synclog_bytes(log);
    assert_int_equal(synclog_trim(log, 1, &removed, &err), ERR_OK);
    assert_int_equal(removed, 0);
    assert_int_equal(synclog_pread(log, 1, 0, &byte, 1, &err), ERR_OK);
    assert_int_equal(synclog_trim(log, 20, &removed, &err), ERR_OK);
    assert_true(removed > 0 && synclog_bytes(log) < before);
    lsn_t first = synclog_first(log);
    assert_true(first > 1 && first <= 20);
    assert_int_equal(synclog_mark(log)->first_lsn, first);
    assert_int_equal(synclog_pread(log, 1, 0, &byte, 1, &err), ERR_GAP);

    struct synclog_reader *r = NULL;
    assert_int_equal(
        reader_open(env_system(), dir, synclog_mark(log), 0, &r, &err),
        ERR_GAP);
    assert_int_equal(
        reader_open(env_system(), dir, synclog_mark(log), first - 1, &r, &err),
        ERR_OK);
    reader_close(&r);
    /* All of it may go; what is being written stays. */
    assert_int_equal(synclog_trim(log, 1000, &removed, &err), ERR_OK);
    assert_int_equal(synclog_durable(log, NULL).lsn, 40);
    append_synced(log, 10);
    synclog_close(&log);
    log = open_log(&found);
    assert_int_equal(found.last.lsn, 41);
    synclog_close(&log);
}

/* A failed unlink is told, and not fatal; nothing newer goes before it. */
/* What was written so far can go; an empty segment is kept. */
static void
test_rotate_leaves_the_segment_to_be_trimmed(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct synclog_segment *v = NULL;
    struct error err = {0};
    unsigned removed = 0;

    append_synced(log, 3000);
    assert_int_equal(synclog_rotate(log, &err), ERR_OK);
    assert_int_equal(synclog_rotate(log, &err), ERR_OK);
    assert_int_equal(synclog_segments(log, &v), 2);
    assert_int_equal(v[0].last_lsn, 1);
    free(v);
    assert_int_equal(synclog_trim(log, 2, &removed, &err), ERR_OK);
    assert_int_equal(removed, 1);
    append_synced(log, 10);
    synclog_close(&log);
    log = open_log(&found);
    assert_int_equal(found.last.lsn, 2);
    assert_int_equal(found.first_lsn, 2);
    synclog_close(&log);
}

static void
test_trim_that_fails_can_be_tried_again(void **state)
{
    (void)state;
    struct synclog_config cfg = logtest_config(dir);
    struct env_fault *fault = env_fault_new(env_system());
    struct synclog *log = NULL;
    struct synclog_recovery found;
    struct error err = {0};
    unsigned removed = 9;
    assert_int_equal(
        synclog_open(env_fault_env(fault), &cfg, &log, &found, &err), ERR_OK);
    for (unsigned i = 0; i < 40; i++) {
        append_synced(log, 3000);
    }
    env_fault_add(fault, &(struct env_fault_rule){.kinds = FAULT_UNLINK,
                                                  .nth = 1,
                                                  .action = FAULT_FAIL,
                                                  .sys_errno = 5});
    assert_int_equal(synclog_trim(log, 30, &removed, &err), ERR_IO);
    assert_int_equal(removed, 9);
    assert_int_equal(synclog_first(log), 1);
    env_fault_clear(fault);
    assert_int_equal(synclog_trim(log, 30, &removed, &err), ERR_OK);
    assert_true(removed > 0);
    append_synced(log, 10);
    synclog_close(&log);
    env_fault_free(&fault);
}

/* ---------------------------------------------------------------- replica */

struct twins {
    struct synclog *master, *replica;
    char replica_dir[300];
    struct synclog_reader *reader;
};

static void
open_twins(struct twins *t)
{
    struct synclog_recovery found;
    struct error err = {0};

    *t = (struct twins){0};
    snprintf(t->replica_dir, sizeof(t->replica_dir), "%s/replica", dir);
    t->master = open_log(&found);
    t->replica = logtest_open(env_system(), t->replica_dir, &found);
    for (unsigned i = 0; i < 30; i++) {
        logtest_append(t->master, 1 + i / 10, 1 + i % 3, 2000);
        logtest_sync(t->master);
        if (i % 4 == 0)
            assert_int_equal(synclog_heartbeat(t->master, &err), ERR_OK);
    }
    assert_int_equal(reader_open(env_system(), dir, synclog_mark(t->master), 0,
                                 &t->reader, &err),
                     ERR_OK);
}

static void
close_twins(struct twins *t)
{
    reader_close(&t->reader);
    synclog_close(&t->master);
    synclog_close(&t->replica);
}

static enum errcode
replicate(struct twins *t, struct span frames)
{
    struct synclog_place place;
    struct error err = {0};

    enum errcode rc = synclog_begin(t->replica, frames.n, &place, &err);
    if (rc == ERR_OK)
        rc = synclog_append_frames(t->replica, frames, &err);
    return rc;
}

static void
test_replica_has_the_masters_chain(void **state)
{
    (void)state;
    struct twins t;
    open_twins(&t);
    for (;;) {
        struct error err = {0};
        struct span frames;
        lsn_t last;
        uint64_t time_us;
        if (reader_next(t.reader, 9000, &frames, &last, &time_us, &err) !=
            ERR_OK)
            fail_msg("%s", err.text);
        if (frames.n == 0)
            break;
        assert_int_equal(replicate(&t, frames), ERR_OK);
        logtest_sync(t.replica);
        assert_int_equal(synclog_durable(t.replica, NULL).lsn, last);
        assert_int_equal(synclog_mark(t.replica)->durable_time_us, time_us);
    }
    uint64_t ours, theirs;
    struct logpos a = synclog_durable(t.master, &ours);
    struct logpos b = synclog_durable(t.replica, &theirs);
    assert_true(a.lsn == b.lsn && a.epoch == b.epoch && ours == theirs);
    for (lsn_t lsn = 0; lsn <= a.lsn; lsn++) {
        struct error err = {0};
        epoch_t ea = 0, eb = 0;
        enum errcode rc = reader_chain_at(
            env_system(), dir, synclog_mark(t.master), lsn, &ours, &ea, &err);
        assert_int_equal(reader_chain_at(env_system(), t.replica_dir,
                                         synclog_mark(t.replica), lsn, &theirs,
                                         &eb, &err),
                         rc);
        assert_true(rc == ERR_GAP || (rc == ERR_OK && ours == theirs));
        assert_int_equal(ea, eb);
    }
    close_twins(&t);
}

static void
test_frames_that_do_not_follow_are_refused(void **state)
{
    (void)state;
    struct twins t;
    struct error err = {0};
    struct span first, second;
    lsn_t last;
    uint64_t time_us;
    AUTO(buf_free) struct buf b = BUF_INIT;
    open_twins(&t);
    assert_int_equal(reader_next(t.reader, 1, &first, &last, &time_us, &err),
                     ERR_OK);
    buf_add(&b, first);
    first = buf_span(&b);
    assert_int_equal(reader_next(t.reader, 1, &second, &last, &time_us, &err),
                     ERR_OK);

    assert_int_equal(replicate(&t, second), ERR_GAP);
    assert_int_equal(replicate(&t, span_sub(first, 0, first.n - 1)),
                     ERR_CORRUPT);
    b.p[FRAME_HEADER_BYTES + 30] ^= 1;
    assert_int_equal(replicate(&t, first), ERR_CORRUPT);
    b.p[FRAME_HEADER_BYTES + 30] ^= 1;
    assert_int_equal(replicate(&t, first), ERR_OK);
    assert_int_equal(replicate(&t, first), ERR_GAP);

    AUTO(buf_free) struct buf other = BUF_INIT;
    logtest_frame(&other, 12345, 1, 2, 0, 50);
    assert_int_equal(replicate(&t, buf_span(&other)), ERR_HISTORY);
    buf_clear(&other);
    struct frame_head h;
    assert_int_equal(frame_head_decode(first, &h), PARSE_DONE);
    logtest_heartbeat(&other, h.chain, 1, 2, 1);
    assert_int_equal(replicate(&t, buf_span(&other)), ERR_CORRUPT);
    assert_int_equal(replicate(&t, second), ERR_OK);
    logtest_sync(t.replica);
    assert_int_equal(synclog_durable(t.replica, NULL).lsn, last);
    close_twins(&t);
}

static void
test_frames_of_an_older_epoch_are_another_history(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct synclog_place place;
    struct error err = {0};
    uint64_t chain;
    logtest_append(log, 5, 1, 10);
    logtest_sync(log);
    synclog_durable(log, &chain);
    logtest_frame(&b, chain, 4, 2, 1, 50);
    assert_int_equal(synclog_begin(log, 1000, &place, &err), ERR_OK);
    assert_int_equal(synclog_append_frames(log, buf_span(&b), &err),
                     ERR_HISTORY);
    buf_clear(&b);
    logtest_frame(&b, chain, 5, 2, 1, 5000);
    assert_int_equal(synclog_append_frames(log, buf_span(&b), &err), ERR_LIMIT);
    synclog_close(&log);
}

/* ---------------------------------------------------------------- threads */

struct shared {
    struct synclog *log;
    _Atomic unsigned long reads;
    _Atomic int stop;
};

/* Bodies wherever they are, while segments come and go. */
static void *
read_bodies(void *arg)
{
    struct shared *s = arg;
    uint64_t segment = 1;

    while (!atomic_load(&s->stop)) {
        struct error err = {0};
        uint8_t head[SEGMENT_HEADER_BYTES];
        struct segment_head h;
        enum errcode rc =
            synclog_pread(s->log, segment, 0, head, sizeof(head), &err);
        if (rc == ERR_OK) {
            assert_int_equal(
                segment_head_decode(span_of(head, sizeof(head)), &h, &err),
                ERR_OK);
            assert_int_equal(h.number, segment);
            atomic_fetch_add(&s->reads, 1);
            (void)synclog_durable(s->log, NULL);
            (void)synclog_bytes(s->log);
        } else {
            assert_int_equal(rc, ERR_GAP);
        }
        segment = rc == ERR_OK ? segment + 1 : segment / 2 + 1;
    }
    return NULL;
}

/* Follows the log by its mark until STOP, and then to its end. */
static void *
follow(void *arg)
{
    struct shared *s = arg;
    struct synclog_mark *mark = synclog_mark(s->log);
    struct synclog_reader *r = NULL;
    struct error err = {0};

    if (reader_open(env_system(), dir, mark, 0, &r, &err) != ERR_OK)
        return NULL;
    for (;;) {
        uint32_t seq = atomic_load(&mark->seq);
        int stop = atomic_load(&s->stop);
        struct span frames;
        lsn_t last;
        uint64_t time_us;
        enum errcode rc =
            reader_next(r, 100000, &frames, &last, &time_us, &err);
        if (rc == ERR_GAP || (rc == ERR_OK && frames.n == 0 && stop))
            break;
        assert_int_equal(rc, ERR_OK);
        if (frames.n == 0)
            mark_wait(mark, seq, 1000);
    }
    reader_close(&r);
    return NULL;
}

static void
test_readers_in_threads_beside_writer_helper_and_trimming(void **state)
{
    (void)state;
    struct synclog_config cfg = logtest_config(dir);
    struct shared s = {0};
    struct synclog_recovery found;
    struct error err = {0};
    pthread_t threads[4];
    unsigned removed;

    cfg.no_helper = false;
    assert_int_equal(synclog_open(env_system(), &cfg, &s.log, &found, &err),
                     ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < 2 ? read_bodies : follow, &s),
            0);
    for (unsigned i = 0; i < 400; i++) {
        logtest_append(s.log, 1, 1, 3000);
        logtest_sync(s.log);
        if (i % 50 == 49)
            assert_int_equal(synclog_trim(s.log, i - 20, &removed, &err),
                             ERR_OK);
    }
    while (atomic_load(&s.reads) == 0)
        usleep(1000);
    atomic_store(&s.stop, 1);
    mark_wake(synclog_mark(s.log));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    synclog_close(&s.log);
}

/* The helper makes the next segment; a stale one of a dead process goes. */
static void
test_temporary_files_are_removed(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf names = BUF_INIT;
    struct synclog_config cfg = logtest_config(dir);
    struct synclog_recovery found;
    struct synclog *log = NULL;
    struct error err = {0};
    char path[300];
    cfg.no_helper = false;
    snprintf(path, sizeof(path), "%s/tmp-stale", dir);
    struct envfile *f = NULL;
    assert_int_equal(env_open(env_system(), path, ENV_NEW, &f, &err), ERR_OK);
    env_close(&f);
    assert_int_equal(synclog_open(env_system(), &cfg, &log, &found, &err),
                     ERR_OK);
    assert_false(env_exists(env_system(), path));
    synclog_close(&log);
    assert_int_equal(env_list(env_system(), dir, &names, &err), ERR_OK);
    assert_int_equal(span_find(buf_span(&names), SPAN_LIT("tmp-")), -1);
}

/* The helper meets the full disk, and tells nobody; it is the writer who is
 * refused, and who goes on once there is room. */
static void
test_full_disk_with_helper_refuses_and_heals(void **state)
{
    (void)state;
    struct synclog_config cfg = logtest_config(dir);
    struct env_fault *fault = env_fault_new(env_system());
    struct synclog *log = NULL;
    struct synclog_recovery found;
    struct error err = {0};
    cfg.no_helper = false;
    env_fault_add(fault, &(struct env_fault_rule){.kinds = FAULT_FALLOCATE,
                                                  .path_part = "tmp-next",
                                                  .nth = 1,
                                                  .from_then_on = true,
                                                  .action = FAULT_FAIL,
                                                  .sys_errno = ENOSPC});
    assert_int_equal(
        synclog_open(env_fault_env(fault), &cfg, &log, &found, &err), ERR_OK);
    append_synced(log, 20000);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(logtest_try_append(log, 1, 1, 20000, &err),
                         ERR_NOSPACE);
    assert_int_equal(err.sys_errno, ENOSPC);
    env_fault_clear(fault);
    for (unsigned i = 0; i < 5; i++) {
        append_synced(log, 20000);
    }
    assert_int_equal(synclog_durable(log, NULL).lsn, 6);
    synclog_close(&log);
    env_fault_free(&fault);
}

/* ---- the zeros of the next segment ------------------------------------- */

/* Wait until the helper has filled all of the file that waits. */
static void
wait_for_zeros(struct synclog *log)
{
    for (unsigned i = 0; i < 10000; i++) {
        if (spare_filled(log->spare) >= log->cfg.segment_bytes)
            return;
        usleep(1000);
    }
    fail_msg("no zeros after 10 s");
}

/* All records of 1 to LAST are there, as they were written. */
static void
check_log(lsn_t last)
{
    struct synclog_recovery found;
    struct error err = {0};
    struct synclog *log = open_log(&found);
    struct synclog_reader *r = NULL;
    lsn_t at = 0;

    assert_int_equal(found.last.lsn, last);
    assert_int_equal(
        reader_open(env_system(), dir, synclog_mark(log), 0, &r, &err), ERR_OK);
    for (struct span frames = SPAN_LIT("-"); frames.n > 0;) {
        uint64_t time_us;
        lsn_t until = at;
        assert_int_equal(
            reader_next(r, 1U << 20, &frames, &until, &time_us, &err), ERR_OK);
        at = frames.n > 0 ? until : at;
    }
    assert_int_equal(at, last);
    reader_close(&r);
    synclog_close(&log);
}

static void
close_and_check(struct synclog **log)
{
    const lsn_t last = synclog_durable(*log, NULL).lsn;

    synclog_close(log);
    check_log(last);
}

/* One whose helper makes the next segment. */
static struct synclog *
open_with_helper(uint64_t segment_bytes)
{
    struct synclog_config cfg = logtest_config(dir);
    struct synclog *log = NULL;
    struct synclog_recovery found;
    struct error err = {0};

    cfg.no_helper = false;
    cfg.segment_bytes = segment_bytes;
    assert_int_equal(synclog_open(env_system(), &cfg, &log, &found, &err),
                     ERR_OK);
    return log;
}

static void
test_next_segment_is_filled_when_this_one_is_a_quarter_full(void **state)
{
    (void)state;
    struct synclog *log = open_with_helper(LOGTEST_SEGMENT_BYTES);
    append_synced(log, 100);
    assert_int_equal(spare_filled(log->spare), 0);
    for (unsigned segment = 0; segment < 3; segment++) {
        const uint64_t number = log->list.v[log->list.n - 1].head.number;
        logtest_append(log, 1, 1, LOGTEST_SEGMENT_BYTES / 4);
        logtest_append(log, 1, 1, 100); /* its begin sees a quarter used */
        logtest_sync(log);
        wait_for_zeros(log);
        while (log->list.v[log->list.n - 1].head.number == number) {
            append_synced(log, 3000);
        }
    }
    close_and_check(&log);
}

/* Rotations come while zeros are being written: none lands on a frame. */
static void
test_zeros_never_meet_frames(void **state)
{
    (void)state;
    struct synclog *log = open_with_helper(UINT64_C(3) << 20);
    for (unsigned i = 0; i < 400; i++) {
        append_synced(log, 60000);
    }
    close_and_check(&log);
}

/* A file whose zeros were not taken by the disk is not used; nobody else
 * notices. */
static void
test_failed_zeros_make_another_file(void **state)
{
    (void)state;
    static const unsigned kinds[] = {FAULT_WRITE, FAULT_SYNC};

    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct synclog_config cfg = logtest_config(dir);
        struct env_fault *fault = env_fault_new(env_system());
        struct synclog *log = NULL;
        struct synclog_recovery found;
        struct error err = {0};
        cfg.no_helper = false;
        env_fault_add(fault, &(struct env_fault_rule){.kinds = kinds[k],
                                                      .path_part = "tmp-next",
                                                      .nth = 1,
                                                      .action = FAULT_FAIL,
                                                      .sys_errno = EIO});
        assert_int_equal(
            synclog_open(env_fault_env(fault), &cfg, &log, &found, &err),
            ERR_OK);
        while (!log->fill_asked) {
            append_synced(log, 3000);
        }
        wait_for_zeros(log); /* of the file that was made instead */
        for (unsigned i = 0; i < 20; i++) {
            append_synced(log, 3000);
        }
        const lsn_t last = synclog_durable(log, NULL).lsn;
        assert_int_equal(last, log->written.last.lsn);
        synclog_close(&log);
        env_fault_free(&fault);
        check_log(last);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(test_synced_records_are_there_after_reopening),
        ON_DISK(test_log_begins_behind_its_start),
        ON_DISK(test_second_writer_is_refused),
        ON_DISK(test_log_of_another_cluster_is_refused),
        ON_DISK(test_log_without_history_is_of_any_cluster),
        ON_DISK(test_group_over_its_room_is_refused_and_harmless),
        ON_DISK(test_bodies_lie_where_begin_said),
        ON_DISK(test_trim_lets_go_of_what_is_below_and_no_more),
        ON_DISK(test_rotate_leaves_the_segment_to_be_trimmed),
        ON_DISK(test_trim_that_fails_can_be_tried_again),
        ON_DISK(test_replica_has_the_masters_chain),
        ON_DISK(test_frames_that_do_not_follow_are_refused),
        ON_DISK(test_frames_of_an_older_epoch_are_another_history),
        ON_DISK(test_readers_in_threads_beside_writer_helper_and_trimming),
        ON_DISK(test_temporary_files_are_removed),
        ON_DISK(test_full_disk_with_helper_refuses_and_heals),
        ON_DISK(test_next_segment_is_filled_when_this_one_is_a_quarter_full),
        ON_DISK(test_zeros_never_meet_frames),
        ON_DISK(test_failed_zeros_make_another_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
