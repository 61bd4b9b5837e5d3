/*
 * The prefix property (I1, I2, I3): a machine loses power at any change of its
 * disk, hundreds of seeds; what is found again is the state after one of the
 * groups, at least the last one that was answered, whole; and the same that
 * replaying the whole log into an empty state gives.
 *
 * With a promise broken on purpose (store/mutants.h) the same runs must fail.
 *
 * POLLUX_SEEDS=n: how many cuts (60), and how many cut recoveries (a tenth).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/mutants.h"
#include "tests/lib/storetest.h"

#define HISTORY 400
#define SEEDS 60
#define MUTANT_SEEDS 250 /* the first that notices ends it */

static uint32_t seeds = SEEDS;

/* Digests by LSN, as they were seen. */
struct history {
    struct {
        lsn_t lsn;
        uint64_t digest;
    } v[HISTORY];
    size_t n;
};

static void
remember(struct history *h, struct teststore *ts)
{
    struct store_pos pos = store_pos(ts->store);
    if (h->n == HISTORY || (h->n > 0 && h->v[h->n - 1].lsn == pos.applied.lsn))
        return;
    h->v[h->n].lsn = pos.applied.lsn;
    h->v[h->n].digest = pos.digest;
    h->n++;
}

static int
on_nth_change(void *ctx, enum env_fault_kind kind, const char *path)
{
    (void)kind;
    (void)path;
    env_sim_halt(ctx);
    return 0;
}

/* Work until the power goes at the N-th change; what was answered last. */
static lsn_t
work_until_cut(struct teststore *ts, uint64_t *rng, uint64_t n,
               struct history *h)
{
    lsn_t acked = store_pos(ts->store).applied.lsn;

    env_fault_add(ts->fault, &(struct env_fault_rule){.kinds = FAULT_CHANGES,
                                                      .nth = n,
                                                      .action = FAULT_HOOK,
                                                      .hook = on_nth_change,
                                                      .hook_ctx = ts->sim});
    remember(h, ts);
    for (int i = 0; i < 60 && ts->fatal.code == ERR_OK; i++) {
        if (ts_random(rng, 12) == 0)
            env_sim_advance_us(ts->sim, 300000);
        if (ts_random(rng, 9) == 0) {
            struct error err;
            if (kv_flush(ts->kv, &err) != ERR_OK)
                break;
        }
        enum errcode rc = ts_random_txn(ts, rng);
        if (rc == ERR_OK) {
            acked = MAX(acked, ts->acked);
            remember(h, ts);
        }
    }
    return acked;
}

/* What a state rebuilt from nothing but the log is. */
static struct store_pos
replay_from_nothing(struct teststore *ts)
{
    struct kv_disk *kept = ts->disk;
    struct error err = {0};

    ts_close(ts);
    ts->disk = kv_disk_new();
    assert_int_equal(ts_open(ts, &err), ERR_OK);
    struct store_pos pos = store_pos(ts->store);
    ts_close(ts);
    kv_disk_free(&ts->disk);
    ts->disk = kept;
    assert_int_equal(ts_open(ts, &err), ERR_OK);
    return pos;
}

/* One history with one cut; what was wrong after it, or NULL. */
static const char *
one_cut(uint64_t seed, unsigned mutants)
{
    struct teststore ts;
    struct history *h = xcalloc(1, sizeof(*h));
    struct error err = {0};
    uint64_t rng = seed;
    const char *wrong = NULL;

    ts_new_master(&ts, seed, mutants);
    (void)ts_create(&ts, "user.ann");
    (void)ts_create(&ts, "user.bob");
    lsn_t acked = work_until_cut(&ts, &rng, 1 + ts_random(&rng, 110), h);
    ts_crash(&ts, seed * 7);
    ts.cfg.mutants = 0;
    if (ts_open(&ts, &err) != ERR_OK)
        wrong = "it does not open";
    struct store_pos pos = {0};
    if (wrong == NULL) {
        pos = store_pos(ts.store);
        if (pos.applied.lsn < acked)
            wrong = "what was answered is gone";
    }
    for (size_t i = 0; wrong == NULL && i < h->n; i++)
        if (h->v[i].lsn == pos.applied.lsn && h->v[i].digest != pos.digest)
            wrong = "another state at the same LSN";
    if (wrong == NULL) {
        struct store_snap *snap = store_snapshot(ts.store);
        if (snap_verify(snap, &err) != ERR_OK)
            wrong = "counters or digests are wrong";
        store_release(&snap);
    }
    if (wrong == NULL) {
        struct store_pos again = replay_from_nothing(&ts);
        if (again.applied.lsn != pos.applied.lsn ||
            again.digest != pos.digest || again.chain != pos.chain)
            wrong = "the log says something else";
    }
    ts_free(&ts);
    free(h);
    return wrong;
}

static void
test_power_cut_leaves_a_prefix_with_all_that_was_answered(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        const char *wrong = one_cut(seed, 0);
        if (wrong != NULL)
            fail_msg("seed %u: %s", (unsigned)seed, wrong);
    }
}

static void
must_be_caught(unsigned mutant)
{
    for (uint64_t seed = 1; seed <= MUTANT_SEEDS; seed++)
        if (one_cut(seed, mutant) != NULL)
            return;
    fail_msg("mutant %u was not noticed", mutant);
}

static void
test_mutant_ack_before_sync_is_caught(void **state)
{
    (void)state;
    must_be_caught(MUTANT_ACK_BEFORE_SYNC);
}

static void
test_mutant_show_before_sync_is_caught(void **state)
{
    (void)state;
    must_be_caught(MUTANT_SHOW_BEFORE_SYNC);
}

/* Recovery that is cut itself, again and again, changes nothing (I16). */
static void
test_recovery_cut_anywhere_is_harmless(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= MAX(seeds / 10, 6U); seed++) {
        struct teststore ts;
        uint64_t rng = seed;
        struct error err = {0};
        ts_new_master(&ts, seed, 0);
        (void)ts_create(&ts, "user.ann");
        for (int i = 0; i < 25; i++)
            (void)ts_random_txn(&ts, &rng);
        struct store_pos before = store_pos(ts.store);
        ts_crash(&ts, seed);
        for (uint64_t n = 1; n < 12; n++) {
            env_fault_add(ts.fault,
                          &(struct env_fault_rule){.kinds = FAULT_CHANGES,
                                                   .nth = n,
                                                   .action = FAULT_HOOK,
                                                   .hook = on_nth_change,
                                                   .hook_ctx = ts.sim});
            (void)ts_open(&ts, &err);
            ts_crash(&ts, seed + n);
        }
        assert_int_equal(ts_open(&ts, &err), ERR_OK);
        assert_int_equal(store_pos(ts.store).applied.lsn, before.applied.lsn);
        assert_int_equal(store_pos(ts.store).digest, before.digest);
        ts_verify(&ts);
        ts_free(&ts);
    }
}

static void
test_state_beyond_its_log_is_refused(void **state)
{
    struct teststore ts, other;
    struct error err = {0};

    (void)state;
    ts_new_master(&ts, 1, 0);
    (void)ts_create(&ts, "user.ann");
    ts_close(&ts);
    /* The log of a machine that has none. */
    ts_new(&other, 2, 0);
    ts_close(&other);
    struct kv_disk *mine = ts.disk;
    struct kv_disk *its = other.disk;
    other.disk = mine;
    assert_int_equal(ts_open(&other, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.text, "lost or exchanged"));
    other.disk = its;
    ts_free(&other);
    ts_free(&ts);
}

static void
test_another_clusters_state_is_refused(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ts_new_master(&ts, 1, 0);
    ts_close(&ts);
    ts.cfg.cluster = (struct instid){{9}};
    assert_int_equal(ts_open(&ts, &err), ERR_HISTORY);
    ts_free(&ts);
}

static void
test_log_of_another_chain_is_refused(void **state)
{
    struct teststore a, b;
    struct error err = {0};

    (void)state;
    ts_new_master(&a, 1, 0);
    ts_new_master(&b, 2, 0);
    (void)ts_create(&a, "user.ann");
    (void)ts_create(&b, "user.bob");
    (void)ts_create(&b, "user.ann");
    ts_close(&a);
    ts_close(&b);
    struct kv_disk *its = b.disk;
    b.disk = a.disk;
    assert_int_equal(ts_open(&b, &err), ERR_HISTORY);
    b.disk = its;
    ts_free(&a);
    ts_free(&b);
}

static void
test_failed_sync_stops_for_good(void **state)
{
    struct teststore ts;
    struct error err = {0};
    enum errcode rc;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    env_sim_fail_sync(ts.sim, 1, EIO);
    assert_int_equal(ts_append(&ts, id, 1, 100, &rc), 0);
    assert_int_equal(rc, ERR_IO);
    assert_int_equal(ts.fatal.code, ERR_IO);
    /* The next sync would succeed and save nothing: it is not tried. */
    assert_int_equal(ts_append(&ts, id, 2, 100, &rc), 0);
    assert_int_equal(rc, ERR_IO);
    ts_crash(&ts, 0);
    assert_int_equal(ts_open(&ts, &err), ERR_OK);
    ts_verify(&ts);
    ts_free(&ts);
}

/* The N-th change of the disk fails, for every n: nothing answered is lost,
 * whatever is left is whole, and a full disk stops nothing for good. */
static void
nth_change_fails(int sys_errno)
{
    bool reached = true;

    for (uint64_t n = 1; reached && n < 200; n++) {
        struct teststore ts;
        uint64_t rng = 99;
        struct error err = {0};
        ts_new_master(&ts, n, 0);
        (void)ts_create(&ts, "user.ann");
        env_fault_add(ts.fault,
                      &(struct env_fault_rule){.kinds = FAULT_CHANGES,
                                               .nth = n,
                                               .action = FAULT_FAIL,
                                               .sys_errno = sys_errno});
        for (int i = 0; i < 25; i++) {
            (void)ts_random_txn(&ts, &rng);
            env_sim_advance_us(ts.sim, 300000);
        }
        reached = env_fault_hits(ts.fault) > 0;
        lsn_t acked = ts.acked;
        if (ts.fatal.code == ERR_OK)
            ts_verify(&ts);
        ts_crash(&ts, n);
        assert_int_equal(ts_open(&ts, &err), ERR_OK);
        if (store_pos(ts.store).applied.lsn < acked)
            fail_msg("call %u: %u was answered, %u is there", (unsigned)n,
                     (unsigned)acked,
                     (unsigned)store_pos(ts.store).applied.lsn);
        ts_verify(&ts);
        ts_free(&ts);
    }
    assert_false(reached); /* all of them were tried */
}

static void
test_every_call_fails_once(void **state)
{
    (void)state;
    nth_change_fails(EIO);
    nth_change_fails(ENOSPC);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            test_power_cut_leaves_a_prefix_with_all_that_was_answered),
        cmocka_unit_test(test_mutant_ack_before_sync_is_caught),
        cmocka_unit_test(test_mutant_show_before_sync_is_caught),
        cmocka_unit_test(test_recovery_cut_anywhere_is_harmless),
        cmocka_unit_test(test_state_beyond_its_log_is_refused),
        cmocka_unit_test(test_another_clusters_state_is_refused),
        cmocka_unit_test(test_log_of_another_chain_is_refused),
        cmocka_unit_test(test_failed_sync_stops_for_good),
        cmocka_unit_test(test_every_call_fails_once),
    };
    const char *many = getenv("POLLUX_SEEDS");

    if (many != NULL && !parse_u32(span_str(many), &seeds))
        return 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
