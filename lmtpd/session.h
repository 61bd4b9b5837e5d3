/*
 * lmtpd/session.h - one client's session, without sockets and without a store:
 * bytes go in, bytes come out through struct lmtp_io, recipients and messages
 * go to struct lmtp_backend.  So the same session runs on a connection, in a
 * test and under a fuzzer.
 */
#ifndef POLLUX_LMTPD_SESSION_H
#define POLLUX_LMTPD_SESSION_H

#include <stdatomic.h>

#include "lmtpd/lmtpd.h"
#include "store/body.h"

/* What a session needs of the world.  All on the session's thread but post(),
 * hold() and release(). */
struct lmtp_io {
    void (*write)(void *ctx, struct span bytes);
    /* lmtp_session_input() is to be called (again), or not to be called. */
    void (*resume)(void *ctx);
    void (*pause)(void *ctx);
    void (*close)(void *ctx); /* when all that was written is out */
    /* Input that is there and not used is to be thrown away. */
    void (*start_tls)(void *ctx);
    /* Call FN(ARG) on the session's thread, soon; any thread. */
    void (*post)(void *ctx, void (*fn)(void *arg), void *arg);
    /* The thread must not end before as many releases as holds. */
    void (*hold)(void *ctx);
    void (*release)(void *ctx);
    /* WORK(ARG) where it may block, then DONE(ARG) on the session's thread. */
    void (*work)(void *ctx, void (*work)(void *arg), void (*done)(void *arg),
                 void *arg);
    /* The session is free; nothing is called any more. */
    void (*ended)(void *ctx);
};

/* A recipient that was taken; strings live as long as the transaction. */
struct lmtp_rcpt {
    const char *path;  /* as given, for logs */
    const char *local; /* local part after the change of case: with `uniqueid`
                          what tells a second delivery */
    bool ignore_quota;
    /* By lookup(): */
    const char *mailbox; /* internal name */
    const char *user;    /* whose INBOX is to be made first; else NULL */
    mbid_t id;           /* 0: `user` is set */
    struct uniqueid uniqueid;
    /* By deliver(): ERR_OK, ERR_EXISTS (is there already, as `uid`), or why
     * not. */
    struct error result;
    uint32_t uid;
};

/* A message and those whom it is for. */
struct lmtp_delivery {
    struct body *body;         /* finished */
    struct span cache;         /* derived record (mime/message.h) */
    uint8_t received_hash[16]; /* xxh3-128 of the message as received */
    struct lmtp_rcpt *rcpts;
    size_t nrcpts;
    const struct log_ctx *log;
    const struct lmtp_io *io; /* to come back to the session's thread */
    void *io_ctx;
    /* To be called once, on the session's thread, not from inside deliver();
     * every result is set. */
    void (*done)(void *arg);
    void *arg;
};

/* Where mail goes; lmtpd/deliver.c, or a test's. */
struct lmtp_backend {
    /* Is mail taken now?  ERR_READONLY, ERR_FENCED, ERR_CLOSED. */
    enum errcode (*ready)(void *ctx, struct error *err);
    /* For large messages; lives as long as the session. */
    const char *(*tmpdir)(void *ctx);
    /*
     * Find the mailbox for RCPT->local; SENDER is who the client says the
     * sender proved to be (RFC 4954, 5), or NULL.  What is set in RCPT lives in
     * A.  ERR_NOTFOUND, ERR_BADNAME (no such user), ERR_DENIED (may not post
     * there), other codes: not known now.
     */
    enum errcode (*lookup)(void *ctx, struct lmtp_rcpt *rcpt,
                           const char *sender, struct arena *a,
                           struct error *err);
    /* D stays until D->done(). */
    void (*deliver)(void *ctx, struct lmtp_delivery *d);
};

/* Shared by the sessions of a service. */
struct lmtp_counters {
    _Atomic uint64_t messages;
    _Atomic uint64_t delivered;
    _Atomic uint64_t duplicates;
    _Atomic uint64_t refused;
    _Atomic uint64_t login_failures;
};

/* What is known of the connection; strings are copied. */
struct lmtp_peer {
    const char *local_name; /* may be NULL, as the next */
    const char *peer_name;
    unsigned tls_bits; /* 0: no TLS */
    const char *external_id;
    bool trusted; /* a Unix socket: needs no login */
};

struct lmtp_session;

/* Everything must live as long as the session. */
struct lmtp_wiring {
    const struct lmtpd_options *options;
    const struct lmtp_io *io;
    void *io_ctx;
    const struct lmtp_backend *backend;
    void *backend_ctx;
    struct lmtp_counters *counters;
};

struct lmtp_session *
lmtp_session_new(const struct lmtp_wiring *wiring,
                 const struct lmtp_peer *peer);
/* Greet.  Once, first. */
void
lmtp_session_start(struct lmtp_session *s);
/* IN is all unused input; how much of it was used.  Not while paused. */
size_t
lmtp_session_input(struct lmtp_session *s, struct span in);
void
lmtp_session_timeout(struct lmtp_session *s);
/* TLS is on (after start_tls(), or from the beginning). */
void
lmtp_session_tls(struct lmtp_session *s, const struct lmtp_peer *peer);
/* Say "421 4.3.2 TEXT" and close, as soon as nothing is under way; a message
 * that is still coming in is not waited for. */
void
lmtp_session_goodbye(struct lmtp_session *s, const char *text);
/* The connection is gone: nothing is written any more.  Frees S, at once or
 * when what is under way has returned; ended() tells. */
void
lmtp_session_gone(struct lmtp_session *s);

#endif
