/*
 * search/behind.c - a hash with open addressing.  What goes leaves no mark: who
 * stands behind it moves up.
 */
#include "search/behind.h"

#include <stdlib.h>

#include "base/macros.h"

static size_t
home(const struct behind *b, mbid_t id)
{
    return (size_t)(id * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (b->cap - 1);
}

/* Where ID is, or would be. */
static size_t
place(const struct behind *b, mbid_t id)
{
    size_t i = home(b, id);

    while (b->slots[i].id != 0 && b->slots[i].id != id)
        i = (i + 1) & (b->cap - 1);
    return i;
}

static void
grow(struct behind *b)
{
    struct behind old = *b;

    b->cap = old.cap == 0 ? 64 : 2 * old.cap;
    b->slots = xcalloc(b->cap, sizeof(b->slots[0]));
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].id != 0)
            b->slots[place(b, old.slots[i].id)] = old.slots[i];
    free(old.slots);
}

static void
take_out(struct behind *b, size_t gap)
{
    const size_t mask = b->cap - 1;

    for (size_t i = (gap + 1) & mask; b->slots[i].id != 0; i = (i + 1) & mask) {
        /* It may not stand before its home. */
        size_t from_home = (i - home(b, b->slots[i].id)) & mask;
        if (from_home >= ((i - gap) & mask)) {
            b->slots[gap] = b->slots[i];
            gap = i;
        }
    }
    b->slots[gap] = (struct behind_slot){0};
    b->used--;
}

void
behind_set(struct behind *b, mbid_t id, uint64_t n)
{
    if (id == 0 || (n == 0 && b->cap == 0))
        return;
    if (n > 0 && 4 * (b->used + 1) > 3 * b->cap)
        grow(b);
    size_t i = place(b, id);
    b->total = b->total - b->slots[i].n + n;
    if (n > 0) {
        b->used += b->slots[i].id == 0;
        b->slots[i] = (struct behind_slot){.id = id, .n = n};
    } else if (b->slots[i].id != 0) {
        take_out(b, i);
    }
}

void
behind_free(struct behind *b)
{
    free(b->slots);
    *b = (struct behind){0};
}
