/*
 * What transactions do to one store on a machine in memory, each error that
 * txn.h and store.h promise, and what a reader sees.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/lib/storetest.h"

static void
test_append_is_numbered_counted_and_read_back(void **state)
{
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct error err = {0};
    AUTO(buf_free) struct buf bytes = BUF_INIT;

    (void)state;
    ts_new_master(&ts, 1, 0);
    mbid_t id = ts_create(&ts, "user.ann");
    assert_int_equal(ts_append(&ts, id, 7, 500, NULL), 1);
    assert_int_equal(ts_append(&ts, id, 8, 5000, NULL), 2);
    struct mailbox mb = ts_mailbox(&ts, id, &a);
    assert_int_equal(mb.exists, 2);
    assert_int_equal(mb.unseen, 2);
    assert_int_equal(mb.bytes, 5500);
    assert_int_equal(mb.uidnext, 3);
    assert_true(mb.uidvalidity > 1700000000);
    struct message m = ts_message(&ts, id, 2, &a);
    assert_int_equal(mb.highestmodseq, m.modseq);
    assert_int_equal(m.modseq, modseq_of(1, store_pos(ts.store).applied.lsn));
    assert_int_equal(m.size, 5000);
    struct body *b = ts_body(8, 5000);
    assert_int_equal(store_body_read(ts.store, &m.guid, 0, 9999, &bytes, &err),
                     ERR_OK);
    assert_true(span_eq(buf_span(&bytes), body_raw(b)));
    body_free(&b);
    ts_verify(&ts);
    ts_free(&ts);
    arena_free(&a);
}

static void
test_random_histories_recount(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct teststore ts;
        uint64_t rng = seed;
        unsigned done = 0;
        ts_new_master(&ts, seed, 0);
        (void)ts_create(&ts, "user.ann");
        (void)ts_create(&ts, "user.bob");
        (void)ts_create(&ts, "shared");
        for (int i = 0; i < 120; i++)
            done += ts_random_txn(&ts, &rng) == ERR_OK;
        assert_int_equal(ts.fatal.code, ERR_OK);
        if (done <= 30)
            fail_msg("seed %u: only %u", (unsigned)seed, done);
        ts_verify(&ts);
        ts_free(&ts);
    }
}

static void
test_replica_by_frames_is_equal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct teststore ma, re;
        uint64_t rng = seed * 1000;
        ts_new_master(&ma, seed, 0);
        ts_new(&re, seed + 500, 0);
        for (int i = 0; i < 60; i++) {
            (void)ts_random_txn(&ma, &rng);
            if (i % 7 == 0)
                assert_int_equal(
                    ts_ship(&ma, &re, ts_random(&rng, 2) == 0 ? 1 : 65536),
                    ERR_OK);
        }
        assert_int_equal(ts_ship(&ma, &re, 1 << 20), ERR_OK);
        assert_int_equal(store_pos(ma.store).applied.lsn,
                         store_pos(re.store).applied.lsn);
        assert_int_equal(store_pos(ma.store).chain, store_pos(re.store).chain);
        assert_int_equal(store_pos(ma.store).digest,
                         store_pos(re.store).digest);
        ts_verify(&re);
        ts_free(&ma);
        ts_free(&re);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_is_numbered_counted_and_read_back),
        cmocka_unit_test(test_random_histories_recount),
        cmocka_unit_test(test_replica_by_frames_is_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
