/*
 * What is purged and kept stays whole when power is lost at any change of the
 * disk, when the disk is full, and when the instance is seeded anew.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/local.h"
#include "store/seed.h"
#include "store/store_private.h"
#include "tests/lib/historytest.h"

/* ---- crashes ------------------------------------------------------------ */

static int
on_nth_change(void *ctx, enum env_fault_kind kind, const char *path)
{
    (void)kind;
    (void)path;
    env_sim_halt(ctx);
    return 0;
}

/* What was wrong; *RET_HIT: the N-th change came. */
static const char *
crash_at(uint64_t n, bool *ret_hit)
{
    struct teststore ts;
    struct ht_listing l;
    struct error err = {0};
    const char *wrong = NULL;

    const struct ht_pair box = ht_new_keeper(&ts, 7, HISTORY_FOREVER);
    ct_fill(&ts, box.ann, 16, HT_BODY);
    ct_fill(&ts, box.bob, 16, HT_BODY + 1);
    ht_compact(&ts);
    ct_purge(&ts, box.ann, 1, 9);
    ct_fill(&ts, box.ann, 20, HT_BODY);
    ct_purge(&ts, box.ann, 30, 33);
    ht_must(store_checkpoint(ts.store, &err), &err);
    ct_purge(&ts, box.bob, 2, 2);
    env_fault_add(ts.fault, &(struct env_fault_rule){.kinds = FAULT_CHANGES,
                                                     .nth = n,
                                                     .action = FAULT_HOOK,
                                                     .hook = on_nth_change,
                                                     .hook_ctx = ts.sim});
    *ret_hit = ct_compact(&ts, &err) != ERR_OK;
    ts_crash(&ts, n * 31);
    ht_must(ts_open(&ts, &err), &err);
    for (unsigned i = 0; i < 2 && wrong == NULL; i++) {
        ht_list(&ts, HT_BODY, &l);
        wrong = l.wrong;
        if (wrong == NULL && l.n != 14)
            wrong = "a row is missing";
        buf_free(&l.text);
        ht_compact(&ts);
    }
    if (wrong == NULL && ct_read_all(&ts, box.ann, HT_BODY, &wrong) != 23)
        wrong = wrong != NULL ? wrong : "messages are missing";
    if (wrong != NULL)
        print_message("change %" PRIu64 ": %s\n", n, wrong);
    ts_free(&ts);
    return wrong;
}

static void
test_crash_at_every_change_loses_nothing(void **state)
{
    bool hit = true;
    uint64_t n = 1;

    (void)state;
    for (; hit; n++)
        assert_null(crash_at(n, &hit));
    print_message("%" PRIu64 " changes\n", n);
    assert_true(n > 15);
}

/* ---- seeds -------------------------------------------------------------- */

struct way {
    struct teststore *from;
    struct store_snap *snap;
    struct seed *seed;
    unsigned bodies, rows, most_rows;
};

static bool
give_body(void *ctx, const struct guid *guid, uint64_t size)
{
    struct way *w = ctx;
    AUTO(buf_free) struct buf stored = BUF_INIT;
    struct body_loc loc;
    struct error err = {0};

    (void)size;
    if (seed_has(w->seed, guid))
        return true;
    w->bodies++;
    ht_must(
        seed_read_part(w->from->store, w->snap, guid, 0, &loc, &stored, &err),
        &err);
    ht_must(seed_put_part(w->seed, guid, &loc, buf_span(&stored), &err), &err);
    return true;
}

static bool
give_row(void *ctx, struct span key, struct span value)
{
    struct way *w = ctx;
    struct error err = {0};

    if (w->rows == w->most_rows)
        return false;
    w->rows++;
    ht_must(seed_put_row(w->seed, key, value, &err), &err);
    return true;
}

/* Seed TO, or break off behind MOST_ROWS; bodies that were sent. */
static unsigned
seed_over(struct teststore *from, struct teststore *to, unsigned most_rows)
{
    struct way w = {.from = from, .most_rows = most_rows};
    struct error err = {0};

    ht_must(seed_open(to->store, &w.seed, &err), &err);
    w.snap = store_snapshot(from->store);
    const struct store_pos pos = snap_pos(w.snap);
    ht_must(seed_each_guid(w.snap, NULL, give_body, &w, &err), &err);
    ht_must(seed_sync(w.seed, &err), &err);
    ht_must(seed_begin_rows(w.seed, &err), &err);
    ht_must(snap_each_row(w.snap, SPAN_EMPTY, give_row, &w, &err), &err);
    if (w.rows < w.most_rows)
        ht_must(seed_finish(w.seed, &pos, &err), &err);
    seed_close(&w.seed);
    store_release(&w.snap);
    return w.bodies;
}

/* As node_reseed() does it. */
static void
give_up_state(struct teststore *ts)
{
    uint64_t kept = 0, dropped = 0;
    struct error err = {0};

    ht_must(store_history_pack(ts->store, &err), &err);
    ts_close(ts);
    ts->cfg.kv = kv_open_mem_on(ts->disk);
    ht_must(store_make_seedable(env_fault_env(ts->fault), &ts->cfg,
                                "/be/log-aside", &kept, &dropped, &err),
            &err);
    kv_close(&ts->cfg.kv);
    assert_int_equal(dropped, 0);
    ht_must(ts_open(ts, &err), &err);
    assert_true(store_is_empty(ts->store));
}

/*
 * The replica is left behind while its master purges: what it had of that is
 * history when it was seeded, with what was history before.
 */
static void
test_seed_keeps_history_and_finds_what_it_missed(void **state)
{
    struct teststore master, keeper;
    struct ht_listing l;

    (void)state;
    ct_new_master(&master, 8, HT_SEGMENT, HT_PACK);
    const mbid_t ann = ts_create(&master, "user.ann");
    const mbid_t bob = ts_create(&master, "user.bob");
    ts_new(&keeper, 9, 0);
    keeper.cfg.pack_bytes = HT_PACK;
    ht_set_keep(&keeper, HISTORY_FOREVER);
    ct_fill(&master, ann, 40, HT_BODY);
    ct_fill(&master, bob, 10, HT_BODY + 1);
    ct_purge(&master, ann, 1, 5);
    assert_int_equal(ts_ship(&master, &keeper, 65536), ERR_OK);
    assert_int_equal(ht_count(&keeper, HT_BODY), 5);
    ct_purge(&master, ann, 6, 8);
    ht_purge_mailbox(&master, bob);
    ct_fill(&master, ann, 4, HT_BODY);
    ht_compact(&master);

    give_up_state(&keeper);
    assert_int_equal(ht_count(&keeper, HT_BODY), 5);
    /* An attempt that breaks off, and a power cut, change nothing of it. */
    assert_int_equal(seed_over(&master, &keeper, 20), 4);
    struct error err = {0};
    ts_crash(&keeper, 3);
    ht_must(ts_open(&keeper, &err), &err);
    assert_int_equal(seed_over(&master, &keeper, UINT32_MAX), 0);
    assert_int_equal(store_pos(master.store).digest,
                     store_pos(keeper.store).digest);
    ht_list(&keeper, HT_BODY, &l);
    assert_null(l.wrong);
    assert_int_equal(l.n, 5 + 3 + 10);
    buf_free(&l.text);
    /* Nothing of the old state is left but that. */
    AUTO(buf_free) struct buf row = BUF_INIT;
    struct key k;
    struct span key, value;
    struct kv_iter *it =
        kv_iter_open(keeper.kv, NULL, KV_STATE,
                     key_local(&k, LOCAL_HISTORY_OLD), SPAN_EMPTY);
    assert_false(kv_iter_next(it, &key, &value));
    ht_must(kv_iter_close(&it, &err), &err);
    /* And it goes on, through a sweep and its day of grace. */
    env_sim_advance_us(keeper.sim, 2 * HT_DAY_S * HT_US);
    env_sim_advance_us(master.sim, 2 * HT_DAY_S * HT_US);
    ct_purge(&master, ann, 9, 9);
    assert_int_equal(ts_ship(&master, &keeper, 65536), ERR_OK);
    for (unsigned i = 0; i < 3; i++) {
        ht_compact(&keeper);
        env_sim_advance_us(keeper.sim, HT_DAY_S * HT_US);
    }
    assert_int_equal(ht_count(&keeper, HT_BODY), 19);
    ts_verify(&keeper);
    ts_free(&keeper);
    ts_free(&master);
}

/* History is nobody else's: neither a seed nor a backup has it. */
static void
test_giver_keeps_its_history_to_itself(void **state)
{
    struct teststore keeper, to;

    (void)state;
    const struct ht_pair box = ht_new_keeper(&keeper, 10, HISTORY_FOREVER);
    ct_fill(&keeper, box.ann, 30, HT_BODY);
    /* One of them is also a message that lives. */
    assert_int_equal(ts_append(&keeper, box.bob, 1, HT_BODY, NULL), 1);
    ct_purge(&keeper, box.ann, 1, 20);
    ts_new(&to, 11, 0);
    assert_int_equal(seed_over(&keeper, &to, UINT32_MAX), 11);
    assert_int_equal(store_pos(to.store).digest,
                     store_pos(keeper.store).digest);
    assert_int_equal(ht_count(&to, 0), 0);
    assert_int_equal(ht_count(&keeper, HT_BODY), 20);
    ts_free(&to);
    ts_free(&keeper);
}

/* No room for what is to leave the log: nothing was given up. */
static void
test_full_disk_keeps_the_log(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    const struct ht_pair box = ht_new_keeper(&ts, 15, HISTORY_FOREVER);
    ct_fill(&ts, box.ann, 20, HT_BODY);
    ct_purge(&ts, box.ann, 1, 10);
    env_fault_add(ts.fault, &(struct env_fault_rule){.kinds = FAULT_CHANGES,
                                                     .path_part = "pack-",
                                                     .nth = 1,
                                                     .from_then_on = true,
                                                     .action = FAULT_FAIL,
                                                     .sys_errno = ENOSPC});
    assert_int_equal(store_history_pack(ts.store, &err), ERR_NOSPACE);
    env_fault_clear(ts.fault);
    assert_int_equal(ht_count(&ts, HT_BODY), 10);
    ht_must(store_history_pack(ts.store, &err), &err);
    assert_int_equal(ct_place(&ts, box.ann, 20).home, BODY_IN_PACK);
    assert_int_equal(ht_count(&ts, HT_BODY), 10);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash_at_every_change_loses_nothing),
        cmocka_unit_test(test_seed_keeps_history_and_finds_what_it_missed),
        cmocka_unit_test(test_giver_keeps_its_history_to_itself),
        cmocka_unit_test(test_full_disk_keeps_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
