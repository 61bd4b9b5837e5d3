/*
 * tests/store/test_kv.c - the same promises asked of both key-value stores:
 * batches, snapshots, iterators, and what a crash leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rd.h"
#include "store/kv.h"
#include "store/kv_mem.h"
#include "store/kv_private.h"
#include "tests/lib/tmpdir.h"
#include "tests/store/kvrace.h"

/* What a test stands on: one kind of store, and how to open it again. */
struct place {
    bool is_rocks;
    char dir[64];
    struct kv_disk *disk;
    struct kv *kv;
};

static struct kv *
open_place(struct place *p)
{
    if (!p->is_rocks) {
        p->kv = kv_open_mem_on(p->disk);
        return p->kv;
    }
    struct error err = {0};
    assert_int_equal(kv_open_rocks(p->dir, 8U << 20, &p->kv, &err), ERR_OK);
    return p->kv;
}

static struct place *
make_place(bool is_rocks)
{
    struct place *p = xcalloc(1, sizeof(*p));

    p->is_rocks = is_rocks;
    if (is_rocks) {
        snprintf(p->dir, sizeof(p->dir), "/tmp/pollux-kv-XXXXXX");
        assert_non_null(mkdtemp(p->dir));
    } else {
        p->disk = kv_disk_new();
    }
    open_place(p);
    return p;
}

/* Not opened. */
static int
setup_closed_rocks(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));

    p->is_rocks = true;
    snprintf(p->dir, sizeof(p->dir), "/tmp/pollux-kv-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    *state = p;
    return 0;
}

static int
setup_rocks(void **state)
{
    *state = make_place(true);
    return 0;
}

static int
setup_mem(void **state)
{
    *state = make_place(false);
    return 0;
}

static int
teardown(void **state)
{
    struct place *p = *state;

    kv_close(&p->kv);
    kv_disk_free(&p->disk);
    if (p->is_rocks)
        remove_tree(p->dir);
    free(p);
    return 0;
}

static struct span
str(const char *s)
{
    return span_str(s);
}

static void
write_batch(struct kv *kv, struct kv_batch *b)
{
    struct error err = {0};

    assert_int_equal(kv_write(kv, b, &err), ERR_OK);
    kv_batch_clear(b);
}

static void
put(struct kv *kv, enum kv_family f, const char *key, const char *value)
{
    struct kv_batch *b = kv_batch_new();

    kv_batch_put(b, f, str(key), str(value));
    write_batch(kv, b);
    kv_batch_free(&b);
}

/* The value as text, "-" where there is none; valid until the next call. */
static const char *
get(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
    const char *key)
{
    static char text[256];
    struct buf v = BUF_INIT;
    struct error err = {0};
    enum errcode rc = kv_get(kv, snap, f, str(key), &v, &err);

    assert_true(rc == ERR_OK || rc == ERR_NOTFOUND);
    snprintf(text, sizeof(text), "%s", rc == ERR_OK ? buf_cstr(&v) : "-");
    buf_free(&v);
    return text;
}

/* Keys from FROM within PREFIX, blank between. */
static const char *
keys(struct kv *kv, const struct kv_snap *snap, const char *prefix,
     const char *from)
{
    static char text[4096];
    struct kv_iter *it =
        kv_iter_open(kv, snap, KV_STATE, str(prefix), str(from));
    struct span key;
    struct span value;
    size_t n = 0;

    text[0] = 0;
    while (kv_iter_next(it, &key, &value))
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%.*s",
                              n == 0 ? "" : " ", SPAN_FMT(key));
    assert_false(kv_iter_next(it, &key, &value));
    assert_int_equal(kv_iter_close(&it, NULL), ERR_OK);
    assert_null(it);
    return text;
}

static void
test_batch_answers_what_it_will_write(void **state)
{
    (void)state;
    struct kv_batch *b = kv_batch_new();
    struct span v;

    assert_int_equal(kv_batch_get(b, KV_STATE, str("a"), &v), -1);
    kv_batch_put(b, KV_STATE, str("a"), str("one"));
    kv_batch_put(b, KV_CACHE, str("a"), str("other"));
    assert_int_equal(kv_batch_get(b, KV_STATE, str("a"), &v), 1);
    assert_true(span_eq_str(v, "one"));
    assert_int_equal(kv_batch_bytes(b), 10);
    for (int i = 0; i < 30; i++) {
        char text[32];
        snprintf(text, sizeof(text), "value %d", i * i * i);
        kv_batch_put(b, KV_STATE, str("a"), str(text));
    }
    assert_int_equal(kv_batch_get(b, KV_STATE, str("a"), &v), 1);
    assert_true(span_eq_str(v, "value 24389"));
    assert_int_equal(kv_batch_bytes(b), 18);
    kv_batch_delete(b, KV_STATE, str("a"));
    assert_int_equal(kv_batch_get(b, KV_STATE, str("a"), &v), 0);
    assert_int_equal(kv_batch_get(b, KV_CACHE, str("a"), &v), 1);
    kv_batch_put(b, KV_STATE, str("a"), SPAN_EMPTY);
    assert_int_equal(kv_batch_get(b, KV_STATE, str("a"), &v), 1);
    assert_int_equal(v.n, 0);
    kv_batch_clear(b);
    assert_int_equal(kv_batch_get(b, KV_STATE, str("a"), &v), -1);
    assert_int_equal(kv_batch_bytes(b), 0);
    kv_batch_free(&b);
    kv_batch_free(&b);
}

/* Puts and deletes at random on few keys, some of them taken back, beside a
 * table of what should be there; at the end the order of the keys. */
static void
test_batch_takes_back_to_its_savepoint(void **state)
{
    enum { KEYS = 3000 };
    static int now[KEYS],
        then[KEYS]; /* -1: nothing, 0: deleted, else its value */
    struct kv_batch *b = kv_batch_new();
    uint64_t random = 1;
    size_t bytes = 0;

    (void)state;
    for (int i = 0; i < KEYS; i++)
        now[i] = -1;
    for (int step = 0; step < 40000; step++) {
        char key[16], value[32];
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407U;
        const unsigned dice = (unsigned)(random >> 33) % 1000;
        const int i = (int)(random >> 45) % (step < 20000 ? 40 : KEYS);
        if (dice == 0) {
            kv_batch_mark(b);
            memcpy(then, now, sizeof(now));
            bytes = kv_batch_bytes(b);
            continue;
        }
        if (dice == 1 && step > 5000) {
            kv_batch_rollback(b);
            memcpy(now, then, sizeof(now));
            assert_int_equal(kv_batch_bytes(b), bytes);
        }
        snprintf(key, sizeof(key), "k%d", i);
        snprintf(value, sizeof(value), "%0*d", 1 + step % 17, step);
        if (dice % 3 == 0)
            kv_batch_delete(b, KV_STATE, str(key));
        else
            kv_batch_put(b, KV_STATE, str(key), str(value));
        now[i] = dice % 3 == 0 ? 0 : step;
        for (int j = 0; j < KEYS; j += 1 + step % 700) {
            struct span v = SPAN_EMPTY;
            snprintf(key, sizeof(key), "k%d", j);
            const int said = kv_batch_get(b, KV_STATE, str(key), &v);
            assert_int_equal(said, MIN(now[j], 1));
            if (said == 1) {
                uint32_t number = 0;
                assert_true(parse_u32(v, &number));
                assert_int_equal(number, now[j]);
            }
        }
    }
    size_t n;
    const struct kv_op *ops = kv_batch_ops(b, &n);
    const uint32_t *sorted = kv_batch_sorted(b);
    for (size_t i = 1; i < n; i++)
        assert_true(span_cmp(kv_op_key(b, &ops[sorted[i - 1]]),
                             kv_op_key(b, &ops[sorted[i]])) < 0);
    kv_batch_rollback(b);
    kv_batch_clear(b);
    kv_batch_rollback(b);
    assert_int_equal(kv_batch_bytes(b), 0);
    kv_batch_free(&b);
}

/* What came sorted, with a few behind it. */
static void
test_batch_is_sorted_by_family_and_key(void **state)
{
    (void)state;
    for (int tail = 0; tail < 4; tail++) {
        struct kv_batch *b = kv_batch_new();
        size_t n;
        char key[16];
        kv_batch_put(b, KV_CACHE, str("a"), SPAN_EMPTY);
        for (int i = 0; i < 300; i++) {
            snprintf(key, sizeof(key), "m%08d", i);
            kv_batch_put(b, KV_STATE, str(key), SPAN_EMPTY);
        }
        for (int i = 0; i < tail; i++) {
            snprintf(key, sizeof(key), "%c", "zab"[i]);
            kv_batch_put(b, KV_STATE, str(key), SPAN_EMPTY);
        }
        const struct kv_op *ops = kv_batch_ops(b, &n);
        const uint32_t *sorted = kv_batch_sorted(b);
        for (size_t i = 1; i < n; i++) {
            const struct kv_op *x = &ops[sorted[i - 1]], *y = &ops[sorted[i]];
            assert_true(x->family < y->family ||
                        (x->family == y->family &&
                         span_cmp(kv_op_key(b, x), kv_op_key(b, y)) < 0));
        }
        kv_batch_free(&b);
    }
}

/* A value that the batch gave out is put under other keys while it grows. */
static void
test_batch_takes_its_own_values(void **state)
{
    (void)state;
    struct kv_batch *b = kv_batch_new();
    struct span v = str("seed");
    char key[16];

    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        kv_batch_put(b, KV_STATE, str(key), v);
        assert_int_equal(kv_batch_get(b, KV_STATE, str(key), &v), 1);
    }
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(kv_batch_get(b, KV_STATE, str(key), &v), 1);
        assert_true(span_eq_str(v, "seed"));
    }
    kv_batch_free(&b);
}

static void
test_last_operation_on_a_key_wins(void **state)
{
    struct place *p = *state;
    struct kv_batch *b = kv_batch_new();

    kv_batch_put(b, KV_STATE, str("a"), str("1"));
    kv_batch_delete(b, KV_STATE, str("a"));
    kv_batch_put(b, KV_STATE, str("b"), str("1"));
    kv_batch_put(b, KV_STATE, str("b"), str("2"));
    kv_batch_delete(b, KV_STATE, str("c"));
    kv_batch_put(b, KV_STATE, str("c"), str("3"));
    kv_batch_put(b, KV_CACHE, str("a"), str("cached"));
    write_batch(p->kv, b);
    kv_batch_free(&b);
    assert_string_equal(get(p->kv, NULL, KV_STATE, "a"), "-");
    assert_string_equal(get(p->kv, NULL, KV_STATE, "b"), "2");
    assert_string_equal(get(p->kv, NULL, KV_STATE, "c"), "3");
    assert_string_equal(get(p->kv, NULL, KV_CACHE, "a"), "cached");
    assert_string_equal(get(p->kv, NULL, KV_CACHE, "b"), "-");
}

static void
test_empty_batch_changes_nothing(void **state)
{
    struct place *p = *state;
    struct kv_batch *b = kv_batch_new();

    write_batch(p->kv, b);
    kv_batch_free(&b);
    assert_string_equal(keys(p->kv, NULL, "", ""), "");
}

static void
test_iterator_stays_within_its_prefix(void **state)
{
    struct place *p = *state;

    put(p->kv, KV_STATE, "a1", "");
    put(p->kv, KV_STATE, "b1", "x");
    put(p->kv, KV_STATE, "b2", "y");
    put(p->kv, KV_STATE, "b3", "z");
    put(p->kv, KV_STATE, "c1", "");
    put(p->kv, KV_STATE, "\xff\xff", "");
    put(p->kv, KV_STATE, "\xff\xff.", "");
    assert_string_equal(keys(p->kv, NULL, "b", ""), "b1 b2 b3");
    assert_string_equal(keys(p->kv, NULL, "b", "b2"), "b2 b3");
    assert_string_equal(keys(p->kv, NULL, "b", "a"), "b1 b2 b3");
    assert_string_equal(keys(p->kv, NULL, "b", "c"), "");
    assert_string_equal(keys(p->kv, NULL, "\xff\xff", ""),
                        "\xff\xff \xff\xff.");
    assert_string_equal(keys(p->kv, NULL, "d", ""), "");
    assert_string_equal(keys(p->kv, NULL, "", "b3"),
                        "b3 c1 \xff\xff \xff\xff.");

    struct kv_iter *it =
        kv_iter_open(p->kv, NULL, KV_STATE, str("b"), SPAN_EMPTY);
    struct span key;
    struct span value;
    assert_true(kv_iter_next(it, &key, &value));
    kv_iter_seek(it, str("b3"));
    assert_true(kv_iter_next(it, &key, &value));
    assert_true(span_eq_str(key, "b3"));
    assert_true(span_eq_str(value, "z"));
    assert_false(kv_iter_next(it, &key, &value));
    kv_iter_seek(it, str("a"));
    assert_true(kv_iter_next(it, &key, &value));
    assert_true(span_eq_str(key, "b1"));
    assert_true(kv_iter_next(it, &key, &value));
    assert_true(span_eq_str(key, "b2"));
    kv_iter_seek(it, str("c"));
    assert_false(kv_iter_next(it, &key, &value));
    assert_int_equal(kv_iter_close(&it, NULL), ERR_OK);
}

static void
test_snapshot_does_not_see_later_writes(void **state)
{
    struct place *p = *state;

    put(p->kv, KV_STATE, "a", "old");
    put(p->kv, KV_STATE, "b", "old");
    struct kv_snap *snap = kv_snapshot(p->kv);
    struct kv_iter *it = kv_iter_open(p->kv, NULL, KV_STATE, str(""), str(""));
    struct kv_batch *b = kv_batch_new();
    kv_batch_put(b, KV_STATE, str("a"), str("new"));
    kv_batch_delete(b, KV_STATE, str("b"));
    kv_batch_put(b, KV_STATE, str("c"), str("new"));
    write_batch(p->kv, b);
    assert_int_equal(kv_flush(p->kv, NULL), ERR_OK);
    assert_string_equal(get(p->kv, snap, KV_STATE, "a"), "old");
    assert_string_equal(get(p->kv, snap, KV_STATE, "b"), "old");
    assert_string_equal(get(p->kv, snap, KV_STATE, "c"), "-");
    assert_string_equal(keys(p->kv, snap, "", ""), "a b");
    assert_string_equal(keys(p->kv, NULL, "", ""), "a c");
    struct span key;
    struct span value;
    assert_true(kv_iter_next(it, &key, &value));
    assert_true(span_eq_str(value, "old"));
    assert_true(kv_iter_next(it, &key, &value));
    assert_true(span_eq_str(key, "b"));
    assert_false(kv_iter_next(it, &key, &value));
    assert_int_equal(kv_iter_close(&it, NULL), ERR_OK);
    kv_release(p->kv, &snap);
    kv_release(p->kv, &snap);
    kv_batch_free(&b);
}

/* Each write sets all of 64 keys to one number; a reader that ever sees two
 * numbers in one snapshot has caught half a write. */
static void *
race_reader(void *ctx)
{
    struct race *race = ctx;

    while (!atomic_load(&race->stop)) {
        struct kv_snap *snap = kv_snapshot(race->kv);
        struct kv_iter *it =
            kv_iter_open(race->kv, snap, KV_STATE, str("r"), SPAN_EMPTY);
        struct span key;
        struct span value;
        uint8_t first[8] = {0};
        unsigned n = 0;
        while (kv_iter_next(it, &key, &value)) {
            if (n++ == 0)
                memcpy(first, value.p, 8);
            if (value.n != 8 || memcmp(first, value.p, 8) != 0)
                atomic_fetch_add(&race->mixed, 1);
        }
        if (n != 0 && n != RACE_KEYS)
            atomic_fetch_add(&race->mixed, 1);
        if (kv_iter_close(&it, NULL) != ERR_OK)
            atomic_fetch_add(&race->mixed, 1);
        kv_release(race->kv, &snap);
        atomic_fetch_add(&race->rounds, 1);
    }
    return NULL;
}

static void
test_readers_never_see_half_a_write(void **state)
{
    struct place *p = *state;
    struct race race = {.kv = p->kv};
    struct kv_batch *b = kv_batch_new();

    race_start(&race, race_reader);
    for (uint64_t round = 0;
         round < 300 || (atomic_load(&race.rounds) < 50 && round < 100000);
         round++) {
        race_put_all(b, span_of(&round, 8));
        write_batch(p->kv, b);
    }
    race_end(&race);
    kv_batch_free(&b);
}

/* Who iterates reads rows in the block cache, where another thread has put
 * them, and which is smaller than all of it. */
#define WIDE_ROWS 12000U
#define WIDE_BYTES 1000U

static void
wide_row(uint32_t n, char key[16], uint8_t value[WIDE_BYTES])
{
    uint64_t x = n + 1;

    snprintf(key, 16, "w%08u", n);
    for (size_t i = 0; i < WIDE_BYTES; i += 8) {
        if (i < WIDE_BYTES / 2)
            x = x * UINT64_C(6364136223846793005) + n;
        memcpy(value + i, &x, 8); /* half of it becomes smaller */
    }
}

static void *
wide_reader(void *ctx)
{
    struct race *race = ctx;
    struct kv_iter *it =
        kv_iter_open(race->kv, NULL, KV_STATE, str("w"), SPAN_EMPTY);
    struct span key;
    struct span value;
    uint32_t n = 0;

    for (; kv_iter_next(it, &key, &value); n++) {
        char want_key[16];
        uint8_t want[WIDE_BYTES];
        wide_row(n, want_key, want);
        if (!span_eq_str(key, want_key) ||
            !span_eq(value, span_of(want, sizeof(want))))
            atomic_fetch_add(&race->mixed, 1);
    }
    if (kv_iter_close(&it, NULL) != ERR_OK || n != WIDE_ROWS)
        atomic_fetch_add(&race->mixed, 1);
    return NULL;
}

static void
test_many_iterate_at_once(void **state)
{
    struct place *p = *state;
    struct kv_batch *b = kv_batch_new();
    pthread_t readers[4];

    for (uint32_t n = 0; n < WIDE_ROWS; n++) {
        char key[16];
        uint8_t value[WIDE_BYTES];
        wide_row(n, key, value);
        kv_batch_put(b, KV_STATE, str(key), span_of(value, sizeof(value)));
        if (n % 1000 == 999)
            write_batch(p->kv, b);
    }
    kv_batch_free(&b);
    assert_int_equal(kv_flush(p->kv, NULL), ERR_OK);
    kv_close(&p->kv);
    open_place(p);
    struct race race = {.kv = p->kv};
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        assert_int_equal(pthread_create(&readers[i], NULL, wide_reader, &race),
                         0);
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&race.mixed), 0);
}

/* Random operations, compared with an array that remembers them. */
static void
test_random_operations_match_a_model(void **state)
{
    struct place *p = *state;
    enum { KEYS = 200 };
    int model[KEYS];
    struct kv_batch *b = kv_batch_new();
    unsigned seed = 4711;

    for (int i = 0; i < KEYS; i++)
        model[i] = -1;
    for (int round = 0; round < 200; round++) {
        for (int n = 0; n < 20; n++) {
            int at = rand_r(&seed) % KEYS;
            char key[16];
            char value[16];
            snprintf(key, sizeof(key), "k%03d", at);
            if (rand_r(&seed) % 3 == 0) {
                kv_batch_delete(b, KV_STATE, str(key));
                model[at] = -1;
            } else {
                model[at] = rand_r(&seed) % 100000;
                snprintf(value, sizeof(value), "%d", model[at]);
                kv_batch_put(b, KV_STATE, str(key), str(value));
            }
        }
        write_batch(p->kv, b);
        if (round % 50 == 49)
            assert_int_equal(kv_flush(p->kv, NULL), ERR_OK);
    }
    kv_batch_free(&b);

    struct kv_iter *it =
        kv_iter_open(p->kv, NULL, KV_STATE, str("k"), SPAN_EMPTY);
    struct span key;
    struct span value;
    for (int i = 0; i < KEYS; i++) {
        char want[16];
        snprintf(want, sizeof(want), "k%03d", i);
        if (model[i] < 0) {
            assert_string_equal(get(p->kv, NULL, KV_STATE, want), "-");
            continue;
        }
        assert_true(kv_iter_next(it, &key, &value));
        assert_true(span_eq_str(key, want));
        snprintf(want, sizeof(want), "%d", model[i]);
        assert_true(span_eq_str(value, want));
    }
    assert_false(kv_iter_next(it, &key, &value));
    assert_int_equal(kv_iter_close(&it, NULL), ERR_OK);
}

static void
test_closing_keeps_what_was_flushed_only(void **state)
{
    struct place *p = *state;

    put(p->kv, KV_STATE, "a", "flushed");
    assert_int_equal(kv_flush(p->kv, NULL), ERR_OK);
    assert_int_equal(kv_health(p->kv, NULL), ERR_OK);
    put(p->kv, KV_STATE, "a", "lost");
    put(p->kv, KV_STATE, "b", "lost");
    kv_close(&p->kv);
    assert_null(p->kv);
    open_place(p);
    assert_string_equal(keys(p->kv, NULL, "", ""), "a");
    assert_string_equal(get(p->kv, NULL, KV_STATE, "a"), "flushed");
}

static void
test_property_of_unknown_name_is_zero(void **state)
{
    struct place *p = *state;

    put(p->kv, KV_STATE, "a", "");
    assert_int_equal(kv_property(p->kv, "rocksdb.estimate-num-keys"), 1);
    assert_int_equal(kv_property(p->kv, "no.such.thing"), 0);
}

/* A child writes numbered batches, says when it has flushed, goes on, and is
 * killed: the flushed ones are there and what follows is a prefix.  This test
 * comes first: RocksDB's threads do not live on in a child. */
static void
test_rocks_killed_keeps_a_prefix(void **state)
{
    struct place *p = *state;
    int ready[2];

    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct kv_batch *b = kv_batch_new();
        struct kv *kv = NULL;
        if (kv_open_rocks(p->dir, 8U << 20, &kv, NULL) != ERR_OK)
            _exit(1);
        for (unsigned i = 0;; i++) {
            char key[16];
            snprintf(key, sizeof(key), "n%08u", i);
            kv_batch_put(b, KV_STATE, str(key), str(key));
            kv_batch_put(b, KV_STATE, str("last"), span_of(&i, sizeof(i)));
            if (kv_write(kv, b, NULL) != ERR_OK)
                _exit(1);
            kv_batch_clear(b);
            if (i == 500 && kv_flush(kv, NULL) != ERR_OK)
                _exit(1);
            if (i == 700 && write(ready[1], "x", 1) != 1)
                _exit(1);
        }
    }
    char c;
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);

    open_place(p);
    struct buf v = BUF_INIT;
    assert_int_equal(kv_get(p->kv, NULL, KV_STATE, str("last"), &v, NULL),
                     ERR_OK);
    uint64_t last = 0;
    struct rd r = rd_init(buf_span(&v));
    last = rd_u32le(&r);
    buf_free(&v);
    assert_true(last >= 500);
    struct kv_iter *it =
        kv_iter_open(p->kv, NULL, KV_STATE, str("n"), SPAN_EMPTY);
    struct span key;
    struct span value;
    for (uint64_t i = 0; i <= last; i++) {
        char want[24];
        snprintf(want, sizeof(want), "n%08u", (unsigned)i);
        assert_true(kv_iter_next(it, &key, &value));
        assert_true(span_eq_str(key, want));
    }
    assert_false(kv_iter_next(it, &key, &value));
    assert_int_equal(kv_iter_close(&it, NULL), ERR_OK);
}

static void
test_rocks_opened_twice_is_busy(void **state)
{
    struct place *p = *state;
    struct kv *second = NULL;
    struct error err = {0};

    assert_int_equal(kv_open_rocks(p->dir, 8U << 20, &second, &err), ERR_BUSY);
    assert_non_null(strstr(err.text, "another process"));
    assert_non_null(strstr(err.text, p->dir));
    assert_null(second);
}

static void
test_rocks_where_no_directory_can_be_is_an_io_error(void **state)
{
    (void)state;
    struct kv *kv = NULL;
    struct error err = {0};

    assert_int_not_equal(
        kv_open_rocks("/proc/nothing/here", 1U << 20, &kv, &err), ERR_OK);
    assert_null(kv);
}

/* One byte of a table file is turned: what is read is right or ERR_CORRUPT. */
static void
test_rocks_damaged_file_is_corrupt(void **state)
{
    struct place *p = *state;
    struct kv_batch *b = kv_batch_new();

    for (unsigned i = 0; i < 2000; i++) {
        char key[16];
        snprintf(key, sizeof(key), "n%08u", i);
        kv_batch_put(b, KV_STATE, str(key), str(key));
    }
    write_batch(p->kv, b);
    kv_batch_free(&b);
    assert_int_equal(kv_flush(p->kv, NULL), ERR_OK);
    kv_close(&p->kv);

    char *command =
        xasprintf("for f in %s/state/*.sst; do printf '\\377\\377\\377"
                  "\\377' | dd of=$f bs=1 seek=1000 conv=notrunc "
                  "2>/dev/null; done",
                  p->dir);
    assert_int_equal(system(command), 0);
    free(command);
    open_place(p);
    struct kv_iter *it =
        kv_iter_open(p->kv, NULL, KV_STATE, str("n"), SPAN_EMPTY);
    struct span key;
    struct span value;
    unsigned n = 0;
    while (kv_iter_next(it, &key, &value)) {
        assert_true(span_eq(key, value));
        n++;
    }
    struct error err = {0};
    assert_int_equal(kv_iter_close(&it, &err), ERR_CORRUPT);
    assert_true(n < 2000);
}

static void
test_mem_crash_leaves_the_image_or_a_prefix(void **state)
{
    struct place *p = *state;

    for (uint64_t seed = 0; seed < 40; seed++) {
        struct kv_batch *b = kv_batch_new();
        for (int i = 0; i < 20; i++) {
            char value[16];
            snprintf(value, sizeof(value), "%d", i);
            kv_batch_put(b, KV_STATE, str("a"), str(value));
            kv_batch_put(b, KV_STATE, str("b"), str(value));
            write_batch(p->kv, b);
            if (i == 10)
                assert_int_equal(kv_flush(p->kv, NULL), ERR_OK);
        }
        kv_batch_free(&b);
        kv_mem_crash(p->kv, seed);
        uint32_t a;
        uint32_t c;
        assert_true(parse_u32(str(get(p->kv, NULL, KV_STATE, "a")), &a));
        assert_true(parse_u32(str(get(p->kv, NULL, KV_STATE, "b")), &c));
        assert_int_equal(a, c);
        assert_true(seed == 0 ? a == 10 : a >= 10 && a < 20);
    }
}

static void
test_mem_without_power_changes_nothing(void **state)
{
    struct place *p = *state;
    struct error err = {0};
    struct kv_batch *b = kv_batch_new();

    put(p->kv, KV_STATE, "a", "1");
    assert_int_equal(kv_flush(p->kv, NULL), ERR_OK);
    put(p->kv, KV_STATE, "a", "2");
    kv_disk_cut(p->disk, 0);
    kv_batch_put(b, KV_STATE, str("a"), str("3"));
    assert_int_equal(kv_write(p->kv, b, &err), ERR_IO);
    assert_int_equal(kv_flush(p->kv, &err), ERR_IO);
    assert_int_equal(kv_health(p->kv, &err), ERR_IO);
    kv_batch_free(&b);
    kv_close(&p->kv);
    open_place(p);
    assert_string_equal(get(p->kv, NULL, KV_STATE, "a"), "1");
}

static void
test_mem_told_to_fail_fails_until_healed(void **state)
{
    struct place *p = *state;
    struct error err = {0};
    struct kv_batch *b = kv_batch_new();

    kv_batch_put(b, KV_STATE, str("a"), str("1"));
    kv_mem_fail(p->kv, ERR_NOSPACE);
    assert_int_equal(kv_write(p->kv, b, &err), ERR_NOSPACE);
    assert_int_equal(kv_health(p->kv, &err), ERR_NOSPACE);
    kv_mem_fail(p->kv, ERR_OK);
    assert_int_equal(kv_write(p->kv, b, &err), ERR_OK);
    assert_int_equal(kv_health(p->kv, &err), ERR_OK);
    kv_batch_free(&b);
}

#define BOTH(test)                                                             \
    {#test " on rocks", test, setup_rocks, teardown, NULL},                    \
    {                                                                          \
#test " in memory", test, setup_mem, teardown, NULL                    \
    }
#define ROCKS(test) cmocka_unit_test_setup_teardown(test, setup_rocks, teardown)
#define MEM(test) cmocka_unit_test_setup_teardown(test, setup_mem, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rocks_killed_keeps_a_prefix,
                                        setup_closed_rocks, teardown),
        cmocka_unit_test(test_batch_answers_what_it_will_write),
        cmocka_unit_test(test_batch_takes_back_to_its_savepoint),
        cmocka_unit_test(test_batch_is_sorted_by_family_and_key),
        cmocka_unit_test(test_batch_takes_its_own_values),
        BOTH(test_last_operation_on_a_key_wins),
        BOTH(test_empty_batch_changes_nothing),
        BOTH(test_iterator_stays_within_its_prefix),
        BOTH(test_snapshot_does_not_see_later_writes),
        BOTH(test_readers_never_see_half_a_write),
        BOTH(test_many_iterate_at_once),
        BOTH(test_random_operations_match_a_model),
        BOTH(test_closing_keeps_what_was_flushed_only),
        BOTH(test_property_of_unknown_name_is_zero),
        ROCKS(test_rocks_opened_twice_is_busy),
        cmocka_unit_test(test_rocks_where_no_directory_can_be_is_an_io_error),
        ROCKS(test_rocks_damaged_file_is_corrupt),
        MEM(test_mem_crash_leaves_the_image_or_a_prefix),
        MEM(test_mem_without_power_changes_nothing),
        MEM(test_mem_told_to_fail_fails_until_healed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
