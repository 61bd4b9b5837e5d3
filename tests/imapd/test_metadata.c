/*
 * tests/imapd/test_metadata.c - GETMETADATA and SETMETADATA (RFC 5464), and
 * each user's own \Seen in the mailboxes of others.
 */
#include "tests/imapd/talking.h"

static void
test_values_are_shared_or_private(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    talk(fred,
         "a SETMETADATA INBOX (/shared/comment \"all\" /private/comment "
         "{4+}\r\nmine)",
         "a OK Completed\r\n");
    talk(fred, "b GETMETADATA INBOX (/shared/comment /private/Comment)",
         "* METADATA INBOX (/shared/comment \"all\" /private/comment \"mine\")"
         "\r\nb OK Completed\r\n");
    talk(ann, "c GETMETADATA user/fred /shared/comment",
         "c NO [NONEXISTENT] Mailbox does not exist\r\n");
    quiet(fred, "d SETACL INBOX ann l");
    talk(ann, "e GETMETADATA user/fred /shared/comment",
         "e NO [NOPERM] Permission denied\r\n");
    quiet(fred, "f SETACL INBOX ann lr");
    talk(
        ann, "g GETMETADATA user/fred (/shared/comment /private/comment)",
        "* METADATA user/fred (/shared/comment \"all\")\r\ng OK Completed\r\n");
    talk(fred, "h SETMETADATA INBOX (/shared/comment NIL)",
         "h OK Completed\r\n");
    talk(fred, "i GETMETADATA INBOX (/shared/comment)", "i OK Completed\r\n");
    talk(fred, "j GETMETADATA nope /shared/comment",
         "j NO [NONEXISTENT] Mailbox does not exist\r\n");
}

/* RFC 7162, 3.2; a server annotation is no mailbox's. */
static void
test_a_change_raises_highestmodseq(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    talk(c, "a STATUS INBOX (HIGHESTMODSEQ)",
         "* STATUS INBOX (HIGHESTMODSEQ M1)\r\na OK Completed\r\n");
    quiet(c, "b SETMETADATA INBOX (/shared/comment \"x\" /private/comment "
             "\"y\")");
    talk(c, "c STATUS INBOX (HIGHESTMODSEQ)",
         "* STATUS INBOX (HIGHESTMODSEQ M2)\r\nc OK Completed\r\n");
    assert_true(modseqs[1] > modseqs[0]);
    quiet(c, "d SETMETADATA INBOX (/shared/comment \"x\")");
    talk(c, "e STATUS INBOX (HIGHESTMODSEQ)",
         "* STATUS INBOX (HIGHESTMODSEQ M2)\r\ne OK Completed\r\n");
    quiet(c, "f SETMETADATA INBOX (/private/comment NIL)");
    talk(c, "g STATUS INBOX (HIGHESTMODSEQ)",
         "* STATUS INBOX (HIGHESTMODSEQ M3)\r\ng OK Completed\r\n");
    assert_true(modseqs[2] > modseqs[1]);
}

/* The same of entries that are fields of the mailbox. */
static void
test_a_changed_field_raises_highestmodseq(void **state)
{
    static const char *const changes[] = {
        "/shared/vendor/cmu/cyrus-imapd/sharedseen \"true\"",
        "/private/specialuse \"\\\\Junk\"", "/private/specialuse NIL",
        "/shared/vendor/cmu/cyrus-imapd/sharedseen NIL"};
    (void)state;
    struct fake_client *c = login(0, "fred");
    char line[200], want[100];

    quiet(c, "a CREATE INBOX/Box");
    talk(c, "b STATUS INBOX/Box (HIGHESTMODSEQ)",
         "* STATUS INBOX/Box (HIGHESTMODSEQ M1)\r\nb OK Completed\r\n");
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        snprintf(line, sizeof(line), "c SETMETADATA INBOX/Box (%s)",
                 changes[i]);
        snprintf(
            want, sizeof(want),
            "* STATUS INBOX/Box (HIGHESTMODSEQ M%zu)\r\nd OK Completed\r\n",
            i + 2);
        quiet(c, line);
        talk(c, "d STATUS INBOX/Box (HIGHESTMODSEQ)", want);
        assert_true(modseqs[i + 1] > modseqs[i]);
        quiet(c, line); /* what is so already */
        talk(c, "d STATUS INBOX/Box (HIGHESTMODSEQ)", want);
    }
}

static void
test_depth_and_maxsize(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    quiet(c, "a SETMETADATA INBOX (/shared/vendor/x/a \"1\" "
             "/shared/vendor/x/a/b \"22\" /shared/vendor/x/a/b/c \"333\")");
    talk(c, "b GETMETADATA INBOX (DEPTH 0) /shared/vendor/x/a",
         "* METADATA INBOX (/shared/vendor/x/a \"1\")\r\nb OK Completed\r\n");
    talk(c, "c GETMETADATA (DEPTH 1) INBOX /shared/vendor/x/a",
         "* METADATA INBOX (/shared/vendor/x/a \"1\" /shared/vendor/x/a/b "
         "\"22\")\r\nc OK Completed\r\n");
    talk(c, "d GETMETADATA INBOX (MAXSIZE 1 DEPTH infinity) /shared/vendor/x",
         "* METADATA INBOX (/shared/vendor/x/a \"1\")\r\n"
         "d OK [METADATA LONGENTRIES 3] Completed\r\n");
    talk(c, "e GETMETADATA INBOX (DEPTH 2) /shared/vendor/x",
         "e BAD Invalid DEPTH\r\n");
    talk(c, "f GETMETADATA INBOX (DEPTH infinity) /private",
         "f OK Completed\r\n");
}

static void
test_what_may_not_be(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct fake_client *root = login(1, "cyrus");

    talk(c, "a SETMETADATA INBOX (/shared/a//b \"1\")",
         "a BAD Invalid entry name\r\n");
    talk(c, "b SETMETADATA INBOX (\"/shared/a*\" \"1\")",
         "b BAD Invalid entry name\r\n");
    talk(c, "c SETMETADATA INBOX (/elsewhere/a \"1\")",
         "c BAD Invalid entry name\r\n");
    talk(c, "d SETMETADATA \"\" (/shared/comment \"1\")",
         "d NO [NOPERM] Permission denied\r\n");
    talk(root, "e SETMETADATA \"\" (/shared/comment \"hello\")",
         "e OK Completed\r\n");
    talk(c, "f GETMETADATA \"\" /shared/comment",
         "* METADATA \"\" (/shared/comment \"hello\")\r\nf OK Completed\r\n");
    talk(c, "g SETMETADATA INBOX (/shared/vendor/cmu/cyrus-imapd/size \"1\")",
         "g NO [NOPERM] Permission denied\r\n");
    /* Nothing of a refused command is done. */
    talk(c, "h SETMETADATA INBOX (/shared/comment \"x\" /shared/admin \"y\")",
         "h NO [NOPERM] Permission denied\r\n");
    talk(c, "i GETMETADATA INBOX /shared/comment", "i OK Completed\r\n");
}

static void
test_fields_of_the_mailbox(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    quiet(c, "a CREATE INBOX/Out");
    append(c, "INBOX/Out", "", MSG_A);
    talk(c,
         "b SETMETADATA INBOX/Out (/private/specialuse \"\\\\sent\" "
         "/shared/vendor/cmu/cyrus-imapd/sharedseen \"true\")",
         "b OK Completed\r\n");
    talk(c, "c LIST (SPECIAL-USE) \"\" *",
         "* LIST (\\HasNoChildren \\Sent) \"/\" INBOX/Out\r\nc OK "
         "Completed\r\n");
    talk(c,
         "d GETMETADATA INBOX/Out (/private/specialuse "
         "/shared/vendor/cmu/cyrus-imapd/size "
         "/shared/vendor/cmu/cyrus-imapd/sharedseen "
         "/shared/vendor/cmu/cyrus-imapd/partition)",
         "* METADATA INBOX/Out (/shared/vendor/cmu/cyrus-imapd/size \"120\" "
         "/shared/vendor/cmu/cyrus-imapd/partition \"default\" "
         "/shared/vendor/cmu/cyrus-imapd/sharedseen \"true\" "
         "/private/specialuse \"\\\\Sent\")\r\nd OK Completed\r\n");
    talk(c, "e SETMETADATA INBOX/Out (/private/specialuse \"\\\\What\")",
         "e NO [USEATTR] No such special use here\r\n");
}

/* ---- \Seen ------------------------------------------------------------- */

static void
test_seen_is_each_users_own(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    for (int i = 0; i < 3; i++)
        append(fred, "INBOX", "", MSG_A);
    quiet(fred, "a SETACL INBOX ann lrswi");
    quiet(ann, "b SELECT user/fred");
    talk(ann, "c STORE 1 +FLAGS (\\Seen \\Flagged)",
         "* 1 FETCH (FLAGS (\\Recent \\Flagged \\Seen))\r\nc OK Completed\r\n");
    talk(ann, "d FETCH 2 BODY[TEXT]",
         "* 2 FETCH (BODY[TEXT] {13}\r\nHello world\r\n FLAGS (\\Recent "
         "\\Seen))\r\nd OK Completed\r\n");
    talk(ann, "e SEARCH SEEN", "* SEARCH 1 2\r\ne OK Completed\r\n");
    talk(ann, "f STATUS user/fred (UNSEEN)",
         "* STATUS user/fred (UNSEEN 1)\r\nf OK Completed\r\n");
    quiet(fred, "g SELECT INBOX");
    talk(fred, "h FETCH 1:* FLAGS",
         "* 1 FETCH (FLAGS (\\Flagged))\r\n* 2 FETCH (FLAGS ())\r\n"
         "* 3 FETCH (FLAGS ())\r\nh OK Completed\r\n");
    talk(fred, "i STATUS INBOX (UNSEEN)",
         "* STATUS INBOX (UNSEEN 3)\r\ni OK Completed\r\n");
    talk(fred, "j STORE 3 +FLAGS (\\Seen)",
         "* 3 FETCH (FLAGS (\\Seen))\r\nj OK Completed\r\n");
    talk(ann, "k SEARCH UNSEEN",
         "* SEARCH 3\r\n* 3 FETCH (FLAGS (\\Recent))\r\nk OK Completed\r\n");
    talk(ann, "l STORE 1 FLAGS.SILENT ()", "l OK Completed\r\n");
    talk(ann, "m FETCH 1:2 FLAGS",
         "* 1 FETCH (FLAGS (\\Recent))\r\n* 2 FETCH (FLAGS (\\Recent "
         "\\Seen))\r\n"
         "m OK Completed\r\n");
    /* Another session of ann's is told. */
    struct fake_client *again = login(2, "ann");
    quiet(again, "n SELECT user/fred");
    quiet(ann, "o STORE 3 +FLAGS.SILENT (\\Seen)");
    talk(again, "p NOOP", "* 3 FETCH (FLAGS (\\Seen))\r\np OK Completed\r\n");
}

static void
test_seen_goes_along_with_copies(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    for (int i = 0; i < 2; i++)
        append(fred, "INBOX", "", MSG_A);
    quiet(fred, "a SETACL INBOX ann lrswi");
    quiet(ann, "b SELECT user/fred");
    quiet(ann, "c STORE 2 +FLAGS.SILENT (\\Seen)");
    talk(ann, "d COPY 1:2 INBOX", "d OK [COPYUID V 1:2 1:2] Completed\r\n");
    talk(ann, "e COPY 1:2 user/fred",
         "* 4 EXISTS\r\n* 4 RECENT\r\ne OK [COPYUID V 1:2 3:4] Completed\r\n");
    talk(ann, "f SEARCH SEEN", "* SEARCH 2 4\r\nf OK Completed\r\n");
    append(ann, "user/fred", "(\\Seen) ", MSG_A);
    quiet(ann, "g NOOP");
    talk(ann, "h SEARCH SEEN", "* SEARCH 2 4 5\r\nh OK Completed\r\n");
    quiet(ann, "i SELECT INBOX");
    talk(ann, "j SEARCH SEEN", "* SEARCH 2\r\nj OK Completed\r\n");
    talk(ann, "k COPY 1:2 user/fred", "k OK [COPYUID V 1:2 6:7] Completed\r\n");
    quiet(ann, "l SELECT user/fred");
    talk(ann, "m SEARCH SEEN", "* SEARCH 2 4 5 7\r\nm OK Completed\r\n");
    quiet(fred, "n SELECT INBOX");
    talk(fred, "o SEARCH SEEN", "* SEARCH\r\no OK Completed\r\n");
}

static void
test_conditional_store_of_seen(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    for (int i = 0; i < 2; i++)
        append(fred, "INBOX", "", MSG_A);
    quiet(fred, "a SETACL INBOX ann lrsw");
    quiet(ann, "b SELECT user/fred (CONDSTORE)");
    talk(ann, "c FETCH 2 (MODSEQ)",
         "* 2 FETCH (MODSEQ (M1))\r\nc OK Completed\r\n");
    quiet(fred, "d SELECT INBOX");
    quiet(fred, "e STORE 1 +FLAGS (\\Flagged)");
    talk(ann, "f STORE 1:2 (UNCHANGEDSINCE M1) +FLAGS.SILENT (\\Seen)",
         "* 2 FETCH (UID 2 MODSEQ (M2))\r\n"
         "* 1 FETCH (FLAGS (\\Recent \\Flagged) UID 1 MODSEQ (M3))\r\n"
         "f OK [MODIFIED 1] Conditional STORE failed\r\n");
    assert_true(modseqs[1] > modseqs[2] && modseqs[2] > modseqs[0]);
    talk(ann, "g SEARCH SEEN", "* SEARCH 2\r\ng OK Completed\r\n");
}

/* ---- users and folders ------------------------------------------------- */

static void
test_folders_count_against_quota(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *root = login(1, "cyrus");

    talk(root, "a SETQUOTA user/fred (X-NUM-FOLDERS 2 MESSAGE 5)",
         "* QUOTA user/fred (MESSAGE 0 5 MAILBOX 1 2)\r\n"
         "a OK Completed\r\n");
    talk(fred, "b CREATE INBOX/a", "b OK [MAILBOXID (V)] Completed\r\n");
    talk(fred, "c CREATE INBOX/b", "c NO [OVERQUOTA] Over quota\r\n");
    talk(fred, "d CREATE INBOX/a/b/c", "d NO [OVERQUOTA] Over quota\r\n");
    talk(fred, "e DELETE INBOX/a", "e OK Completed\r\n");
    talk(fred, "f CREATE INBOX/b", "f OK [MAILBOXID (V)] Completed\r\n");
}

static void
test_an_admin_renames_a_user(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *root = login(1, "cyrus");

    quiet(fred, "a CREATE INBOX/Sent");
    quiet(fred, "b SUBSCRIBE INBOX/Sent");
    quiet(fred, "c SETMETADATA INBOX (/private/comment \"mine\")");
    append(fred, "INBOX", "", MSG_A);
    fake_hang_up(fred);
    talk(root, "d RENAME user/fred user/george", "d OK Completed\r\n");
    struct fake_client *george = login(0, "george");
    talk(george, "e LSUB \"\" *",
         "* LSUB (\\HasChildren) \"/\" INBOX\r\n"
         "* LSUB () \"/\" INBOX/Sent\r\ne OK Completed\r\n");
    talk(george, "f GETMETADATA INBOX /private/comment",
         "* METADATA INBOX (/private/comment \"mine\")\r\nf OK Completed\r\n");
    talk(george, "g MYRIGHTS INBOX/Sent",
         "* MYRIGHTS INBOX/Sent lrswipkxtecdan\r\ng OK Completed\r\n");
    talk(george, "h STATUS INBOX (MESSAGES)",
         "* STATUS INBOX (MESSAGES 1)\r\nh OK Completed\r\n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_values_are_shared_or_private),
        T(test_a_change_raises_highestmodseq),
        T(test_a_changed_field_raises_highestmodseq),
        T(test_depth_and_maxsize),
        T(test_what_may_not_be),
        T(test_fields_of_the_mailbox),
        T(test_seen_is_each_users_own),
        T(test_seen_goes_along_with_copies),
        T(test_conditional_store_of_seen),
        T(test_folders_count_against_quota),
        T(test_an_admin_renames_a_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
