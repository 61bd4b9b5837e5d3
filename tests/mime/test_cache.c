/*
 * tests/mime/test_cache.c - mime/cache.c: the record's bytes, damage, which
 * fields of the header it keeps.
 */
#include <stdlib.h>

#include "messagetest.h"

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
        cmocka_unit_test(test_record_golden_bytes),
        cmocka_unit_test(test_record_refuses_damage),
        cmocka_unit_test(test_fields_are_kept_as_they_are),
        cmocka_unit_test(test_which_fields_are_kept),
        cmocka_unit_test(test_record_respects_the_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
