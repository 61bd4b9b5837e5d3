/*
 * store/resolve_message.c - messages that go, and copies of messages.
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
    if (purge && op->u.expunge.uids.n == 0) {
        rc = resolve_drop_own_quota(
            g, arena_str(&g->arena, span_str(h->mb.name)), err);
        return rc == ERR_OK ? resolve_purge_whole(g, op->id, err) : rc;
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
        rc = purge ? resolve_emit_purge(g, op->id, &op->res.uids, false, err)
                   : resolve_emit_uids(g, REC_EXPUNGE, op->id, &op->res.uids,
                                       err);
    if (op->res.uids.n > 0)
        op->res.modseq = modseq_of(g->epoch, resolve_next_lsn(g) - 1);
    return rc;
}

static enum errcode
copy_one(struct group *g, struct op *op, struct head *to,
         const struct message *m, struct error *err)
{
    struct rec_append rec = {.id = op->u.copy.to, .msg = *m};

    enum errcode rc = resolve_next_uid(g, &to->mb, &rec.msg.uid, err);
    if (rc != ERR_OK)
        return rc;
    rec.msg.flags &= FLAGS_SETTABLE;
    rec.msg.modseq = 0;
    rec.msg.created_modseq = 0;
    rec.msg.saved_s = (int64_t)(g->time_us / 1000000);
    uidset_add(&op->res.from, m->uid, m->uid);
    uidset_add(&op->res.uids, rec.msg.uid, rec.msg.uid);
    op->res.modseq = modseq_of(g->epoch, resolve_next_lsn(g));
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

enum errcode
op_copy(struct group *g, struct op *op, struct error *err)
{
    struct head *from, *to;
    struct message m;
    struct walk w;
    uint64_t bytes, messages;

    enum errcode rc = resolve_mailbox(g, op->id, &from, err);
    if (rc == ERR_OK)
        rc = resolve_mailbox(g, op->u.copy.to, &to, err);
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
            rc = resolve_check_quota(
                g, to->mb.quota_root,
                (uint64_t[QUOTA_RESOURCES]){
                    [QUOTA_STORAGE] = bytes, [QUOTA_MESSAGE] = messages},
                err);
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
        rc = resolve_emit_uids(g, REC_EXPUNGE, op->id, &op->res.from, err);
    return rc;
}
