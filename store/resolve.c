/*
 * store/resolve.c - from what was asked to what will have happened.
 *
 * Each operation is checked against the state as the group has it so far, and
 * becomes records with absolute values, which are applied at once, so that the
 * next operation sees them.  When one fails, the whole transaction is taken
 * back: its records leave the payload, its changes the overlay.  An operation
 * marked independent fails alone, because it is checked before its first
 * record.
 *
 * This is the only place where the writer looks at clocks and randomness: what
 * it finds there is written into the record.
 */
#include "store/resolve_private.h"

#include "store/names.h"

/* Of one operation in one commit group: some milliseconds.  The others of a
 * transaction with several operations have no turns: it is whole or nothing. */
#define MESSAGES_PER_TURN 1000U

/* ------------------------------------------------------------- records */

/* Add g->body as a record and apply it. */
enum errcode
resolve_emit(struct group *g, enum record_type type, struct error *err)
{
    const size_t at = g->payload.n + RECORD_HEADER_BYTES;
    const size_t n = g->body.n;

    if (n + RECORD_HEADER_BYTES > RECORD_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "%s record of %zu bytes",
                         record_type_name((uint8_t)type), n);
    if (at + n > g->payload_max || g->nrecords >= FRAME_RECORDS_MAX) {
        g->overflow = true;
        return error_set(err, ERR_LIMIT, "more than a commit group takes");
    }
    frame_add_record(&g->payload, (uint8_t)type, record_version(type),
                     buf_span(&g->body));
    const struct record rec = {
        .lsn = resolve_next_lsn(g),
        .epoch = g->epoch,
        .type = (uint8_t)type,
        .version = record_version(type),
        .body = {g->payload.p + at, n},
        .offset = at,
    };
    const struct apply_place place = {
        .segment = g->place.segment,
        .payload_offset = g->place.payload_offset,
        .time_us = g->time_us,
    };
    g->nrecords++;
    enum errcode rc = store_apply(g->st, &rec, &place, err);
    arena_reset(&g->st->scratch);
    return rc;
}

enum errcode
resolve_mailbox(struct group *g, mbid_t id, struct head **ret,
                struct error *err)
{
    enum errcode rc = state_head(g->st, id, ret, err);
    if (rc == ERR_OK && *ret == NULL)
        rc = error_set(err, ERR_NOTFOUND, "no mailbox %" PRIu64, id);
    return rc;
}

enum errcode
resolve_check_name(const char *name, struct error *err)
{
    if (name == NULL || strlen(name) > MAILBOX_NAME_MAX)
        return error_set(err, ERR_BADNAME, "name of more than %u bytes",
                         MAILBOX_NAME_MAX);
    return name_check(name, err);
}

enum errcode
resolve_check_text(const char *what, const char *s, size_t max,
                   struct error *err)
{
    if (s != NULL && strlen(s) > max)
        return error_set(err, ERR_LIMIT, "%s of %zu bytes, at most %zu", what,
                         strlen(s), max);
    return ERR_OK;
}

enum errcode
resolve_check_keywords(const struct span *keywords, size_t n, struct error *err)
{
    if (n > KEYWORDS_PER_MESSAGE)
        return error_set(err, ERR_LIMIT, "more than %u keywords",
                         KEYWORDS_PER_MESSAGE);
    for (size_t i = 0; i < n; i++)
        if (keywords[i].n > KEYWORD_MAX)
            return error_set(err, ERR_LIMIT, "keyword of %zu bytes, at most %u",
                             keywords[i].n, KEYWORD_MAX);
    return ERR_OK;
}

/* Rows of a set of UIDs, tombstones too. */

void
walk_open(struct walk *w, struct group *g, struct op *op, struct head *h,
          const struct uidset *uids)
{
    *w = (struct walk){.uids = uids, .op = op, .slice = g->slice};
    state_iter_open(g->st, h, &w->it);
    state_iter_leave_rows(&w->it);
    w->it.next = MAX(w->it.next, op->at);
}

bool
walk_next(struct walk *w, struct message *ret, enum errcode *rc,
          struct error *err)
{
    uint32_t from = w->at < w->uids->n ? w->uids->r[w->at].first : 0;

    *rc = ERR_OK;
    arena_reset(&w->rows);
    while (w->at < w->uids->n) {
        if (!state_iter_next(&w->it, from, &w->rows, ret, rc, err))
            return false;
        while (w->at < w->uids->n && w->uids->r[w->at].last < ret->uid)
            w->at++;
        if (w->at == w->uids->n)
            return false;
        if (w->uids->r[w->at].first <= ret->uid) {
            if (w->slice == 0 || w->seen++ < w->slice)
                return true;
            w->op->next = ret->uid; /* the next turn's */
            return false;
        }
        from = w->uids->r[w->at].first;
    }
    return false;
}

enum errcode
walk_close(struct walk *w, enum errcode rc, struct error *err)
{
    arena_free(&w->rows);
    return state_iter_close(&w->it, rc, err);
}

/* A part of a group's UIDs, so that no record grows too long. */
struct uidset
resolve_part_of(const struct uidset *all, size_t at)
{
    size_t n = MIN(all->n - at, (size_t)RANGES_PER_RECORD);
    return (struct uidset){.r = all->r + at, .n = n, .cap = n};
}

enum errcode
resolve_emit_uids(struct group *g, enum record_type type, mbid_t id,
                  const struct uidset *uids, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t at = 0; at < uids->n && rc == ERR_OK; at += RANGES_PER_RECORD) {
        const struct rec_expunge rec = {.id = id,
                                        .uids = resolve_part_of(uids, at)};
        rc = EMIT(expunge, type, &rec, err);
    }
    return rc;
}

enum errcode
resolve_emit_purge(struct group *g, mbid_t id, const struct uidset *uids,
                   bool live, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t at = 0; at < uids->n && rc == ERR_OK; at += RANGES_PER_RECORD) {
        const struct rec_purge rec = {
            .id = id, .uids = resolve_part_of(uids, at), .live = live};
        rc = EMIT(purge, REC_PURGE, &rec, err);
    }
    return rc;
}

/* --------------------------------------------------------------- epochs */

static enum errcode
op_epoch(struct group *g, struct op *op, struct error *err)
{
    struct rec_epoch *rec = &op->u.epoch;
    const size_t n = g->st->v.nepochs;

    if (rec->entry.epoch != g->epoch)
        return error_set(err, ERR_HISTORY,
                         "epoch %" PRI_EPOCH
                         " is to begin, ours is %" PRI_EPOCH,
                         rec->entry.epoch, g->epoch);
    if (n > 0 && g->st->epochs[n - 1].epoch >= g->epoch)
        return error_set(err, ERR_HISTORY,
                         "epoch %" PRI_EPOCH " has begun already",
                         g->st->epochs[n - 1].epoch);
    if (n >= EPOCHS_MAX)
        return error_set(err, ERR_LIMIT, "more than %u epochs", EPOCHS_MAX);
    rec->entry.fork_lsn = resolve_next_lsn(g) - 1;
    rec->entry.fork_chain = g->chain;
    rec->entry.time_us = g->time_us;
    rec->entry.instance = g->instance;
    return EMIT(epoch, REC_EPOCH, rec, err);
}

/* ----------------------------------------------------------------- all */

static enum errcode
do_op(struct group *g, struct op *op, struct error *err)
{
    switch (op->kind) {
    case OP_CREATE:
        return op_create(g, op, err);
    case OP_DELETE:
        return op_delete(g, op, err);
    case OP_RENAME:
        return op_rename(g, op, err);
    case OP_SET_ACL:
    case OP_SET_SPECIAL_USE:
        return op_set(g, op, err);
    case OP_SET_RECENT:
        return op_set_recent(g, op, err);
    case OP_RAISE_MODSEQ:
        return op_raise_modseq(g, op, err);
    case OP_APPEND:
        return op->u.append.given != NULL ? op_append_given(g, op, err)
                                          : op_append(g, op, err);
    case OP_FLAGS:
        return op_flags(g, op, err);
    case OP_EXPUNGE:
    case OP_PURGE:
        return op_expunge(g, op, err);
    case OP_SET_OPTIONS:
    case OP_SET_PARTITION:
    case OP_SET_UIDVALIDITY:
        return op_set_head(g, op, err);
    case OP_RENAME_USER:
        return op_rename_user(g, op, err);
    case OP_USER_REMOVE_ALL:
        return op_user_remove_all(g, op, err);
    case OP_ANNOTATE:
        return op_annotate(g, op, err);
    case OP_SEEN:
        return op_seen(g, op, err);
    case OP_UNEXPUNGE:
        return op_unexpunge(g, op, err);
    case OP_FORGET:
        return op_forget(g, op, err);
    case OP_COPY:
        return op_copy(g, op, err);
    case OP_USER:
        return op_user(g, op, err);
    case OP_QUOTA:
        return op_quota(g, op, err);
    case OP_STAGE:
        return op_stage(g, op, err);
    case OP_EXPECT:
        return op_expect(g, op, err);
    case OP_ROWS:
        return op_rows(g, op, err);
    case OP_HEAD:
        return op_head(g, op, err);
    case OP_SEEN_AS_GIVEN:
        return op_seen_as_given(g, op, err);
    case OP_EPOCH:
        return op_epoch(g, op, err);
    }
    return ERR_UNSUPPORTED;
}

/* May a failed operation fail alone?  Only for reasons of its own. */
static bool
fails_alone(const struct op *op, enum errcode rc)
{
    return op->independent && (rc == ERR_NOTFOUND || rc == ERR_QUOTA ||
                               rc == ERR_LIMIT || rc == ERR_EXISTS);
}

static enum errcode
run_ahead(struct group *g, struct store_txn *txn, bool *ret_more,
          struct error *err)
{
    enum errcode rc = ERR_OK;
    const size_t start = g->payload.n;

    for (size_t i = 0; i < txn->nops && rc == ERR_OK; i++) {
        struct op *op = &txn->ops[i];
        while (rc == ERR_OK && op->kind == OP_APPEND && op->u.append.ahead &&
               op->u.append.parts_done <
                   body_part_count(op->u.append.msg.body)) {
            if (g->payload.n - start >= BODY_PART_BYTES)
                return ERR_OK;
            rc = resolve_write_ahead(g, txn, op, ret_more, err);
        }
    }
    return rc;
}

static enum errcode
run_ops(struct group *g, struct store_txn *txn)
{
    for (size_t i = 0; i < txn->nops; i++) {
        struct op *op = &txn->ops[i];
        struct error err = {0};
        const size_t bytes = g->payload.n;
        enum errcode rc = do_op(g, op, &err);
        op->res.code = rc;
        if (rc == ERR_OK ||
            (fails_alone(op, rc) && bytes == g->payload.n && !g->overflow))
            continue;
        txn->err = err;
        return rc;
    }
    return ERR_OK;
}

static void
put_caches(struct group *g)
{
    struct key k;

    for (struct cache_put *c = g->caches; c != NULL; c = c->next)
        kv_batch_put(g->st->batch, KV_CACHE, key_message(&k, c->id, c->uid),
                     c->record);
}

/* A transaction of one operation may have several turns. */
static void
begin_txn(struct group *g, struct store_txn *txn)
{
    state_mark(g->st);
    arena_reset(&g->arena);
    g->caches = NULL;
    g->overflow = false;
    g->slice = txn->nops == 1 ? MESSAGES_PER_TURN : 0;
    txn_reset(txn);
}

static bool
has_next_turn(const struct store_txn *txn)
{
    return txn->nops == 1 && txn->ops[0].next != 0;
}

/*
 * A copy that fails in a later turn: what it has made so far goes again (RFC
 * 9051, 6.4.7).  The transaction's code stays that of the failure.
 */
static enum txn_outcome
take_back_turns(struct group *g, struct store_txn *txn)
{
    const struct op *op = &txn->ops[0];
    const size_t bytes = g->payload.n;
    const uint32_t records = g->nrecords;
    struct error err = {0};
    struct head *h = NULL;

    if (txn->nops != 1 || op->kind != OP_COPY || op->u.copy.move ||
        op->kept.uids.n == 0)
        return TXN_DONE;
    state_mark(g->st);
    enum errcode rc = state_head(g->st, op->u.copy.to, &h, &err);
    if (rc == ERR_OK && h != NULL)
        rc = resolve_emit_uids(g, REC_EXPUNGE, op->u.copy.to, &op->kept.uids,
                               &err);
    if (rc == ERR_OK)
        return TXN_DONE;
    g->payload.n = bytes;
    g->nrecords = records;
    state_rollback(g->st);
    return TXN_DONE;
}

enum txn_outcome
resolve_txn(struct group *g, struct store_txn *txn)
{
    const size_t bytes = g->payload.n;
    const uint32_t records = g->nrecords;
    bool more = false;

    begin_txn(g, txn);
    txn->code = run_ahead(g, txn, &more, &txn->err);
    if (txn->code == ERR_OK && !more) {
        txn->code = run_ops(g, txn);
        more = txn->code == ERR_OK && has_next_turn(txn);
    }
    /* Parts that are written may stay: they are records on their own. */
    if (more && g->overflow) {
        g->overflow = false;
        txn->code = ERR_OK;
    }
    arena_reset(&g->st->scratch);
    if (txn->code == ERR_OK) {
        put_caches(g);
        if (g->nrecords > records)
            txn->lsn = resolve_next_lsn(g) - 1;
        if (more)
            return TXN_MORE;
        txn_end_turns(txn);
        return TXN_DONE;
    }
    g->payload.n = bytes;
    g->nrecords = records;
    state_rollback(g->st);
    arena_reset(&g->st->scratch);
    if (g->overflow)
        return TXN_OVERFLOW;
    return take_back_turns(g, txn);
}
