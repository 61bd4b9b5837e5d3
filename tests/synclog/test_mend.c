/*
 * tests/synclog/test_mend.c - frames of a twin take the place of damaged ones.
 *
 * A log of several segments with heartbeats between its frames, and the same
 * machine once more as the twin, whose frames are fetched.  After flipped bits
 * anywhere, holes over many frames, lost tails and lost headers, every frame
 * lies where it lay and the whole log is sound again; where the twin cannot
 * help nothing is changed.
 */
#include "tests/synclog/logtest.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/env_sim.h"
#include "synclog/mend.h"

#define SEGMENTS 4U

struct world {
    struct env_sim *sim;
    struct env_sim *twin;
    struct synclog_mark mark; /* of the twin */
    lsn_t last;
    uint64_t frames; /* hash of where each of them lies, and its chain */
    lsn_t lacks;     /* the twin's log begins behind it */
    unsigned fetched;
};

static void
fold_frame(void *ctx, uint64_t segment, uint64_t offset,
           const struct frame_head *head, struct span payload)
{
    uint64_t *sum = ctx;
    const uint64_t v[] = {*sum, segment, offset, head->chain,
                          frame_payload_hash(payload)};

    if (head->nrecords > 0)
        *sum = frame_payload_hash(span_of(v, sizeof(v)));
}

static enum errcode
verify(struct world *w, uint64_t *ret_frames, struct error *err)
{
    struct synclog_recovery found;
    uint64_t torn = 0;

    *ret_frames = 0;
    enum errcode rc =
        synclog_verify(env_sim_env(w->sim), LOGTEST_DIR, fold_frame, ret_frames,
                       &found, &torn, err);
    return rc == ERR_OK && (found.last.lsn != w->last || torn > 0)
               ? error_set(err, ERR_CORRUPT, "ends with %" PRI_LSN,
                           found.last.lsn)
               : rc;
}

static const char *
path_of(uint64_t number)
{
    static char path[200];

    snprintf(path, sizeof(path), LOGTEST_DIR "/seg-%016" PRIx64 ".plx", number);
    return path;
}

static unsigned
log_segments(struct world *w)
{
    unsigned n = 0;

    while (env_exists(env_sim_env(w->sim), path_of(n + 1)))
        n++;
    return n;
}

static int
setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    struct synclog_recovery found;
    struct error err = {0};
    unsigned seed = 1;

    w->sim = env_sim_new(NULL);
    struct synclog *log =
        logtest_open(env_sim_env(w->sim), LOGTEST_DIR, &found);
    /* About SEGMENTS segments; now and then the writer is idle. */
    for (unsigned i = 0; log_segments(w) < SEGMENTS || i % 16 != 9; i++) {
        seed = seed * 1103515245U + 12345U;
        logtest_append(log, 1 + i / 40, 1 + seed / 7 % 3,
                       100 + seed / 99 % 900);
        logtest_sync(log);
        if (i % 4 == 0)
            assert_int_equal(synclog_heartbeat(log, &err), ERR_OK);
        w->last = synclog_durable(log, NULL).lsn;
    }
    assert_int_equal(synclog_heartbeat(log, &err), ERR_OK);
    synclog_close(&log);
    w->twin = env_sim_clone(w->sim);
    atomic_store(&w->mark.durable_lsn, w->last);
    assert_int_equal(verify(w, &w->frames, &err), ERR_OK);
    *state = w;
    return 0;
}

static int
teardown(void **state)
{
    struct world *w = *state;

    env_sim_free(&w->sim);
    env_sim_free(&w->twin);
    free(w);
    return 0;
}

static enum errcode
fetch(void *ctx, lsn_t after, lsn_t until, uint64_t *ret_chain, struct buf *ret,
      struct error *err)
{
    struct world *w = ctx;
    AUTO(reader_close) struct synclog_reader *r = NULL;
    struct span frames;
    uint64_t time_us;
    lsn_t last;

    (void)until;
    w->fetched++;
    if (after < w->lacks)
        return error_set(err, ERR_GAP, "the twin's log begins later");
    enum errcode rc = reader_open(env_sim_env(w->twin), LOGTEST_DIR, &w->mark,
                                  after, &r, err);
    if (rc != ERR_OK)
        return rc;
    *ret_chain = reader_chain(r);
    rc = reader_next(r, 4096, &frames, &last, &time_us, err);
    if (rc == ERR_OK)
        buf_add(ret, frames);
    return rc;
}

static enum errcode
mend(struct world *w, lsn_t proven, struct synclog_mended *ret,
     struct error *err)
{
    const struct synclog_config cfg = logtest_config(LOGTEST_DIR);
    const struct synclog_mend_options o = {.dir = LOGTEST_DIR,
                                           .cluster = cfg.cluster,
                                           .instance = cfg.instance,
                                           .proven = proven,
                                           .fetch = fetch,
                                           .ctx = w};

    return synclog_mend(env_sim_env(w->sim), &o, ret, err);
}

static void
must_be_whole(struct world *w, const char *what, unsigned long where)
{
    struct error err = {0};
    uint64_t frames;

    if (verify(w, &frames, &err) != ERR_OK)
        fail_msg("%s %lu: %s", what, where, err.text);
    if (frames != w->frames)
        fail_msg("%s %lu: a frame lies elsewhere, or is another", what, where);
}

/* It may lack heartbeats, where must_be_whole() counts them. */
static lsn_t
last_of_a_whole_log(struct world *w)
{
    struct synclog_recovery found;
    struct error err = {0};
    uint64_t torn = 0;

    if (synclog_verify(env_sim_env(w->sim), LOGTEST_DIR, NULL, NULL, &found,
                       &torn, &err) != ERR_OK)
        fail_msg("%s", err.text);
    return found.last.lsn;
}

static uint64_t
size_of(struct world *w, uint64_t number)
{
    struct envfile *f = NULL;
    struct error err = {0};
    uint64_t n = 0;

    assert_int_equal(
        env_open(env_sim_env(w->sim), path_of(number), ENV_READ, &f, &err),
        ERR_OK);
    assert_int_equal(env_size(f, &n, &err), ERR_OK);
    env_close(&f);
    return n;
}

/* Zeros from FROM on, or the file cut there if N is 0. */
static void
wipe(struct world *w, uint64_t number, uint64_t from, size_t n)
{
    struct envfile *f = NULL;
    struct error err = {0};
    AUTO(xfree) uint8_t *zeros = xcalloc(1, n + 1);

    assert_int_equal(
        env_open(env_sim_env(w->sim), path_of(number), ENV_WRITE, &f, &err),
        ERR_OK);
    assert_int_equal(n == 0 ? env_truncate(f, from, &err)
                            : env_pwrite(f, zeros, n, from, &err),
                     ERR_OK);
    env_close(&f);
}

static void
test_flipped_bit_anywhere_is_mended(void **state)
{
    struct world *w = *state;
    unsigned damaged = 0;

    for (uint64_t number = 1; number <= SEGMENTS; number++) {
        const uint64_t size = size_of(w, number);
        for (uint64_t at = number; at < size; at += 97) {
            struct synclog_mended done;
            struct error err = {0};
            uint64_t frames;
            assert_true(env_sim_flip_bit(w->sim, path_of(number), at, at % 8));
            damaged += verify(w, &frames, &err) != ERR_OK;
            enum errcode rc = mend(w, w->last, &done, &err);
            if (rc != ERR_OK)
                fail_msg("segment %u, offset %lu: %s", (unsigned)number,
                         (unsigned long)at, err.text);
            /* Nothing is said of bits behind the end. */
            if (done.places == 0)
                assert_true(
                    env_sim_flip_bit(w->sim, path_of(number), at, at % 8));
            must_be_whole(w, "offset", (unsigned long)at);
        }
    }
    assert_true(damaged > 500);
}

static void
test_holes_over_many_frames_are_mended(void **state)
{
    struct world *w = *state;

    for (unsigned i = 0; i < 60; i++) {
        const uint64_t number = 1 + i % (SEGMENTS - 1);
        const uint64_t size = size_of(w, number);
        const uint64_t from = 4096 + i * 577 % (size - 12000);
        struct synclog_mended done;
        struct error err = {0};
        wipe(w, number, from, 300 + i * 131);
        enum errcode rc = mend(w, w->last, &done, &err);
        if (rc != ERR_OK)
            fail_msg("hole %u: %s", i, err.text);
        assert_int_equal(done.places, 1);
        assert_true(done.records > 0);
        /* In zeros nothing tells where heartbeats stood. */
        assert_true(last_of_a_whole_log(w) == w->last);
    }
}

static void
test_lost_end_of_a_segment_is_mended(void **state)
{
    struct world *w = *state;
    struct synclog_mended done;
    struct error err = {0};

    wipe(w, 2, size_of(w, 2) - 9000, 0);
    assert_int_equal(mend(w, 0, &done, &err), ERR_OK);
    assert_int_equal(done.places, 1);
    (void)last_of_a_whole_log(w);
}

static void
test_headers_are_made_again(void **state)
{
    struct world *w = *state;

    for (uint64_t number = 1; number <= SEGMENTS; number++) {
        struct synclog_mended done;
        struct error err = {0};
        wipe(w, number, 0, 4096);
        enum errcode rc = mend(w, 0, &done, &err);
        if (rc != ERR_OK)
            fail_msg("segment %u: %s", (unsigned)number, err.text);
        must_be_whole(w, "header", (unsigned long)number);
        if (number > 1) { /* and the end of the one before at once */
            wipe(w, number - 1, size_of(w, number - 1) - 2000, 1000);
            wipe(w, number, 48, 4);
            assert_int_equal(mend(w, 0, &done, &err), ERR_OK);
            assert_int_equal(done.places, 2);
        }
    }
}

static void
test_tail_is_damage_only_when_something_proves_it(void **state)
{
    struct world *w = *state;
    struct synclog_mended done;
    struct error err = {0};
    const uint64_t size = size_of(w, SEGMENTS);

    /* All behind the first frames of the last segment, heartbeats too. */
    wipe(w, SEGMENTS, 5200, size - 5200);
    assert_int_equal(mend(w, 0, &done, &err), ERR_OK);
    assert_int_equal(done.places, 0);
    assert_int_equal(mend(w, w->last, &done, &err), ERR_OK);
    assert_int_equal(done.places, 1);
    assert_true(done.last == w->last);
    assert_true(last_of_a_whole_log(w) == w->last);
}

static void
test_what_the_twin_lacks_changes_nothing(void **state)
{
    struct world *w = *state;
    struct synclog_mended done;
    struct error err = {0};
    AUTO(buf_free) struct buf before = BUF_INIT;
    AUTO(buf_free) struct buf after = BUF_INIT;

    wipe(w, 2, 9000, 3000);
    assert_int_equal(
        env_read_file(env_sim_env(w->sim), path_of(2), 1U << 20, &before, &err),
        ERR_OK);
    w->lacks = w->last;
    assert_int_equal(mend(w, w->last, &done, &err), ERR_GAP);
    assert_non_null(strstr(err.text, "segment 2, offset "));
    assert_non_null(strstr(err.text, "cannot be had"));
    assert_int_equal(done.places, 0);
    assert_int_equal(
        env_read_file(env_sim_env(w->sim), path_of(2), 1U << 20, &after, &err),
        ERR_OK);
    assert_true(span_eq(buf_span(&before), buf_span(&after)));
    w->lacks = 0;
    assert_int_equal(mend(w, w->last, &done, &err), ERR_OK);
    assert_int_equal(done.places, 1);
}

static void
test_twin_of_another_history_is_refused(void **state)
{
    struct world *w = *state;
    struct synclog_recovery found;
    struct synclog_mended done;
    struct error err = {0};

    env_sim_free(&w->twin);
    w->twin = env_sim_new(NULL);
    struct synclog *log =
        logtest_open(env_sim_env(w->twin), LOGTEST_DIR, &found);
    for (unsigned i = 0; i < 150; i++)
        logtest_append(log, 1, 1, 200 + i);
    logtest_sync(log);
    synclog_close(&log);
    wipe(w, 2, 9000, 3000);
    assert_int_equal(mend(w, w->last, &done, &err), ERR_HISTORY);
    assert_int_equal(done.places, 0);
}

static void
test_missing_segment_cannot_be_mended(void **state)
{
    struct world *w = *state;
    struct synclog_mended done;
    struct error err = {0};

    assert_int_equal(env_unlink(env_sim_env(w->sim), path_of(2), &err), ERR_OK);
    assert_int_equal(mend(w, w->last, &done, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.text, "missing as a whole"));
    for (uint64_t i = 1; i <= SEGMENTS; i++)
        assert_int_equal(env_unlink(env_sim_env(w->sim), path_of(i), &err),
                         ERR_OK);
    assert_int_equal(mend(w, w->last, &done, &err), ERR_NOTFOUND);
}

/* What the state has was durable, so a log that ends before is not opened. */
static void
test_log_that_ends_before_the_state_is_not_cut(void **state)
{
    struct world *w = *state;
    struct synclog_config cfg = logtest_config(LOGTEST_DIR);
    struct synclog_recovery found;
    struct synclog *log = NULL;
    struct error err = {0};

    wipe(w, SEGMENTS, 5200, size_of(w, SEGMENTS) - 5200);
    cfg.proven = w->last;
    assert_int_equal(
        synclog_open(env_sim_env(w->sim), &cfg, &log, &found, &err),
        ERR_CORRUPT);
    assert_non_null(strstr(err.text, "as the state says"));
    cfg.proven = 0;
    assert_int_equal(
        synclog_open(env_sim_env(w->sim), &cfg, &log, &found, &err), ERR_OK);
    synclog_close(&log);
}

int
main(void)
{
#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH(test_flipped_bit_anywhere_is_mended),
        WITH(test_holes_over_many_frames_are_mended),
        WITH(test_lost_end_of_a_segment_is_mended),
        WITH(test_headers_are_made_again),
        WITH(test_tail_is_damage_only_when_something_proves_it),
        WITH(test_what_the_twin_lacks_changes_nothing),
        WITH(test_twin_of_another_history_is_refused),
        WITH(test_missing_segment_cannot_be_mended),
        WITH(test_log_that_ends_before_the_state_is_not_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
