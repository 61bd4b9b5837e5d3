/*
 * imapd/list.c - LIST and LSUB (RFC 3501, 6.3.8 and 6.3.9), with what RFC 6154
 * needs of RFC 5258, and STATUS in the answer (RFC 5819).
 *
 * A worker collects what the user may see, for there may be very many mailboxes
 * of others; then the session tells those that match, as the client reads.
 * Levels that are no mailboxes but lead to one that matches are listed with
 * \Noselect.
 */
#include "imapd/session_private.h"

#include <stdlib.h>

#define TURN_ENTRIES 2000U

struct list_entry {
    const char *name; /* as the client sees it */
    const char *special_use;
    const struct mailbox *mb; /* for STATUS; NULL: none is to be told */
    const char *status;       /* the response, or NULL */
    bool exists;
    bool subscribed;
    bool has_children;
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

    if ((rights_of(s, mb) & ACL_LOOKUP) == 0)
        return true;
    struct list_entry *e =
        add_entry(job, external_name(s, mb->name, &job->arena));
    e->exists = true;
    const char *owner =
        *mb->special_use == '\0' ? NULL : name_owner(mb->name, &job->arena);
    if (owner != NULL && strcmp(owner, s->user) == 0)
        e->special_use = arena_str(&job->arena, span_str(mb->special_use));
    if (s->cmd->list.status != 0 && (rights_of(s, mb) & ACL_READ) != 0) {
        struct mailbox *copy = arena_alloc(&job->arena, sizeof(*copy));
        *copy = *mb;
        copy->name = arena_str(&job->arena, span_str(mb->name));
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
            if (e->mb != NULL)
                into->mb = e->mb;
        } else {
            job->entries[out++] = *e;
        }
    }
    job->n = out;
    size_t last_real = SIZE_MAX;
    for (size_t i = job->n; i-- > 0;) {
        struct list_entry *e = &job->entries[i];
        e->has_children =
            last_real != SIZE_MAX &&
            is_child(e->name, job->entries[last_real].name, job->sep);
        if (e->exists)
            last_real = i;
    }
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
    if (job->subscribed_only)
        return e->subscribed;
    if ((s->cmd->list.options & LIST_SELECT_SPECIAL_USE) != 0)
        return e->exists && *e->special_use != '\0';
    return e->exists;
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
            !matches(job, e->name))
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

static void
write_entry(struct imap_session *s, const struct list_job *job,
            const struct list_entry *e, const char *special)
{
    const struct imap_command *cmd = s->cmd;
    const char *before = "";

    buf_addf(&s->out, "* %s (", cmd->cmd == CMD_LSUB ? "LSUB" : "LIST");
    if (special != NULL)
        add_attribute(&s->out, &before, special);
    if (cmd->cmd == CMD_LIST || e->has_children)
        add_attribute(&s->out, &before,
                      e->has_children ? "\\HasChildren" : "\\HasNoChildren");
    if (cmd->cmd == CMD_LIST && e->subscribed &&
        (cmd->list.options &
         (LIST_SELECT_SUBSCRIBED | LIST_RETURN_SUBSCRIBED)) != 0)
        add_attribute(&s->out, &before, "\\Subscribed");
    if (cmd->cmd == CMD_LIST && *e->special_use != '\0')
        add_attribute(&s->out, &before, e->special_use);
    buf_addf(&s->out, ") \"%c\" ", job->sep);
    write_astring_str(&s->out, e->name);
    buf_add_str(&s->out, "\r\n");
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

/* Levels above E that match and would not be listed for themselves. */
static void
write_levels(struct imap_session *s, const struct list_job *job,
             const struct list_entry *e)
{
    unsigned options = s->cmd->list.options;

    /* RFC 5258: with selection options only what was asked for. */
    if ((options & (LIST_SELECT_SPECIAL_USE | LIST_SELECT_SUBSCRIBED)) != 0)
        return;
    for (const char *p = strchr(e->name, job->sep); p != NULL;
         p = strchr(p + 1, job->sep)) {
        const char *level =
            arena_str(&s->arena, span_of(e->name, (size_t)(p - e->name)));
        const struct list_entry *there = find_entry(job, level);
        if (*level == '\0' || (there != NULL && is_selected(s, job, there)) ||
            !matches_level(job, level) || !is_first_below(s, job, level))
            continue;
        const struct list_entry entry = {
            .name = level, .special_use = "", .has_children = true};
        write_entry(s, job, &entry, "\\Noselect");
    }
}

static enum run
list_tell(struct imap_session *s)
{
    struct list_job *job = s->job;

    for (unsigned n = 0; n < TURN_ENTRIES; n++) {
        if (job->at == job->n)
            return reply(s, "OK Completed");
        if (is_full(s))
            return RUN_FULL;
        const struct list_entry *e = &job->entries[job->at];
        if (is_selected(s, job, e)) {
            write_levels(s, job, e);
            if (matches(job, e->name)) {
                write_entry(s, job, e,
                            e->exists                 ? NULL
                            : s->cmd->cmd == CMD_LIST ? "\\NonExistent"
                                                      : NULL);
                if (e->status != NULL)
                    buf_add_str(&s->out, e->status);
            }
        }
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

    buf_addf(&s->out, "* %s (\\Noselect) \"%c\" ",
             s->cmd->cmd == CMD_LSUB ? "LSUB" : "LIST", sep);
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
