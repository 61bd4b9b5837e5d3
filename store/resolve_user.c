/*
 * store/resolve_user.c - objects of users: subscriptions, scripts, and marks of
 * deliveries.
 */
#include "store/resolve_private.h"

enum errcode
op_user(struct group *g, struct op *op, struct error *err)
{
    const struct rec_user rec = {
        .user = op->u.user.user,
        .kind = op->u.user.kind,
        .name = op->u.user.name,
        .is_set = op->u.user.is_set,
        .value = op->u.user.value,
    };
    struct key k;
    struct span old;

    enum errcode rc = resolve_check_text("user", rec.user, USER_MAX, err);
    if (rc == ERR_OK)
        rc = resolve_check_text("name", rec.name, MAILBOX_NAME_MAX, err);
    if (rc == ERR_OK && rec.value.n > USER_VALUE_MAX)
        rc = error_set(err, ERR_LIMIT, "value of %zu bytes", rec.value.n);
    if (rc != ERR_OK)
        return rc;
    rc = state_get(g->st, key_user(&k, rec.user, rec.kind, rec.name), &g->arena,
                   &old, err);
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    const bool is_there = rc == ERR_OK;
    if (is_there == rec.is_set && (!is_there || span_eq(old, rec.value)))
        return ERR_OK;
    return EMIT(user, REC_USER, &rec, err);
}

enum errcode
op_user_remove_all(struct group *g, struct op *op, struct error *err)
{
    const struct rec_rename rec = {.user_from = op->u.rename_user.from};

    if (rec.user_from == NULL || rec.user_from[0] == '\0')
        return error_set(err, ERR_BADNAME, "a user without a name");
    enum errcode rc = resolve_check_text("user", rec.user_from, USER_MAX, err);
    return rc == ERR_OK ? EMIT(rename, REC_RENAME, &rec, err) : rc;
}

/* Marks looked for in one turn. */
#define MARKS_PER_TURN 2000U

enum errcode
op_forget(struct group *g, struct op *op, struct error *err)
{
    const size_t n = op->u.forget.n;
    const size_t end =
        g->slice == 0 ? n : MIN(n, (size_t)op->at + MARKS_PER_TURN);
    uint8_t(*hashes)[DELIVERY_HASH_BYTES] =
        arena_array(&g->arena, n + 1, sizeof(*hashes));
    struct rec_forget rec = {.hashes =
                                 (const uint8_t(*)[DELIVERY_HASH_BYTES])hashes};
    struct span value;
    struct key k;

    for (size_t i = op->at; i < end; i++) {
        const uint8_t *hash = op->u.forget.hashes[i];
        enum errcode rc = state_get(
            g->st, key_text(&k, TAB_DEDUP, span_of(hash, DELIVERY_HASH_BYTES)),
            &g->st->scratch, &value, err);
        if (rc == ERR_OK)
            memcpy(hashes[rec.n++], hash, DELIVERY_HASH_BYTES);
        else if (rc != ERR_NOTFOUND)
            return rc;
    }
    if (end < n)
        op->next = (uint32_t)end;
    return rec.n > 0 ? EMIT(forget, REC_FORGET, &rec, err) : ERR_OK;
}
