/*
 * metrics/sample.h - an instance at one moment, as metrics, health and the
 * status page show it.
 */
#ifndef POLLUX_METRICS_SAMPLE_H
#define POLLUX_METRICS_SAMPLE_H

#include "csync/logproto.h"
#include "failover/node.h"
#include "metrics/history.h"
#include "metrics/metrics.h"
#include "store/acks.h"
#include "store/compact.h"
#include "store/damage.h"
#include "store/scrub.h"
#include "store/stats.h"
#include "synclog/slot.h"

#define SAMPLE_CHANNELS_MAX 16U
#define SAMPLE_SERVICES_MAX 32U
#define SAMPLE_TEXT_BYTES 512U

/* Numbers of the key-value store, by its own names. */
#define SAMPLE_PROPERTIES 15U
extern const char *const sample_properties[SAMPLE_PROPERTIES];

/* What a channel's consumer has, and how far that is behind. */
struct sample_channel {
    char name[SLOT_NAME_MAX + 1];
    char peer[128];
    char text[SLOT_TEXT_BYTES];
    enum slot_state state;
    bool is_running; /* somebody consumes */
    uint64_t since_us;
    uint64_t ack_us; /* wall clock of the last acknowledgement; 0: never */
    lsn_t sent, durable, applied;
    uint64_t lag_records; /* durable here, not applied there */
    uint64_t lag_bytes;
    uint64_t lag_us;
    bool is_exact; /* false: bytes and time are at least that */
};

/* Whether two instances hold the same. */
enum equality {
    EQUALITY_UNKNOWN,
    EQUALITY_EQUAL,
    EQUALITY_BEHIND,
    EQUALITY_UNEQUAL
};
const char *
equality_name(enum equality e);

/* What a twin said of itself (metrics/twin.h). */
struct sample_twin {
    char channel[SLOT_NAME_MAX + 1]; /* "" is the first */
    char host[256];
    bool was_asked;    /* there is an answer, or none in time */
    bool is_reachable; /* it answered, the last time */
    char error[SAMPLE_TEXT_BYTES];
    uint64_t asked_us; /* wall clock, of the answer or its absence */
    enum role role;
    epoch_t epoch;
    bool fence, seeding, seed_wanted;
    lsn_t durable;
    struct logpos applied;
    uint64_t digest;
    struct instid instance;
    bool same_cluster;
    char servername[256];
    char why[SAMPLE_TEXT_BYTES];
    enum equality equality;
};

struct sample {
    uint64_t wall_us; /* when the node was looked at */
    uint64_t mono_ns;
    bool is_there; /* false: it could not be looked at yet */

    char servername[256];
    char why[SAMPLE_TEXT_BYTES];
    enum role role;
    epoch_t epoch;
    bool fence, swapping, seeding, seed_wanted;
    struct instid cluster, instance;
    struct logpos durable, applied;
    uint64_t chain, digest;
    lsn_t first_lsn, start_lsn;
    uint64_t applied_time_us; /* commit time of the last record */

    struct tally_view sync_us, group_records;
    uint64_t sync_stalled_ms; /* so long the sync under way has taken */
    uint64_t log_written;
    uint64_t queue_bytes;
    struct store_full_view full;
    struct ack_view acks;
    struct compaction_view storage;
    struct damage_view damage;
    struct scrub_view scrub;
    bool has_scrub;
    uint64_t properties[SAMPLE_PROPERTIES];

    struct sample_channel channels[SAMPLE_CHANNELS_MAX];
    size_t nchannels;
    struct sample_twin twins[SAMPLE_CHANNELS_MAX];
    size_t ntwins;

    struct metrics_service services[SAMPLE_SERVICES_MAX];
    size_t nservices;
    struct metrics_index index;
    bool is_serving;
    uint64_t heartbeat_ms; /* age of the main thread's */
};

/*
 * Look at NODE now; what HISTORY knows tells how old the lag is.  Twins and
 * what HOST knows are not filled in.  ERR_AGAIN (node_look()): *RET is
 * untouched.
 */
MUST_CHECK enum errcode
sample_node(struct env *env, struct node *node, const char *dir,
            const struct history *history, struct sample *ret,
            struct error *err);
/* The point that S is in a history. */
void
sample_point(const struct sample *s, struct history_point *ret);

#endif
