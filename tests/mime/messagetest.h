/*
 * tests/mime/messagetest.h - a message with its record, and what tests look up
 * in it.
 */
#ifndef POLLUX_TESTS_MESSAGETEST_H
#define POLLUX_TESTS_MESSAGETEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/lib/mime_check.h"
#include "mime/message.h"

/* All of a char array but the NUL at its end. */
#define SPAN_ARRAY(a) span_of(a, sizeof(a) - 1)

/* The complex message of RFC 3501, 6.4.5, with an envelope of odd addresses. */
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

/* A message with its record; the record is checked when it is made. */
struct fixture {
    struct span raw;
    struct buf record;
    struct mime_cache cache;
};

static inline void
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

static inline void
fixture_make(struct fixture *f, const char *raw)
{
    fixture_make_limited(f, span_str(raw), NULL);
}

static inline void
fixture_free(struct fixture *f)
{
    buf_free(&f->record);
}

static inline void
assert_span(struct span s, const char *want)
{
    if (!span_eq_str(s, want))
        fail_msg("got:  %.*s\nwant: %s", SPAN_FMT(s), want);
}

static inline void
assert_section(const struct fixture *f, const char *path, const char *want)
{
    struct mime_section s;

    if (mime_section_find(&f->cache, span_str(path), &s) != ERR_OK)
        fail_msg("no section %s", path);
    assert_span(mime_section_bytes(f->raw, &s), want);
}

static inline void
assert_no_section(const struct fixture *f, const char *path, enum errcode code)
{
    struct mime_section s;
    assert_int_equal(mime_section_find(&f->cache, span_str(path), &s), code);
}

#endif
