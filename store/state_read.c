/*
 * store/state_read.c - reading through the overlay: what the batch of the group
 * says of a row, else what the key-value store has.
 *
 * Heads and quota rows are decoded once a group.
 */
#include "store/state_private.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static size_t
state_bucket_of_id(mbid_t id)
{
    return (size_t)(id % HEAD_BUCKETS);
}

size_t
state_bucket(const void *p, size_t n)
{
    return (size_t)(XXH3_64bits(p, n) % HEAD_BUCKETS);
}

/* --------------------------------------------------------------- reading */

enum errcode
state_get(struct state *st, struct span key, struct arena *a, struct span *ret,
          struct error *err)
{
    struct span value;

    switch (kv_batch_get(st->batch, KV_STATE, key, &value)) {
    case 1:
        *ret = arena_copy(a, value);
        return ERR_OK;
    case 0:
        return error_set(err, ERR_NOTFOUND, "no such row");
    default:
        break;
    }
    if (st->absent.n > 0 && span_eq(key, key_span(&st->absent)))
        return error_set(err, ERR_NOTFOUND, "no such row");
    buf_clear(&st->value_scratch);
    enum errcode rc =
        kv_get(st->kv, NULL, KV_STATE, key, &st->value_scratch, err);
    if (rc == ERR_OK)
        *ret = arena_copy(a, buf_span(&st->value_scratch));
    return rc;
}

void
state_note_absent(struct state *st, struct span key)
{
    ENSURE(key.n <= sizeof(st->absent.b));
    st->absent.n = key.n;
    memcpy(st->absent.b, key.p, key.n);
}

struct head *
state_find_head(struct state *st, mbid_t id)
{
    struct head *h = st->heads[state_bucket_of_id(id)];
    while (h != NULL && h->mb.id != id)
        h = h->next;
    return h;
}

struct head *
state_add_head(struct state *st, mbid_t id)
{
    struct head *h = arena_alloc(&st->arena, sizeof(*h));
    struct head **bucket = &st->heads[state_bucket_of_id(id)];

    h->mb.id = id;
    h->next = *bucket;
    *bucket = h;
    h->all = st->all_heads;
    st->all_heads = h;
    return h;
}

enum errcode
state_head(struct state *st, mbid_t id, struct head **ret, struct error *err)
{
    struct head *h = state_find_head(st, id);

    if (h == NULL) {
        struct key k;
        struct span value;
        struct mailbox mb;
        enum errcode rc =
            state_get(st, key_mailbox(&k, id), &st->arena, &value, err);
        if (rc != ERR_OK && rc != ERR_NOTFOUND)
            return rc;
        if (rc == ERR_OK) {
            rc = mailbox_decode(value, &st->arena, &mb, err);
            if (rc != ERR_OK)
                return error_prefix(err, "mailbox %" PRIu64, id);
            h = state_add_head(st, id);
            mb.id = id;
            h->mb = mb;
            h->exists = true;
            h->row_hash = row_hash(key_span(&k), value);
            h->row_owner = row_owner_of_name(mb.name, &st->arena);
        }
    }
    *ret = h != NULL && h->exists ? h : NULL;
    return ERR_OK;
}

enum errcode
state_lookup(struct state *st, const char *name, mbid_t *ret, struct error *err)
{
    struct key k;
    struct span value;

    *ret = 0;
    if (strlen(name) > MAILBOX_NAME_MAX)
        return ERR_OK;
    enum errcode rc = state_get(st, key_text(&k, TAB_NAME, span_str(name)),
                                &st->scratch, &value, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    struct rd r = rd_init(value);
    *ret = rd_u64le(&r);
    return ERR_OK;
}

enum errcode
state_quota(struct state *st, const char *root, struct quota_head **ret,
            struct error *err)
{
    const size_t bucket = state_bucket(root, strlen(root));
    struct quota_head *h = st->quotas[bucket];

    while (h != NULL && strcmp(h->root, root) != 0)
        h = h->next;
    if (h == NULL) {
        struct key k;
        struct span value;
        struct quota q = {0};
        enum errcode rc = state_get(st, key_text(&k, TAB_QUOTA, span_str(root)),
                                    &st->scratch, &value, err);
        if (rc == ERR_OK)
            rc = quota_decode(value, &q, err);
        if (rc != ERR_OK && rc != ERR_NOTFOUND)
            return rc;
        h = arena_alloc(&st->arena, sizeof(*h));
        h->root = arena_str(&st->arena, span_str(root));
        h->q = q;
        h->q.root = h->root;
        h->exists = rc == ERR_OK;
        h->row_hash = h->exists ? row_hash(key_span(&k), value) : 0;
        h->next = st->quotas[bucket];
        st->quotas[bucket] = h;
        h->all = st->all_quotas;
        st->all_quotas = h;
    }
    *ret = h->exists ? h : NULL;
    return ERR_OK;
}

enum errcode
state_message(struct state *st, mbid_t id, uint32_t uid, struct arena *a,
              struct message *ret, struct error *err)
{
    struct key k;
    struct span value;

    enum errcode rc = state_get(st, key_message(&k, id, uid), a, &value, err);
    if (rc != ERR_OK)
        return rc;
    ret->uid = uid;
    return message_decode(value, a, ret, err);
}

enum errcode
state_has_ref(struct state *st, const struct guid *guid, bool *ret,
              struct error *err)
{
    struct span value;
    struct key k;
    bool found = false;

    for (struct newref *r = st->newrefs[guid->b[0]]; r != NULL && !found;
         r = r->next)
        found = guid_eq(&r->guid, guid) &&
                kv_batch_get(st->batch, KV_STATE,
                             key_guidref(&k, guid, r->id, r->uid), &value) == 1;
    if (!found) {
        /* Nearly every message is new, and of a key that is not there the
         * filters tell without a look at the disk; an iterator has none. */
        buf_clear(&st->value_scratch);
        enum errcode there =
            kv_get(st->kv, NULL, KV_STATE, key_body(&k, guid, 0),
                   &st->value_scratch, err);
        if (there == ERR_NOTFOUND) {
            *ret = false;
            return ERR_OK;
        }
        if (there != ERR_OK)
            return there;
        key_guidref(&k, guid, 0, 0);
        k.n = 1 + GUID_BYTES;
        struct kv_iter *it =
            kv_iter_open(st->kv, NULL, KV_STATE, key_span(&k), SPAN_EMPTY);
        struct span key;
        while (!found && kv_iter_next(it, &key, &value)) {
            struct span now;
            found = kv_batch_get(st->batch, KV_STATE, key, &now) != 0;
        }
        enum errcode rc = kv_iter_close(&it, err);
        if (rc != ERR_OK)
            return rc;
    }
    *ret = found;
    return ERR_OK;
}

static int
compare_spans(const void *a, const void *b)
{
    return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

/* Keys being gathered, doubles and deleted ones too. */
struct gather {
    struct arena *a;
    struct buf keys; /* of struct span */
    bool (*pick)(const void *ctx, struct span key);
    const void *ctx;
};

static void
gather_one(struct gather *g, struct span key)
{
    if (g->pick != NULL && !g->pick(g->ctx, key))
        return;
    struct span copy = arena_copy(g->a, key);
    buf_add(&g->keys, span_of(&copy, sizeof(copy)));
}

static enum errcode
gather_stored(struct state *st, struct span prefix, struct gather *g,
              struct error *err)
{
    struct kv_iter *it =
        kv_iter_open(st->kv, NULL, KV_STATE, prefix, SPAN_EMPTY);
    struct span key, value;
    while (kv_iter_next(it, &key, &value))
        gather_one(g, key);
    return kv_iter_close(&it, err);
}

/* Sorted, once each, without those that the batch deletes. */
static void
gathered(struct state *st, struct gather *g, struct span **ret, size_t *ret_n)
{
    const size_t n = g->keys.n / sizeof(struct span);
    struct span *keys = arena_array(g->a, n + 1, sizeof(*keys));
    size_t kept = 0;

    if (n > 0)
        memcpy(keys, g->keys.p, g->keys.n);
    buf_free(&g->keys);
    qsort(keys, n, sizeof(*keys), compare_spans);
    for (size_t i = 0; i < n; i++) {
        struct span value;
        if (i > 0 && span_eq(keys[i], keys[i - 1]))
            continue;
        if (kv_batch_get(st->batch, KV_STATE, keys[i], &value) == 0)
            continue;
        keys[kept++] = keys[i];
    }
    *ret = keys;
    *ret_n = kept;
}

enum errcode
state_keys_where(struct state *st, struct span prefix,
                 bool (*pick)(const void *ctx, struct span key),
                 const void *ctx, struct arena *a, struct span **ret,
                 size_t *ret_n, struct error *err)
{
    struct gather g = {.a = a, .pick = pick, .ctx = ctx};
    size_t nops;

    const struct kv_op *ops = kv_batch_ops(st->batch, &nops);
    for (size_t i = 0; i < nops; i++) {
        struct span key = kv_op_key(st->batch, &ops[i]);
        if (ops[i].family == KV_STATE && span_starts(key, prefix))
            gather_one(&g, key);
    }
    enum errcode rc = gather_stored(st, prefix, &g, err);
    if (rc == ERR_OK)
        gathered(st, &g, ret, ret_n);
    buf_free(&g.keys);
    return rc;
}

enum errcode
state_keys(struct state *st, struct span prefix, struct arena *a,
           struct span **ret, size_t *ret_n, struct error *err)
{
    return state_keys_where(st, prefix, NULL, NULL, a, ret, ret_n, err);
}

enum errcode
state_keys_near(struct state *st, struct span prefix, struct arena *a,
                struct span **ret, size_t *ret_n, struct error *err)
{
    struct gather g = {.a = a};

    for (struct newkey *k = st->newkeys[state_bucket(prefix.p, prefix.n)];
         k != NULL; k = k->next)
        if (k->prefix_n == prefix.n && span_starts(k->key, prefix))
            gather_one(&g, k->key);
    enum errcode rc = gather_stored(st, prefix, &g, err);
    if (rc == ERR_OK)
        gathered(st, &g, ret, ret_n);
    buf_free(&g.keys);
    return rc;
}
