/*
 * metrics/twin.c - one thread with one connection to each twin, kept open.
 *
 * Two instances are equal if they have the same digest at the same record: who
 * is ahead is asked what its digest was where the other one is.
 */
#include "metrics/twin.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "csync/client.h"

#define ASK_MS 2000
#define TIMEOUT_MS 2000
#define LOOK_MS 500U

struct peer {
    struct csync_target target;
    struct csync_client *client;
    struct sample_twin seen; /* under the lock */
};

struct twins {
    struct env *env;
    const struct config *cfg;
    struct node *node;
    struct peer peers[SAMPLE_CHANNELS_MAX];
    size_t n;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop; /* under the lock */
};

/* ---- comparing --------------------------------------------------------- */

struct comparison {
    const struct logstatus *there;
    struct logpos here; /* applied */
    uint64_t digest;    /* ours, at the twin's record if that is not ahead */
    bool has_digest;
    bool same_cluster;
};

static void
on_look(void *ctx, const struct logstatus *s, struct store *store)
{
    struct comparison *c = ctx;
    const lsn_t at = c->there->applied.applied.lsn;

    c->here = s->applied.applied;
    c->same_cluster = instid_eq(&s->cluster, &c->there->cluster);
    c->digest = s->applied.digest;
    c->has_digest = at >= c->here.lsn || store_digest_at(store, at, &c->digest);
}

static enum equality
compare(struct twins *t, struct peer *p, const struct logstatus *there,
        bool *ret_same_cluster)
{
    struct comparison c = {.there = there};
    const lsn_t at = there->applied.applied.lsn;
    uint64_t digest = there->applied.digest;

    *ret_same_cluster = false;
    if (node_look(t->node, LOOK_MS, on_look, &c, NULL) != ERR_OK)
        return EQUALITY_UNKNOWN;
    *ret_same_cluster = c.same_cluster;
    if (at == 0 || c.here.lsn == 0)
        return at == c.here.lsn ? EQUALITY_EQUAL : EQUALITY_BEHIND;
    if (!c.same_cluster)
        return EQUALITY_UNEQUAL;
    if (!c.has_digest ||
        (at > c.here.lsn &&
         csync_log_digest(p->client, c.here.lsn, &digest, NULL) != ERR_OK))
        return EQUALITY_UNKNOWN;
    if (digest != c.digest)
        return EQUALITY_UNEQUAL;
    return at == c.here.lsn ? EQUALITY_EQUAL : EQUALITY_BEHIND;
}

/* ---- asking ------------------------------------------------------------ */

static void
note_answer(struct twins *t, struct peer *p, const struct logstatus *s)
{
    struct sample_twin seen = p->seen;

    seen.was_asked = seen.is_reachable = true;
    seen.error[0] = '\0';
    seen.role = s->role;
    seen.epoch = s->epoch;
    seen.fence = s->fence;
    seen.seeding = s->seeding;
    seen.seed_wanted = s->seed_wanted;
    seen.durable = s->durable.lsn;
    seen.applied = s->applied.applied;
    seen.digest = s->applied.digest;
    seen.instance = s->instance;
    snprintf(seen.servername, sizeof(seen.servername), "%s", s->servername);
    snprintf(seen.why, sizeof(seen.why), "%s", s->text);
    seen.equality = compare(t, p, s, &seen.same_cluster);
    seen.asked_us = env_wall_us(t->env);
    pthread_mutex_lock(&t->lock);
    p->seen = seen;
    pthread_mutex_unlock(&t->lock);
}

/* What it had said before stays, for who wants to know. */
static void
note_silence(struct twins *t, struct peer *p, const struct error *err)
{
    pthread_mutex_lock(&t->lock);
    p->seen.was_asked = true;
    p->seen.is_reachable = false;
    p->seen.equality = EQUALITY_UNKNOWN;
    p->seen.asked_us = env_wall_us(t->env);
    snprintf(p->seen.error, sizeof(p->seen.error), "%s", err->text);
    pthread_mutex_unlock(&t->lock);
}

static void
ask(struct twins *t, struct peer *p)
{
    struct arena a = ARENA_INIT;
    struct logstatus s;
    struct error err = {0};
    enum errcode rc = ERR_OK;

    if (p->client == NULL)
        rc = csync_connect(&p->target, t->cfg, &p->client, &err);
    if (rc == ERR_OK)
        rc = csync_log_status(p->client, &a, &s, &err);
    if (rc == ERR_OK) {
        note_answer(t, p, &s);
    } else {
        csync_client_close(&p->client);
        note_silence(t, p, &err);
    }
    arena_free(&a);
}

/* False: it is time to go. */
static bool
rest(struct twins *t)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ASK_MS / 1000;
    pthread_mutex_lock(&t->lock);
    while (!t->stop &&
           pthread_cond_timedwait(&t->wake, &t->lock, &until) != ETIMEDOUT)
        ;
    bool stop = t->stop;
    pthread_mutex_unlock(&t->lock);
    return !stop;
}

static void *
twins_main(void *arg)
{
    struct twins *t = arg;

    do
        for (size_t i = 0; i < t->n; i++)
            ask(t, &t->peers[i]);
    while (rest(t));
    for (size_t i = 0; i < t->n; i++)
        csync_client_close(&t->peers[i].client);
    return NULL;
}

/* ---- whom -------------------------------------------------------------- */

static bool
is_same(const struct csync_target *a, const struct csync_target *b)
{
    return strcmp(a->host, b->host) == 0 &&
           (a->port == NULL) == (b->port == NULL) &&
           (a->port == NULL || strcmp(a->port, b->port) == 0);
}

static void
add_peer(struct twins *t, const char *channel)
{
    struct csync_target target;

    if (t->n == SAMPLE_CHANNELS_MAX ||
        csync_target_from_config(t->cfg, channel, NULL, &target, NULL) !=
            ERR_OK)
        return;
    target.timeout_ms = MIN(target.timeout_ms, TIMEOUT_MS);
    for (size_t i = 0; i < t->n; i++)
        if (is_same(&t->peers[i].target, &target))
            return;
    struct peer *p = &t->peers[t->n++];
    p->target = target;
    snprintf(p->seen.channel, sizeof(p->seen.channel), "%s",
             channel == NULL ? "" : channel);
    snprintf(p->seen.host, sizeof(p->seen.host), "%s", target.host);
}

static void
add_peers(struct twins *t)
{
    const char *names = config_string(t->cfg, "sync_log_channels");
    struct span rest_of = span_str(names == NULL ? "" : names);

    add_peer(t, NULL);
    while (rest_of.n > 0) {
        ptrdiff_t blank = span_find_byte(rest_of, ' ', 0);
        struct span word =
            blank < 0 ? rest_of : span_sub(rest_of, 0, (size_t)blank);
        rest_of =
            blank < 0 ? SPAN_EMPTY : span_skip(rest_of, (size_t)blank + 1);
        AUTO(xfree) char *name = span_dup(word);
        if (word.n > 0)
            add_peer(t, name);
    }
}

/* ---- public ------------------------------------------------------------ */

struct twins *
twins_start(struct env *env, const struct config *cfg, struct node *node)
{
    struct twins *t = xcalloc(1, sizeof(*t));
    pthread_condattr_t attr;

    t->env = env;
    t->cfg = cfg;
    t->node = node;
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->wake, &attr);
    pthread_condattr_destroy(&attr);
    add_peers(t);
    if (t->n > 0)
        t->has_thread = pthread_create(&t->thread, NULL, twins_main, t) == 0;
    return t;
}

void
twins_stop(struct twins **twins)
{
    struct twins *t = *twins;

    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    if (t->has_thread)
        pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
    *twins = NULL;
}

size_t
twins_look(struct twins *t, struct sample_twin *ret)
{
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->n; i++)
        ret[i] = t->peers[i].seen;
    pthread_mutex_unlock(&t->lock);
    return t->n;
}
