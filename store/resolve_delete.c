/*
 * store/resolve_delete.c - mailboxes go: to DELETED. names, or for good.
 *
 * A purge of very many messages takes several turns.  In the first one the
 * mailboxes get DELETED. names, if they have none, so that they are gone for
 * everybody at once; then their messages go, and each mailbox with its last
 * ones.  What a crash interrupts is a deleted mailbox, which expiry removes.
 */
#include "store/resolve_private.h"

#include "store/names.h"

enum errcode
resolve_list_tree(struct group *g, const char *root, bool below,
                  struct named **ret, size_t *ret_n, struct error *err)
{
    struct key k;
    struct span *keys;
    size_t n, kept = 0;
    const size_t len = strlen(root);

    enum errcode rc = state_keys(g->st, key_text(&k, TAB_NAME, span_str(root)),
                                 &g->arena, &keys, &n, err);
    if (rc != ERR_OK)
        return rc;
    struct named *all = arena_array(&g->arena, n + 1, sizeof(*all));
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        const char *name = arena_str(&g->arena, span_skip(keys[i], 1));
        if (name[len] != '\0' && !(below && name[len] == '.'))
            continue;
        all[kept].name = name;
        rc = state_lookup(g->st, name, &all[kept].id, err);
        kept++;
    }
    *ret = all;
    *ret_n = kept;
    return rc;
}

/* A name below DELETED. that nobody has. */
static enum errcode
deleted_name(struct group *g, const char *old, uint64_t now_s, const char **ret,
             struct error *err)
{
    mbid_t taken = 1;
    const char *name = NULL;
    enum errcode rc = ERR_OK;

    for (uint64_t at = now_s; rc == ERR_OK && taken != 0; at++) {
        name = name_deleted(old, "DELETED", at, &g->arena);
        rc = state_lookup(g->st, name, &taken, err);
    }
    if (rc == ERR_OK && strlen(name) > MAILBOX_NAME_MAX)
        rc = error_set(err, ERR_BADNAME, "%s is too long a name", name);
    *ret = name;
    return rc;
}

/* All of them to DELETED. names, in one record. */
static enum errcode
hide(struct group *g, const struct named *all, size_t n, uint64_t now_s,
     struct error *err)
{
    struct rec_rename rec = {0};
    enum errcode rc = ERR_OK;

    rec.moves = arena_array(&g->arena, n + 1, sizeof(*rec.moves));
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        if (name_is_deleted(all[i].name))
            continue;
        rec.moves[rec.n].id = all[i].id;
        rc = deleted_name(g, all[i].name, now_s, &rec.moves[rec.n].name, err);
        rec.n++;
    }
    return rc == ERR_OK && rec.n > 0 ? EMIT(rename, REC_RENAME, &rec, err) : rc;
}

static enum errcode
purge_whole(struct group *g, struct head *h, struct error *err)
{
    const struct rec_purge rec = {.id = h->mb.id, .live = true};

    enum errcode rc = resolve_drop_own_quota(
        g, arena_str(&g->arena, span_str(h->mb.name)), err);
    return rc == ERR_OK ? EMIT(purge, REC_PURGE, &rec, err) : rc;
}

/* The first N messages of a mailbox that goes. */
static enum errcode
purge_first(struct group *g, struct head *h, size_t n, struct error *err)
{
    struct state_iter it;
    struct message m;
    struct arena rows = ARENA_INIT;
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    enum errcode rc = ERR_OK;

    state_iter_open(g->st, h, &it);
    while (n > 0 && state_iter_next(&it, 1, &rows, &m, &rc, err)) {
        uidset_add(&uids, m.uid, m.uid);
        arena_reset(&rows);
        n--;
    }
    arena_free(&rows);
    rc = state_iter_close(&it, rc, err);
    return rc == ERR_OK ? resolve_emit_purge(g, h->mb.id, &uids, true, err)
                        : rc;
}

/* As many of the op's mailboxes as this turn may; op->next if some are left. */
static enum errcode
purge_some(struct group *g, struct op *op, struct error *err)
{
    size_t left = g->slice == 0 ? SIZE_MAX : g->slice;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < op->u.del.n && rc == ERR_OK; i++) {
        struct head *h;
        rc = state_head(g->st, op->u.del.ids[i], &h, err);
        if (rc != ERR_OK || h == NULL)
            continue; /* gone in an earlier turn */
        const size_t rows = (size_t)h->mb.exists + h->mb.expunged;
        if (left == 0 || rows > left) {
            op->next = op->at + 1;
            return left == 0 ? ERR_OK : purge_first(g, h, left, err);
        }
        left -= rows;
        rc = purge_whole(g, h, err);
    }
    return rc;
}

/* More than one turn's work? */
static enum errcode
is_much(struct group *g, const struct named *all, size_t n, bool *ret,
        struct error *err)
{
    uint64_t rows = 0;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        struct head *h;
        rc = resolve_mailbox(g, all[i].id, &h, err);
        if (rc == ERR_OK)
            rows += (uint64_t)h->mb.exists + h->mb.expunged;
    }
    *ret = g->slice != 0 && rows > g->slice;
    return rc;
}

enum errcode
op_delete(struct group *g, struct op *op, struct error *err)
{
    struct named *all;
    struct head *h;
    bool is_purge = !op->u.del.delayed, much = false;
    size_t n;

    if (op->at != 0)
        return purge_some(g, op, err);
    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc == ERR_OK)
        rc = resolve_list_tree(g, arena_str(&g->arena, span_str(h->mb.name)),
                               op->u.del.tree, &all, &n, err);
    if (rc == ERR_OK && name_is_deleted(h->mb.name))
        is_purge = true; /* delayed once is enough */
    if (rc == ERR_OK && is_purge)
        rc = is_much(g, all, n, &much, err);
    /* What stays below falls to the next quota above. */
    if (rc == ERR_OK && !op->u.del.tree)
        rc = resolve_drop_own_quota(g, all[0].name, err);
    if (rc == ERR_OK && (!is_purge || much))
        rc = hide(g, all, n,
                  op->u.del.now_s != 0 ? op->u.del.now_s : g->time_us / 1000000,
                  err);
    if (rc != ERR_OK || !is_purge)
        return rc;
    op->u.del.n = n;
    op->u.del.ids = xrealloc(op->u.del.ids, n * sizeof(*op->u.del.ids));
    for (size_t i = 0; i < n; i++)
        op->u.del.ids[i] = all[i].id;
    return purge_some(g, op, err);
}
