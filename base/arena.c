/*
 * base/arena.c - blocks in a list; a request that is large beside the block
 * size gets a block of its own, so that nothing is wasted on the next one.
 *
 * Who has much gets larger blocks: malloc() lets a thread's memory grow by as
 * little as is asked for, each time with a system call.
 */
#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_BYTES 4000U
#define MUCH_BYTES ((size_t)256 << 10)
#define LARGE_BLOCK_BYTES 64000U

struct arena_block {
    struct arena_block *next;
    size_t cap;
    size_t used;
    alignas(max_align_t) uint8_t bytes[];
};

static struct arena_block *
block_new(size_t cap)
{
    struct arena_block *b = xmalloc(sizeof(*b) + cap);

    b->next = NULL;
    b->cap = cap;
    b->used = 0;
    return b;
}

void *
arena_alloc(struct arena *a, size_t n)
{
    const size_t align = alignof(max_align_t);
    const size_t block = a->used < MUCH_BYTES ? BLOCK_BYTES : LARGE_BLOCK_BYTES;

    ENSURE(n < SIZE_MAX / 2);
    n = (n + align - 1) & ~(align - 1);
    if (a->head == NULL || a->head->cap - a->head->used < n) {
        struct arena_block *b = block_new(n > block / 4 ? n : block);
        if (a->head != NULL && n > block / 4) {
            /* A large one goes behind the head, which keeps serving. */
            b->next = a->head->next;
            a->head->next = b;
            b->used = n;
            a->used += n;
            return memset(b->bytes, 0, n);
        }
        b->next = a->head;
        a->head = b;
    }
    void *p = a->head->bytes + a->head->used;
    a->head->used += n;
    a->used += n;
    return memset(p, 0, n);
}

void *
arena_array(struct arena *a, size_t count, size_t size)
{
    size_t bytes = 0;

    ENSURE(!__builtin_mul_overflow(count, size, &bytes));
    return arena_alloc(a, bytes);
}

struct span
arena_copy(struct arena *a, struct span s)
{
    return (struct span){(const uint8_t *)arena_str(a, s), s.n};
}

char *
arena_str(struct arena *a, struct span s)
{
    char *copy = arena_alloc(a, s.n + 1);

    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    return copy;
}

char *
arena_printf(struct arena *a, const char *fmt, ...)
{
    char few[256];
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(few, sizeof(few), fmt, args);
    va_end(args);
    ENSURE(n >= 0);
    if ((size_t)n < sizeof(few)) /* formatted once */
        return arena_str(a, span_of(few, (size_t)n));

    char *text = arena_alloc(a, (size_t)n + 1);
    va_start(args, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, args);
    va_end(args);
    return text;
}

void
arena_reset(struct arena *a)
{
    struct arena_block *keep = NULL;

    while (a->head != NULL) {
        struct arena_block *b = a->head;
        a->head = b->next;
        if (keep == NULL && b->cap == BLOCK_BYTES)
            keep = b;
        else
            free(b);
    }
    if (keep != NULL) {
        keep->next = NULL;
        keep->used = 0;
    }
    a->head = keep;
    a->used = 0;
}

void
arena_free(struct arena *a)
{
    arena_reset(a);
    free(a->head);
    a->head = NULL;
}
