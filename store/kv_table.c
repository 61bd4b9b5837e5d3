/*
 * store/kv_table.c - skip lists of keys, each with its versions, the newest
 * first, and a hash index beside them.
 *
 * Most of what a delivery asks is for one key, very often one that is not
 * there; that is a look at one or two slots of the index.  The lists are for
 * iterators.  What they cost is the memory that is touched on the way down, so
 * they are kept short: there is one, a shelf, for each two first bytes of keys,
 * which parts keys that begin with a hash into 256.  A commit group comes
 * sorted, so a new key belongs close behind the one before: the search for its
 * place begins there, and goes up only as far as it must.
 *
 * Three of four nodes stand on the lowest level only, and for those it is
 * enough to know the node before them.  Two guesses are tried first: the last
 * new key of the same first nine bytes (a table and a mailbox: a new message
 * goes behind the last one), and what came last with the same third byte, or
 * the one before that (keys that begin with a hash).  A guess is only where a
 * few steps along the list begin; a bad one costs these steps.
 *
 * Readers have no lock: a node, a version, a shelf and an index are complete
 * before the pointer to them is stored (release), and never change but for the
 * pointers in them.  An index that has become too small stays until the end,
 * for who is reading it; a key that it lacks came after that reader began.
 */
#include "store/kv_table.h"

#include <endian.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/arena.h"

#define HEIGHT_MAX 12U
#define SLOTS_FIRST 1024U
#define LAST_BITS 12U
#define PREFIX_BYTES 9U
#define GUESS_STEPS 4U
#define BUCKETS_FROM 16U /* keys on a shelf */

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

/*
 * Open addressing, at most half full.  A slot is a node's address, which leaves
 * four bits, and in them the first four of its hash: of most nodes that are not
 * the one that is looked for nothing is read.  0 is a free slot.
 */
struct index {
    struct index *smaller; /* the one before */
    size_t n;              /* a power of two */
    _Atomic uintptr_t slots[];
};

#define TAG_BITS 4U
#define TAG_MASK ((uintptr_t)15)

/* The keys of two first bytes. */
struct shelf {
    struct kv_node *head; /* in front of all; HEIGHT_MAX high, no key */
    /* Where the last new key was put: on each level the last node before it,
     * itself included.  The writer's. */
    struct kv_node *finger[HEIGHT_MAX];
    size_t keys;
    struct kv_node **buckets; /* the last new one of each third byte, or NULL;
                               * the writer's */
};

/* The shelves of a first byte, by the second one. */
struct row {
    _Atomic(struct shelf *) shelves[256];
};

struct kv_table {
    struct arena arena;
    _Atomic(struct row *) rows[256];
    _Atomic(struct index *) index;
    _Atomic size_t keys;
    size_t index_bytes;
    uint64_t random;
    /* By a hash of its first PREFIX_BYTES: the last new key.  The writer's. */
    struct kv_node *last[1U << LAST_BITS];
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

static uintptr_t
tag_of(uint64_t hash)
{
    return (uintptr_t)(hash >> (64 - TAG_BITS));
}

static uintptr_t
slot_of(struct kv_node *n)
{
    ENSURE(((uintptr_t)n & TAG_MASK) == 0);
    return (uintptr_t)n | tag_of(n->hash);
}

static struct kv_node *
node_of(uintptr_t slot)
{
    return (struct kv_node *)(slot & ~TAG_MASK);
}

/* The node of KEY, or NULL and in *RET_AT the slot where it belongs. */
static struct kv_node *
look_up(struct index *x, uint64_t hash, struct span key, size_t *ret_at)
{
    for (size_t at = hash & (x->n - 1);; at = (at + 1) & (x->n - 1)) {
        const uintptr_t slot =
            atomic_load_explicit(&x->slots[at], memory_order_acquire);
        *ret_at = at;
        if (slot == 0)
            return NULL;
        if ((slot & TAG_MASK) != tag_of(hash))
            continue;
        struct kv_node *n = node_of(slot);
        if (n->hash == hash && span_eq(node_key(n), key))
            return n;
    }
}

static void
grow_index(struct kv_table *t)
{
    struct index *old = atomic_load_explicit(&t->index, memory_order_relaxed);
    struct index *x = new_index(t, old->n * 2, old);

    for (size_t i = 0; i < old->n; i++) {
        const uintptr_t slot =
            atomic_load_explicit(&old->slots[i], memory_order_relaxed);
        if (slot == 0)
            continue;
        size_t at = node_of(slot)->hash & (x->n - 1);
        while (atomic_load_explicit(&x->slots[at], memory_order_relaxed) != 0)
            at = (at + 1) & (x->n - 1);
        atomic_store_explicit(&x->slots[at], slot, memory_order_relaxed);
    }
    atomic_store_explicit(&t->index, x, memory_order_release);
}

/* ------------------------------------------------------------ the lists */

static unsigned
first_byte(uint64_t start)
{
    return (unsigned)(start >> 56);
}

static unsigned
second_byte(uint64_t start)
{
    return (unsigned)(start >> 48 & 0xff);
}

/* The shelf of keys that begin as START, made if there is none. */
static struct shelf *
need_shelf(struct kv_table *t, uint64_t start)
{
    struct row *row =
        atomic_load_explicit(&t->rows[first_byte(start)], memory_order_relaxed);

    if (row == NULL) {
        row = arena_alloc(&t->arena, sizeof(*row));
        atomic_store_explicit(&t->rows[first_byte(start)], row,
                              memory_order_release);
    }
    struct shelf *shelf = atomic_load_explicit(
        &row->shelves[second_byte(start)], memory_order_relaxed);
    if (shelf == NULL) {
        shelf = arena_alloc(&t->arena, sizeof(*shelf));
        shelf->head = new_node(t, 0, SPAN_EMPTY, HEIGHT_MAX);
        for (uint32_t i = 0; i < HEIGHT_MAX; i++)
            shelf->finger[i] = shelf->head;
        atomic_store_explicit(&row->shelves[second_byte(start)], shelf,
                              memory_order_release);
    }
    return shelf;
}

/* The first shelf that is there from the one numbered AT (two bytes) on, which
 * then is its number; NULL: there is none. */
static struct shelf *
shelf_from(const struct kv_table *t, unsigned *at)
{
    for (; *at < 256 * 256; *at = (*at | 0xff) + 1) {
        struct row *row =
            atomic_load_explicit(&t->rows[*at >> 8], memory_order_acquire);
        if (row == NULL)
            continue;
        for (unsigned i = *at & 0xff; i < 256; i++) {
            struct shelf *shelf =
                atomic_load_explicit(&row->shelves[i], memory_order_acquire);
            if (shelf != NULL) {
                *at = (*at & ~0xffU) | i;
                return shelf;
            }
        }
    }
    return NULL;
}

static uint64_t
word_at(struct span s, size_t at)
{
    uint64_t word;

    memcpy(&word, s.p + at, sizeof(word));
    return be64toh(word);
}

/* span_cmp() of keys with the same start: most are some 20 bytes long, and for
 * so few a call is dear. */
static int
compare_rest(struct span a, struct span b)
{
    const size_t word = sizeof(uint64_t);
    const size_t n = MIN(a.n, b.n);

    if (n < word)
        return span_cmp(a, b);
    for (size_t at = word; at < n; at += word) {
        /* The last one may overlap what was found to be equal. */
        const size_t from = MIN(at, n - word);
        const uint64_t x = word_at(a, from), y = word_at(b, from);
        if (x != y)
            return x < y ? -1 : 1;
    }
    return a.n < b.n ? -1 : a.n > b.n;
}

/* A key that a place is looked for. */
struct wanted {
    struct span key;
    uint64_t start;
};

static bool
is_before(const struct shelf *t, const struct kv_node *n,
          const struct wanted *w)
{
    if (n->start != w->start)
        return n->start < w->start || n == t->head;
    return n == t->head || compare_rest(node_key(n), w->key) < 0;
}

/*
 * Set the finger: on each level the last node before KEY.  Up from where it is
 * to the first level on which KEY lies between its node and the next one, and
 * from there down.
 */
static void
move_finger(struct shelf *t, const struct wanted *key)
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

/* ---- guesses ---- */

/* Of no use are zeros: the upper bytes of a number. */
static unsigned
bucket_of(uint64_t start)
{
    return (unsigned)(start >> 40 & 0xff);
}

/* Where the last key that begins as W does is noted. */
static struct kv_node **
last_of(struct kv_table *t, const struct wanted *w)
{
    uint64_t prefix = w->start;

    if (w->key.n >= PREFIX_BYTES)
        prefix += w->key.p[PREFIX_BYTES - 1];
    return &t->last[prefix * UINT64_C(0x9e3779b97f4a7c15) >> (64 - LAST_BITS)];
}

/* The last node before W on the lowest level, if it is FROM or a few steps
 * behind it; else NULL. */
static struct kv_node *
steps_from(const struct shelf *shelf, struct kv_node *from,
           const struct wanted *w)
{
    if (!is_before(shelf, from, w))
        return NULL;
    for (unsigned i = 0; i < GUESS_STEPS; i++) {
        struct kv_node *next = node_next(from, 0);
        if (next == NULL || !is_before(shelf, next, w))
            return from;
        from = next;
    }
    return NULL;
}

static struct kv_node *
guess_by_bucket(const struct shelf *shelf, const struct wanted *w)
{
    unsigned at = bucket_of(w->start);
    struct kv_node *n = shelf->buckets[at];

    if (n == NULL || !is_before(shelf, n, w)) {
        do
            n = shelf->buckets[--at];
        while (n == NULL && at > 0);
    }
    return n == NULL ? NULL : steps_from(shelf, n, w);
}

/* The last node before W on the lowest level, or NULL: it is to be searched. */
static struct kv_node *
guess(struct kv_table *t, const struct shelf *shelf, const struct wanted *w)
{
    if (bucket_of(w->start) != 0)
        return shelf->buckets == NULL ? NULL : guess_by_bucket(shelf, w);
    struct kv_node *last = *last_of(t, w);
    return last != NULL && last->start == w->start ? steps_from(shelf, last, w)
                                                   : NULL;
}

/* N is in its list now. */
static void
note_for_guesses(struct kv_table *t, struct shelf *shelf, struct kv_node *n,
                 const struct wanted *w)
{
    const unsigned at = bucket_of(w->start);

    shelf->keys++;
    if (at == 0) {
        *last_of(t, w) = n;
        return;
    }
    if (shelf->keys == BUCKETS_FROM)
        shelf->buckets = arena_array(&t->arena, 256, sizeof(struct kv_node *));
    if (shelf->buckets != NULL)
        shelf->buckets[at] = n;
}

/* ---- new keys ---- */

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
    struct shelf *shelf = need_shelf(t, n->start);
    struct kv_node *before = n->height == 1 ? guess(t, shelf, &key) : NULL;

    if (before != NULL) {
        atomic_store_explicit(&n->next[0], node_next(before, 0),
                              memory_order_relaxed);
        atomic_store_explicit(&before->next[0], n, memory_order_release);
        note_for_guesses(t, shelf, n, &key);
        return;
    }
    move_finger(shelf, &key);
    for (uint32_t i = 0; i < n->height; i++) {
        atomic_store_explicit(&n->next[i], node_next(shelf->finger[i], i),
                              memory_order_relaxed);
        atomic_store_explicit(&shelf->finger[i]->next[i], n,
                              memory_order_release);
        shelf->finger[i] = n;
    }
    note_for_guesses(t, shelf, n, &key);
}

void
kv_table_will_set(const struct kv_table *t, uint64_t hash)
{
    const struct index *x =
        atomic_load_explicit(&t->index, memory_order_relaxed);

    __builtin_prefetch(&x->slots[hash & (x->n - 1)]);
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
    atomic_store_explicit(&x->slots[at], slot_of(n), memory_order_release);
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

/* At N, on the shelf numbered AT, or the first one behind it, there or on later
 * shelves, that was there as of the place's SEQ. */
static bool
stand_at(struct kv_place *place, const struct kv_node *n, unsigned at)
{
    const struct version *v = NULL;

    for (;;) {
        while (n != NULL && (v = version_at(n, place->seq)) == NULL)
            n = node_next(n, 0);
        if (n != NULL)
            break;
        at++;
        const struct shelf *shelf = shelf_from(place->table, &at);
        if (shelf == NULL) {
            place->node = NULL;
            return false;
        }
        n = node_next(shelf->head, 0);
    }
    place->node = n;
    place->key = node_key(n);
    place->value = span_of(v->bytes, v->n);
    place->is_put = v->is_put;
    return true;
}

bool
kv_table_seek(const struct kv_table *t, struct span key, struct kv_place *ret)
{
    const struct wanted wanted = {key, start_of(key)};
    const unsigned want = (unsigned)(wanted.start >> 48);
    unsigned at = want;
    const struct shelf *shelf = shelf_from(t, &at);

    ret->table = t;
    ret->node = NULL;
    if (shelf == NULL)
        return false;
    const struct kv_node *n = shelf->head;
    for (uint32_t level = at == want ? HEIGHT_MAX : 0; level-- > 0;) {
        const struct kv_node *next;
        while ((next = node_next(n, level)) != NULL &&
               is_before(shelf, next, &wanted))
            n = next;
    }
    return stand_at(ret, node_next(n, 0), at);
}

bool
kv_table_next(struct kv_place *place)
{
    return stand_at(place, node_next(place->node, 0),
                    (unsigned)(place->node->start >> 48));
}
