/*
 * store/verify.c - counting everything anew: counters, quota usage and digests
 * from the replicated rows alone, compared with what is kept (snap_verify), or
 * with the derived rows written on the way (store_build_derived, seeding).
 *
 * One walk over the mailboxes; quota usage and users' digests gather in two
 * tables that are compared at the end.
 */
#include "store/snap_private.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/acl.h"

#define BUCKETS 1024U
#define BATCH_BYTES (4U << 20)

/* A sum by name: used quota of a root, or digest of a user. */
struct sum {
    const char *name;
    uint64_t digest;
    uint64_t used[QUOTA_RESOURCES];
    struct sum *next;
};

/* Messages of a block of UIDs that share rows of TAB_CHANGED. */
struct shared {
    uint32_t block;
    size_t n;
    struct shared_one {
        modseq_t modseq;
        uint32_t uid;
    } of[1U << CHANGED_BLOCK_BITS];
};

struct audit {
    struct kv *kv;
    const struct kv_snap *view;
    struct kv_batch *build; /* NULL: compare only */
    struct sum *quotas[BUCKETS];
    struct sum *owners[BUCKETS];
    struct arena names;
    struct arena scratch;
    struct shared *shared;
    uint64_t changed; /* rows of TAB_CHANGED of a mailbox */
    struct error *err;
};

static struct sum *
sum_of(struct audit *au, struct sum **table, const char *name)
{
    struct sum **at = &table[XXH3_64bits(name, strlen(name)) % BUCKETS];
    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    if (*at == NULL) {
        *at = arena_alloc(&au->names, sizeof(**at));
        (*at)->name = arena_str(&au->names, span_str(name));
    }
    return *at;
}

static enum errcode
write_some(struct audit *au, size_t enough)
{
    if (au->build == NULL || kv_batch_bytes(au->build) < enough)
        return ERR_OK;
    enum errcode rc = kv_write(au->kv, au->build, au->err);
    kv_batch_clear(au->build);
    return rc;
}

/* A derived row: written, or compared with what is there. */
static enum errcode
derived(struct audit *au, struct span key, struct span value)
{
    AUTO(buf_free) struct buf have = BUF_INIT;

    if (au->build != NULL) {
        kv_batch_put(au->build, KV_STATE, key, value);
        return write_some(au, BATCH_BYTES);
    }
    enum errcode rc = kv_get(au->kv, au->view, KV_STATE, key, &have, au->err);
    if (rc == ERR_NOTFOUND ||
        (rc == ERR_OK && !span_eq(buf_span(&have), value)))
        return error_set(au->err, ERR_CORRUPT,
                         "a row of table %c is missing or wrong", key.p[0]);
    return rc;
}

static void
count(struct mailbox *mb, const struct message *m)
{
    if ((m->flags & FLAG_EXPUNGED) != 0) {
        mb->expunged++;
        return;
    }
    mb->exists++;
    mb->bytes += m->size;
    mb->unseen += (m->flags & FLAG_SEEN) == 0;
    mb->deleted += (m->flags & FLAG_DELETED) != 0;
}

static int
compare_shared(const void *pa, const void *pb)
{
    const struct shared_one *a = pa, *b = pb;

    if (a->modseq != b->modseq)
        return a->modseq < b->modseq ? -1 : 1;
    return a->uid < b->uid ? -1 : a->uid > b->uid;
}

/* The rows of the block that is over. */
static enum errcode
audit_shared(struct audit *au, mbid_t id)
{
    struct shared *s = au->shared;
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(buf_free) struct buf value = BUF_INIT;
    enum errcode rc = ERR_OK;
    struct key k;

    qsort(s->of, s->n, sizeof(s->of[0]), compare_shared);
    for (size_t i = 0; i < s->n && rc == ERR_OK; i++) {
        uidset_add(&uids, s->of[i].uid, s->of[i].uid);
        if (i + 1 < s->n && s->of[i + 1].modseq == s->of[i].modseq)
            continue;
        buf_clear(&value);
        uidset_encode(&uids, &value);
        uidset_clear(&uids);
        au->changed++;
        rc = derived(au, key_changed_set(&k, id, s->of[i].modseq, s->block),
                     buf_span(&value));
    }
    s->n = 0;
    return rc;
}

/* The row of TAB_CHANGED of M, which comes in the order of UIDs. */
static enum errcode
audit_changed(struct audit *au, mbid_t id, const struct message *m)
{
    struct shared *s = au->shared;
    struct key k;
    enum errcode rc = ERR_OK;

    if (message_is_as_made(m)) {
        au->changed++;
        return derived(au, key_changed(&k, id, m->modseq, m->uid), SPAN_EMPTY);
    }
    if (s->n > 0 && s->block != m->uid >> CHANGED_BLOCK_BITS)
        rc = audit_shared(au, id);
    s->block = m->uid >> CHANGED_BLOCK_BITS;
    s->of[s->n++] = (struct shared_one){m->modseq, m->uid};
    return rc;
}

static enum errcode
audit_messages(struct audit *au, struct mailbox *sum, uint64_t *ret_annotated)
{
    struct key k;
    struct span key, value;
    enum errcode rc = ERR_OK;

    au->shared->n = 0;
    au->changed = 0;
    struct kv_iter *it =
        kv_iter_open(au->kv, au->view, KV_STATE,
                     key_of_mailbox(&k, TAB_MESSAGE, sum->id), SPAN_EMPTY);
    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        struct message m = {.uid = key_get_uid(key)};
        arena_reset(&au->scratch);
        rc = message_decode(value, &au->scratch, &m, au->err);
        if (rc != ERR_OK)
            break;
        count(sum, &m);
        *ret_annotated += (m.flags & FLAG_ANNOTATED) != 0;
        sum->digest ^= row_hash(key, value);
        sum->highestmodseq = MAX(sum->highestmodseq, m.modseq);
        sum->uidnext = MAX(sum->uidnext, m.uid + 1);
        rc = audit_changed(au, sum->id, &m);
        if (rc == ERR_OK)
            rc = derived(au, key_guidref(&k, &m.guid, sum->id, m.uid),
                         SPAN_EMPTY);
    }
    if (rc == ERR_OK)
        rc = audit_shared(au, sum->id);
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? au->err : NULL);
    return rc == ERR_OK ? end : rc;
}

/* Is UID's message there, and does it say that it has annotations? */
static enum errcode
look_at_annotated(struct audit *au, struct mailbox *sum, uint32_t uid,
                  bool *ret_counts)
{
    AUTO(buf_free) struct buf row = BUF_INIT;
    struct message m = {.uid = uid};
    struct key k;

    *ret_counts = true;
    if (uid == 0)
        return ERR_OK;
    enum errcode rc = kv_get(au->kv, au->view, KV_STATE,
                             key_message(&k, sum->id, uid), &row, au->err);
    if (rc == ERR_OK)
        rc = message_decode(buf_span(&row), &au->scratch, &m, au->err);
    if (rc == ERR_NOTFOUND || (rc == ERR_OK && (m.flags & FLAG_ANNOTATED) == 0))
        rc = error_set(au->err, ERR_CORRUPT,
                       "annotations of UID %" PRIu32 ", which has none", uid);
    *ret_counts = (m.flags & FLAG_EXPUNGED) == 0;
    return rc;
}

/* Fold the annotations; ANNOTATED messages say that they have some. */
static enum errcode
audit_annots(struct audit *au, struct mailbox *sum, uint64_t annotated)
{
    struct key k;
    struct span key, value, entry, user;
    uint32_t uid, before = UINT32_MAX;
    bool counts = true;
    enum errcode rc = ERR_OK;

    struct kv_iter *it =
        kv_iter_open(au->kv, au->view, KV_STATE,
                     key_of_mailbox(&k, TAB_ANNOT, sum->id), SPAN_EMPTY);
    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        if (!key_get_annot(key, &uid, &entry, &user)) {
            rc = error_set(au->err, ERR_CORRUPT, "a malformed key of table a");
            break;
        }
        if (uid != before) {
            arena_reset(&au->scratch);
            rc = look_at_annotated(au, sum, uid, &counts);
            annotated -= uid != 0;
        }
        before = uid;
        sum->digest ^= row_hash(key, value);
        sum->annot_bytes += counts ? value.n : 0;
    }
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? au->err : NULL);
    if (rc == ERR_OK)
        rc = end;
    if (rc == ERR_OK && annotated != 0)
        rc = error_set(au->err, ERR_CORRUPT,
                       "a message without the annotations that it has");
    return rc;
}

/* Fold what users have seen. */
static enum errcode
audit_seen(struct audit *au, struct mailbox *sum)
{
    struct key k;
    struct span key, value, user;
    uint32_t chunk;
    struct uidset uids = UIDSET_INIT;
    enum errcode rc = ERR_OK;

    struct kv_iter *it =
        kv_iter_open(au->kv, au->view, KV_STATE,
                     key_of_mailbox(&k, TAB_SEEN, sum->id), SPAN_EMPTY);
    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        struct rd r = rd_init(value);
        uidset_decode(&r, value.n, &uids);
        if (!rd_done(&r) || uids.n == 0 || !key_get_seen(key, &chunk, &user) ||
            uids.r[0].first >> SEEN_CHUNK_BITS != chunk ||
            uids.r[uids.n - 1].last >> SEEN_CHUNK_BITS != chunk)
            rc = error_set(au->err, ERR_CORRUPT,
                           "a row of seen UIDs does not decode");
        sum->digest ^= row_hash(key, value);
    }
    uidset_free(&uids);
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? au->err : NULL);
    return rc == ERR_OK ? end : rc;
}

/* Fold the keys of all keywords; how many rows TAB_CHANGED has. */
static enum errcode
audit_rest(struct audit *au, struct mailbox *sum)
{
    struct key k;
    struct span key, value;
    uint64_t changed = 0;

    struct kv_iter *it =
        kv_iter_open(au->kv, au->view, KV_STATE,
                     key_of_mailbox(&k, TAB_KEYWORD, sum->id), SPAN_EMPTY);
    while (kv_iter_next(it, &key, &value))
        sum->digest ^= row_hash(key, value);
    enum errcode rc = kv_iter_close(&it, au->err);
    if (rc != ERR_OK || au->build != NULL)
        return rc;
    it = kv_iter_open(au->kv, au->view, KV_STATE,
                      key_of_mailbox(&k, TAB_CHANGED, sum->id), SPAN_EMPTY);
    while (kv_iter_next(it, &key, &value))
        changed++;
    rc = kv_iter_close(&it, au->err);
    if (rc == ERR_OK && changed != au->changed)
        rc = error_set(au->err, ERR_CORRUPT,
                       "%" PRIu64 " rows of changes, not %" PRIu64, changed,
                       au->changed);
    return rc;
}

static enum errcode
compare(struct audit *au, const struct mailbox *mb, const struct mailbox *sum)
{
    const char *what = mb->exists != sum->exists       ? "exists"
                       : mb->unseen != sum->unseen     ? "unseen"
                       : mb->deleted != sum->deleted   ? "deleted"
                       : mb->bytes != sum->bytes       ? "bytes"
                       : mb->expunged != sum->expunged ? "expunged"
                       : mb->annot_bytes != sum->annot_bytes
                           ? "bytes of annotations"
                       : mb->digest != sum->digest  ? "digest"
                       : mb->uidnext < sum->uidnext ? "uidnext"
                       : mb->highestmodseq < sum->highestmodseq &&
                               (mb->options & MBOX_PARTIAL) == 0
                           ? "highestmodseq"
                           : NULL;
    if (what != NULL)
        return error_set(au->err, ERR_CORRUPT,
                         "mailbox %s: %s is not what its messages say",
                         mb->name, what);
    return ERR_OK;
}

/* Is its quota root the nearest one? */
static enum errcode
audit_root(struct audit *au, const struct mailbox *mb, struct arena *a)
{
    AUTO(buf_free) struct buf row = BUF_INIT;
    char *root = arena_str(a, span_str(mb->is_deleted ? "" : mb->name));
    enum errcode rc = ERR_NOTFOUND;
    struct key k;

    while (root[0] != '\0' && rc == ERR_NOTFOUND) {
        rc = kv_get(au->kv, au->view, KV_STATE,
                    key_text(&k, TAB_QUOTA, span_str(root)), &row, au->err);
        char *dot = strrchr(root, '.');
        if (rc == ERR_NOTFOUND)
            *(dot == NULL ? root : dot) = '\0';
    }
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    if (strcmp(root, mb->quota_root) != 0)
        return error_set(au->err, ERR_CORRUPT,
                         "mailbox %s has the quota root \"%s\", not \"%s\"",
                         mb->name, mb->quota_root, root);
    return ERR_OK;
}

static enum errcode
audit_rows(struct audit *au, struct mailbox *sum)
{
    uint64_t annotated = 0;

    enum errcode rc = audit_messages(au, sum, &annotated);
    if (rc == ERR_OK)
        rc = audit_rest(au, sum);
    if (rc == ERR_OK)
        rc = audit_annots(au, sum, annotated);
    return rc == ERR_OK ? audit_seen(au, sum) : rc;
}

static enum errcode
audit_mailbox(struct audit *au, struct span key, struct span value)
{
    struct mailbox mb, sum = {0};
    struct arena a = ARENA_INIT;
    struct key k;
    uint8_t id[8];

    enum errcode rc = mailbox_decode(value, &a, &mb, au->err);
    mb.id = sum.id = key_get_mbid(key);
    if (rc == ERR_OK)
        rc = audit_rows(au, &sum);
    if (rc == ERR_OK)
        rc = audit_root(au, &mb, &a);
    if (rc == ERR_OK)
        rc = compare(au, &mb, &sum);
    else
        (void)error_prefix(au->err, "mailbox %" PRIu64, sum.id);
    for (size_t i = 0; i < sizeof(id); i++)
        id[i] = (uint8_t)(sum.id >> (8 * i));
    if (rc == ERR_OK)
        rc = derived(au, key_text(&k, TAB_NAME, span_str(mb.name)),
                     span_of(id, sizeof(id)));
    if (rc == ERR_OK)
        rc = derived(au, key_text(&k, TAB_UNIQUEID, span_str(mb.uniqueid.s)),
                     span_of(id, sizeof(id)));
    struct span ident;
    size_t pos = 0;
    uint32_t rights;
    while (rc == ERR_OK && acl_next(mb.acl, &pos, &ident, &rights))
        if (ident.n > 0 && ident.n <= USER_MAX && ident.p[0] != '-')
            rc = derived(au, key_rights(&k, ident, sum.id), SPAN_EMPTY);
    if (rc == ERR_OK) {
        if (mb.quota_root[0] != '\0') {
            struct sum *q = sum_of(au, au->quotas, mb.quota_root);
            q->used[QUOTA_STORAGE] += mb.bytes;
            q->used[QUOTA_MESSAGE] += mb.exists;
            q->used[QUOTA_FOLDERS]++;
            q->used[QUOTA_ANNOTATION] += mb.annot_bytes;
        }
        sum_of(au, au->owners, row_owner_of_name(mb.name, &a))->digest ^=
            row_hash(key, value);
    }
    arena_free(&a);
    return rc;
}

static const char *const resources[QUOTA_RESOURCES] = {
    [QUOTA_STORAGE] = "bytes",
    [QUOTA_MESSAGE] = "messages",
    [QUOTA_FOLDERS] = "mailboxes",
    [QUOTA_ANNOTATION] = "bytes of annotations",
};

static enum errcode
audit_quota(struct audit *au, struct span key, struct span value)
{
    struct quota q = {0};
    struct arena a = ARENA_INIT;
    const char *root = arena_str(&a, span_skip(key, 1));
    const struct sum *used = sum_of(au, au->quotas, root);

    enum errcode rc = quota_decode(value, &q, au->err);
    for (size_t i = 0; i < QUOTA_RESOURCES && rc == ERR_OK; i++)
        if (q.used[i] != used->used[i])
            rc = error_set(au->err, ERR_CORRUPT,
                           "quota root %s: %" PRIu64 " %s are kept, %" PRIu64
                           " are there",
                           root, q.used[i], resources[i], used->used[i]);
    sum_of(au, au->owners, row_owner_of_name(root, &a))->digest ^=
        row_hash(key, value);
    arena_free(&a);
    return rc;
}

static enum errcode
audit_user(struct audit *au, struct span key, struct span value)
{
    struct arena a = ARENA_INIT;
    struct span rest = span_skip(key, 1);
    ptrdiff_t nul = span_find_byte(rest, 0, 0);

    if (nul >= 0)
        sum_of(au, au->owners, arena_str(&a, span_sub(rest, 0, (size_t)nul)))
            ->digest ^= row_hash(key, value);
    arena_free(&a);
    return nul >= 0
               ? ERR_OK
               : error_set(au->err, ERR_CORRUPT, "a user's row has no end");
}

static enum errcode
audit_nobodys(struct audit *au, struct span key, struct span value)
{
    sum_of(au, au->owners, "")->digest ^= row_hash(key, value);
    return ERR_OK;
}

static enum errcode
audit_table(struct audit *au, enum table table,
            enum errcode (*each)(struct audit *au, struct span key,
                                 struct span value))
{
    struct key k;
    struct span key, value;
    enum errcode rc = ERR_OK;

    struct kv_iter *it = kv_iter_open(au->kv, au->view, KV_STATE,
                                      key_table(&k, table), SPAN_EMPTY);
    while (rc == ERR_OK && kv_iter_next(it, &key, &value))
        rc = each(au, key, value);
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? au->err : NULL);
    return rc == ERR_OK ? end : rc;
}

static enum errcode
audit_server_annots(struct audit *au)
{
    struct key k;
    struct span key, value;

    struct kv_iter *it =
        kv_iter_open(au->kv, au->view, KV_STATE,
                     key_of_mailbox(&k, TAB_ANNOT, 0), SPAN_EMPTY);
    while (kv_iter_next(it, &key, &value))
        sum_of(au, au->owners, "")->digest ^= row_hash(key, value);
    return kv_iter_close(&it, au->err);
}

/* Rows of mailboxes that are not there: a look for each mailbox in TABLE. */
static enum errcode
audit_strays(struct audit *au, enum table table)
{
    struct key k, from;
    struct span key, value;
    AUTO(buf_free) struct buf head = BUF_INIT;
    enum errcode rc = ERR_OK;

    struct kv_iter *it =
        kv_iter_open(au->kv, au->view, KV_STATE, key_table(&k, table),
                     key_of_mailbox(&from, table, 1));
    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        const mbid_t id = key_get_mbid(key);
        buf_clear(&head);
        rc = kv_get(au->kv, au->view, KV_STATE, key_mailbox(&k, id), &head,
                    au->err);
        if (rc == ERR_NOTFOUND)
            rc = error_set(au->err, ERR_CORRUPT,
                           "a row of table %c of mailbox %" PRIu64
                           ", which is not there",
                           (int)table, id);
        kv_iter_seek(it, key_of_mailbox(&k, table, id + 1));
    }
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? au->err : NULL);
    return rc == ERR_OK ? end : rc;
}

static enum errcode
audit_owners(struct audit *au, uint64_t *ret_root)
{
    enum errcode rc = ERR_OK;
    uint64_t root = 0;

    for (size_t i = 0; i < BUCKETS; i++)
        for (struct sum *o = au->owners[i]; o != NULL && rc == ERR_OK;
             o = o->next) {
            struct key k;
            uint8_t value[8];
            if (o->digest == 0)
                continue;
            for (size_t b = 0; b < sizeof(value); b++)
                value[b] = (uint8_t)(o->digest >> (8 * b));
            root ^= owner_hash(o->name, o->digest);
            rc = derived(au, key_text(&k, TAB_DIGEST, span_str(o->name)),
                         span_of(value, sizeof(value)));
            if (rc != ERR_OK)
                (void)error_prefix(au->err, "digest of user \"%s\"", o->name);
        }
    *ret_root = root;
    return rc;
}

static enum errcode
audit_all(struct audit *au, uint64_t *ret_root)
{
    au->shared = xcalloc(1, sizeof(*au->shared));
    enum errcode rc = audit_table(au, TAB_MAILBOX, audit_mailbox);
    if (rc == ERR_OK)
        rc = audit_table(au, TAB_QUOTA, audit_quota);
    if (rc == ERR_OK)
        rc = audit_table(au, TAB_USER, audit_user);
    for (const char *table = "amks"; *table != '\0' && rc == ERR_OK; table++)
        rc = audit_strays(au, (enum table) * table);
    if (rc == ERR_OK)
        rc = audit_server_annots(au);
    if (rc == ERR_OK)
        rc = audit_table(au, TAB_EPOCH, audit_nobodys);
    if (rc == ERR_OK)
        rc = audit_table(au, TAB_DEDUP, audit_nobodys);
    if (rc == ERR_OK)
        rc = audit_table(au, TAB_VALIDITY, audit_nobodys);
    if (rc == ERR_OK)
        rc = audit_owners(au, ret_root);
    if (rc == ERR_OK)
        rc = write_some(au, 1);
    arena_free(&au->names);
    arena_free(&au->scratch);
    xfree(&au->shared);
    return rc;
}

enum errcode
snap_verify(struct store_snap *snap, struct error *err)
{
    struct audit au = {.kv = snap->kv, .view = snap->view, .err = err};
    uint64_t root;

    enum errcode rc = audit_all(&au, &root);
    if (rc == ERR_OK && root != snap_pos(snap).digest)
        rc = error_set(err, ERR_CORRUPT,
                       "the root digest is %016" PRIx64
                       ", counted anew it is %016" PRIx64,
                       snap_pos(snap).digest, root);
    return rc;
}

enum errcode
store_build_derived(struct kv *kv, uint64_t *ret_root, struct error *err)
{
    struct audit au = {.kv = kv, .err = err, .build = kv_batch_new()};

    enum errcode rc = audit_all(&au, ret_root);
    kv_batch_free(&au.build);
    return rc;
}
