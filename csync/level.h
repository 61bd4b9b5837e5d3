/*
 * csync/level.h - who was level with a peer that has a history of its own: the
 * digests that a user had on both sides when a comparison found nothing to do.
 *
 * Numbers of mailboxes and MODSEQs of heads are each store's own, so digests of
 * two histories say nothing of each other.  But as long as neither has changed
 * since it was seen that both hold the same, they still do.  So -A looks only
 * at users of whom one side has changed, and one that was cut off goes on where
 * it was.
 *
 * Kept in a file, which is derived and may go at any time:
 *
 *   pollux-level 1 CLUSTER INSTANCE CLUSTER INSTANCE     (here, there)
 *   u HERE THERE NAME          digests in hex; later lines win
 *   r HERE THERE               the roots, all users being level
 *
 * A line that is cut or is none of these, and all behind it, counts for
 * nothing. Calls may come from several threads.
 */
#ifndef POLLUX_CSYNC_LEVEL_H
#define POLLUX_CSYNC_LEVEL_H

#include "base/env.h"
#include "base/ids.h"

struct level;

struct level_sides {
    struct instid here_cluster, here_instance, there_cluster, there_instance;
};

struct level_pair {
    uint64_t here, there;
};

/* What PATH knows of SIDES; nothing if it is absent, damaged or of others. */
struct level *
level_open(struct env *env, const char *path, const struct level_sides *sides);
/* Was USER level when the digests were these? */
bool
level_has(struct level *l, const char *user, struct level_pair p);
bool
level_has_root(struct level *l, struct level_pair p);
/* USER was; kept in the file soon.  A name with a line break is not kept. */
void
level_note(struct level *l, const char *user, struct level_pair p);
/* Write the file anew; ROOT (or NULL) is what both sides are now, all users
 * being level.  ERR_IO, ERR_NOSPACE. */
MUST_CHECK enum errcode
level_save(struct level *l, const struct level_pair *root, struct error *err);
/* Has so much been noted twice that the file had better be written anew? */
bool
level_is_long(struct level *l);
/* What was noted is in the file, as far as it can be written. */
void
level_close(struct level **l);

#endif
