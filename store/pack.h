/*
 * store/pack.h - append-only files of bodies that are not, or no longer, in the
 * log: pack-NUMBER.plx (16 hex digits) in the partition's directory.
 *
 * A pack has no list of contents: a body in it counts only while rows of the
 * guid table name it, and these are written after the pack was synced.  So a
 * torn tail is harmless, and a pack from before a restart is never appended to:
 * the next body goes into a new one.
 *
 * First block, 4096 bytes; integers little-endian:
 *
 *   0  u64 magic "PLXPACK"       32 u64 number
 *   8  u32 version               40 u64 created_us
 *  12  u32 checksum              48 zeros
 *  16  cluster, 16 bytes
 *
 * checksum: low 32 bits of xxh3-64 over the block with this field zero.  Then
 * frames, each padded with zeros to 8 bytes:
 *
 *   0  u32 magic "PLXB"          40 u32 raw_bytes
 *   4  u32 header checksum       44 u32 stored_bytes
 *   8  guid, 20 bytes            48 u64 hash (xxh3-64 of the stored bytes)
 *  28  u32 part                  56 u8  encoding, 3 zeros
 *  32  u64 size (whole message)  60 u32 parts
 *  64  the stored bytes
 *
 * header checksum: low 32 bits of xxh3-64 over bytes 8..63.
 */
#ifndef POLLUX_STORE_PACK_H
#define POLLUX_STORE_PACK_H

#include "base/env.h"
#include "base/rd.h"
#include "store/body.h"

#define PACK_VERSION 1U
#define PACK_HEADER_BYTES 4096U
#define PACK_FRAME_BYTES 64U
#define PACK_BYTES_MAX ((uint64_t)256 << 20)

struct pack_head {
    struct instid cluster;
    uint64_t number;
    uint64_t created_us;
};

void
pack_head_encode(const struct pack_head *h, uint8_t out[PACK_HEADER_BYTES]);
/* ERR_CORRUPT, ERR_VERSION (of a newer Pollux). */
MUST_CHECK enum errcode
pack_head_decode(struct span in, struct pack_head *ret, struct error *err);
/* The 64 bytes before a body's stored bytes; home, file and offset of LOC are
 * not in it. */
void
pack_frame_encode(const struct guid *guid, const struct body_loc *loc,
                  uint8_t out[PACK_FRAME_BYTES]);
/*
 * A whole frame off the front of IN, its hash checked.  PARSE_MORE: cut (the
 * tail of a pack after a crash); PARSE_BAD: not a frame.  *RET_STORED points
 * into IN; *RET_USED has the padding in it.
 */
enum parse
pack_frame_decode(struct span in, struct guid *ret_guid,
                  struct body_loc *ret_loc, struct span *ret_stored,
                  size_t *ret_used);

struct packs; /* the packs of one directory; thread-safe */

/* DIR is made if absent; NUMBER is what locs call it.  PACK_BYTES: a pack that
 * has so many is followed by a new one (0: PACK_BYTES_MAX).  ERR_IO,
 * ERR_NOSPACE. */
MUST_CHECK enum errcode
packs_open(struct env *env, const char *dir, uint32_t number,
           const struct instid *cluster, uint64_t pack_bytes,
           struct packs **ret, struct error *err);
void
packs_close(struct packs **packs);
/* The numbers of all packs that lie there, in order; to be freed. */
MUST_CHECK enum errcode
packs_list(struct packs *packs, uint64_t **ret, size_t *ret_n,
           struct error *err);
/* Beside no open packs of DIR: move all of them to DIR/NAME; none is in DIR any
 * more then, whatever becomes of the power.  ERR_NOSPACE, ERR_IO. */
MUST_CHECK enum errcode
packs_set_aside(struct env *env, const char *dir, const char *name,
                struct error *err);
/* The one that would be appended to; 0: none. */
uint64_t
packs_current(struct packs *packs);
/*
 * Append a part's stored bytes; fills in home, dir, file, offset of *LOC.
 * Counts only after packs_sync() succeeded.  ERR_NOSPACE, ERR_IO: after any
 * failure all that was appended since the last good packs_sync() is lost, and
 * what comes next, once packs_sync() has been called and has told it, goes to a
 * new pack.
 */
MUST_CHECK enum errcode
packs_append(struct packs *packs, const struct guid *guid, struct body_loc *loc,
             struct span stored, struct error *err);
MUST_CHECK enum errcode
packs_sync(struct packs *packs, struct error *err);
/* Is what packs_append() put at LOC on stable storage?  Where several append,
 * each asks this of its own after its packs_sync(). */
bool
packs_holds(struct packs *packs, const struct body_loc *loc);
/* N bytes at OFFSET of pack NUMBER.  ERR_GAP: no such pack, or it ends before;
 * ERR_IO. */
MUST_CHECK enum errcode
packs_pread(struct packs *packs, uint64_t number, uint64_t offset, void *to,
            size_t n, struct error *err);
/* Remove a pack in which no body is left.  One that is not there is fine. */
MUST_CHECK enum errcode
packs_remove(struct packs *packs, uint64_t number, struct error *err);
/* How long a pack is on the disk that holds bodies of so many stored bytes:
 * what a body adds to it. */
uint64_t
pack_frame_bytes(uint32_t stored_bytes);
/*
 * Walk a stretch of pack NUMBER's frames from *AT on (0: its start) by their
 * headers; what lies in them is not read or checked.  *AT is where to go on,
 * *RET_END says that there is no more.  *RET_BROKEN is set when what follows is
 * no frame: a tail that a crash tore, or damage.  ERR_GAP: no such pack;
 * ERR_IO.
 */
MUST_CHECK enum errcode
packs_walk(struct packs *packs, uint64_t number, uint64_t *at,
           void (*each)(void *ctx, const struct guid *guid,
                        const struct body_loc *loc),
           void *ctx, bool *ret_end, bool *ret_broken, struct error *err);
/* Read the first block of pack NUMBER.  ERR_CORRUPT, ERR_VERSION, ERR_NOTFOUND,
 * ERR_IO. */
MUST_CHECK enum errcode
packs_check_head(struct packs *packs, uint64_t number, struct error *err);
/* Write it anew: all that it says is known.  ERR_NOTFOUND, ERR_NOSPACE, ERR_IO.
 */
MUST_CHECK enum errcode
packs_mend_head(struct packs *packs, uint64_t number, struct error *err);
/*
 * Walk pack NUMBER and call EACH (may be NULL) for every frame that is whole.
 * *RET_TORN_BYTES: what is behind the last of them; whether it was ever good
 * only the rows know that name it.  ERR_CORRUPT (the first block), ERR_VERSION,
 * ERR_NOTFOUND, ERR_IO.
 */
MUST_CHECK enum errcode
packs_verify(struct packs *packs, uint64_t number,
             void (*each)(void *ctx, const struct guid *guid,
                          const struct body_loc *loc),
             void *ctx, uint64_t *ret_torn_bytes, struct error *err);

#endif
