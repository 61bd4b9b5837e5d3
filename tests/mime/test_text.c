/*
 * tests/mime/test_text.c - transfer encodings, charsets, encoded words, case,
 * base subjects, searching.  Every decoder also gets its input in two pieces,
 * cut at each byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mime/text.h"

#define SPAN_ARRAY(a) span_of(a, sizeof(a) - 1)

static void
assert_span(struct span s, const char *want)
{
    if (!span_eq_str(s, want))
        fail_msg("got:  %.*s\nwant: %s", SPAN_FMT(s), want);
}

static void
test_transfer_decoding_whole_and_cut(void **state)
{
    static const struct {
        enum mime_encoding encoding;
        const char *in;
        const char *want;
    } cases[] = {
        {MIME_ENC_BASE64, "", ""},
        {MIME_ENC_BASE64, "YQ==", "a"},
        {MIME_ENC_BASE64, "YWI=", "ab"},
        {MIME_ENC_BASE64, "YWJj", "abc"},
        {MIME_ENC_BASE64, "Y W\r\nJ!j", "abc"},
        {MIME_ENC_BASE64, "YQ==YWI=", "aab"},
        {MIME_ENC_BASE64, "YWI", "ab"},
        {MIME_ENC_BASE64, "YWJjY", "abc"},
        {MIME_ENC_BASE64, "====YWJj", "abc"},
        {MIME_ENC_QP, "", ""},
        {MIME_ENC_QP, "a=3Db=\r\nc", "a=bc"},
        {MIME_ENC_QP, "a=3db= \t\r\nc=\nd", "a=bcd"},
        {MIME_ENC_QP, "a  \r\nb\t\nc \t", "a\r\nb\nc"},
        {MIME_ENC_QP, "a \tb\rc", "a \tb\rc"},
        {MIME_ENC_QP, "=", ""},
        {MIME_ENC_QP, "a=\r", "a"},
        {MIME_ENC_QP, "=4", "=4"},
        {MIME_ENC_QP, "=4=41", "=4A"},
        {MIME_ENC_QP, "==41", "=A"},
        {MIME_ENC_QP, "=XY =4\r\n", "=XY =4\r\n"},
        {MIME_ENC_QP, "= x", "= x"},
        {MIME_ENC_7BIT, "=41", "=41"},
        {MIME_ENC_UNKNOWN, "YQ==", "YQ=="},
    };
    struct buf out = BUF_INIT;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span in = span_str(cases[i].in);
        for (size_t cut = 0; cut <= in.n; cut++) {
            struct mime_decoder d;
            buf_clear(&out);
            mime_decoder_init(&d, cases[i].encoding);
            mime_decoder_push(&d, span_sub(in, 0, cut), &out);
            mime_decoder_push(&d, span_skip(in, cut), &out);
            mime_decoder_finish(&d, &out);
            if (!span_eq_str(buf_span(&out), cases[i].want))
                fail_msg("%s cut at %zu: %.*s", cases[i].in, cut,
                         SPAN_FMT(buf_span(&out)));
        }
    }
    buf_free(&out);
}

static void
test_decoding_is_bounded(void **state)
{
    struct buf out = BUF_MAX(4);
    struct buf in = BUF_INIT;
    (void)state;

    mime_decode(MIME_ENC_BASE64, SPAN_LIT("YWJjZGVmZ2hp"), &out);
    assert_true(out.full && out.n <= 4);
    buf_free(&out);

    out = BUF_INIT;
    for (int i = 0; i < 1000; i++)
        buf_add_byte(&in, ' ');
    buf_add_str(&in, "x");
    mime_decode(MIME_ENC_QP, buf_span(&in), &out);
    assert_int_equal(out.n, 1001);
    buf_free(&in);
    buf_free(&out);
}

static void
test_encoding_names(void **state)
{
    (void)state;

    assert_int_equal(mime_encoding_parse(SPAN_EMPTY), MIME_ENC_7BIT);
    assert_int_equal(mime_encoding_parse(SPAN_LIT(" 8BIT ")), MIME_ENC_8BIT);
    assert_int_equal(mime_encoding_parse(SPAN_LIT("Base64 (x)")),
                     MIME_ENC_BASE64);
    assert_int_equal(mime_encoding_parse(SPAN_LIT("quoted-printable;")),
                     MIME_ENC_QP);
    assert_int_equal(mime_encoding_parse(SPAN_LIT("binary")), MIME_ENC_BINARY);
    assert_int_equal(mime_encoding_parse(SPAN_LIT("x-uuencode")),
                     MIME_ENC_UNKNOWN);
}

static void
test_charsets(void **state)
{
    static const struct {
        const char *charset;
        const char *in;
        const char *want;
        bool known;
    } cases[] = {
        {"utf-8", "gr\xC3\xBC\xC3\x9F", "gr\xC3\xBC\xC3\x9F", true},
        {"UTF-8", "a\xFCz", "a\xEF\xBF\xBDz", true},
        {"utf-8", "a\xED\xA0\x80", "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD",
         true},
        {"", "gr\xC3\xBC \xFC\x80", "gr\xC3\xBC \xC3\xBC\xE2\x82\xAC", false},
        {"us-ascii", "a\xE4", "a\xC3\xA4", true},
        {"no-such-charset", "a\xE4", "a\xC3\xA4", false},
        {"utf-8/../x", "a", "a", false},
        {"a,b", "a", "a", false},
        {"ISO-8859-1", "\xE4\x80", "\xC3\xA4\xE2\x82\xAC", true},
        {"iso-8859-15", "\xA4", "\xE2\x82\xAC", true},
        {"windows-1251", "\xCF\xF0", "\xD0\x9F\xD1\x80", true},
        {"koi8-r", "\xF0\xD2", "\xD0\x9F\xD1\x80", true},
        {"iso-2022-jp", "\x1B$B$\"\x1B(B.", "\xE3\x81\x82.", true},
        {"shift_jis", "\x82\xA0", "\xE3\x81\x82", true},
        {"gb18030", "\xC4\xE3\x94\x39\xDA\x33", "\xE4\xBD\xA0\xF0\x9F\x92\xA9",
         true},
        {"utf-7", "+AOQ-x", "\xC3\xA4x", true},
        {"utf-16be", "\xD8\x3D\xDC\xA9", "\xF0\x9F\x92\xA9", true},
    };
    struct buf out = BUF_INIT;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_clear(&out);
        bool known = mime_charset_to_utf8(span_str(cases[i].charset),
                                          span_str(cases[i].in), &out);
        if (!span_eq_str(buf_span(&out), cases[i].want))
            fail_msg("%s: %.*s", cases[i].charset, SPAN_FMT(buf_span(&out)));
        assert_int_equal(known, cases[i].known);
        assert_int_equal(mime_charset_known(span_str(cases[i].charset)),
                         cases[i].known);
    }
    /* A cut one, and a NUL, which is text like any other. */
    buf_clear(&out);
    mime_charset_to_utf8(SPAN_LIT("gb18030"), SPAN_LIT("a\xC4"), &out);
    assert_span(buf_span(&out), "a\xEF\xBF\xBD");
    assert_false(mime_charset_known(SPAN_LIT("utf-8\0")));
    buf_free(&out);
}

/* RFC 2047, 8; RFC 2231, 5; and what is seen in the wild. */
static void
test_encoded_words(void **state)
{
    static const struct {
        const char *in;
        const char *want;
    } cases[] = {
        {"", ""},
        {" plain \r\n text ", "plain  text"},
        {"=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>",
         "Keith Moore <moore@cs.utk.edu>"},
        {"=?ISO-8859-1?Q?Andr=E9?= Pirard", "Andr\xC3\xA9 Pirard"},
        {"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n "
         "=?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
         "If you can read this you understand the example."},
        {"(=?ISO-8859-1?Q?a?= b)", "(a b)"},
        {"(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"},
        {"(=?ISO-8859-1?Q?a?=\r\n       =?ISO-8859-1?Q?b?=)", "(ab)"},
        {"(=?ISO-8859-1?Q?a_b?=)", "(a b)"},
        {"(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"},
        {"=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"},
        /* A character cut between two words. */
        {"=?utf-8?B?w6Q=?= =?utf-8?Q?=C3?= =?UTF-8?q?=A4?=",
         "\xC3\xA4\xC3\xA4"},
        {"=?utf-8?Q?a b?=c=?utf-8?Q?d?=", "a bcd"},
        {"a=?utf-8?X?b?= =?utf-8?Q?b =?utf-8?Q?c?=",
         "a=?utf-8?X?b?= =?utf-8?Q?b c"},
        {"=?utf-8?Q?", "=?utf-8?Q?"},
        {"=?utf-8?Q?"
         "?=",
         ""},
        {"=?", "=?"},
        {"=??Q?a?=", "=??Q?a?="},
        {"=?utf-8?Q?=4?=", "=4"},
        {"=?unknown-8bit?Q?=E4?=", "\xC3\xA4"},
        {"roh \xE4 \xC3\xA4", "roh \xC3\xA4 \xC3\xA4"},
    };
    struct buf out = BUF_INIT;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_clear(&out);
        mime_header_decode(span_str(cases[i].in), &out);
        if (!span_eq_str(buf_span(&out), cases[i].want))
            fail_msg("%s: %.*s", cases[i].in, SPAN_FMT(buf_span(&out)));
    }
    buf_free(&out);
}

/* RFC 5051, 2. */
static void
test_casemap(void **state)
{
    static const char *const same[][2] = {
        {"abc XYZ", "ABC xyz"},
        {"gr\xC3\xBCn", "GR\xC3\x9CN"},           /* ue */
        {"u\xCC\x88", "\xC3\x9C"},                /* composed or not */
        {"\xD0\xBF\xD1\x80", "\xD0\x9F\xD0\xA0"}, /* Cyrillic */
        {"\xCE\xA3\xCF\x83\xCF\x82", "\xCE\xA3\xCE\xA3\xCE\xA3"}, /* sigma */
        {"\xEA\xB0\x80", "\xE1\x84\x80\xE1\x85\xA1"},             /* Hangul */
    };
    struct buf a = BUF_INIT;
    struct buf b = BUF_INIT;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        buf_clear(&a);
        buf_clear(&b);
        mime_casemap(span_str(same[i][0]), &a);
        mime_casemap(span_str(same[i][1]), &b);
        if (!span_eq(buf_span(&a), buf_span(&b)))
            fail_msg("%s %s", same[i][0], same[i][1]);
    }
    buf_clear(&a);
    mime_casemap(SPAN_LIT("a\xFF"
                          "b"),
                 &a);
    assert_span(buf_span(&a), "A\xFF"
                              "B");
    buf_free(&a);
    buf_free(&b);
}

/* RFC 5256, 2.1. */
static void
test_base_subjects(void **state)
{
    static const struct {
        const char *in;
        const char *want;
        bool reply;
    } cases[] = {
        {"", "", false},
        {" a  b\t\r\n c ", "a b c", false},
        {"Re: a", "a", true},
        {"RE: re : Fwd:FW: a", "a", true},
        {"Re[2]: a", "a", true},
        {"re [x] : a", "a", true},
        {"[list] Re: [list] a", "a", true},
        {"[list] a", "a", false},
        {"[list]", "[list]", false},
        {"[a][b] ", "[b]", false},
        {"[a] [b] c", "c", false},
        {"a (fwd)", "a", true},
        {"a (fwd) (FWD)", "a", true},
        {"[Fwd: a]", "a", true},
        {"[fwd: Re: [fwd: a (fwd)]]", "a", true},
        {"[fwd: a", "[fwd: a", false},
        {"Re:", "", true},
        {"Rex: a", "Rex: a", false},
        {"Fwd a", "Fwd a", false},
        {"=?utf-8?Q?Re:_=C3=A4?=", "\xC3\xA4", true},
        {"[a[b] c", "[a[b] c", false},
        {"[unclosed", "[unclosed", false},
        {"Re: [x", "[x", true},
    };
    struct buf out = BUF_INIT;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_clear(&out);
        bool reply = mime_base_subject(span_str(cases[i].in), &out);
        if (!span_eq_str(buf_span(&out), cases[i].want) ||
            reply != cases[i].reply)
            fail_msg("%s: %.*s %d", cases[i].in, SPAN_FMT(buf_span(&out)),
                     reply);
    }
    buf_free(&out);
}

/* ---- search ---- */

static bool
found(struct span raw, const char *text, enum mime_search_where where)
{
    struct mime_message *m = NULL;
    struct buf record = BUF_INIT;
    struct mime_cache cache;
    struct mime_needle *needle = mime_needle_new(span_str(text));

    mime_parse(raw, NULL, &m);
    mime_cache_encode(m, &record);
    assert_int_equal(mime_cache_decode(buf_span(&record), &cache, NULL),
                     ERR_OK);
    bool yes = mime_text_search(&cache, raw, needle, where);
    mime_needle_free(&needle);
    mime_needle_free(&needle);
    mime_message_free(&m);
    buf_free(&record);
    return yes;
}

static void
test_search_reads_as_a_person_does(void **state)
{
    static const char raw[] =
        "Subject: =?iso-8859-1?Q?Gr=FC=DFe?=\r\n aus Rom\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n"
        "\r\n"
        "preamble\r\n"
        "--b\r\n"
        "Content-Type: text/plain; charset=iso-8859-1\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n"
        "\r\n"
        "Sch=F6nes We=\r\ntter\r\n"
        "--b\r\n"
        "Content-Type: text/plain; charset=koi8-r\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        "\r\n"
        "8NLJ18XU\r\n"
        "--b\r\n"
        "Content-Type: image/png; name=bild.png\r\n"
        "\r\n"
        "secret\r\n"
        "--b\r\n"
        "Content-Type: message/rfc822\r\n"
        "\r\n"
        "Subject: innen\r\n"
        "\r\n"
        "drin\r\n"
        "--b--\r\n";
    struct span m = SPAN_ARRAY(raw);
    (void)state;

    assert_true(found(m,
                      "GR\xC3\x9C\xC3\x9F"
                      "E AUS",
                      MIME_SEARCH_HEADER));
    assert_true(found(m, "subject: gr", MIME_SEARCH_TEXT));
    assert_false(found(m, "aus rom", MIME_SEARCH_BODY));
    assert_true(found(m, "sch\xC3\xB6NES wetter", MIME_SEARCH_BODY));
    assert_true(found(m, "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2", /* Priv */
                      MIME_SEARCH_TEXT));
    assert_false(found(m, "wetter", MIME_SEARCH_HEADER));
    assert_false(found(m, "secret", MIME_SEARCH_TEXT));
    assert_true(found(m, "BILD.png", MIME_SEARCH_BODY));
    assert_false(found(m, "BILD.png", MIME_SEARCH_HEADER));
    assert_true(found(m, "innen", MIME_SEARCH_BODY));
    assert_true(found(m, "drin", MIME_SEARCH_BODY));
    assert_false(found(m, "nirgends", MIME_SEARCH_TEXT));
    assert_true(found(m, "", MIME_SEARCH_HEADER));
}

/* A hit across the border of two chunks, at every distance. */
static void
test_search_across_chunks(void **state)
{
    (void)state;

    for (size_t pad = 16370; pad < 16400; pad++) {
        struct buf raw = BUF_INIT;
        buf_add_str(&raw, "Content-Type: text/plain; charset=utf-8\n\n");
        for (size_t i = 0; i < pad; i++)
            buf_add_byte(&raw, 'x');
        buf_add_str(&raw, "n\xC3\xA4"
                          "del im Heu");
        assert_true(found(buf_span(&raw),
                          "N\xC3\x84"
                          "del im heu",
                          MIME_SEARCH_BODY));
        assert_false(found(buf_span(&raw), "nadel", MIME_SEARCH_BODY));
        buf_free(&raw);
    }
}

static void
test_header_search(void **state)
{
    struct span block = SPAN_LIT("From: =?utf-8?Q?J=C3=BCrgen?= <j@x.example>"
                                 "\r\nX-Empty:\r\nFrom: second\r\n\r\n");
    struct mime_needle *n = mime_needle_new(SPAN_LIT("J\xC3\x9CRGEN <J@"));
    struct mime_needle *second = mime_needle_new(SPAN_LIT("SECOND"));
    struct mime_needle *empty = mime_needle_new(SPAN_EMPTY);
    (void)state;

    assert_true(mime_header_search(block, SPAN_LIT("from"), n));
    assert_true(mime_header_search(block, SPAN_LIT("from"), second));
    assert_false(mime_header_search(block, SPAN_LIT("to"), n));
    assert_true(mime_header_search(block, SPAN_LIT("x-empty"), empty));
    assert_false(mime_header_search(block, SPAN_LIT("x-absent"), empty));
    assert_true(mime_needle_in(empty, SPAN_EMPTY));
    mime_needle_free(&n);
    mime_needle_free(&second);
    mime_needle_free(&empty);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transfer_decoding_whole_and_cut),
        cmocka_unit_test(test_decoding_is_bounded),
        cmocka_unit_test(test_encoding_names),
        cmocka_unit_test(test_charsets),
        cmocka_unit_test(test_encoded_words),
        cmocka_unit_test(test_casemap),
        cmocka_unit_test(test_base_subjects),
        cmocka_unit_test(test_search_reads_as_a_person_does),
        cmocka_unit_test(test_search_across_chunks),
        cmocka_unit_test(test_header_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
