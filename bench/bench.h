/*
 * bench/bench.h - what the programs of bench/ share: a clock, samples and their
 * percentiles, a socket.  They are short and end at the first error.
 */
#ifndef POLLUX_BENCH_BENCH_H
#define POLLUX_BENCH_BENCH_H

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/span.h"

NORETURN static inline void
die(const char *fmt, ...) PRINTF_LIKE(1, 2);

NORETURN static inline void
die(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static inline uint64_t
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* User and system time of this program so far. */
static inline double
own_cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* The whole of TEXT as a number of at most MAX, or the end. */
static inline uint32_t
number(const char *text, uint32_t max)
{
    uint32_t n = 0;

    if (!parse_u32(span_str(text), &n) || n > max)
        die("\"%s\" is not a number up to %u", text, max);
    return n;
}

/* All samples are kept, so that percentiles are exact; nanoseconds. */
struct samples {
    int64_t *v;
    size_t n, cap;
};

static inline void
samples_add(struct samples *s, int64_t ns)
{
    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 65536 : 2 * s->cap;
        s->v = xrealloc(s->v, s->cap * sizeof(*s->v));
    }
    s->v[s->n++] = ns;
}

static inline int
samples_order(const void *a, const void *b)
{
    const int64_t *x = a;
    const int64_t *y = b;

    return (*x > *y) - (*x < *y);
}

static inline void
samples_sort(struct samples *s)
{
    if (s->n > 0)
        qsort(s->v, s->n, sizeof(*s->v), samples_order);
}

/* Of sorted samples, in milliseconds; 0 without any. */
static inline double
samples_ms(const struct samples *s, double share)
{
    if (s->n == 0)
        return 0;
    size_t at = (size_t)(share * (double)(s->n - 1) + 0.5);
    return (double)s->v[at] / 1e6;
}

/* "p50_ms": .., "p99_ms": .., "max_ms": .. */
static inline void
samples_json(struct samples *s, const char *prefix)
{
    samples_sort(s);
    printf("\"%sn\":%zu,\"%sp50_ms\":%.4f,\"%sp99_ms\":%.4f,\"%smax_ms\":%.4f",
           prefix, s->n, prefix, samples_ms(s, 0.50), prefix,
           samples_ms(s, 0.99), prefix, samples_ms(s, 1.0));
}

/* A connected TCP socket without Nagle's delay. */
static inline int
tcp_connect(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int one = 1;

    if (getaddrinfo(host, port, &hints, &list) != 0)
        die("no address: %s port %s", host, port);
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, list->ai_addr, list->ai_addrlen) != 0)
        die("connect to %s port %s: %s", host, port, strerror(errno));
    freeaddrinfo(list);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

/*
 * Text that looks and compresses somewhat like mail (zstd makes about a
 * third of it): words of a fixed list in an order from SEED, in lines of up
 * to 72.
 */
static inline void
fill_text(char *p, size_t n, uint64_t seed)
{
    static const char *const words[] = {
        "meeting",  "tomorrow", "please", "attached", "regards",  "invoice",
        "project",  "schedule", "about",  "because",  "question", "answer",
        "tuesday",  "morning",  "would",  "could",    "version",  "release",
        "problem",  "solution", "server", "mailbox",  "thanks",   "kindly",
        "followed", "replica",  "number", "customer", "delivery", "order",
    };
    uint64_t x = seed * 2862933555777941757U + 3037000493U;
    size_t column = 0;

    for (size_t i = 0; i < n;) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        char word[32];
        int len = (x >> 8) % 4 == 0
                      ? snprintf(word, sizeof(word), "%x ", (unsigned)(x >> 40))
                      : snprintf(word, sizeof(word), "%s ",
                                 words[(x >> 16) % ARRAY_LEN(words)]);
        for (int k = 0; k < len && i < n; k++, column++)
            p[i++] = word[k];
        if (column > 60 && i + 1 < n) {
            p[i++] = '\r';
            p[i++] = '\n';
            column = 0;
        }
    }
    if (n >= 2) {
        p[n - 2] = '\r';
        p[n - 1] = '\n';
    }
    if (n >= 3 && p[n - 3] == '\r')
        p[n - 3] = '.';
}

#endif
