/*
 * synclog/slot.c - one mapped page for each channel.
 *
 * A new slot is made complete and synced under a name that begins with a dot
 * and then linked to its own, so that two who make it at once end with one page
 * and nobody sees half of one.  The text is copied under a sequence number that
 * is odd while it changes; a writer that died in between leaves it odd, which a
 * reader waits for only so long.
 */
#include "synclog/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "synclog/synclog_private.h"

#define SLOT_BYTES 4096U
#define TEXT_LOOKS 10000

_Static_assert(sizeof(struct synclog_slot) <= SLOT_BYTES, "a slot is one page");

static bool
name_is_good(struct span name)
{
    if (name.n == 0 || name.n > SLOT_NAME_MAX || name.p[0] == '.')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        if (!(c >= '0' && c <= '9') &&
            !(ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') && c != '-' &&
            c != '_' && c != '.')
            return false;
    }
    return true;
}

static enum errcode
write_page(int fd, const char *path, struct error *err)
{
    union {
        struct synclog_slot slot;
        uint8_t bytes[SLOT_BYTES];
    } page = {.bytes = {0}};

    page.slot.magic = SLOT_MAGIC;
    page.slot.version = SLOT_VERSION;
    ssize_t n = pwrite(fd, page.bytes, SLOT_BYTES, 0);
    if (n != (ssize_t)SLOT_BYTES)
        return error_set_errno(err, n < 0 ? errno : ENOSPC, "write %s", path);
    if (fsync(fd) < 0)
        return error_set_errno(err, errno, "sync %s", path);
    return ERR_OK;
}

/* Make DIR/slots/NAME if it is not there. */
static enum errcode
make_slot(const char *dir, const char *name, const char *path,
          struct error *err)
{
    char slots[LOG_PATH_BYTES];
    char tmp[LOG_PATH_BYTES + 64];

    snprintf(slots, sizeof(slots), "%s/slots", dir);
    enum errcode rc = env_mkdirs(env_system(), slots, err);
    if (rc != ERR_OK)
        return rc;
    snprintf(tmp, sizeof(tmp), "%s/.%s.XXXXXX", slots, name);
    int fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "create %s", tmp);
    rc = write_page(fd, tmp, err);
    close(fd);
    if (rc == ERR_OK && link(tmp, path) < 0 && errno != EEXIST)
        rc = error_set_errno(err, errno, "link %s", path);
    unlink(tmp);
    if (rc == ERR_OK)
        rc = env_syncdir(env_system(), slots, err);
    return rc;
}

static enum errcode
map_slot(int fd, const char *path, bool write, struct synclog_slot **ret,
         struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || st.st_size < (off_t)SLOT_BYTES)
        return error_set(err, ERR_VERSION, "%s is not a slot of this version",
                         path);
    void *p = mmap(NULL, SLOT_BYTES, PROT_READ | (write ? PROT_WRITE : 0),
                   MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return error_set_errno(err, errno, "map %s", path);
    struct synclog_slot *slot = p;
    if (slot->magic != SLOT_MAGIC || slot->version != SLOT_VERSION) {
        munmap(p, SLOT_BYTES);
        return error_set(err, ERR_VERSION, "%s is not a slot of this version",
                         path);
    }
    *ret = slot;
    return ERR_OK;
}

enum errcode
slot_attach(const char *dir, const char *name, bool write,
            struct synclog_slot **ret, struct error *err)
{
    char path[LOG_PATH_BYTES];

    if (!name_is_good(span_str(name)))
        return error_set(err, ERR_BADNAME,
                         "\"%s\" cannot be the name of a channel", name);
    int n = snprintf(path, sizeof(path), "%s/slots/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof(path))
        return error_set(err, ERR_LIMIT, "the path %s is too long", dir);

    const int flags = (write ? O_RDWR : O_RDONLY) | O_CLOEXEC;
    int fd = open(path, flags);
    if (fd < 0 && errno == ENOENT && write) {
        enum errcode rc = make_slot(dir, name, path, err);
        if (rc != ERR_OK)
            return rc;
        fd = open(path, flags);
    }
    if (fd < 0)
        return error_set_errno(err, errno, "open %s", path);
    enum errcode rc = map_slot(fd, path, write, ret, err);
    close(fd);
    return rc;
}

void
slot_detach(struct synclog_slot **slot)
{
    if (*slot != NULL)
        munmap(*slot, SLOT_BYTES);
    *slot = NULL;
}

void
slot_set_state(struct synclog_slot *slot, enum slot_state state,
               const char *text, uint64_t wall_us)
{
    uint32_t odd =
        atomic_load_explicit(&slot->text_seq, memory_order_relaxed) | 1U;
    size_t n = strnlen(text, SLOT_TEXT_BYTES - 1);

    atomic_store_explicit(&slot->text_seq, odd, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < SLOT_TEXT_BYTES; i++)
        __atomic_store_n(&slot->text[i], i < n ? text[i] : '\0',
                         __ATOMIC_RELAXED);
    atomic_store_explicit(&slot->text_seq, odd + 1, memory_order_release);
    if (atomic_exchange(&slot->state, (uint32_t)state) != (uint32_t)state ||
        atomic_load(&slot->state_wall_us) == 0)
        atomic_store(&slot->state_wall_us, wall_us);
}

void
slot_get_text(const struct synclog_slot *slot, char out[SLOT_TEXT_BYTES])
{
    for (int looks = 0; looks < TEXT_LOOKS; looks++) {
        uint32_t before =
            atomic_load_explicit(&slot->text_seq, memory_order_acquire);
        for (size_t i = 0; i < SLOT_TEXT_BYTES; i++)
            out[i] = __atomic_load_n(&slot->text[i], __ATOMIC_RELAXED);
        out[SLOT_TEXT_BYTES - 1] = '\0';
        atomic_thread_fence(memory_order_acquire);
        uint32_t after =
            atomic_load_explicit(&slot->text_seq, memory_order_relaxed);
        if (before == after && (before & 1U) == 0)
            return;
    }
}

const char *
slot_state_name(enum slot_state state)
{
    static const char *const names[] = {
        [SLOT_DOWN] = "down",
        [SLOT_WAITING] = "waiting",
        [SLOT_CONNECTING] = "connecting",
        [SLOT_SEEDING] = "seeding",
        [SLOT_STREAMING] = "streaming",
        [SLOT_PARKED] = "parked",
        [SLOT_RESEED] = "reseed",
    };

    /* The page is another process's: any number may stand there. */
    if ((size_t)state >= ARRAY_LEN(names))
        return "unknown";
    return names[state];
}

enum errcode
slot_sync(struct synclog_slot *slot, struct error *err)
{
    if (msync(slot, SLOT_BYTES, MS_SYNC) < 0)
        return error_set_errno(err, errno, "sync a slot");
    return ERR_OK;
}

enum errcode
slot_list(struct env *env, const char *dir, struct buf *ret_names,
          struct error *err)
{
    AUTO(buf_free) struct buf names = BUF_INIT;
    char path[LOG_PATH_BYTES];

    snprintf(path, sizeof(path), "%s/slots", dir);
    enum errcode rc = env_list(env, path, &names, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK; /* no channel was ever attached */
    if (rc != ERR_OK)
        return rc;
    for (size_t at = 0; at < names.n;) {
        struct span name = span_str((const char *)names.p + at);
        at += name.n + 1;
        if (name_is_good(name))
            buf_add(ret_names, span_of(name.p, name.n + 1));
    }
    if (ret_names->full)
        return error_set(err, ERR_LIMIT, "too many slots in %s", path);
    return ERR_OK;
}
