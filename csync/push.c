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
open_peer(const struct ship_options *o, int timeout_ms, bool greeting_only,
          struct csync_client **ret, struct error *err)
{
    struct csync_target t;

    enum errcode rc =
        csync_target_from_config(o->cfg, o->channel, o->host, &t, err);
    if (rc != ERR_OK)
        return rc;
    t.timeout_ms = o->timeout_ms > 0 ? o->timeout_ms : timeout_ms;
    t.require_compress = o->require_compress;
    t.greeting_only = greeting_only;
    t.stop = o->stop;
    t.stop_ctx = o->stop_ctx;
    return csync_connect(&t, o->cfg, ret, err);
}

bool
push_is_wanted(const struct ship_options *o)
{
    struct csync_client *c = NULL;
    struct error err = {0};

    if (config_channel_switch(o->cfg, o->channel, "sync_by_state"))
        return true;
    if (open_peer(o, ASK_TIMEOUT_MS, true, &c, &err) != ERR_OK)
        return false;
    const bool wanted = !csync_client_has_log(c);
    csync_client_close(&c);
    return wanted;
}

void
push_disconnect(struct push *p)
{
    uint64_t applies = 0;

    if (p->dst != NULL) {
        p->counts.commands += peer_commands(p->dst, &applies);
        p->counts.applies += applies;
    }
    peer_free(&p->src);
    peer_free(&p->dst);
}

/* A newer epoch of our own cluster knows better than we do. */
static enum errcode
check_epoch(struct push *p, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct logstatus here, there;

    if (p->o->wrong_way || !csync_client_has_log(peer_client(p->dst)))
        return ERR_OK;
    enum errcode rc = csync_log_status(peer_client(p->src), &a, &here, err);
    if (rc == ERR_OK)
        rc = csync_log_status(peer_client(p->dst), &a, &there, err);
    if (rc == ERR_OK && instid_eq(&here.cluster, &there.cluster) &&
        there.epoch > here.epoch)
        rc = error_set(err, ERR_FENCED,
                       "%s is at epoch %" PRI_EPOCH " of this cluster, this "
                       "instance at %" PRI_EPOCH
                       ": what is there is newer (--wrong-way)",
                       there.servername, there.epoch, here.epoch);
    return rc;
}

enum errcode
push_connect(struct push *p, struct error *err)
{
    const struct ship_options *o = p->o->ship;
    struct csync_client *c = NULL;

    push_disconnect(p);
    enum errcode rc =
        csync_connect_control(o->control, SOURCE_TIMEOUT_MS, &c, err);
    if (rc != ERR_OK)
        return error_prefix(err, "our instance");
    p->src = peer_new(&c, SOURCE_TIMEOUT_MS, o->stop, o->stop_ctx);
    peer_set_own(p->src);
    rc = open_peer(o, ASK_TIMEOUT_MS, false, &c, err);
    if (rc != ERR_OK)
        return rc;
    const int wait_ms = o->timeout_ms > 0 ? o->timeout_ms : PEER_TIMEOUT_MS;
    csync_client_set_timeout(c, wait_ms);
    p->dst = peer_new(&c, wait_ms, o->stop, o->stop_ctx);
    if (p->o->dry_run)
        peer_set_dry(p->dst);
    rc = check_epoch(p, err);
    return rc == ERR_OK && p->o->force
               ? peer_command(p->dst, SPAN_LIT("APPLY FORCE %()"), NULL, err)
               : rc;
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
    return is_master || p->o->wrong_way
               ? ERR_OK
               : error_set(err, ERR_READONLY,
                           "this instance is not the master: run sync_client "
                           "on the one that is (--wrong-way)");
}

/* ---- users one by one --------------------------------------------------- */

enum errcode
push_recover(struct push *p, unsigned *deads, struct error *err)
{
    if (!peer_is_broken(p->dst) && !peer_is_broken(p->src)) {
        *deads = 0;
        return ERR_OK;
    }
    if (push_stopped(p) || ++*deads > DEADS_MAX)
        return err->code;
    struct error why = {0};
    enum errcode rc = push_connect(p, &why);
    if (rc != ERR_OK)
        *err = why;
    return rc;
}

enum errcode
push_each(struct push *p, const char *const *names, size_t n, const char *what,
          enum errcode (*level)(struct push *p, const char *name,
                                struct error *err),
          struct error *err)
{
    unsigned deads = 0;
    enum errcode rc = ERR_OK;
    size_t i = 0;

    for (; i < n && rc == ERR_OK; i++) {
        struct error why = {0};
        if (push_stopped(p)) {
            rc = error_set(err, ERR_CLOSED, "told to stop");
            break;
        }
        if (p->o->ship->verbose)
            printf("%s %s\n", what, names[i]);
        rc = level(p, names[i], &why);
        if (rc == ERR_OK) {
            deads = 0;
            continue;
        }
        *err = why;
        if (rc == ERR_READONLY || rc == ERR_FENCED)
            break;
        if (rc != ERR_CONFLICT) /* its mailboxes were said */
            push_complain(p, what, names[i], &why);
        if (p->on_failed != NULL)
            p->on_failed(p->failed_ctx, what, names[i]);
        rc = push_recover(p, &deads, err);
    }
    /* It ended early: who was not come to is not level either. */
    for (; rc != ERR_OK && p->on_failed != NULL && i < n; i++)
        p->on_failed(p->failed_ctx, what, names[i]);
    return rc;
}

/* ---- who is left behind -------------------------------------------------- */

void
push_leave(struct push *p, const char *user)
{
    fprintf(stderr, "not level: user %s\n", user);
    buf_addf(&p->left, "%s\n", user);
}

static void
on_failed(void *ctx, const char *what, const char *name)
{
    (void)what;
    push_leave(ctx, name);
}

/* Untouched if nothing is known, for the next time. */
static enum errcode
write_remainder(struct push *p, bool is_done, struct error *err)
{
    if (p->o->remainder == NULL || p->o->dry_run ||
        (!is_done && p->left.n == 0))
        return ERR_OK;
    return env_write_file_atomic(p->o->ship->env, p->o->remainder,
                                 buf_span(&p->left), err);
}

/* Whoever names a user or a mailbox means one that is here. */
static enum errcode
check_user(struct push *p, const char *name, struct error *err)
{
    struct push_user here = {0};

    enum errcode rc = push_ask(p->src, &here, err, "USER", name);
    if (rc == ERR_OK && here.mailboxes.n == 0)
        rc = error_set(err, ERR_NOTFOUND, "there is no such user here");
    push_user_free(&here);
    return rc;
}

static enum errcode
level_user(struct push *p, const char *name, struct error *err)
{
    enum errcode rc = check_user(p, name, err);

    return rc == ERR_OK ? push_one_user(p, name, p->o->remove_extra, err) : rc;
}

static enum errcode
level_user_meta(struct push *p, const char *name, struct error *err)
{
    enum errcode rc = check_user(p, name, err);

    return rc == ERR_OK ? push_meta(p, name, err) : rc;
}

static enum errcode
level_mailbox(struct push *p, const char *name, struct error *err)
{
    const uint64_t before = p->counts.mailboxes;

    enum errcode rc = push_mailboxes(p, &name, 1, err);
    return rc == ERR_OK && p->counts.mailboxes == before
               ? error_set(err, ERR_NOTFOUND, "there is no such mailbox here")
               : rc;
}

static enum errcode
push_named(struct push *p, struct error *err)
{
    p->on_failed = p->o->mode == PUSH_MAILBOXES ? NULL : on_failed;
    p->failed_ctx = p;
    switch (p->o->mode) {
    case PUSH_USERS:
        return push_each(p, p->o->names, p->o->nnames, "USER", level_user, err);
    case PUSH_META:
        return push_each(p, p->o->names, p->o->nnames, "META", level_user_meta,
                         err);
    case PUSH_MAILBOXES:
        return push_each(p, p->o->names, p->o->nnames, "MAILBOX", level_mailbox,
                         err);
    case PUSH_ALL:
    case PUSH_ROLLING:
    case PUSH_ONCE:
        break;
    }
    return push_all(p, err);
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

    printf("users=%" PRIu64 " mailboxes=%" PRIu64 " changed=%" PRIu64
           " messages=%" PRIu64 " bytes=%" PRIu64 " extra=%" PRIu64
           " failed=%" PRIu64 " level=%" PRIu64 " commands=%" PRIu64
           " changes=%" PRIu64 "\n",
           c->users, c->mailboxes, c->sent, c->messages, c->bytes, c->extra,
           c->failed, c->level, c->commands, c->applies);
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
        if (o->dry_run)
            return error_set(err, ERR_UNSUPPORTED,
                             "--dry-run goes with -A, -u, -m and -s");
        rc = push_rolling(&p, push_connect, push_all, err);
        push_disconnect(&p);
        buf_free(&p.left);
        return rc;
    }
    rc = check_master(&p, err);
    if (rc == ERR_OK)
        rc = push_connect(&p, err);
    if (rc == ERR_OK)
        rc = push_named(&p, err);
    if (rc == ERR_OK)
        say_goodbye(&p);
    push_disconnect(&p);
    say_counts(&p);
    struct error why = {0};
    enum errcode kept = write_remainder(&p, rc == ERR_OK, &why);
    buf_free(&p.left);
    if (rc == ERR_OK && kept != ERR_OK) {
        *err = why;
        rc = kept;
    }
    if (rc == ERR_OK && p.counts.failed > 0)
        rc = error_set(err, ERR_CONFLICT,
                       "%" PRIu64 " were not brought level: see above",
                       p.counts.failed);
    return rc;
}
