/*
 * store/txn_private.h - a transaction from the inside: what the writer works
 * on, and the queue it waits in.
 */
#ifndef POLLUX_STORE_TXN_PRIVATE_H
#define POLLUX_STORE_TXN_PRIVATE_H

#include "store/txn.h"

/* A derived record that comes behind its append (txn_bring_cache()). */
enum late_state {
    LATE_NONE,
    LATE_BROUGHT, /* the writer may take it */
    LATE_OVER,    /* it has been put, or comes too late */
};

enum op_kind {
    OP_CREATE,
    OP_DELETE,
    OP_RENAME,
    OP_SET_ACL,
    OP_SET_SPECIAL_USE,
    OP_SET_RECENT,
    OP_RAISE_MODSEQ,
    OP_APPEND,
    OP_FLAGS,
    OP_EXPUNGE,
    OP_COPY,
    OP_USER,
    OP_QUOTA,
    OP_PURGE,
    OP_SET_OPTIONS,
    OP_SET_PARTITION,
    OP_SET_UIDVALIDITY,
    OP_RENAME_USER,
    OP_USER_REMOVE_ALL,
    OP_ANNOTATE,
    OP_SEEN,
    OP_UNEXPUNGE,
    OP_FORGET,
    OP_EXPECT,
    OP_STAGE,
    OP_ROWS,
    OP_HEAD,
    OP_SEEN_AS_GIVEN,
    OP_EPOCH, /* store_begin_epoch() */
};

/* Strings and keywords live in the transaction's arena. */
struct op {
    enum op_kind kind;
    bool independent;
    mbid_t id;
    struct txn_result res; /* of this turn; at the end, of all */
    /* An operation over many messages has several turns: where this one starts
     * (a UID, or what the operation counts; 0 in the first), where the next one
     * will (0: none), and what those that are durable have done. */
    uint32_t at;
    uint32_t next;
    struct txn_result kept;
    union {
        struct txn_mailbox create;
        struct {
            bool delayed;
            bool tree;
            uint64_t now_s;
            mbid_t *ids; /* those that go, from the second turn on */
            size_t n;
        } del;
        struct {
            const char *name;
            bool tree;
            uint32_t uidvalidity; /* 0: as it is */
        } rename;
        struct {
            const char *value;
            const char *expected;
        } set;
        uint32_t recent_uid;
        struct {
            struct txn_append msg; /* body: our reference, or NULL */
            const struct message *given;
            bool ahead; /* the body goes before, in parts */
            uint32_t parts_done;
            struct span late; /* behind late_state LATE_BROUGHT */
            _Atomic unsigned late_state;
        } append;
        struct {
            struct txn_flags op;
            struct uidset uids;
        } flags;
        struct {
            struct uidset uids;
            bool only_deleted;
        } expunge; /* also purge */
        struct {
            struct uidset uids;
            bool clear_deleted;
            uint32_t end; /* as for copy */
        } unexpunge;
        struct {
            const char *from;
            const char *to;
        } rename_user; /* also user_remove_all: `to` is "" */
        struct {
            uint32_t mask;
            uint32_t options;
            const char *partition;
            bool tree;
            uint32_t uidvalidity;
        } head;
        struct {
            struct txn_annot op; /* uids, value: as below */
            struct uidset uids;
            bool on_messages;
            bool is_set;
            struct span value;
        } annot;
        struct {
            struct uidset uids;
            const char *user;
            bool seen;
        } seen;
        struct {
            const uint8_t (*hashes)[DELIVERY_HASH_BYTES];
            size_t n;
        } forget;
        struct {
            struct uidset uids;
            mbid_t to;
            bool move;
            bool check_quota;
            uint32_t no_flags; /* that copies do not have */
            bool no_keywords;
            bool no_shared;   /* annotations */
            const char *user; /* whose private ones; NULL: everybody's */
            uint32_t end; /* UIDs from here on were not there at the start */
        } copy;
        struct {
            const char *user;
            uint8_t kind;
            const char *name;
            bool is_set;
            struct span value;
        } user;
        struct {
            modseq_t highestmodseq;
            uint64_t digest;
            uint32_t uidnext;
        } expect;
        struct rec_rows rows;
        struct rec_head given_head;
        struct rec_quota quota;
        struct rec_epoch epoch;
    } u;
};

/* The rows of TXN are about to be written: *RET becomes the late derived record
 * of append OP.  False: it is not here, and will not be taken any more. */
bool
txn_take_cache(struct op *op, struct span *ret);

/* What waits for the writer. */
struct job {
    struct job *next;
    bool is_frames;
    size_t bytes; /* for store_queue_bytes() */
};

struct store_txn {
    struct job job; /* first */
    struct arena arena;
    struct op *ops;
    size_t nops;
    size_t cap;
    bool is_begin; /* holds an OP_EPOCH */
    enum errcode code;
    struct error err;
    lsn_t lsn;
    lsn_t kept_lsn; /* of the turns that are durable */
    txn_done *done;
    void *done_ctx;
};

struct frames_job {
    struct job job; /* first */
    struct buf frames;
    enum errcode code; /* of the look at the bodies */
    struct error err;
    store_frames_done *done;
    void *done_ctx;
};

/* The record that leaves the head of MB as it is. */
struct rec_head
txn_head_of(const struct mailbox *mb);
/* An internal operation; the caller fills in the rest. */
struct op *
txn_add_op(struct store_txn *txn, enum op_kind kind, mbid_t id);
/* Decide which bodies go ahead; before the writer sees it. */
void
txn_prepare(struct store_txn *txn);
/* Forget what the turn under way has done: it will be run again. */
void
txn_reset(struct store_txn *txn);
/* The turn is durable: the next one goes on from there. */
void
txn_keep_turn(struct store_txn *txn);
/* It was the last turn: results are those of all. */
void
txn_end_turns(struct store_txn *txn);

#endif
