/*
 * tests/csync/test_ship_hear.c - what a replica says while it is shipped to:
 * acknowledgements, and why it hangs up, which is heard however the end of the
 * connection comes: in one piece with it, cut at every byte, after a reset.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "csync/ship_private.h"

#define WHY "no space left on this replica"
#define HEARD_WHY "the replica says: " WHY

static void
add_message(struct buf *b, uint8_t type, struct span payload)
{
    uint8_t header[LOGMSG_HEADER_BYTES];

    logmsg_header(type, (uint32_t)payload.n, header);
    buf_add(b, span_of(header, sizeof(header)));
    buf_add(b, payload);
}

static void
add_ack(struct buf *b, lsn_t durable)
{
    AUTO(buf_free) struct buf payload = BUF_INIT;

    logack_encode(&(struct logack){.received = durable, .durable = durable},
                  &payload);
    add_message(b, LOGMSG_ACK, buf_span(&payload));
}

static void
add_error(struct buf *b, uint8_t code, const char *text)
{
    AUTO(buf_free) struct buf payload = BUF_INIT;

    buf_add_byte(&payload, code);
    buf_add_str(&payload, text);
    add_message(b, LOGMSG_ERROR, buf_span(&payload));
}

/* Two acknowledgements and why. */
static void
add_last_words(struct buf *b)
{
    add_ack(b, 7);
    add_ack(b, 8);
    add_error(b, (uint8_t)ERR_NOSPACE, WHY);
}

/* A replica in our hands, and what listens to it. */
struct pair {
    struct bclient *conn;
    int replica;
};

static struct pair
pair_make(void)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    return (struct pair){.conn = bclient_from_fd(fds[0]), .replica = fds[1]};
}

static void
replica_says(const struct pair *p, struct span bytes)
{
    assert_int_equal(write(p->replica, bytes.p, bytes.n), (ssize_t)bytes.n);
}

static void
replica_hangs_up(struct pair *p)
{
    if (p->replica >= 0)
        close(p->replica);
    p->replica = -1;
}

static void
pair_end(struct pair *p)
{
    replica_hangs_up(p);
    bclient_close(&p->conn);
}

static void
assert_acks(struct bclient *conn, lsn_t durable)
{
    struct logack ack = {0};
    struct error err = {0};

    assert_int_equal(ship_hear(conn, &ack, &err), ERR_OK);
    assert_int_equal(ack.durable, durable);
}

static void
assert_says(struct bclient *conn, enum errcode code, const char *text)
{
    struct logack ack = {.durable = 99};
    struct error err = {0};

    assert_int_equal(ship_hear(conn, &ack, &err), code);
    assert_int_equal(err.code, code);
    if (text != NULL)
        assert_string_equal(err.text, text);
    assert_int_equal(ack.durable, 99); /* untouched */
}

static void
test_why_is_heard_in_one_piece_with_the_end(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct pair p = pair_make();

    add_last_words(&b);
    replica_says(&p, buf_span(&b));
    replica_hangs_up(&p);
    assert_acks(p.conn, 7);
    assert_acks(p.conn, 8);
    assert_says(p.conn, ERR_NOSPACE, HEARD_WHY);
    assert_says(p.conn, ERR_CLOSED, NULL);
    assert_says(p.conn, ERR_CLOSED, NULL);
    pair_end(&p);
}

/* Cut anywhere and gone on with; and cut anywhere by the end. */
static void
test_cut_at_every_byte(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf b = BUF_INIT;
    AUTO(buf_free) struct buf ack = BUF_INIT;

    add_last_words(&b);
    add_ack(&ack, 7);
    for (size_t cut = 0; cut < b.n; cut++) {
        for (int ends = 0; ends < 2; ends++) {
            struct pair p = pair_make();
            enum errcode then = ends ? ERR_CLOSED : ERR_AGAIN;
            replica_says(&p, span_sub(buf_span(&b), 0, cut));
            if (ends)
                replica_hangs_up(&p);
            for (size_t n = 1; n <= MIN(cut / ack.n, (size_t)2); n++)
                assert_acks(p.conn, 6 + n);
            assert_says(p.conn, then, NULL);
            if (!ends) {
                replica_says(&p, span_skip(buf_span(&b), cut));
                for (size_t n = cut / ack.n + 1; n <= 2; n++)
                    assert_acks(p.conn, 6 + n);
                assert_says(p.conn, ERR_NOSPACE, HEARD_WHY);
                assert_says(p.conn, ERR_AGAIN, NULL);
            }
            pair_end(&p);
        }
    }
}

/* Over TCP, by a replica that hangs up with input unread: the kernel resets,
 * sending fails, and then it is heard why. */
static void
test_why_is_heard_after_a_reset(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    struct error err = {0};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(listener, (struct sockaddr *)&at, n), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &n), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, n), 0);
    struct pair p = {.conn = bclient_from_fd(fd),
                     .replica = accept(listener, NULL, NULL)};
    close(listener);

    size_t sent = 0;
    assert_int_equal(
        bclient_write_some(p.conn, SPAN_LIT("frames"), &sent, &err), ERR_OK);
    struct pollfd in = {.fd = p.replica, .events = POLLIN};
    assert_int_equal(poll(&in, 1, 10000), 1);
    add_last_words(&b);
    replica_says(&p, buf_span(&b));
    replica_hangs_up(&p);
    struct pollfd gone = {.fd = fd, .events = 0};
    assert_int_equal(poll(&gone, 1, 10000), 1);
    assert_int_equal(
        bclient_write_some(p.conn, SPAN_LIT("frames"), &sent, &err),
        ERR_CLOSED);
    assert_acks(p.conn, 7);
    assert_acks(p.conn, 8);
    assert_says(p.conn, ERR_NOSPACE, HEARD_WHY);
    assert_says(p.conn, ERR_CLOSED, NULL);
    pair_end(&p);
}

static void
test_nonsense(void **state)
{
    (void)state;
    static const uint8_t unknown[] = {0, 0, 0, 0, 99, 0, 0, 0};
    AUTO(buf_free) struct buf large = BUF_INIT;

    struct pair p = pair_make();
    replica_says(&p, span_of(unknown, sizeof(unknown)));
    assert_says(p.conn, ERR_PROTO, "the replica answered nonsense");
    pair_end(&p);

    /* Of a kind that has no place here; an acknowledgement that is cut; an
     * error without a code, and one that is none. */
    for (int i = 0; i < 4; i++) {
        AUTO(buf_free) struct buf b = BUF_INIT;
        if (i == 0)
            add_message(&b, LOGMSG_SEED_DONE, SPAN_EMPTY);
        else if (i == 1)
            add_message(&b, LOGMSG_ACK, SPAN_LIT("short"));
        else if (i == 2)
            add_message(&b, LOGMSG_ERROR, SPAN_EMPTY);
        else
            add_error(&b, (uint8_t)ERR_OK, "nothing");
        p = pair_make();
        replica_says(&p, buf_span(&b));
        assert_says(p.conn, ERR_PROTO, "the replica answered nonsense");
        pair_end(&p);
    }

    /* An answer without an end costs bounded memory. */
    uint8_t header[LOGMSG_HEADER_BYTES];
    logmsg_header(LOGMSG_ERROR, 1U << 20, header);
    buf_add(&large, span_of(header, sizeof(header)));
    while (large.n < 200000)
        buf_add_str(&large, "and on and on ");
    p = pair_make();
    for (size_t at = 0; at < large.n;) {
        struct logack ack;
        struct error err = {0};
        ssize_t n = send(p.replica, large.p + at, large.n - at, MSG_DONTWAIT);
        at += n > 0 ? (size_t)n : 0;
        enum errcode rc = ship_hear(p.conn, &ack, &err);
        if (rc == ERR_PROTO)
            break;
        assert_int_equal(rc, ERR_AGAIN);
    }
    assert_says(p.conn, ERR_PROTO, "the replica answered nonsense");
    assert_true(bclient_buffered(p.conn) <= 2 * 65536);
    pair_end(&p);
}

static void
test_what_was_not_received_is_not_durable(void **state)
{
    struct pair p = pair_make();
    AUTO(buf_free) struct buf said = BUF_INIT;
    AUTO(buf_free) struct buf payload = BUF_INIT;
    struct logack ack = {.received = 3};
    struct error err = {0};

    (void)state;
    logack_encode(&(struct logack){.received = 8, .durable = 9}, &payload);
    add_message(&said, LOGMSG_ACK, buf_span(&payload));
    replica_says(&p, buf_span(&said));
    assert_int_equal(ship_hear(p.conn, &ack, &err), ERR_PROTO);
    assert_string_equal(err.text,
                        "the replica acknowledges 9 and has received 8");
    assert_int_equal(ack.received, 3);
    bclient_close(&p.conn);
    close(p.replica);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_not_received_is_not_durable),
        cmocka_unit_test(test_why_is_heard_in_one_piece_with_the_end),
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_why_is_heard_after_a_reset),
        cmocka_unit_test(test_nonsense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
