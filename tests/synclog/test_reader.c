/*
 * tests/synclog/test_reader.c - readers, the mark and slots, in this process
 * and in another one.
 */
#include "tests/synclog/disktest.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "synclog/slot.h"

static struct synclog_reader *
open_reader(struct synclog *log, lsn_t after)
{
    struct synclog_reader *r = NULL;
    struct error err = {0};

    if (reader_open(env_system(), dir, synclog_mark(log), after, &r, &err) !=
        ERR_OK)
        fail_msg("%s", err.text);
    return r;
}

/* LSN of the last record read; 0 if there was nothing. */
static lsn_t
read_some(struct synclog_reader *r, size_t max_bytes)
{
    struct error err = {0};
    struct span frames;
    lsn_t last;
    uint64_t time_us;

    if (reader_next(r, max_bytes, &frames, &last, &time_us, &err) != ERR_OK)
        fail_msg("%s", err.text);
    for (size_t at = 0; at < frames.n;) {
        struct frame_head h;
        struct span payload;
        size_t used;
        assert_int_equal(
            frame_decode(span_skip(frames, at), &h, &payload, &used),
            PARSE_DONE);
        assert_true(h.nrecords > 0);
        at += used;
        if (at == frames.n) {
            assert_true(frame_last_lsn(&h) == last);
            assert_true(h.chain == reader_chain(r));
            assert_true(h.time_us == time_us);
            assert_true(h.epoch == reader_epoch(r));
        }
    }
    return frames.n == 0 ? 0 : last;
}

static void
test_reader_sees_nothing_that_is_not_durable(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct synclog_reader *r = open_reader(log, 0);
    assert_int_equal(read_some(r, 1 << 20), 0);
    logtest_append(log, 1, 2, 100);
    assert_int_equal(read_some(r, 1 << 20), 0);
    logtest_sync(log);
    assert_int_equal(read_some(r, 1 << 20), 2);
    assert_int_equal(read_some(r, 1 << 20), 0);
    /* The window has seen zeros where this frame will be. */
    logtest_append(log, 1, 2, 100);
    logtest_sync(log);
    logtest_append(log, 1, 2, 100);
    assert_int_equal(read_some(r, 1 << 20), 4);
    assert_int_equal(read_some(r, 1 << 20), 0);
    reader_close(&r);
    synclog_close(&log);
}

static void
test_reader_gives_whole_frames_over_all_segments(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct error err = {0};
    for (unsigned i = 0; i < 100; i++) {
        logtest_append(log, 1 + i / 30, 2, i == 50 ? 700000 : 900);
        logtest_sync(log);
        if (i % 3 == 0)
            assert_int_equal(synclog_heartbeat(log, &err), ERR_OK);
    }
    static const size_t sizes[] = {1, 2000, 5000, 1 << 20, 8 << 20};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct synclog_reader *r = open_reader(log, 0);
        lsn_t last = 0, now;
        while ((now = read_some(r, sizes[i])) != 0) {
            assert_true(now > last && (sizes[i] > 1 || now == last + 2));
            last = now;
        }
        assert_int_equal(last, 200);
        uint64_t chain;
        synclog_durable(log, &chain);
        assert_true(reader_chain(r) == chain);
        reader_close(&r);
    }
    synclog_close(&log);
}

static void
test_reader_begins_behind_any_frame_and_nowhere_else(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    for (unsigned i = 0; i < 30; i++) {
        logtest_append(log, 1, 2, 1500);
        logtest_sync(log);
    }
    for (lsn_t after = 0; after <= 62; after++) {
        struct synclog_reader *r = NULL;
        struct error err = {0};
        enum errcode rc =
            reader_open(env_system(), dir, synclog_mark(log), after, &r, &err);
        if (after % 2 == 1 || after > 60) {
            assert_int_equal(rc, ERR_GAP);
            continue;
        }
        assert_int_equal(rc, ERR_OK);
        assert_int_equal(read_some(r, 1), after == 60 ? 0 : after + 2);
        reader_close(&r);
    }
    synclog_close(&log);
}

static void
test_damage_is_not_given_out(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct synclog_reader *r = open_reader(log, 0);
    struct error err = {0};
    struct span frames;
    lsn_t last;
    uint64_t time_us;
    char path[300];
    for (unsigned i = 0; i < 3; i++) {
        append_synced(log, 100);
    }
    snprintf(path, sizeof(path), "%s/seg-0000000000000001.plx", dir);
    /* In the third frame's payload: the two before it are good. */
    logtest_write(env_system(), path, 4096 + 2 * 176 + 100, SPAN_LIT("?"));
    assert_int_equal(read_some(r, 1 << 20), 2);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(
            reader_next(r, 1 << 20, &frames, &last, &time_us, &err),
            ERR_CORRUPT);
        assert_non_null(strstr(err.text, "segment 1, offset 4448"));
    }
    reader_close(&r);
    synclog_close(&log);
}

static void
test_reader_holds_its_segment_and_then_meets_the_gap(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct error err = {0};
    unsigned removed;
    for (unsigned i = 0; i < 60; i++) {
        append_synced(log, 3000);
    }
    struct synclog_reader *r = open_reader(log, 0);
    assert_int_equal(read_some(r, 1), 1);
    assert_int_equal(synclog_trim(log, 60, &removed, &err), ERR_OK);
    assert_true(removed > 1);
    lsn_t last = 1;
    enum errcode rc;
    struct span frames;
    uint64_t time_us;
    while ((rc = reader_next(r, 1, &frames, &last, &time_us, &err)) == ERR_OK)
        assert_true(frames.n > 0 && last < 60);
    assert_int_equal(rc, ERR_GAP);
    assert_true(last > 1);
    reader_close(&r);
    synclog_close(&log);
}

static void
test_no_log_cannot_be_read(void **state)
{
    (void)state;
    struct synclog_mark mark = {0};
    struct synclog_reader *r = NULL;
    struct error err = {0};
    char path[300];
    snprintf(path, sizeof(path), "%s/none", dir);
    assert_int_equal(reader_open(env_system(), path, &mark, 0, &r, &err),
                     ERR_NOTFOUND);
    assert_null(r);
}

#define FOLLOWED 200U

/* The other process: read to FOLLOWED by the mark and the futex alone. */
static int
follow_in_child(void)
{
    const struct synclog_mark *mark = NULL;
    struct synclog_reader *r = NULL;
    struct error err = {0};
    lsn_t last = 0;

    if (mark_attach(dir, &mark, &err) != ERR_OK ||
        reader_open(env_system(), dir, mark, 0, &r, &err) != ERR_OK)
        return 1;
    while (last < FOLLOWED) {
        uint32_t seq = atomic_load(&mark->seq);
        struct span frames;
        uint64_t time_us;
        if (reader_next(r, 1 << 20, &frames, &last, &time_us, &err) != ERR_OK)
            return 2;
        if (last > atomic_load(&mark->durable_lsn))
            return 3;
        /* Only a wake brings it on: the time is far beyond the test's. */
        if (frames.n == 0 && mark_wait(mark, seq, 100000) == seq)
            return 4;
    }
    reader_close(&r);
    mark_detach(&mark);
    return 0;
}

static void
test_reader_in_another_process_is_woken(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(follow_in_child());
    for (unsigned i = 0; i < FOLLOWED; i++) {
        append_synced(log, 800);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    synclog_close(&log);
}

static void
test_mark_says_who_writes_and_how_far(void **state)
{
    (void)state;
    const struct synclog_mark *mark = NULL;
    struct synclog_recovery found;
    struct error err = {0};
    assert_int_equal(mark_attach(dir, &mark, &err), ERR_NOTFOUND);
    struct synclog *log = open_log(&found);
    assert_int_equal(mark_attach(dir, &mark, &err), ERR_OK);
    assert_int_equal(mark->writer_pid, (uint32_t)getpid());
    assert_int_equal(mark->first_lsn, 0);
    uint32_t seq = mark->seq;
    logtest_append(log, 3, 2, 10);
    logtest_sync(log);
    assert_true(mark_wait(mark, seq, 1000) != seq);
    assert_int_equal(mark->durable_lsn, 2);
    assert_int_equal(mark->durable_epoch, 3);
    assert_int_equal(mark->durable_time_us, 1001);
    assert_int_equal(mark->first_lsn, 1);
    assert_memory_equal(mark->cluster, "cluster-A", 9);
    seq = mark->seq;
    assert_int_equal(mark_wait(mark, seq, 0), seq); /* time is up at once */
    synclog_close(&log);
    /* The page outlives the writer, and the next one uses it on. */
    assert_int_equal(mark->writer_pid, 0);
    assert_int_equal(mark->durable_lsn, 2);
    log = open_log(&found);
    assert_int_equal(mark->writer_pid, (uint32_t)getpid());
    synclog_close(&log);
    mark_detach(&mark);
    assert_null(mark);
}

static void
test_mark_of_another_version_is_refused(void **state)
{
    (void)state;
    const struct synclog_mark *mark = NULL;
    struct synclog_recovery found;
    struct error err = {0};
    char path[300];
    struct synclog *log = open_log(&found);
    synclog_close(&log);
    snprintf(path, sizeof(path), "%s/mark", dir);
    logtest_write(env_system(), path, 8, SPAN_LIT("\x02"));
    assert_int_equal(mark_attach(dir, &mark, &err), ERR_VERSION);
    log = open_log(&found); /* makes a new one */
    assert_int_equal(mark_attach(dir, &mark, &err), ERR_OK);
    mark_detach(&mark);
    synclog_close(&log);
}

/* ------------------------------------------------------------------ slots */

static void
test_slot_is_made_once_and_shared(void **state)
{
    (void)state;
    struct synclog_slot *slot = NULL, *other = NULL;
    struct error err = {0};
    char text[SLOT_TEXT_BYTES];
    AUTO(buf_free) struct buf names = BUF_INIT;
    assert_int_equal(slot_list(env_system(), dir, &names, &err), ERR_OK);
    assert_int_equal(names.n, 0);
    assert_int_equal(slot_attach(dir, "b2", false, &slot, &err), ERR_NOTFOUND);
    assert_int_equal(slot_attach(dir, "b2", true, &slot, &err), ERR_OK);
    assert_int_equal(slot_attach(dir, "b2", false, &other, &err), ERR_OK);
    atomic_store(&slot->durable_lsn, 4182);
    slot_set_state(slot, SLOT_STREAMING, "to b2.example.org", 77);
    assert_int_equal(other->durable_lsn, 4182);
    assert_int_equal(other->state, SLOT_STREAMING);
    assert_int_equal(other->state_wall_us, 77);
    slot_set_state(slot, SLOT_STREAMING, "still", 99);
    assert_int_equal(other->state_wall_us, 77); /* since then */
    slot_get_text(other, text);
    assert_string_equal(text, "still");
    assert_int_equal(slot_sync(slot, &err), ERR_OK);
    slot_detach(&slot);
    slot_detach(&other);
    assert_null(slot);
    assert_int_equal(slot_attach(dir, "b2", true, &slot, &err), ERR_OK);
    assert_int_equal(slot->durable_lsn, 4182);
    assert_int_equal(slot_attach(dir, "a1", true, &other, &err), ERR_OK);
    assert_int_equal(slot_list(env_system(), dir, &names, &err), ERR_OK);
    assert_true(span_eq(buf_span(&names), SPAN_LIT("a1\0b2\0")));
    slot_detach(&slot);
    slot_detach(&other);
}

static void
test_slot_of_a_bad_name_or_version_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        ".",
        "..",
        "../x",
        "a/b",
        ".hidden",
        "a b",
        "\xc3\xa4",
        "12345678901234567890123456789012345678901234567890123456789012345"};
    struct synclog_slot *slot = NULL;
    struct error err = {0};
    char path[300];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(slot_attach(dir, bad[i], true, &slot, &err),
                         ERR_BADNAME);
    assert_int_equal(slot_attach(dir, "c", true, &slot, &err), ERR_OK);
    slot_detach(&slot);
    snprintf(path, sizeof(path), "%s/slots/c", dir);
    logtest_write(env_system(), path, 8, SPAN_LIT("\x02"));
    assert_int_equal(slot_attach(dir, "c", true, &slot, &err), ERR_VERSION);
}

struct talk {
    struct synclog_slot *slot;
    _Atomic unsigned heard; /* texts that the listener has read */
    _Atomic int stop;
};

static void *
talk_on(void *arg)
{
    struct talk *t = arg;
    char text[SLOT_TEXT_BYTES];

    for (unsigned i = 0; !atomic_load(&t->stop); i++) {
        memset(text, 'a' + (int)(i % 26), sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        slot_set_state(t->slot, SLOT_PARKED, text, 1);
        /* One change a look: a listener is allowed to give up on one who
         * never stops talking. */
        unsigned heard = atomic_load(&t->heard);
        while (atomic_load(&t->heard) == heard && !atomic_load(&t->stop))
            sched_yield();
    }
    return NULL;
}

static void
test_slot_text_is_never_half_of_two(void **state)
{
    (void)state;
    struct talk t = {0};
    struct error err = {0};
    pthread_t thread;
    assert_int_equal(slot_attach(dir, "d", true, &t.slot, &err), ERR_OK);
    assert_int_equal(pthread_create(&thread, NULL, talk_on, &t), 0);
    for (unsigned i = 0; i < 2000; i++) {
        char text[SLOT_TEXT_BYTES];
        slot_get_text(t.slot, text);
        atomic_fetch_add(&t.heard, 1);
        size_t n = strlen(text);
        assert_true(n == 0 || n == sizeof(text) - 1);
        assert_int_equal(strspn(text, (char[]){text[0], '\0'}), n);
    }
    atomic_store(&t.stop, 1);
    pthread_join(thread, NULL);
    slot_detach(&t.slot);
}

static void
test_slot_states_have_names(void **state)
{
    (void)state;
    assert_string_equal(slot_state_name(SLOT_DOWN), "down");
    assert_string_equal(slot_state_name(SLOT_RESEED), "reseed");
    assert_string_equal(slot_state_name((enum slot_state)77), "unknown");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(test_reader_sees_nothing_that_is_not_durable),
        ON_DISK(test_reader_gives_whole_frames_over_all_segments),
        ON_DISK(test_reader_begins_behind_any_frame_and_nowhere_else),
        ON_DISK(test_damage_is_not_given_out),
        ON_DISK(test_reader_holds_its_segment_and_then_meets_the_gap),
        ON_DISK(test_no_log_cannot_be_read),
        ON_DISK(test_reader_in_another_process_is_woken),
        ON_DISK(test_mark_says_who_writes_and_how_far),
        ON_DISK(test_mark_of_another_version_is_refused),
        ON_DISK(test_slot_is_made_once_and_shared),
        ON_DISK(test_slot_of_a_bad_name_or_version_is_refused),
        ON_DISK(test_slot_text_is_never_half_of_two),
        ON_DISK(test_slot_states_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
