/*
 * tests/master/test_child.c - real shells as children: order of START, restart
 * of daemons, events, output, ending.  What they did is read from the log file
 * and from files that they make; the loop waits on the same descriptors as the
 * instance's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "master/child.h"

#define PATIENCE_MS 20000

static char dir[] = "/tmp/pollux-test-child-XXXXXX";
static char log_path[64];
static int signal_fd = -1;

static char *
content(const char *path)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct error err = {0};

    if (env_read_file(env_system(), path, 1 << 20, &b, &err) != ERR_OK)
        return xstrdup("");
    return span_dup(buf_span(&b));
}

static bool
log_has(const char *text)
{
    AUTO(xfree) char *all = content(log_path);

    return strstr(all, text) != NULL;
}

/* One turn of the instance's loop. */
static void
turn(struct children *c)
{
    struct pollfd fds[] = {
        {.fd = signal_fd, .events = POLLIN},
        {.fd = children_fd(c), .events = POLLIN},
    };
    struct signalfd_siginfo si;

    unsigned wait_ms = children_tick(c);
    (void)poll(fds, 2, (int)MIN(wait_ms, 200U));
    if (fds[1].revents != 0)
        children_read(c);
    if (read(signal_fd, &si, sizeof(si)) > 0)
        children_reap(c);
}

static void
until_log_has(struct children *c, const char *text)
{
    uint64_t end = env_mono_ns(env_system()) / 1000000 + PATIENCE_MS;

    while (!log_has(text)) {
        assert_true(env_mono_ns(env_system()) / 1000000 < end);
        turn(c);
    }
}

static void
until_gone(struct children *c)
{
    while (children_alive(c) > 0)
        turn(c);
}

static int
set_up(void **state)
{
    sigset_t set;

    (void)state;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signal_fd < 0 || mkdtemp(dir) == NULL)
        return -1;
    snprintf(log_path, sizeof(log_path), "%s/log", dir);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    close(signal_fd);
    return rmdir(dir);
}

static int
fresh_log(void **state)
{
    (void)state;
    return log_open(LOG_TO_FILE, log_path, "pollux/test", LOG_LV_DEBUG, NULL) !=
           ERR_OK;
}

static int
drop_log(void **state)
{
    (void)state;
    log_close();
    return unlink(log_path);
}

static struct children *
children_of(const char *imapd_conf)
{
    struct children *c = NULL;
    struct error err = {0};

    assert_int_equal(children_new(env_system(), imapd_conf, &c, &err), ERR_OK);
    return c;
}

/* A child that is a shell running SCRIPT. */
#define SHELL(which, called, script)                                           \
    {                                                                          \
        .section = (which), .name = (called), .cmd = (script),                 \
        .argv = (const char *const[]){"/bin/sh", "-c", (script), NULL},        \
        .at_hhmm = -1                                                          \
    }

static void
run_plan(struct children *c, struct plan_child *list, size_t n)
{
    struct plan plan = {.children = list, .nchildren = n};

    children_plan(c, &plan);
}

static void
test_start_runs_in_order_and_before_daemons(void **state)
{
    AUTO(children_free) struct children *c = children_of("/x/imapd.conf");
    struct plan_child list[] = {
        SHELL(CYRUS_DAEMON, "d", "echo daemon here; exec sleep 1000"),
        SHELL(CYRUS_START, "one", "sleep 0.2; echo first"),
        SHELL(CYRUS_START, "two", "echo second; exit 3"),
    };

    (void)state;
    run_plan(c, list, ARRAY_LEN(list));
    assert_true(children_are_starting(c));
    until_log_has(c, "daemon here");
    assert_false(children_are_starting(c));
    AUTO(xfree) char *all = content(log_path);
    const char *first = strstr(all, "child.says name=one text=\"first\"");
    const char *second = strstr(all, "child.says name=two text=\"second\"");
    assert_non_null(first);
    assert_non_null(second);
    assert_true(first < second);
    assert_true(second < strstr(all, "daemon here"));
    assert_non_null(
        strstr(all, "error child.ended section=start name=two code=3"));
    children_stop(c);
    until_gone(c);
}

static void
test_failing_daemon_is_started_again(void **state)
{
    AUTO(children_free) struct children *c = children_of(NULL);
    AUTO(xfree)
    char *script = xasprintf(
        "test -e %s/ran && { rm %s/ran; echo again; exec sleep 1000; }; "
        "touch %s/ran; exit 1",
        dir, dir, dir);
    struct plan_child list[] = {SHELL(CYRUS_DAEMON, "d", script)};

    (void)state;
    run_plan(c, list, 1);
    until_log_has(c, "text=\"again\"");
    assert_true(log_has("warn child.ended section=daemon name=d code=1"));
    children_stop(c);
    until_gone(c);
    assert_true(log_has("child.ended section=daemon name=d signal=15"));
}

static void
test_children_know_where_they_are(void **state)
{
    AUTO(children_free) struct children *c = children_of("/x/imapd.conf");
    struct plan_child list[] = {
        SHELL(CYRUS_EVENTS, "e",
              "echo child=$POLLUX_CHILD conf=$POLLUX_IMAPD_CONF "
              "fds=$(ls /proc/$$/fd | tr '\\n' .) "
              "blocked=$(grep SigBlk /proc/$$/status | cut -f2)"),
    };

    (void)state;
    run_plan(c, list, 1);
    until_log_has(c, "child=1 conf=/x/imapd.conf fds=0.1.2.");
    assert_true(log_has("blocked=0000000000000000"));
}

static void
test_lines_of_our_programs_pass_as_they_are(void **state)
{
    AUTO(children_free) struct children *c = children_of(NULL);
    static const char line[] = "2026-03-01T12:00:00.123Z pollux/x[1] notice "
                               "csync.done at=\"7:9\"";
    AUTO(xfree)
    char *script = xasprintf("echo '%s' >&2; printf 'no line end'", line);
    struct plan_child list[] = {SHELL(CYRUS_EVENTS, "e", script)};

    (void)state;
    run_plan(c, list, 1);
    until_log_has(c, "text=\"no line end\"");
    AUTO(xfree) char *whole = xasprintf("\n%s\n", line);
    assert_true(log_has(whole));
}

static void
test_long_output_is_cut_into_lines(void **state)
{
    AUTO(children_free) struct children *c = children_of(NULL);
    struct plan_child list[] = {
        SHELL(CYRUS_EVENTS, "e",
              "head -c 30000 /dev/zero | tr '\\0' x; echo; echo end"),
    };

    (void)state;
    run_plan(c, list, 1);
    until_log_has(c, "text=\"end\"");
}

static void
test_program_that_cannot_be_run_says_so(void **state)
{
    AUTO(children_free) struct children *c = children_of(NULL);
    struct plan_child list[] = {
        {.section = CYRUS_START,
         .name = "bad",
         .cmd = "bad",
         .argv = (const char *const[]){"/no/such/program", NULL},
         .at_hhmm = -1}};

    (void)state;
    run_plan(c, list, 1);
    until_log_has(c, "child.ended section=start name=bad code=127");
    assert_true(log_has("the program cannot be run"));
    assert_false(children_are_starting(c));
}

static void
test_new_plan_ends_what_is_gone_and_keeps_what_is_same(void **state)
{
    AUTO(children_free) struct children *c = children_of(NULL);
    struct plan_child before[] = {
        SHELL(CYRUS_DAEMON, "same", "echo same; exec sleep 1000"),
        SHELL(CYRUS_DAEMON, "gone", "echo gone; exec sleep 1000"),
    };
    struct plan_child after[] = {
        SHELL(CYRUS_START, "late", "echo late"),
        SHELL(CYRUS_DAEMON, "new", "echo new; exec sleep 1000"),
        before[0],
    };

    (void)state;
    run_plan(c, before, 2);
    until_log_has(c, "text=\"same\"");
    until_log_has(c, "text=\"gone\"");
    run_plan(c, after, ARRAY_LEN(after));
    until_log_has(c, "text=\"new\"");
    until_log_has(c, "name=gone signal=15");
    assert_int_equal(children_alive(c), 2);
    assert_false(log_has("name=same signal"));
    assert_false(log_has("text=\"late\""));
    children_stop(c);
    until_gone(c);
}

static void
test_event_by_period_runs_at_once(void **state)
{
    AUTO(children_free) struct children *c = children_of(NULL);
    struct plan_child list[] = {SHELL(CYRUS_EVENTS, "e", "echo tick")};

    (void)state;
    list[0].period_min = 30;
    run_plan(c, list, 1);
    until_log_has(c, "text=\"tick\"");
    until_gone(c);
    assert_true(children_tick(c) > 50000);
    assert_int_equal(children_alive(c), 0);
}

/* A child whose parent is killed ends too. */
static void
test_kill_9_of_the_parent_ends_the_children(void **state)
{
    int alive[2]; /* closes when parent and child are both gone */
    char byte;

    (void)state;
    assert_int_equal(pipe(alive), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct children *c = children_of(NULL);
        AUTO(xfree)
        char *script =
            xasprintf("exec 3>/proc/%ld/fd/%d; echo up >&3; exec sleep 1000",
                      (long)getpid(), alive[1]);
        struct plan_child list[] = {SHELL(CYRUS_DAEMON, "d", script)};
        close(alive[0]);
        run_plan(c, list, 1);
        for (;;)
            turn(c);
    }
    close(alive[1]);
    assert_int_equal(read(alive[0], &byte, 1), 1);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    struct pollfd fd = {.fd = alive[0], .events = POLLIN};
    char rest[16];
    ssize_t n;
    do {
        assert_true(poll(&fd, 1, PATIENCE_MS) == 1);
        n = read(alive[0], rest, sizeof(rest));
    } while (n > 0);
    assert_int_equal(n, 0);
    close(alive[0]);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh_log, drop_log)
    const struct CMUnitTest tests[] = {
        T(test_start_runs_in_order_and_before_daemons),
        T(test_failing_daemon_is_started_again),
        T(test_children_know_where_they_are),
        T(test_lines_of_our_programs_pass_as_they_are),
        T(test_long_output_is_cut_into_lines),
        T(test_program_that_cannot_be_run_says_so),
        T(test_new_plan_ends_what_is_gone_and_keeps_what_is_same),
        T(test_event_by_period_runs_at_once),
        T(test_kill_9_of_the_parent_ends_the_children),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
