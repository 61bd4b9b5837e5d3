/*
 * admin/reconstruct.c - RECONSTRUCT: derived data made again, the rest checked
 * (reconstruct).
 *
 * What is derived: the record of each message for FETCH, SORT and THREAD.  One
 * that is missing (a seed does not carry them) or does not fit its message is
 * made from the message's bytes.  That is this instance's own business, so a
 * replica may do it too.
 *
 * What is not derived (rows, counters, digests, bodies) cannot be guessed from
 * anything else here: it is compared, and what differs is told.  The way out is
 * then the twin.
 */
#include "admin/ask.h"

#include "mime/message.h"

struct reconstruct {
    struct ask *ask;
    bool dry, deep, no_stat;
    struct store_snap *snap;
    const struct mailbox *mb;
    uint64_t mailboxes, messages, mended, wrong;
};

static enum errcode
tell(struct reconstruct *r, uint32_t uid, const char *text, bool can_mend,
     struct error *err)
{
    struct dlist_printer *p = ask_row(r->ask, can_mend ? "MENDED" : "WRONG");

    if (can_mend)
        r->mended++;
    else
        r->wrong++;
    dlist_str(p, "NAME", r->mb == NULL ? "" : r->mb->name);
    dlist_u64(p, "UID", uid);
    dlist_str(p, "TEXT", text);
    return ask_row_end(r->ask, err);
}

/* All bytes of M, and with -G its GUID counted anew. */
static enum errcode
read_message(struct reconstruct *r, const struct message *m, struct buf *raw,
             struct error *why)
{
    AUTO(body_free) struct body *body = NULL;

    enum errcode rc =
        store_body_read(r->ask->store, &m->guid, 0, m->size + 1, raw, why);
    if (rc == ERR_OK && raw->n != m->size)
        rc = error_set(why, ERR_CORRUPT,
                       "its row says %" PRIu64 " bytes, its body has %zu",
                       m->size, raw->n);
    if (rc != ERR_OK || !r->deep)
        return rc;
    body = store_body_new(r->ask->store, m->size);
    rc = body_write(body, buf_span(raw), why);
    if (rc == ERR_OK)
        rc = body_finish(body, why);
    if (rc == ERR_OK && !guid_eq(body_guid(body), &m->guid))
        rc = error_set(why, ERR_CORRUPT, "its bytes are not those of its GUID");
    return rc;
}

/* Does the derived record that is there fit?  NULL, or what is wrong. */
static const char *
judge_record(struct reconstruct *r, const struct message *m, struct buf *record)
{
    struct mime_cache cache;
    struct error ignored = {0};

    if (snap_cache(r->snap, r->mb->id, m->uid, record, &ignored) != ERR_OK)
        return "its derived record was missing";
    if (mime_cache_decode(buf_span(record), &cache, &ignored) != ERR_OK)
        return "its derived record was unreadable";
    if (cache.message_size != m->size)
        return "its derived record was that of another message";
    return NULL;
}

static enum errcode
rebuild_record(struct reconstruct *r, const struct message *m, const char *text,
               struct span old, struct error *err)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;
    AUTO(buf_free) struct buf record = BUF_INIT;
    struct mime_message *parsed = NULL;
    struct error why = {0};

    enum errcode rc = read_message(r, m, &raw, &why);
    if (rc == ERR_IO || rc == ERR_CLOSED) {
        *err = why;
        return rc;
    }
    if (rc != ERR_OK)
        return tell(r, m->uid, why.text, false, err);
    mime_parse(buf_span(&raw), NULL, &parsed);
    mime_cache_encode(parsed, &record);
    mime_message_free(&parsed);
    if (text == NULL && span_eq(buf_span(&record), old))
        return ERR_OK;
    if (!r->dry)
        store_cache_put(r->ask->store, r->mb->id, m->uid, buf_span(&record));
    return tell(r, m->uid,
                text != NULL ? text
                             : "its derived record was not that of its bytes",
                true, err);
}

static enum errcode
check_message(struct reconstruct *r, const struct message *m, struct error *err)
{
    AUTO(buf_free) struct buf record = BUF_INIT;
    struct error why = {0};
    uint64_t size = 0;

    const char *text = judge_record(r, m, &record);
    if (text != NULL || r->deep)
        return rebuild_record(r, m, text, buf_span(&record), err);
    if (r->no_stat)
        return ERR_OK;
    enum errcode rc = store_body_stat(r->ask->store, &m->guid, &size, &why);
    if (rc == ERR_OK && size != m->size)
        rc = error_set(&why, ERR_CORRUPT,
                       "its row says %" PRIu64 " bytes, its body has %" PRIu64,
                       m->size, size);
    return rc == ERR_OK ? ERR_OK : tell(r, m->uid, why.text, false, err);
}

/* ---- mailboxes --------------------------------------------------------- */

static void
count(struct mailbox *sum, const struct message *m)
{
    if ((m->flags & FLAG_EXPUNGED) != 0) {
        sum->expunged++;
        return;
    }
    sum->exists++;
    sum->bytes += m->size;
    sum->unseen += (m->flags & FLAG_SEEN) == 0;
    sum->deleted += (m->flags & FLAG_DELETED) != 0;
}

static enum errcode
compare(struct reconstruct *r, const struct mailbox *sum, struct error *err)
{
    const struct mailbox *mb = r->mb;
    const char *what = mb->exists != sum->exists       ? "messages"
                       : mb->bytes != sum->bytes       ? "bytes"
                       : mb->unseen != sum->unseen     ? "unseen messages"
                       : mb->deleted != sum->deleted   ? "deleted messages"
                       : mb->expunged != sum->expunged ? "expunged messages"
                                                       : NULL;
    if (what == NULL)
        return ERR_OK;
    return tell(r, 0,
                arena_printf(&r->ask->arena,
                             "its count of %s is not what is there", what),
                false, err);
}

static enum errcode
reconstruct_mailbox(struct reconstruct *r, mbid_t id, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(r->ask->store);
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct mailbox mb, sum = {0};
    struct message m;
    struct error end_err = {0};

    enum errcode rc = snap_mailbox(snap, id, &a, &mb, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK; /* it went meanwhile */
    if (rc != ERR_OK)
        return rc;
    r->snap = snap;
    r->mb = &mb;
    r->mailboxes++;
    struct msg_iter *it = snap_messages(snap, id, 1, true);
    while (rc == ERR_OK && msg_iter_next(it, &m)) {
        count(&sum, &m);
        if ((m.flags & FLAG_EXPUNGED) != 0)
            continue;
        r->messages++;
        rc = check_message(r, &m, err);
        if (rc == ERR_OK && r->messages % 64 == 0 &&
            !r->ask->answer->pause(r->ask->answer->ctx, 0))
            rc = error_set(err, ERR_CLOSED, "nobody waits any more");
    }
    enum errcode end = msg_iter_close(&it, &end_err);
    if (rc == ERR_OK && end == ERR_CORRUPT)
        rc = tell(r, 0, end_err.text, false, err);
    else if (rc == ERR_OK && end != ERR_OK) {
        *err = end_err;
        rc = end;
    }
    if (rc == ERR_OK && end == ERR_OK)
        rc = compare(r, &sum, err);
    if (rc == ERR_OK) {
        struct dlist_printer *p = ask_row(r->ask, "MAILBOX");
        dlist_str(p, "NAME", mb.name);
        rc = ask_row_end(r->ask, err);
    }
    r->mb = NULL;
    return rc;
}

/* Counters, quotas and digests of everything. */
static enum errcode
verify_store(struct reconstruct *r, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(r->ask->store);
    struct error why = {0};

    enum errcode rc = snap_verify(snap, &why);
    if (rc == ERR_CORRUPT)
        return tell(r, 0, why.text, false, err);
    if (rc != ERR_OK)
        *err = why;
    return rc;
}

static enum errcode
choose(struct ask *ask, struct ask_mailboxes *ret, bool *ret_named,
       struct error *err)
{
    bool tree = ask_flag(ask, "TREE"), users = ask_flag(ask, "USERS");
    enum errcode rc = ERR_OK;

    *ret_named = false;
    for (const struct dlist *d = ask_list(ask, "NAMES");
         rc == ERR_OK && d != NULL; d = d->next) {
        *ret_named = true;
        rc = users ? ask_mailboxes_of(ask, d->text, ret, err)
                   : ask_mailboxes_named(ask, d->text, tree, ret, err);
    }
    if (!*ret_named)
        rc = ask_mailboxes_below(ask, "", NULL, NULL, ret, err);
    return rc;
}

enum errcode
admin_reconstruct(struct ask *ask, struct error *err)
{
    struct reconstruct r = {
        .ask = ask,
        .dry = ask_flag(ask, "DRY"),
        .deep = ask_flag(ask, "DEEP"),
        .no_stat = ask_flag(ask, "NOSTAT"),
    };
    struct ask_mailboxes m = {0};
    bool named = false;

    enum errcode rc = choose(ask, &m, &named, err);
    for (size_t i = 0; rc == ERR_OK && i < m.n; i++) {
        rc = reconstruct_mailbox(&r, m.ids[i], err);
        if (rc == ERR_OK)
            rc = ask_progress(ask, i + 1, m.n, err);
    }
    ask_mailboxes_free(&m);
    if (rc == ERR_OK && !named)
        rc = verify_store(&r, err);
    if (rc != ERR_OK)
        return rc;
    struct dlist_printer *p = ask_row(ask, "SUM");
    dlist_u64(p, "MAILBOXES", r.mailboxes);
    dlist_u64(p, "MESSAGES", r.messages);
    dlist_u64(p, "MENDED", r.mended);
    dlist_u64(p, "WRONG", r.wrong);
    return ask_row_end(ask, err);
}
