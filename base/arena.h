/*
 * base/arena.h - memory that lives for one command or one applied record, and
 * goes all at once.
 */
#ifndef POLLUX_BASE_ARENA_H
#define POLLUX_BASE_ARENA_H

#include "base/span.h"

struct arena_block;

struct arena {
    struct arena_block *head; /* blocks, the newest first */
    size_t used;              /* bytes handed out since the last reset */
};

#define ARENA_INIT ((struct arena){0})

/* N bytes, aligned for anything, zeroed.  Never NULL. */
void *
arena_alloc(struct arena *a, size_t n);
/* COUNT elements of SIZE bytes; the product is checked. */
void *
arena_array(struct arena *a, size_t count, size_t size);
/* Copies; the string form is NUL-terminated. */
struct span
arena_copy(struct arena *a, struct span s);
char *
arena_str(struct arena *a, struct span s);
char *
arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Give everything back but one small block, so that the next command is cheap.
 */
void
arena_reset(struct arena *a);
/* Give everything back.  The arena can be used again. */
void
arena_free(struct arena *a);

#endif
