/*
 * store/compact_private.h - what move.c, collect.c, compact.c and archive.c
 * share.
 *
 * All of it runs with `checkpoint_lock`, so that no two move bodies at once,
 * and the log and the packs are not exchanged under it.
 */
#ifndef POLLUX_STORE_COMPACT_PRIVATE_H
#define POLLUX_STORE_COMPACT_PRIVATE_H

#include "store/body_private.h"
#include "store/compact.h"
#include "store/history_private.h"
#include "store/local.h"
#include "store/store_private.h"
#include "synclog/reader.h"

/* At most so much is moved between two looks at anything else. */
#define SLICE_BYTES ((uint64_t)1 << 20)
#define SLICE_PARTS 512U
/* Rows that change while the writer stands still. */
#define LOCAL_ROWS 64U

/* ---- move.c ------------------------------------------------------------ */

/* A part of a body on its way.  Sorted by the fields from `to_dir` on. */
struct item {
    uint32_t to_dir;
    uint32_t uid;
    uint64_t owner; /* hash of whose mail it is */
    mbid_t mbid;
    struct guid guid;
    struct body_loc from;
};

struct items {
    struct item *v;
    size_t n, cap;
};

void
items_add(struct items *list, const struct item *item);
/* A part that is there twice stays once. */
void
items_sort(struct items *list);
void
items_free(struct items *list);

/* How much of V is one slice. */
size_t
items_slice(const struct item *v, size_t n);

struct moved {
    uint64_t parts;
    uint64_t bytes;
    uint64_t damaged; /* left where they were, and noted as damage */
};

/*
 * Move the N parts of V, at most a slice: into packs, synced, then the rows of
 * those that are still where they were.  Adds to *RET.  ERR_NOSPACE, ERR_IO,
 * ERR_CORRUPT: some may have been moved.
 */
MUST_CHECK enum errcode
items_move(struct store *store, const struct item *v, size_t n,
           struct moved *ret, struct error *err);
/* Does the row of a part still name LOC? */
MUST_CHECK enum errcode
body_is_at(struct store *store, const struct guid *guid,
           const struct body_loc *loc, bool *ret, struct error *err);

/* Where bodies belong, by the messages that have them. */
struct placer;

struct placer *
placer_new(struct store *store, const struct archive_rule *rule, int64_t now_s);
void
placer_free(struct placer **p);
/* Fill in all of *ITEM but `guid` and `from`, which are given. */
MUST_CHECK enum errcode
placer_place(struct placer *p, struct item *item, struct error *err);

/* ---- plan.c ------------------------------------------------------------ */

enum job_kind { JOB_NONE, JOB_SEGMENT, JOB_PACK };

struct plan {
    enum job_kind kind;
    bool is_read; /* all that is to be moved is in `items` */
    struct items items;
    size_t at;
    struct moved moved;
    struct placer *placer;
    /* A segment. */
    struct synclog_segment segment;
    struct synclog_reader *reader;
    bool is_by_table; /* its frames are damaged */
    struct key cursor;
    /* A pack. */
    uint32_t dir;
    uint64_t pack;
    uint64_t total; /* as its account said */
    uint64_t walked;
    bool is_broken;
};

/* Read a megabyte, or a few thousand rows. */
MUST_CHECK enum errcode
plan_read(struct store *store, struct plan *plan, uint64_t *ret_bytes,
          struct error *err);
void
plan_end(struct plan *plan);

/* ---- collect.c --------------------------------------------------------- */

/* Between two steps. */
struct collector {
    bool has_cursor; /* into the rows of LOCAL_PARTS */
    struct guid cursor;
    uint64_t parts_ns; /* when they were last gone through */
    /* What the state had reached an hour ago, and since then. */
    lsn_t ripe_lsn;
    lsn_t young_lsn;
    uint64_t young_ns;
    bool is_sweeping;
    struct guid sweep_after; /* and the part: all of this body are done */
    bool sweep_begun;
    struct counted *counted;
    size_t ncounted;
    uint64_t looked_ns; /* for whether it is time to sweep */
    uint64_t dropped;   /* bodies */
    struct history_age history;
};

/* Drop what lost its last message.  *RET_MORE: as store_compact_step(). */
MUST_CHECK enum errcode
collect_step(struct store *store, struct collector *c, bool *ret_more,
             uint64_t *ret_bytes, struct error *err);
/* Walk the table of bodies, once a week: count what is alive in packs, find
 * what nothing has. */
MUST_CHECK enum errcode
sweep_step(struct store *store, struct collector *c, bool *ret_more,
           uint64_t *ret_bytes, struct error *err);
void
collector_done(struct collector *c);

/* ---- compact.c --------------------------------------------------------- */

bool
compact_keeps_garbage(struct store *store);
/* Wait so long that BYTES fit into the rate; false: the store is closing. */
bool
compact_pace(struct store *store, uint64_t bytes);
/* Count what was moved. */
void
compact_count(struct store *store, const struct moved *moved);

#endif
