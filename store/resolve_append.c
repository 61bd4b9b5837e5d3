/*
 * store/resolve_append.c - new messages: their UIDs, whether they were
 * delivered before, and bodies that go ahead of them in parts.
 */
#include "store/resolve_private.h"

#include "store/mutants.h"

/* Message-IDs come again within days, not for ever. */
#define DEDUP_US (UINT64_C(14) * 24 * 3600 * 1000000)

/* The next UID of a mailbox, beyond what a dead master may have given out. */
enum errcode
resolve_next_uid(const struct group *g, const struct mailbox *mb, uint32_t *ret,
                 struct error *err)
{
    const size_t n = g->st->v.nepochs;
    uint64_t uid = mb->uidnext;
    uint64_t jump = epochs_uid_jump(g->st->epochs, n, mb->uid_epoch);

    if (jump > 0 && (g->mutants & MUTANT_NARROW_HEADROOM) != 0)
        for (size_t i = 0; i < n; i++)
            if (g->st->epochs[i].epoch > mb->uid_epoch &&
                g->st->epochs[i].uid_headroom > 0)
                jump = g->st->epochs[i].uid_headroom;
    if ((g->mutants & MUTANT_NO_HEADROOM) == 0)
        uid += jump;
    if (uid >= UINT32_MAX)
        return error_set(err, ERR_LIMIT, "all UIDs of %s are used", mb->name);
    *ret = (uint32_t)uid;
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
    if (rc == ERR_NOTFOUND) {
        /* Applying the record looks for it again. */
        state_note_absent(g->st, key_span(&k));
        return ERR_OK;
    }
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
    uint64_t annot_bytes = 0;

    enum errcode rc = resolve_mailbox(g, op->id, ret, err);
    if (rc == ERR_OK)
        rc = check_dedup(g, op, err);
    if (rc == ERR_OK)
        rc = resolve_check_annots(msg->annots, msg->nannots, &annot_bytes, err);
    if (rc == ERR_OK)
        rc = resolve_check_keywords(msg->keywords, msg->nkeywords, err);
    if (rc == ERR_OK && body_part_count(msg->body) > BODY_PARTS_MAX)
        rc = error_set(err, ERR_LIMIT, "message of %" PRIu64 " bytes",
                       body_size(msg->body));
    if (rc == ERR_OK && msg->check_quota)
        rc = resolve_check_quota(
            g, (*ret)->mb.quota_root,
            (uint64_t[QUOTA_RESOURCES]){[QUOTA_STORAGE] = body_size(msg->body),
                                        [QUOTA_MESSAGE] = 1,
                                        [QUOTA_ANNOTATION] = annot_bytes},
            err);
    return rc;
}

void
resolve_keep_cache(struct group *g, mbid_t id, uint32_t uid, struct span record)
{
    if (record.n == 0)
        return;
    struct cache_put *c = arena_alloc(&g->arena, sizeof(*c));
    *c = (struct cache_put){id, uid, record, g->caches};
    g->caches = c;
}

enum errcode
op_append(struct group *g, struct op *op, struct error *err)
{
    static const uint8_t none[16];
    const struct txn_append *msg = &op->u.append.msg;
    struct rec_append rec = {.id = op->id};
    struct head *h;
    uint32_t uid;
    bool has_ref = op->u.append.ahead;

    enum errcode rc = check_append(g, op, &h, err);
    if (rc == ERR_OK)
        rc = resolve_next_uid(g, &h->mb, &uid, err);
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
        .updated_s = (int64_t)(g->time_us / 1000000),
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
    op->res.modseq = resolve_next_modseq(g, &h->mb);
    uidset_add(&op->res.uids, uid, uid);
    resolve_keep_cache(g, op->id, uid, msg->cache);
    rc = EMIT(append, REC_APPEND, &rec, err);
    if (rc == ERR_OK && msg->nannots > 0) {
        op->res.modseq = resolve_next_modseq(g, &h->mb);
        rc = resolve_put_annots(g, h, uid, msg->annots, msg->nannots, err);
    }
    return rc;
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
enum errcode
resolve_write_ahead(struct group *g, const struct store_txn *txn, struct op *op,
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
        if (op->u.append.given == NULL)
            rc = check_append(g, op, &h, err);
        else
            rc = resolve_mailbox(g, op->id, &h, err);
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
