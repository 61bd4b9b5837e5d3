/*
 * net/tls.c - contexts from options, and sessions over sockets.
 *
 * Sessions use a BIO of our own: OpenSSL's socket BIO writes with write(2),
 * which raises SIGPIPE in whatever program the tool is.  Sessions release their
 * buffers when idle, since 10,000 of them are idle most of the time.
 */
#include "net/tls.h"
#include "net/tls_private.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <pthread.h>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

struct tls_context {
    SSL_CTX *ctx;
    enum tls_verify verify;
    bool server;
    atomic_uint refs;
};

/* ---- the BIO: a socket without SIGPIPE ---- */

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

static int
bio_fd(BIO *bio)
{
    return (int)(intptr_t)BIO_get_data(bio);
}

static bool
try_later(int sys_errno)
{
    return sys_errno == EAGAIN || sys_errno == EWOULDBLOCK ||
           sys_errno == EINTR;
}

static int
bio_read_ex(BIO *bio, char *to, size_t n, size_t *ret_n)
{
    BIO_clear_retry_flags(bio);
    ssize_t got = recv(bio_fd(bio), to, n, 0);
    if (got > 0) {
        *ret_n = (size_t)got;
        return 1;
    }
    if (got < 0 && try_later(errno))
        BIO_set_retry_read(bio);
    else if (got == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return 0;
}

static int
bio_write_ex(BIO *bio, const char *from, size_t n, size_t *ret_n)
{
    BIO_clear_retry_flags(bio);
    ssize_t put = send(bio_fd(bio), from, n, MSG_NOSIGNAL);
    if (put > 0) {
        *ret_n = (size_t)put;
        return 1;
    }
    if (put < 0 && try_later(errno))
        BIO_set_retry_write(bio);
    return 0;
}

static long
bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)num;
    (void)ptr;
    switch (cmd) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default:
        return 0;
    }
}

static int
bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static void
bio_method_free(void)
{
    BIO_meth_free(bio_method);
}

static void
bio_method_make(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK,
                              "pollux socket");
    ENSURE(bio_method != NULL);
    BIO_meth_set_read_ex(bio_method, bio_read_ex);
    BIO_meth_set_write_ex(bio_method, bio_write_ex);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
    BIO_meth_set_create(bio_method, bio_create);
    OPENSSL_atexit(bio_method_free);
}

/* ---- contexts ---- */

static enum errcode
ssl_error(struct error *err, enum errcode code, const char *what)
{
    char reason[160] = "no reason given";
    unsigned long e = ERR_peek_last_error();

    if (e != 0)
        ERR_error_string_n(e, reason, sizeof(reason));
    ERR_clear_error();
    return error_set(err, code, "%s: %s", what, reason);
}

static enum errcode
file_error(struct error *err, const char *what, const char *path)
{
    if (access(path, R_OK) != 0) {
        int why = errno;
        ERR_clear_error();
        return error_set_errno(err, why, "%s %s", what, path);
    }
    ssl_error(err, ERR_SYNTAX, path);
    error_prefix(err, "%s", what);
    return ERR_SYNTAX;
}

static enum errcode
load_identity(SSL_CTX *ctx, const struct tls_options *o, struct error *err)
{
    const char *key = o->key_file != NULL ? o->key_file : o->cert_file;

    if (o->cert_file == NULL)
        return ERR_OK;
    if (SSL_CTX_use_certificate_chain_file(ctx, o->cert_file) != 1)
        return file_error(err, "certificate", o->cert_file);
    /* Also fails when the key is not that of the certificate. */
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return file_error(err, "private key", key);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return file_error(err, "key does not fit the certificate:", key);
    return ERR_OK;
}

static enum errcode
load_trust(SSL_CTX *ctx, const struct tls_options *o, bool server,
           struct error *err)
{
    if (o->ca_file != NULL) {
        if (SSL_CTX_load_verify_file(ctx, o->ca_file) != 1)
            return file_error(err, "CA file", o->ca_file);
        if (server) {
            STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(o->ca_file);
            if (names != NULL)
                SSL_CTX_set_client_CA_list(ctx, names);
        }
    }
    if (o->ca_dir != NULL && SSL_CTX_load_verify_dir(ctx, o->ca_dir) != 1)
        return file_error(err, "CA directory", o->ca_dir);
    if (!server && o->ca_file == NULL && o->ca_dir == NULL)
        SSL_CTX_set_default_verify_paths(ctx);
    if (o->crl_file != NULL) {
        X509_STORE *store = SSL_CTX_get_cert_store(ctx);
        X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
        if (lookup == NULL ||
            X509_load_crl_file(lookup, o->crl_file, X509_FILETYPE_PEM) < 1)
            return file_error(err, "CRL file", o->crl_file);
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    }
    return ERR_OK;
}

static enum errcode
load_dhparam(SSL_CTX *ctx, const struct tls_options *o, struct error *err)
{
    if (o->dhparam_file == NULL) {
        SSL_CTX_set_dh_auto(ctx, 1);
        return ERR_OK;
    }
    BIO *in = BIO_new_file(o->dhparam_file, "r");
    EVP_PKEY *dh = in != NULL ? PEM_read_bio_Parameters(in, NULL) : NULL;
    BIO_free(in);
    if (dh == NULL || SSL_CTX_set0_tmp_dh_pkey(ctx, dh) != 1) {
        EVP_PKEY_free(dh);
        return file_error(err, "DH parameters", o->dhparam_file);
    }
    return ERR_OK;
}

static enum errcode
set_protocol(SSL_CTX *ctx, const struct tls_options *o, struct error *err)
{
    if (o->no_tls12 && o->no_tls13)
        return error_set(err, ERR_SYNTAX, "no TLS version is left");
    SSL_CTX_set_min_proto_version(ctx, o->no_tls12 ? TLS1_3_VERSION
                                                   : TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(ctx, o->no_tls13 ? TLS1_2_VERSION
                                                   : TLS1_3_VERSION);
    if (o->ciphers != NULL && SSL_CTX_set_cipher_list(ctx, o->ciphers) != 1)
        return ssl_error(err, ERR_SYNTAX, "ciphers");
    if (o->groups != NULL && strcmp(o->groups, "auto") != 0 &&
        SSL_CTX_set1_groups_list(ctx, o->groups) != 1)
        return ssl_error(err, ERR_SYNTAX, "curves");
    return ERR_OK;
}

static int
verify_mode(enum tls_verify verify, bool server)
{
    switch (verify) {
    case TLS_VERIFY_OFF:
        return SSL_VERIFY_NONE;
    case TLS_VERIFY_OPTIONAL:
        return server ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
    case TLS_VERIFY_REQUIRED:
        return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    return SSL_VERIFY_PEER;
}

static enum errcode
context_new(const struct tls_options *o, bool server, struct tls_context **ret,
            struct error *err)
{
    static const unsigned char session_id[] = "pollux";
    struct tls_context *tls = xcalloc(1, sizeof(*tls));

    pthread_once(&bio_once, bio_method_make);
    ERR_clear_error();
    tls->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    ENSURE(tls->ctx != NULL);
    tls->server = server;
    tls->verify = o->verify;
    atomic_init(&tls->refs, 1);

    SSL_CTX_set_mode(tls->ctx, SSL_MODE_RELEASE_BUFFERS |
                                   SSL_MODE_ENABLE_PARTIAL_WRITE |
                                   SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(tls->ctx, SSL_OP_NO_RENEGOTIATION |
                                      SSL_OP_NO_COMPRESSION |
                                      SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (o->server_prefers)
        SSL_CTX_set_options(tls->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* Resumption is by tickets: nothing to keep, nothing to prune. */
    SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_OFF);
    if (o->no_resumption) {
        SSL_CTX_set_options(tls->ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(tls->ctx, 0);
    } else if (o->session_s != 0) {
        SSL_CTX_set_timeout(tls->ctx, (long)o->session_s);
    }
    SSL_CTX_set_session_id_context(tls->ctx, session_id,
                                   sizeof(session_id) - 1);
    SSL_CTX_set_verify(tls->ctx, verify_mode(o->verify, server), NULL);

    enum errcode rc = set_protocol(tls->ctx, o, err);
    if (rc == ERR_OK)
        rc = load_identity(tls->ctx, o, err);
    if (rc == ERR_OK)
        rc = load_trust(tls->ctx, o, server, err);
    if (rc == ERR_OK && server)
        rc = load_dhparam(tls->ctx, o, err);
    if (rc != ERR_OK) {
        tls_context_free(&tls);
        error_prefix(err, "TLS");
        return rc;
    }
    *ret = tls;
    return ERR_OK;
}

enum errcode
tls_server_context(const struct tls_options *options, struct tls_context **ret,
                   struct error *err)
{
    if (options->cert_file == NULL)
        return error_set(err, ERR_SYNTAX, "TLS: a server needs a certificate");
    return context_new(options, true, ret, err);
}

enum errcode
tls_client_context(const struct tls_options *options, struct tls_context **ret,
                   struct error *err)
{
    return context_new(options, false, ret, err);
}

struct tls_context *
tls_context_ref(struct tls_context *ctx)
{
    atomic_fetch_add(&ctx->refs, 1);
    return ctx;
}

void
tls_context_free(struct tls_context **ctx)
{
    struct tls_context *tls = *ctx;

    *ctx = NULL;
    if (tls == NULL || atomic_fetch_sub(&tls->refs, 1) > 1)
        return;
    SSL_CTX_free(tls->ctx);
    free(tls);
}

bool
tls_context_is_server(const struct tls_context *ctx)
{
    return ctx->server;
}

/* ---- sessions ---- */

SSL *
tls_session_new(struct tls_context *tls, int fd, const char *name)
{
    SSL *ssl = SSL_new(tls->ctx);
    BIO *bio = BIO_new(bio_method);

    ENSURE(ssl != NULL && bio != NULL);
    BIO_set_data(bio, (void *)(intptr_t)fd);
    SSL_set_bio(ssl, bio, bio);
    if (tls->server) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_set_connect_state(ssl);
    if (name == NULL)
        return ssl;

    uint8_t addr[16];
    bool is_addr = inet_pton(AF_INET, name, addr) == 1 ||
                   inet_pton(AF_INET6, name, addr) == 1;
    if (!is_addr)
        SSL_set_tlsext_host_name(ssl, name);
    if (tls->verify == TLS_VERIFY_REQUIRED) {
        X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
        X509_VERIFY_PARAM_set_hostflags(param,
                                        X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        int rc = is_addr ? X509_VERIFY_PARAM_set1_ip_asc(param, name)
                         : X509_VERIFY_PARAM_set1_host(param, name, 0);
        ENSURE(rc == 1);
    }
    return ssl;
}

static enum tls_io
tls_failed(SSL *ssl, int sys_errno, struct error *err)
{
    long verify = SSL_get_verify_result(ssl);
    unsigned long e = ERR_peek_error();

    if (ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        ERR_clear_error();
        error_set(err, ERR_AUTH, "TLS: certificate of the peer: %s",
                  X509_verify_cert_error_string(verify));
    } else if (ERR_GET_REASON(e) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        ERR_clear_error();
        error_set(err, ERR_AUTH, "TLS: the peer showed no certificate");
    } else if (e != 0) {
        ssl_error(err, ERR_PROTO, "TLS");
    } else if (sys_errno == 0 || sys_errno == EPIPE ||
               sys_errno == ECONNRESET) {
        error_set(err, ERR_CLOSED, "TLS: closed by the peer");
    } else {
        error_set_errno(err, sys_errno, "TLS");
    }
    return TLS_IO_FAILED;
}

static enum tls_io
tls_result(SSL *ssl, int rc, int sys_errno, struct error *err)
{
    switch (SSL_get_error(ssl, rc)) {
    case SSL_ERROR_NONE:
        return TLS_IO_OK;
    case SSL_ERROR_WANT_READ:
        return TLS_IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_IO_EOF;
    default:
        return tls_failed(ssl, sys_errno, err);
    }
}

enum tls_io
tls_handshake(SSL *ssl, struct error *err)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(ssl);
    enum tls_io io = tls_result(ssl, rc, errno, err);
    if (io == TLS_IO_EOF) {
        error_set(err, ERR_CLOSED, "TLS: closed during the handshake");
        return TLS_IO_FAILED;
    }
    return io;
}

enum tls_io
tls_read(SSL *ssl, void *to, size_t n, size_t *ret_n, struct error *err)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_read_ex(ssl, to, n, ret_n);
    return tls_result(ssl, rc, errno, err);
}

enum tls_io
tls_write(SSL *ssl, struct span bytes, size_t *ret_n, struct error *err)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_write_ex(ssl, bytes.p, bytes.n, ret_n);
    enum tls_io io = tls_result(ssl, rc, errno, err);
    if (io == TLS_IO_EOF) {
        error_set(err, ERR_CLOSED, "TLS: closed by the peer");
        return TLS_IO_FAILED;
    }
    return io;
}

void
tls_shutdown(SSL *ssl)
{
    ERR_clear_error();
    (void)SSL_shutdown(ssl);
    ERR_clear_error();
}

void
tls_session_info(SSL *ssl, struct tls_info *ret)
{
    int bits = SSL_get_cipher_bits(ssl, NULL);
    X509 *cert = SSL_get0_peer_certificate(ssl);

    *ret = (struct tls_info){.bits = bits > 0 ? (unsigned)bits : 1};
    strncpy(ret->version, SSL_get_version(ssl), sizeof(ret->version) - 1);
    strncpy(ret->cipher, SSL_get_cipher_name(ssl), sizeof(ret->cipher) - 1);
    if (cert == NULL || SSL_get_verify_result(ssl) != X509_V_OK ||
        SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE)
        return;
    ret->peer_verified = true;

    /* A name with a NUL inside, or cut, would be another name: none then. */
    X509_NAME *subject = X509_get_subject_name(cert);
    char cn[sizeof(ret->peer_cn)];
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0)
        return;
    unsigned char *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(
        &utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (n > 0 && (size_t)n < sizeof(cn) && memchr(utf8, 0, (size_t)n) == NULL) {
        memcpy(cn, utf8, (size_t)n);
        cn[n] = '\0';
        memcpy(ret->peer_cn, cn, (size_t)n + 1);
    }
    OPENSSL_free(utf8);
}
