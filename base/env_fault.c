/*
 * base/env_fault.c - every call first asks enter() what is to become of it,
 * then goes to the env below, or half of it, or not at all.
 *
 * Counting stands under a mutex; the call below and the hook do not, so that a
 * hook may use both envs.
 */
#include "base/env_fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env_private.h"

#define KINDS 11

struct rule {
    struct env_fault_rule r;
    uint64_t seen;
};

struct env_fault {
    struct env env;
    struct env *below;
    pthread_mutex_t mutex; /* guards what follows */
    struct rule rules[FAULT_RULES_MAX];
    size_t nrules;
    uint64_t calls[KINDS];
    uint64_t hits;
    size_t open_files;
};

struct faultfile {
    struct envfile f;
    struct envfile *below;
};

/* What is to become of a call. */
struct verdict {
    int refuse; /* not 0: answer this and do nothing */
    int after;  /* not 0: answer this when all or half of it is done */
    bool half;  /* do half of a transfer */
    bool kill;  /* then end the process */
};

static struct env_fault *
fault_of(struct env *env)
{
    return (struct env_fault *)env;
}

static struct envfile *
below(struct envfile *f)
{
    return ((struct faultfile *)f)->below;
}

static bool
matches(const struct env_fault_rule *r, enum env_fault_kind kind,
        const char *path)
{
    return (r->kinds & (unsigned)kind) != 0 &&
           (r->path_part == NULL || strstr(path, r->path_part) != NULL);
}

/* Count the call; true, with a copy of it, when a rule acts. */
static bool
count(struct env_fault *fault, enum env_fault_kind kind, const char *path,
      struct env_fault_rule *ret)
{
    bool acts = false;

    pthread_mutex_lock(&fault->mutex);
    fault->calls[__builtin_ctz((unsigned)kind)]++;
    for (size_t i = 0; i < fault->nrules; i++) {
        struct rule *rule = &fault->rules[i];
        if (!matches(&rule->r, kind, path))
            continue;
        rule->seen++;
        bool now = rule->seen == rule->r.nth ||
                   (rule->r.from_then_on && rule->seen > rule->r.nth);
        if (now && !acts) {
            acts = true;
            fault->hits++;
            *ret = rule->r;
        }
    }
    pthread_mutex_unlock(&fault->mutex);
    return acts;
}

static struct verdict
enter(struct env_fault *fault, enum env_fault_kind kind, const char *path)
{
    struct env_fault_rule rule = {0};
    struct verdict v = {0};
    bool write = kind == FAULT_WRITE;

    if (!count(fault, kind, path, &rule))
        return v;
    switch (rule.action) {
    case FAULT_FAIL:
        v.refuse = -rule.sys_errno;
        break;
    case FAULT_LATE:
        v.after = -rule.sys_errno;
        break;
    case FAULT_TORN:
        v.half = write;
        *(write ? &v.after : &v.refuse) = -rule.sys_errno;
        break;
    case FAULT_SHORT:
        v.half = true;
        break;
    case FAULT_KILL:
        if (!write)
            _exit(FAULT_KILL_STATUS);
        v.half = true;
        v.kill = true;
        break;
    case FAULT_HOOK:
        v.refuse = rule.hook(rule.hook_ctx, kind, path);
        break;
    }
    return v;
}

static struct verdict
enter_file(struct envfile *f, enum env_fault_kind kind)
{
    return enter(fault_of(f->env), kind, f->path);
}

/* RC is what the call below answered. */
static int
leave(const struct verdict *v, int rc)
{
    return rc >= 0 && v->after != 0 ? v->after : rc;
}

/* Half of N, but never nothing of something: 0 would mean the end. */
static size_t
half_of(size_t n)
{
    return n / 2 + n % 2;
}

static int
fault_open(struct env *env, const char *path, enum envopen how,
           struct envfile **ret)
{
    struct env_fault *fault = fault_of(env);
    bool make = how != ENV_READ && how != ENV_WRITE;
    struct verdict v = enter(fault, make ? FAULT_MAKE : FAULT_OPEN, path);
    struct envfile *lower = NULL;

    if (v.refuse != 0)
        return v.refuse;
    int rc = fault->below->ops->open(fault->below, path, how, &lower);
    if (rc < 0)
        return rc;
    if (v.after != 0) {
        env_close(&lower);
        return v.after;
    }
    struct faultfile *ff = xcalloc(1, sizeof(*ff));
    envfile_init(&ff->f, env, path);
    ff->below = lower;
    pthread_mutex_lock(&fault->mutex);
    fault->open_files++;
    pthread_mutex_unlock(&fault->mutex);
    *ret = &ff->f;
    return 0;
}

static void
fault_close(struct envfile *f)
{
    struct faultfile *ff = (struct faultfile *)f;
    struct env_fault *fault = fault_of(f->env);

    pthread_mutex_lock(&fault->mutex);
    fault->open_files--;
    pthread_mutex_unlock(&fault->mutex);
    env_close(&ff->below);
    envfile_done(f);
    free(ff);
}

static ssize_t
fault_pread(struct envfile *f, void *to, size_t n, uint64_t offset)
{
    struct verdict v = enter_file(f, FAULT_READ);

    if (v.refuse != 0)
        return v.refuse;
    struct envfile *lower = below(f);
    ssize_t got =
        lower->env->ops->pread(lower, to, v.half ? half_of(n) : n, offset);
    return got >= 0 && v.after != 0 ? v.after : got;
}

static ssize_t
fault_pwrite(struct envfile *f, const void *from, size_t n, uint64_t offset)
{
    struct verdict v = enter_file(f, FAULT_WRITE);

    if (v.refuse != 0)
        return v.refuse;
    struct envfile *lower = below(f);
    ssize_t put =
        lower->env->ops->pwrite(lower, from, v.half ? half_of(n) : n, offset);
    if (v.kill)
        _exit(FAULT_KILL_STATUS);
    return put >= 0 && v.after != 0 ? v.after : put;
}

static int
fault_fallocate(struct envfile *f, uint64_t offset, uint64_t n)
{
    struct verdict v = enter_file(f, FAULT_FALLOCATE);
    struct envfile *lower = below(f);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->env->ops->fallocate(lower, offset, n));
}

static int
fault_truncate(struct envfile *f, uint64_t size)
{
    struct verdict v = enter_file(f, FAULT_TRUNCATE);
    struct envfile *lower = below(f);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->env->ops->truncate(lower, size));
}

static int
fault_fdatasync(struct envfile *f)
{
    struct verdict v = enter_file(f, FAULT_SYNC);
    struct envfile *lower = below(f);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->env->ops->fdatasync(lower));
}

static int
fault_fsync(struct envfile *f)
{
    struct verdict v = enter_file(f, FAULT_SYNC);
    struct envfile *lower = below(f);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->env->ops->fsync(lower));
}

static int64_t
fault_size(struct envfile *f)
{
    struct verdict v = enter_file(f, FAULT_READ);
    struct envfile *lower = below(f);

    if (v.refuse != 0)
        return v.refuse;
    int64_t size = lower->env->ops->size(lower);
    return size >= 0 && v.after != 0 ? v.after : size;
}

static int
fault_lock(struct envfile *f)
{
    struct verdict v = enter_file(f, FAULT_LOCK);
    struct envfile *lower = below(f);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->env->ops->lock(lower));
}

static int
fault_fd(struct envfile *f)
{
    return env_fd(below(f));
}

static int
fault_rename(struct env *env, const char *from, const char *to)
{
    struct env *lower = fault_of(env)->below;
    struct verdict v = enter(fault_of(env), FAULT_RENAME, from);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->ops->rename(lower, from, to));
}

static int
fault_unlink(struct env *env, const char *path)
{
    struct env *lower = fault_of(env)->below;
    struct verdict v = enter(fault_of(env), FAULT_UNLINK, path);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->ops->unlink(lower, path));
}

static int
fault_mkdir(struct env *env, const char *path)
{
    struct env *lower = fault_of(env)->below;
    struct verdict v = enter(fault_of(env), FAULT_MAKE, path);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->ops->mkdir(lower, path));
}

static int
fault_syncdir(struct env *env, const char *path)
{
    struct env *lower = fault_of(env)->below;
    struct verdict v = enter(fault_of(env), FAULT_SYNCDIR, path);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->ops->syncdir(lower, path));
}

static int
fault_exists(struct env *env, const char *path)
{
    struct env *lower = fault_of(env)->below;
    struct verdict v = enter(fault_of(env), FAULT_READ, path);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->ops->exists(lower, path));
}

static int
fault_list(struct env *env, const char *path, struct buf *ret_names)
{
    struct env *lower = fault_of(env)->below;
    struct verdict v = enter(fault_of(env), FAULT_READ, path);

    if (v.refuse != 0)
        return v.refuse;
    return leave(&v, lower->ops->list(lower, path, ret_names));
}

static uint64_t
fault_mono_ns(struct env *env)
{
    return env_mono_ns(fault_of(env)->below);
}

static uint64_t
fault_wall_us(struct env *env)
{
    return env_wall_us(fault_of(env)->below);
}

static void
fault_random(struct env *env, void *to, size_t n)
{
    env_random(fault_of(env)->below, to, n);
}

static const struct env_ops fault_ops = {
    .open = fault_open,
    .close = fault_close,
    .pread = fault_pread,
    .pwrite = fault_pwrite,
    .fallocate = fault_fallocate,
    .truncate = fault_truncate,
    .fdatasync = fault_fdatasync,
    .fsync = fault_fsync,
    .size = fault_size,
    .lock = fault_lock,
    .fd = fault_fd,
    .rename = fault_rename,
    .unlink = fault_unlink,
    .mkdir = fault_mkdir,
    .syncdir = fault_syncdir,
    .exists = fault_exists,
    .list = fault_list,
    .mono_ns = fault_mono_ns,
    .wall_us = fault_wall_us,
    .random = fault_random,
};

struct env_fault *
env_fault_new(struct env *lower)
{
    struct env_fault *fault = xcalloc(1, sizeof(*fault));

    fault->env.ops = &fault_ops;
    fault->below = lower;
    ENSURE(pthread_mutex_init(&fault->mutex, NULL) == 0);
    return fault;
}

void
env_fault_free(struct env_fault **fault)
{
    if (*fault == NULL)
        return;
    ENSURE((*fault)->open_files == 0);
    pthread_mutex_destroy(&(*fault)->mutex);
    xfree(fault);
}

struct env *
env_fault_env(struct env_fault *fault)
{
    return &fault->env;
}

void
env_fault_add(struct env_fault *fault, const struct env_fault_rule *rule)
{
    ENSURE(rule->action != FAULT_HOOK || rule->hook != NULL);
    pthread_mutex_lock(&fault->mutex);
    ENSURE(fault->nrules < FAULT_RULES_MAX);
    fault->rules[fault->nrules++] = (struct rule){.r = *rule};
    pthread_mutex_unlock(&fault->mutex);
}

void
env_fault_clear(struct env_fault *fault)
{
    pthread_mutex_lock(&fault->mutex);
    fault->nrules = 0;
    pthread_mutex_unlock(&fault->mutex);
}

uint64_t
env_fault_calls(struct env_fault *fault, unsigned kinds)
{
    uint64_t sum = 0;

    pthread_mutex_lock(&fault->mutex);
    for (unsigned i = 0; i < KINDS; i++)
        if ((kinds >> i & 1) != 0)
            sum += fault->calls[i];
    pthread_mutex_unlock(&fault->mutex);
    return sum;
}

uint64_t
env_fault_hits(struct env_fault *fault)
{
    pthread_mutex_lock(&fault->mutex);
    uint64_t hits = fault->hits;
    pthread_mutex_unlock(&fault->mutex);
    return hits;
}
