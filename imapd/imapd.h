/*
 * imapd/imapd.h - the IMAP service: IMAP4rev1 (RFC 3501) with the extensions of
 * imapd/README.md.
 */
#ifndef POLLUX_IMAPD_IMAPD_H
#define POLLUX_IMAPD_IMAPD_H

#include "base/tally.h"
#include "net/conn.h"
#include "store/autocreate.h"
#include "store/store.h"

struct search_index;

/*
 * Made once in cmd/ and const from then on; strings live as long as the
 * configuration.
 */
struct imapd_options {
    const struct config *cfg; /* for libsasl; NULL only with check_password */
    struct env *env;          /* clocks */
    /* The store of the instance; read once at the start of each session. */
    struct store *const *store;
    /* Of that store's messages, read likewise; NULL, or NULL there: none. */
    struct search_index *const *index;
    const char *servername;
    struct namespace ns;
    const char *const *admins;       /* NULL-terminated, or NULL */
    const char *const *proxyservers; /* may act for anybody */
    struct tls_context *tls;         /* NULL: no STARTTLS */
    bool starttls;                   /* offered on this listener */
    bool allow_plain;                /* passwords without TLS */
    bool user_tolower;
    bool subscribe_all; /* also to what does not exist */
    bool delete_delayed;
    const char *deleted_prefix;
    const char *default_acl; /* of top-level shared mailboxes, store's form */
    const char *partition;   /* where nothing else says one */
    struct partitions *partitions; /* to choose from; NULL: `partition` */
    struct autocreate_options autocreate;
    uint64_t login_timeout_ms; /* until logged in */
    uint64_t idle_timeout_ms;
    uint64_t idle_cmd_timeout_ms; /* in IDLE */
    uint64_t progress_ms;         /* between two INPROGRESS */
    uint32_t message_limit; /* messages of one command (RFC 9738); 0: any */
    uint64_t message_bytes_max;
    size_t command_bytes_max; /* with literals */
    size_t line_bytes_max;
    uint64_t swallow_bytes_max; /* of an unwanted literal that comes anyhow */
    unsigned bad_commands_max;  /* before login, then goodbye */
    /* imapd_commands() of them; NULL: nobody wants to know. */
    struct command_tally *commands;
    /* Tests: decides about LOGIN in place of libsasl.  NULL in the product. */
    bool (*check_password)(void *ctx, struct span user, struct span password);
    void *check_ctx;
};

/*
 * Fill *RET from CFG.  TLS may be NULL; IMPLICIT: the listener starts with TLS,
 * else STARTTLS is offered.  What is allocated lives in A.
 * Errors: ERR_SYNTAX (a bad value; the text names the option).
 */
MUST_CHECK enum errcode
imapd_options_from_config(const struct config *cfg, struct env *env,
                          struct store *const *store, struct tls_context *tls,
                          bool implicit, struct arena *a,
                          struct imapd_options *ret, struct error *err);

/* How many commands there are, and what the I-th is called ("FETCH"). */
size_t
imapd_commands(void);
const char *
imapd_command_name(size_t i);

struct imapd_service; /* all sessions of one kind of listener */

/* OPTIONS must live as long as the service. */
struct imapd_service *
imapd_service_new(const struct imapd_options *options);
/* When no session is left (after reactor_pool_stop()).  NULL is fine. */
void
imapd_service_free(struct imapd_service **svc);
/* For listener_service.on_conn, with the service as ctx; and what
 * listener_service.conn should be. */
void
imapd_accept(struct conn *c, void *svc);
struct conn_options
imapd_conn_options(const struct imapd_options *options);
/*
 * Every session gets "* BYE TEXT" when its command is through, and ends: the
 * role has changed.  Any thread; returns at once.
 */
void
imapd_service_goodbye(struct imapd_service *svc, const char *text);

struct imapd_stats {
    uint64_t sessions;       /* now */
    uint64_t sessions_total; /* since the start */
    uint64_t logins;
    uint64_t login_failures;
    uint64_t commands;
};

/* Any thread. */
struct imapd_stats
imapd_service_stats(const struct imapd_service *svc);

#endif
