/*
 * failover/ctl_private.h - what the files failover/ctl*.c share.
 */
#ifndef POLLUX_FAILOVER_CTL_PRIVATE_H
#define POLLUX_FAILOVER_CTL_PRIVATE_H

#include "csync/client.h"
#include "failover/ctl.h"

#define SLOTS_MAX 16U

struct slot_line {
    const char *channel, *state, *peer, *text;
    uint64_t pid, sent, durable, applied, lag_us, ack_wall, since;
};

struct ctl {
    const struct ctl_options *o;
    struct csync_client *local, *twin;
    struct arena arena;
    struct logstatus here, there;
    bool has_here, has_there;
    struct error here_err, there_err;
    struct slot_line slots[SLOTS_MAX];
    size_t nslots;
    uint64_t damaged, lost, healed, oldest_us; /* here */
    uint64_t log_bytes, packs, pack_bytes, dead_bytes, bytes_per_s;
    uint64_t stuck_segment;
    uint64_t history, history_bytes; /* purged, and kept here */
    const char *scrub;               /* phase; NULL: none */
    uint64_t scrub_per_mille, scrub_bodies, scrub_ended_us;
    const char *ack_mode, *ack_state, *ack_policy; /* NULL: no sync_ack */
    uint64_t ack_replicas, ack_streaming, ack_held, ack_refused, ack_alone;
    uint64_t ack_since_us;
    struct store_pos fenced_at;
    uint64_t token;
    const char *path; /* of an answer */
    uint64_t records, messages;
};

/* ---- failover/ctl.c ------------------------------------------------------ */

/* Say "WHAT: why" and return CODE. */
enum ctl_exit
ctl_fail(const struct ctl *c, enum ctl_exit code, const char *what,
         const struct error *err);
/* Every line that an instance may answer with, into the struct ctl CTX. */
void
ctl_take_answer(void *ctx, const struct dlist *d);
/* LINE to our instance, which is connected.  Errors as csync_command(). */
MUST_CHECK enum errcode
ctl_ask(struct ctl *c, const char *line, struct error *err);
/* Connect to the twin anew.  Errors as csync_connect(). */
MUST_CHECK enum errcode
ctl_connect_twin(struct ctl *c, struct error *err);
/* Both sides, as far as they answer: has_here, has_there and why not. */
void
ctl_look(struct ctl *c);
/* Our instance, or CTL_NOLOCAL, said. */
enum ctl_exit
ctl_need_local(struct ctl *c);

/* ---- the verbs ----------------------------------------------------------- */

enum ctl_exit
ctl_status(struct ctl *c);
enum ctl_exit
ctl_fence(struct ctl *c);
enum ctl_exit
ctl_unfence(struct ctl *c);
enum ctl_exit
ctl_swap(struct ctl *c);
enum ctl_exit
ctl_promote(struct ctl *c);
enum ctl_exit
ctl_export(struct ctl *c);
enum ctl_exit
ctl_rejoin(struct ctl *c);

#endif
