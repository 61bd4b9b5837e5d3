/*
 * imapd/notify_boxes.c - NOTIFY (RFC 5465): mailboxes that are not selected.
 *
 * Of each mailbox in question the session keeps what the client knows of it.
 * A change of the mailbox marks it, and the difference is told.  A change of
 * the list of mailboxes, their rights, subscriptions or the server's
 * annotations makes all groups be looked up again, from the command's text, and
 * the difference between the two lists is what has happened to names.
 */
#include "imapd/notify.h"

#include <stdlib.h>

#include <xxhash.h>

#include "imapd/sources.h"

struct notify_box {
    struct notify_mark mark; /* first: what its watch has */
    mbid_t id;
    char *name; /* internal */
    unsigned events;
    struct store_watch *watch;
    bool readable;
    bool subscribed;
    bool by_subscription; /* it is here only because of that */
    bool affected;        /* LIST is due */
    bool found;           /* in the list that is made */
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint32_t exists;
    modseq_t modseq;
    struct notify_annots annots;
};

static size_t
annot_bytes(const struct notify_annot *a)
{
    return strlen(a->name) + sizeof(*a);
}

static void
annots_free(struct notify *n, struct notify_annots *a)
{
    for (size_t i = 0; i < a->n; i++) {
        n->bytes -= annot_bytes(&a->a[i]);
        free(a->a[i].name);
    }
    free(a->a);
    *a = (struct notify_annots){0};
}

static void
box_free(struct notify *n, struct notify_box *box)
{
    store_unwatch(&box->watch);
    annots_free(n, &box->annots);
    free(box->name);
    free(box);
}

void
notify_forget_boxes(struct notify *n)
{
    for (size_t i = 0; i < n->n; i++)
        box_free(n, n->boxes[i]);
    free(n->boxes);
    n->boxes = NULL;
    n->n = n->at = 0;
    annots_free(n, &n->server);
}

static void
on_box(void *ctx)
{
    struct notify_mark *mark = ctx;

    atomic_store(&mark->dirty, true);
    wake_session(mark->s);
}

/* ---- annotations ------------------------------------------------------- */

struct collecting {
    struct imap_session *s;
    struct notify *n;
    struct notify_annots to;
    size_t max; /* of bytes; what is replaced is among them still */
    bool too_many;
};

static bool
collect(void *ctx, const char *entry, const char *user, struct span value)
{
    struct collecting *c = ctx;

    if (*user != '\0' && strcmp(user, c->s->user) != 0)
        return true;
    struct notify_annot *a = xrealloc(c->to.a, (c->to.n + 1) * sizeof(*a));
    const char *scope = *user == '\0' ? "/shared" : "/private";
    c->to.a = a;
    a[c->to.n].name = xstrdup(arena_printf(&c->s->arena, "%s%s", scope, entry));
    a[c->to.n].hash = XXH3_64bits(value.p, value.n);
    c->n->bytes += annot_bytes(&a[c->to.n]);
    c->to.n++;
    c->too_many = c->n->bytes > c->max;
    return !c->too_many;
}

static int
by_name(const void *a, const void *b)
{
    const struct notify_annot *x = a, *y = b;

    return strcmp(x->name, y->name);
}

/* IN is in order: a mailbox may have a thousand. */
static const struct notify_annot *
find_annot(const struct notify_annots *in, char *name)
{
    const struct notify_annot wanted = {.name = name};

    return in->n == 0
               ? NULL
               : bsearch(&wanted, in->a, in->n, sizeof(in->a[0]), by_name);
}

/* "* METADATA name entry entry": those that are new, other, or gone. */
static void
write_annot_changes(struct imap_session *s, const char *external,
                    const struct notify_annots *was,
                    const struct notify_annots *is)
{
    const size_t start = s->out.n;
    size_t names = 0;

    buf_add_str(&s->out, "* METADATA ");
    if (*external == '\0')
        buf_add_str(&s->out, "\"\"");
    else
        write_astring_str(&s->out, external);
    for (size_t i = 0; i < is->n; i++) {
        const struct notify_annot *old = find_annot(was, is->a[i].name);
        if (old != NULL && old->hash == is->a[i].hash)
            continue;
        buf_add_byte(&s->out, ' ');
        write_astring(&s->out, span_str(is->a[i].name));
        names++;
    }
    for (size_t i = 0; i < was->n; i++) {
        if (find_annot(is, was->a[i].name) != NULL)
            continue;
        buf_add_byte(&s->out, ' ');
        write_astring(&s->out, span_str(was->a[i].name));
        names++;
    }
    if (names == 0)
        s->out.n = start;
    else
        buf_add_str(&s->out, "\r\n");
}

/* Those of ID (0: the server) as they are; told unless SILENT. */
static enum errcode
look_at_annots(struct imap_session *s, struct store_snap *snap, mbid_t id,
               const char *external, struct notify_annots *known, bool silent,
               struct error *err)
{
    struct collecting c = {.s = s, .n = s->notify, .max = NOTIFY_BYTES_MAX};

    for (size_t i = 0; i < known->n; i++)
        c.max += annot_bytes(&known->a[i]);
    enum errcode rc = snap_annots(snap, id, 0, collect, &c, err);
    if (c.to.n > 1)
        qsort(c.to.a, c.to.n, sizeof(c.to.a[0]), by_name);
    if (rc == ERR_OK && c.too_many)
        rc = error_set(err, ERR_LIMIT, "more annotations than may be watched");
    if (rc == ERR_OK && !silent)
        write_annot_changes(s, external, known, &c.to);
    annots_free(s->notify, known);
    *known = c.to;
    return rc;
}

/* ---- changes of one ---------------------------------------------------- */

static void
know(struct notify_box *box, const struct mailbox *mb)
{
    box->uidvalidity = mb->uidvalidity;
    box->uidnext = mb->uidnext;
    box->exists = mb->exists;
    box->modseq = mb->highestmodseq;
}

/* 5.1 to 5.3 */
static unsigned
status_items(const struct imap_session *s, const struct notify_box *box,
             const struct mailbox *mb)
{
    unsigned items = 0;

    if ((box->events & EVENT_MESSAGE_NEW) != 0 &&
        (mb->uidnext != box->uidnext || mb->exists != box->exists)) {
        items |= STATUS_UIDNEXT | STATUS_MESSAGES;
        if (s->condstore)
            items |= STATUS_HIGHESTMODSEQ;
    }
    if ((box->events & (EVENT_FLAG | EVENT_ANNOTATION)) == 0)
        return items;
    if (mb->uidvalidity != box->uidvalidity)
        items |= STATUS_UIDVALIDITY;
    if (s->condstore && mb->highestmodseq != box->modseq)
        items |= STATUS_HIGHESTMODSEQ | STATUS_UIDVALIDITY;
    return items;
}

static enum errcode
tell_box(struct imap_session *s, struct store_snap *snap,
         struct notify_box *box, struct error *err)
{
    struct mailbox mb;
    enum errcode rc = snap_mailbox(snap, box->id, &s->arena, &mb, err);

    if (rc == ERR_NOTFOUND || (rc == ERR_OK && mb.is_deleted))
        return ERR_OK; /* the list will say so */
    if (rc != ERR_OK)
        return rc;
    const char *external = external_name(s, mb.name, &s->arena);
    const bool selected = s->sel != NULL && s->sel->id == box->id;
    const unsigned items =
        box->readable && !selected ? status_items(s, box, &mb) : 0;
    know(box, &mb);
    if (items != 0)
        rc = write_status(s, snap, &mb, external, items, &s->out, err);
    if (rc == ERR_OK && box->readable && (box->events & EVENT_METADATA) != 0)
        rc = look_at_annots(s, snap, box->id, external, &box->annots, false,
                            err);
    return rc;
}

enum errcode
notify_tell_next(struct imap_session *s, bool *ret_more, struct error *err)
{
    struct notify *n = s->notify;

    while (n->at < n->n) {
        struct notify_box *box = n->boxes[n->at++];
        if (!atomic_exchange(&box->mark.dirty, false))
            continue;
        watch_rearm(box->watch);
        AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
        *ret_more = true;
        return tell_box(s, snap, box, err);
    }
    *ret_more = false;
    return ERR_OK;
}

enum errcode
notify_tell_status(struct imap_session *s, struct error *err)
{
    const struct notify *n = s->notify;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < n->n && rc == ERR_OK; i++) {
        const struct notify_box *box = n->boxes[i];
        struct mailbox mb;
        unsigned items = 0;
        if ((box->events & EVENT_MESSAGE_NEW) != 0)
            items = STATUS_MESSAGES | STATUS_UIDNEXT | STATUS_UIDVALIDITY;
        if ((box->events & (EVENT_FLAG | EVENT_ANNOTATION)) != 0)
            items |= STATUS_HIGHESTMODSEQ;
        if (items == 0 || !box->readable ||
            (s->sel != NULL && s->sel->id == box->id))
            continue;
        rc = snap_mailbox(snap, box->id, &s->arena, &mb, err);
        if (rc == ERR_OK)
            rc =
                write_status(s, snap, &mb, external_name(s, mb.name, &s->arena),
                             items, &s->out, err);
        else if (rc == ERR_NOTFOUND)
            rc = ERR_OK;
    }
    return rc;
}

/* ---- names ------------------------------------------------------------- */

/* "* LIST (ATTRIBUTE) ..." of what is no mailbox that can be read. */
static void
write_bare(struct imap_session *s, const char *attribute, const char *name)
{
    buf_addf(&s->out, "* LIST (%s) \"%c\" ", attribute, s->opt->ns.sep);
    write_astring_str(&s->out, external_name(s, name, &s->arena));
    buf_add_str(&s->out, "\r\n");
}

static enum errcode
write_name(struct imap_session *s, struct store_snap *snap,
           const struct notify_box *box, const char *old, struct error *err)
{
    struct mailbox mb;
    enum errcode rc = snap_mailbox(snap, box->id, &s->arena, &mb, err);

    if (rc != ERR_OK)
        return rc == ERR_NOTFOUND ? ERR_OK : rc;
    return write_list_of(s, snap, &mb,
                         span_str(external_name(s, old, &s->arena)),
                         box->subscribed ? "\\Subscribed " : "", err);
}

struct wanted {
    mbid_t id;
    unsigned events;
    bool by_subscription;
};

static int
by_id(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* What the groups stand for now, in the session's arena. */
static enum errcode
look_up(struct imap_session *s, struct store_snap *snap, struct wanted **ret,
        size_t *ret_n, struct error *err)
{
    struct imap_command cmd;
    const char *why;
    struct wanted *all = NULL;
    size_t n = 0, to = 0;
    enum errcode rc = ERR_OK;

    const enum imap_parsed parsed =
        imap_parse(buf_span(&s->notify->text), &s->arena, &cmd, &why);
    for (size_t i = 0; parsed == IMAP_PARSED && i < cmd.notify.ngroups; i++) {
        const struct imap_notify_group *g = &cmd.notify.groups[i];
        struct box_list list = {.s = s, .max = NOTIFY_BOXES_MAX};
        if (g->selected || g->events == 0)
            continue;
        rc = box_list_add(&list, snap, &g->source, err);
        if (rc == ERR_OK && list.too_many)
            rc = error_set(err, ERR_LIMIT, "too many mailboxes");
        all = xrealloc(all, (n + list.n + 1) * sizeof(*all));
        for (size_t k = 0; k < list.n; k++)
            all[n++] = (struct wanted){list.boxes[k].id, g->events,
                                       g->source.kind == SOURCE_SUBSCRIBED};
        free(list.boxes);
        if (rc != ERR_OK)
            break;
    }
    if (n > 1)
        qsort(all, n, sizeof(*all), by_id);
    for (size_t i = 0; i < n; i++) {
        if (to > 0 && all[to - 1].id == all[i].id) {
            all[to - 1].events |= all[i].events;
            all[to - 1].by_subscription &= all[i].by_subscription;
        } else {
            all[to++] = all[i];
        }
    }
    if (rc == ERR_OK && to > NOTIFY_BOXES_MAX)
        rc = error_set(err, ERR_LIMIT, "too many mailboxes");
    *ret = arena_array(&s->arena, to, sizeof(*all));
    for (size_t i = 0; i < to; i++)
        (*ret)[i] = all[i];
    *ret_n = to;
    free(all);
    return rc;
}

static struct notify_box *
find_box(const struct notify *n, mbid_t id)
{
    size_t lo = 0, hi = n->n;

    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (n->boxes[mid]->id == id)
            return n->boxes[mid];
        if (n->boxes[mid]->id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* What a refresh finds. */
struct refresh {
    struct imap_session *s;
    struct store_snap *snap;
    bool silent;
    struct notify_box **boxes;
    size_t n;
};

/* NAME came or went: the mailbox above it is affected too (5.4). */
static void
affect_parent(struct refresh *r, const char *name)
{
    const char *parent = name_parent(name, &r->s->arena);

    for (size_t i = 0; parent != NULL && i < r->n; i++)
        if (strcmp(r->boxes[i]->name, parent) == 0 &&
            (r->boxes[i]->events & EVENT_NAME) != 0)
            r->boxes[i]->affected = true;
}

static struct notify_box *
box_new(struct imap_session *s, const struct mailbox *mb)
{
    struct notify_box *box = xcalloc(1, sizeof(*box));

    box->mark.s = s;
    box->id = mb->id;
    box->name = xstrdup(mb->name);
    know(box, mb);
    box->watch = store_watch(s->store, mb->id, on_box, &box->mark);
    return box;
}

static bool
is_subscribed(struct refresh *r, const char *name)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct error ignored = {0};

    return snap_user_get(r->snap, r->s->user, USER_SUBSCRIPTION, name, &value,
                         &ignored) == ERR_OK;
}

/* Was the mailbox above it renamed with it? */
static bool
went_along(const struct refresh *r, const struct notify_box *box,
           const char *new_name)
{
    for (size_t i = 0; i < r->n; i++) {
        const struct notify_box *p = r->boxes[i];
        struct error ignored = {0};
        struct mailbox mb;
        const size_t n = strlen(p->name);
        if (p == box || strncmp(box->name, p->name, n) != 0 ||
            box->name[n] != '.')
            continue;
        if (snap_mailbox(r->snap, p->id, &r->s->arena, &mb, &ignored) !=
                ERR_OK ||
            strcmp(mb.name, p->name) == 0)
            continue;
        const size_t m = strlen(mb.name);
        if (strncmp(new_name, mb.name, m) == 0 &&
            strcmp(new_name + m, box->name + n) == 0)
            return true;
    }
    return false;
}

/* A mailbox that is wanted and can be seen. */
static enum errcode
take_box(struct refresh *r, const struct wanted *w, const struct mailbox *mb,
         struct error *err)
{
    struct imap_session *s = r->s;
    struct notify_box *box = find_box(s->notify, w->id);
    const bool is_new = box == NULL;
    const bool readable = (rights_of(s, mb) & ACL_READ) != 0;
    const bool subscribed =
        (w->events & (EVENT_NAME | EVENT_SUBSCRIPTION)) != 0 &&
        is_subscribed(r, mb->name);
    enum errcode rc = ERR_OK;

    if (is_new) {
        box = box_new(s, mb);
        box->affected =
            !r->silent && !w->by_subscription && (w->events & EVENT_NAME) != 0;
    }
    if ((is_new ? w->by_subscription : box->subscribed != subscribed) &&
        (w->events & EVENT_SUBSCRIPTION) != 0)
        box->affected |= !r->silent;
    box->found = true;
    box->events = w->events;
    box->by_subscription = w->by_subscription;
    box->subscribed = subscribed;
    if ((is_new || box->readable != readable) && !readable &&
        (w->events & (EVENT_OF_MESSAGES | EVENT_METADATA)) != 0 &&
        !box->affected)
        write_bare(s, "\\NoAccess", mb->name); /* 3.1, 5.9 */
    else if (!is_new && !box->readable && readable)
        box->affected = true;
    if (readable && (is_new || !box->readable) &&
        (w->events & EVENT_METADATA) != 0)
        rc = look_at_annots(s, r->snap, box->id, "", &box->annots, true, err);
    box->readable = readable;
    r->boxes[r->n++] = box;
    return rc;
}

/* What was known and is not found any more. */
static void
tell_gone(struct refresh *r, struct notify_box *box)
{
    struct imap_session *s = r->s;
    struct error ignored = {0};
    struct mailbox mb;
    const bool exists =
        snap_mailbox(r->snap, box->id, &s->arena, &mb, &ignored) == ERR_OK &&
        !mb.is_deleted;
    const bool seen = exists && (rights_of(s, &mb) & ACL_LOOKUP) != 0;

    if (seen && (box->events & EVENT_SUBSCRIPTION) != 0 &&
        box->by_subscription) {
        box->subscribed = false;
        (void)!write_name(s, r->snap, box, box->name, &ignored);
    } else if (!seen && (box->events & EVENT_NAME) != 0) {
        write_bare(s, "\\NonExistent", box->name);
        affect_parent(r, box->name);
    } else if (!seen && exists) {
        write_bare(s, "\\NoAccess", box->name); /* 5.9 */
    }
}

/* Names that changed, then what else is affected. */
static enum errcode
tell_names(struct refresh *r, struct error *err)
{
    struct imap_session *s = r->s;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < r->n && rc == ERR_OK; i++) {
        struct notify_box *box = r->boxes[i];
        struct mailbox mb;
        rc = snap_mailbox(r->snap, box->id, &s->arena, &mb, err);
        if (rc != ERR_OK || strcmp(mb.name, box->name) == 0)
            continue;
        if ((box->events & EVENT_NAME) != 0 && !went_along(r, box, mb.name)) {
            rc = write_name(s, r->snap, box, box->name, err);
            box->affected = false;
        }
    }
    for (size_t i = 0; i < r->n && rc == ERR_OK; i++) {
        struct notify_box *box = r->boxes[i];
        struct mailbox mb;
        if (box->affected) {
            rc = snap_mailbox(r->snap, box->id, &s->arena, &mb, err);
            if (rc == ERR_OK)
                rc = write_name(s, r->snap, box, mb.name, err);
        }
        box->affected = false;
    }
    /* Only now: the comparison above is by the names of before. */
    for (size_t i = 0; i < r->n && rc == ERR_OK; i++) {
        struct mailbox mb;
        rc = snap_mailbox(r->snap, r->boxes[i]->id, &s->arena, &mb, err);
        if (rc == ERR_OK && strcmp(mb.name, r->boxes[i]->name) != 0) {
            free(r->boxes[i]->name);
            r->boxes[i]->name = xstrdup(mb.name);
        }
    }
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

enum errcode
notify_refresh(struct imap_session *s, bool silent, struct error *err)
{
    struct notify *n = s->notify;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    struct refresh r = {.s = s, .snap = snap, .silent = silent};
    struct wanted *wanted;
    size_t nwanted;

    enum errcode rc = look_up(s, snap, &wanted, &nwanted, err);
    for (size_t i = 0; i < n->n; i++)
        n->boxes[i]->found = false;
    r.boxes = xcalloc(nwanted + 1, sizeof(struct notify_box *));
    for (size_t i = 0; i < nwanted && rc == ERR_OK; i++) {
        struct mailbox mb;
        rc = snap_mailbox(snap, wanted[i].id, &s->arena, &mb, err);
        if (rc == ERR_OK && !mb.is_deleted &&
            (rights_of(s, &mb) & ACL_LOOKUP) != 0)
            rc = take_box(&r, &wanted[i], &mb, err);
        else if (rc == ERR_NOTFOUND)
            rc = ERR_OK;
    }
    for (size_t i = 0; i < r.n; i++)
        if (r.boxes[i]->affected)
            affect_parent(&r, r.boxes[i]->name);
    for (size_t i = 0; i < n->n; i++) {
        if (n->boxes[i]->found)
            continue;
        if (rc == ERR_OK && !silent)
            tell_gone(&r, n->boxes[i]);
        box_free(n, n->boxes[i]);
    }
    free(n->boxes);
    n->boxes = r.boxes;
    n->n = r.n;
    n->at = 0;
    if (rc == ERR_OK)
        rc = tell_names(&r, err);
    if (rc == ERR_OK && n->server_metadata)
        rc = look_at_annots(s, snap, 0, "", &n->server, silent, err);
    return rc;
}
