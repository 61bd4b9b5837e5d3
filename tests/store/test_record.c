/*
 * The bytes of records and rows.  Golden bytes made by hand, each record cut at
 * every byte and with a byte too many (ERR_CORRUPT), of a version to come
 * (ERR_VERSION), and what no encoder would write.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/rows.h"

typedef enum errcode
decode_as(struct span body, uint8_t version, struct arena *a,
          struct error *err);

/* Decode as KIND, and encode again to the same bytes if that went well. */
#define DECODE_AS(kind)                                                        \
    static enum errcode as_##kind(struct span body, uint8_t version,           \
                                  struct arena *a, struct error *err)          \
    {                                                                          \
        struct rec_##kind rec;                                                 \
        AUTO(buf_free) struct buf again = BUF_INIT;                            \
        enum errcode rc = rec_##kind##_decode(body, version, a, &rec, err);    \
        if (rc != ERR_OK)                                                      \
            return rc;                                                         \
        rec_##kind##_encode(&rec, &again);                                     \
        assert_true(span_eq(buf_span(&again), body));                          \
        return rc;                                                             \
    }

DECODE_AS(epoch)
DECODE_AS(mailbox)
DECODE_AS(rename)
DECODE_AS(set)
DECODE_AS(append)
DECODE_AS(body)
DECODE_AS(flags)
DECODE_AS(expunge)
DECODE_AS(user)
DECODE_AS(quota)
DECODE_AS(purge)
DECODE_AS(annot)
DECODE_AS(seen)
DECODE_AS(forget)
DECODE_AS(rows)
DECODE_AS(head)

#define GUID_A "AAAAAAAAAAAAAAAAAAAA"

static const struct {
    uint8_t type;
    decode_as *decode;
    struct span bytes;
    const char *text;
} golden[] = {
    {REC_EPOCH, as_epoch,
     SPAN_LIT("\x07"                             /* epoch */
              "\xac\x02"                         /* fork LSN 300 */
              "\x08\x07\x06\x05\x04\x03\x02\x01" /* chain there */
              "\x05"                             /* time */
              "\x80\x80\x04"                     /* headroom 65536 */
              "IIIIIIIIIIIIIIII"
              "\x04swap"),
     "epoch epoch=7 fork=300 headroom=65536 reason=\"swap\""},
    {REC_MAILBOX, as_mailbox,
     SPAN_LIT("\x03uid"
              "\x08user.ann"
              "\x06"
              "a\tlrs\t" /* ACL */
              "\x00"     /* no quota root */
              "\x05\\Sent"
              "\x07"
              "default"
              "\x64" /* UIDVALIDITY 100 */
              "\x01" /* UIDNEXT */
              "\x02" /* epoch of the last UID */
              "\x00"),
     "mailbox mbid=9 name=user.ann uniqueid=uid uidvalidity=100"},
    {REC_RENAME, as_rename,
     SPAN_LIT("\x02"
              "\x03"
              "\x01"
              "x"
              "\x00"
              "\x04"
              "\x03"
              "x.y"
              "\x07"
              "\x03"
              "ann"
              "\x03"
              "bob"),
     "rename mbid=3 name=x mbid=4 name=x.y user=ann to=bob"},
    {REC_RENAME, as_rename,
     SPAN_LIT("\x00"
              "\x03"
              "ann"
              "\x00"),
     "rename user=ann to="},
    {REC_SET, as_set,
     SPAN_LIT("\x03"
              "\x3f" /* all fields */
              "\x01"
              "a"          /* ACL */
              "\x05\\Junk" /* special use */
              "\x09"       /* recent UID */
              "\x01"       /* options */
              "\x02p2"     /* partition */
              "\xac\x02"), /* UIDVALIDITY */
     "set mbid=3 acl=1 special_use=\"\\Junk\" recent_uid=9 options=0x1 "
     "partition=p2 uidvalidity=300"},
    {REC_APPEND, as_append,
     SPAN_LIT("\x03"
              "\x05" /* mailbox, UID */
              "\x09" /* \Answered \Seen */
              GUID_A "\x00"
              "\x00" /* MODSEQs: this record's own */
              "\x04"
              "\x77"
              "\x05\x02" /* 2, -60, -3, one later */
              "\x06"     /* size */
              "\x02"
              "\x01"
              "A"
              "\x01"
              "B"
              "\x03" /* has body and dedup */
              "DDDDDDDDDDDDDDDD"
              "\x00" /* raw */
              "\x01\x00\x00\x00\x00\x00\x00\x00"
              "\x06"
              "hello\n"),
     "append mbid=3 uid=5 guid=4141414141414141414141414141414141414141 "
     "size=6 flags=0x9 keywords=2 body=6 dedup=1"},
    {REC_BODY, as_body,
     SPAN_LIT(GUID_A "\x01"
                     "\x03"
                     "\x80\x80\xa0\x01" /* part, of, size */
                     "\x01"             /* zstd */
                     "\x0a"             /* raw bytes */
                     "\x02\x00\x00\x00\x00\x00\x00\x00"
                     "\x03"
                     "abc"),
     "body guid=4141414141414141414141414141414141414141 part=1/3 "
     "size=2621440 body=3"},
    {REC_FLAGS, as_flags,
     SPAN_LIT("\x03"
              "\x02"
              "\x08"
              "\x00"
              "\x01"
              "\x01\x02" /* \Seen: 1:3 */
              "\x00"
              "\x01"
              "\x01"
              "K"
              "\x02"
              "\x05\x00\x02\x00"),
     NULL},
    {REC_EXPUNGE, as_expunge,
     SPAN_LIT("\x03"
              "\x01"
              "\x05\x01"),
     NULL},
    {REC_PURGE, as_purge,
     SPAN_LIT("\x03"
              "\x00"
              "\x01"),
     "purge mbid=3 live=1 uids="},
    {REC_PURGE, as_purge,
     SPAN_LIT("\x03"
              "\x01"
              "\x05\x01"
              "\x00"),
     "purge mbid=3 live=0 uids=6:7"},
    {REC_UNEXPUNGED, as_expunge,
     SPAN_LIT("\x03"
              "\x01"
              "\x05\x00"),
     "unexpunged mbid=3 uids=6"},
    {REC_ANNOT, as_annot,
     SPAN_LIT("\x03\x05" /* mailbox, UID */
              "\x00"     /* MODSEQ changes */
              "\x02"
              "\x08/comment"
              "\x00" /* shared */
              "\x01"
              "\x02hi"
              "\x08/comment"
              "\x03"
              "ann"
              "\x00"), /* removed */
     "annot mbid=3 uid=5 entry=/comment user= set=1 entry=/comment user=ann "
     "set=0"},
    {REC_SEEN, as_seen,
     SPAN_LIT("\x03\x03"
              "ann"
              "\x01\x01\x02" /* seen 2:4 */
              "\x01\x09\x00"
              "\x01"), /* MODSEQs stay */
     "seen mbid=3 user=ann seen=2:4 unseen=10"},
    {REC_ROWS, as_rows,
     SPAN_LIT("\x03"
              "\x02"     /* mailbox, rows */
              "\x05\x09" /* UID, flags */
              GUID_A "\x0f\x03\x04\x00\x06\x00\x0a"
              "\x01"
              "\x01"
              "A"
              "\x07\x80\x01" /* a tombstone */
              GUID_A "\x10\x03\x04\x00\x06\x02\x0a\x00\x0c"),
     "rows mbid=3 rows=2 first=5 last=7"},
    {REC_HEAD, as_head,
     SPAN_LIT("\x03"
              "\xac\x02\x08"     /* UIDVALIDITY, UIDNEXT */
              "\x10\x01\x02"     /* highest, created, purged MODSEQ */
              "\x07\x1f"         /* recent UID, options */
              "\x64\xc0\x84\x3d" /* recent time, last append */
              "\x65\x66"),       /* POP3 */
     "head mbid=3 uidvalidity=300 uidnext=8 highestmodseq=16 options=0x1f"},
    {REC_FORGET, as_forget,
     SPAN_LIT("\x02"
              "DDDDDDDDDDDDDDDDEEEEEEEEEEEEEEEE"),
     "forget marks=2"},
    {REC_USER, as_user,
     SPAN_LIT("\x03"
              "ann"
              "s"
              "\x06user.b"
              "\x01"
              "\x01"
              "v"),
     "user user=ann kind=s name=user.b set=1"},
    {REC_USER, as_user,
     SPAN_LIT("\x03"
              "ann"
              "s"
              "\x06user.b"
              "\x00"),
     "user user=ann kind=s name=user.b set=0"},
    {REC_QUOTA, as_quota,
     SPAN_LIT("\x06user.a"
              "\x01"
              "\xe8\x07"
              "\x05"
              "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" /* no limit */
              "\x07"),
     "quota root=user.a set=1 storage=1000 messages=5 annotations=7"},
};

static uint8_t
version(uint8_t type)
{
    return record_version((enum record_type)type);
}

static void
test_golden_bytes_decode_describe_and_encode(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
        struct arena a = ARENA_INIT;
        struct error err = {0};
        AUTO(buf_free) struct buf text = BUF_INIT;
        if (golden[i].decode(golden[i].bytes, version(golden[i].type), &a,
                             &err) != ERR_OK)
            fail_msg("%zu: %s", i, err.text);
        const struct record rec = {.lsn = 9,
                                   .epoch = 1,
                                   .type = golden[i].type,
                                   .version = version(golden[i].type),
                                   .body = golden[i].bytes};
        record_describe(&rec, &text);
        if (golden[i].text != NULL)
            assert_string_equal(buf_cstr(&text), golden[i].text);
        assert_null(strstr(buf_cstr(&text), "undecodable"));
        arena_free(&a);
    }
}

static void
test_cut_longer_or_newer_records_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
        struct arena a = ARENA_INIT;
        struct error err = {0};
        struct span all = golden[i].bytes;
        const uint8_t v = version(golden[i].type);
        for (size_t n = 0; n < all.n; n++) {
            uint8_t *cut = xmalloc(n + 1);
            memcpy(cut, all.p, n);
            assert_int_equal(golden[i].decode(span_of(cut, n), v, &a, &err),
                             ERR_CORRUPT);
            free(cut);
        }
        uint8_t *longer = xcalloc(1, all.n + 1);
        memcpy(longer, all.p, all.n);
        assert_int_equal(
            golden[i].decode(span_of(longer, all.n + 1), v, &a, &err),
            ERR_CORRUPT);
        free(longer);
        for (uint8_t other = 0; other < 4; other++)
            if (other != v)
                assert_int_equal(golden[i].decode(all, other, &a, &err),
                                 ERR_VERSION);
        arena_free(&a);
    }
}

static const struct {
    uint8_t type;
    decode_as *decode;
    struct span bytes;
} bad[] = {
    /* keywords out of order, twice, empty */
    {REC_FLAGS, as_flags,
     SPAN_LIT("\x03\x01\x00\x02\x01"
              "B\x01"
              "A\x01\x01\x00")},
    {REC_FLAGS, as_flags,
     SPAN_LIT("\x03\x01\x00\x02\x01"
              "A\x01"
              "A\x01\x01\x00")},
    {REC_FLAGS, as_flags, SPAN_LIT("\x03\x01\x00\x01\x00\x01\x01\x00")},
    /* a flag that is not settable; no group; more groups than bytes */
    {REC_FLAGS, as_flags, SPAN_LIT("\x03\x01\x80\x01\x00\x01\x01\x00")},
    {REC_FLAGS, as_flags, SPAN_LIT("\x03\x00")},
    {REC_FLAGS, as_flags,
     SPAN_LIT("\x03\xff\xff\xff\xff\x0f\x08\x00\x01\x01\x02")},
    /* a NUL in a name; an empty name */
    {REC_RENAME, as_rename,
     SPAN_LIT("\x01\x03\x03"
              "x\0y\x00\x00\x00")},
    {REC_RENAME, as_rename, SPAN_LIT("\x01\x03\x00\x00\x00\x00")},
    {REC_RENAME, as_rename, SPAN_LIT("\x00\x00\x00")},
    /* an unknown field */
    {REC_SET, as_set, SPAN_LIT("\x03\x40")},
    /* epoch 0; neither true nor false */
    {REC_EPOCH, as_epoch,
     SPAN_LIT("\x00\x00"
              "CCCCCCCC"
              "\x00\x00"
              "IIIIIIIIIIIIIIII"
              "\x00")},
    {REC_QUOTA, as_quota,
     SPAN_LIT("\x01"
              "q\x02\x01\x01\x01\x01")},
    {REC_QUOTA, as_quota, SPAN_LIT("\x00\x00")},
    /* part beyond the last; more raw bytes than a part has */
    {REC_BODY, as_body,
     SPAN_LIT(GUID_A "\x03\x03\x0a\x00\x0a"
                     "HHHHHHHH"
                     "\x01x")},
    {REC_BODY, as_body,
     SPAN_LIT(GUID_A "\x00\x01\x0a\x00\x81\x80\x40"
                     "HHHHHHHH"
                     "\x01x")},
    /* options that are none; UIDVALIDITY 0 */
    {REC_SET, as_set, SPAN_LIT("\x03\x08\x20")},
    {REC_SET, as_set, SPAN_LIT("\x03\x20\x00")},
    /* nobody becomes somebody */
    {REC_RENAME, as_rename,
     SPAN_LIT("\x01\x03\x01x\x00\x00\x03"
              "bob")},
    /* nothing; a message of the server; more items than bytes; no entry */
    {REC_ANNOT, as_annot, SPAN_LIT("\x03\x05\x00\x00")},
    {REC_ANNOT, as_annot, SPAN_LIT("\x00\x05\x00\x01\x01/\x00\x00")},
    {REC_ANNOT, as_annot,
     SPAN_LIT("\x03\x05\x00\xff\xff\xff\xff\x0f/\x00\x00")},
    {REC_ANNOT, as_annot, SPAN_LIT("\x03\x05\x00\x01\x00\x00\x00")},
    /* nobody's; no mark; marks that are not there */
    {REC_SEEN, as_seen, SPAN_LIT("\x03\x00\x01\x01\x02\x00\x00")},
    /* UIDs not ascending; rows that are not there; UIDNEXT 0; options */
    {REC_ROWS, as_rows,
     SPAN_LIT("\x03\x02\x05\x09" GUID_A
              "\x0f\x03\x04\x00\x06\x00\x0a\x00\x05\x09" GUID_A
              "\x0f\x03\x04\x00\x06\x00\x0a\x00")},
    {REC_ROWS, as_rows, SPAN_LIT("\x03\x00")},
    {REC_ROWS, as_rows, SPAN_LIT("\x03\xff\xff\xff\xff\x0f\x05\x09")},
    {REC_HEAD, as_head,
     SPAN_LIT("\x03\x01\x00\x10\x01\x02\x07\x1f\x64\x01\x65\x66")},
    {REC_HEAD, as_head,
     SPAN_LIT("\x03\x01\x01\x10\x01\x02\x07\x20\x64\x01\x65\x66")},
    {REC_FORGET, as_forget, SPAN_LIT("\x00")},
    {REC_FORGET, as_forget,
     SPAN_LIT("\xff\xff\xff\xff\x0f"
              "DDDDDDDDDDDDDDDD")},
    {REC_PURGE, as_purge, SPAN_LIT("\x03\x00\x02")},
};

static void
test_what_no_encoder_writes_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct arena a = ARENA_INIT;
        struct error err = {0};
        if (bad[i].decode(bad[i].bytes, version(bad[i].type), &a, &err) !=
            ERR_CORRUPT)
            fail_msg("%zu was taken", i);
        arena_free(&a);
    }
}

static void
test_body_offset_points_at_the_stored_bytes(void **state)
{
    struct arena a = ARENA_INIT;
    struct error err;
    struct rec_append rec;
    struct span in = golden[5].bytes;

    (void)state;
    assert_int_equal(rec_append_decode(in, version(REC_APPEND), &a, &rec, &err),
                     ERR_OK);
    assert_memory_equal(in.p + rec.body_offset, "hello\n", 6);
    assert_int_equal(rec.msg.internal_s, 2);
    assert_int_equal(rec.msg.internal_tz_min, -60);
    assert_int_equal(rec.msg.saved_s, -3);
    arena_free(&a);
}

static void
test_unknown_type_is_described_as_such(void **state)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    const struct record rec = {.type = 99, .version = 1};

    (void)state;
    assert_null(record_type_name(99));
    assert_null(record_type_name(0));
    record_describe(&rec, &text);
    assert_non_null(strstr(buf_cstr(&text), "undecodable"));
}

static void
test_description_is_one_line_whatever_is_in_a_name(void **state)
{
    AUTO(buf_free) struct buf body = BUF_INIT, text = BUF_INIT;
    const struct rec_user user = {.user = "a\nb",
                                  .kind = USER_SUBSCRIPTION,
                                  .name = "c\td\x7f"
                                          "e\xc3\xa9",
                                  .is_set = true};

    (void)state;
    rec_user_encode(&user, &body);
    const struct record rec = {.type = REC_USER,
                               .version = record_version(REC_USER),
                               .body = buf_span(&body)};
    buf_add_str(&text, "before\t");
    record_describe(&rec, &text);
    assert_non_null(strstr(buf_cstr(&text), " user=a?b "));
    assert_non_null(strstr(buf_cstr(&text), " name=c?d?e\xc3\xa9 "));
    assert_true(span_starts(buf_span(&text), SPAN_LIT("before\t")));
}

/* ------------------------------------------------------------------- rows */

static void
test_golden_rows(void **state)
{
    struct arena a = ARENA_INIT;
    struct error err = {0};
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct span head = SPAN_LIT("\x03uid"
                                "\x08user.ann"
                                "\x00\x00\x00"
                                "\x01"
                                "p"
                                "\x64\x05"     /* UIDVALIDITY, UIDNEXT */
                                "\x90\x4e\x07" /* MODSEQs */
                                "\x04\x03\x02\xe8\x07\x01" /* counters */
                                "\x04\x01\x00\x09"
                                "\x0b\xac\x02" /* annotations, purged */
                                "\x64\x65\x66" /* times of a Cyrus */
                                "\x08\x07\x06\x05\x04\x03\x02\x01");
    struct mailbox mb;
    struct key k;

    (void)state;
    assert_int_equal(mailbox_decode(head, &a, &mb, &err), ERR_OK);
    assert_int_equal(mb.bytes, 1000);
    assert_int_equal(mb.highestmodseq, 10000);
    assert_int_equal(mb.annot_bytes, 11);
    assert_int_equal(mb.purged_modseq, 300);
    assert_int_equal(mb.recent_time_s, 100);
    assert_int_equal(mb.pop3_login_s, 101);
    assert_int_equal(mb.pop3_show_after_s, 102);
    assert_true(mb.digest == 0x0102030405060708);
    mailbox_encode(&mb, &out);
    assert_true(span_eq(buf_span(&out), head));
    for (size_t n = 0; n < head.n; n++)
        assert_int_equal(mailbox_decode(span_sub(head, 0, n), &a, &mb, &err),
                         ERR_CORRUPT);

    assert_true(span_eq(key_message(&k, 0x102, 7),
                        SPAN_LIT("m\0\0\0\0\0\0\1\2\0\0\0\7")));
    assert_true(span_eq(key_changed(&k, 1, 0x0203, 7),
                        SPAN_LIT("c\0\0\0\0\0\0\0\1\0\0\0\0\0\0\2\3\0\0\0\7")));
    assert_true(span_eq(key_changed_set(&k, 1, 0x0203, 0x10004),
                        SPAN_LIT("c\0\0\0\0\0\0\0\1\0\0\0\0\0\0\2\3\1\0\4")));
    assert_true(span_eq(key_user(&k, "ann", 's', "x"), SPAN_LIT("uann\0sx")));
    assert_int_equal(key_get_uid(key_message(&k, 3, 9)), 9);
    assert_int_equal(key_get_mbid(key_message(&k, 3, 9)), 3);
    assert_true(owner_hash("ann", 0) == 0);
    assert_true(owner_hash("ann", 1) != owner_hash("bob", 1));
    assert_true(row_hash(SPAN_LIT("a"), SPAN_LIT("bc")) !=
                row_hash(SPAN_LIT("ab"), SPAN_LIT("c")));
    assert_true(table_is_replicated('b') && !table_is_replicated('g') &&
                !table_is_replicated(0));
    arena_free(&a);
}

/* A row of changes: of one message, or those of a block of 4096 UIDs. */
static void
test_golden_rows_of_changes(void **state)
{
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct span five =
        SPAN_LIT("\x02\x86\x20\x02\x01\x01"); /* 4103:4105,4107:4108 */
    struct span torn = SPAN_LIT("\x02\x86\x20\x02\x86\x20\x00");
    struct span one, block;
    struct error err = {0};
    struct key k, k1;
    modseq_t modseq = 0;

    (void)state;
    one = key_changed(&k1, 1, 0x0203, 7);
    block = key_changed_set(&k, 1, 0x0203, 1);
    assert_true(
        span_eq(one, SPAN_LIT("c\0\0\0\0\0\0\0\1\0\0\0\0\0\0\2\3\0\0\0\7")));
    assert_true(
        span_eq(block, SPAN_LIT("c\0\0\0\0\0\0\0\1\0\0\0\0\0\0\2\3\0\0\1")));
    assert_int_equal(changed_row_decode(one, SPAN_EMPTY, &modseq, &uids, &err),
                     ERR_OK);
    assert_int_equal(modseq, 0x0203);
    assert_true(uids.n == 1 && uids.r[0].first == 7 && uids.r[0].last == 7);
    assert_int_equal(changed_row_decode(block, five, &modseq, &uids, &err),
                     ERR_OK);
    uidset_format(&uids, &out);
    assert_true(span_eq_str(buf_span(&out), "4103:4105,4107:4108"));
    buf_clear(&out);
    uidset_encode(&uids, &out);
    assert_true(span_eq(buf_span(&out), five));
    for (size_t i = 0; i < five.n; i++)
        assert_int_equal(changed_row_decode(block, span_sub(five, 0, i),
                                            &modseq, &uids, &err),
                         ERR_CORRUPT);
    for (size_t i = 0; i < block.n; i++)
        assert_int_equal(changed_row_decode(span_sub(block, 0, i), five,
                                            &modseq, &uids, &err),
                         ERR_CORRUPT);
    /* Of another block, of two blocks, of nothing. */
    block = key_changed_set(&k, 1, 0x0203, 2);
    assert_int_equal(changed_row_decode(block, five, &modseq, &uids, &err),
                     ERR_CORRUPT);
    block = key_changed_set(&k, 1, 0x0203, 1);
    assert_int_equal(changed_row_decode(block, torn, &modseq, &uids, &err),
                     ERR_CORRUPT);
    assert_int_equal(
        changed_row_decode(block, SPAN_LIT("\0"), &modseq, &uids, &err),
        ERR_CORRUPT);
}

/* A tombstone says when it became one; only tombstones can have come back. */
static void
test_golden_rows_of_version_3(void **state)
{
    struct arena a = ARENA_INIT;
    struct error err = {0};
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct span tombstone =
        SPAN_LIT("\x88\x07"             /* \\Seen, gone, back, annotated */
                 GUID_A "\x09\x08"      /* MODSEQs */
                 "\x04\x00\x06\x02\x0a" /* times, size */
                 "\x00"
                 "\x0c"); /* expunged at 6 */
    struct span alone =
        SPAN_LIT("\x80\x02" GUID_A "\x09\x08\x04\x00\x06\x00\x0a\x00");
    struct span quota = SPAN_LIT("\x01\x02\x03\x04\x05\x06\x07\x08");
    struct message m = {0};
    struct quota q = {0};
    struct key k;
    uint32_t n;
    struct span entry, user;

    (void)state;
    assert_int_equal(message_decode(tombstone, &a, &m, &err), ERR_OK);
    assert_int_equal(m.flags, FLAG_SEEN | FLAG_EXPUNGED | FLAG_UNEXPUNGED |
                                  FLAG_ANNOTATED);
    assert_int_equal(m.expunged_s, 6);
    assert_int_equal(m.saved_s, 3);
    assert_int_equal(m.updated_s, 4);
    message_encode(&m, &out);
    assert_true(span_eq(buf_span(&out), tombstone));
    for (size_t i = 0; i < tombstone.n; i++)
        assert_int_equal(
            message_decode(span_sub(tombstone, 0, i), &a, &m, &err),
            ERR_CORRUPT);
    assert_int_equal(message_decode(alone, &a, &m, &err), ERR_CORRUPT);
    assert_int_equal(quota_decode(quota, &q, &err), ERR_OK);
    assert_int_equal(q.limit[QUOTA_ANNOTATION], 4);
    assert_int_equal(q.used[QUOTA_STORAGE], 5);
    buf_clear(&out);
    quota_encode(&q, &out);
    assert_true(span_eq(buf_span(&out), quota));
    for (size_t i = 0; i < quota.n; i++)
        assert_int_equal(quota_decode(span_sub(quota, 0, i), &q, &err),
                         ERR_CORRUPT);

    assert_true(span_eq(key_annot(&k, 0x102, 7, "/c", "ann"),
                        SPAN_LIT("a\0\0\0\0\0\0\1\2\0\0\0\7/c\0ann")));
    assert_true(key_get_annot(key_span(&k), &n, &entry, &user));
    assert_true(n == 7 && span_eq_str(entry, "/c") && span_eq_str(user, "ann"));
    assert_false(key_get_annot(SPAN_LIT("a\0\0\0\0\0\0\1\2\0\0\0\7/c"), &n,
                               &entry, &user));
    assert_false(key_get_annot(SPAN_LIT("a\0\0"), &n, &entry, &user));
    assert_true(span_eq(key_seen(&k, 1, 0x0203, SPAN_LIT("ann")),
                        SPAN_LIT("s\0\0\0\0\0\0\0\1\2\3ann")));
    assert_true(key_get_seen(key_span(&k), &n, &user));
    assert_true(n == 0x0203 && span_eq_str(user, "ann"));
    assert_false(key_get_seen(SPAN_LIT("s\0\0\0\0\0\0\0\1\2\3"), &n, &user));
    assert_true(table_is_replicated('a') && table_is_replicated('s'));
    arena_free(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_bytes_decode_describe_and_encode),
        cmocka_unit_test(test_cut_longer_or_newer_records_are_refused),
        cmocka_unit_test(test_what_no_encoder_writes_is_refused),
        cmocka_unit_test(test_body_offset_points_at_the_stored_bytes),
        cmocka_unit_test(test_unknown_type_is_described_as_such),
        cmocka_unit_test(test_description_is_one_line_whatever_is_in_a_name),
        cmocka_unit_test(test_golden_rows),
        cmocka_unit_test(test_golden_rows_of_changes),
        cmocka_unit_test(test_golden_rows_of_version_3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
