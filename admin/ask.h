/*
 * admin/ask.h - one request as its handler sees it: arguments, rows of the
 * answer, progress, transactions at a bounded rate.  Private to this folder.
 */
#ifndef POLLUX_ADMIN_ASK_H
#define POLLUX_ADMIN_ASK_H

#include "admin/admin.h"
#include "csync/dlist.h"
#include "store/names.h"
#include "store/txn.h"

struct ask {
    const struct admin_host *host;
    struct env *env;
    const struct config *cfg;
    struct store *store;
    const struct dlist *args; /* NULL: none */
    const struct csync_answer *answer;
    struct namespace ns;
    struct arena arena; /* of the whole request */
    struct buf line;    /* the row being made */
    struct dlist_printer row;
    uint64_t told_ns; /* when progress was told last */
};

/* Arguments.  NULL, false, an empty list: not given. */
const char *
ask_text(struct ask *ask, const char *name);
bool
ask_flag(const struct ask *ask, const char *name);
/* ERR_SYNTAX if it is there and no number; *RET is untouched if it is not. */
MUST_CHECK enum errcode
ask_u64(const struct ask *ask, const char *name, uint64_t *ret,
        struct error *err);
/* The first element of the list NAME; go on with ->next.  NULL: none. */
const struct dlist *
ask_list(const struct ask *ask, const char *name);
/* A set of UIDs, "1:5,9"; *RET_GIVEN false if it is not there.  ERR_SYNTAX. */
MUST_CHECK enum errcode
ask_uids(struct ask *ask, const char *name, struct uidset *ret, bool *ret_given,
         struct error *err);

/* Rows: begin, fill in with dlist_*(), end.  Ending is ERR_CLOSED when nobody
 * waits for the answer any more. */
struct dlist_printer *
ask_row(struct ask *ask, const char *name);
MUST_CHECK enum errcode
ask_row_end(struct ask *ask, struct error *err);
/* Of a message that begins with HEADER its FIELD, decoded, as KEY; a long one
 * is cut. */
void
ask_field(struct dlist_printer *p, const char *key, struct span header,
          const char *field);
/* So far; TOTAL 0: not known.  Told a few times a second at most.  ERR_CLOSED
 * as above. */
MUST_CHECK enum errcode
ask_progress(struct ask *ask, uint64_t done, uint64_t total, struct error *err);

/*
 * Commit TXN.  Beside clients it then waits for as long as the commit took, so
 * that tools have half of the writer at most.  ERR_CLOSED (TXN is done), and
 * those of store_commit().
 */
MUST_CHECK enum errcode
ask_commit(struct ask *ask, struct store_txn *txn, struct error *err);

/* Names as an admin writes and reads them (unixhierarchysep). */
MUST_CHECK enum errcode
ask_internal(struct ask *ask, struct span external, struct arena *a,
             const char **ret, struct error *err);
const char *
ask_external(struct ask *ask, const char *internal, struct arena *a);
/* With what the internal names of "EXTERNAL..." begin. */
const char *
ask_prefix(struct ask *ask, struct span external);

/*
 * The mailboxes that a request is about, as numbers, so that a long walk holds
 * no snapshot: all, or those that NAMES, PREFIX, USER of the request name.
 */
struct ask_mailboxes {
    mbid_t *ids;
    size_t n, room;
};
void
ask_mailboxes_free(struct ask_mailboxes *m);
/* Those whose internal name begins with PREFIX ("": all but deleted ones; with
 * DELETED those too), and CALL (NULL: all) agrees to. */
MUST_CHECK enum errcode
ask_mailboxes_below(struct ask *ask, const char *prefix,
                    bool (*call)(void *ctx, const struct mailbox *mb),
                    void *ctx, struct ask_mailboxes *ret, struct error *err);
/* NAME itself, and with TREE what is below it; a name may end in '*' or '%'.
 * ERR_NOTFOUND. */
MUST_CHECK enum errcode
ask_mailboxes_named(struct ask *ask, struct span external, bool tree,
                    struct ask_mailboxes *ret, struct error *err);
/* INBOX of USER and what is below it.  ERR_NOTFOUND. */
MUST_CHECK enum errcode
ask_mailboxes_of(struct ask *ask, struct span user, struct ask_mailboxes *ret,
                 struct error *err);

/* The verbs; each in a file of its own. */
enum errcode
admin_recover(struct ask *ask, struct error *err);
enum errcode
admin_checkpoint(struct ask *ask, struct error *err);
enum errcode
admin_mailboxes(struct ask *ask, struct error *err);
enum errcode
admin_verify(struct ask *ask, struct error *err);
enum errcode
admin_load(struct ask *ask, struct error *err);
enum errcode
admin_remove(struct ask *ask, struct error *err);
enum errcode
admin_path(struct ask *ask, struct error *err);
enum errcode
admin_examine(struct ask *ask, struct error *err);
enum errcode
admin_expunged(struct ask *ask, struct error *err);
enum errcode
admin_unexpunge(struct ask *ask, struct error *err);
enum errcode
admin_quota(struct ask *ask, struct error *err);
enum errcode
admin_quota_fix(struct ask *ask, struct error *err);
enum errcode
admin_expire(struct ask *ask, struct error *err);
enum errcode
admin_reconstruct(struct ask *ask, struct error *err);
enum errcode
admin_archive(struct ask *ask, struct error *err);
enum errcode
admin_index(struct ask *ask, struct error *err);
enum errcode
admin_deliveries(struct ask *ask, struct error *err);
enum errcode
admin_backup(struct ask *ask, struct error *err);
enum errcode
admin_export(struct ask *ask, struct error *err);
enum errcode
admin_import(struct ask *ask, struct error *err);
enum errcode
admin_history(struct ask *ask, struct error *err);
enum errcode
admin_history_body(struct ask *ask, struct error *err);
enum errcode
admin_history_drop(struct ask *ask, struct error *err);
enum errcode
admin_history_export(struct ask *ask, struct error *err);

#endif
