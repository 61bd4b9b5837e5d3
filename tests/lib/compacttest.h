/*
 * tests/lib/compacttest.h - what tests of the compactor share: all its work at
 * once, every message read back, and what lies on the disk.
 */
#ifndef POLLUX_TESTS_COMPACTTEST_H
#define POLLUX_TESTS_COMPACTTEST_H

#include "store/compact.h"
#include "tests/lib/storetest.h"

/* As ts_new_master(), with segments and packs of so many bytes (0: of usual
 * size). */
void
ct_new_master(struct teststore *ts, uint64_t seed, uint64_t segment_bytes,
              uint64_t pack_bytes);
/* Checkpoint, and steps until there is nothing more to do: the first code that
 * is not ERR_OK. */
enum errcode
ct_compact(struct teststore *ts, struct error *err);
/* Every message of mailbox ID is what ts_append(UID as its seed, BYTES) made;
 * how many there are.  *RET_WRONG says what is not so (may be NULL: the test
 * ends). */
unsigned
ct_read_all(struct teststore *ts, mbid_t id, size_t bytes,
            const char **ret_wrong);
/* Messages with seeds FIRST.. (their UIDs), N of them. */
void
ct_fill(struct teststore *ts, mbid_t id, unsigned n, size_t bytes);
/* Purge, as expiry does: tombstones FIRST to LAST go for good. */
void
ct_purge(struct teststore *ts, mbid_t id, uint32_t first, uint32_t last);
/* Segments in the log; bytes of all files in DIR that are called PREFIX... */
size_t
ct_segments(struct teststore *ts);
uint64_t
ct_dir_bytes(struct teststore *ts, const char *dir, const char *prefix);
/* Where part 0 of a message's body lies. */
struct body_loc
ct_place(struct teststore *ts, mbid_t id, uint32_t uid);

#endif
