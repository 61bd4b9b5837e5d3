/*
 * store/state_change.c - changing rows, and what each change does to digests.
 */
#include "store/state_private.h"

/* -------------------------------------------------------------- changing */

void
state_put(struct state *st, struct span key, struct span value)
{
    kv_batch_put(st->batch, KV_STATE, key, value);
}

void
state_delete(struct state *st, struct span key)
{
    kv_batch_delete(st->batch, KV_STATE, key);
}

static enum errcode
find_owner(struct state *st, const char *name, struct owner **ret,
           struct error *err)
{
    const size_t bucket = state_bucket(name, strlen(name));
    struct owner *o = st->owners[bucket];
    struct key k;
    struct span value;

    while (o != NULL && strcmp(o->name, name) != 0)
        o = o->next;
    if (o == NULL) {
        enum errcode rc =
            state_get(st, key_text(&k, TAB_DIGEST, span_str(name)),
                      &st->scratch, &value, err);
        if (rc != ERR_OK && rc != ERR_NOTFOUND)
            return rc;
        o = arena_alloc(&st->arena, sizeof(*o));
        o->name = arena_str(&st->arena, span_str(name));
        if (rc == ERR_OK) {
            struct rd r = rd_init(value);
            o->digest = o->settled = rd_u64le(&r);
        }
        o->next = st->owners[bucket];
        st->owners[bucket] = o;
        o->all = st->all_owners;
        st->all_owners = o;
    }
    *ret = o;
    return ERR_OK;
}

enum errcode
state_fold(struct state *st, const char *owner, uint64_t hash,
           struct error *err)
{
    struct owner *o;

    if (hash == 0)
        return ERR_OK;
    enum errcode rc = find_owner(st, owner, &o, err);
    if (rc != ERR_OK)
        return rc;
    if (st->undoing) {
        struct undo *u = state_add_undo(st, UNDO_OWNER);
        u->u.owner.owner = o;
        u->u.owner.digest = o->digest;
    }
    o->digest ^= hash;
    return ERR_OK;
}

/* What the row of KEY adds now; 0 if there is none. */
static enum errcode
hash_of_row(struct state *st, struct span key, uint64_t *ret, struct error *err)
{
    struct span value;

    *ret = 0;
    enum errcode rc = state_get(st, key, &st->scratch, &value, err);
    if (rc == ERR_OK)
        *ret = row_hash(key, value);
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

enum errcode
state_put_row(struct state *st, const char *owner, struct span key,
              struct span value, struct error *err)
{
    uint64_t old;

    enum errcode rc = hash_of_row(st, key, &old, err);
    if (rc == ERR_OK)
        rc = state_fold(st, owner, old ^ row_hash(key, value), err);
    if (rc == ERR_OK)
        state_put(st, key, value);
    return rc;
}

enum errcode
state_delete_row(struct state *st, const char *owner, struct span key,
                 struct error *err)
{
    uint64_t old;

    enum errcode rc = hash_of_row(st, key, &old, err);
    if (rc == ERR_OK)
        rc = state_fold(st, owner, old, err);
    if (rc == ERR_OK)
        state_delete(st, key);
    return rc;
}

enum errcode
state_put_head_row(struct state *st, struct head *head, struct span key,
                   size_t prefix_n, const struct span *value, struct error *err)
{
    struct newkey **bucket = &st->newkeys[state_bucket(key.p, prefix_n)];
    uint64_t old;

    enum errcode rc = hash_of_row(st, key, &old, err);
    if (rc != ERR_OK)
        return rc;
    state_touch_head(st, head);
    head->mb.digest ^= old;
    if (value == NULL) {
        state_delete(st, key);
        return ERR_OK;
    }
    head->mb.digest ^= row_hash(key, *value);
    state_put(st, key, *value);
    struct newkey *k = arena_alloc(&st->arena, sizeof(*k));
    *k = (struct newkey){prefix_n, arena_copy(&st->arena, key), *bucket};
    *bucket = k;
    return ERR_OK;
}

void
state_touch_head(struct state *st, struct head *head)
{
    if (st->undoing && !head->in_undo) {
        struct undo *u = state_add_undo(st, UNDO_HEAD);
        u->u.head.head = head;
        u->u.head.mb = head->mb;
        u->u.head.exists = head->exists;
        u->u.head.dirty = head->dirty;
        u->u.head.changed = head->changed;
        head->in_undo = true;
    }
    head->dirty = true;
    head->changed = true;
}

void
state_touch_quota(struct state *st, struct quota_head *q)
{
    if (st->undoing && !q->in_undo) {
        struct undo *u = state_add_undo(st, UNDO_QUOTA);
        u->u.quota.head = q;
        u->u.quota.q = q->q;
        u->u.quota.exists = q->exists;
        u->u.quota.dirty = q->dirty;
        q->in_undo = true;
    }
    q->dirty = true;
}

struct head *
state_new_head(struct state *st, mbid_t id)
{
    struct head *h = state_find_head(st, id);

    /* One is there if its creation was taken back: the LSN is given again. */
    if (h == NULL)
        h = state_add_head(st, id);
    ENSURE(!h->exists);
    state_touch_head(st, h);
    h->mb = (struct mailbox){.id = id};
    h->exists = true;
    return h;
}

enum errcode
state_new_quota(struct state *st, const char *root, struct quota_head **ret,
                struct error *err)
{
    struct quota_head *h;

    enum errcode rc = state_quota(st, root, &h, err);
    if (rc != ERR_OK)
        return rc;
    if (h == NULL) {
        h = st->quotas[state_bucket(root, strlen(root))];
        while (strcmp(h->root, root) != 0)
            h = h->next;
    }
    state_touch_quota(st, h);
    if (!h->exists)
        h->q = (struct quota){.root = h->root};
    h->exists = true;
    *ret = h;
    return ERR_OK;
}

/* ---------------------------------------------------------------- settle */

static enum errcode
settle_head(struct state *st, struct head *h, struct error *err)
{
    struct key k;
    struct span key = key_mailbox(&k, h->mb.id);
    uint64_t hash = 0;
    const char *owner = "";
    enum errcode rc = ERR_OK;

    if (h->row_hash != 0)
        rc = state_fold(st, h->row_owner, h->row_hash, err);
    if (rc == ERR_OK && h->exists) {
        buf_clear(&st->value_scratch);
        mailbox_encode(&h->mb, &st->value_scratch);
        hash = row_hash(key, buf_span(&st->value_scratch));
        state_put(st, key, buf_span(&st->value_scratch));
        owner = row_owner_of_name(h->mb.name, &st->arena);
        rc = state_fold(st, owner, hash, err);
    } else if (rc == ERR_OK) {
        state_delete(st, key);
    }
    h->row_hash = hash;
    h->row_owner = owner;
    h->dirty = false;
    return rc;
}

static enum errcode
settle_quota(struct state *st, struct quota_head *q, struct error *err)
{
    struct key k;
    struct span key = key_text(&k, TAB_QUOTA, span_str(q->root));
    const char *owner = row_owner_of_name(q->root, &st->arena);
    uint64_t hash = 0;

    if (q->exists) {
        buf_clear(&st->value_scratch);
        quota_encode(&q->q, &st->value_scratch);
        hash = row_hash(key, buf_span(&st->value_scratch));
        state_put(st, key, buf_span(&st->value_scratch));
    } else {
        state_delete(st, key);
    }
    enum errcode rc = state_fold(st, owner, q->row_hash ^ hash, err);
    q->row_hash = hash;
    q->dirty = false;
    return rc;
}

static void
settle_owner(struct state *st, struct owner *o)
{
    struct key k;
    struct span key = key_text(&k, TAB_DIGEST, span_str(o->name));

    if (o->digest == o->settled)
        return;
    st->root ^=
        owner_hash(o->name, o->settled) ^ owner_hash(o->name, o->digest);
    o->settled = o->digest;
    if (o->digest == 0) {
        state_delete(st, key);
        return;
    }
    uint8_t value[8];
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (uint8_t)(o->digest >> (8 * i));
    state_put(st, key, span_of(value, sizeof(value)));
}

enum errcode
state_settle(struct state *st, uint64_t *ret_root, struct error *err)
{
    enum errcode rc = ERR_OK;

    state_end_savepoint(st);
    for (struct head *h = st->all_heads; h != NULL && rc == ERR_OK; h = h->all)
        if (h->dirty)
            rc = settle_head(st, h, err);
    for (struct quota_head *q = st->all_quotas; q != NULL && rc == ERR_OK;
         q = q->all)
        if (q->dirty)
            rc = settle_quota(st, q, err);
    for (struct owner *o = st->all_owners; o != NULL && rc == ERR_OK;
         o = o->all)
        settle_owner(st, o);
    arena_reset(&st->scratch);
    if (rc == ERR_OK)
        *ret_root = st->root;
    return rc;
}
