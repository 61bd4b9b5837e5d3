/*
 * net/sasl.h - proving who somebody is, by libsasl2: server and client.
 *
 * Both are steps of bytes in and bytes out (not base64: that is the protocol's
 * business, see sasl_decode_base64()).  A step of a server may block
 * (saslauthd, a database), so servers on a reactor use saslsrv_run(), which
 * takes it to a worker.
 *
 * Options "sasl_NAME" of imapd.conf are given to libsasl and its plugins as
 * NAME (sasl_pwcheck_method, sasl_mech_list, sasl_sasldb_path,
 * sasl_saslauthd_path, sasl_auxprop_plugin, ...).
 */
#ifndef POLLUX_NET_SASL_H
#define POLLUX_NET_SASL_H

#include "base/buf.h"
#include "base/error.h"
#include "net/reactor.h"

struct config;

/*
 * Once a process, before the first use and before other threads; CFG must live
 * until sasl_library_stop().  APPNAME names libsasl's log lines.
 * Errors: ERR_IO (libsasl refused; the text says why).
 */
MUST_CHECK enum errcode
sasl_library_start(const struct config *cfg, const char *appname,
                   struct error *err);
void
sasl_library_stop(void);

#define SASL_NAME_BYTES 256   /* of a user name, with its NUL */
#define SASL_STEP_BYTES 65536 /* of one step, decoded */
#define SASL_STEPS_MAX 16     /* of one exchange */

enum sasl_outcome {
    SASL_MORE,    /* send the bytes to the peer, take its answer */
    SASL_SUCCESS, /* done; bytes, if any, go with the success */
    SASL_FAILED,  /* no */
};

/* What a server needs to know about one exchange; strings are copied. */
struct saslsrv_options {
    const char *service;     /* "imap", "lmtp", "csync" ... */
    const char *hostname;    /* our servername */
    const char *local_name;  /* conn_local_name(), or NULL */
    const char *peer_name;   /* conn_peer_name(), or NULL */
    unsigned tls_bits;       /* tls_info.bits; 0: no TLS */
    const char *external_id; /* tls_info.peer_cn if verified; NULL or "": no
                                EXTERNAL */
    bool allow_plain;        /* PLAIN and LOGIN without TLS too */
    /*
     * May AUTHENTICATED act for REQUESTED?  Asked when they differ; on a worker
     * thread, so it reads const data only.  NULL: nobody may.  Names are as
     * given, before any change of case or realm.
     */
    bool (*may_act_for)(void *ctx, const char *authenticated,
                        const char *requested);
    void *ctx;
};

struct saslsrv; /* one connection's exchange */

MUST_CHECK enum errcode
saslsrv_new(const struct saslsrv_options *options, struct saslsrv **ret,
            struct error *err);
/* NULL is fine.  Not while saslsrv_run() is under way. */
void
saslsrv_free(struct saslsrv **s);

/* The mechanisms offered in this state, one blank between; "" if none.  In
 * clear without allow_plain there is no PLAIN and no LOGIN among them. */
void
saslsrv_mechs(struct saslsrv *s, struct buf *ret);

/* One step: what came in, and after it what goes out. */
struct saslsrv_step {
    struct saslsrv *s;
    char mech[32];    /* first step: the mechanism; later: "" */
    bool has_initial; /* first step: INPUT is an initial response, which may
                         be empty */
    struct buf input; /* owned by the step */
    enum sasl_outcome outcome; /* set by the run, as the rest */
    struct buf output;
    struct error err; /* with SASL_FAILED, for the log: ERR_AUTH wrong
                         credentials, ERR_DENIED may not act for that user,
                         ERR_PROTO bad exchange, ERR_UNSUPPORTED no such
                         mechanism (in this state), ERR_AGAIN the check
                         itself failed (database or saslauthd down) */
};

/* Do the step here and now; may block. */
void
saslsrv_do(struct saslsrv_step *step);
/* Do it on a worker, then DONE(CTX) on R; nothing else may use the exchange or
 * the step in between. */
void
saslsrv_run(struct reactor *r, struct saslsrv_step *step,
            void (*done)(void *ctx), void *ctx);
/* Frees the bytes of a step, not the step. */
void
saslsrv_step_clear(struct saslsrv_step *step);

/*
 * A plain name and password (LOGIN of IMAP, USER and PASS): no mechanism.  May
 * block; an error's code is one of those of saslsrv_step.err.
 * In clear without allow_plain: ERR_DENIED without looking.
 */
MUST_CHECK enum errcode
saslsrv_check_password(struct saslsrv *s, struct span user,
                       struct span password, struct error *err);
/* The same on a worker: fill in, run, read outcome and err. */
struct saslsrv_login {
    struct saslsrv *s;
    struct buf user;
    struct buf password;     /* wiped after the check */
    struct error err;        /* code ERR_OK: welcome */
    void (*done)(void *ctx); /* private */
    void *ctx;               /* private */
};
void
saslsrv_run_login(struct reactor *r, struct saslsrv_login *login,
                  void (*done)(void *ctx), void *ctx);

/* After SASL_SUCCESS or a good login: whose credentials, and for whom. */
const char *
saslsrv_authenticated(const struct saslsrv *s);
const char *
saslsrv_authorized(const struct saslsrv *s);
/* The mechanism used, "LOGIN-COMMAND" for a plain login; "" before. */
const char *
saslsrv_mech(const struct saslsrv *s);

/* The client's side; strings are copied. */
struct saslcli_options {
    const char *service;
    const char *hostname; /* of the server */
    const char *authname; /* who we are */
    const char *authzid;  /* for whom we act; NULL: ourselves */
    const char *password; /* NULL: none (EXTERNAL) */
    const char *realm;    /* NULL: none */
    const char *mechs;    /* allowed, blank-separated; NULL: any */
    unsigned tls_bits;    /* 0: no TLS */
    bool external;        /* our certificate was shown: EXTERNAL may be used */
};

struct saslcli;

MUST_CHECK enum errcode
saslcli_new(const struct saslcli_options *options, struct saslcli **ret,
            struct error *err);
void
saslcli_free(struct saslcli **c);
/*
 * Choose the best of OFFERED (blank-separated) and begin.  *RET_MECH lives as
 * long as C; with *RET_HAS_INITIAL the bytes of OUT are the initial response.
 * Errors: ERR_UNSUPPORTED (no mechanism in common), ERR_AUTH.
 */
MUST_CHECK enum errcode
saslcli_start(struct saslcli *c, const char *offered, const char **ret_mech,
              bool *ret_has_initial, struct buf *out, struct error *err);
/*
 * The server's challenge in, our answer out (appended).  Errors: ERR_AUTH (the
 * server could not prove itself, or we cannot answer), ERR_PROTO.
 */
MUST_CHECK enum errcode
saslcli_step(struct saslcli *c, struct span challenge, struct buf *out,
             struct error *err);
/*
 * The server said success, with these last bytes if it sent any.  ERR_AUTH if
 * the mechanism has not ended: a server that proves nothing is not believed.
 */
MUST_CHECK enum errcode
saslcli_finish(struct saslcli *c, bool has_data, struct span data,
               struct error *err);

/*
 * Base64 as SASL profiles use it (RFC 4648, 4; padding demanded; nothing else
 * inside).  False if it is not that or OUT would pass its maximum.
 */
MUST_CHECK bool
sasl_decode_base64(struct span in, struct buf *out);
void
sasl_encode_base64(struct span in, struct buf *out);

#endif
