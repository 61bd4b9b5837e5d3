/*
 * imapd/write.h - pieces of responses (RFC 3501, 9), appended to a buffer.
 */
#ifndef POLLUX_IMAPD_WRITE_H
#define POLLUX_IMAPD_WRITE_H

#include "base/buf.h"
#include "store/types.h"

/* Decimal. */
void
write_number(struct buf *out, uint64_t n);
/* Quoted if it can be, else a literal; NUL bytes are left out. */
void
write_string(struct buf *out, struct span s);
/* The same with all that is in it: a literal8 where NUL is (RFC 3516). */
void
write_string8(struct buf *out, struct span s);
/* An atom if it can be, else as above: mailbox names. */
void
write_astring(struct buf *out, struct span s);
/* A mailbox's name: UTF-8 stays what it is. */
void
write_astring_str(struct buf *out, const char *s);
/* "(\Seen $Junk \Recent)" */
void
write_flags(struct buf *out, uint32_t flags, const struct span *keywords,
            size_t nkeywords, bool recent);
/* A text behind a status: control and 8-bit bytes become '?'. */
void
write_text(struct buf *out, const char *text);

#endif
