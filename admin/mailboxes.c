/*
 * admin/mailboxes.c - MAILBOXES, VERIFY, LOAD, REMOVE: the list of mailboxes
 * (ctl_mboxlist).
 *
 * The list is part of the state: it cannot disagree with the mail as Cyrus's
 * two can.  What can be wrong is what the list says of the world around it: a
 * partition that imapd.conf does not name, a root without quota, rights that
 * are none.  VERIFY looks for these.
 */
#include "admin/ask.h"

#include "store/acl.h"

/* ---- MAILBOXES --------------------------------------------------------- */

struct lister {
    struct ask *ask;
    const char *partition; /* only those on it; NULL: all */
    uint64_t done;
    enum errcode rc;
    struct error *err;
};

static void
print_mailbox(struct ask *ask, const struct mailbox *mb)
{
    struct dlist_printer *p = ask_row(ask, "MAILBOX");

    dlist_str(p, "NAME", mb->name);
    dlist_str(p, "UNIQUEID", mb->uniqueid.s);
    dlist_str(p, "PARTITION", mb->partition);
    dlist_str(p, "ACL", mb->acl);
    dlist_str(p, "ROOT", mb->quota_root);
    dlist_str(p, "USE", mb->special_use);
    dlist_u64(p, "UIDVALIDITY", mb->uidvalidity);
    dlist_u64(p, "UIDNEXT", mb->uidnext);
    dlist_u64(p, "MODSEQ", mb->highestmodseq);
    dlist_u64(p, "CREATED", mb->created_modseq);
    dlist_u64(p, "EXISTS", mb->exists);
    dlist_u64(p, "UNSEEN", mb->unseen);
    dlist_u64(p, "EXPUNGED", mb->expunged);
    dlist_u64(p, "BYTES", mb->bytes);
    dlist_u64(p, "APPENDED", mb->last_append_us / 1000000);
}

static bool
list_one(void *ctx, const struct mailbox *mb)
{
    struct lister *l = ctx;

    if (l->partition != NULL && strcmp(l->partition, mb->partition) != 0)
        return true;
    print_mailbox(l->ask, mb);
    l->rc = ask_row_end(l->ask, l->err);
    return l->rc == ERR_OK;
}

static enum errcode
each_of_list(struct ask *ask, bool (*call)(void *, const struct mailbox *),
             struct lister *l, struct error *err)
{
    static const char *const prefixes[] = {"", "DELETED."};
    AUTO(store_release) struct store_snap *snap = store_snapshot(ask->store);
    enum errcode rc = ERR_OK;

    l->ask = ask;
    l->rc = ERR_OK;
    l->err = err;
    for (size_t i = 0; i < ARRAY_LEN(prefixes) && rc == ERR_OK; i++) {
        rc = snap_each_mailbox(snap, prefixes[i], call, l, err);
        if (rc == ERR_OK)
            rc = l->rc;
    }
    return rc;
}

enum errcode
admin_mailboxes(struct ask *ask, struct error *err)
{
    struct lister l = {.partition = ask_text(ask, "PARTITION")};

    return each_of_list(ask, list_one, &l, err);
}

/* ---- VERIFY ------------------------------------------------------------ */

static enum errcode
wrong(struct lister *l, const struct mailbox *mb, const char *text)
{
    struct dlist_printer *p = ask_row(l->ask, "WRONG");

    dlist_str(p, "NAME", mb->name);
    dlist_str(p, "TEXT", text);
    return ask_row_end(l->ask, l->err);
}

/* Every entry is an identifier, a TAB, letters, a TAB. */
static bool
acl_is_good(const char *acl)
{
    struct span left = span_str(acl);
    uint32_t rights;
    struct error ignored = {0};

    while (left.n > 0) {
        ptrdiff_t tab = span_find_byte(left, '\t', 0);
        if (tab <= 0)
            return false;
        left = span_skip(left, (size_t)tab + 1);
        tab = span_find_byte(left, '\t', 0);
        if (tab < 0 || acl_parse_rights(span_sub(left, 0, (size_t)tab), &rights,
                                        &ignored) != ERR_OK)
            return false;
        left = span_skip(left, (size_t)tab + 1);
    }
    return true;
}

static bool
partition_is_known(const struct ask *ask, const char *name)
{
    AUTO(xfree) char *option = xasprintf("partition-%s", name);

    return config_free_form(ask->cfg, option) != NULL;
}

static bool
verify_one(void *ctx, const struct mailbox *mb)
{
    struct lister *l = ctx;
    struct ask *ask = l->ask;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    AUTO(store_release) struct store_snap *snap = NULL;
    struct error why = {0};
    struct quota q;

    l->done++;
    l->rc = ask_progress(ask, l->done, 0, l->err);
    if (l->rc == ERR_OK && name_check(mb->name, &why) != ERR_OK)
        l->rc = wrong(l, mb, why.text);
    if (l->rc == ERR_OK && !acl_is_good(mb->acl))
        l->rc = wrong(l, mb, "its rights are none that RFC 4314 knows");
    if (l->rc == ERR_OK && mb->partition[0] != '\0' &&
        !partition_is_known(ask, mb->partition))
        l->rc = wrong(l, mb,
                      arena_printf(&a,
                                   "it is on partition \"%s\", which "
                                   "imapd.conf does not name",
                                   mb->partition));
    if (l->rc == ERR_OK && mb->quota_root[0] != '\0') {
        snap = store_snapshot(ask->store);
        if (snap_quota(snap, mb->quota_root, &a, &q, &why) == ERR_NOTFOUND)
            l->rc = wrong(l, mb,
                          arena_printf(&a, "its quota root %s is not there",
                                       mb->quota_root));
    }
    return l->rc == ERR_OK;
}

enum errcode
admin_verify(struct ask *ask, struct error *err)
{
    struct lister l = {.partition = NULL};

    enum errcode rc = each_of_list(ask, verify_one, &l, err);
    if (rc != ERR_OK)
        return rc;
    struct dlist_printer *p = ask_row(ask, "VERIFIED");
    dlist_u64(p, "MAILBOXES", l.done);
    return ask_row_end(ask, err);
}

/* ---- REMOVE, LOAD ------------------------------------------------------ */

static enum errcode
remove_one(struct ask *ask, const char *name, struct error *err)
{
    AUTO(txn_free) struct store_txn *txn = txn_new();
    AUTO(arena_free) struct arena a = ARENA_INIT;
    AUTO(store_release) struct store_snap *snap = store_snapshot(ask->store);
    struct mailbox mb;

    enum errcode rc = snap_mailbox_by_name(snap, name, &a, &mb, err);
    if (rc != ERR_OK)
        return error_prefix(err, "%s", name);
    if (mb.is_deleted)
        return ERR_OK;
    txn_delete(txn, mb.id, true, env_wall_us(ask->env) / 1000000);
    rc = ask_commit(ask, txn, err);
    return rc == ERR_OK ? rc : error_prefix(err, "%s", name);
}

/* NAMES: internal ones. */
enum errcode
admin_remove(struct ask *ask, struct error *err)
{
    uint64_t done = 0;
    enum errcode rc = ERR_OK;

    for (const struct dlist *d = ask_list(ask, "NAMES");
         rc == ERR_OK && d != NULL; d = d->next) {
        rc = remove_one(ask, arena_str(&ask->arena, d->text), err);
        if (rc == ERR_OK)
            rc = ask_progress(ask, ++done, 0, err);
    }
    return rc;
}

/* NAME as a dump has it: made if it is missing, its rights set if they differ.
 */
enum errcode
admin_load(struct ask *ask, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(ask->store);
    AUTO(txn_free) struct store_txn *txn = txn_new();
    const char *name = ask_text(ask, "NAME");
    const char *acl = ask_text(ask, "ACL");
    const char *did = NULL;
    struct mailbox mb;

    if (name == NULL || acl == NULL)
        return error_set(err, ERR_SYNTAX, "LOAD without NAME and ACL");
    enum errcode rc = name_check(name, err);
    if (rc == ERR_OK && !acl_is_good(acl))
        rc = error_set(err, ERR_SYNTAX, "its rights are none: \"%.200s\"", acl);
    if (rc != ERR_OK)
        return error_prefix(err, "%.300s", name);
    rc = snap_mailbox_by_name(snap, name, &ask->arena, &mb, err);
    if (rc == ERR_NOTFOUND) {
        txn_create(txn, &(struct txn_mailbox){
                            .name = name,
                            .acl = acl,
                            .partition = ask_text(ask, "PARTITION"),
                        });
        did = "made";
    } else if (rc == ERR_OK && strcmp(mb.acl, acl) != 0) {
        txn_set_acl(txn, mb.id, acl, NULL);
        did = "rights set";
    } else if (rc != ERR_OK) {
        return rc;
    }
    rc = did == NULL ? ERR_OK : ask_commit(ask, txn, err);
    if (rc != ERR_OK)
        return error_prefix(err, "%s", name);
    struct dlist_printer *p = ask_row(ask, "LOADED");
    dlist_str(p, "NAME", name);
    dlist_str(p, "DID", did == NULL ? "" : did);
    return ask_row_end(ask, err);
}
