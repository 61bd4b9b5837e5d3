/*
 * master/user.c - root and after.
 *
 * CAP_NET_BIND_SERVICE is kept in this process (children lose it at exec): a
 * service that SIGHUP adds, or that is opened again after a rejoin, may need
 * port 143.
 */
#include "master/user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

#define DEFAULT_USER "cyrus"
#define DEFAULT_GROUP "mail"
#define DESCRIPTORS_WANTED 1048576U

/* ---- who --------------------------------------------------------------- */

static enum errcode
choose_group(const struct config *cfg, struct run_user *u, struct error *err)
{
    const char *name = config_string(cfg, "cyrus_group");
    const struct group *gr = getgrnam(name == NULL ? DEFAULT_GROUP : name);

    if (gr == NULL && name != NULL)
        return error_set(err, ERR_NOTFOUND, "cyrus_group: no group \"%s\"",
                         name);
    if (gr != NULL)
        u->gid = gr->gr_gid;
    return ERR_OK;
}

enum errcode
user_choose(const struct config *cfg, struct run_user *ret, struct error *err)
{
    struct run_user u = {.uid = geteuid(), .gid = getegid()};
    const char *name = config_string(cfg, "cyrus_user");

    if (u.uid != 0) {
        *ret = u;
        return ERR_OK;
    }
    const struct passwd *pw = getpwnam(name == NULL ? DEFAULT_USER : name);
    if (pw == NULL && name != NULL)
        return error_set(err, ERR_NOTFOUND, "cyrus_user: no user \"%s\"", name);
    if (pw == NULL) {
        log_warn(NULL, "master.root",
                 "why=\"there is no user " DEFAULT_USER
                 ", and cyrus_user names no other: running as root\"");
        *ret = u;
        return ERR_OK;
    }
    u.change = pw->pw_uid != 0;
    u.uid = pw->pw_uid;
    u.gid = pw->pw_gid;
    snprintf(u.name, sizeof(u.name), "%s", pw->pw_name);
    enum errcode rc = choose_group(cfg, &u, err);
    if (rc == ERR_OK)
        *ret = u;
    return rc;
}

/* ---- directories ------------------------------------------------------- */

static bool
is_empty_dir(struct env *env, const char *path)
{
    AUTO(buf_free) struct buf names = BUF_MAX(65536);
    struct error ignored = {0};

    return env_list(env, path, &names, &ignored) == ERR_OK && names.n == 0;
}

static enum errcode
make_dir(struct env *env, const char *path, const struct run_user *u,
         struct error *err)
{
    bool is_ours = !env_exists(env, path);
    enum errcode rc = env_mkdirs(env, path, err);

    if (rc != ERR_OK)
        return rc;
    if (is_ours && chmod(path, 0750) != 0)
        return error_set_errno(err, errno, "chmod %s", path);
    if (u->change && (is_ours || is_empty_dir(env, path)) &&
        chown(path, u->uid, u->gid) != 0)
        return error_set_errno(err, errno, "give %s to %s", path, u->name);
    return ERR_OK;
}

/* The directory in which the file PATH will be. */
static enum errcode
make_dir_of(struct env *env, const char *path, const struct run_user *u,
            struct error *err)
{
    const char *slash = path == NULL ? NULL : strrchr(path, '/');

    if (slash == NULL || slash == path)
        return ERR_OK;
    AUTO(xfree) char *dir = xstrndup(path, (size_t)(slash - path));
    return make_dir(env, dir, u, err);
}

/* A walk over the partitions. */
struct partitions {
    struct env *env;
    const struct run_user *user;
    enum errcode rc;
    struct error *err;
};

static void
make_partition(void *ctx, const char *name, const char *value)
{
    struct partitions *p = ctx;

    if (p->rc == ERR_OK)
        p->rc = make_dir(p->env, value, p->user, p->err);
    if (p->rc != ERR_OK)
        error_prefix(p->err, "%s", name);
}

enum errcode
user_make_dirs(struct env *env, const struct config *cfg,
               const struct run_user *u, struct error *err)
{
    static const char *const below[] = {"socket", "log", "sync"};
    const char *dir = config_string(cfg, "configdirectory");
    struct partitions p = {.env = env, .user = u, .rc = ERR_OK, .err = err};

    if (dir == NULL)
        return error_set(err, ERR_SYNTAX, "configdirectory is not set");
    enum errcode rc = make_dir(env, dir, u, err);
    for (size_t i = 0; rc == ERR_OK && i < ARRAY_LEN(below); i++) {
        AUTO(xfree) char *path = xasprintf("%s/%s", dir, below[i]);
        rc = make_dir(env, path, u, err);
    }
    if (rc == ERR_OK)
        rc = make_dir_of(env, config_string(cfg, "control_socket"), u, err);
    if (rc == ERR_OK)
        rc = make_dir_of(env, config_string(cfg, "sync_shutdown_file"), u, err);
    if (rc != ERR_OK)
        return rc;
    config_each(cfg, "partition-", make_partition, &p);
    config_each(cfg, "archivepartition-", make_partition, &p);
    return p.rc;
}

/* ---- becoming ---------------------------------------------------------- */

static int
keep_low_ports(void)
{
    struct __user_cap_header_struct head = {.version =
                                                _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2] = {0};

    caps[0].effective = caps[0].permitted = 1U << CAP_NET_BIND_SERVICE;
    return (int)syscall(SYS_capset, &head, caps);
}

enum errcode
user_become(const struct run_user *u, struct error *err)
{
    if (!u->change)
        return ERR_OK;
    if (initgroups(u->name, u->gid) != 0 || setgid(u->gid) != 0)
        return error_set_errno(err, errno, "take the groups of %s", u->name);
    prctl(PR_SET_KEEPCAPS, 1);
    if (setuid(u->uid) != 0)
        return error_set_errno(err, errno, "become %s", u->name);
    if (keep_low_ports() != 0)
        log_warn(NULL, "master.caps",
                 "errno=%d why=\"services added later cannot have ports below "
                 "1024\"",
                 errno);
    prctl(PR_SET_KEEPCAPS, 0);
    prctl(PR_SET_DUMPABLE, 1);
    if (setuid(0) == 0) /* what must not be possible any more */
        return error_set(err, ERR_IO, "root could not be given up");
    return ERR_OK;
}

void
user_raise_limits(void)
{
    struct rlimit now;

    if (getrlimit(RLIMIT_NOFILE, &now) != 0)
        return;
    struct rlimit more = {DESCRIPTORS_WANTED, DESCRIPTORS_WANTED};
    if (now.rlim_max >= DESCRIPTORS_WANTED ||
        setrlimit(RLIMIT_NOFILE, &more) != 0)
        more = (struct rlimit){now.rlim_max, now.rlim_max};
    (void)setrlimit(RLIMIT_NOFILE, &more);
}

/* ---- the pid file ------------------------------------------------------ */

static enum errcode
held_by(int fd, const char *path, struct error *err)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    struct span pid = span_trim(span_of(text, n > 0 ? (size_t)n : 0));

    return error_set(err, ERR_BUSY,
                     "another master (process %.*s) is running with the pid "
                     "file %s",
                     SPAN_FMT(pid), path);
}

/* Is FD still what PATH names?  Who ends removes the file. */
static bool
is_the_file(int fd, const char *path)
{
    struct stat open_one;
    struct stat named;

    return fstat(fd, &open_one) == 0 && stat(path, &named) == 0 &&
           open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}

enum errcode
pidfile_take(const char *path, int *ret_fd, struct error *err)
{
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
            return error_set_errno(err, errno, "pid file %s", path);
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            enum errcode rc =
                errno == EWOULDBLOCK
                    ? held_by(fd, path, err)
                    : error_set_errno(err, errno, "lock %s", path);
            close(fd);
            return rc;
        }
        if (!is_the_file(fd, path)) {
            close(fd);
            continue;
        }
        char text[32];
        int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
        if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n) {
            enum errcode rc = error_set_errno(err, errno, "write %s", path);
            close(fd);
            return rc;
        }
        *ret_fd = fd;
        return ERR_OK;
    }
}

void
pidfile_release(const char *path, int *fd)
{
    if (*fd < 0)
        return;
    if (ftruncate(*fd, 0) != 0)
        log_warn(NULL, "master.pidfile", "path=\"%s\" errno=%d", path, errno);
    (void)unlink(path); /* root's directory: then an empty file stays */
    close(*fd);
    *fd = -1;
}
