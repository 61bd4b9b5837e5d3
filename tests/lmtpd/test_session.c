/*
 * tests/lmtpd/test_session.c - whole sessions without socket and store: scripts
 * with the replies they must get, in one piece, byte by byte, and cut once at
 * every byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/log.h"
#include "tests/lmtpd/lmtptest.h"

#define GREETING "220 mx.example LMTP Pollux " POLLUX_VERSION " ready\r\n"
#define LHLO "LHLO c\r\n"
#define LHLO_REPLY                                                             \
    "250-mx.example\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n"            \
    "250-PIPELINING\r\n250-SMTPUTF8\r\n250-IGNOREQUOTA\r\n250 SIZE 100000\r\n"
#define OK_MAIL "250 2.1.0 Ok\r\n"
#define OK_RCPT "250 2.1.5 Ok\r\n"
#define OK "250 2.0.0 Ok\r\n"
#define GO "354 End data with <CR><LF>.<CR><LF>\r\n"
#define MAIL "MAIL FROM:<a@b>\r\n"

struct script {
    const char *in;
    const char *out; /* after the greeting */
};

static const struct script scripts[] = {
    {LHLO "QUIT\r\n", LHLO_REPLY "221 2.0.0 Bye\r\n"},
    /* One answer a recipient, in order. */
    {LHLO MAIL
     "RCPT TO:<fred>\r\nRCPT TO:<err-quota>\r\nRCPT TO:<no-notfound>\r\n"
     "RCPT TO:<err-exists>\r\nDATA\r\nSubject: x\r\n\r\nhi\r\n.\r\nNOOP\r\n",
     LHLO_REPLY OK_MAIL OK_RCPT OK_RCPT
     "550 5.1.1 Unknown user\r\n" OK_RCPT GO OK_RCPT
     "452 4.2.2 Over quota\r\n" OK_RCPT OK},
    /* All that can become of a recipient. */
    {LHLO MAIL "RCPT TO:<err-nospace>\r\nRCPT TO:<err-fenced>\r\n"
               "RCPT TO:<err-readonly>\r\nRCPT TO:<err-closed>\r\n"
               "RCPT TO:<err-limit>\r\nDATA\r\n.\r\n",
     LHLO_REPLY OK_MAIL OK_RCPT OK_RCPT OK_RCPT OK_RCPT OK_RCPT GO
     "452 4.3.1 No space left on the server\r\n"
     "451 4.3.2 This server takes no mail now\r\n"
     "451 4.3.2 This server is a replica\r\n"
     "451 4.3.2 The server is stopping\r\n"
     "552 5.3.4 Message too big\r\n"},
    {LHLO MAIL "RCPT TO:<err-notfound>\r\nRCPT TO:<err-badname>\r\n"
               "RCPT TO:<err-io>\r\nDATA\r\n.\r\n",
     LHLO_REPLY OK_MAIL OK_RCPT OK_RCPT OK_RCPT GO
     "450 4.2.0 The mailbox has changed, try again\r\n"
     "550 5.1.1 Unknown user\r\n451 4.3.0 Temporary failure\r\n"},
    {LHLO MAIL "RCPT TO:<no-badname>\r\nRCPT TO:<no-denied>\r\n"
               "RCPT TO:<no-io>\r\nRCPT TO:<no-closed>\r\nDATA\r\n",
     LHLO_REPLY OK_MAIL "550 5.1.1 Unknown user\r\n"
                        "550 5.7.1 Posting is not allowed there\r\n"
                        "450 4.3.0 Cannot look up the user now\r\n"
                        "451 4.3.2 The server is stopping\r\n"
                        "503 5.5.1 No recipients\r\n"},
    /* Order. */
    {MAIL "RCPT TO:<a>\r\n", "503 5.5.1 LHLO first\r\n"
                             "503 5.5.1 LHLO first\r\n"},
    {LHLO "RCPT TO:<a>\r\nDATA\r\n" MAIL MAIL "RSET\r\nRCPT TO:<a>\r\n",
     LHLO_REPLY "503 5.5.1 MAIL first\r\n503 5.5.1 No recipients\r\n" OK_MAIL
                "503 5.5.1 Sender is given already\r\n" OK
                "503 5.5.1 MAIL first\r\n"},
    {LHLO MAIL "RCPT TO:<a>\r\n" LHLO "DATA\r\n",
     LHLO_REPLY OK_MAIL OK_RCPT LHLO_REPLY "503 5.5.1 No recipients\r\n"},
    /* RFC 2033, 4.1: neither HELO nor EHLO. */
    {"HELO c\r\nEHLO c\r\nLHLO\r\nfoo\r\n\r\n",
     "500 5.5.1 Unknown command\r\n500 5.5.1 Unknown command\r\n"
     "501 5.5.4 Syntax: LHLO name\r\n500 5.5.1 Unknown command\r\n"
     "500 5.5.1 Unknown command\r\n"},
    {"vrfy a\r\nVRFY\r\nhelp\r\nRSET\r\n",
     "252 2.5.0 Send some mail, I will try\r\n501 5.5.4 Syntax: VRFY "
     "address\r\n214 2.0.0 LHLO MAIL RCPT DATA RSET NOOP VRFY QUIT (RFC "
     "2033)\r\n" OK},
    /* Parameters. */
    {LHLO "MAIL FROM:<> SIZE=100000 BODY=8bitmime AUTH=<> SMTPUTF8\r\nRSET\r\n"
          "MAIL FROM:<> SIZE=100001\r\nMAIL FROM:<> SIZE=x\r\n"
          "MAIL FROM:<> SIZE=99999999999999999999\r\n",
     LHLO_REPLY OK_MAIL OK "552 5.3.4 Message too big\r\n501 5.5.4 Bad SIZE\r\n"
                           "552 5.3.4 Message too big\r\n"},
    {LHLO "MAIL FROM:<> BODY=BINARYMIME\r\nMAIL FROM:<> AUTH=+\r\n"
          "MAIL FROM:<> RET=FULL\r\nMAIL FROM:<> =\r\nMAIL TO:<>\r\n"
          "MAIL FROM:a\r\n",
     LHLO_REPLY "501 5.5.4 Bad BODY\r\n501 5.5.4 Bad AUTH\r\n"
                "555 5.5.4 Unsupported parameter\r\n"
                "501 5.5.4 Bad parameter\r\n"
                "501 5.5.4 Syntax: MAIL FROM:<address>\r\n"
                "501 5.1.7 Bad sender address\r\n"},
    {LHLO MAIL "RCPT TO:<a> IGNOREQUOTA\r\nRCPT TO:<a> NOTIFY=NEVER\r\n"
               "RCPT TO:<a> =\r\nRCPT TO:<>\r\nRCPT FROM:<a>\r\n",
     LHLO_REPLY OK_MAIL OK_RCPT "555 5.5.4 Unsupported parameter\r\n"
                                "501 5.5.4 Bad parameter\r\n"
                                "501 5.1.3 Bad recipient address\r\n"
                                "501 5.5.4 Syntax: RCPT TO:<address>\r\n"},
    /* RFC 6531. */
    {LHLO "MAIL FROM:<\xc3\xbc@b>\r\nMAIL FROM:<\xc3\xbc@b> SMTPUTF8\r\n"
          "RCPT TO:<\xc3\xbc>\r\nRCPT TO:<\xc3>\r\n",
     LHLO_REPLY "550 5.6.7 Sender address needs SMTPUTF8\r\n" OK_MAIL OK_RCPT
                "553 5.6.7 Recipient needs SMTPUTF8\r\n"},
    {LHLO MAIL "RCPT TO:<\xc3\xbc>\r\n",
     LHLO_REPLY OK_MAIL "553 5.6.7 Recipient needs SMTPUTF8\r\n"},
    /* Limits. */
    {LHLO MAIL "RCPT TO:<a>\r\nRCPT TO:<b>\r\nRCPT TO:<c>\r\nRCPT TO:<d>\r\n"
               "RCPT TO:<e>\r\nRCPT TO:<f>\r\n",
     LHLO_REPLY OK_MAIL OK_RCPT OK_RCPT OK_RCPT OK_RCPT OK_RCPT
     "452 4.5.3 Too many recipients\r\n"},
    {"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\nNOOP\r\n",
     "500 5.5.1 Unknown command\r\n500 5.5.1 Unknown command\r\n"
     "500 5.5.1 Unknown command\r\n500 5.5.1 Unknown command\r\n"
     "500 5.5.1 Unknown command\r\n500 5.5.1 Unknown command\r\n"
     "500 5.5.1 Unknown command\r\n500 5.5.1 Unknown command\r\n"
     "421 4.7.0 Too many errors\r\n"},
    {LHLO MAIL "RCPT TO:<a>\r\nDATA x\r\nSTARTTLS\r\nAUTH PLAIN\r\n",
     LHLO_REPLY OK_MAIL OK_RCPT "501 5.5.4 DATA takes no parameter\r\n"
                                "502 5.5.1 STARTTLS is not possible here\r\n"
                                "503 5.5.1 AUTH is not possible now\r\n"},
};

/* Runs IN and returns what came after the greeting; the caller frees it. */
static char *
run(struct span in, size_t first, size_t piece, bool trusted)
{
    struct lt t;

    lt_options(&t);
    lt_start(&t, trusted);
    lt_feed(&t, span_sub(in, 0, first), SIZE_MAX);
    lt_feed(&t, span_skip(in, first), piece);
    struct span out = buf_span(&t.out);
    assert_true(span_starts(out, SPAN_LIT(GREETING)));
    char *copy = span_dup(span_skip(out, strlen(GREETING)));
    lt_end(&t);
    return copy;
}

static void
check(const char *in, const char *out, bool trusted)
{
    size_t n = strlen(in);

    for (size_t cut = 0; cut <= n + 1; cut++) {
        /* Cut once at each byte; last, all byte by byte. */
        char *got = run(span_str(in), cut <= n ? cut : 0,
                        cut <= n ? SIZE_MAX : 1, trusted);
        if (strcmp(got, out) != 0)
            fail_msg("cut at %zu:\n%s---- got\n%s---- instead of\n%s", cut, in,
                     got, out);
        free(got);
    }
}

static void
test_scripts_get_their_replies_cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++)
        check(scripts[i].in, scripts[i].out, true);
}

static void
test_login_is_asked_for_and_only_admins_may(void **state)
{
    static const char auth_lhlo[] =
        "250-mx.example\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n"
        "250-PIPELINING\r\n250-SMTPUTF8\r\n250-IGNOREQUOTA\r\n"
        "250-AUTH PLAIN\r\n250 SIZE 100000\r\n";
    static const struct script tail[] = {
        {"MAIL FROM:<>\r\nRCPT TO:<a>\r\nDATA\r\nVRFY a\r\n",
         "530 5.7.0 Authentication required\r\n"
         "530 5.7.0 Authentication required\r\n"
         "530 5.7.0 Authentication required\r\n"
         "530 5.7.0 Authentication required\r\n"},
        /* \0postman\0secret */
        {"AUTH plain AHBvc3RtYW4Ac2VjcmV0\r\n" MAIL,
         "235 2.7.0 Authentication succeeded\r\n" OK_MAIL},
        {"AUTH PLAIN\r\nAHBvc3RtYW4Ac2VjcmV0\r\nAUTH PLAIN\r\n" LHLO,
         "334 \r\n235 2.7.0 Authentication succeeded\r\n"
         "503 5.5.1 AUTH is not possible now\r\n" LHLO_REPLY},
        /* \0fred\0secret, \0postman\0wrong */
        {"AUTH PLAIN AGZyZWQAc2VjcmV0\r\n" MAIL,
         "535 5.7.1 This user may not deliver\r\n"
         "530 5.7.0 Authentication required\r\n"},
        {"AUTH PLAIN AHBvc3RtYW4Ad3Jvbmc=\r\n" MAIL,
         "535 5.7.8 Authentication failed\r\n"
         "530 5.7.0 Authentication required\r\n"},
        {"AUTH PLAIN =\r\nAUTH PLAIN x\r\nAUTH PLAIN\r\n*\r\nAUTH FOO\r\n"
         "AUTH\r\n",
         "501 5.5.2 Bad authentication exchange\r\n501 5.5.2 Bad base64\r\n"
         "334 \r\n501 5.7.0 Authentication cancelled\r\n"
         "504 5.5.4 No such mechanism here\r\n"
         "504 5.5.4 No such mechanism here\r\n"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(tail); i++) {
        char *in = xasprintf(LHLO "%s", tail[i].in);
        char *out = xasprintf("%s%s", auth_lhlo, tail[i].out);
        check(in, out, false);
        free(in);
        free(out);
    }
}

static void
test_nul_is_refused_for_all(void **state)
{
    static const char in[] =
        LHLO MAIL "RCPT TO:<a>\r\nRCPT TO:<b>\r\nDATA\r\na\0b\r\n.\r\nNOOP\r\n";
    (void)state;

    char *got = run(span_of(in, sizeof(in) - 1), 0, SIZE_MAX, true);
    assert_string_equal(got, LHLO_REPLY OK_MAIL OK_RCPT OK_RCPT GO
                        "554 5.6.0 Message contains NUL characters\r\n"
                        "554 5.6.0 Message contains NUL characters\r\n" OK);
    free(got);
}

/* ---- what is delivered ------------------------------------------------- */

/* DATA of LEN bytes of text to <fred>, with everything before it. */
static void
send_big(struct lt *t, size_t len)
{
    AUTO(buf_free) struct buf b = BUF_INIT;

    buf_add_str(&b, LHLO MAIL "RCPT TO:<fred>\r\nRCPT TO:<ann>\r\nDATA\r\n");
    for (size_t i = 0; i < len; i += 50)
        buf_add_str(&b, "0123456789012345678901234567890123456789012345678"
                        "\r\n");
    buf_add_str(&b, ".\r\nNOOP\r\n");
    lt_feed(t, buf_span(&b), 1000);
}

static void
test_message_carries_trace_and_is_shared(void **state)
{
    struct lt t;
    (void)state;

    lt_options(&t);
    lt_start(&t, true);
    lt_feed(&t,
            SPAN_LIT("LHLO a(b)\r\nMAIL FROM:<ann@b>\r\nRCPT TO:<Fred+Sub@x>\r"
                     "\nRCPT TO:<\"a b\">\r\nDATA\r\nReturn-Path: <forged>\r\n"
                     "Subject: s\r\n\r\n..x\n.\r\n.\r\n"),
            SIZE_MAX);
    assert_true(span_starts(
        buf_span(&t.delivered),
        SPAN_LIT("fred+Sub a b: Return-Path: <ann@b>\r\n"
                 "Received: from a?b? (127.0.0.1:4711)\r\n\tby "
                 "mx.example (Pollux " POLLUX_VERSION ") with LMTP;\r\n\t")));
    struct span rest = buf_span(&t.delivered);
    ptrdiff_t at = span_find(rest, SPAN_LIT("Subject"));
    assert_true(at > 0);
    assert_true(span_eq_str(span_skip(rest, (size_t)at),
                            "Subject: s\r\n\r\n.x\r\n.\r\n"));
    assert_true(span_find(rest, SPAN_LIT("forged")) < 0);
    assert_int_equal(t.counters.messages, 1);
    assert_int_equal(t.counters.delivered, 2);
    lt_end(&t);
}

static void
test_received_hash_is_of_the_message_alone(void **state)
{
    static const char *const from[] = {"LHLO a\r\nMAIL FROM:<a@b>\r\n",
                                       "LHLO b\r\nMAIL FROM:<c@d>\r\n"};
    uint8_t hash[3][16];
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        struct lt t;
        lt_options(&t);
        lt_start(&t, true);
        lt_feed(&t, span_str(from[i % 2]), SIZE_MAX);
        lt_feed(&t, SPAN_LIT("RCPT TO:<fred>\r\nDATA\r\nSubject: s\r\n\r\n"),
                1);
        lt_feed(&t, i == 2 ? SPAN_LIT("y\r\n.\r\n") : SPAN_LIT("x\r\n.\r\n"),
                1);
        memcpy(hash[i], t.last_hash, 16);
        lt_end(&t);
    }
    assert_memory_equal(hash[0], hash[1], 16);
    assert_memory_not_equal(hash[0], hash[2], 16);
}

static void
test_large_message_is_finished_on_a_worker(void **state)
{
    struct lt t;
    (void)state;

    lt_options(&t);
    lt_start(&t, true);
    send_big(&t, 90000);
    assert_int_equal(t.counters.delivered, 2);
    assert_true(span_find(buf_span(&t.out), SPAN_LIT(GO OK_RCPT OK_RCPT OK)) >
                0);
    lt_end(&t);
}

static void
test_message_beyond_the_limit_is_refused_after_the_dot(void **state)
{
    struct lt t;
    (void)state;

    lt_options(&t);
    lt_start(&t, true);
    send_big(&t, 300000);
    assert_int_equal(t.counters.refused, 2);
    assert_int_equal(t.delivered.n, 0);
    assert_true(span_find(buf_span(&t.out),
                          SPAN_LIT(GO "552 5.3.4 Message too big\r\n"
                                      "552 5.3.4 Message too big\r\n" OK)) > 0);
    lt_end(&t);
}

static void
test_quota_can_be_permanent_and_login_temporary(void **state)
{
    struct lt t;
    (void)state;

    lt_options(&t);
    t.opt.over_quota_permanent = true;
    t.opt.soft_noauth = true;
    lt_start(&t, true);
    lt_feed(&t, SPAN_LIT(LHLO MAIL "RCPT TO:<err-quota>\r\nDATA\r\n.\r\n"), 99);
    assert_true(
        span_find(buf_span(&t.out), SPAN_LIT("552 5.2.2 Over quota\r\n")) > 0);
    lt_end(&t);

    lt_options(&t);
    t.opt.soft_noauth = true;
    lt_start(&t, false);
    lt_feed(&t, SPAN_LIT(LHLO MAIL), 99);
    assert_true(span_find(buf_span(&t.out),
                          SPAN_LIT("430 4.7.0 Authentication required\r\n")) >
                0);
    lt_end(&t);
}

static void
test_replica_and_fence_refuse_mail(void **state)
{
    static const struct {
        enum errcode code;
        const char *line;
    } cases[] = {
        {ERR_READONLY, "451 4.3.2 This server is a replica\r\n"},
        {ERR_FENCED, "451 4.3.2 This server takes no mail now\r\n"},
        {ERR_CLOSED, "451 4.3.2 The server is stopping\r\n"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lt t;
        lt_options(&t);
        t.not_ready = cases[i].code;
        lt_start(&t, true);
        lt_feed(&t, SPAN_LIT(LHLO MAIL), 99);
        assert_true(span_find(buf_span(&t.out), span_str(cases[i].line)) > 0);
        lt_end(&t);
    }
}

static void
test_line_too_long_is_skipped_to_its_end(void **state)
{
    struct lt t;
    (void)state;

    lt_options(&t);
    lt_start(&t, true);
    for (size_t i = 0; i < 300; i++)
        lt_feed(&t,
                SPAN_LIT("0123456789012345678901234567890123456789"
                         "0123456789012345678901234567890123456789"
                         "0123456789012345678901234567890123456789"),
                SIZE_MAX);
    lt_feed(&t, SPAN_LIT("QUIT\r\nNOOP\r\n"), 1);
    assert_true(span_eq_str(buf_span(&t.out),
                            GREETING "500 5.5.2 Line too long\r\n" OK));
    lt_end(&t);
}

static void
test_a_line_without_end_is_hung_up_on(void **state)
{
    struct lt t;
    static uint8_t some[32768];
    size_t sent = 0;

    (void)state;
    memset(some, 'x', sizeof(some));
    lt_options(&t);
    lt_start(&t, true);
    for (; !t.closed && sent < (8U << 20); sent += sizeof(some))
        lt_feed(&t, span_of(some, sizeof(some)), SIZE_MAX);
    assert_true(t.closed);
    assert_in_range(sent, 1U << 20, (1U << 20) + 4 * sizeof(some));
    assert_true(span_eq_str(buf_span(&t.out),
                            GREETING "500 5.5.2 Line too long\r\n"
                                     "421 4.7.0 Line without end\r\n"));
    lt_end(&t);
}

/* ---- ends -------------------------------------------------------------- */

static void
test_pipelined_commands_wait_for_the_commit(void **state)
{
    struct lt t;
    (void)state;

    lt_options(&t);
    t.hold_events = true;
    lt_start(&t, true);
    buf_add_str(&t.pending,
                LHLO MAIL "RCPT TO:<fred>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n");
    while (t.nevents == 0) {
        size_t used = lmtp_session_input(t.s, buf_span(&t.pending));
        assert_true(used > 0);
        buf_drop(&t.pending, used);
    }
    assert_true(t.paused);
    assert_int_equal(lmtp_session_input(t.s, buf_span(&t.pending)), 0);
    assert_true(span_find(buf_span(&t.out), SPAN_LIT(OK)) < 0);
    t.hold_events = false;
    lt_run(&t);
    assert_true(span_find(buf_span(&t.out), SPAN_LIT(GO OK_RCPT OK)) > 0);
    lt_end(&t);
}

/* Up to where a commit is under way. */
static void
start_commit(struct lt *t)
{
    lt_options(t);
    lt_start(t, true);
    buf_add_str(&t->pending, LHLO MAIL "RCPT TO:<fred>\r\nDATA\r\nx\r\n.\r\n");
    while (t->nevents == 0)
        buf_drop(&t->pending, lmtp_session_input(t->s, buf_span(&t->pending)));
}

static void
test_goodbye_waits_for_the_delivery(void **state)
{
    struct lt t;
    (void)state;

    start_commit(&t);
    lmtp_session_goodbye(t.s, "now a replica");
    assert_false(t.closed);
    lt_run(&t);
    assert_true(t.closed);
    assert_true(span_find(buf_span(&t.out),
                          SPAN_LIT(GO OK_RCPT "421 4.3.2 now a replica\r\n")) >
                0);
    lt_end(&t);
}

static void
test_goodbye_does_not_wait_for_a_message_that_comes_in(void **state)
{
    struct lt t;
    (void)state;

    lt_options(&t);
    lt_start(&t, true);
    lt_feed(&t, SPAN_LIT(LHLO MAIL "RCPT TO:<fred>\r\nDATA\r\nx\r\n"), 99);
    lmtp_session_goodbye(t.s, "bye");
    assert_true(t.closed);
    assert_int_equal(lmtp_session_input(t.s, SPAN_LIT(".\r\n")), 3);
    lt_end(&t);
}

static void
test_client_gone_during_a_commit_frees_the_session_after_it(void **state)
{
    struct lt t;
    (void)state;

    start_commit(&t);
    lmtp_session_gone(t.s);
    assert_non_null(t.s);
    lt_run(&t);
    assert_null(t.s);
    assert_int_equal(t.counters.delivered, 1);
    lt_end(&t);
}

static void
test_timeout_says_so(void **state)
{
    struct lt t;
    (void)state;

    lt_options(&t);
    lt_start(&t, true);
    lmtp_session_timeout(t.s);
    assert_true(t.closed);
    assert_true(span_eq_str(buf_span(&t.out),
                            GREETING "421 4.4.2 Idle for too long\r\n"));
    lt_end(&t);
}

static void
test_starttls_forgets_what_was_said_in_clear(void **state)
{
    const struct session_peer peer = {.peer_name = "p", .tls_bits = 256};
    struct lt t;
    (void)state;

    lt_options(&t);
    t.opt.starttls = true;
    t.opt.preauth = true;
    t.opt.tls = (struct tls_context *)&t; /* only its being there counts */
    lt_start(&t, false);
    lt_feed(&t, SPAN_LIT(LHLO MAIL "STARTTLS\r\nRCPT TO:<injected>\r\n"),
            SIZE_MAX);
    assert_true(t.tls_wanted);
    assert_true(span_find(buf_span(&t.out), SPAN_LIT("250-STARTTLS\r\n")) > 0);
    assert_true(
        span_find(buf_span(&t.out),
                  SPAN_LIT(OK_MAIL "220 2.0.0 Ready to start TLS\r\n")) > 0);
    t.tls_wanted = false;
    buf_clear(&t.out);
    lmtp_session_tls(t.s, &peer);
    lt_feed(&t, SPAN_LIT("RCPT TO:<a>\r\nSTARTTLS\r\n" LHLO MAIL), SIZE_MAX);
    assert_true(
        span_eq_str(buf_span(&t.out),
                    "503 5.5.1 LHLO first\r\n"
                    "503 5.5.1 TLS is on already\r\n" LHLO_REPLY OK_MAIL));
    lt_end(&t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scripts_get_their_replies_cut_anywhere),
        cmocka_unit_test(test_login_is_asked_for_and_only_admins_may),
        cmocka_unit_test(test_nul_is_refused_for_all),
        cmocka_unit_test(test_message_carries_trace_and_is_shared),
        cmocka_unit_test(test_received_hash_is_of_the_message_alone),
        cmocka_unit_test(test_large_message_is_finished_on_a_worker),
        cmocka_unit_test(
            test_message_beyond_the_limit_is_refused_after_the_dot),
        cmocka_unit_test(test_quota_can_be_permanent_and_login_temporary),
        cmocka_unit_test(test_replica_and_fence_refuse_mail),
        cmocka_unit_test(test_line_too_long_is_skipped_to_its_end),
        cmocka_unit_test(test_a_line_without_end_is_hung_up_on),
        cmocka_unit_test(test_pipelined_commands_wait_for_the_commit),
        cmocka_unit_test(test_goodbye_waits_for_the_delivery),
        cmocka_unit_test(
            test_goodbye_does_not_wait_for_a_message_that_comes_in),
        cmocka_unit_test(
            test_client_gone_during_a_commit_frees_the_session_after_it),
        cmocka_unit_test(test_timeout_says_so),
        cmocka_unit_test(test_starttls_forgets_what_was_said_in_clear),
    };
    struct error err = {0};
    if (log_open(LOG_TO_FILE, "/dev/null", "test", LOG_LV_ERROR, &err) !=
        ERR_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
