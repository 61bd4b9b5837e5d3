/*
 * imapd/seen.c - \Seen as this user has it.
 *
 * In mailboxes of others \Seen is each user's own (store/store.h,
 * mailbox_has_own_seen()): the session keeps the set of UIDs that its user has
 * seen, as of its view, and puts the flag from there.
 */
#include "imapd/session_private.h"

enum errcode
load_seen(struct imap_session *s, struct store_snap *snap,
          const struct mailbox *mb, struct error *err)
{
    struct selected *sel = s->sel;

    sel->own_seen = mailbox_has_own_seen(mb, s->user);
    if (!sel->own_seen) {
        uidset_free(&sel->seen);
        return ERR_OK;
    }
    return snap_seen(snap, mb, s->user, &sel->seen, err);
}

uint32_t
flags_seen(const struct imap_session *s, const struct message *msg)
{
    const struct selected *sel = s->sel;

    if (!sel->own_seen)
        return msg->flags;
    return (msg->flags & ~(uint32_t)FLAG_SEEN) |
           (uidset_has(&sel->seen, msg->uid) ? (uint32_t)FLAG_SEEN : 0U);
}

enum errcode
count_unseen(struct imap_session *s, struct store_snap *snap,
             const struct mailbox *mb, uint32_t *ret, struct error *err)
{
    AUTO(uidset_free) struct uidset seen = UIDSET_INIT;
    struct message msg;

    *ret = mb->unseen;
    if (!mailbox_has_own_seen(mb, s->user))
        return ERR_OK;
    enum errcode rc = snap_seen(snap, mb, s->user, &seen, err);
    *ret = mb->exists;
    if (rc != ERR_OK || seen.n == 0)
        return rc;
    /* Expunged ones stay in the set until they are purged. */
    struct msg_iter *it = snap_messages(snap, mb->id, seen.r[0].first, false);
    while (msg_iter_next(it, &msg) && msg.uid <= seen.r[seen.n - 1].last)
        if (uidset_has(&seen, msg.uid))
            (*ret)--;
    return msg_iter_close(&it, err);
}
