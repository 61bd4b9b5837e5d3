/*
 * tests/base/test_env.c - the real machine in a temporary directory, and the
 * wrappers over an implementation that is interrupted and short all the time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env_private.h"
#include "tests/lib/tmpdir.h"

static char root[] = "/tmp/pollux-test-env-XXXXXX";

static int
make_root(void **state)
{
    (void)state;
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int
remove_root(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

static char *
in_root(const char *name)
{
    return xasprintf("%s/%s", root, name);
}

static void
assert_content(const char *path, const char *want)
{
    struct buf b = BUF_INIT;
    assert_int_equal(env_read_file(env_system(), path, 1 << 20, &b, NULL),
                     ERR_OK);
    assert_string_equal(buf_cstr(&b), want);
    buf_free(&b);
}

static void
test_file_is_made_written_read_and_closed(void **state)
{
    (void)state;
    struct env *env = env_system();
    struct error err = {0};
    AUTO(xfree) char *path = in_root("file");
    AUTO(env_close) struct envfile *f = NULL;
    assert_int_equal(env_open(env, path, ENV_READ, &f, &err), ERR_NOTFOUND);
    assert_null(f);
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, "open"));
    assert_int_equal(err.sys_errno, ENOENT);
    assert_int_equal(env_open(env, path, ENV_WRITE, &f, &err), ERR_NOTFOUND);
    assert_int_equal(env_open(env, path, ENV_NEW, &f, &err), ERR_OK);
    assert_int_equal(env_pwrite(f, "hello", 5, 3, &err), ERR_OK);
    uint64_t size = 0;
    assert_int_equal(env_size(f, &size, &err), ERR_OK);
    assert_int_equal(size, 8);
    char back[8];
    assert_int_equal(env_pread(f, back, 8, 0, &err), ERR_OK);
    assert_memory_equal(back, "\0\0\0hello", 8);
    size_t got = 99;
    assert_int_equal(env_pread_some(f, back, 8, 6, &got, &err), ERR_OK);
    assert_int_equal(got, 2);
    assert_int_equal(env_pread_some(f, back, 8, 100, &got, &err), ERR_OK);
    assert_int_equal(got, 0);
    assert_int_equal(env_pread(f, back, 3, 6, &err), ERR_GAP);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(env_fdatasync(f, &err), ERR_OK);
    assert_int_equal(env_fsync(f, &err), ERR_OK);
    assert_int_equal(env_truncate(f, 4, &err), ERR_OK);
    assert_int_equal(env_fallocate(f, 0, 8192, &err), ERR_OK);
    assert_int_equal(env_size(f, &size, &err), ERR_OK);
    assert_int_equal(size, 8192);
    assert_int_equal(env_pread(f, back, 8, 3, &err), ERR_OK);
    assert_memory_equal(back, "h\0\0\0\0\0\0\0", 8);
    assert_string_equal(env_path(f), path);
    assert_true(fcntl(env_fd(f), F_GETFD) & FD_CLOEXEC);
    struct stat st;
    assert_int_equal(fstat(env_fd(f), &st), 0);
    assert_int_equal(st.st_mode & 0777 & ~0600U, 0);

    struct envfile *second = NULL;
    assert_int_equal(env_open(env, path, ENV_UNNAMED, &second, &err), ERR_IO);
    assert_int_equal(env_open(env, path, ENV_NEW, &second, &err), ERR_EXISTS);
    assert_int_equal(env_open(env, path, ENV_CREATE, &second, &err), ERR_OK);
    env_close(&second);
    assert_null(second);
    env_close(&second);
    assert_int_equal(env_open(env, path, ENV_READ, &second, &err), ERR_OK);
    assert_int_equal(env_pwrite(second, "x", 1, 0, &err), ERR_IO);
    assert_int_equal(err.sys_errno, EBADF);
    assert_non_null(strstr(err.text, "write"));
    env_close(&second);
}

/* What is skipped are zeros, whatever the file system knows. */
static void
test_hole_is_skipped_up_to_what_was_written(void **state)
{
    (void)state;
    const uint64_t at = 1 << 20;
    struct error err = {0};
    AUTO(xfree) char *path = in_root("hole");
    AUTO(env_close) struct envfile *f = NULL;
    assert_int_equal(env_open(env_system(), path, ENV_NEW, &f, &err), ERR_OK);
    assert_int_equal(env_pwrite(f, "hello", 5, 0, &err), ERR_OK);
    assert_int_equal(env_fallocate(f, 0, 4 * at, &err), ERR_OK);
    assert_int_equal(env_pwrite(f, "hello", 5, at, &err), ERR_OK);

    uint64_t offset = 0;
    env_skip_hole(f, &offset); /* written, not yet on disk */
    assert_int_equal(offset, 0);
    offset = 65536;
    env_skip_hole(f, &offset);
    assert_in_range(offset, 65536, at);
    const bool knows = offset > 65536;
    offset = at + 4;
    env_skip_hole(f, &offset);
    assert_int_equal(offset, at + 4);
    offset = 2 * at;
    env_skip_hole(f, &offset);
    assert_int_equal(offset, knows ? 4 * at : 2 * at);
    offset = 5 * at; /* behind the end */
    env_skip_hole(f, &offset);
    assert_int_equal(offset, 5 * at);
}

static void
test_writing_that_was_started_is_as_written(void **state)
{
    (void)state;
    struct error err = {0};
    char back[6] = {0};
    AUTO(xfree) char *path = in_root("started");
    AUTO(env_close) struct envfile *f = NULL;
    assert_int_equal(env_open(env_system(), path, ENV_NEW, &f, &err), ERR_OK);
    assert_int_equal(env_pwrite(f, "hello", 5, 0, &err), ERR_OK);
    env_start_writing(f, 0, 5);
    env_start_writing(f, 1 << 20, 1 << 20); /* nothing is there */
    uint64_t size = 0;
    assert_int_equal(env_size(f, &size, &err), ERR_OK);
    assert_int_equal(size, 5);
    assert_int_equal(env_fdatasync(f, &err), ERR_OK);
    assert_int_equal(env_pread(f, back, 5, 0, &err), ERR_OK);
    assert_string_equal(back, "hello");
}

static void
test_full_disk_is_nospace(void **state)
{
    (void)state;
    struct error err = {0};
    AUTO(env_close) struct envfile *f = NULL;
    if (env_open(env_system(), "/dev/full", ENV_WRITE, &f, &err) != ERR_OK)
        skip();
    assert_int_equal(env_pwrite(f, "x", 1, 0, &err), ERR_NOSPACE);
    assert_non_null(strstr(err.text, "write /dev/full"));
}

static void
test_lock_is_held_until_close(void **state)
{
    (void)state;
    struct error err = {0};
    AUTO(xfree) char *path = in_root("lock");
    AUTO(env_close) struct envfile *a = NULL;
    AUTO(env_close) struct envfile *b = NULL;
    assert_int_equal(env_open(env_system(), path, ENV_CREATE, &a, &err),
                     ERR_OK);
    assert_int_equal(env_open(env_system(), path, ENV_CREATE, &b, &err),
                     ERR_OK);
    assert_int_equal(env_lock(a, &err), ERR_OK);
    assert_int_equal(env_lock(b, &err), ERR_BUSY);
    assert_non_null(strstr(err.text, path));
    env_close(&a);
    assert_int_equal(env_lock(b, &err), ERR_OK);
}

static void
test_directories_names_and_listing(void **state)
{
    (void)state;
    struct env *env = env_system();
    struct error err = {0};
    AUTO(xfree) char *deep = in_root("a//b/c/");
    AUTO(xfree) char *b = in_root("a/b");
    AUTO(xfree) char *f = in_root("a/b/f");
    AUTO(xfree) char *g = in_root("a/b/g");
    AUTO(xfree) char *below = in_root("a/b/g/x");
    struct buf names = BUF_INIT;
    assert_int_equal(env_list(env, b, &names, &err), ERR_NOTFOUND);
    assert_non_null(strstr(err.text, b));
    assert_int_equal(env_mkdirs(env, deep, &err), ERR_OK);
    assert_int_equal(env_mkdirs(env, deep, &err), ERR_OK);
    assert_int_equal(env_write_file_atomic(env, g, SPAN_LIT("1"), &err),
                     ERR_OK);
    assert_int_equal(env_mkdirs(env, g, &err), ERR_IO);
    assert_int_equal(err.sys_errno, ENOTDIR);
    assert_int_equal(env_mkdirs(env, below, &err), ERR_IO);
    assert_int_equal(env_write_file_atomic(env, f, SPAN_LIT("2"), &err),
                     ERR_OK);
    assert_int_equal(env_list(env, b, &names, &err), ERR_OK);
    assert_int_equal(names.n, 6);
    assert_memory_equal(names.p, "c\0f\0g", 6);
    struct buf small = BUF_MAX(5);
    assert_int_equal(env_list(env, b, &small, &err), ERR_LIMIT);
    assert_int_equal(small.n, 0);
    buf_free(&small);

    assert_int_equal(env_rename(env, f, g, &err), ERR_OK);
    assert_content(g, "2");
    assert_int_equal(env_rename(env, f, g, &err), ERR_NOTFOUND);
    assert_non_null(strstr(err.text, f));
    assert_non_null(strstr(err.text, g));
    assert_int_equal(env_syncdir(env, b, &err), ERR_OK);
    assert_int_equal(env_syncdir(env, f, &err), ERR_NOTFOUND);
    assert_true(env_exists(env, g));
    assert_int_equal(env_unlink(env, g, &err), ERR_OK);
    assert_int_equal(env_unlink(env, g, &err), ERR_OK);
    assert_false(env_exists(env, g));
    assert_false(env_exists(env, below));
    assert_false(env_may_exist(env, g));
    assert_false(env_may_exist(env, below));
    /* A look that fails: a link to itself (ELOOP). */
    assert_int_equal(symlink(g, g), 0);
    assert_false(env_exists(env, g));
    assert_true(env_may_exist(env, g));
    assert_int_equal(unlink(g), 0);
    assert_int_equal(env_unlink(env, b, &err), ERR_IO);
    buf_free(&names);
}

static void
test_whole_file_has_a_limit(void **state)
{
    (void)state;
    struct env *env = env_system();
    struct error err = {0};
    AUTO(xfree) char *path = in_root("whole");
    struct buf content = BUF_INIT;
    for (int i = 0; i < 40000; i++)
        buf_addf(&content, "%d\n", i);
    assert_int_equal(env_write_file_atomic(env, path, buf_span(&content), &err),
                     ERR_OK);
    struct buf b = BUF_INIT;
    buf_add_str(&b, "kept");
    assert_int_equal(env_read_file(env, path, content.n - 1, &b, &err),
                     ERR_LIMIT);
    assert_non_null(strstr(err.text, path));
    assert_true(span_eq_str(buf_span(&b), "kept"));
    assert_int_equal(env_read_file(env, path, content.n, &b, &err), ERR_OK);
    assert_true(span_eq(span_skip(buf_span(&b), 4), buf_span(&content)));
    struct buf small = BUF_MAX(1000);
    assert_int_equal(env_read_file(env, path, SIZE_MAX, &small, &err),
                     ERR_LIMIT);
    buf_free(&small);
    assert_int_equal(env_read_file(env, root, 10, &b, &err), ERR_IO);
    assert_int_equal(err.sys_errno, EISDIR);
    buf_free(&b);
    buf_free(&content);
}

static void
test_atomic_write_leaves_nothing_else_behind(void **state)
{
    (void)state;
    struct env *env = env_system();
    struct error err = {0};
    AUTO(xfree) char *dir = in_root("atomic");
    AUTO(xfree) char *path = in_root("atomic/f");
    AUTO(xfree) char *sub = in_root("atomic/f/sub");
    assert_int_equal(env_mkdirs(env, dir, &err), ERR_OK);
    assert_int_equal(env_write_file_atomic(env, path, SPAN_LIT("old"), &err),
                     ERR_OK);
    assert_int_equal(env_write_file_atomic(env, path, SPAN_EMPTY, &err),
                     ERR_OK);
    assert_content(path, "");
    /* A directory of that name cannot be replaced: the new file goes again. */
    assert_int_equal(env_unlink(env, path, &err), ERR_OK);
    assert_int_equal(env_mkdirs(env, sub, &err), ERR_OK);
    assert_int_equal(env_write_file_atomic(env, path, SPAN_LIT("x"), &err),
                     ERR_IO);
    struct buf names = BUF_INIT;
    assert_int_equal(env_list(env, dir, &names, &err), ERR_OK);
    assert_int_equal(names.n, 2);
    buf_free(&names);
}

static void
test_clocks_and_randomness(void **state)
{
    (void)state;
    struct env *env = env_system();
    uint64_t a = env_mono_ns(env);
    assert_true(env_mono_ns(env) >= a);
    assert_true(env_wall_us(env) > UINT64_C(1700000000000000));
    uint8_t x[300] = {0};
    uint8_t y[300] = {0};
    env_random(env, x, sizeof(x));
    env_random(env, y, sizeof(y));
    assert_memory_not_equal(x, y, sizeof(x));
    env_random(env, x, 0);
}

/*
 * An implementation over one small array: every call is interrupted first, and
 * transfers take three bytes at most.
 */
struct stutter {
    struct env env;
    uint8_t bytes[64];
    bool interrupted;
    int put; /* pwrite answers this when it is not 0 */
    int syncs;
};

static struct stutter *
stutter_of(struct envfile *f)
{
    return (struct stutter *)f->env;
}

static bool
interrupt(struct stutter *s)
{
    s->interrupted = !s->interrupted;
    return s->interrupted;
}

static ssize_t
stutter_pread(struct envfile *f, void *to, size_t n, uint64_t offset)
{
    struct stutter *s = stutter_of(f);
    if (interrupt(s))
        return -EINTR;
    n = MIN(n, 3U);
    n = offset >= sizeof(s->bytes) ? 0 : MIN(n, sizeof(s->bytes) - offset);
    memcpy(to, s->bytes + offset, n);
    return (ssize_t)n;
}

static ssize_t
stutter_pwrite(struct envfile *f, const void *from, size_t n, uint64_t offset)
{
    struct stutter *s = stutter_of(f);
    if (interrupt(s))
        return -EINTR;
    if (s->put != 0)
        return s->put > 0 ? 0 : s->put;
    n = MIN(n, 3U);
    memcpy(s->bytes + offset, from, n);
    return (ssize_t)n;
}

static int
stutter_sync(struct envfile *f)
{
    stutter_of(f)->syncs++;
    return -EINTR;
}

static void
test_wrappers_go_on_after_interrupts_and_short_transfers(void **state)
{
    (void)state;
    static const struct env_ops ops = {.pread = stutter_pread,
                                       .pwrite = stutter_pwrite,
                                       .fdatasync = stutter_sync,
                                       .fsync = stutter_sync};
    struct stutter s = {.env.ops = &ops};
    struct envfile f;
    struct error err = {0};
    envfile_init(&f, &s.env, "stutter");
    assert_int_equal(env_pwrite(&f, "0123456789", 10, 5, &err), ERR_OK);
    char back[10];
    assert_int_equal(env_pread(&f, back, 10, 5, &err), ERR_OK);
    assert_memory_equal(back, "0123456789", 10);
    size_t got = 0;
    assert_int_equal(env_pread_some(&f, back, 10, 60, &got, &err), ERR_OK);
    assert_int_equal(got, 4);

    s.put = -EIO;
    assert_int_equal(env_pwrite(&f, "x", 1, 0, &err), ERR_IO);
    assert_int_equal(err.sys_errno, EIO);
    s.put = -ENOSPC;
    assert_int_equal(env_pwrite(&f, "x", 1, 0, &err), ERR_NOSPACE);
    s.put = 1; /* takes nothing, for ever */
    assert_int_equal(env_pwrite(&f, "x", 1, 0, &err), ERR_IO);

    /* A sync is never tried again. */
    assert_int_equal(env_fdatasync(&f, &err), ERR_IO);
    assert_non_null(strstr(err.text, "fdatasync stutter"));
    assert_int_equal(env_fsync(&f, &err), ERR_IO);
    assert_int_equal(s.syncs, 2);
    envfile_done(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_is_made_written_read_and_closed),
        cmocka_unit_test(test_hole_is_skipped_up_to_what_was_written),
        cmocka_unit_test(test_writing_that_was_started_is_as_written),
        cmocka_unit_test(test_full_disk_is_nospace),
        cmocka_unit_test(test_lock_is_held_until_close),
        cmocka_unit_test(test_directories_names_and_listing),
        cmocka_unit_test(test_whole_file_has_a_limit),
        cmocka_unit_test(test_atomic_write_leaves_nothing_else_behind),
        cmocka_unit_test(test_clocks_and_randomness),
        cmocka_unit_test(
            test_wrappers_go_on_after_interrupts_and_short_transfers),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
