/*
 * search/index.c and what stands below it: whatever the index says of random
 * mail is what reading the mail says, over several segments, merges, expunges,
 * kill -9 in the middle of indexing, and damage.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "search/index_private.h"
#include "search/indexer.h"
#include "tests/lib/storetest.h"

static struct teststore ts;
static char *dir;
static uint64_t rng;

/* ---- mail -------------------------------------------------------------- */

static const char *const vocabulary[] = {"invoice",
                                         "Meeting",
                                         "Gr\xC3\xBC\xC3\x9F"
                                         "e",
                                         "a",
                                         "re",
                                         "lorem",
                                         "x-ray",
                                         "foo_bar",
                                         "1234567890",
                                         "caf\xC3\xA9",
                                         "the",
                                         "there",
                                         "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E",
                                         "Jo@Example.ORG",
                                         "supercalifragilisticexpialidocious"};

static const char *
any_word(void)
{
    return vocabulary[ts_random(&rng, ARRAY_LEN(vocabulary))];
}

static void
add_words(struct buf *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_add_str(out, any_word());
        if (ts_random(&rng, 6) == 0)
            buf_addf(out, "%u", (unsigned)ts_random(&rng, 1000));
        buf_add_str(out, ts_random(&rng, 9) == 0    ? "\r\n"
                         : ts_random(&rng, 9) == 0  ? ", "
                         : ts_random(&rng, 20) == 0 ? ""
                                                    : " ");
    }
    buf_add_str(out, "\r\n");
}

static void
add_mail(struct buf *out)
{
    buf_addf(out, "Subject: %s =?utf-8?Q?%s_%s?= %s\r\nFrom: <%s%u@x.de>\r\n",
             "Re:", "=C3=84rger", "jetzt", any_word(), "s",
             (unsigned)ts_random(&rng, 50));
    switch (ts_random(&rng, 3)) {
    case 0:
        buf_add_str(out, "\r\n");
        add_words(out, ts_random(&rng, 60));
        break;
    case 1:
        buf_add_str(out, "Content-Type: text/plain; charset=iso-8859-1\r\n"
                         "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
                         "Stra=DFe und in=\r\nvoice\r\n");
        add_words(out, ts_random(&rng, 20));
        break;
    default:
        buf_add_str(out, "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
                         "--b\r\nContent-Type: text/html\r\n\r\n<b>");
        add_words(out, ts_random(&rng, 20));
        buf_add_str(out, "--b\r\nContent-Type: image/png; name=\"lorem.png\""
                         "\r\n\r\nhidden invoice\r\n"
                         "--b\r\nContent-Type: message/rfc822\r\n\r\n"
                         "Subject: inner\r\n\r\n");
        add_words(out, ts_random(&rng, 10));
        buf_add_str(out, "--b--\r\n");
    }
}

static void
append_bytes(mbid_t id, struct span raw)
{
    struct error err = {0};
    AUTO(body_free) struct body *body = store_body_new(ts.store, raw.n);
    struct store_txn *txn = txn_new();

    assert_int_equal(body_write(body, raw, &err), ERR_OK);
    assert_int_equal(body_finish(body, &err), ERR_OK);
    const struct txn_append op = {.id = id, .body = body};
    txn_append(txn, &op);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
}

static void
append_some(mbid_t id, size_t n)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;

    for (size_t i = 0; i < n; i++) {
        buf_clear(&raw);
        add_mail(&raw);
        append_bytes(id, buf_span(&raw));
    }
}

/* ---- comparing --------------------------------------------------------- */

static void
read_all(struct store_snap *snap, mbid_t id, struct mime_needle *needle,
         enum mime_search_where where, struct uidset *ret)
{
    struct message m;
    struct error err = {0};
    struct msg_iter *it = snap_messages(snap, id, 1, false);

    while (msg_iter_next(it, &m)) {
        AUTO(buf_free) struct buf raw = BUF_INIT;
        AUTO(buf_free) struct buf record = BUF_INIT;
        struct mime_message *parsed = NULL;
        struct mime_cache cache;
        assert_int_equal(
            store_body_read(ts.store, &m.guid, 0, m.size, &raw, &err), ERR_OK);
        mime_parse(buf_span(&raw), NULL, &parsed);
        mime_cache_encode(parsed, &record);
        mime_message_free(&parsed);
        assert_int_equal(mime_cache_decode(buf_span(&record), &cache, &err),
                         ERR_OK);
        if (mime_text_search(&cache, buf_span(&raw), needle, where))
            uidset_add(ret, m.uid, m.uid);
    }
    assert_int_equal(msg_iter_close(&it, &err), ERR_OK);
}

static const char *const needles[] = {"invoice",
                                      "INVOI",
                                      "voice m",
                                      "e",
                                      "re: ",
                                      "\xC3\xA4rger jetzt",
                                      "\xC3\xBC\xC3\x9F",
                                      "hidden",
                                      "lorem.png",
                                      "lorem",
                                      "inner",
                                      "foo_bar",
                                      "_",
                                      "jo@example.org",
                                      "@x.de",
                                      "s7@x.de",
                                      "stra\xC3\x9F"
                                      "e",
                                      "content-type: text",
                                      "12345",
                                      "234567890",
                                      "\xE6\x97\xA5\xE6\x9C\xAC",
                                      "the ",
                                      " there",
                                      "supercalifragilisticexpialidocious",
                                      "califragilisticexpialidocious1",
                                      "nowhere at all",
                                      "ray",
                                      "x-r",
                                      "9"};

/* What the index says of mailbox ID, against what reading says. */
static void
compare(struct search_index *x, mbid_t id, uint64_t want_covered)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(ts.store);
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error err = {0};
    struct mailbox mb;
    size_t exact = 0;

    assert_int_equal(snap_mailbox(snap, id, &a, &mb, &err), ERR_OK);
    AUTO(search_view_close) struct search_view *v = search_view_open(x, &mb);
    assert_non_null(v);
    AUTO(uidset_free) struct uidset alive = UIDSET_INIT;
    uint32_t unseen;
    assert_int_equal(snap_uids(snap, &mb, &alive, &unseen, &err), ERR_OK);
    uidset_intersect(&alive, search_view_covered(v));
    assert_int_equal(uidset_count(&alive), want_covered);
    for (size_t i = 0; i < ARRAY_LEN(needles) * 3; i++) {
        const enum mime_search_where where = (enum mime_search_where)(i % 3);
        struct mime_needle *n = mime_needle_new(span_str(needles[i / 3]));
        AUTO(uidset_free) struct uidset want = UIDSET_INIT;
        AUTO(uidset_free) struct uidset hits = UIDSET_INIT;
        bool is_exact = false;
        read_all(snap, id, n, where, &want);
        uidset_intersect(&want, search_view_covered(v));
        if (search_view_find(v, mime_needle_folded(n), where, &hits,
                             &is_exact)) {
            uidset_intersect(&hits, &alive);
            AUTO(uidset_free) struct uidset both = UIDSET_INIT;
            uidset_add_set(&both, &hits);
            uidset_intersect(&both, &want);
            if (!uidset_eq(&both, &want) ||
                (is_exact && !uidset_eq(&hits, &want)))
                fail_msg("\"%s\" in %d: %zu ranges found, %zu are there",
                         needles[i / 3], (int)where, hits.n, want.n);
            exact += is_exact;
        } else {
            assert_string_equal(needles[i / 3], "_");
        }
        mime_needle_free(&n);
    }
    assert_true(exact > 20);
}

static void
must_update(struct search_index *x, mbid_t id, const struct search_wish *wish,
            uint64_t want_messages)
{
    struct error err = {0};
    struct search_done done = {0};

    enum errcode rc = search_update(x, id, wish, &done, &err);
    if (rc != ERR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(done.messages, want_messages);
}

static struct search_index *
must_open(void)
{
    struct search_index *x = NULL;
    struct error err = {0};

    enum errcode rc = search_index_open(env_system(), dir, ts.store, &x, &err);
    if (rc != ERR_OK)
        fail_msg("%s", err.text);
    return x;
}

static size_t
segments_of(struct search_index *x, mbid_t id)
{
    AUTO(index_head_free) struct index_head h = {0};
    struct error err = {0};

    assert_int_equal(head_read(x->db, NULL, id, &h, &err), ERR_OK);
    return h.nsegments;
}

static const struct search_wish everything = {0};

/* ---- a world ----------------------------------------------------------- */

static int
set_up(void **state)
{
    char path[] = "/tmp/pollux-index.XXXXXX";
    (void)state;

    rng = 42;
    ts_new_master(&ts, 1, 0);
    assert_non_null(mkdtemp(path));
    dir = xasprintf("%s/search", path);
    return 0;
}

static int
tear_down(void **state)
{
    struct error err = {0};
    (void)state;

    ts_free(&ts);
    assert_int_equal(search_db_wipe(env_system(), dir, &err), ERR_OK);
    assert_int_equal(rmdir(dir), 0);
    *strrchr(dir, '/') = '\0';
    assert_int_equal(rmdir(dir), 0);
    free(dir);
    return 0;
}

/* ---- tests ------------------------------------------------------------- */

static void
test_says_what_reading_says(void **state)
{
    mbid_t id = ts_create(&ts, "user.a"), other = ts_create(&ts, "user.b");
    AUTO(search_index_close) struct search_index *x = must_open();
    uint64_t sum = 0;
    (void)state;

    append_some(other, 20);
    must_update(x, other, &everything, 20);
    for (int i = 0; i < 12; i++) {
        const size_t n = 1 + ts_random(&rng, 30);
        append_some(id, n);
        must_update(x, id, &everything, n);
        sum += n;
        assert_true(segments_of(x, id) <= 8);
        if (i % 4 == 3)
            compare(x, id, sum);
    }
    must_update(x, id, &everything, 0);
    compare(x, other, 20);

    /* What is expunged goes with the next merge of all. */
    assert_int_equal(ts_expunge(&ts, id, 5, 40), ERR_OK);
    compare(x, id, sum - 36);
    must_update(x, id, &(struct search_wish){.compact = true}, 0);
    assert_int_equal(segments_of(x, id), 1);
    compare(x, id, sum - 36);
    AUTO(uidset_free) struct uidset docs = UIDSET_INIT;
    AUTO(index_head_free) struct index_head h = {0};
    struct error err = {0};
    assert_int_equal(head_read(x->db, NULL, id, &h, &err), ERR_OK);
    assert_int_equal(docs_read(x->db, NULL, id, h.segments[0].id, &docs, &err),
                     ERR_OK);
    assert_int_equal(uidset_count(&docs), sum - 36);

    must_update(x, id, &(struct search_wish){.rebuild = true}, sum - 36);
    compare(x, id, sum - 36);
}

static void
test_stays_over_closing(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    struct search_index *x = must_open();
    (void)state;

    append_some(id, 30);
    must_update(x, id, &everything, 30);
    search_index_close(&x);
    x = must_open();
    compare(x, id, 30);
    must_update(x, id, &everything, 0);
    search_index_close(&x);
}

static void
test_few_new_messages_wait(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    AUTO(search_index_close) struct search_index *x = must_open();
    const struct search_wish wish = {.least = 20};
    (void)state;

    append_some(id, 19);
    must_update(x, id, &wish, 0);
    append_some(id, 1);
    must_update(x, id, &wish, 20);
    append_some(id, 19);
    must_update(x, id, &wish, 0);
    compare(x, id, 20);
    must_update(x, id, &everything, 19);
}

static void
test_mailbox_that_is_gone_is_forgotten(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    AUTO(search_index_close) struct search_index *x = must_open();
    struct store_txn *txn = txn_new();
    struct error err = {0};
    (void)state;

    append_some(id, 5);
    must_update(x, id, &everything, 5);
    txn_delete(txn, id, false, 0);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    must_update(x, id, &everything, 0);
    AUTO(index_head_free) struct index_head h = {0};
    assert_int_equal(head_read(x->db, NULL, id, &h, &err), ERR_NOTFOUND);
}

static void
test_other_uidvalidity_is_another_mailbox(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    AUTO(search_index_close) struct search_index *x = must_open();
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct store_txn *txn = txn_new();
    (void)state;

    append_some(id, 5);
    must_update(x, id, &everything, 5);
    struct mailbox mb = ts_mailbox(&ts, id, &a);
    txn_set_uidvalidity(txn, id, mb.uidvalidity + 1000);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    mb = ts_mailbox(&ts, id, &a);
    assert_null(search_view_open(x, &mb));
    must_update(x, id, &everything, 5);
    compare(x, id, 5);
}

static void
test_too_many_words_are_read(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    AUTO(search_index_close) struct search_index *x = must_open();
    AUTO(buf_free) struct buf raw = BUF_INIT;
    struct search_done done = {0};
    struct error err = {0};
    (void)state;

    append_some(id, 3);
    buf_add_str(&raw, "Subject: invoice\r\n\r\n");
    for (uint32_t i = 0; i <= LEXICON_DOC_WORDS; i++)
        buf_addf(&raw, "%x\r\n", i);
    append_bytes(id, buf_span(&raw));
    append_some(id, 3);
    assert_int_equal(search_update(x, id, &everything, &done, &err), ERR_OK);
    assert_int_equal(done.messages, 6);
    assert_int_equal(done.skipped, 1);
    compare(x, id, 6);
    must_update(x, id, &everything, 0);
}

/* ---- damage ------------------------------------------------------------ */

static void
damage_row(struct search_index *x, struct span prefix)
{
    struct search_batch *batch = search_batch_new();
    struct search_db_iter *it = search_db_iter(x->db, NULL, prefix);
    struct span key, value;
    struct error err = {0};

    assert_true(search_db_next(it, &key, &value));
    AUTO(buf_free) struct buf other = BUF_INIT;
    buf_add(&other, value);
    other.p[other.n / 2] ^= 1;
    search_batch_put(batch, key, buf_span(&other));
    assert_int_equal(search_db_iter_close(&it, &err), ERR_OK);
    assert_int_equal(search_db_write(x->db, batch, &err), ERR_OK);
    search_batch_free(&batch);
}

static void
test_damaged_rows_are_made_again(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    AUTO(search_index_close) struct search_index *x = must_open();
    AUTO(arena_free) struct arena a = ARENA_INIT;
    const struct search_wish all = {.compact = true};
    (void)state;

    append_some(id, 10);
    must_update(x, id, &everything, 10);
    struct mailbox mb = ts_mailbox(&ts, id, &a);
    for (const char *t = "BDH"; *t != '\0'; t++) {
        AUTO(uidset_free) struct uidset hits = UIDSET_INIT;
        struct search_done done = {0};
        struct error err = {0};
        bool exact;
        struct row_key k;
        append_some(id, 1);
        must_update(x, id, &everything, 1);
        damage_row(x, row_key_mailbox(&k, *t, id));
        /* Whoever looks reads instead. */
        struct search_view *v = search_view_open(x, &mb);
        if (*t == 'B')
            assert_false(search_view_find(v, SPAN_LIT("INVOICE"),
                                          MIME_SEARCH_TEXT, &hits, &exact));
        else
            assert_null(v);
        search_view_close(&v);
        assert_int_equal(search_update(x, id, &all, &done, &err), ERR_CORRUPT);
        mb = ts_mailbox(&ts, id, &a);
        assert_null(search_view_open(x, &mb));
        must_update(x, id, &everything, mb.exists);
        compare(x, id, mb.exists);
    }
}

/* ---- filters ----------------------------------------------------------- */

#define FILTER_DOCS 100U

/* One segment whose words "W0000001", "W0000002"... fill more blocks than one
 * filter is of: message I of FILTER_DOCS has each FILTER_DOCS-th.  Returns the
 * number of blocks. */
static uint32_t
write_many_blocks(struct search_index *x, const struct mailbox *mb)
{
    AUTO(index_head_free)
    struct index_head h = {.uniqueid = mb->uniqueid,
                           .uidvalidity = mb->uidvalidity,
                           .upto = FILTER_DOCS,
                           .next_segment = 2,
                           .nsegments = 1};
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(buf_free) struct buf docs = BUF_INIT;
    struct segment_out out;
    struct block_writer w = {.emit = segment_out_block, .ctx = &out};
    struct error err = {0};
    struct row_key k;

    segment_out_begin(&out, x->db, mb->id, 1, &err);
    out.kind = WORDS_BODY;
    for (uint32_t i = 0; out.seg.blocks[WORDS_BODY] < 70; i++) {
        char word[16];
        const uint32_t doc = i % FILTER_DOCS;
        snprintf(word, sizeof(word), "W%07u", (unsigned)i);
        block_write(&w, span_str(word), &doc, 1);
    }
    block_write_end(&w);
    segment_out_kind_end(&out);
    block_writer_free(&w);
    assert_int_equal(out.rc, ERR_OK);
    out.seg.docs = FILTER_DOCS;
    uidset_add(&uids, 1, FILTER_DOCS);
    index_docs_encode(&uids, &docs);
    search_batch_put(out.batch, row_key_segment(&k, 'D', mb->id, 1),
                     buf_span(&docs));
    h.segments = xcalloc(1, sizeof(h.segments[0]));
    h.segments[0] = out.seg;
    assert_int_equal(head_write(x, out.batch, mb->id, &h, &err), ERR_OK);
    segment_out_free(&out);
    return h.segments[0].blocks[WORDS_BODY];
}

static size_t
count_rows(struct search_index *x, struct span prefix)
{
    struct search_db_iter *it = search_db_iter(x->db, NULL, prefix);
    struct span key, value;
    struct error err = {0};
    size_t n = 0;

    while (search_db_next(it, &key, &value))
        n++;
    assert_int_equal(search_db_iter_close(&it, &err), ERR_OK);
    return n;
}

/* NEEDLE in bodies is in so many messages, of which UID is the first. */
static void
expect_found(struct search_index *x, const struct mailbox *mb,
             const char *needle, uint64_t count, uint32_t uid)
{
    AUTO(search_view_close) struct search_view *v = search_view_open(x, mb);
    AUTO(uidset_free) struct uidset hits = UIDSET_INIT;
    bool exact;

    assert_non_null(v);
    assert_true(
        search_view_find(v, span_str(needle), MIME_SEARCH_BODY, &hits, &exact));
    assert_int_equal(uidset_count(&hits), count);
    if (count > 0)
        assert_int_equal(hits.r[0].first, uid);
}

static void
expect_all_found(struct search_index *x, const struct mailbox *mb,
                 unsigned last)
{
    char text[32];

    expect_found(x, mb, "W0000042", 1, 43); /* in the first block */
    expect_found(x, mb, "0000042", 1, 43);
    snprintf(text, sizeof(text), "W%07u", last); /* and in the last */
    expect_found(x, mb, text, 1, last % FILTER_DOCS + 1);
    expect_found(x, mb, "W", FILTER_DOCS, 1);
    expect_found(x, mb, "XYZ", 0, 0);
    /* Patterns in several blocks each, of which no message has both. */
    expect_found(x, mb, "W0000042 W0000043", 0, 0);
    snprintf(text, sizeof(text), "W0000042.W%07u", 100042);
    expect_found(x, mb, text, 1, 43);
}

static void
test_only_blocks_that_can_match_are_read(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    AUTO(search_index_close) struct search_index *x = must_open();
    AUTO(arena_free) struct arena a = ARENA_INIT;
    AUTO(uidset_free) struct uidset hits = UIDSET_INIT;
    struct error err = {0};
    struct row_key k;
    bool exact;
    (void)state;

    const struct mailbox mb = ts_mailbox(&ts, id, &a);
    const uint32_t nblocks = write_many_blocks(x, &mb);
    const unsigned last = 360000;
    assert_int_equal(count_rows(x, row_key_mailbox(&k, 'B', id)), nblocks);
    assert_int_equal(count_rows(x, row_key_mailbox(&k, 'F', id)), 2);
    expect_all_found(x, &mb, last);

    /* Who reads the first block notices; the others are not stopped by it. */
    damage_row(x, row_key_mailbox(&k, 'B', id));
    struct search_view *v = search_view_open(x, &mb);
    assert_non_null(v);
    assert_false(search_view_find(v, SPAN_LIT("W0000042"), MIME_SEARCH_BODY,
                                  &hits, &exact));
    search_view_close(&v);
    expect_found(x, &mb, "W0360000", 1, last % FILTER_DOCS + 1);
    expect_found(x, &mb, "XYZ", 0, 0);

    /* A filter that is damaged, or away, keeps nobody from reading. */
    (void)write_many_blocks(x, &mb);
    damage_row(x, row_key_words(&k, 'F', id, 1, WORDS_BODY));
    expect_all_found(x, &mb, last);
    struct search_batch *batch = search_batch_new();
    for (uint32_t no = 0; no < 2; no++)
        search_batch_delete(batch,
                            row_key_block(&k, 'F', id, 1, WORDS_BODY, no));
    assert_int_equal(search_db_write(x->db, batch, &err), ERR_OK);
    expect_all_found(x, &mb, last);

    /* A block that is away is damage. */
    search_batch_delete(batch, row_key_block(&k, 'B', id, 1, WORDS_BODY, 7));
    assert_int_equal(search_db_write(x->db, batch, &err), ERR_OK);
    search_batch_free(&batch);
    v = search_view_open(x, &mb);
    assert_false(
        search_view_find(v, SPAN_LIT("XYZ"), MIME_SEARCH_BODY, &hits, &exact));
    search_view_close(&v);
    assert_int_equal(rows_drop(x->db, id, 1, &err), ERR_OK);
    assert_int_equal(count_rows(x, row_key_mailbox(&k, 'F', id)), 0);
}

/* Mail with so many words that there are filters, and their way through a
 * merge, a rebuild and the end of the mailbox. */
static void
test_filters_of_mail(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    AUTO(search_index_close) struct search_index *x = must_open();
    struct error err = {0};
    struct row_key k;
    (void)state;

    for (unsigned i = 0; i < 3; i++) {
        AUTO(buf_free) struct buf raw = BUF_INIT;
        buf_add_str(&raw, "Subject: invoice\r\n\r\n");
        for (unsigned n = 0; n < 25000; n++)
            buf_addf(&raw, "%x ray\r\n", (unsigned)ts_random(&rng, 1U << 31));
        append_some(id, 4);
        append_bytes(id, buf_span(&raw));
        must_update(x, id, &everything, 5);
    }
    assert_int_equal(count_rows(x, row_key_mailbox(&k, 'F', id)), 3);
    compare(x, id, 15);
    must_update(x, id, &(struct search_wish){.compact = true}, 0);
    assert_int_equal(count_rows(x, row_key_mailbox(&k, 'F', id)), 1);
    compare(x, id, 15);
    must_update(x, id, &(struct search_wish){.rebuild = true}, 15);
    assert_int_equal(count_rows(x, row_key_mailbox(&k, 'F', id)), 1);
    compare(x, id, 15);
    assert_int_equal(rows_drop(x->db, id, ALL_SEGMENTS, &err), ERR_OK);
    assert_int_equal(count_rows(x, SPAN_LIT("F")), 0);
}

static void
test_damaged_files_are_made_again(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    struct search_index *x = must_open();
    AUTO(buf_free) struct buf names = BUF_INIT;
    struct error err = {0};
    (void)state;

    append_some(id, 10);
    must_update(x, id, &everything, 10);
    search_index_close(&x);
    assert_int_equal(env_list(env_system(), dir, &names, &err), ERR_OK);
    for (struct span left = buf_span(&names); left.n > 0;) {
        const char *name = (const char *)left.p;
        AUTO(xfree) char *path = xasprintf("%s/%s", dir, name);
        left = span_skip(left, strlen(name) + 1);
        if (strncmp(name, "MANIFEST", 8) == 0)
            assert_int_equal(truncate(path, 30), 0);
    }
    x = must_open();
    must_update(x, id, &everything, 10);
    compare(x, id, 10);

    /* And while it is open: reset. */
    assert_int_equal(search_index_reset(x, &err), ERR_OK);
    assert_false(search_index_is_broken(x));
    must_update(x, id, &everything, 10);
    search_index_close(&x);
}

/* A store that has gone back in time, as one restored from a backup. */
static void
test_index_of_a_later_time_is_thrown_away(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    struct search_index *x = must_open();
    AUTO(arena_free) struct arena a = ARENA_INIT;
    (void)state;

    append_some(id, 5);
    must_update(x, id, &everything, 5);
    search_index_close(&x);
    ts_free(&ts);
    ts_new_master(&ts, 1, 0);
    assert_int_equal(ts_create(&ts, "user.a"), id);
    struct mailbox mb = ts_mailbox(&ts, id, &a);
    x = must_open();
    assert_null(search_view_open(x, &mb));
    must_update(x, id, &everything, 0);
    search_index_close(&x);
}

#define KILL_MESSAGES 60U

/* The other process: the same store, indexed in all ways until it is killed. */
static int
index_for_ever(char *path)
{
    mbid_t id;
    struct search_index *x = NULL;
    struct error err = {0};

    rng = 42;
    dir = path;
    ts_new_master(&ts, 1, 0);
    id = ts_create(&ts, "user.a");
    append_some(id, KILL_MESSAGES);
    if (search_index_open(env_system(), dir, ts.store, &x, &err) != ERR_OK)
        return 1;
    for (uint32_t i = 0;; i++) {
        const struct search_wish wish = {.rebuild = i % 3 == 0,
                                         .compact = i % 3 == 1};
        if (search_update(x, id, &wish, NULL, &err) != ERR_OK)
            return 1;
        if (i % 2 == 0 && search_index_flush(x, &err) != ERR_OK)
            return 1;
        if (write(STDOUT_FILENO, "x", 1) != 1)
            return 1;
    }
}

/* Killed at some moment of indexing, merging, compacting: what is left is used,
 * and is right. */
static void
test_kill_9_while_indexing(void **state)
{
    mbid_t id = ts_create(&ts, "user.a");
    AUTO(arena_free) struct arena a = ARENA_INIT;
    (void)state;

    append_some(id, KILL_MESSAGES);
    for (int round = 0; round < 8; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            dup2(pipes[1], STDOUT_FILENO);
            execl("/proc/self/exe", "indexing", dir, (char *)NULL);
            _exit(1);
        }
        close(pipes[1]);
        char c;
        for (int i = 0; i <= round; i++)
            assert_int_equal(read(pipes[0], &c, 1), 1);
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        close(pipes[0]);

        struct search_index *x = must_open();
        struct mailbox mb = ts_mailbox(&ts, id, &a);
        struct search_view *v = search_view_open(x, &mb);
        uint64_t covered = v == NULL ? 0 : uidset_count(search_view_covered(v));
        search_view_close(&v);
        if (covered > 0)
            compare(x, id, covered);
        must_update(x, id, &everything, KILL_MESSAGES - covered);
        compare(x, id, KILL_MESSAGES);
        search_index_close(&x);
    }
}

/* ---- the thread -------------------------------------------------------- */

static void
await_level(struct indexer *ix)
{
    for (int i = 0; i < 2000 && !indexer_look(ix).level; i++)
        usleep(10000);
    assert_true(indexer_look(ix).level);
}

static void
test_thread_follows_the_store(void **state)
{
    mbid_t id = ts_create(&ts, "user.a"), gone = ts_create(&ts, "user.b");
    struct search_index *x = must_open();
    const struct indexer_options o = {.batch = 10};
    struct store_txn *txn = txn_new();
    struct error err = {0};
    (void)state;

    append_some(id, 15);
    append_some(gone, 15);
    struct indexer *ix = indexer_start(x, ts.store, &o);
    await_level(ix);
    compare(x, id, 15);
    assert_int_equal(indexer_look(ix).messages, 30);
    assert_int_equal(indexer_look(ix).passes, 1);
    assert_int_equal(indexer_look(ix).left, 0);
    append_some(id, 9); /* too few */
    append_some(gone, 4);
    await_level(ix);
    compare(x, id, 15);
    assert_int_equal(indexer_look(ix).left, 13);
    append_some(id, 5);
    await_level(ix);
    compare(x, id, 29);
    assert_int_equal(indexer_look(ix).left, 4);
    assert_int_equal(indexer_look(ix).waiting, 0);
    assert_int_equal(indexer_look(ix).failures, 0);
    txn_delete(txn, gone, false, 0);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    await_level(ix);
    AUTO(index_head_free) struct index_head h = {0};
    assert_int_equal(head_read(x->db, NULL, gone, &h, &err), ERR_NOTFOUND);
    assert_int_equal(indexer_look(ix).left, 0);
    assert_int_equal(search_index_flush(x, &err), ERR_OK);
    assert_true(search_index_bytes(x) > 0);
    /* Below what can be mended piece by piece. */
    atomic_store(&x->broken, true);
    indexer_wake(ix);
    for (int i = 0; i < 2000 && indexer_look(ix).messages < 58; i++)
        usleep(10000);
    await_level(ix);
    compare(x, id, 29);
    assert_int_equal(indexer_look(ix).failures, 1);
    assert_int_equal(indexer_look(ix).failed_code, ERR_CORRUPT);
    assert_true(indexer_look(ix).failed_us > 0);
    assert_false(indexer_look(ix).is_failing);
    indexer_stop(&ix);
    indexer_stop(&ix);
    search_index_close(&x);
}

int
main(int argc, char **argv)
{
    if (argc > 1 || strcmp(argv[0], "indexing") == 0)
        return index_for_ever(argv[argc - 1]);
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_WORLD(test_says_what_reading_says),
        IN_WORLD(test_stays_over_closing),
        IN_WORLD(test_few_new_messages_wait),
        IN_WORLD(test_mailbox_that_is_gone_is_forgotten),
        IN_WORLD(test_other_uidvalidity_is_another_mailbox),
        IN_WORLD(test_too_many_words_are_read),
        IN_WORLD(test_damaged_rows_are_made_again),
        IN_WORLD(test_only_blocks_that_can_match_are_read),
        IN_WORLD(test_filters_of_mail),
        IN_WORLD(test_damaged_files_are_made_again),
        IN_WORLD(test_index_of_a_later_time_is_thrown_away),
        IN_WORLD(test_kill_9_while_indexing),
        IN_WORLD(test_thread_follows_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
