/*
 * tests/net/test_sasl.c - libsasl2's server against its client, and against
 * bytes of no client, with a sasldb made by saslpasswd2 (skipped without it)
 * and a saslauthd played by a thread.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net_test.h"
#include "base/config.h"
#include "net/sasl.h"

static char dir[] = "/tmp/pollux-sasl-XXXXXX";
static char db[64], mux[80];
static struct config *cfg;
static bool have_db;

static bool
add_user(const char *name, const char *password)
{
    char command[256];
    snprintf(command, sizeof(command),
             "saslpasswd2 -f %s -p -c -u test.example %s 2>/dev/null", db,
             name);
    FILE *f = popen(command, "w");
    if (f == NULL)
        return false;
    fputs(password, f);
    return pclose(f) == 0;
}

static bool
may_act_for(void *ctx, const char *authenticated, const char *requested)
{
    (void)ctx;
    return strcmp(authenticated, "proxy") == 0 &&
           strcmp(requested, "root") != 0;
}

static struct saslsrv_options
options(void)
{
    return (struct saslsrv_options){
        .service = "imap",
        .hostname = "test.example",
        .local_name = "127.0.0.1:143",
        .peer_name = "[::1]:4711",
        .tls_bits = 256,
        .may_act_for = may_act_for,
    };
}

static struct saslsrv *
server(struct saslsrv_options o)
{
    struct saslsrv *s = NULL;
    struct error err = {0};
    ASSERT_OK(saslsrv_new(&o, &s, &err));
    return s;
}

struct outcome {
    enum sasl_outcome server;
    enum errcode server_code;
    enum errcode client_code;
    char mech[32];
    char authenticated[SASL_NAME_BYTES];
    char authorized[SASL_NAME_BYTES];
};

/* A whole exchange of the two. */
static struct outcome
exchange(struct saslsrv_options so, struct saslcli_options co, bool initial)
{
    struct outcome o = {0};
    struct saslsrv *s = server(so);
    struct saslcli *c = NULL;
    struct error err = {0};
    struct buf mechs = BUF_INIT;
    struct saslsrv_step step = {.s = s};
    const char *mech = NULL;
    bool has_initial = false;
    struct buf first = BUF_INIT;

    co.service = "imap";
    co.hostname = "test.example";
    ASSERT_OK(saslcli_new(&co, &c, &err));
    saslsrv_mechs(s, &mechs);
    o.client_code =
        saslcli_start(c, buf_cstr(&mechs), &mech, &has_initial, &first, &err);
    o.server = SASL_FAILED;
    if (o.client_code == ERR_OK) {
        snprintf(step.mech, sizeof(step.mech), "%s", mech);
        step.has_initial = has_initial && initial;
        if (step.has_initial)
            buf_add(&step.input, buf_span(&first));
        saslsrv_do(&step);
        bool late = has_initial && !initial;
        while (step.outcome == SASL_MORE && o.client_code == ERR_OK) {
            buf_clear(&step.input);
            if (late)
                buf_add(&step.input, buf_span(&first));
            else
                o.client_code =
                    saslcli_step(c, buf_span(&step.output), &step.input, &err);
            late = false;
            step.mech[0] = '\0';
            if (o.client_code == ERR_OK)
                saslsrv_do(&step);
        }
        o.server = step.outcome;
        o.server_code = step.err.code;
        if (step.outcome == SASL_SUCCESS)
            o.client_code = saslcli_finish(c, step.output.n > 0,
                                           buf_span(&step.output), &err);
        else
            assert_string_equal(saslsrv_authorized(s), "");
        snprintf(o.mech, sizeof(o.mech), "%s", saslsrv_mech(s));
        snprintf(o.authenticated, sizeof(o.authenticated), "%s",
                 saslsrv_authenticated(s));
        snprintf(o.authorized, sizeof(o.authorized), "%s",
                 saslsrv_authorized(s));
    }
    buf_free(&first);
    buf_free(&mechs);
    saslsrv_step_clear(&step);
    saslcli_free(&c);
    saslsrv_free(&s);
    return o;
}

static const char *const all_mechs[] = {"PLAIN", "LOGIN", "SCRAM-SHA-1",
                                        "SCRAM-SHA-256"};

static void
test_each_mechanism_lets_in_and_keeps_out(void **state)
{
    (void)state;
    if (!have_db)
        skip();
    for (size_t i = 0; i < ARRAY_LEN(all_mechs); i++) {
        for (int initial = 0; initial < 2; initial++) {
            struct saslcli_options co = {.authname = "alice",
                                         .password = "secret of alice",
                                         .mechs = all_mechs[i],
                                         .tls_bits = 256};
            struct outcome o = exchange(options(), co, initial == 1);
            assert_int_equal(o.server, SASL_SUCCESS);
            assert_int_equal(o.client_code, ERR_OK);
            assert_string_equal(o.mech, all_mechs[i]);
            assert_string_equal(o.authenticated, "alice");
            assert_string_equal(o.authorized, "alice");

            co.password = "secret of somebody else";
            o = exchange(options(), co, initial == 1);
            assert_int_equal(o.server, SASL_FAILED);
            assert_int_equal(o.server_code, ERR_AUTH);
            co.authname = "nobody";
            o = exchange(options(), co, initial == 1);
            assert_int_equal(o.server, SASL_FAILED);
            assert_int_equal(o.server_code, ERR_AUTH);
        }
    }
}

static void
test_authzid_is_asked_about(void **state)
{
    (void)state;
    if (!have_db)
        skip();
    static const char *const mechs[] = {"PLAIN", "SCRAM-SHA-1",
                                        "SCRAM-SHA-256"};
    for (size_t i = 0; i < ARRAY_LEN(mechs); i++) {
        struct saslcli_options co = {.authname = "proxy",
                                     .authzid = "alice",
                                     .password = "secret of proxy",
                                     .mechs = mechs[i],
                                     .tls_bits = 256};
        struct outcome o = exchange(options(), co, true);
        assert_int_equal(o.server, SASL_SUCCESS);
        assert_string_equal(o.authenticated, "proxy");
        assert_string_equal(o.authorized, "alice");
        co.authzid = "root";
        o = exchange(options(), co, true);
        assert_int_equal(o.server, SASL_FAILED);
        assert_int_equal(o.server_code, ERR_DENIED);
        co.authname = "alice";
        co.password = "secret of alice";
        co.authzid = "proxy";
        o = exchange(options(), co, true);
        assert_int_equal(o.server, SASL_FAILED);
        assert_int_equal(o.server_code, ERR_DENIED);
        co.authzid = "alice"; /* oneself, said aloud */
        o = exchange(options(), co, true);
        assert_int_equal(o.server, SASL_SUCCESS);
        /* Nobody to ask: nobody may. */
        struct saslsrv_options so = options();
        so.may_act_for = NULL;
        co.authname = "proxy";
        co.password = "secret of proxy";
        o = exchange(so, co, true);
        assert_int_equal(o.server_code, ERR_DENIED);
    }
}

static bool
offers(struct saslsrv_options o, const char *mech)
{
    struct saslsrv *s = server(o);
    struct buf b = BUF_INIT, word = BUF_INIT;
    buf_add_byte(&b, ' ');
    saslsrv_mechs(s, &b);
    buf_add_byte(&b, ' ');
    buf_addf(&word, " %s ", mech);
    bool yes = span_find(buf_span(&b), buf_span(&word)) >= 0;
    buf_free(&b);
    buf_free(&word);
    saslsrv_free(&s);
    return yes;
}

static void
test_no_passwords_in_clear_before_tls(void **state)
{
    (void)state;
    if (!have_db)
        skip();
    struct saslsrv_options clear = options();
    clear.tls_bits = 0;
    for (size_t i = 0; i < ARRAY_LEN(all_mechs); i++)
        assert_int_equal(offers(clear, all_mechs[i]), i >= 2);
    assert_false(offers(clear, "ANONYMOUS"));
    assert_false(offers(clear, "EXTERNAL"));

    struct saslsrv *s = server(clear);
    struct saslsrv_step step = {.s = s, .mech = "PLAIN", .has_initial = true};
    struct error err = {0};
    buf_add(&step.input, SPAN_LIT("\0alice\0secret of alice"));
    saslsrv_do(&step);
    assert_int_equal(step.outcome, SASL_FAILED);
    assert_int_equal(step.err.code, ERR_UNSUPPORTED);
    saslsrv_step_clear(&step);
    assert_int_equal(saslsrv_check_password(s, SPAN_LIT("alice"),
                                            SPAN_LIT("secret of alice"), &err),
                     ERR_DENIED);
    saslsrv_free(&s);

    clear.allow_plain = true;
    for (size_t i = 0; i < ARRAY_LEN(all_mechs); i++)
        assert_true(offers(clear, all_mechs[i]));
}

static void
test_external_is_the_name_of_the_certificate(void **state)
{
    (void)state;
    struct saslsrv_options so = options();
    assert_false(offers(so, "EXTERNAL"));
    so.external_id = "twin";
    assert_true(offers(so, "EXTERNAL"));
    struct saslcli_options co = {.authname = "twin",
                                 .mechs = "EXTERNAL",
                                 .tls_bits = 256,
                                 .external = true};
    struct outcome o = exchange(so, co, true);
    assert_int_equal(o.server, SASL_SUCCESS);
    assert_int_equal(o.client_code, ERR_OK);
    assert_string_equal(o.authenticated, "twin");
    assert_string_equal(o.authorized, "twin");
    co.authzid = "root";
    o = exchange(so, co, true);
    assert_int_equal(o.server, SASL_FAILED);
    assert_int_equal(o.server_code, ERR_DENIED);
}

static void
test_no_mechanism_in_common(void **state)
{
    (void)state;
    struct saslcli_options co = {.authname = "alice",
                                 .password = "x",
                                 .mechs = "GSSAPI",
                                 .tls_bits = 256};
    assert_int_equal(exchange(options(), co, true).client_code,
                     ERR_UNSUPPORTED);
}

/* One step of MECH with these bytes. */
static struct error
one_step(struct saslsrv *s, const char *mech, struct span in)
{
    struct saslsrv_step step = {.s = s, .has_initial = true};
    snprintf(step.mech, sizeof(step.mech), "%s", mech);
    buf_add(&step.input, in);
    saslsrv_do(&step);
    assert_int_not_equal(step.outcome, SASL_SUCCESS);
    struct error err = step.err;
    saslsrv_step_clear(&step);
    return err;
}

static void
test_broken_exchanges_are_refused(void **state)
{
    (void)state;
    struct saslsrv *s = server(options());
    static uint8_t flood[SASL_STEP_BYTES + 1];
    assert_int_equal(one_step(s, "NO-SUCH", SPAN_EMPTY).code, ERR_UNSUPPORTED);
    assert_int_equal(one_step(s, "ANONYMOUS", SPAN_LIT("x")).code,
                     ERR_UNSUPPORTED);
    assert_int_equal(one_step(s, "", SPAN_LIT("no start")).code, ERR_PROTO);
    assert_int_equal(one_step(s, "PLAIN", span_of(flood, sizeof(flood))).code,
                     ERR_PROTO);
    assert_int_not_equal(one_step(s, "PLAIN", SPAN_LIT("no nul")).code, ERR_OK);
    assert_int_not_equal(one_step(s, "PLAIN", SPAN_LIT("\0\0")).code, ERR_OK);
    saslsrv_free(&s);
    if (!have_db)
        return;

    /* Every good initial response, cut at every byte. */
    s = server(options());
    struct span plain = SPAN_LIT("\0alice\0secret of alice");
    for (size_t cut = 0; cut < plain.n; cut++)
        (void)one_step(s, "PLAIN", span_sub(plain, 0, cut));
    /* The same exchange object lets the right one in afterwards. */
    struct saslsrv_step step = {.s = s, .mech = "plain", .has_initial = true};
    buf_add(&step.input, plain);
    saslsrv_do(&step);
    assert_int_equal(step.outcome, SASL_SUCCESS);
    assert_string_equal(saslsrv_mech(s), "PLAIN");
    saslsrv_step_clear(&step);
    saslsrv_free(&s);

    s = server(options());
    struct span scram = SPAN_LIT("n,,n=alice,r=fyko+d2lbbFgONRv9qkxdawL");
    for (size_t cut = 0; cut < scram.n; cut++) {
        struct saslsrv *fresh = server(options());
        (void)one_step(fresh, "SCRAM-SHA-1", span_sub(scram, 0, cut));
        saslsrv_free(&fresh);
    }
    saslsrv_free(&s);
}

static void
test_plain_login(void **state)
{
    (void)state;
    if (!have_db)
        skip();
    struct saslsrv *s = server(options());
    struct error err = {0};
    assert_int_equal(
        saslsrv_check_password(s, SPAN_LIT("alice"), SPAN_LIT("wrong"), &err),
        ERR_AUTH);
    assert_int_equal(
        saslsrv_check_password(s, SPAN_LIT("nobody"), SPAN_LIT("x"), &err),
        ERR_AUTH);
    assert_int_equal(saslsrv_check_password(s, SPAN_EMPTY, SPAN_EMPTY, &err),
                     ERR_AUTH);
    assert_int_equal(
        saslsrv_check_password(s, SPAN_LIT("alice\0x"), SPAN_LIT("x"), &err),
        ERR_AUTH);
    assert_string_equal(saslsrv_authorized(s), "");
    ASSERT_OK(saslsrv_check_password(s, SPAN_LIT("alice"),
                                     SPAN_LIT("secret of alice"), &err));
    assert_string_equal(saslsrv_authorized(s), "alice");
    assert_string_equal(saslsrv_authenticated(s), "alice");
    assert_string_equal(saslsrv_mech(s), "LOGIN-COMMAND");
    saslsrv_free(&s);
}

struct run {
    struct saslsrv_step step;
    struct saslsrv_login login;
    atomic_bool step_done, login_done;
};

static void
run_step_done(void *ctx)
{
    assert_non_null(reactor_current());
    atomic_store(&((struct run *)ctx)->step_done, true);
}

static void
run_login_done(void *ctx)
{
    atomic_store(&((struct run *)ctx)->login_done, true);
}

static void
test_many_exchanges_run_on_workers_at_once(void **state)
{
    (void)state;
    if (!have_db)
        skip();
    enum { RUNS = 40 };
    static struct run runs[RUNS];
    struct reactor_pool *pool = start_pool(2);
    for (int i = 0; i < RUNS; i++) {
        struct run *r = &runs[i];
        r->step = (struct saslsrv_step){
            .s = server(options()), .mech = "PLAIN", .has_initial = true};
        if (i % 2 == 0)
            buf_add(&r->step.input, SPAN_LIT("\0alice\0secret of alice"));
        else
            buf_add(&r->step.input, SPAN_LIT("\0alice\0wrong"));
        r->login.s = server(options());
        buf_add_str(&r->login.user, "proxy");
        buf_add_str(&r->login.password, "secret of proxy");
        struct reactor *re = reactor_pool_get(pool, (unsigned)i % 2);
        saslsrv_run(re, &r->step, run_step_done, r);
        saslsrv_run_login(re, &r->login, run_login_done, r);
    }
    for (int i = 0; i < RUNS; i++) {
        struct run *r = &runs[i];
        WAIT_FOR(atomic_load(&r->step_done) && atomic_load(&r->login_done));
        assert_int_equal(r->step.outcome,
                         i % 2 == 0 ? SASL_SUCCESS : SASL_FAILED);
        if (r->login.err.code != ERR_OK)
            fail_msg("login: %s", r->login.err.text);
        assert_int_equal(r->login.password.n, 0);
        saslsrv_step_clear(&r->step);
        buf_free(&r->login.user);
        saslsrv_free(&r->step.s);
        saslsrv_free(&r->login.s);
    }
    reactor_pool_stop(&pool, 0);
}

/* A server that knows no password cannot claim that SCRAM succeeded. */
static void
test_client_wants_the_server_to_prove_itself(void **state)
{
    (void)state;
    struct saslcli *c = NULL;
    struct error err = {0};
    const char *mech;
    bool has_initial;
    struct buf out = BUF_INIT;
    ASSERT_OK(
        saslcli_new(&(struct saslcli_options){.service = "csync",
                                              .hostname = "test.example",
                                              .authname = "alice",
                                              .password = "secret of alice"},
                    &c, &err));
    ASSERT_OK(
        saslcli_start(c, "SCRAM-SHA-256", &mech, &has_initial, &out, &err));
    assert_true(has_initial);
    assert_int_equal(saslcli_finish(c, false, SPAN_EMPTY, &err), ERR_AUTH);
    assert_int_not_equal(
        saslcli_step(c, SPAN_LIT("r=nonsense,s=QQ==,i=1"), &out, &err), ERR_OK);
    saslcli_free(&c);
    buf_free(&out);
}

static void
test_base64(void **state)
{
    (void)state;
    static const struct {
        const char *text, *plain;
    } good[] = {{"", ""},
                {"Zg==", "f"},
                {"Zm8=", "fo"},
                {"Zm9v", "foo"},
                {"Zm9vYmFy", "foobar"}};
    static const char *const bad[] = {
        "Z",    "Zg",     "Zg=",      "Zg==Zg==", "=m9v",
        "Z===", "Zm 9vY", "Zm9v\r\n", "Zm-_",     "===="};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct buf b = BUF_INIT;
        assert_true(sasl_decode_base64(span_str(good[i].text), &b));
        assert_true(span_eq_str(buf_span(&b), good[i].plain));
        buf_clear(&b);
        sasl_encode_base64(span_str(good[i].plain), &b);
        assert_true(span_eq_str(buf_span(&b), good[i].text));
        buf_free(&b);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf b = BUF_INIT;
        assert_false(sasl_decode_base64(span_str(bad[i]), &b));
        assert_int_equal(b.n, 0);
        buf_free(&b);
    }
    struct buf small = BUF_MAX(2);
    assert_false(sasl_decode_base64(SPAN_LIT("Zm9vYmFy"), &small));
    buf_free(&small);
}

/* ---- saslauthd, played: counted strings in, "OK" or "NO" out ---- */

static int mux_fd;

static void
mux_read(int fd, char *to, size_t room)
{
    uint8_t head[2];
    assert_int_equal(recv(fd, head, 2, MSG_WAITALL), 2);
    size_t n = (size_t)head[0] << 8 | head[1];
    assert_true(n < room);
    if (n > 0)
        assert_int_equal(recv(fd, to, n, MSG_WAITALL), (ssize_t)n);
    to[n] = '\0';
}

static void *
mux_main(void *arg)
{
    (void)arg;
    for (int fd; (fd = accept(mux_fd, NULL, NULL)) >= 0; close(fd)) {
        char user[64], password[64], service[64], realm[64];
        mux_read(fd, user, sizeof(user));
        mux_read(fd, password, sizeof(password));
        mux_read(fd, service, sizeof(service));
        mux_read(fd, realm, sizeof(realm));
        bool good = strcmp(user, "carol") == 0 &&
                    strcmp(password, "mux") == 0 &&
                    strcmp(service, "imap") == 0;
        (void)!write(fd, good ? "\0\2OK" : "\0\2NO", 4);
    }
    return NULL;
}

static void
test_saslauthd_decides_and_its_absence_is_temporary(void **state)
{
    (void)state;
    struct config *other = NULL;
    struct error err = {0};
    struct buf text = BUF_INIT;
    pthread_t thread;

    sasl_library_stop();
    buf_addf(&text,
             "sasl_pwcheck_method: saslauthd\nsasl_saslauthd_path: %s\n"
             "sasl_mech_list: PLAIN LOGIN\n",
             mux);
    ASSERT_OK(config_parse(buf_span(&text), "mux", &other, &err));
    ASSERT_OK(sasl_library_start(other, "pollux", &err));
    assert_false(offers(options(), "SCRAM-SHA-1"));
    struct saslsrv *s = server(options());
    assert_int_equal(
        saslsrv_check_password(s, SPAN_LIT("carol"), SPAN_LIT("mux"), &err),
        ERR_AGAIN);

    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path, mux, strlen(mux));
    mux_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(mux_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(mux_fd, 5), 0);
    pthread_create(&thread, NULL, mux_main, NULL);
    ASSERT_OK(
        saslsrv_check_password(s, SPAN_LIT("carol"), SPAN_LIT("mux"), &err));
    assert_int_equal(
        saslsrv_check_password(s, SPAN_LIT("carol"), SPAN_LIT("bad"), &err),
        ERR_AUTH);
    saslsrv_free(&s);
    struct saslcli_options co = {
        .authname = "carol", .password = "mux", .tls_bits = 256};
    assert_int_equal(exchange(options(), co, true).server, SASL_SUCCESS);
    shutdown(mux_fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(mux_fd);
    unlink(mux);

    sasl_library_stop();
    config_free(&other);
    buf_free(&text);
    ASSERT_OK(sasl_library_start(cfg, "pollux", &err));
}

int
main(void)
{
    struct error err = {0};
    struct buf text = BUF_INIT;
    ENSURE(mkdtemp(dir) != NULL);
    snprintf(db, sizeof(db), "%s/sasldb2", dir);
    snprintf(mux, sizeof(mux), "%s/mux", dir);
    have_db = add_user("alice", "secret of alice") &&
              add_user("proxy", "secret of proxy");
    buf_addf(&text,
             "sasl_pwcheck_method: auxprop\nsasl_auxprop_plugin: sasldb\n"
             "sasl_sasldb_path: %s\n",
             db);
    ENSURE(config_parse(buf_span(&text), "test", &cfg, &err) == ERR_OK);
    ENSURE(sasl_library_start(cfg, "pollux", &err) == ERR_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_mechanism_lets_in_and_keeps_out),
        cmocka_unit_test(test_authzid_is_asked_about),
        cmocka_unit_test(test_no_passwords_in_clear_before_tls),
        cmocka_unit_test(test_external_is_the_name_of_the_certificate),
        cmocka_unit_test(test_no_mechanism_in_common),
        cmocka_unit_test(test_broken_exchanges_are_refused),
        cmocka_unit_test(test_plain_login),
        cmocka_unit_test(test_many_exchanges_run_on_workers_at_once),
        cmocka_unit_test(test_client_wants_the_server_to_prove_itself),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_saslauthd_decides_and_its_absence_is_temporary),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sasl_library_stop();
    config_free(&cfg);
    buf_free(&text);
    unlink(db);
    rmdir(dir);
    return failed;
}
