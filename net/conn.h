/*
 * net/conn.h - one connection on one reactor: bytes in by callback, bytes out
 * into a bounded queue, with TLS, compression and time limits in between.
 *
 *     socket <-> TLS (optional) <-> DEFLATE (optional) <-> handler
 *
 * All calls are made on the thread of the connection's reactor, and no callback
 * is ever called from inside such a call: they come from the loop.
 *
 * An idle connection holds no buffers (less than 700 bytes without TLS).
 */
#ifndef POLLUX_NET_CONN_H
#define POLLUX_NET_CONN_H

#include "base/span.h"
#include "net/reactor.h"
#include "net/tls.h"

struct conn;

/* Bytes that one connection may read in one turn. */
#define CONN_READ_BUDGET 65536
/* Bytes of a peer that goes on sending that are thrown away after our last
 * words, so that it can read them; then it is reset. */
#define LINGER_BYTES ((size_t)4 << 20)

/* 0 takes the default. */
struct conn_options {
    size_t input_max;      /* bytes of unused input kept; 64 KiB.  At least the
                              longest line that the protocol allows */
    size_t output_high;    /* from here on "full"; 256 KiB */
    size_t output_low;     /* on_drain below this; a quarter of output_high */
    unsigned linger_ms;    /* for what is left when closing; 10 s */
    unsigned handshake_ms; /* for a TLS handshake; 30 s */
};

/* What happens to a connection.  NULL members have the default named. */
struct conn_handler {
    /*
     * IN is all unused input.  Returns how many bytes of it were used; the rest
     * is shown again, with more behind it when more came.  Called again at once
     * while it uses something and something is left, so it may take one command
     * at a time; within one turn no more than CONN_READ_BUDGET bytes.  Not
     * called while input is paused.  If IN has input_max bytes and nothing of
     * it is used (and input is not paused), the connection is closed with
     * ERR_LIMIT: a handler that wants to say so first looks at in.n.
     */
    size_t (*on_input)(struct conn *c, struct span in, void *ctx);
    /* The peer will send no more; output may still go.  All input was shown
     * before, so it waits while input is paused: who pauses for the length of a
     * command finishes that.  Default: conn_close_after_flush(). */
    void (*on_eof)(struct conn *c, void *ctx);
    /* Output was full and is below output_low again. */
    void (*on_drain)(struct conn *c, void *ctx);
    /* A time limit has passed.  Default: conn_close(). */
    void (*on_timeout)(struct conn *c, void *ctx);
    /* The TLS handshake that conn_start_tls() or conn_new() began is done. */
    void (*on_tls)(struct conn *c, void *ctx);
    /* A connection that we make is made (with TLS, if that was asked for). */
    void (*on_connect)(struct conn *c, void *ctx);
    /* The instance is stopping: say goodbye, then close.  Default:
     * conn_close_after_flush(). */
    void (*on_shutdown)(struct conn *c, void *ctx);
    /*
     * The last call: C is gone when it returns.  WHY->code is ERR_OK when we
     * closed, ERR_CLOSED when the peer did, ERR_TIMEOUT, ERR_LIMIT, ERR_PROTO
     * (TLS, DEFLATE), ERR_AUTH (certificate), ERR_IO, ERR_NOTFOUND (no such
     * host).  Always called, once.
     */
    void (*on_close)(struct conn *c, const struct error *why, void *ctx);
};

/* Who handles C; may be changed at any time.  *H must live as long as C. */
void
conn_set_handler(struct conn *c, const struct conn_handler *h, void *ctx);

/*
 * A connection from a connected socket FD, which it owns from now on.  On R's
 * thread.  TLS not NULL: server side TLS from the first byte.
 */
struct conn *
conn_new(struct reactor *r, int fd, const struct conn_options *options,
         struct tls_context *tls, const struct conn_handler *h, void *ctx);

/* Whom to connect to. */
struct conn_target {
    const char *host;        /* name or address; NULL with path */
    const char *service;     /* port number or service name */
    const char *path;        /* a Unix socket */
    unsigned timeout_ms;     /* for name, connect and TLS; 0: 30 s */
    struct tls_context *tls; /* client context: TLS at once; NULL: none */
    const char *tls_name; /* name that the certificate must have; NULL: host */
};

/*
 * Begin to connect; on R's thread.  Strings are copied.  Ends in on_connect, or
 * in on_close with the reason (the last one, if a name has several addresses).
 * Output may be written before.
 */
struct conn *
conn_connect(struct reactor *r, const struct conn_target *target,
             const struct conn_options *options, const struct conn_handler *h,
             void *ctx);

/* Output.  Bytes are copied and leave at the end of the turn.  Nothing is
 * refused and nothing fails: who produces much asks conn_output_is_full(),
 * stops there and goes on in on_drain.  After closing began they are dropped.
 */
void
conn_write(struct conn *c, struct span bytes);
void
conn_write_str(struct conn *c, const char *s);
void
conn_writef(struct conn *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/*
 * The same without a copy: BYTES stay as they are until RELEASE(CTX), which is
 * called exactly once, on this thread, possibly before this returns; also when
 * the connection breaks.  RELEASE may be NULL for bytes that live for ever.
 */
void
conn_write_owned(struct conn *c, struct span bytes, void (*release)(void *ctx),
                 void *ctx);
/* Bytes that wait for the peer to take them. */
size_t
conn_output_bytes(const struct conn *c);
bool
conn_output_is_full(const struct conn *c);

/*
 * While paused, on_input is not called and at most input_max bytes are read
 * from the peer: so a client that pipelines waits in its own kernel.  Pausing
 * does not count.  The timeout rests while input is paused and no output waits.
 */
void
conn_pause_input(struct conn *c);
/* on_input comes at the end of this turn, if there is unused input. */
void
conn_resume_input(struct conn *c);
bool
conn_input_is_paused(const struct conn *c);

/*
 * on_timeout comes when for MS no byte came from the peer and none went to it.
 * 0: no timeout.  Starts anew now.  It stays set after it fired.
 */
void
conn_set_timeout_ms(struct conn *c, uint64_t ms);
/* on_timeout comes once, in MS from now, whatever the peer does (login). 0: no
 * such limit. */
void
conn_set_deadline_ms(struct conn *c, uint64_t ms);

/*
 * TLS from here on, as server or client by the kind of context.  What was
 * written before is sent in clear; unused input that is there already is thrown
 * away (bytes sent before the handshake must not count as sent inside it,
 * CVE-2011-0411): from inside on_input that is what is left after the bytes
 * that it returns.  NAME: as conn_target.tls_name.  Not while TLS or DEFLATE is
 * on. on_tls follows, or on_close.
 */
void
conn_start_tls(struct conn *c, struct tls_context *tls, const char *name);
/* TLS is on (handshake done). */
bool
conn_is_tls(const struct conn *c);
/* False if TLS is not on. */
bool
conn_tls_info(const struct conn *c, struct tls_info *ret);

/*
 * Raw DEFLATE both ways from here on (RFC 4978): what is written from now on is
 * compressed, and all input after the bytes that on_input returns is
 * compressed already.  Each turn's output ends in a sync flush.
 */
void
conn_start_deflate(struct conn *c);
/*
 * Both streams end (RFC 8437, 4.1): ours behind what was written; the peer's
 * behind the bytes that on_input returns, or were the last ones that it took,
 * by a final block or a flush.  What comes behind that is input as before
 * DEFLATE.  More inside of the peer's stream breaks the connection (ERR_PROTO).
 * Only while conn_is_deflate().
 */
void
conn_end_deflate(struct conn *c);
bool
conn_is_deflate(const struct conn *c);

/*
 * Closing.  Each leads to on_close at the end of this turn or later, and no
 * other callback comes after the call.  Closing twice is fine; a harder way
 * overrules a softer one.
 */
/* Now; what waits for the peer is dropped. */
void
conn_close(struct conn *c);
/* When the peer has taken what was written, or for linger_ms took nothing of
 * it; then its end is waited for, at most linger_ms or LINGER_BYTES long. */
void
conn_close_after_flush(struct conn *c);
/* Now, with a TCP RST. */
void
conn_reset(struct conn *c);
/* Send no more once what was written is taken; input goes on. */
void
conn_half_close(struct conn *c);
bool
conn_is_closing(const struct conn *c);

struct reactor *
conn_reactor(const struct conn *c);
int
conn_fd(const struct conn *c);
void *
conn_ctx(const struct conn *c);
bool
conn_is_unix(const struct conn *c);
/* User id of the peer of a Unix socket (SO_PEERCRED), or -1. */
int64_t
conn_peer_uid(const struct conn *c);

/* "127.0.0.1:4711", "[::1]:4711", "unix"; room for any. */
#define CONN_NAME_BYTES 64
void
conn_peer_name(const struct conn *c, char ret[CONN_NAME_BYTES]);
void
conn_local_name(const struct conn *c, char ret[CONN_NAME_BYTES]);
/* The address alone, without port and brackets; "" for Unix. */
void
conn_peer_address(const struct conn *c, char ret[CONN_NAME_BYTES]);

/* Bytes received and sent on the wire so far. */
struct conn_stats {
    uint64_t wire_in_bytes;
    uint64_t wire_out_bytes;
};
struct conn_stats
conn_stats(const struct conn *c);

#endif
