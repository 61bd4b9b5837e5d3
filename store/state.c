/*
 * store/state.c - the overlay of a commit group.
 *
 * Rows go into the batch at once.  Three kinds of values are kept decoded
 * instead, because a group changes them again and again: mailbox heads, quota
 * rows, users' digests.  state_settle() turns them into rows when a frame is
 * complete; so the digest at an LSN is a function of the state at that LSN and
 * of nothing else, however the frames were gathered into groups.
 *
 * A savepoint is the batch's own (kv_batch_mark()) for rows, and a list of what
 * to put back for the rest.
 */
#include "store/state_private.h"

#include <stdlib.h>

/* ------------------------------------------------------------ savepoints */

struct undo *
state_add_undo(struct state *st, enum undo_kind kind)
{
    struct undo *u = arena_alloc(&st->arena, sizeof(*u));
    u->kind = kind;
    u->next = st->undo;
    st->undo = u;
    return u;
}

void
state_end_savepoint(struct state *st)
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
    state_end_savepoint(st);
    kv_batch_mark(st->batch);
    state_forget_rows(st);
    state_forget_changed(st);
    st->undoing = true;
    st->saved = st->v;
}

static void
undo_one(const struct undo *u)
{
    switch (u->kind) {
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
}

void
state_rollback(struct state *st)
{
    ENSURE(st->undoing);
    kv_batch_rollback(st->batch);
    state_forget_rows(st);
    state_forget_changed(st);
    for (const struct undo *u = st->undo; u != NULL; u = u->next)
        undo_one(u);
    state_end_savepoint(st);
    st->v = st->saved;
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
    memset(st->newkeys, 0, sizeof(st->newkeys));
    st->all_heads = NULL;
    st->all_quotas = NULL;
    st->all_owners = NULL;
    st->undo = NULL;
    st->undoing = false;
    st->absent.n = 0;
    st->v.list_changed = false;
    state_forget_rows(st);
    state_forget_changed(st);
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
    arena_free(&st->rows.a);
    free(st->rows.r);
    for (size_t i = 0; i < ARRAY_LEN(st->changed); i++) {
        uidset_free(&st->changed[i].come);
        uidset_free(&st->changed[i].gone);
    }
    buf_free(&st->value_scratch);
    free(st->epochs);
    *st = (struct state){0};
}
