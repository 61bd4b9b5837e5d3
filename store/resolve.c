/*
 * store/resolve.c - from what was asked to what will have happened.
 *
 * Each operation is checked against the state as the group has it so far, and
 * becomes records with absolute values, which are applied at once, so that the
 * next operation sees them.  When one fails, the whole transaction is taken
 * back: its records leave the payload, its changes the overlay.  An operation
 * marked independent fails alone, because it is checked before its first
 * record.
 *
 * This is the only place where the writer looks at clocks and randomness: what
 * it finds there is written into the record.
 */
#include "store/resolve.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/acl.h"
#include "store/mutants.h"
#include "store/names.h"

/* A record of ranges stays well below RECORD_BYTES_MAX. */
#define RANGES_PER_RECORD 50000U
#define FLAG_RECORD_BYTES (512U << 10)
/* Message-IDs come again within days, not for ever. */
#define DEDUP_US (UINT64_C(14) * 24 * 3600 * 1000000)

/* ------------------------------------------------------------- records */

static lsn_t
next_lsn(const struct group *g)
{
    return g->place.first_lsn + g->nrecords;
}

/* Add g->body as a record and apply it. */
static enum errcode
emit(struct group *g, enum record_type type, struct error *err)
{
    const size_t at = g->payload.n + RECORD_HEADER_BYTES;
    const size_t n = g->body.n;

    if (n + RECORD_HEADER_BYTES > RECORD_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "%s record of %zu bytes",
                         record_type_name((uint8_t)type), n);
    if (at + n > g->payload_max || g->nrecords >= FRAME_RECORDS_MAX) {
        g->overflow = true;
        return error_set(err, ERR_LIMIT, "more than a commit group takes");
    }
    frame_add_record(&g->payload, (uint8_t)type, record_version(type),
                     buf_span(&g->body));
    const struct record rec = {
        .lsn = next_lsn(g),
        .epoch = g->epoch,
        .type = (uint8_t)type,
        .version = record_version(type),
        .body = {g->payload.p + at, n},
        .offset = at,
    };
    const struct apply_place place = {
        .segment = g->place.segment,
        .payload_offset = g->place.payload_offset,
        .time_us = g->time_us,
    };
    g->nrecords++;
    enum errcode rc = store_apply(g->st, &rec, &place, err);
    arena_reset(&g->st->scratch);
    return rc;
}

#define EMIT(kind, type, rec, err)                                             \
    (buf_clear(&g->body), rec_##kind##_encode((rec), &g->body),                \
     emit(g, (type), (err)))

static enum errcode
need_mailbox(struct group *g, mbid_t id, struct head **ret, struct error *err)
{
    enum errcode rc = state_head(g->st, id, ret, err);
    if (rc == ERR_OK && *ret == NULL)
        rc = error_set(err, ERR_NOTFOUND, "no mailbox %" PRIu64, id);
    return rc;
}

static enum errcode
check_name(const char *name, struct error *err)
{
    if (name == NULL || strlen(name) > MAILBOX_NAME_MAX)
        return error_set(err, ERR_BADNAME, "name of more than %u bytes",
                         MAILBOX_NAME_MAX);
    return name_check(name, err);
}

static enum errcode
check_text(const char *what, const char *s, size_t max, struct error *err)
{
    if (s != NULL && strlen(s) > max)
        return error_set(err, ERR_LIMIT, "%s of %zu bytes, at most %zu", what,
                         strlen(s), max);
    return ERR_OK;
}

/* ------------------------------------------------------------ mailboxes */

struct named {
    const char *name;
    mbid_t id;
};

/* ROOT itself, if there, and all mailboxes below it. */
static enum errcode
list_tree(struct group *g, const char *root, bool below, struct named **ret,
          size_t *ret_n, struct error *err)
{
    struct key k;
    struct span *keys;
    size_t n, kept = 0;
    const size_t len = strlen(root);

    enum errcode rc = state_keys(g->st, key_text(&k, TAB_NAME, span_str(root)),
                                 &g->arena, &keys, &n, err);
    if (rc != ERR_OK)
        return rc;
    struct named *all = arena_array(&g->arena, n + 1, sizeof(*all));
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        const char *name = arena_str(&g->arena, span_skip(keys[i], 1));
        if (name[len] != '\0' && !(below && name[len] == '.'))
            continue;
        all[kept].name = name;
        rc = state_lookup(g->st, name, &all[kept].id, err);
        kept++;
    }
    *ret = all;
    *ret_n = kept;
    return rc;
}

static enum errcode
set_quota_root(struct group *g, mbid_t id, const char *root, struct error *err)
{
    const struct rec_set rec = {
        .id = id, .fields = SET_QUOTA_ROOT, .quota_root = root};
    return EMIT(set, REC_SET, &rec, err);
}

/* Give all mailboxes at and below NAME the quota root that their names say. */
static enum errcode
reroot_tree(struct group *g, const char *name, struct error *err)
{
    struct named *all;
    size_t n;

    enum errcode rc = list_tree(g, name, true, &all, &n, err);
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        struct head *h;
        const char *root;
        rc = need_mailbox(g, all[i].id, &h, err);
        if (rc == ERR_OK)
            rc = state_quota_root(g->st, all[i].name, &root, err);
        if (rc == ERR_OK && strcmp(root, h->mb.quota_root) != 0)
            rc = set_quota_root(g, all[i].id, root, err);
    }
    return rc;
}

/* The quota at ROOT ends: who has it falls to the next one above. */
static enum errcode
remove_quota(struct group *g, const char *root, struct error *err)
{
    struct named *all;
    size_t n;
    const char *above = "";
    const char *parent = name_parent(root, &g->arena);

    enum errcode rc =
        parent == NULL ? ERR_OK : state_quota_root(g->st, parent, &above, err);
    if (rc == ERR_OK)
        rc = list_tree(g, root, true, &all, &n, err);
    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        struct head *h;
        rc = need_mailbox(g, all[i].id, &h, err);
        if (rc == ERR_OK && strcmp(h->mb.quota_root, root) == 0)
            rc = set_quota_root(g, all[i].id, above, err);
    }
    const struct rec_quota rec = {.root = root};
    return rc == ERR_OK ? EMIT(quota, REC_QUOTA, &rec, err) : rc;
}

static enum errcode
default_acl(struct group *g, const struct txn_mailbox *mb, const char **ret,
            struct error *err)
{
    const char *parent = mb->name;
    mbid_t id = 0;
    struct head *h;

    while (id == 0 && (parent = name_parent(parent, &g->arena)) != NULL) {
        enum errcode rc = state_lookup(g->st, parent, &id, err);
        if (rc != ERR_OK)
            return rc;
    }
    if (id != 0) {
        enum errcode rc = need_mailbox(g, id, &h, err);
        if (rc == ERR_OK)
            *ret = h->mb.acl;
        return rc;
    }
    const char *owner = name_owner(mb->name, &g->arena);
    if (owner == NULL) {
        *ret = mb->default_acl == NULL ? "" : mb->default_acl;
        return ERR_OK;
    }
    AUTO(buf_free) struct buf rights = BUF_INIT;
    acl_format_rights(ACL_ALL, &rights);
    *ret = arena_printf(&g->arena, "%s\t%s\t", owner, buf_cstr(&rights));
    return ERR_OK;
}

static void
make_uniqueid(struct env *env, struct uniqueid *ret)
{
    uint8_t raw[16];
    char hex[33];

    env_random(env, raw, sizeof(raw));
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

static enum errcode
do_create(struct group *g, struct op *op, struct error *err)
{
    struct txn_mailbox *mb = &op->u.create;
    struct rec_mailbox rec = {0};
    struct head *h;
    mbid_t id;
    const char *acl = mb->acl;

    enum errcode rc = check_name(mb->name, err);
    if (rc == ERR_OK)
        rc = state_lookup(g->st, mb->name, &id, err);
    if (rc != ERR_OK)
        return rc;
    if (id != 0) {
        if (!mb->exist_ok)
            return error_set(err, ERR_EXISTS, "mailbox %s is there", mb->name);
        rc = need_mailbox(g, id, &h, err);
        if (rc != ERR_OK)
            return rc;
        op->res.id = id;
        op->res.uidvalidity = h->mb.uidvalidity;
        return ERR_OK;
    }
    if (acl == NULL)
        rc = default_acl(g, mb, &acl, err);
    if (rc == ERR_OK)
        rc = check_text("ACL", acl, ACL_BYTES_MAX, err);
    if (rc == ERR_OK)
        rc = check_text("special use", mb->special_use, KEYWORD_MAX * 8, err);
    if (rc == ERR_OK)
        rc = check_text("partition", mb->partition, USER_MAX, err);
    const char *root = "";
    if (rc == ERR_OK)
        rc = state_quota_root(g->st, mb->name, &root, err);
    if (rc == ERR_OK && g->st->v.validity == UINT32_MAX)
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
    };
    make_uniqueid(g->env, &rec.head.uniqueid);
    op->res.id = next_lsn(g);
    op->res.uidvalidity = rec.head.uidvalidity;
    op->res.modseq = modseq_of(g->epoch, op->res.id);
    return EMIT(mailbox, REC_MAILBOX, &rec, err);
}

/* A mailbox whose quota row is its own loses it before it goes. */
static enum errcode
drop_own_quota(struct group *g, const char *name, struct error *err)
{
    struct quota_head *q;

    enum errcode rc = state_quota(g->st, name, &q, err);
    return rc == ERR_OK && q != NULL ? remove_quota(g, name, err) : rc;
}

static enum errcode
purge_whole(struct group *g, mbid_t id, struct error *err)
{
    const struct rec_expunge rec = {.id = id};
    return EMIT(expunge, REC_PURGE, &rec, err);
}

static enum errcode
do_delete(struct group *g, struct op *op, struct error *err)
{
    struct head *h;
    mbid_t taken = 1;
    const char *name = NULL;

    enum errcode rc = need_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK)
        return rc;
    const char *old = arena_str(&g->arena, span_str(h->mb.name));
    rc = drop_own_quota(g, old, err);
    if (rc != ERR_OK)
        return rc;
    if (!op->u.del.delayed)
        return purge_whole(g, op->id, err);
    for (uint64_t at = op->u.del.now_s; rc == ERR_OK && taken != 0; at++) {
        name = name_deleted(old, "DELETED", at, &g->arena);
        rc = state_lookup(g->st, name, &taken, err);
    }
    if (rc == ERR_OK && strlen(name) > MAILBOX_NAME_MAX)
        rc = error_set(err, ERR_BADNAME, "%s is too long a name", name);
    if (rc != ERR_OK)
        return rc;
    struct rec_rename rec = {
        .n = 1, .moves = arena_alloc(&g->arena, sizeof(*rec.moves))};
    rec.moves[0].id = op->id;
    rec.moves[0].name = name;
    rc = EMIT(rename, REC_RENAME, &rec, err);
    if (rc == ERR_OK)
        rc = need_mailbox(g, op->id, &h, err);
    if (rc == ERR_OK && h->mb.quota_root[0] != '\0')
        rc = set_quota_root(g, op->id, "", err);
    return rc;
}

/* Is NAME free, or given up by one of the N mailboxes that move? */
static enum errcode
check_free(struct group *g, const char *name, const struct named *moving,
           size_t n, struct error *err)
{
    mbid_t id;

    enum errcode rc = check_name(name, err);
    if (rc == ERR_OK)
        rc = state_lookup(g->st, name, &id, err);
    if (rc != ERR_OK || id == 0)
        return rc;
    for (size_t i = 0; i < n; i++)
        if (moving[i].id == id)
            return ERR_OK;
    return error_set(err, ERR_EXISTS, "mailbox %s is there", name);
}

/* Quotas of a renamed tree go with it. */
static enum errcode
move_quotas(struct group *g, const struct named *old,
            const struct rec_rename *rec, struct error *err)
{
    enum errcode rc = ERR_OK;
    struct quota_head *q;

    for (size_t i = 0; i < rec->n && rc == ERR_OK; i++) {
        rc = state_quota(g->st, old[i].name, &q, err);
        if (rc != ERR_OK || q == NULL || name_is_deleted(rec->moves[i].name) ||
            strcmp(old[i].name, rec->moves[i].name) == 0)
            continue;
        const struct rec_quota add = {
            .root = rec->moves[i].name,
            .is_set = true,
            .storage_bytes = q->q.storage_bytes,
            .messages = q->q.messages,
        };
        rc = EMIT(quota, REC_QUOTA, &add, err);
    }
    for (size_t i = 0; i < rec->n && rc == ERR_OK; i++)
        rc = reroot_tree(g, rec->moves[i].name, err);
    for (size_t i = 0; i < rec->n && rc == ERR_OK; i++) {
        rc = state_quota(g->st, old[i].name, &q, err);
        if (rc != ERR_OK || q == NULL)
            continue;
        mbid_t id;
        rc = state_lookup(g->st, old[i].name, &id, err);
        if (rc == ERR_OK && id == 0)
            rc = remove_quota(g, old[i].name, err);
    }
    return rc;
}

static enum errcode
do_rename(struct group *g, struct op *op, struct error *err)
{
    struct head *h;
    struct named *old;
    struct rec_rename rec = {0};
    const char *to = op->u.rename.name;

    enum errcode rc = need_mailbox(g, op->id, &h, err);
    if (rc == ERR_OK)
        rc = list_tree(g, h->mb.name, op->u.rename.tree, &old, &rec.n, err);
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
        rc = check_free(g, rec.moves[i].name, old, rec.n, err);
    }
    if (rc == ERR_OK)
        rc = EMIT(rename, REC_RENAME, &rec, err);
    if (rc == ERR_OK && op->u.rename.tree)
        return move_quotas(g, old, &rec, err);
    return rc == ERR_OK ? reroot_tree(g, to, err) : rc;
}

static enum errcode
do_set(struct group *g, struct op *op, struct error *err)
{
    struct head *h;
    struct rec_set rec = {.id = op->id};
    const char *value = op->u.set.value;

    enum errcode rc = need_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK)
        return rc;
    if (op->kind == OP_SET_ACL) {
        const char *expected = op->u.set.expected;
        if (expected != NULL && strcmp(expected, h->mb.acl) != 0)
            return error_set(err, ERR_CONFLICT, "the ACL of %s has changed",
                             h->mb.name);
        rc = check_text("ACL", value, ACL_BYTES_MAX, err);
        if (rc != ERR_OK || strcmp(value, h->mb.acl) == 0)
            return rc;
        rec.fields = SET_ACL;
        rec.acl = value;
    } else {
        rc = check_text("special use", value, KEYWORD_MAX * 8, err);
        if (rc != ERR_OK || strcmp(value, h->mb.special_use) == 0)
            return rc;
        rec.fields = SET_SPECIAL_USE;
        rec.special_use = value;
    }
    return EMIT(set, REC_SET, &rec, err);
}

static enum errcode
do_set_recent(struct group *g, struct op *op, struct error *err)
{
    struct head *h;

    enum errcode rc = need_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK || op->u.recent_uid <= h->mb.recent_uid)
        return rc;
    const struct rec_set rec = {
        .id = op->id,
        .fields = SET_RECENT,
        .recent_uid = op->u.recent_uid,
    };
    return EMIT(set, REC_SET, &rec, err);
}

/* --------------------------------------------------------------- append */

/* The next UID of a mailbox, beyond what a dead master may have given out. */
static enum errcode
next_uid(const struct group *g, const struct mailbox *mb, uint32_t *ret,
         struct error *err)
{
    uint64_t uid = mb->uidnext;

    for (size_t i = 0; i < g->st->v.nepochs; i++) {
        const struct epoch_entry *e = &g->st->epochs[i];
        if (e->epoch > mb->uid_epoch && e->epoch <= g->epoch &&
            (g->mutants & MUTANT_NO_HEADROOM) == 0)
            uid += e->uid_headroom;
    }
    if (uid >= UINT32_MAX)
        return error_set(err, ERR_LIMIT, "all UIDs of %s are used", mb->name);
    *ret = (uint32_t)uid;
    return ERR_OK;
}

static enum errcode
check_quota(struct group *g, const struct mailbox *mb, uint64_t bytes,
            uint64_t messages, struct error *err)
{
    struct quota_head *q;

    if (mb->quota_root[0] == '\0')
        return ERR_OK;
    enum errcode rc = state_quota(g->st, mb->quota_root, &q, err);
    if (rc != ERR_OK || q == NULL)
        return rc;
    if ((q->q.storage_bytes != QUOTA_UNLIMITED &&
         (q->q.used_bytes > q->q.storage_bytes ||
          bytes > q->q.storage_bytes - q->q.used_bytes)) ||
        (q->q.messages != QUOTA_UNLIMITED &&
         (q->q.used_messages > q->q.messages ||
          messages > q->q.messages - q->q.used_messages)))
        return error_set(err, ERR_QUOTA, "over the quota of %s", q->root);
    return ERR_OK;
}

static enum errcode
check_keywords(const struct span *keywords, size_t n, struct error *err)
{
    if (n > KEYWORDS_PER_MESSAGE)
        return error_set(err, ERR_LIMIT, "more than %u keywords",
                         KEYWORDS_PER_MESSAGE);
    for (size_t i = 0; i < n; i++)
        if (keywords[i].n > KEYWORD_MAX)
            return error_set(err, ERR_LIMIT, "keyword of %zu bytes, at most %u",
                             keywords[i].n, KEYWORD_MAX);
    return ERR_OK;
}

/* Was this delivered before?  Then ERR_EXISTS, and the UID it has. */
static enum errcode
check_dedup(struct group *g, struct op *op, struct error *err)
{
    static const uint8_t none[16];
    const uint8_t *hash = op->u.append.msg.dedup;
    struct key k;
    struct span value;

    if (memcmp(hash, none, sizeof(none)) == 0)
        return ERR_OK;
    enum errcode rc =
        state_get(g->st, key_text(&k, TAB_DEDUP, span_of(hash, sizeof(none))),
                  &g->arena, &value, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    struct rd r = rd_init(value);
    uint64_t time_us = rd_varint(&r);
    mbid_t id = rd_varint(&r);
    uint32_t uid = rd_varint32(&r);
    if (r.bad || time_us + DEDUP_US < g->time_us)
        return ERR_OK;
    op->res.id = id;
    uidset_add(&op->res.uids, uid, uid);
    return error_set(err, ERR_EXISTS, "delivered before as UID %" PRIu32, uid);
}

/* All that can be wrong with an append, before anything is written for it. */
static enum errcode
check_append(struct group *g, struct op *op, struct head **ret,
             struct error *err)
{
    const struct txn_append *msg = &op->u.append.msg;

    enum errcode rc = need_mailbox(g, op->id, ret, err);
    if (rc == ERR_OK)
        rc = check_dedup(g, op, err);
    if (rc == ERR_OK)
        rc = check_keywords(msg->keywords, msg->nkeywords, err);
    if (rc == ERR_OK && body_part_count(msg->body) > BODY_PARTS_MAX)
        rc = error_set(err, ERR_LIMIT, "message of %" PRIu64 " bytes",
                       body_size(msg->body));
    if (rc == ERR_OK && msg->check_quota)
        rc = check_quota(g, &(*ret)->mb, body_size(msg->body), 1, err);
    return rc;
}

static void
remember_cache(struct group *g, mbid_t id, uint32_t uid, struct span record)
{
    if (record.n == 0)
        return;
    struct cache_put *c = arena_alloc(&g->arena, sizeof(*c));
    *c = (struct cache_put){id, uid, record, g->caches};
    g->caches = c;
}

static enum errcode
do_append(struct group *g, struct op *op, struct error *err)
{
    static const uint8_t none[16];
    const struct txn_append *msg = &op->u.append.msg;
    struct rec_append rec = {.id = op->id};
    struct head *h;
    uint32_t uid;
    bool has_ref = op->u.append.ahead;

    enum errcode rc = check_append(g, op, &h, err);
    if (rc == ERR_OK)
        rc = next_uid(g, &h->mb, &uid, err);
    if (rc == ERR_OK && !has_ref)
        rc = state_has_ref(g->st, body_guid(msg->body), &has_ref, err);
    if (rc == ERR_OK && !has_ref && body_part_count(msg->body) > 1)
        rc = error_set(err, ERR_AGAIN, "the body was purged meanwhile");
    if (rc != ERR_OK)
        return rc;
    rec.msg = (struct message){
        .uid = uid,
        .flags = msg->flags & FLAGS_SETTABLE,
        .guid = *body_guid(msg->body),
        .internal_s = msg->internal_s,
        .internal_tz_min = msg->internal_tz_min,
        .saved_s = (int64_t)(g->time_us / 1000000),
        .size = body_size(msg->body),
        .keywords = msg->keywords,
        .nkeywords = msg->nkeywords,
    };
    if (!has_ref) {
        uint32_t raw_bytes;
        rec.has_body = true;
        rec.body =
            body_part(msg->body, 0, &rec.encoding, &raw_bytes, &rec.body_hash);
    }
    rec.has_dedup = memcmp(msg->dedup, none, sizeof(none)) != 0;
    memcpy(rec.dedup, msg->dedup, sizeof(rec.dedup));
    op->res.id = op->id;
    op->res.uidvalidity = h->mb.uidvalidity;
    op->res.modseq = modseq_of(g->epoch, next_lsn(g));
    uidset_add(&op->res.uids, uid, uid);
    remember_cache(g, op->id, uid, msg->cache);
    return EMIT(append, REC_APPEND, &rec, err);
}

/* Did an operation before OP write the same body? */
static bool
is_ahead_already(const struct store_txn *txn, const struct op *op)
{
    const struct guid *guid = body_guid(op->u.append.msg.body);

    for (const struct op *o = txn->ops; o < op; o++)
        if (o->kind == OP_APPEND && o->u.append.ahead &&
            guid_eq(body_guid(o->u.append.msg.body), guid))
            return true;
    return false;
}

/*
 * Write the next part of a body that goes ahead.  *RET_MORE: something was
 * written, so this transaction has had its turn.
 */
static enum errcode
write_ahead(struct group *g, const struct store_txn *txn, struct op *op,
            bool *ret_more, struct error *err)
{
    struct body *body = op->u.append.msg.body;
    const uint32_t parts = body_part_count(body);
    struct head *h;
    bool has_ref;

    enum errcode rc = ERR_OK;
    if (is_ahead_already(txn, op)) {
        op->u.append.parts_done = parts;
        return ERR_OK;
    }
    if (op->u.append.parts_done == 0) {
        rc = check_append(g, op, &h, err);
        if (rc != ERR_OK && op->independent) {
            op->u.append.ahead = false; /* it will say so by itself */
            return ERR_OK;
        }
        if (rc == ERR_OK)
            rc = state_has_ref(g->st, body_guid(body), &has_ref, err);
        if (rc != ERR_OK)
            return rc;
        if (has_ref) {
            op->u.append.ahead = false; /* nobody needs the parts */
            return ERR_OK;
        }
    }
    struct rec_body rec = {
        .guid = *body_guid(body),
        .part = op->u.append.parts_done,
        .parts = parts,
        .size = body_size(body),
    };
    rec.body = body_part(body, rec.part, &rec.encoding, &rec.raw_bytes,
                         &rec.body_hash);
    rc = EMIT(body, REC_BODY, &rec, err);
    if (rc == ERR_OK) {
        op->u.append.parts_done++;
        *ret_more = true;
    }
    return rc;
}

/* ---------------------------------------------------------------- flags */

/* Messages that end with the same flags. */
struct flag_group {
    struct rec_flag_group rec;
    uint64_t hash;
    struct flag_group *next; /* in its bucket */
    struct flag_group *later;
};

#define FLAG_BUCKETS 256U

struct flag_groups {
    struct flag_group *bucket[FLAG_BUCKETS];
    struct flag_group *first, **last;
    struct arena a;
};

static bool
same_keywords(const struct span *a, size_t na, const struct span *b, size_t nb)
{
    if (na != nb)
        return false;
    for (size_t i = 0; i < na; i++)
        if (!span_eq(a[i], b[i]))
            return false;
    return true;
}

static struct flag_group *
find_group(struct flag_groups *gs, const struct message *m)
{
    uint64_t hash = m->flags;

    for (size_t i = 0; i < m->nkeywords; i++)
        hash = XXH3_64bits_withSeed(m->keywords[i].p, m->keywords[i].n, hash);
    struct flag_group **bucket = &gs->bucket[hash % FLAG_BUCKETS];
    for (struct flag_group *g = *bucket; g != NULL; g = g->next)
        if (g->hash == hash && g->rec.flags == m->flags &&
            same_keywords(g->rec.keywords, g->rec.nkeywords, m->keywords,
                          m->nkeywords))
            return g;
    struct flag_group *g = arena_alloc(&gs->a, sizeof(*g));
    struct span *keywords =
        arena_array(&gs->a, m->nkeywords + 1, sizeof(*keywords));
    for (size_t i = 0; i < m->nkeywords; i++)
        keywords[i] = arena_copy(&gs->a, m->keywords[i]);
    g->rec = (struct rec_flag_group){
        .flags = m->flags, .keywords = keywords, .nkeywords = m->nkeywords};
    g->hash = hash;
    g->next = *bucket;
    *bucket = g;
    *gs->last = g;
    gs->last = &g->later;
    return g;
}

/* What M's keywords become; the result lives in A. */
static void
change_keywords(const struct txn_flags *op, struct message *m, struct arena *a)
{
    const struct span *x = m->keywords, *y = op->keywords;
    const size_t nx = m->nkeywords, ny = op->nkeywords;
    size_t i = 0, j = 0, n = 0;

    if (op->mode == FLAGS_REPLACE) {
        m->keywords = y;
        m->nkeywords = ny;
        return;
    }
    struct span *out = arena_array(a, nx + ny + 1, sizeof(*out));
    while (i < nx || j < ny) {
        int c = i == nx ? 1 : j == ny ? -1 : span_cmp(x[i], y[j]);
        if (op->mode == FLAGS_ADD)
            out[n++] = c <= 0 ? x[i] : y[j];
        else if (c < 0)
            out[n++] = x[i];
        i += c <= 0;
        j += c >= 0;
    }
    m->keywords = out;
    m->nkeywords = n;
}

static uint32_t
change_flags(const struct txn_flags *op, uint32_t old)
{
    const uint32_t given = op->flags & FLAGS_SETTABLE;

    switch (op->mode) {
    case FLAGS_REPLACE:
        return (given & ~op->keep) | (old & op->keep);
    case FLAGS_ADD:
        return old | given;
    case FLAGS_REMOVE:
        return old & ~given;
    }
    return old;
}

static enum errcode
flag_one(const struct txn_flags *flags, struct op *op,
         const struct message *old, struct flag_groups *gs, struct arena *a,
         struct error *err)
{
    struct message m = *old;

    if ((old->flags & FLAG_EXPUNGED) != 0)
        return ERR_OK;
    if (flags->has_unchanged_since && old->modseq > flags->unchanged_since) {
        uidset_add(&op->res.refused, old->uid, old->uid);
        return ERR_OK;
    }
    m.flags = change_flags(flags, old->flags);
    change_keywords(flags, &m, a);
    if (m.flags == old->flags &&
        same_keywords(m.keywords, m.nkeywords, old->keywords, old->nkeywords))
        return ERR_OK;
    enum errcode rc = check_keywords(m.keywords, m.nkeywords, err);
    if (rc != ERR_OK)
        return rc;
    uidset_add(&find_group(gs, &m)->rec.uids, m.uid, m.uid);
    uidset_add(&op->res.uids, m.uid, m.uid);
    return ERR_OK;
}

/* Call for each row of UIDS, tombstones too. */
struct walk {
    struct state_iter it;
    const struct uidset *uids;
    size_t at;
    struct arena rows;
};

static void
walk_open(struct walk *w, struct state *st, struct head *h,
          const struct uidset *uids)
{
    *w = (struct walk){.uids = uids};
    state_iter_open(st, h, &w->it);
}

static bool
walk_next(struct walk *w, struct message *ret, enum errcode *rc,
          struct error *err)
{
    uint32_t from = w->at < w->uids->n ? w->uids->r[w->at].first : 0;

    *rc = ERR_OK;
    arena_reset(&w->rows);
    while (w->at < w->uids->n) {
        if (!state_iter_next(&w->it, from, &w->rows, ret, rc, err))
            return false;
        while (w->at < w->uids->n && w->uids->r[w->at].last < ret->uid)
            w->at++;
        if (w->at == w->uids->n)
            return false;
        if (w->uids->r[w->at].first <= ret->uid)
            return true;
        from = w->uids->r[w->at].first;
    }
    return false;
}

static enum errcode
walk_close(struct walk *w, enum errcode rc, struct error *err)
{
    arena_free(&w->rows);
    return state_iter_close(&w->it, rc, err);
}

/* A part of a group's UIDs, so that no record grows too long. */
static struct uidset
part_of(const struct uidset *all, size_t at)
{
    size_t n = MIN(all->n - at, (size_t)RANGES_PER_RECORD);
    return (struct uidset){.r = all->r + at, .n = n, .cap = n};
}

static size_t
group_bytes(const struct flag_group *g)
{
    size_t n = 16 + g->rec.uids.n * 10;
    for (size_t i = 0; i < g->rec.nkeywords; i++)
        n += g->rec.keywords[i].n + 2;
    return n;
}

static enum errcode
emit_flag_groups(struct group *g, struct op *op, struct flag_groups *gs,
                 struct error *err)
{
    enum errcode rc = ERR_OK;

    for (struct flag_group *f = gs->first; f != NULL && rc == ERR_OK;) {
        struct rec_flag_group some[64];
        struct rec_flags rec = {.id = op->id, .groups = some};
        size_t bytes = 0;
        if (f->rec.uids.n > RANGES_PER_RECORD) {
            some[0] = f->rec;
            rec.n = 1;
            for (size_t at = 0; at < f->rec.uids.n && rc == ERR_OK;
                 at += RANGES_PER_RECORD) {
                some[0].uids = part_of(&f->rec.uids, at);
                op->res.modseq = modseq_of(g->epoch, next_lsn(g));
                rc = EMIT(flags, REC_FLAGS, &rec, err);
            }
            f = f->later;
            continue;
        }
        while (f != NULL && rec.n < ARRAY_LEN(some) &&
               f->rec.uids.n <= RANGES_PER_RECORD &&
               (rec.n == 0 || bytes + group_bytes(f) <= FLAG_RECORD_BYTES)) {
            bytes += group_bytes(f);
            some[rec.n++] = f->rec;
            f = f->later;
        }
        op->res.modseq = modseq_of(g->epoch, next_lsn(g));
        rc = EMIT(flags, REC_FLAGS, &rec, err);
    }
    return rc;
}

static enum errcode
do_flags(struct group *g, struct op *op, struct error *err)
{
    const struct txn_flags *flags = &op->u.flags.op;
    struct flag_groups *gs = arena_alloc(&g->arena, sizeof(*gs));
    struct head *h;
    struct message m;
    struct walk w;

    gs->last = &gs->first;
    enum errcode rc = need_mailbox(g, op->id, &h, err);
    if (rc == ERR_OK)
        rc = check_keywords(flags->keywords, flags->nkeywords, err);
    if (rc != ERR_OK)
        return rc;
    op->res.uidvalidity = h->mb.uidvalidity;
    walk_open(&w, g->st, h, &op->u.flags.uids);
    while (rc == ERR_OK && walk_next(&w, &m, &rc, err))
        rc = flag_one(flags, op, &m, gs, &w.rows, err);
    rc = walk_close(&w, rc, err);
    if (rc == ERR_OK)
        rc = emit_flag_groups(g, op, gs, err);
    for (struct flag_group *f = gs->first; f != NULL; f = f->later)
        uidset_free(&f->rec.uids);
    arena_free(&gs->a);
    return rc;
}

/* -------------------------------------------------- expunge, copy, purge */

static enum errcode
emit_uids(struct group *g, enum record_type type, mbid_t id,
          const struct uidset *uids, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t at = 0; at < uids->n && rc == ERR_OK; at += RANGES_PER_RECORD) {
        const struct rec_expunge rec = {.id = id, .uids = part_of(uids, at)};
        rc = EMIT(expunge, type, &rec, err);
    }
    return rc;
}

static enum errcode
do_expunge(struct group *g, struct op *op, struct error *err)
{
    struct head *h;
    struct message m;
    struct walk w;
    const bool purge = op->kind == OP_PURGE;

    enum errcode rc = need_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK)
        return rc;
    if (purge && op->u.expunge.uids.n == 0) {
        rc = drop_own_quota(g, arena_str(&g->arena, span_str(h->mb.name)), err);
        return rc == ERR_OK ? purge_whole(g, op->id, err) : rc;
    }
    op->res.uidvalidity = h->mb.uidvalidity;
    walk_open(&w, g->st, h, &op->u.expunge.uids);
    while (rc == ERR_OK && walk_next(&w, &m, &rc, err)) {
        const bool gone = (m.flags & FLAG_EXPUNGED) != 0;
        if (gone == purge && (purge || !op->u.expunge.only_deleted ||
                              (m.flags & FLAG_DELETED) != 0))
            uidset_add(&op->res.uids, m.uid, m.uid);
    }
    rc = walk_close(&w, rc, err);
    if (rc == ERR_OK)
        rc = emit_uids(g, purge ? REC_PURGE : REC_EXPUNGE, op->id,
                       &op->res.uids, err);
    if (op->res.uids.n > 0)
        op->res.modseq = modseq_of(g->epoch, next_lsn(g) - 1);
    return rc;
}

static enum errcode
copy_one(struct group *g, struct op *op, struct head *to,
         const struct message *m, struct error *err)
{
    struct rec_append rec = {.id = op->u.copy.to, .msg = *m};

    enum errcode rc = next_uid(g, &to->mb, &rec.msg.uid, err);
    if (rc != ERR_OK)
        return rc;
    rec.msg.modseq = 0;
    rec.msg.created_modseq = 0;
    rec.msg.saved_s = (int64_t)(g->time_us / 1000000);
    uidset_add(&op->res.from, m->uid, m->uid);
    uidset_add(&op->res.uids, rec.msg.uid, rec.msg.uid);
    op->res.modseq = modseq_of(g->epoch, next_lsn(g));
    return EMIT(append, REC_APPEND, &rec, err);
}

/* How much would be copied. */
static enum errcode
measure_copy(struct group *g, struct op *op, struct head *from,
             uint64_t *ret_bytes, uint64_t *ret_messages, struct error *err)
{
    struct walk w;
    struct message m;
    enum errcode rc = ERR_OK;

    *ret_bytes = *ret_messages = 0;
    walk_open(&w, g->st, from, &op->u.copy.uids);
    while (walk_next(&w, &m, &rc, err))
        if ((m.flags & FLAG_EXPUNGED) == 0) {
            *ret_bytes += m.size;
            ++*ret_messages;
        }
    return walk_close(&w, rc, err);
}

static enum errcode
do_copy(struct group *g, struct op *op, struct error *err)
{
    struct head *from, *to;
    struct message m;
    struct walk w;
    uint64_t bytes, messages;

    enum errcode rc = need_mailbox(g, op->id, &from, err);
    if (rc == ERR_OK)
        rc = need_mailbox(g, op->u.copy.to, &to, err);
    if (rc != ERR_OK)
        return rc;
    op->res.id = op->u.copy.to;
    op->res.uidvalidity = to->mb.uidvalidity;
    /* A move below one root changes nothing there. */
    if (op->u.copy.check_quota &&
        !(op->u.copy.move &&
          strcmp(from->mb.quota_root, to->mb.quota_root) == 0)) {
        rc = measure_copy(g, op, from, &bytes, &messages, err);
        if (rc == ERR_OK)
            rc = check_quota(g, &to->mb, bytes, messages, err);
        if (rc != ERR_OK)
            return rc;
    }
    /* Into itself: what is copied now is not copied again. */
    const uint32_t end = from->mb.uidnext;
    walk_open(&w, g->st, from, &op->u.copy.uids);
    while (rc == ERR_OK && walk_next(&w, &m, &rc, err) && m.uid < end)
        if ((m.flags & FLAG_EXPUNGED) == 0)
            rc = copy_one(g, op, to, &m, err);
    rc = walk_close(&w, rc, err);
    if (rc == ERR_OK && op->u.copy.move)
        rc = emit_uids(g, REC_EXPUNGE, op->id, &op->res.from, err);
    return rc;
}

/* ------------------------------------------------- users, quota, epochs */

static enum errcode
do_user(struct group *g, struct op *op, struct error *err)
{
    const struct rec_user rec = {
        .user = op->u.user.user,
        .kind = op->u.user.kind,
        .name = op->u.user.name,
        .is_set = op->u.user.is_set,
        .value = op->u.user.value,
    };
    struct key k;
    struct span old;

    enum errcode rc = check_text("user", rec.user, USER_MAX, err);
    if (rc == ERR_OK)
        rc = check_text("name", rec.name, MAILBOX_NAME_MAX, err);
    if (rc == ERR_OK && rec.value.n > USER_VALUE_MAX)
        rc = error_set(err, ERR_LIMIT, "value of %zu bytes", rec.value.n);
    if (rc != ERR_OK)
        return rc;
    rc = state_get(g->st, key_user(&k, rec.user, rec.kind, rec.name), &g->arena,
                   &old, err);
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    const bool is_there = rc == ERR_OK;
    if (is_there == rec.is_set && (!is_there || span_eq(old, rec.value)))
        return ERR_OK;
    return EMIT(user, REC_USER, &rec, err);
}

static enum errcode
do_quota(struct group *g, struct op *op, struct error *err)
{
    const struct rec_quota *rec = &op->u.quota;
    struct quota_head *q;
    mbid_t id;

    enum errcode rc = check_name(rec->root, err);
    if (rc == ERR_OK)
        rc = state_quota(g->st, rec->root, &q, err);
    if (rc != ERR_OK)
        return rc;
    if (!rec->is_set) {
        if (q == NULL)
            return error_set(err, ERR_NOTFOUND, "no quota at %s", rec->root);
        return remove_quota(g, rec->root, err);
    }
    rc = state_lookup(g->st, rec->root, &id, err);
    if (rc == ERR_OK && id == 0)
        rc = error_set(err, ERR_NOTFOUND, "no mailbox %s", rec->root);
    if (rc != ERR_OK)
        return rc;
    const bool is_new = q == NULL;
    rc = EMIT(quota, REC_QUOTA, rec, err);
    return rc == ERR_OK && is_new ? reroot_tree(g, rec->root, err) : rc;
}

static enum errcode
do_epoch(struct group *g, struct op *op, struct error *err)
{
    struct rec_epoch *rec = &op->u.epoch;
    const size_t n = g->st->v.nepochs;

    if (rec->entry.epoch != g->epoch)
        return error_set(err, ERR_HISTORY,
                         "epoch %" PRI_EPOCH
                         " is to begin, ours is %" PRI_EPOCH,
                         rec->entry.epoch, g->epoch);
    if (n > 0 && g->st->epochs[n - 1].epoch >= g->epoch)
        return error_set(err, ERR_HISTORY,
                         "epoch %" PRI_EPOCH " has begun already",
                         g->st->epochs[n - 1].epoch);
    if (n >= EPOCHS_MAX)
        return error_set(err, ERR_LIMIT, "more than %u epochs", EPOCHS_MAX);
    rec->entry.fork_lsn = next_lsn(g) - 1;
    rec->entry.fork_chain = g->chain;
    rec->entry.time_us = g->time_us;
    rec->entry.instance = g->instance;
    return EMIT(epoch, REC_EPOCH, rec, err);
}

/* ----------------------------------------------------------------- all */

static enum errcode
do_op(struct group *g, struct op *op, struct error *err)
{
    switch (op->kind) {
    case OP_CREATE:
        return do_create(g, op, err);
    case OP_DELETE:
        return do_delete(g, op, err);
    case OP_RENAME:
        return do_rename(g, op, err);
    case OP_SET_ACL:
    case OP_SET_SPECIAL_USE:
        return do_set(g, op, err);
    case OP_SET_RECENT:
        return do_set_recent(g, op, err);
    case OP_APPEND:
        return do_append(g, op, err);
    case OP_FLAGS:
        return do_flags(g, op, err);
    case OP_EXPUNGE:
    case OP_PURGE:
        return do_expunge(g, op, err);
    case OP_COPY:
        return do_copy(g, op, err);
    case OP_USER:
        return do_user(g, op, err);
    case OP_QUOTA:
        return do_quota(g, op, err);
    case OP_EPOCH:
        return do_epoch(g, op, err);
    }
    return ERR_UNSUPPORTED;
}

/* May a failed operation fail alone?  Only for reasons of its own. */
static bool
fails_alone(const struct op *op, enum errcode rc)
{
    return op->independent && (rc == ERR_NOTFOUND || rc == ERR_QUOTA ||
                               rc == ERR_LIMIT || rc == ERR_EXISTS);
}

static enum errcode
run_ahead(struct group *g, struct store_txn *txn, bool *ret_more,
          struct error *err)
{
    enum errcode rc = ERR_OK;
    const size_t start = g->payload.n;

    for (size_t i = 0; i < txn->nops && rc == ERR_OK; i++) {
        struct op *op = &txn->ops[i];
        while (rc == ERR_OK && op->kind == OP_APPEND && op->u.append.ahead &&
               op->u.append.parts_done <
                   body_part_count(op->u.append.msg.body)) {
            if (g->payload.n - start >= BODY_PART_BYTES)
                return ERR_OK;
            rc = write_ahead(g, txn, op, ret_more, err);
        }
    }
    return rc;
}

static enum errcode
run_ops(struct group *g, struct store_txn *txn)
{
    for (size_t i = 0; i < txn->nops; i++) {
        struct op *op = &txn->ops[i];
        struct error err = {0};
        const size_t bytes = g->payload.n;
        enum errcode rc = do_op(g, op, &err);
        op->res.code = rc;
        if (rc == ERR_OK ||
            (fails_alone(op, rc) && bytes == g->payload.n && !g->overflow))
            continue;
        txn->err = err;
        return rc;
    }
    return ERR_OK;
}

static void
put_caches(struct group *g)
{
    struct key k;

    for (struct cache_put *c = g->caches; c != NULL; c = c->next)
        kv_batch_put(g->st->batch, KV_CACHE, key_message(&k, c->id, c->uid),
                     c->record);
}

enum txn_outcome
resolve_txn(struct group *g, struct store_txn *txn)
{
    const size_t bytes = g->payload.n;
    const uint32_t records = g->nrecords;
    bool more = false;

    state_mark(g->st);
    arena_reset(&g->arena);
    g->caches = NULL;
    g->overflow = false;
    txn_reset(txn);
    txn->code = run_ahead(g, txn, &more, &txn->err);
    if (txn->code == ERR_OK && !more)
        txn->code = run_ops(g, txn);
    /* Parts that are written may stay: they are records on their own. */
    if (more && g->overflow) {
        g->overflow = false;
        txn->code = ERR_OK;
    }
    arena_reset(&g->st->scratch);
    if (txn->code == ERR_OK) {
        put_caches(g);
        if (g->nrecords > records)
            txn->lsn = next_lsn(g) - 1;
        return more ? TXN_MORE : TXN_DONE;
    }
    g->payload.n = bytes;
    g->nrecords = records;
    struct error err = {0};
    if (state_rollback(g->st, &err) != ERR_OK) {
        txn->code = err.code;
        txn->err = err;
        return TXN_BROKEN;
    }
    arena_reset(&g->st->scratch);
    return g->overflow ? TXN_OVERFLOW : TXN_DONE;
}
