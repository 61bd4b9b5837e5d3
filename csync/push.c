/*
 * csync/push.c - sync_client by state: both connections, whom to bring level,
 * and what is said at the end.
 */
#include "csync/push_private.h"

#include <stdio.h>
#include <stdlib.h>

#include "synclog/mark.h"

#define SOURCE_TIMEOUT_MS 120000
#define PEER_TIMEOUT_MS 600000
#define ASK_TIMEOUT_MS 5000
#define DEADS_MAX 3U /* connections lost one after another */

static enum errcode
open_peer(const struct ship_options *o, int timeout_ms,
          struct csync_client **ret, struct error *err)
{
    struct csync_target t;

    enum errcode rc =
        csync_target_from_config(o->cfg, o->channel, o->host, &t, err);
    if (rc != ERR_OK)
        return rc;
    t.timeout_ms = timeout_ms;
    return csync_connect(&t, o->cfg, ret, err);
}

bool
push_is_wanted(const struct ship_options *o)
{
    struct csync_client *c = NULL;
    struct error err = {0};

    if (config_channel_switch(o->cfg, o->channel, "sync_by_state"))
        return true;
    if (open_peer(o, ASK_TIMEOUT_MS, &c, &err) != ERR_OK)
        return false;
    const bool wanted = !csync_client_has_log(c);
    csync_client_close(&c);
    return wanted;
}

static enum errcode
connect_both(struct push *p, struct error *err)
{
    const struct ship_options *o = p->o->ship;
    struct csync_client *c = NULL;

    peer_free(&p->src);
    peer_free(&p->dst);
    enum errcode rc =
        csync_connect_control(o->control, SOURCE_TIMEOUT_MS, &c, err);
    if (rc != ERR_OK)
        return error_prefix(err, "our instance");
    p->src = peer_new(&c, SOURCE_TIMEOUT_MS, o->stop, o->stop_ctx);
    rc = open_peer(o, ASK_TIMEOUT_MS, &c, err);
    if (rc != ERR_OK)
        return rc;
    csync_client_set_timeout(c, PEER_TIMEOUT_MS);
    p->dst = peer_new(&c, PEER_TIMEOUT_MS, o->stop, o->stop_ctx);
    return p->o->force
               ? peer_command(p->dst, SPAN_LIT("APPLY FORCE %()"), NULL, err)
               : ERR_OK;
}

/* The wrong direction: only a master knows what is so. */
static enum errcode
check_master(const struct push *p, struct error *err)
{
    const struct synclog_mark *mark = NULL;

    enum errcode rc = mark_attach(p->o->ship->log_dir, &mark, err);
    if (rc != ERR_OK)
        return rc;
    const bool runs = atomic_load(&mark->writer_pid) != 0;
    const bool is_master = atomic_load(&mark->role) == ROLE_MASTER;
    mark_detach(&mark);
    if (!runs)
        return error_set(err, ERR_CLOSED,
                         "no instance runs here (%s): start master first",
                         p->o->ship->log_dir);
    return is_master ? ERR_OK
                     : error_set(err, ERR_READONLY,
                                 "this instance is not the master: run "
                                 "sync_client on the one that is");
}

/* ---- names -------------------------------------------------------------- */

struct names {
    struct arena a;
    const char **v;
    size_t n, cap;
    const char *key;
    const char *prefix; /* or NULL */
};

static void
add_name(struct names *l, struct span name)
{
    if (l->prefix != NULL && !span_starts(name, span_str(l->prefix)))
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

static enum errcode
ask_names(struct sync_peer *p, const char *key, struct names *l,
          struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    const struct sync_answer a = {.ctx = l, .line = take_names};

    l->key = key;
    buf_addf(&line, "GET %s \"\"", key);
    return peer_command(p, buf_span(&line), &a, err);
}

static int
compare_names(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* In order, for has_name(). */
static void
sort_names(struct names *l)
{
    if (l->n > 0)
        qsort(l->v, l->n, sizeof(*l->v), compare_names);
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
}

/* ---- users one by one --------------------------------------------------- */

/* Is it worth to go on with the next one?  A connection that was lost is made
 * anew. */
static enum errcode
recover(struct push *p, unsigned *deads, struct error *err)
{
    if (!peer_is_broken(p->dst) && !peer_is_broken(p->src)) {
        *deads = 0;
        return ERR_OK;
    }
    if (push_stopped(p) || ++*deads > DEADS_MAX)
        return err->code;
    struct error why = {0};
    enum errcode rc = connect_both(p, &why);
    if (rc != ERR_OK)
        *err = why;
    return rc;
}

static enum errcode
each_name(struct push *p, const struct names *l, const char *what,
          enum errcode (*level)(struct push *p, const char *name,
                                struct error *err),
          struct error *err)
{
    unsigned deads = 0;

    for (size_t i = 0; i < l->n; i++) {
        struct error why = {0};
        if (push_stopped(p))
            return error_set(err, ERR_CLOSED, "told to stop");
        if (p->o->ship->verbose)
            printf("%s %s\n", what, l->v[i]);
        enum errcode rc = level(p, l->v[i], &why);
        if (rc == ERR_OK) {
            deads = 0;
            continue;
        }
        if (rc == ERR_READONLY || rc == ERR_FENCED) {
            *err = why;
            return rc;
        }
        if (rc != ERR_CONFLICT) /* its mailboxes were said */
            push_complain(p, what, l->v[i], &why);
        *err = why;
        rc = recover(p, &deads, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

static enum errcode
level_user(struct push *p, const char *name, struct error *err)
{
    return push_one_user(p, name, p->o->remove_extra, err);
}

static enum errcode
level_mailbox(struct push *p, const char *name, struct error *err)
{
    return push_mailboxes(p, &name, 1, err);
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

/*
 * Who and what is only at the peer, as part_with_others() has it for one user.
 * A Cyrus cannot be asked.  HERE is sorted after this.
 */
static enum errcode
push_all_gone(struct push *p, const char *key, struct names *here,
              struct error *err)
{
    struct names there = {.prefix = here->prefix}, gone = {0};
    const bool users = strcmp(key, "USERS") == 0;

    if (!peer_is_pollux(p->dst))
        return ERR_OK;
    sort_names(here);
    enum errcode rc = ask_names(p->dst, key, &there, err);
    for (size_t i = 0; i < there.n; i++)
        if (!has_name(here, there.v[i]) &&
            strncmp(there.v[i], "DELETED.", 8) != 0)
            add_name(&gone, span_str(there.v[i]));
    if (rc == ERR_OK)
        rc = each_name(p, &gone, users ? "USER" : "MAILBOX",
                       users ? part_with_user : part_with_mailbox, err);
    free_names(&there);
    free_names(&gone);
    return rc;
}

static enum errcode
push_all(struct push *p, struct error *err)
{
    struct names users = {0}, shared = {0};

    if (p->o->nnames > 0)
        users.prefix = p->o->names[0];
    enum errcode rc = ask_names(p->src, "USERS", &users, err);
    if (rc == ERR_OK && p->o->nnames == 0)
        rc = ask_names(p->src, "SHARED", &shared, err);
    if (rc == ERR_OK)
        rc = each_name(p, &users, "USER", level_user, err);
    if (rc == ERR_OK)
        rc = each_name(p, &shared, "MAILBOX", level_mailbox, err);
    if (rc == ERR_OK)
        rc = push_all_gone(p, "USERS", &users, err);
    if (rc == ERR_OK && p->o->nnames == 0)
        rc = push_all_gone(p, "SHARED", &shared, err);
    if (rc == ERR_OK && p->o->nnames == 0)
        rc = push_server_annotations(p, err);
    free_names(&users);
    free_names(&shared);
    return rc;
}

static enum errcode
push_named(struct push *p, struct error *err)
{
    struct names l = {0};
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < p->o->nnames; i++)
        add_name(&l, span_str(p->o->names[i]));
    if (rc == ERR_OK && p->o->mode == PUSH_USERS)
        rc = each_name(p, &l, "USER", level_user, err);
    else if (rc == ERR_OK && p->o->mode == PUSH_META)
        rc = each_name(p, &l, "META", push_meta, err);
    else if (rc == ERR_OK)
        rc = each_name(p, &l, "MAILBOX", level_mailbox, err);
    free_names(&l);
    return rc;
}

/* All is done: whether the peer takes its leave too is its own affair. */
static void
say_goodbye(struct push *p)
{
    struct error err = {0};

    if (peer_command(p->dst, SPAN_LIT("EXIT"), NULL, &err) != ERR_OK)
        log_info(&p->log, "push.goodbye", "why=\"%s\"", err.text);
}

static void
say_counts(const struct push *p)
{
    const struct push_counts *c = &p->counts;
    uint64_t applies = 0;
    uint64_t commands = p->dst == NULL ? 0 : peer_commands(p->dst, &applies);

    printf("users=%" PRIu64 " mailboxes=%" PRIu64 " changed=%" PRIu64
           " messages=%" PRIu64 " bytes=%" PRIu64 " extra=%" PRIu64
           " failed=%" PRIu64 " commands=%" PRIu64 " changes=%" PRIu64 "\n",
           c->users, c->mailboxes, c->sent, c->messages, c->bytes, c->extra,
           c->failed, commands, applies);
    fflush(stdout);
}

enum errcode
push_run(const struct push_options *o, struct error *err)
{
    struct push p = {.o = o};
    enum errcode rc = ERR_OK;

    snprintf(p.log.prefix, sizeof(p.log.prefix), "channel=%s",
             o->ship->channel);
    if (o->mode == PUSH_ROLLING || o->mode == PUSH_ONCE) {
        rc = push_rolling(&p, connect_both, push_all, err);
    } else {
        rc = check_master(&p, err);
        if (rc == ERR_OK)
            rc = connect_both(&p, err);
        if (rc == ERR_OK)
            rc = o->mode == PUSH_ALL ? push_all(&p, err) : push_named(&p, err);
        if (rc == ERR_OK)
            say_goodbye(&p);
        say_counts(&p);
        if (rc == ERR_OK && p.counts.failed > 0)
            rc = error_set(err, ERR_CONFLICT,
                           "%" PRIu64 " were not brought level: see above",
                           p.counts.failed);
    }
    peer_free(&p.src);
    peer_free(&p.dst);
    return rc;
}
