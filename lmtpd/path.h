/*
 * lmtpd/path.h - what stands behind MAIL FROM: and RCPT TO: (RFC 5321, 4.1.2;
 * RFC 6531, 3.3), and the parameters after it.  No I/O.
 */
#ifndef POLLUX_LMTPD_PATH_H
#define POLLUX_LMTPD_PATH_H

#include "base/arena.h"

/* Bytes of a path without its brackets; more is refused. */
#define LMTP_PATH_BYTES 1000U

struct lmtp_path {
    /* Between the brackets, without a source route, as the client wrote it:
     * printable, no control bytes.  Points into the input. */
    struct span text;
    struct span local;  /* without quotes and backslashes; in the arena */
    struct span domain; /* may be empty; points into the input */
    bool is_utf8;       /* not ASCII only (needs SMTPUTF8) */
};

/*
 * Take "<path>" off the front of *LEFT, blanks before it too; *LEFT is then at
 * its end, at a blank or at a parameter.  "<>" gives empty texts.  A domain may
 * lack ("<user>", "<postmaster>").  False: not a path, or too long.
 */
MUST_CHECK bool
lmtp_path_take(struct span *left, struct arena *a, struct lmtp_path *ret);

/* KEYWORD or KEYWORD=VALUE. */
struct lmtp_param {
    struct span key;
    struct span value;
    bool has_value;
};

enum lmtp_param_found { LMTP_PARAM_END, LMTP_PARAM_OK, LMTP_PARAM_BAD };

/* Take the next parameter off the front of *LEFT (RFC 5321, 4.1.2 esmtp-param);
 * points into it. */
enum lmtp_param_found
lmtp_param_take(struct span *left, struct lmtp_param *ret);

/* xtext (RFC 3461, 4) decoded into A; false if it is none, or holds control
 * bytes. */
MUST_CHECK bool
lmtp_xtext_decode(struct span in, struct arena *a, struct span *ret);

/* Valid UTF-8, shortest form, no surrogates. */
bool
lmtp_is_utf8(struct span s);

#endif
