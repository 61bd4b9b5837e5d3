/*
 * search/index.h - which messages of a mailbox can have a text in them, without
 * reading them.
 *
 * Local, derived, and never needed: what is not in the index is read.  So
 * nothing here has to be durable, and whatever is found damaged is thrown away
 * and made again.  Any thread; one at a time indexes.
 */
#ifndef POLLUX_SEARCH_INDEX_H
#define POLLUX_SEARCH_INDEX_H

#include "base/uidset.h"
#include "mime/text.h"
#include "store/store.h"

struct search_index;

/*
 * The index in DIR, made where it is absent, made anew where it is damaged or
 * of another store than STORE (or of a later time of it).  ERR_BUSY,
 * ERR_NOSPACE, ERR_IO.
 */
MUST_CHECK enum errcode
search_index_open(struct env *env, const char *dir, struct store *store,
                  struct search_index **ret, struct error *err);
void
search_index_close(struct search_index **index);

struct search_wish {
    uint32_t least; /* new messages below which nothing is done; 0: 1 */
    bool rebuild;   /* from the start */
    bool compact;   /* into as few segments as can be */
    /* Asked between two messages: true ends it.  NULL: never. */
    bool (*stop)(void *ctx);
    void *stop_ctx;
};

struct search_done {
    uint64_t messages;
    uint64_t skipped; /* could not be read, or have too many words */
    uint64_t bytes;   /* read */
    uint64_t left;    /* not indexed, being fewer than LEAST; at most so many */
};

/*
 * Bring mailbox ID level with the store; one that is gone is forgotten.  What
 * was done is added to *RET (may be NULL).  ERR_CLOSED (stopped), ERR_NOSPACE,
 * ERR_CORRUPT (of the index: it was thrown away), ERR_IO.
 */
MUST_CHECK enum errcode
search_update(struct search_index *index, mbid_t id,
              const struct search_wish *wish, struct search_done *ret,
              struct error *err);
/* Mailboxes that it knows, deleted ones too.  ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
search_each_mailbox(struct search_index *index,
                    void (*call)(void *ctx, mbid_t id), void *ctx,
                    struct error *err);
/* All goes, and is to be indexed again.  ERR_IO, ERR_NOSPACE. */
MUST_CHECK enum errcode
search_index_reset(struct search_index *index, struct error *err);
/* It was found damaged below what search_update() can mend: reset it. */
bool
search_index_is_broken(const struct search_index *index);
/* Bytes of its files. */
uint64_t
search_index_bytes(struct search_index *index);
/* What was written is in files. */
MUST_CHECK enum errcode
search_index_flush(struct search_index *index, struct error *err);

/* Add to RET what is in ALL and not in LESS; linear. */
void
search_uids_without(const struct uidset *all, const struct uidset *less,
                    struct uidset *ret);

/* ---- looking up -------------------------------------------------------- */

struct search_view; /* one mailbox at one time; opened and closed by a thread */

/* NULL: nothing is known of MB. */
struct search_view *
search_view_open(struct search_index *index, const struct mailbox *mb);
void
search_view_close(struct search_view **v);
/* The messages of which it knows all words. */
const struct uidset *
search_view_covered(const struct search_view *v);
/*
 * Of those, the ones that may have FOLDED (mime_needle_folded()), replacing
 * *RET; all others have not.  *RET_EXACT: the ones that do have it.  Blocks:
 * for a worker.  False: the index cannot tell, or is damaged.
 */
MUST_CHECK bool
search_view_find(struct search_view *v, struct span folded,
                 enum mime_search_where where, struct uidset *ret,
                 bool *ret_exact);

#endif
