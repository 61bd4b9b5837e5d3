/*
 * tests/imapd/test_own.c - what a STORE of ours has told is not told again, and
 * what others have changed meanwhile is: between two pieces of one STORE too,
 * and under a STORE whose answer is silent.
 */
#include "tests/imapd/talking.h"

/* 2,048 messages: more than one piece of a STORE. */
static struct fake_client *
many(void)
{
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "(\\Seen) ", MSG_A);
    quiet(c, "x SELECT INBOX");
    for (int i = 0; i < 11; i++)
        quiet(c, "x COPY 1:* INBOX");
    quiet(c, "x SELECT INBOX"); /* nothing is recent any more */
    talk(c, "y STATUS INBOX (MESSAGES)",
         "* STATUS INBOX (MESSAGES 2048)\r\ny OK Completed\r\n");
    return c;
}

static size_t
count(const struct fake_client *c, const char *text)
{
    struct span left = buf_span(&c->out);
    size_t n = 0;

    for (ptrdiff_t at; (at = span_find(left, span_str(text))) >= 0; n++)
        left = span_skip(left, (size_t)at + strlen(text));
    return n;
}

static void
test_change_between_two_pieces_of_a_store_is_told(void **state)
{
    (void)state;
    struct fake_client *c = many();
    struct fake_client *d = login(1, "fred");

    quiet(d, "a SELECT INBOX");
    c->full_at = 100; /* rests in the first piece */
    add_line(c, "b STORE 1:* +FLAGS (\\Draft)");
    fake_turn(&world);
    assert_int_equal(count(c, "* 5 FETCH (FLAGS (\\Draft \\Seen))\r\n"), 1);
    assert_int_equal(count(c, "b OK"), 0);
    quiet(d, "c STORE 5 +FLAGS (\\Flagged)");
    c->full_at = 0;
    imap_session_drained(c->session);
    fake_turn(&world);
    assert_int_equal(count(c, "b OK Completed\r\n"), 1);
    assert_int_equal(count(c, " FETCH (FLAGS (\\Draft \\Seen))\r\n"), 2048);
    assert_int_equal(
        count(c, "* 5 FETCH (FLAGS (\\Flagged \\Draft \\Seen))\r\n"), 1);
    buf_clear(&c->out);
    /* Once is enough. */
    talk(c, "d NOOP", "d OK Completed\r\n");
}

/* One piece is told and the next one with the writer when the line breaks: that
 * one is stored, and those after it are not. */
static void
test_client_that_goes_amid_a_store_leaves_whole_pieces(void **state)
{
    (void)state;
    struct fake_client *c = many();
    struct fake_client *d = login(1, "fred");

    quiet(d, "a SELECT INBOX");
    c->full_at = 100;
    add_line(c, "b STORE 1:* +FLAGS (\\Draft)");
    fake_turn(&world);
    fake_hang_up(c);
    add_line(d, "c SEARCH RETURN (COUNT) DRAFT");
    fake_turn(&world);
    assert_int_equal(count(d, "* ESEARCH (TAG \"c\") COUNT 2000\r\n"), 1);
}

static void
test_own_changes_are_told_once(void **state)
{
    (void)state;
    struct fake_client *c = many();

    talk(c, "a STORE 1:* +FLAGS.SILENT (\\Draft)", "a OK Completed\r\n");
    add_line(c, "b STORE 1:* -FLAGS (\\Draft)");
    fake_turn(&world);
    assert_int_equal(count(c, " FETCH (FLAGS (\\Seen))\r\n"), 2048);
    assert_int_equal(count(c, " FETCH "), 2048);
}

static void
test_silent_store_tells_what_others_changed(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct fake_client *d = login(1, "fred");

    for (int i = 0; i < 3; i++)
        append(c, "INBOX", "(\\Seen) ", MSG_A);
    quiet(d, "a SELECT INBOX");
    quiet(c, "b SELECT INBOX");
    quiet(d, "c STORE 2 +FLAGS (\\Answered)");
    talk(c, "d STORE 1:3 +FLAGS.SILENT (\\Flagged)",
         "* 2 FETCH (FLAGS (\\Answered \\Flagged \\Seen))\r\n"
         "d OK Completed\r\n");
    talk(c, "e NOOP", "e OK Completed\r\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_change_between_two_pieces_of_a_store_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_client_that_goes_amid_a_store_leaves_whole_pieces, setup,
            teardown),
        cmocka_unit_test_setup_teardown(test_own_changes_are_told_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_silent_store_tells_what_others_changed, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
