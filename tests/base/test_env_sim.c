/*
 * tests/base/test_env_sim.c - the machine in memory: against the real one by
 * random calls on both; then what a power cut leaves, for many seeds of one
 * history (a clone each), and that every outcome which is possible happens.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env_fault.h"
#include "base/env_sim.h"
#include "tests/lib/tmpdir.h"

#define SEEDS 300

static struct env_sim *sim;
static struct env *env;

static int
begin(void **state)
{
    (void)state;
    sim = env_sim_new(&(struct env_sim_options){.seed = 1});
    env = env_sim_env(sim);
    return 0;
}

static int
end(void **state)
{
    (void)state;
    env_sim_free(&sim);
    return 0;
}

static struct envfile *
opened(const char *path, enum envopen how)
{
    struct envfile *f = NULL;
    assert_int_equal(env_open(env, path, how, &f, NULL), ERR_OK);
    return f;
}

static void
put(const char *path, const char *content, bool sync)
{
    struct envfile *f = opened(path, ENV_CREATE);
    assert_int_equal(env_pwrite(f, content, strlen(content), 0, NULL), ERR_OK);
    if (sync)
        assert_int_equal(env_fdatasync(f, NULL), ERR_OK);
    env_close(&f);
}

static void
syncdir(const char *path)
{
    assert_int_equal(env_syncdir(env, path, NULL), ERR_OK);
}

/* The content in E as a C string; "-" when there is no such file. */
static const char *
content_in(struct env *e, const char *path, struct buf *b)
{
    buf_clear(b);
    enum errcode rc = env_read_file(e, path, 1 << 20, b, NULL);
    if (rc == ERR_NOTFOUND)
        return "-";
    assert_int_equal(rc, ERR_OK);
    return buf_cstr(b);
}

static struct env_sim *
crashed(uint64_t seed)
{
    struct env_sim *copy = env_sim_clone(sim);
    env_sim_crash(copy, seed);
    assert_true(env_sim_unsynced(copy) == 0);
    return copy;
}

/*
 * Crash with many seeds; the contents of up to three files, "a,b,-", must be
 * among OUTCOMES (NULL-terminated), and each of these must be seen.
 */
static void
assert_outcomes(const char *const paths[3], const char *const *outcomes)
{
    bool seen[16] = {false};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct env_sim *copy = crashed(seed);
        struct buf text = BUF_INIT;
        struct buf b = BUF_INIT;
        for (size_t i = 0; i < 3 && paths[i] != NULL; i++)
            buf_addf(&text, "%s%s", i == 0 ? "" : ",",
                     content_in(env_sim_env(copy), paths[i], &b));
        size_t i = 0;
        while (outcomes[i] != NULL &&
               !span_eq_str(buf_span(&text), outcomes[i]))
            i++;
        if (outcomes[i] == NULL)
            fail_msg("seed %lu: %s", (unsigned long)seed, buf_cstr(&text));
        seen[i] = true;
        buf_free(&text);
        buf_free(&b);
        env_sim_free(&copy);
    }
    for (size_t i = 0; outcomes[i] != NULL; i++)
        if (!seen[i])
            fail_msg("never seen: %s", outcomes[i]);
}

#define PATHS(...) ((const char *const[3]){__VA_ARGS__})
#define OUTCOMES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ------------------------------------------------------------------------ */

static uint32_t
next_random(uint64_t *state, uint32_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407U;
    return (uint32_t)(*state >> 33) % below;
}

struct pair {
    struct env *e;
    char root[40];
    struct envfile *f[4];
    struct error err;
};

static char *
name_in(const struct pair *p, uint32_t n)
{
    static const char *const names[] = {"a",    "b",   "d",     "d/a",
                                        "d/b",  "d/e", "d/e/a", "a/x",
                                        "no/x", "e",   "e/a",   "d//e/./b"};
    return xasprintf("%s/%s", p->root, names[n % ARRAY_LEN(names)]);
}

/* One random call; what it answers, as text. */
static void
random_call(struct pair *p, uint64_t seed, struct buf *out)
{
    static uint8_t data[20000];
    uint32_t kind = next_random(&seed, 13);
    uint32_t slot = next_random(&seed, 4);
    AUTO(xfree) char *path = name_in(p, next_random(&seed, 12));
    AUTO(xfree) char *to = name_in(p, next_random(&seed, 12));
    uint64_t offset = next_random(&seed, 30000);
    size_t n = next_random(&seed, next_random(&seed, 2) == 0 ? 20 : 15000);
    struct envfile *f = p->f[slot];
    enum errcode rc = ERR_OK;
    uint64_t number = 0;
    size_t got = 0;

    p->err = (struct error){0};
    memset(data, (int)(seed >> 40 | 1), sizeof(data));
    if (kind < 2) {
        env_close(&p->f[slot]);
        rc = env_open(p->e, path, (enum envopen)next_random(&seed, 4),
                      &p->f[slot], &p->err);
    } else if (kind == 2) {
        rc = env_mkdirs(p->e, path, &p->err);
    } else if (kind == 3) {
        rc = env_rename(p->e, path, to, &p->err);
    } else if (kind == 4) {
        /* unlink of a directory answers EISDIR there and here */
        rc = env_unlink(p->e, path, &p->err);
    } else if (kind == 5) {
        rc = env_list(p->e, path, out, &p->err);
    } else if (kind == 6) {
        number = env_exists(p->e, path);
    } else if (f == NULL) {
        return;
    } else if (kind == 7) {
        rc = env_truncate(f, offset, &p->err);
    } else if (kind == 8) {
        rc = env_fallocate(f, offset, n + 1, &p->err);
    } else if (kind == 9) {
        rc = env_pread_some(f, data, n, offset, &got, &p->err);
        buf_add(out, span_of(data, got));
    } else if (kind == 10) {
        rc = env_size(f, &number, &p->err);
    } else {
        rc = env_pwrite(f, data, n, offset, &p->err);
    }
    buf_addf(out, " kind %u: %d %d %lu", kind, (int)rc, p->err.sys_errno,
             (unsigned long)number);
}

static void
test_random_calls_answer_as_the_real_machine_does(void **state)
{
    (void)state;
    struct pair real = {.e = env_system()};
    struct pair ours = {.e = env, .root = "/root"};
    snprintf(real.root, sizeof(real.root), "/tmp/pollux-test-sim-XXXXXX");
    assert_non_null(mkdtemp(real.root));
    assert_int_equal(env_mkdirs(env, ours.root, NULL), ERR_OK);
    struct buf a = BUF_INIT;
    struct buf b = BUF_INIT;
    for (uint64_t i = 0; i < 6000; i++) {
        buf_clear(&a);
        buf_clear(&b);
        random_call(&real, i * 7919, &a);
        random_call(&ours, i * 7919, &b);
        if (!span_eq(buf_span(&a), buf_span(&b)))
            fail_msg("call %lu: real '%s', simulated '%s' (%s)",
                     (unsigned long)i, buf_cstr(&a), buf_cstr(&b),
                     ours.err.text);
    }
    for (int i = 0; i < 4; i++) {
        env_close(&real.f[i]);
        env_close(&ours.f[i]);
    }
    buf_free(&a);
    buf_free(&b);
    remove_tree(real.root);
}

static void
test_what_only_the_simulation_refuses(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(env_mkdirs(env, "/a/../b", &err), ERR_IO);
    assert_int_equal(err.sys_errno, EINVAL);
    char name[300];
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(env_mkdirs(env, name, &err), ERR_IO);
    assert_int_equal(err.sys_errno, ENAMETOOLONG);
    assert_int_equal(env_rename(env, "/", "/x", &err), ERR_IO);
    struct envfile *f = opened("/f", ENV_NEW);
    assert_int_equal(env_fd(f), -1);
    assert_int_equal(env_pwrite(f, "x", 1, ENV_SIM_FILE_MAX, &err), ERR_IO);
    assert_int_equal(err.sys_errno, EFBIG);
    assert_int_equal(env_truncate(f, ENV_SIM_FILE_MAX + 1, &err), ERR_IO);
    assert_int_equal(env_fallocate(f, 1, UINT64_MAX, &err), ERR_IO);
    env_close(&f);
}

static void
test_locks_and_open_files_end_with_a_crash(void **state)
{
    (void)state;
    struct error err = {0};
    struct envfile *a = opened("/lock", ENV_CREATE);
    struct envfile *b = opened("/lock", ENV_CREATE);
    syncdir("/");
    assert_int_equal(env_lock(a, &err), ERR_OK);
    assert_int_equal(env_lock(a, &err), ERR_OK);
    assert_int_equal(env_lock(b, &err), ERR_BUSY);
    env_sim_crash(sim, 1);
    struct envfile *c = opened("/lock", ENV_WRITE);
    assert_int_equal(env_lock(c, &err), ERR_OK);
    char byte = 0;
    uint64_t size = 0;
    assert_int_equal(env_pwrite(a, "x", 1, 0, &err), ERR_IO);
    assert_int_equal(err.sys_errno, EBADF);
    assert_int_equal(env_pread(a, &byte, 1, 0, &err), ERR_IO);
    assert_int_equal(env_fsync(a, &err), ERR_IO);
    assert_int_equal(env_truncate(a, 1, &err), ERR_IO);
    assert_int_equal(env_fallocate(a, 0, 1, &err), ERR_IO);
    assert_int_equal(env_size(a, &size, &err), ERR_IO);
    assert_int_equal(env_lock(a, &err), ERR_IO);
    env_close(&a); /* takes no lock of the new life with it */
    env_close(&b);
    assert_int_equal(env_size(c, &size, &err), ERR_OK);
    assert_int_equal(size, 0);
    struct envfile *d = opened("/lock", ENV_WRITE);
    assert_int_equal(env_lock(d, &err), ERR_BUSY);
    env_close(&c);
    assert_int_equal(env_lock(d, &err), ERR_OK);
    env_close(&d);
}

static void
test_synced_data_survives_every_seed(void **state)
{
    (void)state;
    assert_int_equal(env_mkdirs(env, "/d/e", NULL), ERR_OK); /* durable */
    put("/d/e/f", "synced", true);
    syncdir("/d/e");
    assert_true(env_sim_unsynced(sim) == 0);
    put("/d/e/other", "unsynced", false);
    assert_true(env_sim_unsynced(sim) == 3); /* name, size, sector */
    assert_outcomes(PATHS("/d/e/f"), OUTCOMES("synced"));
}

/* Two sectors of 'o', then 'n' over both, unsynced. */
static void
test_unsynced_sectors_are_old_or_new_each_by_itself(void **state)
{
    (void)state;
    enum { N = 8 * ENV_SIM_SECTOR_BYTES + 100 };
    static char old[N];
    static char new[N];
    memset(old, 'o', N);
    memset(new, 'n', N);
    struct envfile *f = opened("/f", ENV_NEW);
    assert_int_equal(env_pwrite(f, old, N, 0, NULL), ERR_OK);
    assert_int_equal(env_fsync(f, NULL), ERR_OK);
    syncdir("/");
    assert_int_equal(env_pwrite(f, new, N, 0, NULL), ERR_OK);
    env_close(&f);

    bool all_old = false, all_new = false, mixed = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct env_sim *copy = crashed(seed);
        struct buf b = BUF_INIT;
        content_in(env_sim_env(copy), "/f", &b);
        assert_int_equal(b.n, N);
        size_t news = 0;
        for (size_t at = 0; at < N; at += ENV_SIM_SECTOR_BYTES) {
            size_t n = MIN((size_t)ENV_SIM_SECTOR_BYTES, N - at);
            const char *want = b.p[at] == 'n' ? new : old;
            assert_memory_equal(b.p + at, want, n);
            news += b.p[at] == 'n';
        }
        all_old |= news == 0;
        all_new |= news == 9;
        mixed |= news > 0 && news < 9;
        buf_free(&b);
        env_sim_free(&copy);
    }
    assert_true(all_old && all_new && mixed);
}

static void
test_of_several_unsynced_versions_any_may_survive(void **state)
{
    (void)state;
    put("/f", "0", true);
    syncdir("/");
    bool seen[4] = {false};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        /* Writeback belongs to the history, not to the crash. */
        struct env_sim *other =
            env_sim_new(&(struct env_sim_options){.seed = seed});
        struct env *saved = env;
        env = env_sim_env(other);
        put("/f", "0", true);
        syncdir("/");
        put("/f", "1", false);
        put("/f", "2", false);
        put("/f", "3", false);
        env_sim_crash(other, seed);
        struct buf b = BUF_INIT;
        const char *text = content_in(env, "/f", &b);
        assert_int_equal(strlen(text), 1);
        assert_in_range(text[0], '0', '3');
        seen[text[0] - '0'] = true;
        buf_free(&b);
        env = saved;
        env_sim_free(&other);
    }
    assert_true(seen[0] && seen[1] && seen[2] && seen[3]);
}

static void
test_unsynced_growth_is_kept_lost_or_half_kept(void **state)
{
    (void)state;
    static char more[3000];
    memset(more, 'm', sizeof(more));
    put("/f", "begin", true);
    syncdir("/");
    struct envfile *f = opened("/f", ENV_WRITE);
    assert_int_equal(env_pwrite(f, more, sizeof(more), 5, NULL), ERR_OK);
    env_close(&f);
    bool old = false, full = false, between = false, hole = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct env_sim *copy = crashed(seed);
        struct buf b = BUF_INIT;
        content_in(env_sim_env(copy), "/f", &b);
        assert_in_range(b.n, 5, 3005);
        assert_memory_equal(b.p, "begin", 5);
        for (size_t i = 5; i < b.n; i++) {
            assert_true(b.p[i] == 'm' || b.p[i] == 0);
            hole |= b.p[i] == 0;
        }
        old |= b.n == 5;
        full |= b.n == 3005;
        between |= b.n > 5 && b.n < 3005;
        /* What was cut off does not come back. */
        f = NULL;
        assert_int_equal(env_open(env_sim_env(copy), "/f", ENV_WRITE, &f, NULL),
                         ERR_OK);
        assert_int_equal(env_truncate(f, 3005, NULL), ERR_OK);
        size_t n = b.n;
        content_in(env_sim_env(copy), "/f", &b);
        for (size_t i = n; i < b.n; i++)
            assert_int_equal(b.p[i], 0);
        env_close(&f);
        buf_free(&b);
        env_sim_free(&copy);
    }
    assert_true(old && full && between && hole);
}

static void
test_unsynced_truncation_is_kept_or_lost(void **state)
{
    (void)state;
    put("/f", "0123456789", true);
    syncdir("/");
    struct envfile *f = opened("/f", ENV_WRITE);
    assert_int_equal(env_truncate(f, 4, NULL), ERR_OK);
    /* The zeros of the cut share a sector with what stays. */
    assert_outcomes(PATHS("/f"),
                    OUTCOMES("0123456789", "0123" /* size or bytes */));
    assert_int_equal(env_fdatasync(f, NULL), ERR_OK);
    env_close(&f);
    assert_outcomes(PATHS("/f"), OUTCOMES("0123"));
}

static void
test_allocated_space_reads_as_zeros_and_holds_what_was_synced(void **state)
{
    (void)state;
    struct envfile *f = opened("/seg", ENV_NEW);
    assert_int_equal(env_fallocate(f, 0, 1 << 20, NULL), ERR_OK);
    assert_int_equal(env_fsync(f, NULL), ERR_OK);
    syncdir("/");
    assert_true(env_sim_used_bytes(sim) == 1 << 20);
    assert_int_equal(env_pwrite(f, "frame1", 6, 0, NULL), ERR_OK);
    assert_int_equal(env_fdatasync(f, NULL), ERR_OK);
    assert_int_equal(env_pwrite(f, "frame2", 6, 4096, NULL), ERR_OK);
    env_close(&f);
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct env_sim *copy = crashed(seed);
        struct buf b = BUF_INIT;
        content_in(env_sim_env(copy), "/seg", &b);
        assert_int_equal(b.n, 1 << 20);
        assert_memory_equal(b.p, "frame1\0\0\0", 9);
        assert_true(b.p[4096] == 0 || memcmp(b.p + 4096, "frame2", 6) == 0);
        assert_true(env_sim_used_bytes(copy) == 1 << 20);
        buf_free(&b);
        env_sim_free(&copy);
    }
}

static void
test_a_name_is_durable_only_after_syncdir(void **state)
{
    (void)state;
    put("/f", "x", true);
    assert_outcomes(PATHS("/f"), OUTCOMES("x", "-"));
    syncdir("/");
    assert_outcomes(PATHS("/f"), OUTCOMES("x"));
    assert_int_equal(env_unlink(env, "/f", NULL), ERR_OK);
    assert_outcomes(PATHS("/f"), OUTCOMES("x", "-"));
    syncdir("/");
    assert_outcomes(PATHS("/f"), OUTCOMES("-"));
}

static void
test_a_file_in_a_lost_directory_is_lost(void **state)
{
    (void)state;
    assert_int_equal(env->ops->mkdir(env, "/d"), 0); /* not made durable */
    put("/d/f", "x", true);
    syncdir("/d");
    assert_outcomes(PATHS("/d/f"), OUTCOMES("x", "-"));
    syncdir("/");
    assert_outcomes(PATHS("/d/f"), OUTCOMES("x"));
}

static void
test_rename_without_syncdir_may_be_lost_but_never_halved(void **state)
{
    (void)state;
    put("/a", "new", true);
    put("/b", "old", true);
    syncdir("/");
    assert_int_equal(env_rename(env, "/a", "/b", NULL), ERR_OK);
    assert_outcomes(PATHS("/a", "/b"), OUTCOMES("new,old", "-,new"));
    put("/a", "newer", true);
    assert_outcomes(PATHS("/a", "/b"),
                    OUTCOMES("new,old", "-,new", "newer,new"));
    assert_int_equal(env_rename(env, "/a", "/b", NULL), ERR_OK);
    assert_outcomes(PATHS("/a", "/b"),
                    OUTCOMES("new,old", "-,new", "newer,new", "-,newer"));
    syncdir("/");
    assert_outcomes(PATHS("/a", "/b"), OUTCOMES("-,newer"));
}

static void
test_changes_of_different_names_are_kept_independently(void **state)
{
    (void)state;
    put("/a", "a", true);
    put("/b", "b", true);
    assert_outcomes(PATHS("/a", "/b"), OUTCOMES("-,-", "a,-", "-,b", "a,b"));
}

static void
test_rename_across_directories_is_durable_as_one(void **state)
{
    (void)state;
    assert_int_equal(env_mkdirs(env, "/x", NULL), ERR_OK);
    assert_int_equal(env_mkdirs(env, "/y", NULL), ERR_OK);
    put("/x/f", "1", true);
    syncdir("/x");
    assert_int_equal(env_rename(env, "/x/f", "/y/f", NULL), ERR_OK);
    assert_outcomes(PATHS("/x/f", "/y/f"), OUTCOMES("1,-", "-,1"));
    syncdir("/y");
    assert_outcomes(PATHS("/x/f", "/y/f"), OUTCOMES("-,1"));

    /* A directory with its content, and back into what it held. */
    assert_int_equal(env_rename(env, "/y", "/x/y", NULL), ERR_OK);
    assert_outcomes(PATHS("/y/f", "/x/y/f"), OUTCOMES("1,-", "-,1"));
    assert_int_equal(env_rename(env, "/x/y/f", "/f", NULL), ERR_OK);
    assert_int_equal(env_rename(env, "/x", "/z", NULL), ERR_OK);
    syncdir("/");
    assert_outcomes(PATHS("/f", "/z/y/f"), OUTCOMES("1,-"));
}

static void
test_directories_moved_into_each_other_do_no_harm(void **state)
{
    (void)state;
    assert_int_equal(env_mkdirs(env, "/a/b", NULL), ERR_OK);
    assert_int_equal(env_rename(env, "/a/b", "/b", NULL), ERR_OK);
    assert_int_equal(env_rename(env, "/a", "/b/a", NULL), ERR_OK);
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct env_sim *copy = crashed(seed);
        struct env *e = env_sim_env(copy);
        bool first = env_exists(e, "/a/b") && !env_exists(e, "/b");
        bool second = env_exists(e, "/a") && env_exists(e, "/b");
        bool third = env_exists(e, "/b/a") && !env_exists(e, "/a");
        assert_true(first || second || third);
        env_sim_free(&copy);
    }
    env_sim_crash(sim, 3);
}

struct power {
    struct env_sim *sim;
};

static int
cut_power(void *ctx, enum env_fault_kind kind, const char *path)
{
    struct power *p = ctx;
    (void)kind;
    (void)path;
    env_sim_halt(p->sim);
    return 0;
}

static void
test_atomic_write_leaves_old_or_new_wherever_the_power_goes(void **state)
{
    (void)state;
    assert_int_equal(env_write_file_atomic(env, "/f", SPAN_LIT("old"), NULL),
                     ERR_OK);
    unsigned outcomes = 0;
    for (uint64_t n = 1; n <= 6; n++) {
        struct env_sim *at = env_sim_clone(sim);
        struct env_fault *fault = env_fault_new(env_sim_env(at));
        struct power power = {at};
        env_fault_add(fault, &(struct env_fault_rule){.kinds = FAULT_ANY,
                                                      .nth = n,
                                                      .action = FAULT_HOOK,
                                                      .hook = cut_power,
                                                      .hook_ctx = &power});
        enum errcode rc = env_write_file_atomic(env_fault_env(fault), "/f",
                                                SPAN_LIT("new"), NULL);
        assert_int_equal(rc, n <= 5 ? ERR_IO : ERR_OK);
        for (uint64_t seed = 0; seed < 100; seed++) {
            struct env_sim *copy = env_sim_clone(at);
            env_sim_crash(copy, seed);
            struct buf b = BUF_INIT;
            const char *text = content_in(env_sim_env(copy), "/f", &b);
            bool new = strcmp(text, "new") == 0;
            assert_true(new || strcmp(text, "old") == 0);
            assert_true(new || n <= 5);  /* said to be done: it is there */
            assert_true(!new || n >= 5); /* not renamed: it is not */
            outcomes |= n == 5 ? 1U << new : 0U;
            buf_free(&b);
            env_sim_free(&copy);
        }
        env_fault_free(&fault);
        env_sim_free(&at);
    }
    assert_int_equal(outcomes, 3); /* before the directory sync: either */
}

static void
test_failed_sync_loses_what_it_calls_clean(void **state)
{
    (void)state;
    struct error err = {0};
    put("/f", "old", true);
    syncdir("/");
    struct envfile *f = opened("/f", ENV_WRITE);
    env_sim_fail_sync(sim, 2, EIO);
    assert_int_equal(env_fdatasync(f, &err), ERR_OK);
    assert_int_equal(env_pwrite(f, "newer", 5, 0, &err), ERR_OK);
    assert_int_equal(env_fdatasync(f, &err), ERR_IO);
    assert_int_equal(err.sys_errno, EIO);
    struct buf b = BUF_INIT;
    assert_string_equal(content_in(env, "/f", &b), "newer");
    assert_int_equal(env_fdatasync(f, &err), ERR_OK); /* it lies */
    assert_true(env_sim_unsynced(sim) == 0);
    assert_outcomes(PATHS("/f"), OUTCOMES("old"));
    assert_int_equal(env_pwrite(f, "newer", 5, 0, &err), ERR_OK);
    assert_int_equal(env_fdatasync(f, &err), ERR_OK);
    assert_outcomes(PATHS("/f"), OUTCOMES("newer"));
    /* The same for a size that was lost. */
    env_sim_fail_sync(sim, 1, EIO);
    assert_int_equal(env_pwrite(f, "est", 3, 4, &err), ERR_OK);
    assert_int_equal(env_fdatasync(f, &err), ERR_IO);
    assert_outcomes(PATHS("/f"), OUTCOMES("newer"));
    assert_int_equal(env_pwrite(f, "est", 3, 4, &err), ERR_OK);
    assert_int_equal(env_fdatasync(f, &err), ERR_OK);
    assert_outcomes(PATHS("/f"), OUTCOMES("neweest"));
    env_sim_fail_sync(sim, 1, EIO);
    env_sim_fail_sync(sim, 0, 0);
    assert_int_equal(env_fsync(f, &err), ERR_OK);
    env_close(&f);
    buf_free(&b);
}

static void
test_flipped_bit_is_seen_and_stays(void **state)
{
    (void)state;
    put("/f", "abc", true);
    syncdir("/");
    assert_false(env_sim_flip_bit(sim, "/f", 3, 0));
    assert_false(env_sim_flip_bit(sim, "/f", 0, 8));
    assert_false(env_sim_flip_bit(sim, "/g", 0, 0));
    assert_false(env_sim_flip_bit(sim, "/", 0, 0));
    assert_true(env_sim_flip_bit(sim, "/f", 1, 0));
    struct buf b = BUF_INIT;
    assert_string_equal(content_in(env, "/f", &b), "acc");
    assert_outcomes(PATHS("/f"), OUTCOMES("acc"));
    buf_free(&b);
}

static void
test_full_disk_refuses_growth_and_heals(void **state)
{
    (void)state;
    static char block[3 * ENV_SIM_BLOCK_BYTES];
    struct error err = {0};
    env_sim_set_disk_bytes(sim, 3 * ENV_SIM_BLOCK_BYTES);
    struct envfile *f = opened("/f", ENV_NEW);
    struct envfile *g = opened("/g", ENV_NEW);
    assert_int_equal(env_fallocate(g, 0, 4 * ENV_SIM_BLOCK_BYTES, &err),
                     ERR_NOSPACE);
    assert_int_equal(env_fallocate(g, 0, ENV_SIM_BLOCK_BYTES, &err), ERR_OK);
    /* As much as fits is written, then the call fails. */
    assert_int_equal(env_pwrite(f, block, sizeof(block), 0, &err), ERR_NOSPACE);
    uint64_t size = 0;
    assert_int_equal(env_size(f, &size, &err), ERR_OK);
    assert_int_equal(size, 2 * ENV_SIM_BLOCK_BYTES);
    assert_true(env_sim_used_bytes(sim) == 3 * ENV_SIM_BLOCK_BYTES);
    assert_int_equal(env_pwrite(g, block, ENV_SIM_BLOCK_BYTES, 0, &err),
                     ERR_OK); /* has its block */
    assert_int_equal(env_pwrite(g, "x", 1, ENV_SIM_BLOCK_BYTES, &err),
                     ERR_NOSPACE);
    assert_int_equal(env_truncate(f, ENV_SIM_BLOCK_BYTES, &err), ERR_OK);
    assert_int_equal(env_pwrite(g, "x", 1, ENV_SIM_BLOCK_BYTES, &err), ERR_OK);
    /* An unlinked file keeps its space while it is open. */
    assert_int_equal(env_unlink(env, "/g", &err), ERR_OK);
    assert_true(env_sim_used_bytes(sim) == 3 * ENV_SIM_BLOCK_BYTES);
    env_close(&g);
    assert_true(env_sim_used_bytes(sim) == ENV_SIM_BLOCK_BYTES);
    assert_int_equal(env_pwrite(f, block, sizeof(block), 0, &err), ERR_OK);
    env_close(&f);
    env_sim_set_disk_bytes(sim, 0);
    put("/h", "x", false);
    assert_true(env_sim_used_bytes(sim) == 4 * ENV_SIM_BLOCK_BYTES);
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct env_sim *copy = crashed(seed);
        assert_true(env_sim_used_bytes(copy) <= 7 * ENV_SIM_BLOCK_BYTES);
        env_sim_free(&copy);
    }
}

static void
test_clocks_move_only_when_told(void **state)
{
    (void)state;
    uint64_t mono = env_mono_ns(env);
    uint64_t wall = env_wall_us(env);
    assert_true(mono > 0);
    assert_true(env_mono_ns(env) == mono);
    env_sim_advance_us(sim, 1500);
    assert_true(env_mono_ns(env) == mono + 1500000);
    assert_true(env_wall_us(env) == wall + 1500);
    env_sim_set_wall_us(sim, 42);
    assert_true(env_wall_us(env) == 42);
    env_sim_crash(sim, 1);
    assert_true(env_mono_ns(env) == mono + 1500000);
}

static void
test_randomness_comes_from_the_seed(void **state)
{
    (void)state;
    struct env_sim *same =
        env_sim_new(&(struct env_sim_options){.seed = 1, .wall_us = 7});
    struct env_sim *other = env_sim_new(&(struct env_sim_options){.seed = 2});
    uint8_t a[100];
    uint8_t b[100];
    env_random(env, a, sizeof(a));
    env_random(env_sim_env(same), b, sizeof(b));
    assert_memory_equal(a, b, sizeof(a));
    env_random(env_sim_env(other), b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    env_random(env, b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_true(env_wall_us(env_sim_env(same)) == 7);
    env_sim_free(&same);
    env_sim_free(&other);
    env_sim_free(&other);
}

static void
test_one_seed_gives_one_outcome(void **state)
{
    (void)state;
    for (char name[] = "/a"; name[1] < 'm'; name[1]++)
        put(name, name, false);
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct env_sim *x = crashed(seed);
        struct env_sim *y = crashed(seed);
        struct buf a = BUF_INIT;
        struct buf b = BUF_INIT;
        for (char name[] = "/a"; name[1] < 'm'; name[1]++)
            assert_string_equal(content_in(env_sim_env(x), name, &a),
                                content_in(env_sim_env(y), name, &b));
        buf_free(&a);
        buf_free(&b);
        env_sim_free(&x);
        env_sim_free(&y);
    }
}

static void
test_halted_machine_takes_nothing_until_the_crash(void **state)
{
    (void)state;
    struct error err = {0};
    put("/f", "x", true);
    syncdir("/");
    struct envfile *f = opened("/f", ENV_WRITE);
    env_sim_halt(sim);
    struct envfile *g = NULL;
    struct buf b = BUF_INIT;
    assert_int_equal(env_pwrite(f, "y", 1, 0, &err), ERR_IO);
    assert_int_equal(env_fdatasync(f, &err), ERR_IO);
    assert_int_equal(env_open(env, "/g", ENV_CREATE, &g, &err), ERR_IO);
    assert_int_equal(env_rename(env, "/f", "/g", &err), ERR_IO);
    assert_int_equal(env_unlink(env, "/f", &err), ERR_IO);
    assert_int_equal(env_mkdirs(env, "/d", &err), ERR_IO);
    assert_int_equal(env_syncdir(env, "/", &err), ERR_IO);
    assert_int_equal(env_list(env, "/", &b, &err), ERR_IO);
    assert_false(env_exists(env, "/f"));
    env_close(&f);
    env_sim_crash(sim, 1);
    assert_string_equal(content_in(env, "/f", &b), "x");
    buf_free(&b);
}

static void
test_clone_lives_its_own_life(void **state)
{
    (void)state;
    put("/f", "x", false);
    struct envfile *f = opened("/f", ENV_WRITE);
    struct envfile *gone = opened("/gone", ENV_NEW);
    assert_int_equal(env_pwrite(gone, "x", 1, 0, NULL), ERR_OK);
    syncdir("/");
    assert_int_equal(env_unlink(env, "/gone", NULL), ERR_OK);
    syncdir("/");
    struct env_sim *copy = env_sim_clone(sim);
    assert_true(env_sim_used_bytes(copy) == ENV_SIM_BLOCK_BYTES);
    assert_true(env_sim_used_bytes(sim) == 2 * ENV_SIM_BLOCK_BYTES);
    env_close(&gone);
    assert_int_equal(env_pwrite(f, "y", 1, 0, NULL), ERR_OK);
    env_close(&f);
    struct buf b = BUF_INIT;
    assert_string_equal(content_in(env_sim_env(copy), "/f", &b), "x");
    assert_string_equal(content_in(env, "/f", &b), "y");
    buf_free(&b);
    env_sim_free(&copy);
}

static void *
work(void *arg)
{
    AUTO(xfree) char *dir = xasprintf("/t%c", *(const char *)arg);
    AUTO(xfree) char *path = xasprintf("%s/f", dir);
    AUTO(xfree) char *to = xasprintf("%s/g", dir);
    enum errcode rc = env_mkdirs(env, dir, NULL);
    for (int i = 0; i < 200 && rc == ERR_OK; i++) {
        rc = env_write_file_atomic(env, path, span_str(dir), NULL);
        if (rc == ERR_OK)
            rc = env_rename(env, path, to, NULL);
    }
    return rc == ERR_OK ? arg : NULL;
}

static void
test_threads_work_beside_each_other(void **state)
{
    (void)state;
    char ids[] = "123";
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &ids[i]), 0);
    for (int i = 0; i < 3; i++) {
        void *done = NULL;
        pthread_join(threads[i], &done);
        assert_non_null(done);
    }
    struct buf b = BUF_INIT;
    assert_string_equal(content_in(env, "/t2/g", &b), "/t2");
    buf_free(&b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

/* Its blocks are taken while it is open, and no crash brings it back. */
static void
test_an_unnamed_file_is_gone_when_closed(void **state)
{
    (void)state;
    struct envfile *f = NULL;
    char back[5];

    assert_int_equal(env_open(env, "/no", ENV_UNNAMED, &f, NULL), ERR_NOTFOUND);
    const uint64_t before = env_sim_used_bytes(sim);
    f = opened("/", ENV_UNNAMED);
    assert_int_equal(env_pwrite(f, "hello", 5, 0, NULL), ERR_OK);
    assert_int_equal(env_pread(f, back, 5, 0, NULL), ERR_OK);
    assert_memory_equal(back, "hello", 5);
    assert_true(env_sim_used_bytes(sim) > before);
    struct buf names = BUF_INIT;
    assert_int_equal(env_list(env, "/", &names, NULL), ERR_OK);
    assert_int_equal(names.n, 0);
    env_close(&f);
    assert_int_equal(env_sim_used_bytes(sim), before);
    buf_free(&names);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_random_calls_answer_as_the_real_machine_does),
        TEST(test_what_only_the_simulation_refuses),
        TEST(test_locks_and_open_files_end_with_a_crash),
        TEST(test_synced_data_survives_every_seed),
        TEST(test_unsynced_sectors_are_old_or_new_each_by_itself),
        TEST(test_of_several_unsynced_versions_any_may_survive),
        TEST(test_unsynced_growth_is_kept_lost_or_half_kept),
        TEST(test_unsynced_truncation_is_kept_or_lost),
        TEST(test_allocated_space_reads_as_zeros_and_holds_what_was_synced),
        TEST(test_a_name_is_durable_only_after_syncdir),
        TEST(test_a_file_in_a_lost_directory_is_lost),
        TEST(test_rename_without_syncdir_may_be_lost_but_never_halved),
        TEST(test_changes_of_different_names_are_kept_independently),
        TEST(test_rename_across_directories_is_durable_as_one),
        TEST(test_directories_moved_into_each_other_do_no_harm),
        TEST(test_atomic_write_leaves_old_or_new_wherever_the_power_goes),
        TEST(test_failed_sync_loses_what_it_calls_clean),
        TEST(test_flipped_bit_is_seen_and_stays),
        TEST(test_full_disk_refuses_growth_and_heals),
        TEST(test_clocks_move_only_when_told),
        TEST(test_randomness_comes_from_the_seed),
        TEST(test_one_seed_gives_one_outcome),
        TEST(test_halted_machine_takes_nothing_until_the_crash),
        TEST(test_clone_lives_its_own_life),
        TEST(test_threads_work_beside_each_other),
        TEST(test_an_unnamed_file_is_gone_when_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
