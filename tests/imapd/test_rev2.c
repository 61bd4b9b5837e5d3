/*
 * tests/imapd/test_rev2.c - what ENABLE changes: IMAP4rev2 (RFC 9051),
 * UTF8=ACCEPT (6855), UIDONLY (9586).
 */
#include "tests/imapd/talking.h"

#define SELECTED(n, next, list)                                                \
    "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen)\r\n"              \
    "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen "     \
    "\\*)] Ok\r\n* " n " EXISTS\r\n"                                           \
    "* OK [UIDVALIDITY V] Ok\r\n* OK [UIDNEXT " next "] Ok\r\n"                \
    "* OK [HIGHESTMODSEQ M1] Ok\r\n* OK [MAILBOXID (V)] Ok\r\n* OK "           \
    "[ANNOTATIONS V] Ok\r\n"                                                   \
    "* LIST " list "\r\n"

static struct fake_client *
two(const char *enable)
{
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "", MSG_A);
    append(c, "INBOX", "(\\Seen) ", MSG_B);
    quiet(c, enable);
    return c;
}

static void
test_select_of_rev2_lists_and_knows_no_recent(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "", MSG_A);
    talk(c, "a ENABLE imap4rev2", "* ENABLED IMAP4rev2\r\na OK Completed\r\n");
    quiet(c, "x CREATE INBOX/s (USE (\\Sent))");
    talk(c, "b SELECT INBOX",
         SELECTED(
             "1", "2",
             "(\\HasChildren) \"/\" INBOX") "b OK [READ-WRITE] Completed\r\n");
    talk(c, "c FETCH 1 (FLAGS)", "* 1 FETCH (FLAGS ())\r\nc OK Completed\r\n");
    /* A name that is not written as it is. */
    nmodseqs = 0;
    talk(c, "d EXAMINE inbox",
         "* OK [CLOSED] Ok\r\n"
         "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen)\r\n"
         "* OK [PERMANENTFLAGS ()] Ok\r\n* 1 EXISTS\r\n"
         "* OK [UIDVALIDITY V] Ok\r\n* OK [UIDNEXT 2] Ok\r\n"
         "* OK [HIGHESTMODSEQ M1] Ok\r\n* OK [MAILBOXID (V)] Ok\r\n* OK "
         "[ANNOTATIONS V] Ok\r\n"
         "* LIST (\\HasChildren) \"/\" INBOX (\"OLDNAME\" (inbox))\r\n"
         "d OK [READ-ONLY] Completed\r\n");
}

static void
test_search_of_rev2_is_answered_by_esearch(void **state)
{
    (void)state;
    struct fake_client *c = two("a ENABLE IMAP4rev2");

    quiet(c, "b SELECT INBOX");
    talk(c, "c SEARCH ALL",
         "* ESEARCH (TAG \"c\") ALL 1:2\r\nc OK Completed\r\n");
    talk(c, "d UID SEARCH UNSEEN",
         "* ESEARCH (TAG \"d\") UID ALL 1\r\nd OK Completed\r\n");
    talk(c, "e SEARCH FLAGGED", "* ESEARCH (TAG \"e\")\r\ne OK Completed\r\n");
    talk(c, "f SEARCH RETURN (COUNT) ALL",
         "* ESEARCH (TAG \"f\") COUNT 2\r\nf OK Completed\r\n");
}

/* RFC 9051, 7.5.2: what comes unasked names the UID. */
static void
test_changes_come_with_the_uid(void **state)
{
    (void)state;
    struct fake_client *c = two("a ENABLE IMAP4rev2");
    struct fake_client *d = login(1, "fred");

    quiet(c, "b SELECT INBOX");
    quiet(d, "c SELECT INBOX");
    quiet(d, "d STORE 2 +FLAGS (\\Flagged)");
    talk(c, "e NOOP",
         "* 2 FETCH (FLAGS (\\Flagged \\Seen) UID 2)\r\ne OK Completed\r\n");
    talk(c, "f STORE 1 +FLAGS (\\Deleted)",
         "* 1 FETCH (FLAGS (\\Deleted) UID 1)\r\nf OK Completed\r\n");
    append(d, "INBOX", "", MSG_A);
    talk(c, "g NOOP", "* 3 EXISTS\r\ng OK Completed\r\n");
    talk(c, "h STATUS INBOX (MESSAGES DELETED SIZE UNSEEN)",
         "* STATUS INBOX (MESSAGES 3 UNSEEN 2 DELETED 1 SIZE 420)\r\n"
         "h OK Completed\r\n");
    talk(c, "i EXPUNGE", "* 1 EXPUNGE\r\ni OK Completed\r\n");
}

static void
test_names_are_utf8_once_enabled(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct fake_client *d = login(1, "fred");

    talk(c, "a CREATE \"INBOX/Entw\xc3\xbcrfe\"",
         "a NO [CANNOT] Invalid mailbox name\r\n");
    talk(c, "b ENABLE UTF8=ACCEPT",
         "* ENABLED UTF8=ACCEPT\r\nb OK Completed\r\n");
    quiet(c, "c CREATE \"INBOX/Entw\xc3\xbcrfe & Co\"");
    quiet(c, "d CREATE {10+}\r\nINBOX/\xf0\x9f\x98\x80");
    talk(c, "e LIST \"\" \"INBOX/*\xc3\xbc%\"",
         "* LIST (\\HasNoChildren) \"/\" \"INBOX/Entw\xc3\xbcrfe & Co\"\r\n"
         "e OK Completed\r\n");
    talk(d, "f LIST \"\" INBOX/*",
         "* LIST (\\HasNoChildren) \"/\" INBOX/&2D3eAA-\r\n"
         "* LIST (\\HasNoChildren) \"/\" \"INBOX/Entw&APw-rfe &- Co\"\r\n"
         "f OK Completed\r\n");
    talk(c, "g STATUS \"INBOX/Entw\xc3\xbcrfe & Co\" (MESSAGES)",
         "* STATUS \"INBOX/Entw\xc3\xbcrfe & Co\" (MESSAGES 0)\r\n"
         "g OK Completed\r\n");
    quiet(d, "h SELECT \"INBOX/Entw&APw-rfe &- Co\"");
    talk(c, "i CREATE \"INBOX/\xc3\"",
         "i NO [CANNOT] Invalid mailbox name\r\n");
    talk(c, "j CREATE \"INBOX/\xe2\x80\xa8\"",
         "j NO [CANNOT] Invalid mailbox name\r\n");
    talk(c, "k CREATE \"INBOX/\xed\xa0\x80\"",
         "k NO [CANNOT] Invalid mailbox name\r\n");
    quiet(c, "l SELECT INBOX");
    talk(c, "m SEARCH CHARSET UTF-8 SUBJECT x",
         "m BAD With UTF8=ACCEPT there is no CHARSET\r\n");
    talk(c, "n SEARCH SUBJECT \"\xc3\xbc\"", "* SEARCH\r\nn OK Completed\r\n");
}

static void
test_uidonly_knows_no_sequence_numbers(void **state)
{
    (void)state;
    struct fake_client *c = two("a ENABLE UIDONLY");
    struct fake_client *d = login(1, "fred");
    const char *const refused[] = {"x FETCH 1 FLAGS",
                                   "x STORE 1 FLAGS ()",
                                   "x SEARCH ALL",
                                   "x COPY 1 INBOX",
                                   "x MOVE 1 INBOX",
                                   "x UID SEARCH 1:2",
                                   "x UID SEARCH NOT (ALL 1)",
                                   "x SORT (DATE) UTF-8 ALL",
                                   "x THREAD REFS UTF-8 ALL"};

    quiet(c, "b SELECT INBOX");
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        talk(c, refused[i], "x BAD [UIDREQUIRED] Only UIDs, please\r\n");
    talk(c, "c UID FETCH 1:* (FLAGS RFC822.SIZE)",
         "* 1 UIDFETCH (FLAGS (\\Recent) RFC822.SIZE 120)\r\n"
         "* 2 UIDFETCH (FLAGS (\\Recent \\Seen) RFC822.SIZE 180)\r\n"
         "c OK Completed\r\n");
    talk(c, "d UID FETCH 2 (UID)",
         "* 2 UIDFETCH (UID 2)\r\nd OK Completed\r\n");
    talk(c, "e UID STORE 2 +FLAGS (\\Deleted)",
         "* 2 UIDFETCH (FLAGS (\\Recent \\Deleted \\Seen))\r\n"
         "e OK Completed\r\n");
    quiet(d, "f SELECT INBOX");
    quiet(d, "g STORE 1 +FLAGS (\\Flagged)");
    talk(c, "h EXPUNGE",
         "* VANISHED 2\r\n* 1 UIDFETCH (FLAGS (\\Recent \\Flagged))\r\n"
         "h OK Completed\r\n");
    talk(c, "i UID SEARCH RETURN (SAVE) ALL", "i OK Completed\r\n");
    talk(c, "j UID SEARCH $", "* SEARCH 1\r\nj OK Completed\r\n");
}

static void
test_mailboxid_stays_over_a_rename(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    char id[100];

    quiet(c, "a CREATE INBOX/a");
    add_line(c, "b STATUS INBOX/a (MAILBOXID)");
    fake_turn(&world);
    snprintf(id, sizeof(id), "%s",
             buf_cstr(&c->out) + strlen("* STATUS INBOX/a"));
    *strchr(id, '\r') = '\0';
    buf_clear(&c->out);
    quiet(c, "c RENAME INBOX/a INBOX/b");
    add_line(c, "d STATUS INBOX/b (MAILBOXID)");
    fake_turn(&world);
    assert_true(span_find(buf_span(&c->out), span_str(id)) > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_select_of_rev2_lists_and_knows_no_recent, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_search_of_rev2_is_answered_by_esearch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes_come_with_the_uid, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_names_are_utf8_once_enabled, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_uidonly_knows_no_sequence_numbers,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_mailboxid_stays_over_a_rename,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
