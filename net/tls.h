/*
 * net/tls.h - what TLS connections have in common: keys, certificates,
 * versions, ciphers, and who must show which certificate.  TLS 1.2 and 1.3
 * only.
 *
 * A context is read once, is const from then on, and is shared by all threads;
 * each connection takes a reference.  A reload makes a new context.
 */
#ifndef POLLUX_NET_TLS_H
#define POLLUX_NET_TLS_H

#include <stdbool.h>

#include "base/error.h"

struct config;
struct tls_context;

enum tls_verify {
    TLS_VERIFY_OFF,      /* server: asks for none; client: takes any */
    TLS_VERIFY_OPTIONAL, /* server: asks, and a bad one is refused */
    TLS_VERIFY_REQUIRED, /* server: no certificate, no connection;
                            client: chain and name must be right */
};

/* NULL strings: not given.  Files are PEM. */
struct tls_options {
    const char *cert_file; /* chain, our own first */
    const char *key_file;  /* NULL: it is in cert_file */
    const char *ca_file;   /* whom we believe; both NULL: client takes */
    const char *ca_dir;    /*   those of the system, server nobody */
    const char *ciphers;   /* OpenSSL's list for TLS 1.2; NULL: its default */
    const char *crl_file;  /* revoked certificates; NULL: not looked for */
    const char *dhparam_file; /* server; NULL: the library's own choice */
    const char *groups; /* curves, "X25519:P-256"; NULL or "auto": default */
    bool no_tls12;
    bool no_tls13;
    bool server_prefers;     /* server's order of ciphers counts */
    bool no_resumption;      /* server gives out no tickets */
    unsigned long session_s; /* how long one is good; 0: the default */
    enum tls_verify verify;
};

/*
 * Read files and check that key and certificate belong together.
 * Errors: ERR_NOTFOUND (no such file), ERR_SYNTAX (not what it should be, key
 * and certificate do not fit, no protocol version left), each naming the file.
 */
MUST_CHECK enum errcode
tls_server_context(const struct tls_options *options, struct tls_context **ret,
                   struct error *err);
MUST_CHECK enum errcode
tls_client_context(const struct tls_options *options, struct tls_context **ret,
                   struct error *err);

/*
 * From imapd.conf, "SERVICE_" overrides first: tls_server_cert, tls_server_key,
 * tls_client_ca_file, tls_client_ca_dir, tls_client_certs, tls_require_cert,
 * tls_crl_file, tls_versions, tls_ciphers, tls_eccurve (if set),
 * tls_server_dhparam, tls_prefer_server_ciphers, tls_session_timeout.  *RET is
 * NULL, with ERR_OK, where no certificate is configured: there is no TLS then.
 * Errors: as above.
 */
MUST_CHECK enum errcode
tls_server_from_config(const struct config *cfg, const char *service,
                       struct tls_context **ret, struct error *err);
/*
 * The same for connections that we make: tls_client_cert, tls_client_key
 * (shown if asked for), tls_server_ca_file, tls_server_ca_dir (whom we
 * believe), tls_versions, tls_ciphers.  VERIFY is what the caller wants;
 * CA_FILE, if not NULL, whom alone it believes.
 */
MUST_CHECK enum errcode
tls_client_from_config(const struct config *cfg, enum tls_verify verify,
                       const char *ca_file, struct tls_context **ret,
                       struct error *err);

struct tls_context *
tls_context_ref(struct tls_context *ctx);
/* Give one reference back and set *CTX to NULL; NULL is fine. */
void
tls_context_free(struct tls_context **ctx);

/* What a handshake agreed on, for logs and for SASL. */
struct tls_info {
    char version[16];   /* "TLSv1.3" */
    char cipher[64];    /* "TLS_AES_256_GCM_SHA384" */
    unsigned bits;      /* key bits of the cipher: SASL's external SSF */
    bool peer_verified; /* the peer showed a certificate that we believe */
    char peer_cn[256];  /* common name of its subject, or "" */
};

#endif
