/*
 * csync/ship_end.h - a file that ends a rolling sync_client, and nothing else:
 * -F, or CHANNEL_sync_shutdown_file where it is not the fence of the instance.
 *
 * As Cyrus has it: when the file is there, what is durable by then is shipped,
 * the file is removed, and the program ends.  Writes go on.
 */
#ifndef POLLUX_CSYNC_SHIP_END_H
#define POLLUX_CSYNC_SHIP_END_H

#include <pthread.h>

#include "base/env.h"
#include "base/ids.h"

struct ship_end {
    struct env *env;
    const char *file; /* NULL: nothing ever is due */
    const char *log_dir, *channel;
    pthread_mutex_t lock; /* all below */
    uint64_t looked_ms;
    bool is_seen, is_due, is_complete;
    lsn_t goal; /* all that was durable when it was seen */
};

#define SHIP_END_INIT                                                          \
    {                                                                          \
        .lock = PTHREAD_MUTEX_INITIALIZER                                      \
    }

/*
 * Is it time to end?  Looks at most every 50 ms; any thread.  True from then
 * on: when the channel's replica has applied all that was durable when the file
 * was seen (is_complete), or when the channel is not at a replica.
 */
bool
ship_end_is_due(struct ship_end *e);

#endif
