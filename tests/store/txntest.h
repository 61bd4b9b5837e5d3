/*
 * tests/store/txntest.h - what the tests of transactions (test_txn*.c) have in
 * common.
 */
#ifndef POLLUX_TESTS_TXNTEST_H
#define POLLUX_TESTS_TXNTEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/lib/storetest.h"

/* Of B into ID, against the quota. */
static inline struct txn_append
message(mbid_t id, struct body *b)
{
    return (struct txn_append){
        .id = id, .body = b, .internal_s = 5, .check_quota = true};
}

/* FIRST to LAST; *R belongs to the caller and holds it. */
static inline struct uidset
range(struct uidrange *r, uint32_t first, uint32_t last)
{
    *r = (struct uidrange){first, last};
    return (struct uidset){.r = r, .n = 1};
}

/* Of short transactions, the code of the whole. */
static inline enum errcode
create(struct teststore *ts, const char *name)
{
    struct store_txn *txn = txn_new();
    txn_create(txn, &(struct txn_mailbox){.name = name});
    return ts_commit(ts, &txn);
}

static inline enum errcode
set_quota(struct teststore *ts, const char *root, uint64_t bytes, bool remove)
{
    struct store_txn *txn = txn_new();
    txn_quota(txn, root,
              remove ? NULL
                     : (uint64_t[QUOTA_RESOURCES]){bytes, QUOTA_UNLIMITED,
                                                   QUOTA_UNLIMITED,
                                                   QUOTA_UNLIMITED});
    return ts_commit(ts, &txn);
}

/* *CTX, a struct store_txn *, is set to what was submitted. */
static inline void
on_done(void *ctx, struct store_txn *txn)
{
    ((struct store_txn **)ctx)[0] = txn;
}

/* A file of this name, as the fence is one. */
static inline void
put_file(struct teststore *ts, const char *path)
{
    struct error err = {0};
    assert_int_equal(
        env_write_file_atomic(env_sim_env(ts->sim), path, SPAN_LIT("x"), &err),
        ERR_OK);
}

static inline void
remove_file(struct teststore *ts, const char *path)
{
    struct error err = {0};
    assert_int_equal(env_unlink(env_sim_env(ts->sim), path, &err), ERR_OK);
}

#endif
