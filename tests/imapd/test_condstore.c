/*
 * tests/imapd/test_condstore.c - CONDSTORE and QRESYNC (RFC 7162), STATUS in
 * LIST (RFC 5819): each rule by what a client sends and is answered.
 */
#include "tests/imapd/talking.h"

#define SELECTED(n, next, m)                                                   \
    "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen)\r\n"              \
    "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen "     \
    "\\*)] Ok\r\n* " n " EXISTS\r\n* 0 RECENT\r\n"                             \
    "* OK [UIDVALIDITY V] Ok\r\n* OK [UIDNEXT " next "] Ok\r\n"                \
    "* OK [HIGHESTMODSEQ " m                                                   \
    "] Ok\r\n* OK [MAILBOXID (V)] Ok\r\n* OK [ANNOTATIONS V] Ok\r\n"

/* Three messages, all seen, not recent any more. */
static struct fake_client *
three(void)
{
    struct fake_client *c = login(0, "fred");

    for (int i = 0; i < 3; i++)
        append(c, "INBOX", "(\\Seen) ", MSG_A);
    quiet(c, "x SELECT INBOX");
    quiet(c, "x UNSELECT");
    return c;
}

static void
test_enable_says_what_it_enabled(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    talk(c, "a ENABLE CONDSTORE X-NO",
         "* ENABLED CONDSTORE\r\na OK Completed\r\n");
    talk(c, "b ENABLE QRESYNC CONDSTORE",
         "* ENABLED QRESYNC\r\nb OK Completed\r\n");
    talk(c, "c ENABLE QRESYNC", "* ENABLED\r\nc OK Completed\r\n");
}

static void
test_modseq_in_fetch_store_and_search(void **state)
{
    (void)state;
    struct fake_client *c = three();

    talk(c, "a SELECT INBOX (CONDSTORE)",
         SELECTED("3", "4", "M1") "a OK [READ-WRITE] Completed\r\n");
    talk(c, "b FETCH 3 (FLAGS)",
         "* 3 FETCH (FLAGS (\\Seen) MODSEQ (M1))\r\nb OK Completed\r\n");
    talk(c, "c UID FETCH 2:3 MODSEQ",
         "* 2 FETCH (UID 2 MODSEQ (M2))\r\n* 3 FETCH (UID 3 MODSEQ (M1))\r\n"
         "c OK Completed\r\n");
    talk(c, "d STORE 1 +FLAGS.SILENT (\\Flagged)",
         "* 1 FETCH (UID 1 MODSEQ (M3))\r\nd OK Completed\r\n");
    assert_true(modseqs[2] > modseqs[0]);
    talk(c, "e FETCH 1:* (UID) (CHANGEDSINCE M1)",
         "* 1 FETCH (UID 1 MODSEQ (M3))\r\ne OK Completed\r\n");
    talk(c, "f FETCH 1:* FLAGS (CHANGEDSINCE M3)", "f OK Completed\r\n");
    talk(c, "g SEARCH MODSEQ M1",
         "* SEARCH 1 3 (MODSEQ M3)\r\ng OK Completed\r\n");
    talk(c, "h UID SEARCH MODSEQ \"/flags/\\\\draft\" all M3",
         "* SEARCH 1 (MODSEQ M3)\r\nh OK Completed\r\n");
    talk(c, "i SEARCH MODSEQ M3 SEEN UNFLAGGED",
         "* SEARCH\r\ni OK Completed\r\n");
    talk(c, "j STATUS INBOX (HIGHESTMODSEQ)",
         "* STATUS INBOX (HIGHESTMODSEQ M3)\r\nj OK Completed\r\n");
    talk(c, "k FETCH 1 FLAGS (CHANGEDSINCE M3 VANISHED)",
         "k BAD VANISHED is for UID FETCH with CHANGEDSINCE\r\n");
    talk(c, "l UID FETCH 1 FLAGS (CHANGEDSINCE M3 VANISHED)",
         "l BAD QRESYNC is not enabled\r\n");
    talk(c, "m FETCH 1 FLAGS (CHANGEDSINCE 99999999999999999999)",
         "m BAD Invalid number\r\n");
    talk(c, "n FETCH 1 FLAGS (CHANGEDSINCE 9223372036854775808)",
         "n BAD Invalid mod-sequence\r\n");
}

static void
test_unchangedsince_leaves_what_changed(void **state)
{
    (void)state;
    struct fake_client *c = three();
    struct fake_client *d = login(1, "fred");

    talk(c, "a SELECT INBOX (CONDSTORE)",
         SELECTED("3", "4", "M1") "a OK [READ-WRITE] Completed\r\n");
    quiet(d, "b SELECT INBOX");
    quiet(d, "c STORE 2 +FLAGS (\\Answered)");
    talk(c, "d STORE 1:3 (UNCHANGEDSINCE M1) +FLAGS (\\Flagged)",
         "* 1 FETCH (FLAGS (\\Flagged \\Seen) UID 1 MODSEQ (M2))\r\n"
         "* 3 FETCH (FLAGS (\\Flagged \\Seen) UID 3 MODSEQ (M2))\r\n"
         "* 2 FETCH (FLAGS (\\Answered \\Seen) UID 2 MODSEQ (M3))\r\n"
         "d OK [MODIFIED 2] Conditional STORE failed\r\n");
    assert_true(modseqs[1] > modseqs[2] && modseqs[2] > modseqs[0]);
    talk(c, "e UID STORE 2,3 (UNCHANGEDSINCE M3) FLAGS.SILENT (\\Draft)",
         "* 2 FETCH (UID 2 MODSEQ (M4))\r\n"
         "e OK [MODIFIED 3] Conditional STORE failed\r\n");
    talk(c, "f STORE 1 (UNCHANGEDSINCE 0) +FLAGS (\\Draft)",
         "f OK [MODIFIED 1] Conditional STORE failed\r\n");
}

/* A value from a history that was lost: everything counts as changed. */
static void
test_modseq_of_a_lost_history_is_older_than_all(void **state)
{
    (void)state;
    struct fake_client *c = three();
    struct error err = {0};

    talk(c, "a SELECT INBOX (CONDSTORE)",
         SELECTED("3", "4", "M1") "a OK [READ-WRITE] Completed\r\n");
    /* The next epoch begins; what epoch 1 says beyond was never here. */
    store_set_role(world.store, ROLE_MASTER, 2);
    assert_int_equal(store_begin_epoch(world.store, 2, 1000, "promote", &err),
                     ERR_OK);
    quiet(c, "b NOOP");
    talk(c, "c FETCH 1:* (UID) (CHANGEDSINCE M1)", "c OK Completed\r\n");
    char line[100];
    snprintf(line, sizeof(line),
             "d UID FETCH 1:* (FLAGS) (CHANGEDSINCE %" PRIu64 ")",
             modseqs[0] + 500);
    talk(c, line,
         "* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (M2))\r\n"
         "* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (M3))\r\n"
         "* 3 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (M1))\r\nd OK Completed\r\n");
    snprintf(line, sizeof(line),
             "e STORE 1 (UNCHANGEDSINCE %" PRIu64 ") +FLAGS (\\Draft)",
             modseqs[0] + 500);
    talk(c, line, "e OK [MODIFIED 1] Conditional STORE failed\r\n");
    /* An epoch that this history never had. */
    store_set_role(world.store, ROLE_MASTER, 4);
    assert_int_equal(store_begin_epoch(world.store, 4, 1000, "promote", &err),
                     ERR_OK);
    snprintf(line, sizeof(line),
             "f UID FETCH 1 (UID) (CHANGEDSINCE %" PRIu64 ")",
             (UINT64_C(3) << 43) + 1);
    talk(c, line, "* 1 FETCH (UID 1 MODSEQ (M2))\r\nf OK Completed\r\n");
}

static void
test_vanished_in_place_of_expunge(void **state)
{
    (void)state;
    struct fake_client *c = three();
    struct fake_client *d = login(1, "fred");

    talk(c, "a SELECT INBOX (QRESYNC (1 5))",
         "a BAD QRESYNC is not enabled\r\n");
    quiet(c, "b ENABLE QRESYNC");
    quiet(c, "c SELECT INBOX");
    quiet(d, "d SELECT INBOX");
    quiet(d, "e STORE 1,3 +FLAGS.SILENT (\\Deleted)");
    talk(c, "f NOOP",
         "* 1 FETCH (FLAGS (\\Deleted \\Seen) UID 1 MODSEQ (M1))\r\n"
         "* 3 FETCH (FLAGS (\\Deleted \\Seen) UID 3 MODSEQ (M1))\r\n"
         "f OK Completed\r\n");
    talk(d, "g EXPUNGE", "* 1 EXPUNGE\r\n* 2 EXPUNGE\r\ng OK Completed\r\n");
    talk(c, "h NOOP", "* VANISHED 1,3\r\nh OK Completed\r\n");
    quiet(c, "i STORE 1 +FLAGS.SILENT (\\Deleted)");
    talk(c, "j EXPUNGE",
         "* VANISHED 2\r\nj OK [HIGHESTMODSEQ M2] Completed\r\n");
    assert_true(modseqs[1] > modseqs[0]);
    append(c, "INBOX", "(\\Deleted) ", MSG_A);
    /* RFC 7162, 3.2.8: no HIGHESTMODSEQ here. */
    talk(c, "k CLOSE", "k OK Completed\r\n");
}

/* RFC 7162, 3.2: a client that is cut off between the two must not believe to
 * know of the expunge. */
static void
test_delayed_vanished_lowers_highestmodseq(void **state)
{
    (void)state;
    struct fake_client *c = three();
    struct fake_client *d = login(1, "fred");

    quiet(c, "a ENABLE QRESYNC");
    quiet(c, "b SELECT INBOX");
    quiet(d, "c SELECT INBOX");
    quiet(d, "d STORE 3 +FLAGS.SILENT (\\Deleted)");
    quiet(c, "e NOOP");
    quiet(d, "f EXPUNGE");
    add_line(c, "g STORE 1 +FLAGS (\\Flagged)");
    fake_turn(&world);
    struct span out = buf_span(&c->out);
    uint64_t told = 0, low = 0;
    ptrdiff_t at = span_find(out, SPAN_LIT(" UID 1 MODSEQ ("));
    assert_true(at > 0);
    struct span number = span_skip(out, (size_t)at + 15);
    assert_true(parse_u64(span_sub(number, 0, digits(number)), &told));
    at = span_find(out, SPAN_LIT("* OK [HIGHESTMODSEQ "));
    assert_true(at > 0);
    number = span_skip(out, (size_t)at + 20);
    assert_true(parse_u64(span_sub(number, 0, digits(number)), &low));
    assert_true(low < told);
    assert_true(span_find(out, SPAN_LIT("VANISHED")) < 0);
    buf_clear(&c->out);
    talk(c, "h NOOP", "* VANISHED 3\r\nh OK Completed\r\n");
    /* What it is worth: from there the expunge is told again. */
    char line[100];
    nmodseqs = 0;
    quiet(c, "i UNSELECT");
    snprintf(line, sizeof(line),
             "j UID FETCH 1:9 (UID) (CHANGEDSINCE %" PRIu64 " VANISHED)", low);
    quiet(c, "k SELECT INBOX");
    add_line(c, line);
    fake_turn(&world);
    assert_true(
        span_starts(buf_span(&c->out), SPAN_LIT("* VANISHED (EARLIER) 3\r\n")));
    buf_clear(&c->out);
}

/* RFC 7162, 3.2.10.2; RFC 9051, 7.5.1 */
static void
test_uid_search_with_numbers_tells_no_expunge(void **state)
{
    (void)state;
    struct fake_client *c = three();
    struct fake_client *d = login(1, "fred");

    quiet(c, "a SELECT INBOX");
    quiet(d, "b SELECT INBOX");
    quiet(d, "c STORE 1 +FLAGS.SILENT (\\Deleted)");
    quiet(c, "d NOOP");
    quiet(d, "e EXPUNGE");
    talk(c, "f UID SEARCH NOT (OR SEEN 2:3)", "* SEARCH\r\nf OK Completed\r\n");
    talk(c, "g UID SEARCH 1:3", "* SEARCH 2 3\r\ng OK Completed\r\n");
    talk(c, "h UID SEARCH ALL",
         "* SEARCH 2 3\r\n* 1 EXPUNGE\r\nh OK Completed\r\n");
}

static void
test_qresync_select_brings_a_cache_level(void **state)
{
    (void)state;
    struct fake_client *c = three();
    struct fake_client *d = login(1, "fred");
    struct fake_client *e = login(2, "fred");
    struct mailbox mb;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error err = {0};
    char line[200];

    struct store_snap *snap = store_snapshot(world.store);
    assert_int_equal(snap_mailbox_by_name(snap, "user.fred", &a, &mb, &err),
                     ERR_OK);
    store_release(&snap);
    quiet(c, "a ENABLE QRESYNC");
    talk(c, "b SELECT INBOX",
         SELECTED("3", "4", "M1") "b OK [READ-WRITE] Completed\r\n");
    quiet(d, "c SELECT INBOX");
    quiet(d, "d STORE 2 +FLAGS.SILENT (\\Deleted)");
    quiet(d, "e EXPUNGE");
    quiet(d, "f STORE 1 +FLAGS.SILENT (\\Flagged)");
    quiet(e, "g ENABLE QRESYNC");
    snprintf(line, sizeof(line),
             "h SELECT INBOX (QRESYNC (%" PRIu32 " %" PRIu64 "))",
             mb.uidvalidity, modseqs[0]);
    talk(e, line,
         SELECTED(
             "2", "4",
             "M2") "* VANISHED (EARLIER) 2\r\n"
                   "* 1 FETCH (FLAGS (\\Flagged \\Seen) UID 1 MODSEQ (M2))\r\n"
                   "h OK [READ-WRITE] Completed\r\n");
    /* Only what the client knows is told as gone. */
    snprintf(line, sizeof(line),
             "i SELECT INBOX (QRESYNC (%" PRIu32 " %" PRIu64 " 1,3:9))",
             mb.uidvalidity, modseqs[0]);
    talk(e, line,
         "* OK [CLOSED] Ok\r\n" SELECTED(
             "2", "4",
             "M2") "* 1 FETCH (FLAGS (\\Flagged \\Seen) UID 1 MODSEQ (M2))\r\n"
                   "i OK [READ-WRITE] Completed\r\n");
    /* Sequence numbers that still fit: nothing below them has gone. */
    snprintf(line, sizeof(line),
             "j SELECT INBOX (QRESYNC (%" PRIu32 " 1 1:9 (1:2 1,3)))",
             mb.uidvalidity);
    talk(e, line,
         "* OK [CLOSED] Ok\r\n" SELECTED(
             "2", "4",
             "M2") "* 1 FETCH (FLAGS (\\Flagged \\Seen) UID 1 MODSEQ (M2))\r\n"
                   "* 2 FETCH (FLAGS (\\Seen) UID 3 MODSEQ (M1))\r\n"
                   "j OK [READ-WRITE] Completed\r\n");
    /* Another UIDVALIDITY: an ordinary SELECT. */
    talk(e, "k SELECT INBOX (QRESYNC (1 1))",
         "* OK [CLOSED] Ok\r\n" SELECTED(
             "2", "4", "M2") "k OK [READ-WRITE] Completed\r\n");
    talk(e, "l UID FETCH 1:* (FLAGS) (CHANGEDSINCE M1 VANISHED)",
         "* VANISHED (EARLIER) 2\r\n"
         "* 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen) MODSEQ (M2))\r\n"
         "l OK Completed\r\n");
    talk(e, "m SELECT INBOX (QRESYNC (0 1))", "m BAD Invalid QRESYNC\r\n");
    talk(e, "n SELECT INBOX (FROB)", "n BAD Unknown SELECT parameter\r\n");
}

/* What was purged is not known any more: all that is not there is gone. */
static void
test_vanished_after_a_purge(void **state)
{
    (void)state;
    struct fake_client *c = three();
    struct fake_client *e = login(2, "fred");
    struct mailbox mb;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error err = {0};
    struct uidset two = UIDSET_INIT;
    char line[200];

    talk(c, "a SELECT INBOX (CONDSTORE)",
         SELECTED("3", "4", "M1") "a OK [READ-WRITE] Completed\r\n");
    quiet(c, "b STORE 2 +FLAGS.SILENT (\\Deleted)");
    quiet(c, "c EXPUNGE");
    struct store_snap *snap = store_snapshot(world.store);
    assert_int_equal(snap_mailbox_by_name(snap, "user.fred", &a, &mb, &err),
                     ERR_OK);
    store_release(&snap);
    uidset_add(&two, 2, 2);
    struct store_txn *txn = txn_new();
    txn_purge(txn, mb.id, &two);
    assert_int_equal(store_commit(world.store, txn, &err), ERR_OK);
    txn_free(&txn);
    uidset_free(&two);
    quiet(e, "d ENABLE QRESYNC");
    snprintf(line, sizeof(line),
             "e EXAMINE INBOX (QRESYNC (%" PRIu32 " %" PRIu64 " 1:3))",
             mb.uidvalidity, modseqs[0]);
    buf_clear(&e->out);
    add_line(e, line);
    fake_turn(&world);
    assert_true(span_find(buf_span(&e->out),
                          SPAN_LIT("* VANISHED (EARLIER) 2\r\n")) > 0);
    buf_clear(&e->out);
}

static void
test_status_in_list(void **state)
{
    (void)state;
    struct fake_client *c = three();
    struct fake_client *root = login(1, "cyrus");

    quiet(c, "a CREATE INBOX/Sent");
    append(c, "INBOX/Sent", "", MSG_B);
    talk(c, "b LIST \"\" * RETURN (STATUS (MESSAGES UNSEEN SIZE DELETED))",
         "* LIST (\\HasChildren) \"/\" INBOX\r\n"
         "* STATUS INBOX (MESSAGES 3 UNSEEN 0 DELETED 0 SIZE 360)\r\n"
         "* LIST (\\HasNoChildren) \"/\" INBOX/Sent\r\n"
         "* STATUS INBOX/Sent (MESSAGES 1 UNSEEN 1 DELETED 0 SIZE 180)\r\n"
         "b OK Completed\r\n");
    talk(c, "c LIST \"\" INBOX/% RETURN (STATUS (RECENT UIDNEXT) CHILDREN)",
         "* LIST (\\HasNoChildren) \"/\" INBOX/Sent\r\n"
         "* STATUS INBOX/Sent (RECENT 1 UIDNEXT 2)\r\nc OK Completed\r\n");
    talk(c, "d LIST \"\" * RETURN (STATUS)", "d BAD Missing argument\r\n");
    /* What one may see but not read has no STATUS. */
    talk(root, "e LIST \"\" user/* RETURN (STATUS (MESSAGES))",
         "* LIST (\\HasChildren) \"/\" user/fred\r\n"
         "* LIST (\\HasNoChildren) \"/\" user/fred/Sent\r\ne OK Completed\r\n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_enable_says_what_it_enabled),
        T(test_modseq_in_fetch_store_and_search),
        T(test_unchangedsince_leaves_what_changed),
        T(test_modseq_of_a_lost_history_is_older_than_all),
        T(test_vanished_in_place_of_expunge),
        T(test_delayed_vanished_lowers_highestmodseq),
        T(test_uid_search_with_numbers_tells_no_expunge),
        T(test_qresync_select_brings_a_cache_level),
        T(test_vanished_after_a_purge),
        T(test_status_in_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
