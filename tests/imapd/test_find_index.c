/*
 * tests/imapd/test_find_index.c - SEARCH, SORT and THREAD with an index
 * (imapd/find_index.c): the same answers as without, for what it knows, what it
 * does not know yet, what was expunged, and when it is damaged.
 */
#include "tests/imapd/talking.h"

#include <stdlib.h>
#include <unistd.h>

#include "search/index_private.h"

static struct search_index *index_now;
static char *index_path;

static int
index_setup(void **state)
{
    char path[] = "/tmp/pollux-find.XXXXXX";
    struct error err = {0};

    assert_int_equal(setup(state), 0);
    assert_non_null(mkdtemp(path));
    index_path = xstrdup(path);
    assert_int_equal(
        search_index_open(env_system(), path, world.store, &index_now, &err),
        ERR_OK);
    return 0;
}

static int
index_teardown(void **state)
{
    struct error err = {0};

    search_index_close(&index_now);
    assert_int_equal(search_db_wipe(env_system(), index_path, &err), ERR_OK);
    assert_int_equal(rmdir(index_path), 0);
    free(index_path);
    return teardown(state);
}

static void
bring_level(void)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(world.store);
    AUTO(arena_free) struct arena a = ARENA_INIT;
    const struct search_wish wish = {0};
    struct mailbox mb;
    struct error err = {0};

    assert_int_equal(snap_mailbox_by_name(snap, "user.fred", &a, &mb, &err),
                     ERR_OK);
    assert_int_equal(search_update(index_now, mb.id, &wish, NULL, &err),
                     ERR_OK);
}

#define MAIL(from, subject, text)                                              \
    "From: " from "\r\nSubject: " subject "\r\n\r\n" text "\r\n"

/* Five messages, of which the index knows four. */
static struct fake_client *
five(void)
{
    struct fake_client *c;

    world.opt.index = &index_now;
    c = login(0, "fred");
    append(c, "INBOX", "", MAIL("zoe@x.org", "banana", "The quick brown fox"));
    append(c, "INBOX", "(\\Seen) ", MAIL("ann@x.org", "fox", "jumps over"));
    append(c, "INBOX", "", MAIL("bob@x.org", "Re: fox", "the lazy foxtrot"));
    append(c, "INBOX", "", MAIL("cis@x.org", "dog", "nothing here"));
    bring_level();
    append(c, "INBOX", "", MAIL("dan@x.org", "fox five", "Foxes"));
    quiet(c, "x SELECT INBOX");
    return c;
}

/* Each question, by the index and by reading. */
static void
check(struct fake_client *c)
{
    static const struct {
        const char *ask, *want;
    } cases[] = {
        {"SEARCH TEXT fox", " 1 2 3 5"},
        {"SEARCH BODY fox", " 1 3 5"},
        {"SEARCH BODY FOXT", " 3"},
        {"SEARCH BODY \"n fox\"", " 1"},
        {"SEARCH BODY \"n  fox\"", ""},
        {"SEARCH SUBJECT fox", " 2 3 5"},
        {"SEARCH FROM fox", ""},
        {"SEARCH HEADER Subject \"Re: fox\"", " 3"},
        {"SEARCH NOT TEXT fox", " 4"},
        {"SEARCH OR BODY nothing BODY jumps", " 2 4"},
        {"SEARCH OR BODY nothing SEEN", " 2 4"},
        {"SEARCH SEEN TEXT fox", " 2"},
        {"SEARCH UID 3:5 TEXT fox", " 3 5"},
        {"SEARCH 4 TEXT fox", ""},
        {"SEARCH BODY the BODY fox", " 1 3"},
        {"SEARCH TEXT \"\"", " 1 2 3 4 5"},
        {"SEARCH TEXT \"@\"", " 1 2 3 4 5"},
        {"SEARCH TEXT zoe@x.org", " 1"},
        {"SEARCH TEXT oe@x.o", " 1"},
        {"SORT (REVERSE SUBJECT) UTF-8 BODY fox", " 5 3 1"},
        {"THREAD ORDEREDSUBJECT UTF-8 TEXT fox", " (1)(2 3)(5)"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO(buf_free) struct buf ask = BUF_INIT;
        AUTO(buf_free) struct buf want = BUF_INIT;
        const char *blank = strchr(cases[i].ask, ' ');
        buf_addf(&ask, "a %s", cases[i].ask);
        buf_addf(&want, "* %.*s%s\r\na OK Completed\r\n",
                 (int)(blank - cases[i].ask), cases[i].ask, cases[i].want);
        talk(c, buf_cstr(&ask), buf_cstr(&want));
    }
}

static void
test_same_answers_by_index_and_by_reading(void **state)
{
    struct fake_client *c = five();
    (void)state;

    check(c);
    world.clients[0].session = c->session;
    struct search_index *kept = index_now;
    index_now = NULL;
    fake_hang_up(c);
    c = login(0, "fred");
    quiet(c, "x SELECT INBOX");
    check(c);
    index_now = kept;
}

/* What the index says is all that was looked at: so it was asked. */
static void
test_exact_hits_are_not_read(void **state)
{
    struct fake_client *c;
    struct error err = {0};
    (void)state;

    world.opt.index = &index_now;
    c = login(0, "fred");
    append(c, "INBOX", "", MAIL("zoe@x.org", "banana", "The quick brown fox"));
    bring_level();
    quiet(c, "x SELECT INBOX");
    /* Words that the message has not: whoever reads it finds them not. */
    AUTO(store_release) struct store_snap *snap = store_snapshot(world.store);
    AUTO(arena_free) struct arena a = ARENA_INIT;
    AUTO(index_head_free) struct index_head h = {0};
    struct segment_out out;
    struct block_writer w = {.emit = segment_out_block, .ctx = &out};
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(buf_free) struct buf docs = BUF_INIT;
    const uint32_t doc = 0;
    struct mailbox mb;
    struct row_key k;
    assert_int_equal(snap_mailbox_by_name(snap, "user.fred", &a, &mb, &err),
                     ERR_OK);
    assert_int_equal(head_read(index_now->db, NULL, mb.id, &h, &err), ERR_OK);
    segment_out_begin(&out, index_now->db, mb.id, h.segments[0].id, &err);
    out.kind = WORDS_BODY;
    block_write(&w, SPAN_LIT("UNICORN"), &doc, 1);
    block_write_end(&w);
    segment_out_kind_end(&out);
    block_writer_free(&w);
    assert_int_equal(out.rc, ERR_OK);
    uidset_add(&uids, 1, 1);
    index_docs_encode(&uids, &docs);
    search_batch_put(out.batch, row_key_segment(&k, 'D', mb.id, out.seg.id),
                     buf_span(&docs));
    assert_int_equal(search_db_write(index_now->db, out.batch, &err), ERR_OK);
    segment_out_free(&out);

    talk(c, "a SEARCH BODY corn", "* SEARCH 1\r\na OK Completed\r\n");
    talk(c, "b SEARCH BODY fox", "* SEARCH\r\nb OK Completed\r\n");
    /* More than a word is verified. */
    talk(c, "c SEARCH BODY \"unicorn.\"", "* SEARCH\r\nc OK Completed\r\n");
}

static void
test_expunged_and_new_ones(void **state)
{
    struct fake_client *c = five();
    (void)state;

    quiet(c, "x STORE 1 +FLAGS.SILENT (\\Deleted)");
    quiet(c, "x EXPUNGE");
    talk(c, "a UID SEARCH TEXT fox", "* SEARCH 2 3 5\r\na OK Completed\r\n");
    talk(c, "b SEARCH TEXT fox", "* SEARCH 1 2 4\r\nb OK Completed\r\n");
    bring_level();
    talk(c, "c UID SEARCH RETURN (COUNT) TEXT fox",
         "* ESEARCH (TAG \"c\") UID COUNT 3\r\nc OK Completed\r\n");
}

/* SUBJECT is the envelope's, HEADER Subject is any (RFC 9051, 6.4.4). */
static void
test_subject_is_that_of_the_envelope(void **state)
{
    struct fake_client *c;
    (void)state;

    world.opt.index = NULL;
    c = login(0, "fred");
    append(c, "INBOX", "",
           "Subject: one \"quoted\\\" =?utf-8?Q?=C3=9Cber?=\r\n"
           "Subject: two\r\n\r\nx\r\n");
    append(c, "INBOX", "", "From: a@x.org\r\n\r\nx\r\n");
    append(c, "INBOX", "",
           "Subject: raw \xC3\xBC"
           "ber\r\n\r\nx\r\n");
    append(c, "INBOX", "", "Subject:\r\n\r\nx\r\n");
    quiet(c, "x SELECT INBOX");
    talk(c, "a SEARCH SUBJECT one", "* SEARCH 1\r\na OK Completed\r\n");
    talk(c, "b SEARCH SUBJECT two", "* SEARCH\r\nb OK Completed\r\n");
    talk(c, "c SEARCH HEADER Subject two", "* SEARCH 1\r\nc OK Completed\r\n");
    talk(c,
         "d SEARCH CHARSET UTF-8 SUBJECT {5+}\r\n\xC3\xBC"
         "ber",
         "* SEARCH 1 3\r\nd OK Completed\r\n");
    talk(c, "e SEARCH SUBJECT \"e \\\"quoted\\\\\"",
         "* SEARCH 1\r\ne OK Completed\r\n");
    talk(c, "f SEARCH HEADER Subject \"\"",
         "* SEARCH 1 3 4\r\nf OK Completed\r\n");
}

static void
test_damaged_index_is_passed_by(void **state)
{
    struct fake_client *c = five();
    struct search_batch *batch = search_batch_new();
    struct search_db_iter *it =
        search_db_iter(index_now->db, NULL, SPAN_LIT("B"));
    struct span key, value;
    struct error err = {0};
    (void)state;

    while (search_db_next(it, &key, &value))
        search_batch_put(batch, key, SPAN_LIT("rubbish"));
    assert_int_equal(search_db_iter_close(&it, &err), ERR_OK);
    assert_int_equal(search_db_write(index_now->db, batch, &err), ERR_OK);
    search_batch_free(&batch);
    check(c);
}

int
main(void)
{
#define IN_WORLD(test)                                                         \
    cmocka_unit_test_setup_teardown(test, index_setup, index_teardown)
    const struct CMUnitTest tests[] = {
        IN_WORLD(test_same_answers_by_index_and_by_reading),
        IN_WORLD(test_exact_hits_are_not_read),
        IN_WORLD(test_expunged_and_new_ones),
        IN_WORLD(test_subject_is_that_of_the_envelope),
        IN_WORLD(test_damaged_index_is_passed_by),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
