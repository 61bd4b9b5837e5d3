/*
 * Quota of all four resources is right after every operation: step by step, and
 * in random histories, where after each transaction every root is compared with
 * what a reader counts below it by names alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/lib/storetest.h"

static const uint64_t unlimited[QUOTA_RESOURCES] = {
    QUOTA_UNLIMITED, QUOTA_UNLIMITED, QUOTA_UNLIMITED, QUOTA_UNLIMITED};

static enum errcode
set_quota(struct teststore *ts, const char *root,
          const uint64_t limit[QUOTA_RESOURCES])
{
    struct store_txn *txn = txn_new();
    txn_quota(txn, root, limit);
    return ts_commit(ts, &txn);
}

static void
assert_used(struct teststore *ts, const char *root, uint64_t bytes,
            uint64_t messages, uint64_t folders, uint64_t annots)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct arena a = ARENA_INIT;
    struct quota q = {0};
    struct error err = {0};

    assert_int_equal(snap_quota(snap, root, &a, &q, &err), ERR_OK);
    assert_int_equal(q.used[QUOTA_STORAGE], bytes);
    assert_int_equal(q.used[QUOTA_MESSAGE], messages);
    assert_int_equal(q.used[QUOTA_FOLDERS], folders);
    assert_int_equal(q.used[QUOTA_ANNOTATION], annots);
    store_release(&snap);
    arena_free(&a);
    ts_verify(ts);
}

static bool
has_root(struct teststore *ts, const char *root)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct arena a = ARENA_INIT;
    struct quota q = {0};
    struct error err = {0};
    enum errcode rc = snap_quota(snap, root, &a, &q, &err);

    store_release(&snap);
    arena_free(&a);
    return rc == ERR_OK;
}

static enum errcode
annotate(struct teststore *ts, mbid_t id, uint32_t uid, const char *value)
{
    struct store_txn *txn = txn_new();
    struct uidset uids = UIDSET_INIT;
    struct span v = span_str(value);

    if (uid != 0)
        uidset_add(&uids, uid, uid);
    txn_annotate(txn, &(struct txn_annot){.id = id,
                                          .uids = uid == 0 ? NULL : &uids,
                                          .entry = "/c",
                                          .user = "",
                                          .value = &v,
                                          .check_quota = true});
    uidset_free(&uids);
    return ts_commit(ts, &txn);
}

static enum errcode
run(struct teststore *ts, void (*add)(struct store_txn *txn, mbid_t id),
    mbid_t id)
{
    struct store_txn *txn = txn_new();
    add(txn, id);
    return ts_commit(ts, &txn);
}

static void
delete_later(struct store_txn *txn, mbid_t id)
{
    txn_delete(txn, id, true, 5000);
}

static void
undelete(struct store_txn *txn, mbid_t id)
{
    txn_rename(txn, id, "user.ann.Sent", false);
}

static void
unexpunge_one(struct store_txn *txn, mbid_t id)
{
    struct uidrange one = {1, 1};
    const struct uidset uids = {.r = &one, .n = 1};
    txn_unexpunge(txn, id, &uids, false);
}

static void
delete_now(struct store_txn *txn, mbid_t id)
{
    txn_delete(txn, id, false, 0);
}

static void
test_every_operation_charges(void **state)
{
    struct teststore ts;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t inbox = ts_create(&ts, "user.ann");
    mbid_t sent = ts_create(&ts, "user.ann.Sent");
    assert_int_equal(set_quota(&ts, "user.ann", unlimited), ERR_OK);
    assert_used(&ts, "user.ann", 0, 0, 2, 0);
    (void)ts_append(&ts, inbox, 1, 300, NULL);
    (void)ts_append(&ts, sent, 2, 100, NULL);
    assert_int_equal(annotate(&ts, sent, 0, "12345"), ERR_OK);
    assert_int_equal(annotate(&ts, sent, 1, "123"), ERR_OK);
    assert_used(&ts, "user.ann", 400, 2, 2, 8);
    /* Expunge and back: the tombstone counts nothing. */
    assert_int_equal(ts_expunge(&ts, sent, 1, 1), ERR_OK);
    assert_used(&ts, "user.ann", 300, 1, 2, 5);
    assert_int_equal(run(&ts, unexpunge_one, sent), ERR_OK);
    assert_used(&ts, "user.ann", 400, 2, 2, 8);
    /* Delete and back. */
    assert_int_equal(run(&ts, delete_later, sent), ERR_OK);
    assert_used(&ts, "user.ann", 300, 1, 1, 0);
    assert_int_equal(run(&ts, undelete, sent), ERR_OK);
    assert_used(&ts, "user.ann", 400, 2, 2, 8);
    /* A root of its own, and none again. */
    assert_int_equal(set_quota(&ts, "user.ann.Sent", unlimited), ERR_OK);
    assert_used(&ts, "user.ann", 300, 1, 1, 0);
    assert_used(&ts, "user.ann.Sent", 100, 1, 1, 8);
    assert_int_equal(set_quota(&ts, "user.ann.Sent", NULL), ERR_OK);
    assert_used(&ts, "user.ann", 400, 2, 2, 8);
    assert_int_equal(set_quota(&ts, "user.ann.Sent", NULL), ERR_NOTFOUND);
    assert_int_equal(set_quota(&ts, "user.none", unlimited), ERR_NOTFOUND);
    assert_int_equal(set_quota(&ts, "user..x", unlimited), ERR_BADNAME);
    assert_int_equal(run(&ts, delete_now, sent), ERR_OK);
    assert_used(&ts, "user.ann", 300, 1, 1, 0);
    ts_free(&ts);
}

static void
test_limits_are_kept(void **state)
{
    struct teststore ts;
    struct store_txn *txn;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    assert_int_equal(set_quota(&ts, "user.ann",
                               (uint64_t[QUOTA_RESOURCES]){
                                   QUOTA_UNLIMITED, QUOTA_UNLIMITED, 2, 10}),
                     ERR_OK);
    (void)ts_create(&ts, "user.ann.a");
    txn = txn_new();
    txn_create(
        txn, &(struct txn_mailbox){.name = "user.ann.b", .check_quota = true});
    assert_int_equal(ts_commit(&ts, &txn), ERR_QUOTA);
    (void)ts_append(&ts, id, 1, 50, NULL);
    assert_int_equal(annotate(&ts, id, 1, "1234567"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 0, "1234"), ERR_QUOTA);
    assert_int_equal(annotate(&ts, id, 0, "123"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 1, "123456"), ERR_OK);
    assert_int_equal(annotate(&ts, id, 1, "12345678"), ERR_QUOTA);
    /* A copy of the message has no room for its annotation. */
    struct uidrange one = {1, 1};
    const struct uidset uids = {.r = &one, .n = 1};
    txn = txn_new();
    txn_copy(txn, id, &uids, id, false, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_QUOTA);
    assert_used(&ts, "user.ann", 50, 1, 2, 9);
    ts_free(&ts);
}

static void
test_roots_go_along_with_trees(void **state)
{
    struct teststore ts;
    struct store_txn *txn;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t top = ts_create(&ts, "user.ann");
    mbid_t sub = ts_create(&ts, "user.ann.x");
    mbid_t deep = ts_create(&ts, "user.ann.x.y");
    (void)ts_create(&ts, "user.bob");
    (void)ts_create(&ts, "user.bob.x.y.z");
    (void)ts_append(&ts, top, 1, 100, NULL);
    (void)ts_append(&ts, sub, 2, 200, NULL);
    (void)ts_append(&ts, deep, 3, 400, NULL);
    assert_int_equal(set_quota(&ts, "user.ann", unlimited), ERR_OK);
    assert_int_equal(set_quota(&ts, "user.ann.x.y", unlimited), ERR_OK);
    assert_int_equal(set_quota(&ts, "user.bob", unlimited), ERR_OK);
    assert_used(&ts, "user.ann", 300, 2, 2, 0);
    assert_used(&ts, "user.ann.x.y", 400, 1, 1, 0);
    /* Into another root: its own comes along, and takes who is below. */
    txn = txn_new();
    txn_rename(txn, sub, "user.bob.x", true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_used(&ts, "user.ann", 100, 1, 1, 0);
    assert_used(&ts, "user.bob", 200, 1, 2, 0);
    assert_used(&ts, "user.bob.x.y", 400, 1, 2, 0);
    assert_false(has_root(&ts, "user.ann.x.y"));
    /* Into names of its own tree. */
    txn = txn_new();
    txn_rename(txn, sub, "user.bob.x.y.w", true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_true(has_root(&ts, "user.bob.x.y.w.y"));
    assert_used(&ts, "user.bob.x.y.w.y", 400, 1, 2, 0);
    /* Without its children: the root stays for them. */
    mbid_t bob = ts_lookup(&ts, "user.bob");
    txn = txn_new();
    txn_rename(txn, bob, "user.eve", false);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_used(&ts, "user.bob", 200, 1, 1, 0);
    assert_false(has_root(&ts, "user.eve"));
    /* Deleted as a tree: all its roots end. */
    txn = txn_new();
    txn_delete_tree(txn, sub, true, 5000);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_false(has_root(&ts, "user.bob.x.y.w.y"));
    assert_used(&ts, "user.bob", 0, 0, 0, 0);
    ts_free(&ts);
}

/* ------------------------------------------------------- random histories */

struct counted {
    struct store_snap *snap;
    const char *root;
    uint64_t used[QUOTA_RESOURCES];
};

static bool
add_bytes(void *ctx, const char *entry, const char *user, struct span value)
{
    (void)entry, (void)user;
    *(uint64_t *)ctx += value.n;
    return true;
}

/* What MB holds, if ROOT is the nearest root of its name. */
static bool
count_mailbox(void *ctx, const struct mailbox *mb)
{
    struct counted *c = ctx;
    struct arena a = ARENA_INIT;
    struct error err = {0};
    const char *root = NULL;
    struct message m;

    assert_int_equal(snap_quota_root_for(c->snap, mb->name, &a, &root, &err),
                     ERR_OK);
    assert_string_equal(root == NULL ? "" : root, mb->quota_root);
    if (root != NULL && strcmp(root, c->root) == 0) {
        c->used[QUOTA_FOLDERS]++;
        assert_int_equal(snap_annots(c->snap, mb->id, 0, add_bytes,
                                     &c->used[QUOTA_ANNOTATION], &err),
                         ERR_OK);
        struct msg_iter *it = snap_messages(c->snap, mb->id, 1, false);
        while (msg_iter_next(it, &m)) {
            c->used[QUOTA_STORAGE] += m.size;
            c->used[QUOTA_MESSAGE]++;
            assert_int_equal(snap_annots(c->snap, mb->id, m.uid, add_bytes,
                                         &c->used[QUOTA_ANNOTATION], &err),
                             ERR_OK);
        }
        assert_int_equal(msg_iter_close(&it, &err), ERR_OK);
    }
    arena_free(&a);
    return true;
}

static bool
compare_root(void *ctx, const struct quota *q)
{
    struct counted c = {.snap = ctx, .root = q->root};
    struct error err = {0};

    assert_int_equal(snap_each_mailbox(c.snap, "", count_mailbox, &c, &err),
                     ERR_OK);
    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        if (c.used[i] != q->used[i])
            fail_msg("%s: resource %zu is %" PRIu64 ", counted %" PRIu64,
                     q->root, i, q->used[i], c.used[i]);
    return true;
}

static void
test_random_histories_keep_all_roots_right(void **state)
{
    unsigned roots = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct teststore ts;
        uint64_t rng = seed * 77;
        ts_new_master(&ts, seed, 0);
        (void)ts_create(&ts, "user.ann");
        (void)ts_create(&ts, "user.ann.Sent");
        assert_int_equal(set_quota(&ts, "user.ann", unlimited), ERR_OK);
        for (int i = 0; i < 150; i++) {
            struct error err = {0};
            (void)ts_random_txn(&ts, &rng);
            struct store_snap *snap = store_snapshot(ts.store);
            assert_int_equal(
                snap_each_quota(snap, "", compare_root, snap, &err), ERR_OK);
            store_release(&snap);
        }
        assert_int_equal(ts.fatal.code, ERR_OK);
        roots += has_root(&ts, "user.ann") || has_root(&ts, "user.bob");
        ts_verify(&ts);
        ts_free(&ts);
    }
    assert_true(roots > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_charges),
        cmocka_unit_test(test_limits_are_kept),
        cmocka_unit_test(test_roots_go_along_with_trees),
        cmocka_unit_test(test_random_histories_keep_all_roots_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
