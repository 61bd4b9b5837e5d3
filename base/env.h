/*
 * base/env.h - files, clocks and randomness, so that a test can put its own
 * under the product: one that fails the n-th call (base/env_fault.h), or one
 * that keeps files in memory and forgets what was not synced at a simulated
 * power cut (base/env_sim.h).  env_system() is the real machine.
 *
 * Sockets are not here: protocol code takes bytes, and net/ brings them.
 * RocksDB is not here either: it stands behind struct kv (store/kv.h).
 */
#ifndef POLLUX_BASE_ENV_H
#define POLLUX_BASE_ENV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/buf.h"

struct env;
struct envfile; /* one open file */

enum envopen {
    ENV_READ,   /* must exist */
    ENV_WRITE,  /* read and write, must exist */
    ENV_CREATE, /* read and write, made if absent */
    ENV_NEW,    /* read and write, must not exist: ERR_EXISTS */
    /* Read and write; PATH is a directory, the file in it has no name and is
     * gone when it is closed. */
    ENV_UNNAMED,
};

/* What an implementation provides; errors are negated errno values. */
struct env_ops {
    int (*open)(struct env *, const char *path, enum envopen how,
                struct envfile **ret);
    void (*close)(struct envfile *);
    /* Bytes read or written, which may be short; or -errno. */
    ssize_t (*pread)(struct envfile *, void *to, size_t n, uint64_t offset);
    ssize_t (*pwrite)(struct envfile *, const void *from, size_t n,
                      uint64_t offset);
    int (*fallocate)(struct envfile *, uint64_t offset, uint64_t n);
    int (*truncate)(struct envfile *, uint64_t size);
    int (*fdatasync)(struct envfile *);
    int (*fsync)(struct envfile *);
    int64_t (*size)(struct envfile *);
    int (*lock)(struct envfile *); /* exclusive, no waiting: -EWOULDBLOCK */
    int (*fd)(struct envfile *);   /* for mmap and sendfile; -1: has none */
    int (*rename)(struct env *, const char *from, const char *to);
    int (*unlink)(struct env *, const char *path);
    int (*mkdir)(struct env *, const char *path);
    int (*syncdir)(struct env *, const char *path);
    int (*exists)(struct env *, const char *path); /* 1, 0 or -errno */
    /* Names in PATH, each followed by NUL, unsorted, without . and .. */
    int (*list)(struct env *, const char *path, struct buf *ret_names);
    uint64_t (*mono_ns)(struct env *); /* never goes back; CLOCK_BOOTTIME */
    uint64_t (*wall_us)(struct env *); /* microseconds since 1970 */
    void (*random)(struct env *, void *to, size_t n);
};

/* An implementation puts this first in its own struct. */
struct env {
    const struct env_ops *ops;
};

/* The real machine.  Never freed. */
struct env *
env_system(void);

/*
 * The calls that everything uses.  Each fills ERR with what was tried on which
 * path.  Codes: ERR_IO, ERR_NOSPACE, ERR_NOTFOUND, ERR_EXISTS.
 */
MUST_CHECK enum errcode
env_open(struct env *env, const char *path, enum envopen how,
         struct envfile **ret, struct error *err);
/* NULL is fine; *F becomes NULL. */
void
env_close(struct envfile **f);
/* Exactly N bytes; ERR_GAP if the file ends before. */
MUST_CHECK enum errcode
env_pread(struct envfile *f, void *to, size_t n, uint64_t offset,
          struct error *err);
/* Up to N bytes; *RET_N is less only at the end of the file. */
MUST_CHECK enum errcode
env_pread_some(struct envfile *f, void *to, size_t n, uint64_t offset,
               size_t *ret_n, struct error *err);
/*
 * Move *OFFSET forward over a hole: bytes that were allocated or passed over,
 * never written, and read as zeros; as far as the file system knows of it, and
 * at most to the end of the file.  Not at all where it does not say.
 */
void
env_skip_hole(struct envfile *f, uint64_t *offset);
/* All N bytes. */
MUST_CHECK enum errcode
env_pwrite(struct envfile *f, const void *from, size_t n, uint64_t offset,
           struct error *err);
MUST_CHECK enum errcode
env_fallocate(struct envfile *f, uint64_t offset, uint64_t n,
              struct error *err);
MUST_CHECK enum errcode
env_truncate(struct envfile *f, uint64_t size, struct error *err);
/* Let the disk begin with what was written there: a sync will have less to wait
 * for.  Promises nothing, and does nothing where that is not known. */
void
env_start_writing(struct envfile *f, uint64_t offset, uint64_t n);
MUST_CHECK enum errcode
env_fdatasync(struct envfile *f, struct error *err);
MUST_CHECK enum errcode
env_fsync(struct envfile *f, struct error *err);
MUST_CHECK enum errcode
env_size(struct envfile *f, uint64_t *ret, struct error *err);
/* ERR_BUSY when somebody else holds it.  Held until closed. */
MUST_CHECK enum errcode
env_lock(struct envfile *f, struct error *err);
int
env_fd(struct envfile *f);
const char *
env_path(const struct envfile *f);
MUST_CHECK enum errcode
env_rename(struct env *env, const char *from, const char *to,
           struct error *err);
/* A file that is not there is fine. */
MUST_CHECK enum errcode
env_unlink(struct env *env, const char *path, struct error *err);
/*
 * With all parents; one that is there already is fine.  Mode 0700.  Those that
 * were made here are durable on return (their parents are synced).
 */
MUST_CHECK enum errcode
env_mkdirs(struct env *env, const char *path, struct error *err);
MUST_CHECK enum errcode
env_syncdir(struct env *env, const char *path, struct error *err);
/* Errors count as "is not there"; use env_open where that would be wrong. */
bool
env_exists(struct env *env, const char *path);
/* Errors count as "is there". */
bool
env_may_exist(struct env *env, const char *path);
/* Names in directory PATH, sorted, each with its NUL, added to RET_NAMES;
 * ERR_LIMIT past its maximum. */
MUST_CHECK enum errcode
env_list(struct env *env, const char *path, struct buf *ret_names,
         struct error *err);
/* The whole file, at most MAX bytes (ERR_LIMIT), added to RET. */
MUST_CHECK enum errcode
env_read_file(struct env *env, const char *path, size_t max, struct buf *ret,
              struct error *err);
/*
 * Replace the file PATH by CONTENT so that a crash leaves the old one or the
 * new one: temporary name, write, fsync, rename, directory sync.  On failure
 * the old one stands (after a failed directory sync: either).  A crash may
 * leave the temporary file, PATH ENV_TMP_MARK and 16 hex digits, behind; who
 * owns the directory may delete such names when it starts.
 */
#define ENV_TMP_MARK ".tmp-"
MUST_CHECK enum errcode
env_write_file_atomic(struct env *env, const char *path, struct span content,
                      struct error *err);
uint64_t
env_mono_ns(struct env *env);
uint64_t
env_wall_us(struct env *env);
void
env_random(struct env *env, void *to, size_t n);

#endif
