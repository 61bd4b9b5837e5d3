/*
 * csync/push_user.c - a user of a peer becomes as here: mailboxes (names first,
 * csync/push_names.c, then what is in them), quota, subscriptions, scripts,
 * \Seen.
 */
#include "csync/push_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "store/names.h"

void
push_user_free(struct push_user *u)
{
    free(u->mailboxes.v);
    free(u->quotas);
    free(u->subs);
    free(u->scripts);
    free(u->seen);
    arena_free(&u->arena);
    *u = (struct push_user){0};
}

void
push_complain(struct push *p, const char *what, const char *name,
              const struct error *err)
{
    if (p->quiet)
        return;
    p->counts.failed++;
    if (p->on_left != NULL && strcasecmp(what, "mailbox") == 0)
        p->on_left(p->left_ctx, false, name);
    log_warn(&p->log, "push.failed", "%s=\"%s\" code=%s why=\"%s\"", what, name,
             errcode_name(err->code), err->text);
}

struct sync_mailbox *
push_find(const struct push_list *l, const char *uniqueid)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].uniqueid, uniqueid) == 0)
            return &l->v[i];
    return NULL;
}

struct sync_mailbox *
push_find_name(const struct push_list *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].name, name) == 0)
            return &l->v[i];
    return NULL;
}

/* ---- asking ------------------------------------------------------------- */

void
push_list_add(struct push_user *u, const struct sync_mailbox *mb)
{
    struct push_list *l = &u->mailboxes;

    if (l->n == l->cap) {
        l->cap = l->cap * 2 + 16;
        l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
    }
    sync_mailbox_copy(mb, &u->arena, &l->v[l->n++]);
}

static enum errcode
take_mailbox(void *ctx, struct sync_mailbox *mb, bool is_head_only,
             struct error *err)
{
    struct push_user *u = ctx;

    (void)err;
    /* Names without a mailbox, and what is no mail. */
    if (is_head_only || (mb->type[0] != '\0' && strcmp(mb->type, "e") != 0))
        return ERR_OK;
    push_list_add(u, mb);
    return ERR_OK;
}

static const char *const quota_keys[] = {
    "STORAGE", "MESSAGE", "X-ANNOTATION-STORAGE", "X-NUM-FOLDERS"};

static enum errcode
take_quota(struct push_user *u, const struct dlist *d, struct error *err)
{
    struct push_quota q = {0};

    if (!dlist_get_str(d, "ROOT", &u->arena, &q.root))
        return error_set(err, ERR_PROTO, "a QUOTA without ROOT");
    for (size_t i = 0; i < ARRAY_LEN(quota_keys); i++)
        if (!dlist_get_u64(d, quota_keys[i], &q.limit[i]))
            q.limit[i] = PUSH_UNLIMITED;
    u->quotas = xrealloc(u->quotas, (u->nquotas + 1) * sizeof(*u->quotas));
    u->quotas[u->nquotas++] = q;
    return ERR_OK;
}

static enum errcode
take_subs(struct push_user *u, const struct dlist *d)
{
    size_t n = u->nsubs;

    for (const struct dlist *c = d->child; c != NULL; c = c->next)
        n++;
    u->subs = xrealloc(u->subs, (n + 1) * sizeof(*u->subs));
    for (const struct dlist *c = d->child; c != NULL; c = c->next)
        u->subs[u->nsubs++] = arena_str(&u->arena, c->text);
    return ERR_OK;
}

static enum errcode
take_script(struct push_user *u, const struct dlist *d, struct error *err)
{
    struct push_script s = {0};
    uint64_t is_active = 0;

    if (!dlist_get_str(d, "FILENAME", &u->arena, &s.file) ||
        !dlist_get_text(d, "GUID", &s.guid))
        return error_set(err, ERR_PROTO, "a SIEVE without FILENAME or GUID");
    if (dlist_get(d, "ISACTIVE") != NULL &&
        !dlist_get_u64(d, "ISACTIVE", &is_active))
        return error_set(err, ERR_PROTO, "ISACTIVE is no number");
    s.guid = arena_copy(&u->arena, s.guid);
    s.is_active = is_active != 0;
    u->scripts = xrealloc(u->scripts, (u->nscripts + 1) * sizeof(*u->scripts));
    u->scripts[u->nscripts++] = s;
    return ERR_OK;
}

static enum errcode
take_line(void *ctx, const struct dlist *d, struct error *err)
{
    struct push_user *u = ctx;

    if (span_eq_nocase_str(d->name, "QUOTA"))
        return take_quota(u, d, err);
    if (span_eq_nocase_str(d->name, "LSUB"))
        return take_subs(u, d);
    if (span_eq_nocase_str(d->name, "SIEVE"))
        return take_script(u, d, err);
    if (!span_eq_nocase_str(d->name, "SEEN"))
        return ERR_OK;
    struct sync_seen s;
    enum errcode rc = sync_seen_read(d, &u->arena, &s, err);
    if (rc != ERR_OK)
        return rc;
    u->seen = xrealloc(u->seen, (u->nseen + 1) * sizeof(*u->seen));
    u->seen[u->nseen++] = s;
    return ERR_OK;
}

static enum errcode
ask(struct sync_peer *p, struct push_user *u, struct span line,
    struct error *err)
{
    const struct sync_answer a = {
        .ctx = u, .mailbox = take_mailbox, .line = take_line};

    enum errcode rc = peer_command(p, line, &a, err);
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

enum errcode
push_ask(struct sync_peer *p, struct push_user *u, struct error *err,
         const char *verb, const char *name)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct dlist_printer pr;

    buf_add_str(&line, "GET ");
    dlist_print_begin(&pr, &line, DLIST_CLIENT);
    dlist_str(&pr, verb, name);
    return ask(p, u, buf_span(&line), err);
}

enum errcode
push_ask_list(struct sync_peer *p, struct push_user *u, struct error *err,
              const char *verb, const char *const *names, size_t n)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct dlist_printer pr;

    if (n == 0)
        return ERR_OK;
    buf_add_str(&line, "GET ");
    dlist_print_begin(&pr, &line, DLIST_CLIENT);
    dlist_open_list(&pr, verb);
    for (size_t i = 0; i < n; i++)
        dlist_str(&pr, NULL, names[i]);
    dlist_close(&pr);
    return ask(p, u, buf_span(&line), err);
}

/* ---- telling ------------------------------------------------------------ */

enum errcode
push_tell(struct push *p, struct error *err, const char *verb, ...)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct dlist_printer pr;
    const char *key;
    va_list ap;

    buf_add_str(&line, "APPLY ");
    dlist_print_begin(&pr, &line, DLIST_CLIENT);
    dlist_open_kv(&pr, verb);
    va_start(ap, verb);
    while ((key = va_arg(ap, const char *)) != NULL)
        dlist_str(&pr, key, va_arg(ap, const char *));
    va_end(ap);
    dlist_close(&pr);
    return peer_command(p->dst, buf_span(&line), NULL, err);
}

/* ---- what is in them ---------------------------------------------------- */

static enum errcode
update_all(struct push *p, const struct push_user *here,
           const struct push_user *there, struct error *err)
{
    uint64_t failed = 0;

    for (size_t i = 0; i < here->mailboxes.n; i++) {
        const struct sync_mailbox *s = &here->mailboxes.v[i];
        struct error why = {0};
        enum errcode rc =
            push_mailbox(p, s, push_find(&there->mailboxes, s->uniqueid),
                         &there->mailboxes, &why);
        if (rc == ERR_OK)
            continue;
        if (peer_is_broken(p->dst) || peer_is_broken(p->src)) {
            *err = why;
            return rc;
        }
        if (rc == ERR_NOTFOUND)
            continue; /* gone meanwhile */
        push_complain(p, "mailbox", s->name, &why);
        failed++;
        if (err != NULL)
            *err = why;
    }
    return failed == 0
               ? ERR_OK
               : error_set(err, ERR_CONFLICT,
                           "%" PRIu64 " mailboxes are not level", failed);
}

/* ---- quota, subscriptions, scripts, \Seen ---------------------------------
 */

static const struct push_quota *
find_quota(const struct push_user *u, const char *root)
{
    for (size_t i = 0; i < u->nquotas; i++)
        if (strcmp(u->quotas[i].root, root) == 0)
            return &u->quotas[i];
    return NULL;
}

static enum errcode
tell_quota(struct push *p, const struct push_quota *q, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct dlist_printer pr;

    buf_add_str(&line, "APPLY ");
    dlist_print_begin(&pr, &line, DLIST_CLIENT);
    dlist_open_kv(&pr, "QUOTA");
    dlist_str(&pr, "ROOT", q->root);
    dlist_u64(&pr, "LIMIT",
              q->limit[0] == PUSH_UNLIMITED ? UINT32_MAX : q->limit[0]);
    for (size_t i = 0; i < ARRAY_LEN(quota_keys); i++)
        if (q->limit[i] != PUSH_UNLIMITED)
            dlist_u64(&pr, quota_keys[i], q->limit[i]);
    dlist_close(&pr);
    return peer_command(p->dst, buf_span(&line), NULL, err);
}

static enum errcode
push_quotas(struct push *p, const struct push_user *here,
            const struct push_user *there, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < here->nquotas && rc == ERR_OK; i++) {
        const struct push_quota *q = &here->quotas[i];
        const struct push_quota *old = find_quota(there, q->root);
        if (old == NULL || memcmp(old->limit, q->limit, sizeof(q->limit)) != 0)
            rc = tell_quota(p, q, err);
    }
    for (size_t i = 0; i < there->nquotas && rc == ERR_OK; i++) {
        AUTO(buf_free) struct buf line = BUF_INIT;
        struct dlist_printer pr;
        if (find_quota(here, there->quotas[i].root) != NULL)
            continue;
        buf_add_str(&line, "APPLY ");
        dlist_print_begin(&pr, &line, DLIST_CLIENT);
        dlist_str(&pr, "UNQUOTA", there->quotas[i].root);
        rc = peer_command(p->dst, buf_span(&line), NULL, err);
    }
    return rc;
}

static bool
has_sub(const struct push_user *u, const char *name)
{
    for (size_t i = 0; i < u->nsubs; i++)
        if (strcmp(u->subs[i], name) == 0)
            return true;
    return false;
}

static enum errcode
push_subs(struct push *p, const char *user, const struct push_user *here,
          const struct push_user *there, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < here->nsubs && rc == ERR_OK; i++)
        if (!has_sub(there, here->subs[i]))
            rc = push_tell(p, err, "SUB", "USERID", user, "MBOXNAME",
                           here->subs[i], (const char *)NULL);
    for (size_t i = 0; i < there->nsubs && rc == ERR_OK; i++)
        if (!has_sub(here, there->subs[i]))
            rc = push_tell(p, err, "UNSUB", "USERID", user, "MBOXNAME",
                           there->subs[i], (const char *)NULL);
    return rc;
}

static bool
is_source(const struct push_script *s)
{
    const char *dot = strrchr(s->file, '.');

    return dot != NULL && strcmp(dot, ".script") == 0;
}

static const struct push_script *
find_script(const struct push_user *u, const char *file)
{
    for (size_t i = 0; i < u->nscripts; i++)
        if (strcmp(u->scripts[i].file, file) == 0)
            return &u->scripts[i];
    return NULL;
}

struct script_text {
    struct arena *a;
    struct span text;
    bool found;
};

static enum errcode
take_text(void *ctx, const struct dlist *d, struct error *err)
{
    struct script_text *t = ctx;

    (void)err;
    if (span_eq_nocase_str(d->name, "SIEVE") &&
        dlist_get_text(d, "CONTENT", &t->text)) {
        t->text = arena_copy(t->a, t->text);
        t->found = true;
    }
    return ERR_OK;
}

/* A Cyrus of some versions empties a script that is there already, so the old
 * one goes first. */
static enum errcode
send_script(struct push *p, const char *user, const char *file, bool is_there,
            struct arena *a, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct script_text t = {.a = a};
    const struct sync_answer answer = {.ctx = &t, .line = take_text};
    struct dlist_printer pr;

    buf_add_str(&line, "GET ");
    dlist_print_begin(&pr, &line, DLIST_CLIENT);
    dlist_open_kv(&pr, "FETCH_SIEVE");
    dlist_str(&pr, "USERID", user);
    dlist_str(&pr, "FILENAME", file);
    dlist_close(&pr);
    enum errcode rc = peer_command(p->src, buf_span(&line), &answer, err);
    if (rc != ERR_OK || !t.found)
        return rc == ERR_NOTFOUND ? ERR_OK : rc;
    if (t.text.n > dlist_default_limits.literal_bytes)
        return error_set(err, ERR_LIMIT, "script %s of %zu bytes, at most %zu",
                         file, t.text.n, dlist_default_limits.literal_bytes);
    if (is_there)
        rc = push_tell(p, err, "UNSIEVE", "USERID", user, "FILENAME", file,
                       (const char *)NULL);
    if (rc != ERR_OK)
        return rc;
    buf_clear(&line);
    buf_add_str(&line, "APPLY ");
    dlist_print_begin(&pr, &line, DLIST_CLIENT);
    dlist_open_kv(&pr, "SIEVE");
    dlist_str(&pr, "USERID", user);
    dlist_str(&pr, "FILENAME", file);
    dlist_u64(&pr, "LAST_UPDATE", env_wall_us(p->o->ship->env) / 1000000);
    dlist_span(&pr, "CONTENT", t.text);
    dlist_close(&pr);
    return peer_command(p->dst, buf_span(&line), NULL, err);
}

/* The compiled one that is active, or NULL. */
static const char *
active_of(const struct push_user *u)
{
    for (size_t i = 0; i < u->nscripts; i++)
        if (u->scripts[i].is_active)
            return u->scripts[i].file;
    return NULL;
}

static enum errcode
push_scripts(struct push *p, const char *user, const struct push_user *here,
             struct push_user *there, struct error *err)
{
    const char *active = active_of(here), *was = active_of(there);
    bool touched = false;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < here->nscripts && rc == ERR_OK; i++) {
        const struct push_script *s = &here->scripts[i];
        const struct push_script *d = find_script(there, s->file);
        if (!is_source(s) || (d != NULL && span_eq(d->guid, s->guid)))
            continue;
        rc = send_script(p, user, s->file, d != NULL, &there->arena, err);
        touched = true;
    }
    for (size_t i = 0; i < there->nscripts && rc == ERR_OK; i++) {
        const struct push_script *d = &there->scripts[i];
        if (!is_source(d) || find_script(here, d->file) != NULL)
            continue;
        rc = push_tell(p, err, "UNSIEVE", "USERID", user, "FILENAME", d->file,
                       (const char *)NULL);
        touched = true;
    }
    if (rc != ERR_OK)
        return rc;
    if (active != NULL && (touched || was == NULL || strcmp(active, was) != 0))
        rc = push_tell(p, err, "ACTIVATE_SIEVE", "USERID", user, "FILENAME",
                       active, (const char *)NULL);
    else if (active == NULL && was != NULL)
        rc = push_tell(p, err, "UNACTIVATE_SIEVE", "USERID", user,
                       (const char *)NULL);
    return rc;
}

/* Sets of UIDs, however they are written. */
static bool
same_uids(struct span a, struct span b)
{
    AUTO(uidset_free) struct uidset one = UIDSET_INIT, two = UIDSET_INIT;

    if (span_eq(a, b))
        return true;
    return (a.n == 0 || uidset_parse(a, 0, SIZE_MAX, &one)) &&
           (b.n == 0 || uidset_parse(b, 0, SIZE_MAX, &two)) &&
           uidset_eq(&one, &two);
}

static const struct sync_seen *
find_seen(const struct push_user *u, const char *uniqueid)
{
    for (size_t i = 0; i < u->nseen; i++)
        if (strcmp(u->seen[i].uniqueid, uniqueid) == 0)
            return &u->seen[i];
    return NULL;
}

static enum errcode
say_seen(struct sync_peer *to, const char *verb, const char *user,
         struct sync_seen s, const struct sync_answer *a, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct dlist_printer pr;

    s.user = user;
    buf_add_str(&line, verb);
    buf_add_byte(&line, ' ');
    dlist_print_begin(&pr, &line, DLIST_CLIENT);
    sync_seen_print(&s, &pr);
    return peer_command(to, buf_span(&line), a, err);
}

/*
 * The peer has D, and META of here had something else for that mailbox, or
 * nothing: that the user may not see it any more takes no \Seen away, nor do
 * messages that are gone here.  So what is true is asked for by mailbox, and
 * said there only if it is not what D comes to.
 */
static enum errcode
correct_seen(struct push *p, const char *user, const struct sync_seen *d,
             struct error *err)
{
    struct push_user here = {0};
    const struct sync_answer answer = {.ctx = &here, .line = take_line};

    enum errcode rc = say_seen(p->src, "GET", user, *d, &answer, err);
    for (size_t i = 0; i < here.nseen && rc == ERR_OK; i++)
        rc = say_seen(p->dst, "APPLY", user, here.seen[i], NULL, err);
    push_user_free(&here);
    return rc;
}

static enum errcode
push_seen(struct push *p, const char *user, const struct push_user *here,
          const struct push_user *there, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < here->nseen && rc == ERR_OK; i++)
        if (find_seen(there, here->seen[i].uniqueid) == NULL)
            rc = say_seen(p->dst, "APPLY", user, here->seen[i], NULL, err);
    for (size_t i = 0; i < there->nseen && rc == ERR_OK; i++) {
        const struct sync_seen *d = &there->seen[i];
        const struct sync_seen *s = find_seen(here, d->uniqueid);
        if (s == NULL ? d->uids.n > 0 : !same_uids(s->uids, d->uids))
            rc = correct_seen(p, user, d, err);
    }
    return rc;
}

static enum errcode
level_meta(struct push *p, const char *user, const struct push_user *here,
           struct push_user *there, struct error *err)
{
    enum errcode rc = push_subs(p, user, here, there, err);
    if (rc == ERR_OK)
        rc = push_scripts(p, user, here, there, err);
    return rc == ERR_OK ? push_seen(p, user, here, there, err) : rc;
}

/* ---- all of it ---------------------------------------------------------- */

enum errcode
push_meta(struct push *p, const char *user, struct error *err)
{
    struct push_user here = {0}, there = {0};

    enum errcode rc = push_ask(p->src, &here, err, "META", user);
    if (rc == ERR_OK)
        rc = push_ask(p->dst, &there, err, "META", user);
    if (rc == ERR_OK)
        rc = level_meta(p, user, &here, &there, err);
    push_user_free(&here);
    push_user_free(&there);
    return rc;
}

enum errcode
push_one_user(struct push *p, const char *user, bool remove_extra,
              struct error *err)
{
    struct push_user here = {0}, there = {0};
    struct error why = {0};
    const char *inbox = NULL;

    enum errcode rc = push_ask(p->src, &here, err, "USER", user);
    if (rc == ERR_OK)
        rc = push_ask(p->dst, &there, err, "USER", user);
    if (rc == ERR_OK)
        rc = name_inbox(user, &here.arena, &inbox, err);
    /* Nobody of that name here: whoever it is there is not ours.  One who is
     * gone but for DELETED. mailboxes: those are. */
    if (rc != ERR_OK || here.mailboxes.n == 0) {
        push_user_free(&here);
        push_user_free(&there);
        return rc;
    }
    const bool lives = push_find_name(&here.mailboxes, inbox) != NULL;
    const bool lived = push_find_name(&there.mailboxes, inbox) != NULL;
    p->counts.users += lives;
    rc = push_names(p, &here, &there, true, remove_extra, err);
    enum errcode level = ERR_OK;
    if (rc == ERR_OK)
        level = update_all(p, &here, &there, &why);
    if (level != ERR_OK && level != ERR_CONFLICT) {
        rc = level;
        *err = why;
    }
    /* Who had no INBOX there was told without subscriptions and the like; what
     * an earlier user of that name has left shows now. */
    if (rc == ERR_OK && lives && !lived)
        rc = push_ask(p->dst, &there, err, "META", user);
    if (rc == ERR_OK && lives)
        rc = push_quotas(p, &here, &there, err);
    if (rc == ERR_OK && lives)
        rc = level_meta(p, user, &here, &there, err);
    if (rc == ERR_OK && level != ERR_OK) {
        rc = level;
        *err = why;
    }
    push_user_free(&here);
    push_user_free(&there);
    return rc;
}

enum errcode
push_mailboxes(struct push *p, const char *const *names, size_t n,
               struct error *err)
{
    struct push_user here = {0}, there = {0};
    const char **ids = xcalloc(n + 1, sizeof(*ids));
    size_t nids = 0;

    enum errcode rc = push_ask_list(p->src, &here, err, "MAILBOXES", names, n);
    for (size_t i = 0; i < here.mailboxes.n; i++)
        ids[nids++] = here.mailboxes.v[i].uniqueid;
    if (rc == ERR_OK)
        rc = push_ask_list(p->dst, &there, err, "UNIQUEIDS", ids, nids);
    if (rc == ERR_UNSUPPORTED) /* before 3.2 */
        rc = push_ask_list(p->dst, &there, err, "MAILBOXES", names, n);
    if (rc == ERR_OK)
        rc = push_names(p, &here, &there, false, p->o->remove_extra, err);
    if (rc == ERR_OK)
        rc = update_all(p, &here, &there, err);
    free(ids);
    push_user_free(&here);
    push_user_free(&there);
    return rc;
}

/* ---- the server's annotations ---------------------------------------------
 */

struct server_annots {
    struct arena a;
    struct sync_annot v[256];
    size_t n;
};

static enum errcode
take_server_annot(void *ctx, const struct dlist *d, struct error *err)
{
    struct server_annots *as = ctx;
    struct sync_annot *an = &as->v[as->n];

    (void)err;
    if (!span_eq_nocase_str(d->name, "ANNOTATION") ||
        as->n == ARRAY_LEN(as->v) ||
        !dlist_get_str(d, "ENTRY", &as->a, &an->entry) ||
        !dlist_get_text(d, "VALUE", &an->value))
        return ERR_OK;
    if (!dlist_get_str(d, "USERID", &as->a, &an->user))
        an->user = "";
    an->value = arena_copy(&as->a, an->value);
    as->n++;
    return ERR_OK;
}

enum errcode
push_server_annotations(struct push *p, struct error *err)
{
    struct server_annots *here = xcalloc(2, sizeof(*here));
    struct server_annots *there = here + 1;
    struct sync_answer a = {.ctx = here, .line = take_server_annot};
    const struct span line = SPAN_LIT("GET ANNOTATION \"\"");

    enum errcode rc = peer_command(p->src, line, &a, err);
    a.ctx = there;
    if (rc == ERR_OK)
        rc = peer_command(p->dst, line, &a, err);
    for (size_t i = 0; i < here->n && rc == ERR_OK; i++) {
        const struct sync_annot *an = &here->v[i];
        AUTO(buf_free) struct buf out = BUF_INIT;
        struct dlist_printer pr;
        size_t k = 0;
        while (k < there->n && (strcmp(there->v[k].entry, an->entry) != 0 ||
                                strcmp(there->v[k].user, an->user) != 0 ||
                                !span_eq(there->v[k].value, an->value)))
            k++;
        if (k < there->n)
            continue;
        buf_add_str(&out, "APPLY ");
        dlist_print_begin(&pr, &out, DLIST_CLIENT);
        dlist_open_kv(&pr, "ANNOTATION");
        dlist_str(&pr, "MBOXNAME", "");
        dlist_str(&pr, "ENTRY", an->entry);
        dlist_str(&pr, "USERID", an->user);
        dlist_span(&pr, "VALUE", an->value);
        dlist_close(&pr);
        rc = peer_command(p->dst, buf_span(&out), NULL, err);
    }
    arena_free(&here->a);
    arena_free(&there->a);
    free(here);
    return rc;
}
