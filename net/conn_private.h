/* net/conn_private.h - what the listener knows of connections. */
#ifndef POLLUX_NET_CONN_PRIVATE_H
#define POLLUX_NET_CONN_PRIVATE_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "net/conn.h"

/* The addresses that we speak of: 28 bytes instead of the 128 of a
 * sockaddr_storage. */
union netaddr {
    sa_family_t family; /* AF_UNIX: nothing more is known */
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

/* conn_new() with the PEER known, no handler yet, and GONE(GONE_CTX) called
 * when the connection is freed, after on_close. */
struct conn *
conn_new_accepted(struct reactor *r, int fd, const struct conn_options *options,
                  struct tls_context *tls, const union netaddr *peer,
                  void (*gone)(void *ctx), void *gone_ctx);

/* Format for logs; see conn_peer_name(). */
void
netaddr_name(const union netaddr *a, char ret[CONN_NAME_BYTES]);
void
netaddr_of_sockaddr(const struct sockaddr *from, socklen_t n,
                    union netaddr *ret);

#endif
