/*
 * tests/imapd/test_keys.c - blocks of keys for SORT and THREAD (imapd/keys.c):
 * their bytes, by hand; what is damaged, cut or of another version counts as
 * not there; and whatever the blocks have, the answers stay the same.
 */
#include "tests/imapd/talking.h"

#include "imapd/keys.h"

#define ENTRY                                                                  \
    "\x06" /* reply, dated */                                                  \
    "\xA7\x37"                                                                 \
    "\x05"                                                                     \
    "FIRST"                                                                    \
    "\x03"                                                                     \
    "ANN"                                                                      \
    "\x03"                                                                     \
    "BOB"                                                                      \
    "\x00"                                                                     \
    "\x05"                                                                     \
    "ANN A"                                                                    \
    "\x05"                                                                     \
    "BOB@B"                                                                    \
    "\x03"                                                                     \
    "m@i"                                                                      \
    "\x01\x04\x03r@1"
#define ENTRY_BYTES (sizeof(ENTRY) - 1)

static const struct mime_cache first = {
    .flags = MIME_CACHE_REPLY | MIME_CACHE_DATED | MIME_CACHE_FIELDS,
    .sent_utc_s = -3540,
    .base_subject = {(const uint8_t *)"First", 5},
    .from = {(const uint8_t *)"ann", 3},
    .to = {(const uint8_t *)"bob", 3},
    .display_from = {(const uint8_t *)"Ann A", 5},
    .display_to = {(const uint8_t *)"bob@b", 5},
    .message_id = {(const uint8_t *)"m@i", 3},
    .nrefs = 1,
    .refs = {(const uint8_t *)"\x03r@1", 4},
};

static void
assert_first(const struct message_keys *k)
{
    assert_int_equal(k->flags, MIME_CACHE_REPLY | MIME_CACHE_DATED);
    assert_true(k->sent_utc_s == -3540);
    assert_true(span_eq_str(k->text[KEY_SUBJECT], "FIRST"));
    assert_true(span_eq_str(k->text[KEY_FROM], "ANN"));
    assert_true(span_eq_str(k->text[KEY_TO], "BOB"));
    assert_int_equal(k->text[KEY_CC].n, 0);
    assert_true(span_eq_str(k->text[KEY_DISPLAYFROM], "ANN A"));
    assert_true(span_eq_str(k->text[KEY_DISPLAYTO], "BOB@B"));
    assert_true(span_eq_str(k->message_id, "m@i"));
    assert_true(k->has_refs);
    assert_int_equal(k->nrefs, 1);
    assert_true(span_eq_str(k->refs, "\x03r@1"));
}

static void
test_entry_golden_bytes_and_every_cut(void **state)
{
    struct buf out = BUF_INIT;
    struct message_keys k;
    (void)state;

    keys_encode(&first, &out);
    assert_true(span_eq(buf_span(&out), span_of(ENTRY, ENTRY_BYTES)));
    assert_true(keys_decode(buf_span(&out), &k));
    assert_first(&k);
    for (size_t n = 0; n < ENTRY_BYTES; n++) {
        uint8_t *copy = xmalloc(n + 1);
        memcpy(copy, ENTRY, n);
        assert_false(keys_decode(span_of(copy, n), &k));
        free(copy);
    }
    buf_add_byte(&out, 0);
    assert_false(keys_decode(buf_span(&out), &k));
    buf_free(&out);
}

static void
test_long_references_stay_in_the_record(void **state)
{
    struct buf out = BUF_INIT, refs = BUF_INIT;
    struct message_keys k;
    struct mime_cache mime = first;
    (void)state;

    for (mime.nrefs = 0; refs.n <= 1024; mime.nrefs++)
        buf_add_blob(&refs, SPAN_LIT("some@reference"));
    mime.refs = buf_span(&refs);
    keys_encode(&mime, &out);
    assert_true(keys_decode(buf_span(&out), &k));
    assert_false(k.has_refs);
    assert_int_equal(k.nrefs, 0);
    buf_free(&out);
    buf_free(&refs);
}

/* The block of UIDs 256 to 511 with entries of UIDs 257 and 300. */
#define BLOCK_HEAD "\x01\x02"
#define BLOCK                                                                  \
    BLOCK_HEAD "\x01"                                                          \
               "\x28" ENTRY "\x2C"                                             \
               "\x28" ENTRY
#define BLOCK_BYTES (sizeof(BLOCK) - 1)

static bool
has(mbid_t id, uint32_t uid)
{
    struct keys k = {0};
    struct message_keys got;
    struct store_snap *snap = store_snapshot(world.store);
    bool found = keys_find(&k, world.store, snap, id, uid, &got);

    if (found)
        assert_first(&got);
    keys_close(&k, world.store, id);
    store_release(&snap);
    return found;
}

static void
read_block(mbid_t id, uint32_t number, struct buf *ret)
{
    struct error err;
    struct store_snap *snap = store_snapshot(world.store);

    buf_clear(ret);
    if (snap_cache_block(snap, id, number, ret, &err) != ERR_OK)
        buf_clear(ret);
    store_release(&snap);
}

static void
test_block_golden_bytes(void **state)
{
    struct buf b = BUF_INIT;
    struct keys k = {0};
    struct message_keys got;
    const mbid_t id = 7;
    (void)state;

    assert_int_equal(ENTRY_BYTES, 0x28);
    struct store_snap *snap = store_snapshot(world.store);
    assert_false(keys_find(&k, world.store, snap, id, 257, &got));
    keys_add(&k, 257, &first, &got);
    assert_first(&got);
    assert_false(keys_find(&k, world.store, snap, id, 300, &got));
    keys_add(&k, 300, &first, &got);
    keys_close(&k, world.store, id);
    store_release(&snap);
    read_block(id, 1, &b);
    assert_true(span_eq(buf_span(&b), span_of(BLOCK, BLOCK_BYTES)));
    assert_true(has(id, 257));
    assert_true(has(id, 300));
    assert_false(has(id, 256));
    assert_false(has(id, 299));
    assert_false(has(id, 511));
    assert_false(has(id, 1));
    buf_free(&b);
}

static void
test_other_and_damaged_blocks_are_none(void **state)
{
    uint8_t bytes[BLOCK_BYTES];
    const mbid_t id = 7;
    (void)state;

    for (size_t n = 0; n < BLOCK_BYTES; n++) {
        store_cache_put_block(world.store, id, 1, span_of(BLOCK, n));
        /* Cut between two entries it is a block of one. */
        assert_int_equal(has(id, 257), n == 2 + 2 + ENTRY_BYTES);
        assert_false(has(id, 300));
    }
    for (size_t i = 0; i < 2; i++) { /* versions */
        memcpy(bytes, BLOCK, BLOCK_BYTES);
        bytes[i]++;
        store_cache_put_block(world.store, id, 1, span_of(bytes, BLOCK_BYTES));
        assert_false(has(id, 257));
    }
    memcpy(bytes, BLOCK, BLOCK_BYTES); /* UIDs do not ascend */
    bytes[2] = 0x2C;
    store_cache_put_block(world.store, id, 1, span_of(bytes, BLOCK_BYTES));
    assert_false(has(id, 300));
}

/* One new message is no reason to write a large block again, some are. */
static void
test_blocks_grow_by_shares(void **state)
{
    struct buf before = BUF_INIT, after = BUF_INIT;
    struct message_keys got;
    const mbid_t id = 7;
    (void)state;

    for (uint32_t last = 100; last <= 116; last += 16) {
        struct keys k = {0};
        struct store_snap *snap = store_snapshot(world.store);
        for (uint32_t uid = 1; uid <= last; uid++)
            if (!keys_find(&k, world.store, snap, id, uid, &got))
                keys_add(&k, uid, &first, &got);
        keys_close(&k, world.store, id);
        store_release(&snap);
        assert_true(has(id, last));
        read_block(id, 0, &before);
        assert_int_equal(before.n, 2 + last * (2 + ENTRY_BYTES));
        /* One in front of those that are there, and one behind. */
        struct keys one = {0};
        snap = store_snapshot(world.store);
        assert_false(keys_find(&one, world.store, snap, id, last + 1, &got));
        keys_add(&one, last + 1, &first, &got);
        keys_close(&one, world.store, id);
        store_release(&snap);
        read_block(id, 0, &after);
        assert_true(span_eq(buf_span(&before), buf_span(&after)));
    }
    buf_free(&before);
    buf_free(&after);
}

#define MAIL(subject, more) "Subject: " subject "\r\n" more "\r\nx\r\n"
#define BOTH(sort, thread)                                                     \
    do {                                                                       \
        for (int again = 0; again < 3; again++) {                              \
            talk(c, "a SORT (SUBJECT) UTF-8 ALL",                              \
                 "* SORT " sort "\r\na OK Completed\r\n");                     \
            talk(c, "b THREAD REFERENCES UTF-8 ALL",                           \
                 "* THREAD " thread "\r\nb OK Completed\r\n");                 \
        }                                                                      \
    } while (0)

/* With blocks and without, with rows and without. */
static void
test_answers_stay_the_same(void **state)
{
    struct fake_client *c = login(0, "fred");
    struct fake_client *other = login(1, "fred");
    (void)state;

    append(c, "INBOX", DATE, MAIL("zebra", "Message-ID: <1@a>\r\n"));
    append(c, "INBOX", DATE,
           MAIL("Re: apple",
                "Date: 1 Jan 2020 00:00 +0000\r\nReferences: <1@a>\r\n"));
    quiet(c, "s SELECT INBOX");
    BOTH("2 1", "(1 2)");
    append(c, "INBOX", DATE, MAIL("mango", "Date: 1 Jan 2021 00:00 +0000\r\n"));
    quiet(c, "n NOOP");
    BOTH("2 3 1", "(1 2)(3)");
    talk(c, "a SORT (REVERSE SUBJECT) UTF-8 ALL",
         "* SORT 1 3 2\r\na OK Completed\r\n");
    talk(c, "a SORT (DATE) UTF-8 ALL", "* SORT 2 1 3\r\na OK Completed\r\n");
    talk(c, "a SORT (SIZE) UTF-8 ALL", "* SORT 1 3 2\r\na OK Completed\r\n");
    talk(c, "a UID SORT (SUBJECT) UTF-8 2:3",
         "* SORT 2 3\r\na OK Completed\r\n");

    /* What the client was not told of yet is not found, what is gone neither:
     * the numbers are still those that it knows. */
    quiet(other, "s SELECT INBOX");
    quiet(other, "x STORE 1 +FLAGS.SILENT (\\Deleted)");
    quiet(other, "x EXPUNGE");
    append(other, "INBOX", DATE, MAIL("kiwi", ""));
    talk(c, "a SORT (SUBJECT) UTF-8 ALL",
         "* SORT 2 3\r\n* 4 EXISTS\r\n* 3 RECENT\r\na OK Completed\r\n");
}

/* Texts that only differ far behind, and ones that are parts of others. */
static void
test_order_of_like_texts(void **state)
{
    struct fake_client *c = login(0, "fred");
    (void)state;

    append(c, "INBOX", "", MAIL("the very same beginning, 9", ""));
    append(c, "INBOX", "", MAIL("the very same beginning, 10000000012", ""));
    append(c, "INBOX", "", MAIL("the very same beginning, 10000000011", ""));
    append(c, "INBOX", "", MAIL("the very same", ""));
    append(c, "INBOX", "", MAIL("The Very Same Beginning, 9", ""));
    append(c, "INBOX", "", MAIL("", ""));
    append(c, "INBOX", "", MAIL("the very same beginning, 1", ""));
    quiet(c, "s SELECT INBOX");
    talk(c, "a SORT (SUBJECT) UTF-8 ALL",
         "* SORT 6 4 7 3 2 1 5\r\na OK Completed\r\n");
    talk(c, "a SORT (REVERSE SUBJECT) UTF-8 ALL",
         "* SORT 1 5 2 3 7 4 6\r\na OK Completed\r\n");
    talk(c, "a SORT (SUBJECT) UTF-8 1:3,5",
         "* SORT 3 2 1 5\r\na OK Completed\r\n");
}

/* Fields that a derived record has, and ones that it has not, by any list. */
static void
test_header_fields_from_record_and_message(void **state)
{
    struct fake_client *c = login(0, "fred");
    (void)state;

    append(c, "INBOX", "",
           "X-Other: o\r\nfrom: a@b\r\nSubject: s\r\n more\r\n"
           "Received: r\r\nSubject: t\r\n\r\nbody");
    quiet(c, "s SELECT INBOX");
    talk(c, "a FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT To From)])",
         "* 1 FETCH (BODY[HEADER.FIELDS (SUBJECT To From)] {44}\r\n"
         "from: a@b\r\nSubject: s\r\n more\r\nSubject: t\r\n\r\n)\r\n"
         "a OK Completed\r\n");
    talk(c, "a FETCH 1 (BODY.PEEK[HEADER.FIELDS (From Received)])",
         "* 1 FETCH (BODY[HEADER.FIELDS (From Received)] {26}\r\n"
         "from: a@b\r\nReceived: r\r\n\r\n)\r\na OK Completed\r\n");
    talk(c, "a FETCH 1 (BODY.PEEK[HEADER.FIELDS (From)]<2.5>)",
         "* 1 FETCH (BODY[HEADER.FIELDS (From)]<2> {5}\r\nom: a)\r\n"
         "a OK Completed\r\n");
    talk(c, "a FETCH 1 (BODY.PEEK[HEADER.FIELDS.NOT (From Subject)])",
         "* 1 FETCH (BODY[HEADER.FIELDS.NOT (From Subject)] {27}\r\n"
         "X-Other: o\r\nReceived: r\r\n\r\n)\r\na OK Completed\r\n");
    talk(c, "a FETCH 1 (BODY.PEEK[HEADER.FIELDS (Bcc)])",
         "* 1 FETCH (BODY[HEADER.FIELDS (Bcc)] {2}\r\n\r\n)\r\n"
         "a OK Completed\r\n");
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entry_golden_bytes_and_every_cut),
        cmocka_unit_test(test_long_references_stay_in_the_record),
        WITH(test_block_golden_bytes),
        WITH(test_other_and_damaged_blocks_are_none),
        WITH(test_blocks_grow_by_shares),
        WITH(test_answers_stay_the_same),
        WITH(test_order_of_like_texts),
        WITH(test_header_fields_from_record_and_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
