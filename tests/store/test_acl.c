/*
 * tests/store/test_acl.c - rights as letters and bits, what a user may do, and
 * changing one entry of a list.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>

#include "store/acl.h"
#include "store/types.h"

static uint32_t
parse(const char *letters)
{
    uint32_t rights = 0;
    struct error err = {0};

    assert_int_equal(acl_parse_rights(span_str(letters), &rights, &err),
                     ERR_OK);
    return rights;
}

static void
assert_letters(uint32_t rights, const char *want)
{
    struct buf b = BUF_INIT;

    acl_format_rights(rights, &b);
    assert_string_equal(buf_cstr(&b), want);
    buf_free(&b);
}

static void
test_every_letter_there_and_back(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        uint32_t rights;
        const char *out;
    } rows[] = {
        {"", 0, ""},
        {"l", ACL_LOOKUP, "l"},
        {"r", ACL_READ, "r"},
        {"s", ACL_SEEN, "s"},
        {"w", ACL_WRITE, "w"},
        {"i", ACL_INSERT, "i"},
        {"p", ACL_POST, "p"},
        {"k", ACL_CREATE, "kc"},
        {"x", ACL_DELETEMBOX, "xc"},
        {"t", ACL_DELETEMSG, "td"},
        {"e", ACL_EXPUNGE, "ed"},
        {"a", ACL_ADMIN, "a"},
        {"n", ACL_ANNOTATE, "n"},
        {"c", ACL_CREATE | ACL_DELETEMBOX, "kxc"},
        {"d", ACL_DELETEMSG | ACL_EXPUNGE, "ted"},
        {"lrswipkxtean", ACL_ALL, "lrswipkxtecdan"},
        {"nall", ACL_ADMIN | ACL_LOOKUP | ACL_ANNOTATE, "lan"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(parse(rows[i].in), rows[i].rights);
        assert_letters(rows[i].rights, rows[i].out);
    }
}

static void
test_unknown_letter_is_named(void **state)
{
    (void)state;
    uint32_t rights = 7;
    struct error err = {0};

    assert_int_equal(acl_parse_rights(SPAN_LIT("lrz"), &rights, &err),
                     ERR_SYNTAX);
    assert_non_null(strstr(err.text, "'z'"));
    assert_int_equal(acl_parse_rights(SPAN_LIT("l\t"), &rights, &err),
                     ERR_SYNTAX);
    assert_int_equal(acl_parse_rights(SPAN_LIT("L"), &rights, &err),
                     ERR_SYNTAX);
    assert_int_equal(rights, 7);
}

static void
test_rights_add_up_and_negative_ones_are_taken_off(void **state)
{
    (void)state;
    const char *acl = "john\tlrsi\tanyone\tlp\t-jane\ti\tjane\tlrsi\t"
                      "anonymous\tr\t-anyone\ts\t";

    assert_int_equal(acl_rights(acl, "john"), parse("lrip"));
    assert_int_equal(acl_rights(acl, "jane"), parse("lrp"));
    assert_int_equal(acl_rights(acl, "other"), parse("lp"));
    assert_int_equal(acl_rights(acl, NULL), parse("lrp"));
    assert_int_equal(acl_rights("", "john"), 0);
    assert_int_equal(acl_rights("john\tlr", "john"), 0);
    assert_int_equal(acl_rights("john\tl9r\t", "john"), parse("lr"));
}

/* The virtual c and d of a stored list give no member that is not named. */
static void
test_stored_lists_grant_what_they_name(void **state)
{
    struct buf b = BUF_INIT;
    struct error err = {0};

    (void)state;
    assert_int_equal(acl_rights("a\tlkc\t", "a"), ACL_LOOKUP | ACL_CREATE);
    assert_int_equal(acl_rights("a\ttd\t", "a"), ACL_DELETEMSG);
    assert_int_equal(acl_rights("a\tdc\t", "a"), parse("tekx"));
    /* A right that is given comes back as it was given. */
    for (uint32_t rights = 1; rights <= ACL_ALL; rights++) {
        buf_clear(&b);
        assert_int_equal(acl_change("", "a", '=', rights, &b, &err), ERR_OK);
        assert_int_equal(acl_rights(buf_cstr(&b), "a"), rights);
    }
    buf_free(&b);
}

static bool
is_staff(const void *ctx, struct span ident)
{
    return span_eq_str(ident, ctx) || span_eq_str(ident, "group:staff");
}

static void
test_groups_are_the_callers(void **state)
{
    (void)state;
    const char *acl = "group:staff\tlrs\tann\tw\t-group:staff\ts\t";

    assert_int_equal(acl_rights_if(acl, is_staff, "ann"), parse("lrw"));
    assert_int_equal(acl_rights_if(acl, is_staff, "bob"), parse("lr"));
    assert_int_equal(acl_rights(acl, "bob"), 0);
    /* A user of such a name is not who is denied. */
    assert_int_equal(acl_rights("-x\tlr\t", "-x"), 0);
}

static void
test_an_identifier_gets_another_name(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    acl_rename_ident("ann\tlr\tanna\tl\t-ann\ts\tbob\tlz9\t", "ann", "eve", &b);
    assert_string_equal(buf_cstr(&b), "eve\tlr\tanna\tl\t-eve\ts\tbob\tlz9\t");
    buf_free(&b);
}

/* What becomes of ACL; valid until the next call. */
static const char *
change(const char *acl, const char *ident, char mode, const char *letters)
{
    static char text[256];
    struct buf b = BUF_INIT;
    struct error err = {0};

    assert_int_equal(acl_change(acl, ident, mode, parse(letters), &b, &err),
                     ERR_OK);
    assert_true(b.n < sizeof(text));
    snprintf(text, sizeof(text), "%s", buf_cstr(&b));
    buf_free(&b);
    return text;
}

static void
test_one_entry_changes_and_the_others_stay(void **state)
{
    (void)state;
    const char *acl = "john\tlr\tjane\tl0z\t";

    assert_string_equal(change("", "john", '=', "lr"), "john\tlr\t");
    assert_string_equal(change(acl, "john", '=', "i"), "john\ti\tjane\tl0z\t");
    assert_string_equal(change(acl, "john", '+', "i"),
                        "john\tlri\tjane\tl0z\t");
    assert_string_equal(change(acl, "john", '-', "r"), "john\tl\tjane\tl0z\t");
    assert_string_equal(change(acl, "john", '-', "lr"), "jane\tl0z\t");
    assert_string_equal(change(acl, "john", '=', ""), "jane\tl0z\t");
    assert_string_equal(change(acl, "new", '-', "l"), acl);
    assert_string_equal(change(acl, "new", '=', ""), acl);
    assert_string_equal(change(acl, "-john", '+', "l"),
                        "john\tlr\tjane\tl0z\t-john\tl\t");
    assert_string_equal(change("a\tl\tb\tl\ta\tr\t", "a", '=', "p"),
                        "a\tp\tb\tl\t");
    assert_string_equal(change("a\tl\tb\tl\ta\tr\t", "a", '+', "p"),
                        "a\tlrp\tb\tl\t");
    assert_string_equal(change("a\tl\ta\tr\t", "a", '-', "l"), "a\tr\t");
}

static void
test_bad_identifiers_and_long_lists_are_refused(void **state)
{
    (void)state;
    struct buf out = BUF_INIT;
    struct buf acl = BUF_INIT;
    struct error err = {0};

    assert_int_equal(acl_change("", "", '=', ACL_READ, &out, &err), ERR_SYNTAX);
    assert_int_equal(acl_change("", "a\tb", '=', ACL_READ, &out, &err),
                     ERR_SYNTAX);
    assert_int_equal(acl_change("", "a\n", '=', ACL_READ, &out, &err),
                     ERR_SYNTAX);
    while (acl.n < ACL_BYTES_MAX - 8)
        buf_add_str(&acl, "x\tl\ty\tr\t");
    assert_int_equal(
        acl_change(buf_cstr(&acl), "somebody", '=', ACL_READ, &out, &err),
        ERR_LIMIT);
    assert_int_equal(out.n, 0);
    buf_free(&acl);
    buf_free(&out);
}

static void
test_walk_gives_each_entry(void **state)
{
    (void)state;
    size_t pos = 0;
    struct span ident;
    uint32_t rights;
    const char *acl = "john\tlr\t-x\t\tcut";

    assert_true(acl_next(acl, &pos, &ident, &rights));
    assert_true(span_eq_str(ident, "john"));
    assert_int_equal(rights, parse("lr"));
    assert_true(acl_next(acl, &pos, &ident, &rights));
    assert_true(span_eq_str(ident, "-x"));
    assert_int_equal(rights, 0);
    assert_false(acl_next(acl, &pos, &ident, &rights));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_letter_there_and_back),
        cmocka_unit_test(test_unknown_letter_is_named),
        cmocka_unit_test(test_rights_add_up_and_negative_ones_are_taken_off),
        cmocka_unit_test(test_stored_lists_grant_what_they_name),
        cmocka_unit_test(test_groups_are_the_callers),
        cmocka_unit_test(test_an_identifier_gets_another_name),
        cmocka_unit_test(test_one_entry_changes_and_the_others_stay),
        cmocka_unit_test(test_bad_identifiers_and_long_lists_are_refused),
        cmocka_unit_test(test_walk_gives_each_entry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
