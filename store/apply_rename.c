/*
 * store/apply_rename.c - REC_RENAME: mailboxes and users get other names, and
 * what hangs on the names goes with them.
 *
 * A tree may move into names that it has itself (a, a.b to a.b, a.b.b), so each
 * step is done for all mailboxes before the next one begins: what they count
 * leaves their quota roots; roots that nobody stays below leave their names;
 * the old names go; then roots, names and counts come back at the new place.
 */
#include "store/apply_private.h"

#include "store/acl.h"
#include "store/names.h"

/* One mailbox on its way. */
struct moving {
    struct head *head;
    const char *old_name;
    bool has_root; /* a quota root of its old name moves with it */
    uint64_t limit[QUOTA_RESOURCES];
};

struct renaming {
    const struct apply *ap;
    const struct rec_rename *rec;
    struct moving *m;
};

static enum errcode
leave_quotas(struct renaming *r)
{
    const struct apply *ap = r->ap;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < r->rec->n && rc == ERR_OK; i++) {
        struct moving *m = &r->m[i];
        rc = apply_head(ap, r->rec->moves[i].id, &m->head);
        if (rc != ERR_OK)
            break;
        m->old_name = m->head->mb.name;
        rc = state_charge_quota(ap->st, m->head, -1, ap->err);
    }
    return rc;
}

/* Roots that nobody has any more go, and are remembered to come back. */
static enum errcode
take_roots(struct renaming *r)
{
    const struct apply *ap = r->ap;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < r->rec->n && rc == ERR_OK; i++) {
        struct moving *m = &r->m[i];
        struct quota_head *q;
        rc = state_quota(ap->st, m->old_name, &q, ap->err);
        if (rc != ERR_OK || q == NULL || q->q.used[QUOTA_FOLDERS] != 0)
            continue;
        m->has_root = !name_is_deleted(r->rec->moves[i].name);
        memcpy(m->limit, q->q.limit, sizeof(m->limit));
        state_touch_quota(ap->st, q);
        q->exists = false;
    }
    return rc;
}

/* Who is below a new name already falls to the root that arrives there. */
static enum errcode
put_root(struct renaming *r, size_t i, struct arena *a)
{
    const struct apply *ap = r->ap;
    const char *name = r->rec->moves[i].name;
    struct rooted_set below;
    struct quota_head *q;

    enum errcode rc = state_unroot(ap->st, name, a, &below, ap->err);
    if (rc == ERR_OK)
        rc = state_new_quota(ap->st, name, &q, ap->err);
    if (rc != ERR_OK)
        return rc;
    memcpy(q->q.limit, r->m[i].limit, sizeof(q->q.limit));
    return state_reroot(ap->st, &below, ap->err);
}

static enum errcode
put_roots(struct renaming *r)
{
    struct arena a = ARENA_INIT;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < r->rec->n && rc == ERR_OK; i++)
        if (r->m[i].has_root)
            rc = put_root(r, i, &a);
    arena_free(&a);
    return rc;
}

static enum errcode
rename_acl(const struct renaming *r, struct head *h, struct error *err)
{
    AUTO(buf_free) struct buf acl = BUF_INIT;

    if (r->rec->user_from[0] == '\0' || r->rec->user_to[0] == '\0')
        return ERR_OK;
    acl_rename_ident(h->mb.acl, r->rec->user_from, r->rec->user_to, &acl);
    if (acl.n > ACL_BYTES_MAX)
        return error_set(err, ERR_CORRUPT, "the ACL of %s grows too long",
                         h->mb.name);
    apply_index_acl(r->ap->st, &h->mb, false);
    h->mb.acl = apply_keep(r->ap->st, buf_cstr(&acl));
    apply_index_acl(r->ap->st, &h->mb, true);
    return ERR_OK;
}

static enum errcode
arrive(struct renaming *r)
{
    const struct apply *ap = r->ap;
    struct state *st = ap->st;
    enum errcode rc = ERR_OK;
    struct key k;

    for (size_t i = 0; i < r->rec->n && rc == ERR_OK; i++) {
        struct head *h = r->m[i].head;
        const char *name = apply_keep(st, r->rec->moves[i].name);
        const uint32_t validity = r->rec->moves[i].uidvalidity;
        h->mb.name = name;
        h->mb.is_deleted = name_is_deleted(name);
        apply_put_mbid(st, key_text(&k, TAB_NAME, span_str(name)), h->mb.id);
        rc = rename_acl(r, h, ap->err);
        if (rc == ERR_OK)
            rc = state_quota_root(st, name, NULL, &h->mb.quota_root, ap->err);
        if (rc == ERR_OK)
            rc = state_charge_quota(st, h, 1, ap->err);
        if (rc == ERR_OK && validity != 0) {
            h->mb.uidvalidity = validity;
            rc = state_raise_validity(st, validity, ap->err);
        }
    }
    return rc;
}

static enum errcode
rename_mailboxes(struct renaming *r)
{
    struct state *st = r->ap->st;
    struct key k;

    enum errcode rc = leave_quotas(r);
    if (rc == ERR_OK)
        rc = take_roots(r);
    for (size_t i = 0; i < r->rec->n && rc == ERR_OK; i++) {
        state_touch_head(st, r->m[i].head);
        state_delete(st, key_text(&k, TAB_NAME, span_str(r->m[i].old_name)));
    }
    if (rc == ERR_OK)
        rc = put_roots(r);
    if (rc == ERR_OK)
        rc = arrive(r);
    if (r->rec->n > 0)
        st->v.list_changed = true;
    return rc;
}

/* ----------------------------------------------------------- rows of users */

/* user.FROM and below become user.TO; other names stay.  In scratch. */
static const char *
name_after(const struct renaming *r, struct span name)
{
    struct state *st = r->ap->st;
    const char *old = arena_str(&st->scratch, name);
    const char *from, *to;

    if (name_inbox(r->rec->user_from, &st->scratch, &from, NULL) != ERR_OK ||
        name_inbox(r->rec->user_to, &st->scratch, &to, NULL) != ERR_OK)
        return old;
    const size_t n = strlen(from);
    if (strncmp(old, from, n) != 0 || (old[n] != '\0' && old[n] != '.'))
        return old;
    const char *name_now = arena_printf(&st->scratch, "%s%s", to, old + n);
    return strlen(name_now) <= MAILBOX_NAME_MAX ? name_now : old;
}

static enum errcode
move_user_rows(const struct renaming *r)
{
    const struct apply *ap = r->ap;
    struct state *st = ap->st;
    const char *from = r->rec->user_from, *to = r->rec->user_to;
    const size_t skip = 1 + strlen(from) + 1; /* table, user, NUL */
    struct span *keys, value;
    struct key k;
    size_t n;

    key_user(&k, from, 0, "");
    k.n = skip;
    enum errcode rc =
        state_keys(st, key_span(&k), &st->scratch, &keys, &n, ap->err);
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        if (keys[i].n <= skip)
            continue;
        const uint8_t kind = keys[i].p[skip];
        struct span name = span_skip(keys[i], skip + 1);
        rc = state_get(st, keys[i], &st->scratch, &value, ap->err);
        if (rc == ERR_OK)
            rc = state_delete_row(st, from, keys[i], ap->err);
        if (rc != ERR_OK || to[0] == '\0')
            continue;
        const char *now = kind == USER_SUBSCRIPTION
                              ? name_after(r, name)
                              : arena_str(&st->scratch, name);
        rc = state_put_row(st, to, key_user(&k, to, kind, now), value, ap->err);
    }
    return rc;
}

static bool
is_seen_of(const void *ctx, struct span key)
{
    uint32_t chunk;
    struct span user;

    return key_get_seen(key, &chunk, &user) && span_eq_str(user, ctx);
}

static bool
is_annot_of(const void *ctx, struct span key)
{
    uint32_t uid;
    struct span entry, user;

    return key_get_annot(key, &uid, &entry, &user) && span_eq_str(user, ctx);
}

static enum errcode
move_seen_row(const struct renaming *r, struct span key, struct span value)
{
    const struct apply *ap = r->ap;
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    struct rd rd = rd_init(value);
    struct head *h;

    uidset_decode(&rd, value.n, &uids);
    if (!rd_done(&rd))
        return error_set(ap->err, ERR_CORRUPT,
                         "a row of seen UIDs does not "
                         "decode");
    enum errcode rc = apply_head(ap, key_get_mbid(key), &h);
    if (rc == ERR_OK)
        rc = state_put_seen(ap->st, h, span_str(r->rec->user_from), &uids,
                            false, ap->err);
    if (rc == ERR_OK && r->rec->user_to[0] != '\0')
        rc = state_put_seen(ap->st, h, span_str(r->rec->user_to), &uids, true,
                            ap->err);
    return rc;
}

static enum errcode
move_annot_row(const struct renaming *r, struct span key, struct span value)
{
    const struct apply *ap = r->ap;
    struct state *st = ap->st;
    const mbid_t id = key_get_mbid(key);
    const char *from = r->rec->user_from, *to = r->rec->user_to;
    struct span entry, user;
    struct head *h;
    struct key k;
    uint32_t uid;

    ENSURE(key_get_annot(key, &uid, &entry, &user)); /* is_annot_of() */
    const char *name = arena_str(&st->scratch, entry);
    if (id == 0) {
        enum errcode rc = state_delete_row(st, "", key, ap->err);
        if (rc == ERR_OK && to[0] != '\0')
            rc = state_put_row(st, "", key_annot(&k, 0, 0, name, to), value,
                               ap->err);
        return rc;
    }
    enum errcode rc = apply_head(ap, id, &h);
    if (rc == ERR_OK)
        rc = apply_put_annot(ap, h, uid, name, from, NULL, false);
    if (rc == ERR_OK && to[0] != '\0')
        rc = apply_put_annot(ap, h, uid, name, to, &value, false);
    return rc;
}

/* Both tables are by mailbox, so this looks at all of them: users are renamed
 * rarely. */
static enum errcode
move_private_rows(const struct renaming *r, enum table table,
                  bool (*is_theirs)(const void *ctx, struct span key),
                  enum errcode (*move)(const struct renaming *r,
                                       struct span key, struct span value))
{
    const struct apply *ap = r->ap;
    struct state *st = ap->st;
    struct arena a = ARENA_INIT;
    struct span *keys, value;
    struct key k;
    size_t n;

    enum errcode rc =
        state_keys_where(st, key_table(&k, table), is_theirs, r->rec->user_from,
                         &a, &keys, &n, ap->err);
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        rc = state_get(st, keys[i], &a, &value, ap->err);
        if (rc == ERR_OK)
            rc = move(r, keys[i], value);
    }
    arena_free(&a);
    return rc;
}

enum errcode
apply_rename(const struct apply *ap)
{
    struct rec_rename rec;
    struct arena a = ARENA_INIT;

    enum errcode rc =
        rec_rename_decode(ap->rec->body, ap->rec->version, &a, &rec, ap->err);
    struct renaming r = {.ap = ap, .rec = &rec};
    if (rc == ERR_OK) {
        r.m = arena_array(&a, rec.n + 1, sizeof(*r.m));
        rc = rename_mailboxes(&r);
    }
    if (rc == ERR_OK && rec.user_from[0] != '\0') {
        rc = move_user_rows(&r);
        if (rc == ERR_OK)
            rc = move_private_rows(&r, TAB_SEEN, is_seen_of, move_seen_row);
        if (rc == ERR_OK)
            rc = move_private_rows(&r, TAB_ANNOT, is_annot_of, move_annot_row);
    }
    arena_free(&a);
    return rc;
}
