/*
 * store/kv_pair.h - the two RocksDB databases of an instance, and one of them.
 */
#ifndef POLLUX_STORE_KV_PAIR_H
#define POLLUX_STORE_KV_PAIR_H

#include <rocksdb/c.h>

#include "store/kv.h"

/*
 * One database in directory PATH, made if absent, with the functions that
 * store/kv_front.c wants of what is below it; the families that it is asked for
 * are one.  NAME, which must live as long, begins its messages.  CACHE stays
 * the caller's.  ERR_BUSY, ERR_CORRUPT, ERR_NOTFOUND, ERR_NOSPACE, ERR_IO.
 */
MUST_CHECK enum errcode
kv_rocks_one(const char *path, const char *name, rocksdb_cache_t *cache,
             struct kv **ret, struct error *err);

#endif
