/*
 * base/tally.h - counting what happens how often and how long it took, for
 * metrics: cheap enough for every command and every commit, readable by any
 * thread at any time.
 *
 * A tally sorts values by powers of two: bucket i counts those above 2^(i-1)
 * and up to 2^i, the last one all that are larger.  A value costs two relaxed
 * additions.  A reader may see the sum of a value whose bucket it does not see
 * yet; the next look has both.
 */
#ifndef POLLUX_BASE_TALLY_H
#define POLLUX_BASE_TALLY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define TALLY_BUCKETS 26U /* up to 2^24, and more: 16.8 s in microseconds */

/* All zero at first. */
struct tally {
    _Atomic uint64_t bucket[TALLY_BUCKETS];
    _Atomic uint64_t sum;
};

/* What a tally had at one moment. */
struct tally_view {
    uint64_t bucket[TALLY_BUCKETS];
    uint64_t count; /* of all buckets */
    uint64_t sum;
};

void
tally_add(struct tally *t, uint64_t value);
void
tally_read(const struct tally *t, struct tally_view *ret);
/* The bucket that VALUE falls into. */
unsigned
tally_bucket(uint64_t value);
/* About the value below which PER_MILLE of the values lie: the upper end of
 * the bucket; 0 if there are none. */
uint64_t
tally_quantile(const struct tally_view *v, unsigned per_mille);

/* Commands of one name: how long each took, and how many were refused. */
struct command_tally {
    struct tally us;
    _Atomic uint64_t failed;
};

static inline void
command_tally_add(struct command_tally *c, uint64_t ns, int is_failed)
{
    tally_add(&c->us, ns / 1000);
    if (is_failed)
        atomic_fetch_add_explicit(&c->failed, 1, memory_order_relaxed);
}

#endif
