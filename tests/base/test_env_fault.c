/*
 * tests/base/test_env_fault.c - each action on each kind of call, over the real
 * machine; then what the atomic write of a file promises, with every one of its
 * calls failing, torn, late, and the last of the process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env_fault.h"
#include "tests/lib/tmpdir.h"

static char root[] = "/tmp/pollux-test-fault-XXXXXX";
static char path[64];
static char other[64];

static struct env_fault *fault;
static struct env *env;

static int
make_root(void **state)
{
    (void)state;
    if (mkdtemp(root) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/file", root);
    snprintf(other, sizeof(other), "%s/other", root);
    return 0;
}

static int
remove_root(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

static int
begin(void **state)
{
    (void)state;
    fault = env_fault_new(env_system());
    env = env_fault_env(fault);
    return 0;
}

static int
end(void **state)
{
    (void)state;
    env_fault_free(&fault);
    unlink(path);
    unlink(other);
    return 0;
}

static void
put_file(const char *content)
{
    assert_int_equal(
        env_write_file_atomic(env_system(), path, span_str(content), NULL),
        ERR_OK);
}

static void
assert_content(const char *want)
{
    struct buf b = BUF_INIT;
    assert_int_equal(env_read_file(env_system(), path, 1 << 20, &b, NULL),
                     ERR_OK);
    assert_string_equal(buf_cstr(&b), want);
    buf_free(&b);
}

static void
rule(unsigned kinds, uint64_t nth, enum env_fault_action action, int sys_errno)
{
    env_fault_add(fault, &(struct env_fault_rule){.kinds = kinds,
                                                  .nth = nth,
                                                  .action = action,
                                                  .sys_errno = sys_errno});
}

/* One call of each kind; the codes in a row. */
static void
one_of_each(enum errcode rc[11])
{
    struct envfile *f = NULL;
    struct envfile *g = NULL;
    rc[0] = env_open(env, path, ENV_WRITE, &f, NULL);
    rc[1] = env_open(env, other, ENV_CREATE, &g, NULL);
    if (f == NULL)
        assert_int_equal(env_open(env, path, ENV_WRITE, &f, NULL), ERR_OK);
    env_close(&g);
    char c = 'x';
    rc[2] = env_pread(f, &c, 1, 0, NULL);
    rc[3] = env_pwrite(f, &c, 1, 0, NULL);
    rc[4] = env_fallocate(f, 0, 10, NULL);
    rc[5] = env_truncate(f, 10, NULL);
    rc[6] = env_fdatasync(f, NULL);
    rc[7] = env_lock(f, NULL);
    env_close(&f);
    if (!env_exists(env_system(), other))
        assert_int_equal(
            env_write_file_atomic(env_system(), other, SPAN_EMPTY, NULL),
            ERR_OK);
    rc[8] = env_rename(env, other, path, NULL);
    rc[9] = env_unlink(env, path, NULL);
    rc[10] = env_syncdir(env, root, NULL);
}

static void
test_each_kind_fails_alone(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 11; kind++) {
        enum errcode rc[11];
        put_file("0123456789");
        env_fault_clear(fault);
        rule(1U << kind, 1, FAULT_FAIL, EIO);
        one_of_each(rc);
        for (unsigned i = 0; i < 11; i++)
            assert_int_equal(rc[i], i == kind ? ERR_IO : ERR_OK);
        assert_true(env_fault_hits(fault) == kind + 1);
    }
    assert_true(env_fault_calls(fault, FAULT_LOCK) == 11);
    assert_true(env_fault_calls(fault, FAULT_ANY) >= 121);
}

static void
test_the_nth_matching_call_fails_and_from_then_on_if_asked(void **state)
{
    (void)state;
    struct error err = {0};
    AUTO(env_close) struct envfile *f = NULL;
    assert_int_equal(env_open(env, path, ENV_CREATE, &f, &err), ERR_OK);
    rule(FAULT_WRITE, 3, FAULT_FAIL, EIO);
    for (int i = 1; i <= 5; i++)
        assert_int_equal(env_pwrite(f, "x", 1, 0, &err),
                         i == 3 ? ERR_IO : ERR_OK);

    env_fault_clear(fault);
    env_fault_add(fault, &(struct env_fault_rule){.kinds = FAULT_GROWS,
                                                  .nth = 2,
                                                  .from_then_on = true,
                                                  .action = FAULT_FAIL,
                                                  .sys_errno = ENOSPC});
    for (int i = 1; i <= 5; i++)
        assert_int_equal(env_pwrite(f, "x", 1, 0, &err),
                         i >= 2 ? ERR_NOSPACE : ERR_OK);
    assert_int_equal(env_fallocate(f, 0, 10, &err), ERR_NOSPACE);
    assert_int_equal(env_fdatasync(f, &err), ERR_OK);
    env_fault_clear(fault);
    assert_int_equal(env_pwrite(f, "x", 1, 0, &err), ERR_OK);
}

static void
test_rules_may_be_for_one_path_and_all_of_them_count(void **state)
{
    (void)state;
    AUTO(env_close) struct envfile *f = NULL;
    AUTO(env_close) struct envfile *g = NULL;
    env_fault_add(fault, &(struct env_fault_rule){.kinds = FAULT_WRITE,
                                                  .path_part = "/other",
                                                  .nth = 1,
                                                  .action = FAULT_FAIL,
                                                  .sys_errno = EIO});
    rule(FAULT_WRITE, 2, FAULT_FAIL, ENOSPC);
    assert_int_equal(env_open(env, path, ENV_CREATE, &f, NULL), ERR_OK);
    assert_int_equal(env_open(env, other, ENV_CREATE, &g, NULL), ERR_OK);
    assert_int_equal(env_pwrite(f, "x", 1, 0, NULL), ERR_OK);
    assert_int_equal(env_pwrite(g, "x", 1, 0, NULL), ERR_IO);
    assert_int_equal(env_pwrite(f, "x", 1, 0, NULL), ERR_OK);
    assert_true(env_fault_hits(fault) == 1);
}

static void
test_short_torn_and_late(void **state)
{
    (void)state;
    put_file("..........");
    AUTO(env_close) struct envfile *f = NULL;
    assert_int_equal(env_open(env, path, ENV_WRITE, &f, NULL), ERR_OK);
    rule(FAULT_WRITE, 1, FAULT_SHORT, 0);
    assert_int_equal(env_pwrite(f, "abcdef", 6, 0, NULL), ERR_OK);
    assert_content("abcdef....");
    assert_true(env_fault_calls(fault, FAULT_WRITE) == 2);

    rule(FAULT_READ, 1, FAULT_SHORT, 0);
    char c = 0;
    assert_int_equal(env_pread(f, &c, 1, 2, NULL), ERR_OK);
    assert_int_equal(c, 'c');

    rule(FAULT_WRITE, 1, FAULT_TORN, EIO);
    assert_int_equal(env_pwrite(f, "ABCDEF", 6, 0, NULL), ERR_IO);
    assert_content("ABCdef....");
    rule(FAULT_TRUNCATE, 1, FAULT_TORN, EIO);
    assert_int_equal(env_truncate(f, 3, NULL), ERR_IO);
    assert_content("ABCdef....");
    rule(FAULT_TRUNCATE, 1, FAULT_LATE, EIO);
    assert_int_equal(env_truncate(f, 3, NULL), ERR_IO);
    assert_content("ABC");
    rule(FAULT_MAKE, 1, FAULT_LATE, EIO);
    struct envfile *g = NULL;
    assert_int_equal(env_open(env, other, ENV_NEW, &g, NULL), ERR_IO);
    assert_null(g);
    assert_true(env_exists(env, other));
}

struct hooked {
    int calls;
    enum env_fault_kind kind;
    const char *path;
    int answer;
};

static int
hook(void *ctx, enum env_fault_kind kind, const char *where)
{
    struct hooked *h = ctx;
    h->calls++;
    h->kind = kind;
    h->path = where;
    (void)env_fault_hits(fault); /* no lock is held */
    return h->answer;
}

static void
test_hook_sees_the_call_and_may_refuse_it(void **state)
{
    (void)state;
    struct hooked h = {0};
    env_fault_add(fault, &(struct env_fault_rule){.kinds = FAULT_UNLINK,
                                                  .nth = 2,
                                                  .from_then_on = true,
                                                  .action = FAULT_HOOK,
                                                  .hook = hook,
                                                  .hook_ctx = &h});
    assert_int_equal(env_unlink(env, other, NULL), ERR_OK);
    assert_int_equal(h.calls, 0);
    assert_int_equal(env_unlink(env, path, NULL), ERR_OK);
    assert_int_equal(h.calls, 1);
    assert_int_equal(h.kind, FAULT_UNLINK);
    assert_string_equal(h.path, path);
    h.answer = -EPERM;
    struct error err = {0};
    assert_int_equal(env_unlink(env, path, &err), ERR_IO);
    assert_int_equal(err.sys_errno, EPERM);
}

static void
test_passes_clocks_randomness_and_descriptors(void **state)
{
    (void)state;
    put_file("x");
    AUTO(env_close) struct envfile *f = NULL;
    assert_int_equal(env_open(env, path, ENV_READ, &f, NULL), ERR_OK);
    assert_true(env_fd(f) >= 0);
    assert_true(env_mono_ns(env) > 0);
    assert_true(env_wall_us(env) > 0);
    uint8_t bytes[16] = {0};
    static const uint8_t none[16];
    env_random(env, bytes, sizeof(bytes));
    assert_memory_not_equal(bytes, none, sizeof(bytes));
    struct buf names = BUF_INIT;
    assert_int_equal(env_list(env, root, &names, NULL), ERR_OK);
    assert_int_equal(names.n, 5);
    buf_free(&names);
}

static void *
write_many(void *arg)
{
    struct envfile *f = arg;
    for (int i = 0; i < 1000; i++)
        (void)!env_pwrite(f, "x", 1, 0, NULL);
    return NULL;
}

static void
test_threads_are_counted_each_once(void **state)
{
    (void)state;
    AUTO(env_close) struct envfile *f = NULL;
    assert_int_equal(env_open(env, path, ENV_CREATE, &f, NULL), ERR_OK);
    rule(FAULT_WRITE, 1500, FAULT_FAIL, EIO);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, write_many, f);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_true(env_fault_calls(fault, FAULT_WRITE) == 3000);
    assert_true(env_fault_hits(fault) == 1);
}

/* What stands in PATH and what the call said belong together. */
static void
check_replaced(enum errcode rc, bool may_be_new)
{
    struct buf b = BUF_INIT;
    assert_int_equal(env_read_file(env_system(), path, 100, &b, NULL), ERR_OK);
    bool new = span_eq_str(buf_span(&b), "new content");
    if (rc == ERR_OK)
        assert_true(new);
    else if (!new || !may_be_new)
        assert_string_equal(buf_cstr(&b), "old");
    buf_free(&b);
}

/* Every N-th call of the replacing fails with ACTION. */
static void
replace_with_every_call_failing(enum env_fault_action action)
{
    uint64_t calls = UINT64_MAX;
    for (uint64_t n = 1; n <= calls; n++) {
        put_file("old");
        struct env_fault *each = env_fault_new(env_system());
        env_fault_add(each, &(struct env_fault_rule){.kinds = FAULT_ANY,
                                                     .nth = n,
                                                     .action = action,
                                                     .sys_errno = EIO});
        enum errcode rc = env_write_file_atomic(env_fault_env(each), path,
                                                SPAN_LIT("new content"), NULL);
        if (env_fault_hits(each) == 0) {
            calls = env_fault_calls(each, FAULT_ANY);
            assert_int_equal(rc, ERR_OK);
        } else {
            assert_int_equal(rc, ERR_IO);
        }
        /* Only a failed directory sync, and late answers, leave it open. */
        bool renamed = env_fault_calls(each, FAULT_RENAME) > 0;
        check_replaced(rc, renamed);
        env_fault_free(&each);
    }
    assert_true(calls == 5); /* create, write, fsync, rename, sync directory */
}

static void
test_atomic_write_keeps_old_or_new_whatever_fails(void **state)
{
    (void)state;
    replace_with_every_call_failing(FAULT_FAIL);
    replace_with_every_call_failing(FAULT_LATE);
    replace_with_every_call_failing(FAULT_TORN);
}

static void
test_atomic_write_keeps_old_or_new_wherever_killed(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 6; n++) {
        put_file("old");
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            rule(FAULT_ANY, n, FAULT_KILL, 0);
            enum errcode rc =
                env_write_file_atomic(env, path, SPAN_LIT("new content"), NULL);
            _exit(rc == ERR_OK ? 0 : 1);
        }
        int status = 0;
        assert_true(waitpid(child, &status, 0) == child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), n <= 5 ? FAULT_KILL_STATUS : 0);
        check_replaced(n <= 5 ? ERR_IO : ERR_OK, n == 5);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_each_kind_fails_alone),
        TEST(test_the_nth_matching_call_fails_and_from_then_on_if_asked),
        TEST(test_rules_may_be_for_one_path_and_all_of_them_count),
        TEST(test_short_torn_and_late),
        TEST(test_hook_sees_the_call_and_may_refuse_it),
        TEST(test_passes_clocks_randomness_and_descriptors),
        TEST(test_threads_are_counted_each_once),
        TEST(test_atomic_write_keeps_old_or_new_whatever_fails),
        TEST(test_atomic_write_keeps_old_or_new_wherever_killed),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
