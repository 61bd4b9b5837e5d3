/*
 * bench/rawnet.c - loopback's limit: how many bytes a second go through one TCP
 * connection between two threads, and how long one byte there and back takes.
 *
 *   rawnet [-t SECONDS]
 */
#include <arpa/inet.h>
#include <pthread.h>

#include "bench/bench.h"

#define BLOCK ((size_t)256 << 10)

struct pipe_ends {
    int from, to;
};

static struct pipe_ends
loopback(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int one = 1;
    struct pipe_ends e;

    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    e.from = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l < 0 || e.from < 0 ||
        bind(l, (const struct sockaddr *)&a, sizeof(a)) != 0 ||
        listen(l, 1) != 0 || getsockname(l, (struct sockaddr *)&a, &len) != 0 ||
        connect(e.from, (const struct sockaddr *)&a, sizeof(a)) != 0 ||
        (e.to = accept(l, NULL, NULL)) < 0)
        die("loopback: %s", strerror(errno));
    close(l);
    setsockopt(e.from, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(e.to, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return e;
}

/* Reads until the end; the bytes are counted in *ctx's place. */
static void *
drain(void *ctx)
{
    int *fd = ctx;
    char *block = xmalloc(BLOCK);

    while (read(*fd, block, BLOCK) > 0)
        continue;
    free(block);
    return NULL;
}

static void *
echo(void *ctx)
{
    int *fd = ctx;
    char byte;

    while (read(*fd, &byte, 1) == 1)
        if (write(*fd, &byte, 1) != 1)
            break;
    return NULL;
}

static double
throughput(uint32_t seconds)
{
    struct pipe_ends e = loopback();
    char *block = xcalloc(1, BLOCK);
    pthread_t t;
    uint64_t sent = 0;

    if (pthread_create(&t, NULL, drain, &e.to) != 0)
        die("no thread");
    uint64_t began = now_ns();
    uint64_t end = began + (uint64_t)seconds * 1000000000U;
    while (now_ns() < end) {
        ssize_t n = write(e.from, block, BLOCK);
        if (n < 0)
            die("write: %s", strerror(errno));
        sent += (uint64_t)n;
    }
    shutdown(e.from, SHUT_WR);
    pthread_join(t, NULL);
    double took = (double)(now_ns() - began) / 1e9;
    close(e.from);
    close(e.to);
    free(block);
    return (double)sent / took / 1048576.0;
}

static void
round_trips(struct samples *s)
{
    struct pipe_ends e = loopback();
    pthread_t t;
    char byte = 'x';

    if (pthread_create(&t, NULL, echo, &e.to) != 0)
        die("no thread");
    for (int i = 0; i < 5000; i++) {
        uint64_t began = now_ns();
        if (write(e.from, &byte, 1) != 1 || read(e.from, &byte, 1) != 1)
            die("round trip: %s", strerror(errno));
        samples_add(s, (int64_t)(now_ns() - began));
    }
    shutdown(e.from, SHUT_WR);
    pthread_join(t, NULL);
    close(e.from);
    close(e.to);
}

int
main(int argc, char **argv)
{
    uint32_t seconds = 2;
    struct samples s = {0};

    for (int c; (c = getopt(argc, argv, "t:")) != -1;) {
        if (c != 't')
            die("usage: rawnet [-t SECONDS]");
        seconds = number(optarg, 3600);
    }
    printf("{\"tool\":\"rawnet\",\"mib_per_s\":%.1f,", throughput(seconds));
    round_trips(&s);
    samples_json(&s, "rtt_");
    printf("}\n");
    free(s.v);
    return 0;
}
