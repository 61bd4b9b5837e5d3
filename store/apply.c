/*
 * store/apply.c - what each record does to the state.
 *
 * This is the only place where records change the state: the master's commit,
 * recovery and a replica all come here.  It reads the record and the state, no
 * clock, no randomness, no configuration, and it puts and deletes absolute
 * values.  A record that does not fit the state (a mailbox that is not there, a
 * UID below UIDNEXT) shows that the states have parted, so it is ERR_CORRUPT
 * and the instance stops, rather than drifting further.
 *
 * What is this instance's own, the place of a body, comes from struct
 * apply_place and goes into tables that are in no digest; so does what is kept
 * of a purge, where history is kept.
 */
#include "store/apply_private.h"

#include "store/acl.h"
#include "store/history_private.h"
#include "store/local.h"
#include "store/mutants.h"

/* How far UIDVALIDITY jumps at an unplanned promotion. */
#define UIDVALIDITY_HEADROOM 4096U

static enum errcode
apply_epoch(const struct apply *ap)
{
    struct rec_epoch rec;

    const epoch_t before =
        epochs_jumped_last(ap->st->epochs, ap->st->v.nepochs, EPOCH_MAX);
    enum errcode rc = rec_epoch_decode(ap->rec->body, ap->rec->version,
                                       &ap->st->scratch, &rec, ap->err);
    if (rc == ERR_OK)
        rc = state_add_epoch(ap->st, &rec.entry, ap->err);
    if (rc != ERR_OK || rec.entry.uid_headroom == 0)
        return rc;
    /* A master that is gone may have given out UIDVALIDITYs that we never saw:
     * seconds of its clock, one for each mailbox made in that second; and so
     * may one of each epoch of which nothing came here, since the last jump. */
    const uint64_t jump =
        (uint64_t)UIDVALIDITY_HEADROOM *
        (rec.entry.epoch > before ? rec.entry.epoch - before : 1);
    uint64_t seconds = rec.entry.time_us / 1000000;
    uint64_t least = MAX(seconds, (uint64_t)ap->st->v.validity);
    return state_raise_validity(
        ap->st, (uint32_t)MIN(least + jump, (uint64_t)UINT32_MAX), ap->err);
}

void
apply_index_acl(struct state *st, const struct mailbox *mb, bool put)
{
    struct key k;
    struct span ident;
    size_t pos = 0;
    uint32_t rights;

    while (acl_next(mb->acl, &pos, &ident, &rights)) {
        if (ident.n == 0 || ident.n > USER_MAX || ident.p[0] == '-')
            continue;
        if (put)
            state_put(st, key_rights(&k, ident, mb->id), SPAN_EMPTY);
        else
            state_delete(st, key_rights(&k, ident, mb->id));
    }
}

static enum errcode
apply_mailbox(const struct apply *ap)
{
    struct state *st = ap->st;
    struct rec_mailbox rec;
    struct key k;

    enum errcode rc = rec_mailbox_decode(ap->rec->body, ap->rec->version,
                                         &st->arena, &rec, ap->err);
    if (rc != ERR_OK)
        return rc;
    struct head *h = state_new_head(st, ap->rec->lsn);
    h->mb = rec.head;
    h->mb.id = ap->rec->lsn;
    h->mb.created_modseq = *ap->modseq;
    h->mb.highestmodseq = *ap->modseq;
    h->mb.is_deleted = name_is_deleted(rec.head.name);
    apply_put_mbid(st, key_text(&k, TAB_NAME, span_str(h->mb.name)), h->mb.id);
    apply_put_mbid(st, key_text(&k, TAB_UNIQUEID, span_str(h->mb.uniqueid.s)),
                   h->mb.id);
    apply_index_acl(st, &h->mb, true);
    st->v.list_changed = true;
    rc = state_charge_quota(st, h, 1, ap->err);
    return rc == ERR_OK ? state_raise_validity(st, h->mb.uidvalidity, ap->err)
                        : rc;
}

static enum errcode
apply_set(const struct apply *ap)
{
    struct state *st = ap->st;
    struct rec_set rec;
    struct head *h;

    enum errcode rc = rec_set_decode(ap->rec->body, ap->rec->version,
                                     &st->scratch, &rec, ap->err);
    if (rc == ERR_OK)
        rc = apply_head(ap, rec.id, &h);
    if (rc != ERR_OK)
        return rc;
    state_touch_head(st, h);
    if ((rec.fields & SET_ACL) != 0) {
        apply_index_acl(st, &h->mb, false);
        h->mb.acl = apply_keep(st, rec.acl);
        apply_index_acl(st, &h->mb, true);
    }
    if ((rec.fields & SET_SPECIAL_USE) != 0)
        h->mb.special_use = apply_keep(st, rec.special_use);
    if ((rec.fields & SET_RECENT) != 0)
        h->mb.recent_uid = rec.recent_uid;
    if ((rec.fields & SET_OPTIONS) != 0)
        h->mb.options = rec.options;
    if ((rec.fields & SET_PARTITION) != 0)
        h->mb.partition = apply_keep(st, rec.partition);
    if ((rec.fields & ~(uint32_t)SET_RECENT) != 0)
        st->v.list_changed = true;
    if ((rec.fields & SET_UIDVALIDITY) == 0)
        return ERR_OK;
    h->mb.uidvalidity = rec.uidvalidity;
    return state_raise_validity(st, rec.uidvalidity, ap->err);
}

/* ---------------------------------------------------------------- bodies */

static void
note_first_body(const struct apply *ap)
{
    struct key k;

    if (ap->st->v.has_bodies)
        return;
    ap->st->v.has_bodies = true;
    apply_put_mbid(ap->st, key_local(&k, LOCAL_BODIES), ap->rec->lsn);
}

static void
put_body(const struct apply *ap, const struct guid *guid,
         const struct body_loc *loc)
{
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;

    body_loc_encode(loc, &value);
    state_put(ap->st, key_body(&k, guid, loc->part), buf_span(&value));
    note_first_body(ap);
}

/* Until its message comes nothing refers to it: not garbage yet. */
static void
note_parts(const struct apply *ap, const struct guid *guid)
{
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;

    buf_add_varint(&value, ap->place->time_us);
    buf_add_varint(&value, ap->rec->lsn);
    state_put(ap->st, key_local_parts(&k, guid), buf_span(&value));
}

static enum errcode
apply_body(const struct apply *ap)
{
    struct rec_body rec;

    enum errcode rc = rec_body_decode(ap->rec->body, ap->rec->version,
                                      &ap->st->scratch, &rec, ap->err);
    if (rc != ERR_OK)
        return rc;
    const struct body_loc loc = {
        .home = BODY_IN_LOG,
        .encoding = rec.encoding,
        .file = ap->place->segment,
        .offset = ap->place->payload_offset + ap->rec->offset + rec.body_offset,
        .stored_bytes = (uint32_t)rec.body.n,
        .raw_bytes = rec.raw_bytes,
        .hash = rec.body_hash,
        .part = rec.part,
        .parts = rec.parts,
        .size = rec.size,
    };
    put_body(ap, &rec.guid, &loc);
    note_parts(ap, &rec.guid);
    return ERR_OK;
}

/* -------------------------------------------------------------- messages */

/* When the record was committed. */
static int64_t
now_s(const struct apply *ap)
{
    return (int64_t)(ap->place->time_us / 1000000);
}

static enum errcode
put_dedup(const struct apply *ap, const struct rec_append *rec)
{
    struct key k;
    AUTO(buf_free) struct buf value = BUF_INIT;

    buf_add_varint(&value, ap->place->time_us);
    buf_add_varint(&value, rec->id);
    buf_add_varint(&value, rec->msg.uid);
    struct span key =
        key_text(&k, TAB_DEDUP, span_of(rec->dedup, sizeof(rec->dedup)));
    return state_put_row(ap->st, "", key, buf_span(&value), ap->err);
}

static enum errcode
apply_append(const struct apply *ap)
{
    struct state *st = ap->st;
    struct rec_append rec;
    struct head *h;

    enum errcode rc = rec_append_decode(ap->rec->body, ap->rec->version,
                                        &st->scratch, &rec, ap->err);
    if (rc == ERR_OK)
        rc = apply_head(ap, rec.id, &h);
    if (rc != ERR_OK)
        return rc;
    if (rec.msg.uid < h->mb.uidnext || rec.msg.uid == UINT32_MAX)
        return error_set(ap->err, ERR_CORRUPT,
                         "UID %" PRIu32 " for %s, where UIDNEXT is %" PRIu32,
                         rec.msg.uid, h->mb.name, h->mb.uidnext);
    const bool is_own = rec.msg.modseq == 0;
    if (is_own) {
        rec.msg.modseq = *ap->modseq;
        rec.msg.created_modseq = *ap->modseq;
        rec.msg.updated_s = now_s(ap);
    }
    state_touch_head(st, h);
    const modseq_t highest = h->mb.highestmodseq;
    h->mb.uidnext = rec.msg.uid + 1;
    h->mb.uid_epoch = ap->rec->epoch;
    h->mb.last_append_us = ap->place->time_us;
    if (rec.has_body) {
        const struct body_loc loc = {
            .home = BODY_IN_LOG,
            .encoding = rec.encoding,
            .file = ap->place->segment,
            .offset =
                ap->place->payload_offset + ap->rec->offset + rec.body_offset,
            .stored_bytes = (uint32_t)rec.body.n,
            .raw_bytes = (uint32_t)rec.msg.size,
            .hash = rec.body_hash,
            .part = 0,
            .parts = 1,
            .size = rec.msg.size,
        };
        put_body(ap, &rec.msg.guid, &loc);
    }
    if (rec.has_dedup && (st->mutants & MUTANT_NO_DEDUP) == 0)
        rc = put_dedup(ap, &rec);
    if (rc == ERR_OK)
        rc = state_change_message(st, h, NULL, &rec.msg, ap->err);
    if (!is_own)
        h->mb.highestmodseq = highest;
    return rc;
}

/* Run CHANGE for every row of UIDS that is there, tombstones too. */
static enum errcode
each_row(const struct apply *ap, struct head *h, const struct uidset *uids,
         enum errcode (*change)(const struct apply *ap, struct head *h,
                                const struct message *old, const void *arg),
         const void *arg)
{
    struct arena rows = ARENA_INIT;
    struct message m = {0};
    struct state_iter it;
    bool have = false, more = true;
    enum errcode rc = ERR_OK;

    state_iter_open(ap->st, h, &it);
    for (size_t i = 0; i < uids->n && more && rc == ERR_OK; i++) {
        const struct uidrange *r = &uids->r[i];
        while (more && rc == ERR_OK && (have ? m.uid : it.next) <= r->last) {
            if (have && m.uid >= r->first) {
                rc = change(ap, h, &m, arg);
                have = false;
                continue;
            }
            arena_reset(&rows);
            more = have =
                state_iter_next(&it, r->first, &rows, &m, &rc, ap->err);
        }
    }
    arena_free(&rows);
    return state_iter_close(&it, rc, ap->err);
}

static enum errcode
change_flags(const struct apply *ap, struct head *h, const struct message *old,
             const void *arg)
{
    const struct rec_flag_group *g = arg;
    struct message m = *old;

    if ((old->flags & FLAG_EXPUNGED) != 0)
        return ERR_OK;
    m.flags = g->flags | (old->flags & FLAG_ANNOTATED);
    m.keywords = g->keywords;
    m.nkeywords = g->nkeywords;
    m.modseq = *ap->modseq;
    m.updated_s = now_s(ap);
    return state_change_message(ap->st, h, old, &m, ap->err);
}

static enum errcode
apply_flags(const struct apply *ap)
{
    struct rec_flags rec;
    struct head *h;
    struct arena a = ARENA_INIT;

    enum errcode rc =
        rec_flags_decode(ap->rec->body, ap->rec->version, &a, &rec, ap->err);
    if (rc == ERR_OK)
        rc = apply_head(ap, rec.id, &h);
    for (size_t i = 0; rc == ERR_OK && i < rec.n; i++)
        rc = each_row(ap, h, &rec.groups[i].uids, change_flags, &rec.groups[i]);
    arena_free(&a);
    return rc;
}

static enum errcode
expunge_one(const struct apply *ap, struct head *h, const struct message *old,
            const void *arg)
{
    struct message m = *old;

    (void)arg;
    if ((old->flags & FLAG_EXPUNGED) != 0)
        return ERR_OK;
    if ((ap->st->mutants & MUTANT_NO_TOMBSTONE) != 0)
        return state_change_message(ap->st, h, old, NULL, ap->err);
    m.flags |= FLAG_EXPUNGED;
    m.modseq = *ap->modseq;
    m.updated_s = m.expunged_s = now_s(ap);
    return state_change_message(ap->st, h, old, &m, ap->err);
}

/* CHANGE for the messages of a record that names nothing but them. */
static enum errcode
apply_to_uids(const struct apply *ap,
              enum errcode (*change)(const struct apply *ap, struct head *h,
                                     const struct message *old,
                                     const void *arg))
{
    struct rec_expunge rec;
    struct head *h;
    struct arena a = ARENA_INIT;

    enum errcode rc =
        rec_expunge_decode(ap->rec->body, ap->rec->version, &a, &rec, ap->err);
    if (rc == ERR_OK)
        rc = apply_head(ap, rec.id, &h);
    if (rc == ERR_OK)
        rc = each_row(ap, h, &rec.uids, change, NULL);
    arena_free(&a);
    return rc;
}

static enum errcode
apply_expunge(const struct apply *ap)
{
    return apply_to_uids(ap, expunge_one);
}

/* ----------------------------------------------------------------- purge */

struct purging {
    bool live;
    struct uidset gone;
    struct history_sum kept;
};

static enum errcode
purge_one(const struct apply *ap, struct head *h, const struct message *old,
          const void *arg)
{
    struct purging *p = *(struct purging *const *)arg;

    if (!p->live && (old->flags & FLAG_EXPUNGED) == 0)
        return ERR_OK;
    uidset_add(&p->gone, old->uid, old->uid);
    if (ap->st->keeps_history)
        history_note(ap->st, h, old,
                     &(struct logpos){ap->rec->epoch, ap->rec->lsn},
                     ap->place->time_us, &p->kept);
    if ((ap->st->mutants & MUTANT_PURGE_BODY) != 0) {
        struct key k;
        state_delete(ap->st, key_body(&k, &old->guid, 0));
    }
    return state_change_message(ap->st, h, old, NULL, ap->err);
}

static enum errcode
purge_messages(const struct apply *ap, struct head *h,
               const struct uidset *uids, bool live)
{
    struct purging p = {.live = live};
    struct purging *const arg = &p;

    enum errcode rc = each_row(ap, h, uids, purge_one, &arg);
    if (rc == ERR_OK)
        rc = state_forget_seen(ap->st, h, &p.gone, ap->err);
    if (rc == ERR_OK)
        rc = history_note_sum(ap->st, &p.kept, ap->err);
    uidset_free(&p.gone);
    return rc;
}

static enum errcode
purge_mailbox(const struct apply *ap, struct head *h)
{
    struct state *st = ap->st;
    struct key k;
    struct span *keys;
    size_t n;
    struct uidrange every = {1, UINT32_MAX};
    const struct uidset all = {.r = &every, .n = 1};

    enum errcode rc = purge_messages(ap, h, &all, true);
    if (rc == ERR_OK)
        rc = state_charge_quota(st, h, -1, ap->err);
    if (rc == ERR_OK)
        rc = state_drop_annots(st, h, 0, ap->err);
    if (rc == ERR_OK)
        rc = state_keys(st, key_of_mailbox(&k, TAB_KEYWORD, h->mb.id),
                        &st->scratch, &keys, &n, ap->err);
    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < n; i++)
        state_delete(st, keys[i]);
    state_delete(st, key_text(&k, TAB_NAME, span_str(h->mb.name)));
    state_delete(st, key_text(&k, TAB_UNIQUEID, span_str(h->mb.uniqueid.s)));
    apply_index_acl(st, &h->mb, false);
    state_touch_head(st, h);
    h->exists = false;
    st->v.list_changed = true;
    return ERR_OK;
}

static enum errcode
apply_purge(const struct apply *ap)
{
    struct rec_purge rec;
    struct head *h;
    struct arena a = ARENA_INIT;

    enum errcode rc =
        rec_purge_decode(ap->rec->body, ap->rec->version, &a, &rec, ap->err);
    if (rc == ERR_OK)
        rc = apply_head(ap, rec.id, &h);
    if (rc == ERR_OK)
        rc = rec.uids.n == 0 ? purge_mailbox(ap, h)
                             : purge_messages(ap, h, &rec.uids, rec.live);
    arena_free(&a);
    return rc;
}

static enum errcode
unexpunged_one(const struct apply *ap, struct head *h,
               const struct message *old, const void *arg)
{
    struct message m = *old;

    (void)arg;
    if ((old->flags & FLAG_EXPUNGED) == 0)
        return ERR_OK;
    /* Its MODSEQ stays: for a client nothing has changed. */
    m.flags |= FLAG_UNEXPUNGED;
    return state_change_message(ap->st, h, old, &m, ap->err);
}

static enum errcode
apply_unexpunged(const struct apply *ap)
{
    return apply_to_uids(ap, unexpunged_one);
}

/* ---------------------------------------------- annotations, \Seen, marks */

static enum errcode
annotate_server(const struct apply *ap, const struct rec_annot *rec)
{
    enum errcode rc = ERR_OK;
    struct key k;

    ap->st->v.list_changed = true;
    for (size_t i = 0; i < rec->n && rc == ERR_OK; i++) {
        const struct rec_annot_item *item = &rec->items[i];
        struct span key = key_annot(&k, 0, 0, item->entry, item->user);
        rc = item->is_set ? state_put_row(ap->st, "", key, item->value, ap->err)
                          : state_delete_row(ap->st, "", key, ap->err);
    }
    return rc;
}

/* The annotations of message OLD have changed, and with them its row. */
static enum errcode
touch_annotated(const struct apply *ap, struct head *h,
                const struct message *old, bool keep_modseq)
{
    struct state *st = ap->st;
    struct message m = *old;
    struct span *keys;
    struct key k;
    size_t n;

    enum errcode rc = state_keys_near(st, key_annots_of(&k, h->mb.id, old->uid),
                                      &st->scratch, &keys, &n, ap->err);
    if (rc != ERR_OK)
        return rc;
    m.flags &= ~(uint32_t)FLAG_ANNOTATED;
    if (n > 0)
        m.flags |= FLAG_ANNOTATED;
    if ((m.flags & FLAG_EXPUNGED) == 0 && !keep_modseq) {
        m.modseq = *ap->modseq;
        m.updated_s = now_s(ap);
    }
    const modseq_t highest = h->mb.highestmodseq;
    rc = state_change_message(st, h, old, &m, ap->err);
    if (keep_modseq)
        h->mb.highestmodseq = highest;
    return rc;
}

enum errcode
apply_put_annot(const struct apply *ap, struct head *h, uint32_t uid,
                const char *entry, const char *user, const struct span *value,
                bool keep_modseq)
{
    struct state *st = ap->st;
    struct message m = {0};
    enum errcode rc = ERR_OK;

    if (uid != 0)
        rc = state_message(st, h->mb.id, uid, &st->scratch, &m, ap->err);
    if (rc == ERR_NOTFOUND)
        return error_set(ap->err, ERR_CORRUPT,
                         "UID %" PRIu32 " of %s is not there", uid, h->mb.name);
    if (rc == ERR_OK)
        rc = state_put_annot(st, h, uid, entry, user, value,
                             (m.flags & FLAG_EXPUNGED) == 0, ap->err);
    return rc == ERR_OK && uid != 0 ? touch_annotated(ap, h, &m, keep_modseq)
                                    : rc;
}

static enum errcode
apply_annot(const struct apply *ap)
{
    struct rec_annot rec;
    struct head *h;
    struct arena a = ARENA_INIT;

    enum errcode rc =
        rec_annot_decode(ap->rec->body, ap->rec->version, &a, &rec, ap->err);
    if (rc == ERR_OK && rec.id == 0)
        rc = annotate_server(ap, &rec);
    else if (rc == ERR_OK)
        rc = apply_head(ap, rec.id, &h);
    for (size_t i = 0; rc == ERR_OK && rec.id != 0 && i < rec.n; i++) {
        const struct rec_annot_item *item = &rec.items[i];
        rc = apply_put_annot(ap, h, rec.uid, item->entry, item->user,
                             item->is_set ? &item->value : NULL,
                             rec.keep_modseq);
    }
    if (rc == ERR_OK && rec.raise_head)
        h->mb.highestmodseq = MAX(h->mb.highestmodseq, *ap->modseq);
    arena_free(&a);
    return rc;
}

static enum errcode
raise_modseq(const struct apply *ap, struct head *h, const struct message *old,
             const void *arg)
{
    struct message m = *old;

    (void)arg;
    if ((old->flags & FLAG_EXPUNGED) != 0)
        return ERR_OK;
    m.modseq = *ap->modseq;
    m.updated_s = now_s(ap);
    return state_change_message(ap->st, h, old, &m, ap->err);
}

/* What a peer said that the user has seen is not so any more. */
static enum errcode
drop_seen_text(const struct apply *ap, const struct head *h, const char *user)
{
    struct state *st = ap->st;
    struct span value;
    struct key k;
    struct span key = key_user(&k, user, USER_SEEN_TEXT, h->mb.uniqueid.s);

    enum errcode rc = state_get(st, key, &st->scratch, &value, ap->err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    return rc == ERR_OK ? state_delete_row(st, user, key, ap->err) : rc;
}

static enum errcode
apply_seen(const struct apply *ap)
{
    struct rec_seen rec;
    struct head *h;
    struct arena a = ARENA_INIT;

    enum errcode rc =
        rec_seen_decode(ap->rec->body, ap->rec->version, &a, &rec, ap->err);
    if (rc == ERR_OK)
        rc = apply_head(ap, rec.id, &h);
    if (rc == ERR_OK)
        rc = state_put_seen(ap->st, h, span_str(rec.user), &rec.seen, true,
                            ap->err);
    if (rc == ERR_OK)
        rc = state_put_seen(ap->st, h, span_str(rec.user), &rec.unseen, false,
                            ap->err);
    if (rc == ERR_OK)
        rc = drop_seen_text(ap, h, rec.user);
    if (rc == ERR_OK && !rec.keep_modseq)
        rc = each_row(ap, h, &rec.seen, raise_modseq, NULL);
    if (rc == ERR_OK && !rec.keep_modseq)
        rc = each_row(ap, h, &rec.unseen, raise_modseq, NULL);
    arena_free(&a);
    return rc;
}

static enum errcode
apply_forget(const struct apply *ap)
{
    struct rec_forget rec;
    struct key k;

    enum errcode rc = rec_forget_decode(ap->rec->body, ap->rec->version,
                                        &ap->st->scratch, &rec, ap->err);
    for (size_t i = 0; rc == ERR_OK && i < rec.n; i++)
        rc = state_delete_row(
            ap->st, "",
            key_text(&k, TAB_DEDUP,
                     span_of(rec.hashes[i], DELIVERY_HASH_BYTES)),
            ap->err);
    return rc;
}

/* ------------------------------------------------- what a peer says it is */

static enum errcode
apply_row(const struct apply *ap, struct head *h, const struct message *row)
{
    struct state *st = ap->st;
    struct message old, m = *row;

    enum errcode rc =
        state_message(st, h->mb.id, row->uid, &st->scratch, &old, ap->err);
    if (rc == ERR_NOTFOUND)
        return error_set(ap->err, ERR_CORRUPT,
                         "UID %" PRIu32 " of %s is not there", row->uid,
                         h->mb.name);
    if (rc != ERR_OK)
        return rc;
    if ((old.flags & ~m.flags & FLAG_EXPUNGED) != 0)
        return error_set(ap->err, ERR_CORRUPT,
                         "UID %" PRIu32 " of %s is gone and would live again",
                         row->uid, h->mb.name);
    m.guid = old.guid;
    m.size = old.size;
    m.flags &= ~(uint32_t)FLAG_ANNOTATED;
    m.flags |= old.flags & FLAG_ANNOTATED;
    return state_change_message(st, h, &old, &m, ap->err);
}

static enum errcode
apply_rows(const struct apply *ap)
{
    struct rec_rows rec;
    struct head *h = NULL;
    struct arena a = ARENA_INIT;

    enum errcode rc =
        rec_rows_decode(ap->rec->body, ap->rec->version, &a, &rec, ap->err);
    if (rc == ERR_OK)
        rc = apply_head(ap, rec.id, &h);
    const modseq_t highest = rc == ERR_OK ? h->mb.highestmodseq : 0;
    for (size_t i = 0; rc == ERR_OK && i < rec.n; i++)
        rc = apply_row(ap, h, &rec.rows[i]);
    if (rc == ERR_OK)
        h->mb.highestmodseq = highest;
    arena_free(&a);
    return rc;
}

static enum errcode
apply_head_fields(const struct apply *ap)
{
    struct state *st = ap->st;
    struct rec_head rec;
    struct head *h;

    enum errcode rc = rec_head_decode(ap->rec->body, ap->rec->version,
                                      &st->scratch, &rec, ap->err);
    if (rc == ERR_OK)
        rc = apply_head(ap, rec.id, &h);
    if (rc != ERR_OK)
        return rc;
    if (rec.uidnext < h->mb.uidnext)
        return error_set(ap->err, ERR_CORRUPT,
                         "UIDNEXT %" PRIu32 " for %s, where it is %" PRIu32,
                         rec.uidnext, h->mb.name, h->mb.uidnext);
    state_touch_head(st, h);
    if (h->mb.options != rec.options || h->mb.uidvalidity != rec.uidvalidity)
        st->v.list_changed = true;
    if (rec.uidnext != h->mb.uidnext)
        h->mb.uid_epoch = ap->rec->epoch;
    h->mb.uidvalidity = rec.uidvalidity;
    h->mb.uidnext = rec.uidnext;
    h->mb.highestmodseq = rec.highestmodseq;
    h->mb.created_modseq = rec.created_modseq;
    h->mb.purged_modseq = MAX(h->mb.purged_modseq, rec.purged_modseq);
    h->mb.recent_uid = rec.recent_uid;
    h->mb.options = rec.options;
    h->mb.recent_time_s = rec.recent_time_s;
    h->mb.last_append_us = rec.last_append_us;
    h->mb.pop3_login_s = rec.pop3_login_s;
    h->mb.pop3_show_after_s = rec.pop3_show_after_s;
    return state_raise_validity(st, rec.uidvalidity, ap->err);
}

/* ------------------------------------------------------- users and quota */

static enum errcode
apply_user(const struct apply *ap)
{
    struct state *st = ap->st;
    struct rec_user rec;
    struct key k;

    enum errcode rc = rec_user_decode(ap->rec->body, ap->rec->version,
                                      &st->scratch, &rec, ap->err);
    if (rc != ERR_OK)
        return rc;
    if (rec.kind == USER_SUBSCRIPTION)
        st->v.list_changed = true;
    struct span key = key_user(&k, rec.user, rec.kind, rec.name);
    return rec.is_set ? state_put_row(st, rec.user, key, rec.value, ap->err)
                      : state_delete_row(st, rec.user, key, ap->err);
}

static enum errcode
apply_quota(const struct apply *ap)
{
    struct state *st = ap->st;
    struct rec_quota rec;
    struct quota_head *q;
    struct arena a = ARENA_INIT;
    struct rooted_set below = {0};

    enum errcode rc =
        rec_quota_decode(ap->rec->body, ap->rec->version, &a, &rec, ap->err);
    if (rc == ERR_OK)
        rc = state_quota(st, rec.root, &q, ap->err);
    const bool is_change = rc == ERR_OK && (q != NULL) != rec.is_set;
    if (is_change)
        rc = state_unroot(st, rec.root, &a, &below, ap->err);
    if (rc == ERR_OK && rec.is_set) {
        rc = state_new_quota(st, rec.root, &q, ap->err);
        if (rc == ERR_OK)
            memcpy(q->q.limit, rec.limit, sizeof(q->q.limit));
    } else if (is_change && rc == ERR_OK) {
        state_touch_quota(st, q);
        q->exists = false;
    }
    if (is_change && rc == ERR_OK)
        rc = state_reroot(st, &below, ap->err);
    arena_free(&a);
    return rc;
}

/* ----------------------------------------------------------------- all */

static enum errcode
dispatch(const struct apply *ap)
{
    switch ((enum record_type)ap->rec->type) {
    case REC_EPOCH:
        return apply_epoch(ap);
    case REC_MAILBOX:
        return apply_mailbox(ap);
    case REC_RENAME:
        return apply_rename(ap);
    case REC_SET:
        return apply_set(ap);
    case REC_APPEND:
        return apply_append(ap);
    case REC_BODY:
        return apply_body(ap);
    case REC_FLAGS:
        return apply_flags(ap);
    case REC_EXPUNGE:
        return apply_expunge(ap);
    case REC_USER:
        return apply_user(ap);
    case REC_QUOTA:
        return apply_quota(ap);
    case REC_PURGE:
        return apply_purge(ap);
    case REC_ANNOT:
        return apply_annot(ap);
    case REC_SEEN:
        return apply_seen(ap);
    case REC_FORGET:
        return apply_forget(ap);
    case REC_UNEXPUNGED:
        return apply_unexpunged(ap);
    case REC_ROWS:
        return apply_rows(ap);
    case REC_HEAD:
        return apply_head_fields(ap);
    }
    return error_set(ap->err, ERR_VERSION, "a record of unknown type %u",
                     ap->rec->type);
}

enum errcode
store_apply(struct state *st, const struct record *rec,
            const struct apply_place *place, struct error *err)
{
    modseq_t modseq = modseq_of(rec->epoch, rec->lsn);
    mbid_t modseq_for = 0;
    const struct apply ap = {
        .st = st,
        .rec = rec,
        .place = place,
        .modseq = &modseq,
        .modseq_for = &modseq_for,
        .err = err,
    };

    enum errcode rc = dispatch(&ap);
    if (rc == ERR_OK)
        rc = state_settle_changed(st, err);
    if (rc != ERR_OK)
        (void)error_prefix(err, "record %" PRI_EPOCH ":%" PRI_LSN, rec->epoch,
                           rec->lsn);
    return rc;
}

enum errcode
store_apply_frame(struct state *st, const struct frame_head *h,
                  struct span payload, const struct apply_place *place,
                  uint64_t *ret_root, struct error *err)
{
    struct record rec, held = {0};
    size_t pos = 0;
    bool holding = false;
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && frame_next_record(h, payload, &pos, &rec)) {
        if ((st->mutants & MUTANT_APPLY_FLIPPED) != 0 && !holding &&
            rec.type == REC_FLAGS) {
            held = rec;
            holding = true;
            continue;
        }
        rc = store_apply(st, &rec, place, err);
        if (rc == ERR_OK && holding) {
            rc = store_apply(st, &held, place, err);
            holding = false;
        }
        arena_reset(&st->scratch);
    }
    if (rc == ERR_OK && holding)
        rc = store_apply(st, &held, place, err);
    return rc == ERR_OK ? state_settle(st, ret_root, err) : rc;
}
