/*
 * tests/lib/historytest.h - what tests of history share: all that is kept as
 * text, its bodies read back, and an instance that keeps.  Every failure ends
 * the test.
 */
#ifndef POLLUX_TESTS_HISTORYTEST_H
#define POLLUX_TESTS_HISTORYTEST_H

#include "store/history.h"
#include "tests/lib/compacttest.h"

#define HT_MIB ((uint64_t)1 << 20)
#define HT_SEGMENT (HT_MIB / 2)
#define HT_PACK (HT_MIB / 8)
#define HT_BODY 36000U /* half of it when stored */
#define HT_DAY_S UINT64_C(86400)
#define HT_US UINT64_C(1000000)

void
ht_must(enum errcode rc, const struct error *err);
/* ct_compact(). */
void
ht_compact(struct teststore *ts);

struct ht_listing {
    struct teststore *ts;
    struct buf text;
    unsigned n;
    uint64_t bytes;
    size_t body; /* as of ht_list() */
    const char *wrong;
};
/* For store_history_walk(): a line to CTX, a listing. */
bool
ht_add_row(void *ctx, const struct history *h);
/* All of it, and that the sum says the same.  BODY not 0: each body is
 * ts_body(UID, BODY), or BODY + 1 in a mailbox of bob's. */
void
ht_list(struct teststore *ts, size_t body, struct ht_listing *ret);
/* How many; nothing may be wrong with them. */
unsigned
ht_count(struct teststore *ts, size_t body);
/* Open it again with this time in seconds, in the same role. */
void
ht_set_keep(struct teststore *ts, uint64_t keep_s);
/* A master that keeps, with two mailboxes. */
struct ht_pair {
    mbid_t ann, bob;
};
struct ht_pair
ht_new_keeper(struct teststore *ts, uint64_t seed, uint64_t keep_s);
/* With all that is in it. */
void
ht_purge_mailbox(struct teststore *ts, mbid_t id);

#endif
