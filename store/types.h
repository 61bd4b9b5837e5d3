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
    FLAGS_SETTABLE = 0x1fU,
};

/* Bounds of what the state takes; a transaction beyond them is ERR_LIMIT. */
#define MAILBOX_NAME_MAX 490U
#define KEYWORD_MAX 100U          /* bytes of one keyword */
#define KEYWORDS_PER_MESSAGE 128U /* on one message */
#define ACL_BYTES_MAX 8192U
#define USER_MAX 256U
#define USER_VALUE_MAX (256U << 10)

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
    uint32_t options;    /* reserved: 0 */
    uint64_t last_append_us; /* wall clock, 0: never */
    uint64_t digest;         /* exclusive or over its messages' hashes */
    bool is_deleted;         /* lies under DELETED. */
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
    uint64_t size;               /* octets of the message as stored */
    const struct span *keywords; /* sorted bytewise, no duplicates */
    size_t nkeywords;
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

/* How far the state is, and what it looks like there. */
struct store_pos {
    struct logpos applied;
    uint64_t chain;
    uint64_t digest;  /* root over all replicated state */
    uint64_t time_us; /* commit time of the record applied last */
};

#endif
