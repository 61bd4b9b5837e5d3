/*
 * admin/unexpunge.c - EXPUNGED and UNEXPUNGE: what users have expunged and not
 * lost yet, told and brought back (unexpunge).
 */
#include "admin/ask.h"

#define HEADER_BYTES (64U << 10) /* looked into for names and subject */
#define CHUNK 200U

struct chosen {
    struct ask *ask;
    struct mailbox mb;
    struct uidset uids;
    bool has_uids;
    uint64_t since_s; /* expunged then or later */
};

static enum errcode
choose(struct ask *ask, struct store_snap *snap, struct chosen *c,
       struct error *err)
{
    const char *external = ask_text(ask, "NAME");
    const char *name = NULL;
    uint64_t within_s = 0;

    *c = (struct chosen){.ask = ask};
    if (external == NULL)
        return error_set(err, ERR_SYNTAX, "no mailbox is named");
    enum errcode rc =
        ask_internal(ask, span_str(external), &ask->arena, &name, err);
    if (rc == ERR_OK)
        rc = snap_mailbox_by_name(snap, name, &ask->arena, &c->mb, err);
    if (rc == ERR_NOTFOUND)
        return error_set(err, rc, "%.300s: there is no such mailbox", external);
    if (rc == ERR_OK)
        rc = ask_uids(ask, "UIDS", &c->uids, &c->has_uids, err);
    if (rc == ERR_OK)
        rc = ask_u64(ask, "WITHIN", &within_s, err);
    uint64_t now_s = env_wall_us(ask->env) / 1000000;
    if (rc == ERR_OK && within_s > 0)
        c->since_s = now_s > within_s ? now_s - within_s : 0;
    return rc;
}

static bool
is_chosen(const struct chosen *c, const struct message *m)
{
    return (m->flags & FLAG_EXPUNGED) != 0 &&
           (m->flags & FLAG_UNEXPUNGED) == 0 &&
           (!c->has_uids || uidset_has(&c->uids, m->uid)) &&
           (c->since_s == 0 ||
            (m->expunged_s > 0 && (uint64_t)m->expunged_s >= c->since_s));
}

/* ---- EXPUNGED ---------------------------------------------------------- */

static enum errcode
print_expunged(struct ask *ask, const struct message *m, struct error *err)
{
    AUTO(buf_free) struct buf header = BUF_INIT;
    struct error why = {0};
    char guid[GUID_TEXT_BYTES];

    if (store_body_read(ask->store, &m->guid, 0, HEADER_BYTES, &header, &why) !=
        ERR_OK)
        buf_clear(&header);
    struct dlist_printer *p = ask_row(ask, "EXPUNGED");
    dlist_u64(p, "UID", m->uid);
    dlist_u64(p, "SIZE", m->size);
    dlist_u64(p, "RECV", (uint64_t)MAX(m->internal_s, 0));
    dlist_u64(p, "EXPG", (uint64_t)MAX(m->expunged_s, 0));
    dlist_str(p, "GUID", guid_text(&m->guid, guid));
    ask_field(p, "SENT", buf_span(&header), "Date");
    ask_field(p, "FROM", buf_span(&header), "From");
    ask_field(p, "TO", buf_span(&header), "To");
    ask_field(p, "CC", buf_span(&header), "Cc");
    ask_field(p, "BCC", buf_span(&header), "Bcc");
    ask_field(p, "SUBJECT", buf_span(&header), "Subject");
    dlist_str(p, "WRONG", why.text);
    return ask_row_end(ask, err);
}

/* CALL for each one that is chosen. */
static enum errcode
each_chosen(struct chosen *c, struct store_snap *snap,
            enum errcode (*call)(struct chosen *c, const struct message *m,
                                 void *ctx, struct error *err),
            void *ctx, struct error *err)
{
    struct msg_iter *it = snap_messages(snap, c->mb.id, 1, true);
    struct message m;
    struct error end_err = {0};
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && msg_iter_next(it, &m))
        if (is_chosen(c, &m))
            rc = call(c, &m, ctx, err);
    enum errcode end = msg_iter_close(&it, &end_err);
    if (rc == ERR_OK && end != ERR_OK) {
        *err = end_err;
        rc = end;
    }
    return rc;
}

static enum errcode
tell_one(struct chosen *c, const struct message *m, void *ctx,
         struct error *err)
{
    (void)ctx;
    return print_expunged(c->ask, m, err);
}

enum errcode
admin_expunged(struct ask *ask, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(ask->store);
    struct chosen c;

    enum errcode rc = choose(ask, snap, &c, err);
    if (rc == ERR_OK)
        rc = each_chosen(&c, snap, tell_one, NULL, err);
    uidset_free(&c.uids);
    return rc;
}

/* ---- UNEXPUNGE --------------------------------------------------------- */

static enum errcode
gather_one(struct chosen *c, const struct message *m, void *ctx,
           struct error *err)
{
    struct uidset *to = ctx;

    (void)c;
    (void)err;
    uidset_add(to, m->uid, m->uid);
    return ERR_OK;
}

static enum errcode
set_flag(struct ask *ask, mbid_t id, const struct uidset *uids,
         const char *flag, struct error *err)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } system[] = {{"answered", FLAG_ANSWERED},
                  {"flagged", FLAG_FLAGGED},
                  {"deleted", FLAG_DELETED},
                  {"seen", FLAG_SEEN},
                  {"draft", FLAG_DRAFT}};
    AUTO(txn_free) struct store_txn *txn = txn_new();
    struct span word = span_str(flag);
    struct txn_flags op = {.id = id, .uids = uids, .mode = FLAGS_ADD};

    if (word.n > 0 && word.p[0] == '\\')
        word = span_skip(word, 1);
    for (size_t i = 0; i < ARRAY_LEN(system); i++)
        if (span_eq_nocase_str(word, system[i].name))
            op.flags = system[i].flag;
    if (op.flags == 0) {
        op.keywords = &word;
        op.nkeywords = 1;
    }
    txn_flags(txn, &op);
    return ask_commit(ask, txn, err);
}

static enum errcode
tell_restored(struct ask *ask, const struct txn_result *result,
              struct error *err)
{
    uint32_t from = uidset_next(&result->from, 1);
    uint32_t to = uidset_next(&result->uids, 1);
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && from != 0 && to != 0) {
        struct dlist_printer *p = ask_row(ask, "RESTORED");
        dlist_u64(p, "FROM", from);
        dlist_u64(p, "UID", to);
        rc = ask_row_end(ask, err);
        from = from == UINT32_MAX ? 0 : uidset_next(&result->from, from + 1);
        to = to == UINT32_MAX ? 0 : uidset_next(&result->uids, to + 1);
    }
    return rc;
}

static enum errcode
restore(struct ask *ask, mbid_t id, const struct uidset *uids,
        struct error *err)
{
    AUTO(txn_free) struct store_txn *txn = txn_new();
    const char *flag = ask_text(ask, "FLAG");

    size_t op = txn_unexpunge(txn, id, uids, ask_flag(ask, "CLEAR"));
    enum errcode rc = ask_commit(ask, txn, err);
    if (rc != ERR_OK)
        return rc;
    const struct txn_result *result = txn_result(txn, op);
    if (flag != NULL && uidset_count(&result->uids) > 0)
        rc = set_flag(ask, id, &result->uids, flag, err);
    return rc == ERR_OK ? tell_restored(ask, result, err) : rc;
}

static enum errcode
restore_all(struct ask *ask, mbid_t id, const struct uidset *all,
            struct error *err)
{
    struct uidset part = UIDSET_INIT;
    enum errcode rc = ERR_OK;
    uint64_t n = 0;

    for (uint32_t uid = uidset_next(all, 1); rc == ERR_OK && uid != 0;
         uid = uid == UINT32_MAX ? 0 : uidset_next(all, uid + 1)) {
        uidset_add(&part, uid, uid);
        if (++n % CHUNK != 0)
            continue;
        rc = restore(ask, id, &part, err);
        uidset_clear(&part);
    }
    if (rc == ERR_OK && part.n > 0)
        rc = restore(ask, id, &part, err);
    uidset_free(&part);
    return rc;
}

enum errcode
admin_unexpunge(struct ask *ask, struct error *err)
{
    struct uidset all = UIDSET_INIT;
    struct chosen c;
    struct store_snap *snap = store_snapshot(ask->store);

    enum errcode rc = choose(ask, snap, &c, err);
    if (rc == ERR_OK)
        rc = each_chosen(&c, snap, gather_one, &all, err);
    store_release(&snap);
    if (rc == ERR_OK)
        rc = restore_all(ask, c.mb.id, &all, err);
    uidset_free(&all);
    uidset_free(&c.uids);
    return rc;
}
