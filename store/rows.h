/*
 * store/rows.h - the rows of the state as bytes: which tables there are, how
 * their keys sort, what their values say (store/README.md has the table).
 *
 * Every change here is a change of the format on disk, of the digest and of
 * seeding: SCHEMA_VERSION goes up, golden bytes are in
 * tests/store/test_record.c.
 */
#ifndef POLLUX_STORE_ROWS_H
#define POLLUX_STORE_ROWS_H

#include "store/record.h"
#include "store/store.h"

#define SCHEMA_VERSION 4U

/* First byte of every key. */
enum table {
    TAB_MAILBOX = 'b', /* mbid -> head */
    TAB_MESSAGE = 'm', /* mbid, uid -> message */
    /* mbid, modseq, uid -> nothing, for what is as it was made; mbid, modseq,
     * block of UIDs -> those of it that a later record changed   derived */
    TAB_CHANGED = 'c',
    TAB_UNIQUEID = 'i', /* uniqueid -> mbid                        derived */
    TAB_NAME = 'n',     /* name -> mbid                            derived */
    TAB_RIGHTS = 'p',   /* identifier of an ACL, 0, mbid -> nothing derived */
    TAB_KEYWORD = 'k',  /* mbid, keyword -> nothing */
    TAB_GUIDREF = 'r',  /* guid, mbid, uid -> nothing              derived */
    TAB_QUOTA = 'q',    /* root -> limits and usage */
    TAB_USER = 'u',     /* user, 0, kind, name -> value */
    TAB_ANNOT = 'a',    /* mbid, uid, entry, 0, user -> value */
    TAB_SEEN = 's',     /* mbid, uid >> 16, user -> UIDs that USER has seen */
    TAB_DEDUP = 'd',    /* hash -> time, mbid, uid */
    TAB_EPOCH = 'e',    /* epoch -> where it began */
    TAB_DIGEST = 'h',   /* user -> digest over the user's rows     derived */
    TAB_VALIDITY = 'v', /* -> highest UIDVALIDITY given out */
    TAB_BODY = 'g',     /* guid, part -> where it lies             local */
    TAB_LOCAL = 'L',    /* what is this instance's own             local */
    TAB_BLOCK = 't',    /* mbid, block -> in KV_CACHE only (store/derived.c) */
};

/* Rows of TAB_LOCAL, by the second byte of the key. */
enum local_row {
    LOCAL_APPLIED = 'a', /* how far the state is: struct store_pos */
    LOCAL_START = 's',   /* where the log begins after seeding: the same */
    LOCAL_SCHEMA = 'v',  /* u32le SCHEMA_VERSION */
    LOCAL_CLUSTER = 'c', /* 16 bytes */
    LOCAL_BODIES = 'b',  /* u64le LSN: first record whose body is in the log */
    LOCAL_SEEDING = 'S', /* there: the state is incomplete */
    LOCAL_DAMAGE = 'D',  /* and what names it: an entry of store/damage.h */
    LOCAL_SCRUB = 'k',   /* how far the scrubber is: store/scrub.h */
    /* Families of rows; their keys go on (store/local.h). */
    LOCAL_DIR = 'd',   /* a directory of packs */
    LOCAL_PACK = 'p',  /* a pack */
    LOCAL_DEAD = 'x',  /* a body that may be garbage */
    LOCAL_PARTS = 'y', /* a body whose message may still come */
    LOCAL_SWEEP = 'w', /* when all bodies were last walked */
    /* What was purged and is kept (store/history.h). */
    LOCAL_HISTORY = 'h',      /* record, mailbox, UID -> struct history */
    LOCAL_HISTORY_BODY = 'H', /* GUID, then as above -> nothing */
    LOCAL_HISTORY_SUM = 'T',  /* how many there are: varints rows, bytes */
    LOCAL_HISTORY_OLD = 'o',  /* of the state before a seed that comes */
};

#define KEY_MAX 1024U

/* A key being made. */
struct key {
    size_t n;
    uint8_t b[KEY_MAX];
};

static inline struct span
key_span(const struct key *k)
{
    return (struct span){k->b, k->n};
}

/* Each fills *K and returns it as a span.  Text longer than its bound is our
 * own mistake: transactions and records were checked before. */
struct span
key_mailbox(struct key *k, mbid_t id);
struct span
key_message(struct key *k, mbid_t id, uint32_t uid);
struct span
key_block(struct key *k, mbid_t id, uint32_t block);
struct span
key_changed(struct key *k, mbid_t id, modseq_t modseq, uint32_t uid);
/* UIDs of one block share a row; BLOCK: uid >> CHANGED_BLOCK_BITS. */
#define CHANGED_BLOCK_BITS 12U
struct span
key_changed_set(struct key *k, mbid_t id, modseq_t modseq, uint32_t block);
/* Has M a row of TAB_CHANGED of its own, or does it share one? */
static inline bool
message_is_as_made(const struct message *m)
{
    return m->modseq == m->created_modseq;
}
struct span
key_keyword(struct key *k, mbid_t id, struct span keyword);
struct span
key_guidref(struct key *k, const struct guid *guid, mbid_t id, uint32_t uid);
/* IDENT: at most USER_MAX bytes. */
struct span
key_rights(struct key *k, struct span ident, mbid_t id);
/* The same without the mbid: the prefix of all rows of one identifier. */
struct span
key_rights_of(struct key *k, struct span ident);
struct span
key_user(struct key *k, const char *user, uint8_t kind, const char *name);
struct span
key_annot(struct key *k, mbid_t id, uint32_t uid, const char *entry,
          const char *user);
/* Prefix of all annotations of a message (UID 0: of the mailbox). */
struct span
key_annots_of(struct key *k, mbid_t id, uint32_t uid);
/* The parts of a key of TAB_ANNOT; false if it is none. */
MUST_CHECK bool
key_get_annot(struct span key, uint32_t *ret_uid, struct span *ret_entry,
              struct span *ret_user);

/* UIDs of one chunk share a row of TAB_SEEN. */
#define SEEN_CHUNK_BITS 16U
struct span
key_seen(struct key *k, mbid_t id, uint32_t chunk, struct span user);
/* The parts of a key of TAB_SEEN; false if it is none. */
MUST_CHECK bool
key_get_seen(struct span key, uint32_t *ret_chunk, struct span *ret_user);
struct span
key_body(struct key *k, const struct guid *guid, uint32_t part);
struct span
key_local(struct key *k, enum local_row row);
/* TABLE and text: TAB_NAME, TAB_UNIQUEID, TAB_QUOTA, TAB_DIGEST; also dedup. */
struct span
key_text(struct key *k, enum table table, struct span text);
struct span
key_epoch(struct key *k, epoch_t epoch);
/* TABLE and mbid: the prefix of all rows of one mailbox. */
struct span
key_of_mailbox(struct key *k, enum table table, mbid_t id);
struct span
key_table(struct key *k, enum table table);

/* UID and MODSEQ out of keys; 0 if the key is not of that shape. */
uint32_t
key_get_uid(struct span key);
mbid_t
key_get_mbid(struct span key);

/*
 * Values.  Encoders append to OUT, decoders leave what they allocate in A and
 * answer ERR_CORRUPT.  The id of a mailbox and the UID of a message are in the
 * key and filled in by the caller.
 */
void
mailbox_encode(const struct mailbox *mb, struct buf *out);
MUST_CHECK enum errcode
mailbox_decode(struct span in, struct arena *a, struct mailbox *ret,
               struct error *err);
void
message_encode(const struct message *m, struct buf *out);
MUST_CHECK enum errcode
message_decode(struct span in, struct arena *a, struct message *ret,
               struct error *err);
/* The same off the front of R, which goes bad if it is not one. */
void
message_read(struct rd *r, struct arena *a, struct message *ret);
/* The UIDs of a row of TAB_CHANGED that is shared, replacing *RET. */
MUST_CHECK enum errcode
changed_decode(struct span in, struct uidset *ret, struct error *err);
/* The MODSEQ and UIDs of a whole row of TAB_CHANGED, of either kind. */
MUST_CHECK enum errcode
changed_row_decode(struct span key, struct span value, modseq_t *ret_modseq,
                   struct uidset *ret, struct error *err);
void
epoch_encode(const struct epoch_entry *e, struct buf *out);
void
epoch_read(struct rd *r, struct epoch_entry *ret);
void
quota_encode(const struct quota *q, struct buf *out);
MUST_CHECK enum errcode
quota_decode(struct span in, struct quota *ret, struct error *err);
void
pos_encode(const struct store_pos *pos, struct buf *out);
MUST_CHECK enum errcode
pos_decode(struct span in, struct store_pos *ret, struct error *err);
void
buf_add_zigzag(struct buf *b, int64_t v);
int64_t
rd_zigzag(struct rd *r);
/* A blob without NUL, as a C string in A; bad if longer than MAX. */
const char *
rd_text(struct rd *r, size_t max, struct arena *a);
/* N sorted keywords within the bounds; bad otherwise. */
const struct span *
rd_keywords(struct rd *r, struct arena *a, size_t *ret_n);
void
buf_add_keywords(struct buf *b, const struct span *keywords, size_t n);

/* ---- digests ---------------------------------------------------------- */

/* What a row adds to its owner's digest (exclusive or). */
uint64_t
row_hash(struct span key, struct span value);
/* What a user's digest adds to the root; 0 adds nothing. */
uint64_t
owner_hash(const char *owner, uint64_t digest);
/* Whose digest a mailbox or quota root of this name belongs to; "" for what
 * belongs to nobody.  Lives in A or for ever. */
const char *
row_owner_of_name(const char *name, struct arena *a);
/* Lies NAME below "DELETED."? */
bool
name_is_deleted(const char *name);

/* Rows that are sent to a replica being seeded; the others are derived from
 * them or local. */
bool
table_is_replicated(uint8_t table);

#endif
