/*
 * store/apply_private.h - what apply.c and apply_rename.c share.
 */
#ifndef POLLUX_STORE_APPLY_PRIVATE_H
#define POLLUX_STORE_APPLY_PRIVATE_H

#include "store/state.h"

/* A record being applied. */
struct apply {
    struct state *st;
    const struct record *rec;
    const struct apply_place *place;
    /* Of what this record changes: its own, or the next of a mailbox that came
     * from a peer with higher ones (apply_head()). */
    modseq_t *modseq;
    mbid_t *modseq_for; /* the mailbox that it is for; 0: none yet */
    struct error *err;
};

/* The head of a mailbox that the record speaks of; ERR_CORRUPT if there is
 * none.  What changes in it now has a MODSEQ above all that it had before this
 * record, and all that changes in a row has the same one. */
static inline enum errcode
apply_head(const struct apply *ap, mbid_t id, struct head **ret)
{
    enum errcode rc = state_head(ap->st, id, ret, ap->err);
    if (rc == ERR_OK && *ret == NULL)
        rc = error_set(ap->err, ERR_CORRUPT, "mailbox %" PRIu64 " is not there",
                       id);
    if (rc == ERR_OK && *ap->modseq_for != id) {
        *ap->modseq_for = id;
        *ap->modseq = modseq_of(ap->rec->epoch, ap->rec->lsn);
        if ((*ret)->mb.highestmodseq >= *ap->modseq)
            *ap->modseq = (*ret)->mb.highestmodseq + 1;
    }
    return rc;
}

static inline void
apply_put_mbid(struct state *st, struct span key, mbid_t id)
{
    uint8_t value[8];

    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (uint8_t)(id >> (8 * i));
    state_put(st, key, span_of(value, sizeof(value)));
}

/* A copy that lives for the group. */
static inline const char *
apply_keep(struct state *st, const char *s)
{
    return arena_str(&st->arena, span_str(s));
}

/*
 * Set (VALUE NULL: remove) an annotation of a mailbox (UID 0) or a message,
 * whose MODSEQ becomes the record's unless it is a tombstone or KEEP_MODSEQ.
 */
MUST_CHECK enum errcode
apply_put_annot(const struct apply *ap, struct head *h, uint32_t uid,
                const char *entry, const char *user, const struct span *value,
                bool keep_modseq);

/*
 * Put (or delete) the rows by which those named in the ACL of MB find it
 * (snap_each_visible()).  Whoever changes the ACL deletes before and puts
 * after.
 */
void
apply_index_acl(struct state *st, const struct mailbox *mb, bool put);

/* REC_RENAME. */
MUST_CHECK enum errcode
apply_rename(const struct apply *ap);

#endif
