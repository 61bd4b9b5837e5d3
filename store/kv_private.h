/*
 * store/kv_private.h - what the implementations of kv.h share: their table of
 * functions, and the inside of a batch.
 */
#ifndef POLLUX_STORE_KV_PRIVATE_H
#define POLLUX_STORE_KV_PRIVATE_H

#include "store/kv.h"

#define KV_FAMILIES 2U

struct kv_table;

struct kv_ops {
    void (*close)(struct kv *);
    enum errcode (*write)(struct kv *, struct kv_batch *, struct error *err);
    enum errcode (*get)(struct kv *, const struct kv_snap *, enum kv_family,
                        struct span key, struct buf *ret, struct error *err);
    struct kv_snap *(*snapshot)(struct kv *);
    void (*release)(struct kv *, struct kv_snap *);
    /* PREFIX is copied; the iterator stands before FROM. */
    struct kv_iter *(*iter_open)(struct kv *, const struct kv_snap *,
                                 enum kv_family, struct span prefix,
                                 struct span from);
    bool (*iter_next)(struct kv_iter *, struct span *ret_key,
                      struct span *ret_value);
    void (*iter_seek)(struct kv_iter *, struct span key);
    enum errcode (*iter_close)(struct kv_iter *, struct error *err);
    enum errcode (*flush)(struct kv *, struct error *err);
    enum errcode (*health)(struct kv *, struct error *err);
    uint64_t (*property)(struct kv *, const char *name);
    /*
     * Only of what stands below kv_front.c, which then needs neither write()
     * nor flush(): all that TABLE has newest becomes part of the family, at
     * once and on disk.  ERR_AGAIN: not now; else as kv_flush().
     */
    enum errcode (*load)(struct kv *, enum kv_family,
                         const struct kv_table *table, struct error *err);
    /* As kv_disk_iter(); NULL: there is no disk. */
    enum errcode (*disk_iter)(struct kv *, struct span from,
                              struct kv_iter **ret, struct error *err);
};

/* An implementation puts these first in its own structs. */
struct kv {
    const struct kv_ops *ops;
    void (*on_corrupt)(void *ctx, const struct error *err);
    void *on_corrupt_ctx;
};

struct kv_iter {
    const struct kv_ops *ops;
    struct kv *kv; /* kv.c fills in these two */
    enum kv_family family;
};

/* What a batch and a table know a key by. */
uint64_t
kv_key_hash(enum kv_family f, struct span key);

/* When what is in memory is to go to disk. */
struct kv_front_limits {
    size_t bytes[KV_FAMILIES]; /* of a family's newest rows */
    /* First byte of keys of KV_STATE that are asked for again and again: what
     * is found below stays in memory as long as the view.  0: none. */
    uint8_t kept_table;
};

/* In front of BELOW, which is taken: rows are written to memory, and go below
 * in the background (store/kv_front.c). */
struct kv *
kv_front_open(struct kv *below, const struct kv_front_limits *limits);
/* RocksDB alone (store/kv_pair.c): takes tables, reads. */
MUST_CHECK enum errcode
kv_rocks_below(const char *dir, uint64_t cache_bytes, struct kv **ret,
               struct error *err);

/* What a batch says of one key; at most one for each key. */
struct kv_op {
    uint64_t hash;
    size_t key; /* offsets into the batch's bytes */
    size_t value;
    uint32_t key_bytes;
    uint32_t value_bytes;
    uint32_t value_room; /* a later value up to so long goes to its place */
    uint8_t family;
    bool is_put;
    bool is_kept; /* the savepoint has a copy */
};

/* All of them, in the order in which the keys were first named. */
const struct kv_op *
kv_batch_ops(const struct kv_batch *b, size_t *ret_n);
struct span
kv_op_key(const struct kv_batch *b, const struct kv_op *op);
struct span
kv_op_value(const struct kv_batch *b, const struct kv_op *op);

/* The indexes of the ops, sorted by family and key; valid until the batch
 * changes. */
const uint32_t *
kv_batch_sorted(struct kv_batch *b);

/* The first key behind all that begin with PREFIX, appended to RET; false if
 * there is none. */
bool
kv_prefix_end(struct span prefix, struct buf *ret);

#endif
