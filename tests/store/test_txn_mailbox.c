/*
 * What transactions do to mailboxes and quota roots: created, deleted and
 * renamed, with every error that txn.h promises of that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/store/txntest.h"

static enum errcode
rename_to(struct teststore *ts, mbid_t id, const char *name, bool tree)
{
    struct store_txn *txn = txn_new();
    txn_rename(txn, id, name, tree);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_refuses_doubles_and_bad_names),
        cmocka_unit_test(test_create_tells_the_uniqueid),
        cmocka_unit_test(test_create_has_the_nearest_quota_root),
        cmocka_unit_test(test_create_takes_the_acl_of_its_parent),
        cmocka_unit_test(test_uidvalidity_is_never_given_twice),
        cmocka_unit_test(test_rename_moves_a_whole_tree_or_nothing),
        cmocka_unit_test(test_quota_is_charged_refused_and_moves_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
