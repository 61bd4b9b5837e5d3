/*
 * admin/backup_format.h - the bytes of a backup: manifests, and the files that
 * rows and the index are kept in.  No I/O.  Packs are as store/pack.h has them.
 *
 * A manifest is text, one "NAME VALUE" a line in this order; numbers are
 * decimal or, where it says hex, of so many lower-case digits:
 *
 *   pollux-backup 1                  the version
 *   generation N
 *   cluster HEX32
 *   epoch N, lsn N, chain HEX16, digest HEX16, time N    the position; time is
 *                                    when its record was committed, in us
 *   made N                           when the backup was begun, us since 1970
 *   rows N                           rows of the state
 *   bodies N, bytes N                bodies, and the bytes of their messages
 *   new N, newbytes N                of them, those that no generation before
 *                                    had, and what they take in packs
 *   lost N                           bodies that a message has, and that were
 *                                    not to be had
 *   file KIND NUMBER BYTES HEX16     any number: rows, then index, then pack,
 * by NUMBER; xxh3-64 of all of the file check HEX16 xxh3-64 of all before this
 * line
 *
 * There is one spelling: what would be written in another way is refused.
 *
 * A file of rows or index begins with 64 bytes, integers little-endian:
 *
 *   0  u64 magic "PLXBKUP"       32 u64 generation
 *   8  u32 version               40 u32 kind (1 rows, 2 index), 4 zeros
 *  12  u32 checksum              48 u64 number, from 1
 *  16  cluster, 16 bytes         56 zeros
 *
 * checksum: low 32 bits of xxh3-64 over the 64 bytes with this field zero.
 * Then frames: u32 magic "PLXK", u32 payload bytes, u64 xxh3-64 of the payload,
 * payload.  In it, rows: key and value of each as varint length and bytes;
 * index: entries of 52 bytes, by GUID: guid, u64 pack, u64 offset of its first
 * frame there, u64 bytes of all its frames, u64 size of the message; pack 0:
 * this body was not to be had.
 */
#ifndef POLLUX_ADMIN_BACKUP_FORMAT_H
#define POLLUX_ADMIN_BACKUP_FORMAT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/rd.h"
#include "store/types.h"

#define BACKUP_VERSION 1U
#define BACKUP_MANIFEST_MAX ((size_t)32 << 20)
#define BACKUP_FILES_MAX 400000U
#define BACKUP_HEAD_BYTES 64U
#define BACKUP_FRAME_BYTES 16U
#define BACKUP_PAYLOAD_MAX ((size_t)4 << 20)
#define BACKUP_ENTRY_BYTES 52U

enum backup_kind {
    BACKUP_ROWS = 1,
    BACKUP_INDEX = 2,
    BACKUP_PACK = 3, /* no file of this header */
};

struct backup_file {
    enum backup_kind kind;
    uint64_t number; /* from 1 */
    uint64_t bytes;
    uint64_t hash;
};

struct backup_manifest {
    uint64_t generation;
    struct instid cluster;
    struct store_pos pos;
    uint64_t made_us;
    uint64_t rows, bodies, body_bytes, new_bodies, new_bytes, lost;
    const struct backup_file *files;
    size_t nfiles;
};

void
backup_manifest_encode(const struct backup_manifest *m, struct buf *out);
/* What is allocated lives in A.  ERR_CORRUPT, ERR_VERSION (of a newer Pollux),
 * ERR_LIMIT. */
MUST_CHECK enum errcode
backup_manifest_decode(struct span in, struct arena *a,
                       struct backup_manifest *ret, struct error *err);

struct backup_head {
    struct instid cluster;
    uint64_t generation;
    enum backup_kind kind; /* ROWS or INDEX */
    uint64_t number;
};
void
backup_head_encode(const struct backup_head *h, uint8_t out[BACKUP_HEAD_BYTES]);
/* IN: at least 64 bytes are looked at.  ERR_CORRUPT, ERR_VERSION. */
MUST_CHECK enum errcode
backup_head_decode(struct span in, struct backup_head *ret, struct error *err);

/* The 16 bytes before PAYLOAD. */
void
backup_frame_encode(struct span payload, uint8_t out[BACKUP_FRAME_BYTES]);
/* A whole frame off the front of IN.  PARSE_MORE: cut; PARSE_BAD: not a frame,
 * or damaged.  *RET points into IN. */
enum parse
backup_frame_decode(struct span in, struct span *ret, size_t *ret_used);

struct backup_entry {
    struct guid guid;
    uint64_t pack;   /* 0: lost */
    uint64_t offset; /* of its first frame */
    uint64_t bytes;  /* of all its frames */
    uint64_t size;   /* of the message */
};
void
backup_entry_encode(const struct backup_entry *e, struct buf *out);
/* The next one out of a payload; R goes bad if it is cut. */
void
backup_entry_read(struct rd *r, struct backup_entry *ret);

#endif
