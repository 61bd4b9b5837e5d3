/*
 * csync/push_names.c - mailboxes of a peer get the names that they have here.
 *
 * Mailboxes are matched by UNIQUEID, wherever they are there: one that moved to
 * another user, or whose user got another name, is still under the old one.
 * Renames go one by one, each to a name that nobody has there any more; where
 * names go round in a circle one of them waits under a name of its own, and so
 * does one that is in the way of another and has its turn later, with the user
 * whom it belongs to now.  A mailbox of the peer that is not here is not ours
 * to delete: it is counted, and moved to DELETED. when that was asked for.
 */
#include "csync/push_private.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/names.h"

#define DELETED_TRIES 1000U

static enum errcode
rename_there(struct push *p, struct push_user *there, struct sync_mailbox *d,
             const char *name, const char *partition, uint32_t uidvalidity,
             struct error *err)
{
    char validity[16];

    snprintf(validity, sizeof(validity), "%" PRIu32, uidvalidity);
    enum errcode rc = push_tell(p, err, "RENAME", "OLDMBOXNAME", d->name,
                                "NEWMBOXNAME", name, "PARTITION", partition,
                                "UIDVALIDITY", validity, (const char *)NULL);
    if (rc == ERR_OK) {
        d->name = arena_str(&there->arena, span_str(name));
        d->partition = arena_str(&there->arena, span_str(partition));
        d->uidvalidity = uidvalidity;
    }
    return rc;
}

static bool
is_deleted(const char *name)
{
    return strncmp(name, "DELETED.", 8) == 0;
}

/* What P says of mailboxes by NAMES (VERB "MAILBOXES") or UNIQUEIDs, as far as
 * TO has not got them yet.  A Cyrus before 3.2 knows no UNIQUEIDS. */
static enum errcode
ask_more(struct sync_peer *p, const char *verb, const char *const *names,
         size_t n, struct push_user *to, struct error *err)
{
    struct push_user more = {0};
    struct error why = {0};

    enum errcode rc = push_ask_list(p, &more, &why, verb, names, n);
    if (rc == ERR_UNSUPPORTED)
        rc = ERR_OK;
    else if (rc != ERR_OK)
        *err = why;
    for (size_t i = 0; i < more.mailboxes.n && rc == ERR_OK; i++)
        if (push_find(&to->mailboxes, more.mailboxes.v[i].uniqueid) == NULL)
            push_list_add(to, &more.mailboxes.v[i]);
    push_user_free(&more);
    return rc;
}

/* Those of HERE that the peer may have elsewhere, and who has their names. */
static enum errcode
find_elsewhere(struct push *p, const struct push_user *here,
               struct push_user *there, struct error *err)
{
    const char **names = xcalloc(here->mailboxes.n + 1, sizeof(*names));
    size_t n = 0;

    for (size_t i = 0; i < here->mailboxes.n; i++)
        if (push_find(&there->mailboxes, here->mailboxes.v[i].uniqueid) == NULL)
            names[n++] = here->mailboxes.v[i].uniqueid;
    enum errcode rc = ask_more(p->dst, "UNIQUEIDS", names, n, there, err);
    n = 0;
    for (size_t i = 0; i < here->mailboxes.n; i++) {
        const struct sync_mailbox *s = &here->mailboxes.v[i];
        const struct sync_mailbox *d =
            push_find(&there->mailboxes, s->uniqueid);
        if ((d == NULL || strcmp(d->name, s->name) != 0) &&
            push_find_name(&there->mailboxes, s->name) == NULL)
            names[n++] = s->name;
    }
    if (rc == ERR_OK)
        rc = ask_more(p->dst, "MAILBOXES", names, n, there, err);
    free(names);
    return rc;
}

/* Of those in THERE that are not in HERE: which does our instance have? */
static enum errcode
find_moved(struct push *p, const struct push_user *here,
           const struct push_user *there, struct push_user *ret,
           struct error *err)
{
    const char **ids = xcalloc(there->mailboxes.n + 1, sizeof(*ids));
    size_t n = 0;

    for (size_t i = 0; i < there->mailboxes.n; i++)
        if (push_find(&here->mailboxes, there->mailboxes.v[i].uniqueid) == NULL)
            ids[n++] = there->mailboxes.v[i].uniqueid;
    enum errcode rc = ask_more(p->src, "UNIQUEIDS", ids, n, ret, err);
    free(ids);
    return rc;
}

/* A DELETED. name for D that nobody has of those that were listed, from *AT_S
 * on. */
static const char *
other_deleted_name(const struct sync_mailbox *d, const struct push_user *here,
                   struct push_user *there, uint64_t *at_s)
{
    const char *live = d->name;

    if (is_deleted(live)) {
        const char *rest = live + 8;
        const char *stamp = strrchr(rest, '.'); /* a peer may have none */
        live = stamp == NULL ? rest
                             : arena_str(&there->arena,
                                         span_of(rest, (size_t)(stamp - rest)));
    }
    for (;; ++*at_s) {
        const char *name = name_deleted(live, "DELETED", *at_s, &there->arena);
        if (push_find_name(&there->mailboxes, name) == NULL &&
            push_find_name(&here->mailboxes, name) == NULL)
            return name;
    }
}

/* Of a mailbox that nobody owns the deleted ones of its name were not listed,
 * so the peer may have one of the second that is tried: then the next one. */
static enum errcode
delete_there(struct push *p, const struct push_user *here,
             struct push_user *there, struct sync_mailbox *d, struct error *err)
{
    uint64_t at_s = env_wall_us(p->o->ship->env) / 1000000;
    enum errcode rc = ERR_EXISTS;

    for (unsigned i = 0; rc == ERR_EXISTS && i < DELETED_TRIES; i++, at_s++)
        rc =
            rename_there(p, there, d, other_deleted_name(d, here, there, &at_s),
                         d->partition, d->uidvalidity, err);
    return rc;
}

/*
 * Mailboxes of the peer that are not in HERE.  MOVED are those that we have
 * under another user.  The first OWN of them were listed as the user's: what is
 * nowhere here is counted.
 */
static enum errcode
part_with_others(struct push *p, const struct push_user *here,
                 struct push_user *there, const struct push_list *moved,
                 size_t own, bool remove, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < there->mailboxes.n && rc == ERR_OK; i++) {
        struct sync_mailbox *d = &there->mailboxes.v[i];
        if (push_find(&here->mailboxes, d->uniqueid) != NULL)
            continue;
        const bool in_the_way =
            push_find_name(&here->mailboxes, d->name) != NULL;
        const bool is_extra =
            !is_deleted(d->name) && push_find(moved, d->uniqueid) == NULL;
        if (is_extra && i < own)
            p->counts.extra++;
        if (is_extra && !remove) {
            if (i < own || in_the_way)
                log_warn(&p->log, "push.extra",
                         "mailbox=\"%s\" then=\"it is only at the peer, and "
                         "stays there: --remove-extra\"",
                         d->name);
            continue;
        }
        if (!in_the_way && !(is_extra && i < own))
            continue;
        if (is_extra || push_find(moved, d->uniqueid) == NULL)
            rc = delete_there(p, here, there, d, err);
        else
            rc = rename_there(p, there, d,
                              arena_printf(&there->arena, "%s.sync-%.8s",
                                           d->name, d->uniqueid),
                              d->partition, d->uidvalidity, err);
    }
    return rc;
}

/* One more rename that is possible now; false: there is none. */
static bool
next_rename(struct push *p, const struct push_user *here,
            struct push_user *there, bool must, enum errcode *rc,
            struct error *err)
{
    for (size_t i = 0; i < here->mailboxes.n; i++) {
        const struct sync_mailbox *s = &here->mailboxes.v[i];
        struct sync_mailbox *d = push_find(&there->mailboxes, s->uniqueid);
        const char *partition = p->o->partition;
        if (d == NULL)
            continue;
        if (partition == NULL)
            partition = d->partition;
        const bool renamed = strcmp(s->name, d->name) != 0;
        if (!renamed && strcmp(partition, d->partition) == 0)
            continue;
        const char *name = s->name;
        const struct sync_mailbox *holder =
            renamed ? push_find_name(&there->mailboxes, name) : NULL;
        if (holder != NULL) {
            /* One that stays (an extra one) is met again, and told, when what
             * is in the mailbox is sent. */
            if (!must || push_find(&here->mailboxes, holder->uniqueid) == NULL)
                continue;
            name = arena_printf(&there->arena, "%s.sync-%.8s", d->name,
                                d->uniqueid);
        }
        *rc = rename_there(p, there, d, name, partition, s->uidvalidity, err);
        return *rc == ERR_OK;
    }
    return false;
}

static enum errcode
rename_all(struct push *p, const struct push_user *here,
           struct push_user *there, struct error *err)
{
    enum errcode rc = ERR_OK;

    /* Each step leaves one fewer, or frees a name of a circle. */
    for (size_t left = 2 * there->mailboxes.n + 2; left > 0; left--)
        if (!next_rename(p, here, there, false, &rc, err) &&
            (rc != ERR_OK || !next_rename(p, here, there, true, &rc, err)))
            break;
    return rc;
}

enum errcode
push_names(struct push *p, const struct push_user *here,
           struct push_user *there, bool is_whole, bool remove_extra,
           struct error *err)
{
    struct push_user moved = {0};
    const size_t own = is_whole ? there->mailboxes.n : 0;

    enum errcode rc = find_elsewhere(p, here, there, err);
    if (rc == ERR_OK)
        rc = find_moved(p, here, there, &moved, err);
    if (rc == ERR_OK)
        rc = part_with_others(p, here, there, &moved.mailboxes, own,
                              remove_extra, err);
    if (rc == ERR_OK)
        rc = rename_all(p, here, there, err);
    push_user_free(&moved);
    return rc;
}

enum errcode
push_gone(struct push *p, const char *user, const char *const *names, size_t n,
          struct error *err)
{
    struct push_user here = {0}, there = {0};

    enum errcode rc = user != NULL ? push_ask(p->dst, &there, err, "USER", user)
                                   : push_ask_list(p->dst, &there, err,
                                                   "MAILBOXES", names, n);
    if (rc == ERR_OK && there.mailboxes.n > 0)
        rc = push_names(p, &here, &there, true, p->o->remove_extra, err);
    push_user_free(&here);
    push_user_free(&there);
    return rc;
}
