/*
 * csync/peer.h - CSYNC by state, the asking side: commands to a csync server (a
 * Cyrus, a Pollux, our own instance over its control socket) and their answers
 * as structs.  Blocking; one thread at a time.
 */
#ifndef POLLUX_CSYNC_PEER_H
#define POLLUX_CSYNC_PEER_H

#include "csync/client.h"
#include "csync/sync_read.h"

struct sync_peer;

/* What comes back; members may be NULL. */
struct sync_answer {
    void *ctx;
    /* A MAILBOX; MB lives until this returns, what is to stay is taken with
     * sync_reader_*(); IS_HEAD_ONLY as there. */
    enum errcode (*mailbox)(void *ctx, struct sync_mailbox *mb,
                            bool is_head_only, struct error *err);
    /* Any other line; D lives until this returns. */
    enum errcode (*line)(void *ctx, const struct dlist *d, struct error *err);
    struct sync_files files; /* of MESSAGE lines */
};

/* Takes over C, which may be NULL after.  STOP (or NULL) is asked while it
 * waits. */
struct sync_peer *
peer_new(struct csync_client **c, int timeout_ms, bool (*stop)(void *ctx),
         void *stop_ctx);
void
peer_free(struct sync_peer **p);
/* For questions of csync/client.h between two commands. */
struct csync_client *
peer_client(struct sync_peer *p);
/* P is our own instance: what it answers is not bounded. */
void
peer_set_own(struct sync_peer *p);
/* APPLYs are not sent from now on, but said on stdout and taken as done. */
void
peer_set_dry(struct sync_peer *p);
bool
peer_is_pollux(const struct sync_peer *p);
const char *
peer_name(const struct sync_peer *p);
/* Commands sent so far, and those among them that change something. */
uint64_t
peer_commands(const struct sync_peer *p, uint64_t *ret_applies);

/* A command in pieces: bytes of it, then its end with the answer. */
MUST_CHECK enum errcode
peer_send(struct sync_peer *p, struct span bytes, struct error *err);
/*
 * CRLF, and read the answer.  ERR_OK: OK.  NO: ERR_NOTFOUND (NONEXISTENT),
 * ERR_HISTORY (CHECKSUM), ERR_GAP (SYNC_CHANGED), ERR_EXISTS (MOVED), ERR_AGAIN
 * (LOCKED), ERR_UNSUPPORTED, ERR_SYNTAX, ERR_READONLY, ERR_FENCED, ERR_DENIED
 * (any other NO).  ERR_CLOSED, ERR_TIMEOUT, ERR_PROTO, ERR_IO: the connection
 * is of no use any more (peer_is_broken()).  Or what a member of A said.
 */
MUST_CHECK enum errcode
peer_finish(struct sync_peer *p, const struct sync_answer *a,
            struct error *err);
/* All of it: LINE without its end. */
MUST_CHECK enum errcode
peer_command(struct sync_peer *p, struct span line, const struct sync_answer *a,
             struct error *err);
bool
peer_is_broken(const struct sync_peer *p);

#endif
