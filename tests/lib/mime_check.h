/*
 * tests/lib/mime_check.h - is a cache record what it should be?  A small
 * checker of IMAP's grammar, written from RFC 3501, 9 and not from our writer.
 */
#ifndef POLLUX_TESTS_LIB_MIME_CHECK_H
#define POLLUX_TESTS_LIB_MIME_CHECK_H

#include "mime/message.h"

/* NULL, or what is wrong with the text as an envelope / body of RFC 3501, 9. */
const char *
mime_check_envelope(struct span s);
const char *
mime_check_body(struct span s, bool extended);

/* NULL, or what is wrong with a record of RAW: wire texts, places of parts, and
 * that every section is found where its part lies. */
const char *
mime_check_cache(const struct mime_cache *cache, struct span raw);

#endif
