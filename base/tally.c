/*
 * base/tally.c - see base/tally.h.  The bucket of a value is the number of bits
 * of the value below it, so finding it is one instruction.
 */
#include "base/tally.h"

unsigned
tally_bucket(uint64_t value)
{
    unsigned bits = value <= 1 ? 0 : 64U - (unsigned)__builtin_clzll(value - 1);

    return bits < TALLY_BUCKETS ? bits : TALLY_BUCKETS - 1;
}

void
tally_add(struct tally *t, uint64_t value)
{
    atomic_fetch_add_explicit(&t->sum, value, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->bucket[tally_bucket(value)], 1,
                              memory_order_relaxed);
}

void
tally_read(const struct tally *t, struct tally_view *ret)
{
    ret->count = 0;
    for (unsigned i = 0; i < TALLY_BUCKETS; i++) {
        ret->bucket[i] =
            atomic_load_explicit(&t->bucket[i], memory_order_relaxed);
        ret->count += ret->bucket[i];
    }
    ret->sum = atomic_load_explicit(&t->sum, memory_order_relaxed);
}

uint64_t
tally_quantile(const struct tally_view *v, unsigned per_mille)
{
    uint64_t want = (v->count * per_mille + 999) / 1000;
    uint64_t seen = 0;

    if (v->count == 0)
        return 0;
    for (unsigned i = 0; i < TALLY_BUCKETS; i++) {
        seen += v->bucket[i];
        if (seen >= want && seen > 0)
            return UINT64_C(1) << i;
    }
    return UINT64_C(1) << (TALLY_BUCKETS - 1);
}
