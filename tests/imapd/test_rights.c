/*
 * tests/imapd/test_rights.c - ACL (RFC 4314) and QUOTA (RFC 9208) to the
 * letter: what each right lets through, negative ones, "anyone", the virtual c
 * and d, what an owner always has; resources, roots, what is over them.
 */
#include "tests/imapd/talking.h"

#define MAIL "Subject: x\r\n\r\n0123456789\r\n"

/* ann knows "user/fred" with what fred gives her. */
static struct fake_client *fred, *ann;

static void
two(void)
{
    fred = login(0, "fred");
    ann = login(1, "ann");
}

static void
test_setacl_sets_adds_and_takes(void **state)
{
    (void)state;
    two();
    talk(fred, "a SETACL INBOX ann lrs", "a OK Completed\r\n");
    talk(fred, "b SETACL INBOX ann +wi", "b OK Completed\r\n");
    talk(fred, "c SETACL INBOX ann -rw", "c OK Completed\r\n");
    talk(fred, "d GETACL INBOX",
         "* ACL INBOX fred lrswipkxtecdan ann lsi\r\nd OK Completed\r\n");
    /* 2.1.1: c is all of k and x, d all of t and e; each shows its own. */
    talk(fred, "e SETACL INBOX ann lc", "e OK Completed\r\n");
    talk(ann, "f MYRIGHTS user/fred",
         "* MYRIGHTS user/fred lkxc\r\nf OK Completed\r\n");
    talk(fred, "g SETACL INBOX ann -x", "g OK Completed\r\n");
    talk(fred, "h SETACL INBOX ann +d", "h OK Completed\r\n");
    talk(fred, "i SETACL INBOX ann -e", "i OK Completed\r\n");
    talk(ann, "j MYRIGHTS user/fred",
         "* MYRIGHTS user/fred lktcd\r\nj OK Completed\r\n");
    /* Nothing left: no entry. */
    talk(fred, "k SETACL INBOX ann -lkt", "k OK Completed\r\n");
    talk(fred, "l GETACL INBOX",
         "* ACL INBOX fred lrswipkxtecdan\r\nl OK Completed\r\n");
    talk(fred, "m SETACL INBOX ann \"\"", "m OK Completed\r\n");
    talk(fred, "n SETACL INBOX ann lQ", "n BAD Unknown right\r\n");
    talk(fred, "o SETACL INBOX \"\" l", "o BAD Invalid identifier\r\n");
    talk(fred, "p DELETEACL INBOX ann", "p OK Completed\r\n");
}

static void
test_negative_rights_and_anyone(void **state)
{
    (void)state;
    two();
    talk(fred, "a SETACL INBOX anyone lrs", "a OK Completed\r\n");
    talk(fred, "b SETACL INBOX ann wi", "b OK Completed\r\n");
    talk(ann, "c MYRIGHTS user/fred",
         "* MYRIGHTS user/fred lrswi\r\nc OK Completed\r\n");
    talk(fred, "d SETACL INBOX -ann rw", "d OK Completed\r\n");
    talk(ann, "e MYRIGHTS user/fred",
         "* MYRIGHTS user/fred lsi\r\ne OK Completed\r\n");
    talk(fred, "f GETACL INBOX",
         "* ACL INBOX fred lrswipkxtecdan anyone lrs ann wi -ann rw\r\n"
         "f OK Completed\r\n");
    talk(ann, "g SELECT user/fred", "g NO [NOPERM] Permission denied\r\n");
    talk(fred, "h SETACL INBOX -anyone l", "h OK Completed\r\n");
    talk(ann, "i SELECT user/fred",
         "i NO [NONEXISTENT] Mailbox does not exist\r\n");
    /* Owners keep what they always have. */
    talk(fred, "j MYRIGHTS INBOX",
         "* MYRIGHTS INBOX lrswipkxtecdan\r\nj OK Completed\r\n");
    talk(fred, "k SETACL INBOX -fred lrswipkxtean", "k OK Completed\r\n");
    talk(fred, "l MYRIGHTS INBOX",
         "* MYRIGHTS INBOX lkxca\r\nl OK Completed\r\n");
    talk(fred, "m DELETEACL INBOX -fred", "m OK Completed\r\n");
    talk(fred, "n DELETEACL INBOX -ann", "n OK Completed\r\n");
    talk(fred, "o DELETEACL INBOX -anyone", "o OK Completed\r\n");
    talk(ann, "p MYRIGHTS user/fred",
         "* MYRIGHTS user/fred lrswi\r\np OK Completed\r\n");
}

static void
test_listrights(void **state)
{
    (void)state;
    two();
    talk(fred, "a LISTRIGHTS INBOX fred",
         "* LISTRIGHTS INBOX fred lkxca r s w i p t e n d\r\n"
         "a OK Completed\r\n");
    talk(fred, "b LISTRIGHTS INBOX -fred",
         "* LISTRIGHTS INBOX -fred \"\" l r s w i p k x t e a n c d\r\n"
         "b OK Completed\r\n");
    talk(fred, "c LISTRIGHTS INBOX anyone",
         "* LISTRIGHTS INBOX anyone \"\" l r s w i p k x t e a n c d\r\n"
         "c OK Completed\r\n");
    quiet(fred, "x SETACL INBOX ann lr");
    talk(ann, "d LISTRIGHTS user/fred ann",
         "d NO [NOPERM] Permission denied\r\n");
    quiet(fred, "x SETACL INBOX ann a");
    talk(ann, "e LISTRIGHTS user/fred ann",
         "* LISTRIGHTS user/fred ann \"\" l r s w i p k x t e a n c d\r\n"
         "e OK Completed\r\n");
}

/* Table of RFC 4314, 4: with exactly the right, and with all but it. */
static void
test_each_command_and_its_right(void **state)
{
    static const struct {
        const char *command, *needs, *without;
    } cases[] = {
        {"SELECT user/fred", "r", "NO [NOPERM] Permission denied"},
        {"EXAMINE user/fred", "r", "NO [NOPERM] Permission denied"},
        {"STATUS user/fred (MESSAGES)", "r", "NO [NOPERM] Permission denied"},
        {"GETACL user/fred", "a", "NO [NOPERM] Permission denied"},
        {"SETACL user/fred zoe l", "a", "NO [NOPERM] Permission denied"},
        {"DELETEACL user/fred zoe", "a", "NO [NOPERM] Permission denied"},
        {"LISTRIGHTS user/fred zoe", "a", "NO [NOPERM] Permission denied"},
        {"SUBSCRIBE user/fred", "l", "NO [NONEXISTENT] Mailbox does not exist"},
        {"GETQUOTAROOT user/fred", "r", "NO [NOPERM] Permission denied"},
        {"CREATE user/fred/new", "k", "NO [NOPERM] Permission denied"},
        {"DELETE user/fred/new", "x", "NO [NOPERM] Permission denied"},
    };
    (void)state;
    two();

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO(buf_free) struct buf line = BUF_INIT;
        AUTO(buf_free) struct buf want = BUF_INIT;
        AUTO(buf_free) struct buf set = BUF_INIT;
        buf_addf(&set, "x SETACL INBOX ann lrswipkxtean");
        quiet(fred, buf_cstr(&set));
        buf_clear(&set);
        buf_addf(&set, "x SETACL INBOX ann -%s", cases[i].needs);
        quiet(fred, buf_cstr(&set));
        if (strncmp(cases[i].command, "DELETE ", 7) == 0) {
            quiet(fred, "x SETACL INBOX/new ann lrswipktean");
        }
        buf_addf(&line, "a %s", cases[i].command);
        buf_addf(&want, "a %s\r\n", cases[i].without);
        talk(ann, buf_cstr(&line), buf_cstr(&want));
        buf_clear(&set);
        buf_addf(&set, "x SETACL INBOX ann %s", cases[i].needs);
        quiet(fred, buf_cstr(&set));
        if (strncmp(cases[i].command, "DELETE ", 7) == 0)
            quiet(fred, "x SETACL INBOX/new ann x");
        quiet(ann, buf_cstr(&line));
        if (i < 2)
            quiet(ann, "x UNSELECT");
    }
}

/* ---- QUOTA ------------------------------------------------------------- */

static void
test_all_resources(void **state)
{
    (void)state;
    struct fake_client *root = login(2, "cyrus");
    two();

    talk(root,
         "a SETQUOTA user/fred (STORAGE 100 MESSAGE 2 MAILBOX 5 "
         "ANNOTATION-STORAGE 3)",
         "* QUOTA user/fred (STORAGE 0 100 MESSAGE 0 2 MAILBOX 1 5 "
         "ANNOTATION-STORAGE 0 3)\r\na OK Completed\r\n");
    append(fred, "INBOX", "(\\Deleted) ", MAIL);
    append(fred, "INBOX", "", MAIL);
    talk(fred, "b GETQUOTAROOT INBOX",
         "* QUOTAROOT INBOX INBOX\r\n"
         "* QUOTA INBOX (STORAGE 1 100 MESSAGE 2 2 MAILBOX 1 5 "
         "ANNOTATION-STORAGE 0 3)\r\nb OK Completed\r\n");
    talk(fred, "c STATUS INBOX (MESSAGES DELETED DELETED-STORAGE)",
         "* STATUS INBOX (MESSAGES 2 DELETED 1 DELETED-STORAGE 26)\r\n"
         "c OK Completed\r\n");
    talk(fred, "d APPEND INBOX {26+}\r\n" MAIL,
         "d NO [OVERQUOTA] Over quota\r\n");
    quiet(fred, "x SELECT INBOX");
    talk(fred, "e COPY 1 INBOX", "e NO [OVERQUOTA] Over quota\r\n");
    /* What is not named is not limited any more. */
    talk(root, "f SETQUOTA user/fred (X-NUM-FOLDERS 4)",
         "* QUOTA user/fred (MAILBOX 1 4)\r\nf OK Completed\r\n");
    talk(root, "g SETQUOTA user/fred ()",
         "* QUOTA user/fred ()\r\ng OK Completed\r\n");
    talk(root, "h SETQUOTA user/fred (WEIGHT 1)",
         "h NO [CANNOT] Unknown resource or limit\r\n");
    talk(root, "i SETQUOTA user/fred (MESSAGE 9223372036854775808)",
         "i NO [CANNOT] Unknown resource or limit\r\n");
    talk(root, "j SETQUOTA user/fred (MESSAGE 0)",
         "* QUOTA user/fred (MESSAGE 2 0)\r\nj OK Completed\r\n");
    talk(fred, "k GETQUOTA nowhere",
         "k NO [NONEXISTENT] Mailbox does not exist\r\n");
}

static void
test_root_of_what_could_be_made(void **state)
{
    (void)state;
    struct fake_client *root = login(2, "cyrus");
    two();

    quiet(root, "x SETQUOTA user/fred (MESSAGE 7)");
    talk(fred, "a GETQUOTAROOT INBOX/new",
         "* QUOTAROOT INBOX/new INBOX\r\n* QUOTA INBOX (MESSAGE 0 7)\r\n"
         "a OK Completed\r\n");
    talk(root, "b GETQUOTAROOT shared/new",
         "* QUOTAROOT shared/new\r\nb OK Completed\r\n");
    talk(ann, "c GETQUOTAROOT user/fred/new",
         "c NO [NONEXISTENT] Mailbox does not exist\r\n");
    talk(ann, "d GETQUOTAROOT user/fred",
         "d NO [NONEXISTENT] Mailbox does not exist\r\n");
}

int
main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_setacl_sets_adds_and_takes),
        T(test_negative_rights_and_anyone),
        T(test_listrights),
        T(test_each_command_and_its_right),
        T(test_all_resources),
        T(test_root_of_what_could_be_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
