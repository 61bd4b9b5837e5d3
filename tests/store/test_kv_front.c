/*
 * tests/store/test_kv_front.c - store/kv_front.c and store/kv_table.c: tables
 * so small that sets are closed and loaded all the time, over a store in memory
 * that can be told to fail, and over RocksDB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/kv_mem.h"
#include "store/kv_private.h"
#include "store/kv_table.h"
#include "tests/lib/tmpdir.h"
#include "tests/store/kvrace.h"

#define SMALL_BYTES ((size_t)20 << 10)

/* ------------------------------------------------- what stands below */

/* A store in memory that takes tables. */
struct below {
    struct kv kv;
    struct kv *mem;
    _Atomic int answer;     /* of load(): ERR_OK, or what it fails with */
    _Atomic unsigned again; /* so often it says ERR_AGAIN first */
    _Atomic unsigned loads[KV_FAMILIES];
    _Atomic unsigned gets;
};

static void
below_close(struct kv *kv)
{
    struct below *b = (struct below *)kv;

    kv_close(&b->mem);
    free(b);
}

static enum errcode
below_get(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
          struct span key, struct buf *ret, struct error *err)
{
    struct below *b = (struct below *)kv;

    atomic_fetch_add(&b->gets, 1);
    return kv_get(b->mem, snap, f, key, ret, err);
}

static struct kv_snap *
below_snapshot(struct kv *kv)
{
    return kv_snapshot(((struct below *)kv)->mem);
}

static void
below_release(struct kv *kv, struct kv_snap *snap)
{
    kv_release(((struct below *)kv)->mem, &snap);
}

static struct kv_iter *
below_iter_open(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
                struct span prefix, struct span from)
{
    return kv_iter_open(((struct below *)kv)->mem, snap, f, prefix, from);
}

static enum errcode
below_health(struct kv *kv, struct error *err)
{
    return kv_health(((struct below *)kv)->mem, err);
}

static uint64_t
below_property(struct kv *kv, const char *name)
{
    (void)kv;
    (void)name;
    return 0;
}

static enum errcode
below_load(struct kv *kv, enum kv_family f, const struct kv_table *table,
           struct error *err)
{
    struct below *b = (struct below *)kv;
    struct kv_place at = {.seq = UINT64_MAX};
    struct span last = SPAN_EMPTY;

    if (atomic_load(&b->again) > 0) {
        atomic_fetch_sub(&b->again, 1);
        return error_set(err, ERR_AGAIN, "not now");
    }
    if (atomic_load(&b->answer) != ERR_OK)
        return error_set(err, (enum errcode)atomic_load(&b->answer), "told so");
    struct kv_batch *batch = kv_batch_new();
    for (bool more = kv_table_seek(table, SPAN_EMPTY, &at); more;
         more = kv_table_next(&at)) {
        if (last.n > 0 && span_cmp(last, at.key) >= 0)
            abort(); /* not sorted, or a key twice */
        last = at.key;
        if (at.is_put)
            kv_batch_put(batch, f, at.key, at.value);
        else
            kv_batch_delete(batch, f, at.key);
    }
    enum errcode rc = kv_write(b->mem, batch, err);
    kv_batch_free(&batch);
    atomic_fetch_add(&b->loads[f], 1);
    return rc;
}

static const struct kv_ops below_ops = {
    .close = below_close,
    .get = below_get,
    .snapshot = below_snapshot,
    .release = below_release,
    .iter_open = below_iter_open,
    .health = below_health,
    .property = below_property,
    .load = below_load,
};

struct place {
    char dir[64];
    struct below *below; /* NULL: RocksDB */
    struct kv *kv;
};

static const struct kv_front_limits small = {
    .bytes = {[KV_STATE] = SMALL_BYTES, [KV_CACHE] = SMALL_BYTES},
    .kept_table = 'k'};

static int
setup_mem(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));

    p->below = xcalloc(1, sizeof(*p->below));
    p->below->kv.ops = &below_ops;
    p->below->mem = kv_open_mem();
    p->kv = kv_front_open(&p->below->kv, &small);
    *state = p;
    return 0;
}

static void
open_rocks(struct place *p)
{
    struct kv *below = NULL;
    struct error err = {0};

    assert_int_equal(kv_rocks_below(p->dir, 1U << 20, &below, &err), ERR_OK);
    p->kv = kv_front_open(below, &small);
}

static int
setup_rocks(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));

    snprintf(p->dir, sizeof(p->dir), "/tmp/pollux-kvf-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    open_rocks(p);
    *state = p;
    return 0;
}

static int
teardown(void **state)
{
    struct place *p = *state;

    kv_close(&p->kv);
    if (p->dir[0] != '\0')
        remove_tree(p->dir);
    free(p);
    return 0;
}

/* ------------------------------------------------------------- the model */

#define KEYS 300U
#define VIEWS 5U

/* The numbers that keys have; 0: there is no such key. */
struct model {
    uint32_t of[KV_FAMILIES][KEYS];
};

struct view {
    struct kv_snap *snap;
    struct model was;
};

/* Keys of many lengths, some the beginning of others. */
static struct span
key_of(unsigned i, char *to, size_t cap)
{
    int n = snprintf(to, cap, "k%u%.*s", i % 30, (int)(i / 30) * 7,
                     "ssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
                     "ssssssssssssssssss");
    return span_of(to, (size_t)n);
}

static struct span
value_of(uint32_t v, char *to, size_t cap)
{
    memset(to, 'v', cap);
    memcpy(to, &v, sizeof(v));
    return span_of(to, sizeof(v) + v % (cap - sizeof(v)));
}

static void
check_get(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
          unsigned i, uint32_t want)
{
    char key[128];
    char value[100];
    struct buf got = BUF_INIT;
    enum errcode rc =
        kv_get(kv, snap, f, key_of(i, key, sizeof(key)), &got, NULL);

    assert_int_equal(rc, want == 0 ? ERR_NOTFOUND : ERR_OK);
    if (want != 0)
        assert_true(
            span_eq(buf_span(&got), value_of(want, value, sizeof(value))));
    buf_free(&got);
}

static int
compare_spans(const void *a, const void *b)
{
    return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

/* All that is there below PREFIX from FROM on is what the model has. */
static void
check_walk(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
           struct span prefix, struct span from, const struct model *m)
{
    static char text[KEYS][128];
    struct span want[KEYS];
    size_t n = 0;

    for (unsigned i = 0; i < KEYS; i++) {
        struct span key = key_of(i, text[i], sizeof(text[i]));
        if (m->of[f][i] != 0 && span_starts(key, prefix) &&
            span_cmp(key, from) >= 0)
            want[n++] = key;
    }
    qsort(want, n, sizeof(want[0]), compare_spans);
    struct kv_iter *it = kv_iter_open(kv, snap, f, prefix, SPAN_EMPTY);
    struct span key;
    struct span value;
    if (from.n > 0) {
        /* Somewhere else before. */
        (void)kv_iter_next(it, &key, &value);
        kv_iter_seek(it, from);
    }
    for (size_t i = 0; i < n; i++) {
        assert_true(kv_iter_next(it, &key, &value));
        assert_true(span_eq(key, want[i]));
    }
    assert_false(kv_iter_next(it, &key, &value));
    assert_int_equal(kv_iter_close(&it, NULL), ERR_OK);
}

/* A view of RocksDB is one of the state: its cache may be newer. */
static void
check_all(const struct place *p, const struct kv_snap *snap,
          const struct model *m, unsigned *seed)
{
    struct kv *kv = p->kv;
    char from[128];

    for (size_t f = 0; f < KV_FAMILIES; f++) {
        if (f == KV_CACHE && snap != NULL && p->below == NULL)
            continue;
        for (unsigned i = 0; i < KEYS; i++)
            check_get(kv, snap, (enum kv_family)f, i, m->of[f][i]);
        check_walk(kv, snap, (enum kv_family)f, SPAN_EMPTY, SPAN_EMPTY, m);
        check_walk(kv, snap, (enum kv_family)f, SPAN_LIT("k1"), SPAN_EMPTY, m);
        unsigned at = (unsigned)rand_r(seed) % KEYS;
        check_walk(kv, snap, (enum kv_family)f, SPAN_LIT("k"),
                   key_of(at, from, sizeof(from)), m);
    }
}

static void
random_batch(struct kv *kv, struct model *m, uint32_t *next, unsigned *seed)
{
    struct kv_batch *b = kv_batch_new();
    unsigned n = 1 + (unsigned)rand_r(seed) % 40;

    for (unsigned k = 0; k < n; k++) {
        char key[128];
        char value[100];
        unsigned i = (unsigned)rand_r(seed) % KEYS;
        enum kv_family f = rand_r(seed) % 3 == 0 ? KV_CACHE : KV_STATE;
        if (rand_r(seed) % 3 == 0) {
            m->of[f][i] = 0;
            kv_batch_delete(b, f, key_of(i, key, sizeof(key)));
        } else {
            m->of[f][i] = ++*next;
            kv_batch_put(b, f, key_of(i, key, sizeof(key)),
                         value_of(*next, value, sizeof(value)));
        }
    }
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    kv_batch_free(&b);
}

static void
run_model(struct place *p, int rounds)
{
    struct model now = {0};
    struct view views[VIEWS] = {0};
    uint32_t next = 0;
    unsigned seed = 815;

    for (int round = 0; round < rounds; round++) {
        random_batch(p->kv, &now, &next, &seed);
        struct view *v = &views[(unsigned)rand_r(&seed) % VIEWS];
        switch (rand_r(&seed) % 12) {
        case 0:
            kv_release(p->kv, &v->snap);
            v->snap = kv_snapshot(p->kv);
            v->was = now;
            break;
        case 1:
            if (v->snap != NULL)
                check_all(p, v->snap, &v->was, &seed);
            break;
        case 2:
            check_all(p, NULL, &now, &seed);
            break;
        case 3:
            if (rand_r(&seed) % 8 == 0)
                assert_int_equal(kv_flush(p->kv, NULL), ERR_OK);
            break;
        default:
            break;
        }
    }
    for (size_t i = 0; i < VIEWS; i++) {
        if (views[i].snap != NULL)
            check_all(p, views[i].snap, &views[i].was, &seed);
        kv_release(p->kv, &views[i].snap);
    }
    check_all(p, NULL, &now, &seed);
    if (p->below != NULL) {
        assert_true(atomic_load(&p->below->loads[KV_STATE]) > 10);
        return;
    }
    assert_int_equal(kv_flush(p->kv, NULL), ERR_OK);
    kv_close(&p->kv);
    open_rocks(p);
    check_all(p, NULL, &now, &seed);
}

static void
test_views_stay_as_they_were_while_sets_are_loaded(void **state)
{
    run_model(*state, 3000);
}

static void
test_rocks_has_what_was_flushed(void **state)
{
    run_model(*state, 400);
}

/* ----------------------------------------------------------- half a write */

static uint32_t
number_at(struct kv *kv, const struct kv_snap *snap, unsigned i)
{
    char key[16];
    uint32_t v = 0;
    struct buf got = BUF_INIT;

    snprintf(key, sizeof(key), "r%02u", i);
    if (kv_get(kv, snap, KV_STATE, span_str(key), &got, NULL) == ERR_OK &&
        got.n == sizeof(v))
        memcpy(&v, got.p, sizeof(v));
    buf_free(&got);
    return v;
}

static void *
race_reader(void *ctx)
{
    struct race *r = ctx;

    while (!atomic_load(&r->stop)) {
        struct kv_snap *snap = kv_snapshot(r->kv);
        const uint32_t first = number_at(r->kv, snap, 0);
        for (unsigned i = 1; i < 64; i++)
            if (number_at(r->kv, snap, i) != first)
                atomic_fetch_add(&r->mixed, 1);
        struct kv_iter *it =
            kv_iter_open(r->kv, snap, KV_STATE, SPAN_LIT("r"), SPAN_EMPTY);
        struct span key;
        struct span value;
        unsigned n = 0;
        while (kv_iter_next(it, &key, &value)) {
            n++;
            if (value.n != sizeof(first) ||
                memcmp(value.p, &first, sizeof(first)) != 0)
                atomic_fetch_add(&r->mixed, 1);
        }
        if (n != 0 && n != RACE_KEYS)
            atomic_fetch_add(&r->mixed, 1);
        (void)kv_iter_close(&it, NULL);
        /* What is read without a view is no older than the one before. */
        if (number_at(r->kv, NULL, 63) < first)
            atomic_fetch_add(&r->mixed, 1);
        kv_release(r->kv, &snap);
        atomic_fetch_add(&r->rounds, 1);
    }
    return NULL;
}

static void
test_readers_never_see_half_a_write_while_sets_are_loaded(void **state)
{
    struct place *p = *state;
    struct race race = {.kv = p->kv};
    struct kv_batch *b = kv_batch_new();

    race_start(&race, race_reader);
    for (uint32_t round = 1;
         round < 2000 || (atomic_load(&race.rounds) < 200 && round < 1000000);
         round++) {
        race_put_all(b, span_of(&round, sizeof(round)));
        assert_int_equal(kv_write(p->kv, b, NULL), ERR_OK);
        kv_batch_clear(b);
    }
    race_end(&race);
    assert_true(atomic_load(&p->below->loads[KV_STATE]) > 10);
    kv_batch_free(&b);
}

/* -------------------------------------------------------------- failures */

static enum errcode
put_number(struct kv *kv, uint32_t i, struct error *err)
{
    char key[16];
    char value[100] = {0};
    struct kv_batch *b = kv_batch_new();

    snprintf(key, sizeof(key), "n%08u", i);
    kv_batch_put(b, KV_STATE, span_str(key), span_of(value, sizeof(value)));
    enum errcode rc = kv_write(kv, b, err);
    kv_batch_free(&b);
    return rc;
}

static size_t
count_rows(struct kv *kv)
{
    struct kv_iter *it =
        kv_iter_open(kv, NULL, KV_STATE, SPAN_LIT("n"), SPAN_EMPTY);
    struct span key;
    struct span value;
    size_t n = 0;

    while (kv_iter_next(it, &key, &value))
        n++;
    assert_int_equal(kv_iter_close(&it, NULL), ERR_OK);
    return n;
}

static void
test_full_disk_refuses_and_heals(void **state)
{
    struct place *p = *state;
    struct error err = {0};
    uint32_t n = 0;

    atomic_store(&p->below->answer, ERR_NOSPACE);
    while (put_number(p->kv, n, &err) == ERR_OK)
        n++;
    assert_int_equal(err.code, ERR_NOSPACE);
    assert_true(n > 10);
    assert_int_equal(count_rows(p->kv), n);
    assert_int_equal(kv_health(p->kv, &err), ERR_NOSPACE);
    assert_int_equal(kv_flush(p->kv, &err), ERR_NOSPACE);
    assert_int_equal(put_number(p->kv, n, &err), ERR_NOSPACE);
    atomic_store(&p->below->answer, ERR_OK);
    assert_int_equal(kv_flush(p->kv, &err), ERR_OK);
    assert_int_equal(kv_health(p->kv, &err), ERR_OK);
    assert_int_equal(put_number(p->kv, n, &err), ERR_OK);
    assert_int_equal(count_rows(p->kv), n + 1);
}

static void
test_failed_disk_is_for_ever(void **state)
{
    struct place *p = *state;
    struct error err = {0};
    uint32_t n = 0;

    atomic_store(&p->below->answer, ERR_IO);
    while (put_number(p->kv, n, &err) == ERR_OK)
        n++;
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(kv_flush(p->kv, &err), ERR_IO);
    atomic_store(&p->below->answer, ERR_OK);
    assert_int_equal(kv_flush(p->kv, &err), ERR_IO);
    assert_int_equal(kv_health(p->kv, &err), ERR_IO);
    assert_int_equal(put_number(p->kv, n, &err), ERR_IO);
    assert_int_equal(count_rows(p->kv), n);
}

static void
test_busy_store_below_is_asked_again(void **state)
{
    struct place *p = *state;
    struct error err = {0};

    atomic_store(&p->below->again, 3);
    assert_int_equal(put_number(p->kv, 1, &err), ERR_OK);
    assert_int_equal(kv_flush(p->kv, &err), ERR_OK);
    assert_int_equal(atomic_load(&p->below->again), 0);
    assert_int_equal(atomic_load(&p->below->loads[KV_STATE]), 1);
    assert_int_equal(atomic_load(&p->below->loads[KV_CACHE]), 0);
    /* Nothing new: nothing to do. */
    assert_int_equal(kv_flush(p->kv, &err), ERR_OK);
    assert_int_equal(atomic_load(&p->below->loads[KV_STATE]), 1);
}

static void
test_cache_that_is_lost_does_not_stop_the_state(void **state)
{
    struct place *p = *state;
    struct error err = {0};
    struct kv_batch *b = kv_batch_new();

    kv_batch_put(b, KV_CACHE, SPAN_LIT("x"), SPAN_LIT("derived"));
    assert_int_equal(kv_write(p->kv, b, &err), ERR_OK);
    kv_batch_free(&b);
    atomic_store(&p->below->answer, ERR_NOSPACE);
    assert_int_equal(kv_flush(p->kv, &err), ERR_OK);
    atomic_store(&p->below->answer, ERR_OK);
    assert_int_equal(put_number(p->kv, 1, &err), ERR_OK);
    assert_int_equal(kv_flush(p->kv, &err), ERR_OK);
    assert_int_equal(count_rows(p->kv), 1);
}

static void
put_text(struct kv *kv, const char *key, const char *value)
{
    struct error err = {0};
    struct kv_batch *b = kv_batch_new();

    kv_batch_put(b, KV_STATE, span_str(key), span_str(value));
    assert_int_equal(kv_write(kv, b, &err), ERR_OK);
    kv_batch_free(&b);
}

static void
check_text(struct kv *kv, const struct kv_snap *snap, const char *key,
           const char *want)
{
    struct error err = {0};
    AUTO(buf_free) struct buf got = BUF_INIT;

    /* What is there already stays in front. */
    buf_add_byte(&got, '>');
    assert_int_equal(kv_get(kv, snap, KV_STATE, span_str(key), &got, &err),
                     ERR_OK);
    assert_string_equal(buf_cstr(&got) + 1, want);
}

/* The second look at a row of the kept table goes nowhere; a new value is seen,
 * before it goes below and after; another table's rows are not kept. */
static void
test_kept_rows_are_read_below_once(void **state)
{
    struct place *p = *state;
    struct error err = {0};

    put_text(p->kv, "k-name", "one");
    put_text(p->kv, "other", "two");
    assert_int_equal(kv_flush(p->kv, &err), ERR_OK);
    check_text(p->kv, NULL, "k-name", "one");
    check_text(p->kv, NULL, "other", "two");
    const unsigned gets = atomic_load(&p->below->gets);
    check_text(p->kv, NULL, "k-name", "one");
    assert_int_equal(atomic_load(&p->below->gets), gets);
    check_text(p->kv, NULL, "other", "two");
    assert_int_equal(atomic_load(&p->below->gets), gets + 1);

    struct kv_snap *before = kv_snapshot(p->kv);
    put_text(p->kv, "k-name", "three");
    check_text(p->kv, NULL, "k-name", "three");
    check_text(p->kv, before, "k-name", "one");
    assert_int_equal(kv_flush(p->kv, &err), ERR_OK);
    check_text(p->kv, NULL, "k-name", "three");
    check_text(p->kv, NULL, "k-name", "three");
    check_text(p->kv, before, "k-name", "one");
    kv_release(p->kv, &before);
}

/* ------------------------------------------------------------- the table */

/* Ascending, descending and at random: each key is found, in order. */
static void
test_table_finds_keys_put_in_any_order(void **state)
{
    enum { N = 5000 };
    static uint32_t order[N];

    (void)state;
    for (int how = 0; how < 3; how++) {
        struct kv_table *t = kv_table_new();
        struct kv_place at = {.seq = UINT64_MAX};
        unsigned seed = 7;
        for (uint32_t i = 0; i < N; i++)
            order[i] = how == 1 ? N - 1 - i : i;
        for (uint32_t i = N - 1; how == 2 && i > 0; i--) {
            uint32_t k = (uint32_t)rand_r(&seed) % (i + 1);
            uint32_t o = order[i];
            order[i] = order[k];
            order[k] = o;
        }
        for (uint32_t i = 0; i < N; i++) {
            char key[16];
            snprintf(key, sizeof(key), "%08u", order[i]);
            struct span k = span_str(key);
            kv_table_set(t, kv_key_hash(KV_STATE, k), k, true, k, i + 1);
        }
        assert_int_equal(kv_table_keys(t), N);
        assert_true(kv_table_bytes(t) > N * 16);
        bool more = kv_table_seek(t, SPAN_EMPTY, &at);
        for (uint32_t i = 0; i < N; i++) {
            char key[16];
            struct span value;
            snprintf(key, sizeof(key), "%08u", i);
            struct span k = span_str(key);
            assert_true(more && span_eq(at.key, k) && span_eq(at.value, k));
            more = kv_table_next(&at);
            assert_int_equal(kv_table_get(t, kv_key_hash(KV_STATE, k), k,
                                          UINT64_MAX, &value),
                             1);
            assert_int_equal(
                kv_table_get(t, kv_key_hash(KV_STATE, k), k, 0, &value), -1);
        }
        assert_false(more);
        kv_table_free(&t);
        assert_null(t);
    }
}

/* The I-th of keys as a store has them: those of some mailboxes in turn, a
 * number behind each, ascending but for every fifth; and such as begin with a
 * hash. */
static struct span
key_as_of_store(uint32_t i, uint8_t room[24])
{
    const uint32_t h = (i + 1) * UINT32_C(2654435761);

    memset(room, 0, 24);
    if (i % 3 == 0) {
        room[0] = 'r';
        for (size_t at = 0; at < 4; at++)
            room[1 + at] = (uint8_t)(h >> (24 - 8 * at));
        room[5] = (uint8_t)(i >> 8);
        room[6] = (uint8_t)i;
        return span_of(room, 17);
    }
    room[0] = i % 3 == 1 ? 'm' : 'c';
    room[7] = (uint8_t)(h >> 20 & 1);
    room[8] = (uint8_t)(h >> 10 & 31);
    const uint32_t uid = i % 5 == 0 ? 1000000 - i : i;
    for (size_t at = 0; at < 4; at++)
        room[9 + at] = (uint8_t)(uid >> (24 - 8 * at));
    return span_of(room, i % 3 == 1 ? 13 : 21);
}

static int
compare_keys(const void *a, const void *b)
{
    return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

/* Whatever the guesses where a key belongs are worth, all stand in order. */
static void
test_table_is_in_order_for_keys_as_of_a_store(void **state)
{
    enum { N = 30000 };
    static uint8_t rooms[N][24];
    static struct span keys[N];
    struct kv_table *t = kv_table_new();
    struct kv_place at = {.seq = UINT64_MAX};

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        keys[i] = key_as_of_store(i, rooms[i]);
        kv_table_will_set(t, kv_key_hash(KV_STATE, keys[i]));
        kv_table_set(t, kv_key_hash(KV_STATE, keys[i]), keys[i], true, keys[i],
                     i + 1);
    }
    assert_int_equal(kv_table_keys(t), N);
    qsort(keys, N, sizeof(keys[0]), compare_keys);
    bool more = kv_table_seek(t, SPAN_EMPTY, &at);
    for (size_t i = 0; i < N; i++) {
        struct kv_place there = {.seq = UINT64_MAX};
        assert_true(more && span_eq(at.key, keys[i]));
        assert_true(kv_table_seek(t, keys[i], &there));
        assert_true(span_eq(there.key, keys[i]));
        more = kv_table_next(&at);
    }
    assert_false(more);
    kv_table_free(&t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_finds_keys_put_in_any_order),
        cmocka_unit_test(test_table_is_in_order_for_keys_as_of_a_store),
        cmocka_unit_test_setup_teardown(test_kept_rows_are_read_below_once,
                                        setup_mem, teardown),
        cmocka_unit_test_setup_teardown(
            test_views_stay_as_they_were_while_sets_are_loaded, setup_mem,
            teardown),
        cmocka_unit_test_setup_teardown(
            test_readers_never_see_half_a_write_while_sets_are_loaded,
            setup_mem, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk_refuses_and_heals,
                                        setup_mem, teardown),
        cmocka_unit_test_setup_teardown(test_failed_disk_is_for_ever, setup_mem,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_busy_store_below_is_asked_again,
                                        setup_mem, teardown),
        cmocka_unit_test_setup_teardown(
            test_cache_that_is_lost_does_not_stop_the_state, setup_mem,
            teardown),
        cmocka_unit_test_setup_teardown(test_rocks_has_what_was_flushed,
                                        setup_rocks, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
