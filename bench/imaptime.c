/*
 * bench/imaptime.c - how long IMAP commands take on one connection.
 *
 * Logs in, sends the commands of -x untimed, then COMMAND N times with up to
 * WINDOW of them under way; %d in COMMAND becomes a number that counts up from
 * FIRST.  Answers are read in large pieces and only looked through for line
 * ends, literals (skipped) and tagged lines, so a server is never waited for
 * by the client.  Anything but OK ends it.
 *
 *   imaptime [-h HOST] -p PORT -u USER [-s PASSWORD] [-x COMMAND]... [-n N]
 *            [-f FIRST] [-W WINDOW] COMMAND
 *   imaptime ... -m BYTES -n N [-f FIRST] [-W WINDOW] MAILBOX
 *
 * The second form appends N messages of BYTES each to MAILBOX (%d as above),
 * for filling: subjects, dates, senders and references differ.
 */
#include "bench/bench.h"

#define PRE_MAX 8

struct conn {
    int fd;
    char *in;
    size_t cap, at, n;
    uint64_t skip; /* of a literal that is still coming */
    uint64_t bytes, lines;
};

static void
send_all(struct conn *c, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = write(c->fd, p, n);
        if (k < 0)
            die("write: %s", strerror(errno));
        p += k;
        n -= (size_t)k;
    }
}

static void
more(struct conn *c)
{
    if (c->at > 0) {
        memmove(c->in, c->in + c->at, c->n - c->at);
        c->n -= c->at;
        c->at = 0;
    }
    if (c->n == c->cap)
        die("a line of over %zu bytes", c->cap);
    ssize_t k = read(c->fd, c->in + c->n, c->cap - c->n);
    if (k <= 0)
        die("connection lost: %s", k == 0 ? "closed" : strerror(errno));
    c->n += (size_t)k;
    c->bytes += (uint64_t)k;
}

/* The length that "{N}" at the end of the line announces, or 0. */
static uint64_t
literal_of(const char *line, size_t n)
{
    uint32_t len = 0;
    size_t from = n;

    if (n < 3 || line[n - 1] != '}')
        return 0;
    while (from > 0 && line[from - 1] != '{')
        from--;
    if (from == 0 || !parse_u32(span_of(line + from, n - 1 - from), &len))
        return 0;
    return len;
}

/* The next line without its end; literals in it are passed over first.  The
 * start of a tagged line is always the start of what this gives. */
static char *
next_line(struct conn *c)
{
    bool inside = false; /* what comes continues a line after its literal */

    for (;;) {
        while (c->skip > 0) {
            if (c->at == c->n)
                more(c);
            size_t k = c->n - c->at;
            if (k > c->skip)
                k = (size_t)c->skip;
            c->at += k;
            c->skip -= k;
        }
        char *nl = memchr(c->in + c->at, '\n', c->n - c->at);
        if (nl == NULL) {
            more(c);
            continue;
        }
        char *line = c->in + c->at;
        size_t n = (size_t)(nl - line);
        c->at += n + 1;
        if (n > 0 && line[n - 1] == '\r')
            n--;
        line[n] = '\0';
        c->skip = literal_of(line, n);
        if (c->skip > 0) {
            inside = true;
            continue;
        }
        c->lines++;
        if (!inside)
            return line;
        inside = false;
    }
}

/* Reads until a tagged line has come; it has to be OK. */
static void
await_ok(struct conn *c, const char *what)
{
    for (;;) {
        const char *line = next_line(c);
        if (line[0] != 't')
            continue;
        const char *blank = strchr(line, ' ');
        if (blank == NULL || strncmp(blank, " OK", 3) != 0)
            die("%.60s: %s", what, line);
        return;
    }
}

static void
command(struct conn *c, const char *text)
{
    send_all(c, "t ", 2);
    send_all(c, text, strlen(text));
    send_all(c, "\r\n", 2);
    await_ok(c, text);
}

/* TEXT with NUMBER in place of %d, if that is there. */
static char *
numbered(const char *text, uint32_t number)
{
    const char *at = strstr(text, "%d");

    if (at == NULL)
        return xasprintf("%s", text);
    return xasprintf("%.*s%u%s", (int)(at - text), text, number, at + 2);
}

static char *
build_append(const char *mailbox, uint32_t bytes, uint32_t number, size_t *ret)
{
    static const char *const months[] = {"Jan", "Feb", "Mar",
                                         "Apr", "May", "Jun"};
    char *name = numbered(mailbox, number);
    char *head = xasprintf(
        "From: Sender %u <s%u@example.org>\r\n"
        "To: Reader <reader@example.org>, Other <other@example.net>\r\n"
        "Subject: Re: subject number %u\r\n"
        "Date: %02u %s 2026 %02u:%02u:%02u +0000\r\n"
        "Message-ID: <m%u@example.org>\r\n"
        "References: <m%u@example.org>\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n\r\n",
        number % 97, number % 97, number * 7919U % 9973U, 1 + number * 31 % 28,
        months[number * 17 % 6], number * 5 % 24, number * 13 % 60, number % 60,
        number, number / 2);
    size_t h = strlen(head);
    size_t body = bytes > h + 2 ? bytes - h : 2;
    char *start = xasprintf("t APPEND %s {%zu+}\r\n%s", name, h + body, head);
    size_t n = strlen(start);
    char *all = xmalloc(n + body + 2);

    memcpy(all, start, n);
    fill_text(all + n, body, number + 1U);
    memcpy(all + n + body, "\r\n", 2);
    *ret = n + body + 2;
    free(start);
    free(head);
    free(name);
    return all;
}

static char *
build_command(const char *text, uint32_t number, size_t *ret)
{
    char *one = numbered(text, number);
    char *all = xasprintf("t %s\r\n", one);

    *ret = strlen(all);
    free(one);
    return all;
}

NORETURN static void
usage(void)
{
    die("usage: imaptime [-h HOST] -p PORT -u USER [-s PASSWORD]\n"
        "                [-x COMMAND]... [-n N] [-f FIRST] [-W WINDOW]\n"
        "                COMMAND | -m BYTES MAILBOX");
}

struct run {
    const char *host, *port, *user, *password;
    const char *pre[PRE_MAX];
    uint32_t npre;
    uint32_t n, first, window;
    uint32_t bytes;   /* 0: it is a command */
    const char *what; /* the command, or the mailbox to fill */
};

static void
take_option(struct run *r, int c)
{
    switch (c) {
    case 'h':
        r->host = optarg;
        break;
    case 'p':
        r->port = optarg;
        break;
    case 'u':
        r->user = optarg;
        break;
    case 's':
        r->password = optarg;
        break;
    case 'x':
        if (r->npre == PRE_MAX)
            die("-x: at most %d", PRE_MAX);
        r->pre[r->npre++] = optarg;
        break;
    case 'n':
        r->n = number(optarg, 100000000);
        break;
    case 'f':
        r->first = number(optarg, 1000000000);
        break;
    case 'W':
        r->window = number(optarg, 10000);
        break;
    case 'm':
        r->bytes = number(optarg, 1U << 26);
        break;
    default:
        usage();
    }
}

/* Connected, logged in, and all said that comes before. */
static void
begin(struct conn *c, const struct run *r)
{
    char *login = xasprintf("LOGIN %s %s", r->user, r->password);

    *c = (struct conn){.fd = tcp_connect(r->host, r->port), .cap = 1U << 20};
    c->in = xmalloc(c->cap);
    const char *greeting = next_line(c);
    if (strncmp(greeting, "* OK", 4) != 0)
        die("greeting: %s", greeting);
    command(c, login);
    free(login);
    for (uint32_t i = 0; i < r->npre; i++)
        command(c, r->pre[i]);
    c->bytes = c->lines = 0;
}

/* All of them, with up to WINDOW under way; how long each took. */
static void
measure(struct conn *c, const struct run *r, struct samples *each)
{
    uint64_t *sent_at = xcalloc(r->window, sizeof(*sent_at));

    for (uint32_t sent = 0, done = 0; done < r->n;) {
        if (sent < r->n && sent - done < r->window) {
            size_t len = 0;
            char *text =
                r->bytes > 0
                    ? build_append(r->what, r->bytes, r->first + sent, &len)
                    : build_command(r->what, r->first + sent, &len);
            sent_at[sent % r->window] = now_ns();
            sent++;
            send_all(c, text, len);
            free(text);
            continue;
        }
        await_ok(c, r->what);
        samples_add(each, (int64_t)(now_ns() - sent_at[done % r->window]));
        done++;
    }
    free(sent_at);
}

static void
report(const struct conn *c, const struct run *r, double took_s,
       struct samples *each)
{
    printf("{\"tool\":\"imaptime\",\"commands\":%u,\"window\":%u,"
           "\"ms\":%.4f,\"per_s\":%.1f,\"bytes\":%llu,\"lines\":%llu,"
           "\"client_cpu_s\":%.3f,",
           r->n, r->window, took_s * 1e3, r->n / took_s,
           (unsigned long long)c->bytes, (unsigned long long)c->lines,
           own_cpu_s());
    samples_json(each, "");
    printf("}\n");
}

int
main(int argc, char **argv)
{
    struct run r = {
        .host = "127.0.0.1", .password = "secret", .n = 1, .window = 1};
    struct conn c;
    struct samples each = {0};

    for (int o; (o = getopt(argc, argv, "h:p:u:s:x:n:f:W:m:")) != -1;)
        take_option(&r, o);
    if (optind + 1 != argc || r.port == NULL || r.user == NULL || r.n == 0 ||
        r.window == 0)
        usage();
    r.what = argv[optind];
    begin(&c, &r);
    const uint64_t began = now_ns();
    measure(&c, &r, &each);
    report(&c, &r, (double)(now_ns() - began) / 1e9, &each);
    close(c.fd);
    free(each.v);
    free(c.in);
    return 0;
}
