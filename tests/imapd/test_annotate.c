/*
 * tests/imapd/test_annotate.c - annotations of messages (RFC 5257): each
 * command that sets, tells or looks for them, who may, what is refused; and
 * binary parts in APPEND (RFC 3516).
 */
#include "tests/imapd/talking.h"

static struct fake_client *
fred_with(int n)
{
    struct fake_client *fred = login(0, "fred");

    for (int i = 0; i < n; i++)
        append(fred, "INBOX", "(\\Seen) ", MSG_A);
    quiet(fred, "a SELECT INBOX");
    return fred;
}

static void
test_stored_values_are_fetched(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(2);

    talk(c,
         "a STORE 1 ANNOTATION (/comment (value.priv \"mine\" value.shared "
         "{5+}\r\nall's) /altsubject (value.shared \"other\"))",
         "a OK Completed\r\n");
    talk(c, "b FETCH 1 (ANNOTATION (/comment value))",
         "* 1 FETCH (ANNOTATION (/comment (value.priv \"mine\" value.shared "
         "\"all's\")))\r\nb OK Completed\r\n");
    talk(c, "c FETCH 1 (ANNOTATION ((/comment /altsubject) (value.priv size)))",
         "* 1 FETCH (ANNOTATION (/altsubject (value.priv NIL size.priv \"0\" "
         "size.shared \"5\") /comment (value.priv \"mine\" size.priv \"4\" "
         "size.shared \"5\")))\r\nc OK Completed\r\n");
    /* What is asked for by name is told, what a pattern finds only if it is
     * there. */
    talk(c, "d UID FETCH 1:2 ANNOTATION (/nothing value.shared)",
         "* 1 FETCH (UID 1 ANNOTATION (/nothing (value.shared NIL)))\r\n"
         "* 2 FETCH (UID 2 ANNOTATION (/nothing (value.shared NIL)))\r\n"
         "d OK Completed\r\n");
    talk(c, "e FETCH 1:2 ANNOTATION (/% value.priv)",
         "* 1 FETCH (ANNOTATION (/comment (value.priv \"mine\")))\r\n"
         "* 2 FETCH (UID 2)\r\ne OK Completed\r\n");
    talk(c, "f STORE 1 ANNOTATION (/comment (value.priv NIL))",
         "f OK Completed\r\n");
    talk(c, "g FETCH 1 (FLAGS ANNOTATION (* value))",
         "* 1 FETCH (FLAGS (\\Recent \\Seen) ANNOTATION (/altsubject "
         "(value.priv NIL value.shared \"other\") /comment (value.priv NIL "
         "value.shared \"all's\")))\r\ng OK Completed\r\n");
}

static void
test_wildcards_know_levels(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(1);

    quiet(c, "a STORE 1 ANNOTATION (/comment (value.priv \"1\") "
             "/vendor/x/label (value.priv \"2\") /1/comment (value.priv "
             "\"3\"))");
    talk(c, "b FETCH 1 ANNOTATION (/% size.priv)",
         "* 1 FETCH (ANNOTATION (/comment (size.priv \"1\")))\r\n"
         "b OK Completed\r\n");
    talk(c, "c FETCH 1 ANNOTATION (/v* value.priv)",
         "* 1 FETCH (ANNOTATION (/vendor/x/label (value.priv \"2\")))\r\n"
         "c OK Completed\r\n");
    talk(c, "d FETCH 1 ANNOTATION (/%/comment value.priv)",
         "* 1 FETCH (ANNOTATION (/1/comment (value.priv \"3\")))\r\n"
         "d OK Completed\r\n");
}

static void
test_binary_values_are_kept(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(1);

    buf_add(&c->in,
            SPAN_LIT("a STORE 1 ANNOTATION (/comment (value.priv ~{3+}\r\n"
                     "x\0y))\r\n"));
    expect(c, "a OK Completed\r\n");
    buf_add_str(&c->in, "b FETCH 1 ANNOTATION (/comment value.priv)\r\n");
    fake_turn(&world);
    assert_true(span_eq(
        buf_span(&c->out),
        SPAN_LIT("* 1 FETCH (ANNOTATION (/comment (value.priv ~{3}\r\nx\0y)))"
                 "\r\nb OK Completed\r\n")));
    buf_clear(&c->out);
    talk(c, "c FETCH 1 ANNOTATION (/comment size.priv)",
         "* 1 FETCH (ANNOTATION (/comment (size.priv \"3\")))\r\n"
         "c OK Completed\r\n");
}

/* Each is BAD, and changes nothing. */
static void
test_invalid_names_are_bad(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "STORE 1 ANNOTATION (comment (value.priv \"x\"))",
        "STORE 1 ANNOTATION (//comment (value.priv \"x\"))",
        "STORE 1 ANNOTATION (/a//b (value.priv \"x\"))",
        "STORE 1 ANNOTATION (/a/ (value.priv \"x\"))",
        "STORE 1 ANNOTATION (\"/a*\" (value.priv \"x\"))",
        "STORE 1 ANNOTATION (\"/a%\" (value.priv \"x\"))",
        "STORE 1 ANNOTATION (\"/\xc3\xa4\" (value.priv \"x\"))",
        "STORE 1 ANNOTATION (/flags/seen (value.priv \"x\"))",
        "STORE 1 ANNOTATION (/0/comment (value.priv \"x\"))",
        "STORE 1 ANNOTATION (/1.x/comment (value.priv \"x\"))",
        "STORE 1 ANNOTATION (/1./comment (value.priv \"x\"))",
        "STORE 1 ANNOTATION (/2/comment (value.priv \"x\"))",
        "STORE 1 ANNOTATION (/comment (value \"x\"))",
        "STORE 1 ANNOTATION (/comment (size.priv \"x\"))",
        "STORE 1 ANNOTATION (/comment (VALUE.PRIV \"x\"))",
        "STORE 1 ANNOTATION (/comment (value..priv \"x\"))",
        "STORE 1 ANNOTATION ()",
        "FETCH 1 ANNOTATION (/comment content)",
        "FETCH 1 ANNOTATION (/a//* value)",
        "FETCH 1 ANNOTATION (/comment)",
        "SEARCH ANNOTATION /comment size \"1\"",
        "SEARCH ANNOTATION /comment content.priv \"1\"",
        "SORT (ANNOTATION /comment value) UTF-8 ALL",
        "SORT (ANNOTATION /comment size.priv) UTF-8 ALL",
        "SORT (ANNOTATION /c* value.priv) UTF-8 ALL",
    };
    struct fake_client *c = fred_with(1);

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char line[200];
        snprintf(line, sizeof(line), "t %s", bad[i]);
        add_line(c, line);
        fake_turn(&world);
        if (!span_starts(buf_span(&c->out), SPAN_LIT("t BAD ")))
            fail_msg("%s: %s", bad[i], buf_cstr(&c->out));
        buf_clear(&c->out);
    }
    talk(c, "b FETCH 1 ANNOTATION (/* value)",
         "* 1 FETCH (UID 1)\r\nb OK Completed\r\n");
    /* A part that is not there is told of where it is read, too. */
    talk(c, "c FETCH 1 ANNOTATION (/2/comment value.priv)",
         "* 1 FETCH (ANNOTATION (/2/comment (value.priv NIL)))\r\n"
         "c BAD There is no such part\r\n");
}

static void
test_rights(void **state)
{
    (void)state;
    struct fake_client *fred = fred_with(1);
    struct fake_client *ann = login(1, "ann");

    quiet(fred, "a STORE 1 ANNOTATION (/comment (value.priv \"his\" "
                "value.shared \"all\"))");
    quiet(fred, "b SETACL INBOX ann lrs");
    quiet(ann, "c SELECT user/fred");
    talk(ann, "d FETCH 1 ANNOTATION (/comment value)",
         "* 1 FETCH (ANNOTATION (/comment (value.priv NIL value.shared "
         "\"all\")))\r\nd OK Completed\r\n");
    talk(ann, "e STORE 1 ANNOTATION (/comment (value.shared \"x\"))",
         "e NO [NOPERM] Permission denied\r\n");
    talk(ann, "f STORE 1 ANNOTATION (/comment (value.priv \"hers\"))",
         "f OK Completed\r\n");
    talk(ann, "g FETCH 1 ANNOTATION (/comment value)",
         "* 1 FETCH (ANNOTATION (/comment (value.priv \"hers\" value.shared "
         "\"all\")))\r\ng OK Completed\r\n");
    talk(ann, "h SEARCH ANNOTATION /comment value.priv \"his\"",
         "* SEARCH\r\nh OK Completed\r\n");
    quiet(fred, "i SETACL INBOX ann lrsn");
    quiet(ann, "j SELECT user/fred");
    talk(ann, "k STORE 1 ANNOTATION (/comment (value.shared \"x\"))",
         "k OK Completed\r\n");
    add_line(ann, "l EXAMINE user/fred");
    fake_turn(&world);
    assert_true(span_find(buf_span(&ann->out),
                          SPAN_LIT("* OK [ANNOTATIONS READ-ONLY] Ok\r\n")) > 0);
    buf_clear(&ann->out);
    talk(ann, "m STORE 1 ANNOTATION (/comment (value.priv \"x\"))",
         "m NO Mailbox is read-only\r\n");
}

static void
test_limits(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(1);
    AUTO(buf_free) struct buf line = BUF_INIT;

    add_line(c, "a SELECT INBOX");
    fake_turn(&world);
    assert_true(span_find(buf_span(&c->out),
                          SPAN_LIT("* OK [ANNOTATIONS 10000] Ok\r\n")) > 0);
    buf_clear(&c->out);
    /* Of the size that was told one is taken, no larger one. */
    for (size_t n = 10000; n <= 10001; n++) {
        buf_clear(&line);
        buf_addf(&line, "b STORE 1 ANNOTATION (/comment (value.priv {%zu+}\r\n",
                 n);
        for (size_t i = 0; i < n; i++)
            buf_add_byte(&line, 'x');
        buf_add_str(&line, "))");
        talk(c, buf_cstr(&line),
             n == 10000 ? "b OK Completed\r\n"
                        : "b NO [ANNOTATE TOOBIG] Annotation too large\r\n");
    }
    /* So are a thousand, and no more. */
    for (unsigned i = 1; i <= ANNOTS_PER_TARGET; i++) {
        buf_clear(&line);
        buf_addf(&line, "c STORE 1 ANNOTATION (/n%u (value.priv \"\"))", i);
        talk(c, buf_cstr(&line),
             i < ANNOTS_PER_TARGET
                 ? "c OK Completed\r\n"
                 : "c NO [ANNOTATE TOOMANY] Too many annotations\r\n");
    }
    /* All of them, in more than one turn. */
    add_line(c, "d FETCH 1 ANNOTATION (/* size.priv)");
    fake_turn(&world);
    size_t n = 0;
    for (struct span left = buf_span(&c->out); left.n > 0;) {
        ptrdiff_t at = span_find(left, SPAN_LIT("(size.priv "));
        if (at < 0)
            break;
        n++;
        left = span_skip(left, (size_t)at + 1);
    }
    assert_int_equal(n, ANNOTS_PER_TARGET);
    assert_true(span_find(buf_span(&c->out), SPAN_LIT("d OK Completed")) > 0);
    buf_clear(&c->out);
}

static void
test_large_ones_are_told_in_turns(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(1);
    AUTO(buf_free) struct buf line = BUF_INIT;

    for (unsigned i = 0; i < 20; i++) {
        buf_clear(&line);
        buf_addf(&line, "a STORE 1 ANNOTATION (/n%02u (value.priv {9000+}\r\n",
                 i);
        for (size_t k = 0; k < 9000; k++)
            buf_add_byte(&line, (uint8_t)('a' + i));
        buf_add_str(&line, "))");
        quiet(c, buf_cstr(&line));
    }
    c->full_at = 1;
    add_line(c, "b FETCH 1 (UID ANNOTATION (/* value.priv) FLAGS)");
    fake_turn(&world);
    unsigned seen = 0, turns = 0;
    bool over = false;
    while (!over) {
        turns++;
        struct span out = buf_span(&c->out);
        for (;;) {
            char want[40];
            snprintf(want, sizeof(want), "/n%02u (value.priv {9000}", seen);
            ptrdiff_t at = span_find(out, span_str(want));
            if (at < 0)
                break;
            out = span_skip(out, (size_t)at + 1);
            seen++;
        }
        over = span_find(out, SPAN_LIT("b OK Completed")) >= 0;
        assert_true(buf_span(&c->out).n < 100000);
        buf_clear(&c->out);
        if (!over)
            imap_session_drained(c->session);
        fake_turn(&world);
    }
    assert_int_equal(seen, 20);
    assert_true(turns > 1);
}

static void
test_modseq_and_unchangedsince(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct fake_client *other = login(1, "fred");

    append(c, "INBOX", "", MSG_A);
    append(c, "INBOX", "", MSG_A);
    quiet(other, "a SELECT INBOX");
    quiet(c, "a SELECT INBOX (CONDSTORE)");
    talk(c, "b FETCH 1:2 MODSEQ",
         "* 1 FETCH (MODSEQ (M1))\r\n* 2 FETCH (MODSEQ (M2))\r\n"
         "b OK Completed\r\n");
    talk(c, "c STORE 1 ANNOTATION (/comment (value.shared \"x\"))",
         "* 1 FETCH (FLAGS () UID 1 MODSEQ (M3))\r\nc OK Completed\r\n");
    talk(c,
         "d STORE 1:2 (UNCHANGEDSINCE M2) ANNOTATION (/comment (value.priv "
         "\"y\" value.shared \"z\") /altsubject (value.priv \"w\"))",
         "* 2 FETCH (FLAGS () UID 2 MODSEQ (M4))\r\n"
         "d OK [MODIFIED 1] Conditional STORE failed\r\n");
    talk(c, "e FETCH 1:2 ANNOTATION (/* value)",
         "* 1 FETCH (ANNOTATION (/comment (value.priv NIL value.shared "
         "\"x\")))\r\n* 2 FETCH (ANNOTATION (/altsubject (value.priv \"w\" "
         "value.shared NIL) /comment (value.priv \"y\" value.shared "
         "\"z\")))\r\ne OK Completed\r\n");
}

static void
test_others_are_told_names_and_no_values(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(1);
    struct fake_client *told = login(1, "fred");
    struct fake_client *plain = login(2, "fred");

    quiet(told, "a SELECT INBOX (ANNOTATE)");
    quiet(plain, "a SELECT INBOX");
    talk(c, "b STORE 1 ANNOTATION (/comment (value.shared \"secret\"))",
         "b OK Completed\r\n");
    talk(told, "c NOOP",
         "* 1 FETCH (FLAGS (\\Seen) ANNOTATION (/comment))\r\n"
         "c OK Completed\r\n");
    talk(plain, "d NOOP", "* 1 FETCH (FLAGS (\\Seen))\r\nd OK Completed\r\n");
    /* It was for that SELECT alone. */
    quiet(told, "e SELECT INBOX");
    quiet(c, "f STORE 1 ANNOTATION (/comment (value.shared \"more\"))");
    talk(told, "g NOOP", "* 1 FETCH (FLAGS (\\Seen))\r\ng OK Completed\r\n");
}

static void
test_copy_takes_own_and_shared_ones(void **state)
{
    (void)state;
    struct fake_client *fred = fred_with(1);
    struct fake_client *ann = login(1, "ann");

    quiet(fred, "a SETACL INBOX ann lrsn");
    quiet(ann, "b SELECT user/fred");
    quiet(ann, "c STORE 1 ANNOTATION (/comment (value.priv \"hers\"))");
    quiet(fred, "d STORE 1 ANNOTATION (/comment (value.priv \"his\" "
                "value.shared \"all\"))");
    quiet(fred, "e CREATE INBOX/to");
    quiet(fred, "f SETACL INBOX/to ann lrsin");
    quiet(fred, "g COPY 1 INBOX/to");
    quiet(fred, "h SELECT INBOX/to");
    talk(fred, "i FETCH 1 ANNOTATION (/comment value)",
         "* 1 FETCH (ANNOTATION (/comment (value.priv \"his\" value.shared "
         "\"all\")))\r\ni OK Completed\r\n");
    quiet(ann, "j SELECT user/fred/to");
    talk(ann, "k FETCH 1 ANNOTATION (/comment value)",
         "* 1 FETCH (ANNOTATION (/comment (value.priv NIL value.shared "
         "\"all\")))\r\nk OK Completed\r\n");
    /* Without n there shared ones stay behind. */
    quiet(fred, "l SETACL INBOX/to ann lrsi");
    quiet(ann, "m SELECT user/fred");
    quiet(ann, "n COPY 1 user/fred/to");
    quiet(ann, "o SELECT user/fred/to");
    talk(ann, "p FETCH 2 ANNOTATION (/comment value)",
         "* 2 FETCH (ANNOTATION (/comment (value.priv \"hers\" value.shared "
         "NIL)))\r\np OK Completed\r\n");
}

static void
test_append_with_annotations(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    struct fake_client *ann = login(1, "ann");

    talk(c,
         "a APPEND INBOX (\\Seen) " DATE "ANNOTATION (/comment (value.priv "
         "{4+}\r\nmine value.shared \"all\")) {12+}\r\nSubject: a\r\n {12+}"
         "\r\nSubject: b\r\n",
         "a OK [APPENDUID V 1:2] Completed\r\n");
    quiet(c, "b SELECT INBOX");
    talk(c, "c FETCH 1:2 ANNOTATION (/comment value)",
         "* 1 FETCH (ANNOTATION (/comment (value.priv \"mine\" value.shared "
         "\"all\")))\r\n* 2 FETCH (ANNOTATION (/comment (value.priv NIL "
         "value.shared NIL)))\r\nc OK Completed\r\n");
    quiet(c, "d SETACL INBOX ann lri");
    talk(ann,
         "e APPEND user/fred ANNOTATION (/comment (value.shared \"x\")) "
         "{12+}\r\nSubject: c\r\n",
         "e NO [NOPERM] Permission denied\r\n");
    talk(ann,
         "f APPEND user/fred ANNOTATION (/2/comment (value.priv \"x\")) "
         "{12+}\r\nSubject: c\r\n",
         "f BAD There is no such part\r\n");
    talk(ann,
         "g APPEND user/fred ANNOTATION (/1/comment (value.priv \"x\")) "
         "{12+}\r\nSubject: c\r\n",
         "g OK [APPENDUID V 3] Completed\r\n");
}

static void
test_search_and_sort(void **state)
{
    (void)state;
    struct fake_client *c = fred_with(3);

    quiet(c, "a STORE 1 ANNOTATION (/altsubject (value.priv \"Pear\"))");
    quiet(c, "b STORE 2 ANNOTATION (/altsubject (value.priv \"apple\") "
             "/comment (value.shared \"a Pear tree\"))");
    talk(c, "c SEARCH ANNOTATION /altsubject value \"pear\"",
         "* SEARCH 1\r\nc OK Completed\r\n");
    talk(c, "d SEARCH ANNOTATION * value \"PEAR\"",
         "* SEARCH 1 2\r\nd OK Completed\r\n");
    talk(c, "e SEARCH ANNOTATION /% value.shared \"pear\"",
         "* SEARCH 2\r\ne OK Completed\r\n");
    talk(c, "f SEARCH NOT ANNOTATION /altsubject value.priv \"\"",
         "* SEARCH 3\r\nf OK Completed\r\n");
    talk(c, "g SORT (ANNOTATION /altsubject value.priv) UTF-8 ALL",
         "* SORT 3 2 1\r\ng OK Completed\r\n");
    talk(c, "h SORT (REVERSE ANNOTATION /altsubject value.priv) UTF-8 ALL",
         "* SORT 1 2 3\r\nh OK Completed\r\n");
    talk(c, "i SORT (ANNOTATION /altsubject value.shared ARRIVAL) UTF-8 ALL",
         "* SORT 1 2 3\r\ni OK Completed\r\n");
}

/* ---- binary parts (RFC 3516, 4.4) -------------------------------------- */

#define BINARY_HEAD                                                            \
    "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; "       \
    "boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n--b\r\n\r\n"       \
    "text\r\n--b\r\nContent-Type: application/octet-stream\r\n"                \
    "Content-Transfer-Encoding:\r\n binary\r\nX-More: yes\r\n\r\n"

static void
append_binary(struct fake_client *c, struct span message, const char *want)
{
    buf_addf(&c->in, "a APPEND INBOX ~{%zu+}\r\n", message.n);
    buf_add(&c->in, message);
    buf_add_str(&c->in, "\r\n");
    expect(c, want);
}

static void
test_binary_parts_come_back_as_they_were(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    AUTO(buf_free) struct buf msg = BUF_INIT, part = BUF_INIT;

    for (unsigned i = 0; i < 100; i++)
        buf_add_byte(&part, (uint8_t)(i % 7 == 0 ? 0 : i));
    buf_add_str(&msg, BINARY_HEAD);
    buf_add(&msg, buf_span(&part));
    buf_add_str(&msg, "\r\n--b--\r\n");
    append_binary(c, buf_span(&msg), "a OK [APPENDUID V 1] Completed\r\n");
    quiet(c, "b SELECT INBOX");
    buf_add_str(&c->in, "c FETCH 1 BINARY.PEEK[2]\r\n");
    fake_turn(&world);
    buf_clear(&msg);
    buf_add_str(&msg, "* 1 FETCH (BINARY[2] ~{100}\r\n");
    buf_add(&msg, buf_span(&part));
    buf_add_str(&msg, ")\r\nc OK Completed\r\n");
    assert_true(span_eq(buf_span(&c->out), buf_span(&msg)));
    buf_clear(&c->out);
    talk(c, "d FETCH 1 (BINARY.SIZE[2] BODY.PEEK[2.MIME] BODY.PEEK[1])",
         "* 1 FETCH (BINARY.SIZE[2] 100 BODY[2.MIME] {90}\r\n"
         "Content-Transfer-Encoding: base64\r\n"
         "Content-Type: application/octet-stream\r\n"
         "X-More: yes\r\n\r\n BODY[1] {4}\r\ntext)\r\nd OK Completed\r\n");
    add_line(c, "e FETCH 1 BODY.PEEK[]");
    fake_turn(&world);
    assert_true(span_find_byte(buf_span(&c->out), 0, 0) < 0);
    buf_clear(&c->out);
}

/* Every length of the end of base64, and a message that is one part. */
static void
test_a_binary_message_of_any_length(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");

    for (size_t n = 1; n < 8; n++) {
        AUTO(buf_free) struct buf msg = BUF_INIT;
        char want[100];
        buf_add_str(&msg, "Content-Type: image/x\r\n\r\n");
        for (size_t i = 0; i < n; i++)
            buf_add_byte(&msg, i + 1 == n ? 0 : 'z');
        snprintf(want, sizeof(want), "a OK [APPENDUID V %zu] Completed\r\n", n);
        append_binary(c, buf_span(&msg), want);
    }
    quiet(c, "b SELECT INBOX");
    talk(c, "c FETCH 1:7 BINARY.SIZE[1]",
         "* 1 FETCH (BINARY.SIZE[1] 1)\r\n* 2 FETCH (BINARY.SIZE[1] 2)\r\n"
         "* 3 FETCH (BINARY.SIZE[1] 3)\r\n* 4 FETCH (BINARY.SIZE[1] 4)\r\n"
         "* 5 FETCH (BINARY.SIZE[1] 5)\r\n* 6 FETCH (BINARY.SIZE[1] 6)\r\n"
         "* 7 FETCH (BINARY.SIZE[1] 7)\r\nc OK Completed\r\n");
}

static void
test_nul_elsewhere_is_refused(void **state)
{
    (void)state;
    struct fake_client *c = login(0, "fred");
    static const char no[] = "a NO [UNKNOWN-CTE] NUL outside of a binary "
                             "part\r\n";

    append_binary(c, SPAN_LIT("Sub\0ject: a\r\n\r\ntext"), no);
    append_binary(c, SPAN_LIT("Sub\0ject: a\r\n\r\nte\0xt"), no);
    append_binary(
        c, SPAN_LIT("Content-Transfer-Encoding: base64\r\n\r\nAA\0=="), no);
    append_binary(c,
                  SPAN_LIT("Content-Type: multipart/mixed; boundary=b\r\n\r\n"
                           "pre\0amble\r\n--b\r\n\r\nx\r\n--b--\r\n"),
                  no);
    buf_add(&c->in, SPAN_LIT("b APPEND INBOX {3+}\r\na\0b\r\n"));
    expect(c, "b NO Message contains NUL characters\r\n");
    talk(c, "c STATUS INBOX (MESSAGES)",
         "* STATUS INBOX (MESSAGES 0)\r\nc OK Completed\r\n");
    /* In base64 it would be larger than messages may be. */
    AUTO(buf_free) struct buf msg = BUF_INIT;
    buf_add_str(&msg, "Content-Type: image/x\r\n\r\n");
    while (msg.n < 90000)
        buf_add_byte(&msg, 0);
    append_binary(c, buf_span(&msg),
                  "a NO [TOOBIG] Message too large in base64\r\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_stored_values_are_fetched, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_wildcards_know_levels, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_binary_values_are_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_invalid_names_are_bad, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_rights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_ones_are_told_in_turns,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_modseq_and_unchangedsince, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_others_are_told_names_and_no_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copy_takes_own_and_shared_ones,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_append_with_annotations, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_search_and_sort, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_binary_parts_come_back_as_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_binary_message_of_any_length,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_nul_elsewhere_is_refused, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
