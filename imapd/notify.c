/*
 * imapd/notify.c - NOTIFY (RFC 5465): what a session is told between commands.
 *
 * A watch on each mailbox in question wakes the session.  What is to be told is
 * found and written by an inner command: one that no client sent, that runs
 * between two commands or inside an IDLE, and ends without a tagged reply.  So
 * it can stop where the client does not read and go on, input waits meanwhile,
 * and attributes of new messages are simply a FETCH.  While a command is under
 * way, or one has come in part, the news wait for its end.
 *
 * What the session did itself is told as well, but for attributes of messages
 * that it has put into the selected mailbox.
 */
#include "imapd/notify.h"

#include <stdlib.h>

#include "imapd/context.h"

/* Mailboxes told of in one turn. */
#define TURN_BOXES 200U

static struct notify *
notify_of(struct imap_session *s)
{
    if (s->notify == NULL) {
        s->notify = xcalloc(1, sizeof(*s->notify));
        s->notify->list.s = s;
    }
    return s->notify;
}

/* ---- what the selected mailbox tells ----------------------------------- */

enum sync
notify_sync(const struct imap_session *s, enum sync how)
{
    if (!notify_is_set(s) || how == SYNC_NONE)
        return how;
    /* What was asked for by a command is told in any case. */
    if (s->cmd != NULL &&
        (s->cmd->cmd == CMD_EXPUNGE || s->cmd->cmd == CMD_MOVE ||
         s->cmd->cmd == CMD_REPLACE))
        return how;
    if ((s->notify->selected & EVENT_MESSAGE_NEW) == 0)
        return SYNC_NONE;
    return s->notify->delayed ? how : SYNC_ALL; /* 6.1.1 */
}

bool
notify_tells_flags(const struct imap_session *s)
{
    return !notify_is_set(s) ||
           (s->notify->selected & (EVENT_FLAG | EVENT_ANNOTATION)) != 0;
}

bool
notify_tells_annotations(const struct imap_session *s)
{
    return notify_is_set(s) && (s->notify->selected & EVENT_ANNOTATION) != 0;
}

void
notify_new(struct imap_session *s, uint32_t first)
{
    if (notify_is_set(s) && s->notify->items.n > 0)
        uidset_add(&s->notify->fresh, first, seqmap_last_uid(&s->sel->map));
}

void
notify_own(struct imap_session *s, mbid_t id, const struct uidset *uids)
{
    if (s->sel != NULL && s->sel->id == id &&
        (s->sel->contexts != NULL || notify_is_set(s)))
        uidset_add_set(&notify_of(s)->own, uids);
}

void
notify_selected(struct imap_session *s)
{
    struct notify *n = s->notify;

    if (n == NULL)
        return;
    store_unwatch(&n->selected_watch);
    uidset_free(&n->fresh);
    uidset_free(&n->own);
    if (s->sel != NULL && n->is_set && (n->selected & EVENT_MESSAGE_NEW) != 0) {
        n->selected_watch = store_watch(s->store, s->sel->id, wake_session, s);
        wake_session(s); /* for what came before the watch */
    }
}

/* ---- the inner command ------------------------------------------------- */

bool
notify_is_due(const struct imap_session *s)
{
    return (s->notify != NULL && (s->notify->due || s->notify->fresh.n > 0)) ||
           (s->sel != NULL && contexts_have_new(s));
}

/* 5.8: as after NOTIFY NONE. */
static void
overflow(struct imap_session *s)
{
    struct notify *n = s->notify;

    buf_add_str(&s->out, "* OK [NOTIFICATIONOVERFLOW] Too much to tell\r\n");
    notify_forget_boxes(n);
    buf_free(&n->text);
    buf_free(&n->items);
    n->selected = 0;
    n->server_metadata = false;
    notify_selected(s);
}

/* The attributes of new messages, as a FETCH of our own. */
static enum run
fetch_new(struct imap_session *s)
{
    struct notify *n = notify_of(s);
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(buf_free) struct buf items = BUF_INIT, text = BUF_INIT;
    const char *why;

    if (s->sel == NULL)
        return RUN_DONE;
    if (n->fresh.n > 0)
        buf_add(&items, buf_span(&n->items));
    uidset_add_set(&uids, &n->fresh);
    uidset_free(&n->fresh);
    contexts_take_new(s, &uids, &items);
    for (size_t i = 0; i < n->own.n; i++)
        uidset_remove(&uids, n->own.r[i].first, n->own.r[i].last);
    uidset_free(&n->own);
    if (uids.n == 0 || items.n == 0)
        return RUN_DONE;
    buf_add_str(&text, "n UID FETCH ");
    uidset_format(&uids, &text);
    buf_add_str(&text, " (");
    buf_add(&text, buf_span(&items));
    buf_add_byte(&text, ')');
    struct imap_command *cmd = arena_alloc(&s->arena, sizeof(*cmd));
    /* More than a FETCH may hold is not told. */
    if (imap_parse(arena_copy(&s->arena, buf_span(&text)), &s->arena, cmd,
                   &why) != IMAP_PARSED)
        return RUN_DONE;
    s->cmd = cmd;
    s->run = cmd_fetch;
    return cmd_fetch(s);
}

static enum run
tell_selected(struct imap_session *s)
{
    struct notify *n = s->notify;
    const bool in_idle = s->outer.cmd != NULL;

    if (s->sel != NULL && (in_idle || notify_is_set(s))) {
        if (n->selected_watch != NULL)
            watch_rearm(n->selected_watch);
        if (s->watch != NULL)
            watch_rearm(s->watch);
        sync_selected(s, in_idle || !n->delayed ? SYNC_ALL : SYNC_NO_EXPUNGE,
                      true);
    }
    if (s->closing)
        return RUN_DONE;
    if (contexts_pending(s))
        wake_session(s);
    s->run = fetch_new;
    return fetch_new(s);
}

static enum run
tell_boxes(struct imap_session *s)
{
    struct notify *n = s->notify;
    struct error err = {0};
    bool more = true;

    for (unsigned i = 0; more && i < TURN_BOXES; i++) {
        if (is_full(s))
            return RUN_FULL;
        if (notify_tell_next(s, &more, &err) != ERR_OK) {
            if (err.code != ERR_LIMIT)
                reply_error(s, &err); /* which logs it */
            overflow(s);
            more = false;
        }
    }
    if (more)
        return RUN_YIELD;
    n->at = 0;
    s->run = tell_selected;
    return tell_selected(s);
}

static enum run
inner_step(struct imap_session *s)
{
    struct notify *n = notify_of(s);
    struct error err = {0};

    if (atomic_exchange(&n->list.dirty, false)) {
        watch_rearm(n->list_watch);
        if (notify_refresh(s, false, &err) != ERR_OK) {
            if (err.code != ERR_LIMIT)
                reply_error(s, &err);
            overflow(s);
        }
    }
    s->run = tell_boxes;
    return tell_boxes(s);
}

void
notify_wake(struct imap_session *s)
{
    struct notify *n = notify_of(s);
    const bool in_idle = s->cmd != NULL && s->mode == INPUT_IDLE && !s->inner &&
                         !s->waiting && !s->full;
    const bool between = s->cmd == NULL && s->mode == INPUT_COMMAND &&
                         s->reader.state == READER_LINE &&
                         s->reader.text.n == 0;

    n->due = s->state != STATE_NOT_AUTH;
    if (s->closing || !n->due || (!in_idle && !between))
        return;
    n->due = false;
    s->outer = (struct outer){
        .cmd = s->cmd, .run = s->run, .mode = s->mode, .arena = s->arena};
    s->arena = ARENA_INIT;
    s->inner = true;
    s->mode = INPUT_COMMAND;
    s->cmd = arena_alloc(&s->arena, sizeof(*s->cmd));
    *s->cmd = (struct imap_command){.cmd = CMD_NOTIFY};
    s->progress_ns = s->cmd_began_ns = env_mono_ns(s->opt->env);
    s->run = inner_step;
    session_run(s);
}

/* ---- the command ------------------------------------------------------- */

void
notify_unwatch(struct imap_session *s)
{
    if (s->notify == NULL)
        return;
    store_unwatch(&s->notify->list_watch);
    store_unwatch(&s->notify->selected_watch);
    notify_forget_boxes(s->notify);
}

void
notify_free(struct imap_session *s)
{
    if (s->notify == NULL)
        return;
    notify_unwatch(s);
    buf_free(&s->notify->text);
    buf_free(&s->notify->items);
    uidset_free(&s->notify->fresh);
    uidset_free(&s->notify->own);
    free(s->notify);
    s->notify = NULL;
}

static void
on_list(void *ctx)
{
    struct notify_mark *mark = ctx;

    atomic_store(&mark->dirty, true);
    wake_session(mark->s);
}

/* What the groups say of the selected mailbox. */
static void
take_groups(struct notify *n, const struct imap_notify *cmd)
{
    for (size_t i = 0; i < cmd->ngroups; i++) {
        const struct imap_notify_group *g = &cmd->groups[i];
        if ((g->events & EVENT_SERVER_METADATA) != 0)
            n->server_metadata = true;
        if (!g->selected)
            continue;
        n->selected = g->events;
        n->delayed = g->delayed;
        if (g->items.n > 2)
            buf_add(&n->items, span_sub(g->items, 1, g->items.n - 2));
        else
            buf_add(&n->items, g->items);
    }
}

enum run
cmd_notify(struct imap_session *s)
{
    const struct imap_notify *cmd = &s->cmd->notify;
    struct error err = {0};

    if (cmd->unknown_event)
        return reply(
            s, "NO [BADEVENT (MessageNew MessageExpunge FlagChange "
               "AnnotationChange MailboxName SubscriptionChange "
               "MailboxMetadataChange ServerMetadataChange)] Unknown event");
    /* 3.1: what has gathered is told, by the rules of no NOTIFY at all; with
     * UIDs, which who gives this command expects (5.1). */
    notify_free(s);
    if (s->sel != NULL && cmd->ngroups > 0)
        sync_selected(s, SYNC_ALL, true);
    if (s->closing)
        return RUN_DONE;
    struct notify *n = notify_of(s);
    n->is_set = true;
    if (cmd->ngroups == 0)
        return reply(s, "OK Completed");
    buf_add(&n->text, buf_span(&s->reader.text));
    take_groups(n, cmd);
    n->list_watch = store_watch(s->store, 0, on_list, &n->list);
    enum errcode rc = notify_refresh(s, true, &err);
    if (rc == ERR_OK && cmd->status)
        rc = notify_tell_status(s, &err);
    if (rc != ERR_OK) {
        notify_free(s);
        notify_of(s)->is_set = true;
        return rc == ERR_LIMIT
                   ? reply(s, "NO [NOTIFICATIONOVERFLOW] Too much to watch")
                   : reply_error(s, &err);
    }
    notify_selected(s);
    return reply(s, "OK Completed");
}
