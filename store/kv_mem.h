/*
 * store/kv_mem.h - the key-value store of tests and simulations: a sorted map
 * in memory over a "disk" that holds what was flushed, and that outlives it.
 */
#ifndef POLLUX_STORE_KV_MEM_H
#define POLLUX_STORE_KV_MEM_H

#include "store/kv.h"

struct kv_disk;

struct kv_disk *
kv_disk_new(void);
/* After what was opened on it is closed. */
void
kv_disk_free(struct kv_disk **disk);

/* Open what the disk holds.  One at a time; DISK must outlive it. */
struct kv *
kv_open_mem_on(struct kv_disk *disk);
/*
 * The power is cut: what is open on DISK answers ERR_IO to writes and flushes
 * from now on and changes nothing any more (it can still be read, and must be
 * closed).  What the next kv_open_mem_on() finds is for each family what was
 * flushed last (SEED 0) or, taken from SEED, the state after one of the writes
 * since then: RocksDB may have flushed by itself.
 */
void
kv_disk_cut(struct kv_disk *disk, uint64_t seed);
/* The same with the power coming back at once: KV itself is what is found. */
void
kv_mem_crash(struct kv *kv, uint64_t seed);

/* Writes and flushes fail with CODE, kv_health() says so; ERR_OK heals. */
void
kv_mem_fail(struct kv *kv, enum errcode code);

#endif
