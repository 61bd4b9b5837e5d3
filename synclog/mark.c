/*
 * synclog/mark.c - the shared page, and waiting on it.
 *
 * The file is made complete under another name and then renamed, so whoever
 * attaches sees a whole page.  A page that is there already is used on, since
 * other processes may have it mapped; what the writer of before left in it is
 * overwritten when recovery knows better.
 */
#include "synclog/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "synclog/futex.h"
#include "synclog/synclog_private.h"

#define MARK_BYTES 4096U

_Static_assert(sizeof(struct synclog_mark) <= MARK_BYTES,
               "the mark is one page");

static bool
mark_is_ours(const struct synclog_mark *mark)
{
    return mark->magic == MARK_MAGIC && mark->version == MARK_VERSION;
}

static struct synclog_mark *
map_page(int fd, int prot)
{
    void *p = mmap(NULL, MARK_BYTES, prot, MAP_SHARED, fd, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* The page that is there, if it is whole and of our version; else NULL. */
static struct synclog_mark *
map_old(struct env *env, const char *path)
{
    struct error ignored = {0};
    AUTO(env_close) struct envfile *f = NULL;
    uint64_t bytes = 0;

    if (env_open(env, path, ENV_WRITE, &f, &ignored) != ERR_OK ||
        env_size(f, &bytes, &ignored) != ERR_OK || bytes != MARK_BYTES)
        return NULL;
    struct synclog_mark *page = map_page(env_fd(f), PROT_READ | PROT_WRITE);
    if (page != NULL && !mark_is_ours(page)) {
        munmap(page, MARK_BYTES);
        page = NULL;
    }
    return page;
}

static enum errcode
map_new(struct env *env, const char *dir, const char *path, struct markmap *ret,
        struct error *err)
{
    char tmp[LOG_PATH_BYTES];
    AUTO(env_close) struct envfile *f = NULL;

    snprintf(tmp, sizeof(tmp), "%s/tmp-mark", dir);
    enum errcode rc = env_unlink(env, tmp, err);
    if (rc == ERR_OK)
        rc = env_open(env, tmp, ENV_NEW, &f, err);
    if (rc == ERR_OK) /* a hole in the page would be SIGBUS on a full disk */
        rc = env_fallocate(f, 0, MARK_BYTES, err);
    if (rc != ERR_OK)
        return rc;
    struct synclog_mark *page = map_page(env_fd(f), PROT_READ | PROT_WRITE);
    if (page == NULL)
        return error_set_errno(err, errno, "map %s", tmp);
    page->magic = MARK_MAGIC;
    page->version = MARK_VERSION;
    *ret = (struct markmap){.page = page, .mapped = true};
    rc = env_rename(env, tmp, path, err);
    if (rc != ERR_OK)
        markmap_close(ret);
    return rc;
}

enum errcode
markmap_open(struct env *env, const char *dir, bool shared, struct markmap *ret,
             struct error *err)
{
    char path[LOG_PATH_BYTES];
    struct synclog_mark *page;

    if (!shared) {
        page = xcalloc(1, MARK_BYTES);
        page->magic = MARK_MAGIC;
        page->version = MARK_VERSION;
        *ret = (struct markmap){.page = page, .mapped = false};
        return ERR_OK;
    }
    snprintf(path, sizeof(path), "%s/mark", dir);
    page = map_old(env, path);
    if (page == NULL)
        return map_new(env, dir, path, ret, err);
    *ret = (struct markmap){.page = page, .mapped = true};
    return ERR_OK;
}

void
markmap_close(struct markmap *m)
{
    if (m->page != NULL && m->mapped)
        munmap(m->page, MARK_BYTES);
    else
        free(m->page);
    *m = (struct markmap){0};
}

enum errcode
mark_attach(const char *dir, const struct synclog_mark **ret, struct error *err)
{
    char path[LOG_PATH_BYTES];
    struct stat st;

    snprintf(path, sizeof(path), "%s/mark", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "open %s", path);
    if (fstat(fd, &st) < 0 || st.st_size < (off_t)MARK_BYTES) {
        close(fd);
        return error_set(err, ERR_VERSION, "%s is not a mark of this version",
                         path);
    }
    struct synclog_mark *page = map_page(fd, PROT_READ);
    int sys_errno = errno;
    close(fd);
    if (page == NULL)
        return error_set_errno(err, sys_errno, "map %s", path);
    if (!mark_is_ours(page)) {
        munmap(page, MARK_BYTES);
        return error_set(err, ERR_VERSION, "%s is not a mark of this version",
                         path);
    }
    *ret = page;
    return ERR_OK;
}

void
mark_detach(const struct synclog_mark **mark)
{
    if (*mark != NULL)
        munmap((void *)(uintptr_t)*mark, MARK_BYTES);
    *mark = NULL;
}

void
mark_wake(struct synclog_mark *mark)
{
    futex_wake_all(&mark->seq);
}

uint32_t
mark_wait(const struct synclog_mark *mark, uint32_t seen, int timeout_ms)
{
    return futex_wait_change(&mark->seq, seen, timeout_ms);
}
