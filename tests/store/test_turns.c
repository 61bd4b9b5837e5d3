/*
 * Operations over many messages run in turns, with others in between: each does
 * what it would have done at once, and one that fails late leaves no copies.
 * Also what expiry needs: tombstones come back or go, marks are forgotten.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "synclog/frame.h"
#include "synclog/reader.h"
#include "tests/lib/storetest.h"

#define MANY 2500U /* three turns */

static void
fill(struct teststore *ts, mbid_t id, unsigned n)
{
    struct store_txn *txn = txn_new();
    struct body *b = ts_body(1, 20);

    for (unsigned i = 0; i < n; i++)
        txn_append(txn, &(struct txn_append){.id = id, .body = b});
    assert_int_equal(ts_commit(ts, &txn), ERR_OK);
    body_free(&b);
}

static struct uidset
all(struct uidrange *r)
{
    *r = (struct uidrange){1, UINT32_MAX};
    return (struct uidset){.r = r, .n = 1};
}

/* Frames behind AFTER in the log: one for each commit group. */
static unsigned
groups_since(struct teststore *ts, lsn_t after)
{
    struct synclog_reader *r = NULL;
    struct error err = {0};
    unsigned n = 0;

    assert_int_equal(reader_open(env_fault_env(ts->fault), "/be/synclog",
                                 synclog_mark(store_log(ts->store)), after, &r,
                                 &err),
                     ERR_OK);
    for (;;) {
        struct span frames, payload;
        struct frame_head h;
        lsn_t last;
        uint64_t time_us;
        size_t used;
        assert_int_equal(
            reader_next(r, 1 << 20, &frames, &last, &time_us, &err), ERR_OK);
        if (frames.n == 0)
            break;
        while (frames.n > 0) {
            assert_int_equal(frame_decode(frames, &h, &payload, &used),
                             PARSE_DONE);
            n += h.nrecords > 0;
            frames = span_skip(frames, used);
        }
    }
    reader_close(&r);
    return n;
}

/* How many commit groups TXN took; its results stay. */
static unsigned
turns(struct teststore *ts, struct store_txn *txn, enum errcode *ret)
{
    struct error err = {0};
    const lsn_t before = store_pos(ts->store).applied.lsn;

    *ret = store_commit(ts->store, txn, &err);
    return groups_since(ts, before);
}

/* What happens between the first turn of an operation and its second one. */
struct between {
    struct teststore *ts;
    struct store_watch *watch;
    void (*act)(struct between *b);
    mbid_t id;
    bool done;
    enum errcode code; /* of what ACT has submitted */
};

static void
on_changed(void *ctx)
{
    struct between *b = ctx;

    if (!b->done)
        b->act(b);
    b->done = true;
}

static void
on_done(void *ctx, struct store_txn *txn)
{
    ((struct between *)ctx)->code = txn_code(txn);
    txn_free(&txn);
}

static void
test_flags_expunge_and_purge_take_turns(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct uidrange r;
    const struct uidset every = all(&r);
    enum errcode rc;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    fill(&ts, id, MANY);
    struct store_txn *txn = txn_new();
    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &every,
                                       .mode = FLAGS_ADD,
                                       .flags = FLAG_SEEN});
    assert_int_equal(turns(&ts, txn, &rc), 3);
    assert_int_equal(rc, ERR_OK);
    assert_int_equal(uidset_count(&txn_result(txn, 0)->uids), MANY);
    assert_int_equal(txn_lsn(txn), store_pos(ts.store).applied.lsn);
    assert_int_equal(txn_result(txn, 0)->modseq,
                     ts_mailbox(&ts, id, &a).highestmodseq);
    txn_free(&txn);
    assert_int_equal(ts_mailbox(&ts, id, &a).unseen, 0);
    /* Again: looked at in turns, though nothing is written. */
    txn = txn_new();
    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &every,
                                       .mode = FLAGS_ADD,
                                       .flags = FLAG_SEEN});
    (void)turns(&ts, txn, &rc);
    assert_int_equal(rc, ERR_OK);
    assert_int_equal(txn_lsn(txn), LSN_NONE);
    txn_free(&txn);
    txn = txn_new();
    txn_expunge(txn, id, &every, false);
    assert_int_equal(turns(&ts, txn, &rc), 3);
    txn_free(&txn);
    assert_int_equal(ts_mailbox(&ts, id, &a).expunged, MANY);
    struct message m = ts_message(&ts, id, 1, &a);
    assert_true(m.expunged_s > 1000000000);
    ts_verify(&ts);
    txn = txn_new();
    txn_unexpunge(txn, id, &every, true);
    assert_int_equal(turns(&ts, txn, &rc), 3);
    assert_int_equal(rc, ERR_OK);
    assert_int_equal(uidset_count(&txn_result(txn, 0)->from), MANY);
    assert_true(uidset_has(&txn_result(txn, 0)->uids, MANY + 1));
    txn_free(&txn);
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, MANY);
    txn = txn_new();
    txn_purge(txn, id, &every);
    (void)turns(&ts, txn, &rc);
    assert_int_equal(rc, ERR_OK);
    txn_free(&txn);
    assert_int_equal(ts_mailbox(&ts, id, &a).expunged, 0);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* Several operations are whole or nothing, however many messages. */
static void
test_transactions_of_several_operations_have_one_turn(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct uidrange r;
    const struct uidset every = all(&r);
    enum errcode rc;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    fill(&ts, id, MANY);
    struct store_txn *txn = txn_new();
    txn_expunge(txn, id, &every, false);
    txn_set_recent(txn, 4711, 1);
    assert_int_equal(turns(&ts, txn, &rc), 0);
    assert_int_equal(rc, ERR_NOTFOUND);
    txn_free(&txn);
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, MANY);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_copies_of_any_size(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct uidrange r;
    const struct uidset every = all(&r);
    enum errcode rc;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t to = ts_create(&ts, "user.bob");
    fill(&ts, id, MANY);
    struct store_txn *txn = txn_new();
    txn_copy(txn, id, &every, to, false, true);
    assert_int_equal(turns(&ts, txn, &rc), 3);
    assert_int_equal(rc, ERR_OK);
    assert_int_equal(uidset_count(&txn_result(txn, 0)->uids), MANY);
    assert_int_equal(uidset_count(&txn_result(txn, 0)->from), MANY);
    txn_free(&txn);
    /* Into itself: each once. */
    txn = txn_new();
    txn_copy(txn, id, &every, id, false, true);
    (void)turns(&ts, txn, &rc);
    assert_int_equal(rc, ERR_OK);
    txn_free(&txn);
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, 2 * MANY);
    /* A move. */
    txn = txn_new();
    txn_copy(txn, id, &every, to, true, true);
    assert_int_equal(turns(&ts, txn, &rc), 5);
    txn_free(&txn);
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, 0);
    assert_int_equal(ts_mailbox(&ts, to, &a).exists, 3 * MANY);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
delete_it(struct between *b)
{
    struct store_txn *txn = txn_new();
    txn_delete(txn, b->id, true, 5000);
    txn_purge(txn, b->id, &(struct uidset){0}); /* two operations: at once */
    store_submit(b->ts->store, txn, on_done, b);
}

/* The source goes between two turns: the copies of the first go too. */
static void
test_a_copy_that_fails_late_leaves_none(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct uidrange r;
    const struct uidset every = all(&r);
    enum errcode rc;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t to = ts_create(&ts, "user.bob");
    fill(&ts, id, MANY);
    struct between b = {
        .ts = &ts, .act = delete_it, .id = id, .code = ERR_AGAIN};
    b.watch = store_watch(ts.store, to, on_changed, &b);
    struct store_txn *txn = txn_new();
    txn_copy(txn, id, &every, to, false, true);
    (void)turns(&ts, txn, &rc);
    assert_int_equal(rc, ERR_NOTFOUND);
    txn_free(&txn);
    assert_true(b.done);
    assert_int_equal(b.code, ERR_OK);
    store_unwatch(&b.watch);
    assert_int_equal(ts_mailbox(&ts, to, &a).exists, 0);
    assert_true(ts_mailbox(&ts, to, &a).expunged >= 1000);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
look_and_create(struct between *b)
{
    struct store_txn *txn = txn_new();

    assert_int_equal(ts_lookup(b->ts, "user.ann"), 0);
    assert_int_equal(ts_lookup(b->ts, "user.ann.x"), 0);
    ts_verify(b->ts);
    txn_create(txn, &(struct txn_mailbox){.name = "user.ann"});
    store_submit(b->ts->store, txn, on_done, b);
}

static void
test_large_mailboxes_go_in_turns_and_are_hidden_first(void **state)
{
    struct teststore ts;
    enum errcode rc;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t sub = ts_create(&ts, "user.ann.x");
    fill(&ts, id, MANY);
    fill(&ts, sub, 10);
    struct between b = {.ts = &ts, .act = look_and_create, .code = ERR_AGAIN};
    b.watch = store_watch(ts.store, 0, on_changed, &b);
    struct store_txn *txn = txn_new();
    txn_delete_tree(txn, id, false, 0);
    assert_int_equal(turns(&ts, txn, &rc), 3);
    assert_int_equal(rc, ERR_OK);
    txn_free(&txn);
    store_unwatch(&b.watch);
    assert_true(b.done);
    assert_int_equal(b.code, ERR_OK); /* its name was free at once */
    struct store_snap *snap = store_snapshot(ts.store);
    struct arena a = ARENA_INIT;
    struct mailbox mb;
    struct error err = {0};
    assert_int_equal(snap_mailbox(snap, id, &a, &mb, &err), ERR_NOTFOUND);
    assert_int_equal(snap_mailbox(snap, sub, &a, &mb, &err), ERR_NOTFOUND);
    store_release(&snap);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* ------------------------------------------------------------ unexpunge */

static void
test_unexpunged_messages_come_back_once(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct uidrange one = {1, 1};
    const struct uidset uids = {.r = &one, .n = 1};
    struct error err = {0};

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    (void)ts_append(&ts, id, 1, 100, NULL);
    assert_int_equal(ts_flag(&ts, id, 1, 1, FLAGS_REPLACE,
                             FLAG_DELETED | FLAG_SEEN, "$Work"),
                     ERR_OK);
    assert_int_equal(ts_expunge(&ts, id, 1, 1), ERR_OK);
    for (int i = 0; i < 2; i++) {
        struct store_txn *txn = txn_new();
        txn_unexpunge(txn, id, &uids, true);
        assert_int_equal(store_commit(ts.store, txn, &err), ERR_OK);
        assert_int_equal(uidset_count(&txn_result(txn, 0)->uids), i == 0);
        txn_free(&txn);
    }
    struct message m = ts_message(&ts, id, 2, &a);
    assert_int_equal(m.flags, FLAG_SEEN);
    assert_int_equal(m.nkeywords, 1);
    assert_int_equal(m.internal_s, 1000000);
    assert_int_equal(m.expunged_s, 0);
    m = ts_message(&ts, id, 1, &a);
    assert_true((m.flags & FLAG_UNEXPUNGED) != 0);
    assert_int_equal(ts_mailbox(&ts, id, &a).expunged, 1);
    struct store_txn *txn = txn_new();
    txn_unexpunge(txn, 4711, &uids, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_NOTFOUND);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

struct marks {
    size_t n;
    uint8_t hash[8][16];
};

static bool
keep_mark(void *ctx, const uint8_t hash[16], uint64_t time_us)
{
    struct marks *m = ctx;
    assert_true(time_us > 0 && m->n < 8);
    memcpy(m->hash[m->n++], hash, 16);
    return true;
}

static void
test_delivery_marks_are_forgotten(void **state)
{
    struct teststore ts;
    struct marks m = {0};
    struct error err = {0};

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    for (uint8_t i = 1; i <= 3; i++) {
        struct store_txn *txn = txn_new();
        struct body *b = ts_body(i, 30);
        txn_append(txn,
                   &(struct txn_append){.id = id, .body = b, .dedup = {i}});
        body_free(&b);
        assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    }
    struct store_snap *snap = store_snapshot(ts.store);
    assert_int_equal(snap_each_delivery(snap, keep_mark, &m, &err), ERR_OK);
    store_release(&snap);
    assert_int_equal(m.n, 3);
    m.hash[2][0] = 99; /* unknown */
    struct store_txn *txn = txn_new();
    txn_forget_deliveries(txn, (const uint8_t(*)[16])m.hash, 3);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    m.n = 0;
    snap = store_snapshot(ts.store);
    assert_int_equal(snap_each_delivery(snap, keep_mark, &m, &err), ERR_OK);
    store_release(&snap);
    assert_int_equal(m.n, 1);
    assert_int_equal(m.hash[0][0], 3);
    ts_verify(&ts);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags_expunge_and_purge_take_turns),
        cmocka_unit_test(test_transactions_of_several_operations_have_one_turn),
        cmocka_unit_test(test_copies_of_any_size),
        cmocka_unit_test(test_a_copy_that_fails_late_leaves_none),
        cmocka_unit_test(test_large_mailboxes_go_in_turns_and_are_hidden_first),
        cmocka_unit_test(test_unexpunged_messages_come_back_once),
        cmocka_unit_test(test_delivery_marks_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
