/*
 * imapd/modseq.c - CONDSTORE and QRESYNC (RFC 7162): what is shared by SELECT,
 * FETCH, STORE and SEARCH.
 *
 * A MODSEQ is epoch and LSN of a record, so it says by itself which history it
 * comes from (store/epochs.h).  A client whose history is no more is answered
 * as one that knows nothing, flags of all messages included; its cache is right
 * again after that.
 */
#include "imapd/session_private.h"

void
enable_condstore(struct imap_session *s)
{
    if (s->condstore)
        return;
    s->condstore = true;
    /* RFC 7162, 3.1: who selected before must learn where it stands. */
    if (s->state == STATE_SELECTED)
        buf_addf(&s->out, "* OK [HIGHESTMODSEQ %" PRIu64 "] Ok\r\n",
                 s->sel->modseq);
}

void
write_modseq(struct imap_session *s, bool first, modseq_t modseq)
{
    if (!s->condstore)
        return;
    buf_add_str(&s->out, first ? "MODSEQ (" : " MODSEQ (");
    write_number(&s->out, modseq);
    buf_add_byte(&s->out, ')');
}

struct changed {
    struct uidset uids;
};

static bool
on_changed(void *ctx, modseq_t modseq, uint32_t uid)
{
    struct changed *c = ctx;

    (void)modseq;
    uidset_add(&c->uids, uid, uid);
    return true;
}

/* Every UID that is there. */
static enum errcode
existing(struct store_snap *snap, mbid_t id, struct uidset *ret,
         struct error *err)
{
    struct message msg;
    struct msg_iter *it = snap_messages(snap, id, 1, false);

    while (msg_iter_next(it, &msg))
        uidset_add(ret, msg.uid, msg.uid);
    return msg_iter_close(&it, err);
}

enum errcode
changed_since(struct store_snap *snap, mbid_t id, modseq_t since,
              struct uidset *ret, struct error *err)
{
    struct changed c = {.uids = UIDSET_INIT};

    if (since <= 1)
        return existing(snap, id, ret, err);
    enum errcode rc = snap_changed(snap, id, since, on_changed, &c, err);
    uidset_add_set(ret, &c.uids);
    uidset_free(&c.uids);
    return rc;
}

/* Tombstones that came after SINCE. */
static enum errcode
buried(struct store_snap *snap, mbid_t id, modseq_t since, struct uidset *ret,
       struct error *err)
{
    struct changed c = {.uids = UIDSET_INIT};
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct message msg;

    enum errcode rc = snap_changed(snap, id, since, on_changed, &c, err);
    for (uint32_t uid = uidset_next(&c.uids, 1); uid != 0 && rc == ERR_OK;
         uid = uid == UINT32_MAX ? 0 : uidset_next(&c.uids, uid + 1)) {
        rc = snap_message(snap, id, uid, &a, &msg, err);
        if (rc == ERR_OK && (msg.flags & FLAG_EXPUNGED) != 0)
            uidset_add(ret, uid, uid);
        arena_reset(&a);
    }
    uidset_free(&c.uids);
    return rc;
}

enum errcode
tell_vanished(struct imap_session *s, struct store_snap *snap,
              const struct mailbox *mb, modseq_t since,
              const struct uidset *known, struct error *err)
{
    AUTO(uidset_free) struct uidset gone = UIDSET_INIT;
    enum errcode rc;

    if (since > 1 && since >= mb->purged_modseq) {
        rc = buried(snap, mb->id, since, &gone, err);
        uidset_intersect(&gone, known);
    } else {
        AUTO(uidset_free) struct uidset there = UIDSET_INIT;
        rc = existing(snap, mb->id, &there, err);
        uidset_add_set(&gone, known);
        if (mb->uidnext < UINT32_MAX)
            uidset_remove(&gone, mb->uidnext, UINT32_MAX);
        for (size_t i = 0; i < there.n; i++)
            uidset_remove(&gone, there.r[i].first, there.r[i].last);
    }
    if (rc != ERR_OK || gone.n == 0)
        return rc;
    buf_add_str(&s->out, "* VANISHED (EARLIER) ");
    uidset_format(&gone, &s->out);
    buf_add_str(&s->out, "\r\n");
    return ERR_OK;
}
