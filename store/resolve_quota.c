/*
 * store/resolve_quota.c - which quota root a mailbox has, and whether something
 * fits below it.
 *
 * A mailbox has the nearest root at or above it, none below DELETED.  What
 * changes that (a root comes or goes, a mailbox gets another name) is resolved
 * here into REC_SET records, so that a replica needs not look for roots.
 */
#include "store/resolve_private.h"

#include "store/names.h"

/* ROOT itself, if there, and all mailboxes below it. */
enum errcode
resolve_list_tree(struct group *g, const char *root, bool below,
                  struct named **ret, size_t *ret_n, struct error *err)
{
    struct key k;
    struct span *keys;
    size_t n, kept = 0;
    const size_t len = strlen(root);

    enum errcode rc = state_keys(g->st, key_text(&k, TAB_NAME, span_str(root)),
                                 &g->arena, &keys, &n, err);
    if (rc != ERR_OK)
        return rc;
    struct named *all = arena_array(&g->arena, n + 1, sizeof(*all));
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        const char *name = arena_str(&g->arena, span_skip(keys[i], 1));
        if (name[len] != '\0' && !(below && name[len] == '.'))
            continue;
        all[kept].name = name;
        rc = state_lookup(g->st, name, &all[kept].id, err);
        kept++;
    }
    *ret = all;
    *ret_n = kept;
    return rc;
}

enum errcode
resolve_set_quota_root(struct group *g, mbid_t id, const char *root,
                       struct error *err)
{
    const struct rec_set rec = {
        .id = id, .fields = SET_QUOTA_ROOT, .quota_root = root};
    return EMIT(set, REC_SET, &rec, err);
}

/* Give all mailboxes at and below NAME the quota root that their names say. */
enum errcode
resolve_reroot_tree(struct group *g, const char *name, struct error *err)
{
    struct named *all;
    size_t n;

    enum errcode rc = resolve_list_tree(g, name, true, &all, &n, err);
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        struct head *h;
        const char *root;
        rc = resolve_mailbox(g, all[i].id, &h, err);
        if (rc == ERR_OK)
            rc = state_quota_root(g->st, all[i].name, &root, err);
        if (rc == ERR_OK && strcmp(root, h->mb.quota_root) != 0)
            rc = resolve_set_quota_root(g, all[i].id, root, err);
    }
    return rc;
}

/* The quota at ROOT ends: who has it falls to the next one above. */
enum errcode
resolve_remove_quota(struct group *g, const char *root, struct error *err)
{
    struct named *all;
    size_t n;
    const char *above = "";
    const char *parent = name_parent(root, &g->arena);

    enum errcode rc =
        parent == NULL ? ERR_OK : state_quota_root(g->st, parent, &above, err);
    if (rc == ERR_OK)
        rc = resolve_list_tree(g, root, true, &all, &n, err);
    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        struct head *h;
        rc = resolve_mailbox(g, all[i].id, &h, err);
        if (rc == ERR_OK && strcmp(h->mb.quota_root, root) == 0)
            rc = resolve_set_quota_root(g, all[i].id, above, err);
    }
    const struct rec_quota rec = {.root = root};
    return rc == ERR_OK ? EMIT(quota, REC_QUOTA, &rec, err) : rc;
}

/* A mailbox whose quota row is its own loses it before it goes. */
enum errcode
resolve_drop_own_quota(struct group *g, const char *name, struct error *err)
{
    struct quota_head *q;

    enum errcode rc = state_quota(g->st, name, &q, err);
    return rc == ERR_OK && q != NULL ? resolve_remove_quota(g, name, err) : rc;
}

/* Quotas of a renamed tree go with it. */
enum errcode
resolve_move_quotas(struct group *g, const struct named *old,
                    const struct rec_rename *rec, struct error *err)
{
    enum errcode rc = ERR_OK;
    struct quota_head *q;

    for (size_t i = 0; i < rec->n && rc == ERR_OK; i++) {
        rc = state_quota(g->st, old[i].name, &q, err);
        if (rc != ERR_OK || q == NULL || name_is_deleted(rec->moves[i].name) ||
            strcmp(old[i].name, rec->moves[i].name) == 0)
            continue;
        const struct rec_quota add = {
            .root = rec->moves[i].name,
            .is_set = true,
            .storage_bytes = q->q.storage_bytes,
            .messages = q->q.messages,
        };
        rc = EMIT(quota, REC_QUOTA, &add, err);
    }
    for (size_t i = 0; i < rec->n && rc == ERR_OK; i++)
        rc = resolve_reroot_tree(g, rec->moves[i].name, err);
    for (size_t i = 0; i < rec->n && rc == ERR_OK; i++) {
        rc = state_quota(g->st, old[i].name, &q, err);
        if (rc != ERR_OK || q == NULL)
            continue;
        mbid_t id;
        rc = state_lookup(g->st, old[i].name, &id, err);
        if (rc == ERR_OK && id == 0)
            rc = resolve_remove_quota(g, old[i].name, err);
    }
    return rc;
}

enum errcode
resolve_check_quota(struct group *g, const struct mailbox *mb, uint64_t bytes,
                    uint64_t messages, struct error *err)
{
    struct quota_head *q;

    if (mb->quota_root[0] == '\0')
        return ERR_OK;
    enum errcode rc = state_quota(g->st, mb->quota_root, &q, err);
    if (rc != ERR_OK || q == NULL)
        return rc;
    if ((q->q.storage_bytes != QUOTA_UNLIMITED &&
         (q->q.used_bytes > q->q.storage_bytes ||
          bytes > q->q.storage_bytes - q->q.used_bytes)) ||
        (q->q.messages != QUOTA_UNLIMITED &&
         (q->q.used_messages > q->q.messages ||
          messages > q->q.messages - q->q.used_messages)))
        return error_set(err, ERR_QUOTA, "over the quota of %s", q->root);
    return ERR_OK;
}

enum errcode
op_quota(struct group *g, struct op *op, struct error *err)
{
    const struct rec_quota *rec = &op->u.quota;
    struct quota_head *q;
    mbid_t id;

    enum errcode rc = resolve_check_name(rec->root, err);
    if (rc == ERR_OK)
        rc = state_quota(g->st, rec->root, &q, err);
    if (rc != ERR_OK)
        return rc;
    if (!rec->is_set) {
        if (q == NULL)
            return error_set(err, ERR_NOTFOUND, "no quota at %s", rec->root);
        return resolve_remove_quota(g, rec->root, err);
    }
    rc = state_lookup(g->st, rec->root, &id, err);
    if (rc == ERR_OK && id == 0)
        rc = error_set(err, ERR_NOTFOUND, "no mailbox %s", rec->root);
    if (rc != ERR_OK)
        return rc;
    const bool is_new = q == NULL;
    rc = EMIT(quota, REC_QUOTA, rec, err);
    return rc == ERR_OK && is_new ? resolve_reroot_tree(g, rec->root, err) : rc;
}
