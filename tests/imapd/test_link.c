/*
 * tests/imapd/test_link.c - what is about the session and not about mail:
 * COMPRESS (RFC 4978), UNAUTHENTICATE (8437), INPROGRESS (9585), MESSAGELIMIT
 * (9738); and mailboxes that an admin moves to another partition.
 */
#include "tests/imapd/talking.h"

#include "store/partition.h"

static bool
has_capability(struct fake_client *c, const char *name)
{
    add_line(c, "cap CAPABILITY");
    fake_turn(c->world);
    bool has = span_find(buf_span(&c->out), span_str(name)) >= 0;
    buf_clear(&c->out);
    return has;
}

static void
test_compress_once(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    assert_true(has_capability(c, " COMPRESS=DEFLATE"));
    talk(c, "a COMPRESS LZW", "a NO [CANNOT] Only DEFLATE\r\n");
    assert_false(c->deflate_asked);
    talk(c, "b COMPRESS deflate", "b OK DEFLATE active\r\n");
    assert_true(c->deflate_asked);
    talk(c, "c COMPRESS DEFLATE",
         "c NO [COMPRESSIONACTIVE] DEFLATE is on already\r\n");
    assert_false(has_capability(c, " COMPRESS=DEFLATE"));
    assert_true(has_capability(c, " UNAUTHENTICATE"));
    /* RFC 8437, 4.1 */
    talk(c, "d UNAUTHENTICATE", "d OK Completed\r\n");
    assert_false(c->deflate_asked);
    assert_false(c->closed);
    quiet(c, "e LOGIN fred secret");
    assert_true(has_capability(c, " COMPRESS=DEFLATE"));
    talk(c, "f COMPRESS DEFLATE", "f OK DEFLATE active\r\n");
    assert_true(c->deflate_asked);
}

static void
test_unauthenticate_forgets_everything(void **state)
{
    (void)state;
    struct fake_client *c = fake_connect(&world, 0);

    buf_clear(&c->out);
    talk(c, "a UNAUTHENTICATE", "a BAD Please login first\r\n");
    quiet(c, "b LOGIN cyrus secret");
    quiet(c, "c ENABLE QRESYNC IMAP4rev2 UTF8=ACCEPT UIDONLY");
    quiet(c, "d CREATE user/fred");
    quiet(c, "e SETACL user/fred cyrus lrs");
    quiet(c, "f SELECT user/fred");
    /* Pipelined with what follows (3). */
    add_line(c, "g UNAUTHENTICATE");
    talk(c, "h LOGIN fred secret",
         "g OK Completed\r\nh OK [CAPABILITY V] User logged in\r\n");
    append(c, "INBOX", "(\\Seen) ", MSG_A);
    talk(c, "i EXPUNGE", "i BAD Please select a mailbox first\r\n");
    quiet(c, "j SELECT INBOX");
    talk(c, "k FETCH 1 FLAGS",
         "* 1 FETCH (FLAGS (\\Recent \\Seen))\r\nk OK Completed\r\n");
    talk(c, "l SEARCH ALL", "* SEARCH 1\r\nl OK Completed\r\n");
    talk(c, "m CREATE user/ann", "m NO [NOPERM] Permission denied\r\n");
    quiet(c, "n UNAUTHENTICATE");
    assert_int_equal(c->timeout_ms, world.opt.login_timeout_ms);
    talk(c, "o SELECT INBOX", "o BAD Please login first\r\n");
}

/* Bodies of so many messages are read in several turns. */
static void
test_long_search_says_that_it_is_under_way(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "(\\Seen) ", MSG_A);
    quiet(c, "a SELECT INBOX");
    for (int i = 0; i < 6; i++)
        quiet(c, "a COPY 1:* INBOX");
    talk(c, "b SEARCH RETURN (COUNT) TEXT nothing",
         "* ESEARCH (TAG \"b\") COUNT 0\r\nb OK Completed\r\n");
    world.opt.progress_ms = 0;
    add_line(c, "c SEARCH RETURN (COUNT) TEXT nothing");
    fake_turn(&world);
    struct span out = buf_span(&c->out);
    assert_true(span_starts(out, SPAN_LIT("* OK [INPROGRESS (\"c\" ")));
    assert_true(span_find(out, SPAN_LIT(" 64)] Still working\r\n")) > 0);
    struct span end =
        SPAN_LIT("\r\n* ESEARCH (TAG \"c\") COUNT 0\r\nc OK Completed\r\n");
    assert_true(span_eq(span_skip(out, out.n - end.n), end));
}

static void
test_message_limit_takes_the_newest(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    for (int i = 0; i < 5; i++)
        append(c, "INBOX", "(\\Seen) ", MSG_A);
    assert_false(has_capability(c, "MESSAGELIMIT"));
    world.opt.message_limit = 2;
    assert_true(has_capability(c, " MESSAGELIMIT=2 "));
    quiet(c, "a SELECT INBOX");
    quiet(c, "a SELECT INBOX");
    talk(c, "b FETCH 1:* UID",
         "* 4 FETCH (UID 4)\r\n* 5 FETCH (UID 5)\r\n"
         "b OK [MESSAGELIMIT 2 4] Completed\r\n");
    talk(c, "c FETCH 1,3 UID",
         "* 1 FETCH (UID 1)\r\n* 3 FETCH (UID 3)\r\nc OK Completed\r\n");
    talk(c, "d STORE 1:3 +FLAGS (\\Deleted)",
         "* 2 FETCH (FLAGS (\\Deleted \\Seen))\r\n"
         "* 3 FETCH (FLAGS (\\Deleted \\Seen))\r\n"
         "d OK [MESSAGELIMIT 2 2] Completed\r\n");
    talk(c, "e SEARCH ALL",
         "* SEARCH 4 5\r\ne OK [MESSAGELIMIT 2 4] Completed\r\n");
    talk(c, "f COPY 1:3 INBOX", "f NO [MESSAGELIMIT 2] Too many messages\r\n");
    talk(c, "g MOVE 1:3 INBOX", "g NO [MESSAGELIMIT 2] Too many messages\r\n");
    talk(c, "h APPEND INBOX {1+}\r\nx {1+}\r\ny {1+}\r\nz",
         "h NO [MESSAGELIMIT 2] Too many messages\r\n");
    talk(c, "i UID EXPUNGE 1:4",
         "* 3 EXPUNGE\r\ni OK [MESSAGELIMIT 2 3] Completed\r\n");
    talk(c, "j FETCH 3:4 UID",
         "* 3 FETCH (UID 4)\r\n* 4 FETCH (UID 5)\r\nj OK Completed\r\n");
    /* The reply has another code: it is told before. */
    talk(c, "k STORE 1:4 (UNCHANGEDSINCE 1) +FLAGS (\\Draft)",
         "* OK [HIGHESTMODSEQ M1] Ok\r\n"
         "* OK [MESSAGELIMIT 2 4] Not more\r\n"
         "k OK [MODIFIED 3:4] Conditional STORE failed\r\n");
}

static void
test_admin_moves_mailboxes_to_another_partition(void **state)
{
    (void)state;
    static const char *const names[] = {"default", "big"};
    static const char *const paths[] = {"/a", "/b"};
    const struct partition_options options = {.fixed = "default"};
    struct arena a = ARENA_INIT;

    world.opt.partitions =
        partitions_new(env_sim_env(world.sim), &options, names, paths, 2, &a);
    struct fake_client *fred = login(0, "fred");
    struct fake_client *root = login(1, "cyrus");
    const char *const ask =
        "x GETMETADATA INBOX/a /shared/vendor/cmu/cyrus-imapd/partition";
    const char *const big =
        "* METADATA INBOX/a (/shared/vendor/cmu/cyrus-imapd/partition "
        "\"big\")\r\nx OK Completed\r\n";

    quiet(fred, "a CREATE INBOX/a");
    talk(fred, "b RENAME INBOX/a INBOX/b big",
         "b NO [NOPERM] Only an admin may choose a partition\r\n");
    talk(root, "c RENAME user/fred user/fred none",
         "c NO [CANNOT] There is no such partition\r\n");
    talk(root, "d RENAME user/fred user/fred big", "d OK Completed\r\n");
    talk(fred, ask, big);
    /* With a new name too. */
    quiet(root, "e CREATE shared default");
    talk(root, "f RENAME shared other big", "f OK Completed\r\n");
    talk(root, "g GETMETADATA other /shared/vendor/cmu/cyrus-imapd/partition",
         "* METADATA other (/shared/vendor/cmu/cyrus-imapd/partition "
         "\"big\")\r\ng OK Completed\r\n");
    arena_free(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_compress_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unauthenticate_forgets_everything,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_long_search_says_that_it_is_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message_limit_takes_the_newest,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_admin_moves_mailboxes_to_another_partition, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
