/*
 * store/resolve_quota.c - quota roots come and go, and whether something fits
 * below them.
 */
#include "store/resolve_private.h"

enum errcode
resolve_drop_own_quota(struct group *g, const char *name, struct error *err)
{
    struct quota_head *q;
    const struct rec_quota rec = {.root = name};

    enum errcode rc = state_quota(g->st, name, &q, err);
    return rc == ERR_OK && q != NULL ? EMIT(quota, REC_QUOTA, &rec, err) : rc;
}

enum errcode
resolve_check_quota(struct group *g, const char *root,
                    const uint64_t more[QUOTA_RESOURCES], struct error *err)
{
    struct quota_head *q;

    if (root[0] == '\0')
        return ERR_OK;
    enum errcode rc = state_quota(g->st, root, &q, err);
    if (rc != ERR_OK || q == NULL)
        return rc;
    for (size_t i = 0; i < QUOTA_RESOURCES; i++) {
        const uint64_t limit = q->q.limit[i], used = q->q.used[i];
        if (more[i] > 0 && limit != QUOTA_UNLIMITED &&
            (used > limit || more[i] > limit - used))
            return error_set(err, ERR_QUOTA, "over the quota of %s", q->root);
    }
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
        return EMIT(quota, REC_QUOTA, rec, err);
    }
    rc = state_lookup(g->st, rec->root, &id, err);
    if (rc == ERR_OK && id == 0)
        rc = error_set(err, ERR_NOTFOUND, "no mailbox %s", rec->root);
    if (rc != ERR_OK)
        return rc;
    if (q != NULL && memcmp(q->q.limit, rec->limit, sizeof(rec->limit)) == 0)
        return ERR_OK;
    return EMIT(quota, REC_QUOTA, rec, err);
}
