/*
 * store/resolve_annot.c - annotations, and \Seen of users who do not own the
 * mailbox.
 */
#include "store/resolve_private.h"

/* A record of annotations stays well below RECORD_BYTES_MAX. */
#define ANNOT_RECORD_BYTES (512U << 10)

enum errcode
resolve_annot_bytes(struct group *g, struct head *h, const struct message *m,
                    uint64_t *ret, struct error *err)
{
    *ret = 0;
    if ((m->flags & FLAG_ANNOTATED) == 0)
        return ERR_OK;
    return state_annot_bytes(g->st, h, m->uid, ret, err);
}

/* Does the copy OP (NULL: any) take along what is USER's? */
static bool
goes_along(const struct op *op, struct span user)
{
    if (op == NULL)
        return true;
    if (user.n == 0)
        return !op->u.copy.no_shared;
    return op->u.copy.user == NULL || span_eq_str(user, op->u.copy.user);
}

enum errcode
resolve_copy_annots(struct group *g, const struct op *op, struct head *from,
                    const struct message *m, mbid_t to, uint32_t uid,
                    struct error *err)
{
    struct arena a = ARENA_INIT;
    struct key k;
    struct span *keys;
    size_t n = 0, bytes = 0;
    struct rec_annot rec = {.id = to, .uid = uid};
    enum errcode rc = ERR_OK;

    if ((m->flags & FLAG_ANNOTATED) != 0)
        rc = state_keys_near(g->st, key_annots_of(&k, from->mb.id, m->uid), &a,
                             &keys, &n, err);
    if (rc == ERR_OK)
        rec.items = arena_array(&a, n + 1, sizeof(*rec.items));
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        struct rec_annot_item *item = &rec.items[rec.n];
        struct span entry, user;
        uint32_t of;
        ENSURE(key_get_annot(keys[i], &of, &entry, &user));
        if (!goes_along(op, user))
            continue;
        *item = (struct rec_annot_item){.entry = arena_str(&a, entry),
                                        .user = arena_str(&a, user),
                                        .is_set = true};
        rc = state_get(g->st, keys[i], &a, &item->value, err);
        bytes += keys[i].n + item->value.n;
        rec.n++;
        if (rc == ERR_OK && bytes > ANNOT_RECORD_BYTES) {
            rc = EMIT(annot, REC_ANNOT, &rec, err);
            rec.n = bytes = 0;
        }
    }
    if (rc == ERR_OK && rec.n > 0)
        rc = EMIT(annot, REC_ANNOT, &rec, err);
    arena_free(&a);
    return rc;
}

enum errcode
resolve_check_annots(const struct txn_append_annot *annots, size_t n,
                     uint64_t *ret, struct error *err)
{
    uint64_t keys = 0, values = 0;
    enum errcode rc = ERR_OK;

    if (n > ANNOTS_PER_TARGET)
        return error_set(err, ERR_LIMIT, "%zu annotations, at most %u", n,
                         ANNOTS_PER_TARGET);
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        rc = resolve_check_text("annotation", annots[i].entry, ANNOT_ENTRY_MAX,
                                err);
        if (rc == ERR_OK)
            rc = resolve_check_text("user", annots[i].user, USER_MAX, err);
        if (rc == ERR_OK && annots[i].value.n > ANNOT_VALUE_MAX)
            rc = error_set(err, ERR_LIMIT, "value of %zu bytes, at most %u",
                           annots[i].value.n, ANNOT_VALUE_MAX);
        keys += strlen(annots[i].entry) + strlen(annots[i].user);
        values += annots[i].value.n;
    }
    if (rc == ERR_OK && keys + values > ANNOT_RECORD_BYTES)
        rc = error_set(err, ERR_LIMIT, "annotations of %" PRIu64 " bytes",
                       keys + values);
    if (rc == ERR_OK)
        *ret = values;
    return rc;
}

enum errcode
resolve_put_annots(struct group *g, struct head *h, uint32_t uid,
                   const struct txn_append_annot *annots, size_t n,
                   struct error *err)
{
    struct arena a = ARENA_INIT;
    struct rec_annot rec = {.id = h->mb.id, .uid = uid, .n = n};
    enum errcode rc = ERR_OK;

    rec.items = arena_array(&a, n, sizeof(*rec.items));
    for (size_t i = 0; i < n; i++)
        rec.items[i] = (struct rec_annot_item){.entry = annots[i].entry,
                                               .user = annots[i].user,
                                               .is_set = true,
                                               .value = annots[i].value};
    if (n > 0)
        rc = EMIT(annot, REC_ANNOT, &rec, err);
    arena_free(&a);
    return rc;
}

/* ----------------------------------------------------------- annotations */

static enum errcode
check_annot(const struct op *op, struct error *err)
{
    const struct txn_annot *a = &op->u.annot.op;

    if (a->entry == NULL || a->entry[0] == '\0')
        return error_set(err, ERR_LIMIT, "an annotation without a name");
    enum errcode rc =
        resolve_check_text("annotation", a->entry, ANNOT_ENTRY_MAX, err);
    if (rc == ERR_OK)
        rc = resolve_check_text("user", a->user, USER_MAX, err);
    if (rc == ERR_OK && op->u.annot.value.n > ANNOT_VALUE_MAX)
        rc = error_set(err, ERR_LIMIT, "value of %zu bytes, at most %u",
                       op->u.annot.value.n, ANNOT_VALUE_MAX);
    if (rc == ERR_OK && op->u.annot.on_messages && op->id == 0)
        rc = error_set(err, ERR_NOTFOUND, "the server has no messages");
    return rc;
}

/* Is there room for one more of this user's? */
static enum errcode
check_number(struct group *g, const struct op *op, uint32_t uid,
             struct error *err)
{
    const char *user = op->u.annot.op.user;
    struct span prefix, *keys;
    struct key k;
    size_t n, own = 0;

    prefix = key_annots_of(&k, op->id, uid);
    enum errcode rc =
        op->id == 0
            ? state_keys(g->st, prefix, &g->st->scratch, &keys, &n, err)
            : state_keys_near(g->st, prefix, &g->st->scratch, &keys, &n, err);
    for (size_t i = 0; rc == ERR_OK && i < n; i++) {
        struct span entry, of;
        uint32_t at;
        own += key_get_annot(keys[i], &at, &entry, &of) &&
               span_eq_str(of, user == NULL ? "" : user);
    }
    if (rc == ERR_OK && own >= ANNOTS_PER_TARGET)
        rc = error_set(err, ERR_LIMIT, "more than %u annotations",
                       ANNOTS_PER_TARGET);
    return rc;
}

/* UID 0: the mailbox or the server.  *RET_CHANGED: there was something to do.
 */
static enum errcode
annotate_one(struct group *g, struct op *op, const struct head *h, uint32_t uid,
             bool *ret_changed, struct error *err)
{
    const struct txn_annot *a = &op->u.annot.op;
    struct rec_annot_item item = {.entry = a->entry,
                                  .user = a->user == NULL ? "" : a->user,
                                  .is_set = op->u.annot.is_set,
                                  .value = op->u.annot.value};
    const struct rec_annot rec = {.id = op->id,
                                  .uid = uid,
                                  .keep_modseq = a->keep_modseq,
                                  .raise_head =
                                      h != NULL && uid == 0 && !a->keep_modseq,
                                  .n = 1,
                                  .items = &item};
    struct span old = SPAN_EMPTY;
    struct key k;

    enum errcode rc =
        state_get(g->st, key_annot(&k, op->id, uid, item.entry, item.user),
                  &g->st->scratch, &old, err);
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    const bool is_there = rc == ERR_OK;
    *ret_changed =
        is_there != item.is_set || (is_there && !span_eq(old, item.value));
    if (!*ret_changed)
        return ERR_OK;
    rc = !is_there && item.is_set ? check_number(g, op, uid, err) : ERR_OK;
    if (rc == ERR_OK && a->check_quota && h != NULL && item.value.n > old.n)
        rc = resolve_check_quota(g, h->mb.quota_root,
                                 (uint64_t[QUOTA_RESOURCES]){
                                     [QUOTA_ANNOTATION] = item.value.n - old.n},
                                 err);
    if (rc != ERR_OK)
        return rc;
    if (h != NULL)
        op->res.modseq = resolve_next_modseq(g, &h->mb);
    return EMIT(annot, REC_ANNOT, &rec, err);
}

enum errcode
op_annotate(struct group *g, struct op *op, struct error *err)
{
    const struct txn_annot *a = &op->u.annot.op;
    struct head *h = NULL;
    struct message m;
    struct walk w;
    bool changed;

    enum errcode rc = check_annot(op, err);
    if (rc == ERR_OK && op->id != 0)
        rc = resolve_mailbox(g, op->id, &h, err);
    if (rc != ERR_OK)
        return rc;
    if (!op->u.annot.on_messages)
        return annotate_one(g, op, h, 0, &changed, err);
    op->res.uidvalidity = h->mb.uidvalidity;
    walk_open(&w, g, op, h, &op->u.annot.uids);
    while (rc == ERR_OK && walk_next(&w, &m, &rc, err)) {
        if ((m.flags & FLAG_EXPUNGED) != 0 && !a->keep_modseq)
            continue;
        if (a->has_unchanged_since && m.modseq > a->unchanged_since) {
            uidset_add(&op->res.refused, m.uid, m.uid);
            continue;
        }
        rc = annotate_one(g, op, h, m.uid, &changed, err);
        if (rc == ERR_OK && changed)
            uidset_add(&op->res.uids, m.uid, m.uid);
    }
    return walk_close(&w, rc, err);
}

/* ----------------------------------------------------------------- \Seen */

/* Of the messages of this turn those that USER has seen, or not, otherwise. */
static enum errcode
find_changed(struct group *g, struct op *op, struct head *h,
             const struct uidset *uids, bool seen, struct error *err)
{
    AUTO(uidset_free) struct uidset have = UIDSET_INIT;
    struct span user = span_str(op->u.seen.user);
    uint32_t chunk = UINT32_MAX;
    struct message m;
    struct walk w;
    enum errcode rc = ERR_OK;

    walk_open(&w, g, op, h, uids);
    while (rc == ERR_OK && walk_next(&w, &m, &rc, err)) {
        if ((m.flags & FLAG_EXPUNGED) != 0)
            continue;
        if (m.uid >> SEEN_CHUNK_BITS != chunk) {
            chunk = m.uid >> SEEN_CHUNK_BITS;
            rc = state_seen(g->st, h, chunk, user, &have, err);
        }
        if (rc == ERR_OK && uidset_has(&have, m.uid) != seen)
            uidset_add(&op->res.uids, m.uid, m.uid);
    }
    return walk_close(&w, rc, err);
}

enum errcode
op_seen(struct group *g, struct op *op, struct error *err)
{
    const char *user = op->u.seen.user;
    struct head *h;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc == ERR_OK)
        rc = resolve_check_text("user", user, USER_MAX, err);
    if (rc == ERR_OK && (user == NULL || user[0] == '\0'))
        rc = error_set(err, ERR_LIMIT, "nobody can have seen something");
    if (rc != ERR_OK)
        return rc;
    if (!mailbox_has_own_seen(&h->mb, user)) {
        const struct txn_flags flags = {.id = op->id,
                                        .mode = op->u.seen.seen ? FLAGS_ADD
                                                                : FLAGS_REMOVE,
                                        .flags = FLAG_SEEN};
        return resolve_flags(g, op, &flags, &op->u.seen.uids, err);
    }
    op->res.uidvalidity = h->mb.uidvalidity;
    rc = find_changed(g, op, h, &op->u.seen.uids, op->u.seen.seen, err);
    for (size_t at = 0; at < op->res.uids.n && rc == ERR_OK;
         at += RANGES_PER_RECORD) {
        const struct uidset part = resolve_part_of(&op->res.uids, at);
        struct rec_seen rec = {.id = op->id, .user = user};
        if (op->u.seen.seen)
            rec.seen = part;
        else
            rec.unseen = part;
        op->res.modseq = resolve_next_modseq(g, &h->mb);
        rc = EMIT(seen, REC_SEEN, &rec, err);
    }
    return rc;
}

/* UIDS of OP's user, all in this turn: a peer's set is not split. */
static enum errcode
give_seen(struct group *g, struct op *op, struct head *h,
          const struct uidset *uids, bool seen, struct error *err)
{
    uidset_clear(&op->res.uids);
    enum errcode rc = find_changed(g, op, h, uids, seen, err);
    for (size_t at = 0; at < op->res.uids.n && rc == ERR_OK;
         at += RANGES_PER_RECORD) {
        const struct uidset part = resolve_part_of(&op->res.uids, at);
        struct rec_seen rec = {
            .id = op->id, .user = op->u.seen.user, .keep_modseq = true};
        if (seen)
            rec.seen = part;
        else
            rec.unseen = part;
        rc = EMIT(seen, REC_SEEN, &rec, err);
    }
    return rc;
}

enum errcode
op_seen_as_given(struct group *g, struct op *op, struct error *err)
{
    const char *user = op->u.seen.user;
    struct uidrange every = {1, UINT32_MAX};
    const struct uidset all = {.r = &every, .n = 1};
    AUTO(uidset_free) struct uidset rest = UIDSET_INIT;
    struct head *h;

    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc == ERR_OK)
        rc = resolve_check_text("user", user, USER_MAX, err);
    if (rc == ERR_OK && (user == NULL || user[0] == '\0'))
        rc = error_set(err, ERR_LIMIT, "nobody can have seen something");
    if (rc != ERR_OK || !mailbox_has_own_seen(&h->mb, user))
        return rc;
    uidset_add_set(&rest, &all);
    for (size_t i = 0; i < op->u.seen.uids.n; i++)
        uidset_remove(&rest, op->u.seen.uids.r[i].first,
                      op->u.seen.uids.r[i].last);
    rc = give_seen(g, op, h, &op->u.seen.uids, true, err);
    return rc == ERR_OK ? give_seen(g, op, h, &rest, false, err) : rc;
}
