/*
 * bench/lag.c - how long after its 250 a message can be seen on the replica.
 *
 * LMTP connections to the master and one IMAP connection in IDLE on the
 * replica, in one thread, so both ends of the measurement are read from one
 * clock.  Each connection has one message on its way; the message that is
 * answered as the n-th is taken for the n-th to be seen, which of those of one
 * commit is which cannot be told.  The EXISTS may come before the 250: then the
 * figure is negative, and says so.  Beside it the channel's own figure (commit
 * on the master to the replica's acknowledgement that it is applied), read from
 * the slot just before the next message goes out.
 *
 *   lag -h LMTP_HOST -p LMTP_PORT -H IMAP_HOST -i IMAP_PORT -u USER
 *       [-w PASSWORD] [-r RATE] [-n MESSAGES] [-b BYTES] [-c CONNECTIONS]
 *       [-s LOG_DIR]
 */
#include <poll.h>

#include "bench/talk.h"
#include "synclog/slot.h"

#define SEEN_WAIT_MS 10000
#define CONNECTIONS_MAX 64

struct sender {
    struct talk lmtp;
    int replies; /* to come: of the envelope, then 1 for the message; 0: idle */
    bool in_body;
    uint32_t number; /* of the message: two that are alike count as one */
};

struct lag {
    const char *lmtp_host, *lmtp_port, *imap_host, *imap_port, *user, *password;
    const char *log_dir;
    uint32_t rate, messages, bytes, connections;
    struct sender senders[CONNECTIONS_MAX];
    struct talk imap;
    struct synclog_slot *slot;
    char *body;
    int64_t exists_at_start;
    uint64_t *sent, *ok, *seen;
    uint32_t nsent, nok, nseen;
    uint64_t run_id;
    struct samples slot_lag;
};

static void
start_lmtp(const struct lag *g, struct talk *lmtp)
{
    lmtp->fd = tcp_connect(g->lmtp_host, g->lmtp_port);
    const char *line = talk_line(lmtp);
    if (strncmp(line, "220", 3) != 0)
        die("LMTP greeting: %s", line);
    talk_send(lmtp, "LHLO lag\r\n");
    do
        line = talk_line(lmtp);
    while (strncmp(line, "250-", 4) == 0);
    if (strncmp(line, "250 ", 4) != 0)
        die("LHLO: %s", line);
}

static void
start_idle(struct lag *g)
{
    g->exists_at_start = talk_open(&g->imap, g->imap_host, g->imap_port, NULL,
                                   g->user, g->password);
    talk_send(&g->imap, "i IDLE\r\n");
    while (talk_line(&g->imap)[0] != '+')
        continue;
}

static void
send_next(struct lag *g, struct sender *s)
{
    char *text = xasprintf("MAIL FROM:<lag@example.org>\r\nRCPT TO:<%s>\r\n"
                           "DATA\r\n",
                           g->user);

    if (g->slot != NULL && g->nok > 0)
        samples_add(&g->slot_lag,
                    (int64_t)(atomic_load(&g->slot->lag_us) * 1000));
    g->sent[g->nsent++] = now_ns();
    s->number = g->nsent;
    s->replies = 3;
    s->in_body = false;
    talk_send(&s->lmtp, text);
    free(text);
}

static void
send_body(struct lag *g, struct sender *s)
{
    char *text = xasprintf("From: lag@example.org\r\nSubject: lag %u\r\n"
                           "Message-ID: <%llx.%u@lag.example.org>\r\n\r\n",
                           s->number, (unsigned long long)g->run_id, s->number);
    size_t head = strlen(text);
    size_t body = g->bytes > head + 2 ? g->bytes - head : 2;
    char *all = xasprintf("%s%s.\r\n", text, g->body + g->bytes - body);

    if (all[head] == '\n')
        all[head] = ' '; /* the cut went through a line's end */
    s->in_body = true;
    s->replies = 1;
    talk_send(&s->lmtp, all);
    free(all);
    free(text);
}

static void
on_lmtp_line(struct lag *g, struct sender *s, const char *line)
{
    bool is_last = --s->replies == 0;
    const char *wanted = is_last && !s->in_body ? "354" : "250";

    if (strncmp(line, wanted, 3) != 0)
        die("LMTP: %s", line);
    if (!is_last)
        return;
    if (s->in_body)
        g->ok[g->nok++] = now_ns();
    else
        send_body(g, s);
}

static void
on_imap_line(struct lag *g, const char *line)
{
    int64_t n = talk_exists(line) - g->exists_at_start;
    uint64_t now = now_ns();

    if (strncmp(line, "* BYE", 5) == 0)
        die("IMAP: %s", line);
    while (g->nseen < g->nsent && (int64_t)g->nseen < n)
        g->seen[g->nseen++] = now;
}

static void
wait_some(struct lag *g, int64_t ns)
{
    struct pollfd fds[1 + CONNECTIONS_MAX];
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

    fds[0] = (struct pollfd){.fd = g->imap.fd, .events = POLLIN};
    for (uint32_t i = 0; i < g->connections; i++)
        fds[1 + i] =
            (struct pollfd){.fd = g->senders[i].lmtp.fd, .events = POLLIN};
    if (ppoll(fds, 1 + g->connections, &t, NULL) < 0)
        die("poll: %s", strerror(errno));
    if (fds[0].revents != 0)
        do
            on_imap_line(g, talk_line(&g->imap));
        while (talk_has_line(&g->imap));
    for (uint32_t i = 0; i < g->connections; i++) {
        struct sender *s = &g->senders[i];
        if (fds[1 + i].revents != 0)
            do
                on_lmtp_line(g, s, talk_line(&s->lmtp));
            while (talk_has_line(&s->lmtp));
    }
}

/* Who has nothing on its way, or NULL. */
static struct sender *
find_idle(struct lag *g)
{
    for (uint32_t i = 0; i < g->connections; i++)
        if (g->senders[i].replies == 0)
            return &g->senders[i];
    return NULL;
}

static void
run(struct lag *g)
{
    uint64_t began = now_ns();
    uint64_t give_up = 0;

    while (g->nok < g->messages || g->nseen < g->messages) {
        uint64_t now = now_ns();
        uint64_t due = began + (uint64_t)g->nsent * 1000000000U / g->rate;
        int64_t wait = (int64_t)SEEN_WAIT_MS * 1000000;
        struct sender *s = find_idle(g);
        if (g->nsent < g->messages && s != NULL) {
            if (now >= due) {
                send_next(g, s);
                continue;
            }
            wait = (int64_t)(due - now);
        }
        if (g->nok == g->messages) {
            if (give_up == 0)
                give_up = now + (uint64_t)SEEN_WAIT_MS * 1000000;
            if (now > give_up)
                die("%u of %u messages were never seen on the replica",
                    g->messages - g->nseen, g->messages);
        }
        wait_some(g, wait);
    }
}

static void
report(struct lag *g)
{
    struct samples after_ok = {0};
    struct samples after_send = {0};

    for (uint32_t i = 0; i < g->messages; i++) {
        samples_add(&after_ok, (int64_t)(g->seen[i] - g->ok[i]));
        samples_add(&after_send, (int64_t)(g->seen[i] - g->sent[i]));
    }
    printf("{\"tool\":\"lag\",\"rate\":%u,\"bytes\":%u,\"connections\":%u,"
           "\"per_s\":%.1f,",
           g->rate, g->bytes, g->connections,
           g->messages * 1e9 / (double)(g->ok[g->messages - 1] - g->sent[0]));
    samples_json(&after_ok, "visible_after_250_");
    putchar(',');
    samples_json(&after_send, "visible_after_send_");
    putchar(',');
    samples_json(&g->slot_lag, "channel_");
    printf("}\n");
    free(after_ok.v);
    free(after_send.v);
}

NORETURN static void
usage(void)
{
    die("usage: lag -h LMTP_HOST -p LMTP_PORT -H IMAP_HOST -i IMAP_PORT\n"
        "           -u USER [-w PASSWORD] [-r RATE] [-n MESSAGES] [-b BYTES]\n"
        "           [-c CONNECTIONS] [-s LOG_DIR]");
}

static void
options(struct lag *g, int argc, char **argv)
{
    for (int c; (c = getopt(argc, argv, "h:p:H:i:u:w:r:n:b:c:s:")) != -1;) {
        switch (c) {
        case 'h':
            g->lmtp_host = optarg;
            break;
        case 'p':
            g->lmtp_port = optarg;
            break;
        case 'H':
            g->imap_host = optarg;
            break;
        case 'i':
            g->imap_port = optarg;
            break;
        case 'u':
            g->user = optarg;
            break;
        case 'w':
            g->password = optarg;
            break;
        case 'r':
            g->rate = number(optarg, 100000);
            break;
        case 'n':
            g->messages = number(optarg, 10000000);
            break;
        case 'b':
            g->bytes = number(optarg, 1U << 24);
            break;
        case 'c':
            g->connections = number(optarg, CONNECTIONS_MAX);
            break;
        case 's':
            g->log_dir = optarg;
            break;
        default:
            usage();
        }
    }
    if (optind != argc || g->lmtp_host == NULL || g->lmtp_port == NULL ||
        g->imap_host == NULL || g->imap_port == NULL || g->user == NULL ||
        g->rate == 0 || g->messages == 0 || g->bytes < 512 ||
        g->connections == 0)
        usage();
}

int
main(int argc, char **argv)
{
    struct lag g = {.password = "secret",
                    .rate = 100,
                    .messages = 1000,
                    .bytes = 4096,
                    .connections = 1};
    struct error err = {0};

    options(&g, argc, argv);
    g.run_id = now_ns();
    if (g.log_dir != NULL &&
        slot_attach(g.log_dir, "default", false, &g.slot, &err) != ERR_OK)
        die("slot: %s", err.text);
    g.body = xcalloc(1, g.bytes + 1);
    fill_text(g.body, g.bytes, g.run_id);
    g.sent = xcalloc(g.messages, sizeof(*g.sent));
    g.ok = xcalloc(g.messages, sizeof(*g.ok));
    g.seen = xcalloc(g.messages, sizeof(*g.seen));
    for (uint32_t i = 0; i < g.connections; i++)
        start_lmtp(&g, &g.senders[i].lmtp);
    start_idle(&g);
    run(&g);
    report(&g);
    slot_detach(&g.slot);
    for (uint32_t i = 0; i < g.connections; i++)
        close(g.senders[i].lmtp.fd);
    close(g.imap.fd);
    free(g.body);
    free(g.sent);
    free(g.ok);
    free(g.seen);
    free(g.slot_lag.v);
    return 0;
}
