/*
 * metrics/metrics.h - looking at a running instance over HTTP: metrics for
 * Prometheus, health for load balancers, a status page for people.
 *
 *   /               the page, which asks for
 *   /status.json    all that it shows
 *   /metrics        OpenMetrics 1.0
 *   /health/live    200 while the instance is not stuck
 *   /health/ready   200 while it serves clients (a replica does, read-only)
 *   /health/master  200 while it takes mail: role master, no fence
 *
 * Nothing can be changed through it, and nobody logs in: whoever reaches the
 * address can read.  So it is off unless metrics_listen is set, and a port
 * alone is one of loopback.
 */
#ifndef POLLUX_METRICS_METRICS_H
#define POLLUX_METRICS_METRICS_H

#include "base/config.h"
#include "base/tally.h"
#include "net/listener.h"

struct node;

/* A line of SERVICES, as it is now. */
struct metrics_service {
    char name[64];
    char protocol[16]; /* "imap" */
    char address[128]; /* where it listens; "" */
    uint64_t conns;    /* now */
    uint64_t sessions; /* since the start, as the rest */
    uint64_t logins, login_failures;
    uint64_t messages, delivered, duplicates, refused; /* LMTP */
};

/* The commands of one protocol. */
struct metrics_protocol {
    const char *name;
    size_t ncommands;
    const char *(*command)(size_t i);
    const struct command_tally *commands;
};

/* The search index (search/indexer.h). */
struct metrics_index {
    bool is_wanted; /* search_engine; false: the rest is 0 */
    bool is_open;
    bool is_failing; /* it could not be opened, or brought level */
    bool is_level;
    char why[32];      /* the code of the last failure; "": none */
    uint64_t waiting;  /* mailboxes to be looked at; at least */
    uint64_t left;     /* messages not in it; at most */
    uint64_t messages; /* since the start, as the rest */
    uint64_t skipped;
    uint64_t read_bytes;
    uint64_t failures;
    uint64_t failed_us; /* wall clock of the last one; 0: none */
    uint64_t bytes;     /* of its files */
};

/* Whom metrics are of.  Calls from any thread. */
struct metrics_host {
    struct env *env;
    const struct config *cfg;
    const char *dir; /* configdirectory */
    struct node *node;
    const struct metrics_protocol *protocols;
    size_t nprotocols;
    void *ctx;
    /* Up to MAX services into RET; how many. */
    size_t (*services)(void *ctx, struct metrics_service *ret, size_t max);
    void (*index)(void *ctx, struct metrics_index *ret);
    bool (*is_serving)(void *ctx);
    /* Milliseconds since the main thread went round last. */
    uint64_t (*heartbeat_ms)(void *ctx);
};

struct metrics;

/*
 * Where to listen, as metrics_listen says: "9405" (of 127.0.0.1), "HOST:9405",
 * "[::1]:9405", "*:9405" (every address), "/a/socket".  ERR_SYNTAX.
 */
MUST_CHECK enum errcode
metrics_listen_parse(const char *listen, struct listen_spec *ret,
                     struct error *err);

/*
 * Listen on SPEC, and look at HOST (copied; what it points to must live as long
 * as *RET) once a second.  Threads: one for connections, one that renders, one
 * that looks, one that asks the twins.  Errors: those of listener_bind(),
 * ERR_IO (no thread).
 */
MUST_CHECK enum errcode
metrics_start(const struct metrics_host *host, const struct listen_spec *spec,
              struct metrics **ret, struct error *err);
/* Before node and configuration go; takes as long as a twin that does not
 * answer, 2 s.  NULL is fine. */
void
metrics_stop(struct metrics **m);
/* Where it listens. */
const char *
metrics_address(const struct metrics *m);

#endif
