/*
 * store/state_message.c - a message's row changes: with it the index rows, the
 * counters and the digest of its mailbox, and the usage of its quota root.
 */
#include "store/local.h"
#include "store/state_private.h"

static void
count(struct mailbox *mb, const struct message *m, bool in)
{
    const uint32_t one = in ? 1 : UINT32_MAX;

    if ((m->flags & FLAG_EXPUNGED) != 0) {
        mb->expunged += one;
        return;
    }
    mb->exists += one;
    mb->bytes += in ? m->size : 0 - m->size;
    if ((m->flags & FLAG_SEEN) == 0)
        mb->unseen += one;
    if ((m->flags & FLAG_DELETED) != 0)
        mb->deleted += one;
}

static bool
is_live(const struct message *m)
{
    return m != NULL && (m->flags & FLAG_EXPUNGED) == 0;
}

static void
put_message_row(struct state *st, struct head *head, const struct message *m)
{
    struct key k;
    const mbid_t id = head->mb.id;

    buf_clear(&st->value_scratch);
    message_encode(m, &st->value_scratch);
    struct span value = buf_span(&st->value_scratch);
    head->mb.digest ^= row_hash(key_message(&k, id, m->uid), value);
    state_put(st, key_span(&k), value);
}

static void
add_ref(struct state *st, mbid_t id, const struct message *m)
{
    struct key k;
    struct newref *r = arena_alloc(&st->arena, sizeof(*r));

    *r = (struct newref){m->guid, id, m->uid, st->newrefs[m->guid.b[0]]};
    st->newrefs[m->guid.b[0]] = r;
    state_put(st, key_guidref(&k, &m->guid, id, m->uid), SPAN_EMPTY);
}

static enum errcode
put_keywords(struct state *st, struct head *head, const struct message *m,
             struct error *err)
{
    struct key k;
    struct span value;

    for (size_t i = 0; i < m->nkeywords; i++) {
        struct span key = key_keyword(&k, head->mb.id, m->keywords[i]);
        enum errcode rc = state_get(st, key, &st->scratch, &value, err);
        if (rc == ERR_OK)
            continue;
        if (rc != ERR_NOTFOUND)
            return rc;
        head->mb.digest ^= row_hash(key, SPAN_EMPTY);
        state_put(st, key, SPAN_EMPTY);
    }
    return ERR_OK;
}

/* Annotations of a message count while it lives, and go with its row. */
static enum errcode
change_annots(struct state *st, struct head *head, const struct message *old,
              const struct message *new_row, uint64_t *ret_more,
              struct error *err)
{
    uint64_t bytes;

    if (old == NULL || (old->flags & FLAG_ANNOTATED) == 0)
        return ERR_OK;
    if (is_live(old) && !is_live(new_row)) {
        enum errcode rc = state_annot_bytes(st, head, old->uid, &bytes, err);
        if (rc != ERR_OK)
            return rc;
        head->mb.annot_bytes -= bytes;
        *ret_more = 0 - bytes;
    }
    return new_row == NULL ? state_drop_annots(st, head, old->uid, err)
                           : ERR_OK;
}

/* What OLD added to the digest, and what it counted. */
static void
take_out(struct state *st, struct head *head, const struct message *old)
{
    struct key k;
    const mbid_t id = head->mb.id;
    uint64_t hash;

    if (!state_take_row(st, id, old->uid, &hash)) {
        buf_clear(&st->value_scratch);
        message_encode(old, &st->value_scratch);
        hash = row_hash(key_message(&k, id, old->uid),
                        buf_span(&st->value_scratch));
    }
    head->mb.digest ^= hash;
    count(&head->mb, old, false);
}

/* The table of changes: OLD's MODSEQ is now that of NEW (either may be NULL).
 */
static enum errcode
change_modseq(struct state *st, mbid_t id, const struct message *old,
              const struct message *new_row, struct error *err)
{
    enum errcode rc = ERR_OK;

    if (old != NULL && new_row != NULL && old->modseq == new_row->modseq &&
        message_is_as_made(old) == message_is_as_made(new_row))
        return ERR_OK;
    if (old != NULL)
        rc = state_delete_changed(st, id, old, err);
    if (rc == ERR_OK && new_row != NULL)
        rc = state_put_changed(st, id, new_row, err);
    return rc;
}

enum errcode
state_change_message(struct state *st, struct head *head,
                     const struct message *old, const struct message *new_row,
                     struct error *err)
{
    struct key k;
    const mbid_t id = head->mb.id;
    const struct message *either = new_row != NULL ? new_row : old;
    uint64_t more[QUOTA_RESOURCES] = {0};

    state_touch_head(st, head);
    uidset_add(&head->touched, either->uid, either->uid);
    enum errcode rc =
        change_annots(st, head, old, new_row, &more[QUOTA_ANNOTATION], err);
    if (rc == ERR_OK)
        rc = change_modseq(st, id, old, new_row, err);
    if (rc != ERR_OK)
        return rc;
    if (old != NULL)
        take_out(st, head, old);
    if (new_row == NULL) {
        state_delete(st, key_message(&k, id, old->uid));
        state_delete(st, key_guidref(&k, &old->guid, id, old->uid));
        state_put(st, key_local_dead(&k, &old->guid), SPAN_EMPTY);
        head->mb.purged_modseq = MAX(head->mb.purged_modseq, old->modseq);
    } else {
        put_message_row(st, head, new_row);
        if (old == NULL)
            add_ref(st, id, new_row);
        count(&head->mb, new_row, true);
        head->mb.highestmodseq = MAX(head->mb.highestmodseq, new_row->modseq);
        rc = put_keywords(st, head, new_row, err);
        if (rc != ERR_OK)
            return rc;
    }
    more[QUOTA_STORAGE] =
        (is_live(new_row) ? new_row->size : 0) - (is_live(old) ? old->size : 0);
    more[QUOTA_MESSAGE] = (uint64_t)is_live(new_row) - (uint64_t)is_live(old);
    return state_charge(st, &head->mb, more, err);
}
