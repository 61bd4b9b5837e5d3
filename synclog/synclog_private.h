/*
 * synclog/synclog_private.h - what the files of this folder share.
 */
#ifndef POLLUX_SYNCLOG_SYNCLOG_PRIVATE_H
#define POLLUX_SYNCLOG_SYNCLOG_PRIVATE_H

#include <pthread.h>

#include "synclog/synclog.h"

#define LOG_PATH_BYTES 4096

/* ------------------------------------------------------------ segment.c */

/* One segment file as it lies there. */
struct seginfo {
    struct segment_head head;
    uint64_t bytes; /* size of its file */
};

struct seglist {
    struct seginfo *v; /* by number, without holes */
    size_t n;
    size_t cap;
};

void
seglist_free(struct seglist *list);
void
seglist_add(struct seglist *list, const struct seginfo *seg);
/* Forget the oldest N. */
void
seglist_drop(struct seglist *list, size_t n);
/* The segment with that number, or NULL. */
struct seginfo *
seglist_find(const struct seglist *list, uint64_t number);

/* DIR/seg-NUMBER.plx */
const char *
segment_path(const char *dir, uint64_t number, char out[LOG_PATH_BYTES]);

/* False: not the name of a segment. */
bool
segment_number(struct span name, uint64_t *ret_number);

/* Header and size of an open segment file that has to be number NUMBER. */
MUST_CHECK enum errcode
segment_read_head(struct envfile *f, uint64_t number, struct seginfo *ret,
                  struct error *err);

/*
 * All segments of DIR, their headers read and checked against each other
 * (numbers without holes, one cluster, LSNs and epochs that do not fall).
 * ERR_CORRUPT, ERR_VERSION, ERR_HISTORY, ERR_IO; ERR_AGAIN if one went away
 * while we looked (a running writer trims).  No directory is ERR_NOTFOUND.
 */
MUST_CHECK enum errcode
seglist_load(struct env *env, const char *dir, struct seglist *ret,
             struct error *err);

/* ------------------------------------------------------------- window.c */

#define WINDOW_BYTES ((size_t)1 << 20)

/* A file read forward through a buffer that grows to the largest unit. */
struct window {
    struct envfile *file;
    uint64_t offset; /* of bytes.p[0] in the file */
    /* So much is read at a time if a unit is not larger, and twice as much the
     * next time, up to WINDOW_BYTES; 0: WINDOW_BYTES. */
    size_t ahead;
    struct buf bytes;
};

/*
 * Bytes from OFFSET on: at least N, or fewer where the file ends.  Valid until
 * the next call.
 */
MUST_CHECK enum errcode
window_get(struct window *w, uint64_t offset, size_t n, struct span *ret,
           struct error *err);
/* What was read may have changed since. */
void
window_forget(struct window *w);
void
window_free(struct window *w);

/* --------------------------------------------------------------- scan.c */

/* Where the log stands after a frame. */
struct logstate {
    struct logpos last;
    uint64_t chain;
    uint64_t time_us; /* 0: no frame seen */
};

/* The state in which a segment begins. */
struct logstate
logstate_at_start(const struct segment_head *head);
/*
 * NULL if a sound frame H may follow ST, otherwise why not.  A heartbeat may
 * follow the frame before it.
 */
const char *
logstate_misfit(const struct logstate *st, const struct frame_head *h);
/* H follows; heartbeats change nothing. */
void
logstate_move(struct logstate *st, const struct frame_head *h);

typedef void
scan_each(void *ctx, uint64_t segment, uint64_t offset,
          const struct frame_head *head, struct span payload);

struct scan {
    struct logstate end;      /* after the last good frame */
    uint64_t end_offset;      /* behind it */
    uint64_t unproven_offset; /* first frame that nothing proves durable */
    bool unproven;            /* there is such a record */
    uint64_t torn_end;        /* behind the last byte that is not 0;
                                 end_offset if all is 0 */
    const char *torn_why;     /* what was wrong at end_offset */
};

/*
 * Walk the segment SEG in the open file F and decide by L4 what its end is.
 * NEXT is the header of the segment behind it, NULL if it is the last.  Hands
 * each good frame to EACH if not NULL.
 * ERR_CORRUPT (damage; names segment and offset), ERR_VERSION, ERR_IO.
 */
MUST_CHECK enum errcode
scan_segment(struct envfile *f, const struct seginfo *seg,
             const struct segment_head *next, scan_each *each, void *ctx,
             struct scan *ret, struct error *err);

/* -------------------------------------------------------------- spare.c */

/* The next segment's file, allocated ahead of time under a temporary name, and
 * then filled with the zeros that it reads as. */
struct spare;

/* With HELPER a thread makes the file; without, spare_take() does. */
struct spare *
spare_new(struct env *env, const char *dir, uint64_t bytes, bool helper);
void
spare_free(struct spare **s);
/*
 * A file of at least BYTES, all zero, named *RET_PATH (lives as long as S) and
 * now the caller's, who ends with spare_taken().  ERR_NOSPACE, ERR_IO.
 */
MUST_CHECK enum errcode
spare_take(struct spare *s, uint64_t bytes, struct envfile **ret,
           const char **ret_path, struct error *err);
/* It will be wanted before long: the helper, if there is one, may write the
 * zeros.  Until the next spare_take(). */
void
spare_fill(struct spare *s);
/* Bytes from the start of the file that waits that were written so. */
uint64_t
spare_filled(struct spare *s);
/* The name is free again: renamed or removed; make the next one. */
void
spare_taken(struct spare *s);

/* ------------------------------------------------------------ handles.c */

#define HANDLES_MAX 64U

struct handle {
    uint64_t segment;
    struct envfile *file;
    unsigned refs;
    uint64_t used; /* when, in uses */
    bool kept;     /* in the cache; otherwise closed with the last ref */
};

/* Open files of segments for synclog_pread(). */
struct handles {
    pthread_mutex_t lock;
    struct handle *v[HANDLES_MAX];
    uint64_t uses;
    uint64_t first; /* segments below are trimmed */
};

void
handles_init(struct handles *hs);
void
handles_done(struct handles *hs);
/* ERR_GAP: no such file. */
MUST_CHECK enum errcode
handles_get(struct handles *hs, struct env *env, const char *dir,
            uint64_t segment, struct handle **ret, struct error *err);
void
handles_put(struct handles *hs, struct handle **h);
/* Segments below FIRST are gone. */
void
handles_trim(struct handles *hs, uint64_t first);

/* --------------------------------------------------------------- mark.c */

/* The writer's side of the mark: mapped from DIR/mark, or memory of our own
 * where the environment has no descriptors to map. */
struct markmap {
    struct synclog_mark *page;
    bool mapped;
};

/* SHARED: the environment's files can be mapped. */
MUST_CHECK enum errcode
markmap_open(struct env *env, const char *dir, bool shared, struct markmap *ret,
             struct error *err);
void
markmap_close(struct markmap *m);

/* ------------------------------------------------------------ recover.c */

/* What recovery hands to the writer. */
struct recovered {
    struct seglist list;  /* at least one segment */
    struct envfile *file; /* the last one, open for writing */
    struct scan end;      /* of the last one; everything up to it durable */
};

/*
 * Find, check, repair and make durable what DIR holds; begin a history if it
 * holds none.  Errors as synclog_open().
 */
MUST_CHECK enum errcode
log_recover(struct env *env, const struct synclog_config *cfg,
            struct recovered *ret, struct synclog_recovery *ret_found,
            struct error *err);
/*
 * Turn FILE, allocated under the name TMP, into the segment HEAD (L5).  On
 * failure *RET_SAFE tells whether nothing has changed under a lasting name.
 */
MUST_CHECK enum errcode
segment_publish(struct env *env, const char *dir, struct envfile *file,
                const char *tmp, const struct segment_head *head,
                bool *ret_safe, struct error *err);

/* ------------------------------------------------------------ synclog.c */

struct synclog {
    struct env *env;
    char *dir;
    struct synclog_config cfg;
    struct envfile *lock_file;
    struct markmap mark;
    struct spare *spare;
    struct handles handles;

    /* The writer thread's own. */
    struct envfile *file;    /* of the last segment */
    uint64_t file_bytes;     /* its size */
    uint64_t used;           /* where the next frame goes */
    bool fill_asked;         /* spare_fill(), for the segment after it */
    struct logstate written; /* all frames written, durable or not */
    bool dirty;              /* records were written since the last sync */
    lsn_t proven;            /* highest durable_lsn that a frame carries */
    bool begun;              /* synclog_begin() fixed the place */
    size_t begun_bytes;      /* for so much payload */
    bool dead;               /* L3 */
    struct error dead_err;   /* why */
    struct buf scratch;      /* a frame on its way to the file */

    pthread_mutex_t state_lock; /* guards what follows */
    struct logstate durable;
    struct seglist list;
    pthread_mutex_t trim_lock; /* one trims at a time */
};

#endif
