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
    bool level; /* nothing is to be done */
    /* Mailboxes that wait to be looked at; at least so many. */
    uint64_t waiting;
    /* Messages that are not in the index, being too few (batch), of the
     * mailboxes that were looked at; at most so many. */
    uint64_t left;
    uint64_t messages; /* indexed since the start */
    uint64_t skipped;  /* could not be */
    uint64_t bytes;    /* read for that */
    uint64_t passes;   /* over all mailboxes */
    uint64_t failures;
    bool is_failing;          /* so the last attempt ended */
    enum errcode failed_code; /* of the last failure */
    uint64_t failed_us;       /* its wall clock; 0: none */
};

/* Any thread. */
struct indexer_look
indexer_look(struct indexer *ix);
/* Look at all mailboxes again. */
void
indexer_wake(struct indexer *ix);

#endif
