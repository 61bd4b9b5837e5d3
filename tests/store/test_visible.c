/*
 * tests/store/test_visible.c - snap_each_visible(): what the index of ACLs
 * finds is what a walk over all mailboxes finds, whatever happened before, on a
 * master, after a power cut, and on a replica.  And snap_each_mailbox(): all
 * of very many, in the order of their names, with their heads, until it is
 * told to stop; a head that is missing is told as damage.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/acl.h"
#include "store/names.h"
#include "store/rows.h"
#include "tests/lib/storetest.h"

#define STEPS 600U

static const char *const users[] = {"ann", "bob", "an", "cis"};

struct seen {
    mbid_t id[512];
    size_t n;
};

static void
add(struct seen *s, mbid_t id)
{
    assert_true(s->n < ARRAY_LEN(s->id));
    s->id[s->n++] = id;
}

static bool
take(void *ctx, const struct mailbox *mb)
{
    add(ctx, mb->id);
    return true;
}

static bool
count(void *ctx, const struct mailbox *mb)
{
    size_t *n = ctx;

    (void)mb;
    ++*n;
    return true;
}

struct brute {
    struct seen *out;
    const char *user;
};

/* Own, or named in the ACL: by looking at each. */
static bool
take_if(void *ctx, const struct mailbox *mb)
{
    struct brute *b = ctx;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    const char *owner = name_owner(mb->name, &a);
    size_t pos = 0;
    struct span ident;
    uint32_t rights;
    bool ok = owner != NULL && strcmp(owner, b->user) == 0;

    while (acl_next(mb->acl, &pos, &ident, &rights))
        ok |= span_eq_str(ident, b->user) || span_eq_str(ident, "anyone");
    if (ok)
        add(b->out, mb->id);
    return true;
}

static int
compare(const void *a, const void *b)
{
    mbid_t x = *(const mbid_t *)a, y = *(const mbid_t *)b;
    return x < y ? -1 : x > y;
}

static void
expect_same(struct teststore *ts)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(ts->store);
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_LEN(users); i++) {
        struct seen by_index = {.n = 0}, by_walk = {.n = 0};
        struct brute b = {&by_walk, users[i]};
        assert_int_equal(
            snap_each_visible(snap, users[i], take, &by_index, &err), ERR_OK);
        assert_int_equal(snap_each_mailbox(snap, "", take_if, &b, &err),
                         ERR_OK);
        qsort(by_index.id, by_index.n, sizeof(mbid_t), compare);
        qsort(by_walk.id, by_walk.n, sizeof(mbid_t), compare);
        assert_int_equal(by_index.n, by_walk.n);
        assert_memory_equal(by_index.id, by_walk.id,
                            by_walk.n * sizeof(mbid_t));
    }
}

static bool
pick(void *ctx, const struct mailbox *mb)
{
    uint64_t *left = ctx;

    if (*left > 1000) { /* counting */
        (*left)++;
        return true;
    }
    if ((*left)-- > 0)
        return true;
    *left = mb->id + 1000000;
    return false;
}

/* Any mailbox, or 0. */
static mbid_t
any_mailbox(struct teststore *ts, uint64_t *rng)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(ts->store);
    struct error err = {0};
    uint64_t n = 1001;

    assert_int_equal(snap_each_mailbox(snap, "", pick, &n, &err), ERR_OK);
    if (n == 1001)
        return 0;
    uint64_t at = ts_random(rng, n - 1001);
    assert_int_equal(snap_each_mailbox(snap, "", pick, &at, &err), ERR_OK);
    return at >= 1000000 ? at - 1000000 : 0;
}

static void
random_acl(uint64_t *rng, struct buf *out)
{
    static const char *const idents[] = {"ann",  "bob",         "anyone",
                                         "-cis", "group:staff", "anna"};
    for (uint64_t n = ts_random(rng, 4); n > 0; n--) {
        AUTO(buf_free) struct buf next = BUF_INIT;
        struct error err = {0};
        assert_int_equal(
            acl_change(buf_cstr(out), idents[ts_random(rng, 6)], '=',
                       ts_random(rng, 2) == 0 ? ACL_LOOKUP : ACL_READ, &next,
                       &err),
            ERR_OK);
        buf_clear(out);
        buf_add(out, buf_span(&next));
    }
}

static void
one_step(struct teststore *ts, uint64_t *rng)
{
    AUTO(buf_free) struct buf acl = BUF_INIT;
    char name[64];
    struct store_txn *txn = txn_new();
    mbid_t id = any_mailbox(ts, rng);
    uint64_t what = ts_random(rng, 8);

    snprintf(name, sizeof(name), "%s%s.m%u",
             ts_random(rng, 4) == 0 ? "shared" : "user.",
             ts_random(rng, 4) == 0 ? "" : users[ts_random(rng, 4)],
             (unsigned)ts_random(rng, 20));
    random_acl(rng, &acl);
    if (id == 0 || what < 3) {
        const struct txn_mailbox mb = {
            .name = name, .acl = buf_cstr(&acl), .partition = "default"};
        txn_create(txn, &mb);
    } else if (what < 5) {
        txn_set_acl(txn, id, buf_cstr(&acl), NULL);
    } else if (what == 5) {
        txn_delete(txn, id, ts_random(rng, 2) == 0,
                   1000000 + ts_random(rng, 99));
    } else if (what == 6) {
        txn_rename(txn, id, name, true);
    } else {
        txn_rename_user(txn, users[ts_random(rng, 4)],
                        users[ts_random(rng, 4)]);
    }
    /* Whether it could be done is not the matter here. */
    (void)ts_commit(ts, &txn);
}

static void
test_index_finds_what_a_walk_finds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct teststore ts, replica;
        struct error err = {0};
        uint64_t rng = seed;

        ts_new_master(&ts, seed, 0);
        ts_new(&replica, seed, 0);
        for (unsigned i = 0; i < STEPS; i++) {
            one_step(&ts, &rng);
            if (i % 20 == 0)
                expect_same(&ts);
            if (i == STEPS / 2) {
                ts_crash(&ts, seed + 1);
                assert_int_equal(ts_open(&ts, &err), ERR_OK);
                store_set_role(ts.store, ROLE_MASTER, 1);
            }
        }
        expect_same(&ts);
        ts_verify(&ts);
        assert_int_equal(ts_ship(&ts, &replica, 1U << 16), ERR_OK);
        expect_same(&replica);
        ts_free(&ts);
        ts_free(&replica);
    }
}

/* ---- many -------------------------------------------------------------- */

#define MANY 900U

struct walk {
    struct store_snap *snap;
    char last[64];
    size_t n, stop_at;
};

static bool
check_next(void *ctx, const struct mailbox *mb)
{
    struct walk *w = ctx;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error err = {0};
    struct mailbox alone;

    assert_true(strcmp(w->last, mb->name) < 0);
    snprintf(w->last, sizeof(w->last), "%s", mb->name);
    assert_int_equal(snap_mailbox(w->snap, mb->id, &a, &alone, &err), ERR_OK);
    assert_string_equal(alone.name, mb->name);
    assert_string_equal(alone.acl, mb->acl);
    assert_string_equal(alone.uniqueid.s, mb->uniqueid.s);
    assert_int_equal(alone.uidnext, mb->uidnext);
    return ++w->n != w->stop_at;
}

static size_t
walk_until(struct teststore *ts, const char *prefix, size_t stop_at)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(ts->store);
    struct walk w = {.snap = snap, .stop_at = stop_at};
    struct error err = {0};

    assert_int_equal(snap_each_mailbox(snap, prefix, check_next, &w, &err),
                     ERR_OK);
    return w.n;
}

/* Ids in an order that is not that of the names, with gaps between them. */
static void
test_very_many_come_in_order_until_stopped(void **state)
{
    static const size_t stops[] = {1, 3, 4, 5, 20, 21, 100, 600};
    struct teststore ts;
    mbid_t ids[MANY];
    size_t left = 0;
    (void)state;

    ts_new_master(&ts, 7, 0);
    (void)ts_create(&ts, "user.ann");
    (void)ts_create(&ts, "user.anna");
    for (unsigned i = 0; i < MANY; i++) {
        char name[64];
        snprintf(name, sizeof(name), "user.ann.m%03u", i * 7 % MANY);
        ids[i] = ts_create(&ts, name);
    }
    /* Alone, in small and large runs, and a long way apart. */
    for (unsigned i = 0; i < MANY; i++) {
        struct store_txn *txn;
        if (!(i < 200 && i % 5 != 0) && !(i >= 300 && i < 500) &&
            !(i >= 600 && i % 30 > 20)) {
            left++;
            continue;
        }
        txn = txn_new();
        txn_delete(txn, ids[i], false, 0);
        assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    }
    assert_int_equal(walk_until(&ts, "user.ann.", 0), left);
    assert_int_equal(walk_until(&ts, "", 0), left + 2);
    assert_int_equal(walk_until(&ts, "user.annb", 0), 0);
    for (size_t i = 0; i < ARRAY_LEN(stops); i++)
        assert_int_equal(walk_until(&ts, "", MIN(stops[i], left)),
                         MIN(stops[i], left));

    /* Her own, once each, though ACLs may name her too; and not anna's. */
    struct error err = {0};
    size_t seen = 0;
    for (unsigned i = 0; i < MANY; i += 5) {
        struct store_txn *txn = txn_new();
        txn_set_acl(txn, ids[i], "ann\tlr\tanyone\tlr\t", NULL);
        (void)ts_commit(&ts, &txn);
    }
    struct store_snap *snap = store_snapshot(ts.store);
    assert_int_equal(snap_each_visible(snap, "ann", count, &seen, &err),
                     ERR_OK);
    assert_int_equal(seen, left + 1);
    store_release(&snap);
    ts_free(&ts);
}

static bool
go_on(void *ctx, const struct mailbox *mb)
{
    (void)ctx;
    (void)mb;
    return true;
}

/* An index that names what is not there is damage, in a run and alone. */
static void
test_mailbox_without_a_head_is_damage(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 20; n += 19) {
        struct teststore ts;
        mbid_t id = 0;
        struct key k;
        struct error err = {0};

        ts_new_master(&ts, 7, 0);
        for (unsigned i = 0; i < n; i++) {
            char name[32];
            snprintf(name, sizeof(name), "user.ann.m%02u", i);
            id = ts_create(&ts, name);
        }
        struct kv_batch *b = kv_batch_new();
        kv_batch_delete(b, KV_STATE, key_mailbox(&k, id));
        assert_int_equal(kv_write(ts.kv, b, &err), ERR_OK);
        kv_batch_free(&b);
        struct store_snap *snap = store_snapshot(ts.store);
        assert_int_equal(snap_each_mailbox(snap, "", go_on, NULL, &err),
                         ERR_CORRUPT);
        assert_int_equal(snap_each_visible(snap, "ann", go_on, NULL, &err),
                         ERR_CORRUPT);
        store_release(&snap);
        ts_free(&ts);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_finds_what_a_walk_finds),
        cmocka_unit_test(test_very_many_come_in_order_until_stopped),
        cmocka_unit_test(test_mailbox_without_a_head_is_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
