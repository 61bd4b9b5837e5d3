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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_is_what_its_bytes_stand_for_cut_anywhere),
        cmocka_unit_test(test_nul_anywhere_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
