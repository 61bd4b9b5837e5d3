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
 * apply_place and goes into tables that are in no digest.
 */
#include "store/state.h"

#include "store/local.h"
#include "store/mutants.h"

struct apply {
    struct state *st;
    const struct record *rec;
    const struct apply_place *place;
    modseq_t modseq; /* of what this record changes */
    struct error *err;
};

static enum errcode
need_head(const struct apply *ap, mbid_t id, struct head **ret)
{
    enum errcode rc = state_head(ap->st, id, ret, ap->err);
    if (rc == ERR_OK && *ret == NULL)
        rc = error_set(ap->err, ERR_CORRUPT, "mailbox %" PRIu64 " is not there",
                       id);
    return rc;
}

static void
put_mbid(struct state *st, struct span key, mbid_t id)
{
    uint8_t value[8];

    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (uint8_t)(id >> (8 * i));
    state_put(st, key, span_of(value, sizeof(value)));
}

/* How far UIDVALIDITY jumps at an unplanned promotion. */
#define UIDVALIDITY_HEADROOM 4096U

static enum errcode
apply_epoch(const struct apply *ap)
{
    struct rec_epoch rec;

    enum errcode rc = rec_epoch_decode(ap->rec->body, ap->rec->version,
                                       &ap->st->scratch, &rec, ap->err);
    if (rc == ERR_OK)
        rc = state_add_epoch(ap->st, &rec.entry, ap->err);
    if (rc != ERR_OK || rec.entry.uid_headroom == 0)
        return rc;
    /* A master that is gone may have given out UIDVALIDITYs that we never saw:
     * seconds of its clock, one for each mailbox made in that second. */
    uint64_t seconds = rec.entry.time_us / 1000000;
    uint64_t least = MAX(seconds, (uint64_t)ap->st->v.validity);
    return state_raise_validity(
        ap->st,
        (uint32_t)MIN(least + UIDVALIDITY_HEADROOM, (uint64_t)UINT32_MAX),
        ap->err);
}

static const char *
keep(struct state *st, const char *s)
{
    return arena_str(&st->arena, span_str(s));
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
    h->mb.created_modseq = ap->modseq;
    h->mb.highestmodseq = ap->modseq;
    h->mb.is_deleted = name_is_deleted(rec.head.name);
    put_mbid(st, key_text(&k, TAB_NAME, span_str(h->mb.name)), h->mb.id);
    put_mbid(st, key_text(&k, TAB_UNIQUEID, span_str(h->mb.uniqueid.s)),
             h->mb.id);
    st->v.list_changed = true;
    return state_raise_validity(st, h->mb.uidvalidity, ap->err);
}

static enum errcode
apply_rename(const struct apply *ap)
{
    struct state *st = ap->st;
    struct rec_rename rec;
    struct key k;

    enum errcode rc = rec_rename_decode(ap->rec->body, ap->rec->version,
                                        &st->arena, &rec, ap->err);
    /* All old names go before the first new one comes: a tree may move into
     * names that it has itself. */
    for (size_t i = 0; i < rec.n && rc == ERR_OK; i++) {
        struct head *h;
        rc = need_head(ap, rec.moves[i].id, &h);
        if (rc == ERR_OK)
            state_delete(st, key_text(&k, TAB_NAME, span_str(h->mb.name)));
    }
    for (size_t i = 0; i < rec.n && rc == ERR_OK; i++) {
        struct head *h;
        rc = need_head(ap, rec.moves[i].id, &h);
        if (rc != ERR_OK)
            break;
        state_touch_head(st, h);
        h->mb.name = rec.moves[i].name;
        h->mb.is_deleted = name_is_deleted(h->mb.name);
        put_mbid(st, key_text(&k, TAB_NAME, span_str(h->mb.name)), h->mb.id);
        if (rec.moves[i].uidvalidity != 0) {
            h->mb.uidvalidity = rec.moves[i].uidvalidity;
            rc = state_raise_validity(st, h->mb.uidvalidity, ap->err);
        }
    }
    st->v.list_changed = true;
    return rc;
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
        rc = need_head(ap, rec.id, &h);
    if (rc != ERR_OK)
        return rc;
    state_touch_head(st, h);
    if ((rec.fields & SET_ACL) != 0)
        h->mb.acl = keep(st, rec.acl);
    if ((rec.fields & SET_SPECIAL_USE) != 0)
        h->mb.special_use = keep(st, rec.special_use);
    if ((rec.fields & SET_RECENT) != 0)
        h->mb.recent_uid = rec.recent_uid;
    if ((rec.fields & SET_QUOTA_ROOT) != 0) {
        rc = state_charge_quota(st, h, -1, ap->err);
        if (rc != ERR_OK)
            return rc;
        h->mb.quota_root = keep(st, rec.quota_root);
        rc = state_charge_quota(st, h, 1, ap->err);
    }
    if ((rec.fields & ~(uint32_t)SET_RECENT) != 0)
        st->v.list_changed = true;
    return rc;
}

/* ---------------------------------------------------------------- bodies */

static void
note_first_body(const struct apply *ap)
{
    struct key k;

    if (ap->st->v.has_bodies)
        return;
    ap->st->v.has_bodies = true;
    put_mbid(ap->st, key_local(&k, LOCAL_BODIES), ap->rec->lsn);
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
        rc = need_head(ap, rec.id, &h);
    if (rc != ERR_OK)
        return rc;
    if (rec.msg.uid < h->mb.uidnext || rec.msg.uid == UINT32_MAX)
        return error_set(ap->err, ERR_CORRUPT,
                         "UID %" PRIu32 " for %s, where UIDNEXT is %" PRIu32,
                         rec.msg.uid, h->mb.name, h->mb.uidnext);
    if (rec.msg.modseq == 0)
        rec.msg.modseq = ap->modseq;
    if (rec.msg.created_modseq == 0)
        rec.msg.created_modseq = rec.msg.modseq;
    state_touch_head(st, h);
    h->mb.uidnext = rec.msg.uid + 1;
    h->mb.uid_epoch = ap->rec->epoch;
    h->mb.last_append_us = ap->place->time_us;
    h->mb.highestmodseq = MAX(h->mb.highestmodseq, ap->modseq);
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
    if (rec.has_dedup)
        rc = put_dedup(ap, &rec);
    if (rc != ERR_OK)
        return rc;
    return state_change_message(st, h, NULL, &rec.msg, ap->err);
}

/* Change every message of UIDS that is there and not a tombstone. */
static enum errcode
each_live(const struct apply *ap, struct head *h, const struct uidset *uids,
          enum errcode (*change)(const struct apply *ap, struct head *h,
                                 const struct message *old, const void *arg),
          const void *arg)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < uids->n && rc == ERR_OK; i++) {
        struct state_iter it;
        struct message m;
        struct arena rows = ARENA_INIT;
        state_iter_open(ap->st, h, &it);
        while (
            state_iter_next(&it, uids->r[i].first, &rows, &m, &rc, ap->err) &&
            m.uid <= uids->r[i].last) {
            rc = change(ap, h, &m, arg);
            arena_reset(&rows);
            if (rc != ERR_OK)
                break;
        }
        rc = state_iter_close(&it, rc, ap->err);
        arena_free(&rows);
    }
    return rc;
}

static enum errcode
change_flags(const struct apply *ap, struct head *h, const struct message *old,
             const void *arg)
{
    const struct rec_flag_group *g = arg;
    struct message m = *old;

    if ((old->flags & FLAG_EXPUNGED) != 0)
        return ERR_OK;
    m.flags = g->flags;
    m.keywords = g->keywords;
    m.nkeywords = g->nkeywords;
    m.modseq = ap->modseq;
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
        rc = need_head(ap, rec.id, &h);
    for (size_t i = 0; rc == ERR_OK && i < rec.n; i++)
        rc =
            each_live(ap, h, &rec.groups[i].uids, change_flags, &rec.groups[i]);
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
    m.flags |= FLAG_EXPUNGED;
    m.modseq = ap->modseq;
    return state_change_message(ap->st, h, old, &m, ap->err);
}

static enum errcode
apply_expunge(const struct apply *ap)
{
    struct rec_expunge rec;
    struct head *h;
    struct arena a = ARENA_INIT;

    enum errcode rc =
        rec_expunge_decode(ap->rec->body, ap->rec->version, &a, &rec, ap->err);
    if (rc == ERR_OK)
        rc = need_head(ap, rec.id, &h);
    if (rc == ERR_OK)
        rc = each_live(ap, h, &rec.uids, expunge_one, NULL);
    arena_free(&a);
    return rc;
}

/* ----------------------------------------------------------------- purge */

static enum errcode
purge_one(const struct apply *ap, struct head *h, const struct message *old,
          const void *arg)
{
    const bool *whole = arg;

    if (!*whole && (old->flags & FLAG_EXPUNGED) == 0)
        return ERR_OK; /* only tombstones go one by one */
    return state_change_message(ap->st, h, old, NULL, ap->err);
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
    const bool whole = true;

    enum errcode rc = each_live(ap, h, &all, purge_one, &whole);
    if (rc == ERR_OK)
        rc = state_keys(st, key_of_mailbox(&k, TAB_KEYWORD, h->mb.id),
                        &st->scratch, &keys, &n, ap->err);
    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < n; i++)
        state_delete(st, keys[i]);
    state_delete(st, key_text(&k, TAB_NAME, span_str(h->mb.name)));
    state_delete(st, key_text(&k, TAB_UNIQUEID, span_str(h->mb.uniqueid.s)));
    state_touch_head(st, h);
    h->exists = false;
    st->v.list_changed = true;
    return ERR_OK;
}

static enum errcode
apply_purge(const struct apply *ap)
{
    struct rec_expunge rec;
    struct head *h;
    struct arena a = ARENA_INIT;
    const bool whole = false;

    enum errcode rc =
        rec_expunge_decode(ap->rec->body, ap->rec->version, &a, &rec, ap->err);
    if (rc == ERR_OK)
        rc = need_head(ap, rec.id, &h);
    if (rc == ERR_OK)
        rc = rec.uids.n == 0 ? purge_mailbox(ap, h)
                             : each_live(ap, h, &rec.uids, purge_one, &whole);
    arena_free(&a);
    return rc;
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

    enum errcode rc = rec_quota_decode(ap->rec->body, ap->rec->version,
                                       &st->scratch, &rec, ap->err);
    if (rc == ERR_OK && rec.is_set) {
        rc = state_new_quota(st, rec.root, &q, ap->err);
        if (rc != ERR_OK)
            return rc;
        q->q.storage_bytes = rec.storage_bytes;
        q->q.messages = rec.messages;
    } else if (rc == ERR_OK) {
        rc = state_quota(st, rec.root, &q, ap->err);
        if (rc != ERR_OK || q == NULL)
            return rc;
        state_touch_quota(st, q);
        q->exists = false;
    }
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
    }
    return error_set(ap->err, ERR_VERSION, "a record of unknown type %u",
                     ap->rec->type);
}

enum errcode
store_apply(struct state *st, const struct record *rec,
            const struct apply_place *place, struct error *err)
{
    const struct apply ap = {
        .st = st,
        .rec = rec,
        .place = place,
        .modseq = modseq_of(rec->epoch, rec->lsn),
        .err = err,
    };

    enum errcode rc = dispatch(&ap);
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
