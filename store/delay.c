/*
 * store/delay.c - a replica that shows what happened a while ago
 * (sync_apply_delay): what comes is in its log, durable, at once, and in its
 * state when it is old enough by its commit time.
 *
 * So the log runs ahead of the state, and the state is fed by a reader of the
 * log instead of by what came.  It is the same work as recovery, one frame
 * after the other, so nothing else knows of it: a crash leaves a state that is
 * behind its log, as always; the log is kept as far as the state needs it; and
 * whoever is to become the master applies all of it first.
 */
#include "store/store_private.h"

#include "synclog/reader.h"

/* In one turn of the writer, so that frames do not wait for it. */
#define TURN_BYTES ((size_t)4 << 20)

static bool
has_backlog(struct store *store)
{
    return store->reached.applied.lsn < synclog_durable(store->log, NULL).lsn;
}

bool
delay_holds(struct store *store)
{
    return store->cfg.apply_delay_us > 0;
}

void
delay_close(struct store *store)
{
    reader_close(&store->delay.reader);
    buf_free(&store->delay.frame);
    store->delay.has_frame = false;
}

/* The next frame of the log, into delay.frame. */
static enum errcode
read_frame(struct store *store, struct error *err)
{
    struct delay *d = &store->delay;
    struct span frames = SPAN_EMPTY;
    lsn_t last;
    enum errcode rc = ERR_OK;

    if (d->reader == NULL) {
        rc = reader_open(store->env, store->log_dir, synclog_mark(store->log),
                         store->reached.applied.lsn, &d->reader, err);
        if (rc == ERR_OK && reader_chain(d->reader) != store->reached.chain)
            rc = error_set(err, ERR_HISTORY,
                           "the state at %" PRI_LSN
                           " and the log there are of different histories",
                           store->reached.applied.lsn);
    }
    if (rc == ERR_OK)
        rc = reader_next(d->reader, 1, &frames, &last, &d->time_us, err);
    if (rc != ERR_OK || frames.n == 0)
        return rc;
    reader_place(d->reader, &d->place.segment, &d->place.payload_offset);
    d->place.payload_offset += FRAME_HEADER_BYTES;
    buf_clear(&d->frame);
    buf_add(&d->frame, frames);
    d->has_frame = true;
    return ERR_OK;
}

static bool
is_due(struct store *store)
{
    return store->delay.time_us + store->cfg.apply_delay_us <=
           env_wall_us(store->env);
}

bool
delay_step(struct store *store, bool all)
{
    struct delay *d = &store->delay;
    size_t bytes = 0;
    bool did = false;

    if (store->cfg.apply_delay_us == 0 || store->log == NULL)
        return false;
    if (store->role == ROLE_MASTER) { /* it applies what it writes */
        delay_close(store);
        return false;
    }
    while (bytes < TURN_BYTES && !store->unfinished && !store->dead &&
           (d->has_frame || has_backlog(store))) {
        struct error err = {0};
        if (!d->has_frame && read_frame(store, &err) != ERR_OK) {
            store_die(store, &err);
            return did;
        }
        if (!d->has_frame || (!all && !is_due(store)))
            return did;
        d->has_frame = false;
        buf_clear(&store->frames);
        buf_add(&store->frames, buf_span(&d->frame));
        bytes += d->frame.n;
        did = true;
        if (!writer_show_frames(store, &d->place))
            return did;
    }
    return did;
}
