/*
 * tests/imapd/test_session.c - whole sessions: what a client sends, and exactly
 * what it is answered, untagged and tagged.  Numbers that the store chooses
 * (UIDVALIDITY) are written as V.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/imapd/talking.h"

/* ---- before login ------------------------------------------------------ */

static void
test_greeting_and_login(void **state)
{
    (void)state;
    struct fake_client *c = fake_connect(&world, 0);

    expect(c, "* OK [CAPABILITY V] "
              "imap.example Pollux IMAP server ready\r\n");
    talk(c, "a SELECT INBOX", "a BAD Please login first\r\n");
    talk(c, "b LOGIN fred wrong",
         "b NO [AUTHENTICATIONFAILED] Authentication failed\r\n");
    talk(c, "c STARTTLS", "c BAD STARTTLS is not possible here\r\n");
    talk(c, "d LOGIN {4}", "+ go ahead\r\n");
    talk(c, "fred {6+}\r\nsecret",
         "d OK [CAPABILITY V] "
         "User logged in\r\n");
    assert_int_equal(c->timeout_ms, 2000);
    talk(c, "e LOGIN fred secret", "e BAD Not possible in this state\r\n");
    talk(c, "f NOOP", "f OK Completed\r\n");
    talk(c, "g ENABLE X-WHAT", "* ENABLED\r\ng OK Completed\r\n");
    talk(c, "h FROB", "h BAD Unrecognized command\r\n");
    talk(c, "i FETCH 1 FLAGS", "i BAD Please select a mailbox first\r\n");
    talk(c, "j LOGOUT", "* BYE LOGOUT received\r\nj OK Completed\r\n");
    assert_true(c->closed);
}

static void
test_garbage_before_login_is_not_listened_to_for_ever(void **state)
{
    (void)state;
    struct fake_client *c = fake_connect(&world, 0);

    buf_clear(&c->out);
    talk(c, "", "* BAD Invalid tag\r\n");
    talk(c, "GET / HTTP/1.0", "GET BAD Unrecognized command\r\n");
    talk(c, "\x16\x03\x01",
         "* BAD Invalid tag\r\n* BYE Too many bad commands\r\n");
    assert_true(c->closed);
    talk(c, "a NOOP", "");
}

static void
test_failed_logins_end_the_session(void **state)
{
    (void)state;
    struct fake_client *c = fake_connect(&world, 0);

    buf_clear(&c->out);
    talk(c, "a LOGIN fred x\r\nb LOGIN fred y\r\nc LOGIN fred z",
         "a NO [AUTHENTICATIONFAILED] Authentication failed\r\n"
         "b NO [AUTHENTICATIONFAILED] Authentication failed\r\n"
         "c NO [AUTHENTICATIONFAILED] Authentication failed\r\n"
         "* BYE Too many failed logins\r\n");
    assert_true(c->closed);
}

static void
test_login_needs_tls_unless_allowed(void **state)
{
    (void)state;
    world.opt.allow_plain = false;
    struct fake_client *c = fake_connect(&world, 0);
    expect(c, "* OK [CAPABILITY V] imap.example Pollux IMAP server ready\r\n");
    talk(c, "a LOGIN fred secret",
         "a NO [PRIVACYREQUIRED] Login only under TLS\r\n");
    /* TLS with STARTTLS: the reply is in clear, the rest is not. */
    world.opt.starttls = true;
    world.opt.tls = (struct tls_context *)&world;
    talk(c, "b STARTTLS", "b OK Begin TLS negotiation now\r\n");
    assert_true(c->tls_asked);
    const struct session_peer peer = {.tls_bits = 256};
    imap_session_tls(c->session, &peer);
    talk(c, "c STARTTLS", "c BAD STARTTLS is not possible here\r\n");
    quiet(c, "d LOGIN fred secret");
    world.opt.starttls = false;
    world.opt.tls = NULL;
    world.opt.allow_plain = true;
}

static void
test_limits_of_what_a_client_may_send(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    char line[9001];

    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    talk(c, line, "* BAD Command too long\r\n");
    talk(c, "a NOOP", "a OK Completed\r\n");
    talk(c, "b LIST {1000000}", "b BAD Literal too large\r\n");
    talk(c, "c LIST {15000+}", "");
    talk(c, "x", ""); /* part of the literal */
    fake_hang_up(c);
    c = login(0, "fred");
    talk(c, "d LIST {25000+}", "d BAD Literal too large\r\n");
    for (int i = 0; i < 2; i++)
        talk(c, line, "");
    memset(line, 'y', 6994);
    line[6994] = '\0';
    talk(c, line, "");
    talk(c, "\r\ne NOOP", "e OK Completed\r\n");
    talk(c, "f APPEND INBOX {4294967295}",
         "f NO [TOOBIG] Message too large\r\n");
    talk(c, "g APPEND INBOX {4294967295+}",
         "g NO [TOOBIG] Message too large\r\n"
         "* BYE [TOOBIG] Literal too large\r\n");
    assert_true(c->closed);
}

/* A line without end is skipped, but not for ever. */
static void
test_a_line_without_end_is_hung_up_on(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fake_client *c =
            i == 0 ? login(0, "fred") : fake_connect(&world, 1);
        size_t sent = 0;
        while (!c->closed && sent < (4U << 20)) {
            uint8_t *to = buf_reserve(&c->in, 50000);
            memset(to, 'x', 50000);
            c->in.n += 50000;
            sent += 50000;
            fake_turn(&world);
        }
        assert_true(c->closed);
        assert_in_range(sent, world.opt.swallow_bytes_max,
                        world.opt.swallow_bytes_max + 100000);
        buf_add_byte(&c->out, '\0');
        assert_non_null(
            strstr((char *)c->out.p, "* BYE [TOOBIG] Command too long\r\n"));
    }
}

/* ---- mailboxes --------------------------------------------------------- */

static void
test_select_of_an_empty_mailbox(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    talk(c, "a SELECT inbox",
         "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen)\r\n"
         "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen "
         "\\*)] Ok\r\n"
         "* 0 EXISTS\r\n* 0 RECENT\r\n"
         "* OK [UIDVALIDITY V] Ok\r\n* OK [UIDNEXT 1] Ok\r\n"
         "* OK [HIGHESTMODSEQ M1] Ok\r\n"
         "* OK [MAILBOXID (V)] Ok\r\n* OK [ANNOTATIONS V] Ok\r\n"
         "a OK [READ-WRITE] Completed\r\n");
    talk(c, "b FETCH 1 FLAGS", "b BAD Invalid message sequence number\r\n");
    talk(c, "c UID FETCH 1:* FLAGS", "c OK Completed\r\n");
    talk(c, "d SEARCH ALL", "* SEARCH\r\nd OK Completed\r\n");
    talk(c, "e EXPUNGE", "e OK Completed\r\n");
    talk(c, "f SELECT nowhere",
         "* OK [CLOSED] Ok\r\nf NO [NONEXISTENT] Mailbox does not exist\r\n");
    talk(c, "g CHECK", "g BAD Please select a mailbox first\r\n");
    talk(c, "h EXAMINE INBOX",
         "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen)\r\n"
         "* OK [PERMANENTFLAGS ()] Ok\r\n"
         "* 0 EXISTS\r\n* 0 RECENT\r\n"
         "* OK [UIDVALIDITY V] Ok\r\n* OK [UIDNEXT 1] Ok\r\n"
         "* OK [HIGHESTMODSEQ M1] Ok\r\n"
         "* OK [MAILBOXID (V)] Ok\r\n* OK [ANNOTATIONS V] Ok\r\n"
         "h OK [READ-ONLY] Completed\r\n");
    talk(c, "i UNSELECT", "i OK Completed\r\n");
    talk(c, "j UNSELECT", "j BAD Please select a mailbox first\r\n");
}

static void
test_create_list_rename_delete(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    talk(c, "a CREATE INBOX/Work/2024", "a OK [MAILBOXID (V)] Completed\r\n");
    talk(c, "b CREATE INBOX/Work/",
         "b NO [ALREADYEXISTS] Mailbox already "
         "exists\r\n");
    talk(c, "c CREATE INBOX/Sent (USE (\\Sent))",
         "c OK [MAILBOXID (V)] Completed\r\n");
    talk(c, "d CREATE INBOX/X (USE (\\Foo))",
         "d NO [USEATTR] No such special use here\r\n");
    talk(c, "e CREATE user/ann", "e NO [NOPERM] Permission denied\r\n");
    talk(c, "f CREATE \"INBOX//x\"", "f NO [CANNOT] Invalid mailbox name\r\n");
    talk(c, "g LIST \"\" \"\"",
         "* LIST (\\Noselect) \"/\" \"\"\r\ng OK Completed\r\n");
    talk(c, "h LIST \"\" *",
         "* LIST (\\HasChildren) \"/\" INBOX\r\n"
         "* LIST (\\HasNoChildren \\Sent) \"/\" INBOX/Sent\r\n"
         "* LIST (\\HasChildren) \"/\" INBOX/Work\r\n"
         "* LIST (\\HasNoChildren) \"/\" INBOX/Work/2024\r\n"
         "h OK Completed\r\n");
    talk(c, "i LIST inbox/ %",
         "* LIST (\\HasNoChildren \\Sent) \"/\" INBOX/Sent\r\n"
         "* LIST (\\HasChildren) \"/\" INBOX/Work\r\n"
         "i OK Completed\r\n");
    talk(c, "j LIST (SPECIAL-USE) \"\" * RETURN (SPECIAL-USE)",
         "* LIST (\\HasNoChildren \\Sent) \"/\" INBOX/Sent\r\n"
         "j OK Completed\r\n");
    talk(c, "k RENAME INBOX/Work INBOX/Job", "k OK Completed\r\n");
    talk(c, "l RENAME INBOX/Job INBOX/Job/x",
         "l NO [CANNOT] Cannot rename into itself\r\n");
    talk(c, "m RENAME INBOX/Job INBOX/Sent",
         "m NO [ALREADYEXISTS] Mailbox already exists\r\n");
    talk(c, "n LIST \"\" INBOX/J%",
         "* LIST (\\HasChildren) \"/\" INBOX/Job\r\nn OK Completed\r\n");
    talk(c, "o DELETE INBOX/Job", "o OK Completed\r\n");
    talk(c, "p LIST \"\" INBOX/J*",
         "* LIST (\\HasNoChildren) \"/\" INBOX/Job/2024\r\np OK Completed\r\n");
    talk(c, "q LIST \"\" INBOX/%",
         "* LIST (\\Noselect \\HasChildren) \"/\" INBOX/Job\r\n"
         "* LIST (\\HasNoChildren \\Sent) \"/\" INBOX/Sent\r\n"
         "q OK Completed\r\n");
    talk(c, "r DELETE INBOX", "r NO [CANNOT] INBOX cannot be deleted\r\n");
    talk(c, "s DELETE INBOX/nope",
         "s NO [NONEXISTENT] Mailbox does not exist\r\n");
    talk(c, "t NAMESPACE",
         "* NAMESPACE ((\"INBOX/\" \"/\")) ((\"user/\" \"/\")) ((\"\" "
         "\"/\"))\r\nt OK Completed\r\n");
}

static void
test_subscriptions(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    quiet(c, "a CREATE INBOX/a/b");
    talk(c, "b SUBSCRIBE INBOX/none",
         "b NO [NONEXISTENT] Mailbox does not exist\r\n");
    talk(c, "c SUBSCRIBE INBOX/a/b", "c OK Completed\r\n");
    talk(c, "d LSUB \"\" *",
         "* LSUB (\\HasChildren) \"/\" INBOX\r\n"
         "* LSUB () \"/\" INBOX/a/b\r\nd OK Completed\r\n");
    talk(c, "e LSUB \"\" INBOX/%",
         "* LSUB (\\Noselect \\HasChildren) \"/\" INBOX/a\r\n"
         "e OK Completed\r\n");
    talk(c, "f LIST (SUBSCRIBED) \"\" *",
         "* LIST (\\HasChildren \\Subscribed) \"/\" INBOX\r\n"
         "* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX/a/b\r\n"
         "f OK Completed\r\n");
    talk(c, "g LIST \"\" INBOX/a/% RETURN (SUBSCRIBED CHILDREN)",
         "* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX/a/b\r\n"
         "g OK Completed\r\n");
    talk(c, "h UNSUBSCRIBE INBOX/a/b", "h OK Completed\r\n");
    talk(c, "i LSUB \"\" INBOX/*", "i OK Completed\r\n");
}

static void
test_rights(void **state)
{
    (void)state;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    talk(fred, "a MYRIGHTS INBOX",
         "* MYRIGHTS INBOX lrswipkxtecdan\r\na OK Completed\r\n");
    talk(ann, "b SELECT user/fred",
         "b NO [NONEXISTENT] Mailbox does not exist\r\n");
    talk(fred, "c SETACL INBOX ann lr", "c OK Completed\r\n");
    talk(fred, "d SETACL INBOX ann +s", "d OK Completed\r\n");
    talk(fred, "e SETACL INBOX ann z", "e BAD Unknown right\r\n");
    talk(fred, "f GETACL INBOX",
         "* ACL INBOX fred lrswipkxtecdan ann lrs\r\nf OK Completed\r\n");
    talk(ann, "g MYRIGHTS user/fred",
         "* MYRIGHTS user/fred lrs\r\ng OK Completed\r\n");
    talk(ann, "h GETACL user/fred", "h NO [NOPERM] Permission denied\r\n");
    talk(ann, "i DELETE user/fred", "i NO [NOPERM] Permission denied\r\n");
    talk(ann, "j CREATE user/fred/x", "j NO [NOPERM] Permission denied\r\n");
    talk(fred, "k LISTRIGHTS INBOX fred",
         "* LISTRIGHTS INBOX fred lkxca r s w i p t e n d\r\nk OK "
         "Completed\r\n");
    talk(fred, "l LISTRIGHTS INBOX ann",
         "* LISTRIGHTS INBOX ann \"\" l r s w i p k x t e a n c d\r\n"
         "l OK Completed\r\n");
    append(fred, "INBOX", "", MSG_A);
    quiet(ann, "m SELECT user/fred");
    talk(ann, "n STORE 1 +FLAGS (\\Deleted)",
         "n NO [NOPERM] Permission denied\r\n");
    talk(ann, "o STORE 1 +FLAGS (\\Seen \\Deleted)",
         "* 1 FETCH (FLAGS (\\Recent \\Seen))\r\no OK Completed\r\n");
    talk(ann, "p EXPUNGE", "p NO [NOPERM] Permission denied\r\n");
    talk(ann, "q APPEND user/fred {3+}\r\nabc",
         "q NO [NOPERM] Permission denied\r\n");
    talk(ann, "r LIST \"\" user/%",
         "* LIST (\\HasNoChildren) \"/\" user/fred\r\nr OK Completed\r\n");
    talk(fred, "s DELETEACL INBOX ann", "s OK Completed\r\n");
    talk(ann, "t LIST \"\" user/*", "t OK Completed\r\n");
}

static void
test_admin_and_quota(void **state)
{
    (void)state;
    struct fake_client *root = login(0, "cyrus");
    struct fake_client *fred = login(1, "fred");

    talk(root, "a CREATE user/joe default",
         "a OK [MAILBOXID (V)] Completed\r\n");
    talk(root, "b CREATE user/nil/x",
         "b NO [NONEXISTENT] Mailbox does not exist\r\n");
    talk(root, "c CREATE shared", "c OK [MAILBOXID (V)] Completed\r\n");
    talk(root, "d CREATE shared/x other",
         "d NO [CANNOT] There is no such partition\r\n");
    talk(root, "e LIST \"\" *",
         "* LIST (\\HasNoChildren) \"/\" shared\r\n"
         "* LIST (\\HasNoChildren) \"/\" user/fred\r\n"
         "* LIST (\\HasNoChildren) \"/\" user/joe\r\ne OK Completed\r\n");
    talk(fred, "f MYRIGHTS shared",
         "* MYRIGHTS shared lrs\r\nf OK "
         "Completed\r\n");
    talk(root, "g SETQUOTA user/fred (STORAGE 1)",
         "* QUOTA user/fred (STORAGE 0 1)\r\ng OK Completed\r\n");
    talk(fred, "h SETQUOTA INBOX (STORAGE 9)",
         "h NO [NOPERM] Permission denied\r\n");
    append(fred, "INBOX", "", MSG_A);
    talk(fred, "i GETQUOTAROOT INBOX",
         "* QUOTAROOT INBOX INBOX\r\n* QUOTA INBOX (STORAGE 1 1)\r\n"
         "i OK Completed\r\n");
    talk(fred, "j GETQUOTA INBOX",
         "* QUOTA INBOX (STORAGE 1 1)\r\nj OK Completed\r\n");
    struct buf big = BUF_INIT;
    buf_add_str(&big, "k APPEND INBOX {1000+}\r\n");
    for (int i = 0; i < 1000; i++)
        buf_add_byte(&big, 'x');
    talk(fred, buf_cstr(&big), "k NO [OVERQUOTA] Over quota\r\n");
    buf_free(&big);
    talk(root, "l GETQUOTA shared",
         "l NO [NONEXISTENT] Quota root does not exist\r\n");
    quiet(root, "m CREATE user/joe/sub");
    talk(root, "n DELETE user/joe", "n OK Completed\r\n");
    talk(root, "o LIST \"\" user/joe*", "o OK Completed\r\n");
}

static void
test_status(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "(\\Seen) ", MSG_A);
    append(c, "INBOX", "", MSG_B);
    talk(c, "a STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)",
         "* STATUS INBOX (MESSAGES 2 RECENT 2 UIDNEXT 3 UIDVALIDITY V UNSEEN "
         "1)\r\na OK Completed\r\n");
    talk(c, "b STATUS nope (MESSAGES)",
         "b NO [NONEXISTENT] Mailbox does not exist\r\n");
}

/* ---- messages ---------------------------------------------------------- */

static void
test_append_and_select(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    talk(c, "a APPEND INBOX (\\Seen $Work) " DATE "{31}", "+ go ahead\r\n");
    talk(c, "Subject: x\r", "");
    fake_hang_up(c);
    c = login(0, "fred");
    talk(c, "a APPEND INBOX {12}", "+ go ahead\r\n");
    talk(c, "Subject: x\r\n", "a OK [APPENDUID V 1] Completed\r\n");
    talk(c, "b APPEND nope {3}", "b NO [TRYCREATE] Mailbox does not exist\r\n");
    talk(c, "c APPEND nope {3+}\r\nabc",
         "c NO [TRYCREATE] Mailbox does not exist\r\n");
    talk(c, "d APPEND INBOX {3+}\r\na\rb",
         "d OK [APPENDUID V 2] Completed\r\n");
    buf_add(&c->in, SPAN_LIT("e APPEND INBOX {3+}\r\na\0b\r\n"));
    expect(c, "e NO Message contains NUL characters\r\n");
    talk(c, "f APPEND INBOX {3+}\r\nabc x",
         "f BAD Missing message literal\r\n");
    append(c, "INBOX", "(\\Seen $Work) " DATE, MSG_A);
    talk(c, "g SELECT INBOX",
         "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen $Work)\r\n"
         "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen "
         "$Work \\*)] Ok\r\n"
         "* 3 EXISTS\r\n* 3 RECENT\r\n* OK [UNSEEN 1] Ok\r\n"
         "* OK [UIDVALIDITY V] Ok\r\n* OK [UIDNEXT 4] Ok\r\n"
         "* OK [HIGHESTMODSEQ M1] Ok\r\n"
         "* OK [MAILBOXID (V)] Ok\r\n* OK [ANNOTATIONS V] Ok\r\n"
         "g OK [READ-WRITE] Completed\r\n");
    talk(c, "h FETCH 3 (UID FLAGS INTERNALDATE RFC822.SIZE)",
         "* 3 FETCH (UID 3 FLAGS (\\Recent \\Seen $Work) INTERNALDATE \" "
         "1-Feb-2020 10:00:00 +0100\" RFC822.SIZE 120)\r\nh OK Completed\r\n");
    /* \Recent is for the first one. */
    struct fake_client *d = login(1, "fred");
    quiet(d, "i SELECT INBOX");
    talk(d, "j FETCH 3 FLAGS",
         "* 3 FETCH (FLAGS (\\Seen $Work))\r\nj OK Completed\r\n");
}

static void
test_fetch_items(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "(\\Seen) " DATE, MSG_A);
    append(c, "INBOX", "(\\Seen) " DATE, MSG_B);
    quiet(c, "s SELECT INBOX");
    talk(c, "a FETCH 1 ENVELOPE",
         "* 1 FETCH (ENVELOPE (\"Wed, 17 Jul 1996 02:23:25 -0700\" \"first\" "
         "((\"Ann\" NIL \"ann\" \"example.org\")) ((\"Ann\" NIL \"ann\" "
         "\"example.org\")) ((\"Ann\" NIL \"ann\" \"example.org\")) ((NIL NIL "
         "\"bob\" \"example.org\")) NIL NIL NIL NIL))\r\na OK Completed\r\n");
    talk(c, "b FETCH 1 BODY[HEADER.FIELDS (subject Date)]",
         "* 1 FETCH (BODY[HEADER.FIELDS (subject Date)] {57}\r\n"
         "Subject: first\r\nDate: Wed, 17 Jul 1996 02:23:25 -0700\r\n\r\n"
         ")\r\nb OK Completed\r\n");
    talk(
        c, "c FETCH 1 (BODY[TEXT] BODY[]<108.4> BODY[TEXT]<99.5>)",
        "* 1 FETCH (BODY[TEXT] {13}\r\nHello world\r\n BODY[]<108> {4}\r\nello "
        "BODY[TEXT]<99> {0}\r\n)\r\nc OK Completed\r\n");
    talk(c, "d FETCH 2 (BODY[1] BODY[2.MIME] BODY[3])",
         "* 2 FETCH (BODY[1] {8}\r\npart one BODY[2.MIME] {27}\r\n"
         "Content-Type: text/html\r\n\r\n BODY[3] NIL)\r\nd OK Completed\r\n");
    talk(c, "e FETCH 2 BODY",
         "* 2 FETCH (BODY ((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL "
         "NIL \"7BIT\" 8 0)(\"TEXT\" \"HTML\" NIL NIL NIL \"7BIT\" 10 0) "
         "\"MIXED\"))\r\ne OK Completed\r\n");
    talk(c, "f UID FETCH 1:9 FLAGS",
         "* 1 FETCH (UID 1 FLAGS (\\Recent \\Seen))\r\n"
         "* 2 FETCH (UID 2 FLAGS (\\Recent \\Seen))\r\nf OK Completed\r\n");
    talk(c, "g FETCH 1 RFC822.TEXT",
         "* 1 FETCH (RFC822.TEXT {13}\r\nHello world\r\n)\r\n"
         "g OK Completed\r\n");
    talk(c, "h FETCH 1 FAST",
         "* 1 FETCH (FLAGS (\\Recent \\Seen) INTERNALDATE \" 1-Feb-2020 "
         "10:00:00 +0100\" RFC822.SIZE 120)\r\nh OK Completed\r\n");
}

static void
test_fetch_of_a_body_sets_seen(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "", MSG_A);
    append(c, "INBOX", "", MSG_A);
    quiet(c, "s SELECT INBOX");
    talk(
        c, "a FETCH 1 BODY.PEEK[TEXT]",
        "* 1 FETCH (BODY[TEXT] {13}\r\nHello world\r\n)\r\na OK Completed\r\n");
    talk(c, "b FETCH 1 BODY[TEXT]",
         "* 1 FETCH (BODY[TEXT] {13}\r\nHello world\r\n FLAGS (\\Recent "
         "\\Seen))\r\nb OK Completed\r\n");
    talk(c, "c FETCH 1:2 (FLAGS BODY[TEXT]<0.2>)",
         "* 1 FETCH (FLAGS (\\Recent \\Seen) BODY[TEXT]<0> {2}\r\nHe)\r\n"
         "* 2 FETCH (FLAGS (\\Recent \\Seen) BODY[TEXT]<0> {2}\r\nHe)\r\n"
         "c OK Completed\r\n");
    quiet(c, "d STORE 1 -FLAGS.SILENT (\\Seen)");
    quiet(c, "e EXAMINE INBOX");
    talk(
        c, "f FETCH 1 BODY[TEXT]",
        "* 1 FETCH (BODY[TEXT] {13}\r\nHello world\r\n)\r\nf OK Completed\r\n");
    talk(c, "g STORE 1 +FLAGS (\\Seen)", "g NO Mailbox is read-only\r\n");
    talk(c, "h EXPUNGE", "h NO Mailbox is read-only\r\n");
}

static void
test_store_and_expunge(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    for (int i = 0; i < 4; i++)
        append(c, "INBOX", "(\\Seen) ", MSG_A);
    quiet(c, "s SELECT INBOX");
    talk(c, "a STORE 1:2 +FLAGS (\\Deleted x)",
         "* 1 FETCH (FLAGS (\\Recent \\Deleted \\Seen x))\r\n"
         "* 2 FETCH (FLAGS (\\Recent \\Deleted \\Seen x))\r\n"
         "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen x)\r\n"
         "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen "
         "x \\*)] Ok\r\na OK Completed\r\n");
    talk(c, "b STORE 2 FLAGS.SILENT (\\Flagged)", "b OK Completed\r\n");
    talk(c, "c UID STORE 2 -FLAGS (\\Flagged)",
         "* 2 FETCH (FLAGS (\\Recent) UID 2)\r\nc OK Completed\r\n");
    talk(c, "d UID STORE 4 +FLAGS.SILENT \\Deleted", "d OK Completed\r\n");
    talk(c, "e UID EXPUNGE 4:9", "* 4 EXPUNGE\r\ne OK Completed\r\n");
    talk(c, "f STORE 3 +FLAGS.SILENT \\Deleted", "f OK Completed\r\n");
    talk(c, "g EXPUNGE", "* 1 EXPUNGE\r\n* 2 EXPUNGE\r\ng OK Completed\r\n");
    talk(c, "h FETCH 1:* UID", "* 1 FETCH (UID 2)\r\nh OK Completed\r\n");
    quiet(c, "i STORE 1 +FLAGS.SILENT (\\Deleted)");
    talk(c, "j CLOSE", "j OK Completed\r\n");
    talk(c, "k STATUS INBOX (MESSAGES UIDNEXT)",
         "* STATUS INBOX (MESSAGES 0 UIDNEXT 5)\r\nk OK Completed\r\n");
}

static void
test_copy_and_move(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    for (int i = 0; i < 3; i++)
        append(c, "INBOX", "(\\Seen) ", MSG_A);
    quiet(c, "s SELECT INBOX");
    talk(c, "a COPY 1:2 INBOX/T",
         "a NO [TRYCREATE] Mailbox does not exist\r\n");
    quiet(c, "b CREATE INBOX/T");
    talk(c, "c COPY 1,3 INBOX/T", "c OK [COPYUID V 1,3 1:2] Completed\r\n");
    talk(c, "d UID COPY 99 INBOX/T", "d OK Completed\r\n");
    talk(c, "e MOVE 1:2 INBOX/T",
         "* OK [COPYUID V 1:2 3:4] Completed\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n"
         "e OK Completed\r\n");
    talk(c, "f UID MOVE 3 INBOX/T",
         "* OK [COPYUID V 3 5] Completed\r\n* 1 EXPUNGE\r\nf OK Completed\r\n");
    talk(c, "g COPY 1 INBOX/T", "g BAD Invalid message sequence number\r\n");
    talk(c, "h STATUS INBOX/T (MESSAGES UNSEEN)",
         "* STATUS INBOX/T (MESSAGES 5 UNSEEN 0)\r\nh OK Completed\r\n");
}

static void
test_rename_of_inbox_moves_its_messages(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "", MSG_A);
    append(c, "INBOX", "", MSG_B);
    talk(c, "a RENAME INBOX INBOX/Old", "a OK Completed\r\n");
    talk(c, "b STATUS INBOX (MESSAGES)",
         "* STATUS INBOX (MESSAGES 0)\r\nb OK Completed\r\n");
    talk(c, "c STATUS INBOX/Old (MESSAGES)",
         "* STATUS INBOX/Old (MESSAGES 2)\r\nc OK Completed\r\n");
}

static void
test_search(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "(\\Seen \\Flagged) " DATE, MSG_A);
    append(c, "INBOX", "(Work) \"10-Mar-2021 10:00:00 +0000\" ", MSG_B);
    append(c, "INBOX", "(\\Deleted) " DATE,
           "From: =?utf-8?q?J=C3=BCrgen?= <j@x>\r\nSubject: third\r\n\r\n"
           "nothing\r\n");
    quiet(c, "s SELECT INBOX");
    static const char *const rows[][2] = {
        {"ALL", " 1 2 3"},
        {"SEEN", " 1"},
        {"UNSEEN", " 2 3"},
        {"FLAGGED UNDELETED", " 1"},
        {"DELETED", " 3"},
        {"KEYWORD work", " 2"},
        {"UNKEYWORD Work", " 1 3"},
        {"NEW", " 2 3"},
        {"OLD", ""},
        {"RECENT", " 1 2 3"},
        {"FROM ann", " 1"},
        {"FROM example.org", " 1 2"},
        {"TO bob", " 1"},
        {"SUBJECT SECOND", " 2"},
        {"BODY hello", " 1"},
        {"TEXT two", " 2"},
        {"TEXT \"\"", " 1 2 3"},
        {"HEADER MIME-Version \"\"", " 2"},
        {"HEADER Date 1996", " 1"},
        {"LARGER 150", " 2"},
        {"SMALLER 120", " 3"},
        {"ON 1-Feb-2020", " 1 3"},
        {"SINCE 2-Feb-2020", " 2"},
        {"BEFORE 2-Feb-2020", " 1 3"},
        {"SENTON 17-Jul-1996", " 1"},
        {"SENTBEFORE 18-Jul-1996", " 1"},
        {"SENTSINCE 18-Jul-1996", ""},
        {"2:*", " 2 3"},
        {"UID 1,3", " 1 3"},
        {"NOT 2", " 1 3"},
        {"OR FROM ann DELETED", " 1 3"},
        {"(SEEN FLAGGED) NOT (DELETED)", " 1"},
        {"CHARSET UTF-8 FROM {7+}\r\nj\xc3\xbcrgen", " 3"},
        {"CHARSET ISO-8859-1 FROM {6+}\r\nj\xfcrgen", " 3"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char send[100], want[100];
        snprintf(send, sizeof(send), "a SEARCH %s", rows[i][0]);
        snprintf(want, sizeof(want), "* SEARCH%s\r\na OK Completed\r\n",
                 rows[i][1]);
        talk(c, send, want);
    }
    talk(c, "b SEARCH CHARSET X-NOPE FROM x",
         "b NO [BADCHARSET (US-ASCII UTF-8)] Unknown charset\r\n");
    talk(c, "c SEARCH 9", "* SEARCH\r\nc OK Completed\r\n");
    quiet(c, "d STORE 1 +FLAGS.SILENT (\\Deleted)");
    quiet(c, "e EXPUNGE");
    talk(c, "f UID SEARCH ALL", "* SEARCH 2\r\nf OK Completed\r\n");
}

/* ---- two sessions ------------------------------------------------------ */

static void
test_what_others_do_is_told_where_it_may_be(void **state)
{
    (void)state;
    struct fake_client *a = login(0, "fred");
    struct fake_client *b = login(1, "fred");

    for (int i = 0; i < 3; i++)
        append(a, "INBOX", "(\\Seen) ", MSG_A);
    quiet(a, "s SELECT INBOX");
    quiet(b, "s SELECT INBOX");
    quiet(a, "a STORE 3 +FLAGS.SILENT (\\Flagged)");
    talk(b, "a NOOP",
         "* 3 FETCH (FLAGS (\\Flagged \\Seen))\r\na OK Completed\r\n");
    quiet(a, "b STORE 1 +FLAGS.SILENT (\\Deleted)");
    quiet(a, "c EXPUNGE");
    append(a, "INBOX", "(\\Seen) ", MSG_B);
    /* No EXPUNGE at the end of FETCH, STORE, SEARCH; what is gone for others
     * can still be read. */
    talk(b, "b FETCH 1 (UID RFC822.SIZE)",
         "* 1 FETCH (UID 1 RFC822.SIZE 120)\r\n* 4 EXISTS\r\n* 0 RECENT\r\n"
         "b OK Completed\r\n");
    talk(b, "c SEARCH ALL", "* SEARCH 2 3 4\r\nc OK Completed\r\n");
    talk(b, "d STORE 2 +FLAGS (\\Draft)",
         "* 2 FETCH (FLAGS (\\Draft \\Seen))\r\nd OK Completed\r\n");
    talk(b, "e NOOP", "* 1 EXPUNGE\r\ne OK Completed\r\n");
    talk(b, "f FETCH 1:* UID",
         "* 1 FETCH (UID 2)\r\n* 2 FETCH (UID 3)\r\n* 3 FETCH (UID 4)\r\n"
         "f OK Completed\r\n");
    /* The other one hears of it too, once. */
    talk(a, "d NOOP",
         "* 1 FETCH (FLAGS (\\Recent \\Draft \\Seen))\r\nd OK Completed\r\n");
    talk(a, "e NOOP", "e OK Completed\r\n");
}

static void
test_idle_pushes(void **state)
{
    (void)state;
    struct fake_client *a = login(0, "fred");
    struct fake_client *b = login(1, "fred");

    quiet(b, "s SELECT INBOX");
    talk(b, "i IDLE", "+ idling\r\n");
    assert_int_equal(b->timeout_ms, 3000);
    append(a, "INBOX", "(\\Seen) ", MSG_A);
    expect(b, "* 1 EXISTS\r\n* 1 RECENT\r\n");
    quiet(a, "s SELECT INBOX");
    quiet(a, "a STORE 1 +FLAGS.SILENT (\\Deleted)");
    expect(b, "* 1 FETCH (FLAGS (\\Recent \\Deleted \\Seen))\r\n");
    quiet(a, "b EXPUNGE");
    expect(b, "* 1 EXPUNGE\r\n");
    talk(b, "DONE", "i OK Completed\r\n");
    assert_int_equal(b->timeout_ms, 2000);
    talk(b, "j IDLE", "+ idling\r\n");
    talk(b, "FOO", "j BAD Expected DONE\r\n");
    talk(b, "k IDLE", "+ idling\r\n");
    imap_session_goodbye(b->session, "role changed");
    expect(b, "* BYE role changed\r\n");
    assert_true(b->closed);
}

static void
test_selected_mailbox_deleted_or_renamed(void **state)
{
    (void)state;
    struct fake_client *a = login(0, "fred");
    struct fake_client *b = login(1, "fred");

    quiet(a, "a CREATE INBOX/x");
    append(a, "INBOX/x", "(\\Seen) ", MSG_A);
    quiet(b, "s SELECT INBOX/x");
    quiet(a, "b RENAME INBOX/x INBOX/y");
    talk(b, "a NOOP", "a OK Completed\r\n");
    talk(b, "b FETCH 1 UID", "* 1 FETCH (UID 1)\r\nb OK Completed\r\n");
    quiet(a, "s SELECT INBOX/y");
    talk(a, "c DELETE INBOX/y",
         "* OK [CLOSED] Selected mailbox was deleted\r\n"
         "c OK Completed\r\n");
    talk(a, "d CHECK", "d BAD Please select a mailbox first\r\n");
    talk(b, "c NOOP", "* BYE Selected mailbox was deleted\r\n");
    assert_true(b->closed);
}

static void
test_alternative_namespace(void **state)
{
    (void)state;
    world.opt.ns.alt = true;
    struct fake_client *fred = login(0, "fred");
    struct fake_client *ann = login(1, "ann");
    struct fake_client *root = login(2, "cyrus");

    quiet(fred, "a CREATE Sent/2024");
    quiet(fred, "b SETACL Sent ann lr");
    quiet(root, "c CREATE news");
    talk(fred, "d LIST \"\" *",
         "* LIST (\\HasNoChildren) \"/\" INBOX\r\n"
         "* LIST (\\HasChildren) \"/\" Sent\r\n"
         "* LIST (\\HasNoChildren) \"/\" Sent/2024\r\n"
         "* LIST (\\HasNoChildren) \"/\" \"Shared Folders/news\"\r\n"
         "d OK Completed\r\n");
    talk(ann, "e LIST \"\" %",
         "* LIST (\\HasNoChildren) \"/\" INBOX\r\n"
         "* LIST (\\Noselect \\HasChildren) \"/\" \"Other Users\"\r\n"
         "* LIST (\\Noselect \\HasChildren) \"/\" \"Shared Folders\"\r\n"
         "e OK Completed\r\n");
    quiet(ann, "f SELECT \"Other Users/fred/Sent\"");
    talk(ann, "g NAMESPACE",
         "* NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\")) "
         "((\"Shared Folders/\" \"/\"))\r\ng OK Completed\r\n");
}

/* ---- how bytes come and go --------------------------------------------- */

static const char script[] =
    "a LOGIN {4+}\r\nfred secret\r\n"
    "b APPEND INBOX (\\Seen) {12+}\r\nSubject: x\r\n\r\n"
    "c SELECT INBOX\r\nd FETCH 1 (BODY[] FLAGS)\r\n"
    "e STORE 1 +FLAGS (\\Deleted)\r\nf IDLE\r\nDONE\r\n"
    "g EXPUNGE\r\nh BOGUS\r\ni SEARCH {3+}\r\nALL\r\nj LOGOUT\r\n";

static void
test_input_in_any_pieces_gives_the_same_output(void **state)
{
    struct buf whole = BUF_INIT;
    struct fake_client *c = fake_connect(&world, 0);

    buf_add_str(&c->in, script);
    fake_turn(&world);
    normalize(&c->out);
    buf_add(&whole, buf_span(&c->out));
    assert_true(span_find(buf_span(&whole), SPAN_LIT("j OK Completed")) >= 0);
    for (size_t piece = 1; piece < 40; piece += piece < 8 ? 1 : 7) {
        teardown(state);
        setup(state);
        c = fake_connect(&world, 0);
        for (size_t at = 0; at < sizeof(script) - 1; at += piece) {
            buf_add(&c->in, span_sub(span_str(script), at, piece));
            fake_turn(&world);
        }
        normalize(&c->out);
        assert_string_equal(buf_cstr(&c->out), buf_cstr(&whole));
    }
    buf_free(&whole);
}

/* The client reads nothing: at most a little is written, and nothing is lost
 * when it does. */
static void
test_a_slow_reader_costs_little_and_loses_nothing(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct buf message = BUF_INIT, all = BUF_INIT;

    buf_add_str(&message, "Subject: x\r\n\r\n");
    while (message.n < 60000)
        buf_add_str(&message, "0123456789012345678901234567890123456789\r\n");
    for (int i = 0; i < 20; i++)
        append(c, "INBOX", "(\\Seen) ", buf_cstr(&message));
    quiet(c, "s SELECT INBOX");
    c->full_at = 1000;
    buf_add_str(&c->in, "a FETCH 1:* BODY[]\r\nb NOOP\r\n");
    for (int i = 0;
         i < 10000 && span_find(buf_span(&all), SPAN_LIT("b OK ")) < 0; i++) {
        fake_turn(&world);
        assert_true(c->out.n < 300000);
        buf_add(&all, buf_span(&c->out));
        buf_clear(&c->out);
        imap_session_drained(c->session);
    }
    assert_true(all.n > 20 * message.n);
    assert_true(span_find(buf_span(&all), SPAN_LIT("a OK Completed\r\nb OK")) >
                0);
    buf_free(&message);
    buf_free(&all);
}

static void
test_hanging_up_anywhere_frees_everything(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < sizeof(script); cut += 3) {
        struct fake_client *c = fake_connect(&world, 0);
        buf_add(&c->in, span_sub(span_str(script), 0, cut));
        fake_input(c);
        /* With a commit or a worker under way, or not. */
        if (cut % 2 == 0)
            fake_turn(&world);
        fake_hang_up(c);
    }
}

static void
test_timeout_says_goodbye(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    imap_session_timeout(c->session);
    expect(c, "* BYE Idle for too long\r\n");
    assert_true(c->closed);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_greeting_and_login),
        T(test_garbage_before_login_is_not_listened_to_for_ever),
        T(test_failed_logins_end_the_session),
        T(test_login_needs_tls_unless_allowed),
        T(test_limits_of_what_a_client_may_send),
        T(test_a_line_without_end_is_hung_up_on),
        T(test_select_of_an_empty_mailbox),
        T(test_create_list_rename_delete),
        T(test_subscriptions),
        T(test_rights),
        T(test_admin_and_quota),
        T(test_status),
        T(test_append_and_select),
        T(test_fetch_items),
        T(test_fetch_of_a_body_sets_seen),
        T(test_store_and_expunge),
        T(test_copy_and_move),
        T(test_rename_of_inbox_moves_its_messages),
        T(test_search),
        T(test_what_others_do_is_told_where_it_may_be),
        T(test_idle_pushes),
        T(test_selected_mailbox_deleted_or_renamed),
        T(test_alternative_namespace),
        T(test_input_in_any_pieces_gives_the_same_output),
        T(test_a_slow_reader_costs_little_and_loses_nothing),
        T(test_hanging_up_anywhere_frees_everything),
        T(test_timeout_says_goodbye),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
