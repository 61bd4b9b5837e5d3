/*
 * csync/session.h - one client of sync_server; shared by csync/server.c
 * (commands), csync/login.c, csync/take.c (the replica's end of log and seed),
 * csync/give.c (the giving end of a seed) and csync/lend.c (what a damaged twin
 * asks for).  Private to this folder.
 *
 * A session lives on its connection's reactor.  What may block runs on a worker
 * with input paused; a session whose connection went stays until its last job
 * has come back.
 */
#ifndef POLLUX_CSYNC_SESSION_H
#define POLLUX_CSYNC_SESSION_H

#include <pthread.h>

#include "base/log.h"
#include "csync/server.h"
#include "csync/squeeze.h"
#include "store/seed.h"

enum session_phase {
    PHASE_COMMAND,
    PHASE_SASL,      /* the client owes an answer to a challenge */
    PHASE_SASL_LAST, /* success is certain; an empty line is owed */
    PHASE_TAKE_LOG,
    PHASE_TAKE_SEED,
    PHASE_GIVE_SEED,
    PHASE_LEND,
    PHASE_STATE, /* a MAILBOX or MESSAGE is coming in */
};

struct giver;
struct request;

/* The ADMIN requests of one server that run now. */
struct request_list {
    pthread_mutex_t lock;
    pthread_cond_t gone; /* one has ended */
    struct request *head;
    unsigned n, max;
    bool closed; /* none is taken */
};

struct csync_session {
    struct csync_server *server;
    struct conn *conn; /* NULL once closed */
    struct reactor *reactor;
    struct log_ctx log;
    enum session_phase phase;
    bool authenticated;
    bool permitted; /* an admin, or let in by the control socket */
    unsigned jobs;  /* workers and commits that will come back */
    struct saslsrv *sasl;
    struct saslsrv_step step;
    struct arena arena; /* of the command under way */

    /* a blocking call under way */
    void (*work)(struct csync_session *s);
    void (*after)(struct csync_session *s);
    enum errcode work_code;
    struct error work_err;
    struct buf work_out;
    struct span verb;
    const struct dlist *args;

    /* PHASE_TAKE_LOG */
    struct store *store;
    epoch_t epoch; /* that we follow here */
    lsn_t received;
    struct store_pos reached;
    uint64_t ping;
    bool ack_due;
    bool on_receipt; /* each batch is acknowledged when it has come */
    bool ending;     /* END came: close after the last acknowledgement */
    struct reactor_deferred ack_call;

    struct unsqueezer *unsqueezer; /* of a stream or a seed; or NULL */

    /* PHASE_TAKE_SEED */
    struct seed *seed;
    struct store_pos seed_pos;

    /* PHASE_GIVE_SEED */
    struct giver *giver;

    /* ADMIN: what runs for this session; input is kept, not used. */
    struct request *request;

    /* PHASE_LEND */
    struct lend_request lend;

    /* GET, APPLY; PHASE_STATE */
    struct state_session *state;
};

struct crc_cache *
session_crc_cache(const struct csync_session *s);

const struct csync_server_options *
session_options(const struct csync_session *s);
const struct csync_instance *
session_instance(const struct csync_session *s);
/* Run WORK on a worker with input paused, then AFTER here, unless the
 * connection went meanwhile. */
void
session_offload(struct csync_session *s, void (*work)(struct csync_session *s),
                void (*after)(struct csync_session *s));
void
session_job_begin(struct csync_session *s);
/* A job came back; frees S if it was the last of a closed one: then true. */
bool
session_job_end(struct csync_session *s);
void
session_send(struct csync_session *s, uint8_t type, struct span payload);
/* Send LOGMSG_ERROR, log it, and close. */
void
session_fail(struct csync_session *s, enum errcode code,
             const struct error *err);
/* "NO CODE text CRLF" for what failed. */
void
session_refuse(struct csync_session *s, enum errcode code,
               const struct error *err);

/* csync/request.c: run RUN(CTX, s->verb, s->args, ...) on a thread of its own;
 * then DONE here, with what it said, unless the connection went meanwhile. */
struct request_job {
    enum errcode (*run)(void *ctx, struct span verb, const struct dlist *args,
                        const struct csync_answer *answer, struct error *err);
    void *ctx;
    void (*done)(struct csync_session *s, enum errcode code,
                 const struct error *err);
    struct request_list *list;
};
void
request_run(struct csync_session *s, const struct request_job *job);
struct request_list *
session_state_requests(const struct csync_session *s);

/* The same for ADMIN s->verb s->args; the peer took something; nobody
 * waits any more. */
void
request_begin(struct csync_session *s);
void
request_drained(struct csync_session *s);
void
request_cancel(struct csync_session *s);
struct request_list *
session_requests(const struct csync_session *s);
void
request_list_init(struct request_list *l, unsigned max);
void
request_list_free(struct request_list *l);
/* Cancel all, take no more, and wait until none is left. */
void
request_list_close(struct request_list *l);
void
request_list_open(struct request_list *l);

/* csync/verbs.c: the command families, by s->verb and s->args. */
void
session_cmd_log(struct csync_session *s);
void
session_cmd_node(struct csync_session *s);
void
session_cmd_admin(struct csync_session *s);

/* csync/login.c: a new exchange (false: hung up); its first step, from what
 * follows AUTHENTICATE; the client's answer to a challenge. */
bool
login_begin(struct csync_session *s);
void
login_start(struct csync_session *s, struct span rest);
void
login_answer(struct csync_session *s, struct span line);

/* The command lacks KEY: ERR_PROTO in work_err. */
enum errcode
session_missing(struct csync_session *s, const char *key);

/* csync/follow.c: LOG OPEN, STREAM, RESEED, SEED; on a worker, and then here */
void
follow_work_open(struct csync_session *s);
void
follow_work_stream(struct csync_session *s);
void
follow_begin_stream(struct csync_session *s);
void
follow_work_reseed(struct csync_session *s);
void
follow_work_seed(struct csync_session *s);
void
follow_begin_seed(struct csync_session *s);

/* csync/take.c */
void
take_log_begin(struct csync_session *s);
/* One message from the master.  Any error ends the session. */
MUST_CHECK enum errcode
take_message(struct csync_session *s, const struct logmsg *m,
             struct error *err);
void
take_seed_begin(struct csync_session *s);
void
take_end(struct csync_session *s);

/* csync/give.c */
void
give_begin(struct csync_session *s);
/* One message from who is given the seed.  Any error ends the session. */
MUST_CHECK enum errcode
give_message(struct csync_session *s, const struct logmsg *m,
             struct error *err);
/* csync/tree.c: LOG USERS, LOG MAILBOXES, LOG ROWS; on a worker */
void
tree_work_users(struct csync_session *s);
void
tree_work_mailboxes(struct csync_session *s);
void
tree_work_rows(struct csync_session *s);

/* csync/lend.c */
void
lend_work(struct csync_session *s);
void
lend_begin(struct csync_session *s);
MUST_CHECK enum errcode
lend_message(struct csync_session *s, const struct logmsg *m,
             struct error *err);

void
give_drained(struct csync_session *s);
void
give_end(struct csync_session *s);

#endif
