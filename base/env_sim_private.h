/*
 * base/env_sim_private.h - the machine in memory from inside: env_sim.c (the
 * operations, and what a test may do), env_sim_names.c (nodes, names and their
 * journal) and env_sim_bytes.c (what files hold).  env_sim.c says how it works.
 */
#ifndef POLLUX_BASE_ENV_SIM_PRIVATE_H
#define POLLUX_BASE_ENV_SIM_PRIVATE_H

#include <pthread.h>

#include "base/env_private.h"
#include "base/env_sim.h"

#define PAGE_BYTES ((size_t)ENV_SIM_BLOCK_BYTES)
#define SECTOR_BYTES ((size_t)ENV_SIM_SECTOR_BYTES)
#define SECTORS (PAGE_BYTES / SECTOR_BYTES)
#define NAME_BYTES 256

struct simpage {
    uint8_t live[PAGE_BYTES];
    uint8_t disk[PAGE_BYTES];
    uint8_t dirty; /* a bit a sector */
};

struct simname {
    char *s;
    struct simnode *node;
};

/* Sorted by name; each holds a reference to its node. */
struct simnames {
    struct simname *v;
    size_t n;
    size_t cap;
};

struct simnode {
    size_t index; /* in sim->nodes */
    size_t refs;
    size_t links;   /* live names */
    size_t handles; /* open files, of this generation */
    bool dir;
    struct simnames live;
    struct simnames durable;

    struct simpage **pages; /* NULL: zeros in both images */
    bool *charged;          /* has a block, with or without a page */
    size_t npages;
    size_t ncharged;
    bool counted; /* ncharged is part of sim->used */
    uint64_t size;
    uint64_t disk_size;
    bool size_dirty;
    struct envfile *locked_by;
};

/* One name of a change: what DIR/NAME was and is; either may be NULL. */
struct simhalf {
    struct simnode *dir;
    char *name;
    struct simnode *was;
    struct simnode *is;
};

/* One change of names; N is 2 for a rename. */
struct simchange {
    struct simhalf half[2];
    size_t n;
};

struct env_sim {
    struct env env;
    pthread_mutex_t mutex;
    struct simnode *root;
    struct simnode **nodes; /* all of them */
    size_t nnodes;
    size_t nodes_cap;
    struct simchange *journal;
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

/* Where a path leads. */
struct simplace {
    struct simnode *dir; /* of the last name; NULL for the root */
    char name[NAME_BYTES];
    struct simnode *node; /* NULL: not there */
};

/* splitmix64: every state is as good as every other. */
static inline uint64_t
sim_draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* True in EIGHTHS of 8 cases. */
static inline bool
sim_chance(uint64_t *state, unsigned eighths)
{
    return sim_draw(state) % 8 < eighths;
}

/* Nodes and names: env_sim_names.c. */

static inline struct simnode *
simnode_ref(struct simnode *node)
{
    if (node != NULL)
        node->refs++;
    return node;
}

/* No references yet: name it, or open it. */
struct simnode *
simnode_new(struct env_sim *sim, bool dir);
/* The last reference frees it.  NULL is fine. */
void
simnode_unref(struct env_sim *sim, struct simnode *node);
/* Whether the node's blocks count follows from who can still reach them: to be
 * called when links or handles have changed. */
void
simnode_recount(struct env_sim *sim, struct simnode *node);
/* NULL: no such name. */
struct simnode *
simnames_get(const struct simnames *names, const char *s);
/* S names NODE from now on, or nothing if NODE is NULL. */
void
simnames_set(struct env_sim *sim, struct simnames *names, const char *s,
             struct simnode *node);
void
simnames_free(struct env_sim *sim, struct simnames *names);
/* 0, or -errno when the way to the last name is not there. */
int
simnames_resolve(struct env_sim *sim, const char *path, struct simplace *ret);
/* Change a live name; a half of what is to be put into the journal. */
struct simhalf
simnames_change(struct env_sim *sim, struct simnode *dir, const char *name,
                struct simnode *is);

/* The journal of names: env_sim_names.c. */

void
simjournal_add(struct env_sim *sim, struct simchange change);
/* Carry over what concerns DIR, with all that it depends on. */
void
simjournal_sync(struct env_sim *sim, struct simnode *dir);
/* Keep each change by chance, but none without what it depends on. */
void
simjournal_crash(struct env_sim *sim, uint64_t *seed);
void
simjournal_free_change(struct env_sim *sim, struct simchange *change);

/* Bytes: env_sim_bytes.c. */

/* Bytes written, fewer when the disk gets full; -ENOSPC for none. */
ssize_t
simbytes_write(struct env_sim *sim, struct simnode *node, const uint8_t *from,
               size_t n, uint64_t offset);
/* Bytes read; fewer at the end of the file. */
size_t
simbytes_read(const struct simnode *node, uint8_t *to, size_t n,
              uint64_t offset);
void
simbytes_truncate(struct env_sim *sim, struct simnode *node, uint64_t size);
/* 0 or -ENOSPC, and then nothing was allocated. */
int
simbytes_allocate(struct env_sim *sim, struct simnode *node, uint64_t offset,
                  uint64_t n);
/* SAVE false: what is dirty is taken for clean, but does not reach the disk. */
void
simbytes_sync(struct simnode *node, bool save);
void
simbytes_crash(struct simnode *node, uint64_t *seed);
/* Room in the vectors for NPAGES pages. */
void
simbytes_reserve(struct simnode *node, size_t npages);
/* Page I, made if absent. */
struct simpage *
simbytes_page(struct simnode *node, size_t i);

#endif
