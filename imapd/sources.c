/*
 * imapd/sources.c - mailboxes by source options: ESEARCH (RFC 7377, 2.2) and
 * NOTIFY (RFC 5465, 6).
 */
#include "imapd/sources.h"

#include <stdlib.h>

#include "store/names.h"

static void
add(struct box_list *list, mbid_t id)
{
    if (list->n == list->max) {
        list->too_many = true;
        return;
    }
    if (list->n == list->cap) {
        list->cap = list->cap == 0 ? 16 : list->cap * 2;
        list->boxes = xrealloc(list->boxes, list->cap * sizeof(list->boxes[0]));
    }
    list->boxes[list->n].id = id;
    list->boxes[list->n++].named = list->adding_named;
}

static int
by_id(const void *a, const void *b)
{
    const struct box *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

void
box_list_unite(struct box_list *list)
{
    size_t to = 0;

    if (list->n > 1)
        qsort(list->boxes, list->n, sizeof(list->boxes[0]), by_id);
    for (size_t i = 0; i < list->n; i++) {
        if (to > 0 && list->boxes[to - 1].id == list->boxes[i].id)
            list->boxes[to - 1].named |= list->boxes[i].named;
        else
            list->boxes[to++] = list->boxes[i];
    }
    list->n = to;
}

/* Mailboxes at and below one name. */
struct below {
    struct box_list *list;
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
    add(b->list, mb->id);
    return !b->list->too_many;
}

static enum errcode
add_below(struct box_list *list, struct store_snap *snap, const char *name,
          bool one_level, struct error *err)
{
    struct below b = {.list = list, .name = name, .one_level = one_level};

    return snap_each_mailbox(snap, name, take_below, &b, err);
}

static bool
take_subscribed(void *ctx, const char *name, struct span value)
{
    struct box_list *list = ctx;
    AUTO(store_release)
    struct store_snap *snap = store_snapshot(list->s->store);
    struct mailbox mb;
    struct error ignored = {0};

    (void)value;
    if (snap_mailbox_by_name(snap, name, &list->s->arena, &mb, &ignored) ==
        ERR_OK)
        add(list, mb.id);
    return !list->too_many;
}

/* With altnamespace what lies below INBOX here stands beside it for the user.
 */
static bool
has_none_below(struct imap_session *s, const char *name)
{
    struct error ignored = {0};
    const char *inbox = NULL;

    return s->opt->ns.alt && !s->is_admin &&
           name_inbox(s->user, &s->arena, &inbox, &ignored) == ERR_OK &&
           strcmp(name, inbox) == 0;
}

/* What cannot be named, or is not there, is passed over. */
static enum errcode
add_names(struct box_list *list, struct store_snap *snap,
          const struct imap_source *src, struct error *err)
{
    struct imap_session *s = list->s;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < src->nnames; i++) {
        const char *name = NULL;
        struct mailbox mb;
        struct error ignored = {0};
        if (name_to_internal(&s->opt->ns, s->user, s->is_admin, src->names[i],
                             &s->arena, &name, &ignored) != ERR_OK)
            continue;
        list->adding_named = true;
        if (snap_mailbox_by_name(snap, name, &s->arena, &mb, &ignored) ==
            ERR_OK)
            add(list, mb.id);
        list->adding_named = false;
        if (src->kind != SOURCE_MAILBOXES && !has_none_below(s, name))
            rc = add_below(list, snap, name, src->kind == SOURCE_SUBTREE_ONE,
                           err);
    }
    return rc;
}

enum errcode
box_list_add(struct box_list *list, struct store_snap *snap,
             const struct imap_source *src, struct error *err)
{
    struct imap_session *s = list->s;
    struct error ignored = {0};
    const char *inbox = NULL;

    switch (src->kind) {
    case SOURCE_SELECTED:
        list->adding_named = true;
        add(list, s->sel->id);
        list->adding_named = false;
        return ERR_OK;
    case SOURCE_INBOXES: /* RFC 5465, 6: delivery may go to any of them */
    case SOURCE_PERSONAL:
        if (name_inbox(s->user, &s->arena, &inbox, &ignored) != ERR_OK)
            return ERR_OK;
        return add_below(list, snap, inbox, false, err);
    case SOURCE_SUBSCRIBED:
        return snap_user_each(snap, s->user, USER_SUBSCRIPTION, take_subscribed,
                              list, err);
    case SOURCE_SUBTREE:
    case SOURCE_SUBTREE_ONE:
    case SOURCE_MAILBOXES:
        break;
    }
    return add_names(list, snap, src, err);
}
