/*
 * imapd/mailbox.c - CREATE, DELETE, RENAME, SUBSCRIBE, STATUS, NAMESPACE.
 *
 * Each becomes one transaction (RENAME of INBOX: two), built from a snapshot;
 * what changed meanwhile the writer finds out.
 */
#include "imapd/session_private.h"
#include "store/partition.h"

static enum run
committed(struct imap_session *s)
{
    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    return reply(s, "OK Completed");
}

/* ---- CREATE ------------------------------------------------------------ */

/* A trailing separator only says that there will be more below (RFC 3501,
 * 6.3.3). */
static struct span
without_separator(struct imap_session *s, struct span name)
{
    while (name.n > 1 && name.p[name.n - 1] == (uint8_t)s->opt->ns.sep)
        name.n--;
    return name;
}

const char *
parse_uses(struct imap_session *s, struct span uses)
{
    static const char *const known[] = {"\\Archive", "\\Drafts", "\\Important",
                                        "\\Junk",    "\\Sent",   "\\Trash"};
    AUTO(buf_free) struct buf out = BUF_INIT;

    while (uses.n > 0) {
        ptrdiff_t sp = span_find_byte(uses, ' ', 0);
        struct span word = sp < 0 ? uses : span_sub(uses, 0, (size_t)sp);
        size_t i = 0;
        uses = span_skip(uses, word.n + 1);
        while (i < ARRAY_LEN(known) && !span_eq_nocase_str(word, known[i]))
            i++;
        if (i == ARRAY_LEN(known)) {
            reply(s, "NO [USEATTR] No such special use here");
            return NULL;
        }
        if (span_find(buf_span(&out), span_str(known[i])) < 0) {
            buf_add_str(&out, out.n > 0 ? " " : "");
            buf_add_str(&out, known[i]);
        }
    }
    return arena_str(&s->arena, buf_span(&out));
}

/*
 * May NAME be made here?  The nearest mailbox above decides; it is *RET_ABOVE,
 * NULL if there is none.  False: the reply is set.
 */
static bool
may_create(struct imap_session *s, struct store_snap *snap, const char *name,
           const struct mailbox **ret_above)
{
    struct error err = {0};
    struct mailbox *mb = arena_alloc(&s->arena, sizeof(*mb));

    *ret_above = NULL;
    for (const char *up = name_parent(name, &s->arena); up != NULL;
         up = name_parent(up, &s->arena)) {
        enum errcode rc = snap_mailbox_by_name(snap, up, &s->arena, mb, &err);
        if (rc == ERR_NOTFOUND)
            continue;
        if (rc == ERR_OK && (rights_of(s, mb) & ACL_CREATE) == 0)
            rc = error_set(&err, ERR_DENIED, "no right to create");
        *ret_above = mb;
        if (rc != ERR_OK)
            reply_error(s, &err);
        return rc == ERR_OK;
    }
    /* A new user, a new top level: for admins.  A user's folders need the
     * user's INBOX. */
    if (s->is_admin &&
        (name_is_inbox(name) || name_owner(name, &s->arena) == NULL))
        return true;
    error_set(&err, s->is_admin ? ERR_NOTFOUND : ERR_DENIED, "no parent");
    reply_error(s, &err);
    return false;
}

/* NULL: answered. */
static const char *
partition_named(struct imap_session *s, struct span name)
{
    const char *named = s->opt->partitions != NULL
                            ? partition_find(s->opt->partitions, name)
                            : NULL;

    if (named == NULL && span_eq_str(name, s->opt->partition))
        named = s->opt->partition;
    if (named == NULL) {
        reply(s, "NO [CANNOT] There is no such partition");
    } else if (!s->is_admin && strcmp(named, s->opt->partition) != 0) {
        reply(s, "NO [NOPERM] Only an admin may choose a partition");
        named = NULL;
    }
    return named;
}

/* What the client asks for (admins may), else the parent's, else a choice.
 * NULL: answered. */
static const char *
partition_of_new(struct imap_session *s, const struct mailbox *above)
{
    const struct imap_command *cmd = s->cmd;

    if (cmd->cmd == CMD_CREATE && cmd->has_arg)
        return partition_named(s, cmd->arg);
    if (above != NULL)
        return above->partition;
    return s->opt->partitions != NULL ? partition_choose(s->opt->partitions)
                                      : s->opt->partition;
}

/* NAME and what is missing between it and ABOVE, from the top down; which
 * operation makes NAME. */
static size_t
add_creates(struct imap_session *s, struct store_txn *txn, const char *name,
            const struct mailbox *above, const struct txn_mailbox *as)
{
    const char *up = name_parent(name, &s->arena);
    struct txn_mailbox mb = *as;

    if (above != NULL && up != NULL && strcmp(up, above->name) != 0) {
        const struct txn_mailbox between = {.default_acl = as->default_acl,
                                            .partition = as->partition,
                                            .exist_ok = true,
                                            .check_quota = true};
        add_creates(s, txn, up, above, &between);
    }
    mb.name = name;
    return txn_create(txn, &mb);
}

/* RFC 8474, 4.1 */
static enum run
created(struct imap_session *s)
{
    const size_t *last = s->job;

    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    return reply(s, "OK [MAILBOXID (%s)] Completed",
                 txn_result(s->txn, *last)->uniqueid.s);
}

enum run
cmd_create(struct imap_session *s)
{
    const struct imap_command *cmd = s->cmd;
    struct txn_mailbox mb = {.check_quota = true,
                             .default_acl = s->opt->default_acl};
    const struct mailbox *above = NULL;

    if (refuse_on_replica(s))
        return RUN_DONE;
    const char *name = internal_name(s, without_separator(s, cmd->name));
    if (name == NULL)
        return RUN_DONE;
    if (cmd->has_use) {
        mb.special_use = parse_uses(s, cmd->use);
        if (mb.special_use == NULL)
            return RUN_DONE;
        if (name_owner(name, &s->arena) == NULL || name_is_inbox(name))
            return reply(s, "NO [USEATTR] Not for this mailbox");
    }
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    bool ok = may_create(s, snap, name, &above);
    if (ok) {
        mb.partition = partition_of_new(s, above);
        ok = mb.partition != NULL;
    }
    if (!ok) {
        /* One that is there is told so whatever else is wrong; where nothing
         * is, the writer looks. */
        struct mailbox there;
        struct error err = {0};
        if (snap_mailbox_by_name(snap, name, &s->arena, &there, &err) != ERR_OK)
            return RUN_DONE;
        error_set(&err, ERR_EXISTS, "exists");
        return reply_error(s, &err);
    }
    struct store_txn *txn = txn_new();
    size_t *last = arena_alloc(&s->arena, sizeof(*last));
    *last = add_creates(s, txn, name, above, &mb);
    s->job = last;
    return submit(s, txn, created);
}

/* ---- DELETE ------------------------------------------------------------ */

struct tree {
    struct store_txn *txn;
    const struct imap_session *s;
    uint64_t now_s;
};

static bool
delete_one(void *ctx, const struct mailbox *mb)
{
    struct tree *t = ctx;

    txn_delete(t->txn, mb->id, t->s->opt->delete_delayed, t->now_s);
    return true;
}

static enum run
deleted(struct imap_session *s)
{
    struct mailbox mb;
    struct error err = {0};

    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    /* Who deletes what is selected need not be thrown out. */
    if (s->sel != NULL) {
        AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
        enum errcode rc = snap_mailbox(snap, s->sel->id, &s->arena, &mb, &err);
        if (rc == ERR_NOTFOUND || (rc == ERR_OK && mb.is_deleted)) {
            unselect(s);
            buf_add_str(&s->out,
                        "* OK [CLOSED] Selected mailbox was deleted\r\n");
        }
    }
    return reply(s, "OK Completed");
}

enum run
cmd_delete(struct imap_session *s)
{
    struct mailbox mb;
    struct error err = {0};
    enum errcode rc = ERR_OK;

    if (refuse_on_replica(s))
        return RUN_DONE;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    if (!find_mailbox(s, snap, without_separator(s, s->cmd->name),
                      ACL_DELETEMBOX, &mb))
        return RUN_DONE;
    bool inbox = name_is_inbox(mb.name);
    if (inbox && !s->is_admin)
        return reply(s, "NO [CANNOT] INBOX cannot be deleted");
    struct tree tree = {
        .txn = txn_new(), .s = s, .now_s = env_wall_us(s->opt->env) / 1000000};
    delete_one(&tree, &mb);
    if (inbox) /* the user goes, with all folders */
        rc = snap_each_mailbox(snap, arena_printf(&s->arena, "%s.", mb.name),
                               delete_one, &tree, &err);
    if (rc != ERR_OK) {
        txn_free(&tree.txn);
        return reply_error(s, &err);
    }
    return submit(s, tree.txn, deleted);
}

/* ---- RENAME ------------------------------------------------------------ */

/* INBOX: its messages go, it stays (RFC 3501, 6.3.5). */
struct inbox_job {
    mbid_t from;
    uint32_t last_uid;
};

static enum run
inbox_target_made(struct imap_session *s)
{
    const struct inbox_job *job = s->job;
    AUTO(uidset_free) struct uidset all = UIDSET_INIT;

    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    /* The last create is the target, those before it are its parents. */
    mbid_t to = 0;
    struct mailbox mb;
    struct error err = {0};
    const char *name = internal_name(s, without_separator(s, s->cmd->arg));
    struct store_snap *snap = store_snapshot(s->store);
    enum errcode rc =
        name == NULL ? error_set(&err, ERR_BADNAME, "bad name")
                     : snap_mailbox_by_name(snap, name, &s->arena, &mb, &err);
    store_release(&snap);
    if (rc != ERR_OK)
        return reply_error(s, &err);
    to = mb.id;
    if (job->last_uid == 0)
        return reply(s, "OK Completed");
    uidset_add(&all, 1, job->last_uid);
    struct store_txn *txn = txn_new();
    txn_copy(txn, job->from, &all, to, true, false);
    return submit(s, txn, committed);
}

static enum run
rename_inbox(struct imap_session *s, const struct mailbox *from, const char *to,
             const struct mailbox *above)
{
    const struct txn_mailbox mb = {.check_quota = true,
                                   .default_acl = s->opt->default_acl,
                                   .partition = from->partition};
    struct inbox_job *job = arena_alloc(&s->arena, sizeof(*job));

    job->from = from->id;
    job->last_uid = from->exists == 0 ? 0 : from->uidnext - 1;
    s->job = job;
    struct store_txn *txn = txn_new();
    add_creates(s, txn, to, above, &mb);
    return submit(s, txn, inbox_target_made);
}

static bool
is_below(const char *name, const char *top)
{
    size_t n = strlen(top);
    return strncmp(name, top, n) == 0 && name[n] == '.';
}

enum run
cmd_rename(struct imap_session *s)
{
    const struct imap_command *cmd = s->cmd;
    struct mailbox from;
    const struct mailbox *above = NULL;

    if (refuse_on_replica(s))
        return RUN_DONE;
    const char *partition = NULL;
    if (cmd->has_arg2) {
        partition = partition_named(s, cmd->arg2);
        if (partition == NULL)
            return RUN_DONE;
    }
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    if (!find_mailbox(s, snap, without_separator(s, cmd->name), ACL_DELETEMBOX,
                      &from))
        return RUN_DONE;
    const char *to = internal_name(s, without_separator(s, cmd->arg));
    if (to == NULL)
        return RUN_DONE;
    bool inbox = name_is_inbox(from.name);
    if (partition != NULL && s->is_admin && strcmp(to, from.name) == 0) {
        struct store_txn *move = txn_new(); /* only to another partition */
        txn_set_partition(move, from.id, partition, true);
        return submit(s, move, committed);
    }
    if (name_is_inbox(to) && !(s->is_admin && inbox))
        return reply(s, "NO [CANNOT] Cannot rename to an INBOX");
    if (strcmp(to, from.name) == 0 || (!inbox && is_below(to, from.name)))
        return reply(s, "NO [CANNOT] Cannot rename into itself");
    if (!may_create(s, snap, to, &above))
        return RUN_DONE;
    if (inbox && !s->is_admin)
        return rename_inbox(s, &from, to, above);
    struct store_txn *txn = txn_new();
    if (inbox && name_is_inbox(to)) { /* the user, with all that is theirs */
        txn_rename_user(txn, name_owner(from.name, &s->arena),
                        name_owner(to, &s->arena));
        if (partition != NULL)
            txn_set_partition(txn, from.id, partition, true);
        return submit(s, txn, committed);
    }
    const char *up = name_parent(to, &s->arena);
    if (above != NULL && up != NULL && strcmp(up, above->name) != 0) {
        const struct txn_mailbox between = {.default_acl = s->opt->default_acl,
                                            .partition = from.partition,
                                            .exist_ok = true,
                                            .check_quota = true};
        add_creates(s, txn, up, above, &between);
    }
    txn_rename(txn, from.id, to, true);
    if (partition != NULL && s->is_admin)
        txn_set_partition(txn, from.id, partition, true);
    return submit(s, txn, committed);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE -------------------------------------------- */

enum run
cmd_subscribe(struct imap_session *s)
{
    bool set = s->cmd->cmd == CMD_SUBSCRIBE;
    const struct span nothing = SPAN_EMPTY;
    struct mailbox mb;

    if (refuse_on_replica(s))
        return RUN_DONE;
    struct span external = without_separator(s, s->cmd->name);
    const char *name = internal_name(s, external);
    if (name == NULL)
        return RUN_DONE;
    if (set && !s->opt->subscribe_all) {
        AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
        if (!find_mailbox(s, snap, external, 0, &mb))
            return RUN_DONE;
    }
    struct store_txn *txn = txn_new();
    txn_user(txn, s->user, USER_SUBSCRIPTION, name, set ? &nothing : NULL);
    return submit(s, txn, committed);
}

/* ---- STATUS ------------------------------------------------------------ */

static enum errcode
count_recent(struct store_snap *snap, const struct mailbox *mb, uint32_t *ret,
             struct error *err)
{
    struct message msg;
    uint32_t n = 0;

    if (mb->recent_uid >= mb->uidnext - 1) {
        *ret = 0;
        return ERR_OK;
    }
    struct msg_iter *it =
        snap_messages(snap, mb->id, mb->recent_uid + 1, false);
    while (msg_iter_next(it, &msg))
        n++;
    *ret = n;
    return msg_iter_close(&it, err);
}

/* RFC 9208, 4.1.4: octets that an EXPUNGE would free. */
static enum errcode
count_deleted_bytes(struct store_snap *snap, const struct mailbox *mb,
                    uint64_t *ret, struct error *err)
{
    struct message msg;
    uint64_t bytes = 0;

    *ret = 0;
    if (mb->deleted == 0)
        return ERR_OK;
    struct msg_iter *it = snap_messages(snap, mb->id, 1, false);
    while (msg_iter_next(it, &msg))
        if ((msg.flags & FLAG_DELETED) != 0)
            bytes += msg.size;
    *ret = bytes;
    return msg_iter_close(&it, err);
}

enum errcode
write_status(struct imap_session *s, struct store_snap *snap,
             const struct mailbox *mb, const char *external, unsigned items,
             struct buf *out, struct error *err)
{
    uint32_t recent = 0, unseen = 0;
    uint64_t deleted_bytes = 0;

    if ((items & STATUS_DELETED_STORAGE) != 0) {
        enum errcode rc = count_deleted_bytes(snap, mb, &deleted_bytes, err);
        if (rc != ERR_OK)
            return rc;
    }
    if ((items & STATUS_UNSEEN) != 0) {
        enum errcode rc = count_unseen(s, snap, mb, &unseen, err);
        if (rc != ERR_OK)
            return rc;
    }
    if ((items & STATUS_RECENT) != 0) {
        enum errcode rc = count_recent(snap, mb, &recent, err);
        if (rc != ERR_OK)
            return rc;
    }
    const struct {
        unsigned bit;
        const char *name;
        uint64_t value;
    } rows[] = {{STATUS_MESSAGES, "MESSAGES", mb->exists},
                {STATUS_RECENT, "RECENT", recent},
                {STATUS_UIDNEXT, "UIDNEXT", mb->uidnext},
                {STATUS_UIDVALIDITY, "UIDVALIDITY", mb->uidvalidity},
                {STATUS_UNSEEN, "UNSEEN", unseen},
                {STATUS_DELETED, "DELETED", mb->deleted},
                {STATUS_DELETED_STORAGE, "DELETED-STORAGE", deleted_bytes},
                {STATUS_SIZE, "SIZE", mb->bytes},
                {STATUS_HIGHESTMODSEQ, "HIGHESTMODSEQ", mb->highestmodseq}};

    buf_add_str(out, "* STATUS ");
    write_astring_str(out, external);
    const char *before = " (";
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if ((items & rows[i].bit) == 0)
            continue;
        buf_add_str(out, before);
        buf_add_str(out, rows[i].name);
        buf_add_byte(out, ' ');
        write_number(out, rows[i].value);
        before = " ";
    }
    if ((items & STATUS_APPENDLIMIT) != 0) { /* RFC 7889, 3.1 */
        buf_addf(out, "%sAPPENDLIMIT %" PRIu64, before,
                 s->opt->message_bytes_max);
        before = " ";
    }
    if ((items & STATUS_MAILBOXID) != 0)
        buf_addf(out, "%sMAILBOXID (%s)", before, mb->uniqueid.s);
    buf_add_str(out, ")\r\n");
    return ERR_OK;
}

enum run
cmd_status(struct imap_session *s)
{
    struct mailbox mb;
    struct error err = {0};
    if ((s->cmd->status & STATUS_HIGHESTMODSEQ) != 0) /* RFC 7162, 3.1 */
        enable_condstore(s);
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    if (!find_mailbox(s, snap, s->cmd->name, ACL_READ, &mb))
        return RUN_DONE;
    if (write_status(s, snap, &mb, external_name(s, mb.name, &s->arena),
                     s->cmd->status, &s->out, &err) != ERR_OK)
        return reply_error(s, &err);
    return reply(s, "OK Completed");
}

/* ---- NAMESPACE --------------------------------------------------------- */

static void
write_namespace(struct buf *out, const char *prefix, char sep)
{
    AUTO(buf_free) struct buf full = BUF_INIT;

    buf_add_str(&full, prefix);
    if (*prefix != '\0')
        buf_add_byte(&full, (uint8_t)sep);
    buf_add_str(out, " ((");
    write_string(out, buf_span(&full));
    buf_addf(out, " \"%c\"))", sep);
}

/* RFC 2342 */
enum run
cmd_namespace(struct imap_session *s)
{
    const struct namespace *ns = &s->opt->ns;
    bool alt = ns->alt && !s->is_admin;

    buf_add_str(&s->out, "* NAMESPACE");
    write_namespace(&s->out, alt ? "" : "INBOX", ns->sep);
    write_namespace(&s->out, alt ? ns->user_prefix : "user", ns->sep);
    write_namespace(&s->out, alt ? ns->shared_prefix : "", ns->sep);
    buf_add_str(&s->out, "\r\n");
    return reply(s, "OK Completed");
}
