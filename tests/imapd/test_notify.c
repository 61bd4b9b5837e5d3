/*
 * tests/imapd/test_notify.c - NOTIFY (RFC 5465): what is told between commands
 * of the selected mailbox, of others, of names, subscriptions and annotations;
 * what is refused; what is told no more.
 */
#include "imapd/notify.h"
#include "tests/imapd/talking.h"

#define MAIL "Subject: x\r\n\r\ntext\r\n"

/* C is told, OTHER does it. */
static struct fake_client *c, *other;

static void
two_sessions(void)
{
    c = login(0, "fred");
    other = login(1, "fred");
    quiet(c, "s CREATE INBOX/a");
    quiet(c, "s CREATE INBOX/a/b");
    append(c, "INBOX", "(\\Seen) ", MAIL);
    append(c, "INBOX", "(\\Seen) ", MAIL);
    quiet(other, "s SELECT INBOX");
    quiet(c, "s SELECT INBOX");
}

static void
test_selected_is_told_at_once(void **state)
{
    (void)state;
    two_sessions();
    talk(c,
         "a NOTIFY SET (SELECTED (MessageNew (UID FLAGS) MessageExpunge "
         "FlagChange))",
         "a OK Completed\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    expect(c, "* 3 EXISTS\r\n* 1 RECENT\r\n"
              "* 3 FETCH (UID 3 FLAGS (\\Recent \\Seen))\r\n");
    quiet(other, "b STORE 1 +FLAGS (\\Deleted)");
    expect(c, "* 1 FETCH (FLAGS (\\Deleted \\Seen) UID 1)\r\n");
    quiet(other, "c EXPUNGE");
    expect(c, "* 1 EXPUNGE\r\n");
    /* Another mailbox is selected: it is that one from then on. */
    quiet(c, "d SELECT INBOX/a");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    expect(c, "");
    append(other, "INBOX/a", "(\\Seen) ", MAIL);
    expect(c, "* 1 EXISTS\r\n* 1 RECENT\r\n"
              "* 1 FETCH (UID 1 FLAGS (\\Recent \\Seen))\r\n");
    /* What the session itself puts there is not fetched. */
    append(c, "INBOX/a", "(\\Seen) ", MAIL);
    expect(c, "");
}

static void
test_delayed_keeps_numbers(void **state)
{
    (void)state;
    two_sessions();
    quiet(c, "a NOTIFY SET (selected-delayed (MessageNew MessageExpunge))");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    expect(c, "* 3 EXISTS\r\n* 1 RECENT\r\n");
    quiet(other, "b STORE 1 +FLAGS (\\Deleted)");
    quiet(other, "c EXPUNGE");
    expect(c, "");
    talk(c, "d FETCH 3 UID", "* 3 FETCH (UID 3)\r\nd OK Completed\r\n");
    talk(c, "e NOOP", "* 1 EXPUNGE\r\ne OK Completed\r\n");
    quiet(other, "f STORE 1 +FLAGS (\\Deleted)");
    talk(c, "g IDLE", "+ idling\r\n");
    quiet(other, "h EXPUNGE");
    expect(c, "* 1 EXPUNGE\r\n");
    talk(c, "DONE", "g OK Completed\r\n");
}

static void
test_none_is_silent_but_for_what_is_asked(void **state)
{
    (void)state;
    two_sessions();
    append(other, "INBOX", "(\\Seen) ", MAIL);
    talk(c, "a NOTIFY NONE", "a OK Completed\r\n");
    quiet(other, "b STORE 1 +FLAGS (\\Deleted)");
    talk(c, "c NOOP", "c OK Completed\r\n");
    talk(c, "d FETCH 1:* UID",
         "* 1 FETCH (UID 1)\r\n* 2 FETCH (UID 2)\r\nd OK Completed\r\n");
    talk(c, "e IDLE", "+ idling\r\n");
    quiet(other, "f NOOP");
    expect(c, "");
    talk(c, "DONE", "e OK Completed\r\n");
    /* A SET tells all that has gathered. */
    talk(c, "g NOTIFY SET (selected NONE)",
         "* 3 EXISTS\r\n* 0 RECENT\r\n* 1 FETCH (FLAGS (\\Deleted \\Seen) UID "
         "1)\r\n"
         "g OK Completed\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    talk(c, "h NOOP", "h OK Completed\r\n");
    /* One's own EXPUNGE is told. */
    talk(c, "i EXPUNGE",
         "* 1 EXPUNGE\r\n* 3 EXISTS\r\n* 0 RECENT\r\ni OK Completed\r\n");
}

static void
test_idle_sends_the_same(void **state)
{
    (void)state;
    two_sessions();
    quiet(c, "a NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge)) "
             "(mailboxes INBOX/a (MessageNew MessageExpunge))");
    talk(c, "b IDLE", "+ idling\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    expect(c, "* 3 EXISTS\r\n* 1 RECENT\r\n* 3 FETCH (UID 3)\r\n");
    append(other, "INBOX/a", "", MAIL);
    expect(c, "* STATUS INBOX/a (MESSAGES 1 UIDNEXT 2)\r\n");
    quiet(other, "c STORE 1 +FLAGS (\\Flagged)");
    expect(c, "");
    talk(c, "DONE", "b OK Completed\r\n");
    append(other, "INBOX/a", "", MAIL);
    expect(c, "* STATUS INBOX/a (MESSAGES 2 UIDNEXT 3)\r\n");
}

static void
test_other_mailboxes(void **state)
{
    (void)state;
    two_sessions();
    talk(c,
         "a NOTIFY SET STATUS (subtree INBOX/a (MessageNew MessageExpunge)) "
         "(mailboxes (INBOX/a nowhere) (MessageNew MessageExpunge FlagChange))",
         "* STATUS INBOX/a (MESSAGES 0 UIDNEXT 1 UIDVALIDITY V HIGHESTMODSEQ "
         "M1)\r\n"
         "* STATUS INBOX/a/b (MESSAGES 0 UIDNEXT 1 UIDVALIDITY V)\r\n"
         "a OK Completed\r\n");
    append(other, "INBOX/a/b", "", MAIL);
    expect(c, "* STATUS INBOX/a/b (MESSAGES 1 UIDNEXT 2)\r\n");
    append(other, "INBOX/a", "", MAIL);
    expect(c, "* STATUS INBOX/a (MESSAGES 1 UIDNEXT 2)\r\n");
    append(other, "INBOX", "", MAIL); /* without SELECTED: not told */
    talk(c, "b NOOP", "b OK Completed\r\n");
    quiet(other, "c SELECT INBOX/a");
    quiet(other, "d STORE 1 +FLAGS.SILENT (\\Deleted)");
    expect(c, ""); /* without CONDSTORE */
    quiet(other, "e EXPUNGE");
    expect(c, "* STATUS INBOX/a (MESSAGES 0 UIDNEXT 2)\r\n");
    quiet(c, "f UNSELECT");
    quiet(c, "g ENABLE CONDSTORE");
    append(other, "INBOX/a", "", MAIL);
    add_line(c, "h NOOP");
    fake_turn(&world);
    assert_true(span_find(buf_span(&c->out), SPAN_LIT("HIGHESTMODSEQ")) > 0);
    buf_clear(&c->out);
    quiet(other, "i NOOP");
    quiet(other, "j STORE 1 +FLAGS.SILENT (\\Flagged)");
    fake_turn(&world);
    assert_true(span_starts(buf_span(&c->out),
                            SPAN_LIT("* STATUS INBOX/a (UIDVALIDITY ")));
    assert_true(span_find(buf_span(&c->out), SPAN_LIT("HIGHESTMODSEQ")) > 0);
    buf_clear(&c->out);
}

static void
test_names(void **state)
{
    (void)state;
    two_sessions();
    quiet(c, "a NOTIFY SET (personal (MailboxName))");
    quiet(other, "b CREATE INBOX/c");
    expect(c, "* LIST (\\Subscribed \\HasChildren) \"/\" INBOX\r\n"
              "* LIST (\\HasNoChildren) \"/\" INBOX/c\r\n");
    /* Mailboxes below are renamed too, and not told. */
    quiet(other, "c RENAME INBOX/a INBOX/z");
    expect(c, "* LIST (\\HasChildren) \"/\" INBOX/z (\"OLDNAME\" "
              "(INBOX/a))\r\n");
    quiet(other, "d DELETE INBOX/c");
    expect(c, "* LIST (\\NonExistent) \"/\" INBOX/c\r\n"
              "* LIST (\\Subscribed \\HasChildren) \"/\" INBOX\r\n");
    quiet(other, "e SUBSCRIBE INBOX/z");
    expect(c, "");
}

static void
test_rights_that_come_and_go(void **state)
{
    (void)state;
    two_sessions();
    struct fake_client *ann = login(2, "ann");

    quiet(c, "a SETACL INBOX/a ann l");
    talk(ann,
         "b NOTIFY SET (subtree user/fred (MailboxName MessageNew "
         "MessageExpunge))",
         "* LIST (\\NoAccess) \"/\" user/fred/a\r\nb OK Completed\r\n");
    talk(ann,
         "b NOTIFY SET (mailboxes (user/fred/a user/fred/a/b) (MailboxName "
         "MessageNew MessageExpunge))",
         "* LIST (\\NoAccess) \"/\" user/fred/a\r\nb OK Completed\r\n");
    append(c, "INBOX/a", "", MAIL);
    expect(ann, "");
    quiet(c, "c SETACL INBOX/a ann lr");
    expect(ann, "* LIST (\\HasNoChildren) \"/\" user/fred/a\r\n");
    append(c, "INBOX/a", "", MAIL);
    expect(ann, "* STATUS user/fred/a (MESSAGES 2 UIDNEXT 3)\r\n");
    quiet(c, "d DELETEACL INBOX/a ann");
    expect(ann, "* LIST (\\NonExistent) \"/\" user/fred/a\r\n");
    append(c, "INBOX/a", "", MAIL);
    expect(ann, "");
    /* Granted again: it goes on by itself. */
    quiet(c, "e SETACL INBOX/a ann lr");
    expect(ann, "* LIST (\\HasNoChildren) \"/\" user/fred/a\r\n");
    append(c, "INBOX/a", "", MAIL);
    expect(ann, "* STATUS user/fred/a (MESSAGES 4 UIDNEXT 5)\r\n");
}

static void
test_subscriptions(void **state)
{
    (void)state;
    two_sessions();
    quiet(c, "a NOTIFY SET (personal (SubscriptionChange)) (subscribed "
             "(MessageNew MessageExpunge))");
    quiet(other, "b SUBSCRIBE INBOX/a/b");
    expect(c, "* LIST (\\Subscribed \\HasNoChildren) \"/\" INBOX/a/b\r\n");
    append(other, "INBOX/a/b", "", MAIL);
    expect(c, "* STATUS INBOX/a/b (MESSAGES 1 UIDNEXT 2)\r\n");
    quiet(other, "c UNSUBSCRIBE INBOX/a/b");
    expect(c, "* LIST (\\HasNoChildren) \"/\" INBOX/a/b\r\n");
    append(other, "INBOX/a/b", "", MAIL);
    expect(c, "");
}

static void
test_annotations(void **state)
{
    (void)state;
    two_sessions();
    struct fake_client *root = login(2, "cyrus");
    quiet(other, "a SETMETADATA INBOX (/shared/comment \"1\" /private/comment "
                 "\"2\")");
    quiet(c, "b NOTIFY SET (mailboxes INBOX (MailboxMetadataChange "
             "ServerMetadataChange))");
    quiet(other, "c SETMETADATA INBOX (/shared/comment \"3\" /private/comment "
                 "\"2\")");
    expect(c, "* METADATA INBOX /shared/comment\r\n");
    quiet(other, "d SETMETADATA INBOX (/shared/comment NIL /private/x \"2\")");
    expect(c, "* METADATA INBOX /private/x /shared/comment\r\n");
    quiet(root, "e SETMETADATA \"\" (/shared/motd \"hi\")");
    expect(c, "* METADATA \"\" /shared/motd\r\n");
    append(other, "INBOX", "", MAIL);
    expect(c, "");
}

static void
test_annotations_of_messages(void **state)
{
    (void)state;
    two_sessions();
    quiet(c, "a NOTIFY SET (selected (MessageNew MessageExpunge "
             "AnnotationChange))");
    quiet(other, "b STORE 1 ANNOTATION (/comment (value.shared \"secret\"))");
    expect(c, "* 1 FETCH (FLAGS (\\Seen) UID 1 ANNOTATION (/comment))\r\n");
}

/* What is refused leaves the one before in force. */
static void
test_what_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "NOTIFY SET",
        "NOTIFY SET (selected)",
        "NOTIFY SET (selected ())",
        "NOTIFY SET (selected (MessageNew))",
        "NOTIFY SET (selected (MessageExpunge))",
        "NOTIFY SET (personal (FlagChange))",
        "NOTIFY SET (personal (MessageNew FlagChange))",
        "NOTIFY SET (personal (AnnotationChange))",
        "NOTIFY SET (selected (MailboxName))",
        "NOTIFY SET (selected NONE) (selected-delayed NONE)",
        "NOTIFY SET (personal (MessageNew (UID) MessageExpunge))",
        "NOTIFY SET (subtree (MessageNew MessageExpunge))",
        "NOTIFY SET (subtree-one INBOX (MessageNew MessageExpunge))",
        "NOTIFY SET (everything (MailboxName))",
        "NOTIFY SET STATUS",
        "NOTIFY ALL",
        "NOTIFY NONE NONE",
    };
    two_sessions();
    quiet(c, "a NOTIFY SET (Selected (mESSAGEnEW messageexpunge))");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char line[200];
        snprintf(line, sizeof(line), "t %s", bad[i]);
        add_line(c, line);
        fake_turn(&world);
        if (!span_starts(buf_span(&c->out), SPAN_LIT("t BAD ")))
            fail_msg("%s: %s", bad[i], buf_cstr(&c->out));
        buf_clear(&c->out);
    }
    talk(c, "b NOTIFY SET (personal (MailboxName Earthquake))",
         "b NO [BADEVENT (MessageNew MessageExpunge FlagChange "
         "AnnotationChange MailboxName SubscriptionChange "
         "MailboxMetadataChange ServerMetadataChange)] Unknown event\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    expect(c, "* 3 EXISTS\r\n* 1 RECENT\r\n");
    /* No wildcards. */
    quiet(c, "c NOTIFY SET (mailboxes \"INBOX/*\" (MessageNew "
             "MessageExpunge))");
    append(other, "INBOX/a", "", MAIL);
    expect(c, "");
}

/* RFC 5465, 5.8: bounded, and the client is told. */
static void
test_overflow(void **state)
{
    (void)state;
    two_sessions();
    struct fake_client *root = login(2, "cyrus");
    AUTO(buf_free) struct buf line = BUF_INIT;

    quiet(c, "a NOTIFY SET (personal (MessageNew MessageExpunge))");
    for (unsigned i = 0; i < NOTIFY_BOXES_MAX; i++) {
        buf_clear(&line);
        buf_addf(&line, "b CREATE user/fred/n%u", i);
        quiet(root, buf_cstr(&line));
    }
    expect(c, "* OK [NOTIFICATIONOVERFLOW] Too much to tell\r\n");
    append(other, "INBOX", "", MAIL);
    talk(c, "c NOOP", "c OK Completed\r\n");
    talk(c, "d NOTIFY SET (personal (MessageNew MessageExpunge))",
         "* 3 EXISTS\r\n* 0 RECENT\r\n"
         "d NO [NOTIFICATIONOVERFLOW] Too much to watch\r\n");
    talk(c, "e NOTIFY SET (mailboxes INBOX/a (MessageNew MessageExpunge))",
         "e OK Completed\r\n");
}

/* So many mailboxes with so many annotations each, or less, are as much as a
 * session remembers. */
#define MANY_EACH 900U
#define MANY_BOXES                                                             \
    (NOTIFY_BYTES_MAX / (200U + sizeof(struct notify_annot)) / MANY_EACH + 1)

/* More annotations of MAILBOX, FIRST to FIRST + N - 1, with names of 200 bytes,
 * by OTHER. */
static void
annotate_many(const char *mailbox, unsigned first, unsigned n)
{
    AUTO(buf_free) struct buf line = BUF_INIT;

    for (unsigned i = first; i < first + n;) {
        buf_clear(&line);
        buf_addf(&line, "n SETMETADATA %s (", mailbox);
        for (unsigned k = 0; k < 16 && i < first + n; k++, i++)
            buf_addf(&line, "%s/private/comment/%0183u \"x\"",
                     k == 0 ? "" : " ", i);
        buf_add_byte(&line, ')');
        quiet(other, buf_cstr(&line));
    }
}

/* What a session remembers of annotations is bounded too, the text of the
 * command and the number of its groups. */
static void
test_overflow_of_other_kinds(void **state)
{
    (void)state;
    static const char annots[] =
        "(subtree INBOX/a (MailboxName MailboxMetadataChange))";
    const unsigned most =
        NOTIFY_BYTES_MAX / (200 + sizeof(struct notify_annot));
    AUTO(buf_free) struct buf line = BUF_INIT;

    two_sessions();
    for (unsigned k = 0; k < MANY_BOXES; k++) {
        char name[32];
        snprintf(name, sizeof(name), "INBOX/a/m%u", k);
        buf_clear(&line);
        buf_addf(&line, "m CREATE %s", name);
        quiet(other, buf_cstr(&line));
        annotate_many(name, 0, MIN(most - k * MANY_EACH, MANY_EACH));
    }
    buf_clear(&line);
    buf_addf(&line, "a NOTIFY SET %s", annots);
    talk(c, buf_cstr(&line), "a OK Completed\r\n");
    /* One that is other, of so many, is found. */
    quiet(other, "b SETMETADATA INBOX/a (/private/comment \"other\")");
    expect(c, "* METADATA INBOX/a /private/comment\r\n");
    quiet(other, "b SETMETADATA INBOX/a (/private/comment NIL)");
    expect(c, "* METADATA INBOX/a /private/comment\r\n");
    /* What is replaced does not count twice. */
    quiet(other, "b SETMETADATA INBOX/a/m0 (/private/comment \"x\")");
    expect(c, "* METADATA INBOX/a/m0 /private/comment\r\n");
    quiet(other, "b SETMETADATA INBOX/a/m0 (/private/comment NIL)");
    expect(c, "* METADATA INBOX/a/m0 /private/comment\r\n");
    /* Too many while it watches: told once, then as after NONE. */
    annotate_many("INBOX/a", 0, 1);
    fake_turn(&world);
    assert_true(span_find(buf_span(&c->out),
                          SPAN_LIT("* OK [NOTIFICATIONOVERFLOW] ")) >= 0);
    buf_clear(&c->out);
    quiet(other, "b SETMETADATA INBOX/a (/private/comment \"again\")");
    append(other, "INBOX", "", MAIL);
    expect(c, "");
    /* Too many from the start: refused, and nothing is watched. */
    talk(c, buf_cstr(&line),
         "* 3 EXISTS\r\n* 0 RECENT\r\n"
         "a NO [NOTIFICATIONOVERFLOW] Too much to watch\r\n");
    append(other, "INBOX", "", MAIL);
    expect(c, "");
    talk(c, "c NOTIFY SET (mailboxes INBOX/a (MailboxName))",
         "* 4 EXISTS\r\n* 0 RECENT\r\nc OK Completed\r\n");
    /* As many groups as there may be, and one more. */
    for (unsigned n = IMAP_SOURCES_MAX; n <= IMAP_SOURCES_MAX + 1; n++) {
        buf_clear(&line);
        buf_add_str(&line, "d NOTIFY SET");
        for (unsigned i = 0; i < n; i++)
            buf_addf(&line, " (mailboxes INBOX/x%u (MailboxName))", i);
        talk(c, buf_cstr(&line),
             n == IMAP_SOURCES_MAX ? "d OK Completed\r\n"
                                   : "d BAD Too many groups\r\n");
    }
}

/* Not in the middle of a command that comes in pieces. */
static void
test_half_a_command_is_left_alone(void **state)
{
    (void)state;
    two_sessions();
    quiet(c, "a NOTIFY SET (selected (MessageNew (UID) MessageExpunge))");
    buf_add_str(&c->in, "b APPEND INBOX/a {22}\r\n");
    expect(c, "+ go ahead\r\n");
    buf_add_str(&c->in, "Subject: x\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    expect(c, "");
    buf_add_str(&c->in, "\r\ntext\r\n12");
    fake_turn(&world);
    talk(c, "",
         "* 3 EXISTS\r\n* 0 RECENT\r\n"
         "b OK [APPENDUID V 1] Completed\r\n"
         "* 3 FETCH (UID 3)\r\n");
}

/* RFC 5465, 7 */
static void
test_updates_of_results_with_attributes(void **state)
{
    (void)state;
    two_sessions();
    talk(c, "a SEARCH RETURN (COUNT UPDATE (UID FLAGS)) SUBJECT x",
         "* ESEARCH (TAG \"a\") COUNT 2\r\na OK Completed\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    append(other, "INBOX", "(\\Seen) ", "Subject: y\r\n\r\n");
    talk(c, "b NOOP",
         "* 4 EXISTS\r\n* 0 RECENT\r\n* ESEARCH (TAG \"a\") ADDTO (0 3)\r\n"
         "b OK Completed\r\n* 3 FETCH (UID 3 FLAGS (\\Seen))\r\n");
    talk(c, "c IDLE", "+ idling\r\n");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    expect(c, "* 5 EXISTS\r\n* 1 RECENT\r\n* ESEARCH (TAG \"a\") ADDTO (0 5)"
              "\r\n* 5 FETCH (UID 5 FLAGS (\\Recent \\Seen))\r\n");
    talk(c, "DONE", "c OK Completed\r\n");
}

/* RFC 8437, 4.1 */
static void
test_unauthenticate_ends_it(void **state)
{
    (void)state;
    two_sessions();
    quiet(c, "a NOTIFY SET (selected (MessageNew MessageExpunge)) (personal "
             "(MessageNew MessageExpunge MailboxName))");
    quiet(c, "b SEARCH RETURN (UPDATE) ALL");
    quiet(c, "c UNAUTHENTICATE");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    quiet(other, "d CREATE INBOX/q");
    expect(c, "");
    quiet(c, "e LOGIN fred secret");
    quiet(c, "f SELECT INBOX");
    append(other, "INBOX", "(\\Seen) ", MAIL);
    expect(c, "");
    talk(c, "g NOOP", "* 4 EXISTS\r\n* 0 RECENT\r\ng OK Completed\r\n");
}

static void
test_a_slow_reader_and_a_lost_one(void **state)
{
    (void)state;
    two_sessions();
    quiet(c, "a NOTIFY SET (selected (MessageNew (UID BODY.PEEK[]) "
             "MessageExpunge)) (personal (MessageNew MessageExpunge "
             "MailboxName SubscriptionChange MailboxMetadataChange))");
    c->full_at = 1;
    for (int i = 0; i < 5; i++)
        append(other, "INBOX", "(\\Seen) ", MAIL);
    fake_turn(&world);
    unsigned rounds = 0;
    uint32_t seen = 0;
    while (seen < 5 && rounds++ < 100) {
        for (struct span left = buf_span(&c->out);;) {
            ptrdiff_t at = span_find(left, SPAN_LIT("BODY[]"));
            if (at < 0)
                break;
            seen++;
            left = span_skip(left, (size_t)at + 1);
        }
        buf_clear(&c->out);
        imap_session_drained(c->session);
        fake_turn(&world);
    }
    assert_int_equal(seen, 5);
    /* What came while it waited is told in the end. */
    append(other, "INBOX/a", "(\\Seen) ", MAIL);
    append(other, "INBOX", "(\\Seen) ", MAIL);
    append(other, "INBOX/a", "(\\Seen) ", MAIL);
    bool told = false;
    for (rounds = 0; !told && rounds < 100; rounds++) {
        fake_turn(&world);
        told = span_find(buf_span(&c->out),
                         SPAN_LIT("* STATUS INBOX/a (MESSAGES 2 ")) >= 0;
        buf_clear(&c->out);
        imap_session_drained(c->session);
    }
    assert_true(told);
    /* It goes while it waits for the client, and while news come. */
    append(other, "INBOX", "(\\Seen) ", MAIL);
    append(other, "INBOX/a", "(\\Seen) ", MAIL);
    fake_hang_up(c);
    append(other, "INBOX", "(\\Seen) ", MAIL);
    quiet(other, "b CREATE INBOX/q");
    fake_turn(&world);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_selected_is_told_at_once),
        T(test_delayed_keeps_numbers),
        T(test_none_is_silent_but_for_what_is_asked),
        T(test_idle_sends_the_same),
        T(test_other_mailboxes),
        T(test_names),
        T(test_rights_that_come_and_go),
        T(test_subscriptions),
        T(test_annotations),
        T(test_annotations_of_messages),
        T(test_what_is_refused),
        T(test_overflow),
        T(test_overflow_of_other_kinds),
        T(test_half_a_command_is_left_alone),
        T(test_updates_of_results_with_attributes),
        T(test_unauthenticate_ends_it),
        T(test_a_slow_reader_and_a_lost_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
