/* tests/net/test_listener.c - where to listen, who may come in. */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "net_test.h"

static void
test_listen_texts(void **state)
{
    (void)state;
    static const struct {
        const char *listen, *proto;
        enum errcode code;
        int family;
        const char *host, *service, *path;
    } cases[] = {
        {"imap", NULL, ERR_OK, AF_UNSPEC, "", "imap", ""},
        {"host:imap", "tcp", ERR_OK, AF_UNSPEC, "host", "imap", ""},
        {"host.example:143", "tcp4", ERR_OK, AF_INET, "host.example", "143",
         ""},
        {"[::1]:143", "tcp6", ERR_OK, AF_INET6, "::1", "143", ""},
        {"*:143", "tcp", ERR_OK, AF_UNSPEC, "", "143", ""},
        {"tcp6:imap", "tcp", ERR_OK, AF_INET6, "", "imap", ""},
        {"tcp4:[::1]:imap", "tcp", ERR_OK, AF_INET, "::1", "imap", ""},
        {"/run/cyrus/lmtp", "tcp", ERR_OK, AF_UNIX, "", "", "/run/cyrus/lmtp"},
        {" imap ", "tcp", ERR_OK, AF_UNSPEC, "", "imap", ""},
        {"", "tcp", ERR_SYNTAX, 0, NULL, NULL, NULL},
        {"host:", "tcp", ERR_SYNTAX, 0, NULL, NULL, NULL},
        {"::1:143", "tcp", ERR_SYNTAX, 0, NULL, NULL, NULL},
        {"[::1]", "tcp", ERR_SYNTAX, 0, NULL, NULL, NULL},
        {"[::1", "tcp", ERR_SYNTAX, 0, NULL, NULL, NULL},
        {"two words", "tcp", ERR_SYNTAX, 0, NULL, NULL, NULL},
        {"imap", "sctp", ERR_SYNTAX, 0, NULL, NULL, NULL},
        {"fud", "udp", ERR_UNSUPPORTED, 0, NULL, NULL, NULL},
        {"udp:fud", "tcp", ERR_UNSUPPORTED, 0, NULL, NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct listen_spec spec;
        struct error err = {0};
        assert_int_equal(
            listen_spec_parse(cases[i].listen, cases[i].proto, &spec, &err),
            cases[i].code);
        if (cases[i].code != ERR_OK)
            continue;
        assert_int_equal(spec.family, cases[i].family);
        assert_string_equal(spec.host, cases[i].host);
        assert_string_equal(spec.service, cases[i].service);
        assert_string_equal(spec.path, cases[i].path);
    }
    char longest[400];
    struct listen_spec spec;
    struct error err = {0};
    memset(longest, 'a', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(listen_spec_parse(longest, NULL, &spec, &err), ERR_SYNTAX);
    longest[0] = 'a';
    assert_int_equal(listen_spec_parse(longest, NULL, &spec, &err), ERR_SYNTAX);
}

static void
test_service_names_have_ports_without_a_table(void **state)
{
    (void)state;
    uint16_t port = 0;
    assert_true(service_port("imap", &port));
    assert_int_equal(port, 143);
    assert_true(service_port("csync", &port));
    assert_int_equal(port, 2005);
    assert_true(service_port("mupdate", &port));
    assert_int_equal(port, 3905);
    assert_true(service_port("0", &port));
    assert_int_equal(port, 0);
    assert_false(service_port("65536", &port));
    assert_false(service_port("no-such-service", &port));
    assert_int_equal(port, 0);
}

static atomic_uint opened, closed;
static atomic_uint by_reactor[8];

static size_t
on_input(struct conn *c, struct span in, void *ctx)
{
    (void)ctx;
    conn_write(c, in);
    return in.n;
}

static void
on_close(struct conn *c, const struct error *why, void *ctx)
{
    (void)c;
    (void)why;
    (void)ctx;
    atomic_fetch_add(&closed, 1);
}

static const struct conn_handler handler = {.on_input = on_input,
                                            .on_close = on_close};

static void
on_conn(struct conn *c, void *ctx)
{
    (void)ctx;
    conn_set_handler(c, &handler, NULL);
    conn_write_str(c, "* OK\r\n");
    assert_ptr_equal(conn_reactor(c), reactor_current());
    atomic_fetch_add(&by_reactor[reactor_index(conn_reactor(c))], 1);
    atomic_fetch_add(&opened, 1);
}

static const struct listener_service service = {
    .name = "test",
    .refuse = "* BYE Too many connections\r\n",
    .on_conn = on_conn,
};

static void
begin(struct served *s, unsigned max_conns, unsigned total, unsigned address)
{
    struct listener_service mine = service;
    memset(s, 0, sizeof(*s));
    atomic_store(&opened, 0);
    atomic_store(&closed, 0);
    for (size_t i = 0; i < ARRAY_LEN(by_reactor); i++)
        atomic_store(&by_reactor[i], 0);
    mine.max_conns = max_conns;
    s->limits = conn_limits_new(total, address);
    serve(s, 4, &mine);
}

static void
test_each_limit_turns_away_with_a_word(void **state)
{
    (void)state;
    static const unsigned limits[3][3] = {{3, 0, 0}, {0, 3, 0}, {0, 0, 3}};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct served s;
        struct bclient *in[3];
        begin(&s, limits[i][0], limits[i][1], limits[i][2]);
        for (size_t k = 0; k < 3; k++) {
            in[k] = dial(&s);
            hear(in[k], "* OK");
        }
        struct bclient *late = dial(&s);
        hear(late, "* BYE Too many connections");
        hear_end(late);
        bclient_close(&late);
        assert_int_equal(listener_refused(s.listener), 1);
        assert_int_equal(listener_conns(s.listener), 3);
        assert_int_equal(conn_limits_total(s.limits), 3);
        /* One goes, one may come. */
        bclient_close(&in[0]);
        WAIT_FOR(listener_conns(s.listener) == 2);
        in[0] = dial(&s);
        hear(in[0], "* OK");
        for (size_t k = 0; k < 3; k++)
            bclient_close(&in[k]);
        WAIT_FOR(listener_conns(s.listener) == 0);
        assert_int_equal(conn_limits_total(s.limits), 0);
        serve_end(&s);
    }
}

static void
test_connections_are_spread_over_reactors(void **state)
{
    (void)state;
    struct served s;
    struct bclient *c[40];
    begin(&s, 0, 0, 0);
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        c[i] = dial(&s);
        hear(c[i], "* OK");
    }
    for (size_t i = 0; i < 4; i++)
        assert_in_range(atomic_load(&by_reactor[i]), 5, 15);
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        bclient_close(&c[i]);
    serve_end(&s);
    assert_int_equal(atomic_load(&opened), atomic_load(&closed));
}

static void
test_connections_outlive_their_listener(void **state)
{
    (void)state;
    struct served s;
    begin(&s, 0, 10, 0);
    struct bclient *c = dial(&s);
    hear(c, "* OK");
    listener_close(&s.listener);
    conn_limits_free(&s.limits);
    say(c, "still\r\n");
    hear(c, "still");
    bclient_close(&c);
    serve_end(&s);
}

static void
test_unix_socket_replaces_a_dead_one_only(void **state)
{
    (void)state;
    struct served s = {0};
    struct listener *second = NULL;
    struct listen_spec spec;
    struct error err = {0};
    struct stat st;
    char dir[] = "/tmp/pollux-sock-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/lmtp", dir);
    ASSERT_OK(listen_spec_parse(path, NULL, &spec, &err));

    /* What a crash leaves. */
    ASSERT_OK(listener_bind(&spec, 0, &s.listener, &err));
    char moved[80];
    snprintf(moved, sizeof(moved), "%s.old", path);
    assert_int_equal(rename(path, moved), 0);
    listener_close(&s.listener);
    assert_int_equal(rename(moved, path), 0);

    ASSERT_OK(listener_bind(&spec, 0, &s.listener, &err));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0777);
    assert_string_equal(listener_name(s.listener), path);
    assert_int_equal(listener_port(s.listener), 0);
    assert_int_equal(listener_bind(&spec, 0, &second, &err), ERR_BUSY);

    s.pool = start_pool(1);
    listener_start(s.listener, s.pool, &service, NULL);
    struct bclient *c = NULL;
    ASSERT_OK(bclient_connect_unix(path, PATIENCE_MS, &c, &err));
    hear(c, "* OK");
    say(c, "x\r\n");
    hear(c, "x");
    assert_string_equal(bclient_name(c), path);
    bclient_close(&c);
    serve_end(&s);
    assert_int_equal(stat(path, &st), -1);

    /* A file that is no socket is not ours to remove. */
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(listener_bind(&spec, 0, &second, &err), ERR_BUSY);
    assert_null(second);
    unlink(path);
    rmdir(dir);
}

static void
test_bind_says_why_not(void **state)
{
    (void)state;
    struct served s;
    struct listener *second = NULL;
    struct listen_spec spec;
    struct error err = {0};
    char text[32];
    begin(&s, 0, 0, 0);
    snprintf(text, sizeof(text), "127.0.0.1:%s", s.port);
    ASSERT_OK(listen_spec_parse(text, "tcp", &spec, &err));
    assert_int_equal(listener_bind(&spec, 0, &second, &err), ERR_BUSY);
    assert_non_null(strstr(err.text, text));
    ASSERT_OK(listen_spec_parse("no-such-service", "tcp", &spec, &err));
    assert_int_equal(listener_bind(&spec, 0, &second, &err), ERR_NOTFOUND);
    ASSERT_OK(
        listen_spec_parse("127.0.0.1:no-such-service", "tcp", &spec, &err));
    assert_int_equal(listener_bind(&spec, 0, &second, &err), ERR_NOTFOUND);
    /* IPv4 address, IPv6 wanted. */
    ASSERT_OK(listen_spec_parse("127.0.0.1:0", "tcp6", &spec, &err));
    assert_int_equal(listener_bind(&spec, 0, &second, &err), ERR_NOTFOUND);
    assert_null(second);
    serve_end(&s);
}

/* With no descriptor left the next client waits in the backlog, and is served
 * as soon as one is free. */
static void
test_running_out_of_descriptors_is_survived(void **state)
{
    (void)state;
    struct served s;
    struct rlimit old, small;
    int fillers[512];
    size_t n = 0;
    begin(&s, 0, 0, 0);
    struct bclient *c = dial(&s);
    hear(c, "* OK");
    /* The client's own descriptor is made before they run out. */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    getrlimit(RLIMIT_NOFILE, &old);
    small = old;
    small.rlim_cur = 256;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    while (n < ARRAY_LEN(fillers) &&
           (fillers[n] = open("/dev/null", O_RDONLY)) >= 0)
        n++;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr = {htonl(INADDR_LOOPBACK)},
                             .sin_port = htons(listener_port(s.listener))};
    (void)!connect(fd, (struct sockaddr *)&to, sizeof(to));
    struct bclient *late = bclient_from_fd(fd);
    struct buf line = BUF_INIT;
    struct error err = {0};
    assert_int_equal(bclient_read_line(late, 100, 300, &line, &err),
                     ERR_TIMEOUT);
    say(c, "others are served\r\n");
    hear(c, "others are served");
    while (n > 0)
        close(fillers[--n]);
    setrlimit(RLIMIT_NOFILE, &old);
    hear(late, "* OK");
    buf_free(&line);
    bclient_close(&late);
    bclient_close(&c);
    serve_end(&s);
}

static void
test_closing_one_that_never_started_leaks_nothing(void **state)
{
    (void)state;
    struct listener *l = NULL;
    struct listen_spec spec;
    struct error err = {0};
    unsigned before = open_fds();
    ASSERT_OK(listen_spec_parse("0", "tcp", &spec, &err));
    enum errcode rc = listener_bind(&spec, 0, &l, &err);
    assert_true(rc == ERR_OK || rc == ERR_BUSY); /* two families, one port */
    if (rc == ERR_OK)
        assert_true(listener_port(l) != 0);
    listener_close(&l);
    listener_close(&l);
    assert_int_equal(open_fds(), before);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listen_texts),
        cmocka_unit_test(test_service_names_have_ports_without_a_table),
        cmocka_unit_test(test_each_limit_turns_away_with_a_word),
        cmocka_unit_test(test_connections_are_spread_over_reactors),
        cmocka_unit_test(test_connections_outlive_their_listener),
        cmocka_unit_test(test_unix_socket_replaces_a_dead_one_only),
        cmocka_unit_test(test_bind_says_why_not),
        cmocka_unit_test(test_running_out_of_descriptors_is_survived),
        cmocka_unit_test(test_closing_one_that_never_started_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
