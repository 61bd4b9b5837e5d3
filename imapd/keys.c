/*
 * imapd/keys.c - keys of 256 messages at a time in one derived record.
 *
 * SORT and THREAD of a mailbox need little of each of its messages, and always
 * the same.  To look up and take apart the records of all costs ten times what
 * sorting does; a block costs one look for 256 of them, and its texts are
 * mapped for comparing already.  As a UID names the same message for ever,
 * entries never change: a block only wants those that are new, and gets them
 * from who misses them.
 *
 *   block:  u8 version, u8 version of the records it is made of, entries
 *   entry:  u8 low bits of the UID (ascending), blob of:
 *     u8 flags (2 reply or forward, 4 dated, 16 no references here)
 *     zigzag sent date (UTC), blobs: base subject, From, To, Cc, display names
 *     of From and To (all mapped), message id; varint number of references,
 *     blob of them
 *
 * One of another version, or that makes no sense, counts as none.
 */
#include "imapd/keys.h"

#include "base/rd.h"
#include "mime/text.h"

#define LOW_BITS ((1U << KEYS_BLOCK_BITS) - 1)
#define NO_REFS 16U
/* Of one message; longer ones are read from its record. */
#define REFS_BYTES_MAX 1024U
#define TEXT_BYTES_MAX 8192U
/* A block is written when so many are new, or a fair share of it. */
#define FRESH_MANY 16U
#define FRESH_SHARE 8U

/* ---- entries ------------------------------------------------------------- */

static void
add_mapped(struct span text, struct buf *scratch, struct buf *out)
{
    buf_clear(scratch);
    mime_casemap(text, scratch);
    buf_add_blob(out, span_sub(buf_span(scratch), 0, TEXT_BYTES_MAX));
}

void
keys_encode(const struct mime_cache *mime, struct buf *out)
{
    AUTO(buf_free) struct buf scratch = BUF_INIT;
    const bool has_refs = mime->refs.n <= REFS_BYTES_MAX;
    const int64_t sent_s = mime->sent_utc_s;

    buf_add_byte(
        out, (uint8_t)((mime->flags & (MIME_CACHE_REPLY | MIME_CACHE_DATED)) |
                       (has_refs ? 0 : NO_REFS)));
    buf_add_varint(out, (uint64_t)sent_s << 1 ^ (uint64_t)(sent_s >> 63));
    add_mapped(mime->base_subject, &scratch, out);
    add_mapped(mime->from, &scratch, out);
    add_mapped(mime->to, &scratch, out);
    add_mapped(mime->cc, &scratch, out);
    add_mapped(mime->display_from, &scratch, out);
    add_mapped(mime->display_to, &scratch, out);
    buf_add_blob(out, mime->message_id);
    buf_add_varint(out, has_refs ? mime->nrefs : 0);
    buf_add_blob(out, has_refs ? mime->refs : SPAN_EMPTY);
}

bool
keys_decode(struct span entry, struct message_keys *ret)
{
    struct rd r = rd_init(entry);
    struct message_keys k = {.flags = rd_u8(&r)};
    const uint64_t sent = rd_varint(&r);

    k.has_refs = (k.flags & NO_REFS) == 0;
    k.flags &= MIME_CACHE_REPLY | MIME_CACHE_DATED;
    k.sent_utc_s = (int64_t)(sent >> 1 ^ (0 - (sent & 1)));
    for (size_t i = 0; i < KEY_TEXTS; i++)
        k.text[i] = rd_blob(&r, TEXT_BYTES_MAX);
    k.message_id = rd_blob(&r, SIZE_MAX);
    k.nrefs = rd_varint32(&r);
    k.refs = rd_blob(&r, REFS_BYTES_MAX);
    if (!rd_done(&r) || k.nrefs > k.refs.n)
        return false;
    *ret = k;
    return true;
}

/* ---- blocks -------------------------------------------------------------- */

static bool
take_entry(struct span *left, uint32_t *ret_low, struct span *ret)
{
    struct rd r = rd_init(*left);

    *ret_low = rd_u8(&r);
    *ret = rd_blob(&r, SIZE_MAX);
    if (r.bad)
        return false;
    *left = r.left;
    return true;
}

static void
add_entry(struct buf *out, uint32_t low, struct span entry)
{
    buf_add_byte(out, (uint8_t)low);
    buf_add_blob(out, entry);
}

/* What K->block has behind its versions; empty, and so is the block, if it is
 * none. */
static struct span
entries_of(struct keys *k)
{
    struct rd r = rd_init(buf_span(&k->block));
    struct span entry;
    uint32_t low, n = 0;
    int64_t last = -1;

    if (rd_u8(&r) != KEYS_VERSION || rd_u8(&r) != MIME_CACHE_VERSION)
        r.bad = true;
    struct span left = r.left;
    while (!r.bad && left.n > 0) {
        r.bad = !take_entry(&left, &low, &entry) || (int64_t)low <= last;
        last = low;
        n++;
    }
    if (r.bad) {
        buf_clear(&k->block);
        n = 0;
    }
    k->nentries = n;
    return r.bad ? SPAN_EMPTY : r.left;
}

/* The block with what was added. */
static void
write_block(struct keys *k, struct store *store, mbid_t id)
{
    AUTO(buf_free) struct buf all = BUF_INIT;
    struct span old = entries_of(k), fresh = buf_span(&k->fresh);
    struct span old_entry, fresh_entry;
    uint32_t old_low = 0, fresh_low = 0;
    bool has_old = take_entry(&old, &old_low, &old_entry);
    bool has_fresh = take_entry(&fresh, &fresh_low, &fresh_entry);

    buf_add_byte(&all, KEYS_VERSION);
    buf_add_byte(&all, MIME_CACHE_VERSION);
    while (has_old || has_fresh) {
        /* One that has both was asked for out of order. */
        if (has_old && has_fresh && old_low == fresh_low)
            has_old = take_entry(&old, &old_low, &old_entry);
        else if (has_old && (!has_fresh || old_low < fresh_low)) {
            add_entry(&all, old_low, old_entry);
            has_old = take_entry(&old, &old_low, &old_entry);
        } else {
            add_entry(&all, fresh_low, fresh_entry);
            has_fresh = take_entry(&fresh, &fresh_low, &fresh_entry);
        }
    }
    store_cache_put_block(store, id, k->number, buf_span(&all));
}

/* Done with the block that is here. */
static void
leave_block(struct keys *k, struct store *store, mbid_t id)
{
    if (k->is_open && k->nfresh > 0 &&
        (k->nfresh >= FRESH_MANY || k->nfresh * FRESH_SHARE >= k->nentries))
        write_block(k, store, id);
    k->is_open = false;
    k->nfresh = 0;
    buf_clear(&k->fresh);
    buf_clear(&k->block);
}

static void
enter_block(struct keys *k, struct store_snap *snap, mbid_t id, uint32_t number)
{
    struct error ignored = {0};

    if (snap_cache_block(snap, id, number, &k->block, &ignored) != ERR_OK)
        buf_clear(&k->block);
    k->is_open = true;
    k->number = number;
    k->left = entries_of(k);
    k->next = 0;
}

bool
keys_find(struct keys *k, struct store *store, struct store_snap *snap,
          mbid_t id, uint32_t uid, struct message_keys *ret)
{
    const uint32_t low = uid & LOW_BITS;
    struct span entry;
    uint32_t at;

    if (!k->is_open || k->number != uid >> KEYS_BLOCK_BITS ||
        low < k->next) { /* never, of a walk: so what it costs is no matter */
        leave_block(k, store, id);
        enter_block(k, snap, id, uid >> KEYS_BLOCK_BITS);
    }
    k->next = low + 1;
    for (struct span left = k->left; take_entry(&left, &at, &entry);) {
        if (at > low)
            return false;
        k->left = left;
        if (at == low)
            return keys_decode(entry, ret);
    }
    return false;
}

void
keys_make(struct keys *k, const struct mime_cache *mime,
          struct message_keys *ret)
{
    buf_clear(&k->scratch);
    keys_encode(mime, &k->scratch);
    bool ok = keys_decode(buf_span(&k->scratch), ret);
    ENSURE(ok);
}

void
keys_add(struct keys *k, uint32_t uid, const struct mime_cache *mime,
         struct message_keys *ret)
{
    ENSURE(k->is_open && k->next == (uid & LOW_BITS) + 1);
    keys_make(k, mime, ret);
    add_entry(&k->fresh, uid & LOW_BITS, buf_span(&k->scratch));
    k->nfresh++;
}

void
keys_close(struct keys *k, struct store *store, mbid_t id)
{
    leave_block(k, store, id);
    buf_free(&k->block);
    buf_free(&k->fresh);
    buf_free(&k->scratch);
}
