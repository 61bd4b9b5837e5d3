/*
 * imapd/list.c - LIST, LSUB and XLIST: RFC 3501, 6.3.8 and 6.3.9, RFC 5258 with
 * the special uses of RFC 6154, and what may go with each mailbox: STATUS (RFC
 * 5819), MYRIGHTS (8440), METADATA (9590).
 *
 * A worker collects what the user may see, for there may be very many mailboxes
 * of others; then the session tells those that match, as the client reads.
 *
 * Entries are sorted so that all below a name follow it at once.  So one walk
 * from the end finds for each whether anything below it is a mailbox, is what
 * was selected, or is that and matches no pattern (which is what CHILDINFO is
 * for).  Levels that are no mailboxes but lead to one are told with the first
 * one below them.
 */
#include "imapd/session_private.h"

#include <stdlib.h>

#define TURN_ENTRIES 2000U
/* Responses that follow the LIST of a mailbox. */
#define RETURN_MORE                                                            \
    (LIST_RETURN_STATUS | LIST_RETURN_MYRIGHTS | LIST_RETURN_METADATA)

struct list_entry {
    const char *name; /* as the client sees it */
    const char *special_use;
    const struct mailbox *mb; /* if more than the name is asked for */
    const char *status;       /* the response, or NULL */
    uint32_t rights;          /* of the user on it */
    bool exists;
    bool subscribed;
    bool has_children;
    bool leads_to_selected; /* something below it was asked for */
    bool leads_to_hidden;   /* and will not be told of itself */
};

struct list_job {
    struct arena arena;
    struct list_entry *entries;
    size_t n;
    size_t cap;
    size_t at; /* of telling */
    struct span *patterns;
    size_t npatterns;
    char sep;
    bool subscribed_only;
    bool recursive;
    struct error err;
    struct imap_session *s;
    struct store_snap *snap;
};

static void
list_end(struct imap_session *s)
{
    struct list_job *job = s->job;

    arena_free(&job->arena);
    free(job->entries);
    store_release(&job->snap);
}

static struct list_entry *
add_entry(struct list_job *job, const char *name)
{
    if (job->n == job->cap) {
        job->cap = job->cap == 0 ? 32 : job->cap * 2;
        job->entries =
            xrealloc(job->entries, job->cap * sizeof(job->entries[0]));
    }
    struct list_entry *e = &job->entries[job->n++];
    *e = (struct list_entry){.name = name, .special_use = ""};
    return e;
}

/* On the worker. */
static bool
see_mailbox(void *ctx, const struct mailbox *mb)
{
    struct list_job *job = ctx;
    struct imap_session *s = job->s;

    const uint32_t rights = rights_of(s, mb);
    if ((rights & ACL_LOOKUP) == 0)
        return true;
    struct list_entry *e =
        add_entry(job, external_name(s, mb->name, &job->arena));
    e->exists = true;
    e->rights = rights;
    const char *owner =
        *mb->special_use == '\0' ? NULL : name_owner(mb->name, &job->arena);
    if (owner != NULL && strcmp(owner, s->user) == 0)
        e->special_use = arena_str(&job->arena, span_str(mb->special_use));
    if ((s->cmd->list.options & RETURN_MORE) != 0) {
        struct mailbox *copy = arena_alloc(&job->arena, sizeof(*copy));
        *copy = *mb;
        copy->name = arena_str(&job->arena, span_str(mb->name));
        copy->acl = arena_str(&job->arena, span_str(mb->acl));
        copy->special_use = e->special_use;
        copy->partition = arena_str(&job->arena, span_str(mb->partition));
        copy->quota_root = "";
        e->mb = copy;
    }
    return true;
}

static bool
see_subscription(void *ctx, const char *name, struct span value)
{
    struct list_job *job = ctx;

    (void)value;
    add_entry(job, external_name(job->s, name, &job->arena))->subscribed = true;
    return true;
}

/* The separator counts as the lowest byte, so that children follow. */
static int
compare_names(const char *a, const char *b, char sep)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    if (*a == *b)
        return 0;
    int x = *a == sep ? 1 : *a == '\0' ? 0 : (uint8_t)*a + 1;
    int y = *b == sep ? 1 : *b == '\0' ? 0 : (uint8_t)*b + 1;
    return x - y;
}

static int
compare_entries(const void *a, const void *b, void *ctx)
{
    const struct list_job *job = ctx;

    return compare_names(((const struct list_entry *)a)->name,
                         ((const struct list_entry *)b)->name, job->sep);
}

/* Is BELOW a name below NAME? */
static bool
is_child(const char *name, const char *below, char sep)
{
    size_t n = strlen(name);
    return strncmp(name, below, n) == 0 && below[n] == sep;
}

/* Mailbox and subscription of one name become one entry. */
static void
merge_entries(struct list_job *job)
{
    size_t out = 0;

    if (job->n > 1)
        qsort_r(job->entries, job->n, sizeof(job->entries[0]), compare_entries,
                job);
    for (size_t i = 0; i < job->n; i++) {
        struct list_entry *e = &job->entries[i];
        if (out > 0 && strcmp(job->entries[out - 1].name, e->name) == 0) {
            struct list_entry *into = &job->entries[out - 1];
            into->exists |= e->exists;
            into->subscribed |= e->subscribed;
            if (*e->special_use != '\0')
                into->special_use = e->special_use;
            if (e->mb != NULL) {
                into->mb = e->mb;
                into->rights = e->rights;
            }
        } else {
            job->entries[out++] = *e;
        }
    }
    job->n = out;
}

static bool
matches(const struct list_job *job, const char *name)
{
    for (size_t i = 0; i < job->npatterns; i++)
        if (name_match(name, job->patterns[i], job->sep))
            return true;
    return false;
}

static bool
is_selected(const struct imap_session *s, const struct list_job *job,
            const struct list_entry *e)
{
    bool uses = (s->cmd->list.options & LIST_SELECT_SPECIAL_USE) != 0;

    if (uses && (!e->exists || *e->special_use == '\0'))
        return false;
    return job->subscribed_only ? e->subscribed : e->exists;
}

/* What lies below each entry. */
static void
look_below(struct list_job *job)
{
    const struct list_entry *real = NULL, *selected = NULL, *hidden = NULL;

    for (size_t i = job->n; i-- > 0;) {
        struct list_entry *e = &job->entries[i];
        e->has_children =
            real != NULL && is_child(e->name, real->name, job->sep);
        e->leads_to_selected =
            selected != NULL && is_child(e->name, selected->name, job->sep);
        e->leads_to_hidden =
            hidden != NULL && is_child(e->name, hidden->name, job->sep);
        if (e->exists)
            real = e;
        if (is_selected(job->s, job, e)) {
            selected = e;
            if (!matches(job, e->name))
                hidden = e;
        }
    }
}

/* RFC 5819: only what the LIST tells of, and what may be read. */
static enum errcode
make_statuses(struct list_job *job)
{
    enum errcode rc = ERR_OK;
    AUTO(buf_free) struct buf out = BUF_INIT;

    for (size_t i = 0; i < job->n && rc == ERR_OK; i++) {
        struct list_entry *e = &job->entries[i];
        if (e->mb == NULL || !is_selected(job->s, job, e) ||
            !matches(job, e->name) || (e->rights & ACL_READ) == 0)
            continue;
        buf_clear(&out);
        rc = write_status(job->s, job->snap, e->mb, e->name,
                          job->s->cmd->list.status, &out, &job->err);
        e->status = arena_str(&job->arena, buf_span(&out));
    }
    return rc;
}

static void
list_work(void *arg)
{
    struct imap_session *s = arg;
    struct list_job *job = s->job;

    job->snap = store_snapshot(s->store);
    enum errcode rc =
        s->is_admin
            ? snap_each_mailbox(job->snap, "", see_mailbox, job, &job->err)
            : snap_each_visible(job->snap, s->user, see_mailbox, job,
                                &job->err);
    if (rc == ERR_OK && s->is_admin)
        rc = snap_each_mailbox(
            job->snap, arena_printf(&job->arena, "%s.", s->opt->deleted_prefix),
            see_mailbox, job, &job->err);
    if (rc == ERR_OK)
        rc = snap_user_each(job->snap, s->user, USER_SUBSCRIPTION,
                            see_subscription, job, &job->err);
    if (rc == ERR_OK) {
        merge_entries(job);
        look_below(job);
        if (s->cmd->list.status != 0)
            rc = make_statuses(job);
    }
    store_release(&job->snap);
}

/* ---- telling ----------------------------------------------------------- */

/* RFC 3501, 6.3.8: levels are listed where a pattern ends in "%". */
static bool
matches_level(const struct list_job *job, const char *level)
{
    for (size_t i = 0; i < job->npatterns; i++) {
        struct span p = job->patterns[i];
        if (p.p[p.n - 1] == '%' && name_match(level, p, job->sep))
            return true;
    }
    return false;
}

static void
add_attribute(struct buf *out, const char **before, const char *name)
{
    buf_add_str(out, *before);
    buf_add_str(out, name);
    *before = " ";
}

static const char *
response_name(enum imap_cmd cmd)
{
    return cmd == CMD_LSUB ? "LSUB" : cmd == CMD_XLIST ? "XLIST" : "LIST";
}

/* The names that clients knew before RFC 6154. */
static void
add_xlist_uses(struct buf *out, const char **before, const struct list_entry *e)
{
    static const char *const old[][2] = {{"\\Archive", "\\AllMail"},
                                         {"\\Junk", "\\Spam"}};
    struct span left = span_str(e->special_use);

    if (strcmp(e->name, "INBOX") == 0)
        add_attribute(out, before, "\\Inbox");
    while (left.n > 0) {
        ptrdiff_t sp = span_find_byte(left, ' ', 0);
        struct span use = sp < 0 ? left : span_sub(left, 0, (size_t)sp);
        left = span_skip(left, use.n + 1);
        buf_add_str(out, *before);
        *before = " ";
        for (size_t i = 0; i < ARRAY_LEN(old); i++)
            if (span_eq_nocase_str(use, old[i][0]))
                use = span_str(old[i][1]);
        buf_add(out, use);
    }
}

/* RFC 5258, 3.5 */
static void
write_childinfo(struct imap_session *s)
{
    const unsigned options = s->cmd->list.options;
    const char *before = "";

    buf_add_str(&s->out, " (\"CHILDINFO\" (");
    if ((options & LIST_SELECT_SUBSCRIBED) != 0)
        add_attribute(&s->out, &before, "\"SUBSCRIBED\"");
    if ((options & LIST_SELECT_SPECIAL_USE) != 0)
        add_attribute(&s->out, &before, "\"SPECIAL-USE\"");
    buf_add_str(&s->out, "))");
}

static void
write_entry(struct imap_session *s, const struct list_job *job,
            const struct list_entry *e, const char *special)
{
    const struct imap_command *cmd = s->cmd;
    const char *before = "";

    buf_add_str(&s->out, "* ");
    buf_add_str(&s->out, response_name(cmd->cmd));
    buf_add_str(&s->out, " (");
    if (special != NULL)
        add_attribute(&s->out, &before, special);
    if (cmd->cmd != CMD_LSUB || e->has_children)
        add_attribute(&s->out, &before,
                      e->has_children ? "\\HasChildren" : "\\HasNoChildren");
    if (cmd->cmd == CMD_LIST && e->subscribed &&
        (cmd->list.options &
         (LIST_SELECT_SUBSCRIBED | LIST_RETURN_SUBSCRIBED)) != 0)
        add_attribute(&s->out, &before, "\\Subscribed");
    if (cmd->cmd == CMD_LIST && *e->special_use != '\0')
        add_attribute(&s->out, &before, e->special_use);
    if (cmd->cmd == CMD_XLIST)
        add_xlist_uses(&s->out, &before, e);
    buf_add_str(&s->out, ") \"");
    buf_add_byte(&s->out, (uint8_t)job->sep);
    buf_add_str(&s->out, "\" ");
    write_astring_str(&s->out, e->name);
    if (job->recursive && e->leads_to_selected)
        write_childinfo(s);
    buf_add_str(&s->out, "\r\n");
}

/* What goes with it. */
static enum errcode
write_more(struct imap_session *s, const struct list_entry *e,
           struct error *err)
{
    const struct imap_list *list = &s->cmd->list;

    if (e->status != NULL)
        buf_add_str(&s->out, e->status);
    if (e->mb == NULL)
        return ERR_OK;
    if ((list->options & LIST_RETURN_MYRIGHTS) != 0)
        write_myrights(s, e->mb);
    if ((list->options & LIST_RETURN_METADATA) == 0)
        return ERR_OK;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    return write_metadata(s, snap, e->mb, list->entries, list->nentries, err);
}

static const struct list_entry *
find_entry(const struct list_job *job, const char *name)
{
    size_t lo = 0, hi = job->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare_names(job->entries[mid].name, name, job->sep);
        if (c == 0)
            return &job->entries[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* The last name before entry AT that is told of or was passed: a level is told
 * once, with the first entry below it. */
static bool
is_first_below(const struct imap_session *s, const struct list_job *job,
               const char *level)
{
    for (size_t i = job->at; i-- > 0;) {
        if (!is_child(level, job->entries[i].name, job->sep))
            return true;
        if (is_selected(s, job, &job->entries[i]))
            return false;
    }
    return true;
}

/* Entries below LEVEL begin at AT: does one of them count that is not told? */
static bool
leads_to_hidden(const struct imap_session *s, const struct list_job *job,
                const char *level)
{
    for (size_t i = job->at; i < job->n; i++) {
        const struct list_entry *e = &job->entries[i];
        if (!is_child(level, e->name, job->sep))
            return false;
        if (is_selected(s, job, e) && !matches(job, e->name))
            return true;
    }
    return false;
}

/* Is LEVEL, above the entry at AT, to be told though nobody asked for it? */
static bool
tells_level(const struct imap_session *s, const struct list_job *job,
            const char *level)
{
    const struct list_entry *there = find_entry(job, level);
    unsigned options = s->cmd->list.options;

    if (*level == '\0' || (there != NULL && is_selected(s, job, there)))
        return false;
    if (job->recursive) /* what is an entry has its own turn */
        return there == NULL && matches(job, level) &&
               is_first_below(s, job, level) && leads_to_hidden(s, job, level);
    /* RFC 5258: with selection options only what was asked for. */
    if ((options & (LIST_SELECT_SPECIAL_USE | LIST_SELECT_SUBSCRIBED)) != 0)
        return false;
    return matches_level(job, level) && is_first_below(s, job, level);
}

static void
write_levels(struct imap_session *s, const struct list_job *job,
             const struct list_entry *e)
{
    for (const char *p = strchr(e->name, job->sep); p != NULL;
         p = strchr(p + 1, job->sep)) {
        const char *level =
            arena_str(&s->arena, span_of(e->name, (size_t)(p - e->name)));
        if (!tells_level(s, job, level))
            continue;
        const struct list_entry entry = {.name = level,
                                         .special_use = "",
                                         .has_children = true,
                                         .leads_to_selected = true};
        write_entry(s, job, &entry,
                    s->cmd->list.extended ? "\\NonExistent" : "\\Noselect");
    }
}

/* The entry at AT, what leads to it, and what goes with it. */
static enum errcode
tell_entry(struct imap_session *s, const struct list_job *job,
           struct error *err)
{
    const struct list_entry *e = &job->entries[job->at];
    const bool selected = is_selected(s, job, e);
    const char *special =
        !e->exists && s->cmd->cmd == CMD_LIST ? "\\NonExistent" : NULL;

    if (selected)
        write_levels(s, job, e);
    if (!matches(job, e->name) ||
        (!selected && !(job->recursive && e->leads_to_hidden)))
        return ERR_OK;
    write_entry(s, job, e, special);
    return selected ? write_more(s, e, err) : ERR_OK;
}

static enum run
list_tell(struct imap_session *s)
{
    struct list_job *job = s->job;
    struct error err = {0};

    for (unsigned n = 0; n < TURN_ENTRIES; n++) {
        if (job->at == job->n)
            return reply(s, "OK Completed");
        if (is_full(s))
            return RUN_FULL;
        if (tell_entry(s, job, &err) != ERR_OK)
            return reply_error(s, &err);
        job->at++;
    }
    return RUN_YIELD;
}

static enum run
list_collected(struct imap_session *s)
{
    struct list_job *job = s->job;

    if (job->err.code != ERR_OK)
        return reply_error(s, &job->err);
    s->run = list_tell;
    return list_tell(s);
}

/* ---- asking ------------------------------------------------------------ */

/* Reference and pattern, INBOX in its usual spelling. */
static struct span
full_pattern(struct imap_session *s, struct span reference, struct span pattern)
{
    uint8_t *p = arena_alloc(&s->arena, reference.n + pattern.n + 1);
    struct span full = span_of(p, reference.n + pattern.n);
    char sep = s->opt->ns.sep;

    if (reference.n > 0)
        memcpy(p, reference.p, reference.n);
    if (pattern.n > 0)
        memcpy(p + reference.n, pattern.p, pattern.n);
    if (span_starts_nocase(full, SPAN_LIT("INBOX")) &&
        (full.n == 5 || p[5] == (uint8_t)sep || p[5] == '*' || p[5] == '%'))
        memcpy(p, "INBOX", 5);
    return full;
}

/* LIST "" "": what separates levels, and the root of the reference. */
static enum run
list_root(struct imap_session *s)
{
    struct span ref = s->cmd->list.reference;
    char sep = s->opt->ns.sep;
    ptrdiff_t end = span_find_byte(ref, (uint8_t)sep, 0);

    buf_addf(&s->out, "* %s (\\Noselect) \"%c\" ", response_name(s->cmd->cmd),
             sep);
    write_string(&s->out,
                 end < 0 ? SPAN_EMPTY : span_sub(ref, 0, (size_t)end + 1));
    buf_add_str(&s->out, "\r\n");
    return reply(s, "OK Completed");
}

enum run
cmd_list(struct imap_session *s)
{
    const struct imap_list *list = &s->cmd->list;
    struct list_job *job = arena_alloc(&s->arena, sizeof(*job));

    if (list->npatterns == 1 && list->patterns[0].n == 0 && !list->extended)
        return list_root(s);
    job->s = s;
    job->sep = s->opt->ns.sep;
    job->subscribed_only = s->cmd->cmd == CMD_LSUB ||
                           (list->options & LIST_SELECT_SUBSCRIBED) != 0;
    job->recursive = (list->options & LIST_SELECT_RECURSIVE) != 0;
    for (size_t i = 0; i < list->nentries; i++)
        if (!metadata_name_ok(s, list->entries[i]))
            return reply(s, "BAD Invalid entry name");
    job->patterns =
        arena_array(&s->arena, list->npatterns, sizeof(job->patterns[0]));
    for (size_t i = 0; i < list->npatterns; i++)
        if (list->patterns[i].n > 0)
            job->patterns[job->npatterns++] =
                full_pattern(s, list->reference, list->patterns[i]);
    s->job = job;
    s->job_end = list_end;
    return run_work(s, list_work, list_collected);
}

/* ---- for SELECT -------------------------------------------------------- */

struct below {
    struct imap_session *s;
    const char *name; /* external */
    bool found;
};

static bool
see_below(void *ctx, const struct mailbox *mb)
{
    struct below *b = ctx;

    if ((rights_of(b->s, mb) & ACL_LOOKUP) != 0)
        b->found =
            is_child(b->name, external_name(b->s, mb->name, &b->s->arena),
                     b->s->opt->ns.sep);
    return !b->found;
}

enum errcode
write_list_of(struct imap_session *s, struct store_snap *snap,
              const struct mailbox *mb, struct span name, const char *extra,
              struct error *err)
{
    const char *external = external_name(s, mb->name, &s->arena);
    const char *owner = name_owner(mb->name, &s->arena);
    struct below below = {.s = s, .name = external};

    enum errcode rc = snap_each_mailbox(
        snap, arena_printf(&s->arena, "%s.", mb->name), see_below, &below, err);
    if (rc != ERR_OK)
        return rc;
    buf_addf(&s->out, "* LIST (%s%s", extra,
             below.found ? "\\HasChildren" : "\\HasNoChildren");
    if (*mb->special_use != '\0' && owner != NULL &&
        strcmp(owner, s->user) == 0)
        buf_addf(&s->out, " %s", mb->special_use);
    buf_addf(&s->out, ") \"%c\" ", s->opt->ns.sep);
    write_astring_str(&s->out, external);
    if (!span_eq_str(name, external)) {
        buf_add_str(&s->out, " (\"OLDNAME\" (");
        write_astring_str(&s->out, arena_str(&s->arena, name));
        buf_add_str(&s->out, "))");
    }
    buf_add_str(&s->out, "\r\n");
    return ERR_OK;
}
