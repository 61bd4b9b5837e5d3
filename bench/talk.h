/*
 * bench/talk.h - blocking IMAP for lag.c and idle.c: lines in, commands out.
 */
#ifndef POLLUX_BENCH_TALK_H
#define POLLUX_BENCH_TALK_H

#include "bench/bench.h"

struct talk {
    int fd;
    size_t n, at;
    char in[4096];
};

/* The next line without its end; lives until the next call. */
static inline char *
talk_line(struct talk *t)
{
    for (;;) {
        char *nl = memchr(t->in + t->at, '\n', t->n - t->at);
        if (nl != NULL) {
            char *line = t->in + t->at;
            t->at = (size_t)(nl - t->in) + 1;
            *nl = '\0';
            if (nl > line && nl[-1] == '\r')
                nl[-1] = '\0';
            return line;
        }
        memmove(t->in, t->in + t->at, t->n - t->at);
        t->n -= t->at;
        t->at = 0;
        if (t->n == sizeof(t->in))
            die("a line of over %zu bytes", sizeof(t->in));
        ssize_t n = read(t->fd, t->in + t->n, sizeof(t->in) - t->n);
        if (n <= 0)
            die("connection lost: %s", n == 0 ? "closed" : strerror(errno));
        t->n += (size_t)n;
    }
}

/* Is a whole line there already? */
static inline bool
talk_has_line(const struct talk *t)
{
    return memchr(t->in + t->at, '\n', t->n - t->at) != NULL;
}

static inline void
talk_send(struct talk *t, const char *text)
{
    size_t n = strlen(text);

    for (size_t at = 0; at < n;) {
        ssize_t k = write(t->fd, text + at, n - at);
        if (k < 0)
            die("write: %s", strerror(errno));
        at += (size_t)k;
    }
}

/* The N of "* N EXISTS", or -1. */
static inline int64_t
talk_exists(const char *line)
{
    struct span s = span_str(line);
    uint32_t n = 0;

    if (!span_starts(s, SPAN_LIT("* ")))
        return -1;
    s = span_skip(s, 2);
    ptrdiff_t blank = span_find_byte(s, ' ', 0);
    if (blank < 0 || !span_eq_str(span_skip(s, (size_t)blank), " EXISTS") ||
        !parse_u32(span_sub(s, 0, (size_t)blank), &n))
        return -1;
    return n;
}

/* One command; all lines up to its OK are read.  The last EXISTS goes to
 * *EXISTS if that is not NULL. */
static inline void
talk_command(struct talk *t, const char *command, int64_t *exists)
{
    talk_send(t, "t ");
    talk_send(t, command);
    talk_send(t, "\r\n");
    for (;;) {
        const char *line = talk_line(t);
        int64_t n = talk_exists(line);
        if (n >= 0 && exists != NULL)
            *exists = n;
        if (strncmp(line, "t ", 2) == 0) {
            if (strncmp(line, "t OK", 4) != 0)
                die("%.20s...: %s", command, line);
            return;
        }
    }
}

/* Connect, log in, select INBOX read-only; its number of messages. */
static inline int64_t
talk_open(struct talk *t, const char *host, const char *port, const char *user,
          const char *password)
{
    int64_t exists = 0;
    char *login = xasprintf("LOGIN %s %s", user, password);

    t->fd = tcp_connect(host, port);
    t->n = t->at = 0;
    const char *greeting = talk_line(t);
    if (strncmp(greeting, "* OK", 4) != 0)
        die("greeting: %s", greeting);
    talk_command(t, login, NULL);
    talk_command(t, "EXAMINE INBOX", &exists);
    free(login);
    return exists;
}

#endif
