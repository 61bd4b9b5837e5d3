/* net/tls_private.h - TLS over a non-blocking socket, for conn.c and
 * bclient.c. */
#ifndef POLLUX_NET_TLS_PRIVATE_H
#define POLLUX_NET_TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "base/span.h"
#include "net/tls.h"

enum tls_io {
    TLS_IO_OK,
    TLS_IO_WANT_READ,  /* come back when the socket can be read */
    TLS_IO_WANT_WRITE, /* ... written */
    TLS_IO_EOF,        /* the peer has ended */
    TLS_IO_FAILED,     /* ERR is set: ERR_PROTO, ERR_AUTH, ERR_CLOSED, ERR_IO */
};

bool
tls_context_is_server(const struct tls_context *ctx);
/* A session of CTX over FD; NAME (may be NULL) is the one that a server's
 * certificate must have.  Free with SSL_free(). */
SSL *
tls_session_new(struct tls_context *ctx, int fd, const char *name);
enum tls_io
tls_handshake(SSL *ssl, struct error *err);
/* Up to N > 0 bytes; *RET_N is set with TLS_IO_OK. */
enum tls_io
tls_read(SSL *ssl, void *to, size_t n, size_t *ret_n, struct error *err);
enum tls_io
tls_write(SSL *ssl, struct span bytes, size_t *ret_n, struct error *err);
/* Say that no more will come from us; best effort. */
void
tls_shutdown(SSL *ssl);
void
tls_session_info(SSL *ssl, struct tls_info *ret);

#endif
