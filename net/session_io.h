/*
 * net/session_io.h - what the session of a protocol needs of the world, so that
 * the same session runs on a connection (net/service.h), in a test and under a
 * fuzzer.
 *
 * A session is a state machine on one thread: bytes are put into it, what it
 * writes goes out through struct session_io, and what takes time comes back
 * through it as an event.
 */
#ifndef POLLUX_NET_SESSION_IO_H
#define POLLUX_NET_SESSION_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

/* CTX is the io_ctx that came with the table.  All on the session's thread but
 * post(), hold() and release().  Once the connection is gone, the calls that
 * are about it do nothing. */
struct session_io {
    void (*write)(void *ctx, struct span bytes); /* copied */
    /* The client reads slowly: rest, "drained" follows. */
    bool (*is_full)(void *ctx);
    /* Input is to be shown (again), or not to be shown. */
    void (*resume)(void *ctx);
    void (*pause)(void *ctx);
    void (*close)(void *ctx); /* when all that was written is out */
    /* Input that is there and not used is thrown away; "tls" follows. */
    void (*start_tls)(void *ctx);
    /* What is written from now on, and all input behind what is being taken, is
     * compressed (RFC 4978).  May be NULL: never asked for. */
    void (*start_deflate)(void *ctx);
    /* Not any more: what is written from now on, and all input behind what is
     * being taken and the end of the client's stream (RFC 8437, 4.1). */
    void (*end_deflate)(void *ctx);
    /* "Timeout" comes after MS without traffic; a time limit that was set for
     * the login is over.  0: never. */
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

/* What is known of a connection. */
struct session_peer {
    const char *local_name; /* "127.0.0.1:143"; may be NULL, as the next */
    const char *peer_name;
    const char *external_id; /* name in a client certificate that was verified;
                                or NULL */
    unsigned tls_bits;       /* 0: no TLS */
    bool on_unix;            /* a Unix socket */
};

/* Make *TO a copy of FROM with strings of its own; what *TO (at first {0}) had
 * of them is freed.  For session_peer_free(). */
void
session_peer_copy(struct session_peer *to, const struct session_peer *from);
/* Free the strings of a copy; *P is {0} afterwards. */
void
session_peer_free(struct session_peer *p);

#endif
