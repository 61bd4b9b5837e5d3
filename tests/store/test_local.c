/*
 * store_local(): rows of the instance's own, changed between two groups.  All
 * of a call is written or nothing; what ends the store and what does not; and
 * with threads, the writer stands still meanwhile.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/local.h"
#include "store/state.h"
#include "tests/lib/storetest.h"

static struct span
row_key(struct key *k)
{
    return key_local(k, (enum local_row)'Z');
}

static enum errcode
put_row(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    struct key k;

    (void)st;
    kv_batch_put(b, KV_STATE, row_key(&k), SPAN_LIT("here"));
    if (ctx != NULL)
        return error_set(err, ERR_CONFLICT, "not today");
    return ERR_OK;
}

static bool
row_is_there(struct teststore *ts)
{
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;

    return kv_get(ts->kv, NULL, KV_STATE, row_key(&k), &value, NULL) == ERR_OK;
}

static void
test_call_writes_all_or_nothing(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ts_new_master(&ts, 1, 0);
    const uint64_t digest = store_pos(ts.store).digest;
    assert_int_equal(store_local(ts.store, put_row, &ts, &err), ERR_CONFLICT);
    assert_string_equal(err.text, "not today");
    assert_false(row_is_there(&ts));
    assert_int_equal(store_local(ts.store, put_row, NULL, &err), ERR_OK);
    assert_true(row_is_there(&ts));
    /* The writer goes on, and nobody's digest has changed. */
    assert_int_equal(store_pos(ts.store).digest, digest);
    assert_int_not_equal(ts_create(&ts, "user.ann"), 0);
    ts_verify(&ts);
    ts_free(&ts);
}

static void
test_full_disk_refuses_and_heals(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ts_new_master(&ts, 2, 0);
    kv_mem_fail(ts.kv, ERR_NOSPACE);
    assert_int_equal(store_local(ts.store, put_row, NULL, &err), ERR_NOSPACE);
    assert_int_equal(ts.fatal.code, ERR_OK);
    kv_mem_fail(ts.kv, ERR_OK);
    assert_false(row_is_there(&ts));
    assert_int_equal(store_local(ts.store, put_row, NULL, &err), ERR_OK);
    assert_true(row_is_there(&ts));
    ts_free(&ts);
}

static void
test_failed_write_ends_the_store(void **state)
{
    struct teststore ts;
    struct error err = {0};

    (void)state;
    ts_new_master(&ts, 3, 0);
    kv_mem_fail(ts.kv, ERR_IO);
    assert_int_equal(store_local(ts.store, put_row, NULL, &err), ERR_IO);
    assert_int_equal(ts.fatal.code, ERR_IO);
    assert_int_equal(store_local(ts.store, put_row, NULL, &err), ERR_IO);
    ts_free(&ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_call_writes_all_or_nothing),
        cmocka_unit_test(test_full_disk_refuses_and_heals),
        cmocka_unit_test(test_failed_write_ends_the_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
