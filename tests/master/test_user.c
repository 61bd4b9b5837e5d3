/*
 * tests/master/test_user.c - the pid file, directories, and who is chosen.
 * Giving up root is tried in a child process, where there is root to give up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/user.h"

static char dir[] = "/tmp/pollux-test-user-XXXXXX";
static char pid_path[64];

static int
make_dir(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(pid_path, sizeof(pid_path), "%s/pid", dir);
    return 0;
}

static int
remove_dir(void **state)
{
    static const char *const names[] = {"a/b/socket", "a/b/sync", "a/b/log",
                                        "a/b",        "a",        "part/one",
                                        "part",       ""};
    char path[96];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        if (rmdir(path) != 0)
            return -1;
    }
    return 0;
}

static struct config *
config_of(const char *text)
{
    struct config *cfg = NULL;
    struct error err = {0};

    assert_int_equal(config_parse(span_str(text), "test", &cfg, &err), ERR_OK);
    return cfg;
}

static void
test_second_pid_file_is_refused_by_name(void **state)
{
    struct error err = {0};
    char mine[64];
    int fd = -1;
    int again = -1;

    (void)state;
    assert_int_equal(pidfile_take(pid_path, &fd, &err), ERR_OK);
    assert_int_equal(pidfile_take(pid_path, &again, &err), ERR_BUSY);
    assert_int_equal(again, -1);
    snprintf(mine, sizeof(mine), "process %ld", (long)getpid());
    assert_non_null(strstr(err.text, mine));
    assert_non_null(strstr(err.text, pid_path));
    pidfile_release(pid_path, &fd);
    assert_int_equal(fd, -1);
    assert_int_equal(access(pid_path, F_OK), -1);
}

static void
test_stale_pid_file_is_taken_over(void **state)
{
    struct error err = {0};
    char text[32] = "";
    int fd = open(pid_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

    (void)state;
    assert_int_equal(write(fd, "4711 and more\n", 14), 14);
    close(fd);
    assert_int_equal(pidfile_take(pid_path, &fd, &err), ERR_OK);
    int look = open(pid_path, O_RDONLY | O_CLOEXEC);
    assert_true(read(look, text, sizeof(text) - 1) > 0);
    close(look);
    assert_int_equal(strtol(text, NULL, 10), getpid());
    assert_int_equal(text[strlen(text) - 1], '\n');
    pidfile_release(pid_path, &fd);
}

static void
test_pid_file_in_no_directory_is_an_error(void **state)
{
    struct error err = {0};
    int fd = -1;

    (void)state;
    assert_int_equal(pidfile_take("/no/such/dir/pid", &fd, &err), ERR_NOTFOUND);
}

static void
test_directories_are_made(void **state)
{
    AUTO(xfree)
    char *text = xasprintf(
        "configdirectory: %s/a/b\npartition-default: %s/part/one\n", dir, dir);
    AUTO(config_free) struct config *cfg = config_of(text);
    struct run_user me = {.uid = geteuid(), .gid = getegid()};
    struct error err = {0};
    struct stat st;
    char path[96];

    (void)state;
    assert_int_equal(user_make_dirs(env_system(), cfg, &me, &err), ERR_OK);
    assert_int_equal(user_make_dirs(env_system(), cfg, &me, &err), ERR_OK);
    snprintf(path, sizeof(path), "%s/a/b/socket", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0750);
    snprintf(path, sizeof(path), "%s/part/one", dir);
    assert_int_equal(stat(path, &st), 0);
}

static void
test_user_that_does_not_exist_is_an_error_for_root(void **state)
{
    AUTO(config_free)
    struct config *cfg = config_of("cyrus_user: no_such_user_here\n");
    struct run_user u;
    struct error err = {0};

    (void)state;
    if (geteuid() != 0) {
        assert_int_equal(user_choose(cfg, &u, &err), ERR_OK);
        assert_false(u.change);
        return;
    }
    assert_int_equal(user_choose(cfg, &u, &err), ERR_NOTFOUND);
    assert_non_null(strstr(err.text, "no_such_user_here"));
}

static void
test_root_is_given_up_for_good(void **state)
{
    AUTO(config_free) struct config *cfg = config_of("cyrus_user: nobody\n");
    struct run_user u;
    struct error err = {0};
    int status = 0;

    (void)state;
    if (geteuid() != 0 || getpwnam("nobody") == NULL)
        skip();
    assert_int_equal(user_choose(cfg, &u, &err), ERR_OK);
    assert_true(u.change);
    pid_t pid = fork();
    if (pid == 0) {
        if (user_become(&u, &err) != ERR_OK)
            _exit(1);
        if (getuid() != u.uid || geteuid() != u.uid || getegid() != u.gid)
            _exit(2);
        _exit(setuid(0) == 0 ? 3 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_pid_file_is_refused_by_name),
        cmocka_unit_test(test_stale_pid_file_is_taken_over),
        cmocka_unit_test(test_pid_file_in_no_directory_is_an_error),
        cmocka_unit_test(test_directories_are_made),
        cmocka_unit_test(test_user_that_does_not_exist_is_an_error_for_root),
        cmocka_unit_test(test_root_is_given_up_for_good),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
