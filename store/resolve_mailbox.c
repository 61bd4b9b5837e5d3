/*
 * store/resolve_mailbox.c - mailboxes are made, renamed and described.
 *
 * A rename of a tree is one record, whatever its size, so that nobody ever sees
 * half of it; quotas follow in the same transaction.
 */
#include "store/resolve_private.h"

#include "store/acl.h"
#include "store/names.h"

/* The nearest mailbox above NAME; *RET NULL: there is none. */
static enum errcode
find_above(struct group *g, const char *name, struct head **ret,
           struct error *err)
{
    mbid_t id = 0;

    *ret = NULL;
    while (id == 0 && (name = name_parent(name, &g->arena)) != NULL) {
        enum errcode rc = state_lookup(g->st, name, &id, err);
        if (rc != ERR_OK)
            return rc;
    }
    return id == 0 ? ERR_OK : resolve_mailbox(g, id, ret, err);
}

/* ABOVE: find_above(). */
static const char *
default_acl(struct group *g, const struct txn_mailbox *mb,
            const struct head *above)
{
    if (above != NULL)
        return above->mb.acl;
    const char *owner = name_owner(mb->name, &g->arena);
    if (owner == NULL)
        return mb->default_acl == NULL ? "" : mb->default_acl;
    AUTO(buf_free) struct buf rights = BUF_INIT;
    acl_format_rights(ACL_ALL, &rights);
    return arena_printf(&g->arena, "%s\t%s\t", owner, buf_cstr(&rights));
}

static void
make_uniqueid(struct group *g, struct uniqueid *ret)
{
    uint8_t raw[16];
    char hex[33];

    if (g->random_left < sizeof(raw)) { /* the system is asked for many */
        env_random(g->env, g->random, sizeof(g->random));
        g->random_left = sizeof(g->random);
    }
    g->random_left -= sizeof(raw);
    memcpy(raw, g->random + g->random_left, sizeof(raw));
    raw[6] = (uint8_t)((raw[6] & 0x0f) | 0x40);
    raw[8] = (uint8_t)((raw[8] & 0x3f) | 0x80);
    format_hex_bytes(raw, sizeof(raw), hex);
    memset(ret->s, 0, sizeof(ret->s));
    char *to = ret->s;
    for (size_t i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            *to++ = '-';
        *to++ = hex[i];
    }
}

/* One that a peer gave: may a mailbox have it, and has none? */
static enum errcode
check_uniqueid(struct group *g, const char *uniqueid, struct error *err)
{
    const size_t n = strlen(uniqueid);
    struct key k;
    struct span value;

    if (n == 0 || n > UNIQUEID_MAX)
        return error_set(err, ERR_LIMIT, "UNIQUEID of %zu bytes, at most %d", n,
                         UNIQUEID_MAX);
    enum errcode rc =
        state_get(g->st, key_text(&k, TAB_UNIQUEID, span_str(uniqueid)),
                  &g->arena, &value, err);
    if (rc == ERR_OK)
        return error_set(err, ERR_CONFLICT, "UNIQUEID %s is another mailbox's",
                         uniqueid);
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

enum errcode
op_create(struct group *g, struct op *op, struct error *err)
{
    struct txn_mailbox *mb = &op->u.create;
    struct rec_mailbox rec = {0};
    struct head *h, *above = NULL;
    mbid_t id;
    const char *acl = mb->acl;

    enum errcode rc = resolve_check_name(mb->name, err);
    if (rc == ERR_OK)
        rc = state_lookup(g->st, mb->name, &id, err);
    if (rc != ERR_OK)
        return rc;
    if (id != 0) {
        if (!mb->exist_ok)
            return error_set(err, ERR_EXISTS, "mailbox %s is there", mb->name);
        rc = resolve_mailbox(g, id, &h, err);
        if (rc != ERR_OK)
            return rc;
        op->res.id = id;
        op->res.uniqueid = h->mb.uniqueid;
        op->res.uidvalidity = h->mb.uidvalidity;
        return ERR_OK;
    }
    if (mb->uniqueid != NULL)
        rc = check_uniqueid(g, mb->uniqueid, err);
    if (rc == ERR_OK)
        rc = find_above(g, mb->name, &above, err);
    if (rc == ERR_OK && acl == NULL)
        acl = default_acl(g, mb, above);
    if (rc == ERR_OK)
        rc = resolve_check_text("ACL", acl, ACL_BYTES_MAX, err);
    if (rc == ERR_OK)
        rc = resolve_check_text("special use", mb->special_use, KEYWORD_MAX * 8,
                                err);
    if (rc == ERR_OK)
        rc = resolve_check_text("partition", mb->partition, USER_MAX, err);
    const char *root = "";
    if (rc == ERR_OK)
        rc = state_quota_root(g->st, mb->name, above, &root, err);
    if (rc == ERR_OK && mb->check_quota)
        rc = resolve_check_quota(
            g, root, (uint64_t[QUOTA_RESOURCES]){[QUOTA_FOLDERS] = 1}, err);
    if (rc == ERR_OK && (mb->options & ~(uint32_t)MBOX_OPTIONS) != 0)
        rc = error_set(err, ERR_LIMIT, "unknown options 0x%" PRIx32,
                       mb->options);
    if (rc == ERR_OK && mb->uidvalidity == 0 && g->st->v.validity == UINT32_MAX)
        rc = error_set(err, ERR_LIMIT, "all UIDVALIDITY values are used");
    if (rc != ERR_OK)
        return rc;
    rec.head = (struct mailbox){
        .name = mb->name,
        .acl = acl,
        .quota_root = root,
        .special_use = mb->special_use == NULL ? "" : mb->special_use,
        .partition = mb->partition == NULL ? "default" : mb->partition,
        .uidvalidity = (uint32_t)MAX((uint64_t)g->st->v.validity + 1,
                                     MIN(g->time_us / 1000000, UINT32_MAX)),
        .uidnext = 1,
        .uid_epoch = g->epoch,
        .options = mb->options,
    };
    if (mb->uniqueid == NULL)
        make_uniqueid(g, &rec.head.uniqueid);
    else
        memcpy(rec.head.uniqueid.s, mb->uniqueid, strlen(mb->uniqueid));
    if (mb->uidvalidity != 0)
        rec.head.uidvalidity = mb->uidvalidity;
    op->res.id = resolve_next_lsn(g);
    op->res.uniqueid = rec.head.uniqueid;
    op->res.uidvalidity = rec.head.uidvalidity;
    op->res.modseq = modseq_of(g->epoch, op->res.id);
    rc = EMIT(mailbox, REC_MAILBOX, &rec, err);
    if (rc != ERR_OK || mb->uniqueid == NULL)
        return rc;
    /* Of the peer's changes none is here yet. */
    const struct rec_head blank = {.id = op->res.id,
                                   .uidvalidity = rec.head.uidvalidity,
                                   .uidnext = 1,
                                   .options = mb->options | MBOX_PARTIAL};
    return EMIT(head, REC_HEAD, &blank, err);
}

/* Is NAME free, or given up by one of the N mailboxes that move? */
static enum errcode
check_free(struct group *g, const char *name, const struct named *moving,
           size_t n, struct error *err)
{
    mbid_t id;

    enum errcode rc = resolve_check_name(name, err);
    if (rc == ERR_OK)
        rc = state_lookup(g->st, name, &id, err);
    if (rc != ERR_OK || id == 0)
        return rc;
    for (size_t i = 0; i < n; i++)
        if (moving[i].id == id)
            return ERR_OK;
    return error_set(err, ERR_EXISTS, "mailbox %s is there", name);
}

enum errcode
op_rename(struct group *g, struct op *op, struct error *err)
{
    struct head *h;
    struct named *old;
    struct rec_rename rec = {0};
    const char *to = op->u.rename.name;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc == ERR_OK)
        rc = resolve_list_tree(g, h->mb.name, op->u.rename.tree, &old, &rec.n,
                               err);
    if (rc != ERR_OK)
        return rc;
    if (strcmp(h->mb.name, to) == 0)
        return error_set(err, ERR_EXISTS, "mailbox %s has that name", to);
    const size_t skip = strlen(h->mb.name);
    op->res.id = op->id;
    op->res.uidvalidity = h->mb.uidvalidity;
    rec.moves = arena_array(&g->arena, rec.n, sizeof(*rec.moves));
    for (size_t i = 0; i < rec.n && rc == ERR_OK; i++) {
        rec.moves[i].id = old[i].id;
        rec.moves[i].name =
            arena_printf(&g->arena, "%s%s", to, old[i].name + skip);
        if (op->u.rename.uidvalidity != h->mb.uidvalidity)
            rec.moves[i].uidvalidity = op->u.rename.uidvalidity;
        rc = check_free(g, rec.moves[i].name, old, rec.n, err);
    }
    return rc == ERR_OK ? EMIT(rename, REC_RENAME, &rec, err) : rc;
}

/* Entries of FROM in the ACLs of what moves become TO's: is there room? */
static enum errcode
check_acls(struct group *g, const struct op *op, const struct named *all,
           size_t n, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        AUTO(buf_free) struct buf acl = BUF_INIT;
        struct head *h;
        rc = resolve_mailbox(g, all[i].id, &h, err);
        if (rc != ERR_OK)
            break;
        acl_rename_ident(h->mb.acl, op->u.rename_user.from,
                         op->u.rename_user.to, &acl);
        if (acl.n > ACL_BYTES_MAX)
            rc = error_set(err, ERR_LIMIT, "the ACL of %s grows too long",
                           h->mb.name);
    }
    return rc;
}

enum errcode
op_rename_user(struct group *g, struct op *op, struct error *err)
{
    const char *from, *to;
    struct named *old;
    struct rec_rename rec = {.user_from = op->u.rename_user.from,
                             .user_to = op->u.rename_user.to};
    mbid_t id;

    enum errcode rc = name_inbox(rec.user_from, &g->arena, &from, err);
    if (rc == ERR_OK)
        rc = name_inbox(rec.user_to, &g->arena, &to, err);
    if (rc == ERR_OK)
        rc = state_lookup(g->st, from, &id, err);
    if (rc == ERR_OK && id == 0)
        rc = error_set(err, ERR_NOTFOUND, "no user %s", rec.user_from);
    if (rc == ERR_OK && strcmp(from, to) == 0)
        rc = error_set(err, ERR_EXISTS, "the user has that name");
    if (rc == ERR_OK)
        rc = resolve_list_tree(g, from, true, &old, &rec.n, err);
    if (rc == ERR_OK)
        rc = check_acls(g, op, old, rec.n, err);
    if (rc != ERR_OK)
        return rc;
    op->res.id = id;
    rec.moves = arena_array(&g->arena, rec.n, sizeof(*rec.moves));
    for (size_t i = 0; i < rec.n && rc == ERR_OK; i++) {
        rec.moves[i].id = old[i].id;
        rec.moves[i].name =
            arena_printf(&g->arena, "%s%s", to, old[i].name + strlen(from));
        rc = check_free(g, rec.moves[i].name, NULL, 0, err);
    }
    return rc == ERR_OK ? EMIT(rename, REC_RENAME, &rec, err) : rc;
}

static enum errcode
set_partition(struct group *g, struct op *op, const struct head *h,
              struct error *err)
{
    struct named *all;
    size_t n;

    enum errcode rc =
        resolve_check_text("partition", op->u.head.partition, USER_MAX, err);
    if (rc == ERR_OK)
        rc = resolve_list_tree(g, h->mb.name, op->u.head.tree, &all, &n, err);
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        struct head *one;
        const struct rec_set rec = {.id = all[i].id,
                                    .fields = SET_PARTITION,
                                    .partition = op->u.head.partition};
        rc = resolve_mailbox(g, all[i].id, &one, err);
        if (rc == ERR_OK && strcmp(one->mb.partition, rec.partition) != 0)
            rc = EMIT(set, REC_SET, &rec, err);
    }
    return rc;
}

enum errcode
op_set_head(struct group *g, struct op *op, struct error *err)
{
    struct head *h;
    struct rec_set rec = {.id = op->id};
    const uint32_t mask = op->u.head.mask;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK)
        return rc;
    if (op->kind == OP_SET_PARTITION)
        return set_partition(g, op, h, err);
    if (op->kind == OP_SET_UIDVALIDITY) {
        rec.fields = SET_UIDVALIDITY;
        rec.uidvalidity = op->u.head.uidvalidity;
        if (rec.uidvalidity <= g->st->v.validity)
            return error_set(err, ERR_CONFLICT,
                             "UIDVALIDITY %" PRIu32 " is not above %" PRIu32,
                             rec.uidvalidity, g->st->v.validity);
        op->res.uidvalidity = rec.uidvalidity;
        return EMIT(set, REC_SET, &rec, err);
    }
    if (((mask | op->u.head.options) & ~(uint32_t)MBOX_OPTIONS) != 0)
        return error_set(err, ERR_LIMIT, "unknown options 0x%" PRIx32, mask);
    rec.fields = SET_OPTIONS;
    rec.options = (h->mb.options & ~mask) | (op->u.head.options & mask);
    return rec.options == h->mb.options ? ERR_OK
                                        : EMIT(set, REC_SET, &rec, err);
}

enum errcode
op_set(struct group *g, struct op *op, struct error *err)
{
    struct head *h;
    struct rec_set rec = {.id = op->id};
    const char *value = op->u.set.value;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK)
        return rc;
    if (op->kind == OP_SET_ACL) {
        const char *expected = op->u.set.expected;
        if (expected != NULL && strcmp(expected, h->mb.acl) != 0)
            return error_set(err, ERR_CONFLICT, "the ACL of %s has changed",
                             h->mb.name);
        rc = resolve_check_text("ACL", value, ACL_BYTES_MAX, err);
        if (rc != ERR_OK || strcmp(value, h->mb.acl) == 0)
            return rc;
        rec.fields = SET_ACL;
        rec.acl = value;
    } else {
        rc = resolve_check_text("special use", value, KEYWORD_MAX * 8, err);
        if (rc != ERR_OK || strcmp(value, h->mb.special_use) == 0)
            return rc;
        rec.fields = SET_SPECIAL_USE;
        rec.special_use = value;
    }
    return EMIT(set, REC_SET, &rec, err);
}

/* A head as it is, but for that. */
enum errcode
op_raise_modseq(struct group *g, struct op *op, struct error *err)
{
    struct head *h;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK)
        return rc;
    struct rec_head rec = txn_head_of(&h->mb);
    rec.highestmodseq = resolve_next_modseq(g, &h->mb);
    op->res.modseq = rec.highestmodseq;
    return EMIT(head, REC_HEAD, &rec, err);
}

enum errcode
op_set_recent(struct group *g, struct op *op, struct error *err)
{
    struct head *h;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK || op->u.recent_uid <= h->mb.recent_uid)
        return rc;
    const struct rec_set rec = {
        .id = op->id,
        .fields = SET_RECENT,
        .recent_uid = op->u.recent_uid,
    };
    return EMIT(set, REC_SET, &rec, err);
}
