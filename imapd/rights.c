/*
 * imapd/rights.c - the commands of ACL (RFC 4314) and QUOTA (RFC 9208).
 */
#include "imapd/session_private.h"

static enum run
committed(struct imap_session *s)
{
    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    return reply(s, "OK Completed");
}

/* ---- ACL --------------------------------------------------------------- */

enum run
cmd_getacl(struct imap_session *s)
{
    struct mailbox mb;
    size_t pos = 0;
    struct span ident;
    uint32_t rights;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);

    if (!find_mailbox(s, snap, s->cmd->name, ACL_ADMIN, &mb))
        return RUN_DONE;
    buf_add_str(&s->out, "* ACL ");
    write_astring_str(&s->out, external_name(s, mb.name, &s->arena));
    while (acl_next(mb.acl, &pos, &ident, &rights)) {
        buf_add_byte(&s->out, ' ');
        write_astring(&s->out, ident);
        buf_add_byte(&s->out, ' ');
        acl_format_rights(rights, &s->out);
    }
    buf_add_str(&s->out, "\r\n");
    return reply(s, "OK Completed");
}

/* SETACL and DELETEACL, which is SETACL with no rights. */
enum run
cmd_setacl(struct imap_session *s)
{
    const struct imap_command *cmd = s->cmd;
    struct mailbox mb;
    struct error err = {0};
    AUTO(buf_free) struct buf acl = BUF_MAX(ACL_BYTES_MAX);
    uint32_t rights = 0;
    char mode = '=';
    struct span letters = cmd->cmd == CMD_SETACL ? cmd->arg2 : SPAN_EMPTY;

    if (refuse_on_replica(s))
        return RUN_DONE;
    if (letters.n > 0 && (letters.p[0] == '+' || letters.p[0] == '-')) {
        mode = (char)letters.p[0];
        letters = span_skip(letters, 1);
    }
    if (acl_parse_rights(letters, &rights, &err) != ERR_OK)
        return reply(s, "BAD Unknown right"); /* RFC 4314, 3.1 */
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    if (!find_mailbox(s, snap, cmd->name, ACL_ADMIN, &mb))
        return RUN_DONE;
    enum errcode rc = acl_change(mb.acl, arena_str(&s->arena, cmd->arg), mode,
                                 rights, &acl, &err);
    if (rc == ERR_SYNTAX)
        return reply(s, "BAD Invalid identifier");
    if (rc != ERR_OK)
        return reply_error(s, &err);
    struct store_txn *txn = txn_new();
    txn_set_acl(txn, mb.id, buf_cstr(&acl), mb.acl);
    return submit(s, txn, committed);
}

/*
 * RFC 4314, 3.7: what IDENT always has, then what can be given or taken, each
 * right alone.  2.1.1: the virtual c and d stand where their members are.
 */
enum run
cmd_listrights(struct imap_session *s)
{
    static const char letters[] = "lrswipkxteanc";
    struct mailbox mb;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);

    if (!find_mailbox(s, snap, s->cmd->name, ACL_ADMIN, &mb))
        return RUN_DONE;
    const char *owner = name_owner(mb.name, &s->arena);
    /* What an owner always has is not to be given or taken. */
    const bool is_owner =
        owner != NULL && span_eq_str(s->cmd->arg, owner) && !mb.is_deleted;
    buf_add_str(&s->out, "* LISTRIGHTS ");
    write_astring_str(&s->out, external_name(s, mb.name, &s->arena));
    buf_add_byte(&s->out, ' ');
    write_astring(&s->out, s->cmd->arg);
    buf_add_str(&s->out, is_owner ? " lkxca" : " \"\"");
    for (size_t i = 0; letters[i] != '\0'; i++)
        if (!is_owner || strchr("lkxca", letters[i]) == NULL)
            buf_addf(&s->out, " %c", letters[i]);
    buf_add_str(&s->out, " d\r\n");
    return reply(s, "OK Completed");
}

void
write_myrights(struct imap_session *s, const struct mailbox *mb)
{
    buf_add_str(&s->out, "* MYRIGHTS ");
    write_astring_str(&s->out, external_name(s, mb->name, &s->arena));
    buf_add_byte(&s->out, ' ');
    acl_format_rights(rights_of(s, mb), &s->out);
    buf_add_str(&s->out, "\r\n");
}

enum run
cmd_myrights(struct imap_session *s)
{
    struct mailbox mb;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);

    /* RFC 4314, 4: any of these will do. */
    if (!find_mailbox_any(s, snap, s->cmd->name,
                          ACL_LOOKUP | ACL_READ | ACL_INSERT | ACL_CREATE |
                              ACL_DELETEMBOX | ACL_ADMIN,
                          &mb))
        return RUN_DONE;
    write_myrights(s, &mb);
    return reply(s, "OK Completed");
}

/* ---- QUOTA ------------------------------------------------------------- */

static void
write_resource(struct buf *out, const char **before, const char *name,
               uint64_t used, uint64_t limit, uint64_t unit)
{
    if (limit == QUOTA_UNLIMITED)
        return;
    buf_addf(out, "%s%s %" PRIu64 " %" PRIu64, *before, name,
             (used + unit - 1) / unit, limit / unit);
    *before = " ";
}

static enum errcode
write_quota(struct imap_session *s, struct store_snap *snap, const char *root,
            struct error *err)
{
    struct quota q;
    const char *before = "";

    enum errcode rc = snap_quota(snap, root, &s->arena, &q, err);
    if (rc != ERR_OK)
        return rc;
    buf_add_str(&s->out, "* QUOTA ");
    write_astring_str(&s->out, external_name(s, root, &s->arena));
    buf_add_str(&s->out, " (");
    write_resource(&s->out, &before, "STORAGE", q.used[QUOTA_STORAGE],
                   q.limit[QUOTA_STORAGE], 1024);
    write_resource(&s->out, &before, "MESSAGE", q.used[QUOTA_MESSAGE],
                   q.limit[QUOTA_MESSAGE], 1);
    write_resource(&s->out, &before, "MAILBOX", q.used[QUOTA_FOLDERS],
                   q.limit[QUOTA_FOLDERS], 1);
    write_resource(&s->out, &before, "ANNOTATION-STORAGE",
                   q.used[QUOTA_ANNOTATION], q.limit[QUOTA_ANNOTATION], 1024);
    buf_add_str(&s->out, ")\r\n");
    return ERR_OK;
}

enum run
cmd_getquota(struct imap_session *s)
{
    struct mailbox mb;
    struct error err = {0};
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);

    if (!find_mailbox(s, snap, s->cmd->name, s->is_admin ? 0 : ACL_READ, &mb))
        return RUN_DONE;
    enum errcode rc = write_quota(s, snap, mb.name, &err);
    if (rc == ERR_NOTFOUND)
        return reply(s, "NO [NONEXISTENT] Quota root does not exist");
    if (rc != ERR_OK)
        return reply_error(s, &err);
    return reply(s, "OK Completed");
}

/* RFC 9208, 4.1.2: also of a mailbox that could be made.  Of those of others it
 * is not told that they are not there.  False: the reply is set. */
static bool
root_of(struct imap_session *s, struct store_snap *snap, const char **ret_name,
        const char **ret_root)
{
    struct mailbox mb;
    struct error err = {0};
    const char *name = internal_name(s, s->cmd->name);

    if (name == NULL)
        return false;
    const char *owner = name_owner(name, &s->arena);
    if ((s->is_admin || (owner != NULL && strcmp(owner, s->user) == 0)) &&
        snap_mailbox_by_name(snap, name, &s->arena, &mb, &err) ==
            ERR_NOTFOUND) {
        *ret_name = name;
        if (snap_quota_root_for(snap, name, &s->arena, ret_root, &err) ==
            ERR_OK)
            return true;
        reply_error(s, &err);
        return false;
    }
    if (!find_mailbox(s, snap, s->cmd->name, s->is_admin ? 0 : ACL_READ, &mb))
        return false;
    *ret_name = mb.name;
    *ret_root = *mb.quota_root == '\0' ? NULL : mb.quota_root;
    return true;
}

enum run
cmd_getquotaroot(struct imap_session *s)
{
    const char *name, *root = NULL;
    struct error err = {0};
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);

    if (!root_of(s, snap, &name, &root))
        return RUN_DONE;
    buf_add_str(&s->out, "* QUOTAROOT ");
    write_astring_str(&s->out, external_name(s, name, &s->arena));
    if (root != NULL) {
        buf_add_byte(&s->out, ' ');
        write_astring_str(&s->out, external_name(s, root, &s->arena));
    }
    buf_add_str(&s->out, "\r\n");
    if (root != NULL && write_quota(s, snap, root, &err) != ERR_OK)
        return reply_error(s, &err);
    return reply(s, "OK Completed");
}

static enum run
quota_set(struct imap_session *s)
{
    struct mailbox mb;
    struct error err = {0};

    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    /* RFC 9208, 4.1.3: an untagged QUOTA tells what it is now. */
    if (!find_mailbox(s, snap, s->cmd->name, 0, &mb))
        return RUN_DONE;
    if (write_quota(s, snap, mb.name, &err) != ERR_OK)
        return reply_error(s, &err);
    return reply(s, "OK Completed");
}

/* Names of RFC 9208, 5, and those that Cyrus had before it. */
static bool
take_limit(const struct imap_quota_limit *limit,
           uint64_t limits[QUOTA_RESOURCES])
{
    static const struct {
        const char *name;
        enum quota_resource resource;
        uint64_t unit;
    } names[] = {
        {"STORAGE", QUOTA_STORAGE, 1024},
        {"MESSAGE", QUOTA_MESSAGE, 1},
        {"MAILBOX", QUOTA_FOLDERS, 1},
        {"X-NUM-FOLDERS", QUOTA_FOLDERS, 1},
        {"ANNOTATION-STORAGE", QUOTA_ANNOTATION, 1024},
        {"X-ANNOTATION-STORAGE", QUOTA_ANNOTATION, 1024},
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (span_eq_nocase_str(limit->resource, names[i].name) &&
            limit->limit <= INT64_MAX / names[i].unit) { /* 3.1.2: 63 bits */
            limits[names[i].resource] = limit->limit * names[i].unit;
            return true;
        }
    return false;
}

enum run
cmd_setquota(struct imap_session *s)
{
    uint64_t limits[QUOTA_RESOURCES];

    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        limits[i] = QUOTA_UNLIMITED;
    if (refuse_on_replica(s))
        return RUN_DONE;
    if (!s->is_admin)
        return reply(s, "NO [NOPERM] Permission denied");
    for (size_t i = 0; i < s->cmd->nlimits; i++)
        if (!take_limit(&s->cmd->limits[i], limits))
            return reply(s, "NO [CANNOT] Unknown resource or limit");
    const char *root = internal_name(s, s->cmd->name);
    if (root == NULL)
        return RUN_DONE;
    struct store_txn *txn = txn_new();
    txn_quota(txn, root, limits);
    return submit(s, txn, quota_set);
}
