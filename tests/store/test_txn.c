/*
 * Transactions as such: they are whole or nothing and do not spoil each other
 * in a group, and who is told of them when.  What each operation does is tested
 * in test_txn_mailbox.c and test_txn_message.c, what refuses all of them in
 * test_txn_fence.c and test_txn_full.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/store_private.h"
#include "tests/store/txntest.h"

static void
test_failed_transaction_leaves_nothing(void **state)
{
    struct teststore ts;
    struct body *b = ts_body(1, 100);

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    struct store_pos before = store_pos(ts.store);
    struct store_txn *txn = txn_new();
    struct span value = SPAN_LIT("v");
    struct txn_append a = message(id, b);
    struct span word = SPAN_LIT("New");
    a.keywords = &word;
    a.nkeywords = 1;
    txn_append(txn, &a);
    txn_user(txn, "ann", USER_SUBSCRIPTION, "user.ann", &value);
    txn_quota(txn, "user.ann", (uint64_t[QUOTA_RESOURCES]){1, 1, 1, 1});
    txn_rename(txn, id, "user.bob", true);
    txn_create(txn, &(struct txn_mailbox){.name = "user.new"});
    txn_set_recent(txn, 4711, 3); /* no such mailbox */
    assert_int_equal(ts_commit(&ts, &txn), ERR_NOTFOUND);
    struct store_pos after = store_pos(ts.store);
    assert_int_equal(before.applied.lsn, after.applied.lsn);
    assert_int_equal(before.digest, after.digest);
    assert_int_equal(ts_lookup(&ts, "user.ann"), id);
    assert_int_equal(ts_lookup(&ts, "user.bob"), 0);
    /* What comes next finds the overlay as if nothing had been. */
    assert_int_equal(ts_append(&ts, id, 1, 100, NULL), 1);
    (void)ts_create(&ts, "user.new");
    ts_verify(&ts);
    body_free(&b);
    ts_free(&ts);
}

static void
test_failed_one_in_a_group_spoils_no_other(void **state)
{
    struct teststore ts;
    struct store_txn *done[3] = {NULL};
    struct arena a = ARENA_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    for (size_t i = 0; i < 3; i++) {
        struct store_txn *txn = txn_new();
        struct body *b = ts_body(i, 100);
        struct txn_append m = message(id, b);
        txn_append(txn, &m);
        if (i == 1)
            txn_set_recent(txn, 4711, 3);
        store_submit(ts.store, txn, on_done, &done[i]);
        body_free(&b);
    }
    assert_true(store_queue_bytes(ts.store) > 0);
    assert_true(store_step(ts.store));
    assert_int_equal(store_queue_bytes(ts.store), 0);
    assert_int_equal(txn_code(done[0]), ERR_OK);
    assert_int_equal(txn_code(done[1]), ERR_NOTFOUND);
    assert_int_equal(txn_code(done[2]), ERR_OK);
    assert_true(uidset_has(&txn_result(done[2], 0)->uids, 2));
    for (size_t i = 0; i < 3; i++)
        txn_free(&done[i]);
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, 2);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_independent_appends_fail_alone(void **state)
{
    struct teststore ts;
    struct body *b = ts_body(1, 100);
    struct store_txn *txn = txn_new();

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t ann = ts_create(&ts, "user.ann");
    mbid_t bob = ts_create(&ts, "user.bob");
    assert_int_equal(set_quota(&ts, "user.ann", 50, false), ERR_OK);
    const mbid_t to[] = {ann, bob, 999};
    for (size_t i = 0; i < 3; i++) {
        struct txn_append m = message(to[i], b);
        m.independent = true;
        txn_append(txn, &m);
    }
    assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
    assert_int_equal(txn_result(txn, 0)->code, ERR_QUOTA);
    assert_int_equal(txn_result(txn, 1)->code, ERR_OK);
    assert_int_equal(txn_result(txn, 2)->code, ERR_NOTFOUND);
    txn_free(&txn);
    body_free(&b);
    ts_verify(&ts);
    ts_free(&ts);
}

static void
test_transaction_larger_than_a_group_is_refused(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct store_txn *txn = txn_new();
    AUTO(buf_free) struct buf value = BUF_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    while (value.n < USER_VALUE_MAX)
        buf_add_byte(&value, 'v');
    struct span v = buf_span(&value);
    for (int i = 0; i < 30; i++) {
        char name[16] = {'n', (char)('A' + i)};
        txn_user(txn, "ann", USER_SUBSCRIPTION, name, &v);
    }
    struct store_pos before = store_pos(ts.store);
    assert_int_equal(ts_commit(&ts, &txn), ERR_LIMIT);
    assert_int_equal(store_pos(ts.store).digest, before.digest);
    (void)ts_create(&ts, "user.ann");
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* ---- what comes late, and who is told when ----------------------------- */

static void
note_done(void *ctx, struct store_txn *txn)
{
    (void)txn;
    *(unsigned *)ctx += 1;
}

static struct store_txn *
late_append(struct teststore *ts, mbid_t id, uint64_t seed, unsigned *done)
{
    struct store_txn *txn = txn_new();
    struct body *b = ts_body(seed, 100);
    struct txn_append m = message(id, b);

    m.cache_is_late = true;
    txn_append(txn, &m);
    body_free(&b);
    store_submit(ts->store, txn, note_done, done);
    return txn;
}

static enum errcode
derived(struct teststore *ts, mbid_t id, uint32_t uid, struct buf *ret)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct error err;

    buf_clear(ret);
    enum errcode rc = snap_cache(snap, id, uid, ret, &err);
    store_release(&snap);
    return rc;
}

static void
test_derived_record_may_come_while_the_disk_works(void **state)
{
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct teststore ts;
    unsigned done = 0;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    struct store_txn *in_time = late_append(&ts, id, 1, &done);
    struct store_txn *never = late_append(&ts, id, 2, &done);
    struct store_txn *refused = late_append(&ts, id + 99, 3, &done);
    assert_true(txn_bring_cache(in_time, 0, SPAN_LIT("derived")));
    assert_true(txn_bring_cache(refused, 0, SPAN_LIT("of nothing")));
    while (done < 3)
        assert_true(store_step(ts.store));
    assert_int_equal(txn_code(in_time), ERR_OK);
    assert_int_equal(txn_code(never), ERR_OK);
    assert_int_equal(txn_code(refused), ERR_NOTFOUND);
    assert_int_equal(derived(&ts, id, 1, &got), ERR_OK);
    assert_true(span_eq_str(buf_span(&got), "derived"));
    /* Nobody takes it any more: the caller is told to put it. */
    assert_false(txn_bring_cache(never, 0, SPAN_LIT("too late")));
    assert_int_equal(derived(&ts, id, 2, &got), ERR_NOTFOUND);
    ts_verify(&ts);
    txn_free(&in_time);
    txn_free(&never);
    txn_free(&refused);
    ts_free(&ts);
}

/* Between the two words: "<", answers, watchers, ">". */
static struct buf told;

static void
tell_answers(void *ctx, bool begins)
{
    (void)ctx;
    buf_add_byte(&told, begins ? '<' : '>');
}

static void
tell_done(void *ctx, struct store_txn *txn)
{
    (void)txn;
    buf_add_byte(&told, 'a');
    *(unsigned *)ctx += 1;
}

static void
tell_watch(void *ctx)
{
    (void)ctx;
    buf_add_byte(&told, 'w');
}

static void
test_group_is_answered_between_two_words(void **state)
{
    struct teststore ts;
    unsigned done = 0;
    struct store_txn *txns[3];

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    struct store_watch *w = store_watch(ts.store, id, tell_watch, NULL);
    ts.store->hooks.on_answers = tell_answers;
    for (size_t i = 0; i < ARRAY_LEN(txns); i++) {
        struct body *b = ts_body(i, 100);
        const struct txn_append m = message(id, b);
        txns[i] = txn_new();
        txn_append(txns[i], &m);
        body_free(&b);
        store_submit(ts.store, txns[i], tell_done, &done);
    }
    while (done < ARRAY_LEN(txns))
        assert_true(store_step(ts.store));
    buf_add_byte(&told, 0);
    assert_string_equal(told.p, "<aaaw>");
    ts.store->hooks.on_answers = NULL;
    store_unwatch(&w);
    for (size_t i = 0; i < ARRAY_LEN(txns); i++)
        txn_free(&txns[i]);
    buf_free(&told);
    ts_free(&ts);
}

static void
count_call(void *ctx)
{
    ++*(int *)ctx;
}

static void
test_watchers_are_told_once_until_rearmed(void **state)
{
    struct teststore ts;
    int calls = 0, list = 0;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t bob = ts_create(&ts, "user.bob");
    struct store_watch *w = store_watch(ts.store, id, count_call, &calls);
    struct store_watch *l = store_watch(ts.store, 0, count_call, &list);
    (void)ts_append(&ts, bob, 1, 10, NULL);
    assert_int_equal(calls, 0);
    (void)ts_append(&ts, id, 1, 10, NULL);
    (void)ts_append(&ts, id, 2, 10, NULL);
    assert_int_equal(calls, 1);
    watch_rearm(w);
    assert_int_equal(ts_flag(&ts, id, 1, 1, FLAGS_ADD, FLAG_SEEN, NULL),
                     ERR_OK);
    assert_int_equal(calls, 2);
    assert_int_equal(list, 0);
    (void)ts_create(&ts, "user.eve");
    assert_int_equal(list, 1);
    watch_rearm(w);
    store_unwatch(&w);
    assert_null(w);
    (void)ts_append(&ts, id, 3, 10, NULL);
    assert_int_equal(calls, 2);
    store_unwatch(&l);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failed_transaction_leaves_nothing),
        cmocka_unit_test(test_failed_one_in_a_group_spoils_no_other),
        cmocka_unit_test(test_independent_appends_fail_alone),
        cmocka_unit_test(test_transaction_larger_than_a_group_is_refused),
        cmocka_unit_test(test_derived_record_may_come_while_the_disk_works),
        cmocka_unit_test(test_group_is_answered_between_two_words),
        cmocka_unit_test(test_watchers_are_told_once_until_rearmed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
