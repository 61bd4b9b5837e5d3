/*
 * store/state.h - the state as the writer sees it: what is in the key-value
 * store, with what the group under way has changed on top.
 *
 * One thread at a time (the writer; recovery before it starts).  Heads, quota
 * rows and user digests that a group touches are kept decoded and become rows
 * when a frame is complete, so many messages to one mailbox cost one head.
 * A transaction that fails half way is taken back by its savepoint.
 */
#ifndef POLLUX_STORE_STATE_H
#define POLLUX_STORE_STATE_H

#include "store/body.h"
#include "store/rows.h"

/* A mailbox head being worked on. */
struct head {
    struct mailbox mb;
    bool exists;       /* false: purged, or its creation was taken back */
    bool dirty;        /* differs from the row since the last state_settle() */
    bool changed;      /* in this group: whoever watches is told */
    bool in_undo;      /* the savepoint has a copy */
    uint64_t row_hash; /* of the row as settled; 0: there is none */
    const char *row_owner; /* to whose digest it went */
    struct uidset touched; /* UIDs with a row in the batch */
    struct head *next;     /* in its bucket */
    struct head *all;      /* in the list of all */
};

struct quota_head {
    const char *root;
    struct quota q;
    bool exists, dirty, in_undo;
    uint64_t row_hash;
    struct quota_head *next; /* in its bucket */
    struct quota_head *all;  /* in the list of all */
};

struct owner {
    const char *name;
    uint64_t digest;
    uint64_t settled;   /* as the row has it */
    struct owner *next; /* in its bucket */
    struct owner *all;  /* in the list of all */
};

/* Rows that a walk has left for who comes after it (store/state_rows.c). */
struct read_rows {
    mbid_t id; /* 0: none */
    struct read_row {
        struct message m;
        uint64_t hash; /* of the row */
        bool gone;     /* it has changed since */
    } * r;
    size_t n;
    size_t at;      /* the last one that was found */
    struct arena a; /* their keywords */
};

/* Messages that come into a row of TAB_CHANGED, and that leave it. */
struct changed_set {
    mbid_t id;
    modseq_t modseq;
    uint32_t block;
    struct uidset come, gone;
};

#define HEAD_BUCKETS 256U

struct undo;
struct newref; /* a message of this group, by GUID */
struct newkey; /* a row of this group that walks have to find */

/* What a savepoint keeps beside rows. */
struct state_vars {
    uint32_t validity;
    size_t nepochs;
    bool list_changed; /* the mailbox list, subscriptions or annotations of the
                          server, in this group */
    bool has_bodies;   /* LOCAL_BODIES is there */
};

struct state {
    struct kv *kv;
    struct kv_batch *batch;
    struct arena arena;   /* lives for a group */
    struct arena scratch; /* lives for an operation or a record */
    struct head *heads[HEAD_BUCKETS];
    struct head *all_heads;
    struct quota_head *quotas[HEAD_BUCKETS];
    struct quota_head *all_quotas;
    struct owner *owners[HEAD_BUCKETS];
    struct owner *all_owners;
    struct newref *newrefs[HEAD_BUCKETS];
    struct newkey *newkeys[HEAD_BUCKETS];
    uint64_t root; /* digest as of the last state_settle() */
    struct state_vars v;
    struct state_vars saved;
    struct epoch_entry *epochs;
    size_t epochs_cap;
    bool undoing; /* a savepoint is set */
    struct undo *undo;
    struct buf value_scratch;
    struct key absent; /* n 0: none; see state_note_absent() */
    struct read_rows rows;
    struct changed_set changed[64]; /* by the record under way */
    size_t nchanged;
    unsigned mutants;
    bool keeps_history; /* what is purged leaves a row (store/history.h) */
};

/* Take counters and digests from what KV holds; ERR_CORRUPT if the digests of
 * the users do not give ROOT. */
MUST_CHECK enum errcode
state_init(struct state *st, struct kv *kv, uint64_t root, struct error *err);
void
state_free(struct state *st);
/* The batch has been written (or is to be forgotten): an empty overlay. */
void
state_clear(struct state *st);
/* Forget the group: also take back what is kept outside of rows. */
MUST_CHECK enum errcode
state_discard(struct state *st, uint64_t root, struct error *err);

/* From here on changes can be taken back; ends the savepoint before. */
void
state_mark(struct state *st);
void
state_rollback(struct state *st);

/* ---- reading through the overlay ------------------------------------- */

/*
 * What state_get() said of KEY, that there is no such row, holds until the
 * group ends or a batch puts one: the key-value store is not asked again.  Only
 * for rows that nobody but the batch writes.  Of the last key only.
 */
void
state_note_absent(struct state *st, struct span key);

/* ERR_NOTFOUND; the value lives in the arena A. */
MUST_CHECK enum errcode
state_get(struct state *st, struct span key, struct arena *a, struct span *ret,
          struct error *err);
/* *RET NULL: no such mailbox. */
MUST_CHECK enum errcode
state_head(struct state *st, mbid_t id, struct head **ret, struct error *err);
/* 0: none of that name. */
MUST_CHECK enum errcode
state_lookup(struct state *st, const char *name, mbid_t *ret,
             struct error *err);
/* *RET NULL: no quota there. */
MUST_CHECK enum errcode
state_quota(struct state *st, const char *root, struct quota_head **ret,
            struct error *err);
/* The root that a mailbox of this name has or would get; "": none.  ABOVE: a
 * mailbox above NAME whose root is known, or NULL. */
MUST_CHECK enum errcode
state_quota_root(struct state *st, const char *name, const struct head *above,
                 const char **ret, struct error *err);
/* ERR_NOTFOUND; keywords live in A. */
MUST_CHECK enum errcode
state_message(struct state *st, mbid_t id, uint32_t uid, struct arena *a,
              struct message *ret, struct error *err);
/* Does any message have this body?  That, and not the local table of bodies,
 * says whether a replica has it too.  False too where the body is not in that
 * table: then it is needed again here. */
MUST_CHECK enum errcode
state_has_ref(struct state *st, const struct guid *guid, bool *ret,
              struct error *err);
/* Keys that begin with PREFIX, sorted, in A: for rare walks. */
MUST_CHECK enum errcode
state_keys(struct state *st, struct span prefix, struct arena *a,
           struct span **ret, size_t *ret_n, struct error *err);

/* The same, of keys for which PICK says true (PREFIX may be a whole table). */
MUST_CHECK enum errcode
state_keys_where(struct state *st, struct span prefix,
                 bool (*pick)(const void *ctx, struct span key),
                 const void *ctx, struct arena *a, struct span **ret,
                 size_t *ret_n, struct error *err);
/* The same without a look at the whole batch, where all rows of PREFIX were put
 * with state_put_head_row() and its length. */
MUST_CHECK enum errcode
state_keys_near(struct state *st, struct span prefix, struct arena *a,
                struct span **ret, size_t *ret_n, struct error *err);

/* Rows of a mailbox in UID order, tombstones too. */
struct state_iter {
    struct state *st;
    struct head *head;
    struct kv_iter *kv;
    bool kv_valid;
    uint32_t kv_uid;
    struct span kv_value;
    uint32_t next; /* the least UID to come */
    bool leaves_rows;
};

void
state_iter_open(struct state *st, struct head *head, struct state_iter *ret);
/* What IT reads is kept for the walks after it, until a savepoint begins or
 * ends. */
void
state_iter_leave_rows(struct state_iter *it);
/* The next row with a UID >= FROM; false at the end or on an error.  Keywords
 * live in A, or until a savepoint begins or ends. */
MUST_CHECK bool
state_iter_next(struct state_iter *it, uint32_t from, struct arena *a,
                struct message *ret, enum errcode *rc, struct error *err);
/* RC, what state_iter_next() said, or why the walk ended early. */
MUST_CHECK enum errcode
state_iter_close(struct state_iter *it, enum errcode rc, struct error *err);

/* ---- changing --------------------------------------------------------- */

/* Any row that is in no digest. */
void
state_put(struct state *st, struct span key, struct span value);
void
state_delete(struct state *st, struct span key);
/* A row of OWNER's digest. */
MUST_CHECK enum errcode
state_put_row(struct state *st, const char *owner, struct span key,
              struct span value, struct error *err);
MUST_CHECK enum errcode
state_delete_row(struct state *st, const char *owner, struct span key,
                 struct error *err);
/* A row of HEAD's digest (VALUE NULL: it goes), which state_keys_near() finds
 * by its first PREFIX_N bytes. */
MUST_CHECK enum errcode
state_put_head_row(struct state *st, struct head *head, struct span key,
                   size_t prefix_n, const struct span *value,
                   struct error *err);
/* HEAD is about to change (or to vanish). */
void
state_touch_head(struct state *st, struct head *head);
void
state_touch_quota(struct state *st, struct quota_head *q);
/* A head for a mailbox that is being created, touched. */
struct head *
state_new_head(struct state *st, mbid_t id);
MUST_CHECK enum errcode
state_new_quota(struct state *st, const char *root, struct quota_head **ret,
                struct error *err);
/* A message's row, its index rows and its mailbox's counters and digest: OLD
 * (NULL: there was none) becomes NEW (NULL: it goes). */
MUST_CHECK enum errcode
state_change_message(struct state *st, struct head *head,
                     const struct message *old, const struct message *new_row,
                     struct error *err);
/* The rows of TAB_CHANGED that state_change_message() has changed: when a
 * record is done.  ERR_CORRUPT. */
MUST_CHECK enum errcode
state_settle_changed(struct state *st, struct error *err);
/* Set (VALUE NULL: remove) an annotation of a mailbox (UID 0) or a message;
 * COUNTS: its bytes count, as those on tombstones do not. */
MUST_CHECK enum errcode
state_put_annot(struct state *st, struct head *head, uint32_t uid,
                const char *entry, const char *user, const struct span *value,
                bool counts, struct error *err);
/* All annotations of a message (UID 0: of the mailbox) go; who counts their
 * bytes is the caller's business. */
MUST_CHECK enum errcode
state_drop_annots(struct state *st, struct head *head, uint32_t uid,
                  struct error *err);
/* Bytes of the values on one message, or (UID 0) of the mailbox. */
MUST_CHECK enum errcode
state_annot_bytes(struct state *st, struct head *head, uint32_t uid,
                  uint64_t *ret, struct error *err);
/* UIDs of CHUNK that USER has seen, replacing *RET. */
MUST_CHECK enum errcode
state_seen(struct state *st, struct head *head, uint32_t chunk,
           struct span user, struct uidset *ret, struct error *err);
/* USER has, or (SEEN false) has not, seen UIDS. */
MUST_CHECK enum errcode
state_put_seen(struct state *st, struct head *head, struct span user,
               const struct uidset *uids, bool seen, struct error *err);
/* UIDS are gone for good: nobody has seen them. */
MUST_CHECK enum errcode
state_forget_seen(struct state *st, struct head *head,
                  const struct uidset *uids, struct error *err);
/* All that HEAD counts for its quota root, out of it or (SIGN 1) into it. */
MUST_CHECK enum errcode
state_charge_quota(struct state *st, struct head *head, int sign,
                   struct error *err);
/*
 * Around a change of the quota at ROOT: state_unroot() takes all mailboxes at
 * and below ROOT out of their roots, state_reroot() gives each the nearest
 * there is now.
 */
struct rooted_set {
    struct head **heads;
    size_t n;
};
MUST_CHECK enum errcode
state_unroot(struct state *st, const char *root, struct arena *a,
             struct rooted_set *ret, struct error *err);
MUST_CHECK enum errcode
state_reroot(struct state *st, const struct rooted_set *set, struct error *err);
MUST_CHECK enum errcode
state_add_epoch(struct state *st, const struct epoch_entry *entry,
                struct error *err);
MUST_CHECK enum errcode
state_raise_validity(struct state *st, uint32_t validity, struct error *err);

/* A frame is complete: heads, quotas and digests become rows; *RET_ROOT is the
 * digest of all. */
MUST_CHECK enum errcode
state_settle(struct state *st, uint64_t *ret_root, struct error *err);

/* ---- apply ------------------------------------------------------------ */

/* Where a record's body lies, for the bodies in it. */
struct apply_place {
    uint64_t segment;
    uint64_t payload_offset; /* of the frame's payload */
    uint64_t time_us;        /* the frame's */
};

/*
 * What a record does to the state: the same on the master, in recovery and on
 * a replica.  Reads REC and ST, nothing else.  ERR_CORRUPT (it does not decode,
 * or speaks of what is not there), ERR_VERSION, ERR_IO.
 */
MUST_CHECK enum errcode
store_apply(struct state *st, const struct record *rec,
            const struct apply_place *place, struct error *err);
/* All records of a frame, then state_settle(). */
MUST_CHECK enum errcode
store_apply_frame(struct state *st, const struct frame_head *h,
                  struct span payload, const struct apply_place *place,
                  uint64_t *ret_root, struct error *err);

#endif
