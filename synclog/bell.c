/*
 * synclog/bell.c - one futex in a mapped page.
 *
 * Made complete under a temporary name and linked, as slots are; whoever finds
 * the name taken uses what is there.
 */
#include "synclog/bell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "synclog/futex.h"
#include "synclog/synclog_private.h"

#define BELL_BYTES 4096U

static enum errcode
make_bell(const char *slots, const char *path, struct error *err)
{
    union {
        struct synclog_bell bell;
        uint8_t bytes[BELL_BYTES];
    } page = {.bytes = {0}};
    char tmp[LOG_PATH_BYTES + 64];

    page.bell.magic = BELL_MAGIC;
    page.bell.version = BELL_VERSION;
    enum errcode rc = env_mkdirs(env_system(), slots, err);
    if (rc != ERR_OK)
        return rc;
    snprintf(tmp, sizeof(tmp), "%s/.bell.XXXXXX", slots);
    int fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "create %s", tmp);
    ssize_t n = pwrite(fd, page.bytes, BELL_BYTES, 0);
    if (n != (ssize_t)BELL_BYTES)
        rc = error_set_errno(err, n < 0 ? errno : ENOSPC, "write %s", tmp);
    close(fd);
    if (rc == ERR_OK && link(tmp, path) < 0 && errno != EEXIST)
        rc = error_set_errno(err, errno, "link %s", path);
    unlink(tmp);
    return rc;
}

static enum errcode
map_bell(int fd, const char *path, struct synclog_bell **ret, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || st.st_size < (off_t)BELL_BYTES)
        return error_set(err, ERR_VERSION, "%s is not a bell of this version",
                         path);
    void *p = mmap(NULL, BELL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return error_set_errno(err, errno, "map %s", path);
    struct synclog_bell *bell = p;
    if (bell->magic != BELL_MAGIC || bell->version != BELL_VERSION) {
        munmap(p, BELL_BYTES);
        return error_set(err, ERR_VERSION, "%s is not a bell of this version",
                         path);
    }
    *ret = bell;
    return ERR_OK;
}

enum errcode
bell_attach(const char *dir, struct synclog_bell **ret, struct error *err)
{
    char slots[LOG_PATH_BYTES];
    char path[LOG_PATH_BYTES + 16];

    int n = snprintf(slots, sizeof(slots), "%s/slots", dir);
    if (n < 0 || (size_t)n >= sizeof(slots))
        return error_set(err, ERR_LIMIT, "the path %s is too long", dir);
    snprintf(path, sizeof(path), "%s/.bell", slots);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        enum errcode rc = make_bell(slots, path, err);
        if (rc != ERR_OK)
            return rc;
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    if (fd < 0)
        return error_set_errno(err, errno, "open %s", path);
    enum errcode rc = map_bell(fd, path, ret, err);
    close(fd);
    return rc;
}

void
bell_detach(struct synclog_bell **bell)
{
    if (*bell != NULL)
        munmap(*bell, BELL_BYTES);
    *bell = NULL;
}

void
bell_ring(struct synclog_bell *bell)
{
    futex_wake_all(&bell->seq);
}

uint32_t
bell_wait(const struct synclog_bell *bell, uint32_t seen, int timeout_ms)
{
    return futex_wait_change(&bell->seq, seen, timeout_ms);
}
