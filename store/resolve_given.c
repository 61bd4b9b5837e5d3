/*
 * store/resolve_given.c - mailboxes and messages as a peer says that they are:
 * its UIDs, MODSEQs and dates (csync by state).
 *
 * Such a transaction begins with what the session saw of the mailbox, so that
 * what a client changed meanwhile is not written over.  GUIDs are never
 * changed: a UID that means something else here is the session's to refuse.
 */
#include "store/resolve_private.h"

#include "store/local.h"

/* A record of rows stays well below RECORD_BYTES_MAX. */
#define ROWS_RECORD_BYTES (256U << 10)

enum errcode
op_expect(struct group *g, struct op *op, struct error *err)
{
    struct head *h;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc == ERR_OK && (h->mb.highestmodseq != op->u.expect.highestmodseq ||
                         h->mb.digest != op->u.expect.digest ||
                         h->mb.uidnext != op->u.expect.uidnext))
        rc = error_set(err, ERR_CONFLICT, "mailbox %s has changed meanwhile",
                       h->mb.name);
    return rc;
}

/* Is the body of GUID in the log, ahead of its message, for long enough? */
static enum errcode
is_staged(struct group *g, const struct guid *guid, uint64_t size, bool *ret,
          struct error *err)
{
    const uint32_t parts = body_parts_of(size);
    struct span value;
    struct key k;

    *ret = false;
    enum errcode rc = state_get(g->st, key_local_parts(&k, guid),
                                &g->st->scratch, &value, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    struct rd r = rd_init(value);
    const uint64_t at = rd_varint(&r);
    if (r.bad || g->time_us >= at + STAGED_S * UINT64_C(1000000))
        return ERR_OK;
    for (uint32_t i = 0; i < parts && rc == ERR_OK; i++)
        rc = state_get(g->st, key_body(&k, guid, i), &g->st->scratch, &value,
                       err);
    *ret = rc == ERR_OK;
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

/* A part a turn, where there are several. */
enum errcode
op_stage(struct group *g, struct op *op, struct error *err)
{
    const struct body *body = op->u.append.msg.body;
    const uint32_t parts = body_part_count(body);
    bool has = false;

    enum errcode rc = ERR_OK;
    if (parts > BODY_PARTS_MAX || (parts > 1 && g->slice == 0))
        return error_set(err, ERR_LIMIT, "body of %" PRIu64 " bytes",
                         body_size(body));
    if (op->at == 0) {
        rc = state_has_ref(g->st, body_guid(body), &has, err);
        if (rc == ERR_OK && !has)
            rc = is_staged(g, body_guid(body), body_size(body), &has, err);
    }
    if (rc != ERR_OK || has)
        return rc;
    struct rec_body rec = {
        .guid = *body_guid(body),
        .part = op->at,
        .parts = parts,
        .size = body_size(body),
    };
    rec.body = body_part(body, rec.part, &rec.encoding, &rec.raw_bytes,
                         &rec.body_hash);
    if (op->at + 1 < parts)
        op->next = op->at + 1;
    return EMIT(body, REC_BODY, &rec, err);
}

enum errcode
op_append_given(struct group *g, struct op *op, struct error *err)
{
    struct txn_append *msg = &op->u.append.msg;
    struct rec_append rec = {.id = op->id, .msg = *op->u.append.given};
    const struct message *m = &rec.msg;
    struct head *h;
    bool has_ref = op->u.append.ahead;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc == ERR_OK)
        rc = resolve_check_keywords(m->keywords, m->nkeywords, err);
    if (rc == ERR_OK &&
        (m->uid < h->mb.uidnext || m->uid == UINT32_MAX || m->modseq == 0))
        rc = error_set(err, ERR_CONFLICT,
                       "UID %" PRIu32 " for %s, where UIDNEXT is %" PRIu32,
                       m->uid, h->mb.name, h->mb.uidnext);
    if (rc == ERR_OK && !has_ref)
        rc = state_has_ref(g->st, &m->guid, &has_ref, err);
    if (rc == ERR_OK && !has_ref)
        rc = is_staged(g, &m->guid, m->size, &has_ref, err);
    if (rc == ERR_OK && !has_ref &&
        (msg->body == NULL || body_part_count(msg->body) > 1))
        rc = error_set(err, ERR_AGAIN, "the body was purged meanwhile");
    if (rc != ERR_OK)
        return rc;
    rec.msg.flags &= FLAGS_SETTABLE | (uint32_t)FLAG_EXPUNGED;
    if (!has_ref) {
        uint32_t raw_bytes;
        rec.has_body = true;
        rec.body =
            body_part(msg->body, 0, &rec.encoding, &raw_bytes, &rec.body_hash);
    }
    uidset_add(&op->res.uids, m->uid, m->uid);
    resolve_keep_cache(g, op->id, m->uid, msg->cache);
    return EMIT(append, REC_APPEND, &rec, err);
}

static bool
same_row(const struct message *a, const struct message *b)
{
    if (a->flags != b->flags || a->modseq != b->modseq ||
        a->created_modseq != b->created_modseq ||
        a->internal_s != b->internal_s ||
        a->internal_tz_min != b->internal_tz_min || a->saved_s != b->saved_s ||
        a->updated_s != b->updated_s || a->expunged_s != b->expunged_s ||
        a->nkeywords != b->nkeywords)
        return false;
    for (size_t i = 0; i < a->nkeywords; i++)
        if (!span_eq(a->keywords[i], b->keywords[i]))
            return false;
    return true;
}

/* Does the row ROW change something?  It gets what stays of the old one. */
static enum errcode
fit_row(struct group *g, const struct head *h, struct message *row,
        bool *ret_changes, struct error *err)
{
    struct message old;

    enum errcode rc =
        state_message(g->st, h->mb.id, row->uid, &g->arena, &old, err);
    if (rc == ERR_NOTFOUND)
        return error_set(err, ERR_CONFLICT,
                         "UID %" PRIu32 " of %s is not there", row->uid,
                         h->mb.name);
    if (rc != ERR_OK)
        return rc;
    const uint32_t gone = old.flags & row->flags & FLAG_EXPUNGED;
    if ((old.flags & ~row->flags & FLAG_EXPUNGED) != 0)
        return error_set(err, ERR_CONFLICT, "UID %" PRIu32 " of %s is gone",
                         row->uid, h->mb.name);
    if (gone == 0 && !guid_eq(&old.guid, &row->guid))
        return error_set(err, ERR_CONFLICT,
                         "UID %" PRIu32 " of %s is another message", row->uid,
                         h->mb.name);
    row->flags &= FLAGS_SETTABLE | (uint32_t)FLAG_EXPUNGED;
    row->flags |= old.flags & FLAG_ANNOTATED;
    if (gone != 0)
        row->flags |= old.flags & FLAG_UNEXPUNGED;
    row->guid = old.guid;
    row->size = old.size;
    *ret_changes = !same_row(row, &old);
    return resolve_check_keywords(row->keywords, row->nkeywords, err);
}

enum errcode
op_rows(struct group *g, struct op *op, struct error *err)
{
    const struct rec_rows *all = &op->u.rows;
    struct rec_rows rec = {.id = op->id};
    size_t bytes = 0;
    struct head *h;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    rec.rows = arena_array(&g->arena, all->n + 1, sizeof(*rec.rows));
    for (size_t i = 0; i < all->n && rc == ERR_OK; i++) {
        struct message *row = &rec.rows[rec.n];
        bool changes = false;
        *row = all->rows[i];
        rc = fit_row(g, h, row, &changes, err);
        if (rc != ERR_OK || !changes)
            continue;
        rec.n++;
        bytes += 96;
        for (size_t k = 0; k < row->nkeywords; k++)
            bytes += row->keywords[k].n + 2;
        if (bytes < ROWS_RECORD_BYTES)
            continue;
        rc = EMIT(rows, REC_ROWS, &rec, err);
        rec.n = bytes = 0;
    }
    return rc == ERR_OK && rec.n > 0 ? EMIT(rows, REC_ROWS, &rec, err) : rc;
}

enum errcode
op_head(struct group *g, struct op *op, struct error *err)
{
    const struct rec_head *rec = &op->u.given_head;
    struct head *h;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK)
        return rc;
    const struct mailbox *mb = &h->mb;
    if (rec->uidnext < mb->uidnext || rec->uidvalidity == 0)
        return error_set(err, ERR_CONFLICT,
                         "UIDNEXT %" PRIu32 " for %s, where it is %" PRIu32,
                         rec->uidnext, mb->name, mb->uidnext);
    if ((rec->options & ~(uint32_t)MBOX_KNOWN) != 0)
        return error_set(err, ERR_LIMIT, "unknown options 0x%" PRIx32,
                         rec->options);
    if (rec->uidvalidity == mb->uidvalidity && rec->uidnext == mb->uidnext &&
        rec->highestmodseq == mb->highestmodseq &&
        rec->created_modseq == mb->created_modseq &&
        rec->purged_modseq <= mb->purged_modseq &&
        rec->recent_uid == mb->recent_uid && rec->options == mb->options &&
        rec->recent_time_s == mb->recent_time_s &&
        rec->last_append_us == mb->last_append_us &&
        rec->pop3_login_s == mb->pop3_login_s &&
        rec->pop3_show_after_s == mb->pop3_show_after_s)
        return ERR_OK;
    return EMIT(head, REC_HEAD, rec, err);
}
