/*
 * MAILBOX, RECORD and SEEN of CSYNC by state: the lines of a Cyrus 3.6 to
 * structs and back to the same bytes, its CRCs, each key missing or wrong, each
 * bound, and every line cut at every byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "csync/sync_read.h"

#define NS "/vendor/cmu/cyrus-imapd/"
#define GUID_1 "41fb199b014628269bde377a0536cf9f50de7e26"
#define GUID_2 "505346fec0f751c08501c69751858fad223d98af"

/* As a Cyrus 3.6.1 sent it, less what has no place here (QUOTAROOT is
 * informative, FOLDERMODSEQ its own). */
static const char HEAD[] =
    "UNIQUEID oi7mrp6f0ir8g9mqshk27wr8 MBOXNAME user.john SYNC_CRC 1399335263 "
    "SYNC_CRC_ANNOT 2390705324 LAST_UID 3 HIGHESTMODSEQ 15 RECENTUID 3 "
    "RECENTTIME 1795303661 LAST_APPENDDATE 1795303661 POP3_LAST_LOGIN 0 "
    "POP3_SHOW_AFTER 0 UIDVALIDITY 1795303662 PARTITION default "
    "ACL \"john\tlrswipkxtecdan\tmailproxy\tlrs\t\" OPTIONS P "
    "QUOTAROOT user.john CREATEDMODSEQ 1 ANNOTATIONS (%(ENTRY /comment USERID "
    "\"\" MODSEQ 0 VALUE sh) %(ENTRY /comment USERID john MODSEQ 0 VALUE "
    "{15+}\r\nmy \"comment\" %x))";
static const char RECORDS[] =
    " RECORD ("
    "%(UID 1 MODSEQ 15 LAST_UPDATED 1795303685 FLAGS (\\Flagged \\Seen "
    "$Label1) INTERNALDATE 1704103200 SIZE 107 GUID " GUID_1
    " ANNOTATIONS (%(ENTRY /comment USERID \"\" MODSEQ 10 VALUE shval) "
    "%(ENTRY /comment USERID john MODSEQ 10 VALUE privval) "
    "%(ENTRY " NS "savedate USERID \"\" MODSEQ 0 VALUE 1795303661) "
    "%(ENTRY " NS "createdmodseq USERID \"\" MODSEQ 0 VALUE 3))) "
    "%(UID 2 MODSEQ 14 LAST_UPDATED 1795303685 FLAGS (\\Draft MyKW) "
    "INTERNALDATE 1704189600 SIZE 107 GUID " GUID_2
    " ANNOTATIONS (%(ENTRY /altsubject USERID \"\" MODSEQ 11 VALUE \"alt "
    "subj\") "
    "%(ENTRY " NS "savedate USERID \"\" MODSEQ 0 VALUE 1795303661) "
    "%(ENTRY " NS "createdmodseq USERID \"\" MODSEQ 0 VALUE 4))) "
    "%(UID 3 MODSEQ 7 LAST_UPDATED 1795303661 FLAGS (\\Deleted \\Expunged) "
    "INTERNALDATE 1704189600 SIZE 107 GUID " GUID_1 ")))\r\n";

/* Feed TEXT by STEP bytes at a time; the answer of the last one. */
static enum parse
feed(struct sync_reader *r, struct span text, size_t step, size_t *ret_used,
     struct error *err)
{
    size_t at = 0, shown = 0;
    enum parse rc = PARSE_MORE;

    while (rc == PARSE_MORE && shown < text.n) {
        size_t used = 0;
        shown = MIN(shown + step, text.n);
        rc = sync_reader_feed(r, span_sub(text, at, shown - at), &used, err);
        at += used;
    }
    *ret_used = at;
    return rc;
}

static struct sync_reader *
read_mailbox(const char *head, const char *records, enum errcode want)
{
    struct sync_reader *r = sync_reader_mailbox();
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error err = {0};
    size_t used = 0;

    buf_add_str(&text, "%(");
    buf_add_str(&text, head);
    buf_add_str(&text, records);
    assert_int_equal(feed(r, buf_span(&text), SIZE_MAX / 2, &used, &err),
                     PARSE_DONE);
    assert_int_equal(used, text.n);
    enum errcode rc = sync_reader_code(r, &err);
    if (rc != want)
        fail_msg("%s: %s", errcode_name(rc), err.text);
    return r;
}

static void
test_a_mailbox_comes_and_goes_out_the_same(void **state)
{
    struct sync_reader *r = read_mailbox(HEAD, RECORDS, ERR_OK);
    AUTO(buf_free) struct buf out = BUF_INIT, want = BUF_INIT;
    struct dlist_printer p;
    bool head_only = true;
    struct sync_mailbox *mb = sync_reader_result(r, &head_only);

    (void)state;
    assert_false(head_only);
    assert_int_equal(mb->nrecords, 3);
    assert_int_equal(mb->nannots, 2);
    assert_int_equal(mb->options, MBOX_POP3_UIDL);
    assert_int_equal(mb->records[0].m.saved_s, 1795303661);
    assert_int_equal(mb->records[1].m.created_modseq, 4);
    assert_int_equal(mb->records[0].nannots, 2);
    assert_int_equal(mb->records[2].m.flags, FLAG_DELETED | FLAG_EXPUNGED);
    mb->quota_root = "user.john"; /* not kept */
    dlist_print_begin(&p, &out, DLIST_CLIENT);
    sync_mailbox_print(mb, &p);
    dlist_open_list(&p, "RECORD");
    for (size_t i = 0; i < mb->nrecords; i++)
        sync_record_print(&mb->records[i], &p);
    dlist_close(&p);
    dlist_close(&p);
    buf_addf(&want, "MAILBOX %%(%s", HEAD);
    buf_add(&want, span_of(RECORDS, sizeof(RECORDS) - 3));
    assert_string_equal(buf_cstr(&out), buf_cstr(&want));
    sync_reader_free(&r);
}

static void
test_crcs_are_those_of_a_cyrus(void **state)
{
    struct sync_reader *r = read_mailbox(HEAD, RECORDS, ERR_OK);
    bool head_only;
    struct sync_mailbox *mb = sync_reader_result(r, &head_only);
    uint32_t crc = 0, annots = SYNC_CRC_ANNOT_START;

    (void)state;
    assert_true(sync_crc_basic(&mb->records[0].m) == 1517338849);
    assert_true(sync_crc_basic(&mb->records[1].m) == 152627646);
    for (size_t i = 0; i < mb->nrecords; i++) {
        crc ^= sync_crc_basic(&mb->records[i].m);
        annots ^= sync_crc_annots(&mb->records[i]);
    }
    assert_true(crc == mb->crc && crc == 1399335263);
    assert_true(annots == mb->crc_annot && annots == 2390705324);
    sync_reader_free(&r);

    /* all flags, a thread id without its zeros, bytes that are no ASCII */
    r = read_mailbox(
        "UNIQUEID a MBOXNAME user.a LAST_UID 7 HIGHESTMODSEQ 42 RECENTUID 0 "
        "RECENTTIME 0 POP3_LAST_LOGIN 0 UIDVALIDITY 1 PARTITION d ACL \"\" "
        "OPTIONS \"\"",
        " RECORD (%(UID 7 MODSEQ 42 LAST_UPDATED 1700000000 FLAGS (\\Seen "
        "\\Answered \\Deleted \\Flagged \\Draft NonJunk $Forwarded) "
        "INTERNALDATE 1700000001 SIZE 1 GUID "
        "2ba2080bd9a7a6e723aad13b9bfcd3f197be53ae ANNOTATIONS ("
        "%(ENTRY " NS "thrid USERID \"\" MODSEQ 0 VALUE 00000000deadbeef) "
        "%(ENTRY " NS "savedate USERID \"\" MODSEQ 0 VALUE 1700000002) "
        "%(ENTRY " NS "createdmodseq USERID \"\" MODSEQ 0 VALUE 40) "
        "%(ENTRY " NS "basethrid USERID \"\" MODSEQ 0 VALUE 00000000deadbeee) "
        "%(ENTRY /comment USERID mary MODSEQ 0 VALUE {9+}\r\ncaf\xc3\xa9 "
        "\"x\")))))\r\n",
        ERR_OK);
    mb = sync_reader_result(r, &head_only);
    assert_true(sync_crc_basic(&mb->records[0].m) == 3710738748);
    assert_true((SYNC_CRC_ANNOT_START ^ sync_crc_annots(&mb->records[0])) ==
                839639284);
    sync_reader_free(&r);
    assert_true(sync_crc_fits(0, 5) && sync_crc_fits(5, 5) &&
                !sync_crc_fits(4, 5));
}

/* By one byte at a time, and by every other step: the same. */
static void
test_cut_anywhere_is_the_same(void **state)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    (void)state;
    buf_addf(&text, "%%(%s%sNOOP\r\n", HEAD, RECORDS);
    for (size_t step = 1; step < 40; step++) {
        struct sync_reader *r = sync_reader_mailbox();
        struct error err = {0};
        size_t used = 0;
        bool head_only;
        assert_int_equal(feed(r, buf_span(&text), step, &used, &err),
                         PARSE_DONE);
        assert_int_equal(used, text.n - 6);
        assert_int_equal(sync_reader_code(r, &err), ERR_OK);
        assert_int_equal(sync_reader_result(r, &head_only)->nrecords, 3);
        sync_reader_free(&r);
    }
    /* and ended at every byte: never whole, never a crash */
    for (size_t n = 0; n < text.n - 6; n++) {
        struct sync_reader *r = sync_reader_mailbox();
        struct error err = {0};
        size_t used = 0;
        assert_int_equal(
            feed(r, span_sub(buf_span(&text), 0, n), 7, &used, &err),
            PARSE_MORE);
        sync_reader_free(&r);
    }
}

/* Each line with something wrong, read to its end and refused. */
static void
test_what_is_missing_or_wrong_is_refused(void **state)
{
    static const char *const keys[] = {
        "UNIQUEID",  "MBOXNAME",   "LAST_UID",        "HIGHESTMODSEQ",
        "RECENTUID", "RECENTTIME", "POP3_LAST_LOGIN", "UIDVALIDITY",
        "PARTITION", "ACL",        "OPTIONS"};
    static const char *const bad_records[] = {
        "%(UID 0 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 "
        "GUID " GUID_1 ")",
        "%(UID 1 MODSEQ 0 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 "
        "GUID " GUID_1 ")",
        "%(UID 1 MODSEQ 1 LAST_UPDATED x FLAGS () INTERNALDATE 1 SIZE 1 "
        "GUID " GUID_1 ")",
        "%(UID 1 MODSEQ 1 LAST_UPDATED 1 FLAGS x INTERNALDATE 1 SIZE 1 "
        "GUID " GUID_1 ")",
        "%(UID 1 MODSEQ 1 LAST_UPDATED 1 FLAGS (\"a b\") INTERNALDATE 1 SIZE 1 "
        "GUID " GUID_1 ")",
        "%(UID 1 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE "
        "4294967296 GUID " GUID_1 ")",
        "%(UID 1 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 GUID "
        "41)",
        "%(UID 1 MODSEQ 9223372036854775808 LAST_UPDATED 1 FLAGS () "
        "INTERNALDATE 1 SIZE 1 GUID " GUID_1 ")",
        "%(UID 1 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 "
        "GUID " GUID_1 " ANNOTATIONS (%(ENTRY \"\" USERID \"\" VALUE x)))",
        "%(UID 1 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 "
        "GUID " GUID_1 " ANNOTATIONS (%(ENTRY /x USERID \"\")))",
        "(1 2 3)",
        "NIL",
    };
    struct sync_reader *r;
    char line[1024];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        AUTO(buf_free) struct buf head = BUF_INIT;
        const char *at = strstr(HEAD, keys[i]);
        while (at != HEAD && at[-1] != ' ')
            at = strstr(at + 1, keys[i]);
        buf_add(&head, span_of(HEAD, (size_t)(at - HEAD)));
        buf_add_str(&head, "X-");
        buf_add_str(&head, at);
        r = read_mailbox(buf_cstr(&head), RECORDS, ERR_SYNTAX);
        sync_reader_free(&r);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad_records); i++) {
        snprintf(line, sizeof(line), " RECORD (%s))\r\n", bad_records[i]);
        r = read_mailbox(HEAD, line, ERR_SYNTAX);
        sync_reader_free(&r);
    }
    /* UIDs that do not ascend */
    snprintf(line, sizeof(line), " RECORD (%s %s))\r\n",
             "%(UID 2 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 "
             "GUID " GUID_1 ")",
             "%(UID 2 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 "
             "GUID " GUID_1 ")");
    r = read_mailbox(HEAD, line, ERR_SYNTAX);
    sync_reader_free(&r);
    /* a UNIQUEID or an ACL that would break the lines it is printed in */
    r = read_mailbox("UNIQUEID \"a b\" MBOXNAME user.a", ")\r\n", ERR_SYNTAX);
    sync_reader_free(&r);
}

static void
test_what_cannot_be_is_found(void **state)
{
    struct sync_reader *r = read_mailbox(HEAD, RECORDS, ERR_OK);
    bool head_only;
    struct sync_mailbox *mb = sync_reader_result(r, &head_only);
    struct error err = {0};
    const uint64_t now = 1795303662;

    (void)state;
    assert_int_equal(sync_mailbox_check(mb, now, &err), ERR_OK);
    mb->last_uid = 2;
    assert_int_equal(sync_mailbox_check(mb, now, &err), ERR_SYNTAX);
    mb->last_uid = 3;
    mb->highestmodseq = 14;
    assert_int_equal(sync_mailbox_check(mb, now, &err), ERR_SYNTAX);
    mb->highestmodseq = 15;
    mb->recent_uid = 4;
    assert_int_equal(sync_mailbox_check(mb, now, &err), ERR_SYNTAX);
    mb->recent_uid = 3;
    mb->uidvalidity = 0;
    assert_int_equal(sync_mailbox_check(mb, now, &err), ERR_SYNTAX);
    mb->uidvalidity = UINT32_MAX;
    assert_int_equal(sync_mailbox_check(mb, now, &err), ERR_SYNTAX);
    sync_reader_free(&r);

    r = read_mailbox("UNIQUEID a MBOXNAME user.a MBOXTYPE ei HIGHESTMODSEQ 1 "
                     "CREATEDMODSEQ 1 FOLDERMODSEQ 1",
                     ")\r\n", ERR_OK);
    (void)sync_reader_result(r, &head_only);
    assert_true(head_only);
    sync_reader_free(&r);
}

static void
test_bounds(void **state)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct sync_reader *r = sync_reader_mailbox();
    struct error err = {0};
    size_t used = 0;

    (void)state;
    /* more keys than anybody has */
    buf_add_str(&text, "%(");
    for (int i = 0; i < 100; i++)
        buf_addf(&text, "K%d v ", i);
    buf_add_str(&text, ")\r\n");
    assert_int_equal(feed(r, buf_span(&text), 64, &used, &err), PARSE_DONE);
    assert_int_equal(sync_reader_code(r, &err), ERR_LIMIT);
    sync_reader_free(&r);
    /* a literal that is too long, announced: refused before it comes */
    r = sync_reader_mailbox();
    assert_int_equal(feed(r, SPAN_LIT("%(ACL {131073+}\r\n"), 64, &used, &err),
                     PARSE_BAD);
    sync_reader_free(&r);
    /* nested too deeply */
    r = sync_reader_mailbox();
    assert_int_equal(
        feed(r, SPAN_LIT("%(A ((((((((((x))))))))))"), 64, &used, &err),
        PARSE_BAD);
    sync_reader_free(&r);
    /* a value without end */
    r = sync_reader_mailbox();
    buf_clear(&text);
    buf_add_str(&text, "%(A (");
    while (text.n < 5U << 20)
        buf_add_str(&text,
                    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
                    "                                                  ");
    assert_int_equal(feed(r, buf_span(&text), SIZE_MAX / 2, &used, &err),
                     PARSE_BAD);
    sync_reader_free(&r);
}

/* ---- messages ----------------------------------------------------------- */

struct got {
    struct buf text; /* "begin size:bytes|" each */
    enum errcode say;
};

static enum errcode
on_begin(void *ctx, const struct guid *guid, uint64_t size, struct error *err)
{
    struct got *g = ctx;
    char text[GUID_TEXT_BYTES];

    buf_addf(&g->text, "%.4s %" PRIu64 ":", guid_text(guid, text), size);
    return g->say == ERR_OK ? ERR_OK : error_set(err, g->say, "told to");
}

static enum errcode
on_bytes(void *ctx, struct span bytes, struct error *err)
{
    struct got *g = ctx;

    (void)err;
    buf_add(&g->text, bytes);
    return ERR_OK;
}

static enum errcode
on_end(void *ctx, struct error *err)
{
    struct got *g = ctx;

    (void)err;
    buf_add_byte(&g->text, '|');
    return ERR_OK;
}

static void
test_messages_come_in_any_pieces(void **state)
{
    struct span text =
        SPAN_LIT("(%{default " GUID_1 " 5}\r\nhe)lo NIL %{\"a b\" " GUID_2
                 " 0}\r\n %{p " GUID_2 " 3}\n\r\n)) \r\nNOOP\r\n");

    (void)state;
    for (size_t step = 1; step < text.n; step++) {
        struct got g = {0};
        struct sync_reader *r = sync_reader_message(
            &(struct sync_files){&g, on_begin, on_bytes, on_end});
        struct error err = {0};
        size_t used = 0;
        assert_int_equal(feed(r, text, step, &used, &err), PARSE_DONE);
        assert_int_equal(used, text.n - 6);
        assert_int_equal(sync_reader_code(r, &err), ERR_OK);
        assert_string_equal(buf_cstr(&g.text),
                            "41fb 5:he)lo|5053 0:|5053 3:\r\n)|");
        buf_free(&g.text);
        sync_reader_free(&r);
    }
    /* who does not want it gets no more of it, and the line is read on */
    struct got g = {.say = ERR_NOSPACE};
    struct sync_reader *r = sync_reader_message(
        &(struct sync_files){&g, on_begin, on_bytes, on_end});
    struct error err = {0};
    size_t used = 0;
    assert_int_equal(feed(r, text, 3, &used, &err), PARSE_DONE);
    assert_int_equal(sync_reader_code(r, &err), ERR_NOSPACE);
    assert_string_equal(buf_cstr(&g.text), "41fb 5:");
    buf_free(&g.text);
    sync_reader_free(&r);
    /* more than any message has */
    r = sync_reader_message(
        &(struct sync_files){&g, on_begin, on_bytes, on_end});
    assert_int_equal(
        feed(r, SPAN_LIT("(%{p " GUID_1 " 1073741825}\r\n"), 9, &used, &err),
        PARSE_BAD);
    sync_reader_free(&r);
    buf_free(&g.text);
}

static void
test_seen_as_dlist_and_as_row(void **state)
{
    struct arena a = ARENA_INIT;
    AUTO(buf_free) struct buf out = BUF_INIT, row = BUF_INIT;
    struct error err = {0};
    struct dlist *d = NULL;
    struct dlist_printer p;
    struct sync_seen s, back;
    size_t used = 0;
    struct span line =
        SPAN_LIT("SEEN %(USERID mailproxy UNIQUEID oi7m LASTREAD 1795303685 "
                 "LASTUID 3 LASTCHANGE 1795303661 SEENUIDS 1:5,9)\r\n");

    (void)state;
    assert_int_equal(
        dlist_parse(line, &dlist_default_limits, &a, &d, &used, &err),
        PARSE_DONE);
    assert_int_equal(sync_seen_read(d, &a, &s, &err), ERR_OK);
    dlist_print_begin(&p, &out, DLIST_CLIENT);
    sync_seen_print(&s, &p);
    assert_true(span_eq(buf_span(&out), span_sub(line, 0, line.n - 2)));
    sync_seen_encode(&s, &row);
    assert_true(sync_seen_decode(buf_span(&row), &back));
    assert_int_equal(back.last_uid, 3);
    assert_true(span_eq_str(back.uids, "1:5,9"));
    for (size_t n = 0; n < row.n - s.uids.n; n++)
        assert_false(sync_seen_decode(span_sub(buf_span(&row), 0, n), &back));
    arena_free(&a);
}

static void
test_options(void **state)
{
    char text[5];

    (void)state;
    assert_int_equal(sync_options_bits(SPAN_LIT("PSDA")), MBOX_OPTIONS);
    assert_int_equal(sync_options_bits(SPAN_LIT("xS")), MBOX_SHAREDSEEN);
    assert_string_equal(sync_options_text(MBOX_OPTIONS, text), "PSDA");
    assert_string_equal(sync_options_text(0, text), "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mailbox_comes_and_goes_out_the_same),
        cmocka_unit_test(test_crcs_are_those_of_a_cyrus),
        cmocka_unit_test(test_cut_anywhere_is_the_same),
        cmocka_unit_test(test_what_is_missing_or_wrong_is_refused),
        cmocka_unit_test(test_what_cannot_be_is_found),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_messages_come_in_any_pieces),
        cmocka_unit_test(test_seen_as_dlist_and_as_row),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
