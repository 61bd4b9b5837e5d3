/*
 * A full disk refuses transactions and heals: the log's, which takes nothing,
 * and the state's, which gets later what the log has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/store/txntest.h"

static void
test_full_disk_refuses_and_heals(void **state)
{
    struct teststore ts;
    enum errcode rc = ERR_OK;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    env_sim_set_disk_bytes(ts.sim, 1);
    unsigned stored = 0;
    for (uint64_t i = 0; i < 30 && rc == ERR_OK; i++)
        stored += ts_append(&ts, id, i, 300000, &rc) != 0;
    assert_int_equal(rc, ERR_NOSPACE);
    assert_int_equal(ts.fatal.code, ERR_OK);
    struct arena a = ARENA_INIT;
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, stored);
    env_sim_set_disk_bytes(ts.sim, 0);
    assert_int_equal(ts_append(&ts, id, 77, 300000, NULL), stored + 1);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_full_state_disk_keeps_what_the_log_has(void **state)
{
    struct teststore ts;
    struct store_txn *done = NULL, *other = NULL;
    struct arena a = ARENA_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    kv_mem_fail(ts.kv, ERR_NOSPACE);
    struct store_txn *txn = txn_new();
    txn_set_recent(txn, id, 3);
    store_submit(ts.store, txn, on_done, &done);
    (void)store_step(ts.store);
    assert_null(done); /* durable, not visible: not answered */
    assert_int_equal(ts_mailbox(&ts, id, &a).recent_uid, 0);
    txn = txn_new();
    txn_set_recent(txn, id, 9);
    store_submit(ts.store, txn, on_done, &other);
    (void)store_step(ts.store);
    assert_int_equal(txn_code(other), ERR_NOSPACE);
    txn_free(&other);
    kv_mem_fail(ts.kv, ERR_OK);
    env_sim_advance_us(ts.sim, 1000000);
    (void)store_step(ts.store);
    assert_non_null(done);
    assert_int_equal(txn_code(done), ERR_OK);
    txn_free(&done);
    assert_int_equal(ts_mailbox(&ts, id, &a).recent_uid, 3);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_disk_refuses_and_heals),
        cmocka_unit_test(test_full_state_disk_keeps_what_the_log_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
