/*
 * imapd/session.h - one client's session, without sockets: bytes go in, bytes
 * come out through struct session_io, and what takes time (commits, passwords)
 * returns through it as an event.  So the same session runs on a connection, in
 * a test and under a fuzzer.
 */
#ifndef POLLUX_IMAPD_SESSION_H
#define POLLUX_IMAPD_SESSION_H

#include <stdatomic.h>

#include "imapd/imapd.h"
#include "net/session_io.h"

/* Shared by the sessions of a service. */
struct imap_counters {
    _Atomic uint64_t logins;
    _Atomic uint64_t login_failures;
    _Atomic uint64_t commands;
};

struct imap_session;

/* OPTIONS, IO and COUNTERS must live as long as the session; PEER is copied. */
struct imap_session *
imap_session_new(const struct imapd_options *options,
                 const struct session_io *io, void *io_ctx,
                 struct imap_counters *counters,
                 const struct session_peer *peer);
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
imap_session_tls(struct imap_session *s, const struct session_peer *peer);
/* Say "* BYE TEXT" as soon as no command is under way, and close. */
void
imap_session_goodbye(struct imap_session *s, const char *text);
/* The connection is gone: nothing is written any more.  Frees S, at once or
 * when what is under way has returned; ended() tells. */
void
imap_session_gone(struct imap_session *s);

#endif
