/*
 * tests/imapd/test_search.c - ESEARCH (RFC 4731), the saved result (5182),
 * PARTIAL (9394), WITHIN (5032), SAVEDATE (8514), SORT and THREAD (5256, 5267,
 * 5957): each rule by what a client sends and is answered.
 */
#include "tests/imapd/talking.h"

#define MAIL(from, subject, date)                                              \
    "From: " from "\r\nSubject: " subject "\r\nDate: " date "\r\n\r\nx\r\n"

static struct fake_client *
four(void)
{
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "(\\Seen) \"01-Jan-2020 00:00:00 +0000\" ",
           MAIL("\"Zoe\" <zoe@x.org>", "banana",
                "Wed, 1 Jan 2020 10:00:00 +0000"));
    append(c, "INBOX", "(\\Flagged) \"02-Jan-2020 00:00:00 +0000\" ",
           MAIL("\"Ann\" <mia@x.org>", "Re: apple",
                "Wed, 1 Jan 2020 09:00:00 +0000"));
    append(c, "INBOX", "(\\Seen) \"03-Jan-2020 00:00:00 +0000\" ",
           MAIL("bob@x.org", "Apple", "Wed, 1 Jan 2020 08:00:00 +0000"));
    append(c, "INBOX", "(\\Seen) ",
           MAIL("\"cis\" <Bob@x.org>", "[list] Banana with a longer subject",
                "Wed, 1 Jan 2020 11:00:00 +0000"));
    quiet(c, "x SELECT INBOX");
    quiet(c, "x STORE 1 +FLAGS.SILENT (\\Deleted)");
    quiet(c, "x EXPUNGE"); /* UIDs 2, 3, 4 */
    return c;
}

static void
test_esearch(void **state)
{
    (void)state;
    struct fake_client *c = four();

    talk(c, "a SEARCH RETURN (MIN MAX COUNT) ALL",
         "* ESEARCH (TAG \"a\") MIN 1 MAX 3 COUNT 3\r\na OK Completed\r\n");
    talk(c, "b UID SEARCH RETURN () SEEN",
         "* ESEARCH (TAG \"b\") UID ALL 3:4\r\nb OK Completed\r\n");
    talk(c, "c SEARCH RETURN (ALL) ANSWERED",
         "* ESEARCH (TAG \"c\")\r\nc OK Completed\r\n");
    talk(c, "d SEARCH RETURN (COUNT) ANSWERED",
         "* ESEARCH (TAG \"d\") COUNT 0\r\nd OK Completed\r\n");
    talk(c, "e SEARCH RETURN (FROB) ALL", "e BAD Unknown return option\r\n");
    talk(c, "f SEARCH RETURN (ALL PARTIAL 1:2) ALL",
         "f BAD ALL and PARTIAL exclude each other\r\n");
    talk(c, "g UID SEARCH RETURN (PARTIAL 1:2) ALL",
         "* ESEARCH (TAG \"g\") UID PARTIAL (1:2 2:3)\r\ng OK Completed\r\n");
    talk(c, "h UID SEARCH RETURN (PARTIAL -1:-2) ALL",
         "* ESEARCH (TAG \"h\") UID PARTIAL (-1:-2 3:4)\r\nh OK Completed\r\n");
    talk(c, "i SEARCH RETURN (PARTIAL 4:9 COUNT) ALL",
         "* ESEARCH (TAG \"i\") COUNT 3 PARTIAL (4:9 NIL)\r\ni OK "
         "Completed\r\n");
    talk(c, "j SEARCH RETURN (PARTIAL 0:9) ALL", "j BAD Invalid PARTIAL\r\n");
    talk(c, "k UID SEARCH RETURN (ALL) MODSEQ 1 FLAGGED",
         "* OK [HIGHESTMODSEQ M1] Ok\r\n* ESEARCH (TAG \"k\") UID ALL 2 MODSEQ "
         "M2\r\nk OK Completed\r\n");
}

/* RFC 9394, 3.3 and 3.4: UIDs are 2, 3, 4. */
static void
test_part_of_a_fetch(void **state)
{
    (void)state;
    struct fake_client *c = four();

    talk(c, "a UID FETCH 1:* (UID) (PARTIAL 1:2)",
         "* 1 FETCH (UID 2)\r\n* 2 FETCH (UID 3)\r\na OK Completed\r\n");
    talk(c, "b UID FETCH 1:* (UID) (PARTIAL -1:-2)",
         "* 2 FETCH (UID 3)\r\n* 3 FETCH (UID 4)\r\nb OK Completed\r\n");
    talk(c, "c UID FETCH 2,4 (UID) (PARTIAL 2:9)",
         "* 3 FETCH (UID 4)\r\nc OK Completed\r\n");
    talk(c, "d UID FETCH 1:* (UID) (PARTIAL 4:9)", "d OK Completed\r\n");
    talk(c, "e UID FETCH 2 (PREVIEW) (PARTIAL 1:1)",
         "* 1 FETCH (UID 2 PREVIEW \"x\")\r\ne OK Completed\r\n");
    talk(c, "f UID FETCH 2 PREVIEW (PARTIAL 2:2)", "f OK Completed\r\n");
    /* It chooses first, then what did not change is left out. */
    talk(c, "g UID FETCH 3 (MODSEQ)",
         "* OK [HIGHESTMODSEQ M1] Ok\r\n* 2 FETCH (UID 3 MODSEQ (M2))\r\n"
         "g OK Completed\r\n");
    quiet(c, "x UID STORE 2,4 +FLAGS.SILENT (\\Answered)");
    talk(c, "h UID FETCH 1:* (UID) (PARTIAL -1:-2 CHANGEDSINCE M2)",
         "* 3 FETCH (UID 4 MODSEQ (M3))\r\nh OK Completed\r\n");
    talk(c, "i UID FETCH 1:* (UID) (PARTIAL 0:1)", "i BAD Invalid PARTIAL\r\n");
    talk(c, "j UID FETCH 1:* (UID) (PARTIAL 1:-1)", "j BAD Invalid number\r\n");
}

static void
test_modseq_of_an_esearch_fits_what_was_asked(void **state)
{
    (void)state;
    struct fake_client *c = four();

    talk(c, "a FETCH 1:3 (MODSEQ)",
         "* OK [HIGHESTMODSEQ M1] Ok\r\n"
         "* 1 FETCH (MODSEQ (M2))\r\n* 2 FETCH (MODSEQ (M3))\r\n"
         "* 3 FETCH (MODSEQ (M4))\r\na OK Completed\r\n");
    quiet(c, "x STORE 2 +FLAGS.SILENT (\\Answered)");
    talk(c, "b SEARCH RETURN (MIN) MODSEQ 1",
         "* ESEARCH (TAG \"b\") MIN 1 MODSEQ M2\r\nb OK Completed\r\n");
    talk(c, "c SEARCH RETURN (MIN MAX) MODSEQ 1",
         "* ESEARCH (TAG \"c\") MIN 1 MAX 3 MODSEQ M4\r\nc OK Completed\r\n");
    talk(c, "d SEARCH RETURN (COUNT) MODSEQ 1",
         "* ESEARCH (TAG \"d\") COUNT 3 MODSEQ M5\r\nd OK Completed\r\n");
}

static void
test_saved_result(void **state)
{
    (void)state;
    struct fake_client *c = four();

    talk(c, "a FETCH $ UID", "a OK Completed\r\n");
    talk(c, "b SEARCH RETURN (SAVE) SEEN", "b OK Completed\r\n");
    talk(c, "c FETCH $ UID",
         "* 2 FETCH (UID 3)\r\n* 3 FETCH (UID 4)\r\nc OK Completed\r\n");
    talk(c, "d UID SEARCH RETURN (SAVE MIN) $",
         "* ESEARCH (TAG \"d\") UID MIN 3\r\nd OK Completed\r\n");
    talk(c, "e UID SEARCH UID $", "* SEARCH 3\r\ne OK Completed\r\n");
    talk(c, "f UID SEARCH RETURN (SAVE ALL) NOT $",
         "* ESEARCH (TAG \"f\") UID ALL 2,4\r\nf OK Completed\r\n");
    quiet(c, "x STORE 3 +FLAGS.SILENT (\\Deleted)");
    quiet(c, "x EXPUNGE");
    talk(c, "g UID STORE $ +FLAGS.SILENT (\\Draft)", "g OK Completed\r\n");
    talk(c, "h SEARCH DRAFT", "* SEARCH 1\r\nh OK Completed\r\n");
    /* A failed one leaves nothing. */
    talk(c, "i SEARCH RETURN (SAVE) CHARSET nowhere ALL",
         "i NO [BADCHARSET (US-ASCII UTF-8)] Unknown charset\r\n");
    talk(c, "j SEARCH $", "* SEARCH\r\nj OK Completed\r\n");
    /* Another mailbox knows nothing of it. */
    talk(c, "k SEARCH RETURN (SAVE) ALL", "k OK Completed\r\n");
    quiet(c, "x SELECT INBOX");
    talk(c, "l SEARCH $", "* SEARCH\r\nl OK Completed\r\n");
}

static void
test_age_and_savedate(void **state)
{
    (void)state;
    struct fake_client *c = four();

    talk(c, "a UID SEARCH OLDER 86400", "* SEARCH 2 3\r\na OK Completed\r\n");
    talk(c, "b UID SEARCH YOUNGER 86400", "* SEARCH 4\r\nb OK Completed\r\n");
    talk(c, "c SEARCH YOUNGER 0", "c BAD Invalid interval\r\n");
    talk(c, "d UID SEARCH SAVEDSINCE 1-Jan-2020 SAVEDATESUPPORTED",
         "* SEARCH 2 3 4\r\nd OK Completed\r\n");
    talk(c, "e UID SEARCH SAVEDBEFORE 1-Jan-2020",
         "* SEARCH\r\ne OK Completed\r\n");
}

static void
test_sort(void **state)
{
    (void)state;
    struct fake_client *c = four();

    talk(c, "a UID SORT (SUBJECT) UTF-8 ALL",
         "* SORT 2 3 4\r\na OK Completed\r\n");
    talk(c, "b UID SORT (REVERSE SUBJECT DATE) UTF-8 ALL",
         "* SORT 4 3 2\r\nb OK Completed\r\n");
    talk(c, "c UID SORT (SUBJECT DATE) UTF-8 ALL",
         "* SORT 3 2 4\r\nc OK Completed\r\n");
    talk(c, "d UID SORT (FROM ARRIVAL) US-ASCII ALL",
         "* SORT 3 4 2\r\nd OK Completed\r\n");
    talk(c, "e UID SORT (DISPLAYFROM) UTF-8 ALL",
         "* SORT 2 3 4\r\ne OK Completed\r\n");
    talk(c, "f SORT (REVERSE ARRIVAL) UTF-8 SEEN",
         "* SORT 3 2\r\nf OK Completed\r\n");
    talk(c, "g UID SORT (REVERSE SIZE) UTF-8 ALL",
         "* SORT 4 2 3\r\ng OK Completed\r\n");
    talk(c, "h UID SORT RETURN (MIN MAX ALL COUNT) (REVERSE ARRIVAL) UTF-8 ALL",
         "* ESEARCH (TAG \"h\") UID MIN 4 MAX 2 COUNT 3 ALL 4,3,2\r\n"
         "h OK Completed\r\n");
    talk(c, "i UID SORT RETURN (PARTIAL 1:2) (ARRIVAL) UTF-8 ALL",
         "* ESEARCH (TAG \"i\") UID PARTIAL (1:2 2:3)\r\ni OK Completed\r\n");
    talk(c, "j SORT (FROB) UTF-8 ALL", "j BAD Unknown sort key\r\n");
    talk(c, "k SORT (SIZE) nowhere ALL",
         "k NO [BADCHARSET (US-ASCII UTF-8)] Unknown charset\r\n");
    talk(c, "l SORT (SIZE) UTF-8 ANSWERED", "* SORT\r\nl OK Completed\r\n");
}

static void
test_thread(void **state)
{
    (void)state;
    struct fake_client *c = four();

    talk(c, "a UID THREAD ORDEREDSUBJECT UTF-8 ALL",
         "* THREAD (3 2)(4)\r\na OK Completed\r\n");
    talk(c, "b THREAD REFERENCES UTF-8 ALL",
         "* THREAD (2 1)(3)\r\nb OK Completed\r\n");
    talk(c, "c UID THREAD REFS UTF-8 ALL",
         "* THREAD (2)(3)(4)\r\nc OK Completed\r\n");
    talk(c, "d THREAD FROB UTF-8 ALL", "d BAD Unknown threading algorithm\r\n");
    talk(c, "e THREAD REFERENCES UTF-8 ANSWERED",
         "* THREAD\r\ne OK Completed\r\n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_esearch),
        T(test_part_of_a_fetch),
        T(test_modseq_of_an_esearch_fits_what_was_asked),
        T(test_saved_result),
        T(test_age_and_savedate),
        T(test_sort),
        T(test_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
