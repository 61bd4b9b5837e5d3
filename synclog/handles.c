/*
 * synclog/handles.c - open files of segments, shared by all threads that read
 * bodies.
 *
 * A handle that somebody reads through is never closed: when its segment is
 * trimmed it only leaves the cache, and the last reader closes it.  With more
 * readers than places the surplus ones get a handle of their own.
 */
#include "synclog/synclog_private.h"

#include <stdlib.h>

void
handles_init(struct handles *hs)
{
    *hs = (struct handles){0};
    ENSURE(pthread_mutex_init(&hs->lock, NULL) == 0);
}

static void
handle_close(struct handle *h)
{
    env_close(&h->file);
    free(h);
}

void
handles_done(struct handles *hs)
{
    for (size_t i = 0; i < HANDLES_MAX; i++) {
        if (hs->v[i] == NULL)
            continue;
        ENSURE(hs->v[i]->refs == 0);
        handle_close(hs->v[i]);
    }
    pthread_mutex_destroy(&hs->lock);
}

/* The cached handle with one more reference, or NULL.  Lock held. */
static struct handle *
find(struct handles *hs, uint64_t segment)
{
    for (size_t i = 0; i < HANDLES_MAX; i++)
        if (hs->v[i] != NULL && hs->v[i]->segment == segment) {
            hs->v[i]->refs++;
            hs->v[i]->used = ++hs->uses;
            return hs->v[i];
        }
    return NULL;
}

/* A free place, or that of the one unused for longest; NULL if all are in use.
 * Lock held. */
static struct handle **
find_place(struct handles *hs)
{
    struct handle **oldest = NULL;

    for (size_t i = 0; i < HANDLES_MAX; i++) {
        if (hs->v[i] == NULL)
            return &hs->v[i];
        if (hs->v[i]->refs == 0 &&
            (oldest == NULL || hs->v[i]->used < (*oldest)->used))
            oldest = &hs->v[i];
    }
    return oldest;
}

/* Put FILE into the cache, unless somebody was faster.  Lock held. */
static struct handle *
adopt(struct handles *hs, uint64_t segment, struct envfile **file)
{
    struct handle *h = find(hs, segment);
    if (h != NULL)
        return h;

    h = xcalloc(1, sizeof(*h));
    h->segment = segment;
    h->file = *file;
    *file = NULL;
    h->refs = 1;
    h->used = ++hs->uses;
    struct handle **place = segment < hs->first ? NULL : find_place(hs);
    if (place != NULL) {
        if (*place != NULL)
            handle_close(*place);
        *place = h;
        h->kept = true;
    }
    return h;
}

enum errcode
handles_get(struct handles *hs, struct env *env, const char *dir,
            uint64_t segment, struct handle **ret, struct error *err)
{
    char path[LOG_PATH_BYTES];
    AUTO(env_close) struct envfile *file = NULL;

    pthread_mutex_lock(&hs->lock);
    struct handle *h = find(hs, segment);
    pthread_mutex_unlock(&hs->lock);
    if (h == NULL) {
        enum errcode rc = env_open(env, segment_path(dir, segment, path),
                                   ENV_READ, &file, err);
        if (rc == ERR_NOTFOUND)
            return error_set(err, ERR_GAP,
                             "segment %" PRIx64 " is not in the log any more",
                             segment);
        if (rc != ERR_OK)
            return rc;
        pthread_mutex_lock(&hs->lock);
        h = adopt(hs, segment, &file);
        pthread_mutex_unlock(&hs->lock);
    }
    *ret = h;
    return ERR_OK;
}

void
handles_put(struct handles *hs, struct handle **hp)
{
    struct handle *h = *hp;

    *hp = NULL;
    if (h == NULL)
        return;
    pthread_mutex_lock(&hs->lock);
    bool last = --h->refs == 0 && !h->kept;
    pthread_mutex_unlock(&hs->lock);
    if (last)
        handle_close(h);
}

void
handles_trim(struct handles *hs, uint64_t first)
{
    pthread_mutex_lock(&hs->lock);
    hs->first = first;
    for (size_t i = 0; i < HANDLES_MAX; i++) {
        struct handle *h = hs->v[i];
        if (h == NULL || h->segment >= first)
            continue;
        hs->v[i] = NULL;
        h->kept = false;
        if (h->refs == 0)
            handle_close(h);
    }
    pthread_mutex_unlock(&hs->lock);
}
