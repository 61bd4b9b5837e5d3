/*
 * store/stats.h - what an open store has done since it was opened, for metrics.
 */
#ifndef POLLUX_STORE_STATS_H
#define POLLUX_STORE_STATS_H

#include "base/tally.h"
#include "store/store.h"

/* Added to by the writer. */
struct store_tallies {
    struct tally sync_us;           /* one fdatasync of the log */
    struct tally group_records;     /* records that one of them made durable */
    _Atomic uint64_t sync_began_ns; /* env_mono_ns(), of one that has not ended;
                                       0: none */
};

/* Of STORE, valid as long as it is open.  Any thread. */
const struct store_tallies *
store_tallies(const struct store *store);
/* Bytes of frames that went into the log.  Any thread. */
uint64_t
store_log_written(struct store *store);
/* A number that the key-value store has by NAME ("rocksdb.estimate-num-keys");
 * 0 if it has none.  Any thread. */
uint64_t
store_property(struct store *store, const char *name);

/* Is there room?  Any thread. */
struct store_full_view {
    bool is_full;
    uint64_t refused; /* mutations, since it is full */
};
void
store_full_look(struct store *store, struct store_full_view *ret);

#endif
