/*
 * store/places.h - the directories of packs: one for each partition, and one
 * for its archive, if it has one.
 *
 * Rows name a directory by a number that it keeps for ever, so neither the
 * order nor the paths in the configuration matter; the name does.  Beside it a
 * row for each pack says how much in it is alive, and a pack without such a row
 * holds nothing: it was left by a crash.
 */
#ifndef POLLUX_STORE_PLACES_H
#define POLLUX_STORE_PLACES_H

#include "store/pack.h"
#include "store/rows.h"

/* On disk, in keys of LOCAL_DIR. */
enum place_kind {
    PLACE_SPOOL = 's',   /* partition-NAME */
    PLACE_ARCHIVE = 'a', /* archivepartition-NAME */
};

struct places;

/*
 * Every directory is made if absent.  DEFAULT_NAME is one of PARTITIONS.
 * PACK_BYTES: 0 is PACK_BYTES_MAX.  ERR_CONFLICT: bodies lie in a partition
 * that is not in PARTITIONS, or all packs of one are missing (is it mounted?),
 * or packs lie there that an empty state knows nothing of, or two have one
 * directory; ERR_CORRUPT, ERR_IO, ERR_NOSPACE.
 */
MUST_CHECK enum errcode
places_open(struct env *env, struct kv *kv,
            const struct store_partition *partitions, size_t npartitions,
            const char *default_name, const struct instid *cluster,
            uint64_t pack_bytes, struct places **ret, struct error *err);
void
places_close(struct places **places);
/*
 * The state is open and ours: remove packs that nothing names, and rows of
 * packs that are gone.  Before anything is appended.  *RET_REMOVED packs.
 */
MUST_CHECK enum errcode
places_clean(struct places *places, unsigned *ret_removed, struct error *err);

/* NULL: no such directory. */
struct packs *
places_packs(struct places *places, uint32_t dir);
/* Where bodies of partition NAME go.  A partition that is not configured here
 * (a twin may have others) is the default one; without an archive, 0. */
uint32_t
places_dir(struct places *places, const char *name, enum place_kind kind);
uint32_t
places_default(struct places *places);
/* The I-th directory's number, its partition and path; false: no more. */
bool
places_each(struct places *places, size_t i, uint32_t *ret_dir,
            enum place_kind *ret_kind, const char **ret_name,
            const char **ret_path);
/* Sync whatever was appended to any of them.  As packs_sync(). */
MUST_CHECK enum errcode
places_sync(struct places *places, struct error *err);

/* ---- what is alive in packs ------------------------------------------- */

/* Value of a LOCAL_PACK row: varints live, total, and 1 if condemned. */
struct pack_account {
    uint64_t live;     /* bytes of frames that rows name; never too little */
    uint64_t total;    /* of all that were ever named */
    bool is_condemned; /* nothing is named in it and it is about to go */
};

void
pack_account_encode(const struct pack_account *a, struct buf *out);
MUST_CHECK enum errcode
pack_account_decode(struct span in, struct pack_account *ret,
                    struct error *err);
/*
 * A row that names LOC comes into, or goes out of (IS_GOING) the table: into
 * batch B the pack's account, over what B and KV say.  Nothing for a body in
 * the log.  ERR_AGAIN: the pack is condemned, the body must go to another.
 */
MUST_CHECK enum errcode
pack_account_move(struct kv *kv, struct kv_batch *b, const struct body_loc *loc,
                  bool is_going, struct error *err);
/* Call for every pack's account, until CALL returns false.  ERR_CORRUPT,
 * ERR_IO. */
MUST_CHECK enum errcode
pack_account_each(struct kv *kv, const struct kv_snap *snap,
                  bool (*call)(void *ctx, uint32_t dir, uint64_t pack,
                               const struct pack_account *a),
                  void *ctx, struct error *err);

#endif
