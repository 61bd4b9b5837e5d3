/*
 * store/txn.h - asking for mutations.
 *
 * A session builds a transaction (nothing is checked yet), submits it, and is
 * told when it is durable and visible, or why not.  The writer checks
 * preconditions, gives out UIDs, and writes records.  A transaction is applied
 * whole or not at all, except operations marked INDEPENDENT, which may fail
 * alone (one recipient of many).
 *
 * A transaction of one operation over very many messages (flags, expunge, purge
 * of a mailbox, copy ...) runs in several commit groups, so that others get
 * their turn; after a crash, or if the store refuses the rest, the first ones
 * are done.  A copy that fails so expunges what it has made.
 *
 * Rights are the session's business.  Names are internal names.
 */
#ifndef POLLUX_STORE_TXN_H
#define POLLUX_STORE_TXN_H

#include "store/body.h"
#include "store/store.h"

struct store_txn;

struct store_txn *
txn_new(void);
void
txn_free(struct store_txn **txn);

/* Every adder returns the operation's index, for txn_result(). */

struct txn_mailbox {
    const char *name;
    const char *acl; /* NULL: of the parent, else "OWNER TAB all TAB" for a
                        user's mailbox, else `default_acl` */
    const char *default_acl;
    const char *special_use; /* NULL: none */
    const char *partition;
    const char *quota_root_limit; /* reserved: NULL */
    bool exist_ok;                /* one of that name is success (autocreate) */
    bool check_quota; /* ERR_QUOTA if its root has all its folders */
    uint32_t options; /* MBOX_* */
    /* Of a peer; NULL and 0: made here.  ERR_CONFLICT: there is one with that
     * UNIQUEID.  It is MBOX_PARTIAL with HIGHESTMODSEQ 0 until txn_head(). */
    const char *uniqueid;
    uint32_t uidvalidity;
};
/* ERR_EXISTS, ERR_BADNAME, ERR_LIMIT, ERR_QUOTA.  Parents are not made. */
size_t
txn_create(struct store_txn *txn, const struct txn_mailbox *mb);

/* To DELETED.NAME.HEXSECONDS (delayed), or for good.  ERR_NOTFOUND. */
size_t
txn_delete(struct store_txn *txn, mbid_t id, bool delayed, uint64_t now_s);
/* The same with all below it; delayed: in one record. */
size_t
txn_delete_tree(struct store_txn *txn, mbid_t id, bool delayed, uint64_t now_s);
/*
 * This mailbox and, if TREE, all below it, in one record.  From a name below
 * DELETED. it is an undelete.  Quotas are charged, and never refuse it.
 * ERR_NOTFOUND, ERR_EXISTS (any new name is taken), ERR_BADNAME, ERR_LIMIT.
 */
size_t
txn_rename(struct store_txn *txn, mbid_t id, const char *new_name, bool tree);
/* This one alone, as a peer says; UIDVALIDITY 0: as it is. */
size_t
txn_rename_given(struct store_txn *txn, mbid_t id, const char *new_name,
                 uint32_t uidvalidity);
/*
 * The user FROM with all mailboxes, subscriptions, scripts, quotas, seen state,
 * private annotations and entries in the ACLs of own mailboxes becomes TO, in
 * one record.  Deleted mailboxes stay FROM's.  ERR_NOTFOUND (FROM has no
 * INBOX), ERR_EXISTS (TO has one, or another of the names is taken),
 * ERR_BADNAME, ERR_LIMIT.
 */
size_t
txn_rename_user(struct store_txn *txn, const char *from, const char *to);
/* Subscriptions, scripts, seen state and private annotations of a user go for
 * good; mailboxes stay.  No error if there is nothing. */
size_t
txn_user_remove_all(struct store_txn *txn, const char *user);
/* ACL or special use as a whole; compare-and-set: ERR_CONFLICT if the ACL is
 * not EXPECTED any more (NULL: no check). */
size_t
txn_set_acl(struct store_txn *txn, mbid_t id, const char *acl,
            const char *expected);
size_t
txn_set_special_use(struct store_txn *txn, mbid_t id, const char *uses);
/* The bits of MASK become those of OPTIONS (MBOX_*).  ERR_NOTFOUND, ERR_LIMIT
 * (a bit that is none). */
size_t
txn_set_options(struct store_txn *txn, mbid_t id, uint32_t mask,
                uint32_t options);
/* Where bodies of new messages go when they leave the log; TREE: all below it
 * too.  ERR_NOTFOUND, ERR_LIMIT. */
size_t
txn_set_partition(struct store_txn *txn, mbid_t id, const char *partition,
                  bool tree);
/* UIDs do not mean any more what they meant.  ERR_NOTFOUND, ERR_CONFLICT (not
 * above all that were ever given out here). */
size_t
txn_set_uidvalidity(struct store_txn *txn, mbid_t id, uint32_t uidvalidity);
/* HIGHESTMODSEQ grows: something of the mailbox changes for clients that has no
 * MODSEQ of its own (RFC 7162, 3.2).  ERR_NOTFOUND. */
size_t
txn_raise_modseq(struct store_txn *txn, mbid_t id);
/* Messages up to UID are not recent any more; never lowers. */
size_t
txn_set_recent(struct store_txn *txn, mbid_t id, uint32_t uid);

/* An annotation of a message to be. */
struct txn_append_annot {
    const char *entry;
    const char *user; /* "": shared */
    struct span value;
};

struct txn_append {
    mbid_t id;
    struct body *body; /* finished; the transaction takes a reference */
    uint32_t flags;
    const struct span *keywords; /* any order; copied */
    size_t nkeywords;
    int64_t internal_s;
    int16_t internal_tz_min;
    struct span cache;  /* derived record, or empty; copied */
    bool cache_is_late; /* txn_bring_cache() may follow; CACHE is empty */
    const struct txn_append_annot *annots; /* copied */
    size_t nannots;   /* ERR_LIMIT: too many or too large */
    bool check_quota; /* ERR_QUOTA if it does not fit */
    bool independent;
    /* LMTP: answer ERR_EXISTS, and store nothing, if this was delivered
     * before.  All zero: no dedup. */
    uint8_t dedup[16];
    /* From a peer, copied: the row as it is to be, with UID, MODSEQ and flags
     * (FLAG_EXPUNGED too); flags, keywords and dates above are not looked at.
     * BODY may be NULL where the store has one of that GUID, or one
     * was staged: ERR_AGAIN if that is not so any more.  ERR_CONFLICT: the UID
     * is below UIDNEXT. */
    const struct message *given;
};
/* ERR_NOTFOUND (no such mailbox), ERR_QUOTA, ERR_LIMIT, ERR_EXISTS (dedup). */
size_t
txn_append(struct store_txn *txn, const struct txn_append *msg);

enum txn_flag_mode { FLAGS_REPLACE, FLAGS_ADD, FLAGS_REMOVE };

struct txn_flags {
    mbid_t id;
    const struct uidset *uids; /* those not there are passed over; copied */
    enum txn_flag_mode mode;
    uint32_t flags; /* within FLAGS_SETTABLE */
    const struct span *keywords;
    size_t nkeywords;
    uint32_t keep; /* flags that REPLACE must not touch (missing rights) */
    modseq_t unchanged_since; /* 0: no check; else messages changed since are
                                 left alone and named in the result */
    bool has_unchanged_since;
};
size_t
txn_flags(struct store_txn *txn, const struct txn_flags *op);
/* UIDs of the set that have \Deleted (or all of it if !ONLY_DELETED). */
size_t
txn_expunge(struct store_txn *txn, mbid_t id, const struct uidset *uids,
            bool only_deleted);
/*
 * Messages of tombstones of the set come back under new UIDs, with flags (less
 * \Deleted if CLEAR_DELETED), keywords, annotations and INTERNALDATE; result:
 * `from`, `uids`.  Those that came back before are passed over.  Quota is
 * charged, and never refuses it.  ERR_NOTFOUND, ERR_LIMIT.
 */
size_t
txn_unexpunge(struct store_txn *txn, mbid_t id, const struct uidset *uids,
              bool clear_deleted);
/* Tombstones of the set go for good; an empty set: the mailbox with all that is
 * in it.  ERR_NOTFOUND. */
size_t
txn_purge(struct store_txn *txn, mbid_t id, const struct uidset *uids);
/*
 * With flags, annotations and derived records.  MOVE expunges the sources in
 * the same commit group.  ERR_NOTFOUND (a mailbox), ERR_QUOTA.
 */
size_t
txn_copy(struct store_txn *txn, mbid_t from, const struct uidset *uids,
         mbid_t to, bool move, bool check_quota);
/* Of the copies that operation OP of TXN makes: they have of the flags only
 * those in FLAGS, and keywords only if KEYWORDS (missing rights). */
void
txn_copy_flags(struct store_txn *txn, size_t op, uint32_t flags, bool keywords);
/* Of the copies that operation OP of TXN makes: only the private annotations of
 * USER go with them, and the shared ones only if SHARED (RFC 5257, 4.6).
 * Without it all do. */
void
txn_copy_annots(struct store_txn *txn, size_t op, const char *user,
                bool shared);
/* VALUE NULL removes. */
size_t
txn_user(struct store_txn *txn, const char *user, uint8_t kind,
         const char *name, const struct span *value);
/* Limits (QUOTA_UNLIMITED) of a root, which must be a mailbox; mailboxes below
 * get it as theirs.  NULL: it ends, and they fall to the next root above.
 * ERR_NOTFOUND, ERR_BADNAME. */
size_t
txn_quota(struct store_txn *txn, const char *root,
          const uint64_t limit[QUOTA_RESOURCES]);

struct txn_annot {
    mbid_t id;                 /* 0: the server */
    const struct uidset *uids; /* NULL: the mailbox; copied */
    const char *entry;
    const char *user;         /* "": shared */
    const struct span *value; /* NULL removes */
    bool check_quota;
    modseq_t unchanged_since; /* as for txn_flags() */
    bool has_unchanged_since;
    bool keep_modseq; /* from a peer: its messages, tombstones too, and the
                         mailbox's HIGHESTMODSEQ do not change by it */
};
/* Result: `uids` whose annotation changed, `refused`.  ERR_NOTFOUND (mailbox),
 * ERR_QUOTA, ERR_LIMIT (entry, value or their number). */
size_t
txn_annotate(struct store_txn *txn, const struct txn_annot *op);
/* \Seen of USER: where it is not kept apart (mailbox_has_own_seen()) the flag
 * of the messages.  ERR_NOTFOUND, ERR_LIMIT. */
size_t
txn_seen(struct store_txn *txn, mbid_t id, const char *user,
         const struct uidset *uids, bool seen);
/* USER has seen just UIDS, says a peer: MODSEQs stay.  Nothing where \Seen is
 * not kept apart.  ERR_NOTFOUND, ERR_LIMIT. */
size_t
txn_seen_given(struct store_txn *txn, mbid_t id, const char *user,
               const struct uidset *uids);
/*
 * What a peer says, for mailboxes that it replicates into us; see struct
 * rec_rows and rec_head.  A transaction that begins with txn_expect() changes
 * nothing (ERR_CONFLICT) if the mailbox is not any more what MB was read from
 * with snap_mailbox_row().
 */
size_t
txn_expect(struct store_txn *txn, const struct mailbox *mb);
/*
 * The body goes into the log ahead of the messages that will have it
 * (REC_BODY), unless it is there: txn_append() with GIVEN may name it for
 * STAGED_S from then.  One that no message names goes by itself, days later. Of
 * large ones (body_part_count() above 1) only one in a transaction, alone:
 * ERR_LIMIT.
 */
#define STAGED_S (12U * 3600)
size_t
txn_stage(struct store_txn *txn, struct body *body);
/* N rows, ascending by UID; those not there, or of another GUID while both
 * live, are ERR_CONFLICT; those that are so already cost nothing.  Copied. */
size_t
txn_rows(struct store_txn *txn, mbid_t id, const struct message *rows,
         size_t n);
/* uidvalidity, uidnext, highestmodseq, created_modseq, purged_modseq,
 * recent_uid, options (MBOX_KNOWN) and times of MB->id become those of MB.
 * ERR_CONFLICT: UIDNEXT would fall. */
size_t
txn_head(struct store_txn *txn, const struct mailbox *mb);
/* Marks of deliveries (snap_each_delivery()) go; unknown ones are passed over.
 */
size_t
txn_forget_deliveries(struct store_txn *txn, const uint8_t (*hashes)[16],
                      size_t n);

/*
 * Hand it to the writer.  DONE runs in a thread of the store (with no_threads:
 * in store_step()) once it is durable and visible or refused; it then belongs
 * to DONE, which frees it.  Codes of the whole: ERR_FENCED, ERR_READONLY,
 * ERR_NOSPACE (temporary), ERR_TIMEOUT (sync_ack: too few replicas answer; it
 * may be durable here and appear later), ERR_CLOSED, ERR_IO (the instance
 * stops), or the code of the operation that failed.
 */
typedef void
txn_done(void *ctx, struct store_txn *txn);
void
store_submit(struct store *store, struct store_txn *txn, txn_done *done,
             void *ctx);
/* The same, waiting.  For tools and tests; never from a reactor. */
enum errcode
store_commit(struct store *store, struct store_txn *txn, struct error *err);

/* What came of it, after DONE or store_commit(). */
enum errcode
txn_code(const struct store_txn *txn);
const struct error *
txn_error(const struct store_txn *txn);
/* LSN of its last record; LSN_NONE if nothing had to be written. */
lsn_t
txn_lsn(const struct store_txn *txn);

struct txn_result {
    enum errcode code;
    mbid_t id;                /* create: the mailbox */
    struct uniqueid uniqueid; /* create: of the mailbox */
    uint32_t uidvalidity;     /* of the (target) mailbox */
    struct uidset from;       /* copy: source UIDs in order */
    struct uidset uids;       /* append, copy: UIDs given; flags: changed;
                                 expunge: gone */
    struct uidset refused;    /* flags: changed since (MODIFIED) */
    modseq_t modseq;
};
/*
 * After store_submit(), before what it calls at the end has freed TXN: RECORD
 * is the derived record of the message of append OP (cache_is_late).  So it is
 * made while the disk is at work.  RECORD lives until TXN is answered.  Once
 * at most.  False: that was too late, or the message was refused;
 * store_cache_put() puts one that is left.
 */
bool
txn_bring_cache(struct store_txn *txn, size_t op, struct span record);
const struct txn_result *
txn_result(const struct store_txn *txn, size_t op);

#endif
