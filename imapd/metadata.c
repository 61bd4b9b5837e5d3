/*
 * imapd/metadata.c - GETMETADATA and SETMETADATA (RFC 5464): annotations of
 * mailboxes and of the server.
 *
 * An entry "/shared/comment" is the row "/comment" of nobody,
 * "/private/comment" that of the user.  Names are kept in lower case.  Below
 * /shared/vendor/cmu/cyrus-imapd some say what the store knows already, some
 * steer it, as Cyrus's do; /private/specialuse is the mailbox's special use
 * (RFC 6154, 4).
 */
#include "imapd/session_private.h"

#include "store/record.h"

#define VENDOR "/vendor/cmu/cyrus-imapd/"

struct target {
    mbid_t id; /* 0: the server */
    struct mailbox mb;
    const char *external;
};

/* ---- names ------------------------------------------------------------- */

/* To ask for all of one scope. */
static bool
is_scope(struct span name)
{
    return span_eq_nocase_str(name, "/shared") ||
           span_eq_nocase_str(name, "/private");
}

/* "/shared/ *" without the blank: all below, as cyradm asks for it. */
static bool
is_all_below(struct span name)
{
    return name.n > 2 && name.p[name.n - 1] == '*' && name.p[name.n - 2] == '/';
}

/* "/shared" or "/private" and what follows, in lower case; false: BAD. */
static bool
split_entry(struct imap_session *s, struct span name, const char **ret_entry,
            bool *ret_private)
{
    char *text = arena_alloc(&s->arena, name.n + 1);

    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] < 0x1a || name.p[i] >= 0x7f || name.p[i] == '*' ||
            name.p[i] == '%' ||
            (name.p[i] == '/' && (i + 1 == name.n || name.p[i + 1] == '/')))
            return false;
        text[i] = (char)ascii_lower(name.p[i]);
    }
    text[name.n] = '\0';
    *ret_private = strncmp(text, "/private/", 9) == 0;
    if (!*ret_private && strncmp(text, "/shared/", 8) != 0)
        return false;
    *ret_entry = text + (*ret_private ? 8 : 7);
    return name.n <= ANNOT_ENTRY_MAX;
}

/* RFC 5464, 3.3 */
static bool
may_read(struct imap_session *s, const struct mailbox *mb)
{
    const uint32_t any =
        ACL_READ | ACL_SEEN | ACL_WRITE | ACL_INSERT | ACL_POST;

    return s->is_admin || (rights_of(s, mb) & any) != 0;
}

/* False: the reply is set. */
static bool
find_target(struct imap_session *s, struct store_snap *snap, struct target *ret)
{
    *ret = (struct target){.external = ""};
    if (s->cmd->name.n == 0)
        return true;
    if (!find_mailbox(s, snap, s->cmd->name, 0, &ret->mb))
        return false;
    if (!may_read(s, &ret->mb)) {
        reply(s, "NO [NOPERM] Permission denied");
        return false;
    }
    ret->id = ret->mb.id;
    ret->external = external_name(s, ret->mb.name, &s->arena);
    return true;
}

/* ---- reading ----------------------------------------------------------- */

struct get_job {
    struct imap_session *s;
    struct buf *out;
    bool first;
    uint64_t longest; /* of the values over MAXSIZE */
};

/* Is ENTRY asked for, by name or by DEPTH? */
static bool
is_wanted(const struct imap_session *s, const char *scope, const char *entry)
{
    const struct imap_command *cmd = s->cmd;
    const size_t n = strlen(scope) + strlen(entry);

    for (size_t i = 0; i < cmd->nwords; i++) {
        struct span w = cmd->words[i];
        const bool all = is_all_below(w);
        if (all)
            w.n -= 2;
        if (w.n < strlen(scope) || w.n > n ||
            !span_eq_nocase_str(span_sub(w, 0, strlen(scope)), scope))
            continue;
        struct span rest = span_skip(w, strlen(scope));
        const char *below = entry + rest.n;
        if (!span_eq_nocase(rest, span_of(entry, rest.n)))
            continue;
        if (*below == '\0' ||
            (*below == '/' &&
             (all || cmd->metadata_depth == METADATA_ALL_BELOW ||
              (cmd->metadata_depth == METADATA_ONE_BELOW &&
               strchr(below + 1, '/') == NULL))))
            return true;
    }
    return false;
}

static void
tell_entry(struct get_job *job, const char *scope, const char *entry,
           struct span value)
{
    if (!is_wanted(job->s, scope, entry))
        return;
    if (job->s->cmd->has_maxsize && value.n > job->s->cmd->maxsize) {
        job->longest = MAX(job->longest, (uint64_t)value.n);
        return;
    }
    if (!job->first)
        buf_add_byte(job->out, ' ');
    job->first = false;
    buf_add_str(job->out, scope);
    buf_add_str(job->out, entry);
    buf_add_byte(job->out, ' ');
    write_string(job->out, value);
}

static bool
on_annot(void *ctx, const char *entry, const char *user, struct span value)
{
    struct get_job *job = ctx;

    if (*user == '\0')
        tell_entry(job, "/shared", entry, value);
    else if (strcmp(user, job->s->user) == 0)
        tell_entry(job, "/private", entry, value);
    return true;
}

/* What the store knows of a mailbox without being told. */
static void
tell_computed(struct get_job *job, const struct mailbox *mb)
{
    struct imap_session *s = job->s;
    const char *owner = name_owner(mb->name, &s->arena);

    tell_entry(job, "/shared", VENDOR "size",
               span_str(arena_printf(&s->arena, "%" PRIu64, mb->bytes)));
    tell_entry(job, "/shared", VENDOR "partition", span_str(mb->partition));
    tell_entry(job, "/shared", VENDOR "uniqueid", span_str(mb->uniqueid.s));
    tell_entry(
        job, "/shared", VENDOR "sharedseen",
        span_str((mb->options & MBOX_SHAREDSEEN) != 0 ? "true" : "false"));
    if (*mb->special_use != '\0' && owner != NULL &&
        strcmp(owner, s->user) == 0)
        tell_entry(job, "/private", "/specialuse", span_str(mb->special_use));
}

bool
metadata_name_ok(struct imap_session *s, struct span name)
{
    const char *entry;
    bool is_private;

    return split_entry(s, name, &entry, &is_private);
}

/* One name of a LIST (RFC 9590), whose command has its own words. */
static enum errcode
write_value(struct imap_session *s, struct store_snap *snap,
            const struct mailbox *mb, struct span name, struct error *err)
{
    AUTO(buf_free) struct buf found = BUF_INIT;
    struct imap_command one = {.words = &name, .nwords = 1};
    struct imap_command *const cmd = s->cmd;
    struct get_job job = {.s = s, .out = &found, .first = true};

    s->cmd = &one;
    enum errcode rc = snap_annots(snap, mb->id, 0, on_annot, &job, err);
    if (rc == ERR_OK)
        tell_computed(&job, mb);
    s->cmd = cmd;
    if (rc == ERR_OK && job.first) {
        write_astring(&s->out, name);
        buf_add_str(&s->out, " NIL");
    } else if (rc == ERR_OK) {
        buf_add(&s->out, buf_span(&found));
    }
    return rc;
}

enum errcode
write_metadata(struct imap_session *s, struct store_snap *snap,
               const struct mailbox *mb, const struct span *names,
               size_t nnames, struct error *err)
{
    enum errcode rc = ERR_OK;

    if (!may_read(s, mb))
        return ERR_OK;
    buf_add_str(&s->out, "* METADATA ");
    write_astring_str(&s->out, external_name(s, mb->name, &s->arena));
    for (size_t i = 0; i < nnames && rc == ERR_OK; i++) {
        buf_add_str(&s->out, i == 0 ? " (" : " ");
        rc = write_value(s, snap, mb, names[i], err);
    }
    buf_add_str(&s->out, ")\r\n");
    return rc;
}

enum run
cmd_getmetadata(struct imap_session *s)
{
    const struct imap_command *cmd = s->cmd;
    struct target target;
    struct error err = {0};
    const char *entry;
    bool is_private;
    AUTO(buf_free) struct buf found = BUF_INIT;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    struct get_job job = {.s = s, .out = &found, .first = true};

    for (size_t i = 0; i < cmd->nwords; i++)
        if (!is_scope(cmd->words[i]) && !is_all_below(cmd->words[i]) &&
            !split_entry(s, cmd->words[i], &entry, &is_private))
            return reply(s, "BAD Invalid entry name");
    if (!find_target(s, snap, &target))
        return RUN_DONE;
    if (snap_annots(snap, target.id, 0, on_annot, &job, &err) != ERR_OK)
        return reply_error(s, &err);
    if (target.id != 0)
        tell_computed(&job, &target.mb);
    if (!job.first) {
        buf_add_str(&s->out, "* METADATA ");
        if (target.id == 0)
            buf_add_str(&s->out, "\"\"");
        else
            write_astring_str(&s->out, target.external);
        buf_add_str(&s->out, " (");
        buf_add(&s->out, buf_span(&found));
        buf_add_str(&s->out, ")\r\n");
    }
    if (job.longest > 0)
        return reply(s, "OK [METADATA LONGENTRIES %" PRIu64 "] Completed",
                     job.longest);
    return reply(s, "OK Completed");
}

/* ---- setting ----------------------------------------------------------- */

static enum run
metadata_set(struct imap_session *s)
{
    if (txn_code(s->txn) == ERR_LIMIT)
        return reply(s, "NO [METADATA TOOMANY] Too many annotations");
    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    return reply(s, "OK Completed");
}

static bool
is_computed(const char *entry)
{
    return strcmp(entry, VENDOR "size") == 0 ||
           strcmp(entry, VENDOR "partition") == 0 ||
           strcmp(entry, VENDOR "uniqueid") == 0 ||
           strcmp(entry, VENDOR "lastupdate") == 0 ||
           strcmp(entry, "/admin") == 0;
}

/* Expiry and its kin decide about mail of others: right a, or an admin. */
static bool
may_set(struct imap_session *s, const struct target *target, const char *entry,
        bool is_private)
{
    if (s->is_admin || is_private)
        return true;
    if (target->id == 0)
        return false;
    return strncmp(entry, VENDOR, strlen(VENDOR)) != 0 ||
           (rights_of(s, &target->mb) & ACL_ADMIN) != 0;
}

/* Annotations that are fields of the mailbox, and have no MODSEQ as such; it
 * grows with them all the same (RFC 7162, 3.2).  False: it is none of them. */
static bool
set_field(struct imap_session *s, struct store_txn *txn,
          const struct target *target, const char *entry, bool is_private,
          const struct span *value)
{
    if (target->id == 0)
        return false;
    if (!is_private && strcmp(entry, VENDOR "sharedseen") == 0) {
        bool on = value != NULL && (span_eq_nocase_str(*value, "true") ||
                                    span_eq_str(*value, "1"));
        txn_set_options(txn, target->id, MBOX_SHAREDSEEN,
                        on ? MBOX_SHAREDSEEN : 0U);
        if (on != ((target->mb.options & MBOX_SHAREDSEEN) != 0))
            txn_raise_modseq(txn, target->id);
        return true;
    }
    if (is_private && strcmp(entry, "/specialuse") == 0) {
        const char *uses = value == NULL ? "" : arena_str(&s->arena, *value);
        txn_set_special_use(txn, target->id, uses);
        if (strcmp(uses, target->mb.special_use) != 0)
            txn_raise_modseq(txn, target->id);
        return true;
    }
    return false;
}

/* One entry into TXN; false: the reply is set. */
static bool
set_entry(struct imap_session *s, struct store_txn *txn,
          const struct target *target, struct span name,
          const struct span *value)
{
    const char *entry;
    bool is_private;

    if (!split_entry(s, name, &entry, &is_private)) {
        reply(s, "BAD Invalid entry name");
        return false;
    }
    if (value != NULL && value->n > ANNOT_VALUE_MAX) {
        reply(s, "NO [METADATA MAXSIZE %u] Value too large",
              (unsigned)ANNOT_VALUE_MAX);
        return false;
    }
    if ((!is_private && is_computed(entry)) ||
        !may_set(s, target, entry, is_private)) {
        reply(s, "NO [NOPERM] Permission denied");
        return false;
    }
    const char *owner =
        target->id == 0 ? NULL : name_owner(target->mb.name, &s->arena);
    if (is_private && strcmp(entry, "/specialuse") == 0 &&
        (owner == NULL || strcmp(owner, s->user) != 0)) {
        reply(s, "NO [NOPERM] Permission denied");
        return false;
    }
    if (is_private && strcmp(entry, "/specialuse") == 0 && value != NULL) {
        const char *uses = parse_uses(s, *value);
        if (uses == NULL)
            return false;
        struct span checked = span_str(uses);
        return set_field(s, txn, target, entry, true, &checked);
    }
    if (set_field(s, txn, target, entry, is_private, value))
        return true;
    const struct txn_annot annot = {.id = target->id,
                                    .entry = entry,
                                    .user = is_private ? s->user : "",
                                    .value = value,
                                    .check_quota = true};
    txn_annotate(txn, &annot);
    return true;
}

enum run
cmd_setmetadata(struct imap_session *s)
{
    const struct imap_command *cmd = s->cmd;
    struct target target;
    struct store_snap *snap;

    if (refuse_on_replica(s))
        return RUN_DONE;
    snap = store_snapshot(s->store);
    bool ok = find_target(s, snap, &target);
    store_release(&snap);
    if (!ok)
        return RUN_DONE;
    struct store_txn *txn = txn_new();
    for (size_t i = 0; ok && i < cmd->nwords; i++)
        ok = set_entry(s, txn, &target, cmd->words[i],
                       cmd->values[i].p == NULL ? NULL : &cmd->values[i]);
    if (!ok) {
        txn_free(&txn);
        return RUN_DONE;
    }
    return submit(s, txn, metadata_set);
}
