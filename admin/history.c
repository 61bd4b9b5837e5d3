/*
 * admin/history.c - HISTORY, HISTORYBODY, HISTORYDROP and HISTORYEXPORT: what
 * was purged and is kept here (sync_keep_history), told, given out and let go
 * of (ctl_history).
 *
 * A mailbox that was deleted has a name below DELETED. when it is purged; who
 * asks means the name that it had, so both are shown and that one is compared.
 * Walks hold no snapshot (A6): what comes or goes meanwhile is told or is not.
 */
#include <stdlib.h>

#include "admin/ask.h"
#include "admin/export.h"
#include "base/log.h"
#include "store/body.h"
#include "store/history.h"

#define HEADER_BYTES (64U << 10) /* looked into for names and subject */
#define CHUNK_BYTES (64U << 10)
/* Without the one that made it go. */
#define SHOWN_FLAGS (FLAGS_SETTABLE & ~(uint32_t)FLAG_DELETED)
#define DELETED_LEVEL "DELETED."
#define DELETED_TIME_DIGITS 8U

/* ---- which -------------------------------------------------------------- */

struct asked {
    struct ask *ask;
    const char *user;     /* NULL: anybody */
    const char *name;     /* internal; NULL: any */
    const char *uniqueid; /* NULL: any */
    struct uidset uids;
    bool has_uids, has_guid;
    struct guid guid;
    uint64_t since_us, until_us; /* when it was purged; until: not any more */
    struct arena row;
};

static bool
read_guid(const char *text, struct guid *ret)
{
    for (size_t i = 0; i < GUID_BYTES; i++) {
        unsigned v = 0;
        for (size_t j = 0; j < 2; j++) {
            const char c = text[2 * i + j];
            if (c >= '0' && c <= '9')
                v = v << 4 | (unsigned)(c - '0');
            else if (c >= 'a' && c <= 'f')
                v = v << 4 | (unsigned)(c - 'a' + 10);
            else
                return false;
        }
        ret->b[i] = (uint8_t)v;
    }
    return text[2 * (size_t)GUID_BYTES] == '\0';
}

/* The name that a mailbox had before it was deleted, in A. */
static const char *
name_before(const char *name, struct arena *a)
{
    const size_t n = strlen(name);
    size_t digits = 0;

    if (strncmp(name, DELETED_LEVEL, strlen(DELETED_LEVEL)) != 0)
        return name;
    while (digits < n && strchr("0123456789ABCDEF", name[n - 1 - digits]))
        digits++;
    if (digits != DELETED_TIME_DIGITS || name[n - 1 - digits] != '.' ||
        n - 1 - digits <= strlen(DELETED_LEVEL))
        return name + strlen(DELETED_LEVEL);
    return arena_str(a, span_sub(span_str(name), strlen(DELETED_LEVEL),
                                 n - 1 - digits - strlen(DELETED_LEVEL)));
}

static enum errcode
read_asked(struct ask *ask, struct asked *ret, struct error *err)
{
    const char *external = ask_text(ask, "NAME");
    const char *guid = ask_text(ask, "GUID");
    const char *inbox = NULL;

    *ret = (struct asked){.ask = ask,
                          .user = ask_text(ask, "USER"),
                          .uniqueid = ask_text(ask, "UNIQUEID"),
                          .until_us = UINT64_MAX};
    enum errcode rc = ask_u64(ask, "SINCE", &ret->since_us, err);
    if (rc == ERR_OK)
        rc = ask_u64(ask, "UNTIL", &ret->until_us, err);
    if (rc == ERR_OK)
        rc = ask_uids(ask, "UIDS", &ret->uids, &ret->has_uids, err);
    if (rc == ERR_OK && external != NULL)
        rc =
            ask_internal(ask, span_str(external), &ask->arena, &ret->name, err);
    if (rc == ERR_OK && ret->user != NULL)
        rc = name_inbox(ret->user, &ask->arena, &inbox, err);
    ret->has_guid = guid != NULL;
    if (rc == ERR_OK && guid != NULL && !read_guid(guid, &ret->guid))
        rc = error_set(err, ERR_SYNTAX, "%.100s: a GUID has 40 hex digits",
                       guid);
    return rc;
}

static bool
is_asked_for(struct asked *q, const struct history *h)
{
    if (h->purged_us < q->since_us || h->purged_us >= q->until_us ||
        (q->has_guid && !guid_eq(&h->msg.guid, &q->guid)) ||
        (q->has_uids && !uidset_has(&q->uids, h->at.uid)) ||
        (q->uniqueid != NULL && strcmp(h->uniqueid.s, q->uniqueid) != 0))
        return false;
    arena_reset(&q->row);
    if (q->user != NULL) {
        const char *owner = name_owner(h->name, &q->row);
        if (owner == NULL || strcmp(owner, q->user) != 0)
            return false;
    }
    return q->name == NULL || strcmp(h->name, q->name) == 0 ||
           strcmp(name_before(h->name, &q->row), q->name) == 0;
}

/* Call for each that is asked for, oldest first, until CALL fails. */
struct walk {
    struct asked *q;
    enum errcode (*call)(void *ctx, const struct history *h, struct error *err);
    void *ctx;
    uint64_t found;
    enum errcode rc;
    struct error *err;
};

static bool
look(void *ctx, const struct history *h)
{
    struct walk *w = ctx;

    if (!is_asked_for(w->q, h))
        return true;
    w->found++;
    w->rc = w->call(w->ctx, h, w->err);
    return w->rc == ERR_OK;
}

static enum errcode
each_asked_for(struct asked *q,
               enum errcode (*call)(void *ctx, const struct history *h,
                                    struct error *err),
               void *ctx, uint64_t *ret_found, struct error *err)
{
    const struct csync_answer *answer = q->ask->answer;
    struct walk w = {.q = q, .call = call, .ctx = ctx, .err = err};
    struct history_at after = {0};
    bool more = !q->has_guid;
    enum errcode rc = ERR_OK;

    if (q->has_guid)
        rc = store_history_of(q->ask->store, &q->guid, look, &w, err);
    while (rc == ERR_OK && w.rc == ERR_OK && more) {
        rc = store_history_walk(q->ask->store, &after, look, &w, &more, err);
        if (rc == ERR_OK && w.rc == ERR_OK && more &&
            !answer->pause(answer->ctx, 0))
            rc = error_set(err, ERR_CLOSED,
                           "nobody waits for the answer any more");
    }
    *ret_found = w.found;
    return rc == ERR_OK ? w.rc : rc;
}

/* Nothing was found: why? */
static enum errcode
say_nothing_found(struct ask *ask, struct error *err)
{
    struct history_view v;
    enum errcode rc = store_history_view(ask->store, &v, err);

    if (rc != ERR_OK)
        return rc;
    if (v.rows == 0 && v.keep_s == 0)
        return error_set(err, ERR_NOTFOUND,
                         "this instance keeps no history "
                         "(sync_keep_history is not set)");
    return error_set(err, ERR_NOTFOUND,
                     "of the %" PRIu64
                     " purged messages that are kept here none is asked for",
                     v.rows);
}

/* ---- HISTORY ------------------------------------------------------------ */

static void
print_flags(struct dlist_printer *p, const struct message *m)
{
    static const struct {
        uint32_t flag;
        const char *name;
    } names[] = {{FLAG_ANSWERED, "\\Answered"},
                 {FLAG_FLAGGED, "\\Flagged"},
                 {FLAG_DELETED, "\\Deleted"},
                 {FLAG_SEEN, "\\Seen"},
                 {FLAG_DRAFT, "\\Draft"}};
    AUTO(buf_free) struct buf text = BUF_INIT;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if ((m->flags & names[i].flag) != 0)
            buf_addf(&text, "%s%s", text.n > 0 ? " " : "", names[i].name);
    for (size_t i = 0; i < m->nkeywords; i++) {
        buf_add_str(&text, text.n > 0 ? " " : "");
        buf_add(&text, m->keywords[i]);
    }
    dlist_span(p, "FLAGS", buf_span(&text));
}

struct telling {
    struct asked *q;
    bool has_headers;
};

static void
print_headers(struct ask *ask, struct dlist_printer *p, const struct message *m)
{
    static const struct {
        const char *key, *field;
    } fields[] = {{"SENT", "Date"},
                  {"FROM", "From"},
                  {"TO", "To"},
                  {"SUBJECT", "Subject"}};
    AUTO(buf_free) struct buf header = BUF_INIT;
    struct error why = {0};

    if (store_body_read(ask->store, &m->guid, 0, HEADER_BYTES, &header, &why) !=
        ERR_OK)
        buf_clear(&header);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        ask_field(p, fields[i].key, buf_span(&header), fields[i].field);
    dlist_str(p, "WRONG", why.text);
}

static enum errcode
tell(void *ctx, const struct history *h, struct error *err)
{
    struct telling *t = ctx;
    struct ask *ask = t->q->ask;
    struct arena *a = &t->q->row;
    char guid[GUID_TEXT_BYTES];
    const char *owner = name_owner(h->name, a);
    struct dlist_printer *p = ask_row(ask, "HISTORY");

    dlist_str(p, "NAME", h->name);
    dlist_str(p, "BEFORE", name_before(h->name, a));
    dlist_str(p, "USER", owner == NULL ? "" : owner);
    dlist_str(p, "UNIQUEID", h->uniqueid.s);
    dlist_u64(p, "UIDVALIDITY", h->uidvalidity);
    dlist_u64(p, "UID", h->at.uid);
    dlist_str(p, "GUID", guid_text(&h->msg.guid, guid));
    dlist_u64(p, "SIZE", h->msg.size);
    dlist_u64(p, "RECV", (uint64_t)MAX(h->msg.internal_s, 0));
    dlist_u64(p, "MODSEQ", h->msg.modseq);
    print_flags(p, &h->msg);
    dlist_u64(p, "EXPG", (uint64_t)MAX(h->msg.expunged_s, 0));
    dlist_u64(p, "PURGED", h->purged_us);
    dlist_str(p, "WAY", h->way == HISTORY_SEEDED ? "seeded" : "purged");
    dlist_u64(p, "EPOCH", h->at.epoch);
    dlist_u64(p, "LSN", h->at.lsn);
    if (t->has_headers)
        print_headers(ask, p, &h->msg);
    return ask_row_end(ask, err);
}

enum errcode
admin_history(struct ask *ask, struct error *err)
{
    struct asked q;
    uint64_t found = 0;
    struct history_view v = {0};

    enum errcode rc = read_asked(ask, &q, err);
    struct telling t = {.q = &q, .has_headers = ask_flag(ask, "HEADERS")};
    if (rc == ERR_OK)
        rc = each_asked_for(&q, tell, &t, &found, err);
    if (rc == ERR_OK && found == 0)
        rc = say_nothing_found(ask, err);
    if (rc == ERR_OK)
        rc = store_history_view(ask->store, &v, err);
    if (rc == ERR_OK) {
        struct dlist_printer *p = ask_row(ask, "SUM");
        dlist_u64(p, "FOUND", found);
        dlist_u64(p, "KEPT", v.rows);
        dlist_u64(p, "KEPTBYTES", v.bytes);
        rc = ask_row_end(ask, err);
    }
    uidset_free(&q.uids);
    arena_free(&q.row);
    return rc;
}

/* ---- HISTORYBODY -------------------------------------------------------- */

struct only {
    struct guid guid;
    uint64_t size;
    bool is_one, are_many;
};

static enum errcode
take_only(void *ctx, const struct history *h, struct error *err)
{
    struct only *o = ctx;

    (void)err;
    o->are_many |= o->is_one && !guid_eq(&o->guid, &h->msg.guid);
    o->is_one = true;
    o->guid = h->msg.guid;
    o->size = h->msg.size;
    return ERR_OK;
}

static enum errcode
send_body(struct ask *ask, const struct only *o, struct error *err)
{
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    enum errcode rc = ERR_OK;

    for (uint64_t at = 0; rc == ERR_OK && at < o->size; at += CHUNK_BYTES) {
        buf_clear(&bytes);
        rc =
            store_body_read(ask->store, &o->guid, at, CHUNK_BYTES, &bytes, err);
        if (rc != ERR_OK)
            break;
        struct dlist_printer *p = ask_row(ask, "DATA");
        dlist_span(p, "BYTES", buf_span(&bytes));
        rc = ask_row_end(ask, err);
    }
    return rc;
}

enum errcode
admin_history_body(struct ask *ask, struct error *err)
{
    struct asked q;
    struct only o = {0};
    uint64_t found = 0;

    enum errcode rc = read_asked(ask, &q, err);
    if (rc == ERR_OK && !q.has_guid && (q.name == NULL || !q.has_uids))
        rc =
            error_set(err, ERR_SYNTAX, "GUID, or NAME and one UID, are needed");
    if (rc == ERR_OK)
        rc = each_asked_for(&q, take_only, &o, &found, err);
    if (rc == ERR_OK && found == 0)
        rc = say_nothing_found(ask, err);
    if (rc == ERR_OK && o.are_many)
        rc = error_set(err, ERR_SYNTAX,
                       "several messages are kept that this names: ask for "
                       "one by its GUID");
    if (rc == ERR_OK)
        rc = send_body(ask, &o, err);
    uidset_free(&q.uids);
    arena_free(&q.row);
    return rc;
}

/* ---- HISTORYDROP -------------------------------------------------------- */

#define DROP_ROWS 1024U /* between two looks whether anybody still waits */

struct dropping {
    struct ask *ask;
    struct history_at v[DROP_ROWS];
    size_t n;
    uint64_t dropped, bytes;
};

/* What was gathered, but for what came in the middle of a walk. */
static enum errcode
drop_gathered(struct dropping *d, struct error *err)
{
    uint64_t dropped = 0;
    enum errcode rc =
        store_history_drop(d->ask->store, d->v, d->n, &dropped, err);

    d->dropped += dropped;
    d->n = 0;
    return rc;
}

static enum errcode
gather_drop(void *ctx, const struct history *h, struct error *err)
{
    struct dropping *d = ctx;

    d->v[d->n++] = h->at;
    d->bytes += h->msg.size;
    return d->n == DROP_ROWS ? drop_gathered(d, err) : ERR_OK;
}

enum errcode
admin_history_drop(struct ask *ask, struct error *err)
{
    struct dropping *d = xcalloc(1, sizeof(*d));
    struct asked q;
    uint64_t found = 0;

    d->ask = ask;
    enum errcode rc = read_asked(ask, &q, err);
    if (rc == ERR_OK && q.user == NULL && q.name == NULL && !q.has_guid)
        rc = error_set(err, ERR_SYNTAX, "USER, NAME or GUID is needed");
    if (rc == ERR_OK)
        rc = each_asked_for(&q, gather_drop, d, &found, err);
    if (rc == ERR_OK)
        rc = drop_gathered(d, err);
    if (rc == ERR_OK && found == 0)
        rc = say_nothing_found(ask, err);
    if (d->dropped > 0)
        log_notice(NULL, "admin.history_dropped",
                   "user=\"%.100s\" mailbox=\"%.300s\" messages=%" PRIu64,
                   q.user == NULL ? "" : q.user, q.name == NULL ? "" : q.name,
                   d->dropped);
    if (rc == ERR_OK) {
        struct dlist_printer *p = ask_row(ask, "DROPPED");
        dlist_u64(p, "MESSAGES", d->dropped);
        dlist_u64(p, "BYTES", d->bytes);
        rc = ask_row_end(ask, err);
    }
    uidset_free(&q.uids);
    arena_free(&q.row);
    free(d);
    return rc;
}

/* ---- HISTORYEXPORT ------------------------------------------------------ */

/* What is exported: the row is read again when its turn is. */
struct chosen {
    const char *before; /* in `names` */
    struct guid guid;
    uint32_t uidvalidity, uid, flags;
    int64_t internal_s;
};

struct exporting {
    struct asked *q;
    struct export x;
    struct chosen *v;
    size_t n, room;
    struct arena names;
    const char *last; /* the name that came last */
};

static enum errcode
choose(void *ctx, const struct history *h, struct error *err)
{
    struct exporting *e = ctx;
    const char *before = name_before(h->name, &e->q->row);

    (void)err;
    if (e->n == e->room) {
        e->room = e->room * 2 + 64;
        e->v = xrealloc(e->v, e->room * sizeof(*e->v));
    }
    if (e->last == NULL || strcmp(e->last, before) != 0)
        e->last = arena_str(&e->names, span_str(before));
    e->v[e->n++] = (struct chosen){
        .before = e->last,
        .guid = h->msg.guid,
        .uidvalidity = h->uidvalidity,
        .uid = h->at.uid,
        .flags = h->msg.flags,
        .internal_s = h->msg.internal_s,
    };
    return ERR_OK;
}

static int
by_folder(const void *pa, const void *pb)
{
    const struct chosen *a = pa, *b = pb;
    const int name = strcmp(a->before, b->before);

    if (name != 0)
        return name;
    if (a->uidvalidity != b->uidvalidity)
        return a->uidvalidity < b->uidvalidity ? -1 : 1;
    return a->uid < b->uid ? -1 : a->uid > b->uid;
}

static enum errcode
export_one(struct exporting *e, const struct chosen *c, struct error *err)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;
    const struct message m = {.uid = c->uid,
                              .flags = c->flags & SHOWN_FLAGS,
                              .internal_s = c->internal_s};
    struct error why = {0};
    struct ask *ask = e->q->ask;

    if (store_body_read(ask->store, &c->guid, 0, UINT64_MAX, &raw, &why) ==
        ERR_OK)
        return export_message(&e->x, &m, buf_span(&raw), err);
    e->x.failed++;
    struct dlist_printer *p = ask_row(ask, "FAILED");
    dlist_str(p, "NAME", c->before);
    dlist_u64(p, "UID", c->uid);
    dlist_str(p, "TEXT", why.text);
    return ask_row_end(ask, err);
}

/* What follows INBOX's name; of a shared mailbox all of it. */
static const char *
below_inbox(struct exporting *e, const char *before)
{
    const char *owner = name_owner(before, &e->q->row);
    const char *inbox = NULL;

    if (owner == NULL || name_inbox(owner, &e->q->row, &inbox, NULL) != ERR_OK)
        return arena_printf(&e->q->row, ".%s", before);
    return before + MIN(strlen(inbox), strlen(before));
}

static enum errcode
export_all(struct exporting *e, struct error *err)
{
    struct ask *ask = e->q->ask;
    enum errcode rc = ERR_OK;

    if (e->n > 1)
        qsort(e->v, e->n, sizeof(*e->v), by_folder);
    for (size_t i = 0; rc == ERR_OK && i < e->n; i++) {
        const struct chosen *c = &e->v[i];
        const struct chosen *last = i == 0 ? NULL : &e->v[i - 1];
        if (last != NULL && by_folder(last, c) == 0)
            continue; /* noted twice: before a seed, and by it */
        if (last == NULL || strcmp(last->before, c->before) != 0) {
            arena_reset(&e->q->row);
            rc = export_folder(&e->x, below_inbox(e, c->before), c->uidvalidity,
                               err);
        }
        e->x.uidvalidity = c->uidvalidity;
        if (rc == ERR_OK)
            rc = export_one(e, c, err);
        if (rc == ERR_OK)
            rc = ask_progress(ask, i + 1, e->n, err);
        if (rc == ERR_OK && !ask->answer->pause(ask->answer->ctx, 0))
            rc = error_set(err, ERR_CLOSED,
                           "nobody waits for the answer any more");
    }
    return rc;
}

enum errcode
admin_history_export(struct ask *ask, struct error *err)
{
    const char *target = ask_text(ask, "TARGET");
    struct asked q;
    struct exporting e = {.q = &q};
    uint64_t found = 0;

    enum errcode rc = read_asked(ask, &q, err);
    if (rc == ERR_OK && (target == NULL || target[0] != '/' ||
                         (q.user == NULL && q.name == NULL)))
        rc = error_set(err, ERR_SYNTAX,
                       "USER or NAME, and TARGET as an absolute path, are "
                       "needed");
    if (rc == ERR_OK)
        rc = each_asked_for(&q, choose, &e, &found, err);
    if (rc == ERR_OK && found == 0)
        rc = say_nothing_found(ask, err);
    if (rc == ERR_OK)
        rc = export_open(ask->env, target,
                         ask_flag(ask, "MBOX") ? EXPORT_MBOX : EXPORT_MAILDIR,
                         &e.x, err);
    if (rc == ERR_OK)
        rc = export_all(&e, err);
    if (rc == ERR_OK) {
        struct dlist_printer *p = ask_row(ask, "EXPORTED");
        dlist_u64(p, "FOLDERS", e.x.folders);
        dlist_u64(p, "MESSAGES", e.x.messages);
        dlist_u64(p, "BYTES", e.x.bytes);
        dlist_u64(p, "FAILED", e.x.failed);
        rc = ask_row_end(ask, err);
    }
    export_close(&e.x);
    free(e.v);
    arena_free(&e.names);
    uidset_free(&q.uids);
    arena_free(&q.row);
    return rc;
}
