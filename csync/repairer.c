/*
 * csync/repairer.c - the thread that takes what the register of damage has, and
 * asks the twins.
 *
 * A twin is asked over one connection as long as there is something to ask.
 * Each entry goes to every twin that is configured (sync_host, and that of each
 * channel) until one has it.  Where all of them answered and none has it, the
 * entry is lost, and said so; where one did not answer it is tried again, later
 * and later (store/damage.h).
 */
#include "csync/repair.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "synclog/mend.h"

#define LOOK_MS 500
/* A twin that does not answer holds up the next one, and the end of us. */
#define TWIN_TIMEOUT_MS 3000

struct repairer {
    struct env *env;
    const struct config *cfg;
    struct store *store;
    struct store_log_view log; /* as of the entry under way */
    struct lender *lender;     /* to target `at` */
    struct csync_target *targets;
    size_t ntargets;
    size_t at;
    atomic_bool stop;
    pthread_t thread;
};

/* ---- twins ------------------------------------------------------------- */

static void
add_target(struct repairer *r, const char *channel)
{
    struct csync_target t;

    if (csync_target_from_config(r->cfg, channel, NULL, &t, NULL) != ERR_OK)
        return;
    t.timeout_ms = MIN(t.timeout_ms, TWIN_TIMEOUT_MS);
    for (size_t i = 0; i < r->ntargets; i++)
        if (strcmp(r->targets[i].host, t.host) == 0 &&
            (t.port == NULL) == (r->targets[i].port == NULL) &&
            (t.port == NULL || strcmp(r->targets[i].port, t.port) == 0))
            return;
    r->targets = xrealloc(r->targets, (r->ntargets + 1) * sizeof(*r->targets));
    r->targets[r->ntargets++] = t;
}

static void
find_targets(struct repairer *r)
{
    const char *channels = config_string(r->cfg, "sync_log_channels");
    struct span rest = span_str(channels == NULL ? "" : channels);

    add_target(r, NULL);
    while (rest.n > 0) {
        ptrdiff_t blank = span_find_byte(rest, ' ', 0);
        struct span word = blank < 0 ? rest : span_sub(rest, 0, (size_t)blank);
        rest = blank < 0 ? SPAN_EMPTY : span_skip(rest, (size_t)blank + 1);
        AUTO(xfree) char *name = xstrndup((const char *)word.p, word.n);
        if (word.n > 0)
            add_target(r, name);
    }
}

/* r->lender is to target I. */
static enum errcode
reach(struct repairer *r, size_t i, struct error *err)
{
    if (r->lender != NULL && r->at == i)
        return ERR_OK;
    lender_close(&r->lender);
    r->at = i;
    return lender_open(&r->targets[i], r->cfg, &r->log.cluster, &r->lender,
                       err);
}

/* The connection is of no use any more? */
static bool
is_broken(enum errcode rc)
{
    return rc == ERR_PROTO || rc == ERR_CLOSED || rc == ERR_TIMEOUT ||
           rc == ERR_IO;
}

/* ---- one entry --------------------------------------------------------- */

static bool
one_is_enough(void *ctx, const char *mailbox, uint32_t uid)
{
    (void)mailbox;
    (void)uid;
    *(bool *)ctx = true;
    return false;
}

static enum errcode
fetch(void *ctx, lsn_t after, lsn_t until, uint64_t *ret_chain, struct buf *ret,
      struct error *err)
{
    struct repairer *r = ctx;

    return lender_frames(r->lender, after, until, ret_chain, ret, err);
}

/* The segment that D names, in the place where the writer is at work. */
static enum errcode
mend_log(struct repairer *r, const struct damage *d, struct error *err)
{
    AUTO(xfree) char *dir = xasprintf("%s/synclog", store_dir(r->store));
    struct synclog_mended done;
    const struct synclog_mend_options o = {.dir = dir,
                                           .cluster = r->log.cluster,
                                           .instance = r->log.instance,
                                           .durable = r->log.durable.lsn,
                                           .segment = d->file,
                                           .fetch = fetch,
                                           .ctx = r};
    enum errcode rc = synclog_mend(r->env, &o, &done, err);
    if (rc == ERR_NOTFOUND) {
        store_damage_heal(r->store, d, "the segment is gone by now");
        return ERR_OK;
    }
    if (rc == ERR_OK)
        store_damage_heal(r->store, d, "the twin had it");
    return rc;
}

static enum errcode
ask_one(struct repairer *r, size_t i, const struct damage *d, struct error *err)
{
    enum errcode rc = reach(r, i, err);

    if (rc != ERR_OK)
        return rc == ERR_NOTFOUND ? ERR_CLOSED
                                  : rc; /* the host, not the body */
    rc = d->kind == DAMAGE_BODY
             ? lender_body(r->lender, r->store, &d->guid, err)
             : mend_log(r, d, err);
    if (is_broken(rc))
        lender_close(&r->lender);
    return rc;
}

static void
repair(struct repairer *r, const struct damage *d)
{
    struct error err = {0};
    bool all_lack = true;
    bool needed = d->kind != DAMAGE_BODY;

    if (d->kind == DAMAGE_BODY &&
        store_damage_messages(r->store, &d->guid, one_is_enough, &needed,
                              &err) != ERR_OK)
        needed = true;
    if (!needed) {
        store_damage_heal(r->store, d, "no message has it any more");
        return;
    }
    if (r->ntargets == 0)
        (void)error_set(&err, ERR_NOTFOUND,
                        "no twin is configured (sync_host)");
    for (size_t n = 0; n < r->ntargets && !atomic_load(&r->stop); n++) {
        enum errcode rc = ask_one(r, (r->at + n) % r->ntargets, d, &err);
        if (rc == ERR_OK)
            return;
        if (rc != ERR_NOTFOUND && rc != ERR_GAP && rc != ERR_HISTORY &&
            rc != ERR_UNSUPPORTED)
            all_lack = false;
    }
    if (!atomic_load(&r->stop))
        store_damage_failed(r->store, d, all_lack, err.text);
}

/* ---- the thread -------------------------------------------------------- */

static void *
run(void *ctx)
{
    struct repairer *r = ctx;

    while (!atomic_load(&r->stop)) {
        struct damage d;
        store_log_view(r->store, &r->log);
        if (r->log.seeding) {
            (void)poll(NULL, 0, LOOK_MS);
            continue;
        }
        if (!store_damage_next(r->store, LOOK_MS, &d)) {
            lender_close(&r->lender);
            continue;
        }
        /* Anew: while we waited, a cluster may have been founded or joined. */
        store_log_view(r->store, &r->log);
        if (r->log.seeding) /* what is referenced is not known yet */
            store_damage_failed(r->store, &d, false, "a seed is coming");
        else
            repair(r, &d);
    }
    lender_close(&r->lender);
    return NULL;
}

struct repairer *
repairer_start(struct env *env, const struct config *cfg, struct store *store)
{
    struct repairer *r = xcalloc(1, sizeof(*r));

    r->env = env;
    r->cfg = cfg;
    r->store = store;
    find_targets(r);
    store_damage_attend(store, 1);
    ENSURE(pthread_create(&r->thread, NULL, run, r) == 0);
    return r;
}

void
repairer_stop(struct repairer **pr)
{
    struct repairer *r = *pr;

    *pr = NULL;
    if (r == NULL)
        return;
    atomic_store(&r->stop, true);
    pthread_join(r->thread, NULL);
    store_damage_attend(r->store, -1);
    free(r->targets);
    free(r);
}
