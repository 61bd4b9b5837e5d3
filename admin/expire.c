/*
 * admin/expire.c - EXPIRE: what has had its time goes for good (cyr_expire).
 *
 *   marks of deliveries     older than MARKS seconds
 *   messages                older (INTERNALDATE) than the expire annotation of
 *                           their mailbox says: expunged, and then as below
 *   expunged messages       expunged more than EXPUNGED seconds ago
 *   deleted mailboxes       deleted more than DELETED seconds ago, or what
 *                           their delete annotation says
 *
 * Annotations are inherited: of a mailbox or else of the nearest above it.  All
 * goes in small transactions with pauses between, and each mailbox is looked at
 * in a snapshot of its own, so that deliveries and readers do not notice.
 *
 * Something that changes while it is looked at (a mailbox that is gone) is
 * passed over; whatever ends the run (the role has changed, the disk is full)
 * leaves what was done.
 */
#include "admin/ask.h"

#define CHUNK 256U
#define ANNOT_PREFIX "/vendor/cmu/cyrus-imapd/"
#define NEVER UINT64_MAX

struct expire {
    struct ask *ask;
    uint64_t now_s;
    uint64_t now_us;                /* the same moment */
    uint64_t expunged_s, deleted_s; /* ages; NEVER: not asked for */
    uint64_t archive_s;
    bool annotations, verbose;
    bool messages; /* -E: expire by annotation */
    struct store_snap *snap;
    const struct mailbox *mb;
    struct arena scratch; /* of one mailbox */

    uint64_t mailboxes, seen, expired, purged, removed, marks;
    uint64_t mb_expired, mb_purged; /* of the one that is under way */
};

/* ---- annotations ------------------------------------------------------- */

/* "3", "3d", "12h": seconds; false: says nothing. */
static bool
parse_age(struct span text, uint64_t *ret_s)
{
    uint64_t unit = 86400, n = 0;

    if (text.n > 0) {
        switch (text.p[text.n - 1]) {
        case 'd':
            text.n--;
            break;
        case 'h':
            unit = 3600;
            text.n--;
            break;
        case 'm':
            unit = 60;
            text.n--;
            break;
        case 's':
            unit = 1;
            text.n--;
            break;
        default:
            break;
        }
    }
    if (!parse_u64(text, &n) || n > UINT64_C(1000000) * 86400 / unit)
        return false;
    *ret_s = n * unit;
    return true;
}

/*
 * The age that annotation WHAT of the mailbox NAME says, or of the nearest one
 * above it.  False: none does.
 */
static bool
annotated_age(struct expire *e, const char *name, const char *what,
              uint64_t *ret_s)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    const char *entry = arena_printf(&e->scratch, ANNOT_PREFIX "%s", what);
    struct mailbox mb;
    struct error ignored = {0};

    for (; name != NULL; name = name_parent(name, &e->scratch)) {
        if (snap_mailbox_by_name(e->snap, name, &e->scratch, &mb, &ignored) !=
            ERR_OK)
            continue;
        buf_clear(&value);
        if (snap_annot_get(e->snap, mb.id, 0, entry, "", &value, &ignored) ==
                ERR_OK &&
            parse_age(buf_span(&value), ret_s))
            return true;
    }
    return false;
}

/* ---- messages ---------------------------------------------------------- */

static enum errcode
flush(struct expire *e, struct uidset *uids, bool purge, struct error *err)
{
    AUTO(txn_free) struct store_txn *txn = txn_new();
    uint64_t n = uidset_count(uids);

    if (n == 0)
        return ERR_OK;
    if (purge)
        txn_purge(txn, e->mb->id, uids);
    else
        txn_expunge(txn, e->mb->id, uids, false);
    uidset_clear(uids);
    enum errcode rc = ask_commit(e->ask, txn, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK; /* the mailbox went meanwhile */
    if (rc != ERR_OK)
        return rc;
    if (purge)
        e->mb_purged += n;
    else
        e->mb_expired += n;
    return ERR_OK;
}

static bool
is_older(const struct expire *e, int64_t then_s, uint64_t age_s)
{
    return then_s <= 0
               ? age_s != NEVER
               : age_s <= e->now_s && (uint64_t)then_s <= e->now_s - age_s;
}

/* Messages older than EXPIRE_S (NEVER: none) are expunged, tombstones that are
 * old enough purged. */
static enum errcode
walk_messages(struct expire *e, uint64_t expire_s, struct error *err)
{
    struct uidset expunge = UIDSET_INIT, purge = UIDSET_INIT;
    struct msg_iter *it = snap_messages(e->snap, e->mb->id, 1, true);
    struct message m;
    struct error end_err = {0};
    enum errcode rc = ERR_OK;
    uint64_t n = 0;

    while (rc == ERR_OK && msg_iter_next(it, &m)) {
        bool is_gone = (m.flags & FLAG_EXPUNGED) != 0;
        e->seen += !is_gone;
        if (is_gone && is_older(e, m.expunged_s, e->expunged_s))
            uidset_add(&purge, m.uid, m.uid);
        else if (!is_gone && expire_s != NEVER &&
                 is_older(e, m.internal_s, expire_s))
            uidset_add(&expunge, m.uid, m.uid);
        else
            continue;
        if (++n % CHUNK != 0)
            continue;
        rc = flush(e, &expunge, false, err);
        if (rc == ERR_OK)
            rc = flush(e, &purge, true, err);
    }
    enum errcode end = msg_iter_close(&it, &end_err);
    if (rc == ERR_OK && end != ERR_OK) {
        *err = end_err;
        rc = end;
    }
    if (rc == ERR_OK)
        rc = flush(e, &expunge, false, err);
    if (rc == ERR_OK)
        rc = flush(e, &purge, true, err);
    uidset_free(&expunge);
    uidset_free(&purge);
    return rc;
}

static enum errcode
tell_mailbox(struct expire *e, struct error *err)
{
    if (!e->verbose || e->mb_expired + e->mb_purged == 0)
        return ERR_OK;
    struct dlist_printer *p = ask_row(e->ask, "MAILBOX");
    dlist_str(p, "NAME", e->mb->name);
    dlist_u64(p, "EXPIRED", e->mb_expired);
    dlist_u64(p, "PURGED", e->mb_purged);
    return ask_row_end(e->ask, err);
}

/* ---- deleted mailboxes ------------------------------------------------- */

/* When "DELETED.user.joe.66B1C0DE" was deleted; 0: it does not say. */
static uint64_t
deleted_when(const char *name, const char **ret_original, struct arena *a)
{
    const char *dot = strrchr(name, '.');
    uint64_t when = 0;

    if (dot == NULL || dot - name < 8 ||
        !parse_hex_u64(span_str(dot + 1), &when))
        return 0;
    *ret_original = arena_str(a, span_of(name + 8, (size_t)(dot - name - 8)));
    return when;
}

static enum errcode
expire_deleted(struct expire *e, bool *ret_removed, struct error *err)
{
    AUTO(txn_free) struct store_txn *txn = txn_new();
    const char *original = NULL;
    uint64_t age_s = e->deleted_s;
    const struct uidset all = UIDSET_INIT;
    uint64_t when = deleted_when(e->mb->name, &original, &e->scratch);

    *ret_removed = false;
    if (when == 0 || e->deleted_s == NEVER)
        return ERR_OK;
    if (e->annotations && !annotated_age(e, e->mb->name, "delete", &age_s))
        (void)annotated_age(e, original, "delete", &age_s);
    if (!is_older(e, (int64_t)when, age_s))
        return ERR_OK;
    txn_purge(txn, e->mb->id, &all);
    enum errcode rc = ask_commit(e->ask, txn, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return error_prefix(err, "%s", e->mb->name);
    *ret_removed = true;
    e->removed++;
    if (!e->verbose)
        return ERR_OK;
    struct dlist_printer *p = ask_row(e->ask, "REMOVED");
    dlist_str(p, "NAME", e->mb->name);
    return ask_row_end(e->ask, err);
}

/* ---- one mailbox after the other --------------------------------------- */

static enum errcode
expire_mailbox(struct expire *e, mbid_t id, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(e->ask->store);
    struct mailbox mb;
    uint64_t expire_s = NEVER;
    bool removed = false;

    arena_reset(&e->scratch);
    enum errcode rc = snap_mailbox(snap, id, &e->scratch, &mb, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    e->snap = snap;
    e->mb = &mb;
    e->mb_expired = e->mb_purged = 0;
    e->mailboxes++;
    if (mb.is_deleted)
        rc = expire_deleted(e, &removed, err);
    if (rc != ERR_OK || removed)
        return rc;
    if (!mb.is_deleted && e->messages && e->annotations &&
        (!annotated_age(e, mb.name, "expire", &expire_s) || expire_s == 0))
        expire_s = NEVER;
    if (expire_s != NEVER || (e->expunged_s != NEVER && mb.expunged > 0))
        rc = walk_messages(e, expire_s, err);
    else
        e->seen += mb.exists;
    e->expired += e->mb_expired;
    e->purged += e->mb_purged;
    if (rc != ERR_OK)
        return error_prefix(err, "%s", mb.name);
    return tell_mailbox(e, err);
}

/* Those that the request is about, deleted ones with them. */
static enum errcode
choose(struct expire *e, struct ask_mailboxes *ret, struct error *err)
{
    struct ask *ask = e->ask;
    const char *prefix = ask_text(ask, "PREFIX");
    const char *user = ask_text(ask, "USER");
    const char *internal = "";
    enum errcode rc = ERR_OK;

    if (user != NULL)
        rc = name_inbox(user, &ask->arena, &internal, err);
    else if (prefix != NULL)
        internal = ask_prefix(ask, span_str(prefix));
    if (rc == ERR_OK && user != NULL) {
        struct error ignored = {0};
        rc = ask_mailboxes_of(ask, span_str(user), ret, &ignored);
        rc = rc == ERR_NOTFOUND ? ERR_OK : rc;
        internal = arena_printf(&ask->arena, "DELETED.%s.", internal);
    } else if (rc == ERR_OK) {
        rc = ask_mailboxes_below(ask, internal, NULL, NULL, ret, err);
        if (strncmp(internal, "DELETED.", 8) == 0)
            return rc;
        internal = arena_printf(&ask->arena, "DELETED.%s", internal);
    }
    if (rc == ERR_OK)
        rc = ask_mailboxes_below(ask, internal, NULL, NULL, ret, err);
    return rc;
}

static enum errcode
expire_mailboxes(struct expire *e, struct error *err)
{
    struct ask_mailboxes m = {0};

    enum errcode rc = choose(e, &m, err);
    for (size_t i = 0; rc == ERR_OK && i < m.n; i++) {
        rc = expire_mailbox(e, m.ids[i], err);
        if (rc == ERR_OK)
            rc = ask_progress(e->ask, i + 1, m.n, err);
        if (rc == ERR_OK && !e->ask->answer->pause(e->ask->answer->ctx, 0))
            rc = error_set(err, ERR_CLOSED, "nobody waits any more");
    }
    ask_mailboxes_free(&m);
    return rc;
}

/* ---- marks of deliveries ----------------------------------------------- */

struct marks {
    uint64_t before_us;
    uint8_t (*hashes)[16];
    size_t n, room;
};

static bool
take_mark(void *ctx, const uint8_t hash[16], uint64_t time_us)
{
    struct marks *m = ctx;

    if (time_us > m->before_us)
        return true;
    if (m->n == m->room) {
        m->room = m->room == 0 ? 1024 : 2 * m->room;
        m->hashes = xrealloc(m->hashes, m->room * sizeof(*m->hashes));
    }
    memcpy(m->hashes[m->n++], hash, 16);
    return true;
}

static enum errcode
expire_marks(struct expire *e, uint64_t age_s, struct error *err)
{
    struct marks m = {0};
    AUTO(store_release) struct store_snap *snap = NULL;

    if (age_s > e->now_s)
        return ERR_OK;
    /* To the microsecond: "0s" is all that came before now. */
    m.before_us = e->now_us - age_s * 1000000;
    snap = store_snapshot(e->ask->store);
    enum errcode rc = snap_each_delivery(snap, take_mark, &m, err);
    for (size_t at = 0; rc == ERR_OK && at < m.n; at += CHUNK) {
        AUTO(txn_free) struct store_txn *txn = txn_new();
        size_t n = MIN(m.n - at, (size_t)CHUNK);
        txn_forget_deliveries(txn, (const uint8_t(*)[16])(m.hashes + at), n);
        rc = ask_commit(e->ask, txn, err);
        e->marks += rc == ERR_OK ? n : 0;
    }
    xfree(&m.hashes);
    return rc;
}

/* ---- the verb ---------------------------------------------------------- */

static enum errcode
tell_sum(struct expire *e, struct error *err)
{
    struct dlist_printer *p = ask_row(e->ask, "SUM");

    dlist_u64(p, "MAILBOXES", e->mailboxes);
    dlist_u64(p, "MESSAGES", e->seen);
    dlist_u64(p, "EXPIRED", e->expired);
    dlist_u64(p, "PURGED", e->purged);
    dlist_u64(p, "REMOVED", e->removed);
    dlist_u64(p, "MARKS", e->marks);
    return ask_row_end(e->ask, err);
}

enum errcode
admin_expire(struct ask *ask, struct error *err)
{
    const uint64_t now_us = env_wall_us(ask->env);
    struct expire e = {
        .ask = ask,
        .now_s = now_us / 1000000,
        .now_us = now_us,
        .expunged_s = NEVER,
        .deleted_s = NEVER,
        .annotations = !ask_flag(ask, "NOANNOTATIONS"),
        .verbose = ask_flag(ask, "VERBOSE"),
    };
    uint64_t marks_s = NEVER;

    enum errcode rc = ask_u64(ask, "EXPUNGED", &e.expunged_s, err);
    if (rc == ERR_OK)
        rc = ask_u64(ask, "DELETED", &e.deleted_s, err);
    if (rc == ERR_OK)
        rc = ask_u64(ask, "MARKS", &marks_s, err);
    if (rc != ERR_OK)
        return rc;
    e.messages = marks_s != NEVER && !ask_flag(ask, "NOEXPUNGE");
    if (e.expunged_s != NEVER || e.deleted_s != NEVER || e.messages)
        rc = expire_mailboxes(&e, err);
    if (rc == ERR_OK && marks_s != NEVER && ask_text(ask, "PREFIX") == NULL &&
        ask_text(ask, "USER") == NULL)
        rc = expire_marks(&e, marks_s, err);
    struct error ignored = {0};
    enum errcode told = tell_sum(&e, rc == ERR_OK ? err : &ignored);
    arena_free(&e.scratch);
    return rc == ERR_OK ? told : rc;
}

/* DELIVERIES: the marks, as they are (ctl_deliver -d). */

struct lister {
    struct ask *ask;
    enum errcode rc;
    struct error *err;
};

static bool
list_mark(void *ctx, const uint8_t hash[16], uint64_t time_us)
{
    struct lister *l = ctx;
    char text[33];
    struct dlist_printer *p = ask_row(l->ask, "MARK");

    format_hex_bytes(hash, 16, text);
    dlist_str(p, "HASH", text);
    dlist_u64(p, "TIME", time_us / 1000000);
    l->rc = ask_row_end(l->ask, l->err);
    return l->rc == ERR_OK;
}

enum errcode
admin_deliveries(struct ask *ask, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(ask->store);
    struct lister l = {.ask = ask, .err = err};

    enum errcode rc = snap_each_delivery(snap, list_mark, &l, err);
    return rc == ERR_OK ? l.rc : rc;
}
