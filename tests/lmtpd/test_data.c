/*
 * tests/lmtpd/test_data.c - what the bytes after DATA stand for; every case
 * whole and in two pieces, cut at each byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "lmtpd/data.h"

struct seen {
    struct buf raw;
    struct buf kept;
};

static void
on_raw(void *ctx, struct span bytes)
{
    buf_add(&((struct seen *)ctx)->raw, bytes);
}

static void
on_kept(void *ctx, struct span bytes)
{
    buf_add(&((struct seen *)ctx)->kept, bytes);
}

static const struct {
    const char *in;
    const char *raw;
    const char *kept; /* NULL: as raw */
    const char *left; /* NULL: the end is not in it */
} cases[] = {
    {".\r\n", "", NULL, ""},
    {"a\r\n.\r\nQUIT\r\n", "a\r\n", NULL, "QUIT\r\n"},
    {"a: b\r\n\r\nc\r\n\r\n.\r\n", "a: b\r\n\r\nc\r\n\r\n", NULL, ""},
    {"..\r\n...\r\n.a\r\n.\r\n", ".\r\n..\r\na\r\n", NULL, ""},
    /* Bare line feeds and carriage returns (no second envelope by them). */
    {"a\nb\r\n.\r\n", "a\r\nb\r\n", NULL, ""},
    {"a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", NULL, ""},
    {"a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", NULL, ""},
    {"a\r\n.\nb\r\n.\r\n", "a\r\n\r\nb\r\n", NULL, ""},
    {"a\r.\r\nb\r\n.\r\n", "a.\r\nb\r\n", NULL, ""},
    {"a\r\n.\rb\r\n.\r\n", "a\r\nb\r\n", NULL, ""},
    {"a\r\r\nb\r\n.\r\r\n.\r\n", "a\r\nb\r\n\r\n", NULL, ""},
    {"\n.\n.\r\n\r\n.\r\n", "\r\n.\r\n.\r\n\r\n", NULL, ""},
    {"\n\r\n.\r\n", "\r\n\r\n", NULL, ""},
    /* The end is not there. */
    {"", "", NULL, NULL},
    {"a\r\n.", "a\r\n", NULL, NULL},
    {"a\r\n.\r", "a\r\n", NULL, NULL},
    {"a.\r\n", "a.\r\n", NULL, NULL},
    /* Return-Path goes, with its folds, from the header only. */
    {"Return-Path: <a>\r\nB: c\r\n\r\nReturn-Path: x\r\n.\r\n",
     "Return-Path: <a>\r\nB: c\r\n\r\nReturn-Path: x\r\n",
     "B: c\r\n\r\nReturn-Path: x\r\n", ""},
    {"A: b\r\nRETURN-path:\r\n <a>\r\n\t(c)\r\nD: e\r\n fold\r\n.\r\n",
     "A: b\r\nRETURN-path:\r\n <a>\r\n\t(c)\r\nD: e\r\n fold\r\n",
     "A: b\r\nD: e\r\n fold\r\n", ""},
    {"Return-Path: a\r\nReturn-Path: b\r\n\r\n.\r\n",
     "Return-Path: a\r\nReturn-Path: b\r\n\r\n", "\r\n", ""},
    {"Return-Pat\r\nReturn-Paths: x\r\nRet\r\nReturn-Path : y\r\n.\r\n",
     "Return-Pat\r\nReturn-Paths: x\r\nRet\r\nReturn-Path : y\r\n", NULL, ""},
    {"A: Return-Path: b\r\n Return-Path: c\r\n.\r\n",
     "A: Return-Path: b\r\n Return-Path: c\r\n", NULL, ""},
};

static void
check(size_t i, size_t cut)
{
    struct seen seen = {0};
    struct lmtp_data d = {0};
    bool end = false;
    struct span in = span_str(cases[i].in);
    const char *kept = cases[i].kept != NULL ? cases[i].kept : cases[i].raw;

    size_t used =
        lmtp_data_take(&d, span_sub(in, 0, cut), on_raw, on_kept, &seen, &end);
    if (!end) {
        assert_int_equal(used, MIN(cut, in.n));
        used += lmtp_data_take(&d, span_skip(in, used), on_raw, on_kept, &seen,
                               &end);
    }
    if (!span_eq_str(buf_span(&seen.raw), cases[i].raw) ||
        !span_eq_str(buf_span(&seen.kept), kept))
        fail_msg("case %zu cut at %zu: raw \"%s\" kept \"%s\"", i, cut,
                 buf_cstr(&seen.raw), buf_cstr(&seen.kept));
    assert_int_equal(end, cases[i].left != NULL);
    assert_int_equal(used, end ? in.n - strlen(cases[i].left) : in.n);
    assert_false(d.has_nul);
    buf_free(&seen.raw);
    buf_free(&seen.kept);
}

static void
test_message_is_what_its_bytes_stand_for_cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t cut = 0; cut <= strlen(cases[i].in); cut++)
            check(i, cut);
}

static void
test_nul_anywhere_is_seen(void **state)
{
    const struct span with[] = {
        SPAN_LIT("\0a\r\n.\r\n"), SPAN_LIT("a\0b\r\n.\r\n"),
        SPAN_LIT(".\0\r\n.\r\n"), SPAN_LIT("a\r\0\n.\r\n\r\n.\r\n")};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(with); i++) {
        struct lmtp_data d = {0};
        bool end = false;
        size_t used = lmtp_data_take(&d, with[i], NULL, NULL, NULL, &end);
        assert_int_equal(used, with[i].n);
        assert_true(end && d.has_nul);
    }
}

/* IN in pieces of STEP bytes. */
static void
take_in_steps(struct span in, size_t step, struct lmtp_data *d,
              struct seen *seen)
{
    bool end = false;

    for (size_t at = 0; at < in.n && !end; at += step)
        (void)lmtp_data_take(d, span_sub(in, at, step), on_raw, on_kept, seen,
                             &end);
    assert_true(end);
}

/* Many bytes of a line are looked at at once: a special one at each place of
 * it, in header and body, means what it means to who takes single bytes. */
static void
test_special_byte_at_each_place_of_a_long_line(void **state)
{
    enum { LINE = 50 };
    static const uint8_t special[] = {'\r', '\n',   0,    '\t',
                                      1,    13 + 1, 0x8d, 255};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(special) * LINE * 2; i++) {
        const uint8_t c = special[i % ARRAY_LEN(special)];
        const size_t at = i / ARRAY_LEN(special) % LINE;
        const bool in_body = i / ARRAY_LEN(special) >= LINE;
        struct lmtp_data whole = {0}, single = {0};
        struct seen seen = {0}, want = {0};
        struct buf in = BUF_INIT;

        buf_add_str(&in, in_body ? "A: b\r\n\r\nc\r\n" : "A: b\r\n");
        for (size_t k = 0; k < LINE; k++)
            buf_add_byte(&in, k == at ? c : 'x');
        buf_add_str(&in, "\r\nlast\r\n.\r\n");
        take_in_steps(buf_span(&in), in.n, &whole, &seen);
        take_in_steps(buf_span(&in), 1, &single, &want);
        assert_true(span_eq(buf_span(&seen.raw), buf_span(&want.raw)));
        assert_true(span_eq(buf_span(&seen.kept), buf_span(&want.kept)));
        assert_int_equal(whole.has_nul, c == 0);
        assert_int_equal(single.has_nul, c == 0);
        /* A bare LF is made CRLF, a bare CR left out. */
        assert_int_equal(seen.raw.n, in.n - 3 + (c == '\n') - (c == '\r'));
        buf_free(&seen.raw);
        buf_free(&seen.kept);
        buf_free(&want.raw);
        buf_free(&want.kept);
        buf_free(&in);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_is_what_its_bytes_stand_for_cut_anywhere),
        cmocka_unit_test(test_nul_anywhere_is_seen),
        cmocka_unit_test(test_special_byte_at_each_place_of_a_long_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
