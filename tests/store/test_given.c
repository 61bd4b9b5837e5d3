/*
 * What a peer says that a mailbox is (csync by state): its UIDs, MODSEQs, dates
 * and flags stay as given, digests and counters fit them, a replica of the log
 * has the same, and what does not fit what is there is refused whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/lib/storetest.h"

#define UNIQUEID "cyrus-made-this"

static mbid_t
make_mailbox(struct teststore *ts)
{
    struct store_txn *txn = txn_new();
    struct error err = {0};

    size_t op = txn_create(txn, &(struct txn_mailbox){.name = "user.ann",
                                                      .acl = "ann\tlrs\t",
                                                      .uniqueid = UNIQUEID,
                                                      .uidvalidity = 77});
    assert_int_equal(store_commit(ts->store, txn, &err), ERR_OK);
    mbid_t id = txn_result(txn, op)->id;
    txn_free(&txn);
    return id;
}

static struct mailbox
row_of(struct teststore *ts, mbid_t id, struct arena *a)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct mailbox mb;
    struct error err = {0};

    assert_int_equal(snap_mailbox_row(snap, id, a, &mb, &err), ERR_OK);
    assert_int_equal(snap_verify(snap, &err), ERR_OK);
    store_release(&snap);
    return mb;
}

static struct message
message_of(struct teststore *ts, mbid_t id, uint32_t uid, struct arena *a)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct message m;
    struct error err = {0};

    assert_int_equal(snap_message(snap, id, uid, a, &m, &err), ERR_OK);
    store_release(&snap);
    return m;
}

static enum errcode
commit(struct teststore *ts, struct store_txn *txn)
{
    return ts_commit(ts, &txn);
}

/* A message as a peer has it. */
static struct message
given(uint32_t uid, struct body *b)
{
    return (struct message){.uid = uid,
                            .flags = FLAG_FLAGGED,
                            .guid = *body_guid(b),
                            .modseq = 10 + uid,
                            .created_modseq = 3,
                            .internal_s = 1704103200,
                            .saved_s = 1795303661,
                            .updated_s = 1795303685,
                            .size = body_size(b)};
}

static enum errcode
append_given(struct teststore *ts, mbid_t id, const struct message *m,
             struct body *b)
{
    struct store_txn *txn = txn_new();

    txn_append(txn, &(struct txn_append){.id = id, .body = b, .given = m});
    return commit(ts, txn);
}

static enum errcode
rows_given(struct teststore *ts, mbid_t id, const struct message *m)
{
    struct store_txn *txn = txn_new();

    txn_rows(txn, id, m, 1);
    return commit(ts, txn);
}

static void
test_what_is_given_stays_as_given(void **state)
{
    struct teststore ma, re;
    struct arena a = ARENA_INIT;
    struct body *b = ts_body(1, 100);

    (void)state;
    ts_new_master(&ma, 1, 0);
    ts_new(&re, 2, 0);
    const mbid_t id = make_mailbox(&ma);
    struct message m = given(5, b);
    assert_int_equal(append_given(&ma, id, &m, b), ERR_OK);
    struct mailbox mb = row_of(&ma, id, &a);
    assert_string_equal(mb.uniqueid.s, UNIQUEID);
    assert_int_equal(mb.uidvalidity, 77);
    assert_int_equal(mb.uidnext, 6);
    mb.highestmodseq = 15;
    mb.created_modseq = 2;
    mb.uidnext = 9;
    mb.recent_uid = 4;
    mb.recent_time_s = 1000;
    mb.options = MBOX_POP3_UIDL | MBOX_ALARMS;
    struct store_txn *txn = txn_new();
    txn_head(txn, &mb);
    assert_int_equal(commit(&ma, txn), ERR_OK);
    mb = row_of(&ma, id, &a);
    assert_int_equal(mb.highestmodseq, 15);
    assert_int_equal(mb.uidnext, 9);
    assert_int_equal(mb.recent_time_s, 1000);
    assert_int_equal(mb.options, MBOX_POP3_UIDL | MBOX_ALARMS);
    struct message now = message_of(&ma, id, 5, &a);
    assert_int_equal(now.modseq, 15);
    assert_int_equal(now.created_modseq, 3);
    assert_int_equal(now.updated_s, 1795303685);

    /* Our own next MODSEQ is above, whatever the peer's were. */
    mb.highestmodseq = modseq_of(9, 1);
    txn = txn_new();
    txn_head(txn, &mb);
    assert_int_equal(commit(&ma, txn), ERR_OK);
    (void)ts_append(&ma, id, 2, 50, NULL);
    assert_int_equal(message_of(&ma, id, 9, &a).modseq, modseq_of(9, 1) + 1);
    assert_int_equal(row_of(&ma, id, &a).highestmodseq, modseq_of(9, 1) + 1);

    assert_int_equal(ts_ship(&ma, &re, 1), ERR_OK);
    assert_true(store_pos(ma.store).digest == store_pos(re.store).digest);
    (void)row_of(&re, id, &a);
    body_free(&b);
    arena_free(&a);
    ts_free(&ma);
    ts_free(&re);
}

static void
test_rows_change_what_is_there(void **state)
{
    struct teststore ma;
    struct arena a = ARENA_INIT;
    struct body *b = ts_body(1, 100);
    struct span keyword = SPAN_LIT("$Label1");

    (void)state;
    ts_new_master(&ma, 1, 0);
    const mbid_t id = make_mailbox(&ma);
    struct message m = given(1, b);
    assert_int_equal(append_given(&ma, id, &m, b), ERR_OK);
    m.flags = FLAG_SEEN;
    m.modseq = 20;
    m.keywords = &keyword;
    m.nkeywords = 1;
    assert_int_equal(rows_given(&ma, id, &m), ERR_OK);
    struct message now = message_of(&ma, id, 1, &a);
    assert_int_equal(now.flags, FLAG_SEEN);
    assert_int_equal(now.modseq, 20);
    assert_int_equal(now.nkeywords, 1);
    /* Nothing to do is no record. */
    const lsn_t before = store_pos(ma.store).applied.lsn;
    assert_int_equal(rows_given(&ma, id, &m), ERR_OK);
    assert_int_equal(store_pos(ma.store).applied.lsn, before);
    m.flags = FLAG_SEEN | FLAG_EXPUNGED;
    m.expunged_s = 7;
    assert_int_equal(rows_given(&ma, id, &m), ERR_OK);
    struct store_snap *snap = store_snapshot(ma.store);
    struct mailbox mb;
    struct error err = {0};
    assert_int_equal(snap_mailbox_row(snap, id, &a, &mb, &err), ERR_OK);
    assert_int_equal(mb.exists, 0);
    assert_int_equal(mb.expunged, 1);
    store_release(&snap);
    body_free(&b);
    arena_free(&a);
    ts_free(&ma);
}

static void
test_what_does_not_fit_is_refused_whole(void **state)
{
    struct teststore ma;
    struct arena a = ARENA_INIT;
    struct body *b = ts_body(1, 100), *other = ts_body(2, 100);

    (void)state;
    ts_new_master(&ma, 1, 0);
    const mbid_t id = make_mailbox(&ma);
    struct message m = given(5, b);
    assert_int_equal(append_given(&ma, id, &m, b), ERR_OK);
    const struct mailbox seen = row_of(&ma, id, &a);
    const uint64_t digest = store_pos(ma.store).digest;

    /* a second mailbox with its UNIQUEID, and one that is too long */
    char uniqueid[UNIQUEID_MAX + 2];
    memset(uniqueid, 'x', sizeof(uniqueid) - 1);
    uniqueid[sizeof(uniqueid) - 1] = '\0';
    struct store_txn *txn = txn_new();
    txn_create(txn,
               &(struct txn_mailbox){.name = "user.bob", .uniqueid = UNIQUEID});
    assert_int_equal(commit(&ma, txn), ERR_CONFLICT);
    txn = txn_new();
    txn_create(txn,
               &(struct txn_mailbox){.name = "user.bob", .uniqueid = uniqueid});
    assert_int_equal(commit(&ma, txn), ERR_LIMIT);
    /* a UID that was given; a body that is not here */
    assert_int_equal(append_given(&ma, id, &m, b), ERR_CONFLICT);
    m = given(6, other);
    assert_int_equal(append_given(&ma, id, &m, NULL), ERR_AGAIN);
    /* a row that is not there, and one of another message */
    assert_int_equal(rows_given(&ma, id, &m), ERR_CONFLICT);
    m = given(5, other);
    assert_int_equal(rows_given(&ma, id, &m), ERR_CONFLICT);
    /* UIDNEXT falls */
    struct mailbox mb = seen;
    mb.uidnext = 5;
    txn = txn_new();
    txn_head(txn, &mb);
    assert_int_equal(commit(&ma, txn), ERR_CONFLICT);
    mb = seen;
    mb.options = 1U << 9;
    txn = txn_new();
    txn_head(txn, &mb);
    assert_int_equal(commit(&ma, txn), ERR_LIMIT);
    assert_true(store_pos(ma.store).digest == digest);

    /* a mailbox that changed since it was looked at */
    (void)ts_append(&ma, id, 3, 10, NULL);
    m = given(9, b);
    txn = txn_new();
    txn_expect(txn, &seen);
    txn_append(txn, &(struct txn_append){.id = id, .body = b, .given = &m});
    assert_int_equal(commit(&ma, txn), ERR_CONFLICT);
    assert_int_equal(row_of(&ma, id, &a).uidnext, 7);
    /* gone stays gone */
    m = given(5, b);
    m.flags = FLAG_EXPUNGED;
    assert_int_equal(rows_given(&ma, id, &m), ERR_OK);
    m.flags = 0;
    assert_int_equal(rows_given(&ma, id, &m), ERR_CONFLICT);
    body_free(&b);
    body_free(&other);
    arena_free(&a);
    ts_free(&ma);
}

/* What was said of a user's \Seen goes with the next change by a client. */
static void
test_seen_as_given(void **state)
{
    struct teststore ma;
    struct arena a = ARENA_INIT;
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error err = {0};
    const struct span said = SPAN_LIT("1:2");

    (void)state;
    ts_new_master(&ma, 1, 0);
    const mbid_t id = make_mailbox(&ma);
    for (uint32_t i = 1; i <= 3; i++)
        (void)ts_append(&ma, id, i, 10, NULL);
    const modseq_t modseq = row_of(&ma, id, &a).highestmodseq;
    uidset_add(&uids, 1, 2);
    struct store_txn *txn = txn_new();
    txn_seen_given(txn, id, "bob", &uids);
    txn_user(txn, "bob", USER_SEEN_TEXT, UNIQUEID, &said);
    assert_int_equal(commit(&ma, txn), ERR_OK);
    struct mailbox mb = row_of(&ma, id, &a);
    assert_int_equal(mb.highestmodseq, modseq);
    struct store_snap *snap = store_snapshot(ma.store);
    AUTO(uidset_free) struct uidset seen = UIDSET_INIT;
    assert_int_equal(snap_seen(snap, &mb, "bob", &seen, &err), ERR_OK);
    assert_true(uidset_eq(&seen, &uids));
    assert_int_equal(
        snap_user_get(snap, "bob", USER_SEEN_TEXT, UNIQUEID, &text, &err),
        ERR_OK);
    store_release(&snap);

    uidset_clear(&uids);
    uidset_add(&uids, 3, 3);
    txn = txn_new();
    txn_seen(txn, id, "bob", &uids, true);
    assert_int_equal(commit(&ma, txn), ERR_OK);
    snap = store_snapshot(ma.store);
    assert_int_equal(
        snap_user_get(snap, "bob", USER_SEEN_TEXT, UNIQUEID, &text, &err),
        ERR_NOTFOUND);
    store_release(&snap);
    txn = txn_new();
    txn_seen_given(txn, id, "bob", &uids);
    assert_int_equal(commit(&ma, txn), ERR_OK);
    snap = store_snapshot(ma.store);
    assert_int_equal(snap_seen(snap, &mb, "bob", &seen, &err), ERR_OK);
    assert_true(uidset_eq(&seen, &uids));
    store_release(&snap);
    arena_free(&a);
    ts_free(&ma);
}

/* Bodies ahead of the messages that name them: here and on a replica. */
static void
test_staged_bodies_are_named_later(void **state)
{
    struct teststore ma, re;
    struct arena a = ARENA_INIT;
    struct body *small = ts_body(1, 100), *large = ts_body(2, 3U << 20);
    struct error err = {0};
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    bool has = true;

    (void)state;
    ts_new_master(&ma, 1, 0);
    ts_new(&re, 2, 0);
    const mbid_t id = make_mailbox(&ma);
    const uint64_t now_us = store_pos(ma.store).time_us;
    struct store_snap *snap = store_snapshot(ma.store);
    assert_int_equal(snap_has_body(snap, body_guid(small), now_us, &has, &err),
                     ERR_OK);
    assert_false(has);
    store_release(&snap);

    /* a large one goes alone */
    struct store_txn *txn = txn_new();
    txn_stage(txn, small);
    txn_stage(txn, large);
    assert_int_equal(commit(&ma, txn), ERR_LIMIT);
    txn = txn_new();
    txn_stage(txn, large);
    assert_int_equal(commit(&ma, txn), ERR_OK);
    txn = txn_new();
    txn_stage(txn, small);
    assert_int_equal(commit(&ma, txn), ERR_OK);
    /* once is enough */
    const lsn_t before = store_pos(ma.store).applied.lsn;
    txn = txn_new();
    txn_stage(txn, small);
    assert_int_equal(commit(&ma, txn), ERR_OK);
    assert_int_equal(store_pos(ma.store).applied.lsn, before);
    snap = store_snapshot(ma.store);
    assert_int_equal(snap_has_body(snap, body_guid(large), now_us, &has, &err),
                     ERR_OK);
    assert_true(has);
    assert_int_equal(snap_has_body(snap, body_guid(large),
                                   now_us + STAGED_S * UINT64_C(1000000), &has,
                                   &err),
                     ERR_OK);
    assert_false(has);
    store_release(&snap);

    struct message m = given(1, small), n = given(2, large);
    assert_int_equal(append_given(&ma, id, &m, NULL), ERR_OK);
    assert_int_equal(append_given(&ma, id, &n, NULL), ERR_OK);
    assert_int_equal(store_body_read(ma.store, body_guid(large), 0, UINT64_MAX,
                                     &bytes, &err),
                     ERR_OK);
    assert_int_equal(bytes.n, 3U << 20);
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_OK);
    assert_true(store_pos(ma.store).digest == store_pos(re.store).digest);
    buf_clear(&bytes);
    assert_int_equal(store_body_read(re.store, body_guid(large), 0, UINT64_MAX,
                                     &bytes, &err),
                     ERR_OK);
    assert_int_equal(bytes.n, 3U << 20);
    body_free(&small);
    body_free(&large);
    arena_free(&a);
    ts_free(&ma);
    ts_free(&re);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_given_stays_as_given),
        cmocka_unit_test(test_rows_change_what_is_there),
        cmocka_unit_test(test_what_does_not_fit_is_refused_whole),
        cmocka_unit_test(test_seen_as_given),
        cmocka_unit_test(test_staged_bodies_are_named_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
