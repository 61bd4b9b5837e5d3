/*
 * tests/imapd/test_reader.c - lines and literals become commands: one script,
 * fed whole and in pieces of every size, gives the same events; limits hold
 * whatever comes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "imapd/reader.h"

static const struct imap_reader_limits limits = {.line_bytes = 100,
                                                 .command_bytes = 300};

/* What a caller does with literals. */
enum policy { KEEP, STREAM, REFUSE };

/* Feed IN in pieces of PIECE bytes; the events as text. */
static void
run(struct span in, size_t piece, enum policy policy, struct buf *log)
{
    struct imap_reader r;
    struct buf pending = BUF_INIT, streamed = BUF_INIT;
    size_t fed = 0;

    imap_reader_init(&r, &limits);
    for (;;) {
        size_t used = 0;
        enum imap_read what = imap_reader_take(&r, buf_span(&pending), &used);
        switch (what) {
        case IMAP_READ_MORE:
            break;
        case IMAP_READ_COMMAND:
            buf_add_str(log, "C<");
            buf_add(log, buf_span(&r.text));
            buf_add_str(log, ">");
            break;
        case IMAP_READ_DECIDE:
            if (policy == STREAM) {
                imap_reader_stream(&r);
            } else if (policy == REFUSE || !imap_reader_keep(&r)) {
                imap_reader_refuse(&r);
                buf_add_str(log, "R");
            }
            break;
        case IMAP_READ_CHUNK:
            buf_add(&streamed, r.chunk);
            break;
        case IMAP_READ_STREAMED:
            buf_add_str(log, "S<");
            buf_add(log, buf_span(&streamed));
            buf_add_str(log, ">");
            buf_clear(&streamed);
            break;
        case IMAP_READ_TOO_LONG:
            buf_add_str(log, "L");
            break;
        case IMAP_READ_SKIPPED:
            buf_add_str(log, "K");
            break;
        }
        assert_true(r.text.n <= limits.command_bytes + 2);
        buf_drop(&pending, used);
        if (what != IMAP_READ_MORE)
            continue;
        if (fed == in.n)
            break;
        size_t n = piece < in.n - fed ? piece : in.n - fed;
        buf_add(&pending, span_sub(in, fed, n));
        fed += n;
    }
    imap_reader_free(&r);
    buf_free(&pending);
    buf_free(&streamed);
}

static void
check(const char *in, enum policy policy, const char *want)
{
    for (size_t piece = 1; piece <= strlen(in) + 1; piece++) {
        struct buf log = BUF_INIT;
        run(span_str(in), piece, policy, &log);
        assert_string_equal(buf_cstr(&log), want);
        buf_free(&log);
    }
}

static void
test_lines_and_literals_become_commands(void **state)
{
    (void)state;
    check("a noop\r\nb noop\n", KEEP, "C<a noop>C<b noop>");
    check("a LOGIN {4}\r\nfred {3+}\r\na\r\n\r\nb x\r\n", KEEP,
          "C<a LOGIN {4}\r\nfred {3+}\r\na\r\n>C<b x>");
    check("a x {0}\r\n\r\nb\r\n", KEEP, "C<a x {0}\r\n>C<b>");
}

static void
test_streamed_literals_leave_their_announcement(void **state)
{
    (void)state;
    check("a APPEND x {5+}\r\nhello\r\nb\r\n", STREAM,
          "S<hello>C<a APPEND x {5+}\r\n>C<b>");
    check("a APPEND x {0+}\r\n\r\n", STREAM, "S<>C<a APPEND x {0+}\r\n>");
}

static void
test_refused_literals_are_skipped_if_they_come(void **state)
{
    (void)state;
    /* A client that waits does not send it. */
    check("a x {5}\r\nb y\r\n", REFUSE, "RC<b y>");
    /* One that does not wait is skipped, with further literals. */
    check("a x {5+}\r\nhello {3+}\r\nb c\r\nd y\r\n", REFUSE, "RKC<d y>");
    check("a x {5+}\r\nhello {3}\r\nd y\r\n", REFUSE, "RKC<d y>");
    /* A literal that does not fit into memory is refused by keep(). */
    check("a x {99999}\r\nb\r\n", KEEP, "RC<b>");
    check("a x {99999999999999999999999}\r\nb\r\n", KEEP, "RC<b>");
}

static void
test_endless_lines_are_skipped_and_bounded(void **state)
{
    (void)state;
    char in[4000];
    size_t n = 0;

    memset(in, 'x', 3000);
    n = 3000;
    memcpy(in + n, " {4+}\r\na b\n\r\nc noop\r\n", 21);
    struct buf log = BUF_INIT;
    run(span_of(in, n + 21), 7, KEEP, &log);
    assert_string_equal(buf_cstr(&log), "LKC<c noop>");
    buf_free(&log);
    /* Many literals that fit, but not together. */
    struct buf many = BUF_INIT;
    buf_add_str(&many, "a ");
    for (int i = 0; i < 100; i++)
        buf_add_str(&many, "{5+}\r\nhello ");
    buf_add_str(&many, "\r\nb\r\n");
    run(buf_span(&many), 11, KEEP, &log);
    assert_string_equal(buf_cstr(&log), "RKC<b>");
    buf_free(&many);
    buf_free(&log);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_and_literals_become_commands),
        cmocka_unit_test(test_streamed_literals_leave_their_announcement),
        cmocka_unit_test(test_refused_literals_are_skipped_if_they_come),
        cmocka_unit_test(test_endless_lines_are_skipped_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
