/*
 * store/kv_table.h - the newest rows of one family, in memory: sorted, with as
 * many versions of each as there are readers who may still see them.
 *
 * One thread at a time writes, any number read meanwhile without a lock.
 * Nothing is ever taken out: a table is filled, read, and freed as a whole when
 * nobody reads it any more.  What a reader got lives as long as the table.
 */
#ifndef POLLUX_STORE_KV_TABLE_H
#define POLLUX_STORE_KV_TABLE_H

#include "base/span.h"

struct kv_table;
struct kv_node; /* a key */

struct kv_table *
kv_table_new(void);
/* NULL is fine; *T becomes NULL. */
void
kv_table_free(struct kv_table **t);

/* Memory taken, about. */
size_t
kv_table_bytes(const struct kv_table *t);
size_t
kv_table_keys(const struct kv_table *t);

/*
 * From SEQ on KEY has VALUE, or (not IS_PUT) is deleted.  HASH: kv_key_hash().
 * SEQ never falls, and is given once for a key.  Copies.
 */
void
kv_table_set(struct kv_table *t, uint64_t hash, struct span key, bool is_put,
             struct span value, uint64_t seq);

/* The next calls set a key of this HASH: its place in the index is fetched into
 * the processor's cache meanwhile.  Changes nothing. */
void
kv_table_will_set(const struct kv_table *t, uint64_t hash);

/* What the table says of KEY as of SEQ: 1 and the value, 0 it is deleted, -1
 * nothing. */
int
kv_table_get(const struct kv_table *t, uint64_t hash, struct span key,
             uint64_t seq, struct span *ret);

/* A place in a table, as of one SEQ: deletions are places too. */
struct kv_place {
    const struct kv_table *table;
    const struct kv_node *node; /* NULL: behind the last one */
    uint64_t seq;
    struct span key;
    struct span value;
    bool is_put;
};

/* The first place at or behind KEY as of ret->seq; false: there is none. */
bool
kv_table_seek(const struct kv_table *t, struct span key, struct kv_place *ret);
bool
kv_table_next(struct kv_place *place);

#endif
