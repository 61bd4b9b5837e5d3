/*
 * lmtpd/deliver.c - recipients become mailboxes, and a message for all of them
 * becomes one transaction.
 *
 * The appends are independent: one recipient over quota does not keep the
 * message from the others.  They share a body, which is stored once.  A
 * recipient who was given twice (or who was renamed into another one by the
 * change of case) shares the append too.
 *
 * Who has no INBOX yet and may get one gets it when a message is really there,
 * not at RCPT: a client that only asks leaves nothing behind.  The INBOXes are
 * made one after the other, then the recipients are looked up again.
 *
 * Quota is not looked at before the commit: a message that was delivered before
 * and is sent again because the answer was lost is answered 250 even if it has
 * filled the quota.
 */
#include "lmtpd/deliver.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/log.h"
#include "store/acl.h"
#include "store/autocreate.h"
#include "store/txn.h"

/* More derived records than this are not copied into one transaction: they are
 * made again from the body by who reads first. */
#define CACHE_BYTES_MAX (8U << 20)

/* ---- recipients -------------------------------------------------------- */

static enum errcode
ready(void *ctx, struct error *err)
{
    const struct lmtp_store *to = ctx;

    switch (store_role(to->store)) {
    case ROLE_MASTER:
        return ERR_OK;
    case ROLE_REPLICA:
        return error_set(err, ERR_READONLY, "this server is a replica");
    case ROLE_FENCED:
        break;
    }
    return error_set(err, ERR_FENCED, "this server is fenced");
}

static struct body *
new_body(void *ctx, uint64_t max_bytes)
{
    const struct lmtp_store *to = ctx;
    return store_body_new(to->store, max_bytes);
}

static void
set_mailbox(struct lmtp_rcpt *rcpt, const struct mailbox *mb, struct arena *a)
{
    rcpt->id = mb->id;
    rcpt->uniqueid = mb->uniqueid;
    rcpt->mailbox = arena_str(a, span_str(mb->name));
    rcpt->user = NULL;
}

/* A folder that SENDER may post to. */
static enum errcode
find_folder(struct store_snap *snap, struct lmtp_rcpt *rcpt, const char *name,
            const char *sender, struct arena *a, struct error *err)
{
    struct mailbox mb;

    enum errcode rc = snap_mailbox_by_name(snap, name, a, &mb, err);
    if (rc != ERR_OK)
        return rc;
    if ((acl_rights(mb.acl, sender) & ACL_POST) == 0)
        return error_set(err, ERR_DENIED, "no right to post to %s", mb.name);
    set_mailbox(rcpt, &mb, a);
    return ERR_OK;
}

/* "postuser+shared/folder": nobody's folder. */
static enum errcode
find_shared(const struct lmtp_store *to, struct store_snap *snap,
            struct lmtp_rcpt *rcpt, struct span detail, const char *sender,
            struct arena *a, struct error *err)
{
    const char *name = NULL;

    /* As an admin names it: the internal levels. */
    enum errcode rc =
        name_to_internal(&to->options->ns, NULL, true, detail, a, &name, err);
    if (rc != ERR_OK)
        return rc;
    if (name_owner(name, a) != NULL || span_eq_str(span_str(name), "user") ||
        span_starts(span_str(name), SPAN_LIT("DELETED.")))
        return error_set(err, ERR_NOTFOUND, "not a shared folder: %s", name);
    return find_folder(snap, rcpt, name, sender, a, err);
}

/*
 * The folder DETAIL below INBOX, as its owner names it where INBOX's children
 * stand beside it.  NULL: there can be none.
 */
static const char *
detail_name(const struct lmtp_store *to, const char *user, const char *inbox,
            struct span detail, struct arena *a)
{
    struct namespace ns = to->options->ns;
    struct error ignored = {0};
    const char *name = NULL;
    size_t n = strlen(inbox);

    ns.alt = true;
    if (name_to_internal(&ns, user, false, detail, a, &name, &ignored) !=
            ERR_OK ||
        strncmp(name, inbox, n) != 0 || name[n] != '.')
        return NULL;
    return name;
}

static enum errcode
find_inbox(const struct lmtp_store *to, struct store_snap *snap,
           struct lmtp_rcpt *rcpt, const char *user, const char *inbox,
           struct arena *a, struct error *err)
{
    struct mailbox mb;

    enum errcode rc = snap_mailbox_by_name(snap, inbox, a, &mb, err);
    if (rc == ERR_OK) {
        set_mailbox(rcpt, &mb, a);
        return ERR_OK;
    }
    if (rc == ERR_NOTFOUND && to->options->autocreate != NULL &&
        to->options->autocreate->on_post) {
        rcpt->id = 0;
        rcpt->user = user;
        rcpt->mailbox = inbox;
        return ERR_OK;
    }
    return rc;
}

static enum errcode
lookup_in(const struct lmtp_store *to, struct store_snap *snap,
          struct lmtp_rcpt *rcpt, const char *sender, struct arena *a,
          struct error *err)
{
    struct span local = span_str(rcpt->local);
    ptrdiff_t plus = span_find_byte(local, '+', 0);
    struct span detail =
        plus < 0 ? SPAN_EMPTY : span_skip(local, (size_t)plus + 1);
    const char *user =
        arena_str(a, plus < 0 ? local : span_sub(local, 0, (size_t)plus));
    const char *inbox = NULL;

    if (detail.n > 0 && strcmp(user, to->options->postuser) == 0)
        return find_shared(to, snap, rcpt, detail, sender, a, err);
    enum errcode rc = name_inbox(user, a, &inbox, err);
    if (rc != ERR_OK)
        return rc;
    const char *folder =
        detail.n == 0 ? NULL : detail_name(to, user, inbox, detail, a);
    if (folder != NULL) {
        rc = find_folder(snap, rcpt, folder, sender, a, err);
        if (rc != ERR_NOTFOUND && rc != ERR_DENIED)
            return rc;
    }
    return find_inbox(to, snap, rcpt, user, inbox, a, err);
}

static enum errcode
lookup(void *ctx, struct lmtp_rcpt *rcpt, const char *sender, struct arena *a,
       struct error *err)
{
    const struct lmtp_store *to = ctx;
    AUTO(store_release) struct store_snap *snap = store_snapshot(to->store);

    return lookup_in(to, snap, rcpt, sender, a, err);
}

/* ---- delivery ---------------------------------------------------------- */

#define NO_OP SIZE_MAX

/* One delivery under way. */
struct job {
    const struct lmtp_store *to;
    struct lmtp_delivery *d;
    struct arena arena;
    size_t next;   /* recipient whose INBOX may be missing */
    size_t *op_of; /* recipient -> operation of `txn`, or NO_OP */
    struct store_txn *txn;
};

static void
job_end(struct job *job)
{
    /* The results may point into our arena; afterwards D is gone. */
    job->d->done(job->d->arg);
    txn_free(&job->txn);
    arena_free(&job->arena);
    free(job->op_of);
    free(job);
}

static void
set_result(struct lmtp_rcpt *rcpt, const struct txn_result *res)
{
    if (res->code == ERR_OK || res->code == ERR_EXISTS) {
        rcpt->uid = uidset_next(&res->uids, 1);
        rcpt->result = (struct error){.code = res->code};
    } else {
        error_set(&rcpt->result, res->code, "%s",
                  res->code == ERR_QUOTA ? "over quota"
                                         : "refused for this recipient");
    }
}

/* What failed as a whole is durable for nobody, duplicates included: what they
 * are duplicates of may have been in the same commit group. */
static void
appended(void *arg)
{
    struct job *job = arg;
    struct lmtp_delivery *d = job->d;

    for (size_t i = 0; i < d->nrcpts; i++) {
        if (job->op_of[i] == NO_OP)
            continue;
        if (txn_code(job->txn) != ERR_OK)
            d->rcpts[i].result = *txn_error(job->txn);
        else
            set_result(&d->rcpts[i], txn_result(job->txn, job->op_of[i]));
    }
    job_end(job);
}

/* In the writer's thread. */
static void
on_appended(void *ctx, struct store_txn *txn)
{
    struct job *job = ctx;

    job->txn = txn;
    job->d->io->post(job->d->io_ctx, appended, job);
}

static void
dedup_mark(const struct job *job, const struct lmtp_rcpt *rcpt, uint8_t ret[16])
{
    XXH128_canonical_t canonical;
    AUTO(buf_free) struct buf key = BUF_INIT;

    buf_add(&key, span_of(job->d->received_hash, 16));
    buf_add_str(&key, rcpt->local);
    buf_add_byte(&key, 0);
    buf_add_str(&key, rcpt->uniqueid.s);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(key.p, key.n));
    memcpy(ret, canonical.digest, 16);
}

/* An earlier recipient that is the same one, or NO_OP. */
static size_t
same_rcpt(const struct job *job, size_t at)
{
    const struct lmtp_rcpt *r = job->d->rcpts;

    for (size_t i = 0; i < at; i++)
        if (job->op_of[i] != NO_OP && r[i].id == r[at].id &&
            strcmp(r[i].local, r[at].local) == 0)
            return job->op_of[i];
    return NO_OP;
}

static void
submit_appends(struct job *job)
{
    struct lmtp_delivery *d = job->d;
    const struct lmtpd_options *opt = job->to->options;
    struct store_txn *txn = txn_new();
    bool any = false;

    for (size_t i = 0; i < d->nrcpts; i++) {
        struct lmtp_rcpt *rcpt = &d->rcpts[i];
        job->op_of[i] = NO_OP;
        if (rcpt->result.code != ERR_OK)
            continue;
        any = true;
        job->op_of[i] = opt->dedup ? same_rcpt(job, i) : NO_OP;
        if (job->op_of[i] != NO_OP)
            continue;
        struct txn_append msg = {
            .id = rcpt->id,
            .body = d->body,
            .internal_s = (int64_t)(env_wall_us(opt->env) / 1000000),
            .cache = d->cache.n * d->nrcpts > CACHE_BYTES_MAX ? SPAN_EMPTY
                                                              : d->cache,
            .check_quota = !rcpt->ignore_quota,
            .independent = true,
        };
        if (opt->dedup)
            dedup_mark(job, rcpt, msg.dedup);
        job->op_of[i] = txn_append(txn, &msg);
    }
    if (any) {
        store_submit(job->to->store, txn, on_appended, job);
    } else {
        job->txn = txn;
        d->io->post(d->io_ctx, appended, job);
    }
}

static void
make_next_inbox(struct job *job);

/* The INBOX of recipient `next` is there, or is not to be had. */
static void
inbox_made(void *arg)
{
    struct job *job = arg;
    struct lmtp_rcpt *rcpt = &job->d->rcpts[job->next];
    const char *user = rcpt->user;

    if (txn_code(job->txn) != ERR_OK) {
        rcpt->result = *txn_error(job->txn);
        log_warn(job->d->log, "lmtp.autocreate_failed",
                 "user=\"%s\" why=\"%s\" consequence=\"not delivered\"", user,
                 rcpt->result.text);
    } else {
        log_notice(job->d->log, "lmtp.autocreated", "user=\"%s\"", user);
    }
    txn_free(&job->txn);
    make_next_inbox(job);
}

/* In the writer's thread. */
static void
on_inbox_made(void *ctx, struct store_txn *txn)
{
    struct job *job = ctx;

    job->txn = txn;
    job->d->io->post(job->d->io_ctx, inbox_made, job);
}

/* Is it there now (made for an earlier recipient, or by a login)? */
static bool
look_again(struct job *job, struct lmtp_rcpt *rcpt)
{
    const char *user = rcpt->user;
    enum errcode rc = lookup((void *)(uintptr_t)job->to, rcpt, NULL,
                             &job->arena, &rcpt->result);

    if (rc == ERR_OK)
        rcpt->result = (struct error){0};
    if (rc == ERR_OK && rcpt->id == 0)
        rcpt->user = user;
    return rc != ERR_OK || rcpt->id != 0;
}

static void
make_next_inbox(struct job *job)
{
    struct lmtp_delivery *d = job->d;
    struct store_txn *txn = NULL;

    for (; job->next < d->nrcpts; job->next++) {
        struct lmtp_rcpt *rcpt = &d->rcpts[job->next];
        if (rcpt->result.code != ERR_OK || rcpt->id != 0 ||
            look_again(job, rcpt))
            continue;
        if (autocreate_txn(job->to->options->autocreate, &job->to->options->ns,
                           rcpt->user, &txn, &rcpt->result) != ERR_OK)
            continue;
        store_submit(job->to->store, txn, on_inbox_made, job);
        return;
    }
    submit_appends(job);
}

static void
deliver(void *ctx, struct lmtp_delivery *d)
{
    struct job *job = xcalloc(1, sizeof(*job));

    job->to = ctx;
    job->d = d;
    job->op_of = xcalloc(d->nrcpts, sizeof(*job->op_of));
    make_next_inbox(job);
}

const struct lmtp_backend lmtp_store_backend = {
    .ready = ready,
    .new_body = new_body,
    .lookup = lookup,
    .deliver = deliver,
};
