/*
 * store/state_private.h - what the files state*.c share.
 */
#ifndef POLLUX_STORE_STATE_PRIVATE_H
#define POLLUX_STORE_STATE_PRIVATE_H

#include "store/kv_private.h"
#include "store/state.h"

enum undo_kind { UNDO_HEAD, UNDO_QUOTA, UNDO_OWNER };

struct undo {
    enum undo_kind kind;
    struct undo *next;
    union {
        struct {
            struct head *head;
            struct mailbox mb;
            bool exists, dirty, changed;
        } head;
        struct {
            struct quota_head *head;
            struct quota q;
            bool exists, dirty;
        } quota;
        struct {
            struct owner *owner;
            uint64_t digest;
        } owner;
    } u;
};

struct newref {
    struct guid guid;
    mbid_t id;
    uint32_t uid;
    struct newref *next;
};

/* A key by its first bytes. */
struct newkey {
    size_t prefix_n;
    struct span key;
    struct newkey *next;
};

/* state.c */
struct undo *
state_add_undo(struct state *st, enum undo_kind kind);
void
state_end_savepoint(struct state *st);

/* state_read.c */
size_t
state_bucket(const void *p, size_t n);
/* NULL: not looked at in this group. */
struct head *
state_find_head(struct state *st, mbid_t id);
struct head *
state_add_head(struct state *st, mbid_t id);

/* state_rows.c */
void
state_forget_rows(struct state *st);
/* The row of UID changes; true: it was read, and *RET_HASH is its hash. */
MUST_CHECK bool
state_take_row(struct state *st, mbid_t id, uint32_t uid, uint64_t *ret_hash);

/* state_changed.c: M has, or has no longer, its MODSEQ.  Rows that are shared
 * change with state_settle_changed().  ERR_CORRUPT. */
MUST_CHECK enum errcode
state_put_changed(struct state *st, mbid_t id, const struct message *m,
                  struct error *err);
MUST_CHECK enum errcode
state_delete_changed(struct state *st, mbid_t id, const struct message *m,
                     struct error *err);
void
state_forget_changed(struct state *st);

/* state_quota.c: MB's quota root is used so much more (or, wrapped around,
 * less). */
MUST_CHECK enum errcode
state_charge(struct state *st, const struct mailbox *mb,
             const uint64_t more[QUOTA_RESOURCES], struct error *err);

/* state_change.c: HASH goes into (or out of) OWNER's digest. */
MUST_CHECK enum errcode
state_fold(struct state *st, const char *owner, uint64_t hash,
           struct error *err);

#endif
