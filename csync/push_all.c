/*
 * csync/push_all.c - sync_client -A by state: everybody is brought level.
 *
 *   ask      who is there, and between two Pollux with which digest; who was
 *            level with these digests already is passed over (csync/level.h)
 *   \Seen    of users who read in mailboxes that have changed: it lies with
 *            those, so the readers' own digests do not tell of it
 *   users    several at a time, each on connections of its own.  Who has
 *            changed is compared once more; where that finds nothing to do, it
 *            is noted
 *   again    who failed, one after another: mailboxes may have gone from one
 *            user to another while both were under way
 *   rest     shared mailboxes, what only the peer has, annotations
 *
 * A user is noted only with the digest that was asked for at the beginning, and
 * only when all readers' \Seen of that moment is there.
 */
#include "csync/push_private.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "csync/level.h"
#include "csync/tree.h"

#define JOBS_POLLUX 4U
#define ROUNDS_MAX 3U
#define SHARED_AT_ONCE 100U
#define SHOW_US 200000U
/* What is kept of one side's list of users. */
#define LISTING_BYTES ((size_t)512 << 20)

/* ---- names -------------------------------------------------------------- */

struct names {
    struct arena a;
    const char **v;
    size_t n, cap;
    const char *key;
    const char *const *prefixes; /* one of them begins each name; or NULL */
    size_t nprefixes;
};

static bool
is_meant(const struct names *l, struct span name)
{
    for (size_t i = 0; i < l->nprefixes; i++)
        if (span_starts(name, span_str(l->prefixes[i])))
            return true;
    return l->nprefixes == 0;
}

static void
add_name(struct names *l, struct span name)
{
    if (!is_meant(l, name))
        return;
    if (l->n == l->cap) {
        l->cap = l->cap * 2 + 64;
        l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
    }
    l->v[l->n++] = arena_str(&l->a, name);
}

static enum errcode
take_names(void *ctx, const struct dlist *d, struct error *err)
{
    struct names *l = ctx;

    (void)err;
    if (span_eq_nocase_str(d->name, l->key) && d->type == DLIST_LIST)
        for (const struct dlist *c = d->child; c != NULL; c = c->next)
            add_name(l, c->text);
    return ERR_OK;
}

/* GET KEY ARG */
static enum errcode
ask_names(struct sync_peer *p, const char *key, const char *arg,
          struct names *l, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    const struct sync_answer a = {.ctx = l, .line = take_names};
    struct dlist_printer pr;

    l->key = key;
    buf_add_str(&line, "GET ");
    dlist_print_begin(&pr, &line, DLIST_CLIENT);
    dlist_str(&pr, key, arg);
    return peer_command(p, buf_span(&line), &a, err);
}

static int
compare_names(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* In order, each once. */
static void
sort_names(struct names *l)
{
    size_t n = 0;

    if (l->n > 0)
        qsort(l->v, l->n, sizeof(*l->v), compare_names);
    for (size_t i = 0; i < l->n; i++)
        if (n == 0 || strcmp(l->v[n - 1], l->v[i]) != 0)
            l->v[n++] = l->v[i];
    l->n = n;
}

static bool
has_name(const struct names *l, const char *name)
{
    return l->n > 0 &&
           bsearch(&name, l->v, l->n, sizeof(*l->v), compare_names) != NULL;
}

static void
free_names(struct names *l)
{
    free(l->v);
    arena_free(&l->a);
    *l = (struct names){0};
}

/* ---- what both sides say of their users --------------------------------- */

struct listing {
    struct arena a;
    struct tree_user *v; /* by name */
    size_t n;
    size_t bytes;
    uint64_t root;
    lsn_t lsn;
    bool one_view; /* all of it is of that LSN */
};

static int
by_user(const void *x, const void *y)
{
    return strcmp(((const struct tree_user *)x)->name,
                  ((const struct tree_user *)y)->name);
}

static enum errcode
list_users(struct sync_peer *p, struct listing *l, struct error *err)
{
    struct tree_view view = {.more = true};
    const char *after = NULL;
    size_t cap = 0;

    l->one_view = true;
    while (view.more) {
        struct tree_user *some = NULL;
        size_t n = 0;
        enum errcode rc =
            tree_ask_users(peer_client(p), after, &l->a, &view, &some, &n, err);
        if (rc != ERR_OK)
            return rc;
        l->one_view = l->one_view && (after == NULL || l->lsn == view.lsn);
        l->lsn = view.lsn;
        l->root = view.digest;
        if (n == 0)
            break;
        for (size_t i = 0; i < n; i++)
            l->bytes += sizeof(*some) + strlen(some[i].name);
        if (l->bytes > LISTING_BYTES)
            return error_set(err, ERR_LIMIT, "%s names %zu users and more",
                             peer_name(p), l->n + n);
        if (l->n + n > cap) {
            cap = 2 * (l->n + n);
            l->v = xrealloc(l->v, cap * sizeof(*l->v));
        }
        memcpy(l->v + l->n, some, n * sizeof(*some));
        l->n += n;
        after = l->v[l->n - 1].name;
    }
    if (l->n > 0)
        qsort(l->v, l->n, sizeof(*l->v), by_user);
    return ERR_OK;
}

static uint64_t
digest_of(const struct listing *l, const char *user)
{
    const struct tree_user key = {.name = user};
    const struct tree_user *u =
        l->n == 0 ? NULL : bsearch(&key, l->v, l->n, sizeof(key), by_user);

    return u == NULL ? 0 : u->digest;
}

static void
free_listing(struct listing *l)
{
    free(l->v);
    arena_free(&l->a);
    *l = (struct listing){0};
}

/* ---- the whole ----------------------------------------------------------- */

struct all {
    struct push *p;
    struct level *level;        /* NULL: nothing is known of this peer */
    struct listing here, there; /* with LEVEL */
    struct names users;         /* everybody here */
    struct names todo;
    uint64_t start_us, shown_us;
    bool on_tty;
    bool may_note;

    pthread_mutex_t lock; /* all below */
    size_t next, done;
    struct names failed; /* to be tried again */
    struct names left;   /* were not brought level */
    uint64_t messages, bytes;
    enum errcode rc; /* what ended it */
    struct error err;
};

static void
show(struct all *a, bool last)
{
    uint64_t now = env_mono_ns(a->p->o->ship->env) / 1000;

    if (!a->on_tty || (!last && now - a->shown_us < SHOW_US))
        return;
    double seconds = (double)(now - a->start_us) / 1e6;
    double rate = seconds > 0 ? (double)a->done / seconds : 0;
    double left = rate > 0 ? (double)(a->todo.n - a->done) / rate : 0;
    a->shown_us = now;
    printf("\r%zu of %zu users, %" PRIu64 " messages, %.1f MB sent, %.0f/s, "
           "%.0f s left   %s",
           a->done, a->todo.n, a->messages, (double)a->bytes / 1e6, rate, left,
           last ? "\n" : "");
    fflush(stdout);
}

static uint64_t
applies_of(const struct push *w)
{
    uint64_t applies = 0;

    (void)peer_commands(w->dst, &applies);
    return applies;
}

static enum errcode
ask_pair(struct push *w, const char *user, struct level_pair *ret,
         struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct tree_view view;

    *ret = (struct level_pair){0};
    enum errcode rc =
        tree_ask_user(peer_client(w->src), user, &a, &view, &ret->here, err);
    if (rc == ERR_OK || rc == ERR_NOTFOUND)
        rc = tree_ask_user(peer_client(w->dst), user, &a, &view, &ret->there,
                           err);
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

/* Bring USER level, and look until nothing is found to do. */
static enum errcode
level_user(struct all *a, struct push *w, const char *user, struct error *err)
{
    struct level_pair was = {.here = digest_of(&a->here, user),
                             .there = digest_of(&a->there, user)};
    const uint64_t began_here = was.here;

    for (unsigned round = 0;; round++) {
        const struct push_counts counts = w->counts;
        const uint64_t applies = applies_of(w);
        enum errcode rc = push_one_user(w, user, w->o->remove_extra, err);
        if (rc != ERR_OK || !a->may_note)
            return rc;
        const bool changed = applies_of(w) != applies;
        struct level_pair now;
        if (round > 0 && !changed)
            w->counts = counts; /* it was counted before */
        rc = ask_pair(w, user, &now, err);
        if (rc != ERR_OK || now.here != began_here)
            return rc; /* written to meanwhile: for the next time */
        if (!changed && now.there == was.there) {
            level_note(a->level, user, now);
            return ERR_OK;
        }
        if (round + 1 == ROUNDS_MAX)
            return ERR_OK;
        was = now;
    }
}

/* ---- several at a time ----------------------------------------------------
 */

static void
stop_all(struct all *a, enum errcode rc, const struct error *err)
{
    pthread_mutex_lock(&a->lock);
    if (a->rc == ERR_OK) {
        a->rc = rc;
        a->err = *err;
    }
    pthread_mutex_unlock(&a->lock);
}

/* The next user, or NULL. */
static const char *
take_next(struct all *a)
{
    const char *user = NULL;

    pthread_mutex_lock(&a->lock);
    if (a->rc == ERR_OK && a->next < a->todo.n)
        user = a->todo.v[a->next++];
    pthread_mutex_unlock(&a->lock);
    return user;
}

static void
one_done(struct all *a, const char *user, enum errcode rc,
         const struct push_counts *before, const struct push_counts *after)
{
    pthread_mutex_lock(&a->lock);
    if (rc != ERR_OK)
        add_name(&a->failed, span_str(user));
    a->done++;
    a->messages += after->messages - before->messages;
    a->bytes += after->bytes - before->bytes;
    show(a, false);
    pthread_mutex_unlock(&a->lock);
}

static void
work(struct all *a, struct push *w)
{
    unsigned deads = 0;
    const char *user;

    while ((user = take_next(a)) != NULL) {
        const struct push_counts before = w->counts;
        struct error why = {0};
        if (push_stopped(w)) {
            error_set(&why, ERR_CLOSED, "told to stop");
            stop_all(a, ERR_CLOSED, &why);
            return;
        }
        if (w->o->ship->verbose)
            printf("USER %s\n", user);
        enum errcode rc = level_user(a, w, user, &why);
        one_done(a, user, rc, &before, &w->counts);
        if (rc == ERR_OK) {
            deads = 0;
            continue;
        }
        if (rc != ERR_READONLY && rc != ERR_FENCED)
            rc = push_recover(w, &deads, &why);
        if (rc != ERR_OK) {
            stop_all(a, rc, &why);
            return;
        }
    }
}

struct worker {
    struct all *a;
    struct push push;
    pthread_t thread;
    bool runs;
};

static void *
run_worker(void *ctx)
{
    struct worker *w = ctx;
    struct error why = {0};

    /* Without a connection the others do it. */
    if (push_connect(&w->push, &why) == ERR_OK)
        work(w->a, &w->push);
    push_disconnect(&w->push);
    return NULL;
}

static void
add_counts(struct push_counts *to, const struct push_counts *c)
{
    to->users += c->users;
    to->mailboxes += c->mailboxes;
    to->sent += c->sent;
    to->messages += c->messages;
    to->bytes += c->bytes;
    to->failed += c->failed;
    to->extra += c->extra;
    to->commands += c->commands;
    to->applies += c->applies;
}

static enum errcode
level_todo(struct all *a, struct error *err)
{
    struct push *p = a->p;
    struct worker workers[PUSH_JOBS_MAX];
    size_t jobs = p->o->jobs != 0          ? p->o->jobs
                  : peer_is_pollux(p->dst) ? JOBS_POLLUX
                                           : 1;

    if (p->o->dry_run)
        jobs = 1; /* what it says is in order */
    jobs = MIN(jobs, a->todo.n);
    for (size_t i = 1; i < jobs; i++) {
        workers[i] = (struct worker){
            .a = a, .push = {.o = p->o, .log = p->log, .quiet = true}};
        workers[i].runs = pthread_create(&workers[i].thread, NULL, run_worker,
                                         &workers[i]) == 0;
    }
    p->quiet = true;
    work(a, p);
    p->quiet = false;
    for (size_t i = 1; i < jobs; i++)
        if (workers[i].runs) {
            pthread_join(workers[i].thread, NULL);
            add_counts(&p->counts, &workers[i].push.counts);
        }
    if (a->todo.n > 0)
        show(a, true);
    if (a->rc != ERR_OK)
        *err = a->err;
    return a->rc;
}

/* ---- who is to be looked at ---------------------------------------------- */

static enum errcode
sides_of(struct push *p, struct level_sides *ret, struct level_pair *ret_root,
         struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct logstatus here, there;

    enum errcode rc = csync_log_status(peer_client(p->src), &a, &here, err);
    if (rc == ERR_OK)
        rc = csync_log_status(peer_client(p->dst), &a, &there, err);
    if (rc != ERR_OK)
        return rc;
    *ret = (struct level_sides){.here_cluster = here.cluster,
                                .here_instance = here.instance,
                                .there_cluster = there.cluster,
                                .there_instance = there.instance};
    *ret_root = (struct level_pair){.here = here.applied.digest,
                                    .there = there.applied.digest};
    return ERR_OK;
}

/* *RET_EQUAL: both are as they were when all was level. */
static enum errcode
open_level(struct all *a, bool *ret_equal, struct error *err)
{
    const struct push_options *o = a->p->o;
    struct level_sides sides;
    struct level_pair root;

    *ret_equal = false;
    /* -p may change what is level; a Cyrus has no digests. */
    if (!csync_client_has_log(peer_client(a->p->dst)) || o->partition != NULL)
        return ERR_OK;
    enum errcode rc = sides_of(a->p, &sides, &root, err);
    if (rc != ERR_OK)
        return rc;
    AUTO(xfree)
    char *path = xasprintf("%s/level-%s", o->ship->log_dir, o->ship->channel);
    a->level = level_open(o->ship->env, path, &sides);
    a->may_note = !o->dry_run;
    *ret_equal = !o->anew && level_has_root(a->level, root);
    return ERR_OK;
}

static bool
is_known(struct all *a, const char *user)
{
    return level_has(a->level, user,
                     (struct level_pair){.here = digest_of(&a->here, user),
                                         .there = digest_of(&a->there, user)});
}

static enum errcode
find_users(struct all *a, struct error *err)
{
    const struct push_options *o = a->p->o;
    enum errcode rc;

    a->users.prefixes = o->names;
    a->users.nprefixes = o->nnames;
    if (a->level == NULL)
        return ask_names(a->p->src, "USERS", "", &a->users, err);
    rc = list_users(a->p->src, &a->here, err);
    if (rc == ERR_OK)
        rc = list_users(a->p->dst, &a->there, err);
    for (size_t i = 0; rc == ERR_OK && i < a->here.n; i++)
        if (a->here.v[i].name[0] != '\0')
            add_name(&a->users, span_str(a->here.v[i].name));
    return rc;
}

static enum errcode
find_todo(struct all *a, struct error *err)
{
    enum errcode rc = find_users(a, err);

    if (rc != ERR_OK)
        return rc;
    sort_names(&a->users);
    for (size_t i = 0; i < a->users.n; i++) {
        if (a->level != NULL && !a->p->o->anew && is_known(a, a->users.v[i]))
            a->p->counts.level++;
        else
            add_name(&a->todo, span_str(a->users.v[i]));
    }
    return ERR_OK;
}

/* ---- the other passes -----------------------------------------------------
 */

/* \Seen of those who are passed over, in mailboxes of those who are not. */
static enum errcode
level_readers(struct all *a, bool shared, struct error *err)
{
    struct names seers = {0}, only = {0};
    const uint64_t failed = a->p->counts.failed;
    enum errcode rc = ERR_OK;

    if (a->todo.n == a->users.n)
        return ERR_OK; /* all come anyway */
    for (size_t i = 0; i < a->todo.n && rc == ERR_OK; i++) {
        rc = ask_names(a->p->src, "SEERS", a->todo.v[i], &seers, err);
        if (rc == ERR_OK)
            rc = ask_names(a->p->dst, "SEERS", a->todo.v[i], &seers, err);
    }
    if (rc == ERR_OK && shared)
        rc = ask_names(a->p->src, "SEERS", "", &seers, err);
    if (rc == ERR_OK && shared)
        rc = ask_names(a->p->dst, "SEERS", "", &seers, err);
    sort_names(&seers);
    for (size_t i = 0; i < seers.n; i++)
        if (!has_name(&a->todo, seers.v[i]) && has_name(&a->users, seers.v[i]))
            add_name(&only, span_str(seers.v[i]));
    if (rc == ERR_OK)
        rc = push_each(a->p, only.v, only.n, "META", push_meta, err);
    a->may_note = a->may_note && a->p->counts.failed == failed;
    free_names(&seers);
    free_names(&only);
    return rc;
}

static enum errcode
level_again(struct push *p, const char *name, struct error *err)
{
    return push_one_user(p, name, p->o->remove_extra, err);
}

static enum errcode
level_mailbox(struct push *p, const char *name, struct error *err)
{
    return push_mailboxes(p, &name, 1, err);
}

/* Many at a time; if the peer takes one of them ill, one by one. */
static enum errcode
level_shared(struct all *a, struct names *shared, struct error *err)
{
    struct push *p = a->p;
    unsigned deads = 0;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < shared->n && rc == ERR_OK; i += SHARED_AT_ONCE) {
        const char *const *some = shared->v + i;
        const size_t n = MIN(shared->n - i, (size_t)SHARED_AT_ONCE);
        if (push_stopped(p))
            return error_set(err, ERR_CLOSED, "told to stop");
        rc = push_mailboxes(p, some, n, err);
        if (rc == ERR_OK || rc == ERR_READONLY || rc == ERR_FENCED)
            continue;
        if (rc == ERR_CONFLICT) { /* they were said */
            rc = ERR_OK;
            continue;
        }
        rc = push_recover(p, &deads, err);
        if (rc == ERR_OK)
            rc = push_each(p, some, n, "mailbox", level_mailbox, err);
    }
    return rc;
}

static enum errcode
part_with_user(struct push *p, const char *name, struct error *err)
{
    return push_gone(p, name, &name, 1, err);
}

static enum errcode
part_with_mailbox(struct push *p, const char *name, struct error *err)
{
    return push_gone(p, NULL, &name, 1, err);
}

/* Who (USERS) or what (SHARED) is only at the peer.  A Cyrus cannot be asked.
 */
static enum errcode
level_gone(struct all *a, const char *key, struct names *here,
           struct error *err)
{
    struct names there = {.prefixes = here->prefixes,
                          .nprefixes = here->nprefixes};
    struct names gone = {0};
    const bool users = strcmp(key, "USERS") == 0;

    if (!peer_is_pollux(a->p->dst))
        return ERR_OK;
    sort_names(here);
    enum errcode rc = ERR_OK;
    if (!users || a->level == NULL)
        rc = ask_names(a->p->dst, key, "", &there, err);
    else
        for (size_t i = 0; i < a->there.n; i++)
            if (a->there.v[i].name[0] != '\0')
                add_name(&there, span_str(a->there.v[i].name));
    for (size_t i = 0; i < there.n; i++)
        if (!has_name(here, there.v[i]) &&
            strncmp(there.v[i], "DELETED.", 8) != 0)
            add_name(&gone, span_str(there.v[i]));
    if (rc == ERR_OK)
        rc = push_each(a->p, gone.v, gone.n, users ? "USER" : "MAILBOX",
                       users ? part_with_user : part_with_mailbox, err);
    free_names(&there);
    free_names(&gone);
    return rc;
}

/* What nobody owns. */
static enum errcode
level_nobody(struct all *a, struct error *err)
{
    struct names shared = {0};

    enum errcode rc = ask_names(a->p->src, "SHARED", "", &shared, err);
    sort_names(&shared);
    if (rc == ERR_OK)
        rc = level_shared(a, &shared, err);
    if (rc == ERR_OK)
        rc = level_gone(a, "SHARED", &shared, err);
    if (rc == ERR_OK)
        rc = push_server_annotations(a->p, err);
    free_names(&shared);
    return rc;
}

/* ---- and its end ----------------------------------------------------------
 */

static void
on_failed(void *ctx, const char *what, const char *name)
{
    struct all *a = ctx;

    if (strcmp(what, "USER") == 0 || strcmp(what, "META") == 0)
        add_name(&a->left, span_str(name));
}

/* Who was not come to when it ended early is not level either. */
static void
find_left(struct all *a, enum errcode rc)
{
    for (size_t i = a->next; rc != ERR_OK && i < a->todo.n; i++)
        add_name(&a->left, span_str(a->todo.v[i]));
    for (size_t i = 0; rc != ERR_OK && i < a->failed.n; i++)
        add_name(&a->left, span_str(a->failed.v[i]));
    sort_names(&a->left);
    for (size_t i = 0; i < a->left.n; i++) {
        push_leave(a->p, a->left.v[i]);
        if (a->p->on_left != NULL)
            a->p->on_left(a->p->left_ctx, true, a->left.v[i]);
    }
}

/*
 * Was everybody passed over?  Then the two roots of the lists tell so the next
 * time.  After a run that had something to do the next one lists once more.
 */
static void
keep_level(struct all *a)
{
    struct error ignored = {0}; /* all is looked at again, no more */
    const struct level_pair root = {.here = a->here.root,
                                    .there = a->there.root};
    const bool known = a->todo.n == 0 && is_known(a, "") && a->here.one_view &&
                       a->there.one_view;

    if (!known && !level_is_long(a->level))
        return;
    if (level_save(a->level, known ? &root : NULL, &ignored) != ERR_OK)
        log_warn(&a->p->log, "push.level", "why=\"%s\"", ignored.text);
}

static enum errcode
level_everything(struct all *a, struct error *err)
{
    const bool whole = a->p->o->nnames == 0;
    const char *nobody = "";

    enum errcode rc = find_todo(a, err);
    const bool skip_nobody = !whole || (a->level != NULL && !a->p->o->anew &&
                                        rc == ERR_OK && is_known(a, nobody));
    if (rc == ERR_OK && a->level != NULL)
        rc = level_readers(a, !skip_nobody, err);
    if (rc == ERR_OK)
        rc = level_todo(a, err);
    if (rc == ERR_OK)
        rc =
            push_each(a->p, a->failed.v, a->failed.n, "USER", level_again, err);
    uint64_t before = a->p->dst == NULL ? 0 : applies_of(a->p);
    if (rc == ERR_OK && !skip_nobody)
        rc = level_nobody(a, err);
    if (rc == ERR_OK)
        rc = level_gone(a, "USERS", &a->users, err);
    if (rc != ERR_OK || !a->may_note || a->p->counts.failed > 0 ||
        a->p->counts.extra > 0)
        return rc;
    struct level_pair now;
    if (whole && !skip_nobody && applies_of(a->p) == before &&
        ask_pair(a->p, nobody, &now, err) == ERR_OK &&
        now.here == digest_of(&a->here, nobody) &&
        now.there == digest_of(&a->there, nobody))
        level_note(a->level, nobody, now);
    if (whole)
        keep_level(a);
    return ERR_OK;
}

enum errcode
push_all(struct push *p, struct error *err)
{
    struct all a = {.p = p,
                    .on_tty = isatty(STDOUT_FILENO) == 1 && !p->o->dry_run &&
                              !p->o->ship->verbose,
                    .start_us = env_mono_ns(p->o->ship->env) / 1000};
    bool is_equal = false;

    pthread_mutex_init(&a.lock, NULL);
    p->on_failed = on_failed;
    p->failed_ctx = &a;
    enum errcode rc = open_level(&a, &is_equal, err);
    if (rc == ERR_OK && is_equal)
        printf("level: nothing has changed on either side\n");
    else if (rc == ERR_OK)
        rc = level_everything(&a, err);
    p->on_failed = NULL;
    find_left(&a, rc);
    level_close(&a.level);
    free_listing(&a.here);
    free_listing(&a.there);
    free_names(&a.users);
    free_names(&a.todo);
    free_names(&a.failed);
    free_names(&a.left);
    pthread_mutex_destroy(&a.lock);
    return rc;
}
