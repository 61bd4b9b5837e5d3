/*
 * tests/net/test_conn_out.c - connections that we make: they talk, or say why
 * not.
 */
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "line_service.h"

static struct {
    struct reactor *r;
    struct conn_target target;
    const char *say_first;
    atomic_bool connected, closed;
    atomic_int code;
    struct buf heard;
} out;

static void
out_connected(struct conn *c, void *ctx)
{
    (void)ctx;
    char name[CONN_NAME_BYTES], address[CONN_NAME_BYTES];
    conn_peer_name(c, name);
    conn_peer_address(c, address);
    assert_true(out.target.path != NULL ||
                span_starts(span_str(name), SPAN_LIT("127.0.0.1:")));
    assert_string_equal(address, out.target.path != NULL ? "" : "127.0.0.1");
    atomic_store(&out.connected, true);
    conn_write_str(c, "QUIT\r\n");
}

static size_t
out_input(struct conn *c, struct span in, void *ctx)
{
    (void)c;
    (void)ctx;
    buf_add(&out.heard, in);
    return in.n;
}

static void
out_closed(struct conn *c, const struct error *why, void *ctx)
{
    (void)c;
    (void)ctx;
    atomic_store(&out.code, (int)why->code);
    atomic_store(&out.closed, true);
}

static const struct conn_handler out_handler = {
    .on_connect = out_connected,
    .on_input = out_input,
    .on_close = out_closed,
};

static void
out_begin(void *ctx)
{
    (void)ctx;
    struct conn *c = conn_connect(out.r, &out.target, NULL, &out_handler, NULL);
    if (out.say_first != NULL)
        conn_write_str(c, out.say_first);
}

static void
connect_out(struct served *s, const struct conn_target *target,
            const char *say_first)
{
    buf_free(&out.heard);
    memset(&out, 0, sizeof(out));
    out.r = reactor_pool_get(s->pool, 0);
    out.target = *target;
    out.say_first = say_first;
    reactor_post(out.r, out_begin, NULL);
    WAIT_FOR(atomic_load(&out.closed));
}

static void
test_outgoing_connection_talks(void **state)
{
    struct served *s = *state;
    connect_out(s,
                &(struct conn_target){.host = "127.0.0.1", .service = s->port},
                "ECHO early\r\n");
    assert_true(atomic_load(&out.connected));
    assert_string_equal(buf_cstr(&out.heard), "* OK\r\nearly\r\nBYE\r\n");
    assert_int_equal(atomic_load(&out.code), ERR_CLOSED);
    buf_free(&out.heard);
}

/* A loopback port that is bound; nobody listens on it yet. */
static int
bind_port(char port[static 8], struct sockaddr_in *ret)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t n = sizeof(*ret);

    *ret = (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(bind(fd, (struct sockaddr *)ret, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret, &n), 0);
    snprintf(port, 8, "%u", ntohs(ret->sin_port));
    return fd;
}

static void
test_outgoing_connection_says_why_not(void **state)
{
    struct served *s = *state;
    struct sockaddr_in a;
    char port[8];
    int fd = bind_port(port, &a);
    connect_out(s, &(struct conn_target){.host = "127.0.0.1", .service = port},
                NULL);
    assert_int_equal(atomic_load(&out.code), ERR_CLOSED);
    assert_false(atomic_load(&out.connected));
    connect_out(s, &(struct conn_target){.path = "/nonexistent/socket"}, NULL);
    assert_int_equal(atomic_load(&out.code), ERR_NOTFOUND);
    connect_out(s,
                &(struct conn_target){.host = "127.0.0.1",
                                      .service = "no-such-service"},
                NULL);
    assert_int_equal(atomic_load(&out.code), ERR_NOTFOUND);

    struct error err = {0};
    struct bclient *c = NULL;
    assert_int_equal(bclient_connect("127.0.0.1", port, 100, &c, &err),
                     ERR_CLOSED);
    assert_int_equal(bclient_connect_unix("/nonexistent", 100, &c, &err),
                     ERR_NOTFOUND);
    close(fd);
}

static void
test_connect_without_an_answer_times_out(void **state)
{
    struct served *s = *state;
    struct sockaddr_in a;
    char port[8];
    int fd = bind_port(port, &a), clients[8];
    assert_int_equal(listen(fd, 0), 0);
    /* Fill the backlog: the kernel then drops what asks to connect. */
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(clients[i], (struct sockaddr *)&a, sizeof(a));
    }
    connect_out(s,
                &(struct conn_target){
                    .host = "127.0.0.1", .service = port, .timeout_ms = 100},
                NULL);
    assert_int_equal(atomic_load(&out.code), ERR_TIMEOUT);
    struct bclient *c = NULL;
    struct error err = {0};
    assert_int_equal(bclient_connect("127.0.0.1", port, 100, &c, &err),
                     ERR_TIMEOUT);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        close(clients[i]);
    close(fd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(test_outgoing_connection_talks),
        WITH_SERVICE(test_outgoing_connection_says_why_not),
        WITH_SERVICE(test_connect_without_an_answer_times_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
