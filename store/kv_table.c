/*
 * store/kv_table.c - a skip list of keys, each with its versions, the newest
 * first, and a hash index beside it.
 *
 * Most of what a delivery asks is for one key, very often one that is not
 * there; that is a look at one or two slots of the index.  The list is for
 * iterators.  A commit group comes sorted, so a new key belongs close behind
 * the one before: the search for its place begins there, and goes up only as
 * far as it must.
 *
 * Readers have no lock: a node, a version and an index are complete before the
 * pointer to them is stored (release), and never change but for the pointers
 * in them.  An index that has become too small stays until the end, for who is
 * reading it; a key that it lacks came after that reader began.
 */
#include "store/kv_table.h"

#include <endian.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/arena.h"

#define HEIGHT_MAX 12U
#define SLOTS_FIRST 1024U

struct version {
    const struct version *older;
    uint64_t seq;
    uint32_t n;
    bool is_put;
    uint8_t bytes[];
};

/* Its key lies behind next[height - 1]. */
struct kv_node {
    uint64_t start; /* of the key, so that most comparisons end here */
    uint64_t hash;
    _Atomic(const struct version *) newest;
    uint32_t key_bytes;
    uint32_t height;
    _Atomic(struct kv_node *) next[];
};

/* Open addressing, at most half full. */
struct index {
    struct index *smaller; /* the one before */
    size_t n;              /* a power of two */
    _Atomic(struct kv_node *) slots[];
};

struct kv_table {
    struct arena arena;
    struct kv_node *head; /* in front of all; HEIGHT_MAX high, no key */
    _Atomic(struct index *) index;
    _Atomic size_t keys;
    size_t index_bytes;
    uint64_t random;
    /* Where the last new key was put: on each level the last node before it,
     * itself included.  The writer's. */
    struct kv_node *finger[HEIGHT_MAX];
};

static struct span
node_key(const struct kv_node *n)
{
    return (struct span){(const uint8_t *)&n->next[n->height], n->key_bytes};
}

/* Numbers that are in the order of the keys, where they differ. */
static uint64_t
start_of(struct span key)
{
    uint64_t start = 0;

    if (key.n >= sizeof(start)) {
        memcpy(&start, key.p, sizeof(start));
        return be64toh(start);
    }
    for (size_t i = 0; i < sizeof(start); i++)
        start = start << 8 | (i < key.n ? key.p[i] : 0U);
    return start;
}

static struct kv_node *
node_next(const struct kv_node *n, uint32_t level)
{
    return atomic_load_explicit(&n->next[level], memory_order_acquire);
}

static struct kv_node *
new_node(struct kv_table *t, uint64_t hash, struct span key, uint32_t height)
{
    struct kv_node *n = arena_alloc(
        &t->arena, sizeof(*n) + height * sizeof(n->next[0]) + key.n);

    n->start = start_of(key);
    n->hash = hash;
    n->key_bytes = (uint32_t)key.n;
    n->height = height;
    if (key.n > 0)
        memcpy(&n->next[height], key.p, key.n);
    return n;
}

static struct index *
new_index(struct kv_table *t, size_t n, struct index *smaller)
{
    struct index *x = xcalloc(1, sizeof(*x) + n * sizeof(x->slots[0]));

    x->n = n;
    x->smaller = smaller;
    t->index_bytes += n * sizeof(x->slots[0]);
    return x;
}

struct kv_table *
kv_table_new(void)
{
    struct kv_table *t = xcalloc(1, sizeof(*t));

    t->random = UINT64_C(0x9e3779b97f4a7c15);
    t->head = new_node(t, 0, SPAN_EMPTY, HEIGHT_MAX);
    for (uint32_t i = 0; i < HEIGHT_MAX; i++)
        t->finger[i] = t->head;
    atomic_init(&t->index, new_index(t, SLOTS_FIRST, NULL));
    return t;
}

void
kv_table_free(struct kv_table **tp)
{
    struct kv_table *t = *tp;

    if (t == NULL)
        return;
    for (struct index *x = atomic_load(&t->index); x != NULL;) {
        struct index *smaller = x->smaller;
        free(x);
        x = smaller;
    }
    arena_free(&t->arena);
    xfree(tp);
}

size_t
kv_table_bytes(const struct kv_table *t)
{
    return t->arena.used + t->index_bytes;
}

size_t
kv_table_keys(const struct kv_table *t)
{
    return atomic_load_explicit(&t->keys, memory_order_relaxed);
}

/* ------------------------------------------------------------ the index */

/* The node of KEY, or NULL and in *RET_AT the slot where it belongs. */
static struct kv_node *
look_up(struct index *x, uint64_t hash, struct span key, size_t *ret_at)
{
    for (size_t at = hash & (x->n - 1);; at = (at + 1) & (x->n - 1)) {
        struct kv_node *n =
            atomic_load_explicit(&x->slots[at], memory_order_acquire);
        *ret_at = at;
        if (n == NULL || (n->hash == hash && span_eq(node_key(n), key)))
            return n;
    }
}

static void
grow_index(struct kv_table *t)
{
    struct index *old = atomic_load_explicit(&t->index, memory_order_relaxed);
    struct index *x = new_index(t, old->n * 2, old);

    for (struct kv_node *n = node_next(t->head, 0); n != NULL;
         n = node_next(n, 0)) {
        size_t at = n->hash & (x->n - 1);
        while (atomic_load_explicit(&x->slots[at], memory_order_relaxed) !=
               NULL)
            at = (at + 1) & (x->n - 1);
        atomic_store_explicit(&x->slots[at], n, memory_order_relaxed);
    }
    atomic_store_explicit(&t->index, x, memory_order_release);
}

/* ------------------------------------------------------------- the list */

/* A key that a place is looked for. */
struct wanted {
    struct span key;
    uint64_t start;
};

static bool
is_before(const struct kv_table *t, const struct kv_node *n,
          const struct wanted *w)
{
    if (n->start != w->start)
        return n->start < w->start || n == t->head;
    return n == t->head || span_cmp(node_key(n), w->key) < 0;
}

/*
 * Set the finger: on each level the last node before KEY.  Up from where it is
 * to the first level on which KEY lies between its node and the next one, and
 * from there down.
 */
static void
move_finger(struct kv_table *t, const struct wanted *key)
{
    uint32_t level = 0;

    for (; level < HEIGHT_MAX - 1; level++) {
        const struct kv_node *next = node_next(t->finger[level], level);
        if (is_before(t, t->finger[level], key) &&
            (next == NULL || !is_before(t, next, key)))
            break;
    }
    struct kv_node *n =
        is_before(t, t->finger[level], key) ? t->finger[level] : t->head;
    for (;; level--) {
        struct kv_node *next;
        /* The one that is there may be nearer. */
        if (t->finger[level] != n && is_before(t, t->finger[level], key) &&
            (n == t->head ||
             span_cmp(node_key(n), node_key(t->finger[level])) < 0))
            n = t->finger[level];
        while ((next = node_next(n, level)) != NULL && is_before(t, next, key))
            n = next;
        t->finger[level] = n;
        if (level == 0)
            return;
    }
}

/* One in four is a level higher. */
static uint32_t
random_height(struct kv_table *t)
{
    uint32_t height = 1;

    t->random ^= t->random << 13;
    t->random ^= t->random >> 7;
    t->random ^= t->random << 17;
    for (uint64_t bits = t->random; (bits & 3) == 0 && height < HEIGHT_MAX;
         bits >>= 2)
        height++;
    return height;
}

static void
link_node(struct kv_table *t, struct kv_node *n)
{
    const struct wanted key = {node_key(n), n->start};

    move_finger(t, &key);
    for (uint32_t i = 0; i < n->height; i++) {
        atomic_store_explicit(&n->next[i], node_next(t->finger[i], i),
                              memory_order_relaxed);
        atomic_store_explicit(&t->finger[i]->next[i], n, memory_order_release);
        t->finger[i] = n;
    }
}

void
kv_table_set(struct kv_table *t, uint64_t hash, struct span key, bool is_put,
             struct span value, uint64_t seq)
{
    size_t at;
    struct version *v = arena_alloc(&t->arena, sizeof(*v) + value.n);

    ENSURE(key.n <= UINT32_MAX && value.n <= UINT32_MAX);
    v->seq = seq;
    v->is_put = is_put;
    v->n = (uint32_t)value.n;
    if (value.n > 0)
        memcpy(v->bytes, value.p, value.n);
    struct index *x = atomic_load_explicit(&t->index, memory_order_relaxed);
    struct kv_node *n = look_up(x, hash, key, &at);
    if (n != NULL) {
        v->older = atomic_load_explicit(&n->newest, memory_order_relaxed);
        ENSURE(v->older->seq < seq);
        atomic_store_explicit(&n->newest, v, memory_order_release);
        return;
    }
    n = new_node(t, hash, key, random_height(t));
    atomic_store_explicit(&n->newest, v, memory_order_relaxed);
    link_node(t, n);
    atomic_store_explicit(&x->slots[at], n, memory_order_release);
    if (atomic_fetch_add_explicit(&t->keys, 1, memory_order_relaxed) >=
        x->n / 2)
        grow_index(t);
}

/* --------------------------------------------------------------- reading */

static const struct version *
version_at(const struct kv_node *n, uint64_t seq)
{
    const struct version *v =
        atomic_load_explicit(&n->newest, memory_order_acquire);

    while (v != NULL && v->seq > seq)
        v = v->older;
    return v;
}

int
kv_table_get(const struct kv_table *t, uint64_t hash, struct span key,
             uint64_t seq, struct span *ret)
{
    size_t at;
    const struct kv_node *n = look_up(
        atomic_load_explicit(&t->index, memory_order_acquire), hash, key, &at);
    const struct version *v = n == NULL ? NULL : version_at(n, seq);

    if (v == NULL)
        return -1;
    if (!v->is_put)
        return 0;
    *ret = span_of(v->bytes, v->n);
    return 1;
}

/* At N or the first one behind it that was there as of the place's SEQ. */
static bool
stand_at(struct kv_place *place, const struct kv_node *n)
{
    const struct version *v = NULL;

    while (n != NULL && (v = version_at(n, place->seq)) == NULL)
        n = node_next(n, 0);
    place->node = n;
    if (n == NULL)
        return false;
    place->key = node_key(n);
    place->value = span_of(v->bytes, v->n);
    place->is_put = v->is_put;
    return true;
}

bool
kv_table_seek(const struct kv_table *t, struct span key, struct kv_place *ret)
{
    const struct wanted wanted = {key, start_of(key)};
    const struct kv_node *n = t->head;

    for (uint32_t level = HEIGHT_MAX; level-- > 0;) {
        const struct kv_node *next;
        while ((next = node_next(n, level)) != NULL &&
               is_before(t, next, &wanted))
            n = next;
    }
    return stand_at(ret, node_next(n, 0));
}

bool
kv_table_next(struct kv_place *place)
{
    return stand_at(place, node_next(place->node, 0));
}
