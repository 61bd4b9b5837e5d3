/*
 * store/record.c - records to bytes and back.
 *
 * Encoders trust their input, decoders nothing: a record comes from a disk or
 * from a peer.  Counts are bounded by the bytes that are there before anything
 * is allocated for them, and what has two spellings (keywords out of order, a
 * varint too long) is refused, so that equal records are equal bytes.
 */
#include "store/record.h"

#include <inttypes.h>

#include "store/rows.h"

static const char *const type_names[] = {
    [REC_EPOCH] = "epoch",
    [REC_MAILBOX] = "mailbox",
    [REC_RENAME] = "rename",
    [REC_SET] = "set",
    [REC_APPEND] = "append",
    [REC_BODY] = "body",
    [REC_FLAGS] = "flags",
    [REC_EXPUNGE] = "expunge",
    [REC_USER] = "user",
    [REC_QUOTA] = "quota",
    [REC_PURGE] = "purge",
    [REC_ANNOT] = "annot",
    [REC_SEEN] = "seen",
    [REC_FORGET] = "forget",
    [REC_UNEXPUNGED] = "unexpunged",
    [REC_ROWS] = "rows",
    [REC_HEAD] = "head",
};

const char *
record_type_name(uint8_t type)
{
    return type < ARRAY_LEN(type_names) ? type_names[type] : NULL;
}

uint8_t
record_version(enum record_type type)
{
    switch (type) {
    case REC_RENAME:
    case REC_SET:
    case REC_QUOTA:
    case REC_PURGE:
    case REC_APPEND:
    case REC_ANNOT:
    case REC_SEEN:
        return 2;
    case REC_EPOCH:
    case REC_MAILBOX:
    case REC_BODY:
    case REC_FLAGS:
    case REC_EXPUNGE:
    case REC_USER:
    case REC_FORGET:
    case REC_UNEXPUNGED:
    case REC_ROWS:
    case REC_HEAD:
        break;
    }
    return 1;
}

/* UID, and a message row: flags, GUID, eight numbers. */
#define ROW_BYTES_MIN (1U + 1U + GUID_BYTES + 8U)

static enum errcode
check_version(uint8_t version, enum record_type type, struct error *err)
{
    if (version != record_version(type))
        return error_set(
            err, ERR_VERSION, "%s record of version %u, we know %u",
            record_type_name((uint8_t)type), version, record_version(type));
    return ERR_OK;
}

static enum errcode
bad(enum record_type type, struct error *err)
{
    return error_set(err, ERR_CORRUPT, "%s record does not decode",
                     record_type_name((uint8_t)type));
}

static void
add_text(struct buf *b, const char *s)
{
    buf_add_blob(b, span_str(s == NULL ? "" : s));
}

/* A set of UIDs, its ranges in A. */
static struct uidset
read_uids(struct rd *r, struct arena *a)
{
    struct uidset heap = UIDSET_INIT;
    struct uidset ret = UIDSET_INIT;

    uidset_decode(r, r->left.n / 2 + 1, &heap);
    if (!r->bad && heap.n > 0) {
        ret.r = arena_array(a, heap.n, sizeof(*ret.r));
        memcpy(ret.r, heap.r, heap.n * sizeof(*ret.r));
        ret.n = ret.cap = heap.n;
    }
    uidset_free(&heap);
    return ret;
}

static bool
read_bool(struct rd *r)
{
    uint8_t v = rd_u8(r);
    if (v > 1)
        r->bad = true;
    return v == 1;
}

static enum body_encoding
read_encoding(struct rd *r)
{
    uint8_t v = rd_u8(r);
    if (v != BODY_RAW && v != BODY_ZSTD)
        r->bad = true;
    return v == BODY_ZSTD ? BODY_ZSTD : BODY_RAW;
}

/* ----------------------------------------------------------------- epoch */

void
rec_epoch_encode(const struct rec_epoch *rec, struct buf *out)
{
    epoch_encode(&rec->entry, out);
    add_text(out, rec->reason);
}

enum errcode
rec_epoch_decode(struct span body, uint8_t version, struct arena *a,
                 struct rec_epoch *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_epoch rec = {0};

    if (check_version(version, REC_EPOCH, err) != ERR_OK)
        return ERR_VERSION;
    epoch_read(&r, &rec.entry);
    rec.reason = rd_text(&r, USER_MAX, a);
    if (!rd_done(&r))
        return bad(REC_EPOCH, err);
    *ret = rec;
    return ERR_OK;
}

/* --------------------------------------------------------------- mailbox */

void
rec_mailbox_encode(const struct rec_mailbox *rec, struct buf *out)
{
    const struct mailbox *mb = &rec->head;

    add_text(out, mb->uniqueid.s);
    add_text(out, mb->name);
    add_text(out, mb->acl);
    add_text(out, mb->quota_root);
    add_text(out, mb->special_use);
    add_text(out, mb->partition);
    buf_add_varint(out, mb->uidvalidity);
    buf_add_varint(out, mb->uidnext);
    buf_add_varint(out, mb->uid_epoch);
    buf_add_varint(out, mb->options);
}

enum errcode
rec_mailbox_decode(struct span body, uint8_t version, struct arena *a,
                   struct rec_mailbox *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct mailbox mb = {0};

    if (check_version(version, REC_MAILBOX, err) != ERR_OK)
        return ERR_VERSION;
    struct span id = rd_blob(&r, UNIQUEID_MAX);
    if (id.n == 0 || span_find_byte(id, 0, 0) >= 0)
        return bad(REC_MAILBOX, err);
    memcpy(mb.uniqueid.s, id.p, id.n);
    mb.name = rd_text(&r, MAILBOX_NAME_MAX, a);
    mb.acl = rd_text(&r, ACL_BYTES_MAX, a);
    mb.quota_root = rd_text(&r, MAILBOX_NAME_MAX, a);
    mb.special_use = rd_text(&r, KEYWORD_MAX * 8, a);
    mb.partition = rd_text(&r, USER_MAX, a);
    mb.uidvalidity = rd_varint32(&r);
    mb.uidnext = rd_varint32(&r);
    mb.uid_epoch = rd_varint32(&r);
    mb.options = rd_varint32(&r);
    if (!rd_done(&r) || mb.name[0] == '\0' || mb.uidvalidity == 0 ||
        mb.uidnext == 0 || (mb.options & ~(uint32_t)MBOX_KNOWN) != 0)
        return bad(REC_MAILBOX, err);
    ret->head = mb;
    return ERR_OK;
}

/* ---------------------------------------------------------------- rename */

void
rec_rename_encode(const struct rec_rename *rec, struct buf *out)
{
    buf_add_varint(out, rec->n);
    for (size_t i = 0; i < rec->n; i++) {
        buf_add_varint(out, rec->moves[i].id);
        add_text(out, rec->moves[i].name);
        buf_add_varint(out, rec->moves[i].uidvalidity);
    }
    add_text(out, rec->user_from);
    add_text(out, rec->user_to);
}

enum errcode
rec_rename_decode(struct span body, uint8_t version, struct arena *a,
                  struct rec_rename *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_rename rec = {0};

    if (check_version(version, REC_RENAME, err) != ERR_OK)
        return ERR_VERSION;
    uint64_t n = rd_varint(&r);
    if (n > r.left.n / 3)
        return bad(REC_RENAME, err);
    rec.n = (size_t)n;
    rec.moves = arena_array(a, rec.n, sizeof(*rec.moves));
    for (size_t i = 0; i < rec.n && !r.bad; i++) {
        rec.moves[i].id = rd_varint(&r);
        rec.moves[i].name = rd_text(&r, MAILBOX_NAME_MAX, a);
        rec.moves[i].uidvalidity = rd_varint32(&r);
        if (rec.moves[i].name[0] == '\0')
            r.bad = true;
    }
    rec.user_from = rd_text(&r, USER_MAX, a);
    rec.user_to = rd_text(&r, USER_MAX, a);
    /* It is about something, and nobody becomes somebody. */
    if (!rd_done(&r) || (rec.n == 0 && rec.user_from[0] == '\0') ||
        (rec.user_from[0] == '\0' && rec.user_to[0] != '\0'))
        return bad(REC_RENAME, err);
    *ret = rec;
    return ERR_OK;
}

/* ------------------------------------------------------------------- set */

#define SET_KNOWN                                                              \
    ((uint32_t)(SET_ACL | SET_SPECIAL_USE | SET_RECENT | SET_OPTIONS |         \
                SET_PARTITION | SET_UIDVALIDITY))

void
rec_set_encode(const struct rec_set *rec, struct buf *out)
{
    buf_add_varint(out, rec->id);
    buf_add_varint(out, rec->fields);
    if ((rec->fields & SET_ACL) != 0)
        add_text(out, rec->acl);
    if ((rec->fields & SET_SPECIAL_USE) != 0)
        add_text(out, rec->special_use);
    if ((rec->fields & SET_RECENT) != 0)
        buf_add_varint(out, rec->recent_uid);
    if ((rec->fields & SET_OPTIONS) != 0)
        buf_add_varint(out, rec->options);
    if ((rec->fields & SET_PARTITION) != 0)
        add_text(out, rec->partition);
    if ((rec->fields & SET_UIDVALIDITY) != 0)
        buf_add_varint(out, rec->uidvalidity);
}

enum errcode
rec_set_decode(struct span body, uint8_t version, struct arena *a,
               struct rec_set *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_set rec = {0};

    if (check_version(version, REC_SET, err) != ERR_OK)
        return ERR_VERSION;
    rec.id = rd_varint(&r);
    rec.fields = rd_varint32(&r);
    if ((rec.fields & ~SET_KNOWN) != 0)
        return bad(REC_SET, err);
    if ((rec.fields & SET_ACL) != 0)
        rec.acl = rd_text(&r, ACL_BYTES_MAX, a);
    if ((rec.fields & SET_SPECIAL_USE) != 0)
        rec.special_use = rd_text(&r, KEYWORD_MAX * 8, a);
    if ((rec.fields & SET_RECENT) != 0)
        rec.recent_uid = rd_varint32(&r);
    if ((rec.fields & SET_OPTIONS) != 0)
        rec.options = rd_varint32(&r);
    if ((rec.fields & SET_PARTITION) != 0)
        rec.partition = rd_text(&r, USER_MAX, a);
    if ((rec.fields & SET_UIDVALIDITY) != 0)
        rec.uidvalidity = rd_varint32(&r);
    if (!rd_done(&r) || (rec.options & ~(uint32_t)MBOX_KNOWN) != 0 ||
        ((rec.fields & SET_UIDVALIDITY) != 0 && rec.uidvalidity == 0))
        return bad(REC_SET, err);
    *ret = rec;
    return ERR_OK;
}

/* ---------------------------------------------------------------- append */

enum { APPEND_HAS_BODY = 1, APPEND_HAS_DEDUP = 2 };

void
rec_append_encode(const struct rec_append *rec, struct buf *out)
{
    buf_add_varint(out, rec->id);
    buf_add_varint(out, rec->msg.uid);
    message_encode(&rec->msg, out);
    buf_add_byte(out, (uint8_t)((rec->has_body ? APPEND_HAS_BODY : 0) |
                                (rec->has_dedup ? APPEND_HAS_DEDUP : 0)));
    if (rec->has_dedup)
        buf_add(out, span_of(rec->dedup, sizeof(rec->dedup)));
    if (rec->has_body) {
        buf_add_byte(out, (uint8_t)rec->encoding);
        buf_add_u64le(out, rec->body_hash);
        buf_add_blob(out, rec->body);
    }
}

enum errcode
rec_append_decode(struct span body, uint8_t version, struct arena *a,
                  struct rec_append *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_append rec = {0};

    if (check_version(version, REC_APPEND, err) != ERR_OK)
        return ERR_VERSION;
    rec.id = rd_varint(&r);
    rec.msg.uid = rd_varint32(&r);
    message_read(&r, a, &rec.msg);
    uint8_t has = rd_u8(&r);
    rec.has_body = (has & APPEND_HAS_BODY) != 0;
    rec.has_dedup = (has & APPEND_HAS_DEDUP) != 0;
    /* Only what comes from elsewhere can be gone already. */
    const uint32_t flags =
        FLAGS_SETTABLE | (rec.msg.modseq != 0 ? (uint32_t)FLAG_EXPUNGED : 0);
    if (has > (APPEND_HAS_BODY | APPEND_HAS_DEDUP) || rec.msg.uid == 0 ||
        (rec.msg.flags & ~flags) != 0)
        return bad(REC_APPEND, err);
    if (rec.has_dedup) {
        struct span d = rd_span(&r, sizeof(rec.dedup));
        if (!r.bad)
            memcpy(rec.dedup, d.p, sizeof(rec.dedup));
    }
    if (rec.has_body) {
        rec.encoding = read_encoding(&r);
        rec.body_hash = rd_u64le(&r);
        rec.body = rd_blob(&r, RECORD_BYTES_MAX);
        rec.body_offset = body.n - rec.body.n;
        if (rec.msg.size > BODY_PART_BYTES)
            r.bad = true;
    }
    if (!rd_done(&r))
        return bad(REC_APPEND, err);
    *ret = rec;
    return ERR_OK;
}

/* ------------------------------------------------------------------ body */

void
rec_body_encode(const struct rec_body *rec, struct buf *out)
{
    buf_add(out, span_of(rec->guid.b, GUID_BYTES));
    buf_add_varint(out, rec->part);
    buf_add_varint(out, rec->parts);
    buf_add_varint(out, rec->size);
    buf_add_byte(out, (uint8_t)rec->encoding);
    buf_add_varint(out, rec->raw_bytes);
    buf_add_u64le(out, rec->body_hash);
    buf_add_blob(out, rec->body);
}

enum errcode
rec_body_decode(struct span body, uint8_t version, struct arena *a,
                struct rec_body *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_body rec = {0};

    (void)a; /* nothing is allocated */
    if (check_version(version, REC_BODY, err) != ERR_OK)
        return ERR_VERSION;
    struct span guid = rd_span(&r, GUID_BYTES);
    if (r.bad)
        return bad(REC_BODY, err);
    memcpy(rec.guid.b, guid.p, GUID_BYTES);
    rec.part = rd_varint32(&r);
    rec.parts = rd_varint32(&r);
    rec.size = rd_varint(&r);
    rec.encoding = read_encoding(&r);
    rec.raw_bytes = rd_varint32(&r);
    rec.body_hash = rd_u64le(&r);
    rec.body = rd_blob(&r, RECORD_BYTES_MAX);
    rec.body_offset = body.n - rec.body.n;
    if (!rd_done(&r) || rec.parts == 0 || rec.parts > BODY_PARTS_MAX ||
        rec.part >= rec.parts || rec.raw_bytes > BODY_PART_BYTES ||
        rec.size > (uint64_t)rec.parts * BODY_PART_BYTES)
        return bad(REC_BODY, err);
    *ret = rec;
    return ERR_OK;
}

/* ----------------------------------------------------------------- flags */

void
rec_flags_encode(const struct rec_flags *rec, struct buf *out)
{
    buf_add_varint(out, rec->id);
    buf_add_varint(out, rec->n);
    for (size_t i = 0; i < rec->n; i++) {
        const struct rec_flag_group *g = &rec->groups[i];
        buf_add_varint(out, g->flags);
        buf_add_keywords(out, g->keywords, g->nkeywords);
        uidset_encode(&g->uids, out);
    }
}

enum errcode
rec_flags_decode(struct span body, uint8_t version, struct arena *a,
                 struct rec_flags *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_flags rec = {0};

    if (check_version(version, REC_FLAGS, err) != ERR_OK)
        return ERR_VERSION;
    rec.id = rd_varint(&r);
    uint64_t n = rd_varint(&r);
    if (n == 0 || n > r.left.n / 3)
        return bad(REC_FLAGS, err);
    rec.n = (size_t)n;
    rec.groups = arena_array(a, rec.n, sizeof(*rec.groups));
    for (size_t i = 0; i < rec.n && !r.bad; i++) {
        struct rec_flag_group *g = &rec.groups[i];
        g->flags = rd_varint32(&r);
        if ((g->flags & ~(uint32_t)FLAGS_SETTABLE) != 0)
            r.bad = true;
        g->keywords = rd_keywords(&r, a, &g->nkeywords);
        g->uids = read_uids(&r, a);
    }
    if (!rd_done(&r))
        return bad(REC_FLAGS, err);
    *ret = rec;
    return ERR_OK;
}

/* ------------------------------------------------------ expunge and purge */

void
rec_expunge_encode(const struct rec_expunge *rec, struct buf *out)
{
    buf_add_varint(out, rec->id);
    uidset_encode(&rec->uids, out);
}

enum errcode
rec_expunge_decode(struct span body, uint8_t version, struct arena *a,
                   struct rec_expunge *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_expunge rec = {0};

    if (check_version(version, REC_EXPUNGE, err) != ERR_OK)
        return ERR_VERSION;
    rec.id = rd_varint(&r);
    rec.uids = read_uids(&r, a);
    if (!rd_done(&r))
        return bad(REC_EXPUNGE, err);
    *ret = rec;
    return ERR_OK;
}

void
rec_purge_encode(const struct rec_purge *rec, struct buf *out)
{
    buf_add_varint(out, rec->id);
    uidset_encode(&rec->uids, out);
    buf_add_byte(out, rec->live ? 1 : 0);
}

enum errcode
rec_purge_decode(struct span body, uint8_t version, struct arena *a,
                 struct rec_purge *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_purge rec = {0};

    if (check_version(version, REC_PURGE, err) != ERR_OK)
        return ERR_VERSION;
    rec.id = rd_varint(&r);
    rec.uids = read_uids(&r, a);
    rec.live = read_bool(&r);
    if (!rd_done(&r))
        return bad(REC_PURGE, err);
    *ret = rec;
    return ERR_OK;
}

/* ------------------------------------------------------------------ user */

void
rec_user_encode(const struct rec_user *rec, struct buf *out)
{
    add_text(out, rec->user);
    buf_add_byte(out, rec->kind);
    add_text(out, rec->name);
    buf_add_byte(out, rec->is_set ? 1 : 0);
    if (rec->is_set)
        buf_add_blob(out, rec->value);
}

enum errcode
rec_user_decode(struct span body, uint8_t version, struct arena *a,
                struct rec_user *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_user rec = {0};

    if (check_version(version, REC_USER, err) != ERR_OK)
        return ERR_VERSION;
    rec.user = rd_text(&r, USER_MAX, a);
    rec.kind = rd_u8(&r);
    rec.name = rd_text(&r, MAILBOX_NAME_MAX, a);
    rec.is_set = read_bool(&r);
    if (rec.is_set)
        rec.value = rd_blob(&r, USER_VALUE_MAX);
    if (!rd_done(&r))
        return bad(REC_USER, err);
    *ret = rec;
    return ERR_OK;
}

/* ----------------------------------------------------------------- quota */

void
rec_quota_encode(const struct rec_quota *rec, struct buf *out)
{
    add_text(out, rec->root);
    buf_add_byte(out, rec->is_set ? 1 : 0);
    if (rec->is_set) {
        for (size_t i = 0; i < QUOTA_RESOURCES; i++)
            buf_add_varint(out, rec->limit[i]);
    }
}

enum errcode
rec_quota_decode(struct span body, uint8_t version, struct arena *a,
                 struct rec_quota *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_quota rec = {0};

    if (check_version(version, REC_QUOTA, err) != ERR_OK)
        return ERR_VERSION;
    rec.root = rd_text(&r, MAILBOX_NAME_MAX, a);
    rec.is_set = read_bool(&r);
    if (rec.is_set) {
        for (size_t i = 0; i < QUOTA_RESOURCES; i++)
            rec.limit[i] = rd_varint(&r);
    }
    if (!rd_done(&r) || rec.root[0] == '\0')
        return bad(REC_QUOTA, err);
    *ret = rec;
    return ERR_OK;
}

/* ---------------------------------------------- annotations, \Seen, marks */

/* How an annotation is set. */
#define ANNOT_KEEP 1U
#define ANNOT_RAISE 2U

void
rec_annot_encode(const struct rec_annot *rec, struct buf *out)
{
    buf_add_varint(out, rec->id);
    buf_add_varint(out, rec->uid);
    buf_add_byte(out, (uint8_t)((rec->keep_modseq ? ANNOT_KEEP : 0U) |
                                (rec->raise_head ? ANNOT_RAISE : 0U)));
    buf_add_varint(out, rec->n);
    for (size_t i = 0; i < rec->n; i++) {
        const struct rec_annot_item *item = &rec->items[i];
        add_text(out, item->entry);
        add_text(out, item->user);
        buf_add_byte(out, item->is_set ? 1 : 0);
        if (item->is_set)
            buf_add_blob(out, item->value);
    }
}

enum errcode
rec_annot_decode(struct span body, uint8_t version, struct arena *a,
                 struct rec_annot *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_annot rec = {0};

    if (check_version(version, REC_ANNOT, err) != ERR_OK)
        return ERR_VERSION;
    rec.id = rd_varint(&r);
    rec.uid = rd_varint32(&r);
    const uint8_t how = rd_u8(&r);
    rec.keep_modseq = (how & ANNOT_KEEP) != 0;
    rec.raise_head = (how & ANNOT_RAISE) != 0;
    uint64_t n = rd_varint(&r);
    if (n == 0 || n > r.left.n / 4 || (rec.id == 0 && rec.uid != 0) ||
        how > ANNOT_RAISE || (rec.raise_head && (rec.id == 0 || rec.uid != 0)))
        return bad(REC_ANNOT, err);
    rec.n = (size_t)n;
    rec.items = arena_array(a, rec.n, sizeof(*rec.items));
    for (size_t i = 0; i < rec.n && !r.bad; i++) {
        struct rec_annot_item *item = &rec.items[i];
        item->entry = rd_text(&r, ANNOT_ENTRY_MAX, a);
        item->user = rd_text(&r, USER_MAX, a);
        item->is_set = read_bool(&r);
        if (item->is_set)
            item->value = rd_blob(&r, ANNOT_VALUE_MAX);
        if (item->entry[0] == '\0')
            r.bad = true;
    }
    if (!rd_done(&r))
        return bad(REC_ANNOT, err);
    *ret = rec;
    return ERR_OK;
}

void
rec_seen_encode(const struct rec_seen *rec, struct buf *out)
{
    buf_add_varint(out, rec->id);
    add_text(out, rec->user);
    uidset_encode(&rec->seen, out);
    uidset_encode(&rec->unseen, out);
    buf_add_byte(out, rec->keep_modseq ? 1 : 0);
}

enum errcode
rec_seen_decode(struct span body, uint8_t version, struct arena *a,
                struct rec_seen *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_seen rec = {0};

    if (check_version(version, REC_SEEN, err) != ERR_OK)
        return ERR_VERSION;
    rec.id = rd_varint(&r);
    rec.user = rd_text(&r, USER_MAX, a);
    rec.seen = read_uids(&r, a);
    rec.unseen = read_uids(&r, a);
    rec.keep_modseq = read_bool(&r);
    if (!rd_done(&r) || rec.user[0] == '\0')
        return bad(REC_SEEN, err);
    *ret = rec;
    return ERR_OK;
}

void
rec_forget_encode(const struct rec_forget *rec, struct buf *out)
{
    buf_add_varint(out, rec->n);
    for (size_t i = 0; i < rec->n; i++)
        buf_add(out, span_of(rec->hashes[i], DELIVERY_HASH_BYTES));
}

enum errcode
rec_forget_decode(struct span body, uint8_t version, struct arena *a,
                  struct rec_forget *ret, struct error *err)
{
    struct rd r = rd_init(body);

    if (check_version(version, REC_FORGET, err) != ERR_OK)
        return ERR_VERSION;
    uint64_t n = rd_varint(&r);
    if (r.bad || n == 0 || n > RECORD_BYTES_MAX / DELIVERY_HASH_BYTES ||
        r.left.n != n * DELIVERY_HASH_BYTES)
        return bad(REC_FORGET, err);
    uint8_t(*hashes)[DELIVERY_HASH_BYTES] =
        arena_array(a, (size_t)n, sizeof(*hashes));
    memcpy(hashes, r.left.p, r.left.n);
    *ret = (struct rec_forget){.n = (size_t)n, .hashes = hashes};
    return ERR_OK;
}

/* ------------------------------------------------- what a peer says it is */

void
rec_rows_encode(const struct rec_rows *rec, struct buf *out)
{
    buf_add_varint(out, rec->id);
    buf_add_varint(out, rec->n);
    for (size_t i = 0; i < rec->n; i++) {
        buf_add_varint(out, rec->rows[i].uid);
        message_encode(&rec->rows[i], out);
    }
}

enum errcode
rec_rows_decode(struct span body, uint8_t version, struct arena *a,
                struct rec_rows *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_rows rec = {0};
    uint32_t last = 0;

    if (check_version(version, REC_ROWS, err) != ERR_OK)
        return ERR_VERSION;
    rec.id = rd_varint(&r);
    uint64_t n = rd_varint(&r);
    if (n == 0 || n > r.left.n / ROW_BYTES_MIN)
        return bad(REC_ROWS, err);
    rec.n = (size_t)n;
    rec.rows = arena_array(a, rec.n, sizeof(*rec.rows));
    for (size_t i = 0; i < rec.n && !r.bad; i++) {
        struct message *m = &rec.rows[i];
        m->uid = rd_varint32(&r);
        message_read(&r, a, m);
        if (m->uid <= last || m->modseq == 0)
            r.bad = true;
        last = m->uid;
    }
    if (!rd_done(&r))
        return bad(REC_ROWS, err);
    *ret = rec;
    return ERR_OK;
}

void
rec_head_encode(const struct rec_head *rec, struct buf *out)
{
    buf_add_varint(out, rec->id);
    buf_add_varint(out, rec->uidvalidity);
    buf_add_varint(out, rec->uidnext);
    buf_add_varint(out, rec->highestmodseq);
    buf_add_varint(out, rec->created_modseq);
    buf_add_varint(out, rec->purged_modseq);
    buf_add_varint(out, rec->recent_uid);
    buf_add_varint(out, rec->options);
    buf_add_varint(out, rec->recent_time_s);
    buf_add_varint(out, rec->last_append_us);
    buf_add_varint(out, rec->pop3_login_s);
    buf_add_varint(out, rec->pop3_show_after_s);
}

enum errcode
rec_head_decode(struct span body, uint8_t version, struct arena *a,
                struct rec_head *ret, struct error *err)
{
    struct rd r = rd_init(body);
    struct rec_head rec = {0};

    (void)a; /* nothing is allocated */
    if (check_version(version, REC_HEAD, err) != ERR_OK)
        return ERR_VERSION;
    rec.id = rd_varint(&r);
    rec.uidvalidity = rd_varint32(&r);
    rec.uidnext = rd_varint32(&r);
    rec.highestmodseq = rd_varint(&r);
    rec.created_modseq = rd_varint(&r);
    rec.purged_modseq = rd_varint(&r);
    rec.recent_uid = rd_varint32(&r);
    rec.options = rd_varint32(&r);
    rec.recent_time_s = rd_varint(&r);
    rec.last_append_us = rd_varint(&r);
    rec.pop3_login_s = rd_varint(&r);
    rec.pop3_show_after_s = rd_varint(&r);
    if (!rd_done(&r) || rec.uidvalidity == 0 || rec.uidnext == 0 ||
        (rec.options & ~(uint32_t)MBOX_KNOWN) != 0)
        return bad(REC_HEAD, err);
    *ret = rec;
    return ERR_OK;
}
