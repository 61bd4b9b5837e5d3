/*
 * tests/lib/storetest.h - a store on a machine in memory, and short forms of
 * what tests ask of it.  Every failure that is not asked for ends the test.
 */
#ifndef POLLUX_TESTS_STORETEST_H
#define POLLUX_TESTS_STORETEST_H

#include "base/env_fault.h"
#include "base/env_sim.h"
#include "store/kv_mem.h"
#include "store/store.h"
#include "store/txn.h"

/* One instance: machine, disks, store. */
struct teststore {
    struct env_sim *sim;
    struct env_fault *fault;
    struct kv_disk *disk;
    struct kv *kv; /* the open one; belongs to the store */
    struct store *store;
    struct store_config cfg;
    struct store_opened opened;
    struct error fatal; /* what on_fatal said */
    lsn_t acked;        /* the last one that ts_commit() was told of */
};

/* A new machine; opened as a replica without history. */
void
ts_new(struct teststore *ts, uint64_t seed, unsigned mutants);
/* The same, master of epoch 1, which has begun. */
void
ts_new_master(struct teststore *ts, uint64_t seed, unsigned mutants);
void
ts_free(struct teststore *ts);
enum errcode
ts_open(struct teststore *ts, struct error *err);
void
ts_close(struct teststore *ts);
/* The power goes: store, machine and state forget; then ts_open(). */
void
ts_crash(struct teststore *ts, uint64_t seed);

/* Mutations, each a transaction; the code of the whole. */
enum errcode
ts_commit(struct teststore *ts, struct store_txn **txn);
mbid_t
ts_create(struct teststore *ts, const char *name);
/* A message of BYTES bytes made from SEED; the UID, or 0 with *RET_CODE. */
uint32_t
ts_append(struct teststore *ts, mbid_t id, uint64_t seed, size_t bytes,
          enum errcode *ret_code);
struct body *
ts_body(uint64_t seed, size_t bytes);
/* The same bytes into B, which is new; as body_write() and body_finish(). */
enum errcode
ts_body_fill(struct body *b, uint64_t seed, size_t bytes, struct error *err);
enum errcode
ts_flag(struct teststore *ts, mbid_t id, uint32_t first, uint32_t last,
        enum txn_flag_mode mode, uint32_t flags, const char *keyword);
enum errcode
ts_expunge(struct teststore *ts, mbid_t id, uint32_t first, uint32_t last);

/* Reading; ends the test where it is not there. */
struct mailbox
ts_mailbox(struct teststore *ts, mbid_t id, struct arena *a);
mbid_t
ts_lookup(struct teststore *ts, const char *name);
struct message
ts_message(struct teststore *ts, mbid_t id, uint32_t uid, struct arena *a);
/* snap_verify() of now. */
void
ts_verify(struct teststore *ts);

/* Random work: one transaction, from the state of *RNG.  Its code. */
uint64_t
ts_random(uint64_t *rng, uint64_t below);
enum errcode
ts_random_txn(struct teststore *ts, uint64_t *rng);

/* All frames of FROM's log behind TO's position, into TO in pieces.  The first
 * code that is not ERR_OK. */
enum errcode
ts_ship(struct teststore *from, struct teststore *to, size_t max_bytes);

#endif
