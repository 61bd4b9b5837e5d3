/*
 * tests/imapd/test_parse.c - the text of a command becomes a struct: each
 * command once as it should be, cut at every byte, and as it should not be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "imapd/parse.h"
#include "store/types.h"

static struct arena arena;

static enum imap_parsed
parse_n(const char *text, size_t n, struct imap_command *ret)
{
    const char *why = NULL;
    /* An exact copy, so that a read past the end is seen. */
    uint8_t *copy = xmalloc(n + 1);
    memcpy(copy, text, n);
    uint8_t *exact = xrealloc(copy, n == 0 ? 1 : n);
    enum imap_parsed parsed = imap_parse(span_of(exact, n), &arena, ret, &why);
    assert_true((parsed == IMAP_PARSE_BAD) == (why != NULL));
    struct span kept = arena_copy(&arena, ret->tag);
    ret->tag = kept;
    xfree(&exact);
    return parsed;
}

/* From memory that stays. */
static struct imap_command
good(const char *text)
{
    struct imap_command cmd;
    const char *why = NULL;

    for (size_t cut = 0; cut < strlen(text); cut++)
        parse_n(text, cut, &cmd);
    if (imap_parse(span_str(text), &arena, &cmd, &why) != IMAP_PARSED)
        fail_msg("%s: %s", text, why == NULL ? "unknown" : why);
    return cmd;
}

static void
bad(const char *text)
{
    struct imap_command cmd;
    if (parse_n(text, strlen(text), &cmd) != IMAP_PARSE_BAD)
        fail_msg("taken: %s", text);
}

static void
assert_span(struct span s, const char *want)
{
    if (!span_eq_str(s, want))
        fail_msg("\"%.*s\" is not \"%s\"", SPAN_FMT(s), want);
}

static void
test_simple_commands(void **state)
{
    (void)state;
    struct imap_command c = good("a1 NOOP");
    assert_int_equal(c.cmd, CMD_NOOP);
    assert_span(c.tag, "a1");
    assert_int_equal(good("x capability").cmd, CMD_CAPABILITY);
    c = good("a LOGIN {4}\r\nfred \"se\\\"cr\\\\et\"");
    assert_span(c.name, "fred");
    assert_span(c.arg, "se\"cr\\et");
    c = good("a AUTHENTICATE PLAIN =");
    assert_true(c.has_arg2 && c.arg2.n == 0);
    assert_false(good("a AUTHENTICATE PLAIN").has_arg2);
    c = good("a ID (\"name\" \"x\" \"version\" NIL)");
    assert_int_equal(c.nwords, 4);
    good("a ID NIL");
    assert_int_equal(good("a ENABLE CONDSTORE QRESYNC").nwords, 2);
    bad("a NOOP x");
    bad("a  NOOP");
    bad("a NOOP ");
    bad("");
    bad("a");
    bad("a LOGIN fred");
    bad("a LOGIN fred \"x");
    bad("a LOGIN fred {5}\r\nx");
    bad("a+b NOOP");
    struct imap_command unknown;
    assert_int_equal(parse_n("a FROB", 6, &unknown), IMAP_PARSE_UNKNOWN);
    assert_int_equal(parse_n("a UID NOOP", 10, &unknown), IMAP_PARSE_UNKNOWN);
}

static void
test_mailbox_commands(void **state)
{
    (void)state;
    struct imap_command c = good("a CREATE Sent (USE (\\Sent \\Trash))");
    assert_true(c.has_use);
    assert_span(c.use, "\\Sent \\Trash");
    c = good("a CREATE user/fred default");
    assert_span(c.arg, "default");
    c = good("a RENAME \"a b\" c");
    assert_span(c.name, "a b");
    assert_span(c.arg, "c");
    c = good("a STATUS x (MESSAGES UNSEEN)");
    assert_int_equal(c.status, STATUS_MESSAGES | STATUS_UNSEEN);
    bad("a STATUS x ()");
    bad("a STATUS x (FOO)");
    c = good("a LIST \"\" %");
    assert_false(c.list.extended);
    assert_span(c.list.patterns[0], "%");
    c = good("a LIST (SPECIAL-USE) \"\" (\"*\" INBOX) RETURN (SPECIAL-USE "
             "CHILDREN)");
    assert_int_equal(c.list.npatterns, 2);
    assert_int_equal(c.list.options, LIST_SELECT_SPECIAL_USE |
                                         LIST_RETURN_SPECIAL_USE |
                                         LIST_RETURN_CHILDREN);
    bad("a LIST (RECURSIVEMATCH) \"\" *");
    bad("a LIST \"\" * RETURN (FOO)");
    good("a LSUB \"\" *");
    c = good("a SETACL INBOX fred +lrs");
    assert_span(c.arg2, "+lrs");
    c = good("a SETQUOTA user/fred (STORAGE 512 MESSAGE 9)");
    assert_int_equal(c.nlimits, 2);
    assert_int_equal(c.limits[0].limit, 512);
    good("a SETQUOTA \"\" ()");
    bad("a SETQUOTA x (STORAGE)");
}

static void
test_fetch(void **state)
{
    (void)state;
    struct imap_command c = good("a FETCH 1:*,5 (FLAGS BODY.PEEK[1.2.MIME]<3."
                                 "10> BODY[HEADER.FIELDS (From \"To\")])");
    assert_span(c.set, "1:*,5");
    assert_int_equal(c.nitems, 3);
    assert_true(c.items[1].peek && c.items[1].has_partial);
    assert_span(c.items[1].label, "BODY[1.2.MIME]<3>");
    assert_span(c.items[2].label, "BODY[HEADER.FIELDS (From To)]");
    assert_int_equal(c.items[2].nfields, 2);
    assert_int_equal(good("a UID FETCH 1 FULL").nitems, 5);
    assert_true(good("a UID FETCH 1 ALL").uid);
    c = good("a FETCH 1 RFC822.HEADER");
    assert_true(c.items[0].peek);
    assert_span(c.items[0].section, "HEADER");
    assert_int_equal(good("a FETCH 1 BODY").items[0].what, FETCH_BODY);
    assert_span(good("a FETCH 1 BODY[]").items[0].label, "BODY[]");
    bad("a FETCH 0 FLAGS");
    bad("a FETCH 1 ()");
    bad("a FETCH 1 BODY[MIME]");
    bad("a FETCH 1 BODY[1.]");
    bad("a FETCH 1 BODY[0]");
    bad("a FETCH 1 BODY[]<1.0>");
    bad("a FETCH 1 BODY[HEADER.FIELDS]");
    bad("a FETCH 1 (ALL)");
    bad("a FETCH a FLAGS");
}

static void
test_store_copy_expunge(void **state)
{
    (void)state;
    struct imap_command c =
        good("a STORE 2 +FLAGS.SILENT (\\Seen $Junk \\Deleted)");
    assert_int_equal(c.store_mode, '+');
    assert_true(c.silent);
    assert_int_equal(c.flags.flags, FLAG_SEEN | FLAG_DELETED);
    assert_int_equal(c.flags.nkeywords, 1);
    c = good("a UID STORE 2:4 FLAGS \\Seen \\Draft");
    assert_int_equal(c.store_mode, '=');
    good("a STORE 1 FLAGS ()");
    bad("a STORE 1 FLAGS (\\Bogus)");
    bad("a STORE 1 XFLAGS (\\Seen)");
    assert_span(good("a COPY 1 x").name, "x");
    assert_true(good("a UID MOVE 1 x").uid);
    good("a EXPUNGE");
    good("a UID EXPUNGE 1:5");
    bad("a EXPUNGE 1");
}

static void
test_search(void **state)
{
    (void)state;
    struct imap_command c =
        good("a UID SEARCH CHARSET UTF-8 OR (FROM x SINCE 1-Feb-1994) NOT SEEN "
             "1:3 UID 5 HEADER X-Y \"\" LARGER 12");
    assert_span(c.charset, "UTF-8");
    const struct imap_search *k = c.search->kids;
    assert_int_equal(k->kind, SEARCH_OR);
    assert_int_equal(k->kids->kind, SEARCH_AND);
    assert_int_equal(k->kids->kids->kind, SEARCH_HEADER);
    assert_span(k->kids->kids->name, "From");
    assert_int_equal(k->kids->kids->next->day, 8797);
    assert_int_equal(k->kids->next->kind, SEARCH_NOT);
    k = k->next;
    assert_int_equal(k->kind, SEARCH_SEQS);
    assert_int_equal(k->next->kind, SEARCH_UIDS);
    assert_int_equal(k->next->next->kind, SEARCH_HEADER);
    assert_int_equal(k->next->next->next->number, 12);
    good("a SEARCH ALL");
    bad("a SEARCH");
    bad("a SEARCH FOO");
    bad("a SEARCH ON 99-Feb-1994");
    bad("a SEARCH (ALL");
    bad("a SEARCH OR ALL");
}

static void
test_search_depth_and_number_are_bounded(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;

    buf_add_str(&b, "a SEARCH ");
    for (int i = 0; i < 10000; i++)
        buf_add_str(&b, "NOT ");
    buf_add_str(&b, "ALL");
    bad(buf_cstr(&b));
    buf_clear(&b);
    buf_add_str(&b, "a SEARCH ");
    for (int i = 0; i < 10000; i++)
        buf_add_byte(&b, '(');
    bad(buf_cstr(&b));
    buf_clear(&b);
    buf_add_str(&b, "a SEARCH ALL");
    for (int i = 0; i < 10000; i++)
        buf_add_str(&b, " ALL");
    bad(buf_cstr(&b));
    buf_free(&b);
}

static void
test_append_head_is_known_at_the_message_only(void **state)
{
    (void)state;
    struct imap_command c;
    const char *yes[] = {"a APPEND x {5}\r\n",
                         "a APPEND {1}\r\nx {5+}\r\n",
                         "a APPEND x (\\Seen) \"17-Jul-1996 02:44:25 -0700\" "
                         "{5}\r\n",

                         "a APPEND x {5}\r\n (\\Seen) ~{6+}\r\n",
                         "a APPEND x UTF8 (~{5}\r\n",
                         "a APPEND x CATENATE (URL {1}\r\nu TEXT {5}\r\n",
                         "a UID REPLACE 7 x {5}\r\n",
                         "a APPEND x {99999999999999999999}\r\n"};
    const char *no[] = {"a APPEND {1}\r\n",
                        "a LOGIN {1}\r\n",
                        "a APPEND x (\\Foo) {5}\r\n",
                        "a APPEND x y {5}\r\n",
                        "a APPEND x CATENATE (URL {5}\r\n",
                        "a REPLACE 7 x {5}\r\n {5}\r\n",
                        "a REPLACE 1:2 x {5}\r\n",
                        "{5}\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        assert_true(imap_parse_append_head(span_str(yes[i]), &arena, &c));
    assert_true(c.literal_bytes == UINT64_MAX);
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        assert_false(imap_parse_append_head(span_str(no[i]), &arena, &c));
    c = good("a APPEND x (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {5}\r\n");
    assert_true(c.append->has_date);
    assert_int_equal(c.append->date_zone_min, -420);
    bad("a APPEND x {5}\r\nhello");
    bad("a APPEND x");
}

static int
arena_teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simple_commands),
        cmocka_unit_test(test_mailbox_commands),
        cmocka_unit_test(test_fetch),
        cmocka_unit_test(test_store_copy_expunge),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_search_depth_and_number_are_bounded),
        cmocka_unit_test(test_append_head_is_known_at_the_message_only),
    };
    return cmocka_run_group_tests(tests, NULL, arena_teardown);
}
