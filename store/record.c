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
    [REC_EPOCH] = "epoch", [REC_MAILBOX] = "mailbox", [REC_RENAME] = "rename",
    [REC_SET] = "set",     [REC_APPEND] = "append",   [REC_BODY] = "body",
    [REC_FLAGS] = "flags", [REC_EXPUNGE] = "expunge", [REC_USER] = "user",
    [REC_QUOTA] = "quota", [REC_PURGE] = "purge",
};

const char *
record_type_name(uint8_t type)
{
    return type < ARRAY_LEN(type_names) ? type_names[type] : NULL;
}

uint8_t
record_version(enum record_type type)
{
    (void)type; /* all are in their first form */
    return 1;
}

static enum errcode
check_version(uint8_t version, enum record_type type, struct error *err)
{
    if (version == 0 || version > record_version(type))
        return error_set(
            err, ERR_VERSION, "%s record of version %u, we know up to %u",
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
        mb.uidnext == 0)
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
    if (n == 0 || n > r.left.n / 4)
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
    if (!rd_done(&r))
        return bad(REC_RENAME, err);
    *ret = rec;
    return ERR_OK;
}

/* ------------------------------------------------------------------- set */

#define SET_KNOWN                                                              \
    ((uint32_t)(SET_ACL | SET_SPECIAL_USE | SET_RECENT | SET_QUOTA_ROOT))

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
    if ((rec->fields & SET_QUOTA_ROOT) != 0)
        add_text(out, rec->quota_root);
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
    if ((rec.fields & SET_QUOTA_ROOT) != 0)
        rec.quota_root = rd_text(&r, MAILBOX_NAME_MAX, a);
    if (!rd_done(&r))
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
    if (has > (APPEND_HAS_BODY | APPEND_HAS_DEDUP) || rec.msg.uid == 0 ||
        (rec.msg.flags & FLAG_EXPUNGED) != 0)
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
        buf_add_varint(out, rec->storage_bytes);
        buf_add_varint(out, rec->messages);
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
        rec.storage_bytes = rd_varint(&r);
        rec.messages = rd_varint(&r);
    }
    if (!rd_done(&r) || rec.root[0] == '\0')
        return bad(REC_QUOTA, err);
    *ret = rec;
    return ERR_OK;
}

/* -------------------------------------------------------------- describe */

static void
describe_append(const struct rec_append *rec, struct buf *out)
{
    char guid[GUID_TEXT_BYTES];

    buf_addf(out,
             " mbid=%" PRIu64 " uid=%" PRIu32 " guid=%s size=%" PRIu64
             " flags=0x%" PRIx32 " keywords=%zu",
             rec->id, rec->msg.uid, guid_text(&rec->msg.guid, guid),
             rec->msg.size, rec->msg.flags, rec->msg.nkeywords);
    if (rec->has_body)
        buf_addf(out, " body=%zu", rec->body.n);
    if (rec->has_dedup)
        buf_add_str(out, " dedup=1");
}

static void
describe_flags(const struct rec_flags *rec, struct buf *out)
{
    buf_addf(out, " mbid=%" PRIu64, rec->id);
    for (size_t i = 0; i < rec->n; i++) {
        buf_addf(out, " flags=0x%" PRIx32 " keywords=%zu uids=",
                 rec->groups[i].flags, rec->groups[i].nkeywords);
        uidset_format(&rec->groups[i].uids, out);
    }
}

static void
describe_rename(const struct rec_rename *rec, struct buf *out)
{
    for (size_t i = 0; i < rec->n; i++)
        buf_addf(out, " mbid=%" PRIu64 " name=%s", rec->moves[i].id,
                 rec->moves[i].name);
}

static void
describe_set(const struct rec_set *rec, struct buf *out)
{
    buf_addf(out, " mbid=%" PRIu64, rec->id);
    if ((rec->fields & SET_ACL) != 0)
        buf_add_str(out, " acl=1");
    if ((rec->fields & SET_SPECIAL_USE) != 0)
        buf_addf(out, " special_use=\"%s\"", rec->special_use);
    if ((rec->fields & SET_RECENT) != 0)
        buf_addf(out, " recent_uid=%" PRIu32, rec->recent_uid);
    if ((rec->fields & SET_QUOTA_ROOT) != 0)
        buf_addf(out, " quota_root=%s", rec->quota_root);
}

static void
describe_body(const struct rec_body *rec, struct buf *out)
{
    char guid[GUID_TEXT_BYTES];

    buf_addf(out,
             " guid=%s part=%" PRIu32 "/%" PRIu32 " size=%" PRIu64 " body=%zu",
             guid_text(&rec->guid, guid), rec->part, rec->parts, rec->size,
             rec->body.n);
}

/* Decode as KIND and, if that went well, run DO on `r`. */
#define DESCRIBE(kind, DO)                                                     \
    do {                                                                       \
        struct rec_##kind r;                                                   \
        rc = rec_##kind##_decode(rec->body, rec->version, &a, &r, &err);       \
        if (rc == ERR_OK) {                                                    \
            DO;                                                                \
        }                                                                      \
    } while (0)

void
record_describe(const struct record *rec, struct buf *out)
{
    struct arena a = ARENA_INIT;
    struct error err = {0};
    enum errcode rc = ERR_CORRUPT;
    const char *name = record_type_name(rec->type);

    if (name == NULL) {
        buf_addf(out, "undecodable: record of unknown type %u", rec->type);
        return;
    }
    const size_t start = out->n;
    buf_add_str(out, name);
    switch ((enum record_type)rec->type) {
    case REC_EPOCH:
        DESCRIBE(epoch, buf_addf(out,
                                 " epoch=%" PRI_EPOCH " fork=%" PRI_LSN
                                 " headroom=%" PRIu32 " reason=\"%s\"",
                                 r.entry.epoch, r.entry.fork_lsn,
                                 r.entry.uid_headroom, r.reason));
        break;
    case REC_MAILBOX:
        DESCRIBE(mailbox, buf_addf(out,
                                   " mbid=%" PRI_LSN " name=%s uniqueid=%s "
                                   "uidvalidity=%" PRIu32,
                                   rec->lsn, r.head.name, r.head.uniqueid.s,
                                   r.head.uidvalidity));
        break;
    case REC_RENAME:
        DESCRIBE(rename, describe_rename(&r, out));
        break;
    case REC_SET:
        DESCRIBE(set, describe_set(&r, out));
        break;
    case REC_APPEND:
        DESCRIBE(append, describe_append(&r, out));
        break;
    case REC_BODY:
        DESCRIBE(body, describe_body(&r, out));
        break;
    case REC_FLAGS:
        DESCRIBE(flags, describe_flags(&r, out));
        break;
    case REC_EXPUNGE:
    case REC_PURGE:
        DESCRIBE(expunge, {
            buf_addf(out, " mbid=%" PRIu64 " uids=", r.id);
            uidset_format(&r.uids, out);
        });
        break;
    case REC_USER:
        DESCRIBE(user, buf_addf(out, " user=%s kind=%c name=%s set=%d", r.user,
                                r.kind, r.name, r.is_set));
        break;
    case REC_QUOTA:
        DESCRIBE(quota,
                 buf_addf(out,
                          " root=%s set=%d storage=%" PRIu64
                          " messages=%" PRIu64,
                          r.root, r.is_set, r.storage_bytes, r.messages));
        break;
    }
    if (rc != ERR_OK) {
        out->n = start;
        buf_addf(out, "undecodable: %s", err.text);
    }
    arena_free(&a);
}
