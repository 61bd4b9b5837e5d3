/*
 * Epochs: nothing is written in one before it has begun, a promotion gives out
 * no UID a second time, and readers are told of it ahead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/epochs.h"
#include "store/mutants.h"
#include "tests/store/txntest.h"

static void
test_epoch_has_to_begin_before_it_is_written_in(void **state)
{
    struct teststore ts;

    (void)state;
    ts_new_master(&ts, 1, 0);
    store_set_role(ts.store, ROLE_MASTER, 2);
    assert_int_equal(create(&ts, "user.ann"), ERR_READONLY);
    ts_free(&ts);
    ts_new_master(&ts, 1, MUTANT_IGNORE_EPOCH);
    store_set_role(ts.store, ROLE_MASTER, 2);
    assert_int_equal(create(&ts, "user.ann"), ERR_OK); /* noticed */
    ts_free(&ts);
}

/* The first UID that a promoted replica gives out. */
static uint32_t
uid_after_promotion(unsigned mutants)
{
    struct teststore ma, re;
    struct error err = {0};
    struct arena a = ARENA_INIT;

    ts_new_master(&ma, 1, 0);
    ts_new(&re, 2, mutants);
    mbid_t id = ts_create(&ma, "user.ann");
    (void)ts_append(&ma, id, 1, 100, NULL);
    assert_int_equal(ts_ship(&ma, &re, 1 << 20), ERR_OK);
    uint32_t lost = ts_append(&ma, id, 2, 100, NULL); /* never shipped */
    assert_int_equal(lost, 2);
    store_set_role(re.store, ROLE_MASTER, 2);
    assert_int_equal(store_begin_epoch(re.store, 2, 1000, "promote", &err),
                     ERR_OK);
    uint32_t uid = ts_append(&re, id, 3, 100, NULL);
    assert_int_equal(ts_append(&re, id, 4, 100, NULL), uid + 1);
    struct mailbox mb = ts_mailbox(&re, id, &a);
    assert_int_equal(mb.uid_epoch, 2);
    uint32_t fresh =
        ts_mailbox(&re, ts_create(&re, "user.bob"), &a).uidvalidity;
    assert_true(fresh > mb.uidvalidity + 4096);
    struct store_snap *snap = store_snapshot(re.store);
    const struct epoch_entry *epochs;
    size_t n;
    assert_int_equal(snap_epochs(snap, &a, &epochs, &n, &err), ERR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(epochs[1].fork_lsn, 3);
    assert_int_equal(epochs[1].uid_headroom, 1000);
    store_release(&snap);
    /* The old master's tail does not fit the new history. */
    store_set_role(ma.store, ROLE_REPLICA, 1);
    ts_verify(&re);
    arena_free(&a);
    ts_free(&ma);
    ts_free(&re);
    return uid;
}

static void
test_promotion_gives_out_no_uid_twice(void **state)
{
    (void)state;
    assert_int_equal(uid_after_promotion(0), 1002);
    assert_int_equal(uid_after_promotion(MUTANT_NO_HEADROOM), 2); /* noticed */
}

/*
 * Two lines of history part at epoch 1 and do not know of each other: on one of
 * them the epochs 2 and 3 are planned swaps, on the other 4 is a promotion.
 * Then the first is promoted, to 5: beyond what the second has told.
 */
static void
test_swaps_on_another_line_count_for_the_jump_of_uids(void **state)
{
    struct teststore a, b;
    struct error err = {0};
    struct arena arena = ARENA_INIT;

    (void)state;
    ts_new_master(&a, 1, 0);
    ts_new(&b, 2, 0);
    mbid_t id = ts_create(&a, "user.ann");
    (void)ts_append(&a, id, 1, 100, NULL);
    assert_int_equal(ts_ship(&a, &b, 1 << 20), ERR_OK);

    store_set_role(b.store, ROLE_MASTER, 4);
    assert_int_equal(store_begin_epoch(b.store, 4, 1000, "promote", &err),
                     ERR_OK);
    assert_int_equal(ts_mailbox(&b, id, &arena).uidnext, 3002);
    assert_int_equal(ts_append(&b, id, 2, 100, NULL), 3002);
    const uint32_t validity =
        ts_mailbox(&b, ts_create(&b, "user.bob"), &arena).uidvalidity;

    for (epoch_t epoch = 2; epoch <= 3; epoch++) {
        store_set_role(a.store, ROLE_MASTER, epoch);
        assert_int_equal(store_begin_epoch(a.store, epoch, 0, "swap", &err),
                         ERR_OK);
        assert_int_equal(ts_append(&a, id, 1, 100, NULL), epoch);
    }
    store_set_role(a.store, ROLE_MASTER, 5);
    assert_int_equal(store_begin_epoch(a.store, 5, 1000, "promote", &err),
                     ERR_OK);
    assert_int_equal(ts_mailbox(&a, id, &arena).uidnext, 4004);
    assert_int_equal(ts_append(&a, id, 3, 100, NULL), 4004);
    assert_int_equal(ts_append(&a, id, 3, 100, NULL), 4005);
    assert_true(ts_mailbox(&a, ts_create(&a, "user.bob"), &arena).uidvalidity >
                validity);
    /* Once is enough. */
    store_set_role(a.store, ROLE_MASTER, 6);
    assert_int_equal(store_begin_epoch(a.store, 6, 0, "swap", &err), ERR_OK);
    assert_int_equal(ts_append(&a, id, 3, 100, NULL), 4006);
    store_set_role(a.store, ROLE_MASTER, 7);
    assert_int_equal(store_begin_epoch(a.store, 7, 1000, "promote", &err),
                     ERR_OK);
    assert_int_equal(ts_append(&a, id, 3, 100, NULL), 6007);
    ts_verify(&a);
    arena_free(&arena);
    ts_free(&a);
    ts_free(&b);
}

/* What a client is answered from that says it knows all up to MODSEQ. */
static modseq_t
living(struct teststore *ts, modseq_t modseq)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct error err = {0};
    modseq_t from = 0;

    assert_int_equal(snap_living_modseq(snap, modseq, &from, &err), ERR_OK);
    store_release(&snap);
    return from;
}

/* Of epoch 1, which ended at LSN, one record more was promised elsewhere. */
static void
check_living(struct teststore *ts, lsn_t lsn)
{
    assert_true(living(ts, modseq_of(1, lsn)) == modseq_of(1, lsn));
    assert_true(living(ts, modseq_of(1, lsn + 1)) == 1);
    assert_true(living(ts, modseq_of(2, lsn + 1)) == modseq_of(2, lsn + 1));
    assert_true(living(ts, modseq_of(3, lsn)) == 1);
    assert_true(living(ts, 7) == 7); /* given by a peer, with its message */
}

/* From the moment at which this is the master its readers are told what they
 * are told once its epoch has begun. */
static void
test_epoch_that_is_about_to_begin_is_told_ahead(void **state)
{
    struct teststore ts;
    struct error err = {0};
    struct arena a = ARENA_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    assert_int_equal(ts_append(&ts, id, 1, 100, NULL), 1);
    const lsn_t fork = store_pos(ts.store).applied.lsn;
    store_plan_epoch(ts.store, 2, 1000, "promote", false);
    store_set_role(ts.store, ROLE_MASTER, 2);
    (void)store_step(ts.store);
    assert_int_equal(create(&ts, "user.bob"), ERR_READONLY);
    struct mailbox before = ts_mailbox(&ts, id, &a);
    assert_int_equal(before.uidnext, 1002);
    assert_int_equal(modseq_epoch(before.highestmodseq), 2);
    check_living(&ts, fork);
    assert_int_equal(store_begin_epoch(ts.store, 2, 1000, "promote", &err),
                     ERR_OK);
    struct mailbox after = ts_mailbox(&ts, id, &a);
    assert_int_equal(after.uidnext, 1002);
    assert_true(after.highestmodseq == before.highestmodseq);
    check_living(&ts, fork);

    store_plan_epoch(ts.store, 3, 1000, "owed", true);
    store_set_role(ts.store, ROLE_MASTER, 3);
    (void)store_step(ts.store);
    assert_int_equal(create(&ts, "user.bob"), ERR_OK); /* begun by itself */
    assert_int_equal(ts_append(&ts, id, 1, 100, NULL), 2002);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epoch_has_to_begin_before_it_is_written_in),
        cmocka_unit_test(test_promotion_gives_out_no_uid_twice),
        cmocka_unit_test(test_swaps_on_another_line_count_for_the_jump_of_uids),
        cmocka_unit_test(test_epoch_that_is_about_to_begin_is_told_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
