/*
 * lmtpd/data.h - the bytes after DATA: where they end, and what the message is
 * (RFC 5321, 4.5.2).  No I/O.
 */
#ifndef POLLUX_LMTPD_DATA_H
#define POLLUX_LMTPD_DATA_H

#include "base/span.h"

/* Starts as {0}. */
struct lmtp_data {
    unsigned state; /* private */
    bool has_nul;   /* a NUL was there: not a message (RFC 5322, 2.2) */
    /* For taking Return-Path fields out. */
    bool in_body;
    bool is_dropping;
    uint8_t head[12]; /* of a header line that may be one */
    uint8_t nhead;
};

typedef void
lmtp_data_sink(void *ctx, struct span bytes);

/*
 * Take message bytes off IN until the line of a single dot.  What they stand
 * for goes to SINK in pieces: dots unstuffed, a bare LF made CRLF, a bare CR
 * left out.  Only CRLF "." CRLF ends the message, and a dot is special only
 * after CRLF, so that no bare line feed can smuggle in a second envelope.
 *
 * RAW gets all of that; KEPT the same without Return-Path fields of the header,
 * which only the last delivery may write (RFC 5321, 4.4).  Either may be NULL.
 *
 * Returns the bytes used: all of IN, unless *RET_END is set, the message then
 * being over.
 */
size_t
lmtp_data_take(struct lmtp_data *d, struct span in, lmtp_data_sink *raw,
               lmtp_data_sink *kept, void *ctx, bool *ret_end);

#endif
