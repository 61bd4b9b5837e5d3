/*
 * tests/store/test_changed.c - the table of changes: whatever was done to a
 * mailbox, by how many transactions, snap_changed() tells the UIDs and MODSEQs
 * that the rows of its messages have, in order; and the derived rows are what
 * snap_verify() makes of the messages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "tests/lib/storetest.h"

/* More than two blocks of UIDs (store/rows.h). */
#define MESSAGES 8300U

struct entry {
    modseq_t modseq;
    uint32_t uid;
};

struct list {
    struct entry *e;
    size_t n;
};

static void
add(struct list *l, modseq_t modseq, uint32_t uid)
{
    l->e = xrealloc(l->e, (l->n + 1) * sizeof(l->e[0]));
    l->e[l->n++] = (struct entry){modseq, uid};
}

static int
compare(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;

    if (a->modseq != b->modseq)
        return a->modseq < b->modseq ? -1 : 1;
    return a->uid < b->uid ? -1 : a->uid > b->uid;
}

static bool
on_changed(void *ctx, modseq_t modseq, uint32_t uid)
{
    struct list *l = ctx;

    if (l->n > 0)
        assert_true(l->e[l->n - 1].modseq <= modseq);
    add(l, modseq, uid);
    return true;
}

static void
check(struct teststore *ts, mbid_t id, modseq_t since)
{
    struct list got = {0}, want = {0};
    struct message msg;
    struct error err = {0};
    struct store_snap *snap = store_snapshot(ts->store);
    struct msg_iter *it = snap_messages(snap, id, 1, true);

    while (msg_iter_next(it, &msg))
        if (msg.modseq > since)
            add(&want, msg.modseq, msg.uid);
    assert_int_equal(msg_iter_close(&it, NULL), ERR_OK);
    assert_int_equal(snap_changed(snap, id, since, on_changed, &got, &err),
                     ERR_OK);
    assert_int_equal(got.n, want.n);
    if (got.n > 0) {
        qsort(got.e, got.n, sizeof(got.e[0]), compare);
        qsort(want.e, want.n, sizeof(want.e[0]), compare);
        for (size_t i = 0; i < got.n; i++)
            assert_int_equal(compare(&got.e[i], &want.e[i]), 0);
    }
    store_release(&snap);
    free(got.e);
    free(want.e);
}

static mbid_t
fill(struct teststore *ts, const char *name)
{
    const mbid_t id = ts_create(ts, name);
    struct store_txn *txn = txn_new();
    struct body *b = ts_body(7, 60);

    for (uint32_t i = 0; i < MESSAGES; i++)
        txn_append(txn, &(struct txn_append){.id = id, .body = b});
    body_free(&b);
    assert_int_equal(ts_commit(ts, &txn), ERR_OK);
    return id;
}

static bool
stop_at_third(void *ctx, modseq_t modseq, uint32_t uid)
{
    unsigned *n = ctx;

    (void)modseq;
    (void)uid;
    return ++*n < 3;
}

static void
test_changes_are_what_the_rows_say(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct error err = {0};
    unsigned calls = 0;

    (void)state;
    ts_new_master(&ts, 1, 0);
    const mbid_t id = fill(&ts, "user.a");
    check(&ts, id, 0);
    /* All, in turns; then all but some of them again, and some once more. */
    assert_int_equal(ts_flag(&ts, id, 1, MESSAGES, FLAGS_ADD, FLAG_SEEN, NULL),
                     ERR_OK);
    const modseq_t seen = ts_mailbox(&ts, id, &a).highestmodseq;
    check(&ts, id, 0);
    for (uint32_t uid = 1; uid <= MESSAGES; uid += 97)
        assert_int_equal(
            ts_flag(&ts, id, uid, uid + uid % 90, FLAGS_ADD, 0, "$Work"),
            ERR_OK);
    check(&ts, id, 0);
    check(&ts, id, seen);
    for (uint32_t uid = 4000; uid < 4200; uid += 2)
        assert_int_equal(
            ts_flag(&ts, id, uid, uid, FLAGS_REMOVE, FLAG_SEEN, NULL), ERR_OK);
    assert_int_equal(ts_expunge(&ts, id, 4090, 4100), ERR_OK);
    check(&ts, id, 0);
    check(&ts, id, seen + 1);
    ts_verify(&ts);
    assert_int_equal(
        ts_flag(&ts, id, 1, MESSAGES, FLAGS_ADD, FLAG_FLAGGED, NULL), ERR_OK);
    check(&ts, id, 0);
    ts_verify(&ts);

    struct store_snap *snap = store_snapshot(ts.store);
    assert_int_equal(snap_changed(snap, id, 0, stop_at_third, &calls, &err),
                     ERR_OK);
    assert_int_equal(calls, 3);
    store_release(&snap);
    ts_crash(&ts, 2);
    assert_int_equal(ts_open(&ts, &err), ERR_OK);
    check(&ts, id, 0);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* More sets of one record than are held open; one record over many. */
static void
test_messages_of_many_records_change_at_once(void **state)
{
    struct teststore ts;

    (void)state;
    ts_new_master(&ts, 1, 0);
    const mbid_t id = fill(&ts, "user.a");
    for (uint32_t uid = 3900; uid < 4300; uid++)
        assert_int_equal(ts_flag(&ts, id, uid, uid, FLAGS_ADD,
                                 uid % 3 == 0 ? FLAG_SEEN : FLAG_DELETED, NULL),
                         ERR_OK);
    check(&ts, id, 0);
    assert_int_equal(ts_flag(&ts, id, 3800, 4400, FLAGS_ADD, FLAG_DRAFT, NULL),
                     ERR_OK);
    check(&ts, id, 0);
    ts_verify(&ts);
    ts_free(&ts);
}

/* The second operation fails: what the first one did to rows that the group
 * had changed before, and to others, is as it was. */
static void
test_failed_transaction_leaves_no_change(void **state)
{
    struct teststore ts;
    struct uidrange some = {10, 900};
    const struct uidset uids = {.r = &some, .n = 1};

    (void)state;
    ts_new_master(&ts, 1, 0);
    const mbid_t id = fill(&ts, "user.a");
    assert_int_equal(ts_flag(&ts, id, 1, 500, FLAGS_ADD, FLAG_SEEN, NULL),
                     ERR_OK);
    for (int bad = 1; bad >= 0; bad--) {
        struct store_txn *txn = txn_new();
        struct txn_flags op = {
            .id = id, .uids = &uids, .mode = FLAGS_ADD, .flags = FLAG_FLAGGED};
        txn_flags(txn, &op);
        op.mode = FLAGS_REPLACE;
        txn_flags(txn, &op);
        op.flags = 0;
        op.id = bad ? id + 100000 : id;
        txn_flags(txn, &op);
        assert_int_equal(ts_commit(&ts, &txn), bad ? ERR_NOTFOUND : ERR_OK);
        check(&ts, id, 0);
        ts_verify(&ts);
    }
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_are_what_the_rows_say),
        cmocka_unit_test(test_messages_of_many_records_change_at_once),
        cmocka_unit_test(test_failed_transaction_leaves_no_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
