/*
 * mime/text_private.h - charset conversion piece by piece.
 */
#ifndef POLLUX_MIME_TEXT_PRIVATE_H
#define POLLUX_MIME_TEXT_PRIVATE_H

#include "mime/text.h"

enum charset_kind {
    CHARSET_GUESS,  /* UTF-8 where the bytes are that, else windows-1252 */
    CHARSET_UTF8,   /* what is not becomes U+FFFD */
    CHARSET_CP1252, /* and ISO-8859-1, as all the world does */
    CHARSET_ICU,
};

struct charset {
    enum charset_kind kind;
    struct UConverter *icu;
    uint8_t tail[4]; /* begin of a UTF-8 sequence that was cut */
    size_t ntail;
    uint16_t high; /* ICU: a high surrogate that waits for its other half */
};

/* Start with charset NAME; returns whether it is known (see
 * mime_charset_to_utf8()).  Ends with charset_close(). */
bool
charset_open(struct charset *c, struct span name);
/* Append IN as UTF-8; LAST: nothing follows. */
void
charset_push(struct charset *c, struct span in, bool last, struct buf *out);
void
charset_close(struct charset *c);

bool
mime_is_ascii(struct span s);

/* Take one sequence: its bytes, and *RET; 0 if it is cut at the end of S, -1
 * if it is none. */
int
utf8_take(struct span s, uint32_t *ret);
void
utf8_add(struct buf *out, uint32_t c);

#endif
