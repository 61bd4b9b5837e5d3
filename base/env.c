/*
 * base/env.c - the real machine, and the calls around every implementation.
 *
 * The operations in struct env_ops are thin: one system call each, errors as
 * negated errno.  What is the same for all of them stands here once, in the
 * wrappers: going on after EINTR and short transfers, texts that name operation
 * and path, temporary names, sorting.  So an implementation that injects faults
 * exercises the same loops as a real disk would.
 *
 * fsync and fdatasync are never called again after a failure, not even after
 * EINTR: the kernel reports a lost page once and calls it clean afterwards, so
 * that a second call succeeds without the bytes being on the disk.
 */
#include "base/env.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/env_private.h"

/* Read and written at most so much in one system call (Linux takes 2 GiB). */
#define TRANSFER_BYTES ((size_t)1 << 30)
/* env_read_file() asks for so much more each time. */
#define READ_STEP_BYTES ((size_t)64 << 10)

void
envfile_init(struct envfile *f, struct env *env, const char *path)
{
    f->env = env;
    f->path = xstrdup(path);
}

void
envfile_done(struct envfile *f)
{
    xfree(&f->path);
}

/* ------------------------------------------------------------------------ */
/* The real machine. */

struct sysfile {
    struct envfile f;
    int fd;
};

static int
sys_fd(struct envfile *f)
{
    return ((struct sysfile *)f)->fd;
}

/* Where the file system knows no files without a name it has one for a moment.
 * A descriptor, or -errno. */
static int
open_unnamed(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0)
        return fd;
    if (errno != EOPNOTSUPP && errno != EISDIR)
        return -errno;
    char *path = xasprintf("%s/unnamed-XXXXXX", dir);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        fd = -errno;
    else
        (void)unlink(path);
    free(path);
    return fd;
}

static int
sys_open(struct env *env, const char *path, enum envopen how,
         struct envfile **ret)
{
    static const int flags[] = {
        [ENV_READ] = O_RDONLY,
        [ENV_WRITE] = O_RDWR,
        [ENV_CREATE] = O_RDWR | O_CREAT,
        [ENV_NEW] = O_RDWR | O_CREAT | O_EXCL,
    };
    int fd = -1;

    if (how == ENV_UNNAMED) {
        fd = open_unnamed(path);
        if (fd < 0)
            return fd;
    } else {
        fd = open(path, flags[how] | O_CLOEXEC | O_NOCTTY, 0600);
    }
    if (fd < 0)
        return -errno;
    /* Reading, a directory could be opened: a file it is not. */
    struct stat st;
    if (how == ENV_READ && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        close(fd);
        return -EISDIR;
    }
    struct sysfile *sf = xcalloc(1, sizeof(*sf));
    envfile_init(&sf->f, env, path);
    sf->fd = fd;
    *ret = &sf->f;
    return 0;
}

static void
sys_close(struct envfile *f)
{
    close(sys_fd(f));
    envfile_done(f);
    free(f);
}

static ssize_t
sys_pread(struct envfile *f, void *to, size_t n, uint64_t offset)
{
    ssize_t got = pread(sys_fd(f), to, n, (off_t)offset);

    return got < 0 ? -errno : got;
}

static ssize_t
sys_pwrite(struct envfile *f, const void *from, size_t n, uint64_t offset)
{
    ssize_t done = pwrite(sys_fd(f), from, n, (off_t)offset);

    return done < 0 ? -errno : done;
}

static int
sys_truncate(struct envfile *f, uint64_t size)
{
    return ftruncate(sys_fd(f), (off_t)size) < 0 ? -errno : 0;
}

static int64_t
sys_size(struct envfile *f)
{
    struct stat st;

    return fstat(sys_fd(f), &st) < 0 ? -errno : (int64_t)st.st_size;
}

/*
 * A file system that cannot allocate ahead (NFS before 4.2, ZFS) still gets the
 * size; there a full disk shows itself at the write instead of here.
 */
static int
sys_fallocate(struct envfile *f, uint64_t offset, uint64_t n)
{
    if (fallocate(sys_fd(f), 0, (off_t)offset, (off_t)n) == 0)
        return 0;
    if (errno != EOPNOTSUPP)
        return -errno;

    int64_t size = sys_size(f);
    if (size < 0)
        return (int)size;
    return (uint64_t)size < offset + n ? sys_truncate(f, offset + n) : 0;
}

static int
sys_fdatasync(struct envfile *f)
{
    return fdatasync(sys_fd(f)) < 0 ? -errno : 0;
}

static int
sys_fsync(struct envfile *f)
{
    return fsync(sys_fd(f)) < 0 ? -errno : 0;
}

static int
sys_lock(struct envfile *f)
{
    return flock(sys_fd(f), LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static int
sys_rename(struct env *env, const char *from, const char *to)
{
    (void)env;
    return rename(from, to) < 0 ? -errno : 0;
}

static int
sys_unlink(struct env *env, const char *path)
{
    (void)env;
    return unlink(path) < 0 ? -errno : 0;
}

static int
sys_mkdir(struct env *env, const char *path)
{
    struct stat st;

    (void)env;
    if (mkdir(path, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return -errno;
    if (stat(path, &st) < 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? -EEXIST : -ENOTDIR;
}

static int
sys_syncdir(struct env *env, const char *path)
{
    (void)env;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int
sys_exists(struct env *env, const char *path)
{
    struct stat st;

    (void)env;
    if (stat(path, &st) == 0)
        return 1;
    return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
}

static int
sys_list(struct env *env, const char *path, struct buf *ret_names)
{
    (void)env;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -errno;

    struct dirent *entry;
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        buf_add(ret_names, span_of(entry->d_name, strlen(entry->d_name) + 1));
    }
    int rc = -errno;
    closedir(dir);
    return rc;
}

static uint64_t
clock_ns(clockid_t id)
{
    struct timespec ts;

    ENSURE(clock_gettime(id, &ts) == 0);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static uint64_t
sys_mono_ns(struct env *env)
{
    (void)env;
    return clock_ns(CLOCK_BOOTTIME); /* goes on while the machine sleeps */
}

static uint64_t
sys_wall_us(struct env *env)
{
    (void)env;
    return clock_ns(CLOCK_REALTIME) / 1000;
}

static void
sys_random(struct env *env, void *to, size_t n)
{
    uint8_t *p = to;

    (void)env;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        ENSURE(got > 0 || errno == EINTR);
        if (got > 0) {
            p += got;
            n -= (size_t)got;
        }
    }
}

struct env *
env_system(void)
{
    static const struct env_ops ops = {
        .open = sys_open,
        .close = sys_close,
        .pread = sys_pread,
        .pwrite = sys_pwrite,
        .fallocate = sys_fallocate,
        .truncate = sys_truncate,
        .fdatasync = sys_fdatasync,
        .fsync = sys_fsync,
        .size = sys_size,
        .lock = sys_lock,
        .fd = sys_fd,
        .rename = sys_rename,
        .unlink = sys_unlink,
        .mkdir = sys_mkdir,
        .syncdir = sys_syncdir,
        .exists = sys_exists,
        .list = sys_list,
        .mono_ns = sys_mono_ns,
        .wall_us = sys_wall_us,
        .random = sys_random,
    };
    static struct env machine = {.ops = &ops};

    return &machine;
}

/* ------------------------------------------------------------------------ */
/* The wrappers. */

/* RC as an implementation gave it; OP says what was tried. */
static enum errcode
file_result(const struct envfile *f, int64_t rc, const char *op,
            struct error *err)
{
    if (rc >= 0)
        return ERR_OK;
    return error_set_errno(err, (int)-rc, "%s %s", op, f->path);
}

enum errcode
env_open(struct env *env, const char *path, enum envopen how,
         struct envfile **ret, struct error *err)
{
    static const char *const verbs[] = {
        [ENV_READ] = "open",
        [ENV_WRITE] = "open for writing",
        [ENV_CREATE] = "open or create",
        [ENV_NEW] = "create",
        [ENV_UNNAMED] = "create an unnamed file in",
    };
    int rc;

    do
        rc = env->ops->open(env, path, how, ret);
    while (rc == -EINTR);
    if (rc < 0)
        return error_set_errno(err, -rc, "%s %s", verbs[how], path);
    return ERR_OK;
}

void
env_close(struct envfile **f)
{
    if (*f == NULL)
        return;
    (*f)->env->ops->close(*f);
    *f = NULL;
}

enum errcode
env_pread_some(struct envfile *f, void *to, size_t n, uint64_t offset,
               size_t *ret_n, struct error *err)
{
    uint8_t *p = to;
    size_t done = 0;

    while (done < n) {
        ssize_t got = f->env->ops->pread(
            f, p + done, MIN(n - done, TRANSFER_BYTES), offset + done);
        if (got == -EINTR)
            continue;
        if (got < 0)
            return error_set_errno(err, (int)-got,
                                   "read %s (%zu bytes at %" PRIu64 ")",
                                   f->path, n, offset);
        if (got == 0)
            break;
        done += (size_t)got;
    }
    *ret_n = done;
    return ERR_OK;
}

enum errcode
env_pread(struct envfile *f, void *to, size_t n, uint64_t offset,
          struct error *err)
{
    size_t got = 0;
    enum errcode rc = env_pread_some(f, to, n, offset, &got, err);

    if (rc == ERR_OK && got < n)
        return error_set(err, ERR_GAP,
                         "read %s: %zu bytes at %" PRIu64
                         " wanted, the file ends after %zu of them",
                         f->path, n, offset, got);
    return rc;
}

/* What is in the page cache and not on disk yet counts as data. */
void
env_skip_hole(struct envfile *f, uint64_t *offset)
{
    const int fd = env_fd(f);

    if (fd < 0)
        return;
    off_t data = lseek(fd, (off_t)*offset, SEEK_DATA);
    if (data < 0 && errno == ENXIO) /* nothing but a hole is left */
        data = lseek(fd, 0, SEEK_END);
    if (data >= 0 && (uint64_t)data > *offset)
        *offset = (uint64_t)data;
}

enum errcode
env_pwrite(struct envfile *f, const void *from, size_t n, uint64_t offset,
           struct error *err)
{
    const uint8_t *p = from;
    size_t done = 0;

    while (done < n) {
        ssize_t put = f->env->ops->pwrite(
            f, p + done, MIN(n - done, TRANSFER_BYTES), offset + done);
        if (put == -EINTR)
            continue;
        if (put <= 0) /* 0: taken nothing without a reason, as good as EIO */
            return error_set_errno(err, put == 0 ? EIO : (int)-put,
                                   "write %s (%zu bytes at %" PRIu64 ")",
                                   f->path, n, offset);
        done += (size_t)put;
    }
    return ERR_OK;
}

enum errcode
env_fallocate(struct envfile *f, uint64_t offset, uint64_t n, struct error *err)
{
    int rc;

    do
        rc = f->env->ops->fallocate(f, offset, n);
    while (rc == -EINTR);
    return file_result(f, rc, "allocate", err);
}

enum errcode
env_truncate(struct envfile *f, uint64_t size, struct error *err)
{
    int rc;

    do
        rc = f->env->ops->truncate(f, size);
    while (rc == -EINTR);
    return file_result(f, rc, "truncate", err);
}

void
env_start_writing(struct envfile *f, uint64_t offset, uint64_t n)
{
    const int fd = env_fd(f);

    if (fd >= 0)
        (void)sync_file_range(fd, (off_t)offset, (off_t)n,
                              SYNC_FILE_RANGE_WRITE);
}

enum errcode
env_fdatasync(struct envfile *f, struct error *err)
{
    return file_result(f, f->env->ops->fdatasync(f), "fdatasync", err);
}

enum errcode
env_fsync(struct envfile *f, struct error *err)
{
    return file_result(f, f->env->ops->fsync(f), "fsync", err);
}

enum errcode
env_size(struct envfile *f, uint64_t *ret, struct error *err)
{
    int64_t size = f->env->ops->size(f);

    if (size >= 0)
        *ret = (uint64_t)size;
    return file_result(f, size, "get size of", err);
}

enum errcode
env_lock(struct envfile *f, struct error *err)
{
    int rc;

    do
        rc = f->env->ops->lock(f);
    while (rc == -EINTR);
    if (rc == -EWOULDBLOCK)
        return error_set(err, ERR_BUSY, "lock %s: somebody else holds it",
                         f->path);
    return file_result(f, rc, "lock", err);
}

int
env_fd(struct envfile *f)
{
    return f->env->ops->fd(f);
}

const char *
env_path(const struct envfile *f)
{
    return f->path;
}

enum errcode
env_rename(struct env *env, const char *from, const char *to, struct error *err)
{
    int rc = env->ops->rename(env, from, to);

    if (rc < 0)
        return error_set_errno(err, -rc, "rename %s to %s", from, to);
    return ERR_OK;
}

enum errcode
env_unlink(struct env *env, const char *path, struct error *err)
{
    int rc = env->ops->unlink(env, path);

    if (rc < 0 && rc != -ENOENT)
        return error_set_errno(err, -rc, "unlink %s", path);
    return ERR_OK;
}

enum errcode
env_syncdir(struct env *env, const char *path, struct error *err)
{
    int rc = env->ops->syncdir(env, path);

    if (rc < 0)
        return error_set_errno(err, -rc, "sync directory %s", path);
    return ERR_OK;
}

/* The directory in which PATH lies; the caller frees it. */
static char *
parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        return xstrdup(".");
    return slash == path ? xstrdup("/")
                         : xstrndup(path, (size_t)(slash - path));
}

/* A directory of our making must not be lost by a crash with what is in it. */
static enum errcode
make_directory(struct env *env, const char *path, struct error *err)
{
    int rc = env->ops->mkdir(env, path);

    if (rc == -EEXIST)
        return ERR_OK;
    if (rc < 0)
        return error_set_errno(err, -rc, "make directory %s", path);

    AUTO(xfree) char *parent = parent_of(path);
    return env_syncdir(env, parent, err);
}

enum errcode
env_mkdirs(struct env *env, const char *path, struct error *err)
{
    AUTO(xfree) char *copy = xstrdup(path);
    size_t n = strlen(copy);

    while (n > 1 && copy[n - 1] == '/')
        copy[--n] = '\0';
    for (size_t i = 1; i < n; i++) {
        if (copy[i] != '/' || copy[i - 1] == '/')
            continue;
        copy[i] = '\0';
        enum errcode rc = make_directory(env, copy, err);
        copy[i] = '/';
        if (rc != ERR_OK)
            return rc;
    }
    return make_directory(env, copy, err);
}

bool
env_exists(struct env *env, const char *path)
{
    return env->ops->exists(env, path) > 0;
}

bool
env_may_exist(struct env *env, const char *path)
{
    return env->ops->exists(env, path) != 0;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

enum errcode
env_list(struct env *env, const char *path, struct buf *ret_names,
         struct error *err)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;
    int rc = env->ops->list(env, path, &raw);

    if (rc < 0)
        return error_set_errno(err, -rc, "list %s", path);

    size_t n = 0;
    for (size_t i = 0; i < raw.n; i++)
        n += raw.p[i] == '\0';
    AUTO(xfree) const char **names = xcalloc(n, sizeof(*names));
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        names[i] = (const char *)raw.p + at;
        at += strlen(names[i]) + 1;
    }
    qsort(names, n, sizeof(*names), compare_names);

    size_t before = ret_names->n;
    for (size_t i = 0; i < n; i++)
        buf_add(ret_names, span_of(names[i], strlen(names[i]) + 1));
    if (ret_names->full) {
        ret_names->n = before;
        return error_set(err, ERR_LIMIT,
                         "list %s: more than %zu bytes of names", path,
                         ret_names->max);
    }
    return ERR_OK;
}

/* Add all of F to RET; what was added before a failure stays. */
static enum errcode
read_to_end(struct envfile *f, size_t max, struct buf *ret, struct error *err)
{
    for (size_t done = 0;;) {
        /* One byte past MAX, to see whether there is one. */
        size_t want = MIN(READ_STEP_BYTES, max - done);
        want += want < READ_STEP_BYTES;
        size_t got = 0;
        uint8_t *to = buf_reserve(ret, want);
        if (to == NULL)
            return error_set(err, ERR_LIMIT, "read %s: longer than %zu bytes",
                             f->path, ret->max);
        enum errcode rc = env_pread_some(f, to, want, done, &got, err);
        if (rc != ERR_OK)
            return rc;
        if (got > max - done)
            return error_set(err, ERR_LIMIT, "read %s: longer than %zu bytes",
                             f->path, max);
        ret->n += got;
        done += got;
        if (got < want)
            return ERR_OK;
    }
}

enum errcode
env_read_file(struct env *env, const char *path, size_t max, struct buf *ret,
              struct error *err)
{
    AUTO(env_close) struct envfile *f = NULL;
    enum errcode rc = env_open(env, path, ENV_READ, &f, err);

    if (rc != ERR_OK)
        return rc;
    size_t before = ret->n;
    rc = read_to_end(f, max, ret, err);
    if (rc != ERR_OK)
        ret->n = before;
    return rc;
}

/* The new content under its temporary name, durable. */
static enum errcode
write_temporary(struct env *env, const char *path, struct span content,
                struct error *err)
{
    AUTO(env_close) struct envfile *f = NULL;
    enum errcode rc = env_open(env, path, ENV_NEW, &f, err);

    if (rc == ERR_OK)
        rc = env_pwrite(f, content.p, content.n, 0, err);
    if (rc == ERR_OK)
        rc = env_fsync(f, err);
    return rc;
}

enum errcode
env_write_file_atomic(struct env *env, const char *path, struct span content,
                      struct error *err)
{
    uint8_t unique[8];
    char hex[2 * sizeof(unique) + 1];

    /* No two writers may share a temporary file, hence the random name. */
    env_random(env, unique, sizeof(unique));
    format_hex_bytes(unique, sizeof(unique), hex);
    AUTO(xfree) char *tmp = xasprintf("%s" ENV_TMP_MARK "%s", path, hex);

    enum errcode rc = write_temporary(env, tmp, content, err);
    if (rc == ERR_OK)
        rc = env_rename(env, tmp, path, err);
    if (rc != ERR_OK) {
        (void)env->ops->unlink(env, tmp);
        return rc;
    }
    AUTO(xfree) char *parent = parent_of(path);
    return env_syncdir(env, parent, err);
}

uint64_t
env_mono_ns(struct env *env)
{
    return env->ops->mono_ns(env);
}

uint64_t
env_wall_us(struct env *env)
{
    return env->ops->wall_us(env);
}

void
env_random(struct env *env, void *to, size_t n)
{
    env->ops->random(env, to, n);
}
