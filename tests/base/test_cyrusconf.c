/*
 * tests/base/test_cyrusconf.c - cyrus.conf: sections, entries over several
 * lines, each key good and bad, and the files of a real site; and what the
 * check of both files prints.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/config_check.h"
#include "base/cyrusconf.h"

#define DATA POLLUX_SOURCE_DIR "/tests/base/data/"

static struct cyrusconf *
parse(const char *text)
{
    struct cyrusconf *conf = NULL;
    struct error err = {0};
    enum errcode rc = cyrusconf_parse(span_str(text), "t", &conf, &err);

    if (rc != ERR_OK)
        fail_msg("%s", err.text);
    return conf;
}

static void
refused(const char *text, const char *says)
{
    struct cyrusconf *conf = NULL;
    struct error err = {0};

    assert_int_equal(cyrusconf_parse(span_str(text), "t", &conf, &err),
                     ERR_SYNTAX);
    assert_string_equal(err.text, says);
    assert_non_null(conf);
    cyrusconf_free(&conf);
    assert_null(conf);
}

static void
test_every_key_is_read(void **state)
{
    (void)state;
    struct cyrusconf *conf = parse(
        "START { r cmd=\"ctl_cyrusdb -r\" wait=yes }\n"
        "SERVICES {\n"
        "  # comment { \"\n"
        "  imap cmd=\"imapd  -U\t50\" listen=\"[::1]:imap\" proto=tcp6\n"
        "    prefork=1 maxchild=20 maxfds=1024 maxforkrate=3 babysit=1 # c\n"
        "  lmtp cmd=lmtpd listen=/run/a\\\n"
        "}\n"
        "EVENTS { e cmd=\"x \\\"y\\\" \\\\ \\z\" at=0005 f cmd=y period=30 }\n"
        "daemon{s cmd=\"sync_client -r\" wait=n maxfds=10}");
    size_t n;
    const struct cyrusconf_entry *e = cyrusconf_entries(conf, &n);

    assert_int_equal(n, 6);
    assert_int_equal(e[0].section, CYRUS_START);
    assert_string_equal(e[0].name, "r");
    assert_string_equal(e[0].cmd, "ctl_cyrusdb -r");
    assert_true(e[0].wait);
    assert_string_equal(e[0].file, "t");
    assert_int_equal(e[0].line, 1);

    assert_int_equal(e[1].section, CYRUS_SERVICES);
    assert_int_equal(e[1].line, 4);
    assert_string_equal(e[1].argv[0], "imapd");
    assert_string_equal(e[1].argv[1], "-U");
    assert_string_equal(e[1].argv[2], "50");
    assert_null(e[1].argv[3]);
    assert_string_equal(e[1].listen, "[::1]:imap");
    assert_string_equal(e[1].proto, "tcp6");
    assert_int_equal(e[1].prefork, 1);
    assert_int_equal(e[1].maxchild, 20);
    assert_int_equal(e[1].maxfds, 1024);
    assert_int_equal(e[1].maxforkrate, 3);
    assert_true(e[1].babysit);

    assert_string_equal(e[2].listen, "/run/a\\");
    assert_string_equal(e[2].proto, "tcp");
    assert_int_equal(e[2].prefork, 0);
    assert_int_equal(e[2].maxchild, -1);
    assert_int_equal(e[2].maxfds, -1);
    assert_int_equal(e[2].maxforkrate, 0);
    assert_false(e[2].babysit);
    assert_int_equal(e[2].at_hhmm, -1);

    assert_string_equal(e[3].cmd, "x \"y\" \\ \\z");
    assert_int_equal(e[3].at_hhmm, 5);
    assert_int_equal(e[3].period_min, 0);
    assert_int_equal(e[4].period_min, 30);
    assert_int_equal(e[4].at_hhmm, -1);
    assert_int_equal(e[5].section, CYRUS_DAEMON);
    assert_false(e[5].wait);
    assert_int_equal(e[5].maxfds, 10);
    cyrusconf_free(&conf);
}

static void
test_sections_and_braces(void **state)
{
    (void)state;
    size_t n;
    struct cyrusconf *conf = parse("START {\n}\nSERVICES\n{ }\n# end\n");
    (void)cyrusconf_entries(conf, &n);
    assert_int_equal(n, 0);
    cyrusconf_free(&conf);

    refused("SERVICE { a cmd=b }",
            "t:1: unknown section SERVICE, did you mean SERVICES?");
    refused("NOTHING { a cmd=b }", "t:1: unknown section NOTHING");
    refused("START a cmd=b }", "t:1: \"{\" is missing behind START");
    refused("START {\n a cmd=b\n", "t:3: the file ends inside START");
    refused("START {\n a cmd=b\nSERVICES {\n}\n",
            "t:3: the section before SERVICES is not closed");
    refused("START { { }", "t:1: a brace inside a section; is the one before "
                           "not closed?");
    refused("}", "t:1: a brace without a section");
    refused("cmd=x", "t:1: cmd= stands outside of any section");
    refused("START { cmd=x }", "t:1: cmd= stands before any entry");
}

static void
test_keys_that_are_unknown_missing_or_out_of_place(void **state)
{
    (void)state;
    refused("SERVICES {\n a cmd=b lisetn=c }",
            "t:2: unknown key lisetn, did you mean listen?");
    refused("START { a cmd=b whatever=c }", "t:1: unknown key whatever");
    refused("START { a cmd=b listen=c }", "t:1: listen= has no place in START");
    refused("SERVICES { a cmd=b listen=c at=0100 }",
            "t:1: at= has no place in SERVICES");
    refused("START {\n a\n}", "t:2: a has no cmd=");
    refused("SERVICES {\n\n a cmd=b\n}", "t:3: a has no listen=");
    refused("SERVICES { a cmd=b listen=c\n a cmd=d listen=e }",
            "t:2: there is a service a in line 1 already");
    refused("START { a cmd=\"\" }", "t:1: cmd=\"\": a command is wanted");
    refused("START { \"a\" cmd=x }", "t:1: \"\"\" is no name of an entry");
    refused("START { a/b cmd=x }", "t:1: \"a/b\" is no name of an entry");
}

static void
test_values_of_the_wrong_type(void **state)
{
    (void)state;
#define SERVICE(key) "SERVICES { a cmd=b listen=c " key " }"
    refused(SERVICE("prefork=x"), "t:1: prefork=\"x\": a number is wanted");
    refused(SERVICE("prefork=-1"), "t:1: prefork=\"-1\": a number is wanted");
    refused(SERVICE("maxchild=-2"), "t:1: maxchild=\"-2\": a number is wanted");
    refused(SERVICE("maxfds=1e3"), "t:1: maxfds=\"1e3\": a number is wanted");
    refused(SERVICE("maxforkrate="),
            "t:1: maxforkrate=\"\": a number is wanted");
    refused(SERVICE("babysit=2"), "t:1: babysit=\"2\": yes or no is wanted");
    refused(SERVICE("proto=sctp"), "t:1: proto=\"sctp\": tcp, tcp4, tcp6, udp, "
                                   "udp4 or udp6 is wanted");
    refused("SERVICES { a cmd=b listen=\"c d\" }",
            "t:1: listen=\"c d\": [host:]port or /path is wanted");
    refused("EVENTS { a cmd=b at=2400 }", "t:1: at=\"2400\": hhmm is wanted");
    refused("EVENTS { a cmd=b at=0160 }", "t:1: at=\"0160\": hhmm is wanted");
    refused("EVENTS { a cmd=b at=01000 }", "t:1: at=\"01000\": hhmm is wanted");
    refused("EVENTS { a cmd=b period=-1 }",
            "t:1: period=\"-1\": minutes is wanted");
    refused("DAEMON { a cmd=b wait=x }",
            "t:1: wait=\"x\": yes or no is wanted");
}

static void
test_open_quote_is_reported_where_it_was_opened(void **state)
{
    (void)state;
    refused("START {\n a cmd=\"x\n b cmd=y\n}\n",
            "t:2: the quote opened here is never closed");

    struct buf text = BUF_INIT;
    buf_add_str(&text, "START {\n a cmd=\"x");
    for (int i = 0; i < 4100; i++)
        buf_add_byte(&text, 'x');
    buf_add_str(&text, "\" }");
    refused(buf_cstr(&text), "t:2: a value of more than 4096 bytes");
    buf_free(&text);

    struct cyrusconf *conf = NULL;
    struct error err = {0};
    assert_int_equal(
        cyrusconf_parse(SPAN_LIT("START { a cmd=\"x\0\" }"), "t", &conf, &err),
        ERR_SYNTAX);
    assert_string_equal(err.text, "t:1: a value with a NUL byte in it");
    cyrusconf_free(&conf);
}

static void
test_bounds(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    struct cyrusconf *conf = NULL;
    struct error err = {0};

    buf_add_str(&text, "START {\n");
    for (int i = 0; i < 1025; i++)
        buf_addf(&text, "a%d cmd=x\n", i);
    buf_add_str(&text, "}");
    refused(buf_cstr(&text), "t:1026: more than 1024 entries");
    while (text.n <= 1U << 20)
        buf_add_str(&text, "# a comment that makes the file too long\n");
    assert_int_equal(cyrusconf_parse(buf_span(&text), "t", &conf, &err),
                     ERR_LIMIT);
    assert_null(conf);
    buf_free(&text);

    assert_int_equal(
        cyrusconf_read(env_system(), "/nowhere/at/all", &conf, &err),
        ERR_NOTFOUND);
    assert_null(conf);
}

static void
test_events_without_time_or_with_two_are_warned_of(void **state)
{
    (void)state;
    size_t n;
    struct cyrusconf *conf =
        parse("EVENTS { a cmd=b c cmd=d at=1 period=2 cmd=e }");
    const struct config_finding *f = cyrusconf_findings(conf, &n);

    assert_int_equal(n, 3);
    assert_int_equal(f[0].severity, CONFIG_WARNING);
    assert_string_equal(
        f[0].text, "a has neither at= nor period=: it runs once, at the start");
    assert_string_equal(f[1].text, "cmd= is given twice; this one counts");
    assert_string_equal(f[2].text, "c has both at= and period=: at= counts");
    cyrusconf_free(&conf);
}

static void
test_files_of_a_real_site_are_taken_as_they_stand(void **state)
{
    (void)state;
    struct cyrusconf *conf = NULL;
    struct error err = {0};
    size_t n;

    assert_int_equal(
        cyrusconf_read(env_system(), DATA "cyrus_be.conf", &conf, &err),
        ERR_OK);
    const struct cyrusconf_entry *e = cyrusconf_entries(conf, &n);
    assert_int_equal(n, 14);
    assert_string_equal(e[4].name, "beimaps");
    assert_string_equal(e[4].argv[5], "/etc/imapd_be.conf");
    assert_string_equal(e[4].listen, "ma01.mail.localhost:imaps");
    assert_int_equal(e[4].maxfds, 1024);
    assert_string_equal(e[9].listen, "/srv/cyrus-be/socket/lmtp");
    assert_int_equal(e[10].period_min, 30);
    assert_int_equal(e[13].at_hhmm, 2200);
    cyrusconf_free(&conf);

    assert_int_equal(
        cyrusconf_read(env_system(), DATA "cyrus_re.conf", &conf, &err),
        ERR_OK);
    (void)cyrusconf_entries(conf, &n);
    assert_int_equal(n, 5);
    cyrusconf_free(&conf);
}

static void
test_file_cut_anywhere_is_read_or_refused(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    struct error err = {0};

    assert_int_equal(
        env_read_file(env_system(), DATA "cyrus_be.conf", 65536, &text, &err),
        ERR_OK);
    for (size_t cut = 0; cut <= text.n; cut++) {
        struct cyrusconf *conf = NULL;
        uint8_t *copy = xmalloc(cut);
        memcpy(copy, text.p, cut);
        enum errcode rc = cyrusconf_parse(span_of(copy, cut), "t", &conf, &err);
        assert_true(rc == ERR_OK ||
                    (rc == ERR_SYNTAX && strncmp(err.text, "t:", 2) == 0));
        cyrusconf_free(&conf);
        free(copy);
    }
    buf_free(&text);
}

/* ---- the check of both ---- */

static void
test_check_prints_errors_then_what_has_no_effect(void **state)
{
    (void)state;
    struct config *cfg = NULL;
    struct cyrusconf *conf = NULL;
    struct error err = {0};
    struct buf to = BUF_INIT;

    assert_int_equal(config_parse(SPAN_LIT("configdirectory: /x\n"
                                           "hashimapspool: 1\n"
                                           "tmeout: 3\n"
                                           "timeout: 5\n"),
                                  "imapd.conf", &cfg, &err),
                     ERR_SYNTAX);
    assert_int_equal(
        cyrusconf_parse(SPAN_LIT("SERVICES { a cmd=b listen=c prefork=1\n"
                                 "d cmd=e listen=c }"),
                        "cyrus.conf", &conf, &err),
        ERR_OK);
    assert_false(config_check_print(cfg, conf, &to));
    assert_string_equal(
        buf_cstr(&to),
        "imapd.conf:3: error: unknown option tmeout, did you mean timeout?\n"
        "imapd.conf:4: warning: timeout: 1800 s is the least: that is used\n"
        "cyrus.conf:2: error: d listens on c as a does\n"
        "accepted without effect:\n"
        "  imapd.conf:2: hashimapspool has no meaning here\n"
        "  cyrus.conf:1: prefork= has no meaning here: services share one "
        "process\n"
        "2 errors, 1 warnings, 2 without effect\n");
    buf_free(&to);
    config_free(&cfg);
    cyrusconf_free(&conf);
}

static void
test_check_warns_of_overrides_that_override_nothing(void **state)
{
    (void)state;
    struct config *cfg = NULL;
    struct cyrusconf *conf = NULL;
    struct error err = {0};
    struct buf to = BUF_INIT;

    assert_int_equal(config_parse(SPAN_LIT("sync_log_channels: b2\n"
                                           "imap_timeout: 1h\n"
                                           "imap_idle_timeout: 1h\n"
                                           "b2_sync_host: h\n"
                                           "b3_sync_host: h\n"
                                           "b2_sync_log: yes\n"
                                           "lmtp_sasl_mech_list: PLAIN\n"),
                                  "i", &cfg, &err),
                     ERR_OK);
    assert_int_equal(
        cyrusconf_parse(SPAN_LIT("SERVICES { imap cmd=b listen=c }"), "c",
                        &conf, &err),
        ERR_OK);
    assert_true(config_check_print(cfg, conf, &to));
    assert_string_equal(
        buf_cstr(&to),
        "i:3: warning: imap_idle_timeout: there is no service of the name "
        "imap_idle: it does nothing\n"
        "i:5: warning: b3_sync_host: there is no channel in sync_log_channels "
        "and no service of the name b3: it does nothing\n"
        "i:6: warning: b2_sync_log: b2 is a channel, and sync_log is the same "
        "for all channels\n"
        "i:7: warning: lmtp_sasl_...: there is no service of the name lmtp: "
        "it does nothing\n"
        "accepted without effect:\n"
        "  i:6: b2_sync_log has no meaning here\n"
        "0 errors, 4 warnings, 1 without effect\n");
    buf_clear(&to);
    assert_true(config_check_print(NULL, NULL, &to));
    buf_free(&to);
    config_free(&cfg);
    cyrusconf_free(&conf);
}

static void
test_check_passes_the_files_of_a_real_site(void **state)
{
    (void)state;
    static const char *const files[][2] = {
        {DATA "imapd_be.conf", DATA "cyrus_be.conf"},
        {DATA "imapd_re.conf", DATA "cyrus_re.conf"},
    };

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct config *cfg = NULL;
        struct cyrusconf *conf = NULL;
        struct error err = {0};
        struct buf to = BUF_INIT;

        assert_int_equal(config_read(env_system(), files[i][0], &cfg, &err),
                         ERR_OK);
        assert_int_equal(cyrusconf_read(env_system(), files[i][1], &conf, &err),
                         ERR_OK);
        assert_true(config_check_print(cfg, conf, &to));
        assert_non_null(strstr(buf_cstr(&to), "0 errors, 0 warnings, "));
        assert_non_null(strstr(buf_cstr(&to), "proc_path has no meaning here"));
        buf_free(&to);
        config_free(&cfg);
        cyrusconf_free(&conf);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key_is_read),
        cmocka_unit_test(test_sections_and_braces),
        cmocka_unit_test(test_keys_that_are_unknown_missing_or_out_of_place),
        cmocka_unit_test(test_values_of_the_wrong_type),
        cmocka_unit_test(test_open_quote_is_reported_where_it_was_opened),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_events_without_time_or_with_two_are_warned_of),
        cmocka_unit_test(test_files_of_a_real_site_are_taken_as_they_stand),
        cmocka_unit_test(test_file_cut_anywhere_is_read_or_refused),
        cmocka_unit_test(test_check_prints_errors_then_what_has_no_effect),
        cmocka_unit_test(test_check_warns_of_overrides_that_override_nothing),
        cmocka_unit_test(test_check_passes_the_files_of_a_real_site),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
