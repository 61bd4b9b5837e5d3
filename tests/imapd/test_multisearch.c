/*
 * tests/imapd/test_multisearch.c - ESEARCH over mailboxes (RFC 7377) and FUZZY
 * (RFC 6203): who is searched by each source option, what is told of each, what
 * must not be asked.
 */
#include "tests/imapd/talking.h"

#define MAIL(subject, text) "Subject: " subject "\r\n\r\n" text "\r\n"

/* fred with three folders; ann may read one of them. */
static struct fake_client *fred, *ann;

static void
folders(void)
{
    fred = login(0, "fred");
    ann = login(1, "ann");
    quiet(fred, "a CREATE INBOX/one");
    quiet(fred, "b CREATE INBOX/one/deep");
    quiet(fred, "c CREATE INBOX/two");
    append(fred, "INBOX", "(\\Seen) ", MAIL("apple", "red"));
    append(fred, "INBOX/one", "", MAIL("pear", "green"));
    append(fred, "INBOX/one", "", MAIL("apple", "green"));
    append(fred, "INBOX/one/deep", "", MAIL("apple", "yellow"));
    append(fred, "INBOX/two", "", MAIL("plum", "blue"));
    quiet(fred, "d SETACL INBOX/one ann lr");
    quiet(fred, "e SETACL INBOX/two ann l");
}

static void
test_sources(void **state)
{
    (void)state;
    folders();
    talk(fred, "a ESEARCH IN (personal) SUBJECT apple",
         "* ESEARCH (TAG \"a\" MAILBOX INBOX UIDVALIDITY V) UID ALL 1\r\n"
         "* ESEARCH (TAG \"a\" MAILBOX INBOX/one UIDVALIDITY V) UID ALL 2\r\n"
         "* ESEARCH (TAG \"a\" MAILBOX INBOX/one/deep UIDVALIDITY V) UID ALL "
         "1\r\na OK Completed\r\n");
    talk(fred, "b ESEARCH IN (inboxes) RETURN (COUNT MIN) ALL",
         "* ESEARCH (TAG \"b\" MAILBOX INBOX UIDVALIDITY V) UID MIN 1 COUNT "
         "1\r\n"
         "* ESEARCH (TAG \"b\" MAILBOX INBOX/one UIDVALIDITY V) UID MIN 1 "
         "COUNT 2\r\n"
         "* ESEARCH (TAG \"b\" MAILBOX INBOX/one/deep UIDVALIDITY V) UID MIN 1 "
         "COUNT 1\r\n"
         "* ESEARCH (TAG \"b\" MAILBOX INBOX/two UIDVALIDITY V) UID MIN 1 "
         "COUNT 1\r\nb OK Completed\r\n");
    talk(fred, "c ESEARCH IN (subtree-one INBOX) SUBJECT apple",
         "* ESEARCH (TAG \"c\" MAILBOX INBOX UIDVALIDITY V) UID ALL 1\r\n"
         "* ESEARCH (TAG \"c\" MAILBOX INBOX/one UIDVALIDITY V) UID ALL 2\r\n"
         "c OK Completed\r\n");
    talk(fred, "d ESEARCH IN (subtree INBOX/one mailboxes INBOX/one) ALL",
         "* ESEARCH (TAG \"d\" MAILBOX INBOX/one UIDVALIDITY V) UID ALL "
         "1:2\r\n"
         "* ESEARCH (TAG \"d\" MAILBOX INBOX/one/deep UIDVALIDITY V) UID ALL "
         "1\r\nd OK Completed\r\n");
    talk(fred, "e ESEARCH IN (mailboxes (INBOX/two nowhere INBOX)) UNSEEN",
         "* ESEARCH (TAG \"e\" MAILBOX INBOX/two UIDVALIDITY V) UID ALL 1\r\n"
         "e OK Completed\r\n");
    quiet(fred, "x SUBSCRIBE INBOX/two");
    talk(fred, "f ESEARCH IN (subscribed) ALL",
         "* ESEARCH (TAG \"f\" MAILBOX INBOX UIDVALIDITY V) UID ALL 1\r\n"
         "* ESEARCH (TAG \"f\" MAILBOX INBOX/two UIDVALIDITY V) UID ALL 1\r\n"
         "f OK Completed\r\n");
    /* Nothing found, nothing told. */
    talk(fred, "g ESEARCH IN (personal) RETURN (COUNT) SUBJECT melon",
         "g OK Completed\r\n");
    /* Numbers are those of each mailbox, and may be beyond its end. */
    talk(fred, "h ESEARCH IN (personal) 2:9",
         "* ESEARCH (TAG \"h\" MAILBOX INBOX/one UIDVALIDITY V) UID ALL 2\r\n"
         "h OK Completed\r\n");
}

static void
test_what_is_selected_stays_so(void **state)
{
    (void)state;
    folders();
    talk(fred, "a ESEARCH SUBJECT apple", "a BAD No mailbox is selected\r\n");
    quiet(fred, "b SELECT INBOX/one");
    talk(fred, "c ESEARCH SUBJECT apple",
         "* ESEARCH (TAG \"c\" MAILBOX INBOX/one UIDVALIDITY V) UID ALL 2\r\n"
         "c OK Completed\r\n");
    talk(fred, "d ESEARCH IN (selected mailboxes INBOX/two) RETURN (ALL) ALL",
         "* ESEARCH (TAG \"d\" MAILBOX INBOX/one UIDVALIDITY V) UID ALL "
         "1:2\r\n"
         "* ESEARCH (TAG \"d\" MAILBOX INBOX/two UIDVALIDITY V) UID ALL 1\r\n"
         "d OK Completed\r\n");
    talk(fred, "e SEARCH ALL", "* SEARCH 1 2\r\ne OK Completed\r\n");
    talk(fred, "f ESEARCH IN (selected) RETURN (SAVE) SUBJECT apple",
         "f OK Completed\r\n");
    talk(fred, "g UID SEARCH $", "* SEARCH 2\r\ng OK Completed\r\n");
    talk(fred, "h ESEARCH IN (personal) RETURN (SAVE) ALL",
         "h BAD SAVE is for the selected mailbox alone\r\n");
    /* Who hangs up in the middle. */
    add_line(fred, "i ESEARCH IN (personal) TEXT apple");
    fake_hang_up(fred);
}

static void
test_only_what_may_be_read(void **state)
{
    (void)state;
    folders();
    talk(ann, "a ESEARCH IN (subtree user/fred mailboxes user/fred/two) ALL",
         "* ESEARCH (TAG \"a\" MAILBOX user/fred/one UIDVALIDITY V) UID ALL "
         "1:2\r\na OK Completed\r\n");
    quiet(fred, "x SETACL INBOX/one ann r");
    talk(ann, "b ESEARCH IN (subtree user/fred) ALL", "b OK Completed\r\n");
    talk(ann, "c ESEARCH IN (mailboxes user/fred/one) ALL",
         "* ESEARCH (TAG \"c\" MAILBOX user/fred/one UIDVALIDITY V) UID ALL "
         "1:2\r\nc OK Completed\r\n");
    talk(ann, "d ESEARCH IN (selected-delayed) ALL",
         "d BAD Unknown source option\r\n");
    talk(ann, "e ESEARCH IN (mailboxes) ALL", "e BAD Missing argument\r\n");
}

/* What stands beside INBOX is not below it, wherever it is kept. */
static void
test_nothing_is_below_inbox_with_altnamespace(void **state)
{
    (void)state;
    folders();
    world.opt.ns.alt = true;
    talk(fred, "a ESEARCH IN (subtree INBOX) SUBJECT apple",
         "* ESEARCH (TAG \"a\" MAILBOX INBOX UIDVALIDITY V) UID ALL 1\r\n"
         "a OK Completed\r\n");
    talk(fred, "b ESEARCH IN (subtree one) SUBJECT apple",
         "* ESEARCH (TAG \"b\" MAILBOX one UIDVALIDITY V) UID ALL 2\r\n"
         "* ESEARCH (TAG \"b\" MAILBOX one/deep UIDVALIDITY V) UID ALL 1\r\n"
         "b OK Completed\r\n");
}

static void
test_fuzzy(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "", MAIL("a", "the red apple"));
    append(c, "INBOX", "", MAIL("b", "an apple that is red"));
    append(c, "INBOX", "", MAIL("c", "red pears"));
    quiet(c, "x SELECT INBOX");
    talk(c, "a SEARCH BODY \"red apple\"", "* SEARCH 1\r\na OK Completed\r\n");
    talk(c, "b SEARCH FUZZY BODY \"red apple\"",
         "* SEARCH 1 2\r\nb OK Completed\r\n");
    talk(c, "c SEARCH RETURN (ALL RELEVANCY) FUZZY TEXT \"red apple\"",
         "* ESEARCH (TAG \"c\") ALL 1:2 RELEVANCY (100 50)\r\n"
         "c OK Completed\r\n");
    talk(c, "d SORT (REVERSE RELEVANCY) UTF-8 FUZZY BODY \"apple red\"",
         "* SORT 1 2\r\nd OK Completed\r\n");
    talk(c, "e SORT (RELEVANCY) UTF-8 FUZZY BODY \"that apple\"",
         "* SORT 2\r\ne OK Completed\r\n");
    talk(c, "f SORT (RELEVANCY REVERSE ARRIVAL) UTF-8 FUZZY BODY \"red apple\"",
         "* SORT 1 2\r\nf OK Completed\r\n");
    talk(c, "g SEARCH NOT FUZZY BODY \"red apple\"",
         "* SEARCH 3\r\ng OK Completed\r\n");
    talk(c, "h SEARCH FUZZY SEEN", "* SEARCH\r\nh OK Completed\r\n");
    talk(c, "i SEARCH FUZZY BODY \"\"", "* SEARCH 1 2 3\r\ni OK Completed\r\n");
    talk(c, "j SEARCH FUZZY", "j BAD Missing argument\r\n");
}

int
main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_sources),
        T(test_what_is_selected_stays_so),
        T(test_only_what_may_be_read),
        T(test_nothing_is_below_inbox_with_altnamespace),
        T(test_fuzzy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
