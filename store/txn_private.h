/*
 * store/txn_private.h - a transaction from the inside: what the writer works
 * on, and the queue it waits in.
 */
#ifndef POLLUX_STORE_TXN_PRIVATE_H
#define POLLUX_STORE_TXN_PRIVATE_H

#include "store/txn.h"

enum op_kind {
    OP_CREATE,
    OP_DELETE,
    OP_RENAME,
    OP_SET_ACL,
    OP_SET_SPECIAL_USE,
    OP_SET_RECENT,
    OP_APPEND,
    OP_FLAGS,
    OP_EXPUNGE,
    OP_COPY,
    OP_USER,
    OP_QUOTA,
    OP_PURGE,
    OP_EPOCH, /* store_begin_epoch() */
};

/* Strings and keywords live in the transaction's arena. */
struct op {
    enum op_kind kind;
    bool independent;
    mbid_t id;
    struct txn_result res;
    union {
        struct txn_mailbox create;
        struct {
            bool delayed;
            uint64_t now_s;
        } del;
        struct {
            const char *name;
            bool tree;
        } rename;
        struct {
            const char *value;
            const char *expected;
        } set;
        uint32_t recent_uid;
        struct {
            struct txn_append msg; /* body: our reference */
            bool ahead;            /* the body goes before, in parts */
            uint32_t parts_done;
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
            mbid_t to;
            bool move;
            bool check_quota;
        } copy;
        struct {
            const char *user;
            uint8_t kind;
            const char *name;
            bool is_set;
            struct span value;
        } user;
        struct rec_quota quota;
        struct rec_epoch epoch;
    } u;
};

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

/* An internal operation; the caller fills in the rest. */
struct op *
txn_add_op(struct store_txn *txn, enum op_kind kind, mbid_t id);
/* Decide which bodies go ahead; before the writer sees it. */
void
txn_prepare(struct store_txn *txn);
/* Forget results: it will be run again. */
void
txn_reset(struct store_txn *txn);

#endif
