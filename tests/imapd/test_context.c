/*
 * tests/imapd/test_context.c - results that are kept level (RFC 5267): what
 * comes and goes in them, in which order it is told, positions in results of
 * SORT, and what ends it.
 */
#include "tests/imapd/talking.h"

#define MAIL(subject) "Subject: " subject "\r\n\r\ntext\r\n"

static struct fake_client *c, *other;

static void
three_mails(void)
{
    c = login(0, "fred");
    other = login(1, "fred");
    append(c, "INBOX", "", MAIL("b"));
    append(c, "INBOX", "(\\Flagged) ", MAIL("d"));
    append(c, "INBOX", "", MAIL("f"));
    quiet(other, "s SELECT INBOX");
    quiet(c, "s SELECT INBOX");
}

static void
test_flags_of_others_change_a_result(void **state)
{
    (void)state;
    three_mails();
    talk(c, "a UID SEARCH RETURN (UPDATE COUNT) FLAGGED",
         "* ESEARCH (TAG \"a\") UID COUNT 1\r\na OK Completed\r\n");
    quiet(other, "b STORE 1,3 +FLAGS (\\Flagged)");
    talk(c, "c NOOP",
         "* 1 FETCH (FLAGS (\\Flagged))\r\n* 3 FETCH (FLAGS (\\Flagged))\r\n"
         "* ESEARCH (TAG \"a\") UID ADDTO (0 1,3)\r\nc OK Completed\r\n");
    /* One's own changes too; a flag that is not asked for says nothing. */
    talk(c, "d STORE 2 FLAGS.SILENT (\\Answered)",
         "* ESEARCH (TAG \"a\") UID REMOVEFROM (0 2)\r\nd OK Completed\r\n");
    talk(c, "e STORE 1 +FLAGS.SILENT (\\Answered)", "e OK Completed\r\n");
}

static void
test_new_ones_and_expunged_ones(void **state)
{
    (void)state;
    three_mails();
    talk(c, "a SEARCH RETURN (UPDATE ALL) NOT FLAGGED",
         "* ESEARCH (TAG \"a\") ALL 1,3\r\na OK Completed\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL("g"));
    talk(c, "b NOOP",
         "* 4 EXISTS\r\n* 0 RECENT\r\n"
         "* ESEARCH (TAG \"a\") ADDTO (0 4)\r\nb OK Completed\r\n");
    quiet(other, "c STORE 1:2 +FLAGS.SILENT (\\Deleted)");
    quiet(c, "d NOOP");
    quiet(other, "e EXPUNGE");
    /* It leaves the result at once, numbers change later (A.3). */
    talk(c, "f FETCH 1 UID",
         "* 1 FETCH (UID 1)\r\n* ESEARCH (TAG \"a\") REMOVEFROM (0 1)\r\n"
         "f OK Completed\r\n");
    talk(c, "g NOOP", "* 1 EXPUNGE\r\n* 1 EXPUNGE\r\ng OK Completed\r\n");
    quiet(other, "h STORE 1 +FLAGS.SILENT (\\Deleted)");
    quiet(c, "i NOOP");
    quiet(other, "j EXPUNGE");
    talk(c, "k NOOP",
         "* ESEARCH (TAG \"a\") REMOVEFROM (0 1)\r\n* 1 EXPUNGE\r\n"
         "k OK Completed\r\n");
}

static void
test_idle_tells_updates(void **state)
{
    (void)state;
    three_mails();
    quiet(c, "a UID SEARCH RETURN (UPDATE) SUBJECT x");
    talk(c, "b IDLE", "+ idling\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL("xyz"));
    expect(c, "* 4 EXISTS\r\n* 1 RECENT\r\n"
              "* ESEARCH (TAG \"a\") UID ADDTO (0 4)\r\n");
    talk(c, "DONE", "b OK Completed\r\n");
}

/* Numbers in the keys stand for what they stood for at first. */
static void
test_numbers_of_the_command_are_of_then(void **state)
{
    (void)state;
    three_mails();
    talk(c, "a SEARCH RETURN (UPDATE COUNT) 2:3 UNDELETED",
         "* ESEARCH (TAG \"a\") COUNT 2\r\na OK Completed\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL("g"));
    quiet(other, "b STORE 1 +FLAGS.SILENT (\\Deleted)");
    quiet(other, "c EXPUNGE");
    talk(c, "d NOOP",
         "* 1 EXPUNGE\r\n* 3 EXISTS\r\n* 0 RECENT\r\nd OK Completed\r\n");
    quiet(other, "e STORE 1 +FLAGS.SILENT (\\Deleted)");
    talk(c, "f NOOP",
         "* 1 FETCH (FLAGS (\\Flagged \\Deleted))\r\n"
         "* ESEARCH (TAG \"a\") REMOVEFROM (0 1)\r\nf OK Completed\r\n");
}

static void
test_sorted_results_have_positions(void **state)
{
    (void)state;
    three_mails();
    talk(c, "a UID SORT RETURN (UPDATE ALL) (REVERSE SUBJECT) UTF-8 UNDELETED",
         "* ESEARCH (TAG \"a\") UID ALL 3,2,1\r\na OK Completed\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL("e"));
    append(other, "INBOX", "(\\Seen) ", MAIL("a"));
    append(other, "INBOX", "(\\Seen) ", MAIL("z"));
    talk(c, "b NOOP",
         "* 6 EXISTS\r\n* 0 RECENT\r\n"
         "* ESEARCH (TAG \"a\") UID ADDTO (2 4 5 5 1 6)\r\n"
         "b OK Completed\r\n");
    /* Now 6,3,4,2,1,5. */
    quiet(other, "c STORE 3,1 +FLAGS.SILENT (\\Deleted)");
    talk(c, "d NOOP",
         "* 1 FETCH (FLAGS (\\Deleted))\r\n* 3 FETCH (FLAGS (\\Deleted))\r\n"
         "* ESEARCH (TAG \"a\") UID REMOVEFROM (5 1 2 3)\r\n"
         "d OK Completed\r\n");
    quiet(other, "e STORE 2 +FLAGS.SILENT (\\Deleted)");
    quiet(other, "f EXPUNGE");
    talk(c, "g NOOP",
         "* ESEARCH (TAG \"a\") UID REMOVEFROM (3 2)\r\n"
         "* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\ng OK Completed\r\n");
    quiet(other, "h STORE 2 +FLAGS.SILENT (\\Deleted)");
    talk(c, "i NOOP",
         "* 2 FETCH (FLAGS (\\Deleted \\Seen))\r\n"
         "* ESEARCH (TAG \"a\") UID REMOVEFROM (3 5)\r\ni OK Completed\r\n");
}

/* Those that leave at once have the positions of their turn, one after the
 * other, whether all of them go or some. */
static void
test_many_are_expunged_at_once(void **state)
{
    static const char *const more[] = {MAIL("g"), MAIL("h"), MAIL("i"),
                                       MAIL("j"), MAIL("k"), MAIL("l")};
    (void)state;
    three_mails();
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        append(other, "INBOX", "(\\Seen) ", more[i]);
    quiet(c, "s NOOP");
    talk(c, "a UID SORT RETURN (UPDATE ALL) (REVERSE SUBJECT) UTF-8 ALL",
         "* ESEARCH (TAG \"a\") UID ALL 9,8,7,6,5,4,3,2,1\r\n"
         "a OK Completed\r\n");
    talk(c, "b UID SEARCH RETURN (UPDATE COUNT) NOT UID 5",
         "* ESEARCH (TAG \"b\") UID COUNT 8\r\nb OK Completed\r\n");
    quiet(other, "c UID STORE 1,3,5:6,9 +FLAGS.SILENT (\\Deleted)");
    quiet(c, "s NOOP");
    quiet(other, "d EXPUNGE");
    talk(c, "e NOOP",
         "* ESEARCH (TAG \"b\") UID REMOVEFROM (0 1,3,6,9)\r\n"
         "* ESEARCH (TAG \"a\") UID REMOVEFROM (1 9 3 6 3 5 4 3 5 1)\r\n"
         "* 1 EXPUNGE\r\n* 2 EXPUNGE\r\n* 3 EXPUNGE\r\n* 3 EXPUNGE\r\n"
         "* 5 EXPUNGE\r\ne OK Completed\r\n");
    quiet(other, "f STORE 1:* +FLAGS.SILENT (\\Deleted)");
    quiet(c, "s NOOP");
    quiet(other, "g EXPUNGE");
    talk(c, "h NOOP",
         "* ESEARCH (TAG \"b\") UID REMOVEFROM (0 2,4,7:8)\r\n"
         "* ESEARCH (TAG \"a\") UID REMOVEFROM (1 8 1 7 1 4 1 2)\r\n"
         "* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n"
         "h OK Completed\r\n");
}

/* One comes in before the place of one that goes, in one turn. */
static void
test_positions_are_those_of_their_turn(void **state)
{
    (void)state;
    three_mails();
    talk(c, "a UID SORT RETURN (UPDATE ALL) (SUBJECT) UTF-8 UNFLAGGED",
         "* ESEARCH (TAG \"a\") UID ALL 1,3\r\na OK Completed\r\n");
    quiet(other, "b STORE 2 -FLAGS.SILENT (\\Flagged)");
    quiet(other, "c STORE 3 +FLAGS.SILENT (\\Flagged)");
    talk(c, "d NOOP",
         "* 2 FETCH (FLAGS ())\r\n* 3 FETCH (FLAGS (\\Flagged))\r\n"
         "* ESEARCH (TAG \"a\") UID ADDTO (2 2)\r\n"
         "* ESEARCH (TAG \"a\") UID REMOVEFROM (3 3)\r\n"
         "d OK Completed\r\n");
}

/* Several keys change at once: what is sorted by them is in order after. */
static void
test_many_annotations_move(void **state)
{
    (void)state;
    three_mails();
    for (int i = 4; i <= 7; i++)
        append(other, "INBOX", "(\\Seen) ", MAIL("x"));
    quiet(other, "s NOOP");
    for (int i = 1; i <= 7; i++) {
        char line[100];
        snprintf(line, sizeof(line),
                 "x STORE %d ANNOTATION (/comment (value.shared \"%c\"))", i,
                 'b' + i);
        quiet(other, line);
    }
    quiet(c, "s NOOP");
    talk(c,
         "a UID SORT RETURN (UPDATE ALL) (ANNOTATION /comment value.shared) "
         "UTF-8 ALL",
         "* ESEARCH (TAG \"a\") UID ALL 1:7\r\na OK Completed\r\n");
    quiet(other, "b STORE 1 ANNOTATION (/comment (value.shared \"ca\"))");
    quiet(other, "c STORE 5 ANNOTATION (/comment (value.shared \"a\"))");
    talk(c, "d NOOP",
         "* 1 FETCH (FLAGS ())\r\n* 5 FETCH (FLAGS (\\Seen))\r\n"
         "* ESEARCH (TAG \"a\") UID REMOVEFROM (1 1 4 5) "
         "ADDTO (1 1 1 5)\r\nd OK Completed\r\n");
    talk(c, "e UID SORT (ANNOTATION /comment value.shared) UTF-8 ALL",
         "* SORT 5 1 2 3 4 6 7\r\ne OK Completed\r\n");
}

static void
test_annotations_move_what_is_sorted_by_them(void **state)
{
    (void)state;
    three_mails();
    quiet(other, "b STORE 2 ANNOTATION (/comment (value.shared \"m\"))");
    quiet(c, "s NOOP");
    talk(c,
         "a SORT RETURN (UPDATE ALL) (ANNOTATION /comment value.shared) UTF-8 "
         "ALL",
         "* ESEARCH (TAG \"a\") ALL 1,3,2\r\na OK Completed\r\n");
    quiet(other, "b STORE 1 ANNOTATION (/comment (value.shared \"z\"))");
    talk(c, "c NOOP",
         "* 1 FETCH (FLAGS ())\r\n"
         "* ESEARCH (TAG \"a\") REMOVEFROM (1 1) ADDTO (3 1)\r\n"
         "c OK Completed\r\n");
}

static void
test_what_ends_it(void **state)
{
    (void)state;
    three_mails();
    quiet(c, "a SEARCH RETURN (UPDATE) FLAGGED");
    talk(c, "a SORT RETURN (UPDATE) (SUBJECT) UTF-8 FLAGGED",
         "a BAD Tag reuse\r\n");
    quiet(c, "b SEARCH RETURN (UPDATE CONTEXT) FLAGGED");
    talk(c, "x CANCELUPDATE b", "x BAD Missing or invalid string\r\n");
    talk(c, "x CANCELUPDATE \"b\" \"unknown\"", "x OK No further updates\r\n");
    quiet(other, "c STORE 1 +FLAGS (\\Flagged)");
    talk(c, "d NOOP",
         "* 1 FETCH (FLAGS (\\Flagged))\r\n"
         "* ESEARCH (TAG \"a\") ADDTO (0 1)\r\nd OK Completed\r\n");
    quiet(c, "e SELECT INBOX");
    quiet(other, "f STORE 3 +FLAGS (\\Flagged)");
    talk(c, "g NOOP", "* 3 FETCH (FLAGS (\\Flagged))\r\ng OK Completed\r\n");
    /* RFC 7377, 2.2: of the selected mailbox alone. */
    quiet(c, "h CREATE INBOX/x");
    talk(c,
         "h ESEARCH IN (mailboxes (INBOX INBOX/x)) RETURN (UPDATE COUNT) "
         "DELETED",
         "h OK Completed\r\n");
    append(other, "INBOX/x", "(\\Deleted) ", MAIL("x"));
    append(other, "INBOX", "(\\Deleted) ", MAIL("x"));
    talk(c, "i NOOP",
         "* 4 EXISTS\r\n* 0 RECENT\r\n"
         "* ESEARCH (TAG \"h\") UID ADDTO (0 4)\r\ni OK Completed\r\n");
    quiet(c, "i UNSELECT");
    talk(c, "j ESEARCH IN (mailboxes INBOX) RETURN (UPDATE) ALL",
         "j BAD No mailbox is selected\r\n");
    talk(c, "j CANCELUPDATE \"a\"", "j BAD Please select a mailbox first\r\n");
}

/* RFC 5267, 4.3.1: refused for some, the result is told all the same. */
static void
test_more_than_there_may_be(void **state)
{
    (void)state;
    three_mails();
    char line[100], want[200];

    for (int i = 0; i < 9; i++) {
        snprintf(line, sizeof(line), "t%d SEARCH RETURN (UPDATE COUNT) FLAGGED",
                 i);
        snprintf(want, sizeof(want),
                 "* ESEARCH (TAG \"t%d\") COUNT 1\r\n%st%d OK Completed\r\n", i,
                 i < 8 ? ""
                       : "* NO [NOUPDATE \"t8\"] Too much to keep level\r\n",
                 i);
        talk(c, line, want);
    }
    talk(c, "x CANCELUPDATE \"t0\" \"t1\" \"t2\" \"t3\" \"t4\" \"t5\" \"t6\"",
         "x OK No further updates\r\n");
    quiet(other, "b STORE 1 +FLAGS (\\Flagged)");
    talk(c, "c NOOP",
         "* 1 FETCH (FLAGS (\\Flagged))\r\n"
         "* ESEARCH (TAG \"t7\") ADDTO (0 1)\r\nc OK Completed\r\n");
}

/* So many messages are not looked at in one turn; none is lost by it. */
static void
test_many_changes_come_in_several_turns(void **state)
{
    (void)state;
    three_mails();
    for (int i = 0; i < 6; i++)
        quiet(other, "a COPY 1:* INBOX");
    quiet(c, "b SELECT INBOX");
    talk(c, "c UID SEARCH RETURN (UPDATE COUNT) FLAGGED TEXT text",
         "* ESEARCH (TAG \"c\") UID COUNT 64\r\nc OK Completed\r\n");
    quiet(other, "d NOOP");
    talk(c, "e IDLE", "+ idling\r\n");
    quiet(other, "f STORE 1:* +FLAGS.SILENT (\\Flagged)");
    fake_turn(&world);
    size_t responses = 0;
    uint64_t added = 0;
    for (struct span left = buf_span(&c->out);;) {
        static const char head[] = "* ESEARCH (TAG \"c\") UID ADDTO (0 ";
        ptrdiff_t at = span_find(left, span_str(head));
        if (at < 0)
            break;
        left = span_skip(left, (size_t)at + strlen(head));
        AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
        assert_true(uidset_parse(
            span_sub(left, 0, (size_t)span_find_byte(left, ')', 0)), 0, 1000,
            &uids));
        added += uidset_count(&uids);
        responses++;
    }
    assert_int_equal(added, 128);
    assert_true(responses > 1);
    buf_clear(&c->out);
    talk(c, "DONE", "e OK Completed\r\n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_flags_of_others_change_a_result),
        T(test_new_ones_and_expunged_ones),
        T(test_idle_tells_updates),
        T(test_numbers_of_the_command_are_of_then),
        T(test_sorted_results_have_positions),
        T(test_many_are_expunged_at_once),
        T(test_positions_are_those_of_their_turn),
        T(test_many_annotations_move),
        T(test_annotations_move_what_is_sorted_by_them),
        T(test_what_ends_it),
        T(test_more_than_there_may_be),
        T(test_many_changes_come_in_several_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
