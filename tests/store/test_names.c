/*
 * tests/store/test_names.c - mailbox names: what clients may say, what they
 * see, and that every name of the store comes back from what is shown of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "store/names.h"
#include "store/types.h"

#define NS(separator, is_alt)                                                  \
    {                                                                          \
        .sep = (separator), .alt = (is_alt), .user_prefix = "Other Users",     \
        .shared_prefix = "Shared Folders"                                      \
    }

static const struct namespace slash_alt = NS('/', true);
static const struct namespace slash = NS('/', false);
static const struct namespace dot_alt = NS('.', true);
static const struct namespace dot = NS('.', false);

/* What john means; "!" if it is no name. */
static const char *
in(const struct namespace *ns, bool is_admin, const char *external,
   struct arena *a)
{
    const char *internal = "!";
    struct error err = {0};
    enum errcode rc = name_to_internal(ns, "john", is_admin, span_str(external),
                                       a, &internal, &err);

    assert_true(rc == ERR_OK || rc == ERR_BADNAME);
    assert_int_equal(rc, err.code);
    return internal;
}

/* Rows of external, internal; the second is "!" for what is refused. */
static void
check_rows(const struct namespace *ns, bool is_admin,
           const char *const (*rows)[2], size_t n)
{
    struct arena a = ARENA_INIT;

    for (size_t i = 0; i < n; i++) {
        assert_string_equal(in(ns, is_admin, rows[i][0], &a), rows[i][1]);
        if (strcmp(rows[i][1], "!") == 0)
            continue;
        const char *back =
            name_to_external(ns, "john", is_admin, rows[i][1], &a);
        if (!span_eq_nocase_str(span_str(back), rows[i][0]))
            assert_string_equal(back, rows[i][0]);
    }
    arena_free(&a);
}

static void
test_names_with_slash_and_alt(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"INBOX", "user.john"},
        {"inBox", "user.john"},
        {"Sent", "user.john.Sent"},
        {"Sub.Folder/deep", "user.john.Sub^Folder.deep"},
        {"user/jane", "user.john.user.jane"},
        {"Other Users/jane", "user.jane"},
        {"Other Users/j.doe/Sent", "user.j^doe.Sent"},
        {"Shared Folders/news/a", "news.a"},
        {"INBOX/inbox/x", "user.john.inbox.x"},
        {"INBOX/Other Users", "user.john.Other Users"},
        {"INBOX/Shared Folders/x", "user.john.Shared Folders.x"},
        {"INBOXES", "user.john.INBOXES"},
        {"Other Usersx/y", "user.john.Other Usersx.y"},
        {"&AOQ-rger", "user.john.&AOQ-rger"},
        {"R&-D", "user.john.R&-D"},
        {"INBOX/Sent", "!"},
        {"Other Users", "!"},
        {"Shared Folders", "!"},
        {"Shared Folders/user/jane", "!"},
        {"Shared Folders/DELETED/user/jane/x/1", "!"},
        {"Other Users//x", "!"},
        {"", "!"},
        {"/", "!"},
        {"/a", "!"},
        {"a/", "!"},
        {"a//b", "!"},
        {"a^b", "!"},
        {"a*b", "!"},
        {"a%b", "!"},
        {"a\tb", "!"},
        {"a\x7f", "!"},
        {"\xc3\xa4", "!"},
    };
    check_rows(&slash_alt, false, rows, ARRAY_LEN(rows));
}

static void
test_names_with_slash_without_alt(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"INBOX", "user.john"},
        {"INBOX/Sent", "user.john.Sent"},
        {"inbox/Sent", "user.john.Sent"},
        {"INBOX/INBOX", "user.john.INBOX"},
        {"user/jane/x.y", "user.jane.x^y"},
        {"news/a", "news.a"},
        {"INBOXES", "INBOXES"},
        {"user", "!"},
        {"DELETED/user/john/a/1", "!"},
        {"user//x", "!"},
    };
    check_rows(&slash, false, rows, ARRAY_LEN(rows));
}

static void
test_names_with_dot(void **state)
{
    (void)state;
    static const char *const alt_rows[][2] = {
        {"INBOX", "user.john"},
        {"Sent.deep", "user.john.Sent.deep"},
        {"Other Users.j^doe.x", "user.j^doe.x"},
        {"Shared Folders.news", "news"},
        {"a/b", "!"},
        {"a..b", "!"},
    };
    static const char *const rows[][2] = {
        {"INBOX.Sent", "user.john.Sent"},
        {"user.jane.x^y", "user.jane.x^y"},
        {"news", "news"},
        {"a/b", "!"},
    };
    check_rows(&dot_alt, false, alt_rows, ARRAY_LEN(alt_rows));
    check_rows(&dot, false, rows, ARRAY_LEN(rows));
}

static void
test_admin_sees_internal_levels(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"user/john/Sent", "user.john.Sent"},
        {"user/j.doe", "user.j^doe"},
        {"news/a", "news.a"},
        {"DELETED/user/john/x/5F3A", "DELETED.user.john.x.5F3A"},
        {"user", "!"},
        {"DELETED", "!"},
    };
    struct arena a = ARENA_INIT;

    check_rows(&slash_alt, true, rows, ARRAY_LEN(rows));
    check_rows(&slash, true, rows, ARRAY_LEN(rows));
    assert_string_equal(in(&slash_alt, true, "inbox", &a), "user.john");
    assert_string_equal(
        name_to_external(&slash_alt, "john", true, "user.john", &a),
        "user/john");
    arena_free(&a);
}

static void
test_anonymous_has_no_inbox(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    const char *ret = NULL;
    struct error err = {0};

    assert_int_equal(name_to_internal(&slash, NULL, false, SPAN_LIT("INBOX"),
                                      &a, &ret, &err),
                     ERR_BADNAME);
    assert_int_equal(name_to_internal(&slash_alt, NULL, false, SPAN_LIT("Sent"),
                                      &a, &ret, &err),
                     ERR_BADNAME);
    assert_int_equal(name_to_internal(&slash_alt, NULL, false,
                                      SPAN_LIT("Shared Folders/news"), &a, &ret,
                                      &err),
                     ERR_OK);
    assert_string_equal(ret, "news");
    assert_string_equal(name_to_external(&slash_alt, NULL, false, "news", &a),
                        "Shared Folders/news");
    arena_free(&a);
}

static void
test_only_the_one_form_of_utf7_is_a_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool good;
    } rows[] = {
        {"a.&AOQ-", true},     {"a.&AOQ-x&APY-", true},
        {"a.&U,BTFw-", true},                        /* RFC 3501, 5.1.3 */
        {"a.&-&-", true},      {"a.&2D3eAA-", true}, /* a pair */
        {"a.&AOQA9g-", true},  {"a.&", false},
        {"a.&AOQ", false},     {"a.&AOQ.-", false},
        {"a.&AOR-", false}, /* bits behind the last unit */
        {"a.&AO-", false},  /* half a unit */
        {"a.&AGE-", false}, /* 'a' need not be shifted */
        {"a.&AAA-", false},    {"a.&AOQ-&APY-", false},
        {"a.&2D0-", false}, /* half a pair */
        {"a.&3gA-", false},    {"a.&2D0A5A-", false},
        {"a.&AOQAAA-", false}, {"a.&AOQ/-", false},
        {"a.&AOQ=-", false},   {"a.&AOQA-", false},
    };
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(name_check(rows[i].name, &err),
                         rows[i].good ? ERR_OK : ERR_BADNAME);
}

static void
test_name_too_long_is_refused(void **state)
{
    (void)state;
    char name[MAILBOX_NAME_MAX + 2];
    struct arena a = ARENA_INIT;
    struct error err = {0};

    memset(name, 'x', sizeof(name));
    memcpy(name, "user.", 5);
    name[MAILBOX_NAME_MAX - 19] = 0;
    assert_int_equal(name_check(name, &err), ERR_OK);
    /* Whatever is a name can be deleted with delay. */
    const char *gone = name_deleted(name, "DELETED", 0x2ffffffff, &a);
    assert_int_equal(name_check(gone, &err), ERR_OK);
    assert_true(strlen(gone) <= MAILBOX_NAME_MAX);
    name[MAILBOX_NAME_MAX - 19] = 'x';
    name[MAILBOX_NAME_MAX - 18] = 0;
    assert_int_equal(name_check(name, &err), ERR_BADNAME);
    arena_free(&a);
}

static void
test_names_that_no_mailbox_may_have(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",      ".",       "a.",  ".a", "a..b", "user", "DELETED",
        "INBOX", "inbox.x", "a/b", "a*", "a%",   "a\n"};
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(name_check(names[i], &err), ERR_BADNAME);
}

static void
test_what_names_say(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    const char *inbox = NULL;
    struct error err = {0};

    assert_string_equal(name_owner("user.j^doe.Sent", &a), "j.doe");
    assert_string_equal(name_owner("user.john", &a), "john");
    assert_string_equal(name_owner("DELETED.user.john.Sent.5F3A", &a), "john");
    assert_null(name_owner("news.user.john", &a));
    assert_null(name_owner("DELETED.news.5F3A", &a));
    assert_true(name_is_inbox("user.j^doe"));
    assert_false(name_is_inbox("user.john.Sent"));
    assert_false(name_is_inbox("user."));
    assert_false(name_is_inbox("news"));
    assert_string_equal(name_parent("user.john.Sent.deep", &a),
                        "user.john.Sent");
    assert_string_equal(name_parent("user.john.Sent", &a), "user.john");
    assert_null(name_parent("user.john", &a));
    assert_null(name_parent("news", &a));
    assert_int_equal(name_inbox("j.doe", &a, &inbox, &err), ERR_OK);
    assert_string_equal(inbox, "user.j^doe");
    assert_int_equal(name_inbox("j^doe", &a, &inbox, &err), ERR_BADNAME);
    assert_int_equal(name_inbox("", &a, &inbox, &err), ERR_BADNAME);
    assert_int_equal(name_inbox("a/b", &a, &inbox, &err), ERR_BADNAME);
    assert_int_equal(name_inbox("a\nb", &a, &inbox, &err), ERR_BADNAME);
    assert_int_equal(name_inbox("a*", &a, &inbox, &err), ERR_BADNAME);
    assert_string_equal(name_deleted("user.john.Sent", "DELETED", 0x5f3a, &a),
                        "DELETED.user.john.Sent.00005F3A");
    arena_free(&a);
}

static bool
match(const char *name, const char *pattern)
{
    return name_match(name, span_str(pattern), '/');
}

static void
test_list_patterns(void **state)
{
    (void)state;
    assert_true(match("a/b", "*"));
    assert_false(match("a/b", "%"));
    assert_true(match("a/b", "%/%"));
    assert_true(match("a/b", "a/b"));
    assert_false(match("a/b", "a/B"));
    assert_true(match("a/b/c", "a*c"));
    assert_false(match("a/b/c", "a%c"));
    assert_true(match("a", "%a%"));
    assert_true(match("", "*"));
    assert_true(match("", ""));
    assert_false(match("a", ""));
    assert_true(match("INBOX", "inbox"));
    assert_true(match("INBOX", "iNb%"));
    assert_true(match("INBOX/Sent", "inbox/S*"));
    assert_false(match("INBOX/Sent", "inbox/s*"));
    assert_false(match("INBOXES", "inboxes"));
    assert_true(match("a/b/c/d", "*%*%*d"));
    char name[600];
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    assert_false(match(name, "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"));
    assert_true(match(name, "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*"));
}

/* Random names of the store, shown to three kinds of readers and taken back. */
static void
test_every_name_comes_back(void **state)
{
    (void)state;
    static const char *const firsts[] = {
        "user.john", "user.jane", "user.j^d", "news", "Shared Folders", "a"};
    static const char *const levels[] = {
        "Sent",    "INBOX", "inbox", "Other Users", "Shared Folders",
        "user",    "a^b",   "^",     "R&-D",        "&AOQ-",
        "DELETED", " ",     "x y z", "john",        "INBOXES"};
    static const struct namespace *const spaces[] = {&slash_alt, &slash,
                                                     &dot_alt, &dot};
    unsigned seed = 1;
    struct arena a = ARENA_INIT;

    for (int round = 0; round < 20000; round++) {
        const struct namespace *ns =
            spaces[(unsigned)rand_r(&seed) % ARRAY_LEN(spaces)];
        bool is_admin = rand_r(&seed) % 4 == 0;
        const char *name = firsts[(unsigned)rand_r(&seed) % ARRAY_LEN(firsts)];
        for (int n = rand_r(&seed) % 4; n > 0; n--)
            name = arena_printf(
                &a, "%s.%s", name,
                levels[(unsigned)rand_r(&seed) % ARRAY_LEN(levels)]);
        assert_int_equal(name_check(name, NULL), ERR_OK);
        const char *shown = name_to_external(ns, "john", is_admin, name, &a);
        assert_string_equal(in(ns, is_admin, shown, &a), name);
        arena_reset(&a);
    }
    arena_free(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_with_slash_and_alt),
        cmocka_unit_test(test_names_with_slash_without_alt),
        cmocka_unit_test(test_names_with_dot),
        cmocka_unit_test(test_admin_sees_internal_levels),
        cmocka_unit_test(test_anonymous_has_no_inbox),
        cmocka_unit_test(test_only_the_one_form_of_utf7_is_a_name),
        cmocka_unit_test(test_name_too_long_is_refused),
        cmocka_unit_test(test_names_that_no_mailbox_may_have),
        cmocka_unit_test(test_what_names_say),
        cmocka_unit_test(test_list_patterns),
        cmocka_unit_test(test_every_name_comes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
