/*
 * imapd/session_private.h - a session's fields, and what the commands' files
 * share.
 */
#ifndef POLLUX_IMAPD_SESSION_PRIVATE_H
#define POLLUX_IMAPD_SESSION_PRIVATE_H

#include "base/log.h"
#include "imapd/parse.h"
#include "imapd/reader.h"
#include "imapd/seqmap.h"
#include "imapd/session.h"
#include "imapd/write.h"
#include "net/sasl.h"
#include "store/acl.h"
#include "store/txn.h"

/* What a command's step says. */
enum run {
    RUN_DONE,  /* over: the reply is set */
    RUN_YIELD, /* enough for this turn: call again in the next */
    RUN_FULL,  /* the client must read first: call again when it has */
    RUN_WAIT,  /* a commit or a worker is under way, it will call */
};

enum imap_state {
    STATE_NOT_AUTH = 1U << 0,
    STATE_AUTH = 1U << 1,
    STATE_SELECTED = 1U << 2,
    STATE_LOGOUT = 1U << 3,
};

/* Who takes the client's bytes. */
enum input_mode {
    INPUT_COMMAND,
    INPUT_APPEND, /* a message of APPEND streams in */
    INPUT_SASL,   /* a line of AUTHENTICATE */
    INPUT_IDLE,   /* DONE */
};

/* What one transaction of ours has changed, and the client was told: rows of
 * these UIDs up to this MODSEQ are no news. */
struct own_change {
    struct uidset uids;
    uint32_t first; /* the lowest of these UIDs and all noted later */
    uint32_t last;  /* the highest of these and all noted before */
    modseq_t modseq;
};

/* A mailbox that is selected. */
struct selected {
    mbid_t id;
    bool readonly;   /* EXAMINE, or no right to change anything */
    bool on_replica; /* READ-ONLY was told for that alone, and so far */
    uint32_t rights;
    uint32_t uidvalidity;
    struct seqmap map;
    struct uidset gone;   /* expunged, and the client does not know yet */
    modseq_t gone_modseq; /* the lowest of them */
    struct uidset recent; /* \Recent in this session */
    modseq_t modseq;      /* up to here the client knows, but for `gone` */
    uint32_t uidnext;     /* of the view that the map is of */
    size_t nkeywords;     /* told with FLAGS */
    /* Of the command under way, in the order of its UIDs: a change of somebody
     * else between two of them is news. */
    struct own_change *own;
    size_t nown;
    struct uidset saved;      /* UIDs that "$" stands for (RFC 5182) */
    struct context *contexts; /* imapd/context.h */
    struct uidset pending;    /* changed, for them to look at */
    uint32_t fresh_uid;       /* from here on messages came last */
    bool annotate; /* SELECT (ANNOTATE): names of annotations are told */
    bool own_seen; /* the user's \Seen is not in the flags, but here: */
    struct uidset seen;
};

/* What an inner command (imapd/notify.c) runs inside of. */
struct outer {
    struct imap_command *cmd; /* IDLE, or NULL: none */
    enum run (*run)(struct imap_session *s);
    enum input_mode mode;
    struct arena arena;
};

struct notify;     /* imapd/notify.h */
struct append_job; /* imapd/append.c */
struct context;    /* imapd/context.c */

struct imap_session {
    const struct imapd_options *opt;
    const struct session_io *io;
    void *io_ctx;
    struct imap_counters *counters;
    struct store *store;
    struct search_index *index; /* NULL: there is none */
    struct log_ctx log;

    enum imap_state state;
    enum input_mode mode;
    struct imap_reader reader;
    struct buf out; /* goes to io->write() at the end of each step */

    /* The command under way. */
    struct arena arena;
    struct imap_command *cmd; /* NULL: none */
    uint64_t cmd_began_ns;
    enum run (*run)(struct imap_session *s);
    void *job;                               /* in the arena */
    void (*job_end)(struct imap_session *s); /* gives back what it holds */
    char *reply;           /* tagged, without the tag; NULL: none to be sent */
    struct store_txn *txn; /* after a commit: what came of it */
    bool running;          /* inside session_run() */
    uint64_t progress_ns;  /* when something was told of it last */
    uint64_t progress_done, progress_goal; /* 0: not known */
    uint32_t limited_uid; /* only messages from here on; 0: all */
    bool waiting;         /* a commit or a worker will call */
    bool ahead;           /* a commit is under way, and s->txn not to be had */
    bool full;            /* waits for the client to read */

    /* Who. */
    char *user; /* NULL: nobody yet */
    bool is_admin;
    bool condstore;           /* RFC 7162: FETCH responses have MODSEQ */
    bool condstore_named;     /* by ENABLE, so it was told */
    bool qresync;             /* VANISHED in place of EXPUNGE */
    bool rev2;                /* ENABLE IMAP4rev2 (RFC 9051) */
    bool utf8_accept;         /* ENABLE UTF8=ACCEPT (RFC 6855) */
    bool uidonly;             /* ENABLE UIDONLY (RFC 9586) */
    bool compressed;          /* COMPRESS (RFC 4978) */
    struct session_peer peer; /* strings are ours */
    struct saslsrv *sasl;
    unsigned bad_commands;
    uint64_t skipped_bytes; /* of a refused command so far */

    struct selected *sel;
    bool inner; /* cmd is one that no client sent */
    struct outer outer;
    struct notify *notify;     /* NULL: nothing was asked for */
    struct store_watch *watch; /* in IDLE */
    /* Set by the writer's thread, which has posted wake_posted(). */
    _Atomic bool wake_posted;
    struct append_job *append;

    char *goodbye;     /* to be said when no command is under way */
    unsigned inflight; /* posts that will come back to us */
    bool closing;      /* BYE is said */
    bool dead;         /* the connection is gone */
};

/* ---- reply.c ----------------------------------------------------------- */

/* The tagged reply: "OK ...", "NO ...", "BAD ...".  Returns RUN_DONE. */
enum run
reply(struct imap_session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* By ERR's code, with the response code of RFC 5530; the text of ERR goes to
 * the log where it is ours to repair. */
enum run
reply_error(struct imap_session *s, const struct error *err);
/* "no such mailbox" of APPEND, COPY: [TRYCREATE]. */
enum run
reply_error_try(struct imap_session *s, const struct error *err);
/* s->out to the client. */
void
flush(struct imap_session *s);
/* The client must read first (after flushing what is a lot). */
bool
is_full(struct imap_session *s);
/* Say BYE and end.  TEXT may begin with a response code. */
void
say_bye(struct imap_session *s, const char *text);
/* The store takes no mutations here: the reply is set. */
bool
refuse_on_replica(struct imap_session *s);

/* ---- session.c --------------------------------------------------------- */

/* Hand TXN to the writer; AFTER runs with s->txn set.  Returns RUN_WAIT. */
enum run
submit(struct imap_session *s, struct store_txn *txn,
       enum run (*after)(struct imap_session *s));
/* Hand TXN to the writer and go on; submit_wait() has to follow. */
void
submit_ahead(struct imap_session *s, struct store_txn *txn);
/* AFTER runs with s->txn set, now or when what went ahead has come back. */
enum run
submit_wait(struct imap_session *s, enum run (*after)(struct imap_session *s));
/* DO_IT(s) on a worker, then AFTER.  The session touches nothing meanwhile. */
enum run
run_work(struct imap_session *s, void (*do_it)(void *session),
         enum run (*after)(struct imap_session *s));
/* WHOLE: also what is only possible after login. */
const char *
capabilities(struct imap_session *s, bool whole, struct arena *a);
/* The command under way goes on (or ends). */
void
session_run(struct imap_session *s);
/* To be followed by async_end() from a post. */
void
async_begin(struct imap_session *s);
/* The connection is gone and nothing is under way any more: free S. */
void
session_free_if_over(struct imap_session *s);
/* False: the session is gone with this. */
bool
async_end(struct imap_session *s);

/* ---- who.c ------------------------------------------------------------- */

enum run
cmd_enable(struct imap_session *s);

/* EXTERNAL as a mailbox of the store; sets the reply and returns NULL if it
 * cannot be. */
const char *
internal_name(struct imap_session *s, struct span external);
const char *
external_name(struct imap_session *s, const char *internal, struct arena *a);
/* Names are UTF-8 both ways. */
static inline bool
speaks_utf8(const struct imap_session *s)
{
    return s->rev2 || s->utf8_accept;
}

/* What the user may do there; admins and owners have more than the ACL says. */
uint32_t
rights_of(struct imap_session *s, const struct mailbox *mb);
/*
 * Look up NAME and demand NEED rights (none: l); what lacks them, and may not
 * even be seen, does not exist.  False: the reply is set.
 */
MUST_CHECK bool
find_mailbox(struct imap_session *s, struct store_snap *snap, struct span name,
             uint32_t need, struct mailbox *ret);
/* The same with at least one of NEED. */
MUST_CHECK bool
find_mailbox_any(struct imap_session *s, struct store_snap *snap,
                 struct span name, uint32_t need, struct mailbox *ret);

/* ---- select.c ---------------------------------------------------------- */

enum sync { SYNC_NONE, SYNC_NO_EXPUNGE, SYNC_ALL };

/* "* N FETCH (" of a message of the selected mailbox; with UIDONLY "* UID
 * UIDFETCH (". */
void
write_fetch_begin(struct imap_session *s, uint32_t uid);
/* The UID in an answer that did not ask for it, at its end.  FIRST: nothing is
 * in the parentheses yet. */
void
write_fetch_uid(struct imap_session *s, uint32_t uid, bool first);
/* Is UID to be shown with \Recent?  Not by IMAP4rev2. */
bool
shows_recent(const struct imap_session *s, uint32_t uid);
/* Tell the client what changed in the selected mailbox.  UIDS: FETCH responses
 * name the UID. */
void
sync_selected(struct imap_session *s, enum sync how, bool uids);
void
unselect(struct imap_session *s);
/* The client knows (or is being told by the command under way) what UIDS were
 * at MODSEQ.  Commands go up through their UIDs: what was noted before lies
 * below, or is of the same chunk. */
void
note_own(struct selected *sel, const struct uidset *uids, modseq_t modseq);
/*
 * The messages that the command's set names: UIDs (those not there are passed
 * over), or sequence numbers (one beyond the end: false, the reply is set).
 */
MUST_CHECK bool
resolve_set(struct imap_session *s, struct span set, bool uid,
            struct uidset *ret);
/*
 * RFC 9738: leave in UIDS no more than the command may be about, the highest
 * ones; the reply will say so.
 */
void
limit_messages(struct imap_session *s, struct uidset *uids);
void
idle_line(struct imap_session *s, struct span line);
/* Something that S watches has changed; from any thread.  S is woken on its
 * own, and there until then. */
void
wake_session(void *session);

enum run
cmd_select(struct imap_session *s);
enum run
cmd_close(struct imap_session *s);
enum run
cmd_idle(struct imap_session *s);
enum run
cmd_noop(struct imap_session *s);

/* ---- modseq.c ---------------------------------------------------------- */

/* A command that only makes sense with CONDSTORE was given. */
void
enable_condstore(struct imap_session *s);
/* UIDs of the mailbox that changed after SINCE and are there. */
MUST_CHECK enum errcode
changed_since(struct store_snap *snap, mbid_t id, modseq_t since,
              struct uidset *ret, struct error *err);
/*
 * "* VANISHED (EARLIER) ..." with those of KNOWN that went after SINCE; where
 * that is not known any more, those that are not there.
 */
MUST_CHECK enum errcode
tell_vanished(struct imap_session *s, struct store_snap *snap,
              const struct mailbox *mb, modseq_t since,
              const struct uidset *known, struct error *err);
/* "MODSEQ (n)" where the session wants it, with a blank before it unless it is
 * the FIRST item. */
void
write_modseq(struct imap_session *s, bool first, modseq_t modseq);

/* ---- seen.c ------------------------------------------------------------ */

/* Read what the user has seen of MB, where that is kept apart, into s->sel. */
MUST_CHECK enum errcode
load_seen(struct imap_session *s, struct store_snap *snap,
          const struct mailbox *mb, struct error *err);
/* The flags of a message of the selected mailbox, \Seen as this user has it. */
uint32_t
flags_seen(const struct imap_session *s, const struct message *msg);
/* How many messages of MB this user has not seen. */
MUST_CHECK enum errcode
count_unseen(struct imap_session *s, struct store_snap *snap,
             const struct mailbox *mb, uint32_t *ret, struct error *err);

/* ---- auth.c ------------------------------------------------------------ */

struct saslsrv *
session_sasl(struct imap_session *s); /* NULL: there is none */
void
sasl_line(struct imap_session *s, struct span line);
enum run
cmd_login(struct imap_session *s);
enum run
cmd_authenticate(struct imap_session *s);
enum run
cmd_starttls(struct imap_session *s);
enum run
cmd_compress(struct imap_session *s);
enum run
cmd_unauthenticate(struct imap_session *s);

/* ---- mailbox.c, acl.c, list.c ------------------------------------------ */

enum run
cmd_create(struct imap_session *s);
enum run
cmd_delete(struct imap_session *s);
enum run
cmd_rename(struct imap_session *s);
enum run
cmd_subscribe(struct imap_session *s);
enum run
cmd_status(struct imap_session *s);
/* "* STATUS name (...)" with ITEMS (STATUS_*) of MB, appended to OUT. */
MUST_CHECK enum errcode
write_status(struct imap_session *s, struct store_snap *snap,
             const struct mailbox *mb, const char *external, unsigned items,
             struct buf *out, struct error *err);
enum run
cmd_namespace(struct imap_session *s);
enum run
cmd_getacl(struct imap_session *s);
enum run
cmd_setacl(struct imap_session *s);
enum run
cmd_listrights(struct imap_session *s);
enum run
cmd_myrights(struct imap_session *s);
enum run
cmd_getquota(struct imap_session *s);
enum run
cmd_getquotaroot(struct imap_session *s);
enum run
cmd_setquota(struct imap_session *s);
enum run
cmd_list(struct imap_session *s);
/* "\sent \Trash" in the usual spelling; NULL: the reply is set. */
const char *
parse_uses(struct imap_session *s, struct span uses);
/* "* LIST (EXTRA...)" of MB: NAME is how the client wrote it (RFC 9051, 6.3.2),
 * or knows it; EXTRA ends in a blank or is empty. */
MUST_CHECK enum errcode
write_list_of(struct imap_session *s, struct store_snap *snap,
              const struct mailbox *mb, struct span name, const char *extra,
              struct error *err);
/* "* MYRIGHTS name rights" */
void
write_myrights(struct imap_session *s, const struct mailbox *mb);
/*
 * "* METADATA name (...)" with those of NAMES that MB has, NIL for the others
 * (RFC 9590).  Nothing where the user may not read them.
 */
MUST_CHECK enum errcode
write_metadata(struct imap_session *s, struct store_snap *snap,
               const struct mailbox *mb, const struct span *names,
               size_t nnames, struct error *err);
/* Is it a name of an entry, "/shared/..." or "/private/..."? */
bool
metadata_name_ok(struct imap_session *s, struct span name);
enum run
cmd_getmetadata(struct imap_session *s);
enum run
cmd_setmetadata(struct imap_session *s);

/* ---- messages.c, fetch.c, search.c, append.c --------------------------- */

enum run
cmd_store(struct imap_session *s);
enum run
cmd_copy(struct imap_session *s);
enum run
cmd_expunge(struct imap_session *s);
enum run
cmd_fetch(struct imap_session *s);
enum run
cmd_search(struct imap_session *s);
enum run
cmd_esearch(struct imap_session *s);
enum run
cmd_thread(struct imap_session *s);
/* The next N (at most) of ALL behind *DONE, which moves on, into RET; false if
 * there are none. */
bool
take_chunk(const struct uidset *all, uint32_t *done, uint64_t n,
           struct uidset *ret);
/* ---- derived.c --------------------------------------------------------- */

struct mime_cache;

/* Is there a derived record of MSG?  It replaces RET, into which *RET_MIME
 * points.  WALK: of the mailbox, for many; or NULL. */
MUST_CHECK bool
have_cache(struct store_snap *snap, struct cache_walk *walk, mbid_t id,
           const struct message *msg, struct buf *ret,
           struct mime_cache *ret_mime);
/* Make it from the message, and keep it.  Errors: of store_body_read(). */
MUST_CHECK enum errcode
make_cache(struct imap_session *s, mbid_t id, const struct message *msg,
           struct buf *ret, struct mime_cache *ret_mime, struct error *err);
/* The one or the other. */
MUST_CHECK enum errcode
load_cache(struct imap_session *s, struct store_snap *snap,
           struct cache_walk *walk, mbid_t id, const struct message *msg,
           struct buf *ret, struct mime_cache *ret_mime, struct error *err);

/* An APPEND's message literal is announced: take it or refuse it.  True: it
 * streams in. */
bool
append_begin(struct imap_session *s, const struct imap_command *head);
void
append_chunk(struct imap_session *s, struct span bytes);
void
append_drop(struct imap_session *s);
enum run
cmd_append(struct imap_session *s);

#endif
