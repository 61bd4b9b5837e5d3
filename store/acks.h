/*
 * store/acks.h - commits that wait for replicas (sync_ack).
 *
 * A group of a master is durable here, and then neither shown nor answered
 * until so many channels say that they have it.  The next groups go on
 * meanwhile: only their answers and the readers' view stand behind.
 *
 *            acknowledged in time                a whole tick
 *    +---------- WAITING <----------------------- without lag
 *    |             |  not in time, or too few channels stream    |
 *    +-------------+-----> REFUSING (policy refuse) -------------+
 *                  +-----> DEGRADED (policy degrade) ------------+
 *
 * REFUSING: who waits gets ERR_TIMEOUT, and so does everybody who comes; what
 * is durable already stays, unseen, and is shown when a replica has it after
 * all.  DEGRADED: all is shown and answered, and nothing waits.
 *
 * After a restart, and when the instance is not the master any more, what is
 * durable here is shown: that it once waited is not kept.
 */
#ifndef POLLUX_STORE_ACKS_H
#define POLLUX_STORE_ACKS_H

#include "store/store.h"

enum ack_state { ACKS_OFF, ACKS_WAITING, ACKS_REFUSING, ACKS_DEGRADED };

struct ack_view {
    enum ack_mode mode;
    enum ack_state state;
    unsigned replicas; /* asked for */
    unsigned have;     /* channels that stream */
    bool degrade;      /* the policy */
    uint64_t timeout_ms;
    uint64_t since_us; /* wall clock, in this state */
    lsn_t acked;       /* by so many as are asked for */
    uint64_t held;     /* groups that are not shown yet */
    uint64_t refused;  /* mutations, since the start */
    uint64_t alone;    /* groups that no replica was waited for, likewise */
};

/* For status; ACKS_OFF where sync_ack is "none". */
void
store_ack_view(struct store *store, struct ack_view *ret);
/* "waiting" */
const char *
ack_state_name(enum ack_state state);

#endif
