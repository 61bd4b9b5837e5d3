/*
 * store/uids.c - which UIDs a mailbox has: what SELECT begins with.
 *
 * Reading all rows of a mailbox takes half a microsecond each, which for very
 * many of them is too long to wait for.  Mostly it is not needed:
 *
 *  - as many messages as UIDs were ever given: they are all there, and that is
 *    kept too, for the time when they are not;
 *  - what an earlier look had found is kept as a derived record (KV_CACHE,
 *    UID 0 of the mailbox) with the MODSEQ as of which it holds; what changed
 *    since is in the table of changes.
 *
 * A record is trusted only if it gives as many messages as the head counts
 * after what changed since.  That is enough: a message that is there has its
 * row in the table of changes, or in the record; so the set may lack nothing,
 * and can only be too large (by a tombstone that was purged, with its change,
 * before we came to see it).
 *
 * The record:
 *   u8 version, varint MODSEQ, varint UIDNEXT, varint first UID without \Seen,
 *   the UIDs (base/uidset.h)
 */
#include "store/store_private.h"

#include "store/snap_private.h"

#define UIDS_VERSION 1U
/* Fewer rows are read again next time. */
#define KEEP_FROM_ROWS 1000U
/* More changes cost more than all rows. */
#define CHANGES_MAX 20000U

struct view {
    struct store_snap *snap;
    const struct mailbox *mb;
    struct uidset uids;
    uint32_t unseen; /* the first one; 0: none */
    uint64_t rows;   /* that were read for it */
};

/* What an earlier look had found. */
struct found {
    struct uidset uids;
    modseq_t modseq;
    uint32_t uidnext;
    uint32_t unseen;
};

struct changes {
    struct uidset uids;
    uint32_t below; /* those from here on are new */
    uint64_t n;
};

/* The flags of a row: they stand first, and nothing else is needed here. */
static uint32_t
flags_of(struct span value)
{
    struct rd r = rd_init(value);
    return rd_varint32(&r);
}

/*
 * Every message from FROM on into the view; ONLY_UNSEEN: stop at the first one
 * without \Seen, and add none.
 */
static enum errcode
walk(struct view *v, uint32_t from, bool only_unseen, struct error *err)
{
    struct key prefix, start;
    struct span key, value;
    bool found = only_unseen ? false : v->unseen != 0;

    struct kv_iter *it =
        kv_iter_open(v->snap->kv, v->snap->view, KV_STATE,
                     key_of_mailbox(&prefix, TAB_MESSAGE, v->mb->id),
                     key_message(&start, v->mb->id, from));
    while (!(only_unseen && found) && kv_iter_next(it, &key, &value)) {
        const uint32_t flags = flags_of(value), uid = key_get_uid(key);
        v->rows++;
        if ((flags & FLAG_EXPUNGED) != 0)
            continue;
        if (!found && (flags & FLAG_SEEN) == 0) {
            v->unseen = uid;
            found = true;
        }
        if (!only_unseen)
            uidset_add(&v->uids, uid, uid);
    }
    return kv_iter_close(&it, err);
}

/* The first message without \Seen from FROM on; the head says whether there is
 * any at all. */
static enum errcode
find_unseen(struct view *v, uint32_t from, struct error *err)
{
    v->unseen = 0;
    if (v->mb->unseen == 0)
        return ERR_OK;
    if (v->mb->unseen == v->mb->exists) {
        v->unseen = uidset_next(&v->uids, 1);
        return ERR_OK;
    }
    return walk(v, from, true, err);
}

/* --------------------------------------------------- what was found before */

static bool
load(struct store_snap *snap, const struct mailbox *mb, struct found *ret)
{
    AUTO(buf_free) struct buf value = BUF_INIT;

    if (snap_cache(snap, mb->id, 0, &value, NULL) != ERR_OK)
        return false;
    struct rd r = rd_init(buf_span(&value));
    if (rd_u8(&r) != UIDS_VERSION)
        return false;
    ret->modseq = rd_varint(&r);
    ret->uidnext = rd_varint32(&r);
    ret->unseen = rd_varint32(&r);
    uidset_decode(&r, mb->uidnext, &ret->uids);
    return rd_done(&r) && ret->modseq <= mb->highestmodseq &&
           ret->uidnext <= mb->uidnext;
}

static void
keep(const struct view *v)
{
    AUTO(buf_free) struct buf value = BUF_INIT;

    buf_add_byte(&value, UIDS_VERSION);
    buf_add_varint(&value, v->mb->highestmodseq);
    buf_add_varint(&value, v->mb->uidnext);
    buf_add_varint(&value, v->unseen);
    uidset_encode(&v->uids, &value);
    store_cache_put(v->snap->store, v->mb->id, 0, buf_span(&value));
}

static bool
on_change(void *ctx, modseq_t modseq, uint32_t uid)
{
    struct changes *c = ctx;

    (void)modseq;
    if (uid < c->below)
        uidset_add(&c->uids, uid, uid);
    return ++c->n < CHANGES_MAX;
}

/* Bring the view to where the message UID is now. */
static enum errcode
take_change(struct view *v, uint32_t uid, struct uidset *gone,
            uint32_t *ret_unseen, bool *ret_seen, struct error *err)
{
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;

    *ret_seen = true;
    v->rows++;
    enum errcode rc = kv_get(v->snap->kv, v->snap->view, KV_STATE,
                             key_message(&k, v->mb->id, uid), &value, err);
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    const uint32_t flags =
        rc == ERR_OK ? flags_of(buf_span(&value)) : FLAG_EXPUNGED;
    if ((flags & FLAG_EXPUNGED) != 0) {
        uidset_add(gone, uid, uid);
    } else if ((flags & FLAG_SEEN) == 0) {
        *ret_seen = false;
        if (*ret_unseen == 0)
            *ret_unseen = uid;
    }
    return ERR_OK;
}

/* What changed since into the view, which is as FOUND. */
static enum errcode
take_changes(struct view *v, const struct found *found,
             const struct uidset *changed, struct error *err)
{
    AUTO(uidset_free) struct uidset gone = UIDSET_INIT;
    uint32_t unseen = 0; /* the first one of those that changed */
    bool is_seen = false;
    enum errcode rc = ERR_OK;

    for (uint32_t uid = uidset_next(changed, 1); rc == ERR_OK && uid != 0;
         uid = uidset_next(changed, uid + 1)) {
        bool seen;
        rc = take_change(v, uid, &gone, &unseen, &seen, err);
        if (uid == found->unseen)
            is_seen = seen;
    }
    for (size_t i = 0; i < gone.n; i++)
        uidset_remove(&v->uids, gone.r[i].first, gone.r[i].last);
    if (rc != ERR_OK)
        return rc;
    /* Below the one that was the first all have been seen, but for those that
     * changed. */
    v->unseen = found->unseen;
    if (unseen != 0 && (found->unseen == 0 || unseen < found->unseen))
        v->unseen = unseen;
    else if (is_seen)
        rc = find_unseen(v, found->unseen, err);
    return rc == ERR_OK && v->mb->uidnext > found->uidnext
               ? walk(v, found->uidnext, false, err)
               : rc;
}

/* From what was found before.  *RET_DONE false: all rows have to be read. */
static enum errcode
from_found(struct view *v, bool *ret_done, struct error *err)
{
    struct found found = {.uids = UIDSET_INIT};
    struct changes c = {.uids = UIDSET_INIT};
    enum errcode rc = ERR_OK;

    *ret_done = false;
    if (load(v->snap, v->mb, &found)) {
        c.below = found.uidnext;
        rc = snap_changed(v->snap, v->mb->id, found.modseq, on_change, &c, err);
        v->uids = found.uids;
        found.uids = UIDSET_INIT;
        if (rc == ERR_OK && c.n < CHANGES_MAX) {
            rc = take_changes(v, &found, &c.uids, err);
            *ret_done = rc == ERR_OK && uidset_count(&v->uids) == v->mb->exists;
        }
        if (!*ret_done)
            uidset_free(&v->uids);
    }
    uidset_free(&found.uids);
    uidset_free(&c.uids);
    return rc;
}

/* As of nothing that is known. */
static enum errcode
from_rows(struct view *v, struct error *err)
{
    v->unseen = 0;
    if (v->mb->exists != v->mb->uidnext - 1)
        return walk(v, 1, false, err);
    uidset_add(&v->uids, 1, v->mb->exists);
    return find_unseen(v, 1, err);
}

/* All are there, and it is clear where the first unseen one is. */
static bool
needs_no_rows(const struct mailbox *mb)
{
    return mb->exists == mb->uidnext - 1 &&
           (mb->unseen == 0 || mb->unseen == mb->exists);
}

/* Is what was found before of now? */
static bool
is_level(const struct view *v)
{
    struct found found = {.uids = UIDSET_INIT};
    const bool ok =
        load(v->snap, v->mb, &found) && found.modseq == v->mb->highestmodseq;

    uidset_free(&found.uids);
    return ok;
}

static enum errcode
look(struct view *v, struct error *err)
{
    bool done = false;
    enum errcode rc = ERR_OK;

    if (v->mb->exists >= KEEP_FROM_ROWS && needs_no_rows(v->mb)) {
        rc = from_rows(v, err);
        if (rc == ERR_OK && !is_level(v))
            keep(v);
        return rc;
    }
    if (v->mb->exists >= KEEP_FROM_ROWS)
        rc = from_found(v, &done, err);
    if (rc == ERR_OK && !done)
        rc = from_rows(v, err);
    if (rc == ERR_OK && v->rows >= KEEP_FROM_ROWS)
        keep(v);
    return rc;
}

enum errcode
snap_uids(struct store_snap *snap, const struct mailbox *mb, struct uidset *ret,
          uint32_t *ret_unseen, struct error *err)
{
    struct view v = {.snap = snap, .mb = mb, .uids = UIDSET_INIT};

    enum errcode rc = mb->exists == 0 ? ERR_OK : look(&v, err);
    if (rc != ERR_OK) {
        uidset_free(&v.uids);
        return rc;
    }
    uidset_free(ret);
    *ret = v.uids;
    *ret_unseen = v.unseen;
    return ERR_OK;
}
