/*
 * store/resolve_private.h - what the files resolve_*.c share.
 *
 * Every op_*() resolves one operation against the state as the group has it so
 * far: it checks everything first, then emits records, which are applied at
 * once.
 */
#ifndef POLLUX_STORE_RESOLVE_PRIVATE_H
#define POLLUX_STORE_RESOLVE_PRIVATE_H

#include "store/resolve.h"

/* A record of ranges stays well below RECORD_BYTES_MAX. */
#define RANGES_PER_RECORD 50000U

/* The LSN of the next record. */
static inline lsn_t
resolve_next_lsn(const struct group *g)
{
    return g->place.first_lsn + g->nrecords;
}

/* MODSEQ of what the next record changes in MB (apply_head()). */
static inline modseq_t
resolve_next_modseq(const struct group *g, const struct mailbox *mb)
{
    const modseq_t own = modseq_of(g->epoch, resolve_next_lsn(g));
    return mb->highestmodseq >= own ? mb->highestmodseq + 1 : own;
}

/* Add g->body as a record and apply it.  ERR_LIMIT with g->overflow: the group
 * is full. */
MUST_CHECK enum errcode
resolve_emit(struct group *g, enum record_type type, struct error *err);

#define EMIT(kind, type, rec, err)                                             \
    (buf_clear(&g->body), rec_##kind##_encode((rec), &g->body),                \
     resolve_emit(g, (type), (err)))

/* ERR_NOTFOUND. */
MUST_CHECK enum errcode
resolve_mailbox(struct group *g, mbid_t id, struct head **ret,
                struct error *err);
/* ERR_BADNAME. */
MUST_CHECK enum errcode
resolve_check_name(const char *name, struct error *err);
/* ERR_LIMIT. */
MUST_CHECK enum errcode
resolve_check_text(const char *what, const char *s, size_t max,
                   struct error *err);
/* ERR_LIMIT. */
MUST_CHECK enum errcode
resolve_check_keywords(const struct span *keywords, size_t n,
                       struct error *err);

/* Each row of a set of UIDs, tombstones too. */
struct walk {
    struct state_iter it;
    const struct uidset *uids;
    size_t at;
    struct op *op;
    size_t slice; /* of the group */
    size_t seen;
    struct arena rows; /* of the row under way */
};

/* From where OP's turn begins. */
void
walk_open(struct walk *w, struct group *g, struct op *op, struct head *h,
          const struct uidset *uids);
/* False at the end, at that of the turn (op->next says where to go on), or with
 * *RC on an error. */
bool
walk_next(struct walk *w, struct message *ret, enum errcode *rc,
          struct error *err);
/* RC, or why the walk ended early. */
MUST_CHECK enum errcode
walk_close(struct walk *w, enum errcode rc, struct error *err);

/* RANGES_PER_RECORD of the ranges from AT on. */
struct uidset
resolve_part_of(const struct uidset *all, size_t at);
/* REC_PURGE of UIDS; LIVE: of a mailbox that goes, with what lives in it. */
MUST_CHECK enum errcode
resolve_emit_purge(struct group *g, mbid_t id, const struct uidset *uids,
                   bool live, struct error *err);
/* REC_EXPUNGE or REC_UNEXPUNGED of UIDS, in as many records as it takes. */
MUST_CHECK enum errcode
resolve_emit_uids(struct group *g, enum record_type type, mbid_t id,
                  const struct uidset *uids, struct error *err);

/* ---- resolve_mailbox.c ------------------------------------------------ */

enum errcode
op_create(struct group *g, struct op *op, struct error *err);
enum errcode
op_rename(struct group *g, struct op *op, struct error *err);
enum errcode
op_set(struct group *g, struct op *op, struct error *err);
enum errcode
op_set_recent(struct group *g, struct op *op, struct error *err);
MUST_CHECK enum errcode
op_raise_modseq(struct group *g, struct op *op, struct error *err);
enum errcode
op_set_head(struct group *g, struct op *op, struct error *err);
enum errcode
op_rename_user(struct group *g, struct op *op, struct error *err);

/* ---- resolve_delete.c ------------------------------------------------- */

/* A mailbox and its name before something happens to it. */
struct named {
    const char *name;
    mbid_t id;
};

/* ROOT itself, if there, and, if BELOW, all mailboxes below it. */
MUST_CHECK enum errcode
resolve_list_tree(struct group *g, const char *root, bool below,
                  struct named **ret, size_t *ret_n, struct error *err);
enum errcode
op_delete(struct group *g, struct op *op, struct error *err);

/* ---- resolve_quota.c -------------------------------------------------- */

/* A mailbox whose quota row is its own loses it before it goes. */
MUST_CHECK enum errcode
resolve_drop_own_quota(struct group *g, const char *name, struct error *err);
/* ERR_QUOTA if so much more does not fit into ROOT ("": none). */
MUST_CHECK enum errcode
resolve_check_quota(struct group *g, const char *root,
                    const uint64_t more[QUOTA_RESOURCES], struct error *err);
enum errcode
op_quota(struct group *g, struct op *op, struct error *err);

/* ---- resolve_append.c ------------------------------------------------- */

/* The next UID of a mailbox, beyond what a dead master may have given out. */
MUST_CHECK enum errcode
resolve_next_uid(const struct group *g, const struct mailbox *mb, uint32_t *ret,
                 struct error *err);
/* The derived record of a message, put when the transaction is in. */
void
resolve_keep_cache(struct group *g, mbid_t id, uint32_t uid,
                   struct span record);
/*
 * Write the next part of a body that goes ahead.  *RET_MORE: something was
 * written, so this transaction has had its turn.
 */
MUST_CHECK enum errcode
resolve_write_ahead(struct group *g, const struct store_txn *txn, struct op *op,
                    bool *ret_more, struct error *err);
enum errcode
op_append(struct group *g, struct op *op, struct error *err);

/* ---- resolve_flags.c, resolve_message.c, resolve_annot.c, resolve_user.c */

/* Change flags of UIDS as FLAGS says, for OP. */
MUST_CHECK enum errcode
resolve_flags(struct group *g, struct op *op, const struct txn_flags *flags,
              const struct uidset *uids, struct error *err);
/* The annotations of M, in FROM, also on UID of TO: all, or (OP not NULL) those
 * that the copy OP takes along. */
MUST_CHECK enum errcode
resolve_copy_annots(struct group *g, const struct op *op, struct head *from,
                    const struct message *m, mbid_t to, uint32_t uid,
                    struct error *err);
/* May they be those of a new message?  *RET: bytes of all values.  ERR_LIMIT.
 */
MUST_CHECK enum errcode
resolve_check_annots(const struct txn_append_annot *annots, size_t n,
                     uint64_t *ret, struct error *err);
/* They are those of the message that was written just now. */
MUST_CHECK enum errcode
resolve_put_annots(struct group *g, struct head *h, uint32_t uid,
                   const struct txn_append_annot *annots, size_t n,
                   struct error *err);
/* Bytes of all values on M. */
MUST_CHECK enum errcode
resolve_annot_bytes(struct group *g, struct head *h, const struct message *m,
                    uint64_t *ret, struct error *err);
enum errcode
op_annotate(struct group *g, struct op *op, struct error *err);
enum errcode
op_seen(struct group *g, struct op *op, struct error *err);
/* What of SEEN and UNSEEN the user has, or has not, seen. */
enum errcode
op_seen_as_given(struct group *g, struct op *op, struct error *err);
enum errcode
op_unexpunge(struct group *g, struct op *op, struct error *err);
enum errcode
op_user_remove_all(struct group *g, struct op *op, struct error *err);
enum errcode
op_forget(struct group *g, struct op *op, struct error *err);

enum errcode
op_flags(struct group *g, struct op *op, struct error *err);
enum errcode
op_expunge(struct group *g, struct op *op, struct error *err);
enum errcode
op_copy(struct group *g, struct op *op, struct error *err);
enum errcode
op_user(struct group *g, struct op *op, struct error *err);

/* ---- resolve_given.c: what a peer says that it is ----------------------- */

enum errcode
op_expect(struct group *g, struct op *op, struct error *err);
enum errcode
op_stage(struct group *g, struct op *op, struct error *err);
enum errcode
op_rows(struct group *g, struct op *op, struct error *err);
enum errcode
op_head(struct group *g, struct op *op, struct error *err);
/* A message with the UID and MODSEQ of the peer. */
enum errcode
op_append_given(struct group *g, struct op *op, struct error *err);

#endif
