/*
 * imapd/notify.h - NOTIFY (RFC 5465): what a session is told between commands.
 */
#ifndef POLLUX_IMAPD_NOTIFY_H
#define POLLUX_IMAPD_NOTIFY_H

#include "imapd/session_private.h"

/* Of a session; what goes beyond is [NOTIFICATIONOVERFLOW]. */
#define NOTIFY_BOXES_MAX 1000U
#define NOTIFY_BYTES_MAX (1U << 20) /* names of annotations that are known */

struct notify_box; /* a mailbox that is watched: imapd/notify_boxes.c */

/* A thread of the store sets *FLAG and wakes S. */
struct notify_mark {
    struct imap_session *s;
    _Atomic bool dirty;
};

/* Annotations that the client knows of, in order of their names. */
struct notify_annots {
    struct notify_annot {
        char *name; /* "/shared/comment" */
        uint64_t hash;
    } * a;
    size_t n;
};

struct notify {
    bool is_set;       /* by a command; else it is here for contexts alone */
    struct buf text;   /* of the command; empty: NONE */
    unsigned selected; /* EVENT_* */
    bool delayed;
    struct buf items;         /* of new messages, "UID FLAGS"; empty: none */
    struct uidset fresh, own; /* new ones to be told; that we made ourselves */
    struct store_watch *selected_watch;

    struct notify_box **boxes; /* by id */
    size_t n, at;
    size_t bytes;
    bool server_metadata;
    struct notify_annots server;
    struct store_watch *list_watch;
    struct notify_mark list;
    bool due; /* there is something, and it was not the time */
};

enum run
cmd_notify(struct imap_session *s);
/* Something has changed: tell it, if it is the time. */
void
notify_wake(struct imap_session *s);
/* There is something to be told as soon as no command is under way. */
bool
notify_is_due(const struct imap_session *s);
/* Another mailbox is selected, or none. */
void
notify_selected(struct imap_session *s);
/* What may be told of the selected mailbox where a command allows HOW. */
enum sync
notify_sync(const struct imap_session *s, enum sync how);
/* Are changes of flags to be told? */
bool
notify_tells_flags(const struct imap_session *s);
/* Names of annotations with them? */
bool
notify_tells_annotations(const struct imap_session *s);
static inline bool
notify_is_set(const struct imap_session *s)
{
    return s->notify != NULL && s->notify->is_set;
}
/* UIDs from FIRST on have just been told in EXISTS. */
void
notify_new(struct imap_session *s, uint32_t first);
/* This session has made UIDS in the mailbox ID. */
void
notify_own(struct imap_session *s, mbid_t id, const struct uidset *uids);
/* No wake comes from it any more. */
void
notify_unwatch(struct imap_session *s);
void
notify_free(struct imap_session *s);

/* ---- imapd/notify_boxes.c ---------------------------------------------- */

/*
 * Look which mailboxes are watched.  SILENT: as the client knows them, but for
 * those it may not read.  ERR_LIMIT: more than there may be.
 */
MUST_CHECK enum errcode
notify_refresh(struct imap_session *s, bool silent, struct error *err);
/* "* STATUS" of all of them that ask for it (RFC 5465, 3.1). */
MUST_CHECK enum errcode
notify_tell_status(struct imap_session *s, struct error *err);
/* What has changed in the next one that is marked; *RET_MORE: there was one. */
MUST_CHECK enum errcode
notify_tell_next(struct imap_session *s, bool *ret_more, struct error *err);
void
notify_forget_boxes(struct notify *n);

#endif
