/*
 * csync/state.h - CSYNC by state, the server's side: GET, APPLY and RESTART as
 * a Cyrus 3.6 says them; shared by csync/state*.c.  Private to this folder.
 *
 * Reading and writing the store takes time, so each command runs on a thread of
 * its own (csync/request.c), one at a time for a session.  MAILBOX and MESSAGE
 * are read as they come, on the reactor (csync/sync_read.h).
 */
#ifndef POLLUX_CSYNC_STATE_H
#define POLLUX_CSYNC_STATE_H

#include "csync/session.h"
#include "csync/sync_read.h"
#include "store/txn.h"

/* ---- from the store (csync/state_load.c) ------------------------------- */

/* CRCs of mailboxes by what they are computed from: a mailbox of the same
 * digest has the same.  Any thread. */
struct crc_cache;
struct crc_cache *
crc_cache_new(void);
void
crc_cache_free(struct crc_cache **c);

/* ID as a MAILBOX without RECORDs.  CACHE NULL: compute.  ERR_NOTFOUND,
 * ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
bystate_load_mailbox(struct store_snap *snap, mbid_t id,
                     struct crc_cache *cache, struct arena *a,
                     struct sync_mailbox *ret, struct error *err);
/* Annotations of message M as a RECORD has them, M being a row. */
MUST_CHECK enum errcode
bystate_load_record(struct store_snap *snap, mbid_t id, const struct message *m,
                    struct arena *a, struct sync_record *ret,
                    struct error *err);
/* Annotations of a mailbox (UID 0) or message as they are. */
MUST_CHECK enum errcode
bystate_load_annots(struct store_snap *snap, mbid_t id, uint32_t uid,
                    struct arena *a, const struct sync_annot **ret,
                    size_t *ret_n, struct error *err);

/* ---- commands ----------------------------------------------------------- */

/* ---- sessions (csync/state.c) -------------------------------------------- */

struct state_session; /* what a session has beside */

/* "GET" and "APPLY" with s->verb and s->args; "RESTART". */
void
bystate_begin_get(struct csync_session *s);
void
bystate_begin_apply(struct csync_session *s);
void
bystate_restart(struct csync_session *s);
/*
 * A command whose line is not waited for: is IN the beginning of one?  Then
 * PARSE_DONE, *RET_USED bytes of it are used and PHASE_STATE begun; PARSE_MORE:
 * cannot be told yet; PARSE_BAD: it is none.
 */
enum parse
bystate_begin_line_input(struct csync_session *s, struct span in,
                         size_t *ret_used);
/* PHASE_STATE: bytes used. */
size_t
bystate_input(struct csync_session *s, struct span in);
void
bystate_free(struct csync_session *s);

/* What one command works with. */
struct state_call {
    struct store *store;
    struct env *env;
    struct span verb;
    const struct dlist *args; /* NULL: none */
    const struct csync_answer *answer;
    struct crc_cache *cache;
    bool *force; /* of the session: overwrite instead of complaining */
    struct arena arena;
    struct buf out; /* of one line, to be given out */
};

/*
 * Codes mean, to the peer: ERR_NOTFOUND NONEXISTENT, ERR_HISTORY CHECKSUM,
 * ERR_GAP SYNC_CHANGED, ERR_EXISTS MOVED, ERR_AGAIN ERR_BUSY ERR_CONFLICT
 * LOCKED, ERR_UNSUPPORTED NOTSUPPORTED, ERR_SYNTAX BAD_PARAMETERS, ERR_PROTO
 * PROTOCOL_ERROR; the others as session_refuse() says them.
 */
MUST_CHECK enum errcode
bystate_get(struct state_call *c, struct error *err);
MUST_CHECK enum errcode
bystate_apply(struct state_call *c, struct error *err);
/* APPLY MAILBOX. */
MUST_CHECK enum errcode
bystate_take_mailbox(struct state_call *c, const struct sync_mailbox *mb,
                     struct error *err);
/* May this instance be changed by a peer?  ERR_READONLY, ERR_FENCED. */
MUST_CHECK enum errcode
bystate_check_role(const struct store *store, struct error *err);
/* Everything of USER beside mail, as GET META has it (csync/state_meta.c). */
MUST_CHECK enum errcode
bystate_print_meta(struct state_call *c, struct store_snap *snap,
                   const char *user, struct error *err);
MUST_CHECK enum errcode
bystate_get_meta(struct state_call *c, struct store_snap *snap,
                 struct error *err);
MUST_CHECK enum errcode
bystate_get_seen(struct state_call *c, struct store_snap *snap,
                 struct error *err);
/* The argument where it is one string; "" for NIL. */
MUST_CHECK enum errcode
bystate_one_text(struct state_call *c, const char **ret, struct error *err);
/* Give out C->out, and empty it.  ERR_CLOSED: nobody waits any more. */
MUST_CHECK enum errcode
bystate_say(struct state_call *c, struct error *err);
/* "* " and a printer of what follows; bystate_end_line() ends it. */
void
bystate_begin_line(struct state_call *c, struct dlist_printer *p);
MUST_CHECK enum errcode
bystate_end_line(struct state_call *c, struct error *err);

#endif
