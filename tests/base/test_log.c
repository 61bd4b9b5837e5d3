/*
 * tests/base/test_log.c - log lines: their form, what is escaped, levels, files
 * that are rotated away, many threads on one file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

static char dir[] = "/tmp/pollux-test-log-XXXXXX";
static char path[64];
static char moved[64];

static int
make_dir(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/log", dir);
    snprintf(moved, sizeof(moved), "%s/log.1", dir);
    return 0;
}

static int
remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

static int
open_log(void **state)
{
    (void)state;
    return log_open(LOG_TO_FILE, path, "pollux/test", LOG_LV_INFO, NULL) !=
           ERR_OK;
}

static int
close_log(void **state)
{
    (void)state;
    log_close();
    unlink(path);
    unlink(moved);
    return 0;
}

static void
read_log(const char *from, struct buf *ret)
{
    buf_clear(ret);
    assert_int_equal(env_read_file(env_system(), from, 1 << 24, ret, NULL),
                     ERR_OK);
}

/* What stands behind the level in the last line. */
static void
assert_last(const char *want)
{
    struct buf b = BUF_INIT;
    read_log(path, &b);
    assert_true(b.n > 0 && b.p[b.n - 1] == '\n');
    b.n--;
    const char *text = buf_cstr(&b);
    const char *line = strrchr(text, '\n');
    line = line == NULL ? text : line + 1;
    const char *rest = strstr(line, "] ");
    assert_non_null(rest);
    rest = strchr(rest + 2, ' ');
    assert_non_null(rest);
    assert_string_equal(rest + 1, want);
    buf_free(&b);
}

static void
test_line_has_time_program_level_event_and_context(void **state)
{
    (void)state;
    struct log_ctx ctx = {"session=12 peer=127.0.0.1:4711"};
    log_warn(&ctx, "csync.peer_lost", "applied=%d:%" PRIu64 " why=\"%s\"", 7,
             UINT64_C(4182), "silent for 10000 ms");
    struct buf b = BUF_INIT;
    read_log(path, &b);
    regex_t re;
    assert_int_equal(
        regcomp(&re,
                "^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6]"
                "[0-9]\\.[0-9]{3}Z pollux/test\\[[0-9]+\\] warn "
                "csync\\.peer_lost session=12 peer=127\\.0\\.0\\.1:4711 "
                "applied=7:4182 why=\"silent for 10000 ms\"\n$",
                REG_EXTENDED | REG_NOSUB),
        0);
    assert_int_equal(regexec(&re, buf_cstr(&b), 0, NULL, 0), 0);
    regfree(&re);
    buf_free(&b);
    log_info(NULL, "master.ready", "%s", "");
    assert_last("master.ready \"\"");
    log_info(NULL, "master.ready", "pid=1");
    assert_last("master.ready pid=1");
}

static void
test_values_cannot_forge_a_line_or_a_pair(void **state)
{
    (void)state;
    log_info(NULL, "e", "why=\"%s\" n=1", "a\" n=2\nforged\\ \x01\x7f\r\t");
    assert_last("e why=\"a\\\" n=2\\nforged\\\\ \\x01\\x7f\\r\\t\" n=1");
    log_info(NULL, "e", "user=%s n=1", "joe n=2");
    assert_last("e user=\"joe n=2\" n=1");
    log_info(NULL, "e", "user=%s n=%d", "joe", 1);
    assert_last("e user=joe n=1");
    log_info(NULL, "e", "user=%s", "x\"y");
    assert_last("e user=\"x\\\"y\"");
    log_info(NULL, "e", "c=%c d=%c e=%c", 'x', '\n', 0);
    assert_last("e c=x d=\"\\n\" e=\"\\\\0\"");
    struct log_ctx ctx = {"peer=a\nb"};
    log_info(&ctx, "e", "n=1");
    assert_last("e peer=a\\nb n=1");
}

static void
test_utf8_stays_and_what_is_not_utf8_is_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        const char *out;
    } cases[] = {
        {"T\xc3\xbc"
         "bingen \xe2\x82\xac \xf0\x9f\x98\x80",
         "T\xc3\xbc"
         "bingen \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xc3", "\\xc3"},
        {"\xc3(", "\\xc3("},
        {"\x80", "\\x80"},
        {"\xc2\x85", "\\xc2\\x85"}, /* C1: next line */
        {"\xc0\x8a", "\\xc0\\x8a"}, /* overlong newline */
        {"\xe0\x80\x8a", "\\xe0\\x80\\x8a"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"}, /* surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
        {"\xff", "\\xff"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char want[128];
        log_info(NULL, "e", "v=\"%s\"", cases[i].in);
        snprintf(want, sizeof(want), "e v=\"%s\"", cases[i].out);
        assert_last(want);
    }
}

static void
test_every_conversion_prints_as_printf_does(void **state)
{
    (void)state;
    log_info(NULL, "e", "%d %i %u %x %X %o %%", -1, 2, 3U, 0xabU, 0xcdU, 8U);
    assert_last("e -1 2 3 ab CD 10 %");
    log_info(NULL, "e", "%ld %lu %lld %llu %zu %zd %jd %td", -1L, 2UL, -3LL,
             ULLONG_MAX, (size_t)5, (ssize_t)-6, (intmax_t)7, (ptrdiff_t)8);
    assert_last("e -1 2 -3 18446744073709551615 5 -6 7 8");
    log_info(NULL, "e", "%hhu %hd %08.3f %+5d|%-5d|%05d %#x %*d", 200, -300,
             1.5, 42, 42, 42, 255U, 4, 7);
    assert_last("e 200 -300 0001.500   +42|42   |00042 0xff    7");
    struct span s = SPAN_LIT("abcdef");
    struct span volatile none = SPAN_EMPTY; /* the compiler warns of NULL */
    log_info(NULL, "e", "%.*s %.3s %.*s", SPAN_FMT(s), "xyzuvw",
             SPAN_FMT(none));
    assert_last("e abcdef xyz \"\"");
}

static void
test_level_filters_and_errno_survives(void **state)
{
    (void)state;
    log_info(NULL, "seen", "n=1");
    errno = 42;
    log_debug(NULL, "hidden", "n=2");
    log_info(NULL, "seen", "n=3");
    assert_int_equal(errno, 42);
    assert_last("seen n=3");
    struct buf b = BUF_INIT;
    read_log(path, &b);
    assert_true(span_find(buf_span(&b), SPAN_LIT("hidden")) < 0);
    buf_free(&b);
}

static void
test_long_line_is_cut_and_says_so(void **state)
{
    (void)state;
    char *text = xmalloc(10001);
    memset(text, 'a', 10000);
    text[10000] = '\0';
    log_info(NULL, "e", "v=\"%s\" n=1", text);
    log_info(NULL, "e", "v=%s n=1", text);
    text[5000] = ' ';
    log_info(NULL, "e", "v=%s n=1", text);
    free(text);
    struct buf b = BUF_INIT;
    read_log(path, &b);
    size_t lines = 0;
    size_t start = 0;
    for (size_t i = 0; i < b.n; i++) {
        if (b.p[i] != '\n')
            continue;
        assert_true(i - start < 4096);
        struct span tail = span_sub(buf_span(&b), i - 8, 8);
        const char *want = lines == 1 ? "aa cut=1" : "a\" cut=1";
        assert_true(span_eq_str(tail, want));
        lines++;
        start = i + 1;
    }
    assert_int_equal(lines, 3);
    buf_free(&b);
}

static void
test_reopen_follows_rotation_and_keeps_the_old_file_if_it_cannot(void **state)
{
    (void)state;
    log_info(NULL, "before", "n=1");
    assert_int_equal(rename(path, moved), 0);
    log_reopen();
    log_info(NULL, "after", "n=2");
    assert_last("after n=2");

    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(moved, path), 0);
    log_close();
    assert_int_equal(
        log_open(LOG_TO_FILE, path, "pollux/test", LOG_LV_INFO, NULL), ERR_OK);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    log_reopen();
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(moved, path), 0);
    struct buf b = BUF_INIT;
    read_log(path, &b);
    assert_true(span_find(buf_span(&b), SPAN_LIT("before n=1")) > 0);
    assert_true(span_find(buf_span(&b), SPAN_LIT("log.reopen_failed")) > 0);
    buf_free(&b);
    log_info(NULL, "still", "n=3");
    assert_last("still n=3");
}

static void
test_open_of_an_impossible_file_names_it(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(
        log_open(LOG_TO_FILE, "/nonexistent/log", "x", LOG_LV_INFO, &err),
        ERR_NOTFOUND);
    assert_non_null(strstr(err.text, "/nonexistent/log"));
    log_info(NULL, "still", "n=1"); /* the target is unchanged */
    assert_last("still n=1");
}

static void *
write_lines(void *arg)
{
    for (int i = 0; i < 500; i++)
        log_info(NULL, "thread", "name=%s i=%d", (const char *)arg, i);
    return NULL;
}

static void
test_lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    static const char *const names[] = {"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb",
                                        "cccccccccccccccc"};
    pthread_t threads[ARRAY_LEN(names)];
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines,
                                        (void *)(uintptr_t)names[i]),
                         0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        pthread_join(threads[i], NULL);
    struct buf b = BUF_INIT;
    read_log(path, &b);
    char *save = NULL;
    size_t lines = 0;
    for (char *line = strtok_r((char *)(uintptr_t)buf_cstr(&b), "\n", &save);
         line != NULL; line = strtok_r(NULL, "\n", &save)) {
        assert_int_equal(strspn(line, "0123456789"), 4);
        const char *at = strstr(line, " info thread name=");
        assert_non_null(at);
        assert_null(strstr(at + 1, " info "));
        lines++;
    }
    assert_int_equal(lines, 1500);
    buf_free(&b);
}

static void
test_syslog_takes_lines(void **state)
{
    (void)state;
    assert_int_equal(
        log_open(LOG_TO_SYSLOG, NULL, "pollux/test", LOG_LV_ERROR, NULL),
        ERR_OK);
    log_info(NULL, "hidden", "n=%d", 1);
    log_error(NULL, "test.line", "n=%d", 1);
    log_reopen(); /* nothing to do */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_log, close_log)

/* Lines of other programs of ours, and what only looks like them. */
static void
test_relay_passes_our_lines_only(void **state)
{
    static const char good[] =
        "2026-03-01T12:00:00.123Z pollux/x[1] warn a.b c=\"d e\"";
    static const char quiet[] =
        "2026-03-01T12:00:00.123Z pollux/x[1] debug a.b unseen=1";
    static const char *const bad[] = {
        "",
        "2026-03-01T12:00:00.123Z",
        "2026-03-01T12:00:00.123Z cyrus/x[1] warn a.b",
        "2026-03-01 12:00:00.123Z pollux/x[1] warn a.b",
        "2026-03-01T12:00:00.123Z pollux/x warn a.b",
        "2026-03-01T12:00:00.123Z pollux/x[1] loud a.b",
        "2026-03-01T12:00:00.123Z pollux/x[1] warn a.b\x1b[2J",
        "2026-03-01T12:00:00.123Z pollux/x[1] warn a.b\nforged",
    };

    (void)state;
    assert_true(log_relay(span_str(good)));
    assert_true(log_relay(span_str(quiet)));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(log_relay(span_str(bad[i])));
    for (size_t cut = 0; cut < 40; cut++)
        assert_false(log_relay(span_of(good, cut)));
    AUTO(buf_free) struct buf b = BUF_INIT;
    read_log(path, &b);
    AUTO(xfree) char *whole = xasprintf("%s\n", good);
    assert_string_equal(buf_cstr(&b), whole);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_line_has_time_program_level_event_and_context),
        TEST(test_values_cannot_forge_a_line_or_a_pair),
        TEST(test_utf8_stays_and_what_is_not_utf8_is_escaped),
        TEST(test_every_conversion_prints_as_printf_does),
        TEST(test_level_filters_and_errno_survives),
        TEST(test_long_line_is_cut_and_says_so),
        TEST(test_reopen_follows_rotation_and_keeps_the_old_file_if_it_cannot),
        TEST(test_open_of_an_impossible_file_names_it),
        TEST(test_lines_of_threads_do_not_mix),
        TEST(test_syslog_takes_lines),
        TEST(test_relay_passes_our_lines_only),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
