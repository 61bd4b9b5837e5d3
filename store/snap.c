/*
 * store/snap.c - reading: a snapshot of the key-value store, and the rows in
 * it.  Never waits for the writer.
 */
#include "store/store_private.h"

#include <stdlib.h>

#include "store/epochs.h"
#include "store/names.h"
#include "store/snap_private.h"

#include "store/local.h"
#include "store/txn.h"

struct store_snap *
store_snapshot(struct store *store)
{
    struct store_snap *snap = xcalloc(1, sizeof(*snap));

    snap->store = store;
    snap->kv = store->kv;
    snap->shared = acks_view(store, &snap->view);
    return snap;
}

void
store_release(struct store_snap **snapp)
{
    struct store_snap *snap = *snapp;

    if (snap == NULL)
        return;
    if (snap->shared != NULL)
        shared_view_release(snap->store, &snap->shared);
    else if (snap->view != NULL)
        kv_release(snap->kv, &snap->view);
    buf_free(&snap->value);
    arena_free(&snap->arena);
    xfree(snapp);
}

/* The row of KEY, valid until the next one is read. */
static enum errcode
row(struct store_snap *snap, struct span key, struct span *ret,
    struct error *err)
{
    buf_clear(&snap->value);
    enum errcode rc =
        kv_get(snap->kv, snap->view, KV_STATE, key, &snap->value, err);
    if (rc == ERR_OK)
        *ret = buf_span(&snap->value);
    return rc;
}

struct store_pos
snap_pos(const struct store_snap *snap)
{
    struct key k;
    struct store_pos pos = {0};
    AUTO(buf_free) struct buf value = BUF_INIT;

    if (kv_get(snap->kv, snap->view, KV_STATE, key_local(&k, LOCAL_APPLIED),
               &value, NULL) == ERR_OK &&
        pos_decode(buf_span(&value), &pos, NULL) != ERR_OK)
        pos = (struct store_pos){0};
    return pos;
}

/* ------------------------------------------------------------- mailboxes */

/* The epoch that is about to begin here, as if it had: a master that is not yet
 * sure of its first record, or waits for room or the fence, is read already. */
static void
add_planned(struct store_snap *snap)
{
    const struct store *store = snap->store;
    const epoch_t planned = atomic_load(&store->planned.epoch);
    const size_t n = snap->nepochs;

    if (planned == 0 || (n > 0 && snap->epochs[n - 1].epoch >= planned))
        return;
    struct epoch_entry *v = arena_array(&snap->arena, n + 1, sizeof(*v));
    if (n > 0)
        memcpy(v, snap->epochs, n * sizeof(*v));
    v[n] = (struct epoch_entry){
        .epoch = planned,
        .fork_lsn = store_pos(store).applied.lsn,
        .uid_headroom = atomic_load(&store->planned.uid_headroom),
    };
    snap->epochs = v;
    snap->nepochs = n + 1;
}

static enum errcode
load_epochs(struct store_snap *snap, struct error *err)
{
    if (snap->has_epochs)
        return ERR_OK;
    enum errcode rc =
        snap_epochs(snap, &snap->arena, &snap->epochs, &snap->nepochs, err);
    if (rc != ERR_OK)
        return rc;
    add_planned(snap);
    snap->has_epochs = true;
    return ERR_OK;
}

enum errcode
snap_living_modseq(struct store_snap *snap, uint64_t modseq, modseq_t *ret,
                   struct error *err)
{
    const epoch_t epoch = modseq_epoch(modseq);
    const epoch_t newest = MAX(snap_pos(snap).applied.epoch,
                               atomic_load(&snap->store->planned.epoch));
    bool is_ours = epoch == 0; /* came from elsewhere, with its message */

    if (epoch >= newest) {
        *ret = epoch > newest ? 1 : modseq;
        return ERR_OK;
    }
    enum errcode rc = load_epochs(snap, err);
    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < snap->nepochs; i++) {
        const struct epoch_entry *e = &snap->epochs[i];
        is_ours |= e->epoch == epoch;
        if (e->epoch > epoch) {
            is_ours &= epoch == 0 || modseq <= modseq_of(epoch, e->fork_lsn);
            break;
        }
    }
    *ret = is_ours ? modseq : 1;
    return ERR_OK;
}

/*
 * What a client is told: no less than what a master that is lost may have told
 * it.  The first write in the new epoch makes it so (store/resolve.c); until
 * then it is worked out here (reliability of UIDs and MODSEQs over an unplanned
 * promotion).
 */
static enum errcode
look_ahead(struct store_snap *snap, struct mailbox *mb, struct error *err)
{
    /* Written in the newest epoch of all: the common case, and cheap. */
    const epoch_t planned = atomic_load(&snap->store->planned.epoch);
    epoch_t newest = MAX(store_pos(snap->store).applied.epoch, planned);

    if (mb->uid_epoch >= newest && modseq_epoch(mb->highestmodseq) >= newest)
        return ERR_OK;
    enum errcode rc = load_epochs(snap, err);
    if (rc != ERR_OK)
        return rc;
    const uint64_t jump =
        epochs_uid_jump(snap->epochs, snap->nepochs, mb->uid_epoch);
    for (size_t i = 0; i < snap->nepochs; i++) {
        const struct epoch_entry *e = &snap->epochs[i];
        if (e->uid_headroom > 0)
            mb->highestmodseq =
                MAX(mb->highestmodseq, modseq_of(e->epoch, e->fork_lsn + 1));
    }
    mb->uidnext = (uint32_t)MIN(mb->uidnext + jump, (uint64_t)UINT32_MAX);
    return ERR_OK;
}

enum errcode
snap_head_decode(struct store_snap *snap, mbid_t id, struct span value,
                 struct arena *a, struct mailbox *ret, struct error *err)
{
    struct mailbox mb;

    enum errcode rc = mailbox_decode(value, a, &mb, err);
    if (rc == ERR_OK)
        rc = look_ahead(snap, &mb, err);
    if (rc != ERR_OK)
        return error_prefix(err, "mailbox %" PRIu64, id);
    mb.id = id;
    *ret = mb;
    return ERR_OK;
}

enum errcode
snap_mailbox(struct store_snap *snap, mbid_t id, struct arena *a,
             struct mailbox *ret, struct error *err)
{
    struct key k;
    struct span value;

    enum errcode rc = row(snap, key_mailbox(&k, id), &value, err);
    if (rc != ERR_OK)
        return error_prefix(err, "mailbox %" PRIu64, id);
    return snap_head_decode(snap, id, value, a, ret, err);
}

enum errcode
snap_mailbox_row(struct store_snap *snap, mbid_t id, struct arena *a,
                 struct mailbox *ret, struct error *err)
{
    struct key k;
    struct span value;
    struct mailbox mb;

    enum errcode rc = row(snap, key_mailbox(&k, id), &value, err);
    if (rc == ERR_OK)
        rc = mailbox_decode(value, a, &mb, err);
    if (rc != ERR_OK)
        return error_prefix(err, "mailbox %" PRIu64, id);
    mb.id = id;
    *ret = mb;
    return ERR_OK;
}

/* VALUE: of a row of parts that wait for their message. */
static bool
parts_are_fresh(struct span value, uint64_t now_us)
{
    struct rd r = rd_init(value);
    const uint64_t at = rd_varint(&r);

    return !r.bad && now_us < at + STAGED_S * UINT64_C(1000000) / 2;
}

enum errcode
snap_has_body(struct store_snap *snap, const struct guid *guid, uint64_t now_us,
              bool *ret, struct error *err)
{
    struct key k;
    struct span key, value;

    enum errcode rc = row(snap, key_body(&k, guid, 0), &value, err);
    *ret = false;
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    key_guidref(&k, guid, 0, 0);
    k.n = 1 + GUID_BYTES;
    struct kv_iter *it =
        kv_iter_open(snap->kv, snap->view, KV_STATE, key_span(&k), SPAN_EMPTY);
    *ret = kv_iter_next(it, &key, &value);
    rc = kv_iter_close(&it, err);
    if (rc != ERR_OK || *ret)
        return rc;
    rc = row(snap, key_local_parts(&k, guid), &value, err);
    if (rc == ERR_OK)
        *ret = parts_are_fresh(value, now_us);
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

static enum errcode
by_index(struct store_snap *snap, struct span key, struct arena *a,
         struct mailbox *ret, struct error *err)
{
    struct span value;

    enum errcode rc = row(snap, key, &value, err);
    if (rc != ERR_OK)
        return rc;
    struct rd r = rd_init(value);
    return snap_mailbox(snap, rd_u64le(&r), a, ret, err);
}

enum errcode
snap_mailbox_by_name(struct store_snap *snap, const char *name, struct arena *a,
                     struct mailbox *ret, struct error *err)
{
    struct key k;

    if (strlen(name) > MAILBOX_NAME_MAX)
        return error_set(err, ERR_NOTFOUND, "no mailbox has so long a name");
    enum errcode rc =
        by_index(snap, key_text(&k, TAB_NAME, span_str(name)), a, ret, err);
    return rc == ERR_NOTFOUND ? error_set(err, rc, "no mailbox %s", name) : rc;
}

enum errcode
snap_mailbox_by_uniqueid(struct store_snap *snap, const char *uniqueid,
                         struct arena *a, struct mailbox *ret,
                         struct error *err)
{
    struct key k;

    if (strlen(uniqueid) > UNIQUEID_MAX)
        return error_set(err, ERR_NOTFOUND, "no UNIQUEID is so long");
    return by_index(snap, key_text(&k, TAB_UNIQUEID, span_str(uniqueid)), a,
                    ret, err);
}

/* -------------------------------------------------------------- messages */

struct msg_iter {
    struct kv_iter *it;
    struct arena a;
    bool with_expunged;
    enum errcode rc;
    struct error err;
};

struct msg_iter *
snap_messages(struct store_snap *snap, mbid_t id, uint32_t from_uid,
              bool with_expunged)
{
    struct msg_iter *it = xcalloc(1, sizeof(*it));
    struct key prefix, from;

    it->with_expunged = with_expunged;
    it->it = kv_iter_open(snap->kv, snap->view, KV_STATE,
                          key_of_mailbox(&prefix, TAB_MESSAGE, id),
                          key_message(&from, id, from_uid));
    return it;
}

bool
msg_iter_next(struct msg_iter *it, struct message *ret)
{
    struct span key, value;

    while (it->rc == ERR_OK && kv_iter_next(it->it, &key, &value)) {
        struct message m = {.uid = key_get_uid(key)};
        arena_reset(&it->a);
        it->rc = message_decode(value, &it->a, &m, &it->err);
        if (it->rc != ERR_OK ||
            ((m.flags & FLAG_EXPUNGED) != 0 && !it->with_expunged))
            continue;
        *ret = m;
        return true;
    }
    return false;
}

void
msg_iter_seek(struct msg_iter *it, mbid_t id, uint32_t uid)
{
    struct key k;

    kv_iter_seek(it->it, key_message(&k, id, uid));
}

enum errcode
msg_iter_close(struct msg_iter **itp, struct error *err)
{
    struct msg_iter *it = *itp;

    if (it == NULL)
        return ERR_OK;
    enum errcode rc = kv_iter_close(&it->it, err);
    if (it->rc != ERR_OK) {
        rc = it->rc;
        if (err != NULL)
            *err = it->err;
    }
    arena_free(&it->a);
    xfree(itp);
    return rc;
}

enum errcode
snap_message(struct store_snap *snap, mbid_t id, uint32_t uid, struct arena *a,
             struct message *ret, struct error *err)
{
    struct key k;
    struct span value;
    struct message m = {.uid = uid};

    enum errcode rc = row(snap, key_message(&k, id, uid), &value, err);
    if (rc == ERR_OK)
        rc = message_decode(value, a, &m, err);
    if (rc == ERR_OK)
        *ret = m;
    return rc;
}

enum errcode
snap_changed(struct store_snap *snap, mbid_t id, modseq_t since,
             bool (*call)(void *ctx, modseq_t modseq, uint32_t uid), void *ctx,
             struct error *err)
{
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    struct key prefix, from;
    struct span key, value;
    modseq_t modseq = 0;
    bool more = true;
    enum errcode rc = ERR_OK;

    if (since == UINT64_MAX)
        return ERR_OK;
    struct kv_iter *it = kv_iter_open(snap->kv, snap->view, KV_STATE,
                                      key_of_mailbox(&prefix, TAB_CHANGED, id),
                                      key_changed_set(&from, id, since + 1, 0));
    while (more && rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        rc = changed_row_decode(key, value, &modseq, &uids, err);
        for (uint32_t uid = rc == ERR_OK ? uidset_next(&uids, 1) : 0;
             more && uid != 0; uid = uidset_next(&uids, uid + 1))
            more = call(ctx, modseq, uid);
    }
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? end : rc;
}

enum errcode
snap_keywords(struct store_snap *snap, mbid_t id, struct arena *a,
              const struct span **ret, size_t *ret_n, struct error *err)
{
    struct key k;
    struct span key, value;
    AUTO(buf_free) struct buf all = BUF_INIT;

    struct kv_iter *it =
        kv_iter_open(snap->kv, snap->view, KV_STATE,
                     key_of_mailbox(&k, TAB_KEYWORD, id), SPAN_EMPTY);
    while (kv_iter_next(it, &key, &value)) {
        struct span word = arena_copy(a, span_skip(key, 9));
        buf_add(&all, span_of(&word, sizeof(word)));
    }
    enum errcode rc = kv_iter_close(&it, err);
    if (rc != ERR_OK)
        return rc;
    const size_t n = all.n / sizeof(struct span);
    struct span *words = arena_array(a, n + 1, sizeof(*words));
    if (n > 0)
        memcpy(words, all.p, all.n);
    *ret = words;
    *ret_n = n;
    return ERR_OK;
}

/* ------------------------------------------------------- quota and users */

enum errcode
snap_quota(struct store_snap *snap, const char *root, struct arena *a,
           struct quota *ret, struct error *err)
{
    struct key k;
    struct span value;
    struct quota q = {0};

    if (strlen(root) > MAILBOX_NAME_MAX)
        return error_set(err, ERR_NOTFOUND, "no root has so long a name");
    enum errcode rc =
        row(snap, key_text(&k, TAB_QUOTA, span_str(root)), &value, err);
    if (rc == ERR_OK)
        rc = quota_decode(value, &q, err);
    if (rc != ERR_OK)
        return rc;
    q.root = arena_str(a, span_str(root));
    *ret = q;
    return ERR_OK;
}

enum errcode
snap_quota_root_for(struct store_snap *snap, const char *name, struct arena *a,
                    const char **ret, struct error *err)
{
    struct key k;
    struct span value;

    *ret = NULL;
    if (name_is_deleted(name) || strlen(name) > MAILBOX_NAME_MAX)
        return ERR_OK;
    char *root = arena_str(a, span_str(name));
    for (;;) {
        enum errcode rc =
            row(snap, key_text(&k, TAB_QUOTA, span_str(root)), &value, err);
        if (rc == ERR_OK)
            *ret = root;
        if (rc != ERR_NOTFOUND)
            return rc;
        char *dot = strrchr(root, '.');
        if (dot == NULL)
            return ERR_OK;
        *dot = '\0';
    }
}

enum errcode
snap_user_get(struct store_snap *snap, const char *user, uint8_t kind,
              const char *name, struct buf *ret, struct error *err)
{
    struct key k;

    if (strlen(user) > USER_MAX || strlen(name) > MAILBOX_NAME_MAX)
        return error_set(err, ERR_NOTFOUND, "no name is so long");
    return kv_get(snap->kv, snap->view, KV_STATE,
                  key_user(&k, user, kind, name), ret, err);
}

enum errcode
snap_user_each(struct store_snap *snap, const char *user, uint8_t kind,
               bool (*call)(void *ctx, const char *name, struct span value),
               void *ctx, struct error *err)
{
    return snap_user_each_from(snap, user, kind, "", call, ctx, err);
}

enum errcode
snap_user_each_from(struct store_snap *snap, const char *user, uint8_t kind,
                    const char *begin,
                    bool (*call)(void *ctx, const char *name,
                                 struct span value),
                    void *ctx, struct error *err)
{
    struct key k;
    struct span key, value;
    AUTO(buf_free) struct buf name = BUF_INIT;

    if (strlen(user) > USER_MAX || strlen(begin) > MAILBOX_NAME_MAX)
        return ERR_OK;
    struct span prefix = key_user(&k, user, kind, begin);
    const size_t skip = prefix.n - strlen(begin);
    struct kv_iter *it =
        kv_iter_open(snap->kv, snap->view, KV_STATE, prefix, SPAN_EMPTY);
    while (kv_iter_next(it, &key, &value)) {
        buf_clear(&name);
        buf_add(&name, span_skip(key, skip));
        if (!call(ctx, buf_cstr(&name), value))
            break;
    }
    return kv_iter_close(&it, err);
}

enum errcode
snap_epochs(struct store_snap *snap, struct arena *a,
            const struct epoch_entry **ret, size_t *ret_n, struct error *err)
{
    struct key k;
    struct span key, value;
    size_t n = 0;
    bool bad = false;
    AUTO(buf_free) struct buf all = BUF_INIT;

    struct kv_iter *it = kv_iter_open(snap->kv, snap->view, KV_STATE,
                                      key_table(&k, TAB_EPOCH), SPAN_EMPTY);
    while (!bad && n < EPOCHS_MAX && kv_iter_next(it, &key, &value)) {
        struct epoch_entry e = {0};
        struct rd r = rd_init(value);
        epoch_read(&r, &e);
        bad = !rd_done(&r);
        buf_add(&all, span_of(&e, sizeof(e)));
        n++;
    }
    enum errcode rc = kv_iter_close(&it, err);
    if (rc == ERR_OK && bad)
        rc = error_set(err, ERR_CORRUPT, "the epoch history does not decode");
    if (rc != ERR_OK)
        return rc;
    struct epoch_entry *entries = arena_array(a, n + 1, sizeof(*entries));
    if (n > 0)
        memcpy(entries, all.p, all.n);
    *ret = entries;
    *ret_n = n;
    return ERR_OK;
}

enum errcode
snap_each_row(struct store_snap *snap, struct span from_key,
              bool (*call)(void *ctx, struct span key, struct span value),
              void *ctx, struct error *err)
{
    static const char tables[] = "abdekmqsuv"; /* in key order */
    bool more = true;

    for (const char *t = tables; *t != '\0' && more; t++) {
        struct key k;
        struct span key, value, prefix = key_table(&k, (enum table) * t);
        if (from_key.n > 0 && from_key.p[0] > prefix.p[0])
            continue;
        struct span from = from_key.n > 0 && from_key.p[0] == prefix.p[0]
                               ? from_key
                               : SPAN_EMPTY;
        struct kv_iter *it =
            kv_iter_open(snap->kv, snap->view, KV_STATE, prefix, from);
        while (more && kv_iter_next(it, &key, &value))
            more = call(ctx, key, value);
        enum errcode rc = kv_iter_close(&it, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}
