/*
 * csync/ship_end.c - looked at from where a rolling client asks whether it is
 * to stop: what its replica has stands in the channel's slot.
 */
#include "csync/ship_end.h"

#include <inttypes.h>

#include "base/log.h"
#include "synclog/mark.h"
#include "synclog/slot.h"

#define LOOK_MS 50U

/* What is durable here, and may still have to go; false: nobody can tell. */
static bool
find_goal(struct ship_end *e)
{
    const struct synclog_mark *mark = NULL;
    struct error ignored = {0};

    if (mark_attach(e->log_dir, &mark, &ignored) != ERR_OK)
        return false;
    e->goal = atomic_load(&mark->durable_lsn);
    mark_detach(&mark);
    return true;
}

static void
look_at_slot(struct ship_end *e)
{
    struct synclog_slot *slot = NULL;
    struct error ignored = {0};

    e->is_due = true;
    if (slot_attach(e->log_dir, e->channel, false, &slot, &ignored) != ERR_OK)
        return;
    const uint32_t state = atomic_load(&slot->state);
    e->is_complete = atomic_load(&slot->applied_lsn) >= e->goal;
    e->is_due =
        e->is_complete || (state != SLOT_STREAMING && state != SLOT_SEEDING);
    slot_detach(&slot);
}

static void
look(struct ship_end *e)
{
    struct error err = {0};

    if (!e->is_seen) {
        if (!env_exists(e->env, e->file))
            return;
        e->is_seen = true;
        e->is_due = !find_goal(e);
    }
    if (!e->is_due)
        look_at_slot(e);
    if (!e->is_due)
        return;
    log_notice(NULL, "sync.shutdown", "file=%s lsn=%" PRI_LSN " complete=%s",
               e->file, e->goal, e->is_complete ? "yes" : "no");
    if (env_unlink(e->env, e->file, &err) != ERR_OK)
        log_warn(NULL, "sync.shutdown", "file=%s why=\"%s\"", e->file,
                 err.text);
}

bool
ship_end_is_due(struct ship_end *e)
{
    if (e->file == NULL)
        return false;
    pthread_mutex_lock(&e->lock);
    const uint64_t now = env_mono_ns(e->env) / 1000000;
    if (!e->is_due && now - e->looked_ms >= LOOK_MS) {
        e->looked_ms = now;
        look(e);
    }
    const bool is_due = e->is_due;
    pthread_mutex_unlock(&e->lock);
    return is_due;
}
