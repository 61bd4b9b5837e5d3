/*
 * base/ids.h - the numbers and names by which everything is known (glossary:
 * docs/architecture.md).
 */
#ifndef POLLUX_BASE_IDS_H
#define POLLUX_BASE_IDS_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

typedef uint64_t lsn_t;    /* log sequence number, dense, from 1 */
typedef uint32_t epoch_t;  /* counts promotions, from 1; 20 bits */
typedef uint64_t modseq_t; /* 63 bits; 0 is none */
typedef uint64_t mbid_t;   /* mailbox number: the LSN of its creation record */

#define LSN_NONE ((lsn_t)0)
#define EPOCH_MAX ((1U << 20) - 1)
#define MODSEQ_LSN_BITS 43
#define PRI_LSN PRIu64
#define PRI_EPOCH PRIu32
#define PRI_MODSEQ PRIu64

/* A place in the one history: printed "7:4182". */
struct logpos {
    epoch_t epoch;
    lsn_t lsn;
};

/* MODSEQ of what the record at POS changed: epoch high, LSN low. */
static inline modseq_t
modseq_of(epoch_t epoch, lsn_t lsn)
{
    return (modseq_t)epoch << MODSEQ_LSN_BITS | lsn;
}

static inline epoch_t
modseq_epoch(modseq_t m)
{
    return (epoch_t)(m >> MODSEQ_LSN_BITS);
}

static inline lsn_t
modseq_lsn(modseq_t m)
{
    return m & ((UINT64_C(1) << MODSEQ_LSN_BITS) - 1);
}

#define GUID_BYTES 20
#define GUID_TEXT_BYTES 41 /* with the NUL */

/* SHA-1 of a message's bytes as stored. */
struct guid {
    uint8_t b[GUID_BYTES];
};

static inline bool
guid_eq(const struct guid *a, const struct guid *b)
{
    return memcmp(a->b, b->b, GUID_BYTES) == 0;
}

static inline const char *
guid_text(const struct guid *g, char out[GUID_TEXT_BYTES])
{
    format_hex_bytes(g->b, GUID_BYTES, out);
    return out;
}

#define UNIQUEID_MAX 64

/* Identity of a mailbox, survives a rename; NUL-terminated printable text. */
struct uniqueid {
    char s[UNIQUEID_MAX + 1];
};

#define INSTANCE_ID_BYTES 16

/* Random identity of a cluster (a history) or of an instance; all zero: none.*/
struct instid {
    uint8_t b[INSTANCE_ID_BYTES];
};

static inline bool
instid_eq(const struct instid *a, const struct instid *b)
{
    return memcmp(a->b, b->b, INSTANCE_ID_BYTES) == 0;
}

static inline bool
instid_none(const struct instid *a)
{
    static const struct instid none;
    return instid_eq(a, &none);
}

/*
 *            promoted             handed over
 *  REPLICA ------------> MASTER -------------> REPLICA
 *     |                     |  newer epoch seen, or fence raised for good
 *     +------> FENCED <-----+
 */
enum role {
    ROLE_REPLICA, /* follows; takes mutations only from its master */
    ROLE_MASTER,  /* takes mutations, while its fence is down */
    ROLE_FENCED,  /* was deposed: takes nothing until it rejoins */
};

#endif
