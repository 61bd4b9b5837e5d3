/*
 * csync/sync_obj.h - what CSYNC by state speaks of: a mailbox with its messages
 * as Cyrus 3.6 writes them (MAILBOX, RECORD), and what a user has seen.
 *
 * Dlists to structs and back, bit for bit; no I/O.  The server side answers
 * with them (csync/state_get.c) and takes them (csync/state_mailbox.c), the
 * pushing side the other way round (csync/push*.c).
 */
#ifndef POLLUX_CSYNC_SYNC_OBJ_H
#define POLLUX_CSYNC_SYNC_OBJ_H

#include "csync/dlist.h"
#include "store/types.h"

struct sync_annot {
    const char *entry;
    const char *user; /* "": shared */
    modseq_t modseq;
    struct span value;
};

/* A message.  Thread id and its like are annotations with these entries; dates
 * and created_modseq, which travel so too, are fields of M. */
#define SYNC_NS "/vendor/cmu/cyrus-imapd/"
#define SYNC_THRID SYNC_NS "thrid"

struct sync_record {
    struct message m; /* FLAG_EXPUNGED: a tombstone */
    const struct sync_annot *annots;
    size_t nannots;
};

struct sync_mailbox {
    const char *uniqueid;
    const char *name;
    const char *type; /* "": mail */
    const char *partition;
    const char *acl;
    const char *quota_root; /* or NULL */
    uint32_t options;       /* MBOX_OPTIONS */
    uint32_t uidvalidity;
    uint32_t last_uid;
    uint32_t recent_uid;
    modseq_t highestmodseq;
    modseq_t created_modseq;
    uint64_t recent_time_s, last_append_s, pop3_login_s, pop3_show_after_s;
    uint32_t crc, crc_annot; /* 0: not to be compared */
    modseq_t purged_modseq;  /* of CHANGES: highest that went for good */
    modseq_t since_modseq;   /* 0: not a delta */
    uint32_t since_crc, since_crc_annot;
    const struct sync_annot *annots; /* of the mailbox, all of them */
    size_t nannots;
    struct sync_record *records; /* ascending by UID */
    size_t nrecords;
    size_t records_cap;
};

/* Bounds of one MAILBOX. */
#define SYNC_RECORDS_MAX 2000000U
#define SYNC_MAILBOX_BYTES (512U << 20) /* as structs */

/*
 * The keys of a MAILBOX but RECORD.  What is to live is copied into A.
 * ERR_SYNTAX: a key is missing or not what it should be (the text names it).
 * IS_HEAD_ONLY: the type is of a kind that has a name only ('i', 'd'), and only
 * uniqueid, name and type are set.
 */
MUST_CHECK enum errcode
sync_mailbox_read(const struct dlist *d, struct arena *a,
                  struct sync_mailbox *ret, bool *ret_is_head_only,
                  struct error *err);
/* One RECORD.  ERR_SYNTAX, ERR_LIMIT. */
MUST_CHECK enum errcode
sync_record_read(const struct dlist *d, struct arena *a,
                 struct sync_record *ret, struct error *err);
/* Put R behind the others: ERR_SYNTAX (UIDs do not ascend), ERR_LIMIT. */
MUST_CHECK enum errcode
sync_mailbox_add(struct sync_mailbox *mb, const struct sync_record *r,
                 struct arena *a, struct error *err);
/* All but the RECORDs, and one of them, copied into A. */
void
sync_mailbox_copy(const struct sync_mailbox *mb, struct arena *a,
                  struct sync_mailbox *ret);
void
sync_record_copy(const struct sync_record *r, struct arena *a,
                 struct sync_record *ret);
/* UID above LAST_UID, MODSEQ above HIGHESTMODSEQ, and what else cannot be.
 * NOW_S: seconds since 1970.  ERR_SYNTAX. */
MUST_CHECK enum errcode
sync_mailbox_check(const struct sync_mailbox *mb, uint64_t now_s,
                   struct error *err);

/*
 * Print "MAILBOX %(" and all keys; the caller goes on with RECORD, where there
 * are any, and ends with dlist_close() for each level.
 */
void
sync_mailbox_print(const struct sync_mailbox *mb, struct dlist_printer *p);
void
sync_record_print(const struct sync_record *r, struct dlist_printer *p);

/* CRC-32 parts of one record (0 for tombstones), and where to begin. */
#define SYNC_CRC_ANNOT_START 12345678U
uint32_t
sync_crc_basic(const struct message *m);
uint32_t
sync_crc_annots(const struct sync_record *r);
/* Equal, or one of them is not to be compared? */
static inline bool
sync_crc_fits(uint32_t a, uint32_t b)
{
    return a == b || a == 0 || b == 0;
}

/* What a user has seen in a mailbox that is not theirs. */
struct sync_seen {
    const char *user; /* NULL in META */
    const char *uniqueid;
    uint64_t last_read_s;
    uint32_t last_uid;
    uint64_t last_change_s;
    struct span uids; /* as text */
};
MUST_CHECK enum errcode
sync_seen_read(const struct dlist *d, struct arena *a, struct sync_seen *ret,
               struct error *err);
void
sync_seen_print(const struct sync_seen *s, struct dlist_printer *p);
/* As the value of a USER_SEEN_TEXT row: three varints, then the text. */
void
sync_seen_encode(const struct sync_seen *s, struct buf *out);
MUST_CHECK bool
sync_seen_decode(struct span value, struct sync_seen *ret);

/* OPTIONS: bits to letters in the order PSDA, and back. */
const char *
sync_options_text(uint32_t options, char ret[5]);
uint32_t
sync_options_bits(struct span text);

/* Where the annotation that a Cyrus keeps special use in is: of the owner. */
#define SYNC_SPECIALUSE "/specialuse"

#endif
