/*
 * store/types.h - mailboxes and messages as the store gives them out.
 */
#ifndef POLLUX_STORE_TYPES_H
#define POLLUX_STORE_TYPES_H

#include "base/arena.h"
#include "base/ids.h"

/* System flags; the bits are on disk, on the wire and in digests. */
enum {
    FLAG_ANSWERED = 1U << 0,
    FLAG_FLAGGED = 1U << 1,
    FLAG_DELETED = 1U << 2,
    FLAG_SEEN = 1U << 3,
    FLAG_DRAFT = 1U << 4,
    FLAG_EXPUNGED = 1U << 7, /* a tombstone: gone for IMAP */
    /* A tombstone whose message was brought back under another UID. */
    FLAG_UNEXPUNGED = 1U << 8,
    FLAG_ANNOTATED = 1U << 9, /* there are annotations on it */
    FLAGS_SETTABLE = 0x1fU,
};

/* Options of a mailbox; the bits are on disk, on the wire and in digests. */
enum {
    MBOX_SHAREDSEEN = 1U << 0, /* \Seen is one for all */
    /* Of a Cyrus, kept for it: P, D and A of its OPTIONS. */
    MBOX_POP3_UIDL = 1U << 1,
    MBOX_DUPLICATES = 1U << 2,
    MBOX_ALARMS = 1U << 3,
    MBOX_OPTIONS =
        MBOX_SHAREDSEEN | MBOX_POP3_UIDL | MBOX_DUPLICATES | MBOX_ALARMS,
    /* A peer's state came in part: of its changes above HIGHESTMODSEQ some are
     * here and some are not. */
    MBOX_PARTIAL = 1U << 4,
    MBOX_KNOWN = MBOX_OPTIONS | MBOX_PARTIAL,
};

/* Bounds of what the state takes; a transaction beyond them is ERR_LIMIT. */
#define MAILBOX_NAME_MAX 490U
#define KEYWORD_MAX 100U          /* bytes of one keyword */
#define KEYWORDS_PER_MESSAGE 128U /* on one message */
#define ACL_BYTES_MAX 8192U
#define USER_MAX 256U
#define USER_VALUE_MAX (256U << 10)
#define ANNOT_ENTRY_MAX 256U
#define ANNOT_VALUE_MAX (64U << 10)
#define ANNOTS_PER_TARGET 1000U /* on one message, mailbox or the server */

/*
 * A mailbox head.  Strings are NUL-terminated and live in the arena that it
 * was read into.
 */
struct mailbox {
    mbid_t id;
    struct uniqueid uniqueid;
    const char *name;        /* internal: user.john.Sub^Folder */
    const char *acl;         /* "id TAB rights TAB" repeated */
    const char *quota_root;  /* internal name, or "" */
    const char *special_use; /* "\\Sent \\Junk", or "" */
    const char *partition;
    uint32_t uidvalidity;
    uint32_t uidnext;
    modseq_t highestmodseq;
    modseq_t created_modseq;
    uint32_t exists;     /* messages that are not expunged */
    uint32_t unseen;     /* of those, without \Seen */
    uint32_t deleted;    /* of those, with \Deleted */
    uint64_t bytes;      /* of those */
    uint32_t expunged;   /* tombstones still kept */
    uint32_t recent_uid; /* messages above it are \Recent to the next SELECT */
    epoch_t uid_epoch;   /* in which a UID was last given out */
    uint32_t options;    /* MBOX_* */
    uint64_t last_append_us; /* wall clock, 0: never */
    uint64_t annot_bytes;    /* values of annotations: its own, and those of
                                messages that are not expunged */
    /* Highest MODSEQ of a message that went for good: what has vanished is
     * known completely above it only (RFC 7162, 3.2.5.1). */
    modseq_t purged_modseq;
    /* Of a Cyrus, kept for it; seconds since 1970, 0: never. */
    uint64_t recent_time_s;     /* when recent_uid was set */
    uint64_t pop3_login_s;      /* last login by POP3 */
    uint64_t pop3_show_after_s; /* older messages are hidden from POP3 */
    uint64_t digest;            /* exclusive or over its messages' hashes */
    bool is_deleted;            /* lies under DELETED. */
};

/* A message row.  `keywords` points into the arena or iterator it came from. */
struct message {
    uint32_t uid;
    uint32_t flags; /* FLAG_* */
    struct guid guid;
    modseq_t modseq;
    modseq_t created_modseq;
    int64_t internal_s;      /* INTERNALDATE, seconds since 1970 */
    int16_t internal_tz_min; /* its zone, minutes east of UTC */
    int64_t saved_s;
    int64_t updated_s;  /* when the row last changed */
    int64_t expunged_s; /* when it became a tombstone; 0 while it lives */
    uint64_t size;      /* octets of the message as stored */
    const struct span *keywords; /* sorted bytewise, no duplicates */
    size_t nkeywords;
};

/* What a quota root bounds (RFC 9208, 5). */
enum quota_resource {
    QUOTA_STORAGE,    /* bytes of messages that are not expunged */
    QUOTA_MESSAGE,    /* how many */
    QUOTA_FOLDERS,    /* X-NUM-FOLDERS: mailboxes */
    QUOTA_ANNOTATION, /* X-ANNOTATION-STORAGE: bytes of values */
    QUOTA_RESOURCES,
};

#define QUOTA_UNLIMITED UINT64_MAX

struct quota {
    const char *root; /* internal mailbox name */
    uint64_t limit[QUOTA_RESOURCES];
    uint64_t used[QUOTA_RESOURCES];
};

/* An entry of the epoch history: where the epoch began. */
struct epoch_entry {
    epoch_t epoch;
    lsn_t fork_lsn;      /* last record of the history before */
    uint64_t fork_chain; /* chain there */
    uint64_t time_us;
    uint32_t uid_headroom;  /* 0: planned swap or first start */
    struct instid instance; /* who was promoted */
};

#define EPOCHS_MAX 4096U

/* The last one at or before EPOCH of N entries, by epoch, that has a headroom;
 * else the first one of all, or 0. */
epoch_t
epochs_jumped_last(const struct epoch_entry *entries, size_t n, epoch_t epoch);
/*
 * How far UIDs jump at the first one given out now in a mailbox where the last
 * one was given out in epoch UID_EPOCH.  If there was a promotion since, then
 * once for each epoch since the one in which they jumped last: epochs of which
 * nothing came here began at the same UIDNEXT.  Those with a planned swap count
 * too: on another line of history the same numbers may be promotions.
 */
uint64_t
epochs_uid_jump(const struct epoch_entry *entries, size_t n, epoch_t uid_epoch);

/* How far the state is, and what it looks like there. */
struct store_pos {
    struct logpos applied;
    uint64_t chain;
    uint64_t digest;  /* root over all replicated state */
    uint64_t time_us; /* commit time of the record applied last */
};

#endif
