/*
 * imapd/append.h - messages on their way in: what APPEND and REPLACE gather,
 * and how CATENATE puts them together.
 */
#ifndef POLLUX_IMAPD_APPEND_H
#define POLLUX_IMAPD_APPEND_H

#include "imapd/session_private.h"

/* One message. */
struct append_msg {
    struct body *body;    /* what came; with CATENATE all its literals */
    struct body *joined;  /* CATENATE: the message itself */
    struct body *encoded; /* in place of it: without NUL (imapd/binary.c) */
    uint64_t bytes;       /* that came */
    bool has_nul;         /* in a literal8 */
    struct buf cache;
};

struct append_job {
    struct append_msg *msgs;
    size_t n, cap;
    uint64_t bytes;   /* of all */
    struct error err; /* the first thing that went wrong */
    const char *why;  /* and the reply to it; NULL: by ERR */
    bool has_target;
    mbid_t id;
    uint32_t rights;
    bool own_seen;     /* \Seen is kept apart for this user there */
    uint32_t replaced; /* REPLACE: the UID that goes */
    bool binary;       /* what comes now is a literal8 */
    bool is_late;      /* the derived record comes behind the transaction */
};

/*
 * Put MSG together as HOW says (RFC 4469): its literals, which are in
 * MSG->body, and what the URLs name.  On a worker.  False: job->err, and
 * perhaps job->why, say why not.
 */
MUST_CHECK bool
catenate(struct imap_session *s, struct append_job *job,
         const struct imap_append *how, struct append_msg *msg);

/*
 * imapd/binary.c: RAW, whose derived record is CACHE, into OUT with its binary
 * parts in base64.  False: there is NUL where it cannot be kept.  *RET_RC: what
 * stopped it (ERR_LIMIT and kin of body_write()).
 */
MUST_CHECK bool
binary_convert(struct span raw, struct span cache, struct body *out,
               enum errcode *ret_rc, struct error *err);

#endif
