/*
 * tests/csync/test_dlist.c - the text form: what Cyrus 3.6 prints is read, what
 * we print is what it prints, and every cut asks for more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "csync/dlist.h"

static enum parse
parse(const char *text, struct arena *a, struct dlist **ret, size_t *used)
{
    struct error err = {0};

    return dlist_parse(span_str(text), &dlist_default_limits, a, ret, used,
                       &err);
}

static const char sample[] =
    "MAILBOX %(UNIQUEID abc MBOXNAME \"user.john.Foo Bar\" UIDVALIDITY 17 "
    "ACL \"john\tlrs\t\" NOTE {7+}\r\na\"b%c\r\n RECORD (%(UID 1 FLAGS (\\Seen "
    "$x)) NIL) EMPTY \"\" Q \"a\\\"b\")\r\n";

static void
test_dlist_of_all_kinds_is_read(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    struct dlist *d = NULL;
    struct span text;
    uint32_t n = 0;
    size_t used = 0;

    assert_int_equal(parse(sample, &a, &d, &used), PARSE_DONE);
    assert_int_equal(used, sizeof(sample) - 1);
    assert_true(span_eq_str(d->name, "MAILBOX"));
    assert_true(dlist_get_text(d, "MBOXNAME", &text));
    assert_true(span_eq_str(text, "user.john.Foo Bar"));
    assert_true(dlist_get_u32(d, "UIDVALIDITY", &n));
    assert_int_equal(n, 17);
    assert_true(dlist_get_text(d, "NOTE", &text));
    assert_true(span_eq_str(text, "a\"b%c\r\n"));
    assert_true(dlist_get_text(d, "EMPTY", &text));
    assert_int_equal(text.n, 0);
    assert_true(dlist_get_text(d, "Q", &text));
    assert_true(span_eq_str(text, "a\"b"));
    assert_false(dlist_get_text(d, "mboxname", &text)); /* case counts */
    const struct dlist *records = dlist_get(d, "RECORD");
    assert_int_equal(records->type, DLIST_LIST);
    assert_int_equal(records->child->type, DLIST_KVLIST);
    assert_int_equal(records->child->next->type, DLIST_NIL);
    arena_free(&a);
}

static void
test_dlist_cut_anywhere_asks_for_more(void **state)
{
    (void)state;
    struct error err = {0};

    for (size_t cut = 0; cut < sizeof(sample) - 1; cut++) {
        struct arena a = ARENA_INIT;
        struct dlist *d = NULL;
        size_t used = 0;
        assert_int_equal(dlist_parse(span_of(sample, cut),
                                     &dlist_default_limits, &a, &d, &used,
                                     &err),
                         PARSE_MORE);
        arena_free(&a);
    }
}

static void
test_dlist_over_a_limit_is_bad_before_it_is_there(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "A {131073+}\r\n",
        "A {99999999999999999999999999}\r\n",
        "A %{p 41fb199b014628269bde377a0536cf9f50de7e26 99999999999}\r\n",
        "A {12x}\r\n",
        "A b c\r\n",
        "A \"a\r\n\"\r\n",
        "A ((((((((((((((((((((((((((((((((((\r\n",
        "A %{p nothex 3}\r\nabc\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct arena a = ARENA_INIT;
        struct dlist *d = NULL;
        size_t used = 0;
        assert_int_equal(parse(texts[i], &a, &d, &used), PARSE_BAD);
        arena_free(&a);
    }
}

static void
test_bad_line_is_skipped_to_its_end(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    struct dlist *d = NULL;
    size_t used = 0;

    assert_int_equal(parse("A b c d\r\nB c\r\n", &a, &d, &used), PARSE_BAD);
    assert_int_equal(used, 9);
    arena_free(&a);
}

/* The exact rule of csync.md 2.2, seen on the wire. */
static void
test_strings_print_as_atoms_quoted_or_literals(void **state)
{
    (void)state;
    struct buf out = BUF_INIT;
    struct dlist_printer p;

    dlist_print_begin(&p, &out, DLIST_CLIENT);
    dlist_open_kv(&p, "X");
    dlist_str(&p, "A", "user.john");
    dlist_str(&p, "B", "");
    dlist_str(&p, "C", "NIL");
    dlist_str(&p, "D", "two words");
    dlist_str(&p, "E", "a\tb");
    dlist_str(&p, "F", "my \"comment\" %x");
    dlist_str(&p, "G", NULL);
    dlist_u64(&p, "H", UINT64_MAX);
    dlist_open_list(&p, "I");
    dlist_u64(&p, NULL, 1);
    dlist_u64(&p, NULL, 2);
    dlist_close(&p);
    dlist_hex64(&p, "J", 255);
    dlist_close(&p);
    assert_string_equal(
        buf_cstr(&out),
        "X %(A user.john B \"\" C \"NIL\" D \"two words\" E \"a\tb\" F "
        "{15+}\r\nmy \"comment\" %x G NIL H 18446744073709551615 I (1 2) J "
        "00000000000000ff)");
    buf_clear(&out);
    dlist_print_begin(&p, &out, DLIST_SERVER);
    dlist_str(&p, "F", "a\"b");
    assert_string_equal(buf_cstr(&out), "F {3}\r\na\"b");
    buf_free(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dlist_of_all_kinds_is_read),
        cmocka_unit_test(test_dlist_cut_anywhere_asks_for_more),
        cmocka_unit_test(test_dlist_over_a_limit_is_bad_before_it_is_there),
        cmocka_unit_test(test_bad_line_is_skipped_to_its_end),
        cmocka_unit_test(test_strings_print_as_atoms_quoted_or_literals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
