/*
 * tests/store/test_uids.c - store/uids.c: whatever happened to a mailbox since
 * somebody last looked, its UIDs and the first message without \Seen are what
 * reading all its rows gives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/rd.h"
#include "tests/lib/storetest.h"

#define MESSAGES 1200U /* more than go without a record */

static mbid_t
fill(struct teststore *ts, const char *name)
{
    mbid_t id = ts_create(ts, name);

    for (uint32_t i = 0; i < MESSAGES; i++)
        assert_int_equal(ts_append(ts, id, i % 7, 40, NULL), i + 1);
    return id;
}

/* As reading all rows has it. */
static void
read_rows(struct store_snap *snap, mbid_t id, struct uidset *uids,
          uint32_t *ret_unseen)
{
    struct message msg;
    struct msg_iter *it = snap_messages(snap, id, 1, false);

    *ret_unseen = 0;
    while (msg_iter_next(it, &msg)) {
        uidset_add(uids, msg.uid, msg.uid);
        if (*ret_unseen == 0 && (msg.flags & FLAG_SEEN) == 0)
            *ret_unseen = msg.uid;
    }
    assert_int_equal(msg_iter_close(&it, NULL), ERR_OK);
}

static void
check(struct teststore *ts, mbid_t id)
{
    struct arena a = ARENA_INIT;
    struct mailbox mb;
    struct uidset got = UIDSET_INIT;
    struct uidset want = UIDSET_INIT;
    uint32_t unseen = 0;
    uint32_t want_unseen;
    struct error err = {0};
    struct store_snap *snap = store_snapshot(ts->store);

    assert_int_equal(snap_mailbox(snap, id, &a, &mb, &err), ERR_OK);
    assert_int_equal(snap_uids(snap, &mb, &got, &unseen, &err), ERR_OK);
    read_rows(snap, id, &want, &want_unseen);
    assert_true(uidset_eq(&got, &want));
    assert_int_equal(unseen, want_unseen);
    store_release(&snap);
    uidset_free(&got);
    uidset_free(&want);
    arena_free(&a);
}

static bool
has_record(struct teststore *ts, mbid_t id)
{
    struct buf value = BUF_INIT;
    struct store_snap *snap = store_snapshot(ts->store);
    enum errcode rc = snap_cache(snap, id, 0, &value, NULL);

    store_release(&snap);
    buf_free(&value);
    return rc == ERR_OK;
}

static void
test_whole_mailbox_needs_no_rows(void **state)
{
    struct teststore ts;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = fill(&ts, "user.a");
    check(&ts, id);
    assert_int_equal(ts_flag(&ts, id, 1, MESSAGES, FLAGS_ADD, FLAG_SEEN, NULL),
                     ERR_OK);
    check(&ts, id);
    /* Kept for when they are not all there any more. */
    assert_true(has_record(&ts, id));
    assert_int_equal(ts_expunge(&ts, id, 5, 100), ERR_OK);
    check(&ts, id);
    assert_int_equal(ts_append(&ts, id, 3, 40, NULL), MESSAGES + 1);
    check(&ts, id);
    mbid_t empty = ts_create(&ts, "user.b");
    check(&ts, empty);
    ts_free(&ts);
}

/* The first unseen one far behind: found once, then kept. */
static void
test_first_unseen_is_kept(void **state)
{
    struct teststore ts;

    (void)state;
    ts_new_master(&ts, 2, 0);
    mbid_t id = fill(&ts, "user.a");
    assert_int_equal(ts_flag(&ts, id, 1, 1100, FLAGS_ADD, FLAG_SEEN, NULL),
                     ERR_OK);
    check(&ts, id);
    assert_true(has_record(&ts, id));
    assert_int_equal(ts_flag(&ts, id, 1101, 1101, FLAGS_ADD, FLAG_SEEN, NULL),
                     ERR_OK);
    check(&ts, id);
    assert_int_equal(ts_flag(&ts, id, 3, 3, FLAGS_REMOVE, FLAG_SEEN, NULL),
                     ERR_OK);
    check(&ts, id);
    assert_int_equal(ts_flag(&ts, id, 3, 3, FLAGS_ADD, FLAG_SEEN, NULL),
                     ERR_OK);
    check(&ts, id);
    ts_free(&ts);
}

/* A message expunged and its tombstone purged between two looks leaves no
 * trace in the table of changes. */
static void
test_purged_tombstones_are_noticed(void **state)
{
    struct teststore ts;

    (void)state;
    ts_new_master(&ts, 3, 0);
    mbid_t id = fill(&ts, "user.a");
    assert_int_equal(ts_expunge(&ts, id, 5, 9), ERR_OK);
    check(&ts, id);
    assert_true(has_record(&ts, id));
    assert_int_equal(ts_expunge(&ts, id, 700, 705), ERR_OK);
    struct uidset all = UIDSET_INIT;
    uidset_add(&all, 1, MESSAGES);
    struct store_txn *txn = txn_new();
    txn_purge(txn, id, &all);
    uidset_free(&all);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    check(&ts, id);
    ts_free(&ts);
}

static void
damage_record(struct teststore *ts, mbid_t id, const char *bytes, size_t n)
{
    store_cache_put(ts->store, id, 0, span_of(bytes, n));
}

static void
test_bad_record_is_not_believed(void **state)
{
    struct teststore ts;

    (void)state;
    ts_new_master(&ts, 4, 0);
    mbid_t id = fill(&ts, "user.a");
    assert_int_equal(ts_expunge(&ts, id, 5, 9), ERR_OK);
    damage_record(&ts, id, "", 0);
    check(&ts, id);
    damage_record(&ts, id, "\2\1\1\1\1", 5);
    check(&ts, id);
    damage_record(&ts, id, "\1\1\1", 3);
    check(&ts, id);
    /* Well formed, of other UIDs: the head's count tells. */
    damage_record(&ts, id, "\1\0\1\0\0", 5);
    check(&ts, id);
    ts_free(&ts);
}

static void
random_change(struct teststore *ts, mbid_t id, uint64_t *rng)
{
    uint32_t at = 1 + (uint32_t)ts_random(rng, MESSAGES + 300);
    uint32_t n = (uint32_t)ts_random(rng, 12);
    uint32_t flag = ts_random(rng, 2) == 0 ? FLAG_SEEN : FLAG_FLAGGED;
    struct store_txn *txn;
    struct uidset some = UIDSET_INIT;

    switch (ts_random(rng, 8)) {
    case 0:
        at = 1; /* where the first unseen one is */
        n = (uint32_t)ts_random(rng, 200);
        assert_int_equal(
            ts_flag(ts, id, at, at + n, FLAGS_ADD, FLAG_SEEN, NULL), ERR_OK);
        break;
    case 1:
    case 2:
        assert_int_equal(ts_flag(ts, id, at, at + n, FLAGS_ADD, flag, NULL),
                         ERR_OK);
        break;
    case 3:
        assert_int_equal(ts_flag(ts, id, at, at, FLAGS_REMOVE, flag, NULL),
                         ERR_OK);
        break;
    case 4:
        assert_int_equal(ts_expunge(ts, id, at, at + n), ERR_OK);
        break;
    case 5:
        txn = txn_new();
        uidset_add(&some, at, at + 300);
        txn_purge(txn, id, &some);
        uidset_free(&some);
        assert_int_equal(ts_commit(ts, &txn), ERR_OK);
        break;
    default:
        for (uint32_t i = 0; i < n; i++)
            assert_true(ts_append(ts, id, at + i, 40, NULL) > 0);
        break;
    }
}

static void
test_any_history_gives_what_the_rows_say(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct teststore ts;
        uint64_t rng = seed * 77;
        ts_new_master(&ts, seed, 0);
        mbid_t id = fill(&ts, "user.a");
        for (int i = 0; i < 150; i++) {
            for (uint64_t n = ts_random(&rng, 4); n > 0; n--)
                random_change(&ts, id, &rng);
            check(&ts, id);
        }
        assert_true(has_record(&ts, id));
        ts_free(&ts);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_mailbox_needs_no_rows),
        cmocka_unit_test(test_first_unseen_is_kept),
        cmocka_unit_test(test_purged_tombstones_are_noticed),
        cmocka_unit_test(test_bad_record_is_not_believed),
        cmocka_unit_test(test_any_history_gives_what_the_rows_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
