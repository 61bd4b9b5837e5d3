/*
 * store/kv_batch.c - puts and deletes that will be written at once, and read
 * before that.
 *
 * A commit group touches some keys again and again (heads, counters, the
 * applied position), so what counts for a key is its last operation only: a
 * hash index finds the operation that is there, and a value that fits goes
 * where the old one was.  All bytes lie in one buffer, named by offset; ops and
 * slots are arrays that keep their memory when the batch is cleared, so that a
 * writer's batch allocates nothing once it is warm.
 *
 * Slots hold the index of an op and the round in which it was put there; a slot
 * of an earlier round is free.  So clearing costs nothing.
 */
#include "store/kv.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/kv_private.h"

#define SLOTS_MIN 256U

struct slot {
    uint32_t round;
    uint32_t op;
};

/* An op to be sorted: its key's first bytes decide nearly always. */
struct place {
    uint64_t start; /* family and seven bytes of the key */
    uint32_t op;
};

struct kv_batch {
    struct buf bytes;
    struct kv_op *ops;
    size_t nops;
    size_t cap;
    struct slot *slots; /* power of two, at most half full */
    size_t nslots;
    uint32_t round; /* never 0 */
    size_t live;    /* key and value bytes of what counts */
    struct place *places;
    uint32_t *sorted;
    size_t sorted_cap;
};

uint64_t
kv_key_hash(enum kv_family f, struct span key)
{
    return XXH3_64bits_withSeed(key.p, key.n, (uint64_t)f);
}

/* The slot that holds KEY, or the free one where it belongs. */
static struct slot *
find_slot(const struct kv_batch *b, enum kv_family f, struct span key,
          uint64_t hash)
{
    for (size_t i = hash;; i++) {
        struct slot *s = &b->slots[i & (b->nslots - 1)];
        if (s->round != b->round)
            return s;
        const struct kv_op *op = &b->ops[s->op];
        if (op->hash == hash && op->family == (uint8_t)f &&
            span_eq(kv_op_key(b, op), key))
            return s;
    }
}

static void
grow_slots(struct kv_batch *b)
{
    b->nslots *= 2;
    free(b->slots);
    b->slots = xcalloc(b->nslots, sizeof(*b->slots));
    b->round = 1;
    for (size_t i = 0; i < b->nops; i++) {
        size_t at = b->ops[i].hash;
        while (b->slots[at & (b->nslots - 1)].round == b->round)
            at++;
        b->slots[at & (b->nslots - 1)] = (struct slot){1, (uint32_t)i};
    }
}

/* The op of KEY, made if there is none. */
static struct kv_op *
op_for(struct kv_batch *b, enum kv_family f, struct span key)
{
    uint64_t hash = kv_key_hash(f, key);
    struct slot *s = find_slot(b, f, key, hash);

    if (s->round == b->round)
        return &b->ops[s->op];
    ENSURE(key.n <= UINT32_MAX && b->nops < UINT32_MAX);
    if (b->nops == b->cap) {
        b->cap *= 2;
        b->ops = xrealloc(b->ops, b->cap * sizeof(*b->ops));
    }
    *s = (struct slot){b->round, (uint32_t)b->nops};

    struct kv_op *op = &b->ops[b->nops++];
    *op = (struct kv_op){.hash = hash,
                         .key = b->bytes.n,
                         .key_bytes = (uint32_t)key.n,
                         .family = (uint8_t)f};
    buf_add(&b->bytes, key);
    b->live += key.n;
    if (b->nops * 2 > b->nslots)
        grow_slots(b);
    return op;
}

struct kv_batch *
kv_batch_new(void)
{
    struct kv_batch *b = xcalloc(1, sizeof(*b));

    b->cap = SLOTS_MIN / 2;
    b->ops = xmalloc(b->cap * sizeof(*b->ops));
    b->nslots = SLOTS_MIN;
    b->slots = xcalloc(b->nslots, sizeof(*b->slots));
    b->round = 1;
    return b;
}

void
kv_batch_free(struct kv_batch **b)
{
    if (*b == NULL)
        return;
    buf_free(&(*b)->bytes);
    free((*b)->ops);
    free((*b)->slots);
    free((*b)->places);
    free((*b)->sorted);
    free(*b);
    *b = NULL;
}

void
kv_batch_clear(struct kv_batch *b)
{
    buf_clear(&b->bytes);
    b->nops = 0;
    b->live = 0;
    if (++b->round == 0) {
        memset(b->slots, 0, b->nslots * sizeof(*b->slots));
        b->round = 1;
    }
}

void
kv_batch_put(struct kv_batch *b, enum kv_family f, struct span key,
             struct span value)
{
    ENSURE(value.n <= UINT32_MAX);
    /* What kv_batch_get() gave may move when room is made for KEY and VALUE. */
    size_t room = key.n + value.n;
    bool is_ours = value.n > 0 && b->bytes.p != NULL && value.p >= b->bytes.p &&
                   value.p < b->bytes.p + b->bytes.n;
    size_t at = is_ours ? (size_t)(value.p - b->bytes.p) : 0;
    ENSURE(buf_reserve(&b->bytes, room) != NULL || room == 0);
    if (is_ours)
        value.p = b->bytes.p + at;

    struct kv_op *op = op_for(b, f, key);
    b->live = b->live - op->value_bytes + value.n;
    op->is_put = true;
    op->value_bytes = (uint32_t)value.n;
    if (value.n > op->value_room) {
        op->value_room = (uint32_t)value.n;
        op->value = b->bytes.n;
        buf_add(&b->bytes, value);
    } else if (value.n > 0) {
        memmove(b->bytes.p + op->value, value.p, value.n);
    }
}

void
kv_batch_delete(struct kv_batch *b, enum kv_family f, struct span key)
{
    struct kv_op *op = op_for(b, f, key);

    b->live -= op->value_bytes;
    op->value_bytes = 0;
    op->is_put = false;
}

size_t
kv_batch_bytes(const struct kv_batch *b)
{
    return b->live;
}

int
kv_batch_get(const struct kv_batch *b, enum kv_family f, struct span key,
             struct span *ret)
{
    if (b->nops == 0)
        return -1;
    const struct slot *s = find_slot(b, f, key, kv_key_hash(f, key));
    if (s->round != b->round)
        return -1;
    const struct kv_op *op = &b->ops[s->op];
    if (!op->is_put)
        return 0;
    *ret = kv_op_value(b, op);
    return 1;
}

const struct kv_op *
kv_batch_ops(const struct kv_batch *b, size_t *ret_n)
{
    *ret_n = b->nops;
    return b->ops;
}

struct span
kv_op_key(const struct kv_batch *b, const struct kv_op *op)
{
    return span_of(b->bytes.p + op->key, op->key_bytes);
}

struct span
kv_op_value(const struct kv_batch *b, const struct kv_op *op)
{
    return span_of(b->bytes.p + op->value, op->value_bytes);
}

static int
compare_places(const void *pa, const void *pb, void *ctx)
{
    const struct place *x = pa;
    const struct place *y = pb;
    const struct kv_batch *b = ctx;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return span_cmp(kv_op_key(b, &b->ops[x->op]), kv_op_key(b, &b->ops[y->op]));
}

const uint32_t *
kv_batch_sorted(struct kv_batch *b)
{
    if (b->nops > b->sorted_cap) {
        b->sorted_cap = b->cap;
        b->places = xrealloc(b->places, b->cap * sizeof(*b->places));
        b->sorted = xrealloc(b->sorted, b->cap * sizeof(*b->sorted));
    }
    for (size_t i = 0; i < b->nops; i++) {
        struct span key = kv_op_key(b, &b->ops[i]);
        uint64_t start = b->ops[i].family;
        for (size_t at = 0; at < 7; at++)
            start = start << 8 | (at < key.n ? key.p[at] : 0U);
        b->places[i] = (struct place){start, (uint32_t)i};
    }
    qsort_r(b->places, b->nops, sizeof(*b->places), compare_places, b);
    for (size_t i = 0; i < b->nops; i++)
        b->sorted[i] = b->places[i].op;
    return b->sorted;
}
