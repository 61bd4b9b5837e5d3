/*
 * lmtpd/lmtpd.h - the LMTP service (RFC 2033): mail for local users, one answer
 * a recipient, each sent only when the message is durable there.
 *
 * Extensions: lmtpd/README.md.
 */
#ifndef POLLUX_LMTPD_LMTPD_H
#define POLLUX_LMTPD_LMTPD_H

#include "base/tally.h"
#include "net/conn.h"
#include "store/names.h"
#include "store/store.h"

struct autocreate_options; /* store/autocreate.h */
struct config;

/*
 * Made once in cmd/ and const from then on; strings live as long as the
 * configuration.
 */
struct lmtpd_options {
    const struct config *cfg; /* for libsasl; NULL: no AUTH */
    struct env *env;          /* clocks */
    /* The store of the instance; read once at the start of each session. */
    struct store *const *store;
    const char *servername;
    struct namespace ns;
    const char *const *admins; /* may deliver; NULL-terminated, or NULL */
    struct tls_context *tls;   /* NULL: no STARTTLS */
    bool starttls;             /* offered on this listener */
    bool preauth;              /* lmtpd -a; a Unix socket is so by itself */
    bool allow_plain;          /* passwords without TLS */
    bool user_tolower;
    bool downcase_rcpt;        /* local parts, up to a '+' */
    const char *postuser;      /* "postuser+folder": a shared folder; or "" */
    bool dedup;                /* the same message again is not stored again */
    bool over_quota_permanent; /* 552 in place of 452 */
    bool soft_noauth;          /* no login: 430 in place of 530 */
    const struct autocreate_options *autocreate; /* NULL: never */
    uint64_t idle_timeout_ms;
    uint64_t message_bytes_max;
    size_t recipients_max; /* of one message; 452 4.5.3 beyond */
    unsigned bad_commands_max;
    /* lmtpd_commands() of them; NULL: nobody wants to know. */
    struct command_tally *commands;
    /* Tests: decides about AUTH PLAIN in place of libsasl.  NULL in the
     * product. */
    bool (*check_password)(void *ctx, struct span user, struct span password);
    void *check_ctx;
};

/* How one line of cyrus.conf runs this service. */
struct lmtpd_listener {
    const char *service;     /* its name there, for overrides ("lmtp") */
    struct tls_context *tls; /* NULL: none */
    bool implicit_tls;       /* TLS from the first byte; else STARTTLS */
    bool preauth;            /* -a: whoever connects may deliver */
};

/*
 * Fill *RET from CFG for LISTENER (NULL: all zero).  What is allocated lives in
 * A.  Errors: ERR_SYNTAX (a bad value; the text names the option).
 */
MUST_CHECK enum errcode
lmtpd_options_from_config(const struct config *cfg, struct env *env,
                          struct store *const *store,
                          const struct lmtpd_listener *listener,
                          struct arena *a, struct lmtpd_options *ret,
                          struct error *err);

/* How many commands there are, and what the I-th is called.  DATA is timed from
 * the dot to the answers. */
size_t
lmtpd_commands(void);
const char *
lmtpd_command_name(size_t i);

struct lmtpd_service; /* all sessions of one kind of listener */

/* OPTIONS must live as long as the service. */
struct lmtpd_service *
lmtpd_service_new(const struct lmtpd_options *options);
/* When no session is left (after reactor_pool_stop()).  NULL is fine. */
void
lmtpd_service_free(struct lmtpd_service **svc);
/* For listener_service.on_conn, with the service as ctx; and what
 * listener_service.conn should be. */
void
lmtpd_accept(struct conn *c, void *svc);
struct conn_options
lmtpd_conn_options(const struct lmtpd_options *options);
/* listener_service.refuse: what a client hears whom a limit turns away. */
#define LMTPD_REFUSE "421 4.3.2 Too many connections, try again later\r\n"
/*
 * Every session gets "421 4.3.2 TEXT" when its command, or its delivery, is
 * through, and ends: the role has changed.  Any thread; returns at once.
 */
void
lmtpd_service_goodbye(struct lmtpd_service *svc, const char *text);

struct lmtpd_stats {
    uint64_t sessions;       /* now */
    uint64_t sessions_total; /* since the start, as the rest */
    uint64_t messages;       /* taken, for at least one recipient */
    uint64_t delivered;      /* recipients */
    uint64_t duplicates;     /* answered 250, not stored again */
    uint64_t refused;        /* recipients refused, for now or for ever */
    uint64_t login_failures;
};

/* Any thread. */
struct lmtpd_stats
lmtpd_service_stats(const struct lmtpd_service *svc);

#endif
