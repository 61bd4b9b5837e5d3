/*
 * base/env_fault.h - an env over another one, in which the n-th call fails.
 *
 * For tests: run the code once to count its calls, then once for every n with
 * that call failing, short, torn, or the last thing the process did.
 *
 *   struct env_fault *fault = env_fault_new(env_system());
 *   env_fault_add(fault, &(struct env_fault_rule){
 *       .kinds = FAULT_SYNC, .nth = n, .action = FAULT_FAIL, .sys_errno =
 * EIO});
 *   ... env_fault_env(fault) ...
 *
 * Clocks, randomness and close are passed through and not counted.  What goes
 * past the calls, by mmap of env_fd(), is not seen.  Thread-safe.
 */
#ifndef POLLUX_BASE_ENV_FAULT_H
#define POLLUX_BASE_ENV_FAULT_H

#include "base/env.h"

struct env_fault;

/* Kinds of calls, to be combined. */
enum env_fault_kind {
    FAULT_OPEN = 1 << 0, /* of a file that need not be made */
    FAULT_MAKE = 1 << 1, /* open that may make a file; mkdir */
    FAULT_READ = 1 << 2, /* and size, exists, list */
    FAULT_WRITE = 1 << 3,
    FAULT_FALLOCATE = 1 << 4,
    FAULT_TRUNCATE = 1 << 5,
    FAULT_SYNC = 1 << 6, /* fdatasync and fsync */
    FAULT_LOCK = 1 << 7,
    FAULT_RENAME = 1 << 8,
    FAULT_UNLINK = 1 << 9,
    FAULT_SYNCDIR = 1 << 10,
};

#define FAULT_ANY ((1U << 11) - 1)
/* What leaves traces on the disk, or should. */
#define FAULT_CHANGES                                                          \
    ((unsigned)(FAULT_MAKE | FAULT_WRITE | FAULT_FALLOCATE | FAULT_TRUNCATE |  \
                FAULT_SYNC | FAULT_RENAME | FAULT_UNLINK | FAULT_SYNCDIR))
/* What a full disk refuses. */
#define FAULT_GROWS ((unsigned)(FAULT_MAKE | FAULT_WRITE | FAULT_FALLOCATE))

enum env_fault_action {
    FAULT_FAIL,  /* nothing is done; sys_errno */
    FAULT_LATE,  /* done, but answered with sys_errno */
    FAULT_TORN,  /* half of a write is done, answered with sys_errno; other
                    calls as FAULT_FAIL */
    FAULT_SHORT, /* half of a read or write is done and said so; no effect on
                    other calls */
    FAULT_KILL,  /* half of a write is done, then _exit(FAULT_KILL_STATUS) */
    FAULT_HOOK,  /* hook() is called first, without locks; what it answers, if
                    not 0, is the call's -errno and nothing is done */
};

#define FAULT_KILL_STATUS 86

struct env_fault_rule {
    unsigned kinds;        /* mask of enum env_fault_kind */
    const char *path_part; /* only paths that contain this; NULL: all.  Not
                              copied */
    uint64_t nth;          /* of the calls that match, from 1 since added */
    bool from_then_on;     /* all after it too, until env_fault_clear() */
    enum env_fault_action action;
    int sys_errno; /* positive */
    int (*hook)(void *ctx, enum env_fault_kind kind, const char *path);
    void *hook_ctx;
};

/* BELOW must outlive it. */
struct env_fault *
env_fault_new(struct env *below);
/* All files opened through it must be closed. */
void
env_fault_free(struct env_fault **fault);
struct env *
env_fault_env(struct env_fault *fault);

#define FAULT_RULES_MAX 8

/* Copied.  Of several rules that would act on a call the one added first does;
 * all count it. */
void
env_fault_add(struct env_fault *fault, const struct env_fault_rule *rule);
/* Forget all rules: the disk has room again.  Counters stay. */
void
env_fault_clear(struct env_fault *fault);
/* How many calls of KINDS were made since env_fault_new(). */
uint64_t
env_fault_calls(struct env_fault *fault, unsigned kinds);
/* How many calls a rule acted on. */
uint64_t
env_fault_hits(struct env_fault *fault);

#endif
