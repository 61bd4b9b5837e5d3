/*
 * tests/imapd/test_musts.c - what the RFCs ask of a server in a sentence each
 * and no other test shows: docs/imap-musts/ says which sentence.
 */
#include "tests/imapd/talking.h"

/* Its answer begins with WANT. */
static void
begins(struct fake_client *c, const char *send, const char *want)
{
    add_line(c, send);
    fake_turn(c->world);
    if (!span_starts(buf_span(&c->out), span_str(want)))
        fail_msg("%s: %s", send, buf_cstr(&c->out));
    buf_clear(&c->out);
}

static struct fake_client *
fred_with(int n)
{
    struct fake_client *c = login(0, "fred");

    for (int i = 0; i < n; i++)
        append(c, "INBOX", "(\\Seen) ", MSG_A);
    quiet(c, "s SELECT INBOX");
    return c;
}

static void
test_bad_commands_are_bad(void **state)
{
    static const char *const bad[] = {
        "SETACL INBOX ann lQ",
        "LIST (UNKNOWN) \"\" *",
        "SEARCH RETURN (UNKNOWN) ALL",
        "UID FETCH 1 UID (VANISHED)",
        "FETCH 1 UID (CHANGEDSINCE 1 VANISHED)",
        "FETCH 1 (UNKNOWN)",
        "STORE 1 (UNKNOWN) FLAGS ()",
        "SELECT INBOX (UNKNOWN)",
        "STATUS INBOX (UNKNOWN)",
        "SELECT INBOX (QRESYNC (1 1))",
        "UID FETCH 1 UID (CHANGEDSINCE 1 VANISHED)",
    };
    (void)state;
    struct fake_client *c = fred_with(1);

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char line[100];
        snprintf(line, sizeof(line), "t %s", bad[i]);
        begins(c, line, "t BAD ");
    }
    talk(c, "a FETCH 1 UID", "* 1 FETCH (UID 1)\r\na OK Completed\r\n");
}

static void
test_a_tag_may_come_again(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(1);

    for (int i = 0; i < 3; i++)
        talk(c, "same NOOP", "same OK Completed\r\n");
}

static size_t
count(struct span in, struct span what)
{
    size_t n = 0;

    for (ptrdiff_t at; (at = span_find(in, what)) >= 0; n++)
        in = span_skip(in, (size_t)at + what.n);
    return n;
}

static void
test_one_untagged_capability(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    add_line(c, "a CAPABILITY");
    fake_turn(&world);
    assert_int_equal(
        count(buf_span(&c->out), SPAN_LIT("* CAPABILITY IMAP4rev1 IMAP4rev2 ")),
        1);
    assert_int_equal(count(buf_span(&c->out), SPAN_LIT("* CAPABILITY")), 1);
    static const char *const names[] = {" RIGHTS=kxten ",
                                        " QUOTA ",
                                        " QUOTASET ",
                                        " QUOTA=RES-STORAGE ",
                                        " QUOTA=RES-MESSAGE ",
                                        " QUOTA=RES-MAILBOX ",
                                        " ENABLE ",
                                        " QUOTA=RES-ANNOTATION-STORAGE "};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(count(buf_span(&c->out), span_str(names[i])), 1);
    assert_int_equal(count(buf_span(&c->out), SPAN_LIT("\r\na OK ")), 1);
    buf_clear(&c->out);
}

static void
test_enable_changes_no_capability(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    AUTO(buf_free) struct buf before = BUF_INIT;

    add_line(c, "a CAPABILITY");
    fake_turn(&world);
    buf_add(&before, buf_span(&c->out));
    buf_clear(&c->out);
    quiet(c, "b ENABLE IMAP4rev2 UTF8=ACCEPT QRESYNC UIDONLY");
    add_line(c, "a CAPABILITY");
    fake_turn(&world);
    assert_true(span_eq(buf_span(&c->out), buf_span(&before)));
    buf_clear(&c->out);
}

static void
test_status_of_the_selected_mailbox(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(2);

    talk(c, "a STATUS INBOX (MESSAGES)",
         "* STATUS INBOX (MESSAGES 2)\r\na OK Completed\r\n");
}

static void
test_create_takes_a_trailing_separator(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    begins(c, "a CREATE INBOX/x/", "a OK ");
    talk(c, "b LIST \"\" INBOX/x",
         "* LIST (\\HasNoChildren) \"/\" INBOX/x\r\nb OK Completed\r\n");
}

/* RFC 9051, 7.1 */
static void
test_one_message_has_one_appenduid(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(0);

    talk(c, "a APPEND INBOX (\\Seen) {12+}\r\nSubject: a\r\n",
         "* 1 EXISTS\r\n* 1 RECENT\r\na OK [APPENDUID V 1] Completed\r\n");
}

/* RFC 9051, 6.3.12 and 6.4.7 */
static void
test_no_uids_without_the_right_to_read(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    quiet(fred, "a SETACL INBOX ann li");
    talk(ann, "b APPEND user/fred {12+}\r\nSubject: a\r\n",
         "b OK Completed\r\n");
    append(ann, "INBOX", "", MSG_A);
    append(ann, "INBOX", "", MSG_A);
    quiet(ann, "c SELECT INBOX");
    talk(ann, "d COPY 1 user/fred", "d OK Completed\r\n");
    talk(ann, "e MOVE 1 user/fred", "* 1 EXPUNGE\r\ne OK Completed\r\n");
    quiet(fred, "f SETACL INBOX ann lri");
    talk(ann, "g COPY 1 user/fred", "g OK [COPYUID V 2 4] Completed\r\n");
}

/* ---- RFC 7162 ---------------------------------------------------------- */

static void
test_a_message_named_twice_is_stored_once(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(1);

    talk(c, "a FETCH 1 MODSEQ",
         "* OK [HIGHESTMODSEQ M1] Ok\r\n* 1 FETCH (MODSEQ (M1))\r\n"
         "a OK Completed\r\n");
    talk(c, "b STORE 1,1,1:1 (UNCHANGEDSINCE M1) +FLAGS.SILENT (\\Flagged)",
         "* 1 FETCH (UID 1 MODSEQ (M2))\r\nb OK Completed\r\n");
}

static void
test_the_entry_of_a_modseq_key_is_passed_over(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(1);

    quiet(c, "a FETCH 1 MODSEQ");
    quiet(c, "b SEARCH MODSEQ 1");
    add_line(c, "c SEARCH MODSEQ \"/flags/\\\\draft\" all 1");
    fake_turn(&world);
    assert_true(
        span_starts(buf_span(&c->out), SPAN_LIT("* SEARCH 1 (MODSEQ ")));
    buf_clear(&c->out);
}

static void
test_close_raises_modseq_and_does_not_say_so(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    quiet(c, "a ENABLE QRESYNC");
    append(c, "INBOX", "(\\Deleted) ", MSG_A);
    append(c, "INBOX", "", MSG_A);
    talk(c, "b STATUS INBOX (HIGHESTMODSEQ UIDVALIDITY)",
         "* STATUS INBOX (UIDVALIDITY V HIGHESTMODSEQ M1)\r\n"
         "b OK Completed\r\n");
    quiet(c, "c SELECT INBOX");
    talk(c, "d CLOSE", "d OK Completed\r\n");
    talk(c, "e STATUS INBOX (HIGHESTMODSEQ)",
         "* STATUS INBOX (HIGHESTMODSEQ M2)\r\ne OK Completed\r\n");
    assert_true(modseqs[1] > modseqs[0]);
    quiet(c, "f SELECT INBOX");
    talk(c, "g UID FETCH 1:* (FLAGS) (CHANGEDSINCE M1 VANISHED)",
         "* VANISHED (EARLIER) 1\r\ng OK Completed\r\n");
}

static void
test_uid_expunge_tells_highestmodseq(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    quiet(c, "a ENABLE QRESYNC");
    append(c, "INBOX", "(\\Deleted) ", MSG_A);
    append(c, "INBOX", "(\\Deleted) ", MSG_A);
    quiet(c, "b SELECT INBOX");
    talk(c, "c UID EXPUNGE 1",
         "* VANISHED 1\r\nc OK [HIGHESTMODSEQ M1] Completed\r\n");
    talk(c, "d STATUS INBOX (HIGHESTMODSEQ)",
         "* STATUS INBOX (HIGHESTMODSEQ M1)\r\nd OK Completed\r\n");
}

static void
test_sort_ends_in_modseq(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(2);

    quiet(c, "a FETCH 1:2 MODSEQ");
    talk(c, "b FETCH 1:2 MODSEQ",
         "* 1 FETCH (MODSEQ (M1))\r\n* 2 FETCH (MODSEQ (M2))\r\n"
         "b OK Completed\r\n");
    talk(c, "c SORT (REVERSE ARRIVAL) UTF-8 MODSEQ M1",
         "* SORT 1 2 (MODSEQ M2)\r\nc OK Completed\r\n");
    talk(c, "d SORT RETURN (ALL) (ARRIVAL) UTF-8 1 MODSEQ M1",
         "* ESEARCH (TAG \"d\") ALL 1 MODSEQ M1\r\nd OK Completed\r\n");
}

/* ---- RFC 3501 and 9051 ------------------------------------------------- */

static void
test_examine_changes_nothing(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "", MSG_A);
    for (int i = 0; i < 2; i++) {
        static const char *const told[] = {"* FLAGS (",
                                           "* 1 EXISTS\r\n",
                                           "* 1 RECENT\r\n",
                                           "* OK [UIDVALIDITY ",
                                           "* OK [UIDNEXT 2]",
                                           "* OK [UNSEEN 1]",
                                           "* OK [PERMANENTFLAGS ()]",
                                           "a OK [READ-ONLY] "};
        add_line(c, "a EXAMINE INBOX");
        fake_turn(&world);
        for (size_t k = 0; k < ARRAY_LEN(told); k++)
            assert_int_equal(count(buf_span(&c->out), span_str(told[k])), 1);
        buf_clear(&c->out);
    }
    talk(c, "b FETCH 1 BODY[TEXT]",
         "* 1 FETCH (BODY[TEXT] {13}\r\nHello world\r\n)\r\n"
         "b OK Completed\r\n");
    begins(c, "c STORE 1 +FLAGS (\\Flagged)", "c NO ");
    begins(c, "d EXPUNGE", "d NO ");
    quiet(c, "e SELECT INBOX");
    talk(c, "f FETCH 1 FLAGS",
         "* 1 FETCH (FLAGS (\\Recent))\r\nf OK Completed\r\n");
}

static void
test_status_size_is_the_sum(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(3);
    char want[100];

    snprintf(want, sizeof(want),
             "* STATUS INBOX (SIZE %zu)\r\n"
             "a OK Completed\r\n",
             3 * strlen(MSG_A));
    talk(c, "a STATUS INBOX (SIZE)", want);
}

static void
test_idle_of_rev2_tells_uids(void **state)
{
    (void)state;
    struct fake_client *other = fred_with(2);
    struct fake_client *c = login(1, "fred");

    quiet(c, "a ENABLE IMAP4rev2");
    quiet(c, "b SELECT INBOX");
    talk(c, "c IDLE", "+ idling\r\n");
    quiet(other, "d STORE 2 +FLAGS (\\Flagged)");
    expect(c, "* 2 FETCH (FLAGS (\\Flagged \\Seen) UID 2)\r\n");
    talk(c, "DONE", "c OK Completed\r\n");
}

static void
test_list_options(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    quiet(c, "a CREATE INBOX/s (USE (\\Sent))");
    quiet(c, "b CREATE INBOX/t (USE (\\Trash))");
    quiet(c, "c SUBSCRIBE INBOX/s");
    quiet(c, "d SUBSCRIBE INBOX");
    /* Both must hold, and twice is once. */
    talk(c, "e LIST (SUBSCRIBED SPECIAL-USE SUBSCRIBED) \"\" *",
         "* LIST (\\HasNoChildren \\Subscribed \\Sent) \"/\" INBOX/s\r\n"
         "e OK Completed\r\n");
    talk(c, "f LIST \"\" INBOX/% RETURN (SUBSCRIBED CHILDREN CHILDREN)",
         "* LIST (\\HasNoChildren \\Subscribed \\Sent) \"/\" INBOX/s\r\n"
         "* LIST (\\HasNoChildren \\Trash) \"/\" INBOX/t\r\n"
         "f OK Completed\r\n");
}

static void
test_a_limit_of_nothing(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *root = login(1, "cyrus");

    quiet(root, "a SETQUOTA user/fred (STORAGE 0)");
    begins(fred, "b APPEND INBOX {12+}\r\nSubject: a\r\n", "b NO [OVERQUOTA] ");
    begins(fred, "c GETQUOTA INBOX", "* QUOTA INBOX (STORAGE 0 0)\r\nc OK ");
}

static void
test_charsets_of_sort_and_thread(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(1);

    talk(c, "a SORT (SUBJECT) US-ASCII SUBJECT first",
         "* SORT 1\r\na OK Completed\r\n");
    talk(c, "b SORT (SUBJECT) UTF-8 SUBJECT first",
         "* SORT 1\r\nb OK Completed\r\n");
    talk(c, "c THREAD REFERENCES US-ASCII SUBJECT first",
         "* THREAD (1)\r\nc OK Completed\r\n");
    talk(c, "d THREAD REFERENCES UTF-8 SUBJECT first",
         "* THREAD (1)\r\nd OK Completed\r\n");
    begins(c, "e SORT (SUBJECT) X-NONE ALL", "e NO [BADCHARSET ");
    begins(c, "f SEARCH CHARSET X-NONE ALL", "f NO [BADCHARSET ");
}

/* ---- RFC 4314, 4 ------------------------------------------------------- */

static void
test_rights_decide_over_flags(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    append(fred, "INBOX", "", MSG_A);
    quiet(fred, "a SETACL INBOX ann lrw");
    quiet(ann, "b SELECT user/fred");
    begins(ann, "c STORE 1 +FLAGS (\\Deleted)", "c NO ");
    begins(ann, "d STORE 1 +FLAGS (\\Seen)", "d NO ");
    talk(ann, "e STORE 1 +FLAGS (\\Flagged \\Deleted)",
         "* 1 FETCH (FLAGS (\\Recent \\Flagged))\r\ne OK Completed\r\n");
    begins(ann, "f APPEND user/fred {12+}\r\nSubject: a\r\n", "f NO ");
    begins(ann, "g COPY 1 user/fred", "g NO ");
    quiet(fred, "h SETACL INBOX ann lri");
    begins(ann,
           "i APPEND user/fred (\\Deleted \\Seen \\Flagged $x) {12+}\r\n"
           "Subject: a\r\n",
           "");
    quiet(fred, "j SELECT INBOX");
    talk(fred, "k FETCH 2 FLAGS", "* 2 FETCH (FLAGS ())\r\nk OK Completed\r\n");
    quiet(fred, "l SETACL INBOX ann lrits");
    append(ann, "INBOX", "(\\Deleted \\Flagged) ", MSG_A);
    quiet(ann, "m SELECT INBOX");
    begins(ann, "n COPY 1 user/fred", "n OK ");
    quiet(fred, "o NOOP");
    talk(fred, "p FETCH 3 FLAGS",
         "* 3 FETCH (FLAGS (\\Recent \\Deleted))\r\np OK Completed\r\n");
}

static void
test_close_without_e_is_ok(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    append(fred, "INBOX", "(\\Deleted) ", MSG_A);
    quiet(fred, "a SETACL INBOX ann lrt");
    quiet(ann, "b SELECT user/fred");
    begins(ann, "c EXPUNGE", "c NO [NOPERM] ");
    talk(ann, "d CLOSE", "d OK Completed\r\n");
    talk(fred, "e STATUS INBOX (MESSAGES)",
         "* STATUS INBOX (MESSAGES 1)\r\ne OK Completed\r\n");
}

static void
test_fetch_without_s_leaves_seen(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    append(fred, "INBOX", "", MSG_A);
    quiet(fred, "a SETACL INBOX ann lrw");
    quiet(ann, "b SELECT user/fred");
    talk(ann, "c FETCH 1 BODY[TEXT]",
         "* 1 FETCH (BODY[TEXT] {13}\r\nHello world\r\n)\r\n"
         "c OK Completed\r\n");
    talk(ann, "d SEARCH SEEN", "* SEARCH\r\nd OK Completed\r\n");
}

static void
test_what_rights_select_tells(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    quiet(fred, "a SETACL INBOX ann lr");
    add_line(ann, "b SELECT user/fred");
    fake_turn(&world);
    assert_int_equal(count(buf_span(&ann->out), SPAN_LIT("b OK [READ-ONLY] ")),
                     1);
    assert_int_equal(
        count(buf_span(&ann->out), SPAN_LIT("[PERMANENTFLAGS ()]")), 1);
    buf_clear(&ann->out);
    quiet(fred, "c SETACL INBOX ann lrt");
    add_line(ann, "d SELECT user/fred");
    fake_turn(&world);
    assert_int_equal(count(buf_span(&ann->out), SPAN_LIT("d OK [READ-WRITE] ")),
                     1);
    assert_int_equal(
        count(buf_span(&ann->out), SPAN_LIT("[PERMANENTFLAGS (\\Deleted)]")),
        1);
    buf_clear(&ann->out);
    /* What may not be seen is not there, also for the commands about rights. */
    quiet(fred, "e DELETEACL INBOX ann");
    talk(ann, "f LIST \"\" user/fred", "f OK Completed\r\n");
    quiet(ann, "g SUBSCRIBE INBOX");
    begins(ann, "h MYRIGHTS user/fred", "h NO [NONEXISTENT] ");
    begins(ann, "i GETACL user/fred", "i NO [NONEXISTENT] ");
    begins(ann, "j MYRIGHTS user/nobody", "j NO [NONEXISTENT] ");
    quiet(fred, "k SETACL INBOX ann l");
    quiet(ann, "l SUBSCRIBE user/fred");
    quiet(fred, "m DELETEACL INBOX ann");
    begins(ann, "n LSUB \"\" *", "* LSUB ");
}

/* ---- RFC 5464, 4.3 ----------------------------------------------------- */

static void
test_limits_of_annotations(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    AUTO(buf_free) struct buf line = BUF_INIT;

    world.opt.command_bytes_max = 200000;
    fake_hang_up(c);
    c = login(0, "fred");
    buf_addf(&line, "a SETMETADATA INBOX (/shared/comment {%u+}\r\n",
             ANNOT_VALUE_MAX + 1);
    for (size_t i = 0; i <= ANNOT_VALUE_MAX; i++)
        buf_add_byte(&line, 'x');
    buf_add_str(&line, ")");
    talk(c, buf_cstr(&line),
         "a NO [METADATA MAXSIZE 65536] Value too large\r\n");
    for (unsigned i = 0; i <= ANNOTS_PER_TARGET; i++) {
        buf_clear(&line);
        buf_addf(&line, "b SETMETADATA INBOX (/shared/n%u \"\")", i);
        talk(c, buf_cstr(&line),
             i < ANNOTS_PER_TARGET
                 ? "b OK Completed\r\n"
                 : "b NO [METADATA TOOMANY] Too many annotations\r\n");
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_bad_commands_are_bad),
        T(test_a_tag_may_come_again),
        T(test_one_untagged_capability),
        T(test_enable_changes_no_capability),
        T(test_status_of_the_selected_mailbox),
        T(test_create_takes_a_trailing_separator),
        T(test_one_message_has_one_appenduid),
        T(test_no_uids_without_the_right_to_read),
        T(test_a_message_named_twice_is_stored_once),
        T(test_the_entry_of_a_modseq_key_is_passed_over),
        T(test_close_raises_modseq_and_does_not_say_so),
        T(test_uid_expunge_tells_highestmodseq),
        T(test_sort_ends_in_modseq),
        T(test_examine_changes_nothing),
        T(test_status_size_is_the_sum),
        T(test_idle_of_rev2_tells_uids),
        T(test_list_options),
        T(test_a_limit_of_nothing),
        T(test_charsets_of_sort_and_thread),
        T(test_rights_decide_over_flags),
        T(test_close_without_e_is_ok),
        T(test_fetch_without_s_leaves_seen),
        T(test_what_rights_select_tells),
        T(test_limits_of_annotations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
