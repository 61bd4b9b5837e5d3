/*
 * csync/logproto.h - CSYNC by log: what the two sides say once "LOG STREAM" or
 * "LOG SEED" has been answered with OK.  Full duplex, no turns.
 *
 * Seeding: the instance that gives has the state, and only it can read it, so
 * it speaks the giving side over its control socket (LOG EXPORT), the replica
 * the taking side (LOG SEED), and sync_client is the pipe between, which
 * counts.
 *
 * A message: u32 payload length, u8 type, 3 bytes 0, payload; little-endian.
 * Before that, as CSYNC lines (csync/PROTOCOL.md):
 *
 *   S: * POLLUX-LOG 1 ZSTD                       (in the greeting)
 *   C: LOG STATUS                    S: * LOGSTATUS %(...)  OK
 *   C: LOG DIGEST n                  S: * LOGDIGEST %(LSN n DIGEST h)  OK
 *   C: LOG OPEN %(CHANNEL c CLUSTER i INSTANCE i EPOCH e FORMAT n)
 *                                    S: * LOGSTATUS %(...)  OK, or NO
 *   C: LOG STREAM %(LSN n CHAIN h)   S: OK, then messages
 *   C: LOG SEED %(CHANNEL c CLUSTER i EPOCH e)  S: OK, then messages
 *   C: LOG RESEED %(as LOG OPEN, LSN n)   S: OK: it gives up its state, soon
 *   C: LOG EXPORT [%(ZSTD 1)]        S: OK, then messages (control socket only)
 *   C: LOG PREPARE %(EPOCH e)        S: * LOGPREPARED %(TOKEN h)  OK
 *   C: LOG HANDOVER %(TOKEN h EPOCH e LSN n CHAIN h DIGEST h)
 *                                    S: * LOGSTATUS %(...)  OK, or NO
 *   C: LOG CANCEL %(TOKEN h)         S: OK: that token will never promote
 *   C: LOG LEND %(CLUSTER i)         S: OK, then questions and answers
 */
#ifndef POLLUX_CSYNC_LOGPROTO_H
#define POLLUX_CSYNC_LOGPROTO_H

#include "base/ids.h"
#include "base/rd.h"
#include "csync/dlist.h"
#include "store/body.h"
#include "store/types.h"

#define LOGPROTO_VERSION 1U
#define LOGMSG_HEADER_BYTES 8U
#define LOGMSG_PAYLOAD_MAX (FRAME_PAYLOAD_MAX + (64U << 10))

enum logmsg_type {
    /* client (master's sync_client) to server (replica) */
    LOGMSG_FRAMES = 1,       /* whole frames, as they lie in the log */
    LOGMSG_PING = 2,         /* u64, given back in the ACK */
    LOGMSG_END = 3,          /* no more comes; the last ACK, then close */
    LOGMSG_GET_PART = 4,     /* GUID, u32 part: lend me this */
    LOGMSG_GET_FRAMES = 5,   /* u64 after, u64 until: and these records */
    LOGMSG_ZSTD = 7,         /* FRAMES or SEED_ROWS, smaller: csync/squeeze.h */
    LOGMSG_SEED_GUIDS = 16,  /* n times 20 bytes: which of these do you lack? */
    LOGMSG_SEED_PART = 17,   /* guid, body_loc, stored bytes */
    LOGMSG_SEED_SYNC = 18,   /* make them durable */
    LOGMSG_SEED_BEGIN = 19,  /* rows start */
    LOGMSG_SEED_ROWS = 20,   /* blob key, blob value, ... */
    LOGMSG_SEED_FINISH = 21, /* position that they are of */
    LOGMSG_SEED_TOTALS = 22, /* first of all: position of the snapshot, u64
                                bodies, u64 their stored bytes */
    LOGMSG_SEED_LOST = 23,   /* GUID: damaged here, and nobody has it */
    /* server to client */
    LOGMSG_ACK = 64,
    LOGMSG_ERROR = 65,        /* u8 code class, text: the last message */
    LOGMSG_SEED_MISSING = 80, /* a bit for each GUID of the question */
    LOGMSG_SEED_SYNCED = 81,
    LOGMSG_SEED_DONE = 82,
    LOGMSG_PART = 83,        /* GUID, body_loc, stored bytes */
    LOGMSG_LENT_FRAMES = 84, /* u64 chain at `after`, whole frames */
    LOGMSG_LACKING = 85,     /* u8 code class, text: that I cannot lend */
};

struct logmsg {
    uint8_t type;
    struct span payload;
};

/* One message off the front of IN.  PARSE_BAD: unknown type or over the limit,
 * seen from the first 8 bytes. */
enum parse
logmsg_parse(struct span in, struct logmsg *ret, size_t *ret_used);
/* The 8 bytes before a payload of N bytes. */
void
logmsg_header(uint8_t type, uint32_t n, uint8_t out[LOGMSG_HEADER_BYTES]);

/* The replica's answer: three different points, and what it looks like. */
struct logack {
    lsn_t received;
    lsn_t durable;
    struct store_pos applied;
    uint64_t ping; /* of the last PING, or 0 */
};
void
logack_encode(const struct logack *ack, struct buf *out);
MUST_CHECK bool
logack_decode(struct span payload, struct logack *ret);

/* A part of a body on its way: LOGMSG_SEED_PART, LOGMSG_PART. */
void
logpart_encode(const struct guid *guid, const struct body_loc *loc,
               struct span stored, struct buf *out);
/* ERR_PROTO (cut), and those of body_loc_decode(); STORED points into PAYLOAD
 * and has the length that LOC says. */
MUST_CHECK enum errcode
logpart_decode(struct span payload, struct guid *ret_guid,
               struct body_loc *ret_loc, struct span *ret_stored,
               struct error *err);

/* What is asked of who lends. */
struct lend_request {
    bool wants_frames;
    struct guid guid; /* GET_PART */
    uint32_t part;
    lsn_t after; /* GET_FRAMES: behind this record */
    lsn_t until; /* as far as this one, or less */
};
/* The payload of GET_PART or GET_FRAMES. */
void
lend_request_encode(const struct lend_request *q, struct buf *out);
/* False: not one. */
MUST_CHECK bool
lend_request_decode(const struct logmsg *m, struct lend_request *ret);

void
store_pos_encode(const struct store_pos *pos, struct buf *out);
void
store_pos_decode(struct rd *r, struct store_pos *ret);

/* What an instance says of itself: LOGSTATUS, and the control socket's too. */
struct logstatus {
    uint32_t version;       /* LOGPROTO_VERSION of the sender */
    uint32_t record_format; /* newest record version that it can apply */
    struct instid cluster;  /* all zero: has no history yet */
    struct instid instance;
    enum role role;
    epoch_t epoch;
    bool fence;       /* the shutdown file is up */
    bool swapping;    /* because of a swap */
    bool seeding;     /* state is incomplete */
    bool seed_wanted; /* empty on purpose: the master may seed it unasked */
    struct logpos durable;
    uint64_t chain; /* at durable */
    struct store_pos applied;
    uint64_t delay_us; /* sync_apply_delay: it applies so long after */
    lsn_t first_lsn;   /* oldest record in the log */
    lsn_t start_lsn;   /* the log begins behind this */
    uint64_t wall_us;  /* its clock */
    const char *servername;
    const char *text; /* why it is in this role, for a person */
    const struct epoch_entry *epochs;
    size_t nepochs;
};

/* "LOGSTATUS %(...)" without CRLF. */
void
logstatus_print(const struct logstatus *s, enum dlist_side side,
                struct buf *out);
/* From the kvlist; ERR_PROTO names the key. */
MUST_CHECK enum errcode
logstatus_read(const struct dlist *d, struct arena *a, struct logstatus *ret,
               struct error *err);

/*
 * Where the histories of OWN and PEER part: the last record that both have, by
 * the epochs that both tell of (the epoch after the last common one begins
 * earlier on one side than on the other).  False: PEER knows of no epoch that
 * OWN does not, or has forgotten where it left.
 */
MUST_CHECK bool
logstatus_fork(const struct logstatus *own, const struct logstatus *peer,
               lsn_t *ret_lsn, uint64_t *ret_chain);

/* Is all that PEER has a part of OWN's history, by the epochs that both tell
 * of? False also where too little is told. */
MUST_CHECK bool
logstatus_is_prefix(const struct logstatus *own, const struct logstatus *peer);

const char *
role_name(enum role role);

#endif
