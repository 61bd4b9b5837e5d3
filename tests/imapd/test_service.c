/*
 * tests/imapd/test_service.c - the service as it runs: listener, reactors,
 * workers, the store's writer thread, TLS and libsasl with a sasldb made by
 * saslpasswd2 (skipped without it).  Many clients at once, one who is told in
 * IDLE what another one does, goodbye, and shutting down under load.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "imapd/imapd.h"
#include "net/sasl.h"
#include "net/zpipe.h"
#include "store/kv_mem.h"
#include "tests/lib/testcert.h"
#include "tests/net/net_test.h"

static char dir[] = "/tmp/pollux-imapd-XXXXXX";
static bool have_db;
static struct config *cfg;
static struct arena arena;
static struct store *store;
static struct testcerts certs;

/* ---- the service ------------------------------------------------------- */

struct running {
    struct imapd_options opt;
    struct imapd_service *svc;
    struct served served;
    struct tls_context *tls;
};

static void
start(struct running *r, bool implicit)
{
    struct error err = {0};
    const struct tls_options tls = {.cert_file = certs.server_cert,
                                    .key_file = certs.server_key};

    *r = (struct running){0};
    ASSERT_OK(tls_server_context(&tls, &r->tls, &err));
    ASSERT_OK(imapd_options_from_config(cfg, env_system(), &store, r->tls,
                                        implicit, &arena, &r->opt, &err));
    r->svc = imapd_service_new(&r->opt);
    const struct listener_service service = {
        .name = "imap",
        .conn = imapd_conn_options(&r->opt),
        .tls = implicit ? r->tls : NULL,
        .on_conn = imapd_accept,
        .ctx = r->svc,
    };
    serve(&r->served, 2, &service);
}

static void
stop(struct running *r)
{
    serve_end(&r->served);
    assert_int_equal(imapd_service_stats(r->svc).sessions, 0);
    imapd_service_free(&r->svc);
    tls_context_free(&r->tls);
}

/* ---- a client ---------------------------------------------------------- */

/* Lines up to the one that starts with TAG; the last one is in RET. */
static void
hear_tagged(struct bclient *c, const char *tag, struct buf *ret)
{
    struct error err = {0};

    do {
        if (bclient_read_line(c, 65536, PATIENCE_MS, ret, &err) != ERR_OK)
            fail_msg("waiting for %s: %s", tag, err.text);
    } while (!span_starts(buf_span(ret), span_str(tag)));
}

static void
command(struct bclient *c, const char *line, const char *want)
{
    struct buf b = BUF_INIT;
    char tag[16];
    struct error err = {0};

    snprintf(tag, sizeof(tag), "%.*s ", (int)strcspn(line, " "), line);
    ASSERT_OK(bclient_writef(c, PATIENCE_MS, &err, "%s\r\n", line));
    hear_tagged(c, tag, &b);
    if (span_find(buf_span(&b), span_str(want)) < 0)
        fail_msg("%s: %s", line, buf_cstr(&b));
    buf_free(&b);
}

static struct bclient *
enter(struct running *r)
{
    struct bclient *c = dial(&r->served);
    struct buf b = BUF_INIT;

    hear_tagged(c, "* OK [CAPABILITY ", &b);
    buf_free(&b);
    command(c, "l LOGIN alice secret", "l OK");
    return c;
}

/* ---- tests ------------------------------------------------------------- */

static void
test_each_way_to_log_in(void **state)
{
    (void)state;
    struct running r;
    struct error err = {0};
    struct buf b = BUF_INIT;
    struct tls_context *tls = NULL;
    const struct tls_options client = {.verify = TLS_VERIFY_OFF};

    if (!have_db)
        skip();
    start(&r, false);
    struct bclient *c = dial(&r.served);
    hear_tagged(c, "* OK", &b);
    assert_true(span_find(buf_span(&b), SPAN_LIT(" STARTTLS")) > 0);
    assert_true(span_find(buf_span(&b), SPAN_LIT(" AUTH=SCRAM-SHA-1")) > 0);
    command(c, "a LOGIN alice wrong", "a NO [AUTHENTICATIONFAILED]");
    command(c, "b AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==", "b OK [CAPA");
    bclient_close(&c);
    /* With a continuation, and cancelled; a name nobody may act for. */
    c = dial(&r.served);
    hear_tagged(c, "* OK", &b);
    say(c, "a AUTHENTICATE PLAIN\r\n");
    hear(c, "+ ");
    say(c, "*\r\n");
    hear(c, "a BAD Authentication cancelled");
    say(c, "b AUTHENTICATE PLAIN\r\n");
    hear(c, "+ ");
    say(c, "Ym9iAGFsaWNlAHNlY3JldA==\r\n"); /* bob NUL alice */
    hear_tagged(c, "b ", &b);
    assert_true(
        span_starts(buf_span(&b), SPAN_LIT("b NO [AUTHORIZATIONFAILED]")));
    command(c, "c AUTHENTICATE NOSUCH", "c NO");
    command(c, "d AUTHENTICATE PLAIN !!!", "d BAD");
    /* An admin acts for a user, and is that user then. */
    command(c, "e AUTHENTICATE PLAIN YWxpY2UAY3lydXMAc2VjcmV0", "e OK");
    command(c, "f SETQUOTA INBOX (STORAGE 1)", "f NO [NOPERM]");
    bclient_close(&c);
    /* STARTTLS. */
    ASSERT_OK(tls_client_context(&client, &tls, &err));
    c = dial(&r.served);
    hear_tagged(c, "* OK", &b);
    command(c, "a STARTTLS", "a OK");
    ASSERT_OK(bclient_start_tls(c, tls, NULL, PATIENCE_MS, &err));
    say(c, "b CAPABILITY\r\n");
    hear_tagged(c, "* CAPABILITY", &b);
    assert_true(span_find(buf_span(&b), SPAN_LIT(" STARTTLS")) < 0);
    command(c, "c LOGIN alice secret", "c OK");
    bclient_close(&c);
    stop(&r);
    /* TLS from the first byte: the greeting knows it. */
    start(&r, true);
    c = dial(&r.served);
    ASSERT_OK(bclient_start_tls(c, tls, NULL, PATIENCE_MS, &err));
    hear_tagged(c, "* OK", &b);
    assert_true(span_find(buf_span(&b), SPAN_LIT(" AUTH=PLAIN")) > 0);
    assert_true(span_find(buf_span(&b), SPAN_LIT(" STARTTLS")) < 0);
    command(c, "a LOGIN alice secret", "a OK");
    command(c, "b SELECT INBOX", "b OK [READ-WRITE]");
    bclient_close(&c);
    stop(&r);
    tls_context_free(&tls);
    buf_free(&b);
}

/* RFC 4978: both ways, with commands pipelined behind it. */
static void
test_compress_both_ways(void **state)
{
    (void)state;
    struct running r;
    struct error err = {0};
    struct buf b = BUF_INIT;

    if (!have_db)
        skip();
    start(&r, false);
    struct bclient *c = enter(&r);
    command(c, "a COMPRESS DEFLATE", "a OK DEFLATE active");
    ASSERT_OK(bclient_start_deflate(c, &err));
    say(c, "b SELECT INBOX\r\nc NOOP\r\n");
    hear_tagged(c, "c OK", &b);
    command(c, "d COMPRESS DEFLATE", "d NO [COMPRESSIONACTIVE]");
    command(c, "e LOGOUT", "e OK");
    bclient_close(&c);
    stop(&r);
    buf_free(&b);
}

static void
add_to(void *ctx, struct span out)
{
    buf_add(ctx, out);
}

/* RFC 8437, 4.1: both streams end, and the next login is pipelined in clear. */
static void
test_unauthenticate_ends_compression(void **state)
{
    (void)state;
    struct running r;
    struct error err = {0};
    struct buf out = BUF_INIT, got = BUF_INIT;
    bool end = false;

    if (!have_db)
        skip();
    start(&r, false);
    struct bclient *c = enter(&r);
    for (int i = 0; i < 2; i++) {
        struct zpipe *z = zpipe_new();
        command(c, "a COMPRESS DEFLATE", "a OK DEFLATE active");
        buf_clear(&out);
        buf_clear(&got);
        zpipe_deflate(z, SPAN_LIT("b SELECT INBOX\r\nc UNAUTHENTICATE\r\n"),
                      add_to, &out);
        zpipe_flush(z, add_to, &out);
        buf_add_str(&out, "d LOGIN alice secret\r\n");
        ASSERT_OK(bclient_write(c, buf_span(&out), PATIENCE_MS, &err));
        for (end = false; !end;) {
            uint8_t byte, plain[64];
            size_t n = 0;
            ASSERT_OK(bclient_read_exact(c, &byte, 1, PATIENCE_MS, &err));
            zpipe_feed(z, span_of(&byte, 1));
            do {
                ASSERT_OK(
                    zpipe_inflate(z, plain, sizeof(plain), &n, &end, &err));
                buf_add(&got, span_of(plain, n));
            } while (n > 0);
        }
        assert_true(span_find(buf_span(&got), SPAN_LIT("b OK [READ-WRITE]")) >=
                    0);
        assert_true(span_find(buf_span(&got), SPAN_LIT("c OK Completed\r\n")) >=
                    0);
        hear_tagged(c, "d OK", &got);
        zpipe_free(&z);
    }
    command(c, "e SELECT INBOX", "e OK");
    command(c, "f LOGOUT", "f OK");
    bclient_close(&c);
    stop(&r);
    buf_free(&out);
    buf_free(&got);
}

#define CLIENTS 8
#define MESSAGES 25

struct worker {
    pthread_t thread;
    struct running *r;
    unsigned number;
};

static void *
append_many(void *arg)
{
    struct worker *w = arg;
    struct bclient *c = enter(w->r);
    char line[200];

    for (int i = 0; i < MESSAGES; i++) {
        snprintf(line, sizeof(line),
                 "a APPEND INBOX {%d+}\r\nSubject: %02u-%02d\r\n\r\nx\r\n", 21,
                 w->number, i);
        command(c, line, "a OK [APPENDUID ");
    }
    command(c, "b LOGOUT", "b OK");
    bclient_close(&c);
    return NULL;
}

static void
test_many_clients_at_once_and_one_watching(void **state)
{
    (void)state;
    struct running r;
    struct worker workers[CLIENTS];
    struct buf b = BUF_INIT;
    struct error err = {0};
    char want[64];

    if (!have_db)
        skip();
    start(&r, false);
    struct bclient *c = enter(&r);
    command(c, "x CREATE INBOX/Old", "x OK");
    command(c, "y SELECT INBOX", "y OK");
    say(c, "i IDLE\r\n");
    hear(c, "+ idling");
    for (unsigned i = 0; i < CLIENTS; i++) {
        workers[i] = (struct worker){.r = &r, .number = i};
        assert_int_equal(
            pthread_create(&workers[i].thread, NULL, append_many, &workers[i]),
            0);
    }
    snprintf(want, sizeof(want), "* %d EXISTS", CLIENTS * MESSAGES);
    do
        ASSERT_OK(bclient_read_line(c, 1000, PATIENCE_MS, &b, &err));
    while (!span_eq_str(buf_span(&b), want));
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(workers[i].thread, NULL);
    say(c, "DONE\r\n");
    hear_tagged(c, "i OK", &b);
    /* Everything once, in order, by its whole text. */
    say(c, "f FETCH 1:* (UID BODY.PEEK[])\r\n");
    for (int i = 1; i <= CLIENTS * MESSAGES; i++) {
        snprintf(want, sizeof(want), "* %d FETCH (UID %d BODY[] {21}", i, i);
        hear_tagged(c, want, &b);
    }
    hear_tagged(c, "f OK", &b);
    command(c, "g MOVE 1:* INBOX/Old", "g OK");
    command(c, "h FETCH 1 UID", "h BAD");
    /* The role changes. */
    imapd_service_goodbye(r.svc, "role changed");
    hear(c, "* BYE role changed");
    hear_end(c);
    bclient_close(&c);
    struct imapd_stats stats = imapd_service_stats(r.svc);
    assert_true(stats.logins == CLIENTS + 1);
    stop(&r);
    buf_free(&b);
}

static void
test_stopping_under_load_frees_everything(void **state)
{
    (void)state;
    struct running r;
    struct bclient *c[CLIENTS];

    if (!have_db)
        skip();
    start(&r, false);
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = enter(&r);
        say(c[i], "a SELECT INBOX/Old\r\nb FETCH 1:* BODY[]\r\n"
                  "c APPEND INBOX {21+}\r\nSubject: 00-00\r\n\r\nx\r\n\r\n"
                  "d LIST \"\" *\r\ne IDLE\r\n");
    }
    stop(&r);
    for (int i = 0; i < CLIENTS; i++)
        bclient_close(&c[i]);
}

/* ---- once for all ------------------------------------------------------ */

static bool
add_user(const char *name)
{
    char line[256];

    snprintf(line, sizeof(line),
             "printf secret | saslpasswd2 -c -p -u imap.example -f %s/db %s "
             "2>/dev/null",
             dir, name);
    return system(line) == 0;
}

static void
open_store(void)
{
    struct error err = {0};
    struct store_opened found;
    char path[128];
    const struct store_hooks hooks = {0};

    snprintf(path, sizeof(path), "%s/store", dir);
    ENSURE(env_mkdirs(env_system(), path, &err) == ERR_OK);
    const struct store_config sc = {.dir = path,
                                    .pack_dir = path,
                                    .segment_bytes = 1U << 22,
                                    .kv = kv_open_mem(),
                                    .cluster = {{1}},
                                    .instance = {{2}}};
    ENSURE(store_open(env_system(), &sc, &hooks, &store, &found, &err) ==
           ERR_OK);
    store_set_role(store, ROLE_MASTER, 1);
    ENSURE(store_begin_epoch(store, 1, 0, "first start", &err) == ERR_OK);
}

int
main(void)
{
    struct error err = {0};
    struct buf text = BUF_INIT;

    ENSURE(mkdtemp(dir) != NULL);
    have_db = add_user("alice") && add_user("cyrus");
    buf_addf(&text,
             "servername: imap.example\nadmins: cyrus\nallowplaintext: yes\n"
             "autocreate_quota: 0\naltnamespace: no\n"
             "sasl_pwcheck_method: auxprop\nsasl_auxprop_plugin: sasldb\n"
             "sasl_sasldb_path: %s/db\n",
             dir);
    ENSURE(config_parse(buf_span(&text), "test", &cfg, &err) == ERR_OK);
    ENSURE(sasl_library_start(cfg, "pollux", &err) == ERR_OK);
    testcerts_make(&certs);
    open_store();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_way_to_log_in),
        cmocka_unit_test(test_compress_both_ways),
        cmocka_unit_test(test_unauthenticate_ends_compression),
        cmocka_unit_test(test_many_clients_at_once_and_one_watching),
        cmocka_unit_test(test_stopping_under_load_frees_everything),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    store_close(&store);
    testcerts_remove(&certs);
    sasl_library_stop();
    config_free(&cfg);
    arena_free(&arena);
    buf_free(&text);
    char line[128];
    snprintf(line, sizeof(line), "rm -rf %s", dir);
    return system(line) != 0 || failed;
}
