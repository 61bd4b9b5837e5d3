/*
 * bench/talk.h - blocking IMAP for lag.c, idle.c and logins.c: lines in,
 * commands out, on a socket or by TLS.
 */
#ifndef POLLUX_BENCH_TALK_H
#define POLLUX_BENCH_TALK_H

#include <openssl/ssl.h>

#include "bench/bench.h"

struct talk {
    int fd;
    SSL *tls; /* or NULL */
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
        const size_t room = sizeof(t->in) - t->n;
        ssize_t n = t->tls == NULL ? read(t->fd, t->in + t->n, room)
                                   : SSL_read(t->tls, t->in + t->n, (int)room);
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
        ssize_t k = t->tls == NULL
                        ? write(t->fd, text + at, n - at)
                        : SSL_write(t->tls, text + at, (int)(n - at));
        if (k <= 0)
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

/* STARTTLS; nothing of the certificate is looked at. */
static inline void
talk_start_tls(struct talk *t, SSL_CTX *ctx)
{
    talk_command(t, "STARTTLS", NULL);
    t->tls = SSL_new(ctx);
    if (t->tls == NULL || SSL_set_fd(t->tls, t->fd) != 1 ||
        SSL_connect(t->tls) != 1)
        die("no TLS");
}

/* Connect and log in, after STARTTLS unless TLS is NULL. */
static inline void
talk_login(struct talk *t, const char *host, const char *port, SSL_CTX *tls,
           const char *user, const char *password)
{
    char *login = xasprintf("LOGIN %s %s", user, password);

    *t = (struct talk){.fd = tcp_connect(host, port)};
    const char *greeting = talk_line(t);
    if (strncmp(greeting, "* OK", 4) != 0)
        die("greeting: %s", greeting);
    if (tls != NULL)
        talk_start_tls(t, tls);
    talk_command(t, login, NULL);
    free(login);
}

static inline void
talk_close(struct talk *t)
{
    SSL_free(t->tls);
    close(t->fd);
}

/* Log in, select INBOX read-only; its number of messages. */
static inline int64_t
talk_open(struct talk *t, const char *host, const char *port, SSL_CTX *tls,
          const char *user, const char *password)
{
    int64_t exists = 0;

    talk_login(t, host, port, tls, user, password);
    talk_command(t, "EXAMINE INBOX", &exists);
    return exists;
}

#endif
