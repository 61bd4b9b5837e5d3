/*
 * store/stats.c - see store/stats.h.
 */
#include "store/stats.h"

#include "store/store_private.h"

const struct store_tallies *
store_tallies(const struct store *store)
{
    return &store->tallies;
}

uint64_t
store_log_written(struct store *store)
{
    pthread_mutex_lock(&store->pos_lock);
    uint64_t bytes = store->log_bytes;
    pthread_mutex_unlock(&store->pos_lock);
    return bytes;
}

uint64_t
store_property(struct store *store, const char *name)
{
    return kv_property(store->kv, name);
}

void
store_full_look(struct store *store, struct store_full_view *ret)
{
    struct full *f = &store->full;

    pthread_mutex_lock(&f->lock);
    *ret = (struct store_full_view){
        .is_full = f->is_full,
        .refused = f->is_full ? f->refused : 0,
    };
    pthread_mutex_unlock(&f->lock);
}
