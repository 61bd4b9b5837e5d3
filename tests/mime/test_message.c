/*
 * tests/mime/test_message.c - mime/message.c, wire.c, cache.c, section.c: the
 * examples of RFC 3501, odd and broken messages, limits, the record's bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/lib/mime_check.h"
#include "mime/message.h"

/* All of a char array but the NUL at its end. */
#define SPAN_ARRAY(a) span_of(a, sizeof(a) - 1)

/* A message with its record; the record is checked when it is made. */
struct fixture {
    struct span raw;
    struct buf record;
    struct mime_cache cache;
};

static void
fixture_make_limited(struct fixture *f, struct span raw,
                     const struct mime_limits *limits)
{
    struct mime_message *m = NULL;
    struct error err = {0};

    *f = (struct fixture){.raw = raw};
    mime_parse(raw, limits, &m);
    mime_cache_encode(m, &f->record);
    mime_message_free(&m);
    assert_null(m);
    if (mime_cache_decode(buf_span(&f->record), &f->cache, &err) != ERR_OK)
        fail_msg("%s", err.text);
    const char *why = mime_check_cache(&f->cache, raw);
    if (why != NULL)
        fail_msg("%s:\n%.*s\n%.*s\n%.*s", why, SPAN_FMT(f->cache.envelope),
                 SPAN_FMT(f->cache.body), SPAN_FMT(f->cache.bodystructure));
}

static void
fixture_make(struct fixture *f, const char *raw)
{
    fixture_make_limited(f, span_str(raw), NULL);
}

static void
fixture_free(struct fixture *f)
{
    buf_free(&f->record);
}

static void
assert_span(struct span s, const char *want)
{
    if (!span_eq_str(s, want))
        fail_msg("got:  %.*s\nwant: %s", SPAN_FMT(s), want);
}

static void
assert_section(const struct fixture *f, const char *path, const char *want)
{
    struct mime_section s;

    if (mime_section_find(&f->cache, span_str(path), &s) != ERR_OK)
        fail_msg("no section %s", path);
    assert_span(mime_section_bytes(f->raw, &s), want);
}

static void
assert_no_section(const struct fixture *f, const char *path, enum errcode code)
{
    struct mime_section s;
    assert_int_equal(mime_section_find(&f->cache, span_str(path), &s), code);
}

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

static const char nasty[] =
    "From: \"A \\\"quoted\\\" one\" <@r1,@r2:a@x.example>\r\n"
    "To: Friends: b@y.example, \"C D\" <c@z.example>;, e\r\n"
    "Cc: undisclosed-recipients:;\r\n"
    "Subject: =?utf-8?Q?Re:_gr=C3=BC=C3=9Fe?=\r\n"
    "Date:\r\n"
    "In-Reply-To: <x@y>\r\n"
    "Content-Type: multipart/mixed;\r\n\tboundary=\"out er\"\r\n"
    "\r\n"
    "--out er\r\n"
    "\r\n"
    "part one\r\n"
    "--out er\r\n"
    "Content-Type: application/octet-stream\r\n"
    "Content-Transfer-Encoding: x-odd\r\n"
    "\r\n"
    "part two\r\n"
    "--out er\r\n"
    "Content-Type: message/rfc822\r\n"
    "\r\n"
    "Subject: inner\r\n"
    "Content-Type: multipart/mixed; boundary=inner\r\n"
    "\r\n"
    "--inner\r\n"
    "\r\n"
    "three one\r\n"
    "--inner\r\n"
    "Content-Type: application/octet-stream\r\n"
    "\r\n"
    "three two\r\n"
    "--inner--\r\n"
    "\r\n"
    "--out er\r\n"
    "Content-Type: multipart/mixed; boundary=four\r\n"
    "\r\n"
    "--four\r\n"
    "Content-Type: image/gif\r\n"
    "\r\n"
    "GIF\r\n"
    "--four\r\n"
    "Content-Type: message/rfc822\r\n"
    "\r\n"
    "Subject: deep\r\n"
    "Content-Type: multipart/mixed; boundary=deep\r\n"
    "\r\n"
    "--deep\r\n"
    "\r\n"
    "4.2.1\r\n"
    "--deep\r\n"
    "Content-Type: multipart/alternative; boundary=alt\r\n"
    "\r\n"
    "--alt\r\n"
    "\r\n"
    "4.2.2.1\r\n"
    "--alt\r\n"
    "Content-Type: text/richtext\r\n"
    "\r\n"
    "4.2.2.2\r\n"
    "--alt--\r\n"
    "--deep--\r\n"
    "--four--\r\n"
    "--out er--\r\n";

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

/* ---- limits and time ---- */

static double
now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
test_depth_limit_makes_an_opaque_leaf(void **state)
{
    struct mime_limits limits = {.depth = 3};
    struct fixture f;
    (void)state;

    fixture_make_limited(&f, SPAN_ARRAY(nasty), &limits);
    assert_true((f.cache.flags & MIME_CACHE_LIMITED) != 0);
    assert_section(&f, "3.1", "three one");
    assert_section(&f, "4.1", "GIF");
    assert_section(&f, "4.2.HEADER",
                   "Subject: deep\r\n"
                   "Content-Type: multipart/mixed; boundary=deep\r\n\r\n");
    assert_no_section(&f, "4.2.2", ERR_NOTFOUND);
    fixture_free(&f);
    limits.depth = 1;
    fixture_make_limited(&f, SPAN_ARRAY(nasty), &limits);
    assert_section(&f, "4.MIME",
                   "Content-Type: multipart/mixed; boundary=four\r\n\r\n");
    assert_true(span_find(f.cache.body,
                          SPAN_LIT("\"APPLICATION\" \"OCTET-STREAM\"")) > 0);
    fixture_free(&f);
}

static void
test_part_limit_gives_the_rest_to_the_last(void **state)
{
    (void)state;

    for (uint32_t n = 1; n < 18; n++) {
        struct mime_limits limits = {.parts = n};
        struct fixture f;
        fixture_make_limited(&f, SPAN_ARRAY(nasty), &limits);
        assert_int_equal(f.cache.nparts, MIN(n, 15));
        assert_int_equal((f.cache.flags & MIME_CACHE_LIMITED) != 0, n <= 15);
        fixture_free(&f);
    }
}

static void
test_header_limits_leave_fields_out(void **state)
{
    struct mime_limits limits = {.fields = 1};
    struct fixture f;
    const char *raw = "Subject: a\r\nTo: a@b, c@d, e: f@g;\r\n\r\n";
    (void)state;

    fixture_make_limited(&f, span_str(raw), &limits);
    assert_span(f.cache.envelope,
                "(NIL \"a\" NIL NIL NIL NIL NIL NIL NIL NIL)");
    assert_int_equal(f.cache.flags, MIME_CACHE_LIMITED | MIME_CACHE_FIELDS);
    fixture_free(&f);
    limits = (struct mime_limits){.header_bytes = 15};
    fixture_make_limited(&f, span_str(raw), &limits);
    assert_span(f.cache.envelope,
                "(NIL \"a\" NIL NIL NIL NIL NIL NIL NIL NIL)");
    fixture_free(&f);
    limits = (struct mime_limits){.addresses = 4};
    fixture_make_limited(&f, span_str(raw), &limits);
    assert_span(f.cache.envelope,
                "(NIL \"a\" NIL NIL NIL ((NIL NIL \"a\" \"b\")"
                "(NIL NIL \"c\" \"d\")(NIL NIL \"e\" NIL)(NIL NIL NIL NIL)) "
                "NIL NIL NIL NIL)");
    assert_int_equal(f.cache.flags, MIME_CACHE_LIMITED | MIME_CACHE_FIELDS);
    fixture_free(&f);
}

/* What would be quadratic, or recurse, in a careless parser. */
static void
test_hostile_messages_take_linear_time(void **state)
{
    static const struct {
        const char *head;
        const char *again;
        int times;
    } cases[] = {
        {"Content-Type: multipart/mixed; boundary=x\n\n",
         "--x\nContent-Type: multipart/mixed; boundary=x\n\n", 10000},
        {"", "Content-Type: message/rfc822\n\n", 10000},
        {"Content-Type: multipart/digest; boundary=x\n\n", "--x\n\n\n", 100000},
        {"Subject: ", "[a]", 350000},
        {"Subject: ", "=?a?q?", 180000},
        {"Subject: ", "[fwd:", 200000},
        {"Subject: ", "re:", 350000},
        {"To: ", "(", 1000000},
        {"To: ", "<@", 500000},
        {"To: ", "a,", 500000},
        {"To: ", "a:b;", 250000},
        {"To: ", "\"", 1000000},
        {"To: ", "a@b ", 250000},
        {"To: ", "\n ", 500000},
        {"References: ", "<a>", 300000},
        {"References: ", "<", 1000000},
        {"Content-Type: text/plain", ";a*0=b", 150000},
        {"Content-Type: text/plain; a=", "b ", 500000},
        {"Content-Disposition: x; ", "a*1*=", 200000},
        {"", "a: b\n", 200000},
        {"Content-Language: ", "a,", 500000},
        {"Date: ", "(1 ", 300000},
        {"Content-Type: multipart/mixed; boundary=x\n\n", "--xx \n", 200000},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf raw = BUF_INIT;
        struct mime_message *m = NULL;
        struct buf out = BUF_INIT;
        struct mime_cache cache;

        buf_add_str(&raw, cases[i].head);
        for (int k = 0; k < cases[i].times; k++)
            buf_add_str(&raw, cases[i].again);
        double t = now_s();
        mime_parse(buf_span(&raw), NULL, &m);
        mime_cache_encode(m, &out);
        mime_message_free(&m);
        t = now_s() - t;
        if (getenv("MIME_TIMES") != NULL)
            print_message("%2zu: %.0f ms, record of %zu bytes\n", i, t * 1e3,
                          out.n);
        /* Far above what it takes, far below what a square would. */
        assert_true(t < 10);
        assert_int_equal(mime_cache_decode(buf_span(&out), &cache, NULL),
                         ERR_OK);
        assert_null(mime_check_envelope(cache.envelope));
        assert_null(mime_check_body(cache.body, false));
        assert_null(mime_check_body(cache.bodystructure, true));
        buf_free(&out);
        buf_free(&raw);
    }
}

static void
test_message_cut_anywhere_parses(void **state)
{
    (void)state;

    for (size_t n = 0; n < sizeof(nasty); n++) {
        struct fixture f;
        uint8_t *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, nasty, n);
        fixture_make_limited(&f, span_of(copy, n), NULL);
        fixture_free(&f);
        free(copy);
    }
}

/* ---- the record ---- */

static void
test_record_golden_bytes(void **state)
{
    static const char raw[] = "Date: 1 Jan 1970 00:01 +0100\n"
                              "Subject: Re: x\n"
                              "From: A <a@b>\n"
                              "Message-ID: <m@i>\n"
                              "References: <r@1>\n"
                              "Content-Type: multipart/mixed; boundary=y\n"
                              "\n"
                              "--y\n"
                              "Content-Transfer-Encoding: base64\n"
                              "\n"
                              "eA==\n"
                              "\n"
                              "--y--\n";
    static const char want[] =
        "\x02"     /* version */
        "\x0E"     /* dated, reply, fields */
        "\xBC\x01" /* 188 bytes */
        "\x76"     /* envelope, 118 bytes */
        "(\"1 Jan 1970 00:01 +0100\" \"Re: x\" ((\"A\" NIL \"a\" \"b\")) "
        "((\"A\" NIL \"a\" \"b\")) ((\"A\" NIL \"a\" \"b\")) NIL NIL NIL NIL "
        "\"<m@i>\")"
        "\x46" /* body, 70 bytes */
        "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"BASE64\" 5 "
        "1) \"MIXED\")"
        "\x73" /* body structure, 115 bytes */
        "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"BASE64\" 5 "
        "1 NIL NIL NIL NIL) \"MIXED\" (\"BOUNDARY\" \"y\") NIL NIL NIL)"
        "\xA7\x37" /* -3540 s, zigzag */
        "\x78"     /* +60 min, zigzag */
        "\x01x"    /* base subject */
        "\x01"
        "a"    /* from */
        "\x00" /* to */
        "\x00" /* cc */
        "\x01"
        "A"               /* display from */
        "\x00"            /* display to */
        "\x03m@i"         /* message id */
        "\x01\x04\x03r@1" /* one reference, 4 bytes with its length */
        "\x02\x0E"        /* two parts, 14 bytes */
        "\x02\x00\x00\x89\x01\x33\x06" /* multipart 7bit, depth 0, header at 0,
                        137 bytes, body 51 bytes, 6 lines */
        "\x41\x01\x8D\x01\x23\x05\x01" /* text base64, depth 1, ... */
        "\x88\x01"                     /* fields, 136 bytes */
        "Date: 1 Jan 1970 00:01 +0100\n"
        "Subject: Re: x\n"
        "From: A <a@b>\n"
        "Message-ID: <m@i>\n"
        "References: <r@1>\n"
        "Content-Type: multipart/mixed; boundary=y\n";
    struct fixture f;
    (void)state;

    fixture_make_limited(&f, SPAN_ARRAY(raw), NULL);
    if (!span_eq(buf_span(&f.record), SPAN_ARRAY(want))) {
        for (size_t i = 0; i < f.record.n; i++)
            if (i >= sizeof(want) - 1 || f.record.p[i] != (uint8_t)want[i])
                fail_msg("byte %zu of %zu (want %zu): %02x", i, f.record.n,
                         sizeof(want) - 1, f.record.p[i]);
        fail_msg("too short");
    }
    fixture_free(&f);
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

static void
test_record_refuses_damage(void **state)
{
    struct fixture f;
    struct mime_cache cache;
    struct error err = {0};
    (void)state;

    fixture_make(&f, nasty);
    for (size_t n = 0; n < f.record.n; n++) {
        uint8_t *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, f.record.p, n);
        assert_int_equal(mime_cache_decode(span_of(copy, n), &cache, &err),
                         ERR_CORRUPT);
        free(copy);
    }
    buf_add_byte(&f.record, 0);
    assert_int_equal(mime_cache_decode(buf_span(&f.record), &cache, &err),
                     ERR_CORRUPT);
    for (uint8_t version = 1; version <= 3; version += 2) {
        f.record.p[0] = version;
        assert_int_equal(mime_cache_decode(buf_span(&f.record), &cache, &err),
                         ERR_VERSION);
    }
    fixture_free(&f);
}

static void
test_fields_are_kept_as_they_are(void **state)
{
    struct fixture f;
    struct buf all = BUF_INIT;
    (void)state;

    fixture_make(&f, "Received: from x\r\n by y\r\n"
                     "fRoM : a@b\r\n"
                     "no field\r\n"
                     "Subject: one\r\n\ttwo\r\n"
                     "X-Other: z\r\n"
                     "Subject: again\r\n\r\n"
                     "To: body@b\r\n");
    assert_span(f.cache.fields, "fRoM : a@b\r\n"
                                "Subject: one\r\n\ttwo\r\n"
                                "Subject: again\r\n");
    fixture_free(&f);

    fixture_make(&f, "X-Other: z\r\n\r\n");
    assert_true((f.cache.flags & MIME_CACHE_FIELDS) != 0);
    assert_int_equal(f.cache.fields.n, 0);
    fixture_free(&f);

    /* 4 KiB are kept, and one more is nothing. */
    for (size_t more = 0; more < 2; more++) {
        buf_clear(&all);
        buf_add_str(&all, "To: ");
        while (all.n < 4096 - 2 + more)
            buf_add_byte(&all, 'a');
        buf_add_str(&all, "\r\n\r\nbody");
        fixture_make_limited(&f, buf_span(&all), NULL);
        assert_int_equal(f.cache.flags & MIME_CACHE_FIELDS,
                         more == 0 ? MIME_CACHE_FIELDS : 0);
        assert_int_equal(f.cache.fields.n, more == 0 ? 4096 : 0);
        fixture_free(&f);
    }

    /* Nor is anything of a header of over 1 MiB. */
    buf_clear(&all);
    buf_add_str(&all, "To: x\r\nX-Other: ");
    while (all.n < 1U << 20)
        buf_add_byte(&all, 'a');
    buf_add_str(&all, "\r\n\r\n");
    fixture_make_limited(&f, buf_span(&all), NULL);
    assert_int_equal(f.cache.flags & MIME_CACHE_FIELDS, 0);
    fixture_free(&f);
    buf_free(&all);
}

static void
test_which_fields_are_kept(void **state)
{
    static const char *const some[] = {
        "FROM",        "to",
        "Cc",          "bcc",
        "subject",     "DATE",
        "Message-Id",  "References",
        "In-Reply-To", "Reply-To",
        "Sender",      "Content-Type",
        "X-Priority",  "List-Id",
        "Newsgroups",  "Importance",
        "List-Post",   "Priority",
        "User-Agent",  "X-Universally-Unique-Identifier",
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(some); i++)
        assert_true(mime_cache_keeps(span_str(some[i])));
    assert_false(mime_cache_keeps(SPAN_EMPTY));
    assert_false(mime_cache_keeps(SPAN_LIT("Received")));
    assert_false(mime_cache_keeps(SPAN_LIT("Fro")));
    assert_false(mime_cache_keeps(SPAN_LIT("Too")));
    assert_false(
        mime_cache_keeps(SPAN_LIT("X-Universally-Unique-Identifier-And-More")));
}

static void
test_record_respects_the_maximum(void **state)
{
    struct mime_message *m = NULL;
    struct buf out = BUF_MAX(100);
    (void)state;

    mime_parse(SPAN_ARRAY(nasty), NULL, &m);
    mime_cache_encode(m, &out);
    assert_true(out.full);
    assert_true(out.n <= 100);
    mime_message_free(&m);
    mime_message_free(&m);
    buf_free(&out);
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
        cmocka_unit_test(test_depth_limit_makes_an_opaque_leaf),
        cmocka_unit_test(test_part_limit_gives_the_rest_to_the_last),
        cmocka_unit_test(test_header_limits_leave_fields_out),
        cmocka_unit_test(test_hostile_messages_take_linear_time),
        cmocka_unit_test(test_message_cut_anywhere_parses),
        cmocka_unit_test(test_record_golden_bytes),
        cmocka_unit_test(test_lines_of_a_plain_body_are_its_line_feeds),
        cmocka_unit_test(test_record_refuses_damage),
        cmocka_unit_test(test_fields_are_kept_as_they_are),
        cmocka_unit_test(test_which_fields_are_kept),
        cmocka_unit_test(test_record_respects_the_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
