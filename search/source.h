/*
 * search/source.h - a stored message as mime_fold() reads it: small ones at
 * once, of large ones only what is asked for.
 */
#ifndef POLLUX_SEARCH_SOURCE_H
#define POLLUX_SEARCH_SOURCE_H

#include "mime/text.h"
#include "store/body.h"

struct stored_source {
    struct store *store;
    struct guid guid;
    uint64_t size;
    bool has_all;
    struct buf bytes; /* all of a small one, or what was read last */
    struct error err; /* why a read failed */
};

/* S is zero, or was used before: its memory is used again. */
void
stored_source_set(struct stored_source *s, struct store *store,
                  const struct guid *guid, uint64_t size);
struct mime_source
stored_source(struct stored_source *s);
void
stored_source_free(struct stored_source *s);

#endif
