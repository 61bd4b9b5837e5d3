/*
 * imapd/multisearch.c - ESEARCH (RFC 7377): one search over many mailboxes.
 *
 * They are searched one after another, each with a snapshot of its own, as if
 * it were the selected one: while that goes on s->sel is a mailbox of ours, and
 * the one that is selected is put back at the end, however it comes.
 */
#include "imapd/context.h"
#include "imapd/search.h"
#include "imapd/sources.h"

#include <stdlib.h>

#include "store/names.h"

/* RFC 7377, 2.4. */
#define MAILBOXES_MAX 100000U

struct multi_job {
    struct search_job one; /* first: s->job is this to imapd/search.c */
    struct box_list list;
    size_t at;
    struct selected *real; /* what is selected, while it is not in s->sel */
    struct selected *ours; /* in s->sel */
};

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
    free(job->list.boxes);
    job->list.boxes = NULL;
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

    if (snap_mailbox(snap, job->list.boxes[i].id, &s->arena, &mb, &err) !=
            ERR_OK ||
        mb.is_deleted)
        return false;
    const uint32_t rights = rights_of(s, &mb);
    if ((rights & ACL_READ) == 0 ||
        (!job->list.boxes[i].named && (rights & ACL_LOOKUP) == 0))
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
    while (job->at < job->list.n) {
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
    job->list = (struct box_list){.s = s, .max = MAILBOXES_MAX};
    job->one.tell = multi_tell;
    s->job = job;
    s->job_end = multi_end;
    for (size_t i = 0; i < n; i++)
        if (box_list_add(&job->list, snap, &src[i], &err) != ERR_OK)
            return reply_error(s, &err);
    if (job->list.too_many)
        return reply(s, "NO [LIMIT] Too many mailboxes");
    box_list_unite(&job->list);
    return next_mailbox(s);
}
