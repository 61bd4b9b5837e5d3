/*
 * tests/synclog/test_recover.c - every defect that the end of a log can have,
 * made by hand: what is torn is cut and kept aside, what is damaged is named
 * and nothing is touched (L4).
 *
 * Each row starts from a log with the records 1 to 4, a frame each, in epoch 2,
 * all synced.  So x, the first LSN that may be missing, is 5 unless the row
 * destroys one of the four.
 */
#include "tests/synclog/logtest.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/env_sim.h"

#define SEGMENT LOGTEST_DIR "/seg-0000000000000001.plx"
#define BODY 100U

struct scene {
    struct env_sim *sim;
    struct env *env;
    uint64_t at[6]; /* at[i]: offset of the frame with LSN i; at[5]: the end */
    uint64_t chain[5];
};

static void
put(struct scene *s, uint64_t offset, const struct buf *b)
{
    logtest_write(s->env, SEGMENT, offset, buf_span(b));
}

static void
put_byte(struct scene *s, uint64_t offset, uint8_t byte)
{
    logtest_write(s->env, SEGMENT, offset, span_of(&byte, 1));
}

static void
truncate_at(struct scene *s, const char *path, uint64_t size)
{
    AUTO(env_close) struct envfile *f = NULL;
    struct error err = {0};

    if (env_open(s->env, path, ENV_WRITE, &f, &err) != ERR_OK ||
        env_truncate(f, size, &err) != ERR_OK || env_fsync(f, &err) != ERR_OK)
        fail_msg("%s", err.text);
}

/* The frame that could follow. */
static struct frame_head
frame_5(const struct scene *s, struct buf *b)
{
    return logtest_frame(b, s->chain[4], 2, 5, 4, BODY);
}

static void
nothing(struct scene *s)
{
    (void)s;
}

static void
good_frame(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    frame_5(s, &b);
    put(s, s->at[5], &b);
}

static void
garbage(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    for (unsigned i = 0; i < 100; i++)
        buf_add_byte(&b, (uint8_t)(i * 37 + 1));
    put(s, s->at[5], &b);
}

static void
garbage_behind_zeros(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    buf_add_str(&b, "something");
    put(s, s->at[5] + 1000, &b);
}

static void
half_header(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    frame_5(s, &b);
    b.n = 32;
    put(s, s->at[5], &b);
}

static void
half_payload(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    frame_5(s, &b);
    b.n = FRAME_HEADER_BYTES + BODY / 2;
    put(s, s->at[5], &b);
}

static void
header_lost(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    frame_5(s, &b);
    memset(b.p, 0, FRAME_HEADER_BYTES);
    put(s, s->at[5], &b);
}

static void
bit_in_header(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    frame_5(s, &b);
    b.p[57] ^= 4;
    put(s, s->at[5], &b);
}

static void
bit_in_magic(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    frame_5(s, &b);
    b.p[0] ^= 1;
    put(s, s->at[5], &b);
}

static void
bit_in_payload(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    frame_5(s, &b);
    b.p[FRAME_HEADER_BYTES + 20] ^= 1;
    put(s, s->at[5], &b);
}

static void
padding_not_zero(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    frame_5(s, &b);
    b.p[b.n - 1] = 1;
    put(s, s->at[5], &b);
}

static void
records_do_not_fill(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    uint8_t head[FRAME_HEADER_BYTES];
    struct frame_head h = frame_5(s, &b);
    h.nrecords = 2;
    h.chain = frame_chain(s->chain[4], &h);
    frame_head_encode(&h, head);
    put(s, s->at[5], &b);
    logtest_write(s->env, SEGMENT, s->at[5], span_of(head, sizeof(head)));
}

static void
payload_past_the_file(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_frame(&b, s->chain[4], 2, 5, 4, 60000);
    b.n = FRAME_HEADER_BYTES;
    put(s, s->at[5], &b);
}

static void
other_chain(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_frame(&b, s->chain[3], 2, 5, 4, BODY);
    put(s, s->at[5], &b);
}

static void
lsn_again(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_frame(&b, s->chain[4], 2, 4, 3, BODY);
    put(s, s->at[5], &b);
}

static void
lsn_left_out(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_frame(&b, s->chain[4], 2, 6, 4, BODY);
    put(s, s->at[5], &b);
}

static void
lsn_left_out_that_was_durable(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_frame(&b, s->chain[4], 2, 6, 5, BODY);
    put(s, s->at[5], &b);
}

static void
older_epoch(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_frame(&b, s->chain[4], 1, 5, 4, BODY);
    put(s, s->at[5], &b);
}

static void
heartbeat_of_another_chain(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_heartbeat(&b, s->chain[3], 2, 5, 4);
    put(s, s->at[5], &b);
}

static void
heartbeat_of_another_lsn(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_heartbeat(&b, s->chain[4], 2, 4, 3);
    put(s, s->at[5], &b);
}

static void
good_heartbeat(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_heartbeat(&b, s->chain[4], 2, 5, 4);
    put(s, s->at[5], &b);
}

/* Frame 5 never came, frame 6 did; nobody says that 5 was synced. */
static void
frame_behind_a_hole(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_frame(&b, 17, 2, 6, 4, BODY);
    put(s, s->at[5] + 1024, &b);
}

static void
frame_behind_a_hole_says_durable(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_frame(&b, 17, 2, 6, 5, BODY);
    put(s, s->at[5] + 1024, &b);
}

static void
frame_far_behind_says_durable(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    garbage(s);
    logtest_frame(&b, 17, 3, 90, 80, BODY);
    put(s, s->at[5] + 20000, &b);
}

static void
heartbeat_behind_a_hole_says_durable(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_heartbeat(&b, 17, 2, 6, 5);
    put(s, s->at[5] + 1024, &b);
}

/* 128 bytes cannot hold a million records: this is not one of our frames. */
static void
impossible_frame_says_durable(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    logtest_frame(&b, 17, 2, 1000000, 999999, BODY);
    put(s, s->at[5] + 128, &b);
}

/* The text of a message: a frame that says durable, in a payload that is not
 * whole. */
static void
frame_in_a_torn_payload(struct scene *s)
{
    AUTO(buf_free) struct buf inner = BUF_INIT;
    AUTO(buf_free) struct buf payload = BUF_INIT;
    AUTO(buf_free) struct buf b = BUF_INIT;
    uint8_t head[FRAME_HEADER_BYTES];

    logtest_frame(&inner, 17, 2, 6, 5, BODY);
    frame_add_record(&payload, 5, 1, buf_span(&inner));
    struct frame_head h = {
        .payload_bytes = (uint32_t)payload.n + 8,
        .nrecords = 1,
        .epoch = 2,
        .first_lsn = 5,
        .durable_lsn = 4,
    };
    h.chain = frame_chain(s->chain[4], &h);
    frame_head_encode(&h, head);
    buf_add(&b, span_of(head, sizeof(head)));
    buf_add(&b, buf_span(&payload));
    put(s, s->at[5], &b);
}

static void
damage_in_3(struct scene *s)
{
    put_byte(s, s->at[3] + 80, 0);
}

static void
damage_in_header_of_2(struct scene *s)
{
    put_byte(s, s->at[2] + 30, 0xff);
}

static void
damage_in_4(struct scene *s)
{
    put_byte(s, s->at[4] + 80, 0);
}

static void
damage_in_4_with_heartbeat(struct scene *s)
{
    good_heartbeat(s);
    damage_in_4(s);
}

static void
file_ends_in_4(struct scene *s)
{
    truncate_at(s, SEGMENT, s->at[4] + 70);
}

static void
file_ends_behind_4(struct scene *s)
{
    truncate_at(s, SEGMENT, s->at[5]);
}

static void
file_is_empty(struct scene *s)
{
    truncate_at(s, SEGMENT, 0);
}

static void
file_ends_in_its_header(struct scene *s)
{
    truncate_at(s, SEGMENT, 100);
}

static void
damage_in_segment_header(struct scene *s)
{
    put_byte(s, 50, 0xff);
}

static void
newer_frame(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    frame_5(s, &b);
    b.p[20] = FRAME_VERSION + 1;
    uint64_t sum = XXH3_64bits(b.p + 8, FRAME_HEADER_BYTES - 8);
    for (unsigned i = 0; i < 4; i++)
        b.p[4 + i] = (uint8_t)(sum >> (8 * i));
    put(s, s->at[5], &b);
}

static void
newer_frame_behind_a_hole(struct scene *s)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    frame_5(s, &b);
    b.p[20] = FRAME_VERSION + 1;
    uint64_t sum = XXH3_64bits(b.p + 8, FRAME_HEADER_BYTES - 8);
    for (unsigned i = 0; i < 4; i++)
        b.p[4 + i] = (uint8_t)(sum >> (8 * i));
    put(s, s->at[5] + 1024, &b);
}

static void
rewrite_segment_header(struct scene *s, uint8_t version, const char *cluster,
                       uint64_t number)
{
    uint8_t block[SEGMENT_HEADER_BYTES];
    struct segment_head h = {.number = number, .first_lsn = 1};
    memcpy(h.cluster.b, cluster, strlen(cluster));
    segment_head_encode(&h, block);
    block[8] = version;
    uint64_t sum = XXH3_64bits(block, sizeof(block) - 8);
    for (unsigned i = 0; i < 8; i++)
        block[sizeof(block) - 8 + i] = (uint8_t)(sum >> (8 * i));
    logtest_write(s->env, SEGMENT, 0, span_of(block, sizeof(block)));
}

static void
newer_segment(struct scene *s)
{
    rewrite_segment_header(s, SEGMENT_VERSION + 1, "cluster-A", 1);
}

static void
other_cluster(struct scene *s)
{
    rewrite_segment_header(s, SEGMENT_VERSION, "cluster-B", 1);
}

static void
other_number(struct scene *s)
{
    rewrite_segment_header(s, SEGMENT_VERSION, "cluster-A", 2);
}

static const struct row {
    const char *name;
    void (*damage)(struct scene *s);
    enum errcode rc;
    lsn_t last; /* with ERR_OK */
    bool torn;  /* something is kept aside */
} rows[] = {
    {"zero tail", nothing, ERR_OK, 4, false},
    {"good frame", good_frame, ERR_OK, 5, false},
    {"good heartbeat", good_heartbeat, ERR_OK, 4, false},
    {"garbage", garbage, ERR_OK, 4, true},
    {"garbage behind zeros", garbage_behind_zeros, ERR_OK, 4, true},
    {"half header", half_header, ERR_OK, 4, true},
    {"half payload", half_payload, ERR_OK, 4, true},
    {"header lost, payload there", header_lost, ERR_OK, 4, true},
    {"bit in header", bit_in_header, ERR_OK, 4, true},
    {"bit in magic", bit_in_magic, ERR_OK, 4, true},
    {"bit in payload", bit_in_payload, ERR_OK, 4, true},
    {"padding not zero", padding_not_zero, ERR_OK, 4, true},
    {"records do not fill", records_do_not_fill, ERR_OK, 4, true},
    {"payload past the file", payload_past_the_file, ERR_OK, 4, true},
    {"other chain", other_chain, ERR_OK, 4, true},
    {"LSN again", lsn_again, ERR_OK, 4, true},
    {"LSN left out", lsn_left_out, ERR_OK, 4, true},
    {"LSN left out that was durable", lsn_left_out_that_was_durable,
     ERR_CORRUPT, 0, false},
    {"older epoch", older_epoch, ERR_OK, 4, true},
    {"heartbeat of another chain", heartbeat_of_another_chain, ERR_OK, 4, true},
    {"heartbeat of another LSN", heartbeat_of_another_lsn, ERR_OK, 4, true},
    {"frame behind a hole", frame_behind_a_hole, ERR_OK, 4, true},
    {"frame behind a hole says durable", frame_behind_a_hole_says_durable,
     ERR_CORRUPT, 0, false},
    {"frame far behind says durable", frame_far_behind_says_durable,
     ERR_CORRUPT, 0, false},
    {"heartbeat behind a hole says durable",
     heartbeat_behind_a_hole_says_durable, ERR_CORRUPT, 0, false},
    {"impossible frame says durable", impossible_frame_says_durable, ERR_OK, 4,
     true},
    {"frame in a torn payload", frame_in_a_torn_payload, ERR_OK, 4, true},
    {"damage in 3", damage_in_3, ERR_CORRUPT, 0, false},
    {"damage in header of 2", damage_in_header_of_2, ERR_CORRUPT, 0, false},
    {"damage in 4, unproven", damage_in_4, ERR_OK, 3, true},
    {"damage in 4, heartbeat", damage_in_4_with_heartbeat, ERR_CORRUPT, 0,
     false},
    {"file ends in 4", file_ends_in_4, ERR_OK, 3, true},
    {"file ends behind 4", file_ends_behind_4, ERR_OK, 4, false},
    {"file is empty", file_is_empty, ERR_CORRUPT, 0, false},
    {"file ends in its header", file_ends_in_its_header, ERR_CORRUPT, 0, false},
    {"damage in segment header", damage_in_segment_header, ERR_CORRUPT, 0,
     false},
    {"newer frame", newer_frame, ERR_VERSION, 0, false},
    {"newer frame behind a hole", newer_frame_behind_a_hole, ERR_VERSION, 0,
     false},
    {"newer segment", newer_segment, ERR_VERSION, 0, false},
    {"other cluster", other_cluster, ERR_HISTORY, 0, false},
    {"other number", other_number, ERR_CORRUPT, 0, false},
};

static void
make_scene(struct scene *s)
{
    struct synclog_recovery found;

    s->sim = env_sim_new(NULL);
    s->env = env_sim_env(s->sim);
    struct synclog *log = logtest_open(s->env, LOGTEST_DIR, &found);
    s->at[1] = SEGMENT_HEADER_BYTES;
    for (unsigned i = 1; i <= 4; i++) {
        logtest_append(log, 2, 1, BODY);
        logtest_sync(log);
        synclog_durable(log, &s->chain[i]);
        s->at[i + 1] = s->at[i] + 176;
    }
    synclog_close(&log);
}

/* All files of the log but the lock and the mark. */
static void
snapshot(const struct scene *s, struct buf *ret)
{
    AUTO(buf_free) struct buf names = BUF_INIT;
    struct error err = {0};

    assert_int_equal(env_list(s->env, LOGTEST_DIR, &names, &err), ERR_OK);
    for (size_t at = 0; at < names.n;) {
        const char *name = (const char *)names.p + at;
        char path[256];
        at += strlen(name) + 1;
        if (strcmp(name, "lock") == 0 || strcmp(name, "mark") == 0)
            continue;
        snprintf(path, sizeof(path), LOGTEST_DIR "/%s", name);
        buf_add_str(ret, name);
        assert_int_equal(env_read_file(s->env, path, 1 << 20, ret, &err),
                         ERR_OK);
    }
}

/* What was cut is in the file that recovery names, as it lay there. */
static void
check_torn(const struct scene *s, const struct synclog_recovery *found,
           struct span before)
{
    AUTO(buf_free) struct buf kept = BUF_INIT;
    struct error err = {0};

    assert_true(found->torn_bytes > 0);
    if (env_read_file(s->env, found->torn_path, 1 << 20, &kept, &err) != ERR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(kept.n, found->torn_bytes);
    assert_true(span_find(before, buf_span(&kept)) >= 0);
}

static void
test_row(void **state)
{
    const struct row *row = *state;
    const struct synclog_config cfg = logtest_config(LOGTEST_DIR);
    AUTO(buf_free) struct buf before = BUF_INIT;
    AUTO(buf_free) struct buf after = BUF_INIT;
    struct scene s = {0};
    struct synclog *log = NULL;
    struct synclog_recovery found = {0};
    struct error err = {0};
    uint64_t torn = 0;

    make_scene(&s);
    row->damage(&s);
    snapshot(&s, &before);
    enum errcode seen =
        synclog_verify(s.env, LOGTEST_DIR, NULL, NULL, &found, &torn, &err);
    /* Whose log it is, is not the question of verify. */
    assert_int_equal(seen, row->rc == ERR_HISTORY ? ERR_OK : row->rc);
    enum errcode rc = synclog_open(s.env, &cfg, &log, &found, &err);
    assert_int_equal(rc, row->rc);
    if (rc != ERR_OK) {
        assert_null(log);
        snapshot(&s, &after);
        assert_true(span_eq(buf_span(&before), buf_span(&after)));
        if (rc == ERR_CORRUPT) /* it says where */
            assert_non_null(strstr(err.text, "segment "));
        env_sim_free(&s.sim);
        return;
    }
    assert_int_equal(found.last.lsn, row->last);
    assert_int_equal(torn > 0, row->torn);
    assert_int_equal(found.torn_bytes, torn);
    if (row->torn)
        check_torn(&s, &found, buf_span(&before));

    /* It goes on from there, and what was torn never comes back. */
    logtest_append(log, 3, 2, 50);
    logtest_sync(log);
    synclog_close(&log);
    env_sim_crash(s.sim, 1);
    log = logtest_open(s.env, LOGTEST_DIR, &found);
    assert_int_equal(found.last.lsn, row->last + 2);
    assert_int_equal(found.torn_bytes, 0);
    lsn_t last = 0;
    if (synclog_verify(s.env, LOGTEST_DIR, logtest_each, &last, &found, &torn,
                       &err) != ERR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(last, row->last + 2);
    synclog_close(&log);
    env_sim_free(&s.sim);
}

/* Several segments, synced to the end. */
static lsn_t
make_segments(struct env *env)
{
    struct synclog_recovery found;
    struct synclog *log = logtest_open(env, LOGTEST_DIR, &found);
    for (unsigned i = 0; i < 60; i++) {
        logtest_append(log, 1, 1, 1500);
        logtest_sync(log);
    }
    lsn_t last = synclog_durable(log, NULL).lsn;
    synclog_close(&log);
    return last;
}

static void
test_missing_segment_is_damage(void **state)
{
    (void)state;
    struct env_sim *sim = env_sim_new(NULL);
    struct env *env = env_sim_env(sim);
    const struct synclog_config cfg = logtest_config(LOGTEST_DIR);
    struct synclog *log = NULL;
    struct synclog_recovery found;
    struct error err = {0};
    make_segments(env);
    assert_int_equal(
        env_unlink(env, LOGTEST_DIR "/seg-0000000000000002.plx", &err), ERR_OK);
    assert_int_equal(synclog_open(env, &cfg, &log, &found, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.text, "segment 2 "));
    env_sim_free(&sim);
}

/* Oldest first is how segments go; that is no damage. */
static void
test_missing_first_segment_is_a_trimmed_log(void **state)
{
    (void)state;
    struct env_sim *sim = env_sim_new(NULL);
    struct env *env = env_sim_env(sim);
    struct synclog_recovery found;
    struct error err = {0};
    lsn_t last = make_segments(env);
    assert_int_equal(
        env_unlink(env, LOGTEST_DIR "/seg-0000000000000001.plx", &err), ERR_OK);
    struct synclog *log = logtest_open(env, LOGTEST_DIR, &found);
    assert_int_equal(found.last.lsn, last);
    assert_true(found.first_lsn > 1);
    synclog_close(&log);
    env_sim_free(&sim);
}

/* A finished segment is proven by the header of the next one. */
static void
test_damage_in_a_finished_segment_is_found_by_verify(void **state)
{
    (void)state;
    struct env_sim *sim = env_sim_new(NULL);
    struct env *env = env_sim_env(sim);
    struct synclog_recovery found;
    struct error err = {0};
    uint64_t torn;
    make_segments(env);
    assert_true(env_sim_flip_bit(sim, LOGTEST_DIR "/seg-0000000000000002.plx",
                                 20000, 3));
    assert_int_equal(
        synclog_verify(env, LOGTEST_DIR, NULL, NULL, &found, &torn, &err),
        ERR_CORRUPT);
    assert_non_null(strstr(err.text, "segment 2, offset "));
    env_sim_free(&sim);
}

static void
test_no_log_is_not_found(void **state)
{
    (void)state;
    struct env_sim *sim = env_sim_new(NULL);
    struct synclog_recovery found;
    struct error err = {0};
    uint64_t torn;
    assert_int_equal(synclog_verify(env_sim_env(sim), LOGTEST_DIR, NULL, NULL,
                                    &found, &torn, &err),
                     ERR_NOTFOUND);
    env_sim_free(&sim);
}

/* Bit by bit: whatever turns over in a log that a heartbeat proves is found. */
static void
test_any_bit_turned_over_in_a_proven_log_is_damage(void **state)
{
    (void)state;
    struct scene s = {0};
    make_scene(&s);
    good_heartbeat(&s);
    for (uint64_t at = s.at[1]; at < s.at[5]; at++) {
        struct synclog_recovery found;
        struct error err = {0};
        uint64_t torn;
        assert_true(env_sim_flip_bit(s.sim, SEGMENT, at, at % 8));
        assert_int_equal(
            synclog_verify(s.env, LOGTEST_DIR, NULL, NULL, &found, &torn, &err),
            ERR_CORRUPT);
        assert_true(env_sim_flip_bit(s.sim, SEGMENT, at, at % 8));
    }
    env_sim_free(&s.sim);
}

int
main(void)
{
    const struct CMUnitTest others[] = {
        cmocka_unit_test(test_missing_segment_is_damage),
        cmocka_unit_test(test_missing_first_segment_is_a_trimmed_log),
        cmocka_unit_test(test_damage_in_a_finished_segment_is_found_by_verify),
        cmocka_unit_test(test_no_log_is_not_found),
        cmocka_unit_test(test_any_bit_turned_over_in_a_proven_log_is_damage),
    };
    struct CMUnitTest tests[ARRAY_LEN(rows)];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        tests[i] = (struct CMUnitTest){
            .name = rows[i].name,
            .test_func = test_row,
            .initial_state = (void *)(uintptr_t)&rows[i],
        };
    int failed =
        cmocka_run_group_tests_name("the end of a log", tests, NULL, NULL);
    return failed + cmocka_run_group_tests_name("segments", others, NULL, NULL);
}
