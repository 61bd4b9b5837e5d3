/*
 * tests/lmtpd/test_options.c - imapd.conf becomes the service's options.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/config.h"
#include "lmtpd/lmtpd.h"
#include "store/autocreate.h"

struct read {
    struct config *cfg;
    struct arena a;
    struct lmtpd_options opt;
};

static void
read_options(struct read *r, const char *text,
             const struct lmtpd_listener *listener)
{
    struct error err = {0};

    *r = (struct read){0};
    if (config_parse(span_str(text), "test", &r->cfg, &err) != ERR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(lmtpd_options_from_config(r->cfg, env_system(), NULL,
                                               listener, &r->a, &r->opt, &err),
                     ERR_OK);
}

static void
read_end(struct read *r)
{
    config_free(&r->cfg);
    arena_free(&r->a);
}

static void
test_defaults_are_those_of_cyrus(void **state)
{
    struct read r;
    (void)state;

    read_options(&r, "servername: be1\n", NULL);
    assert_string_equal(r.opt.servername, "be1");
    assert_int_equal(r.opt.ns.sep, '/');
    assert_true(r.opt.dedup && r.opt.downcase_rcpt && r.opt.soft_noauth);
    assert_false(r.opt.preauth || r.opt.starttls);
    assert_false(r.opt.over_quota_permanent || r.opt.allow_plain);
    assert_false(r.opt.autocreate->on_post);
    assert_string_equal(r.opt.postuser, "");
    assert_int_equal(r.opt.recipients_max, 1000);
    assert_true(r.opt.message_bytes_max > UINT64_C(1) << 31);
    read_end(&r);
}

static void
test_values_are_taken_over(void **state)
{
    struct read r;
    const struct lmtpd_listener listener = {.service = "lmtp", .preauth = true};
    (void)state;

    read_options(&r,
                 "servername: be1\nunixhierarchysep: no\npostuser: bb\n"
                 "duplicatesuppression: no\nlmtp_downcase_rcpt: no\n"
                 "lmtp_over_quota_perm_failure: yes\nsoft_noauth: no\n"
                 "maxmessagesize: 10M\nautocreate_quota: 0\n"
                 "createonpost: yes\nallowplaintext: yes\n",
                 &listener);
    assert_int_equal(r.opt.ns.sep, '.');
    assert_string_equal(r.opt.postuser, "bb");
    assert_false(r.opt.dedup || r.opt.downcase_rcpt || r.opt.soft_noauth);
    assert_true(r.opt.over_quota_permanent && r.opt.preauth);
    assert_true(r.opt.autocreate->on_post && r.opt.allow_plain);
    assert_int_equal(r.opt.message_bytes_max, 10 << 20);
    read_end(&r);
}

static void
test_who_may_deliver(void **state)
{
    static const struct {
        const char *service;
        const char *first;
    } cases[] = {{NULL, "postman"},
                 {"lmtp", "postman"},
                 {"lmtpunix", "postman"},
                 {"lmtptls", "tls"}};
    struct read r;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct lmtpd_listener listener = {.service = cases[i].service};
        read_options(&r,
                     "admins: cyrus\nlmtp_admins: postman mta\n"
                     "lmtptls_admins: tls\n",
                     &listener);
        assert_string_equal(r.opt.admins[0], cases[i].first);
        read_end(&r);
    }
    read_options(&r, "admins: cyrus\n", NULL);
    assert_string_equal(r.opt.admins[0], "cyrus");
    read_end(&r);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_those_of_cyrus),
        cmocka_unit_test(test_values_are_taken_over),
        cmocka_unit_test(test_who_may_deliver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
