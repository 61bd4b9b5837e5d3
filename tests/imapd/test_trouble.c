/*
 * tests/imapd/test_trouble.c - sessions of a server that cannot do everything:
 * a replica, one that is promoted, behind a fence, with a full disk, with
 * damage.
 */
#include "tests/imapd/talking.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* ---- a replica --------------------------------------------------------- */

static void
test_a_replica_is_read_only(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "", MSG_A);
    store_set_role(world.store, ROLE_REPLICA, 1);
    quiet(c, "a SELECT INBOX");
    talk(
        c, "b FETCH 1 BODY[TEXT]",
        "* 1 FETCH (BODY[TEXT] {13}\r\nHello world\r\n)\r\nb OK Completed\r\n");
    static const char no[] =
        "x NO [UNAVAILABLE] This server is a read-only replica\r\n";
    static const char *const lines[] = {"x STORE 1 +FLAGS (\\Seen)",
                                        "x EXPUNGE",
                                        "x COPY 1 INBOX",
                                        "x MOVE 1 INBOX",
                                        "x CREATE INBOX/z",
                                        "x DELETE INBOX/z",
                                        "x RENAME INBOX/z INBOX/q",
                                        "x SUBSCRIBE INBOX",
                                        "x SETACL INBOX a l",
                                        "x APPEND INBOX {3}",
                                        "x APPEND INBOX {3+}\r\nabc"};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        talk(c, lines[i], no);
    talk(c, "c CLOSE", "c OK Completed\r\n");
    struct fake_client *d = login(1, "newuser"); /* no INBOX is made */
    talk(d, "a SELECT INBOX", "a NO [NONEXISTENT] Mailbox does not exist\r\n");
}

/* It would show an account without mail. */
static void
test_a_replica_that_holds_nothing_yet_lets_nobody_in(void **state)
{
    struct error err = {0};
    static const char no[] =
        "a NO [UNAVAILABLE] This replica waits to be filled "
        "by its master, try again later\r\n";

    (void)state;
    fake_close_world(&world);
    fake_open_replica(&world);
    struct fake_client *c = fake_connect(&world, 0);
    expect(c, "* OK [CAPABILITY V] imap.example Pollux IMAP server ready\r\n");
    talk(c, "a LOGIN fred secret", no);
    talk(c, "a AUTHENTICATE PLAIN", no);
    store_set_role(world.store, ROLE_FENCED, 1);
    talk(c, "a LOGIN fred secret", no);
    /* That is no failed login. */
    talk(c, "b NOOP", "b OK Completed\r\n");
    store_set_role(world.store, ROLE_MASTER, 1);
    assert_int_equal(store_begin_epoch(world.store, 1, 0, "first", &err),
                     ERR_OK);
    quiet(c, "c LOGIN fred secret");
    talk(c, "d NOOP", "d OK Completed\r\n");
}

/* Its client is told that the mailbox can be written to now. */
static void
test_a_session_on_a_replica_that_is_promoted_becomes_read_write(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "(\\Deleted) ", MSG_A);
    store_set_role(world.store, ROLE_REPLICA, 1);
    talk(c, "a SELECT INBOX",
         "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen)\r\n"
         "* OK [PERMANENTFLAGS ()] Ok\r\n"
         "* 1 EXISTS\r\n* 1 RECENT\r\n"
         "* OK [UNSEEN 1] Ok\r\n"
         "* OK [UIDVALIDITY V] Ok\r\n"
         "* OK [UIDNEXT 2] Ok\r\n"
         "* OK [HIGHESTMODSEQ M1] Ok\r\n"
         "* OK [MAILBOXID (V)] Ok\r\n* OK [ANNOTATIONS V] Ok\r\n"
         "a OK [READ-ONLY] Completed\r\n");
    talk(c, "b NOOP", "b OK Completed\r\n");
    store_set_role(world.store, ROLE_MASTER, 1);
    talk(c, "c NOOP",
         "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen)\r\n"
         "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen "
         "\\*)] Ok\r\n"
         "* OK [READ-WRITE] This is the master now\r\n"
         "c OK Completed\r\n");
    talk(c, "d NOOP", "d OK Completed\r\n");
    talk(c, "e STORE 1 +FLAGS (\\Seen)",
         "* 1 FETCH (FLAGS (\\Recent \\Deleted \\Seen))\r\ne OK Completed\r\n");

    /* Not told yet: CLOSE takes nothing away. */
    store_set_role(world.store, ROLE_REPLICA, 1);
    quiet(c, "f SELECT INBOX");
    store_set_role(world.store, ROLE_MASTER, 1);
    talk(c, "g CLOSE", "g OK Completed\r\n");
    talk(c, "h STATUS INBOX (MESSAGES)",
         "* STATUS INBOX (MESSAGES 1)\r\nh OK Completed\r\n");
}

/* ---- a server that cannot ---------------------------------------------- */

static void
test_fence_refuses_changes_and_mail_can_be_read(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct error err = {0};
    struct env *env = env_sim_env(world.sim);
    static const char no[] =
        "x NO [UNAVAILABLE] This server takes no changes now\r\n";

    append(c, "INBOX", "", MSG_A);
    quiet(c, "s SELECT INBOX");
    assert_int_equal(
        env_write_file_atomic(env, "/pollux/fence", SPAN_LIT("x"), &err),
        ERR_OK);
    assert_true(store_check_fence(world.store));
    talk(c, "x APPEND INBOX {3+}\r\nabc", no);
    talk(c, "x STORE 1 +FLAGS (\\Deleted)", no);
    talk(c, "x CREATE INBOX/z", no);
    talk(c, "x SUBSCRIBE INBOX", no);
    /* Reading marks nothing as \\Seen, but goes on. */
    talk(c, "a FETCH 1 BODY[TEXT]",
         "* 1 FETCH (BODY[TEXT] {13}\r\nHello world\r\n)\r\n"
         "a OK Completed\r\n");
    assert_int_equal(env_unlink(env, "/pollux/fence", &err), ERR_OK);
    assert_false(store_check_fence(world.store));
    quiet(c, "b STORE 1 +FLAGS (\\Flagged)");
}

static void
test_full_disk_is_temporary(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "(\\Seen) ", MSG_A);
    quiet(c, "s SELECT INBOX");
    env_sim_set_disk_bytes(world.sim, 1);
    /* The segment was made ahead: it takes some more. */
    struct buf b = BUF_INIT;
    buf_add_str(&b, "x APPEND INBOX {60000+}\r\n");
    uint64_t seed = 1;
    for (int i = 0; i < 60000; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        buf_add_byte(&b, (uint8_t)('0' + (seed >> 33) % 75));
    }
    bool refused = false;
    for (int i = 0; i < 100 && !refused; i++) {
        buf_add(&c->in, buf_span(&b));
        buf_add_str(&c->in, "\r\n");
        fake_turn(&world);
        refused = span_find(buf_span(&c->out),
                            SPAN_LIT("x NO [UNAVAILABLE] No space")) >= 0;
        buf_clear(&c->out);
        b.p[100]++; /* another message */
    }
    assert_true(refused);
    talk(c, "a FETCH 1 BODY[TEXT]",
         "* 1 FETCH (BODY[TEXT] {13}\r\nHello world\r\n)\r\n"
         "a OK Completed\r\n");
    env_sim_set_disk_bytes(world.sim, 0);
    quiet(c, "b CREATE INBOX/again");
    buf_free(&b);
}

/* Turn a bit of the only place on the disk where TEXT stands. */
static void
damage(const char *text)
{
    struct env *env = env_sim_env(world.sim);
    struct buf names = BUF_INIT, file = BUF_INIT;
    struct error err = {0};
    unsigned hits = 0;

    assert_int_equal(env_list(env, "/pollux/synclog", &names, &err), ERR_OK);
    for (size_t i = 0; i < names.n; i += strlen((char *)names.p + i) + 1) {
        char path[300];
        snprintf(path, sizeof(path), "/pollux/synclog/%s", (char *)names.p + i);
        buf_clear(&file);
        if (env_read_file(env, path, 1U << 22, &file, &err) != ERR_OK)
            continue;
        ptrdiff_t at = span_find(buf_span(&file), span_str(text));
        if (at < 0)
            continue;
        assert_true(env_sim_flip_bit(world.sim, path, (uint64_t)at, 0));
        hits++;
    }
    assert_int_equal(hits, 1);
    buf_free(&names);
    buf_free(&file);
}

static void
test_damaged_body_is_never_given_out(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "(\\Seen) ", MSG_A);
    append(c, "INBOX", "(\\Seen) ", "Subject: unhurt\r\n\r\nx\r\n");
    quiet(c, "s SELECT INBOX");
    damage("Hello world");
    talk(c, "a FETCH 1:2 (UID BODY[TEXT])",
         "* 1 FETCH (UID 1 BODY[TEXT] NIL)\r\n"
         "* 2 FETCH (UID 2 BODY[TEXT] {3}\r\nx\r\n)\r\n"
         "a NO [CORRUPTION] Some messages cannot be read\r\n");
    talk(c, "b FETCH 1 RFC822.SIZE",
         "* 1 FETCH (RFC822.SIZE 120)\r\nb OK Completed\r\n");
    talk(c, "c SEARCH BODY unhurt",
         "* SEARCH\r\nc NO [CORRUPTION] Stored data is damaged\r\n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_replica_is_read_only),
        T(test_a_replica_that_holds_nothing_yet_lets_nobody_in),
        T(test_a_session_on_a_replica_that_is_promoted_becomes_read_write),
        T(test_fence_refuses_changes_and_mail_can_be_read),
        T(test_full_disk_is_temporary),
        T(test_damaged_body_is_never_given_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
