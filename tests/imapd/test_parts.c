/*
 * tests/imapd/test_parts.c - what FETCH makes of parts: BINARY (RFC 3516,
 * 9051) and PREVIEW (8970).
 */
#include "tests/imapd/talking.h"

#define CODED                                                                  \
    "Subject: coded\r\n"                                                       \
    "MIME-Version: 1.0\r\n"                                                    \
    "Content-Type: multipart/mixed; boundary=x\r\n"                            \
    "\r\n"                                                                     \
    "--x\r\n"                                                                  \
    "Content-Type: text/html; charset=iso-8859-1\r\n"                          \
    "Content-Transfer-Encoding: quoted-printable\r\n"                          \
    "\r\n"                                                                     \
    "<html><head><title>no</title></head><style>p {x}</style>\r\n"             \
    "<p>Gr=FC=DFe &amp; K=FCsse</p>=20=\r\n"                                   \
    "<b>bald</b></html>\r\n"                                                   \
    "--x\r\n"                                                                  \
    "Content-Type: application/octet-stream\r\n"                               \
    "Content-Transfer-Encoding: base64\r\n"                                    \
    "\r\n"                                                                     \
    "YQBiAGM=\r\n"                                                             \
    "--x\r\n"                                                                  \
    "Content-Type: application/x\r\n"                                          \
    "Content-Transfer-Encoding: x-strange\r\n"                                 \
    "\r\n"                                                                     \
    "what\r\n"                                                                 \
    "--x--\r\n"

static void
test_binary_takes_the_encoding_off(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "(\\Seen) ", CODED);
    quiet(c, "s SELECT INBOX");
    quiet(c, "s SELECT INBOX");
    talk(c, "a FETCH 1 (BINARY.SIZE[1] BINARY.SIZE[2] BINARY.SIZE[])",
         "* 1 FETCH (BINARY.SIZE[1] 101 BINARY.SIZE[2] 5 BINARY.SIZE[] 470)\r\n"
         "a OK Completed\r\n");
    /* NUL needs a literal8. */
    add_line(c, "b FETCH 1 BINARY.PEEK[2]");
    fake_turn(&world);
    struct span want = SPAN_LIT("* 1 FETCH (BINARY[2] ~{5}\r\na\0b\0c)\r\n"
                                "b OK Completed\r\n");
    assert_true(span_eq(buf_span(&c->out), want));
    buf_clear(&c->out);
    talk(c, "c FETCH 1 BINARY.PEEK[1]<58.11>",
         "* 1 FETCH (BINARY[1]<58> {11}\r\n<p>Gr\xfc\xdf"
         "e &a)\r\nc OK Completed\r\n");
    talk(c, "d FETCH 1 BINARY.PEEK[2]<9.3>",
         "* 1 FETCH (BINARY[2]<9> {0}\r\n)\r\nd OK Completed\r\n");
    talk(c, "e FETCH 1 (BINARY.PEEK[7] BINARY.SIZE[7])",
         "* 1 FETCH (BINARY[7] NIL BINARY.SIZE[7] 0)\r\ne OK Completed\r\n");
    talk(c, "f FETCH 1 (BINARY.PEEK[3] UID)",
         "* 1 FETCH (BINARY[3] NIL UID 1)\r\n"
         "f NO [UNKNOWN-CTE] Some parts cannot be decoded\r\n");
    talk(c, "g FETCH 1 BINARY[1.MIME]", "g BAD Invalid body section\r\n");
    talk(c, "h FETCH 1 BINARY.SIZE[1]<0.3>",
         "h BAD Unexpected extra arguments\r\n");
}

static void
test_binary_sets_seen_unless_it_peeks(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", "", MSG_A);
    quiet(c, "s SELECT INBOX");
    quiet(c, "s SELECT INBOX");
    talk(c, "a FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])",
         "* 1 FETCH (BINARY[1] {13}\r\nHello world\r\n BINARY.SIZE[1] 13)\r\n"
         "a OK Completed\r\n");
    talk(c, "b FETCH 1 (BINARY[1]<6.5>)",
         "* 1 FETCH (BINARY[1]<6> {5}\r\nworld FLAGS (\\Seen))\r\n"
         "b OK Completed\r\n");
    talk(c, "c FETCH 1 BINARY[]",
         "* 1 FETCH (BINARY[] {120}\r\n" MSG_A ")\r\nc OK Completed\r\n");
}

/* A large part, for a client that reads slowly: in pieces, each byte once. */
static void
test_large_part_comes_whole(void **state)
{
    (void)state;
    static const char line[] =
        "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB\r\n";
    static const char head[] = "Content-Transfer-Encoding: base64\r\n\r\n";
    const size_t lines = 30000, line_bytes = sizeof(line) - 1; /* of 48 */
    struct fake_client *c = login(0, "fred");

    world.opt.message_bytes_max = 10U << 20;
    buf_addf(&c->in, "a APPEND INBOX (\\Seen) {%zu+}\r\n%s",
             strlen(head) + lines * line_bytes, head);
    for (size_t i = 0; i < lines; i++)
        buf_add_str(&c->in, line);
    quiet(c, "");
    quiet(c, "s SELECT INBOX");
    c->full_at = 50000;
    add_line(c, "b FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])");
    fake_turn(&world);
    assert_true(c->out.n < 400000);
    c->full_at = 0;
    imap_session_drained(c->session);
    fake_turn(&world);
    struct span out = buf_span(&c->out);
    struct span begin = SPAN_LIT("* 1 FETCH (BINARY[1] {1440000}\r\n");
    struct span end =
        SPAN_LIT(" BINARY.SIZE[1] 1440000)\r\nb OK Completed\r\n");
    assert_true(span_starts(out, begin));
    assert_int_equal(out.n, begin.n + 1440000 + end.n);
    assert_true(span_eq(span_skip(out, begin.n + 1440000), end));
    for (size_t i = 0; i < 1440000; i++)
        if (out.p[begin.n + i] != 'A')
            fail_msg("byte %zu", i);
}

static void
test_preview_is_the_first_words(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct buf b = BUF_INIT;

    append(c, "INBOX", "(\\Seen) ", CODED);
    append(c, "INBOX", "(\\Seen) ",
           "Subject: re\r\n\r\n> you said\r\nYes, \t I\r\ndid.\r\n");
    append(c, "INBOX", "(\\Seen) ", "Content-Type: image/png\r\n\r\nabc\r\n");
    buf_add_str(&b, "Content-Type: text/plain; charset=utf-8\r\n\r\n");
    for (int i = 0; i < 300; i++)
        buf_add_str(&b, "\xc3\xa4");
    append(c, "INBOX", "(\\Seen) ", buf_cstr(&b));
    append(c, "INBOX", "(\\Seen) ", MSG_B);
    quiet(c, "s SELECT INBOX");
    talk(c, "a FETCH 1:3 (PREVIEW (LAZY))",
         "* 1 FETCH (PREVIEW {21}\r\nGr\xc3\xbc\xc3\x9f"
         "e & K\xc3\xbcsse bald)\r\n"
         "* 2 FETCH (PREVIEW \"Yes, I did.\")\r\n"
         "* 3 FETCH (PREVIEW \"\")\r\na OK Completed\r\n");
    buf_clear(&b);
    buf_add_str(&b, "* 4 FETCH (PREVIEW {400}\r\n");
    for (int i = 0; i < 200; i++)
        buf_add_str(&b, "\xc3\xa4");
    buf_add_str(&b, ")\r\n* 5 FETCH (PREVIEW \"part one\")\r\n"
                    "b OK Completed\r\n");
    talk(c, "b FETCH 4:5 PREVIEW", buf_cstr(&b));
    talk(c, "c FETCH 2 (PREVIEW UID)",
         "* 2 FETCH (PREVIEW \"Yes, I did.\" UID 2)\r\nc OK Completed\r\n");
    talk(c, "d FETCH 2 PREVIEW (FUZZY)", "d BAD Unknown PREVIEW modifier\r\n");
    quiet(c, "e FETCH 2 PREVIEW (CHANGEDSINCE 1)");
    buf_free(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_binary_takes_the_encoding_off,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_binary_sets_seen_unless_it_peeks,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_part_comes_whole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_preview_is_the_first_words, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
