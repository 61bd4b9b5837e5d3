/*
 * snap_verify() notices every bit: each replicated or derived row of a store
 * with everything in it is changed, lost or made up, and each time it says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/rows.h"
#include "tests/lib/storetest.h"

/* Tables that a store of a history has, with what stands for every kind. */
static const char tables[] = "abcdehikmnqrsuv";

static void
make_everything(struct teststore *ts)
{
    struct uidrange some = {1, 3}, two = {2, 2};
    const struct uidset uids = {.r = &some, .n = 1};
    const struct uidset dead = {.r = &two, .n = 1};
    struct span v = SPAN_LIT("value"), word = SPAN_LIT("$Work");

    ts_new_master(ts, 1, 0);
    mbid_t id = ts_create(ts, "user.ann");
    for (uint64_t i = 0; i < 4; i++)
        (void)ts_append(ts, id, i, 80, NULL);
    struct store_txn *txn = txn_new();
    struct body *b = ts_body(9, 90);
    txn_append(txn, &(struct txn_append){.id = id,
                                         .body = b,
                                         .keywords = &word,
                                         .nkeywords = 1,
                                         .dedup = {7}});
    body_free(&b);
    txn_quota(txn, "user.ann", (uint64_t[QUOTA_RESOURCES]){9000, 90, 90, 9000});
    txn_annotate(txn, &(struct txn_annot){
                          .id = 0, .entry = "/motd", .user = "", .value = &v});
    txn_annotate(txn, &(struct txn_annot){
                          .id = id, .entry = "/c", .user = "", .value = &v});
    txn_annotate(txn, &(struct txn_annot){.id = id,
                                          .uids = &uids,
                                          .entry = "/c",
                                          .user = "bob",
                                          .value = &v});
    txn_seen(txn, id, "bob", &uids, true);
    txn_user(txn, "ann", USER_SIEVE, "main", &v);
    txn_user(txn, "ann", USER_SIEVE_ACTIVE, "", &v);
    txn_user(txn, "ann", USER_SUBSCRIPTION, "user.ann", &v);
    txn_expunge(txn, id, &dead, false);
    txn_unexpunge(txn, id, &dead, true);
    assert_int_equal(ts_commit(ts, &txn), ERR_OK);
    ts_verify(ts);
}

static enum errcode
verify(struct teststore *ts)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct error err = {0};
    enum errcode rc = snap_verify(snap, &err);

    store_release(&snap);
    return rc;
}

static void
put(struct teststore *ts, struct span key, const struct span *value)
{
    struct kv_batch *b = kv_batch_new();
    struct error err = {0};

    if (value == NULL)
        kv_batch_delete(b, KV_STATE, key);
    else
        kv_batch_put(b, KV_STATE, key, *value);
    assert_int_equal(kv_write(ts->kv, b, &err), ERR_OK);
    kv_batch_free(&b);
}

struct row {
    struct span key, value;
};

/* All rows of TABLE. */
static size_t
rows_of(struct teststore *ts, char table, struct arena *a, struct row ret[64])
{
    struct span prefix = span_of(&table, 1), key, value;
    struct error err = {0};
    size_t n = 0;

    struct kv_iter *it =
        kv_iter_open(ts->kv, NULL, KV_STATE, prefix, SPAN_EMPTY);
    while (n < 64 && kv_iter_next(it, &key, &value))
        ret[n++] = (struct row){arena_copy(a, key), arena_copy(a, value)};
    assert_int_equal(kv_iter_close(&it, &err), ERR_OK);
    return n;
}

static void
test_each_row_changed_lost_or_made_up_is_noticed(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct row rows[64];

    (void)state;
    make_everything(&ts);
    for (const char *t = tables; *t != '\0'; t++) {
        const size_t n = rows_of(&ts, *t, &a, rows);
        if (n == 0)
            fail_msg("no rows of table %c", *t);
        for (size_t i = 0; i < n; i++) {
            const struct row *row = &rows[i];
            /* Lost. */
            put(&ts, row->key, NULL);
            if (verify(&ts) != ERR_CORRUPT)
                fail_msg("table %c: row %zu may be lost", *t, i);
            /* Each byte of the value. */
            uint8_t *flipped = arena_alloc(&a, row->value.n + 1);
            for (size_t at = 0; at < row->value.n; at++) {
                memcpy(flipped, row->value.p, row->value.n);
                flipped[at] ^= 1;
                struct span value = span_of(flipped, row->value.n);
                put(&ts, row->key, &value);
                if (verify(&ts) != ERR_CORRUPT)
                    fail_msg("table %c: row %zu byte %zu", *t, i, at);
            }
            put(&ts, row->key, &row->value);
        }
        assert_int_equal(verify(&ts), ERR_OK);
    }
    arena_free(&a);
    ts_free(&ts);
}

static void
test_rows_of_mailboxes_that_are_not_there(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct row rows[64];

    (void)state;
    make_everything(&ts);
    for (const char *t = "amks"; *t != '\0'; t++) {
        assert_true(rows_of(&ts, *t, &a, rows) > 0);
        /* The last one, at another mailbox. */
        struct span from = rows[rows_of(&ts, *t, &a, rows) - 1].key;
        uint8_t *key = arena_alloc(&a, from.n);
        memcpy(key, from.p, from.n);
        key[7] ^= 1;
        put(&ts, span_of(key, from.n), &rows[0].value);
        if (verify(&ts) != ERR_CORRUPT)
            fail_msg("table %c", *t);
        put(&ts, span_of(key, from.n), NULL);
    }
    assert_int_equal(verify(&ts), ERR_OK);
    arena_free(&a);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_row_changed_lost_or_made_up_is_noticed),
        cmocka_unit_test(test_rows_of_mailboxes_that_are_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
