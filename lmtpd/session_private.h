/*
 * lmtpd/session_private.h - a session's fields, and what the commands' files
 * share.
 */
#ifndef POLLUX_LMTPD_SESSION_PRIVATE_H
#define POLLUX_LMTPD_SESSION_PRIVATE_H

#include <xxhash.h>

#include "base/log.h"
#include "lmtpd/data.h"
#include "lmtpd/path.h"
#include "lmtpd/session.h"
#include "net/sasl.h"

/* A command line, or one of AUTH (RFC 4954, 4: 12,288 octets). */
#define LMTP_LINE_BYTES 12288U
#define LMTP_LHLO_BYTES 255U

/* Who takes the client's bytes. */
enum lmtp_mode {
    MODE_COMMAND,
    MODE_SKIP, /* the rest of a line that was too long */
    MODE_DATA,
    MODE_AUTH, /* a line of AUTH */
};

/* In the order of the table of session.c. */
enum lmtp_cmd {
    LMTP_LHLO,
    LMTP_MAIL,
    LMTP_RCPT,
    LMTP_DATA,
    LMTP_RSET,
    LMTP_NOOP,
    LMTP_VRFY,
    LMTP_HELP,
    LMTP_QUIT,
    LMTP_AUTH,
    LMTP_STARTTLS,
    LMTP_COUNT
};

/* From MAIL to RSET or the answers after DATA. */
struct envelope {
    bool is_open;
    const char *from;   /* reverse path without brackets, "" for <> */
    const char *sender; /* of AUTH=, or NULL */
    bool utf8;
    struct lmtp_rcpt *rcpts; /* on the heap; their strings in the arena */
    size_t nrcpts;
    size_t cap;
};

/* A message on its way. */
struct transfer {
    struct lmtp_data data;
    struct body *body;
    XXH3_state_t *hash; /* of what was received */
    struct buf cache;
    struct error err; /* the first thing that went wrong */
    struct lmtp_delivery delivery;
    uint64_t dot_ns; /* when the message was here */
};

struct lmtp_session {
    struct lmtp_wiring w;
    const struct lmtpd_options *opt;
    struct log_ctx log;
    struct arena arena;   /* of the envelope: of what was taken only */
    struct arena scratch; /* of one command */
    struct buf out;

    enum lmtp_mode mode;
    char *lhlo; /* NULL: not yet */
    struct envelope env;
    struct transfer *transfer; /* NULL: none */

    struct session_peer peer; /* strings are ours */
    bool trusted;             /* may deliver */
    char *user;               /* who logged in; NULL: nobody */
    struct saslsrv *sasl;
    struct saslsrv_step *step; /* NULL: no exchange */
    unsigned bad_commands;
    size_t skipped_bytes; /* of a line that was too long, so far */

    char *goodbye;     /* to be said when nothing is under way */
    unsigned inflight; /* calls that will come back to us */
    bool waiting;      /* for one of them: no input is taken */
    bool closing;
    bool dead; /* the connection is gone */
};

/* ---- session.c --------------------------------------------------------- */

/* A line, its CRLF added; cut after 511 bytes where it is formatted. */
void
lmtp_reply_text(struct lmtp_session *s, const char *line);
void
lmtp_reply(struct lmtp_session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The same for what a client should not have sent; too many end it. */
void
refuse(struct lmtp_session *s, const char *line);
/* "421 ..." and the end. */
void
lmtp_say_bye(struct lmtp_session *s, const char *line);
/* No input is taken until lmtp_async_end(). */
void
lmtp_async_begin(struct lmtp_session *s);
/* False: the session is gone with this. */
MUST_CHECK bool
lmtp_async_end(struct lmtp_session *s);
/* After a reply that came late: go on, or say goodbye. */
void
go_on(struct lmtp_session *s);
/* Forget MAIL and RCPT. */
void
envelope_reset(struct lmtp_session *s);

/* ---- transfer.c -------------------------------------------------------- */

void
cmd_data(struct lmtp_session *s, struct span arg);
size_t
transfer_input(struct lmtp_session *s, struct span in);
void
transfer_drop(struct lmtp_session *s);

/* ---- auth.c ------------------------------------------------------------ */

void
cmd_auth(struct lmtp_session *s, struct span arg);
void
auth_line(struct lmtp_session *s, struct span line);
void
auth_drop(struct lmtp_session *s);
/* " PLAIN ..." to OUT, nothing if there is none. */
void
auth_mechs(struct lmtp_session *s, struct buf *out);

#endif
