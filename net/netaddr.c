/* net/netaddr.c - socket addresses as text, and names of services. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/span.h"
#include "net/conn_private.h"
#include "net/listener.h"

void
netaddr_of_sockaddr(const struct sockaddr *from, socklen_t n,
                    union netaddr *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->family = AF_UNIX;
    if ((from->sa_family == AF_INET && n >= sizeof(ret->in)) ||
        (from->sa_family == AF_INET6 && n >= sizeof(ret->in6)))
        memcpy(ret, from, MIN((size_t)n, sizeof(*ret)));
    if (ret->family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&ret->in6.sin6_addr))
        return;

    /* An IPv4 client of a dual socket is an IPv4 client. */
    struct sockaddr_in v4 = {.sin_family = AF_INET,
                             .sin_port = ret->in6.sin6_port};
    memcpy(&v4.sin_addr, &ret->in6.sin6_addr.s6_addr[12], 4);
    memset(ret, 0, sizeof(*ret));
    ret->in = v4;
}

void
netaddr_name(const union netaddr *a, char ret[CONN_NAME_BYTES])
{
    char text[INET6_ADDRSTRLEN];

    if (a->family == AF_INET &&
        inet_ntop(AF_INET, &a->in.sin_addr, text, sizeof(text)) != NULL)
        snprintf(ret, CONN_NAME_BYTES, "%s:%u", text, ntohs(a->in.sin_port));
    else if (a->family == AF_INET6 &&
             inet_ntop(AF_INET6, &a->in6.sin6_addr, text, sizeof(text)) != NULL)
        snprintf(ret, CONN_NAME_BYTES, "[%s]:%u", text,
                 ntohs(a->in6.sin6_port));
    else
        snprintf(ret, CONN_NAME_BYTES, "unix");
}

bool
service_port(const char *service, uint16_t *ret)
{
    static const struct {
        const char *name;
        uint16_t port;
    } known[] = {
        {"imap", 143},  {"imaps", 993},  {"pop3", 110},   {"pop3s", 995},
        {"lmtp", 2003}, {"csync", 2005}, {"sieve", 4190}, {"mupdate", 3905},
    };
    uint32_t number;

    if (parse_u32(span_str(service), &number)) {
        if (number > UINT16_MAX)
            return false;
        *ret = (uint16_t)number;
        return true;
    }

    struct servent found, *result = NULL;
    char names[1024];
    if (getservbyname_r(service, "tcp", &found, names, sizeof(names),
                        &result) == 0 &&
        result != NULL) {
        *ret = ntohs((uint16_t)result->s_port);
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcasecmp(known[i].name, service) == 0) {
            *ret = known[i].port;
            return true;
        }
    }
    return false;
}
