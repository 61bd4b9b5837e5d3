/*
 * store/kv_front.c - kv.h as tables in memory in front of a store on disk.
 *
 * Rows are written into a table of their family (store/kv_table.h).  When one
 * has grown to its limit, both are closed to writers and a new pair takes their
 * place; a thread, the loader, hands the closed ones down, the oldest first,
 * each family as one sorted table of its newest values, and then they go.  What
 * is read is looked for in the tables, the newest first, and then below.
 *
 * This does what RocksDB's memtable would do (which Debian builds with its
 * assertions: 3 to 7 us a key, and as much for a key that is not there), at a
 * tenth of the cost, and a row that was written often goes down once.
 *
 *   layers: what a reader holds on to while it reads
 *     sets[0]        open: the writer's
 *     sets[1..n-1]   closed, newest first; at most LAYERS_MAX - 1 of them
 *     below          a snapshot of what is below, with all older sets in it
 *
 * Layers never change; a new one replaces them when a set is closed or has been
 * loaded, and the old one goes with its last reader.  So a snapshot is a
 * reference to layers and the number of the last batch written; each version in
 * a table carries the number of its batch.
 *
 * A name of a mailbox is looked for by each delivery and seldom changes, so it
 * lies below: what was found of such rows (limits->kept_table) stays with the
 * view in a table of its own, in which the first that comes has its slot until
 * the view goes.  A view never changes, so nothing there is ever wrong.
 *
 * After a crash what was not loaded is gone: whole sets, the newest ones, so a
 * prefix of the batches is left.  (KV_CACHE goes down before KV_STATE and may
 * be ahead; it is derived.)
 *
 * When the disk is full, closed sets stay in memory and kv_write() says
 * ERR_NOSPACE until the loader, which tries on, has got rid of one: what the
 * log takes is to be bounded by what the state can.  Any other failure is for
 * ever.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "store/kv_private.h"
#include "store/kv_table.h"

#define LAYERS_MAX 3U
#define FETCH_AHEAD 4U /* keys of a batch */
#define KEPT_BITS 12U
#define KEPT_BYTES_MAX 1024U /* of a key and its value */
#define RETRY_FULL_MS 1000U  /* the disk is full */
#define RETRY_BUSY_MS 20U    /* what is below cannot take more now */
#define MS_PER_S 1000U
#define NS_PER_MS 1000000U

/* A table of each family, filled in the same time. */
struct set {
    _Atomic unsigned refs;
    uint64_t id; /* in order */
    struct kv_table *of[KV_FAMILIES];
    bool cache_is_loaded;
};

/* A row as it was found below. */
struct kept {
    uint64_t hash;
    size_t key_bytes;
    size_t value_bytes;
    uint8_t bytes[]; /* key, value */
};

/* What was below when the last set had been loaded. */
struct view {
    _Atomic unsigned refs;
    struct kv *kv;
    struct kv_snap *snap;
    uint8_t kept_table;
    _Atomic(struct kept *) kept[1U << KEPT_BITS]; /* by the hash of the key */
};

struct layers {
    _Atomic unsigned refs;
    struct view *below;
    size_t n;
    struct set *sets[LAYERS_MAX];
};

struct front {
    struct kv kv;
    struct kv *below;
    struct kv_front_limits limits;
    _Atomic uint64_t seq; /* of the last batch that is written whole */

    pthread_mutex_t writing; /* held by who writes, before `lock` */
    pthread_mutex_t lock;    /* all below */
    pthread_cond_t work;     /* for the loader */
    pthread_cond_t done;     /* by the loader */
    struct layers *layers;
    struct set *open;  /* layers->sets[0]; changes while `writing` is held */
    uint64_t wanted;   /* sets up to this one are to be loaded soon */
    uint64_t loaded;   /* the newest set that is below */
    uint64_t attempts; /* that ended, well or not */
    bool hurry;        /* somebody waits for an attempt */
    bool closing;
    struct error failed; /* why the last one did; ERR_OK: it did not */
    pthread_t loader;
};

struct kv_snap {
    struct layers *layers;
    uint64_t seq;
};

struct front_iter {
    struct kv_iter it;
    struct layers *layers;
    enum kv_family family;
    struct buf prefix;
    struct kv_place at[LAYERS_MAX]; /* node NULL: nothing more there */
    struct kv_iter *below;
    bool has_below; /* the next key and value below are: */
    bool is_given;  /* which the caller has, and has not done with */
    struct span key;
    struct span value;
};

/* ---------------------------------------------------------- sets, layers */

static struct set *
set_new(uint64_t id)
{
    struct set *s = xcalloc(1, sizeof(*s));

    atomic_init(&s->refs, 1);
    s->id = id;
    for (size_t f = 0; f < KV_FAMILIES; f++)
        s->of[f] = kv_table_new();
    return s;
}

static void
set_unref(struct set *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t f = 0; f < KV_FAMILIES; f++)
        kv_table_free(&s->of[f]);
    free(s);
}

static struct view *
view_new(const struct front *f)
{
    struct view *v = xcalloc(1, sizeof(*v));

    atomic_init(&v->refs, 1);
    v->kv = f->below;
    v->snap = kv_snapshot(f->below);
    v->kept_table = f->limits.kept_table;
    return v;
}

static struct view *
view_ref(struct view *v)
{
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

static void
view_unref(struct view *v)
{
    if (atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < ARRAY_LEN(v->kept); i++)
        free(atomic_load_explicit(&v->kept[i], memory_order_relaxed));
    kv_release(v->kv, &v->snap);
    free(v);
}

static bool
keeps(const struct view *v, enum kv_family family, struct span key)
{
    return v->kept_table != 0 && family == KV_STATE && key.n > 0 &&
           key.p[0] == v->kept_table;
}

static bool
get_kept(struct view *v, uint64_t hash, struct span key, struct buf *ret)
{
    const struct kept *k = atomic_load_explicit(
        &v->kept[hash >> (64 - KEPT_BITS)], memory_order_acquire);

    if (k == NULL || k->hash != hash ||
        !span_eq(span_of(k->bytes, k->key_bytes), key))
        return false;
    buf_add(ret, span_of(k->bytes + k->key_bytes, k->value_bytes));
    return true;
}

/* KEY has VALUE below. */
static void
keep(struct view *v, uint64_t hash, struct span key, struct span value)
{
    _Atomic(struct kept *) *slot = &v->kept[hash >> (64 - KEPT_BITS)];
    struct kept *none = NULL;

    if (key.n + value.n > KEPT_BYTES_MAX ||
        atomic_load_explicit(slot, memory_order_relaxed) != NULL)
        return;
    struct kept *k = xmalloc(sizeof(*k) + key.n + value.n);
    *k = (struct kept){hash, key.n, value.n};
    memcpy(k->bytes, key.p, key.n);
    if (value.n > 0)
        memcpy(k->bytes + key.n, value.p, value.n);
    if (!atomic_compare_exchange_strong_explicit(
            slot, &none, k, memory_order_release, memory_order_relaxed))
        free(k); /* somebody was quicker */
}

/* What the view has of KEY, and is in no set. */
static enum errcode
get_below(struct view *v, enum kv_family family, uint64_t hash, struct span key,
          struct buf *ret, struct error *err)
{
    const size_t before = ret->n;

    if (!keeps(v, family, key))
        return kv_get(v->kv, v->snap, family, key, ret, err);
    if (get_kept(v, hash, key, ret))
        return ERR_OK;
    enum errcode rc = kv_get(v->kv, v->snap, family, key, ret, err);
    if (rc == ERR_OK && !ret->full)
        keep(v, hash, key, span_skip(buf_span(ret), before));
    return rc;
}

/* OPEN (NULL: none) before the first N of SETS, over VIEW.  Takes OPEN and
 * VIEW; of the others it has references of its own. */
static struct layers *
layers_new(struct view *view, struct set *open, struct set *const *sets,
           size_t n)
{
    struct layers *l = xcalloc(1, sizeof(*l));

    atomic_init(&l->refs, 1);
    l->below = view;
    if (open != NULL)
        l->sets[l->n++] = open;
    for (size_t i = 0; i < n; i++) {
        ENSURE(l->n < LAYERS_MAX);
        l->sets[l->n++] = sets[i];
        atomic_fetch_add_explicit(&sets[i]->refs, 1, memory_order_relaxed);
    }
    return l;
}

static void
layers_unref(struct layers *l)
{
    if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < l->n; i++)
        set_unref(l->sets[i]);
    view_unref(l->below);
    free(l);
}

static struct layers *
layers_get(struct front *f)
{
    pthread_mutex_lock(&f->lock);
    struct layers *l = f->layers;
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&f->lock);
    return l;
}

static bool
set_is_empty(const struct set *s)
{
    for (size_t f = 0; f < KV_FAMILIES; f++)
        if (kv_table_keys(s->of[f]) > 0)
            return false;
    return true;
}

static bool
set_is_full(const struct front *f, const struct set *s)
{
    for (size_t i = 0; i < KV_FAMILIES; i++)
        if (kv_table_keys(s->of[i]) > 0 &&
            kv_table_bytes(s->of[i]) >= f->limits.bytes[i])
            return true;
    return false;
}

/* Close the open set; there is room for one more.  Both locks are held. */
static void
close_set(struct front *f)
{
    struct layers *old = f->layers;

    f->open = set_new(f->open->id + 1);
    f->layers = layers_new(view_ref(old->below), f->open, old->sets, old->n);
    layers_unref(old);
    pthread_cond_signal(&f->work);
}

/* ---------------------------------------------------------------- loader */

static void
wait_ms(struct front *f, uint64_t ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(ms / MS_PER_S);
    at.tv_nsec += (long)(ms % MS_PER_S * NS_PER_MS);
    if (at.tv_nsec >= (long)(MS_PER_S * NS_PER_MS)) {
        at.tv_nsec -= (long)(MS_PER_S * NS_PER_MS);
        at.tv_sec++;
    }
    if (!f->hurry && !f->closing)
        (void)pthread_cond_timedwait(&f->work, &f->lock, &at);
}

static enum errcode
load_set(struct front *f, struct set *s, struct error *err)
{
    struct error ignored = {0};
    enum errcode rc = ERR_OK;

    /* What is lost of the cache is made again by who misses it. */
    if (!s->cache_is_loaded && kv_table_keys(s->of[KV_CACHE]) > 0 &&
        f->below->ops->load(f->below, KV_CACHE, s->of[KV_CACHE], &ignored) ==
            ERR_AGAIN)
        return error_set(err, ERR_AGAIN, "%s", ignored.text);
    s->cache_is_loaded = true;
    if (kv_table_keys(s->of[KV_STATE]) > 0)
        rc = f->below->ops->load(f->below, KV_STATE, s->of[KV_STATE], err);
    return rc;
}

/* S is below now.  The lock is held. */
static void
drop_oldest(struct front *f, struct view *view, const struct set *s)
{
    struct layers *old = f->layers;

    ENSURE(old->n > 1 && old->sets[old->n - 1] == s);
    f->loaded = s->id;
    f->layers = layers_new(view, NULL, old->sets, old->n - 1);
    layers_unref(old);
}

/* One try to hand down the oldest set.  The lock is held, but not meanwhile. */
static void
load_oldest(struct front *f)
{
    struct set *s = f->layers->sets[f->layers->n - 1];
    struct view *view = NULL;
    struct error err = {0};

    f->hurry = false;
    pthread_mutex_unlock(&f->lock);
    enum errcode rc = load_set(f, s, &err);
    if (rc == ERR_OK)
        view = view_new(f);
    pthread_mutex_lock(&f->lock);
    if (rc == ERR_AGAIN) {
        wait_ms(f, RETRY_BUSY_MS);
        return;
    }
    f->attempts++;
    f->failed = err;
    f->failed.code = rc;
    if (rc == ERR_OK)
        drop_oldest(f, view, s);
    pthread_cond_broadcast(&f->done);
    if (rc == ERR_NOSPACE)
        wait_ms(f, RETRY_FULL_MS);
}

static bool
is_broken(const struct front *f)
{
    return f->failed.code != ERR_OK && f->failed.code != ERR_NOSPACE;
}

/* Somebody waits for what is in the open set. */
static void
close_wanted(struct front *f)
{
    pthread_mutex_unlock(&f->lock);
    pthread_mutex_lock(&f->writing);
    pthread_mutex_lock(&f->lock);
    if (f->wanted >= f->open->id && f->layers->n == 1)
        close_set(f);
    pthread_mutex_unlock(&f->writing);
}

static void *
loader_main(void *arg)
{
    struct front *f = arg;

    pthread_mutex_lock(&f->lock);
    while (!f->closing) {
        if (is_broken(f))
            pthread_cond_wait(&f->work, &f->lock);
        else if (f->layers->n > 1)
            load_oldest(f);
        else if (f->wanted >= f->open->id)
            close_wanted(f);
        else
            pthread_cond_wait(&f->work, &f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* --------------------------------------------------------------- writing */

/* Close the open set if it is full, waiting for the loader if need be. */
static enum errcode
make_room(struct front *f, struct error *err)
{
    const bool full = set_is_full(f, f->open);

    pthread_mutex_lock(&f->lock);
    while (full && f->layers->n == LAYERS_MAX && f->failed.code == ERR_OK)
        pthread_cond_wait(&f->done, &f->lock);
    enum errcode rc = f->failed.code;
    if (rc == ERR_OK && full)
        close_set(f);
    else if (rc != ERR_OK && err != NULL)
        *err = f->failed;
    pthread_mutex_unlock(&f->lock);
    return rc;
}

static enum errcode
front_write(struct kv *kv, struct kv_batch *b, struct error *err)
{
    struct front *f = (struct front *)kv;
    size_t n;
    const struct kv_op *ops = kv_batch_ops(b, &n);

    pthread_mutex_lock(&f->writing);
    enum errcode rc = make_room(f, err);
    if (rc == ERR_OK) {
        const uint32_t *sorted = kv_batch_sorted(b);
        const struct set *s = f->open;
        const uint64_t seq = atomic_load(&f->seq) + 1;
        for (size_t i = 0; i < n; i++) {
            const struct kv_op *op = &ops[sorted[i]];
            if (i + FETCH_AHEAD < n) {
                const struct kv_op *soon = &ops[sorted[i + FETCH_AHEAD]];
                kv_table_will_set(s->of[soon->family], soon->hash);
            }
            kv_table_set(s->of[op->family], op->hash, kv_op_key(b, op),
                         op->is_put, kv_op_value(b, op), seq);
        }
        atomic_store(&f->seq, seq);
    }
    pthread_mutex_unlock(&f->writing);
    return rc;
}

static enum errcode
front_flush(struct kv *kv, struct error *err)
{
    struct front *f = (struct front *)kv;

    pthread_mutex_lock(&f->writing);
    pthread_mutex_lock(&f->lock);
    const uint64_t id = f->open->id - (set_is_empty(f->open) ? 1 : 0);
    f->wanted = MAX(f->wanted, id);
    pthread_mutex_unlock(&f->writing);
    /* One that is under way may have failed before its reason went. */
    const uint64_t attempts = f->attempts;
    while (f->loaded < id && !is_broken(f) &&
           (f->failed.code == ERR_OK || f->attempts < attempts + 2)) {
        f->hurry = true;
        pthread_cond_signal(&f->work);
        pthread_cond_wait(&f->done, &f->lock);
    }
    enum errcode rc = f->loaded >= id ? ERR_OK : f->failed.code;
    if (rc != ERR_OK && err != NULL)
        *err = f->failed;
    pthread_mutex_unlock(&f->lock);
    return rc;
}

/* --------------------------------------------------------------- reading */

static struct kv_snap *
front_snapshot(struct kv *kv)
{
    struct front *f = (struct front *)kv;
    struct kv_snap *snap = xmalloc(sizeof(*snap));

    /* In this order: what is read has all batches up to the number. */
    snap->seq = atomic_load(&f->seq);
    snap->layers = layers_get(f);
    return snap;
}

static void
front_release(struct kv *kv, struct kv_snap *snap)
{
    (void)kv;
    layers_unref(snap->layers);
    free(snap);
}

static enum errcode
get_from(const struct layers *l, uint64_t seq, enum kv_family family,
         struct span key, struct buf *ret, struct error *err)
{
    const uint64_t hash = kv_key_hash(family, key);
    struct span value;

    for (size_t i = 0; i < l->n; i++) {
        switch (kv_table_get(l->sets[i]->of[family], hash, key, seq, &value)) {
        case 1:
            buf_add(ret, value);
            return ERR_OK;
        case 0:
            return error_set(err, ERR_NOTFOUND, "no such key");
        default:
            break;
        }
    }
    return get_below(l->below, family, hash, key, ret, err);
}

static enum errcode
front_get(struct kv *kv, const struct kv_snap *snap, enum kv_family family,
          struct span key, struct buf *ret, struct error *err)
{
    struct front *f = (struct front *)kv;

    if (snap != NULL)
        return get_from(snap->layers, snap->seq, family, key, ret, err);
    const uint64_t seq = atomic_load(&f->seq);
    struct layers *l = layers_get(f);
    enum errcode rc = get_from(l, seq, family, key, ret, err);
    layers_unref(l);
    return rc;
}

static void
step_below(struct front_iter *it)
{
    it->has_below = kv_iter_next(it->below, &it->key, &it->value);
}

/* Does PLACE, that was just reached, lie within the prefix? */
static void
keep_within(const struct front_iter *it, struct kv_place *place)
{
    if (place->node != NULL && !span_starts(place->key, buf_span(&it->prefix)))
        place->node = NULL;
}

static void
front_iter_seek(struct kv_iter *kvit, struct span key)
{
    struct front_iter *it = (struct front_iter *)kvit;

    if (span_cmp(key, buf_span(&it->prefix)) < 0)
        key = buf_span(&it->prefix);
    for (size_t i = 0; i < it->layers->n; i++) {
        (void)kv_table_seek(it->layers->sets[i]->of[it->family], key,
                            &it->at[i]);
        keep_within(it, &it->at[i]);
    }
    kv_iter_seek(it->below, key);
    it->is_given = false;
    step_below(it);
}

static struct kv_iter *
front_iter_open(struct kv *kv, const struct kv_snap *snap,
                enum kv_family family, struct span prefix, struct span from)
{
    struct front *f = (struct front *)kv;
    struct front_iter *it = xcalloc(1, sizeof(*it));
    const uint64_t seq = snap != NULL ? snap->seq : atomic_load(&f->seq);

    it->it.ops = kv->ops;
    it->family = family;
    it->layers = snap != NULL ? snap->layers : layers_get(f);
    if (snap != NULL)
        atomic_fetch_add_explicit(&it->layers->refs, 1, memory_order_relaxed);
    buf_add(&it->prefix, prefix);
    for (size_t i = 0; i < it->layers->n; i++) {
        it->at[i].seq = seq;
        (void)kv_table_seek(it->layers->sets[i]->of[family], from, &it->at[i]);
        keep_within(it, &it->at[i]);
    }
    it->below =
        kv_iter_open(f->below, it->layers->below->snap, family, prefix, from);
    step_below(it);
    return &it->it;
}

/* Index of the place with the least key, the newest of those that have it; n:
 * that is below. */
static size_t
least(const struct front_iter *it)
{
    const size_t n = it->layers->n;
    size_t best = n;

    for (size_t i = 0; i < n; i++)
        if (it->at[i].node != NULL &&
            (best == n || span_cmp(it->at[i].key, it->at[best].key) < 0))
            best = i;
    if (best < n && it->has_below && span_cmp(it->key, it->at[best].key) < 0)
        best = n;
    return best;
}

static bool
front_iter_next(struct kv_iter *kvit, struct span *ret_key,
                struct span *ret_value)
{
    struct front_iter *it = (struct front_iter *)kvit;
    const size_t n = it->layers->n;

    for (;;) {
        if (it->is_given)
            step_below(it);
        it->is_given = false;
        const size_t best = least(it);
        if (best == n) {
            if (!it->has_below)
                return false;
            *ret_key = it->key;
            *ret_value = it->value;
            it->is_given = true;
            return true;
        }
        const struct kv_place place = it->at[best];
        for (size_t i = best; i < n; i++)
            if (it->at[i].node != NULL && span_eq(it->at[i].key, place.key)) {
                (void)kv_table_next(&it->at[i]);
                keep_within(it, &it->at[i]);
            }
        if (it->has_below && span_eq(it->key, place.key))
            step_below(it);
        if (place.is_put) {
            *ret_key = place.key;
            *ret_value = place.value;
            return true;
        }
    }
}

static enum errcode
front_iter_close(struct kv_iter *kvit, struct error *err)
{
    struct front_iter *it = (struct front_iter *)kvit;
    enum errcode rc = kv_iter_close(&it->below, err);

    layers_unref(it->layers);
    buf_free(&it->prefix);
    free(it);
    return rc;
}

/* --------------------------------------------------------- opening, ending */

static enum errcode
front_health(struct kv *kv, struct error *err)
{
    struct front *f = (struct front *)kv;

    pthread_mutex_lock(&f->lock);
    const struct error failed = f->failed;
    pthread_mutex_unlock(&f->lock);
    if (failed.code == ERR_OK)
        return kv_health(f->below, err);
    if (err != NULL)
        *err = failed;
    return failed.code;
}

static uint64_t
front_property(struct kv *kv, const char *name)
{
    struct front *f = (struct front *)kv;
    uint64_t n = kv_property(f->below, name);

    if (strcmp(name, "rocksdb.estimate-num-keys") != 0)
        return n;
    struct layers *l = layers_get(f);
    for (size_t i = 0; i < l->n; i++)
        n += kv_table_keys(l->sets[i]->of[KV_STATE]);
    layers_unref(l);
    return n;
}

static enum errcode
front_disk_iter(struct kv *kv, struct span from, struct kv_iter **ret,
                struct error *err)
{
    return kv_disk_iter(((struct front *)kv)->below, from, ret, err);
}

/* What is not below yet is lost, and in the log. */
static void
front_close(struct kv *kv)
{
    struct front *f = (struct front *)kv;

    pthread_mutex_lock(&f->lock);
    f->closing = true;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->loader, NULL);
    layers_unref(f->layers);
    kv_close(&f->below);
    pthread_cond_destroy(&f->work);
    pthread_cond_destroy(&f->done);
    pthread_mutex_destroy(&f->lock);
    pthread_mutex_destroy(&f->writing);
    free(f);
}

static const struct kv_ops front_ops = {
    .close = front_close,
    .write = front_write,
    .get = front_get,
    .snapshot = front_snapshot,
    .release = front_release,
    .iter_open = front_iter_open,
    .iter_next = front_iter_next,
    .iter_seek = front_iter_seek,
    .iter_close = front_iter_close,
    .flush = front_flush,
    .health = front_health,
    .property = front_property,
    .disk_iter = front_disk_iter,
};

struct kv *
kv_front_open(struct kv *below, const struct kv_front_limits *limits)
{
    struct front *f = xcalloc(1, sizeof(*f));
    pthread_condattr_t attr;

    f->kv.ops = &front_ops;
    f->below = below;
    f->limits = *limits;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&f->writing, NULL);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->work, &attr);
    pthread_cond_init(&f->done, NULL);
    pthread_condattr_destroy(&attr);
    f->open = set_new(1);
    f->layers = layers_new(view_new(f), f->open, NULL, 0);
    ENSURE(pthread_create(&f->loader, NULL, loader_main, f) == 0);
    return &f->kv;
}
