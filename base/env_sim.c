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
 * One mutex guards a machine: the operations and the public functions take it,
 * all else expects it to be held.
 */
#include "base/env_sim_private.h"

#include <errno.h>
#include <stdlib.h>

/* 2026-01-01, for those who do not care. */
#define WALL_US_DEFAULT UINT64_C(1767225600000000)

struct simfile {
    struct envfile f;
    struct simnode *node;
    uint64_t generation;
    bool writable;
};

static struct env_sim *
sim_of(struct env *env)
{
    return (struct env_sim *)env;
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

static struct simnode *
node_of(struct envfile *f)
{
    return ((struct simfile *)f)->node;
}

/* Find or make what is to be opened. */
static int
open_node(struct env_sim *sim, const char *path, enum envopen how,
          struct simnode **ret)
{
    struct simplace at;
    int rc = simnames_resolve(sim, path, &at);

    if (rc < 0)
        return rc;
    if (how == ENV_UNNAMED) {
        if (at.node == NULL || !at.node->dir)
            return at.node == NULL ? -ENOENT : -ENOTDIR;
        *ret = simnode_new(sim, false);
        return 0;
    }
    if (at.node != NULL) {
        *ret = at.node;
        return how == ENV_NEW ? -EEXIST : at.node->dir ? -EISDIR : 0;
    }
    if (how == ENV_READ || how == ENV_WRITE)
        return -ENOENT;
    *ret = simnode_new(sim, false);
    simjournal_add(sim, (struct simchange){
                            {simnames_change(sim, at.dir, at.name, *ret)}, 1});
    return 0;
}

static int
sim_open(struct env *env, const char *path, enum envopen how,
         struct envfile **ret)
{
    struct env_sim *sim = sim_of(env);
    struct simnode *node = NULL;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = open_node(sim, path, how, &node);
    if (rc < 0)
        return (int)leave(sim, rc);
    struct simfile *sf = xcalloc(1, sizeof(*sf));
    envfile_init(&sf->f, env, path);
    sf->node = simnode_ref(node);
    sf->generation = sim->generation;
    sf->writable = how != ENV_READ;
    node->handles++;
    simnode_recount(sim, node);
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
        simnode_recount(sim, sf->node);
    }
    simnode_unref(sim, sf->node);
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
    return leave(sim_of(f->env),
                 (ssize_t)simbytes_read(node_of(f), to, n, offset));
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
    return leave(
        sim_of(f->env),
        too_long(offset, n)
            ? -EFBIG
            : simbytes_write(sim_of(f->env), node_of(f), from, n, offset));
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
        rc = simbytes_allocate(sim_of(f->env), node_of(f), offset, n);
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
    simbytes_truncate(sim_of(f->env), node_of(f), size);
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
    simbytes_sync(node_of(f), rc == 0);
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
    struct simnode *node = node_of(f);
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
is_below(const struct simnode *node, const struct simnode *dir)
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
may_rename(const struct simplace *from, const struct simplace *to)
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
    struct simplace a;
    struct simplace b;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = simnames_resolve(sim, from, &a);
    if (rc == 0)
        rc = simnames_resolve(sim, to, &b);
    if (rc == 0)
        rc = may_rename(&a, &b);
    if (rc != 0)
        return (int)leave(sim, MIN(rc, 0));
    struct simchange change = {.n = 2};
    change.half[0] = simnames_change(sim, a.dir, a.name, NULL);
    change.half[1] = simnames_change(sim, b.dir, b.name, a.node);
    simjournal_add(sim, change);
    return (int)leave(sim, 0);
}

static int
sim_unlink(struct env *env, const char *path)
{
    struct env_sim *sim = sim_of(env);
    struct simplace at;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = simnames_resolve(sim, path, &at);
    if (rc == 0 && at.node == NULL)
        rc = -ENOENT;
    if (rc == 0 && at.node->dir)
        rc = -EISDIR;
    if (rc == 0)
        simjournal_add(sim,
                       (struct simchange){
                           {simnames_change(sim, at.dir, at.name, NULL)}, 1});
    return (int)leave(sim, rc);
}

static int
sim_mkdir(struct env *env, const char *path)
{
    struct env_sim *sim = sim_of(env);
    struct simplace at;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = simnames_resolve(sim, path, &at);
    if (rc == 0 && at.node != NULL)
        rc = at.node->dir ? -EEXIST : -ENOTDIR;
    if (rc == 0) {
        struct simnode *dir = simnode_new(sim, true);
        simjournal_add(sim,
                       (struct simchange){
                           {simnames_change(sim, at.dir, at.name, dir)}, 1});
    }
    return (int)leave(sim, rc);
}

/* For the calls on a directory that must be there. */
static int
resolve_dir(struct env_sim *sim, const char *path, struct simnode **ret)
{
    struct simplace at;
    int rc = simnames_resolve(sim, path, &at);

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
    struct simnode *dir = NULL;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = resolve_dir(sim, path, &dir);
    if (rc == 0)
        simjournal_sync(sim, dir);
    return (int)leave(sim, rc);
}

static int
sim_exists(struct env *env, const char *path)
{
    struct env_sim *sim = sim_of(env);
    struct simplace at;
    int rc = enter(sim);

    if (rc < 0)
        return rc;
    rc = simnames_resolve(sim, path, &at);
    if (rc == 0)
        rc = at.node != NULL;
    return (int)leave(sim, rc == -ENOENT || rc == -ENOTDIR ? 0 : rc);
}

static int
sim_list(struct env *env, const char *path, struct buf *ret_names)
{
    struct env_sim *sim = sim_of(env);
    struct simnode *dir = NULL;
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
        uint64_t word = sim_draw(&sim->random);
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
    sim->writeback = sim_draw(&sim->random);
    sim->root = simnode_ref(simnode_new(sim, true));
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
    struct simnode **all = xcalloc(n, sizeof(*all));
    for (size_t i = 0; i < n; i++) {
        ENSURE(sim->nodes[i]->handles == 0);
        all[i] = simnode_ref(sim->nodes[i]);
    }
    for (size_t i = 0; i < sim->nchanges; i++)
        simjournal_free_change(sim, &sim->journal[i]);
    for (size_t i = 0; i < n; i++) {
        simnames_free(sim, &all[i]->live);
        simnames_free(sim, &all[i]->durable);
    }
    simnode_unref(sim, sim->root);
    for (size_t i = 0; i < n; i++)
        simnode_unref(sim, all[i]);
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
names_copy(struct env_sim *to_sim, struct simnames *to,
           const struct simnames *from, struct simnode **map)
{
    for (size_t i = 0; i < from->n; i++)
        simnames_set(to_sim, to, from->v[i].s,
                     map == NULL ? from->v[i].node
                                 : map[from->v[i].node->index]);
}

static void
node_copy(struct simnode *to, const struct simnode *from)
{
    to->links = from->links;
    to->size = from->size;
    to->disk_size = from->disk_size;
    to->size_dirty = from->size_dirty;
    simbytes_reserve(to, from->npages);
    for (size_t i = 0; i < from->npages; i++) {
        to->charged[i] = from->charged[i];
        if (from->pages[i] != NULL)
            *simbytes_page(to, i) = *from->pages[i];
    }
    to->ncharged = from->ncharged;
}

static struct simchange
change_copy(const struct simchange *from, struct simnode **map)
{
    struct simchange to = {.n = from->n};

    for (size_t i = 0; i < from->n; i++) {
        const struct simhalf *h = &from->half[i];
        to.half[i] = (struct simhalf){
            simnode_ref(map[h->dir->index]), xstrdup(h->name),
            h->was == NULL ? NULL : simnode_ref(map[h->was->index]),
            h->is == NULL ? NULL : simnode_ref(map[h->is->index])};
    }
    return to;
}

struct env_sim *
env_sim_clone(struct env_sim *sim)
{
    struct env_sim *copy = env_sim_new(NULL);

    pthread_mutex_lock(&sim->mutex);
    size_t n = sim->nnodes;
    struct simnode **map = xcalloc(n, sizeof(*map));
    for (size_t i = 0; i < n; i++) {
        const struct simnode *from = sim->nodes[i];
        map[i] = simnode_ref(from == sim->root ? copy->root
                                               : simnode_new(copy, from->dir));
        node_copy(map[i], from);
    }
    for (size_t i = 0; i < n; i++) {
        names_copy(copy, &map[i]->live, &sim->nodes[i]->live, map);
        names_copy(copy, &map[i]->durable, &sim->nodes[i]->durable, map);
        simnode_recount(copy, map[i]);
    }
    for (size_t i = 0; i < sim->nchanges; i++)
        simjournal_add(copy, change_copy(&sim->journal[i], map));
    for (size_t i = 0; i < n; i++)
        simnode_unref(copy, map[i]); /* what only an open file held goes */
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
names_crash(struct env_sim *sim, struct simnode *dir)
{
    struct simnames fresh = {0};
    struct simnames old = dir->live;

    names_copy(sim, &fresh, &dir->durable, NULL);
    dir->live = fresh;
    simnames_free(sim, &old);
}

static void
count_links(struct simnode *dir)
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
    struct simnode **all = xcalloc(n, sizeof(*all));
    for (size_t i = 0; i < n; i++)
        all[i] = simnode_ref(sim->nodes[i]);

    simjournal_crash(sim, &seed);
    for (size_t i = 0; i < n; i++) {
        names_crash(sim, all[i]);
        simbytes_crash(all[i], &seed);
        all[i]->links = all[i] == sim->root;
        all[i]->handles = 0;
        all[i]->counted = false;
    }
    for (size_t i = 0; i < n; i++)
        count_links(all[i]);
    sim->used = 0;
    for (size_t i = 0; i < n; i++)
        simnode_recount(sim, all[i]);
    for (size_t i = 0; i < n; i++)
        simnode_unref(sim, all[i]);
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
    struct simplace at;

    pthread_mutex_lock(&sim->mutex);
    bool good = bit < 8 && simnames_resolve(sim, path, &at) == 0 &&
                at.node != NULL && !at.node->dir && offset < at.node->size;
    if (good) {
        struct simpage *page =
            simbytes_page(at.node, (size_t)(offset / PAGE_BYTES));
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
        const struct simnode *node = sim->nodes[i];
        count += node->size_dirty;
        for (size_t k = 0; k < node->npages; k++)
            if (node->pages[k] != NULL)
                count += (size_t)__builtin_popcount(node->pages[k]->dirty);
    }
    pthread_mutex_unlock(&sim->mutex);
    return count;
}
