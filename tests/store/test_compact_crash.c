/*
 * The compactor loses power, or a call of its fails, at every change of the
 * disk in turn: nothing is lost, nothing is left behind, and it goes on.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/body_private.h"
#include "store/local.h"
#include "store/store_private.h"
#include "tests/lib/compacttest.h"

#define SEGMENT ((uint64_t)1 << 19)
#define PACK ((uint64_t)1 << 17)
#define BODY 36000U /* half of it when stored */

static int
on_nth_change(void *ctx, enum env_fault_kind kind, const char *path)
{
    (void)kind;
    (void)path;
    env_sim_halt(ctx);
    return 0;
}

/* Packs on the disk that no account knows. */
static bool
has_stray_packs(struct teststore *ts)
{
    struct packs *packs = bodies_packs(store_bodies(ts->store));
    struct error err = {0};
    uint64_t *files = NULL;
    size_t n = 0;
    bool stray = false;

    if (packs_list(packs, &files, &n, &err) != ERR_OK)
        return true;
    for (size_t i = 0; i < n; i++) {
        AUTO(buf_free) struct buf value = BUF_INIT;
        struct key k;
        if (files[i] != packs_current(packs) &&
            kv_get(ts->kv, NULL, KV_STATE, key_local_pack(&k, 1, files[i]),
                   &value, &err) != ERR_OK)
            stray = true;
    }
    free(files);
    return stray;
}

struct run {
    struct teststore ts;
    mbid_t ann, bob;
};

/* Two full segments and some more; a pack with much dead. */
static void
prepare(struct run *r, uint64_t seed)
{
    struct error err = {0};

    ct_new_master(&r->ts, seed, SEGMENT, PACK);
    r->ann = ts_create(&r->ts, "user.ann");
    r->bob = ts_create(&r->ts, "user.bob");
    ct_fill(&r->ts, r->ann, 16, BODY);
    ct_fill(&r->ts, r->bob, 16, BODY + 1);
    assert_int_equal(ct_compact(&r->ts, &err), ERR_OK);
    ct_purge(&r->ts, r->ann, 1, 9);
    ct_fill(&r->ts, r->ann, 28, BODY);
    assert_int_equal(store_checkpoint(r->ts.store, &err), ERR_OK);
}

static const char *
check(struct run *r)
{
    struct error err = {0};
    const char *wrong = NULL;
    struct store_snap *snap = store_snapshot(r->ts.store);

    if (snap_verify(snap, &err) != ERR_OK)
        wrong = "counters or digests are wrong";
    store_release(&snap);
    if (wrong == NULL && ct_read_all(&r->ts, r->ann, BODY, &wrong) != 35)
        wrong = wrong != NULL ? wrong : "messages are missing";
    if (wrong == NULL && ct_read_all(&r->ts, r->bob, BODY + 1, &wrong) != 16)
        wrong = wrong != NULL ? wrong : "messages are missing";
    return wrong;
}

/* What was wrong; *RET_HIT: the N-th change came. */
static const char *
crash_at(uint64_t n, uint64_t seed, bool *ret_hit)
{
    struct run r;
    struct error err = {0};
    const char *wrong = NULL;

    prepare(&r, seed);
    env_fault_add(r.ts.fault, &(struct env_fault_rule){.kinds = FAULT_CHANGES,
                                                       .nth = n,
                                                       .action = FAULT_HOOK,
                                                       .hook = on_nth_change,
                                                       .hook_ctx = r.ts.sim});
    *ret_hit = ct_compact(&r.ts, &err) != ERR_OK;
    ts_crash(&r.ts, n * 31 + seed);
    if (ts_open(&r.ts, &err) != ERR_OK)
        wrong = "it does not open";
    if (wrong == NULL)
        wrong = check(&r);
    if (wrong == NULL && has_stray_packs(&r.ts))
        wrong = "packs are left that nothing names";
    if (wrong == NULL && ct_compact(&r.ts, &err) != ERR_OK)
        wrong = "it does not go on";
    if (wrong == NULL)
        wrong = check(&r);
    if (wrong == NULL && ct_segments(&r.ts) != 1)
        wrong = "the log was not trimmed in the end";
    /* 51 bodies of 18 kB and as much dead again at most. */
    if (wrong == NULL && ct_dir_bytes(&r.ts, "/be/packs", "pack-") > UINT64_C(2)
                                                                         << 20)
        wrong = "space did not come back";
    if (wrong != NULL)
        print_message("change %" PRIu64 ", seed %" PRIu64 ": %s (%s)\n", n,
                      seed, wrong, err.text);
    ts_free(&r.ts);
    return wrong;
}

static void
test_crash_at_every_change_loses_nothing(void **state)
{
    bool hit = true;
    uint64_t n = 1;

    (void)state;
    for (; hit; n++)
        assert_null(crash_at(n, n % 3, &hit));
    assert_true(n > 40);
}

/* Changes of a disk that fail once, a third of them: told, and tried again. */
static void
test_failed_call_is_told_and_mends(void **state)
{
    static const int errnos[] = {EIO, ENOSPC};
    bool failed = true;

    (void)state;
    for (uint64_t n = 1; failed; n += 3) {
        struct run r;
        struct error err = {0};
        prepare(&r, 5);
        env_fault_add(r.ts.fault,
                      &(struct env_fault_rule){.kinds = FAULT_CHANGES,
                                               .nth = n,
                                               .action = FAULT_TORN,
                                               .sys_errno = errnos[n % 2]});
        failed = ct_compact(&r.ts, &err) != ERR_OK;
        assert_int_equal(r.ts.fatal.code, ERR_OK);
        assert_null(check(&r));
        for (int i = 0; i < 3 && ct_compact(&r.ts, &err) != ERR_OK; i++)
            ;
        assert_null(check(&r));
        assert_int_equal(ct_segments(&r.ts), 1);
        ts_free(&r.ts);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash_at_every_change_loses_nothing),
        cmocka_unit_test(test_failed_call_is_told_and_mends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
