/*
 * store/watch.c - who waits for changes of which mailbox.
 *
 * One lock over all: it is held while a watcher is called, which is what lets
 * store_unwatch() promise that no call runs afterwards.  Calls only post to a
 * reactor.
 */
#include "store/store_private.h"

#include <stdlib.h>

struct store_watch {
    struct watches *ws;
    mbid_t id;
    void (*call)(void *ctx);
    void *ctx;
    bool armed;
    struct store_watch *next;
};

static struct store_watch **
bucket_of(struct watches *ws, mbid_t id)
{
    return &ws->bucket[id % WATCH_BUCKETS];
}

struct store_watch *
store_watch(struct store *store, mbid_t id, void (*call)(void *ctx), void *ctx)
{
    struct store_watch *w = xcalloc(1, sizeof(*w));
    struct watches *ws = &store->watches;

    *w = (struct store_watch){
        .ws = ws, .id = id, .call = call, .ctx = ctx, .armed = true};
    pthread_mutex_lock(&ws->lock);
    w->next = *bucket_of(ws, id);
    *bucket_of(ws, id) = w;
    pthread_mutex_unlock(&ws->lock);
    return w;
}

void
watch_rearm(struct store_watch *w)
{
    pthread_mutex_lock(&w->ws->lock);
    w->armed = true;
    pthread_mutex_unlock(&w->ws->lock);
}

void
store_unwatch(struct store_watch **wp)
{
    struct store_watch *w = *wp;

    if (w == NULL)
        return;
    pthread_mutex_lock(&w->ws->lock);
    struct store_watch **at = bucket_of(w->ws, w->id);
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    pthread_mutex_unlock(&w->ws->lock);
    xfree(wp);
}

void
watches_fire(struct watches *ws, mbid_t id)
{
    pthread_mutex_lock(&ws->lock);
    for (struct store_watch *w = *bucket_of(ws, id); w != NULL; w = w->next)
        if (w->id == id && w->armed) {
            w->armed = false;
            w->call(w->ctx);
        }
    if (ws->follow != NULL)
        ws->follow(ws->follow_ctx, id);
    pthread_mutex_unlock(&ws->lock);
}

void
store_follow(struct store *store, void (*call)(void *ctx, mbid_t id), void *ctx)
{
    struct watches *ws = &store->watches;

    pthread_mutex_lock(&ws->lock);
    ws->follow = call;
    ws->follow_ctx = ctx;
    pthread_mutex_unlock(&ws->lock);
}
