/*
 * tests/master/test_plan.c - what becomes of the lines of a cyrus.conf: hosted
 * services with their options, programs that are there, programs that are not.
 * A directory with two empty executables stands for the place of our programs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "master/plan.h"
#include "master/programs.h"

static char dir[] = "/tmp/pollux-test-plan-XXXXXX";
static char other_conf[64];

static void
make_file(const char *name, mode_t mode)
{
    char path[64];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    close(fd);
}

static int
make_dir(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    make_file("sync_client", 0755);
    make_file("cyr_expire", 0755);
    make_file("notes.txt", 0644);
    make_file("imapd.conf", 0644);
    make_file("other.conf", 0644);
    snprintf(other_conf, sizeof(other_conf), "%s/other.conf", dir);
    return 0;
}

static int
remove_dir(void **state)
{
    static const char *const names[] = {"sync_client", "cyr_expire",
                                        "notes.txt",   "imapd.conf",
                                        "other.conf",  "link.conf"};
    char path[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

/* The plan of TEXT; RC says whether it is a good one. */
static struct plan *
plan_of(const char *text, enum errcode expected)
{
    AUTO(cyrusconf_free) struct cyrusconf *conf = NULL;
    AUTO(xfree) char *imapd_conf = xasprintf("%s/imapd.conf", dir);
    struct plan_place place = {
        .imapd_conf = imapd_conf, .exe_dir = dir, .path = "/bin::/usr/bin"};
    struct plan *plan = NULL;
    struct error err = {0};

    assert_int_equal(cyrusconf_parse(span_str(text), "test.conf", &conf, &err),
                     ERR_OK);
    assert_int_equal(plan_make(conf, &place, &plan, &err), expected);
    if (expected != ERR_OK)
        assert_true(span_find(span_str(err.text), SPAN_LIT("test.conf:")) >= 0);
    return plan;
}

static bool
has_finding(const struct plan *p, enum config_severity severity,
            const char *text)
{
    for (size_t i = 0; i < p->nfindings; i++)
        if (p->findings[i].severity == severity &&
            span_find(span_str(p->findings[i].text), span_str(text)) >= 0)
            return true;
    return false;
}

static void
test_hosted_services_take_their_options(void **state)
{
    (void)state;
    AUTO(plan_free)
    struct plan *p =
        plan_of("SERVICES {\n"
                " imap cmd=\"imapd -U 50\" listen=\"a.example:imap\" prefork=1 "
                "maxfds=1024\n"
                " imaps cmd=\"imapd -sU50\" listen=imaps maxchild=7\n"
                " lmtp cmd=\"/usr/cyrus/bin/lmtpd -a\" listen=/run/lmtp\n"
                " sync cmd=\"sync_server -p 128\" listen=csync proto=tcp4\n"
                "}\n",
                ERR_OK);

    assert_int_equal(p->nservices, 4);
    assert_int_equal(p->services[0].kind, SERVICE_IMAP);
    assert_false(p->services[0].implicit_tls);
    assert_string_equal(p->services[0].listen, "a.example:imap");
    assert_true(p->services[1].implicit_tls);
    assert_int_equal(p->services[1].max_conns, 7);
    assert_int_equal(p->services[2].kind, SERVICE_LMTP);
    assert_true(p->services[2].preauth);
    assert_int_equal(p->services[3].kind, SERVICE_SYNC);
    assert_true(p->services[3].outer_layer);
    assert_string_equal(p->services[3].proto, "tcp4");
    assert_true(has_finding(p, CONFIG_NOTE,
                            "imap: without effect: prefork "
                            "maxfds"));
    assert_true(has_finding(p, CONFIG_NOTE, "imaps: -U is without effect"));
}

static void
test_known_services_that_are_not_here_are_notes(void **state)
{
    (void)state;
    AUTO(plan_free)
    struct plan *p =
        plan_of("SERVICES {\n"
                " pop3 cmd=\"pop3d -X -U 5\" listen=pop3\n"
                " sieve cmd=\"timsieved\" listen=sieve\n"
                " mupdate cmd=\"/usr/cyrus/bin/mupdate -m\" listen=3905\n"
                " notify cmd=\"notifyd\" listen=\"/run/notify\" proto=udp\n"
                "}\n",
                ERR_OK);

    assert_int_equal(p->nservices, 0);
    assert_int_equal(p->nfindings, 4);
    assert_true(has_finding(p, CONFIG_NOTE, "pop3: pop3d is not in this"));
    assert_true(has_finding(p, CONFIG_NOTE, "notify: notifyd is not needed"));
}

static void
test_bad_services_are_errors_with_file_and_line(void **state)
{
    static const struct {
        const char *cmd, *text;
    } bad[] = {
        {"imapd -Z", "imapd has no option -Z"},
        {"imapd -a", "imapd has no option -a"},
        {"lmtpd -s", "lmtpd has no option -s"},
        {"imapd -U", "-U needs a value"},
        {"imapd -p much", "-p takes a number"},
        {"imapd now", "is not an option"},
        {"imapd -C /no/such.conf", "is not the file of this instance"},
        {"imapx", "no service program \"imapx\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO(xfree)
        char *text =
            xasprintf("SERVICES {\n x cmd=\"%s\" listen=imap\n}\n", bad[i].cmd);
        AUTO(plan_free) struct plan *p = plan_of(text, ERR_SYNTAX);
        assert_true(has_finding(p, CONFIG_ERROR, bad[i].text));
        assert_int_equal(p->findings[p->nfindings - 1].line, 2);
    }
}

static void
test_own_file_may_be_named_in_another_way(void **state)
{
    AUTO(xfree) char *real = xasprintf("%s/imapd.conf", dir);
    AUTO(xfree) char *link_path = xasprintf("%s/link.conf", dir);
    AUTO(xfree)
    char *good =
        xasprintf("SERVICES { x cmd=\"imapd -C%s\" listen=imap }\n", link_path);
    AUTO(xfree)
    char *bad = xasprintf("SERVICES { x cmd=\"imapd -C %s\" listen=imap }\n",
                          other_conf);

    (void)state;
    assert_int_equal(symlink(real, link_path), 0);
    AUTO(plan_free) struct plan *p = plan_of(good, ERR_OK);
    assert_int_equal(p->nservices, 1);
    AUTO(plan_free) struct plan *q = plan_of(bad, ERR_SYNTAX);
    assert_int_equal(q->nservices, 1);
}

static void
test_children_are_found_beside_us_or_in_path(void **state)
{
    (void)state;
    AUTO(plan_free)
    struct plan *p =
        plan_of("START {\n recover cmd=\"ctl_cyrusdb -r\"\n"
                " idled cmd=\"idled\"\n"
                " hello cmd=\"sh -c 'x y'\"\n"
                " gone cmd=\"no_such_program\"\n"
                " gone2 cmd=\"/no/such/program\" }\n"
                "DAEMON { sync cmd=\"/usr/cyrus/bin/sync_client -r\" }\n"
                "EVENTS {\n expire cmd=\"cyr_expire -E 3\" at=0400\n"
                " prune cmd=\"tls_prune\" at=0430\n"
                " notes cmd=\"notes.txt\" period=5\n}\n",
                ERR_OK);

    assert_int_equal(p->nchildren, 3);
    assert_string_equal(p->children[0].argv[0], "/bin/sh");
    assert_int_equal(p->children[0].section, CYRUS_START);
    assert_int_equal(strncmp(p->children[1].argv[0], dir, strlen(dir)), 0);
    assert_string_equal(p->children[1].argv[1], "-r");
    assert_null(p->children[1].argv[2]);
    assert_int_equal(p->children[1].section, CYRUS_DAEMON);
    assert_int_equal(p->children[2].at_hhmm, 400);
    assert_true(has_finding(p, CONFIG_WARNING,
                            "recover: ctl_cyrusdb is not beside master"));
    assert_true(has_finding(p, CONFIG_NOTE, "idled: idled is not needed"));
    assert_true(has_finding(p, CONFIG_NOTE, "prune: tls_prune is not needed"));
    assert_true(
        has_finding(p, CONFIG_WARNING, "no program \"no_such_program\""));
    assert_true(has_finding(p, CONFIG_WARNING, "/no/such/program"));
    assert_true(has_finding(p, CONFIG_WARNING, "notes.txt"));
}

/* A Cyrus's program at the path of the line is never taken for ours. */
static void
test_tools_are_those_beside_us(void **state)
{
    (void)state;
    AUTO(xfree)
    char *conf = xasprintf("START {\n here cmd=\"%s/cyr_expire -E 3\"\n"
                           " debian cmd=\"/usr/sbin/cyrus expire -E 4 -X 28\"\n"
                           " again cmd=\"/usr/sbin/cyrus cyr_expire -D 1\"\n"
                           " else cmd=\"/bin/quota -f\"\n"
                           " prune cmd=\"/usr/sbin/cyrus tls_prune\"\n"
                           " what cmd=\"/usr/sbin/cyrus nothing_of_ours\" }\n",
                           "/usr/lib/cyrus/bin");
    AUTO(xfree) char *ours = xasprintf("%s/cyr_expire", dir);
    AUTO(plan_free) struct plan *p = plan_of(conf, ERR_OK);

    assert_int_equal(p->nchildren, 3);
    for (size_t i = 0; i < p->nchildren; i++)
        assert_string_equal(p->children[i].argv[0], ours);
    assert_string_equal(p->children[1].argv[1], "-E");
    assert_string_equal(p->children[1].argv[4], "28");
    assert_null(p->children[1].argv[5]);
    assert_string_equal(p->children[2].argv[1], "-D");
    assert_true(has_finding(p, CONFIG_WARNING, "else: quota is not beside"));
    assert_true(has_finding(p, CONFIG_NOTE, "prune: tls_prune is not needed"));
    assert_true(has_finding(p, CONFIG_WARNING, "/usr/sbin/cyrus"));
}

static void
test_no_path_is_fine(void **state)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;

    (void)state;
    assert_null(program_find("sh", dir, NULL, &a));
    assert_null(program_find("sh", dir, "", &a));
    assert_non_null(program_find("sync_client", dir, NULL, &a));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosted_services_take_their_options),
        cmocka_unit_test(test_known_services_that_are_not_here_are_notes),
        cmocka_unit_test(test_bad_services_are_errors_with_file_and_line),
        cmocka_unit_test(test_own_file_may_be_named_in_another_way),
        cmocka_unit_test(test_children_are_found_beside_us_or_in_path),
        cmocka_unit_test(test_tools_are_those_beside_us),
        cmocka_unit_test(test_no_path_is_fine),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
