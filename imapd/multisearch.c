/*
 * imapd/multisearch.c - ESEARCH (RFC 7377): one search over many mailboxes.
 *
 * They are searched one after another, each with a snapshot of its own, as if
 * it were the selected one: while that goes on s->sel is a mailbox of ours, and
 * the one that is selected is put back at the end, however it comes.
 */
#include "imapd/context.h"
#include "imapd/search.h"

#include <stdlib.h>

#include "store/names.h"

/* RFC 7377, 2.4. */
#define MAILBOXES_MAX 100000U

struct box {
    mbid_t id;
    bool named; /* then l is not needed */
};

struct multi_job {
    struct search_job one; /* first: s->job is this to imapd/search.c */
    struct box *boxes;
    size_t n, cap, at;
    bool too_many;
    bool adding_named;
    struct imap_session *s;
    struct selected *real; /* what is selected, while it is not in s->sel */
    struct selected *ours; /* in s->sel */
};

/* ---- which ------------------------------------------------------------- */

static void
add(struct multi_job *job, mbid_t id)
{
    if (job->n == MAILBOXES_MAX) {
        job->too_many = true;
        return;
    }
    if (job->n == job->cap) {
        job->cap = job->cap == 0 ? 16 : job->cap * 2;
        job->boxes = xrealloc(job->boxes, job->cap * sizeof(job->boxes[0]));
    }
    job->boxes[job->n].id = id;
    job->boxes[job->n++].named = job->adding_named;
}

static int
by_id(const void *a, const void *b)
{
    const struct box *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* Each once. */
static void
unite(struct multi_job *job)
{
    size_t to = 0;

    if (job->n > 1)
        qsort(job->boxes, job->n, sizeof(job->boxes[0]), by_id);
    for (size_t i = 0; i < job->n; i++) {
        if (to > 0 && job->boxes[to - 1].id == job->boxes[i].id)
            job->boxes[to - 1].named |= job->boxes[i].named;
        else
            job->boxes[to++] = job->boxes[i];
    }
    job->n = to;
}

/* Mailboxes at and below one name. */
struct below {
    struct multi_job *job;
    const char *name;
    bool one_level;
};

static bool
take_below(void *ctx, const struct mailbox *mb)
{
    struct below *b = ctx;
    const size_t n = strlen(b->name);

    if (mb->name[n] != '\0' && mb->name[n] != '.')
        return true;
    if (b->one_level && mb->name[n] == '.' &&
        strchr(mb->name + n + 1, '.') != NULL)
        return true;
    add(b->job, mb->id);
    return !b->job->too_many;
}

static enum errcode
add_below(struct multi_job *job, struct store_snap *snap, const char *name,
          bool one_level, struct error *err)
{
    struct below b = {.job = job, .name = name, .one_level = one_level};

    return snap_each_mailbox(snap, name, take_below, &b, err);
}

static bool
take_subscribed(void *ctx, const char *name, struct span value)
{
    struct multi_job *job = ctx;
    AUTO(store_release)
    struct store_snap *snap = store_snapshot(job->s->store);
    struct mailbox mb;
    struct error ignored = {0};

    (void)value;
    if (snap_mailbox_by_name(snap, name, &job->s->arena, &mb, &ignored) ==
        ERR_OK)
        add(job, mb.id);
    return !job->too_many;
}

/* What cannot be named, or is not there, is passed over. */
static enum errcode
add_names(struct multi_job *job, struct store_snap *snap,
          const struct imap_source *src, struct error *err)
{
    struct imap_session *s = job->s;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < src->nnames; i++) {
        const char *name = NULL;
        struct mailbox mb;
        struct error ignored = {0};
        if (name_to_internal(&s->opt->ns, s->user, s->is_admin, src->names[i],
                             &s->arena, &name, &ignored) != ERR_OK)
            continue;
        job->adding_named = true;
        if (snap_mailbox_by_name(snap, name, &s->arena, &mb, &ignored) ==
            ERR_OK)
            add(job, mb.id);
        job->adding_named = false;
        if (src->kind != SOURCE_MAILBOXES)
            rc = add_below(job, snap, name, src->kind == SOURCE_SUBTREE_ONE,
                           err);
    }
    return rc;
}

static enum errcode
add_source(struct multi_job *job, struct store_snap *snap,
           const struct imap_source *src, struct error *err)
{
    struct imap_session *s = job->s;
    struct error ignored = {0};
    const char *inbox = NULL;

    switch (src->kind) {
    case SOURCE_SELECTED:
        job->adding_named = true;
        add(job, s->sel->id);
        job->adding_named = false;
        return ERR_OK;
    case SOURCE_INBOXES: /* RFC 5465, 6: delivery may go to any of them */
    case SOURCE_PERSONAL:
        if (name_inbox(s->user, &s->arena, &inbox, &ignored) != ERR_OK)
            return ERR_OK;
        return add_below(job, snap, inbox, false, err);
    case SOURCE_SUBSCRIBED:
        return snap_user_each(snap, s->user, USER_SUBSCRIPTION, take_subscribed,
                              job, err);
    case SOURCE_SUBTREE:
    case SOURCE_SUBTREE_ONE:
    case SOURCE_MAILBOXES:
        break;
    }
    return add_names(job, snap, src, err);
}

/* ---- one after another ------------------------------------------------- */

static void
leave(struct imap_session *s, struct multi_job *job)
{
    search_clear(s, &job->one);
    if (job->ours == NULL)
        return;
    seqmap_free(&job->ours->map);
    uidset_free(&job->ours->seen);
    uidset_free(&job->ours->saved);
    free(job->ours);
    job->ours = NULL;
    s->sel = job->real;
}

static void
multi_end(struct imap_session *s)
{
    struct multi_job *job = s->job;

    leave(s, job);
    uidset_free(&job->one.found);
    uidset_free(&job->one.uids);
    buf_free(&job->one.relevance);
    free(job->boxes);
    job->boxes = NULL;
}

/* MB becomes what is selected.  False: it may not be searched. */
static bool
enter(struct imap_session *s, struct multi_job *job, size_t i)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    struct mailbox mb;
    struct error err = {0};
    uint32_t unseen;

    if (snap_mailbox(snap, job->boxes[i].id, &s->arena, &mb, &err) != ERR_OK ||
        mb.is_deleted)
        return false;
    const uint32_t rights = rights_of(s, &mb);
    if ((rights & ACL_READ) == 0 ||
        (!job->boxes[i].named && (rights & ACL_LOOKUP) == 0))
        return false;
    job->one.mailbox = external_name(s, mb.name, &s->arena);
    job->one.uidvalidity = mb.uidvalidity;
    job->real = s->sel;
    if (s->sel != NULL && s->sel->id == mb.id)
        return true; /* as far as the client knows of it */
    if (snap_uids(snap, &mb, &uids, &unseen, &err) != ERR_OK)
        return false;
    job->ours = xcalloc(1, sizeof(*job->ours));
    job->ours->id = mb.id;
    job->ours->readonly = true;
    job->ours->rights = rights;
    job->ours->uidvalidity = mb.uidvalidity;
    job->ours->uidnext = mb.uidnext;
    for (size_t k = 0; k < uids.n; k++)
        seqmap_append_range(&job->ours->map, uids.r[k].first, uids.r[k].last);
    s->sel = job->ours;
    if (load_seen(s, snap, &mb, &err) == ERR_OK)
        return true;
    leave(s, job);
    return false;
}

static enum run
next_mailbox(struct imap_session *s)
{
    struct multi_job *job = s->job;

    leave(s, job);
    while (job->at < job->n) {
        if (is_full(s)) {
            s->run = next_mailbox;
            return RUN_FULL;
        }
        if (enter(s, job, job->at++))
            return search_begin(s);
    }
    return reply(s, "OK Completed");
}

static enum run
multi_tell(struct imap_session *s)
{
    struct multi_job *job = s->job;
    struct error err = {0};

    enum errcode rc = find_result(&job->one.f, &err);
    /* RFC 7377, 2.1: nothing of a mailbox without hits. */
    if (job->one.uids.n > 0)
        search_write(s);
    if ((s->cmd->returns & RETURN_SAVE) != 0)
        search_save(s);
    /* RFC 7377, 2.2 */
    if ((s->cmd->returns & RETURN_UPDATE) != 0 && job->ours == NULL)
        search_keep_level(s);
    if (rc != ERR_OK)
        return reply_error(s, &err);
    s->run = next_mailbox;
    return RUN_YIELD;
}

enum run
cmd_esearch(struct imap_session *s)
{
    static const struct imap_source selected = {.kind = SOURCE_SELECTED};
    struct imap_command *cmd = s->cmd;
    const struct imap_source *src =
        cmd->nsources == 0 ? &selected : cmd->sources;
    const size_t n = MAX(cmd->nsources, (size_t)1);
    struct multi_job *job = arena_alloc(&s->arena, sizeof(*job));
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    struct error err = {0};
    bool others = false;

    if ((cmd->returns & RETURN_UPDATE) != 0 && s->sel == NULL)
        return reply(s, "BAD No mailbox is selected");
    if ((cmd->returns & RETURN_UPDATE) != 0 && context_has_tag(s, cmd->tag))
        return reply(s, "BAD Tag reuse");
    for (size_t i = 0; i < n; i++) {
        others |= src[i].kind != SOURCE_SELECTED;
        if (src[i].kind == SOURCE_SELECTED && s->sel == NULL)
            return reply(s, "BAD No mailbox is selected");
    }
    if (others && (cmd->returns & RETURN_SAVE) != 0)
        return reply(s, "BAD SAVE is for the selected mailbox alone");
    job->s = s;
    job->one.tell = multi_tell;
    s->job = job;
    s->job_end = multi_end;
    for (size_t i = 0; i < n; i++)
        if (add_source(job, snap, &src[i], &err) != ERR_OK)
            return reply_error(s, &err);
    if (job->too_many)
        return reply(s, "NO [LIMIT] Too many mailboxes");
    unite(job);
    return next_mailbox(s);
}
