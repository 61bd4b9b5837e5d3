/*
 * store/state_changed.c - the table of changes: by MODSEQ, which messages have
 * it.
 *
 * A message that is as its record made it has a row of its own; a STORE over a
 * thousand messages would make a thousand of them, and delete as many.  So what
 * was changed later shares rows: one for each record and block of UIDs, with
 * their set.  Which of the two it is follows from the message's row.
 *
 * While a record is applied the sets are gathered here, and when it is done
 * each row is read and written once.
 */
#include "store/state_private.h"

/* More sets than this under way are written and begun anew. */
#define OPEN_SETS ARRAY_LEN(((struct state *)NULL)->changed)

static enum errcode
read_set(struct state *st, struct span key, struct uidset *ret,
         struct error *err)
{
    struct span value;

    enum errcode rc = state_get(st, key, &st->scratch, &value, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    return rc == ERR_OK ? changed_decode(value, ret, err) : rc;
}

static enum errcode
write_set(struct state *st, struct changed_set *c, struct error *err)
{
    AUTO(uidset_free) struct uidset now = UIDSET_INIT;
    struct key k;
    struct span key = key_changed_set(&k, c->id, c->modseq, c->block);

    enum errcode rc = read_set(st, key, &now, err);
    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < c->gone.n; i++)
        uidset_remove(&now, c->gone.r[i].first, c->gone.r[i].last);
    uidset_add_set(&now, &c->come);
    if (now.n == 0) {
        state_delete(st, key);
        return ERR_OK;
    }
    buf_clear(&st->value_scratch);
    uidset_encode(&now, &st->value_scratch);
    state_put(st, key, buf_span(&st->value_scratch));
    return ERR_OK;
}

enum errcode
state_settle_changed(struct state *st, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < st->nchanged && rc == ERR_OK; i++)
        rc = write_set(st, &st->changed[i], err);
    state_forget_changed(st);
    return rc;
}

void
state_forget_changed(struct state *st)
{
    for (size_t i = 0; i < st->nchanged; i++) {
        uidset_clear(&st->changed[i].come);
        uidset_clear(&st->changed[i].gone);
    }
    st->nchanged = 0;
}

/* The set that M belongs to. */
static enum errcode
set_of(struct state *st, mbid_t id, const struct message *m,
       struct changed_set **ret, struct error *err)
{
    const uint32_t block = m->uid >> CHANGED_BLOCK_BITS;

    for (size_t i = st->nchanged; i-- > 0;) {
        struct changed_set *c = &st->changed[i];
        if (c->modseq == m->modseq && c->block == block && c->id == id) {
            *ret = c;
            return ERR_OK;
        }
    }
    enum errcode rc =
        st->nchanged == OPEN_SETS ? state_settle_changed(st, err) : ERR_OK;
    struct changed_set *c = &st->changed[st->nchanged++];
    c->id = id;
    c->modseq = m->modseq;
    c->block = block;
    *ret = c;
    return rc;
}

enum errcode
state_put_changed(struct state *st, mbid_t id, const struct message *m,
                  struct error *err)
{
    struct key k;
    struct changed_set *c;

    if (message_is_as_made(m)) {
        state_put(st, key_changed(&k, id, m->modseq, m->uid), SPAN_EMPTY);
        return ERR_OK;
    }
    enum errcode rc = set_of(st, id, m, &c, err);
    if (rc == ERR_OK)
        uidset_add(&c->come, m->uid, m->uid);
    return rc;
}

enum errcode
state_delete_changed(struct state *st, mbid_t id, const struct message *m,
                     struct error *err)
{
    struct key k;
    struct changed_set *c;

    if (message_is_as_made(m)) {
        state_delete(st, key_changed(&k, id, m->modseq, m->uid));
        return ERR_OK;
    }
    enum errcode rc = set_of(st, id, m, &c, err);
    if (rc != ERR_OK)
        return rc;
    uidset_remove(&c->come, m->uid, m->uid);
    uidset_add(&c->gone, m->uid, m->uid);
    return ERR_OK;
}
