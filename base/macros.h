/*
 * base/macros.h - attributes and the few macros that every file may use, and
 * the calls that the house does not use.
 */
#ifndef POLLUX_BASE_MACROS_H
#define POLLUX_BASE_MACROS_H

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define NORETURN __attribute__((noreturn))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
/* Run FREE(&variable) when the variable goes out of scope. */
#define AUTO(free) __attribute__((cleanup(free)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/*
 * Ends the process when COND is false: for our own mistakes, in production too.
 * Bytes from disk or network never trip it.
 */
#define ENSURE(cond)                                                           \
    ((cond) ? (void)0 : ensure_failed(#cond, __FILE__, __LINE__, __func__))

NORETURN void
ensure_failed(const char *cond, const char *file, int line, const char *func);

/* Allocation that never returns NULL: running out of memory ends the process.
 */
void *
xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *
xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *
xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *
xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *
xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
/* printf into fresh memory; the caller frees it. */
char *
xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* Free *P and set it to NULL: a cleanup handler for char * and the like. */
void
xfree(void *pp);

#endif
