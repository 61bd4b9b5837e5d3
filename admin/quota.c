/*
 * admin/quota.c - QUOTA: limits and usage of the roots, and counting anew
 * (quota).
 *
 * Usage is part of the state and is counted in the same record as what it
 * counts.  CHECK adds up the mailboxes and compares; FIX takes a root that is
 * wrong out and sets it again in one transaction, which counts it from nothing
 * and gives each mailbox the root that its name says.
 */
#include "admin/ask.h"

#include <stdlib.h>

struct root {
    const char *name;
    uint64_t limit[QUOTA_RESOURCES], used[QUOTA_RESOURCES];
    uint64_t counted[QUOTA_RESOURCES];
    uint64_t strangers; /* mailboxes below it that name another root */
};

struct quotas {
    struct ask *ask;
    struct root *roots; /* by name */
    size_t n, room;
    const char *const *prefixes; /* internal; NULL-terminated; none: all */
    bool exactly;                /* users: the root itself and below it */
    uint64_t done;
    enum errcode rc;
    struct error *err;
};

static const char *const names[] = {
    [QUOTA_STORAGE] = "STORAGE",
    [QUOTA_MESSAGE] = "MESSAGE",
    [QUOTA_FOLDERS] = "X-NUM-FOLDERS",
    [QUOTA_ANNOTATION] = "X-ANNOTATION-STORAGE",
};

/* ---- gathering --------------------------------------------------------- */

static bool
is_asked_for(const struct quotas *q, const char *name)
{
    if (q->prefixes == NULL || q->prefixes[0] == NULL)
        return true;
    for (const char *const *p = q->prefixes; *p != NULL; p++) {
        size_t n = strlen(*p);
        if (strncmp(name, *p, n) == 0 &&
            (!q->exactly || name[n] == '\0' || name[n] == '.'))
            return true;
    }
    return false;
}

static bool
take_root(void *ctx, const struct quota *quota)
{
    struct quotas *q = ctx;

    if (!is_asked_for(q, quota->root))
        return true;
    if (q->n == q->room) {
        q->room = q->room == 0 ? 64 : 2 * q->room;
        q->roots = xrealloc(q->roots, q->room * sizeof(*q->roots));
    }
    struct root *r = &q->roots[q->n++];
    *r = (struct root){
        .name = arena_str(&q->ask->arena, span_str(quota->root)),
    };
    memcpy(r->limit, quota->limit, sizeof(r->limit));
    memcpy(r->used, quota->used, sizeof(r->used));
    return true;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(((const struct root *)a)->name,
                  ((const struct root *)b)->name);
}

static struct root *
find_root(struct quotas *q, const char *name)
{
    struct root key = {.name = name};

    return q->n == 0
               ? NULL
               : bsearch(&key, q->roots, q->n, sizeof(key), compare_names);
}

/* The nearest root at or above NAME among those gathered; all of them are. */
static struct root *
root_of(struct quotas *q, const char *name)
{
    AUTO(xfree) char *at = xstrdup(name);

    for (;;) {
        struct root *r = find_root(q, at);
        char *dot = strrchr(at, '.');
        if (r != NULL || dot == NULL)
            return r;
        *dot = '\0';
    }
}

static bool
count_mailbox(void *ctx, const struct mailbox *mb)
{
    struct quotas *q = ctx;
    struct root *r = root_of(q, mb->name);

    q->rc = ask_progress(q->ask, ++q->done, 0, q->err);
    if (q->rc != ERR_OK)
        return false;
    if (strcmp(mb->quota_root, r == NULL ? "" : r->name) != 0) {
        struct root *other = find_root(q, mb->quota_root);
        if (r != NULL)
            r->strangers++;
        if (other != NULL)
            other->strangers++;
    }
    if (r == NULL)
        return true;
    r->counted[QUOTA_STORAGE] += mb->bytes;
    r->counted[QUOTA_MESSAGE] += mb->exists;
    r->counted[QUOTA_FOLDERS]++;
    r->counted[QUOTA_ANNOTATION] += mb->annot_bytes;
    return true;
}

/* ---- telling ----------------------------------------------------------- */

static enum errcode
tell_root(struct ask *ask, const struct root *r, struct error *err)
{
    struct dlist_printer *p = ask_row(ask, "ROOT");

    dlist_str(p, "NAME", r->name);
    for (size_t i = 0; i < QUOTA_RESOURCES; i++) {
        dlist_open_kv(p, names[i]);
        dlist_u64(p, "USED", r->used[i]);
        if (r->limit[i] != QUOTA_UNLIMITED)
            dlist_u64(p, "LIMIT", r->limit[i]);
        dlist_close(p);
    }
    return ask_row_end(ask, err);
}

static enum errcode
tell_wrong(struct ask *ask, const struct root *r, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < QUOTA_RESOURCES && rc == ERR_OK; i++) {
        if (r->used[i] == r->counted[i])
            continue;
        struct dlist_printer *p = ask_row(ask, "WRONG");
        dlist_str(p, "NAME", r->name);
        dlist_str(p, "RESOURCE", names[i]);
        dlist_u64(p, "WAS", r->used[i]);
        dlist_u64(p, "IS", r->counted[i]);
        rc = ask_row_end(ask, err);
    }
    if (rc == ERR_OK && r->strangers > 0) {
        struct dlist_printer *p = ask_row(ask, "WRONG");
        dlist_str(p, "NAME", r->name);
        dlist_u64(p, "STRANGERS", r->strangers);
        rc = ask_row_end(ask, err);
    }
    return rc;
}

static bool
is_wrong(const struct root *r)
{
    return r->strangers > 0 ||
           memcmp(r->used, r->counted, sizeof(r->used)) != 0;
}

static enum errcode
fix_root(struct ask *ask, struct root *r, struct error *err)
{
    AUTO(txn_free) struct store_txn *txn = txn_new();

    txn_quota(txn, r->name, NULL);
    txn_quota(txn, r->name, r->limit);
    enum errcode rc = ask_commit(ask, txn, err);
    if (rc != ERR_OK)
        return error_prefix(err, "%s", r->name);
    memcpy(r->used, r->counted, sizeof(r->used));
    return ERR_OK;
}

/* ---- the verb ---------------------------------------------------------- */

/* NAMES (prefixes of mailboxes; USERS: users) and DOMAIN as internal ones. */
static enum errcode
choose(struct ask *ask, struct quotas *q, struct error *err)
{
    const struct dlist *first = ask_list(ask, "NAMES");
    size_t n = 0;
    enum errcode rc = ERR_OK;

    for (const struct dlist *d = first; d != NULL; d = d->next)
        n++;
    const char **to = arena_array(&ask->arena, n + 1, sizeof(*to));
    q->exactly = ask_flag(ask, "USERS");
    n = 0;
    for (const struct dlist *d = first; rc == ERR_OK && d != NULL;
         d = d->next) {
        if (q->exactly)
            rc = name_inbox(arena_str(&ask->arena, d->text), &ask->arena,
                            &to[n], err);
        else
            to[n] = ask_prefix(ask, d->text);
        n++;
    }
    q->prefixes = to;
    return rc;
}

static enum errcode
gather(struct quotas *q, bool check, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(q->ask->store);
    const char *const *asked = q->prefixes;

    /* To count, all roots must be known: a mailbox goes by the nearest. */
    if (check)
        q->prefixes = NULL;
    enum errcode rc = snap_each_quota(snap, "", take_root, q, err);
    q->prefixes = asked;
    if (rc != ERR_OK || !check)
        return rc;
    q->err = err;
    if (q->n > 0)
        qsort(q->roots, q->n, sizeof(*q->roots), compare_names);
    rc = snap_each_mailbox(snap, "", count_mailbox, q, err);
    return rc == ERR_OK ? q->rc : rc;
}

static enum errcode
quota_run(struct ask *ask, bool check, bool fix, struct error *err)
{
    struct quotas q = {.ask = ask};

    enum errcode rc = choose(ask, &q, err);
    if (rc == ERR_OK)
        rc = gather(&q, check, err);
    for (size_t i = 0; rc == ERR_OK && i < q.n; i++) {
        struct root *r = &q.roots[i];
        if (!is_asked_for(&q, r->name))
            continue;
        if (check && is_wrong(r)) {
            rc = tell_wrong(ask, r, err);
            if (rc == ERR_OK && fix)
                rc = fix_root(ask, r, err);
        }
        if (rc == ERR_OK)
            rc = tell_root(ask, r, err);
    }
    free(q.roots);
    return rc;
}

/* CHECK: count, and tell what is wrong. */
enum errcode
admin_quota(struct ask *ask, struct error *err)
{
    return quota_run(ask, ask_flag(ask, "CHECK"), false, err);
}

enum errcode
admin_quota_fix(struct ask *ask, struct error *err)
{
    return quota_run(ask, true, true, err);
}
