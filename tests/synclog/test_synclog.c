/*
 * tests/synclog/test_synclog.c - the log on a real disk: writing, syncing,
 * reopening, rotating, trimming, reading bodies, one writer only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "synclog/reader.h"
#include "synclog/synclog.h"

#define SEGMENT_BYTES 32768U

static char dir[256];

static int
setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/synclog-XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
    struct error err = {0};
    AUTO(buf_free) struct buf names = BUF_INIT;

    (void)state;
    if (env_list(env_system(), dir, &names, &err) != ERR_OK)
        return -1;
    for (size_t at = 0; at < names.n;) {
        char path[512];
        const char *name = (const char *)names.p + at;
        at += strlen(name) + 1;
        snprintf(path, sizeof(path), "%s/%s", dir, name);
        unlink(path);
    }
    return rmdir(dir);
}

static struct synclog_config
config(void)
{
    return (struct synclog_config){
        .dir = dir,
        .segment_bytes = SEGMENT_BYTES,
        .cluster = {"cluster-A"},
        .instance = {"instance-A"},
    };
}

static struct synclog *
open_log(struct synclog_recovery *found)
{
    const struct synclog_config cfg = config();
    struct synclog *log = NULL;
    struct error err = {0};

    if (synclog_open(env_system(), &cfg, &log, found, &err) != ERR_OK)
        fail_msg("%s", err.text);
    return log;
}

/* One frame with N records of BYTES bytes. */
static struct synclog_place
append(struct synclog *log, epoch_t epoch, unsigned n, size_t bytes)
{
    AUTO(buf_free) struct buf payload = BUF_INIT;
    AUTO(xfree) uint8_t *body = xmalloc(bytes);
    struct synclog_place place;
    struct error err = {0};

    for (unsigned i = 0; i < n; i++) {
        memset(body, (int)('a' + i % 26), bytes);
        frame_add_record(&payload, (uint8_t)(i + 1), 1, span_of(body, bytes));
    }
    if (synclog_begin(log, payload.n, &place, &err) != ERR_OK)
        fail_msg("%s", err.text);
    if (synclog_append(log, epoch, 1000 + place.first_lsn, buf_span(&payload),
                       n, &err) != ERR_OK)
        fail_msg("%s", err.text);
    return place;
}

static void
sync_log(struct synclog *log)
{
    struct error err = {0};

    if (synclog_sync(log, &err) != ERR_OK)
        fail_msg("%s", err.text);
}

static void
test_synced_records_are_there_after_reopening(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    assert_int_equal(found.last.lsn, 0);
    assert_int_equal(found.first_lsn, 0);
    assert_int_equal(append(log, 1, 3, 100).first_lsn, 1);
    assert_int_equal(synclog_durable(log, NULL).lsn, 0);
    sync_log(log);
    uint64_t chain = 0;
    assert_int_equal(synclog_durable(log, &chain).lsn, 3);
    assert_int_equal(append(log, 2, 1, 10).first_lsn, 4);
    sync_log(log);
    assert_int_equal(synclog_durable(log, &chain).lsn, 4);
    synclog_close(&log);
    assert_null(log);

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
test_reader_follows_over_many_segments(void **state)
{
    (void)state;
    struct synclog_recovery found;
    struct synclog *log = open_log(&found);
    struct error err = {0};
    for (int i = 0; i < 100; i++) {
        append(log, 1, 2, 900);
        sync_log(log);
        if (i % 3 == 0)
            assert_int_equal(synclog_heartbeat(log, &err), ERR_OK);
    }
    struct synclog_reader *r = NULL;
    if (reader_open(env_system(), dir, synclog_mark(log), 0, &r, &err) !=
        ERR_OK)
        fail_msg("%s", err.text);
    lsn_t last = 0;
    uint64_t time_us = 0;
    for (;;) {
        struct span frames;
        lsn_t before = last;
        if (reader_next(r, 5000, &frames, &last, &time_us, &err) != ERR_OK)
            fail_msg("%s", err.text);
        if (frames.n == 0)
            break;
        assert_true(frames.n <= 5000 && last > before);
    }
    assert_int_equal(last, 200);
    uint64_t chain;
    synclog_durable(log, &chain);
    assert_true(reader_chain(r) == chain);
    reader_close(&r);
    uint64_t torn = 7;
    if (synclog_verify(env_system(), dir, NULL, NULL, &found, &torn, &err) !=
        ERR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(torn, 0);
    assert_int_equal(found.last.lsn, 200);
    synclog_close(&log);
    log = open_log(&found);
    assert_int_equal(found.last.lsn, 200);
    synclog_close(&log);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_synced_records_are_there_after_reopening, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reader_follows_over_many_segments,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
