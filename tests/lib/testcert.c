/* tests/lib/testcert.c - P-256 keys and certificates through OpenSSL's API. */
#include "testcert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static void
extend(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ENSURE(ext != NULL && X509_add_ext(cert, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

/* ISSUER NULL: signs itself, and is a CA. */
static X509 *
make(const char *cn, const char *names, EVP_PKEY *key, X509 *issuer,
     EVP_PKEY *issuer_key)
{
    static long serial = 1;
    X509 *cert = X509_new();
    X509_NAME *subject = X509_get_subject_name(cert);

    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                               (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(cert, issuer != NULL ? X509_get_subject_name(issuer)
                                              : subject);
    X509_set_pubkey(cert, key);
    if (issuer == NULL)
        extend(cert, NID_basic_constraints, "critical,CA:TRUE");
    if (names != NULL)
        extend(cert, NID_subject_alt_name, names);
    ENSURE(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
    return cert;
}

static void
write_pem(const char *path, X509 *cert, EVP_PKEY *key)
{
    FILE *f = fopen(path, "w");
    ENSURE(f != NULL);
    if (cert != NULL)
        ENSURE(PEM_write_X509(f, cert) == 1);
    if (key != NULL)
        ENSURE(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
    ENSURE(fclose(f) == 0);
}

void
testcerts_make(struct testcerts *c)
{
    snprintf(c->dir, sizeof(c->dir), "/tmp/pollux-cert-XXXXXX");
    ENSURE(mkdtemp(c->dir) != NULL);
    char *paths[] = {c->ca,          c->server_cert, c->server_key,
                     c->client_cert, c->client_key,  c->other_ca,
                     c->other_cert,  c->other_key};
    static const char *const names[] = {
        "ca",         "server-cert", "server-key", "client-cert",
        "client-key", "other-ca",    "other-cert", "other-key"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        snprintf(paths[i], 128, "%s/%s.pem", c->dir, names[i]);

    EVP_PKEY *ca_key = EVP_EC_gen("P-256"), *server_key = EVP_EC_gen("P-256"),
             *client_key = EVP_EC_gen("P-256"),
             *other_key = EVP_EC_gen("P-256");
    X509 *ca = make("Test CA", NULL, ca_key, NULL, ca_key);
    X509 *other_ca = make("Other CA", NULL, other_key, NULL, other_key);
    X509 *server =
        make("localhost", "DNS:localhost,IP:127.0.0.1", server_key, ca, ca_key);
    X509 *client = make("twin", NULL, client_key, ca, ca_key);
    X509 *other = make("twin", NULL, client_key, other_ca, other_key);
    write_pem(c->ca, ca, NULL);
    write_pem(c->other_ca, other_ca, NULL);
    write_pem(c->server_cert, server, NULL);
    write_pem(c->server_key, NULL, server_key);
    write_pem(c->client_cert, client, NULL);
    write_pem(c->client_key, NULL, client_key);
    write_pem(c->other_cert, other, NULL);
    write_pem(c->other_key, NULL, client_key);
    X509_free(ca);
    X509_free(other_ca);
    X509_free(server);
    X509_free(client);
    X509_free(other);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(server_key);
    EVP_PKEY_free(client_key);
    EVP_PKEY_free(other_key);
}

void
testcerts_remove(struct testcerts *c)
{
    const char *paths[] = {c->ca,          c->server_cert, c->server_key,
                           c->client_cert, c->client_key,  c->other_ca,
                           c->other_cert,  c->other_key};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        unlink(paths[i]);
    rmdir(c->dir);
}
