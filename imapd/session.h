/*
 * imapd/session.h - one client's session, without sockets: bytes go in, bytes
 * come out through struct imap_io, and what takes time (commits, passwords)
 * returns through it as an event.  So the same session runs on a connection, in
 * a test and under a fuzzer.
 */
#ifndef POLLUX_IMAPD_SESSION_H
#define POLLUX_IMAPD_SESSION_H

#include <stdatomic.h>

#include "imapd/imapd.h"

/* What a session needs of the world.  All on the session's thread but post(),
 * hold() and release(). */
struct imap_io {
    void (*write)(void *ctx, struct span bytes);
    /* The client reads slowly: imap_session_drained() follows. */
    bool (*is_full)(void *ctx);
    /* imap_session_input() is to be called (again), or not to be called. */
    void (*resume)(void *ctx);
    void (*pause)(void *ctx);
    void (*close)(void *ctx); /* when all that was written is out */
    void (*start_tls)(void *ctx);
    void (*set_timeout)(void *ctx, uint64_t ms);
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

/* Shared by the sessions of a service. */
struct imap_counters {
    _Atomic uint64_t logins;
    _Atomic uint64_t login_failures;
    _Atomic uint64_t commands;
};

/* What is known of the connection; strings are copied. */
struct imap_peer {
    const char *local_name; /* may be NULL, as the next */
    const char *peer_name;
    unsigned tls_bits; /* 0: no TLS */
    const char *external_id;
};

struct imap_session;

/* OPTIONS, IO and COUNTERS must live as long as the session. */
struct imap_session *
imap_session_new(const struct imapd_options *options, const struct imap_io *io,
                 void *io_ctx, struct imap_counters *counters,
                 const struct imap_peer *peer);
/* Greet.  Once, first. */
void
imap_session_start(struct imap_session *s);
/* IN is all unused input; how much of it was used.  Not while paused. */
size_t
imap_session_input(struct imap_session *s, struct span in);
void
imap_session_drained(struct imap_session *s);
void
imap_session_timeout(struct imap_session *s);
/* TLS is on (after start_tls()). */
void
imap_session_tls(struct imap_session *s, const struct imap_peer *peer);
/* Say "* BYE TEXT" as soon as no command is under way, and close. */
void
imap_session_goodbye(struct imap_session *s, const char *text);
/* The connection is gone: nothing is written any more.  Frees S, at once or
 * when what is under way has returned; ended() tells. */
void
imap_session_gone(struct imap_session *s);

#endif
