/*
 * tests/synclog/test_crash.c - power cuts and failing calls.
 *
 * The machine is simulated and forgets what was not synced, in random pieces;
 * a seed decides everything and is printed on failure.  What has to hold: after
 * any cut all records that were synced are there, what is there is a prefix of
 * what was written, and the log goes on.  And whichever call fails, a log that
 * answered ERR_IO answers nothing else until it is opened again, and no synced
 * record is lost.
 */
#include "tests/synclog/logtest.h"

#include <errno.h>
#include <stdio.h>

#include "base/env_fault.h"
#include "base/env_sim.h"

#define SEEDS 300U
#define ROUNDS 4U

struct model {
    uint64_t random;
    unsigned long seed;
    lsn_t first;    /* oldest that has to be there */
    lsn_t synced;   /* acknowledged */
    lsn_t appended; /* written at most */
    epoch_t epoch;
};

static uint64_t
pick(struct model *m, uint64_t below)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return m->random % below;
}

/* Everything that answers ERR_IO once does so from then on (L3). */
static void
check_dead(struct synclog *log)
{
    struct error err = {0};
    struct synclog_place place;

    assert_int_equal(synclog_begin(log, 10, &place, &err), ERR_IO);
    assert_int_equal(synclog_append(log, 1, 1, SPAN_EMPTY, 1, &err), ERR_IO);
    assert_int_equal(synclog_append_frames(log, SPAN_EMPTY, &err), ERR_IO);
    assert_int_equal(synclog_sync(log, &err), ERR_IO);
    assert_int_equal(synclog_heartbeat(log, &err), ERR_IO);
    assert_non_null(strstr(err.text, "reopened"));
}

/* What is there is what was written, all of it, and nothing but. */
static void
check_content(struct env *env, struct model *m,
              const struct synclog_recovery *found)
{
    struct synclog_recovery seen;
    struct error err = {0};
    uint64_t torn = 1;

    if (found->last.lsn < m->synced || found->last.lsn > m->appended)
        fail_msg("seed %lu: synced %" PRI_LSN ", written %" PRI_LSN
                 ", found %" PRI_LSN,
                 m->seed, m->synced, m->appended, found->last.lsn);
    lsn_t last =
        found->first_lsn == LSN_NONE ? found->last.lsn : found->first_lsn - 1;
    if (synclog_verify(env, LOGTEST_DIR, logtest_each, &last, &seen, &torn,
                       &err) != ERR_OK)
        fail_msg("seed %lu: %s", m->seed, err.text);
    assert_int_equal(torn, 0);
    assert_true(last == found->last.lsn && seen.last.lsn == last);
    assert_true(seen.chain == found->chain);
    if (found->last.lsn >= m->first)
        assert_true(found->first_lsn <= m->first);
}

static enum errcode
one_step(struct synclog *log, struct model *m, struct error *err)
{
    const uint64_t what = pick(m, 12);
    unsigned removed = 0;
    enum errcode rc = ERR_OK;

    if (what < 6) {
        unsigned n = (unsigned)pick(m, 4) + 1;
        if (pick(m, 10) == 0)
            m->epoch++;
        m->appended += n; /* even if it fails: it may be there */
        rc = logtest_try_append(log, m->epoch, n, pick(m, 1500) + 1, err);
    } else if (what < 10) {
        rc = synclog_sync(log, err);
        if (rc == ERR_OK)
            m->synced = m->appended;
    } else if (what == 10) {
        rc = synclog_heartbeat(log, err);
    } else {
        m->first = m->synced > 20 ? m->synced - 20 : 1;
        rc = synclog_trim(log, m->first, &removed, err);
    }
    return rc;
}

/*
 * Recover with the power going a second time after some calls, then for good.
 */
static struct synclog *
reopen(struct env_sim *sim, struct model *m, struct synclog_recovery *found)
{
    const struct synclog_config cfg = logtest_config(LOGTEST_DIR);
    struct env_fault *fault = env_fault_new(env_sim_env(sim));
    struct synclog *log = NULL;
    struct error err = {0};

    env_fault_add(fault, &(struct env_fault_rule){
                             .kinds = FAULT_ANY,
                             .nth = pick(m, 40) + 1,
                             .from_then_on = true,
                             .action = pick(m, 2) ? FAULT_FAIL : FAULT_TORN,
                             .sys_errno = EIO});
    enum errcode rc =
        synclog_open(env_fault_env(fault), &cfg, &log, found, &err);
    synclog_close(&log);
    env_fault_free(&fault);
    if (rc == ERR_CORRUPT || rc == ERR_HISTORY || rc == ERR_VERSION)
        fail_msg("seed %lu: %s", m->seed, err.text);
    env_sim_crash(sim, pick(m, UINT32_MAX));
    rc = synclog_open(env_sim_env(sim), &cfg, &log, found, &err);
    if (rc != ERR_OK)
        fail_msg("seed %lu: %s", m->seed, err.text);
    return log;
}

static void
run_seed(unsigned long seed)
{
    struct env_sim *sim = env_sim_new(&(struct env_sim_options){.seed = seed});
    struct model m = {.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1,
                      .seed = seed,
                      .first = 1,
                      .epoch = 1};
    struct synclog_recovery found;
    struct synclog *log = logtest_open(env_sim_env(sim), LOGTEST_DIR, &found);

    for (unsigned round = 0; round < ROUNDS; round++) {
        struct error err = {0};
        const uint64_t steps = pick(&m, 60);
        enum errcode rc = ERR_OK;
        if (pick(&m, 3) == 0)
            env_sim_fail_sync(sim, (unsigned)pick(&m, 12) + 1, EIO);
        for (uint64_t i = 0; i < steps && rc == ERR_OK; i++)
            rc = one_step(log, &m, &err);
        if (rc == ERR_IO && strstr(err.text, "trim") == NULL)
            check_dead(log);
        env_sim_fail_sync(sim, 0, 0);
        synclog_close(&log);
        /* A dead process, or a dead machine. */
        if (pick(&m, 3) > 0)
            env_sim_crash(sim, pick(&m, UINT32_MAX));
        log = reopen(sim, &m, &found);
        check_content(env_sim_env(sim), &m, &found);
        m.appended = m.synced = found.last.lsn;
        if (found.last.epoch > 0)
            m.epoch = found.last.epoch;
        /* What recovery called durable is, even if the power goes now. */
        if (pick(&m, 2) == 0) {
            synclog_close(&log);
            env_sim_crash(sim, pick(&m, UINT32_MAX));
            log = logtest_open(env_sim_env(sim), LOGTEST_DIR, &found);
            check_content(env_sim_env(sim), &m, &found);
        }
    }
    synclog_close(&log);
    env_sim_free(&sim);
}

static void
test_power_cut_loses_nothing_that_was_synced(void **state)
{
    (void)state;
    for (unsigned long seed = 1; seed <= SEEDS; seed++)
        run_seed(seed);
}

/*
 * The page cache shows a frame whose sync failed, and no later sync would write
 * it: recovery calls it durable only after writing it again.
 */
static void
test_frame_whose_sync_failed_is_written_again(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct env_sim *sim = env_sim_new(NULL);
        struct synclog_recovery found;
        struct error err = {0};
        struct synclog *log =
            logtest_open(env_sim_env(sim), LOGTEST_DIR, &found);
        logtest_append(log, 1, 1, 700);
        logtest_sync(log);
        logtest_append(log, 1, 3, 700);
        env_sim_fail_sync(sim, 1, EIO);
        assert_int_equal(synclog_sync(log, &err), ERR_IO);
        assert_int_equal(err.sys_errno, EIO);
        assert_int_equal(synclog_durable(log, NULL).lsn, 1);
        check_dead(log);
        synclog_close(&log);

        log = logtest_open(env_sim_env(sim), LOGTEST_DIR, &found);
        assert_int_equal(found.last.lsn, 4);
        synclog_close(&log);
        env_sim_crash(sim, seed);
        log = logtest_open(env_sim_env(sim), LOGTEST_DIR, &found);
        assert_int_equal(found.last.lsn, 4);
        synclog_close(&log);
        env_sim_free(&sim);
    }
}

/* A few groups over several segments; ends at the first failure. */
static void
scenario(struct env *env, struct model *m)
{
    const struct synclog_config cfg = logtest_config(LOGTEST_DIR);
    struct synclog_recovery found;
    struct synclog *log = NULL;
    struct error err = {0};
    unsigned removed;

    if (synclog_open(env, &cfg, &log, &found, &err) != ERR_OK) {
        assert_null(log);
        assert_true(err.text[0] != '\0');
        return;
    }
    for (unsigned i = 0; i < 12; i++) {
        /* Every fourth is written in two pieces. */
        m->appended += 2;
        enum errcode rc =
            logtest_try_append(log, 1, 2, i % 4 == 3 ? 140000 : 5000, &err);
        if (rc == ERR_OK)
            rc = synclog_sync(log, &err);
        if (rc == ERR_OK)
            m->synced = m->appended;
        if (rc == ERR_OK && i % 3 == 0)
            rc = synclog_heartbeat(log, &err);
        if (rc != ERR_OK) {
            if (rc == ERR_IO)
                check_dead(log);
            else
                assert_int_equal(rc, ERR_NOSPACE);
            break;
        }
    }
    if (synclog_trim(log, 8, &removed, &err) == ERR_OK)
        m->first = 8;
    synclog_close(&log);
}

/* The scenario with its N-th call failing; false when there are not so many. */
static bool
run_failing(uint64_t n, enum env_fault_action action, int sys_errno)
{
    struct env_sim *sim = env_sim_new(NULL);
    struct env_fault *fault = env_fault_new(env_sim_env(sim));
    struct model m = {.seed = n, .first = 8};
    struct synclog_recovery found;

    env_fault_add(fault, &(struct env_fault_rule){.kinds = FAULT_ANY,
                                                  .nth = n,
                                                  .action = action,
                                                  .sys_errno = sys_errno});
    scenario(env_fault_env(fault), &m);
    bool hit = env_fault_hits(fault) > 0;
    env_fault_free(&fault);
    if (n % 2 == 0)
        env_sim_crash(sim, n);
    struct synclog *log = logtest_open(env_sim_env(sim), LOGTEST_DIR, &found);
    check_content(env_sim_env(sim), &m, &found);
    logtest_append(log, 1, 1, 10);
    logtest_sync(log);
    synclog_close(&log);
    env_sim_free(&sim);
    return hit;
}

static void
test_any_call_failing_leaves_a_log_that_recovers(void **state)
{
    (void)state;
    static const struct {
        enum env_fault_action action;
        int sys_errno;
    } how[] = {
        {FAULT_FAIL, EIO},    {FAULT_LATE, EIO}, {FAULT_TORN, EIO},
        {FAULT_FAIL, ENOSPC}, {FAULT_SHORT, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(how); i++) {
        uint64_t n = 1;
        while (run_failing(n, how[i].action, how[i].sys_errno))
            n++;
        assert_true(n > 100 || how[i].action == FAULT_SHORT);
    }
}

static void
test_full_disk_refuses_and_heals(void **state)
{
    (void)state;
    struct env_sim *sim = env_sim_new(NULL);
    struct synclog_recovery found;
    struct error err = {0};
    struct synclog *log = logtest_open(env_sim_env(sim), LOGTEST_DIR, &found);
    logtest_append(log, 1, 1, 10000);
    logtest_sync(log);
    env_sim_set_disk_bytes(sim, env_sim_used_bytes(sim));
    enum errcode rc = ERR_OK;
    lsn_t last = 1;
    for (unsigned i = 0; i < 10 && rc == ERR_OK; i++) {
        rc = logtest_try_append(log, 1, 1, 8000, &err);
        if (rc == ERR_OK) {
            logtest_sync(log);
            last++;
        }
    }
    assert_int_equal(rc, ERR_NOSPACE);
    assert_int_equal(logtest_try_append(log, 1, 1, 30000, &err), ERR_NOSPACE);
    assert_int_equal(synclog_durable(log, NULL).lsn, last);
    env_sim_set_disk_bytes(sim, 0);
    logtest_append(log, 1, 1, 30000);
    logtest_sync(log);
    assert_int_equal(synclog_durable(log, NULL).lsn, last + 1);
    synclog_close(&log);

    /* Opening a log on a full disk works too; writing waits for room. */
    env_sim_set_disk_bytes(sim, 1);
    log = logtest_open(env_sim_env(sim), LOGTEST_DIR, &found);
    assert_int_equal(found.last.lsn, last + 1);
    assert_int_equal(logtest_try_append(log, 1, 1, 30000, &err), ERR_NOSPACE);
    env_sim_set_disk_bytes(sim, 0);
    logtest_append(log, 1, 1, 30000);
    logtest_sync(log);
    synclog_close(&log);
    env_sim_free(&sim);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_cut_loses_nothing_that_was_synced),
        cmocka_unit_test(test_frame_whose_sync_failed_is_written_again),
        cmocka_unit_test(test_any_call_failing_leaves_a_log_that_recovers),
        cmocka_unit_test(test_full_disk_refuses_and_heals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
