/*
 * tests/net/test_tls.c - TLS on both sides: versions, who believes whom, the
 * switch of STARTTLS and what must not survive it.
 *
 * The service greets; "STARTTLS" switches, "INFO" tells version and name of the
 * client's certificate, "BLOB" sends 4 MiB, "DEFLATE", anything else comes
 * back.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_test.h"
#include "squeeze.h"
#include "base/config.h"
#include "net/lineread.h"
#include "tests/lib/testcert.h"

static struct testcerts certs;
static struct tls_context *server_tls;
static uint8_t blob[4 << 20];
static atomic_uint opened, closed;
static atomic_int close_code;

static void
command(struct conn *c, struct span line)
{
    struct tls_info info;
    if (span_eq_str(line, "STARTTLS")) {
        conn_write_str(c, "OK begin\r\n");
        conn_start_tls(c, server_tls, NULL);
    } else if (span_eq_str(line, "DEFLATE")) {
        conn_write_str(c, "OK deflate\r\n");
        conn_start_deflate(c);
    } else if (span_eq_str(line, "PLAIN")) {
        conn_write_str(c, "OK plain\r\n");
        conn_end_deflate(c);
    } else if (span_eq_str(line, "INFO")) {
        if (conn_tls_info(c, &info))
            conn_writef(c, "%s bits=%d cn=%s\r\n", info.version,
                        info.bits >= 128, info.peer_cn);
        else
            conn_write_str(c, "none\r\n");
    } else if (span_eq_str(line, "BLOB")) {
        conn_write_owned(c, span_of(blob, sizeof(blob)), NULL, NULL);
    } else {
        conn_writef(c, "got %.*s\r\n", SPAN_FMT(line));
    }
}

static size_t
on_input(struct conn *c, struct span in, void *ctx)
{
    struct span line;
    size_t used;
    (void)ctx;
    if (line_take(in, 1000, &line, &used) != PARSE_DONE)
        return 0;
    command(c, line);
    return used;
}

static void
on_tls(struct conn *c, void *ctx)
{
    (void)ctx;
    conn_write_str(c, "* again\r\n");
}

static void
on_close(struct conn *c, const struct error *why, void *ctx)
{
    (void)c;
    (void)ctx;
    atomic_store(&close_code, (int)why->code);
    atomic_fetch_add(&closed, 1);
}

static const struct conn_handler handler = {
    .on_input = on_input,
    .on_tls = on_tls,
    .on_close = on_close,
};

static void
on_conn(struct conn *c, void *ctx)
{
    (void)ctx;
    conn_set_handler(c, &handler, NULL);
    conn_write_str(c, "* OK\r\n");
    atomic_fetch_add(&opened, 1);
}

static void
begin(struct served *s, struct tls_options o, bool implicit)
{
    struct error err = {0};
    memset(s, 0, sizeof(*s));
    atomic_store(&opened, 0);
    atomic_store(&closed, 0);
    o.cert_file = certs.server_cert;
    o.key_file = certs.server_key;
    ASSERT_OK(tls_server_context(&o, &server_tls, &err));
    serve(s, 2,
          &(struct listener_service){.name = "test",
                                     .on_conn = on_conn,
                                     .tls = implicit ? server_tls : NULL,
                                     .conn = {.handshake_ms = 200}});
}

static void
end(struct served *s)
{
    WAIT_FOR(listener_conns(s->listener) == 0);
    assert_int_equal(atomic_load(&opened), atomic_load(&closed));
    serve_end(s);
    tls_context_free(&server_tls);
}

static struct tls_context *
client_context(struct tls_options o)
{
    struct tls_context *tls = NULL;
    struct error err = {0};
    ASSERT_OK(tls_client_context(&o, &tls, &err));
    return tls;
}

static struct tls_options
trusting(void)
{
    return (struct tls_options){.ca_file = certs.ca,
                                .verify = TLS_VERIFY_REQUIRED};
}

/* The code with which a STARTTLS handshake of a client of O ends. */
static enum errcode
try_tls(struct served *s, struct tls_options o, const char *name)
{
    struct tls_context *tls = client_context(o);
    struct bclient *c = dial(s);
    struct error err = {0};
    struct buf line = BUF_INIT;
    hear(c, "* OK");
    say(c, "STARTTLS\r\n");
    hear(c, "OK begin");
    enum errcode rc = bclient_start_tls(c, tls, name, PATIENCE_MS, &err);
    /* With TLS 1.3 a server's refusal comes after the client's handshake. */
    if (rc == ERR_OK)
        rc = bclient_read_line(c, 100, PATIENCE_MS, &line, &err);
    buf_free(&line);
    bclient_close(&c);
    tls_context_free(&tls);
    return rc;
}

static void
test_both_versions_talk(void **state)
{
    (void)state;
    for (int v = 0; v < 2; v++) {
        struct served s;
        struct tls_options o = trusting();
        struct error err = {0};
        struct tls_info info;
        begin(&s, (struct tls_options){0}, true);
        o.no_tls13 = v == 0;
        o.no_tls12 = v == 1;
        struct tls_context *tls = client_context(o);
        struct bclient *c = dial(&s);
        assert_false(bclient_tls_info(c, &info));
        ASSERT_OK(bclient_start_tls(c, tls, "localhost", PATIENCE_MS, &err));
        hear(c, "* OK");
        say(c, "INFO\r\n");
        hear(c, v == 0 ? "TLSv1.2 bits=1 cn=" : "TLSv1.3 bits=1 cn=");
        assert_true(bclient_tls_info(c, &info));
        assert_true(info.peer_verified);
        assert_string_equal(info.peer_cn, "localhost");
        say(c, "BLOB\r\nafter\r\n");
        static uint8_t got[sizeof(blob)];
        ASSERT_OK(bclient_read_exact(c, got, sizeof(got), PATIENCE_MS, &err));
        assert_memory_equal(got, blob, sizeof(got));
        hear(c, "got after");
        bclient_close(&c);
        tls_context_free(&tls);
        end(&s);
        assert_int_equal(atomic_load(&close_code), ERR_CLOSED);
    }
}

static void
test_old_versions_are_not_spoken(void **state)
{
    (void)state;
    struct served s;
    struct tls_context *none = NULL;
    struct error err = {0};
    begin(&s, (struct tls_options){.no_tls12 = true}, false);
    struct tls_options o = trusting();
    o.no_tls13 = true;
    assert_int_equal(try_tls(&s, o, "localhost"), ERR_PROTO);
    end(&s);
    o.no_tls12 = true;
    assert_int_equal(tls_client_context(&o, &none, &err), ERR_SYNTAX);
    assert_null(none);
}

static void
test_client_believes_only_the_right_chain_and_name(void **state)
{
    (void)state;
    struct served s;
    begin(&s, (struct tls_options){0}, false);
    assert_int_equal(try_tls(&s, trusting(), "localhost"), ERR_OK);
    assert_int_equal(try_tls(&s, trusting(), "127.0.0.1"), ERR_OK);
    assert_int_equal(try_tls(&s, trusting(), "elsewhere"), ERR_AUTH);
    assert_int_equal(try_tls(&s, trusting(), "127.0.0.2"), ERR_AUTH);
    struct tls_options other = {.ca_file = certs.other_ca,
                                .verify = TLS_VERIFY_REQUIRED};
    assert_int_equal(try_tls(&s, other, "localhost"), ERR_AUTH);
    other.verify = TLS_VERIFY_OFF;
    assert_int_equal(try_tls(&s, other, "elsewhere"), ERR_OK);
    end(&s);
}

static void
test_server_asks_for_a_certificate(void **state)
{
    (void)state;
    struct served s;
    struct tls_options known = trusting(), stranger = trusting();
    known.cert_file = certs.client_cert;
    known.key_file = certs.client_key;
    stranger.cert_file = certs.other_cert;
    stranger.key_file = certs.other_key;
    begin(&s,
          (struct tls_options){.ca_file = certs.ca,
                               .verify = TLS_VERIFY_REQUIRED},
          false);
    assert_int_equal(try_tls(&s, known, "localhost"), ERR_OK);
    assert_int_not_equal(try_tls(&s, stranger, "localhost"), ERR_OK);
    WAIT_FOR(atomic_load(&opened) == atomic_load(&closed));
    assert_int_equal(atomic_load(&close_code), ERR_AUTH);
    assert_int_not_equal(try_tls(&s, trusting(), "localhost"), ERR_OK);
    WAIT_FOR(atomic_load(&opened) == atomic_load(&closed));
    assert_int_equal(atomic_load(&close_code), ERR_AUTH);
    end(&s);

    begin(&s,
          (struct tls_options){.ca_file = certs.ca,
                               .verify = TLS_VERIFY_OPTIONAL},
          true);
    struct tls_context *tls = client_context(known);
    struct bclient *c = dial(&s);
    struct error err = {0};
    ASSERT_OK(bclient_start_tls(c, tls, "localhost", PATIENCE_MS, &err));
    hear(c, "* OK");
    say(c, "INFO\r\n");
    hear(c, "TLSv1.3 bits=1 cn=twin");
    bclient_close(&c);
    tls_context_free(&tls);
    end(&s);
}

static void
test_starttls_throws_away_what_was_injected(void **state)
{
    (void)state;
    struct served s;
    struct error err = {0};
    begin(&s, (struct tls_options){0}, false);
    struct tls_context *tls = client_context(trusting());
    struct bclient *c = dial(&s);
    hear(c, "* OK");
    say(c, "INFO\r\n");
    hear(c, "none");
    /* One write, so that the command after it is in the same buffer. */
    say(c, "STARTTLS\r\nINJECTED\r\n");
    hear(c, "OK begin");
    ASSERT_OK(bclient_start_tls(c, tls, "localhost", PATIENCE_MS, &err));
    hear(c, "* again");
    say(c, "clean\r\n");
    hear(c, "got clean");
    bclient_close(&c);
    tls_context_free(&tls);
    end(&s);
}

static void
test_client_throws_away_what_a_server_said_too_early(void **state)
{
    (void)state;
    int pair[2];
    struct error err = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct bclient *c = bclient_from_fd(pair[0]);
    struct tls_context *tls = client_context(trusting());
    static const char early[] = "OK begin\r\n* CAPABILITY INJECTED\r\n";
    assert_int_equal(write(pair[1], early, sizeof(early) - 1),
                     sizeof(early) - 1);
    hear(c, "OK begin");
    assert_true(bclient_buffered(c) > 0);
    assert_int_equal(bclient_start_tls(c, tls, "localhost", 50, &err),
                     ERR_TIMEOUT);
    assert_int_equal(bclient_buffered(c), 0);
    bclient_close(&c);
    tls_context_free(&tls);
    close(pair[1]);
}

static void
test_handshake_that_does_not_come_times_out(void **state)
{
    (void)state;
    struct served s;
    begin(&s, (struct tls_options){0}, true);
    struct bclient *c = dial(&s);
    hear_end(c);
    bclient_close(&c);
    c = dial(&s);
    say(c, "a1 LOGIN user in-the-clear\r\n");
    WAIT_FOR(listener_conns(s.listener) == 0);
    bclient_close(&c);
    assert_int_equal(atomic_load(&opened), 0);
    end(&s);

    begin(&s, (struct tls_options){0}, false);
    c = dial(&s);
    hear(c, "* OK");
    say(c, "STARTTLS\r\n");
    hear(c, "OK begin");
    WAIT_FOR(atomic_load(&closed) == 1);
    assert_int_equal(atomic_load(&close_code), ERR_TIMEOUT);
    bclient_close(&c);
    end(&s);
}

/* A client whose next byte is compressed, and then encrypted, both ways. */
static struct bclient *
dial_deflate_inside_tls(const struct served *s, struct tls_context *tls)
{
    struct bclient *c = dial(s);
    struct error err = {0};

    hear(c, "* OK");
    say(c, "STARTTLS\r\n");
    hear(c, "OK begin");
    ASSERT_OK(bclient_start_tls(c, tls, "localhost", PATIENCE_MS, &err));
    hear(c, "* again");
    say(c, "DEFLATE\r\n");
    hear(c, "OK deflate");
    return c;
}

static void
test_deflate_inside_tls(void **state)
{
    (void)state;
    struct served s;
    struct error err = {0};
    begin(&s, (struct tls_options){0}, false);
    struct tls_context *tls = client_context(trusting());
    struct bclient *c = dial_deflate_inside_tls(&s, tls);
    ASSERT_OK(bclient_start_deflate(c, &err));
    say(c, "BLOB\r\nafter\r\n");
    static uint8_t got[sizeof(blob)];
    ASSERT_OK(bclient_read_exact(c, got, sizeof(got), PATIENCE_MS, &err));
    assert_memory_equal(got, blob, sizeof(got));
    hear(c, "got after");
    for (int i = 0; i < 5000; i++)
        ASSERT_OK(bclient_writef(c, PATIENCE_MS, &err, "line %d\r\n", i));
    for (int i = 0; i < 5000; i++) {
        char want[32];
        snprintf(want, sizeof(want), "got line %d", i);
        hear(c, want);
    }
    bclient_close(&c);
    tls_context_free(&tls);
    end(&s);
}

/* TLS stays.  All of it in one write: what is in clear behind the end comes out
 * of TLS together with what is not. */
static void
test_deflate_ends_inside_tls(void **state)
{
    (void)state;
    struct served s;
    struct error err = {0};
    struct buf text = BUF_INIT;
    struct zpipe *z = zpipe_new();
    begin(&s, (struct tls_options){0}, false);
    struct tls_context *tls = client_context(trusting());
    struct bclient *c = dial_deflate_inside_tls(&s, tls);
    squeeze(z, "one\r\nPLAIN\r\n", BY_FLUSH, &text);
    buf_add_str(&text, "two\r\n");
    ASSERT_OK(bclient_write(c, buf_span(&text), PATIENCE_MS, &err));
    hear_squeezed(c, z, "got one\r\n");
    hear_squeezed(c, z, "OK plain\r\n");
    hear_stream_end(c, z);
    hear(c, "got two");
    say(c, "three\r\n");
    hear(c, "got three");
    bclient_close(&c);
    tls_context_free(&tls);
    zpipe_free(&z);
    buf_free(&text);
    end(&s);
}

static struct {
    struct reactor *r;
    struct served *s;
    struct tls_context *tls;
    const char *name;
    atomic_bool connected, closed;
    atomic_int code;
} out;

static void
out_connected(struct conn *c, void *ctx)
{
    (void)ctx;
    struct tls_info info;
    assert_true(conn_tls_info(c, &info));
    assert_string_equal(info.peer_cn, "localhost");
    atomic_store(&out.connected, true);
    conn_close_after_flush(c);
}

static size_t
out_input(struct conn *c, struct span in, void *ctx)
{
    (void)c;
    (void)ctx;
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

static void
out_begin(void *ctx)
{
    static const struct conn_handler h = {.on_connect = out_connected,
                                          .on_input = out_input,
                                          .on_close = out_closed};
    (void)ctx;
    conn_connect(out.r,
                 &(struct conn_target){.host = "127.0.0.1",
                                       .service = out.s->port,
                                       .tls = out.tls,
                                       .tls_name = out.name},
                 NULL, &h, NULL);
}

static void
test_outgoing_tls_verifies_the_name(void **state)
{
    (void)state;
    struct served s;
    begin(&s, (struct tls_options){0}, true);
    for (int good = 0; good < 2; good++) {
        memset(&out, 0, sizeof(out));
        out.r = reactor_pool_get(s.pool, 0);
        out.s = &s;
        out.tls = client_context(trusting());
        out.name = good ? "localhost" : "elsewhere";
        reactor_post(out.r, out_begin, NULL);
        WAIT_FOR(atomic_load(&out.closed));
        assert_int_equal(atomic_load(&out.connected), good);
        assert_int_equal(atomic_load(&out.code), good ? ERR_OK : ERR_AUTH);
        tls_context_free(&out.tls);
    }
    end(&s);
}

static void
test_bad_files_are_named(void **state)
{
    (void)state;
    struct tls_context *tls = NULL;
    struct error err = {0};
    assert_int_equal(
        tls_server_context(&(struct tls_options){.cert_file = "/nonexistent"},
                           &tls, &err),
        ERR_NOTFOUND);
    assert_non_null(strstr(err.text, "/nonexistent"));
    assert_int_equal(
        tls_server_context(&(struct tls_options){.cert_file = certs.client_key},
                           &tls, &err),
        ERR_SYNTAX);
    assert_non_null(strstr(err.text, certs.client_key));
    assert_int_equal(
        tls_server_context(&(struct tls_options){.cert_file = certs.server_cert,
                                                 .key_file = certs.client_key},
                           &tls, &err),
        ERR_SYNTAX);
    assert_int_equal(
        tls_server_context(&(struct tls_options){.cert_file = certs.server_cert,
                                                 .key_file = certs.server_key,
                                                 .ciphers = "NONSENSE"},
                           &tls, &err),
        ERR_SYNTAX);
    assert_int_equal(
        tls_client_context(&(struct tls_options){.ca_file = "/nonexistent"},
                           &tls, &err),
        ERR_NOTFOUND);
    assert_int_equal(tls_server_context(&(struct tls_options){0}, &tls, &err),
                     ERR_SYNTAX);
    assert_null(tls);
}

static void
test_context_from_configuration(void **state)
{
    (void)state;
    struct tls_context *tls = NULL;
    struct config *cfg = NULL;
    struct error err = {0};
    struct buf text = BUF_INIT;
    ASSERT_OK(config_parse(SPAN_LIT("servername: x\n"), "none", &cfg, &err));
    ASSERT_OK(tls_server_from_config(cfg, "imap", &tls, &err));
    assert_null(tls);
    config_free(&cfg);

    buf_addf(&text,
             "tls_server_cert: %s\ntls_server_key: %s\n"
             "tls_client_ca_file: %s\ntls_server_ca_file: %s\n"
             "tls_client_cert: %s\ntls_client_key: %s\n"
             "tls_client_certs: require\ntls_versions: tls1_3\n",
             certs.server_cert, certs.server_key, certs.ca, certs.ca,
             certs.client_cert, certs.client_key);
    ASSERT_OK(config_parse(buf_span(&text), "tls", &cfg, &err));
    ASSERT_OK(tls_server_from_config(cfg, "imap", &server_tls, &err));
    assert_non_null(server_tls);
    ASSERT_OK(
        tls_client_from_config(cfg, TLS_VERIFY_REQUIRED, NULL, &tls, &err));
    struct served s = {0};
    atomic_store(&opened, 0);
    atomic_store(&closed, 0);
    serve(&s, 1,
          &(struct listener_service){
              .name = "test", .on_conn = on_conn, .tls = server_tls});
    struct bclient *c = dial(&s);
    ASSERT_OK(bclient_start_tls(c, tls, "localhost", PATIENCE_MS, &err));
    hear(c, "* OK");
    say(c, "INFO\r\n");
    hear(c, "TLSv1.3 bits=1 cn=twin");
    bclient_close(&c);
    tls_context_free(&tls);
    /* Without a certificate, and with TLS 1.2, nobody is let in. */
    for (int i = 0; i < 2; i++) {
        struct tls_options o = trusting();
        struct buf line = BUF_INIT;
        o.no_tls13 = i == 1;
        tls = client_context(o);
        c = dial(&s);
        enum errcode rc =
            bclient_start_tls(c, tls, "localhost", PATIENCE_MS, &err);
        if (rc == ERR_OK)
            rc = bclient_read_line(c, 100, PATIENCE_MS, &line, &err);
        assert_int_not_equal(rc, ERR_OK);
        buf_free(&line);
        bclient_close(&c);
        tls_context_free(&tls);
    }
    end(&s);
    assert_int_equal(atomic_load(&opened), 1);
    tls_context_free(&tls);
    config_free(&cfg);
    buf_free(&text);
}

int
main(void)
{
    for (size_t i = 0; i < sizeof(blob); i++)
        blob[i] = (uint8_t)(i * 31 + i / 256);
    testcerts_make(&certs);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_versions_talk),
        cmocka_unit_test(test_old_versions_are_not_spoken),
        cmocka_unit_test(test_client_believes_only_the_right_chain_and_name),
        cmocka_unit_test(test_server_asks_for_a_certificate),
        cmocka_unit_test(test_starttls_throws_away_what_was_injected),
        cmocka_unit_test(test_client_throws_away_what_a_server_said_too_early),
        cmocka_unit_test(test_handshake_that_does_not_come_times_out),
        cmocka_unit_test(test_deflate_inside_tls),
        cmocka_unit_test(test_deflate_ends_inside_tls),
        cmocka_unit_test(test_outgoing_tls_verifies_the_name),
        cmocka_unit_test(test_bad_files_are_named),
        cmocka_unit_test(test_context_from_configuration),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    testcerts_remove(&certs);
    return failed;
}
