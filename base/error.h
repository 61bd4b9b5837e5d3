/*
 * base/error.h - how a call says that it failed: a code that decides, and a
 * text that explains.
 *
 * The code decides (retry, reply, resync, stop).  The text is for the log and
 * for the admin's terminal, never for a mail client.
 */
#ifndef POLLUX_BASE_ERROR_H
#define POLLUX_BASE_ERROR_H

#include "base/macros.h"

enum errcode {
    ERR_OK = 0,
    ERR_AGAIN,    /* the same call may succeed later */
    ERR_LIMIT,    /* a configured bound was reached */
    ERR_PROTO,    /* the peer broke the protocol */
    ERR_SYNTAX,   /* text that a person wrote does not parse */
    ERR_GAP,      /* the LSN asked for is not, or no longer, in the log */
    ERR_FENCED,   /* our epoch is over, or the fence is up: nothing written */
    ERR_READONLY, /* this instance is a replica: it takes no mutation */
    ERR_CORRUPT,  /* stored bytes are not what was written */
    ERR_IO,       /* the system said no: see err->sys_errno */
    ERR_NOSPACE,  /* the disk is full; heals by itself when there is room */
    ERR_CLOSED,   /* the peer or the instance is gone */
    ERR_TIMEOUT,  /* nobody answered in time */
    ERR_AUTH,     /* the peer could not prove who it is */
    ERR_DENIED,   /* known, but not allowed to */
    ERR_NOTFOUND, /* no such mailbox, message, user or file */
    ERR_EXISTS,   /* there is one of that name already */
    ERR_CONFLICT, /* a precondition of the transaction no longer holds */
    ERR_QUOTA,    /* over quota */
    ERR_BADNAME,  /* not a name that a mailbox may have */
    ERR_HISTORY,  /* other cluster, epoch or chain: not our history */
    ERR_VERSION,  /* a format or protocol version that we do not speak */
    ERR_BUSY,     /* somebody else holds it (second process on one store) */
    ERR_UNSUPPORTED, /* known, but not built into this version */
};

/* Room for one clear sentence with a long path in it. */
#define ERROR_TEXT_BYTES 512

/* What failed.  Starts as {0}; belongs to the caller. */
struct error {
    enum errcode code;
    int sys_errno; /* with ERR_IO, ERR_NOSPACE: errno, else 0 */
    char text[ERROR_TEXT_BYTES];
};

/* Set *ERR (if not NULL) and return CODE.  Keeps errno out of it. */
enum errcode
error_set(struct error *err, enum errcode code, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/*
 * The same for a failed system call: the code is ERR_NOSPACE for ENOSPC and
 * EDQUOT, ERR_NOTFOUND for ENOENT, ERR_EXISTS for EEXIST, else ERR_IO; the
 * text gets ": strerror" added.
 */
enum errcode
error_set_errno(struct error *err, int sys_errno, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* Put "PREFIX: " before the text; returns the code that *ERR holds. */
enum errcode
error_prefix(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Name of the code without "ERR_", in lower case ("nospace"). */
const char *
errcode_name(enum errcode code);

#endif
