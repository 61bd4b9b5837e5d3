/*
 * The compactor on a machine in memory: bodies leave the log and stay what they
 * are, garbage goes and the space comes back, damage is left for repair.  For
 * crashes see test_compact_crash.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/body_private.h"
#include "store/damage.h"
#include "store/local.h"
#include "store/store_private.h"
#include "tests/lib/compacttest.h"

#define MIB ((uint64_t)1 << 20)
#define SEGMENT (MIB / 2)
#define PACK (MIB / 8)
#define BODY 36000U /* half of it when stored */

static void
compact(struct teststore *ts)
{
    struct error err = {0};
    enum errcode rc = ct_compact(ts, &err);

    if (rc != ERR_OK)
        fail_msg("%s: %s", errcode_name(rc), err.text);
}

static void
test_bodies_leave_the_log_and_the_log_goes(void **state)
{
    struct teststore ts;
    struct compaction_view v;
    struct error err = {0};

    (void)state;
    ct_new_master(&ts, 1, SEGMENT, 0);
    const mbid_t ann = ts_create(&ts, "user.ann");
    const mbid_t bob = ts_create(&ts, "user.bob");
    for (unsigned i = 0; i < 5; i++) {
        ct_fill(&ts, ann, 12, BODY);
        ct_fill(&ts, bob, 12, BODY + 1);
    }
    const size_t before = ct_segments(&ts);
    assert_true(before >= 4);
    const uint64_t digest = store_pos(ts.store).digest;
    compact(&ts);
    assert_int_equal(ct_segments(&ts), 1);
    assert_int_equal(store_pos(ts.store).digest, digest);
    assert_int_equal(ct_read_all(&ts, ann, BODY, NULL), 60);
    assert_int_equal(ct_read_all(&ts, bob, BODY + 1, NULL), 60);
    assert_int_equal(store_compaction_view(ts.store, &v, &err), ERR_OK);
    assert_true(v.moved_bodies >= 90);
    assert_true(v.packs >= 1);
    assert_int_equal(v.dead_bytes, 0);
    assert_int_equal(v.stuck_segment, 0);
    /* Of one segment, each user's lie one behind the other. */
    struct body_loc a = ct_place(&ts, ann, 1);
    struct body_loc b = ct_place(&ts, ann, 2);
    assert_int_equal(a.home, BODY_IN_PACK);
    assert_int_equal(b.offset, a.offset + pack_frame_bytes(a.stored_bytes));
    /* It is so after a restart, and the log goes on. */
    ts_close(&ts);
    assert_int_equal(ts_open(&ts, &err), ERR_OK);
    store_set_role(ts.store, ROLE_MASTER, 1);
    ct_fill(&ts, ann, 3, BODY);
    assert_int_equal(ct_read_all(&ts, ann, BODY, NULL), 63);
    ts_verify(&ts);
    ts_free(&ts);
}

static void
test_log_is_kept_warm(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ct_new_master(&ts, 2, SEGMENT, 0);
    ts.cfg.compaction.log_keep_bytes = 2 * SEGMENT;
    ts_close(&ts);
    assert_int_equal(ts_open(&ts, &err), ERR_OK);
    store_set_role(ts.store, ROLE_MASTER, 1);
    const mbid_t ann = ts_create(&ts, "user.ann");
    ct_fill(&ts, ann, 120, BODY);
    assert_true(ct_segments(&ts) > 3);
    compact(&ts);
    assert_int_equal(ct_segments(&ts), 3);
    assert_int_equal(ct_place(&ts, ann, 1).home, BODY_IN_PACK);
    assert_int_equal(ct_place(&ts, ann, 120).home, BODY_IN_LOG);
    assert_int_equal(ct_read_all(&ts, ann, BODY, NULL), 120);
    ts_free(&ts);
}

/* What is in the log and the packs is what the messages need, and little more:
 * the current segment, a pack's first block, and the dead that is allowed. */
static void
test_space_comes_back_after_a_purge(void **state)
{
    struct teststore ts;
    struct compaction_view v;
    struct error err = {0};

    (void)state;
    ct_new_master(&ts, 3, SEGMENT, 2 * PACK);
    const mbid_t ann = ts_create(&ts, "user.ann");
    ct_fill(&ts, ann, 150, BODY);
    compact(&ts);
    const uint64_t full = ct_dir_bytes(&ts, "/be/packs", "pack-");
    assert_true(full > 2 * MIB);
    ct_purge(&ts, ann, 1, 140);
    compact(&ts);
    assert_int_equal(store_compaction_view(ts.store, &v, &err), ERR_OK);
    assert_int_equal(v.dropped, 140);
    assert_true(v.removed_packs > 0);
    const uint64_t left = ct_dir_bytes(&ts, "/be/packs", "pack-");
    assert_true(left < full / 5);
    /* The one that is appended to may have more. */
    assert_true(v.dead_bytes <= v.pack_bytes / 2 + 2 * PACK);
    assert_int_equal(ct_read_all(&ts, ann, BODY, NULL), 10);
    /* All of it goes with the last ones, but for what is appended to. */
    ct_purge(&ts, ann, 141, 150);
    compact(&ts);
    ts_close(&ts);
    assert_int_equal(ts_open(&ts, &err), ERR_OK);
    store_set_role(ts.store, ROLE_MASTER, 1);
    compact(&ts);
    assert_int_equal(ct_dir_bytes(&ts, "/be/packs", "pack-"), 0);
    assert_int_equal(store_compaction_view(ts.store, &v, &err), ERR_OK);
    assert_int_equal(v.packs, 0);
    ts_free(&ts);
}

static void
test_body_that_another_message_has_stays(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ct_new_master(&ts, 4, SEGMENT, 0);
    const mbid_t ann = ts_create(&ts, "user.ann");
    const mbid_t bob = ts_create(&ts, "user.bob");
    ct_fill(&ts, ann, 3, BODY);
    ct_fill(&ts, bob, 3, BODY);
    ct_purge(&ts, ann, 1, 3);
    compact(&ts);
    assert_int_equal(ct_read_all(&ts, bob, BODY, NULL), 3);
    struct body_loc loc = ct_place(&ts, bob, 1);
    assert_int_equal(loc.home, BODY_IN_LOG);
    /* And what is purged comes anew with the next message that has it. */
    ct_purge(&ts, bob, 1, 3);
    compact(&ts);
    struct body *b = ts_body(1, BODY);
    uint64_t size;
    assert_int_equal(store_body_stat(ts.store, body_guid(b), &size, &err),
                     ERR_NOTFOUND);
    body_free(&b);
    assert_int_equal(ts_append(&ts, ann, 4, BODY, NULL), 4);
    assert_int_equal(ts_append(&ts, ann, 1, BODY, NULL), 5);
    b = ts_body(1, BODY);
    assert_int_equal(store_body_stat(ts.store, body_guid(b), &size, &err),
                     ERR_OK);
    body_free(&b);
    ts_free(&ts);
}

static void
test_garbage_stays_while_somebody_reads_an_old_view(void **state)
{
    struct teststore ts;
    struct error err = {0};
    uint64_t size;

    (void)state;
    ct_new_master(&ts, 5, SEGMENT, 0);
    const mbid_t ann = ts_create(&ts, "user.ann");
    ct_fill(&ts, ann, 2, BODY);
    struct body *b = ts_body(1, BODY);
    store_keep_garbage(ts.store);
    ct_purge(&ts, ann, 1, 2);
    compact(&ts);
    assert_int_equal(store_body_stat(ts.store, body_guid(b), &size, &err),
                     ERR_OK);
    store_drop_garbage(ts.store);
    compact(&ts);
    assert_int_equal(store_body_stat(ts.store, body_guid(b), &size, &err),
                     ERR_NOTFOUND);
    body_free(&b);
    ts_free(&ts);
}

/* Messages 1 to N as ct_fill() has them, from bodies of the store. */
static void
fill_from_store(struct teststore *ts, mbid_t id, uint32_t n)
{
    struct error err = {0};

    for (uint32_t uid = 1; uid <= n; uid++) {
        struct body *model = ts_body(uid, BODY);
        struct body *b = store_body_new(ts->store, BODY);
        struct store_txn *txn = txn_new();
        assert_int_equal(body_write(b, body_raw(model), &err), ERR_OK);
        assert_int_equal(body_finish(b, &err), ERR_OK);
        assert_true(guid_eq(body_guid(b), body_guid(model)));
        txn_append(txn, &(struct txn_append){
                            .id = id, .body = b, .internal_s = 1000000});
        assert_int_equal(ts_commit(ts, &txn), ERR_OK);
        body_free(&model);
        body_free(&b);
    }
}

/* In the log they are as they came; a pack has them compressed, and accounts
 * for what it holds.  A replica, whose own sessions would compress at once, has
 * the same log. */
static void
test_bodies_that_came_raw_are_compressed_in_packs(void **state)
{
    struct teststore m, r;
    struct compaction_view v;
    struct error err = {0};

    (void)state;
    ct_new_master(&m, 20, SEGMENT, 0);
    m.cfg.compress = COMPRESS_LATER;
    ts_close(&m);
    assert_int_equal(ts_open(&m, &err), ERR_OK);
    store_set_role(m.store, ROLE_MASTER, 1);
    ts_new(&r, 21, 0);
    const mbid_t ann = ts_create(&m, "user.ann");
    fill_from_store(&m, ann, 40);
    const struct body_loc before = ct_place(&m, ann, 1);
    assert_int_equal(before.home, BODY_IN_LOG);
    assert_int_equal(before.encoding, BODY_RAW);
    assert_int_equal(before.stored_bytes, BODY);
    assert_int_equal(ts_ship(&m, &r, MIB), ERR_OK);
    compact(&m);
    const struct body_loc loc = ct_place(&m, ann, 1);
    assert_int_equal(loc.home, BODY_IN_PACK);
    assert_int_equal(loc.encoding, BODY_ZSTD);
    assert_true(loc.stored_bytes < BODY * 2 / 3);
    assert_int_equal(loc.raw_bytes, BODY);
    assert_int_equal(ct_read_all(&m, ann, BODY, NULL), 40);
    assert_int_equal(store_compaction_view(m.store, &v, &err), ERR_OK);
    assert_true(v.moved_bodies > 20);
    assert_int_equal(v.dead_bytes, 0);
    assert_true(v.pack_bytes < v.moved_bodies * BODY * 2 / 3);
    assert_int_equal(ct_place(&r, ann, 1).stored_bytes, BODY);
    assert_int_equal(ct_read_all(&r, ann, BODY, NULL), 40);
    assert_int_equal(store_pos(r.store).digest, store_pos(m.store).digest);
    ts_verify(&m);
    ts_free(&r);
    ts_free(&m);
}

/* ---- parts that come ahead ----------------------------------------------- */

static void
on_done(void *ctx, struct store_txn *txn)
{
    *(enum errcode *)ctx = txn->code;
}

/* A message in four parts, of which two are in the log. */
static struct store_txn *
begin_large(struct teststore *ts, mbid_t id, enum errcode *code)
{
    struct store_txn *txn = txn_new();
    struct body *b = ts_body(77, (size_t)(3 * MIB + 5));

    *code = ERR_AGAIN;
    (void)txn_append(txn, &(struct txn_append){.id = id, .body = b});
    store_submit(ts->store, txn, on_done, code);
    (void)writer_turn(ts->store);
    (void)writer_turn(ts->store);
    assert_int_equal(*code, ERR_AGAIN);
    body_free(&b);
    return txn;
}

static void
test_parts_ahead_of_their_message_survive(void **state)
{
    struct teststore ts;
    struct error err = {0};
    enum errcode code;
    AUTO(buf_free) struct buf got = BUF_INIT;

    (void)state;
    ts_new_master(&ts, 6, 0);
    const mbid_t ann = ts_create(&ts, "user.ann");
    struct store_txn *txn = begin_large(&ts, ann, &code);
    /* Other mail pushes their segment out of the log meanwhile. */
    compact(&ts);
    env_sim_advance_us(ts.sim, UINT64_C(3600) * 1000000);
    while (code == ERR_AGAIN)
        (void)writer_turn(ts.store);
    assert_int_equal(code, ERR_OK);
    txn_free(&txn);
    compact(&ts);
    struct body *b = ts_body(77, (size_t)(3 * MIB + 5));
    assert_int_equal(
        store_body_read(ts.store, body_guid(b), 0, UINT64_MAX, &got, &err),
        ERR_OK);
    assert_true(span_eq(buf_span(&got), body_raw(b)));
    body_free(&b);
    ts_free(&ts);
}

static bool
has_any_part(struct teststore *ts, const struct guid *guid)
{
    struct key k;
    struct span key, value;

    (void)key_body(&k, guid, 0);
    k.n = 1 + GUID_BYTES;
    struct kv_iter *it =
        kv_iter_open(ts->kv, NULL, KV_STATE, key_span(&k), SPAN_EMPTY);
    const bool any = kv_iter_next(it, &key, &value);
    assert_int_equal(kv_iter_close(&it, NULL), ERR_OK);
    return any;
}

static void
test_parts_whose_message_never_came_go_after_a_day(void **state)
{
    struct teststore ts;
    enum errcode code;

    (void)state;
    ts_new_master(&ts, 7, 0);
    const mbid_t ann = ts_create(&ts, "user.ann");
    const mbid_t bob = ts_create(&ts, "user.bob");
    struct store_txn *txn = begin_large(&ts, ann, &code);
    struct body *b = ts_body(77, (size_t)(3 * MIB + 5));
    /* The power goes before the rest. */
    ts_crash(&ts, 7);
    txn_free(&txn);
    struct error err = {0};
    assert_int_equal(ts_open(&ts, &err), ERR_OK);
    store_set_role(ts.store, ROLE_MASTER, 1);
    assert_true(has_any_part(&ts, body_guid(b)));
    for (unsigned hours = 0; hours < 23; hours++) {
        env_sim_advance_us(ts.sim, UINT64_C(3600) * 1000000);
        ct_fill(&ts, bob, 1, 1000);
        compact(&ts);
        assert_true(has_any_part(&ts, body_guid(b)));
    }
    for (unsigned hours = 0; hours < 3; hours++) {
        env_sim_advance_us(ts.sim, UINT64_C(3600) * 1000000);
        ct_fill(&ts, bob, 1, 1000);
        compact(&ts);
    }
    assert_false(has_any_part(&ts, body_guid(b)));
    body_free(&b);
    ts_free(&ts);
}

/* The log's clock jumps a day ahead: ours has not. */
static void
test_parts_survive_a_jump_of_the_clock(void **state)
{
    struct teststore ts;
    enum errcode code;

    (void)state;
    ts_new_master(&ts, 8, 0);
    const mbid_t ann = ts_create(&ts, "user.ann");
    const mbid_t bob = ts_create(&ts, "user.bob");
    compact(&ts);
    env_sim_advance_us(ts.sim, UINT64_C(2) * 3600 * 1000000);
    compact(&ts);
    struct store_txn *txn = begin_large(&ts, ann, &code);
    env_sim_set_wall_us(ts.sim, env_wall_us(env_sim_env(ts.sim)) +
                                    UINT64_C(30) * 3600 * 1000000);
    while (code == ERR_AGAIN) {
        ct_fill(&ts, bob, 1, 1000);
        env_sim_advance_us(ts.sim, UINT64_C(70) * 1000000);
        compact(&ts);
        (void)writer_turn(ts.store);
    }
    assert_int_equal(code, ERR_OK);
    txn_free(&txn);
    assert_int_equal(ct_read_all(&ts, bob, 1000, NULL) > 0, true);
    struct body *b = ts_body(77, (size_t)(3 * MIB + 5));
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct error err = {0};
    assert_int_equal(
        store_body_read(ts.store, body_guid(b), 0, UINT64_MAX, &got, &err),
        ERR_OK);
    body_free(&b);
    ts_free(&ts);
}

/* ---- damage ----------------------------------------------------------------
 */

static void
test_damaged_body_keeps_its_segment_until_it_is_repaired(void **state)
{
    struct teststore ts;
    struct compaction_view v;
    struct damage_view d;
    struct error err = {0};
    struct mend *mend = NULL;

    (void)state;
    ct_new_master(&ts, 9, SEGMENT, 0);
    const mbid_t ann = ts_create(&ts, "user.ann");
    ct_fill(&ts, ann, 60, BODY);
    const struct body_loc loc = ct_place(&ts, ann, 5);
    char *path = xasprintf("/be/synclog/seg-%016" PRIx64 ".plx", loc.file);
    assert_true(env_sim_flip_bit(ts.sim, path, loc.offset + 1000, 3));
    free(path);
    compact(&ts);
    assert_int_equal(store_compaction_view(ts.store, &v, &err), ERR_OK);
    assert_int_equal(v.stuck_segment, loc.file);
    store_damage_view(ts.store, &d);
    assert_int_equal(d.count, 1);
    assert_true(ct_segments(&ts) > 1);

    struct body *b = ts_body(5, BODY);
    struct body_loc part = {.parts = 1, .size = body_size(b)};
    struct span stored =
        body_part(b, 0, &part.encoding, &part.raw_bytes, &part.hash);
    part.stored_bytes = (uint32_t)stored.n;
    assert_int_equal(mend_open(ts.store, body_guid(b), &mend, &err), ERR_OK);
    assert_int_equal(mend_put_part(mend, &part, stored, &err), ERR_OK);
    assert_int_equal(mend_finish(mend, &err), ERR_OK);
    mend_close(&mend);
    body_free(&b);
    env_sim_advance_us(ts.sim, UINT64_C(700) * 1000000);
    compact(&ts);
    assert_int_equal(store_compaction_view(ts.store, &v, &err), ERR_OK);
    assert_int_equal(v.stuck_segment, 0);
    assert_int_equal(ct_segments(&ts), 1);
    assert_int_equal(ct_read_all(&ts, ann, BODY, NULL), 60);
    ts_free(&ts);
}

/* A place in the log: in segment NUMBER, or the current one; no twin has it. */
static void
lose_frame(struct teststore *ts, uint64_t number)
{
    AUTO(xfree) struct synclog_segment *v = NULL;
    const size_t n = synclog_segments(store_log(ts->store), &v);
    struct damage d = {.kind = DAMAGE_LOG,
                       .file = number == 0 ? v[n - 1].number : number,
                       .offset = SEGMENT_HEADER_BYTES};

    AUTO(xfree)
    char *path = xasprintf("/be/synclog/seg-%016" PRIx64 ".plx", d.file);
    assert_true(env_sim_flip_bit(ts->sim, path, d.offset + 57, 3));
    store_damage_note(ts->store, &d);
    compact(ts); /* perhaps a twin has it */
    store_damage_failed(ts->store, &d, true, "no twin has it");
}

static uint64_t
first_segment(struct teststore *ts)
{
    AUTO(xfree) struct synclog_segment *v = NULL;

    return synclog_segments(store_log(ts->store), &v) > 0 ? v[0].number : 0;
}

static uint64_t
damages(struct teststore *ts)
{
    struct damage_view view;

    store_damage_view(ts->store, &view);
    return view.count;
}

/* What nobody has goes with its segment, however much log is to be kept; also
 * the segment that is being written. */
static void
test_log_that_no_twin_has_is_let_go_of(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ct_new_master(&ts, 9, SEGMENT, 0);
    ts.cfg.compaction.log_keep_bytes = 1000 * MIB;
    ts_close(&ts);
    assert_int_equal(ts_open(&ts, &err), ERR_OK);
    store_set_role(ts.store, ROLE_MASTER, 1);
    const mbid_t ann = ts_create(&ts, "user.ann");
    ct_fill(&ts, ann, 120, BODY);
    compact(&ts);
    const size_t before = ct_segments(&ts);
    assert_true(before > 3);
    assert_int_equal(first_segment(&ts), 1);

    lose_frame(&ts, 2);
    assert_int_equal(ct_segments(&ts), before); /* until then it was kept */
    compact(&ts);
    assert_int_equal(first_segment(&ts), 3);
    assert_int_equal(damages(&ts), 0);
    assert_int_equal(ct_read_all(&ts, ann, BODY, NULL), 120);

    lose_frame(&ts, 0);
    compact(&ts);
    assert_int_equal(ct_segments(&ts), 1);
    assert_int_equal(damages(&ts), 0);
    assert_int_equal(ct_read_all(&ts, ann, BODY, NULL), 120);
    ct_fill(&ts, ann, 3, BODY);
    ts_close(&ts);
    assert_int_equal(ts_open(&ts, &err), ERR_OK); /* and the log is sound */
    assert_int_equal(ct_read_all(&ts, ann, BODY, NULL), 123);
    ts_verify(&ts);
    ts_free(&ts);
}

/* ---- the sweep -------------------------------------------------------------
 */

static void
test_sweep_finds_bodies_that_nothing_has(void **state)
{
    struct teststore ts;
    struct error err = {0};
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;
    const struct guid guid = {{9, 9}};

    (void)state;
    ts_new_master(&ts, 10, 0);
    const mbid_t ann = ts_create(&ts, "user.ann");
    ct_fill(&ts, ann, 3, 1000);
    /* As a seed that broke off leaves it. */
    struct body_loc loc = ct_place(&ts, ann, 1);
    struct kv_batch *b = kv_batch_new();
    body_loc_encode(&loc, &value);
    kv_batch_put(b, KV_STATE, key_body(&k, &guid, 0), buf_span(&value));
    assert_int_equal(kv_write(ts.kv, b, &err), ERR_OK);
    kv_batch_free(&b);
    for (unsigned hours = 0; hours < 24 * 9; hours++) {
        env_sim_advance_us(ts.sim, UINT64_C(3600) * 1000000);
        ct_fill(&ts, ann, 1, 1000);
        compact(&ts);
    }
    assert_false(has_any_part(&ts, &guid));
    assert_int_equal(ct_read_all(&ts, ann, 1000, NULL), 3 + 24 * 9);
    ts_free(&ts);
}

/* A row that the writer put over one in a pack: the account says too much until
 * the sweep has counted, and the pack goes then. */
static void
test_sweep_counts_what_the_writer_put_over(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ct_new_master(&ts, 11, SEGMENT, PACK);
    const mbid_t ann = ts_create(&ts, "user.ann");
    ct_fill(&ts, ann, 30, BODY);
    compact(&ts);
    const struct body_loc before = ct_place(&ts, ann, 1);
    assert_int_equal(before.home, BODY_IN_PACK);
    /* Purged and there again before the collector came by. */
    store_keep_garbage(ts.store);
    ct_purge(&ts, ann, 1, 25);
    for (uint32_t uid = 31; uid <= 55; uid++)
        assert_int_equal(ts_append(&ts, ann, uid - 30, BODY, NULL), uid);
    store_drop_garbage(ts.store);
    ts_close(&ts);
    assert_int_equal(ts_open(&ts, &err), ERR_OK);
    store_set_role(ts.store, ROLE_MASTER, 1);
    env_sim_advance_us(ts.sim, UINT64_C(8) * 24 * 3600 * 1000000);
    compact(&ts);
    compact(&ts);
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;
    assert_int_equal(kv_get(ts.kv, NULL, KV_STATE,
                            key_local_pack(&k, 1, before.file), &value, &err),
                     ERR_NOTFOUND);
    for (uint32_t uid = 31; uid <= 55; uid++)
        assert_int_equal(ct_place(&ts, ann, uid).part, 0);
    ts_verify(&ts);
    ts_free(&ts);
}

/* ---- a replica -------------------------------------------------------------
 */

static void
test_replica_does_the_same_on_its_own(void **state)
{
    struct teststore m, r;
    struct error err = {0};
    struct compaction_view v;

    (void)state;
    ct_new_master(&m, 12, SEGMENT, 0);
    ts_new(&r, 13, 0);
    const mbid_t ann = ts_create(&m, "user.ann");
    ct_fill(&m, ann, 40, BODY);
    assert_int_equal(ts_ship(&m, &r, MIB), ERR_OK);
    compact(&r); /* the master has not */
    assert_int_equal(ct_read_all(&r, ann, BODY, NULL), 40);
    ct_purge(&m, ann, 1, 30);
    assert_int_equal(ts_append(&m, ann, 1, BODY, NULL), 41);
    assert_int_equal(ts_ship(&m, &r, MIB), ERR_OK);
    compact(&r);
    assert_int_equal(store_pos(r.store).digest, store_pos(m.store).digest);
    assert_int_equal(store_compaction_view(r.store, &v, &err), ERR_OK);
    assert_int_equal(v.dropped, 29);
    assert_int_equal(ct_place(&r, ann, 41).parts, 1);
    compact(&m);
    assert_int_equal(store_pos(r.store).digest, store_pos(m.store).digest);
    ts_free(&r);
    ts_free(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies_leave_the_log_and_the_log_goes),
        cmocka_unit_test(test_log_is_kept_warm),
        cmocka_unit_test(test_space_comes_back_after_a_purge),
        cmocka_unit_test(test_body_that_another_message_has_stays),
        cmocka_unit_test(test_garbage_stays_while_somebody_reads_an_old_view),
        cmocka_unit_test(test_bodies_that_came_raw_are_compressed_in_packs),
        cmocka_unit_test(test_parts_ahead_of_their_message_survive),
        cmocka_unit_test(test_parts_whose_message_never_came_go_after_a_day),
        cmocka_unit_test(test_parts_survive_a_jump_of_the_clock),
        cmocka_unit_test(
            test_damaged_body_keeps_its_segment_until_it_is_repaired),
        cmocka_unit_test(test_log_that_no_twin_has_is_let_go_of),
        cmocka_unit_test(test_sweep_finds_bodies_that_nothing_has),
        cmocka_unit_test(test_sweep_counts_what_the_writer_put_over),
        cmocka_unit_test(test_replica_does_the_same_on_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
