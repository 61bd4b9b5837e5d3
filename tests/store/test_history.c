/*
 * What is purged and kept (sync_keep_history): rows as bytes, that digests are
 * those of a twin without the option, that the compactor leaves bodies alone as
 * long as a row names them and no longer.  test_history_seed.c: crashes and
 * seeds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/damage.h"
#include "store/history_private.h"
#include "store/local.h"
#include "store/mutants.h"
#include "tests/lib/historytest.h"

/* ---- rows --------------------------------------------------------------- */

static void
test_row_has_these_bytes(void **state)
{
    static const uint8_t golden[] = {
        1,    1,       /* version, purged */
        0xe8, 0x07, 9, /* purged_us 1000, validity 9 */
        3,    'a',  '.', 'b', 1,  'p', 2,  'i', 'd', /* name, partition, id */
        0x81, 0x01,                                  /* answered, expunged */
        1,    2,    3,   4,   5,  6,   7,  8,   9,   10, 11, 12,
        13,   14,   15,  16,  17, 18,  19, 20,  5,   4, /* modseq, created */
        14,   120,  16,  2,                             /* 7, 60 min, 8, +1 */
        0xac, 0x02, 0, /* size 300, no keywords */
        20};           /* expunged 10 */
    struct history h = {
        .way = HISTORY_PURGED,
        .purged_us = 1000,
        .name = "a.b",
        .partition = "p",
        .uniqueid = {"id"},
        .uidvalidity = 9,
        .msg = {.flags = FLAG_ANSWERED | FLAG_EXPUNGED,
                .guid = {{1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                          11, 12, 13, 14, 15, 16, 17, 18, 19, 20}},
                .modseq = 5,
                .created_modseq = 4,
                .internal_s = 7,
                .internal_tz_min = 60,
                .saved_s = 8,
                .updated_s = 9,
                .expunged_s = 10,
                .size = 300},
    };
    AUTO(buf_free) struct buf out = BUF_INIT;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct history got = {.at = {.lsn = 3}, .msg.uid = 4};
    struct error err = {0};

    (void)state;
    history_encode(&h, &out);
    assert_int_equal(out.n, sizeof(golden));
    assert_memory_equal(out.p, golden, sizeof(golden));
    ht_must(history_decode(buf_span(&out), &a, &got, &err), &err);
    assert_string_equal(got.name, "a.b");
    assert_string_equal(got.partition, "p");
    assert_string_equal(got.uniqueid.s, "id");
    assert_int_equal(got.purged_us, 1000);
    assert_int_equal(got.uidvalidity, 9);
    assert_int_equal(got.at.lsn, 3);
    assert_int_equal(got.msg.uid, 4);
    assert_int_equal(got.msg.expunged_s, 10);
    assert_true(guid_eq(&got.msg.guid, &h.msg.guid));
    for (size_t n = 0; n < out.n; n++)
        assert_int_equal(history_decode(span_of(out.p, n), &a, &got, &err),
                         ERR_CORRUPT);
    buf_add_byte(&out, 0);
    assert_int_equal(history_decode(buf_span(&out), &a, &got, &err),
                     ERR_CORRUPT);
    out.n--;
    out.p[1] = 3;
    assert_int_equal(history_decode(buf_span(&out), &a, &got, &err),
                     ERR_CORRUPT);
    out.p[1] = 2;
    assert_int_equal(history_decode(buf_span(&out), &a, &got, &err), ERR_OK);
    out.p[0] = 2;
    assert_int_equal(history_decode(buf_span(&out), &a, &got, &err),
                     ERR_VERSION);
}

static void
test_keys_have_these_bytes(void **state)
{
    static const uint8_t row[] = {'L', 'h', 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 1,
                                  2,   0,   0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 3};
    const struct history_at at = {.epoch = 7, .lsn = 258, .mbid = 9, .uid = 3};
    const struct guid guid = {{0xaa, 1}};
    struct key k;

    (void)state;
    struct span key = key_local_history(&k, &at);
    assert_int_equal(key.n, sizeof(row));
    assert_memory_equal(key.p, row, sizeof(row));
    key = key_local_history_body(&k, &guid, &at);
    assert_int_equal(key.n, 2 + GUID_BYTES + sizeof(row) - 2);
    assert_int_equal(key.p[0], 'L');
    assert_int_equal(key.p[1], 'H');
    assert_memory_equal(key.p + 2, guid.b, GUID_BYTES);
    assert_memory_equal(key.p + 2 + GUID_BYTES, row + 2, sizeof(row) - 2);
    key = key_local_history_old(&k, 9, 3);
    assert_int_equal(key.n, 14);
    assert_memory_equal(key.p, "Lo", 2);
    assert_memory_equal(key.p + 2, row + 14, 12);
}

/* ---- purges ------------------------------------------------------------- */

static void
test_purged_message_is_noted_and_stays_readable(void **state)
{
    struct teststore ts;
    struct ht_listing l;
    struct error err = {0};

    (void)state;
    const struct ht_pair box = ht_new_keeper(&ts, 1, HISTORY_FOREVER);
    ct_fill(&ts, box.ann, 20, HT_BODY);
    ct_purge(&ts, box.ann, 3, 4);
    const struct store_pos pos = store_pos(ts.store);
    ht_list(&ts, HT_BODY, &l);
    assert_null(l.wrong);
    assert_int_equal(l.n, 2);
    AUTO(buf_free) struct buf want = BUF_INIT;
    buf_addf(&want, "%" PRI_EPOCH ":%" PRI_LSN " %" PRIu64 "/3 user.ann ",
             pos.applied.epoch, pos.applied.lsn, box.ann);
    assert_memory_equal(l.text.p, want.p, want.n);
    buf_free(&l.text);
    /* The state says nothing of it, and is whole. */
    ts_verify(&ts);
    struct store_snap *snap = store_snapshot(ts.store);
    struct arena a = ARENA_INIT;
    struct message m;
    assert_int_equal(snap_message(snap, box.ann, 3, &a, &m, &err),
                     ERR_NOTFOUND);
    store_release(&snap);
    arena_free(&a);
    /* Out of the log, and out of packs with much dead. */
    ct_fill(&ts, box.bob, 60, HT_BODY + 1);
    ct_purge(&ts, box.ann, 5, 20);
    ht_compact(&ts);
    assert_int_equal(ct_segments(&ts), 1);
    assert_int_equal(ht_count(&ts, HT_BODY), 18);
    ts_free(&ts);
}

static void
test_mailbox_and_all_in_it_are_noted(void **state)
{
    struct teststore ts;
    struct ht_listing l;

    (void)state;
    const struct ht_pair box = ht_new_keeper(&ts, 2, HISTORY_FOREVER);
    ct_fill(&ts, box.ann, 5, HT_BODY);
    assert_int_equal(ts_expunge(&ts, box.ann, 2, 2), ERR_OK);
    struct store_txn *txn = txn_new();
    txn_delete(txn, box.ann, true, 0x5f000000);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ht_count(&ts, HT_BODY), 0);
    ht_purge_mailbox(&ts, box.ann);
    ht_compact(&ts);
    ht_list(&ts, HT_BODY, &l);
    assert_null(l.wrong);
    assert_int_equal(l.n, 5);
    assert_non_null(strstr(buf_cstr(&l.text), "/1 DELETED.user.ann.5F000000 "));
    buf_free(&l.text);
    ts_free(&ts);
}

/* A purge of very many goes in turns, a record each. */
static void
test_purge_in_turns_is_noted_whole(void **state)
{
    struct teststore ts;
    struct ht_listing l;

    (void)state;
    const struct ht_pair box = ht_new_keeper(&ts, 17, HISTORY_FOREVER);
    ct_fill(&ts, box.ann, 2300, 200);
    ct_purge(&ts, box.ann, 1, 2300);
    ht_list(&ts, 200, &l);
    assert_null(l.wrong);
    assert_int_equal(l.n, 2300);
    /* More than one record, and the walk does not lose its place. */
    const char *first = buf_cstr(&l.text);
    const char *last = strrchr(first, '/');
    assert_true(strncmp(first, "1:", 2) == 0);
    while (last > first && last[-1] != '\n')
        last--;
    assert_int_not_equal(strncmp(first, last, strcspn(first, " ")), 0);
    buf_free(&l.text);
    ht_purge_mailbox(&ts, box.ann);
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, 200), 2300);
    ts_free(&ts);
}

/* One that came back under another UID is not gone. */
static void
test_unexpunged_tombstone_is_not_kept(void **state)
{
    struct teststore ts;
    AUTO(uidset_free) struct uidset one = {0};

    (void)state;
    const struct ht_pair box = ht_new_keeper(&ts, 3, HISTORY_FOREVER);
    ct_fill(&ts, box.ann, 2, HT_BODY);
    assert_int_equal(ts_expunge(&ts, box.ann, 1, 2), ERR_OK);
    uidset_add(&one, 1, 1);
    struct store_txn *txn = txn_new();
    txn_unexpunge(txn, box.ann, &one, true);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    uidset_add(&one, 2, 2);
    txn = txn_new();
    txn_purge(txn, box.ann, &one);
    assert_int_equal(ts_commit(&ts, &txn), ERR_OK);
    assert_int_equal(ht_count(&ts, HT_BODY), 1);
    ts_free(&ts);
}

/* The body goes with its last row, not before: also when it comes again. */
static void
test_body_that_comes_again_is_kept_once_more(void **state)
{
    struct teststore ts;

    (void)state;
    const struct ht_pair box = ht_new_keeper(&ts, 4, 10 * HT_DAY_S);
    for (uint32_t uid = 1; uid <= 3; uid++) {
        assert_int_equal(ts_append(&ts, box.ann, 1, HT_BODY, NULL), uid);
        ct_purge(&ts, box.ann, uid, uid);
        ht_compact(&ts);
        assert_int_equal(ht_count(&ts, 0), uid);
        env_sim_advance_us(ts.sim, 4 * HT_DAY_S * HT_US);
    }
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct body *b = ts_body(1, HT_BODY);
    const struct guid guid = *body_guid(b);
    body_free(&b);
    struct error err = {0};
    (void)ts_create(&ts, "user.x"); /* the log's time moves */
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, 0), 2);
    env_sim_advance_us(ts.sim, 4 * HT_DAY_S * HT_US);
    (void)ts_create(&ts, "user.y");
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, 0), 1);
    assert_int_equal(
        store_body_read(ts.store, &guid, 0, UINT64_MAX, &got, &err), ERR_OK);
    env_sim_advance_us(ts.sim, 4 * HT_DAY_S * HT_US);
    (void)ts_create(&ts, "user.z");
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, 0), 0);
    buf_clear(&got);
    assert_int_equal(
        store_body_read(ts.store, &guid, 0, UINT64_MAX, &got, &err),
        ERR_NOTFOUND);
    ts_free(&ts);
}

/* These tests would see it if the body went with its last message. */
static void
test_collector_that_forgets_history_is_noticed(void **state)
{
    struct teststore ts;
    struct ht_listing l;

    (void)state;
    ct_new_master(&ts, 16, HT_SEGMENT, HT_PACK);
    ts.cfg.mutants = MUTANT_DROP_HISTORY;
    ht_set_keep(&ts, HISTORY_FOREVER);
    const mbid_t ann = ts_create(&ts, "user.ann");
    ct_fill(&ts, ann, 5, HT_BODY);
    ct_purge(&ts, ann, 2, 3);
    ht_compact(&ts);
    ht_list(&ts, HT_BODY, &l);
    assert_string_equal(l.wrong, "the body of a row cannot be read");
    buf_free(&l.text);
    ts_free(&ts);
}

/* ---- age ---------------------------------------------------------------- */

static void
test_rows_go_by_age_and_by_both_clocks(void **state)
{
    struct teststore ts;
    struct compaction_view v;
    struct error err = {0};

    (void)state;
    const struct ht_pair box = ht_new_keeper(&ts, 5, 30 * HT_DAY_S);
    ct_fill(&ts, box.ann, 200, HT_BODY);
    ct_purge(&ts, box.ann, 1, 100);
    env_sim_advance_us(ts.sim, 20 * HT_DAY_S * HT_US);
    ct_purge(&ts, box.ann, 101, 150);
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, HT_BODY), 150);
    env_sim_advance_us(ts.sim, 11 * HT_DAY_S * HT_US);
    /* Nothing has come since: this may be a clock that jumped. */
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, HT_BODY), 150);
    ct_fill(&ts, box.bob, 1, HT_BODY + 1);
    env_sim_advance_us(ts.sim, 60 * HT_US);
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, HT_BODY), 50);
    ht_must(store_compaction_view(ts.store, &v, &err), &err);
    assert_int_equal(v.dropped, 100);
    assert_true(v.removed_packs > 0);
    ts_free(&ts);
}

static void
test_rows_can_be_dropped_by_name(void **state)
{
    struct teststore ts;
    struct history_at v[130];
    struct error err = {0};
    uint64_t dropped = 0;

    (void)state;
    const struct ht_pair box = ht_new_keeper(&ts, 18, HISTORY_FOREVER);
    ct_fill(&ts, box.ann, 150, HT_BODY);
    ct_purge(&ts, box.ann, 1, 140);
    ht_compact(&ts);
    const lsn_t lsn = store_pos(ts.store).applied.lsn;
    for (uint32_t i = 0; i < ARRAY_LEN(v); i++)
        v[i] = (struct history_at){
            .epoch = 1, .lsn = lsn, .mbid = box.ann, .uid = i + 5};
    ht_must(store_history_drop(ts.store, v, 100, &dropped, &err), &err);
    assert_int_equal(dropped, 100);
    assert_int_equal(ht_count(&ts, HT_BODY), 40);
    /* Those that are gone are passed over. */
    ht_must(store_history_drop(ts.store, v, ARRAY_LEN(v), &dropped, &err),
            &err);
    assert_int_equal(dropped, 30);
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, HT_BODY), 10);
    struct compaction_view view;
    ht_must(store_compaction_view(ts.store, &view, &err), &err);
    assert_int_equal(view.dropped, 130);
    /* Nothing can be written: it is said, and all is there. */
    kv_mem_fail(ts.kv, ERR_NOSPACE);
    v[0].uid = 1;
    assert_int_equal(store_history_drop(ts.store, v, 1, &dropped, &err),
                     ERR_NOSPACE);
    assert_int_equal(dropped, 0);
    kv_mem_fail(ts.kv, ERR_OK);
    assert_int_equal(ht_count(&ts, HT_BODY), 10);
    ts_free(&ts);
}

/* Switched off: nothing is added, an hour later all of it goes. */
static void
test_off_again_lets_go_of_all(void **state)
{
    struct teststore ts;

    (void)state;
    const struct ht_pair box = ht_new_keeper(&ts, 6, HISTORY_FOREVER);
    ct_fill(&ts, box.ann, 150, HT_BODY);
    ct_purge(&ts, box.ann, 1, 140);
    ht_compact(&ts);
    const uint64_t full = ct_dir_bytes(&ts, "/be/packs", "pack-");
    assert_true(full > 2 * HT_MIB);
    ht_set_keep(&ts, 0);
    ct_purge(&ts, box.ann, 141, 145);
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, HT_BODY), 140);
    /* It was a mistake. */
    ht_set_keep(&ts, HISTORY_FOREVER);
    env_sim_advance_us(ts.sim, 3 * 3600 * HT_US);
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, HT_BODY), 140);
    ht_set_keep(&ts, 0);
    ht_compact(&ts);
    env_sim_advance_us(ts.sim, 3601 * HT_US);
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, HT_BODY), 0);
    ht_compact(&ts);
    assert_true(ct_dir_bytes(&ts, "/be/packs", "pack-") < full / 5);
    assert_int_equal(ct_read_all(&ts, box.ann, HT_BODY, NULL), 5);
    ts_free(&ts);
}

/* ---- a twin without it -------------------------------------------------- */

/* Purge some of MASTER's tombstones now and then, as expiry does. */
static void
random_purge(struct teststore *master, uint64_t *rng)
{
    static const char *const names[] = {"user.ann", "user.ann.Sent", "user.bob",
                                        "user.bob.Sent", "shared"};
    mbid_t id = ts_lookup(master, names[ts_random(rng, ARRAY_LEN(names))]);
    AUTO(uidset_free) struct uidset all = {0};
    struct store_txn *txn;

    if (id == 0)
        return;
    uidset_add(&all, 1, (uint32_t)ts_random(rng, 40) + 1);
    txn = txn_new();
    txn_purge(txn, id, &all);
    assert_int_equal(ts_commit(master, &txn), ERR_OK);
}

/* How many were kept. */
static unsigned
one_history(uint64_t seed)
{
    struct teststore master, plain, keeper;
    struct ht_listing before, after;
    uint64_t rng = seed * 77 + 1;
    struct error err = {0};

    ts_new_master(&master, seed, 0);
    ts_new(&plain, seed + 100, 0);
    ts_new(&keeper, seed + 200, 0);
    ht_set_keep(&keeper, HISTORY_FOREVER);
    for (unsigned i = 0; i < 250; i++) {
        (void)ts_random_txn(&master, &rng);
        if (ts_random(&rng, 8) == 0)
            random_purge(&master, &rng);
        if (ts_random(&rng, 20) != 0)
            continue;
        assert_int_equal(ts_ship(&master, &plain, 4096), ERR_OK);
        assert_int_equal(ts_ship(&master, &keeper, 65536), ERR_OK);
        assert_int_equal(store_pos(plain.store).digest,
                         store_pos(keeper.store).digest);
        if (ts_random(&rng, 4) == 0)
            ht_compact(&keeper);
    }
    assert_int_equal(ts_ship(&master, &plain, 4096), ERR_OK);
    assert_int_equal(ts_ship(&master, &keeper, 4096), ERR_OK);
    assert_int_equal(store_pos(master.store).digest,
                     store_pos(keeper.store).digest);
    ts_verify(&keeper);
    assert_int_equal(ht_count(&plain, 0), 0);
    ht_compact(&keeper);
    ht_list(&keeper, 0, &before);
    assert_null(before.wrong);
    /* What the state had not flushed, the log makes again. */
    ts_crash(&keeper, seed);
    ht_must(ts_open(&keeper, &err), &err);
    ht_list(&keeper, 0, &after);
    assert_null(after.wrong);
    assert_true(span_eq(buf_span(&before.text), buf_span(&after.text)));
    buf_free(&before.text);
    buf_free(&after.text);
    ts_free(&keeper);
    ts_free(&plain);
    ts_free(&master);
    return before.n;
}

static void
test_digests_are_those_of_a_twin_without(void **state)
{
    unsigned n = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++)
        n += one_history(seed);
    print_message("%u kept\n", n);
    assert_true(n > 50);
}

/* ---- where bodies lie, and damage --------------------------------------- */

static void
test_bodies_go_to_the_partition_of_their_mailbox(void **state)
{
    static const struct store_partition parts[] = {
        {.name = "default", .path = "/be/one"},
        {.name = "far", .path = "/be/far"},
    };
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ts_new(&ts, 12, 0);
    ts_close(&ts);
    kv_disk_free(&ts.disk);
    ts.disk = kv_disk_new();
    ts.cfg.partitions = parts;
    ts.cfg.npartitions = 2;
    ts.cfg.segment_bytes = HT_SEGMENT;
    ts.cfg.keep_history_s = HISTORY_FOREVER;
    env_fault_free(&ts.fault);
    env_sim_free(&ts.sim);
    ts.sim = env_sim_new(&(struct env_sim_options){.seed = 12});
    ts.fault = env_fault_new(env_sim_env(ts.sim));
    ht_must(ts_open(&ts, &err), &err);
    store_set_role(ts.store, ROLE_MASTER, 1);
    ht_must(store_begin_epoch(ts.store, 1, 0, "first start", &err), &err);
    struct store_txn *txn = txn_new();
    txn_create(txn,
               &(struct txn_mailbox){.name = "user.ann", .partition = "far"});
    ht_must(store_commit(ts.store, txn, &err), &err);
    const mbid_t ann = txn_result(txn, 0)->id;
    txn_free(&txn);
    ct_fill(&ts, ann, 3, HT_BODY);
    ct_purge(&ts, ann, 1, 3);
    const mbid_t bob = ts_create(&ts, "user.bob");
    ct_fill(&ts, bob, 60, HT_BODY + 1);
    ht_compact(&ts);
    assert_int_equal(ht_count(&ts, HT_BODY), 3);
    assert_true(ct_dir_bytes(&ts, "/be/far", "pack-") > 3 * HT_BODY / 2);
    ts_free(&ts);
}

static bool
one_name(void *ctx, const char *mailbox, uint32_t uid)
{
    assert_string_equal(mailbox, "user.ann");
    assert_int_equal(uid, 2);
    ++*(unsigned *)ctx;
    return true;
}

static void
test_damaged_body_of_history_is_noted_and_named(void **state)
{
    struct teststore ts;
    struct kv_batch *b = kv_batch_new();
    struct error err = {0};
    struct key k;
    unsigned n = 0;

    (void)state;
    const struct ht_pair box = ht_new_keeper(&ts, 13, HISTORY_FOREVER);
    ct_fill(&ts, box.ann, 3, HT_BODY);
    struct arena a = ARENA_INIT;
    const struct guid guid = ts_message(&ts, box.ann, 2, &a).guid;
    arena_free(&a);
    ct_purge(&ts, box.ann, 2, 2);
    kv_batch_delete(b, KV_STATE, key_body(&k, &guid, 0));
    ht_must(kv_write(ts.kv, b, &err), &err);
    kv_batch_free(&b);
    store_damage_find(ts.store, &guid);
    assert_true(store_damage_has(ts.store, &guid));
    ht_must(store_damage_messages(ts.store, &guid, one_name, &n, &err), &err);
    assert_int_equal(n, 1);
    ts_free(&ts);
}

/* ---- errors ------------------------------------------------------------- */

static void
test_malformed_rows_are_said(void **state)
{
    struct teststore ts;
    struct kv_batch *b = kv_batch_new();
    struct history_at after = {0};
    struct history_view v;
    struct ht_listing l = {.ts = &ts};
    struct error err = {0};
    struct key k;
    bool more;

    (void)state;
    (void)ht_new_keeper(&ts, 14, HISTORY_FOREVER);
    kv_batch_put(b, KV_STATE, key_local(&k, LOCAL_HISTORY_SUM),
                 SPAN_LIT("\x80"));
    kv_batch_put(b, KV_STATE,
                 key_local_history(&k, &(struct history_at){.lsn = 1}),
                 SPAN_LIT("\x01"));
    ht_must(kv_write(ts.kv, b, &err), &err);
    kv_batch_free(&b);
    assert_int_equal(store_history_view(ts.store, &v, &err), ERR_CORRUPT);
    assert_int_equal(
        store_history_walk(ts.store, &after, ht_add_row, &l, &more, &err),
        ERR_CORRUPT);
    assert_int_equal(l.n, 0);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_has_these_bytes),
        cmocka_unit_test(test_keys_have_these_bytes),
        cmocka_unit_test(test_purged_message_is_noted_and_stays_readable),
        cmocka_unit_test(test_mailbox_and_all_in_it_are_noted),
        cmocka_unit_test(test_purge_in_turns_is_noted_whole),
        cmocka_unit_test(test_unexpunged_tombstone_is_not_kept),
        cmocka_unit_test(test_body_that_comes_again_is_kept_once_more),
        cmocka_unit_test(test_collector_that_forgets_history_is_noticed),
        cmocka_unit_test(test_rows_go_by_age_and_by_both_clocks),
        cmocka_unit_test(test_rows_can_be_dropped_by_name),
        cmocka_unit_test(test_off_again_lets_go_of_all),
        cmocka_unit_test(test_digests_are_those_of_a_twin_without),
        cmocka_unit_test(test_bodies_go_to_the_partition_of_their_mailbox),
        cmocka_unit_test(test_damaged_body_of_history_is_noted_and_named),
        cmocka_unit_test(test_malformed_rows_are_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
