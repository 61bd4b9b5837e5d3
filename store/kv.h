/*
 * store/kv.h - the key-value interface that the state stands on: RocksDB in the
 * product (store/kv_rocks.c), a sorted map in memory that forgets what was not
 * flushed in simulations (store/kv_mem.c).
 *
 * One thread writes (the writer; KV_CACHE may also be put from others), any
 * number read.  There is no log below it: what was not flushed is gone after a
 * crash, all of it or a prefix, never a mixture, and the sync log is replayed
 * over it.
 */
#ifndef POLLUX_STORE_KV_H
#define POLLUX_STORE_KV_H

#include "base/buf.h"
#include "base/error.h"

struct kv;
struct kv_snap; /* a consistent view of KV_STATE */
struct kv_iter;

enum kv_family {
    KV_STATE, /* all replicated state and the applied position */
    /* Derived: may be lost at any time, and is rebuilt by who misses it.  A
     * view may see newer records of it. */
    KV_CACHE,
};

/* Puts and deletes in order; the last one for a key wins. */
struct kv_batch;

/*
 * RocksDB databases DIR/state and DIR/cache, made if absent.  CACHE_BYTES:
 * block cache.  The errors are of the state: ERR_BUSY (somebody else has it),
 * ERR_CORRUPT, ERR_NOTFOUND (a file of it), ERR_NOSPACE, ERR_IO.  A cache that
 * cannot be opened, or fails later, is removed and made anew.
 */
MUST_CHECK enum errcode
kv_open_rocks(const char *dir, uint64_t cache_bytes, struct kv **ret,
              struct error *err);
/* In memory; see store/kv_mem.h for crashes and what outlives them. */
struct kv *
kv_open_mem(void);
/* What was not flushed is gone.  NULL is fine; *KV becomes NULL. */
void
kv_close(struct kv **kv);

struct kv_batch *
kv_batch_new(void);
void
kv_batch_free(struct kv_batch **b);
void
kv_batch_clear(struct kv_batch *b);
void
kv_batch_put(struct kv_batch *b, enum kv_family f, struct span key,
             struct span value);
void
kv_batch_delete(struct kv_batch *b, enum kv_family f, struct span key);
/* From here on changes can be taken back; ends the savepoint before. */
void
kv_batch_mark(struct kv_batch *b);
/* As it was at kv_batch_mark(), or empty if there was none; what
 * kv_batch_get() gave since is not valid any more. */
void
kv_batch_rollback(struct kv_batch *b);
size_t
kv_batch_bytes(const struct kv_batch *b);
/*
 * What B says of KEY: 1 and the value (valid until the batch changes), 0 it is
 * deleted, -1 nothing.
 */
int
kv_batch_get(const struct kv_batch *b, enum kv_family f, struct span key,
             struct span *ret);

/* Apply all of B at once.  ERR_NOSPACE heals; ERR_IO and ERR_CORRUPT do not. */
MUST_CHECK enum errcode
kv_write(struct kv *kv, struct kv_batch *b, struct error *err);

/* SNAP may be NULL: the newest.  ERR_NOTFOUND; the value is appended to RET. */
MUST_CHECK enum errcode
kv_get(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
       struct span key, struct buf *ret, struct error *err);

struct kv_snap *
kv_snapshot(struct kv *kv);
void
kv_release(struct kv *kv, struct kv_snap **snap);

/*
 * Iterate over keys that begin with PREFIX, from FROM (whole key, >= PREFIX; or
 * empty: from the start of the prefix).  Key and value are valid until the next
 * call.  kv_iter_next() returns false at the end or on an error, which
 * kv_iter_close() then returns.
 */
struct kv_iter *
kv_iter_open(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
             struct span prefix, struct span from);
bool
kv_iter_next(struct kv_iter *it, struct span *ret_key, struct span *ret_value);
/* Jump forward (or back) to the first key >= KEY within the prefix. */
void
kv_iter_seek(struct kv_iter *it, struct span key);
enum errcode
kv_iter_close(struct kv_iter **it, struct error *err);

/*
 * All rows of KV_STATE from key FROM on as they lie on disk now: read past
 * every cache of ours, and of the system's where that can be.  What is only in
 * memory is not seen.  The iterator must be closed before KV; it keeps files
 * that are replaced meanwhile, so not for long.  ERR_CORRUPT, ERR_IO;
 * ERR_NOTFOUND, also later from kv_iter_close(): a file was replaced, try
 * again.
 */
MUST_CHECK enum errcode
kv_disk_iter(struct kv *kv, struct span from, struct kv_iter **ret,
             struct error *err);

/*
 * CALL is told of stored bytes of KV_STATE that are not what was written,
 * whoever came upon them, in their thread.  Set once, before others use KV.
 */
void
kv_on_corrupt(struct kv *kv, void (*call)(void *ctx, const struct error *err),
              void *ctx);

/* All that was written before the call is on disk when it returns. */
MUST_CHECK enum errcode
kv_flush(struct kv *kv, struct error *err);
/* ERR_OK, or the background error that stops writes (polled each second). */
enum errcode
kv_health(struct kv *kv, struct error *err);
/* One-line statistics by name ("rocksdb.estimate-num-keys"); 0 if unknown. */
uint64_t
kv_property(struct kv *kv, const char *name);

#endif
