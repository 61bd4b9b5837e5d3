/*
 * store/txn.c - building a transaction: everything is copied, nothing checked
 * but what would cost the writer time.
 *
 * A commit group is one frame and must hold a transaction whole, so bodies that
 * are large, or many, are written ahead of it as records of their own
 * (REC_BODY); the transaction itself then only names them.
 */
#include "store/txn_private.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Bodies of more than this in one transaction go ahead. */
#define INLINE_BYTES_MAX (2U << 20)

struct store_txn *
txn_new(void)
{
    return xcalloc(1, sizeof(struct store_txn));
}

static void
free_results(struct txn_result *res)
{
    uidset_free(&res->from);
    uidset_free(&res->uids);
    uidset_free(&res->refused);
}

static void
free_op(struct op *op)
{
    free_results(&op->res);
    free_results(&op->kept);
    switch (op->kind) {
    case OP_APPEND:
    case OP_STAGE:
        body_free(&op->u.append.msg.body);
        break;
    case OP_FLAGS:
        uidset_free(&op->u.flags.uids);
        break;
    case OP_EXPUNGE:
    case OP_PURGE:
        uidset_free(&op->u.expunge.uids);
        break;
    case OP_COPY:
        uidset_free(&op->u.copy.uids);
        break;
    case OP_UNEXPUNGE:
        uidset_free(&op->u.unexpunge.uids);
        break;
    case OP_ANNOTATE:
        uidset_free(&op->u.annot.uids);
        break;
    case OP_SEEN:
    case OP_SEEN_AS_GIVEN:
        uidset_free(&op->u.seen.uids);
        break;
    case OP_DELETE:
        xfree(&op->u.del.ids);
        break;
    case OP_CREATE:
    case OP_RENAME:
    case OP_SET_OPTIONS:
    case OP_SET_PARTITION:
    case OP_SET_UIDVALIDITY:
    case OP_RENAME_USER:
    case OP_USER_REMOVE_ALL:
    case OP_FORGET:
    case OP_SET_ACL:
    case OP_SET_SPECIAL_USE:
    case OP_SET_RECENT:
    case OP_RAISE_MODSEQ:
    case OP_USER:
    case OP_QUOTA:
    case OP_EXPECT:
    case OP_ROWS:
    case OP_HEAD:
    case OP_EPOCH:
        break;
    }
}

void
txn_free(struct store_txn **txnp)
{
    struct store_txn *txn = *txnp;

    if (txn == NULL)
        return;
    for (size_t i = 0; i < txn->nops; i++)
        free_op(&txn->ops[i]);
    free(txn->ops);
    arena_free(&txn->arena);
    xfree(txnp);
}

struct op *
txn_add_op(struct store_txn *txn, enum op_kind kind, mbid_t id)
{
    if (txn->nops == txn->cap) {
        txn->cap = txn->cap * 2 + 2;
        txn->ops = xrealloc(txn->ops, txn->cap * sizeof(*txn->ops));
    }
    struct op *op = &txn->ops[txn->nops++];
    memset(op, 0, sizeof(*op));
    op->kind = kind;
    op->id = id;
    return op;
}

static const char *
copy(struct store_txn *txn, const char *s)
{
    return s == NULL ? NULL : arena_str(&txn->arena, span_str(s));
}

static void
copy_set(struct uidset *to, const struct uidset *from)
{
    uidset_add_set(to, from);
}

static int
compare_spans(const void *a, const void *b)
{
    return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

/* Sorted, without doubles and empty ones. */
static const struct span *
copy_keywords(struct store_txn *txn, const struct span *keywords, size_t n,
              size_t *ret_n)
{
    struct span *copies = arena_array(&txn->arena, n + 1, sizeof(*copies));
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        copies[i] = arena_copy(&txn->arena, keywords[i]);
    qsort(copies, n, sizeof(*copies), compare_spans);
    for (size_t i = 0; i < n; i++)
        if (copies[i].n > 0 &&
            (kept == 0 || !span_eq(copies[kept - 1], copies[i])))
            copies[kept++] = copies[i];
    *ret_n = kept;
    return copies;
}

static void
copy_row_keywords(struct store_txn *txn, struct message *m)
{
    m->keywords = copy_keywords(txn, m->keywords, m->nkeywords, &m->nkeywords);
}

size_t
txn_create(struct store_txn *txn, const struct txn_mailbox *mb)
{
    struct op *op = txn_add_op(txn, OP_CREATE, 0);

    op->u.create = (struct txn_mailbox){
        .name = copy(txn, mb->name),
        .acl = copy(txn, mb->acl),
        .default_acl = copy(txn, mb->default_acl),
        .special_use = copy(txn, mb->special_use),
        .partition = copy(txn, mb->partition),
        .exist_ok = mb->exist_ok,
        .check_quota = mb->check_quota,
        .options = mb->options,
        .uniqueid = copy(txn, mb->uniqueid),
        .uidvalidity = mb->uidvalidity,
    };
    return txn->nops - 1;
}

size_t
txn_delete(struct store_txn *txn, mbid_t id, bool delayed, uint64_t now_s)
{
    struct op *op = txn_add_op(txn, OP_DELETE, id);

    op->u.del.delayed = delayed;
    op->u.del.now_s = now_s;
    return txn->nops - 1;
}

size_t
txn_delete_tree(struct store_txn *txn, mbid_t id, bool delayed, uint64_t now_s)
{
    struct op *op = txn_add_op(txn, OP_DELETE, id);

    op->u.del.delayed = delayed;
    op->u.del.tree = true;
    op->u.del.now_s = now_s;
    return txn->nops - 1;
}

size_t
txn_rename(struct store_txn *txn, mbid_t id, const char *new_name, bool tree)
{
    struct op *op = txn_add_op(txn, OP_RENAME, id);

    op->u.rename.name = copy(txn, new_name);
    op->u.rename.tree = tree;
    return txn->nops - 1;
}

size_t
txn_rename_given(struct store_txn *txn, mbid_t id, const char *new_name,
                 uint32_t uidvalidity)
{
    struct op *op = txn_add_op(txn, OP_RENAME, id);

    op->u.rename.name = copy(txn, new_name);
    op->u.rename.uidvalidity = uidvalidity;
    return txn->nops - 1;
}

size_t
txn_rename_user(struct store_txn *txn, const char *from, const char *to)
{
    struct op *op = txn_add_op(txn, OP_RENAME_USER, 0);

    op->u.rename_user.from = copy(txn, from);
    op->u.rename_user.to = copy(txn, to);
    return txn->nops - 1;
}

size_t
txn_user_remove_all(struct store_txn *txn, const char *user)
{
    struct op *op = txn_add_op(txn, OP_USER_REMOVE_ALL, 0);

    op->u.rename_user.from = copy(txn, user);
    op->u.rename_user.to = "";
    return txn->nops - 1;
}

size_t
txn_set_options(struct store_txn *txn, mbid_t id, uint32_t mask,
                uint32_t options)
{
    struct op *op = txn_add_op(txn, OP_SET_OPTIONS, id);

    op->u.head.mask = mask;
    op->u.head.options = options;
    return txn->nops - 1;
}

size_t
txn_set_partition(struct store_txn *txn, mbid_t id, const char *partition,
                  bool tree)
{
    struct op *op = txn_add_op(txn, OP_SET_PARTITION, id);

    op->u.head.partition = copy(txn, partition);
    op->u.head.tree = tree;
    return txn->nops - 1;
}

size_t
txn_set_uidvalidity(struct store_txn *txn, mbid_t id, uint32_t uidvalidity)
{
    struct op *op = txn_add_op(txn, OP_SET_UIDVALIDITY, id);

    op->u.head.uidvalidity = uidvalidity;
    return txn->nops - 1;
}

size_t
txn_set_acl(struct store_txn *txn, mbid_t id, const char *acl,
            const char *expected)
{
    struct op *op = txn_add_op(txn, OP_SET_ACL, id);

    op->u.set.value = copy(txn, acl);
    op->u.set.expected = copy(txn, expected);
    return txn->nops - 1;
}

size_t
txn_set_special_use(struct store_txn *txn, mbid_t id, const char *uses)
{
    struct op *op = txn_add_op(txn, OP_SET_SPECIAL_USE, id);

    op->u.set.value = uses == NULL ? "" : copy(txn, uses);
    return txn->nops - 1;
}

size_t
txn_raise_modseq(struct store_txn *txn, mbid_t id)
{
    (void)txn_add_op(txn, OP_RAISE_MODSEQ, id);
    return txn->nops - 1;
}

size_t
txn_set_recent(struct store_txn *txn, mbid_t id, uint32_t uid)
{
    txn_add_op(txn, OP_SET_RECENT, id)->u.recent_uid = uid;
    return txn->nops - 1;
}

size_t
txn_append(struct store_txn *txn, const struct txn_append *msg)
{
    struct op *op = txn_add_op(txn, OP_APPEND, msg->id);
    struct txn_append *m = &op->u.append.msg;

    *m = *msg;
    m->body = msg->body == NULL ? NULL : body_ref(msg->body);
    m->keywords =
        copy_keywords(txn, msg->keywords, msg->nkeywords, &m->nkeywords);
    m->cache = arena_copy(&txn->arena, msg->cache);
    struct txn_append_annot *annots =
        arena_array(&txn->arena, msg->nannots, sizeof(*annots));
    for (size_t i = 0; i < msg->nannots; i++)
        annots[i] = (struct txn_append_annot){
            .entry = copy(txn, msg->annots[i].entry),
            .user = copy(txn, msg->annots[i].user),
            .value = arena_copy(&txn->arena, msg->annots[i].value)};
    m->annots = annots;
    op->independent = msg->independent;
    m->given = NULL;
    if (msg->given != NULL) {
        struct message *given = arena_alloc(&txn->arena, sizeof(*given));
        *given = *msg->given;
        copy_row_keywords(txn, given);
        op->u.append.given = given;
    }
    return txn->nops - 1;
}

size_t
txn_expect(struct store_txn *txn, const struct mailbox *mb)
{
    struct op *op = txn_add_op(txn, OP_EXPECT, mb->id);

    op->u.expect.highestmodseq = mb->highestmodseq;
    op->u.expect.digest = mb->digest;
    op->u.expect.uidnext = mb->uidnext;
    return txn->nops - 1;
}

size_t
txn_stage(struct store_txn *txn, struct body *body)
{
    txn_add_op(txn, OP_STAGE, 0)->u.append.msg.body = body_ref(body);
    return txn->nops - 1;
}

size_t
txn_rows(struct store_txn *txn, mbid_t id, const struct message *rows, size_t n)
{
    struct rec_rows *rec = &txn_add_op(txn, OP_ROWS, id)->u.rows;

    rec->id = id;
    rec->n = n;
    rec->rows = arena_array(&txn->arena, n + 1, sizeof(*rec->rows));
    for (size_t i = 0; i < n; i++) {
        rec->rows[i] = rows[i];
        copy_row_keywords(txn, &rec->rows[i]);
    }
    return txn->nops - 1;
}

struct rec_head
txn_head_of(const struct mailbox *mb)
{
    return (struct rec_head){
        .id = mb->id,
        .uidvalidity = mb->uidvalidity,
        .uidnext = mb->uidnext,
        .highestmodseq = mb->highestmodseq,
        .created_modseq = mb->created_modseq,
        .purged_modseq = mb->purged_modseq,
        .recent_uid = mb->recent_uid,
        .options = mb->options,
        .recent_time_s = mb->recent_time_s,
        .last_append_us = mb->last_append_us,
        .pop3_login_s = mb->pop3_login_s,
        .pop3_show_after_s = mb->pop3_show_after_s,
    };
}

size_t
txn_head(struct store_txn *txn, const struct mailbox *mb)
{
    txn_add_op(txn, OP_HEAD, mb->id)->u.given_head = txn_head_of(mb);
    return txn->nops - 1;
}

size_t
txn_flags(struct store_txn *txn, const struct txn_flags *flags)
{
    struct op *op = txn_add_op(txn, OP_FLAGS, flags->id);
    struct txn_flags *f = &op->u.flags.op;

    *f = *flags;
    copy_set(&op->u.flags.uids, flags->uids);
    f->uids = NULL;
    f->keywords =
        copy_keywords(txn, flags->keywords, flags->nkeywords, &f->nkeywords);
    return txn->nops - 1;
}

size_t
txn_expunge(struct store_txn *txn, mbid_t id, const struct uidset *uids,
            bool only_deleted)
{
    struct op *op = txn_add_op(txn, OP_EXPUNGE, id);

    copy_set(&op->u.expunge.uids, uids);
    op->u.expunge.only_deleted = only_deleted;
    return txn->nops - 1;
}

size_t
txn_purge(struct store_txn *txn, mbid_t id, const struct uidset *uids)
{
    if (uids->n == 0)
        return txn_delete(txn, id, false, 0);
    copy_set(&txn_add_op(txn, OP_PURGE, id)->u.expunge.uids, uids);
    return txn->nops - 1;
}

size_t
txn_copy(struct store_txn *txn, mbid_t from, const struct uidset *uids,
         mbid_t to, bool move, bool check_quota)
{
    struct op *op = txn_add_op(txn, OP_COPY, from);

    copy_set(&op->u.copy.uids, uids);
    op->u.copy.to = to;
    op->u.copy.move = move;
    op->u.copy.check_quota = check_quota;
    return txn->nops - 1;
}

void
txn_copy_flags(struct store_txn *txn, size_t op, uint32_t flags, bool keywords)
{
    ENSURE(op < txn->nops && txn->ops[op].kind == OP_COPY);
    txn->ops[op].u.copy.no_flags = FLAGS_SETTABLE & ~flags;
    txn->ops[op].u.copy.no_keywords = !keywords;
}

void
txn_copy_annots(struct store_txn *txn, size_t op, const char *user, bool shared)
{
    ENSURE(op < txn->nops && txn->ops[op].kind == OP_COPY);
    txn->ops[op].u.copy.user = copy(txn, user);
    txn->ops[op].u.copy.no_shared = !shared;
}

size_t
txn_user(struct store_txn *txn, const char *user, uint8_t kind,
         const char *name, const struct span *value)
{
    struct op *op = txn_add_op(txn, OP_USER, 0);

    op->u.user.user = copy(txn, user);
    op->u.user.kind = kind;
    op->u.user.name = copy(txn, name);
    op->u.user.is_set = value != NULL;
    if (value != NULL)
        op->u.user.value = arena_copy(&txn->arena, *value);
    return txn->nops - 1;
}

size_t
txn_quota(struct store_txn *txn, const char *root,
          const uint64_t limit[QUOTA_RESOURCES])
{
    struct op *op = txn_add_op(txn, OP_QUOTA, 0);

    op->u.quota.root = copy(txn, root);
    op->u.quota.is_set = limit != NULL;
    if (limit != NULL)
        memcpy(op->u.quota.limit, limit, sizeof(op->u.quota.limit));
    return txn->nops - 1;
}

size_t
txn_unexpunge(struct store_txn *txn, mbid_t id, const struct uidset *uids,
              bool clear_deleted)
{
    struct op *op = txn_add_op(txn, OP_UNEXPUNGE, id);

    copy_set(&op->u.unexpunge.uids, uids);
    op->u.unexpunge.clear_deleted = clear_deleted;
    return txn->nops - 1;
}

size_t
txn_annotate(struct store_txn *txn, const struct txn_annot *annot)
{
    struct op *op = txn_add_op(txn, OP_ANNOTATE, annot->id);
    struct txn_annot *a = &op->u.annot.op;

    *a = *annot;
    a->entry = copy(txn, annot->entry);
    a->user = copy(txn, annot->user);
    op->u.annot.on_messages = annot->uids != NULL;
    if (annot->uids != NULL)
        copy_set(&op->u.annot.uids, annot->uids);
    op->u.annot.is_set = annot->value != NULL;
    if (annot->value != NULL)
        op->u.annot.value = arena_copy(&txn->arena, *annot->value);
    a->uids = NULL;
    a->value = NULL;
    return txn->nops - 1;
}

size_t
txn_seen(struct store_txn *txn, mbid_t id, const char *user,
         const struct uidset *uids, bool seen)
{
    struct op *op = txn_add_op(txn, OP_SEEN, id);

    op->u.seen.user = copy(txn, user);
    copy_set(&op->u.seen.uids, uids);
    op->u.seen.seen = seen;
    return txn->nops - 1;
}

size_t
txn_seen_given(struct store_txn *txn, mbid_t id, const char *user,
               const struct uidset *uids)
{
    struct op *op = txn_add_op(txn, OP_SEEN_AS_GIVEN, id);

    op->u.seen.user = copy(txn, user);
    copy_set(&op->u.seen.uids, uids);
    return txn->nops - 1;
}

size_t
txn_forget_deliveries(struct store_txn *txn, const uint8_t (*hashes)[16],
                      size_t n)
{
    struct op *op = txn_add_op(txn, OP_FORGET, 0);
    uint8_t(*copies)[DELIVERY_HASH_BYTES] =
        arena_array(&txn->arena, n + 1, sizeof(*copies));

    if (n > 0)
        memcpy(copies, hashes, n * sizeof(*copies));
    op->u.forget.hashes = (const uint8_t(*)[DELIVERY_HASH_BYTES])copies;
    op->u.forget.n = n;
    return txn->nops - 1;
}

static bool
brings_body(const struct op *op)
{
    return op->kind == OP_APPEND && op->u.append.msg.body != NULL;
}

/* Several recipients of one delivery share a body: it counts once. */
static bool
same_as_before(const struct store_txn *txn, size_t at)
{
    const struct guid *guid = body_guid(txn->ops[at].u.append.msg.body);

    for (size_t i = 0; i < at; i++)
        if (brings_body(&txn->ops[i]) &&
            guid_eq(body_guid(txn->ops[i].u.append.msg.body), guid))
            return true;
    return false;
}

void
txn_prepare(struct store_txn *txn)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < txn->nops; i++)
        if (brings_body(&txn->ops[i]) &&
            (bytes > INLINE_BYTES_MAX || !same_as_before(txn, i)))
            bytes += body_size(txn->ops[i].u.append.msg.body);
    for (size_t i = 0; i < txn->nops; i++) {
        struct op *op = &txn->ops[i];
        if (!brings_body(op))
            continue;
        op->u.append.ahead = bytes > INLINE_BYTES_MAX ||
                             body_part_count(op->u.append.msg.body) > 1;
        /* A part may have been in a group that was given up. */
        op->u.append.parts_done = 0;
    }
    for (size_t i = 0; i < txn->nops; i++)
        if (txn->ops[i].kind == OP_STAGE)
            bytes += body_size(txn->ops[i].u.append.msg.body);
    txn->job.bytes = sizeof(*txn) + txn->nops * sizeof(*txn->ops) +
                     txn->arena.used + (size_t)bytes;
}

void
txn_reset(struct store_txn *txn)
{
    txn->code = ERR_OK;
    txn->err = (struct error){0};
    txn->lsn = LSN_NONE;
    for (size_t i = 0; i < txn->nops; i++) {
        free_results(&txn->ops[i].res);
        txn->ops[i].res = (struct txn_result){0};
        txn->ops[i].next = 0;
    }
}

/* What the turns so far and this one have done, as one. */
static void
join_results(struct txn_result *to, const struct txn_result *more)
{
    uidset_add_set(&to->from, &more->from);
    uidset_add_set(&to->uids, &more->uids);
    uidset_add_set(&to->refused, &more->refused);
    to->modseq = MAX(to->modseq, more->modseq);
}

void
txn_keep_turn(struct store_txn *txn)
{
    for (size_t i = 0; i < txn->nops; i++) {
        struct op *op = &txn->ops[i];
        if (op->next == 0)
            continue;
        join_results(&op->kept, &op->res);
        op->at = op->next;
        op->next = 0;
    }
    txn->kept_lsn = MAX(txn->kept_lsn, txn->lsn);
}

void
txn_end_turns(struct store_txn *txn)
{
    for (size_t i = 0; i < txn->nops; i++)
        if (txn->ops[i].at != 0)
            join_results(&txn->ops[i].res, &txn->ops[i].kept);
    txn->lsn = MAX(txn->lsn, txn->kept_lsn);
}

enum errcode
txn_code(const struct store_txn *txn)
{
    return txn->code;
}

const struct error *
txn_error(const struct store_txn *txn)
{
    return &txn->err;
}

lsn_t
txn_lsn(const struct store_txn *txn)
{
    return txn->lsn;
}

bool
txn_bring_cache(struct store_txn *txn, size_t op, struct span record)
{
    unsigned none = LATE_NONE;

    ENSURE(op < txn->nops && txn->ops[op].u.append.msg.cache_is_late);
    txn->ops[op].u.append.late = record;
    return atomic_compare_exchange_strong(&txn->ops[op].u.append.late_state,
                                          &none, LATE_BROUGHT);
}

bool
txn_take_cache(struct op *op, struct span *ret)
{
    if (atomic_exchange(&op->u.append.late_state, LATE_OVER) != LATE_BROUGHT)
        return false;
    *ret = op->u.append.late;
    return true;
}

const struct txn_result *
txn_result(const struct store_txn *txn, size_t op)
{
    ENSURE(op < txn->nops);
    return &txn->ops[op].res;
}
