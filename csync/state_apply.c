/*
 * csync/bystate_apply.c - APPLY, all but MAILBOX and MESSAGE: what a peer
 * changes of names, users, quota and annotations.
 *
 * Each is one transaction.  Nothing that comes so deletes mail at once:
 * UNMAILBOX and UNUSER give mailboxes DELETED. names, and only what has one
 * already goes for good.
 */
#include "csync/state.h"

#include <stdlib.h>

#include "store/names.h"

#define SEEN_RANGES_MAX 200000U
#define UNLIMITED_HERE UINT32_MAX

static enum errcode
missing(const char *key, struct error *err)
{
    return error_set(err, ERR_SYNTAX, "without a usable %s", key);
}

static bool
text(struct state_call *c, const char *key, size_t max, const char **ret)
{
    const struct dlist *d = dlist_get(c->args, key);

    if (d != NULL && d->type == DLIST_NIL) {
        *ret = "";
        return true;
    }
    return dlist_get_str(c->args, key, &c->arena, ret) && strlen(*ret) <= max;
}

/* The argument where it is one name. */
static enum errcode
one_name(struct state_call *c, size_t max, const char **ret, struct error *err)
{
    if (c->args == NULL ||
        (c->args->type != DLIST_ATOM && c->args->type != DLIST_NIL) ||
        span_find_byte(c->args->text, 0, 0) >= 0 || c->args->text.n > max)
        return missing("name", err);
    *ret = arena_str(&c->arena, c->args->text);
    return ERR_OK;
}

static enum errcode
find(struct state_call *c, const char *name, struct mailbox *ret,
     struct error *err)
{
    struct store_snap *snap = store_snapshot(c->store);

    enum errcode rc = snap_mailbox_by_name(snap, name, &c->arena, ret, err);
    store_release(&snap);
    return rc;
}

static enum errcode
commit(struct state_call *c, struct store_txn *txn, struct error *err)
{
    enum errcode rc = store_commit(c->store, txn, err);

    txn_free(&txn);
    return rc;
}

/* ---- mailboxes ---------------------------------------------------------- */

static enum errcode
reserve(struct state_call *c, struct error *err)
{
    const struct dlist *guids = dlist_get(c->args, "GUID");
    struct store_snap *snap;
    struct dlist_printer p;
    bool any = false;
    enum errcode rc = ERR_OK;

    if (guids == NULL || guids->type != DLIST_LIST)
        return missing("GUID", err);
    snap = store_snapshot(c->store);
    for (const struct dlist *d = guids->child; d != NULL && rc == ERR_OK;
         d = d->next) {
        struct guid guid;
        uint64_t size;
        bool has = false;
        if (d->type != DLIST_ATOM ||
            !parse_hex_bytes(d->text, guid.b, GUID_BYTES)) {
            rc = missing("GUID", err);
            break;
        }
        rc = snap_has_body(snap, &guid, env_wall_us(c->env), &has, err);
        if (rc == ERR_OK && has &&
            store_body_stat(c->store, &guid, &size, NULL) != ERR_OK)
            has = false;
        if (rc != ERR_OK || has)
            continue;
        if (!any) {
            bystate_begin_line(c, &p);
            dlist_open_list(&p, "MISSING");
        }
        any = true;
        dlist_guid(&p, NULL, &guid);
    }
    store_release(&snap);
    if (rc == ERR_OK && any) {
        dlist_close(&p);
        rc = bystate_end_line(c, err);
    }
    return rc;
}

static enum errcode
rename_one(struct state_call *c, struct error *err)
{
    const char *old, *name, *partition = "";
    struct mailbox mb;
    uint32_t uidvalidity = 0;

    if (!text(c, "OLDMBOXNAME", MAILBOX_NAME_MAX, &old))
        return missing("OLDMBOXNAME", err);
    if (!text(c, "NEWMBOXNAME", MAILBOX_NAME_MAX, &name))
        return missing("NEWMBOXNAME", err);
    if (dlist_get(c->args, "PARTITION") != NULL &&
        !text(c, "PARTITION", USER_MAX, &partition))
        return missing("PARTITION", err);
    if (dlist_get(c->args, "UIDVALIDITY") != NULL &&
        !dlist_get_u32(c->args, "UIDVALIDITY", &uidvalidity))
        return missing("UIDVALIDITY", err);
    if (uidvalidity >
        env_wall_us(c->env) / 1000000 + UINT64_C(20) * 366 * 86400)
        return missing("UIDVALIDITY", err);
    enum errcode rc = find(c, old, &mb, err);
    if (rc != ERR_OK)
        return rc;
    struct store_txn *txn = txn_new();
    if (strcmp(old, name) != 0)
        txn_rename_given(txn, mb.id, name, uidvalidity);
    if (partition[0] != '\0' && strcmp(partition, mb.partition) != 0)
        txn_set_partition(txn, mb.id, partition, false);
    return commit(c, txn, err);
}

static enum errcode
unmailbox(struct state_call *c, struct error *err)
{
    const char *name;
    struct mailbox mb;

    enum errcode rc = one_name(c, MAILBOX_NAME_MAX, &name, err);
    if (rc == ERR_OK)
        rc = find(c, name, &mb, err);
    if (rc != ERR_OK)
        return rc;
    struct store_txn *txn = txn_new();
    txn_delete(txn, mb.id, true, 0);
    return commit(c, txn, err);
}

static enum errcode
unuser(struct state_call *c, struct error *err)
{
    const char *user, *inbox;
    struct mailbox mb;

    enum errcode rc = one_name(c, USER_MAX, &user, err);
    if (rc != ERR_OK || user[0] == '\0')
        return rc;
    rc = name_inbox(user, &c->arena, &inbox, err);
    if (rc == ERR_OK)
        rc = find(c, inbox, &mb, err);
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    struct store_txn *txn = txn_new();
    if (rc == ERR_OK)
        txn_delete_tree(txn, mb.id, true, 0);
    txn_user_remove_all(txn, user);
    return commit(c, txn, err);
}

static enum errcode
add_expunged(struct state_call *c, struct store_snap *snap, mbid_t id,
             const struct dlist *uids, struct message *rows, size_t *ret_n,
             struct error *err)
{
    uint32_t last = 0;

    for (const struct dlist *d = uids->child; d != NULL; d = d->next) {
        struct message *m = &rows[*ret_n];
        uint32_t uid = 0;
        if (d->type != DLIST_ATOM || !parse_u32(d->text, &uid) || uid <= last)
            return missing("UID", err);
        last = uid;
        enum errcode rc = snap_message(snap, id, uid, &c->arena, m, err);
        if (rc == ERR_NOTFOUND)
            continue;
        if (rc != ERR_OK)
            return rc;
        if ((m->flags & FLAG_EXPUNGED) != 0)
            continue;
        m->flags |= FLAG_EXPUNGED;
        m->expunged_s = (int64_t)(env_wall_us(c->env) / 1000000);
        (*ret_n)++;
    }
    return ERR_OK;
}

/* MODSEQs stay, so that the next delta fits. */
static enum errcode
expunge(struct state_call *c, struct error *err)
{
    const struct dlist *uids = dlist_get(c->args, "UID");
    const char *name, *uniqueid;
    struct mailbox mb;
    size_t n = 0;

    if (!text(c, "MBOXNAME", MAILBOX_NAME_MAX, &name))
        return missing("MBOXNAME", err);
    if (!text(c, "UNIQUEID", UNIQUEID_MAX, &uniqueid))
        return missing("UNIQUEID", err);
    if (uids == NULL || uids->type != DLIST_LIST)
        return missing("UID", err);
    for (const struct dlist *d = uids->child; d != NULL; d = d->next)
        n++;
    struct message *rows = arena_array(&c->arena, n + 1, sizeof(*rows));
    struct store_snap *snap = store_snapshot(c->store);
    enum errcode rc = snap_mailbox_by_name(snap, name, &c->arena, &mb, err);
    if (rc == ERR_OK && strcmp(mb.uniqueid.s, uniqueid) != 0)
        rc = error_set(err, ERR_EXISTS, "%s has UNIQUEID %s here", name,
                       mb.uniqueid.s);
    n = 0;
    if (rc == ERR_OK)
        rc = snap_mailbox_row(snap, mb.id, &c->arena, &mb, err);
    if (rc == ERR_OK)
        rc = add_expunged(c, snap, mb.id, uids, rows, &n, err);
    store_release(&snap);
    if (rc != ERR_OK)
        return rc;
    struct store_txn *txn = txn_new();
    txn_expect(txn, &mb);
    txn_rows(txn, mb.id, rows, n);
    return commit(c, txn, err);
}

/* ---- users -------------------------------------------------------------- */

static enum errcode
subscribe(struct state_call *c, bool set, struct error *err)
{
    const char *user, *name;
    const struct span nothing = SPAN_EMPTY;

    if (!text(c, "USERID", USER_MAX, &user) || user[0] == '\0')
        return missing("USERID", err);
    if (!text(c, "MBOXNAME", MAILBOX_NAME_MAX, &name) || name[0] == '\0')
        return missing("MBOXNAME", err);
    enum errcode rc = name_check(name, err);
    if (rc != ERR_OK)
        return rc;
    struct store_txn *txn = txn_new();
    txn_user(txn, user, USER_SUBSCRIPTION, name, set ? &nothing : NULL);
    return commit(c, txn, err);
}

static enum errcode
sub(struct state_call *c, struct error *err)
{
    return subscribe(c, true, err);
}

static enum errcode
unsub(struct state_call *c, struct error *err)
{
    return subscribe(c, false, err);
}

static enum errcode
seen(struct state_call *c, struct error *err)
{
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct sync_seen s;
    struct mailbox mb;

    if (c->args == NULL)
        return missing("USERID", err);
    enum errcode rc = sync_seen_read(c->args, &c->arena, &s, err);
    if (rc != ERR_OK)
        return rc;
    if (s.user == NULL || s.user[0] == '\0')
        return missing("USERID", err);
    if (s.uids.n > 0 && !uidset_parse(s.uids, 0, SEEN_RANGES_MAX, &uids))
        return missing("SEENUIDS", err);
    struct store_snap *snap = store_snapshot(c->store);
    rc = snap_mailbox_by_uniqueid(snap, s.uniqueid, &c->arena, &mb, err);
    store_release(&snap);
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    struct store_txn *txn = txn_new();
    const bool is_here = rc == ERR_OK;
    const bool is_early =
        !is_here || (uids.n > 0 && uids.r[uids.n - 1].last >= mb.uidnext);
    if (is_here)
        txn_seen_given(txn, mb.id, s.user, &uids);
    sync_seen_encode(&s, &value);
    const struct span bytes = buf_span(&value);
    txn_user(txn, s.user, USER_SEEN_TEXT, s.uniqueid, &bytes);
    /* The mailbox, or messages of it, are still to come. */
    txn_user(txn, "", USER_SEEN_WAITING,
             arena_printf(&c->arena, "%s %s", s.uniqueid, s.user),
             is_early ? &bytes : NULL);
    return commit(c, txn, err);
}

/* ---- Sieve -------------------------------------------------------------- */

/* FILENAME without the ending WANT; NULL: it has another. */
static const char *
script_name(struct state_call *c, const char *want, const char **ret_user)
{
    const char *file;

    if (!text(c, "USERID", USER_MAX, ret_user) || (*ret_user)[0] == '\0' ||
        !text(c, "FILENAME", MAILBOX_NAME_MAX, &file))
        return NULL;
    const char *dot = strrchr(file, '.');
    if (dot == NULL || dot == file || strcmp(dot, want) != 0 ||
        strchr(file, '/') != NULL)
        return NULL;
    return arena_str(&c->arena, span_of(file, (size_t)(dot - file)));
}

static enum errcode
sieve(struct state_call *c, struct error *err)
{
    const char *user = NULL;
    const char *name = script_name(c, ".script", &user);
    struct span content = SPAN_EMPTY;

    if (user == NULL)
        return missing("USERID", err);
    if (!dlist_get_text(c->args, "CONTENT", &content))
        return missing("CONTENT", err);
    if (name == NULL)
        return ERR_OK; /* compiled ones are made where they run */
    struct store_txn *txn = txn_new();
    txn_user(txn, user, USER_SIEVE, name, &content);
    return commit(c, txn, err);
}

static enum errcode
get_user_row(struct state_call *c, const char *user, uint8_t kind,
             const char *name, struct buf *ret, struct error *err)
{
    struct store_snap *snap = store_snapshot(c->store);

    enum errcode rc = snap_user_get(snap, user, kind, name, ret, err);
    store_release(&snap);
    return rc;
}

static enum errcode
unsieve(struct state_call *c, struct error *err)
{
    const char *user = NULL;
    const char *name = script_name(c, ".script", &user);
    AUTO(buf_free) struct buf old = BUF_INIT, active = BUF_INIT;

    if (user == NULL)
        return missing("USERID", err);
    if (name == NULL)
        return ERR_OK;
    enum errcode rc = get_user_row(c, user, USER_SIEVE, name, &old, err);
    if (rc == ERR_NOTFOUND)
        return error_set(err, ERR_BADNAME, "no script of that name");
    if (rc == ERR_OK)
        rc = get_user_row(c, user, USER_SIEVE_ACTIVE, "", &active, err);
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    struct store_txn *txn = txn_new();
    txn_user(txn, user, USER_SIEVE, name, NULL);
    if (rc == ERR_OK && span_eq_str(buf_span(&active), name))
        txn_user(txn, user, USER_SIEVE_ACTIVE, "", NULL);
    return commit(c, txn, err);
}

static enum errcode
activate(struct state_call *c, struct error *err)
{
    const char *user = NULL;
    const char *name = script_name(c, ".bc", &user);
    AUTO(buf_free) struct buf old = BUF_INIT;

    if (user == NULL)
        return missing("USERID", err);
    if (name == NULL)
        return missing("FILENAME", err);
    enum errcode rc = get_user_row(c, user, USER_SIEVE, name, &old, err);
    if (rc == ERR_NOTFOUND)
        return error_set(err, ERR_BADNAME, "no script of that name");
    if (rc != ERR_OK)
        return rc;
    const struct span value = span_str(name);
    struct store_txn *txn = txn_new();
    txn_user(txn, user, USER_SIEVE_ACTIVE, "", &value);
    return commit(c, txn, err);
}

static enum errcode
deactivate(struct state_call *c, struct error *err)
{
    const char *user;

    if (!text(c, "USERID", USER_MAX, &user) || user[0] == '\0')
        return missing("USERID", err);
    struct store_txn *txn = txn_new();
    txn_user(txn, user, USER_SIEVE_ACTIVE, "", NULL);
    return commit(c, txn, err);
}

/* ---- quota, annotations ------------------------------------------------- */

static enum errcode
quota(struct state_call *c, struct error *err)
{
    static const struct {
        const char *key;
        enum quota_resource resource;
        unsigned unit;
    } keys[] = {
        {"LIMIT", QUOTA_STORAGE, 1024}, /* the others count more */
        {"STORAGE", QUOTA_STORAGE, 1024},
        {"MESSAGE", QUOTA_MESSAGE, 1},
        {"X-ANNOTATION-STORAGE", QUOTA_ANNOTATION, 1024},
        {"X-NUM-FOLDERS", QUOTA_FOLDERS, 1},
    };
    uint64_t limit[QUOTA_RESOURCES];
    const char *root;

    if (!text(c, "ROOT", MAILBOX_NAME_MAX, &root) || root[0] == '\0')
        return missing("ROOT", err);
    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        limit[i] = QUOTA_UNLIMITED;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        uint64_t n = 0;
        if (dlist_get(c->args, keys[i].key) == NULL)
            continue;
        if (!dlist_get_u64(c->args, keys[i].key, &n))
            return missing(keys[i].key, err);
        limit[keys[i].resource] =
            n >= UNLIMITED_HERE ? QUOTA_UNLIMITED : n * keys[i].unit;
    }
    struct store_txn *txn = txn_new();
    txn_quota(txn, root, limit);
    return commit(c, txn, err);
}

static enum errcode
unquota(struct state_call *c, struct error *err)
{
    const char *root;

    enum errcode rc = one_name(c, MAILBOX_NAME_MAX, &root, err);
    if (rc != ERR_OK)
        return rc;
    struct store_txn *txn = txn_new();
    txn_quota(txn, root, NULL);
    rc = commit(c, txn, err);
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

static enum errcode
annotate(struct state_call *c, bool set, struct error *err)
{
    const char *name, *entry, *user;
    struct span value = SPAN_EMPTY;
    struct mailbox mb = {0};
    enum errcode rc = ERR_OK;

    if (!text(c, "MBOXNAME", MAILBOX_NAME_MAX, &name))
        return missing("MBOXNAME", err);
    if (!text(c, "ENTRY", ANNOT_ENTRY_MAX, &entry) || entry[0] == '\0')
        return missing("ENTRY", err);
    if (!text(c, "USERID", USER_MAX, &user))
        return missing("USERID", err);
    if (set && !dlist_get_text(c->args, "VALUE", &value))
        return missing("VALUE", err);
    if (name[0] != '\0')
        rc = find(c, name, &mb, err);
    if (rc != ERR_OK)
        return rc;
    struct store_txn *txn = txn_new();
    txn_annotate(txn, &(struct txn_annot){.id = mb.id,
                                          .entry = entry,
                                          .user = user,
                                          .value = set ? &value : NULL,
                                          .keep_modseq = true});
    return commit(c, txn, err);
}

static enum errcode
annotation(struct state_call *c, struct error *err)
{
    return annotate(c, true, err);
}

static enum errcode
unannotation(struct state_call *c, struct error *err)
{
    return annotate(c, false, err);
}

/* ---- the session -------------------------------------------------------- */

/* Scripts come by commands, not as a mailbox. */
static enum errcode
capabilities(struct state_call *c, struct error *err)
{
    buf_add_str(&c->out, "* ENABLED ()");
    return bystate_end_line(c, err);
}

static enum errcode
force(struct state_call *c, struct error *err)
{
    (void)err;
    *c->force = true;
    return ERR_OK;
}

static const struct {
    const char *verb;
    enum errcode (*run)(struct state_call *c, struct error *err);
} verbs[] = {
    {"RESERVE", reserve},
    {"RENAME", rename_one},
    {"LOCAL_RENAME", rename_one},
    {"UNMAILBOX", unmailbox},
    {"LOCAL_UNMAILBOX", unmailbox},
    {"UNUSER", unuser},
    {"LOCAL_UNUSER", unuser},
    {"EXPUNGE", expunge},
    {"SUB", sub},
    {"UNSUB", unsub},
    {"SEEN", seen},
    {"SIEVE", sieve},
    {"UNSIEVE", unsieve},
    {"ACTIVATE_SIEVE", activate},
    {"UNACTIVATE_SIEVE", deactivate},
    {"QUOTA", quota},
    {"UNQUOTA", unquota},
    {"ANNOTATION", annotation},
    {"UNANNOTATION", unannotation},
    {"CAPABILITIES", capabilities},
    {"FORCE", force},
};

enum errcode
bystate_apply(struct state_call *c, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (!span_eq_nocase_str(c->verb, verbs[i].verb))
            continue;
        enum errcode rc = bystate_check_role(c->store, err);
        return rc == ERR_OK ? verbs[i].run(c, err) : rc;
    }
    return error_set(err, ERR_PROTO, "APPLY %.*s is not known",
                     SPAN_FMT(span_sub(c->verb, 0, 40)));
}
