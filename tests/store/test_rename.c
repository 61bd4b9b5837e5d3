/*
 * Names: whole users and trees get others in one record, deleted mailboxes come
 * back, users that are gone leave nothing, and who there is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/lib/storetest.h"

static bool
add_name(void *ctx, const char *name, struct span value)
{
    buf_addf(ctx, "%s=%.*s ", name, (int)value.n, (const char *)value.p);
    return true;
}

static void
assert_objects(struct teststore *ts, const char *user, uint8_t kind,
               const char *want)
{
    struct store_snap *snap = store_snapshot(ts->store);
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct error err = {0};

    assert_int_equal(snap_user_each(snap, user, kind, add_name, &got, &err),
                     ERR_OK);
    assert_string_equal(buf_cstr(&got), want);
    store_release(&snap);
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

    assert_int_equal(snap_seen(snap, &mb, user, &seen, &err), ERR_OK);
    uidset_format(&seen, &got);
    assert_string_equal(buf_cstr(&got), want);
    store_release(&snap);
    arena_free(&a);
}

static enum errcode
annot_of(struct teststore *ts, mbid_t id, uint32_t uid, const char *user)
{
    struct store_snap *snap = store_snapshot(ts->store);
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct error err = {0};
    enum errcode rc = snap_annot_get(snap, id, uid, "/c", user, &value, &err);

    store_release(&snap);
    return rc;
}

static enum errcode
rename_user(struct teststore *ts, const char *from, const char *to)
{
    struct store_txn *txn = txn_new();
    txn_rename_user(txn, from, to);
    return ts_commit(ts, &txn);
}

static bool
add_user(void *ctx, const char *user)
{
    buf_addf(ctx, "%s ", user);
    return true;
}

static void
assert_users(struct teststore *ts, const char *want)
{
    struct store_snap *snap = store_snapshot(ts->store);
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct error err = {0};

    assert_int_equal(snap_each_user(snap, add_user, &got, &err), ERR_OK);
    assert_string_equal(buf_cstr(&got), want);
    store_release(&snap);
}

/* Ann, with all that a user can have, here and in bob's INBOX. */
static void
make_ann(struct teststore *ts, mbid_t *ret_ann, mbid_t *ret_bob)
{
    struct span v = SPAN_LIT("v"), none = SPAN_EMPTY;
    struct uidrange one = {1, 1};
    const struct uidset uids = {.r = &one, .n = 1};

    ts_new_master(ts, 1, 0);
    *ret_ann = ts_create(ts, "user.ann^x");
    (void)ts_create(ts, "user.ann^x.Sent");
    *ret_bob = ts_create(ts, "user.bob");
    (void)ts_append(ts, *ret_ann, 1, 50, NULL);
    (void)ts_append(ts, *ret_bob, 2, 50, NULL);
    struct store_txn *txn = txn_new();
    txn_user(txn, "ann.x", USER_SUBSCRIPTION, "user.ann^x.Sent", &none);
    txn_user(txn, "ann.x", USER_SUBSCRIPTION, "user.bob", &none);
    txn_user(txn, "ann.x", USER_SIEVE, "main", &v);
    txn_user(txn, "ann.x", USER_SIEVE_ACTIVE, "", &v);
    txn_seen(txn, *ret_bob, "ann.x", &uids, true);
    txn_annotate(txn, &(struct txn_annot){.id = *ret_bob,
                                          .uids = &uids,
                                          .entry = "/c",
                                          .user = "ann.x",
                                          .value = &v});
    txn_annotate(txn,
                 &(struct txn_annot){
                     .id = 0, .entry = "/c", .user = "ann.x", .value = &v});
    txn_quota(txn, "user.ann^x", (uint64_t[QUOTA_RESOURCES]){1000, 9, 9, 9});
    assert_int_equal(ts_commit(ts, &txn), ERR_OK);
}

static void
test_a_user_is_renamed_with_everything(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct quota q;
    struct error err = {0};
    mbid_t ann, bob;

    (void)state;
    make_ann(&ts, &ann, &bob);
    const uint32_t validity = ts_mailbox(&ts, ann, &a).uidvalidity;
    assert_users(&ts, "ann.x bob ");
    assert_int_equal(rename_user(&ts, "ann.x", "eve"), ERR_OK);
    assert_int_equal(ts_lookup(&ts, "user.eve"), ann);
    assert_true(ts_lookup(&ts, "user.eve.Sent") != 0);
    assert_int_equal(ts_lookup(&ts, "user.ann^x.Sent"), 0);
    struct mailbox mb = ts_mailbox(&ts, ann, &a);
    assert_memory_equal(mb.acl, "eve\tlrs", 7);
    assert_string_equal(mb.quota_root, "user.eve");
    assert_int_equal(mb.uidvalidity, validity);
    assert_objects(&ts, "eve", USER_SUBSCRIPTION, "user.bob= user.eve.Sent= ");
    assert_objects(&ts, "eve", USER_SIEVE, "main=v ");
    assert_objects(&ts, "eve", USER_SIEVE_ACTIVE, "=v ");
    assert_objects(&ts, "ann.x", USER_SIEVE, "");
    assert_seen(&ts, bob, "eve", "1");
    assert_seen(&ts, bob, "ann.x", "");
    assert_int_equal(annot_of(&ts, bob, 1, "eve"), ERR_OK);
    assert_int_equal(annot_of(&ts, 0, 0, "eve"), ERR_OK);
    assert_int_equal(annot_of(&ts, bob, 1, "ann.x"), ERR_NOTFOUND);
    struct store_snap *snap = store_snapshot(ts.store);
    assert_int_equal(snap_quota(snap, "user.eve", &a, &q, &err), ERR_OK);
    assert_int_equal(q.limit[QUOTA_STORAGE], 1000);
    assert_int_equal(q.used[QUOTA_STORAGE], 50);
    assert_int_equal(q.used[QUOTA_FOLDERS], 2);
    store_release(&snap);
    assert_users(&ts, "bob eve ");
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

/* MODSEQ is the position of the record (S8), however much of a mailbox the
 * record changes: a higher one would name what was not written yet. */
static void
test_rename_of_a_user_gives_one_modseq(void **state)
{
    struct uidrange one = {1, 1};
    const struct uidset uids = {.r = &one, .n = 1};
    static const char *const entries[] = {"/d", "/e", "/f"};
    struct span v = SPAN_LIT("v");
    struct arena a = ARENA_INIT;
    struct teststore ts;
    mbid_t ann, bob;

    (void)state;
    make_ann(&ts, &ann, &bob);
    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        struct store_txn *txn = txn_new();
        txn_annotate(txn, &(struct txn_annot){.id = bob,
                                              .uids = &uids,
                                              .entry = entries[i],
                                              .user = "ann.x",
                                              .value = &v});
        assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    }
    assert_int_equal(rename_user(&ts, "ann.x", "eve"), ERR_OK);
    assert_true(ts_mailbox(&ts, bob, &a).highestmodseq ==
                modseq_of(1, store_pos(ts.store).applied.lsn));
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_rename_user_errors_leave_nothing(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    mbid_t ann, bob;
    char longer[USER_MAX + 1];

    (void)state;
    make_ann(&ts, &ann, &bob);
    const struct store_pos before = store_pos(ts.store);
    assert_int_equal(rename_user(&ts, "nobody", "eve"), ERR_NOTFOUND);
    assert_int_equal(rename_user(&ts, "ann.x", "bob"), ERR_EXISTS);
    assert_int_equal(rename_user(&ts, "ann.x", "ann.x"), ERR_EXISTS);
    assert_int_equal(rename_user(&ts, "ann.x", ""), ERR_BADNAME);
    assert_int_equal(rename_user(&ts, "ann.x", "e\tve"), ERR_BADNAME);
    assert_int_equal(store_pos(ts.store).digest, before.digest);
    /* An ACL that would grow too long. */
    AUTO(buf_free) struct buf acl = BUF_INIT;
    buf_add_str(&acl, "ann.x\tl\t");
    while (acl.n < ACL_BYTES_MAX - 20)
        buf_addf(&acl, "u%zu\tl\t", acl.n);
    struct store_txn *txn = txn_new();
    txn_set_acl(txn, ann, buf_cstr(&acl), NULL);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    memset(longer, 'e', 100);
    longer[100] = '\0';
    assert_int_equal(rename_user(&ts, "ann.x", longer), ERR_LIMIT);
    assert_int_equal(ts_lookup(&ts, "user.ann^x"), ann);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_a_user_that_is_gone_leaves_nothing(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    mbid_t ann, bob;

    (void)state;
    make_ann(&ts, &ann, &bob);
    struct store_txn *txn = txn_new();
    txn_delete_tree(txn, ann, false, 0);
    txn_user_remove_all(txn, "ann.x");
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_users(&ts, "bob ");
    assert_int_equal(annot_of(&ts, bob, 1, "ann.x"), ERR_NOTFOUND);
    assert_int_equal(annot_of(&ts, 0, 0, "ann.x"), ERR_NOTFOUND);
    assert_int_equal(ts_message(&ts, bob, 1, &a).flags, 0);
    assert_int_equal(ts_mailbox(&ts, bob, &a).annot_bytes, 0);
    assert_seen(&ts, bob, "ann.x", "");
    ts_verify(&ts);
    txn = txn_new();
    txn_user_remove_all(txn, "ann.x");
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    txn = txn_new();
    txn_user_remove_all(txn, "");
    assert_int_equal(ts_commit(&ts, &txn), ERR_BADNAME);
    arena_free(&a);
    ts_free(&ts);
}

static bool
keep_id(void *ctx, const struct mailbox *mb)
{
    *(mbid_t *)ctx = mb->id;
    return true;
}

static void
test_deleted_trees_come_back(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct error err = {0};
    mbid_t found = 0;

    (void)state;
    ts_new_master(&ts, 1, 0);
    (void)ts_create(&ts, "user.ann");
    mbid_t top = ts_create(&ts, "user.ann.a");
    mbid_t sub = ts_create(&ts, "user.ann.a.b");
    (void)ts_append(&ts, sub, 1, 10, NULL);
    const uint32_t validity = ts_mailbox(&ts, sub, &a).uidvalidity;
    const lsn_t before = store_pos(ts.store).applied.lsn;
    struct store_txn *txn = txn_new();
    txn_delete_tree(txn, top, true, 0x5000);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(store_pos(ts.store).applied.lsn, before + 1);
    assert_string_equal(ts_mailbox(&ts, sub, &a).name,
                        "DELETED.user.ann.a.b.00005000");
    assert_true(ts_mailbox(&ts, top, &a).is_deleted);
    txn = txn_new();
    txn_rename(txn, sub, "user.ann.a.b", false);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    struct mailbox mb = ts_mailbox(&ts, sub, &a);
    assert_false(mb.is_deleted);
    assert_int_equal(mb.uidvalidity, validity);
    assert_int_equal(mb.exists, 1);
    /* What is deleted twice goes for good. */
    struct store_snap *snap = store_snapshot(ts.store);
    assert_int_equal(snap_each_mailbox(snap, "DELETED.", keep_id, &found, &err),
                     ERR_OK);
    store_release(&snap);
    assert_int_equal(found, top);
    txn = txn_new();
    txn_delete(txn, top, true, 0x6000);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ts_lookup(&ts, "DELETED.user.ann.a.00005000"), 0);
    txn = txn_new();
    txn_delete_tree(txn, top, true, 1);
    assert_int_equal(ts_commit(&ts, &txn), ERR_NOTFOUND);
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_head_fields_are_set(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    char longer[USER_MAX + 2];

    (void)state;
    memset(longer, 'p', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    mbid_t sub = ts_create(&ts, "user.ann.x");
    const uint32_t old = ts_mailbox(&ts, sub, &a).uidvalidity;
    struct store_txn *txn = txn_new();
    txn_set_partition(txn, id, "fast", true);
    txn_set_uidvalidity(txn, id, old + 5);
    txn_set_options(txn, id, MBOX_SHAREDSEEN, MBOX_SHAREDSEEN);
    txn_set_options(txn, id, 0, MBOX_SHAREDSEEN); /* nothing */
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_string_equal(ts_mailbox(&ts, sub, &a).partition, "fast");
    assert_int_equal(ts_mailbox(&ts, id, &a).uidvalidity, old + 5);
    assert_int_equal(ts_mailbox(&ts, id, &a).options, MBOX_SHAREDSEEN);
    const struct mailbox before = ts_mailbox(&ts, id, &a);
    txn = txn_new();
    txn_raise_modseq(txn, id);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    const struct mailbox after = ts_mailbox(&ts, id, &a);
    assert_true(after.highestmodseq > before.highestmodseq);
    assert_int_equal(after.options, before.options);
    assert_int_equal(after.uidvalidity, before.uidvalidity);
    assert_int_equal(after.uidnext, before.uidnext);
    static const struct {
        uint32_t mask, options;
    } bad = {MBOX_PARTIAL, MBOX_PARTIAL};
    txn = txn_new();
    txn_set_options(txn, id, bad.mask, bad.options);
    assert_int_equal(ts_commit(&ts, &txn), ERR_LIMIT);
    txn = txn_new();
    txn_set_partition(txn, id, longer, false);
    assert_int_equal(ts_commit(&ts, &txn), ERR_LIMIT);
    txn = txn_new();
    txn_set_uidvalidity(txn, sub, old + 5);
    assert_int_equal(ts_commit(&ts, &txn), ERR_CONFLICT);
    txn = txn_new();
    txn_create(txn, &(struct txn_mailbox){.name = "user.ann.y",
                                          .options = MBOX_PARTIAL});
    assert_int_equal(ts_commit(&ts, &txn), ERR_LIMIT);
    for (int i = 0; i < 4; i++) {
        txn = txn_new();
        if (i == 0)
            txn_set_options(txn, 4711, 1, 1);
        else if (i == 3)
            txn_raise_modseq(txn, 4711);
        else if (i == 1)
            txn_set_partition(txn, 4711, "p", true);
        else
            txn_set_uidvalidity(txn, 4711, UINT32_MAX);
        assert_int_equal(ts_commit(&ts, &txn), ERR_NOTFOUND);
    }
    ts_verify(&ts);
    arena_free(&a);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_user_is_renamed_with_everything),
        cmocka_unit_test(test_rename_of_a_user_gives_one_modseq),
        cmocka_unit_test(test_rename_user_errors_leave_nothing),
        cmocka_unit_test(test_a_user_that_is_gone_leaves_nothing),
        cmocka_unit_test(test_deleted_trees_come_back),
        cmocka_unit_test(test_head_fields_are_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
