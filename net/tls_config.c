/* net/tls_config.c - the tls_ options of imapd.conf as TLS contexts. */
#include "net/tls.h"

#include <string.h>

#include "base/config.h"

/* "disabled" is how Cyrus spells "none". */
static const char *
file_option(const char *value)
{
    if (value == NULL || value[0] == '\0' || strcmp(value, "disabled") == 0)
        return NULL;
    return value;
}

static bool
has_word(const char *words, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = words; (at = strstr(at, word)) != NULL; at += n) {
        bool starts = at == words || at[-1] == ' ' || at[-1] == '\t';
        bool ends = at[n] == '\0' || at[n] == ' ' || at[n] == '\t';
        if (starts && ends)
            return true;
    }
    return false;
}

/* tls_versions: a list of words; older ones than 1.2 are not spoken. */
static void
common_options(const struct config *cfg, const char *service,
               struct tls_options *o)
{
    const char *versions = config_service_string(cfg, service, "tls_versions");
    const char *ciphers = config_service_string(cfg, service, "tls_ciphers");

    if (versions != NULL) {
        o->no_tls12 = !has_word(versions, "tls1_2");
        o->no_tls13 = !has_word(versions, "tls1_3");
    }
    /* "DEFAULT" and Cyrus's own default mean the library's. */
    if (ciphers != NULL && ciphers[0] != '\0' &&
        strcmp(ciphers, "DEFAULT") != 0)
        o->ciphers = ciphers;
}

enum errcode
tls_server_from_config(const struct config *cfg, const char *service,
                       struct tls_context **ret, struct error *err)
{
    struct tls_options o = {0};
    const char *certs = config_service_string(cfg, service, "tls_client_certs");

    *ret = NULL;
    o.cert_file =
        file_option(config_service_string(cfg, service, "tls_server_cert"));
    if (o.cert_file == NULL)
        return ERR_OK;
    o.key_file =
        file_option(config_service_string(cfg, service, "tls_server_key"));
    o.ca_file =
        file_option(config_service_string(cfg, service, "tls_client_ca_file"));
    o.ca_dir =
        file_option(config_service_string(cfg, service, "tls_client_ca_dir"));
    o.crl_file =
        file_option(config_service_string(cfg, service, "tls_crl_file"));
    o.dhparam_file =
        file_option(config_service_string(cfg, service, "tls_server_dhparam"));
    /* Cyrus's default, one old curve, is not forced on anybody. */
    if (config_is_set(cfg, "tls_eccurve"))
        o.groups = config_service_string(cfg, service, "tls_eccurve");
    o.server_prefers =
        config_service_switch(cfg, service, "tls_prefer_server_ciphers");
    o.session_s = (unsigned long)config_duration_s(cfg, "tls_session_timeout");
    o.no_resumption = o.session_s == 0;
    common_options(cfg, service, &o);
    if ((certs != NULL && strcmp(certs, "require") == 0) ||
        config_service_switch(cfg, service, "tls_require_cert"))
        o.verify = TLS_VERIFY_REQUIRED;
    else if (certs != NULL && strcmp(certs, "off") == 0)
        o.verify = TLS_VERIFY_OFF;
    else /* nobody to believe: do not ask, or every certificate would fail */
        o.verify = o.ca_file != NULL || o.ca_dir != NULL ? TLS_VERIFY_OPTIONAL
                                                         : TLS_VERIFY_OFF;
    return tls_server_context(&o, ret, err);
}

enum errcode
tls_client_from_config(const struct config *cfg, enum tls_verify verify,
                       const char *ca_file, struct tls_context **ret,
                       struct error *err)
{
    struct tls_options o = {.verify = verify};

    o.cert_file = file_option(config_string(cfg, "tls_client_cert"));
    o.key_file = file_option(config_string(cfg, "tls_client_key"));
    o.ca_file = file_option(config_string(cfg, "tls_server_ca_file"));
    o.ca_dir = file_option(config_string(cfg, "tls_server_ca_dir"));
    if (file_option(ca_file) != NULL) {
        o.ca_file = ca_file;
        o.ca_dir = NULL;
    }
    common_options(cfg, NULL, &o);
    return tls_client_context(&o, ret, err);
}
