/*
 * imapd/select.c - the selected mailbox: opening, keeping level, IDLE, closing.
 *
 * The client's picture is `map` (what it counts), `gone` (expunged, not told
 * yet) and `modseq` (up to where it knows).  Keeping level asks the store for
 * what changed since `modseq` and tells it; an EXPUNGE is told only where
 * sequence numbers may change.  Should the picture not add up afterwards (a
 * tombstone that was purged before we saw it), all UIDs are read again.
 */
#include "imapd/annotate.h"
#include "imapd/context.h"
#include "imapd/notify.h"
#include "store/epochs.h"

#include <stdlib.h>

/* ---- our own changes --------------------------------------------------- */

static void
forget_own(struct selected *sel)
{
    for (size_t i = 0; i < sel->nown; i++)
        uidset_free(&sel->own[i].uids);
    free(sel->own);
    sel->own = NULL;
    sel->nown = 0;
}

void
note_own(struct selected *sel, const struct uidset *uids, modseq_t modseq)
{
    if (uids->n == 0)
        return;
    sel->own = xrealloc(sel->own, (sel->nown + 1) * sizeof(sel->own[0]));
    struct own_change *own = &sel->own[sel->nown];
    *own = (struct own_change){.uids = UIDSET_INIT,
                               .first = uids->r[0].first,
                               .last = uids->r[uids->n - 1].last,
                               .modseq = modseq};
    uidset_add_set(&own->uids, uids);
    if (sel->nown > 0)
        own->last = MAX(own->last, own[-1].last);
    for (size_t i = sel->nown++; i > 0; i--) {
        if (sel->own[i - 1].first <= own->first)
            break;
        sel->own[i - 1].first = own->first;
    }
}

static bool
is_own(const struct selected *sel, uint32_t uid, modseq_t modseq)
{
    size_t lo = 0, hi = sel->nown;

    while (lo < hi) { /* the first one that begins above UID */
        size_t mid = lo + (hi - lo) / 2;
        if (sel->own[mid].first <= uid)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo > 0; lo--) {
        const struct own_change *own = &sel->own[lo - 1];
        if (own->last < uid)
            break;
        if (modseq <= own->modseq && uidset_has(&own->uids, uid))
            return true;
    }
    return false;
}

void
unselect(struct imap_session *s)
{
    store_unwatch(&s->watch);
    if (s->sel == NULL)
        return;
    seqmap_free(&s->sel->map);
    uidset_free(&s->sel->gone);
    uidset_free(&s->sel->recent);
    forget_own(s->sel);
    contexts_free(s->sel);
    uidset_free(&s->sel->saved);
    uidset_free(&s->sel->seen);
    free(s->sel);
    s->sel = NULL;
    notify_selected(s);
    if (s->state == STATE_SELECTED)
        s->state = STATE_AUTH;
}

/* ---- keeping level ----------------------------------------------------- */

/* What changed, as snap_changed() tells it. */
struct changes {
    const struct selected *sel; /* whose own changes are no news */
    struct uidset uids;
};

static bool
on_changed(void *ctx, modseq_t modseq, uint32_t uid)
{
    struct changes *c = ctx;

    if (!is_own(c->sel, uid, modseq))
        uidset_add(&c->uids, uid, uid);
    return true;
}

void
write_fetch_begin(struct imap_session *s, uint32_t uid)
{
    buf_add_str(&s->out, "* ");
    write_number(&s->out, s->uidonly ? uid : seqmap_seq(&s->sel->map, uid));
    buf_add_str(&s->out, s->uidonly ? " UIDFETCH (" : " FETCH (");
}

void
write_fetch_uid(struct imap_session *s, uint32_t uid, bool first)
{
    if (s->uidonly)
        return;
    buf_add_str(&s->out, first ? "UID " : " UID ");
    write_number(&s->out, uid);
}

bool
shows_recent(const struct imap_session *s, uint32_t uid)
{
    return !s->rev2 && uidset_has(&s->sel->recent, uid);
}

static void
write_fetch_flags(struct imap_session *s, struct store_snap *snap,
                  const struct message *msg, bool uid)
{
    write_fetch_begin(s, msg->uid);
    buf_add_str(&s->out, "FLAGS ");
    write_flags(&s->out, flags_seen(s, msg), msg->keywords, msg->nkeywords,
                shows_recent(s, msg->uid));
    if (uid || s->condstore || s->rev2) /* RFC 7162, 3.2.4; 9051, 7.5.2 */
        write_fetch_uid(s, msg->uid, false);
    write_modseq(s, false, msg->modseq);
    if (s->sel->annotate || notify_tells_annotations(s))
        write_annot_names(s, snap, msg);
    buf_add_str(&s->out, ")\r\n");
    if (s->out.n > 16384)
        flush(s);
}

/* EXPUNGE of all that is gone: numbers count down as they are told. */
static void
write_expunges(struct imap_session *s)
{
    struct selected *sel = s->sel;
    struct uidset told = UIDSET_INIT;
    uint32_t shift = 0;

    seqmap_intersect(&sel->map, &sel->gone, &told);
    contexts_expunge(s, &told); /* RFC 5267, 4.3.4: before the numbers change */
    const bool vanished = s->qresync || s->uidonly;
    if (vanished && told.n > 0) { /* RFC 7162, 3.2.10; RFC 9586 */
        buf_add_str(&s->out, "* VANISHED ");
        uidset_format(&told, &s->out);
        buf_add_str(&s->out, "\r\n");
    }
    for (uint32_t uid = uidset_next(&told, 1); uid != 0;
         uid = uid == UINT32_MAX ? 0 : uidset_next(&told, uid + 1)) {
        if (vanished)
            break;
        buf_addf(&s->out, "* %" PRIu32 " EXPUNGE\r\n",
                 seqmap_seq(&sel->map, uid) - shift);
        shift++;
        if (s->out.n > 16384)
            flush(s);
    }
    seqmap_remove(&sel->map, &told);
    for (size_t i = 0; i < told.n; i++)
        uidset_remove(&sel->recent, told.r[i].first, told.r[i].last);
    uidset_free(&told);
    uidset_free(&sel->gone);
}

static void
write_sizes(struct imap_session *s)
{
    buf_addf(&s->out, "* %" PRIu32 " EXISTS\r\n", seqmap_count(&s->sel->map));
    if (!s->rev2) /* RFC 9051, Appendix E, 12 */
        buf_addf(&s->out, "* %" PRIu64 " RECENT\r\n",
                 uidset_count(&s->sel->recent));
}

static void
add_message(struct selected *sel, uint32_t uid, uint32_t recent_uid)
{
    seqmap_append(&sel->map, uid);
    if (uid > recent_uid)
        uidset_add(&sel->recent, uid, uid);
}

/* It went at MODSEQ; 0: some time since the client was told last. */
static void
note_gone(struct selected *sel, uint32_t uid, modseq_t modseq)
{
    if (modseq == 0)
        modseq = sel->modseq + 1;
    if (sel->gone.n == 0 || modseq < sel->gone_modseq)
        sel->gone_modseq = modseq;
    uidset_add(&sel->gone, uid, uid);
}

/* All UIDs again; those that are in the map and not there are gone. */
static enum errcode
rescan(struct imap_session *s, struct store_snap *snap,
       const struct mailbox *mb, struct error *err)
{
    struct selected *sel = s->sel;
    struct uidset there = UIDSET_INIT;
    uint32_t unseen;

    enum errcode rc = snap_uids(snap, mb, &there, &unseen, err);
    for (uint32_t uid = seqmap_next(&sel->map, 1); rc == ERR_OK && uid != 0;
         uid = uid == UINT32_MAX ? 0 : seqmap_next(&sel->map, uid + 1))
        if (!uidset_has(&there, uid) && !uidset_has(&sel->gone, uid))
            note_gone(sel, uid, 0);
    uidset_free(&there);
    return rc;
}

/* The keywords in FLAGS and PERMANENTFLAGS (RFC 3501, 7.2.6 and 7.1). */
static enum errcode
write_flag_lists(struct imap_session *s, struct store_snap *snap, bool always,
                 struct arena *a, struct error *err)
{
    const struct span *words = NULL;
    size_t n = 0;
    const uint32_t all = FLAGS_SETTABLE;
    struct selected *sel = s->sel;

    enum errcode rc = snap_keywords(snap, sel->id, a, &words, &n, err);
    if (rc != ERR_OK || (n == sel->nkeywords && !always))
        return rc;
    sel->nkeywords = n;
    buf_add_str(&s->out, "* FLAGS ");
    write_flags(&s->out, all, words, n, false);
    buf_add_str(&s->out, "\r\n* OK [PERMANENTFLAGS ");
    if (sel->readonly || sel->on_replica) {
        buf_add_str(&s->out, "()");
    } else {
        uint32_t can =
            ((sel->rights & ACL_WRITE) != 0
                 ? FLAG_ANSWERED | FLAG_FLAGGED | FLAG_DRAFT
                 : 0U) |
            ((sel->rights & ACL_DELETEMSG) != 0 ? (uint32_t)FLAG_DELETED : 0U) |
            ((sel->rights & ACL_SEEN) != 0 ? (uint32_t)FLAG_SEEN : 0U);
        bool write = (sel->rights & ACL_WRITE) != 0;
        write_flags(&s->out, can, words, write ? n : 0, false);
        if (write) { /* new keywords are welcome */
            s->out.n--;
            buf_add_str(&s->out, can == 0 && n == 0 ? "\\*)" : " \\*)");
        }
    }
    buf_add_str(&s->out, "] Ok\r\n");
    return ERR_OK;
}

/* One UID that changed: new, gone, or other flags (true: to be told). */
static enum errcode
take_change(struct imap_session *s, struct store_snap *snap, uint32_t uid,
            struct arena *a, struct message *ret, bool *ret_tell,
            struct error *err)
{
    struct selected *sel = s->sel;

    *ret_tell = false;
    enum errcode rc = snap_message(snap, sel->id, uid, a, ret, err);
    if (rc == ERR_NOTFOUND || (rc == ERR_OK && (ret->flags & FLAG_EXPUNGED))) {
        if (seqmap_seq(&sel->map, uid) != 0)
            note_gone(sel, uid, rc == ERR_OK ? ret->modseq : 0);
        return ERR_OK;
    }
    if (rc != ERR_OK)
        return rc;
    *ret_tell =
        !is_own(sel, uid, ret->modseq) && seqmap_seq(&sel->map, uid) != 0;
    return ERR_OK;
}

/* What is new at the end of the mailbox. */
static enum errcode
take_new(struct imap_session *s, struct store_snap *snap,
         const struct mailbox *mb, struct error *err)
{
    struct selected *sel = s->sel;
    struct message msg;

    if (mb->uidnext <= sel->uidnext)
        return ERR_OK;
    struct msg_iter *it = snap_messages(snap, sel->id, sel->uidnext, false);
    while (msg_iter_next(it, &msg))
        if (msg.uid > seqmap_last_uid(&sel->map))
            add_message(sel, msg.uid, mb->recent_uid);
    enum errcode rc = msg_iter_close(&it, err);
    if (rc == ERR_OK)
        sel->uidnext = mb->uidnext;
    return rc;
}

/*
 * \Recent is for the first session that is told (RFC 3501, 2.3.2): the mark
 * moves behind our back, nobody waits for it.
 */
static void
recent_done(void *ctx, struct store_txn *txn)
{
    (void)ctx;
    txn_free(&txn);
}

static void
claim_recent(struct imap_session *s, const struct mailbox *mb)
{
    if (s->sel->readonly || mb->uidnext <= 1 ||
        mb->recent_uid >= mb->uidnext - 1 ||
        store_role(s->store) != ROLE_MASTER)
        return;
    struct store_txn *txn = txn_new();
    txn_set_recent(txn, mb->id, mb->uidnext - 1);
    store_submit(s->store, txn, recent_done, NULL);
}

static enum errcode
sync_view(struct imap_session *s, struct store_snap *snap,
          const struct mailbox *mb, enum sync how, bool uids, struct error *err)
{
    struct selected *sel = s->sel;
    AUTO(uidset_free) struct uidset tell = UIDSET_INIT;
    struct changes changes = {.sel = sel, .uids = UIDSET_INIT};
    AUTO(arena_free) struct arena a = ARENA_INIT;
    uint32_t old_next = sel->uidnext, before = seqmap_count(&sel->map);
    struct message msg;
    bool is_news;

    enum errcode rc = load_seen(s, snap, mb, err);
    if (rc == ERR_OK)
        rc =
            snap_changed(snap, sel->id, sel->modseq, on_changed, &changes, err);
    for (uint32_t uid = uidset_next(&changes.uids, 1);
         rc == ERR_OK && uid != 0 && uid < old_next;
         uid = uidset_next(&changes.uids, uid + 1)) {
        rc = take_change(s, snap, uid, &a, &msg, &is_news, err);
        if (rc == ERR_OK && is_news)
            uidset_add(&tell, uid, uid);
        arena_reset(&a);
    }
    uidset_free(&changes.uids);
    sel->fresh_uid = sel->uidnext;
    if (rc == ERR_OK)
        rc = take_new(s, snap, mb, err);
    if (rc == ERR_OK &&
        seqmap_count(&sel->map) - uidset_count(&sel->gone) != mb->exists)
        rc = rescan(s, snap, mb, err);
    if (rc == ERR_OK)
        rc = write_flag_lists(s, snap, false, &a, err);
    if (rc != ERR_OK)
        return rc;
    sel->modseq = mb->highestmodseq;
    uint32_t grown = seqmap_count(&sel->map) - before;
    if (how == SYNC_ALL && sel->gone.n > 0)
        write_expunges(s);
    if (grown > 0) {
        write_sizes(s);
        notify_new(s, sel->fresh_uid);
    }
    if (!notify_tells_flags(s))
        uidset_clear(&tell);
    for (uint32_t uid = uidset_next(&tell, 1); rc == ERR_OK && uid != 0;
         uid = uidset_next(&tell, uid + 1)) {
        rc = snap_message(snap, sel->id, uid, &a, &msg, err);
        if (rc == ERR_OK && seqmap_seq(&sel->map, uid) != 0)
            write_fetch_flags(s, snap, &msg, uids || notify_is_set(s));
        arena_reset(&a);
    }
    if (rc == ERR_OK && grown > 0)
        claim_recent(s, mb);
    return rc;
}

/*
 * What is gone is not told yet, and higher mod-sequences may have been: who
 * loses the connection now must not believe to know more than that (RFC 7162,
 * 3.2).
 */
static void
tell_lower_modseq(struct imap_session *s)
{
    struct selected *sel = s->sel;

    if (s->qresync && sel->gone.n > 0)
        buf_addf(&s->out, "* OK [HIGHESTMODSEQ %" PRIu64 "] Ok\r\n",
                 MAX(sel->gone_modseq - 1, (modseq_t)1));
}

/*
 * The replica has become the master: a mailbox that was selected before can be
 * written to from now on (READ-WRITE of RFC 3501, 7.1).
 */
static enum errcode
tell_promoted(struct imap_session *s, struct store_snap *snap, struct arena *a,
              struct error *err)
{
    s->sel->on_replica = false;
    enum errcode rc = write_flag_lists(s, snap, true, a, err);
    if (rc == ERR_OK)
        buf_add_str(&s->out, "* OK [READ-WRITE] This is the master now\r\n");
    return rc;
}

void
sync_selected(struct imap_session *s, enum sync how, bool uids)
{
    struct selected *sel = s->sel;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct mailbox mb;
    struct error err = {0};

    how = notify_sync(s, how);
    if (how == SYNC_NONE || s->closing) {
        forget_own(sel);
        return;
    }
    struct store_snap *snap = store_snapshot(s->store);
    enum errcode rc = snap_mailbox(snap, sel->id, &a, &mb, &err);
    if (rc == ERR_NOTFOUND || (rc == ERR_OK && mb.is_deleted && !s->is_admin)) {
        store_release(&snap);
        say_bye(s, "Selected mailbox was deleted");
        return;
    }
    if (rc == ERR_OK && sel->on_replica && store_role(s->store) == ROLE_MASTER)
        rc = tell_promoted(s, snap, &a, &err);
    const modseq_t since = sel->modseq;
    if (rc == ERR_OK && mb.highestmodseq > sel->modseq)
        rc = sync_view(s, snap, &mb, how, uids, &err);
    else if (rc == ERR_OK && how == SYNC_ALL && sel->gone.n > 0)
        write_expunges(s);
    if (rc == ERR_OK && (sel->modseq > since || sel->pending.n > 0))
        contexts_update(s, since);
    if (rc == ERR_OK && how == SYNC_NO_EXPUNGE)
        tell_lower_modseq(s);
    store_release(&snap);
    forget_own(sel);
    if (rc != ERR_OK) {
        reply_error(s, &err);
        say_bye(s, "[SERVERBUG] Selected mailbox cannot be read");
    }
}

/* ---- SELECT, EXAMINE --------------------------------------------------- */

static bool
may_change(uint32_t rights)
{
    return (rights & (ACL_SEEN | ACL_WRITE | ACL_INSERT | ACL_DELETEMSG |
                      ACL_EXPUNGE)) != 0;
}

/* Rows that one turn reads. */
#define SELECT_ROWS 5000U

struct select_job {
    struct store_snap *snap;
    struct mailbox mb;
    struct uidset uids;
    uint32_t unseen;       /* UID of the first one; 0: none */
    struct error err;      /* of reading them */
    struct uidset changed; /* QRESYNC: to be told */
    uint32_t told;         /* of them, up to this UID */
};

static void
select_end(struct imap_session *s)
{
    struct select_job *job = s->job;

    store_release(&job->snap);
    uidset_free(&job->uids);
    uidset_free(&job->changed);
}

static enum run
select_over(struct imap_session *s)
{
    struct select_job *job = s->job;

    claim_recent(s, &job->mb);
    s->state = STATE_SELECTED;
    notify_selected(s);
    return reply(s, "OK [%s] Completed",
                 s->sel->readonly || s->sel->on_replica ? "READ-ONLY"
                                                        : "READ-WRITE");
}

/* ---- QRESYNC (RFC 7162, 3.2.5) ----------------------------------------- */

/*
 * What the client says of sequence numbers and UIDs: up to the last pair that
 * is still so nothing has gone, and need not be told.
 */
static void
drop_matched(struct imap_session *s, struct uidset *known)
{
    const struct imap_qresync *q = &s->cmd->qresync;
    AUTO(uidset_free) struct uidset seqs = UIDSET_INIT;
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    uint32_t seq = 0, uid = 0, last = 0;

    if (q->match_seqs.n == 0 ||
        !uidset_parse(q->match_seqs, 0, IMAP_RANGES_MAX, &seqs) ||
        !uidset_parse(q->match_uids, 0, IMAP_RANGES_MAX, &uids) ||
        uidset_count(&seqs) != uidset_count(&uids))
        return;
    for (;;) {
        seq = seq == UINT32_MAX ? 0 : uidset_next(&seqs, seq + 1);
        uid = uid == UINT32_MAX ? 0 : uidset_next(&uids, uid + 1);
        if (seq == 0 || uid == 0 || seqmap_uid(&s->sel->map, seq) != uid)
            break;
        last = uid;
    }
    if (last > 0)
        uidset_remove(known, 1, last);
}

static enum run
qresync_tell(struct imap_session *s)
{
    struct select_job *job = s->job;
    struct error err = {0};
    struct message msg;

    for (unsigned n = 0; n < SELECT_ROWS; n++) {
        uint32_t uid = job->told == UINT32_MAX
                           ? 0
                           : uidset_next(&job->changed, job->told + 1);
        if (uid == 0)
            return select_over(s);
        if (is_full(s))
            return RUN_FULL;
        job->told = uid;
        if (seqmap_seq(&s->sel->map, uid) == 0)
            continue;
        AUTO(arena_free) struct arena a = ARENA_INIT;
        enum errcode rc =
            snap_message(job->snap, s->sel->id, uid, &a, &msg, &err);
        if (rc != ERR_OK) {
            unselect(s);
            return reply_error(s, &err);
        }
        write_fetch_flags(s, job->snap, &msg, true);
    }
    return RUN_YIELD;
}

static enum run
qresync_begin(struct imap_session *s)
{
    struct select_job *job = s->job;
    const struct imap_qresync *q = &s->cmd->qresync;
    AUTO(uidset_free) struct uidset known = UIDSET_INIT;
    struct error err = {0};
    modseq_t since;

    if (!q->given || q->uidvalidity != job->mb.uidvalidity)
        return select_over(s);
    enum errcode rc = snap_living_modseq(job->snap, q->modseq, &since, &err);
    bool all = q->known_uids.n == 0 ||
               !uidset_parse(q->known_uids, 0, IMAP_RANGES_MAX, &known);
    if (all && job->mb.uidnext > 1)
        uidset_add(&known, 1, job->mb.uidnext - 1);
    drop_matched(s, &known);
    if (rc == ERR_OK)
        rc = tell_vanished(s, job->snap, &job->mb, since, &known, &err);
    if (rc == ERR_OK)
        rc = changed_since(job->snap, job->mb.id, since, &job->changed, &err);
    if (rc != ERR_OK) {
        unselect(s);
        return reply_error(s, &err);
    }
    s->run = qresync_tell;
    return qresync_tell(s);
}

/* What RFC 3501, 6.3.1 wants to be told. */
static enum run
select_tell(struct imap_session *s)
{
    struct select_job *job = s->job;
    struct error err = {0};

    enum errcode rc = write_flag_lists(s, job->snap, true, &s->arena, &err);
    if (rc != ERR_OK) {
        unselect(s);
        return reply_error(s, &err);
    }
    write_sizes(s);
    if (job->unseen != 0 && !s->rev2)
        buf_addf(&s->out, "* OK [UNSEEN %" PRIu32 "] Ok\r\n",
                 seqmap_seq(&s->sel->map, job->unseen));
    buf_addf(&s->out,
             "* OK [UIDVALIDITY %" PRIu32 "] Ok\r\n"
             "* OK [UIDNEXT %" PRIu32 "] Ok\r\n",
             job->mb.uidvalidity, job->mb.uidnext);
    buf_addf(&s->out, "* OK [HIGHESTMODSEQ %" PRIu64 "] Ok\r\n",
             job->mb.highestmodseq);
    buf_addf(&s->out, "* OK [MAILBOXID (%s)] Ok\r\n", job->mb.uniqueid.s);
    write_annot_level(s);
    if (s->rev2 && write_list_of(s, job->snap, &job->mb, s->cmd->name, "",
                                 &err) != ERR_OK) {
        unselect(s);
        return reply_error(s, &err);
    }
    return qresync_begin(s);
}

/* On a worker, if it may take long. */
static void
select_work(void *arg)
{
    struct imap_session *s = arg;
    struct select_job *job = s->job;

    if (snap_uids(job->snap, &job->mb, &job->uids, &job->unseen, &job->err) !=
        ERR_OK)
        uidset_free(&job->uids);
}

static uint32_t
first_unseen(const struct uidset *uids, const struct uidset *seen)
{
    size_t k = 0;

    for (size_t i = 0; i < uids->n; i++) {
        uint64_t uid = uids->r[i].first;
        while (uid <= uids->r[i].last) {
            while (k < seen->n && seen->r[k].last < uid)
                k++;
            if (k == seen->n || seen->r[k].first > uid)
                return (uint32_t)uid;
            uid = (uint64_t)seen->r[k].last + 1;
        }
    }
    return 0;
}

/* The map and \Recent. */
static enum run
select_worked(struct imap_session *s)
{
    struct select_job *job = s->job;
    struct selected *sel = s->sel;
    const uint64_t recent = (uint64_t)job->mb.recent_uid + 1;

    if (job->err.code != ERR_OK) {
        unselect(s);
        return reply_error(s, &job->err);
    }
    for (size_t i = 0; i < job->uids.n; i++) {
        const struct uidrange *r = &job->uids.r[i];
        seqmap_append_range(&sel->map, r->first, r->last);
        if (r->last >= recent)
            uidset_add(&sel->recent, MAX(r->first, (uint32_t)recent), r->last);
    }
    if (sel->own_seen)
        job->unseen = first_unseen(&job->uids, &sel->seen);
    uidset_free(&job->uids);
    return select_tell(s);
}

enum run
cmd_select(struct imap_session *s)
{
    struct select_job *job = arena_alloc(&s->arena, sizeof(*job));

    if (s->cmd->qresync.given && !s->qresync) /* RFC 7162, 3.2.5 */
        return reply(s, "BAD QRESYNC is not enabled");
    if (s->uidonly && s->cmd->qresync.match_seqs.n > 0) /* RFC 9586, 3.3 */
        return reply(s, "BAD [UIDREQUIRED] Only UIDs, please");
    if (s->sel != NULL) /* RFC 7162, 3.2.11; RFC 9051, 6.3.2 */
        buf_add_str(&s->out, "* OK [CLOSED] Ok\r\n");
    unselect(s); /* RFC 3501, 6.3.1: also if this SELECT fails */
    if (s->cmd->condstore)
        enable_condstore(s);
    s->job = job;
    s->job_end = select_end;
    job->snap = store_snapshot(s->store);
    if (!find_mailbox(s, job->snap, s->cmd->name, ACL_READ, &job->mb))
        return RUN_DONE;
    struct selected *sel = xcalloc(1, sizeof(*sel));
    sel->id = job->mb.id;
    sel->rights = rights_of(s, &job->mb);
    sel->annotate = s->cmd->annotate;
    sel->readonly = s->cmd->cmd == CMD_EXAMINE || !may_change(sel->rights);
    sel->on_replica = !sel->readonly && store_role(s->store) != ROLE_MASTER;
    sel->uidvalidity = job->mb.uidvalidity;
    sel->uidnext = job->mb.uidnext;
    sel->modseq = job->mb.highestmodseq;
    s->sel = sel;
    if (load_seen(s, job->snap, &job->mb, &job->err) != ERR_OK)
        return select_worked(s);
    if (job->mb.exists > SELECT_ROWS)
        return run_work(s, select_work, select_worked);
    select_work(s);
    return select_worked(s);
}

bool
resolve_set(struct imap_session *s, struct span set, bool uid,
            struct uidset *ret)
{
    struct selected *sel = s->sel;
    AUTO(uidset_free) struct uidset named = UIDSET_INIT;
    if (span_eq_str(set, "$")) {
        seqmap_intersect(&sel->map, &sel->saved, ret);
        return true;
    }
    uint32_t star = uid ? seqmap_last_uid(&sel->map) : seqmap_count(&sel->map);

    /* The syntax was checked; "*" of an empty mailbox names nothing. */
    bool ok = uidset_parse(set, star, IMAP_RANGES_MAX, &named);
    ENSURE(ok);
    if (uid) {
        seqmap_intersect(&sel->map, &named, ret);
        return true;
    }
    if (seqmap_resolve(&sel->map, &named, ret))
        return true;
    reply(s, "BAD Invalid message sequence number");
    return false;
}

void
limit_messages(struct imap_session *s, struct uidset *uids)
{
    const uint64_t max = s->opt->message_limit;
    uint64_t n = uidset_count(uids);

    if (max == 0 || n <= max)
        return;
    n = 0; /* from range I on */
    for (size_t i = uids->n; i-- > 0 && n < max;) {
        n += (uint64_t)uids->r[i].last - uids->r[i].first + 1;
        if (n >= max)
            s->limited_uid = uids->r[i].first + (uint32_t)(n - max);
    }
    if (s->limited_uid > 1)
        uidset_remove(uids, 1, s->limited_uid - 1);
}

/* ---- CLOSE, UNSELECT --------------------------------------------------- */

static enum run
closed(struct imap_session *s)
{
    /* RFC 3501, 6.4.2: no EXPUNGE is told.  What could not be expunged (a full
     * disk) is still there, which the client may know. */
    struct error err = *txn_error(s->txn);

    unselect(s);
    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, &err);
    return reply(s, "OK Completed"); /* no HIGHESTMODSEQ: RFC 7162, 3.2.8 */
}

enum run
cmd_close(struct imap_session *s)
{
    struct selected *sel = s->sel;
    struct uidset all = UIDSET_INIT;

    if (s->cmd->cmd == CMD_UNSELECT || sel->readonly || sel->on_replica ||
        (sel->rights & ACL_EXPUNGE) == 0 || seqmap_count(&sel->map) == 0 ||
        store_role(s->store) != ROLE_MASTER) {
        unselect(s);
        return reply(s, "OK Completed");
    }
    /* Only what the client knew of. */
    uidset_add(&all, 1, seqmap_last_uid(&sel->map));
    struct store_txn *txn = txn_new();
    txn_expunge(txn, sel->id, &all, true);
    uidset_free(&all);
    return submit(s, txn, closed);
}

/* ---- IDLE -------------------------------------------------------------- */

static void
wake_posted(void *arg)
{
    struct imap_session *s = arg;

    atomic_store(&s->wake_posted, false);
    s->io->release(s->io_ctx);
    if (s->dead)
        session_free_if_over(s);
    else if (notify_is_set(s) || (s->sel != NULL && contexts_have_new(s)) ||
             notify_is_due(s))
        notify_wake(s);
    else if (s->mode == INPUT_IDLE)
        session_run(s);
}

void
wake_session(void *session)
{
    struct imap_session *s = session;

    if (atomic_exchange(&s->wake_posted, true))
        return;
    s->io->hold(s->io_ctx);
    s->io->post(s->io_ctx, wake_posted, s);
}

static enum run
idle_step(struct imap_session *s)
{
    if (s->watch != NULL)
        watch_rearm(s->watch);
    if (s->sel != NULL)
        sync_selected(s, SYNC_ALL, false);
    if (is_full(s))
        return RUN_FULL;
    flush(s);
    buf_free(&s->out);
    if (contexts_pending(s) || notify_is_due(s)) /* in the next turn */
        wake_session(s);
    return RUN_WAIT;
}

static enum run
idle_done(struct imap_session *s)
{
    store_unwatch(&s->watch);
    s->io->set_timeout(s->io_ctx, s->opt->idle_timeout_ms);
    return reply(s, "OK Completed");
}

static enum run
idle_bad(struct imap_session *s)
{
    idle_done(s);
    return reply(s, "BAD Expected DONE");
}

void
idle_line(struct imap_session *s, struct span line)
{
    s->mode = INPUT_COMMAND;
    s->run = span_eq_nocase_str(line, "DONE") ? idle_done : idle_bad;
    session_run(s);
}

enum run
cmd_idle(struct imap_session *s)
{
    buf_add_str(&s->out, "+ idling\r\n");
    s->mode = INPUT_IDLE;
    s->run = idle_step;
    s->io->set_timeout(s->io_ctx, s->opt->idle_cmd_timeout_ms);
    if (s->sel != NULL)
        s->watch = store_watch(s->store, s->sel->id, wake_session, s);
    return idle_step(s);
}
