/*
 * tests/imapd/test_append.c - messages on their way in: several at once (RFC
 * 3502), put together (4469), in place of others (8508), with UTF-8 (6855), and
 * what refuses them (7889).
 */
#include "mime/message.h"
#include "tests/imapd/talking.h"

static void
test_several_messages_come_all_or_none(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    talk(c,
         "a APPEND INBOX (\\Seen) {12+}\r\nSubject: a\r\n (\\Draft) " DATE
         "{12}",
         "+ go ahead\r\n");
    talk(c, "Subject: b\r\n {12+}\r\nSubject: c\r\n",
         "a OK [APPENDUID V 1:3] Completed\r\n");
    quiet(c, "s SELECT INBOX");
    talk(c, "b FETCH 1:* (FLAGS BODY.PEEK[])",
         "* 1 FETCH (FLAGS (\\Recent \\Seen) BODY[] {12}\r\nSubject: a\r\n)\r\n"
         "* 2 FETCH (FLAGS (\\Recent \\Draft) BODY[] "
         "{12}\r\nSubject: b\r\n)\r\n"
         "* 3 FETCH (FLAGS (\\Recent) BODY[] {12}\r\nSubject: c\r\n)\r\n"
         "b OK Completed\r\n");
    /* RFC 3502, 6: an empty one cancels. */
    talk(c, "c APPEND INBOX {1+}\r\nx {0+}\r\n", "c NO Message is empty\r\n");
    talk(c, "d APPEND INBOX {1+}\r\nx {1+}\r\ny z",
         "d BAD Missing message literal\r\n");
    talk(c, "e APPEND INBOX {1+}\r\nx {200000}",
         "e NO [TOOBIG] Message too large\r\n");
    /* A NUL in the last one spoils all. */
    buf_add(&c->in, SPAN_LIT("f APPEND INBOX {1+}\r\nx {3+}\r\na\0b\r\n"));
    expect(c, "f NO Message contains NUL characters\r\n");
    buf_add(&c->in, SPAN_LIT("g APPEND INBOX ~{3+}\r\na\0b\r\n"));
    expect(c, "g NO [UNKNOWN-CTE] NUL outside of a binary part\r\n");
    talk(c, "h STATUS INBOX (MESSAGES UIDNEXT)",
         "* STATUS INBOX (MESSAGES 3 UIDNEXT 4)\r\nh OK Completed\r\n");
    talk(c, "i APPEND INBOX ~{3+}\r\nabc",
         "* 4 EXISTS\r\n* 4 RECENT\r\ni OK [APPENDUID V 4] Completed\r\n");
    talk(c, "j APPEND INBOX UTF8 (~{3+}\r\nab\xc3)",
         "* 5 EXISTS\r\n* 5 RECENT\r\nj OK [APPENDUID V 5] Completed\r\n");
    talk(c, "k APPEND INBOX UTF8 (~{3+}\r\nabc",
         "k BAD Missing ) after message\r\n");
}

/* The derived record of a message that came alone is made behind it: it is
 * there all the same, and the one that belongs to it. */
static void
test_derived_record_is_there(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    AUTO(buf_free) struct buf got = BUF_INIT;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error err = {0};
    struct mailbox mb;

    for (unsigned i = 0; i < 3; i++) {
        static const char *const body[] = {"", "\r\n", "\r\nxy"};
        char want[64];
        buf_addf(&c->in, "a APPEND INBOX {%zu+}\r\nSubject: s%u\r\n%s\r\n",
                 13 + strlen(body[i]), i, body[i]);
        snprintf(want, sizeof(want), "a OK [APPENDUID V %u] Completed\r\n",
                 i + 1);
        expect(c, want);
    }
    AUTO(store_release) struct store_snap *snap = store_snapshot(world.store);
    assert_int_equal(snap_mailbox_by_name(snap, "user.fred", &a, &mb, &err),
                     ERR_OK);
    for (uint32_t uid = 1; uid <= 3; uid++) {
        struct mime_cache mime;
        buf_clear(&got);
        assert_int_equal(snap_cache(snap, mb.id, uid, &got, &err), ERR_OK);
        assert_int_equal(mime_cache_decode(buf_span(&got), &mime, &err),
                         ERR_OK);
        assert_int_equal(mime.message_size, 11 + 2 * uid);
    }
}

static void
test_quota_refuses_all_of_them(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct fake_client *root = login(1, "cyrus");

    quiet(root, "a SETQUOTA user/fred (MESSAGE 2)");
    talk(c, "b APPEND INBOX {1+}\r\nx {1+}\r\ny {1+}\r\nz",
         "b NO [OVERQUOTA] Over quota\r\n");
    talk(c, "c STATUS INBOX (MESSAGES UIDNEXT)",
         "* STATUS INBOX (MESSAGES 0 UIDNEXT 1)\r\nc OK Completed\r\n");
    talk(c, "d APPEND INBOX {1+}\r\nx {1+}\r\ny",
         "d OK [APPENDUID V 1:2] Completed\r\n");
    /* RFC 8508, 3.4: what goes makes room. */
    quiet(c, "e SELECT INBOX");
    talk(c, "f REPLACE 1 INBOX {1+}\r\nz",
         "* OK [APPENDUID V 3] Replacement is there\r\n"
         "* 1 EXPUNGE\r\n* 2 EXISTS\r\n* 2 RECENT\r\nf OK Completed\r\n");
}

static void
test_limit_is_announced(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    talk(c, "a STATUS INBOX (APPENDLIMIT MESSAGES)",
         "* STATUS INBOX (MESSAGES 0 APPENDLIMIT 100000)\r\n"
         "a OK Completed\r\n");
    talk(c, "b LIST \"\" INBOX RETURN (STATUS (APPENDLIMIT))",
         "* LIST (\\HasNoChildren) \"/\" INBOX\r\n"
         "* STATUS INBOX (APPENDLIMIT 100000)\r\nb OK Completed\r\n");
    add_line(c, "c CAPABILITY");
    fake_turn(&world);
    assert_true(span_find(buf_span(&c->out), SPAN_LIT(" APPENDLIMIT=100000")) >
                0);
}

/* The example of RFC 4469, 5: a message out of another one's parts. */
static void
test_catenate_puts_parts_together(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "", MSG_B);
    quiet(c, "a CREATE \"INBOX/&APw-\"");
    append(c, "\"INBOX/&APw-\"", "", MSG_A);
    talk(c, "b APPEND INBOX (\\Seen) CATENATE (TEXT {14}", "+ go ahead\r\n");
    talk(c,
         "Subject: new\r\n URL \"/INBOX/;UID=1/;SECTION=HEADER/"
         ";PARTIAL=0.26\" TEXT {4+}\r\n\r\n\r\n "
         "URL \"/INBOX/%C3%BC/;UID=1/;section=TEXT\" URL "
         "/INBOX/;UID=1/;SECTION=2/;PARTIAL=3.3)",
         "b OK [APPENDUID V 2] Completed\r\n");
    quiet(c, "c SELECT INBOX");
    talk(c, "d FETCH 2 (FLAGS BODY.PEEK[])",
         "* 2 FETCH (FLAGS (\\Recent \\Seen) BODY[] {60}\r\n"
         "Subject: new\r\nFrom: Carl <carl@example.o\r\n\r\n"
         "Hello world\r\ntwo)\r\nd OK Completed\r\n");
    /* Relative to what is selected; only URLs. */
    talk(c, "e APPEND INBOX CATENATE (URL \";UID=2/;SECTION=HEADER\")",
         "* 3 EXISTS\r\n* 3 RECENT\r\ne OK [APPENDUID V 3] Completed\r\n");
    /* Several, of both kinds. */
    talk(c,
         "f APPEND INBOX CATENATE (URL \";UID=1\") {1+}\r\nx CATENATE "
         "(TEXT {0+}\r\n TEXT {1+}\r\ny)",
         "* 6 EXISTS\r\n* 6 RECENT\r\nf OK [APPENDUID V 4:6] Completed\r\n");
    talk(c, "g FETCH 4:6 (RFC822.SIZE)",
         "* 4 FETCH (RFC822.SIZE 180)\r\n* 5 FETCH (RFC822.SIZE 1)\r\n"
         "* 6 FETCH (RFC822.SIZE 1)\r\ng OK Completed\r\n");
}

static void
test_catenate_refuses_what_is_not_there(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct fake_client *ann = login(1, "ann");
    static const char *const urls[] = {
        "/INBOX/;UID=7",
        "/INBOX;UIDVALIDITY=1/;UID=1",
        "/INBOX/;UID=1/;SECTION=9",
        "/INBOX/;UID=1/;SECTION=HEADER.FIELDS",
        "/nowhere/;UID=1",
        "/INBOX",
        "/INBOX/;UID=x",
        "/INBOX/;UID=1/;PARTIAL=a",
        "/INBOX/%4/;UID=1",
        "//other/INBOX/;UID=1",
        "imap://fred@imap.example/INBOX/;UID=1",
        ";UID=1",
        "/user/ann/;UID=1",
    };
    char line[200], want[200];

    append(c, "INBOX", "", MSG_A);
    append(ann, "INBOX", "", MSG_A);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        snprintf(line, sizeof(line),
                 "a APPEND INBOX CATENATE (TEXT {1+}\r\nx URL \"%s\")",
                 urls[i]);
        snprintf(want, sizeof(want),
                 "a NO [BADURL %s] This cannot be put into a message\r\n",
                 urls[i]);
        talk(c, line, want);
    }
    talk(c, "b APPEND INBOX CATENATE (FILE x)",
         "b BAD Unknown part of a message\r\n");
    talk(c, "c APPEND nope CATENATE (URL /INBOX/;UID=1)",
         "c NO [TRYCREATE] Mailbox does not exist\r\n");
    world.opt.message_bytes_max = 200;
    talk(c, "d APPEND INBOX CATENATE (URL /INBOX/;UID=1 URL /INBOX/;UID=1)",
         "d NO [TOOBIG] Message too large\r\n");
    world.opt.message_bytes_max = 100000;
    talk(c, "e STATUS INBOX (MESSAGES UIDNEXT)",
         "* STATUS INBOX (MESSAGES 1 UIDNEXT 2)\r\ne OK Completed\r\n");
}

static void
test_replace_is_one_step(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct fake_client *d = login(1, "fred");

    append(c, "INBOX", "", MSG_A);
    append(c, "INBOX", "", MSG_B);
    talk(c, "a REPLACE 1 INBOX {1}", "a BAD Please select a mailbox first\r\n");
    quiet(c, "b SELECT INBOX");
    quiet(d, "c SELECT INBOX");
    talk(c, "d UID REPLACE 2 INBOX (\\Draft) {1}", "+ go ahead\r\n");
    talk(c, "x",
         "* OK [APPENDUID V 3] Replacement is there\r\n* 2 EXPUNGE\r\n"
         "* 2 EXISTS\r\n* 2 RECENT\r\nd OK Completed\r\n");
    talk(d, "e NOOP",
         "* 2 EXPUNGE\r\n* 2 EXISTS\r\n* 0 RECENT\r\ne OK Completed\r\n");
    /* Into another mailbox; put together of what goes. */
    quiet(c, "f CREATE INBOX/sent");
    talk(c, "g REPLACE 1 INBOX/sent CATENATE (URL \";UID=1\")",
         "* OK [APPENDUID V 1] Replacement is there\r\n* 1 EXPUNGE\r\n"
         "g OK Completed\r\n");
    talk(c, "h REPLACE 9 INBOX {1+}\r\nx",
         "h BAD Invalid message sequence number\r\n");
    talk(c, "i UID REPLACE 9 INBOX {1+}\r\nx",
         "i NO [NONEXISTENT] There is no such message\r\n");
    talk(c, "j REPLACE 1 nope {1+}\r\nx",
         "j NO [TRYCREATE] Mailbox does not exist\r\n");
    talk(c, "k REPLACE 1 INBOX {1+}\r\nx {1+}\r\ny",
         "k BAD One message only\r\n");
    talk(c, "l STATUS INBOX (MESSAGES UIDNEXT)",
         "* STATUS INBOX (MESSAGES 1 UIDNEXT 4)\r\nl OK Completed\r\n");
    /* Somebody was faster. */
    quiet(d, "m NOOP");
    quiet(d, "n STORE 1 +FLAGS.SILENT (\\Deleted)");
    quiet(d, "o EXPUNGE");
    talk(c, "p REPLACE 1 INBOX {1+}\r\nx",
         "* 1 EXPUNGE\r\np NO [EXPUNGEISSUED] The message is gone\r\n");
    quiet(c, "q EXAMINE INBOX/sent");
    talk(c, "r REPLACE 1 INBOX {1+}\r\nx", "r NO Mailbox is read-only\r\n");
}

/* A command that is cut off, refused or bad leaves nothing behind for the next
 * one. */
static void
test_nothing_stays_of_a_refused_append(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    talk(c, "a APPEND INBOX {1+}\r\nx {200000+}",
         "a NO [TOOBIG] Message too large\r\n");
    for (int i = 0; i < 20; i++)
        for (int k = 0; k < 100; k++)
            buf_add_str(&c->in,
                        "0123456789012345678901234567890123456789012345678901"
                        "234567890123456789012345678901234567890123456789");
    talk(c, "", "");
    talk(c, "b APPEND INBOX {1+}\r\ny", "b OK [APPENDUID V 1] Completed\r\n");
    talk(c, "c APPEND INBOX {1+}\r\nx (\\Foo) {1}", "+ go ahead\r\n");
    talk(c, "y", "c BAD Unknown system flag\r\n");
    talk(c, "d APPEND INBOX {1+}\r\nz", "d OK [APPENDUID V 2] Completed\r\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_several_messages_come_all_or_none,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_derived_record_is_there, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_quota_refuses_all_of_them, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_limit_is_announced, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_catenate_puts_parts_together,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_catenate_refuses_what_is_not_there,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_replace_is_one_step, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_nothing_stays_of_a_refused_append,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
