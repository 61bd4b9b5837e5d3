/*
 * store/state.c - the overlay of a commit group.
 *
 * Rows go into the batch at once.  Three kinds of values are kept decoded
 * instead, because a group changes them again and again: mailbox heads, quota
 * rows, users' digests.  state_settle() turns them into rows when a frame is
 * complete; so the digest at an LSN is a function of the state at that LSN and
 * of nothing else, however the frames were gathered into groups.
 *
 * A savepoint is a list of what to put back.  A row that the batch did not have
 * is put back as the key-value store has it, which says the same.
 */
#include "store/state.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/kv_private.h"

enum undo_kind { UNDO_ROW, UNDO_HEAD, UNDO_QUOTA, UNDO_OWNER };

struct undo {
    enum undo_kind kind;
    struct undo *next;
    union {
        struct {
            struct span key;
            int what; /* as kv_batch_get() had it */
            struct span value;
        } row;
        struct {
            struct head *head;
            struct mailbox mb;
            bool exists, dirty, changed;
        } head;
        struct {
            struct quota_head *head;
            struct quota q;
            bool exists, dirty;
        } quota;
        struct {
            struct owner *owner;
            uint64_t digest;
        } owner;
    } u;
};

struct newref {
    struct guid guid;
    mbid_t id;
    uint32_t uid;
    struct newref *next;
};

static size_t
bucket_of_id(mbid_t id)
{
    return (size_t)(id % HEAD_BUCKETS);
}

static size_t
bucket_of_bytes(const void *p, size_t n)
{
    return (size_t)(XXH3_64bits(p, n) % HEAD_BUCKETS);
}

/* ------------------------------------------------------------ savepoints */

static struct undo *
add_undo(struct state *st, enum undo_kind kind)
{
    struct undo *u = arena_alloc(&st->arena, sizeof(*u));
    u->kind = kind;
    u->next = st->undo;
    st->undo = u;
    return u;
}

static void
end_savepoint(struct state *st)
{
    for (struct undo *u = st->undo; u != NULL; u = u->next) {
        if (u->kind == UNDO_HEAD)
            u->u.head.head->in_undo = false;
        if (u->kind == UNDO_QUOTA)
            u->u.quota.head->in_undo = false;
    }
    st->undo = NULL;
    st->undoing = false;
}

void
state_mark(struct state *st)
{
    end_savepoint(st);
    st->undoing = true;
    st->saved = st->v;
}

/* The batch had nothing on KEY: say what the store below has. */
static enum errcode
put_back_below(struct state *st, struct span key, struct error *err)
{
    buf_clear(&st->value_scratch);
    enum errcode rc =
        kv_get(st->kv, NULL, KV_STATE, key, &st->value_scratch, err);
    if (rc == ERR_OK)
        kv_batch_put(st->batch, KV_STATE, key, buf_span(&st->value_scratch));
    else if (rc == ERR_NOTFOUND)
        kv_batch_delete(st->batch, KV_STATE, key);
    else
        return rc;
    return ERR_OK;
}

static enum errcode
undo_one(struct state *st, const struct undo *u, struct error *err)
{
    switch (u->kind) {
    case UNDO_ROW:
        if (u->u.row.what < 0)
            return put_back_below(st, u->u.row.key, err);
        if (u->u.row.what == 0)
            kv_batch_delete(st->batch, KV_STATE, u->u.row.key);
        else
            kv_batch_put(st->batch, KV_STATE, u->u.row.key, u->u.row.value);
        break;
    case UNDO_HEAD:
        u->u.head.head->mb = u->u.head.mb;
        u->u.head.head->exists = u->u.head.exists;
        u->u.head.head->dirty = u->u.head.dirty;
        u->u.head.head->changed = u->u.head.changed;
        break;
    case UNDO_QUOTA:
        u->u.quota.head->q = u->u.quota.q;
        u->u.quota.head->exists = u->u.quota.exists;
        u->u.quota.head->dirty = u->u.quota.dirty;
        break;
    case UNDO_OWNER:
        u->u.owner.owner->digest = u->u.owner.digest;
        break;
    }
    return ERR_OK;
}

enum errcode
state_rollback(struct state *st, struct error *err)
{
    ENSURE(st->undoing);
    for (const struct undo *u = st->undo; u != NULL; u = u->next) {
        enum errcode rc = undo_one(st, u, err);
        if (rc != ERR_OK)
            return rc;
    }
    end_savepoint(st);
    st->v = st->saved;
    return ERR_OK;
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
    buf_clear(&st->value_scratch);
    enum errcode rc =
        kv_get(st->kv, NULL, KV_STATE, key, &st->value_scratch, err);
    if (rc == ERR_OK)
        *ret = arena_copy(a, buf_span(&st->value_scratch));
    return rc;
}

static struct head *
find_head(struct state *st, mbid_t id)
{
    struct head *h = st->heads[bucket_of_id(id)];
    while (h != NULL && h->mb.id != id)
        h = h->next;
    return h;
}

static struct head *
add_head(struct state *st, mbid_t id)
{
    struct head *h = arena_alloc(&st->arena, sizeof(*h));
    struct head **bucket = &st->heads[bucket_of_id(id)];

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
    struct head *h = find_head(st, id);

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
            h = add_head(st, id);
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
    const size_t bucket = bucket_of_bytes(root, strlen(root));
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
    }
    *ret = h->exists ? h : NULL;
    return ERR_OK;
}

enum errcode
state_quota_root(struct state *st, const char *name, const char **ret,
                 struct error *err)
{
    *ret = "";
    if (name_is_deleted(name))
        return ERR_OK;
    char *root = arena_str(&st->scratch, span_str(name));
    for (;;) {
        struct quota_head *q;
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

/* All keys that either side has, doubles and deleted ones too. */
static enum errcode
gather_keys(struct state *st, struct span prefix, struct arena *a,
            struct buf *ret, struct error *err)
{
    size_t nops;
    const struct kv_op *ops = kv_batch_ops(st->batch, &nops);
    for (size_t i = 0; i < nops; i++) {
        struct span key = kv_op_key(st->batch, &ops[i]);
        if (ops[i].family != KV_STATE || !span_starts(key, prefix))
            continue;
        struct span copy = arena_copy(a, key);
        buf_add(ret, span_of(&copy, sizeof(copy)));
    }
    struct kv_iter *it =
        kv_iter_open(st->kv, NULL, KV_STATE, prefix, SPAN_EMPTY);
    struct span key, value;
    while (kv_iter_next(it, &key, &value)) {
        struct span copy = arena_copy(a, key);
        buf_add(ret, span_of(&copy, sizeof(copy)));
    }
    return kv_iter_close(&it, err);
}

enum errcode
state_keys(struct state *st, struct span prefix, struct arena *a,
           struct span **ret, size_t *ret_n, struct error *err)
{
    AUTO(buf_free) struct buf all = BUF_INIT;

    enum errcode rc = gather_keys(st, prefix, a, &all, err);
    if (rc != ERR_OK)
        return rc;
    const size_t n = all.n / sizeof(struct span);
    struct span *keys = arena_array(a, n + 1, sizeof(*keys));
    if (n > 0)
        memcpy(keys, all.p, all.n);
    qsort(keys, n, sizeof(*keys), compare_spans);
    size_t kept = 0;
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
    return ERR_OK;
}

/* -------------------------------------------------------------- messages */

static void
iter_step(struct state_iter *it)
{
    struct span key;

    it->kv_valid = kv_iter_next(it->kv, &key, &it->kv_value);
    if (it->kv_valid)
        it->kv_uid = key_get_uid(key);
}

void
state_iter_open(struct state *st, struct head *head, struct state_iter *ret)
{
    *ret = (struct state_iter){.st = st, .head = head, .next = 1};
}

/* Stand on the first stored row >= UID. */
static void
iter_reach(struct state_iter *it, uint32_t uid)
{
    struct key from, prefix;
    const mbid_t id = it->head->mb.id;

    if (it->kv == NULL) {
        key_of_mailbox(&prefix, TAB_MESSAGE, id);
        it->kv = kv_iter_open(it->st->kv, NULL, KV_STATE, key_span(&prefix),
                              key_message(&from, id, uid));
        iter_step(it);
        return;
    }
    /* A short way is walked, a long one jumped. */
    for (int i = 0; i < 8 && it->kv_valid && it->kv_uid < uid; i++)
        iter_step(it);
    if (it->kv_valid && it->kv_uid < uid) {
        kv_iter_seek(it->kv, key_message(&from, id, uid));
        iter_step(it);
    }
}

bool
state_iter_next(struct state_iter *it, uint32_t from, struct arena *a,
                struct message *ret, enum errcode *rc, struct error *err)
{
    *rc = ERR_OK;
    uint32_t uid = MAX(it->next, from);
    for (;;) {
        if (uid == 0)
            return false; /* past the last UID there can be */
        iter_reach(it, uid);
        uint32_t touched = uidset_next(&it->head->touched, uid);
        if (!it->kv_valid && touched == 0)
            return false;
        const bool in_batch =
            touched != 0 && (!it->kv_valid || touched <= it->kv_uid);
        uid = in_batch ? touched : it->kv_uid;
        it->next = uid + 1;
        struct message m = {.uid = uid};
        if (in_batch) {
            *rc = state_message(it->st, it->head->mb.id, uid, a, &m, err);
            if (*rc == ERR_NOTFOUND) {
                *rc = ERR_OK;
                uid++;
                continue;
            }
        } else {
            *rc = message_decode(it->kv_value, a, &m, err);
        }
        if (*rc == ERR_OK)
            *ret = m;
        return *rc == ERR_OK;
    }
}

enum errcode
state_iter_close(struct state_iter *it, enum errcode rc, struct error *err)
{
    if (it->kv == NULL)
        return rc;
    enum errcode end = kv_iter_close(&it->kv, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? end : rc;
}

/* -------------------------------------------------------------- changing */

static void
remember_row(struct state *st, struct span key)
{
    struct span value;

    if (!st->undoing)
        return;
    int what = kv_batch_get(st->batch, KV_STATE, key, &value);
    struct undo *u = add_undo(st, UNDO_ROW);
    u->u.row.key = arena_copy(&st->arena, key);
    u->u.row.what = what;
    if (what == 1)
        u->u.row.value = arena_copy(&st->arena, value);
}

void
state_put(struct state *st, struct span key, struct span value)
{
    remember_row(st, key);
    kv_batch_put(st->batch, KV_STATE, key, value);
}

void
state_delete(struct state *st, struct span key)
{
    remember_row(st, key);
    kv_batch_delete(st->batch, KV_STATE, key);
}

static enum errcode
find_owner(struct state *st, const char *name, struct owner **ret,
           struct error *err)
{
    const size_t bucket = bucket_of_bytes(name, strlen(name));
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
    }
    *ret = o;
    return ERR_OK;
}

static enum errcode
fold(struct state *st, const char *owner, uint64_t hash, struct error *err)
{
    struct owner *o;

    if (hash == 0)
        return ERR_OK;
    enum errcode rc = find_owner(st, owner, &o, err);
    if (rc != ERR_OK)
        return rc;
    if (st->undoing) {
        struct undo *u = add_undo(st, UNDO_OWNER);
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
        rc = fold(st, owner, old ^ row_hash(key, value), err);
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
        rc = fold(st, owner, old, err);
    if (rc == ERR_OK)
        state_delete(st, key);
    return rc;
}

void
state_touch_head(struct state *st, struct head *head)
{
    if (st->undoing && !head->in_undo) {
        struct undo *u = add_undo(st, UNDO_HEAD);
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
        struct undo *u = add_undo(st, UNDO_QUOTA);
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
    struct head *h = find_head(st, id);

    /* One is there if its creation was taken back: the LSN is given again. */
    if (h == NULL)
        h = add_head(st, id);
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
        h = st->quotas[bucket_of_bytes(root, strlen(root))];
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

static void
count(struct mailbox *mb, const struct message *m, bool in)
{
    const uint32_t one = in ? 1 : UINT32_MAX;

    if ((m->flags & FLAG_EXPUNGED) != 0) {
        mb->expunged += one;
        return;
    }
    mb->exists += one;
    mb->bytes += in ? m->size : 0 - m->size;
    if ((m->flags & FLAG_SEEN) == 0)
        mb->unseen += one;
    if ((m->flags & FLAG_DELETED) != 0)
        mb->deleted += one;
}

static bool
is_live(const struct message *m)
{
    return m != NULL && (m->flags & FLAG_EXPUNGED) == 0;
}

static enum errcode
charge(struct state *st, const struct mailbox *mb, uint64_t bytes,
       uint64_t messages, struct error *err)
{
    struct quota_head *q;

    if (mb->quota_root[0] == '\0' || (bytes == 0 && messages == 0))
        return ERR_OK;
    enum errcode rc = state_quota(st, mb->quota_root, &q, err);
    if (rc != ERR_OK)
        return rc;
    if (q == NULL)
        return error_set(err, ERR_CORRUPT,
                         "mailbox %s has the quota root %s, which is not there",
                         mb->name, mb->quota_root);
    state_touch_quota(st, q);
    q->q.used_bytes += bytes;
    q->q.used_messages += messages;
    return ERR_OK;
}

enum errcode
state_charge_quota(struct state *st, struct head *head, int sign,
                   struct error *err)
{
    const struct mailbox *mb = &head->mb;

    return sign > 0
               ? charge(st, mb, mb->bytes, mb->exists, err)
               : charge(st, mb, 0 - mb->bytes, 0 - (uint64_t)mb->exists, err);
}

static void
put_message_row(struct state *st, struct head *head, const struct message *m)
{
    struct key k;
    const mbid_t id = head->mb.id;

    buf_clear(&st->value_scratch);
    message_encode(m, &st->value_scratch);
    struct span value = buf_span(&st->value_scratch);
    head->mb.digest ^= row_hash(key_message(&k, id, m->uid), value);
    state_put(st, key_span(&k), value);
    state_put(st, key_changed(&k, id, m->modseq, m->uid), SPAN_EMPTY);
}

static void
add_ref(struct state *st, mbid_t id, const struct message *m)
{
    struct key k;
    struct newref *r = arena_alloc(&st->arena, sizeof(*r));

    *r = (struct newref){m->guid, id, m->uid, st->newrefs[m->guid.b[0]]};
    st->newrefs[m->guid.b[0]] = r;
    state_put(st, key_guidref(&k, &m->guid, id, m->uid), SPAN_EMPTY);
}

static enum errcode
put_keywords(struct state *st, struct head *head, const struct message *m,
             struct error *err)
{
    struct key k;
    struct span value;

    for (size_t i = 0; i < m->nkeywords; i++) {
        struct span key = key_keyword(&k, head->mb.id, m->keywords[i]);
        enum errcode rc = state_get(st, key, &st->scratch, &value, err);
        if (rc == ERR_OK)
            continue;
        if (rc != ERR_NOTFOUND)
            return rc;
        head->mb.digest ^= row_hash(key, SPAN_EMPTY);
        state_put(st, key, SPAN_EMPTY);
    }
    return ERR_OK;
}

enum errcode
state_change_message(struct state *st, struct head *head,
                     const struct message *old, const struct message *new_row,
                     struct error *err)
{
    struct key k;
    const mbid_t id = head->mb.id;
    const struct message *either = new_row != NULL ? new_row : old;

    state_touch_head(st, head);
    uidset_add(&head->touched, either->uid, either->uid);
    if (old != NULL) {
        buf_clear(&st->value_scratch);
        message_encode(old, &st->value_scratch);
        head->mb.digest ^= row_hash(key_message(&k, id, old->uid),
                                    buf_span(&st->value_scratch));
        state_delete(st, key_changed(&k, id, old->modseq, old->uid));
        count(&head->mb, old, false);
    }
    if (new_row == NULL) {
        state_delete(st, key_message(&k, id, old->uid));
        state_delete(st, key_guidref(&k, &old->guid, id, old->uid));
    } else {
        put_message_row(st, head, new_row);
        if (old == NULL)
            add_ref(st, id, new_row);
        count(&head->mb, new_row, true);
        head->mb.highestmodseq = MAX(head->mb.highestmodseq, new_row->modseq);
        enum errcode rc = put_keywords(st, head, new_row, err);
        if (rc != ERR_OK)
            return rc;
    }
    uint64_t bytes =
        (is_live(new_row) ? new_row->size : 0) - (is_live(old) ? old->size : 0);
    uint64_t messages = (uint64_t)is_live(new_row) - (uint64_t)is_live(old);
    return charge(st, &head->mb, bytes, messages, err);
}

/* ---------------------------------------------------- epochs, UIDVALIDITY */

static void
keep_epoch(struct state *st, const struct epoch_entry *entry)
{
    if (st->v.nepochs == st->epochs_cap) {
        st->epochs_cap = st->epochs_cap * 2 + 8;
        st->epochs = xrealloc(st->epochs, st->epochs_cap * sizeof(*st->epochs));
    }
    st->epochs[st->v.nepochs++] = *entry;
}

enum errcode
state_add_epoch(struct state *st, const struct epoch_entry *entry,
                struct error *err)
{
    struct key k;

    AUTO(buf_free) struct buf value = BUF_INIT;
    epoch_encode(entry, &value);
    keep_epoch(st, entry);
    return state_put_row(st, "", key_epoch(&k, entry->epoch), buf_span(&value),
                         err);
}

enum errcode
state_raise_validity(struct state *st, uint32_t validity, struct error *err)
{
    struct key k;
    uint8_t value[4];

    if (validity <= st->v.validity)
        return ERR_OK;
    st->v.validity = validity;
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (uint8_t)(validity >> (8 * i));
    return state_put_row(st, "", key_table(&k, TAB_VALIDITY),
                         span_of(value, sizeof(value)), err);
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
        rc = fold(st, h->row_owner, h->row_hash, err);
    if (rc == ERR_OK && h->exists) {
        buf_clear(&st->value_scratch);
        mailbox_encode(&h->mb, &st->value_scratch);
        hash = row_hash(key, buf_span(&st->value_scratch));
        state_put(st, key, buf_span(&st->value_scratch));
        owner = row_owner_of_name(h->mb.name, &st->arena);
        rc = fold(st, owner, hash, err);
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
    enum errcode rc = fold(st, owner, q->row_hash ^ hash, err);
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

    end_savepoint(st);
    for (struct head *h = st->all_heads; h != NULL && rc == ERR_OK; h = h->all)
        if (h->dirty)
            rc = settle_head(st, h, err);
    for (size_t i = 0; i < HEAD_BUCKETS; i++)
        for (struct quota_head *q = st->quotas[i]; q != NULL && rc == ERR_OK;
             q = q->next)
            if (q->dirty)
                rc = settle_quota(st, q, err);
    for (size_t i = 0; i < HEAD_BUCKETS && rc == ERR_OK; i++)
        for (struct owner *o = st->owners[i]; o != NULL; o = o->next)
            settle_owner(st, o);
    arena_reset(&st->scratch);
    if (rc == ERR_OK)
        *ret_root = st->root;
    return rc;
}

/* ------------------------------------------------------------- lifecycle */

void
state_clear(struct state *st)
{
    for (struct head *h = st->all_heads; h != NULL; h = h->all)
        uidset_free(&h->touched);
    memset(st->heads, 0, sizeof(st->heads));
    memset(st->quotas, 0, sizeof(st->quotas));
    memset(st->owners, 0, sizeof(st->owners));
    memset(st->newrefs, 0, sizeof(st->newrefs));
    st->all_heads = NULL;
    st->undo = NULL;
    st->undoing = false;
    st->v.list_changed = false;
    kv_batch_clear(st->batch);
    arena_reset(&st->arena);
    arena_reset(&st->scratch);
}

static enum errcode
load_epochs(struct state *st, struct error *err)
{
    struct key k;
    struct span key, value;
    bool bad = false;

    st->v.nepochs = 0;
    struct kv_iter *it = kv_iter_open(st->kv, NULL, KV_STATE,
                                      key_table(&k, TAB_EPOCH), SPAN_EMPTY);
    while (!bad && kv_iter_next(it, &key, &value)) {
        struct epoch_entry entry = {0};
        struct rd r = rd_init(value);
        epoch_read(&r, &entry);
        bad = !rd_done(&r) || st->v.nepochs >= EPOCHS_MAX;
        if (!bad)
            keep_epoch(st, &entry);
    }
    enum errcode rc = kv_iter_close(&it, err);
    if (rc == ERR_OK && bad)
        rc = error_set(err, ERR_CORRUPT, "the epoch history does not decode");
    return rc;
}

static enum errcode
load_vars(struct state *st, struct error *err)
{
    struct key k;
    struct span value;

    st->v.validity = 0;
    enum errcode rc =
        state_get(st, key_table(&k, TAB_VALIDITY), &st->scratch, &value, err);
    if (rc == ERR_OK) {
        struct rd r = rd_init(value);
        st->v.validity = rd_u32le(&r);
    } else if (rc != ERR_NOTFOUND) {
        return rc;
    }
    rc = state_get(st, key_local(&k, LOCAL_BODIES), &st->scratch, &value, err);
    st->v.has_bodies = rc == ERR_OK;
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

enum errcode
state_discard(struct state *st, uint64_t root, struct error *err)
{
    state_clear(st);
    st->root = root;
    enum errcode rc = load_epochs(st, err);
    return rc == ERR_OK ? load_vars(st, err) : rc;
}

static enum errcode
check_root(struct state *st, uint64_t root, struct error *err)
{
    struct key k;
    struct span key, value;
    uint64_t sum = 0;
    AUTO(buf_free) struct buf name = BUF_INIT;

    struct kv_iter *it = kv_iter_open(st->kv, NULL, KV_STATE,
                                      key_table(&k, TAB_DIGEST), SPAN_EMPTY);
    while (kv_iter_next(it, &key, &value)) {
        struct rd r = rd_init(value);
        buf_clear(&name);
        buf_add(&name, span_skip(key, 1));
        sum ^= owner_hash(buf_cstr(&name), rd_u64le(&r));
    }
    enum errcode rc = kv_iter_close(&it, err);
    if (rc == ERR_OK && sum != root)
        rc = error_set(err, ERR_CORRUPT,
                       "the digests of the users give %016" PRIx64
                       ", the state says %016" PRIx64,
                       sum, root);
    return rc;
}

enum errcode
state_init(struct state *st, struct kv *kv, uint64_t root, struct error *err)
{
    *st = (struct state){.kv = kv, .batch = kv_batch_new()};
    enum errcode rc = check_root(st, root, err);
    if (rc == ERR_OK)
        rc = state_discard(st, root, err);
    if (rc != ERR_OK)
        state_free(st);
    return rc;
}

void
state_free(struct state *st)
{
    if (st->batch == NULL)
        return;
    state_clear(st);
    kv_batch_free(&st->batch);
    arena_free(&st->arena);
    arena_free(&st->scratch);
    buf_free(&st->value_scratch);
    free(st->epochs);
    *st = (struct state){0};
}
