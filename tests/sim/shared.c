/*
 * tests/sim/shared.c - marks and slots, which the product maps from files:
 * here pages in memory that stand for a file on a simulated machine.
 *
 * Whether a page is there says the machine: each has an empty file beside it,
 * so that renaming its directory, or a power cut, takes it along.  What a page
 * held when it was synced last may be what is found after a power cut.
 */
#include "tests/sim/sim_private.h"

#include <stdlib.h>

#include "synclog/synclog_private.h"

#define PAGE 4096U

union page {
    struct synclog_mark mark;
    struct synclog_slot slot;
    uint8_t bytes[PAGE];
};

struct shared {
    struct shared *next;
    char path[96];
    struct machine *m;
    bool is_current; /* false: its file is gone, who has it mapped keeps it */
    bool is_slot;
    union page page, synced;
};

static struct shared *all;

static struct shared *
find(const char *path)
{
    for (struct shared *s = all; s != NULL; s = s->next)
        if (s->is_current && strcmp(s->path, path) == 0)
            return s;
    return NULL;
}

static struct shared *
make(struct machine *m, const char *path, bool is_slot)
{
    struct shared *s = xcalloc(1, sizeof(*s));

    snprintf(s->path, sizeof(s->path), "%s", path);
    s->m = m;
    s->is_current = true;
    s->is_slot = is_slot;
    if (is_slot) {
        s->page.slot.magic = SLOT_MAGIC;
        s->page.slot.version = SLOT_VERSION;
        s->synced = s->page;
    } else {
        s->page.mark.magic = MARK_MAGIC;
        s->page.mark.version = MARK_VERSION;
    }
    s->next = all;
    all = s;
    return s;
}

/* The page at PATH, if its file is there; with CREATE made if not. */
static struct shared *
page_at(const char *path, bool is_slot, bool create)
{
    struct machine *m = machine_by_path(path);
    struct env *env = env_sim_env(m->sim);
    struct shared *s = find(path);
    struct error err = {0};
    AUTO(env_close) struct envfile *f = NULL;

    if (env_exists(env, path) && s != NULL)
        return s;
    if (s != NULL)
        s->is_current = false;
    if (!create || env_open(env, path, ENV_CREATE, &f, &err) != ERR_OK)
        return NULL;
    return make(m, path, is_slot);
}

void
shared_free(void)
{
    while (all != NULL) {
        struct shared *s = all;
        all = s->next;
        free(s);
    }
}

void
shared_crash(struct machine *m)
{
    for (struct shared *s = all; s != NULL; s = s->next)
        if (s->m == m && s->is_slot && sim_one_in(m->w, 2))
            s->page = s->synced;
}

/* ---- instead of synclog/mark.c ----------------------------------------- */

enum errcode
__wrap_markmap_open(struct env *env, const char *dir, bool shared,
                    struct markmap *ret, struct error *err);
void
__wrap_markmap_close(struct markmap *m);
enum errcode
__wrap_mark_attach(const char *dir, const struct synclog_mark **ret,
                   struct error *err);
void
__wrap_mark_detach(const struct synclog_mark **mark);
void
__wrap_mark_wake(struct synclog_mark *mark);

enum errcode
__wrap_markmap_open(struct env *env, const char *dir, bool shared,
                    struct markmap *ret, struct error *err)
{
    char path[96];

    (void)env;
    (void)shared;
    snprintf(path, sizeof(path), "%s/mark", dir);
    struct shared *s = page_at(path, false, true);
    if (s == NULL)
        return error_set(err, ERR_IO, "no mark");
    *ret = (struct markmap){.page = &s->page.mark, .mapped = true};
    return ERR_OK;
}

void
__wrap_markmap_close(struct markmap *m)
{
    *m = (struct markmap){0};
}

enum errcode
__wrap_mark_attach(const char *dir, const struct synclog_mark **ret,
                   struct error *err)
{
    char path[96];

    snprintf(path, sizeof(path), "%s/mark", dir);
    struct shared *s = page_at(path, false, false);
    if (s == NULL)
        return error_set(err, ERR_NOTFOUND, "no mark");
    *ret = &s->page.mark;
    return ERR_OK;
}

void
__wrap_mark_detach(const struct synclog_mark **mark)
{
    *mark = NULL;
}

void
__wrap_mark_wake(struct synclog_mark *mark)
{
    atomic_fetch_add(&mark->seq, 1);
}

/* The one in use, also of a machine on which no instance runs. */
struct synclog_mark *
machine_mark(struct machine *m)
{
    char path[96];

    snprintf(path, sizeof(path), "%s/mark", m->log_dir);
    struct shared *s = find(path);
    return s == NULL ? NULL : &s->page.mark;
}

/* ---- instead of synclog/slot.c ----------------------------------------- */

enum errcode
__wrap_slot_attach(const char *dir, const char *name, bool write,
                   struct synclog_slot **ret, struct error *err);
void
__wrap_slot_detach(struct synclog_slot **slot);
enum errcode
__wrap_slot_sync(struct synclog_slot *slot, struct error *err);

enum errcode
__wrap_slot_attach(const char *dir, const char *name, bool write,
                   struct synclog_slot **ret, struct error *err)
{
    char path[96];
    struct error ignored = {0};

    if (proc_is_current_killed())
        return error_set(err, ERR_IO, "killed");
    snprintf(path, sizeof(path), "%s/slots", dir);
    if (write && env_mkdirs(env_sim_env(machine_by_path(dir)->sim), path,
                            &ignored) != ERR_OK)
        return error_set(err, ERR_IO, "no slots");
    snprintf(path, sizeof(path), "%s/slots/%s", dir, name);
    struct shared *s = page_at(path, true, write);
    if (s == NULL)
        return error_set(err, ERR_NOTFOUND, "no slot");
    *ret = &s->page.slot;
    return ERR_OK;
}

void
__wrap_slot_detach(struct synclog_slot **slot)
{
    *slot = NULL;
}

enum errcode
__wrap_slot_sync(struct synclog_slot *slot, struct error *err)
{
    (void)err;
    for (struct shared *s = all; s != NULL; s = s->next)
        if (&s->page.slot == slot)
            s->synced = s->page;
    return ERR_OK;
}

struct synclog_slot *
shared_slot(struct machine *m, const char *name)
{
    char path[96];

    snprintf(path, sizeof(path), "%s/slots/%s", m->log_dir, name);
    struct shared *s = find(path);
    return s == NULL ? NULL : &s->page.slot;
}
