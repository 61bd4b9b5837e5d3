/*
 * bench/idle.c - what an idle IMAP connection costs: the server's memory (PSS)
 * with N connections that are logged in and have INBOX selected, less its
 * memory before, divided by N.  Kernel memory of the sockets is not in it.
 *
 * A few connections come and go first, so that what is allocated once is there.
 *
 *   idle -h HOST -p PORT -s SERVER_PID [-n CONNECTIONS] [-u USERS] [-P PREFIX]
 *        [-w PASSWORD] [-i] [-t]
 *   -i  also enter IDLE
 *   -t  by TLS (STARTTLS)
 */
#include "bench/talk.h"

#define WARM 16U

struct who {
    const char *host, *port, *prefix, *password;
    uint32_t users;
    bool in_idle;
    SSL_CTX *tls; /* or NULL */
};

/* "Pss:" of the process, in KiB. */
static uint64_t
pss_kib(uint32_t pid)
{
    char *path = xasprintf("/proc/%u/smaps_rollup", pid);
    char line[256];
    uint64_t kib = 0;

    FILE *f = fopen(path, "re");
    if (f == NULL)
        die("%s: %s", path, strerror(errno));
    while (fgets(line, sizeof(line), f) != NULL) {
        struct span s = span_str(line);
        if (span_starts(s, SPAN_LIT("Pss:"))) {
            s = span_trim(span_skip(s, 4));
            ptrdiff_t blank = span_find_byte(s, ' ', 0);
            if (blank > 0 && parse_u64(span_sub(s, 0, (size_t)blank), &kib))
                break;
        }
    }
    fclose(f);
    free(path);
    if (kib == 0)
        die("no Pss of process %u", pid);
    return kib;
}

/* Once it has stopped moving: three looks in a row with less than 32 KiB
 * between them, or after 5 s. */
static uint64_t
pss_settled_kib(uint32_t pid)
{
    uint64_t last = pss_kib(pid);
    int calm = 0;

    for (int i = 0; i < 50 && calm < 3; i++) {
        struct timespec t = {.tv_nsec = 100000000};
        nanosleep(&t, NULL);
        uint64_t now = pss_kib(pid);
        calm = now < last + 32 && last < now + 32 ? calm + 1 : 0;
        last = now;
    }
    return last;
}

static void
open_some(struct talk *conns, uint32_t n, const struct who *w)
{
    for (uint32_t i = 0; i < n; i++) {
        char user[64];
        snprintf(user, sizeof(user), "%s%04u", w->prefix, i % w->users);
        talk_open(&conns[i], w->host, w->port, w->tls, user, w->password);
        if (!w->in_idle)
            continue;
        talk_send(&conns[i], "i IDLE\r\n");
        while (talk_line(&conns[i])[0] != '+')
            continue;
    }
}

static void
close_some(struct talk *conns, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        talk_close(&conns[i]);
}

/* As many descriptors as N connections want. */
static void
want_descriptors(uint32_t n)
{
    struct rlimit now;

    if (getrlimit(RLIMIT_NOFILE, &now) != 0 || now.rlim_cur >= n + 64)
        return;
    const struct rlimit fds = {n + 64, MAX(now.rlim_max, (rlim_t)n + 64)};
    if (setrlimit(RLIMIT_NOFILE, &fds) != 0)
        die("%u descriptors: %s", n + 64, strerror(errno));
}

/* Little memory for each. */
static SSL_CTX *
tls_client(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (ctx == NULL)
        die("no TLS");
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    return ctx;
}

static void
measure(const struct who *w, uint32_t pid, uint32_t n)
{
    struct talk *conns = xcalloc(n, sizeof(*conns));

    open_some(conns, WARM, w);
    close_some(conns, WARM);
    uint64_t before = pss_settled_kib(pid);
    uint64_t began = now_ns();
    open_some(conns, n, w);
    double took = (double)(now_ns() - began) / 1e9;
    uint64_t with = pss_settled_kib(pid);
    printf("{\"tool\":\"idle\",\"connections\":%u,\"in_idle\":%s,\"tls\":%s,"
           "\"pss_before_kib\":%llu,\"pss_with_kib\":%llu,"
           "\"kib_each\":%.2f,\"logins_per_s\":%.1f}\n",
           n, w->in_idle ? "true" : "false", w->tls != NULL ? "true" : "false",
           (unsigned long long)before, (unsigned long long)with,
           ((double)with - (double)before) / (double)n, (double)n / took);
    close_some(conns, n);
    free(conns);
}

NORETURN static void
usage(void)
{
    die("usage: idle -h HOST -p PORT -s SERVER_PID [-n CONNECTIONS]\n"
        "            [-u USERS] [-P PREFIX] [-w PASSWORD] [-i] [-t]");
}

int
main(int argc, char **argv)
{
    struct who w = {.prefix = "u", .password = "secret", .users = 32};
    uint32_t pid = 0;
    uint32_t n = 1000;

    for (int c; (c = getopt(argc, argv, "h:p:s:n:u:P:w:it")) != -1;) {
        if (c == 'h')
            w.host = optarg;
        else if (c == 'p')
            w.port = optarg;
        else if (c == 's')
            pid = number(optarg, UINT32_MAX - 1);
        else if (c == 'n')
            n = number(optarg, 1000000);
        else if (c == 'u')
            w.users = number(optarg, 10000);
        else if (c == 'P')
            w.prefix = optarg;
        else if (c == 'w')
            w.password = optarg;
        else if (c == 'i')
            w.in_idle = true;
        else if (c == 't')
            w.tls = tls_client();
        else
            usage();
    }
    if (w.host == NULL || w.port == NULL || pid == 0 || n < WARM ||
        w.users == 0)
        usage();
    want_descriptors(n);
    measure(&w, pid, n);
    SSL_CTX_free(w.tls);
    return 0;
}
