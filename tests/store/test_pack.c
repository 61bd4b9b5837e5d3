/*
 * tests/store/test_pack.c - packs: their bytes, what a cut, a failed call or a
 * power cut leaves, and going on in a new one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/env_fault.h"
#include "base/env_sim.h"
#include "store/pack.h"

static const struct instid cluster = {{0xc1, 0xc2}};

static struct body_loc
loc_of(struct span bytes)
{
    return (struct body_loc){.encoding = BODY_RAW,
                             .stored_bytes = (uint32_t)bytes.n,
                             .raw_bytes = (uint32_t)bytes.n,
                             .hash = XXH3_64bits(bytes.p, bytes.n),
                             .part = 0,
                             .parts = 1,
                             .size = bytes.n};
}

static struct guid
guid_of(unsigned i)
{
    return (struct guid){{(uint8_t)i, (uint8_t)(i >> 8), 7}};
}

/* "body 12" as bytes. */
static struct span
bytes_of(unsigned i, char text[32])
{
    snprintf(text, 32, "body %u", i);
    return span_str(text);
}

static void
test_first_block_has_its_golden_bytes(void **state)
{
    (void)state;
    uint8_t block[PACK_HEADER_BYTES];
    struct pack_head h = {.cluster = cluster,
                          .number = 0x0102030405060708,
                          .created_us = 0x1112131415161718};
    static const uint8_t golden[48] = {
        'P',  'L',  'X',  'P',  'A',  'C',  'K',  0,    1,    0,    0,    0,
        0xef, 0xbe, 0xad, 0xde, 0xc1, 0xc2, 0,    0,    0,    0,    0,    0,
        0,    0,    0,    0,    0,    0,    0,    0,    0x08, 0x07, 0x06, 0x05,
        0x04, 0x03, 0x02, 0x01, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11};
    struct pack_head back;
    struct error err = {0};

    pack_head_encode(&h, block);
    assert_memory_equal(block, golden, 12);
    assert_memory_equal(block + 16, golden + 16, 32);
    assert_int_equal(
        pack_head_decode(span_of(block, sizeof(block)), &back, &err), ERR_OK);
    assert_true(back.number == h.number && back.created_us == h.created_us);
    assert_true(instid_eq(&back.cluster, &cluster));
    assert_int_equal(
        pack_head_decode(span_of(block, sizeof(block) - 1), &back, &err),
        ERR_CORRUPT);
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] ^= 1;
        assert_int_equal(
            pack_head_decode(span_of(block, sizeof(block)), &back, &err),
            ERR_CORRUPT);
        block[i] ^= 1;
    }
}

static void
test_block_of_a_newer_version_is_refused(void **state)
{
    (void)state;
    uint8_t block[PACK_HEADER_BYTES];
    struct pack_head h = {.cluster = cluster, .number = 1};
    struct error err = {0};

    pack_head_encode(&h, block);
    block[8] = 2;
    memset(block + 12, 0, 4);
    uint32_t checksum = (uint32_t)XXH3_64bits(block, sizeof(block));
    for (size_t i = 0; i < 4; i++)
        block[12 + i] = (uint8_t)(checksum >> (8 * i));
    assert_int_equal(pack_head_decode(span_of(block, sizeof(block)), &h, &err),
                     ERR_VERSION);
}

/* A frame also cut at each byte (PARSE_MORE) and with each byte damaged. */
static void
test_frame_has_its_golden_bytes(void **state)
{
    (void)state;
    static const uint8_t golden[72] = {
        'P', 'L', 'X', 'B', 0,   0, 0, 0, /* checksum: below */
        3,   1,   7,   0,   0,   0, 0, 0, 0, 0,
        0,   0,   0,   0,   0,   0, 0, 0, 0, 0, /* guid */
        0,   0,   0,   0,                       /* part */
        5,   0,   0,   0,   0,   0, 0, 0,       /* size */
        5,   0,   0,   0,   5,   0, 0, 0,       /* raw, stored */
        0,   0,   0,   0,   0,   0, 0, 0,       /* hash: below */
        0,   0,   0,   0,   1,   0, 0, 0,       /* encoding, parts */
        'h', 'e', 'l', 'l', 'o', 0, 0, 0};
    struct span bytes = SPAN_LIT("hello");
    struct body_loc loc = loc_of(bytes);
    struct guid guid = guid_of(259);
    uint8_t frame[72] = {0};
    struct guid ret_guid;
    struct body_loc ret;
    struct span stored;
    size_t used = 0;

    pack_frame_encode(&guid, &loc, frame);
    memcpy(frame + 64, bytes.p, bytes.n);
    assert_memory_equal(frame, golden, 4);
    assert_memory_equal(frame + 8, golden + 8, 40);
    assert_memory_equal(frame + 56, golden + 56, 16);
    assert_int_equal(
        pack_frame_decode(span_of(frame, 72), &ret_guid, &ret, &stored, &used),
        PARSE_DONE);
    assert_true(guid_eq(&ret_guid, &guid));
    assert_int_equal(used, 72);
    assert_true(span_eq(stored, bytes));
    assert_true(ret.hash == loc.hash && ret.size == 5);
    for (size_t cut = 0; cut < 72; cut++)
        assert_int_equal(pack_frame_decode(span_of(frame, cut), &ret_guid, &ret,
                                           &stored, &used),
                         PARSE_MORE);
    for (size_t i = 0; i < 69; i++) {
        frame[i] ^= 0x40;
        assert_int_equal(pack_frame_decode(span_of(frame, 72), &ret_guid, &ret,
                                           &stored, &used),
                         PARSE_BAD);
        frame[i] ^= 0x40;
    }
}

/* Append bodies [FROM, TO); stops at the first error. */
static enum errcode
append_some(struct packs *p, unsigned from, unsigned to, struct body_loc *locs,
            struct error *err)
{
    for (unsigned i = from; i < to; i++) {
        char text[32];
        struct span bytes = bytes_of(i, text);
        struct guid guid = guid_of(i);
        struct body_loc loc = loc_of(bytes);
        enum errcode rc = packs_append(p, &guid, &loc, bytes, err);
        if (rc != ERR_OK)
            return rc;
        locs[i] = loc;
    }
    return packs_sync(p, err);
}

static void
assert_reads(struct packs *p, unsigned i, const struct body_loc *loc)
{
    char text[32];
    char got[32];
    struct error err = {0};
    struct span bytes = bytes_of(i, text);

    assert_int_equal(packs_pread(p, loc->file, loc->offset, got, bytes.n, &err),
                     ERR_OK);
    assert_memory_equal(got, bytes.p, bytes.n);
}

static struct packs *
open_packs(struct env *env, uint64_t pack_bytes)
{
    struct packs *p = NULL;
    struct error err = {0};

    assert_int_equal(
        packs_open(env, "/a/packs", 1, &cluster, pack_bytes, &p, &err), ERR_OK);
    return p;
}

static void
count_frame(void *ctx, const struct guid *guid, const struct body_loc *loc)
{
    unsigned *n = ctx;
    struct guid want = guid_of(*n);

    assert_true(guid_eq(guid, &want));
    assert_int_equal(loc->part, 0);
    (*n)++;
}

static void
test_full_pack_is_followed_by_a_new_one(void **state)
{
    (void)state;
    struct env_sim *sim = env_sim_new(NULL);
    struct packs *p = open_packs(env_sim_env(sim), PACK_HEADER_BYTES + 200);
    struct body_loc locs[100];
    struct error err = {0};
    unsigned n = 0;
    uint64_t torn = 1;

    assert_int_equal(append_some(p, 0, 100, locs, &err), ERR_OK);
    assert_int_equal(locs[0].file, 1);
    assert_int_equal(locs[2].file, 1);
    assert_int_equal(locs[3].file, 2);
    assert_true(locs[99].file > 32); /* more than are kept open */
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < 100; i++)
            assert_reads(p, i, &locs[i]);
    assert_int_equal(packs_verify(p, 1, count_frame, &n, &torn, &err), ERR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(torn, 0);
    assert_int_equal(packs_verify(p, 1000, NULL, NULL, &torn, &err),
                     ERR_NOTFOUND);
    char c;
    assert_int_equal(packs_pread(p, 1000, 0, &c, 1, &err), ERR_GAP);
    assert_int_equal(packs_pread(p, 0, 0, &c, 1, &err), ERR_GAP);
    assert_int_equal(packs_pread(p, 1, 1U << 20, &c, 1, &err), ERR_GAP);
    assert_int_equal(packs_remove(p, 1, &err), ERR_OK);
    assert_int_equal(packs_remove(p, 1, &err), ERR_OK);
    assert_int_equal(packs_pread(p, 1, 0, &c, 1, &err), ERR_GAP);
    packs_close(&p);
    packs_close(&p);
    env_sim_free(&sim);
}

static void
test_pack_of_before_is_never_appended_to(void **state)
{
    (void)state;
    struct env_sim *sim = env_sim_new(NULL);
    struct packs *p = open_packs(env_sim_env(sim), 0);
    struct body_loc locs[4];
    struct error err = {0};

    assert_int_equal(append_some(p, 0, 2, locs, &err), ERR_OK);
    packs_close(&p);
    p = open_packs(env_sim_env(sim), 0);
    assert_int_equal(append_some(p, 2, 4, locs, &err), ERR_OK);
    assert_int_equal(locs[1].file, 1);
    assert_int_equal(locs[2].file, 2);
    for (unsigned i = 0; i < 4; i++)
        assert_reads(p, i, &locs[i]);
    packs_close(&p);
    env_sim_free(&sim);
}

/* Whatever the power cut takes of an unsynced tail, what was synced is there
 * and what is behind it is at most torn. */
static void
test_power_cut_keeps_what_was_synced(void **state)
{
    (void)state;

    for (uint64_t seed = 1; seed < 60; seed++) {
        struct env_sim *sim = env_sim_new(NULL);
        struct packs *p = open_packs(env_sim_env(sim), 0);
        struct body_loc locs[20];
        struct error err = {0};
        char text[32];
        /* Its directory is durable, as that of an instance is. */
        assert_int_equal(env_syncdir(env_sim_env(sim), "/", &err), ERR_OK);
        assert_int_equal(env_syncdir(env_sim_env(sim), "/a", &err), ERR_OK);
        assert_int_equal(append_some(p, 0, 10, locs, &err), ERR_OK);
        for (unsigned i = 10; i < 20; i++) {
            struct guid guid = guid_of(i);
            struct span bytes = bytes_of(i, text);
            locs[i] = loc_of(bytes);
            assert_int_equal(packs_append(p, &guid, &locs[i], bytes, &err),
                             ERR_OK);
        }
        env_sim_crash(sim, seed);
        packs_close(&p);
        p = open_packs(env_sim_env(sim), 0);
        for (unsigned i = 0; i < 10; i++)
            assert_reads(p, i, &locs[i]);
        unsigned n = 0;
        uint64_t torn = 0;
        assert_int_equal(packs_verify(p, 1, count_frame, &n, &torn, &err),
                         ERR_OK);
        assert_true(n >= 10);
        packs_close(&p);
        env_sim_free(&sim);
    }
}

static size_t
count_packs(struct env *env)
{
    struct packs *p = open_packs(env, 0);
    struct error err = {0};
    uint64_t *numbers = NULL;
    size_t n = 0;

    assert_int_equal(packs_list(p, &numbers, &n, &err), ERR_OK);
    free(numbers);
    packs_close(&p);
    return n;
}

/* None of them comes back by a loss of power, also not one that was removed a
 * moment before. */
static void
test_packs_that_were_set_aside_stay_so(void **state)
{
    (void)state;

    for (uint64_t seed = 1; seed < 60; seed++) {
        struct env_sim *sim = env_sim_new(NULL);
        struct env *env = env_sim_env(sim);
        struct error err = {0};
        struct packs *p = open_packs(env, 0);
        struct body_loc locs[10];

        assert_int_equal(append_some(p, 0, 10, locs, &err), ERR_OK);
        if (seed % 2 == 0)
            assert_int_equal(packs_remove(p, packs_current(p), &err), ERR_OK);
        packs_close(&p);
        assert_int_equal(packs_set_aside(env, "/a/packs", "old", &err), ERR_OK);
        env_sim_crash(sim, seed);
        assert_int_equal(count_packs(env), 0);
        env_sim_free(&sim);
    }
}

/* The n-th call fails, in each of its ways: nothing that a good sync promised
 * is lost, the failure is told, and the next attempt goes through. */
static void
test_nth_call_fails_and_the_next_attempt_succeeds(void **state)
{
    (void)state;
    static const enum env_fault_action actions[] = {FAULT_FAIL, FAULT_LATE,
                                                    FAULT_TORN};
    static const int errnos[] = {EIO, ENOSPC};
    bool more = true;

    for (unsigned nth = 1; more; nth++) {
        more = false;
        for (size_t a = 0; a < ARRAY_LEN(actions); a++)
            for (size_t e = 0; e < ARRAY_LEN(errnos); e++) {
                struct env_sim *sim = env_sim_new(NULL);
                struct env_fault *fault = env_fault_new(env_sim_env(sim));
                struct packs *p =
                    open_packs(env_fault_env(fault), PACK_HEADER_BYTES + 200);
                struct body_loc locs[10];
                struct error err = {0};
                env_fault_add(fault,
                              &(struct env_fault_rule){.kinds = FAULT_CHANGES,
                                                       .nth = nth,
                                                       .action = actions[a],
                                                       .sys_errno = errnos[e]});
                enum errcode rc = append_some(p, 0, 5, locs, &err);
                if (env_fault_hits(fault) > 0) {
                    more = true;
                    assert_int_equal(rc,
                                     errnos[e] == EIO ? ERR_IO : ERR_NOSPACE);
                    (void)!packs_sync(p, &err);
                    rc = append_some(p, 0, 5, locs, &err);
                }
                env_fault_clear(fault);
                assert_int_equal(rc, ERR_OK);
                assert_int_equal(append_some(p, 5, 10, locs, &err), ERR_OK);
                for (unsigned i = 0; i < 10; i++)
                    assert_reads(p, i, &locs[i]);
                packs_close(&p);
                env_fault_free(&fault);
                env_sim_free(&sim);
            }
    }
}

/* A body is lost by a failed write in the middle: the sync that follows says
 * so, though the write that failed was another one. */
static void
test_sync_after_a_loss_says_so_once(void **state)
{
    (void)state;
    struct env_sim *sim = env_sim_new(NULL);
    struct env_fault *fault = env_fault_new(env_sim_env(sim));
    struct packs *p = open_packs(env_fault_env(fault), 0);
    struct body_loc locs[10];
    struct error err = {0};
    char text[32];
    struct guid guid = guid_of(0);
    struct span bytes = bytes_of(0, text);
    struct body_loc loc = loc_of(bytes);

    assert_int_equal(append_some(p, 0, 1, locs, &err), ERR_OK);
    env_fault_add(fault, &(struct env_fault_rule){.kinds = FAULT_WRITE,
                                                  .nth = 2,
                                                  .action = FAULT_FAIL,
                                                  .sys_errno = ENOSPC});
    assert_int_equal(packs_append(p, &guid, &loc, bytes, &err), ERR_OK);
    assert_int_equal(packs_append(p, &guid, &loc, bytes, &err), ERR_NOSPACE);
    assert_int_equal(packs_append(p, &guid, &loc, bytes, &err), ERR_NOSPACE);
    assert_int_equal(packs_sync(p, &err), ERR_NOSPACE);
    assert_int_equal(packs_sync(p, &err), ERR_OK);
    assert_int_equal(append_some(p, 1, 2, locs, &err), ERR_OK);
    assert_int_equal(locs[1].file, 2);
    assert_reads(p, 0, &locs[0]);
    packs_close(&p);
    env_fault_free(&fault);
    env_sim_free(&sim);
}

static void
test_damaged_or_foreign_first_block_is_corrupt(void **state)
{
    (void)state;
    struct env_sim *sim = env_sim_new(NULL);
    struct packs *p = open_packs(env_sim_env(sim), 0);
    struct packs *other = NULL;
    struct instid foreign = {{9}};
    struct body_loc locs[1];
    struct error err = {0};
    uint64_t torn;

    assert_int_equal(append_some(p, 0, 1, locs, &err), ERR_OK);
    assert_int_equal(
        packs_open(env_sim_env(sim), "/a/packs", 1, &foreign, 0, &other, &err),
        ERR_OK);
    assert_int_equal(packs_verify(other, 1, NULL, NULL, &torn, &err),
                     ERR_CORRUPT);
    packs_close(&other);
    assert_true(
        env_sim_flip_bit(sim, "/a/packs/pack-0000000000000001.plx", 40, 3));
    assert_int_equal(packs_verify(p, 1, NULL, NULL, &torn, &err), ERR_CORRUPT);
    packs_close(&p);
    env_sim_free(&sim);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_block_has_its_golden_bytes),
        cmocka_unit_test(test_block_of_a_newer_version_is_refused),
        cmocka_unit_test(test_frame_has_its_golden_bytes),
        cmocka_unit_test(test_full_pack_is_followed_by_a_new_one),
        cmocka_unit_test(test_pack_of_before_is_never_appended_to),
        cmocka_unit_test(test_power_cut_keeps_what_was_synced),
        cmocka_unit_test(test_packs_that_were_set_aside_stay_so),
        cmocka_unit_test(test_nth_call_fails_and_the_next_attempt_succeeds),
        cmocka_unit_test(test_sync_after_a_loss_says_so_once),
        cmocka_unit_test(test_damaged_or_foreign_first_block_is_corrupt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
