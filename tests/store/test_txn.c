/*
 * Transactions one by one: what each operation does, every error that txn.h
 * promises, that a failed one leaves nothing, and what the writer does around
 * them: fence, hold, epochs, a full disk, watchers, large bodies.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/epochs.h"
#include "store/mutants.h"
#include "store/store_private.h"
#include "tests/lib/storetest.h"

static struct txn_append
message(mbid_t id, struct body *b)
{
    return (struct txn_append){
        .id = id, .body = b, .internal_s = 5, .check_quota = true};
}

static struct uidset
range(struct uidrange *r, uint32_t first, uint32_t last)
{
    *r = (struct uidrange){first, last};
    return (struct uidset){.r = r, .n = 1};
}

static enum errcode
create(struct teststore *ts, const char *name)
{
    struct store_txn *txn = txn_new();
    txn_create(txn, &(struct txn_mailbox){.name = name});
    return ts_commit(ts, &txn);
}

static enum errcode
rename_to(struct teststore *ts, mbid_t id, const char *name, bool tree)
{
    struct store_txn *txn = txn_new();
    txn_rename(txn, id, name, tree);
    return ts_commit(ts, &txn);
}

static enum errcode
set_quota(struct teststore *ts, const char *root, uint64_t bytes, bool remove)
{
    struct store_txn *txn = txn_new();
    txn_quota(txn, root,
              remove ? NULL
                     : (uint64_t[QUOTA_RESOURCES]){bytes, QUOTA_UNLIMITED,
                                                   QUOTA_UNLIMITED,
                                                   QUOTA_UNLIMITED});
    return ts_commit(ts, &txn);
}

static struct quota
quota_of(struct teststore *ts, const char *root)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct arena a = ARENA_INIT;
    struct quota q = {0};
    struct error err;

    assert_int_equal(snap_quota(snap, root, &a, &q, &err), ERR_OK);
    store_release(&snap);
    arena_free(&a);
    q.root = NULL;
    return q;
}

/* ------------------------------------------------------------- mailboxes */

static void
test_create_refuses_doubles_and_bad_names(void **state)
{
    struct teststore ts;
    char longer[600];
    struct store_txn *txn = txn_new();

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    assert_int_equal(create(&ts, "user.ann"), ERR_EXISTS);
    assert_int_equal(create(&ts, "user..ann"), ERR_BADNAME);
    assert_int_equal(create(&ts, ""), ERR_BADNAME);
    memset(longer, 'x', sizeof(longer));
    longer[MAILBOX_NAME_MAX + 1] = '\0';
    assert_int_equal(create(&ts, longer), ERR_BADNAME);
    txn_create(txn,
               &(struct txn_mailbox){.name = "user.ann", .exist_ok = true});
    assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
    assert_int_equal(txn_result(txn, 0)->id, id);
    assert_int_equal(txn_lsn(txn), LSN_NONE);
    txn_free(&txn);
    ts_free(&ts);
}

static void
test_create_tells_the_uniqueid(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct uniqueid last = {""};

    (void)state;
    ts_new_master(&ts, 1, 0);
    /* More than what is asked of the system at a time; then one again. */
    for (unsigned i = 0; i <= 40; i++) {
        struct store_txn *txn = txn_new();
        const char *name = arena_printf(&a, "user.u%u", i % 40);
        txn_create(txn, &(struct txn_mailbox){.name = name, .exist_ok = true});
        assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
        const struct txn_result *res = txn_result(txn, 0);
        const struct mailbox mb = ts_mailbox(&ts, res->id, &a);
        assert_string_equal(res->uniqueid.s, mb.uniqueid.s);
        assert_int_equal(strlen(mb.uniqueid.s), 36);
        assert_string_not_equal(mb.uniqueid.s, last.s);
        last = mb.uniqueid;
        txn_free(&txn);
    }
    ts_verify(&ts); /* each is one mailbox's alone */
    arena_free(&a);
    ts_free(&ts);
}

static void
root_is(struct teststore *ts, const char *name, const char *root)
{
    struct arena a = ARENA_INIT;

    const struct mailbox mb = ts_mailbox(ts, ts_create(ts, name), &a);
    assert_string_equal(mb.quota_root, root);
    arena_free(&a);
}

/* The mailbox above tells the root; one at the name itself is nearer. */
static void
test_create_has_the_nearest_quota_root(void **state)
{
    struct teststore ts;

    (void)state;
    ts_new_master(&ts, 1, 0);
    root_is(&ts, "user.ann", "");
    root_is(&ts, "user.ann.free", "");
    assert_int_equal(set_quota(&ts, "user.ann", 1000, false), ERR_OK);
    root_is(&ts, "user.ann.a", "user.ann");
    root_is(&ts, "user.ann.a.b", "user.ann");
    assert_int_equal(set_quota(&ts, "user.ann.a", 1000, false), ERR_OK);
    root_is(&ts, "user.ann.a.c", "user.ann.a");
    root_is(&ts, "user.ann.x.y.z", "user.ann");
    root_is(&ts, "user.ann.ab", "user.ann");
    root_is(&ts, "user.bob", "");
    assert_int_equal(quota_of(&ts, "user.ann").used[QUOTA_FOLDERS], 4);
    assert_int_equal(quota_of(&ts, "user.ann.a").used[QUOTA_FOLDERS], 3);
    ts_verify(&ts);
    ts_free(&ts);
}

static void
test_create_takes_the_acl_of_its_parent(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    struct mailbox mb = ts_mailbox(&ts, ts_create(&ts, "user.ann"), &a);
    assert_memory_equal(mb.acl, "ann\tlrs", 7);
    mbid_t id = mb.id;
    struct store_txn *txn = txn_new();
    txn_set_acl(txn, id, "bob\tlr\t", mb.acl);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    txn = txn_new();
    txn_set_acl(txn, id, "eve\tlr\t", mb.acl); /* expects the old one */
    assert_int_equal(ts_commit(&ts, &txn), ERR_CONFLICT);
    mb = ts_mailbox(&ts, ts_create(&ts, "user.ann.Deep.Down"), &a);
    assert_string_equal(mb.acl, "bob\tlr\t");
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_uidvalidity_is_never_given_twice(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    uint32_t last = 0;

    (void)state;
    ts_new_master(&ts, 1, 0);
    for (int i = 0; i < 5; i++) {
        mbid_t id = ts_create(&ts, "user.ann");
        uint32_t v = ts_mailbox(&ts, id, &a).uidvalidity;
        assert_true(v > last);
        last = v;
        struct store_txn *txn = txn_new();
        txn_delete(txn, id, i % 2 == 0, 1000);
        assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
        assert_int_equal(ts_lookup(&ts, "user.ann"), 0);
    }
    /* The same second, three times: three names. */
    assert_true(ts_lookup(&ts, "DELETED.user.ann.000003E8") != 0);
    assert_true(ts_lookup(&ts, "DELETED.user.ann.000003E9") != 0);
    assert_true(ts_lookup(&ts, "DELETED.user.ann.000003EA") != 0);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_rename_moves_a_whole_tree_or_nothing(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t sub = ts_create(&ts, "user.ann.Sub");
    mbid_t other = ts_create(&ts, "user.anna");
    (void)ts_create(&ts, "user.bob.Sub");
    struct uniqueid was = ts_mailbox(&ts, sub, &a).uniqueid;
    assert_int_equal(rename_to(&ts, id, "user.bob", true), ERR_EXISTS);
    assert_int_equal(ts_lookup(&ts, "user.ann"), id);
    assert_int_equal(rename_to(&ts, id, "user.ann", true), ERR_EXISTS);
    assert_int_equal(rename_to(&ts, id, "user.", true), ERR_BADNAME);
    assert_int_equal(rename_to(&ts, 999, "user.x", true), ERR_NOTFOUND);
    assert_int_equal(rename_to(&ts, id, "user.cid", true), ERR_OK);
    assert_int_equal(ts_lookup(&ts, "user.cid"), id);
    assert_int_equal(ts_lookup(&ts, "user.cid.Sub"), sub);
    assert_int_equal(ts_lookup(&ts, "user.ann.Sub"), 0);
    assert_int_equal(ts_lookup(&ts, "user.anna"), other);
    assert_string_equal(ts_mailbox(&ts, sub, &a).uniqueid.s, was.s);
    assert_int_equal(rename_to(&ts, id, "user.ann", false), ERR_OK);
    assert_int_equal(ts_lookup(&ts, "user.cid.Sub"), sub);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_quota_is_charged_refused_and_moves_along(void **state)
{
    struct teststore ts;
    enum errcode rc;

    (void)state;
    ts_new_master(&ts, 1, 0);
    assert_int_equal(set_quota(&ts, "user.ann", 1000, false), ERR_NOTFOUND);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t sub = ts_create(&ts, "user.ann.Sub");
    (void)ts_append(&ts, sub, 1, 400, NULL);
    assert_int_equal(set_quota(&ts, "user.ann", 1000, false), ERR_OK);
    assert_int_equal(quota_of(&ts, "user.ann").used[QUOTA_STORAGE], 400);
    (void)ts_append(&ts, id, 2, 600, NULL);
    assert_int_equal(ts_append(&ts, id, 3, 50, &rc), 0);
    assert_int_equal(rc, ERR_QUOTA);
    /* A move below one root needs no room; a copy does. */
    struct uidrange r;
    struct uidset one = range(&r, 1, 1);
    struct store_txn *txn = txn_new();
    txn_copy(txn, sub, &one, id, true, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    txn = txn_new();
    txn_copy(txn, id, &one, sub, false, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_QUOTA);
    assert_int_equal(ts_expunge(&ts, id, 1, 1), ERR_OK);
    assert_int_equal(quota_of(&ts, "user.ann").used[QUOTA_STORAGE], 400);
    assert_int_equal(rename_to(&ts, id, "user.eve", true), ERR_OK);
    assert_int_equal(quota_of(&ts, "user.eve").used[QUOTA_STORAGE], 400);
    ts_verify(&ts);
    txn = txn_new();
    txn_delete(txn, id, true, 1000);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    ts_verify(&ts);
    assert_int_equal(set_quota(&ts, "user.eve", 0, true), ERR_NOTFOUND);
    ts_free(&ts);
}

/* -------------------------------------------------------------- messages */

static void
test_append_errors(void **state)
{
    struct teststore ts;
    enum errcode rc;
    struct body *b = ts_body(1, 100);
    uint8_t word[KEYWORD_MAX + 1] = {0};
    struct span words[KEYWORDS_PER_MESSAGE + 1];
    uint8_t letters[KEYWORDS_PER_MESSAGE + 1][2];

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    assert_int_equal(ts_append(&ts, 77, 1, 100, &rc), 0);
    assert_int_equal(rc, ERR_NOTFOUND);
    memset(word, 'k', sizeof(word));
    struct span longer = span_of(word, sizeof(word));
    struct txn_append a = message(id, b);
    a.keywords = &longer;
    a.nkeywords = 1;
    struct store_txn *txn = txn_new();
    txn_append(txn, &a);
    assert_int_equal(ts_commit(&ts, &txn), ERR_LIMIT);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        letters[i][0] = (uint8_t)('a' + i / 16);
        letters[i][1] = (uint8_t)('a' + i % 16);
        words[i] = span_of(letters[i], 2);
    }
    a.keywords = words;
    a.nkeywords = ARRAY_LEN(words);
    txn = txn_new();
    txn_append(txn, &a);
    assert_int_equal(ts_commit(&ts, &txn), ERR_LIMIT);
    body_free(&b);
    ts_free(&ts);
}

static void
test_delivery_is_stored_once(void **state)
{
    struct teststore ts;
    struct arena arena = ARENA_INIT;
    struct body *b = ts_body(1, 100);

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    for (int i = 0; i < 3; i++) {
        struct txn_append a = message(id, b);
        struct store_txn *txn = txn_new();
        memset(a.dedup, 7, sizeof(a.dedup));
        a.independent = true;
        txn_append(txn, &a);
        assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
        assert_int_equal(txn_result(txn, 0)->code,
                         i == 0 ? ERR_OK : ERR_EXISTS);
        assert_true(uidset_has(&txn_result(txn, 0)->uids, 1));
        txn_free(&txn);
        if (i == 1) { /* also after a crash */
            struct error err;
            ts_crash(&ts, 5);
            assert_int_equal(ts_open(&ts, &err), ERR_OK);
            store_set_role(ts.store, ROLE_MASTER, 1);
        }
    }
    assert_int_equal(ts_mailbox(&ts, id, &arena).exists, 1);
    ts_verify(&ts);
    body_free(&b);
    arena_free(&arena);
    ts_free(&ts);
}

static void
test_one_body_is_written_once(void **state)
{
    struct teststore ts;
    struct error err;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t to = ts_create(&ts, "user.bob");
    (void)ts_append(&ts, id, 1, 100000, NULL);
    lsn_t before = store_pos(ts.store).applied.lsn;
    size_t used = (size_t)env_sim_used_bytes(ts.sim);
    (void)ts_append(&ts, to, 1, 100000, NULL);
    assert_int_equal(store_pos(ts.store).applied.lsn, before + 1);
    assert_int_equal(env_sim_used_bytes(ts.sim), used);
    /* Purged everywhere, it is written again, though its place is known. */
    assert_int_equal(ts_expunge(&ts, id, 1, 1), ERR_OK);
    assert_int_equal(ts_expunge(&ts, to, 1, 1), ERR_OK);
    struct uidrange r;
    struct uidset one = range(&r, 1, 1);
    struct store_txn *txn = txn_new();
    txn_purge(txn, id, &one);
    txn_purge(txn, to, &one);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ts_append(&ts, id, 1, 100000, NULL), 2);
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    struct arena a = ARENA_INIT;
    struct message m = ts_message(&ts, id, 2, &a);
    assert_int_equal(
        store_body_read(ts.store, &m.guid, 0, 200000, &bytes, &err), ERR_OK);
    assert_int_equal(bytes.n, 100000);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_flags_change_and_say_what_they_changed(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct uidrange r;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    for (uint64_t i = 0; i < 4; i++)
        (void)ts_append(&ts, id, i, 50, NULL);
    modseq_t before = ts_mailbox(&ts, id, &a).highestmodseq;
    assert_int_equal(
        ts_flag(&ts, id, 2, 3, FLAGS_ADD, FLAG_SEEN | FLAG_DELETED, "Work"),
        ERR_OK);
    struct mailbox mb = ts_mailbox(&ts, id, &a);
    assert_int_equal(mb.unseen, 2);
    assert_int_equal(mb.deleted, 2);
    assert_true(mb.highestmodseq > before);
    struct message m = ts_message(&ts, id, 3, &a);
    assert_int_equal(m.nkeywords, 1);
    assert_int_equal(m.modseq, mb.highestmodseq);

    /* UNCHANGEDSINCE: those changed since are named and left alone. */
    struct uidset all = range(&r, 1, 99);
    struct store_txn *txn = txn_new();
    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &all,
                                       .mode = FLAGS_ADD,
                                       .flags = FLAG_FLAGGED,
                                       .unchanged_since = before,
                                       .has_unchanged_since = true});
    assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
    assert_int_equal(uidset_count(&txn_result(txn, 0)->uids), 2);
    assert_true(uidset_has(&txn_result(txn, 0)->refused, 2));
    assert_true(uidset_has(&txn_result(txn, 0)->refused, 3));
    txn_free(&txn);

    /* Nothing to change: nothing written. */
    lsn_t at = store_pos(ts.store).applied.lsn;
    assert_int_equal(ts_flag(&ts, id, 1, 9, FLAGS_REMOVE, FLAG_DRAFT, NULL),
                     ERR_OK);
    assert_int_equal(store_pos(ts.store).applied.lsn, at);

    /* REPLACE keeps what it must not touch. */
    txn = txn_new();
    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &all,
                                       .mode = FLAGS_REPLACE,
                                       .flags = FLAG_DRAFT,
                                       .keep = FLAG_DELETED});
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ts_message(&ts, id, 2, &a).flags,
                     FLAG_DELETED | FLAG_DRAFT);
    assert_int_equal(ts_message(&ts, id, 1, &a).flags, FLAG_DRAFT);

    txn = txn_new();
    txn_expunge(txn, id, &all, true);
    assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
    assert_int_equal(uidset_count(&txn_result(txn, 0)->uids), 2);
    txn_free(&txn);
    mb = ts_mailbox(&ts, id, &a);
    assert_int_equal(mb.exists, 2);
    assert_int_equal(mb.expunged, 2);
    assert_true(ts_message(&ts, id, 2, &a).flags & FLAG_EXPUNGED);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_copy_and_move_give_pairs_of_uids(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct uidrange r;
    struct uidset some = range(&r, 2, 3);

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t to = ts_create(&ts, "user.ann.Sub");
    for (uint64_t i = 0; i < 4; i++)
        (void)ts_append(&ts, id, i, 50, NULL);
    struct store_txn *txn = txn_new();
    txn_copy(txn, id, &some, to, true, true);
    assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
    const struct txn_result *res = txn_result(txn, 0);
    assert_true(uidset_has(&res->from, 2) && uidset_has(&res->from, 3));
    assert_true(uidset_has(&res->uids, 1) && uidset_has(&res->uids, 2));
    txn_free(&txn);
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, 2);
    assert_int_equal(ts_mailbox(&ts, to, &a).exists, 2);
    txn = txn_new(); /* into itself */
    some = range(&r, 1, 99);
    txn_copy(txn, to, &some, to, false, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ts_mailbox(&ts, to, &a).exists, 4);
    txn = txn_new();
    txn_copy(txn, to, &some, 12345, false, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_NOTFOUND);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_failed_transaction_leaves_nothing(void **state)
{
    struct teststore ts;
    struct body *b = ts_body(1, 100);

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    struct store_pos before = store_pos(ts.store);
    struct store_txn *txn = txn_new();
    struct span value = SPAN_LIT("v");
    struct txn_append a = message(id, b);
    struct span word = SPAN_LIT("New");
    a.keywords = &word;
    a.nkeywords = 1;
    txn_append(txn, &a);
    txn_user(txn, "ann", USER_SUBSCRIPTION, "user.ann", &value);
    txn_quota(txn, "user.ann", (uint64_t[QUOTA_RESOURCES]){1, 1, 1, 1});
    txn_rename(txn, id, "user.bob", true);
    txn_create(txn, &(struct txn_mailbox){.name = "user.new"});
    txn_set_recent(txn, 4711, 3); /* no such mailbox */
    assert_int_equal(ts_commit(&ts, &txn), ERR_NOTFOUND);
    struct store_pos after = store_pos(ts.store);
    assert_int_equal(before.applied.lsn, after.applied.lsn);
    assert_int_equal(before.digest, after.digest);
    assert_int_equal(ts_lookup(&ts, "user.ann"), id);
    assert_int_equal(ts_lookup(&ts, "user.bob"), 0);
    /* What comes next finds the overlay as if nothing had been. */
    assert_int_equal(ts_append(&ts, id, 1, 100, NULL), 1);
    (void)ts_create(&ts, "user.new");
    ts_verify(&ts);
    body_free(&b);
    ts_free(&ts);
}

static void
on_done(void *ctx, struct store_txn *txn)
{
    ((struct store_txn **)ctx)[0] = txn;
}

static void
test_failed_one_in_a_group_spoils_no_other(void **state)
{
    struct teststore ts;
    struct store_txn *done[3] = {NULL};
    struct arena a = ARENA_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    for (size_t i = 0; i < 3; i++) {
        struct store_txn *txn = txn_new();
        struct body *b = ts_body(i, 100);
        struct txn_append m = message(id, b);
        txn_append(txn, &m);
        if (i == 1)
            txn_set_recent(txn, 4711, 3);
        store_submit(ts.store, txn, on_done, &done[i]);
        body_free(&b);
    }
    assert_true(store_queue_bytes(ts.store) > 0);
    assert_true(store_step(ts.store));
    assert_int_equal(store_queue_bytes(ts.store), 0);
    assert_int_equal(txn_code(done[0]), ERR_OK);
    assert_int_equal(txn_code(done[1]), ERR_NOTFOUND);
    assert_int_equal(txn_code(done[2]), ERR_OK);
    assert_true(uidset_has(&txn_result(done[2], 0)->uids, 2));
    for (size_t i = 0; i < 3; i++)
        txn_free(&done[i]);
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, 2);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_independent_appends_fail_alone(void **state)
{
    struct teststore ts;
    struct body *b = ts_body(1, 100);
    struct store_txn *txn = txn_new();

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t ann = ts_create(&ts, "user.ann");
    mbid_t bob = ts_create(&ts, "user.bob");
    assert_int_equal(set_quota(&ts, "user.ann", 50, false), ERR_OK);
    const mbid_t to[] = {ann, bob, 999};
    for (size_t i = 0; i < 3; i++) {
        struct txn_append m = message(to[i], b);
        m.independent = true;
        txn_append(txn, &m);
    }
    assert_int_equal(store_commit(ts.store, txn, NULL), ERR_OK);
    assert_int_equal(txn_result(txn, 0)->code, ERR_QUOTA);
    assert_int_equal(txn_result(txn, 1)->code, ERR_OK);
    assert_int_equal(txn_result(txn, 2)->code, ERR_NOTFOUND);
    txn_free(&txn);
    body_free(&b);
    ts_verify(&ts);
    ts_free(&ts);
}

/* ---------------------------------------------------------- large bodies */

static void
test_large_body_goes_ahead_in_parts_and_lets_others_in(void **state)
{
    struct teststore ts, re;
    struct store_txn *big = txn_new(), *small[4];
    struct store_txn *done[5] = {NULL};
    struct arena a = ARENA_INIT;
    struct error err;
    AUTO(buf_free) struct buf bytes = BUF_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    ts_new(&re, 2, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t bob = ts_create(&ts, "user.bob");
    struct body *b = ts_body(9, 3500000);
    struct txn_append m = message(id, b), m2 = message(bob, b);
    txn_append(big, &m);
    txn_append(big, &m2); /* the second recipient costs no body */
    store_submit(ts.store, big, on_done, &done[0]);
    for (size_t i = 0; i < 4; i++) {
        struct body *s = ts_body(i, 10);
        struct txn_append sm = message(id, s);
        small[i] = txn_new();
        txn_append(small[i], &sm);
        store_submit(ts.store, small[i], on_done, &done[i + 1]);
        body_free(&s);
    }
    (void)store_step(ts.store);
    assert_int_equal(txn_code(done[0]), ERR_OK);
    /* 4 parts: the small ones did not wait for the last of them. */
    assert_true(txn_lsn(done[0]) > txn_lsn(done[4]));
    assert_true(uidset_has(&txn_result(done[0], 0)->uids, 5));
    assert_int_equal(txn_lsn(done[0]), 3 + 4 + 4 + 2);
    struct message row = ts_message(&ts, id, 5, &a);
    assert_int_equal(
        store_body_read(ts.store, &row.guid, 0, 4000000, &bytes, &err), ERR_OK);
    assert_true(span_eq(buf_span(&bytes), body_raw(b)));
    buf_clear(&bytes);
    assert_int_equal(ts_ship(&ts, &re, 1 << 20), ERR_OK);
    assert_int_equal(
        store_body_read(re.store, &row.guid, 1048570, 20, &bytes, &err),
        ERR_OK);
    assert_memory_equal(bytes.p, body_raw(b).p + 1048570, 20);
    assert_int_equal(store_pos(ts.store).digest, store_pos(re.store).digest);
    for (size_t i = 0; i < 5; i++)
        txn_free(&done[i]);
    body_free(&b);
    arena_free(&a);
    ts_free(&ts);
    ts_free(&re);
}

static void
test_transaction_larger_than_a_group_is_refused(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct store_txn *txn = txn_new();
    AUTO(buf_free) struct buf value = BUF_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    while (value.n < USER_VALUE_MAX)
        buf_add_byte(&value, 'v');
    struct span v = buf_span(&value);
    for (int i = 0; i < 30; i++) {
        char name[16] = {'n', (char)('A' + i)};
        txn_user(txn, "ann", USER_SUBSCRIPTION, name, &v);
    }
    struct store_pos before = store_pos(ts.store);
    assert_int_equal(ts_commit(&ts, &txn), ERR_LIMIT);
    assert_int_equal(store_pos(ts.store).digest, before.digest);
    (void)ts_create(&ts, "user.ann");
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_many_bodies_in_one_transaction(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct store_txn *txn = txn_new();

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    for (uint64_t i = 0; i < 12; i++) {
        struct body *b = ts_body(i, 700000);
        struct txn_append m = message(id, b);
        txn_append(txn, &m);
        body_free(&b);
    }
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, 12);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* ------------------------------------------------- roles, fence and epochs */

static void
put_file(struct teststore *ts, const char *path)
{
    struct error err = {0};
    assert_int_equal(
        env_write_file_atomic(env_sim_env(ts->sim), path, SPAN_LIT("x"), &err),
        ERR_OK);
}

static void
remove_file(struct teststore *ts, const char *path)
{
    struct error err = {0};
    assert_int_equal(env_unlink(env_sim_env(ts->sim), path, &err), ERR_OK);
}

/* Does anything come through while the fence is up? */
static bool
fence_leaks(unsigned mutants)
{
    struct teststore ts;
    enum errcode rc;

    ts_new_master(&ts, 1, mutants);
    mbid_t id = ts_create(&ts, "user.ann");
    struct store_pos before = store_pos(ts.store);
    put_file(&ts, "/be/shutdown");
    assert_true(store_check_fence(ts.store));
    (void)ts_append(&ts, id, 1, 100, &rc);
    const bool leaks =
        rc != ERR_FENCED || store_pos(ts.store).digest != before.digest;
    remove_file(&ts, "/be/shutdown");
    assert_false(store_check_fence(ts.store));
    if (!leaks)
        assert_int_equal(ts_append(&ts, id, 1, 100, NULL), 1);
    ts_verify(&ts);
    ts_free(&ts);
    return leaks;
}

static void
test_fence_stops_everything_and_lets_go(void **state)
{
    (void)state;
    assert_false(fence_leaks(0));
    assert_true(fence_leaks(MUTANT_IGNORE_FENCE));
}

static int
raise_fence(void *ctx, enum env_fault_kind kind, const char *path)
{
    (void)kind;
    put_file(ctx, path);
    return 0;
}

/* It is looked at when all that is left of a group is to write it: one that has
 * gone up by then stops it, whether it was known when the group was begun or
 * not. */
static void
test_fence_binds_the_group_under_way(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    enum errcode rc;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    struct store_pos before = store_pos(ts.store);
    env_fault_add(ts.fault, &(struct env_fault_rule){.kinds = FAULT_READ,
                                                     .nth = 1,
                                                     .path_part = "shutdown",
                                                     .action = FAULT_HOOK,
                                                     .hook = raise_fence,
                                                     .hook_ctx = &ts});
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(ts_append(&ts, id, 1, 100, &rc), 0);
        assert_int_equal(rc, ERR_FENCED);
        assert_int_equal(env_fault_hits(ts.fault), 1);
        assert_int_equal(ts_mailbox(&ts, id, &a).exists, 0);
        assert_int_equal(store_pos(ts.store).applied.lsn, before.applied.lsn);
    }
    remove_file(&ts, "/be/shutdown");
    assert_int_equal(ts_append(&ts, id, 1, 100, NULL), 1);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_hold_waits_for_the_fence_to_go(void **state)
{
    struct teststore ts;
    struct store_txn *done = NULL, *late = NULL;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    put_file(&ts, "/be/shutdown");
    store_hold(ts.store, 5000);
    struct store_txn *txn = txn_new();
    txn_set_recent(txn, id, 3);
    store_submit(ts.store, txn, on_done, &done);
    (void)store_step(ts.store);
    assert_null(done);
    remove_file(&ts, "/be/shutdown");
    (void)store_step(ts.store);
    assert_non_null(done);
    assert_int_equal(txn_code(done), ERR_OK);
    txn_free(&done);
    put_file(&ts, "/be/shutdown");
    txn = txn_new();
    txn_set_recent(txn, id, 4);
    store_submit(ts.store, txn, on_done, &late);
    (void)store_step(ts.store);
    assert_null(late);
    env_sim_advance_us(ts.sim, 6000000);
    (void)store_step(ts.store);
    assert_int_equal(txn_code(late), ERR_FENCED);
    txn_free(&late);
    ts_verify(&ts);
    ts_free(&ts);
}

static void
test_only_a_master_takes_transactions(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ts_new_master(&ts, 1, 0);
    store_set_role(ts.store, ROLE_REPLICA, 1);
    assert_int_equal(create(&ts, "user.ann"), ERR_READONLY);
    store_set_role(ts.store, ROLE_FENCED, 1);
    assert_int_equal(create(&ts, "user.ann"), ERR_FENCED);
    assert_int_equal(store_role(ts.store), ROLE_FENCED);
    store_set_role(ts.store, ROLE_MASTER, 1);
    assert_int_equal(store_begin_epoch(ts.store, 1, 0, "again", &err),
                     ERR_HISTORY);
    assert_int_equal(store_begin_epoch(ts.store, 5, 0, "not ours", &err),
                     ERR_HISTORY);
    assert_int_equal(create(&ts, "user.ann"), ERR_OK);
    ts_free(&ts);
}

static void
test_epoch_has_to_begin_before_it_is_written_in(void **state)
{
    struct teststore ts;

    (void)state;
    ts_new_master(&ts, 1, 0);
    store_set_role(ts.store, ROLE_MASTER, 2);
    assert_int_equal(create(&ts, "user.ann"), ERR_READONLY);
    ts_free(&ts);
    ts_new_master(&ts, 1, MUTANT_IGNORE_EPOCH);
    store_set_role(ts.store, ROLE_MASTER, 2);
    assert_int_equal(create(&ts, "user.ann"), ERR_OK); /* noticed */
    ts_free(&ts);
}

/* The first UID that a promoted replica gives out. */
static uint32_t
uid_after_promotion(unsigned mutants)
{
    struct teststore ma, re;
    struct error err = {0};
    struct arena a = ARENA_INIT;

    ts_new_master(&ma, 1, 0);
    ts_new(&re, 2, mutants);
    mbid_t id = ts_create(&ma, "user.ann");
    (void)ts_append(&ma, id, 1, 100, NULL);
    assert_int_equal(ts_ship(&ma, &re, 1 << 20), ERR_OK);
    uint32_t lost = ts_append(&ma, id, 2, 100, NULL); /* never shipped */
    assert_int_equal(lost, 2);
    store_set_role(re.store, ROLE_MASTER, 2);
    assert_int_equal(store_begin_epoch(re.store, 2, 1000, "promote", &err),
                     ERR_OK);
    uint32_t uid = ts_append(&re, id, 3, 100, NULL);
    assert_int_equal(ts_append(&re, id, 4, 100, NULL), uid + 1);
    struct mailbox mb = ts_mailbox(&re, id, &a);
    assert_int_equal(mb.uid_epoch, 2);
    uint32_t fresh =
        ts_mailbox(&re, ts_create(&re, "user.bob"), &a).uidvalidity;
    assert_true(fresh > mb.uidvalidity + 4096);
    struct store_snap *snap = store_snapshot(re.store);
    const struct epoch_entry *epochs;
    size_t n;
    assert_int_equal(snap_epochs(snap, &a, &epochs, &n, &err), ERR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(epochs[1].fork_lsn, 3);
    assert_int_equal(epochs[1].uid_headroom, 1000);
    store_release(&snap);
    /* The old master's tail does not fit the new history. */
    store_set_role(ma.store, ROLE_REPLICA, 1);
    ts_verify(&re);
    arena_free(&a);
    ts_free(&ma);
    ts_free(&re);
    return uid;
}

static void
test_promotion_gives_out_no_uid_twice(void **state)
{
    (void)state;
    assert_int_equal(uid_after_promotion(0), 1002);
    assert_int_equal(uid_after_promotion(MUTANT_NO_HEADROOM), 2); /* noticed */
}

/*
 * Two lines of history part at epoch 1 and do not know of each other: on one of
 * them the epochs 2 and 3 are planned swaps, on the other 4 is a promotion.
 * Then the first is promoted, to 5: beyond what the second has told.
 */
static void
test_swaps_on_another_line_count_for_the_jump_of_uids(void **state)
{
    struct teststore a, b;
    struct error err = {0};
    struct arena arena = ARENA_INIT;

    (void)state;
    ts_new_master(&a, 1, 0);
    ts_new(&b, 2, 0);
    mbid_t id = ts_create(&a, "user.ann");
    (void)ts_append(&a, id, 1, 100, NULL);
    assert_int_equal(ts_ship(&a, &b, 1 << 20), ERR_OK);

    store_set_role(b.store, ROLE_MASTER, 4);
    assert_int_equal(store_begin_epoch(b.store, 4, 1000, "promote", &err),
                     ERR_OK);
    assert_int_equal(ts_mailbox(&b, id, &arena).uidnext, 3002);
    assert_int_equal(ts_append(&b, id, 2, 100, NULL), 3002);
    const uint32_t validity =
        ts_mailbox(&b, ts_create(&b, "user.bob"), &arena).uidvalidity;

    for (epoch_t epoch = 2; epoch <= 3; epoch++) {
        store_set_role(a.store, ROLE_MASTER, epoch);
        assert_int_equal(store_begin_epoch(a.store, epoch, 0, "swap", &err),
                         ERR_OK);
        assert_int_equal(ts_append(&a, id, 1, 100, NULL), epoch);
    }
    store_set_role(a.store, ROLE_MASTER, 5);
    assert_int_equal(store_begin_epoch(a.store, 5, 1000, "promote", &err),
                     ERR_OK);
    assert_int_equal(ts_mailbox(&a, id, &arena).uidnext, 4004);
    assert_int_equal(ts_append(&a, id, 3, 100, NULL), 4004);
    assert_int_equal(ts_append(&a, id, 3, 100, NULL), 4005);
    assert_true(ts_mailbox(&a, ts_create(&a, "user.bob"), &arena).uidvalidity >
                validity);
    /* Once is enough. */
    store_set_role(a.store, ROLE_MASTER, 6);
    assert_int_equal(store_begin_epoch(a.store, 6, 0, "swap", &err), ERR_OK);
    assert_int_equal(ts_append(&a, id, 3, 100, NULL), 4006);
    store_set_role(a.store, ROLE_MASTER, 7);
    assert_int_equal(store_begin_epoch(a.store, 7, 1000, "promote", &err),
                     ERR_OK);
    assert_int_equal(ts_append(&a, id, 3, 100, NULL), 6007);
    ts_verify(&a);
    arena_free(&arena);
    ts_free(&a);
    ts_free(&b);
}

/* What a client is answered from that says it knows all up to MODSEQ. */
static modseq_t
living(struct teststore *ts, modseq_t modseq)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct error err = {0};
    modseq_t from = 0;

    assert_int_equal(snap_living_modseq(snap, modseq, &from, &err), ERR_OK);
    store_release(&snap);
    return from;
}

/* Of epoch 1, which ended at LSN, one record more was promised elsewhere. */
static void
check_living(struct teststore *ts, lsn_t lsn)
{
    assert_true(living(ts, modseq_of(1, lsn)) == modseq_of(1, lsn));
    assert_true(living(ts, modseq_of(1, lsn + 1)) == 1);
    assert_true(living(ts, modseq_of(2, lsn + 1)) == modseq_of(2, lsn + 1));
    assert_true(living(ts, modseq_of(3, lsn)) == 1);
    assert_true(living(ts, 7) == 7); /* given by a peer, with its message */
}

/* From the moment at which this is the master its readers are told what they
 * are told once its epoch has begun. */
static void
test_epoch_that_is_about_to_begin_is_told_ahead(void **state)
{
    struct teststore ts;
    struct error err = {0};
    struct arena a = ARENA_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    assert_int_equal(ts_append(&ts, id, 1, 100, NULL), 1);
    const lsn_t fork = store_pos(ts.store).applied.lsn;
    store_plan_epoch(ts.store, 2, 1000, "promote", false);
    store_set_role(ts.store, ROLE_MASTER, 2);
    (void)store_step(ts.store);
    assert_int_equal(create(&ts, "user.bob"), ERR_READONLY);
    struct mailbox before = ts_mailbox(&ts, id, &a);
    assert_int_equal(before.uidnext, 1002);
    assert_int_equal(modseq_epoch(before.highestmodseq), 2);
    check_living(&ts, fork);
    assert_int_equal(store_begin_epoch(ts.store, 2, 1000, "promote", &err),
                     ERR_OK);
    struct mailbox after = ts_mailbox(&ts, id, &a);
    assert_int_equal(after.uidnext, 1002);
    assert_true(after.highestmodseq == before.highestmodseq);
    check_living(&ts, fork);

    store_plan_epoch(ts.store, 3, 1000, "owed", true);
    store_set_role(ts.store, ROLE_MASTER, 3);
    (void)store_step(ts.store);
    assert_int_equal(create(&ts, "user.bob"), ERR_OK); /* begun by itself */
    assert_int_equal(ts_append(&ts, id, 1, 100, NULL), 2002);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* -------------------------------------------------------------- full disk */

static void
test_full_disk_refuses_and_heals(void **state)
{
    struct teststore ts;
    enum errcode rc = ERR_OK;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    env_sim_set_disk_bytes(ts.sim, 1);
    unsigned stored = 0;
    for (uint64_t i = 0; i < 30 && rc == ERR_OK; i++)
        stored += ts_append(&ts, id, i, 300000, &rc) != 0;
    assert_int_equal(rc, ERR_NOSPACE);
    assert_int_equal(ts.fatal.code, ERR_OK);
    struct arena a = ARENA_INIT;
    assert_int_equal(ts_mailbox(&ts, id, &a).exists, stored);
    env_sim_set_disk_bytes(ts.sim, 0);
    assert_int_equal(ts_append(&ts, id, 77, 300000, NULL), stored + 1);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_full_state_disk_keeps_what_the_log_has(void **state)
{
    struct teststore ts;
    struct store_txn *done = NULL, *other = NULL;
    struct arena a = ARENA_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    kv_mem_fail(ts.kv, ERR_NOSPACE);
    struct store_txn *txn = txn_new();
    txn_set_recent(txn, id, 3);
    store_submit(ts.store, txn, on_done, &done);
    (void)store_step(ts.store);
    assert_null(done); /* durable, not visible: not answered */
    assert_int_equal(ts_mailbox(&ts, id, &a).recent_uid, 0);
    txn = txn_new();
    txn_set_recent(txn, id, 9);
    store_submit(ts.store, txn, on_done, &other);
    (void)store_step(ts.store);
    assert_int_equal(txn_code(other), ERR_NOSPACE);
    txn_free(&other);
    kv_mem_fail(ts.kv, ERR_OK);
    env_sim_advance_us(ts.sim, 1000000);
    (void)store_step(ts.store);
    assert_non_null(done);
    assert_int_equal(txn_code(done), ERR_OK);
    txn_free(&done);
    assert_int_equal(ts_mailbox(&ts, id, &a).recent_uid, 3);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* ---------------------------------------------------------------- watching */

static void
count_call(void *ctx)
{
    ++*(int *)ctx;
}

static void
test_watchers_are_told_once_until_rearmed(void **state)
{
    struct teststore ts;
    int calls = 0, list = 0;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t bob = ts_create(&ts, "user.bob");
    struct store_watch *w = store_watch(ts.store, id, count_call, &calls);
    struct store_watch *l = store_watch(ts.store, 0, count_call, &list);
    (void)ts_append(&ts, bob, 1, 10, NULL);
    assert_int_equal(calls, 0);
    (void)ts_append(&ts, id, 1, 10, NULL);
    (void)ts_append(&ts, id, 2, 10, NULL);
    assert_int_equal(calls, 1);
    watch_rearm(w);
    assert_int_equal(ts_flag(&ts, id, 1, 1, FLAGS_ADD, FLAG_SEEN, NULL),
                     ERR_OK);
    assert_int_equal(calls, 2);
    assert_int_equal(list, 0);
    (void)ts_create(&ts, "user.eve");
    assert_int_equal(list, 1);
    watch_rearm(w);
    store_unwatch(&w);
    assert_null(w);
    (void)ts_append(&ts, id, 3, 10, NULL);
    assert_int_equal(calls, 2);
    store_unwatch(&l);
    ts_free(&ts);
}

/* ------------------------------------------------------------------ frames */

struct got {
    enum errcode code;
    int calls;
};

static void
on_frames(void *ctx, enum errcode code, const struct error *err,
          struct store_pos pos)
{
    struct got *got = ctx;
    (void)err;
    (void)pos;
    got->code = code;
    got->calls++;
}

static enum errcode
push(struct teststore *ts, struct span frames)
{
    struct got got = {0};
    store_append_frames(ts->store, frames, on_frames, &got);
    (void)store_step(ts->store);
    assert_int_equal(got.calls, 1);
    return got.code;
}

/* A frame with one REC_APPEND whose body is not its GUID. */
static void
forged_frame(struct teststore *like, mbid_t id, struct buf *ret)
{
    struct store_pos pos = store_pos(like->store);
    AUTO(buf_free) struct buf body = BUF_INIT, payload = BUF_INIT;
    struct body *b = ts_body(1, 100);
    struct rec_append rec = {.id = id, .has_body = true};
    uint32_t raw;
    uint8_t head[FRAME_HEADER_BYTES];

    rec.msg.uid = 1;
    rec.msg.size = 100;
    rec.msg.guid = *body_guid(b);
    rec.msg.guid.b[0] ^= 1;
    rec.body = body_part(b, 0, &rec.encoding, &raw, &rec.body_hash);
    rec_append_encode(&rec, &body);
    frame_add_record(&payload, REC_APPEND, record_version(REC_APPEND),
                     buf_span(&body));
    struct frame_head h = {.payload_bytes = (uint32_t)payload.n,
                           .nrecords = 1,
                           .epoch = 1,
                           .first_lsn = pos.applied.lsn + 1,
                           .time_us = 1};
    h.payload_hash = frame_payload_hash(buf_span(&payload));
    h.chain = frame_chain(pos.chain, &h);
    frame_head_encode(&h, head);
    buf_add(ret, span_of(head, sizeof(head)));
    buf_add(ret, buf_span(&payload));
    while (ret->n % 8 != 0)
        buf_add_byte(ret, 0);
    body_free(&b);
}

static void
test_frames_are_refused_for_what_is_wrong_with_them(void **state)
{
    struct teststore ma, re;
    AUTO(buf_free) struct buf frame = BUF_INIT;

    (void)state;
    ts_new_master(&ma, 1, 0);
    ts_new(&re, 2, 0);
    mbid_t id = ts_create(&ma, "user.ann");
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_OK);
    struct store_pos before = store_pos(re.store);
    assert_int_equal(push(&re, SPAN_LIT("no frames at all")), ERR_CORRUPT);
    forged_frame(&re, id, &frame);
    assert_int_equal(push(&re, buf_span(&frame)), ERR_CORRUPT);
    assert_int_equal(push(&ma, buf_span(&frame)), ERR_READONLY);
    assert_int_equal(store_pos(re.store).digest, before.digest);
    assert_int_equal(re.fatal.code, ERR_OK);
    (void)ts_append(&ma, id, 1, 100, NULL);
    put_file(&re, "/be/shutdown");
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_FENCED);
    remove_file(&re, "/be/shutdown");
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_OK);
    uint64_t digest;
    assert_true(store_digest_at(re.store, 3, &digest));
    assert_true(digest == store_pos(ma.store).digest);
    assert_false(store_digest_at(re.store, 99, &digest));
    store_set_role(re.store, ROLE_FENCED, 1);
    (void)ts_append(&ma, id, 2, 100, NULL);
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_READONLY);
    ts_free(&ma);
    ts_free(&re);
}

static void
test_flipped_apply_shows_in_the_digest(void **state)
{
    struct teststore ma, re;
    struct store_txn *txn = txn_new();
    struct uidrange r;
    struct uidset one = range(&r, 1, 1);

    (void)state;
    ts_new_master(&ma, 1, 0);
    ts_new(&re, 2, MUTANT_APPLY_FLIPPED);
    mbid_t id = ts_create(&ma, "user.ann");
    (void)ts_append(&ma, id, 1, 100, NULL);
    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &one,
                                       .mode = FLAGS_ADD,
                                       .flags = FLAG_SEEN});
    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &one,
                                       .mode = FLAGS_REPLACE,
                                       .flags = FLAG_DRAFT});
    assert_int_equal(ts_commit(&ma, &txn), ERR_OK);
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_OK);
    assert_int_equal(store_pos(ma.store).applied.lsn,
                     store_pos(re.store).applied.lsn);
    assert_true(store_pos(ma.store).digest != store_pos(re.store).digest);
    ts_free(&ma);
    ts_free(&re);
}

/* ---- what comes late, and who is told when ----------------------------- */

static void
note_done(void *ctx, struct store_txn *txn)
{
    (void)txn;
    *(unsigned *)ctx += 1;
}

static struct store_txn *
late_append(struct teststore *ts, mbid_t id, uint64_t seed, unsigned *done)
{
    struct store_txn *txn = txn_new();
    struct body *b = ts_body(seed, 100);
    struct txn_append m = message(id, b);

    m.cache_is_late = true;
    txn_append(txn, &m);
    body_free(&b);
    store_submit(ts->store, txn, note_done, done);
    return txn;
}

static enum errcode
derived(struct teststore *ts, mbid_t id, uint32_t uid, struct buf *ret)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct error err;

    buf_clear(ret);
    enum errcode rc = snap_cache(snap, id, uid, ret, &err);
    store_release(&snap);
    return rc;
}

static void
test_derived_record_may_come_while_the_disk_works(void **state)
{
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct teststore ts;
    unsigned done = 0;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    struct store_txn *in_time = late_append(&ts, id, 1, &done);
    struct store_txn *never = late_append(&ts, id, 2, &done);
    struct store_txn *refused = late_append(&ts, id + 99, 3, &done);
    assert_true(txn_bring_cache(in_time, 0, SPAN_LIT("derived")));
    assert_true(txn_bring_cache(refused, 0, SPAN_LIT("of nothing")));
    while (done < 3)
        assert_true(store_step(ts.store));
    assert_int_equal(txn_code(in_time), ERR_OK);
    assert_int_equal(txn_code(never), ERR_OK);
    assert_int_equal(txn_code(refused), ERR_NOTFOUND);
    assert_int_equal(derived(&ts, id, 1, &got), ERR_OK);
    assert_true(span_eq_str(buf_span(&got), "derived"));
    /* Nobody takes it any more: the caller is told to put it. */
    assert_false(txn_bring_cache(never, 0, SPAN_LIT("too late")));
    assert_int_equal(derived(&ts, id, 2, &got), ERR_NOTFOUND);
    ts_verify(&ts);
    txn_free(&in_time);
    txn_free(&never);
    txn_free(&refused);
    ts_free(&ts);
}

/* Between the two words: "<", answers, watchers, ">". */
static struct buf told;

static void
tell_answers(void *ctx, bool begins)
{
    (void)ctx;
    buf_add_byte(&told, begins ? '<' : '>');
}

static void
tell_done(void *ctx, struct store_txn *txn)
{
    (void)txn;
    buf_add_byte(&told, 'a');
    *(unsigned *)ctx += 1;
}

static void
tell_watch(void *ctx)
{
    (void)ctx;
    buf_add_byte(&told, 'w');
}

static void
test_group_is_answered_between_two_words(void **state)
{
    struct teststore ts;
    unsigned done = 0;
    struct store_txn *txns[3];

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    struct store_watch *w = store_watch(ts.store, id, tell_watch, NULL);
    ts.store->hooks.on_answers = tell_answers;
    for (size_t i = 0; i < ARRAY_LEN(txns); i++) {
        struct body *b = ts_body(i, 100);
        const struct txn_append m = message(id, b);
        txns[i] = txn_new();
        txn_append(txns[i], &m);
        body_free(&b);
        store_submit(ts.store, txns[i], tell_done, &done);
    }
    while (done < ARRAY_LEN(txns))
        assert_true(store_step(ts.store));
    buf_add_byte(&told, 0);
    assert_string_equal(told.p, "<aaaw>");
    ts.store->hooks.on_answers = NULL;
    store_unwatch(&w);
    for (size_t i = 0; i < ARRAY_LEN(txns); i++)
        txn_free(&txns[i]);
    buf_free(&told);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_refuses_doubles_and_bad_names),
        cmocka_unit_test(test_create_tells_the_uniqueid),
        cmocka_unit_test(test_create_has_the_nearest_quota_root),
        cmocka_unit_test(test_create_takes_the_acl_of_its_parent),
        cmocka_unit_test(test_derived_record_may_come_while_the_disk_works),
        cmocka_unit_test(test_group_is_answered_between_two_words),
        cmocka_unit_test(test_uidvalidity_is_never_given_twice),
        cmocka_unit_test(test_rename_moves_a_whole_tree_or_nothing),
        cmocka_unit_test(test_quota_is_charged_refused_and_moves_along),
        cmocka_unit_test(test_append_errors),
        cmocka_unit_test(test_delivery_is_stored_once),
        cmocka_unit_test(test_one_body_is_written_once),
        cmocka_unit_test(test_flags_change_and_say_what_they_changed),
        cmocka_unit_test(test_copy_and_move_give_pairs_of_uids),
        cmocka_unit_test(test_failed_transaction_leaves_nothing),
        cmocka_unit_test(test_failed_one_in_a_group_spoils_no_other),
        cmocka_unit_test(test_independent_appends_fail_alone),
        cmocka_unit_test(
            test_large_body_goes_ahead_in_parts_and_lets_others_in),
        cmocka_unit_test(test_transaction_larger_than_a_group_is_refused),
        cmocka_unit_test(test_many_bodies_in_one_transaction),
        cmocka_unit_test(test_fence_stops_everything_and_lets_go),
        cmocka_unit_test(test_fence_binds_the_group_under_way),
        cmocka_unit_test(test_hold_waits_for_the_fence_to_go),
        cmocka_unit_test(test_only_a_master_takes_transactions),
        cmocka_unit_test(test_epoch_has_to_begin_before_it_is_written_in),
        cmocka_unit_test(test_promotion_gives_out_no_uid_twice),
        cmocka_unit_test(test_epoch_that_is_about_to_begin_is_told_ahead),
        cmocka_unit_test(test_swaps_on_another_line_count_for_the_jump_of_uids),
        cmocka_unit_test(test_full_disk_refuses_and_heals),
        cmocka_unit_test(test_full_state_disk_keeps_what_the_log_has),
        cmocka_unit_test(test_watchers_are_told_once_until_rearmed),
        cmocka_unit_test(test_frames_are_refused_for_what_is_wrong_with_them),
        cmocka_unit_test(test_flipped_apply_shows_in_the_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
