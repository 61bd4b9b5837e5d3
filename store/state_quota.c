/*
 * store/state_quota.c - which quota root a mailbox has, and what it counts
 * there.
 *
 * A mailbox has the nearest root at or above its name, and none below DELETED.;
 * its head says which, so that a delivery needs no search.  Whoever changes
 * names or roots takes mailboxes out of their old root first and puts them into
 * the new one after, so usage is right at the end of every record.
 */
#include "store/state_private.h"

enum errcode
state_charge(struct state *st, const struct mailbox *mb,
             const uint64_t more[QUOTA_RESOURCES], struct error *err)
{
    struct quota_head *q;
    bool is_nothing = true;

    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        is_nothing = is_nothing && more[i] == 0;
    if (mb->quota_root[0] == '\0' || is_nothing)
        return ERR_OK;
    enum errcode rc = state_quota(st, mb->quota_root, &q, err);
    if (rc != ERR_OK)
        return rc;
    if (q == NULL)
        return error_set(err, ERR_CORRUPT,
                         "mailbox %s has the quota root %s, which is not there",
                         mb->name, mb->quota_root);
    state_touch_quota(st, q);
    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        q->q.used[i] += more[i];
    return ERR_OK;
}

enum errcode
state_charge_quota(struct state *st, struct head *head, int sign,
                   struct error *err)
{
    const struct mailbox *mb = &head->mb;
    uint64_t more[QUOTA_RESOURCES] = {
        [QUOTA_STORAGE] = mb->bytes,
        [QUOTA_MESSAGE] = mb->exists,
        [QUOTA_FOLDERS] = 1,
        [QUOTA_ANNOTATION] = mb->annot_bytes,
    };

    for (size_t i = 0; i < QUOTA_RESOURCES && sign < 0; i++)
        more[i] = 0 - more[i];
    return state_charge(st, mb, more, err);
}

enum errcode
state_quota_root(struct state *st, const char *name, const struct head *above,
                 const char **ret, struct error *err)
{
    *ret = "";
    if (name_is_deleted(name))
        return ERR_OK;
    char *root = arena_str(&st->scratch, span_str(name));
    for (;;) {
        struct quota_head *q;
        if (above != NULL && strcmp(root, above->mb.name) == 0) {
            *ret = above->mb.quota_root; /* S11: nearest to it as well */
            return ERR_OK;
        }
        enum errcode rc = state_quota(st, root, &q, err);
        if (rc != ERR_OK)
            return rc;
        if (q != NULL) {
            *ret = q->root;
            return ERR_OK;
        }
        char *dot = strrchr(root, '.');
        if (dot == NULL)
            return ERR_OK;
        *dot = '\0';
    }
}

enum errcode
state_unroot(struct state *st, const char *root, struct arena *a,
             struct rooted_set *ret, struct error *err)
{
    struct key k;
    struct span *keys;
    size_t n, kept = 0;
    const size_t skip = 1 + strlen(root);

    enum errcode rc = state_keys(st, key_text(&k, TAB_NAME, span_str(root)), a,
                                 &keys, &n, err);
    if (rc != ERR_OK)
        return rc;
    struct head **heads = arena_array(a, n + 1, sizeof(struct head *));
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        mbid_t id;
        struct head *h = NULL;
        if (keys[i].n > skip && keys[i].p[skip] != '.')
            continue;
        rc = state_lookup(st, arena_str(a, span_skip(keys[i], 1)), &id, err);
        if (rc == ERR_OK)
            rc = state_head(st, id, &h, err);
        if (rc == ERR_OK && h == NULL)
            rc = error_set(err, ERR_CORRUPT, "a name without a mailbox");
        if (rc == ERR_OK)
            rc = state_charge_quota(st, h, -1, err);
        if (rc != ERR_OK)
            break;
        heads[kept++] = h;
    }
    *ret = (struct rooted_set){.heads = heads, .n = kept};
    return rc;
}

enum errcode
state_reroot(struct state *st, const struct rooted_set *set, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < set->n && rc == ERR_OK; i++) {
        struct head *h = set->heads[i];
        const char *root;
        rc = state_quota_root(st, h->mb.name, NULL, &root, err);
        if (rc == ERR_OK && strcmp(root, h->mb.quota_root) != 0) {
            state_touch_head(st, h);
            h->mb.quota_root = root;
        }
        if (rc == ERR_OK)
            rc = state_charge_quota(st, h, 1, err);
    }
    return rc;
}
