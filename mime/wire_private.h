/*
 * mime/wire_private.h - ENVELOPE, BODY and BODYSTRUCTURE of a parsed message.
 */
#ifndef POLLUX_MIME_WIRE_PRIVATE_H
#define POLLUX_MIME_WIRE_PRIVATE_H

#include "mime/message_private.h"

/* RFC 3501, 7.4.2, "ENVELOPE". */
void
mime_wire_envelope(const struct mime_env *env, struct buf *out);

/* RFC 3501, 7.4.2, "BODY" and (EXTENDED) "BODYSTRUCTURE" of node I. */
void
mime_wire_body(const struct mime_message *m, size_t i, bool extended,
               struct buf *out);

/* The BODYSTRUCTURE of a message of one part, no multipart and no message.
 * Returns how many of its first bytes, with a ")" behind them, are BODY. */
size_t
mime_wire_leaf(const struct mime_message *m, struct buf *out);

#endif
