/*
 * Annotations of the server, mailboxes and messages, and \Seen of users who do
 * not own the mailbox: what each operation does, its errors, and that both go
 * with what they hang on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/store/txntest.h"

/* On UID, or (0) on the mailbox or the server; VALUE NULL removes. */
static enum errcode
annotate(struct teststore *ts, mbid_t id, uint32_t uid, const char *entry,
         const char *user, const char *value)
{
    struct store_txn *txn = txn_new();
    struct uidrange r;
    const struct uidset uids = range(&r, uid, uid);
    struct span v = span_str(value == NULL ? "" : value);

    txn_annotate(txn, &(struct txn_annot){.id = id,
                                          .uids = uid == 0 ? NULL : &uids,
                                          .entry = entry,
                                          .user = user,
                                          .value = value == NULL ? NULL : &v,
                                          .check_quota = true});
    return ts_commit(ts, &txn);
}

static bool
add_annot(void *ctx, const char *entry, const char *user, struct span value)
{
    buf_addf(ctx, "%s|%s=%.*s ", entry, user, (int)value.n,
             (const char *)value.p);
    return true;
}

static void
assert_annots(struct teststore *ts, mbid_t id, uint32_t uid, const char *want)
{
    struct store_snap *snap = store_snapshot(ts->store);
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct error err = {0};

    assert_int_equal(snap_annots(snap, id, uid, add_annot, &got, &err), ERR_OK);
    assert_string_equal(buf_cstr(&got), want);
    store_release(&snap);
}

static void
test_annotations_are_set_replaced_and_removed(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct error err = {0};
    AUTO(buf_free) struct buf value = BUF_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    (void)ts_append(&ts, id, 1, 100, NULL);
    const modseq_t before = ts_message(&ts, id, 1, &a).modseq;
    assert_int_equal(annotate(&ts, 0, 0, "/motd", "", "hello"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 0, "/comment", "", "box"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 0, "/comment", "bob", "mine"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 1, "/comment", "", "msg"), ERR_OK);
    assert_annots(&ts, 0, 0, "/motd|=hello ");
    assert_annots(&ts, id, 0, "/comment|=box /comment|bob=mine ");
    assert_annots(&ts, id, 1, "/comment|=msg ");
    struct message m = ts_message(&ts, id, 1, &a);
    assert_true(m.modseq > before && (m.flags & FLAG_ANNOTATED) != 0);
    assert_int_equal(ts_mailbox(&ts, id, &a).annot_bytes, 3 + 4 + 3);
    /* The same again is no change. */
    const lsn_t lsn = store_pos(ts.store).applied.lsn;
    assert_int_equal(annotate(&ts, id, 1, "/comment", "", "msg"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 1, "/none", "", NULL), ERR_OK);
    assert_int_equal(store_pos(ts.store).applied.lsn, lsn);
    /* Flags do not touch it. */
    assert_int_equal(ts_flag(&ts, id, 1, 1, FLAGS_REPLACE, FLAG_SEEN, NULL),
                     ERR_OK);
    assert_true((ts_message(&ts, id, 1, &a).flags & FLAG_ANNOTATED) != 0);
    assert_int_equal(annotate(&ts, id, 1, "/comment", "", "longer"), ERR_OK);
    assert_int_equal(ts_mailbox(&ts, id, &a).annot_bytes, 3 + 4 + 6);
    struct store_snap *snap = store_snapshot(ts.store);
    assert_int_equal(snap_annot_get(snap, id, 1, "/comment", "", &value, &err),
                     ERR_OK);
    assert_string_equal(buf_cstr(&value), "longer");
    assert_int_equal(snap_annot_get(snap, id, 1, "/other", "", &value, &err),
                     ERR_NOTFOUND);
    store_release(&snap);
    ts_verify(&ts);
    assert_int_equal(annotate(&ts, id, 1, "/comment", "", NULL), ERR_OK);
    assert_int_equal(annotate(&ts, id, 0, "/comment", "", NULL), ERR_OK);
    assert_int_equal(annotate(&ts, 0, 0, "/motd", "", NULL), ERR_OK);
    assert_annots(&ts, 0, 0, "");
    assert_annots(&ts, id, 1, "");
    assert_int_equal(ts_message(&ts, id, 1, &a).flags, FLAG_SEEN);
    assert_int_equal(ts_mailbox(&ts, id, &a).annot_bytes, 4);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_annotation_errors(void **state)
{
    struct teststore ts;
    char longer[ANNOT_ENTRY_MAX + 2];
    char *large = xcalloc(1, ANNOT_VALUE_MAX + 2);
    struct uidrange r;
    const struct uidset one = range(&r, 1, 1);
    struct span v = SPAN_LIT("v");

    (void)state;
    memset(longer, 'e', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    memset(large, 'v', ANNOT_VALUE_MAX + 1);
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    (void)ts_append(&ts, id, 1, 100, NULL);
    assert_int_equal(annotate(&ts, 4711, 0, "/c", "", "x"), ERR_NOTFOUND);
    assert_int_equal(annotate(&ts, 0, 1, "/c", "", "x"), ERR_NOTFOUND);
    assert_int_equal(annotate(&ts, id, 1, "", "", "x"), ERR_LIMIT);
    assert_int_equal(annotate(&ts, id, 1, longer, "", "x"), ERR_LIMIT);
    assert_int_equal(annotate(&ts, id, 1, "/c", longer, "x"), ERR_LIMIT);
    assert_int_equal(annotate(&ts, id, 1, "/c", "", large), ERR_LIMIT);
    large[ANNOT_VALUE_MAX] = '\0';
    assert_int_equal(annotate(&ts, id, 1, "/c", "", large), ERR_OK);
    /* Changed since: named, and left alone. */
    struct store_txn *txn = txn_new();
    txn_annotate(txn, &(struct txn_annot){.id = id,
                                          .uids = &one,
                                          .entry = "/c",
                                          .value = &v,
                                          .unchanged_since = 1,
                                          .has_unchanged_since = true});
    struct error err = {0};
    assert_int_equal(store_commit(ts.store, txn, &err), ERR_OK);
    assert_true(uidset_has(&txn_result(txn, 0)->refused, 1));
    assert_int_equal(txn_result(txn, 0)->uids.n, 0);
    txn_free(&txn);
    /* So many of one user, and then one of another. */
    txn = txn_new();
    for (unsigned i = 0; i < ANNOTS_PER_TARGET; i++) {
        char entry[32];
        snprintf(entry, sizeof(entry), "/n%u", i);
        txn_annotate(
            txn, &(struct txn_annot){.id = id, .entry = entry, .value = &v});
    }
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(annotate(&ts, id, 0, "/more", "", "x"), ERR_LIMIT);
    assert_int_equal(annotate(&ts, id, 0, "/n1", "", "x"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 0, "/more", "bob", "x"), ERR_OK);
    ts_verify(&ts);
    free(large);
    ts_free(&ts);
}

static void
test_copies_take_annotations_and_derived_records_along(void **state)
{
    struct teststore ts;
    struct error err = {0};
    struct uidrange r;
    const struct uidset one = range(&r, 1, 1);
    AUTO(buf_free) struct buf cache = BUF_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t to = ts_create(&ts, "user.bob");
    (void)ts_append(&ts, id, 1, 100, NULL);
    store_cache_put(ts.store, id, 1, SPAN_LIT("envelope"));
    assert_int_equal(annotate(&ts, id, 1, "/c", "", "shared"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 1, "/c", "bob", "own"), ERR_OK);
    struct store_txn *txn = txn_new();
    txn_copy(txn, id, &one, to, true, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    txn = txn_new();
    txn_copy(txn, to, &one, to, false, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_annots(&ts, to, 1, "/c|=shared /c|bob=own ");
    assert_annots(&ts, to, 2, "/c|=shared /c|bob=own ");
    struct store_snap *snap = store_snapshot(ts.store);
    assert_int_equal(snap_cache(snap, to, 2, &cache, &err), ERR_OK);
    assert_string_equal(buf_cstr(&cache), "envelope");
    store_release(&snap);
    ts_verify(&ts);
    /* The tombstone keeps its own until it is purged. */
    assert_annots(&ts, id, 1, "/c|=shared /c|bob=own ");
    txn = txn_new();
    txn_purge(txn, id, &one);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_annots(&ts, id, 1, "");
    ts_verify(&ts);
    ts_free(&ts);
}

static void
test_copies_for_a_user_leave_out_what_is_not_theirs(void **state)
{
    struct teststore ts;
    struct uidrange r;
    const struct uidset one = range(&r, 1, 1);

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t to = ts_create(&ts, "user.bob");
    (void)ts_append(&ts, id, 1, 100, NULL);
    assert_int_equal(annotate(&ts, id, 1, "/c", "", "shared"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 1, "/c", "ann", "hers"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 1, "/c", "bob", "his"), ERR_OK);
    struct store_txn *txn = txn_new();
    txn_copy_annots(txn, txn_copy(txn, id, &one, to, false, true), "bob", true);
    txn_copy_annots(txn, txn_copy(txn, id, &one, to, false, true), NULL, false);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_annots(&ts, to, 1, "/c|=shared /c|bob=his ");
    assert_annots(&ts, to, 2, "/c|ann=hers /c|bob=his ");
    ts_verify(&ts);
    ts_free(&ts);
}

static void
test_an_append_brings_its_annotations(void **state)
{
    struct teststore ts;
    struct error err = {0};
    struct arena a = ARENA_INIT;
    static char large[ANNOT_VALUE_MAX + 1];
    struct txn_append_annot annots[] = {{"/c", "", SPAN_LIT("all")},
                                        {"/c", "bob", SPAN_LIT("his")}};

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.bob");
    for (int i = 0; i < 2; i++) {
        struct body *body = store_body_new(ts.store, 1000);
        assert_int_equal(body_write(body, SPAN_LIT("A: b\r\n\r\n"), &err),
                         ERR_OK);
        assert_int_equal(body_finish(body, &err), ERR_OK);
        struct store_txn *txn = txn_new();
        txn_append(txn, &(struct txn_append){.id = id,
                                             .body = body,
                                             .annots = annots,
                                             .nannots = ARRAY_LEN(annots)});
        body_free(&body);
        assert_int_equal(ts_commit(&ts, &txn), i == 0 ? ERR_OK : ERR_LIMIT);
        annots[1].value = span_of(large, sizeof(large));
    }
    assert_annots(&ts, id, 1, "/c|=all /c|bob=his ");
    assert_annots(&ts, id, 2, "");
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, 1);
    assert_int_equal(ts_mailbox(&ts, id, &a).annot_bytes, 6);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* RFC 7162, 3.2; not so for what a peer says. */
static void
test_an_annotation_of_the_mailbox_raises_its_modseq(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    const struct span v = SPAN_LIT("x");

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    const modseq_t before = ts_mailbox(&ts, id, &a).highestmodseq;
    assert_int_equal(annotate(&ts, id, 0, "/c", "", "box"), ERR_OK);
    const modseq_t after = ts_mailbox(&ts, id, &a).highestmodseq;
    assert_true(after > before);
    /* Nothing changes by it. */
    assert_int_equal(annotate(&ts, id, 0, "/c", "", "box"), ERR_OK);
    assert_int_equal(annotate(&ts, 0, 0, "/c", "", "box"), ERR_OK);
    assert_true(ts_mailbox(&ts, id, &a).highestmodseq == after);
    struct store_txn *txn = txn_new();
    txn_annotate(
        txn, &(struct txn_annot){
                 .id = id, .entry = "/d", .value = &v, .keep_modseq = true});
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_true(ts_mailbox(&ts, id, &a).highestmodseq == after);
    assert_int_equal(annotate(&ts, id, 0, "/c", "", NULL), ERR_OK);
    assert_true(ts_mailbox(&ts, id, &a).highestmodseq > after);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* ------------------------------------------------------------------ \Seen */

static enum errcode
see(struct teststore *ts, mbid_t id, const char *user, uint32_t first,
    uint32_t last, bool seen)
{
    struct store_txn *txn = txn_new();
    struct uidrange r;
    const struct uidset uids = range(&r, first, last);

    txn_seen(txn, id, user, &uids, seen);
    return ts_commit(ts, &txn);
}

static void
assert_seen(struct teststore *ts, mbid_t id, const char *user, const char *want)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct arena a = ARENA_INIT;
    struct mailbox mb = ts_mailbox(ts, id, &a);
    AUTO(buf_free) struct buf got = BUF_INIT;
    AUTO(uidset_free) struct uidset seen = UIDSET_INIT;
    struct error err = {0};

    uidset_add(&seen, 4000, 4000); /* replaced */
    assert_int_equal(snap_seen(snap, &mb, user, &seen, &err), ERR_OK);
    uidset_format(&seen, &got);
    assert_string_equal(buf_cstr(&got), want);
    store_release(&snap);
    arena_free(&a);
}

static void
test_seen_is_kept_for_each_user(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    for (uint64_t i = 0; i < 5; i++)
        (void)ts_append(&ts, id, i, 50, NULL);
    modseq_t before = ts_mailbox(&ts, id, &a).highestmodseq;
    assert_int_equal(see(&ts, id, "bob", 2, 9, true), ERR_OK);
    assert_int_equal(see(&ts, id, "cho", 1, 1, true), ERR_OK);
    assert_int_equal(see(&ts, id, "bob", 3, 3, false), ERR_OK);
    assert_seen(&ts, id, "bob", "2,4:5");
    assert_seen(&ts, id, "cho", "1");
    assert_seen(&ts, id, "ann", "");
    assert_seen(&ts, id, NULL, "");
    assert_true(ts_message(&ts, id, 3, &a).modseq > before);
    assert_int_equal(ts_mailbox(&ts, id, &a).unseen, 5);
    /* The owner's is the flag. */
    assert_int_equal(see(&ts, id, "ann", 5, 5, true), ERR_OK);
    assert_int_equal(ts_message(&ts, id, 5, &a).flags, FLAG_SEEN);
    assert_seen(&ts, id, "ann", "");
    assert_int_equal(ts_mailbox(&ts, id, &a).unseen, 4);
    /* No change, no record. */
    const lsn_t lsn = store_pos(ts.store).applied.lsn;
    assert_int_equal(see(&ts, id, "cho", 1, 1, true), ERR_OK);
    assert_int_equal(store_pos(ts.store).applied.lsn, lsn);
    assert_int_equal(see(&ts, 4711, "cho", 1, 1, true), ERR_NOTFOUND);
    assert_int_equal(see(&ts, id, "", 1, 1, true), ERR_LIMIT);
    ts_verify(&ts);
    /* What is purged has nobody seen. */
    assert_int_equal(ts_expunge(&ts, id, 4, 4), ERR_OK);
    assert_seen(&ts, id, "bob", "2,4:5");
    struct store_txn *txn = txn_new();
    struct uidrange r;
    const struct uidset all = range(&r, 1, 9);
    txn_purge(txn, id, &all);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_seen(&ts, id, "bob", "2,5");
    assert_true(ts_mailbox(&ts, id, &a).purged_modseq > before);
    ts_verify(&ts);
    txn = txn_new();
    txn_set_options(txn, id, MBOX_SHAREDSEEN, MBOX_SHAREDSEEN);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(see(&ts, id, "bob", 1, 1, true), ERR_OK);
    assert_int_equal(ts_message(&ts, id, 1, &a).flags, FLAG_SEEN);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_who_has_own_seen(void **state)
{
    struct mailbox mb = {.name = "user.ann.x"};

    (void)state;
    assert_false(mailbox_has_own_seen(&mb, "ann"));
    assert_true(mailbox_has_own_seen(&mb, "bob"));
    assert_true(mailbox_has_own_seen(&mb, NULL));
    mb.name = "shared";
    assert_true(mailbox_has_own_seen(&mb, "ann"));
    mb.options = MBOX_SHAREDSEEN;
    assert_false(mailbox_has_own_seen(&mb, "ann"));
}

/* UIDs of several chunks, and users before and behind in each. */
static void
test_seen_goes_over_chunks(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "shared");
    (void)ts_append(&ts, id, 1, 50, NULL);
    /* An unplanned promotion makes UIDs jump. */
    store_set_role(ts.store, ROLE_MASTER, 2);
    assert_int_equal(store_begin_epoch(ts.store, 2, 200000, "lost", &err),
                     ERR_OK);
    const uint32_t far = ts_append(&ts, id, 2, 50, NULL);
    assert_true(far > 200000);
    assert_int_equal(see(&ts, id, "aa", far, far, true), ERR_OK);
    assert_int_equal(see(&ts, id, "bb", 1, far, true), ERR_OK);
    assert_int_equal(see(&ts, id, "cc", 1, 1, true), ERR_OK);
    char want[32];
    snprintf(want, sizeof(want), "1,%u", far);
    assert_seen(&ts, id, "bb", want);
    snprintf(want, sizeof(want), "%u", far);
    assert_seen(&ts, id, "aa", want);
    assert_seen(&ts, id, "cc", "1");
    assert_seen(&ts, id, "dd", "");
    ts_verify(&ts);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_annotations_are_set_replaced_and_removed),
        cmocka_unit_test(test_annotation_errors),
        cmocka_unit_test(
            test_copies_take_annotations_and_derived_records_along),
        cmocka_unit_test(test_copies_for_a_user_leave_out_what_is_not_theirs),
        cmocka_unit_test(test_an_append_brings_its_annotations),
        cmocka_unit_test(test_an_annotation_of_the_mailbox_raises_its_modseq),
        cmocka_unit_test(test_seen_is_kept_for_each_user),
        cmocka_unit_test(test_who_has_own_seen),
        cmocka_unit_test(test_seen_goes_over_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
