/*
 * tests/net/test_service.c - net/service.c: sessions of a small protocol on
 * real connections of several reactors.  Asked are what a session is told and
 * when, that it outlives its connection, and that goodbyes of other threads
 * reach whom they are for while clients come and go.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "net/lineread.h"
#include "net/service.h"
#include "net_test.h"
#include "tests/lib/testcert.h"

#define REACTORS 3

static struct testcerts certs;

/* ---- a protocol -------------------------------------------------------- */

/* What the sessions of a test have in common. */
struct talks {
    struct net_service *svc;
    struct served served;
    struct tls_context *tls;
    atomic_uint working, gone, ended;
    atomic_uint late; /* told something when nothing is to be told */
    atomic_bool work_may_end;
};

struct talk {
    struct talks *all;
    const struct session_io *io;
    void *io_ctx;
    char *room;
    struct session_peer peer; /* strings are ours */
    bool filling, gone, working;
};

static void
talk_write(struct talk *t, const char *text)
{
    t->io->write(t->io_ctx, span_str(text));
}

static void *
talk_open(void *ctx, const struct session_io *io, void *io_ctx, void *room,
          const struct session_peer *peer)
{
    struct talk *t = xcalloc(1, sizeof(*t));

    *t = (struct talk){.all = ctx, .io = io, .io_ctx = io_ctx, .room = room};
    session_peer_copy(&t->peer, peer);
    for (size_t i = 0; i < 100; i++)
        ENSURE(t->room[i] == 0);
    return t;
}

static void
talk_free(struct talk *t)
{
    struct talks *all = t->all;
    const struct session_io *io = t->io;
    void *io_ctx = t->io_ctx;

    ENSURE(t->room[99] == 'r');
    session_peer_free(&t->peer);
    free(t);
    io->ended(io_ctx);
    atomic_fetch_add(&all->ended, 1);
}

static void
talk_start(void *session)
{
    struct talk *t = session;

    memset(t->room, 'r', 100);
    talk_write(t, "hello\n");
}

/* On a worker; it ends when the test says so. */
static void
work(void *arg)
{
    struct talk *t = arg;

    while (!atomic_load(&t->all->work_may_end))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void
after_post(void *arg)
{
    struct talk *t = arg;

    t->working = false;
    talk_write(t, "worked\n");
    t->io->resume(t->io_ctx);
    t->io->release(t->io_ctx);
    if (t->gone)
        talk_free(t);
}

static void
after_work(void *arg)
{
    struct talk *t = arg;
    t->io->post(t->io_ctx, after_post, t);
}

static void
fill(struct talk *t)
{
    char line[1000];

    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\n';
    while (!t->io->is_full(t->io_ctx))
        t->io->write(t->io_ctx, (struct span){(uint8_t *)line, sizeof(line)});
    t->filling = true;
}

static void
talk_peer(struct talk *t)
{
    char text[200];

    snprintf(text, sizeof(text), "%s %s tls=%d unix=%d\n", t->peer.local_name,
             t->peer.external_id == NULL ? "-" : t->peer.external_id,
             t->peer.tls_bits != 0, t->peer.on_unix);
    talk_write(t, text);
}

static size_t
talk_input(void *session, struct span in)
{
    struct talk *t = session;
    struct span line;
    size_t used = 0;

    if (t->gone || t->working)
        atomic_fetch_add(&t->all->late, 1);
    if (line_take(in, 100, &line, &used) != PARSE_DONE)
        return 0;
    if (span_eq_str(line, "work")) {
        t->working = true;
        atomic_fetch_add(&t->all->working, 1);
        t->io->pause(t->io_ctx);
        t->io->hold(t->io_ctx);
        t->io->work(t->io_ctx, work, after_work, t);
    } else if (span_eq_str(line, "fill")) {
        fill(t);
    } else if (span_eq_str(line, "tls")) {
        talk_write(t, "go on\n");
        t->io->start_tls(t->io_ctx);
    } else if (span_eq_str(line, "soon")) {
        t->io->set_timeout(t->io_ctx, 1);
    } else if (span_eq_str(line, "peer")) {
        talk_peer(t);
    } else {
        talk_write(t, "bye\n");
        t->io->close(t->io_ctx);
    }
    return used;
}

static void
talk_drained(void *session)
{
    struct talk *t = session;

    if (t->filling)
        talk_write(t, "drained\n");
    t->filling = false;
}

static void
talk_timeout(void *session)
{
    struct talk *t = session;
    talk_write(t, "timeout\n");
    t->io->close(t->io_ctx);
}

static void
talk_tls(void *session, const struct session_peer *peer)
{
    struct talk *t = session;
    session_peer_copy(&t->peer, peer);
}

static void
talk_goodbye(void *session, const char *text)
{
    struct talk *t = session;

    if (t->gone)
        atomic_fetch_add(&t->all->late, 1);
    talk_write(t, text);
    t->io->close(t->io_ctx);
}

static void
talk_gone(void *session)
{
    struct talk *t = session;

    t->gone = true;
    atomic_fetch_add(&t->all->gone, 1);
    if (!t->working)
        talk_free(t);
}

static const struct net_protocol talking = {
    .room_bytes = 100,
    .stopping = "stopping\n",
    .open = talk_open,
    .start = talk_start,
    .input = talk_input,
    .drained = talk_drained,
    .timeout = talk_timeout,
    .tls = talk_tls,
    .goodbye = talk_goodbye,
    .gone = talk_gone,
};

/* ---- running it -------------------------------------------------------- */

static void
talk_accept(struct conn *c, void *ctx)
{
    struct talks *all = ctx;
    net_service_accept(all->svc, c);
}

static void
begin(struct talks *all)
{
    struct error err = {0};
    const struct tls_options tls = {.cert_file = certs.server_cert,
                                    .key_file = certs.server_key};
    const struct listener_service service = {
        .name = "talk", .on_conn = talk_accept, .ctx = all};

    *all = (struct talks){0};
    ASSERT_OK(tls_server_context(&tls, &all->tls, &err));
    all->svc = net_service_new(&talking, all, all->tls);
    serve(&all->served, REACTORS, &service);
}

static struct net_service_counts
counts(struct talks *all)
{
    return net_service_counts(all->svc);
}

static void
end(struct talks *all)
{
    if (all->served.pool != NULL)
        serve_end(&all->served);
    assert_int_equal(counts(all).sessions, 0);
    assert_int_equal(atomic_load(&all->ended), counts(all).sessions_total);
    assert_int_equal(atomic_load(&all->late), 0);
    net_service_free(&all->svc);
    assert_null(all->svc);
    net_service_free(&all->svc); /* NULL is fine */
    tls_context_free(&all->tls);
}

static struct bclient *
greeted(struct talks *all)
{
    struct bclient *c = dial(&all->served);
    hear(c, "hello");
    return c;
}

/* ---- tests ------------------------------------------------------------- */

static void
test_sessions_are_counted_from_open_to_ended(void **state)
{
    (void)state;
    struct talks all;
    struct bclient *c[2 * REACTORS];

    begin(&all);
    assert_int_equal(counts(&all).sessions, 0);
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        c[i] = greeted(&all);
        assert_int_equal(counts(&all).sessions, i + 1);
        assert_int_equal(counts(&all).sessions_total, i + 1);
    }
    /* Out of the middle, the first and the last of the list. */
    static const unsigned order[] = {2, 0, 5, 3, 4, 1};
    for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
        struct bclient *one = c[order[i]];
        say(one, "quit\n");
        hear(one, "bye");
        bclient_close(&one);
        WAIT_FOR(counts(&all).sessions == ARRAY_LEN(c) - 1 - i);
    }
    assert_int_equal(counts(&all).sessions_total, ARRAY_LEN(c));
    end(&all);
}

static void
test_goodbye_reaches_everyone_and_nobody_later(void **state)
{
    (void)state;
    struct talks all;
    struct bclient *c[2 * REACTORS];

    begin(&all);
    for (unsigned i = 0; i < ARRAY_LEN(c); i++)
        c[i] = greeted(&all);
    net_service_goodbye(all.svc, "see you\n");
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        hear(c[i], "see you");
        hear_end(c[i]);
        bclient_close(&c[i]);
    }
    WAIT_FOR(counts(&all).sessions == 0);
    net_service_goodbye(all.svc, "nobody\n");
    struct bclient *later = greeted(&all);
    say(later, "quit\n");
    hear(later, "bye");
    bclient_close(&later);
    end(&all);
}

static void
test_stopping_the_reactors_says_so(void **state)
{
    (void)state;
    struct talks all;

    begin(&all);
    struct bclient *c = greeted(&all);
    listener_close(&all.served.listener);
    reactor_pool_shutdown(all.served.pool);
    hear(c, "stopping");
    hear_end(c);
    bclient_close(&c);
    end(&all);
}

static void
test_input_rests_during_work(void **state)
{
    (void)state;
    struct talks all;

    begin(&all);
    struct bclient *c = greeted(&all);
    say(c, "work\nquit\n");
    atomic_store(&all.work_may_end, true);
    hear(c, "worked");
    hear(c, "bye");
    bclient_close(&c);
    end(&all);
}

static void
test_session_with_work_outlives_its_connection(void **state)
{
    (void)state;
    struct talks all;

    begin(&all);
    struct bclient *c = greeted(&all);
    say(c, "work\n");
    WAIT_FOR(atomic_load(&all.working) == 1);
    net_service_goodbye(all.svc, "see you\n"); /* closes */
    hear(c, "see you");
    bclient_close(&c);
    WAIT_FOR(atomic_load(&all.gone) == 1);
    assert_int_equal(counts(&all).sessions, 1);
    assert_int_equal(atomic_load(&all.ended), 0);
    net_service_goodbye(all.svc, "not to be told\n");
    atomic_store(&all.work_may_end, true);
    WAIT_FOR(counts(&all).sessions == 0);
    end(&all);
}

/* reactor_pool_stop() waits for what is held. */
static void
test_reactors_end_after_the_last_session(void **state)
{
    (void)state;
    struct talks all;

    begin(&all);
    struct bclient *c = greeted(&all);
    say(c, "work\n");
    WAIT_FOR(atomic_load(&all.working) == 1);
    listener_close(&all.served.listener);
    reactor_pool_shutdown(all.served.pool);
    hear(c, "stopping");
    bclient_close(&c);
    WAIT_FOR(atomic_load(&all.gone) == 1);
    net_service_goodbye(all.svc, "not to be told\n");
    atomic_store(&all.work_may_end, true);
    reactor_pool_stop(&all.served.pool, 0);
    end(&all);
}

static void
test_slow_reader_is_drained(void **state)
{
    (void)state;
    struct talks all;
    struct buf line = BUF_INIT;
    struct error err = {0};

    begin(&all);
    struct bclient *c = greeted(&all);
    say(c, "fill\n");
    do {
        buf_clear(&line);
        ASSERT_OK(bclient_read_line(c, 4096, PATIENCE_MS, &line, &err));
    } while (line.n == 999);
    assert_string_equal(buf_cstr(&line), "drained");
    buf_free(&line);
    bclient_close(&c);
    end(&all);
}

static void
test_timeout_is_told(void **state)
{
    (void)state;
    struct talks all;

    begin(&all);
    struct bclient *c = greeted(&all);
    say(c, "soon\n");
    hear(c, "timeout");
    hear_end(c);
    bclient_close(&c);
    end(&all);
}

static void
test_peer_is_known_and_known_anew_after_tls(void **state)
{
    (void)state;
    struct talks all;
    struct error err = {0};
    struct tls_context *trust = NULL;
    char local[40];

    begin(&all);
    struct bclient *c = greeted(&all);
    say(c, "peer\n");
    snprintf(local, sizeof(local), "127.0.0.1:%s - tls=0 unix=0",
             all.served.port);
    hear(c, local);
    ASSERT_OK(
        tls_client_context(&(struct tls_options){.ca_file = certs.ca,
                                                 .verify = TLS_VERIFY_REQUIRED},
                           &trust, &err));
    say(c, "tls\n");
    hear(c, "go on");
    ASSERT_OK(bclient_start_tls(c, trust, "localhost", PATIENCE_MS, &err));
    say(c, "peer\n");
    snprintf(local, sizeof(local), "127.0.0.1:%s - tls=1 unix=0",
             all.served.port);
    hear(c, local);
    bclient_close(&c);
    tls_context_free(&trust);
    end(&all);
}

static void
test_peer_copy_owns_its_strings(void **state)
{
    (void)state;
    char name[] = "one";
    struct session_peer copy = {0};

    session_peer_copy(
        &copy, &(struct session_peer){.peer_name = name, .tls_bits = 128});
    name[0] = 'x';
    assert_string_equal(copy.peer_name, "one");
    assert_null(copy.local_name);
    assert_int_equal(copy.tls_bits, 128);
    session_peer_copy(&copy, &copy); /* of itself */
    assert_string_equal(copy.peer_name, "one");
    session_peer_copy(&copy, &(struct session_peer){.external_id = "two"});
    assert_null(copy.peer_name);
    assert_string_equal(copy.external_id, "two");
    assert_int_equal(copy.tls_bits, 0);
    session_peer_free(&copy);
    assert_null(copy.external_id);
}

/* ---- many threads ------------------------------------------------------ */

#define COMERS 3
#define VISITS 40

static void *
come_and_go(void *arg)
{
    struct talks *all = arg;
    struct error err = {0};
    struct buf line = BUF_INIT;

    for (unsigned i = 0; i < VISITS; i++) {
        struct bclient *c = NULL;
        if (bclient_connect("127.0.0.1", all->served.port, PATIENCE_MS, &c,
                            &err) != ERR_OK)
            return arg;
        /* A goodbye may come first; then this fails, as it may. */
        if (bclient_write(c, span_str("work\nquit\n"), PATIENCE_MS, &err) ==
                ERR_OK &&
            i % 2 == 0)
            while (bclient_read_line(c, 100, PATIENCE_MS, &line, &err) ==
                   ERR_OK)
                buf_clear(&line);
        bclient_close(&c);
    }
    buf_free(&line);
    return NULL;
}

static void
test_goodbyes_while_clients_come_and_go(void **state)
{
    (void)state;
    struct talks all;
    pthread_t comers[COMERS];
    void *failed = NULL;

    begin(&all);
    atomic_store(&all.work_may_end, true);
    for (unsigned i = 0; i < COMERS; i++)
        assert_int_equal(pthread_create(&comers[i], NULL, come_and_go, &all),
                         0);
    while (counts(&all).sessions_total < COMERS * VISITS / 2) {
        net_service_goodbye(all.svc, "see you\n");
        sched_yield();
    }
    for (unsigned i = 0; i < COMERS; i++) {
        pthread_join(comers[i], &failed);
        assert_null(failed);
    }
    net_service_goodbye(all.svc, "see you\n");
    WAIT_FOR(counts(&all).sessions_total == COMERS * VISITS);
    WAIT_FOR(counts(&all).sessions == 0);
    end(&all);
}

static int
setup(void **state)
{
    (void)state;
    testcerts_make(&certs);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    testcerts_remove(&certs);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions_are_counted_from_open_to_ended),
        cmocka_unit_test(test_goodbye_reaches_everyone_and_nobody_later),
        cmocka_unit_test(test_stopping_the_reactors_says_so),
        cmocka_unit_test(test_input_rests_during_work),
        cmocka_unit_test(test_session_with_work_outlives_its_connection),
        cmocka_unit_test(test_reactors_end_after_the_last_session),
        cmocka_unit_test(test_slow_reader_is_drained),
        cmocka_unit_test(test_timeout_is_told),
        cmocka_unit_test(test_peer_is_known_and_known_anew_after_tls),
        cmocka_unit_test(test_peer_copy_owns_its_strings),
        cmocka_unit_test(test_goodbyes_while_clients_come_and_go),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
