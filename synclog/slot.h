/*
 * synclog/slot.h - what a channel's consumer has acknowledged, kept in
 * DIR/slots/CHANNEL, a mapped page: the consumer (sync_client) writes it, the
 * instance and ctl_failover read it.
 *
 * The LSNs only ever grow within one history, so a page that is older after a
 * power cut only keeps segments longer than needed.  An absent slot pins
 * nothing.
 */
#ifndef POLLUX_SYNCLOG_SLOT_H
#define POLLUX_SYNCLOG_SLOT_H

#include <stdatomic.h>

#include "base/env.h"
#include "base/ids.h"

#define SLOT_MAGIC 0x544f4c53584c50ULL /* "PLXSLOT" */
#define SLOT_VERSION 1U
#define SLOT_NAME_MAX 64
#define SLOT_TEXT_BYTES 512

enum slot_state {
    SLOT_DOWN,    /* no consumer runs */
    SLOT_WAITING, /* it runs, but this instance is not the master */
    SLOT_CONNECTING,
    SLOT_SEEDING,
    SLOT_STREAMING,
    SLOT_PARKED, /* stopped by something that retrying cannot mend: see text */
    SLOT_RESEED, /* lagged beyond the cap: must be reseeded by state */
};

enum slot_kept {
    SLOT_KEPT = 0,     /* what it has not got yet is pinned */
    SLOT_EXPELLED = 1, /* lagged beyond the cap: pins nothing */
    /* This instance was a replica, which feeds nobody, and let its log go. What
     * is left is pinned once it is the master. */
    SLOT_NOT_KEPT = 2,
};

struct synclog_slot {
    uint64_t magic;
    uint32_t version;
    _Atomic uint32_t state;        /* enum slot_state */
    _Atomic uint32_t consumer_pid; /* 0: none */
    _Atomic uint32_t peer_role;
    _Atomic uint64_t peer_epoch;
    _Atomic uint64_t sent_lsn;
    _Atomic uint64_t received_lsn;
    _Atomic uint64_t durable_lsn; /* retention goes by this one */
    _Atomic uint64_t applied_lsn;
    _Atomic uint64_t ack_wall_us;   /* when the last one came */
    _Atomic uint64_t lag_us;        /* commit to applied, of the last one */
    _Atomic uint64_t state_wall_us; /* since when in this state */
    _Atomic uint64_t drained_lsn;   /* fence was up and this was all: or 0 */
    _Atomic uint32_t text_seq;      /* odd while the text is being written */
    char peer[128];                 /* host:port */
    char text[SLOT_TEXT_BYTES];     /* why, for a person */
    /* enum slot_kept; until it streams or is seeded again (0 in a page of an
     * older program). */
    _Atomic uint32_t expelled;
    /* So much of the log may be pinned; 0: what the instance says for all. */
    _Atomic uint64_t cap_bytes;
    /* 1: the peer is brought level by state.  It holds no log of ours, so what
     * it has pins the log and is shown, and no commit waits for it. */
    _Atomic uint32_t by_state;
};

/*
 * Map DIR/slots/NAME, made if WRITE and absent.  A name is 1 to 64 letters,
 * digits, '-', '_' and '.', not a '.' first.  ERR_NOTFOUND, ERR_VERSION (not a
 * slot that this version knows), ERR_BADNAME, ERR_LIMIT (path), ERR_IO,
 * ERR_NOSPACE.
 */
MUST_CHECK enum errcode
slot_attach(const char *dir, const char *name, bool write,
            struct synclog_slot **ret, struct error *err);
void
slot_detach(struct synclog_slot **slot);
/* One writer a slot.  TEXT is cut at SLOT_TEXT_BYTES - 1; WALL_US is taken for
 * state_wall_us if the state changes. */
void
slot_set_state(struct synclog_slot *slot, enum slot_state state,
               const char *text, uint64_t wall_us);
/* Copies the text consistently; a writer that died while it wrote is waited for
 * only so long.  Always NUL-terminated. */
void
slot_get_text(const struct synclog_slot *slot, char out[SLOT_TEXT_BYTES]);
/* "streaming"; "unknown" for a number that is none of ours. */
const char *
slot_state_name(enum slot_state state);
/* Remember it on disk (msync). */
MUST_CHECK enum errcode
slot_sync(struct synclog_slot *slot, struct error *err);
/* Add the names of all slots in DIR to RET_NAMES, each with its NUL, sorted;
 * none is fine. */
MUST_CHECK enum errcode
slot_list(struct env *env, const char *dir, struct buf *ret_names,
          struct error *err);

#endif
