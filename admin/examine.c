/*
 * admin/examine.c - EXAMINE: a mailbox and its messages as they are stored
 * (mbexamine); with BODIES each message's bytes are read and compared with its
 * row, with QUOTA its sizes are added up.
 */
#include "admin/ask.h"

#define READ_BYTES (1U << 20)

struct examine {
    struct ask *ask;
    const struct mailbox *mb;
    struct uidset uids;
    bool has_uids, bodies, quota;
    uint64_t seq, from_seq, to_seq;
    uint64_t bytes, exists, wrong;
};

static const struct {
    uint32_t flag;
    const char *name;
} flag_names[] = {
    {FLAG_ANSWERED, "\\Answered"}, {FLAG_FLAGGED, "\\Flagged"},
    {FLAG_DELETED, "\\Deleted"},   {FLAG_SEEN, "\\Seen"},
    {FLAG_DRAFT, "\\Draft"},       {FLAG_EXPUNGED, "EXPUNGED"},
};

static void
add_flags(const struct message *m, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(flag_names); i++)
        if ((m->flags & flag_names[i].flag) != 0)
            buf_addf(out, "%s%s", out->n == 0 ? "" : " ", flag_names[i].name);
    for (size_t i = 0; i < m->nkeywords; i++) {
        buf_add_str(out, out->n == 0 ? "" : " ");
        buf_add(out, m->keywords[i]);
    }
}

/* Read all of the body, a part at a time; *RET_WHY "" if it is good. */
static enum errcode
check_body(struct ask *ask, const struct message *m, struct error *why)
{
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    uint64_t size = 0;

    enum errcode rc = store_body_stat(ask->store, &m->guid, &size, why);
    if (rc == ERR_OK && size != m->size)
        rc = error_set(why, ERR_CORRUPT,
                       "the row says %" PRIu64 " bytes, the body has %" PRIu64,
                       m->size, size);
    for (uint64_t at = 0; rc == ERR_OK && at < size; at += READ_BYTES) {
        buf_clear(&bytes);
        rc = store_body_read(ask->store, &m->guid, at, READ_BYTES, &bytes, why);
    }
    return rc;
}

static enum errcode
print_message(struct examine *e, const struct message *m, const char *wrong,
              struct error *err)
{
    AUTO(buf_free) struct buf flags = BUF_INIT;
    char guid[GUID_TEXT_BYTES];
    struct dlist_printer *p = ask_row(e->ask, "MESSAGE");

    add_flags(m, &flags);
    dlist_u64(p, "SEQ", e->seq);
    dlist_u64(p, "UID", m->uid);
    dlist_u64(p, "MODSEQ", m->modseq);
    dlist_u64(p, "CREATED", m->created_modseq);
    dlist_u64(p, "INTERNAL", (uint64_t)MAX(m->internal_s, 0));
    dlist_u64(p, "SAVED", (uint64_t)MAX(m->saved_s, 0));
    dlist_u64(p, "SIZE", m->size);
    dlist_str(p, "GUID", guid_text(&m->guid, guid));
    dlist_str(p, "FLAGS", buf_cstr(&flags));
    dlist_str(p, "WRONG", wrong);
    return ask_row_end(e->ask, err);
}

static bool
is_wanted(const struct examine *e, const struct message *m)
{
    if (e->has_uids)
        return uidset_has(&e->uids, m->uid);
    return e->seq >= e->from_seq && e->seq <= e->to_seq;
}

static enum errcode
examine_message(struct examine *e, const struct message *m, struct error *err)
{
    struct error why = {0};
    bool is_live = (m->flags & FLAG_EXPUNGED) == 0;

    if (is_live) {
        e->seq++;
        e->exists++;
        e->bytes += m->size;
    }
    if (!is_wanted(e, m))
        return ERR_OK;
    if (e->bodies) {
        enum errcode rc = check_body(e->ask, m, &why);
        if (rc == ERR_OK)
            return ask_progress(e->ask, e->exists, e->mb->exists, err);
        e->wrong++;
    } else if (e->quota) {
        return ERR_OK;
    }
    return print_message(e, m, why.text, err);
}

static enum errcode
print_head(struct examine *e, struct store_snap *snap, struct error *err)
{
    const struct mailbox *mb = e->mb;
    struct ask *ask = e->ask;
    const struct span *words = NULL;
    size_t nwords = 0;

    enum errcode rc =
        snap_keywords(snap, mb->id, &ask->arena, &words, &nwords, err);
    if (rc != ERR_OK)
        return rc;
    struct dlist_printer *p = ask_row(ask, "MAILBOX");
    dlist_str(p, "NAME", mb->name);
    dlist_str(p, "UNIQUEID", mb->uniqueid.s);
    dlist_u64(p, "NUMBER", mb->id);
    dlist_str(p, "PARTITION", mb->partition);
    dlist_str(p, "ROOT", mb->quota_root);
    dlist_str(p, "ACL", mb->acl);
    dlist_str(p, "USE", mb->special_use);
    dlist_u64(p, "UIDVALIDITY", mb->uidvalidity);
    dlist_u64(p, "UIDNEXT", mb->uidnext);
    dlist_u64(p, "MODSEQ", mb->highestmodseq);
    dlist_u64(p, "EXISTS", mb->exists);
    dlist_u64(p, "UNSEEN", mb->unseen);
    dlist_u64(p, "DELETED", mb->deleted);
    dlist_u64(p, "EXPUNGED", mb->expunged);
    dlist_u64(p, "BYTES", mb->bytes);
    dlist_u64(p, "OPTIONS", mb->options);
    dlist_u64(p, "APPENDED", mb->last_append_us / 1000000);
    dlist_hex64(p, "DIGEST", mb->digest);
    dlist_open_list(p, "KEYWORDS");
    for (size_t i = 0; i < nwords; i++)
        dlist_span(p, NULL, words[i]);
    dlist_close(p);
    return ask_row_end(ask, err);
}

static enum errcode
print_sum(struct examine *e, struct error *err)
{
    struct dlist_printer *p = ask_row(e->ask, "COUNTED");

    dlist_u64(p, "BYTES", e->bytes);
    dlist_u64(p, "EXISTS", e->exists);
    dlist_u64(p, "WRONG",
              e->wrong +
                  (e->bytes != e->mb->bytes || e->exists != e->mb->exists));
    return ask_row_end(e->ask, err);
}

static enum errcode
examine_mailbox(struct examine *e, mbid_t id, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(e->ask->store);
    struct mailbox mb;
    struct message m;
    struct error end_err = {0};

    enum errcode rc = snap_mailbox(snap, id, &e->ask->arena, &mb, err);
    if (rc != ERR_OK)
        return rc;
    e->mb = &mb;
    e->seq = e->bytes = e->exists = e->wrong = 0;
    rc = print_head(e, snap, err);
    if (rc != ERR_OK)
        return rc;
    struct msg_iter *it = snap_messages(snap, id, 1, true);
    while (rc == ERR_OK && msg_iter_next(it, &m))
        rc = examine_message(e, &m, err);
    enum errcode end = msg_iter_close(&it, &end_err);
    if (rc == ERR_OK && end != ERR_OK) {
        *err = end_err;
        rc = end;
    }
    return rc == ERR_OK ? print_sum(e, err) : rc;
}

enum errcode
admin_examine(struct ask *ask, struct error *err)
{
    struct examine e = {
        .ask = ask,
        .bodies = ask_flag(ask, "BODIES"),
        .quota = ask_flag(ask, "QUOTA"),
        .to_seq = UINT64_MAX,
    };
    uint64_t seq = 0;

    enum errcode rc = ask_uids(ask, "UIDS", &e.uids, &e.has_uids, err);
    if (rc == ERR_OK)
        rc = ask_u64(ask, "SEQ", &seq, err);
    if (rc == ERR_OK && seq > 0)
        e.from_seq = e.to_seq = seq;
    for (const struct dlist *d = ask_list(ask, "NAMES");
         rc == ERR_OK && d != NULL; d = d->next) {
        struct ask_mailboxes m = {0};
        struct error why = {0};
        rc = ask_mailboxes_named(ask, d->text, false, &m, &why);
        for (size_t i = 0; rc == ERR_OK && i < m.n; i++)
            rc = examine_mailbox(&e, m.ids[i], err);
        if (why.code == ERR_NOTFOUND || why.code == ERR_BADNAME) {
            struct dlist_printer *p = ask_row(ask, "FAILED");
            dlist_span(p, "NAME", d->text);
            dlist_str(p, "TEXT", why.text);
            rc = ask_row_end(ask, err);
        } else if (why.code != ERR_OK) {
            *err = why;
        }
        ask_mailboxes_free(&m);
    }
    uidset_free(&e.uids);
    return rc;
}
