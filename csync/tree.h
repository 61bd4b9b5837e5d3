/*
 * csync/tree.h - asking for the tree of digests (store/tree.h): LOG USERS, LOG
 * MAILBOXES, LOG ROWS.  Each answer is of a view of its own and says of which
 * LSN; who compares two stores begins again when they are not the same.
 */
#ifndef POLLUX_CSYNC_TREE_H
#define POLLUX_CSYNC_TREE_H

#include "csync/client.h"

/* ---- the side that asks ------------------------------------------------ */

/* Entries of one answer are bounded; MORE: ask again from behind the last. */
struct tree_view {
    lsn_t lsn;
    uint64_t digest; /* of all */
    bool more;
};

struct tree_user {
    const char *name;
    uint64_t digest;
};

struct tree_mailbox {
    const char *name;
    mbid_t id;
    uint64_t hash; /* of its head, which holds the digest of the rest */
    uint32_t exists, uidnext;
    modseq_t highestmodseq;
};

struct tree_row {
    struct span key;
    uint64_t hash;
};

/* All live in A.  AFTER NULL: from the first.  Errors as csync_command(). */
MUST_CHECK enum errcode
tree_ask_users(struct csync_client *c, const char *after, struct arena *a,
               struct tree_view *ret_view, struct tree_user **ret,
               size_t *ret_n, struct error *err);
/* One user; ERR_NOTFOUND if there is none (*RET_VIEW is set all the same). */
MUST_CHECK enum errcode
tree_ask_user(struct csync_client *c, const char *user, struct arena *a,
              struct tree_view *ret_view, uint64_t *ret, struct error *err);
MUST_CHECK enum errcode
tree_ask_mailboxes(struct csync_client *c, const char *user, struct arena *a,
                   struct tree_view *ret_view, struct tree_mailbox **ret,
                   size_t *ret_n, struct error *err);
/* ID 0: rows of the user that are in no mailbox. */
MUST_CHECK enum errcode
tree_ask_rows(struct csync_client *c, const char *user, mbid_t id,
              struct span after, struct arena *a, struct tree_view *ret_view,
              struct tree_row **ret, size_t *ret_n, struct error *err);

#endif
