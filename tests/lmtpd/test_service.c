/*
 * tests/lmtpd/test_service.c - the service on sockets and a store with its
 * threads: clients over TCP, TLS and a Unix socket, many at once, and the ends
 * of sessions.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/net/net_test.h"

#include "base/config.h"
#include "base/log.h"
#include "lmtpd/lmtpd.h"
#include "net/sasl.h"
#include "net/tls.h"
#include "store/autocreate.h"
#include "store/txn.h"
#include "tests/lib/testcert.h"
#include "tests/lib/tmpdir.h"

#define CLIENTS 8
#define MESSAGES 25

struct world {
    char dir[64];
    char path[96]; /* the Unix socket */
    struct store *store;
    struct lmtpd_options opt;
    struct lmtpd_service *svc;
    struct served tcp;
    struct listener *local;
};

static struct testcerts certs;
static struct config *cfg; /* libsasl's, with a user "postman" */
static bool have_db;

static bool
check_password(void *ctx, struct span user, struct span password)
{
    (void)ctx;
    return span_eq_str(user, "postman") && span_eq_str(password, "secret");
}

static void
open_store(struct world *w)
{
    struct store_opened found;
    struct error err = {0};
    const struct store_config sc = {
        .dir = w->dir,
        .segment_bytes = 12U << 20,
        .cluster = {{1}},
        .instance = {{2}},
    };

    if (store_open(env_system(), &sc, NULL, &w->store, &found, &err) != ERR_OK)
        fail_msg("%s", err.text);
    store_set_role(w->store, ROLE_MASTER, 1);
    ASSERT_OK(store_begin_epoch(w->store, 1, 0, "first start", &err));
    struct store_txn *txn = txn_new();
    txn_create(txn, &(struct txn_mailbox){.name = "user.fred"});
    txn_create(txn, &(struct txn_mailbox){.name = "user.ann"});
    ASSERT_OK(store_commit(w->store, txn, &err));
    txn_free(&txn);
}

static int
setup(void **state)
{
    static const char *const admins[] = {"postman", NULL};
    static const struct autocreate_options never;
    struct world *w = xcalloc(1, sizeof(*w));
    struct error err = {0};

    snprintf(w->dir, sizeof(w->dir), "/tmp/pollux-lmtpd-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof(w->path), "%s/lmtp", w->dir);
    open_store(w);
    w->opt = (struct lmtpd_options){
        .env = env_system(),
        .store = &w->store,
        .servername = "mx.example",
        .ns = {.sep = '/',
               .user_prefix = "Other Users",
               .shared_prefix = "Shared Folders"},
        .admins = admins,
        .starttls = true,
        .downcase_rcpt = true,
        .postuser = "",
        .dedup = true,
        .autocreate = &never,
        .idle_timeout_ms = PATIENCE_MS,
        .message_bytes_max = 8U << 20,
        .recipients_max = 1000,
        .bad_commands_max = 20,
        .check_password = check_password,
    };
    ASSERT_OK(
        tls_server_context(&(struct tls_options){.cert_file = certs.server_cert,
                                                 .key_file = certs.server_key},
                           &w->opt.tls, &err));
    w->svc = lmtpd_service_new(&w->opt);
    const struct listener_service service = {
        .name = "lmtp",
        .refuse = LMTPD_REFUSE,
        .conn = lmtpd_conn_options(&w->opt),
        .on_conn = lmtpd_accept,
        .ctx = w->svc,
    };
    serve(&w->tcp, 2, &service);
    struct listen_spec spec;
    ASSERT_OK(listen_spec_parse(w->path, NULL, &spec, &err));
    ASSERT_OK(listener_bind(&spec, 0, &w->local, &err));
    listener_start(w->local, w->tcp.pool, &service, NULL);
    *state = w;
    return 0;
}

static int
teardown(void **state)
{
    struct world *w = *state;

    listener_close(&w->local);
    if (w->tcp.pool != NULL)
        serve_end(&w->tcp);
    assert_int_equal(lmtpd_service_stats(w->svc).sessions, 0);
    lmtpd_service_free(&w->svc);
    tls_context_free(&w->opt.tls);
    store_close(&w->store);
    remove_tree(w->dir);
    free(w);
    return 0;
}

#define GREETING "220 mx.example LMTP Pollux " POLLUX_VERSION " ready"

static struct bclient *
dial_unix(const struct world *w)
{
    struct bclient *c = NULL;
    struct error err = {0};

    ASSERT_OK(bclient_connect_unix(w->path, PATIENCE_MS, &c, &err));
    hear(c, GREETING);
    return c;
}

/* LHLO; the last line of the answer is SIZE. */
static void
lhlo(struct bclient *c, const char *must_offer)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct error err = {0};
    bool found = must_offer == NULL;

    say(c, "LHLO client.example\r\n");
    do {
        ASSERT_OK(bclient_read_line(c, 4096, PATIENCE_MS, &line, &err));
        found = found || span_eq_str(span_skip(buf_span(&line), 4), must_offer);
    } while (line.p[3] == '-');
    assert_true(found);
}

static uint32_t
exists(const struct world *w, const char *name)
{
    struct store_snap *snap = store_snapshot(w->store);
    struct arena a = ARENA_INIT;
    struct mailbox mb;
    struct error err = {0};

    ASSERT_OK(snap_mailbox_by_name(snap, name, &a, &mb, &err));
    uint32_t n = mb.exists;
    store_release(&snap);
    arena_free(&a);
    return n;
}

static void
test_unix_client_delivers_pipelined(void **state)
{
    struct world *w = *state;
    struct bclient *c = dial_unix(w);

    lhlo(c, "PIPELINING");
    say(c, "MAIL FROM:<a@b> SIZE=9\r\nRCPT TO:<fred@x>\r\nRCPT TO:<nobody>\r\n"
           "RCPT TO:<ann>\r\nDATA\r\n");
    hear(c, "250 2.1.0 Ok");
    hear(c, "250 2.1.5 Ok");
    hear(c, "550 5.1.1 Unknown user");
    hear(c, "250 2.1.5 Ok");
    hear(c, "354 End data with <CR><LF>.<CR><LF>");
    say(c, "Subject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n");
    hear(c, "250 2.1.5 Ok");
    hear(c, "250 2.1.5 Ok");
    hear(c, "221 2.0.0 Bye");
    hear_end(c);
    bclient_close(&c);
    assert_int_equal(exists(w, "user.fred"), 1);
    assert_int_equal(exists(w, "user.ann"), 1);
    struct lmtpd_stats stats = lmtpd_service_stats(w->svc);
    assert_int_equal(stats.delivered, 2);
    assert_int_equal(stats.messages, 1);
    assert_int_equal(stats.refused, 1);
}

static void
test_tcp_client_logs_in_under_tls(void **state)
{
    struct world *w = *state;
    struct bclient *c = dial(&w->tcp);
    struct tls_context *tls = NULL;
    struct error err = {0};

    hear(c, GREETING);
    lhlo(c, "STARTTLS");
    say(c, "MAIL FROM:<a@b>\r\n");
    hear(c, "530 5.7.0 Authentication required");
    say(c, "STARTTLS\r\n");
    hear(c, "220 2.0.0 Ready to start TLS");
    ASSERT_OK(
        tls_client_context(&(struct tls_options){.ca_file = certs.ca,
                                                 .verify = TLS_VERIFY_REQUIRED},
                           &tls, &err));
    ASSERT_OK(bclient_start_tls(c, tls, "localhost", PATIENCE_MS, &err));
    tls_context_free(&tls);
    lhlo(c, "AUTH PLAIN");
    say(c, "AUTH PLAIN AHBvc3RtYW4Ac2VjcmV0\r\n");
    hear(c, "235 2.7.0 Authentication succeeded");
    say(c, "MAIL FROM:<>\r\nRCPT TO:<fred>\r\nDATA\r\n.\r\n");
    hear(c, "250 2.1.0 Ok");
    hear(c, "250 2.1.5 Ok");
    hear(c, "354 End data with <CR><LF>.<CR><LF>");
    hear(c, "250 2.1.5 Ok");
    bclient_close(&c);
    assert_int_equal(exists(w, "user.fred"), 1);
}

/* Greeted inside TLS, and STARTTLS is not offered there. */
static void
test_tls_from_the_first_byte_is_greeted(void **state)
{
    struct world *w = *state;
    struct listen_spec spec;
    struct listener *l = NULL;
    struct bclient *c = NULL;
    struct tls_context *tls = NULL;
    struct error err = {0};
    char port[8];
    const struct listener_service service = {
        .name = "lmtps",
        .conn = lmtpd_conn_options(&w->opt),
        .tls = w->opt.tls,
        .on_conn = lmtpd_accept,
        .ctx = w->svc,
    };

    ASSERT_OK(listen_spec_parse("127.0.0.1:0", "tcp", &spec, &err));
    ASSERT_OK(listener_bind(&spec, 0, &l, &err));
    snprintf(port, sizeof(port), "%u", listener_port(l));
    listener_start(l, w->tcp.pool, &service, NULL);
    ASSERT_OK(bclient_connect("127.0.0.1", port, PATIENCE_MS, &c, &err));
    ASSERT_OK(
        tls_client_context(&(struct tls_options){.ca_file = certs.ca,
                                                 .verify = TLS_VERIFY_REQUIRED},
                           &tls, &err));
    ASSERT_OK(bclient_start_tls(c, tls, "localhost", PATIENCE_MS, &err));
    tls_context_free(&tls);
    hear(c, GREETING);
    lhlo(c, "AUTH PLAIN");
    say(c, "STARTTLS\r\nQUIT\r\n");
    hear(c, "503 5.5.1 TLS is on already");
    hear(c, "221 2.0.0 Bye");
    bclient_close(&c);
    listener_close(&l);
}

/* The exchange by libsasl, with its steps on workers. */
static void
test_login_by_libsasl(void **state)
{
    struct world *w = *state;

    if (!have_db)
        skip();
    w->opt.check_password = NULL;
    w->opt.cfg = cfg;
    w->opt.allow_plain = true;
    struct bclient *c = dial(&w->tcp);
    hear(c, GREETING);
    lhlo(c, NULL);
    say(c, "AUTH PLAIN AHBvc3RtYW4Ad3Jvbmc=\r\nAUTH PLAIN\r\n");
    hear(c, "535 5.7.8 Authentication failed");
    hear(c, "334 ");
    say(c, "AHBvc3RtYW4Ac2VjcmV0\r\nMAIL FROM:<>\r\n");
    hear(c, "235 2.7.0 Authentication succeeded");
    hear(c, "250 2.1.0 Ok");
    bclient_close(&c);
    assert_int_equal(lmtpd_service_stats(w->svc).login_failures, 1);
}

static void
test_large_message_goes_through_a_file_and_a_worker(void **state)
{
    struct world *w = *state;
    struct bclient *c = dial_unix(w);
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error err = {0};

    lhlo(c, NULL);
    for (unsigned i = 0; text.n < 3U << 20; i++)
        buf_addf(&text, "%08x%08x%08x\r\n", i * 2654435761U, ~i, i);
    buf_add_str(&text, ".\r\nNOOP\r\n");
    say(c, "MAIL FROM:<>\r\nRCPT TO:<fred>\r\nDATA\r\n");
    hear(c, "250 2.1.0 Ok");
    hear(c, "250 2.1.5 Ok");
    hear(c, "354 End data with <CR><LF>.<CR><LF>");
    ASSERT_OK(bclient_write(c, buf_span(&text), PATIENCE_MS, &err));
    hear(c, "250 2.1.5 Ok");
    hear(c, "250 2.0.0 Ok");
    bclient_close(&c);
    assert_int_equal(exists(w, "user.fred"), 1);
}

struct sender {
    struct world *w;
    unsigned number;
};

static void *
send_many(void *arg)
{
    struct sender *s = arg;
    struct bclient *c = dial_unix(s->w);
    struct error err = {0};

    lhlo(c, NULL);
    for (unsigned i = 0; i < MESSAGES; i++) {
        ASSERT_OK(bclient_writef(c, PATIENCE_MS, &err,
                                 "MAIL FROM:<>\r\nRCPT TO:<fred>\r\nRCPT "
                                 "TO:<ann>\r\nDATA\r\nSubject: %u "
                                 "%u\r\n\r\n.\r\n",
                                 s->number, i));
        hear(c, "250 2.1.0 Ok");
        hear(c, "250 2.1.5 Ok");
        hear(c, "250 2.1.5 Ok");
        hear(c, "354 End data with <CR><LF>.<CR><LF>");
        hear(c, "250 2.1.5 Ok");
        hear(c, "250 2.1.5 Ok");
    }
    bclient_close(&c);
    return NULL;
}

static void
test_many_clients_at_once_lose_nothing(void **state)
{
    struct world *w = *state;
    struct sender senders[CLIENTS];
    pthread_t threads[CLIENTS];

    for (unsigned i = 0; i < CLIENTS; i++) {
        senders[i] = (struct sender){w, i};
        assert_int_equal(
            pthread_create(&threads[i], NULL, send_many, &senders[i]), 0);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(exists(w, "user.fred"), CLIENTS * MESSAGES);
    assert_int_equal(exists(w, "user.ann"), CLIENTS * MESSAGES);
}

static void
test_goodbye_ends_idle_sessions(void **state)
{
    struct world *w = *state;
    struct bclient *c = dial_unix(w);

    lmtpd_service_goodbye(w->svc, "This server is a replica now");
    hear(c, "421 4.3.2 This server is a replica now");
    hear_end(c);
    bclient_close(&c);
    WAIT_FOR(lmtpd_service_stats(w->svc).sessions == 0);
}

static void
test_stop_says_goodbye(void **state)
{
    struct world *w = *state;
    struct bclient *c = dial_unix(w);

    reactor_pool_shutdown(w->tcp.pool);
    hear(c, "421 4.3.2 The server is stopping");
    hear_end(c);
    bclient_close(&c);
}

static void
test_client_gone_within_data_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct bclient *c = dial_unix(w);

    lhlo(c, NULL);
    say(c, "MAIL FROM:<>\r\nRCPT TO:<fred>\r\nDATA\r\nhalf");
    hear(c, "250 2.1.0 Ok");
    hear(c, "250 2.1.5 Ok");
    hear(c, "354 End data with <CR><LF>.<CR><LF>");
    bclient_close(&c);
    WAIT_FOR(lmtpd_service_stats(w->svc).sessions == 0);
    assert_int_equal(exists(w, "user.fred"), 0);
}

/* ---- libsasl's database ------------------------------------------------ */

static char sasl_dir[] = "/tmp/pollux-lmtpsasl-XXXXXX";

static void
make_sasldb(void)
{
    struct error err = {0};

    assert_non_null(mkdtemp(sasl_dir));
    char *command = xasprintf("saslpasswd2 -f %s/db -p -c -u mx.example "
                              "postman 2>/dev/null",
                              sasl_dir);
    FILE *f = popen(command, "w");
    free(command);
    if (f != NULL) {
        fputs("secret", f);
        have_db = pclose(f) == 0;
    }
    char *text = xasprintf("sasl_pwcheck_method: auxprop\n"
                           "sasl_auxprop_plugin: sasldb\n"
                           "sasl_sasldb_path: %s/db\nsasl_mech_list: PLAIN\n",
                           sasl_dir);
    ASSERT_OK(config_parse(span_str(text), "test", &cfg, &err));
    free(text);
    ASSERT_OK(sasl_library_start(cfg, "pollux-test", &err));
}

static void
remove_sasldb(void)
{
    sasl_library_stop();
    config_free(&cfg);
    remove_tree(sasl_dir);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(test_unix_client_delivers_pipelined),
        IN_WORLD(test_tcp_client_logs_in_under_tls),
        IN_WORLD(test_tls_from_the_first_byte_is_greeted),
        IN_WORLD(test_login_by_libsasl),
        IN_WORLD(test_large_message_goes_through_a_file_and_a_worker),
        IN_WORLD(test_many_clients_at_once_lose_nothing),
        IN_WORLD(test_goodbye_ends_idle_sessions),
        IN_WORLD(test_stop_says_goodbye),
        IN_WORLD(test_client_gone_within_data_leaves_nothing),
    };
    struct error err = {0};
    if (log_open(LOG_TO_FILE, "/dev/null", "test", LOG_LV_INFO, &err) != ERR_OK)
        return 1;
    testcerts_make(&certs);
    make_sasldb();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_sasldb();
    testcerts_remove(&certs);
    return failed;
}
