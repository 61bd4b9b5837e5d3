/*
 * bench/mailload.c - load by LMTP, or by IMAP's APPEND or another command: N
 * connections, each sending the next message when the one before was answered
 * (closed loop), or at a given rate over all.
 *
 * One thread and epoll, so that the client takes as little of the machine as it
 * can.  LMTP: MAIL, RCPT and DATA go out as one write (PIPELINING), the message
 * as a second one after the 354; recipients come in turn.  APPEND (-a): each
 * connection logs in as the next user, and command and message are one write
 * (LITERAL+); with -x it is COMMAND instead, %d in it being a number that
 * counts up over all connections.  Every message has its own Message-ID and so
 * its own GUID.  With a rate the latency counts from the moment at which the
 * message was due, so a server that stalls cannot hide it.
 *
 *   mailload [-a [-x COMMAND]] [-h HOST] -p PORT [-c CONNECTIONS] [-b BYTES]
 *            [-u USERS] [-P PREFIX] [-U USER] [-s PASSWORD] [-w WARMUP_S]
 *            [-t SECONDS | -n MESSAGES] [-r RATE]
 *
 * Users are PREFIX0000 and so on, or the one USER.
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>

#include "bench/bench.h"

#define BODIES 64
#define HEADER_MAX 512

enum state { GREETING, HELLO, IDLE, ENVELOPE, BODY };

struct client {
    int fd;
    enum state state;
    int replies;      /* still expected in ENVELOPE */
    bool refused;     /* one of them was not what it should be */
    bool wants_write; /* EPOLLOUT is on */
    uint64_t due;
    char in[8192];
    size_t in_n;
    char *out;
    size_t out_at, out_n;
};

struct load {
    const char *host, *port, *prefix, *user, *password;
    const char *command; /* instead of APPEND; NULL: none */
    bool append;
    uint32_t nclients, bytes, users, warmup_s, seconds, messages, rate;
    int ep, timer;
    char *bodies[BODIES];
    struct client *clients;
    struct client **idle;
    size_t nidle;
    uint64_t run_id;
    uint64_t began, counted_from, ends;
    uint64_t issued, answered, counted, refused, first_due;
    struct samples latency;
    uint64_t last_answer;
};

#define USER_MAX 200 /* prefix and number, or -U; checked in options() */

/* The name of user N of the load. */
static const char *
user_name(const struct load *l, uint64_t n, char *name)
{
    if (l->user != NULL)
        return l->user;
    (void)snprintf(name, USER_MAX, "%s%04u", l->prefix,
                   (unsigned)(n % l->users));
    return name;
}

/* ---- sending ----------------------------------------------------------- */

static void
watch(struct load *l, struct client *c, bool wants_write)
{
    struct epoll_event e = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0U),
                            .data.ptr = c};

    if (wants_write == c->wants_write)
        return;
    c->wants_write = wants_write;
    if (epoll_ctl(l->ep, EPOLL_CTL_MOD, c->fd, &e) != 0)
        die("epoll: %s", strerror(errno));
}

static void
flush(struct load *l, struct client *c)
{
    while (c->out_at < c->out_n) {
        ssize_t n = write(c->fd, c->out + c->out_at, c->out_n - c->out_at);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            die("write: %s", strerror(errno));
        c->out_at += (size_t)n;
    }
    watch(l, c, c->out_at < c->out_n);
}

static void
send_envelope(struct load *l, struct client *c, uint64_t due)
{
    char name[USER_MAX];
    int n = snprintf(c->out, HEADER_MAX,
                     "MAIL FROM:<load@example.org>\r\n"
                     "RCPT TO:<%s>\r\nDATA\r\n",
                     user_name(l, l->issued, name));

    c->state = ENVELOPE;
    c->replies = 3;
    c->refused = false;
    c->due = due;
    c->out_at = 0;
    c->out_n = (size_t)n;
    l->issued++;
    flush(l, c);
}

/* The next message, of exactly l->bytes, to AT; it ends with CR LF. */
static size_t
put_message(const struct load *l, const struct client *c, char *at)
{
    char name[USER_MAX];
    int head = snprintf(
        at, HEADER_MAX,
        "From: Load <load@example.org>\r\n"
        "To: %s@example.org\r\n"
        "Subject: load %llu\r\n"
        "Date: Mon, 05 Jan 2026 10:00:00 +0100\r\n"
        "Message-ID: <%llx.%llu@load.example.org>\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n\r\n",
        user_name(l, l->issued, name), (unsigned long long)l->issued,
        (unsigned long long)l->run_id,
        (unsigned long long)(uintptr_t)(c - l->clients) * 100000000ULL +
            l->issued);
    size_t body = l->bytes > (size_t)head + 2 ? l->bytes - (size_t)head : 2;

    memcpy(at + head, l->bodies[l->issued % BODIES] + l->bytes - body, body);
    if (at[head] == '\n')
        at[head] = ' '; /* the cut went through a line's end */
    return (size_t)head + body;
}

static void
send_message(struct load *l, struct client *c)
{
    size_t n = put_message(l, c, c->out);

    memcpy(c->out + n, ".\r\n", 3);
    c->state = BODY;
    c->out_at = 0;
    c->out_n = n + 3;
    flush(l, c);
}

static void
send_append(struct load *l, struct client *c, uint64_t due)
{
    int n = snprintf(c->out, HEADER_MAX, "m APPEND INBOX {%u+}\r\n", l->bytes);

    l->issued++;
    size_t end = (size_t)n + put_message(l, c, c->out + n);
    memcpy(c->out + end, "\r\n", 2);
    c->state = BODY;
    c->due = due;
    c->out_at = 0;
    c->out_n = end + 2;
    flush(l, c);
}

/* l->command with the next number in place of %d, if that is there. */
static void
send_command(struct load *l, struct client *c, uint64_t due)
{
    const char *at = strstr(l->command, "%d");
    int before = at == NULL ? (int)strlen(l->command) : (int)(at - l->command);
    char number[24] = "";

    if (at != NULL)
        (void)snprintf(number, sizeof(number), "%llu",
                       (unsigned long long)l->issued);
    l->issued++;
    c->state = BODY;
    c->due = due;
    c->out_at = 0;
    c->out_n = (size_t)snprintf(c->out, HEADER_MAX, "m %.*s%s%s\r\n", before,
                                l->command, number, at == NULL ? "" : at + 2);
    flush(l, c);
}

static bool
is_over(const struct load *l, uint64_t now)
{
    return l->messages > 0 ? l->issued >= l->messages : now >= l->ends;
}

/* When the next message is due, if there is a rate. */
static uint64_t
next_due(const struct load *l)
{
    return l->began + l->issued * 1000000000U / l->rate;
}

static void
set_timer(struct load *l, uint64_t at)
{
    struct itimerspec t = {.it_value = {.tv_sec = (time_t)(at / 1000000000U),
                                        .tv_nsec = (long)(at % 1000000000U)}};

    if (timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &t, NULL) != 0)
        die("timer: %s", strerror(errno));
}

/* Give work to whoever has none. */
static void
dispatch(struct load *l)
{
    uint64_t now = now_ns();

    while (l->nidle > 0 && !is_over(l, now)) {
        uint64_t due = now;
        if (l->rate > 0) {
            due = next_due(l);
            if (due > now) {
                set_timer(l, due);
                return;
            }
        }
        struct client *c = l->idle[--l->nidle];
        if (l->command != NULL)
            send_command(l, c, due);
        else if (l->append)
            send_append(l, c, due);
        else
            send_envelope(l, c, due);
    }
}

/* ---- answers ----------------------------------------------------------- */

static void
on_message_answer(struct load *l, struct client *c, bool ok)
{
    uint64_t now = now_ns();

    l->answered++;
    if (!ok) {
        l->refused++;
    } else if (now >= l->counted_from && (l->messages > 0 || now < l->ends)) {
        l->counted++;
        l->last_answer = now;
        samples_add(&l->latency, (int64_t)(now - c->due));
    }
    c->state = IDLE;
    l->idle[l->nidle++] = c;
}

static void
on_lmtp(struct load *l, struct client *c, unsigned code, const char *line)
{
    switch (c->state) {
    case GREETING:
        if (code != 220)
            die("greeting: %s", line);
        c->state = HELLO;
        c->out_at = 0;
        c->out_n = (size_t)snprintf(c->out, HEADER_MAX, "LHLO load\r\n");
        flush(l, c);
        return;
    case HELLO:
        if (code != 250)
            die("LHLO: %s", line);
        c->state = IDLE;
        l->idle[l->nidle++] = c;
        return;
    case IDLE:
        die("unasked: %s", line);
    case ENVELOPE:
        c->replies--;
        if (code != (c->replies == 0 ? 354 : 250)) {
            if (!c->refused && l->refused < 3)
                fprintf(stderr, "refused: %s\n", line);
            c->refused = true;
        }
        if (c->replies > 0)
            return;
        if (c->refused && code != 354)
            on_message_answer(l, c, false);
        else
            send_message(l, c);
        return;
    case BODY:
        if (code != 250 && l->refused < 3)
            fprintf(stderr, "refused: %s\n", line);
        on_message_answer(l, c, code == 250);
        return;
    }
}

/* A line of IMAP; only the greeting and answers of our two commands count. */
static void
on_imap(struct load *l, struct client *c, const char *line)
{
    bool ok = strncmp(line, "m OK", 4) == 0;
    char name[USER_MAX];

    if (strncmp(line, "* ", 2) == 0) {
        if (c->state != GREETING)
            return;
        if (strncmp(line, "* OK", 4) != 0)
            die("greeting: %s", line);
        c->state = HELLO;
        c->out_at = 0;
        c->out_n = (size_t)snprintf(
            c->out, HEADER_MAX, "m LOGIN %s %s\r\n",
            user_name(l, (size_t)(c - l->clients), name), l->password);
        flush(l, c);
    } else if (c->state == HELLO) {
        if (!ok)
            die("LOGIN: %s", line);
        c->state = IDLE;
        l->idle[l->nidle++] = c;
    } else if (c->state == BODY) {
        if (!ok && l->refused < 3)
            fprintf(stderr, "refused: %s\n", line);
        on_message_answer(l, c, ok);
    } else {
        die("unasked: %s", line);
    }
}

static void
on_line(struct load *l, struct client *c, char *line, size_t n)
{
    uint32_t code = 0;

    if (l->append) {
        on_imap(l, c, line);
        return;
    }
    if (n < 4 || !parse_u32(span_of(line, 3), &code))
        die("not a reply: %s", line);
    if (line[3] != '-')
        on_lmtp(l, c, code, line);
}

static void
on_readable(struct load *l, struct client *c)
{
    ssize_t n = read(c->fd, c->in + c->in_n, sizeof(c->in) - c->in_n);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        die("connection lost: %s", n == 0 ? "closed" : strerror(errno));
    c->in_n += (size_t)n;
    size_t at = 0;
    for (char *nl; (nl = memchr(c->in + at, '\n', c->in_n - at)) != NULL;) {
        char *line = c->in + at;
        *nl = '\0';
        at = (size_t)(nl - c->in) + 1;
        on_line(l, c, line, (size_t)(nl - line));
    }
    memmove(c->in, c->in + at, c->in_n - at);
    c->in_n -= at;
    if (c->in_n == sizeof(c->in))
        die("a line of over %zu bytes", sizeof(c->in));
}

/* ---- the run ----------------------------------------------------------- */

static void
connect_all(struct load *l)
{
    l->ep = epoll_create1(EPOLL_CLOEXEC);
    l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    l->clients = xcalloc(l->nclients, sizeof(*l->clients));
    l->idle = xcalloc(l->nclients, sizeof(struct client *));
    struct epoll_event e = {.events = EPOLLIN};
    if (l->ep < 0 || l->timer < 0 ||
        epoll_ctl(l->ep, EPOLL_CTL_ADD, l->timer, &e) != 0)
        die("epoll: %s", strerror(errno));
    for (uint32_t i = 0; i < l->nclients; i++) {
        struct client *c = &l->clients[i];
        c->fd = tcp_connect(l->host, l->port);
        c->out = xmalloc(l->bytes + 2 * HEADER_MAX);
        if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0)
            die("fcntl: %s", strerror(errno));
        e.data.ptr = c;
        if (epoll_ctl(l->ep, EPOLL_CTL_ADD, c->fd, &e) != 0)
            die("epoll: %s", strerror(errno));
    }
}

static void
turn(struct load *l)
{
    struct epoll_event events[64];
    int n = epoll_wait(l->ep, events, 64, 10000);

    if (n == 0)
        die("no answer for 10 s");
    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;
        uint64_t fired;
        if (c == NULL) {
            if (read(l->timer, &fired, sizeof(fired)) < 0)
                continue; /* set anew since */
            continue;
        }
        if ((events[i].events & EPOLLOUT) != 0)
            flush(l, c);
        if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
            on_readable(l, c);
    }
}

static void
run(struct load *l)
{
    while (l->nidle < l->nclients)
        turn(l);
    l->began = now_ns();
    l->counted_from = l->began + (uint64_t)l->warmup_s * 1000000000U;
    l->ends = l->counted_from + (uint64_t)l->seconds * 1000000000U;
    while (!is_over(l, now_ns())) {
        dispatch(l);
        turn(l);
    }
    while (l->answered < l->issued)
        turn(l);
}

static void
report(struct load *l)
{
    struct rusage u;
    uint64_t until = l->messages > 0 ? l->last_answer : l->ends;
    double took = (double)(until - l->counted_from) / 1e9;

    getrusage(RUSAGE_SELF, &u);
    printf("{\"tool\":\"mailload\",\"by\":\"%s\","
           "\"connections\":%u,\"bytes\":%u,"
           "\"rate\":%u,\"messages\":%llu,\"refused\":%llu,\"seconds\":%.3f,"
           "\"per_s\":%.1f,\"answered\":%llu,\"client_cpu_s\":%.2f,",
           l->command != NULL ? "command"
           : l->append        ? "append"
                              : "lmtp",
           l->nclients, l->bytes, l->rate, (unsigned long long)l->counted,
           (unsigned long long)l->refused, took, (double)l->counted / took,
           (unsigned long long)l->answered,
           (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
               (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
    samples_json(&l->latency, "");
    printf("}\n");
}

NORETURN static void
usage(void)
{
    die("usage: mailload [-a [-x COMMAND]] [-h HOST] -p PORT [-c CONNECTIONS]\n"
        "                [-b BYTES] [-u USERS] [-P PREFIX] [-U USER] [-s "
        "PASSWORD]\n"
        "                [-w WARMUP_S] [-t SECONDS | -n MESSAGES] [-r RATE]");
}

static void
options(struct load *l, int argc, char **argv)
{
    for (int c;
         (c = getopt(argc, argv, "ax:h:p:c:b:u:P:U:s:w:t:n:r:")) != -1;) {
        switch (c) {
        case 'a':
            l->append = true;
            break;
        case 'x':
            l->command = optarg;
            break;
        case 'h':
            l->host = optarg;
            break;
        case 'p':
            l->port = optarg;
            break;
        case 'c':
            l->nclients = number(optarg, 10000);
            break;
        case 'b':
            l->bytes = number(optarg, 1U << 26);
            break;
        case 'u':
            l->users = number(optarg, 10000);
            break;
        case 'P':
            l->prefix = optarg;
            break;
        case 'U':
            l->user = optarg;
            break;
        case 's':
            l->password = optarg;
            break;
        case 'w':
            l->warmup_s = number(optarg, 3600);
            break;
        case 't':
            l->seconds = number(optarg, 86400);
            break;
        case 'n':
            l->messages = number(optarg, UINT32_MAX - 1);
            break;
        case 'r':
            l->rate = number(optarg, 1000000);
            break;
        default:
            usage();
        }
    }
    if (optind != argc || l->port == NULL || l->nclients == 0 ||
        l->users == 0 || l->bytes < HEADER_MAX ||
        strlen(l->user != NULL ? l->user : l->prefix) > 64 ||
        strlen(l->password) > 64 ||
        (l->command != NULL &&
         (!l->append || strlen(l->command) > HEADER_MAX / 2)))
        usage();
    if (l->messages > 0)
        l->warmup_s = 0;
}

int
main(int argc, char **argv)
{
    struct load l = {.host = "127.0.0.1",
                     .prefix = "u",
                     .password = "secret",
                     .nclients = 1,
                     .bytes = 4096,
                     .users = 32,
                     .warmup_s = 1,
                     .seconds = 5};

    options(&l, argc, argv);
    l.run_id = now_ns();
    for (int i = 0; i < BODIES; i++) {
        l.bodies[i] = xmalloc(l.bytes + 1);
        fill_text(l.bodies[i], l.bytes, (uint64_t)i + l.run_id);
    }
    connect_all(&l);
    run(&l);
    report(&l);
    for (uint32_t i = 0; i < l.nclients; i++) {
        close(l.clients[i].fd);
        free(l.clients[i].out);
    }
    for (int i = 0; i < BODIES; i++)
        free(l.bodies[i]);
    free(l.clients);
    free(l.idle);
    free(l.latency.v);
    return l.refused > 0 ? 1 : 0;
}
