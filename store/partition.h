/*
 * store/partition.h - the partition of a new mailbox.
 *
 * A mailbox gets the one that an admin names, else that of its parent, else
 * `defaultpartition`, else one is chosen here by partition_select_mode.
 */
#ifndef POLLUX_STORE_PARTITION_H
#define POLLUX_STORE_PARTITION_H

#include "base/arena.h"
#include "base/config.h"
#include "base/env.h"

/* In the order of the words of partition_select_mode. */
enum partition_mode {
    PARTITION_RANDOM,
    PARTITION_FREE_MOST,              /* bytes */
    PARTITION_PERCENT_MOST,           /* of its file system */
    PARTITION_PERCENT_WEIGHTED,       /* chances as the free share */
    PARTITION_PERCENT_WEIGHTED_DELTA, /* chances as the free share is above that
                                         of the fullest */
};

struct partition_usage {
    uint64_t total_bytes;
    uint64_t free_bytes;
};

struct partition_options {
    enum partition_mode mode;
    const char *const *exclude; /* names, NULL-terminated; NULL: none */
    unsigned soft_limit; /* fuller than so many percent: not chosen, unless all
                            are; 0: no limit */
    unsigned reinit;     /* choices between two looks at the usage; 0: each */
    const char *fixed;   /* defaultpartition: no choice.  NULL: none */
    /* False: it cannot be told, as if it were full.  NULL: statvfs(). */
    bool (*usage)(void *ctx, const char *path, struct partition_usage *ret);
    void *ctx;
};

struct partitions; /* thread-safe; lives in its arena */

/* NAMES and PATHS have N entries; all strings are copied into A. */
struct partitions *
partitions_new(struct env *env, const struct partition_options *options,
               const char *const *names, const char *const *paths, size_t n,
               struct arena *a);
/* partition-* and partition_select_* of CFG, which must live as long. */
struct partitions *
partitions_from_config(struct env *env, const struct config *cfg,
                       struct arena *a);
/* Its name as it lives there, or NULL: there is no such partition. */
const char *
partition_find(const struct partitions *p, struct span name);
/* For a new mailbox without a parent.  Never NULL; "default" where there is no
 * partition at all. */
const char *
partition_choose(struct partitions *p);

#endif
