/*
 * store/resolve_message.c - messages that go, come back, and are copied.
 *
 * A copy names the body that is there and carries along what hangs on the
 * message: flags, keywords, annotations (RFC 5257, 4.7) and the derived record.
 */
#include "store/resolve_private.h"

enum errcode
op_expunge(struct group *g, struct op *op, struct error *err)
{
    struct head *h;
    struct message m;
    struct walk w;
    const bool purge = op->kind == OP_PURGE;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK)
        return rc;
    op->res.uidvalidity = h->mb.uidvalidity;
    walk_open(&w, g, op, h, &op->u.expunge.uids);
    while (rc == ERR_OK && walk_next(&w, &m, &rc, err)) {
        const bool gone = (m.flags & FLAG_EXPUNGED) != 0;
        if (gone == purge && (purge || !op->u.expunge.only_deleted ||
                              (m.flags & FLAG_DELETED) != 0))
            uidset_add(&op->res.uids, m.uid, m.uid);
    }
    rc = walk_close(&w, rc, err);
    if (rc == ERR_OK)
        rc = purge ? resolve_emit_purge(g, op->id, &op->res.uids, false, err)
                   : resolve_emit_uids(g, REC_EXPUNGE, op->id, &op->res.uids,
                                       err);
    if (op->res.uids.n > 0)
        op->res.modseq = h->mb.highestmodseq;
    return rc;
}

/* ---------------------------------------------------------------- copies */

/* The derived record of a message is that of its copy. */
static enum errcode
copy_cache(struct group *g, mbid_t from, uint32_t from_uid, mbid_t to,
           uint32_t uid, struct error *err)
{
    AUTO(buf_free) struct buf record = BUF_INIT;
    struct span now;
    struct key k;
    struct span key = key_message(&k, from, from_uid);

    if (kv_batch_get(g->st->batch, KV_CACHE, key, &now) == 1) {
        resolve_keep_cache(g, to, uid, arena_copy(&g->arena, now));
        return ERR_OK;
    }
    enum errcode rc = kv_get(g->st->kv, NULL, KV_CACHE, key, &record, err);
    if (rc == ERR_OK)
        resolve_keep_cache(g, to, uid,
                           arena_copy(&g->arena, buf_span(&record)));
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

/* M, of FROM, as a new message of TO with FLAGS. */
static enum errcode
copy_one(struct group *g, struct op *op, struct head *from, struct head *to,
         const struct message *m, uint32_t flags, struct error *err)
{
    struct rec_append rec = {.id = to->mb.id, .msg = *m};

    enum errcode rc = resolve_next_uid(g, &to->mb, &rec.msg.uid, err);
    if (rc == ERR_OK)
        rc = copy_cache(g, from->mb.id, m->uid, to->mb.id, rec.msg.uid, err);
    if (rc != ERR_OK)
        return rc;
    rec.msg.flags = flags & FLAGS_SETTABLE;
    rec.msg.modseq = 0;
    rec.msg.created_modseq = 0;
    rec.msg.saved_s = rec.msg.updated_s = (int64_t)(g->time_us / 1000000);
    rec.msg.expunged_s = 0;
    uidset_add(&op->res.from, m->uid, m->uid);
    uidset_add(&op->res.uids, rec.msg.uid, rec.msg.uid);
    op->res.modseq = resolve_next_modseq(g, &to->mb);
    rc = EMIT(append, REC_APPEND, &rec, err);
    return rc == ERR_OK
               ? resolve_copy_annots(g, op->kind == OP_COPY ? op : NULL, from,
                                     m, to->mb.id, rec.msg.uid, err)
               : rc;
}

/* How much is to be copied, from this turn to the last one. */
static enum errcode
measure_copy(struct group *g, struct op *op, struct head *from,
             uint64_t ret[QUOTA_RESOURCES], struct error *err)
{
    struct walk w;
    struct message m;
    enum errcode rc = ERR_OK;
    const size_t slice = g->slice;

    memset(ret, 0, QUOTA_RESOURCES * sizeof(*ret));
    g->slice = 0;
    walk_open(&w, g, op, from, &op->u.copy.uids);
    while (rc == ERR_OK && walk_next(&w, &m, &rc, err)) {
        uint64_t annots;
        if ((m.flags & FLAG_EXPUNGED) != 0)
            continue;
        rc = resolve_annot_bytes(g, from, &m, &annots, err);
        ret[QUOTA_ANNOTATION] += annots;
        ret[QUOTA_STORAGE] += m.size;
        ret[QUOTA_MESSAGE]++;
    }
    g->slice = slice;
    return walk_close(&w, rc, err);
}

static enum errcode
check_copy_quota(struct group *g, struct op *op, struct head *from,
                 struct head *to, struct error *err)
{
    uint64_t more[QUOTA_RESOURCES];

    /* All of it in the first turn.  A move below one root changes nothing. */
    if (!op->u.copy.check_quota || op->at != 0 ||
        to->mb.quota_root[0] == '\0' ||
        (op->u.copy.move &&
         strcmp(from->mb.quota_root, to->mb.quota_root) == 0))
        return ERR_OK;
    enum errcode rc = measure_copy(g, op, from, more, err);
    return rc == ERR_OK ? resolve_check_quota(g, to->mb.quota_root, more, err)
                        : rc;
}

enum errcode
op_copy(struct group *g, struct op *op, struct error *err)
{
    struct head *from, *to;
    struct message m;
    struct walk w;

    enum errcode rc = resolve_mailbox(g, op->id, &from, err);
    if (rc == ERR_OK)
        rc = resolve_mailbox(g, op->u.copy.to, &to, err);
    if (rc == ERR_OK)
        rc = check_copy_quota(g, op, from, to, err);
    if (rc != ERR_OK)
        return rc;
    op->res.id = op->u.copy.to;
    op->res.uidvalidity = to->mb.uidvalidity;
    /* Into itself: what is copied now is not copied again. */
    if (op->at == 0)
        op->u.copy.end = from->mb.uidnext;
    walk_open(&w, g, op, from, &op->u.copy.uids);
    while (rc == ERR_OK && walk_next(&w, &m, &rc, err) &&
           m.uid < op->u.copy.end) {
        if (op->u.copy.no_keywords)
            m.nkeywords = 0;
        if ((m.flags & FLAG_EXPUNGED) == 0)
            rc = copy_one(g, op, from, to, &m, m.flags & ~op->u.copy.no_flags,
                          err);
    }
    rc = walk_close(&w, rc, err);
    if (op->next >= op->u.copy.end)
        op->next = 0;
    if (rc == ERR_OK && op->u.copy.move)
        rc = resolve_emit_uids(g, REC_EXPUNGE, op->id, &op->res.from, err);
    return rc;
}

/* ------------------------------------------------------------- unexpunge */

enum errcode
op_unexpunge(struct group *g, struct op *op, struct error *err)
{
    struct head *h;
    struct message m;
    struct walk w;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK)
        return rc;
    op->res.id = op->id;
    op->res.uidvalidity = h->mb.uidvalidity;
    if (op->at == 0)
        op->u.unexpunge.end = h->mb.uidnext;
    walk_open(&w, g, op, h, &op->u.unexpunge.uids);
    while (rc == ERR_OK && walk_next(&w, &m, &rc, err) &&
           m.uid < op->u.unexpunge.end) {
        uint32_t flags = m.flags;
        if ((m.flags & (FLAG_EXPUNGED | FLAG_UNEXPUNGED)) != FLAG_EXPUNGED)
            continue;
        if (op->u.unexpunge.clear_deleted)
            flags &= ~(uint32_t)FLAG_DELETED;
        rc = copy_one(g, op, h, h, &m, flags, err);
    }
    rc = walk_close(&w, rc, err);
    if (op->next >= op->u.unexpunge.end)
        op->next = 0;
    return rc == ERR_OK ? resolve_emit_uids(g, REC_UNEXPUNGED, op->id,
                                            &op->res.from, err)
                        : rc;
}
