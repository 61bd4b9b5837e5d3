/*
 * tests/imapd/test_list.c - LIST with everything that may be asked of it:
 * RFC 5258 with the examples of its section 5, 6154, 8440, 9590, and XLIST.
 */
#include "tests/imapd/talking.h"

/* The hierarchy of RFC 5258, 5, below INBOX. */
static struct fake_client *
fruit(void)
{
    static const char *const names[] = {
        "Fruit",     "Fruit/Apple",        "Fruit/Banana",  "Tofu",
        "Vegetable", "Vegetable/Broccoli", "Vegetable/Corn"};
    static const char *const subscribed[] = {"Fruit/Banana", "Vegetable",
                                             "Vegetable/Broccoli"};
    struct fake_client *c = login(0, "fred");
    char line[100];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(line, sizeof(line), "x CREATE INBOX/%s", names[i]);
        quiet(c, line);
    }
    for (size_t i = 0; i < ARRAY_LEN(subscribed); i++) {
        snprintf(line, sizeof(line), "x SUBSCRIBE INBOX/%s", subscribed[i]);
        quiet(c, line);
    }
    /* Subscribed to, and gone since. */
    quiet(c, "x CREATE INBOX/Fruit/Peach");
    quiet(c, "x SUBSCRIBE INBOX/Fruit/Peach");
    quiet(c, "x DELETE INBOX/Fruit/Peach");
    quiet(c, "x UNSUBSCRIBE INBOX");
    return c;
}

static void
test_subscribed_names_of_what_is_gone_too(void **state)
{
    (void)state;
    struct fake_client *c = fruit();

    talk(c, "a LIST (SUBSCRIBED) \"\" *",
         "* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX/Fruit/Banana\r\n"
         "* LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" "
         "INBOX/Fruit/Peach\r\n"
         "* LIST (\\HasChildren \\Subscribed) \"/\" INBOX/Vegetable\r\n"
         "* LIST (\\HasNoChildren \\Subscribed) \"/\" "
         "INBOX/Vegetable/Broccoli\r\na OK Completed\r\n");
    talk(c, "b LIST (SUBSCRIBED) \"\" INBOX/%",
         "* LIST (\\HasChildren \\Subscribed) \"/\" INBOX/Vegetable\r\n"
         "b OK Completed\r\n");
    /* REMOTE adds nothing here; an empty list of options is one. */
    talk(c, "c LIST (REMOTE SUBSCRIBED) INBOX/Veg % RETURN ()",
         "* LIST (\\HasChildren \\Subscribed) \"/\" INBOX/Vegetable\r\n"
         "c OK Completed\r\n");
    talk(c, "d LIST () \"\" INBOX/T*",
         "* LIST (\\HasNoChildren) \"/\" INBOX/Tofu\r\nd OK Completed\r\n");
}

/* Examples 7 to 9: parents that only lead to what was asked for. */
static void
test_recursivematch_says_childinfo(void **state)
{
    (void)state;
    struct fake_client *c = fruit();

    talk(c, "a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" INBOX/%",
         "* LIST (\\HasChildren) \"/\" INBOX/Fruit "
         "(\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"
         "* LIST (\\HasChildren \\Subscribed) \"/\" INBOX/Vegetable "
         "(\"CHILDINFO\" (\"SUBSCRIBED\"))\r\na OK Completed\r\n");
    /* What is returned itself needs no parent (3.5). */
    talk(c, "b LIST (SUBSCRIBED RECURSIVEMATCH) \"\" INBOX/F*",
         "* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX/Fruit/Banana\r\n"
         "* LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" "
         "INBOX/Fruit/Peach\r\nb OK Completed\r\n");
    /* A parent that does not exist, and is no entry of any kind. */
    quiet(c, "x SUBSCRIBE INBOX/Tofu");
    quiet(c, "x CREATE INBOX/Foo/Bar/Baz");
    quiet(c, "x SUBSCRIBE INBOX/Foo/Bar/Baz");
    quiet(c, "x DELETE INBOX/Foo/Bar");
    quiet(c, "x DELETE INBOX/Foo");
    talk(c, "d LIST (SUBSCRIBED RECURSIVEMATCH) \"\" INBOX/Fo%",
         "* LIST (\\NonExistent \\HasChildren) \"/\" INBOX/Foo "
         "(\"CHILDINFO\" (\"SUBSCRIBED\"))\r\nd OK Completed\r\n");
    /* Example 11: without RECURSIVEMATCH the pair of attributes says it. */
    talk(c, "e LIST () \"\" INBOX/Fo%",
         "* LIST (\\NonExistent \\HasChildren) \"/\" INBOX/Foo\r\n"
         "e OK Completed\r\n");
    talk(c, "f LIST \"\" INBOX/Fo%",
         "* LIST (\\Noselect \\HasChildren) \"/\" INBOX/Foo\r\n"
         "f OK Completed\r\n");
}

static void
test_options_that_make_no_sense_are_bad(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    talk(c, "a LIST (RECURSIVEMATCH) \"\" *",
         "a BAD RECURSIVEMATCH needs another option\r\n");
    talk(c, "b LIST (RECURSIVEMATCH REMOTE) \"\" *",
         "b BAD RECURSIVEMATCH needs another option\r\n");
    talk(c, "c LIST (CHILDREN) \"\" *", "c BAD Unknown LIST option\r\n");
    talk(c, "d LIST \"\" * RETURN (REMOTE)", "d BAD Unknown LIST option\r\n");
    talk(c, "e LIST \"\" * RETURN (METADATA)", "e BAD Missing argument\r\n");
    talk(c, "f LIST \"\" * RETURN (METADATA (/x/y))",
         "f BAD Invalid entry name\r\n");
    talk(c, "g LIST \"\" () RETURN ()",
         "g BAD Missing or invalid mailbox pattern\r\n");
    talk(c, "h LIST \"\" * RETURN (STATUS ())",
         "h BAD Missing or invalid atom\r\n");
}

static void
test_several_patterns_tell_each_mailbox_once(void **state)
{
    (void)state;
    struct fake_client *c = fruit();

    talk(c, "a LIST \"\" (INBOX/T% INBOX/*fu INBOX) RETURN (CHILDREN)",
         "* LIST (\\HasChildren) \"/\" INBOX\r\n"
         "* LIST (\\HasNoChildren) \"/\" INBOX/Tofu\r\na OK Completed\r\n");
}

/* RFC 8440: MYRIGHTS behind the LIST, for what was asked for itself only. */
static void
test_rights_come_with_the_list(void **state)
{
    (void)state;
    struct fake_client *fred = fruit();
    struct fake_client *ann = login(1, "ann");

    quiet(fred, "a SETACL INBOX/Fruit ann lr");
    quiet(fred, "b SETACL INBOX/Tofu ann l");
    talk(ann, "c LIST \"\" user/fred/% RETURN (MYRIGHTS STATUS (MESSAGES))",
         "* LIST (\\HasNoChildren) \"/\" user/fred/Fruit\r\n"
         "* STATUS user/fred/Fruit (MESSAGES 0)\r\n"
         "* MYRIGHTS user/fred/Fruit lr\r\n"
         "* LIST (\\HasNoChildren) \"/\" user/fred/Tofu\r\n"
         "* MYRIGHTS user/fred/Tofu l\r\nc OK Completed\r\n");
    talk(fred,
         "d LIST (SUBSCRIBED RECURSIVEMATCH) \"\" INBOX/% RETURN (MYRIGHTS)",
         "* LIST (\\HasChildren) \"/\" INBOX/Fruit "
         "(\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"
         "* LIST (\\HasChildren \\Subscribed) \"/\" INBOX/Vegetable "
         "(\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"
         "* MYRIGHTS INBOX/Vegetable lrswipkxtecdan\r\nd OK Completed\r\n");
}

/* RFC 9590 */
static void
test_metadata_comes_with_the_list(void **state)
{
    (void)state;
    struct fake_client *c = fruit();
    struct fake_client *ann = login(1, "ann");

    quiet(c, "a SETMETADATA INBOX/Tofu (/shared/comment \"white\" "
             "/private/color {3+}\r\nred)");
    talk(c,
         "b LIST \"\" (INBOX/T% INBOX/Veg%) RETURN (METADATA "
         "(/shared/comment /private/Color))",
         "* LIST (\\HasNoChildren) \"/\" INBOX/Tofu\r\n"
         "* METADATA INBOX/Tofu (/shared/comment \"white\" "
         "/private/color \"red\")\r\n"
         "* LIST (\\HasChildren) \"/\" INBOX/Vegetable\r\n"
         "* METADATA INBOX/Vegetable (/shared/comment NIL "
         "/private/Color NIL)\r\nb OK Completed\r\n");
    quiet(c, "c SETACL INBOX/Tofu ann l");
    talk(ann, "d LIST \"\" user/* RETURN (METADATA (/shared/comment))",
         "* LIST (\\HasNoChildren) \"/\" user/fred/Tofu\r\n"
         "d OK Completed\r\n");
}

static void
test_special_uses_by_old_and_new_names(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    quiet(c, "a CREATE INBOX/s (USE (\\Sent))");
    quiet(c, "b CREATE INBOX/j (USE (\\Junk))");
    quiet(c, "c CREATE INBOX/x/a (USE (\\Archive))");
    talk(c, "d XLIST \"\" *",
         "* XLIST (\\HasChildren \\Inbox) \"/\" INBOX\r\n"
         "* XLIST (\\HasNoChildren \\Spam) \"/\" INBOX/j\r\n"
         "* XLIST (\\HasNoChildren \\Sent) \"/\" INBOX/s\r\n"
         "* XLIST (\\HasChildren) \"/\" INBOX/x\r\n"
         "* XLIST (\\HasNoChildren \\AllMail) \"/\" INBOX/x/a\r\n"
         "d OK Completed\r\n");
    talk(c, "e LIST (SPECIAL-USE RECURSIVEMATCH) \"\" INBOX/%",
         "* LIST (\\HasNoChildren \\Junk) \"/\" INBOX/j\r\n"
         "* LIST (\\HasNoChildren \\Sent) \"/\" INBOX/s\r\n"
         "* LIST (\\HasChildren) \"/\" INBOX/x "
         "(\"CHILDINFO\" (\"SPECIAL-USE\"))\r\ne OK Completed\r\n");
    /* Both must hold. */
    quiet(c, "f SUBSCRIBE INBOX/s");
    talk(c, "g LIST (SPECIAL-USE SUBSCRIBED) \"\" *",
         "* LIST (\\HasNoChildren \\Subscribed \\Sent) \"/\" INBOX/s\r\n"
         "g OK Completed\r\n");
    talk(c, "h XLIST \"\" \"\"",
         "* XLIST (\\Noselect) \"/\" \"\"\r\nh OK Completed\r\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_subscribed_names_of_what_is_gone_too, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recursivematch_says_childinfo,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_options_that_make_no_sense_are_bad,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_several_patterns_tell_each_mailbox_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rights_come_with_the_list, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_metadata_comes_with_the_list,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_special_uses_by_old_and_new_names,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
