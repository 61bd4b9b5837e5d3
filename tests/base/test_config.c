/*
 * tests/base/test_config.c - imapd.conf: each type with good and bad values,
 * names, overrides, free forms, includes, and the files of a real site.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/config.h"

static struct config *
parse(const char *text)
{
    struct config *cfg = NULL;
    struct error err = {0};
    enum errcode rc = config_parse(span_str(text), "t", &cfg, &err);

    if (rc != ERR_OK)
        fail_msg("%s", err.text);
    return cfg;
}

/* TEXT is refused, and the first error is SAYS. */
static void
refused(const char *text, const char *says)
{
    struct config *cfg = NULL;
    struct error err = {0};

    assert_int_equal(config_parse(span_str(text), "t", &cfg, &err), ERR_SYNTAX);
    assert_string_equal(err.text, says);
    assert_non_null(cfg);
    config_free(&cfg);
    assert_null(cfg);
}

/* Is there a finding of SEVERITY on LINE with PART in its text? */
static bool
has_finding(const struct config *cfg, enum config_severity severity,
            unsigned line, const char *part)
{
    size_t n;
    const struct config_finding *f = config_findings(cfg, &n);

    for (size_t i = 0; i < n; i++) {
        if (f[i].severity == severity && f[i].line == line &&
            strstr(f[i].text, part) != NULL)
            return true;
    }
    return false;
}

static void
test_table_is_sorted_and_each_row_is_whole(void **state)
{
    (void)state;
    size_t n;
    const struct config_option *all = config_options(&n);

    assert_true(n > 500);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && strcmp(all[i - 1].name, all[i].name) >= 0)
            fail_msg("%s stands wrong", all[i].name);
        bool words =
            all[i].type == CONFIG_ENUM || all[i].type == CONFIG_BITFIELD;
        assert_true(words == (all[i].words != NULL));
        assert_non_null(all[i].help);
        if (all[i].type == CONFIG_DURATION)
            assert_non_null(strchr("smhd", all[i].unit));
        if (all[i].type == CONFIG_BYTES)
            assert_non_null(strchr("BKMG", all[i].unit));
        for (unsigned w = 0; words && all[i].words[w] != NULL; w++)
            assert_true(w < 64);
    }
}

/* Every row answers by its own type, old names as the new ones. */
static void
test_every_default_can_be_read(void **state)
{
    (void)state;
    struct config *cfg = parse("");
    size_t n;
    const struct config_option *all = config_options(&n);

    for (size_t i = 0; i < n; i++) {
        const char *name = all[i].name;
        assert_false(config_is_set(cfg, name));
        switch (all[i].type) {
        case CONFIG_STRING:
            (void)config_string(cfg, name);
            break;
        case CONFIG_INT:
            (void)config_int(cfg, name);
            break;
        case CONFIG_SWITCH:
            (void)config_switch(cfg, name);
            break;
        case CONFIG_ENUM:
            (void)config_enum(cfg, name);
            break;
        case CONFIG_BITFIELD:
            (void)config_bits(cfg, name);
            break;
        case CONFIG_DURATION:
            (void)config_duration_s(cfg, name);
            break;
        case CONFIG_BYTES:
            (void)config_bytes(cfg, name);
            break;
        case CONFIG_LIST:
            assert_non_null(config_list(cfg, name));
            break;
        }
    }
    assert_true(config_duration_s(cfg, "timeout") == 32 * 60);
    assert_true(config_duration_s(cfg, "imapidletimeout") == 32 * 60);
    assert_true(config_switch(cfg, "unixhierarchysep"));
    assert_string_equal(config_string(cfg, "userprefix"), "Other Users");
    assert_null(config_string(cfg, "lmtpsocket")); /* no configdirectory */
    assert_true(config_bytes(cfg, "sync_segment_bytes") == 64U << 20);
    assert_true(config_duration_s(cfg, "duplicate_keep") == 14 * 86400);
    assert_int_equal(config_int(cfg, "max_connections"), 20000);
    config_free(&cfg);
}

static void
test_syntax_blanks_comments_case_and_continued_lines(void **state)
{
    (void)state;
    struct config *cfg = parse("\n# comment \\\n"
                               "  ConfigDirectory:   /srv/x  \r\n"
                               "admins:\\\n a \\\n b\\\nc\n"
                               "servername : host # not a comment\n"
                               "userprefix: last line without end\\");

    assert_string_equal(config_string(cfg, "configdirectory"), "/srv/x");
    assert_string_equal(config_string(cfg, "lmtpsocket"), "/srv/x/socket/lmtp");
    const char *const *admins = config_list(cfg, "admins");
    assert_string_equal(admins[0], "a");
    assert_string_equal(admins[1], "bc");
    assert_null(admins[2]);
    assert_string_equal(config_string(cfg, "servername"),
                        "host # not a comment");
    assert_string_equal(config_string(cfg, "userprefix"),
                        "last line without end");
    config_free(&cfg);

    refused("\n\nhello\n",
            "t:3: \"name: value\" is wanted, and the line starts with "
            "\"hello\"");
    refused(": x\n", "t:1: \"name: value\" is wanted, and the line starts "
                     "with \":\"");
    refused("admins:\n", "t:1: admins has no value");
    refused("admins: a\\\n b\nnonsense", /* lines are counted through */
            "t:3: \"name: value\" is wanted, and the line starts with "
            "\"nonsense\"");

    struct config *bad = NULL;
    struct error err = {0};
    assert_int_equal(config_parse(SPAN_LIT("admins: a\0b\n"), "t", &bad, &err),
                     ERR_SYNTAX);
    assert_string_equal(err.text, "t:1: the line has a NUL byte in it");
    config_free(&bad);
}

static void
test_unknown_option_is_refused_with_the_nearest_named(void **state)
{
    (void)state;
    refused("admin: x\n", "t:1: unknown option admin, did you mean admins?");
    refused("sync_lgo: 1\n",
            "t:1: unknown option sync_lgo, did you mean sync_log?");
    refused("imap_timeuot: 1\n",
            "t:1: unknown option imap_timeuot, did you mean imap_timeout?");
    refused("quite_something_else: 1\n",
            "t:1: unknown option quite_something_else");
    refused("partition-: /x\n", "t:1: unknown option partition-");
}

static void
test_switches(void **state)
{
    (void)state;
    static const char *const on[] = {"yes", "on", "t",    "true",
                                     "1",   "y",  "TRUE", "On"};
    static const char *const off[] = {"no", "off", "f", "false", "0", "n"};
    char text[64];

    for (size_t i = 0; i < ARRAY_LEN(on); i++) {
        snprintf(text, sizeof(text), "sync_log: %s", on[i]);
        struct config *cfg = parse(text);
        assert_true(config_switch(cfg, "sync_log"));
        config_free(&cfg);
    }
    for (size_t i = 0; i < ARRAY_LEN(off); i++) {
        snprintf(text, sizeof(text), "altnamespace: %s", off[i]);
        struct config *cfg = parse(text);
        assert_false(config_switch(cfg, "altnamespace"));
        config_free(&cfg);
    }
    refused("sync_log: yess", "t:1: sync_log: \"yess\" is neither yes nor no");
    refused("sync_log: 2", "t:1: sync_log: \"2\" is neither yes nor no");
}

static void
test_numbers(void **state)
{
    (void)state;
    struct config *cfg = parse("autocreate_quota: -1\nquotawarn: 80\n"
                               "mupdate_port: 65535\n");
    assert_int_equal(config_int(cfg, "autocreate_quota"), -1);
    assert_int_equal(config_int(cfg, "quotawarn"), 80);
    assert_int_equal(config_int(cfg, "mupdate_port"), 65535);
    config_free(&cfg);
    refused("quotawarn: 8x", "t:1: quotawarn: \"8x\" is not a number");
    refused("quotawarn: -", "t:1: quotawarn: \"-\" is not a number");
    refused("quotawarn: 9223372036854775808",
            "t:1: quotawarn: \"9223372036854775808\" is not a number");
    refused("mupdate_port: 65536",
            "t:1: mupdate_port: 65536 is not between 1 and 65535");
    refused("reactor_threads: -1",
            "t:1: reactor_threads: -1 is not between 0 and 1024");
}

static void
test_enums_take_words_and_for_on_and_off_the_switch_words(void **state)
{
    (void)state;
    struct config *cfg = parse("virtdomains: Yes\ntls_client_certs: require\n"
                               "log_level: warn\nserverinfo: 0\n"
                               "sync_ack: durable\n");
    assert_int_equal(config_enum(cfg, "virtdomains"), 2);
    assert_int_equal(config_enum(cfg, "tls_client_certs"), 2);
    assert_int_equal(config_enum(cfg, "log_level"), 3);
    assert_int_equal(config_enum(cfg, "serverinfo"), 0);
    assert_int_equal(config_enum(cfg, "sync_ack"), 2);
    assert_int_equal(config_enum(cfg, "log_target"), 2);
    config_free(&cfg);
    refused("tls_client_certs: requird",
            "t:1: tls_client_certs: \"requird\" is unknown, did you mean "
            "\"require\"?");
    refused("delete_mode: yes", "t:1: delete_mode: \"yes\" is unknown, it may "
                                "be immediate, delayed");
}

static void
test_bitfields(void **state)
{
    (void)state;
    struct config *cfg =
        parse("tls_versions: tls1_3 TLS1_2\n"
              "sieve_extensions: imapflags x-cyrus-snooze fileinto\n");
    assert_true(config_bits(cfg, "tls_versions") == (1U << 4 | 1U << 5));
    assert_true(config_bits(cfg, "sieve_extensions") ==
                (UINT64_C(1) << 0 | UINT64_C(1) << 15 | UINT64_C(1) << 32));
    assert_true(config_bits(cfg, "metapartition_files") == 0);
    config_free(&cfg);
    refused("tls_versions: tls1_2 tls1_4",
            "t:1: tls_versions: \"tls1_4\" is unknown, did you mean "
            "\"tls1_0\"?");
}

static void
test_durations(void **state)
{
    (void)state;
    struct config *cfg = parse("timeout: 45\npoptimeout: 1h30m\n"
                               "duplicate_keep: 3d12h\nsync_timeout: 90s\n"
                               "popexpiretime: -1\narchive_after: 2\n"
                               "failedloginpause: 1m1\n");
    assert_true(config_duration_s(cfg, "timeout") == 45 * 60);
    assert_true(config_duration_s(cfg, "imapidletimeout") == 45 * 60);
    assert_false(config_is_set(cfg, "imapidletimeout"));
    assert_true(config_duration_s(cfg, "poptimeout") == 5400);
    assert_true(config_duration_s(cfg, "duplicate_keep") == 84 * 3600);
    assert_true(config_duration_s(cfg, "sync_timeout") == 90);
    assert_true(config_duration_s(cfg, "popexpiretime") == CONFIG_FOREVER);
    assert_true(config_duration_s(cfg, "archive_after") == 2 * 86400);
    assert_true(config_duration_s(cfg, "failedloginpause") == 61);
    config_free(&cfg);

    /* One that is a switch as well. */
    static const struct {
        const char *text;
        uint64_t want;
    } kept[] = {
        {"", 0},
        {"sync_keep_history: no", 0},
        {"sync_keep_history: off", 0},
        {"sync_keep_history: 0", 0},
        {"sync_keep_history: yes", CONFIG_FOREVER},
        {"sync_keep_history: on", CONFIG_FOREVER},
        {"sync_keep_history: -1", CONFIG_FOREVER},
        {"sync_keep_history: 1", 86400},
        {"sync_keep_history: 12h", 12 * 3600},
    };
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        cfg = parse(kept[i].text);
        assert_true(config_duration_s(cfg, "sync_keep_history") ==
                    kept[i].want);
        config_free(&cfg);
    }
    refused("sync_keep_history: maybe",
            "t:1: sync_keep_history: \"maybe\" is not a duration as 90s, 32m, "
            "1d12h");
    refused("timeout: yes", "t:1: timeout: \"yes\" is not a duration as 90s, "
                            "32m, 1d12h");

    cfg = parse("timeout: 5\ntls_session_timeout: 3d");
    assert_true(config_duration_s(cfg, "timeout") == 30 * 60);
    assert_true(has_finding(cfg, CONFIG_WARNING, 1,
                            "timeout: 1800 s is the least: that is used"));
    assert_true(config_duration_s(cfg, "tls_session_timeout") == 86400);
    assert_true(has_finding(cfg, CONFIG_WARNING, 2, "86400 s is the most"));
    config_free(&cfg);

    refused("timeout: 3x", "t:1: timeout: \"3x\" is not a duration as 90s, "
                           "32m, 1d12h");
    refused("timeout: m", "t:1: timeout: \"m\" is not a duration as 90s, 32m, "
                          "1d12h");
    refused("timeout: 1d 2h", "t:1: timeout: \"1d 2h\" is not a duration as "
                              "90s, 32m, 1d12h");
    refused("timeout: -5",
            "t:1: timeout: a duration that is not negative is wanted");
    refused("duplicate_keep: 99999999999999999d",
            "t:1: duplicate_keep: \"99999999999999999d\" is not a duration as "
            "90s, 32m, 1d12h");
}

static void
test_sizes(void **state)
{
    (void)state;
    struct config *cfg = parse("maxmessagesize: 52428800\nmaxword: 8k\n"
                               "archive_maxsize: 2048\nrocksdb_cache: 1G512M\n"
                               "sync_segment_bytes: 16MiB\nmaxquoted: 100B\n");
    assert_true(config_bytes(cfg, "maxmessagesize") == 52428800);
    assert_true(config_bytes(cfg, "maxword") == 8192);
    assert_true(config_bytes(cfg, "archive_maxsize") == 2048 * 1024);
    assert_true(config_bytes(cfg, "rocksdb_cache") == UINT64_C(1536) << 20);
    assert_true(config_bytes(cfg, "sync_segment_bytes") == 16U << 20);
    assert_true(config_bytes(cfg, "maxquoted") == 100);
    config_free(&cfg);

    cfg = parse("sync_segment_bytes: 1");
    assert_true(config_bytes(cfg, "sync_segment_bytes") == 65536);
    assert_true(
        has_finding(cfg, CONFIG_WARNING, 1, "65536 bytes is the least"));
    config_free(&cfg);

    refused("maxword: 8X",
            "t:1: maxword: \"8X\" is not a size as 8192, 512K, 64M, 2G");
    refused("maxword: -8",
            "t:1: maxword: \"-8\" is not a size as 8192, 512K, 64M, 2G");
    refused("maxword: 99999999999G", "t:1: maxword: \"99999999999G\" is not a "
                                     "size as 8192, 512K, 64M, 2G");
}

static void
test_lists(void **state)
{
    (void)state;
    struct config *cfg =
        parse("sync_log_channels: \"\" b2  squatter\n"
              "autocreate_inbox_folders: Drafts | Sent Items || Trash|\n");
    const char *const *w = config_list(cfg, "sync_log_channels");
    assert_string_equal(w[0], "");
    assert_string_equal(w[1], "b2");
    assert_string_equal(w[2], "squatter");
    assert_null(w[3]);
    w = config_list(cfg, "autocreate_inbox_folders");
    assert_string_equal(w[0], "Drafts");
    assert_string_equal(w[1], "Sent Items");
    assert_string_equal(w[2], "Trash");
    assert_null(w[3]);
    assert_null(config_list(cfg, "admins")[0]);
    assert_string_equal(config_list(cfg, "autocreate_users")[0], "anyone");
    config_free(&cfg);
}

static void
test_later_line_wins_and_is_warned_of(void **state)
{
    (void)state;
    struct config *cfg = parse("servername: a\nservername: b\n"
                               "sasl_x: 1\nsasl_x: 2\n"
                               "imap_admins: a\nimap_admins: b\n");
    assert_string_equal(config_string(cfg, "servername"), "b");
    assert_string_equal(config_free_form(cfg, "sasl_x"), "2");
    assert_string_equal(config_service_list(cfg, "imap", "admins")[0], "b");
    assert_true(has_finding(cfg, CONFIG_WARNING, 2, "set in line 1 already"));
    assert_true(has_finding(cfg, CONFIG_WARNING, 4, "set in line 3 already"));
    assert_true(has_finding(cfg, CONFIG_WARNING, 6, "set in line 5 already"));
    config_free(&cfg);
}

static void
test_old_names_set_the_new_option(void **state)
{
    (void)state;
    struct config *cfg = parse("createonpost: 1\nautocreatequota: 1000\n"
                               "imap_tls_cert_file: /x.pem\n");
    assert_true(config_switch(cfg, "autocreate_post"));
    assert_true(config_switch(cfg, "createonpost"));
    assert_true(config_is_set(cfg, "autocreate_post"));
    assert_int_equal(config_int(cfg, "autocreate_quota"), 1000);
    assert_null(config_string(cfg, "tls_server_cert"));
    assert_string_equal(config_service_string(cfg, "imap", "tls_server_cert"),
                        "/x.pem");
    assert_true(has_finding(cfg, CONFIG_WARNING, 1,
                            "createonpost is now called autocreate_post"));
    config_free(&cfg);
}

static void
test_service_overrides_and_their_fallback(void **state)
{
    (void)state;
    struct config *cfg = parse("timeout: 40\nimap_timeout: 1h\nadmins: root\n"
                               "lmtp_admins: mta postfix\nbeimap_sasl_x: y\n"
                               "sasl_x: z\nlmtp_duplicatesuppression: no\n"
                               "lmtp_maxmessagesize: 1M\n"
                               "imap_tls_client_certs: off\n"
                               "imap_autocreate_quota: 5\n"
                               "configdirectory: /c\n"
                               "imap_syslog_prefix: {configdirectory}/x\n");
    assert_true(config_service_duration_s(cfg, "imap", "timeout") == 3600);
    assert_true(config_service_duration_s(cfg, "imaps", "timeout") == 2400);
    assert_true(config_duration_s(cfg, "timeout") == 2400);
    assert_string_equal(config_service_list(cfg, "lmtp", "admins")[1],
                        "postfix");
    assert_string_equal(config_service_list(cfg, NULL, "admins")[0], "root");
    assert_string_equal(config_service_string(cfg, "LMTP", "admins"),
                        "mta postfix");
    assert_string_equal(config_service_free_form(cfg, "beIMAP", "sasl_x"), "y");
    assert_string_equal(config_service_free_form(cfg, "other", "sasl_x"), "z");
    assert_null(config_service_free_form(cfg, "other", "sasl_y"));
    assert_false(config_service_switch(cfg, "lmtp", "duplicatesuppression"));
    assert_true(config_service_switch(cfg, "", "duplicatesuppression"));
    assert_true(config_service_bytes(cfg, "lmtp", "maxmessagesize") == 1 << 20);
    assert_int_equal(config_service_enum(cfg, "imap", "tls_client_certs"), 0);
    assert_int_equal(config_service_enum(cfg, "pop", "tls_client_certs"), 1);
    assert_int_equal(config_service_int(cfg, "imap", "autocreate_quota"), 5);
    assert_true(config_service_bits(cfg, "imap", "tls_versions") == 0x30);
    assert_string_equal(config_service_string(cfg, "imap", "syslog_prefix"),
                        "/c/x");
    config_free(&cfg);
    refused("imap_timeout: x", "t:1: imap_timeout: \"x\" is not a duration as "
                               "90s, 32m, 1d12h");
}

static void
test_channel_overrides_and_their_fallback(void **state)
{
    (void)state;
    struct config *cfg =
        parse("sync_host: a\nb2_sync_host: b\nb2_sync_repeat_interval: 5\n"
              "off_site_sync_log_cap: 1G\nsync_port: 2005\n"
              "b2_sync_try_imap: no\nb2_sync_reconnect_maxwait: -1\n");
    assert_string_equal(config_channel_string(cfg, "b2", "sync_host"), "b");
    assert_string_equal(config_channel_string(cfg, "b3", "sync_host"), "a");
    assert_string_equal(config_channel_string(cfg, "", "sync_host"), "a");
    assert_string_equal(config_channel_string(cfg, NULL, "sync_host"), "a");
    assert_string_equal(config_channel_string(cfg, "b2", "sync_port"), "2005");
    assert_true(config_channel_duration_s(cfg, "b2", "sync_repeat_interval") ==
                5);
    assert_true(config_channel_duration_s(cfg, "", "sync_repeat_interval") ==
                1);
    assert_true(config_channel_duration_s(
                    cfg, "b2", "sync_reconnect_maxwait") == CONFIG_FOREVER);
    assert_true(config_channel_bytes(cfg, "off_site", "sync_log_cap") ==
                1U << 30);
    assert_false(config_channel_switch(cfg, "b2", "sync_try_imap"));
    assert_true(config_channel_switch(cfg, "b3", "sync_try_imap"));
    config_free(&cfg);
}

struct seen {
    size_t n;
    char names[8][64];
};

static void
remember(void *ctx, const char *name, const char *value)
{
    struct seen *seen = ctx;

    assert_true(seen->n < ARRAY_LEN(seen->names));
    snprintf(seen->names[seen->n++], sizeof(seen->names[0]), "%s=%s", name,
             value);
}

static void
test_free_forms(void **state)
{
    (void)state;
    struct config *cfg = parse(
        "partition-default: /a\npartition-SSD: /b\ndefaultpartition: SSD\n"
        "metapartition-ssd: /m\narchivepartition-ssd: /h\n"
        "tier1searchpartition-ssd: /s\nsearchpartition-x: /s\n"
        "backuppartition-x: /s\nsasl_mech_list: PLAIN LOGIN\n"
        "sasl_minimum_layer: 1\nmail1_password: pw\nmail1_mechs: PLAIN\n"
        "xlist-junk: Spam\nautocreate_acl: Plus anyone p\n"
        "autocreate_acl: News anyone r\n");
    assert_string_equal(config_free_form(cfg, "partition-ssd"), "/b");
    assert_string_equal(config_free_form(cfg, "partition-SSD"), "/b");
    assert_string_equal(config_free_form(cfg, "tier1searchpartition-ssd"),
                        "/s");
    assert_string_equal(config_free_form(cfg, "sasl_mech_list"), "PLAIN LOGIN");
    assert_string_equal(config_free_form(cfg, "sasl_minimum_layer"), "1");
    assert_int_equal(config_int(cfg, "sasl_minimum_layer"), 1);
    assert_string_equal(config_free_form(cfg, "mail1_password"), "pw");
    assert_string_equal(config_free_form(cfg, "mail1_mechs"), "PLAIN");
    assert_null(config_free_form(cfg, "mail2_password"));
    assert_null(config_free_form(cfg, "sasl_maximum_layer"));

    struct seen seen = {0};
    config_each(cfg, "partition-", remember, &seen);
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.names[0], "partition-default=/a");
    assert_string_equal(seen.names[1], "partition-ssd=/b");
    seen.n = 0;
    config_each(cfg, "autocreate_acl", remember, &seen);
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.names[1], "autocreate_acl=News anyone r");

    size_t n;
    const struct config_finding *f = config_findings(cfg, &n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(f[i].severity, CONFIG_NOTE);
        assert_null(strstr(f[i].text, "pw")); /* no password is repeated */
    }
    config_free(&cfg);

    cfg = parse("mupdat_password: x\n");
    assert_true(
        has_finding(cfg, CONFIG_WARNING, 1, "did you mean mupdate_password?"));
    config_free(&cfg);
    refused("defaultpartition: x\n",
            "t:1: defaultpartition: partition-x is not set");
}

static void
test_options_without_effect_are_noted_once(void **state)
{
    (void)state;
    struct config *cfg = parse("hashimapspool: 1\nhashimapspool: 0\n"
                               "conversations: 1\nadmins: a\n");
    size_t n;
    const struct config_finding *f = config_findings(cfg, &n);

    assert_int_equal(n, 3);
    assert_string_equal(f[0].text, "hashimapspool has no meaning here");
    assert_int_equal(f[1].severity, CONFIG_WARNING);
    assert_string_equal(f[2].text,
                        "conversations has no effect in this version");
    assert_string_equal(f[2].file, "t");
    assert_int_equal(f[2].line, 3);
    config_free(&cfg);
}

static void
test_bounds(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    struct config *cfg = NULL;
    struct error err = {0};

    while (text.n <= 1U << 20)
        buf_add_str(&text, "# a comment that makes the file too long\n");
    assert_int_equal(config_parse(buf_span(&text), "t", &cfg, &err), ERR_LIMIT);
    assert_null(cfg);

    buf_clear(&text);
    for (int i = 0; i < 2000; i++)
        buf_addf(&text, "sasl_o%d: 1\n", i);
    assert_int_equal(config_parse(buf_span(&text), "t", &cfg, &err),
                     ERR_SYNTAX);
    assert_string_equal(err.text,
                        "t:1025: more than 1024 free-form options and "
                        "overrides: sasl_o1024 is left out");
    config_free(&cfg);

    buf_clear(&text);
    for (int i = 0; i < 2000; i++)
        buf_addf(&text, "sync_log: 1\n");
    buf_add_str(&text,
                "what\n"); /* the error is kept though the list is full */
    assert_int_equal(config_parse(buf_span(&text), "t", &cfg, &err),
                     ERR_SYNTAX);
    size_t n;
    (void)config_findings(cfg, &n);
    assert_int_equal(n, 500);
    assert_non_null(strstr(err.text, "t:2001: "));
    config_free(&cfg);
    buf_free(&text);
}

/* ---- files ---- */

struct dir {
    char path[64];
};

static void
put(const struct dir *d, const char *name, const char *text)
{
    char path[128];
    struct error err = {0};

    snprintf(path, sizeof(path), "%s/%s", d->path, name);
    assert_int_equal(
        env_write_file_atomic(env_system(), path, span_str(text), &err),
        ERR_OK);
}

static enum errcode
read_main(const struct dir *d, struct config **ret, struct error *err)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/imapd.conf", d->path);
    return config_read(env_system(), path, ret, err);
}

static int
make_dir(void **state)
{
    struct dir *d = xcalloc(1, sizeof(*d));

    snprintf(d->path, sizeof(d->path), "/tmp/pollux-config-XXXXXX");
    *state = d;
    return mkdtemp(d->path) == NULL ? -1 : 0;
}

static int
remove_dir(void **state)
{
    struct dir *d = *state;
    struct buf names = BUF_INIT;
    struct error err = {0};

    if (env_list(env_system(), d->path, &names, &err) == ERR_OK) {
        for (size_t at = 0; at < names.n;) {
            char path[400];
            const char *name = (const char *)names.p + at;
            snprintf(path, sizeof(path), "%s/%.255s", d->path, name);
            unlink(path);
            at += strlen(name) + 1;
        }
    }
    buf_free(&names);
    rmdir(d->path);
    free(d);
    return 0;
}

static void
test_include_is_relative_and_may_be_overridden(void **state)
{
    const struct dir *d = *state;
    struct config *cfg = NULL;
    struct error err = {0};

    put(d, "imapd.conf",
        "configdirectory: /srv/x\nadmins: a\n"
        "@include: common.conf\nservername: mine\n");
    put(d, "common.conf", "servername: common\nadmins: b\n");
    assert_int_equal(read_main(d, &cfg, &err), ERR_OK);
    assert_string_equal(config_string(cfg, "servername"), "mine");
    assert_string_equal(config_list(cfg, "admins")[0], "b");
    config_free(&cfg);

    put(d, "common.conf", "\nserwername: common\n");
    assert_int_equal(read_main(d, &cfg, &err), ERR_SYNTAX);
    assert_non_null(strstr(err.text, "/common.conf:2: unknown option "
                                     "serwername, did you mean servername?"));
    config_free(&cfg);
}

static void
test_include_loops_depth_and_missing_files_are_errors(void **state)
{
    const struct dir *d = *state;
    struct config *cfg = NULL;
    struct error err = {0};
    char name[32];
    char text[64];

    put(d, "imapd.conf", "configdirectory: /x\n@include: b\n");
    put(d, "b", "@include: imapd.conf\n");
    assert_int_equal(read_main(d, &cfg, &err), ERR_SYNTAX);
    assert_non_null(strstr(err.text, "/b:1: "));
    assert_non_null(strstr(err.text, "includes itself"));
    config_free(&cfg);

    put(d, "b", "@include: c1\n");
    for (int i = 1; i < 12; i++) {
        snprintf(name, sizeof(name), "c%d", i);
        snprintf(text, sizeof(text), "@include: c%d\n", i + 1);
        put(d, name, text);
    }
    assert_int_equal(read_main(d, &cfg, &err), ERR_SYNTAX);
    assert_non_null(strstr(err.text, "/c7:1: includes go deeper than 8"));
    config_free(&cfg);

    put(d, "b", "@include: /nowhere/at/all\n");
    assert_int_equal(read_main(d, &cfg, &err), ERR_SYNTAX);
    assert_non_null(strstr(err.text, "/b:1: @include: "));
    assert_non_null(strstr(err.text, "/nowhere/at/all"));
    config_free(&cfg);

    struct buf many = BUF_INIT;
    put(d, "c", "admins: x\n");
    buf_add_str(&many, "configdirectory: /x\n");
    for (int i = 0; i < 65; i++)
        buf_add_str(&many, "@include: c\n");
    put(d, "imapd.conf", buf_cstr(&many));
    buf_free(&many);
    assert_int_equal(read_main(d, &cfg, &err), ERR_SYNTAX);
    assert_non_null(strstr(err.text, "imapd.conf:66: more than 64 included"));
    config_free(&cfg);
    refused("@include: x\n", "t:1: @include is not allowed here");
}

static void
test_read_wants_a_file_and_a_configdirectory(void **state)
{
    const struct dir *d = *state;
    struct config *cfg = NULL;
    struct error err = {0};

    assert_int_equal(read_main(d, &cfg, &err), ERR_NOTFOUND);
    assert_null(cfg);
    put(d, "imapd.conf", "admins: a\n");
    assert_int_equal(read_main(d, &cfg, &err), ERR_SYNTAX);
    assert_non_null(strstr(err.text, "imapd.conf: configdirectory is not set"));
    config_free(&cfg);
    put(d, "imapd.conf", "configdirectory: here\n");
    assert_int_equal(read_main(d, &cfg, &err), ERR_SYNTAX);
    assert_non_null(
        strstr(err.text, ":1: configdirectory must be an absolute path"));
    config_free(&cfg);
}

static void
test_files_of_a_real_site_are_taken_as_they_stand(void **state)
{
    (void)state;
    static const char *const files[] = {
        POLLUX_SOURCE_DIR "/tests/base/data/imapd_be.conf",
        POLLUX_SOURCE_DIR "/tests/base/data/imapd_re.conf"};

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct config *cfg = NULL;
        struct error err = {0};
        size_t n;

        assert_int_equal(config_read(env_system(), files[i], &cfg, &err),
                         ERR_OK);
        const struct config_finding *f = config_findings(cfg, &n);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(f[k].severity, CONFIG_NOTE);
        assert_true(config_bytes(cfg, "sieve_maxscriptsize") == 150 * 1024);
        assert_true(config_bits(cfg, "metapartition_files") == 0x1ff);
        assert_int_equal(config_is_set(cfg, "sync_host"), i == 0);
        config_free(&cfg);
    }
}

/* Cut anywhere, the file is read or refused with a line, never worse. */
static void
test_file_cut_anywhere_is_read_or_refused(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    struct error err = {0};

    assert_int_equal(env_read_file(env_system(),
                                   POLLUX_SOURCE_DIR
                                   "/tests/base/data/imapd_be.conf",
                                   65536, &text, &err),
                     ERR_OK);
    for (size_t cut = 0; cut <= text.n; cut++) {
        struct config *cfg = NULL;
        struct span part = span_sub(buf_span(&text), 0, cut);
        uint8_t *copy = xmalloc(cut);
        memcpy(copy, text.p, cut);
        enum errcode rc = config_parse(span_of(copy, part.n), "t", &cfg, &err);
        assert_true(rc == ERR_OK ||
                    (rc == ERR_SYNTAX && strncmp(err.text, "t:", 2) == 0));
        config_free(&cfg);
        free(copy);
    }
    buf_free(&text);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_sorted_and_each_row_is_whole),
        cmocka_unit_test(test_every_default_can_be_read),
        cmocka_unit_test(test_syntax_blanks_comments_case_and_continued_lines),
        cmocka_unit_test(test_unknown_option_is_refused_with_the_nearest_named),
        cmocka_unit_test(test_switches),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(
            test_enums_take_words_and_for_on_and_off_the_switch_words),
        cmocka_unit_test(test_bitfields),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_later_line_wins_and_is_warned_of),
        cmocka_unit_test(test_old_names_set_the_new_option),
        cmocka_unit_test(test_service_overrides_and_their_fallback),
        cmocka_unit_test(test_channel_overrides_and_their_fallback),
        cmocka_unit_test(test_free_forms),
        cmocka_unit_test(test_options_without_effect_are_noted_once),
        cmocka_unit_test(test_bounds),
        IN_DIR(test_include_is_relative_and_may_be_overridden),
        IN_DIR(test_include_loops_depth_and_missing_files_are_errors),
        IN_DIR(test_read_wants_a_file_and_a_configdirectory),
        cmocka_unit_test(test_files_of_a_real_site_are_taken_as_they_stand),
        cmocka_unit_test(test_file_cut_anywhere_is_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
