/*
 * net/bclient.h - a blocking client connection, for tools and for sync_client.
 *
 * Two ways of use.  Simple: read a line, write, each with a time limit.  Full
 * duplex: poll() on bclient_fd() for what bclient_poll_events() says, then
 * bclient_read_some() and bclient_write_some(), which never wait; before
 * sleeping ask bclient_buffered(), since bytes may wait here and not in the
 * kernel.
 *
 * One thread at a time.  After an error other than ERR_AGAIN and ERR_LIMIT of a
 * read, the connection is only good for bclient_close().
 */
#ifndef POLLUX_NET_BCLIENT_H
#define POLLUX_NET_BCLIENT_H

#include "base/buf.h"
#include "base/error.h"
#include "net/tls.h"

struct bclient;

/* No time limit. */
#define BCLIENT_FOREVER (-1)

/*
 * Connect to HOST (name or address) and SERVICE (number or name, as
 * service_port()), trying each of its addresses; or to a Unix socket.
 * Errors: ERR_NOTFOUND (no such host, service, path), ERR_TIMEOUT, ERR_CLOSED
 * (refused), ERR_IO.
 */
MUST_CHECK enum errcode
bclient_connect(const char *host, const char *service, int timeout_ms,
                struct bclient **ret, struct error *err);
MUST_CHECK enum errcode
bclient_connect_unix(const char *path, int timeout_ms, struct bclient **ret,
                     struct error *err);
/* From a connected socket, which it owns from now on. */
struct bclient *
bclient_from_fd(int fd);
/* NULL is fine.  Unwritten compressed bytes are lost. */
void
bclient_close(struct bclient **c);

/* No call waits beyond MS from now, whatever it allows: then it says
 * ERR_TIMEOUT.  For a peer that gives a byte now and then.  0: none. */
void
bclient_set_deadline(struct bclient *c, uint64_t ms);

/* Waiting ends with ERR_CLOSED soon after STOP says true; NULL: it is not
 * asked.
 */
void
bclient_set_stop(struct bclient *c, bool (*stop)(void *ctx), void *ctx);

/*
 * TLS handshake now.  NAME must be in the certificate, if the context verifies.
 * What was read and not used is thrown away (CVE-2011-0411).
 * Errors: ERR_AUTH (certificate), ERR_PROTO, ERR_TIMEOUT, ERR_CLOSED, ERR_IO.
 */
MUST_CHECK enum errcode
bclient_start_tls(struct bclient *c, struct tls_context *tls, const char *name,
                  int timeout_ms, struct error *err);
bool
bclient_tls_info(const struct bclient *c, struct tls_info *ret);
/* Raw DEFLATE both ways from here on; unused input is compressed already. */
MUST_CHECK enum errcode
bclient_start_deflate(struct bclient *c, struct error *err);

/*
 * One line, ended by CRLF or LF, without that, in *RET (cleared first).
 * Errors: ERR_LIMIT (more than MAX bytes; nothing is used), ERR_TIMEOUT,
 * ERR_CLOSED (the peer ended, also inside a line), ERR_PROTO (TLS, DEFLATE),
 * ERR_IO.
 */
MUST_CHECK enum errcode
bclient_read_line(struct bclient *c, size_t max, int timeout_ms,
                  struct buf *ret, struct error *err);
/* Exactly N bytes.  The time limit is for each wait for progress. */
MUST_CHECK enum errcode
bclient_read_exact(struct bclient *c, void *to, size_t n, int timeout_ms,
                   struct error *err);
/* All of BYTES, and on to the wire (DEFLATE is flushed).  The time limit is for
 * each wait for progress. */
MUST_CHECK enum errcode
bclient_write(struct bclient *c, struct span bytes, int timeout_ms,
              struct error *err);
MUST_CHECK enum errcode
bclient_writef(struct bclient *c, int timeout_ms, struct error *err,
               const char *fmt, ...) PRINTF_LIKE(4, 5);

/*
 * Some bytes, 1 to N, without waiting.  Errors: ERR_AGAIN (none now), and those
 * of bclient_read_exact().
 */
MUST_CHECK enum errcode
bclient_read_some(struct bclient *c, void *to, size_t n, size_t *ret_n,
                  struct error *err);
/*
 * All unused input that is here, without waiting, after asking the kernel for
 * more unless MAX bytes are here already: for parsers that take bytes.  It
 * stays until bclient_used().  ERR_AGAIN: nothing new came.  *RET is set with
 * any error: what the peer said before it hung up is to be looked at first, and
 * the error comes again.
 */
MUST_CHECK enum errcode
bclient_fill(struct bclient *c, size_t max, struct span *ret,
             struct error *err);
void
bclient_used(struct bclient *c, size_t n);
/*
 * Put BYTES up, as many as the queue takes (*RET_N, maybe 0), and send what the
 * kernel takes, without waiting.  With TLS or DEFLATE bytes that were taken may
 * still be here: bclient_flush_some() sends on.  Errors: ERR_CLOSED, ERR_IO,
 * ERR_PROTO.
 */
MUST_CHECK enum errcode
bclient_write_some(struct bclient *c, struct span bytes, size_t *ret_n,
                   struct error *err);
/* Send what is here; ERR_AGAIN if something is left. */
MUST_CHECK enum errcode
bclient_flush_some(struct bclient *c, struct error *err);

int
bclient_fd(const struct bclient *c);
/* POLLIN, and POLLOUT if something waits to be sent. */
short
bclient_poll_events(const struct bclient *c);
/* Bytes that can be read without the kernel: do not sleep while not 0. */
size_t
bclient_buffered(const struct bclient *c);
/* "127.0.0.1:2005" or the path, for logs. */
const char *
bclient_name(const struct bclient *c);

#endif
