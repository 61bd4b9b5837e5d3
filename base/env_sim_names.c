/*
 * base/env_sim_names.c - nodes, their names, and the journal of changes between
 * live and durable names.
 *
 * A change depends on an earlier one when both concern the same name or the
 * same file, or when one of them moves the directory in which the other
 * happened. Syncing and crashing both carry over sets of changes that are
 * closed under this, so the names on the disk are always such as could have
 * been.
 */
#include "base/env_sim_private.h"

#include <errno.h>
#include <stdlib.h>

struct simnode *
simnode_new(struct env_sim *sim, bool dir)
{
    struct simnode *node = xcalloc(1, sizeof(*node));

    if (sim->nnodes == sim->nodes_cap) {
        sim->nodes_cap = sim->nodes_cap * 2 + 16;
        sim->nodes = xrealloc(sim->nodes, sim->nodes_cap * sizeof(*sim->nodes));
    }
    node->index = sim->nnodes;
    node->dir = dir;
    sim->nodes[sim->nnodes++] = node;
    return node;
}

void
simnames_free(struct env_sim *sim, struct simnames *names)
{
    struct simnames old = *names;

    *names = (struct simnames){0};
    for (size_t i = 0; i < old.n; i++) {
        simnode_unref(sim, old.v[i].node);
        free(old.v[i].s);
    }
    free(old.v);
}

static void
node_free(struct env_sim *sim, struct simnode *node)
{
    simnames_free(sim, &node->live);
    simnames_free(sim, &node->durable);
    for (size_t i = 0; i < node->npages; i++)
        free(node->pages[i]);
    free(node->pages);
    free(node->charged);
    struct simnode *last = sim->nodes[--sim->nnodes];
    last->index = node->index;
    sim->nodes[last->index] = last;
    free(node);
}

void
simnode_unref(struct env_sim *sim, struct simnode *node)
{
    if (node != NULL && --node->refs == 0)
        node_free(sim, node);
}

void
simnode_recount(struct env_sim *sim, struct simnode *node)
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
names_at(const struct simnames *names, const char *s, bool *ret_found)
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

struct simnode *
simnames_get(const struct simnames *names, const char *s)
{
    bool found;
    size_t i = names_at(names, s, &found);

    return found ? names->v[i].node : NULL;
}

void
simnames_set(struct env_sim *sim, struct simnames *names, const char *s,
             struct simnode *node)
{
    bool found;
    size_t i = names_at(names, s, &found);

    simnode_ref(node);
    if (found && node != NULL) {
        struct simnode *was = names->v[i].node;
        names->v[i].node = node;
        simnode_unref(sim, was);
    } else if (found) {
        struct simname was = names->v[i];
        memmove(names->v + i, names->v + i + 1,
                (names->n - i - 1) * sizeof(*names->v));
        names->n--;
        free(was.s);
        simnode_unref(sim, was.node);
    } else if (node != NULL) {
        if (names->n == names->cap) {
            names->cap = names->cap * 2 + 8;
            names->v = xrealloc(names->v, names->cap * sizeof(*names->v));
        }
        memmove(names->v + i + 1, names->v + i,
                (names->n - i) * sizeof(*names->v));
        names->v[i] = (struct simname){xstrdup(s), node};
        names->n++;
    }
}

int
simnames_resolve(struct env_sim *sim, const char *path, struct simplace *ret)
{
    *ret = (struct simplace){.node = sim->root};
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
        ret->node = simnames_get(&ret->dir->live, ret->name);
        path += n;
    }
}

struct simhalf
simnames_change(struct env_sim *sim, struct simnode *dir, const char *name,
                struct simnode *is)
{
    struct simnode *was = simnames_get(&dir->live, name);
    struct simhalf half = {simnode_ref(dir), xstrdup(name), simnode_ref(was),
                           simnode_ref(is)};

    simnames_set(sim, &dir->live, name, is);
    if (was != NULL)
        was->links--;
    if (is != NULL)
        is->links++;
    return half;
}

void
simjournal_add(struct env_sim *sim, struct simchange change)
{
    if (sim->nchanges == sim->changes_cap) {
        sim->changes_cap = sim->changes_cap * 2 + 16;
        sim->journal =
            xrealloc(sim->journal, sim->changes_cap * sizeof(*sim->journal));
    }
    sim->journal[sim->nchanges++] = change;
    for (size_t i = 0; i < change.n; i++) {
        if (change.half[i].was != NULL)
            simnode_recount(sim, change.half[i].was);
        if (change.half[i].is != NULL)
            simnode_recount(sim, change.half[i].is);
    }
}

void
simjournal_free_change(struct env_sim *sim, struct simchange *change)
{
    for (size_t i = 0; i < change->n; i++) {
        struct simhalf *h = &change->half[i];
        free(h->name);
        simnode_unref(sim, h->was);
        simnode_unref(sim, h->is);
        simnode_unref(sim, h->dir);
    }
}

static void
make_durable(struct env_sim *sim, const struct simchange *change)
{
    for (size_t i = 0; i < change->n; i++) {
        const struct simhalf *h = &change->half[i];
        simnames_set(sim, &h->dir->durable, h->name, h->is);
    }
}

/* A rename of a directory, whose place in the tree others build on. */
static bool
moves_directory(const struct simchange *c)
{
    return c->n == 2 && c->half[1].is->dir;
}

static bool
halves_depend(const struct simchange *a, const struct simhalf *x,
              const struct simchange *b, const struct simhalf *y)
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
depend(const struct simchange *a, const struct simchange *b)
{
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < b->n; k++)
            if (halves_depend(a, &a->half[i], b, &b->half[k]))
                return true;
    return false;
}

static bool
touches(const struct simchange *c, const struct simnode *dir)
{
    return c->half[0].dir == dir || (c->n == 2 && c->half[1].dir == dir);
}

/* Carry the flagged changes over, in order, and take them out. */
static void
journal_commit(struct env_sim *sim, const bool *flagged)
{
    size_t kept = 0;

    for (size_t i = 0; i < sim->nchanges; i++) {
        struct simchange c = sim->journal[i];
        if (!flagged[i]) {
            sim->journal[kept++] = c;
            continue;
        }
        make_durable(sim, &c);
        simjournal_free_change(sim, &c);
    }
    sim->nchanges = kept;
}

void
simjournal_sync(struct env_sim *sim, struct simnode *dir)
{
    bool *flagged = xcalloc(sim->nchanges, sizeof(*flagged));

    for (size_t i = sim->nchanges; i-- > 0;) {
        const struct simchange *c = &sim->journal[i];
        flagged[i] = touches(c, dir);
        for (size_t k = i + 1; k < sim->nchanges && !flagged[i]; k++)
            flagged[i] = flagged[k] && depend(c, &sim->journal[k]);
    }
    journal_commit(sim, flagged);
    free(flagged);
}

void
simjournal_crash(struct env_sim *sim, uint64_t *seed)
{
    static const unsigned eighths[] = {0, 1, 4, 7, 8};
    unsigned keep = eighths[sim_draw(seed) % ARRAY_LEN(eighths)];
    bool *flagged = xcalloc(sim->nchanges, sizeof(*flagged));

    for (size_t i = 0; i < sim->nchanges; i++) {
        const struct simchange *c = &sim->journal[i];
        flagged[i] = sim_chance(seed, keep);
        for (size_t k = 0; k < i && flagged[i]; k++)
            flagged[i] = flagged[k] || !depend(&sim->journal[k], c);
    }
    journal_commit(sim, flagged);
    for (size_t i = 0; i < sim->nchanges; i++)
        simjournal_free_change(sim, &sim->journal[i]);
    sim->nchanges = 0;
    free(flagged);
}
