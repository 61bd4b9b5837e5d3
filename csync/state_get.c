/*
 * csync/state_get.c - GET: what a peer asks before it sends changes, and what
 * our own sync_client reads from its instance.
 *
 * Every answer is from one snapshot.  Lines are given out as they are made, a
 * long one (FULLMAILBOX, a message) in pieces, so an answer costs as much
 * memory as one mailbox head, whoever asks.
 *
 * USERS, SHARED, SEERS, READERS, CHANGES, BODIES and MBIDS are ours:
 * sync_client walks users with them, and asks for what changed in a mailbox
 * instead of all of it; SEEN too (csync/state_meta.c).
 */
#include "csync/state.h"

#include <stdlib.h>

#include <openssl/evp.h>

#include "store/names.h"
#include "store/tree.h"

#define PIECE_BYTES (64U << 10)
#define NAMES_PER_LINE 200U

enum errcode
bystate_say(struct state_call *c, struct error *err)
{
    const bool waiting = c->answer->bytes(c->answer->ctx, buf_span(&c->out));

    buf_clear(&c->out);
    return waiting ? ERR_OK
                   : error_set(err, ERR_CLOSED, "nobody waits for the answer");
}

void
bystate_begin_line(struct state_call *c, struct dlist_printer *p)
{
    buf_add_str(&c->out, "* ");
    dlist_print_begin(p, &c->out, DLIST_SERVER);
}

enum errcode
bystate_end_line(struct state_call *c, struct error *err)
{
    buf_add_str(&c->out, "\r\n");
    return c->out.n >= PIECE_BYTES ? bystate_say(c, err) : ERR_OK;
}

enum errcode
bystate_one_text(struct state_call *c, const char **ret, struct error *err)
{
    if (c->args == NULL ||
        (c->args->type != DLIST_ATOM && c->args->type != DLIST_NIL) ||
        span_find_byte(c->args->text, 0, 0) >= 0)
        return error_set(err, ERR_SYNTAX, "one name is wanted");
    *ret = arena_str(&c->arena, c->args->text);
    return ERR_OK;
}

static enum errcode
one_list(struct state_call *c, const struct dlist **ret, struct error *err)
{
    if (c->args == NULL || c->args->type != DLIST_LIST)
        return error_set(err, ERR_SYNTAX, "a list is wanted");
    *ret = c->args->child;
    return ERR_OK;
}

/* ---- mailboxes ---------------------------------------------------------- */

struct ids {
    mbid_t *v;
    size_t n, cap;
    const char *inbox; /* that and below; NULL: all */
    bool shared_only;
};

static bool
add_id(void *ctx, const struct mailbox *mb)
{
    struct ids *ids = ctx;
    const size_t skip = ids->inbox == NULL ? 0 : strlen(ids->inbox);

    if (ids->inbox != NULL && mb->name[skip] != '\0' && mb->name[skip] != '.')
        return true;
    if (ids->shared_only) {
        struct arena a = ARENA_INIT;
        const bool owned = name_owner(mb->name, &a) != NULL;
        arena_free(&a);
        if (owned)
            return true;
    }
    if (ids->n == ids->cap) {
        ids->cap = ids->cap * 2 + 16;
        ids->v = xrealloc(ids->v, ids->cap * sizeof(*ids->v));
    }
    ids->v[ids->n++] = mb->id;
    return true;
}

static enum errcode
print_mailbox(struct state_call *c, struct store_snap *snap, mbid_t id,
              struct error *err)
{
    struct sync_mailbox mb;
    struct dlist_printer p;
    struct arena a = ARENA_INIT;

    enum errcode rc = bystate_load_mailbox(snap, id, c->cache, &a, &mb, err);
    if (rc == ERR_OK) {
        bystate_begin_line(c, &p);
        sync_mailbox_print(&mb, &p);
        dlist_close(&p);
        rc = bystate_end_line(c, err);
    }
    arena_free(&a);
    return rc;
}

static enum errcode
print_quota(struct state_call *c, const struct quota *q, struct error *err)
{
    static const struct {
        const char *key;
        enum quota_resource resource;
        unsigned unit;
    } keys[] = {
        {"STORAGE", QUOTA_STORAGE, 1024},
        {"MESSAGE", QUOTA_MESSAGE, 1},
        {"X-ANNOTATION-STORAGE", QUOTA_ANNOTATION, 1024},
        {"X-NUM-FOLDERS", QUOTA_FOLDERS, 1},
    };
    struct dlist_printer p;

    bystate_begin_line(c, &p);
    dlist_open_kv(&p, "QUOTA");
    dlist_str(&p, "ROOT", q->root);
    const uint64_t storage = q->limit[QUOTA_STORAGE];
    dlist_u64(&p, "LIMIT",
              storage == QUOTA_UNLIMITED ? UINT32_MAX : storage / 1024);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (q->limit[keys[i].resource] != QUOTA_UNLIMITED)
            dlist_u64(&p, keys[i].key,
                      q->limit[keys[i].resource] / keys[i].unit);
    dlist_close(&p);
    return bystate_end_line(c, err);
}

struct quota_walk {
    struct state_call *c;
    const char *inbox;
    enum errcode rc;
    struct error *err;
};

static bool
on_quota(void *ctx, const struct quota *q)
{
    struct quota_walk *w = ctx;
    const char end = q->root[strlen(w->inbox)];

    if (end == '\0' || end == '.')
        w->rc = print_quota(w->c, q, w->err);
    return w->rc == ERR_OK;
}

/* ---- verbs -------------------------------------------------------------- */

static enum errcode
get_user(struct state_call *c, struct store_snap *snap, struct error *err)
{
    const char *user, *inbox;
    struct ids ids = {0};
    size_t real = 0;

    enum errcode rc = bystate_one_text(c, &user, err);
    if (rc != ERR_OK || name_inbox(user, &c->arena, &inbox, NULL) != ERR_OK)
        return rc;
    ids.inbox = inbox;
    rc = snap_each_mailbox(snap, inbox, add_id, &ids, err);
    real = ids.n;
    ids.inbox = NULL;
    if (rc == ERR_OK)
        rc = snap_each_mailbox(snap,
                               arena_printf(&c->arena, "DELETED.%s.", inbox),
                               add_id, &ids, err);
    for (size_t i = 0; i < ids.n && rc == ERR_OK; i++)
        rc = print_mailbox(c, snap, ids.v[i], err);
    free(ids.v);
    struct quota_walk w = {.c = c, .inbox = inbox, .err = err};
    if (rc == ERR_OK)
        rc = snap_each_quota(snap, inbox, on_quota, &w, err);
    if (rc == ERR_OK)
        rc = w.rc;
    return rc == ERR_OK && real > 0 ? bystate_print_meta(c, snap, user, err)
                                    : rc;
}

static enum errcode
find_by_name(struct store_snap *snap, const char *name, struct arena *a,
             mbid_t *ret, struct error *err)
{
    struct mailbox mb;

    if (strlen(name) > MAILBOX_NAME_MAX)
        return error_set(err, ERR_NOTFOUND, "no mailbox has so long a name");
    enum errcode rc = snap_mailbox_by_name(snap, name, a, &mb, err);
    if (rc == ERR_OK)
        *ret = mb.id;
    return rc;
}

static enum errcode
find_by_uniqueid(struct store_snap *snap, const char *uniqueid, struct arena *a,
                 mbid_t *ret, struct error *err)
{
    struct mailbox mb;

    if (strlen(uniqueid) > UNIQUEID_MAX)
        return error_set(err, ERR_NOTFOUND, "no UNIQUEID is so long");
    enum errcode rc = snap_mailbox_by_uniqueid(snap, uniqueid, a, &mb, err);
    if (rc == ERR_OK)
        *ret = mb.id;
    return rc;
}

/* A MAILBOX for each that FIND finds. */
static enum errcode
get_each(struct state_call *c, struct store_snap *snap,
         enum errcode (*find)(struct store_snap *snap, const char *what,
                              struct arena *a, mbid_t *ret, struct error *err),
         struct error *err)
{
    const struct dlist *d = NULL;
    struct arena a = ARENA_INIT;

    enum errcode rc = one_list(c, &d, err);
    for (; d != NULL && rc == ERR_OK; d = d->next) {
        mbid_t id = 0;
        if (d->type != DLIST_ATOM || span_find_byte(d->text, 0, 0) >= 0)
            continue;
        rc = find(snap, arena_str(&a, d->text), &a, &id, err);
        if (rc == ERR_OK)
            rc = print_mailbox(c, snap, id, err);
        else if (rc == ERR_NOTFOUND)
            rc = ERR_OK;
        arena_reset(&a);
    }
    arena_free(&a);
    return rc;
}

static enum errcode
get_mailboxes(struct state_call *c, struct store_snap *snap, struct error *err)
{
    return get_each(c, snap, find_by_name, err);
}

static enum errcode
get_uniqueids(struct state_call *c, struct store_snap *snap, struct error *err)
{
    return get_each(c, snap, find_by_uniqueid, err);
}

/* MAILBOX of ID with the RECORDs whose MODSEQ is above SINCE. */
static enum errcode
print_records(struct state_call *c, struct store_snap *snap, mbid_t id,
              modseq_t since, bool with_purged, struct error *err)
{
    struct mailbox row;
    struct sync_mailbox mb;
    struct dlist_printer p;
    struct message m;
    struct arena a = ARENA_INIT;

    enum errcode rc = bystate_load_mailbox(snap, id, c->cache, &a, &mb, err);
    if (rc == ERR_OK && with_purged)
        rc = snap_mailbox_row(snap, id, &a, &row, err);
    if (rc == ERR_OK && with_purged)
        mb.purged_modseq = row.purged_modseq;
    if (rc != ERR_OK) {
        arena_free(&a);
        return rc;
    }
    bystate_begin_line(c, &p);
    sync_mailbox_print(&mb, &p);
    dlist_open_list(&p, "RECORD");
    struct msg_iter *it = snap_messages(snap, id, 1, true);
    while (rc == ERR_OK && msg_iter_next(it, &m)) {
        struct sync_record r;
        if (m.modseq <= since)
            continue;
        arena_reset(&a);
        rc = bystate_load_record(snap, id, &m, &a, &r, err);
        if (rc == ERR_OK)
            sync_record_print(&r, &p);
        if (rc == ERR_OK && c->out.n >= PIECE_BYTES)
            rc = bystate_say(c, err);
    }
    enum errcode end = msg_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = end;
    dlist_close(&p);
    dlist_close(&p);
    arena_free(&a);
    /* An answer that broke off in a line is no answer. */
    if (rc != ERR_OK)
        return error_set(err, ERR_CLOSED, "cut off: %s", errcode_name(rc));
    return bystate_end_line(c, err);
}

static enum errcode
get_fullmailbox(struct state_call *c, struct store_snap *snap,
                struct error *err)
{
    const char *name = NULL; /* gcc cannot see that it is set */
    mbid_t id = 0;

    enum errcode rc = bystate_one_text(c, &name, err);
    if (rc == ERR_OK)
        rc = find_by_name(snap, name, &c->arena, &id, err);
    return rc == ERR_OK ? print_records(c, snap, id, 0, false, err) : rc;
}

/* %(UNIQUEID i SINCE modseq) */
static enum errcode
get_changes(struct state_call *c, struct store_snap *snap, struct error *err)
{
    const char *uniqueid;
    uint64_t since = 0;
    mbid_t id = 0;

    if (!dlist_get_str(c->args, "UNIQUEID", &c->arena, &uniqueid) ||
        !dlist_get_u64(c->args, "SINCE", &since))
        return error_set(err, ERR_SYNTAX, "UNIQUEID and SINCE are wanted");
    enum errcode rc = find_by_uniqueid(snap, uniqueid, &c->arena, &id, err);
    return rc == ERR_OK ? print_records(c, snap, id, since, true, err) : rc;
}

static enum errcode
get_quota(struct state_call *c, struct store_snap *snap, struct error *err)
{
    const char *root;
    struct quota q;

    enum errcode rc = bystate_one_text(c, &root, err);
    if (rc != ERR_OK || strlen(root) > MAILBOX_NAME_MAX)
        return rc;
    rc = snap_quota(snap, root, &c->arena, &q, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    q.root = root;
    return rc == ERR_OK ? print_quota(c, &q, err) : rc;
}

static enum errcode
get_annotation(struct state_call *c, struct store_snap *snap, struct error *err)
{
    const char *name;
    mbid_t id = 0;
    const struct sync_annot *annots = NULL;
    size_t n = 0;

    enum errcode rc = bystate_one_text(c, &name, err);
    if (rc == ERR_OK && name[0] != '\0')
        rc = find_by_name(snap, name, &c->arena, &id, err);
    if (rc == ERR_OK)
        rc = bystate_load_annots(snap, id, 0, &c->arena, &annots, &n, err);
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        struct dlist_printer p;
        bystate_begin_line(c, &p);
        dlist_open_kv(&p, "ANNOTATION");
        dlist_str(&p, "MBOXNAME", name);
        dlist_str(&p, "ENTRY", annots[i].entry);
        dlist_str(&p, "USERID", annots[i].user);
        dlist_span(&p, "VALUE", annots[i].value);
        dlist_close(&p);
        rc = bystate_end_line(c, err);
    }
    return rc;
}

/* "* MESSAGE %{partition guid size}CRLF", the bytes, CRLF. */
static enum errcode
print_body(struct state_call *c, const struct guid *guid, const char *partition,
           struct error *err)
{
    char text[GUID_TEXT_BYTES];
    uint64_t size = 0, at = 0;

    enum errcode rc = store_body_stat(c->store, guid, &size, err);
    if (rc != ERR_OK)
        return rc;
    buf_addf(&c->out, "* MESSAGE %%{%s %s %" PRIu64 "}\r\n", partition,
             guid_text(guid, text), size);
    while (at < size && rc == ERR_OK) {
        const size_t before = c->out.n;
        rc = store_body_read(c->store, guid, at, BODY_PART_BYTES, &c->out, err);
        if (rc == ERR_OK && c->out.n == before)
            rc = error_set(err, ERR_CORRUPT, "a body ends early");
        at += c->out.n - before;
        if (rc == ERR_OK && c->out.n >= PIECE_BYTES)
            rc = bystate_say(c, err);
    }
    if (rc != ERR_OK)
        return error_set(err, ERR_CLOSED, "body %s cut off: %s", text,
                         errcode_name(rc));
    return bystate_end_line(c, err);
}

static enum errcode
get_fetch(struct state_call *c, struct store_snap *snap, struct error *err)
{
    const char *uniqueid, *name;
    struct message m;
    struct span hex;
    struct guid guid;
    uint32_t uid = 0;
    mbid_t id = 0;

    if (!dlist_get_u32(c->args, "UID", &uid) || uid == 0 ||
        !dlist_get_text(c->args, "GUID", &hex) ||
        !parse_hex_bytes(hex, guid.b, GUID_BYTES) ||
        !dlist_get_str(c->args, "MBOXNAME", &c->arena, &name))
        return error_set(err, ERR_SYNTAX, "MBOXNAME, GUID and UID are wanted");
    enum errcode rc =
        dlist_get_str(c->args, "UNIQUEID", &c->arena, &uniqueid)
            ? find_by_uniqueid(snap, uniqueid, &c->arena, &id, err)
            : find_by_name(snap, name, &c->arena, &id, err);
    if (rc == ERR_OK)
        rc = snap_message(snap, id, uid, &c->arena, &m, err);
    if (rc == ERR_OK && !guid_eq(&m.guid, &guid))
        rc = error_set(err, ERR_NOTFOUND, "UID %" PRIu32 " is another message",
                       uid);
    return rc == ERR_OK ? print_body(c, &guid, "default", err) : rc;
}

/* (guid guid ...): those that are here. */
static enum errcode
get_bodies(struct state_call *c, struct store_snap *snap, struct error *err)
{
    const struct dlist *d = NULL;
    struct guid guid;

    (void)snap;
    enum errcode rc = one_list(c, &d, err);
    for (; d != NULL && rc == ERR_OK; d = d->next) {
        if (d->type != DLIST_ATOM ||
            !parse_hex_bytes(d->text, guid.b, GUID_BYTES))
            return error_set(err, ERR_SYNTAX, "not a GUID");
        rc = print_body(c, &guid, "default", err);
        if (rc == ERR_NOTFOUND)
            rc = ERR_OK;
    }
    return rc;
}

static enum errcode
get_fetch_sieve(struct state_call *c, struct store_snap *snap,
                struct error *err)
{
    const char *user, *file;
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct dlist_printer p;

    if (!dlist_get_str(c->args, "USERID", &c->arena, &user) ||
        !dlist_get_str(c->args, "FILENAME", &c->arena, &file))
        return error_set(err, ERR_SYNTAX, "USERID and FILENAME are wanted");
    const char *dot = strrchr(file, '.');
    if (dot == NULL || strcmp(dot, ".script") != 0 || strlen(user) > USER_MAX ||
        strlen(file) > MAILBOX_NAME_MAX)
        return error_set(err, ERR_NOTFOUND, "no such script");
    enum errcode rc = snap_user_get(
        snap, user, USER_SIEVE,
        arena_str(&c->arena, span_of(file, (size_t)(dot - file))), &text, err);
    if (rc != ERR_OK)
        return rc;
    bystate_begin_line(c, &p);
    dlist_open_kv(&p, "SIEVE");
    dlist_str(&p, "USERID", user);
    dlist_str(&p, "FILENAME", file);
    dlist_span(&p, "CONTENT", buf_span(&text));
    dlist_close(&p);
    return bystate_end_line(c, err);
}

/* ---- ours --------------------------------------------------------------- */

struct name_list {
    struct state_call *c;
    const char *key;
    struct dlist_printer p;
    size_t n;
    enum errcode rc;
    struct error *err;
};

static bool
end_names(struct name_list *l)
{
    if (l->n == 0)
        return true;
    l->n = 0;
    dlist_close(&l->p);
    l->rc = bystate_end_line(l->c, l->err);
    return l->rc == ERR_OK;
}

static bool
add_name(void *ctx, const char *name)
{
    struct name_list *l = ctx;

    if (l->n == 0) {
        bystate_begin_line(l->c, &l->p);
        dlist_open_list(&l->p, l->key);
    }
    dlist_str(&l->p, NULL, name);
    return ++l->n < NAMES_PER_LINE || end_names(l);
}

static bool
add_owner(void *ctx, const char *user, uint64_t digest)
{
    (void)digest;
    return user[0] == '\0' || add_name(ctx, user);
}

/* USERS [prefix]: * USERS (name name ...), those too who have nothing but
 * DELETED. mailboxes. */
static enum errcode
get_users(struct state_call *c, struct store_snap *snap, struct error *err)
{
    struct name_list l = {.c = c, .key = "USERS", .err = err};

    enum errcode rc = snap_tree_each_user(snap, NULL, add_owner, &l, err);
    if (rc == ERR_OK && l.rc == ERR_OK)
        (void)end_names(&l);
    return rc == ERR_OK ? l.rc : rc;
}

/* Each once, as rows of one come together for each mailbox. */
struct seer_list {
    struct name_list names;
    struct arena arena;
    const char *last;
};

static bool
add_seer(void *ctx, const char *seer)
{
    struct seer_list *l = ctx;

    if (l->last != NULL && strcmp(l->last, seer) == 0)
        return true;
    arena_reset(&l->arena);
    l->last = arena_str(&l->arena, span_str(seer));
    return add_name(&l->names, seer);
}

/* SEERS user: * SEERS (name name ...), those who have \Seen of their own in
 * mailboxes of the user ("": in those that nobody owns). */
static enum errcode
get_seers(struct state_call *c, struct store_snap *snap, struct error *err)
{
    struct seer_list l = {.names = {.c = c, .key = "SEERS", .err = err}};
    const char *user;

    enum errcode rc = bystate_one_text(c, &user, err);
    if (rc == ERR_OK)
        rc = snap_tree_each_seer(snap, user, add_seer, &l, err);
    if (rc == ERR_OK && l.names.rc == ERR_OK)
        (void)end_names(&l.names);
    arena_free(&l.arena);
    return rc == ERR_OK ? l.names.rc : rc;
}

/* READERS (n n ...): the same of mailboxes by number. */
static enum errcode
get_readers(struct state_call *c, struct store_snap *snap, struct error *err)
{
    struct seer_list l = {.names = {.c = c, .key = "SEERS", .err = err}};
    const struct dlist *d = NULL;

    enum errcode rc = one_list(c, &d, err);
    for (; d != NULL && rc == ERR_OK; d = d->next) {
        uint64_t id = 0;
        if (d->type != DLIST_ATOM || !parse_u64(d->text, &id))
            rc = error_set(err, ERR_SYNTAX, "not a number");
        else
            rc = snap_tree_each_seer_in(snap, id, add_seer, &l, err);
        if (rc == ERR_OK)
            rc = l.names.rc;
    }
    if (rc == ERR_OK && !end_names(&l.names))
        rc = l.names.rc;
    arena_free(&l.arena);
    return rc;
}

static bool
add_shared(void *ctx, const struct mailbox *mb, uint64_t hash)
{
    (void)hash;
    return add_name(ctx, mb->name);
}

/* SHARED: * SHARED (name name ...), mailboxes that nobody owns. */
static enum errcode
get_shared(struct state_call *c, struct store_snap *snap, struct error *err)
{
    struct name_list l = {.c = c, .key = "SHARED", .err = err};

    enum errcode rc = snap_tree_each_mailbox(snap, "", add_shared, &l, err);
    if (rc == ERR_OK && l.rc == ERR_OK)
        (void)end_names(&l);
    return rc == ERR_OK ? l.rc : rc;
}

/* MBIDS (n n ...): * MBID %(ID n UNIQUEID u MBOXNAME m) for those there. */
static enum errcode
get_mbids(struct state_call *c, struct store_snap *snap, struct error *err)
{
    const struct dlist *d = NULL;

    enum errcode rc = one_list(c, &d, err);
    for (; d != NULL && rc == ERR_OK; d = d->next) {
        struct mailbox mb;
        struct dlist_printer p;
        uint64_t id = 0;
        if (d->type != DLIST_ATOM || !parse_u64(d->text, &id))
            return error_set(err, ERR_SYNTAX, "not a number");
        rc = snap_mailbox_row(snap, id, &c->arena, &mb, err);
        if (rc == ERR_NOTFOUND) {
            rc = ERR_OK;
            continue;
        }
        if (rc != ERR_OK)
            break;
        bystate_begin_line(c, &p);
        dlist_open_kv(&p, "MBID");
        dlist_u64(&p, "ID", id);
        dlist_str(&p, "UNIQUEID", mb.uniqueid.s);
        dlist_str(&p, "MBOXNAME", mb.name);
        dlist_close(&p);
        rc = bystate_end_line(c, err);
    }
    return rc;
}

static const struct {
    const char *verb;
    enum errcode (*run)(struct state_call *c, struct store_snap *snap,
                        struct error *err);
} verbs[] = {
    {"USER", get_user},           {"MAILBOXES", get_mailboxes},
    {"UNIQUEIDS", get_uniqueids}, {"FULLMAILBOX", get_fullmailbox},
    {"META", bystate_get_meta},   {"SEEN", bystate_get_seen},
    {"QUOTA", get_quota},         {"ANNOTATION", get_annotation},
    {"FETCH", get_fetch},         {"FETCH_SIEVE", get_fetch_sieve},
    {"USERS", get_users},         {"SHARED", get_shared},
    {"SEERS", get_seers},         {"READERS", get_readers},
    {"CHANGES", get_changes},     {"BODIES", get_bodies},
    {"MBIDS", get_mbids},
};

enum errcode
bystate_get(struct state_call *c, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (!span_eq_nocase_str(c->verb, verbs[i].verb))
            continue;
        struct store_snap *snap = store_snapshot(c->store);
        enum errcode rc = verbs[i].run(c, snap, err);
        store_release(&snap);
        return rc;
    }
    return error_set(err, ERR_PROTO, "GET %.*s is not known",
                     SPAN_FMT(span_sub(c->verb, 0, 40)));
}
