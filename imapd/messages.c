/*
 * imapd/messages.c - STORE, COPY, MOVE, EXPUNGE.
 *
 * A STORE over very many messages goes to the writer in pieces, so that one
 * client does not hold up all others; each piece is answered when it is
 * durable, while the next one is under way.  COPY and MOVE are one transaction:
 * RFC 3501, 6.4.7 wants all or nothing.
 */
#include "imapd/annotate.h"
#include "imapd/notify.h"
#include "store/epochs.h"

#define STORE_CHUNK 1000U
#define FETCHES_PER_TURN 500U

bool
take_chunk(const struct uidset *all, uint32_t *done, uint64_t n,
           struct uidset *ret)
{
    uidset_clear(ret);
    for (size_t i = 0; i < all->n && n > 0; i++) {
        if (all->r[i].last <= *done)
            continue;
        uint32_t first = MAX(all->r[i].first, *done + 1);
        uint64_t take = MIN((uint64_t)all->r[i].last - first + 1, n);
        *done = (uint32_t)(first + take - 1);
        n -= take;
        uidset_add(ret, first, *done);
    }
    return ret->n > 0;
}

/* ---- STORE ------------------------------------------------------------- */

struct store_job {
    struct uidset all;
    uint32_t done;        /* of them, up to this UID in chunks */
    struct uidset coming; /* the chunk that the writer has */
    struct uidset chunk;  /* the one before, which is told now */
    uint32_t told;        /* of it: answered up to this UID */
    uint32_t flags;
    uint32_t keep;
    bool keywords;
    bool some_gone;
    bool sets_seen;         /* \Seen, kept apart for this user, is touched */
    bool seen;              /* and becomes this */
    modseq_t since;         /* UNCHANGEDSINCE */
    struct uidset modified; /* changed since: left as they were */
};

static void
store_end(struct imap_session *s)
{
    struct store_job *job = s->job;

    uidset_free(&job->all);
    uidset_free(&job->coming);
    uidset_free(&job->chunk);
    uidset_free(&job->modified);
}

static enum run
stored(struct imap_session *s);
static enum run
store_over(struct imap_session *s);

/* A message as it is now; UID only where it was asked by UID. */
static void
write_stored(struct imap_session *s, const struct message *msg)
{
    write_fetch_begin(s, msg->uid);
    size_t start = s->out.n;
    if (!s->cmd->silent) {
        buf_add_str(&s->out, "FLAGS ");
        write_flags(&s->out, flags_seen(s, msg), msg->keywords, msg->nkeywords,
                    shows_recent(s, msg->uid));
    }
    if (s->cmd->uid || s->condstore || s->rev2)
        write_fetch_uid(s, msg->uid, s->out.n == start);
    write_modseq(s, s->out.n == start, msg->modseq);
    buf_add_str(&s->out, ")\r\n");
}

/* Messages of a chunk, one after the other, as one snapshot has them. */
struct stored_rows {
    struct store_snap *snap;
    struct msg_iter *it; /* NULL: they lie far apart, and are looked up */
    struct arena a;
    struct message msg;
};

static void
rows_open(struct imap_session *s, struct stored_rows *rows)
{
    const struct store_job *job = s->job;
    const struct uidset *c = &job->chunk;
    const uint32_t from =
        job->told == UINT32_MAX ? 0 : uidset_next(c, job->told + 1);

    *rows = (struct stored_rows){.snap = store_snapshot(s->store)};
    if (from != 0 && (c->r[c->n - 1].last - from) / 4 <= uidset_count(c))
        rows->it = snap_messages(rows->snap, s->sel->id, from, false);
}

/* UIDs only rise.  False: it is gone. */
static bool
rows_find(struct imap_session *s, struct stored_rows *rows, uint32_t uid)
{
    struct error err = {0};

    arena_reset(&rows->a);
    if (rows->it == NULL)
        return snap_message(rows->snap, s->sel->id, uid, &rows->a, &rows->msg,
                            &err) == ERR_OK &&
               (rows->msg.flags & FLAG_EXPUNGED) == 0;
    while (rows->msg.uid < uid)
        if (!msg_iter_next(rows->it, &rows->msg))
            rows->msg.uid = UINT32_MAX;
    return rows->msg.uid == uid;
}

static void
rows_close(struct stored_rows *rows)
{
    struct error ignored = {0};

    (void)!msg_iter_close(&rows->it, &ignored);
    store_release(&rows->snap);
    arena_free(&rows->a);
}

/* True: all of the chunk has been told. */
static bool
tell_some(struct imap_session *s, struct stored_rows *rows)
{
    struct store_job *job = s->job;

    for (unsigned n = 0; n < FETCHES_PER_TURN && !is_full(s); n++) {
        uint32_t uid = job->told == UINT32_MAX
                           ? 0
                           : uidset_next(&job->chunk, job->told + 1);
        if (uid == 0)
            return true;
        job->told = uid;
        if (rows_find(s, rows, uid))
            write_stored(s, &rows->msg);
        else
            job->some_gone = true;
    }
    return false;
}

static enum run
store_tell(struct imap_session *s)
{
    const struct store_job *job = s->job;
    /* RFC 7162, 3.1.3: the new MODSEQ is told even where flags are not. */
    bool all = s->cmd->silent && !s->condstore;

    if (!all) {
        struct stored_rows rows;
        rows_open(s, &rows);
        all = tell_some(s, &rows);
        rows_close(&rows);
    }
    if (!all)
        return is_full(s) ? RUN_FULL : RUN_YIELD;
    return job->coming.n > 0 ? submit_wait(s, stored) : store_over(s);
}

/*
 * The flags of UIDS.  CHECKED: only of those that nobody has changed since the
 * client says, or, where it does not want to hear of the flags, since it heard
 * of them last.
 */
static void
store_flags(struct imap_session *s, struct store_txn *txn,
            const struct uidset *uids, bool checked)
{
    const struct store_job *job = s->job;
    const struct imap_command *cmd = s->cmd;
    const struct txn_flags op = {
        .id = s->sel->id,
        .uids = uids,
        .mode = cmd->store_mode == '+'   ? FLAGS_ADD
                : cmd->store_mode == '-' ? FLAGS_REMOVE
                                         : FLAGS_REPLACE,
        .flags = job->flags,
        .keywords = cmd->flags.keywords,
        .nkeywords = job->keywords ? cmd->flags.nkeywords : 0,
        .keep = job->keep,
        .unchanged_since = cmd->has_since ? job->since : s->sel->modseq,
        .has_unchanged_since = checked && (cmd->has_since || cmd->silent),
    };
    txn_flags(txn, &op);
}

/* The transaction of the next chunk; NULL: there is none. */
static struct store_txn *
next_chunk(struct imap_session *s)
{
    struct store_job *job = s->job;

    if (!take_chunk(&job->all, &job->done, STORE_CHUNK, &job->coming))
        return NULL;
    s->progress_done += uidset_count(&job->coming);
    struct store_txn *txn = txn_new();
    store_flags(s, txn, &job->coming, true);
    if (job->sets_seen && !s->cmd->has_since)
        txn_seen(txn, s->sel->id, s->user, &job->coming, job->seen);
    return txn;
}

/* The chunk is stored: tell it while the next one is. */
static enum run
store_begin_telling(struct imap_session *s)
{
    struct store_txn *txn = next_chunk(s);

    if (txn != NULL)
        submit_ahead(s, txn);
    s->run = store_tell;
    return store_tell(s);
}

static void
note_seen(struct imap_session *s, const struct txn_result *res)
{
    const struct store_job *job = s->job;
    struct selected *sel = s->sel;

    for (size_t i = 0; i < job->chunk.n; i++)
        if (job->seen)
            uidset_add(&sel->seen, job->chunk.r[i].first, job->chunk.r[i].last);
        else
            uidset_remove(&sel->seen, job->chunk.r[i].first,
                          job->chunk.r[i].last);
    note_own(sel, &res->uids, res->modseq);
}

/* The second half of a conditional STORE: of those that were not refused. */
static enum run
stored_seen(struct imap_session *s)
{
    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    note_seen(s, txn_result(s->txn, 0));
    return store_begin_telling(s);
}

/* With .SILENT, of messages that somebody else has changed too: all their
 * flags are news, and told at the end. */
static enum run
stored_unknown(struct imap_session *s)
{
    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    return store_begin_telling(s);
}

static enum run
stored(struct imap_session *s)
{
    struct store_job *job = s->job;
    struct selected *sel = s->sel;
    const struct uidset told = job->chunk;

    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    job->chunk = job->coming;
    job->coming = told;
    uidset_clear(&job->coming);
    const struct txn_result *res = txn_result(s->txn, 0);
    note_own(sel, &res->uids, res->modseq);
    if (res->refused.n > 0 && s->cmd->has_since) {
        uidset_add_set(&job->modified, &res->refused);
        for (size_t i = 0; i < res->refused.n; i++)
            uidset_remove(&job->chunk, res->refused.r[i].first,
                          res->refused.r[i].last);
    }
    job->told = 0;
    if (job->sets_seen && s->cmd->has_since && job->chunk.n > 0) {
        struct store_txn *txn = txn_new();
        txn_seen(txn, sel->id, s->user, &job->chunk, job->seen);
        return submit(s, txn, stored_seen);
    }
    if (job->sets_seen && !s->cmd->has_since)
        note_seen(s, txn_result(s->txn, 1));
    if (res->refused.n > 0 && !s->cmd->has_since) {
        struct store_txn *txn = txn_new();
        store_flags(s, txn, &res->refused, false);
        return submit(s, txn, stored_unknown);
    }
    return store_begin_telling(s);
}

/* RFC 7162, 3.1.3 */
static enum run
store_modified(struct imap_session *s)
{
    struct store_job *job = s->job;
    AUTO(buf_free) struct buf text = BUF_INIT; /* longer than reply() takes */
    AUTO(uidset_free) struct uidset seqs = UIDSET_INIT;

    buf_add_str(&text, job->some_gone ? "NO [MODIFIED " : "OK [MODIFIED ");
    if (s->cmd->uid) {
        uidset_format(&job->modified, &text);
    } else {
        for (uint32_t uid = uidset_next(&job->modified, 1); uid != 0;
             uid = uid == UINT32_MAX ? 0 : uidset_next(&job->modified, uid + 1))
            uidset_add(&seqs, seqmap_seq(&s->sel->map, uid),
                       seqmap_seq(&s->sel->map, uid));
        uidset_format(&seqs, &text);
    }
    buf_add_str(&text, "] Conditional STORE failed");
    s->reply = arena_str(&s->arena, buf_span(&text));
    return RUN_DONE;
}

static enum run
store_over(struct imap_session *s)
{
    const struct store_job *job = s->job;

    if (job->modified.n > 0)
        return store_modified(s);
    if (job->some_gone) /* RFC 5530 */
        return reply(s, "NO [EXPUNGEISSUED] Some messages are gone");
    return reply(s, "OK Completed");
}

/*
 * RFC 4314, 4: what the user may not set is left as it is, and it is an error
 * only where nothing of what was asked for is allowed.
 */
static bool
store_rights(struct imap_session *s, struct store_job *job)
{
    uint32_t rights = s->sel->rights, allowed = 0;

    if ((rights & ACL_SEEN) != 0)
        allowed |= FLAG_SEEN;
    if ((rights & ACL_DELETEMSG) != 0)
        allowed |= FLAG_DELETED;
    if ((rights & ACL_WRITE) != 0)
        allowed |= FLAG_ANSWERED | FLAG_FLAGGED | FLAG_DRAFT;
    job->flags = s->cmd->flags.flags & allowed;
    job->keep = FLAGS_SETTABLE & ~allowed;
    job->keywords = (rights & ACL_WRITE) != 0;
    const bool named = (s->cmd->flags.flags & FLAG_SEEN) != 0;
    if (s->sel->own_seen && (allowed & FLAG_SEEN) != 0 &&
        (named || s->cmd->store_mode == '=')) {
        job->sets_seen = true;
        job->seen = named && s->cmd->store_mode != '-';
    }
    if (s->sel->own_seen) { /* the flag is nobody's here */
        job->flags &= ~(uint32_t)FLAG_SEEN;
        job->keep |= FLAG_SEEN;
    }
    /* REPLACE touches everything, so any right will do there. */
    if (s->cmd->store_mode == '=')
        return allowed != 0;
    if (s->cmd->flags.flags == 0 && s->cmd->flags.nkeywords == 0)
        return true;
    return job->flags != 0 || job->sets_seen ||
           (job->keywords && s->cmd->flags.nkeywords > 0);
}

enum run
cmd_store(struct imap_session *s)
{
    if (s->cmd->nannots > 0)
        return store_annotations(s);
    struct store_job *job = arena_alloc(&s->arena, sizeof(*job));

    s->job = job;
    s->job_end = store_end;
    if (refuse_on_replica(s))
        return RUN_DONE;
    if (s->sel->readonly)
        return reply(s, "NO Mailbox is read-only");
    if (!store_rights(s, job))
        return reply(s, "NO [NOPERM] Permission denied");
    if (!resolve_set(s, s->cmd->set, s->cmd->uid, &job->all))
        return RUN_DONE;
    limit_messages(s, &job->all);
    s->progress_goal = uidset_count(&job->all);
    if (s->cmd->has_since) {
        struct error err = {0};
        AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
        if (snap_living_modseq(snap, s->cmd->since, &job->since, &err) !=
            ERR_OK)
            return reply_error(s, &err);
        enable_condstore(s);
    }
    struct store_txn *txn = next_chunk(s);
    return txn == NULL ? store_over(s) : submit(s, txn, stored);
}

/* ---- COPY, MOVE -------------------------------------------------------- */

static void
write_copyuid(struct buf *out, const struct txn_result *res)
{
    buf_addf(out, "OK [COPYUID %" PRIu32 " ", res->uidvalidity);
    uidset_format(&res->from, out);
    buf_add_byte(out, ' ');
    uidset_format(&res->uids, out);
    buf_add_str(out, "] Completed");
}

struct copy_job {
    mbid_t to;
    bool own_seen;   /* \Seen is kept apart for this user there */
    bool may_see;    /* right s there */
    bool tells_uids; /* RFC 9051, 6.4.7: to who may read them */
};

/* The copies are there; that \Seen could not be set is no reason to say that
 * they are not. */
static enum run
copied_seen(struct imap_session *s)
{
    (void)s;
    return RUN_DONE;
}

/* The copies of what this user has seen, where flags alone do not tell. */
static enum errcode
seen_copies(struct imap_session *s, const struct txn_result *res,
            struct uidset *ret, struct error *err)
{
    const struct copy_job *job = s->job;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    AUTO(arena_free) struct arena a = ARENA_INIT;
    uint32_t from = uidset_next(&res->from, 1);
    uint32_t to = uidset_next(&res->uids, 1);
    enum errcode rc = ERR_OK;

    while (from != 0 && to != 0 && rc == ERR_OK) {
        struct message msg = {0};
        bool seen = uidset_has(&s->sel->seen, from);
        if (!s->sel->own_seen) {
            rc = snap_message(snap, job->to, to, &a, &msg, err);
            seen = (msg.flags & FLAG_SEEN) != 0;
            arena_reset(&a);
        }
        if (seen)
            uidset_add(ret, to, to);
        from = from == UINT32_MAX ? 0 : uidset_next(&res->from, from + 1);
        to = to == UINT32_MAX ? 0 : uidset_next(&res->uids, to + 1);
    }
    return rc;
}

static enum run
copied(struct imap_session *s)
{
    const struct copy_job *job = s->job;
    AUTO(uidset_free) struct uidset seen = UIDSET_INIT;
    AUTO(buf_free) struct buf text = BUF_INIT; /* longer than reply() takes */
    struct error err = {0};

    if (txn_code(s->txn) != ERR_OK)
        return reply_error_try(s, txn_error(s->txn));
    const struct txn_result *res = txn_result(s->txn, 0);
    if (res->uids.n == 0)
        return reply(s, "OK Completed");
    notify_own(s, job->to, &res->uids);
    write_copyuid(&text, res);
    if (!job->tells_uids) {
        reply(s, "OK Completed");
    } else if (s->cmd->cmd ==
               CMD_MOVE) { /* RFC 6851, 4.3: before the EXPUNGEs */
        buf_add_str(&s->out, "* ");
        buf_add(&s->out, buf_span(&text));
        buf_add_str(&s->out, "\r\n");
        reply(s, "OK Completed");
    } else {
        s->reply = arena_str(&s->arena, buf_span(&text));
    }
    if ((!s->sel->own_seen && !job->own_seen) || !job->may_see)
        return RUN_DONE;
    if (seen_copies(s, res, &seen, &err) != ERR_OK || seen.n == 0)
        return RUN_DONE;
    struct store_txn *txn = txn_new();
    /* What came along as a flag is the owner's there. */
    const struct txn_flags owners = {
        .id = job->to, .uids = &seen, .mode = FLAGS_REMOVE, .flags = FLAG_SEEN};
    if (job->own_seen && !s->sel->own_seen)
        txn_flags(txn, &owners);
    txn_seen(txn, job->to, s->user, &seen, true);
    return submit(s, txn, copied_seen);
}

/* The target's rights; false: the reply is set. */
static bool
copy_target(struct imap_session *s, struct mailbox *ret)
{
    struct error err = {0};
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    const char *name = internal_name(s, s->cmd->name);

    if (name == NULL)
        return false;
    enum errcode rc = snap_mailbox_by_name(snap, name, &s->arena, ret, &err);
    if (rc == ERR_OK && (rights_of(s, ret) & ACL_LOOKUP) == 0)
        rc = error_set(&err, ERR_NOTFOUND, "not to be seen");
    if (rc == ERR_OK && (rights_of(s, ret) & ACL_INSERT) == 0)
        rc = error_set(&err, ERR_DENIED, "no right to insert");
    if (rc != ERR_OK)
        reply_error_try(s, &err);
    return rc == ERR_OK;
}

/* RFC 9738: what is all or nothing is nothing then.  True: the reply is set. */
static bool
exceeds_limit(struct imap_session *s, uint64_t n)
{
    const uint32_t max = s->opt->message_limit;

    if (max > 0 && n > max)
        reply(s, "NO [MESSAGELIMIT %" PRIu32 "] Too many messages", max);
    return max > 0 && n > max;
}

static uint32_t
settable_flags(uint32_t rights)
{
    return ((rights & ACL_SEEN) != 0 ? (uint32_t)FLAG_SEEN : 0U) |
           ((rights & ACL_DELETEMSG) != 0 ? (uint32_t)FLAG_DELETED : 0U) |
           ((rights & ACL_WRITE) != 0
                ? FLAG_ANSWERED | FLAG_FLAGGED | FLAG_DRAFT
                : 0U);
}

enum run
cmd_copy(struct imap_session *s)
{
    bool move = s->cmd->cmd == CMD_MOVE;
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    struct mailbox to;

    if (refuse_on_replica(s))
        return RUN_DONE;
    if (move && s->sel->readonly)
        return reply(s, "NO Mailbox is read-only");
    if (move && (s->sel->rights & (ACL_DELETEMSG | ACL_EXPUNGE)) !=
                    (ACL_DELETEMSG | ACL_EXPUNGE))
        return reply(s, "NO [NOPERM] Permission denied");
    if (!resolve_set(s, s->cmd->set, s->cmd->uid, &uids) ||
        !copy_target(s, &to))
        return RUN_DONE;
    if (uids.n == 0)
        return reply(s, "OK Completed");
    if (exceeds_limit(s, uidset_count(&uids)))
        return RUN_DONE;
    struct copy_job *job = arena_alloc(&s->arena, sizeof(*job));
    job->to = to.id;
    job->own_seen = mailbox_has_own_seen(&to, s->user);
    const uint32_t rights = rights_of(s, &to);
    job->tells_uids = (rights & ACL_READ) != 0;
    job->may_see = (rights & ACL_SEEN) != 0;
    s->job = job;
    struct store_txn *txn = txn_new();
    const size_t op = txn_copy(txn, s->sel->id, &uids, to.id, move, true);
    /* RFC 5257, 4.6.  What is moved stays everybody's. */
    txn_copy_annots(txn, op, move ? NULL : s->user,
                    (rights & ACL_ANNOTATE) != 0);
    /* RFC 4314, 4: flags that the user may not set there are left out. */
    txn_copy_flags(txn, op, settable_flags(rights), (rights & ACL_WRITE) != 0);
    return submit(s, txn, copied);
}

/* ---- EXPUNGE ----------------------------------------------------------- */

static enum run
expunged(struct imap_session *s)
{
    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    const struct txn_result *res = txn_result(s->txn, 0);
    if (s->qresync && res->uids.n > 0) /* RFC 7162, 3.2.9 */
        return reply(s, "OK [HIGHESTMODSEQ %" PRIu64 "] Completed",
                     res->modseq);
    return reply(s, "OK Completed"); /* EXPUNGE comes by keeping level */
}

enum run
cmd_expunge(struct imap_session *s)
{
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;

    if (refuse_on_replica(s))
        return RUN_DONE;
    if (s->sel->readonly)
        return reply(s, "NO Mailbox is read-only");
    if ((s->sel->rights & ACL_EXPUNGE) == 0)
        return reply(s, "NO [NOPERM] Permission denied");
    if (s->cmd->uid) {
        if (!resolve_set(s, s->cmd->set, true, &uids))
            return RUN_DONE;
        limit_messages(s, &uids);
    } else if (seqmap_count(&s->sel->map) > 0) {
        uidset_add(&uids, 1, seqmap_last_uid(&s->sel->map));
    }
    if (uids.n == 0)
        return reply(s, "OK Completed");
    struct store_txn *txn = txn_new();
    txn_expunge(txn, s->sel->id, &uids, true);
    return submit(s, txn, expunged);
}
