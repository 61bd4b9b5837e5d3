/*
 * imapd/utf7.h - mailbox names between modified UTF-7 (RFC 3501, 5.1.3), as the
 * store and IMAP4rev1 have them, and UTF-8 (RFC 6855, RFC 9051).
 */
#ifndef POLLUX_IMAPD_UTF7_H
#define POLLUX_IMAPD_UTF7_H

#include "base/arena.h"

/* False: not UTF-8, or a character that names may not have (RFC 6855, 3:
 * controls, U+2028, U+2029). */
MUST_CHECK bool
utf7_from_utf8(struct span utf8, struct arena *a, const char **ret);
/* A name of the store; what is no proper modified UTF-7 in it stays as it is.
 */
const char *
utf7_to_utf8(const char *utf7, struct arena *a);

#endif
