/*
 * csync/state_mailbox.c - APPLY MAILBOX: one mailbox becomes what a peer says.
 *
 *     look     compare all that came with all that is here: nothing has been
 *              changed yet, and what does not fit is refused
 *     change   in order of UIDs, in transactions of some hundred messages
 *     compare  the CRCs of what came of it with those that came
 *
 * Each transaction is guarded by what was seen of the mailbox before it
 * (txn_expect()), so what clients change meanwhile is never written over.  Of
 * several transactions all but the last leave HIGHESTMODSEQ where it was and
 * mark the mailbox MBOX_PARTIAL: whoever is cut off in between asks where the
 * mailbox stands, and sends all that is above that again.
 *
 * The checks and their order are those of Cyrus 3.6; what it would delete at
 * once goes to a DELETED. name.  A tombstone whose body is not here and did not
 * come is not kept: the message counts as purged.
 */
#include "csync/state.h"

#include <stdlib.h>

#include "store/names.h"

/* Of one transaction. */
#define CHANGES_PER_TXN 500U
#define BYTES_PER_TXN (512U << 10)

enum what {
    NOTHING, /* it is so already */
    CHANGE,  /* the row gets what came */
    APPEND,  /* a new message */
    FORGET,  /* a tombstone that we never had a body for */
};

struct taking {
    struct state_call *c;
    const struct sync_mailbox *in;
    struct mailbox mb;  /* as it is here now */
    bool is_new;        /* to be made by this command */
    mbid_t in_the_way;  /* has its name: goes to a DELETED. one; 0: none */
    uint8_t *what;      /* enum what, for each RECORD */
    modseq_t highest;   /* of all rows there will be */
    modseq_t forgotten; /* of tombstones that are not kept */
    size_t at;          /* RECORDs before it are done */
    uint32_t uidnext;   /* as the last transaction left it; 0: none yet */
};

static enum errcode
checksum(const struct taking *t, const char *why, struct error *err)
{
    return error_set(err, ERR_HISTORY, "Checksum Failure: %s: %s", t->in->name,
                     why);
}

/* ---- look --------------------------------------------------------------- */

static enum errcode
look_at_both(struct taking *t, const struct message *own, size_t i,
             struct error *err)
{
    const struct message *m = &t->in->records[i].m;
    const bool was_gone = (own->flags & FLAG_EXPUNGED) != 0;
    const bool is_gone = (m->flags & FLAG_EXPUNGED) != 0;

    t->highest = MAX(t->highest, own->modseq);
    if (was_gone && is_gone)
        return ERR_OK;
    if (!guid_eq(&own->guid, &m->guid))
        return checksum(t, "a UID is another message here", err);
    if (own->modseq > m->modseq && !*t->c->force)
        return checksum(t, "a message changed here", err);
    if (was_gone)
        return checksum(t, "a message was expunged here", err);
    t->what[i] = CHANGE;
    t->highest = MAX(t->highest, m->modseq);
    return ERR_OK;
}

/* Is its body here, and of the size that it is said to be? */
static enum errcode
find_body(const struct taking *t, struct store_snap *snap,
          const struct message *m, bool *ret, struct error *err)
{
    uint64_t size = 0;

    enum errcode rc =
        snap_has_body(snap, &m->guid, env_wall_us(t->c->env), ret, err);
    if (rc == ERR_OK && *ret)
        rc = store_body_stat(t->c->store, &m->guid, &size, err);
    if (rc == ERR_NOTFOUND) {
        *ret = false; /* purged just now */
        return ERR_OK;
    }
    if (rc == ERR_OK && *ret && size != m->size)
        rc = error_set(err, ERR_SYNTAX,
                       "UID %" PRIu32 " of %s is not as long as its SIZE",
                       m->uid, t->in->name);
    return rc;
}

static enum errcode
look_at_new(struct taking *t, struct store_snap *snap, size_t i,
            struct error *err)
{
    const struct message *m = &t->in->records[i].m;
    const bool is_gone = (m->flags & FLAG_EXPUNGED) != 0;
    bool has_body = false;

    if (m->uid < t->mb.uidnext)
        return is_gone ? ERR_OK : checksum(t, "a message is not here", err);
    enum errcode rc = find_body(t, snap, m, &has_body, err);
    if (rc != ERR_OK)
        return rc;
    if (has_body) {
        t->what[i] = APPEND;
        t->highest = MAX(t->highest, m->modseq);
    } else if (is_gone) {
        t->what[i] = FORGET;
        t->forgotten = MAX(t->forgotten, m->modseq);
    } else {
        return error_set(err, ERR_AGAIN,
                         "UID %" PRIu32 " of %s: its message did not come",
                         m->uid, t->in->name);
    }
    return ERR_OK;
}

/* All rows here and all RECORDs, side by side by UID. */
static enum errcode
look_at_records(struct taking *t, struct store_snap *snap, struct error *err)
{
    struct msg_iter *it = snap_messages(snap, t->mb.id, 1, true);
    struct message own;
    bool more = msg_iter_next(it, &own);
    size_t i = 0;
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && (more || i < t->in->nrecords)) {
        const uint32_t uid =
            i < t->in->nrecords ? t->in->records[i].m.uid : UINT32_MAX;
        if (more && own.uid < uid) {
            t->highest = MAX(t->highest, own.modseq);
            more = msg_iter_next(it, &own);
        } else if (more && own.uid == uid) {
            rc = look_at_both(t, &own, i++, err);
            more = msg_iter_next(it, &own);
        } else {
            rc = look_at_new(t, snap, i++, err);
        }
    }
    enum errcode end = msg_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? end : rc;
}

/* Is what is here a state that what came can follow? */
static enum errcode
look_at_head(struct taking *t, struct store_snap *snap, struct error *err)
{
    const struct sync_mailbox *in = t->in;
    struct sync_mailbox own;

    enum errcode rc = bystate_load_mailbox(snap, t->mb.id, t->c->cache,
                                           &t->c->arena, &own, err);
    if (rc != ERR_OK)
        return rc;
    if (in->since_modseq != 0 &&
        (in->since_modseq != own.highestmodseq ||
         !sync_crc_fits(in->since_crc, own.crc) ||
         !sync_crc_fits(in->since_crc_annot, own.crc_annot)))
        return error_set(err, ERR_GAP, "Changed since last sync: %s", in->name);
    if (own.last_uid > in->last_uid)
        return checksum(t, "more UIDs were given here", err);
    if (*t->c->force)
        return ERR_OK;
    if (own.highestmodseq > in->highestmodseq)
        return checksum(t, "HIGHESTMODSEQ is higher here", err);
    if (own.uidvalidity > in->uidvalidity)
        return checksum(t, "UIDVALIDITY is higher here", err);
    return ERR_OK;
}

/* ---- change ------------------------------------------------------------- */

/* The message as it is to be. */
static struct message
row_of(const struct sync_record *r)
{
    struct message m = r->m;

    m.flags &= FLAGS_SETTABLE | (uint32_t)FLAG_EXPUNGED;
    return m;
}

static const struct sync_annot *
find_annot(const struct sync_annot *annots, size_t n, const char *entry,
           const char *user)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(annots[i].entry, entry) == 0 &&
            strcmp(annots[i].user, user) == 0)
            return &annots[i];
    return NULL;
}

static void
annotate(struct store_txn *txn, mbid_t id, uint32_t uid,
         const struct sync_annot *an, const struct span *value)
{
    struct uidrange range = {uid, uid};
    const struct uidset uids = {.r = &range, .n = 1};

    txn_annotate(txn, &(struct txn_annot){
                          .id = id,
                          .uids = uid == 0 ? NULL : &uids,
                          .entry = an->entry,
                          .user = an->user,
                          .value = value,
                          .keep_modseq = true,
                      });
}

/* Of a message or (UID 0) the mailbox: they become the N ones of WANT. */
static void
change_annots(struct store_txn *txn, mbid_t id, uint32_t uid,
              const struct sync_annot *have, size_t nhave,
              const struct sync_annot *want, size_t n)
{
    for (size_t i = 0; i < nhave; i++)
        if (find_annot(want, n, have[i].entry, have[i].user) == NULL)
            annotate(txn, id, uid, &have[i], NULL);
    for (size_t i = 0; i < n; i++) {
        const struct sync_annot *old =
            find_annot(have, nhave, want[i].entry, want[i].user);
        if (old == NULL || !span_eq(old->value, want[i].value))
            annotate(txn, id, uid, &want[i], &want[i].value);
    }
}

static bool
is_special_use(const struct sync_annot *an, const char *owner)
{
    return strcmp(an->entry, SYNC_SPECIALUSE) == 0 && owner != NULL &&
           strcmp(an->user, owner) == 0;
}

/* ACL, partition, special use, annotations: the parts that are not rows. */
static enum errcode
change_rest(struct taking *t, struct store_txn *txn, struct store_snap *snap,
            struct error *err)
{
    const struct sync_mailbox *in = t->in;
    const char *owner = name_owner(t->mb.name, &t->c->arena);
    const struct sync_annot *have = NULL;
    struct sync_annot *want =
        arena_array(&t->c->arena, in->nannots + 1, sizeof(*want));
    const char *use = "";
    size_t nhave = 0, n = 0;

    for (size_t i = 0; i < in->nannots; i++) {
        if (is_special_use(&in->annots[i], owner) &&
            span_find_byte(in->annots[i].value, 0, 0) < 0)
            use = arena_str(&t->c->arena, in->annots[i].value);
        else
            want[n++] = in->annots[i];
    }
    enum errcode rc = bystate_load_annots(snap, t->mb.id, 0, &t->c->arena,
                                          &have, &nhave, err);
    if (rc != ERR_OK)
        return rc;
    if (strcmp(t->mb.acl, in->acl) != 0)
        txn_set_acl(txn, t->mb.id, in->acl, NULL);
    if (strcmp(t->mb.partition, in->partition) != 0)
        txn_set_partition(txn, t->mb.id, in->partition, false);
    if (strcmp(t->mb.special_use, use) != 0)
        txn_set_special_use(txn, t->mb.id, use);
    change_annots(txn, t->mb.id, 0, have, nhave, want, n);
    return ERR_OK;
}

/* One RECORD into TXN; *BYTES is about what it weighs. */
static enum errcode
change_record(struct taking *t, struct store_txn *txn, struct store_snap *snap,
              size_t i, struct message *rows, size_t *nrows, size_t *bytes,
              struct error *err)
{
    const struct sync_record *r = &t->in->records[i];
    const struct sync_annot *have = NULL;
    size_t nhave = 0;
    struct message m = row_of(r);
    enum errcode rc = ERR_OK;

    *bytes += 128;
    for (size_t k = 0; k < r->nannots; k++)
        *bytes += 64 + r->annots[k].value.n;
    switch ((enum what)t->what[i]) {
    case NOTHING:
    case FORGET:
        return ERR_OK;
    case APPEND:
        txn_append(txn, &(struct txn_append){.id = t->mb.id, .given = &m});
        break;
    case CHANGE:
        rows[(*nrows)++] = m;
        rc = bystate_load_annots(snap, t->mb.id, m.uid, &t->c->arena, &have,
                                 &nhave, err);
        break;
    }
    if (rc == ERR_OK)
        change_annots(txn, t->mb.id, m.uid, have, nhave, r->annots, r->nannots);
    return rc;
}

/* The head after this transaction; LAST: after all of them. */
static struct mailbox
head_after(const struct taking *t, bool last)
{
    const struct sync_mailbox *in = t->in;
    struct mailbox mb = t->mb;

    for (size_t i = 0; i < t->at; i++)
        if (t->what[i] == APPEND)
            mb.uidnext = MAX(mb.uidnext, in->records[i].m.uid + 1);
    if (!last) {
        mb.options |= MBOX_PARTIAL;
        return mb;
    }
    mb.uidnext = in->last_uid + 1;
    mb.uidvalidity = in->uidvalidity;
    mb.highestmodseq = MAX(in->highestmodseq, t->highest);
    mb.created_modseq = in->created_modseq;
    mb.purged_modseq = t->forgotten;
    mb.recent_uid = in->recent_uid;
    mb.options = in->options;
    mb.recent_time_s = in->recent_time_s;
    mb.last_append_us = in->last_append_s * 1000000;
    mb.pop3_login_s = in->pop3_login_s;
    mb.pop3_show_after_s = in->pop3_show_after_s;
    return mb;
}

static enum errcode
commit(struct taking *t, struct store_txn *txn, struct error *err)
{
    enum errcode rc = store_commit(t->c->store, txn, err);

    txn_free(&txn);
    return rc;
}

/* Before the first transaction the mailbox is as it was looked at; before the
 * others as we left it: every change by others raises one of these. */
static enum errcode
look_again(struct taking *t, struct store_snap *snap, struct error *err)
{
    const modseq_t highest = t->mb.highestmodseq;

    if (t->uidnext == 0)
        return ERR_OK;
    arena_reset(&t->c->arena);
    enum errcode rc =
        snap_mailbox_row(snap, t->mb.id, &t->c->arena, &t->mb, err);
    if (rc == ERR_OK &&
        (t->mb.uidnext != t->uidnext || t->mb.highestmodseq != highest))
        rc = error_set(err, ERR_CONFLICT, "mailbox %s has changed meanwhile",
                       t->mb.name);
    return rc;
}

/* The next transaction; *RET_DONE: it was the last one. */
static enum errcode
change_some(struct taking *t, bool *ret_done, struct error *err)
{
    struct store_snap *snap = store_snapshot(t->c->store);
    struct store_txn *txn = txn_new();
    struct message *rows = xcalloc(CHANGES_PER_TXN, sizeof(*rows));
    size_t n = 0, nrows = 0, bytes = 0;

    enum errcode rc = look_again(t, snap, err);
    if (rc == ERR_OK)
        txn_expect(txn, &t->mb);
    while (rc == ERR_OK && t->at < t->in->nrecords && n < CHANGES_PER_TXN &&
           bytes < BYTES_PER_TXN) {
        const size_t i = t->at++;
        if (t->what[i] == NOTHING)
            continue;
        rc = change_record(t, txn, snap, i, rows, &nrows, &bytes, err);
        n++;
    }
    const bool last = t->at == t->in->nrecords;
    if (rc == ERR_OK && nrows > 0)
        txn_rows(txn, t->mb.id, rows, nrows);
    if (rc == ERR_OK && last)
        rc = change_rest(t, txn, snap, err);
    if (rc == ERR_OK) {
        const struct mailbox head = head_after(t, last);
        txn_head(txn, &head);
        t->uidnext = head.uidnext;
    }
    store_release(&snap);
    free(rows);
    if (rc != ERR_OK) {
        txn_free(&txn);
        return rc;
    }
    *ret_done = last;
    return commit(t, txn, err);
}

/* ---- the mailbox itself ------------------------------------------------- */

static enum errcode
make(struct taking *t, struct error *err)
{
    struct store_txn *txn = txn_new();

    if (t->in_the_way != 0)
        txn_delete(txn, t->in_the_way, true, 0);
    const size_t op = txn_create(
        txn, &(struct txn_mailbox){.name = t->in->name,
                                   .acl = t->in->acl,
                                   .partition = t->in->partition,
                                   .options = t->in->options,
                                   .uniqueid = t->in->uniqueid,
                                   .uidvalidity = t->in->uidvalidity});
    enum errcode rc = store_commit(t->c->store, txn, err);
    if (rc == ERR_OK)
        t->mb.id = txn_result(txn, op)->id;
    txn_free(&txn);
    if (rc != ERR_OK)
        return rc;
    struct store_snap *snap = store_snapshot(t->c->store);
    rc = snap_mailbox_row(snap, t->mb.id, &t->c->arena, &t->mb, err);
    store_release(&snap);
    return rc;
}

/* Find it by name and UNIQUEID, or see that it can be made. */
static enum errcode
find(struct taking *t, struct error *err)
{
    struct store_snap *snap = store_snapshot(t->c->store);
    struct mailbox other;

    enum errcode rc =
        snap_mailbox_by_name(snap, t->in->name, &t->c->arena, &t->mb, err);
    if (rc == ERR_OK && strcmp(t->mb.uniqueid.s, t->in->uniqueid) == 0) {
        store_release(&snap);
        return ERR_OK;
    }
    const bool has_name = rc == ERR_OK;
    if (rc != ERR_OK && rc != ERR_NOTFOUND) {
        store_release(&snap);
        return rc;
    }
    rc = snap_mailbox_by_uniqueid(snap, t->in->uniqueid, &t->c->arena, &other,
                                  err);
    store_release(&snap);
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    if (rc == ERR_OK)
        return error_set(err, ERR_EXISTS,
                         "Mailbox exists with another name or uniqueid: %s is "
                         "%s here",
                         t->in->name, other.name);
    if (has_name) {
        if (t->mb.uidnext > 1 && !*t->c->force)
            return error_set(err, ERR_EXISTS,
                             "Mailbox exists with another name or uniqueid: "
                             "%s has UNIQUEID %s here",
                             t->in->name, t->mb.uniqueid.s);
        t->in_the_way = t->mb.id;
    }
    t->mb = (struct mailbox){.uidnext = 1}; /* no rows are of number 0 */
    t->is_new = true;
    return ERR_OK;
}

/* ---- what users have seen of what came only now ---------------------------
 */

struct waiting {
    struct taking *t;
    struct store_txn *txn;
    size_t n;
};

static bool
on_waiting(void *ctx, const char *name, struct span value)
{
    struct waiting *w = ctx;
    const char *user = strchr(name, ' ');
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    struct sync_seen s = {0};

    if (user == NULL || !sync_seen_decode(value, &s))
        return true;
    if (s.uids.n > 0 && !uidset_parse(s.uids, 0, SIZE_MAX, &uids))
        return true;
    user++;
    w->n++;
    txn_seen_given(w->txn, w->t->mb.id, user, &uids);
    txn_user(w->txn, user, USER_SEEN_TEXT, w->t->in->uniqueid, &value);
    if (uids.n == 0 || uids.r[uids.n - 1].last <= w->t->in->last_uid)
        txn_user(w->txn, "", USER_SEEN_WAITING, name, NULL);
    return true;
}

static enum errcode
take_waiting(struct taking *t, struct error *err)
{
    struct waiting w = {.t = t, .txn = txn_new()};
    struct store_snap *snap = store_snapshot(t->c->store);

    enum errcode rc =
        snap_user_each_from(snap, "", USER_SEEN_WAITING,
                            arena_printf(&t->c->arena, "%s ", t->in->uniqueid),
                            on_waiting, &w, err);
    store_release(&snap);
    if (rc == ERR_OK && w.n > 0)
        return commit(t, w.txn, err);
    txn_free(&w.txn);
    return rc;
}

static enum errcode
compare(struct taking *t, struct error *err)
{
    struct store_snap *snap = store_snapshot(t->c->store);
    struct sync_mailbox now;

    arena_reset(&t->c->arena);
    enum errcode rc = bystate_load_mailbox(snap, t->mb.id, t->c->cache,
                                           &t->c->arena, &now, err);
    store_release(&snap);
    if (rc != ERR_OK)
        return rc;
    if (!sync_crc_fits(now.crc, t->in->crc) ||
        !sync_crc_fits(now.crc_annot, t->in->crc_annot))
        return checksum(t, "what came of it is something else", err);
    return ERR_OK;
}

enum errcode
bystate_take_mailbox(struct state_call *c, const struct sync_mailbox *in,
                     struct error *err)
{
    struct taking t = {.c = c, .in = in};
    bool done = false;

    enum errcode rc = bystate_check_role(c->store, err);
    if (rc != ERR_OK)
        return rc;
    if (in->type[0] != '\0' && strcmp(in->type, "e") != 0)
        return error_set(err, ERR_UNSUPPORTED,
                         "Operation is not supported on mailbox: type %s",
                         in->type);
    rc = sync_mailbox_check(in, env_wall_us(c->env) / 1000000, err);
    if (rc == ERR_OK)
        rc = name_check(in->name, err);
    if (rc == ERR_OK)
        rc = find(&t, err);
    if (rc != ERR_OK)
        return rc;
    t.what = xcalloc(in->nrecords + 1, 1);
    struct store_snap *snap = store_snapshot(c->store);
    if (!t.is_new)
        rc = snap_mailbox_row(snap, t.mb.id, &c->arena, &t.mb, err);
    if (rc == ERR_OK && !t.is_new)
        rc = look_at_head(&t, snap, err);
    if (rc == ERR_OK)
        rc = look_at_records(&t, snap, err);
    store_release(&snap);
    if (rc == ERR_OK && t.is_new)
        rc = make(&t, err);
    while (rc == ERR_OK && !done)
        rc = change_some(&t, &done, err);
    free(t.what);
    if (rc == ERR_OK)
        rc = take_waiting(&t, err);
    return rc == ERR_OK ? compare(&t, err) : rc;
}
