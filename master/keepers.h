/*
 * master/keepers.h - the threads that look after the store beside the clients:
 * repair, scrubbing, and the search index with the one that keeps it level.
 *
 * Started and stopped by the main thread, for one store after the other (a
 * rejoin exchanges it).
 */
#ifndef POLLUX_MASTER_KEEPERS_H
#define POLLUX_MASTER_KEEPERS_H

#include "base/config.h"
#include "metrics/metrics.h"
#include "search/index.h"

struct keepers;

/* ENV and CFG must outlive it. */
struct keepers *
keepers_new(struct env *env, const struct config *cfg);
/* Stopped before.  NULL is fine. */
void
keepers_free(struct keepers **k);

/* Takes as long as opening the index.  An index that cannot be opened is said
 * in the log; all else goes on without. */
void
keepers_start(struct keepers *k, struct store *store);
/* Before the store is closed, when nobody uses the index any more.  Also where
 * nothing was started. */
void
keepers_stop(struct keepers *k);
/* Who waits for the index gets none: nothing is started any more. */
void
keepers_last(struct keepers *k);

/* Where the index is while the keepers run, NULL there: none. */
struct search_index *const *
keepers_index(struct keepers *k);
/*
 * The same for who asks early: K (a struct keepers) may be opening it still,
 * which is waited for, 10 s at most.  Errors: ERR_AGAIN (that was not enough,
 * or the instance is ending), ERR_UNSUPPORTED (search_engine is none),
 * ERR_IO (it could not be opened).  ERR says what to do.
 */
MUST_CHECK enum errcode
keepers_await_index(void *k, struct search_index **ret, struct error *err);
/* How it is; any thread. */
void
keepers_look_at_index(struct keepers *k, struct metrics_index *ret);

#endif
