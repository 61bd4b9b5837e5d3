/*
 * store/state_annot.c - rows that hang on a mailbox or its messages:
 * annotations, and what users who do not own it have seen.
 *
 * Both are in the digest of their mailbox.  Annotations of messages count for
 * quota while the message lives; FLAG_ANNOTATED in its row says that there are
 * some, so that a message without any costs no look.
 */
#include "store/state_private.h"

/* Bytes of a key of TAB_ANNOT before the entry, of TAB_SEEN before the user. */
#define ANNOT_PREFIX 13U
#define SEEN_PREFIX 11U

enum errcode
state_annot_bytes(struct state *st, struct head *head, uint32_t uid,
                  uint64_t *ret, struct error *err)
{
    struct key k;
    struct span *keys, value;
    size_t n;
    uint64_t bytes = 0;

    enum errcode rc = state_keys_near(st, key_annots_of(&k, head->mb.id, uid),
                                      &st->scratch, &keys, &n, err);
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        rc = state_get(st, keys[i], &st->scratch, &value, err);
        if (rc == ERR_OK)
            bytes += value.n;
    }
    if (rc == ERR_OK)
        *ret = bytes;
    return rc;
}

enum errcode
state_drop_annots(struct state *st, struct head *head, uint32_t uid,
                  struct error *err)
{
    struct key k;
    struct span *keys;
    size_t n;

    enum errcode rc = state_keys_near(st, key_annots_of(&k, head->mb.id, uid),
                                      &st->scratch, &keys, &n, err);
    for (size_t i = 0; i < n && rc == ERR_OK; i++)
        rc = state_put_head_row(st, head, keys[i], ANNOT_PREFIX, NULL, err);
    return rc;
}

enum errcode
state_put_annot(struct state *st, struct head *head, uint32_t uid,
                const char *entry, const char *user, const struct span *value,
                bool counts, struct error *err)
{
    struct key k;
    struct span key = key_annot(&k, head->mb.id, uid, entry, user);
    struct span old = SPAN_EMPTY;
    uint64_t more[QUOTA_RESOURCES] = {0};

    enum errcode rc = state_get(st, key, &st->scratch, &old, err);
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    rc = state_put_head_row(st, head, key, ANNOT_PREFIX, value, err);
    if (rc != ERR_OK || !counts)
        return rc;
    more[QUOTA_ANNOTATION] = (value == NULL ? 0 : value->n) - (uint64_t)old.n;
    head->mb.annot_bytes += more[QUOTA_ANNOTATION];
    return state_charge(st, &head->mb, more, err);
}

/* The UIDs in the row KEY; none if there is no such row. */
static enum errcode
read_seen(struct state *st, struct span key, struct uidset *ret,
          bool *ret_is_there, struct error *err)
{
    struct span value;

    uidset_clear(ret);
    enum errcode rc = state_get(st, key, &st->scratch, &value, err);
    *ret_is_there = rc == ERR_OK;
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    struct rd r = rd_init(value);
    uidset_decode(&r, value.n, ret);
    return rd_done(&r) ? ERR_OK
                       : error_set(err, ERR_CORRUPT,
                                   "a row of seen UIDs does not decode");
}

enum errcode
state_seen(struct state *st, struct head *head, uint32_t chunk,
           struct span user, struct uidset *ret, struct error *err)
{
    struct key k;
    bool is_there;

    return read_seen(st, key_seen(&k, head->mb.id, chunk, user), ret, &is_there,
                     err);
}

/* The row KEY, less or more UIDS. */
static enum errcode
change_seen(struct state *st, struct head *head, struct span key,
            const struct uidset *uids, bool seen, struct error *err)
{
    AUTO(uidset_free) struct uidset have = UIDSET_INIT;
    AUTO(buf_free) struct buf out = BUF_INIT;
    bool is_there;

    enum errcode rc = read_seen(st, key, &have, &is_there, err);
    if (rc != ERR_OK)
        return rc;
    if (seen)
        uidset_add_set(&have, uids);
    for (size_t i = 0; i < uids->n && !seen; i++)
        uidset_remove(&have, uids->r[i].first, uids->r[i].last);
    if (have.n == 0)
        return is_there
                   ? state_put_head_row(st, head, key, SEEN_PREFIX, NULL, err)
                   : ERR_OK;
    uidset_encode(&have, &out);
    struct span value = buf_span(&out);
    return state_put_head_row(st, head, key, SEEN_PREFIX, &value, err);
}

/* The part of UIDS from FROM on that lies in one chunk; its number. */
static uint32_t
cut_chunk(const struct uidset *uids, uint32_t from, struct uidset *ret)
{
    const uint32_t chunk = from >> SEEN_CHUNK_BITS;
    const uint32_t last = (chunk << SEEN_CHUNK_BITS) | 0xffff;

    uidset_clear(ret);
    for (size_t i = 0; i < uids->n && uids->r[i].first <= last; i++)
        if (uids->r[i].last >= from)
            uidset_add(ret, MAX(uids->r[i].first, from),
                       MIN(uids->r[i].last, last));
    return chunk;
}

enum errcode
state_put_seen(struct state *st, struct head *head, struct span user,
               const struct uidset *uids, bool seen, struct error *err)
{
    AUTO(uidset_free) struct uidset part = UIDSET_INIT;
    struct key k;
    enum errcode rc = ERR_OK;

    uint32_t from = uidset_next(uids, 1);
    while (from != 0 && rc == ERR_OK) {
        const uint32_t chunk = cut_chunk(uids, from, &part);
        rc = change_seen(st, head, key_seen(&k, head->mb.id, chunk, user),
                         &part, seen, err);
        const uint32_t next = (chunk + 1) << SEEN_CHUNK_BITS;
        from = next == 0 ? 0 : uidset_next(uids, next);
    }
    return rc;
}

enum errcode
state_forget_seen(struct state *st, struct head *head,
                  const struct uidset *uids, struct error *err)
{
    AUTO(uidset_free) struct uidset part = UIDSET_INIT;
    struct key k;
    struct span *keys;
    size_t n;
    enum errcode rc = ERR_OK;

    uint32_t from = uidset_next(uids, 1);
    while (from != 0 && rc == ERR_OK) {
        const uint32_t chunk = cut_chunk(uids, from, &part);
        rc = state_keys_near(st, key_seen(&k, head->mb.id, chunk, SPAN_EMPTY),
                             &st->scratch, &keys, &n, err);
        for (size_t i = 0; i < n && rc == ERR_OK; i++)
            rc = change_seen(st, head, keys[i], &part, false, err);
        const uint32_t next = (chunk + 1) << SEEN_CHUNK_BITS;
        from = next == 0 ? 0 : uidset_next(uids, next);
    }
    return rc;
}
