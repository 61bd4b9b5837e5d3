/*
 * tests/store/test_kv_pair.c - derived records may go at any time, and nothing
 * else goes with them: every file of the cache damaged, of a database that is
 * closed and of one that is open and merging; while the state stays, serves and
 * takes writes.  And the walk over the disk, which sees what is there now.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "store/kv_pair.h"
#include "store/kv_private.h"
#include "store/kv_table.h"
#include "tests/lib/tmpdir.h"

#define ROWS 400U
#define VALUE_BYTES 500U
#define WAIT_S 60

struct place {
    char dir[64];
    struct kv *kv;
};

static const struct kv_front_limits small = {
    .bytes = {[KV_STATE] = 64U << 10, [KV_CACHE] = 64U << 10}};

static void
open_place(struct place *p)
{
    struct kv *below = NULL;
    struct error err = {0};

    if (kv_rocks_below(p->dir, 1U << 20, &below, &err) != ERR_OK)
        fail_msg("%s", err.text);
    p->kv = kv_front_open(below, &small);
}

static int
setup(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));

    snprintf(p->dir, sizeof(p->dir), "/tmp/pollux-kvp-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    open_place(p);
    *state = p;
    return 0;
}

static int
teardown(void **state)
{
    struct place *p = *state;

    kv_close(&p->kv);
    remove_tree(p->dir);
    free(p);
    return 0;
}

static struct span
key_of(char buf[16], unsigned i)
{
    snprintf(buf, 16, "k%08u", i);
    return span_str(buf);
}

/* Rows of both, each with ROUND in it, and on disk. */
static void
fill(struct place *p, unsigned round)
{
    struct kv_batch *b = kv_batch_new();
    struct error err = {0};
    uint8_t value[VALUE_BYTES];
    char key[16];

    for (unsigned i = 0; i < ROWS; i++) {
        for (unsigned j = 0; j < VALUE_BYTES; j++)
            value[j] = (uint8_t)((i * 31 + j * 7) ^ (j >> 3) ^ round);
        value[0] = (uint8_t)round;
        kv_batch_put(b, KV_STATE, key_of(key, i), span_of(value, VALUE_BYTES));
        kv_batch_put(b, KV_CACHE, key_of(key, i), span_of(value, VALUE_BYTES));
    }
    assert_int_equal(kv_write(p->kv, b, &err), ERR_OK);
    kv_batch_free(&b);
    if (kv_flush(p->kv, &err) != ERR_OK)
        fail_msg("%s", err.text);
}

/* How many rows of F there are; those that are must be of ROUND. */
static unsigned
count(struct place *p, enum kv_family f, unsigned round)
{
    unsigned n = 0;
    char key[16];

    for (unsigned i = 0; i < ROWS; i++) {
        AUTO(buf_free) struct buf v = BUF_INIT;
        struct error err = {0};
        enum errcode rc = kv_get(p->kv, NULL, f, key_of(key, i), &v, &err);
        assert_true(rc == ERR_OK || rc == ERR_NOTFOUND);
        if (rc != ERR_OK)
            continue;
        assert_int_equal(v.n, VALUE_BYTES);
        assert_int_equal(v.p[0], round & 0xff);
        n++;
    }
    return n;
}

/* A row that is put into the cache and flushed is there again. */
static void
wait_for_cache(struct place *p, unsigned round)
{
    const time_t end = time(NULL) + WAIT_S;

    do {
        assert_true(time(NULL) < end);
        fill(p, round);
        assert_int_equal(count(p, KV_STATE, round), ROWS);
        kv_close(&p->kv); /* so that nothing is served from memory */
        open_place(p);
    } while (count(p, KV_CACHE, round) != ROWS);
}

/* Turn over a bit of the file at PATH, where its AT-th part of 8 begins. */
static void
flip(const char *path, unsigned at)
{
    FILE *f = fopen(path, "r+b");

    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const long offset = ftell(f) * (long)at / 8;
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    assert_true(c == EOF || fputc(c ^ 0x10, f) != EOF);
    assert_int_equal(fclose(f), 0);
}

/* One bit in each file of the cache that NAMES match; how many. */
static unsigned
flip_all(struct place *p, const char *names, unsigned at)
{
    AUTO(xfree) char *pattern = xasprintf("%s/cache/%s", p->dir, names);
    glob_t found;
    unsigned n = 0;

    if (glob(pattern, 0, NULL, &found) == 0)
        for (; n < found.gl_pathc; n++)
            flip(found.gl_pathv[n], at);
    globfree(&found);
    return n;
}

static void
told(void *ctx, const struct error *err)
{
    (void)err;
    ++*(unsigned *)ctx;
}

static void
test_damage_while_closed_costs_the_cache_only(void **state)
{
    static const char *const kinds[] = {"*.sst", "MANIFEST-*", "CURRENT",
                                        "OPTIONS-*", "IDENTITY"};
    struct place *p = *state;
    unsigned round = 0;

    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        for (unsigned at = 0; at < 8; at++) {
            unsigned corrupt = 0;
            fill(p, ++round);
            kv_close(&p->kv);
            assert_true(flip_all(p, kinds[k], at) > 0 || at > 0);
            open_place(p);
            kv_on_corrupt(p->kv, told, &corrupt);
            assert_int_equal(count(p, KV_STATE, round), ROWS);
            (void)count(p, KV_CACHE, round);
            assert_int_equal(kv_health(p->kv, NULL), ERR_OK);
            assert_int_equal(corrupt, 0);
        }
    wait_for_cache(p, ++round);
}

/* All tables are damaged under it, and more come until RocksDB merges. */
static void
test_merge_that_meets_damage_costs_the_cache_only(void **state)
{
    struct place *p = *state;
    AUTO(xfree) char *current = xasprintf("%s/cache/CURRENT", p->dir);
    struct stat was;
    struct stat now;
    unsigned corrupt = 0;
    unsigned round = 1;
    const time_t end = time(NULL) + WAIT_S;

    kv_on_corrupt(p->kv, told, &corrupt);
    fill(p, round);
    kv_close(&p->kv);
    open_place(p);
    assert_int_equal(stat(current, &was), 0);
    for (unsigned i = 0; i < 4; i++) {
        fill(p, ++round);
        (void)flip_all(p, "*.sst", 1 + i % 2);
    }
    /* Remade: another CURRENT than before. */
    do {
        assert_true(time(NULL) < end);
        fill(p, ++round);
        (void)flip_all(p, "*.sst", 2);
        assert_int_equal(count(p, KV_STATE, round), ROWS);
        assert_int_equal(kv_health(p->kv, NULL), ERR_OK);
    } while (stat(current, &now) != 0 || now.st_ino == was.st_ino);
    assert_int_equal(corrupt, 0);
    wait_for_cache(p, ++round);
}

static void
test_reader_of_a_damaged_cache_misses_and_goes_on(void **state)
{
    struct place *p = *state;
    struct kv_snap *snap;
    struct span key;
    struct span value;

    fill(p, 1);
    kv_close(&p->kv);
    for (unsigned at = 1; at < 6; at++)
        (void)flip_all(p, "*.sst", at);
    open_place(p);
    snap = kv_snapshot(p->kv);
    struct kv_iter *state_it =
        kv_iter_open(p->kv, snap, KV_STATE, SPAN_EMPTY, SPAN_EMPTY);
    struct kv_iter *it =
        kv_iter_open(p->kv, snap, KV_CACHE, SPAN_EMPTY, SPAN_EMPTY);
    unsigned n = 0;
    while (kv_iter_next(it, &key, &value))
        n++;
    assert_true(n < ROWS);
    assert_true(count(p, KV_CACHE, 1) < ROWS);
    assert_int_equal(kv_iter_close(&it, NULL), ERR_OK);
    for (n = 0; kv_iter_next(state_it, &key, &value);)
        n++;
    assert_int_equal(n, ROWS);
    assert_int_equal(kv_iter_close(&state_it, NULL), ERR_OK);
    kv_release(p->kv, &snap);
    wait_for_cache(p, 2);
}

/* Keys of another history may mean other messages. */
static void
test_new_state_begins_with_a_new_cache(void **state)
{
    struct place *p = *state;
    AUTO(xfree) char *command = xasprintf("rm -r %s/state", p->dir);

    fill(p, 1);
    kv_close(&p->kv);
    open_place(p);
    assert_int_equal(count(p, KV_CACHE, 1), ROWS);
    kv_close(&p->kv);
    assert_int_equal(system(command), 0);
    open_place(p);
    assert_int_equal(count(p, KV_STATE, 1), 0);
    assert_int_equal(count(p, KV_CACHE, 1), 0);
}

static void
test_cache_that_ended_the_process_at_once_is_not_opened_again(void **state)
{
    struct place *p = *state;
    AUTO(xfree) char *trial = xasprintf("%s/cache-trial", p->dir);

    fill(p, 1);
    assert_int_equal(access(trial, F_OK), 0);
    kv_close(&p->kv);
    assert_int_equal(access(trial, F_OK), -1);
    fclose(fopen(trial, "w"));
    open_place(p);
    assert_int_equal(count(p, KV_STATE, 1), ROWS);
    assert_int_equal(count(p, KV_CACHE, 1), 0);
}

/* What is there can be neither opened nor removed: the state opens without. */
static void
test_cache_that_cannot_be_made_is_missed_until_it_can(void **state)
{
    struct place *p = *state;
    AUTO(xfree) char *in = xasprintf("%s/cache/x", p->dir);
    AUTO(xfree) char *aside = xasprintf("%s/cache-condemned", p->dir);
    AUTO(xfree) char *in_aside = xasprintf("%s/x", aside);

    fill(p, 1);
    kv_close(&p->kv);
    assert_true(flip_all(p, "CURRENT", 0) == 1);
    assert_int_equal(mkdir(in, 0700), 0);
    assert_int_equal(mkdir(aside, 0700), 0);
    assert_int_equal(mkdir(in_aside, 0700), 0);
    open_place(p);
    assert_int_equal(count(p, KV_STATE, 1), ROWS);
    assert_int_equal(count(p, KV_CACHE, 1), 0);
    fill(p, 2);
    assert_int_equal(count(p, KV_STATE, 2), ROWS);
    assert_int_equal(kv_health(p->kv, NULL), ERR_OK);
    assert_int_equal(rmdir(in), 0);
    assert_int_equal(rmdir(in_aside), 0);
    wait_for_cache(p, 3);
}

static enum errcode
walk_disk(struct place *p, unsigned *ret_n)
{
    struct kv_iter *it = NULL;
    struct error err = {0};
    struct span key;
    struct span value;
    enum errcode rc = kv_disk_iter(p->kv, SPAN_EMPTY, &it, &err);

    *ret_n = 0;
    if (rc != ERR_OK)
        return rc;
    while (kv_iter_next(it, &key, &value))
        ++*ret_n;
    return kv_iter_close(&it, &err);
}

/* What an ordinary reader still has from memory is damaged on disk. */
static void
test_walk_over_the_disk_is_past_all_caches(void **state)
{
    struct place *p = *state;
    AUTO(xfree) char *pattern = xasprintf("%s/state/*.sst", p->dir);
    unsigned corrupt = 0;
    unsigned n;
    glob_t found;

    fill(p, 1);
    kv_on_corrupt(p->kv, told, &corrupt);
    assert_int_equal(count(p, KV_STATE, 1), ROWS);
    assert_int_equal(walk_disk(p, &n), ERR_OK);
    assert_int_equal(n, ROWS);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    flip(found.gl_pathv[0], 3);
    globfree(&found);
    assert_int_equal(count(p, KV_STATE, 1), ROWS); /* from the block cache */
    assert_int_equal(corrupt, 0);
    assert_int_equal(walk_disk(p, &n), ERR_CORRUPT);
    assert_true(n < ROWS);
    assert_int_equal(corrupt, 1);
}

int
main(void)
{
#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH(test_damage_while_closed_costs_the_cache_only),
        WITH(test_merge_that_meets_damage_costs_the_cache_only),
        WITH(test_reader_of_a_damaged_cache_misses_and_goes_on),
        WITH(test_new_state_begins_with_a_new_cache),
        WITH(test_cache_that_ended_the_process_at_once_is_not_opened_again),
        WITH(test_cache_that_cannot_be_made_is_missed_until_it_can),
        WITH(test_walk_over_the_disk_is_past_all_caches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
