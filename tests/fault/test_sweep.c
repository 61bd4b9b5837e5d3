/*
 * tests/fault/test_sweep.c - every file call of a scenario fails once.
 *
 * The scenario opens a store, delivers small and large messages, changes flags,
 * copies, moves, expunges, renames, deletes, flushes the state, fills log
 * segments, closes and opens again.  For n = 1, 2, 3 ... the n-th call of the
 * env answers EIO, or ENOSPC, or does half of what was asked, or is the last
 * one that reaches the disk.  Then the store is opened without faults, and has
 * to be what a model of plain arrays says: all that was acknowledged, nothing
 * of what was refused, and of what was under way when it died all or nothing.
 *
 *   fault_test_sweep [LAST [STRIDE]]     e.g. 500 1; without: 500 37
 *
 * What an error has to do: a full disk refuses with ERR_NOSPACE and the same
 * thing succeeds a moment later; half a transfer is not noticed by anybody; EIO
 * on the log's bytes or their sync stops the instance.
 *
 * Over the machine in memory, with its harsh power cuts, and for fewer n over
 * real files and RocksDB.  What RocksDB itself does with files is not
 * seen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "store/store_private.h"
#include "tests/lib/sweep.h"
#include "tests/lib/tmpdir.h"

#define ROUNDS 28
#define BIG_BYTES ((5U << 19) + 77) /* three parts */
#define LARGE_BYTES (700U << 10)

static unsigned sweep_last = 500;
static unsigned sweep_stride = 37;

static void
everyday(struct run *r, const char *name)
{
    for (int i = 0; i < ROUNDS; i++) {
        if (r->has_ended)
            return;
        const uint32_t uid = box_of(&r->sure, name)->uidnext;
        step_deliver(r, name, 1, 600);
        step_flags(r, name, uid, uid);
        step_expunge(r, name, uid, uid);
    }
}

static void
first_half(struct run *r)
{
    step_open(r);
    step_create(r, "user.ann");
    step_create(r, "user.ann.Sent");
    step_deliver(r, "user.ann", 1, 900);
    step_deliver(r, "user.ann", 6, 5000);
    step_deliver(r, "user.ann", 1, BIG_BYTES);
    step_flags(r, "user.ann", 1, 3);
    step_copy(r, "user.ann", "user.ann.Sent", 2, 8, false);
    step_expunge(r, "user.ann", 2, 2);
    everyday(r, "user.ann");
    step_checkpoint(r);
    step_rename(r, "user.ann", "user.amy"); /* with what is below it */
    for (int i = 0; i < 8; i++)
        step_deliver(r, "user.amy.Sent", 1, LARGE_BYTES);
}

static void
second_half(struct run *r)
{
    step_copy(r, "user.amy.Sent", "user.amy", 1, 2, true);
    step_checkpoint(r);
    step_deliver(r, "user.amy", 2, 2000);
    if (!r->has_ended) {
        store_close(&r->ts.store);
        step_open(r);
    }
    step_flags(r, "user.amy", 4, 6);
    everyday(r, "user.amy");
    step_deliver(r, "user.amy", 1, 300);
    step_rename(r, "user.amy.Sent", NULL);
    step_deliver(r, "user.amy", 1, BIG_BYTES);
}

static void
whole_scenario(struct run *r)
{
    first_half(r);
    second_half(r);
}

/* ---- after it ---------------------------------------------------------- */

/* What the disk has now, without faults. */
static void
reopen(struct run *r, bool is_cut)
{
    struct error err = {0};

    env_fault_clear(r->ts.fault);
    if (r->ts.sim != NULL && is_cut)
        ts_crash(&r->ts, r->nth);
    else
        store_close(&r->ts.store);
    if (run_open(r, &err) != ERR_OK)
        RUN_FAIL(r, "it does not open again: %s", err.text);
}

/* The state made from nothing but the log is the same. */
static void
check_log_alone(struct run *r)
{
    const struct store_pos pos = store_pos(r->ts.store);
    struct kv_disk *kept = r->ts.disk;
    struct error err = {0};

    store_close(&r->ts.store);
    r->ts.disk = kv_disk_new();
    if (run_open(r, &err) != ERR_OK)
        RUN_FAIL(r, "the log alone does not open: %s", err.text);
    const struct store_pos again = store_pos(r->ts.store);
    if (again.applied.lsn != pos.applied.lsn || again.digest != pos.digest ||
        again.chain != pos.chain)
        RUN_FAIL(r, "the log alone says something else");
    store_close(&r->ts.store);
    kv_disk_free(&r->ts.disk);
    r->ts.disk = kept;
    if (run_open(r, &err) != ERR_OK)
        RUN_FAIL(r, "it does not open a third time: %s", err.text);
}

/* EIO on what the log says, or on its sync: nothing may be written any more. */
static void
check_stopped(struct run *r)
{
    if (r->kind == KIND_EIO && run_hit_log(r) &&
        strstr(r->hit_path, "/seg-") != NULL && !r->has_ended)
        RUN_FAIL(r, "EIO on the log, and the instance went on");
}

/* One n of one kind.  False: there are fewer calls. */
static bool
one_case(enum kind kind, unsigned nth, const char *real_dir)
{
    struct run *r = xcalloc(1, sizeof(*r));

    run_begin(r, kind, nth, real_dir);
    run_arm(r);
    whole_scenario(r);
    const bool was_hit = env_fault_hits(r->ts.fault) > 0;
    if (kind == KIND_SHORT && r->has_ended)
        RUN_FAIL(r, "half a transfer was noticed");
    check_stopped(r);
    reopen(r, kind == KIND_KILL || nth % 2 == 0);
    run_check(r, "after reopening");
    if (real_dir == NULL)
        check_log_alone(r);
    /* And it goes on. */
    r->has_ended = false;
    run_begin_epoch(r);
    r->seed = SWEEP_BODIES - 1;
    step_create(r, "user.zoe");
    step_deliver(r, "user.zoe", 1, 700);
    run_check(r, "afterwards");
    run_end(r);
    free(r);
    return was_hit;
}

static void
sweep(enum kind kind)
{
    unsigned n = 1;

    while (n <= sweep_last && one_case(kind, n, NULL))
        n += sweep_stride;
    print_message("%s: calls 1 to %u, each %u\n", run_kind_names[kind],
                  MIN(n, sweep_last), sweep_stride);
}

static void
test_eio_once_loses_nothing_and_stops_at_the_log(void **state)
{
    (void)state;
    sweep(KIND_EIO);
}

static void
test_enospc_once_is_refused_and_heals(void **state)
{
    (void)state;
    sweep(KIND_ENOSPC);
}

static void
test_short_transfers_are_not_noticed(void **state)
{
    (void)state;
    sweep(KIND_SHORT);
}

static void
test_killed_at_any_call_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    sweep(KIND_KILL);
}

/* ---- recovery ---------------------------------------------------------- */

/* Killed without a flush, and again at call NTH of opening.  False: opening has
 * fewer calls. */
static bool
one_double(unsigned nth)
{
    struct run *r = xcalloc(1, sizeof(*r));
    struct error err = {0};

    run_begin(r, KIND_KILL, nth, NULL);
    whole_scenario(r);
    assert_false(r->has_ended);
    const struct store_pos before = store_pos(r->ts.store);
    ts_crash(&r->ts, 3);
    run_arm(r);
    (void)run_open(r, &err);
    const bool was_hit = r->is_hit;
    reopen(r, true);
    run_check(r, "after the second crash");
    const struct store_pos after = store_pos(r->ts.store);
    if (after.applied.lsn != before.applied.lsn ||
        after.digest != before.digest || after.chain != before.chain)
        RUN_FAIL(r, "the second crash has changed something");
    run_end(r);
    free(r);
    return was_hit;
}

/* I16. */
static void
test_recovery_killed_at_any_call_ends_the_same(void **state)
{
    unsigned n = 1;

    (void)state;
    while (n <= sweep_last && one_double(n))
        n += sweep_stride;
    print_message("recovery: calls 1 to %u, each %u\n", n, sweep_stride);
}

/* ---- RocksDB ----------------------------------------------------------- */

static void
test_the_same_over_files_and_rocksdb(void **state)
{
    static const enum kind kinds[] = {KIND_EIO, KIND_ENOSPC, KIND_KILL};
    const unsigned stride = sweep_stride == 1 ? 10 : sweep_stride * 9;

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        for (unsigned n = 1 + (unsigned)k; n <= sweep_last; n += stride) {
            char dir[] = "/tmp/pollux-sweep-XXXXXX";
            assert_non_null(mkdtemp(dir));
            const bool more = one_case(kinds[k], n, dir);
            remove_tree(dir);
            if (!more)
                break;
        }
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eio_once_loses_nothing_and_stops_at_the_log),
        cmocka_unit_test(test_enospc_once_is_refused_and_heals),
        cmocka_unit_test(test_short_transfers_are_not_noticed),
        cmocka_unit_test(test_killed_at_any_call_keeps_what_was_acknowledged),
        cmocka_unit_test(test_recovery_killed_at_any_call_ends_the_same),
        cmocka_unit_test(test_the_same_over_files_and_rocksdb),
    };

    if (argc > 1 && !parse_u32(span_str(argv[1]), &sweep_last))
        return 2;
    if (argc > 1)
        sweep_stride = 1;
    if (argc > 2 &&
        (!parse_u32(span_str(argv[2]), &sweep_stride) || sweep_stride == 0))
        return 2;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sweep_free_bodies();
    return failed;
}
