/*
 * tests/imapd/test_seqmap.c - sequence numbers and UIDs, against a plain array.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "imapd/seqmap.h"

#define MAX_UID 300U

/* The UIDs that are in, in order. */
struct model {
    uint32_t uid[MAX_UID];
    uint32_t n;
};

static void
check(const struct seqmap *m, const struct model *want)
{
    assert_int_equal(seqmap_count(m), want->n);
    assert_int_equal(seqmap_last_uid(m),
                     want->n == 0 ? 0 : want->uid[want->n - 1]);
    assert_int_equal(seqmap_uid(m, 0), 0);
    assert_int_equal(seqmap_uid(m, want->n + 1), 0);
    uint32_t at = 0;
    for (uint32_t uid = 1; uid <= MAX_UID; uid++) {
        bool in = at < want->n && want->uid[at] == uid;
        assert_int_equal(seqmap_next(m, uid), at < want->n ? want->uid[at] : 0);
        assert_int_equal(seqmap_seq(m, uid), in ? at + 1 : 0);
        if (in) {
            assert_int_equal(seqmap_uid(m, at + 1), uid);
            at++;
        }
    }
}

static void
model_remove(struct model *m, const struct uidset *s)
{
    uint32_t out = 0;
    for (uint32_t i = 0; i < m->n; i++)
        if (!uidset_has(s, m->uid[i]))
            m->uid[out++] = m->uid[i];
    m->n = out;
}

static void
test_random_appends_and_removals(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252U;

    for (int round = 0; round < 50; round++) {
        struct seqmap m = SEQMAP_INIT;
        struct model want = {.n = 0};
        for (uint32_t uid = 1; uid <= MAX_UID; uid++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            if (seed % 4 == 0)
                continue;
            seqmap_append(&m, uid);
            want.uid[want.n++] = uid;
        }
        check(&m, &want);
        for (int i = 0; i < 5; i++) {
            struct uidset s = UIDSET_INIT, both = UIDSET_INIT;
            for (int k = 0; k < 10; k++) {
                seed = seed * 6364136223846793005U + 1;
                uint32_t a = (uint32_t)(seed >> 33) % MAX_UID + 1;
                uidset_add(&s, a, MIN(MAX_UID, a + (uint32_t)(seed % 7)));
            }
            seqmap_intersect(&m, &s, &both);
            for (uint32_t uid = 1; uid <= MAX_UID; uid++)
                assert_true(uidset_has(&both, uid) ==
                            (uidset_has(&s, uid) && seqmap_seq(&m, uid) != 0));
            seqmap_remove(&m, &s);
            model_remove(&want, &s);
            check(&m, &want);
            uidset_free(&s);
            uidset_free(&both);
        }
        seqmap_free(&m);
    }
}

static void
test_resolve_gives_uids_or_refuses(void **state)
{
    (void)state;
    struct seqmap m = SEQMAP_INIT;
    struct uidset seqs = UIDSET_INIT, uids = UIDSET_INIT;
    struct buf text = BUF_INIT;

    for (uint32_t uid = 1; uid < 30; uid += uid % 5 == 4 ? 3 : 1)
        seqmap_append(&m, uid); /* 1-4 7-9 12-14 17-19 22-24 27-29 */
    uidset_add(&seqs, 3, 6);
    uidset_add(&seqs, 19, 19);
    assert_true(seqmap_resolve(&m, &seqs, &uids));
    uidset_format(&uids, &text);
    assert_string_equal(buf_cstr(&text), "3:4,7:8,29");
    uidset_add(&seqs, 20, 20);
    assert_false(seqmap_resolve(&m, &seqs, &uids));
    buf_free(&text);
    uidset_free(&seqs);
    uidset_free(&uids);
    seqmap_free(&m);
    /* At the upper end of what a UID can be. */
    seqmap_append(&m, UINT32_MAX - 1);
    seqmap_append(&m, UINT32_MAX);
    assert_int_equal(seqmap_seq(&m, UINT32_MAX), 2);
    uidset_add(&seqs, UINT32_MAX, UINT32_MAX);
    seqmap_remove(&m, &seqs);
    assert_int_equal(seqmap_count(&m), 1);
    uidset_free(&seqs);
    seqmap_free(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_appends_and_removals),
        cmocka_unit_test(test_resolve_gives_uids_or_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
