/*
 * tests/admin/test_backup.c - the bytes of a backup (admin/backup_format.c):
 * golden ones, each also cut at every byte and with every bit turned over; the
 * limits; and files written and read again, with a write that fails at every
 * place (admin/backup_files.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <xxhash.h>

#include "admin/backup_dir.h"
#include "base/env_fault.h"
#include "base/env_sim.h"

#define GOLDEN_BODY                                                            \
    "pollux-backup 1\n"                                                        \
    "generation 3\n"                                                           \
    "cluster 000102030405060708090a0b0c0d0e0f\n"                               \
    "epoch 7\n"                                                                \
    "lsn 4182\n"                                                               \
    "chain 0123456789abcdef\n"                                                 \
    "digest fedcba9876543210\n"                                                \
    "time 1767225600000000\n"                                                  \
    "made 1767225601000000\n"                                                  \
    "rows 12\n"                                                                \
    "bodies 5\n"                                                               \
    "bytes 2000\n"                                                             \
    "new 2\n"                                                                  \
    "newbytes 900\n"                                                           \
    "lost 1\n"                                                                 \
    "file rows 1 100 00000000000000aa\n"                                       \
    "file index 1 200 00000000000000bb\n"                                      \
    "file pack 4 300 00000000000000cc\n"                                       \
    "file pack 9 400 00000000000000dd\n"

static const struct backup_file golden_files[] = {
    {BACKUP_ROWS, 1, 100, 0xaa},
    {BACKUP_INDEX, 1, 200, 0xbb},
    {BACKUP_PACK, 4, 300, 0xcc},
    {BACKUP_PACK, 9, 400, 0xdd},
};

static const struct instid cluster = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};

static struct backup_manifest
golden(void)
{
    return (struct backup_manifest){
        .generation = 3,
        .cluster = cluster,
        .pos = {.applied = {7, 4182},
                .chain = UINT64_C(0x0123456789abcdef),
                .digest = UINT64_C(0xfedcba9876543210),
                .time_us = 1767225600000000},
        .made_us = 1767225601000000,
        .rows = 12,
        .bodies = 5,
        .body_bytes = 2000,
        .new_bodies = 2,
        .new_bytes = 900,
        .lost = 1,
        .files = golden_files,
        .nfiles = ARRAY_LEN(golden_files),
    };
}

/* TEXT with the check that belongs to it. */
static void
checked(const char *text, struct buf *out)
{
    buf_clear(out);
    buf_add_str(out, text);
    buf_addf(out, "check %016" PRIx64 "\n",
             (uint64_t)XXH3_64bits(text, strlen(text)));
}

static enum errcode
decode(struct span in)
{
    struct arena a = ARENA_INIT;
    struct backup_manifest m;
    struct error err = {0};
    enum errcode rc = backup_manifest_decode(in, &a, &m, &err);

    arena_free(&a);
    return rc;
}

static void
test_manifest_has_golden_bytes(void **state)
{
    AUTO(buf_free) struct buf want = BUF_INIT;
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct arena a = ARENA_INIT;
    struct backup_manifest m = golden();
    struct backup_manifest again;
    struct error err = {0};

    (void)state;
    checked(GOLDEN_BODY, &want);
    backup_manifest_encode(&m, &got);
    assert_string_equal(buf_cstr(&got), buf_cstr(&want));
    assert_int_equal(backup_manifest_decode(buf_span(&got), &a, &again, &err),
                     ERR_OK);
    assert_int_equal(again.generation, 3);
    assert_int_equal(again.pos.applied.lsn, 4182);
    assert_int_equal(again.lost, 1);
    assert_int_equal(again.nfiles, ARRAY_LEN(golden_files));
    assert_memory_equal(again.files, golden_files, sizeof(golden_files));
    arena_free(&a);
}

static void
test_manifest_cut_or_flipped_anywhere_is_refused(void **state)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    (void)state;
    checked(GOLDEN_BODY, &text);
    for (size_t n = 0; n < text.n; n++)
        assert_int_not_equal(decode(span_sub(buf_span(&text), 0, n)), ERR_OK);
    for (size_t bit = 0; bit < 8 * text.n; bit++) {
        text.p[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        assert_int_not_equal(decode(buf_span(&text)), ERR_OK);
        text.p[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    buf_add_byte(&text, '\n');
    assert_int_equal(decode(buf_span(&text)), ERR_CORRUPT);
}

/* GOLDEN_BODY with OLD as NEW, and a good check. */
static enum errcode
decode_with(const char *old, const char *new)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    AUTO(buf_free) struct buf in = BUF_INIT;
    struct span body = SPAN_LIT(GOLDEN_BODY);
    ptrdiff_t at = span_find(body, span_str(old));

    assert_true(at >= 0);
    buf_add(&text, span_sub(body, 0, (size_t)at));
    buf_add_str(&text, new);
    buf_add(&text, span_skip(body, (size_t)at + strlen(old)));
    checked(buf_cstr(&text), &in);
    return decode(buf_span(&in));
}

static void
test_manifest_has_one_spelling(void **state)
{
    (void)state;
    assert_int_equal(decode_with("lsn 4182", "lsn 4182"), ERR_OK);
    assert_int_equal(decode_with("pollux-backup 1", "pollux-backup 2"),
                     ERR_VERSION);
    assert_int_equal(decode_with("lsn 4182", "lsn 04182"), ERR_CORRUPT);
    assert_int_equal(decode_with("lsn 4182", "lsn -1"), ERR_CORRUPT);
    assert_int_equal(
        decode_with("chain 0123456789abcdef", "chain 0123456789ABCDEF"),
        ERR_CORRUPT);
    assert_int_equal(decode_with("epoch 7", "epoch 99999999"), ERR_CORRUPT);
    assert_int_equal(decode_with("generation 3", "generation 0"), ERR_CORRUPT);
    assert_int_equal(decode_with("file pack 9", "file pack 4"), ERR_CORRUPT);
    assert_int_equal(decode_with("file pack 9", "file rows 2"), ERR_CORRUPT);
    assert_int_equal(decode_with("file rows 1", "file rows 2"), ERR_CORRUPT);
    assert_int_equal(decode_with("file rows 1", "file mail 1"), ERR_CORRUPT);
    assert_int_equal(decode_with("rows 12\n", ""), ERR_CORRUPT);
}

static void
test_manifest_of_too_many_bytes_or_files_is_a_limit(void **state)
{
    struct buf big = BUF_INIT;

    (void)state;
    memset(buf_reserve(&big, BACKUP_MANIFEST_MAX + 1), 'x',
           BACKUP_MANIFEST_MAX + 1);
    big.n = BACKUP_MANIFEST_MAX + 1;
    assert_int_equal(decode(buf_span(&big)), ERR_LIMIT);
    buf_clear(&big);
    buf_add_str(&big, GOLDEN_BODY);
    for (size_t i = 0; i < BACKUP_FILES_MAX + 2; i++)
        buf_add_str(&big, "\n");
    assert_int_equal(decode(buf_span(&big)), ERR_LIMIT);
    buf_free(&big);
}

static void
test_head_and_frame_have_golden_bytes(void **state)
{
    static const uint8_t want[16] = {'P', 'L', 'X', 'B', 'K', 'U',
                                     'P', 0,   1,   0,   0,   0};
    struct backup_head h = {cluster, 3, BACKUP_INDEX, 2};
    struct backup_head got;
    struct backup_entry e = {{{1, 2, 3}}, 4, 5, 6, 7}, again = e;
    uint8_t out[BACKUP_HEAD_BYTES], frame[BACKUP_FRAME_BYTES];
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    AUTO(buf_free) struct buf entry = BUF_INIT;
    struct error err = {0};
    struct span payload;
    size_t used;

    (void)state;
    backup_head_encode(&h, out);
    assert_memory_equal(out, want, 12);
    assert_memory_equal(out + 16, cluster.b, 16);
    assert_int_equal(out[32], 3);
    assert_int_equal(out[40], 2);
    assert_int_equal(out[48], 2);
    assert_int_equal(backup_head_decode(span_of(out, 64), &got, &err), ERR_OK);
    assert_int_equal(got.number, 2);
    for (size_t bit = 0; bit < 8 * sizeof(out); bit++) {
        out[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        assert_int_equal(backup_head_decode(span_of(out, 64), &got, &err),
                         ERR_CORRUPT);
        out[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    assert_int_equal(backup_head_decode(span_of(out, 63), &got, &err),
                     ERR_CORRUPT);
    out[8] = 2;
    memset(out + 12, 0, 4);
    uint32_t sum = (uint32_t)XXH3_64bits(out, sizeof(out));
    for (size_t i = 0; i < 4; i++)
        out[12 + i] = (uint8_t)(sum >> (8 * i));
    assert_int_equal(backup_head_decode(span_of(out, 64), &got, &err),
                     ERR_VERSION);

    backup_entry_encode(&e, &entry);
    assert_int_equal(entry.n, BACKUP_ENTRY_BYTES);
    assert_int_equal(entry.p[20], 4);
    assert_int_equal(entry.p[44], 7);
    backup_frame_encode(buf_span(&entry), frame);
    assert_memory_equal(frame, "PLXK\x34\0\0\0", 8);
    buf_add(&bytes, span_of(frame, sizeof(frame)));
    buf_add(&bytes, buf_span(&entry));
    for (size_t n = 0; n < bytes.n; n++)
        assert_int_equal(backup_frame_decode(span_sub(buf_span(&bytes), 0, n),
                                             &payload, &used),
                         PARSE_MORE);
    assert_int_equal(backup_frame_decode(buf_span(&bytes), &payload, &used),
                     PARSE_DONE);
    struct rd r = rd_init(payload);
    backup_entry_read(&r, &again);
    assert_true(rd_done(&r));
    assert_memory_equal(&again, &e, sizeof(e));
    bytes.p[bytes.n - 1] ^= 1;
    assert_int_equal(backup_frame_decode(buf_span(&bytes), &payload, &used),
                     PARSE_BAD);
}

/* ---- files ------------------------------------------------------------- */

#define ROWS 6000U

static enum errcode
write_rows(struct env *env, struct backup_manifest *m,
           struct backup_file files[8], struct error *err)
{
    struct backup_head h = {cluster, 3, BACKUP_ROWS, 0};
    struct backup_out o;
    uint8_t value[1000];

    memset(value, 'v', sizeof(value));
    enum errcode rc = env_mkdirs(env, "/backup", err);
    if (rc != ERR_OK)
        return rc;
    backup_out_init(&o, env, "/backup", &h, 1, (uint64_t)2 << 20);
    for (uint32_t i = 0; rc == ERR_OK && i < ROWS; i++)
        rc = backup_out_row(&o, span_of(&i, sizeof(i)),
                            span_of(value, i % sizeof(value)), err);
    if (rc == ERR_OK)
        rc = backup_out_end(&o, err);
    if (rc == ERR_OK) {
        assert_true(o.nfiles > 0 && o.nfiles <= 8);
        memcpy(files, o.files, o.nfiles * sizeof(*files));
        *m = (struct backup_manifest){.generation = 3,
                                      .cluster = cluster,
                                      .files = files,
                                      .nfiles = o.nfiles};
    }
    backup_out_free(&o);
    return rc;
}

static enum errcode
read_rows(struct env *env, const struct backup_manifest *m, uint32_t *ret_n,
          struct error *err)
{
    struct backup_in in;
    struct span key, value;
    bool end = false;
    uint32_t n = 0, i;

    backup_in_init(&in, env, "/backup", m, BACKUP_ROWS);
    enum errcode rc = backup_in_row(&in, &key, &value, &end, err);
    for (; rc == ERR_OK && !end; n++) {
        assert_int_equal(key.n, sizeof(i));
        memcpy(&i, key.p, sizeof(i));
        assert_int_equal(i, n);
        assert_int_equal(value.n, n % 1000);
        rc = backup_in_row(&in, &key, &value, &end, err);
    }
    backup_in_free(&in);
    *ret_n = n;
    return rc;
}

static void
test_rows_come_back_from_files_of_bounded_size(void **state)
{
    struct env_sim_options options = {.seed = 1};
    struct env_sim *sim = env_sim_new(&options);
    struct env *env = env_sim_env(sim);
    struct backup_manifest m;
    struct backup_file files[8];
    struct error err = {0};
    uint32_t n = 0;

    (void)state;
    assert_int_equal(write_rows(env, &m, files, &err), ERR_OK);
    assert_true(m.nfiles > 1);
    for (size_t i = 0; i < m.nfiles; i++)
        assert_true(files[i].bytes <= (uint64_t)2 << 20);
    assert_int_equal(read_rows(env, &m, &n, &err), ERR_OK);
    assert_int_equal(n, ROWS);
    files[1].hash ^= 1;
    assert_int_equal(read_rows(env, &m, &n, &err), ERR_CORRUPT);
    files[1].hash ^= 1;
    files[0].bytes--;
    assert_int_equal(read_rows(env, &m, &n, &err), ERR_CORRUPT);
    files[0].bytes++;
    m.generation = 4;
    assert_int_equal(read_rows(env, &m, &n, &err), ERR_NOTFOUND);
    env_sim_free(&sim);
}

/* An error at every call that changes the disk is told, and no file is left
 * that is said to be whole. */
static void
test_writing_tells_each_error(void **state)
{
    struct env_sim_options options = {.seed = 1};
    struct backup_manifest m;
    struct backup_file files[8];
    enum errcode rc = ERR_IO;
    unsigned nth;

    (void)state;
    for (nth = 1; rc != ERR_OK; nth++) {
        struct env_sim *sim = env_sim_new(&options);
        struct env_fault *fault = env_fault_new(env_sim_env(sim));
        struct env_fault_rule rule = {.kinds = FAULT_CHANGES,
                                      .nth = nth,
                                      .action = FAULT_TORN,
                                      .sys_errno = nth % 2 == 0 ? 28 : 5};
        struct error err = {0};
        env_fault_add(fault, &rule);
        rc = write_rows(env_fault_env(fault), &m, files, &err);
        if (rc != ERR_OK)
            assert_int_equal(rc, nth % 2 == 0 ? ERR_NOSPACE : ERR_IO);
        env_fault_free(&fault);
        env_sim_free(&sim);
    }
    assert_true(nth > 8);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest_has_golden_bytes),
        cmocka_unit_test(test_manifest_cut_or_flipped_anywhere_is_refused),
        cmocka_unit_test(test_manifest_has_one_spelling),
        cmocka_unit_test(test_manifest_of_too_many_bytes_or_files_is_a_limit),
        cmocka_unit_test(test_head_and_frame_have_golden_bytes),
        cmocka_unit_test(test_rows_come_back_from_files_of_bounded_size),
        cmocka_unit_test(test_writing_tells_each_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
