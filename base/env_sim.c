/*
 * base/env_sim.c - the machine in memory.
 *
 * Files are nodes.  A node's bytes stand in pages that hold two images, what
 * readers see (live) and what is on the disk, and a bit for each sector that is
 * dirty.  A sync copies dirty sectors to the disk image; a crash copies some of
 * them, and then makes the disk image the live one.  When a dirty sector is
 * written again, chance may first bring it to the disk, as writeback may at any
 * time: so any of several unsynced versions can be the one that survives.
 *
 * Directories hold their names twice too, live and durable.  Between them
 * stands the journal: each change of names since, oldest first, a rename being
 * one change of two names.  env_syncdir() carries the changes of its directory,
 * and the earlier ones that these depend on, over to the durable names; a crash
 * carries over some, never one without those that it depends on.
 *
 * A node lives as long as a name of either kind, the journal, or an open file
 * holds it (refs).  Space counts as long as a live name or an open file does.
 *
 * One mutex guards a machine.  Functions without "sim_" expect it to be held.
 */
#include "base/env_sim.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/env_private.h"

#define PAGE_BYTES ((size_t)ENV_SIM_BLOCK_BYTES)
#define SECTOR_BYTES ((size_t)ENV_SIM_SECTOR_BYTES)
#define SECTORS (PAGE_BYTES / SECTOR_BYTES)
#define NAME_BYTES 256
/* 2026-01-01, for those who do not care. */
#define WALL_US_DEFAULT UINT64_C(1767225600000000)

struct page {
    uint8_t live[PAGE_BYTES];
    uint8_t disk[PAGE_BYTES];
    uint8_t dirty; /* a bit a sector */
};

struct name {
    char *s;
    struct node *node;
};

/* Sorted by name; each holds a reference to its node. */
struct names {
    struct name *v;
    size_t n;
    size_t cap;
};

struct node {
    size_t index; /* in sim->nodes */
    size_t refs;
    size_t links;   /* live names */
    size_t handles; /* open files, of this generation */
    bool dir;
    struct names live;
    struct names durable;

    struct page **pages; /* NULL: zeros in both images */
    bool *charged;       /* has a block, with or without a page */
    size_t npages;
    size_t ncharged;
    bool counted; /* ncharged is part of sim->used */
    uint64_t size;
    uint64_t disk_size;
    bool size_dirty;
    struct envfile *locked_by;
};

/* One name of a change: DIR/NAME was OLD and became NEW; either may be NULL. */
struct rename_half {
    struct node *dir;
    char *name;
    struct node *was;
    struct node *is;
};

/* One change of names; N is 2 for a rename. */
struct change {
    struct rename_half half[2];
    size_t n;
};

struct env_sim {
    struct env env;
    pthread_mutex_t mutex;
    struct node *root;
    struct node **nodes; /* all of them */
    size_t nnodes;
    size_t nodes_cap;
    struct change *journal;
    size_t nchanges;
    size_t changes_cap;
    size_t used;  /* blocks */
    size_t limit; /* blocks; SIZE_MAX: no end */
    uint64_t generation;
    bool halted;
    unsigned fail_sync_in;
    int fail_sync_errno;
    uint64_t mono_ns;
    uint64_t wall_us;
    uint64_t random;    /* state of env_random() */
    uint64_t writeback; /* state of the chance that writeback is */
};

struct simfile {
    struct envfile f;
    struct node *node;
    uint64_t generation;
    bool writable;
};

static struct env_sim *
sim_of(struct env *env)
{
    return (struct env_sim *)env;
}

/* splitmix64: every state is as good as every other. */
static uint64_t
draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* True in EIGHTHS of 8 cases. */
static bool
chance(uint64_t *state, unsigned eighths)
{
    return draw(state) % 8 < eighths;
}

/* ------------------------------------------------------------------------ */
/* Nodes and names. */

static struct node *
node_new(struct env_sim *sim, bool dir)
{
    struct node *node = xcalloc(1, sizeof(*node));

    if (sim->nnodes == sim->nodes_cap) {
        sim->nodes_cap = sim->nodes_cap * 2 + 16;
        sim->nodes = xrealloc(sim->nodes, sim->nodes_cap * sizeof(*sim->nodes));
    }
    node->index = sim->nnodes;
    node->dir = dir;
    sim->nodes[sim->nnodes++] = node;
    return node;
}

static void
node_unref(struct env_sim *sim, struct node *node);

static void
names_free(struct env_sim *sim, struct names *names)
{
    struct names old = *names;

    *names = (struct names){0};
    for (size_t i = 0; i < old.n; i++) {
        node_unref(sim, old.v[i].node);
        free(old.v[i].s);
    }
    free(old.v);
}

static void
node_free(struct env_sim *sim, struct node *node)
{
    names_free(sim, &node->live);
    names_free(sim, &node->durable);
    for (size_t i = 0; i < node->npages; i++)
        free(node->pages[i]);
    free(node->pages);
    free(node->charged);
    struct node *last = sim->nodes[--sim->nnodes];
    last->index = node->index;
    sim->nodes[last->index] = last;
    free(node);
}

static struct node *
node_ref(struct node *node)
{
    if (node != NULL)
        node->refs++;
    return node;
}

static void
node_unref(struct env_sim *sim, struct node *node)
{
    if (node != NULL && --node->refs == 0)
        node_free(sim, node);
}

/* Whether the node's blocks count follows from who can still reach them. */
static void
recount(struct env_sim *sim, struct node *node)
{
    bool counts = node->links > 0 || node->handles > 0;

    if (counts == node->counted)
        return;
    node->counted = counts;
    if (counts)
        sim->used += node->ncharged;
    else
        sim->used -= node->ncharged;
}

/* Where S stands or would stand. */
static size_t
names_at(const struct names *names, const char *s, bool *ret_found)
{
    size_t low = 0;
    size_t high = names->n;

    *ret_found = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(names->v[mid].s, s);
        if (order == 0) {
            *ret_found = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct node *
names_get(const struct names *names, const char *s)
{
    bool found;
    size_t i = names_at(names, s, &found);

    return found ? names->v[i].node : NULL;
}

/* S names NODE from now on, or nothing if NODE is NULL. */
static void
names_set(struct env_sim *sim, struct names *names, const char *s,
          struct node *node)
{
    bool found;
    size_t i = names_at(names, s, &found);

    node_ref(node);
    if (found && node != NULL) {
        struct node *was = names->v[i].node;
        names->v[i].node = node;
        node_unref(sim, was);
    } else if (found) {
        struct name was = names->v[i];
        memmove(names->v + i, names->v + i + 1,
                (names->n - i - 1) * sizeof(*names->v));
        names->n--;
        free(was.s);
        node_unref(sim, was.node);
    } else if (node != NULL) {
        if (names->n == names->cap) {
            names->cap = names->cap * 2 + 8;
            names->v = xrealloc(names->v, names->cap * sizeof(*names->v));
        }
        memmove(names->v + i + 1, names->v + i,
                (names->n - i) * sizeof(*names->v));
        names->v[i] = (struct name){xstrdup(s), node};
        names->n++;
    }
}

/* Where a path leads. */
struct place {
    struct node *dir; /* of the last name; NULL for the root */
    char name[NAME_BYTES];
    struct node *node; /* NULL: not there */
};

/* 0, or -errno when the way to the last name is not there. */
static int
resolve(struct env_sim *sim, const char *path, struct place *ret)
{
    *ret = (struct place){.node = sim->root};
    for (;;) {
        path += strspn(path, "/");
        size_t n = strcspn(path, "/");
        if (n == 0)
            return 0;
        if (n == 1 && path[0] == '.') {
            path++;
            continue;
        }
        if (n == 2 && path[0] == '.' && path[1] == '.')
            return -EINVAL;
        if (n >= NAME_BYTES)
            return -ENAMETOOLONG;
        if (ret->node == NULL)
            return -ENOENT;
        if (!ret->node->dir)
            return -ENOTDIR;
        ret->dir = ret->node;
        memcpy(ret->name, path, n);
        ret->name[n] = '\0';
        ret->node = names_get(&ret->dir->live, ret->name);
        path += n;
    }
}

/* ------------------------------------------------------------------------ */
/* The journal of names. */

/* Change a live name; the first half of what will stand in the journal. */
static struct rename_half
change_name(struct env_sim *sim, struct node *dir, const char *name,
            struct node *is)
{
    struct node *was = names_get(&dir->live, name);
    struct rename_half half = {node_ref(dir), xstrdup(name), node_ref(was),
                               node_ref(is)};

    names_set(sim, &dir->live, name, is);
    if (was != NULL)
        was->links--;
    if (is != NULL)
        is->links++;
    return half;
}

static void
journal_add(struct env_sim *sim, struct change change)
{
    if (sim->nchanges == sim->changes_cap) {
        sim->changes_cap = sim->changes_cap * 2 + 16;
        sim->journal =
            xrealloc(sim->journal, sim->changes_cap * sizeof(*sim->journal));
    }
    sim->journal[sim->nchanges++] = change;
    for (size_t i = 0; i < change.n; i++) {
        if (change.half[i].was != NULL)
            recount(sim, change.half[i].was);
        if (change.half[i].is != NULL)
            recount(sim, change.half[i].is);
    }
}

static void
change_free(struct env_sim *sim, struct change *change)
{
    for (size_t i = 0; i < change->n; i++) {
        struct rename_half *h = &change->half[i];
        free(h->name);
        node_unref(sim, h->was);
        node_unref(sim, h->is);
        node_unref(sim, h->dir);
    }
}

static void
make_durable(struct env_sim *sim, const struct change *change)
{
    for (size_t i = 0; i < change->n; i++) {
        const struct rename_half *h = &change->half[i];
        names_set(sim, &h->dir->durable, h->name, h->is);
    }
}

/* A rename of a directory, whose place in the tree others build on. */
static bool
moves_directory(const struct change *c)
{
    return c->n == 2 && c->half[1].is->dir;
}

static bool
halves_depend(const struct change *a, const struct rename_half *x,
              const struct change *b, const struct rename_half *y)
{
    if (x->dir == y->dir && strcmp(x->name, y->name) == 0)
        return true;
    if (x->is != NULL && (x->is == y->was || x->is == y->is))
        return true;
    if (x->was != NULL && (x->was == y->was || x->was == y->is))
        return true;
    return (moves_directory(a) && (x->is == y->dir || x->was == y->dir)) ||
           (moves_directory(b) && (y->is == x->dir || y->was == x->dir));
}

/* Whether the later of two changes needs the earlier one. */
static bool
depend(const struct change *a, const struct change *b)
{
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < b->n; k++)
            if (halves_depend(a, &a->half[i], b, &b->half[k]))
                return true;
    return false;
}

static bool
touches(const struct change *c, const struct node *dir)
{
    return c->half[0].dir == dir || (c->n == 2 && c->half[1].dir == dir);
}

/* Carry the flagged changes over, in order, and take them out. */
static void
journal_commit(struct env_sim *sim, const bool *flagged)
{
    size_t kept = 0;

    for (size_t i = 0; i < sim->nchanges; i++) {
        struct change c = sim->journal[i];
        if (!flagged[i]) {
            sim->journal[kept++] = c;
            continue;
        }
        make_durable(sim, &c);
        change_free(sim, &c);
    }
    sim->nchanges = kept;
}

static void
journal_sync(struct env_sim *sim, struct node *dir)
{
    bool *flagged = xcalloc(sim->nchanges, sizeof(*flagged));

    for (size_t i = sim->nchanges; i-- > 0;) {
        const struct change *c = &sim->journal[i];
        flagged[i] = touches(c, dir);
        for (size_t k = i + 1; k < sim->nchanges && !flagged[i]; k++)
            flagged[i] = flagged[k] && depend(c, &sim->journal[k]);
    }
    journal_commit(sim, flagged);
    free(flagged);
}

/* Keep each change by chance, but none without what it depends on. */
static void
journal_crash(struct env_sim *sim, uint64_t *seed)
{
    static const unsigned eighths[] = {0, 1, 4, 7, 8};
    unsigned keep = eighths[draw(seed) % ARRAY_LEN(eighths)];
    bool *flagged = xcalloc(sim->nchanges, sizeof(*flagged));

    for (size_t i = 0; i < sim->nchanges; i++) {
        const struct change *c = &sim->journal[i];
        flagged[i] = chance(seed, keep);
        for (size_t k = 0; k < i && flagged[i]; k++)
            flagged[i] = flagged[k] || !depend(&sim->journal[k], c);
    }
    journal_commit(sim, flagged);
    for (size_t i = 0; i < sim->nchanges; i++)
        change_free(sim, &sim->journal[i]);
    sim->nchanges = 0;
    free(flagged);
}

/* ------------------------------------------------------------------------ */
/* Bytes. */

static size_t
pages_of(uint64_t size)
{
    return (size_t)((size + PAGE_BYTES - 1) / PAGE_BYTES);
}

static void
reserve_pages(struct node *node, size_t npages)
{
    if (npages <= node->npages)
        return;
    size_t n = MAX(npages, node->npages + node->npages / 2 + 4);
    node->pages = xrealloc(node->pages, n * sizeof(*node->pages));
    node->charged = xrealloc(node->charged, n * sizeof(*node->charged));
    for (size_t i = node->npages; i < n; i++) {
        node->pages[i] = NULL;
        node->charged[i] = false;
    }
    node->npages = n;
}

/* A block for page I; false when the disk is full. */
static bool
charge(struct env_sim *sim, struct node *node, size_t i)
{
    reserve_pages(node, i + 1);
    if (node->charged[i])
        return true;
    if (sim->used >= sim->limit)
        return false;
    node->charged[i] = true;
    node->ncharged++;
    sim->used++; /* it is open, so it counts */
    return true;
}

static struct page *
page_at(struct node *node, size_t i)
{
    reserve_pages(node, i + 1);
    if (node->pages[i] == NULL)
        node->pages[i] = xcalloc(1, sizeof(*node->pages[i]));
    return node->pages[i];
}

static void
sector_to_disk(struct page *page, size_t sector)
{
    memcpy(page->disk + sector * SECTOR_BYTES,
           page->live + sector * SECTOR_BYTES, SECTOR_BYTES);
}

/* Change N bytes of PAGE from FROM on; NULL makes them zeros. */
static void
page_write(struct env_sim *sim, struct page *page, size_t at,
           const uint8_t *from, size_t n)
{
    for (size_t s = at / SECTOR_BYTES; s <= (at + n - 1) / SECTOR_BYTES; s++) {
        if ((page->dirty >> s & 1) != 0 && chance(&sim->writeback, 4))
            sector_to_disk(page, s);
        page->dirty |= (uint8_t)(1U << s);
    }
    if (from == NULL)
        memset(page->live + at, 0, n);
    else
        memcpy(page->live + at, from, n);
}

static void
set_size(struct node *node, uint64_t size)
{
    if (size != node->size)
        node->size_dirty = true;
    node->size = size;
}

static ssize_t
node_write(struct env_sim *sim, struct node *node, const uint8_t *from,
           size_t n, uint64_t offset)
{
    size_t done = 0;

    while (done < n) {
        size_t i = (size_t)((offset + done) / PAGE_BYTES);
        size_t at = (size_t)((offset + done) % PAGE_BYTES);
        size_t part = MIN(n - done, PAGE_BYTES - at);
        if (!charge(sim, node, i))
            break;
        page_write(sim, page_at(node, i), at, from + done, part);
        done += part;
    }
    if (done > 0)
        set_size(node, MAX(node->size, offset + done));
    if (offset + done > node->disk_size)
        node->size_dirty = true; /* even if a failed sync called it clean */
    return done == 0 && n > 0 ? -ENOSPC : (ssize_t)done;
}

static size_t
node_read(const struct node *node, uint8_t *to, size_t n, uint64_t offset)
{
    if (offset >= node->size)
        return 0;
    n = (size_t)MIN(n, node->size - offset);
    for (size_t done = 0; done < n;) {
        size_t i = (size_t)((offset + done) / PAGE_BYTES);
        size_t at = (size_t)((offset + done) % PAGE_BYTES);
        size_t part = MIN(n - done, PAGE_BYTES - at);
        if (i < node->npages && node->pages[i] != NULL)
            memcpy(to + done, node->pages[i]->live + at, part);
        else
            memset(to + done, 0, part);
        done += part;
    }
    return n;
}

static void
node_truncate(struct env_sim *sim, struct node *node, uint64_t size)
{
    for (size_t i = (size_t)(size / PAGE_BYTES); i < node->npages; i++) {
        size_t at =
            i == size / PAGE_BYTES ? (size_t)(size % PAGE_BYTES) : (size_t)0;
        if (node->pages[i] != NULL && node->size > size)
            page_write(sim, node->pages[i], at, NULL, PAGE_BYTES - at);
        if (at == 0 && node->charged[i]) {
            node->charged[i] = false;
            node->ncharged--;
            sim->used--;
        }
    }
    set_size(node, size);
}

static int
node_allocate(struct env_sim *sim, struct node *node, uint64_t offset,
              uint64_t n)
{
    size_t first = (size_t)(offset / PAGE_BYTES);
    size_t end = pages_of(offset + n);
    size_t missing = 0;

    reserve_pages(node, end);
    for (size_t i = first; i < end; i++)
        missing += !node->charged[i];
    if (sim->used > sim->limit || missing > sim->limit - sim->used)
        return -ENOSPC;
    for (size_t i = first; i < end; i++)
        ENSURE(charge(sim, node, i));
    set_size(node, MAX(node->size, offset + n));
    return 0;
}

/* SAVE false: what is dirty is taken for clean, but does not reach the disk. */
static void
node_sync(struct node *node, bool save)
{
    for (size_t i = 0; i < node->npages; i++) {
        struct page *page = node->pages[i];
        if (page == NULL || page->dirty == 0)
            continue;
        for (size_t s = 0; s < SECTORS && save; s++)
            if ((page->dirty >> s & 1) != 0)
                sector_to_disk(page, s);
        page->dirty = 0;
        if (save && i >= pages_of(node->size)) {
            free(page); /* zeros in both images */
            node->pages[i] = NULL;
        }
    }
    if (save && node->size_dirty)
        node->disk_size = node->size;
    node->size_dirty = false;
}

/* The size on the disk after a crash: old, new or between. */
static uint64_t
crash_size(const struct node *node, uint64_t *seed)
{
    uint64_t low = MIN(node->size, node->disk_size);
    uint64_t high = MAX(node->size, node->disk_size);

    if (!node->size_dirty)
        return node->disk_size;
    switch (draw(seed) % 3) {
    case 0:
        return node->disk_size;
    case 1:
        return node->size;
    default: /* a shrinking is done or not, a growing may be half done */
        return node->size < node->disk_size
                   ? node->size
                   : low + draw(seed) % (high - low + 1);
    }
}

static void
node_crash(struct node *node, uint64_t *seed)
{
    static const unsigned eighths[] = {0, 1, 4, 7, 8};
    unsigned keep = eighths[draw(seed) % ARRAY_LEN(eighths)];
    uint64_t size = crash_size(node, seed);

    node->ncharged = 0;
    for (size_t i = 0; i < node->npages; i++) {
        struct page *page = node->pages[i];
        uint64_t start = (uint64_t)i * PAGE_BYTES;
        for (size_t s = 0; s < SECTORS && page != NULL; s++)
            if ((page->dirty >> s & 1) != 0 && chance(seed, keep))
                sector_to_disk(page, s);
        if (page != NULL && start >= size) {
            free(page);
            page = node->pages[i] = NULL;
        } else if (page != NULL) {
            size_t n = (size_t)MIN(size - start, PAGE_BYTES);
            memset(page->disk + n, 0, PAGE_BYTES - n);
            memcpy(page->live, page->disk, PAGE_BYTES);
            page->dirty = 0;
        }
        node->charged[i] = start < size && (page != NULL || node->charged[i]);
        node->ncharged += node->charged[i];
    }
    node->size = node->disk_size = size;
    node->size_dirty = false;
    node->locked_by = NULL;
}

/* ------------------------------------------------------------------------ */
/* The operations. */

/* Lock; -EIO, without the lock, while the machine is halted. */
static int
enter(struct env_sim *sim)
{
    pthread_mutex_lock(&sim->mutex);
    if (!sim->halted)
        return 0;
    pthread_mutex_unlock(&sim->mutex);
    return -EIO;
}

static int64_t
leave(struct env_sim *sim, int64_t rc)
{
    pthread_mutex_unlock(&sim->mutex);
    return rc;
}

/* The same for a call on F, which may be from before a crash. */
static int
enter_file(struct envfile *f, bool writes)
{
    struct simfile *sf = (struct simfile *)f;
    struct env_sim *sim = sim_of(f->env);
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    if (sf->generation == sim->generation && (sf->writable || !writes))
        return 0;
    return (int)leave(sim, -EBADF);
}

static int
leave_file(struct envfile *f, int rc)
{
    return (int)leave(sim_of(f->env), rc);
}

static struct node *
node_of(struct envfile *f)
{
    return ((struct simfile *)f)->node;
}

/* Find or make what is to be opened. */
static int
open_node(struct env_sim *sim, const char *path, enum envopen how,
          struct node **ret)
{
    struct place at;
    int rc = resolve(sim, path, &at);

    if (rc < 0)
        return rc;
    if (at.node != NULL) {
        *ret = at.node;
        return how == ENV_NEW ? -EEXIST : at.node->dir ? -EISDIR : 0;
    }
    if (how == ENV_READ || how == ENV_WRITE)
        return -ENOENT;
    *ret = node_new(sim, false);
    journal_add(sim,
                (struct change){{change_name(sim, at.dir, at.name, *ret)}, 1});
    return 0;
}

static int
sim_open(struct env *env, const char *path, enum envopen how,
         struct envfile **ret)
{
    struct env_sim *sim = sim_of(env);
    struct node *node = NULL;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = open_node(sim, path, how, &node);
    if (rc < 0)
        return (int)leave(sim, rc);
    struct simfile *sf = xcalloc(1, sizeof(*sf));
    envfile_init(&sf->f, env, path);
    sf->node = node_ref(node);
    sf->generation = sim->generation;
    sf->writable = how != ENV_READ;
    node->handles++;
    *ret = &sf->f;
    return (int)leave(sim, 0);
}

static void
sim_close(struct envfile *f)
{
    struct simfile *sf = (struct simfile *)f;
    struct env_sim *sim = sim_of(f->env);

    pthread_mutex_lock(&sim->mutex);
    if (sf->generation == sim->generation) {
        if (sf->node->locked_by == f)
            sf->node->locked_by = NULL;
        sf->node->handles--;
        recount(sim, sf->node);
    }
    node_unref(sim, sf->node);
    pthread_mutex_unlock(&sim->mutex);
    envfile_done(f);
    free(sf);
}

static ssize_t
sim_pread(struct envfile *f, void *to, size_t n, uint64_t offset)
{
    int rc = enter_file(f, false);

    if (rc < 0)
        return rc;
    return leave(sim_of(f->env), (ssize_t)node_read(node_of(f), to, n, offset));
}

static bool
too_long(uint64_t offset, uint64_t n)
{
    return offset > ENV_SIM_FILE_MAX || n > ENV_SIM_FILE_MAX - offset;
}

static ssize_t
sim_pwrite(struct envfile *f, const void *from, size_t n, uint64_t offset)
{
    int rc = enter_file(f, true);

    if (rc < 0)
        return rc;
    return leave(sim_of(f->env),
                 too_long(offset, n)
                     ? -EFBIG
                     : node_write(sim_of(f->env), node_of(f), from, n, offset));
}

static int
sim_fallocate(struct envfile *f, uint64_t offset, uint64_t n)
{
    int rc = enter_file(f, true);

    if (rc < 0)
        return rc;
    if (n == 0)
        rc = -EINVAL;
    else if (too_long(offset, n))
        rc = -EFBIG;
    else
        rc = node_allocate(sim_of(f->env), node_of(f), offset, n);
    return leave_file(f, rc);
}

static int
sim_truncate(struct envfile *f, uint64_t size)
{
    int rc = enter_file(f, false);

    if (rc < 0)
        return rc;
    if (!((struct simfile *)f)->writable)
        return leave_file(f, -EINVAL); /* ftruncate(2) */
    if (too_long(size, 0))
        return leave_file(f, -EFBIG);
    node_truncate(sim_of(f->env), node_of(f), size);
    return leave_file(f, 0);
}

static int
sim_sync(struct envfile *f)
{
    struct env_sim *sim = sim_of(f->env);
    int rc = enter_file(f, false);

    if (rc < 0)
        return rc;
    if (sim->fail_sync_in > 0 && --sim->fail_sync_in == 0)
        rc = -sim->fail_sync_errno;
    node_sync(node_of(f), rc == 0);
    return leave_file(f, rc);
}

static int64_t
sim_size(struct envfile *f)
{
    int rc = enter_file(f, false);

    if (rc < 0)
        return rc;
    return leave(sim_of(f->env), (int64_t)node_of(f)->size);
}

static int
sim_lock(struct envfile *f)
{
    int rc = enter_file(f, false);

    if (rc < 0)
        return rc;
    struct node *node = node_of(f);
    if (node->locked_by != NULL && node->locked_by != f)
        return leave_file(f, -EWOULDBLOCK);
    node->locked_by = f;
    return leave_file(f, 0);
}

static int
sim_fd(struct envfile *f)
{
    (void)f;
    return -1;
}

static bool
is_below(const struct node *node, const struct node *dir)
{
    if (node == dir)
        return true;
    for (size_t i = 0; i < dir->live.n; i++)
        if (dir->live.v[i].node->dir && is_below(node, dir->live.v[i].node))
            return true;
    return false;
}

/* rename(2); 1 when there is nothing to do. */
static int
may_rename(const struct place *from, const struct place *to)
{
    if (from->node == NULL)
        return -ENOENT;
    if (from->dir == NULL || to->dir == NULL)
        return -EBUSY; /* the root */
    if (from->node == to->node)
        return 1;
    if (from->node->dir && is_below(to->dir, from->node))
        return -EINVAL;
    if (to->node == NULL)
        return 0;
    if (to->node->dir && is_below(from->dir, to->node))
        return -ENOTEMPTY;
    if (to->node->dir != from->node->dir)
        return to->node->dir ? -EISDIR : -ENOTDIR;
    return to->node->live.n > 0 ? -ENOTEMPTY : 0;
}

static int
sim_rename(struct env *env, const char *from, const char *to)
{
    struct env_sim *sim = sim_of(env);
    struct place a;
    struct place b;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = resolve(sim, from, &a);
    if (rc == 0)
        rc = resolve(sim, to, &b);
    if (rc == 0)
        rc = may_rename(&a, &b);
    if (rc != 0)
        return (int)leave(sim, MIN(rc, 0));
    struct change change = {.n = 2};
    change.half[0] = change_name(sim, a.dir, a.name, NULL);
    change.half[1] = change_name(sim, b.dir, b.name, a.node);
    journal_add(sim, change);
    return (int)leave(sim, 0);
}

static int
sim_unlink(struct env *env, const char *path)
{
    struct env_sim *sim = sim_of(env);
    struct place at;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = resolve(sim, path, &at);
    if (rc == 0 && at.node == NULL)
        rc = -ENOENT;
    if (rc == 0 && at.node->dir)
        rc = -EISDIR;
    if (rc == 0)
        journal_add(
            sim, (struct change){{change_name(sim, at.dir, at.name, NULL)}, 1});
    return (int)leave(sim, rc);
}

static int
sim_mkdir(struct env *env, const char *path)
{
    struct env_sim *sim = sim_of(env);
    struct place at;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = resolve(sim, path, &at);
    if (rc == 0 && at.node != NULL)
        rc = at.node->dir ? -EEXIST : -ENOTDIR;
    if (rc == 0) {
        struct node *dir = node_new(sim, true);
        journal_add(
            sim, (struct change){{change_name(sim, at.dir, at.name, dir)}, 1});
    }
    return (int)leave(sim, rc);
}

/* For the calls on a directory that must be there. */
static int
resolve_dir(struct env_sim *sim, const char *path, struct node **ret)
{
    struct place at;
    int rc = resolve(sim, path, &at);

    if (rc < 0)
        return rc;
    if (at.node == NULL)
        return -ENOENT;
    *ret = at.node;
    return at.node->dir ? 0 : -ENOTDIR;
}

static int
sim_syncdir(struct env *env, const char *path)
{
    struct env_sim *sim = sim_of(env);
    struct node *dir = NULL;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = resolve_dir(sim, path, &dir);
    if (rc == 0)
        journal_sync(sim, dir);
    return (int)leave(sim, rc);
}

static int
sim_exists(struct env *env, const char *path)
{
    struct env_sim *sim = sim_of(env);
    struct place at;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = resolve(sim, path, &at);
    if (rc == 0)
        rc = at.node != NULL;
    return (int)leave(sim, rc == -ENOENT || rc == -ENOTDIR ? 0 : rc);
}

static int
sim_list(struct env *env, const char *path, struct buf *ret_names)
{
    struct env_sim *sim = sim_of(env);
    struct node *dir = NULL;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = resolve_dir(sim, path, &dir);
    for (size_t i = 0; rc == 0 && i < dir->live.n; i++) {
        const char *s = dir->live.v[i].s;
        buf_add(ret_names, span_of(s, strlen(s) + 1));
    }
    return (int)leave(sim, rc);
}

static uint64_t
sim_mono_ns(struct env *env)
{
    struct env_sim *sim = sim_of(env);

    pthread_mutex_lock(&sim->mutex);
    uint64_t now = sim->mono_ns;
    pthread_mutex_unlock(&sim->mutex);
    return now;
}

static uint64_t
sim_wall_us(struct env *env)
{
    struct env_sim *sim = sim_of(env);

    pthread_mutex_lock(&sim->mutex);
    uint64_t now = sim->wall_us;
    pthread_mutex_unlock(&sim->mutex);
    return now;
}

static void
sim_random(struct env *env, void *to, size_t n)
{
    struct env_sim *sim = sim_of(env);
    uint8_t *p = to;

    pthread_mutex_lock(&sim->mutex);
    while (n > 0) {
        uint64_t word = draw(&sim->random);
        size_t part = MIN(n, sizeof(word));
        memcpy(p, &word, part);
        p += part;
        n -= part;
    }
    pthread_mutex_unlock(&sim->mutex);
}

static const struct env_ops sim_ops = {
    .open = sim_open,
    .close = sim_close,
    .pread = sim_pread,
    .pwrite = sim_pwrite,
    .fallocate = sim_fallocate,
    .truncate = sim_truncate,
    .fdatasync = sim_sync,
    .fsync = sim_sync,
    .size = sim_size,
    .lock = sim_lock,
    .fd = sim_fd,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .mkdir = sim_mkdir,
    .syncdir = sim_syncdir,
    .exists = sim_exists,
    .list = sim_list,
    .mono_ns = sim_mono_ns,
    .wall_us = sim_wall_us,
    .random = sim_random,
};

/* ------------------------------------------------------------------------ */
/* What the test does. */

static size_t
blocks_of(uint64_t bytes)
{
    return bytes == 0 ? SIZE_MAX : (size_t)(bytes / PAGE_BYTES);
}

struct env_sim *
env_sim_new(const struct env_sim_options *options)
{
    static const struct env_sim_options none;
    struct env_sim *sim = xcalloc(1, sizeof(*sim));

    if (options == NULL)
        options = &none;
    sim->env.ops = &sim_ops;
    ENSURE(pthread_mutex_init(&sim->mutex, NULL) == 0);
    sim->limit = blocks_of(options->disk_bytes);
    sim->wall_us = options->wall_us == 0 ? WALL_US_DEFAULT : options->wall_us;
    sim->mono_ns = UINT64_C(1000000000);
    sim->random = options->seed;
    sim->writeback = draw(&sim->random);
    sim->root = node_ref(node_new(sim, true));
    sim->root->links = 1;
    return sim;
}

void
env_sim_free(struct env_sim **sim_p)
{
    struct env_sim *sim = *sim_p;

    if (sim == NULL)
        return;
    /* References may run in circles: hold all, empty all, let go of all. */
    size_t n = sim->nnodes;
    struct node **all = xcalloc(n, sizeof(*all));
    for (size_t i = 0; i < n; i++) {
        ENSURE(sim->nodes[i]->handles == 0);
        all[i] = node_ref(sim->nodes[i]);
    }
    for (size_t i = 0; i < sim->nchanges; i++)
        change_free(sim, &sim->journal[i]);
    for (size_t i = 0; i < n; i++) {
        names_free(sim, &all[i]->live);
        names_free(sim, &all[i]->durable);
    }
    node_unref(sim, sim->root);
    for (size_t i = 0; i < n; i++)
        node_unref(sim, all[i]);
    ENSURE(sim->nnodes == 0);
    free(all);
    free(sim->nodes);
    free(sim->journal);
    pthread_mutex_destroy(&sim->mutex);
    xfree(sim_p);
}

struct env *
env_sim_env(struct env_sim *sim)
{
    return &sim->env;
}

static void
names_copy(struct env_sim *to_sim, struct names *to, const struct names *from,
           struct node **map)
{
    for (size_t i = 0; i < from->n; i++)
        names_set(to_sim, to, from->v[i].s,
                  map == NULL ? from->v[i].node : map[from->v[i].node->index]);
}

static void
node_copy(struct node *to, const struct node *from)
{
    to->links = from->links;
    to->size = from->size;
    to->disk_size = from->disk_size;
    to->size_dirty = from->size_dirty;
    reserve_pages(to, from->npages);
    for (size_t i = 0; i < from->npages; i++) {
        to->charged[i] = from->charged[i];
        if (from->pages[i] != NULL)
            *page_at(to, i) = *from->pages[i];
    }
    to->ncharged = from->ncharged;
}

static struct change
change_copy(const struct change *from, struct node **map)
{
    struct change to = {.n = from->n};

    for (size_t i = 0; i < from->n; i++) {
        const struct rename_half *h = &from->half[i];
        to.half[i] = (struct rename_half){
            node_ref(map[h->dir->index]), xstrdup(h->name),
            h->was == NULL ? NULL : node_ref(map[h->was->index]),
            h->is == NULL ? NULL : node_ref(map[h->is->index])};
    }
    return to;
}

struct env_sim *
env_sim_clone(struct env_sim *sim)
{
    struct env_sim *copy = env_sim_new(NULL);

    pthread_mutex_lock(&sim->mutex);
    size_t n = sim->nnodes;
    struct node **map = xcalloc(n, sizeof(*map));
    for (size_t i = 0; i < n; i++) {
        const struct node *from = sim->nodes[i];
        map[i] = node_ref(from == sim->root ? copy->root
                                            : node_new(copy, from->dir));
        node_copy(map[i], from);
    }
    for (size_t i = 0; i < n; i++) {
        names_copy(copy, &map[i]->live, &sim->nodes[i]->live, map);
        names_copy(copy, &map[i]->durable, &sim->nodes[i]->durable, map);
        recount(copy, map[i]);
    }
    for (size_t i = 0; i < sim->nchanges; i++)
        journal_add(copy, change_copy(&sim->journal[i], map));
    for (size_t i = 0; i < n; i++)
        node_unref(copy, map[i]); /* what only an open file held goes */
    free(map);
    copy->limit = sim->limit;
    copy->halted = sim->halted;
    copy->fail_sync_in = sim->fail_sync_in;
    copy->fail_sync_errno = sim->fail_sync_errno;
    copy->mono_ns = sim->mono_ns;
    copy->wall_us = sim->wall_us;
    copy->random = sim->random;
    copy->writeback = sim->writeback;
    pthread_mutex_unlock(&sim->mutex);
    return copy;
}

/* Names as they are on the disk. */
static void
names_crash(struct env_sim *sim, struct node *dir)
{
    struct names fresh = {0};
    struct names old = dir->live;

    names_copy(sim, &fresh, &dir->durable, NULL);
    dir->live = fresh;
    names_free(sim, &old);
}

static void
count_links(struct node *dir)
{
    for (size_t i = 0; i < dir->live.n; i++)
        dir->live.v[i].node->links++;
}

void
env_sim_crash(struct env_sim *sim, uint64_t seed)
{
    pthread_mutex_lock(&sim->mutex);
    /* No node goes while we walk over them. */
    size_t n = sim->nnodes;
    struct node **all = xcalloc(n, sizeof(*all));
    for (size_t i = 0; i < n; i++)
        all[i] = node_ref(sim->nodes[i]);

    journal_crash(sim, &seed);
    for (size_t i = 0; i < n; i++) {
        names_crash(sim, all[i]);
        node_crash(all[i], &seed);
        all[i]->links = all[i] == sim->root;
        all[i]->handles = 0;
        all[i]->counted = false;
    }
    for (size_t i = 0; i < n; i++)
        count_links(all[i]);
    sim->used = 0;
    for (size_t i = 0; i < n; i++)
        recount(sim, all[i]);
    for (size_t i = 0; i < n; i++)
        node_unref(sim, all[i]);
    free(all);
    sim->generation++;
    sim->halted = false;
    sim->fail_sync_in = 0;
    pthread_mutex_unlock(&sim->mutex);
}

void
env_sim_halt(struct env_sim *sim)
{
    pthread_mutex_lock(&sim->mutex);
    sim->halted = true;
    pthread_mutex_unlock(&sim->mutex);
}

void
env_sim_fail_sync(struct env_sim *sim, unsigned nth, int sys_errno)
{
    pthread_mutex_lock(&sim->mutex);
    sim->fail_sync_in = nth;
    sim->fail_sync_errno = sys_errno;
    pthread_mutex_unlock(&sim->mutex);
}

bool
env_sim_flip_bit(struct env_sim *sim, const char *path, uint64_t offset,
                 unsigned bit)
{
    struct place at;

    pthread_mutex_lock(&sim->mutex);
    bool good = bit < 8 && resolve(sim, path, &at) == 0 && at.node != NULL &&
                !at.node->dir && offset < at.node->size;
    if (good) {
        struct page *page = page_at(at.node, (size_t)(offset / PAGE_BYTES));
        page->live[offset % PAGE_BYTES] ^= (uint8_t)(1U << bit);
        page->disk[offset % PAGE_BYTES] ^= (uint8_t)(1U << bit);
    }
    pthread_mutex_unlock(&sim->mutex);
    return good;
}

void
env_sim_advance_us(struct env_sim *sim, uint64_t us)
{
    pthread_mutex_lock(&sim->mutex);
    sim->mono_ns += us * 1000;
    sim->wall_us += us;
    pthread_mutex_unlock(&sim->mutex);
}

void
env_sim_set_wall_us(struct env_sim *sim, uint64_t us)
{
    pthread_mutex_lock(&sim->mutex);
    sim->wall_us = us;
    pthread_mutex_unlock(&sim->mutex);
}

void
env_sim_set_disk_bytes(struct env_sim *sim, uint64_t bytes)
{
    pthread_mutex_lock(&sim->mutex);
    sim->limit = blocks_of(bytes);
    pthread_mutex_unlock(&sim->mutex);
}

uint64_t
env_sim_used_bytes(struct env_sim *sim)
{
    pthread_mutex_lock(&sim->mutex);
    uint64_t used = (uint64_t)sim->used * PAGE_BYTES;
    pthread_mutex_unlock(&sim->mutex);
    return used;
}

size_t
env_sim_unsynced(struct env_sim *sim)
{
    pthread_mutex_lock(&sim->mutex);
    size_t count = sim->nchanges;
    for (size_t i = 0; i < sim->nnodes; i++) {
        const struct node *node = sim->nodes[i];
        count += node->size_dirty;
        for (size_t k = 0; k < node->npages; k++)
            if (node->pages[k] != NULL)
                count += (size_t)__builtin_popcount(node->pages[k]->dirty);
    }
    pthread_mutex_unlock(&sim->mutex);
    return count;
}
