/*
 * tests/mime/test_message.c - mime/message.c, wire.c, section.c: the examples
 * of RFC 3501, odd and broken messages.
 */
#include <stdio.h>
#include <stdlib.h>

#include "messagetest.h"

/* RFC 3501, 8 (the example session). */
static void
test_envelope_of_rfc3501_example(void **state)
{
    struct fixture f;
    (void)state;

    fixture_make(&f, "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
                     "From: Terry Gray <gray@cac.washington.edu>\r\n"
                     "Subject: IMAP4rev1 WG mtg summary and minutes\r\n"
                     "To: imap@cac.washington.edu\r\n"
                     "cc: minutes@CNRI.Reston.VA.US, John Klensin "
                     "<KLENSIN@MIT.EDU>\r\n"
                     "Message-Id: <B27397-0100000@cac.washington.edu>\r\n"
                     "MIME-Version: 1.0\r\n"
                     "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n"
                     "\r\n"
                     "one\r\ntwo\r\n");
    assert_span(f.cache.envelope,
                "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" "
                "\"IMAP4rev1 WG mtg summary and minutes\" "
                "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
                "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
                "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
                "((NIL NIL \"imap\" \"cac.washington.edu\")) "
                "((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")"
                "(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) NIL NIL "
                "\"<B27397-0100000@cac.washington.edu>\")");
    assert_span(f.cache.body, "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") "
                              "NIL NIL \"7BIT\" 10 2)");
    assert_span(f.cache.bodystructure,
                "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL "
                "\"7BIT\" 10 2 NIL NIL NIL NIL)");
    assert_int_equal(f.cache.sent_utc_s, 837595405);
    assert_int_equal(f.cache.sent_zone_min, -420);
    assert_true(f.cache.flags == (MIME_CACHE_DATED | MIME_CACHE_FIELDS));
    assert_span(f.cache.from, "gray");
    assert_span(f.cache.to, "imap");
    assert_span(f.cache.cc, "minutes");
    assert_span(f.cache.display_from, "Terry Gray");
    assert_span(f.cache.display_to, "imap@cac.washington.edu");
    assert_span(f.cache.message_id, "B27397-0100000@cac.washington.edu");
    fixture_free(&f);
}

/* RFC 3501, 7.4.2 (BODYSTRUCTURE): a text and a text as an attachment. */
static void
test_body_of_rfc3501_multipart_example(void **state)
{
    struct fixture f;
    (void)state;

    fixture_make(
        &f, "Content-Type: multipart/mixed; boundary=\"b1\"\r\n"
            "Content-Language: en (English), de\r\n"
            "\r\n"
            "preamble\r\n"
            "--b1\r\n"
            "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n"
            "\r\n"
            "text\r\n"
            "\r\n"
            "--b1  \r\n"
            "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII; NAME=\"cc.diff\"\r\n"
            "Content-ID: <960723163407.20117h@cac.washington.edu>\r\n"
            "Content-Description: Compiler diff\r\n"
            "Content-Transfer-Encoding: base64\r\n"
            "Content-Disposition: attachment; filename*0=\"cc\";\r\n"
            " filename*1=\".diff\"; size=10\r\n"
            "Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\n"
            "Content-Location: http://host/\r\n x.diff\r\n"
            "Content-Language: en\r\n"
            "\r\n"
            "YWJj\r\n"
            "--b1--\r\n"
            "epilogue\r\n");
    assert_span(f.cache.body,
                "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL "
                "\"7BIT\" 6 1)"
                "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\" \"NAME\" "
                "\"cc.diff\") "
                "\"<960723163407.20117h@cac.washington.edu>\" "
                "\"Compiler diff\" \"BASE64\" 4 0) \"MIXED\")");
    assert_span(
        f.cache.bodystructure,
        "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL "
        "\"7BIT\" 6 1 NIL NIL NIL NIL)"
        "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\" \"NAME\" "
        "\"cc.diff\") "
        "\"<960723163407.20117h@cac.washington.edu>\" "
        "\"Compiler diff\" \"BASE64\" 4 0 \"Q2hlY2sgSW50ZWdyaXR5IQ==\" "
        "(\"ATTACHMENT\" (\"FILENAME\" \"cc.diff\" \"SIZE\" \"10\")) \"en\" "
        "\"http://host/x.diff\") \"MIXED\" (\"BOUNDARY\" \"b1\") NIL "
        "(\"en\" \"de\") NIL)");
    assert_section(&f, "1", "text\r\n");
    assert_section(&f, "2", "YWJj");
    assert_section(&f, "1.MIME",
                   "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n");
    assert_no_section(&f, "3", ERR_NOTFOUND);
    assert_no_section(&f, "1.1", ERR_NOTFOUND);
    assert_no_section(&f, "1.HEADER", ERR_NOTFOUND);
    assert_no_section(&f, "1.TEXT", ERR_NOTFOUND);
    fixture_free(&f);
}

/* RFC 3501, 6.4.5: the complex message and its part specifiers. */
static void
test_sections_of_rfc3501_example(void **state)
{
    struct fixture f;
    struct mime_section s;
    (void)state;

    fixture_make(&f, nasty);
    assert_section(&f, "", nasty);
    assert_section(&f, "1", "part one");
    assert_section(&f, "1.MIME", "\r\n");
    assert_section(&f, "2", "part two");
    assert_section(&f, "3.HEADER",
                   "Subject: inner\r\n"
                   "Content-Type: multipart/mixed; boundary=inner\r\n\r\n");
    assert_section(&f, "3.header.fields", /* the caller picks them */
                   "Subject: inner\r\n"
                   "Content-Type: multipart/mixed; boundary=inner\r\n\r\n");
    assert_section(&f, "3.MIME", "Content-Type: message/rfc822\r\n\r\n");
    assert_section(&f, "3.TEXT",
                   "--inner\r\n\r\nthree one\r\n--inner\r\n"
                   "Content-Type: application/octet-stream\r\n\r\n"
                   "three two\r\n--inner--\r\n");
    assert_section(&f, "3.1", "three one");
    assert_section(&f, "3.2", "three two");
    assert_section(&f, "4.1", "GIF");
    assert_section(&f, "4.1.MIME", "Content-Type: image/gif\r\n\r\n");
    assert_section(&f, "4.2.HEADER",
                   "Subject: deep\r\n"
                   "Content-Type: multipart/mixed; boundary=deep\r\n\r\n");
    assert_section(&f, "4.2.1", "4.2.1");
    assert_section(&f, "4.2.2.1", "4.2.2.1");
    assert_section(&f, "4.2.2.2", "4.2.2.2");
    assert_no_section(&f, "4.TEXT", ERR_NOTFOUND);
    assert_no_section(&f, "4.3", ERR_NOTFOUND);
    assert_no_section(&f, "4.2.2.3", ERR_NOTFOUND);
    assert_no_section(&f, "5.HEADER", ERR_NOTFOUND);

    const char *wrong[] = {"0",  "1.",         "01",        ".1",  "1..2",
                           "1x", "MIME",       "HEADERS",   "1.0", "TEXT.1",
                           "-1", "1.HEADER.1", "4294967296"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_no_section(&f, wrong[i], ERR_SYNTAX);

    assert_int_equal(mime_section_find(&f.cache, SPAN_LIT("2"), &s), ERR_OK);
    assert_int_equal(s.part.encoding, MIME_ENC_UNKNOWN);
    fixture_free(&f);
}

static void
test_envelope_of_groups_routes_and_encoded_words(void **state)
{
    struct fixture f;
    struct span refs;
    struct span id;
    (void)state;

    fixture_make(&f, nasty);
    assert_span(f.cache.envelope,
                "(\"\" \"=?utf-8?Q?Re:_gr=C3=BC=C3=9Fe?=\" "
                "((\"A \\\"quoted\\\" one\" \"@r1,@r2\" \"a\" \"x.example\")) "
                "((\"A \\\"quoted\\\" one\" \"@r1,@r2\" \"a\" \"x.example\")) "
                "((\"A \\\"quoted\\\" one\" \"@r1,@r2\" \"a\" \"x.example\")) "
                "((NIL NIL \"Friends\" NIL)(NIL NIL \"b\" \"y.example\")"
                "(\"C D\" NIL \"c\" \"z.example\")(NIL NIL NIL NIL)"
                "(NIL NIL \"e\" \"unspecified-domain\")) "
                "((NIL NIL \"undisclosed-recipients\" NIL)"
                "(NIL NIL NIL NIL)) NIL \"<x@y>\" NIL)");
    assert_span(f.cache.base_subject, "gr\xC3\xBC\xC3\x9F"
                                      "e");
    assert_int_equal(f.cache.flags, MIME_CACHE_REPLY | MIME_CACHE_FIELDS);
    assert_span(f.cache.display_from, "A \"quoted\" one");
    assert_span(f.cache.to, "Friends");
    assert_int_equal(f.cache.nrefs, 1);
    refs = f.cache.refs;
    assert_true(mime_cache_ref(&refs, &id));
    assert_span(id, "x@y");
    assert_false(mime_cache_ref(&refs, &id));
    fixture_free(&f);
}

static void
test_part_one_of_a_plain_message_is_its_body(void **state)
{
    struct fixture f;
    (void)state;

    fixture_make(&f, "Subject: x\r\n\r\nbody\r\n");
    assert_section(&f, "1", "body\r\n");
    assert_section(&f, "1.MIME", "Subject: x\r\n\r\n");
    assert_section(&f, "TEXT", "body\r\n");
    assert_section(&f, "HEADER", "Subject: x\r\n\r\n");
    assert_no_section(&f, "2", ERR_NOTFOUND);
    assert_no_section(&f, "1.1", ERR_NOTFOUND);
    fixture_free(&f);

    fixture_make(&f, "Content-Type: message/rfc822\r\n\r\n"
                     "Subject: x\r\n\r\nbody\r\n");
    assert_section(&f, "1", "Subject: x\r\n\r\nbody\r\n");
    assert_section(&f, "1.HEADER", "Subject: x\r\n\r\n");
    assert_section(&f, "1.1", "body\r\n");
    assert_no_section(&f, "1.1.1", ERR_NOTFOUND);
    assert_no_section(&f, "1.2", ERR_NOTFOUND);
    assert_span(f.cache.body,
                "(\"MESSAGE\" \"RFC822\" NIL NIL NIL \"7BIT\" 20 "
                "(NIL \"x\" NIL NIL NIL NIL NIL NIL NIL NIL) "
                "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL "
                "\"7BIT\" 6 1) 3)");
    fixture_free(&f);
}

static void
test_odd_messages(void **state)
{
    static const struct {
        const char *raw;
        const char *body;
    } cases[] = {
        {"", "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" "
             "0 0)"},
        {"no header at all",
         "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 "
         "0)"},
        {"\n\nx\n", /* LF; the header is empty */
         "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 3 "
         "2)"},
        {"Content-Type: text/html\r\n\r\nx",
         "(\"TEXT\" \"HTML\" NIL NIL NIL \"7BIT\" 1 0)"},
        {"Content-Type: text\r\n\r\nx", /* RFC 2045, 5.2 */
         "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 1 "
         "0)"},
        {"Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\n--x--",
         "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 12 "
         "2)"},
        {"Content-Type: multipart/mixed; boundary=x\r\n\r\nnothing\r\n",
         "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 9 "
         "1)"},
        /* No closing boundary. */
        {"Content-Type: multipart/mixed; boundary=x\n\n--x\n\na\n",
         "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 2 "
         "1) \"MIXED\")"},
        /* A line that only begins like the boundary. */
        {"Content-Type: multipart/mixed; boundary=x\n\n--x\n\na\n--xy\nb\n"
         "--x--",
         "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 8 "
         "2) \"MIXED\")"},
        /* The boundary in the header of a part. */
        {"Content-Type: multipart/mixed; boundary=x\n\n--x\n"
         "Content-Type: image/png\n--x\n\nb\n--x--",
         "((\"IMAGE\" \"PNG\" NIL NIL NIL \"7BIT\" 0)"
         "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 1 "
         "0) \"MIXED\")"},
        /* A message whose header the outer boundary cuts. */
        {"Content-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: s\n\n"
         "--x--",
         "((\"MESSAGE\" \"RFC822\" NIL NIL NIL \"7BIT\" 11 "
         "(NIL \"s\" NIL NIL NIL NIL NIL NIL NIL NIL) "
         "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 "
         "0) 1) \"DIGEST\")"},
        /* An inner multipart that nobody closed. */
        {"Content-Type: multipart/mixed; boundary=x\n\n--x\n"
         "Content-Type: multipart/mixed; boundary=y\n\n--y\n\na\n--x\n\nb\n"
         "--x--\n",
         "(((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 1 "
         "0) \"MIXED\")(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL "
         "\"7BIT\" 1 0) \"MIXED\")"},
        /* One boundary that is another with two dashes more. */
        {"Content-Type: multipart/mixed; boundary=x\n\n--x\n"
         "Content-Type: multipart/mixed; boundary=\"x--\"\n\n--x--\n\na\n"
         "--x----\n--x--\n",
         "(((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 1 "
         "0) \"MIXED\") \"MIXED\")"},
        {"content-type : IMAGE/x-y ; name = a file.png; charset=\"\xE4\"\r\n"
         "\r\n",
         "(\"IMAGE\" \"X-Y\" (\"NAME\" \"a file.png\" \"CHARSET\" {1}\r\n"
         "\xE4) NIL NIL \"7BIT\" 0)"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        fixture_make(&f, cases[i].raw);
        assert_span(f.cache.body, cases[i].body);
        fixture_free(&f);
    }
}

static void
test_strings_that_cannot_be_quoted_are_literals(void **state)
{
    static const char raw[] = "Subject: gr\xFC\xDF"
                              "e\r\n\tzwei\r\n"
                              "Date: a\0b\r\n"
                              "Message-ID: <a\"\\@b>\r\n"
                              "From: \r\n"
                              "To: <>\r\n\r\n";
    struct fixture f;
    (void)state;

    fixture_make_limited(&f, SPAN_ARRAY(raw), NULL);
    assert_span(f.cache.envelope,
                "(\"a?b\" {10}\r\ngr\xFC\xDF"
                "e\tzwei NIL NIL NIL "
                "((NIL NIL \"\" \"unspecified-domain\")) NIL NIL NIL "
                "\"<a\\\"\\\\@b>\")");
    fixture_free(&f);
}

static void
test_references_are_normalized_and_bounded(void **state)
{
    struct fixture f;
    struct span refs;
    struct span id;
    struct buf raw = BUF_INIT;
    (void)state;

    fixture_make(&f, "References: <a@b> junk\r\n <\"c d\"@e> <<x>\r\n <cut\r\n"
                     "In-Reply-To: <no@no>\r\n\r\n");
    refs = f.cache.refs;
    assert_int_equal(f.cache.nrefs, 3);
    assert_true(mime_cache_ref(&refs, &id));
    assert_span(id, "a@b");
    assert_true(mime_cache_ref(&refs, &id));
    assert_span(id, "cd@e");
    assert_true(mime_cache_ref(&refs, &id));
    assert_span(id, "x");
    fixture_free(&f);

    buf_add_str(&raw, "References:");
    for (int i = 0; i < 1000; i++)
        buf_addf(&raw, " <%d@x>\r\n", i);
    buf_add_str(&raw, "\r\n");
    fixture_make_limited(&f, buf_span(&raw), NULL);
    refs = f.cache.refs;
    assert_int_equal(f.cache.nrefs, 200);
    assert_true(mime_cache_ref(&refs, &id));
    assert_span(id, "0@x");
    assert_true(mime_cache_ref(&refs, &id));
    assert_span(id, "801@x");
    fixture_free(&f);
    buf_free(&raw);
}

/* Bodies of each length up to a few words, and of many; with bytes that differ
 * from a line feed in one bit, and with nothing but line feeds. */
static void
test_lines_of_a_plain_body_are_its_line_feeds(void **state)
{
    static const uint8_t bytes[] = {'\n', 0x0b, 0x8a, '\n', 0xff, 0x00, 0x1a};
    static const char head[] = "Subject: lines\r\n\r\n";
    const size_t head_n = sizeof(head) - 1;
    (void)state;

    for (size_t n = 1; n < 9000; n += n < 40 ? 1 : 997) {
        for (size_t kinds = 1; kinds <= sizeof(bytes); kinds++) {
            struct fixture f;
            size_t lines = 0;
            char want[64];
            uint8_t *raw = malloc(head_n + n);
            assert_non_null(raw);
            memcpy(raw, head, head_n);
            for (size_t i = 0; i < n; i++) {
                raw[head_n + i] = bytes[i * 31 % kinds];
                lines += raw[head_n + i] == '\n';
            }
            fixture_make_limited(&f, span_of(raw, head_n + n), NULL);
            snprintf(want, sizeof(want), " %zu %zu)", n, lines);
            if (memmem(f.cache.body.p, f.cache.body.n, want, strlen(want)) ==
                NULL)
                fail_msg("%zu bytes: %.*s lacks%s", n, SPAN_FMT(f.cache.body),
                         want);
            fixture_free(&f);
            free(raw);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope_of_rfc3501_example),
        cmocka_unit_test(test_body_of_rfc3501_multipart_example),
        cmocka_unit_test(test_sections_of_rfc3501_example),
        cmocka_unit_test(test_envelope_of_groups_routes_and_encoded_words),
        cmocka_unit_test(test_part_one_of_a_plain_message_is_its_body),
        cmocka_unit_test(test_odd_messages),
        cmocka_unit_test(test_strings_that_cannot_be_quoted_are_literals),
        cmocka_unit_test(test_references_are_normalized_and_bounded),
        cmocka_unit_test(test_lines_of_a_plain_body_are_its_line_feeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
