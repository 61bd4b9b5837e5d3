/*
 * store/resolve_user.c - objects of users: subscriptions, scripts.
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
