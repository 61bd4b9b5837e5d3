/*
 * store/tree.h - the tree of digests, walked from the outside: root, users,
 * mailboxes, rows.  Two stores that differ are followed down only where they
 * do.
 *
 * The root is the exclusive or of what owner_hash() makes of each user's
 * digest; that of a user is the exclusive or of the hashes of the user's rows,
 * where a mailbox's head holds the digest of all that is in the mailbox.
 */
#ifndef POLLUX_STORE_TREE_H
#define POLLUX_STORE_TREE_H

#include "store/store.h"

/* Every user with a digest behind AFTER (NULL: from the first), by name; "" is
 * nobody: shared mailboxes and what belongs to the store.  CALL returns false
 * to stop.  ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
snap_tree_each_user(struct store_snap *snap, const char *after,
                    bool (*call)(void *ctx, const char *user, uint64_t digest),
                    void *ctx, struct error *err);
/* ERR_NOTFOUND: nothing belongs to USER. */
MUST_CHECK enum errcode
snap_tree_user(struct store_snap *snap, const char *user, uint64_t *ret,
               struct error *err);
/* The mailboxes of USER, deleted ones too, with the hash of their heads. */
MUST_CHECK enum errcode
snap_tree_each_mailbox(struct store_snap *snap, const char *user,
                       bool (*call)(void *ctx, const struct mailbox *mb,
                                    uint64_t hash),
                       void *ctx, struct error *err);
/* Who has \Seen of their own in mailboxes of USER (snap_seen()): a name for
 * each row, so the same one many times. */
MUST_CHECK enum errcode
snap_tree_each_seer(struct store_snap *snap, const char *user,
                    bool (*call)(void *ctx, const char *seer), void *ctx,
                    struct error *err);
/* The same of the mailbox ID: none if there is no such one. */
MUST_CHECK enum errcode
snap_tree_each_seer_in(struct store_snap *snap, mbid_t id,
                       bool (*call)(void *ctx, const char *seer), void *ctx,
                       struct error *err);
/*
 * Keys and hashes of rows, in the order of the keys, from behind AFTER (empty:
 * from the first): those of a mailbox, without its head, or (ID 0) those of
 * USER that are in no mailbox.
 */
MUST_CHECK enum errcode
snap_tree_each_row(struct store_snap *snap, const char *user, mbid_t id,
                   struct span after,
                   bool (*call)(void *ctx, struct span key, uint64_t hash),
                   void *ctx, struct error *err);
/* What a row is about, for a person: "UID 7", "keyword $Work", "subscription
 * user.john.Sent". */
void
tree_describe_key(struct span key, struct buf *out);

#endif
