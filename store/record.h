/*
 * store/record.h - what the records of the log say, and their bytes.
 *
 * Records carry resolved, absolute values.  Every body starts with the version
 * that the frame's record header names; integers are varints unless said,
 * strings are varint length and bytes.  A decoder of version n refuses n+1
 * (ERR_VERSION): a replica of an older format stops and says so.
 *
 * The text of each type's layout stands beside its struct; golden bytes of all
 * in tests/store/test_record.c.
 */
#ifndef POLLUX_STORE_RECORD_H
#define POLLUX_STORE_RECORD_H

#include "base/uidset.h"
#include "store/types.h"
#include "synclog/frame.h"

/* Raised whenever a record type or a version of one is added: a replica that
 * knows less than its master writes refuses to follow. */
#define RECORD_FORMAT 3U

enum record_type {
    REC_EPOCH = 1,   /* a promotion: first record of its epoch */
    REC_MAILBOX = 2, /* a mailbox is created */
    REC_RENAME = 3,  /* mailboxes, or a user with all that is the user's, get
                        new names, all at once; a delayed delete renames to
                        DELETED. */
    REC_SET = 4,     /* fields of a mailbox head */
    REC_APPEND = 5,  /* a message, with its body if this first names it */
    REC_BODY = 6,    /* a part of a large body, before its REC_APPEND */
    REC_FLAGS = 7,   /* flags and keywords of messages */
    REC_EXPUNGE = 8, /* messages become tombstones */
    REC_USER = 9,    /* a user's object: subscription, Sieve script */
    REC_QUOTA = 10,  /* limits of a quota root, or its end */
    REC_PURGE = 11,  /* tombstones, or a whole deleted mailbox, go for good */
    REC_ANNOT = 12,  /* annotations of the server, a mailbox or a message */
    REC_SEEN = 13,   /* \Seen of a user in a mailbox that is not theirs */
    REC_FORGET = 14, /* delivery marks that are old enough go */
    REC_UNEXPUNGED = 15, /* tombstones whose messages were brought back */
    REC_ROWS = 16, /* messages of a mailbox become what a peer says they are */
    REC_HEAD = 17, /* and so does the mailbox's head */
};

/* Lower-case name ("append"), or NULL if unknown. */
const char *
record_type_name(uint8_t type);

/* How a body's bytes are kept. */
enum body_encoding { BODY_RAW = 0, BODY_ZSTD = 1 };

/* A message of more than this travels in parts of this size (REC_BODY). */
#define BODY_PART_BYTES (1U << 20)
#define BODY_PARTS_MAX 4096U

struct rec_epoch {
    struct epoch_entry entry;
    const char *reason; /* "first start", "swap", "promote" */
};

struct rec_mailbox {     /* mbid is the record's LSN */
    struct mailbox head; /* name, uniqueid, acl, quota_root, special_use,
                            partition, uidvalidity, uidnext, uid_epoch */
};

/*
 * Mailboxes get new names, and the rows of one user go to another name.
 *
 * A quota root takes its limits along if nobody stays below its old name, and
 * ends if that goes below DELETED.
 *
 * USER_FROM: all rows of table u, the seen state and the private annotations of
 * that user are USER_TO's from here on; subscriptions to mailboxes below
 * user.FROM are to those below user.TO; and so are entries in the ACLs of the
 * mailboxes that move.  With USER_TO "" all of it goes for good.
 */
struct rec_rename {
    size_t n;
    struct {
        mbid_t id;
        const char *name;     /* new internal name */
        uint32_t uidvalidity; /* 0: as it is */
    } * moves;
    const char *user_from; /* or "" */
    const char *user_to;
};

enum { /* which fields of struct rec_set are there */
       SET_ACL = 1U << 0,
       SET_SPECIAL_USE = 1U << 1,
       SET_RECENT = 1U << 2,
       SET_OPTIONS = 1U << 3,
       SET_PARTITION = 1U << 4,
       SET_UIDVALIDITY = 1U << 5,
};

struct rec_set {
    mbid_t id;
    uint32_t fields;
    const char *acl;
    const char *special_use;
    uint32_t recent_uid;
    uint32_t options;
    const char *partition;
    uint32_t uidvalidity;
};

struct rec_append {
    mbid_t id;
    struct message msg; /* modseq and created_modseq are the record's own where
                           they are 0.  From a peer they are not, and then
                           nothing else is: the row is as it says, tombstone or
                           not, and HIGHESTMODSEQ stays */
    bool has_body;
    enum body_encoding encoding;
    uint64_t body_hash;   /* xxh3-64 of the stored bytes */
    struct span body;     /* stored bytes */
    uint64_t body_offset; /* decoded: of `body` within the record's body */
    bool has_dedup;
    uint8_t dedup[16]; /* xxh3-128 of received bytes, recipient, mailbox */
};

struct rec_body {
    struct guid guid;
    uint32_t part;  /* from 0 */
    uint32_t parts; /* how many in all */
    uint64_t size;  /* of the whole message */
    enum body_encoding encoding;
    uint32_t raw_bytes;
    uint64_t body_hash;
    struct span body;
    uint64_t body_offset;
};

struct rec_flags {
    mbid_t id;
    size_t n; /* groups of messages that end with the same flags */
    struct rec_flag_group {
        uint32_t flags;
        const struct span *keywords;
        size_t nkeywords;
        struct uidset uids;
    } * groups;
};

struct rec_expunge { /* also REC_UNEXPUNGED */
    mbid_t id;
    struct uidset uids;
};

struct rec_purge {
    mbid_t id;
    struct uidset uids; /* empty: the mailbox */
    bool live;          /* also what is no tombstone: the mailbox goes */
};

enum user_kind {
    USER_SUBSCRIPTION = 's', /* name: internal mailbox name; value: empty */
    USER_SIEVE = 'v',        /* name: of the script; value: its text */
    USER_SIEVE_ACTIVE = 'V', /* name: empty; value: name of the script */
    USER_SEEN_TEXT = 'e',    /* name: UNIQUEID; value: what a peer said that the
                                user has seen there (csync/sync_obj.h); goes with
                                the next REC_SEEN */
    /* Of user "": name: UNIQUEID, blank, user; value: the same, where messages
     * that it is about did not come yet. */
    USER_SEEN_WAITING = 'w',
};

struct rec_user {
    const char *user;
    uint8_t kind;
    const char *name;
    bool is_set; /* false: removed */
    struct span value;
};

struct rec_quota {
    const char *root; /* internal mailbox name */
    bool is_set;
    uint64_t limit[QUOTA_RESOURCES];
};

struct rec_annot {
    mbid_t id;    /* 0: the server */
    uint32_t uid; /* 0: the mailbox; else its MODSEQ becomes the record's,
                     unless: */
    bool keep_modseq;
    /* Of the mailbox: its HIGHESTMODSEQ becomes the record's too (RFC 7162,
     * 3.2).  Not in records of before. */
    bool raise_head;
    size_t n;
    struct rec_annot_item {
        const char *entry;
        const char *user; /* "": shared */
        bool is_set;      /* false: removed */
        struct span value;
    } * items;
};

/* The MODSEQ of all these messages becomes the record's, so that other sessions
 * of the user see it (RFC 7162), unless keep_modseq. */
struct rec_seen {
    mbid_t id;
    const char *user;
    struct uidset seen;
    struct uidset unseen;
    bool keep_modseq;
};

/* Messages that are there get these rows; GUID, size and whether there are
 * annotations stay.  HIGHESTMODSEQ stays too. */
struct rec_rows {
    mbid_t id;
    size_t n;
    struct message *rows;
};

/* All of these fields, as they are: HIGHESTMODSEQ and UIDNEXT may fall no lower
 * than what the mailbox has messages for, unless it is MBOX_PARTIAL. */
struct rec_head {
    mbid_t id;
    uint32_t uidvalidity;
    uint32_t uidnext;
    modseq_t highestmodseq;
    modseq_t created_modseq;
    modseq_t purged_modseq; /* raises it */
    uint32_t recent_uid;
    uint32_t options;
    uint64_t recent_time_s;
    uint64_t last_append_us;
    uint64_t pop3_login_s;
    uint64_t pop3_show_after_s;
};

#define DELIVERY_HASH_BYTES 16U

struct rec_forget {
    size_t n;
    const uint8_t (*hashes)[DELIVERY_HASH_BYTES];
};

/*
 * Encoders append the body to OUT.  Decoders take it from BODY with VERSION and
 * put what they allocate into A; ERR_CORRUPT, ERR_VERSION.
 */
#define RECORD_CODEC(kind)                                                     \
    void rec_##kind##_encode(const struct rec_##kind *rec, struct buf *out);   \
    MUST_CHECK enum errcode rec_##kind##_decode(                               \
        struct span body, uint8_t version, struct arena *a,                    \
        struct rec_##kind *ret, struct error *err);

RECORD_CODEC(epoch)
RECORD_CODEC(mailbox)
RECORD_CODEC(rename)
RECORD_CODEC(set)
RECORD_CODEC(append)
RECORD_CODEC(body)
RECORD_CODEC(flags)
RECORD_CODEC(expunge)
RECORD_CODEC(user)
RECORD_CODEC(quota)
RECORD_CODEC(purge)
RECORD_CODEC(annot)
RECORD_CODEC(seen)
RECORD_CODEC(forget)
RECORD_CODEC(rows)
RECORD_CODEC(head)

/* The version that each type is written in. */
uint8_t
record_version(enum record_type type);

/* One line about a record for `synclog dump`: "append mbid=7 uid=3 guid=...".
 * Says "undecodable: ..." where it is. */
void
record_describe(const struct record *rec, struct buf *out);

#endif
