/*
 * tests/store/test_body.c - bodies in and out: limits, spilling, compression,
 * the bytes of their places, and that a damaged one is never given out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/env_sim.h"
#include "store/body_private.h"
#include "store/rows.h"

static const struct instid cluster = {{1, 2, 3}};

static uint64_t
next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* N bytes, some of them easy to compress; the caller frees them. */
static uint8_t *
make_bytes(size_t n, unsigned easy_of_16, uint64_t seed)
{
    uint8_t *p = xmalloc(n + 1);
    uint64_t s = seed * 2 + 1;

    for (size_t i = 0; i < n; i++) {
        uint64_t r = next_random(&s);
        p[i] = (i / 4096) % 16 < easy_of_16 ? 'x' : (uint8_t)r;
    }
    return p;
}

static struct body *
make_body(struct span bytes, size_t step)
{
    struct body *b = body_new(env_system(), "/tmp", 64U << 20);
    struct error err = {0};

    for (size_t at = 0; at < bytes.n; at += step)
        assert_int_equal(body_write(b, span_sub(bytes, at, step), &err),
                         ERR_OK);
    assert_int_equal(body_finish(b, &err), ERR_OK);
    return b;
}

/* Everything that a body says of itself is true of BYTES. */
static void
check_body(const struct body *b, struct span bytes)
{
    struct guid want;

    assert_int_equal(
        EVP_Digest(bytes.p, bytes.n, want.b, NULL, EVP_sha1(), NULL), 1);
    assert_true(guid_eq(body_guid(b), &want));
    assert_int_equal(body_size(b), bytes.n);
    assert_true(span_eq(body_raw(b), bytes));
    assert_int_equal(body_part_count(b), body_parts_of(bytes.n));
    uint8_t *raw = xmalloc(BODY_PART_BYTES);
    for (uint32_t i = 0; i < body_part_count(b); i++) {
        struct body_loc loc = {.part = i, .parts = body_part_count(b)};
        struct span stored =
            body_part(b, i, &loc.encoding, &loc.raw_bytes, &loc.hash);
        loc.size = bytes.n;
        loc.stored_bytes = (uint32_t)stored.n;
        assert_true(body_loc_fits(&loc));
        assert_true(body_unpack(&loc, stored, raw));
        assert_true(span_eq(
            span_of(raw, loc.raw_bytes),
            span_sub(bytes, (size_t)i * BODY_PART_BYTES, loc.raw_bytes)));
        if (loc.encoding == BODY_ZSTD)
            assert_true(stored.n <= loc.raw_bytes - loc.raw_bytes / 20);
    }
    free(raw);
}

static void
test_bodies_of_many_sizes_are_what_was_written(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,
                                   1,
                                   255,
                                   256,
                                   5000,
                                   BODY_PART_BYTES - 1,
                                   BODY_PART_BYTES,
                                   BODY_PART_BYTES + 1,
                                   3 * BODY_PART_BYTES + 77};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (unsigned easy = 0; easy <= 16; easy += 8) {
            uint8_t *p = make_bytes(sizes[i], easy, i);
            struct body *b = make_body(span_of(p, sizes[i]), 65537);
            check_body(b, span_of(p, sizes[i]));
            body_free(&b);
            assert_null(b);
            free(p);
        }
}

static void
test_short_or_random_bytes_stay_raw(void **state)
{
    (void)state;
    uint8_t *p = make_bytes(5000, 0, 1);
    enum body_encoding encoding;
    uint32_t raw_bytes;
    uint64_t hash;
    struct body *b = make_body(span_of(p, 5000), 5000);

    (void)body_part(b, 0, &encoding, &raw_bytes, &hash);
    assert_int_equal(encoding, BODY_RAW);
    body_free(&b);
    memset(p, 'x', 5000);
    b = make_body(span_of(p, 255), 255);
    (void)body_part(b, 0, &encoding, &raw_bytes, &hash);
    assert_int_equal(encoding, BODY_RAW);
    body_free(&b);
    b = make_body(span_of(p, 256), 256);
    (void)body_part(b, 0, &encoding, &raw_bytes, &hash);
    assert_int_equal(encoding, BODY_ZSTD);
    body_free(&b);
    free(p);
}

/* How the one part of a body of BUDGET's is kept. */
static enum body_encoding
encoding_within(struct body_budget *budget)
{
    struct body *b = body_new(env_system(), "/tmp", 5000);
    enum body_encoding encoding;
    struct error err = {0};
    uint32_t raw_bytes;
    uint64_t hash;
    uint8_t p[5000];

    memset(p, 'x', sizeof(p));
    body_set_budget(b, budget);
    assert_int_equal(body_write(b, span_of(p, sizeof(p)), &err), ERR_OK);
    assert_int_equal(body_finish(b, &err), ERR_OK);
    check_body(b, span_of(p, sizeof(p)));
    (void)body_part(b, 0, &encoding, &raw_bytes, &hash);
    body_free(&b);
    return encoding;
}

static void
test_bodies_are_compressed_while_the_budget_has_it(void **state)
{
    struct body_budget budget;

    (void)state;
    body_budget_init(&budget, COMPRESS_AUTO);
    assert_int_equal(encoding_within(&budget), BODY_ZSTD);
    /* What it took is paid for, several times. */
    const uint64_t now_ns = env_mono_ns(env_system());
    assert_true(atomic_load(&budget.paid_until_ns) > now_ns / 2);
    atomic_store(&budget.paid_until_ns, now_ns + UINT64_C(1000000000000));
    assert_int_equal(encoding_within(&budget), BODY_RAW);
    assert_int_equal(atomic_load(&budget.paid_until_ns),
                     now_ns + UINT64_C(1000000000000));
    /* Something is saved up. */
    atomic_store(&budget.paid_until_ns, now_ns + UINT64_C(10000000));
    assert_int_equal(encoding_within(&budget), BODY_ZSTD);
    assert_true(atomic_load(&budget.paid_until_ns) >
                now_ns + UINT64_C(10000000));

    body_budget_init(&budget, COMPRESS_LATER);
    assert_int_equal(encoding_within(&budget), BODY_RAW);
    body_budget_init(&budget, COMPRESS_ALWAYS);
    atomic_store(&budget.paid_until_ns, UINT64_MAX);
    assert_int_equal(encoding_within(&budget), BODY_ZSTD);
}

static void
test_body_over_its_limit_is_refused_for_good(void **state)
{
    (void)state;
    struct body *b = body_new(env_system(), "/tmp", 10);
    struct error err = {0};

    assert_int_equal(body_write(b, SPAN_LIT("0123456789"), &err), ERR_OK);
    assert_int_equal(body_write(b, SPAN_EMPTY, &err), ERR_OK);
    assert_int_equal(body_write(b, SPAN_LIT("0"), &err), ERR_LIMIT);
    assert_int_equal(body_write(b, SPAN_EMPTY, &err), ERR_LIMIT);
    assert_int_equal(body_finish(b, &err), ERR_LIMIT);
    body_free(&b);
}

static void
test_body_that_cannot_spill_is_an_io_error(void **state)
{
    (void)state;
    struct body *b = body_new(env_system(), "/nonexistent/place", 64U << 20);
    struct error err = {0};
    uint8_t *p = make_bytes(BODY_PART_BYTES + 1, 0, 1);

    assert_int_equal(body_write(b, span_of(p, BODY_PART_BYTES + 1), &err),
                     ERR_IO);
    assert_int_equal(body_finish(b, &err), ERR_IO);
    body_free(&b);
    free(p);
}

static void
test_body_is_shared_until_its_last_holder(void **state)
{
    (void)state;
    struct body *b = make_body(SPAN_LIT("hello"), 5);
    struct body *second = body_ref(b);

    body_free(&b);
    assert_true(span_eq_str(body_raw(second), "hello"));
    body_free(&second);
    body_free(&second);
}

static const struct body_loc golden_loc = {
    .home = BODY_IN_PACK,
    .encoding = BODY_ZSTD,
    .dir = 3,
    .file = 300,
    .offset = 4160,
    .stored_bytes = 700,
    .raw_bytes = 1000,
    .hash = 0x1122334455667788,
    .part = 1,
    .parts = 2,
    .size = BODY_PART_BYTES + 1000,
};

static void
test_place_has_its_golden_bytes(void **state)
{
    (void)state;
    static const uint8_t golden[] = {
        2, 2,    1,    3,    0xac, 0x02, 0xc0, 0x20, 0xbc, 0x05, 0xe8, 0x07,
        1, 0xe8, 0x87, 0x40, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
    struct buf b = BUF_INIT;
    struct body_loc loc = {0};
    struct error err = {0};

    body_loc_encode(&golden_loc, &b);
    assert_int_equal(b.n, sizeof(golden));
    assert_memory_equal(b.p, golden, sizeof(golden));
    assert_int_equal(body_loc_decode(buf_span(&b), &loc, &err), ERR_OK);
    assert_int_equal(loc.home, golden_loc.home);
    assert_int_equal(loc.encoding, golden_loc.encoding);
    assert_int_equal(loc.dir, golden_loc.dir);
    assert_int_equal(loc.file, golden_loc.file);
    assert_int_equal(loc.offset, golden_loc.offset);
    assert_int_equal(loc.stored_bytes, golden_loc.stored_bytes);
    assert_int_equal(loc.raw_bytes, golden_loc.raw_bytes);
    assert_int_equal(loc.part, golden_loc.part);
    assert_int_equal(loc.parts, golden_loc.parts);
    assert_true(loc.hash == golden_loc.hash);
    assert_true(loc.size == golden_loc.size);
    for (size_t cut = 0; cut < b.n; cut++)
        assert_int_equal(
            body_loc_decode(span_sub(buf_span(&b), 0, cut), &loc, &err),
            ERR_CORRUPT);
    b.p[0] = 1;
    assert_int_equal(body_loc_decode(buf_span(&b), &loc, &err), ERR_VERSION);
    b.p[0] = 3;
    assert_int_equal(body_loc_decode(buf_span(&b), &loc, &err), ERR_VERSION);
    b.p[0] = 2;
    b.p[1] = 3;
    assert_int_equal(body_loc_decode(buf_span(&b), &loc, &err), ERR_CORRUPT);
    b.p[1] = 2;
    b.p[3] = 0; /* a pack in no directory */
    assert_int_equal(body_loc_decode(buf_span(&b), &loc, &err), ERR_CORRUPT);
    b.p[3] = 3;
    b.p[12] = 2; /* part 2 of 2 */
    assert_int_equal(body_loc_decode(buf_span(&b), &loc, &err), ERR_CORRUPT);
    b.p[12] = 1;
    buf_add_byte(&b, 0);
    assert_int_equal(body_loc_decode(buf_span(&b), &loc, &err), ERR_CORRUPT);
    buf_free(&b);
}

/* ---- out ---------------------------------------------------------------- */

struct fixture {
    struct env_sim *sim;
    struct kv *kv;
    struct bodies *bodies;
};

static int
setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    struct error err = {0};

    f->sim = env_sim_new(NULL);
    f->kv = kv_open_mem();
    assert_int_equal(bodies_open(env_sim_env(f->sim), f->kv,
                                 &(struct store_config){.pack_dir = "/packs"},
                                 &cluster, &f->bodies, &err),
                     ERR_OK);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    bodies_close(&f->bodies);
    kv_close(&f->kv);
    env_sim_free(&f->sim);
    free(f);
    return 0;
}

/* Parts [0, PARTS) of B into a pack and their rows into the table. */
static void
store_parts(struct fixture *f, const struct body *b, uint32_t parts,
            struct body_loc *ret_last)
{
    struct kv_batch *batch = kv_batch_new();
    struct buf value = BUF_INIT;
    struct error err = {0};
    struct key k;

    for (uint32_t i = 0; i < parts; i++) {
        struct body_loc loc = {
            .part = i, .parts = body_part_count(b), .size = body_size(b)};
        struct span stored =
            body_part(b, i, &loc.encoding, &loc.raw_bytes, &loc.hash);
        loc.stored_bytes = (uint32_t)stored.n;
        assert_int_equal(packs_append(bodies_packs(f->bodies), body_guid(b),
                                      &loc, stored, &err),
                         ERR_OK);
        buf_clear(&value);
        body_loc_encode(&loc, &value);
        kv_batch_put(batch, KV_STATE, key_body(&k, body_guid(b), i),
                     buf_span(&value));
        *ret_last = loc;
    }
    assert_int_equal(packs_sync(bodies_packs(f->bodies), &err), ERR_OK);
    assert_int_equal(kv_write(f->kv, batch, &err), ERR_OK);
    kv_batch_free(&batch);
    buf_free(&value);
}

static void
test_any_range_reads_back(void **state)
{
    struct fixture *f = *state;
    size_t n = 2 * BODY_PART_BYTES + 12345;
    uint8_t *p = make_bytes(n, 8, 7);
    struct body *b = make_body(span_of(p, n), 100000);
    struct body_loc loc;
    uint64_t seed = 99;
    struct error err = {0};

    store_parts(f, b, body_part_count(b), &loc);
    for (int i = 0; i < 200; i++) {
        uint64_t from = next_random(&seed) % (n + 10);
        uint64_t want =
            i % 3 == 0 ? UINT64_MAX : next_random(&seed) % (i % 2 ? n : 3000);
        struct buf out = BUF_INIT;
        buf_add_str(&out, "before");
        assert_int_equal(
            bodies_read(f->bodies, NULL, body_guid(b), from, want, &out, &err),
            ERR_OK);
        struct span whole =
            span_sub(span_of(p, n), (size_t)from, (size_t)MIN(want, SIZE_MAX));
        assert_true(span_eq(span_skip(buf_span(&out), 6), whole));
        buf_free(&out);
    }
    uint64_t size = 0;
    assert_int_equal(bodies_stat(f->bodies, NULL, body_guid(b), &size, &err),
                     ERR_OK);
    assert_int_equal(size, n);
    body_free(&b);
    free(p);
}

static void
test_more_slices_than_the_cache_holds_read_back(void **state)
{
    struct fixture *f = *state;
    size_t n = 14 * BODY_PART_BYTES;
    uint8_t *p = make_bytes(n, 16, 7);
    struct body_loc loc;
    struct error err = {0};

    for (size_t i = 0; i < n; i += 1000)
        p[i] = (uint8_t)(i / 1000);
    struct body *b = make_body(span_of(p, n), n);
    store_parts(f, b, body_part_count(b), &loc);
    struct buf out = BUF_MAX(1000);
    for (size_t round = 0; round < 2; round++)
        for (size_t at = 500; at + 1000 < n; at += BODY_PART_BYTES / 3) {
            buf_clear(&out);
            assert_int_equal(bodies_read(f->bodies, NULL, body_guid(b), at,
                                         1000, &out, &err),
                             ERR_OK);
            assert_memory_equal(out.p, p + at, 1000);
        }
    buf_clear(&out);
    assert_int_equal(
        bodies_read(f->bodies, NULL, body_guid(b), 0, 1001, &out, &err),
        ERR_LIMIT);
    buf_free(&out);
    body_free(&b);
    free(p);
}

static void
test_body_that_is_not_here_is_not_found(void **state)
{
    struct fixture *f = *state;
    struct guid guid = {{1}};
    struct buf out = BUF_INIT;
    struct error err = {0};
    uint64_t size;

    assert_int_equal(
        bodies_read(f->bodies, NULL, &guid, 0, UINT64_MAX, &out, &err),
        ERR_NOTFOUND);
    assert_int_equal(bodies_stat(f->bodies, NULL, &guid, &size, &err),
                     ERR_NOTFOUND);
}

static void
test_body_without_all_parts_is_not_whole(void **state)
{
    struct fixture *f = *state;
    size_t n = 2 * BODY_PART_BYTES;
    uint8_t *p = make_bytes(n, 8, 7);
    struct body *b = make_body(span_of(p, n), n);
    struct body_loc loc;
    struct buf out = BUF_INIT;
    struct error err = {0};
    uint64_t size;

    store_parts(f, b, 1, &loc);
    assert_int_equal(bodies_stat(f->bodies, NULL, body_guid(b), &size, &err),
                     ERR_NOTFOUND);
    assert_int_equal(
        bodies_read(f->bodies, NULL, body_guid(b), 0, n, &out, &err),
        ERR_NOTFOUND);
    assert_int_equal(out.n, 0);
    buf_free(&out);
    body_free(&b);
    free(p);
}

/* Each bit in turn of a stored body is turned over: it is not given out. */
static void
test_damaged_body_is_never_given_out(void **state)
{
    struct fixture *f = *state;

    for (unsigned easy = 0; easy <= 16; easy += 16) {
        uint8_t *p = make_bytes(600, easy, 3);
        struct body *b = make_body(span_of(p, 600), 600);
        struct body_loc loc;
        struct error err = {0};
        store_parts(f, b, 1, &loc);
        assert_int_equal(loc.encoding, easy == 0 ? BODY_RAW : BODY_ZSTD);
        char *path = xasprintf("/packs/pack-%016" PRIx64 ".plx", loc.file);
        for (uint32_t at = 0; at < loc.stored_bytes; at++) {
            unsigned bit = at % 8;
            struct buf out = BUF_INIT;
            assert_true(env_sim_flip_bit(f->sim, path, loc.offset + at, bit));
            assert_int_equal(
                bodies_read(f->bodies, NULL, body_guid(b), 0, 600, &out, &err),
                ERR_CORRUPT);
            assert_int_equal(out.n, 0);
            assert_true(env_sim_flip_bit(f->sim, path, loc.offset + at, bit));
            buf_free(&out);
        }
        struct buf out = BUF_INIT;
        assert_int_equal(
            bodies_read(f->bodies, NULL, body_guid(b), 0, 600, &out, &err),
            ERR_OK);
        assert_memory_equal(out.p, p, 600);
        buf_free(&out);
        free(path);
        body_free(&b);
        free(p);
    }
}

static void
test_body_whose_pack_is_gone_is_corrupt(void **state)
{
    struct fixture *f = *state;
    struct body *b = make_body(SPAN_LIT("hello"), 5);
    struct body_loc loc;
    struct buf out = BUF_INIT;
    struct error err = {0};

    store_parts(f, b, 1, &loc);
    assert_int_equal(packs_remove(bodies_packs(f->bodies), loc.file, &err),
                     ERR_OK);
    assert_int_equal(
        bodies_read(f->bodies, NULL, body_guid(b), 0, 5, &out, &err),
        ERR_CORRUPT);
    buf_free(&out);
    body_free(&b);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies_of_many_sizes_are_what_was_written),
        cmocka_unit_test(test_short_or_random_bytes_stay_raw),
        cmocka_unit_test(test_bodies_are_compressed_while_the_budget_has_it),
        cmocka_unit_test(test_body_over_its_limit_is_refused_for_good),
        cmocka_unit_test(test_body_that_cannot_spill_is_an_io_error),
        cmocka_unit_test(test_body_is_shared_until_its_last_holder),
        cmocka_unit_test(test_place_has_its_golden_bytes),
        WITH(test_any_range_reads_back),
        WITH(test_more_slices_than_the_cache_holds_read_back),
        WITH(test_body_that_is_not_here_is_not_found),
        WITH(test_body_without_all_parts_is_not_whole),
        WITH(test_damaged_body_is_never_given_out),
        WITH(test_body_whose_pack_is_gone_is_corrupt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
