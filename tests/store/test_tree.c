/*
 * The tree of digests, walked: what its parts hash to is what is above them, on
 * every level, in a store with random work behind it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "store/rows.h"
#include "store/tree.h"
#include "store/txn.h"
#include "tests/lib/storetest.h"

#define TXNS 400

struct walk {
    struct store_snap *snap;
    uint64_t root; /* of the users that were told */
    uint64_t sum;  /* of the user, or mailbox, under way */
    uint64_t rows;
    char last[USER_MAX + 1];
    const struct mailbox *mb;
    unsigned stop_after;
    uint8_t key[KEY_MAX];
    size_t key_n;
};

static bool
fold_row(void *ctx, struct span key, uint64_t hash)
{
    struct walk *w = ctx;
    AUTO(buf_free) struct buf text = BUF_INIT;

    tree_describe_key(key, &text);
    assert_true(text.n > 0);
    w->sum ^= hash;
    w->rows++;
    memcpy(w->key, key.p, key.n);
    w->key_n = key.n;
    return w->stop_after == 0 || --w->stop_after > 0;
}

static bool
fold_mailbox(void *ctx, const struct mailbox *mb, uint64_t hash)
{
    struct walk *w = ctx;
    struct walk in = {.snap = w->snap};
    struct walk parts = {.snap = w->snap};
    struct error err = {0};

    assert_int_equal(snap_tree_each_row(w->snap, "", mb->id, SPAN_EMPTY,
                                        fold_row, &in, &err),
                     ERR_OK);
    assert_true(in.sum == mb->digest);
    /* The same in pages of three. */
    for (uint64_t before = UINT64_MAX; before != parts.rows;) {
        before = parts.rows;
        parts.stop_after = 3;
        assert_int_equal(snap_tree_each_row(w->snap, "", mb->id,
                                            span_of(parts.key, parts.key_n),
                                            fold_row, &parts, &err),
                         ERR_OK);
    }
    assert_true(parts.sum == in.sum);
    assert_int_equal(parts.rows, in.rows);
    w->sum ^= hash;
    return true;
}

static bool
fold_user(void *ctx, const char *user, uint64_t digest)
{
    struct walk *w = ctx;
    struct walk in = {.snap = w->snap};
    struct error err = {0};
    uint64_t alone = 0;

    if (w->last[0] != '\0')
        assert_true(strcmp(w->last, user) < 0);
    memcpy(w->last, user, strlen(user) + 1);
    assert_int_equal(
        snap_tree_each_mailbox(w->snap, user, fold_mailbox, &in, &err), ERR_OK);
    assert_int_equal(
        snap_tree_each_row(w->snap, user, 0, SPAN_EMPTY, fold_row, &in, &err),
        ERR_OK);
    if (in.sum != digest)
        fail_msg("user \"%s\": rows give another digest", user);
    assert_int_equal(snap_tree_user(w->snap, user, &alone, &err), ERR_OK);
    assert_true(alone == digest);
    w->root ^= owner_hash(user, digest);
    return true;
}

static void
test_every_level_is_the_sum_of_the_one_below(void **state)
{
    struct teststore ts;
    uint64_t rng = 20260601;
    struct error err = {0};
    uint64_t digest = 0;

    (void)state;
    ts_new_master(&ts, 1, 0);
    for (int i = 0; i < TXNS; i++)
        (void)ts_random_txn(&ts, &rng);
    struct walk w = {.snap = store_snapshot(ts.store)};
    assert_int_equal(snap_tree_each_user(w.snap, NULL, fold_user, &w, &err),
                     ERR_OK);
    assert_true(w.root == snap_pos(w.snap).digest);
    /* From behind the last one there is nobody. */
    struct walk none = {.snap = w.snap};
    assert_int_equal(
        snap_tree_each_user(w.snap, w.last, fold_user, &none, &err), ERR_OK);
    assert_true(none.root == 0);
    assert_int_equal(snap_tree_user(w.snap, "nobody-here", &digest, &err),
                     ERR_NOTFOUND);
    store_release(&w.snap);
    ts_free(&ts);
}

struct listed {
    const char *const *want;
    size_t at;
};

static bool
on_listed(void *ctx, const struct mailbox *mb, uint64_t hash)
{
    struct listed *l = ctx;

    (void)hash;
    assert_non_null(l->want[l->at]);
    /* Deleted ones have the time behind them. */
    assert_memory_equal(mb->name, l->want[l->at], strlen(l->want[l->at]));
    l->at++;
    return true;
}

/* Users' mailboxes are jumped over, and nothing beside them is. */
static void
test_what_nobody_owns_is_listed_whole(void **state)
{
    static const char *const names[] = {
        "user.joe", "user.joe.gone", "user.joe.x", "user.zoe", "archive",
        "gone",     "users",         "users.x",    "zebra"};
    static const char *const want[] = {"DELETED.gone.", "archive", "users",
                                       "users.x",       "zebra",   NULL};
    struct teststore ts;
    struct error err = {0};
    struct listed l = {.want = want};

    (void)state;
    ts_new_master(&ts, 1, 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        mbid_t id = ts_create(&ts, names[i]);
        const char *gone = strstr(names[i], "gone");
        if (gone == NULL)
            continue;
        struct store_txn *txn = txn_new();
        txn_delete(txn, id, true, 1700000000);
        assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    }
    struct store_snap *snap = store_snapshot(ts.store);
    assert_int_equal(snap_tree_each_mailbox(snap, "", on_listed, &l, &err),
                     ERR_OK);
    assert_null(want[l.at]);
    store_release(&snap);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_level_is_the_sum_of_the_one_below),
        cmocka_unit_test(test_what_nobody_owns_is_listed_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
