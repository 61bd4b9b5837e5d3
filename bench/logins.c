/*
 * bench/logins.c - how many clients a second can log in: connect, read the
 * greeting, LOGIN, LOGOUT, and again, on C connections at a time for T seconds.
 *
 *   logins -h HOST -p PORT [-c CONNECTIONS] [-t SECONDS] [-u USERS] [-P PREFIX]
 *          [-w PASSWORD]
 *
 * A thread for each connection.  Latency is from connect() to the OK of LOGIN.
 */
#include <pthread.h>

#include "bench/talk.h"

#define CONNECTIONS_MAX 256U

struct load {
    const char *host, *port, *prefix, *password;
    uint32_t users;
    uint64_t end_ns;
};

struct one {
    pthread_t thread;
    const struct load *load;
    uint32_t number;
    struct samples each;
};

static void *
log_in_and_out(void *arg)
{
    struct one *o = arg;
    const struct load *l = o->load;
    struct talk t;
    char user[64];

    for (uint32_t i = o->number; now_ns() < l->end_ns; i++) {
        snprintf(user, sizeof(user), "%s%04u", l->prefix, i % l->users);
        const uint64_t began = now_ns();
        talk_login(&t, l->host, l->port, NULL, user, l->password);
        samples_add(&o->each, (int64_t)(now_ns() - began));
        talk_command(&t, "LOGOUT", NULL);
        talk_close(&t);
    }
    return NULL;
}

NORETURN static void
usage(void)
{
    die("usage: logins -h HOST -p PORT [-c CONNECTIONS] [-t SECONDS]\n"
        "              [-u USERS] [-P PREFIX] [-w PASSWORD]");
}

int
main(int argc, char **argv)
{
    struct load l = {.prefix = "u", .password = "secret", .users = 32};
    static struct one ones[CONNECTIONS_MAX];
    uint32_t n = 8, seconds = 4;
    struct samples all = {0};

    for (int c; (c = getopt(argc, argv, "h:p:c:t:u:P:w:")) != -1;) {
        if (c == 'h')
            l.host = optarg;
        else if (c == 'p')
            l.port = optarg;
        else if (c == 'c')
            n = number(optarg, CONNECTIONS_MAX);
        else if (c == 't')
            seconds = number(optarg, 3600);
        else if (c == 'u')
            l.users = number(optarg, 10000);
        else if (c == 'P')
            l.prefix = optarg;
        else if (c == 'w')
            l.password = optarg;
        else
            usage();
    }
    if (l.host == NULL || l.port == NULL || n == 0 || seconds == 0 ||
        l.users == 0)
        usage();

    const uint64_t began = now_ns();
    l.end_ns = began + (uint64_t)seconds * 1000000000U;
    for (uint32_t i = 0; i < n; i++) {
        ones[i] = (struct one){.load = &l, .number = i};
        if (pthread_create(&ones[i].thread, NULL, log_in_and_out, &ones[i]) !=
            0)
            die("no thread");
    }
    for (uint32_t i = 0; i < n; i++) {
        pthread_join(ones[i].thread, NULL);
        for (size_t k = 0; k < ones[i].each.n; k++)
            samples_add(&all, ones[i].each.v[k]);
        free(ones[i].each.v);
    }
    const double took_s = (double)(now_ns() - began) / 1e9;
    printf("{\"tool\":\"logins\",\"connections\":%u,\"answered\":%zu,"
           "\"per_s\":%.1f,\"client_cpu_s\":%.3f,",
           n, all.n, (double)all.n / took_s, own_cpu_s());
    samples_json(&all, "");
    printf("}\n");
    free(all.v);
    return 0;
}
