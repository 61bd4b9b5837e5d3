/*
 * store/body.h - a message's bytes on their way in and out.
 *
 * In: a session writes what it receives; up to 1 MiB stays in memory, more goes
 * to an unnamed file, so that a big literal costs disk and not memory.
 * Finishing gives GUID and size, compresses and hashes, in the session's
 * thread.  Out: any range, each part checked (xxh3) when read.
 */
#ifndef POLLUX_STORE_BODY_H
#define POLLUX_STORE_BODY_H

#include "base/env.h"
#include "store/record.h"

struct body; /* one message on its way in */
struct store;

/* TMPDIR of ENV: where a large one spills to.  MAX_BYTES: more is ERR_LIMIT. */
struct body *
body_new(struct env *env, const char *tmpdir, uint64_t max_bytes);
/* The same, for STORE, which outlives it: it spills where its files are. */
struct body *
store_body_new(struct store *store, uint64_t max_bytes);
void
body_free(struct body **b);
/* ERR_LIMIT (and everything after it), ERR_NOSPACE, ERR_IO. */
MUST_CHECK enum errcode
body_write(struct body *b, struct span bytes, struct error *err);
/* No more comes: GUID, compression.  Call once, off the writer thread. */
MUST_CHECK enum errcode
body_finish(struct body *b, struct error *err);
uint64_t
body_size(const struct body *b);
const struct guid *
body_guid(const struct body *b);
/* All raw bytes, for parsing; mapped if they were spilled.  After finish. */
struct span
body_raw(const struct body *b);
/* Share: each holder frees its own.  Thread-safe. */
struct body *
body_ref(struct body *b);

/* How many parts a message of SIZE bytes has (an empty one has one), and how
 * many raw bytes are in part PART of it. */
uint32_t
body_parts_of(uint64_t size);
uint32_t
body_part_raw_bytes(uint64_t size, uint32_t part);
/* The parts as they are to be stored.  After finish; any thread. */
uint32_t
body_part_count(const struct body *b);
/*
 * Stored bytes of part PART, valid as long as B; how they are kept, how many
 * raw bytes they stand for, and their xxh3-64.
 */
struct span
body_part(const struct body *b, uint32_t part, enum body_encoding *ret_encoding,
          uint32_t *ret_raw_bytes, uint64_t *ret_hash);

/* Where a part of a body lies; the value of the guid table (local). */
enum body_home { BODY_IN_LOG = 1, BODY_IN_PACK = 2 };

struct body_loc {
    enum body_home home;
    enum body_encoding encoding;
    uint32_t dir;  /* of the pack (store/places.h), from 1; 0: in the log */
    uint64_t file; /* segment or pack number */
    uint64_t offset;
    uint32_t stored_bytes;
    uint32_t raw_bytes;
    uint64_t hash; /* xxh3-64 of the stored bytes */
    uint32_t part;
    uint32_t parts;
    uint64_t size; /* of the whole message */
};

/* Do part, parts, sizes and encoding fit each other? */
bool
body_loc_fits(const struct body_loc *loc);
/* Is it the same place?  What lies there cannot differ then. */
bool
body_loc_same(const struct body_loc *a, const struct body_loc *b);
/*
 * Version 2: u8 version, u8 home, u8 encoding, varints dir, file, offset,
 * stored_bytes, raw_bytes, part, size, then u64le hash.  `parts` follows from
 * size and is not written.
 */
void
body_loc_encode(const struct body_loc *loc, struct buf *out);
/* ERR_CORRUPT (also where the fields do not fit each other), ERR_VERSION. */
MUST_CHECK enum errcode
body_loc_decode(struct span in, struct body_loc *ret, struct error *err);

/*
 * Bytes [OFFSET, OFFSET+N) of the message GUID appended to OUT (less at its
 * end).  Only the parts that are touched are read.  Any thread.
 * ERR_NOTFOUND (no such body here), ERR_CORRUPT (damaged: never given out),
 * ERR_IO.
 */
MUST_CHECK enum errcode
store_body_read(struct store *store, const struct guid *guid, uint64_t offset,
                uint64_t n, struct buf *out, struct error *err);
/* Is it here, whole?  Its size. */
MUST_CHECK enum errcode
store_body_stat(struct store *store, const struct guid *guid,
                uint64_t *ret_size, struct error *err);

#endif
