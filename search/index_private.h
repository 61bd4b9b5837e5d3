/*
 * search/index_private.h - an open index.
 *
 * `turn` is held by who indexes.  `lock` is held for reading by who uses the
 * database, and for writing while it is replaced.  `turn` before `lock`.
 */
#ifndef POLLUX_SEARCH_INDEX_PRIVATE_H
#define POLLUX_SEARCH_INDEX_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "search/block.h"
#include "search/db.h"
#include "search/index.h"
#include "search/lexicon.h"
#include "search/rows.h"
#include "search/source.h"
#include "search/words.h"

struct search_index {
    struct env *env;
    char *dir;
    struct store *store;
    pthread_mutex_t turn;
    pthread_rwlock_t lock;
    struct search_db *db; /* NULL: could not be opened again */
    _Atomic bool broken;
    /* Memory of who has the turn. */
    struct lexicon lex[WORDS_KINDS];
    struct mime_folder *folder;
    struct stored_source source;
    struct buf cache;
};

/* Fewer blocks are looked through sooner than a filter of them. */
#define FILTER_BLOCKS_MIN 4U

/* Blocks of a segment on their way into the database. */
struct segment_out {
    struct search_db *db;
    struct search_batch *batch;
    mbid_t id;
    enum words_of kind;
    struct index_segment seg;
    struct gram_filter *filter; /* of the last blocks, up to 64 */
    enum errcode rc;
    struct error *err;
};

/* To be ended by segment_out_free(). */
void
segment_out_begin(struct segment_out *o, struct search_db *db, mbid_t id,
                  uint32_t segment, struct error *err);
/* A block_writer's emit, with a struct segment_out. */
void
segment_out_block(void *out, struct span block, const struct gram_set *grams);
/* All blocks of o->kind were given. */
void
segment_out_kind_end(struct segment_out *o);
void
segment_out_free(struct segment_out *o);

/* The head of ID as stored.  ERR_NOTFOUND, ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
head_read(struct search_db *db, struct search_db_view *view, mbid_t id,
          struct index_head *ret, struct error *err);
MUST_CHECK enum errcode
docs_read(struct search_db *db, struct search_db_view *view, mbid_t id,
          uint32_t segment, struct uidset *ret, struct error *err);
/* Rows of a segment (SEGMENT) or of the whole mailbox (ALL_SEGMENTS) go. */
#define ALL_SEGMENTS UINT32_MAX
MUST_CHECK enum errcode
rows_drop(struct search_db *db, mbid_t id, uint32_t segment, struct error *err);
/* The head with all segments of which H does not know any more gone, in BATCH's
 * one write. */
MUST_CHECK enum errcode
head_write(struct search_index *x, struct search_batch *batch, mbid_t id,
           const struct index_head *h, struct error *err);

/*
 * Make one segment of the newest ones of H where there are too many of a size,
 * or (ALL) of all; UIDs that are not in ALIVE go.  ERR_CORRUPT, ERR_IO,
 * ERR_NOSPACE.
 */
MUST_CHECK enum errcode
segments_merge(struct search_index *x, mbid_t id, struct index_head *h,
               const struct uidset *alive, bool all, struct error *err);

#endif
