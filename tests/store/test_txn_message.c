/*
 * What transactions do to messages: appended, delivered once, flagged, copied
 * and moved; and their bodies, which are written once, the large ones in parts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/store/txntest.h"

static void
test_append_errors(void **state)
{
    struct teststore ts;
    enum errcode rc;
    struct body *b = ts_body(1, 100);
    uint8_t word[KEYWORD_MAX + 1] = {0};
    struct span words[KEYWORDS_PER_MESSAGE + 1];
    uint8_t letters[KEYWORDS_PER_MESSAGE + 1][2];

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    assert_int_equal(ts_append(&ts, 77, 1, 100, &rc), 0);
    assert_int_equal(rc, ERR_NOTFOUND);
    memset(word, 'k', sizeof(word));
    struct span longer = span_of(word, sizeof(word));
    struct txn_append a = message(id, b);
    a.keywords = &longer;
    a.nkeywords = 1;
    struct store_txn *txn = txn_new();
    txn_append(txn, &a);
    assert_int_equal(ts_commit(&ts, &txn), ERR_LIMIT);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        letters[i][0] = (uint8_t)('a' + i / 16);
        letters[i][1] = (uint8_t)('a' + i % 16);
        words[i] = span_of(letters[i], 2);
    }
    a.keywords = words;
    a.nkeywords = ARRAY_LEN(words);
    txn = txn_new();
    txn_append(txn, &a);
    assert_int_equal(ts_commit(&ts, &txn), ERR_LIMIT);
    body_free(&b);
    ts_free(&ts);
}

static void
test_delivery_is_stored_once(void **state)
{
    struct teststore ts;
    struct arena arena = ARENA_INIT;
    struct body *b = ts_body(1, 100);

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    for (int i = 0; i < 3; i++) {
        struct txn_append a = message(id, b);
        struct store_txn *txn = txn_new();
        memset(a.dedup, 7, sizeof(a.dedup));
        a.independent = true;
        txn_append(txn, &a);
        assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
        assert_int_equal(txn_result(txn, 0)->code,
                         i == 0 ? ERR_OK : ERR_EXISTS);
        assert_true(uidset_has(&txn_result(txn, 0)->uids, 1));
        txn_free(&txn);
        if (i == 1) { /* also after a crash */
            struct error err;
            ts_crash(&ts, 5);
            assert_int_equal(ts_open(&ts, &err), ERR_OK);
            store_set_role(ts.store, ROLE_MASTER, 1);
        }
    }
    assert_int_equal(ts_mailbox(&ts, id, &arena).exists, 1);
    ts_verify(&ts);
    body_free(&b);
    arena_free(&arena);
    ts_free(&ts);
}

static void
test_flags_change_and_say_what_they_changed(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct uidrange r;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    for (uint64_t i = 0; i < 4; i++)
        (void)ts_append(&ts, id, i, 50, NULL);
    modseq_t before = ts_mailbox(&ts, id, &a).highestmodseq;
    assert_int_equal(
        ts_flag(&ts, id, 2, 3, FLAGS_ADD, FLAG_SEEN | FLAG_DELETED, "Work"),
        ERR_OK);
    struct mailbox mb = ts_mailbox(&ts, id, &a);
    assert_int_equal(mb.unseen, 2);
    assert_int_equal(mb.deleted, 2);
    assert_true(mb.highestmodseq > before);
    struct message m = ts_message(&ts, id, 3, &a);
    assert_int_equal(m.nkeywords, 1);
    assert_int_equal(m.modseq, mb.highestmodseq);

    /* UNCHANGEDSINCE: those changed since are named and left alone. */
    struct uidset all = range(&r, 1, 99);
    struct store_txn *txn = txn_new();
    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &all,
                                       .mode = FLAGS_ADD,
                                       .flags = FLAG_FLAGGED,
                                       .unchanged_since = before,
                                       .has_unchanged_since = true});
    assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
    assert_int_equal(uidset_count(&txn_result(txn, 0)->uids), 2);
    assert_true(uidset_has(&txn_result(txn, 0)->refused, 2));
    assert_true(uidset_has(&txn_result(txn, 0)->refused, 3));
    txn_free(&txn);

    /* Nothing to change: nothing written. */
    lsn_t at = store_pos(ts.store).applied.lsn;
    assert_int_equal(ts_flag(&ts, id, 1, 9, FLAGS_REMOVE, FLAG_DRAFT, NULL),
                     ERR_OK);
    assert_int_equal(store_pos(ts.store).applied.lsn, at);

    /* REPLACE keeps what it must not touch. */
    txn = txn_new();
    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &all,
                                       .mode = FLAGS_REPLACE,
                                       .flags = FLAG_DRAFT,
                                       .keep = FLAG_DELETED});
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ts_message(&ts, id, 2, &a).flags,
                     FLAG_DELETED | FLAG_DRAFT);
    assert_int_equal(ts_message(&ts, id, 1, &a).flags, FLAG_DRAFT);

    txn = txn_new();
    txn_expunge(txn, id, &all, true);
    assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
    assert_int_equal(uidset_count(&txn_result(txn, 0)->uids), 2);
    txn_free(&txn);
    mb = ts_mailbox(&ts, id, &a);
    assert_int_equal(mb.exists, 2);
    assert_int_equal(mb.expunged, 2);
    assert_true(ts_message(&ts, id, 2, &a).flags & FLAG_EXPUNGED);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_copy_and_move_give_pairs_of_uids(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct uidrange r;
    struct uidset some = range(&r, 2, 3);

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t to = ts_create(&ts, "user.ann.Sub");
    for (uint64_t i = 0; i < 4; i++)
        (void)ts_append(&ts, id, i, 50, NULL);
    struct store_txn *txn = txn_new();
    txn_copy(txn, id, &some, to, true, true);
    assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
    const struct txn_result *res = txn_result(txn, 0);
    assert_true(uidset_has(&res->from, 2) && uidset_has(&res->from, 3));
    assert_true(uidset_has(&res->uids, 1) && uidset_has(&res->uids, 2));
    txn_free(&txn);
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, 2);
    assert_int_equal(ts_mailbox(&ts, to, &a).exists, 2);
    txn = txn_new(); /* into itself */
    some = range(&r, 1, 99);
    txn_copy(txn, to, &some, to, false, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ts_mailbox(&ts, to, &a).exists, 4);
    txn = txn_new();
    txn_copy(txn, to, &some, 12345, false, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_NOTFOUND);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* ---- bodies ------------------------------------------------------------ */

static void
test_one_body_is_written_once(void **state)
{
    struct teststore ts;
    struct error err;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t to = ts_create(&ts, "user.bob");
    (void)ts_append(&ts, id, 1, 100000, NULL);
    lsn_t before = store_pos(ts.store).applied.lsn;
    size_t used = (size_t)env_sim_used_bytes(ts.sim);
    (void)ts_append(&ts, to, 1, 100000, NULL);
    assert_int_equal(store_pos(ts.store).applied.lsn, before + 1);
    assert_int_equal(env_sim_used_bytes(ts.sim), used);
    /* Purged everywhere, it is written again, though its place is known. */
    assert_int_equal(ts_expunge(&ts, id, 1, 1), ERR_OK);
    assert_int_equal(ts_expunge(&ts, to, 1, 1), ERR_OK);
    struct uidrange r;
    struct uidset one = range(&r, 1, 1);
    struct store_txn *txn = txn_new();
    txn_purge(txn, id, &one);
    txn_purge(txn, to, &one);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ts_append(&ts, id, 1, 100000, NULL), 2);
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    struct arena a = ARENA_INIT;
    struct message m = ts_message(&ts, id, 2, &a);
    assert_int_equal(
        store_body_read(ts.store, &m.guid, 0, 200000, &bytes, &err), ERR_OK);
    assert_int_equal(bytes.n, 100000);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_large_body_goes_ahead_in_parts_and_lets_others_in(void **state)
{
    struct teststore ts, re;
    struct store_txn *big = txn_new(), *small[4];
    struct store_txn *done[5] = {NULL};
    struct arena a = ARENA_INIT;
    struct error err;
    AUTO(buf_free) struct buf bytes = BUF_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    ts_new(&re, 2, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t bob = ts_create(&ts, "user.bob");
    struct body *b = ts_body(9, 3500000);
    struct txn_append m = message(id, b), m2 = message(bob, b);
    txn_append(big, &m);
    txn_append(big, &m2); /* the second recipient costs no body */
    store_submit(ts.store, big, on_done, &done[0]);
    for (size_t i = 0; i < 4; i++) {
        struct body *s = ts_body(i, 10);
        struct txn_append sm = message(id, s);
        small[i] = txn_new();
        txn_append(small[i], &sm);
        store_submit(ts.store, small[i], on_done, &done[i + 1]);
        body_free(&s);
    }
    (void)store_step(ts.store);
    assert_int_equal(txn_code(done[0]), ERR_OK);
    /* 4 parts: the small ones did not wait for the last of them. */
    assert_true(txn_lsn(done[0]) > txn_lsn(done[4]));
    assert_true(uidset_has(&txn_result(done[0], 0)->uids, 5));
    assert_int_equal(txn_lsn(done[0]), 3 + 4 + 4 + 2);
    struct message row = ts_message(&ts, id, 5, &a);
    assert_int_equal(
        store_body_read(ts.store, &row.guid, 0, 4000000, &bytes, &err), ERR_OK);
    assert_true(span_eq(buf_span(&bytes), body_raw(b)));
    buf_clear(&bytes);
    assert_int_equal(ts_ship(&ts, &re, 1 << 20), ERR_OK);
    assert_int_equal(
        store_body_read(re.store, &row.guid, 1048570, 20, &bytes, &err),
        ERR_OK);
    assert_memory_equal(bytes.p, body_raw(b).p + 1048570, 20);
    assert_int_equal(store_pos(ts.store).digest, store_pos(re.store).digest);
    for (size_t i = 0; i < 5; i++)
        txn_free(&done[i]);
    body_free(&b);
    arena_free(&a);
    ts_free(&ts);
    ts_free(&re);
}

static void
test_many_bodies_in_one_transaction(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct store_txn *txn = txn_new();

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    for (uint64_t i = 0; i < 12; i++) {
        struct body *b = ts_body(i, 700000);
        struct txn_append m = message(id, b);
        txn_append(txn, &m);
        body_free(&b);
    }
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, 12);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_errors),
        cmocka_unit_test(test_delivery_is_stored_once),
        cmocka_unit_test(test_flags_change_and_say_what_they_changed),
        cmocka_unit_test(test_copy_and_move_give_pairs_of_uids),
        cmocka_unit_test(test_one_body_is_written_once),
        cmocka_unit_test(
            test_large_body_goes_ahead_in_parts_and_lets_others_in),
        cmocka_unit_test(test_many_bodies_in_one_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
