/*
 * store/rows.c - keys and values.
 *
 * Keys are big-endian so that iterating goes by UID, MODSEQ and name.  Values
 * are varints and blobs without a version of their own: the schema has one, in
 * a local row that is looked at before anything else.
 *
 * The digest of a message is over its whole row, tombstone or not, so that two
 * stores with equal roots also answer VANISHED alike.
 */
#include "store/rows.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/names.h"

/* ------------------------------------------------------------------ keys */

static void
put(struct key *k, const void *p, size_t n)
{
    ENSURE(n <= KEY_MAX - k->n);
    if (n > 0)
        memcpy(k->b + k->n, p, n);
    k->n += n;
}

static void
put_be(struct key *k, uint64_t v, size_t n)
{
    ENSURE(n <= KEY_MAX - k->n);
    for (size_t i = 0; i < n; i++)
        k->b[k->n + i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    k->n += n;
}

static void
start(struct key *k, enum table table)
{
    k->n = 1;
    k->b[0] = (uint8_t)table;
}

struct span
key_table(struct key *k, enum table table)
{
    start(k, table);
    return key_span(k);
}

struct span
key_of_mailbox(struct key *k, enum table table, mbid_t id)
{
    start(k, table);
    put_be(k, id, 8);
    return key_span(k);
}

struct span
key_mailbox(struct key *k, mbid_t id)
{
    return key_of_mailbox(k, TAB_MAILBOX, id);
}

struct span
key_message(struct key *k, mbid_t id, uint32_t uid)
{
    key_of_mailbox(k, TAB_MESSAGE, id);
    put_be(k, uid, 4);
    return key_span(k);
}

struct span
key_block(struct key *k, mbid_t id, uint32_t block)
{
    key_of_mailbox(k, TAB_BLOCK, id);
    put_be(k, block, 4);
    return key_span(k);
}

struct span
key_changed(struct key *k, mbid_t id, modseq_t modseq, uint32_t uid)
{
    key_of_mailbox(k, TAB_CHANGED, id);
    put_be(k, modseq, 8);
    put_be(k, uid, 4);
    return key_span(k);
}

struct span
key_changed_set(struct key *k, mbid_t id, modseq_t modseq, uint32_t block)
{
    key_of_mailbox(k, TAB_CHANGED, id);
    put_be(k, modseq, 8);
    put_be(k, block, 3);
    return key_span(k);
}

struct span
key_keyword(struct key *k, mbid_t id, struct span keyword)
{
    key_of_mailbox(k, TAB_KEYWORD, id);
    put(k, keyword.p, keyword.n);
    return key_span(k);
}

struct span
key_guidref(struct key *k, const struct guid *guid, mbid_t id, uint32_t uid)
{
    start(k, TAB_GUIDREF);
    put(k, guid->b, GUID_BYTES);
    put_be(k, id, 8);
    put_be(k, uid, 4);
    return key_span(k);
}

struct span
key_rights_of(struct key *k, struct span ident)
{
    start(k, TAB_RIGHTS);
    put(k, ident.p, ident.n);
    put(k, "", 1);
    return key_span(k);
}

struct span
key_rights(struct key *k, struct span ident, mbid_t id)
{
    key_rights_of(k, ident);
    put_be(k, id, 8);
    return key_span(k);
}

struct span
key_user(struct key *k, const char *user, uint8_t kind, const char *name)
{
    start(k, TAB_USER);
    put(k, user, strlen(user) + 1);
    put(k, &kind, 1);
    put(k, name, strlen(name));
    return key_span(k);
}

struct span
key_annots_of(struct key *k, mbid_t id, uint32_t uid)
{
    key_of_mailbox(k, TAB_ANNOT, id);
    put_be(k, uid, 4);
    return key_span(k);
}

struct span
key_annot(struct key *k, mbid_t id, uint32_t uid, const char *entry,
          const char *user)
{
    key_annots_of(k, id, uid);
    put(k, entry, strlen(entry) + 1);
    put(k, user, strlen(user));
    return key_span(k);
}

bool
key_get_annot(struct span key, uint32_t *ret_uid, struct span *ret_entry,
              struct span *ret_user)
{
    struct rd r = rd_init(span_skip(key, MIN(key.n, (size_t)9)));
    uint32_t uid = rd_u32be(&r);
    ptrdiff_t nul = span_find_byte(r.left, 0, 0);

    if (r.bad || nul <= 0)
        return false;
    *ret_uid = uid;
    *ret_entry = span_sub(r.left, 0, (size_t)nul);
    *ret_user = span_skip(r.left, (size_t)nul + 1);
    return true;
}

struct span
key_seen(struct key *k, mbid_t id, uint32_t chunk, struct span user)
{
    key_of_mailbox(k, TAB_SEEN, id);
    put_be(k, chunk, 2);
    put(k, user.p, user.n);
    return key_span(k);
}

bool
key_get_seen(struct span key, uint32_t *ret_chunk, struct span *ret_user)
{
    if (key.n <= 11)
        return false;
    *ret_chunk = (uint32_t)key.p[9] << 8 | key.p[10];
    *ret_user = span_skip(key, 11);
    return true;
}

struct span
key_body(struct key *k, const struct guid *guid, uint32_t part)
{
    start(k, TAB_BODY);
    put(k, guid->b, GUID_BYTES);
    put_be(k, part, 2);
    return key_span(k);
}

struct span
key_local(struct key *k, enum local_row row)
{
    start(k, TAB_LOCAL);
    put_be(k, (uint64_t)row, 1);
    return key_span(k);
}

struct span
key_text(struct key *k, enum table table, struct span text)
{
    start(k, table);
    put(k, text.p, text.n);
    return key_span(k);
}

struct span
key_epoch(struct key *k, epoch_t epoch)
{
    start(k, TAB_EPOCH);
    put_be(k, epoch, 4);
    return key_span(k);
}

uint32_t
key_get_uid(struct span key)
{
    struct rd r = rd_init(key.n < 13 ? SPAN_EMPTY : span_skip(key, key.n - 4));
    return rd_u32be(&r);
}

mbid_t
key_get_mbid(struct span key)
{
    struct rd r = rd_init(span_skip(key, 1));
    return rd_u64be(&r);
}

/* ---------------------------------------------------------------- fields */

void
buf_add_zigzag(struct buf *b, int64_t v)
{
    buf_add_varint(b, (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0));
}

int64_t
rd_zigzag(struct rd *r)
{
    uint64_t v = rd_varint(r);
    return (int64_t)(v >> 1 ^ ((v & 1) != 0 ? UINT64_MAX : 0));
}

const char *
rd_text(struct rd *r, size_t max, struct arena *a)
{
    struct span s = rd_blob(r, max);
    if (span_find_byte(s, 0, 0) >= 0)
        r->bad = true;
    return r->bad ? "" : arena_str(a, s);
}

const struct span *
rd_keywords(struct rd *r, struct arena *a, size_t *ret_n)
{
    uint64_t n = rd_varint(r);

    *ret_n = 0;
    if (n > KEYWORDS_PER_MESSAGE)
        r->bad = true;
    if (r->bad || n == 0)
        return NULL;
    struct span *keywords = arena_array(a, (size_t)n, sizeof(*keywords));
    for (size_t i = 0; i < n; i++) {
        struct span k = rd_blob(r, KEYWORD_MAX);
        if (k.n == 0 || (i > 0 && span_cmp(keywords[i - 1], k) >= 0))
            r->bad = true;
        if (r->bad)
            return NULL;
        keywords[i] = arena_copy(a, k);
    }
    *ret_n = (size_t)n;
    return keywords;
}

void
buf_add_keywords(struct buf *b, const struct span *keywords, size_t n)
{
    buf_add_varint(b, n);
    for (size_t i = 0; i < n; i++)
        buf_add_blob(b, keywords[i]);
}

static void
add_text(struct buf *b, const char *s)
{
    buf_add_blob(b, span_str(s == NULL ? "" : s));
}

/* ---------------------------------------------------------------- values */

void
mailbox_encode(const struct mailbox *mb, struct buf *out)
{
    add_text(out, mb->uniqueid.s);
    add_text(out, mb->name);
    add_text(out, mb->acl);
    add_text(out, mb->quota_root);
    add_text(out, mb->special_use);
    add_text(out, mb->partition);
    buf_add_varint(out, mb->uidvalidity);
    buf_add_varint(out, mb->uidnext);
    buf_add_varint(out, mb->highestmodseq);
    buf_add_varint(out, mb->created_modseq);
    buf_add_varint(out, mb->exists);
    buf_add_varint(out, mb->unseen);
    buf_add_varint(out, mb->deleted);
    buf_add_varint(out, mb->bytes);
    buf_add_varint(out, mb->expunged);
    buf_add_varint(out, mb->recent_uid);
    buf_add_varint(out, mb->uid_epoch);
    buf_add_varint(out, mb->options);
    buf_add_varint(out, mb->last_append_us);
    buf_add_varint(out, mb->annot_bytes);
    buf_add_varint(out, mb->purged_modseq);
    buf_add_varint(out, mb->recent_time_s);
    buf_add_varint(out, mb->pop3_login_s);
    buf_add_varint(out, mb->pop3_show_after_s);
    buf_add_u64le(out, mb->digest);
}

static void
read_uniqueid(struct rd *r, struct uniqueid *ret)
{
    struct span s = rd_blob(r, UNIQUEID_MAX);
    if (s.n == 0 || span_find_byte(s, 0, 0) >= 0)
        r->bad = true;
    if (r->bad)
        return;
    memset(ret->s, 0, sizeof(ret->s));
    memcpy(ret->s, s.p, s.n);
}

enum errcode
mailbox_decode(struct span in, struct arena *a, struct mailbox *ret,
               struct error *err)
{
    struct rd r = rd_init(in);
    struct mailbox mb = {0};

    read_uniqueid(&r, &mb.uniqueid);
    mb.name = rd_text(&r, MAILBOX_NAME_MAX, a);
    mb.acl = rd_text(&r, ACL_BYTES_MAX, a);
    mb.quota_root = rd_text(&r, MAILBOX_NAME_MAX, a);
    mb.special_use = rd_text(&r, KEYWORD_MAX * 8, a);
    mb.partition = rd_text(&r, USER_MAX, a);
    mb.uidvalidity = rd_varint32(&r);
    mb.uidnext = rd_varint32(&r);
    mb.highestmodseq = rd_varint(&r);
    mb.created_modseq = rd_varint(&r);
    mb.exists = rd_varint32(&r);
    mb.unseen = rd_varint32(&r);
    mb.deleted = rd_varint32(&r);
    mb.bytes = rd_varint(&r);
    mb.expunged = rd_varint32(&r);
    mb.recent_uid = rd_varint32(&r);
    mb.uid_epoch = rd_varint32(&r);
    mb.options = rd_varint32(&r);
    mb.last_append_us = rd_varint(&r);
    mb.annot_bytes = rd_varint(&r);
    mb.purged_modseq = rd_varint(&r);
    mb.recent_time_s = rd_varint(&r);
    mb.pop3_login_s = rd_varint(&r);
    mb.pop3_show_after_s = rd_varint(&r);
    mb.digest = rd_u64le(&r);
    if (!rd_done(&r) || mb.name[0] == '\0' || mb.uidvalidity == 0 ||
        mb.uidnext == 0)
        return error_set(err, ERR_CORRUPT, "a mailbox head does not decode");
    mb.is_deleted = name_is_deleted(mb.name);
    *ret = mb;
    return ERR_OK;
}

void
message_encode(const struct message *m, struct buf *out)
{
    buf_add_varint(out, m->flags);
    buf_add(out, span_of(m->guid.b, GUID_BYTES));
    buf_add_varint(out, m->modseq);
    buf_add_varint(out, m->created_modseq);
    buf_add_zigzag(out, m->internal_s);
    buf_add_zigzag(out, m->internal_tz_min);
    buf_add_zigzag(out, m->saved_s);
    /* Most rows never change: then this is one byte. */
    buf_add_zigzag(out,
                   (int64_t)((uint64_t)m->updated_s - (uint64_t)m->saved_s));
    buf_add_varint(out, m->size);
    buf_add_keywords(out, m->keywords, m->nkeywords);
    if ((m->flags & FLAG_EXPUNGED) != 0)
        buf_add_zigzag(out, m->expunged_s);
}

/* What the flags of a row may be: only what is gone can have come back. */
static bool
flags_fit(uint32_t flags)
{
    const uint32_t known =
        FLAGS_SETTABLE | FLAG_EXPUNGED | FLAG_UNEXPUNGED | FLAG_ANNOTATED;
    return (flags & ~known) == 0 &&
           (flags & (FLAG_EXPUNGED | FLAG_UNEXPUNGED)) != FLAG_UNEXPUNGED;
}

void
message_read(struct rd *r, struct arena *a, struct message *ret)
{
    struct message m = {.uid = ret->uid};

    m.flags = rd_varint32(r);
    struct span guid = rd_span(r, GUID_BYTES);
    if (!r->bad)
        memcpy(m.guid.b, guid.p, GUID_BYTES);
    m.modseq = rd_varint(r);
    m.created_modseq = rd_varint(r);
    m.internal_s = rd_zigzag(r);
    int64_t tz = rd_zigzag(r);
    if (tz < INT16_MIN || tz > INT16_MAX)
        r->bad = true;
    m.internal_tz_min = r->bad ? 0 : (int16_t)tz;
    m.saved_s = rd_zigzag(r);
    m.updated_s = (int64_t)((uint64_t)rd_zigzag(r) + (uint64_t)m.saved_s);
    m.size = rd_varint(r);
    m.keywords = rd_keywords(r, a, &m.nkeywords);
    if ((m.flags & FLAG_EXPUNGED) != 0)
        m.expunged_s = rd_zigzag(r);
    if (!flags_fit(m.flags))
        r->bad = true;
    if (!r->bad)
        *ret = m;
}

enum errcode
message_decode(struct span in, struct arena *a, struct message *ret,
               struct error *err)
{
    struct rd r = rd_init(in);
    struct message m = {.uid = ret->uid};

    message_read(&r, a, &m);
    if (!rd_done(&r))
        return error_set(err, ERR_CORRUPT, "a message row does not decode");
    *ret = m;
    return ERR_OK;
}

enum errcode
changed_decode(struct span in, struct uidset *ret, struct error *err)
{
    struct rd r = rd_init(in);

    uidset_decode(&r, (size_t)1 << (CHANGED_BLOCK_BITS - 1), ret);
    if (!rd_done(&r) || ret->n == 0 ||
        ret->r[0].first >> CHANGED_BLOCK_BITS !=
            ret->r[ret->n - 1].last >> CHANGED_BLOCK_BITS)
        return error_set(err, ERR_CORRUPT, "a row of changes does not decode");
    return ERR_OK;
}

enum errcode
changed_row_decode(struct span key, struct span value, modseq_t *ret_modseq,
                   struct uidset *ret, struct error *err)
{
    struct rd r = rd_init(span_skip(key, MIN(key.n, (size_t)9)));
    const modseq_t modseq = rd_u64be(&r);
    const struct span rest = r.left;
    enum errcode rc = ERR_OK;

    if (rest.n == 4) {
        const uint32_t uid = rd_u32be(&r);
        uidset_clear(ret);
        uidset_add(ret, uid, uid);
    } else if (rest.n == 3) {
        rc = changed_decode(value, ret, err);
        if (rc == ERR_OK &&
            ret->r[0].first >> CHANGED_BLOCK_BITS != (uint32_t)rd_be(&r, 3))
            r.bad = true;
    } else {
        r.bad = true;
    }
    if (rc == ERR_OK && r.bad)
        rc = error_set(err, ERR_CORRUPT, "a malformed key of table c");
    if (rc == ERR_OK)
        *ret_modseq = modseq;
    return rc;
}

void
epoch_encode(const struct epoch_entry *e, struct buf *out)
{
    buf_add_varint(out, e->epoch);
    buf_add_varint(out, e->fork_lsn);
    buf_add_u64le(out, e->fork_chain);
    buf_add_varint(out, e->time_us);
    buf_add_varint(out, e->uid_headroom);
    buf_add(out, span_of(e->instance.b, INSTANCE_ID_BYTES));
}

void
epoch_read(struct rd *r, struct epoch_entry *ret)
{
    struct epoch_entry e = {0};

    e.epoch = rd_varint32(r);
    e.fork_lsn = rd_varint(r);
    e.fork_chain = rd_u64le(r);
    e.time_us = rd_varint(r);
    e.uid_headroom = rd_varint32(r);
    struct span id = rd_span(r, INSTANCE_ID_BYTES);
    if (e.epoch == 0 || e.epoch > EPOCH_MAX)
        r->bad = true;
    if (r->bad)
        return;
    memcpy(e.instance.b, id.p, INSTANCE_ID_BYTES);
    *ret = e;
}

void
quota_encode(const struct quota *q, struct buf *out)
{
    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        buf_add_varint(out, q->limit[i]);
    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        buf_add_varint(out, q->used[i]);
}

enum errcode
quota_decode(struct span in, struct quota *ret, struct error *err)
{
    struct rd r = rd_init(in);
    struct quota q = {.root = ret->root};

    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        q.limit[i] = rd_varint(&r);
    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        q.used[i] = rd_varint(&r);
    if (!rd_done(&r))
        return error_set(err, ERR_CORRUPT, "a quota row does not decode");
    *ret = q;
    return ERR_OK;
}

void
pos_encode(const struct store_pos *pos, struct buf *out)
{
    buf_add_varint(out, pos->applied.epoch);
    buf_add_varint(out, pos->applied.lsn);
    buf_add_u64le(out, pos->chain);
    buf_add_u64le(out, pos->digest);
    buf_add_varint(out, pos->time_us);
}

enum errcode
pos_decode(struct span in, struct store_pos *ret, struct error *err)
{
    struct rd r = rd_init(in);
    struct store_pos pos = {0};

    pos.applied.epoch = rd_varint32(&r);
    pos.applied.lsn = rd_varint(&r);
    pos.chain = rd_u64le(&r);
    pos.digest = rd_u64le(&r);
    pos.time_us = rd_varint(&r);
    if (!rd_done(&r))
        return error_set(err, ERR_CORRUPT,
                         "the applied position does not decode");
    *ret = pos;
    return ERR_OK;
}

/* --------------------------------------------------------------- digests */

uint64_t
row_hash(struct span key, struct span value)
{
    /* One hash over both; the key's length is fixed by its table or by the
     * value, so that no two rows run together. */
    return XXH3_64bits_withSeed(value.p, value.n, XXH3_64bits(key.p, key.n));
}

uint64_t
owner_hash(const char *owner, uint64_t digest)
{
    if (digest == 0)
        return 0;
    return XXH3_64bits_withSeed(owner, strlen(owner), digest);
}

bool
name_is_deleted(const char *name)
{
    return strncmp(name, "DELETED.", 8) == 0;
}

const char *
row_owner_of_name(const char *name, struct arena *a)
{
    const char *owner = name_owner(name, a);
    return owner == NULL ? "" : owner;
}

bool
table_is_replicated(uint8_t table)
{
    return table != 0 && strchr("abdekmqsuv", table) != NULL;
}
