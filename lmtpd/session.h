/*
 * lmtpd/session.h - one client's session, without sockets and without a store:
 * bytes go in, bytes come out through struct session_io, recipients and
 * messages go to struct lmtp_backend.  So the same session runs on a
 * connection, in a test and under a fuzzer.
 */
#ifndef POLLUX_LMTPD_SESSION_H
#define POLLUX_LMTPD_SESSION_H

#include <stdatomic.h>

#include "lmtpd/lmtpd.h"
#include "net/session_io.h"
#include "store/body.h"

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
    const struct session_io *io; /* to come back to the session's thread */
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
    /* For a message that comes: body_new(). */
    struct body *(*new_body)(void *ctx, uint64_t max_bytes);
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

struct lmtp_session;

/* Everything must live as long as the session.  Of the io it calls neither
 * is_full() nor set_timeout(). */
struct lmtp_wiring {
    const struct lmtpd_options *options;
    const struct session_io *io;
    void *io_ctx;
    const struct lmtp_backend *backend;
    void *backend_ctx;
    struct lmtp_counters *counters;
};

/* PEER is copied; on a Unix socket a client needs no login. */
struct lmtp_session *
lmtp_session_new(const struct lmtp_wiring *wiring,
                 const struct session_peer *peer);
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
lmtp_session_tls(struct lmtp_session *s, const struct session_peer *peer);
/* Say "421 4.3.2 TEXT" and close, as soon as nothing is under way; a message
 * that is still coming in is not waited for. */
void
lmtp_session_goodbye(struct lmtp_session *s, const char *text);
/* The connection is gone: nothing is written any more.  Frees S, at once or
 * when what is under way has returned; ended() tells. */
void
lmtp_session_gone(struct lmtp_session *s);

#endif
