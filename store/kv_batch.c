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
    /* The savepoint: how much there was, and ops of then that changed since. */
    size_t mark_ops;
    size_t mark_bytes;
    size_t mark_live;
    struct kv_op *changed;
    uint32_t *changed_at;
    size_t nchanged;
    size_t changed_cap;
    struct place *places; /* twice sorted_cap: the second half is for sorting */
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

/* OP, of before the savepoint, is about to change: its old bytes must stay. */
static void
keep_op(struct kv_batch *b, struct kv_op *op)
{
    const size_t at = (size_t)(op - b->ops);

    if (at >= b->mark_ops || op->is_kept)
        return;
    if (b->nchanged == b->changed_cap) {
        b->changed_cap = b->changed_cap * 2 + 16;
        b->changed = xrealloc(b->changed, b->changed_cap * sizeof(*b->changed));
        b->changed_at =
            xrealloc(b->changed_at, b->changed_cap * sizeof(*b->changed_at));
    }
    b->changed[b->nchanged] = *op;
    b->changed_at[b->nchanged++] = (uint32_t)at;
    op->is_kept = true;
    op->value_room = 0;
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
    free((*b)->changed);
    free((*b)->changed_at);
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
    b->mark_ops = 0;
    b->mark_bytes = 0;
    b->mark_live = 0;
    b->nchanged = 0;
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
    keep_op(b, op);
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

    keep_op(b, op);
    b->live -= op->value_bytes;
    op->value_bytes = 0;
    op->is_put = false;
}

void
kv_batch_mark(struct kv_batch *b)
{
    for (size_t i = 0; i < b->nchanged; i++)
        b->ops[b->changed_at[i]].is_kept = false;
    b->nchanged = 0;
    b->mark_ops = b->nops;
    b->mark_bytes = b->bytes.n;
    b->mark_live = b->live;
}

void
kv_batch_rollback(struct kv_batch *b)
{
    for (size_t i = 0; i < b->nchanged; i++)
        b->ops[b->changed_at[i]] = b->changed[i];
    b->nchanged = 0;
    /* The newest one's slot is the last one on the way to all others', so that
     * none of them is cut off. */
    while (b->nops > b->mark_ops) {
        const struct kv_op *op = &b->ops[b->nops - 1];
        find_slot(b, (enum kv_family)op->family, kv_op_key(b, op), op->hash)
            ->round = b->round - 1;
        b->nops--;
    }
    b->bytes.n = b->mark_bytes;
    b->live = b->mark_live;
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
compare_places(const struct place *x, const struct place *y,
               const struct kv_batch *b)
{
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return span_cmp(kv_op_key(b, &b->ops[x->op]), kv_op_key(b, &b->ops[y->op]));
}

/* Family and the first seven bytes of the key. */
static uint64_t
start_of(const struct kv_batch *b, const struct kv_op *op)
{
    const uint8_t *key = b->bytes.p + op->key;
    uint64_t start = 0;

    if (op->key_bytes >= 7)
        for (size_t at = 0; at < 7; at++)
            start = start << 8 | key[at];
    else
        for (size_t at = 0; at < 7; at++)
            start = start << 8 | (at < op->key_bytes ? key[at] : 0U);
    return (uint64_t)op->family << 56 | start;
}

/* Sort N places by TEMP, room for as many: runs of two, four and so on become
 * one.  (qsort_r() copies and compares by calls, which was half of it.) */
static void
sort_places(const struct kv_batch *b, struct place *p, struct place *temp,
            size_t n)
{
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t from = 0; from + run < n; from += 2 * run) {
            const size_t middle = from + run;
            const size_t end = MIN(middle + run, n);
            size_t i = from, j = middle, at = from;
            if (compare_places(&p[middle - 1], &p[middle], b) <= 0)
                continue;
            while (i < middle && j < end)
                temp[at++] =
                    compare_places(&p[i], &p[j], b) <= 0 ? p[i++] : p[j++];
            while (i < middle)
                temp[at++] = p[i++];
            memcpy(&p[from], &temp[from], (at - from) * sizeof(*p));
        }
    }
}

/* The first TO places and those behind them to N, both sorted, as one. */
static void
merge_places(struct kv_batch *b, size_t to, size_t n)
{
    size_t i = 0, j = to, at = 0;

    while (i < to && j < n)
        b->sorted[at++] = compare_places(&b->places[i], &b->places[j], b) < 0
                              ? b->places[i++].op
                              : b->places[j++].op;
    while (i < to)
        b->sorted[at++] = b->places[i++].op;
    while (j < n)
        b->sorted[at++] = b->places[j++].op;
}

const uint32_t *
kv_batch_sorted(struct kv_batch *b)
{
    size_t run = 0; /* so many came sorted: the rows of one large STORE */

    if (b->nops > b->sorted_cap) {
        b->sorted_cap = b->cap;
        b->places = xrealloc(b->places, 2 * b->cap * sizeof(*b->places));
        b->sorted = xrealloc(b->sorted, b->cap * sizeof(*b->sorted));
    }
    for (size_t i = 0; i < b->nops; i++) {
        b->places[i] = (struct place){start_of(b, &b->ops[i]), (uint32_t)i};
        if (run == i &&
            (i == 0 || compare_places(&b->places[i - 1], &b->places[i], b) < 0))
            run++;
    }
    sort_places(b, b->places + run, b->places + b->sorted_cap, b->nops - run);
    merge_places(b, run, b->nops);
    return b->sorted;
}
