/*
 * store/snap_rows.c - reading what hangs on mailboxes and users: annotations,
 * what users have seen, marks of deliveries, quota roots, who there is.
 */
#include "store/snap_private.h"

#include "store/names.h"

/* ----------------------------------------------------------- annotations */

enum errcode
snap_annots(struct store_snap *snap, mbid_t id, uint32_t uid,
            bool (*call)(void *ctx, const char *entry, const char *user,
                         struct span value),
            void *ctx, struct error *err)
{
    struct key k;
    struct span key, value, entry, user;
    struct arena a = ARENA_INIT;
    uint32_t of;
    bool more = true;
    enum errcode rc = ERR_OK;

    struct kv_iter *it = kv_iter_open(snap->kv, snap->view, KV_STATE,
                                      key_annots_of(&k, id, uid), SPAN_EMPTY);
    while (more && rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        if (!key_get_annot(key, &of, &entry, &user))
            rc = error_set(err, ERR_CORRUPT, "a malformed key of table a");
        else
            more = call(ctx, arena_str(&a, entry), arena_str(&a, user), value);
        arena_reset(&a);
    }
    arena_free(&a);
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? end : rc;
}

enum errcode
snap_annot_get(struct store_snap *snap, mbid_t id, uint32_t uid,
               const char *entry, const char *user, struct buf *ret,
               struct error *err)
{
    struct key k;

    if (strlen(entry) > ANNOT_ENTRY_MAX || strlen(user) > USER_MAX)
        return error_set(err, ERR_NOTFOUND, "no annotation has so long a name");
    return kv_get(snap->kv, snap->view, KV_STATE,
                  key_annot(&k, id, uid, entry, user), ret, err);
}

/* ------------------------------------------------------------------ seen */

bool
mailbox_has_own_seen(const struct mailbox *mb, const char *user)
{
    struct arena a = ARENA_INIT;

    if ((mb->options & MBOX_SHAREDSEEN) != 0)
        return false;
    const char *owner = name_owner(mb->name, &a);
    const bool is_owner =
        owner != NULL && user != NULL && strcmp(owner, user) == 0;
    arena_free(&a);
    return !is_owner;
}

static enum errcode
add_seen(struct uidset *to, struct span value, struct error *err)
{
    AUTO(uidset_free) struct uidset some = UIDSET_INIT;
    struct rd r = rd_init(value);

    uidset_decode(&r, value.n, &some);
    if (!rd_done(&r))
        return error_set(err, ERR_CORRUPT,
                         "a row of seen UIDs does not decode");
    uidset_add_set(to, &some);
    return ERR_OK;
}

/* Rows are by chunk, then user: from each row the next one to look at is known,
 * so this costs a seek for each chunk, however many users there are. */
enum errcode
snap_seen(struct store_snap *snap, const struct mailbox *mb, const char *user,
          struct uidset *ret, struct error *err)
{
    AUTO(uidset_free) struct uidset seen = UIDSET_INIT;
    struct key k, prefix;
    struct span key, value, of;
    uint32_t chunk = 0, at;
    enum errcode rc = ERR_OK;
    const struct span who = span_str(user == NULL ? "" : user);

    if (who.n > USER_MAX)
        return error_set(err, ERR_NOTFOUND, "no user has so long a name");
    struct kv_iter *it = NULL;
    while (rc == ERR_OK && who.n > 0 && chunk >> SEEN_CHUNK_BITS == 0) {
        struct span from = key_seen(&k, mb->id, chunk, who);
        if (it == NULL)
            it = kv_iter_open(snap->kv, snap->view, KV_STATE,
                              key_of_mailbox(&prefix, TAB_SEEN, mb->id), from);
        else
            kv_iter_seek(it, from);
        if (!kv_iter_next(it, &key, &value))
            break;
        if (!key_get_seen(key, &at, &of)) {
            rc = error_set(err, ERR_CORRUPT, "a malformed key of table s");
            break;
        }
        /* Behind the user in this chunk, or in one further on. */
        if (span_eq(of, who))
            rc = add_seen(&seen, value, err);
        chunk = span_cmp(of, who) >= 0 ? at + 1 : at;
    }
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = end;
    if (rc == ERR_OK) {
        const struct uidset old = *ret;
        *ret = seen;
        seen = old;
    }
    return rc;
}

/* ------------------------------------------------- marks, users, quotas */

enum errcode
snap_each_delivery(struct store_snap *snap,
                   bool (*call)(void *ctx, const uint8_t hash[16],
                                uint64_t time_us),
                   void *ctx, struct error *err)
{
    struct key k;
    struct span key, value;
    enum errcode rc = ERR_OK;
    bool more = true;

    struct kv_iter *it = kv_iter_open(snap->kv, snap->view, KV_STATE,
                                      key_table(&k, TAB_DEDUP), SPAN_EMPTY);
    while (more && rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        struct rd r = rd_init(value);
        const uint64_t time_us = rd_varint(&r);
        if (r.bad || key.n != 1 + DELIVERY_HASH_BYTES)
            rc = error_set(err, ERR_CORRUPT,
                           "a mark of a delivery does not decode");
        else
            more = call(ctx, key.p + 1, time_us);
    }
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? end : rc;
}

/* Whoever has a row has a digest. */
enum errcode
snap_each_user(struct store_snap *snap,
               bool (*call)(void *ctx, const char *user), void *ctx,
               struct error *err)
{
    struct key k;
    struct span key, value;
    AUTO(buf_free) struct buf name = BUF_INIT;
    bool more = true;

    struct kv_iter *it = kv_iter_open(snap->kv, snap->view, KV_STATE,
                                      key_table(&k, TAB_DIGEST), SPAN_EMPTY);
    while (more && kv_iter_next(it, &key, &value)) {
        buf_clear(&name);
        buf_add(&name, span_skip(key, 1));
        if (name.n > 0)
            more = call(ctx, buf_cstr(&name));
    }
    return kv_iter_close(&it, err);
}

enum errcode
snap_each_quota(struct store_snap *snap, const char *prefix,
                bool (*call)(void *ctx, const struct quota *quota), void *ctx,
                struct error *err)
{
    struct key k;
    struct span key, value;
    struct arena a = ARENA_INIT;
    enum errcode rc = ERR_OK;
    bool more = true;

    if (strlen(prefix) > MAILBOX_NAME_MAX)
        return ERR_OK;
    struct kv_iter *it =
        kv_iter_open(snap->kv, snap->view, KV_STATE,
                     key_text(&k, TAB_QUOTA, span_str(prefix)), SPAN_EMPTY);
    while (more && rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        struct quota q = {.root = arena_str(&a, span_skip(key, 1))};
        rc = quota_decode(value, &q, err);
        if (rc == ERR_OK)
            more = call(ctx, &q);
        arena_reset(&a);
    }
    arena_free(&a);
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? end : rc;
}
