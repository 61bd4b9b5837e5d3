/*
 * tests/store/test_derived.c - derived records: a walk gives what single looks
 * give, however it is asked; blocks are apart from the records of messages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#include "tests/lib/storetest.h"

#define UIDS 400U

/* Two mailboxes in which some messages have none. */
static void
put_some(struct teststore *ts)
{
    char text[32];

    for (mbid_t id = 5; id <= 6; id++)
        for (uint32_t uid = 0; uid <= UIDS; uid++) {
            if (uid % 7 == 3 || (uid > 100 && uid < 160))
                continue;
            snprintf(text, sizeof(text), "%u of %u", uid, (unsigned)id);
            store_cache_put(ts->store, id, uid, span_str(text));
        }
}

static void
test_walk_gives_what_looks_give(void **state)
{
    struct teststore ts;
    uint64_t rng = 11;
    struct buf want = BUF_INIT, got = BUF_INIT;
    struct error err;
    (void)state;

    ts_new_master(&ts, 1, 0);
    put_some(&ts);
    struct store_snap *snap = store_snapshot(ts.store);
    struct cache_walk *walk = snap_cache_walk(snap, 5);
    uint32_t uid = 1;
    for (int i = 0; i < 20000; i++) {
        const uint64_t how = ts_random(&rng, 100);
        if (how < 90) /* on, a little way */
            uid += 1 + (uint32_t)ts_random(&rng, how < 70 ? 1 : 20);
        else if (how > 95) /* anywhere */
            uid = (uint32_t)ts_random(&rng, UIDS + 100);
        buf_clear(&want);
        buf_clear(&got);
        enum errcode rc = snap_cache(snap, 5, uid, &want, &err);
        assert_int_equal(cache_walk_get(walk, uid, &got, &err), rc);
        assert_true(span_eq(buf_span(&want), buf_span(&got)));
        if (uid > UIDS + 50)
            uid = 1;
    }
    cache_walk_close(&walk);
    assert_null(walk);
    cache_walk_close(&walk);
    store_release(&snap);
    buf_free(&want);
    buf_free(&got);
    ts_free(&ts);
}

static void
test_blocks_are_apart(void **state)
{
    struct teststore ts;
    struct buf got = BUF_INIT;
    struct error err;
    (void)state;

    ts_new_master(&ts, 1, 0);
    store_cache_put(ts.store, 5, 1, SPAN_LIT("message"));
    store_cache_put_block(ts.store, 5, 1, SPAN_LIT("block"));
    struct store_snap *snap = store_snapshot(ts.store);
    assert_int_equal(snap_cache_block(snap, 5, 1, &got, &err), ERR_OK);
    assert_string_equal(buf_cstr(&got), "block");
    buf_clear(&got);
    assert_int_equal(snap_cache(snap, 5, 1, &got, &err), ERR_OK);
    assert_string_equal(buf_cstr(&got), "message");
    assert_int_equal(snap_cache_block(snap, 5, 2, &got, &err), ERR_NOTFOUND);
    assert_int_equal(snap_cache_block(snap, 6, 1, &got, &err), ERR_NOTFOUND);
    store_release(&snap);
    buf_free(&got);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk_gives_what_looks_give),
        cmocka_unit_test(test_blocks_are_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
