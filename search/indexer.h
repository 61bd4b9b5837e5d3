/*
 * search/indexer.h - an index that keeps itself level with the store: a thread
 * that is told of what changes, and indexes it in the background.
 */
#ifndef POLLUX_SEARCH_INDEXER_H
#define POLLUX_SEARCH_INDEXER_H

#include "base/config.h"
#include "search/index.h"

struct indexer;

struct indexer_options {
    uint32_t batch; /* new messages of a mailbox from which on it is done */
};

/* What imapd.conf says; false: there is to be no index (search_engine). */
bool
indexer_options_from_config(const struct config *cfg,
                            struct indexer_options *ret);
/* DIR of imapd.conf's index. */
char *
indexer_dir(const struct store *store);
/* INDEX and STORE must outlive it. */
struct indexer *
indexer_start(struct search_index *index, struct store *store,
              const struct indexer_options *o);
/* Ends within a message.  NULL is fine. */
void
indexer_stop(struct indexer **ix);

struct indexer_look {
    bool level;        /* nothing is to be done */
    uint64_t messages; /* indexed since the start */
    uint64_t bytes;
    uint64_t passes; /* over all mailboxes */
};

/* Any thread. */
struct indexer_look
indexer_look(struct indexer *ix);
/* Look at all mailboxes again. */
void
indexer_wake(struct indexer *ix);

#endif
