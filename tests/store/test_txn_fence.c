/*
 * Who may write at all: the fence stops every transaction, a hold lets them
 * wait for it to go, and an instance that is not the master takes none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/mutants.h"
#include "tests/store/txntest.h"

/* Does anything come through while the fence is up? */
static bool
fence_leaks(unsigned mutants)
{
    struct teststore ts;
    enum errcode rc;

    ts_new_master(&ts, 1, mutants);
    mbid_t id = ts_create(&ts, "user.ann");
    struct store_pos before = store_pos(ts.store);
    put_file(&ts, "/be/shutdown");
    assert_true(store_check_fence(ts.store));
    (void)ts_append(&ts, id, 1, 100, &rc);
    const bool leaks =
        rc != ERR_FENCED || store_pos(ts.store).digest != before.digest;
    remove_file(&ts, "/be/shutdown");
    assert_false(store_check_fence(ts.store));
    if (!leaks)
        assert_int_equal(ts_append(&ts, id, 1, 100, NULL), 1);
    ts_verify(&ts);
    ts_free(&ts);
    return leaks;
}

static void
test_fence_stops_everything_and_lets_go(void **state)
{
    (void)state;
    assert_false(fence_leaks(0));
    assert_true(fence_leaks(MUTANT_IGNORE_FENCE));
}

static int
raise_fence(void *ctx, enum env_fault_kind kind, const char *path)
{
    (void)kind;
    put_file(ctx, path);
    return 0;
}

/* It is looked at when all that is left of a group is to write it: one that has
 * gone up by then stops it, whether it was known when the group was begun or
 * not. */
static void
test_fence_binds_the_group_under_way(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    enum errcode rc;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    struct store_pos before = store_pos(ts.store);
    env_fault_add(ts.fault, &(struct env_fault_rule){.kinds = FAULT_READ,
                                                     .nth = 1,
                                                     .path_part = "shutdown",
                                                     .action = FAULT_HOOK,
                                                     .hook = raise_fence,
                                                     .hook_ctx = &ts});
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(ts_append(&ts, id, 1, 100, &rc), 0);
        assert_int_equal(rc, ERR_FENCED);
        assert_int_equal(env_fault_hits(ts.fault), 1);
        assert_int_equal(ts_mailbox(&ts, id, &a).exists, 0);
        assert_int_equal(store_pos(ts.store).applied.lsn, before.applied.lsn);
    }
    remove_file(&ts, "/be/shutdown");
    assert_int_equal(ts_append(&ts, id, 1, 100, NULL), 1);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_hold_waits_for_the_fence_to_go(void **state)
{
    struct teststore ts;
    struct store_txn *done = NULL, *late = NULL;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    put_file(&ts, "/be/shutdown");
    store_hold(ts.store, 5000);
    struct store_txn *txn = txn_new();
    txn_set_recent(txn, id, 3);
    store_submit(ts.store, txn, on_done, &done);
    (void)store_step(ts.store);
    assert_null(done);
    remove_file(&ts, "/be/shutdown");
    (void)store_step(ts.store);
    assert_non_null(done);
    assert_int_equal(txn_code(done), ERR_OK);
    txn_free(&done);
    put_file(&ts, "/be/shutdown");
    txn = txn_new();
    txn_set_recent(txn, id, 4);
    store_submit(ts.store, txn, on_done, &late);
    (void)store_step(ts.store);
    assert_null(late);
    env_sim_advance_us(ts.sim, 6000000);
    (void)store_step(ts.store);
    assert_int_equal(txn_code(late), ERR_FENCED);
    txn_free(&late);
    ts_verify(&ts);
    ts_free(&ts);
}

static void
test_only_a_master_takes_transactions(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ts_new_master(&ts, 1, 0);
    store_set_role(ts.store, ROLE_REPLICA, 1);
    assert_int_equal(create(&ts, "user.ann"), ERR_READONLY);
    store_set_role(ts.store, ROLE_FENCED, 1);
    assert_int_equal(create(&ts, "user.ann"), ERR_FENCED);
    assert_int_equal(store_role(ts.store), ROLE_FENCED);
    store_set_role(ts.store, ROLE_MASTER, 1);
    assert_int_equal(store_begin_epoch(ts.store, 1, 0, "again", &err),
                     ERR_HISTORY);
    assert_int_equal(store_begin_epoch(ts.store, 5, 0, "not ours", &err),
                     ERR_HISTORY);
    assert_int_equal(create(&ts, "user.ann"), ERR_OK);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fence_stops_everything_and_lets_go),
        cmocka_unit_test(test_fence_binds_the_group_under_way),
        cmocka_unit_test(test_hold_waits_for_the_fence_to_go),
        cmocka_unit_test(test_only_a_master_takes_transactions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
