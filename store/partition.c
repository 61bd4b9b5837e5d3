/*
 * store/partition.c - choosing a partition.
 *
 * Every mode gives each partition a weight; "most" takes the greatest (the
 * first of equals), the others draw one with chances as the weights.  Weights
 * of shares are in hundredths of a percent.  With "delta" everybody has half a
 * percent to begin with, so that the fullest has few chances while the others
 * lag behind it, and as many as they when they are level.
 */
#include "store/partition.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define SHARE_ALL 10000U /* hundredths of a percent */
#define DELTA_BASE 50U

struct partition {
    const char *name;
    const char *path;
    bool is_excluded;
    bool is_known; /* its usage could be told */
    struct partition_usage usage;
};

struct partitions {
    struct env *env;
    struct partition_options o;
    struct partition *v;
    size_t n;
    pthread_mutex_t lock; /* of the usage and `choices` */
    unsigned choices;     /* since the usage was looked at */
    bool has_usage;
};

static bool
usage_of_system(void *ctx, const char *path, struct partition_usage *ret)
{
    struct statvfs fs;

    (void)ctx;
    if (statvfs(path, &fs) != 0)
        return false;
    ret->total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    ret->free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return true;
}

static bool
is_listed(const char *const *list, const char *name)
{
    for (; list != NULL && *list != NULL; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

struct partitions *
partitions_new(struct env *env, const struct partition_options *options,
               const char *const *names, const char *const *paths, size_t n,
               struct arena *a)
{
    struct partitions *p = arena_alloc(a, sizeof(*p));

    *p = (struct partitions){.env = env, .o = *options, .n = n};
    if (p->o.usage == NULL)
        p->o.usage = usage_of_system;
    if (p->o.fixed != NULL)
        p->o.fixed = arena_str(a, span_str(p->o.fixed));
    p->v = arena_array(a, n + 1, sizeof(*p->v));
    for (size_t i = 0; i < n; i++)
        p->v[i] = (struct partition){
            .name = arena_str(a, span_str(names[i])),
            .path = arena_str(a, span_str(paths[i])),
            .is_excluded = is_listed(options->exclude, names[i]),
        };
    ENSURE(pthread_mutex_init(&p->lock, NULL) == 0);
    return p;
}

#define PREFIX "partition-"

struct names {
    const char **names;
    const char **paths;
    size_t n;
};

static void
add_name(void *ctx, const char *name, const char *value)
{
    struct names *v = ctx;

    v->names = xrealloc(v->names, (v->n + 1) * sizeof(*v->names));
    v->paths = xrealloc(v->paths, (v->n + 1) * sizeof(*v->paths));
    v->names[v->n] = name + strlen(PREFIX);
    v->paths[v->n++] = value;
}

struct partitions *
partitions_from_config(struct env *env, const struct config *cfg,
                       struct arena *a)
{
    const struct partition_options options = {
        .mode = (enum partition_mode)config_enum(cfg, "partition_select_mode"),
        .exclude = config_list(cfg, "partition_select_exclude"),
        .soft_limit =
            (unsigned)config_int(cfg, "partition_select_soft_usage_limit"),
        .reinit = (unsigned)config_int(cfg, "partition_select_usage_reinit"),
        .fixed = config_string(cfg, "defaultpartition"),
    };
    struct names v = {0};

    config_each(cfg, PREFIX, add_name, &v);
    struct partitions *p =
        partitions_new(env, &options, v.names, v.paths, v.n, a);
    free(v.names);
    free(v.paths);
    return p;
}

const char *
partition_find(const struct partitions *p, struct span name)
{
    for (size_t i = 0; i < p->n; i++)
        if (span_eq_str(name, p->v[i].name))
            return p->v[i].name;
    if (p->o.fixed != NULL && span_eq_str(name, p->o.fixed))
        return p->o.fixed;
    return NULL;
}

/* ----------------------------------------------------------------- choosing */

static void
look_at_usage(struct partitions *p)
{
    if (p->has_usage && p->choices < p->o.reinit)
        return;
    for (size_t i = 0; i < p->n; i++) {
        struct partition *v = &p->v[i];
        v->is_known = p->o.usage(p->o.ctx, v->path, &v->usage) &&
                      v->usage.total_bytes > 0;
    }
    p->has_usage = true;
    p->choices = 0;
}

/* Free, in hundredths of a percent. */
static uint64_t
free_share(const struct partition *v)
{
    if (!v->is_known)
        return 0;
    const double share =
        (double)v->usage.free_bytes * SHARE_ALL / (double)v->usage.total_bytes;
    return (uint64_t)MIN(share, (double)SHARE_ALL);
}

static bool
is_over_limit(const struct partitions *p, const struct partition *v)
{
    return p->o.soft_limit > 0 &&
           (SHARE_ALL - free_share(v)) > (uint64_t)p->o.soft_limit * 100;
}

/* Those that may be chosen; the limit does not hold where all are over it, nor
 * the exclusion where all are excluded. */
static size_t
take_part(const struct partitions *p, const struct partition **ret)
{
    size_t n = 0;

    for (unsigned pass = 0; n == 0 && pass < 3; pass++)
        for (size_t i = 0; i < p->n; i++) {
            const struct partition *v = &p->v[i];
            if ((pass < 2 && v->is_excluded) ||
                (pass < 1 && is_over_limit(p, v)))
                continue;
            ret[n++] = v;
        }
    return n;
}

static uint64_t
least_share(const struct partition *const *v, size_t n)
{
    uint64_t least = SHARE_ALL;

    for (size_t i = 0; i < n; i++)
        least = MIN(least, free_share(v[i]));
    return least;
}

static uint64_t
weight(const struct partitions *p, const struct partition *v, uint64_t least)
{
    switch (p->o.mode) {
    case PARTITION_RANDOM:
        return 1;
    case PARTITION_FREE_MOST:
        return v->is_known ? v->usage.free_bytes : 0;
    case PARTITION_PERCENT_MOST:
    case PARTITION_PERCENT_WEIGHTED:
        return free_share(v);
    case PARTITION_PERCENT_WEIGHTED_DELTA:
        return free_share(v) - least + DELTA_BASE;
    }
    return 0;
}

static const struct partition *
take_most(const struct partitions *p, const struct partition *const *v,
          size_t n)
{
    size_t most = 0;

    for (size_t i = 1; i < n; i++)
        if (weight(p, v[i], 0) > weight(p, v[most], 0))
            most = i;
    return v[most];
}

static const struct partition *
draw(const struct partitions *p, const struct partition *const *v, size_t n)
{
    const uint64_t least = least_share(v, n);
    uint64_t all = 0;
    uint64_t drawn;

    for (size_t i = 0; i < n; i++)
        all += weight(p, v[i], least);
    env_random(p->env, &drawn, sizeof(drawn));
    if (all == 0) /* all are full: any */
        return v[drawn % n];
    drawn %= all;
    size_t i = 0;
    while (drawn >= weight(p, v[i], least))
        drawn -= weight(p, v[i++], least);
    return v[i];
}

const char *
partition_choose(struct partitions *p)
{
    if (p->o.fixed != NULL || p->n == 0)
        return p->o.fixed != NULL ? p->o.fixed : "default";
    if (p->n == 1)
        return p->v[0].name;

    const struct partition **v = xcalloc(p->n, sizeof(struct partition *));
    pthread_mutex_lock(&p->lock);
    look_at_usage(p);
    p->choices++;
    const size_t n = take_part(p, v);
    const bool is_most =
        p->o.mode == PARTITION_FREE_MOST || p->o.mode == PARTITION_PERCENT_MOST;
    const char *name = (is_most ? take_most(p, v, n) : draw(p, v, n))->name;
    pthread_mutex_unlock(&p->lock);
    free(v);
    return name;
}
