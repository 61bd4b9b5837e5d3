/*
 * base/macros.c - what base/macros.h promises: out of memory and broken
 * promises of our own code end the process at once, since a dead instance is
 * replaced by its twin and a wrong one is not.
 */
#include "base/macros.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

NORETURN void
ensure_failed(const char *cond, const char *file, int line, const char *func)
{
    fprintf(stderr, "pollux: broken promise at %s:%d %s(): %s\n", file, line,
            func, cond);
    abort();
}

static void *
checked(void *p)
{
    if (p == NULL) {
        fputs("pollux: out of memory\n", stderr);
        abort();
    }
    return p;
}

void *
xmalloc(size_t n)
{
    return checked(malloc(n == 0 ? 1 : n));
}

void *
xcalloc(size_t count, size_t size)
{
    return checked(calloc(count == 0 ? 1 : count, size == 0 ? 1 : size));
}

void *
xrealloc(void *p, size_t n)
{
    return checked(realloc(p, n == 0 ? 1 : n));
}

char *
xstrdup(const char *s)
{
    return checked(strdup(s));
}

char *
xstrndup(const char *s, size_t n)
{
    return checked(strndup(s, n));
}

char *
xasprintf(const char *fmt, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    return checked(n < 0 ? NULL : text);
}

void
xfree(void *pp)
{
    void **p = pp;

    free(*p);
    *p = NULL;
}
