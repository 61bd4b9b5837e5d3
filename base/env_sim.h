/*
 * base/env_sim.h - a machine in memory: files that forget at a power cut what
 * was not synced, a clock that stands still until it is moved, and randomness
 * from a seed.  For tests and simulated clusters: one env_sim an instance.
 *
 * What a power cut (env_sim_crash) leaves of
 *   - bytes written: everything that was there at the last good sync of the
 *     file; each 512-byte sector written since is old or new by itself, never
 *     half; of several unsynced writes to one sector any may be there;
 *   - the size of a file: that of the last sync, the newest, or one between
 *     (lost sectors in it read as zeros, bytes past it are gone);
 *   - names (open, mkdir, rename, unlink): those of the last env_syncdir() of
 *     their directory.  Later changes are kept or lost one by one, but never
 *     a later one without an earlier one of the same name or file; both halves
 *     of a rename stand or fall together, and syncing either directory makes
 *     both durable.  Syncing a file does not make its name durable;
 *   - locks and open files: nothing.  Each call on a file opened before answers
 *     EBADF; it must still be closed.
 * The seed of the crash decides; some seeds keep all or nothing.  What is on
 * the disk then is durable.  This is harsher than ext4 and XFS are, by intent.
 *
 * Paths begin at "/", which exists; relative ones do too; ".." is refused.
 * There are no permissions, no hard links, and no descriptors: env_fd() is -1.
 * Thread-safe.
 */
#ifndef POLLUX_BASE_ENV_SIM_H
#define POLLUX_BASE_ENV_SIM_H

#include "base/env.h"

struct env_sim;

#define ENV_SIM_SECTOR_BYTES 512
/* Space is counted in blocks of so many bytes. */
#define ENV_SIM_BLOCK_BYTES 4096
/* Longer files are refused with EFBIG. */
#define ENV_SIM_FILE_MAX (UINT64_C(1) << 34)

struct env_sim_options {
    uint64_t seed;       /* of env_random(), and of what writeback does */
    uint64_t wall_us;    /* when the simulation begins; 0: in 2026 */
    uint64_t disk_bytes; /* 0: no end */
};

/* OPTIONS may be NULL. */
struct env_sim *
env_sim_new(const struct env_sim_options *options);
/* All files opened in it must be closed. */
void
env_sim_free(struct env_sim **sim);
struct env *
env_sim_env(struct env_sim *sim);

/*
 * The same machine once more, as it stands, unsynced writes and all, without
 * the open files: so that many crashes can be tried on one history.
 */
struct env_sim *
env_sim_clone(struct env_sim *sim);

/* The power goes and comes back. */
void
env_sim_crash(struct env_sim *sim, uint64_t seed);
/*
 * From now until env_sim_crash() every call on files fails with EIO and changes
 * nothing: the code under test can unwind in order, and its last words do not
 * reach the disk.
 */
void
env_sim_halt(struct env_sim *sim);

/*
 * The next NTH-th (1: the very next) env_fdatasync() or env_fsync() fails with
 * SYS_ERRNO, and what it should have written is taken for clean and lost, as
 * Linux does: readers see it until the crash, a second sync succeeds and does
 * not save it, only writing it again does.  0 takes the order back.
 */
void
env_sim_fail_sync(struct env_sim *sim, unsigned nth, int sys_errno);

/*
 * Turn bit BIT (0 to 7) of the byte at OFFSET over, on the disk and for
 * readers. False if PATH is not a file of that length.
 */
MUST_CHECK bool
env_sim_flip_bit(struct env_sim *sim, const char *path, uint64_t offset,
                 unsigned bit);

/* Both clocks go on by US microseconds. */
void
env_sim_advance_us(struct env_sim *sim, uint64_t us);
/* The wall clock is set, backwards too; the monotonic one is not. */
void
env_sim_set_wall_us(struct env_sim *sim, uint64_t us);
/* 0: no end.  Less than is used now is fine: nothing more fits. */
void
env_sim_set_disk_bytes(struct env_sim *sim, uint64_t bytes);
uint64_t
env_sim_used_bytes(struct env_sim *sim);
/* Sectors, sizes and names that a crash could lose; 0: all is durable. */
size_t
env_sim_unsynced(struct env_sim *sim);

#endif
