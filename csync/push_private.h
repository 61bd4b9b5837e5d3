/*
 * csync/push_private.h - what the files csync/push*.c share.
 */
#ifndef POLLUX_CSYNC_PUSH_PRIVATE_H
#define POLLUX_CSYNC_PUSH_PRIVATE_H

#include "base/log.h"
#include "csync/peer.h"
#include "csync/push.h"

/* What has been done. */
struct push_counts {
    uint64_t users, mailboxes, sent, messages, bytes, failed, extra;
    uint64_t level;             /* users known to be, and not looked at */
    uint64_t commands, applies; /* of connections that are closed */
};

struct push {
    const struct push_options *o;
    struct log_ctx log;
    struct sync_peer *src; /* our instance */
    struct sync_peer *dst;
    struct push_counts counts;
    bool quiet; /* failures are not told: it is tried again */
    /* Told of who was not brought level; or NULL. */
    void (*on_failed)(void *ctx, const char *what, const char *name);
    void *failed_ctx;
    /* Told of what -A leaves behind: users, and mailboxes, whoever owns them;
     * or NULL. */
    void (*on_left)(void *ctx, bool is_user, const char *name);
    void *left_ctx;
    struct buf left; /* users who were not brought level, one a line */
};

/* Mailboxes of one side.  Records are not kept. */
struct push_list {
    struct sync_mailbox *v;
    size_t n, cap;
};

struct push_quota {
    const char *root;
    uint64_t limit[5]; /* in the order of push_quota_keys */
};
struct push_script {
    const char *file;
    struct span guid;
    bool is_active;
};

/* A user of one side, or as much of one as was asked for. */
struct push_user {
    struct arena arena;
    struct push_list mailboxes;
    struct push_quota *quotas;
    size_t nquotas;
    const char **subs;
    size_t nsubs;
    struct push_script *scripts;
    size_t nscripts;
    struct sync_seen *seen;
    size_t nseen;
};

#define PUSH_UNLIMITED UINT64_MAX

void
push_user_free(struct push_user *u);
/* Ask P; what comes is added to U. */
MUST_CHECK enum errcode
push_ask(struct sync_peer *p, struct push_user *u, struct error *err,
         const char *verb, const char *name);
/* The same with a list of names. */
MUST_CHECK enum errcode
push_ask_list(struct sync_peer *p, struct push_user *u, struct error *err,
              const char *verb, const char *const *names, size_t n);
/* APPLY VERB %(KEY VALUE ...) to the peer: pairs of strings, ended by NULL.
 * Errors as peer_command(). */
MUST_CHECK enum errcode
push_tell(struct push *p, struct error *err, const char *verb, ...);
/* A copy of MB, which lives as long as U. */
void
push_list_add(struct push_user *u, const struct sync_mailbox *mb);
struct sync_mailbox *
push_find(const struct push_list *l, const char *uniqueid);
struct sync_mailbox *
push_find_name(const struct push_list *l, const char *name);

/*
 * Mailboxes of HERE get their names there, wherever the peer has them (they are
 * added to THERE), and who is in the way goes aside.  IS_WHOLE: THERE is all
 * that a user has, and what of that is not here is counted as extra;
 * REMOVE_EXTRA: it gets a DELETED. name.  Errors of the connections, and
 * ERR_EXISTS.
 */
MUST_CHECK enum errcode
push_names(struct push *p, const struct push_user *here,
           struct push_user *there, bool is_whole, bool remove_extra,
           struct error *err);

/* csync/push.c: both ends made anew (their counts go into P's); ended. */
MUST_CHECK enum errcode
push_connect(struct push *p, struct error *err);
void
push_disconnect(struct push *p);
/* After a failure: is it worth to go on with the next one?  A connection that
 * was lost is made anew, some times in a row; else ERR stays. */
MUST_CHECK enum errcode
push_recover(struct push *p, unsigned *deads, struct error *err);
/* LEVEL for each of NAMES; who fails is told, counted and passed over.
 * ERR_CLOSED (told to stop), ERR_READONLY, ERR_FENCED, connections. */
MUST_CHECK enum errcode
push_each(struct push *p, const char *const *names, size_t n, const char *what,
          enum errcode (*level)(struct push *p, const char *name,
                                struct error *err),
          struct error *err);
/* csync/push_all.c: everybody, as PUSH_ALL has it. */
MUST_CHECK enum errcode
push_all(struct push *p, struct error *err);

/* Bring all of USER level.  ERR_CONFLICT: some of it is not. */
MUST_CHECK enum errcode
push_one_user(struct push *p, const char *user, bool remove_extra,
              struct error *err);
/* Only subscriptions, scripts and \Seen. */
MUST_CHECK enum errcode
push_meta(struct push *p, const char *user, struct error *err);
/* Mailboxes by their internal NAMES, whoever owns them. */
MUST_CHECK enum errcode
push_mailboxes(struct push *p, const char *const *names, size_t n,
               struct error *err);
/*
 * What the peer has of USER (or, USER NULL, the mailboxes NAMES) and we have
 * not at all: counted as extra, and given DELETED. names if that was asked for.
 */
MUST_CHECK enum errcode
push_gone(struct push *p, const char *user, const char *const *names, size_t n,
          struct error *err);
MUST_CHECK enum errcode
push_server_annotations(struct push *p, struct error *err);

/*
 * Bring one mailbox level: S is how it is here, D there (NULL: not there), ALL
 * what else is there (for RESERVE).  ERR_HISTORY: the peer has changes of its
 * own; errors of the connections.
 */
MUST_CHECK enum errcode
push_mailbox(struct push *p, const struct sync_mailbox *s,
             const struct sync_mailbox *d, const struct push_list *all,
             struct error *err);

/* PUSH_ROLLING and PUSH_ONCE.  CONNECT makes both ends of P anew. */
MUST_CHECK enum errcode
push_rolling(struct push *p,
             enum errcode (*connect)(struct push *p, struct error *err),
             enum errcode (*all)(struct push *p, struct error *err),
             struct error *err);

static inline bool
push_stopped(const struct push *p)
{
    const struct ship_options *o = p->o->ship;

    return o->stop != NULL && o->stop(o->stop_ctx);
}

/* Say and keep the name of a user who was not brought level. */
void
push_leave(struct push *p, const char *user);

/* Say and count what could not be done. */
void
push_complain(struct push *p, const char *what, const char *name,
              const struct error *err);

#endif
